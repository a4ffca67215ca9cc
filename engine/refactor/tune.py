"""Tunes the FFNs under the router's masks: tied weights, half next tokens, half the dense model.

Experts share neurons, so each step trains the one dense FFN through the masks of its tokens.
"""

import dataclasses
import math
import sys
import time
from typing import Callable

import numpy as np
import torch
import torch.nn.functional as F

from refactor import progress
from refactor.checkpoint import Checkpoint
from refactor.export import PROJECTIONS
from refactor.model import Model

LOSS_ROWS = 512  # logits of so many tokens at once: a vocabulary wide, they are large


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How the FFNs are tuned. The first bound that is met ends it."""
    minutes: float
    max_steps: int = 1 << 30  # with a bound in steps the same seed gives the same weights
    batch: int = 8  # windows
    learning_rate: float = 1e-4  # falls to a tenth on a cosine
    kl_share: float = 0.5  # of the loss; the rest is next-token cross entropy


def tunable_copy(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with its own FFN matrices, which may be trained; the rest is shared."""
    tensors = {name: t.clone() if any(f".mlp.{p}." in name for p in PROJECTIONS) else t
               for name, t in checkpoint.tensors.items()}
    return dataclasses.replace(checkpoint, tensors=tensors)


def _loss(student: Model, hidden, teacher_hidden, ids, kl_share: float) -> torch.Tensor:
    """The mean over tokens of (1 - kl) CE + kl KL(teacher || student)."""
    hidden, targets = hidden[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    total = hidden.new_zeros(())
    for first in range(0, len(targets), LOSS_ROWS):
        rows = slice(first, first + LOSS_ROWS)
        log_p = student.logits(hidden[rows]).log_softmax(-1)
        total = total + (1 - kl_share) * F.nll_loss(log_p, targets[rows], reduction="sum")
        if teacher_hidden is not None:
            with torch.no_grad():
                teacher = student.logits(
                    teacher_hidden[:, :-1].flatten(0, 1)[rows]).log_softmax(-1)
            total = total + kl_share * F.kl_div(log_p, teacher, reduction="sum", log_target=True)
    return total / len(targets)


def tune(student: Model, windows: np.ndarray, tuning: Tuning, seed: int, what: str,
         teacher: Model | None = None, masks=None,
         route: Callable[[torch.Tensor], torch.Tensor] | None = None) -> dict:
    """Trains the student's FFNs in place on windows [n, T]; says the tokens and losses seen.

    With masks [L, N, F] and a router under the experts it chooses; without: dense, the control.
    Without a teacher the loss is cross entropy alone.
    """
    kl_share = tuning.kl_share if teacher is not None else 0.0
    parameters = [student.layer(i, f"mlp.{name}").requires_grad_()
                  for i in range(student.config.layers) for name in PROJECTIONS]
    optimiser = torch.optim.AdamW(parameters, lr=tuning.learning_rate, weight_decay=0.0)
    order = np.random.default_rng(seed).permutation(len(windows))
    started, step, seen = time.monotonic(), 0, []
    while step < tuning.max_steps:
        done = max((time.monotonic() - started) / (60 * tuning.minutes), step / tuning.max_steps)
        if done >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = tuning.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))
        index = np.take(order, range(step * tuning.batch, (step + 1) * tuning.batch), mode="wrap")
        ids = torch.from_numpy(windows[index]).long().to(student.device)
        experts = route(ids) if route else None
        with torch.no_grad():
            teacher_hidden = teacher.hidden(ids) if teacher is not None else None
        loss = _loss(student, student.hidden(ids, masks, experts), teacher_hidden, ids, kl_share)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(loss.item())
        step += 1
        if sys.stderr.isatty():
            progress.show(what, done, f"loss {seen[-1]:.3f}")
    progress.finish(what, started, f"{step} steps")
    for parameter in parameters:
        parameter.requires_grad_(False)
    return {"steps": step, "tokens": step * tuning.batch * windows.shape[1], "loss": seen}
