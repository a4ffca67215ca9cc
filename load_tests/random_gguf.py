"""Random GGUF models for measurements of speed: what make_random_*.py share.

No quantiser takes part: the blocks are random bytes whose scales make weights of mean 0 and deviation
0.02, always the same ones. Needs the package `gguf`.
"""

import os
import sys

import gguf
import numpy as np

SEED = 20260101
DEVIATION = 0.02
TYPES = gguf.GGMLQuantizationType


def half(value, count):
    return np.broadcast_to(np.array([value], dtype="<f2").view(np.uint8), (count, 2))


def q4_k(rng, rows, columns):
    """Weights d * scale * q - dmin * min; scale and min are uniform in 0..63, q in 0..15."""
    count = rows * columns // 256
    blocks = rng.integers(0, 256, (count, 144), dtype=np.uint8)
    d = DEVIATION / 260  # the deviation of scale * q - 7.5 * min
    blocks[:, 0:2] = half(d, count)
    blocks[:, 2:4] = half(7.5 * d, count)
    return blocks.reshape(rows, -1), TYPES.Q4_K


def q6_k(rng, rows, columns):
    """Weights d * scale * (q - 32); scale is uniform in 8..15, q in 0..63."""
    count = rows * columns // 256
    blocks = rng.integers(0, 256, (count, 210), dtype=np.uint8)
    blocks[:, 192:208] = blocks[:, 192:208] % 8 + 8
    blocks[:, 208:210] = half(DEVIATION / (18.5 * 11.7), count)
    return blocks.reshape(rows, -1), TYPES.Q6_K


def q4_0(rng, rows, columns):
    """Weights d * (q - 8); q is uniform in 0..15, the sign of d random."""
    count = rows * columns // 32
    blocks = rng.integers(0, 256, (count, 18), dtype=np.uint8)
    sign = blocks[:, 1] & 0x80
    blocks[:, 0:2] = half(DEVIATION / 4.64, count)
    blocks[:, 1] |= sign
    return blocks.reshape(rows, -1), TYPES.Q4_0


class RandomModel:
    """A GGUF file in the making. It gets its name when it is whole."""

    def __init__(self, target, architecture, tokenizer):
        self._target = target
        self._unfinished = f"{target}.unfinished"
        self._rng = np.random.default_rng(SEED)
        self.writer = gguf.GGUFWriter(self._unfinished, architecture)
        self.vocab_size = self._copy_tokenizer(tokenizer)

    def _copy_tokenizer(self, source):
        fields = gguf.GGUFReader(source).fields
        for name, field in fields.items():
            if name.startswith("tokenizer."):
                kind = field.types[0]
                self.writer.add_key_value(
                    name, field.contents(), kind,
                    field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
        return len(fields["tokenizer.ggml.tokens"].data)

    def matrix(self, name, rows, columns, make, experts=0):
        """[rows, columns]; of so many experts, one after the other, if not 0."""
        data, kind = make(self._rng, max(1, experts) * rows, columns)
        if experts:
            data = data.reshape(experts, rows, -1)
        self.writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)

    def floats(self, name, rows, columns):
        values = self._rng.normal(0, DEVIATION, (rows, columns)).astype(np.float32)
        self.writer.add_tensor(f"{name}.weight", values)

    def norm(self, name, size):
        self.writer.add_tensor(f"{name}.weight", np.ones(size, dtype=np.float32))

    def write(self):
        self.writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        os.replace(self._unfinished, self._target)


def main(doc, architecture, add_metadata, add_tensors):
    """The command line of a script that makes one model: OUT.gguf TOKENIZER.gguf."""
    if len(sys.argv) != 3:
        sys.exit(doc)
    target, tokenizer = sys.argv[1:]
    model = RandomModel(target, architecture, tokenizer)
    add_metadata(model.writer, model.vocab_size)
    add_tensors(model)
    model.write()
