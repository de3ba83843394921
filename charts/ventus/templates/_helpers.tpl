{{/* Names, labels and addresses. */}}

{{- define "ventus.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 30 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 30 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ventus.labels" -}}
{{ include "ventus.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* What all objects of a release share; a component adds its own. */}}
{{- define "ventus.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ventus.controlPlane.selector" -}}
{{ include "ventus.selector" . }}
app.kubernetes.io/component: control-plane
{{- end -}}

{{- define "ventus.agents.selector" -}}
{{ include "ventus.selector" . }}
app.kubernetes.io/component: agent
{{- end -}}

{{- define "ventus.test.selector" -}}
{{ include "ventus.selector" . }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "ventus.controlPlane.name" -}}
{{ include "ventus.fullname" . }}-control-plane
{{- end -}}

{{- define "ventus.controlPlane.serviceAccount" -}}
{{ default (include "ventus.controlPlane.name" .) .Values.controlPlane.serviceAccount.name }}
{{- end -}}

{{- define "ventus.agents.serviceAccount" -}}
{{ include "ventus.fullname" . }}-agents
{{- end -}}

{{- define "ventus.region.service" -}}
{{ include "ventus.fullname" .root }}-region-{{ .region }}
{{- end -}}

{{/* "true" where scale-down is told which agents are idle. */}}
{{- define "ventus.podDeletionCost" -}}
{{- if and .Values.controlPlane.enabled .Values.controlPlane.podDeletionCost -}}true{{- end -}}
{{- end -}}

{{/* An image's reference. Takes root and image. */}}
{{- define "ventus.image" -}}
{{- $repository := .image.repository -}}
{{- with .root.Values.image.registry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository -}}
{{- end -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{/* The Secret with the keys, and that of the tests. */}}
{{- define "ventus.secret" -}}
{{ default (include "ventus.fullname" .) .Values.secrets.existingSecret }}
{{- end -}}

{{- define "ventus.test.secret" -}}
{{ default (include "ventus.secret" .) .Values.test.existingSecret }}
{{- end -}}

{{/* "true" where the bundled PostgreSQL is. */}}
{{- define "ventus.postgresql" -}}
{{- if and .Values.controlPlane.enabled (not .Values.database.existingSecret) -}}true{{- end -}}
{{- end -}}

{{- define "ventus.postgresql.name" -}}
{{ include "ventus.fullname" . }}-postgresql
{{- end -}}

{{- define "ventus.postgresql.selector" -}}
{{ include "ventus.selector" . }}
app.kubernetes.io/component: postgresql
{{- end -}}

{{/* Where the API is within the cluster, and for clients. */}}
{{- define "ventus.internalUrl" -}}
http://{{ include "ventus.controlPlane.name" . }}.{{ .Release.Namespace }}.svc:8080
{{- end -}}

{{- define "ventus.publicUrl" -}}
{{- if .Values.controlPlane.publicUrl -}}
{{ .Values.controlPlane.publicUrl }}
{{- else if and .Values.ingress.enabled .Values.ingress.host -}}
{{ ternary "https" "http" .Values.ingress.tls }}://{{ .Values.ingress.host }}
{{- else if and .Values.gateway.enabled .Values.gateway.host -}}
{{ ternary "https" "http" .Values.gateway.tls }}://{{ .Values.gateway.host }}
{{- else -}}
{{ include "ventus.internalUrl" . }}
{{- end -}}
{{- end -}}

{{/* Where agents dial. */}}
{{- define "ventus.hubUrl" -}}
{{- if .Values.controlPlane.enabled -}}
{{ ternary "https" "http" (not (empty .Values.hub.tls.existingSecret)) }}://{{ include "ventus.controlPlane.name" . }}-hub.{{ .Release.Namespace }}.svc:8081
{{- else -}}
{{ .Values.hub.url }}
{{- end -}}
{{- end -}}

{{/* What every pod and container is allowed: the restricted Pod Security profile. */}}
{{- define "ventus.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "ventus.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "ventus.probes" -}}
# The process answers: nothing else is a reason to start it anew.
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
startupProbe:
  httpGet: {path: /startupz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 90
{{- end -}}

{{/* Variables that both halves have. */}}
{{- define "ventus.commonEnv" -}}
- name: VENTUS_LISTEN
  value: 0.0.0.0:8080
- name: VENTUS_ADMIN_LISTEN
  value: 0.0.0.0:9464
- name: VENTUS_DATA_DIR
  value: /data
- name: VENTUS_LOG
  value: {{ .Values.log.filter | quote }}
- name: VENTUS_LOG_FORMAT
  value: {{ .Values.log.format }}
{{- with .Values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Where pods of a half are to be. Takes its values. */}}
{{- define "ventus.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Evenly over nodes and zones, as far as there are any. Takes a selector. */}}
{{- define "ventus.spread" -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "ventus.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* An egress rule of everybody: names. */}}
{{- define "ventus.dnsEgress" -}}
- to:
    {{- toYaml .Values.networkPolicy.dnsTo | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* An ingress rule of everybody: metrics. */}}
{{- define "ventus.metricsIngress" -}}
{{- with .Values.networkPolicy.metricsFrom }}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    - {port: admin, protocol: TCP}
{{- end }}
{{- end -}}
