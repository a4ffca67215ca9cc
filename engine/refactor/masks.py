"""Which neurons each expert owns: binary masks [N, F] of a layer, packed as checkpoints store them.

An expert owns the neurons that its domain uses most (readme-moe paper, section 3.1); what every
expert owns is the residual. Experts overlap: they stay one dense FFN.
"""

import numpy as np


def top_n(scores: np.ndarray, n: int) -> np.ndarray:
    """bool [F]: the n largest scores of [F]; of equals those with the lower index."""
    mask = np.zeros(scores.shape, dtype=bool)
    mask[np.argsort(-scores, kind="stable")[:n]] = True
    return mask


def neurons_kept(keep: float, ffn: int) -> int:
    """round(keep * ffn). Raises ValueError unless that is 1 to ffn."""
    n = round(keep * ffn)
    if not 1 <= n <= ffn:
        raise ValueError(f"--keep: must leave an expert 1 to {ffn} neurons; got {n}")
    return n


def domain_masks(scores: np.ndarray, keep: float) -> np.ndarray:
    """bool [L, N, F] from scores [N, L, F]: neurons_kept(keep, F) each."""
    n = neurons_kept(keep, scores.shape[-1])
    return np.stack([np.stack([top_n(layer, n) for layer in domain]) for domain in scores], axis=1)


def pack(masks: np.ndarray) -> np.ndarray:
    """uint8 [N, ceil(F / 8)] from bool [N, F]: neuron f is bit f % 8 of byte f / 8."""
    return np.packbits(masks, axis=-1, bitorder="little")


def unpack(packed: np.ndarray, ffn: int) -> np.ndarray:
    """bool [N, F] from what pack made. Raises ValueError for another width or stray bits."""
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != -(-ffn // 8):
        raise ValueError(f"expert_masks: must be U8 [experts, {-(-ffn // 8)}];"
                         f" got {packed.dtype} {list(packed.shape)}")
    bits = np.unpackbits(packed, axis=-1, bitorder="little").astype(bool)
    if bits[:, ffn:].any():
        raise ValueError(f"expert_masks: bits from {ffn} on must be 0")
    return bits[:, :ffn]


def geometry(masks: np.ndarray) -> dict:
    """What masks [L, N, F] mean for storage and steps; shares are means over layers."""
    layers, experts, ffn = masks.shape
    owned = masks.sum(axis=-1)  # [L, N]
    unions = []
    for count in range(1, experts + 1):  # over windows of experts: order says nothing
        chosen = [[(first + i) % experts for i in range(count)] for first in range(experts)]
        unions.append(float(np.mean([masks[:, c].any(axis=1).sum(-1).mean() for c in chosen])))
    patterns = [len({tuple(column) for column in layer.T if column.any()}) for layer in masks]
    return {
        "experts": experts,
        "layers": layers,
        "ffn": ffn,
        "neurons_per_expert": float(owned.mean()),
        "residual_share_of_expert": float((masks.all(axis=1).sum(-1) / owned.mean(-1)).mean()),
        "unowned_share": float((~masks.any(axis=1)).mean()),
        "union_of_experts": [u / owned.mean() for u in unions],  # 1..N, in experts
        "patterns_per_layer": float(np.mean(patterns)),
    }
