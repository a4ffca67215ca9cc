"""all-MiniLM-L6-v2 as other programs want it: an ONNX graph and GGUF files, from the safetensors.

Usage: minilm_files.py FOLDER TARGET      writes TARGET/minilm.onnx, TARGET/minilm-{f32,f16}.gguf

Needs numpy, safetensors, onnx and gguf. The graph is made of the operators that onnxruntime's own
optimizer for BERT ends with (com.microsoft Attention, SkipLayerNormalization, BiasGelu), without a
mask and with the mean of the rows behind it. The GGUF files are those of llama.cpp's converter: the
same names and keys, with every float matrix of one type.
"""

import json
import pathlib
import sys

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

MICROSOFT = "com.microsoft"


def layer_parts(weights, index):
    """Matrices as [in, out] and vectors of one layer."""
    prefix = f"encoder.layer.{index}."
    part = {name[len(prefix):]: value for name, value in weights.items()
            if name.startswith(prefix)}
    heads = [f"attention.self.{name}." for name in ("query", "key", "value")]
    return {
        "qkv": np.concatenate([part[h + "weight"].T for h in heads], axis=1),
        "qkv_bias": np.concatenate([part[h + "bias"] for h in heads]),
        "out": part["attention.output.dense.weight"].T,
        "out_bias": part["attention.output.dense.bias"],
        "norm": part["attention.output.LayerNorm.weight"],
        "norm_bias": part["attention.output.LayerNorm.bias"],
        "up": part["intermediate.dense.weight"].T, "up_bias": part["intermediate.dense.bias"],
        "down": part["output.dense.weight"].T, "down_bias": part["output.dense.bias"],
        "last": part["output.LayerNorm.weight"], "last_bias": part["output.LayerNorm.bias"],
    }


def write_onnx(config, weights, path):
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(operator, inputs, output, domain=MICROSOFT, **attributes):
        nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    epsilon = config["layer_norm_eps"]
    tables = [constant(f"{name}_table", weights[f"embeddings.{name}_embeddings.weight"])
              for name in ("word", "position", "token_type")]
    norm = [constant(f"embed_{kind}", weights[f"embeddings.LayerNorm.{kind}"])
            for kind in ("weight", "bias")]
    nodes.append(helper.make_node("EmbedLayerNormalization", ["ids", "types", *tables, *norm],
                                  ["hidden_in", "unused"], domain=MICROSOFT, epsilon=epsilon))
    hidden = "hidden_in"
    for i in range(config["num_hidden_layers"]):
        part = {name: constant(f"{i}_{name}", value)
                for name, value in layer_parts(weights, i).items()}
        attended = node("Attention", [hidden, part["qkv"], part["qkv_bias"]], f"{i}_attended",
                        num_heads=config["num_attention_heads"])
        added = node("MatMul", [attended, part["out"]], f"{i}_added", domain="")
        middle = node("SkipLayerNormalization",
                      [added, hidden, part["norm"], part["norm_bias"], part["out_bias"]],
                      f"{i}_middle", epsilon=epsilon)
        up = node("MatMul", [middle, part["up"]], f"{i}_up_out", domain="")
        neurons = node("BiasGelu", [up, part["up_bias"]], f"{i}_neurons")
        down = node("MatMul", [neurons, part["down"]], f"{i}_down_out", domain="")
        hidden = node("SkipLayerNormalization",
                      [down, middle, part["last"], part["last_bias"], part["down_bias"]],
                      f"{i}_hidden", epsilon=epsilon)
    node("ReduceMean", [hidden], "vectors", domain="", axes=[1], keepdims=0)
    shape = ["batch", "tokens"]
    graph = helper.make_graph(
        nodes, "minilm",
        [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in ("ids", "types")],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT,
                                       ["batch", config["hidden_size"]])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17),
                                                    helper.make_opsetid(MICROSOFT, 1)])
    model.ir_version = 8
    onnx.save(model, path)


NAMES = {
    "attention.self.query": "attn_q", "attention.self.key": "attn_k",
    "attention.self.value": "attn_v", "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm", "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("encoder.layer."):
        number, rest = stem[len("encoder.layer."):].split(".", 1)
        return f"blk.{number}.{NAMES[rest]}.{kind}"
    return f"{NAMES[stem]}.{kind}"


def write_gguf(config, weights, tokenizer, path, dtype):
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    vocab = tokenizer["model"]["vocab"]
    tokens, types = [], []
    for token in sorted(vocab, key=vocab.get):
        control = token in special
        types.append(gguf.TokenType.CONTROL if control else gguf.TokenType.NORMAL)
        tokens.append(token if control else token[2:] if token.startswith("##")
                      else "\u2581" + token)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_type_count(config["type_vocab_size"])
    for add, token in ((writer.add_unk_token_id, "[UNK]"), (writer.add_sep_token_id, "[SEP]"),
                       (writer.add_pad_token_id, "[PAD]"),
                       (writer.add_bos_token_id, "[CLS]"), (writer.add_eos_token_id, "[SEP]"),
                       (writer.add_mask_token_id, "[MASK]")):
        add(vocab[token])
    for name, value in weights.items():
        if name.startswith("pooler.") or name == "embeddings.position_ids":
            continue
        matrix = value.ndim == 2 and "embeddings.position" not in name and "token_type" not in name
        writer.add_tensor(gguf_name(name), value.astype(dtype if matrix else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    folder, target = map(pathlib.Path, sys.argv[1:3])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "model.safetensors")
    target.mkdir(parents=True, exist_ok=True)
    write_onnx(config, weights, target / "minilm.onnx")
    for name, dtype in (("f32", np.float32), ("f16", np.float16)):
        write_gguf(config, weights, tokenizer, target / f"minilm-{name}.gguf", dtype)


if __name__ == "__main__":
    main()
