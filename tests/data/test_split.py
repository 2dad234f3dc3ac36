from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.data.interactions import Interactions, Sequences
from hidvae.data.split import leave_one_out
from hidvae.errors import DataError


def interactions_of(lists: list[list[int]]) -> Interactions:
    return Interactions([f"u{i}" for i in range(len(lists))], Sequences.from_lists(lists))


@given(st.lists(st.integers(3, 9), max_size=6))
def test_train_never_holds_a_target_and_the_parts_restore_the_whole(lengths: list[int]) -> None:
    starts = np.cumsum([0, *lengths])  # every event its own item, so items are positions
    lists = [list(range(starts[i], starts[i + 1])) for i in range(len(lengths))]
    split = leave_one_out(interactions_of(lists))
    for u, whole in enumerate(lists):
        validation, test = int(split.validation_targets[u]), int(split.test_targets[u])
        assert not {validation, test} & set(split.train[u].tolist())
        assert test not in split.test_histories[u]
        assert [*split.train[u].tolist(), validation, test] == whole
        assert [*split.validation_histories[u].tolist(), validation, test] == whole
        assert [*split.test_histories[u].tolist(), test] == whole
    assert not set(split.test_targets.tolist()) & set(split.train.items.tolist())
    assert split.validation_targets.dtype == split.test_targets.dtype == np.int64


def test_short_users_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="found 1 users with fewer, first 'u1' with 2"):
        leave_one_out(interactions_of([[1, 2, 3], [4, 5]]))
