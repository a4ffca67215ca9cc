"""The operator's guide does what it says: its commands, run in order against the real program and a
real model, print what stands below them; each flag and metric that the documents for operators name
exists, and each route of the HTTP API is answered."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

from markdown_files import ROOT, blocks, read, without_blocks

sys.path.insert(0, str(ROOT / "tests/server"))
# pylint: disable=wrong-import-position
from certificates import Certificates  # noqa: E402
from serve_harness import BINARY, SKIPPED, Server, sample_model  # noqa: E402

GUIDE = "deploy/GUIDE.md"
DOCUMENTS = (GUIDE, "deploy/RUNBOOK.md", "README.md", "SECURITY.md", "server/API.md",
             "deploy/chart/pregate/README.md", "deploy/dashboards/README.md",
             "deploy/image/README.md", "deploy/proxy/README.md")
COMMANDS = ("serve", "chat", "generate", "embed", "bench", "simulate")
# Flags of other programs, and of scripts, that these documents speak of by themselves.
OTHERS_FLAGS = {"build-arg", "cuda", "model-server-metrics-port", "output"}
SECONDS = 240  # for all commands, on a machine that does much else


def free_ports(count):
    """Ports of the loopback interface that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def examples(text):
    """(commands, what they print or None) of the blocks that are marked to be run."""
    found = blocks(text)
    for (info, commands), (next_info, output) in zip(found, found[1:] + [("", "")]):
        if info == "sh check":
            yield commands, output if next_info == "text check" else None


def matches(wanted, printed):
    """Whether these are the lines that were printed; one that reads ... stands for any number."""
    if not wanted:
        return not printed
    if wanted[0].strip() == "...":
        return any(matches(wanted[1:], printed[skip:]) for skip in range(len(printed) + 1))
    return bool(printed) and printed[0].rstrip() == wanted[0].rstrip() and matches(wanted[1:],
                                                                                 printed[1:])


class Commands(unittest.TestCase):
    def test_they_print_what_stands_below_them(self):
        wanted = list(examples(read(GUIDE)))
        self.assertGreater(len(wanted), 6)
        mark = "-- block --"
        script = "set -eu\n" + "".join(f"{commands}echo '{mark}'\n"
                                                 for commands, _ in wanted)
        # The ports that the guide names may be taken here.
        names = ("8000", "8001", "8002", "8003")
        ports = dict(zip(names, map(str, free_ports(len(names)))))
        script = re.sub(r"(localhost:|--health-port )(800\d)", lambda m: m[1] + ports[m[2]], script)
        with tempfile.TemporaryDirectory(prefix="pregate-guide-") as folder:
            environment = dict(os.environ, TMPDIR=folder, PREGATE_PORT=ports["8000"],
                               PREGATE_GRPC_PORT=ports["8001"], PREGATE_METRICS_PORT=ports["8002"])
            script = script.replace('export PATH="$PWD/build/release:$PATH"',
                                    f'export PATH="{BINARY.parent}:$PATH"')
            log = pathlib.Path(folder) / "log"
            with open(log, "w", encoding="utf-8") as errors, subprocess.Popen(
                    ["bash", "-c", script], cwd=ROOT, env=environment, text=True,
                    stdout=subprocess.PIPE, stderr=errors, start_new_session=True) as shell:
                try:
                    output = shell.communicate(timeout=SECONDS)[0]
                finally:  # with the servers that a block which failed has left
                    try:
                        os.killpg(shell.pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            said = log.read_text(encoding="utf-8")
        printed = output.split(mark + "\n")
        for number, (commands, lines) in enumerate(wanted):
            self.assertLess(number, len(printed) - 1, f"{commands}{printed[-1]}{said}")
            if lines is not None:
                self.assertTrue(matches(lines.splitlines(), printed[number].splitlines()),
                                f"{commands}\nprinted:\n{printed[number]}{said}")

    def test_a_line_that_is_not_printed_is_seen(self):
        self.assertTrue(matches(["a", "...", "c"], ["a", "b", "b", "c"]))
        self.assertFalse(matches(["a", "...", "d"], ["a", "b", "c"]))
        self.assertFalse(matches(["a"], ["a", "b"]))
        self.assertFalse(matches(["a", "b"], ["a"]))

    def test_the_formulas_figures(self):
        """Those of the table of memory, from what `inspect` says."""
        guide = read(GUIDE)
        for model, row in ((sample_model(), "SmolLM2"),
                           (sample_model("gemma-3-270m-q4_k_m.gguf", "gemma3"), "Gemma 3")):
            said = subprocess.run([BINARY, "inspect", model], capture_output=True, text=True,
                                  check=True).stdout
            layers = int(re.search(r"^sizes +(\d+) layers", said, re.MULTILINE)[1])
            vocabulary = int(re.search(r"vocabulary (\d+)", said)[1])
            size, heads = map(int, re.search(r"heads of (\d+), (\d+) of keys", said).groups())
            weights = float(re.search(r"^parameters .*, ([\d.]+) MiB", said, re.MULTILINE)[1])
            token = 2 * layers * heads * size * 2
            tokens = (512 << 20) // (16 * token) * 16
            cells = re.search(rf"^\| {row}.*$", guide, re.MULTILINE)[0].split(" | ")
            self.assertEqual(cells[1:5], [f"{weights:.0f} MiB", f"{token:,}", f"{tokens:,}",
                                          f"{256 * vocabulary * 4 >> 20} MiB"])


def flags_of(command):
    listed = "--help-all" if command == "serve" else "--help"
    run = subprocess.run([BINARY, command, listed], capture_output=True, text=True, check=True)
    names = set()
    for no, name in re.findall(r"--(\[no-\])?([a-z0-9-]+)", run.stdout):
        names |= {name, f"no-{name}"} if no else {name}
    return names


def named_flags(text):
    """(command or None, flag) of each flag in code: of what is called, or standing by itself."""
    for _, block in blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield from flags_in(line)
    for span in re.findall(r"`([^`\n]+)`", without_blocks(text)):
        name = re.match(r"--(?:\[no-\])?([a-z][a-z0-9-]+)", span)
        if name:
            yield None, name[1]
        yield from flags_in(span)


def flags_in(line):
    called = re.search(r"(?:^|[\s/])pregate(?: |-)([a-z]+)(.*)", line)
    if called and called[1] in (*COMMANDS, "client"):
        for name in re.findall(r"(?<=\s)--([a-z][a-z0-9-]+)", re.split(r" [|&#] ?", called[2])[0]):
            yield called[1], name


class Names(unittest.TestCase):
    def test_flags(self):
        client = subprocess.run([BINARY.parent / "pregate-client", "--help"], capture_output=True,
                                text=True, check=True).stdout
        known = {command: flags_of(command) for command in COMMANDS}
        known["client"] = set(re.findall(r"--([a-z0-9-]+)", client))
        known[None] = set().union(OTHERS_FLAGS, *known.values())
        named = set()
        for document in DOCUMENTS:
            for command, name in named_flags(read(document)):
                named.add((command, name))
                self.assertIn(name, known[command], f"{document}: {command}")
        self.assertGreater(len(named), 60)
        self.assertLessEqual({("serve", "health-port"), ("simulate", "replay"), ("client", "target"),
                              (None, "drain-timeout")}, named)

    def test_flags_of_serve_that_the_guide_sets(self):
        """Each with the value that the guide gives it."""
        serve = subprocess.run([BINARY, "serve", "--help-all"], capture_output=True, text=True,
                               check=True).stdout
        for name, value in re.findall(r"`--([a-z-]+) ([A-Za-z0-9_-]+)`", read(GUIDE)):
            words = re.search(rf"--{name} (\S+)", serve)
            self.assertIsNotNone(words, name)
            if "|" in words[1]:
                self.assertIn(value, words[1].split("|"), name)

    def test_metrics(self):
        files = Certificates()
        self.addCleanup(files.folder.cleanup)
        files.authority("ca")
        files.certificate("server", "ca", hosts=["localhost"])
        tokens = pathlib.Path(files.folder.name) / "tokens"
        tokens.write_text("somebody:0123456789abcdef\n", encoding="utf-8")
        server = Server("--read-me", str(ROOT / "tests/testdata/read_me_smollm2"),
                        "--expert-storage", "copies", "--expert-cache-memory", "90MiB",
                        "--metrics-compat", "vllm", "--api-key-file", str(tokens),
                        "--otlp-traces-endpoint", "http://127.0.0.1:1",
                        "--ssl-certfile", files.path("server.pem"),
                        "--ssl-keyfile", files.path("server.key"))
        self.addCleanup(server.stop)
        page = urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics",
                                      timeout=10).read().decode()
        families = set(re.findall(r"^# TYPE (\S+) ", page, re.MULTILINE))
        labels = set(re.findall(r'="([^"]*)"', page))
        named = 0
        for document in DOCUMENTS:
            text = read(document)
            for name in set(re.findall(r"\b(?:pregate_|vllm:|process_)[a-z][a-z0-9_]*\b", text)):
                named += 1
                self.assertIn(name, families, document)
            for value in re.findall(r'\{(?:reason|finished_reason|outcome)="(\w+)"\}', text):
                self.assertIn(value, labels, document)
        self.assertGreater(named, 30)

    def test_panels(self):
        """Those that the guide and the runbook send somebody to."""
        boards = "".join(path.read_text(encoding="utf-8") for path in
                         (ROOT / "deploy/chart/pregate/dashboards").glob("*.json"))
        titles = set(re.findall(r'"title": "([^"]+)"', boards))
        guide = "".join(re.findall(r"^\|.*\|$", read(GUIDE), re.MULTILINE))
        named = re.findall(r'(?:overview|scheduler|experts), "([^"]+)"', guide)
        self.assertGreater(len(named), 3)
        self.assertEqual([name for name in named if name not in titles], [])
        # What the runbook quotes is a panel, or what the server says.
        quoted = [" ".join(text.split()) for text in
                  re.findall(r'"([^"]+)"', without_blocks(read("deploy/RUNBOOK.md")))]
        self.assertGreater(len(set(quoted) & titles), 15)
        sources = "".join(path.read_text(encoding="utf-8") for room in ("server", "engine")
                          for path in sorted((ROOT / room).rglob("*.cc")))
        said = re.sub(r'"\s*"', "", sources)  # as the compiler joins them
        self.assertEqual([text for text in quoted if text not in titles and not all(
            part.strip() in said for part in text.split("..."))], [])


class Routes(unittest.TestCase):
    def test_each_is_answered(self):
        server = Server()
        self.addCleanup(server.stop)
        asked = 0
        for row in re.findall(r"^\| (`(?:GET|POST) .*?) \|", read("server/API.md"), re.MULTILINE):
            method = re.match(r"`(\w+)", row)[1]
            for path in re.findall(r"(/[^`]*)`", row):
                path = path.replace("{id}", "smollm2").replace("{model}", "smollm2")
                request = urllib.request.Request(
                    f"http://127.0.0.1:{server.http_port}{path}", method=method,
                    data=b"{}" if method == "POST" else None,
                    headers={"Content-Type": "application/json"})
                asked += 1
                try:
                    status = urllib.request.urlopen(request, timeout=10).status
                except urllib.error.HTTPError as error:
                    status = error.code
                # Of what is posted, a field is missing, or the model gives no vectors.
                self.assertIn(status, (200,) if method == "GET" else (200, 400, 501), path)
        self.assertGreater(asked, 15)


if __name__ == "__main__":
    sample_model()
    for program in ("curl", "openssl"):
        if shutil.which(program) is None:
            print(f"SKIPPED: no {program}; deploy/install_deps.sh --test installs it")
            sys.exit(SKIPPED)
    unittest.main(verbosity=2)
