"""Held-out losses of a model by domain, under different choices of the expert."""

import math
from typing import Callable

import numpy as np
import torch

from refactor.model import Model
from refactor.progress import progress

Choose = Callable[[int, torch.Tensor], torch.Tensor]  # (domain, ids [B, T]) -> experts [B, T]


@torch.no_grad()
def losses(model: Model, held_out: dict[str, np.ndarray], what: str, masks=None,
           choose: Choose | None = None) -> dict[str, float]:
    """The mean negative log-likelihood (nats per token) of each domain's windows [n, T].

    masks [L, N, F] with `choose`: under the masks of the experts chosen. None: dense.
    """
    result = {}
    for domain, (name, windows) in enumerate(progress(list(held_out.items()), what)):
        total = 0.0
        for batch in np.array_split(windows, max(1, len(windows) // 4)):
            ids = torch.from_numpy(batch).long().to(model.device)
            experts = choose(domain, ids) if choose else None
            total += model.loss(ids, masks, experts).item() * len(batch)
        result[name] = total / len(windows)
    return result


def with_mean(by_domain: dict[str, float]) -> dict[str, float]:
    """The losses and their mean over the domains, under `mean`; `perplexity` is its exponential."""
    mean = sum(by_domain.values()) / len(by_domain)
    return by_domain | {"mean": mean, "perplexity": math.exp(mean)}
