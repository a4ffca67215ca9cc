"""Two loaded servers and a real Prometheus that scrapes them and evaluates the chart's rules.

One server has a dense model, TLS and tokens; the other a Read-ME model whose experts do not fit in
their memory. As a program it makes the pictures of the dashboards' README:
    build/venv/bin/python tests/deploy/live_prometheus.py --pictures deploy/dashboards
"""

import argparse
import http.server
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/server"))
# pylint: disable=wrong-import-position
from certificates import Certificates  # noqa: E402
from serve_harness import SKIPPED, Server  # noqa: E402

RULES = ROOT / "deploy/chart/pregate/rules"
TOKEN = "operator-0123456789abcdef"
JOB = "pregate"
NAMESPACE = "llm"
DENSE, READ_ME = MODELS = ("smollm2", "smollm2-read-me")


def pod_of(model):
    """A pod's name as the chart's Deployment of a model gives it."""
    return f"test-pregate-{model}-7d4b9c6f5-x8k2p"



DENSE_FLAGS = ("--metrics-compat", "vllm", "--max-num-seqs", "6", "--max-num-queued-reqs", "12",
               "--draft-tokens", "3", "--kv-cache-memory", "7MiB", "--threads", "1")
READ_ME_FLAGS = ("--metrics-compat", "vllm", "--read-me",
                 str(ROOT / "tests/testdata/read_me_smollm2"), "--expert-storage", "copies",
                 "--expert-cache-memory", "90MiB", "--max-num-seqs", "8", "--threads", "1")

PROMPTS = (
    "The capital of France is",
    "Write the list again. one two three one two three one two three one two three one two",
    "Once upon a time there was a small house at the edge of the forest, where an old man lived "
    "with his cat and his dog, and every morning he went out to look for wood. One morning",
    "Water boils at a temperature of",
)


def skip_unless_installed():
    """Ends the test run as skipped where there is no Prometheus."""
    if shutil.which("prometheus") is None:
        print("SKIPPED: no prometheus; deploy/install_deps.sh --test installs it")
        sys.exit(SKIPPED)


class Prometheus:
    """A real one, on a free port of loopback, that scrapes every two seconds. `targets`: labels and
    address of each."""

    def __init__(self, targets):
        self.folder = tempfile.TemporaryDirectory(prefix="pregate-prometheus-")
        folder = pathlib.Path(self.folder.name)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        config = {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES / "recording.yaml"), str(RULES / "alerts.yaml")],
            "scrape_configs": [{"job_name": JOB, "static_configs": [
                {"labels": labels, "targets": [address]} for labels, address in targets]}],
        }
        (folder / "prometheus.yaml").write_text(json.dumps(config), encoding="utf-8")
        self.log = open(folder / "log", "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yaml'}",
             f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}"],
            stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 30
        while not self._is_ready():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"Prometheus did not start:\n{(folder / 'log').read_text()}")
            time.sleep(0.1)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _is_ready(self):
        try:
            return urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def get(self, path, **parameters):
        """The data of an answer of its API. What it refuses is an error that says why."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(error.read().decode()) from error

    def query(self, expression):
        """The samples that an expression has now: [(labels, value)]."""
        data = self.get("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()
        self.folder.cleanup()


class Load:
    """Clients that ask one server again and again, over HTTP, until told to stop. With more than
    the queue holds some are refused, and ask again at once."""

    def __init__(self, server, clients, tls=False, max_tokens=24):
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.http_port}/v1/completions"
        self.context = ssl._create_unverified_context() if tls else None  # pylint: disable=W0212
        self.max_tokens = max_tokens
        self.answered = self.refused = 0
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._ask_on, args=(number,), daemon=True)
                        for number in range(clients)]
        for thread in self.threads:
            thread.start()

    def _ask_on(self, number):
        while not self.stopped.is_set():
            body = {"prompt": PROMPTS[number % len(PROMPTS)], "max_tokens": self.max_tokens,
                    "temperature": 0.0 if number % 2 else 1.0, "stream": True, "seed": number}
            number += 1
            request = urllib.request.Request(
                self.url, json.dumps(body).encode(),
                {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"})
            try:
                with urllib.request.urlopen(request, timeout=60, context=self.context) as reply:
                    reply.read()
                with self.lock:
                    self.answered += 1
            except urllib.error.HTTPError as error:
                if error.code != 429:
                    raise
                with self.lock:
                    self.refused += 1
                time.sleep(0.2)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


class Collector(http.server.BaseHTTPRequestHandler):
    """A collector of traces that takes everything."""

    def do_POST(self):  # pylint: disable=invalid-name
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass


class Lab:
    """Both servers, a collector of the traces of one, and the Prometheus. Use in a with statement."""

    def __enter__(self):
        self.collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
        threading.Thread(target=self.collector.serve_forever, daemon=True).start()
        self.certificates = Certificates()
        self.certificates.authority("ca")
        self.certificates.certificate("server", "ca", days=90)
        self.certificates.write("tokens", f"operator:{TOKEN}\n".encode())
        path = self.certificates.path
        self.dense = Server(*DENSE_FLAGS, "--ssl-certfile", path("server.pem"), "--ssl-keyfile",
                            path("server.key"), "--api-key-file", path("tokens"), "--otlp-traces-endpoint",
                            f"http://127.0.0.1:{self.collector.server_port}", name=DENSE)
        self.read_me = Server(*READ_ME_FLAGS, name=READ_ME)
        self.prometheus = Prometheus([
            ({"namespace": NAMESPACE, "model": model, "pod": pod_of(model)},
             f"127.0.0.1:{server.metrics_port}")
            for model, server in zip(MODELS, (self.dense, self.read_me))])
        return self

    def __exit__(self, *error):
        self.prometheus.stop()
        self.dense.stop()
        self.read_me.stop()
        self.collector.shutdown()

    def load(self, dense_clients, read_me_clients):
        return [Load(self.dense, dense_clients, tls=True), Load(self.read_me, read_me_clients)]


def main():
    """Runs calm, load, overload and calm again, and draws what the dashboards show of it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=240)
    parser.add_argument("--pictures", type=pathlib.Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    skip_unless_installed()
    with Lab() as lab:
        start = time.time()
        for dense_clients, read_me_clients in ((1, 1), (4, 4), (24, 12), (1, 1)):
            loads = lab.load(dense_clients, read_me_clients)
            time.sleep(options.seconds / 4)
            for load in loads:
                load.stop()
        for board in ("overview", "experts", "scheduler"):
            subprocess.run(
                [sys.executable, ROOT / "deploy/dashboards/picture.py", lab.prometheus.url,
                 options.pictures / f"{board}.png", "--start", str(start), "--end",
                 str(time.time()), "--board", board],
                check=True, env={**os.environ, "MPLBACKEND": "agg"})


if __name__ == "__main__":
    main()
