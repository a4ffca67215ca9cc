"""What a server does so that load goes where there is room: not ready under sustained overload, and
connections of gRPC that come to an age (rows B13 and D1 of the bad-input matrix), over real sockets."""

import socket
import threading
import time
import unittest
import urllib.error
import urllib.request

import grpc

from serve_harness import Reply, Server, greedy, pb_grpc

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Forwarder:
    """Passes bytes on to a port, and counts the connections that clients make."""

    def __init__(self, port):
        self.target, self.connections = port, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
            back.start()
            self._pass(client, server)
            back.join()

    @staticmethod
    def _pass(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Served(unittest.TestCase):
    def serve(self, *flags):
        server = Server(*flags)
        self.addCleanup(lambda: server.process.poll() is None and server.stop())
        return server

    def until(self, condition, what, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.05)
        self.fail(f"never came true: {what}")


class Overload(Served):
    def fill(self, server, waiting):
        """Calls of which one runs and the others fill the queue."""
        long = greedy(max_tokens=8000, ignore_eos=True)
        calls = [server.stub.Generate(long, timeout=120)]
        next(calls[0])
        calls += [server.stub.Generate(long, timeout=120) for _ in range(waiting)]
        self.until(lambda: server.metrics()["pregate_num_requests_waiting"] == waiting,
                   "a full queue")
        return calls

    @staticmethod
    def get(server, path):
        """Status and body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}{path}",
                                        timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ready_everywhere(self, server, ready, reason=""):
        """Whether every door says so."""
        said = [self.get(server, "/readyz"), self.get(server, "/health")]
        return (said == [(200, "ok\n")] * 2 if ready else said == [(503, f"{reason}\n")] * 2) and (
            (self.get(server, "/v2/health/ready")[0] == 200) == ready and
            server.serving() == server.serving("pregate.v1.Inference") == ready and
            server.metrics()["pregate_overloaded"] == (not ready))

    def test_D1_readiness_goes_after_a_while_and_comes_back(self):
        server = self.serve("--max-num-seqs", "1", "--max-num-queued-reqs", "2",
                            "--overload-unready-after", "3s")
        calls = self.fill(server, 2)
        time.sleep(4.5)  # a queue that is full refuses nobody who does not come
        self.assertTrue(self.ready_everywhere(server, True))

        began, refused = time.monotonic(), 0
        while self.get(server, "/readyz")[0] == 200:
            self.assertLess(time.monotonic() - began, 30)
            reply = Reply(server.stub.Generate(greedy(max_tokens=1), timeout=10))
            self.assertEqual(reply.code, grpc.StatusCode.RESOURCE_EXHAUSTED)
            refused += 1
            time.sleep(0.1)
        self.assertGreater(time.monotonic() - began, 2.5)
        self.until(lambda: self.ready_everywhere(server, False, "overloaded"), "not ready")
        # It lives, and serves whoever comes all the same: here, with a refusal.
        self.assertEqual(self.get(server, "/livez"), (200, "ok\n"))
        self.assertEqual(server.metrics()['pregate_requests_rejected_total{reason="queue_full"}'],
                         refused)
        # The queue is as long as ever: nobody is refused any more, and it stays away.
        time.sleep(5)
        self.assertTrue(self.ready_everywhere(server, False, "overloaded"))
        calls[2].cancel()  # half of it goes
        self.until(lambda: self.ready_everywhere(server, True), "ready again")
        for call in calls:
            call.cancel()
        self.assertEqual(len(Reply(server.stub.Generate(greedy(), timeout=60)).ids()), 16)
        self.assertEqual(server.stop(), 0)

    def test_D1_without_the_flag_it_stays_ready(self):
        server = self.serve("--max-num-seqs", "1", "--max-num-queued-reqs", "1")
        calls = self.fill(server, 1)
        for _ in range(50):
            reply = Reply(server.stub.Generate(greedy(max_tokens=1), timeout=10))
            self.assertEqual(reply.code, grpc.StatusCode.RESOURCE_EXHAUSTED)
            time.sleep(0.1)
        self.assertTrue(self.ready_everywhere(server, True))
        for call in calls:
            call.cancel()


class ConnectionAge(Served):
    def connect(self, *flags):
        """A server, a client's stub, and what counts its connections."""
        forwarder = Forwarder(self.serve(*flags).grpc_port)
        self.addCleanup(forwarder.listener.close)
        channel = grpc.insecure_channel(f"127.0.0.1:{forwarder.port}",
                                        [("grpc.use_local_subchannel_pool", 1)])
        self.addCleanup(channel.close)
        return pb_grpc.InferenceStub(channel), forwarder

    def ask(self, stub):
        reply = Reply(stub.Generate(greedy(max_tokens=2, ignore_eos=True), timeout=60))
        self.assertEqual((reply.code, len(reply.ids())), (grpc.StatusCode.OK, 2))

    @staticmethod
    def read_for(call, seconds):
        """Tokens that come; the status that ends it before, or OK."""
        began, tokens = time.monotonic(), 0
        try:
            for message in call:
                tokens += len(message.token_ids)
                if time.monotonic() - began > seconds:
                    call.cancel()
                    return tokens, grpc.StatusCode.OK
        except grpc.RpcError as error:
            return tokens, error.code()
        raise AssertionError("the answer was too short for this test")

    def test_B13_without_an_age_a_connection_stays(self):
        stub, forwarder = self.connect()
        for _ in range(4):
            self.ask(stub)
            time.sleep(1)
        self.assertEqual(forwarder.connections, 1)

    def test_B13_a_connection_of_an_age_makes_room_for_another_and_loses_no_call(self):
        stub, forwarder = self.connect("--grpc-max-connection-age", "1s")
        end = time.monotonic() + 6
        while time.monotonic() < end:
            self.ask(stub)  # at any moment of a connection's life
        self.assertGreaterEqual(forwarder.connections, 3)
        self.assertLessEqual(forwarder.connections, 8)

    def test_B13_a_stream_goes_on_beyond_the_age(self):
        stub, forwarder = self.connect("--grpc-max-connection-age", "1s")
        call = stub.Generate(greedy(max_tokens=8000, ignore_eos=True), timeout=120)
        next(call)
        time.sleep(1.5)
        self.ask(stub)  # beside it, on another one
        self.assertEqual(forwarder.connections, 2)
        tokens, code = self.read_for(call, 5)
        self.assertEqual(code, grpc.StatusCode.OK)
        self.assertGreater(tokens, 3)

    def test_B13_what_is_left_after_the_grace_is_cut(self):
        stub, _ = self.connect("--grpc-max-connection-age", "1s",
                               "--grpc-max-connection-age-grace", "4s")
        began = time.monotonic()
        call = stub.Generate(greedy(max_tokens=8000, ignore_eos=True), timeout=120)
        tokens, code = self.read_for(call, 60)
        self.assertEqual(code, UNAVAILABLE)
        self.assertGreater(tokens, 3)
        # A tenth of the age less or more, and what a busy machine adds.
        self.assertGreater(time.monotonic() - began, 4.8)
        self.assertLess(time.monotonic() - began, 15)
        self.ask(stub)


if __name__ == "__main__":
    unittest.main(verbosity=2)
