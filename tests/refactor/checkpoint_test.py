"""Reading dense checkpoints and their forward pass, against numbers of another implementation."""

import json
import pathlib
import tempfile
import unittest

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

import tiny
from refactor import checkpoint, tokens
from refactor.model import Model

PARITY = pathlib.Path(__file__).resolve().parent.parent / "testdata/parity"
CASES = ("llama", "llama_head96", "llama_linear", "llama_llama3", "yi", "qwen2")
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
CPU = torch.device("cpu")


def formula_tensor(name, shape, dtype):
    """A weight of the parity cases: see tests/model/random_model.h."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    count = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(state) + count * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = (z ^ (z >> np.uint64(31))) >> np.uint64(40)
    values = (z.astype(np.int64) - (1 << 23)).astype(np.float32) * np.float32(2.0 ** -23)
    values *= np.float32(0.25 if len(shape) == 1 else np.sqrt(3.0 / shape[-1]))
    tensor = torch.from_numpy(values.reshape(shape) + np.float32("norm" in name))
    return tensor.to(DTYPES[dtype]).float()


class FolderCase(unittest.TestCase):

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))


class ForwardTest(FolderCase):

    def test_logits_are_those_of_transformers(self):
        golden = json.loads((PARITY / "tiny.json").read_text(encoding="utf-8"))
        ids = torch.tensor([golden["token_ids"]])
        logits = np.fromfile(PARITY / "tiny.bin", "<f4").reshape(
            len(golden["cases"]), -1, golden["cases"][0]["config"]["vocab_size"])
        tested = 0
        for case, expected in zip(golden["cases"], logits):
            if case["name"] not in CASES:
                continue
            with self.subTest(case["name"]):
                folder = self.folder / case["name"]
                folder.mkdir()
                (folder / "config.json").write_text(json.dumps(case["config"]), encoding="utf-8")
                save_file({name: formula_tensor(name, shape, case["dtype"])
                           for name, shape in case["tensors"]}, folder / "model.safetensors")
                model = Model(checkpoint.read_checkpoint(folder), CPU)
                found = model.logits(model.hidden(ids))[0, golden["stride"] - 1::golden["stride"]]
                np.testing.assert_allclose(found.numpy(), expected, atol=1e-4 * expected.std())
                tested += 1
        self.assertEqual(tested, len(CASES))

    def test_a_mask_is_the_same_as_fewer_neurons(self):
        config = checkpoint.parse_config(tiny.CONFIG)
        dense = checkpoint.Checkpoint(config, tiny.tensors(tiny.CONFIG), {}, None, self.folder, {})
        masks = (torch.rand(2, 3, 76, generator=torch.Generator().manual_seed(1)) < 0.5).float()
        ids = torch.arange(20)[None]
        for expert in range(3):
            pruned = dict(dense.tensors)
            for i in range(2):
                pruned[f"model.layers.{i}.mlp.down_proj.weight"] = (
                    pruned[f"model.layers.{i}.mlp.down_proj.weight"] * masks[i, expert])
            expected = Model(checkpoint.dataclasses.replace(dense, tensors=pruned), CPU).hidden(ids)
            found = Model(dense, CPU).hidden(ids, masks, torch.full_like(ids, expert))
            np.testing.assert_allclose(found, expected, atol=1e-5)


class GgufTest(FolderCase):

    def write(self, architecture="llama", pre="gpt-2", extra=None):
        """The tiny model as a GGUF file: rows of q and k in GGUF's order."""
        path = self.folder / "tiny.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_embedding_length(32)
        writer.add_feed_forward_length(76)
        writer.add_block_count(2)
        writer.add_head_count(4)
        writer.add_head_count_kv(2)
        writer.add_context_length(1024)
        writer.add_rope_freq_base(10000.0)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        alphabet = sorted(tokens.pre_tokenizers.ByteLevel.alphabet())
        writer.add_token_list(["<end>", *alphabet, "th"])
        writer.add_token_merges(["t h"])
        names = {hf: name for name, hf in checkpoint._GGUF_TOP.items()}
        short = {hf: name for name, hf in checkpoint._GGUF_NAMES.items()}
        for name, tensor in (tiny.tensors(tiny.CONFIG) | (extra or {})).items():
            if name.startswith("model.layers."):
                _, _, layer, *middle, last = name.split(".")
                names[name] = f"blk.{layer}.{short['.'.join(middle)]}.{last}"
            heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
            if heads:
                tensor = tensor.view(heads, 2, 4, 32).transpose(1, 2).reshape(tensor.shape)
            writer.add_tensor(names.get(name, name), tensor.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def test_gguf_says_what_the_folder_says(self):
        found = checkpoint.read_checkpoint(self.write())
        expected = checkpoint.read_checkpoint(tiny.write_model(self.folder / "hf"))
        self.assertEqual(found.config, expected.config)
        for name, tensor in expected.tensors.items():
            torch.testing.assert_close(found.tensors[name], tensor, rtol=0, atol=0)

    def test_bad_files_are_refused(self):
        with self.assertRaisesRegex(ValueError, "architecture: must be llama or qwen2; got gemma"):
            checkpoint.read_checkpoint(self.write("gemma"))
        with self.assertRaisesRegex(ValueError, "tensor extra.weight: .* no such tensor"):
            checkpoint.read_checkpoint(self.write(extra={"extra.weight": torch.ones(4, 4)}))
        found = checkpoint.read_checkpoint(self.write(pre="unheard-of"))
        with self.assertRaisesRegex(ValueError, "tokenizer.ggml.pre: .*; got unheard-of"):
            tokens.tokenizer_from_gguf(found.gguf_fields)


class RefusedTest(FolderCase):

    def refused(self, message, change=None, config=None):
        folder = tiny.write_model(self.folder / f"hf{len(list(self.folder.iterdir()))}",
                                  None)
        if config:
            text = json.dumps(tiny.CONFIG | config)
            (folder / "config.json").write_text(text, encoding="utf-8")
        if change:
            changed = tiny.tensors(tiny.CONFIG)
            change(changed)
            save_file(changed, folder / "model.safetensors")
        with self.assertRaisesRegex(ValueError, message):
            checkpoint.read_checkpoint(folder)

    def test_bad_folders_are_refused(self):
        down = "model.layers.1.mlp.down_proj.weight"
        self.refused("model_type: must be one of llama, mistral, qwen2; got gemma3_text",
                     config={"model_type": "gemma3_text"})
        self.refused("rope_scaling: must be none, linear or llama3; got yarn",
                     config={"rope_scaling": {"rope_type": "yarn", "factor": 2.0}})
        self.refused("hidden_act: must be silu; got gelu", config={"hidden_act": "gelu"})
        self.refused("mlp_bias: must be false; got true", config={"mlp_bias": True})
        self.refused(f"tensor {down}: must be given; got none", lambda t: t.pop(down))
        self.refused(r"must have the shape \[32, 76\]; got \[76, 32\]",
                     lambda t: t.update({down: t[down].T.contiguous()}))
        self.refused("must be finite", lambda t: t[down].fill_(float("nan")))
        with self.assertRaisesRegex(ValueError, "must be a GGUF file or .*; got no such path"):
            checkpoint.read_checkpoint(self.folder / "nothing")
