#!/usr/bin/env python3
"""Writes the dashboards into the chart: deploy/dashboards/generate.py [FOLDER]

Needs grafana-foundation-sdk (tests/requirements.txt): build/venv/bin/python has it.
"""

import json
import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder

import experts
import overview
import scheduler

CHART = pathlib.Path(__file__).resolve().parent.parent / "chart/pregate/dashboards"
BOARDS = {"overview": overview, "experts": experts, "scheduler": scheduler}


def content(module):
    """The JSON of a dashboard."""
    board = json.loads(JSONEncoder().encode(module.build()))
    # What Prometheus' annotations say; the SDK has no words for it.
    for annotation in board["annotations"]["list"]:
        annotation.update(titleFormat="{{alertname}}", textFormat="{{model}} {{pod}}")
    return json.dumps(board, sort_keys=True, indent=2) + "\n"


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else CHART
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in BOARDS.items():
        (folder / f"{name}.json").write_text(content(module), encoding="utf-8")


if __name__ == "__main__":
    main()
