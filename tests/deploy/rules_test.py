"""Prometheus' rules: promtool checks them, and each alert fires on its incident and on nothing else.

Every alert has its section in deploy/RUNBOOK.md, and every section its alert.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

import helm_chart

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RULES = ROOT / "deploy/chart/pregate/rules"
RUNBOOK = ROOT / "deploy/RUNBOOK.md"
SKIPPED = 77
DAY = 86400

MODEL = {"namespace": "llm", "job": "pregate", "model": "smol"}
POD = {**MODEL, "pod": "smol-0", "instance": "10.0.0.1:8002"}
OTHER_POD = {**MODEL, "pod": "smol-1", "instance": "10.0.0.2:8002"}
STRANGER = {"namespace": "llm", "job": "other", "pod": "other-0", "instance": "10.0.0.3:80"}


def rules(name):
    groups = yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yaml")}


def series(name, values, labels=None, **more):
    """A series in promtool's words: its values, a minute apart."""
    labels = {**(POD if labels is None else labels), **more}
    matchers = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{matchers}}}", "values": values}


BUILD = series("pregate_build_info", "1+0x90", version="1")


def waiting(values):
    return series("pregate_num_requests_waiting", values)


def running(values):
    return series("pregate_num_requests_running", values)


def step_age(values):
    return series("pregate_last_step_age_seconds", values)


def started(values, labels=None):
    return series("process_start_time_seconds", values, labels)


def ended(values, reason):
    return series("pregate_request_success_total", values, finished_reason=reason)


def refused(values, reason):
    return series("pregate_requests_rejected_total", values, reason=reason)


def kv_usage(values):
    return series("pregate_kv_cache_usage_perc", values)


def preempted(values):
    return series("pregate_num_preemptions_total", values)


def stalled(seconds_a_minute):
    return [series("pregate_expert_stall_seconds_total", f"0+{seconds_a_minute}x30"),
            series("pregate_step_seconds_sum", "0+40x30", phase="execute"),
            series("pregate_step_seconds_sum", "0+10x30", phase="plan")]


def observed(histogram, edge, good, every):
    """Of a histogram: what was within the edge, and all."""
    return [BUILD, series(f"{histogram}_bucket", good, le=edge), series(f"{histogram}_count", every)]


def first_tokens(good, every):
    return observed("pregate_time_to_first_token_seconds", "2.5", good, every)


def gaps(good, every):
    return observed("pregate_inter_token_latency_seconds", "0.2", good, every)


def certificate(seconds):
    return series("pregate_tls_certificate_expiry_timestamp_seconds", f"{seconds}+0x30")


def spans(queue, collector, exported):
    return [series("pregate_trace_spans_dropped_total", queue, reason="queue"),
            series("pregate_trace_spans_dropped_total", collector, reason="collector"),
            series("pregate_trace_spans_exported_total", exported)]


# For each alert: incidents as (series, when to look, labels of the alert, what its text makes of
# the value), and calm as (series, when to look).
FIRES = {
    "PregateStalled": ([running("2+0x9"), step_age("5+60x9")], "3m", POD, "2"),
    "PregateModelDown": ([series("pregate_build_info", "1+0x5 stale", version="1")], "9m", MODEL,
                         ""),
    "PregateTargetDown": ([series("up", "1+0x5 0+0x20"),
                           series("pregate_build_info", "1+0x5 stale", version="1")],
                          "12m", POD, ""),
    "PregateRestarted": ([started("1000+0x5 2000+0x20"), BUILD], "10m", POD, ""),
    "PregateCrashLooping": ([started("1000 1000 1100 1100 1200 1200 1300+0x20"), BUILD], "10m", POD,
                            "3"),
    "PregateAnswersFail": ([ended("0+1x20", "error"), ended("0+9x20", "stop")], "8m", MODEL, "10%"),
    "PregateShedding": ([refused("0+1x30", "queue_full"), ended("0+9x30", "length")], "10m", MODEL,
                        "10%"),
    "PregateKvCacheFull": ([kv_usage("0.95+0x30"), waiting("3+0x30")], "15m", POD, "95%"),
    "PregatePreempting": ([preempted("0+12x30")], "15m", POD, "0.20"),
    "PregateExpertStall": (stalled(20), "15m", POD, "40%"),
    "PregateFirstTokenBurn": (first_tokens("0+8x90", "0+10x90"), "70m", MODEL, "20%"),
    "PregateFirstTokenSlowBurn": (first_tokens("0+92x90", "0+100x90"), "70m", MODEL, "8%"),
    "PregateTokenGapBurn": (gaps("0+80x90", "0+100x90"), "70m", MODEL, "20%"),
    "PregateTokenGapSlowBurn": (gaps("0+92x90", "0+100x90"), "70m", MODEL, "8%"),
    "PregateCertificateExpires": ([certificate(10 * DAY)], "10m", POD, "9d 23h 50m 0s"),
    "PregateCertificateEnds": ([certificate(DAY)], "10m", POD, "23h 50m 0s"),
    "PregateFilesNotReloaded": ([series("pregate_files_in_force", "1+0x3 0+0x9", files="tokens")],
                                "8m", {**POD, "files": "tokens"}, ""),
    "PregateSpansDropped": (spans("0+1x30", "0+9x30", "0+10x30"), "25m", POD, "50%"),
}
CALM = {
    "PregateStalled": [([running("0+0x9"), step_age("5+60x9")], "5m"),  # idle
                       ([running("2+0x9"), step_age("9+0x9")], "5m")],  # long steps
    "PregateModelDown": [([series("pregate_build_info", "1+0x5 stale"),
                           series("pregate_build_info", "1+0x20", OTHER_POD)], "9m")],
    "PregateTargetDown": [([series("up", "1+0x5 0+0x20", STRANGER), BUILD], "12m"),
                          # The pod is gone, and so is its target.
                          ([series("up", "1+0x5 stale"),
                            series("pregate_build_info", "1+0x5 stale")], "12m")],
    "PregateRestarted": [([started("1000 1001 1000 1001+0x20"), BUILD], "10m"),  # clocks tremble
                         ([started("1000+0x5 2000+0x20", STRANGER), BUILD], "10m")],
    "PregateCrashLooping": [([started("1000 1001 1000 1001 1000 1001+0x20"), BUILD], "10m"),
                            ([started("1000+0x5 2000+0x20"), BUILD], "10m")],
    "PregateAnswersFail": [([ended("0+0x20", "error"), ended("0+9x20", "abort")], "8m"),
                           ([ended("0+0x20", "error"), ended("0+0x20", "stop")], "8m")],  # idle
    "PregateShedding": [([refused("0+9x30", "draining"), refused("0+9x30", "invalid"),
                          refused("0+0x30", "queue_full"), ended("0+9x30", "stop")], "15m"),
                        # A burst that is over.
                        ([refused("0+9x2 18+0x30", "queue_full"), ended("0+9x30", "stop")], "15m")],
    "PregateKvCacheFull": [([kv_usage("0.95+0x30"), waiting("0+0x30")], "15m"),
                           ([kv_usage("0.8+0x30"), waiting("3+0x30")], "15m")],
    "PregatePreempting": [([preempted("0+1x30")], "15m")],
    "PregateExpertStall": [(stalled(5), "15m")],
    "PregateFirstTokenBurn": [
        (first_tokens("0+92x90", "0+100x90"), "70m"),
        (first_tokens("0+8x60 490+10x30", "0+10x90"), "70m"),  # it is over
        (first_tokens("0+0x90", "0+0x30 1+0x60"), "40m")],  # one slow answer in the night
    "PregateFirstTokenSlowBurn": [(first_tokens("0+95x90", "0+100x90"), "70m")],
    "PregateTokenGapBurn": [(gaps("0+92x90", "0+100x90"), "70m"),
                            (gaps("0+80x60 4900+100x30", "0+100x90"), "70m")],
    "PregateTokenGapSlowBurn": [(gaps("0+95x90", "0+100x90"), "70m")],
    "PregateCertificateExpires": [([certificate(30 * DAY)], "10m")],
    "PregateCertificateEnds": [([certificate(10 * DAY)], "10m")],
    "PregateFilesNotReloaded": [([series("pregate_files_in_force", "1+0x9", files="tokens")],
                                 "8m")],
    "PregateSpansDropped": [(spans("0+0x30", "0+0x30", "0+600x30"), "25m"),
                            (spans("0+1x30", "0+1x30", "0+600x30"), "25m"),  # a few
                            (spans("7+0x30", "9+0x30", "5+0x30"), "25m"),  # it is over
                            # A collector that was away for a moment.
                            (spans("0+0x30", "0+0x9 90+0x30", "0+9x30"), "18m")],
}

# Recorded series by the values that they must have: (series, record, when, labels, value).
RECORDED = [
    ([waiting("3+0x9"), series("pregate_num_requests_waiting", "4+0x9", OTHER_POD)],
     "pregate:requests_waiting:sum", "5m", MODEL, 7),
    ([series("pregate_generation_tokens_total", "0+60x9")], "pregate:generation_tokens:rate5m", "8m",
     MODEL, 1),
    (stalled(20), "pregate:engine_busy:ratio_rate5m", "10m", POD, 50 / 60),
    ([series("pregate_expert_cache_requests_total", "0+3x30", outcome="hit"),
      series("pregate_expert_cache_requests_total", "0+1x30", outcome="miss")],
     "pregate:expert_hit:ratio_rate5m", "10m", POD, 0.75),
    ([series("pregate_time_to_first_token_seconds_bucket", "0+0x30", le="1"),
      series("pregate_time_to_first_token_seconds_bucket", "0+60x30", le="2"),
      series("pregate_time_to_first_token_seconds_bucket", "0+60x30", le="+Inf")],
     "pregate:first_token_seconds:p99_5m", "10m", MODEL, 1.99),
    ([series("pregate_inter_token_latency_seconds_bucket", "0+60x30", le="0.1"),
      series("pregate_inter_token_latency_seconds_bucket", "0+60x30", le="+Inf")],
     "pregate:token_gap_seconds:p99_5m", "10m", MODEL, 0.099),
]


def annotations_of(alert, labels, value):
    """Its texts as Prometheus renders them."""
    def render(text):
        text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found.group(1)], text)
        return re.sub(r"\{\{ \$value[^}]*\}\}", value, text)
    return {key: render(text) for key, text in ALERTS[alert]["annotations"].items()}


def alert_case(alert, inputs, when, expected):
    return {"interval": "1m", "input_series": inputs, "name": f"{alert} at {when}",
            "alert_rule_test": [{"eval_time": when, "alertname": alert, "exp_alerts": expected}]}


def all_cases():
    for alert, (inputs, when, labels, value) in FIRES.items():
        yield alert_case(alert, inputs, when, [{
            "exp_labels": {**labels, **ALERTS[alert]["labels"]},
            "exp_annotations": annotations_of(alert, labels, value)}])
    for alert, cases in CALM.items():
        for inputs, when in cases:
            yield alert_case(alert, inputs, when, [])
    for inputs, record, when, labels, value in RECORDED:
        matchers = ", ".join(f'{key}="{text}"' for key, text in sorted(labels.items()))
        # promtool compares to the last digit, so that what is divided is rounded.
        yield {"interval": "1m", "input_series": inputs, "promql_expr_test": [{
            "expr": f"round({record} * 1e6)", "eval_time": when,
            "exp_samples": [{"labels": f"{{{matchers}}}", "value": round(value * 1e6)}]}]}


def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True,
                          timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def run_cases(cases):
    """What promtool says of them."""
    with tempfile.TemporaryDirectory(prefix="pregate-rules-") as folder:
        file = pathlib.Path(folder) / "cases.yaml"
        file.write_text(json.dumps({
            "rule_files": [str(RULES / "recording.yaml"), str(RULES / "alerts.yaml")],
            "evaluation_interval": "1m", "tests": list(cases)}), encoding="utf-8")
        return promtool("test", "rules", file)


class RulesTest(unittest.TestCase):

    def test_promtool_accepts_the_rules(self):
        status, text = promtool("check", "rules", RULES / "recording.yaml", RULES / "alerts.yaml")
        self.assertEqual(status, 0, text)

    def test_the_chart_ships_them_unchanged(self):
        rule, = helm_chart.of_kind(helm_chart.render({"prometheusRule": {"enabled": True}}),
                                   "PrometheusRule")
        shipped = [one for group in rule["spec"]["groups"] for one in group["rules"]]
        written = [*rules("recording.yaml"), *rules("alerts.yaml")]
        self.assertEqual(*(sorted(json.dumps(rule, sort_keys=True) for rule in all_of)
                           for all_of in (shipped, written)))

    def test_each_alert_fires_on_its_incident_and_else_is_silent(self):
        self.assertEqual(FIRES.keys(), ALERTS.keys())
        self.assertEqual(CALM.keys(), ALERTS.keys())
        status, text = run_cases(all_cases())
        self.assertEqual(status, 0, text)

    def test_a_wrong_expectation_is_found(self):
        inputs, when, _, _ = FIRES["PregateStalled"]
        self.assertNotEqual(run_cases([alert_case("PregateStalled", inputs, when, [])])[0], 0)

    def test_alerts_say_how_bad_and_where_to_read_on(self):
        for name, alert in ALERTS.items():
            with self.subTest(alert=name):
                self.assertTrue(name.startswith("Pregate"))
                self.assertIn(alert["labels"]["severity"], ("critical", "warning"))
                texts = alert["annotations"]
                self.assertEqual(texts.keys(), {"summary", "description", "runbook"})
                self.assertEqual(texts["runbook"], f"deploy/RUNBOOK.md#{name.lower()}")
                self.assertLess(len(texts["summary"]), 100)

    def test_the_runbook_has_a_section_for_each_alert(self):
        sections = re.split(r"^## ", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
        by_name = {section.partition("\n")[0]: section for section in sections}
        self.assertEqual(list(by_name), list(ALERTS))
        for name, section in by_name.items():
            for part in ("Means", "Look at", "Do"):
                self.assertIn(f"- **{part}**:", section, name)


if __name__ == "__main__":
    if shutil.which("promtool") is None:
        print("SKIPPED: no promtool; deploy/install_deps.sh --test installs it")
        sys.exit(SKIPPED)
    unittest.main()
