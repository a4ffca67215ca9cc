"""Reads dense checkpoints of the Llama family: a GGUF file or a Hugging Face folder."""

import dataclasses
import hashlib
import json
import math
import pathlib

import gguf
import numpy as np
import safetensors
import torch

HF_MODELS = ("llama", "mistral", "qwen2")
LAYER = "model.layers."


@dataclasses.dataclass(frozen=True)
class Config:
    """What the forward pass needs to know; sizes in elements."""
    model_type: str
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    window: int | None  # tokens that attention looks back on; None: all
    norm_eps: float
    rope_theta: float
    inv_freq: tuple[float, ...]  # [head_dim / 2]
    bias: bool  # of the q, k and v projections (Qwen 2)
    tied_head: bool


@dataclasses.dataclass
class Checkpoint:
    """A dense model: fp32 tensors under their Hugging Face names."""
    config: Config
    tensors: dict[str, torch.Tensor]
    hf_config: dict  # config.json of a folder with these tensors
    gguf_fields: dict | None  # metadata, when it was read from GGUF
    path: pathlib.Path
    digests: dict[str, str]  # SHA-256 of every file read


def sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


# --- config.json ---

def _scaled_frequencies(inv_freq: np.ndarray, scaling: dict | None) -> np.ndarray:
    """RoPE frequencies under config.json's rope_scaling: none, linear or llama3."""
    kind = "default" if not scaling else scaling.get("rope_type", scaling.get("type"))
    if kind == "default":
        return inv_freq
    if kind == "linear":
        return inv_freq / scaling["factor"]
    if kind != "llama3":
        raise ValueError(f"rope_scaling: must be none, linear or llama3; got {kind}")
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * inv_freq / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 - smooth) * inv_freq / scaling["factor"] + smooth * inv_freq


def parse_config(hf: dict) -> Config:
    """Config from a config.json of model_type llama, mistral or qwen2.

    Raises ValueError for what is not such a model, or lacks a field.
    """
    kind = hf.get("model_type")
    if kind not in HF_MODELS:
        raise ValueError(f"model_type: must be one of {', '.join(HF_MODELS)}; got {kind}")
    activation = hf.get("hidden_act", "silu")
    if activation != "silu":
        raise ValueError(f"hidden_act: must be silu; got {activation}")
    if hf.get("attention_bias") or hf.get("mlp_bias"):
        raise ValueError("attention_bias, mlp_bias: must be false; got true")
    try:
        hidden, heads = hf["hidden_size"], hf["num_attention_heads"]
        head_dim = hf.get("head_dim") or hidden // heads
        rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
        theta = hf.get("rope_theta") or rope.get("rope_theta", 10000.0)
        inv_freq = theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        return Config(
            model_type=kind, hidden=hidden, ffn=hf["intermediate_size"],
            layers=hf["num_hidden_layers"], heads=heads,
            kv_heads=hf.get("num_key_value_heads") or heads, head_dim=head_dim,
            vocab=hf["vocab_size"],
            window=hf.get("sliding_window") if hf.get("use_sliding_window", True) else None,
            norm_eps=hf.get("rms_norm_eps", 1e-6), rope_theta=float(theta),
            inv_freq=tuple(_scaled_frequencies(inv_freq, rope).tolist()),
            bias=kind == "qwen2",
            tied_head=bool(hf.get("tie_word_embeddings", False)))
    except KeyError as error:
        raise ValueError(f"config.json: must have the field {error.args[0]}") from None


def expected_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a dense checkpoint, by name."""
    c, q, kv = config, config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes = {"model.embed_tokens.weight": (c.vocab, c.hidden), "model.norm.weight": (c.hidden,)}
    if not c.tied_head:
        shapes["lm_head.weight"] = (c.vocab, c.hidden)
    layer = {
        "input_layernorm.weight": (c.hidden,), "post_attention_layernorm.weight": (c.hidden,),
        "self_attn.q_proj.weight": (q, c.hidden), "self_attn.k_proj.weight": (kv, c.hidden),
        "self_attn.v_proj.weight": (kv, c.hidden), "self_attn.o_proj.weight": (c.hidden, q),
        "mlp.gate_proj.weight": (c.ffn, c.hidden), "mlp.up_proj.weight": (c.ffn, c.hidden),
        "mlp.down_proj.weight": (c.hidden, c.ffn)}
    if c.bias:
        layer |= {"self_attn.q_proj.bias": (q,), "self_attn.k_proj.bias": (kv,),
                  "self_attn.v_proj.bias": (kv,)}
    return shapes | {f"{LAYER}{i}.{name}": shape for i in range(c.layers)
                     for name, shape in layer.items()}


def check_tensors(config: Config, tensors: dict[str, torch.Tensor]) -> None:
    """Raises ValueError unless every tensor is there with its shape, finite."""
    for name, shape in expected_shapes(config).items():
        if name not in tensors:
            raise ValueError(f"tensor {name}: must be given; got none")
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"tensor {name}: must have the shape {list(shape)};"
                             f" got {list(tensors[name].shape)}")
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(f"tensor {name}: must be finite")


# --- A folder ---

def read_tensors(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder's safetensors files, as stored."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder}: must hold *.safetensors; got none")
    tensors = {}
    for path in files:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}
    return tensors


def read_folder(folder: pathlib.Path) -> Checkpoint:
    """Reads config.json and *.safetensors. Raises ValueError for what is not a dense model."""
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise ValueError(f"{folder}: must hold config.json; got none")
    hf_config = json.loads(config_path.read_text(encoding="utf-8"))
    config = parse_config(hf_config)
    stored = read_tensors(folder)
    tensors = {name: stored[name].float() for name in expected_shapes(config) if name in stored}
    check_tensors(config, tensors)
    digests = {p.name: sha256(p) for p in [config_path, *sorted(folder.glob("*.safetensors"))]}
    return Checkpoint(config, tensors, hf_config, None, folder, digests)


# --- GGUF ---

_GGUF_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj"}
_GGUF_TOP = {"token_embd.weight": "model.embed_tokens.weight",
             "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}


def _hf_name(name: str) -> str | None:
    if name in _GGUF_TOP:
        return _GGUF_TOP[name]
    parts = name.split(".")  # blk.<layer>.<tensor>.weight
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _GGUF_NAMES:
        return f"{LAYER}{parts[1]}.{_GGUF_NAMES[parts[2]]}.{parts[3]}"
    return None


def _unpermuted(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """GGUF's llama keeps the rows of a head in pairs (i, i + d/2); Hugging Face in halves."""
    rows = tensor.shape[0]
    pairs = tensor.reshape(heads, rows // heads // 2, 2, *tensor.shape[1:])
    return pairs.transpose(1, 2).reshape(tensor.shape).contiguous()


def _gguf_config(fields: dict, tensor_names: set[str], vocab: int) -> dict:
    """The config.json that says what a GGUF file's metadata says."""
    kind = fields.get("general.architecture")
    if kind not in ("llama", "qwen2"):
        raise ValueError(f"general.architecture: must be llama or qwen2; got {kind}")
    required = ("embedding_length", "feed_forward_length", "block_count", "attention.head_count")
    for name in required:
        if f"{kind}.{name}" not in fields:
            raise ValueError(f"{kind}.{name}: must be given; got none")
    get = lambda name, default=None: fields.get(f"{kind}.{name}", default)
    if get("rope.scaling.type", "none") not in ("none", "linear"):
        raise ValueError(f"{kind}.rope.scaling.type: must be none or linear;"
                         f" got {get('rope.scaling.type')}")
    hidden, heads = get("embedding_length"), get("attention.head_count")
    config = {
        "model_type": kind,
        "architectures": ["LlamaForCausalLM" if kind == "llama" else "Qwen2ForCausalLM"],
        "hidden_size": hidden, "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"), "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": get("attention.key_length", hidden // heads), "vocab_size": vocab,
        "max_position_embeddings": get("context_length", 2048), "hidden_act": "silu",
        # GGUF has it in fp32: the shortest decimal is what was meant.
        "rms_norm_eps": float(str(np.float32(get("attention.layer_norm_rms_epsilon", 1e-5)))),
        "rope_theta": float(get("rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in tensor_names, "torch_dtype": "bfloat16"}
    if get("rope.scaling.type", "none") == "linear":
        config["rope_scaling"] = {"rope_type": "linear", "factor": get("rope.scaling.factor")}
    for name in ("bos", "eos"):
        if (token := fields.get(f"tokenizer.ggml.{name}_token_id")) is not None:
            config[f"{name}_token_id"] = token
    return config


def read_gguf(path: pathlib.Path) -> Checkpoint:
    """Reads and dequantises a GGUF file of architecture llama or qwen2.

    Raises ValueError for others, and for files with per-frequency RoPE factors or unknown tensors:
    their Hugging Face folder says more.
    """
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    names = {tensor.name for tensor in reader.tensors}
    unknown = sorted(name for name in names if _hf_name(name) is None)
    if unknown:
        raise ValueError(f"tensor {unknown[0]}: the architecture has no such tensor")
    rows = next((int(t.shape[1]) for t in reader.tensors if t.name == "token_embd.weight"), 0)
    hf_config = _gguf_config(fields, names, rows)
    config = parse_config(hf_config)
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        value = torch.from_numpy(values.reshape(tuple(int(n) for n in tensor.shape[::-1])))
        name = _hf_name(tensor.name)
        if config.model_type == "llama" and (".q_proj." in name or ".k_proj." in name):
            value = _unpermuted(value, config.heads if ".q_proj." in name else config.kv_heads)
        tensors[name] = value
    check_tensors(config, tensors)
    return Checkpoint(config, tensors, hf_config, fields, path, {path.name: sha256(path)})


def read_checkpoint(path: pathlib.Path) -> Checkpoint:
    """Reads a GGUF file or a Hugging Face folder.

    Raises ValueError ("<field>: <rule>; got <value>") for what the recipe cannot take.
    """
    if path.is_dir():
        return read_folder(path)
    if path.is_file():
        return read_gguf(path)
    raise ValueError(f"{path}: must be a GGUF file or a Hugging Face folder; got no such path")
