from __future__ import annotations

import numpy as np

from hidvae.apps.show.formats import (
    difference,
    evenly_spread,
    number,
    percent,
    score,
    score_with_interval,
    seconds,
    short,
)


def test_numbers_are_written_in_one_way() -> None:
    values = (12_345, np.int64(12_345), 0.5, 1234.5678, 0, None)
    assert [number(value) for value in values] == ["12,345", "12,345", "0.5", "1,235", "0", "–"]
    assert [score(value) for value in (0.12345, None)] == ["0.1235", "–"]
    assert [seconds(value) for value in (2.25, 119.9, 312)] == ["2.2 s", "119.9 s", "5 min 12 s"]


def test_little_is_not_shown_as_nothing() -> None:
    shown = [percent(share) for share in (0, 0.0001, 0.0005, 0.5, 1, None)]
    assert shown == ["0.0%", "<0.1%", "0.1%", "50.0%", "100.0%", "–"]
    assert [percent(share, 2) for share in (0, 0.00001, 0.0001)] == ["0.00%", "<0.01%", "0.01%"]


def test_an_interval_stands_behind_its_value_where_there_is_one() -> None:
    metrics = {"recall@10": 0.25, "recall@10_ci": [0.2, 0.3], "ndcg@10": 0.125}
    assert score_with_interval(metrics, "recall@10") == "0.2500 [0.2000, 0.3000]"
    assert score_with_interval(metrics, "ndcg@10") == "0.1250"
    assert score_with_interval(metrics, "novelty@10") == "–"
    assert difference({"difference": 0.01, "ci": [-0.01, 0.03]}) == "+0.0100 [-0.0100, +0.0300]"
    assert difference(None) == "–"


def test_text_is_one_line_that_cannot_steer_a_terminal() -> None:
    assert short(" a\n\tb\x1b[31m\r c ") == "a b [31m c"
    assert short("x" * 5000, 400) == "x" * 399 + "…"
    assert short("口红") == "口红"


def test_rows_are_spread_from_the_first_to_the_last() -> None:
    assert evenly_spread(11, 3) == [0, 5, 10]
    assert evenly_spread(2, 3) == [0, 1]
    assert evenly_spread(5, 0) == []
