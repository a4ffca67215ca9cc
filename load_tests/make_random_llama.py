#!/usr/bin/env python3
"""Writes a random model of 1.5 billion parameters, for measurements of speed.

Usage: make_random_llama.py OUT.gguf TOKENIZER.gguf

The shape is a Llama's (28 layers of 2048, 16 heads of 128, 8 of keys and values, FFN 6144, tied
output). All matrices are Q4_K, the embedding Q6_K, as llama.cpp's quantiser would have it: see
random_gguf.py. The tokenizer is that of the other file.
"""

import gguf
import random_gguf

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM = 28, 2048, 6144, 16, 8, 128
CONTEXT = 8192


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


def add_tensors(model):
    model.matrix("token_embd", model.vocab_size, HIDDEN, random_gguf.q6_k)
    model.norm("output_norm", HIDDEN)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        model.norm(f"{block}.attn_norm", HIDDEN)
        model.norm(f"{block}.ffn_norm", HIDDEN)
        for name, rows, columns in (
                ("attn_q", HEADS * HEAD_DIM, HIDDEN), ("attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
                ("attn_v", KV_HEADS * HEAD_DIM, HIDDEN), ("attn_output", HIDDEN, HEADS * HEAD_DIM),
                ("ffn_gate", FFN, HIDDEN), ("ffn_up", FFN, HIDDEN), ("ffn_down", HIDDEN, FFN)):
            model.matrix(f"{block}.{name}", rows, columns, random_gguf.q4_k)


if __name__ == "__main__":
    random_gguf.main(__doc__, "llama", add_metadata, add_tensors)
