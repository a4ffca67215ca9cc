"""A negative control for each rule of chart_policy.py: the fault is planted, the rule says so."""

import copy
import unittest

import chart_policy
from helm_chart import of_kind, render, server


def pod_of(manifests):
    return of_kind(manifests, "Deployment")[0]["spec"]["template"]["spec"]


def serving(manifests):
    return server(pod_of(manifests))


def policy(manifests):
    return of_kind(manifests, "NetworkPolicy")[0]["spec"]


def volume(**kind):
    """One more volume."""
    return lambda m: pod_of(m)["volumes"].append({"name": "more", **kind})


def arg(old, new):
    """Another word on the server's command line."""
    def change(manifests):
        args = serving(manifests)["args"]
        args[args.index(old)] = new
    return change


# (rule, part of what it says, how the fault comes in)
FAULTS = (
    (chart_policy.pod_is_restricted, "not run as",
     lambda m: pod_of(m)["securityContext"].update(runAsUser=0)),
    (chart_policy.pod_is_restricted, "seccomp",
     lambda m: pod_of(m)["securityContext"].pop("seccompProfile")),
    (chart_policy.pod_is_restricted, "hostPID",
     lambda m: pod_of(m).update(hostPID=True)),
    (chart_policy.pod_is_restricted, "kind hostPath",
     volume(hostPath={"path": "/"})),
    (chart_policy.pod_is_restricted, "privileged",
     lambda m: serving(m)["securityContext"].update(allowPrivilegeEscalation=True)),
    (chart_policy.pod_is_restricted, "capabilities",
     lambda m: serving(m)["securityContext"].update(capabilities={"drop": ["ALL"], "add": [
         "SYS_NICE"]})),
    (chart_policy.pod_is_restricted, "hostPort",
     lambda m: serving(m)["ports"][0].update(hostPort=80)),
    (chart_policy.pod_is_confined, "token",
     lambda m: pod_of(m).pop("automountServiceAccountToken")),
    (chart_policy.pod_is_confined, "PREGATE_PORT",
     lambda m: pod_of(m).pop("enableServiceLinks")),
    (chart_policy.pod_is_confined, "no size",
     volume(emptyDir={"medium": "Memory"})),
    (chart_policy.pod_is_confined, "write to its image",
     lambda m: serving(m)["securityContext"].update(readOnlyRootFilesystem=False)),
    (chart_policy.pod_is_confined, "no limits",
     lambda m: serving(m)["resources"].pop("limits")),
    (chart_policy.pod_is_confined, "mounted to be written",
     lambda m: [mount.pop("readOnly", None) for mount in serving(m)["volumeMounts"]]),
    (chart_policy.pod_is_confined, "not in its volume",
     arg("/models/SmolLM2-135M-Instruct.Q4_1.gguf", "/elsewhere.gguf")),
    (chart_policy.network_is_closed, "0 network policies",
     lambda m: m.remove(of_kind(m, "NetworkPolicy")[0])),
    (chart_policy.network_is_closed, "lets everybody in",
     lambda m: policy(m)["ingress"][0].pop("from")),
    (chart_policy.network_is_closed, "may read metrics",
     lambda m: policy(m)["ingress"][0]["ports"].append({"port": "metrics"})),
    (chart_policy.network_is_closed, "monitoring's namespace",
     lambda m: policy(m)["ingress"][1].update({"from": [{"podSelector": {}}]})),
    (chart_policy.network_is_closed, "one direction",
     lambda m: policy(m).update(policyTypes=["Ingress"])),
    (chart_policy.network_is_closed, "reaches everything",
     lambda m: policy(m)["egress"].append({})),
    (chart_policy.network_is_closed, "reaches everything",
     lambda m: policy(m)["egress"][1].update(to=[])),
    (chart_policy.network_is_closed, "nothing to download",
     lambda m: pod_of(m).pop("initContainers")),
    (chart_policy.secrets_are_files, "everybody may read",
     volume(secret={"secretName": "s"})),
    (chart_policy.secrets_are_files, "a secret in TOKEN",
     lambda m: serving(m).update(env=[{"name": "TOKEN",
         "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}])),
    (chart_policy.secrets_are_files, "subPath",
     lambda m: serving(m)["volumeMounts"][0].update(subPath="x")),
    (chart_policy.secrets_are_files, "not a file of a secret",
     lambda m: serving(m)["args"].append("--api-key-file=/tmp/tokens")),
    (chart_policy.listeners_are_separate, "not the port health",
     arg("--health-port=8003", "--health-port=8002")),
    (chart_policy.listeners_are_separate, "other ports",
     lambda m: serving(m)["ports"].pop()),
    (chart_policy.listeners_are_separate, "has the ports",
     lambda m: of_kind(m, "Service")[0]["spec"]["ports"].append({"name": "metrics", "port": 8002})),
    (chart_policy.listeners_are_separate, "speaks",
     lambda m: of_kind(m, "Service")[0]["spec"]["ports"][1].pop("appProtocol")),
    (chart_policy.probes_mean_what_they_should, "livenessProbe",
     lambda m: serving(m).update(livenessProbe=serving(m)["readinessProbe"])),
    (chart_policy.probes_mean_what_they_should, "time to load",
     lambda m: serving(m)["startupProbe"].update(failureThreshold=3)),
    (chart_policy.probes_mean_what_they_should, "3 failures",
     lambda m: serving(m)["livenessProbe"].update(timeoutSeconds=1)),
    (chart_policy.grace_covers_the_drain, "needs 620",
     arg("--drain-timeout=120s", "--drain-timeout=600s")),
    (chart_policy.grace_covers_the_drain, "needs 150",
     lambda m: serving(m).update(lifecycle={"preStop": {"sleep": {"seconds": 10}}})),
    (chart_policy.replicas_are_looked_after, "0 disruption budgets",
     lambda m: of_kind(m, "Deployment")[0]["spec"].update(replicas=2)),
    (chart_policy.replicas_are_looked_after, "rolls with",
     lambda m: of_kind(m, "Deployment")[0]["spec"]["strategy"]["rollingUpdate"].update(
         maxUnavailable="25%")),
    (chart_policy.replicas_are_looked_after, "spreads other pods",
     lambda m: pod_of(m)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].update(
         app="x")),
    (chart_policy.images_are_named, "latest",
     lambda m: serving(m).update(image="pregate:latest")),
)


class PolicySeesFaults(unittest.TestCase):
    def test_each_rule_can_fail(self):
        good = render()
        self.assertEqual(chart_policy.problems(good), [])
        for rule, says, plant in FAULTS:
            bad = copy.deepcopy(good)
            plant(bad)
            found = list(rule(bad))
            with self.subTest(rule=rule.__name__, says=says):
                self.assertTrue(any(says in problem for problem in found), found)
        self.assertEqual({rule for rule, _, _ in FAULTS}, set(chart_policy.RULES))


if __name__ == "__main__":
    unittest.main(verbosity=2)
