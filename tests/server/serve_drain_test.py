"""The server's end: rows D3 and D4 of the bad-input matrix, second signals, starts that fail."""

import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import grpc

from serve_harness import BINARY, Reply, Server, greedy, sample_model

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Background:
    """Collects a reply on a thread of its own."""

    def __init__(self, server, request):
        self.call = server.stub.Generate(request, timeout=120)
        self.first = next(self.call)
        self.reply = None
        self.thread = threading.Thread(target=self._collect)
        self.thread.start()

    def _collect(self):
        self.reply = Reply(self.call)

    def wait(self):
        self.thread.join(120)
        return self.reply

    def ids(self):
        return list(self.first.token_ids) + self.wait().ids()


class Drain(unittest.TestCase):
    def serve(self, *flags):
        server = Server(*flags)
        self.addCleanup(lambda: server.process.poll() is None and server.process.kill())
        return server

    def until(self, condition, what):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.01)
        self.fail(f"never came true: {what}")

    def test_D3_what_runs_ends_well_what_comes_is_refused(self):
        server = self.serve("--drain-timeout", "60s", "--shutdown-delay", "500ms")
        request = greedy(max_tokens=300, ignore_eos=True)
        alone = Reply(server.stub.Generate(request)).ids()
        calls = [Background(server, request) for _ in range(4)]
        server.signal()
        self.until(lambda: not server.serving(), "health says NOT_SERVING")
        # Health goes first: until the delay is over, balancers that have not seen it are served.
        self.assertEqual(Reply(server.stub.Generate(greedy(max_tokens=1))).code, grpc.StatusCode.OK)
        refused = []

        def refuses():
            refused.append(Reply(server.stub.Generate(greedy(max_tokens=1))))
            return refused[-1].code != grpc.StatusCode.OK
        self.until(refuses, "new requests are refused")
        self.assertEqual(refused[-1].code, UNAVAILABLE)
        self.assertIn("draining", refused[-1].text_of_error)
        for call in calls:
            self.assertEqual(call.ids(), alone)
            self.assertEqual(call.reply.code, grpc.StatusCode.OK)
        self.assertEqual(server.wait(), 0)

    def test_D4_what_does_not_end_in_time_is_cut(self):
        server = self.serve("--drain-timeout", "1s")
        request = greedy(max_tokens=5000, ignore_eos=True)
        call = Background(server, request)
        started = time.monotonic()
        server.signal()
        reply = call.wait()
        self.assertEqual(reply.code, UNAVAILABLE)
        self.assertIn("drain timeout", reply.text_of_error)
        self.assertGreater(len(reply.ids()), 10)
        self.assertEqual(reply.last.usage.completion, len(call.ids()))
        self.assertEqual(server.wait(), 0)
        self.assertLess(time.monotonic() - started, 10)

    def test_D4_a_second_signal_ends_it_now(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            server = self.serve("--drain-timeout", "60s")
            call = Background(server, greedy(max_tokens=5000, ignore_eos=True))
            server.signal(number)
            self.until(lambda: not server.serving(), "health says NOT_SERVING")
            started = time.monotonic()
            server.signal(number)
            self.assertEqual(server.wait(), 128 + number)
            self.assertLess(time.monotonic() - started, 2)
            self.assertEqual(call.wait().code, UNAVAILABLE)

    def test_an_idle_server_ends_at_once(self):
        server = self.serve()
        started = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - started, 3)

    def test_without_reflection(self):
        server = self.serve("--reflection", "off")
        method = server.channel.unary_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        with self.assertRaises(grpc.RpcError) as caught:
            list(method(b"", timeout=10))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)
        self.assertEqual(server.stop(), 0)


class Starts(unittest.TestCase):
    def fails(self, *arguments):
        """Exit status and messages of a server that cannot start."""
        run = subprocess.run([BINARY, "serve", *arguments], capture_output=True, text=True,
                             timeout=60, check=False)
        self.assertEqual(run.stdout, "")
        return run.returncode, run.stderr

    def test_taken_ports_are_one_clear_line(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            names = ("--port", "--grpc-port", "--metrics-port")
            for taken_name in names:
                flags = [word for name in names
                         for word in (name, port if name == taken_name else "0")]
                status, messages = self.fails(sample_model(), *flags)
                self.assertEqual(status, 1, messages)
                errors = [line for line in messages.splitlines() if line.startswith("pregate: ")]
                self.assertEqual(len(errors), 1, messages)
                self.assertIn(port, errors[0])
                self.assertNotIn("chttp2", messages)

    def test_models_that_cannot_be_read_are_status_2_and_one_line(self):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as broken:
            broken.write(b"GGUF" + b"\xff" * 100)
            broken.flush()
            for path in (broken.name, "/nonexistent.gguf"):
                status, messages = self.fails(path)
                self.assertEqual(status, 2, messages)
                self.assertEqual(len(messages.splitlines()), 1, messages)

    def test_a_chat_template_that_is_broken(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as broken:
            broken.write("{% for %}")
            broken.flush()
            status, messages = self.fails(sample_model(), "--chat-template", broken.name,
                                          "--port", "0", "--grpc-port", "0",
                                          "--metrics-port", "0")
            self.assertEqual(status, 2)
            self.assertIn("chat template: line 1", messages)


if __name__ == "__main__":
    sample_model()
    unittest.main(verbosity=2)
