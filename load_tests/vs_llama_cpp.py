#!/usr/bin/env python3
"""Pregate beside llama.cpp on the same cores and file: prefill and decode, interleaved.

Usage: load_tests/vs_llama_cpp.py MODEL.gguf [--rounds 5] [--pregate BIN] [--llama BIN]
                                  [--out RESULT.json]

Each round runs one program after the other, so that both see the same mood of a shared machine;
the ratio is formed within a round and its median over the rounds is what counts. Without --llama
the peer is built first (load_tests/build_llama_cpp.sh).
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPTS = "128,512"
BATCHES = "1,16"
DECODE = "64"


def run_pregate(binary, model, threads):
    """Returns {(prompt, batch): {...}} and the machine's measured peaks."""
    run = subprocess.run(
        [binary, "bench", model, "--prompt-tokens", PROMPTS, "--batch-sizes", BATCHES,
         "--decode-tokens", DECODE, "--repetitions", "1", "--threads", str(threads), "--json"],
        capture_output=True, text=True, check=True)
    report = json.loads(run.stdout)
    rows = {(row["prompt_tokens"], row["batch_size"]): row for row in report["rows"]}
    return rows, report


def run_llama(binary, model, threads):
    """Returns {(prompt, batch): (prefill, decode)} in tokens a second."""
    run = subprocess.run(
        [binary, "-m", model, "-t", str(threads), "-tb", str(threads), "-c", "16384", "-b", "2048",
         "-ub", "512", "-npp", PROMPTS, "-ntg", DECODE, "-npl", BATCHES],
        capture_output=True, text=True, check=True)
    rows = {}
    for line in run.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("|\n ").split("|")]
        if len(cells) == 10 and cells[0].isdigit():
            rows[int(cells[0]), int(cells[2])] = (float(cells[5]), float(cells[7]))
    return rows


def describe(values):
    return f"{statistics.median(values):8.1f} ({min(values):.0f}-{max(values):.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pregate", default=str(ROOT / "build/release/pregate"))
    parser.add_argument("--llama")
    parser.add_argument("--out")
    args = parser.parse_args()
    llama = args.llama or subprocess.run([str(ROOT / "load_tests/build_llama_cpp.sh")],
                                         stdout=subprocess.PIPE, text=True,
                                         check=True).stdout.strip()

    ours, theirs, shares = {}, {}, {}
    report = None
    for round_number in range(args.rounds):
        rows, report = run_pregate(args.pregate, args.model, args.threads)
        for key, row in rows.items():
            for work in ("prefill", "decode"):
                ours.setdefault((*key, work), []).append(row[f"{work}_tokens_per_s"])
            shares.setdefault(key, []).append(row["decode_bytes_per_s"] /
                                              report["read_bytes_per_s"])
        for key, pair in run_llama(llama, args.model, args.threads).items():
            theirs.setdefault((*key, "prefill"), []).append(pair[0])
            theirs.setdefault((*key, "decode"), []).append(pair[1])
        print(f"round {round_number + 1} of {args.rounds} done", file=sys.stderr)

    print(f"{pathlib.Path(args.model).name} on {report['model']['device']}, "
          f"{args.rounds} interleaved rounds; tokens/s: median (min-max)")
    print("| work | prompt | batch | pregate | llama.cpp | ratio (min-max) | share of the "
          "measured read bandwidth |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    results = []
    for key in sorted(ours, key=lambda k: (k[2], k[0], k[1])):
        prompt, batch, work = key
        ratios = [a / b for a, b in zip(ours[key], theirs[key])]
        share = f"{100 * statistics.median(shares[prompt, batch]):.0f} %" if work == "decode" else ""
        print(f"| {work} | {prompt} | {batch} | {describe(ours[key])} | {describe(theirs[key])} | "
              f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) | {share} |")
        results.append({"work": work, "prompt_tokens": prompt, "batch_size": batch,
                        "pregate": ours[key], "llama_cpp": theirs[key],
                        "median_ratio": statistics.median(ratios)})
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps(
            {"model": pathlib.Path(args.model).name, "device": report["model"]["device"],
             "read_bytes_per_s": report["read_bytes_per_s"],
             "int8_ops_per_s": report["int8_ops_per_s"], "rows": results}, indent=1) + "\n",
            encoding="utf-8")


if __name__ == "__main__":
    main()
