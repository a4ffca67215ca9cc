"""Which neurons each expert owns: binary masks [N, F] of a layer, packed as checkpoints store them.

An expert owns the neurons that its domain uses most (readme-moe paper, section 3.1); what every
expert owns is the residual. Experts overlap: they stay one dense FFN. A server reads neurons in tiles
of 32, so that an expert comes with some neurons of others, unless it owns whole tiles.
"""

import itertools

import numpy as np


def top_n(scores: np.ndarray, n: int) -> np.ndarray:
    """bool [F]: the n largest scores of [F]; of equals those with the lower index."""
    mask = np.zeros(scores.shape, dtype=bool)
    mask[np.argsort(-scores, kind="stable")[:n]] = True
    return mask


def neurons_kept(keep: float, ffn: int, tile: int = 1) -> int:
    """keep * ffn, rounded to tiles. Raises ValueError unless tiles divide ffn and it is 1 tile to all."""
    if tile < 1 or ffn % tile:
        raise ValueError(f"--tile: must divide the {ffn} neurons of a layer; got {tile}")
    n = round(keep * (ffn // tile)) * tile
    if not 1 <= n <= ffn:
        raise ValueError(f"--keep: must leave an expert {tile} to {ffn} neurons; got {n}")
    return n


def _deal(worth: np.ndarray, tile_of: np.ndarray) -> None:
    """Changes tile_of [F], the tile of each neuron, so that the sum of worth [F, T] grows.

    Between two tiles neurons can be dealt in the best way at once; that is done for each pair.
    """
    for a, b in itertools.combinations(range(worth.shape[1]), 2):
        both = np.flatnonzero((tile_of == a) | (tile_of == b))
        order = both[np.argsort(worth[both, b] - worth[both, a], kind="stable")]
        tile_of[order[:len(order) // 2]], tile_of[order[len(order) // 2:]] = a, b


def _tiled_layer(scores: np.ndarray, kept: int, tile: int) -> np.ndarray:
    """bool [N, F] from scores [N, F]: `kept` tiles each of a division of the neurons into tiles."""
    scores = scores / scores.sum(axis=-1, keepdims=True)
    count = scores.shape[1] // tile
    # Neurons that the same experts would own begin beside each other.
    wanted = np.stack([top_n(expert, kept * tile) for expert in scores])
    tile_of = np.empty(scores.shape[1], dtype=np.int64)
    tile_of[np.lexsort([*wanted, wanted.sum(axis=0)])] = np.repeat(np.arange(count), tile)
    best, best_total = None, -1.0
    while True:  # each half of a turn can only gain, so it ends
        sums = np.stack([np.bincount(tile_of, expert, count) for expert in scores])
        owned = np.stack([top_n(expert, kept) for expert in sums])
        total = sums[owned].sum()
        if total <= best_total * (1 + 1e-6):
            return np.ascontiguousarray(best)
        best, best_total = owned[:, tile_of], total
        _deal(scores.T @ owned, tile_of)


def domain_masks(scores: np.ndarray, keep: float, tile: int = 1) -> np.ndarray:
    """bool [L, N, F] from scores [N, L, F]: neurons_kept(keep, F, tile) each.

    With a tile above 1 the neurons of a layer are divided into tiles, of which an expert owns all or
    nothing. Tiles are chosen for what their neurons score, and neurons dealt to tiles by who has
    chosen them, by turns: an alternating search, which finds a local optimum.
    """
    n = neurons_kept(keep, scores.shape[-1], tile)
    if tile > 1:
        return np.stack([_tiled_layer(layer, n // tile, tile) for layer in scores.swapaxes(0, 1)])
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


def geometry(masks: np.ndarray, scores: np.ndarray) -> dict:
    """What masks [L, N, F] mean for storage and steps, and how much of the scores [N, L, F] they
    keep; shares are means over layers."""
    layers, experts, ffn = masks.shape
    owned = masks.sum(axis=-1)  # [L, N]
    unions = []
    for count in range(1, experts + 1):  # over windows of experts: order says nothing
        chosen = [[(first + i) % experts for i in range(count)] for first in range(experts)]
        unions.append(float(np.mean([masks[:, c].any(axis=1).sum(-1).mean() for c in chosen])))
    patterns = [len({tuple(column) for column in layer.T if column.any()}) for layer in masks]
    scores = scores.swapaxes(0, 1)
    return {
        "experts": experts,
        "layers": layers,
        "ffn": ffn,
        "neurons_per_expert": float(owned.mean()),
        "score_share": float(((scores * masks).sum(-1) / scores.sum(-1)).mean()),
        "residual_share_of_expert": float((masks.all(axis=1).sum(-1) / owned.mean(-1)).mean()),
        "unowned_share": float((~masks.any(axis=1)).mean()),
        "union_of_experts": [u / owned.mean() for u in unions],  # 1..N, in experts
        "patterns_per_layer": float(np.mean(patterns)),
    }
