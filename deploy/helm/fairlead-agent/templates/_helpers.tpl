{{- define "fairlead.name" -}}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{- end -}}
{{- define "fairlead.selector" -}}
app.kubernetes.io/name: fairlead-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "fairlead.labels" -}}
{{ include "fairlead.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: fairlead
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
{{- define "fairlead.env" -}}
- name: FAIRLEAD_NODE
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: KUBERNETES_SERVICE_HOST
  value: {{ required "apiServer.host is needed: what kubelets dial, never a ClusterIP" .Values.apiServer.host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .Values.apiServer.port | quote }}
- name: FAIRLEAD_BACKEND
  value: {{ .Values.backend | quote }}
{{- with .Values.clusterCidrs }}
- name: FAIRLEAD_CLUSTER_CIDR
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.serviceCidrs }}
- name: FAIRLEAD_SERVICE_CIDR
  value: {{ join "," . | quote }}
{{- end }}
{{- if .Values.masqueradeAll }}
- name: FAIRLEAD_MASQUERADE_ALL
  value: "true"
{{- end }}
{{- with .Values.nodePortAddresses }}
- name: FAIRLEAD_NODEPORT_ADDRESSES
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.tcpServices }}
- name: FAIRLEAD_TCP_SERVICES
  value: {{ . | quote }}
{{- end }}
{{- with .Values.udpServices }}
- name: FAIRLEAD_UDP_SERVICES
  value: {{ . | quote }}
{{- end }}
{{- if .Values.outboundPolicy }}
- name: FAIRLEAD_OUTBOUND_POLICY
  value: /etc/fairlead/outbound.yaml
{{- else if .Values.nonMasqueradeCidrs }}
- name: FAIRLEAD_NON_MASQUERADE_CIDRS
  value: {{ join "," .Values.nonMasqueradeCidrs | quote }}
{{- end }}
{{- if .Values.hostPorts }}
- name: FAIRLEAD_HOST_PORTS
  value: "true"
{{- end }}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}
