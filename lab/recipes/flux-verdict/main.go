// Prints what Flux makes of objects: what kstatus computes, as Flux uses it for `wait: true` and health checks, and what the CEL
// expressions of spec.healthCheckExprs come to, in Flux's own evaluator.
//
// Input, JSON on stdin: {"expressions": [{"apiVersion", "kind", "current", "failed", "inProgress"}, …], "objects": [{…}, …]}.
// Output, JSON on stdout: for each object, in order, {"kstatus", "message", "expressions"}; the last is empty where no
// expression is given for the kind.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type request struct {
	Expressions []kustomize.CustomHealthCheck `json:"expressions"`
	Objects     []unstructured.Unstructured   `json:"objects"`
}

type verdict struct {
	Kstatus     status.Status `json:"kstatus"`
	Message     string        `json:"message"`
	Expressions status.Status `json:"expressions,omitempty"`
}

func run() error {
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	var given request
	if err := decoder.Decode(&given); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	evaluators := map[[2]string]*cel.StatusEvaluator{}
	for _, check := range given.Expressions {
		evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
		if err != nil {
			return fmt.Errorf("expressions of %s: %w", check.Kind, err)
		}
		evaluators[[2]string{check.APIVersion, check.Kind}] = evaluator
	}
	verdicts := make([]verdict, 0, len(given.Objects))
	for number := range given.Objects {
		object := &given.Objects[number]
		computed, err := status.Compute(object)
		if err != nil {
			return fmt.Errorf("%s %s: kstatus: %w", object.GetKind(), object.GetName(), err)
		}
		found := verdict{Kstatus: computed.Status, Message: computed.Message}
		if evaluator := evaluators[[2]string{object.GetAPIVersion(), object.GetKind()}]; evaluator != nil {
			evaluated, err := evaluator.Evaluate(context.Background(), object)
			if err != nil {
				return fmt.Errorf("%s %s: expressions: %w", object.GetKind(), object.GetName(), err)
			}
			found.Expressions = evaluated.Status
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
