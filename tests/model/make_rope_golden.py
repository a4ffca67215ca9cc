#!/usr/bin/env python3
"""Writes rope_golden.inc: rotary frequencies of config.json variants, by transformers in float32.

Usage: python make_rope_golden.py | clang-format --assume-filename=x.cc > rope_golden.inc
(needs torch and transformers)
"""

import json

from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {
    "vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 6,
    "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 64,
    "max_position_embeddings": 131072,
}
CASES = {
    "llama_plain": {"model_type": "llama", "rope_theta": 500000.0},
    "llama_linear": {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama_llama3": {
        "model_type": "llama", "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}},
    "llama_llama3_new_style": {
        "model_type": "llama",
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0,
                            "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                            "original_max_position_embeddings": 8192}},
    "qwen2_yarn": {
        "model_type": "qwen2", "rope_theta": 1000000.0,
        "rope_scaling": {"type": "yarn", "factor": 4.0,
                         "original_max_position_embeddings": 32768}},
    "qwen3_yarn_stated": {
        "model_type": "qwen3", "rope_theta": 1000000.0,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.25,
                         "beta_fast": 24.0, "beta_slow": 2.0,
                         "original_max_position_embeddings": 32768}},
    "llama_yarn_mscale_not_truncated": {
        "model_type": "llama", "rope_theta": 10000.0,
        "rope_scaling": {"rope_type": "yarn", "factor": 40.0, "mscale": 0.707,
                         "mscale_all_dim": 1.0, "truncate": False,
                         "original_max_position_embeddings": 4096}},
    "gemma3_old_style": {
        "model_type": "gemma3_text", "rope_theta": 1000000.0, "rope_local_base_freq": 20000.0,
        "sliding_window": 16, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "gemma3_new_style": {
        "model_type": "gemma3_text", "sliding_window": 16,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
}


def numbers(tensor):
    """A C++ list of a tensor's floats, exactly."""
    return "{" + ", ".join(f"{float(x).hex()}f" for x in tensor.flatten()) + "}"


def main():
    """Prints one row for each case."""
    print("// Made by tests/model/make_rope_golden.py.")
    for name, members in CASES.items():
        config = {**SIZES, **members}
        read = AutoConfig.for_model(**json.loads(json.dumps(config)))
        model = AutoModelForCausalLM.from_config(read)
        rotary = model.model.rotary_emb
        if hasattr(rotary, "full_attention_inv_freq"):
            table, magnitude = rotary.full_attention_inv_freq, rotary.full_attention_attention_scaling
            local = rotary.sliding_attention_inv_freq
        else:
            table, magnitude, local = rotary.inv_freq, rotary.attention_scaling, None
        print(f'{{"{name}", R"({json.dumps(config)})",')
        print(f" {numbers(table)},")
        print(f" {'{}' if local is None else numbers(local)}, {float(magnitude).hex()}f}},")


if __name__ == "__main__":
    main()
