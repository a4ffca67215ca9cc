"""The Llama family's forward pass, with a mask on the neurons of every FFN.

Written out, so that the mean activations, the masks and their gradients are at hand and an old
PyTorch does.
"""

import torch
import torch.nn.functional as F

from refactor.checkpoint import LAYER, Checkpoint, Config


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / rms(x) * weight over the last dimension."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """NeoX rotary embedding of x [B, heads, T, d]; cos and sin [T, d]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def rope_tables(inv_freq: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin [length, d] of the positions from 0."""
    positions = torch.arange(length, dtype=inv_freq.dtype, device=inv_freq.device)
    angles = torch.outer(positions, inv_freq)
    return torch.cat((angles, angles), -1).cos(), torch.cat((angles, angles), -1).sin()


def causal_attention(q, k, v, scale: float) -> torch.Tensor:
    """Softmax attention in fp32, each position over itself and those before; [B, heads, T, d]."""
    if hasattr(F, "scaled_dot_product_attention") and scale == q.shape[-1] ** -0.5:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    length = q.shape[2]
    future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    scores = (q @ k.transpose(-1, -2) * scale).masked_fill(future, float("-inf"))
    return scores.softmax(-1) @ v


class Model:
    """A dense model whose FFNs may be masked per token.

    The tensors are those of the checkpoint, used in place: what tunes them tunes the model.
    bfloat16: products with weights in bfloat16, twice as fast where the processor has it; weights,
    sums and everything else stay fp32.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, bfloat16: bool = False):
        self.config: Config = checkpoint.config
        self.device = device
        self.bfloat16 = bfloat16
        self.tensors = {name: t.to(device) for name, t in checkpoint.tensors.items()}
        self.inv_freq = torch.tensor(self.config.inv_freq, dtype=torch.float32, device=device)

    def layer(self, index: int, name: str) -> torch.Tensor:
        """A weight of a layer, e.g. `mlp.up_proj`."""
        return self.tensors[f"{LAYER}{index}.{name}.weight"]

    def _linear(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if self.bfloat16:
            return F.linear(x.bfloat16(), weight.bfloat16()).float()
        return F.linear(x, weight)

    def _projection(self, index: int, name: str, x, heads: int):
        y = self._linear(x, self.layer(index, f"self_attn.{name}"))
        if self.config.bias:
            y = y + self.tensors[f"{LAYER}{index}.self_attn.{name}.bias"]
        return y.view(*x.shape[:2], heads, self.config.head_dim).transpose(1, 2)

    def _attention(self, index: int, x, cos, sin):
        c = self.config
        q = rotate(self._projection(index, "q_proj", x, c.heads), cos, sin)
        k = rotate(self._projection(index, "k_proj", x, c.kv_heads), cos, sin)
        v = self._projection(index, "v_proj", x, c.kv_heads)
        k = k.repeat_interleave(c.heads // c.kv_heads, dim=1)
        v = v.repeat_interleave(c.heads // c.kv_heads, dim=1)
        y = causal_attention(q, k, v, c.head_dim ** -0.5)
        return self._linear(y.transpose(1, 2).flatten(2), self.layer(index, "self_attn.o_proj"))

    def hidden(self, ids: torch.Tensor, masks=None, experts=None, observe=None) -> torch.Tensor:
        """The last hidden states [B, T, H] of token ids [B, T].

        masks: [layers, N, F] of 0 and 1, with experts [B, T]: token t uses the neurons of
        masks[:, experts[t]]. None: every neuron. observe(layer, act) is called with the input of
        each down projection [B, T, F], after the mask.
        """
        x = F.embedding(ids, self.tensors["model.embed_tokens.weight"])
        cos, sin = rope_tables(self.inv_freq, ids.shape[1])
        for i in range(self.config.layers):
            h = rms_norm(x, self.layer(i, "input_layernorm"), self.config.norm_eps)
            x = x + self._attention(i, h, cos, sin)
            h = rms_norm(x, self.layer(i, "post_attention_layernorm"), self.config.norm_eps)
            act = F.silu(self._linear(h, self.layer(i, "mlp.gate_proj")))
            act = act * self._linear(h, self.layer(i, "mlp.up_proj"))
            if masks is not None:
                act = act * masks[i][experts]
            if observe is not None:
                observe(i, act)
            x = x + self._linear(act, self.layer(i, "mlp.down_proj"))
        return rms_norm(x, self.tensors["model.norm.weight"], self.config.norm_eps)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [..., V] of last hidden states [..., H]."""
        name = "model.embed_tokens.weight" if self.config.tied_head else "lm_head.weight"
        return self._linear(hidden, self.tensors[name])

    def loss(self, ids: torch.Tensor, masks=None, experts=None) -> torch.Tensor:
        """The mean negative log-likelihood of each next token, in nats."""
        logits = self.logits(self.hidden(ids, masks, experts)[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
