"""The recipe end to end on a tiny random model."""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import numpy as np
import torch
import torch.nn.functional as F

import tiny
from refactor import __main__ as command_line
from refactor import checkpoint, export, masks

OPTIONS = ["--calibration-tokens", "512", "--tokens", "3072", "--held-out-tokens", "512",
           "--embedding-dim", "16", "--heads", "2", "--epochs", "60", "--device", "cpu",
           "--threads", "1"]


def expert_ffn(tensors, layer, suffixes, h):
    """An expert of a sliced form: the sum over its parts, given by their names' ends."""
    weight = lambda name, suffix: tensors[f"model.layers.{layer}.moe.{name}_{suffix}.weight"]
    return sum(F.linear(F.silu(F.linear(h, weight("gate_proj", s))) *
                        F.linear(h, weight("up_proj", s)), weight("down_proj", s))
               for s in suffixes)


class RecipeTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.model = tiny.write_model(cls.folder / "model")
        cls.texts = tiny.write_texts(cls.folder / "texts")
        cls.out = cls.folder / "out"
        cls.status, cls.errors = cls.recipe(cls.out, "--forms", *export.FORMS, "--dtype", "float32")

    @classmethod
    def recipe(cls, out, *options, model=None):
        errors = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            status = command_line.main([str(model or cls.model), "--texts", str(cls.texts), "--out",
                                        str(out), *OPTIONS, *options])
        return status, errors.getvalue()

    def report(self, out):
        return json.loads((out / "report.json").read_text(encoding="utf-8"))

    def test_overlay_holds_router_and_masks(self):
        self.assertEqual(self.status, 0, self.errors)
        tensors = checkpoint.read_tensors(self.out / "overlay")
        for layer in range(2):
            packed = tensors.pop(f"model.layers.{layer}.mlp.expert_masks").numpy()
            self.assertEqual(masks.unpack(packed, 76).sum(-1).tolist(), [38, 38, 38])
        self.assertEqual(len(tensors), 17)
        self.assertNotIn("cluster_predictor.embed.weight", tensors)
        config = json.loads((self.out / "overlay/config.json").read_text(encoding="utf-8"))
        self.assertEqual((config["N_cluster"], config["n_head"], config["inter_dim"]), (3, 2, 16))

    def test_router_tells_domains_apart(self):
        router = self.report(self.out)["router"]
        self.assertGreater(router["captured_overlap"], router["random_captured"])
        self.assertAlmostEqual(sum(router["expert_shares"]), 1.0)

    def test_report_says_all_losses(self):
        losses = self.report(self.out)["losses"]
        self.assertEqual(list(losses), ["dense", "random", "routed", "true domain"])
        for row in losses.values():
            self.assertEqual(set(row), {"digits", "words", "signs", "mean", "perplexity"})
        self.assertIn("| dense |", (self.out / "report.md").read_text(encoding="utf-8"))

    def test_manifest_names_what_went_in_and_what_came_out(self):
        manifest = json.loads((self.out / "manifest.json").read_text(encoding="utf-8"))
        self.assertEqual(manifest["output"], export.digests(self.out))
        self.assertEqual(manifest["model"]["sha256"]["model.safetensors"],
                         checkpoint.sha256(self.model / "model.safetensors"))
        self.assertEqual(set(manifest["texts"]["sha256"]), {"digits", "words", "signs"})

    def test_the_three_forms_are_one_function(self):
        forms = {form: checkpoint.read_tensors(self.out / form) for form in export.FORMS}
        h = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
        for layer in range(2):
            mlp = {name: forms["masked"][f"model.layers.{layer}.mlp.{name}.weight"]
                   for name in export.PROJECTIONS}
            owned = masks.unpack(
                forms["masked"][f"model.layers.{layer}.mlp.expert_masks"].numpy(), 76)
            act = F.silu(F.linear(h, mlp["gate_proj"])) * F.linear(h, mlp["up_proj"])
            for expert in range(3):
                expected = F.linear(act * torch.from_numpy(owned[expert]), mlp["down_proj"])
                for form, suffixes in (("fused", [expert]), ("residual", ["residual", expert])):
                    found = expert_ffn(forms[form], layer, suffixes, h)
                    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        dense = tiny.tensors(tiny.CONFIG)
        for name in ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"):
            for form in forms.values():
                self.assertTrue(torch.equal(form[name], dense[name]))
                np.testing.assert_array_equal(form["cluster_predictor.embed.weight"],
                                              dense["model.embed_tokens.weight"][:, :16])

    def test_the_same_seed_makes_the_same_files(self):
        again, other = self.folder / "again", self.folder / "other"
        for out, seed in ((again, "1"), (other, "2")):
            self.assertEqual(self.recipe(out, "--seed", seed, "--forms", *export.FORMS, "--dtype",
                                         "float32")[0], 0)
        self.assertEqual(export.digests(again), export.digests(self.out))
        self.assertEqual(checkpoint.sha256(again / "manifest.json"),
                         checkpoint.sha256(self.out / "manifest.json"))
        self.assertNotEqual(export.digests(other)["overlay/model.safetensors"],
                            export.digests(self.out)["overlay/model.safetensors"])

    def test_tiles_of_neurons_have_the_same_owners(self):
        out = self.folder / "tiled"
        status, errors = self.recipe(out, "--tile", "4")
        self.assertEqual(status, 0, errors)
        tensors = checkpoint.read_tensors(out / "overlay")
        for layer in range(2):
            owned = masks.unpack(tensors[f"model.layers.{layer}.mlp.expert_masks"].numpy(), 76)
            self.assertEqual(owned.sum(-1).tolist(), [40, 40, 40])
            _, neurons = np.unique(owned, axis=1, return_counts=True)
            self.assertTrue((neurons % 4 == 0).all(), neurons)

    def test_tuning_lowers_the_routed_loss_and_keeps_the_rest(self):
        out = self.folder / "tuned"
        status, errors = self.recipe(out, "--tune-minutes", "5", "--tune-steps", "30", "--dtype",
                                     "float32")
        self.assertEqual(status, 0, errors)
        report = self.report(out)
        losses = report["losses"]
        self.assertLess(losses["tuned"]["mean"], losses["routed"]["mean"])
        self.assertLess(losses["control"]["mean"], losses["dense"]["mean"])
        self.assertEqual(report["tuning"]["steps"], 30)
        tuned, dense = checkpoint.read_tensors(out / "masked"), tiny.tensors(tiny.CONFIG)
        for name, tensor in dense.items():
            self.assertEqual(torch.equal(tuned[name], tensor), ".mlp." not in name, name)
        unowned = ~np.any(masks.unpack(
            tuned["model.layers.0.mlp.expert_masks"].numpy(), 76), axis=0)
        name = "model.layers.0.mlp.down_proj.weight"
        self.assertTrue(torch.equal(tuned[name][:, unowned], dense[name][:, unowned]))

    def test_bad_input_is_refused(self):
        out = self.folder / "refused"
        for message, options in (
                ("--domains: must be folders of .*; got none such", ["--domains", "none such"]),
                ("--keep: must leave an expert 1 to 76 neurons; got 0", ["--keep", "0"]),
                ("--tile: must divide the 76 neurons of a layer; got 32", ["--tile", "32"]),
                ("must make a window of 512 in each domain", ["--tokens", "100"]),
                ("--embedding-dim: must be a multiple of twice the heads; got 15",
                 ["--embedding-dim", "15"]),
                ("--embedding-dim: must be at most 32, .*; got 64", ["--embedding-dim", "64"]),
                ("--tokenizer: must be a tokenizer.json; got nowhere", ["--tokenizer", "nowhere"])):
            status, errors = self.recipe(out, *options)
            self.assertEqual(status, 1)
            self.assertRegex(errors, message)
        status, errors = self.recipe(out, model=self.folder / "nothing")
        self.assertEqual((status, "got no such path" in errors), (1, True))
        self.assertFalse(out.exists())
