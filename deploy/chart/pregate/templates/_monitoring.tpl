{{/* An endpoint of a ServiceMonitor or a PodMonitor: a dict of `root` and `monitor`. Rules and dashboards
     count by namespace, `job` and `model`: the job is the release, or two that serve one model in a
     namespace were one. */}}
{{- define "pregate.scrape" -}}
port: metrics
path: /metrics
interval: {{ .monitor.interval }}
scrapeTimeout: {{ .monitor.scrapeTimeout }}
relabelings:
  - targetLabel: job
    replacement: {{ include "pregate.fullname" .root | quote }}
  - sourceLabels: [__meta_kubernetes_pod_label_pregate_model]
    targetLabel: model
  {{- with .monitor.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
