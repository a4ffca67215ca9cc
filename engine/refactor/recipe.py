"""The recipe, phase by phase: texts, activations, masks, labels, router, tuning, losses, export."""

import argparse
import dataclasses
import functools
import pathlib
import platform

import numpy as np
import safetensors
import tokenizers
import torch

from refactor import activations, evaluate, export, labels, masks, report, router, tokens, tune
from refactor.checkpoint import Checkpoint, Config, read_checkpoint
from refactor.model import Model
from refactor.texts import load_domains

WINDOW = 512  # tokens of a window in every phase but tuning
TUNE_WINDOW = 256


@dataclasses.dataclass(frozen=True)
class Data:
    """Token windows [n, T] for each phase; held_out by domain."""
    calibration: dict[str, np.ndarray]
    labelled: np.ndarray
    held_out: dict[str, np.ndarray]
    tuning: np.ndarray
    digests: dict[str, str]


def load_tokenizer(args: argparse.Namespace, checkpoint: Checkpoint) -> tokenizers.Tokenizer:
    """The tokeniser of --tokenizer, of the folder, or of the GGUF file."""
    path = args.tokenizer
    if path is None and checkpoint.gguf_fields is not None:
        return tokens.tokenizer_from_gguf(checkpoint.gguf_fields)
    path = path or checkpoint.path / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"--tokenizer: must be a tokenizer.json; got {path}")
    return tokenizers.Tokenizer.from_file(str(path))


def load_data(args: argparse.Namespace, checkpoint: Checkpoint) -> Data:
    """Encodes the domains and deals their windows out; no window serves two phases but tuning,
    which takes those of the labels."""
    tokenizer = load_tokenizer(args, checkpoint)
    domains = load_domains(args.texts, args.domains)
    calibrated = args.calibration_tokens // WINDOW
    labelled = args.tokens // (WINDOW * len(domains))
    if min(calibrated, labelled, args.held_out_tokens // WINDOW) < 1:
        raise ValueError(f"--tokens, --calibration-tokens, --held-out-tokens: must make a window of"
                         f" {WINDOW} in each domain")
    rng = np.random.default_rng(args.seed)
    cut, held_out = {}, {}
    for domain in domains:
        cut[domain.name] = tokens.sample_windows(tokenizer, domain.training,
                                                 calibrated + labelled, WINDOW, rng)
        held_out[domain.name] = tokens.sample_windows(
            tokenizer, domain.held_out, args.held_out_tokens // WINDOW, WINDOW, rng)
        if len(cut[domain.name]) <= calibrated or not len(held_out[domain.name]):
            raise ValueError(f"domain {domain.name}: must have {(calibrated + 1) * WINDOW} training"
                             f" and {WINDOW} held-out tokens; got {cut[domain.name].size} and"
                             f" {held_out[domain.name].size}")
    largest = max(windows.max() for windows in [*cut.values(), *held_out.values()])
    if largest >= checkpoint.config.vocab:
        raise ValueError(f"--tokenizer: must give ids below {checkpoint.config.vocab};"
                         f" got {largest}")
    rest = np.concatenate([windows[calibrated:] for windows in cut.values()])
    return Data({name: windows[:calibrated] for name, windows in cut.items()}, rest, held_out,
                rest.reshape(-1, TUNE_WINDOW), {d.name: d.digest for d in domains})


def router_config(args: argparse.Namespace, model: Config, experts: int) -> router.RouterConfig:
    """The router's shape. Raises ValueError for options that do not fit the model."""
    masks.neurons_kept(args.keep, model.ffn, args.tile)
    if args.embedding_dim > model.hidden:
        raise ValueError(f"--embedding-dim: must be at most {model.hidden}, the width of the"
                         f" model's embedding; got {args.embedding_dim}")
    if model.window is not None and model.window < WINDOW:
        raise ValueError(f"sliding_window: must be at least {WINDOW}; got {model.window}")
    return router.RouterConfig(args.embedding_dim, experts, args.heads)


def expert_choices(trained: router.Router, experts: int, seed: int) -> dict[str, evaluate.Choose]:
    """Ways to choose the experts of held-out tokens, by their names in the report."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "routed": lambda _, ids: trained.route(ids),
        "true domain": lambda domain, ids: torch.full_like(ids, domain),
        "random": lambda _, ids: torch.randint(experts, ids.shape, generator=generator).to(
            ids.device),
    }


def tuned_losses(args, checkpoint: Checkpoint, device, data: Data, mask_tensor, trained) -> tuple:
    """(tuned checkpoint, {"tuned": losses, "control": losses}, what tuning saw)."""
    settings = tune.Tuning(args.tune_minutes, args.tune_steps or tune.Tuning.max_steps)
    student, control = (Model(tune.tunable_copy(checkpoint), device, args.bfloat16)
                        for _ in range(2))
    seen = tune.tune(student, data.tuning, settings, args.seed, "tuning under masks",
                     Model(checkpoint, device, args.bfloat16), mask_tensor, trained.route)
    # The control sees exactly the same tokens, whatever time that takes.
    same = dataclasses.replace(settings, minutes=float("inf"), max_steps=seen["steps"])
    tune.tune(control, data.tuning, same, args.seed, "tuning dense, the control")
    student.bfloat16 = control.bfloat16 = False
    return dataclasses.replace(checkpoint, tensors=student.tensors), {
        "tuned": evaluate.losses(student, data.held_out, "losses: tuned", mask_tensor,
                                 lambda _, ids: trained.route(ids)),
        "control": evaluate.losses(control, data.held_out, "losses: control"),
    }, seen


def manifest(args: argparse.Namespace, checkpoint: Checkpoint, data: Data, out: dict) -> dict:
    """What went in, with what, and what came out."""
    packages = args.texts / "packages.txt"
    return {
        "arguments": {name: str(value) if isinstance(value, pathlib.Path) else value
                      for name, value in sorted(vars(args).items())
                      if name not in ("model", "out", "texts", "tokenizer")},
        "model": {"name": checkpoint.path.name, "sha256": checkpoint.digests},
        "texts": {"sha256": data.digests, "packages":
                  packages.read_text(encoding="utf-8").split() if packages.is_file() else None},
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "numpy": np.__version__, "safetensors": safetensors.__version__,
                     "tokenizers": tokenizers.__version__},
        "output": out,
    }


def run(args: argparse.Namespace) -> None:
    """Runs the recipe and writes its folder.

    Raises ValueError ("<field>: <rule>; got <value>") for input that it cannot take.
    """
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    checkpoint = read_checkpoint(args.model)
    data = load_data(args, checkpoint)
    config = router_config(args, checkpoint.config, len(data.held_out))
    model = Model(checkpoint, device, args.bfloat16)

    scales = activations.neuron_scales(model, args.score)
    scores = np.stack([activations.domain_scores(model, windows, scales, f"activations: {name}")
                       for name, windows in data.calibration.items()])
    owned = masks.domain_masks(scores, args.keep, args.tile)
    mask_tensor = torch.from_numpy(owned).float().to(device)
    make_labels = functools.partial(labels.make_labels, model, masks=mask_tensor, scales=scales)
    training = make_labels(data.labelled, what="labels")
    held_out = make_labels(np.concatenate(list(data.held_out.values())), what="labels: held out")

    trained = router.Router(config, model.tensors["model.embed_tokens.weight"],
                            checkpoint.config.rope_theta).to(device)
    router.train_router(trained, training, router.Training(args.epochs), args.seed, "router")

    export.write_overlay(export.ReadMe(checkpoint, owned, trained), args.out / export.OVERLAY)
    model.bfloat16 = False
    losses = {"dense": evaluate.losses(model, data.held_out, "losses: dense")}
    choices = expert_choices(trained, len(data.held_out), args.seed)
    for name, choose in choices.items():
        losses[name] = evaluate.losses(model, data.held_out, f"losses: {name}", mask_tensor, choose)

    def finish(final: Checkpoint, forms: list[str], seen: dict | None) -> None:
        for form in forms:
            export.write_form(export.ReadMe(final, owned, trained), form, args.out / form,
                              args.dtype)
        report.write(report.make(checkpoint.config, masks.geometry(owned, scores),
                                 router.router_report(trained, held_out), losses, seen), args.out)
        export.write_json(args.out / "manifest.json",
                          manifest(args, checkpoint, data, export.digests(args.out)))

    if not args.tune_minutes:
        finish(checkpoint, args.forms, None)
        return
    finish(checkpoint, [], None)  # tuning is long: what there is stays when it is ended early
    tuned, more, seen = tuned_losses(args, checkpoint, device, data, mask_tensor, trained)
    losses |= more
    finish(tuned, args.forms, seen)
