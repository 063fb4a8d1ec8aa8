{{- define "fairlead.name" -}}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{- end -}}
{{- define "fairlead.selector" -}}
app.kubernetes.io/name: fairlead-control
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "fairlead.labels" -}}
{{ include "fairlead.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: fairlead
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
{{- define "fairlead.configMap" -}}{{ .Values.controllerConfigMap | default "ingress-nginx/ingress-nginx-controller" }}{{- end -}}
