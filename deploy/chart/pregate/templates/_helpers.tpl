{{/* Names, labels and the models of the release. Templates for one model take a dict of `root` (the
     chart's own context) and `model` (an entry of pregate.models). */}}

{{- define "pregate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pregate.serviceAccountName" -}}
{{- default (ternary (include "pregate.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "pregate.releaseSelector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "pregate.releaseLabels" -}}
{{ include "pregate.releaseSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* REPOSITORY@DIGEST, or REPOSITORY:TAG. Takes a dict of `image` and `tag`, the default. */}}
{{- define "pregate.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The server's image: of a model that reserves GPUs, its CUDA variant. */}}
{{- define "pregate.model.image" -}}
{{- $image := .root.Values.image -}}
{{- $tag := default .root.Chart.AppVersion $image.tag -}}
{{- if gt (int .model.gpu.count) 0 -}}
{{- $cuda := merge (dict) $image.cuda -}}
{{- $_ := set $cuda "repository" (default $image.repository $cuda.repository) -}}
{{- include "pregate.image" (dict "image" $cuda "tag" (printf "%s-cuda" $tag)) -}}
{{- else -}}
{{- include "pregate.image" (dict "image" $image "tag" $tag) -}}
{{- end -}}
{{- end -}}

{{/* {models: [...]}: each entry of .Values.models over .Values.defaults, found sound. */}}
{{- define "pregate.models" -}}
{{- include "pregate.validateRelease" . -}}
{{- $models := list -}}
{{- range .Values.models -}}
{{- $model := mergeOverwrite (deepCopy $.Values.defaults) (deepCopy .) -}}
{{- include "pregate.validateModel" (dict "root" $ "model" $model) -}}
{{- $models = append $models $model -}}
{{- end -}}
{{- include "pregate.validateHosts" $models -}}
{{- dict "models" $models | toJson -}}
{{- end -}}

{{- define "pregate.model.fullname" -}}
{{- printf "%s-%s" (include "pregate.fullname" .root) .model.name -}}
{{- end -}}

{{- define "pregate.model.selector" -}}
{{ include "pregate.releaseSelector" .root }}
app.kubernetes.io/component: server
pregate/model: {{ .model.name | quote }}
{{- end -}}

{{- define "pregate.model.labels" -}}
{{ include "pregate.releaseLabels" .root }}
app.kubernetes.io/component: server
pregate/model: {{ .model.name | quote }}
{{- end -}}

{{/* More than one server, now or later. */}}
{{- define "pregate.model.isReplicated" -}}
{{- if .model.autoscaling.type -}}
{{- if gt (int .model.autoscaling.maxReplicas) 1 -}}true{{- end -}}
{{- else if gt (int .model.replicas) 1 -}}true{{- end -}}
{{- end -}}

{{/* terminationGracePeriodSeconds: the longest that the server takes, and ten seconds to flush. */}}
{{- define "pregate.model.computedGrace" -}}
{{- with .model.termination -}}
{{- add (int .preStopSleepSeconds) (int .shutdownDelaySeconds) (int .drainTimeoutSeconds) 10 -}}
{{- end -}}
{{- end -}}

{{- define "pregate.tls.secret" -}}
{{- default (printf "%s-tls" (include "pregate.fullname" .)) .Values.tls.existingSecret -}}
{{- end -}}
