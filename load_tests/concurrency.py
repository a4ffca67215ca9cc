#!/usr/bin/env python3
"""What batching gives: tokens a second of N clients at once beside one, on the same server.

Usage: load_tests/concurrency.py [--clients 16] [--rounds 5]

Starts `pregate serve`, then runs closed loops with one client and with N by turns, so that both see
the same mood of the machine; the ratio is formed within a round. Exit status 1 if its median is
below 2. Writes load_tests/results/concurrency.{md,json}. About a minute and a half.
"""

import itertools
import statistics
import sys

import lab

BAR = 2.0
REQUESTS_EACH = {"one": 12, "many": 4}  # of every client: a loop takes some seconds


def measure(args, address, clients, requests_each, seeds=itertools.count()):
    # A seed of its own: no prompt of this run is in the prefix cache.
    result = lab.run_loadgen(
        args.loadgen, address, "--concurrency", str(clients), "--requests",
        str(clients * requests_each), "--prompt-tokens", str(args.prompt_tokens), "--max-tokens",
        str(args.max_tokens), "--seed", str(next(seeds)))
    summary = result["summary"]
    if summary["statuses"] != {"OK": clients * requests_each} or summary["short_answers"]:
        sys.exit(f"not every answer is whole: {summary['statuses']}")
    return {"clients": clients, "output_tokens_per_s": summary["output_tokens_per_s"],
            "inter_token_ms": 1e3 * summary["inter_token_s"]["mean"],
            "time_to_first_token_ms": 1e3 * summary["time_to_first_token_s"]["p50"]}


def table(args, about, rounds):
    lines = [
        f"# {args.clients} clients at once beside one", "",
        f"{lab.machine_line(about)}. {args.model_name}, prompts of {args.prompt_tokens} random "
        f"tokens, answers of {args.max_tokens}, closed loop; server and clients share the "
        f"threads. Median (range) of {args.rounds} rounds.", "",
        "| clients | output tokens/s | mean gap between tokens, ms | median time to first "
        "token, ms |", "| --- | --- | --- | --- |"]
    for which in ("one", "many"):
        runs = [r[which] for r in rounds]
        cells = [lab.spread([run[key] for run in runs]) for key in
                 ("output_tokens_per_s", "inter_token_ms", "time_to_first_token_ms")]
        lines.append(f"| {runs[0]['clients']} | " + " | ".join(cells) + " |")
    ratios = [r["many"]["output_tokens_per_s"] / r["one"]["output_tokens_per_s"] for r in rounds]
    median = statistics.median(ratios)
    lines += ["", f"Ratio within a round: {lab.spread(ratios, '{:.2f}')}; at least {BAR:g} is "
              f"asked for: {'met' if median >= BAR else 'MISSED'}."]
    return "\n".join(lines), ratios


def main():
    args = lab.closed_loop_arguments(__doc__)
    watch = lab.require_quiet(args.busy)

    counts = {"one": 1, "many": args.clients}
    rounds = []
    with lab.serving(args.pregate, args.model) as address:
        measure(args, address, args.clients, 1)  # pages and threads are warm after this
        for number in range(args.rounds):
            order = ("one", "many") if number % 2 == 0 else ("many", "one")
            rounds.append({which: measure(args, address, counts[which], REQUESTS_EACH[which])
                           for which in order})
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
    about = lab.machine(watch)
    text, ratios = table(args, about, rounds)
    lab.report("concurrency", text, {"machine": about, "model": args.model_name,
                                           "rounds": rounds, "ratios": ratios})
    return statistics.median(ratios) < BAR


if __name__ == "__main__":
    sys.exit(main())
