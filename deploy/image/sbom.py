#!/usr/bin/env python3
"""Prints the bill of materials of the image's root folder: CycloneDX 1.5, JSON.

Components: Pregate itself; every Debian package that owns a file of the folder; every one whose
headers or archives are compiled into the programs; NVIDIA's wheels, of the CUDA variant. Licences are the names that Debian's copyright
files use, as SPDX identifiers where the two lists agree on the meaning. The same folder gives the
same bytes: the serial number is made of the content, the time is SOURCE_DATE_EPOCH (default 0).

Usage: deploy/image/sbom.py ROOTFS      on the machine, or in the stage, that assembled it
"""

import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse
import uuid

# Debian's names (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/) to SPDX's.
SPDX = {
    "Apache-2.0": "Apache-2.0", "Artistic": "Artistic-1.0-Perl", "BSD-2-clause": "BSD-2-Clause",
    "BSD-3-clause": "BSD-3-Clause", "BSL-1.0": "BSL-1.0", "CC0-1.0": "CC0-1.0",
    "GPL-1+": "GPL-1.0-or-later", "GPL-2": "GPL-2.0-only", "GPL-2+": "GPL-2.0-or-later",
    "GPL-2.0+": "GPL-2.0-or-later", "GPL-3": "GPL-3.0-only", "GPL-3+": "GPL-3.0-or-later",
    "ISC": "ISC", "LGPL-2+": "LGPL-2.0-or-later", "LGPL-2.1": "LGPL-2.1-only",
    "LGPL-2.1+": "LGPL-2.1-or-later", "LGPL-3": "LGPL-3.0-only", "LGPL-3+": "LGPL-3.0-or-later",
    "MIT": "MIT", "MPL-2.0": "MPL-2.0", "X11": "X11", "Zlib": "Zlib", "zlib": "Zlib",
}


def control_fields(text):
    """The fields of a package's control paragraph that are one line long."""
    return dict(re.findall(r"^([A-Za-z-]+): +(.+)$", text, re.MULTILINE))


def licences(copyright_file):
    """What a copyright file names; where it is prose, the file itself."""
    text = copyright_file.read_text(encoding="utf-8", errors="replace")
    names = sorted(set(re.findall(r"^License:[ \t]*(\S.*?)\s*$", text, re.MULTILINE)))
    if not text.lstrip().startswith("Format") or not names:
        names = [f"see /usr/share/doc/{copyright_file.parent.name}/copyright"]
    known = sorted({SPDX[name] for name in names if name in SPDX})
    return ([{"license": {"id": name}} for name in known] +
            [{"license": {"name": name}} for name in names if name not in SPDX])


def debian_package(root, control, how):
    """A component; `control`: the package's control paragraph."""
    fields = control_fields(control)
    name, version = fields["Package"], fields["Version"]
    source = re.fullmatch(r"(\S+)(?: \((.+)\))?", fields.get("Source", name))
    qualifiers = {"arch": fields["Architecture"], "distro": distribution(root),
                  "upstream": source[1] + (f"@{source[2]}" if source[2] else "")}
    purl = (f"pkg:deb/debian/{urllib.parse.quote(name, safe='')}@"
            f"{urllib.parse.quote(version, safe='~')}?{urllib.parse.urlencode(qualifiers)}")
    return {
        "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
        "licenses": licences(root / "usr/share/doc" / name / "copyright"),
        "properties": [{"name": "pregate:how", "value": how}],
    }


def wheel(root, folder):
    """A component; `folder` has the wheel's METADATA."""
    fields = control_fields((folder / "METADATA").read_text(encoding="utf-8"))
    name, version = fields["Name"], fields["Version"]
    purl = f"pkg:pypi/{name}@{version}"
    # Of cuBLAS a library is in the image; the others are the compiler and what it compiles in.
    how = "file" if name == "nvidia-cublas" else "compiled in"
    return {
        "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
        "licenses": [{"license": {"name": f"see /usr/share/doc/{name}/copyright"}}],
        "properties": [{"name": "pregate:how", "value": how}],
    }


def distribution(root):
    """Such as debian-12."""
    text = (root / "usr/lib/os-release").read_text(encoding="utf-8")
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    return f"{fields['ID']}-{fields['VERSION_ID']}"


def pregate(root):
    """The component that the image is for."""
    programs = [root / "usr/bin" / name for name in ("pregate", "pregate-client")]
    module = root / "usr/lib/pregate/libpregate_cuda.so"
    files = programs + ([module] if module.exists() else [])
    said = subprocess.run([programs[0], "--version"], check=True, capture_output=True, text=True)
    version = said.stdout.split()[1]
    return {
        "type": "application", "bom-ref": f"pkg:generic/pregate@{version}", "name": "pregate",
        "version": version, "purl": f"pkg:generic/pregate@{version}",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "components": [
            {"type": "file", "bom-ref": f"/{file.relative_to(root)}",
             "name": f"/{file.relative_to(root)}",
             "hashes": [{"alg": "SHA-256",
                         "content": hashlib.sha256(file.read_bytes()).hexdigest()}]}
            for file in files],
    }


def bill(root):
    """All of it, as a JSON object."""
    shared = {path.name: path.read_text(encoding="utf-8")
              for path in (root / "var/lib/dpkg/status.d").iterdir()}
    compiled = (root / "usr/share/pregate/compiled_in.txt").read_text(encoding="utf-8").split()
    controls = {name: subprocess.run(["dpkg-query", "-s", name], check=True, capture_output=True,
                                     text=True).stdout for name in compiled if name not in shared}
    packages = ([debian_package(root, text, "file") for text in shared.values()] +
                [debian_package(root, text, "compiled in") for text in controls.values()] +
                [wheel(root, folder) for folder in root.glob("usr/share/pregate/wheels/*")])
    packages.sort(key=lambda component: component["purl"])
    main = pregate(root)
    depends = [{"ref": main["bom-ref"], "dependsOn": [one["bom-ref"] for one in packages]}]
    content = hashlib.sha256(json.dumps([main, packages], sort_keys=True).encode()).hexdigest()
    time = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")),
                                           datetime.timezone.utc)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "metadata": {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": main},
        "components": packages, "dependencies": depends,
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} ROOTFS")
    print(json.dumps(bill(pathlib.Path(sys.argv[1])), indent=1))
