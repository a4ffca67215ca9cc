#!/usr/bin/env python3
"""Writes a random mixture of experts of OLMoE's architecture, for measurements of speed.

Usage: make_random_moe.py OUT.gguf TOKENIZER.gguf

16 layers of 1024, 16 heads of 64, 32 experts of 512 of which a token meets 4: 970 million
parameters, 270 million of them for a token. All matrices are Q4_0, the head Q6_K, routers float32, as
llama.cpp's quantiser would have it: see random_gguf.py. The tokenizer is that of the other file.
"""

import gguf
import random_gguf

LAYERS, HIDDEN, HEADS, EXPERTS, EXPERTS_USED, FFN = 16, 1024, 16, 32, 4, 512
CONTEXT = 4096


def add_metadata(writer, vocab_size):
    writer.add_name("Random OLMoE 1B")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(EXPERTS_USED)
    writer.add_vocab_size(vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)


def add_tensors(model):
    model.matrix("token_embd", model.vocab_size, HIDDEN, random_gguf.q4_0)
    model.norm("output_norm", HIDDEN)
    model.matrix("output", model.vocab_size, HIDDEN, random_gguf.q6_k)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_norm", "attn_q_norm", "attn_k_norm", "ffn_norm"):
            model.norm(f"{block}.{name}", HIDDEN)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            model.matrix(f"{block}.{name}", HIDDEN, HIDDEN, random_gguf.q4_0)
        model.floats(f"{block}.ffn_gate_inp", EXPERTS, HIDDEN)
        model.matrix(f"{block}.ffn_gate_exps", FFN, HIDDEN, random_gguf.q4_0, EXPERTS)
        model.matrix(f"{block}.ffn_up_exps", FFN, HIDDEN, random_gguf.q4_0, EXPERTS)
        model.matrix(f"{block}.ffn_down_exps", HIDDEN, FFN, random_gguf.q4_0, EXPERTS)


if __name__ == "__main__":
    random_gguf.main(__doc__, "olmoe", add_metadata, add_tensors)
