"""Two replicas behind HAProxy with deploy/proxy/haproxy.cfg, replaced one after the other under load
as Kubernetes does it (SIGTERM, exit, a new one, ready): no request fails, no answer loses a token.

Clients never ask twice. What they saw is compared with what the replicas say of themselves.
"""

import collections
import http.client
import http.server
import itertools
import json
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import grpc

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/server"))
from serve_harness import (  # pylint: disable=wrong-import-position
    SKIPPED, Server, greedy, pb_grpc, sample_model)

CONFIG = ROOT / "deploy/proxy/haproxy.cfg"
PROMPT = "The capital of France is"
# Of answers, in tokens: from ones that end at once to ones that are there when a signal comes.
LENGTHS = (1, 2, 4, 8, 16, 64)
LONG = 900  # tokens, more than are computed within the delay
DELAY = "5s"  # as the configuration recommends

# For gRPC clients that know the replicas: by turns, those that say they are SERVING.
BALANCING = json.dumps({"loadBalancingConfig": [{"round_robin": {}}],
                        "healthCheckConfig": {"serviceName": ""}})


def possible_ports():
    """In any order, each once: none of those from which the system takes one for a client, so that
    they stay free while a replica is replaced."""
    text = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="utf-8")
    ports = list(range(10_000, int(text.split()[0])))
    random.shuffle(ports)
    return iter(ports)


PORTS = possible_ports()


def free_ports(count):
    """Ports of the loopback interface that nobody listens on."""
    ports = []
    while len(ports) < count:
        port = next(PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                ports.append(port)
    return ports


class Replica(Server):
    """A server on ports that its successor takes over, and what its log says when it has ended."""

    def __init__(self, ports, *flags):
        http_port, grpc_port = map(str, ports)
        super().__init__("--log-format", "json", "--max-model-len", "1024", "--threads", "1",
                         "--port", http_port, "--grpc-port", grpc_port, *flags)
        self.last_metrics = {}

    def watch_until_exit(self, timeout):
        """Its exit status; what its metrics said last stays in `last_metrics`."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                self.last_metrics = self.metrics()
            except OSError:
                pass  # it is leaving
            time.sleep(0.1)
        return self.wait(1)

    def requests(self):
        """The lines of requests in its log."""
        lines = (json.loads(line) for line in self.messages().splitlines() if line.startswith("{"))
        return [line for line in lines if "method" in line]


# Of a balancer of connections that knows nothing of what is said on them, as Kubernetes' Services.
OF_CONNECTIONS = """
defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
listen http
  bind :8000
  option httpchk GET /readyz
  default-server inter 200ms fall 1 rise 1
  server pregate-1 pregate-1:8000 check
  server pregate-2 pregate-2:8000 check
listen grpc
  bind :8001
  server pregate-1 pregate-1:8001 track http/pregate-1
  server pregate-2 pregate-2:8001 track http/pregate-2
"""


class Proxy:
    """HAProxy with the example's configuration, or another; addresses are replaced."""

    def __init__(self, replicas, text=None):
        """`replicas`: for each its HTTP and its gRPC port."""
        self.http_port, self.grpc_port = free_ports(2)
        self.replicas = replicas
        text = text or CONFIG.read_text(encoding="utf-8")
        changes = {"bind :8000": f"bind 127.0.0.1:{self.http_port}",
                   "bind :8001": f"bind 127.0.0.1:{self.grpc_port}"}
        for number, (http_port, grpc_port) in enumerate(replicas, 1):
            changes[f" pregate-{number}:8000"] = f" 127.0.0.1:{http_port}"
            changes[f" pregate-{number}:8001"] = f" 127.0.0.1:{grpc_port}"
        for old, new in changes.items():
            if text.count(old) != 1:
                raise AssertionError(f"{CONFIG.name}: {old!r} must be there once")
            text = text.replace(old, new)
        self.file = tempfile.NamedTemporaryFile("w", prefix="pregate-proxy-", suffix=".cfg")
        self.file.write(text)
        self.file.flush()
        self.log = tempfile.NamedTemporaryFile("w+", prefix="pregate-proxy-", suffix=".log")
        self.process = subprocess.Popen(["haproxy", "-db", "-f", self.file.name],
                                        stdout=self.log, stderr=subprocess.STDOUT)

    def listens(self):
        """False until it does."""
        if self.process.poll() is not None:
            raise AssertionError(pathlib.Path(self.log.name).read_text(encoding="utf-8"))
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.http_port)) == 0

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Load:
    """Clients that ask one thing after another until told to stop."""

    def __init__(self, proxy, expected, expected_ids, clients, lengths):
        """`clients`: number by kind. `lengths`: of answers."""
        self.proxy, self.lengths = proxy, lengths
        self.expected, self.expected_ids = expected, expected_ids  # by length
        self.done = collections.Counter()  # by kind
        self.failures = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        kinds = {"stream": self.http_stream, "whole": self.http_whole,
                 "fresh": self.http_fresh, "grpc": self.grpc_stream,
                 "balancing": self.grpc_balancing}
        self.threads = [threading.Thread(target=self.run, args=(kind, kinds[kind], first))
                        for kind, count in clients.items() for first in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, kind, ask, first):
        state = {}
        for length in itertools.islice(itertools.cycle(self.lengths), first, None):
            if self.stopping.is_set():
                break
            try:
                failure = ask(state, length)
            except (OSError, http.client.HTTPException, grpc.RpcError) as error:
                failure = repr(error)
                state.clear()
            with self.lock:
                self.done[kind] += 1
                if failure:
                    self.failures.append(f"{kind}, {length} tokens: {failure}")
        for connection in state.values():
            connection.close()

    def stop(self):
        """Ends the load when every answer is there."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            if thread.is_alive():
                raise AssertionError("an answer does not come")

    # --- Ways to ask: each gives what was wrong, or nothing ---

    def post(self, connection, length, stream=False, headers=()):
        body = {"prompt": PROMPT, "max_tokens": length, "temperature": 0, "ignore_eos": True,
                "stream": stream}
        connection.request("POST", "/v1/completions", json.dumps(body),
                           {"Content-Type": "application/json", **dict(headers)})
        reply = connection.getresponse()
        page = reply.read().decode()
        return page if reply.status == 200 else self.fail(f"{reply.status} {page}")

    @staticmethod
    def fail(what):
        raise http.client.HTTPException(what)

    def connection(self, state):
        if "connection" not in state:
            state["connection"] = http.client.HTTPConnection("127.0.0.1", self.proxy.http_port,
                                                             timeout=30)
        return state["connection"]

    def http_whole(self, state, length):
        page = json.loads(self.post(self.connection(state), length))
        choice = page["choices"][0]
        return self.differs(choice["text"], choice["finish_reason"], length)

    def http_fresh(self, state, length):
        connection = self.connection(state)
        page = json.loads(self.post(connection, length, headers={"Connection": "close"}.items()))
        state.pop("connection").close()
        choice = page["choices"][0]
        return self.differs(choice["text"], choice["finish_reason"], length)

    def http_stream(self, state, length):
        page = self.post(self.connection(state), length, stream=True)
        events = [line.removeprefix("data: ") for line in page.splitlines() if line]
        if events[-1] != "[DONE]":
            return f"the stream was cut: {events[-1]}"
        chunks = [json.loads(event) for event in events[:-1]]
        errors = [chunk for chunk in chunks if "error" in chunk]
        if errors:
            return f"an error in the stream: {errors}"
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        return self.differs("".join(choice["text"] for choice in choices),
                            choices[-1]["finish_reason"], length)

    def differs(self, text, reason, length):
        if reason != "length":
            return f"finish_reason {reason}"
        return "" if text == self.expected[length] else f"another text: {text!r}"

    def grpc_stream(self, state, length):
        return self.generate(state, length, f"127.0.0.1:{self.proxy.grpc_port}")

    def grpc_balancing(self, state, length):
        """A client that chooses among the replicas itself, by what their health service says."""
        target = ",".join(f"127.0.0.1:{port}" for _, port in self.proxy.replicas)
        return self.generate(state, length, f"ipv4:{target}", ("grpc.service_config", BALANCING))

    def generate(self, state, length, target, *options):
        if "channel" not in state:
            state["channel"] = grpc.insecure_channel(
                target, [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0),
                         *options])
        call = pb_grpc.InferenceStub(state["channel"]).Generate(
            greedy(PROMPT, length, ignore_eos=True), timeout=30)
        ids = [token for message in call for token in message.token_ids]
        return "" if ids == self.expected_ids[length] else f"other tokens: {ids}"


class Roll(unittest.TestCase):
    def setUp(self):
        self.ports = [free_ports(2) for _ in range(2)]
        self.replicas = []  # all that were ever started

    def tearDown(self):
        for replica in self.replicas:
            replica.channel.close()
            if replica.process.poll() is None:
                replica.process.kill()
                replica.process.wait(10)

    def start(self, number, *flags):
        replica = Replica(self.ports[number], *flags)
        self.replicas.append(replica)
        self.until(lambda: self.ready(number), "a replica is ready")
        return replica

    def ready(self, number):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[number][0], timeout=5)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()
        return status == 200

    def until(self, condition, what, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"never came true: {what}")
            time.sleep(0.1)

    def begin(self, *flags, config=None, lengths=LENGTHS, **clients):
        """Two replicas, the proxy, the load, and answers of each door from each replica."""
        replicas = [self.start(number, *flags) for number in range(2)]
        expected, ids = {}, {}
        for length in LENGTHS:
            reply = list(replicas[0].stub.Generate(greedy(PROMPT, length, ignore_eos=True)))
            ids[length] = [token for message in reply for token in message.token_ids]
            expected[length] = b"".join(message.text for message in reply).decode()
            self.assertEqual(len(ids[length]), length)
        self.asked_directly = len(LENGTHS)
        self.proxy = Proxy(self.ports, config)
        self.addCleanup(self.proxy.stop)
        self.until(self.proxy.listens, "the proxy listens")
        self.load = Load(self.proxy, expected, ids, clients, lengths)
        self.addCleanup(self.load.stopping.set)
        for replica in replicas:
            self.until(lambda one=replica: self.serves(one, clients), "a replica is asked")
        return replicas

    @staticmethod
    def serves(replica, clients):
        """Answers of the doors that these clients use are in its log."""
        doors = {"Generate" if kind in ("grpc", "balancing") else "POST /v1/completions"
                 for kind in clients}
        return doors <= {line["method"] for line in replica.requests()}

    def test_each_replica_is_replaced_and_nothing_fails(self):
        clients = {"stream": 2, "whole": 1, "fresh": 1, "grpc": 2}
        replicas = self.begin("--shutdown-delay", DELAY, "--drain-timeout", "60s", **clients)
        for number, old in enumerate(replicas):
            old.signal()
            self.until(lambda which=number: not self.ready(which), "readiness is gone")
            self.assertEqual(old.watch_until_exit(60), 0, old.messages())
            new = self.start(number, "--shutdown-delay", DELAY)
            self.until(lambda one=new: self.serves(one, clients), "the new one is asked")
        self.load.stop()
        self.assertEqual(self.load.failures, [])
        for replica in self.replicas[2:]:
            replica.signal()
            self.assertEqual(replica.watch_until_exit(60), 0, replica.messages())
        self.check_replicas()
        print(f"{sum(self.load.done.values())} requests ({dict(self.load.done)}), 0 failed; "
              f"served by {[len(replica.requests()) for replica in self.replicas]}")

    def check_replicas(self):
        """What the clients saw is what the replicas did: each request once, none refused or cut."""
        lines = [line for replica in self.replicas for line in replica.requests()]
        self.assertEqual([line for line in lines if line["status"] != "OK"], [])
        self.assertEqual(len(lines), sum(self.load.done.values()) + self.asked_directly)
        for replica in self.replicas:
            self.assertTrue(replica.last_metrics)
            for series, value in replica.last_metrics.items():
                if series.startswith("pregate_requests_rejected_total"):
                    self.assertEqual(value, 0, series)
                if (series.startswith("pregate_request_success_total") and
                        'finished_reason="length"' not in series):
                    self.assertEqual(value, 0, series)

    def test_connections_that_are_kept_go_elsewhere_in_time(self):
        """HTTP behind what balances connections, not requests: answers that begin after the signal
        end them (that each client begins one within the delay is what the lengths are for). gRPC
        clients that balance among the replicas themselves: the health service tells them."""
        old = self.begin("--shutdown-delay", DELAY, "--drain-timeout", "60s",
                         config=OF_CONNECTIONS, lengths=LENGTHS[:4], stream=2, whole=1,
                         balancing=2)[0]
        busy = self.keep_busy(old)
        old.signal()
        self.assertEqual(old.watch_until_exit(60), 0)
        self.load.stop()
        self.assertEqual(self.load.failures, [])
        self.assertEqual([line for line in old.requests() if line["status"] != "OK"], [])
        self.assertEqual(sum(len(message.token_ids) for message in busy), LONG - 1)

    def keep_busy(self, replica):
        """Starts an answer that lasts beyond the delay: the replica drains and does not just go. What
        is left of it."""
        call = replica.stub.Generate(greedy(PROMPT, LONG, ignore_eos=True))
        self.assertEqual(len(next(call).token_ids), 1)
        return call

    def test_when_a_client_leaves_its_answer_is_not_computed(self):
        replica = self.start(0)
        proxy = Proxy(self.ports)
        self.addCleanup(proxy.stop)
        self.until(proxy.listens, "the proxy listens")
        connection = http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=30)
        body = {"prompt": PROMPT, "max_tokens": 500, "temperature": 0, "ignore_eos": True}
        connection.request("POST", "/v1/completions", json.dumps(body),
                           {"Content-Type": "application/json"})
        self.until(lambda: replica.metrics()["pregate_num_requests_running"] == 1, "it runs")
        connection.close()
        self.until(lambda: replica.metrics()["pregate_num_requests_running"] == 0, "it has ended")
        self.until(replica.requests, "it is in the log")
        self.assertEqual(replica.requests()[0]["status"], "CANCELLED")

    def test_without_the_delay_calls_fail(self):
        """What the tests above would show if readiness did not go first: HAProxy can ask again for
        what HTTP's 503 refuses, not for what is refused in a gRPC status. The proxy believes so late
        that a replica is gone that a call meets it first, however slow the machine is."""
        late = CONFIG.read_text(encoding="utf-8").replace("inter 1s fall 2", "inter 1s fall 120")
        old = self.begin("--shutdown-delay", "0", "--drain-timeout", "60s", config=late, whole=2,
                         grpc=4)[0]
        self.keep_busy(old)
        old.signal()
        self.until(lambda: self.load.failures, "a call fails")
        self.load.stop()
        self.assertEqual([failure for failure in self.load.failures
                          if not failure.startswith("grpc") or "UNAVAILABLE" not in failure], [])
        self.assertTrue(any(line["status"] == "UNAVAILABLE" for line in old.requests()))


class Answering(http.server.BaseHTTPRequestHandler):
    """Ready; answers what is posted with its server's `status`, after its server's `seconds`."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):  # pylint: disable=invalid-name
        self.answer(200)

    def do_POST(self):  # pylint: disable=invalid-name
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        time.sleep(self.server.seconds)
        self.answer(self.server.status)


class QuietServer(http.server.ThreadingHTTPServer):
    def __init__(self, status, seconds=0.0):
        super().__init__(("127.0.0.1", 0), Answering)
        self.status, self.seconds, self.asked = status, seconds, 0
        threading.Thread(target=self.serve_forever).start()

    def handle_error(self, *_):  # checks do not wait for their answer's end
        pass


class Configuration(unittest.TestCase):
    """What haproxy.cfg says, before replicas that do as they are told."""

    def proxy(self, *replicas, text=None):
        for replica in replicas:
            self.addCleanup(replica.server_close)
            self.addCleanup(replica.shutdown)
        proxy = Proxy([(replica.server_port, replica.server_port) for replica in replicas], text)
        self.addCleanup(proxy.stop)
        deadline = time.monotonic() + 20
        while not proxy.listens():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        return proxy

    @staticmethod
    def status(proxy, size):
        """Of a request with a body of so many bytes, which follows the headers in a piece of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=30)
        connection.putrequest("POST", "/v1/completions")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        time.sleep(0.02)
        connection.send(b"x" * size)
        status = connection.getresponse().status
        connection.close()
        return status

    def test_what_one_replica_refuses_another_is_asked(self):
        """If it fits the buffer; what is larger is the client's to see."""
        leaving, staying = QuietServer(503), QuietServer(200)
        proxy = self.proxy(leaving, staying)
        for size in (100, 20_000, 120_000):
            leaving.asked = 0
            self.assertEqual({self.status(proxy, size) for _ in range(8)}, {200}, size)
            self.assertGreater(leaving.asked, 0)
        self.assertEqual({self.status(proxy, 200_000) for _ in range(8)}, {200, 503})

    def test_a_silent_replica_is_not_a_silent_client(self):
        slow = QuietServer(200, seconds=4)
        text = CONFIG.read_text(encoding="utf-8").replace("timeout client 75s", "timeout client 1s")
        self.assertIn("timeout client 1s", text)
        self.assertEqual(self.status(self.proxy(slow, slow, text=text), 100), 200)


if __name__ == "__main__":
    sample_model()
    if shutil.which("haproxy") is None:
        print("SKIPPED: no haproxy; deploy/install_deps.sh --test installs it")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
