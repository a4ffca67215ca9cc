"""Experts of Read-ME models: were the weights there, what did it cost when not, would another way
to choose have done better."""

from panels import (BYTES_PER_SECOND, NUMBER, ORANGE, RED, ROWS_PER_SECOND, SECONDS, SHARE,
                    UNITS_PER_SECOND, graph, mean, new_dashboard, number, rate, row, series, total)

NEEDED = "pregate_expert_cache_requests_total"
STALL = "pregate_expert_stall_seconds_total"
STEP_TIME = "pregate_step_seconds_sum"
ROUTED = "pregate_distinct_experts_per_step_count"  # only models with a router have it
HIT, EXECUTE = 'outcome="hit"', 'phase="execute"'


def of_routed(expression):
    """Of the pods whose model has a router."""
    return f"{expression} and on (namespace, job, pod, instance) {series(ROUTED)}"


def stalled(by=""):
    """Share of the time of steps."""
    return f"{total(rate(STALL), by)} / {total(of_routed(rate(STEP_TIME)), by)}"


def share_below(histogram, le):
    """Share of what a histogram of whole numbers has seen that is at most `le`."""
    within = total(rate(f"{histogram}_bucket", f'le=~"{le}(.0)?"'))
    return f"{within} / {total(rate(histogram + '_count'))}"


def ratio(name, matcher, by=""):
    return f"{total(rate(name, matcher), by)} / {total(rate(name), by)}"


def numbers():
    yield number("Stalled", SHARE, "Share of the time of steps that is waiting for expert weights. "
                 "This is the price of experts that do not fit.", stalled(),
                 [(0.1, ORANGE), (0.3, RED)], width=4)
    yield number("Found in memory", SHARE, "Of the units of weights that steps needed, those that "
                 "were there.", ratio(NEEDED, HIT), width=4)
    yield number("Fits in memory", SHARE, "The share of the expert weights that fits "
                 "(--expert-cache-memory): what accesses chosen blindly would hit. Empty when all "
                 "of them fit.", f"avg({series('pregate_expert_floor_hit_ratio')})", width=4)
    yield number("Experts of a step", NUMBER, "Mean number of experts that a step computes rows "
                 "of. Fewer is better: ordering steps by expert lowers it.",
                 mean("pregate_distinct_experts_per_step"), width=4, decimals=1)
    yield number("Loaded", BYTES_PER_SECOND, "Weights read from disk. Beside what the disk can do: "
                 "at its limit only more memory helps.",
                 total(rate("pregate_expert_load_bytes_total")), width=4)
    yield number("Loaded in vain", SHARE, "Of the bytes loaded, those evicted before a step needed "
                 "them.", f"{total(rate('pregate_expert_wasted_bytes_total'))} / "
                 f"({total(rate('pregate_expert_load_bytes_total'))} > 0)", [(0.2, ORANGE)],
                 width=4)


def residency():
    yield row("Were the weights there?")
    yield graph("Where the units needed were", UNITS_PER_SECOND, "hit: in memory. late: on their "
                "way. miss: neither, so the step waited for all of the load. Many late: loads "
                "start too late (see how far ahead they are known).",
                [(total(rate(NEEDED), "outcome"), "{{outcome}}")], width=8, stacked=True)
    yield graph("Found in memory, by pod", SHARE, "Hits of all units needed.",
                [(ratio(NEEDED, HIT, "pod"), "{{pod}}")], width=8, most=1)
    yield graph("Beside other ways to evict", SHARE, "What each would have hit on the same "
                "accesses since the start, mean of the pods; belady_offline knows the future, "
                "static keeps the most used. Ours far below lru or lfu: try --expert-eviction. "
                "floor is the share that fits.",
                [(f"avg by (policy) ({series('pregate_expert_shadow_hit_ratio')})", "{{policy}}"),
                 (f"avg({series('pregate_expert_floor_hit_ratio')})", "floor"),
                 (f"{total(series(NEEDED, HIT))} / "
                  f"{total(series(NEEDED))}", "ours")], width=8, most=1)


def cost():
    yield row("What it cost")
    yield graph("Stalled, by pod", SHARE, "Share of the time of steps that is waiting for expert "
                "weights. An alert says so above 30 %.", [(stalled("pod"), "{{pod}}")], width=8,
                most=1)
    yield graph("Stall of a step", SECONDS, "Mean, beside the mean time of executing a step: the "
                "rest is arithmetic. Every stream in the step waits this long.",
                [(f"{total(rate(STALL))} / {total(rate(ROUTED))}", "stall"),
                 (f"{total(of_routed(rate(STEP_TIME, EXECUTE)))} / {total(rate(ROUTED))}",
                  "execute")], width=8)
    yield graph("Bytes loaded, by cause", BYTES_PER_SECOND, "known: the router named them before "
                "the step. guessed: expected by the queues. demand: asked for in the step itself.",
                [(total(rate("pregate_expert_load_bytes_total"), "cause"), "{{cause}}"),
                 (total(rate("pregate_expert_wasted_bytes_total")), "in vain")], width=8)


def demand():
    yield row("What steps ask for")
    yield graph("Steps by experts met", SHARE, "Share of the steps that compute rows of at most so "
                "many experts. The lines rise when steps are put together by expert.",
                [(share_below("pregate_distinct_experts_per_step", le),
                  f"at most {le}") for le in (1, 2, 4)], width=8, most=1)
    yield graph("Rows, by expert", ROWS_PER_SECOND, "How the load is spread. If a few experts take "
                "most of it, they should fit in memory.",
                [(total(rate("pregate_expert_rows_total"), "expert"), "expert {{expert}}")],
                width=8, stacked=True)
    yield graph("Loads known ahead", SHARE, "Share of the loads that began so many steps before "
                "their first use. It grows with the queue; what is not known ahead cannot hide "
                "behind arithmetic.",
                [(f"1 - {share_below('pregate_expert_lookahead_steps', steps - 1)}",
                  f"{steps} or more") for steps in (1, 2, 4)], width=8, most=1)


def build():
    contents = [*numbers(), *residency(), *cost(), *demand()]
    return new_dashboard(
        "experts", "Pregate: experts", "Read-ME models only: their router names the experts of a "
        "token ahead. Were the weights there, what did it cost when not, what do steps ask for.",
        contents)
