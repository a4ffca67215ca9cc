"""Tokenisers, and windows of tokens from the documents of a domain."""

import json
import pathlib

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

# Llama 3's and Qwen 2's differ in how many digits make a piece.
_WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
_SPLITS = {"llama-bpe": _WORDS % "{1,3}", "qwen2": _WORDS % ""}


def _pre_tokenizer(name: str):
    """What cuts text into words under a GGUF file's tokenizer.ggml.pre."""
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name in ("gpt-2", "default"):
        return whole
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    if name in _SPLITS:
        words = pre_tokenizers.Split(tokenizers.Regex(_SPLITS[name]), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([words, byte_level])
    known = ", ".join(["gpt-2", "smollm", *_SPLITS])
    raise ValueError(f"tokenizer.ggml.pre: must be one of {known}, or give --tokenizer; got {name}")


def tokenizer_from_gguf(fields: dict) -> tokenizers.Tokenizer:
    """A byte-level BPE tokeniser from a GGUF file's metadata.

    Raises ValueError for other kinds: their tokenizer.json has to be given.
    """
    kind = fields.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise ValueError(f"tokenizer.ggml.model: must be gpt2, or give --tokenizer; got {kind}")
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    pre = fields.get("tokenizer.ggml.pre", "default")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pre_tokenizer = _pre_tokenizer(pre)
    try:
        model = models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe")
    except Exception as error:  # the library has no type of its own for this
        raise ValueError(f"tokenizer.ggml.merges: must make tokens; got {error}") from None
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    control = (3, 4)  # control and user-defined tokens
    types = fields.get("tokenizer.ggml.token_type", [])
    tokenizer.add_special_tokens([token for token, t in zip(tokens, types) if t in control])
    return tokenizer


def tokenizer_files_from_gguf(fields: dict, folder: pathlib.Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, which a folder of its own needs."""
    tokenizer_from_gguf(fields).save(str(folder / "tokenizer.json"))
    tokens = fields["tokenizer.ggml.tokens"]
    config = {"add_bos_token": bool(fields.get("tokenizer.ggml.add_bos_token", False))}
    for name in ("bos", "eos"):
        if (token := fields.get(f"tokenizer.ggml.{name}_token_id")) is not None:
            config[f"{name}_token"] = tokens[token]
    if "tokenizer.chat_template" in fields:
        config["chat_template"] = fields["tokenizer.chat_template"]
    text = json.dumps(config, indent=1, sort_keys=True) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _cut(ids: np.ndarray, length: int) -> np.ndarray:
    """[n, length]: the ids cut into windows; what is left over at the end is dropped."""
    count = len(ids) // length
    return ids[:count * length].reshape(count, length)


def sample_windows(tokenizer: tokenizers.Tokenizer, documents: list[tuple[str, str]], count: int,
                   length: int, rng: np.random.Generator) -> np.ndarray:
    """int32 [n, length]: count windows of tokens, or as many as there are.

    Each document gives its share at most until all were asked, so that many have their say; those
    shorter than a window are joined with the next.
    """
    share = -(-count // len(documents))
    found, spare, short = [], [], np.zeros(0, np.int32)
    for i in rng.permutation(len(documents)):
        text = documents[i][1]
        ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int32)
        ids = np.concatenate([short, ids])
        cut = rng.permutation(_cut(ids, length))
        short = ids[:0] if len(cut) else ids
        found += list(cut[:share])
        spare += list(cut[share:])
        if len(found) >= count:
            break
    found += spare[:max(0, count - len(found))]
    return rng.permutation(np.array(found[:count], np.int32).reshape(-1, length))
