{{/* Takes root, pool and advertise. */}}
{{- define "ventus.agent.env" -}}
{{- $pool := .pool }}
{{- $hub := .root.Values.hub }}
- name: POD_IP
  valueFrom:
    fieldRef: {fieldPath: status.podIP}
- name: VENTUS_CONTROL_PLANE
  value: {{ include "ventus.hubUrl" .root | quote }}
- name: VENTUS_JOIN_TOKEN_FILE
  value: /etc/ventus/join/token
- name: VENTUS_REGION
  value: {{ $pool.region }}
- name: VENTUS_ADVERTISE
  value: {{ .advertise | quote }}
- name: VENTUS_PEER_URL
  value: ws://$(POD_IP):8080
{{- if include "ventus.podDeletionCost" .root }}
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
- name: POD_UID
  valueFrom:
    fieldRef: {fieldPath: metadata.uid}
- name: VENTUS_POD
  value: $(POD_NAME)/$(POD_UID)
{{- end }}
{{- if $pool.capacity }}
- name: VENTUS_CAPACITY
  value: {{ int $pool.capacity | quote }}
{{- end }}
- name: VENTUS_WARM
  value: {{ int $pool.warm | quote }}
- name: VENTUS_DRAIN_SECONDS
  value: {{ int $pool.drainSeconds | quote }}
{{- if not $pool.seccomp.localhostProfile }}
# RuntimeDefault lets nobody make a user namespace.
- name: VENTUS_NO_SANDBOX
  value: "true"
{{- end }}
- name: VENTUS_CONNECTIONS_PER_ADDRESS
  value: {{ int $pool.connectionsPerAddress | quote }}
{{- with $pool.egress.allow }}
- name: VENTUS_EGRESS_ALLOW
  value: {{ join "," . | quote }}
{{- end }}
{{- with $pool.egress.deny }}
- name: VENTUS_EGRESS_DENY
  value: {{ join "," . | quote }}
{{- end }}
{{- with $pool.allowedOrigins }}
- name: VENTUS_ALLOWED_ORIGINS
  value: {{ join "," . | quote }}
{{- end }}
{{- range $name, $variable := dict "memoryMb" "MEMORY_MB" "processes" "PROCESSES" "cpuPercent" "CPU_PERCENT" "diskMb" "DISK_MB" "bandwidthMbit" "BANDWIDTH_MBIT" }}
{{- if hasKey $pool.sessionLimits $name }}
- name: VENTUS_SESSION_{{ $variable }}
  value: {{ int (get $pool.sessionLimits $name) | quote }}
{{- end }}
{{- end }}
{{- if $hub.tls.caSecret }}
- name: VENTUS_CONTROL_PLANE_CA
  value: /etc/ventus/hub-ca/ca.crt
{{- end }}
{{- if $hub.tls.clientSecret }}
- name: VENTUS_TLS_CERT
  value: /etc/ventus/hub-client-tls/tls.crt
- name: VENTUS_TLS_KEY
  value: /etc/ventus/hub-client-tls/tls.key
{{- end }}
{{- with $pool.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
