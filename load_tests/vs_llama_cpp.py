#!/usr/bin/env python3
"""Pregate beside llama.cpp on the same cores and files: prefill and decode, interleaved.

Usage: load_tests/vs_llama_cpp.py [MODEL.gguf ...] [--rounds 5]

Default models: the samples of deploy/fetch_model.sh. Each round runs one program after the other,
so that both see the same mood of the machine; the ratio is formed within a round and its median
over the rounds is what counts. Exit status 1 if one is below 0.7. The peer is built first
(load_tests/build_llama_cpp.sh). Writes load_tests/results/vs_llama_cpp.{md,json}. About six
minutes with both models.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys

import lab

BAR = 0.7
PREFILL, DECODE = "prefill", "decode"
# What is compared: (work, prompt tokens, sequences at once).
CELLS = ((PREFILL, 512, 1), (DECODE, 128, 1), (DECODE, 128, 16))
# Runs that fill them: (prompt tokens, batch sizes).
RUNS = ((512, (1,)), (128, (1, 16)))


def run_pregate(args, model, prompt, batches):
    """Returns {(work, prompt, batch): (tokens/s, share of the roof)} and the bench's report."""
    run = subprocess.run(
        [args.pregate, "bench", model, "--prompt-tokens", str(prompt), "--batch-sizes",
         ",".join(map(str, batches)), "--decode-tokens", str(args.decode_tokens), "--repetitions",
         "1", "--threads", str(args.threads), "--json"],
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


def run_llama(args, model, prompt, batches):
    """Returns {(work, prompt, batch): tokens/s}."""
    context = max(batches) * (prompt + args.decode_tokens)
    run = subprocess.run(
        [args.llama, "-m", model, "-t", str(args.threads), "-tb", str(args.threads), "-c",
         str(context), "-b", "2048", "-ub", "512", "-npp", str(prompt), "-ntg",
         str(args.decode_tokens), "-npl", ",".join(map(str, batches))],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    rows = {}
    for line in run.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("|\n ").split("|")]
        if len(cells) == 10 and cells[0].isdigit():
            key = int(cells[0]), int(cells[2])
            rows[(PREFILL, *key)], rows[(DECODE, *key)] = float(cells[5]), float(cells[7])
    return rows


def compare(args, model):
    """Runs the rounds; returns what was measured of one model."""
    cells = {cell: {"pregate": [], "llama_cpp": [], "share_of_roof": []} for cell in CELLS}
    roofs = {"read_bytes_per_s": [], "int8_ops_per_s": []}
    device = ""
    for number in range(args.rounds):
        for prompt, batches in RUNS:
            ours, report = run_pregate(args, model, prompt, batches)
            theirs = run_llama(args, model, prompt, batches)
            device = report["model"]["device"]
            for name, values in roofs.items():
                values.append(report[name])
            for cell in CELLS:
                if cell[1] == prompt:
                    cells[cell]["pregate"].append(ours[cell][0])
                    cells[cell]["share_of_roof"].append(ours[cell][1])
                    cells[cell]["llama_cpp"].append(theirs[cell])
        print(f"{pathlib.Path(model).name}: round {number + 1} of {args.rounds}", file=sys.stderr)
    rows = [{"work": work, "prompt_tokens": prompt, "batch_size": batch, **values,
             "ratios": [a / b for a, b in zip(values["pregate"], values["llama_cpp"])]}
            for (work, prompt, batch), values in cells.items()]
    return {"model": pathlib.Path(model).name, "device": device, **roofs, "rows": rows}


def table(result):
    read, int8 = (statistics.median(result[key]) / 1e9
                  for key in ("read_bytes_per_s", "int8_ops_per_s"))
    lines = [f"## {result['model']}", "",
             f"{result['device']}; roof measured in the same runs: {read:.1f} GB/s read, "
             f"{int8:.0f} GOP/s int8.", "",
             "| work | pregate, tokens/s | llama.cpp, tokens/s | ratio | our share of the roof |",
             "| --- | --- | --- | --- | --- |"]
    for row in result["rows"]:
        work = (f"prefill of {row['prompt_tokens']} tokens" if row["work"] == PREFILL else
                f"decode of {row['batch_size']} at once" if row["batch_size"] > 1 else
                "decode of 1")
        roof = "int8 rate" if row["work"] == PREFILL else "read bandwidth"
        lines.append(f"| {work} | {lab.spread(row['pregate'])} | {lab.spread(row['llama_cpp'])} | "
                     f"{lab.spread(row['ratios'], '{:.2f}')} | "
                     f"{100 * statistics.median(row['share_of_roof']):.0f} % of the {roof} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--decode-tokens", type=int, default=64)
    parser.add_argument("--pregate", default=lab.ROOT / "build/release/pregate")
    parser.add_argument("--llama", help="the peer's llama-batched-bench, if built elsewhere")
    parser.add_argument("--busy", action="store_true", help="try it out on a busy machine; keeps no result")
    args = parser.parse_args()
    models = args.models or [lab.fetch_model("smollm2"), lab.fetch_model("gemma3")]
    builder = lab.ROOT / "load_tests/build_llama_cpp.sh"
    peer = args.llama or "llama.cpp in llama-cpp-python " + re.search(
        r"^version=(.*)$", builder.read_text(encoding="utf-8"), re.MULTILINE)[1]
    args.llama = args.llama or subprocess.run([builder], stdout=subprocess.PIPE, text=True,
                                              check=True).stdout.strip()
    args.threads = lab.threads()
    watch = lab.require_quiet(args.busy)

    results = [compare(args, model) for model in models]
    about = lab.machine(watch)
    medians = [statistics.median(row["ratios"]) for result in results for row in result["rows"]]
    met = min(medians) >= BAR
    text = "\n\n".join([
        "# Pregate beside llama.cpp",
        f"{lab.machine_line(about)}. `pregate bench` and `llama-batched-bench` by turns, median "
        f"(range) of {args.rounds} rounds; decode of {args.decode_tokens} tokens after prompts of "
        f"128; the share of the roof counts weights only. Peer: {peer}.",
        *map(table, results),
        f"Smallest median ratio: {min(medians):.2f}; at least {BAR:g} is asked for: "
        f"{'met' if met else 'MISSED'}."])
    lab.report("vs_llama_cpp", text,
                     {"machine": about, "rounds": args.rounds, "models": results})
    return not met


if __name__ == "__main__":
    sys.exit(main())
