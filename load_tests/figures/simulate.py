#!/usr/bin/env python3
"""The policies of experts in virtual time, in the setting of the Read-ME paper.

Usage: load_tests/figures/simulate.py [--pregate build/release/pregate] [--trace FILE] [--quick]
       [--only-cache]

Runs `pregate simulate`: 7 experts that are copies, 64 clients, 16 sequences a step, 2 to 5 experts
in memory, 40 and 170 ms to load one; then all experts resident, 96 sequences of which 32 a step or
any number, at 50 to 98 % of capacity, before six machines. Prints the hit ratios beside the
paper's (arXiv 2410.19123, table 4) and the throughputs and latencies, and writes
load_tests/results/figures/simulate.{md,json,png}. It computes and measures nothing, so any machine
gives the same figures (8 min). --trace FILE, one of `pregate serve --record-trace`, adds what its
server did and what the other policies would have done. --only-cache runs what is about experts that
do not fit (1 min) and takes the rest from the result there is: for a change that is about these alone.
Exit status 1 if `auto` without prefetch hits less than asked for, or is slower.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend must be chosen first)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "load_tests/results/figures"
EXPERTS = 7
FITS = (2, 3, 4, 5)
LOADS = (50, 70, 90, 98)
# Hit ratios in percent with 2, 3, 4 and 5 of 7 experts in memory.
PAPER = {"random": (34.19, 50.14, 67.52, 82.91), "lru": (33.90, 52.42, 66.95, 83.48),
         "belady_offline": (44.16, 61.82, 77.21, 88.03)}
BARS = (77, 85, 90, 94)  # of `auto`, without prefetch
# In percent, of `auto` where all experts are in memory: at any load, and at the highest one where
# experts are copies and a step has a cap (the paper's gains).
WORSE, BETTER = 2, {"mean": 6.1, "p95": 10}
SHADOWS = ("random", "lru", "lfu", "static", "belady_offline")
POLICIES = ("off", "paper", "on", "auto")
BASELINES = ("decode-first", "prefill-first")
# What a step costs, in ms: itself, a row, an expert's worth of weights.
MACHINES = {"L": ("launch-bound, fitted to the paper's A100", (31, 0.03, 2.5), ()),
            "W": ("bound by reading copies of experts", (10, 0.04, 9.5), ()),
            "T": ("the same, tied experts", (10, 0.04, 9.5), ("--tied",)),
            "C": ("a CPU, on which rows cost", (10, 2, 9.5), ()),
            "S": ("SmolLM2 as Read-ME, copies, two threads of a Xeon with AMX: fitted to a "
                  "recorded trace", (0.4, 0.52, 2.24), ()),
            "U": ("the same, tied experts", (0, 0.84, 3.9), ("--tied",))}
SEEDS = (1, 2)
KEPT = ("policy", "recorded", "experts_resident", "load_percent", "requests", "tokens_per_s",
        "end_to_end_s", "time_to_first_token_s", "longest_gap_s", "distinct_experts", "stall_s",
        "seconds", "hit_ratio", "floor_hit_ratio", "shadow_hit_ratio", "hits", "late", "misses",
        "wasted_bytes", "batching")


def simulate(args, trace, *flags):
    quick = ("--requests", "200") if args.quick and trace == "synthetic" else ()
    run = subprocess.run([args.pregate, "simulate", trace, "--json", *flags, *quick],
                         capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise SystemExit(run.stderr)
    report = json.loads(run.stdout)
    report["rows"] = [{key: row[key] for key in KEPT} for row in report["rows"]]
    return report


def numbers(values):
    return ",".join(str(value) for value in values)


def only(report, policy):
    return [row for row in report["rows"] if row["policy"] == policy and not row["recorded"]]


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def percents(values):
    return [f"{value:.1f}" for value in values]


def hit_table(reports):
    """Hit ratios: the paper's, other caches on the schedule of its algorithm, and ours."""
    rows = [[f"{name}, the paper", *percents(values)] for name, values in PAPER.items()]
    report = next(iter(reports.values()))
    rows.append(["the share that fits", *percents(100 * row["floor_hit_ratio"]
                                                  for row in only(report, "paper"))])
    for shadow in SHADOWS:
        rows.append([f"{shadow}, schedule of Algorithm 1", *percents(
            100 * row["shadow_hit_ratio"][shadow] for row in only(report, "paper"))])
    for name, report in reports.items():
        for policy in dict.fromkeys(row["policy"] for row in report["rows"]):
            rows.append([f"{policy}, {name}", *percents(100 * row["hit_ratio"]
                                                        for row in only(report, policy))])
    rows.append(["asked of auto, 170 ms, no prefetch", *percents(BARS)])
    return markdown(["hit ratio, %", *(f"{fit} of 7" for fit in FITS)], rows)


def auto_hits(report):
    return [100 * row["hit_ratio"] for row in only(report, "auto")]


def cache_table(reports):
    rows = []
    for name, report in reports.items():
        for row in report["rows"]:
            needed = row["hits"] + row["late"] + row["misses"]
            rows.append([row["policy"], name, str(row["experts_resident"]),
                         f"{row['tokens_per_s']:.0f}", f"{row['distinct_experts']:.2f}",
                         f"{100 * row['late'] / needed:.0f}",
                         f"{100 * row['stall_s'] / row['seconds']:.0f}",
                         f"{row['longest_gap_s']['p95']:.1f}",
                         f"{row['wasted_bytes'] / report['expert_bytes']:.0f}"])
    return markdown(["policy", "a load", "in memory", "tokens/s", "experts a step",
                     "on their way when needed, %", "stall, %", "longest gap p95, s",
                     "experts loaded in vain"], rows)


def changes(reports, load, policy, key, base="decode-first"):
    """End to end beside another policy, in percent, for each seed."""
    values = []
    for report in reports:
        here = {row["policy"]: row["end_to_end_s"][key] for row in report["rows"]
                if row["load_percent"] == load}
        values.append(100 * (here[policy] / here[base] - 1))
    return values


def missed_bars(capped, free):
    """What `auto` does worse than asked for where all experts are in memory."""
    missed = []
    for cap, loaded in (("with a cap", capped), ("without", free)):
        for name, reports in loaded.items():
            for load, key in ((load, key) for load in LOADS for key in ("mean", "p99")):
                change = statistics.mean(changes(reports, load, "auto", key))
                if change > WORSE:
                    missed.append(f"{name} at {load} % {cap}: {key} {change:+.1f} %")
    for name in (name for name, (_, _, flags) in MACHINES.items() if "--tied" not in flags):
        for key, bar in BETTER.items():
            change = max(statistics.mean(changes(capped[name], LOADS[-1], "auto", key, base))
                         for base in BASELINES)
            if change > -bar:
                missed.append(f"{name} at {LOADS[-1]} % with a cap: {key} {change:+.1f} %")
    return missed


def load_table(loaded):
    """`loaded`: for each machine a report for each seed."""
    rows = []
    for name, reports in loaded.items():
        for load in LOADS:
            for policy in dict.fromkeys(row["policy"] for row in reports[0]["rows"]):
                here = [row for report in reports for row in only(report, policy)
                        if row["load_percent"] == load]
                cells = []
                for key in ("mean", "p95", "p99"):
                    seconds = statistics.mean(row["end_to_end_s"][key] for row in here)
                    change = changes(reports, load, policy, key)
                    cells.append(f"{seconds:.1f} s" if policy == "decode-first" else
                                 f"{statistics.mean(change):+.1f} % ({max(change):+.1f})")
                rows.append([name, str(load), policy, *cells, *(
                    f"{statistics.mean(value(row) for row in here):.2f}" for value in (
                        lambda row: row["time_to_first_token_s"]["mean"],
                        lambda row: row["longest_gap_s"]["p95"],
                        lambda row: row["distinct_experts"]))])
    return markdown(["machine", "load, %", "policy", "mean", "p95", "p99", "first token, s",
                     "longest gap p95, s", "experts a step"], rows)


def trace_table(report):
    rows = []
    for row in report["rows"]:
        rows.append([("as recorded: " if row["recorded"] else "") + row["policy"],
                     f"{row['tokens_per_s']:.1f}", f"{row['end_to_end_s']['mean']:.2f}",
                     f"{row['end_to_end_s']['p95']:.2f}", f"{row['distinct_experts']:.2f}",
                     f"{100 * row['hit_ratio']:.1f}", str(row["hits"]), str(row["late"]),
                     str(row["misses"])])
    return markdown(["policy", "tokens/s", "mean, s", "p95, s", "experts a step", "hit ratio, %",
                     "hits", "late", "misses"], rows)


def draw(reports, loaded, path):
    figure, (hits, speed, latency) = plt.subplots(1, 3, figsize=(15, 4.5), constrained_layout=True)
    for name, values in PAPER.items():
        hits.plot(FITS, values, "--", marker="x", label=f"{name}, the paper")
    hits.plot(FITS, [100 * fit / EXPERTS for fit in FITS], ":", color="gray",
              label="the share that fits")
    for name, report in reports.items():
        hits.plot(FITS, [100 * row["hit_ratio"] for row in only(report, "auto")], marker="o",
                  label=f"auto, {name}")
    for policy in POLICIES:
        speed.plot(FITS, [row["tokens_per_s"] for row in only(reports["170 ms"], policy)],
                   marker="o", label=policy)
    speed.plot(FITS, [row["tokens_per_s"]
                      for row in only(reports["170 ms, no prefetch"], "auto")], marker="o",
               label="auto, no prefetch")
    for name in MACHINES:
        for policy, style in (("auto", "-"), ("on", ":")):
            latency.plot(LOADS, [statistics.mean(changes(loaded[name], load, policy, "p95"))
                                 for load in LOADS], style, marker="o", label=f"{name}, {policy}")
    hits.set(title="experts found in memory", xlabel="experts in memory, of 7", ylabel="%",
             xticks=FITS, ylim=(0, 100))
    speed.set(title="64 clients, 170 ms a load", xticks=FITS, ylim=(0, None),
              xlabel="experts in memory, of 7", ylabel="tokens/s")
    latency.set(title="all experts in memory, 32 of 96 a step", xticks=LOADS,
                xlabel="load, % of capacity", ylabel="end to end p95 beside decode-first, %")
    for panel in (hits, speed, latency):
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def run_cache(args):
    reports = {}
    for load_ms in (40, 170):
        for prefetch in (True, False):
            flags = () if prefetch else ("--no-expert-prefetch",)
            reports[f"{load_ms} ms" + ("" if prefetch else ", no prefetch")] = simulate(
                args, "synthetic", "--max-num-seqs", "64", "--max-num-step-seqs", "16",
                "--experts-resident", numbers(FITS), "--load-ms", str(load_ms), "--policies",
                numbers(POLICIES if prefetch else ("on", "auto")), *flags)
    return reports


def run_load(args, cap, seeds, policies):
    """For each machine a report for each seed."""
    def run(name, seed):
        _, costs, flags = MACHINES[name]
        step, row, expert = map(str, costs)
        return simulate(args, "synthetic", "--max-num-seqs", "96", "--max-num-step-seqs", str(cap),
                        "--load", numbers(LOADS), "--requests", "6000", "--seed", str(seed),
                        "--step-ms", step, "--row-ms", row, "--expert-ms", expert, *flags,
                        "--policies", numbers(policies))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {name: [pool.submit(run, name, seed) for seed in seeds] for name in MACHINES}
        return {name: [future.result() for future in futures] for name, futures in runs.items()}


def arguments(doc):
    """Command line of a script about virtual time; `doc` is its docstring."""
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pregate", default=ROOT / "build/release/pregate")
    parser.add_argument("--quick", action="store_true", help="try it out; keeps no result")
    return parser


def keep(name, lines, data):
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def main():
    parser = arguments(__doc__)
    parser.add_argument("--trace", help="a file of `pregate serve --record-trace`")
    parser.add_argument("--only-cache", action="store_true", help="the rest as it was")
    args = parser.parse_args()

    reports = run_cache(args)
    if args.only_cache:
        before = json.loads((RESULTS / "simulate.json").read_text(encoding="utf-8"))
        capped, free = before["capped"], before["free"]
    else:
        capped = run_load(args, 32, SEEDS, (*BASELINES, "paper", "on", "auto"))
        free = run_load(args, 0, SEEDS[:1], ("decode-first", "on", "auto"))
    missed = missed_bars(capped, free)
    lines = ["# Policies of experts in virtual time", "",
             "`load_tests/figures/simulate.py`. The scheduler that serves, before machines that "
             "are formulas. A step takes (ms):", "",
             *markdown(["machine", "", "any step", "a row", "an expert's worth of weights"],
                       [[name, what, *map(str, costs)]
                        for name, (what, costs, _) in MACHINES.items()]), "",
             "## Experts that do not fit: machine L, 64 clients, 16 sequences a step", "",
             *hit_table(reports), "", *cache_table(reports), "",
             "A hit is in memory when the step is planned; an expert that is on its way then counts "
             "as a miss. Prefetching puts an expert on its way before it is needed, and often not "
             "long before: fewer hits, more tokens/s. So there are two hit ratios of a policy, and "
             "the one without prefetch is what its order of steps is worth.", "",
             "## All experts resident: 96 sequences, 32 a step, open loop", "",
             "6,000 requests; capacity is what decode-first serves in a closed loop. End to end "
             f"beside decode-first: the mean over {len(SEEDS)} seeds (the worst of them). `off` is "
             "decode-first here: answers are older than prompts.", "", *load_table(capped), "",
             "## The same without a cap, one seed", "", *load_table(free), "",
             f"Asked of `auto`, means over seeds: nowhere a mean or p99 more than {WORSE} % worse "
             f"than decode-first; at {LOADS[-1]} % with a cap, where experts are copies, "
             + " and ".join(f"a {key} {bar:g} %" for key, bar in BETTER.items()) +
             " better than both baselines" +
             (f". **Missed**: {'; '.join(missed)}." if missed else ": met.")]
    data = {"cache": reports, "capped": capped, "free": free}
    if args.trace:
        data["trace"] = simulate(args, args.trace)
        lines += ["", "## A recorded trace", "", *trace_table(data["trace"])]
    print("\n".join(lines))
    if not args.quick:
        keep("simulate", lines, data)
        draw(reports, capped, RESULTS / "simulate.png")
    hits = auto_hits(reports["170 ms, no prefetch"])
    return bool(missed) or any(round(hit, 1) < bar for hit, bar in zip(hits, BARS))


if __name__ == "__main__":
    sys.exit(main())
