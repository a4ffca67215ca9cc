#!/usr/bin/env python3
"""Turns the files that gpu_report.sh has written into a table.

Usage: gpu_report.py FOLDER
"""

import json
import pathlib
import sys


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def print_experts(rows):
    """Experts of which a share is on the GPU, the others in the host's memory."""
    if not rows:
        return
    print("\nFour experts of a Read-ME model, half of the layers of Llama 8B in bfloat16, 32 clients, "
          "experts of random tokens (nothing sticks). planned: order, prefetch and eviction by the "
          "queues; demand: everybody in order, what a step needs is loaded then, LRU; both layer by "
          "layer.\n")
    print("| on the GPU | | tokens/s | ÷ demand | kernels stand still | link busy meanwhile "
          "| GB loaded | GB in vain | found there |")
    print("| --- | --- " + "| ---: " * 7 + "|")
    demand = {row["resident_percent"]: row for row in rows if row["way"] == "demand"}
    for row in rows:
        other = demand.get(row["resident_percent"])
        gain = (f"{row['tokens_per_s'] / other['tokens_per_s']:.2f}"
                if other and row["way"] == "planned" else "")
        needed = row["hits"] + row["late"] + row["misses"]
        print(f"| {row['resident_percent']} % | {row['way']} | {row['tokens_per_s']:.0f} | {gain} "
              f"| {row['stall_share']:.0%} | {row['link_busy_while_stalled']:.0%} "
              f"| {row['loaded_bytes'] / 1e9:.0f} | {row['wasted_bytes'] / 1e9:.0f} "
              f"| {row['hits'] / max(needed, 1):.0%} |"
              + (f" {row['failed']} answers failed" if row["failed"] else ""))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    roofs = json.loads((folder / "roofs.json").read_text())
    peers = {(row["case"], row["prompt_tokens"], row["batch_size"]): row
             for row in lines_of(folder / "peers.jsonl")}
    copy, halves = roofs["copy_bytes_per_s"], roofs["f16_ops_per_s"]
    print(f"{roofs['device']}: copies {copy / 1e9:.0f} GB/s, products of halves "
          f"{halves / 1e12:.0f} TFLOP/s, of bfloat16 {roofs['bf16_ops_per_s'] / 1e12:.0f}.\n")
    print("Weights alone are counted: neither keys and values nor attention.\n")
    print("| case | prompt | batch | prefill tok/s | of the products | decode tok/s | GB/s "
          "| of the copies | × transformers, prefill | decode |")
    print("| --- " + "| ---: " * 9 + "|")
    for row in lines_of(folder / "bench.jsonl"):
        case = row["case"].removesuffix("-prefill")
        peer = peers.get((case, row["prompt_tokens"], row["batch_size"]), {})

        def ratio(key):
            return f"{row[key] / peer[key]:.1f}" if key in peer else "-"

        if row.get("ranks", 1) > 1:  # the roofs are one GPU's
            print(f"| {case}, {row['ranks']} GPUs | {row['prompt_tokens']} | {row['batch_size']} "
                  f"| {row['prefill_tokens_per_s']:.0f} | - | {row['decode_tokens_per_s']:.0f} "
                  f"| {row['decode_bytes_per_s'] / 1e9:.0f} | - | - | - |")
            continue
        print(f"| {case} | {row['prompt_tokens']} | {row['batch_size']} "
              f"| {row['prefill_tokens_per_s']:.0f} | {row['prefill_ops_per_s'] / halves:.0%} "
              f"| {row['decode_tokens_per_s']:.0f} | {row['decode_bytes_per_s'] / 1e9:.0f} "
              f"| {row['decode_bytes_per_s'] / copy:.0%} | {ratio('prefill_tokens_per_s')} "
              f"| {ratio('decode_tokens_per_s')} |")
    if (folder / "experts.jsonl").exists():
        print_experts(lines_of(folder / "experts.jsonl"))
    print("\nTests: " + "; ".join(
        line for line in (folder / "tests.txt").read_text().splitlines()
        if line.startswith("[  ") and ("PASSED" in line or "FAILED" in line or "SKIPPED" in line)
        and "tests" in line or "exit status" in line))


if __name__ == "__main__":
    main()
