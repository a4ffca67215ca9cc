#!/usr/bin/env python3
"""Writes a random model of 1.5 billion parameters, for measurements of speed.

Usage: make_random_llama.py OUT.gguf TOKENIZER.gguf

The shape is a Llama's (28 layers of 2048, 16 heads of 128, 8 of keys and values, FFN 6144, tied
output). All matrices are Q4_K, the embedding Q6_K, as llama.cpp's quantiser would have it. No
quantiser takes part: the blocks are random bytes whose scales make weights of mean 0 and deviation
0.02, always the same ones. The tokenizer is that of the other file. Needs the package `gguf`.
"""

import os
import sys

import gguf
import numpy as np

SEED = 20260101
LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM = 28, 2048, 6144, 16, 8, 128
CONTEXT = 8192
BLOCK = 256  # weights of a block of both formats
DEVIATION = 0.02
TYPES = gguf.GGMLQuantizationType


def half(value, count):
    return np.broadcast_to(np.array([value], dtype="<f2").view(np.uint8), (count, 2))


def q4_k(rng, rows, columns):
    """Weights d * scale * q - dmin * min; scale and min are uniform in 0..63, q in 0..15."""
    count = rows * columns // BLOCK
    blocks = rng.integers(0, 256, (count, 144), dtype=np.uint8)
    d = DEVIATION / 260  # the deviation of scale * q - 7.5 * min
    blocks[:, 0:2] = half(d, count)
    blocks[:, 2:4] = half(7.5 * d, count)
    return blocks.reshape(rows, -1), TYPES.Q4_K


def q6_k(rng, rows, columns):
    """Weights d * scale * (q - 32); scale is uniform in 8..15, q in 0..63."""
    count = rows * columns // BLOCK
    blocks = rng.integers(0, 256, (count, 210), dtype=np.uint8)
    blocks[:, 192:208] = blocks[:, 192:208] % 8 + 8
    blocks[:, 208:210] = half(DEVIATION / (18.5 * 11.7), count)
    return blocks.reshape(rows, -1), TYPES.Q6_K


def add_tokenizer(writer, source):
    for name, field in gguf.GGUFReader(source).fields.items():
        if name.startswith("tokenizer."):
            kind = field.types[0]
            writer.add_key_value(name, field.contents(), kind,
                                 field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)


def vocabulary(source):
    return len(gguf.GGUFReader(source).fields["tokenizer.ggml.tokens"].data)


def add_metadata(writer, vocab_size):
    writer.add_name("Random Llama 1.5B")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_S)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_tensors(writer, vocab_size):
    rng = np.random.default_rng(SEED)

    def matrix(name, rows, columns, make=q4_k):
        data, kind = make(rng, rows, columns)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)

    def norm(name):
        writer.add_tensor(f"{name}.weight", np.ones(HIDDEN, dtype=np.float32))

    matrix("token_embd", vocab_size, HIDDEN, q6_k)
    norm("output_norm")
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm")
        norm(f"{block}.ffn_norm")
        matrix(f"{block}.attn_q", HEADS * HEAD_DIM, HIDDEN)
        matrix(f"{block}.attn_k", KV_HEADS * HEAD_DIM, HIDDEN)
        matrix(f"{block}.attn_v", KV_HEADS * HEAD_DIM, HIDDEN)
        matrix(f"{block}.attn_output", HIDDEN, HEADS * HEAD_DIM)
        matrix(f"{block}.ffn_gate", FFN, HIDDEN)
        matrix(f"{block}.ffn_up", FFN, HIDDEN)
        matrix(f"{block}.ffn_down", HIDDEN, FFN)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    target, tokenizer = sys.argv[1:]
    unfinished = f"{target}.unfinished"
    writer = gguf.GGUFWriter(unfinished, "llama")
    vocab_size = vocabulary(tokenizer)
    add_metadata(writer, vocab_size)
    add_tokenizer(writer, tokenizer)
    add_tensors(writer, vocab_size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(unfinished, target)


if __name__ == "__main__":
    main()
