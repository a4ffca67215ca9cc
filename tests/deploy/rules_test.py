"""Prometheus' rules: promtool checks them, and each alert fires on its incident and on nothing else.

Every alert has its section in deploy/RUNBOOK.md, and every section its alert.
"""

import json
import os
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
# Of each case promtool writes a database and waits for the disk, if it is on one.
MEMORY = pathlib.Path("/dev/shm")
DAY = 86400

MODEL = {"namespace": "llm", "job": "pregate", "model": "smol"}
POD = {**MODEL, "pod": "smol-0", "instance": "10.0.0.1:8002"}
OTHER_POD = {**MODEL, "pod": "smol-1", "instance": "10.0.0.2:8002"}
STRANGER = {"namespace": "llm", "job": "other", "pod": "other-0", "instance": "10.0.0.3:80"}


def groups_of(name):
    return yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]


def rules(name):
    return [rule for group in groups_of(name) for rule in group["rules"]]


# What is recorded is there when it is asked for.
GROUPS = [group["name"] for name in ("recording.yaml", "alerts.yaml") for group in groups_of(name)]
ALERTS = {rule["alert"]: rule for rule in rules("alerts.yaml")}


def series(name, values, labels=None, **more):
    """A series in promtool's words: its values, a minute apart."""
    labels = {**(POD if labels is None else labels), **more}
    matchers = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{matchers}}}", "values": values}


def counter(*stretches):
    """Values of a counter from 0 on: (how much a minute, for how many minutes) after each other."""
    texts, value = ["0"], 0
    for step, minutes in stretches:
        texts.append(f"{value + step:g}+{step}x{minutes - 1}")
        value += step * minutes
    return " ".join(texts)


def build_info(values, labels=None):
    return series("pregate_build_info", values, labels, version="1")


def up(values, labels=None):
    return series("up", values, labels)


BUILD = build_info("1+0x450")
GONE = "1+0x5 stale"  # from the sixth minute on, as the incidents below


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


def stalled(*seconds_a_minute):
    return [series("pregate_expert_stall_seconds_total", counter(*seconds_a_minute)),
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


def files_in_force(values):
    return series("pregate_files_in_force", values, files="tokens")


def spans(queue, collector, exported):
    return [series("pregate_trace_spans_dropped_total", queue, reason="queue"),
            series("pregate_trace_spans_dropped_total", collector, reason="collector"),
            series("pregate_trace_spans_exported_total", exported)]


# For each alert: incidents as (series, minutes, labels of the alert, what its text makes of the
# value), and calm as (series, minute). It fires in all of an incident's minutes, and does not yet in
# the minute before the first.
FIRES = {
    "PregateStalled": [([running("2+0x9"), step_age("5+0x5 45+60x9")], (7,), POD, "2")],
    "PregateModelDown": [
        ([build_info(GONE)], (8, 60), MODEL, ""),  # with no target
        # Its pods crash, and go on to.
        ([build_info(GONE), up("1+0x5 0+0x70")], (8, 64, 66, 70), MODEL, ""),
        ([up("_x6 0+0x40")], (23, 40), MODEL, "")],  # it was never there
    "PregateTargetDown": [
        ([build_info(GONE), up("1+0x5 0+0x70")], (11, 64, 66, 70), POD, ""),
        ([up("_x6 0+0x40"), build_info("1+0x40", OTHER_POD)], (26, 40), POD, "")],
    "PregateRestarted": [([started("1000+0x5 2000+0x20"), BUILD], (6,), POD, "")],
    "PregateCrashLooping": [
        ([started("1000 1000 1100 1100 1200 1200 1300+0x20"), BUILD], (6,), POD, "3")],
    "PregateAnswersFail": [
        ([ended(counter((0, 5), (1, 15)), "error"), ended("0+9x20", "stop")], (12,), MODEL, "10%")],
    "PregateShedding": [([refused(counter((0, 5), (1, 25)), "queue_full"),
                          ended("0+9x30", "length")], (13,), MODEL, "10%")],
    "PregateKvCacheFull": [
        ([kv_usage("0.5+0x5 0.95+0x30"), waiting("3+0x30")], (16,), POD, "95%")],
    "PregatePreempting": [([preempted(counter((0, 5), (12, 25)))], (18,), POD, "0.20")],
    "PregateExpertStall": [(stalled((0, 5), (20, 25)), (19,), POD, "40%")],
    "PregateFirstTokenBurn": [(first_tokens("0+8x90", "0+10x90"), (2, 20), MODEL, "20%")],
    "PregateFirstTokenSlowBurn": [
        (first_tokens("0+92x90", "0+100x90"), (6, 20), MODEL, "8%")],
    "PregateTokenGapBurn": [(gaps("0+80x90", "0+100x90"), (2, 20), MODEL, "20%")],
    "PregateTokenGapSlowBurn": [(gaps("0+92x90", "0+100x90"), (6, 20), MODEL, "8%")],
    "PregateCertificateExpires": [([certificate(14 * DAY + 300)], (11,), POD, "13d 23h 54m 0s")],
    "PregateCertificateEnds": [([certificate(2 * DAY + 300)], (6,), POD, "1d 23h 59m 0s")],
    "PregateFilesNotReloaded": [
        ([files_in_force("1+0x5 0+0x9")], (8,), {**POD, "files": "tokens"}, "")],
    "PregateSpansDropped": [
        (spans(counter((0, 5), (1, 25)), counter((0, 5), (9, 25)), "0+10x30"), (16,), POD, "50%")],
}
# More than the budget for hours, over for 35 minutes, and a little of it again.
OVER = ((80, 360), (100, 35), (92, 16))
CALM = {
    "PregateStalled": [([running("0+0x9"), step_age("5+60x9")], 5),  # idle
                       ([running("2+0x9"), step_age("9+0x9")], 5)],  # long steps
    "PregateModelDown": [([build_info(GONE), build_info("1+0x20", OTHER_POD)], 9),
                         # A new pod loads the model for ten minutes.
                         ([up("0+0x9 1+0x20"), build_info("_x10 1+0x20")], 9),
                         ([up("0+0x40", STRANGER)], 40)],
    "PregateTargetDown": [([up("1+0x5 0+0x20", STRANGER), BUILD], 12),
                          # The pod is gone, and so is its target.
                          ([up(GONE), build_info(GONE)], 12),
                          ([up("0+0x9 1+0x20"), build_info("_x10 1+0x20")], 9)],
    "PregateRestarted": [([started("1000 1001 1000 1001+0x20"), BUILD], 10),  # clocks tremble
                         ([started("1000+0x5 2000+0x20", STRANGER), BUILD], 10)],
    "PregateCrashLooping": [([started("1000 1001 1000 1001 1000 1001+0x20"), BUILD], 10),
                            ([started("1000 1001 1000 2000+0x20"), BUILD], 10),  # one restart
                            ([started("1000+1x40"), BUILD], 40),  # the clock is slewed
                            ([started("1000+0x5 2000+0x20"), BUILD], 10)],
    "PregateAnswersFail": [([ended("0+0x20", "error"), ended("0+9x20", "abort")], 8),
                           ([ended("0+0x20", "error"), ended("0+0x20", "stop")], 8),  # idle
                           # Four in the night.
                           ([ended(counter((0, 5), (1, 4), (0, 20)), "error")], 11)],
    "PregateShedding": [([refused("0+9x30", "draining"), refused("0+9x30", "invalid"),
                          refused("0+0x30", "queue_full"), ended("0+9x30", "stop")], 15),
                        # A burst that is over.
                        ([refused("0+9x2 18+0x30", "queue_full"), ended("0+9x30", "stop")], 15)],
    "PregateKvCacheFull": [([kv_usage("0.95+0x30"), waiting("0+0x30")], 15),
                           ([kv_usage("0.8+0x30"), waiting("3+0x30")], 15)],
    "PregatePreempting": [([preempted("0+1x30")], 15)],
    "PregateExpertStall": [(stalled((5, 30)), 15)],
    "PregateFirstTokenBurn": [
        (first_tokens("0+92x90", "0+100x90"), 20),
        (first_tokens(counter((10, 60), (8, 20)), "0+10x90"), 80),  # for 20 minutes
        (first_tokens(counter((8, 60), (10, 30)), "0+10x90"), 70),  # it is over
        (first_tokens("0+0x90", "0+0x30 1+0x60"), 40)],  # one slow answer in the night
    "PregateFirstTokenSlowBurn": [
        (first_tokens("0+95x90", "0+100x90"), 20),
        (first_tokens("0+0x90", "0+0.2x90"), 30)],  # twelve answers an hour
    "PregateTokenGapBurn": [(gaps("0+92x90", "0+100x90"), 20),
                            (gaps(counter((100, 60), (80, 20)), "0+100x90"), 80),
                            (gaps(counter((80, 60), (100, 30)), "0+100x90"), 70),
                            (gaps("0+0x90", "0+5x90"), 30)],  # 300 tokens an hour
    "PregateTokenGapSlowBurn": [(gaps("0+95x90", "0+100x90"), 20),
                                (gaps("0+0x90", "0+5x90"), 30)],
    "PregateCertificateExpires": [([certificate(30 * DAY)], 10)],
    "PregateCertificateEnds": [([certificate(10 * DAY)], 10)],
    "PregateFilesNotReloaded": [([files_in_force("1+0x9")], 8)],
    "PregateSpansDropped": [(spans("0+0x30", "0+0x30", "0+600x30"), 25),
                            (spans("0+1x30", "0+1x30", "0+600x30"), 25),  # a few
                            (spans("7+0x30", "9+0x30", "5+0x30"), 25),  # it is over
                            # A collector that was away for a moment.
                            (spans("0+0x30", "0+0x9 90+0x30", "0+9x30"), 18)],
}
# Calm of both slow burns, by (how many of a hundred are good, for how many minutes), and the minutes
# to look; looked at every five minutes, to be quick.
SLOW_CALM = [
    (((100, 360), (92, 60)), (420,)),  # an hour of it is no six
    (OVER, (394, 411)),
]

# Recorded series by the values that they must have: (series, record, when, labels, value).
RECORDED = [
    ([waiting("3+0x9"), series("pregate_num_requests_waiting", "4+0x9", OTHER_POD)],
     "pregate:requests_waiting:sum", "5m", MODEL, 7),
    ([series("pregate_generation_tokens_total", "0+60x9")], "pregate:generation_tokens:rate5m", "8m",
     MODEL, 1),
    (stalled((20, 30)), "pregate:engine_busy:ratio_rate5m", "10m", POD, 50 / 60),
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


def alert_case(alert, inputs, expected):
    """`expected`: of each minute to look, the alerts."""
    return {"interval": "1m", "input_series": inputs, "name": alert,
            "alert_rule_test": [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": alerts}
                                for minute, alerts in expected.items()]}


def slow_cases():
    for shares, minutes in SLOW_CALM:
        every = counter(*((100, length) for _, length in shares))
        good = counter(*shares)
        for alert, inputs in (("PregateFirstTokenSlowBurn", first_tokens(good, every)),
                              ("PregateTokenGapSlowBurn", gaps(good, every))):
            yield alert_case(alert, inputs, {minute: [] for minute in minutes})


def all_cases():
    for alert, incidents in FIRES.items():
        for inputs, minutes, labels, value in incidents:
            fired = [{"exp_labels": {**labels, **ALERTS[alert]["labels"]},
                      "exp_annotations": annotations_of(alert, labels, value)}]
            yield alert_case(alert, inputs,
                             {minutes[0] - 1: [], **{minute: fired for minute in minutes}})
    for alert, cases in CALM.items():
        for inputs, minute in cases:
            yield alert_case(alert, inputs, {minute: []})
    for inputs, record, when, labels, value in RECORDED:
        matchers = ", ".join(f'{key}="{text}"' for key, text in sorted(labels.items()))
        # promtool compares to the last digit, so that what is divided is rounded.
        yield {"interval": "1m", "input_series": inputs, "promql_expr_test": [{
            "expr": f"round({record} * 1e6)", "eval_time": when,
            "exp_samples": [{"labels": f"{{{matchers}}}", "value": round(value * 1e6)}]}]}


def promtool(*arguments):
    environment = {**os.environ, "TMPDIR": str(MEMORY)} if os.access(MEMORY, os.W_OK) else None
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True,
                          env=environment, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def run_cases(cases, every="1m"):
    """What promtool says of them, the rules being evaluated so often."""
    with tempfile.TemporaryDirectory(prefix="pregate-rules-") as folder:
        file = pathlib.Path(folder) / "cases.yaml"
        file.write_text(json.dumps({
            "rule_files": [str(RULES / "recording.yaml"), str(RULES / "alerts.yaml")],
            "evaluation_interval": every, "group_eval_order": GROUPS, "tests": list(cases)}),
                        encoding="utf-8")
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
        for cases, every in ((all_cases(), "1m"), (slow_cases(), "5m")):
            status, text = run_cases(cases, every)
            self.assertEqual(status, 0, text)

    def test_a_wrong_expectation_is_found(self):
        inputs, minutes, _, _ = FIRES["PregateStalled"][0]
        self.assertNotEqual(
            run_cases([alert_case("PregateStalled", inputs, {minutes[0]: []})])[0], 0)

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
