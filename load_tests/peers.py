"""What the comparisons with other programs share: a ratio to the best of them, and its bar."""

import os
import pathlib
import re
import statistics
import subprocess

import lab


class Row:
    """One thing that is measured of all programs in every round.

    The ratio of a round is ours over the best peer of that same round, whichever that is, so that
    noise can only speak for the peers; the median over the rounds is what counts. A peer that does
    not run brings no value. Programs whose names begin with "pregate" are ours: "pregate" is the
    one that has to meet the bar.
    """

    def __init__(self, name, bar, *, higher_is_better=True, scale=1.0, form="{:.1f}"):
        self.name, self.bar, self.higher_is_better = name, bar, higher_is_better
        self.scale, self.form = scale, form
        self.rounds = []  # {program: value}
        self.roof = []  # our share of the machine's limit, where there is one
        self.roof_bar = None  # a share that is enough, whatever the ratio

    def add(self, values, share_of_roof=None):
        """Takes a round's values, {"pregate": ..., PEER: ... or None}."""
        self.rounds.append(values)
        if share_of_roof is not None:
            self.roof.append(share_of_roof)

    def values(self, program):
        return [r[program] for r in self.rounds if r.get(program) is not None]

    def ratios(self, ours="pregate"):
        best = max if self.higher_is_better else min
        return [r[ours] / best(value for name, value in r.items()
                               if not name.startswith("pregate") and value is not None)
                for r in self.rounds]

    def met(self):
        ratio = statistics.median(self.ratios())
        enough = ratio >= self.bar if self.higher_is_better else ratio <= self.bar
        near_roof = (self.roof_bar is not None and self.roof and
                     statistics.median(self.roof) >= self.roof_bar)
        return bool(enough or near_roof)

    def cells(self, programs):
        """The row of a table: name, each program, ratio, bar, and the share of the roof if any."""
        shown = [[value * self.scale for value in self.values(program)] for program in programs]
        bar = f"{'≥' if self.higher_is_better else '≤'} {self.bar:g}"
        if self.roof_bar is not None:
            bar += f" or {100 * self.roof_bar:.0f} % of the roof"
        roof = [f"{100 * statistics.median(self.roof):.0f} %"] if self.roof else []
        others = [lab.spread(self.ratios(program), "{:.2f}") for program in _other_ours(programs)]
        return [self.name, *(lab.spread(values, self.form) if values else "–"
                             for values in shown),
                lab.spread(self.ratios(), "{:.2f}"), f"{bar}: {'met' if self.met() else 'MISSED'}",
                *roof, *others]

    def json(self):
        return {"name": self.name, "bar": self.bar, "higher_is_better": self.higher_is_better,
                "rounds": self.rounds, "ratios": self.ratios(), "share_of_roof": self.roof,
                "met": self.met()}


def _other_ours(programs):
    return [program for program in programs if program.startswith("pregate ")]


def table(rows, programs, *roof):
    """Lines of a table of rows. `roof`: what the shares are of, if the rows have any."""
    others = [f"ratio of {program}" for program in _other_ours(programs)]
    first = ["", *programs, "ratio to the best peer", "bar", *roof, *others]
    lines = ["| " + " | ".join(first) + " |", "|" + " --- |" * len(first)]
    return lines + ["| " + " | ".join(row.cells(programs)) + " |" for row in rows]


def verdict(rows):
    missed = [row.name for row in rows if not row.met()]
    return (f"{len(rows) - len(missed)} of {len(rows)} bars are met." +
            (f" MISSED: {'; '.join(missed)}." if missed else ""))


def by_turns(programs, number):
    """The programs in the order of a round: each comes first in its turn."""
    start = number % len(programs)
    return [*programs[start:], *programs[:start]]


def llama_cpp_version(binary):
    """What a program of llama.cpp says of itself, and where build_llama_cpp.sh took it from."""
    builder = (lab.ROOT / "load_tests/build_llama_cpp.sh").read_text(encoding="utf-8")
    sdist = re.search(r"^version=(.*)$", builder, re.MULTILINE)[1]
    own = _own_version(binary)
    source = f" as in llama-cpp-python {sdist}" if f"/{sdist}/" in str(binary) else ""
    return f"llama.cpp{source} ({own})"


def ik_llama_cpp_version(binary):
    checkout = next((folder for folder in pathlib.Path(binary).resolve().parents
                     if (folder / ".git").exists()), None)
    commit = os.environ.get("IK_LLAMA_CPP_COMMIT")
    if not commit and checkout:
        commit = subprocess.run(["git", "-C", checkout, "rev-parse", "--short=9", "HEAD"],
                                capture_output=True, text=True, check=False).stdout.strip()
    return f"ik_llama.cpp {commit or '(' + _own_version(binary) + ')'}"


def _own_version(binary):
    run = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version: (.*)", run.stdout + run.stderr)
    return f"version {found[1]}" if found else "version unknown"
