#!/usr/bin/env python3
"""Draws a dashboard as Grafana would lay it out, with what a Prometheus has of it.

Panels, places and expressions are read from the chart's JSON, so that the picture shows what is
shipped. Usage: picture.py http://PROMETHEUS OUT.png --start UNIX --end UNIX [--board overview]
"""

import argparse
import io
import json
import math
import pathlib
import re
import urllib.parse
import urllib.request

import matplotlib
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter
from PIL import Image

BOARDS = pathlib.Path(__file__).resolve().parent.parent / "chart/pregate/dashboards"
CHOSEN = {"namespace": ".*", "job": ".*", "model": ".*", "pod": ".*", "__rate_interval": "15s"}
POINTS = 200
DARK = {"figure.facecolor": "#111217", "axes.facecolor": "#181b1f", "axes.edgecolor": "#2c3235",
        "axes.labelcolor": "#ccccdc", "text.color": "#ccccdc", "xtick.color": "#9a9aa8",
        "ytick.color": "#9a9aa8", "grid.color": "#2c3235", "font.size": 7}
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#fade2a",
           "#37872d", "#c4162a"]
TILES = {"green": "#1f6f34", "orange": "#b8610b", "red": "#a8192b"}


def query_range(url, expression, start, end):
    """[(labels, minutes since the start, values)] of an expression."""
    for name, value in CHOSEN.items():
        expression = expression.replace(f"${name}", value)
    query = urllib.parse.urlencode({"query": expression, "start": start, "end": end,
                                    "step": max(1, (end - start) / POINTS)})
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{query}", timeout=60) as reply:
        result = json.load(reply)["data"]["result"]
    series = []
    for one in result:
        times, values = zip(*(((float(t) - start) / 60, float(v)) for t, v in one["values"]))
        series.append((one["metric"], times, values))
    return series


def shown(value, unit):
    """A value as Grafana would write it."""
    if not math.isfinite(value):
        return "–"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        for limit, size, name in ((1e-3, 1e-6, "µs"), (1, 1e-3, "ms"), (120, 1, "s"),
                                  (7200, 60, "min"), (172800, 3600, "h")):
            if abs(value) < limit:
                return f"{value / size:.3g} {name}"
        return f"{value / 86400:.3g} d"
    if unit in ("bytes", "Bps"):
        power = min(3, int(math.log(abs(value), 1024))) if abs(value) >= 1 else 0
        name = ("B", "KiB", "MiB", "GiB")[power] + ("/s" if unit == "Bps" else "")
        return f"{value / 1024 ** power:.3g} {name}"
    suffix = {"reqps": " req/s", "none": ""}.get(unit, unit.removeprefix("suffix:"))
    return f"{value:.3g}{suffix}"


def draw_number(axes, panel, series):
    """A stat panel: its last value on the colour that it has reached."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    values = [value for _, _, values in series for value in values if math.isfinite(value)]
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    colour = "#181b1f"
    if panel["options"]["colorMode"] == "background" and values:
        colour = TILES[[step["color"] for step in steps
                        if step["value"] is None or values[-1] >= step["value"]][-1]]
    axes.set_facecolor(colour)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.42, shown(values[-1], unit) if values else "–", ha="center", va="center",
              fontsize=15, color="white", transform=axes.transAxes)


def draw_graph(axes, panel, labelled):
    """A time series panel. `labelled`: [(label, times, values)]."""
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal"
    below = {}  # by time, of a stack
    for number, (label, times, values) in enumerate(labelled):
        colour = COLOURS[number % len(COLOURS)]
        if not stacked:
            axes.plot(times, values, color=colour, linewidth=1, label=label)
            continue
        # A stage without a value has taken no time; without any there is nothing to show.
        added = [value if math.isfinite(value) else 0 for value in values]
        low = [below.get(time, 0) for time in times]
        high = [a + b for a, b in zip(low, added)]
        below.update(zip(times, high))
        axes.fill_between(times, low, high, color=colour, alpha=0.75, linewidth=0, label=label)
    axes.set_ylim(bottom=0, top=defaults.get("max"))
    axes.margins(x=0)
    axes.grid(True, linewidth=0.5)
    unit = defaults["unit"]
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g} min"))
    axes.locator_params(axis="x", nbins=6)
    axes.locator_params(axis="y", nbins=4)
    if labelled:
        axes.legend(fontsize=5.5, loc="upper left", framealpha=0.35, handlelength=1,
                    ncols=1 + (len(labelled) > 3))


def draw(board, url, start, end):
    """The figure of a dashboard."""
    matplotlib.rcParams.update(DARK)
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = pyplot.figure(figsize=(13, 0.3 * height))
    for panel in board["panels"]:
        at = panel["gridPos"]
        box = [at["x"] / 24, 1 - (at["y"] + at["h"]) / height, at["w"] / 24, at["h"] / height]
        if panel["type"] == "row":
            figure.text(0.008, box[1] + box[3] / 2, panel["title"], fontsize=9, va="center",
                        weight="bold")
            continue
        is_number = panel["type"] == "stat"
        left, right, low, top = (0.004, 0.004, 0.1, 0.1) if is_number else (0.042, 0.01, 0.13, 0.13)
        axes = figure.add_axes([box[0] + left, box[1] + low * box[3], box[2] - left - right,
                                box[3] * (1 - low - top)])
        axes.set_title(panel["title"], fontsize=7.5, loc="left", pad=-8 if is_number else 3, x=0.02)
        labelled = []
        for target in panel["targets"]:
            for labels, times, values in query_range(url, target["expr"], start, end):
                label = re.sub(r"\{\{(\w+)\}\}", lambda found, labels=labels: labels.get(
                    found.group(1), ""), target["legendFormat"])
                labelled.append((label, times, values))
        (draw_number if is_number else draw_graph)(axes, panel, labelled)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prometheus")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--start", type=float, required=True)
    parser.add_argument("--end", type=float, required=True)
    parser.add_argument("--board", default="overview")
    options = parser.parse_args()
    board = json.loads((BOARDS / f"{options.board}.json").read_text(encoding="utf-8"))
    figure = draw(board, options.prometheus, options.start, options.end)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=96, format="png")
    # Few colours: a third of the bytes.
    Image.open(drawn).convert("RGB").quantize(64).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
