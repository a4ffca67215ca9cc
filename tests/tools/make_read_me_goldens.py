#!/usr/bin/env python3
"""Makes the reference numbers of tests/model/read_me_*_test.cc with PyTorch.

Usage:
  make_read_me_goldens.py tiny             tests/testdata/read_me/{cases.json,routers.bin,logits.bin}
  make_read_me_goldens.py real MODEL.gguf  tests/testdata/read_me/<MODEL>.bin

`tiny` needs no model: weights, masks and token ids come from formulas that the tests know too
(random_element() in make_parity_goldens.py), so that only what the reference says is stored. `real`
lays tests/testdata/read_me_smollm2 over the file that it was made for, dequantised to float32, and
records what the two say about the text of tests/testdata/parity/<MODEL>.bin. The router is written
out here, in float32, and sees the whole prefix of each token; the backbone is transformers' Llama
with its FFN cut down to the neurons of each token's expert.
"""

import argparse
import json
import pathlib

import gguf
import numpy as np
import safetensors.torch
import torch
import transformers

from make_parity_goldens import random_elements, random_tensor

TESTDATA = pathlib.Path(__file__).resolve().parent.parent / "testdata"
DATA = TESTDATA / "read_me"
FIXTURE = TESTDATA / "read_me_smollm2"

# --- The router ---


class Router:
    """cluster_predictor: [tokens] to logits [tokens, experts], each seeing those up to it."""

    def __init__(self, config, theta, weights):
        self.config, self.theta, self.weights = config, theta, weights

    @staticmethod
    def shapes(config, vocab_size):
        """Of all tensors, by name, in the order in which the tests write them."""
        width, experts = config["embedding_dim"], config["N_cluster"]
        shapes = {"embed.weight": (vocab_size, width)}
        for i in range(config["n_layer"]):
            names = ["proj_1", "proj_2"]
            if not config["nonautoregressive"]:
                names += ["q_proj", "k_proj", "v_proj", "o_proj"]
                shapes[f"input_layernorm_{i}.weight"] = (width,)
            for name in names:
                shapes[f"{name}_{i}.weight"] = (width, width)
                shapes[f"{name}_{i}.bias"] = (width,)
            shapes[f"post_attention_layernorm_{i}.weight"] = (width,)
        shapes |= {"out_layernorm.weight": (width,), "proj_out.weight": (experts, width),
                   "proj_out.bias": (experts,)}
        return {f"cluster_predictor.{name}": shape for name, shape in sorted(shapes.items())}

    @classmethod
    def random(cls, config, vocab_size, theta, seed):
        """With weights from the formula."""
        return cls(config, theta, {name: random_tensor(f"{seed}:{name}", shape)
                                   for name, shape in cls.shapes(config, vocab_size).items()})

    def linear(self, name, x):
        weight = self.weights[f"cluster_predictor.{name}.weight"]
        return x @ weight.T + self.weights[f"cluster_predictor.{name}.bias"]

    def norm(self, name, x):
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return x * scale * self.weights[f"cluster_predictor.{name}.weight"]

    def rotate(self, x, positions):
        """x [heads, tokens, head_dim], halves rotated."""
        half = x.shape[-1] // 2
        inv_freq = 1.0 / self.theta ** (torch.arange(half, dtype=torch.float64) / half)
        angles = positions.to(torch.float64)[:, None] * inv_freq.to(torch.float32).to(torch.float64)
        cos, sin = angles.cos().to(torch.float32), angles.sin().to(torch.float32)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def attend(self, i, x):
        tokens, heads = x.shape[0], self.config["n_head"]
        positions = torch.arange(tokens)
        q, k, v = (self.linear(f"{name}_proj_{i}", x).reshape(tokens, heads, -1).transpose(0, 1)
                   for name in "qkv")
        scores = self.rotate(q, positions) @ self.rotate(k, positions).transpose(1, 2)
        scores = scores / self.config["normalizer"]
        scores.masked_fill_(torch.ones(tokens, tokens).triu(1).bool(), float("-inf"))
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(tokens, -1)
        return self.linear(f"o_proj_{i}", mixed)

    def logits(self, ids):
        activation = transformers.activations.ACT2FN[self.config["hidden_act_predictor"]]
        x = self.weights["cluster_predictor.embed.weight"][ids]
        for i in range(self.config["n_layer"]):
            if not self.config["nonautoregressive"]:
                x = x + self.attend(i, self.norm(f"input_layernorm_{i}", x))
            h = self.norm(f"post_attention_layernorm_{i}", x)
            x = x + self.linear(f"proj_2_{i}", activation(self.linear(f"proj_1_{i}", h)))
        return self.linear("proj_out", self.norm("out_layernorm", x))


def router_config(**changes):
    config = {"add_cluster_predictor": True, "train_predictor": False, "embedding_dim": 32,
              "inter_dim": 32, "N_cluster": 4, "hidden_act_predictor": "silu",
              "max_position_embeddings_predictor": 4096, "n_layer": 1, "n_head": 4,
              "normalizer": 1.0, "nonautoregressive": False}
    config |= changes
    config["inter_dim"] = config["embedding_dim"]
    return config


def token_ids(name, count, vocab_size):
    """Uniform, from the formula."""
    return torch.from_numpy(
        ((random_elements(name, count).astype(np.float64) + 1) / 2 * vocab_size).astype(np.int64))


ROUTER_VOCAB = 512
ROUTER_SEQUENCES, ROUTER_LENGTH = 8, 1536
ROUTER_CASES = {
    "silu": router_config(embedding_dim=192, N_cluster=7),
    "two_layers": router_config(n_layer=2, normalizer=8.0, n_head=2, embedding_dim=96,
                                hidden_act_predictor="gelu_new", N_cluster=16),
    "relu": router_config(hidden_act_predictor="relu"),
    "nonautoregressive": router_config(nonautoregressive=True, embedding_dim=64),
}


def check_prefixes(router, ids, logits):
    """The ids of whole sequences are those of recomputing each prefix from nothing."""
    for end in (1, 2, 17, 400, len(ids) - 1):
        assert int(router.logits(ids[:end])[-1].argmax()) == int(logits[end - 1].argmax())


def make_router_cases():
    cases, chosen = [], []
    for name, config in ROUTER_CASES.items():
        router = Router.random(config, ROUTER_VOCAB, theta=10000.0, seed=name)
        gaps, counts = [], np.zeros(config["N_cluster"], int)
        for s in range(ROUTER_SEQUENCES):
            ids = token_ids(f"ids:{name}:{s}", ROUTER_LENGTH, ROUTER_VOCAB)
            logits = router.logits(ids)
            check_prefixes(router, ids, logits)
            top = logits.topk(2, -1).values
            gaps.append(float((top[:, 0] - top[:, 1]).min()))
            experts = logits.argmax(-1).numpy()
            counts += np.bincount(experts, minlength=len(counts))
            chosen.append(experts.astype(np.uint8))
        print(f"router {name}: {ROUTER_SEQUENCES * ROUTER_LENGTH} tokens, logits of the last "
              f"{float(logits.std()):.2f} (std), smallest gap {min(gaps):.1e}, share of experts",
              np.round(counts / counts.sum(), 2))
        cases.append({"name": name, "config": config, "tensors": list(Router.shapes(config, ROUTER_VOCAB).items()),
                      "smallest_gap": min(gaps)})
    np.concatenate(chosen).tofile(DATA / "routers.bin")  # [cases][sequences][length] u8
    return {"vocab_size": ROUTER_VOCAB, "sequences": ROUTER_SEQUENCES, "length": ROUTER_LENGTH,
            "cases": cases}


# --- The backbone ---

HIDDEN, LAYERS, FFN, EXPERTS, VOCAB = 64, 4, 384, 4, 160
BACKBONE = {
    "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": VOCAB,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "tie_word_embeddings": False, "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2,
    "model_type": "llama", "architectures": ["LlamaForCausalLM"],
}
TOKENS, STRIDE, GREEDY = 96, 4, 16


def expert_width(layer, expert):
    """Odd, and another in each layer; one expert is narrower still, as ties make it."""
    return (131 if layer % 2 else 127) - (1 if expert == EXPERTS - 1 else 0)


def expert_neurons(layer, expert):
    """The neurons that the expert likes best, some of which all like: ascending."""
    likes = (random_elements(f"all:{layer}", FFN).astype(np.float64) +
             random_elements(f"expert:{layer}:{expert}", FFN).astype(np.float64))
    best = np.argsort(-likes, kind="stable")[:expert_width(layer, expert)]
    return torch.from_numpy(np.sort(best))


def dense_ffn(layer):
    name = f"model.layers.{layer}.mlp."
    return [random_tensor(f"{name}{part}_proj.weight", shape)
            for part, shape in (("gate", (FFN, HIDDEN)), ("up", (FFN, HIDDEN)),
                                ("down", (HIDDEN, FFN)))]


def cut(layer, expert):
    """Gate, up and down of an expert of the dense FFN."""
    gate, up, down = dense_ffn(layer)
    neurons = expert_neurons(layer, expert)
    return gate[neurons], up[neurons], down[:, neurons]


def untied(layer, expert):
    """Gate, up and down of an expert that shares nothing with others."""
    width = expert_width(layer, expert)
    name = f"model.layers.{layer}.moe."
    return [random_tensor(f"{name}{part}_proj_{expert}.weight", shape)
            for part, shape in (("gate", (width, HIDDEN)), ("up", (width, HIDDEN)),
                                ("down", (HIDDEN, width)))]


class ExpertsOfTokens(torch.nn.Module):
    """An FFN of which each token runs its expert alone."""

    def __init__(self, experts):
        super().__init__()
        self.experts, self.ids = experts, None

    def forward(self, x):
        out = torch.zeros_like(x)
        for e, (gate, up, down) in enumerate(self.experts):
            rows = self.ids == e
            h = torch.nn.functional.silu(x[0, rows] @ gate.T) * (x[0, rows] @ up.T)
            out[0, rows] = h @ down.T
        return out


def backbone(make_expert):
    """The model, and a function that lets it run on ids with their experts."""
    fields = {k: v for k, v in BACKBONE.items() if k != "model_type"}
    config = transformers.AutoConfig.for_model("llama", **fields)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32).eval()
    tensors = []
    for name, parameter in model.named_parameters():
        if ".mlp." in name:
            continue
        parameter.data = random_tensor(name, tuple(parameter.shape))
        tensors.append([name, list(parameter.shape)])
    for layer, block in enumerate(model.model.layers):
        block.mlp = ExpertsOfTokens([make_expert(layer, e) for e in range(EXPERTS)])

    def run(ids, experts):
        for block in model.model.layers:
            block.mlp.ids = experts
        return model(ids[None]).logits[0]

    return run, tensors


def make_backbone_cases():
    router = Router.random(router_config(), VOCAB, BACKBONE["rope_theta"], seed="tiny")
    ids = token_ids("ids:tiny", TOKENS, VOCAB)
    cases, logits_of_all = [], []
    for name, make_expert in (("tied", cut), ("untied", untied)):
        run, tensors = backbone(make_expert)
        logits = run(ids, router.logits(ids).argmax(-1))
        answer = ids
        for _ in range(GREEDY):
            experts = router.logits(answer).argmax(-1)
            answer = torch.cat([answer, run(answer, experts)[-1:].argmax(-1)])
        logits_of_all.append(logits[STRIDE - 1::STRIDE].numpy().astype("<f4"))
        cases.append({"name": name, "greedy": answer[TOKENS:].tolist()})
        print(name, "logits std %.3f," % float(logits.std()), "experts",
              np.bincount(router.logits(answer).argmax(-1).numpy(), minlength=EXPERTS))
    np.stack(logits_of_all).tofile(DATA / "logits.bin")  # [cases][tokens / stride][vocab] f32
    return {"config": BACKBONE | router.config, "tokens": TOKENS, "stride": STRIDE,
            "tensors": tensors + [[name, list(shape)] for name, shape in
                                  Router.shapes(router.config, VOCAB).items()],
            "experts": router.logits(ids).argmax(-1).tolist(), "cases": cases}


def make_tiny():
    goldens = {"routers": make_router_cases(), "backbone": make_backbone_cases()}
    with open(DATA / "cases.json", "w", encoding="utf-8") as file:
        json.dump(goldens, file, separators=(",", ":"))
        file.write("\n")


# --- The real fixture ---


def read_windows(path):
    """The token ids of tests/testdata/parity/<MODEL>.bin, [windows, length]."""
    raw = np.fromfile(path, "<i4")
    windows, length = raw[:2]
    return torch.from_numpy(raw[2:2 + windows * length].reshape(windows, length).astype(np.int64))


def real_router(model_path):
    """The fixture's, with the first columns of the model's embedding."""
    config = json.loads((FIXTURE / "config.json").read_text(encoding="utf-8"))
    tensors = safetensors.torch.load_file(FIXTURE / "model.safetensors")
    table = next(t for t in gguf.GGUFReader(model_path).tensors if t.name == "token_embd.weight")
    rows = torch.from_numpy(gguf.dequantize(table.data, table.tensor_type))
    tensors["cluster_predictor.embed.weight"] = rows[:, :config["embedding_dim"]].contiguous()
    return Router(config, config["rope_theta"], tensors)


class MaskedFfn(torch.nn.Module):
    """A dense FFN of which each token runs the neurons that its expert owns."""

    def __init__(self, mlp, packed):
        super().__init__()
        self.mlp, self.ids = mlp, None
        bits = np.unpackbits(packed.numpy(), axis=-1, bitorder="little")
        self.masks = torch.from_numpy(bits[:, :mlp.gate_proj.out_features]).to(torch.float32)

    def forward(self, x):
        h = self.mlp.act_fn(self.mlp.gate_proj(x)) * self.mlp.up_proj(x)
        return self.mlp.down_proj(h * self.masks[self.ids])


def make_real(path):
    router = real_router(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    for layer, block in enumerate(model.model.layers):
        block.mlp = MaskedFfn(block.mlp, router.weights[f"model.layers.{layer}.mlp.expert_masks"])
    experts, top, logprobs, gaps = [], [], [], []
    for ids in read_windows(TESTDATA / "parity" / (path.stem + ".bin")):
        scores = router.logits(ids)
        check_prefixes(router, ids, scores)
        best = scores.topk(2, -1).values
        gaps.append(float((best[:, 0] - best[:, 1]).min()))
        for block in model.model.layers:
            block.mlp.ids = scores.argmax(-1)
        logits = model(ids[None]).logits[0, :-1]
        experts.append(scores.argmax(-1).numpy().astype(np.uint8))
        top.append(logits.argmax(-1).numpy().astype("<i4"))
        logprobs.append(torch.log_softmax(logits, -1).gather(1, ids[1:, None])[:, 0].numpy())
        print("perplexity so far %.5f, smallest gap %.1e" % (np.exp(-np.mean(logprobs)), min(gaps)),
              np.bincount(np.concatenate(experts), minlength=7), flush=True)
    with open(DATA / (path.stem + ".bin"), "wb") as file:
        np.array(experts, np.uint8).tofile(file)  # [windows, length]
        np.array(top, "<i4").tofile(file)  # [windows, length - 1]
        np.array(logprobs, "<f4").tofile(file)  # [windows, length - 1] of the next token


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tiny", "real"])
    parser.add_argument("model", nargs="?", type=pathlib.Path)
    arguments = parser.parse_args()
    DATA.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        if arguments.what == "tiny":
            torch.set_num_threads(1)
            make_tiny()
        else:
            make_real(arguments.model)


if __name__ == "__main__":
    main()
