{{- define "ventus.controlPlane.env" -}}
{{- $values := .Values.controlPlane }}
- name: VENTUS_HUB_LISTEN
  value: 0.0.0.0:8081
- name: VENTUS_PUBLIC_URL
  value: {{ include "ventus.publicUrl" . | quote }}
- name: VENTUS_REGION
  value: {{ include "ventus.defaultRegion" . }}
- name: VENTUS_CONNECTIONS_PER_ADDRESS
  value: "0"
- name: VENTUS_RATE_LIMIT_PER_MINUTE
  value: {{ int $values.rateLimitPerMinute | quote }}
- name: VENTUS_RETAIN_SESSIONS_DAYS
  value: {{ int $values.retainSessionsDays | quote }}
- name: VENTUS_RETAIN_AUDIT_DAYS
  value: {{ int $values.retainAuditDays | quote }}
- name: VENTUS_MASTER_KEY
  valueFrom:
    secretKeyRef: {name: {{ include "ventus.secret" . }}, key: master-key}
- name: VENTUS_JOIN_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ include "ventus.secret" . }}, key: join-token}
{{- if not .Values.test.existingSecret }}
- name: VENTUS_FIRST_API_KEY
  valueFrom:
    secretKeyRef: {name: {{ include "ventus.secret" . }}, key: api-key, optional: true}
{{- end }}
{{- if include "ventus.postgresql" . }}
- name: POSTGRESQL_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ include "ventus.secret" . }}, key: postgresql-password}
- name: VENTUS_DATABASE_URL
  value: postgres://ventus:$(POSTGRESQL_PASSWORD)@{{ include "ventus.postgresql.name" . }}/ventus
{{- else }}
- name: VENTUS_DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: {{ .Values.database.key }}}
{{- end }}
{{- if include "ventus.podDeletionCost" . }}
- name: VENTUS_POD_DELETION_COST
  value: "true"
{{- end }}
{{- with $values.ownerEmail }}
- name: VENTUS_OWNER_EMAIL
  value: {{ . | quote }}
{{- end }}
{{- with $values.trustedProxies }}
- name: VENTUS_TRUSTED_PROXIES
  value: {{ join "," . | quote }}
{{- end }}
{{- with $values.objectStore }}
- name: VENTUS_OBJECT_STORE
  value: {{ . | quote }}
{{- end }}
{{- with $values.mail.smtpUrl }}
- name: VENTUS_SMTP_URL
  value: {{ . | quote }}
- name: VENTUS_MAIL_FROM
  value: {{ required "controlPlane.mail.from: mails need a sender" $values.mail.from | quote }}
{{- end }}
{{- with $values.mail.existingSecret }}
- name: VENTUS_SMTP_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: password}
{{- end }}
{{- if .Values.hub.tls.existingSecret }}
- name: VENTUS_HUB_TLS_CERT
  value: /etc/ventus/hub-tls/tls.crt
- name: VENTUS_HUB_TLS_KEY
  value: /etc/ventus/hub-tls/tls.key
{{- end }}
{{- if .Values.hub.tls.clientCaSecret }}
- name: VENTUS_HUB_CLIENT_CA
  value: /etc/ventus/hub-client-ca/ca.crt
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
