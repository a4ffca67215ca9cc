#!/usr/bin/env python3
"""The policies of experts in virtual time, in the setting of the Read-ME paper.

Usage: load_tests/figures/simulate.py [--pregate build/release/pregate] [--trace FILE] [--quick]

Runs `pregate simulate`: 7 experts that are copies, 64 clients, 16 sequences a step, 2 to 5 experts
in memory, 40 and 170 ms to load one; then all experts resident, 96 sequences of which 32 a step, at
50 to 98 % of capacity. Prints the hit ratios beside the paper's (arXiv 2410.19123, table 4) and the
throughputs and latencies, and writes load_tests/results/figures/simulate.{md,json,png}. It computes
and measures nothing, so any machine gives the same figures (1 min). --trace FILE, one of `pregate
serve --record-trace`, adds what its server did and what the other policies would have done.
"""

import argparse
import json
import pathlib
import subprocess

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend must be chosen first)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "load_tests/results/figures"
FITS = (2, 3, 4, 5)
LOADS = (50, 70, 90, 98)
# Hit ratios in percent with 2, 3, 4 and 5 of 7 experts in memory.
PAPER = {"random": (34.19, 50.14, 67.52, 82.91), "lru": (33.90, 52.42, 66.95, 83.48),
         "belady_offline": (44.16, 61.82, 77.21, 88.03)}
SHADOWS = ("random", "lru", "lfu", "static", "belady_offline")
POLICIES = ("off", "paper", "on", "auto")
BASELINES = ("decode-first", "prefill-first")


def simulate(args, trace, *flags):
    quick = ("--requests", "200") if args.quick and trace == "synthetic" else ()
    run = subprocess.run([args.pregate, "simulate", trace, "--json", *flags, *quick],
                         capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout)


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
    report = reports[0][1]
    rows.append(["the share that fits", *percents(100 * row["floor_hit_ratio"]
                                                  for row in only(report, "paper"))])
    for shadow in SHADOWS:
        rows.append([f"{shadow}, schedule of Algorithm 1", *percents(
            100 * row["shadow_hit_ratio"][shadow] for row in only(report, "paper"))])
    for load_ms, report in reports:
        for policy in POLICIES:
            rows.append([f"{policy}, {load_ms} ms", *percents(100 * row["hit_ratio"]
                                                              for row in only(report, policy))])
    return markdown(["hit ratio, %", *(f"{fit} of 7" for fit in FITS)], rows)


def cache_table(reports):
    rows = []
    for load_ms, report in reports:
        for row in report["rows"]:
            rows.append([row["policy"], str(load_ms), str(row["experts_resident"]),
                         f"{row['tokens_per_s']:.0f}", f"{row['distinct_experts']:.2f}",
                         f"{100 * row['stall_s'] / row['seconds']:.0f}",
                         f"{row['longest_gap_s']['p95']:.1f}",
                         f"{row['wasted_bytes'] / report['expert_bytes']:.0f}"])
    return markdown(["policy", "ms to load an expert", "in memory", "tokens/s", "experts a step",
                     "stall, %", "longest gap p95, s", "experts loaded in vain"], rows)


def load_table(report):
    rows = []
    for load in LOADS:
        here = [row for row in report["rows"] if row["load_percent"] == load]
        base = next(row for row in here if row["policy"] == "decode-first")["end_to_end_s"]
        for row in here:
            latency = row["end_to_end_s"]
            rows.append([str(load), row["policy"],
                         *(f"{latency[key]:.1f} ({100 * (latency[key] / base[key] - 1):+.1f} %)"
                           for key in ("mean", "p95", "p99")),
                         f"{row['time_to_first_token_s']['mean']:.2f}",
                         f"{row['longest_gap_s']['p95']:.2f}", f"{row['distinct_experts']:.2f}"])
    return markdown(["load, %", "policy", "mean, s", "p95, s", "p99, s", "first token, s",
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
    hits.plot(FITS, [100 * fit / 7 for fit in FITS], ":", color="gray", label="the share that fits")
    for load_ms, report in reports:
        rows = only(report, "auto")
        hits.plot(FITS, [100 * row["hit_ratio"] for row in rows], marker="o",
                  label=f"auto, {load_ms} ms a load")
    for policy in POLICIES:
        speed.plot(FITS, [row["tokens_per_s"] for row in only(reports[-1][1], policy)], marker="o",
                   label=policy)
    for policy in (*BASELINES, *POLICIES):
        beside = zip(only(loaded, policy), only(loaded, "decode-first"))
        latency.plot(LOADS, [100 * (row["end_to_end_s"]["p95"] / base["end_to_end_s"]["p95"] - 1)
                             for row, base in beside], marker="o", label=policy)
    hits.set(title="experts found in memory", xlabel="experts in memory, of 7", ylabel="%",
             xticks=FITS, ylim=(0, 100))
    speed.set(title=f"64 clients, {reports[-1][0]} ms a load", xticks=FITS, ylim=(0, None),
              xlabel="experts in memory, of 7", ylabel="tokens/s")
    latency.set(title="all experts in memory, 32 of 96 a step", xticks=LOADS,
                xlabel="load, % of capacity", ylabel="end to end p95 beside decode-first, %")
    for panel in (hits, speed, latency):
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pregate", default=ROOT / "build/release/pregate")
    parser.add_argument("--trace", help="a file of `pregate serve --record-trace`")
    parser.add_argument("--quick", action="store_true", help="try it out; keeps no result")
    args = parser.parse_args()

    reports = [(load_ms, simulate(args, "synthetic", "--max-num-seqs", "64", "--max-num-step-seqs",
                                  "16", "--experts-resident", numbers(FITS), "--load-ms",
                                  str(load_ms), "--policies", numbers(POLICIES)))
               for load_ms in (40, 170)]
    loaded = simulate(args, "synthetic", "--max-num-seqs", "96", "--max-num-step-seqs", "32",
                      "--load", numbers(LOADS), "--requests", "6000", "--policies",
                      numbers((*BASELINES, *POLICIES)))
    machine = loaded["machine"]
    lines = ["# Policies of experts in virtual time", "",
             "`load_tests/figures/simulate.py`. The scheduler that serves, before a machine that "
             f"is a formula: a step takes {machine['step_ms']:g} ms, {machine['row_ms']:g} ms a "
             f"row, {machine['expert_ms']:g} ms an expert (fitted to the paper's A100).", "",
             "## Experts that do not fit: 64 clients, 16 sequences a step", "", *hit_table(reports),
             "", *cache_table(reports), "",
             "## All experts resident: 96 sequences, 32 a step, open loop", "",
             "Beside decode-first at the same load.", "", *load_table(loaded)]
    data = {"cache": dict(reports), "load": loaded}
    if args.trace:
        data["trace"] = simulate(args, args.trace)
        lines += ["", "## A recorded trace", "", *trace_table(data["trace"])]
    print("\n".join(lines))
    if args.quick:
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "simulate.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (RESULTS / "simulate.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    draw(reports, loaded, RESULTS / "simulate.png")


if __name__ == "__main__":
    main()
