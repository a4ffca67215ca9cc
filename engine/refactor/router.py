"""The pre-gating router, `cluster_predictor`: a one-layer transformer over the token ids alone.

The architecture is that of the public Read-ME code, trap for trap: RMSNorm with eps 1e-6, scores
over `normalizer` (1.0) instead of the root of the head's size, biases in every projection, NeoX
RoPE with the language model's frequencies' base, no gate in the MLP.
"""

import dataclasses
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from refactor.labels import Labels
from refactor.model import causal_attention, rms_norm, rope_tables, rotate
from refactor.progress import progress

NORM_EPS = 1e-6
PREFIX = "cluster_predictor."
HARD, SOFT = 0.75, 0.25  # shares of the loss: the best expert, and how well each fits
SOFT_TEMPERATURE = 0.02  # overlaps of a token differ by some hundredths


@dataclasses.dataclass(frozen=True)
class RouterConfig:
    """The router's fields of config.json, under their names there."""
    embedding_dim: int
    N_cluster: int  # pylint: disable=invalid-name
    n_head: int = 4
    n_layer: int = 1
    normalizer: float = 1.0
    hidden_act_predictor: str = "silu"
    max_position_embeddings_predictor: int = 4096
    nonautoregressive: bool = False

    def __post_init__(self):
        if self.embedding_dim % (2 * self.n_head):
            raise ValueError("--embedding-dim: must be a multiple of twice the heads;"
                             f" got {self.embedding_dim}")

    def fields(self) -> dict:
        """The fields as config.json has them, for serving."""
        return dataclasses.asdict(self) | {"add_cluster_predictor": True, "train_predictor": False,
                                           "inter_dim": self.embedding_dim}


class Router(nn.Module):
    """Logits [B, T, N] over the experts, from token ids [B, T]."""

    def __init__(self, config: RouterConfig, embedding: torch.Tensor, rope_theta: float):
        super().__init__()
        size = config.embedding_dim
        self.config = config
        self.embedding = embedding[:, :size].contiguous()  # [V, E]: frozen, not a parameter
        head_dim = size // config.n_head
        self.inv_freq = torch.tensor(
            [rope_theta ** -(2 * i / head_dim) for i in range(head_dim // 2)],
            device=embedding.device)
        for i in range(config.n_layer):
            self.register_parameter(f"input_layernorm_{i}", nn.Parameter(torch.ones(size)))
            self.register_parameter(f"post_attention_layernorm_{i}",
                                    nn.Parameter(torch.ones(size)))
            for name in ("q_proj", "k_proj", "v_proj", "o_proj", "proj_1", "proj_2"):
                self.add_module(f"{name}_{i}", nn.Linear(size, size))
        self.out_layernorm = nn.Parameter(torch.ones(size))
        self.proj_out = nn.Linear(size, config.N_cluster)

    def _attention(self, i: int, h: torch.Tensor) -> torch.Tensor:
        heads = self.config.n_head
        cos, sin = rope_tables(self.inv_freq, h.shape[1])
        split = lambda name: self.get_submodule(f"{name}_{i}")(h).view(
            *h.shape[:2], heads, -1).transpose(1, 2)
        q, k = rotate(split("q_proj"), cos, sin), rotate(split("k_proj"), cos, sin)
        y = causal_attention(q, k, split("v_proj"), 1.0 / self.config.normalizer)
        return self.get_submodule(f"o_proj_{i}")(y.transpose(1, 2).flatten(2))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = F.embedding(ids, self.embedding)
        for i in range(self.config.n_layer):
            x = x + self._attention(i, rms_norm(x, self.get_parameter(f"input_layernorm_{i}"),
                                                NORM_EPS))
            h = rms_norm(x, self.get_parameter(f"post_attention_layernorm_{i}"), NORM_EPS)
            h = F.silu(self.get_submodule(f"proj_1_{i}")(h))
            x = x + self.get_submodule(f"proj_2_{i}")(h)
        return self.proj_out(rms_norm(x, self.out_layernorm, NORM_EPS))

    @torch.no_grad()
    def route(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 [B, T]: the expert of each token; of equal logits the lower id."""
        return self(ids).argmax(-1)

    def checkpoint(self, with_embedding: bool = False) -> dict[str, torch.Tensor]:
        """The tensors under the names of the public state dict."""
        tensors = {PREFIX + (name if name.endswith((".weight", ".bias")) else name + ".weight"):
                   value.detach().cpu().clone() for name, value in self.named_parameters()}
        if with_embedding:
            tensors[PREFIX + "embed.weight"] = self.embedding.cpu().clone()
        return tensors


@dataclasses.dataclass(frozen=True)
class Training:
    """How a router is trained."""
    epochs: int = 5
    batch: int = 8  # windows
    learning_rate: float = 2e-3


def train_router(router: Router, labels: Labels, training: Training, seed: int, what: str) -> None:
    """Trains on the labels in place: AdamW, cosine to a tenth."""
    device = router.embedding.device
    windows = torch.from_numpy(labels.windows).to(device)
    overlaps = torch.from_numpy(labels.overlaps).to(device)
    order = np.random.default_rng(seed)
    steps = training.epochs * math.ceil(len(windows) / training.batch)
    optimiser = torch.optim.AdamW(router.parameters(), lr=training.learning_rate,
                                  weight_decay=0.01)
    batches = [batch for _ in range(training.epochs) for batch in
               np.array_split(order.permutation(len(windows)), steps // training.epochs)]
    for step, batch in enumerate(progress(batches, what)):
        share = 0.1 + 0.45 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = training.learning_rate * share * min(1.0, (step + 1) / 20)
        index = torch.from_numpy(batch).to(device)
        logits, fit = router(windows[index]).flatten(0, 1), overlaps[index].flatten(0, 1)
        soft = (fit / SOFT_TEMPERATURE).softmax(-1)
        loss = (HARD * F.cross_entropy(logits, fit.argmax(-1))
                - SOFT * (soft * logits.log_softmax(-1)).sum(-1).mean())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def router_report(router: Router, labels: Labels) -> dict:
    """How well the router says what the labels say, and what its choices are like."""
    windows = torch.from_numpy(labels.windows).to(router.embedding.device)
    chosen = torch.cat([router.route(batch) for batch in windows.split(16)]).cpu().numpy()
    captured = np.take_along_axis(labels.overlaps, chosen[..., None], -1).mean()
    best = labels.overlaps.max(-1).mean()
    stick = lambda ids: float((ids[:, 1:] == ids[:, :-1]).mean())
    share = lambda ids: (np.bincount(ids.ravel(), minlength=labels.overlaps.shape[-1])
                         / ids.size).tolist()
    return {
        "parameters": sum(parameter.numel() for parameter in router.parameters()),
        "tokens": int(chosen.size),
        "accuracy": float((chosen == labels.best).mean()),
        "captured_overlap": float(captured / best),
        "random_captured": float(labels.overlaps.mean() / best),
        "stickiness": stick(chosen),
        "label_stickiness": stick(labels.best),
        "expert_shares": share(chosen),
        "label_shares": share(labels.best),
    }
