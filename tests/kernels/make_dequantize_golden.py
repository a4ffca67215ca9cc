#!/usr/bin/env python3
"""Writes dequantize_golden.txt: blocks of each format and the floats they stand for.

The floats come from the `gguf` package (pip install gguf), an implementation that is not ours.
Each line: format, the block's bytes in hex, the values' float32 bits in hex (little endian).
Usage: tests/kernels/make_dequantize_golden.py > tests/kernels/dequantize_golden.txt
"""

import gguf
import numpy as np

# Format: bytes of a block, offsets of its half-precision numbers.
FORMATS = {
    "Q8_0": (34, [0]),
    "Q4_0": (18, [0]),
    "Q4_1": (20, [0, 2]),
    "Q5_0": (22, [0]),
    "Q5_1": (24, [0, 2]),
    "Q4_K": (144, [0, 2]),
    "Q5_K": (176, [0, 2]),
    "Q6_K": (210, [208]),
    "F16": (2, [0]),
    "BF16": (2, []),
}
# Scales of the blocks of each format: ordinary, negative, the smallest half there is.
SCALES = [0.0437, -1.913, 5.97e-8]


def main():
    rng = np.random.default_rng(20260101)
    for name, (size, halves) in FORMATS.items():
        for scale in SCALES if size < 100 else SCALES[:2]:
            block = rng.integers(0, 256, size, dtype=np.uint8)
            for i, offset in enumerate(halves):
                half = np.array([scale * (i + 1)], dtype=np.float16)
                block[offset:offset + 2] = half.view(np.uint8)
            if name == "BF16":
                block[1] &= 0x3F  # finite
            values = gguf.quants.dequantize(block, gguf.GGMLQuantizationType[name])
            bits = np.ascontiguousarray(values, dtype="<f4").tobytes().hex()
            print(name, block.tobytes().hex(), bits)


if __name__ == "__main__":
    main()
