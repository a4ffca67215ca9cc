#!/usr/bin/env python3
"""Experts that overlap, stored once, beside copies of them and beside the dense model they are made of.

Usage: load_tests/figures/tied_experts.py [--rounds 5] [--repetitions 3] [--batches 1,7,16,64] [--more]

Runs `pregate bench` on SmolLM2 three ways by turns, and reads the memory of a server that has just
started. Writes load_tests/results/figures/tied_experts.{md,json,png}. Exit status 1 if a bar is
missed: bytes of expert weights at all seven experts at most 0.4 of those of copies, memory at most
1.05 of the dense model's, tokens a second of tied experts at least those of copies at every batch and
of the dense model at a batch of 1. About two minutes a round, with one repetition 40 seconds; with
--more rounds are added to those that the same commit has left on the same machine.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import lab  # noqa: E402

READ_ME = str(lab.ROOT / "tests/testdata/read_me_smollm2")
WAYS = {"dense": [], "tied": ["--read-me", READ_ME, "--expert-storage", "tied"],
        "copies": ["--read-me", READ_ME, "--expert-storage", "copies"]}
MOST_BYTES, MOST_MEMORY = 0.4, 1.05


def bench(args, way):
    run = subprocess.run(
        [args.pregate, "bench", args.model, "--json", "--prompt-tokens", "64", "--batch-sizes",
         args.batches, "--decode-tokens", "64", "--repetitions", str(args.repetitions), *WAYS[way]],
        capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def memory(args, way):
    """Bytes of a server's own memory once it is ready."""
    port = lab.free_port()
    with lab.running(args.pregate, "serve", args.model, "--port", "0",
                     "--grpc-port", str(port), "--metrics-port",
                     "0", *WAYS[way]) as server:
        subprocess.run([lab.ROOT / "build/release/pregate-client", "--target", f"127.0.0.1:{port}",
                        "--wait", "60"], check=True)
        time.sleep(0.5)
        status = pathlib.Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
        return 1024 * int(status.split("VmRSS:")[1].split()[0])


def rates(rounds, way, row):
    return [r[way]["rows"][row]["decode_tokens_per_s"] for r in rounds]


def ratio(rounds, way, other, row):
    return statistics.median(a / b for a, b in zip(rates(rounds, way, row),
                                                   rates(rounds, other, row)))


def table(args, about, rounds, resident):
    first = rounds[0]
    batches = [row["batch_size"] for row in first["tied"]["rows"]]
    tied, copies = first["tied"]["expert_bytes"], first["copies"]["expert_bytes"]
    bars = []

    def bar(name, value, limit, at_most):
        met = value <= limit if at_most else value >= limit
        bars.append(met)
        return f"| {name} | {value:.3f} | {'≤' if at_most else '≥'} {limit:g} | " \
               f"{'met' if met else '**missed**'} |"

    lines = ["# Tied experts, copies, and the dense model", "",
             f"{lab.machine_line(about)}. {args.model_name} with the router and the seven masks of "
             f"`tests/testdata/read_me_smollm2`; `pregate bench`, contexts of 64 to 128 tokens; "
             f"median (range) of {len(rounds)} rounds, by turns.", "",
             "| decoding, tokens/s | " + " | ".join(WAYS) + " | tied ÷ copies | tied ÷ dense |",
             "| --- |" + " --- |" * (len(WAYS) + 2)]
    for row, batch in enumerate(batches):
        cells = [lab.spread(rates(rounds, way, row), "{:.0f}") for way in WAYS]
        lines.append(f"| {batch} at once | " + " | ".join(cells) +
                     f" | {ratio(rounds, 'tied', 'copies', row):.2f}"
                     f" | {ratio(rounds, 'tied', 'dense', row):.2f} |")
    lines += ["", "| a step meets | " + " | ".join(f"{n + 1}" for n in range(len(tied))) + " |",
              "| --- |" + " --- |" * len(tied),
              "| MB of expert weights, tied | " + " | ".join(f"{b / 1e6:.1f}" for b in tied) + " |",
              "| copies | " + " | ".join(f"{b / 1e6:.1f}" for b in copies) + " |", "",
              "| | " + " | ".join(WAYS) + " |", "| --- |" + " --- |" * len(WAYS),
              "| memory of the process, MB | " +
              " | ".join(f"{resident[way] / 1e6:.1f}" for way in WAYS) + " |", "",
              "| bar | is | asked for | |", "| --- | --- | --- | --- |",
              bar("bytes at all experts, tied ÷ copies", tied[-1] / copies[-1], MOST_BYTES, True),
              bar("memory, tied ÷ dense", resident["tied"] / resident["dense"], MOST_MEMORY, True)]
    for row, batch in enumerate(batches):
        lines.append(bar(f"tokens/s at {batch}, tied ÷ copies",
                         ratio(rounds, "tied", "copies", row), 1, False))
    lines.append(bar("tokens/s at 1, tied ÷ dense", ratio(rounds, "tied", "dense", 0), 1, False))
    return "\n".join(lines), all(bars)


def draw(path, rounds):
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    for way in WAYS:
        rows = rounds[0][way]["rows"]
        left.plot([row["batch_size"] for row in rows],
                  [statistics.median(rates(rounds, way, i)) for i in range(len(rows))],
                  marker="o", label=way)
    left.set(xscale="log", xlabel="sequences at once", ylabel="tokens/s", ylim=(0, None))
    left.legend()
    for way in ("tied", "copies"):
        values = rounds[0][way]["expert_bytes"]
        right.plot(range(1, len(values) + 1), [b / 1e6 for b in values], marker="o", label=way)
    right.set(xlabel="experts that a step meets", ylabel="MB of expert weights read", ylim=(0, None))
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def earlier(about):
    """The rounds and the memory that are kept already; none, if they are of something else."""
    path = lab.RESULTS / "figures/tied_experts.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    about["commit"] = about["commit"].removesuffix("-dirty")  # by what is kept
    if any(kept["machine"][key] != about[key] for key in ("cpu", "threads", "commit")):
        return [], None
    about["share_of_others"] = max(about["share_of_others"], kept["machine"]["share_of_others"])
    return kept["rounds"], kept["memory"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batches", default="1,7,16,64")
    parser.add_argument("--more", action="store_true", help="add to the rounds that are kept")
    lab.add_server_flags(parser)
    args = parser.parse_args()
    args.model = args.model or lab.fetch_model("smollm2")
    args.model_name = pathlib.Path(args.model).name
    watch = lab.require_quiet(args.busy)
    new = [{way: bench(args, way) for way in WAYS} for _ in range(args.rounds)]
    about = lab.machine(watch)
    before, resident = earlier(about) if args.more else ([], None)
    resident = resident or {way: memory(args, way) for way in WAYS}
    rounds = before + new
    text, met = table(args, about, rounds, resident)
    if lab.report("figures/tied_experts", text,
                  {"machine": about, "model": args.model_name, "memory": resident,
                   "rounds": rounds}):
        draw(lab.RESULTS / "figures/tied_experts.png", rounds)
    return not met


if __name__ == "__main__":
    sys.exit(main())
