from __future__ import annotations

import numpy as np
import pytest

from hidvae.apps.show.report_tags import JudgedLevel, confusion, most_frequent_mistakes

TRUTH = np.array([2, 2, 2, 0, 0, 5])
PREDICTED = np.array([2, 2, 5, 0, 7, 2])


def test_confusion_counts_by_known_class_largest_first() -> None:
    classes, counts = confusion(TRUTH, PREDICTED, most=10)
    assert classes == [2, 0, 5]
    assert counts.tolist() == [[2, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 0]]


def test_what_is_not_shown_is_other() -> None:
    classes, counts = confusion(TRUTH, PREDICTED, most=1)
    assert classes == [2]
    assert counts.tolist() == [[2, 1]]


@pytest.mark.parametrize("most", [1, 3, 50])
def test_rows_add_up_to_the_items_of_their_class(most: int) -> None:
    draw = np.random.default_rng(most)
    truth, predicted = draw.integers(0, 20, (2, 500))
    classes, counts = confusion(truth, predicted, most)
    assert counts.sum(axis=1).tolist() == [int((truth == c).sum()) for c in classes]
    right = [int(((truth == c) & (predicted == c)).sum()) for c in classes]
    assert [counts[row, row] for row in range(len(classes))] == right


def test_mistakes_come_most_frequent_first() -> None:
    truth, predicted = np.array([0, 1, 1, 1, 2]), np.array([0, 2, 2, 0, 1])
    judged = JudgedLevel(["a", "b", "c"], truth, predicted, np.ones(5, np.float32))
    assert most_frequent_mistakes(judged, 2) == [(1, 2, 2), (1, 0, 1)]
    right = JudgedLevel(["a"], truth[:1], predicted[:1], np.ones(1, np.float32))
    assert most_frequent_mistakes(right, 2) == []
