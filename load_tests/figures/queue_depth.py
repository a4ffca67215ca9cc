#!/usr/bin/env python3
"""What knowing the experts of everybody who waits is worth, by how many wait; in virtual time.

Usage: load_tests/figures/queue_depth.py [--pregate build/release/pregate] [--quick]

Runs `pregate simulate` with 1 to 256 clients in a closed loop, at most 16 sequences a step, so that
all above 16 are a queue whose experts the scheduler knows; 2, 4 and all of 7 experts in memory, 170
ms to load one, steps of the Read-ME paper's machine. Prints throughput, experts a step and hit
ratio of every policy beside the share that fits, and writes
load_tests/results/figures/queue_depth.{md,json,png}. It measures nothing, so any machine gives the
same figures (2 min).
"""

import argparse
import concurrent.futures
import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend must be chosen first)

import simulate  # noqa: E402

DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FITS = (2, 4, 7)
POLICIES = ("off", "on", "auto")
STEP_SEQUENCES = 16


def run(args, depth):
    return simulate.simulate(
        args, "synthetic", "--max-num-seqs", str(depth), "--max-num-step-seqs", str(STEP_SEQUENCES),
        "--clients", str(depth), "--requests", str(max(200, 10 * depth)), "--experts-resident",
        simulate.numbers(FITS), "--load-ms", "170", "--policies", simulate.numbers(POLICIES))


def row_of(reports, depth, fit, policy):
    return next(row for row in simulate.only(reports[depth], policy)
                if row["experts_resident"] == fit)


def table(reports):
    rows = []
    for fit in FITS:
        for depth in DEPTHS:
            off = row_of(reports, depth, fit, "off")
            for policy in POLICIES:
                row = row_of(reports, depth, fit, policy)
                needed = row["hits"] + row["late"] + row["misses"]
                rows.append([str(fit), str(depth), policy, f"{row['tokens_per_s']:.1f}",
                             f"{row['tokens_per_s'] / off['tokens_per_s']:.2f}",
                             f"{row['distinct_experts']:.2f}", f"{100 * row['hit_ratio']:.0f}",
                             f"{100 * row['late'] / max(needed, 1):.0f}",
                             f"{100 * fit / simulate.EXPERTS:.0f}"])
    return simulate.markdown(["in memory, of 7", "clients", "policy", "tokens/s", "÷ off",
                              "experts a step", "hit ratio, %", "on their way when needed, %",
                              "the share that fits, %"], rows)


def draw(reports, path):
    figure, (speed, experts, hits) = plt.subplots(1, 3, figsize=(15, 4.5), constrained_layout=True)
    for fit in FITS:
        for policy, style in (("auto", "-"), ("off", ":")):
            rows = [row_of(reports, depth, fit, policy) for depth in DEPTHS]
            label = f"{policy}, {fit} in memory"
            experts.plot(DEPTHS, [row["distinct_experts"] for row in rows], style, marker="o",
                         label=label)
            if fit < simulate.EXPERTS:
                hits.plot(DEPTHS, [100 * row["hit_ratio"] for row in rows], style, marker="o",
                          label=label)
        off = [row_of(reports, depth, fit, "off")["tokens_per_s"] for depth in DEPTHS]
        for policy, style in (("auto", "-"), ("on", ":")):
            speed.plot(DEPTHS, [row_of(reports, depth, fit, policy)["tokens_per_s"] / base
                                for depth, base in zip(DEPTHS, off)], style, marker="o",
                       label=f"{policy}, {fit} in memory")
    for fit in FITS[:-1]:
        hits.axhline(100 * fit / simulate.EXPERTS, color="gray", linestyle="--", linewidth=1)
    speed.set(title="throughput", ylabel="tokens/s, ÷ off")
    experts.set(title="experts a step", ylim=(0, simulate.EXPERTS))
    hits.set(title="experts found in memory (dashed: the share that fits)", ylabel="%",
             ylim=(0, 100))
    for panel in (speed, experts, hits):
        panel.set_xscale("log", base=2)
        panel.set(xlabel=f"clients, of which {STEP_SEQUENCES} a step", xticks=DEPTHS,
                  xticklabels=DEPTHS)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    args = simulate.arguments(__doc__).parse_args()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        reports = dict(zip(DEPTHS, pool.map(lambda depth: run(args, depth), DEPTHS)))
    lines = ["# The worth of a queue whose experts are known", "",
             "`load_tests/figures/queue_depth.py`, in virtual time: clients in a closed loop, at "
             f"most {STEP_SEQUENCES} sequences a step, steps of the paper's machine (31 ms, 0.03 a "
             "row, 2.5 an expert), 170 ms to load an expert.", "", *table(reports)]
    print("\n".join(lines))
    if not args.quick:
        simulate.keep("queue_depth", lines, reports)
        draw(reports, simulate.RESULTS / "queue_depth.png")


if __name__ == "__main__":
    main()
