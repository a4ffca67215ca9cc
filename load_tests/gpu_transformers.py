#!/usr/bin/env python3
"""Measures transformers on the shapes of gpu_bench: a line of JSON for each case.

Weights are random bfloat16. Prefill is one prompt through the model; decoding is one token a step for
every sequence, behind a prompt of 128, with a static cache where the model takes one. Needs torch
with a GPU and transformers.
"""

import gc
import json
import statistics
import time

import torch
import transformers

LLAMA = dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
             num_attention_heads=32, num_key_value_heads=8, head_dim=128, vocab_size=128256,
             max_position_embeddings=8192, tie_word_embeddings=False)
QWEN = dict(hidden_size=2048, moe_intermediate_size=768, intermediate_size=6144,
            num_hidden_layers=48, num_attention_heads=32, num_key_value_heads=4, head_dim=128,
            num_experts=128, num_experts_per_tok=8, vocab_size=151936, decoder_sparse_step=1,
            max_position_embeddings=8192, tie_word_embeddings=False)
# Name, configuration, prompt, batch sizes; a batch of 0: the prompt alone.
CASES = [("llama-8b-bf16", transformers.LlamaConfig(**LLAMA), 4096, [0]),
         ("llama-8b-bf16", transformers.LlamaConfig(**LLAMA), 128, [1, 64]),
         ("qwen3-30b-a3b-bf16", transformers.Qwen3MoeConfig(**QWEN), 128, [1, 32])]
STEPS = 16
REPETITIONS = 3


def seconds(work):
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.inference_mode()
def measure(model, prompt, batch):
    """Tokens per second, of the prompt where there is no batch."""
    ids = torch.randint(0, 256, (max(1, batch), prompt), device="cuda")
    if batch == 0:
        model(ids, use_cache=True, logits_to_keep=1)
        times = [seconds(lambda: model(ids, use_cache=True, logits_to_keep=1))
                 for _ in range(REPETITIONS)]
        return prompt / statistics.median(times)

    def decode():
        nonlocal cache
        for _ in range(STEPS):
            cache = model(ids[:, :1], past_key_values=cache, use_cache=True).past_key_values

    cache = model(ids, use_cache=True, logits_to_keep=1).past_key_values
    decode()
    times = [seconds(decode) for _ in range(REPETITIONS)]
    return batch * STEPS / statistics.median(times)


def main():
    torch.manual_seed(1)
    made = None
    for name, config, prompt, batches in CASES:
        if made is None or made[0] != name:
            made = None
            gc.collect()
            torch.cuda.empty_cache()
            with torch.device("cuda"):
                torch.set_default_dtype(torch.bfloat16)
                model = transformers.AutoModelForCausalLM.from_config(config).eval()
            made = (name, model)
        for batch in batches:
            rate = measure(made[1], prompt, batch)
            key = "prefill_tokens_per_s" if batch == 0 else "decode_tokens_per_s"
            print(json.dumps({"case": name, "engine": f"transformers {transformers.__version__}",
                              "prompt_tokens": prompt, "batch_size": max(1, batch), key: rate}),
                  flush=True)


if __name__ == "__main__":
    main()
