#!/usr/bin/env python3
"""What guesses ahead of an answer (`--draft-tokens`) are worth, on answers that repeat and others.

Usage: load_tests/figures/drafts.py [--turns 16] [--clients 1,4,16] [--draft-tokens 4]
       [--models dense,Read-ME] [--kinds copies,edits,plain] [--pieces FILE --limit SECONDS]

Lets SmolLM2, dense and as Read-ME, continue texts, with and without guesses: a function that has begun
once more, the same with one of its words changed, and stories told at a temperature of 1, which repeat
little. Both servers run at once and are asked by turns, one answer for each client, so that a machine
that is slower for a while is so for both; a gain is formed within a turn. The rate is that of the
server's steps; prompts come from the prefix cache and count for little. Writes
load_tests/results/figures/drafts.{md,json,png}. Exit status 1 if guesses slow anything down by more than
5 %, or bring no half more where one client has a passage copied. About 12 minutes; with --pieces in as
many runs as one likes, each of at least one point (some 20 to 80 s): status 75 as long as points are
missing.
"""

import argparse
import contextlib
import inspect
import itertools
import pathlib
import statistics
import subprocess
import sys
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


def ask(server, prompts, max_tokens):
    """As many clients as prompts ask one each, at once; what the server counted meanwhile."""
    address, url = server
    before = counts(url)
    clients = [subprocess.Popen([CLIENT, "--target", address, "--max-tokens", str(max_tokens),
                                 *prompt], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                text=True) for prompt in prompts]
    for client in clients:
        _, errors = client.communicate()
        if client.returncode:  # with fewer clients than asked for no rate would mean anything
            sys.exit(f"a client failed: {errors}")
    return {key: value - before[key] for key, value in counts(url).items()}


def rate(turn):
    """Tokens a second of all answers together."""
    return turn["tokens"] / turn["seconds"]


def measure(args, model, kind, clients):
    """One kind of answer: {"off": [a turn's counts, ...], "on": [...]}. The cache has the prompts."""
    with contextlib.ExitStack() as stack:
        servers = {way: stack.enter_context(serving(args, [*MODELS[model], "--draft-tokens", n]))
                   for way, n in (("off", "0"), ("on", str(args.draft_tokens)))}
        for server in servers.values():
            for prompt in KINDS[kind]:
                ask(server, [prompt], max_tokens=8)
        turns = {way: [] for way in servers}
        prompts = itertools.cycle(KINDS[kind])
        for turn in range(args.turns):
            asked = list(itertools.islice(prompts, clients))
            for way in ("off", "on") if turn % 2 == 0 else ("on", "off"):
                turns[way].append(ask(servers[way], asked, args.max_tokens))
        return turns


def measure_all(args, pieces):
    """(model, kind, clients): what `measure` found."""
    return {key: pieces.point(f"{key[0]}, {key[1]}, {key[2]} clients",
                              lambda key=key: measure(args, *key))
            for key in itertools.product(args.models, args.kinds, args.clients)}


def gain(cell):
    return statistics.median(rate(on) / rate(off) for off, on in zip(cell["off"], cell["on"]))


def table(args, about, cells):
    lines = ["# Guesses ahead of answers", "",
             f"{lab.machine_line(about)}. {args.model_name}; `--draft-tokens {args.draft_tokens}`; "
             f"answers of {args.max_tokens} tokens; tokens a second of steps; median (range) of "
             f"{args.turns} turns, gains of the median turn.", "",
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
    parser.add_argument("--turns", type=int, default=16)
    parser.add_argument("--clients", default="1,4,16")
    parser.add_argument("--draft-tokens", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--models", type=some_of(MODELS), default=list(MODELS))
    parser.add_argument("--kinds", type=some_of(KINDS), default=list(KINDS))
    lab.add_server_flags(parser)
    lab.Pieces.add_flags(parser)
    args = parser.parse_args()
    args.clients = [int(count) for count in args.clients.split(",")]
    args.model = args.model or lab.fetch_model("smollm2")
    args.model_name = pathlib.Path(args.model).name
    lab.require_quiet(args.busy)
    settings = {key: getattr(args, key)
                for key in ("turns", "draft_tokens", "max_tokens", "model_name")}
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
