{{/* The parts of a model's pod. All take the dict of `root` and `model`. */}}

{{/* Where the model's volume is mounted; a source of the kind `path` has none. */}}
{{- define "pregate.model.folder" -}}/models{{- end -}}

{{/* MODEL of the command line. */}}
{{- define "pregate.model.path" -}}
{{- $folder := include "pregate.model.folder" . -}}
{{- with .model.source -}}
{{- if .path -}}
{{- .path -}}
{{- else if .download -}}
{{- $first := first .download.files -}}
{{- $only := ternary (include "pregate.download.path" $first) "" (eq (len .download.files) 1) -}}
{{- clean (printf "%s/%s" $folder (default $only .download.model)) -}}
{{- else -}}
{{- clean (printf "%s/%s" $folder (default "" (default .image .existingClaim).path)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where a file of a download goes: its path, else the last part of its URL. */}}
{{- define "pregate.download.path" -}}
{{- default (regexReplaceAll "[?#].*$" .url "" | base) .path -}}
{{- end -}}

{{- define "pregate.model.args" -}}
{{- $termination := .model.termination -}}
{{- $values := .root.Values -}}
- serve
- {{ include "pregate.model.path" . | quote }}
- --host=0.0.0.0
- --port=8000
- --grpc-port=8001
- --metrics-port=8002
- --health-port=8003
- --shutdown-delay={{ int $termination.shutdownDelaySeconds }}s
- --drain-timeout={{ int $termination.drainTimeoutSeconds }}s
{{- if $values.auth.existingSecret }}
- {{ printf "--api-key-file=/etc/pregate/tokens/%s" $values.auth.key | quote }}
{{- end }}
{{- if $values.tls.enabled }}
- --ssl-certfile=/etc/pregate/tls/tls.crt
- --ssl-keyfile=/etc/pregate/tls/tls.key
{{- if $values.tls.clientCa.existingSecret }}
- {{ printf "--ssl-ca-certs=/etc/pregate/client-ca/%s" $values.tls.clientCa.key | quote }}
{{- end }}
{{- end }}
{{- if .model.expertCache.enabled }}
- --expert-cache-dir=/var/cache/pregate
{{- end }}
{{- $follow := dict "served-model-name" .model.name -}}
{{- if gt (int .model.gpu.count) 0 -}}
{{- $_ := set $follow "device" "cuda" -}}
{{- end -}}
{{- range $flag, $value := merge (dict) .model.flags $follow }}
{{- if kindIs "bool" $value }}
- --{{ $flag }}={{ ternary "on" "off" $value }}
{{- else if and (kindIs "float64" $value) (eq (floor $value) $value) }}
- --{{ $flag }}={{ int64 $value }}
{{- else if not (kindIs "invalid" $value) }}
- {{ printf "--%s=%v" $flag $value | quote }}
{{- end }}
{{- end }}
{{- range .model.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* An emptyDir, or a volume of a storage class that lives as long as the pod. Takes a dict of
     `size` and `storageClassName`. */}}
{{- define "pregate.podVolume" -}}
{{- if .storageClassName -}}
ephemeral:
  volumeClaimTemplate:
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: {{ .storageClassName }}
      resources:
        requests:
          storage: {{ .size }}
{{- else -}}
emptyDir:
  sizeLimit: {{ .size }}
{{- end -}}
{{- end -}}

{{- define "pregate.model.volume" -}}
{{- with .model.source.download }}
{{- $volume := merge (dict) (default dict .volume) (dict "kind" "emptyDir" "size" "1Gi") -}}
- name: model
{{- if eq $volume.kind "claim" }}
  persistentVolumeClaim:
    claimName: {{ include "pregate.model.fullname" $ }}-model
{{- else }}
  {{- include "pregate.podVolume" $volume | nindent 2 }}
{{- end }}
{{- end }}
{{- with .model.source.existingClaim -}}
- name: model
  persistentVolumeClaim:
    claimName: {{ .name }}
    readOnly: true
{{- end }}
{{- with .model.source.image -}}
- name: model
  image:
    reference: {{ .reference }}
    {{- with .pullPolicy }}
    pullPolicy: {{ . }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "pregate.model.volumes" -}}
{{- $values := .root.Values -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .model.tmpSize }}
{{- with include "pregate.model.volume" . }}
{{ . }}
{{- end }}
{{- with (default dict .model.source.download).headerSecret }}
- name: download-header
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
{{- end }}
{{- if .model.expertCache.enabled }}
- name: expert-cache
  {{- include "pregate.podVolume" .model.expertCache | nindent 2 }}
{{- end }}
{{- if gt (int .model.gpu.count) 0 }}
- name: cuda-cache
  emptyDir:
    sizeLimit: 1Gi
{{- end }}
{{- with $values.auth.existingSecret }}
- name: tokens
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- if $values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "pregate.tls.secret" .root }}
    defaultMode: 0440
{{- with $values.tls.clientCa.existingSecret }}
- name: client-ca
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- with .model.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pregate.model.volumeMounts" -}}
{{- $values := .root.Values -}}
- name: tmp
  mountPath: /tmp
{{- if include "pregate.model.volume" . }}
- name: model
  mountPath: {{ include "pregate.model.folder" . }}
  readOnly: true
{{- end }}
{{- if .model.expertCache.enabled }}
- name: expert-cache
  mountPath: /var/cache/pregate
{{- end }}
{{- if gt (int .model.gpu.count) 0 }}
- name: cuda-cache
  mountPath: /var/cache/cuda
{{- end }}
{{- if $values.auth.existingSecret }}
- name: tokens
  mountPath: /etc/pregate/tokens
  readOnly: true
{{- end }}
{{- if $values.tls.enabled }}
- name: tls
  mountPath: /etc/pregate/tls
  readOnly: true
{{- if $values.tls.clientCa.existingSecret }}
- name: client-ca
  mountPath: /etc/pregate/client-ca
  readOnly: true
{{- end }}
{{- end }}
{{- with .model.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pregate.model.resources" -}}
{{- $resources := deepCopy .model.resources -}}
{{- if gt (int .model.gpu.count) 0 -}}
{{- $limits := merge (dict .model.gpu.resourceName (int .model.gpu.count)) (default dict $resources.limits) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "pregate.model.env" -}}
{{- if gt (int .model.gpu.count) 0 -}}
- name: CUDA_CACHE_PATH
  value: /var/cache/cuda
{{ end -}}
{{- with .model.extraEnv -}}
{{ toYaml . }}
{{- end -}}
{{- end -}}

{{- define "pregate.model.probe" -}}
httpGet:
  path: {{ .path }}
  port: health
periodSeconds: {{ int .probe.periodSeconds }}
timeoutSeconds: {{ int .probe.timeoutSeconds }}
{{- end -}}

{{- define "pregate.model.probes" -}}
{{- with .model.probes -}}
startupProbe:
  {{- include "pregate.model.probe" (dict "path" "/readyz" "probe" .startup) | nindent 2 }}
  failureThreshold: {{ divf .startup.loadSeconds .startup.periodSeconds | ceil | int }}
readinessProbe:
  {{- include "pregate.model.probe" (dict "path" "/readyz" "probe" .readiness) | nindent 2 }}
  failureThreshold: {{ int .readiness.failureThreshold }}
livenessProbe:
  {{- include "pregate.model.probe" (dict "path" "/livez" "probe" .liveness) | nindent 2 }}
  failureThreshold: {{ int .liveness.failureThreshold }}
{{- end -}}
{{- end -}}

{{/* Constraints without a labelSelector get the model's, one rollout at a time. */}}
{{- define "pregate.model.topologySpread" -}}
{{- $constraints := list -}}
{{- range .model.topologySpreadConstraints -}}
{{- $selector := dict "labelSelector" (dict "matchLabels" (include "pregate.model.selector" $ | fromYaml)) "matchLabelKeys" (list "pod-template-hash") -}}
{{- $constraints = append $constraints (ternary . (merge (dict) . $selector) (hasKey . "labelSelector")) -}}
{{- end -}}
{{- toYaml $constraints -}}
{{- end -}}

{{/* Fetches each file that is not there yet, whole and with the right digest or not at all. */}}
{{- define "pregate.model.download" -}}
{{- with .model.source.download -}}
name: download
image: {{ include "pregate.image" (dict "image" $.root.Values.download.image "tag" "") }}
imagePullPolicy: {{ $.root.Values.download.image.pullPolicy }}
securityContext:
  {{- toYaml $.root.Values.securityContext | nindent 2 }}
{{- with $.root.Values.download.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
command: [sh, -c]
args:
  - |
{{ $.root.Files.Get "files/download.sh" | trim | indent 4 }}
  - download
  - {{ include "pregate.model.folder" $ }}
  - {{ with .headerSecret }}{{ printf "/etc/pregate/download-header/%s" .key | quote }}{{ else }}""{{ end }}
  {{- range .files }}
  - {{ include "pregate.download.path" . | quote }}
  - {{ .url | quote }}
  - {{ .sha256 | quote }}
  {{- end }}
resources:
  {{- toYaml $.root.Values.download.resources | nindent 2 }}
volumeMounts:
  - name: model
    mountPath: {{ include "pregate.model.folder" $ }}
  {{- if .headerSecret }}
  - name: download-header
    mountPath: /etc/pregate/download-header
    readOnly: true
  {{- end }}
{{- end -}}
{{- end -}}

{{/* The port of a URL. Takes a dict of `url` and `http`, the port where a URL of http names none. */}}
{{- define "pregate.portOf" -}}
{{- $url := urlParse .url -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary .http "443" (eq $url.scheme "http")) -}}
{{- end -}}

{{/* Ports of the URLs of a download, 443 for where they redirect to, and those of proxies (curl's default
     is 1080). Takes a dict of `files` and `env`, the init container's variables. */}}
{{- define "pregate.download.ports" -}}
{{- $ports := list "443" -}}
{{- range .files -}}
{{- $ports = append $ports (include "pregate.portOf" (dict "url" .url "http" "80")) -}}
{{- end -}}
{{- range .env -}}
{{- if and .value (regexMatch "^(?i)(https?|all)_proxy$" .name) -}}
{{- $ports = append $ports (regexFind ":[0-9]+/?$" .value | trimAll ":/" | default "1080") -}}
{{- end -}}
{{- end -}}
{{- $list := list -}}
{{- range $ports | uniq | sortAlpha -}}
{{- $list = append $list (dict "port" (int .) "protocol" "TCP") -}}
{{- end -}}
{{- toYaml $list -}}
{{- end -}}
