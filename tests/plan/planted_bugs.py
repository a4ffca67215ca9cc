#!/usr/bin/env python3
"""Plants bugs in copies of engine/plan and demands that the simulator finds each of them.

A bug is a pair of texts: the first must occur exactly once in the file, and is replaced by the
second. The changed copy is compiled and linked before the library, so the rest of the scheduler is
the one that serves, and the product needs no hooks. The bugs are looked for from outside: without
the scheduler's CheckInvariants, and without the assertions of the changed file. Exit status 1 when
the simulator misses a bug or a pair no longer fits.
"""

import argparse
import concurrent.futures
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

MAX_SEEDS = 20_000
TIMEOUT_SECONDS = 60
PARALLEL = 2
CACHE = [path for path in [shutil.which("ccache")] if path]


class Bug(NamedTuple):
    name: str
    file: str
    right: str
    wrong: str
    more: tuple = ()  # further (right, wrong), for a bug that needs two hands


BUGS = [
    # Ends and events.
    Bug("a finish is dropped", "scheduler.cc",
        "  events_.push_back(event);\n  sequences_.erase(event.id);",
        "  if (event.slot >= 0) events_.push_back(event);\n  sequences_.erase(event.id);"),
    Bug("an event after the end", "scheduler.cc",
        "      End(sequence, newest);\n",
        "      End(sequence, newest);\n      events_.push_back(newest);\n"),
    Bug("a failed step hides a cancellation", "scheduler.cc",
        "cancelled ? sequence->ending : FinishReason::kError",
        "FinishReason::kError"),
    Bug("a cancelled sequence gets one more token", "scheduler.cc",
        "End(sequence, {.id = newest.id, .slot = slot, .finish = sequence->ending});",
        "newest.finish = sequence->ending, End(sequence, newest);",
        more=((" || sequence->ending != FinishReason::kNone) continue;", ") continue;"),)),
    Bug("cancel during a step frees at once", "scheduler.cc",
        "if (executing_ && sequence->planned_rows > 0)",
        "if (executing_ && sequence->planned_rows < 0)"),
    Bug("stop ids are ignored", "scheduler.cc",
        "request.stop_ids.end(), token_id)",
        "request.stop_ids.begin(), token_id)"),
    Bug("min_tokens is off by one", "scheduler.cc",
        "sequence->generated() >= request.min_tokens",
        "sequence->generated() + 1 >= request.min_tokens"),
    Bug("the context is one longer", "scheduler.cc",
        "|| sequence->size() >= config_.max_model_len) {",
        "|| sequence->size() > config_.max_model_len) {"),
    # Blocks.
    Bug("a block is freed twice", "kv_blocks.cc",
        "      pool_.Share(twin.block);\n", ""),
    Bug("a block is not freed", "kv_blocks.cc",
        "      pool_.Release(own, /*keep=*/false);\n", ""),
    Bug("the last block is missing", "scheduler.cc",
        "blocks_.BlocksFor(sequence->size()) <=",
        "blocks_.BlocksFor(sequence->size() - 1) <="),
    Bug("a kept block is owned and free", "kv_block_pool.cc",
        "  if (blocks_[block].owners == 0) Unlink(block);\n",
        ""),
    Bug("preemption keeps the frontier", "kv_blocks.cc",
        "  sequence->prefix = PrefixCache::kEmptyPrefix;\n  sequence->computed = 0;\n",
        "  sequence->prefix = PrefixCache::kEmptyPrefix;\n",
        more=(("sequence->computed = hits * block_tokens_;",
               "sequence->computed = std::max(sequence->computed, hits * block_tokens_);"),)),
    Bug("what never fits is queued", "scheduler.cc",
        "blocks_.BlocksFor(LongestContext(request)) > config_.num_blocks",
        "blocks_.BlocksFor(LongestContext(request)) > config_.num_blocks + 1"),
    # The prefix cache.
    Bug("a hit compares nothing", "prefix_cache.cc",
        "it == index_.end() || !Equals(it->second, parent, salt, tokens)",
        "it == index_.end()"),
    Bug("a hit does not compare the prefix before", "prefix_cache.cc",
        "entry.parent == parent && entry.salt == salt",
        "entry.salt == salt"),
    Bug("a hit does not compare the salt", "prefix_cache.cc",
        "entry.parent == parent && entry.salt == salt",
        "entry.parent == parent"),
    Bug("what a failed step wrote can be hit", "scheduler.cc",
        "    const bool cancelled = sequence->ending != FinishReason::kNone;",
        "    sequence->computed += std::exchange(sequence->planned_rows, 0);\n"
        "    blocks_.ShareFullBlocks(sequence);\n"
        "    const bool cancelled = sequence->ending != FinishReason::kNone;"),
    Bug("an overwritten block can be hit", "kv_blocks.cc",
        "  cache_.Erase(block);\n", ""),
    Bug("a block is shared before it is computed", "kv_blocks.cc",
        "block_tokens_ <= sequence->computed) {",
        "block_tokens_ <= sequence->size()) {"),
    Bug("a hit reaches the last token", "kv_blocks.cc",
        "(sequence.size() - 1) / block_tokens_",
        "sequence.size() / block_tokens_"),
    # Budgets and slots.
    Bug("the budget is exceeded by one", "scheduler.cc",
        "const int32_t rows_left = config_.max_num_batched_tokens - plan_.rows();",
        "const int32_t rows_left = config_.max_num_batched_tokens - plan_.rows() + 1;"),
    Bug("answers do not keep prompts small", "scheduler.cc",
        "if (!sequence->decodes()) prefill_left_ -= rows;",
        "if (sequence->decodes()) prefill_left_ -= rows;"),
    Bug("prompts beside answers are one longer", "scheduler.cc",
        "return answers ? config_.max_num_prefill_tokens :",
        "return answers ? config_.max_num_prefill_tokens + 1 :"),
    Bug("a slot is given twice", "scheduler.cc",
        "  free_slots_.pop_back();\n", ""),
    Bug("one preemption too many", "scheduler.cc",
        "return sequence.preemptions >= config_.max_preemptions;",
        "return sequence.preemptions > config_.max_preemptions;"),
    Bug("a resumed sequence samples again", "plan_rows.cc",
        "if (position >= sequence.size() - 1) return kSample;",
        "if (position >= sequence.prompt_size() - 1) return kSample;"),
    Bug("the prompt's end is scored", "plan_rows.cc",
        "position + 1 < sequence.prompt_size()",
        "position + 2 < sequence.prompt_size()"),
    # Turns.
    Bug("ageing is ignored", "policy.cc",
        "c.plans_waited >= wait_steps_max",
        "c.plans_waited < 0"),
    Bug("the small overtake", "scheduler.cc",
        "if (!TakeUp(sequence, prefix)) break;",
        "if (!TakeUp(sequence, prefix)) continue;"),
    Bug("a prefix is waited for without end", "scheduler.cc",
        "constexpr int32_t kMaxHeldBack = 64;",
        "constexpr int32_t kMaxHeldBack = 1 << 30;"),
    # The router.
    Bug("a hit is routed again", "kv_blocks.cc",
        "sequence->routed = sequence->computed;",
        "sequence->routed = 0;"),
    Bug("preemption keeps what was routed", "kv_blocks.cc",
        "  sequence->computed = 0;\n  sequence->routed = 0;\n",
        "  sequence->computed = 0;\n",
        more=(("sequence->routed = sequence->computed;",
               "sequence->routed = std::max(sequence->routed, sequence->computed);"),)),
    Bug("rows count as routed that were not", "scheduler_router.cc",
        "sequence->routed = plan.context_len[s];",
        "sequence->routed = sequence->size(); experts.resize(sequence->size());"),
    Bug("a row has the expert before its own", "plan_rows.cc",
        "sequence.experts.begin() + sequence.computed,",
        "sequence.experts.begin() + sequence.computed - (sequence.computed > 0),",
        more=(("sequence.experts.begin() + context);",
               "sequence.experts.begin() + context - (sequence.computed > 0));"),)),
    Bug("sampled tokens are not routed", "scheduler_router.cc",
        "for (const bool answers : {true, false})",
        "for (const bool answers : {false})"),
    Bug("the router's budget is ignored", "scheduler_router.cc",
        "config_.max_num_batched_tokens - plan.rows()});",
        "config_.max_num_batched_tokens});"),
    Bug("the router runs as far ahead as it can", "scheduler_router.cc",
        "ahead - sequence->routed,", "ahead + 1,"),
    # Guesses ahead of answers.
    Bug("a wrong guess counts as computed", "scheduler.cc",
        "sequence->size() - std::min(sampled, 1);",
        "sequence->size();"),
    Bug("a token behind a wrong guess counts", "scheduler.cc",
        "token_ids[*logit] == kNotSampled || ", ""),
    Bug("a guess runs past the end", "scheduler_drafts.cc",
        "LongestContext(sequence->request) - sequence->size());",
        "LongestContext(sequence->request) - sequence->size() + 1);"),
    Bug("what is guessed behind the newest is not sampled", "plan_rows.cc",
        "if (position >= sequence.size() - 1) return kSample;",
        "if (position == sequence.size() - 1) return kSample;"),
    Bug("a stop id is guessed", "scheduler_drafts.cc",
        "return std::binary_search(stop_ids.begin(), stop_ids.end(), token);",
        "return std::binary_search(stop_ids.begin(), stop_ids.begin(), token);"),
    Bug("guesses outlive their plan", "scheduler_drafts.cc",
        "    CutDraft(sequence, 0);\n", ""),
    Bug("guesses keep their blocks", "scheduler_drafts.cc",
        "  if (!Protected(*sequence)) blocks_.Trim(sequence, std::max(sequence->known(), position));\n",
        ""),
    Bug("a wrong guess stays routed", "scheduler_drafts.cc",
        "Forget(sequence, first + accepted);",
        "Forget(sequence, first + accepted + 1);"),
    Bug("a wrong guess leaves its expert", "scheduler_drafts.cc",
        "  if (static_cast<int32_t>(sequence->experts.size()) > position) "
        "sequence->experts.resize(position);\n",
        ""),
    Bug("a guess brings an expert", "scheduler_drafts.cc",
        "    if (!experts_.all_fit()) break;\n", ""),
    Bug("wrong guesses are counted right", "scheduler_drafts.cc",
        "  accepted_tokens_ += accepted;\n", "  accepted_tokens_ += rows - 1;\n"),
    # Experts' turns.
    Bug("nobody is overdue", "expert_policy.cc",
        "if (candidates_[i].overdue) overdue.push_back(i);",
        ""),
    Bug("the shortest wait goes first", "expert_policy.cc",
        "candidates_[a].plans_waited > candidates_[b].plans_waited",
        "candidates_[a].plans_waited < candidates_[b].plans_waited"),
    Bug("one sequence more than the cap", "expert_policy.cc",
        "static_cast<int32_t>(choice_.chosen.size()) >= limits_.sequences;",
        "static_cast<int32_t>(choice_.chosen.size()) > limits_.sequences;"),
    Bug("rows run past the experts of the step", "plan_rows.cc",
        "position < end && (experts >> sequence.experts[position] & 1) != 0",
        "position < end"),
    # Units of weights.
    Bug("what is held takes no room", "expert_policy.cc",
        "(unit.owners & experts) != 0 || unit.held",
        "(unit.owners & experts) != 0"),
    Bug("one byte more than fits", "expert_cache.cc",
        "  int64_t left = room();",
        "  int64_t left = room() + 1;"),
    Bug("a needed unit is evicted", "expert_cache.cc",
        "if (left >= bytes || needed(unit)) break;",
        "if (left >= bytes) break;"),
    Bug("a unit on its way is loaded again", "expert_cache.cc",
        "    if (state(unit) != State::kAbsent) continue;\n    absent.push_back(unit);",
        "    if (state(unit) == State::kResident) continue;\n    absent.push_back(unit);"),
    Bug("a stream has one layer more than fits", "expert_cache.cc",
        "  plan->stream_layers = window;",
        "  plan->stream_layers = window + 1;"),
    Bug("a stream takes no room", "expert_cache.cc",
        "  stream_bytes_ = BytesInWindow(units, window);", ""),
    Bug("what is evicted for a stream is forgotten", "expert_cache.cc",
        "    if (needed(victim)) absent.push_back(victim);\n", ""),
    Bug("a promise makes room for a stream", "expert_cache.cc",
        "entry.pinned || expected[unit] >= kPromised) continue;",
        "entry.pinned) continue;"),
    Bug("a failed load is there", "expert_cache.cc",
        "units_[unit].state = State::kAbsent;\n  units_[unit].needed = -1;",
        "units_[unit].state = State::kResident;\n  units_[unit].needed = -1;"),
    Bug("a late unit is a hit", "expert_cache.cc",
        "stats_.hits += state(unit) == State::kResident;",
        "stats_.hits += state(unit) != State::kAbsent;"),
    Bug("a promise is forgotten", "expert_planner.cc",
        "    promised_ |= expert;\n", ""),
]


class Outcome(NamedTuple):
    bug: Bug
    seed: int  # 0: not found
    message: str


def plant(bug, source, folder):
    """Writes the changed copy and returns its path; ValueError when a pair no longer fits."""
    text = (source / "engine/plan" / bug.file).read_text(encoding="utf-8")
    for right, wrong in ((bug.right, bug.wrong), *bug.more):
        if text.count(right) != 1:
            raise ValueError(f"STALE: does not occur exactly once: {right!r}")
        text = text.replace(right, wrong)
    path = folder / "engine/plan" / bug.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def try_bug(number, bug, args):
    folder = args.work / f"{number:02d}"
    try:
        path = plant(bug, args.source, folder)
    except ValueError as stale:
        return Outcome(bug, 0, str(stale))
    mutant, binary = folder / "mutant.o", folder / "scheduler_sim"
    commands = [
        # A mutant of an unchanged scheduler comes out of the compiler's cache.
        [*CACHE, args.compiler, "-std=c++20", "-O1", "-w", "-DNDEBUG", f"-I{args.source}", "-c",
         str(path), "-o", str(mutant)],
        [args.compiler, str(mutant), *args.objects, "-pthread", "-o", str(binary)],
    ]
    for command in commands:
        build = subprocess.run(command, capture_output=True, text=True, check=False)
        if build.returncode:
            return Outcome(bug, 0, f"STALE: does not compile: {build.stderr.splitlines()[:1]}")
    return run_simulator(binary, bug)


def run_simulator(binary, bug):
    command = [str(binary), "--seeds", str(MAX_SEEDS), "--threads", "1",
               "--check_invariants", "0"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False,
                             timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return Outcome(bug, 0, f"HANGS for {TIMEOUT_SECONDS} s")
    found = re.search(r"^seed (\d+): (.*)", run.stdout, re.MULTILINE)
    if run.returncode == 0:
        return Outcome(bug, 0, f"MISSED in {MAX_SEEDS} seeds")
    if not found:
        return Outcome(bug, 0, f"NO VERDICT: exit status {run.returncode}")
    message = found.group(2)
    assertion = re.search(r"Assertion `(.*)' failed", run.stderr)
    if assertion:
        message = f"assert({assertion.group(1)})"
    return Outcome(bug, int(found.group(1)), message)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=pathlib.Path, required=True, help="the project's root")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for the copies")
    parser.add_argument("--compiler", required=True)
    parser.add_argument("objects", nargs="+", help="main object, simulator library, plan library")
    return parser.parse_args()


def main():
    args = parse_args()
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        jobs = [pool.submit(try_bug, i, bug, args) for i, bug in enumerate(BUGS)]
        outcomes = [job.result() for job in jobs]
    print(f"{'planted bug':<44} {'seed':>6}  found by")
    for outcome in outcomes:
        print(f"{outcome.bug.name:<44} {outcome.seed or '-':>6}  {outcome.message[:90]}")
    seeds = [outcome.seed for outcome in outcomes if outcome.seed]
    print(f"{len(seeds)} of {len(BUGS)} found, median {statistics.median(seeds or [0]):.0f} seeds, "
          f"most {max(seeds or [0])}; {time.monotonic() - start:.0f} s")
    return 0 if len(seeds) == len(BUGS) else 1


if __name__ == "__main__":
    sys.exit(main())
