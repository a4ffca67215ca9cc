"""The Open Inference Protocol as Triton's own clients see it, each test followed by ServedTest's
check."""

import http.client
import json
import queue
import threading
import time
import unittest

import numpy
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from serve_harness import CANARY, ServedTest, Server, greedy, sample_model

FINAL = "triton_final_response"


def tensor(name, datatype, values, shape=None):
    """An input as the client sends it: raw."""
    kinds = {"BYTES": numpy.object_, "INT32": numpy.int32, "FP32": numpy.float32,
             "BOOL": numpy.bool_, "UINT64": numpy.uint64}
    array = numpy.array(values, dtype=kinds[datatype])
    made = triton.InferInput(name, shape or list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def inputs(text=CANARY, max_tokens=16, temperature=0.0, **more):
    """Inputs of a request whose answer is always the same."""
    made = [tensor("text_input", "BYTES", [text.encode()]),
            tensor("max_tokens", "INT32", [max_tokens]),
            tensor("temperature", "FP32", [temperature])]
    kinds = {"stream": "BOOL", "stop": "BYTES", "seed": "UINT64", "top_k": "INT32",
             "ignore_eos": "BOOL", "top_p": "FP32"}
    for name, value in more.items():
        values = value if isinstance(value, list) else [value]
        made.append(tensor(name, kinds[name], values))
    return made


def text_of(result):
    return result.as_numpy("text_output")[0]


class Stream:
    """A stream of the client's, with what came of it in a queue."""

    def __init__(self, client):
        self.client, self.came = client, queue.Queue()
        client.start_stream(lambda result, error: self.came.put((result, error)))

    def ask(self, request_id, given, **parameters):
        self.client.async_stream_infer("smollm2", given, request_id=request_id, **parameters)

    def next(self):
        return self.came.get(timeout=60)

    def until_final(self, count=1):
        """Responses by request id, until `count` requests have had their last."""
        responses = {}
        while count > 0:
            result, error = self.next()
            if error is not None:
                raise error
            response = result.get_response()
            responses.setdefault(response.id, []).append(result)
            count -= response.parameters[FINAL].bool_param
        return responses

    def close(self):
        self.client.stop_stream()


class OpenInference(ServedTest):
    FLAGS = ("--max-model-len", "1024")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = triton.InferenceServerClient(f"127.0.0.1:{cls.server.grpc_port}")
        cls.text = cls.ask(greedy()).text()

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        super().tearDownClass()

    def infer(self, given, counted=1, **more):
        type(self).expected_ends += counted
        return self.client.infer("smollm2", given, **more)

    def stream(self):
        stream = Stream(self.client)
        self.addCleanup(stream.close)
        return stream

    def refused(self, given, status, begins, **more):
        """Asks with ModelInfer what must be refused."""
        with self.assertRaises(InferenceServerException) as caught:
            self.infer(given, **more)
        self.assertEqual(caught.exception.status(), f"StatusCode.{status}")
        message = caught.exception.message()
        self.assertTrue(message.startswith(begins), message)
        self.assertIn("; got ", message)

    def test_health_and_metadata(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("smollm2"))
        self.assertTrue(self.client.is_model_ready("smollm2", "1"))
        self.assertFalse(self.client.is_model_ready("smollm2", "2"))
        self.assertFalse(self.client.is_model_ready("another"))
        self.assertTrue(self.server.serving("inference.GRPCInferenceService"))
        self.assertEqual(self.client.get_server_metadata().name, "pregate")
        metadata = self.client.get_model_metadata("smollm2")
        self.assertEqual(metadata.name, "smollm2")
        self.assertEqual([(t.name, t.datatype, list(t.shape)) for t in metadata.outputs],
                         [("text_output", "BYTES", [1])])
        self.assertIn(("text_input", "BYTES", [1]),
                      [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs])
        for name, version in (("another", ""), ("smollm2", "2"), ("../smollm2", "")):
            with self.assertRaises(InferenceServerException) as caught:
                self.client.get_model_metadata(name, version)
            self.assertEqual(caught.exception.status(), "StatusCode.NOT_FOUND")
        with self.assertRaises(InferenceServerException) as caught:
            self.client.get_model_config("smollm2")
        self.assertEqual(caught.exception.status(), "StatusCode.UNIMPLEMENTED")

    def test_infer_gives_what_generate_gives(self):
        result = self.infer(inputs(), request_id="one")
        self.assertEqual(text_of(result), self.text)
        response = result.get_response()
        self.assertEqual((response.id, response.model_name, response.model_version),
                         ("one", "smollm2", "1"))
        self.assertEqual(response.parameters["finish_reason"].string_param, "length")
        self.assertEqual(response.parameters["completion_tokens"].int64_param, 16)
        self.assertEqual(response.parameters["prompt_tokens"].int64_param, 5)
        # Settings as parameters, one output asked for, shapes with a batch of one.
        text = tensor("text_input", "BYTES", [[CANARY.encode()]])
        result = self.infer([text], parameters={"max_tokens": 16, "temperature": 0},
                            outputs=[triton.InferRequestedOutput("text_output")])
        self.assertEqual(text_of(result), self.text)
        stopped = self.infer(inputs(stop=[b",", b"."], max_tokens=50, stream=False))
        self.assertEqual(text_of(stopped), self.text.split(b".")[0].split(b",")[0])
        self.assertEqual(stopped.get_response().parameters["finish_reason"].string_param, "stop")

    def test_seeds(self):
        asked = dict(temperature=1.0, max_tokens=12)
        first, again, other = (text_of(self.infer(inputs(**asked, seed=seed)))
                               for seed in (7, 7, 2**64 - 1))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_A_what_is_refused(self):
        bad = "INVALID_ARGUMENT"
        self.refused([], bad, "text_input: must be an input")
        self.refused(inputs(max_tokens=0), bad, "max_tokens: must be >= 1")
        self.refused(inputs(max_tokens=-1), bad, "max_tokens: must be in [0, ")
        self.refused(inputs(temperature=2.5), bad, "temperature: must be in [0, 2]")
        self.refused(inputs(temperature=float("nan")), bad, "temperature: must be in [0, 2]")
        self.refused(inputs(top_p=0.0), bad, "top_p: must be in (0, 1]")
        self.refused(inputs(top_k=-2), bad, "top_k: must be >= -1")
        self.refused(inputs(stop=[b""]), bad, "stop: must not be empty")
        self.refused(inputs(text=""), bad, "text_input: must not be empty")
        self.refused(inputs(text="word " * 3000), bad, "prompt_tokens: must be")
        self.refused(inputs(stream=True), bad, "stream: must be false")
        self.refused(inputs() + inputs()[:1], bad, "inputs[3].name: must be given once")
        self.refused(inputs(), "UNIMPLEMENTED", "n: must be absent", parameters={"n": 2})
        self.refused(inputs(), "NOT_FOUND", "model_version: must be", model_version="2")
        self.refused(inputs(), bad, "outputs[0].name: must be text_output",
                     outputs=[triton.InferRequestedOutput("logits")])
        self.refused([triton.InferInput("text_input", [1], "BYTES")], bad, "inputs[0]")
        with self.assertRaises(InferenceServerException) as caught:
            type(self).expected_ends += 1
            self.client.infer("another", inputs())
        self.assertEqual(caught.exception.status(), "StatusCode.NOT_FOUND")

    def test_C1_deadlines(self):
        with self.assertRaises(InferenceServerException) as caught:
            self.infer(inputs(max_tokens=900, ignore_eos=True), client_timeout=0.3)
        self.assertEqual(caught.exception.status(), "StatusCode.DEADLINE_EXCEEDED")
        with self.assertRaises(InferenceServerException) as caught:  # microseconds, in the request
            self.infer(inputs(max_tokens=900, ignore_eos=True), timeout=200_000)
        self.assertEqual(caught.exception.status(), "StatusCode.DEADLINE_EXCEEDED")

    def test_C4_cancelled(self):
        done = threading.Event()
        type(self).expected_ends += 1
        call = self.client.async_infer("smollm2", inputs(max_tokens=900, ignore_eos=True),
                                       callback=lambda result, error: done.set())
        time.sleep(0.1)
        call.cancel()
        self.assertTrue(done.wait(10))

    def test_one_stream(self):
        stream = self.stream()
        type(self).expected_ends += 1
        stream.ask("a", inputs())
        responses = stream.until_final()["a"]
        self.assertGreater(len(responses), 1)
        self.assertEqual(b"".join(map(text_of, responses)), self.text)
        flags = [r.get_response().parameters[FINAL].bool_param for r in responses]
        self.assertEqual(flags, [False] * (len(flags) - 1) + [True])
        last = responses[-1].get_response().parameters
        self.assertEqual(last["finish_reason"].string_param, "length")

    def test_empty_last_response(self):
        stream = self.stream()
        type(self).expected_ends += 2
        for request_id, how in (("a", True), ("b", False)):
            stream.ask(request_id, inputs(stream=how), enable_empty_final_response=True)
            responses = stream.until_final()[request_id]
            self.assertIsNone(responses[-1].as_numpy("text_output"))
            self.assertEqual(b"".join(map(text_of, responses[:-1])), self.text)
            if not how:
                self.assertEqual(len(responses), 2)

    def test_three_interleaved(self):
        prompts = {"a": "Once upon a time", "b": "1, 2, 3, 4,", "c": CANARY}
        given = {name: inputs(text, max_tokens=60, ignore_eos=True)
                 for name, text in prompts.items()}
        alone = {name: text_of(self.infer(tensors)) for name, tensors in given.items()}
        stream = self.stream()
        type(self).expected_ends += 3
        order = []
        for name, tensors in given.items():
            stream.ask(name, tensors)
        responses, left = {}, 3
        while left:
            result, error = stream.next()
            self.assertIsNone(error)
            response = result.get_response()
            order.append(response.id)
            responses[response.id] = responses.get(response.id, b"") + text_of(result)
            left -= response.parameters[FINAL].bool_param
        self.assertEqual(responses, alone)
        # They take turns: each has a response between two of another.
        self.assertNotEqual(order, sorted(order))

    def test_errors_stay_in_their_request(self):
        stream = self.stream()
        type(self).expected_ends += 5
        stream.ask("good", inputs(max_tokens=200, ignore_eos=True))
        stream.ask("bad", inputs(max_tokens=0))
        self.client.async_stream_infer("another", inputs(), request_id="other")
        stream.ask("late", inputs(max_tokens=900, ignore_eos=True), timeout=200_000)
        errors, text, left = {}, b"", 4
        while left:
            result, error = stream.next()
            if error is not None:
                response = result.get_response() if result else None
                name = response.id if response else error.message().split(":")[0]
                errors[name] = error.message()
                left -= 1
                continue
            response = result.get_response()
            if response.id == "good":
                text += text_of(result)
                left -= response.parameters[FINAL].bool_param
        self.assertEqual(len(errors), 3, errors)
        messages = sorted(errors.values())
        self.assertTrue(messages[0].startswith("deadline: expired after"), messages)
        self.assertTrue(messages[1].startswith("max_tokens: must be >= 1"), messages)
        self.assertTrue(messages[2].startswith("model_name: must be"), messages)
        self.assertEqual(text, text_of(self.infer(inputs(max_tokens=200, ignore_eos=True),
                                                  counted=0)))

    def test_half_close_ends_after_the_answers(self):
        stream = Stream(self.client)
        type(self).expected_ends += 2
        stream.ask("a", inputs(max_tokens=100, ignore_eos=True))
        stream.ask("b", inputs(max_tokens=50, ignore_eos=True))
        stream.close()  # sends no more, and waits for what comes
        finals = 0
        while not stream.came.empty():
            result, error = stream.next()
            self.assertIsNone(error)
            finals += result.get_response().parameters[FINAL].bool_param
        self.assertEqual(finals, 2)

    def test_a_stream_that_is_cancelled(self):
        stream = Stream(self.client)
        type(self).expected_ends += 3
        for name in "abc":
            stream.ask(name, inputs(max_tokens=900, ignore_eos=True))
        self.assertIsNone(stream.next()[1])
        self.client.stop_stream(cancel_requests=True)

    def test_more_requests_than_a_stream_answers_at_once(self):
        stream = self.stream()
        type(self).expected_ends += 300
        for i in range(300):
            stream.ask(str(i), inputs(max_tokens=1, stream=False))
        responses = stream.until_final(300)
        self.assertEqual(len(responses), 300)
        self.assertEqual(len({text_of(r[0]) for r in responses.values()}), 1)


class OverHttp(ServedTest):
    FLAGS = ("--max-model-len", "1024")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = triton_http.InferenceServerClient(f"127.0.0.1:{cls.server.http_port}")
        cls.text = cls.ask(greedy()).text()

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        super().tearDownClass()

    @staticmethod
    def inputs(binary=True, max_tokens=16, stop=None):
        made = []
        for name, datatype, values in (("text_input", "BYTES", [CANARY.encode()]),
                                       ("max_tokens", "INT32", [max_tokens]),
                                       ("temperature", "FP32", [0.0]), ("stop", "BYTES", stop)):
            if values is None:
                continue
            kinds = {"BYTES": numpy.object_, "INT32": numpy.int32, "FP32": numpy.float32}
            made.append(triton_http.InferInput(name, [len(values)], datatype))
            made[-1].set_data_from_numpy(numpy.array(values, dtype=kinds[datatype]), binary)
        return made

    def infer(self, given, **more):
        type(self).expected_ends += 1
        return self.client.infer("smollm2", given, **more)

    def post(self, path, body, counted=1, **headers):
        """Status, headers and body of a request that is made by hand."""
        type(self).expected_ends += counted
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=60)
        text = body if isinstance(body, (bytes, str)) else json.dumps(body)
        connection.request("POST", path, text, headers)
        reply = connection.getresponse()
        page = reply.read()
        connection.close()
        return reply.status, dict(reply.headers), page

    def refused(self, status, begins, body, path="/v2/models/smollm2/infer", **headers):
        got, _, page = self.post(path, body, **headers)
        self.assertEqual(got, status, page)
        error = json.loads(page)
        self.assertEqual(list(error), ["error"])
        self.assertTrue(error["error"].startswith(begins), error)

    def test_health_and_metadata(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())
        self.assertTrue(self.client.is_model_ready("smollm2"))
        self.assertTrue(self.client.is_model_ready("smollm2", "1"))
        self.assertFalse(self.client.is_model_ready("another"))
        self.assertFalse(self.client.is_model_ready("smollm2", "2"))
        self.assertEqual(self.client.get_server_metadata()["name"], "pregate")
        metadata = self.client.get_model_metadata("smollm2")
        self.assertEqual(metadata["outputs"],
                         [{"name": "text_output", "datatype": "BYTES", "shape": [1]}])
        self.assertIn({"name": "text_input", "datatype": "BYTES", "shape": [1]}, metadata["inputs"])
        for name, version in (("another", ""), ("smollm2", "2"), ("..%2Fsmollm2", "")):
            with self.assertRaises(InferenceServerException) as caught:
                self.client.get_model_metadata(name, version)
            self.assertIn("404", str(caught.exception.status()))

    def test_infer_gives_what_generate_gives(self):
        for binary_in in (True, False):
            for outputs in (None, [triton_http.InferRequestedOutput("text_output", True)],
                            [triton_http.InferRequestedOutput("text_output", False)]):
                result = self.infer(self.inputs(binary_in), request_id="one", outputs=outputs)
                self.assertEqual(self.bytes_of(result), self.text)
                response = result.get_response()
                self.assertEqual((response["id"], response["model_name"]), ("one", "smollm2"))
                self.assertEqual(response["parameters"],
                                 {"finish_reason": "length", "prompt_tokens": 5,
                                  "completion_tokens": 16})
        stopped = self.infer(self.inputs(stop=[b",", b"."], max_tokens=50), model_version="1")
        self.assertEqual(self.bytes_of(stopped), self.text.split(b".")[0].split(b",")[0])

    @staticmethod
    def bytes_of(result):
        text = result.as_numpy("text_output")[0]
        return text.encode() if isinstance(text, str) else text

    def test_generate(self):
        body = {"text_input": CANARY, "max_tokens": 16, "temperature": 0}
        status, _, page = self.post("/v2/models/smollm2/generate", body)
        self.assertEqual(status, 200, page)
        self.assertEqual(json.loads(page),
                         {"model_name": "smollm2", "model_version": "1",
                          "text_output": self.text.decode(), "finish_reason": "length",
                          "prompt_tokens": 5, "completion_tokens": 16})
        status, headers, page = self.post("/v2/models/smollm2/versions/1/generate_stream",
                                          {**body, "id": "7"})
        self.assertEqual(status, 200, page)
        self.assertEqual(headers.get("content-type", headers.get("Content-Type")),
                         "text/event-stream")
        events = [json.loads(event.removeprefix("data: "))
                  for event in page.decode().split("\n\n") if event]
        self.assertGreater(len(events), 1)
        self.assertEqual("".join(event["text_output"] for event in events), self.text.decode())
        self.assertEqual({event["id"] for event in events}, {"7"})
        self.assertEqual(events[-1]["finish_reason"], "length")

    def test_generate_stream_without_pieces(self):
        body = {"text_input": CANARY, "max_tokens": 16, "temperature": 0, "stream": False}
        url = "/v2/models/smollm2/generate"
        _, _, whole = self.post(url, body)
        status, headers, page = self.post(url + "_stream", body)
        self.assertEqual(status, 200, page)
        self.assertEqual(headers.get("content-type", headers.get("Content-Type")),
                         "text/event-stream")
        self.assertEqual(page, b"data: " + whole + b"\n\n")

    def test_A_what_is_refused(self):
        self.refused(400, "text_input: must be an input", {})
        self.refused(400, "body: must be", b"\xff" * 100)
        self.refused(400, "inference-header-content-length: must be", b"{}",
                     **{"Inference-Header-Content-Length": "3"})
        self.refused(404, "model_name: must be", {}, "/v2/models/another/infer")
        self.refused(404, "model_version: must be", {}, "/v2/models/smollm2/versions/2/infer")
        generate = "/v2/models/smollm2/generate"
        self.refused(400, "max_tokens: must be >= 1", {"text_input": "a", "max_tokens": 0}, generate)
        self.refused(400, "stream: must be false", {"text_input": "a", "stream": True}, generate)
        self.refused(501, "n: must be absent", {"text_input": "a", "n": 2}, generate)
        self.refused(400, "temperature: must be", {"text_input": "a", "temperature": 3},
                     generate + "_stream")


class Drain(unittest.TestCase):
    """A server that stops while a client holds a stream open."""

    def setUp(self):
        self.server = Server()
        self.client = triton.InferenceServerClient(f"127.0.0.1:{self.server.grpc_port}")
        self.stream = Stream(self.client)

    def tearDown(self):
        self.client.close()
        self.server.stop()

    def test_D3_answers_come_whole_and_idle_streams_end(self):
        self.stream.ask("a", inputs(max_tokens=300, ignore_eos=True))
        result, error = self.stream.next()
        self.assertIsNone(error)
        self.server.signal()
        deadline = time.monotonic() + 30
        while "draining" not in self.server.messages():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        final = False
        while not final:
            result, error = self.stream.next()
            self.assertIsNone(error)
            final = result.get_response().parameters[FINAL].bool_param
        self.assertEqual(result.get_response().parameters["completion_tokens"].int64_param, 300)
        ended = time.monotonic()
        self.assertEqual(self.server.wait(), 0)
        # The idle stream was told to end, and did not have to be cut when the time was up.
        self.assertLess(time.monotonic() - ended, 4)
        self.assertIn("stopping", str(self.stream.next()[1]))


if __name__ == "__main__":
    sample_model()
    unittest.main(verbosity=2)
