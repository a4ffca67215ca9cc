#!/usr/bin/env python3
"""Makes the reference numbers of tests/model/encoder_*test.cc with PyTorch and transformers.

Usage:
  make_encoder_goldens.py tiny           tests/testdata/parity/encoders.{json,bin}
  make_encoder_goldens.py minilm FOLDER  tests/testdata/parity/all-MiniLM-L6-v2.bin

`tiny` needs no model: weights come from the formula of make_parity_goldens.py, by their names in
small letters; vectors and scores of five texts are stored. `minilm` records what transformers makes
of a thousand texts in float32: for each its tokens (how many, and 16 bits of FNV-1a over the ids)
and its vector as half floats, which is off by less than 1e-7 in a cosine. The texts are words of
tests/testdata/parity/encoder_words.txt, drawn by that same formula.
"""

import json
import pathlib
import struct
import sys

import numpy as np
import torch
import transformers

from make_parity_goldens import random_elements, random_tensor

DATA = pathlib.Path(__file__).resolve().parent.parent / "testdata" / "parity"

# --- Tiny models: one for each thing that families differ in ---

LENGTHS = [1, 7, 64, 33, 20]
# Never 0 or 1, which some of the families take for padding.
TEXTS = [[2 + (7 * i * i + 3 * i + n) % 150 for i in range(length)]
         for n, length in enumerate(LENGTHS)]
SECOND_BEGIN = [0, 3, 20, 0, 19]  # where a pair's second text begins

COMMON = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "vocab_size": 160, "max_position_embeddings": 66, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    "hidden_act": "gelu", "pad_token_id": 0,
}
BERT = {"model_type": "bert", "architectures": ["BertModel"]}
ROBERTA = {"model_type": "roberta", "architectures": ["RobertaModel"], "pad_token_id": 1,
           "type_vocab_size": 1, "layer_norm_eps": 1e-5}
XLMR = ROBERTA | {"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]}
WIDE = {"hidden_size": 128, "intermediate_size": 256}  # as 13 bits want it
SCORE = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
# Name: (dtype, pooling or None for scores, prefix of tensor names, configuration).
CASES = {
    "bert_mean": ("f32", "mean", "", BERT | WIDE),
    "bert_cls": ("bf16", "cls", "bert.", BERT | {"num_attention_heads": 2}),
    "bert_last": ("f32", "lasttoken", "", BERT | WIDE | {"hidden_size": 256,
                                                         "num_attention_heads": 8}),
    "bert_tanh": ("f16", "mean", "model.", BERT | {"hidden_act": "gelu_new"}),
    "bert_relu": ("f32", "mean", "", BERT | {"hidden_act": "relu", "hidden_size": 96,
                                             "num_attention_heads": 3}),
    "contriever": ("f32", "mean", "", BERT | {"architectures": ["Contriever"]}),
    "roberta_mean": ("f32", "mean", "", ROBERTA | WIDE),
    "xlm_roberta_cls": ("f16", "cls", "roberta.", XLMR),
    "bert_score": ("f32", None, "", BERT | WIDE | SCORE | {
        "architectures": ["BertForSequenceClassification"]}),
    "roberta_score": ("bf16", None, "", ROBERTA | SCORE | {
        "architectures": ["RobertaForSequenceClassification"]}),
    "xlm_roberta_score": ("f32", None, "", XLMR | WIDE | SCORE | {
        "architectures": ["XLMRobertaForSequenceClassification"]}),
}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def make_model(dtype, prefix, config_dict, scores):
    fields = {k: v for k, v in config_dict.items() if k != "model_type"}
    config = transformers.AutoConfig.for_model(config_dict["model_type"], **fields)
    kind = (transformers.AutoModelForSequenceClassification if scores else transformers.AutoModel)
    model = kind.from_config(config, attn_implementation="eager").float().eval()
    tensors = []
    for name, parameter in model.named_parameters():
        name = prefix + name
        shape = tuple(parameter.shape)
        values = random_tensor(name.lower(), shape)
        parameter.data = values.to(DTYPES[dtype]).to(torch.float32)
        tensors.append([name, list(shape)])
    return model, tensors


def pool(hidden, how):
    return {"cls": hidden[0], "lasttoken": hidden[-1], "mean": hidden.mean(0)}[how]


@torch.no_grad()
def make_tiny():
    cases, values = [], []
    for name, (dtype, pooling, prefix, changes) in CASES.items():
        config = COMMON | changes
        model, tensors = make_model(dtype, prefix, config, pooling is None)
        for ids, second in zip(TEXTS, SECOND_BEGIN):
            types = [int(second > 0 and i >= second) for i in range(len(ids))]
            if config["type_vocab_size"] == 1:
                types = [0] * len(ids)
            out = model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types]))
            numbers = out.logits[0] if pooling is None else pool(out.last_hidden_state[0], pooling)
            values.append(numbers.numpy().astype("<f4").ravel())
        cases.append({"name": name, "dtype": dtype, "pooling": pooling, "config": config,
                      "tensors": tensors})
        print(name, values[-1][:4])
    root = {"texts": TEXTS, "second_begin": SECOND_BEGIN, "cases": cases}
    (DATA / "encoders.json").write_text(json.dumps(root, indent=1) + "\n", encoding="ascii")
    (DATA / "encoders.bin").write_bytes(np.concatenate(values).tobytes())


# --- A thousand texts and all-MiniLM-L6-v2 ---

NUM_TEXTS = 1000
MAX_TOKENS = 256


def make_text(number, words):
    """As TextOf in encoder_real_test.cc: 1 to 160 words, many texts short and some long."""
    name = f"text {number}"
    first = (float(random_elements(name, 1)[0]) + 1) / 2
    count = 1 + int(160 * first * first)
    draws = (random_elements(name, 1 + count)[1:].astype(np.float64) + 1) / 2
    return " ".join(words[int(d * len(words))] for d in draws)


def fold(ids):
    """16 bits of FNV-1a over the ids, as tests/tokenizer/make_goldens.py folds them."""
    value = 0xCBF29CE484222325
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    value ^= value >> 32
    return (value ^ value >> 16) & 0xFFFF


@torch.no_grad()
def make_minilm(folder):
    words = (DATA / "encoder_words.txt").read_text(encoding="utf-8").split("\n")[:-1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32).eval()
    heads, vectors, lengths = [], [], []
    for number in range(NUM_TEXTS):
        inputs = tokenizer(make_text(number, words), truncation=True, max_length=MAX_TOKENS,
                           padding=False, return_tensors="pt")
        ids = inputs["input_ids"][0].tolist()
        hidden = model(**inputs).last_hidden_state[0]
        heads.append(struct.pack("<HH", len(ids), fold(ids)))
        vectors.append(hidden.mean(0).numpy().astype("<f2").tobytes())
        lengths.append(len(ids))
    target = DATA / f"{pathlib.Path(folder).name}.bin"
    target.write_bytes(b"".join(heads) + b"".join(vectors))
    print(f"{target}: {min(lengths)} to {max(lengths)} tokens, mean {np.mean(lengths):.0f}")


def main():
    if sys.argv[1:] == ["tiny"]:
        make_tiny()
    elif sys.argv[1:2] == ["minilm"] and len(sys.argv) == 3:
        make_minilm(sys.argv[2])
    else:
        print(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
