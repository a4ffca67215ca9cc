{{/* What values.schema.json cannot say. Each message names the value, the rule and what was given. */}}

{{- define "pregate.validateRelease" -}}
{{- $names := list -}}
{{- range .Values.models -}}
{{- if has .name $names -}}
{{- fail (printf "models: names must differ; got %s twice" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- include "pregate.validateLabels" (dict "where" "commonLabels" "labels" .Values.commonLabels) -}}
{{- range $kind := list "serviceMonitor" "podMonitor" "prometheusRule" "dashboards" -}}
{{- include "pregate.validateLabels" (dict "where" (printf "%s.labels" $kind) "labels" (index $.Values $kind).labels "common" $.Values.commonLabels) -}}
{{- end -}}
{{- with .Values.tls -}}
{{- if and .enabled (not .existingSecret) (not .certManager.enabled) -}}
{{- fail "tls.enabled: needs tls.existingSecret, or tls.certManager.enabled to have it made" -}}
{{- end -}}
{{- if and .existingSecret .certManager.enabled -}}
{{- fail "tls: must have existingSecret or certManager; got both" -}}
{{- end -}}
{{- if and .certManager.enabled (not .certManager.issuerRef.name) -}}
{{- fail "tls.certManager.issuerRef.name: must be given; got none" -}}
{{- end -}}
{{- if and (not .enabled) (or .existingSecret .certManager.enabled .clientCa.existingSecret) -}}
{{- fail "tls: has a secret, cert-manager or clientCa; set tls.enabled as well" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled -}}
{{- fail "serviceMonitor, podMonitor: must not both be enabled, or everything is counted twice" -}}
{{- end -}}
{{- end -}}

{{/* No label twice, and none of the chart's. Takes a dict of `where`, `labels` and `common`, others that
     stand beside them. */}}
{{- define "pregate.validateLabels" -}}
{{- range $label, $_ := .labels -}}
{{- if or (regexMatch "^(app\\.kubernetes\\.io/(name|instance|version|component|managed-by)|helm\\.sh/chart|pregate/.*)$" $label) (hasKey (default dict $.common) $label) -}}
{{- fail (printf "%s: must not have a label that the chart or commonLabels sets; got %s" $.where $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Of two models with one host at one place a Gateway or an ingress serves the older. */}}
{{- define "pregate.validateHosts" -}}
{{- $taken := dict -}}
{{- range $model := . -}}
{{- $places := list -}}
{{- range $route := list $model.httpRoute $model.grpcRoute -}}
{{- if $route.enabled -}}
{{- range $parent := $route.parentRefs -}}
{{- range $host := default (list "every host") $route.hostnames -}}
{{- $places = append $places (printf "%s of %s" $host (toJson $parent)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $model.ingress -}}
{{- if .enabled -}}
{{- range $host := .hosts -}}
{{- $places = append $places (printf "%s of the ingress class %q" $host $model.ingress.className) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $places -}}
{{- $other := default $model.name (get $taken .) -}}
{{- if ne $other $model.name -}}
{{- fail (printf "models (%s, %s): must have hosts of their own, or one of them is never reached; both got %s" $other $model.name .) -}}
{{- end -}}
{{- $_ := set $taken . $model.name -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pregate.validateModel" -}}
{{- $model := .model -}}
{{- $where := printf "models (%s)" $model.name -}}
{{- $name := include "pregate.model.fullname" . -}}
{{- if gt (len $name) 54 -}}
{{- fail (printf "%s: RELEASE-pregate-NAME must have at most 54 characters (see fullnameOverride); got %s" $where $name) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "%s: RELEASE-pregate-NAME must begin with a letter and have only a-z, 0-9 and -, as a Service's name (see fullnameOverride); got %s" $where $name) -}}
{{- end -}}
{{- include "pregate.validateLabels" (dict "where" (printf "%s.podLabels" $where) "labels" (omit $model.podLabels "app.kubernetes.io/version")) -}}
{{- if and (gt (int $model.gpu.count) 0) .root.Values.image.digest (not .root.Values.image.cuda.digest) -}}
{{- fail (printf "image.cuda.digest: must be given where image.digest is and a model (%s) reserves a GPU; got none" $model.name) -}}
{{- end -}}
{{- if and (hasKey $model.flags "overload-unready-after") (not (include "pregate.model.isReplicated" .)) -}}
{{- fail (printf "%s.flags.overload-unready-after: needs more than one server, or there is none to go to" $where) -}}
{{- end -}}
{{- $source := $model.source -}}
{{- if ne (len $source) 1 -}}
{{- fail (printf "%s.source: must be one of download, existingClaim, image, path; got %s" $where (keys $source | sortAlpha | join ", " | default "none")) -}}
{{- end -}}
{{- with $source.download -}}
{{- if and (gt (len .files) 1) (not .model) -}}
{{- range .files -}}
{{- if not .path -}}
{{- fail (printf "%s.source.download.files: each of several must have a path; %s has none" $where .url) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $volume := default dict .volume -}}
{{- if and (eq (default "" $volume.kind) "claim") (not (has "ReadWriteMany" (default (list "ReadWriteMany") $volume.accessModes))) (include "pregate.model.isReplicated" $) -}}
{{- fail (printf "%s.source.download.volume.accessModes: must be ReadWriteMany for more than one server (or volume.kind ephemeral); got %s" $where (join ", " $volume.accessModes)) -}}
{{- end -}}
{{- end -}}
{{- range $model.extraArgs -}}
{{- if regexMatch "^--(host|port|grpc-port|metrics-port|health-port|api-key-file|ssl-[a-z-]+|shutdown-delay|drain-timeout)(=|$)" (toString .) -}}
{{- fail (printf "%s.extraArgs: must not name what follows from other values; got %s" $where .) -}}
{{- end -}}
{{- end -}}
{{- $shared := has "ReadWriteMany" (default (list "ReadWriteMany") (default dict (default dict $source.download).volume).accessModes) -}}
{{- if and (not $shared) (eq $model.strategy.type "RollingUpdate") (ne (toString (default dict $model.strategy.rollingUpdate).maxSurge) "0") -}}
{{- fail (printf "%s.strategy: must be Recreate, or have maxSurge 0, where the volume is not ReadWriteMany: a new server could wait for the old one's volume for ever" $where) -}}
{{- end -}}
{{- with $model.termination -}}
{{- $least := int (include "pregate.model.computedGrace" $) -}}
{{- if and (not (kindIs "invalid" .gracePeriodSeconds)) (lt (int .gracePeriodSeconds) $least) -}}
{{- fail (printf "%s.termination.gracePeriodSeconds: must be at least %d (preStopSleepSeconds + shutdownDelaySeconds + drainTimeoutSeconds + 10), or answers are cut; got %d" $where $least (int .gracePeriodSeconds)) -}}
{{- end -}}
{{- end -}}
{{- with $model.autoscaling -}}
{{- if and .type (lt (int .maxReplicas) (int .minReplicas)) -}}
{{- fail (printf "%s.autoscaling.maxReplicas: must be at least minReplicas (%d); got %d" $where (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- /* Of longer names Kubernetes keeps 58 characters, -HASH included, for the pods'. */ -}}
{{- if and (eq .type "keda") (not .keda.query) (gt (len $name) 46) -}}
{{- fail (printf "%s.autoscaling.keda.query: must be given where RELEASE-pregate-NAME has more than 46 characters, whose pods are not called after it; got none for %s" $where $name) -}}
{{- end -}}
{{- end -}}
{{- with $model.strategy -}}
{{- if and (eq .type "RollingUpdate") .rollingUpdate (eq (toString .rollingUpdate.maxUnavailable) "0") (eq (toString .rollingUpdate.maxSurge) "0") -}}
{{- fail (printf "%s.strategy.rollingUpdate: maxUnavailable and maxSurge must not both be 0, or nothing can be replaced" $where) -}}
{{- end -}}
{{- end -}}
{{- if and $model.inferencePool.enabled (not $model.inferencePool.endpointPicker.name) -}}
{{- fail (printf "%s.inferencePool.endpointPicker.name: must be the Service of an endpoint picker; got none" $where) -}}
{{- end -}}
{{- range $kind := list "httpRoute" "grpcRoute" -}}
{{- $route := index $model $kind -}}
{{- if and $route.enabled (not $route.parentRefs) -}}
{{- fail (printf "%s.%s.parentRefs: must name a Gateway; got none" $where $kind) -}}
{{- end -}}
{{- end -}}
{{- if and $model.ingress.enabled (not $model.ingress.hosts) -}}
{{- fail (printf "%s.ingress.hosts: must name a host; got none" $where) -}}
{{- end -}}
{{- end -}}
