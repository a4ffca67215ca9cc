"""`pregate chat` and `pregate generate` on a terminal: colours, Ctrl-C, Ctrl-D, figures."""

import os
import pty
import re
import select
import signal
import sys
import time
import unittest

from serve_harness import BINARY, sample_model

PROMPT = b"> "
ESCAPE = re.compile(rb"\x1b\[[0-9;]*[a-zA-Z]")


class Terminal:
    """The binary on a terminal of its own, and what it has written there."""

    def __init__(self, *words, **environment):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.pop("NO_COLOR", None)
            os.environ.update({"TERM": "xterm", **environment})
            os.execv(BINARY, [str(BINARY), *words])

    def wait_for(self, what, seconds=60):
        """Reads until it has written `what`; what came before that, and it."""
        deadline = time.monotonic() + seconds
        while not re.search(what, self.seen):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise AssertionError(f"no {what!r} in {self.seen!r}")
            try:
                got = os.read(self.fd, 4096)
            except OSError:  # how Linux says that the other end is closed
                got = b""
            if not got:
                raise AssertionError(f"it ended before {what!r}: {self.seen!r}")
            self.seen += got
        end = re.search(what, self.seen).end()
        seen, self.seen = self.seen[:end], self.seen[end:]
        return seen

    def type(self, text):
        os.write(self.fd, text)

    def end(self, seconds=60):
        """Reads to the end: the exit status."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    got = os.read(self.fd, 4096)
                except OSError:
                    got = b""
                self.seen += got
                if not got:
                    break
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


class ChatOnATerminal(unittest.TestCase):
    def chat(self, *flags, **environment):
        terminal = Terminal("chat", str(sample_model()), "--temperature", "0", *flags,
                            **environment)
        self.addCleanup(self.kill, terminal)
        return terminal

    @staticmethod
    def kill(terminal):
        try:
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def test_a_conversation(self):
        terminal = self.chat()
        self.assertIn(b"/help", terminal.wait_for(PROMPT))
        terminal.type(b"What is the capital of France?\n")
        answer = terminal.wait_for(PROMPT)
        self.assertIn(b"Paris", answer)
        self.assertRegex(answer, rb"\d+ prompt tokens in [\d.]+ s; \d+ tokens in")
        terminal.type(b"And of Spain?\n")
        answer = terminal.wait_for(PROMPT)
        self.assertRegex(answer, rb"\(\d+ were known\)")  # the prefix cache has the first turn
        terminal.type(b"/help\n")
        self.assertIn(b"/system TEXT", terminal.wait_for(PROMPT))
        terminal.type(b"/reset\n")
        self.assertIn(b"from the beginning", terminal.wait_for(PROMPT))
        terminal.type(b"\x04")
        self.assertEqual(terminal.end(), 0)

    def test_ctrl_c_ends_the_answer_and_nothing_else(self):
        terminal = self.chat("--max-tokens", "4000")
        terminal.wait_for(PROMPT)
        terminal.type(b"Tell a very long story about a dragon.\n")
        terminal.wait_for(rb"dragon[^\r]*\r\n.{40}")  # the echo, then some of the answer
        terminal.type(b"\x03")
        cut = terminal.wait_for(PROMPT, seconds=10)
        self.assertIn(b"tokens/s", cut)
        terminal.type(b"\x03")  # where nothing runs it does no harm
        self.assertIn(b"Ctrl-D leaves", terminal.wait_for(PROMPT))
        terminal.type(b"/reset\n")
        terminal.wait_for(PROMPT)
        terminal.type(b"What is the capital of France?\n")
        self.assertIn(b"Paris", terminal.wait_for(PROMPT))
        terminal.type(b"\x04")
        self.assertEqual(terminal.end(), 0)

    def test_colours_are_for_those_who_want_them(self):
        coloured = self.chat()
        coloured.wait_for(PROMPT)
        coloured.type(b"Hi\n")
        self.assertRegex(coloured.wait_for(rb"tokens/s.*\n"), ESCAPE)
        for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            plain = self.chat(**environment)
            plain.wait_for(rb"leaves")  # after the bar that shows how the model loads
            plain.wait_for(PROMPT)
            plain.type(b"Hi\n")
            self.assertNotRegex(plain.wait_for(rb"tokens/s.*\n"), ESCAPE)

    def test_generate_closes_with_figures(self):
        terminal = Terminal("generate", str(sample_model()), "-p", "Say hello.", NO_COLOR="1")
        self.addCleanup(self.kill, terminal)
        self.assertEqual(terminal.end(), 0)
        self.assertRegex(terminal.seen, rb"\r\n\r\n\d+ prompt tokens in [\d.]+ s; \d+ tokens in "
                                        rb"[\d.]+ s, [\d.]+ tokens/s\r\n$")


if __name__ == "__main__":
    sample_model()
    sys.exit(unittest.main(verbosity=2))
