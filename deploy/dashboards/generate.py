#!/usr/bin/env python3
"""Writes the dashboards into the chart: deploy/dashboards/generate.py [FOLDER]

Needs grafana-foundation-sdk (tests/requirements.txt): build/venv/bin/python has it.
"""

import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder

import experts
import overview
import scheduler

CHART = pathlib.Path(__file__).resolve().parent.parent / "chart/pregate/dashboards"
BOARDS = {"overview": overview, "experts": experts, "scheduler": scheduler}


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else CHART
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in BOARDS.items():
        text = JSONEncoder(sort_keys=True, indent=2).encode(module.build())
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
