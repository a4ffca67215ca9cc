#!/usr/bin/env python3
"""Rows of floats and what the gguf package quantises them to: tests/testdata/quantize/gguf.bin.

    make_quantize_goldens.py tests/testdata/quantize/gguf.bin

The file: the number of blocks of 32 as int32, the floats, then the blocks as Q8_0, Q5_1, Q5_0, Q4_1
and Q4_0. Read by tests/kernels/quantize_weights_test.cc. Needs numpy and gguf (made with 0.17.1).
"""

import pathlib
import sys

import gguf
import numpy

TYPES = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")


def blocks():
    """Weights as models have them, and what is at the edge of the formats."""
    random = numpy.random.default_rng(7)
    rows = [random.normal(0, size, (12, 32)) for size in (1, 0.02, 1e-4, 300)]
    rows += [random.laplace(0.1, 0.03, (12, 32)), random.uniform(2, 3, (12, 32))]
    edges = numpy.zeros((6, 32))
    edges[1] = 0.37
    edges[2, 5] = -8.0
    edges[3] = numpy.arange(32) - 16
    edges[4] = numpy.arange(32) / 64 + 0.5
    edges[5] = -edges[3]
    return numpy.concatenate([*rows, edges]).astype(numpy.float32)


def main():
    floats = blocks()
    data = numpy.int32(len(floats)).tobytes() + floats.tobytes()
    for name in TYPES:
        data += gguf.quantize(floats, gguf.GGMLQuantizationType[name]).tobytes()
    path = pathlib.Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    main()
