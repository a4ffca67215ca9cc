"""Masks: exact counts, stable ties, packing, geometry."""

import unittest

import numpy as np

from refactor import masks


class MasksTest(unittest.TestCase):

    def test_every_expert_owns_exactly_as_many_as_it_keeps(self):
        scores = np.random.default_rng(0).random((3, 4, 127)).round(1)  # full of ties
        for keep, count in ((0.5, 64), (0.625, 79), (1.0, 127)):
            owned = masks.domain_masks(scores, keep)
            self.assertEqual(owned.shape, (4, 3, 127))
            self.assertTrue((owned.sum(-1) == count).all())

    def test_of_equal_scores_the_lower_index_wins(self):
        np.testing.assert_array_equal(masks.top_n(np.array([1.0, 2, 1, 2, 1, 0]), 3),
                                      [True, True, False, True, False, False])

    def test_bad_shares_are_refused(self):
        for keep in (0.0, 1.5):
            with self.assertRaisesRegex(ValueError, "--keep: must leave an expert 1 to 8 neurons"):
                masks.domain_masks(np.ones((2, 1, 8)), keep)
        with self.assertRaisesRegex(ValueError, "--keep: must leave an expert 4 to 8 neurons"):
            masks.domain_masks(np.ones((2, 1, 8)), 0.2, tile=4)
        with self.assertRaisesRegex(ValueError, "--tile: must divide the 8 neurons of a layer"):
            masks.domain_masks(np.ones((2, 1, 8)), 0.5, tile=3)

    def test_tiles_have_the_same_owners(self):
        scores = np.random.default_rng(1).random((5, 2, 128)) ** 4
        owned = masks.domain_masks(scores, 0.5, tile=16)
        self.assertEqual(owned.shape, (2, 5, 128))
        self.assertTrue((owned.sum(-1) == 64).all())
        for layer in owned:
            _, neurons = np.unique(layer, axis=1, return_counts=True)
            self.assertTrue((neurons % 16 == 0).all(), neurons)

    def test_tiles_are_found_where_there_are_some(self):
        rng = np.random.default_rng(2)
        tiles = np.stack([rng.permutation(8) < 4 for _ in range(4)])
        owners = np.repeat(tiles, 8, axis=1)[:, rng.permutation(64)]
        scores = (owners * (1 + rng.random(64)) + 0.01 * rng.random((4, 64)))[:, None]
        np.testing.assert_array_equal(masks.domain_masks(scores, 0.5, tile=8)[0], owners)

    def test_tiles_keep_nearly_what_neurons_keep(self):
        rng = np.random.default_rng(3)
        scores = rng.lognormal(0, 0.8, (2, 256)) * rng.lognormal(0, 0.3, (7, 2, 256))
        alone, tiled, dealt_blindly = (
            masks.geometry(owned, scores)["score_share"] for owned in
            (masks.domain_masks(scores, 0.5), masks.domain_masks(scores, 0.5, tile=16),
             np.repeat(masks.domain_masks(scores.reshape(7, 2, 16, 16).sum(-1), 0.5), 16, axis=-1)))
        self.assertGreater(tiled, alone - 0.03)
        self.assertGreater(tiled, dealt_blindly + 0.1)
        self.assertLessEqual(tiled, alone)

    def test_neuron_f_is_bit_f_of_8_in_byte_f_by_8(self):
        mask = np.zeros((1, 11), dtype=bool)
        mask[0, [0, 3, 9]] = True
        np.testing.assert_array_equal(masks.pack(mask), [[0b00001001, 0b00000010]])

    def test_packing_round_trips(self):
        for ffn in (1, 8, 127, 131, 1536):
            owned = np.random.default_rng(ffn).random((5, ffn)) < 0.5
            packed = masks.pack(owned)
            self.assertEqual(packed.shape, (5, -(-ffn // 8)))
            np.testing.assert_array_equal(masks.unpack(packed, ffn), owned)

    def test_what_pack_did_not_make_is_refused(self):
        with self.assertRaisesRegex(ValueError, r"must be U8 \[experts, 2\]; got uint8 \[1, 1\]"):
            masks.unpack(np.zeros((1, 1), np.uint8), 11)
        with self.assertRaisesRegex(ValueError, "bits from 11 on must be 0"):
            masks.unpack(np.array([[0, 0b1000]], np.uint8), 11)

    def test_geometry(self):
        owned = np.array([[[1, 1, 0, 0, 1, 0], [1, 0, 1, 0, 1, 0]]], dtype=bool)
        scores = np.array([[[1, 1, 1, 1, 1, 3]], [[1, 0, 1, 0, 0, 0]]])
        found = masks.geometry(owned, scores)
        self.assertEqual(found["neurons_per_expert"], 3)
        self.assertAlmostEqual(found["score_share"], (3 / 8 + 1) / 2)
        self.assertAlmostEqual(found["residual_share_of_expert"], 2 / 3)
        self.assertAlmostEqual(found["unowned_share"], 2 / 6)
        self.assertEqual(found["union_of_experts"], [1, 4 / 3])
        self.assertEqual(found["patterns_per_layer"], 3)
