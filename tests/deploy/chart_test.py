"""The Helm chart, without a cluster: what Helm makes of sets of values, held against Kubernetes'
schemas, against the rules of chart_policy.py, and against what operators' tools expect."""

import json
import pathlib
import re
import shutil
import tempfile
import unittest

import kubernetes_validate
import yaml

import chart_policy
from helm_chart import (CHART, NAMESPACE, ROOT, VALUE_SETS, flags, helm, model, notes, of_kind, pods,
                        render, server)

KUBERNETES = ("1.31", "1.37")  # whose schemas the manifests must satisfy
OLDEST = "1.27"  # as Chart.yaml says, of what needs nothing newer
NEEDS_NEWER = {"mtls", "image-volume"}  # the sleep action, image volumes
CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject", "Certificate",
          "InferencePool", "HTTPRoute", "GRPCRoute"}  # kinds that Kubernetes itself does not have
DIGEST = "a" * 64


def name_of(path):
    return path.name.removesuffix("-values.yaml")


def by_name(name):
    return CHART / "ci" / f"{name}-values.yaml"


class Sound(unittest.TestCase):
    """What is made of the sets of values in the chart's folder ci."""

    def test_there_are_enough_sets(self):
        self.assertGreaterEqual(len(VALUE_SETS), 8)

    def test_lint(self):
        for path in VALUE_SETS:
            with self.subTest(values=name_of(path)):
                helm("lint", "--strict", "--quiet", CHART, "--values", path)

    def test_kubernetes_schemas(self):
        for path in VALUE_SETS:
            versions = KUBERNETES + (() if name_of(path) in NEEDS_NEWER else (OLDEST,))
            for one in render(file=path):
                if one["kind"] in CUSTOM:
                    continue
                for version in versions:
                    with self.subTest(values=name_of(path), kind=one["kind"], version=version):
                        kubernetes_validate.validate(one, version, strict=True)

    def test_kubernetes_schemas_refuse(self):
        broken = render()
        of_kind(broken, "Deployment")[0]["spec"]["template"]["spec"]["hostNetwrok"] = True
        with self.assertRaises(kubernetes_validate.ValidationError):
            for one in broken:
                kubernetes_validate.validate(one, KUBERNETES[0], strict=True)

    def test_policy(self):
        for path in VALUE_SETS:
            without = {
                # No budget, no spread and no policy is what was asked for.
                "off": (chart_policy.network_is_closed, chart_policy.replicas_are_looked_after),
            }.get(name_of(path), ())
            with self.subTest(values=name_of(path)):
                self.assertEqual(chart_policy.problems(render(file=path), without), [])

    def test_names_are_unique_and_labelled(self):
        for path in VALUE_SETS:
            manifests = render({"extraObjects": []}, file=path)
            names = [(one["kind"], one["metadata"]["name"]) for one in manifests]
            self.assertEqual(len(names), len(set(names)))
            for one in manifests:
                with self.subTest(values=name_of(path), kind=one["kind"]):
                    self.assertEqual(one["metadata"]["namespace"], NAMESPACE)
                    labels = one["metadata"]["labels"]
                    self.assertEqual(labels["app.kubernetes.io/instance"], "test")
                    self.assertEqual(labels["app.kubernetes.io/managed-by"], "Helm")

    def test_a_package_makes_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            helm("package", CHART, "--destination", folder)
            package, = pathlib.Path(folder).iterdir()
            self.assertEqual(render(chart=package), render())

    def test_as_a_part_of_another_chart(self):
        with tempfile.TemporaryDirectory() as folder:
            parent = pathlib.Path(folder)
            (parent / "Chart.yaml").write_text("apiVersion: v2\nname: all\nversion: 1.0.0\n")
            (parent / "values.yaml").write_text("global: {region: eu}\n")
            shutil.copytree(CHART, parent / "charts/pregate")
            self.assertTrue(of_kind(render(chart=parent), "Deployment"))


class Parts(unittest.TestCase):
    """What single values do."""

    def deployment(self, values=None, file=None):
        return of_kind(render(values, file), "Deployment")[0]

    def args(self, values=None, file=None):
        return server(self.deployment(values, file)["spec"]["template"]["spec"])["args"]

    def test_the_flags_of_a_model_are_laid_over_the_defaults(self):
        args = self.args(model(flags={"kv-cache-memory": "1GiB", "max-num-queued-tokens": 5000000000,
                                      "enable-prefix-caching": False, "expert-batching": False,
                                      "reflection": True, "query-prefix": 'say "x: y"'}))
        for word in ("--kv-cache-memory=1GiB", "--max-num-queued-tokens=5000000000",
                     "--enable-prefix-caching=off", "--expert-batching=off", "--reflection=on",
                     '--query-prefix=say "x: y"', "--log-format=json", "--metrics-compat=vllm",
                     "--served-model-name=m"):
            self.assertIn(word, args)

    def test_false_and_empty_values_win_over_the_defaults(self):
        values = {"defaults": {"podDisruptionBudget": {"enabled": True}, "tolerations": [{"key": "a"}]},
                  **model(replicas=2, podDisruptionBudget={"enabled": False}, tolerations=[],
                          topologySpreadConstraints=[])}
        manifests = render(values)
        self.assertEqual(of_kind(manifests, "PodDisruptionBudget"), [])
        pod = of_kind(manifests, "Deployment")[0]["spec"]["template"]["spec"]
        self.assertNotIn("tolerations", pod)
        self.assertNotIn("topologySpreadConstraints", pod)

    def test_the_versions_are_the_projects(self):
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
        project = re.search(r"project\(pregate VERSION (\S+)",
                            (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))[1]
        self.assertEqual((chart["version"], chart["appVersion"]), (project, project))

    def test_recreate_has_nothing_of_the_rollout(self):
        self.assertEqual(self.deployment(model(strategy={"type": "Recreate"}))["spec"]["strategy"],
                         {"type": "Recreate"})

    def test_grace(self):
        for termination, seconds in (({}, 140), ({"drainTimeoutSeconds": 300}, 320),
                                     ({"preStopSleepSeconds": 7}, 147),
                                     ({"shutdownDelaySeconds": 0, "drainTimeoutSeconds": 0}, 10),
                                     ({"gracePeriodSeconds": 200}, 200)):
            pod = self.deployment(model(termination=termination))["spec"]["template"]["spec"]
            self.assertEqual(pod["terminationGracePeriodSeconds"], seconds, termination)

    def test_images(self):
        for image, expected in (({}, "pregate:0.1.0"), ({"tag": "1.2"}, "pregate:1.2"),
                                ({"repository": "r.example.com:5000/p", "tag": "1",
                                  "digest": f"sha256:{DIGEST}"},
                                 f"r.example.com:5000/p@sha256:{DIGEST}")):
            pod = self.deployment({"image": image})["spec"]["template"]["spec"]
            self.assertEqual(server(pod)["image"], expected)

    def test_images_of_models_on_gpus(self):
        for image, expected in (
                ({}, "pregate:0.1.0-cuda"), ({"tag": "1.2"}, "pregate:1.2-cuda"),
                ({"repository": "r/p", "cuda": {"tag": "9"}}, "r/p:9"),
                ({"repository": "r/p", "cuda": {"repository": "r/p-cuda"}}, "r/p-cuda:0.1.0-cuda"),
                ({"digest": f"sha256:{DIGEST}", "cuda": {"digest": "sha256:" + "b" * 64}},
                 "pregate@sha256:" + "b" * 64)):
            manifests = render({"image": image, **model(gpu={"count": 1})})
            for name, pod, _ in pods(manifests):  # the server, and what `helm test` asks with
                self.assertEqual(pod["containers"][0]["image"], expected, name)
        # One of a release that has both kinds.
        both = {"models": [{"name": name, "source": {"path": "/m"}, "gpu": {"count": count}}
                           for name, count in (("a", 0), ("b", 1))]}
        images = {labels["pregate/model"]: server(pod)["image"]
                  for _, pod, labels in pods(render(both)) if server(pod)}
        self.assertEqual(images, {"a": "pregate:0.1.0", "b": "pregate:0.1.0-cuda"})

    def test_the_device_of_models_on_gpus(self):
        for values, device in (({"gpu": {"count": 1}}, "cuda"), ({}, None),
                               ({"gpu": {"count": 1}, "flags": {"device": "auto"}}, "auto")):
            pod = self.deployment(model(**values))["spec"]["template"]["spec"]
            self.assertEqual(flags(server(pod)).get("device"), device, values)

    def test_the_image_is_what_the_pods_expect(self):
        """Its user, its programs and where these are."""
        text = (ROOT / "deploy/image/Dockerfile").read_text(encoding="utf-8")
        self.assertIn('\nENTRYPOINT ["/usr/bin/pregate"]\n', text)
        manifests = render()
        for name, pod, _ in pods(manifests):
            context = pod["securityContext"]
            self.assertIn(f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n", text, name)
        self.assertNotIn("command", server(self.deployment()["spec"]["template"]["spec"]))
        asking, = of_kind(manifests, "Pod")
        self.assertEqual(asking["spec"]["containers"][0]["command"], ["/usr/bin/pregate-client"])
        self.assertIn("pregate-client", (ROOT / "deploy/image/assemble.sh").read_text("utf-8"))

    def test_gpu(self):
        pod = self.deployment(file=by_name("gpu"))["spec"]["template"]["spec"]
        serving = server(pod)
        self.assertRegex(serving["image"], "@sha256:fedcba98[0-9a-f]{56}$")
        self.assertEqual(serving["resources"]["limits"]["nvidia.com/gpu"], 1)
        self.assertIn({"name": "CUDA_CACHE_PATH", "value": "/var/cache/cuda"}, serving["env"])
        self.assertEqual(pod["nodeSelector"], {"accelerator": "nvidia-h100"})
        self.assertEqual(pod["tolerations"][0]["key"], "nvidia.com/gpu")
        self.assertEqual(pod["runtimeClassName"], "nvidia")
        self.assertEqual(pod["priorityClassName"], "serving")
        self.assertGreaterEqual(serving["startupProbe"]["failureThreshold"] * 7, 1800)

    def test_sources(self):
        def served(name):
            manifests = render(file=by_name(name))
            return {labels["pregate/model"]: server(pod)["args"][1]
                    for _, pod, labels in pods(manifests) if server(pod)}
        self.assertEqual(served("models"), {"chat": "/models/qwen2.5-7b-instruct.gguf",
                                            "minilm": "/models/all-MiniLM-L6-v2",
                                            "baked": "/opt/model.gguf"})
        self.assertEqual(served("image-volume"), {"gemma": "/models/gemma-3-270m-q4_k_m.gguf"})
        self.assertEqual(served("replicas"), {"smollm2": "/models/SmolLM2-135M-Instruct.Q4_1.gguf"})
        claim, = of_kind(render(file=by_name("replicas")), "PersistentVolumeClaim")
        self.assertEqual(claim["spec"]["accessModes"], ["ReadWriteMany"])

    def test_downloads_reach_their_ports_alone(self):
        policy, = of_kind(render(file=by_name("replicas")), "NetworkPolicy")
        self.assertEqual([port["port"] for port in policy["spec"]["egress"][1]["ports"]],
                         [3128, 443, 8080])  # a proxy's, of redirections, of the URL
        self.assertEqual(policy["spec"]["egress"][1]["to"], [{"ipBlock": {"cidr": "10.0.0.0/8"}}])

    def test_the_ports_of_proxies(self):
        for name, value, ports in (("https_proxy", "http://p.example.com:8888/", [443, 8888]),
                                   ("ALL_PROXY", "p.example.com", [1080, 443]),
                                   ("NO_PROXY", "p.example.com:8888", [443])):
            policy, = of_kind(render({"download": {"extraEnv": [{"name": name, "value": value}]}}),
                              "NetworkPolicy")
            self.assertEqual([port["port"] for port in policy["spec"]["egress"][1]["ports"]], ports)

    def test_no_peers_are_nobody(self):
        policy, = of_kind(render(file=by_name("closed")), "NetworkPolicy")
        self.assertEqual(policy["spec"]["egress"], [])
        caller, = policy["spec"]["ingress"][0]["from"]
        self.assertEqual(caller["podSelector"]["matchLabels"]["app.kubernetes.io/component"], "test")
        for nothing in ([], None):
            policy, = of_kind(render({"networkPolicy": {"downloads": nothing, "monitoring": nothing}}),
                              "NetworkPolicy")
            self.assertEqual(policy["spec"]["egress"], [])
            self.assertEqual(len(policy["spec"]["ingress"]), 1)

    def test_names_that_yaml_takes_for_something_else(self):
        """A release, a namespace and a model that would be numbers and switches without quotes."""
        values = {"fullnameOverride": "llm", "models": [{"name": "on", "source": {"path": "/m.gguf"}}]}
        for release in ("123", "1e3", "0x1"):
            for one in render(values, release=release, namespace="42"):
                kubernetes_validate.validate(one, KUBERNETES[0], strict=True)
                self.assertEqual(one["metadata"]["labels"]["app.kubernetes.io/instance"], release)
                self.assertEqual(one["metadata"]["namespace"], "42")

    def test_the_notes_say_who_cannot_call(self):
        says = "Pods of the namespace alone can call"
        route = {"enabled": True, "parentRefs": [{"name": "g"}]}
        for values in ({"service": {"type": "LoadBalancer"}}, model(grpcRoute=route),
                       model(ingress={"enabled": True, "hosts": ["x.example.com"]})):
            self.assertIn(says, notes(values))
            self.assertNotIn(says, notes({**values, "networkPolicy": {"enabled": False}}))
        for quiet in (None, by_name("replicas"), by_name("gateway")):
            self.assertNotIn(says, notes(file=quiet))

    def test_the_notes_say_that_the_test_needs_a_certificate(self):
        says = "It cannot pass without a certificate"
        self.assertNotIn(says, notes(file=by_name("mtls")))
        self.assertIn(says, notes({"tests": {"clientCertificateSecret": ""}}, by_name("mtls")))

    def test_traces_reach_the_collector(self):
        manifests = render(file=by_name("keda"))
        given = flags(server(next(pod for _, pod, _ in pods(manifests) if server(pod))))
        self.assertEqual(given["otlp-traces-endpoint"], "http://collector.tracing.svc/v1/traces")
        self.assertEqual(given["trace-sample-ratio"], "0.1")
        policy, = of_kind(manifests, "NetworkPolicy")
        self.assertIn({"ports": [{"port": 4318, "protocol": "TCP"}], "to": [{"namespaceSelector": {}}]},
                      policy["spec"]["egress"])

    def test_the_expert_cache_is_a_disk_of_the_pod(self):
        pod = self.deployment(file=by_name("read-me"))["spec"]["template"]["spec"]
        volume = next(one for one in pod["volumes"] if one["name"] == "expert-cache")
        spec = volume["ephemeral"]["volumeClaimTemplate"]["spec"]
        self.assertEqual(spec["resources"]["requests"]["storage"], "30Gi")
        given = flags(server(pod))
        mounts = {one["name"]: one["mountPath"] for one in server(pod)["volumeMounts"]}
        self.assertEqual(given["expert-cache-dir"], mounts["expert-cache"])
        self.assertEqual(given["expert-cache-memory"], "6GiB")

    def test_pods_roll_when_their_settings_change_and_not_with_the_charts_version(self):
        def pod(values=None, chart=CHART):
            return of_kind(render(values, chart=chart), "Deployment")[0]["spec"]["template"]
        self.assertNotEqual(pod(), pod({"defaults": {"flags": {"max-num-seqs": 8}}}))
        with tempfile.TemporaryDirectory() as folder:
            newer = pathlib.Path(folder) / "pregate"
            shutil.copytree(CHART, newer)
            text = (newer / "Chart.yaml").read_text(encoding="utf-8")
            (newer / "Chart.yaml").write_text(re.sub(r"(?m)^version: .*", "version: 9.9.9", text))
            self.assertEqual(pod(chart=newer), pod())

    def test_extra_objects(self):
        maps = {one["metadata"]["name"]: one for one in of_kind(render(file=by_name("extra")),
                                                                "ConfigMap")}
        self.assertEqual(maps["chat-templates"]["data"], {"short.jinja": "{{ messages[-1].content }}"})
        self.assertEqual(maps["test-notes"]["data"], {"about": "extra"})


class Operators(unittest.TestCase):
    """Kinds that other operators bring, of whose schemas nothing is at hand: what they must find."""

    def test_keda(self):
        manifests = render(file=by_name("keda"))
        scaler, = of_kind(manifests, "ScaledObject")
        self.assertEqual(scaler["apiVersion"], "keda.sh/v1alpha1")
        spec = scaler["spec"]
        self.assertEqual(spec["scaleTargetRef"]["name"],
                         of_kind(manifests, "Deployment")[0]["metadata"]["name"])
        self.assertEqual((spec["minReplicaCount"], spec["maxReplicaCount"]), (2, 8))
        trigger, = spec["triggers"]
        self.assertEqual(trigger["type"], "prometheus")
        self.assertEqual(trigger["metadata"]["threshold"], "10")
        self.assertEqual(trigger["authenticationRef"], {"name": "prometheus"})
        self.assertRegex(trigger["metadata"]["query"],
                         rf'^sum\(pregate_num_requests_waiting\{{namespace="{NAMESPACE}", pod=~".+"\}}\)$')
        pattern = re.search(r'pod=~"(.+?)"', trigger["metadata"]["query"])[1]
        self.assertTrue(re.fullmatch(pattern, "test-pregate-smollm2-6c9fd8b7-x2x4z"))
        self.assertFalse(re.fullmatch(pattern, "test-pregate-smollm2-large-6c9fd8b7-x2x4z"))

    def test_hpa(self):
        scaler, = of_kind(render(file=by_name("hpa")), "HorizontalPodAutoscaler")
        metric, = scaler["spec"]["metrics"]
        self.assertEqual(metric["pods"]["metric"]["name"], "pregate_num_requests_waiting")

    def test_monitors_select_what_is_there_and_name_the_model(self):
        for name, kind, endpoints in (("keda", "ServiceMonitor", "endpoints"),
                                      ("hpa", "PodMonitor", "podMetricsEndpoints")):
            manifests = render(file=by_name(name))
            monitor, = of_kind(manifests, kind)
            wanted = monitor["spec"]["selector"]["matchLabels"].items()
            if kind == "ServiceMonitor":
                targets = [one for one in of_kind(manifests, "Service")
                           if wanted <= one["metadata"]["labels"].items()]
                ports = {port["name"] for one in targets for port in one["spec"]["ports"]}
                labels = targets[0]["metadata"]["labels"]
            else:
                targets = [(pod, labels) for _, pod, labels in pods(manifests)
                           if wanted <= labels.items()]
                ports = {port["name"] for port in server(targets[0][0])["ports"]}
                labels = targets[0][1]
            self.assertEqual(len(targets), 1)
            endpoint, = monitor["spec"][endpoints]
            self.assertIn(endpoint["port"], ports)
            self.assertEqual(endpoint["path"], "/metrics")
            self.assertEqual(endpoint["relabelings"], [
                {"targetLabel": "job", "replacement": "test-pregate"},
                {"sourceLabels": ["__meta_kubernetes_pod_label_pregate_model"],
                 "targetLabel": "model"}])
            self.assertIn("pregate/model", labels)

    def test_rules_and_dashboards_are_the_files(self):
        """Whatever stands in the chart's folders, and nothing where there is nothing."""
        with tempfile.TemporaryDirectory() as folder:
            chart = pathlib.Path(folder) / "pregate"
            shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("rules", "dashboards"))
            values = {"prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}}
            self.assertEqual(of_kind(render(values, chart=chart), "PrometheusRule"), [])
            self.assertEqual(of_kind(render(values, chart=chart), "ConfigMap"), [])
            (chart / "rules").mkdir()
            (chart / "dashboards").mkdir()
            groups = [{"name": "a", "rules": [{"alert": "A", "expr": "up == 0", "annotations": {
                "summary": "{{ $labels.pod }} is down"}}]},
                      {"name": "b", "rules": [{"record": "x:y", "expr": "1"}]}]
            for group in groups:
                (chart / "rules" / f"{group['name']}.yaml").write_text(
                    yaml.safe_dump({"groups": [group]}))
            board = {"title": "Über {{ alles }}", "panels": [{"expr": 'rate(x{a=~"$b"}[5m])'}]}
            (chart / "dashboards/over_view.json").write_text(json.dumps(board, indent=2))
            manifests = render(values, chart=chart)
            self.assertEqual(of_kind(manifests, "PrometheusRule")[0]["spec"]["groups"], groups)
            config, = of_kind(manifests, "ConfigMap")
            self.assertEqual(config["metadata"]["name"], "test-pregate-over-view")
            self.assertEqual(config["metadata"]["labels"]["grafana_dashboard"], "1")
            self.assertEqual(json.loads(config["data"]["over_view.json"]), board)

    def test_runbooks_have_addresses_where_the_base_is_known(self):
        def alerts(base):
            rules, = of_kind(render({"prometheusRule": {"enabled": True, "runbookBaseUrl": base}}),
                             "PrometheusRule")
            return [rule["annotations"] for group in rules["spec"]["groups"]
                    for rule in group["rules"] if "alert" in rule]
        self.assertTrue(alerts("https://git.example.com/main/"))
        for texts in alerts("https://git.example.com/main/"):
            self.assertEqual(texts["runbook_url"], f"https://git.example.com/main/{texts['runbook']}")
        for texts in alerts(""):
            self.assertNotIn("runbook_url", texts)

    def test_the_endpoint_picker_may_read_metrics(self):
        policy, = of_kind(render(file=by_name("gateway")), "NetworkPolicy")
        readers = policy["spec"]["ingress"][1]
        self.assertEqual(readers["ports"], [{"port": "metrics"}])
        self.assertIn({"inferencepool": "pregate-epp"},
                      [one.get("podSelector", {}).get("matchLabels") for one in readers["from"]])

    def test_the_certificate_is_for_every_service(self):
        manifests = render(file=by_name("tls"))
        certificate, = of_kind(manifests, "Certificate")
        for service in of_kind(manifests, "Service"):
            self.assertIn(f"{service['metadata']['name']}.{NAMESPACE}.svc",
                          certificate["spec"]["dnsNames"])
        self.assertIn("llm.example.com", certificate["spec"]["dnsNames"])
        volume = next(one for one in of_kind(manifests, "Deployment")[0]["spec"]["template"]["spec"][
            "volumes"] if one["name"] == "tls")
        self.assertEqual(volume["secret"]["secretName"], certificate["spec"]["secretName"])

    def test_gateway(self):
        manifests = render(file=by_name("gateway"))
        pool, = of_kind(manifests, "InferencePool")
        labels = next(labels for _, pod, labels in pods(manifests) if server(pod))
        self.assertEqual(pool["apiVersion"], "inference.networking.k8s.io/v1")
        self.assertLessEqual(pool["spec"]["selector"]["matchLabels"].items(), labels.items())
        self.assertEqual(pool["spec"]["targetPorts"], [{"number": 8000}])
        http, = of_kind(manifests, "HTTPRoute")
        backend, = http["spec"]["rules"][0]["backendRefs"]
        self.assertEqual((backend["kind"], backend["name"]), ("InferencePool",
                                                              pool["metadata"]["name"]))
        grpc, = of_kind(manifests, "GRPCRoute")
        backend, = grpc["spec"]["rules"][0]["backendRefs"]
        services = [one["metadata"]["name"] for one in of_kind(manifests, "Service")]
        self.assertIn(backend["name"], services)
        self.assertEqual(backend["port"], 8001)


if __name__ == "__main__":
    unittest.main(verbosity=2)
