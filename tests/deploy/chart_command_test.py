"""What the chart's containers are told, without a model: every server's command line is understood, and
the script of the init container fetches what it should, whole or not at all."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from chart_pod import Origin, Pod, pod_of
from helm_chart import CHART, ROOT, VALUE_SETS, pods, render, server

BINARY = pathlib.Path(os.environ.get("PREGATE_BINARY", ROOT / "build/release/pregate"))
SKIPPED = 77  # ctest shows a test that exits so as skipped


class CommandLines(unittest.TestCase):
    """Of every set of values: the program understands each word, and only then finds no model."""

    NO_MODEL = "pregate: model: cannot be opened: No such file or directory"
    FILES = ("--api-key-file=", "--ssl-", "--chat-template=")  # that are not here either

    def test_every_set(self):
        for values in VALUE_SETS:
            for name, spec, _ in pods(render(file=values)):
                if server(spec) is None:
                    continue
                words = [word for word in server(spec)["args"] if not word.startswith(self.FILES)]
                words[1] = "/nonexistent/model.gguf"
                with self.subTest(values=values.name, pod=name):
                    run = subprocess.run([BINARY, *words], env={}, capture_output=True, text=True,
                                         timeout=60, check=False)
                    self.assertEqual(run.returncode, 2)
                    self.assertIn(self.NO_MODEL, run.stderr)

    def test_a_word_that_is_not_understood(self):
        run = subprocess.run([BINARY, "serve", "/nonexistent/model.gguf", "--max-num-seq=3"],
                             capture_output=True, text=True, timeout=60, check=False)
        self.assertNotIn(self.NO_MODEL, run.stderr)


class Download(unittest.TestCase):
    """The script of the init container."""

    FILES = {"model.safetensors": b"weights" * 1000, "config.json": b"{}"}

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def pod(self, origin, header=b"", **digests):
        """What is rendered for the files of the origin."""
        files = [{"url": f"{origin.url}/x/{name}?download=true", "path": f"m/{name}",
                  "sha256": digests.get(name.split(".")[0], self.sha256(content))}
                 for name, content in self.FILES.items()]
        download = {"files": files, "model": "m"}
        if header:
            download["headerSecret"] = {"name": "access", "key": "header"}
        spec = pod_of(render({"models": [{"name": "m", "source": {"download": download}}]}))
        pod = Pod(spec, BINARY.parent, secrets={"access": {"header": header}})
        self.addCleanup(pod.close)
        pod.volumes["model"] = self.folder
        self.folder.chmod(0o777)
        return pod

    def fetch(self, origin, **more):
        """Runs the init container: (exit status, output)."""
        pod = self.pod(origin, **more)
        return pod.run(pod.spec["initContainers"][0])

    @staticmethod
    def sha256(content):
        run = subprocess.run(["sha256sum"], input=content, capture_output=True, check=True)
        return run.stdout.decode().split()[0]

    def there(self):
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())

    def test_each_file_comes_once(self):
        with Origin(self.FILES) as origin:
            status, output = self.fetch(origin)
            self.assertEqual(status, 0, output)
            for name, content in self.FILES.items():
                self.assertEqual((self.folder / "m" / name).read_bytes(), content)
                self.assertEqual((self.folder / "m" / name).stat().st_mode & 0o777, 0o644)
            self.assertEqual(self.there(), sorted(self.FILES))
            status, output = self.fetch(origin)
            self.assertEqual((status, len(origin.asked)), (0, 2), output)
            self.assertIn("m/config.json: there already", output)
            # What was spoilt is fetched again.
            (self.folder / "m/config.json").chmod(0o666)
            (self.folder / "m/config.json").write_bytes(b"spoilt")
            status, output = self.fetch(origin)
            self.assertEqual((status, len(origin.asked)), (0, 3), output)
            self.assertEqual((self.folder / "m/config.json").read_bytes(), b"{}")

    def test_a_wrong_digest_leaves_nothing(self):
        with Origin(self.FILES) as origin:
            status, output = self.fetch(origin, config="a" * 64)
            self.assertEqual(status, 1)
            self.assertIn("m/config.json: the SHA-256 of what came is not aaaa", output)
            self.assertEqual(self.there(), ["model.safetensors"])

    def test_what_is_not_there_leaves_nothing(self):
        with Origin({}) as origin:
            status, output = self.fetch(origin)
            self.assertNotEqual(status, 0)
            self.assertIn("404", output)
            self.assertEqual(self.there(), [])

    def test_a_header_of_a_secret(self):
        with Origin(self.FILES, header=("Authorization", "Bearer secret-0123")) as origin:
            status, output = self.fetch(origin)
            self.assertNotEqual(status, 0)
            status, output = self.fetch(origin, header=b"Authorization: Bearer secret-0123")
            self.assertEqual(status, 0, output)
            self.assertNotIn("secret-0123", output)

    def test_it_ends_when_told_to(self):
        """Also as the first process of a container, where signals without a handler are ignored."""
        with Origin(self.FILES, stall=True) as origin:
            pod = self.pod(origin)
            with pod.launch(pod.spec["initContainers"][0]) as script:
                deadline = time.monotonic() + 30
                while not origin.asked and time.monotonic() < deadline:
                    time.sleep(0.02)
                script.terminate()
                self.assertEqual(script.wait(10), 143)
            self.assertEqual(self.there(), [])

    def test_the_script_is_sound(self):
        script = CHART / "files/download.sh"
        for shell in (["sh", "-n", script], ["shellcheck", "--shell=sh", script]):
            if shutil.which(shell[0]):
                run = subprocess.run(shell, capture_output=True, text=True, check=False)
                self.assertEqual(run.returncode, 0, run.stdout + run.stderr)


if __name__ == "__main__":
    if shutil.which("curl") is None:
        print("SKIPPED: no curl; deploy/install_deps.sh --test installs it")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
