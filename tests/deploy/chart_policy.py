"""Rules that whatever the chart makes must keep: Pod Security `restricted` and what is asked of a
server beyond it. Each rule is a function over all manifests of a release that yields what is wrong."""

import re

from helm_chart import containers, flags, of_kind, pods, server

# https://kubernetes.io/docs/concepts/security/pod-security-standards/, "Restricted", Volume Types; with
# images, of Kubernetes 1.33 (kubernetes/pod-security-admission, policy/check_restrictedVolumes.go).
RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image",
                      "persistentVolumeClaim", "projected", "secret"}
UID = 65532
FLUSH_SECONDS = 10  # after the drain, for the last tokens
LISTENERS = {"http": 8000, "grpc": 8001, "metrics": 8002, "health": 8003}
SECRET_FLAGS = {"api-key-file", "ssl-certfile", "ssl-keyfile", "ssl-ca-certs"}


def pod_is_restricted(manifests):
    """Not root, no way to become it, no capabilities, seccomp, nothing of the host's."""
    for name, pod, _ in pods(manifests):
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") != UID:
            yield f"{name}: is not run as {UID}"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: has no seccomp profile"
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(field):
                yield f"{name}: {field}"
        for volume in pod.get("volumes", []):
            kinds = set(volume) - {"name"}
            if not kinds <= RESTRICTED_VOLUMES:
                yield f"{name}: volume {volume['name']} is of the kind {kinds.pop()}"
        for container in containers(pod):
            own = container.get("securityContext", {})
            where = f"{name}/{container['name']}"
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{where}: may become privileged"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{where}: keeps capabilities"
            if own.get("runAsNonRoot", True) is not True or own.get("runAsUser", UID) != UID:
                yield f"{where}: is not run as {UID}"
            if any("hostPort" in port for port in container.get("ports", [])):
                yield f"{where}: hostPort"


def pod_is_confined(manifests):
    """Nothing to write to but volumes of a bounded size, no token of the API server, limits."""
    for name, pod, _ in pods(manifests):
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name}: has a token of the service account"
        if pod.get("enableServiceLinks") is not False:
            yield f"{name}: a Service named pregate sets PREGATE_PORT"
        for volume in pod.get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{name}: volume {volume['name']} has no size"
        for container in containers(pod):
            where = f"{name}/{container['name']}"
            if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
                yield f"{where}: may write to its image"
            resources = container.get("resources", {})
            for group in ("requests", "limits"):
                if not {"cpu", "memory"} <= set(resources.get(group, {})):
                    yield f"{where}: no {group}"
        if serving := server(pod):
            yield from models_are_read_only(name, pod, serving)
    for account in of_kind(manifests, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{account['metadata']['name']}: mounts its token"


def models_are_read_only(name, pod, serving):
    """The model's volume is mounted to be read, where the command line says it is."""
    mounts = {mount["name"]: mount for mount in serving.get("volumeMounts", [])}
    path = serving["args"][1]
    if "model" in mounts:
        if mounts["model"].get("readOnly") is not True:
            yield f"{name}: its model is mounted to be written"
        if not path.startswith(mounts["model"]["mountPath"]):
            yield f"{name}: serves {path}, which is not in its volume"
    names = {volume["name"] for volume in pod["volumes"]}
    if set(mounts) - names:
        yield f"{name}: mounts {set(mounts) - names}, which are no volumes"


def network_is_closed(manifests):
    """Who may call, who may read metrics, whom the pods reach: named, and nobody else."""
    policies = of_kind(manifests, "NetworkPolicy")
    for name, pod, labels in pods(manifests):
        if server(pod) is None:
            continue
        own = [policy["spec"] for policy in policies
               if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()]
        if len(own) != 1:
            yield f"{name}: {len(own)} network policies"
            continue
        if set(own[0]["policyTypes"]) != {"Ingress", "Egress"}:
            yield f"{name}: one direction is open"
        seen = set()
        for rule in own[0]["ingress"]:
            ports = {port["port"] for port in rule.get("ports", [])}
            seen |= ports
            if not rule.get("from") or not ports:
                yield f"{name}: a rule lets everybody in, or to everything"
            if ports & {"http", "grpc"} and "metrics" in ports:
                yield f"{name}: who may call may read metrics"
            if "metrics" in ports and not all("namespaceSelector" in one for one in rule["from"]):
                yield f"{name}: metrics for more than the monitoring's namespace"
        if seen != {"http", "grpc", "metrics"}:
            yield f"{name}: lets in to {seen}"
        downloads = any(one["name"] == "download" for one in pod.get("initContainers", []))
        traces = "otlp-traces-endpoint" in flags(server(pod))
        if not downloads and not traces and own[0]["egress"]:
            yield f"{name}: reaches out, with nothing to download"
        for rule in own[0]["egress"]:
            ports = {port["port"] for port in rule.get("ports", [])}
            if not ports or (ports != {53} and not rule.get("to")):
                yield f"{name}: reaches everything"


def secrets_are_files(manifests):
    """In whole folders (a subPath is never updated), read-only, for this group; in no variable."""
    for name, pod, _ in pods(manifests):
        secret = {volume["name"]: volume["secret"] for volume in pod.get("volumes", [])
                  if "secret" in volume}
        for one in secret.values():
            if one.get("defaultMode", 0o644) & 0o007:
                yield f"{name}: everybody may read {one['secretName']}"
        for container in containers(pod):
            where = f"{name}/{container['name']}"
            for variable in container.get("env", []):
                if "secretKeyRef" in variable.get("valueFrom", {}):
                    yield f"{where}: a secret in {variable['name']}"
            if any("secretRef" in source for source in container.get("envFrom", [])):
                yield f"{where}: a secret in variables"
            for mount in container.get("volumeMounts", []):
                if "subPath" in mount or "subPathExpr" in mount:
                    yield f"{where}: {mount['name']} is mounted with a subPath"
                if mount["name"] in secret and mount.get("readOnly") is not True:
                    yield f"{where}: {mount['name']} is mounted to be written"
        if serving := server(pod):
            mounts = {mount["mountPath"]: mount["name"] for mount in serving["volumeMounts"]}
            for flag, path in flags(serving).items():
                if flag in SECRET_FLAGS and mounts.get(path.rsplit("/", 1)[0]) not in secret:
                    yield f"{name}: --{flag} is not a file of a secret: {path}"


def listeners_are_separate(manifests):
    """Serving, metrics and probes each have a port; the service for clients has the first two."""
    for name, pod, _ in pods(manifests):
        if (serving := server(pod)) is None:
            continue
        if {port["name"]: port["containerPort"] for port in serving["ports"]} != LISTENERS:
            yield f"{name}: other ports than {LISTENERS}"
        given = flags(serving)
        for flag, port in (("port", "http"), ("grpc-port", "grpc"), ("metrics-port", "metrics"),
                           ("health-port", "health")):
            if given.get(flag) != str(LISTENERS[port]):
                yield f"{name}: --{flag} is not the port {port}"
    for service in of_kind(manifests, "Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        headless = spec.get("clusterIP") == "None"
        ports = {port["name"]: port for port in spec["ports"]}
        if set(ports) != ({"http", "grpc", "metrics"} if headless else {"http", "grpc"}):
            yield f"{name}: has the ports {set(ports)}"
        tls = any("ssl-certfile" in flags(server(pod)) for _, pod, _ in pods(manifests)
                  if server(pod))
        if ports["grpc"].get("appProtocol") != ("https" if tls else "kubernetes.io/h2c"):
            yield f"{name}: what gRPC speaks is not said"


def probes_mean_what_they_should(manifests):
    """Startup: loaded. Readiness: admits. Liveness: steps end, 5 s, 3 failures. On the health port."""
    for name, pod, _ in pods(manifests):
        if (serving := server(pod)) is None:
            continue
        for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"),
                            ("livenessProbe", "/livez")):
            if serving.get(probe, {}).get("httpGet") != {"path": path, "port": "health"}:
                yield f"{name}: {probe} does not ask {path} of the health port"
        startup = serving["startupProbe"]
        if startup["failureThreshold"] * startup["periodSeconds"] < 600:
            yield f"{name}: too little time to load"
        liveness = serving["livenessProbe"]
        if liveness["timeoutSeconds"] != 5 or liveness["failureThreshold"] != 3:
            yield f"{name}: liveness is not 3 failures of 5 s"


def grace_covers_the_drain(manifests):
    """preStop + delay + drain + 10 s, of the very flags that the server is given."""
    for name, pod, _ in pods(manifests):
        if (serving := server(pod)) is None:
            continue
        given = flags(serving)
        seconds = [re.fullmatch(r"(\d+)s", given[flag]) for flag in ("shutdown-delay",
                                                                     "drain-timeout")]
        hook = serving.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needed = hook + sum(int(match[1]) for match in seconds) + FLUSH_SECONDS
        if pod["terminationGracePeriodSeconds"] < needed:
            yield f"{name}: has {pod['terminationGracePeriodSeconds']} s to end and needs {needed}"


def replicas_are_looked_after(manifests):
    """A budget exactly where there is more than one; a rollout that leaves no gap unless asked to."""
    budgets = of_kind(manifests, "PodDisruptionBudget")
    scalers = {one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in manifests
               if one["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")}
    for one in of_kind(manifests, "Deployment"):
        name, spec = one["metadata"]["name"], one["spec"]
        labels = spec["template"]["metadata"]["labels"]
        if not spec["selector"]["matchLabels"].items() <= labels.items():
            yield f"{name}: does not select its own pods"
        own = [budget["spec"] for budget in budgets
               if budget["spec"]["selector"]["matchLabels"].items() <= labels.items()]
        many = name in scalers or spec["replicas"] > 1
        if len(own) != int(many):
            yield f"{name}: {len(own)} disruption budgets"
        if name in scalers and "replicas" in spec:
            yield f"{name}: its scaler's number is overwritten at each upgrade"
        strategy = spec["strategy"]
        if strategy["type"] == "RollingUpdate" and strategy["rollingUpdate"] not in (
                {"maxUnavailable": 0, "maxSurge": 1}, {"maxUnavailable": 1, "maxSurge": 0}):
            yield f"{name}: rolls with {strategy['rollingUpdate']}"
        spread = spec["template"]["spec"].get("topologySpreadConstraints", [])
        if many and not spread:
            yield f"{name}: its pods may all be in one place"
        for constraint in spread:
            if not constraint["labelSelector"]["matchLabels"].items() <= labels.items():
                yield f"{name}: spreads other pods than its own"


def images_are_named(manifests):
    """Never whatever is newest."""
    for name, pod, _ in pods(manifests):
        for container in containers(pod):
            image = container["image"]
            if not re.search(r"(:[\w.-]+|@sha256:[0-9a-f]{64})$", image) or image.endswith(":latest"):
                yield f"{name}/{container['name']}: {image}"


RULES = (pod_is_restricted, pod_is_confined, network_is_closed, secrets_are_files,
         listeners_are_separate, probes_mean_what_they_should, grace_covers_the_drain,
         replicas_are_looked_after, images_are_named)


def problems(manifests, without=()):
    """All that is wrong. `without`: rules that are left out."""
    return [problem for rule in RULES if rule not in without for problem in rule(manifests)]
