#!/usr/bin/env python3
"""Experts that do not fit in memory: Pregate's order, loads and evictions beside loading on demand.

Usage: load_tests/figures/experts_beyond_memory.py [--rounds 1] [--width 8] [--fits 2,4,5]
       [--caps 0,8] [--clients 32] [--requests 64] [--max-tokens 32]

Widens SmolLM2 with the Read-ME overlay of tests/testdata (widen_model.py: seven experts of some 212 MB
each at a width of 8, as copies, in a file that is read past the page cache), then serves it with
memory for 2, 4 and 5 of 7 experts to a closed loop of clients whose prompts are pieces of English text:

  planned   --expert-batching auto: what is in memory first, the next expert while the lane is idle,
            eviction by the queues
  demand    everybody in order; what a layer needs and is not there is loaded then; LRU, no prefetch
            (still layer by layer beside the layers before: it is no straw man)

without a cap of the sequences a step runs, and with 8 of 32, the share of the paper's batches. All
answers must come whole. Prints tokens a second, the share of time that steps
wait for the disk, what was loaded and what of it in vain; writes
load_tests/results/figures/experts_beyond_memory.{md,json,png}. Exit status 1 if a bar is missed under
the first or the last cap: 3 times the tokens a second at 2 of 7, 2 times at 4. Wants numpy, gguf and
safetensors (engine/refactor's environment) for the widening, and about a quarter of an hour a round.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import urllib.request

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import lab  # noqa: E402

READ_ME = lab.ROOT / "tests/testdata/read_me_smollm2"
TEXT = lab.ROOT / "README.md"
EXPERTS = 7
BARS = {2: 3.0, 4: 2.0}
WAYS = {"planned": ["--expert-batching", "auto"],
        "demand": ["--expert-batching", "off", "--expert-eviction", "lru", "--no-expert-prefetch"]}


def expert_bytes(args, folder):
    """Of one expert, all layers."""
    run = subprocess.run(
        [args.pregate, "bench", f"{folder}/model.gguf", "--json", "--read-me", f"{folder}/read_me",
         "--expert-storage", "copies", "--prompt-tokens", "1", "--batch-sizes", "1",
         "--decode-tokens", "1", "--repetitions", "1"], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)["expert_bytes"][0]


def counters(port):
    """The expert families of a metrics page, labels in the name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        lines = page.read().decode("utf-8").splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("pregate_"))
    return {name: float(value) for name, value in pairs if "expert" in name or "step" in name}


def total(change, family):
    return sum(value for name, value in change.items() if name.split("{")[0] == f"pregate_{family}")


def measure(args, folder, way, capacity, cap):
    """One closed loop on a server that has just started; after one to warm it up."""
    port, metrics = lab.free_port(), lab.free_port()
    flags = ["--read-me", f"{folder}/read_me", "--expert-storage", "copies",
             "--expert-cache-memory", str(capacity), "--expert-cache-dir", str(args.cache_dir),
             "--max-num-seqs", str(args.clients), *WAYS[way],
             *(["--max-num-step-seqs", str(cap)] if cap else [])]
    load = ["--concurrency", str(args.clients), "--text", str(TEXT), "--prompt-tokens",
            args.prompt_tokens, "--max-tokens", str(args.max_tokens), "--timeout", "600"]
    with lab.running(args.pregate, "serve", f"{folder}/model.gguf", "--port", "0",
                     "--grpc-port", str(port),
                     "--metrics-port", str(metrics), *flags):
        address = f"127.0.0.1:{port}"
        lab.run_loadgen(args.loadgen, address, *load, "--requests", str(args.clients // 2),
                        "--seed", "2", "--wait", "120")
        before = counters(metrics)
        result = lab.run_loadgen(args.loadgen, address, *load, "--requests",
                                 str(args.requests))["summary"]
        after = counters(metrics)
    if result["statuses"] != {"OK": args.requests} or result["short_answers"]:
        sys.exit(f"{way}: not all answers came: {result['statuses']}")
    change = {name: value - before.get(name, 0) for name, value in after.items()}
    seconds = result["duration_s"]
    return {"result": result, "tokens_per_s": result["output_tokens_per_s"],
            "stall": total(change, "expert_stall_seconds_total") / seconds,
            "stall_seconds": total(change, "expert_stall_seconds_total"),
            "loaded": total(change, "expert_load_bytes_total"),
            "wasted": total(change, "expert_wasted_bytes_total"), "seconds": seconds}


def median(rounds, setting, way, key):
    return statistics.median(r[setting][way][key] for r in rounds)


def name(setting):
    fits, cap = setting
    return f"{fits} of {EXPERTS}" + (f", {cap} a step" if cap else "")


def table(args, about, rounds, one_expert):
    lines = ["# Experts that do not fit in memory", "",
             f"{lab.machine_line(about)}. SmolLM2-135M widened {args.width} times: seven experts of "
             f"{one_expert / 1e6:.0f} MB each, as copies on a disk that is read past the page cache; "
             f"{args.clients} clients, prompts of {args.prompt_tokens} tokens of English text, answers "
             f"of {args.max_tokens}; median (range) of {args.rounds} rounds, by turns.", "",
             "| in memory | | tokens/s | ÷ demand | first token p50, s | longest gap p50, s | waits for the "
             "disk, % | stall, s | MB loaded a token | MB loaded in vain |",
             "| --- |" + " --- |" * 9]
    missed = []
    for setting in args.settings:
        gain = statistics.median(r[setting]["planned"]["tokens_per_s"] /
                                 r[setting]["demand"]["tokens_per_s"] for r in rounds)
        if gain < BARS.get(setting[0], 0):
            missed.append(name(setting))
        for way in WAYS:
            runs = [r[setting][way] for r in rounds]
            first = [run["result"]["time_to_first_token_s"]["p50"] for run in runs]
            gap = [run["result"]["longest_gap_s"]["p50"] for run in runs]
            per_token = [run["loaded"] / 1e6 / (run["tokens_per_s"] * run["seconds"])
                         for run in runs]
            lines.append(
                f"| {name(setting)} | {way} | "
                f"{lab.spread([run['tokens_per_s'] for run in runs])} | "
                f"{f'{gain:.2f}' if way == 'planned' else ''} | {statistics.median(first):.1f} | "
                f"{statistics.median(gap):.1f} | "
                f"{100 * median(rounds, setting, way, 'stall'):.0f} | "
                f"{median(rounds, setting, way, 'stall_seconds'):.0f} | "
                f"{statistics.median(per_token):.0f} | "
                f"{median(rounds, setting, way, 'wasted') / 1e6:.0f} |")
    lines += ["", "Bars: " + ", ".join(f"{bar:g} × at {fits} of {EXPERTS}"
                                       for fits, bar in BARS.items()) +
              (f". **Missed** with {'; '.join(missed)}." if missed else ": met.")]
    return "\n".join(lines), not missed


def draw(path, args, rounds):
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    for offset, way in enumerate(WAYS):
        places = [i + 0.4 * offset for i in range(len(args.settings))]
        left.bar(places, [median(rounds, s, way, "tokens_per_s") for s in args.settings], 0.38,
                 label=way)
        right.bar(places, [100 * median(rounds, s, way, "stall") for s in args.settings], 0.38,
                  label=way)
    for axes, label in ((left, "tokens/s"), (right, "time that waits for the disk, %")):
        axes.set(ylabel=label)
        axes.set_xticks([i + 0.2 for i in range(len(args.settings))],
                        [name(s).replace(", ", "\n") for s in args.settings])
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--fits", default="2,4,5", type=lambda s: [int(n) for n in s.split(",")])
    parser.add_argument("--caps", default="0,8", type=lambda s: [int(n) for n in s.split(",")],
                        help="sequences of a step; 0: any")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--prompt-tokens", default="64")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--cache-dir", type=pathlib.Path, default=pathlib.Path("/var/tmp"))
    parser.add_argument("--python", default=lab.ROOT / "build/torch_venv/bin/python",
                        help="with numpy, gguf and safetensors")
    lab.add_server_flags(parser)
    args = parser.parse_args()
    args.model = args.model or lab.fetch_model("smollm2")
    args.settings = [(fits, cap) for cap in args.caps for fits in args.fits]
    return args


def main():
    args = parse()
    watch = lab.require_quiet(args.busy)
    with tempfile.TemporaryDirectory(dir=args.cache_dir) as folder:
        subprocess.run([args.python, pathlib.Path(__file__).with_name("widen_model.py"), args.model,
                        READ_ME, str(args.width), folder], check=True)
        one_expert = expert_bytes(args, folder)
        rounds = []
        for _ in range(args.rounds):
            rounds.append({})
            for fits, cap in args.settings:
                capacity = int((fits + 0.05) * one_expert)
                runs = {way: measure(args, folder, way, capacity, cap) for way in WAYS}
                rounds[-1][fits, cap] = runs
                print(name((fits, cap)), {way: round(run["tokens_per_s"], 1)
                                          for way, run in runs.items()}, file=sys.stderr)
    about = lab.machine(watch)
    text, met = table(args, about, rounds, one_expert)
    if lab.report("figures/experts_beyond_memory", text,
                  {"machine": about, "expert_bytes": one_expert,
                   "rounds": [{name(s): runs for s, runs in r.items()} for r in rounds]}):
        draw(lab.RESULTS / "figures/experts_beyond_memory.png", args, rounds)
    return not met


if __name__ == "__main__":
    sys.exit(main())
