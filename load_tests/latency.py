#!/usr/bin/env python3
"""What clients see at growing load: latencies of open loops at shares of the peak throughput.

Usage: load_tests/latency.py [--shares 0.25 0.5 0.8] [--duration 30]

Starts `pregate serve`, finds its peak with a closed loop, then sends Poisson arrivals at the given
shares of that peak, and bursts at the middle one. Writes load_tests/results/latency.{md,json,png};
the picture needs matplotlib (in build/venv, if that is there). About three minutes.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import lab

PEAK_CLIENTS, PEAK_REQUESTS = 16, 64
BURSTINESS = 3
LENGTHS = ("--prompt-tokens", "32:128", "--max-tokens", "32:64")


def measure(args, address):
    """Returns the peak, in requests a second, and one result for each open loop."""
    peak = lab.run_loadgen(args.loadgen, address, "--concurrency", str(PEAK_CLIENTS), "--requests",
                           str(PEAK_REQUESTS), *LENGTHS, "--seed", "1000")
    peak_rate = peak["summary"]["requests_per_s"]
    middle = args.shares[len(args.shares) // 2]
    results = []
    loads = [(share, 1) for share in args.shares] + [(middle, BURSTINESS)]
    for seed, (share, burstiness) in enumerate(loads):
        label = f"{'Poisson' if burstiness == 1 else 'bursts'}, {100 * share:.0f} % of the peak"
        print(label, file=sys.stderr)
        results.append(lab.run_loadgen(
            args.loadgen, address, "--rate", f"{share * peak_rate:.4f}", "--burstiness",
            str(burstiness), "--duration", str(args.duration), "--label", label, "--seed",
            str(seed), *LENGTHS))
    return peak_rate, results


def table(about, model, peak_rate, results):
    limits = results[0]["settings"]
    lines = [
        "# What clients see at growing load", "",
        f"{lab.machine_line(about)}. {model}, prompts of 32 to 128 random tokens, answers of 32 to "
        f"64; server and generator share the threads. Peak, by a closed loop of {PEAK_CLIENTS} "
        f"clients: {peak_rate:.2f} requests/s. Latencies count from the intended send time; "
        f"goodput: first token within {limits['ttft_limit_ms']:.0f} ms and a mean gap of at most "
        f"{limits['itl_limit_ms']:.0f} ms.", "",
        "| arrivals | requests (OK) | goodput, 1/s | to first token, ms: p50 / p90 / p99 | between "
        "tokens, ms: p50 / p99 | generator's lag, ms: p99 |",
        "| --- | --- | --- | --- | --- | --- |"]
    for result in results:
        summary = result["summary"]
        first, gap, lag = (summary[key] for key in
                           ("time_to_first_token_s", "inter_token_s", "generator_lag_s"))
        cells = (f"{result['settings']['label']}, {result['settings']['rate']:.2f}/s",
                 f"{summary['requests']} ({summary['statuses'].get('OK', 0)})",
                 f"{summary['goodput_per_s']:.2f}",
                 " / ".join(f"{1e3 * first[p]:.0f}" for p in ("p50", "p90", "p99")),
                 " / ".join(f"{1e3 * gap[p]:.0f}" for p in ("p50", "p99")),
                 f"{1e3 * lag['p99']:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(path, results):
    venv = lab.ROOT / "build/venv/bin/python"
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for number, result in enumerate(results):
            names.append(pathlib.Path(folder) / f"{number}.json")
            names[-1].write_text(json.dumps(result), encoding="utf-8")
        subprocess.run([venv if venv.exists() else sys.executable,
                        lab.ROOT / "load_tests/plot.py", path, *names], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 0.8])
    parser.add_argument("--duration", type=float, default=30)
    lab.add_server_flags(parser)
    args = parser.parse_args()
    model = args.model or lab.fetch_model("smollm2")
    watch = lab.require_quiet(args.busy)
    with lab.serving(args.pregate, model) as address:
        peak_rate, results = measure(args, address)
    about = lab.machine(watch)
    name = pathlib.Path(model).name
    kept = lab.report("latency", table(about, name, peak_rate, results),
                      {"machine": about, "model": name, "peak_requests_per_s": peak_rate,
                       "runs": [{key: r[key] for key in ("settings", "summary")}
                                for r in results]})
    if kept:
        draw(lab.RESULTS / "latency.png", results)


if __name__ == "__main__":
    main()
