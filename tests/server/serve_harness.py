"""A real `pregate serve` with the SmolLM2 sample model, as clients that we did not write see it.

Every test of a ServedTest ends with the same check: the canary's answer is what it was, nothing is
running or waiting, every call that was made is counted as ended or refused, and it is the same
process.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import grpc
import grpc_tools
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = pathlib.Path(os.environ.get("PREGATE_BINARY", ROOT / "build/release/pregate"))
CLIENT = BINARY.parent / "pregate-client"
SKIPPED = 77  # ctest shows a test that exits so as skipped
CANARY = "The capital of France is"


def generated_stubs():
    """The messages and the client of pregate.v1, generated anew from the .proto file."""
    folder = tempfile.mkdtemp(prefix="pregate-stubs-")
    standard = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{standard}", f"--python_out={folder}",
                 f"--grpc_python_out={folder}"]
    files = ["pregate/v1/inference.proto", "google/rpc/error_details.proto"]
    if protoc.main(arguments + [str(ROOT / "proto" / name) for name in files]) != 0:
        raise RuntimeError("protoc failed")
    sys.path.insert(0, folder)
    from google.rpc import error_details_pb2  # pylint: disable=import-outside-toplevel
    from pregate.v1 import inference_pb2, inference_pb2_grpc
    return inference_pb2, inference_pb2_grpc, error_details_pb2


def sample_model(file="SmolLM2-135M-Instruct.Q4_1.gguf", name="smollm2"):
    """Path of a sample model; ends the test run as skipped when it is not there."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    folder = pathlib.Path(os.environ.get("PREGATE_MODELS", cache / "pregate" / "models"))
    path = folder / file
    if not path.exists():
        print(f"SKIPPED: no {path.name}; deploy/fetch_model.sh {name} fetches it")
        sys.exit(SKIPPED)
    return path


pb, pb_grpc, details_pb = generated_stubs()


class Server:
    """A server process on free loopback ports."""

    def __init__(self, *flags, model=None, name="smollm2"):
        self.log = tempfile.NamedTemporaryFile("w+", prefix="pregate-serve-", suffix=".log")
        self.process = subprocess.Popen(
            [BINARY, "serve", model or sample_model(), "--served-model-name", name,
             "--port", "0", "--grpc-port", "0", "--metrics-port", "0", *flags], stderr=self.log)
        self.http_port = int(self._wait_for(r"^HTTP +https?://127\.0\.0\.1:(\d+)/v1"))
        self.grpc_port = int(self._wait_for(r"^gRPC +127\.0\.0\.1:(\d+)"))
        self.metrics_port = int(self._wait_for(r"^metrics +http://127\.0\.0\.1:(\d+)/metrics"))
        self.channel = self.new_channel()
        self.stub = pb_grpc.InferenceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def _wait_for(self, pattern):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = re.search(pattern, self.messages(), re.MULTILINE)
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"the server did not start:\n{self.messages()}")

    def messages(self):
        """What it has written to standard error."""
        return pathlib.Path(self.log.name).read_text(encoding="utf-8")

    def new_channel(self, *options):
        """A connection of its own."""
        return grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}",
                                     [("grpc.use_local_subchannel_pool", 1), *options])

    def metrics(self):
        """Values of /metrics by series, labels included."""
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10)
        values = {}
        for line in page.read().decode().splitlines():
            if line and not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                values[series] = float(value)
        return values

    def serving(self, service=""):
        """What health says of a service."""
        reply = self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        return reply.status == health_pb2.HealthCheckResponse.SERVING

    def signal(self, number=signal.SIGTERM):
        """Sends it a signal."""
        self.process.send_signal(number)

    def wait(self, timeout=60):
        """Its exit status, once it has ended."""
        return self.process.wait(timeout)

    def stop(self):
        """Ends it in order; the exit status."""
        self.channel.close()
        if self.process.poll() is None:
            self.signal()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Reply:
    """All that one call of Generate gave."""

    def __init__(self, call):
        self.messages, self.code, self.text_of_error = [], grpc.StatusCode.OK, ""
        try:
            for message in call:
                self.messages.append(message)
        except grpc.RpcError as error:
            self.code, self.text_of_error = error.code(), error.details()
        self.trailers = dict(call.trailing_metadata() or ())
        self.last = self.messages[-1] if self.messages else None

    def ids(self, index=0):
        return [i for m in self.messages if m.index == index for i in m.token_ids]

    def text(self, index=0):
        return b"".join(m.text for m in self.messages if m.index == index)

    def detail(self, kind):
        """The detail of the type `kind` that the status carries."""
        status = details_pb.Status.FromString(self.trailers["grpc-status-details-bin"])
        message = kind()
        if not any(any_.Unpack(message) for any_ in status.details):
            raise AssertionError(f"no {kind.DESCRIPTOR.full_name}")
        return message


def greedy(prompt=CANARY, max_tokens=16, **sampling):
    """A request whose answer is always the same."""
    request = pb.GenerateRequest(
        sampling=pb.SamplingParams(max_tokens=max_tokens, **{"temperature": 0.0, **sampling}))
    if isinstance(prompt, str):
        request.text = prompt.encode()
    else:
        request.token_ids.ids.extend(prompt)
        request.token_ids.SetInParent()
    return request


class ServedTest(unittest.TestCase):
    """Tests against one server, started for the class with FLAGS."""

    FLAGS = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.FLAGS)
        cls.expected_ends = 0  # answers and refusals that the metrics must show
        cls.canary = cls.ask(greedy()).ids()
        cls.pid = cls.server.process.pid

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        if status != 0:
            raise AssertionError(f"exit status {status}:\n{cls.server.messages()}")

    @classmethod
    def start(cls, request, counted=None, channel=None, **call):
        """Starts a call. `counted`: ends that the metrics will show; by default one an answer.
        `channel`: another than the test's own."""
        n = request.sampling.n if request.sampling.HasField("n") else 1
        cls.expected_ends += n if counted is None else counted
        stub = cls.server.stub if channel is None else pb_grpc.InferenceStub(channel)
        return stub.Generate(request, **{"timeout": 60, **call})

    @classmethod
    def ask(cls, request, **call):
        return Reply(cls.start(request, **call))

    def refused(self, request, code=grpc.StatusCode.INVALID_ARGUMENT, begins=""):
        """Asks what must be refused before anything is generated; the error's text."""
        reply = self.ask(request, counted=1)
        self.assertEqual(reply.code, code, reply.text_of_error)
        self.assertEqual(reply.messages, [])
        self.assertTrue(reply.text_of_error.startswith(begins), reply.text_of_error)
        self.assertNotRegex(reply.text_of_error, r"/(work|root|home|usr|tmp)/|0x[0-9a-f]{8}")
        if code == grpc.StatusCode.INVALID_ARGUMENT:
            self.assertRegex(reply.text_of_error, r"(?s)^[a-z_\[\]0-9.]+: .*must.*; got .+")
            violation = reply.detail(details_pb.BadRequest).field_violations[0]
            self.assertEqual(violation.field, reply.text_of_error.split(":")[0])
        return reply.text_of_error

    def ends(self):
        """Answers that have ended and refusals, so far."""
        return sum(value for series, value in self.server.metrics().items()
                   if series.startswith(("pregate_request_success_total{",
                                         "pregate_requests_rejected_total{")))

    def settled(self):
        values = self.server.metrics()
        return (values["pregate_num_requests_running"] == 0 and
                values["pregate_num_requests_waiting"] == 0 and
                values["pregate_kv_cache_usage_perc"] == 0 and
                self.ends() == type(self).expected_ends)

    def tearDown(self):
        deadline = time.monotonic() + 30
        while not self.settled() and time.monotonic() < deadline:
            time.sleep(0.02)
        values = self.server.metrics()
        self.assertEqual(values["pregate_num_requests_running"], 0)
        self.assertEqual(values["pregate_num_requests_waiting"], 0)
        self.assertEqual(values["pregate_kv_cache_usage_perc"], 0)
        ends, expected = self.ends(), type(self).expected_ends
        type(self).expected_ends = ends  # one miscount fails one test
        self.assertEqual(ends, expected)
        self.assertEqual(self.ask(greedy()).ids(), self.canary)
        self.assertIsNone(self.server.process.poll())
        self.assertEqual(self.server.process.pid, self.pid)
        self.assertNotRegex(self.server.messages(), r"Sanitizer|terminate called|[Aa]ssertion")
