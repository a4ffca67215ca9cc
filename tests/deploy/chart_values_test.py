"""The values of the Helm chart: what cannot work is refused with a message that says which, the schema
is closed and whole, the documents made of the values are current."""

import json
import subprocess
import sys
import unittest

import yaml

from helm_chart import CHART, ROOT, Refused, model, render

DIGEST = "a" * 64
DOWNLOAD = {"files": [{"url": "https://example.com/model.gguf", "sha256": DIGEST}]}


def models(**values):
    """Of a release with two, whose values are the same but for the name and the source."""
    return {"models": [{"name": name, "source": {"path": "/m.gguf"}, **values} for name in "ab"]}


class Refusals(unittest.TestCase):
    """Values that cannot work."""

    # (part of the message, values)
    BAD = (
        ("replicas: Must be greater than or equal to 0", model(replicas=-1)),
        ("Additional property replicaCount is not allowed", {"replicaCount": 2}),
        ("Additional property podDisruptionBudgets is not allowed", model(podDisruptionBudgets={})),
        ("Additional property max-num-seq is not allowed", model(flags={"max-num-seq": 8})),
        ("Additional property port is not allowed", model(flags={"port": 8000})),
        ("Additional property api-key-file", model(flags={"api-key-file": "/x"})),
        ("flags.max-num-seqs: Invalid type", model(flags={"max-num-seqs": "many"})),
        ("flags.device must be one of", model(flags={"device": "tpu"})),
        ("flags.kv-cache-memory: Does not match pattern", model(flags={"kv-cache-memory": "1 GB"})),
        ("got download, path", model(source={"path": "/m", "download": DOWNLOAD})),
        ("one of download, existingClaim, image, path; got none", model(source={})),
        ("source is required", {"models": [{"name": "m"}]}),
        ("Array must have at least 1 items", {"models": []}),
        ("names must differ; got m twice", {"models": model()["models"] * 2}),
        ("name: Does not match pattern", model(name="My_Model")),
        ("must have at most 54 characters", {"fullnameOverride": "a" * 53}),
        ("sha256 is required",
         model(source={"download": {"files": [{"url": "https://example.com/m.gguf"}]}})),
        ("sha256: Does not match pattern",
         model(source={"download": {"files": [{**DOWNLOAD["files"][0], "sha256": "cafe"}]}})),
        ("url: Does not match pattern",
         model(source={"download": {"files": [{"url": "ftp://example.com/m", "sha256": DIGEST}]}})),
        ("path: Does not match pattern",
         model(source={"download": {"files": [{**DOWNLOAD["files"][0], "path": "../m"}]}})),
        ("path: Does not match pattern", model(source={"existingClaim": {"name": "c", "path": "/m"}})),
        ("each of several must have a path",
         model(source={"download": {"files": DOWNLOAD["files"] * 2}})),
        ("must be ReadWriteMany for more than one server",
         model(replicas=2, source={"download": {**DOWNLOAD, "volume": {
             "kind": "claim", "accessModes": ["ReadWriteOnce"]}}})),
        ("must be Recreate, or have maxSurge 0",
         model(source={"download": {**DOWNLOAD, "volume": {
             "kind": "claim", "accessModes": ["ReadWriteOnce"]}}})),
        ("needs tls.existingSecret", {"tls": {"enabled": True}}),
        ("existingSecret or certManager; got both",
         {"tls": {"enabled": True, "existingSecret": "s", "certManager": {"enabled": True}}}),
        ("issuerRef.name: must be given",
         {"tls": {"enabled": True, "certManager": {"enabled": True}}}),
        ("set tls.enabled as well", {"tls": {"existingSecret": "s"}}),
        ("set tls.enabled as well", {"tls": {"clientCa": {"existingSecret": "s"}}}),
        ("auth.key: Does not match pattern", {"auth": {"key": "../tokens"}}),
        ("gracePeriodSeconds: must be at least 140", model(termination={"gracePeriodSeconds": 139})),
        ("got 30", model(termination={"drainTimeoutSeconds": 600, "gracePeriodSeconds": 30})),
        ("drainTimeoutSeconds: Must be greater than or equal to 0",
         model(termination={"drainTimeoutSeconds": -1})),
        ("drainTimeoutSeconds: Invalid type", model(termination={"drainTimeoutSeconds": "2m"})),
        ("extraArgs: must not name what follows from other values; got --drain-timeout=600s",
         model(extraArgs=["--drain-timeout=600s"])),
        ("maxReplicas: must be at least minReplicas (5); got 4",
         model(autoscaling={"type": "keda", "minReplicas": 5})),
        ("minReplicas: Must be greater than or equal to 1",
         model(autoscaling={"type": "keda", "minReplicas": 0})),
        ("autoscaling.type must be one of", model(autoscaling={"type": "vpa"})),
        ("must not both be 0", model(strategy={"rollingUpdate": {"maxSurge": 0}})),
        ("gpu.count: Must be greater than or equal to 0", model(gpu={"count": -1})),
        ("image.cuda.digest: must be given where image.digest is and a model (m) reserves a GPU",
         {"image": {"digest": f"sha256:{DIGEST}"}, **model(gpu={"count": 1})}),
        ("image.cuda: Additional property pullPolicy", {"image": {"cuda": {"pullPolicy": "Always"}}}),
        ("models (m).flags.overload-unready-after: needs more than one server",
         model(flags={"overload-unready-after": "20s"})),
        ("liveness.failureThreshold: Must be greater", model(
            probes={"liveness": {"failureThreshold": 0}})),
        ("expertCache.size: Does not match pattern", model(expertCache={"size": "a lot"})),
        ("must not both be enabled",
         {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}),
        ("endpointPicker.name: must be the Service", model(inferencePool={"enabled": True})),
        ("grpcRoute.parentRefs: must name a Gateway", model(grpcRoute={"enabled": True})),
        ("ingress.hosts: must name a host", model(ingress={"enabled": True})),
        ("whose pods are not called after it; got none for aaaa", {
            "fullnameOverride": "a" * 45, **model(autoscaling={"type": "keda"})}),
        ("must begin with a letter", {"fullnameOverride": "1llm"}),
        ("commonLabels: must not have a label that the chart or commonLabels sets; got "
         "app.kubernetes.io/name", {"commonLabels": {"app.kubernetes.io/name": "x"}}),
        ("podLabels: must not have a label that", model(podLabels={"pregate/model": "x"})),
        ("prometheusRule.labels: must not have a label that the chart or commonLabels sets; got team",
         {"commonLabels": {"team": "a"}, "prometheusRule": {"labels": {"team": "b"}}}),
        ("models (a, b): must have hosts of their own", models(httpRoute={
            "enabled": True, "hostnames": ["x.example.com"], "parentRefs": [{"name": "g"}]})),
        ("both got every host of", models(grpcRoute={
            "enabled": True, "parentRefs": [{"name": "g"}]})),
        ('both got x.example.com of the ingress class "nginx"', models(ingress={
            "enabled": True, "className": "nginx", "hosts": ["x.example.com"]})),
        ("runbookBaseUrl: Does not match pattern", {"prometheusRule": {"runbookBaseUrl": "deploy"}}),
        ("image.digest: Does not match pattern", {"image": {"digest": "sha256:12"}}),
        ("httpPort: Must be less than or equal to 65535", {"service": {"httpPort": 70000}}),
        ("service.type must be one of", {"service": {"type": "ExternalName"}}),
    )

    def test_bad_values(self):
        for says, values in self.BAD:
            with self.subTest(says=says, values=values):
                with self.assertRaises(Refused) as caught:
                    render(values)
                self.assertIn(says, str(caught.exception))

    def test_bad_releases(self):
        for release in ("v1.2", "123"):
            with self.assertRaises(Refused) as caught:
                render(release=release)
            self.assertIn("must begin with a letter and have only a-z, 0-9 and -",
                          str(caught.exception))

    def test_the_same_values_put_right(self):
        """What is refused above is refused for what its message says."""
        for values in (model(replicas=1), model(flags={"max-num-seqs": 8, "device": "cpu"}),
                       model(source={"download": DOWNLOAD}),
                       model(termination={"gracePeriodSeconds": 140}),
                       model(autoscaling={"type": "keda", "minReplicas": 4}),
                       model(replicas=2, source={"download": {**DOWNLOAD, "volume": {
                           "kind": "ephemeral"}}}),
                       model(strategy={"type": "Recreate"}, source={
                           "download": {**DOWNLOAD, "volume": {
                               "kind": "claim", "accessModes": ["ReadWriteOnce"]}}}),
                       {"fullnameOverride": "a" * 44, **model(autoscaling={"type": "keda"})},
                       {"fullnameOverride": "a" * 45, **model(autoscaling={
                           "type": "keda", "keda": {"query": "vector(1)"}})},
                       model(podLabels={"app.kubernetes.io/version": "1"}),
                       {"models": [{**one, "httpRoute": {
                           "enabled": True, "hostnames": [f"{one['name']}.example.com"],
                           "parentRefs": [{"name": "g"}]}} for one in models()["models"]]},
                       {"tls": {"enabled": True, "existingSecret": "s"}}):
            render(values)


class Schema(unittest.TestCase):
    """values.schema.json itself."""

    def setUp(self):
        self.schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    def test_every_map_of_known_keys_is_closed(self):
        def walk(node, path):
            if isinstance(node, dict):
                if "properties" in node and isinstance(node.get("type"), str):
                    # Of a variable, Kubernetes knows more keys than the name.
                    if "extraEnv" not in path:
                        self.assertIs(node.get("additionalProperties"), False, path)
                for key, value in node.items():
                    walk(value, f"{path}/{key}")
            elif isinstance(node, list):
                for number, value in enumerate(node):
                    walk(value, f"{path}/{number}")
        walk(self.schema, "")

    def test_every_key_of_the_schema_is_documented(self):
        """values.yaml shows all keys but those of lists' entries."""
        values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

        def resolve(node):
            if "$ref" not in node:
                return node
            target = self.schema
            for key in node["$ref"].removeprefix("#/").split("/"):
                target = target[key]
            return resolve(target)

        def walk(node, shown, path):
            node = resolve(node)
            for key, child in node.get("properties", {}).items():
                if path == "/defaults/flags" or (path == "" and key == "global"):
                    continue
                self.assertIn(key, shown, path)
                if isinstance(shown[key], dict) and shown[key]:
                    walk(child, shown[key], f"{path}/{key}")
        # Kubernetes' own types: their parts need not be shown.
        for name in ("resources",):
            self.schema["definitions"][name]["properties"].pop("claims")
        walk(self.schema, values, "")

    def test_models_take_what_defaults_has(self):
        definitions = self.schema["definitions"]
        self.assertEqual(set(definitions["model"]["properties"]),
                         set(definitions["defaults"]["properties"]) | {"name", "source"})

    def test_documents_are_current(self):
        run = subprocess.run([sys.executable, ROOT / "deploy/chart/write_docs.py", "--check"],
                             capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
