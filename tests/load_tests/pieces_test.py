#!/usr/bin/env python3
"""Figures that are measured in pieces: what a run takes, keeps, and leaves to the next."""

import argparse
import contextlib
import io
import json
import math
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "load_tests"))
import lab  # noqa: E402


class PiecesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name) / "pieces.json"
        self.others = 0.0
        self.measured = []
        self.enterContext(mock.patch.object(lab.OthersWatch, "share", lambda watch: self.others))
        self.enterContext(contextlib.redirect_stderr(io.StringIO()))

    def run_once(self, names, limit=math.inf, busy=False, file=True, settings=None):
        """Points of these names, or the status with which the run has left."""
        def measure(name):
            self.measured.append(name)
            return {"name": name}
        try:
            pieces = lab.Pieces(self.file if file else None, limit, settings or {"clients": 4},
                                busy)
            return [pieces.point(name, lambda name=name: measure(name))["name"] for name in names]
        except SystemExit as left:
            return left.code

    def test_one_run_takes_all_without_a_limit(self):
        self.assertEqual(self.run_once(["a", "b"]), ["a", "b"])
        self.assertEqual(self.measured, ["a", "b"])
        self.assertEqual(self.run_once(["a", "b", "c"]), ["a", "b", "c"])
        self.assertEqual(self.measured, ["a", "b", "c"])

    def test_a_limit_leaves_the_rest_to_the_next_run(self):
        for taken in (1, 2):
            self.assertEqual(self.run_once(["a", "b", "c"], limit=0), lab.Pieces.UNFINISHED)
            self.assertEqual(len(self.measured), taken)
        self.assertEqual(self.run_once(["a", "b", "c"], limit=0), ["a", "b", "c"])
        self.assertEqual(self.measured, ["a", "b", "c"])

    def test_what_others_have_disturbed_is_measured_again(self):
        self.others = 2 * lab.BUSY_LIMIT
        self.assertEqual(self.run_once(["a"], limit=0), lab.Pieces.UNFINISHED)
        self.assertFalse(self.file.exists())
        self.others = lab.BUSY_LIMIT / 2
        self.assertEqual(self.run_once(["a"], limit=0), ["a"])
        self.assertEqual(self.measured, ["a", "a"])
        points = json.loads(self.file.read_text(encoding="utf-8"))["points"]
        self.assertEqual(points["a"]["share_of_others"], lab.BUSY_LIMIT / 2)

    def test_a_busy_machine_will_do_for_trying_out_and_without_a_file(self):
        self.others = 2 * lab.BUSY_LIMIT
        self.assertEqual(self.run_once(["a"], busy=True), ["a"])
        self.assertEqual(self.run_once(["b"], file=False), ["b"])

    def test_other_settings_are_another_figure(self):
        self.run_once(["a"])
        self.assertIn("other settings", self.run_once(["b"], settings={"clients": 5}))

    def test_flags(self):
        parser = argparse.ArgumentParser()
        lab.Pieces.add_flags(parser)
        self.assertEqual(vars(parser.parse_args([])), {"pieces": None, "limit": math.inf})
        args = parser.parse_args(["--pieces", "p.json", "--limit", "45"])
        self.assertEqual((args.pieces, args.limit), (pathlib.Path("p.json"), 45))


if __name__ == "__main__":
    unittest.main()
