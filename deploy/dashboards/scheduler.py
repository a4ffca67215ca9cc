"""The scheduler: what a step's time is made of, how full steps are, who is set back."""

from panels import (NUMBER, ORANGE, RED, SECONDS, SHARE, STEPS_PER_SECOND, TOKENS_PER_SECOND, graph,
                    mean, new_dashboard, number, quantile, quantiles, rate, row, series, total)

STEPS = total(rate("pregate_step_rows_count"))
PHASE_MEAN = (f"{total(rate('pregate_step_seconds_sum'), 'phase')} / "
              f"{total(rate('pregate_step_seconds_count'), 'phase')}")


def numbers():
    yield number("Steps", STEPS_PER_SECOND, "Of all pods.", STEPS, width=4)
    yield number("Time of a step", SECONDS, "Mean, all phases. Every running answer gets at most "
                 "one token (more with --draft-tokens) in this time.",
                 f"{total(rate('pregate_step_seconds_sum'))} / {STEPS}", width=4)
    yield number("Rows of a step", NUMBER, "Mean number of tokens that the model computes at once. "
                 "The most is --max-num-batched-tokens.", mean("pregate_step_rows"), width=4,
                 decimals=1)
    yield number("Overhead", SHARE, "Share of the time of steps that is neither the model nor its "
                 "router nor the sampler: planning and committing.",
                 total(rate("pregate_step_seconds_sum", 'phase=~"plan|commit"')) + " / "
                 + total(rate("pregate_step_seconds_sum")), [(0.05, ORANGE)], width=4)
    yield number("Set back", "suffix: answers/s", "Running answers that gave their memory to "
                 "others and will be computed again: lost work. More than a few: lower "
                 "--max-num-seqs or give more --kv-cache-memory.",
                 total(rate("pregate_num_preemptions_total")), [(0.01, ORANGE), (1, RED)], width=4)
    yield number("Prompt found in the cache", SHARE, "Tokens of prompts that need not be computed, "
                 "because another answer had the same beginning.",
                 f"{total(rate('pregate_prefix_cache_hits_total'))} / "
                 f"{total(rate('pregate_prefix_cache_queries_total'))}", width=4)


def steps():
    yield row("What a step is made of")
    yield graph("Time of a step, by phase", SECONDS, "Means, one on another. execute contains "
                "waiting for expert weights (see Experts).", [(PHASE_MEAN, "{{phase}}")], width=8,
                stacked=True)
    yield graph("Time of a phase, p99", SECONDS, "The steps that hurt: what is long here makes the "
                "gaps between tokens long.",
                [(quantile(0.99, "pregate_step_seconds", "phase"), "{{phase}}")], width=8)
    yield graph("How full steps are", NUMBER, "Rows of a step. Prompts come in chunks beside single "
                "new tokens. p99 at --max-num-batched-tokens: prompts wait for room.",
                [(mean("pregate_step_rows"), "mean"),
                 (quantile(0.99, "pregate_step_rows"), "p99")], width=8)


def places():
    yield row("Who runs, who waits")
    yield graph("Running and waiting", NUMBER, "Sums over the pods. Waiting while running is below "
                "--max-num-seqs: the KV cache is the limit.",
                [(total(series("pregate_num_requests_running")), "running"),
                 (total(series("pregate_num_requests_waiting")), "waiting")], width=8)
    yield graph("Time in the queue", SECONDS, "From submission to the first step, of all answers "
                "that ended.", quantiles("pregate_request_queue_time_seconds"), width=8)
    yield graph("Step without end", SECONDS, "Age of the newest step of pods in which answers run; "
                "0 for idle ones. Seconds here are a stalled engine; an alert pages at 30.",
                [(f"{series('pregate_last_step_age_seconds')} * "
                  f"({series('pregate_num_requests_running')} > bool 0)", "{{pod}}")], width=8)


def memory():
    yield row("Keys and values")
    yield graph("KV cache, by pod", SHARE, "Share of its blocks that answers hold. What the prefix "
                "cache keeps for later does not count.",
                [(series("pregate_kv_cache_usage_perc"), "{{pod}}")], width=8, most=1)
    yield graph("Set back, by pod", "suffix: answers/s", "Running answers that gave their memory "
                "to others.", [(rate("pregate_num_preemptions_total"), "{{pod}}")], width=8)
    yield graph("Tokens that cost less", TOKENS_PER_SECOND, "Prompt tokens found in the prefix "
                "cache, and tokens of answers guessed ahead (--draft-tokens): all, and those that "
                "were right.",
                [(total(rate("pregate_prefix_cache_hits_total")), "from the prefix cache"),
                 (total(rate("pregate_spec_decode_num_draft_tokens_total")), "guessed"),
                 (total(rate("pregate_spec_decode_num_accepted_tokens_total")), "guessed right")],
                width=8)


def build():
    contents = [*numbers(), *steps(), *places(), *memory()]
    return new_dashboard(
        "scheduler", "Pregate: scheduler", "What a step's time is made of, how full steps are, who "
        "waits, who is set back.", contents)
