"""The image without a container engine: its stages are run as the Dockerfile runs them, what comes
out is looked at, and it is entered as an engine would (another root that is read-only, its own
processes and network, uid 65532, no way to gain rights) to serve a real model with the Dockerfile's
command.
"""

import functools
import hashlib
import importlib.util
import io
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = pathlib.Path(os.environ.get("PREGATE_BINARY", ROOT / "build/release/pregate"))
IMAGE = ROOT / "deploy/image"
EPOCH = 1_700_000_000
SKIPPED = 77
MAX_BYTES = 110 << 20
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Compiled twice, in folders of different names: what it asserts holds the name of its file.
SOURCE = "engine/plan/kv_block_pool.cc"
OBJECT = "engine/plan/CMakeFiles/engine_plan.dir/kv_block_pool.cc.o"

# As root: a root folder of which nothing but /tmp can be written; model and certificates in it.
ENTER = r"""
set -e
root="$1" models="$2" secrets="$3"; shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind "$models" "$root/models"
mount -o remount,bind,ro "$root/models"
mount --bind "$secrets" "$root/run"
mount -o remount,bind,ro "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec=65532:65532 --groups= "$root" "$@"
"""
LOOPBACK_UP = ("import fcntl, socket, struct; "  # SIOCSIFFLAGS, IFF_UP
               "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 1))")
GET = ("import sys, urllib.request, ssl\n"
       "url, body, ca = sys.argv[1:]\n"
       "request = urllib.request.Request(url, body.encode() or None,"
       " {'Content-Type': 'application/json'})\n"
       "context = ssl.create_default_context(cafile=ca) if ca else None\n"
       "print(urllib.request.urlopen(request, timeout=30, context=context).read().decode())")


class Image:
    """One root folder, assembled from the release build when it is first asked for."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="pregate-image-")
        self.work = pathlib.Path(self.folder.name)
        self.work.chmod(0o755)
        self.out, self.rootfs = self.work / "out", self.work / "rootfs"
        self.stages = set()  # scripts of the Dockerfile that have been run

    def stage(self, script, *arguments, folder=ROOT, **environment):
        """Runs a script as the Dockerfile does."""
        run = subprocess.run([folder / script, *arguments], cwd=folder, capture_output=True,
                             text=True, timeout=300, check=False,
                             env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), **environment})
        if run.returncode != 0:
            raise AssertionError(f"{script}: {run.stdout}{run.stderr}")
        self.stages.add(script)
        return run.stdout.strip()

    def assemble(self):
        self.stage("deploy/install_deps.sh")
        # As build.sh ends, of the programs that the other tests use.
        self.stage("deploy/image/collect.sh", BINARY.parent, self.out)
        self.stage("deploy/image/assemble.sh", self.out, self.rootfs)

    @functools.cached_property
    def objects(self):
        """An object file, built by the script in two folders of different names, of what an engine
        would be given."""
        ignored = (IMAGE / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        ignored = tuple(f"{line}/" for line in ignored if line[0] != "#")
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT,
                                check=True, capture_output=True).stdout.split(b"\0")
        names = [name for name in map(os.fsdecode, filter(None, listed))
                 if not name.startswith(ignored) and (ROOT / name).exists()]
        objects = []
        for folder in (self.work / "a", self.work / "b/longer"):
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
            self.stage("deploy/image/build.sh", self.work / "built", OBJECT, folder=folder,
                       CCACHE_DISABLE="1")
            objects.append((folder / "build/image" / OBJECT).read_bytes())
        return objects


image = Image()


def setUpModule():  # pylint: disable=invalid-name
    image.assemble()


def tearDownModule():  # pylint: disable=invalid-name
    image.folder.cleanup()


def debian(*arguments):
    """Lines that the package manager says, of what it knows."""
    return subprocess.run(["dpkg-query", *arguments], capture_output=True, text=True,
                          check=False).stdout.splitlines()


class Contents(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rootfs = image.rootfs
        cls.files = sorted(image.rootfs.rglob("*"))

    def test_nobody_but_root_can_change_it_and_there_is_no_shell(self):
        programs = []
        for path in self.files:
            about = path.lstat()
            kind = stat.S_IFMT(about.st_mode)
            self.assertIn(kind, (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK), path)
            self.assertEqual(about.st_mtime, EPOCH, path)
            if os.geteuid() == 0:
                self.assertEqual((about.st_uid, about.st_gid), (0, 0), path)
            if kind == stat.S_IFLNK:
                target = os.readlink(path)
                inside = (self.rootfs / target[1:] if target[0] == "/" else path.parent / target)
                self.assertTrue(inside.resolve().is_relative_to(self.rootfs.resolve()), path)
                self.assertTrue(inside.exists(), path)
                continue
            shared = path.relative_to(self.rootfs).as_posix() in ("tmp", "var/tmp")
            self.assertEqual(stat.S_IMODE(about.st_mode) & 0o7022, 0o1022 if shared else 0, path)
            if kind == stat.S_IFREG and about.st_mode & 0o111:
                programs.append(path.name)
        self.assertEqual(len(programs), 3, programs)
        self.assertEqual(programs[:2], ["pregate", "pregate-client"])
        self.assertRegex(programs[2], r"^ld-linux.*\.so\.\d$")

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
        self.assertIn(SOURCE.encode(), image.objects[0])
        self.assertEqual(*image.objects)


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
        for name in ("nlohmann-json3-dev", "libboost1.81-dev", "libcli11-dev", "libspdlog-dev"):
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
        base, last = self.all("FROM")
        self.assertEqual(base, "docker.io/library/debian@${DEBIAN_DIGEST} AS build")
        self.assertEqual(last, "scratch")
        # Not by one that somebody has made up: without the argument there is no image.
        self.assertIn("DEBIAN_DIGEST=give--build-arg-DEBIAN_DIGEST", self.all("ARG"))

    def test_its_stages_are_scripts_that_are_run_here(self):
        self.assertEqual(len(image.objects), 2)  # has run the one that takes long
        runs = [json.loads(rest) for rest in self.all("RUN")]
        self.assertEqual([run[0] for run in runs],
                         ["deploy/install_deps.sh", "deploy/image/build.sh",
                          "deploy/image/assemble.sh"])
        for run in runs:
            self.assertIn(run[0], image.stages)

    def test_it_ends_as_nobody_with_words_not_a_shell(self):
        self.assertEqual(self.all("USER"), ["65532:65532"])
        self.assertEqual(self.all("STOPSIGNAL"), ["SIGTERM"])
        self.assertEqual(self.all("EXPOSE"), ["8000 8001 8002"])
        (entry,) = self.all("ENTRYPOINT")
        self.assertTrue((image.rootfs / json.loads(entry)[0].lstrip("/")).is_file())
        self.assertEqual(json.loads(self.all("CMD")[0])[0], "serve")
        self.assertEqual(self.lines[-1][0], "CMD")
        known = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "LABEL", "RUN",
                 "STOPSIGNAL", "USER", "WORKDIR"}
        self.assertEqual({name for name, _ in self.lines} - known, set())
        (label,) = self.all("LABEL")
        for key in ("title", "description", "licenses", "version", "revision"):
            self.assertIn(f"org.opencontainers.image.{key}=", label)


class Container:
    """A process that has been entered into the root folder, in a network of its own."""

    def __init__(self, rootfs, models, secrets, words):
        self.log = tempfile.NamedTemporaryFile("w+", prefix="pregate-image-", suffix=".log")
        script = f'"{sys.executable}" -c "{LOOPBACK_UP}"\n{ENTER}'
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "bash", "-c", script,
             "enter", rootfs, models, secrets, *words],
            stdout=self.log, stderr=subprocess.STDOUT, env={"PATH": os.environ["PATH"]})

    def messages(self):
        return pathlib.Path(self.log.name).read_text(encoding="utf-8")

    def wait_for(self, pattern, seconds=60):
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.messages()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"never said {pattern!r}:\n{self.messages()}")
            time.sleep(0.05)

    def pid(self):
        """Of the first process in it, as it is seen from outside."""
        task = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return int(pathlib.Path(task).read_text(encoding="utf-8").split()[0])

    def status(self, field):
        text = pathlib.Path(f"/proc/{self.pid()}/status").read_text(encoding="utf-8")
        return re.search(rf"^{field}:(.*)$", text, re.MULTILINE)[1].split()

    def ask(self, url, body="", authority=""):
        """Text that a client in the same network gets."""
        run = subprocess.run(["nsenter", f"--net=/proc/{self.pid()}/ns/net", sys.executable, "-c",
                              GET, url, body, authority],
                             capture_output=True, text=True, timeout=60, check=False)
        if run.returncode != 0:
            raise AssertionError(run.stderr + self.messages())
        return run.stdout

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)

    def stop(self):
        """SIGTERM to its first process; the exit status."""
        os.kill(self.pid(), 15)
        return self.process.wait(30)


class Served(unittest.TestCase):
    """The image entered and run."""

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            raise unittest.SkipTest("only root can enter another root folder")
        tried = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"],
                               capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            raise unittest.SkipTest(f"no namespaces here: {tried.stderr.strip()}")
        cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
        source = pathlib.Path(os.environ.get("PREGATE_MODELS", cache / "pregate/models")) / MODEL
        if not source.exists():
            raise unittest.SkipTest(f"no {MODEL}; deploy/fetch_model.sh smollm2 fetches it")
        cls.models, cls.secrets = image.work / "models", image.work / "secrets"
        cls.models.mkdir()
        cls.secrets.mkdir()
        shutil.copy(source, cls.models / "model.gguf")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=pod",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout",
                        cls.secrets / "tls.key", "-out", cls.secrets / "tls.crt"],
                       check=True, capture_output=True)
        for file in cls.secrets.iterdir():
            os.chown(file, 65532, 65532)
            file.chmod(0o400)

    def enter(self, *words):
        container = Container(image.rootfs, self.models, self.secrets, words)
        self.addCleanup(container.kill)
        return container

    def says(self, *words):
        """What a command prints that ends well."""
        container = self.enter(*words)
        self.assertEqual(container.process.wait(60), 0, container.messages())
        return container.messages()

    def test_commands(self):
        self.assertRegex(self.says("/usr/bin/pregate", "--version"), r"^pregate \d+\.\d+\.\d+\n")
        self.assertIn("serve", self.says("/usr/bin/pregate", "--help"))
        self.assertIn("llama", self.says("/usr/bin/pregate", "inspect", "/models/model.gguf"))

    def test_there_is_no_shell_to_run(self):
        for shell in ("/bin/sh", "/usr/bin/sh", "/bin/bash", "/bin/busybox"):
            self.assertEqual(self.enter(shell).process.wait(30), 127, shell)

    def test_the_default_command_serves(self):
        recipe = (IMAGE / "Dockerfile").read_text(encoding="utf-8")
        entry, command = (json.loads(re.search(rf"^{word} (.+)$", recipe, re.MULTILINE)[1])
                          for word in ("ENTRYPOINT", "CMD"))
        container = self.enter(*entry, *command)
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
    program = unittest.main(verbosity=2, exit=False)
    for _, why in program.result.skipped:
        print(f"SKIPPED: {why}")
    if not program.result.wasSuccessful():
        sys.exit(1)
    sys.exit(SKIPPED if program.result.skipped else 0)
