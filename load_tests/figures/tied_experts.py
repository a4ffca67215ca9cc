#!/usr/bin/env python3
"""Experts that overlap, stored once, beside copies of them and beside the dense model they are made of.

Usage: load_tests/figures/tied_experts.py [--rounds 6] [--batches 1,7,16,64] [--widths 1,7]
           [--read-me FOLDER --result NAME] [--model-folder FOLDER] [--pieces FILE --limit SECONDS]

Of SmolLM2 with the router and masks of tests/testdata, or of another overlay, and of the same widened
(widen_model.py), where an expert is as wide as a large model's. In each round `pregate bench` runs three
ways at once, by turns (--by-turns): for a fraction of a second one of them computes while the others
stand still, so that what a shared machine does in the meantime meets all of them alike. Then the memory
of a server is read that has just started. Writes load_tests/results/figures/tied_experts.{md,json,png},
or NAME in place of tied_experts. Exit status 1 if a bar is missed: bytes of expert weights at all seven
experts at most 0.4 of those of copies, memory at most 1.05 of the dense model's, tokens a second of tied
experts at least those of copies at every batch and of the dense model at a batch of 1. Each round takes
half a minute; with --pieces several runs make one figure.
"""

import argparse
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import lab  # noqa: E402

READ_ME = lab.ROOT / "tests/testdata/read_me_smollm2"
WAYS = ("dense", "tied", "copies")
NEURONS = 1536  # of the model as it is
MOST_BYTES, MOST_MEMORY = 0.4, 1.05


class Model:
    """SmolLM2 with its experts, `width` times as wide."""

    def __init__(self, args, width, folder):
        self.width, self.model, self.read_me = width, args.model, args.read_me
        if width > 1:
            overlay = (args.read_me / "model.safetensors").read_bytes()
            out = folder / f"width_{width}_{hashlib.sha256(overlay).hexdigest()[:8]}"
            if not (out / "read_me/config.json").exists():
                subprocess.run([args.python, pathlib.Path(__file__).with_name("widen_model.py"),
                                args.model, args.read_me, str(width), out],
                               check=True, stdout=subprocess.DEVNULL)
            self.model, self.read_me = out / "model.gguf", out / "read_me"

    def flags(self, way):
        return [] if way == "dense" else ["--read-me", self.read_me, "--expert-storage", way]


def turns_of(batch, width):
    """More of those that are short."""
    return max(1, (16 if width == 1 else 8) // batch)


def context_of(width):
    """Tokens of each prompt, and how many follow it. Experts change with the position."""
    return (64, 32) if width == 1 else (16, 8)


def bench(args, model, batches):
    """What each way says: a row for each turn."""
    cells = [batch for batch in batches for _ in range(turns_of(batch, model.width))]
    prompt, decode = context_of(model.width)
    runs = [subprocess.Popen(
        [args.pregate, "bench", model.model, "--json", "--by-turns", "--repetitions", "1",
         "--prompt-tokens", str(prompt), "--decode-tokens", str(decode),
         "--batch-sizes", ",".join(map(str, cells)), *model.flags(way)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for way in WAYS]
    for run in runs:
        if run.stdout.readline() != "ready\n":
            sys.exit(f"pregate bench ended with {run.wait()}")
    begins = [""] * len(runs)
    for turn in range(len(cells)):
        for i in range(len(runs)) if turn % 2 == 0 else reversed(range(len(runs))):
            runs[i].stdin.write("\n")
            runs[i].stdin.flush()
            begins[i] = runs[i].stdout.readline()  # it is ready again, or begins its report
    reports = [json.loads(begin + run.stdout.read()) for begin, run in zip(begins, runs)]
    for run in runs:
        run.stdin.close()
        run.wait()
    return {way: {"expert_bytes": report["expert_bytes"],
                  "decode_tokens_per_s": [row["decode_tokens_per_s"] for row in report["rows"]],
                  "batches": cells} for way, report in zip(WAYS, reports)}


def memory(args, model, way):
    """Bytes of a server's own memory once it is ready."""
    port = lab.free_port()
    with lab.running(args.pregate, "serve", model.model, "--port", "0", "--grpc-port", str(port),
                     "--metrics-port", "0", *model.flags(way)) as server:
        subprocess.run([lab.ROOT / "build/release/pregate-client", "--target", f"127.0.0.1:{port}",
                        "--wait", "60"], check=True)
        time.sleep(0.5)
        status = pathlib.Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
        return 1024 * int(status.split("VmRSS:")[1].split()[0])


class Measured:
    """All rounds of one width."""

    def __init__(self, width, rounds, resident):
        self.neurons, self.rounds, self.resident = NEURONS * width, rounds, resident
        self.prompt, self.decode = context_of(width)

    def rates(self, way, batch):
        return [rate for r in self.rounds
                for rate, of in zip(r[way]["decode_tokens_per_s"], r[way]["batches"]) if of == batch]

    def ratio(self, other, batch):
        """Tied against another way, turn by turn."""
        return statistics.median(a / b for a, b in zip(self.rates("tied", batch),
                                                       self.rates(other, batch)))

    def expert_bytes(self, way):
        return self.rounds[0][way]["expert_bytes"]

    def bars(self, batches):
        """Of each its name, what is measured, what is asked for, and whether that is met."""
        def at_most(name, value, limit):
            return name, value, f"≤ {limit:g}", value <= limit

        def at_least(name, value, limit):
            return name, value, f"≥ {limit:g}", value >= limit

        tied, copies = self.expert_bytes("tied"), self.expert_bytes("copies")
        yield at_most("bytes at all experts, tied ÷ copies", tied[-1] / copies[-1], MOST_BYTES)
        yield at_most("memory, tied ÷ dense", self.resident["tied"] / self.resident["dense"],
                      MOST_MEMORY)
        for batch in batches:
            yield at_least(f"tokens/s at {batch}, tied ÷ copies", self.ratio("copies", batch), 1)
        yield at_least(f"tokens/s at {batches[0]}, tied ÷ dense", self.ratio("dense", batches[0]), 1)

    def table(self, batches):
        tied, copies = self.expert_bytes("tied"), self.expert_bytes("copies")
        lines = ["", f"## F = {self.neurons}", "",
                 f"Contexts of {self.prompt} to {self.prompt + self.decode} tokens.", "",
                 "| decoding, tokens/s | " + " | ".join(WAYS) + " | tied ÷ copies | tied ÷ dense |",
                 "| --- |" + " --- |" * (len(WAYS) + 2)]
        for batch in batches:
            cells = [lab.spread(self.rates(way, batch), "{:.0f}") for way in WAYS]
            lines.append(f"| {batch} at once | " + " | ".join(cells) +
                         f" | {self.ratio('copies', batch):.3f}"
                         f" | {self.ratio('dense', batch):.3f} |")
        lines += ["", "| a step meets | " + " | ".join(f"{n + 1}" for n in range(len(tied))) + " |",
                  "| --- |" + " --- |" * len(tied),
                  "| MB of expert weights, tied | " +
                  " | ".join(f"{b / 1e6:.1f}" for b in tied) + " |",
                  "| copies | " + " | ".join(f"{b / 1e6:.1f}" for b in copies) + " |", "",
                  "| | " + " | ".join(WAYS) + " |", "| --- |" + " --- |" * len(WAYS),
                  "| memory of the process, MB | " +
                  " | ".join(f"{self.resident[way] / 1e6:.1f}" for way in WAYS) + " |", "",
                  "| bar | is | asked for | |", "| --- | --- | --- | --- |"]
        for name, value, asked, met in self.bars(batches):
            lines.append(f"| {name} | {value:.3f} | {asked} | {'met' if met else '**missed**'} |")
        return lines


def draw(path, measured, batches):
    figure, axes = pyplot.subplots(1, len(measured) + 1, figsize=(5 * (len(measured) + 1), 4))
    for axis, one in zip(axes, measured):
        for way in WAYS:
            axis.plot(batches, [statistics.median(one.rates(way, batch)) for batch in batches],
                      marker="o", label=way)
        axis.set(xscale="log", title=f"F = {one.neurons}", xlabel="sequences at once",
                 ylabel="tokens/s", ylim=(0, None))
        axis.legend()
    for way in ("tied", "copies"):
        values = measured[0].expert_bytes(way)
        axes[-1].plot(range(1, len(values) + 1), [b / 1e6 for b in values], marker="o", label=way)
    axes[-1].set(title=f"F = {measured[0].neurons}", xlabel="experts that a step meets",
                 ylabel="MB of expert weights read", ylim=(0, None))
    axes[-1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batches", default="1,7,16,64")
    parser.add_argument("--widths", default="1,7", help="times as many neurons")
    parser.add_argument("--read-me", type=pathlib.Path, default=READ_ME, help="router and masks")
    parser.add_argument("--result", default="tied_experts", help="what to call what is written")
    parser.add_argument("--model-folder", type=pathlib.Path, help="keeps the widened model there")
    parser.add_argument("--python", default=lab.ROOT / "build/torch_venv/bin/python",
                        help="has numpy, gguf and safetensors")
    lab.Pieces.add_flags(parser)
    lab.add_server_flags(parser)
    args = parser.parse_args()
    args.model = args.model or lab.fetch_model("smollm2")
    args.model_name = pathlib.Path(args.model).name
    args.read_me_name = os.path.relpath(args.read_me.resolve(), lab.ROOT)
    return args


def measure(args, folder, pieces, batches):
    """Round by round, so that what is there is even however far it has come."""
    models = [Model(args, int(width), folder) for width in args.widths.split(",")]
    rounds = [[pieces.point(f"width {model.width}, round {r}",
                            lambda m=model: bench(args, m, batches)) for model in models]
              for r in range(args.rounds)]
    resident = [pieces.point(f"width {model.width}, memory",
                             lambda m=model: {way: memory(args, m, way) for way in WAYS})
                for model in models]
    return [Measured(model.width, [r[i] for r in rounds], resident[i])
            for i, model in enumerate(models)]


def main():
    args = arguments()
    batches = [int(batch) for batch in args.batches.split(",")]
    begun = lab.machine(lab.require_quiet(args.busy))
    settings = {key: begun[key] for key in ("cpu", "threads", "commit")}
    pieces = lab.Pieces(args.pieces, args.limit,
                        {**settings, "rounds": args.rounds, "batches": args.batches,
                         "widths": args.widths, "read_me": args.read_me_name}, args.busy)
    with tempfile.TemporaryDirectory() as scratch:
        measured = measure(args, args.model_folder or pathlib.Path(scratch), pieces, batches)
    about = lab.machine(pieces)
    text = "\n".join(
        ["# Tied experts, copies, and the dense model", "",
         f"{lab.machine_line(about)}. {args.model_name} with the router and the seven masks of "
         f"`{args.read_me_name}`, as it is and with every neuron as often as makes F; "
         f"`pregate bench`; median (range) of all turns of {args.rounds} rounds, ratios turn by "
         "turn."] +
        [line for one in measured for line in one.table(batches)])
    data = {"machine": about, "model": args.model_name, "points": pieces.data["points"]}
    if lab.report(f"figures/{args.result}", text, data):
        draw(lab.RESULTS / f"figures/{args.result}.png", measured, batches)
    return not all(met for one in measured for *_, met in one.bars(batches))


if __name__ == "__main__":
    sys.exit(main())
