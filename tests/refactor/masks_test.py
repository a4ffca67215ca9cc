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
        found = masks.geometry(owned)
        self.assertEqual(found["neurons_per_expert"], 3)
        self.assertAlmostEqual(found["residual_share_of_expert"], 2 / 3)
        self.assertAlmostEqual(found["unowned_share"], 2 / 6)
        self.assertEqual(found["union_of_experts"], [1, 4 / 3])
        self.assertEqual(found["patterns_per_layer"], 3)
