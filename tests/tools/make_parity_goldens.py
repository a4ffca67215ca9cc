#!/usr/bin/env python3
"""Makes the reference numbers of tests/model/*parity_test.cc with PyTorch and transformers.

Usage:
  make_parity_goldens.py tiny             tests/testdata/parity/tiny.{json,bin}
  make_parity_goldens.py mixtures         tests/testdata/parity/mixtures.{json,bin}
  make_parity_goldens.py real MODEL.gguf  tests/testdata/parity/<MODEL>.bin

`tiny` and `mixtures` (of experts) need no model: the weights of each case come from the formula of
random_element(), which tests/model/random_model.cc knows too, so that only configurations and logits
are stored. `real` dequantises a GGUF file to float32 and records what the model says about tests/testdata/parity/
text.txt. Needs torch, transformers and gguf (any recent versions; made with 2.15, 5.23, 0.19).
"""

import argparse
import json
import pathlib

import gguf
import numpy as np
import torch
import transformers

DATA = pathlib.Path(__file__).resolve().parent.parent / "testdata" / "parity"

# --- Weights from a formula ---

MASK = (1 << 64) - 1
GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def random_elements(name, count):
    """Uniform in [-1, 1): SplitMix64 over the FNV-1a hash of `name`, see random_model.h."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN_GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    centred = (z >> np.uint64(40)).astype(np.int64) - (1 << 23)
    return centred.astype(np.float32) * np.float32(2.0**-23)


def random_tensor(name, shape):
    """As RandomTensor in random_model.h."""
    vector = len(shape) == 1 or shape[0] == 1
    scale = np.float32(0.25) if vector else np.float32(np.sqrt(3.0 / shape[-1]))
    values = random_elements(name, int(np.prod(shape))) * scale
    if "norm" in name:
        values = values + np.float32(1.0)
    return torch.from_numpy(values.reshape(shape))


# --- Tiny models: one for each thing that families differ in ---

TINY_IDS = [(7 * i * i + 3 * i + 1) % 160 for i in range(64)]
TINY_STRIDE = 4  # logits are kept for every fourth position: 3, 7, ...
TINY_GREEDY = 16

COMMON = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 160, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
    "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2,
}
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
GEMMA3 = {
    "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh", "head_dim": 256, "query_pre_attn_scalar": 256,
    "num_key_value_heads": 1, "num_hidden_layers": 4, "sliding_window": 16,
    "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "tie_word_embeddings": True,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
TINY_CASES = {
    "llama": ("f32", LLAMA | {}),
    "llama_head96": ("bf16", LLAMA | {"hidden_size": 96, "head_dim": 96, "num_attention_heads": 3,
                                      "num_key_value_heads": 3}),
    "llama_linear": ("bf16", LLAMA | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    "llama_llama3": ("f16", LLAMA | {
        "tie_word_embeddings": True, "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 32}}),
    "llama_yarn": ("f32", LLAMA | {
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                         "original_max_position_embeddings": 32}}),
    "mistral_window": ("f32", {
        "model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 16,
        "head_dim": 128}),
    "yi": ("bf16", LLAMA | {"rope_theta": 5000000.0, "num_attention_heads": 8,
                            "num_key_value_heads": 1}),
    "qwen2": ("bf16", {
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "rope_theta": 1000000.0,
        "tie_word_embeddings": True, "num_attention_heads": 2, "num_key_value_heads": 1,
        "hidden_size": 128, "use_sliding_window": False, "rms_norm_eps": 1e-6}),
    "qwen3": ("f32", {
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "rope_theta": 1000000.0,
        "head_dim": 128, "rms_norm_eps": 1e-6, "attention_bias": False}),
    "gemma3": ("f32", GEMMA3),
    "gemma3_linear": ("bf16", GEMMA3 | {
        "head_dim": 128, "query_pre_attn_scalar": 168, "num_key_value_heads": 2,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
}
TORCH_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

# --- Tiny mixtures of experts ---

MIXTRAL = {
    "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 8,
    "num_experts_per_tok": 2, "intermediate_size": 96, "rope_theta": 1000000.0}
QWEN2_MOE = {
    "model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"], "num_experts": 8,
    "num_experts_per_tok": 4, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 160,
    "norm_topk_prob": False, "rms_norm_eps": 1e-6, "use_sliding_window": False}
QWEN3_MOE = {
    "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 8,
    "num_experts_per_tok": 3, "moe_intermediate_size": 64, "norm_topk_prob": True,
    "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "attention_bias": False}
MIXTURE_CASES = {
    "mixtral": ("f32", MIXTRAL),
    "mixtral_odd_width": ("f32", MIXTRAL | {"intermediate_size": 75, "num_local_experts": 5}),
    # Mixtral under another name; transformers does not know it, nor biases in Mixtral.
    "aquilamoe": ("bf16", MIXTRAL | {"model_type": "aquilamoe"}),
    "aquilamoe_bias": ("f32", MIXTRAL | {"model_type": "aquilamoe"}),
    "qwen2_moe": ("f32", QWEN2_MOE),
    "qwen2_moe_dense_layer": ("bf16", QWEN2_MOE | {
        "mlp_only_layers": [1], "tie_word_embeddings": True}),
    # The shape of Innovator (2507.18671): many small experts, a wide shared one without a gate.
    "qwen2_moe_ungated": ("f32", QWEN2_MOE | {
        "num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 16,
        "norm_topk_prob": True, "num_hidden_layers": 2}),
    "qwen3_moe": ("f32", QWEN3_MOE),
    "qwen3_moe_sparse_step": ("bf16", QWEN3_MOE | {
        "decoder_sparse_step": 2, "norm_topk_prob": False, "num_hidden_layers": 4}),
    "olmoe": ("f32", {
        "model_type": "olmoe", "architectures": ["OlmoeForCausalLM"], "hidden_size": 128,
        "num_attention_heads": 2, "num_key_value_heads": 1, "num_experts": 16,
        "num_experts_per_tok": 4, "intermediate_size": 32, "norm_topk_prob": False}),
}


class AlwaysOpen(torch.nn.Module):
    """The gate of a shared expert that has none."""

    def forward(self, x):
        return x.new_full((*x.shape[:-1], 1), float("inf"))


def change_mixture(name, model):
    """What transformers cannot be told by a configuration."""
    for layer in model.model.layers:
        if name.endswith("_bias"):
            for projection in ("q_proj", "k_proj", "v_proj"):
                old = getattr(layer.self_attn, projection)
                setattr(layer.self_attn, projection,
                        torch.nn.Linear(old.in_features, old.out_features, bias=True))
        if name.endswith("_ungated"):
            layer.mlp.shared_expert_gate = AlwaysOpen()


def parts_of(name, shape, is_mixtral):
    """A parameter as a checkpoint has it: [(name, shape)], a star for the number of an expert.

    transformers keeps the experts of a layer together, gate and up one above the other.
    """
    if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
        if is_mixtral:
            name = name.replace(".mlp.gate.", ".block_sparse_moe.gate.")
        return [(name, list(shape))]
    layer = name.split(".mlp.", maxsplit=1)[0]
    stem = f"{layer}.block_sparse_moe.experts.*." if is_mixtral else f"{layer}.mlp.experts.*."
    gate, up, down = ("w1", "w3", "w2") if is_mixtral else ("gate_proj", "up_proj", "down_proj")
    if name.endswith("down_proj"):
        return [(f"{stem}{down}.weight", list(shape))]
    shape = [shape[0], shape[1] // 2, shape[2]]
    return [(f"{stem}{gate}.weight", shape), (f"{stem}{up}.weight", shape)]


def random_parts(parts):
    """The parameter that parts_of() took apart."""
    tensors = [
        torch.stack([random_tensor(name.replace("*", str(e)), tuple(shape[1:]))
                     for e in range(shape[0])]) if "*" in name else
        random_tensor(name, tuple(shape)) for name, shape in parts]
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)


# --- Running them ---

def tiny_model(name, config_dict, dtype):
    """The model with its weights from the formula, rounded to `dtype`, computing in float32."""
    fields = {k: v for k, v in config_dict.items() if k != "model_type"}
    known = {"aquilamoe": "mixtral"}
    model_type = known.get(config_dict["model_type"], config_dict["model_type"])
    config = transformers.AutoConfig.for_model(model_type, **fields)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32).eval()
    if name in MIXTURE_CASES:
        model.set_experts_implementation("eager")
        change_mixture(name, model)
    tensors = []
    for parameter_name, parameter in model.named_parameters():  # a tied head is not listed twice
        parts = parts_of(parameter_name, tuple(parameter.shape), model_type == "mixtral")
        values = random_parts(parts)
        parameter.data = values.to(TORCH_DTYPES[dtype]).to(torch.float32)
        tensors.extend(parts)
    return model, tensors


def make_tiny(cases_by_name, target):
    cases, logits_of_all = [], []
    for name, (dtype, special) in cases_by_name.items():
        config = COMMON | special
        # Read by C++ as they are; constructors may rewrite what they are handed.
        model, tensors = tiny_model(name, json.loads(json.dumps(config)), dtype)
        with torch.no_grad():
            logits = model(torch.tensor([TINY_IDS])).logits[0, TINY_STRIDE - 1::TINY_STRIDE]
            ids = list(TINY_IDS)
            for _ in range(TINY_GREEDY):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        logits_of_all.append(logits.numpy().astype("<f4"))
        cases.append({"name": name, "dtype": dtype, "config": config, "tensors": tensors,
                      "greedy": ids[len(TINY_IDS):]})
        print(name, "logits", tuple(logits.shape), "std %.3f" % float(logits.std()))
    with open(DATA / f"{target}.json", "w", encoding="utf-8") as file:
        json.dump({"token_ids": TINY_IDS, "stride": TINY_STRIDE, "cases": cases}, file,
                  separators=(",", ":"))
        file.write("\n")
    np.stack(logits_of_all).tofile(DATA / f"{target}.bin")


# --- Real models ---

REAL_WINDOWS = 5
REAL_LENGTH = 1024  # longer than Gemma 3's window of 512


def check_weights(model, path):
    """Compares the model's matrices with the gguf package's own dequantisation."""
    state = model.state_dict()
    heads = {"attn_q": model.config.num_attention_heads,
             "attn_k": model.config.num_key_value_heads}
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
             "attn_norm": "input_layernorm"}
    checked = 0
    for tensor in gguf.GGUFReader(path).tensors:
        parts = tensor.name.split(".")
        if parts[0] != "blk" or parts[2] not in names:
            continue
        ours = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type))
        if model.config.model_type == "llama" and parts[2] in heads:
            # GGUF's Llama rows are permuted for interleaved rotation.
            rows, cols = ours.shape
            ours = ours.reshape(heads[parts[2]], rows // heads[parts[2]] // 2, 2, cols)
            ours = ours.transpose(1, 2).reshape(rows, cols)
        if parts[2] == "attn_norm" and model.config.model_type.startswith("gemma"):
            ours = ours - 1
        theirs = state[f"model.layers.{parts[1]}.{names[parts[2]]}.weight"]
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-6), tensor.name
        checked += 1
    print(f"{checked} tensors equal")


def make_real(path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    print(model.config)
    check_weights(model, path)
    text = (DATA / "text.txt").read_text(encoding="utf-8")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    # Each window starts as a text does, with BOS for the model that asks for it.
    bos = [tokenizer.bos_token_id] if model.config.model_type.startswith("gemma") else []
    step = REAL_LENGTH - len(bos)
    windows = [bos + ids[i * step:(i + 1) * step] for i in range(REAL_WINDOWS)]
    assert all(len(window) == REAL_LENGTH for window in windows)
    logprobs, top = [], []
    with torch.no_grad():
        for window in windows:
            logits = model(torch.tensor([window])).logits[0, :-1]
            targets = torch.tensor(window[1:])[:, None]
            logprobs.append(torch.log_softmax(logits, -1).gather(1, targets)[:, 0].numpy())
            top.append(logits.argmax(-1).numpy())
            print("perplexity so far %.5f" % np.exp(-np.mean(logprobs)), flush=True)
    with open(DATA / (path.stem + ".bin"), "wb") as file:
        np.array([REAL_WINDOWS, REAL_LENGTH], "<i4").tofile(file)
        np.array(windows, "<i4").tofile(file)  # [windows, length]
        np.array(top, "<i4").tofile(file)  # [windows, length - 1]
        np.array(logprobs, "<f4").tofile(file)  # [windows, length - 1] of the next token


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tiny", "mixtures", "real"])
    parser.add_argument("model", nargs="?", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.what == "tiny":
        make_tiny(TINY_CASES, "tiny")
    elif arguments.what == "mixtures":
        make_tiny(MIXTURE_CASES, "mixtures")
    else:
        make_real(arguments.model)


if __name__ == "__main__":
    main()
