"""The committed fixture: what it says of itself is so, and it fits the sample model."""

import hashlib
import json
import pathlib
import re
import struct
import unittest

import numpy as np

from refactor import masks

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FIXTURE = ROOT / "tests/testdata/read_me_smollm2"
MAX_BYTES = 1_000_000


def read_safetensors(path):
    """{name: (type, array)} of a safetensors file with F32 and U8 tensors."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    types = {"F32": np.float32, "U8": np.uint8}
    return {name: (t["dtype"], np.frombuffer(
        data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]],
        types[t["dtype"]]).reshape(t["shape"]))
        for name, t in json.loads(data[8:8 + size]).items() if name != "__metadata__"}


class FixtureTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.manifest = json.loads((FIXTURE / "manifest.json").read_text(encoding="utf-8"))
        cls.config = json.loads((FIXTURE / "config.json").read_text(encoding="utf-8"))
        cls.tensors = read_safetensors(FIXTURE / "model.safetensors")

    def test_small(self):
        self.assertLess(sum(path.stat().st_size for path in FIXTURE.iterdir()), MAX_BYTES)

    def test_digests(self):
        for name in ("config.json", "model.safetensors"):
            digest = hashlib.sha256((FIXTURE / name).read_bytes()).hexdigest()
            self.assertEqual(self.manifest["output"][f"overlay/{name}"], digest, name)

    def test_made_from_the_sample_model(self):
        script = (ROOT / "deploy/fetch_model.sh").read_text(encoding="utf-8")
        file, digest = re.search(r"file=(SmolLM2\S+)\s+sha256=(\w+)", script).groups()
        self.assertEqual(self.manifest["model"], {"name": file, "sha256": {file: digest}})
        self.assertEqual(len(self.manifest["texts"]["sha256"]), self.config["N_cluster"])

    def test_masks(self):
        for layer in range(self.config["num_hidden_layers"]):
            dtype, packed = self.tensors[f"model.layers.{layer}.mlp.expert_masks"]
            self.assertEqual((dtype, packed.shape), ("U8", (7, 192)))
            owned = masks.unpack(packed, self.config["intermediate_size"])
            self.assertTrue((owned.sum(axis=-1) == 768).all(), layer)
            self.assertTrue(owned.all(axis=0).any(), layer)  # a residual

    def test_router(self):
        size, experts = self.config["embedding_dim"], self.config["N_cluster"]
        expected = {f"{name}_0.weight": (size,)
                    for name in ("input_layernorm", "post_attention_layernorm")}
        for name in ("q_proj", "k_proj", "v_proj", "o_proj", "proj_1", "proj_2"):
            expected |= {f"{name}_0.weight": (size, size), f"{name}_0.bias": (size,)}
        expected |= {"out_layernorm.weight": (size,), "proj_out.weight": (experts, size),
                     "proj_out.bias": (experts,)}
        found = {name.removeprefix("cluster_predictor."): t[1].shape
                 for name, t in self.tensors.items() if name.startswith("cluster_predictor.")}
        self.assertEqual(found, expected)
        for name, (_, values) in self.tensors.items():
            self.assertTrue(np.isfinite(values).all(), name)

    def test_config(self):
        expected = {
            "model_type": "read_me_overlay", "add_cluster_predictor": True,
            "train_predictor": False, "frozen_embedding": True, "embedding_dim": 192,
            "inter_dim": 192, "N_cluster": 7, "n_head": 4, "n_layer": 1, "normalizer": 1.0,
            "hidden_act_predictor": "silu", "max_position_embeddings_predictor": 4096,
            "nonautoregressive": False, "num_hidden_layers": 30, "hidden_size": 576,
            "intermediate_size": 1536, "vocab_size": 49152, "rope_theta": 100000.0}
        self.assertEqual(self.config, expected)
