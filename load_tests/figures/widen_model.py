#!/usr/bin/env python3
"""Makes a large Read-ME model out of a small one that behaves the same.

Every FFN neuron becomes WIDTH neurons, each with 1/WIDTH of the output: the model says what the small
one says, its router chooses what it chose, but experts are WIDTH times as large. So what happens when
experts do not fit in memory can be measured on real text with a real router.

Usage: widen_model.py MODEL.gguf READ_ME_FOLDER WIDTH OUT_FOLDER
Writes OUT_FOLDER/model.gguf and OUT_FOLDER/read_me (for --read-me). MODEL's down projections must be of
a type whose blocks begin with half-precision scales: Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0.
Wants numpy, gguf and safetensors: the environment that engine/refactor/make_venv.sh makes has them.
"""
import json
import pathlib
import shutil
import struct
import sys

import numpy as np
from gguf import GGUFReader, GGMLQuantizationType
from safetensors.numpy import load_file, save_file

ALIGNMENT = 32
# Bytes of a block, and how many halves at its start scale it.
BLOCKS = {
    GGMLQuantizationType.Q4_0: (18, 1),
    GGMLQuantizationType.Q4_1: (20, 2),
    GGMLQuantizationType.Q5_0: (22, 1),
    GGMLQuantizationType.Q5_1: (24, 2),
    GGMLQuantizationType.Q8_0: (34, 1),
}


def widened_down(tensor, width):
    """Rows [H, F] as [H, WIDTH F], every block scaled down."""
    block_bytes, halves = BLOCKS[tensor.tensor_type]
    rows = int(tensor.shape[1])
    blocks = np.array(tensor.data, dtype=np.uint8).reshape(rows, -1, block_bytes).copy()
    scales = blocks[:, :, : 2 * halves].copy().view(np.float16)
    blocks[:, :, : 2 * halves] = (scales.astype(np.float32) / width).astype(np.float16).view(np.uint8)
    return np.tile(blocks, (1, width, 1))


def widen_gguf(source, width, out):
    reader = GGUFReader(source)
    raw = np.memmap(source, mode="r")
    first_tensor = reader.tensors[0].field.offset
    header = bytearray(raw[:first_tensor].tobytes())
    architecture = bytes(reader.fields["general.architecture"].parts[-1]).decode()
    field = reader.fields[f"{architecture}.feed_forward_length"]
    at = field.offset + sum(part.nbytes for part in field.parts[:-1])
    struct.pack_into("<I", header, at, int(field.parts[-1][0]) * width)

    infos, offset = bytearray(), 0
    wide = [(t, ".ffn_" in t.name and "norm" not in t.name) for t in reader.tensors]
    for tensor, widened in wide:
        name = tensor.name.encode()
        shape = [int(n) for n in tensor.shape]
        bytes_ = int(tensor.n_bytes)
        if widened:
            shape["ffn_down" not in tensor.name] *= width
            bytes_ *= width
        infos += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape))
        infos += struct.pack(f"<{len(shape)}Q", *shape)
        infos += struct.pack("<IQ", int(tensor.tensor_type), offset)
        offset += -(-bytes_ // ALIGNMENT) * ALIGNMENT

    with open(out, "wb") as file:
        file.write(header)
        file.write(infos)
        file.write(bytes(-file.tell() % ALIGNMENT))
        for tensor, widened in wide:
            if widened and "ffn_down" in tensor.name:
                widened_down(tensor, width).tofile(file)
            else:
                for _ in range(width if widened else 1):
                    np.array(tensor.data).tofile(file)
            file.write(bytes(-file.tell() % ALIGNMENT))


def widen_masks(source, width, out):
    out.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    config["intermediate_size"] *= width
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for file in source.glob("*.safetensors"):
        tensors = load_file(file)
        for name, tensor in tensors.items():
            if name.endswith(".expert_masks"):
                neurons = config["intermediate_size"] // width
                bits = np.unpackbits(tensor, axis=1, count=neurons, bitorder="little")
                tensors[name] = np.packbits(np.tile(bits, (1, width)), axis=1, bitorder="little")
        save_file(tensors, out / file.name)


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    model, read_me, width, out = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), pathlib.Path(sys.argv[4])
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    widen_gguf(model, width, out / "model.gguf")
    widen_masks(read_me, width, out / "read_me")
    print(out)


if __name__ == "__main__":
    main()
