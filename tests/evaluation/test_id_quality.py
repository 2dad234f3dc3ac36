from __future__ import annotations

import doctest
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.errors import DataError, ShapeError
from hidvae.evaluation import id_quality as module
from hidvae.evaluation.id_quality import id_quality, prefix_purity

CODES = np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [2, 1, 0]])


def test_docstring_examples():
    result = doctest.testmod(module)
    assert (result.failed, result.attempted >= 3) == (0, True)


def test_values_by_hand():
    quality = id_quality(CODES, (4, 2, 8))
    assert quality["num_ids"] == 4
    assert quality["collision_rate"] == pytest.approx(1 - 4 / 6)
    assert quality["largest_collision"] == 3
    assert quality["num_colliding_items"] == 3
    assert quality["codebook_usage"] == [3 / 4, 2 / 2, 1 / 8]
    assert quality["dead_codes"] == [1, 0, 7]
    assert quality["dead_levels"] == [2]
    entropy = -(1 / 2) * math.log(1 / 2) - (1 / 3) * math.log(1 / 3) - (1 / 6) * math.log(1 / 6)
    assert quality["code_entropy"][0] == pytest.approx(entropy)
    assert quality["perplexity"] == pytest.approx(
        [math.exp(entropy), 6 / 5 * 5 ** (1 / 6), 1.0]  # (1/6)^(-1/6) (5/6)^(-5/6)
    )


def test_unique_ids_have_no_collision():
    quality = id_quality(np.arange(8)[:, None], [8])
    assert (quality["collision_rate"], quality["largest_collision"]) == (0.0, 1)
    assert quality["perplexity"][0] == pytest.approx(8)


def test_is_json():
    quality = id_quality(CODES, (4, 2, 8), tags=np.full((6, 3), -1))
    assert json.loads(json.dumps(quality)) == quality


def test_prefix_purity_by_hand():
    tags = np.array([[0, 0], [0, 0], [1, 1], [1, -1], [2, 2], [2, 2]])
    # level 0: prefix 0 holds tags 0, 0, 1; prefix 1 holds 1, 2; prefix 2 holds 2
    # level 1: prefix 01 holds paths 00, 00, 11; 10 holds nothing known; 11 and 21 hold 22 each
    assert prefix_purity(CODES, tags) == [(2 + 1 + 1) / 6, (2 + 1 + 1) / 5]


def test_prefix_purity_of_a_level_without_tags_is_none():
    assert prefix_purity(CODES, np.array([[0, -1]] * 6)) == [1.0, None]


@given(st.integers(0, 2**32 - 1))
def test_permuting_items_changes_nothing_and_ids_equal_to_tags_are_pure(seed):
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 4, size=(30, 3))
    tags = generator.integers(-1, 3, size=(30, 3))
    order = generator.permutation(30)
    assert id_quality(codes[order], [4] * 3, tags[order]) == id_quality(codes, [4] * 3, tags)
    assert prefix_purity(codes, codes) == [1.0, 1.0, 1.0]


def test_no_items_is_refused():
    with pytest.raises(DataError, match="at least 1 item"):
        id_quality(np.empty((0, 2), dtype=int), [4, 4])


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match=r"level 1 in \[0, 1\), found 1 in row 0"):
        id_quality(CODES, (4, 1, 8))
    with pytest.raises(ShapeError, match=r"\(N, 2\)"):
        id_quality(CODES, (4, 2))
    with pytest.raises(ShapeError, match=r"\(6, L\)"):
        id_quality(CODES, (4, 2, 8), tags=np.zeros((5, 3), dtype=int))
