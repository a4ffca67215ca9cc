#!/usr/bin/env python3
"""Pregate's kernels beside llama.cpp's and ik_llama.cpp's on the same cores and files, by turns.

Usage: load_tests/vs_peers_bench.py --llama BENCH [--ik BENCH] MODEL.gguf ... [--rounds 5]

Called by vs_peers.sh, which prepares the programs (each peer's `llama-batched-bench`) and files.
ik_llama.cpp runs with weights repacked at load (-rtr), once with and once without flash attention;
llama.cpp as it comes, which is both. In each round all programs run one after the other, first with
one sequence and long prompts, then with many sequences. Exit status 1 if a bar is missed. Writes
load_tests/results/vs_peers_bench.{md,json}.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import lab
import peers

PREFILL, DECODE = "prefill", "decode"
DECODE_PROMPT = 128  # of the one sequence that is decoded alone
PREFILL_BARS = {128: 1.25, 512: 1.25, 2048: 1.25}
DECODE_BARS = {1: 1.25, 8: 1.75, 32: 2.5}
# Of a mixture of experts, which is told by its name.
MIXTURE = "olmoe"
MIXTURE_PREFILL_BARS = {128: 1.25, 512: 2.0, 2048: 1.25}
MIXTURE_DECODE_BARS = {1: 1.5, 8: 2.0, 32: 3.0}
ENOUGH_OF_ROOF = 0.8  # of the read bandwidth, for one sequence
LARGE_FILE = 500 << 20
NOTES = pathlib.Path(__file__).with_name("vs_peers_notes.md")  # what profiles say of missed bars
# Ours: with activations of 16 bits, the default, and of 8, which is what the peers compute with.
OURS = {"pregate": (), "pregate --dtype int8": ("--dtype", "int8")}
FLAGS = {"llama.cpp": (), "ik -rtr -no-fa": ("-rtr", "-no-fa"),
         "ik -rtr -fa": ("-rtr", "-fa", "on")}


def runs_of(model):
    """(prompt lengths, tokens decoded after each, batch sizes) of the runs that measure a model.

    Fewer tokens of a large one, so that a round takes a minute or two in any case.
    """
    large = pathlib.Path(model).stat().st_size > LARGE_FILE
    lengths = tuple(PREFILL_BARS)
    return ((lengths, 16, (1,)), ((16,), 8, (8, 32))) if large else (
        (lengths, 64, (1,)), ((32,), 24, (8, 32)))


def run_pregate(args, program, model, prompts, decode_tokens, batches):
    """Returns {(work, prompt, batch): (tokens/s, share of the roof)} and the bench's report."""
    run = subprocess.run(
        [args.pregate, "bench", model, "--prompt-tokens", ",".join(map(str, prompts)),
         "--batch-sizes", ",".join(map(str, batches)), "--decode-tokens", str(decode_tokens),
         "--repetitions", "1", "--device", "cpu", "--threads", str(args.threads), "--json",
         *OURS[program]],
        stdout=subprocess.PIPE, text=True, check=True)
    report = json.loads(run.stdout)
    rows = {}
    for row in report["rows"]:
        key = row["prompt_tokens"], row["batch_size"]
        rows[(PREFILL, *key)] = (row["prefill_tokens_per_s"],
                                 row["prefill_ops_per_s"] / report["int8_ops_per_s"])
        rows[(DECODE, *key)] = (row["decode_tokens_per_s"],
                                row["decode_bytes_per_s"] / report["read_bytes_per_s"])
    return rows, report


def parse_batched_bench(text):
    """{(work, prompt, batch): tokens/s} of the table that llama-batched-bench prints."""
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|\n ").split("|")]
        if len(cells) == 10 and cells[0].isdigit():
            key = int(cells[0]), int(cells[2])
            rows[(PREFILL, *key)], rows[(DECODE, *key)] = float(cells[5]), float(cells[7])
    return rows


def run_peer(args, peer, model, prompts, decode_tokens, batches):
    """Returns {(work, prompt, batch): tokens/s}; nothing of a fork that cannot run the model."""
    context = -(-max(batches) * (max(prompts) + decode_tokens) // 256) * 256
    binary = args.llama if peer == "llama.cpp" else args.ik
    with tempfile.TemporaryDirectory() as folder:  # the fork leaves a log where it runs
        run = subprocess.run(
            [binary, "-m", model, "-t", str(args.threads), "-tb", str(args.threads), "-c",
             str(context), "-b", "2048", "-ub", "512", "-npp", ",".join(map(str, prompts)), "-ntg",
             str(decode_tokens), "-npl", ",".join(map(str, batches)), *FLAGS[peer]],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            errors="replace")
    rows = parse_batched_bench(run.stdout)
    if run.returncode != 0 or not rows:
        tail = "\n".join(run.stdout.splitlines()[-20:])
        print(f"{tail}\n{peer} failed ({run.returncode})", file=sys.stderr)
        if peer == "llama.cpp":
            sys.exit(1)
        return {}
    return rows


def make_rows(name, decode_prompt):
    """{(work, prompt, batch): Row}. `decode_prompt`: before the decoding of many sequences."""
    prefix, mixture = f"{name}, ", MIXTURE in name
    rows = {(PREFILL, prompt, 1): peers.Row(f"{prefix}prefill of {prompt}", bar)
            for prompt, bar in (MIXTURE_PREFILL_BARS if mixture else PREFILL_BARS).items()}
    for batch, bar in (MIXTURE_DECODE_BARS if mixture else DECODE_BARS).items():
        prompt = DECODE_PROMPT if batch == 1 else decode_prompt
        rows[(DECODE, prompt, batch)] = peers.Row(f"{prefix}decode of {batch}", bar)
        if batch == 1:
            rows[(DECODE, prompt, batch)].roof_bar = ENOUGH_OF_ROOF
    return rows


def compare(args, model):
    """Runs the rounds; returns what was measured of one model."""
    name = pathlib.Path(model).stem
    runs = runs_of(model)
    rows = make_rows(name, runs[1][0][0])
    roofs = {"read_bytes_per_s": [], "int8_ops_per_s": []}
    device = ""
    for number in range(args.rounds):
        for run in runs:
            speeds, shares = {}, {}
            for program in peers.by_turns(args.programs, number):
                if program not in OURS:
                    speeds[program] = run_peer(args, program, model, *run)
                    continue
                ours, report = run_pregate(args, program, model, *run)
                speeds[program] = {key: speed for key, (speed, _) in ours.items()}
                if program == "pregate":
                    shares = {key: share for key, (_, share) in ours.items()}
                device = report["model"]["device"]
                for key, values in roofs.items():
                    values.append(report[key])
            for key, row in rows.items():
                if key in shares:
                    row.add({program: speeds[program].get(key) for program in args.programs},
                            shares[key])
        print(f"{name}: round {number + 1} of {args.rounds}", file=sys.stderr)
    return {"model": name, "device": device, "runs": runs, "roofs": roofs,
            "rows": list(rows.values())}


def table(args, result):
    read, int8 = (statistics.median(result["roofs"][key]) / 1e9
                  for key in ("read_bytes_per_s", "int8_ops_per_s"))
    (_, single, _), ((prompt,), many, _) = result["runs"]
    lines = [f"## {result['model']}", "",
             f"{result['device']}; roofs measured in the same runs: {read:.1f} GB/s read, "
             f"{int8:.0f} GOP/s int8. Decode of 1: {single} tokens after {DECODE_PROMPT}; of more: "
             f"{many} after {prompt}.", ""]
    lines += peers.table(result["rows"], args.programs,
                         "our share of the roof: int8 rate (prefill), read bandwidth (decode)")
    return "\n".join(lines).replace(f"| {result['model']}, ", "| ")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--llama", required=True, help="llama.cpp's llama-batched-bench")
    parser.add_argument("--ik", help="ik_llama.cpp's; without it the fork is not measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pregate", default=lab.ROOT / "build/release/pregate")
    parser.add_argument("--busy", action="store_true",
                        help="try it out on a busy machine; keeps no result")
    args = parser.parse_args()
    args.threads = lab.threads()
    args.programs = [*OURS, *(peer for peer in FLAGS if args.ik or peer == "llama.cpp")]
    versions = [peers.llama_cpp_version(args.llama),
                peers.ik_llama_cpp_version(args.ik) if args.ik else
                "ik_llama.cpp was not measured (IK_LLAMA_CPP_DIR was not given)"]
    print("; ".join(versions), file=sys.stderr)
    watch = lab.require_quiet(args.busy)

    results = [compare(args, model) for model in args.models]
    about = lab.machine(watch)
    rows = [row for result in results for row in result["rows"]]
    text = "\n\n".join([
        "# Pregate's kernels beside llama.cpp's and ik_llama.cpp's",
        f"{lab.machine_line(about)}. Peers: {'; '.join(versions)}.",
        f"Tokens/s, median (range) of {args.rounds} rounds, in which `pregate bench` and each "
        "peer's `llama-batched-bench` run by turns; the ratio is formed within a round, to the "
        "best peer of that round. The share of the roof counts weights only. Files called "
        "requantised or random are good for measurements of speed only.",
        "The bars are for `pregate` as it comes, with activations of 16 bits. The peers compute "
        "with activations of 8 bits: `--dtype int8` is like against like. What the bits are worth "
        "(tests/model/parity_test.cc): the likeliest token is that of float32 at 99.9 % of "
        "positions with 16 bits, at 96 to 97 % with 8.",
        *(table(args, result) for result in results), peers.verdict(rows),
        NOTES.read_text(encoding="utf-8").strip()])
    lab.report("vs_peers_bench", text,
               {"machine": about, "versions": versions, "rounds": args.rounds,
                "models": [result | {"rows": [row.json() for row in result["rows"]]}
                           for result in results]})
    return not all(row.met() for row in rows)


if __name__ == "__main__":
    sys.exit(main())
