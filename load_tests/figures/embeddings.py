#!/usr/bin/env python3
"""Vectors a second of all-MiniLM-L6-v2 beside onnxruntime and llama.cpp's server, on the same cores.

Usage: load_tests/figures/embeddings.py [--rounds 5] [--seconds 3] [--no-llama] [--busy]

Texts of 128 tokens, one at a time and 32 at once, two threads for everybody, by turns; the ratio of
a round is ours over the better of the others in that same round. What is measured:
  pregate          the engine by itself (build/encode_bench), float weights rounded to 13 bits at load
  pregate float32  the same, not rounded
  onnxruntime      in its own process, float32, on the operators that its optimizer makes of BERT
  llama.cpp f32, f16   llama-server --embeddings with the same weights, over HTTP, ids in, vectors out
  pregate server   `pregate serve` over HTTP in the same way, beside llama-server alone
Also checked: the cosine of everybody's vector of one text and ours, and that of ours and float32's.
Writes load_tests/results/figures/embeddings.{md,json}. Exit status 1 if a bar is missed: 1.5 times the
better of onnxruntime and llama.cpp at either batch, and every cosine 0.9999. The first run installs
onnxruntime into build/embeddings_venv and builds llama-server (see build_llama_cpp.sh).
"""

import argparse
import contextlib
import json
import math
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import lab  # noqa: E402
import peers  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
VENV = lab.ROOT / "build/embeddings_venv"
FILES = lab.ROOT / "build/embeddings_files"
REQUIREMENTS = ["onnxruntime==1.32.0", "onnx==1.23.2", "numpy", "safetensors", "gguf"]
BAR, LEAST_COSINE = 1.5, 0.9999


def prepare(args):
    """The other programs' environment and files; nothing that is there is made again."""
    if not (VENV / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "-q", "--disable-pip-version-check",
                        *REQUIREMENTS], check=True)
        (VENV / "ready").touch()
    if not (FILES / "minilm-f16.gguf").exists():
        subprocess.run([VENV / "bin/python", HERE / "minilm_files.py", args.model, FILES],
                       check=True)
    if args.llama is None and not args.no_llama:
        built = subprocess.run([lab.ROOT / "load_tests/build_llama_cpp.sh", "llama-server"],
                               stdout=subprocess.PIPE, text=True, check=True)
        args.llama = built.stdout.split()[-1]


def by_batch(result):
    return {row["batch"]: row["texts_per_s"] for row in result["rows"]}


def engine(args, dtype):
    run = subprocess.run(
        [args.encode_bench, args.model, "--threads", str(args.threads), "--dtype", dtype,
         "--tokens", str(args.tokens), "--batches", args.batches, "--seconds", str(args.seconds)],
        capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def onnx(args, ids):
    run = subprocess.run(
        [VENV / "bin/python", HERE / "onnx_texts.py", FILES / "minilm.onnx", str(args.threads),
         str(args.seconds), args.batches], input=json.dumps(ids), capture_output=True, text=True,
        check=True)
    return json.loads(run.stdout)


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


@contextlib.contextmanager
def serving(command, port, health):
    """The server's address, once it answers."""
    with lab.running(*map(str, command)) as process:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} has ended")
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(address + health, timeout=5).close()
                break
            time.sleep(0.1)
        yield address


def over_http(args, command, port, health, ids):
    """Vectors a second of a server's /v1/embeddings, a batch a request."""
    rows = []
    with serving(command, port, health) as address:
        for batch in map(int, args.batches.split(",")):
            body = {"model": "minilm", "input": [ids] * batch, "encoding_format": "float"}
            vector = post(address + "/v1/embeddings", body)["data"][0]["embedding"]
            texts, start = 0, time.perf_counter()
            while time.perf_counter() - start < args.seconds:
                post(address + "/v1/embeddings", body)
                texts += batch
            rows.append({"batch": batch, "texts_per_s": texts / (time.perf_counter() - start)})
    return {"rows": rows, "vector": vector}


def llama(args, kind, ids):
    port = lab.free_port()
    most = args.tokens * max(map(int, args.batches.split(",")))
    return over_http(args, [args.llama, "-m", FILES / f"minilm-{kind}.gguf", "--embeddings",
                            "--pooling", "mean", "-t", args.threads, "-tb", args.threads, "-c", most,
                            "-b", most, "-ub", most, "-np", "32", "--port", port, "--host",
                            "127.0.0.1"], port, "/health", ids)


def server(args, ids):
    port = lab.free_port()
    return over_http(args, [args.pregate, "serve", args.model, "--served-model-name", "minilm",
                            "--port", port, "--grpc-port", "0", "--metrics-port", "0",
                            "--threads", args.threads], port, "/readyz", ids)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(
        sum(x * x for x in a) * sum(y * y for y in b))


def measure(args):
    first = engine(args, "float32")
    ids, exact = first["ids"], first["vector"]
    programs = {"pregate": lambda: engine(args, "auto"),
                "pregate float32": lambda: engine(args, "float32"),
                "onnxruntime": lambda: onnx(args, ids)}
    if args.llama:
        programs |= {f"llama.cpp {kind}": lambda kind=kind: llama(args, kind, ids)
                     for kind in ("f32", "f16")}
    if args.server:
        programs["pregate server"] = lambda: server(args, ids)
    batches = list(map(int, args.batches.split(",")))
    rows = {batch: peers.Row(f"{batch} at once", BAR) for batch in batches}
    over_wire = {batch: peers.Row(f"{batch} at once, over HTTP", BAR) for batch in batches}
    cosines = {}
    for number in range(args.rounds):
        results = {}
        for name in peers.by_turns(list(programs), number):
            results[name] = programs[name]()
            cosines[name] = min(cosines.get(name, 1), cosine(results[name]["vector"], exact))
            print(f"round {number + 1}: {name}: " + ", ".join(
                f"{batch}: {rate:.1f}/s" for batch, rate in by_batch(results[name]).items()))
        for batch in batches:
            rates = {name: by_batch(result)[batch] for name, result in results.items()}
            wire = rates.pop("pregate server", None)
            rows[batch].add(rates)
            if wire is not None and args.llama:
                over_wire[batch].add({"pregate": wire} | {
                    name: rate for name, rate in rates.items() if name.startswith("llama")})
    shown = list(rows.values())
    wired = [row for row in over_wire.values() if row.rounds]
    return first["device"], shown, wired, cosines, [n for n in programs if n != "pregate server"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--encode-bench", default=lab.ROOT / "build/release/encode_bench")
    parser.add_argument("--pregate", default=lab.ROOT / "build/release/pregate")
    parser.add_argument("--llama", help="a llama-server; default: build_llama_cpp.sh's")
    parser.add_argument("--no-llama", action="store_true", help="without llama.cpp")
    parser.add_argument("--server", action="store_true", help="`pregate serve` over HTTP as well")
    parser.add_argument("--busy", action="store_true",
                        help="try it out on a busy machine; keeps no result")
    args = parser.parse_args()
    args.model = lab.fetch_model("minilm")
    prepare(args)
    watch = lab.require_quiet(args.busy)
    device, rows, wired, cosines, programs = measure(args)
    about = lab.machine(watch)
    near = {name: value >= LEAST_COSINE for name, value in cosines.items()}
    lines = ["# Vectors of all-MiniLM-L6-v2 beside onnxruntime and llama.cpp", "",
             f"{lab.machine_line(about)}. Engine: {device}. Texts of {args.tokens} tokens; vectors a "
             f"second, median (range) of {args.rounds} rounds of {args.seconds:g} s, by turns; the "
             "ratio of a round is to the better peer of that round.", "",
             *peers.table(rows, programs), ""]
    if wired:
        lines += [*peers.table(wired, ["pregate", *[p for p in programs if p[:5] == "llama"]]), ""]
    lines += ["Least cosine of a text's vector and that of pregate in float32: " +
              ", ".join(f"{name} {value:.7f}" for name, value in cosines.items()) + ".", "",
              peers.verdict([*rows, *wired])]
    # Where things lie on this machine says nothing to others.
    arguments = {k: pathlib.Path(str(v)).name for k, v in vars(args).items()}
    lab.report("figures/embeddings", "\n".join(lines),
               {"machine": about, "arguments": arguments,
                "rows": [row.json() for row in [*rows, *wired]], "cosines": cosines})
    return 0 if all(row.met() for row in rows) and all(near.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
