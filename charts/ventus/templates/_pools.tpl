{{/* Pools and regions, with their defaults filled in and what cannot be refused. */}}

{{/* All pools, as a JSON array: each is `agents` with what the pool says laid over it. */}}
{{- define "ventus.pools" -}}
{{- $pools := list -}}
{{- $names := dict -}}
{{- range .Values.pools -}}
{{- if hasKey $names .name -}}
{{- fail (printf "pools: there are two pools named %s" .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- $pool := mergeOverwrite (deepCopy $.Values.agents) (deepCopy .) -}}
{{- if and $pool.capacity (gt (int $pool.warm) (int $pool.capacity)) -}}
{{- fail (printf "pools: %s has more warm browsers than its capacity" .name) -}}
{{- end -}}
{{- if and $pool.autoscaling.enabled (gt (int $pool.autoscaling.minReplicas) (int $pool.autoscaling.maxReplicas)) -}}
{{- fail (printf "pools: %s has a minReplicas over its maxReplicas" .name) -}}
{{- end -}}
{{- if and $pool.autoscaling.enabled (eq $pool.autoscaling.kind "keda") (not $pool.autoscaling.prometheusUrl) -}}
{{- fail (printf "pools: %s is to be scaled by KEDA: set autoscaling.prometheusUrl" .name) -}}
{{- end -}}
{{- $pools = append $pools $pool -}}
{{- end -}}
{{- if and (not .Values.controlPlane.enabled) (not .Values.hub.url) -}}
{{- fail "hub.url: agents without a control plane in their release must be told where theirs is" -}}
{{- end -}}
{{- if and (not .Values.controlPlane.enabled) (not .Values.secrets.existingSecret) -}}
{{- fail "secrets.existingSecret: agents without a control plane in their release need its join token" -}}
{{- end -}}
{{- if and .Values.controlPlane.enabled .Values.hub.url -}}
{{- fail "hub.url: only for controlPlane.enabled: false" -}}
{{- end -}}
{{- if and .Values.ingress.enabled .Values.gateway.enabled -}}
{{- fail "ingress and gateway: enable one of them" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "gateway.parentRefs: name the Gateway" -}}
{{- end -}}
{{- toJson $pools -}}
{{- end -}}

{{/* All regions that have a pool, as a JSON array, each with the URL that its agents advertise. */}}
{{- define "ventus.regions" -}}
{{- $root := . -}}
{{- $said := dict -}}
{{- range .Values.regions -}}
{{- $_ := set $said .name . -}}
{{- end -}}
{{- $regions := list -}}
{{- $seen := dict -}}
{{- range include "ventus.pools" . | fromJsonArray -}}
{{- if not (hasKey $seen .region) -}}
{{- $_ := set $seen .region true -}}
{{- $region := merge (dict "name" .region) (deepCopy (get $said .region | default dict)) (dict "host" "" "url" "" "tlsSecret" "" "service" (dict "type" "ClusterIP" "annotations" dict)) -}}
{{- $_ := set $region "serviceName" (include "ventus.region.service" (dict "root" $root "region" .region)) -}}
{{- $outside := or $root.Values.ingress.enabled $root.Values.gateway.enabled -}}
{{- $tls := ternary $root.Values.ingress.tls $root.Values.gateway.tls $root.Values.ingress.enabled -}}
{{- if $region.url -}}
{{- $_ := set $region "advertise" $region.url -}}
{{- else if and $outside $region.host -}}
{{- $_ := set $region "advertise" (printf "%s://%s" (ternary "wss" "ws" $tls) $region.host) -}}
{{- else -}}
{{- $_ := set $region "advertise" (printf "ws://%s.%s.svc:8080" $region.serviceName $root.Release.Namespace) -}}
{{- end -}}
{{- $regions = append $regions $region -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $said -}}
{{- if not (hasKey $seen $name) -}}
{{- fail (printf "regions: no pool serves %s" $name) -}}
{{- end -}}
{{- end -}}
{{- toJson $regions -}}
{{- end -}}

{{- define "ventus.pool.name" -}}
{{ include "ventus.fullname" .root }}-agents-{{ .pool.name }}
{{- end -}}

{{- define "ventus.pool.selector" -}}
{{ include "ventus.agents.selector" .root }}
ventus.dev/pool: {{ .pool.name }}
{{- end -}}

{{- define "ventus.region.selector" -}}
{{ include "ventus.agents.selector" .root }}
ventus.dev/region: {{ .region }}
{{- end -}}

{{/* The region of sessions that name none. */}}
{{- define "ventus.defaultRegion" -}}
{{- $regions := include "ventus.regions" . | fromJsonArray -}}
{{- default (first $regions).name .Values.controlPlane.defaultRegion -}}
{{- end -}}
