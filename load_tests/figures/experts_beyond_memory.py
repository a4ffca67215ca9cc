#!/usr/bin/env python3
"""Experts that do not fit in memory: Pregate's order, loads and evictions beside loading on demand.

Usage: load_tests/figures/experts_beyond_memory.py [--rounds 1] [--width 8] [--fits 2,4,5]
       [--caps 16,0] [--workloads conversations,short] [--ways planned,demand] [--seconds 25]
       [--model-folder DIR] [--join] [--under COMMAND]

Widens SmolLM2 with the Read-ME overlay of tests/testdata (widen_model.py: seven experts of some 212 MB
each at a width of 8, as copies, in a file that is read past the page cache), then serves it with
memory for 2, 4 and 5 of 7 experts to a closed loop of clients whose prompts are pieces of English text:

  planned   --expert-batching auto: what is in memory first, the next expert while the lane is idle,
            eviction by the queues
  demand    everybody in order; what a layer needs and is not there is loaded then; LRU, no prefetch
            (still layer by layer beside the layers before: it is no straw man)

Workloads: `conversations`, 64 clients, prompts of 70 tokens and answers of 200 in the mean (those of
simulate.py, about the conversations that the Read-ME paper replays); `short`, 32 clients, prompts of
64 tokens and answers of 32, where much of the time is the arithmetic of prompts. A step runs as many
sequences as --caps says: 16, as in the paper and in simulate.py, or (0) any number. Without a cap a
processor has so much arithmetic to do for each load that loads are a part of the time only, and no
order of steps can gain more than that part.

A loop begins in its stride (loadgen --midway), runs for a while, and is then measured for --seconds by
the server's own counters. Nothing may fail. Prints tokens a second, the share of time that steps wait
for the disk, what was loaded and what of it in vain; writes
load_tests/results/figures/experts_beyond_memory.{md,json,png}. Exit status 1 if a bar is missed with
the conversations at 16 a step: 3 times the tokens a second at 2 of 7, 2 times at 4. --join adds to the runs that the
result holds, so that a long measurement can be made in pieces; --under is a command that each window
runs under, as `nice -n -5`. Wants numpy, gguf and safetensors (engine/refactor's environment) for the
widening unless --model-folder holds a widened model; each run takes about a minute.
"""

import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
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
BARRED = ("conversations", 16)  # workload and cap
WORKLOADS = {"conversations": {"clients": 64, "prompt": "20:120", "answer": "80:320"},
             "short": {"clients": 32, "prompt": "64", "answer": "32"}}
LEAST_STEPS = 20  # before the window: the model of cost has seen enough
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
    """A metrics page, labels in the names."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
        lines = page.read().decode("utf-8").splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("pregate_"))
    return {name: float(value) for name, value in pairs}


def total(page, family):
    return sum(value for name, value in page.items() if name.split("{")[0] == f"pregate_{family}")


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(port, seconds, processes):
    """What the counters of a running server do in a window; `processes` are ours."""
    while total(counters(port), "step_rows_count") < LEAST_STEPS:
        time.sleep(0.2)

    def ours():
        return sum(processor_seconds(pid) for pid in processes)

    others, before = lab.OthersWatch(), ours()
    first, start = counters(port), time.monotonic()
    time.sleep(seconds)
    last, end = counters(port), time.monotonic()
    share = others.share() - (ours() - before) / ((end - start) * os.cpu_count())
    change = {name: value - first.get(name, 0) for name, value in last.items()}

    def mean(family):
        return total(change, f"{family}_sum") / max(total(change, f"{family}_count"), 1)

    return {"seconds": end - start, "share_of_others": max(share, 0),
            "tokens": total(change, "generation_tokens_total"),
            "prompt_tokens": total(change, "prompt_tokens_total"),
            "steps": total(change, "step_rows_count"), "rows": mean("step_rows"),
            "first_token_s": mean("time_to_first_token_seconds"),
            "stall_seconds": total(change, "expert_stall_seconds_total"),
            "loaded": total(change, "expert_load_bytes_total"),
            "wasted": total(change, "expert_wasted_bytes_total")}


def measure(args, folder, way, setting):
    """One closed loop on a server that has just started."""
    workload, fits, cap = setting
    load = WORKLOADS[workload]
    port, metrics = lab.free_port(), lab.free_port()
    capacity = int((fits + 0.05) * args.one_expert)
    flags = ["--read-me", f"{folder}/read_me", "--expert-storage", "copies",
             "--expert-cache-memory", str(capacity), "--expert-cache-dir", str(args.cache_dir),
             "--max-num-seqs", str(load["clients"]), *WAYS[way],
             *(["--max-num-step-seqs", str(cap)] if cap else [])]
    clients = [args.loadgen, "--server", f"127.0.0.1:{port}", "--concurrency",
               str(load["clients"]), "--midway", "--requests", "100000", "--text", str(TEXT),
               "--prompt-tokens", load["prompt"], "--max-tokens", load["answer"], "--timeout",
               "3000", "--wait", "120"]
    with lab.running(args.pregate, "serve", f"{folder}/model.gguf", "--port", "0", "--grpc-port",
                     str(port), "--metrics-port", str(metrics), *flags) as server:
        wait_for(server, lambda: counters(metrics))
        with lab.running(*clients) as loop:
            wait_for(loop, lambda: total(counters(metrics), "step_rows_count") > 0)
            window = subprocess.run([*args.under, sys.executable, __file__, "--watch",
                                     str(metrics), "--seconds", str(args.seconds), "--processes",
                                     f"{server.pid},{loop.pid}"],
                                    stdout=subprocess.PIPE, text=True, check=True)
            page = counters(metrics)
            if loop.poll() is not None:
                sys.exit(f"{way}: the clients have ended")
    failed = {name: value for name, value in page.items() if value > 0 and
              name.startswith(("pregate_requests_rejected_total", "pregate_request_success_total"))
              and 'finished_reason="length"' not in name and 'finished_reason="stop"' not in name}
    if failed:
        sys.exit(f"{way}: not all answers came: {failed}")
    run = json.loads(window.stdout)
    return {"workload": workload, "fits": fits, "cap": cap, "way": way,
            "tokens_per_s": run["tokens"] / run["seconds"],
            "stall": run["stall_seconds"] / run["seconds"], **run}


def wait_for(process, happened, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            if happened():
                return
        except OSError:
            pass  # it is not up yet
        time.sleep(0.2)
    sys.exit("it does not come up")


def name(setting):
    workload, fits, cap = setting
    return f"{workload}, {fits} of {EXPERTS}" + (f", {cap} a step" if cap else "")


def runs_of(runs, setting, way):
    return [run for run in runs
            if (run["workload"], run["fits"], run["cap"], run["way"]) == (*setting, way)]


def settings_of(runs):
    """Those that were run both ways, in order."""
    found = {(run["workload"], run["fits"], run["cap"]) for run in runs}
    whole = [s for s in found if all(runs_of(runs, s, way) for way in WAYS)]
    return sorted(whole, key=lambda s: (list(WORKLOADS).index(s[0]), s[2], s[1]))


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def gain_of(runs, setting):
    return (median(runs_of(runs, setting, "planned"), "tokens_per_s") /
            median(runs_of(runs, setting, "demand"), "tokens_per_s"))


def table(about, width, runs, one_expert):
    loads = "; ".join(f"{name}: {load['clients']} clients, prompts of {load['prompt']} tokens of "
                      f"English text, answers of {load['answer']}"
                      for name, load in WORKLOADS.items()).replace(":120", " to 120").replace(
                          ":320", " to 320")
    lines = ["# Experts that do not fit in memory", "",
             f"{lab.machine_line(about)}. SmolLM2-135M widened {width} times: seven experts of "
             f"{one_expert / 1e6:.0f} MB each, as copies on a disk that is read past the page "
             f"cache. {loads}. Windows of about {median(runs, 'seconds'):.0f} s of a closed loop "
             "in its stride; medians (range) where there are several.", "",
             "| workload, in memory | | tokens/s | ÷ demand | windows | first token, s | waits for "
             "the disk, % | stall, s | MB loaded a second | MB loaded a token | MB loaded in vain |",
             "| --- |" + " --- |" * 10]
    missed = []
    for setting in settings_of(runs):
        gain = gain_of(runs, setting)
        if (setting[0], setting[2]) == BARRED and gain < BARS.get(setting[1], 0):
            missed.append(f"{name(setting)}: {gain:.2f}")
        for way in WAYS:
            here = runs_of(runs, setting, way)
            lines.append(
                f"| {name(setting)} | {way} | "
                f"{lab.spread([run['tokens_per_s'] for run in here])} | "
                f"{f'{gain:.2f}' if way == 'planned' else ''} | {len(here)} | "
                f"{median(here, 'first_token_s'):.1f} | {100 * median(here, 'stall'):.0f} | "
                f"{median(here, 'stall_seconds'):.0f} | "
                f"{statistics.median(run['loaded'] / run['seconds'] / 1e6 for run in here):.0f} | "
                f"{statistics.median(run['loaded'] / max(run['tokens'], 1) / 1e6 for run in here):.1f}"
                f" | {median(here, 'wasted') / 1e6:.0f} |")
    lines += ["", f"Bars, with {BARRED[0]}, {BARRED[1]} a step: " +
              ", ".join(f"{bar:g} × at {fits} of {EXPERTS}" for fits, bar in BARS.items()) +
              (f". **Missed** with {'; '.join(missed)}." if missed else ": met.")]
    return "\n".join(lines), not missed


def draw(path, runs):
    settings = settings_of(runs)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.5))
    for offset, way in enumerate(WAYS):
        places = [i + 0.4 * offset for i in range(len(settings))]
        left.bar(places, [median(runs_of(runs, s, way), "tokens_per_s") for s in settings], 0.38,
                 label=way)
        right.bar(places, [100 * median(runs_of(runs, s, way), "stall") for s in settings], 0.38,
                  label=way)
    for axes, label in ((left, "tokens/s"), (right, "time that waits for the disk, %")):
        axes.set(ylabel=label)
        axes.set_xticks([i + 0.2 for i in range(len(settings))],
                        [name(s).replace(", ", "\n") for s in settings], fontsize=8)
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--fits", default="2,4,5", type=lambda s: [int(n) for n in s.split(",")])
    parser.add_argument("--caps", default="16,0", type=lambda s: [int(n) for n in s.split(",")],
                        help="sequences of a step; 0: any")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), type=lambda s: s.split(","))
    parser.add_argument("--ways", default=",".join(WAYS), type=lambda s: s.split(","))
    parser.add_argument("--seconds", type=float, default=25, help="of a window")
    parser.add_argument("--cache-dir", type=pathlib.Path, default=pathlib.Path("/var/tmp"))
    parser.add_argument("--model-folder", type=pathlib.Path, help="keeps the widened model there")
    parser.add_argument("--join", action="store_true", help="with the runs of the result there is")
    parser.add_argument("--under", default=[], type=shlex.split, help="command for a window")
    parser.add_argument("--watch", type=int, help="only a window, of the server with these metrics")
    parser.add_argument("--processes", type=lambda s: s.split(","), help="of ours, beside --watch")
    parser.add_argument("--python", default=lab.ROOT / "build/torch_venv/bin/python",
                        help="with numpy, gguf and safetensors")
    lab.add_server_flags(parser)
    return parser.parse_args()


def measure_all(args, folder):
    if not (folder / "model.gguf").exists():
        model = args.model or lab.fetch_model("smollm2")
        subprocess.run([args.python, pathlib.Path(__file__).with_name("widen_model.py"), model,
                        READ_ME, str(args.width), folder], check=True)
    args.one_expert = expert_bytes(args, folder)
    runs = []
    for _ in range(args.rounds):
        for setting in ((w, f, c) for w in args.workloads for c in args.caps for f in args.fits):
            for way in args.ways:
                runs.append(measure(args, folder, way, setting))
                print(name(setting), way, round(runs[-1]["tokens_per_s"], 1), file=sys.stderr)
    return runs


def main():
    args = parse()
    if args.watch:
        print(json.dumps(watch(args.watch, args.seconds, args.processes)))
        return 0
    # Whatever a window runs under may keep the machine quiet for as long as that.
    whole = lab.OthersWatch() if args.under else lab.require_quiet(args.busy)
    with tempfile.TemporaryDirectory(dir=args.cache_dir) as folder:
        runs = measure_all(args, args.model_folder or pathlib.Path(folder))
    about = lab.machine(whole)
    result = lab.RESULTS / "figures/experts_beyond_memory.json"
    if args.join and result.exists():
        runs = json.loads(result.read_text(encoding="utf-8")).get("runs", []) + runs
    about["share_of_others"] = max(run["share_of_others"] for run in runs)  # in any window
    text, met = table(about, args.width, runs, args.one_expert)
    if lab.report("figures/experts_beyond_memory", text,
                  {"machine": about, "expert_bytes": args.one_expert, "runs": runs}):
        draw(lab.RESULTS / "figures/experts_beyond_memory.png", runs)
    return not met


if __name__ == "__main__":
    sys.exit(main())
