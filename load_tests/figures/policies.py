#!/usr/bin/env python3
"""The policies of experts on the server itself: what clients see at growing load, with and without
a cap of sequences a step.

Usage: load_tests/figures/policies.py [--rounds 3] [--duration 60] [--loads 50,70,90,98]
       [--caps 8,0] [--clients 32] [--storage tied|copies] [--policies A,B]
       [--pieces FILE --limit SECONDS]

Serves SmolLM2 with the Read-ME overlay of tests/testdata. Its capacity is what decode-first serves
in a closed loop; then, at shares of it, every policy gets the same Poisson arrivals with prompts
that are pieces of this repository's texts and programs, and lognormal lengths (means of 32 and 48
tokens). A round asks for the capacity anew, for a shared machine is not always as fast, and the
next one takes the policies in the reverse order; policies are compared within a round. Prints end to
end latency, the longest gap between tokens and the experts a step; writes
load_tests/results/figures/policies.{md,json,png}, policies_copies with copies of the experts. Exit
status 1 if a bar is missed: `auto` at most 2 % worse than `off` in throughput, mean or p99; at 98 %
under the cap a mean 6.1 % and a p95 10 % better than both baselines. 55 minutes a round; with
--pieces in as many runs as one likes, each of at least one point (--duration and some 10 s): status
75 as long as points are missing.
"""

import argparse
import datetime
import itertools
import math
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import urllib.request

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import lab  # noqa: E402

READ_ME = lab.ROOT / "tests/testdata/read_me_smollm2"
POLICIES = "decode-first,prefill-first,off,paper,on,auto"
BASELINES = ("decode-first", "prefill-first")
PROMPT_MEAN, ANSWER_MEAN, DEVIATION, LONGEST = 32, 48, 0.8, 256
WORSE, BETTER_MEAN, BETTER_P95 = 2, 6.1, 10  # percent
TEXT_BYTES, PIECE = 1 << 20, 4096


def write_text(path):
    """Programs and prose by turns: a router that tells domains apart should meet several."""
    names = subprocess.run(["git", "ls-files", "*.cc", "*.py", "*.md", "*.sh"], cwd=lab.ROOT,
                           capture_output=True, text=True, check=True).stdout.split()
    pieces = []
    for name in names:
        text = (lab.ROOT / name).read_text(encoding="utf-8")
        pieces += [text[i:i + PIECE] for i in range(0, len(text), PIECE)]
    random.Random(1).shuffle(pieces)
    path.write_text("".join(pieces)[:TEXT_BYTES], encoding="utf-8")


def draw_length(source, mean):
    mu = math.log(mean) - DEVIATION ** 2 / 2
    return min(max(round(source.lognormvariate(mu, DEVIATION)), 1), LONGEST)


def write_arrivals(path, rate, duration):
    """An open loop as loadgen reads it; the same requests at every rate, as many as fit."""
    times, lengths = random.Random(1), random.Random(2)
    now, lines = times.expovariate(rate), ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    while now < duration:
        stamp = datetime.datetime(2023, 11, 16) + datetime.timedelta(seconds=now)
        lines.append(f"{stamp:%Y-%m-%d %H:%M:%S.%f},{draw_length(lengths, PROMPT_MEAN)},"
                     f"{draw_length(lengths, ANSWER_MEAN)}")
        now += times.expovariate(rate)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def experts_met(port):
    """Steps so far, and the experts of all of them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        values = dict(line.rsplit(" ", 1) for line in page.read().decode("utf-8").splitlines()
                      if line.startswith("pregate_distinct_experts_per_step_"))
    return [float(values[f"pregate_distinct_experts_per_step_{part}"]) for part in ("count", "sum")]


def measure(args, policy, cap, *load):
    """One load on a server that has just started and has been warmed up."""
    port, metrics = lab.free_port(), lab.free_port()
    with lab.running(args.pregate, "serve", args.model, "--port", "0",
                     "--grpc-port", str(port), "--metrics-port",
                     str(metrics), "--read-me", str(READ_ME), "--expert-storage", args.storage,
                     "--no-enable-prefix-caching", "--max-num-seqs", str(args.clients),
                     "--max-num-step-seqs", str(cap or args.clients), "--expert-batching", policy):
        address = f"127.0.0.1:{port}"
        text = ("--text", str(args.text), "--timeout", "600", "--wait", "120")
        lab.run_loadgen(args.loadgen, address, "--concurrency", str(args.clients), "--requests",
                        str(args.clients), "--prompt-tokens", "8:64", "--max-tokens", "8:16",
                        *text, "--seed", "7")
        before = experts_met(metrics)
        summary = lab.run_loadgen(args.loadgen, address, *load, *text)["summary"]
        steps, met = (b - a for a, b in zip(before, experts_met(metrics)))
    if summary["errors"] or summary["short_answers"]:
        sys.exit(f"{policy}, cap {cap}: not every answer came whole: {summary['statuses']}")
    return {"policy": policy, "cap": cap, "requests": summary["requests"],
            "tokens_per_s": summary["output_tokens_per_s"], "end_to_end_s": summary["end_to_end_s"],
            "first_token_s": summary["time_to_first_token_s"],
            "longest_gap_s": summary["longest_gap_s"], "distinct_experts": met / steps}


def capacity(args, cap):
    """Requests a second; the closed loop's lengths have the same means."""
    closed = measure(args, "decode-first", cap, "--concurrency", str(args.clients), "--requests",
                     str(4 * args.clients), "--prompt-tokens", f"1:{2 * PROMPT_MEAN - 1}",
                     "--max-tokens", f"1:{2 * ANSWER_MEAN - 1}")
    lengths = random.Random(2)
    drawn = [(draw_length(lengths, PROMPT_MEAN), draw_length(lengths, ANSWER_MEAN))
             for _ in range(10000)]
    return closed["tokens_per_s"] / (sum(answer for _, answer in drawn) / len(drawn))


class Place:
    """What the rounds say of one policy at one load."""

    def __init__(self, cap, load, policy, rows):
        self.cap, self.load, self.policy, self.rows = cap, load, policy, rows

    def median(self, value):
        return statistics.median(value(row) for row in self.rows)

    def change(self, base, value):
        """Percent by which a value differs from another policy's, round by round, as a spread."""
        return [100 * (value(row) / value(other) - 1) for row, other in zip(self.rows, base.rows)]


def seconds_a_token(row):
    return 1 / row["tokens_per_s"]


def end_to_end(key):
    return lambda row: row["end_to_end_s"][key]


def check_bars(places):
    """Lines about the bars, and whether all are met."""
    lines, met = ["| bar | is (range) | asked for | |", "| --- | --- | --- | --- |"], True

    def bar(name, changes, most):
        nonlocal met
        kept = statistics.median(changes) <= most
        met &= kept
        lines.append(f"| {name} | {lab.spread(changes, '{:+.1f}')} % | ≤ {most:+.1f} % | "
                     f"{'met' if kept else '**missed**'} |")

    by_place = {(place.cap, place.load, place.policy): place for place in places}
    for auto in (place for place in places if place.policy == "auto"):
        where = f"{auto.load} %, {f'cap {auto.cap}' if auto.cap else 'no cap'}"
        if off := by_place.get((auto.cap, auto.load, "off")):
            bar(f"seconds a token, auto beside off, {where}", auto.change(off, seconds_a_token), WORSE)
            for key in ("mean", "p99"):
                bar(f"{key}, auto beside off, {where}", auto.change(off, end_to_end(key)), WORSE)
        for other in BASELINES if auto.cap and auto.load == 98 else ():
            if base := by_place.get((auto.cap, auto.load, other)):
                for key, least in (("mean", BETTER_MEAN), ("p95", BETTER_P95)):
                    bar(f"{key}, auto beside {other}, {where}", auto.change(base, end_to_end(key)),
                        -least)
    return lines, met


def table(args, about, capacities, places):
    lines = ["# Policies of experts on the server", "",
             f"{lab.machine_line(about)}. {args.model_name} with the overlay of "
             f"`tests/testdata/read_me_smollm2`, experts {args.storage}; {args.clients} sequences "
             f"at once, of which a cap lets fewer into a step. Open loop, {args.duration:g} s each, "
             f"medians of {args.rounds} rounds; the same arrivals for every policy of a round; prompts "
             f"of this repository's texts, lognormal lengths of mean {PROMPT_MEAN} and {ANSWER_MEAN}. "
             "Capacity, decode-first in a closed loop, requests/s: " +
             "; ".join(f"{lab.spread(rates, '{:.2f}')} {f'at cap {cap}' if cap else 'without a cap'}"
                       for cap, rates in capacities.items()) + ".", "",
             "| cap | load, % | policy | requests | tokens/s | mean, s | p95, s | p99, s | first "
             "token, s | longest gap, s: p95 / most | experts a step |",
             "| --- |" + " --- |" * 10]
    for place in places:
        gaps = (place.median(lambda row, key=key: row["longest_gap_s"][key])
                for key in ("p95", "max"))
        lines.append("| " + " | ".join((
            str(place.cap or "none"), str(place.load), place.policy,
            f"{place.median(lambda row: row['requests']):.0f}",
            f"{place.median(lambda row: row['tokens_per_s']):.1f}",
            *(f"{place.median(end_to_end(key)):.2f}" for key in ("mean", "p95", "p99")),
            f"{place.median(lambda row: row['first_token_s']['mean']):.2f}",
            " / ".join(f"{gap:.2f}" for gap in gaps),
            f"{place.median(lambda row: row['distinct_experts']):.2f}")) + " |")
    bars, met = check_bars(places)
    return "\n".join(lines + [""] + bars), met


def draw(path, args, places):
    figure, panels = pyplot.subplots(len(args.caps), 3, figsize=(13, 4 * len(args.caps)),
                                     squeeze=False, constrained_layout=True)
    values = {"mean end to end, s": end_to_end("mean"), "p95 end to end, s": end_to_end("p95"),
              "experts a step": lambda row: row["distinct_experts"]}
    for cap, line in zip(args.caps, panels):
        for (name, value), panel in zip(values.items(), line):
            for policy in args.policies:
                here = [place for place in places if place.cap == cap and place.policy == policy]
                panel.plot([place.load for place in here], [place.median(value) for place in here],
                           marker="o", label=policy)
            panel.set(title=f"{cap or 'any number of'} sequences a step", ylabel=name,
                      xlabel="load, % of capacity", xticks=args.loads, ylim=(0, None))
            panel.grid(alpha=0.3)
        line[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def arguments():
    def whole(text):
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=60, help="seconds of each load")
    parser.add_argument("--loads", type=whole, default=[50, 70, 90, 98])
    parser.add_argument("--caps", type=whole, default=[8, 0], help="0: none")
    parser.add_argument("--clients", type=int, default=32, help="sequences at once")
    parser.add_argument("--storage", choices=("tied", "copies"), default="tied")
    parser.add_argument("--policies", type=lambda text: text.split(","),
                        default=POLICIES.split(","))
    lab.add_server_flags(parser)
    lab.Pieces.add_flags(parser)
    args = parser.parse_args()
    args.model = args.model or lab.fetch_model("smollm2")
    args.model_name = pathlib.Path(args.model).name
    return args


def measure_all(args, pieces, folder):
    """({cap: capacities}, places), what is there of each round by round."""
    arrivals = folder / "arrivals.csv"
    capacities = {cap: [] for cap in args.caps}
    rows = {key: [] for key in itertools.product(args.caps, args.loads, args.policies)}
    for turn in range(args.rounds):
        for cap in args.caps:
            rate = pieces.point(f"round {turn + 1}, cap {cap}, capacity",
                                lambda cap=cap: capacity(args, cap))
            capacities[cap].append(rate)
            for load in args.loads:
                write_arrivals(arrivals, 0.01 * load * rate, args.duration)
                for policy in args.policies if turn % 2 == 0 else reversed(args.policies):
                    row = pieces.point(
                        f"round {turn + 1}, cap {cap}, {load} %, {policy}",
                        lambda cap=cap, policy=policy: measure(args, policy, cap, "--trace",
                                                               str(arrivals)))
                    rows[cap, load, policy].append(row)
    return capacities, [Place(*key, here) for key, here in rows.items()]


def main():
    args = arguments()
    lab.require_quiet(args.busy)
    settings = {key: getattr(args, key) for key in ("duration", "clients", "storage", "model_name")}
    pieces = lab.Pieces(args.pieces, args.limit, settings, args.busy)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        args.text = folder / "text"
        write_text(args.text)
        capacities, places = measure_all(args, pieces, folder)
    about = lab.machine(pieces)
    text, met = table(args, about, capacities, places)
    name = "figures/policies" + ("_copies" if args.storage == "copies" else "")
    if lab.report(name, text, {"machine": about, "model": args.model_name,
                               "experts": args.storage, "capacity_requests_per_s": capacities,
                               "places": [vars(place) for place in places]}):
        draw(lab.RESULTS / f"{name}.png", args, places)
    return not met


if __name__ == "__main__":
    sys.exit(main())
