"""How much each domain uses each neuron."""

import numpy as np
import torch

from refactor.model import Model
from refactor.progress import progress

SCORES = ("activation", "contribution")


def neuron_scales(model: Model, score: str) -> torch.Tensor:
    """[L, F]: what |activation| is multiplied with.

    activation: 1, as in the paper; contribution: the norm of the neuron's column of down_proj, so
    that the product is the length of what the neuron adds to the residual stream.
    """
    columns = [model.layer(i, "mlp.down_proj") for i in range(model.config.layers)]
    if score == "activation":
        return torch.ones(len(columns), columns[0].shape[1], device=model.device)
    return torch.stack([column.norm(dim=0) for column in columns])


@torch.no_grad()
def domain_scores(model: Model, windows: np.ndarray, scales: torch.Tensor, what: str) -> np.ndarray:
    """[L, F]: the mean over the tokens of windows [n, T] of |input of down_proj| * scales."""
    total = torch.zeros_like(scales, dtype=torch.float64)

    def observe(layer, act):
        total[layer] += act.abs().sum(dim=(0, 1))

    for batch in progress(np.array_split(windows, max(1, len(windows) // 4)), what):
        model.hidden(torch.from_numpy(batch).long().to(model.device), observe=observe)
    return (total / windows.size * scales).cpu().numpy()
