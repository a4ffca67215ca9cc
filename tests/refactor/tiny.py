"""A tiny random Llama with a tokeniser and texts, as the recipe takes them."""

import json
import pathlib

import numpy as np
import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import models, pre_tokenizers

from refactor import checkpoint

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32,
    "intermediate_size": 76, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 257, "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0,
    "tie_word_embeddings": True}


def tensors(config: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights of a config.json."""
    generator = torch.Generator().manual_seed(seed)
    shapes = checkpoint.expected_shapes(checkpoint.parse_config(config))
    return {name: torch.randn(shape, generator=generator) / (shape[-1] ** 0.5) + ("norm" in name)
            for name, shape in shapes.items()}


def write_tokenizer(folder: pathlib.Path) -> None:
    """A tokeniser whose tokens are the 256 bytes and an end of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<end>", *alphabet])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_model(folder: pathlib.Path, config: dict | None = None) -> pathlib.Path:
    """A Hugging Face folder."""
    folder.mkdir(parents=True)
    config = config or CONFIG
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors(config), folder / "model.safetensors")
    write_tokenizer(folder)
    return folder


def write_texts(folder: pathlib.Path, names=("digits", "words", "signs")) -> pathlib.Path:
    """Domains that use letters of their own."""
    letters = ["0123456789 \n", "abcdefghij \n", "+-*/<>=!?; \n"]
    rng = np.random.default_rng(0)
    for name, alphabet in zip(names, letters):
        (folder / name).mkdir(parents=True)
        for i in range(6):
            text = "".join(rng.choice(list(alphabet), 1500))
            (folder / name / f"{i}.txt").write_text(text, encoding="utf-8")
    return folder
