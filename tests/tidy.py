#!/usr/bin/env python3
"""Keeps the rooms as engine/README.md draws them: arrows, purity, sizes, format.

Usage: tests/tidy.py [--no-format]      exit status 1 when something is found
"""

import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ("*.cc", "*.h", "*.inc", "*.cu")
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70

# A room may include itself, the rooms listed here, and the seam headers of others.
ROOMS = {
    "kernels": [],
    "engine/plan": [],
    "engine/tokenizer": ["engine/tokenizer.h"],
    "engine/model": ["kernels/", "engine/plan/batch_plan.h", "engine/tokenizer.h"],
    "engine": ["kernels/", "engine/"],
    "server": [
        "engine/bench.h",
        "engine/engine.h",
        "engine/simulation.h",
        "engine/tokenizer.h",
        "engine/model/inspect.h",
        "engine/model/sampling_params.h",
    ],
}
# Headers of kernels that other rooms may include.
KERNEL_SEAM = {
    "kernels/backend.h",
    "kernels/communicator.h",
    "kernels/copy_lane.h",
    "kernels/rank_thread.h",
    "kernels/tensor.h",
    "kernels/device.h",
    "kernels/kernels.h",
    "kernels/logit_math.h",
    "kernels/peaks.h",
    "kernels/quant/dequantize.h",
    "kernels/quant/quantize_weights.h",
    "kernels/quant/tile_layout.h",
}
PURE_ROOM = "engine/plan"
IMPURE = re.compile(r"#include <(chrono|mutex|thread|random|condition_variable|atomic|iostream)>")
INCLUDE = re.compile(r'^#include "([^"]+)"')

# Exceptions, each with its reason.
LONG_FILES = {}
LONG_FUNCTIONS = {}


def room_of(path):
    """The most specific room of a file, or None outside the product's rooms."""
    name = path.as_posix()
    rooms = [room for room in ROOMS if name.startswith(room + "/")]
    return max(rooms, key=len) if rooms else None


def check_includes(path, lines):
    room = room_of(path)
    if room is None:
        return
    for number, line in enumerate(lines, 1):
        if room == PURE_ROOM and IMPURE.match(line):
            yield f"{path}:{number}: engine/plan is pure bookkeeping: {line.strip()}"
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match.group(1)
        if "/" not in target:
            yield f"{path}:{number}: include by the path from the root: {target}"
            continue
        if target.split("/")[0] not in ("kernels", "engine", "server", "tests"):
            continue  # a library's, or generated from proto/
        if target.startswith(room + "/") or any(target.startswith(a) for a in ROOMS[room]):
            if room != "kernels" and target.startswith("kernels/") and target not in KERNEL_SEAM:
                yield f"{path}:{number}: {target} is private to kernels"
            continue
        yield f"{path}:{number}: no arrow from {room} to {target}"


def functions(lines):
    """Yields (name line, first line number, length) of blocks that look like functions."""
    opener = re.compile(r"^( {0,2})(?!namespace|class|struct|enum|union|extern|if|for|while|switch)"
                        r"\S.*\{$")
    i = 0
    while i < len(lines):
        match = opener.match(lines[i])
        if match and not re.search(r"=\s*\{$", lines[i]):
            indent = match.group(1)
            end = next((j for j in range(i + 1, len(lines))
                        if re.match(rf"^{indent}\}}[;,)]*", lines[j])), None)
            if end is not None:
                yield lines[i].strip(), i + 1, end - i + 1
                i = end
        i += 1


def check_sizes(path, lines):
    name = path.as_posix()
    if len(lines) > MAX_FILE_LINES and name not in LONG_FILES:
        yield f"{path}: {len(lines)} lines; split by idea at about {MAX_FILE_LINES}"
    for first, number, length in functions(lines):
        key = f"{name}:{first}"
        if length > MAX_FUNCTION_LINES and not any(key.startswith(k) for k in LONG_FUNCTIONS):
            yield f"{path}:{number}: a function of {length} lines (limit {MAX_FUNCTION_LINES})"


def check_format(paths):
    if shutil.which("clang-format") is None:
        print("tidy: clang-format is not installed; format not checked")
        return
    run = subprocess.run(["clang-format", "--dry-run", "--Werror", *map(str, paths)],
                         cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        for line in run.stderr.splitlines():
            if "error:" in line:
                yield line


def tracked(*patterns):
    run = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--",
                          *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [pathlib.Path(p) for p in run.stdout.split() if (ROOT / p).exists()]


def main():
    problems = []
    paths = tracked(*SOURCES)
    for path in paths:
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        problems += check_includes(path, lines)
        problems += check_sizes(path, lines)
        for number, line in enumerate(lines, 1):
            if re.search(r"\b(TODO|FIXME|XXX)\b", line):
                problems.append(f"{path}:{number}: finish it or say so in an issue: {line.strip()}")
    if "--no-format" not in sys.argv:
        problems += check_format(paths)
    for problem in problems:
        print(problem)
    print(f"tidy: {len(paths)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
