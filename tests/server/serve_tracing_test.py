"""Traces of a real server, as a collector reads them with the protocol's own definitions
(opentelemetry-proto): whatever a client asks through any door, whoever began the trace, and when
there is no collector at all."""

import base64
import contextlib
import http.client
import http.server
import json
import queue
import socket
import threading
import time
import unittest

import numpy
import tritonclient.grpc as triton
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from serve_harness import CANARY, Reply, Server, greedy, pb, sample_model

IDS = ("traceId", "spanId", "parentSpanId")
GENERATION, ENCODING = ("queue", "prefill", "decode"), ("queue", "prefill")
# Nanoseconds: what two readings of the clock may be apart; how much later than its client a busy
# server may learn that a call is over.
SLACK, LATE = 20_000_000, 2_000_000_000


def as_proto_json(node):
    """OTLP writes ids in hex where protobuf's JSON has base64."""
    if isinstance(node, list):
        return [as_proto_json(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {}
    for key, value in node.items():
        if key in IDS:
            assert value == value.lower(), value
            made[key] = base64.b64encode(bytes.fromhex(value)).decode()
        else:
            made[key] = as_proto_json(value)
    return made


def value_of(any_value):
    kind = any_value.WhichOneof("value")
    held = getattr(any_value, kind)
    return [value_of(one) for one in held.values] if kind == "array_value" else held


class Collector(http.server.ThreadingHTTPServer):
    """Takes spans; `answers` are statuses to give first."""

    daemon_threads = True

    def __init__(self, answers=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.answers, self.requests, self.spans, self.resources = list(answers), [], [], []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take(self, path, headers, body):
        request = trace_service_pb2.ExportTraceServiceRequest()
        # A name that the protocol does not have, a number that is none: an error.
        json_format.ParseDict(as_proto_json(json.loads(body)), request)
        with self.lock:
            status = self.answers.pop(0) if self.answers else 200
            self.requests.append((path, headers))
            if status == 200:
                for of_resource in request.resource_spans:
                    self.resources.append({a.key: value_of(a.value)
                                           for a in of_resource.resource.attributes})
                    for scope in of_resource.scope_spans:
                        self.spans += scope.spans
        return status

    def of(self, trace_id, timeout=20):
        """The spans of a trace, the server's first; [] when none has come."""
        deadline = time.monotonic() + timeout
        while True:
            with self.lock:
                found = [span for span in self.spans if span.trace_id.hex() == trace_id]
            if found or time.monotonic() > deadline:
                return sorted(found, key=lambda span: -span.kind)
            time.sleep(0.02)

    def count(self):
        with self.lock:
            return len(self.spans)

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            status = self.server.take(self.path, dict(self.headers), body)
        except (ValueError, AssertionError, json_format.ParseError) as error:
            print("the collector cannot read:", error)
            status = 400
        self.send_response(status)
        self.send_header("content-length", "0")
        if status == 429:
            self.send_header("retry-after", "1")
        self.end_headers()

    def log_message(self, *_):
        pass


class Caller:
    """Makes calls that belong to traces of its own."""

    def __init__(self, server):
        self.server, self.number = server, 0
        self.triton = triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")

    def parent(self, flags="01"):
        """Headers, and the ids that they carry."""
        self.number += 1
        trace_id, span_id = f"{self.number:032x}", f"{self.number + 0xabc0000:016x}"
        return {"traceparent": f"00-{trace_id}-{span_id}-{flags}"}, trace_id, span_id

    def post(self, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body),
                               {"content-type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, response.read()

    def generate(self, headers, **asked):
        return Reply(self.server.stub.Generate(greedy(**asked), timeout=60,
                                               metadata=list(headers.items())))

    def infer_inputs(self):
        text = triton.InferInput("text_input", [1], "BYTES")
        text.set_data_from_numpy(numpy.array([CANARY.encode()], dtype=numpy.object_))
        tokens = triton.InferInput("max_tokens", [1], "INT32")
        tokens.set_data_from_numpy(numpy.array([8], dtype=numpy.int32))
        return [text, tokens]

    def infer_stream(self, headers):
        came = queue.Queue()
        self.triton.start_stream(lambda result, error: came.put((result, error)), headers=headers)
        self.triton.async_stream_infer("smollm2", self.infer_inputs(), request_id="s")
        while True:
            result, error = came.get(timeout=60)
            assert error is None, error
            if result.get_response().parameters["triton_final_response"].bool_param:
                break
        self.triton.stop_stream()

    def log_line(self, **wanted):
        """The JSON line of a request in the log with those fields."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for text in self.server.messages().splitlines():
                if not text.startswith("{"):
                    continue
                line = json.loads(text)
                if all(line.get(key) == value for key, value in wanted.items()):
                    return line
            time.sleep(0.05)
        raise AssertionError(f"no line of the log has {wanted}")


def attributes(span):
    return {a.key: value_of(a.value) for a in span.attributes}


class Traced(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.collector = Collector(answers=[429])  # to begin with
        cls.server = Server("--otlp-traces-endpoint", cls.collector.url, "--trace-sample-ratio",
                            "1", "--log-format", "json")
        cls.caller = Caller(cls.server)

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        cls.collector.stop()
        if status != 0:
            raise AssertionError(f"exit status {status}:\n{cls.server.messages()}")

    def check_times(self, spans, begin, end):
        """Phases follow each other within the request, which is within what the client saw."""
        request, phases = spans[0], sorted(spans[1:], key=lambda s: s.start_time_unix_nano)
        self.assertGreaterEqual(request.start_time_unix_nano, begin - SLACK)
        self.assertLessEqual(request.end_time_unix_nano, end + LATE)
        at = request.start_time_unix_nano
        for span in phases:
            self.assertEqual(span.parent_span_id, request.span_id)
            self.assertEqual(span.kind, trace_pb2.Span.SPAN_KIND_INTERNAL)
            self.assertGreaterEqual(span.start_time_unix_nano, at)
            at = span.end_time_unix_nano
            self.assertGreaterEqual(at, span.start_time_unix_nano)
        self.assertLessEqual(at, request.end_time_unix_nano)
        self.assertEqual(len({span.span_id for span in spans}), len(spans))

    def call(self, call):
        """A call that belongs to a trace; what is needed to check it."""
        headers, trace_id, span_id = self.caller.parent()
        begin = time.time_ns()
        call(headers)
        return trace_id, span_id, begin, time.time_ns()

    def check(self, called, name, phases):
        """The attributes of a call's span."""
        trace_id, span_id, begin, end = called
        spans = self.collector.of(trace_id)
        self.assertTrue(spans, name)
        request = spans[0]
        self.assertEqual(request.name, name)
        self.assertEqual(request.kind, trace_pb2.Span.SPAN_KIND_SERVER)
        self.assertEqual(request.parent_span_id.hex(), span_id)
        self.assertEqual(request.flags & 0x3ff, 0x301)
        self.assertEqual(request.status.code, trace_pb2.Status.STATUS_CODE_UNSET)
        self.assertEqual({span.name for span in spans[1:]}, set(phases))
        self.check_times(spans, begin, end)
        self.caller.log_line(trace_id=trace_id)
        found = attributes(request)
        self.assertEqual(found["gen_ai.request.model"], "smollm2")
        self.assertGreater(found["gen_ai.usage.input_tokens"], 0)
        return found

    def test_every_door_over_http(self):
        def post(path, body):
            def call(headers):
                status, answer = self.caller.post(path, body, headers)
                self.assertEqual(status, 200, answer)
            return call

        chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8,
                "temperature": 0, "stream": True}
        several = {"prompt": [CANARY, "Once upon a time"], "max_tokens": 8, "temperature": 0,
                   "n": 2}
        infer = {"inputs": [{"name": "text_input", "shape": [1], "datatype": "BYTES",
                             "data": [CANARY]},
                            {"name": "max_tokens", "shape": [1], "datatype": "INT32",
                             "data": [8]}]}
        text = {"text_input": CANARY, "max_tokens": 8}
        doors = {
            "/v1/chat/completions": (chat, "chat smollm2", GENERATION),
            "/v1/completions": (several, "text_completion smollm2", GENERATION),
            "/v1/embeddings": ({"input": ["a", "b"]}, "embeddings smollm2", ENCODING),
            "/v1/rerank": ({"query": "Who barks?", "documents": ["cat", "dog"]},
                           "rerank smollm2", ENCODING),
            "/v2/models/smollm2/infer": (infer, "text_completion smollm2", GENERATION),
            "/v2/models/smollm2/generate": (text, "text_completion smollm2", GENERATION),
            "/v2/models/smollm2/generate_stream": (text, "text_completion smollm2", GENERATION),
        }
        called = {path: self.call(post(path, body)) for path, (body, _, _) in doors.items()}
        found = {path: self.check(called[path], name, phases)
                 for path, (_, name, phases) in doors.items()}
        for path, of in found.items():
            self.assertEqual(of["url.path"], path)
            self.assertEqual(of["http.response.status_code"], 200)
        self.assertEqual(found["/v1/chat/completions"]["gen_ai.operation.name"], "chat")
        of = found["/v1/completions"]
        self.assertEqual(of["gen_ai.response.finish_reasons"], ["length"] * 4)
        self.assertEqual(of["gen_ai.usage.output_tokens"], 32)
        self.assertEqual(found["/v1/embeddings"]["gen_ai.request.choice.count"], 2)

    def test_every_door_over_grpc(self):
        def plain(method, request):
            return lambda headers: method(request, timeout=60, metadata=list(headers.items()))

        stub, caller = self.server.stub, self.caller
        chat = pb.GenerateRequest(sampling=pb.SamplingParams(max_tokens=8))
        chat.chat.messages.add(role="user", content=b"Hello")
        doors = [
            ("Generate", lambda headers: caller.generate(headers, max_tokens=8),
             "text_completion smollm2", GENERATION),
            ("Generate", lambda headers: list(stub.Generate(
                chat, timeout=60, metadata=list(headers.items()))), "chat smollm2", GENERATION),
            ("Embed", plain(stub.Embed, pb.EmbedRequest(texts=[b"a", b"b"])),
             "embeddings smollm2", ENCODING),
            ("Score", plain(stub.Score, pb.ScoreRequest(query=b"who", documents=[b"a", b"b"])),
             "rerank smollm2", ENCODING),
            ("ModelInfer", lambda headers: caller.triton.infer(
                "smollm2", caller.infer_inputs(), headers=headers), "text_completion smollm2",
             GENERATION),
            ("ModelStreamInfer", caller.infer_stream, "text_completion smollm2", GENERATION),
        ]
        called = [self.call(call) for _, call, _, _ in doors]
        for (method, _, name, phases), of in zip(doors, called):
            found = self.check(of, name, phases)
            self.assertEqual((found["rpc.method"], found["rpc.grpc.status_code"]), (method, 0))
        self.assertEqual(found["gen_ai.request.id"], "s")

    def test_times_are_what_the_log_says(self):
        headers, trace_id, _ = self.caller.parent()
        reply = self.caller.generate(headers, prompt="word " * 200, max_tokens=64, ignore_eos=True)
        spans = self.collector.of(trace_id)
        self.assertEqual([span.name for span in spans[1:]], ["queue", "prefill", "decode"])
        line = self.caller.log_line(trace_id=trace_id)
        found = attributes(spans[0])
        lasted = {span.name: (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
                  for span in spans}
        for name in ("queue", "prefill", "decode"):
            self.assertAlmostEqual(lasted[name], line[f"{name}_ms"], delta=0.002)
        timing = reply.last.timing
        self.assertAlmostEqual(lasted["decode"], timing.decode, delta=0.002)
        first = found["gen_ai.latency.time_to_first_token"]
        self.assertAlmostEqual(first * 1e3, lasted["queue"] + lasted["prefill"], delta=0.002)
        self.assertAlmostEqual(first * 1e3, line["time_to_first_token_ms"], delta=0.002)
        whole = lasted["text_completion smollm2"]
        phases = lasted["queue"] + lasted["prefill"] + lasted["decode"]
        self.assertLessEqual(phases, whole)
        self.assertGreater(phases, 0.5 * whole)  # what is left is reading, wording and writing
        self.assertEqual(found["gen_ai.usage.input_tokens"], line["prompt_tokens"])
        self.assertEqual(found["gen_ai.usage.output_tokens"], line["completion_tokens"])
        self.assertEqual(found["gen_ai.response.finish_reasons"], [line["finish"]])

    def test_a_trace_begins_here_where_nobody_has_begun_one(self):
        asked = {
            "root-none": {},
            "root-zeros": {"traceparent": "00-" + "0" * 32 + "-" + "1" * 16 + "-01"},
            "root-capitals": {"traceparent": "00-" + "A" * 32 + "-" + "1" * 16 + "-01"},
        }
        for label, headers in asked.items():
            status, _ = self.caller.post("/v1/completions", {"prompt": "a", "max_tokens": 2},
                                         {"x-request-id": label, **headers})
            self.assertEqual(status, 200)
        for label in asked:
            trace_id = self.caller.log_line(request_id=label)["trace_id"]
            request = self.collector.of(trace_id)[0]
            self.assertEqual(request.parent_span_id, b"")
            self.assertEqual(request.flags & 0x3ff, 0x103)
            self.assertEqual(attributes(request)["gen_ai.request.id"], label)

    def test_the_caller_decides_for_its_traces(self):
        headers, trace_id, _ = self.caller.parent(flags="00")
        self.assertEqual(len(self.caller.generate(headers, max_tokens=4).ids()), 4)
        self.caller.log_line(trace_id=trace_id)  # for whoever looks for it
        headers, later, _ = self.caller.parent()
        headers["tracestate"] = "vendor=a, other@x=b"
        self.caller.generate(headers, max_tokens=4)
        self.assertEqual(self.collector.of(later)[0].trace_state, "vendor=a,other@x=b")
        self.assertEqual(self.collector.of(trace_id, timeout=0), [])

    def test_refused_requests(self):
        headers, trace_id, span_id = self.caller.parent()
        status, _ = self.caller.post("/v1/completions", {"prompt": "a", "max_tokens": -1}, headers)
        self.assertEqual(status, 400)
        spans = self.collector.of(trace_id)
        self.assertEqual([span.name for span in spans], ["POST"])
        self.assertEqual(spans[0].parent_span_id.hex(), span_id)
        self.assertEqual(attributes(spans[0])["error.type"], "INVALID_ARGUMENT")
        self.assertEqual(spans[0].status.code, trace_pb2.Status.STATUS_CODE_UNSET)
        headers, at_the_door, _ = self.caller.parent()
        status, _ = self.caller.post("/nowhere", {}, headers)
        self.assertEqual(status, 404)
        self.caller.log_line(trace_id=at_the_door)
        headers, late, _ = self.caller.parent()
        status, _ = self.caller.post(
            "/v1/completions", {"prompt": "a", "max_tokens": 900, "ignore_eos": True},
            {"x-request-timeout": "0.3", **headers})
        self.assertEqual(status, 504)
        request = self.collector.of(late)[0]
        self.assertEqual(attributes(request)["error.type"], "DEADLINE_EXCEEDED")
        self.assertEqual(request.status.code, trace_pb2.Status.STATUS_CODE_ERROR)
        self.assertEqual(self.collector.of(at_the_door, timeout=0), [])

    def test_the_collector_sees_who_sends(self):
        headers, trace_id, _ = self.caller.parent()
        self.caller.generate(headers, max_tokens=2)
        self.assertTrue(self.collector.of(trace_id))
        path, sent = self.collector.requests[-1]
        self.assertEqual(path, "/v1/traces")
        self.assertEqual(sent["Content-Type"], "application/json")
        resource = self.collector.resources[-1]
        self.assertEqual(resource["service.name"], "pregate")
        self.assertEqual(resource["process.pid"], self.server.process.pid)
        values = self.server.metrics()
        self.assertGreater(values["pregate_trace_spans_exported_total"], 0)
        self.assertEqual(values['pregate_trace_spans_dropped_total{reason="queue"}'], 0)
        self.assertEqual(values['pregate_trace_spans_dropped_total{reason="collector"}'], 0)


class Alone(unittest.TestCase):
    def test_without_the_flag_nothing_is_sent(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0.1)
            server = Server("--log-format", "json")
            self.addCleanup(server.stop)
            caller = Caller(server)
            headers, trace_id, _ = caller.parent()
            self.assertEqual(len(caller.generate(headers, max_tokens=4).ids()), 4)
            self.assertEqual(caller.log_line(trace_id=trace_id)["method"], "Generate")
            caller.post("/v1/completions", {"prompt": "a", "max_tokens": 2},
                        {"x-request-id": "untraced"})
            self.assertNotIn("trace_id", caller.log_line(request_id="untraced"))
            self.assertFalse([name for name in server.metrics() if "trace" in name])
            with self.assertRaises(TimeoutError):
                listener.accept()

    def test_what_waits_is_sent_at_the_end(self):
        collector = Collector()
        self.addCleanup(collector.stop)
        server = Server("--otlp-traces-endpoint", collector.url + "/custom/path")
        caller = Caller(server)
        headers, trace_id, _ = caller.parent()
        caller.generate(headers, max_tokens=2)
        self.assertEqual(server.stop(), 0)
        self.assertEqual(len(collector.of(trace_id, timeout=0)), 4)
        self.assertEqual(collector.requests[0][0], "/custom/path")

    def test_a_share_of_the_requests_nobody_traces(self):
        collector = Collector()
        self.addCleanup(collector.stop)
        server = Server("--otlp-traces-endpoint", collector.url, "--trace-sample-ratio", "0",
                        "--log-format", "json")
        caller = Caller(server)
        caller.post("/v1/completions", {"prompt": "a", "max_tokens": 2}, {"x-request-id": "root"})
        self.assertNotIn("trace_id", caller.log_line(request_id="root"))
        headers, trace_id, _ = caller.parent()
        caller.generate(headers, max_tokens=2)
        self.assertEqual(server.stop(), 0)
        self.assertEqual(collector.count(), 4)
        self.assertEqual(len(collector.of(trace_id, timeout=0)), 4)

    def test_a_collector_that_is_not_there_costs_spans_alone(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        server = Server("--otlp-traces-endpoint", f"http://127.0.0.1:{port}", "--log-format",
                        "json")
        caller = Caller(server)
        canary = caller.generate({}, max_tokens=16).ids()
        connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
        begin = time.monotonic()
        for _ in range(3000):  # refused at once: each is a span, and more than the queue holds
            connection.request("POST", "/v1/completions", "{}",
                               {"content-type": "application/json"})
            self.assertEqual(connection.getresponse().read()[:1], b"{")
        each = (time.monotonic() - begin) / 3000
        connection.close()
        self.assertLess(each, 0.02)
        self.assertEqual(caller.generate({}, max_tokens=16).ids(), canary)
        values = server.metrics()
        self.assertGreater(values['pregate_trace_spans_dropped_total{reason="queue"}'], 400)
        self.assertEqual(values["pregate_trace_spans_exported_total"], 0)
        notes = [line for line in server.messages().splitlines() if '"note":"tracing' in line]
        self.assertEqual(len(notes), 1, notes)
        begin = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - begin, 10)

    def test_a_url_that_cannot_be_is_refused(self):
        for url in ("https://localhost", "localhost:4318", "http://"):
            with self.assertRaisesRegex(RuntimeError, "otlp-traces-endpoint: must be http://"):
                Server("--otlp-traces-endpoint", url)


if __name__ == "__main__":
    sample_model()
    unittest.main()
