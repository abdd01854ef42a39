{{- /* Names are fixed: CRDs, admission policies and cluster roles are one set for a cluster, so there is one release of it. */ -}}

{{- define "dsg.labels" -}}
app.kubernetes.io/name: dsg
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "dsg.selector" -}}
app.kubernetes.io/name: dsg
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "dsg.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest -}}
{{ printf "%s:%s@%s" .Values.image.repository $tag .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository $tag }}
{{- end -}}
{{- end }}

{{- /* Objects that have no parameter but the namespace: one source for them and for kustomize. */ -}}
{{- define "dsg.fixed" -}}
{{- $root := .root -}}
{{- range $document := splitList "\n---\n" (printf "\n%s" (.text | trimPrefix "---\n")) }}
{{- $object := fromYaml $document }}
{{- if $object.Error }}{{ fail (printf "a file of the chart is no YAML: %s" $object.Error) }}{{ end }}
{{- if $object }}
{{- $_ := set $object.metadata "labels" (merge (dict) ($object.metadata.labels | default dict) (include "dsg.labels" $root | fromYaml)) }}
{{- if eq $object.kind "CustomResourceDefinition" }}
{{- $_ := set $object.metadata "annotations" (merge (dict "helm.sh/resource-policy" "keep") ($object.metadata.annotations | default dict)) }}
{{- end }}
{{- if $object.metadata.namespace }}{{ $_ := set $object.metadata "namespace" $root.Release.Namespace }}{{ end }}
{{- range $subject := $object.subjects }}
{{- if $subject.namespace }}{{ $_ := set $subject "namespace" $root.Release.Namespace }}{{ end }}
{{- end }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
{{- end }}
