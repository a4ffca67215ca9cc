"""The report: report.json, report.md and, where matplotlib is there, report.png."""

import importlib.util
import math
import pathlib

from refactor.checkpoint import Config, expected_shapes
from refactor.evaluate import with_mean
from refactor.export import write_json

NOTE = ("A test model for serving behaviour, not a quality claim: each token does without a share"
        " of every FFN, and what tuning there was is short.")
ROWS = {
    "dense": "dense", "routed": "routed, untuned", "true domain": "by true domain, untuned",
    "random": "random expert, untuned", "tuned": "routed, tuned", "control": "dense, tuned alike"}


def _parameters(config: Config, geometry: dict, router: int) -> dict:
    sizes = {name: math.prod(shape) for name, shape in expected_shapes(config).items()}
    total, ffn = sum(sizes.values()), sum(n for name, n in sizes.items() if ".mlp." in name)
    share = geometry["neurons_per_expert"] / geometry["ffn"]
    return {"dense": total, "ffn": ffn, "router": router,
            "active": round(total - ffn + share * ffn) + router}


def make(config: Config, geometry: dict, router: dict, losses: dict, tuning: dict | None) -> dict:
    """The report as plain data. losses: {"dense": {domain: nats}, "routed": ..., ...}."""
    return {
        "note": NOTE,
        "losses": {name: with_mean(by_domain) for name, by_domain in losses.items()},
        "router": router,
        "masks": geometry,
        "parameters": _parameters(config, geometry, router["parameters"]),
        "tuning": tuning,
    }


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return [line(header), line(["---"] * len(header)), *map(line, rows)]


def _numbers(values, digits: int = 2) -> list[str]:
    return [f"{value:.{digits}f}" for value in values]


def markdown(report: dict) -> str:
    """The report as Markdown."""
    losses, router, masks = report["losses"], report["router"], report["masks"]
    columns = list(losses["dense"])
    parameters, million = report["parameters"], 1e-6
    lines = [
        "# Read-ME from a dense checkpoint", "", report["note"], "",
        "Held-out loss (nats per token); no file is in both halves. The control is the dense model,"
        " tuned on the same tokens.", "",
        *_table(["model", *columns],
                [[ROWS[name], *_numbers(row[c] for c in columns)] for name, row in losses.items()]),
        "", "| router, held out | |", "| --- | --- |",
        f"| tokens | {router['tokens']} |",
        f"| best expert chosen | {router['accuracy']:.1%} |",
        f"| overlap captured, of the best possible | {router['captured_overlap']:.2%} |",
        f"| the same, random expert | {router['random_captured']:.2%} |",
        f"| stays with the previous token's expert | {router['stickiness']:.3f}"
        f" (labels {router['label_stickiness']:.3f}) |",
        f"| shares of the experts | {', '.join(f'{s:.0%}' for s in router['expert_shares'])} |",
        "", "| masks | |", "| --- | --- |",
        f"| neurons of an expert | {masks['neurons_per_expert']:.0f} of {masks['ffn']} |",
        f"| what they score in its domain, of all | {masks['score_share']:.1%} |",
        f"| owned by all, of an expert | {masks['residual_share_of_expert']:.0%} |",
        f"| owned by none, of a layer | {masks['unowned_share']:.0%} |",
        f"| union of 1 to {masks['experts']} experts, in experts |"
        f" {', '.join(_numbers(masks['union_of_experts']))} |",
        f"| membership patterns in a layer | {masks['patterns_per_layer']:.0f}"
        f" of {2 ** masks['experts'] - 1} possible |",
        f"| parameters | {parameters['dense'] * million:.1f} M, active for a token"
        f" {parameters['active'] * million:.1f} M"
        f" (router {parameters['router'] * million:.2f} M without its embedding) |"]
    if report["tuning"]:
        lines += ["", f"Tuned on {report['tuning']['tokens']} tokens in"
                  f" {report['tuning']['steps']} steps."]
    return "\n".join(lines) + "\n"


def picture(report: dict, path: pathlib.Path) -> None:
    """Losses by domain, shares of the experts, union of experts, and the loss while tuning."""
    from matplotlib.figure import Figure  # pylint: disable=import-outside-toplevel
    tuning = report["tuning"]
    figure = Figure(figsize=(16 if tuning else 12, 4), layout="constrained")
    axes = figure.subplots(1, 4 if tuning else 3)
    domains = [name for name in report["losses"]["dense"] if name != "perplexity"]
    for name, row in report["losses"].items():
        axes[0].plot(domains, [row[d] for d in domains], "o-", label=ROWS[name])
    axes[0].tick_params(axis="x", rotation=60)
    axes[0].set(title="held-out loss", ylabel="nats per token")
    axes[0].legend(fontsize=7)
    experts = range(report["masks"]["experts"])
    router = report["router"]
    axes[1].bar([e - 0.2 for e in experts], router["label_shares"], 0.4, label="best")
    axes[1].bar([e + 0.2 for e in experts], router["expert_shares"], 0.4, label="chosen")
    axes[1].set(title="experts of held-out tokens", xlabel="expert", ylabel="share")
    axes[1].legend()
    axes[2].plot([e + 1 for e in experts], report["masks"]["union_of_experts"], "o-", label="tied")
    axes[2].plot([e + 1 for e in experts], [e + 1 for e in experts], ":", label="copies")
    axes[2].set(title="neurons that a step reads", xlabel="distinct experts", ylabel="in experts")
    axes[2].legend()
    if tuning:
        axes[3].plot(tuning["loss"])
        axes[3].set(title="loss while tuning", xlabel="step")
    figure.savefig(path, metadata={"Software": None})


def write(report: dict, folder: pathlib.Path) -> None:
    """Writes the report's files."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", report)
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        picture(report, folder / "report.png")
