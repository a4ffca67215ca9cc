"""The public pickled forms become the folders that the recipe itself writes."""

import contextlib
import io
import json
import os
import pathlib
import tempfile
import unittest

import numpy as np
import torch

import tiny
from refactor import checkpoint, export, importing, masks, router


class Maker:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


class ImportingTest(unittest.TestCase):

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        model = checkpoint.read_checkpoint(tiny.write_model(self.folder / "dense"))
        torch.manual_seed(0)
        trained = router.Router(router.RouterConfig(16, 3, n_head=2),
                                model.tensors["model.embed_tokens.weight"], 10000.0)
        scores = np.random.default_rng(0).random((3, 2, 76))
        self.owned = masks.domain_masks(scores, 0.5)
        self.read_me = export.ReadMe(model, self.owned, trained)

    def write_pickles(self, form, change=None):
        """The form as the public code saves it: state dict, and masks beside it."""
        folder = self.folder / f"public-{form}"
        folder.mkdir(exist_ok=True)
        state = {f"module.{name}": t for name, t in export.form_tensors(self.read_me, form).items()
                 if "expert_masks" not in name}
        state["module.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
        saved = {}
        for i, layer in enumerate(torch.from_numpy(self.owned)):
            residual = layer.all(dim=0)
            saved[f"module.model.layers.{i}.mlp.down_proj"] = {
                "residual": residual.half(), **{e: (layer[e] & ~residual).half() for e in range(3)}}
        if change:
            change(state, saved)
        torch.save(state, folder / "pytorch_model.bin")
        torch.save(saved, folder / "mask.pt")
        config = tiny.CONFIG | self.read_me.router.config.fields() | {"train_predictor": True}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    def convert(self, folder, form):
        arguments = [str(folder), "--out", str(self.folder / "imported"), "--dtype", "float32"]
        if form == "masked":
            arguments += ["--masks", str(folder / "mask.pt")]
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            return importing.main(arguments), errors.getvalue()

    def test_every_form_equals_the_exported_one(self):
        for form in export.FORMS:
            with self.subTest(form):
                export.write_form(self.read_me, form, self.folder / form, "float32")
                status, errors = self.convert(self.write_pickles(form), form)
                self.assertEqual(status, 0, errors)
                found = checkpoint.read_tensors(self.folder / "imported")
                expected = checkpoint.read_tensors(self.folder / form)
                self.assertEqual(found.keys(), expected.keys())
                for name, tensor in expected.items():
                    self.assertTrue(torch.equal(found[name], tensor), name)
                read = lambda folder: json.loads(
                    (self.folder / folder / "config.json").read_text(encoding="utf-8"))
                self.assertEqual(read("imported"), read(form))

    def test_a_pickle_that_runs_something_is_refused(self):
        made = self.folder / "made"
        folder = self.write_pickles("masked", lambda state, _: state.update(more=Maker(made)))
        status, errors = self.convert(folder, "masked")
        self.assertEqual(status, 1)
        self.assertIn("pytorch_model.bin: must be a pickle of tensors alone", errors)
        self.assertFalse(made.exists())

    def test_bad_checkpoints_are_refused(self):
        key = "module.model.layers.1.mlp.down_proj"
        for form, change, message in (
                ("masked", lambda _, saved: saved.pop(key),
                 "must be given for all 2 layers; got 1"),
                ("masked", lambda _, saved: saved[key].pop(2),
                 "must have the masks residual, 0 to 2"),
                ("masked", lambda _, saved: saved[key][0].fill_(0.5), "76 values of 0 or 1"),
                ("masked", lambda state, _: state.update(other=torch.ones(1)),
                 "tensor other: the form masked has no such tensor"),
                ("fused", lambda state, _: [state.pop(name) for name in list(state)
                                            if "_proj_2." in name], "must have the expert 2"),
                ("fused", lambda state, _: state.pop("module.cluster_predictor.proj_out.weight"),
                 "proj_out.weight: must be given")):
            status, errors = self.convert(self.write_pickles(form, change), form)
            self.assertEqual(status, 1, message)
            self.assertIn(message, errors)
