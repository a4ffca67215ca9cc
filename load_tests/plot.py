#!/usr/bin/env python3
"""Draws the picture of one or several load runs.

Usage: load_tests/plot.py OUT.png RUN.json [RUN.json ...]
"""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend must be chosen first)


def to_first_token(request):
    return request["first_token_s"] - request["intended_s"]


def between_tokens(request):
    """The mean gap of one answer; of one token: nothing to wait for."""
    gaps = max(1, request["output_tokens"] - 1)
    return (request["last_token_s"] - request["first_token_s"]) / gaps


LATENCIES = (
    ("time to first token", "ms from the intended send time", to_first_token),
    ("between tokens, mean of each answer", "ms", between_tokens),
)


def cumulative(axes, values, label):
    """Draws the share of requests that took at most x milliseconds."""
    values = sorted(1e3 * v for v in values)
    shares = [(i + 1) / len(values) for i in range(len(values))]
    axes.step(values, shares, where="post", label=label)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), constrained_layout=True)
    for name in sys.argv[2:]:
        run = json.loads(pathlib.Path(name).read_text(encoding="utf-8"))
        label = run["settings"].get("label") or pathlib.Path(name).stem
        done = [r for r in run["requests"] if r["status"] == "OK" and r["first_token_s"] >= 0]
        if not done:
            sys.exit(f"{name}: no request ended well")
        if len(done) < len(run["requests"]):
            label += f" ({len(done)} of {len(run['requests'])} answered)"
        for panel, (title, unit, latency) in zip(axes, LATENCIES):
            cumulative(panel, [latency(r) for r in done], label)
            panel.set(title=title, xlabel=unit, ylabel="share of the requests", ylim=(0, 1))
        axes[2].scatter([r["intended_s"] for r in done], [1e3 * to_first_token(r) for r in done],
                        s=6, label=label)
    axes[0].set_xscale("log")
    axes[2].set(title="time to first token over the run", xlabel="intended send time, s",
                ylabel="ms", yscale="log")
    for panel in axes:
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
