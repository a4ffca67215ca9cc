#!/usr/bin/env python3
"""Packs the image's root folder as an OCI image, without a container engine: an archive for
`podman load`, `skopeo copy oci-archive:...` and their like. What is to be run and as whom is read from
the last stage of the Dockerfile. The same folder gives the same bytes, and so the same digest, which
is printed.

Usage: deploy/image/oci.py ROOTFS ARCHIVE [VERSION=...] [REVISION=...]
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

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))  # of everything in the archive


def sha256(data):
    """As OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def entry(name, size=0):
    """A header of a tar archive that says nothing of this machine."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, EPOCH, 0o644
    return info


def layer_of(root):
    """The folder as a layer, in order of name."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            info = tar.gettarinfo(path, path.relative_to(root).as_posix())
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = EPOCH
            with open(path, "rb") if info.isreg() else io.BytesIO() as content:
                tar.addfile(info, content)
    return data.getvalue()


def instructions(arguments):
    """The last stage of the Dockerfile: words by instruction, arguments put in."""
    text = pathlib.Path(__file__).with_name("Dockerfile").read_text(encoding="utf-8")
    stage = re.split(r"^FROM scratch$", text.replace("\\\n", " "), flags=re.MULTILINE)[1]
    for name, default in re.findall(r"^ARG (\w+)=(\w+)$", stage, re.MULTILINE):
        stage = stage.replace(f"${{{name}}}", arguments.get(name, default))
    return dict(re.findall(r"^([A-Z]+) +(.+)$", stage, re.MULTILINE))


def config_of(layer, arguments):
    """What the image says of itself."""
    words = instructions(arguments)
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
            "Labels": dict(re.findall(r'(\S+?)="([^"]*)"', words["LABEL"])),
            "StopSignal": words["STOPSIGNAL"],
        },
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
        "history": [{"created": created, "created_by": "deploy/image/assemble.sh"}],
    }


def pack(root, archive, arguments):
    """Writes the archive; the digest of its manifest."""
    blobs = {}

    def put(data, kind):
        blobs[sha256(data)] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": sha256(data),
                "size": len(data)}

    def put_json(value, kind):
        return put(json.dumps(value, sort_keys=True).encode(), kind)

    layer = layer_of(root)
    manifest = put_json({"schemaVersion": 2,
                         "mediaType": "application/vnd.oci.image.manifest.v1+json",
                         "config": put_json(config_of(layer, arguments), "config.v1+json"),
                         "layers": [put(layer, "layer.v1.tar")]}, "manifest.v1+json")
    tag = {"org.opencontainers.image.ref.name": f"pregate:{arguments.get('VERSION', 'latest')}"}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
             "manifests": [{**manifest, "annotations": tag}]}
    files = {"index.json": json.dumps(index).encode(),
             "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode()}
    files.update((f"blobs/{digest.replace(':', '/')}", data) for digest, data in blobs.items())
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted(files):
            tar.addfile(entry(name, len(files[name])), io.BytesIO(files[name]))
    return manifest["digest"]


if __name__ == "__main__":
    if len(sys.argv) < 3 or not all("=" in word for word in sys.argv[3:]):
        sys.exit(f"usage: {sys.argv[0]} ROOTFS ARCHIVE [VERSION=...] [REVISION=...]")
    print(pack(pathlib.Path(sys.argv[1]), sys.argv[2],
               dict(word.split("=", 1) for word in sys.argv[3:])))
