#!/usr/bin/env python3
"""A thousand streams at once: what the front doors add to each token, and what they take.

Usage: load_tests/streams.py [--streams 1000] [--rounds 3] [--doors SSE gRPC] [--add]

Starts `paced_server`, the front doors around an engine that gives every answer a token at each
beat of 100 ms and computes nothing, and opens the streams at once: server-sent events of
/v1/completions, then gRPC. What comes between two tokens of a stream beyond a beat is the doors'
own part. Clients share the machine, so they run at the lowest priority and rest between reads, and
a token has come when the kernel has it for the client. Over gRPC that is told by a client that
reads HTTP/2's frames itself; a second one, of gRPC's own library, shows what such a client sees,
whose part is in its figure. Threads and memory of the server are read while all streams run. Exit
status 1 if the doors' part is above 5 ms at p99, a stream does not end well, or threads or memory
are not bounded. Writes load_tests/results/streams.{md,json}, if all doors are measured. About two
minutes.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

import lab

BEAT_MS = 100
TOKENS = 100  # of each stream
BAR_MS = 5.0
MAX_THREADS = 64
MAX_MIB = 256
CONNECTIONS = 16  # of gRPC: 100 streams each at most
GRPC = ["--connections", str(CONNECTIONS)]
LIBRARY = "gRPC, by a client of its library"
BY_THE_KERNEL = ["--kernel-times", "--nap", "0.2"]
DOORS = {"SSE": ("http", ["--openai", *BY_THE_KERNEL]),
         "gRPC": ("grpc", [*GRPC, *BY_THE_KERNEL]), LIBRARY: ("grpc", GRPC)}


def status(pid):
    """Threads and resident MiB of a process."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return (int(re.search(r"Threads:\s+(\d+)", text)[1]),
            int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024)


class Watch(threading.Thread):
    """The most threads and memory that a process has had, until it is told to stop."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.stopping = pid, (0, 0.0), threading.Event()
        self.start()

    def run(self):
        while not self.stopping.wait(0.2):
            self.most = tuple(map(max, self.most, status(self.pid)))

    def stop(self):
        self.stopping.set()
        self.join()
        return self.most


def measure(args, door, number):
    """One run: a server of its own, all streams of one door."""
    name, flags = DOORS[door]
    server = subprocess.Popen([args.paced_server, str(BEAT_MS)], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    try:
        ports = dict(server.stdout.readline().split() for _ in ("grpc", "http"))
        time.sleep(0.5)
        before = status(server.pid)
        watch = Watch(server.pid)
        result = lab.run_loadgen(
            args.loadgen, f"127.0.0.1:{ports[name]}", "--concurrency", str(args.streams),
            "--requests", str(args.streams), "--prompt-tokens", "16", "--max-tokens", str(TOKENS),
            "--seed", str(number), "--go-last", *flags)
        threads, memory = watch.stop()
    finally:
        server.terminate()
        server.wait(timeout=30)
    summary = result["summary"]
    gaps = summary["inter_token_s"]
    return {"whole": summary["statuses"] == {"OK": args.streams} and not summary["short_answers"],
            "own_p50_ms": 1e3 * gaps["p50"] - BEAT_MS, "own_p99_ms": 1e3 * gaps["p99"] - BEAT_MS,
            "own_p999_ms": 1e3 * gaps["p999"] - BEAT_MS,
            "tokens_per_s": summary["output_tokens_per_s"], "threads_idle": before[0],
            "threads": threads, "mib_idle": before[1], "mib": memory}


def table(args, about, rounds):
    lines = [
        f"# {args.streams} streams at once", "",
        f"{lab.machine_line(about)}. An engine that computes nothing gives every stream a token "
        f"each {BEAT_MS} ms, {TOKENS} in all; clients are one thread of another process on the same "
        f"cores, at the lowest priority, that rests between reads (but not as gRPC's library). The "
        f"doors' own part: what lies between two tokens of a stream beyond {BEAT_MS} ms, by the "
        f"times at which they reach the client's socket, or, "
        f"where a client of gRPC's library is named, its program. Median (range) of {len(rounds)} "
        f"rounds.", "",
        "| door | own part p50, ms | p99, ms | p99.9, ms | tokens/s | threads, idle and most "
        "| resident MiB, idle and most |", "| --- | --- | --- | --- | --- | --- | --- |"]
    met = True
    for door in args.doors:
        runs = [r[door] for r in rounds]
        cells = [lab.spread([run[key] for run in runs], "{:.2f}")
                 for key in ("own_p50_ms", "own_p99_ms", "own_p999_ms")]
        cells.append(lab.spread([run["tokens_per_s"] for run in runs], "{:.0f}"))
        for key, form in (("threads", "{:.0f}"), ("mib", "{:.0f}")):
            cells.append(f"{lab.spread([run[key + '_idle'] for run in runs], form)}, "
                         f"{lab.spread([run[key] for run in runs], form)}")
        lines.append(f"| {door} | " + " | ".join(cells) + " |")
        p99 = statistics.median(run["own_p99_ms"] for run in runs)
        met &= door == LIBRARY or p99 <= BAR_MS
        met &= all(run["whole"] and run["threads"] <= MAX_THREADS and run["mib"] <= MAX_MIB
                   for run in runs)
    lines += ["", f"Asked for: at most {BAR_MS:g} ms at p99 as the sockets have it, {MAX_THREADS} "
              f"threads and {MAX_MIB} MiB, every stream whole: {'met' if met else 'MISSED'}."]
    return "\n".join(lines), met


def with_kept(rounds, about):
    """Those of the result that is there, if they are this commit's, and these."""
    kept = json.loads((lab.RESULTS / "streams.json").read_text(encoding="utf-8"))
    # Dirty by the result itself.
    commits = {m["commit"].removesuffix("-dirty") for m in (kept["machine"], about)}
    if len(commits) > 1:
        return rounds, about
    others = max(kept["machine"]["share_of_others"], about["share_of_others"])
    return kept["rounds"] + rounds, {**kept["machine"], "share_of_others": others}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--doors", nargs="+", choices=DOORS, default=list(DOORS),
                        help="keeps no result unless all are measured")
    parser.add_argument("--add", action="store_true",
                        help="beside the rounds of this commit that have been kept")
    parser.add_argument("--paced-server", default=lab.ROOT / "build/release/paced_server")
    lab.add_server_flags(parser)
    args = parser.parse_args()
    watch = lab.require_quiet(args.busy)

    rounds = []
    for number in range(args.rounds):
        doors = args.doors if number % 2 == 0 else reversed(args.doors)
        rounds.append({door: measure(args, door, number) for door in doors})
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
    about = lab.machine(watch)
    if args.add:
        rounds, about = with_kept(rounds, about)
    text, met = table(args, about, rounds)
    if len(args.doors) == len(DOORS):
        lab.report("streams", text, {"machine": about, "rounds": rounds})
    else:
        print(text)
    return not met


if __name__ == "__main__":
    sys.exit(main())
