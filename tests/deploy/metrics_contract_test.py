"""The metrics that other programs are written against, read off the page of a live server: names,
types, label sets, edges of buckets, and what gateways' endpoint pickers require.

A Read-ME model whose experts do not fit has all of them.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/server"))
# pylint: disable=wrong-import-position
from serve_harness import Server  # noqa: E402

NAME = "contract-model"

# Edges of vLLM's histograms of the same names.
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
               20, 40, 80, 160, 640, 2560)
TOKEN_GAP = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20,
             40, 80)
LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920,
           7680)
LENGTH = tuple(mantissa * 10 ** power for power in range(7) for mantissa in (1, 2, 5)
               if mantissa * 10 ** power <= 8192)  # up to the longest context
STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

FINISHED = ("stop", "length", "abort", "deadline", "error", "drain")
REJECTED = ("invalid", "queue_full", "draining", "not_found", "unimplemented", "unauthenticated")
CAUSES = ("known", "guessed", "demand")

# (name, type, {label: its values}, edges that must be there). Those with vLLM's names:
SHARED = (
    ("num_requests_waiting", "gauge", {}, ()),
    ("num_requests_running", "gauge", {}, ()),
    ("kv_cache_usage_perc", "gauge", {}, ()),
    ("cache_config_info", "gauge", {"block_size": r"[1-9]\d*", "num_gpu_blocks": r"[1-9]\d*"}, ()),
    ("time_to_first_token_seconds", "histogram", {}, FIRST_TOKEN),
    ("inter_token_latency_seconds", "histogram", {}, (0.001, *TOKEN_GAP)),
    ("request_time_per_output_token_seconds", "histogram", {}, TOKEN_GAP),
    ("e2e_request_latency_seconds", "histogram", {}, LATENCY),
    ("request_queue_time_seconds", "histogram", {}, (0.005, *LATENCY)),
    ("request_prefill_time_seconds", "histogram", {}, LATENCY),
    ("request_decode_time_seconds", "histogram", {}, LATENCY),
    ("request_prompt_tokens", "histogram", {}, LENGTH),
    ("request_generation_tokens", "histogram", {}, LENGTH),
    ("iteration_tokens_total", "histogram", {}, STEP_TOKENS),
    ("prompt_tokens_total", "counter", {}, ()),
    ("generation_tokens_total", "counter", {}, ()),
    ("request_success_total", "counter", {"finished_reason": FINISHED}, ()),
    ("num_preemptions_total", "counter", {}, ()),
    ("prefix_cache_queries_total", "counter", {}, ()),
    ("prefix_cache_hits_total", "counter", {}, ()),
    ("spec_decode_num_drafts_total", "counter", {}, ()),
    ("spec_decode_num_draft_tokens_total", "counter", {}, ()),
    ("spec_decode_num_accepted_tokens_total", "counter", {}, ()),
)
OWN = (
    ("requests_rejected_total", "counter", {"reason": REJECTED}, ()),
    ("step_seconds", "histogram", {"phase": ("pregate", "plan", "execute", "sample", "commit")},
     (1e-5, 0.001, 1)),
    ("step_rows", "histogram", {}, (1, 512)),
    ("last_step_age_seconds", "gauge", {}, ()),
    ("overloaded", "gauge", {}, ()),
    ("build_info", "gauge", {"version": r"\d+\.\d+\.\d+"}, ()),
    ("tls_handshakes_failed_total", "counter", {"listener": ("grpc", "http")}, ()),
)
EXPERTS = (
    ("expert_cache_requests_total", "counter", {"outcome": ("hit", "late", "miss")}, ()),
    ("expert_loads_total", "counter", {"cause": CAUSES}, ()),
    ("expert_load_bytes_total", "counter", {"cause": CAUSES}, ()),
    ("expert_wasted_bytes_total", "counter", {"cause": CAUSES}, ()),
    ("expert_stall_seconds_total", "counter", {}, ()),
    ("distinct_experts_per_step", "histogram", {}, (1, 2, 3, 4, 5, 6, 7, 8)),
    ("expert_rows_total", "counter", {"expert": tuple("0123456")}, ()),
    ("expert_lookahead_steps", "histogram", {}, (0, 1, 2)),
    ("expert_shadow_hit_ratio", "gauge",
     {"policy": ("random", "lru", "lfu", "static", "belady_offline")}, ()),
    ("expert_floor_hit_ratio", "gauge", {}, ()),
)
PROCESS = (("process_cpu_seconds_total", "counter"), ("process_resident_memory_bytes", "gauge"),
           ("process_virtual_memory_bytes", "gauge"), ("process_start_time_seconds", "gauge"),
           ("process_open_fds", "gauge"), ("process_max_fds", "gauge"))

# What endpoint pickers of the Gateway API inference extension read of servers of vLLM's kind.
GATEWAY = ("vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc",
           "vllm:cache_config_info")
VLLM_LABELS = {"model_name": (NAME,), "engine": ("0",)}

# What promtool finds on the page and stays: vLLM's names, which are the point of having them.
UNAVOIDABLE = re.compile(
    r"vllm:\w+ metric names should not contain ':'"
    r'|(pregate_|vllm:)iteration_tokens_total non-counter metrics should not have "_total" suffix')


class Page:
    """A page in Prometheus' text format, taken apart."""

    def __init__(self, text):
        self.text = text
        self.types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        self.helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
        self.samples = {}  # by name: [(labels, value)]
        for name, labels, value in re.findall(r"^([a-z_:0-9]+)(?:\{(.*)\})? (\S+)$", text,
                                              re.MULTILINE):
            found = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))
            self.samples.setdefault(name, []).append((found, float(value)))


def read(server):
    address = f"http://127.0.0.1:{server.metrics_port}/metrics"
    with urllib.request.urlopen(address, timeout=10) as reply:
        return Page(reply.read().decode())


def ask(server, **fields):
    body = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0, **fields}
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.http_port}/v1/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-Request-Id": "contract-request"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


class MetricsContractTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        flags = ("--read-me", str(ROOT / "tests/testdata/read_me_smollm2"), "--expert-storage",
                 "copies", "--expert-cache-memory", "90MiB", "--metrics-compat", "vllm")
        cls.server = Server(*flags, name=NAME)
        cls.addClassCleanup(cls.server.stop)
        for seed in range(3):
            ask(cls.server, seed=seed, user="contract-user")
        try:
            ask(cls.server, model="contract-stranger")
        except urllib.error.HTTPError as error:
            assert error.code == 404, error
        cls.page = read(cls.server)

    def check_family(self, page, prefix, family, more_labels=None):
        name, kind, labels, edges = family
        labels = {**labels, **(more_labels or {})}
        name = prefix + name
        self.assertEqual(page.types.get(name), kind, name)
        self.assertTrue(page.helps.get(name), name)
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        for part in parts:
            names = set(labels) | ({"le"} if part == "_bucket" else set())
            samples = page.samples[name + part]
            for found, value in samples:
                self.assertEqual(set(found), names, name + part)
                self.assertGreaterEqual(value, 0, name + part)
            for label, values in labels.items():
                found = {sample[label] for sample, _ in samples}
                if isinstance(values, str):
                    self.assertRegex("\n".join(found), f"^(?:{values})$", name)
                else:
                    self.assertEqual(found, set(values), name)
        if kind == "histogram":
            self.check_buckets(page, name, edges)

    def check_buckets(self, page, name, edges):
        by_labels = {}
        for labels, value in page.samples[f"{name}_bucket"]:
            key = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
            by_labels.setdefault(key, []).append((labels["le"], value))
        counts = {tuple(sorted(labels.items())): value
                  for labels, value in page.samples[f"{name}_count"]}
        self.assertEqual(by_labels.keys(), counts.keys(), name)
        for key, buckets in by_labels.items():
            found = [float(edge) for edge, _ in buckets]
            self.assertEqual(buckets[-1][0], "+Inf", name)
            self.assertEqual(found, sorted(set(found)), name)
            self.assertFalse(set(edges) - set(found), f"{name} lacks edges")
            values = [value for _, value in buckets]
            self.assertEqual(values, sorted(values), name)
            self.assertEqual(values[-1], counts[key], name)

    def test_our_names(self):
        for family in (*SHARED, *OWN, *EXPERTS):
            with self.subTest(name=family[0]):
                self.check_family(self.page, "pregate_", family)
        for name, kind in PROCESS:
            self.assertEqual(self.page.types.get(name), kind, name)

    def test_vllms_names_are_there_on_request_with_its_labels_and_the_same_values(self):
        for family in SHARED:
            with self.subTest(name=family[0]):
                self.check_family(self.page, "vllm:", family, VLLM_LABELS)
        self.assertEqual({name for name in self.page.types if name.startswith("vllm:")},
                         {f"vllm:{family[0]}" for family in SHARED})
        for name, samples in self.page.samples.items():
            if name.startswith("vllm:"):
                own = [({k: v for k, v in labels.items() if k not in VLLM_LABELS}, value)
                       for labels, value in samples]
                self.assertEqual(own, self.page.samples[name.replace("vllm:", "pregate_")], name)

    def test_what_gateways_require(self):
        for name in GATEWAY:
            self.assertEqual(self.page.types[name], "gauge")
            self.assertEqual(len(self.page.samples[name]), 1, name)
        usage = self.page.samples["vllm:kv_cache_usage_perc"][0][1]
        self.assertTrue(0 <= usage <= 1)

    def test_what_was_asked_is_counted(self):
        self.assertEqual(self.page.samples["pregate_e2e_request_latency_seconds_count"], [({}, 3)])
        self.assertEqual(self.page.samples["pregate_generation_tokens_total"], [({}, 24)])
        self.assertIn(({"reason": "not_found"}, 1),
                      self.page.samples["pregate_requests_rejected_total"])
        self.assertIn(({"finished_reason": "length"}, 3),
                      self.page.samples["pregate_request_success_total"])

    def test_no_word_of_a_client_is_on_the_page(self):
        for word in ("contract-user", "contract-stranger", "contract-request"):
            self.assertNotIn(word, self.page.text)

    def test_promtool_finds_nothing_but_vllms_names(self):
        if shutil.which("promtool") is None:
            self.skipTest("no promtool")
        done = subprocess.run(["promtool", "check", "metrics"], input=self.page.text, text=True,
                              capture_output=True, timeout=60, check=False)
        findings = (done.stdout + done.stderr).splitlines()
        self.assertTrue(findings)
        self.assertEqual([line for line in findings if not UNAVOIDABLE.fullmatch(line)], [])

    def test_a_dense_server_has_neither_experts_nor_vllms_names_by_default(self):
        server = Server(name=NAME)
        self.addCleanup(server.stop)
        ask(server)
        page = read(server)
        for family in (*SHARED, *OWN):
            self.check_family(page, "pregate_", family)
        self.assertNotIn("expert", page.text)
        self.assertNotIn("vllm", page.text)


if __name__ == "__main__":
    unittest.main()
