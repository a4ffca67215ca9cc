"""A pod that the chart has rendered, run on this machine without a container engine.

What is as the manifest says: the containers' command lines and variables (and no others), the init
container's script, the layout, owner, group and mode of mounted secrets (the kubelet's: links that are
swapped at once), probes, hooks, signals, the grace. As root, the processes get the pod's user and group.

What is mapped: each mount path to a folder under /tmp, each port to a free one, the address 0.0.0.0 to
127.0.0.1, hosts of URLs to a server of the test, the image to the programs that were built. Not there
are the read-only root, cgroup limits, the seccomp filter and the network policy.
"""

import http.client
import http.server
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from helm_chart import of_kind, server

KUBELETS_PATH = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def free_ports(count):
    """Ports of loopback that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Origin:
    """A server of files, in place of those that the chart's values name. Use in a with statement."""

    def __init__(self, files, header=None, stall=False):
        self.asked, self.over, origin = [], threading.Event(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # pylint: disable=invalid-name
                origin.asked.append(self.path)
                if stall:
                    origin.over.wait(60)
                    return
                name = self.path.split("?")[0].rsplit("/", 1)[-1]
                known = name in files and (header is None or
                                           self.headers.get(header[0]) == header[1])
                self.send_response(200 if known else 404)
                self.send_header("Content-Length", str(len(files[name]) if known else 0))
                self.end_headers()
                if known:
                    self.wfile.write(files[name])

            def log_message(self, *_):  # pylint: disable=arguments-differ
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


def pod_of(manifests, kind="Deployment"):
    """The spec of the only pod of a kind."""
    one, = of_kind(manifests, kind)
    return one["spec"]["template"]["spec"] if kind == "Deployment" else one["spec"]


class Pod:
    """`spec`: of a rendered pod. `programs`: the folder of pregate and pregate-client. `claims`: folder
    by name of a PersistentVolumeClaim. `secrets`: {name: {key: bytes}}. `hosts`: (from, to) of URLs."""

    def __init__(self, spec, programs, claims=None, secrets=None, hosts=()):
        self.spec, self.hosts = spec, hosts
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pregate-pod-"))
        self.folder.chmod(0o755)
        self.programs = self.folder / "image"
        self.programs.mkdir()
        for name in ("pregate", "pregate-client"):
            shutil.copy2(programs / name, self.programs / name)
        self.volumes = {}
        for volume in spec.get("volumes", []):
            self.volumes[volume["name"]] = self._make(volume, claims or {}, secrets or {})
        serving = server(spec)
        numbers = [port["containerPort"] for port in serving["ports"]] if serving else []
        self.ports = dict(zip(numbers, free_ports(len(numbers))))
        self.names = {port["name"]: self.ports[port["containerPort"]]
                      for port in (serving["ports"] if serving else [])}
        self.process = None
        self.log = open(self.folder / "log", "w+", encoding="utf-8")

    # --- Volumes ---

    def _make(self, volume, claims, secrets):
        if "persistentVolumeClaim" in volume:
            return claims[volume["persistentVolumeClaim"]["claimName"]]
        folder = self.folder / "volumes" / volume["name"]
        folder.mkdir(parents=True)
        if "secret" in volume:
            content = secrets[volume["secret"]["secretName"]]
            items = volume["secret"].get("items")
            if items:
                content = {item["path"]: content[item["key"]] for item in items}
            self._project(folder, content, volume["secret"].get("defaultMode", 0o644))
        else:
            folder.chmod(0o2777)
        return folder

    def _project(self, folder, content, mode):
        """Puts files there as the kubelet does, all replaced in one moment."""
        version = pathlib.Path(tempfile.mkdtemp(prefix="..", dir=folder))
        version.chmod(0o755)
        for key, value in content.items():
            file = version / key
            file.write_bytes(value)
            file.chmod(mode)
            if os.geteuid() == 0:
                os.chown(file, 0, self.spec["securityContext"]["fsGroup"])
            if not (folder / key).is_symlink():
                (folder / key).symlink_to(f"..data/{key}")
        (folder / "..data_tmp").symlink_to(version.name)
        (folder / "..data_tmp").rename(folder / "..data")

    def replace_secret(self, volume, content):
        """What the kubelet does when a secret has changed."""
        mode = next(one["secret"]["defaultMode"] for one in self.spec["volumes"]
                    if one["name"] == volume)
        self._project(self.volumes[volume], content, mode)

    # --- Containers ---

    def _mapped(self, word, container):
        """A word of a command line, in terms of this machine."""
        mounts = {mount["mountPath"]: str(self.volumes[mount["name"]])
                  for mount in container.get("volumeMounts", [])}
        for path in sorted(mounts, key=len, reverse=True):
            mapped = re.sub(rf"(^|=){re.escape(path)}(?=/|$)", rf"\1{mounts[path]}", word)
            if mapped != word:
                word = mapped
                break
        word = re.sub(r"^(--[a-z-]*port)=(\d+)$",
                      lambda found: f"{found[1]}={self.ports[int(found[2])]}", word)
        word = re.sub(r"^--host=0\.0\.0\.0$", "--host=127.0.0.1", word)
        for old, new in self.hosts:
            word = word.replace(old, new)
        return word

    def _words(self, container):
        program, *words = container.get("command", ["/usr/bin/pregate"])  # the image's ENTRYPOINT
        if program.startswith("/usr/bin/"):
            program = str(self.programs / pathlib.Path(program).name)
        return [program, *(self._mapped(word, container)
                           for word in (*words, *container.get("args", [])))]

    def _process(self, container):
        environment = {**KUBELETS_PATH, "HOSTNAME": "test",
                       **{one["name"]: one["value"] for one in container.get("env", [])}}
        identity = {}
        if os.geteuid() == 0:
            context = self.spec["securityContext"]
            identity = {"user": context["runAsUser"], "group": context["runAsGroup"],
                        "extra_groups": [context["fsGroup"]]}
        return {"env": environment, "cwd": "/", **identity}

    def launch(self, container):
        """Starts a container; what it writes goes into a pipe."""
        return subprocess.Popen(self._words(container), stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, **self._process(container))

    def run(self, container, timeout=120):
        """Runs a container that ends: (exit status, all that it wrote)."""
        with self.launch(container) as process:
            try:
                output, _ = process.communicate(timeout=timeout)
            finally:
                process.kill()
        return process.returncode, output

    def start(self):
        """Init containers in order, then the server; back when the startup probe passes."""
        for container in self.spec.get("initContainers", []):
            status, output = self.run(container)
            if status != 0:
                raise RuntimeError(f"init container {container['name']} ended with {status}: {output}")
        serving = server(self.spec)
        self.process = subprocess.Popen(self._words(serving), stdout=self.log, stderr=self.log,
                                        **self._process(serving))
        startup = serving["startupProbe"]
        deadline = time.monotonic() + min(60, startup["failureThreshold"] * startup["periodSeconds"])
        while not self.passes("startupProbe"):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"did not start:\n{self.messages()}")
            time.sleep(0.05)

    def messages(self):
        """What the server has written."""
        return (self.folder / "log").read_text(encoding="utf-8")

    # --- What a kubelet does ---

    def passes(self, name):
        """Asks once what a probe of the server asks."""
        probe = server(self.spec)[name]
        get = probe["httpGet"]
        connection = http.client.HTTPConnection("127.0.0.1", self.names[get["port"]],
                                                timeout=probe["timeoutSeconds"])
        try:
            connection.request("GET", get["path"])
            return 200 <= connection.getresponse().status < 400
        except OSError:
            return False
        finally:
            connection.close()

    def pre_stop(self):
        """Runs the hook."""
        hook = server(self.spec).get("lifecycle", {}).get("preStop", {})
        if unknown := set(hook) - {"sleep"}:
            raise ValueError(f"preStop: {unknown}")
        time.sleep(hook.get("sleep", {}).get("seconds", 0))

    def terminate(self):
        """The signal that follows the hook."""
        self.process.send_signal(signal.SIGTERM)

    def close(self):
        """Whatever is left is killed, as after the grace."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder)
