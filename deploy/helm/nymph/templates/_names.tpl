{{- define "nymph.name" -}}
{{- printf "%s" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "nymph.selector" -}}
app.kubernetes.io/name: nymph
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nymph.labels" -}}
{{ include "nymph.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "nymph.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
