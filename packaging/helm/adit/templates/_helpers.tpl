{{- define "adit.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "adit.labels" -}}
app.kubernetes.io/name: adit
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "adit.selector" -}}
app.kubernetes.io/name: adit
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "adit.secret" -}}
{{- default (printf "%s-authtoken" (include "adit.name" .)) .Values.authtoken.existingSecret -}}
{{- end -}}

{{- define "adit.checked" -}}
{{- if not .Values.config.agent.connect_url -}}
{{- fail "config.agent.connect_url is empty: where the network listens for agents, as connect.vendor.example:8443" -}}
{{- end -}}
{{- if not .Values.config.endpoints -}}
{{- fail "config.endpoints is empty: name at least one endpoint" -}}
{{- end -}}
{{- if .Values.config.agent.authtoken -}}
{{- fail "config.agent.authtoken would be in a ConfigMap, which everybody in the namespace may read: use authtoken.existingSecret" -}}
{{- end -}}
{{- if and (not .Values.authtoken.existingSecret) (not .Values.authtoken.value) -}}
{{- fail "no authtoken: make a Secret (kubectl create secret generic adit --from-file=authtoken=FILE) and name it in authtoken.existingSecret" -}}
{{- end -}}
{{- end -}}
