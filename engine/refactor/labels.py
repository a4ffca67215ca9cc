"""The expert that fits each token best: what the router learns to say (paper, eq. 4)."""

import dataclasses

import numpy as np
import torch

from refactor.model import Model
from refactor.progress import progress

TOKEN_SHARE = 0.5  # of the neurons: a token's own mask


@dataclasses.dataclass
class Labels:
    """Windows of tokens, and for each token the overlap with each expert."""
    windows: np.ndarray  # int64 [n, T]
    overlaps: np.ndarray  # float32 [n, T, N]: the share of the token's own neurons that are the
    #                       expert's, over all layers

    @property
    def best(self) -> np.ndarray:
        """int64 [n, T]: the expert with the largest overlap; of equals the lower id."""
        return self.overlaps.argmax(axis=-1)


def nth_largest(x: torch.Tensor, n: int) -> torch.Tensor:
    """[..., 1]: the n-th largest of the last dimension of x [..., F], none of which is negative."""
    if x.device.type == "cpu":  # the bits of floats >= 0 are in their order: ten times as fast
        bits = x.contiguous().numpy().view(np.int32)
        found = np.partition(bits, x.shape[-1] - n, axis=-1)[..., x.shape[-1] - n, None]
        return torch.from_numpy(found.view(np.float32))
    return x.kthvalue(x.shape[-1] - n + 1, dim=-1, keepdim=True).values


@torch.no_grad()
def make_labels(model: Model, windows: np.ndarray, masks: torch.Tensor, scales: torch.Tensor,
                what: str) -> Labels:
    """Labels of windows [n, T] under masks [L, N, F]; scales as the masks were made with."""
    n_top = round(TOKEN_SHARE * model.config.ffn)
    found = []
    for batch in progress(np.array_split(windows, max(1, len(windows) // 4)), what):
        overlap = torch.zeros(*batch.shape, masks.shape[1], device=model.device)

        def observe(layer, act):
            score = act.abs() * scales[layer]  # pylint: disable=cell-var-from-loop
            own = (score >= nth_largest(score, n_top)).float()
            overlap.add_(own @ masks[layer].T)  # pylint: disable=cell-var-from-loop

        model.hidden(torch.from_numpy(batch).long().to(model.device), observe=observe)
        found.append((overlap / (n_top * model.config.layers)).cpu().numpy())
    return Labels(windows.astype(np.int64), np.concatenate(found))
