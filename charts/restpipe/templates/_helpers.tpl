{{/* The chart's name, for labels. */}}
{{- define "restpipe.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/*
What all names begin with. 40 characters leave room for the longest suffix in a
Service's 63; a release's name may have dots and begin with a digit, a Service's
may not before Kubernetes 1.36.
*/}}
{{- define "restpipe.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if .Values.fullnameOverride -}}
{{- $full = .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- $full = .Release.Name -}}
{{- end -}}
{{- if regexMatch "^[0-9]" $full -}}
{{- $full = printf "%s-%s" .Chart.Name $full -}}
{{- end -}}
{{- $full | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/*
Labels by which pods are selected: {root, component}. They can never change.
Quoted, as names that somebody chooses are: YAML takes 2024 for a number.
*/}}
{{- define "restpipe.selectorLabels" -}}
app.kubernetes.io/name: {{ include "restpipe.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* All labels: {root, component}. */}}
{{- define "restpipe.labels" -}}
{{- with .root.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
{{ include "restpipe.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: restpipe
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name and labels of an object: {root, component}, suffix if the name ends in another one. */}}
{{- define "restpipe.metadata" -}}
name: {{ include "restpipe.fullname" .root }}-{{ .suffix | default .component }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "restpipe.labels" . | nindent 2 }}
{{- end }}

{{/* The ServiceAccount of controller or webhook: {root, component}. */}}
{{- define "restpipe.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if and (not $account.create) (not $account.name) -}}
{{- fail (printf "%s.serviceAccount.name says no account and %s.serviceAccount.create is false: set one of them" .component .component) -}}
{{- end -}}
{{- $account.name | default (printf "%s-%s" (include "restpipe.fullname" .root) .component) -}}
{{- end }}

{{/* An image's reference: {root, image}. The sidecar's registry is the operator's unless said. */}}
{{- define "restpipe.image" -}}
{{- $registry := .image.registry | default .root.Values.image.registry -}}
{{- with $registry }}{{ . }}/{{ end }}{{ .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end }}

{{/* A quantity as text: of a number in a values file Helm would make 1.34e+08. */}}
{{- define "restpipe.quantity" -}}
{{ kindIs "string" . | ternary . (int64 .) }}
{{- end }}

{{/* Bytes of a quantity of memory, whose form the schema has seen to. */}}
{{- define "restpipe.bytes" -}}
{{- $text := include "restpipe.quantity" . -}}
{{- $number := regexFind "^[0-9.]+" $text -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 -}}
{{ mulf $number (get $units (trimPrefix $number $text)) }}
{{- end }}

{{/* What the webhook is told of a sidecar's resources. What it would refuse at its start is refused here. */}}
{{- define "restpipe.sidecarResources" -}}
{{- $request := include "restpipe.quantity" .memoryRequest -}}
{{- $limit := include "restpipe.quantity" .memoryLimit -}}
{{- $requested := include "restpipe.bytes" .memoryRequest | float64 -}}
{{- $allowed := include "restpipe.bytes" .memoryLimit | float64 -}}
{{- if lt $requested 1048576.0 -}}
{{- fail (printf "sidecar.memoryRequest is %s: give at least 1Mi" $request) -}}
{{- end -}}
{{- if lt $allowed 16777216.0 -}}
{{- fail (printf "sidecar.memoryLimit is %s, with which no sidecar starts: give at least 16Mi" $limit) -}}
{{- end -}}
{{- if gt $requested $allowed -}}
{{- fail (printf "sidecar.memoryRequest is %s and sidecar.memoryLimit is %s: lower the one or raise the other" $request $limit) -}}
{{- end -}}
- --cpu-request={{ include "restpipe.quantity" .cpuRequest }}
- --memory-request={{ $request }}
- --memory-limit={{ $limit }}
{{- end }}

{{/* Namespaces whose pods get no sidecar, beside kube-*: a YAML list. */}}
{{- define "restpipe.leftOut" -}}
{{- concat (list "kube-system" "kube-public" "kube-node-lease" .Release.Namespace) .Values.webhook.excludeNamespaces | uniq | toYaml -}}
{{- end }}

{{/* The restricted profile of the Pod Security Standards, for a pod. */}}
{{- define "restpipe.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The same for a container. */}}
{{- define "restpipe.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Where pods run, and what they may pull: root. */}}
{{- define "restpipe.scheduling" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* topologySpreadConstraints: {root, component}. */}}
{{- define "restpipe.topologySpread" -}}
{{- with (index .root.Values .component).topologySpreadConstraints -}}
{{- toYaml . }}
{{- else -}}
{{- $selector := include "restpipe.selectorLabels" . -}}
{{- range $index, $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
{{- if $index }}
{{ end -}}
- topologyKey: {{ $key }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- $selector | nindent 6 }}
  # Of this version only: the one that it replaces does not count.
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end }}

{{/* Probes on the port admin. The live one waits long: to be killed helps nobody who is slow. */}}
{{- define "restpipe.probes" -}}
startupProbe:
  httpGet: {path: /live, port: admin}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /live, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /ready, port: admin}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}
