"""Makes what tokenizer_golden_test compares with, or compares a binary with the libraries live.

    make_goldens.py write                  vocabularies, corpus.bin and goldens/*.bin
    make_goldens.py check BINARY           runs BINARY (tokenizer_dump) and compares every id
    make_goldens.py show CASE LINE         what the library says of one line

The oracles are `tokenizers` and, for vocabularies with scores, `sentencepiece` itself. Needs
tokenizers, sentencepiece, gguf, protobuf; the two real models are found as in the C++ tests.

A golden is 16 bits for each line of the corpus: FNV-1a over the ids, folded. A line that the
oracle cannot express is marked by the ids of an empty line and left out by the test as well: bytes
that are not UTF-8 where the vocabulary adds a space prefix, and, for sentencepiece, NUL.
"""

import base64
import collections
import io
import json
import os
import pathlib
import re
import struct
import subprocess
import sys

import gguf
from sentencepiece import SentencePieceNormalizer, SentencePieceProcessor, SentencePieceTrainer
from sentencepiece import sentencepiece_model_pb2 as sp_proto
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

from make_corpus import make_corpus

HERE = pathlib.Path(__file__).resolve().parent
GOLDENS = HERE / "goldens"
MODELS = pathlib.Path(os.environ.get("PREGATE_MODELS") or
                      pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
                      / "pregate" / "models")
BROKEN = re.compile("[\udc80-\udcff]")


def byte_alphabet():
    """The character of each byte in byte-level vocabularies."""
    printable = [b for b in range(256) if 0x21 <= b <= 0x7E or (b >= 0xA1 and b != 0xAD)]
    others = [b for b in range(256) if b not in printable]
    table = {b: chr(b) for b in printable}
    table.update({b: chr(0x100 + i) for i, b in enumerate(others)})
    return table


class Oracle:
    """A `tokenizers` object, and the token of each byte (or None) for what is not UTF-8."""

    def __init__(self, tokenizer, byte_ids, parse_special=True, prefixed=False):
        self.tokenizer = tokenizer
        self.tokenizer.encode_special_tokens = not parse_special
        self.parse_special = parse_special
        self.byte_ids = byte_ids
        self.prefixed = prefixed

    def encode(self, line):
        """Ids of one line of bytes, or None where the library has no answer."""
        text = line.decode("utf-8", "surrogateescape")
        if not BROKEN.search(text):
            return self.tokenizer.encode(text, add_special_tokens=True).ids
        if self.prefixed:
            return None
        ids = self.tokenizer.encode("", add_special_tokens=True).ids
        for part in re.split("([\udc80-\udcff])", text):
            if BROKEN.match(part):
                byte_id = self.byte_ids[ord(part) - 0xDC00]
                ids += [] if byte_id is None else [byte_id]
            elif part:
                ids += self.tokenizer.encode(part, add_special_tokens=False).ids
        return ids


class SentencePieceOracle:
    """The sentencepiece library over pieces, scores and types, as a GGUF file lists them."""

    parse_special = False

    def __init__(self, pieces, scores, types, add_prefix, bos_id, charsmap=None):
        model = sp_proto.ModelProto()
        for piece, score, kind in zip(pieces, scores, types):
            if kind == 4:
                piece = piece.replace(" ", "\u2581")
            model.pieces.add(piece=piece, score=score, type=kind)
        model.trainer_spec.model_type = sp_proto.TrainerSpec.BPE
        model.trainer_spec.byte_fallback = True
        model.trainer_spec.unk_id = types.index(2) if 2 in types else 3
        model.trainer_spec.unk_piece = pieces[model.trainer_spec.unk_id]
        model.pieces[model.trainer_spec.unk_id].type = 2
        model.normalizer_spec.name = "identity"
        model.normalizer_spec.add_dummy_prefix = add_prefix
        model.normalizer_spec.remove_extra_whitespaces = charsmap is not None
        self.after = []
        if charsmap is not None:  # the unigram model, which ends with </s> as well
            model.trainer_spec.model_type = sp_proto.TrainerSpec.UNIGRAM
            model.trainer_spec.byte_fallback = False
            model.normalizer_spec.name = "user_defined"
            model.normalizer_spec.precompiled_charsmap = charsmap
            self.after = [2]
        self.processor = SentencePieceProcessor(model_proto=model.SerializeToString())
        self.bos = [bos_id]

    def encode(self, line):
        """As Oracle.encode."""
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            return None
        return None if "\0" in text else self.bos + self.processor.encode(text) + self.after


class UnigramOracle:
    """A `tokenizers` object whose normalizer goes by graphemes: where sentencepiece's own, which goes
    by the longest rule, says something else, there is no answer."""

    parse_special = True

    def __init__(self, root):
        self.tokenizer = Tokenizer.from_str(json.dumps(root))
        blob = base64.b64decode(charsmap_of(root))
        model = sp_proto.ModelProto()
        model.normalizer_spec.precompiled_charsmap = blob
        model.normalizer_spec.add_dummy_prefix = False
        model.normalizer_spec.remove_extra_whitespaces = False
        model.normalizer_spec.escape_whitespaces = False
        self.ours = SentencePieceNormalizer(model_proto=model.SerializeToString())
        self.theirs = normalizers.Precompiled(blob)

    def encode(self, line):
        """As Oracle.encode."""
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            return None
        if "\0" in text or self.theirs.normalize_str(text) != self.ours.normalize(text):
            return None
        return self.tokenizer.encode(text, add_special_tokens=True).ids


def read_gguf(name):
    """The `tokenizer.ggml.*` fields of a sample model, or None."""
    path = MODELS / name
    if not path.exists():
        return None
    fields = gguf.GGUFReader(path).fields
    return {key[len("tokenizer.ggml."):]: field.contents()
            for key, field in fields.items() if key.startswith("tokenizer.ggml.")}


def add_typed_tokens(tokenizer, tokens, types):
    """Control tokens as special, user-defined ones as plain added tokens."""
    for kind, special in ((3, True), (4, False)):
        found = [AddedToken(t, special=special, normalized=not special)
                 for t, c in zip(tokens, types) if c == kind]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(found)


def smollm2(parse_special):
    """SmolLM2's GGUF through the pipeline of its published tokenizer.json."""
    data = read_gguf("SmolLM2-135M-Instruct.Q4_1.gguf")
    if data is None:
        return None
    vocab = {token: i for i, token in enumerate(data["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in data["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    add_typed_tokens(tokenizer, data["tokens"], data["token_type"])
    # Some bytes never came up when the vocabulary was trained: they are dropped, as by the library.
    return Oracle(tokenizer, [vocab.get(byte_alphabet()[b]) for b in range(256)], parse_special)


def merges_of_scores(vocab, ranked):
    """Every cut of every token of `ranked` (best first) into two tokens, as `tokenizers` wants."""
    merges = []
    for token in ranked:
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        merges += sorted((c for c in cuts if c[0] in vocab and c[1] in vocab),
                         key=lambda c: (vocab[c[0]], vocab[c[1]]))
    return merges


def gemma3(parse_special):
    """Gemma 3's GGUF through the pipeline of its published tokenizer.json."""
    data = read_gguf("gemma-3-270m-q4_k_m.gguf")
    if data is None:
        return None
    # Runs of spaces are user-defined tokens, matched after the normalizer as sentencepiece does.
    data["tokens"] = [t.replace(" ", "\u2581") for t in data["tokens"]]
    vocab = {token: i for i, token in enumerate(data["tokens"])}
    normal = [t for t, kind in zip(data["tokens"], data["token_type"]) if kind == 1]
    # Scores fall from token to token, so the order of the file is the order of the merges.
    merges = merges_of_scores({t: vocab[t] for t in normal}, normal)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, fuse_unk=True, byte_fallback=True,
                                     unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)])
    add_typed_tokens(tokenizer, data["tokens"], data["token_type"])
    return Oracle(tokenizer, [vocab[f"<0x{b:02X}>"] for b in range(256)], parse_special)


def gemma3_sentencepiece():
    """Gemma 3's GGUF in the library that its vocabulary was made with."""
    data = read_gguf("gemma-3-270m-q4_k_m.gguf")
    if data is None:
        return None
    return SentencePieceOracle(data["tokens"], data["scores"], data["token_type"], False, 2)


def byte_level(name):
    """The small byte-level vocabulary behind one pre-tokeniser of pretokenizers.json."""
    definition = json.loads((HERE / "pretokenizers.json").read_text())[name]
    root = json.loads((HERE / "byte_level.json").read_text())
    root["pre_tokenizer"] = definition["pre_tokenizer"]
    root["normalizer"] = definition["normalizer"]
    root["model"]["ignore_merges"] = definition["ignore_merges"]
    vocab = root["model"]["vocab"]
    return Oracle(Tokenizer.from_str(json.dumps(root)),
                  [vocab[byte_alphabet()[b]] for b in range(256)])


def llama2(metaspace):
    """The small Llama 2 vocabulary: its own pipeline, or the newer one with Metaspace."""
    root = json.loads((HERE / "llama2.json").read_text())
    if metaspace:
        root["normalizer"] = None
        root["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581",
                                 "prepend_scheme": "first", "split": False}
    vocab = root["model"]["vocab"]
    return Oracle(Tokenizer.from_str(json.dumps(root)),
                  [vocab[f"<0x{b:02X}>"] for b in range(256)], prefixed=True)


def llama2_scores():
    """The same tokens with scores in place of merges, in sentencepiece."""
    vocab = json.loads((HERE / "llama2.json").read_text())["model"]["vocab"]
    pieces = sorted(vocab, key=vocab.get)
    types = [2, 3, 3] + [6] * 256 + [1] * (len(pieces) - 259)
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces) - 259)]
    return SentencePieceOracle(pieces, scores, types, True, 1)


def wordpiece(cased):
    """The small WordPiece vocabulary with BERT's pipeline, of text in small letters or as it is."""
    root = json.loads((HERE / "wordpiece.json").read_text())
    if cased:
        root["normalizer"] |= {"lowercase": False, "strip_accents": None}
    return Oracle(Tokenizer.from_str(json.dumps(root)), [None] * 256, prefixed=True)


def minilm():
    """all-MiniLM-L6-v2's own file, without its padding and truncation."""
    path = MODELS / "all-MiniLM-L6-v2" / "tokenizer.json"
    if not path.exists():
        return None
    root = json.loads(path.read_text())
    root["padding"] = root["truncation"] = None
    return Oracle(Tokenizer.from_str(json.dumps(root)), [None] * 256, prefixed=True)


def unigram(words):
    """The small unigram vocabulary in XLM-R's pipeline: as transformers 5 or as 4 wrote it."""
    root = json.loads((HERE / "unigram.json").read_text())
    if words:
        root["normalizer"] = root["normalizer"]["normalizers"][0]
        root["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, root["pre_tokenizer"]]}
    return UnigramOracle(root)


class TiedOracle:
    """Sentencepiece, which adds scores up in floats: no answer where that alone made it choose
    another of two ways to cut a text that are equally likely, nor for a text with visible spaces of
    its own, which it takes for spaces where they end it."""

    parse_special = False

    def __init__(self, oracle, other, scores):
        self.oracle, self.other, self.scores = oracle, other, scores

    def encode(self, line):
        """As Oracle.encode."""
        ids, others = self.oracle.encode(line), self.other.encode(line)
        if "\u2581".encode() in line:
            return None
        if ids is None or others is None or ids == others:
            return ids
        tied = abs(sum(self.scores[i] for i in ids) - sum(self.scores[i] for i in others)) < 1e-3
        return None if tied else ids


def unigram_scores():
    """The same in sentencepiece."""
    root = json.loads((HERE / "unigram.json").read_text())
    pieces, scores = zip(*root["model"]["vocab"])
    types = [3, 3, 3, 2] + [1] * (len(pieces) - 4)
    oracle = SentencePieceOracle(pieces, scores, types, True, 0,
                                 base64.b64decode(charsmap_of(root)))
    return TiedOracle(oracle, unigram(False), scores)


def charsmap_of(root):
    normalizer = root["normalizer"]
    return normalizer.get("normalizers", [normalizer])[0]["precompiled_charsmap"]


def cases():
    """Name of each case -> a function that makes its oracle (None: its model is not here)."""
    table = {
        "smollm2": lambda: smollm2(True),
        "smollm2-plain": lambda: smollm2(False),
        "gemma3": lambda: gemma3(True),
        "gemma3-plain": lambda: gemma3(False),
        "gemma3-sentencepiece": gemma3_sentencepiece,
        "llama2": lambda: llama2(False),
        "llama2-metaspace": lambda: llama2(True),
        "llama2-scores": llama2_scores,
        "wordpiece": lambda: wordpiece(False),
        "wordpiece-cased": lambda: wordpiece(True),
        "minilm": minilm,
        "unigram": lambda: unigram(False),
        "unigram-words": lambda: unigram(True),
        "unigram-scores": unigram_scores,
    }
    for name in json.loads((HERE / "pretokenizers.json").read_text()):
        table["pre-" + name] = lambda name=name: byte_level(name)
    return table


def fold(ids):
    """16 bits of FNV-1a over the ids as little-endian 32-bit numbers."""
    value = 0xCBF29CE484222325
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    value ^= value >> 32
    return (value ^ value >> 16) & 0xFFFF


def training_text(lines):
    return [line.decode() for line in lines[:-1500] if len(line) < 1000]


def train_byte_level(lines):
    """byte_level.json: 1,400 tokens trained on the corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r" ?\p{L}+|\p{N}+|\s+| ?[^\s\p{L}\p{N}]+"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(training_text(lines), trainers.BpeTrainer(
        vocab_size=1400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False),
                          AddedToken("<mask>", normalized=False, lstrip=True, rstrip=True)])
    return json.loads(tokenizer.to_str())


def train_llama2(lines):
    """llama2.json: 1,200 tokens in the shape of Llama 2's file."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex("\u2581+[^\u2581]*"), behavior="isolated")
    # The trainer would draw lots among letters that are equally frequent.
    counts = collections.Counter("".join(training_text(lines)).replace(" ", "\u2581"))
    letters = sorted(counts, key=lambda c: (-counts[c], c))[:220]
    tokenizer.train_from_iterator(training_text(lines), trainers.BpeTrainer(
        vocab_size=1200, initial_alphabet=letters, limit_alphabet=len(letters), show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]))
    root = json.loads(tokenizer.to_str())
    root["pre_tokenizer"] = None
    root["added_tokens"] = root["added_tokens"][:3]
    for token in root["added_tokens"]:
        token["normalized"] = False
    root["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    root["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    return root


def train_wordpiece(lines):
    """wordpiece.json: 1,500 tokens in the shape of BERT's file."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    # Capitals too, so that the vocabulary serves both ways.
    text = training_text(lines)
    counts = collections.Counter("".join(text))
    letters = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))[:300]
    tokenizer.train_from_iterator(text, trainers.WordPieceTrainer(
        vocab_size=1500, initial_alphabet=letters, limit_alphabet=len(letters), show_progress=False,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return json.loads(tokenizer.to_str())


# What becomes of characters in unigram.json, as code points: one, several and none become one,
# several and none; rules that others begin with.
SPACES = [9, 0xA, 0xB, 0xC, 0xD, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F,
          0x205F, 0x3000]
RULES = [f"{space:X}\t20" for space in SPACES] + [
         "200B\t", "AD\t", "FB01\t66 69",
         "FB03\t66 66 69", "FF21\t41", "FF42\t62", "65 301\tE9", "61 308\tE4", "61 308 304\t1DF",
         "2026\t2E 2E 2E", "BD\t31 2F 32", "2460\t31", "1F600\t3A 29", "C0\t41 300"]


def train_unigram(lines):
    """unigram.json: 1,200 tokens in the shape of XLM-R's file, with a small charsmap."""
    rules = HERE / "rules.tsv"
    rules.write_text("".join(rule + "\n" for rule in RULES), encoding="ascii")
    model = io.BytesIO()
    # The corpus has every character there is; the vocabulary is of lines with frequent ones. Runs of
    # one sign would give tokens whose order is a matter of rounding.
    text = [t.replace("\n", " ") for t in training_text(lines)]
    counts = collections.Counter("".join(text))
    frequent = set(sorted(counts, key=lambda c: (-counts[c], c))[:250])
    SentencePieceTrainer.train(
        sentence_iterator=iter(
            [t for t in text if frequent.issuperset(t) and not re.search(r"([^a-z])\1", t)]),
        model_writer=model, model_type="unigram", vocab_size=1200, character_coverage=1.0,
        normalization_rule_tsv=str(rules), num_threads=1, minloglevel=2, bos_id=0, pad_id=1,
        eos_id=2, unk_id=3, input_sentence_size=0, hard_vocab_limit=False)
    rules.unlink()
    proto = sp_proto.ModelProto.FromString(model.getvalue())
    vocab = [[piece.piece, piece.score] for piece in proto.pieces]  # floats, spelled out
    special = [{"id": i, "content": vocab[i][0], "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True} for i in range(4)]
    template = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)])
    blob = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": blob},
            {"type": "Strip", "strip_left": False, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581",
                          "prepend_scheme": "always", "split": True},
        "post_processor": json.loads(template.__getstate__()),
        "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always",
                    "split": True},
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False}}


def write_json(name, root):
    text = json.dumps(root, ensure_ascii=False, separators=(",", ":")) + "\n"
    (HERE / name).write_text(text, encoding="utf-8")


def lines_of_corpus():
    data = (HERE / "corpus.bin").read_bytes()
    lines, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        lines.append(data[at + 4:at + 4 + size])
        at += 4 + size
    return lines


def write():
    """Vocabularies, corpus and goldens."""
    lines = make_corpus()
    (HERE / "corpus.bin").write_bytes(b"".join(struct.pack("<I", len(x)) + x for x in lines))
    write_json("byte_level.json", train_byte_level(lines))
    write_json("llama2.json", train_llama2(lines))
    write_json("wordpiece.json", train_wordpiece(lines))
    write_json("unigram.json", train_unigram(lines))
    GOLDENS.mkdir(exist_ok=True)
    for name, make in cases().items():
        oracle = make()
        if oracle is None:
            print(f"{name}: its model is not here; golden left as it is")
            continue
        ids = [oracle.encode(line) for line in lines]
        left_out = sum(x is None for x in ids)
        (GOLDENS / f"{name}.bin").write_bytes(
            struct.pack(f"<{len(ids)}H", *(fold(x or []) for x in ids)))
        print(f"{name}: {len(ids)} lines, {left_out} left out")


def check(binary):
    """Every id of every case, live."""
    lines = lines_of_corpus()
    bad = 0
    for name, make in cases().items():
        oracle = make()
        if oracle is None:
            print(f"{name}: its model is not here")
            continue
        run = subprocess.run([binary, name], stdout=subprocess.PIPE, check=True)
        ours = [[int(x) for x in row.split()] for row in run.stdout.decode().split("\n")[:-1]]
        wanted = [oracle.encode(line) for line in lines]
        differ = [i for i, want in enumerate(wanted) if want is not None and want != ours[i]]
        bad += len(differ)
        print(f"{name}: {len(lines) - wanted.count(None)} lines compared, {len(differ)} differ")
        for i in differ[:5]:
            print(f"  line {i} {lines[i][:80]!r}\n    library {wanted[i][:24]}\n"
                  f"    ours    {ours[i][:24]}")
    return 1 if bad else 0


def main():
    if sys.argv[1:2] == ["write"]:
        write()
    elif sys.argv[1:2] == ["check"] and len(sys.argv) == 3:
        return check(sys.argv[2])
    elif sys.argv[1:2] == ["show"] and len(sys.argv) == 4:
        line = lines_of_corpus()[int(sys.argv[3])]
        print(line, cases()[sys.argv[2]]().encode(line))
    else:
        print(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
