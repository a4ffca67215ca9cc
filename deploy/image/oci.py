#!/usr/bin/env python3
"""Packs the image's root folder as an OCI image, without a container engine: an archive for
`podman load`, `skopeo copy oci-archive:...` and their like. What is to be run and as whom is read from
the stage TARGET of the Dockerfile, cpu unless given. The same folder gives the same bytes, and so the
same digest, which is printed.

Usage: deploy/image/oci.py ROOTFS ARCHIVE [TARGET=cpu|cuda] [VERSION=...] [REVISION=...]
"""

import datetime
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))  # of everything in the archive


def sha256(data):
    """As OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def entry(name, size=0):
    """A header of a tar archive that says nothing of this machine."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, EPOCH, 0o644
    return info


class File:
    """What is too large to be held in memory: a file, with the names of bytes' digest and length."""

    def __init__(self, path):
        self.path, self.size = path, path.stat().st_size
        with open(path, "rb") as content:
            self.digest = f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"


def write_layer(root, path):
    """The folder as a layer, in order of name."""
    with tarfile.open(path, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for file in sorted(root.rglob("*")):
            info = tar.gettarinfo(file, file.relative_to(root).as_posix())
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = EPOCH
            with open(file, "rb") if info.isreg() else io.BytesIO() as content:
                tar.addfile(info, content)


def instructions(target, arguments):
    """What the stage of the Dockerfile and those that it is from say: (word, rest) in order,
    arguments put in."""
    text = pathlib.Path(__file__).with_name("Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM|\Z)", text.replace("\\\n", " "),
                        re.MULTILINE | re.DOTALL)
    base, stage = {name: (base, stage) for base, name, stage in stages}[target]
    for name, default in re.findall(r"^ARG (\w+)=(\w+)$", stage, re.MULTILINE):
        stage = stage.replace(f"${{{name}}}", arguments.get(name, default))
    said = re.findall(r"^([A-Z]+) +(.+)$", stage, re.MULTILINE)
    return said if base == "scratch" else instructions(base, arguments) + said


def config_of(layer, arguments):
    """What the image says of itself."""
    said = instructions(arguments.get("TARGET", "cpu"), arguments)
    words = dict(said)
    labels = [rest for word, rest in said if word == "LABEL"]
    time = datetime.datetime.fromtimestamp(EPOCH, datetime.timezone.utc)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ")
    architecture = subprocess.run(["dpkg", "--print-architecture"], check=True,
                                  capture_output=True, text=True).stdout.strip()
    return {
        "created": created, "architecture": architecture, "os": "linux",
        "config": {
            "User": words["USER"],
            "ExposedPorts": {f"{port}/tcp": {} for port in words["EXPOSE"].split()},
            "Entrypoint": json.loads(words["ENTRYPOINT"]), "Cmd": json.loads(words["CMD"]),
            "Labels": dict(re.findall(r'(\S+?)="([^"]*)"', " ".join(labels))),
            "Env": words.get("ENV", "").split(),
            "StopSignal": words["STOPSIGNAL"],
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        "history": [{"created": created, "created_by": "deploy/image/assemble.sh"}],
    }


def pack(root, archive, arguments):
    """Writes the archive; the digest of its manifest."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        path = pathlib.Path(folder) / "layer.tar"
        write_layer(root, path)
        return pack_layer(File(path), archive, arguments)


def pack_layer(layer, archive, arguments):
    """The same of what is in the image."""
    blobs = {}

    def put_json(value, kind):
        data = json.dumps(value, sort_keys=True).encode()
        blobs[sha256(data)] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": sha256(data),
                "size": len(data)}

    layers = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.digest,
               "size": layer.size}]
    manifest = put_json({"schemaVersion": 2,
                         "mediaType": "application/vnd.oci.image.manifest.v1+json",
                         "config": put_json(config_of(layer, arguments), "config.v1+json"),
                         "layers": layers}, "manifest.v1+json")
    tag = {"org.opencontainers.image.ref.name": f"pregate:{arguments.get('VERSION', 'latest')}"}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
             "manifests": [{**manifest, "annotations": tag}]}
    files = {"index.json": json.dumps(index).encode(),
             "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
             f"blobs/{layer.digest.replace(':', '/')}": layer}
    files.update((f"blobs/{digest.replace(':', '/')}", data) for digest, data in blobs.items())
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in sorted(files.items()):
            if isinstance(data, File):
                with open(data.path, "rb") as content:
                    tar.addfile(entry(name, data.size), content)
            else:
                tar.addfile(entry(name, len(data)), io.BytesIO(data))
    return manifest["digest"]


if __name__ == "__main__":
    if len(sys.argv) < 3 or not all("=" in word for word in sys.argv[3:]):
        sys.exit(f"usage: {sys.argv[0]} ROOTFS ARCHIVE [TARGET=cpu|cuda] [VERSION=...] "
                 "[REVISION=...]")
    print(pack(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute(),
               dict(word.split("=", 1) for word in sys.argv[3:])))
