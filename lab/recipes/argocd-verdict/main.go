// Prints what Argo CD itself makes of objects: health, the list of actions and what each action does, with the customizations of
// an argocd-cm ConfigMap, read by Argo CD's own settings and run by its own Lua machine.
//
// Input, JSON on stdin: {"configMap": {…}, "objects": [{…}, …]}. Output, JSON on stdout: one entry for each object, in order:
// {"health": {"status", "message"}, "actions": [{"name", "disabled", …}], "results": {"suspend": {…}, …}}.
// Time stands in what the action `reconcile` gives.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/argoproj/gitops-engine/pkg/health"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/argoproj/argo-cd/v3/common"
	appv1 "github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/argo-cd/v3/util/settings"
)

const namespace = "argocd"

type request struct {
	ConfigMap corev1.ConfigMap            `json:"configMap"`
	Objects   []unstructured.Unstructured `json:"objects"`
}

type verdict struct {
	Health  *health.HealthStatus       `json:"health"`
	Actions []appv1.ResourceAction     `json:"actions"`
	Results map[string]json.RawMessage `json:"results"`
}

func overrides(ctx context.Context, given corev1.ConfigMap) (map[string]appv1.ResourceOverride, error) {
	labels := map[string]string{"app.kubernetes.io/part-of": "argocd"}
	given.ObjectMeta = metav1.ObjectMeta{Name: common.ArgoCDConfigMapName, Namespace: namespace, Labels: labels}
	secret := corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: common.ArgoCDSecretName, Namespace: namespace, Labels: labels},
	}
	return settings.NewSettingsManager(ctx, fake.NewClientset(&given, &secret), namespace).GetResourceOverrides()
}

func judge(scripts map[string]appv1.ResourceOverride, object *unstructured.Unstructured) (verdict, error) {
	result := verdict{Results: map[string]json.RawMessage{}}
	var err error
	// The whole of it, with what Argo CD says of objects that are being deleted before it asks any script.
	if result.Health, err = health.GetResourceHealth(object, lua.ResourceHealthOverrides(scripts)); err != nil {
		return result, err
	}
	machine := lua.VM{ResourceOverrides: scripts}
	discovery, err := machine.GetResourceActionDiscovery(object)
	if err != nil {
		return result, err
	}
	if len(discovery) == 0 {
		return result, nil
	}
	if result.Actions, err = machine.ExecuteResourceActionDiscovery(object, discovery); err != nil {
		return result, err
	}
	for _, action := range result.Actions {
		definition, err := machine.GetResourceAction(object, action.Name)
		if err != nil {
			return result, err
		}
		impacted, err := machine.ExecuteResourceAction(object, definition.ActionLua, nil)
		if err != nil {
			return result, err
		}
		if len(impacted) != 1 || impacted[0].K8SOperation != lua.PatchOperation {
			return result, fmt.Errorf("action %s does something else than patch the object", action.Name)
		}
		if result.Results[action.Name], err = json.Marshal(impacted[0].UnstructuredObj); err != nil {
			return result, err
		}
	}
	return result, nil
}

func run() error {
	var given request
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	scripts, err := overrides(context.Background(), given.ConfigMap)
	if err != nil {
		return fmt.Errorf("ConfigMap: %w", err)
	}
	verdicts := make([]verdict, 0, len(given.Objects))
	for number := range given.Objects {
		object := &given.Objects[number]
		found, err := judge(scripts, object)
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		verdicts = append(verdicts, found)
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
