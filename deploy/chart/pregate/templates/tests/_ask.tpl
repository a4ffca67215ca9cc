{{/* Secrets of the pods of `helm test`. */}}
{{- define "pregate.test.volumes" -}}
{{- with .Values.auth.existingSecret }}
- name: tokens
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- if and .Values.tls.enabled .Values.tests.caKey }}
- name: ca
  secret:
    secretName: {{ include "pregate.tls.secret" . }}
    defaultMode: 0440
    items:
      - key: {{ .Values.tests.caKey }}
        path: {{ .Values.tests.caKey }}
{{- end }}
{{- with .Values.tests.clientCertificateSecret }}
- name: client
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{- define "pregate.test.volumeMounts" -}}
{{- range include "pregate.test.volumes" . | fromYamlArray }}
- name: {{ .name }}
  mountPath: /etc/pregate/{{ .name }}
  readOnly: true
{{- end }}
{{- end -}}
