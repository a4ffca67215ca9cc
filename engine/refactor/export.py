"""Writes Read-ME checkpoints: an overlay for the dense model, or one of the three whole forms."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import torch
from safetensors.torch import save_file

from refactor.checkpoint import LAYER, Checkpoint, sha256
from refactor.masks import pack
from refactor.router import Router
from refactor.tokens import tokenizer_files_from_gguf

OVERLAY = "overlay"
FORMS = ("masked", "fused", "residual")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                   "generation_config.json")


@dataclasses.dataclass(frozen=True)
class ReadMe:
    """A Read-ME model: a dense one, masks bool [L, N, F] over its neurons, and the router."""
    checkpoint: Checkpoint
    masks: np.ndarray
    router: Router


def write_json(path: pathlib.Path, value: dict) -> None:
    """Writes JSON that people read and that is the same for the same value."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def mask_tensors(masks: np.ndarray) -> dict[str, torch.Tensor]:
    """The masks [L, N, F] of every layer, packed."""
    return {f"{LAYER}{i}.mlp.expert_masks": torch.from_numpy(pack(layer))
            for i, layer in enumerate(masks)}


# --- The overlay ---

def write_overlay(model: ReadMe, folder: pathlib.Path) -> None:
    """Router and masks alone: they are laid over the dense model, whose embedding the router uses.

    config.json repeats the sizes of the dense model so that a reader can tell whether they fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    c = model.checkpoint.config
    sizes = {"hidden_size": c.hidden, "intermediate_size": c.ffn, "num_hidden_layers": c.layers,
             "vocab_size": c.vocab, "rope_theta": c.rope_theta}
    write_json(folder / "config.json", model.router.config.fields() | sizes |
               {"model_type": "read_me_overlay", "frozen_embedding": True})
    save_file(model.router.checkpoint() | mask_tensors(model.masks), folder / "model.safetensors")


# --- Whole folders ---

def _slices(tensors: dict, layer: int, mask: np.ndarray, suffix: str) -> dict[str, torch.Tensor]:
    """The neurons of a mask [F], as the three matrices of an expert called `suffix`."""
    index = torch.from_numpy(np.flatnonzero(mask))
    return {f"{LAYER}{layer}.moe.{name}_{suffix}.weight":
            tensors[f"{LAYER}{layer}.mlp.{name}.weight"].index_select(
                1 if name == "down_proj" else 0, index)
            for name in PROJECTIONS}


def form_tensors(model: ReadMe, form: str) -> dict[str, torch.Tensor]:
    """The tensors of a form, fp32 (masks U8), under the names of the public code.

    masked: the dense tensors and the masks. fused: each expert's neurons, ascending, residual
    included. residual: each expert's own neurons, and what all own once.
    """
    dense = {name: t.detach().cpu() for name, t in model.checkpoint.tensors.items()}
    router = model.router.checkpoint(with_embedding=True)
    if form == "masked":
        return dense | router | mask_tensors(model.masks)
    tensors = {name: t for name, t in dense.items() if ".mlp." not in name} | router
    for i, layer in enumerate(model.masks):
        residual = layer.all(axis=0)
        if form == "residual":
            tensors |= _slices(dense, i, residual, "residual")
        for e, mask in enumerate(layer):
            tensors |= _slices(dense, i, mask & ~residual if form == "residual" else mask, str(e))
    return tensors


def write_form(model: ReadMe, form: str, folder: pathlib.Path, dtype: str = "bfloat16") -> None:
    """A Hugging Face folder of one of FORMS; the router stays fp32.

    Raises ValueError when an expert would have no neurons of its own in the form `residual`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = model.checkpoint
    tensors = {name: (t if name.startswith("cluster_predictor.") or t.dtype == torch.uint8
                      else t.to(DTYPES[dtype])).contiguous()
               for name, t in form_tensors(model, form).items()}
    empty = [name for name, t in tensors.items() if t.numel() == 0]
    if empty:
        raise ValueError(f"tensor {empty[0]}: must own a neuron in the form residual; got none")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", checkpoint.hf_config | model.router.config.fields() |
               {"torch_dtype": dtype})
    if checkpoint.gguf_fields is not None:
        tokenizer_files_from_gguf(checkpoint.gguf_fields, folder)
        return
    for name in TOKENIZER_FILES:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)


def digests(folder: pathlib.Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder but the manifest, by its path there."""
    return {path.relative_to(folder).as_posix(): sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "manifest.json"}
