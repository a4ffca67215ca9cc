"""The dashboards as committed: current, whole, and agreeing with the rules. No server is needed."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import yaml

import helm_chart

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BOARDS = ROOT / "deploy/chart/pregate/dashboards"
GENERATOR = ROOT / "deploy/dashboards/generate.py"
RECORDING = ROOT / "deploy/chart/pregate/rules/recording.yaml"
NAMES = ("overview", "experts", "scheduler")
VARIABLES = ["datasource", "namespace", "job", "model", "pod"]


def board(name):
    return json.loads((BOARDS / f"{name}.json").read_text(encoding="utf-8"))


def panels(name):
    return [panel for panel in board(name)["panels"] if panel["type"] != "row"]


class DashboardsTest(unittest.TestCase):

    def test_the_committed_files_are_what_is_generated(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, GENERATOR, folder], check=True, timeout=60)
            made = {path.name: path.read_text(encoding="utf-8")
                    for path in pathlib.Path(folder).iterdir()}
        committed = {path.name: path.read_text(encoding="utf-8") for path in BOARDS.iterdir()}
        self.assertEqual(made, committed, "run build/venv/bin/python deploy/dashboards/generate.py")
        self.assertEqual(sorted(made), sorted(f"{name}.json" for name in NAMES))

    def test_the_chart_ships_them_unchanged(self):
        shipped = {}
        for one in helm_chart.of_kind(helm_chart.render({"dashboards": {"enabled": True}}),
                                      "ConfigMap"):
            shipped.update(one["data"])
        for name in NAMES:
            self.assertEqual(json.loads(shipped[f"{name}.json"]), board(name))

    def test_every_panel_says_what_it_shows_and_in_what_unit(self):
        for name in NAMES:
            titles = [panel["title"] for panel in panels(name)]
            self.assertEqual(len(titles), len(set(titles)), f"{name}: titles are not unique")
            for panel in panels(name):
                with self.subTest(board=name, panel=panel["title"]):
                    self.assertGreater(len(panel["description"]), 10)
                    self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                    self.assertTrue(panel["targets"])
                    for target in panel["targets"]:
                        self.assertTrue(target["legendFormat"])
                        self.assertEqual(target["datasource"]["uid"], "${datasource}")

    def test_panels_fill_the_grid_and_do_not_overlap(self):
        for name in NAMES:
            taken = set()
            for panel in board(name)["panels"]:
                at = panel["gridPos"]
                cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                         for y in range(at["y"], at["y"] + at["h"])}
                self.assertFalse(cells & taken, f"{name}: {panel['title']}")
                self.assertLessEqual(at["x"] + at["w"], 24, f"{name}: {panel['title']}")
                taken |= cells
            height = 1 + max(y for _, y in taken)
            self.assertEqual(len(taken), 24 * height, f"{name}: there are holes")

    def test_everybody_can_choose_and_go_from_one_to_the_next(self):
        for name in NAMES:
            content = board(name)
            chosen = [variable["name"] for variable in content["templating"]["list"]]
            self.assertEqual(chosen, VARIABLES)
            self.assertEqual(content["uid"], f"pregate-{name}")
            self.assertEqual(content["links"][0]["tags"], ["pregate"])
            self.assertIn("pregate", content["tags"])

    def test_red_begins_at_the_objectives_of_the_rules(self):
        groups = yaml.safe_load(RECORDING.read_text(encoding="utf-8"))["groups"]
        objective = {rule["record"]: re.search(r'le="([0-9.]+)"', rule["expr"])
                     for group in groups for rule in group["rules"]}
        for title, record in (("First token, p99", "pregate:first_token_good:rate5m"),
                              ("Token to token, p99", "pregate:token_gap_good:rate5m")):
            panel, = [panel for panel in panels("overview") if panel["title"] == title]
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            self.assertEqual(steps[-1], {"color": "red", "value": float(objective[record].group(1))})


if __name__ == "__main__":
    unittest.main()
