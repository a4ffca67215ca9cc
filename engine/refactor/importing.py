"""Turns the public pickled Read-ME checkpoints into the safetensors folders that are served.

Usage: python -m refactor.importing FOLDER --out DIR [--masks mask.pt] [--dtype bfloat16]

FOLDER holds config.json and the state dict: *.safetensors, or pytorch_model*.bin / *.pt. With
--masks it is the masked dense form, and mask.pt the masks saved beside it in training:
`module.model.layers.<l>.mlp.down_proj` -> {"residual": [F], 0: [F], 1: [F], ...} of 0 and 1.
Without, it is the fused form or the one with a separate residual. Pickles are opened with
weights_only: they can hold tensors and nothing that runs.
"""

import argparse
import json
import pathlib
import pickle
import re
import shutil
import sys

import numpy as np
import torch
from safetensors.torch import save_file

from refactor.checkpoint import read_tensors
from refactor.export import DTYPES, TOKENIZER_FILES, mask_tensors, write_json
from refactor.router import PREFIX

DENSE = re.compile(r"(model\.embed_tokens|model\.norm|lm_head"
                   r"|model\.layers\.\d+\.(input_layernorm|post_attention_layernorm"
                   r"|self_attn\.[qkvo]_proj))\.(weight|bias)")
FFN = re.compile(r"model\.layers\.\d+\.mlp\.(gate|up|down)_proj\.weight")
EXPERT = re.compile(r"model\.layers\.(\d+)\.moe\.(?:gate|up|down)_proj_(\d+|residual)\.weight")
UNUSED = re.compile(r".*\.(inv_freq|cos_cached|sin_cached)")  # buffers that are computed anew
MASKS_KEY = re.compile(r"(?:module\.)?model\.layers\.(\d+)\.mlp\.down_proj")


def load_pickle(path: pathlib.Path) -> dict:
    """A pickled dict of tensors. Raises ValueError for anything that is more."""
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path.name}: must be a pickle of tensors alone; got"
                         f" {str(error).splitlines()[0]}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name}: must be a dict; got {type(value).__name__}")
    return value


def read_state(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    """The state dict of a folder, names without `module.`."""
    pickles = sorted([*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt")])
    state = {}
    if not pickles:
        state = read_tensors(folder)
    for path in pickles:
        if not path.name.startswith("mask"):
            state |= load_pickle(path)
    return {name.removeprefix("module."): t for name, t in state.items()
            if not UNUSED.fullmatch(name)}


def masks_from_pickle(masks: dict, layers: int, ffn: int, experts: int) -> np.ndarray:
    """bool [L, N, F], residual included, from a mask.pt. Raises ValueError for another layout."""
    result = np.zeros((layers, experts, ffn), dtype=bool)
    seen = set()
    for key, layer in masks.items():
        match = MASKS_KEY.fullmatch(str(key))
        if not match or int(match.group(1)) >= layers:
            raise ValueError(f"mask {key}: must name the down_proj of one of {layers} layers")
        if not isinstance(layer, dict) or set(layer) != {"residual", *range(experts)}:
            raise ValueError(f"mask {key}: must have the masks residual, 0 to {experts - 1};"
                             f" got {list(layer) if isinstance(layer, dict) else type(layer)}")
        for name, mask in layer.items():
            values = torch.as_tensor(mask).float()
            if tuple(values.shape) != (ffn,) or not ((values == 0) | (values == 1)).all():
                raise ValueError(f"mask {key}[{name}]: must be {ffn} values of 0 or 1")
            owners = slice(None) if name == "residual" else name
            result[int(match.group(1)), owners] |= values.bool().numpy()
        seen.add(int(match.group(1)))
    if len(seen) != layers:
        raise ValueError(f"masks: must be given for all {layers} layers; got {len(seen)}")
    return result


def check_names(state: dict[str, torch.Tensor], config: dict, masked: bool) -> None:
    """Raises ValueError unless the names are those of a form."""
    ffn = FFN if masked else EXPERT
    for name in state:
        if not (name.startswith(PREFIX) or DENSE.fullmatch(name) or ffn.fullmatch(name)):
            form = "masked" if masked else "fused or residual"
            raise ValueError(f"tensor {name}: the form {form} has no such tensor")
    experts, layers = config["N_cluster"], config["num_hidden_layers"]
    if not masked:
        found = {match.groups() for name in state if (match := EXPERT.fullmatch(name))}
        missing = {(str(i), str(e)) for i in range(layers) for e in range(experts)} - found
        if missing:
            layer, expert = sorted(missing)[0]
            raise ValueError(f"layer {layer}: must have the expert {expert}; got none")
    if f"{PREFIX}proj_out.weight" not in state:
        raise ValueError(f"tensor {PREFIX}proj_out.weight: must be given; got none")


def convert(folder: pathlib.Path, masks_path: pathlib.Path | None, out: pathlib.Path,
            dtype: str) -> None:
    """Writes the safetensors folder. Raises ValueError for what is not a Read-ME checkpoint."""
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise ValueError(f"{folder}: must hold config.json; got none")
    config = json.loads(config_path.read_text(encoding="utf-8"))
    if not config.get("add_cluster_predictor"):
        raise ValueError("add_cluster_predictor: must be true; got"
                         f" {config.get('add_cluster_predictor')}")
    state = read_state(folder)
    check_names(state, config, masks_path is not None)
    tensors = {name: t.to(torch.float32 if name.startswith(PREFIX) else DTYPES[dtype]).contiguous()
               for name, t in state.items()}
    if masks_path is not None:
        tensors |= mask_tensors(masks_from_pickle(
            load_pickle(masks_path), config["num_hidden_layers"], config["intermediate_size"],
            config["N_cluster"]))
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    write_json(out / "config.json", config | {"train_predictor": False, "torch_dtype": dtype})
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m refactor.importing",
                                     description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--masks", type=pathlib.Path, help="mask.pt of a masked dense checkpoint")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    args = parser.parse_args(arguments)
    try:
        convert(args.folder, args.masks, args.out, args.dtype)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
