#!/usr/bin/env python3
"""What guesses ahead of an answer (`--draft-tokens`) are worth, on answers that repeat and others.

Usage: load_tests/figures/drafts.py [--rounds 3] [--clients 1,4,16] [--draft-tokens 4]
       [--models dense,Read-ME] [--kinds copies,edits,plain] [--pieces FILE --limit SECONDS]

Lets SmolLM2, dense and as Read-ME, continue texts, with and without guesses by turns: a function that
has begun once more, the same with one of its words changed, and stories told at a temperature of 1,
which repeat little. The rate is that of the server's steps; prompts come from the prefix cache and
count for little. Writes load_tests/results/figures/drafts.{md,json,png}. Exit status 1 if guesses slow
anything down by more than 5 %, or bring no half more where one client has a passage copied. About 7
minutes a round; with --pieces in as many runs as one likes, each of at least one point (some 20 s):
status 75 as long as points are missing.
"""

import argparse
import contextlib
import inspect
import itertools
import pathlib
import statistics
import subprocess
import sys
import threading
import urllib.request

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import lab  # noqa: E402

CLIENT = lab.ROOT / "build/release/pregate-client"
MODELS = {"dense": [], "Read-ME": ["--read-me", str(lab.ROOT / "tests/testdata/read_me_smollm2")]}
PASSAGES = [inspect.getsource(function) for function in
            (lab.machine, lab.machine_line, lab.fetch_model, lab.free_port, lab.serving,
             lab.run_loadgen, lab.spread, lab.report)]
PEOPLE = ["a shepherd", "two sisters", "the old captain", "a thief", "the queen", "a farmer",
          "a boy from Rome", "the last monk"]


def again(passage, changed):
    """A text that has begun to say its first half again."""
    name = passage.split("(")[0].split()[-1]
    start = "".join(passage.splitlines(keepends=True)[:2])
    if changed:
        start = start.replace(name, f"{name}_of_2025")
    return ["--temperature", "0", "--text",
            f"{passage}\n\n# The same, {'with another name' if changed else 'once more'}:\n\n{start}"]


KINDS = {"copies": [again(passage, changed=False) for passage in PASSAGES],
         "edits": [again(passage, changed=True) for passage in PASSAGES],
         "plain": [["--temperature", "1", "--seed", "7", "--text",
                    f"This is a story about {person}, and it begins in the year when"]
                   for person in PEOPLE]}
SLOWEST, FASTER = 0.95, 1.5
COUNTS = {"tokens": "pregate_generation_tokens_total", "seconds": "pregate_step_seconds_sum",
          "drafted": "pregate_spec_decode_num_draft_tokens_total",
          "accepted": "pregate_spec_decode_num_accepted_tokens_total"}


@contextlib.contextmanager
def serving(args, flags):
    """A server; yields the addresses of its calls and of its metrics."""
    ports = lab.free_port(), lab.free_port()
    with lab.running(args.pregate, "serve", args.model, "--port", "0", "--grpc-port", str(ports[0]),
                     "--metrics-port", str(ports[1]), *flags):
        address = f"127.0.0.1:{ports[0]}"
        subprocess.run([CLIENT, "--target", address, "--wait", "60"], check=True)
        yield address, f"http://127.0.0.1:{ports[1]}/metrics"


def counts(url):
    with urllib.request.urlopen(url) as page:
        lines = [line.rsplit(" ", 1) for line in page.read().decode().splitlines()]
    return {key: sum(float(value) for series, value in lines if series.split("{")[0] == name)
            for key, name in COUNTS.items()}


def ask(server, prompts, clients, max_tokens):
    """`clients` ask until each prompt has had its turns; what the server counted meanwhile."""
    address, url = server
    turns = max(len(prompts), 2 * clients)
    left = iter(list(itertools.islice(itertools.cycle(prompts), turns)))
    lock, failures = threading.Lock(), []

    def work():
        while True:
            with lock:
                prompt = next(left, None)
            if prompt is None:
                return
            run = subprocess.run([CLIENT, "--target", address, "--max-tokens",
                                  str(max_tokens), *prompt], capture_output=True, check=False)
            if run.returncode:
                failures.append(run.stderr)

    before = counts(url)
    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:  # with fewer clients than asked for no rate would mean anything
        sys.exit(f"{len(failures)} clients failed: {failures[0].decode()}")
    return {key: value - before[key] for key, value in counts(url).items()}


def rate(cell):
    """Tokens a second of all answers together."""
    return cell["tokens"] / cell["seconds"]


def measure(args, model, kind, clients):
    """One kind of answer by turns: {"off": ..., "on": ...}. Prompts are in the prefix cache."""
    with contextlib.ExitStack() as stack:
        servers = {way: stack.enter_context(serving(args, [*MODELS[model], "--draft-tokens", n]))
                   for way, n in (("off", "0"), ("on", str(args.draft_tokens)))}
        for server in servers.values():
            ask(server, KINDS[kind], len(KINDS[kind]), max_tokens=8)
        return {way: ask(server, KINDS[kind], clients, args.max_tokens)
                for way, server in servers.items()}


def measure_all(args, pieces):
    cells = {}  # (model, kind, clients): {"off": [...], "on": [...]}
    for turn in range(args.rounds):
        for key in itertools.product(args.models, args.kinds, args.clients):
            model, kind, clients = key
            pair = pieces.point(f"round {turn + 1}, {model}, {kind}, {clients} clients",
                                lambda key=key: measure(args, *key))
            cell = cells.setdefault(key, {"off": [], "on": []})
            for way, counted in pair.items():
                cell[way].append(counted)
    return cells


def gain(cell):
    return statistics.median(rate(on) / rate(off) for off, on in zip(cell["off"], cell["on"]))


def table(args, about, cells):
    lines = ["# Guesses ahead of answers", "",
             f"{lab.machine_line(about)}. {args.model_name}; `--draft-tokens {args.draft_tokens}`; "
             f"answers of {args.max_tokens} tokens; tokens a second of steps; median (range) of "
             f"{args.rounds} rounds, by turns.", "",
             "| model | answers | clients | without | with | gain | guesses right, a token |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for (model, kind, clients), cell in cells.items():
        total = {key: sum(c[key] for c in cell["on"]) for key in COUNTS}
        right = 100 * total["accepted"] / max(total["drafted"], 1)
        lines.append(f"| {model} | {kind} | {clients} | "
                     f"{lab.spread([rate(c) for c in cell['off']])} | "
                     f"{lab.spread([rate(c) for c in cell['on']])} | {gain(cell):.2f} | "
                     f"{right:.0f} %, {total['drafted'] / total['tokens']:.2f} |")
    slowest = min(gain(cell) for cell in cells.values())
    bars = [("the slowest", slowest, SLOWEST)]
    copied = [gain(cell) for key, cell in cells.items() if key[1:] == ("copies", 1)]
    if copied:
        bars.append(("copies, 1 client", min(copied), FASTER))
    lines += ["", "| bar | is | asked for | |", "| --- | --- | --- | --- |"]
    for name, value, least in bars:
        lines.append(f"| {name} | {value:.2f} | ≥ {least} | "
                     f"{'met' if value >= least else '**missed**'} |")
    return "\n".join(lines), all(value >= least for _, value, least in bars)


def draw(path, args, cells):
    figure, axes = pyplot.subplots(1, len(args.models), figsize=(10, 4), sharey=True,
                                   squeeze=False)
    axes = axes[0]
    for axis, model in zip(axes, args.models):
        for kind in args.kinds:
            points = [(key[2], gain(cell)) for key, cell in cells.items() if key[:2] == (model, kind)]
            axis.plot(*zip(*points), marker="o", label=kind)
        axis.axhline(1, color="grey", linewidth=0.8)
        axis.set(title=model, xscale="log", xlabel="clients", ylim=(0, None))
    axes[0].set(ylabel="tokens/s with guesses ÷ without")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def some_of(names):
    """Words of `names`, separated by commas."""
    def parse(text):
        words = text.split(",")
        if unknown := [word for word in words if word not in names]:
            raise argparse.ArgumentTypeError(f"must be some of {', '.join(names)}; got {unknown[0]}")
        return words
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default="1,4,16")
    parser.add_argument("--draft-tokens", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--models", type=some_of(MODELS), default=list(MODELS))
    parser.add_argument("--kinds", type=some_of(KINDS), default=list(KINDS))
    lab.add_server_flags(parser)
    lab.Pieces.add_flags(parser)
    args = parser.parse_args()
    args.clients = [int(count) for count in args.clients.split(",")]
    args.model = args.model or lab.fetch_model("smollm2")
    args.model_name = pathlib.Path(args.model).name
    lab.require_quiet(args.busy)
    settings = {key: getattr(args, key) for key in ("draft_tokens", "max_tokens", "model_name")}
    pieces = lab.Pieces(args.pieces, args.limit, settings, args.busy)
    cells = measure_all(args, pieces)
    about = lab.machine(pieces)
    text, met = table(args, about, cells)
    if lab.report("figures/drafts", text,
                  {"machine": about, "model": args.model_name, "draft_tokens": args.draft_tokens,
                   "cells": [{"model": key[0], "answers": key[1], "clients": key[2], **cell}
                             for key, cell in cells.items()]}):
        draw(lab.RESULTS / "figures/drafts.png", args, cells)
    return not met


if __name__ == "__main__":
    sys.exit(main())
