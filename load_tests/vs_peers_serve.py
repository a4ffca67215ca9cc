#!/usr/bin/env python3
"""`pregate serve` beside llama.cpp's `llama-server`: what clients of both see under the same load.

Usage: load_tests/vs_peers_serve.py --llama LLAMA_SERVER --model MODEL.gguf [--rounds 5]

Called by vs_peers.sh. All servers run for the whole time, as many threads and the same tokens of
context each: llama-server with 8 and with 32 slots, Pregate with 32. In each round each load goes
to one server after the other: the same prompts of random tokens, lengths and send times, greedy,
the end of text ignored. No prompt comes twice, so that Pregate's prefix cache finds nothing; the
peer's caches are off. Its clients ask for its cheapest sampler (see http_client.h).

The client shares the processors. It is the same program for both protocols (loadgen), one thread
in C++ that runs before any server; its own processor time is measured and shown for each server.
Times are the client's: to the first token, and between two messages with tokens. Exit status 1 if
a bar is missed. Writes load_tests/results/vs_peers_serve.{md,json}.
"""

import argparse
import contextlib
import pathlib
import re
import statistics
import sys

import lab
import peers

CONTEXT = 8192  # tokens of all slots together
SLOTS = (8, 32)  # of llama-server, and in the comparison of memory; else Pregate has the most
PROGRAMS = ("pregate", *(f"llama-server -np {slots}" for slots in SLOTS))
LENGTHS = ("--prompt-tokens", "64", "--max-tokens", "64")
CLOSED = {1: 4, 8: 24, 32: 64}  # clients: requests of them all
OPEN_SHARE, OPEN_SECONDS = 0.8, 15  # of the better llama-server's capacity; of arrivals
OPEN = "open"
FIRST, GAP = "time_to_first_token_s", "longest_gap_s"


def make_rows():
    """{(clients, metric): Row}"""
    rows = {}
    for clients, bar in ((1, 1.5), (8, 2.0), (32, 3.0)):
        rows[(clients, "output_tokens_per_s")] = peers.Row(
            f"{clients} client{'s' if clients > 1 else ''}: output tokens/s", bar)
    for load, words, bars in ((8, "8 clients", (0.5, 0.2)),
                              (OPEN, f"Poisson at {OPEN_SHARE:g} × capacity", (0.5, 0.5))):
        for metric, what, bar in ((FIRST, "time to first token", bars[0]),
                                  (GAP, "longest gap of an answer", bars[1])):
            rows[(load, metric)] = peers.Row(f"{words}: {what}, ms, p95", bar, scale=1e3,
                                             higher_is_better=False)
    for slots in SLOTS:
        rows[("memory", slots)] = peers.Row(f"{slots} slots: peak memory, MiB", 1.0, scale=2**-20,
                                            higher_is_better=False)
    return rows


@contextlib.contextmanager
def server(args, program, slots):
    """Yields (address, process)."""
    port = str(lab.free_port())
    if program == "pregate":
        command = [args.pregate, "serve", args.model, "--port", "0",
                   "--grpc-port", port, "--metrics-port", "0",
                   "--max-num-seqs", str(slots), "--max-model-len", str(CONTEXT // slots),
                   "--threads", str(args.threads)]
    else:
        command = [args.llama, "-m", args.model, "--host", "127.0.0.1", "--port", port, "-t",
                   str(args.threads), "-tb", str(args.threads), "-c", str(CONTEXT), "-np",
                   str(slots), "--cache-ram", "0", "--no-ui"]
    with lab.running(*command) as process:
        yield f"127.0.0.1:{port}", process


@contextlib.contextmanager
def all_servers(args):
    """Yields {program: (address, process)}."""
    with contextlib.ExitStack() as stack:
        yield {program: stack.enter_context(server(args, program, slots))
               for program, slots in zip(PROGRAMS, (max(SLOTS), *SLOTS))}


def peak_memory(process):
    """The most bytes of memory that a process has had."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return 1024 * int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1])


def send(args, program, address, flags, seed):
    """Sends one load; returns loadgen's summary of it."""
    protocol = () if program == "pregate" else ("--llama-server",)
    result = lab.run_loadgen(args.loadgen, address, *protocol, *LENGTHS, *flags, "--seed",
                             str(seed), "--timeout", "300")
    summary = result["summary"]
    if summary["statuses"] != {"OK": summary["requests"]} or summary["short_answers"]:
        sys.exit(f"{program}: not every answer is whole: {summary}")
    return summary


def value_of(summary, metric):
    return summary[metric]["p95"] if metric in (FIRST, GAP) else summary[metric]


def pregate_memory(args, slots):
    """The peak of a server with so few slots, after the largest of the loads."""
    with server(args, "pregate", slots) as (address, process):
        clients = max(CLOSED)
        send(args, "pregate", address,
             ("--concurrency", str(clients), "--requests", str(CLOSED[clients])), 2)
        return peak_memory(process)


def run_round(args, servers, number, rows, runs):
    """Sends each load to each server and notes what came of it."""
    rate = None
    for load, part in enumerate((*CLOSED, OPEN)):
        if part == OPEN:
            flags = ("--rate", f"{rate:.4f}", "--duration", str(args.open_seconds))
        else:
            flags = ("--concurrency", str(part), "--requests", str(CLOSED[part]))
        summaries = {}
        for program in peers.by_turns(PROGRAMS, number):
            summaries[program] = send(args, program, servers[program][0], flags,
                                      100 * (number + 1) + load)
            runs.append({"round": number, "program": program, "load": part, "rate": rate,
                         "summary": summaries[program]})
        for (row_part, metric), row in rows.items():
            if row_part == part:
                row.add({program: value_of(summary, metric)
                         for program, summary in summaries.items()})
        if part == max(CLOSED):
            rate = OPEN_SHARE * max(summaries[program]["requests_per_s"]
                                    for program in PROGRAMS[1:])


def measure(args):
    """Runs the rounds; returns the rows and every run's summary."""
    rows, runs = make_rows(), []
    with all_servers(args) as servers:
        for program, (address, _) in servers.items():  # pages and threads are warm after this
            send(args, program, address, ("--concurrency", "8", "--requests", "8"), 1)
        for number in range(args.rounds):
            run_round(args, servers, number, rows, runs)
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
        peaks = {program: peak_memory(process) for program, (_, process) in servers.items()}
    for slots in SLOTS:
        rows[("memory", slots)].add({"pregate": peaks["pregate"] if slots == max(SLOTS) else
                                     pregate_memory(args, slots),
                                     f"llama-server -np {slots}":
                                     peaks[f"llama-server -np {slots}"]})
    return rows, runs


def client_cost(threads, runs, program):
    """The generator's share of the machine's processor time, in the closed loop of 8 clients."""
    shares = [run["summary"]["generator_cpu_s"] / run["summary"]["duration_s"] / threads
              for run in runs if run["program"] == program and run["load"] == 8]
    return f"{100 * statistics.median(shares):.1f} % ({program})"


def table(args, about, version, rows, runs):
    rates = [run["rate"] for run in runs if run["load"] == OPEN and run["program"] == "pregate"]
    cost = ", ".join(client_cost(args.threads, runs, program) for program in PROGRAMS)
    lines = [
        "# `pregate serve` beside `llama-server`", "",
        f"{lab.machine_line(about)}. Peer: {version}.", "",
        f"{pathlib.Path(args.model).stem}, prompts of 64 random tokens, answers of 64; servers and "
        f"clients share the threads. Median (range) of {args.rounds} rounds, in which each load "
        "goes to one server after the other; the ratio is formed within a round, to the better "
        f"llama-server of that round. Each server has {CONTEXT} tokens of context in all, Pregate "
        f"{max(SLOTS)} slots. Poisson arrivals at {lab.spread(rates, '{:.2f}')} requests/s for "
        f"{args.open_seconds:g} s: {OPEN_SHARE:g} × what the better llama-server answered of "
        f"{max(CLOSED)} clients in the same round. Longest gap: between two messages with tokens. "
        "Peak memory: VmHWM after all rounds; of Pregate with fewer slots, after one load that "
        f"fills them. The clients' own processor time, with 8 of them: {cost}.", ""]
    shown = list(rows.values())
    lines += peers.table(shown, PROGRAMS)
    return "\n".join([*lines, "", peers.verdict(shown)])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", required=True, help="llama.cpp's llama-server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--open-seconds", type=float, default=OPEN_SECONDS)
    lab.add_server_flags(parser)
    args = parser.parse_args()
    args.model = args.model or lab.fetch_model("smollm2")
    args.threads = lab.threads()
    version = peers.llama_cpp_version(args.llama)
    print(version, file=sys.stderr)
    watch = lab.require_quiet(args.busy)
    rows, runs = measure(args)
    about = lab.machine(watch)
    lab.report("vs_peers_serve", table(args, about, version, rows, runs),
               {"machine": about, "version": version, "rounds": args.rounds,
                "model": pathlib.Path(args.model).stem,
                "rows": [row.json() for row in rows.values()], "runs": runs})
    return not all(row.met() for row in rows.values())


if __name__ == "__main__":
    sys.exit(main())
