"""Streams, deadlines, cancellation, overload: rows A28, B7, C, D1 and D8 of the bad-input matrix, each
followed by ServedTest's check."""

import os
import subprocess
import threading
import time
import unittest

import grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)

from serve_harness import (
    CANARY, CLIENT, Reply, ServedTest, details_pb, greedy, pb, pb_grpc, sample_model)

DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED
CANCELLED = grpc.StatusCode.CANCELLED
LONG = "Tell me a very long story about a fox and a crow. " * 20


def chat(content, **sampling):
    """A greedy request for the answer to one message."""
    return pb.GenerateRequest(
        chat=pb.Chat(messages=[pb.ChatMessage(role="user", content=content.encode())]),
        sampling=pb.SamplingParams(temperature=0.0, **sampling))


class Streams(ServedTest):
    FLAGS = ("--max-num-seqs", "32")

    def test_streamed_text_is_the_whole_text(self):
        for request in (greedy(max_tokens=60), chat("Write a haiku about caf\u00e9s.", max_tokens=60),
                        chat("Answer with three emoji.", max_tokens=30)):
            pieces = self.ask(request)
            request.stream = False
            whole = self.ask(request)
            self.assertEqual(len(whole.messages), 1)
            self.assertGreater(len(pieces.messages), 3)
            self.assertEqual(pieces.text(), whole.text())
            self.assertEqual(pieces.ids(), whole.ids())
            for message in pieces.messages:
                message.text.decode()  # whole characters
            self.assertEqual(whole.last.usage.completion, len(whole.ids()))

    def test_the_first_piece_comes_long_before_the_last(self):
        start = time.monotonic()
        arrivals = [time.monotonic() - start
                    for _ in self.start(greedy(max_tokens=100, ignore_eos=True))]
        self.assertLess(arrivals[0], arrivals[-1] / 3)

    def test_stop_strings_across_tokens(self):
        free = self.ask(greedy(max_tokens=40)).text()
        for begin, end in ((3, 9), (10, 11), (20, 40)):
            stop = free[begin:end].decode()
            reply = self.ask(greedy(max_tokens=40, stop=[stop, "no such text"]))
            self.assertEqual(reply.text(), free[:free.index(stop.encode())])
            self.assertEqual(reply.last.finish_reason, pb.GenerateResponse.STOP)
            self.assertEqual(reply.last.usage.completion, len(reply.ids()))

    def test_sixty_four_at_once_get_what_they_get_alone(self):
        prompts = [f"{CANARY.split()[i % 5]} number {i} is" for i in range(16)]
        alone = {prompt: self.ask(greedy(prompt)).ids() for prompt in prompts}
        calls = [(prompt, self.start(greedy(prompt))) for prompt in prompts * 4]
        for prompt, call in calls:
            self.assertEqual(Reply(call).ids(), alone[prompt])

    def test_seeds_make_answers_repeatable(self):
        def sampled(seed, n=3):
            request = greedy(temperature=1.0, n=n, seed=seed)
            reply = self.ask(request)
            return [reply.ids(index) for index in range(n)]
        self.assertEqual(sampled(5), sampled(5))
        self.assertNotEqual(sampled(5), sampled(6))
        self.assertEqual(sampled(5, n=1)[0], sampled(5)[0])

    def test_health_and_reflection(self):
        self.assertTrue(self.server.serving())
        self.assertTrue(self.server.serving("pregate.v1.Inference"))
        with self.assertRaises(grpc.RpcError) as caught:
            self.server.serving("pregate.v1.Nothing")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
        reflection = ProtoReflectionDescriptorDatabase(self.server.channel)
        self.assertIn("pregate.v1.Inference", reflection.get_services())
        self.assertIn("grpc.health.v1.Health", reflection.get_services())

    def test_the_client_program(self):
        def client(*arguments):
            return subprocess.run([CLIENT, "--target", f"127.0.0.1:{self.server.grpc_port}",
                                   *arguments], capture_output=True, timeout=60, check=False)
        answer = client("--wait", "10", "--text", CANARY, "--max-tokens", "16", "--temperature", "0")
        type(self).expected_ends += 1
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertEqual(answer.stdout.rstrip(b"\n"), self.ask(greedy()).text().rstrip(b"\n"))
        refused = client("--text", CANARY, "--temperature", "3")
        type(self).expected_ends += 1
        self.assertEqual(refused.returncode, 1)
        self.assertIn(b"INVALID_ARGUMENT: temperature: must be in [0, 2]", refused.stderr)
        self.assertEqual(client().returncode, 2)

    def test_B7_a_reader_that_stalls_costs_the_others_nothing(self):
        # The server gives it up after 30 s without progress; here only that it hurts nobody.
        channel = self.server.new_channel(("grpc.http2.bdp_probe", 0))
        request = greedy(LONG, max_tokens=600, logprobs=20, ignore_eos=True)
        calls = [pb_grpc.InferenceStub(channel).Generate(request, timeout=120) for _ in range(4)]
        type(self).expected_ends += 4
        for call in calls:
            next(call)
        memory = self.resident_bytes()
        self.assertEqual(self.ask(greedy()).ids(), self.canary)
        deadline = time.monotonic() + 100
        while self.server.metrics()["pregate_num_requests_running"] and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertLess(self.resident_bytes() - memory, 64 << 20)
        # Nobody is waiting for a token any more: those who read now get all of it.
        self.assertEqual(len(Reply(calls[0]).ids()), 599)
        for call in calls[1:]:
            call.cancel()
        channel.close()

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class OneAtATime(ServedTest):
    FLAGS = ("--max-num-seqs", "1", "--max-num-queued-reqs", "3")

    def occupy(self, max_tokens=5000):
        """A running call that leaves the others in the queue."""
        call = self.start(greedy(max_tokens=max_tokens, ignore_eos=True), timeout=120)
        next(call)
        return call

    def prompt_tokens_computed(self):
        return self.server.metrics()["pregate_prompt_tokens_total"]

    def test_C1_a_deadline_that_passes_in_the_queue(self):
        running = self.occupy()
        computed = self.prompt_tokens_computed()
        reply = self.ask(greedy(LONG), timeout=1.0)
        self.assertEqual(reply.code, DEADLINE_EXCEEDED)
        self.assertEqual(reply.ids(), [])
        self.assertEqual(self.prompt_tokens_computed(), computed)  # no work was done for it
        running.cancel()

    def test_C2_a_deadline_that_passes_in_prefill(self):
        # A prompt that takes longer than the deadline, in chunks.
        prompt = [i % 1000 + 100 for i in range(6000)]
        reply = self.ask(greedy(prompt), timeout=0.3)
        self.assertEqual(reply.code, DEADLINE_EXCEEDED)
        self.assertEqual(reply.ids(), [])

    def test_C3_a_deadline_that_passes_in_decode(self):
        reply = self.ask(greedy(max_tokens=5000, ignore_eos=True), timeout=1.5)
        self.assertEqual(reply.code, DEADLINE_EXCEEDED)
        self.assertGreater(len(reply.ids()), 10)
        whole = self.ask(greedy(max_tokens=len(reply.ids()), ignore_eos=True)).ids()
        self.assertEqual(reply.ids(), whole)

    def test_C4_cancelled_in_the_queue(self):
        running = self.occupy()
        queued = self.start(greedy())
        while not self.server.metrics()["pregate_num_requests_waiting"]:
            time.sleep(0.01)
        queued.cancel()
        self.assertEqual(Reply(queued).code, CANCELLED)
        running.cancel()

    def test_C4_cancelled_in_prefill(self):
        call = self.start(greedy([i % 1000 + 100 for i in range(6000)]))
        while not self.server.metrics()["pregate_num_requests_running"]:
            time.sleep(0.01)
        call.cancel()
        self.assertEqual(Reply(call).code, CANCELLED)

    def test_C4_cancelled_in_decode_frees_its_place_at_once(self):
        running = self.occupy()
        queued = self.start(greedy())
        running.cancel()
        cancelled = time.monotonic()
        self.assertEqual(Reply(queued).ids(), self.canary)
        self.assertLess(time.monotonic() - cancelled, 5)

    def test_C4_cancelled_before_the_trailers(self):
        for stream in (True, False):
            request = greedy(max_tokens=3, ignore_eos=True)
            request.stream = stream
            call = self.start(request)
            for message in call:
                if message.finish_reason != pb.GenerateResponse.NONE:
                    break
            call.cancel()

    def test_C5_cancelling_twice_and_after_the_end(self):
        call = self.occupy()
        call.cancel()
        call.cancel()
        self.assertEqual(Reply(call).code, CANCELLED)
        ended = self.start(greedy())
        self.assertEqual(Reply(ended).ids(), self.canary)
        ended.cancel()

    def test_A28_absurd_deadlines(self):
        for timeout in (1e-9, -1.0):
            reply = self.ask(greedy(), timeout=timeout, counted=0)
            self.assertEqual(reply.code, DEADLINE_EXCEEDED)
        # Whether a call that is over when it begins reaches the server is the libraries' affair.
        time.sleep(0.5)
        type(self).expected_ends = self.ends()
        for timeout in (1e8, 4e9):  # seconds; the client's library overflows soon after
            self.assertEqual(self.ask(greedy(), timeout=timeout).ids(), self.canary)

    def test_A28_absurd_deadlines_on_the_wire(self):
        # As no client's library would send them; those that are no deadline are none.
        for header in ("99999999H", "99999999S", "123456789H", "-5S", "1e5S", "1", ""):
            self.assertEqual(self.ask(greedy(), timeout=None,
                                      metadata=(("grpc-timeout", header),)).ids(), self.canary)
        for header in ("1n", "0n"):
            reply = self.ask(greedy(), timeout=None, metadata=(("grpc-timeout", header),))
            self.assertEqual(reply.code, DEADLINE_EXCEEDED)
            self.assertEqual(reply.ids(), [])
        time.sleep(0.5)
        type(self).expected_ends = self.ends()  # whether they still reached the method is open

    def test_D1_exactly_those_over_the_queue_are_refused(self):
        running = self.occupy()
        calls = [self.start(greedy(), timeout=120) for _ in range(10)]
        replies = [None] * len(calls)

        def collect(index):
            replies[index] = Reply(calls[index])
        threads = [threading.Thread(target=collect, args=(i,)) for i in range(len(calls))]
        for thread in threads:
            thread.start()
        while sum(reply is not None for reply in replies) < 7:
            time.sleep(0.01)
        running.cancel()
        for thread in threads:
            thread.join()
        refused = [reply for reply in replies if reply.code != grpc.StatusCode.OK]
        self.assertEqual(len(refused), 7)  # three may wait
        waits = set()
        for reply in refused:
            self.assertEqual(reply.code, grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.assertRegex(reply.text_of_error, r"^queue: must hold at most 3 requests; got 4$")
            delay = reply.detail(details_pb.RetryInfo).retry_delay.ToMilliseconds()
            self.assertEqual(reply.trailers["grpc-retry-pushback-ms"], str(delay))
            self.assertTrue(500 <= delay <= 1600, delay)
            waits.add(delay)
        self.assertGreater(len(waits), 3)  # they do not come back together
        for reply in replies:
            if reply.code == grpc.StatusCode.OK:
                self.assertEqual(reply.ids(), self.canary)

    def test_D1_queued_tokens_are_bounded_too(self):
        self.refused(greedy([5] * 2000, n=16), code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                     begins="queue: must hold at most")

    def test_D1_refusals_are_quick(self):
        running = self.occupy()
        waiting = [self.start(greedy(), timeout=120) for _ in range(3)]
        while self.server.metrics()["pregate_num_requests_waiting"] < 3:
            time.sleep(0.01)
        times = []
        for _ in range(100):
            start = time.monotonic()
            self.refused(greedy(), code=grpc.StatusCode.RESOURCE_EXHAUSTED)
            times.append(time.monotonic() - start)
        times.sort()
        print(f"refusals: median {times[50] * 1e3:.2f} ms, p99 {times[98] * 1e3:.2f} ms")
        self.assertLess(times[50], 0.1)
        running.cancel()
        for call in waiting:
            self.assertEqual(Reply(call).ids(), self.canary)


class ScarceMemory(ServedTest):
    FLAGS = ("--kv-cache-memory", "9MiB", "--no-enable-prefix-caching")  # 25 blocks of 16 positions

    def test_D8_preempted_answers_are_the_same(self):
        requests = [greedy(f"Chapter {i}.", max_tokens=60, ignore_eos=True, seed=i,
                           temperature=i % 2 * 0.8) for i in range(8)]
        alone = [self.ask(request).ids() for request in requests]
        before = self.server.metrics()["pregate_num_preemptions_total"]
        together = [Reply(call).ids() for call in [self.start(request) for request in requests]]
        self.assertEqual(together, alone)
        self.assertGreater(self.server.metrics()["pregate_num_preemptions_total"], before)


if __name__ == "__main__":
    sample_model()
    unittest.main(verbosity=2)
