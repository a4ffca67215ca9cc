"""The stages of the image, run as the Dockerfile runs them, and its root folder, entered as an engine
would: another root that is read-only, its own processes and network, uid 65532, no way to gain rights.
"""

import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = pathlib.Path(os.environ.get("PREGATE_BINARY", ROOT / "build/release/pregate"))
IMAGE = ROOT / "deploy/image"
EPOCH = 1_700_000_000
SKIPPED = 77
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"

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
    """One root folder, assembled from the release build. `cuda`: of the CUDA variant."""

    def __init__(self, cuda=False):
        self.folder = tempfile.TemporaryDirectory(prefix="pregate-image-")
        self.work = pathlib.Path(self.folder.name)
        self.work.chmod(0o755)
        self.out, self.rootfs = self.work / "out", self.work / "rootfs"
        self.toolkit = ["--cuda", self.work / "toolkit"] if cuda else []
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
        if self.toolkit:
            self.stage("deploy/image/cuda_toolkit.sh", self.toolkit[1])
        # As build.sh ends, of the programs that the other tests use.
        self.stage("deploy/image/collect.sh", *self.toolkit, BINARY.parent, self.out)
        self.stage("deploy/image/assemble.sh", self.out, self.rootfs)

    def objects(self, name, folders=("a", "b/longer")):
        """An object file without symbols that nothing refers to, built anew by the script in each
        folder, of what an engine would be given."""
        ignored = (IMAGE / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        ignored = tuple(f"{line}/" for line in ignored if line[0] != "#")
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT,
                                check=True, capture_output=True).stdout.split(b"\0")
        files = [file for file in map(os.fsdecode, filter(None, listed))
                 if not file.startswith(ignored) and (ROOT / file).exists()]
        objects = []
        for folder in (self.work / one for one in folders):
            shutil.rmtree(folder, ignore_errors=True)
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, folder / file)
            self.stage("deploy/image/build.sh", *self.toolkit, self.work / "built", name,
                       folder=folder, CCACHE_DISABLE="1")
            build = "build/image-cuda" if self.toolkit else "build/image"
            subprocess.run(["strip", "--strip-unneeded", folder / build / name], check=True)
            objects.append((folder / build / name).read_bytes())
        return objects


def debian(*arguments):
    """Lines that the package manager says, of what it knows."""
    return subprocess.run(["dpkg-query", *arguments], capture_output=True, text=True,
                          check=False).stdout.splitlines()


class Guarded:
    """Tests of the class' `rootfs`."""

    def test_nobody_but_root_can_change_it_and_there_is_no_shell(self):
        programs = []
        for path in sorted(self.rootfs.rglob("*")):
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



class Entered(unittest.TestCase):
    """The image entered and run, with a model and certificates. `image` is the class' own."""

    image = None

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
        cls.models, cls.secrets = cls.image.work / "models", cls.image.work / "secrets"
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
        container = Container(self.image.rootfs, self.models, self.secrets, words)
        self.addCleanup(container.kill)
        return container

    def says(self, *words):
        """What a command prints that ends well."""
        container = self.enter(*words)
        self.assertEqual(container.process.wait(60), 0, container.messages())
        return container.messages()

    @staticmethod
    def default_command():
        """The words that the Dockerfile has run."""
        recipe = (IMAGE / "Dockerfile").read_text(encoding="utf-8")
        return [word for name in ("ENTRYPOINT", "CMD")
                for word in json.loads(re.search(rf"^{name} (.+)$", recipe, re.MULTILINE)[1])]


def run_tests():
    """Of the program's file; what was skipped is said."""
    program = unittest.main(verbosity=2, exit=False)
    for _, why in program.result.skipped:
        print(f"SKIPPED: {why}")
    if not program.result.wasSuccessful():
        sys.exit(1)
    sys.exit(SKIPPED if program.result.skipped else 0)
