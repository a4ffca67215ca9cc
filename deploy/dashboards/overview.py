"""The overview: is it well, where did the milliseconds go, what comes in, what is full."""

from panels import (BYTES, NUMBER, ORANGE, RED, REQUESTS_PER_SECOND, SECONDS, SHARE,
                    SPANS_PER_SECOND, TOKENS_PER_SECOND, graph, mean, new_dashboard, number, quantile, quantiles,
                    rate, row, series, total)

ENDED = total(rate("pregate_request_success_total"))
SHED = total(rate("pregate_requests_rejected_total", 'reason="queue_full"'))
FAILED = total(rate("pregate_request_success_total", 'finished_reason=~"error|deadline|drain"'))
STALL = f"({total(rate('pregate_expert_stall_seconds_total'))} or vector(0))"
PODS = f"count({series('pregate_build_info')})"


def phase(name):
    """Seconds in a phase of the step, a second of a pod."""
    return total(rate("pregate_step_seconds_sum", f'phase="{name}"'))


def numbers():
    yield number("Alerts", NUMBER, "Alerts of Pregate that fire now, of every model; "
                 "marks on the graphs name them. deploy/RUNBOOK.md has a section for each.",
                 'count(ALERTS{alertname=~"Pregate.*",alertstate="firing"}) or vector(0)',
                 [(1, RED)])
    yield number("Pods that answer", NUMBER, "Pods whose metrics page was read at the last scrape.",
                 PODS)
    yield number("First token, p99", SECONDS, "From submission to the first token, all models "
                 "together. Red above the objective of the rules.",
                 quantile(0.99, "pregate_time_to_first_token_seconds"),
                 [(1.25, ORANGE), (2.5, RED)])
    yield number("Token to token, p99", SECONDS, "From one token of an answer to the next: what a "
                 "reader of a stream feels. Red above the objective of the rules.",
                 quantile(0.99, "pregate_inter_token_latency_seconds"),
                 [(0.1, ORANGE), (0.2, RED)])
    yield number("Turned away or failed", SHARE, "Of all requests: refused because the queue was "
                 "full, ended by an error of ours, or not done by their deadline.",
                 f"({SHED} + {FAILED}) / ({ENDED} + {SHED})", [(0.01, ORANGE), (0.05, RED)])
    yield number("Waiting", NUMBER, "Answers that have not begun, in all queues. Beside 'Requests "
                 "by how they ended' it is how long the queue takes to empty.",
                 total(series("pregate_num_requests_waiting")))
    yield number("Fullest KV cache", SHARE, "Of the pod whose keys and values take most of their "
                 "memory. Near 100 % new answers wait and running ones are set back.",
                 f"max({series('pregate_kv_cache_usage_perc')})", [(0.9, ORANGE), (0.97, RED)])
    yield number("Busiest engine", SHARE, "Share of the time that a pod's engine thread is inside "
                 "a step, where it is largest. At 100 % more load only lengthens the queue.",
                 f"max({total(rate('pregate_step_seconds_sum'), 'pod')})", [(0.95, ORANGE)])


def where_the_time_goes():
    yield row("Where the milliseconds go")
    yield graph(
        "A request's time, by stage", SECONDS, "Mean of the answers that ended, stage on stage: "
        "waiting for a place, reading the prompt, writing the answer. A thick queue: too few pods "
        "or slots. A thick prefill: long prompts, or experts that must come in. A thick decode: "
        "long answers ('Tokens of an answer') or slow steps (the panel beside this one).",
        [(mean("pregate_request_queue_time_seconds"), "queue"),
         (mean("pregate_request_prefill_time_seconds"), "prefill"),
         (mean("pregate_request_decode_time_seconds"), "decode")], stacked=True)
    yield graph(
        "The engine's time, by phase", SHARE, "Of a pod's engine thread, mean of the pods; what is "
        "missing to 100 % is idle. Compute is the model's arithmetic; expert stall is waiting for "
        "weights (see Experts); everything else should be a few per cent.",
        [(f"({phase('execute')} - {STALL}) / {PODS}", "compute"),
         (f"{STALL} / {PODS}", "expert stall"),
         (f"{phase('pregate')} / {PODS}", "pre-gate"), (f"{phase('plan')} / {PODS}", "plan"),
         (f"{phase('sample')} / {PODS}", "sample"), (f"{phase('commit')} / {PODS}", "commit")],
        stacked=True, most=1)


def latency():
    yield row("Latency, by model")
    for title, histogram, description in (
            ("First token", "pregate_time_to_first_token_seconds",
             "From submission to the first token: queue and prefill."),
            ("Token to token", "pregate_inter_token_latency_seconds",
             "From one token of an answer to the next. Steps that carry prompts, or wait for "
             "experts, lengthen it."),
            ("Queue", "pregate_request_queue_time_seconds", "From submission to the first step."),
            ("Whole answer", "pregate_e2e_request_latency_seconds",
             "From arrival to the last byte handed over. Grows with the length of answers; see "
             "there before blaming the server.")):
        yield graph(title, SECONDS, f"{description} Quantiles are read off buckets.",
                    quantiles(histogram, "model", legend=" {{model}}"), width=6)


def traffic():
    yield row("Traffic and errors")
    yield graph("Requests by how they ended", REQUESTS_PER_SECOND, "stop and length are whole "
                "answers; abort: the client went away; deadline: it had asked for less time; "
                "error: ours, look at the log.",
                [(total(rate("pregate_request_success_total"), "finished_reason"),
                  "{{finished_reason}}")], width=6, stacked=True)
    yield graph("Turned away, by reason", REQUESTS_PER_SECOND, "queue_full: overload, clients are "
                "told to come back. draining: a pod that leaves. invalid, not_found, "
                "unimplemented, unauthenticated: the client's side.",
                [(total(rate("pregate_requests_rejected_total"), "reason"), "{{reason}}")],
                width=6, stacked=True)
    yield graph("Tokens", TOKENS_PER_SECOND, "Written by the model, and of the prompts of answers "
                "that ended.",
                [(total(rate("pregate_generation_tokens_total")), "written"),
                 (total(rate("pregate_prompt_tokens_total")), "of prompts")], width=6)
    yield graph("Tokens of an answer", NUMBER, "Mean lengths of the answers that ended and of "
                "their prompts: what the load is made of.",
                [(mean("pregate_request_generation_tokens"), "answer"),
                 (mean("pregate_request_prompt_tokens"), "prompt")], width=6)


def saturation():
    yield row("Saturation")
    yield graph("Waiting, by pod", NUMBER, "Answers in a pod's queue that have not begun. One pod apart "
                "from the others: the balancing in front is at fault.",
                [(series("pregate_num_requests_waiting"), "{{pod}}")], width=6)
    yield graph("Running, by pod", NUMBER, "Answers in steps. The most is --max-num-seqs.",
                [(series("pregate_num_requests_running"), "{{pod}}")], width=6)
    yield graph("KV cache, by pod", SHARE, "Share of its blocks that answers hold.",
                [(series("pregate_kv_cache_usage_perc"), "{{pod}}")], width=6, most=1)
    yield graph("Up for", SECONDS, "Since the process started. A fall to zero is a restart.",
                [(f"time() - {series('process_start_time_seconds')} and ignoring(version) "
                  f"{series('pregate_build_info')}", "{{pod}}")], width=6)
    yield graph("Processors", NUMBER, "Cores in use. Flat at --threads while steps grow longer: "
                "the machine is the limit.",
                [(f"{rate('process_cpu_seconds_total')} and ignoring(version) "
                  f"{series('pregate_build_info')}", "{{pod}}")], width=6)
    yield graph("Memory", BYTES, "Resident, the mapped model's pages included.",
                [(f"{series('process_resident_memory_bytes')} and ignoring(version) "
                  f"{series('pregate_build_info')}", "{{pod}}")], width=6)
    yield graph("Error budget burnt, 1 h", NUMBER, "How many times faster than the objective "
                "allows, by model. 1 spends the budget of 30 days in 30 days; an alert pages at "
                "14.4. Needs the recording rules; choices of job and pod do not count.",
                [('pregate:first_token_slow:ratio_rate1h{namespace=~"$namespace",model=~"$model"}'
                  " / pregate:slo_budget:ratio", "first token {{model}}"),
                 ('pregate:token_gap_slow:ratio_rate1h{namespace=~"$namespace",model=~"$model"}'
                  " / pregate:slo_budget:ratio", "token to token {{model}}")], width=6)
    yield graph("Certificate ends in", SECONDS, "Empty without TLS. Files that are replaced come "
                "into force by themselves.",
                [(f"{series('pregate_tls_certificate_expiry_timestamp_seconds')} - time()",
                  "{{pod}}")], width=6)
    yield graph("Away because of overload, by pod", NUMBER, "1: the pod's queue has been full for "
                "--overload-unready-after, so that it says that it is not ready; it is back when half "
                "of the queue is gone. All pods at once: more of them are needed. Always 0 without "
                "the flag.", [(series("pregate_overloaded"), "{{pod}}")], most=1)
    yield graph("Trace spans", SPANS_PER_SECOND, "taken: by the collector. Lost, by reason: queue, "
                "they came faster than they were sent; collector, it refused them or was not there. "
                "No request waits for either. Empty without --otlp-traces-endpoint.",
                [(total(rate("pregate_trace_spans_exported_total")), "taken"),
                 (total(rate("pregate_trace_spans_dropped_total"), "reason"), "lost: {{reason}}")])


def build():
    contents = [*numbers(), *where_the_time_goes(), *latency(), *traffic(), *saturation()]
    return new_dashboard(
        "overview", "Pregate: overview", "From left to right: is it well, where did the "
        "milliseconds go, what comes in, what is full. Then Experts or Scheduler.", contents)
