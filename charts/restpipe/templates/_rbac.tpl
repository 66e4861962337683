{{/*
What COMPONENT may do to the objects that users have, in all namespaces or in
watchNamespaces: {root, component, account, rules, annotations?}.
*/}}
{{- define "restpipe.scopedRole" -}}
{{- $full := include "restpipe.fullname" .root -}}
{{- $cluster := not .root.Values.watchNamespaces -}}
{{- $name := ternary (printf "%s-%s" $full .component) (printf "%s-%s-watched" $full .component) $cluster -}}
{{- $kind := ternary "ClusterRole" "Role" $cluster -}}
{{- $scope := . -}}
{{- range $namespace := ternary (list "") .root.Values.watchNamespaces $cluster }}
{{- include "restpipe.role" (dict "root" $scope.root "component" $scope.component "account" $scope.account "rules" $scope.rules "annotations" $scope.annotations "kind" $kind "name" $name "namespace" $namespace) }}
{{- end }}
{{- end }}

{{/*
A role and its binding: {root, component, account, rules, kind: ClusterRole or
Role, name, namespace of a Role, annotations?}.
*/}}
{{- define "restpipe.role" -}}
{{- $scope := . -}}
{{- range $suffix := list "" "Binding" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $scope.kind }}{{ $suffix }}
metadata:
  name: {{ $scope.name }}
  {{- with $scope.namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels:
    {{- include "restpipe.labels" $scope | nindent 4 }}
  {{- with $scope.annotations }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
{{- if $suffix }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $scope.kind }}
  name: {{ $scope.name }}
subjects:
  - kind: ServiceAccount
    name: {{ $scope.account | quote }}
    namespace: {{ $scope.root.Release.Namespace | quote }}
{{- else }}
rules:
  {{- $scope.rules | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
