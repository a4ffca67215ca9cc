"""The image without a container engine: its stages are run as the Dockerfile runs them, what comes
out is looked at, and it is entered as an engine would to serve a real model with the Dockerfile's
command.
"""

import hashlib
import importlib.util
import io
import json
import pathlib
import subprocess
import tarfile
import unittest

from image_stages import EPOCH, IMAGE, Entered, Guarded, Image, debian, run_tests

MAX_BYTES = 110 << 20
# Compiled twice, in folders of different names: what it asserts holds the name of its file.
SOURCE = "engine/plan/kv_block_pool.cc"
OBJECT = "engine/plan/CMakeFiles/engine_plan.dir/kv_block_pool.cc.o"

image = Image()


def setUpModule():  # pylint: disable=invalid-name
    image.assemble()


def tearDownModule():  # pylint: disable=invalid-name
    image.folder.cleanup()


class Contents(Guarded, unittest.TestCase):
    rootfs = image.rootfs

    @classmethod
    def setUpClass(cls):
        cls.files = sorted(image.rootfs.rglob("*"))

    def test_its_size(self):
        size = sum(path.lstat().st_size for path in self.files)
        print(f"{size / (1 << 20):.1f} MiB in {len(self.files)} files, links and folders", end=" ")
        self.assertLess(size, MAX_BYTES)

    def test_the_same_again(self):
        again = image.work / "again"
        image.stage("deploy/image/assemble.sh", image.out, again)
        (again / "etc/group").touch()  # the archive has the time that it is given
        self.assertEqual(self.pack(again), self.pack(self.rootfs))
        (again / "etc/group").chmod(0o600)
        self.assertNotEqual(self.pack(again), self.pack(self.rootfs))

    @staticmethod
    def pack(folder):
        """Digest of the image and of the archive that holds it."""
        archive = image.work / "image.tar"
        digest = image.stage("deploy/image/oci.py", folder, archive, "VERSION=1.2.3")
        return digest, hashlib.sha256(archive.read_bytes()).hexdigest()

    def test_an_archive_for_engines(self):
        archive = image.work / "engines.tar"
        digest = image.stage("deploy/image/oci.py", self.rootfs, archive, "VERSION=1.2.3",
                             "REVISION=abc")
        with tarfile.open(archive) as tar:
            files = {info.name: tar.extractfile(info).read() for info in tar}

        def blob(described):
            data = files["blobs/" + described["digest"].replace(":", "/")]
            self.assertEqual(len(data), described["size"])
            self.assertEqual("sha256:" + hashlib.sha256(data).hexdigest(), described["digest"])
            return data
        self.assertEqual(json.loads(files["oci-layout"]), {"imageLayoutVersion": "1.0.0"})
        (described,) = json.loads(files["index.json"])["manifests"]
        self.assertEqual(described["digest"], digest)
        manifest = json.loads(blob(described))
        config = json.loads(blob(manifest["config"]))
        self.assertEqual(config["config"]["User"], "65532:65532")
        self.assertEqual(config["config"]["Entrypoint"], ["/usr/bin/pregate"])
        self.assertEqual(config["config"]["Cmd"][0], "serve")
        self.assertEqual(set(config["config"]["ExposedPorts"]),
                         {"8000/tcp", "8001/tcp", "8002/tcp"})
        labels = config["config"]["Labels"]
        self.assertEqual(labels["org.opencontainers.image.version"], "1.2.3")
        self.assertEqual(labels["org.opencontainers.image.revision"], "abc")
        (layer,) = manifest["layers"]
        self.assertEqual(config["rootfs"]["diff_ids"], [layer["digest"]])
        with tarfile.open(fileobj=io.BytesIO(blob(layer))) as tar:
            members = tar.getmembers()
        self.assertEqual([member.name for member in members],
                         [path.relative_to(self.rootfs).as_posix() for path in self.files])
        self.assertEqual({(member.uid, member.gid, member.mtime) for member in members},
                         {(0, 0, EPOCH)})

    def test_the_same_program_from_another_folder(self):
        one, other = image.objects(OBJECT)
        self.assertIn(SOURCE.encode(), one)
        self.assertEqual(one, other)


class Materials(unittest.TestCase):
    """The bill of materials, beside what Debian's package manager says."""

    @classmethod
    def setUpClass(cls):
        cls.rootfs = image.rootfs
        cls.text = (cls.rootfs / "usr/share/pregate/sbom.cdx.json").read_text(encoding="utf-8")
        cls.bill = json.loads(cls.text)
        cls.components = {one["name"]: one for one in cls.bill["components"]}

    def test_it_is_what_the_schema_says(self):
        if importlib.util.find_spec("cyclonedx") is None:
            self.skipTest("no cyclonedx-python-lib: tests/make_venv.sh")
        # pylint: disable=import-outside-toplevel
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
        validator = JsonStrictValidator(SchemaVersion.V1_5)
        self.assertIsNone(validator.validate_str(self.text))
        broken = self.text.replace('"library"', '"shelf"', 1)
        self.assertIsNotNone(validator.validate_str(broken))

    def test_every_file_of_a_package_has_it_in_the_bill(self):
        libraries = [path for path in (self.rootfs / "usr/lib").rglob("*")
                     if path.is_file() and not path.is_symlink()]
        self.assertGreater(len(libraries), 30)
        names = ["/" + path.relative_to(self.rootfs).as_posix() for path in libraries]
        # Debian's lists have some under the names of before /lib became /usr/lib.
        found = debian("-S", *names, *(name.removeprefix("/usr") for name in names))
        self.assertEqual(len(found), len(names), found)
        for line in found:
            owner = self.components[line.split(":")[0]]
            self.assertEqual(owner["properties"][0]["value"], "file", line)
        for name in ("ca-certificates", "openssl", "base-files"):
            self.assertIn(name, self.components)

    def test_versions_licences_and_what_is_compiled_in(self):
        lines = debian("-W", "-f=${Package} ${Version} ${Architecture}\\n", *self.components)
        self.assertEqual(len(lines), len(self.components))
        for name, version, architecture in map(str.split, lines):
            component = self.components[name]
            self.assertEqual(component["version"], version, name)
            self.assertRegex(component["purl"],
                             rf"^pkg:deb/debian/[^@]+@[^?]+\?arch={architecture}&")
            self.assertGreater(len(component["licenses"]), 0)
            text = (self.rootfs / "usr/share/doc" / name / "copyright").read_bytes()
            self.assertEqual(text, pathlib.Path(f"/usr/share/doc/{name}/copyright").read_bytes())
        self.assertTrue(self.components["libgrpc29"]["version"].startswith("1.51"))
        how = {name: one["properties"][0]["value"] for name, one in self.components.items()}
        for name in ("nlohmann-json3-dev", "libboost1.81-dev", "libcli11-dev"):
            self.assertEqual(how[name], "compiled in")
        status = {path.name for path in (self.rootfs / "var/lib/dpkg/status.d").iterdir()}
        self.assertEqual(status, {name for name in how if how[name] == "file"})
        program = self.bill["metadata"]["component"]["components"][0]
        self.assertEqual(program["hashes"][0]["content"],
                         hashlib.sha256((self.rootfs / "usr/bin/pregate").read_bytes()).hexdigest())


class Recipe(unittest.TestCase):
    """The Dockerfile, line by line."""

    @classmethod
    def setUpClass(cls):
        text = (IMAGE / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [line.strip() for line in text.splitlines()]
        cls.lines = [line.split(None, 1) for line in lines if line and line[0] != "#"]

    def all(self, word):
        return [rest for name, rest in self.lines if name == word]

    def test_its_bases_are_named_by_digest(self):
        bases = [stage.split(" AS ") for stage in self.all("FROM")]
        self.assertEqual(bases, [["docker.io/library/debian@${DEBIAN_DIGEST}", "debian"],
                                 ["debian", "build-cuda"], ["debian", "build"],
                                 ["scratch", "pregate"], ["pregate", "cuda"], ["pregate", "cpu"]])
        # Not by one that somebody has made up: without the argument there is no image.
        self.assertIn("DEBIAN_DIGEST=give--build-arg-DEBIAN_DIGEST", self.all("ARG"))
        for line in (IMAGE / "cuda_wheels.txt").read_text(encoding="utf-8").splitlines():
            self.assertRegex(line, r"^(#.*|[a-z-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64})$")

    def test_its_stages_are_scripts_that_are_run_here(self):
        image.objects(OBJECT)  # runs the one that takes long
        runs = [json.loads(rest) for rest in self.all("RUN")]
        toolkit = ["--cuda", "/usr/local/cuda"]
        self.assertEqual(runs, [["deploy/install_deps.sh"],
                                ["deploy/image/cuda_toolkit.sh", toolkit[1]],
                                ["deploy/image/build.sh", *toolkit, "/out"],
                                ["deploy/image/assemble.sh", "/out", "/rootfs"],
                                ["deploy/image/build.sh", "/out"],
                                ["deploy/image/assemble.sh", "/out", "/rootfs"]])
        # What the CUDA variant has beside these is run by image_cuda_test.py.
        self.assertEqual({run[0] for run in runs} - image.stages, {"deploy/image/cuda_toolkit.sh"})

    def test_it_ends_as_nobody_with_words_not_a_shell(self):
        self.assertEqual(self.all("USER"), ["65532:65532"])
        self.assertEqual(self.all("STOPSIGNAL"), ["SIGTERM"])
        self.assertEqual(self.all("EXPOSE"), ["8000 8001 8002"])
        (entry,) = self.all("ENTRYPOINT")
        self.assertTrue((image.rootfs / json.loads(entry)[0].lstrip("/")).is_file())
        self.assertEqual(json.loads(self.all("CMD")[0])[0], "serve")
        self.assertEqual(self.lines[-1], ["COPY", "--from=build /rootfs/ /"])
        known = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "LABEL", "RUN",
                 "STOPSIGNAL", "USER", "WORKDIR"}
        self.assertEqual({name for name, _ in self.lines} - known, set())
        label = self.all("LABEL")[0]
        for key in ("title", "description", "licenses", "version", "revision"):
            self.assertIn(f"org.opencontainers.image.{key}=", label)


class Served(Entered):
    """The image entered and run."""

    image = image

    def test_commands(self):
        self.assertRegex(self.says("/usr/bin/pregate", "--version"), r"^pregate \d+\.\d+\.\d+\n")
        self.assertIn("serve", self.says("/usr/bin/pregate", "--help"))
        self.assertIn("llama", self.says("/usr/bin/pregate", "inspect", "/models/model.gguf"))

    def test_there_is_no_shell_to_run(self):
        for shell in ("/bin/sh", "/usr/bin/sh", "/bin/bash", "/bin/busybox"):
            self.assertEqual(self.enter(shell).process.wait(30), 127, shell)

    def test_the_default_command_serves(self):
        container = self.enter(*self.default_command())
        container.wait_for(r"metrics +http")
        self.assertEqual(container.status("Uid"), ["65532"] * 4)
        self.assertEqual(container.status("Gid"), ["65532"] * 4)
        self.assertEqual(container.status("Groups"), [])
        self.assertEqual(container.status("NoNewPrivs"), ["1"])
        self.assertEqual(int(container.status("CapEff")[0], 16), 0)
        self.assertEqual(container.status("NSpid")[-1], "1")
        answer = json.loads(container.ask(
            "http://127.0.0.1:8000/v1/completions",
            '{"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}'))
        self.assertIn("Paris", answer["choices"][0]["text"])
        self.assertEqual(container.ask("http://127.0.0.1:8000/readyz"), "ok\n\n")
        self.assertIn("pregate_build_info", container.ask("http://127.0.0.1:8002/metrics"))
        self.assertEqual(container.stop(), 0, container.messages())

    def test_it_serves_over_tls(self):
        container = self.enter("/usr/bin/pregate", "serve", "/models/model.gguf", "--ssl-certfile",
                               "/run/tls.crt", "--ssl-keyfile", "/run/tls.key")
        container.wait_for(r"metrics +http")
        answer = json.loads(container.ask(
            "https://localhost:8000/v1/completions",
            '{"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}',
            str(self.secrets / "tls.crt")))
        self.assertIn("Paris", answer["choices"][0]["text"])
        # The image's own client, over gRPC.
        client = subprocess.run(
            ["nsenter", f"--target={container.pid()}", "--net", "--mount",
             f"--root=/proc/{container.pid()}/root", "--setuid=65532", "--setgid=65532",
             "/usr/bin/pregate-client", "--target", "localhost:8001", "--ssl-ca-certs",
             "/run/tls.crt", "--wait", "10", "--text", "The capital of France is", "--max-tokens",
             "4", "--temperature", "0"],
            capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(client.returncode, 0, client.stderr)
        self.assertIn("Paris", client.stdout)
        self.assertEqual(container.stop(), 0, container.messages())


if __name__ == "__main__":
    run_tests()
