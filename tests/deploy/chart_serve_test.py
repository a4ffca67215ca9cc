"""From what Helm renders to what serves: the container's command line run as the chart writes it (what
is mapped, and what is not there, is said in chart_pod.py), its probes asked, its hook run, its end
timed; the commands of NOTES.txt and of the pod of `helm test` as well."""

import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/server"))
# pylint: disable=wrong-import-position
from certificates import Certificates  # noqa: E402
from chart_pod import Origin, Pod, pod_of  # noqa: E402
from helm_chart import CHART, NAMESPACE, flags, notes, of_kind, render, server  # noqa: E402
from serve_harness import BINARY, SKIPPED, sample_model  # noqa: E402

HOST = f"test-pregate-smollm2.{NAMESPACE}.svc"
TOKEN, NEW_TOKEN = "caller-0123456789abcdef", "another-0123456789abcdef"
ORIGIN = "https://huggingface.co"
MEBIBYTE = 1 << 20


class Client:
    """Of a pod's HTTP port."""

    def __init__(self, pod, token=None, context=None):
        self.pod, self.token, self.context = pod, token, context

    def connect(self):
        port = self.pod.names["http"]
        if self.context is None:
            return http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=120, context=self.context)

    def post(self, **body):
        """Starts a completion; the response."""
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = self.connect()  # closed with the response
        try:
            connection.request("POST", "/v1/completions", json.dumps(
                {"prompt": "Once upon a time", "temperature": 0, "ignore_eos": True, **body}), headers)
            return connection.getresponse()
        except OSError:
            connection.close()
            raise

    def status(self, **body):
        """Of a short completion; None when no connection came about."""
        try:
            response = self.post(max_tokens=2, **body)
            response.read()
            return response.status
        except OSError:
            return None


class Stream:
    """A streamed completion, read on a thread of its own."""

    def __init__(self, client, max_tokens):
        self.events, self.first = [], threading.Event()
        self.thread = threading.Thread(target=self._read, args=(client, max_tokens), daemon=True)
        self.thread.start()

    def _read(self, client, max_tokens):
        try:
            for line in client.post(max_tokens=max_tokens, stream=True,
                                    stream_options={"include_usage": True}):
                if line.startswith(b"data: "):
                    self.events.append(line[6:].strip().decode())
                    self.first.set()
        except OSError as error:
            self.events.append(f"cut: {error}")

    def is_running(self):
        return self.thread.is_alive() and "[DONE]" not in self.events

    def result(self):
        """(tokens, how it finished, whether it was closed in order)."""
        self.thread.join(120)
        answers = [json.loads(event) for event in self.events if event.startswith("{")]
        usage = next(answer["usage"] for answer in reversed(answers) if answer.get("usage"))
        finish = [choice["finish_reason"] for answer in answers for choice in answer["choices"]
                  if choice.get("finish_reason")]
        return usage["completion_tokens"], finish, self.events[-1] == "[DONE]"


FAKE_KUBECTL = """#!{python}
# Answers what NOTES.txt asks, of the secrets of the test: get secret NAME -o jsonpath={{.data.KEY}}
import base64, pathlib, sys
words = sys.argv[1:]
assert words[:2] == ["-n", "{namespace}"], words
if words[2:4] == ["get", "secret"]:
    key = words[6].removeprefix("jsonpath={{.data.").removesuffix("}}").replace("\\\\.", ".")
    file = pathlib.Path("{secrets}") / words[4] / key
    print(base64.b64encode(file.read_bytes()).decode(), end="")
else:
    assert words[2] in ("rollout", "port-forward"), words
"""


class Served(unittest.TestCase):
    """Starts pods."""

    @classmethod
    def setUpClass(cls):
        cls.origin = Origin({sample_model().name: sample_model().read_bytes()})
        cls.origin.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.origin.__exit__()

    def pod(self, manifests, **more):
        pod = Pod(pod_of(manifests), BINARY.parent, hosts=((ORIGIN, self.origin.url),), **more)
        self.addCleanup(pod.close)
        return pod

    def asked_from_inside(self, pod, manifests, **more):
        """Runs the pod of `helm test` against the server; what it writes."""
        spec = pod_of(manifests, "Pod")
        name = of_kind(manifests, "Deployment")[0]["metadata"]["name"]
        target = f"{name}.{NAMESPACE}.svc"
        asking = Pod(spec, BINARY.parent,
                     hosts=((f"{target}:8001", f"localhost:{pod.names['grpc']}"),), **more)
        self.addCleanup(asking.close)
        status, output = asking.run(spec["containers"][0])
        self.assertEqual(status, 0, output)
        return output.strip()

    def do_as_the_notes_say(self, pod, secrets=None, answer="data: [DONE]", **render_with):
        """Runs the commands that are printed after an install, with kubectl's part played."""
        text = notes(**render_with)
        commands = re.search(r"^  kubectl (?:.*\n)+?    -d '.*$", text, re.MULTILINE)[0]
        commands = commands.replace(":8000/v1", f":{pod.names['http']}/v1")
        with tempfile.TemporaryDirectory() as folder:
            work = pathlib.Path(folder)
            for name, content in (secrets or {}).items():
                (work / "secrets" / name).mkdir(parents=True)
                for key, value in content.items():
                    (work / "secrets" / name / key).write_bytes(value)
            kubectl = work / "kubectl"
            kubectl.write_text(FAKE_KUBECTL.format(python=sys.executable, namespace=NAMESPACE,
                                                   secrets=work / "secrets"))
            kubectl.chmod(0o755)
            for name, key in (("client.crt", "tls.crt"), ("client.key", "tls.key")):
                if "helm-test-certificate" in (secrets or {}):
                    (work / name).write_bytes(secrets["helm-test-certificate"][key])
            run = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=folder, timeout=120,
                                 env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
                                 capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, f"{commands}\n{run.stderr}{run.stdout}")
        self.assertIn(answer, run.stdout, commands)
        return text

    @staticmethod
    def tokens_of(seconds, client):
        """About as many as are answered in that time here."""
        started = time.monotonic()
        client.post(max_tokens=32).read()
        return 32 + int(32 * seconds / (time.monotonic() - started))

    def ends_well(self, pod, client):
        """preStop, SIGTERM, and what is promised of the time until the end."""
        max_tokens = self.tokens_of(6, client)
        grace = pod.spec["terminationGracePeriodSeconds"]
        delay = int(flags(server(pod.spec))["shutdown-delay"].removesuffix("s"))
        stream = Stream(client, max_tokens)
        self.assertTrue(stream.first.wait(60))
        started = time.monotonic()
        pod.pre_stop()
        self.assertTrue(pod.passes("readinessProbe"), "ready until SIGTERM")
        self.assertTrue(stream.is_running(), "the stream is to be met by the signal")
        pod.terminate()
        signalled = time.monotonic()
        while pod.passes("readinessProbe"):
            self.assertLess(time.monotonic() - signalled, min(delay, 2), "ready after SIGTERM")
            time.sleep(0.02)
        self.assertEqual(client.status(), 200, "served until balancers know")
        self.assertLess(time.monotonic() - signalled, delay)
        self.assertTrue(pod.passes("livenessProbe"), "alive while it drains")
        self.assertEqual(stream.result(), (max_tokens, ["length"], True))
        while time.monotonic() - signalled < delay + 0.3 and pod.process.poll() is None:
            time.sleep(0.05)
        self.assertIn(client.status(), (503, None))
        status = pod.process.wait(max(0, grace - (time.monotonic() - started)))
        self.assertEqual(status, 0, pod.messages())
        self.assertGreater(time.monotonic() - signalled, delay - 0.1)

    def test_default_values(self):
        manifests = render()
        pod = self.pod(manifests)
        before = len(self.origin.asked)
        pod.start()
        status, output = pod.run(pod.spec["initContainers"][0])  # again: there is nothing to fetch
        self.assertEqual((status, len(self.origin.asked)), (0, before + 1), output)
        for probe in ("readinessProbe", "livenessProbe"):
            self.assertTrue(pod.passes(probe), probe)
        client = Client(pod)
        answer = json.loads(client.post(max_tokens=16, prompt="The capital of France is").read())
        self.assertIn("Paris", answer["choices"][0]["text"])
        self.assertEqual(answer["model"], "smollm2")
        self.assertTrue(self.asked_from_inside(pod, manifests))
        text = self.do_as_the_notes_say(pod)
        self.assertIn("No tokens (auth.existingSecret)", text)
        # As the image's user, with memory as requested, and what is said as JSON.
        status = pathlib.Path(f"/proc/{pod.process.pid}/status").read_text(encoding="utf-8")
        if os.geteuid() == 0:
            self.assertRegex(status, r"Uid:\t65532\t65532\t65532\t65532\n")
        limit = server(pod.spec)["resources"]["limits"]["memory"]
        self.assertEqual(limit, "1Gi")
        self.assertLess(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024, 1024 * MEBIBYTE)
        self.assertTrue([line for line in pod.messages().splitlines() if line.startswith("{") and
                         json.loads(line)["status"] == "OK"])
        address = f"http://127.0.0.1:{pod.names['metrics']}/metrics"
        page = urllib.request.urlopen(address, timeout=10).read().decode()
        self.assertIn("\nvllm:num_requests_waiting{", page)
        self.assertIn("\npregate_num_requests_waiting ", page)
        self.ends_well(pod, client)

    def test_client_certificates_tokens_and_a_hook(self):
        files = Certificates()
        self.addCleanup(files.folder.cleanup)
        for authority in ("ca", "client-ca"):
            files.authority(authority)
        files.certificate("server", "ca", hosts=[HOST])
        files.certificate("client", "client-ca")
        secrets = {
            "callers": {"tokens.txt": f"# callers\nfirst:{TOKEN}\n".encode()},
            "server-certificate": {"tls.crt": files.read("server.pem"),
                                   "tls.key": files.read("server.key"), "ca.crt": files.read("ca.pem")},
            "client-authorities": {"authorities.pem": files.read("client-ca.pem")},
            "helm-test-certificate": {"tls.crt": files.read("client.pem"),
                                      "tls.key": files.read("client.key")},
        }
        values = {"file": CHART / "ci/mtls-values.yaml"}
        manifests = render(**values)
        pod = self.pod(manifests, secrets=secrets)
        pod.start()
        for probe in ("readinessProbe", "livenessProbe"):
            self.assertTrue(pod.passes(probe), probe)  # which have neither certificate nor token
        self.assertNotRegex(pod.messages(), r"every user of this machine can read|no TLS \(")
        self.assertNotIn(TOKEN, pod.messages())
        for word in server(pod.spec)["args"]:
            self.assertNotIn(TOKEN, word)
        trust = ssl.create_default_context(cadata=files.read("ca.pem").decode())
        self.assertIsNone(Client(pod, TOKEN, trust).status())
        trust.load_cert_chain(files.path("client.pem"), files.path("client.key"))
        client = Client(pod, TOKEN, trust)
        self.assertEqual(Client(pod, None, trust).status(), 401)
        self.assertEqual(client.status(), 200)
        self.assertTrue(self.asked_from_inside(pod, manifests, secrets=secrets))
        self.assertNotIn("No tokens", self.do_as_the_notes_say(pod, secrets, **values))
        # A token is replaced as the kubelet replaces it: the new one counts, the old one does not.
        pod.replace_secret("tokens", {"tokens.txt": f"second:{NEW_TOKEN}\n".encode()})
        deadline = time.monotonic() + 10
        while Client(pod, NEW_TOKEN, trust).status() != 200:
            self.assertLess(time.monotonic(), deadline, pod.messages())
            time.sleep(0.1)
        self.assertEqual(client.status(), 401)
        self.assertEqual(server(pod.spec)["lifecycle"], {"preStop": {"sleep": {"seconds": 2}}})
        self.ends_well(pod, Client(pod, NEW_TOKEN, trust))

    def test_a_client_that_does_not_read_holds_nobody_up(self):
        manifests = render({"defaults": {"termination": {"shutdownDelaySeconds": 0,
                                                         "drainTimeoutSeconds": 1}}})
        pod = self.pod(manifests)
        pod.start()
        self.assertEqual(pod.spec["terminationGracePeriodSeconds"], 11)
        body = json.dumps({"prompt": "Once", "max_tokens": 8000, "ignore_eos": True, "stream": True})
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", pod.names["http"]))
            client.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
                           f"application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            client.recv(1)
            pod.terminate()
            self.assertEqual(pod.process.wait(11), 0, pod.messages())

    def test_an_encoder(self):
        try:
            model = sample_model("all-MiniLM-L6-v2", "minilm")
        except SystemExit:
            self.skipTest("no all-MiniLM-L6-v2")
        with tempfile.TemporaryDirectory() as folder:
            claim = pathlib.Path(folder)
            claim.chmod(0o755)
            shutil.copytree(model, claim / "minilm")
            values = {"models": [{"name": "minilm", "testPrompt": "", "source": {
                "existingClaim": {"name": "models", "path": "minilm"}}}]}
            manifests = render(values)
            pod = self.pod(manifests, claims={"models": claim})
            pod.start()
            self.assertEqual(self.asked_from_inside(pod, manifests), "")
            self.do_as_the_notes_say(pod, answer='"embedding":[', values=values)

    def test_experts_on_a_disk_of_the_pod(self):
        with tempfile.TemporaryDirectory() as folder:
            claim = pathlib.Path(folder)
            claim.chmod(0o755)
            shutil.copy(sample_model(), claim / "model.gguf")
            shutil.copytree(ROOT / "tests/testdata/read_me_smollm2", claim / "read-me")
            manifests = render({"models": [{
                "name": "read-me", "source": {"existingClaim": {"name": "models", "path": "model.gguf"}},
                "flags": {"read-me": "/models/read-me", "expert-storage": "copies",
                          "expert-cache-memory": "90MiB", "expert-batching": True},
                "expertCache": {"enabled": True, "size": "1Gi"}}]})
            pod = self.pod(manifests, claims={"models": claim})
            args = server(pod.spec)["args"]
            self.assertIn("--read-me=/models/read-me", args)
            self.assertIn("--expert-batching=on", args)
            pod.start()
            self.assertEqual(Client(pod).status(), 200)
            disk = str(pod.volumes["expert-cache"])
            files = subprocess.run(["ls", "-l", f"/proc/{pod.process.pid}/fd"], text=True,
                                   capture_output=True, check=False).stdout
            self.assertIn(f"-> {disk}/", files)


if __name__ == "__main__":
    sample_model()
    if shutil.which("curl") is None:
        print("SKIPPED: no curl; deploy/install_deps.sh --test installs it")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
