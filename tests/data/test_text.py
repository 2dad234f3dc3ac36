from __future__ import annotations

import polars as pl
import pytest

from hidvae.data.text import clean_text, parse_categories
from hidvae.errors import DataError


def parsed(values: list[object], dtype: pl.DataType | None = None) -> list[list[str] | None]:
    return parse_categories(pl.Series("categories", values, dtype=dtype), "items.csv").to_list()


def test_entities_are_decoded_and_blanks_are_null() -> None:
    found = clean_text(
        pl.Series(["Salt &amp; Pepper", "  ", None, " Miss J&amp;#039;s ", "R&B", ""])
    )
    assert found.to_list() == ["Salt & Pepper", None, None, "Miss J's", "R&B", None]
    assert clean_text(pl.Series([None, None])).dtype == pl.String


def test_category_text_and_lists_mean_the_same() -> None:
    text = parsed(["A > B &amp; C > D", "A|B & C|D", " A>B & C | D ", None, "   ", "A"])
    lists = parsed(
        [["A", " B &amp; C", "D"], ["A", "B & C", "D"], ["A", "B & C", "D"], None, [], ["A"]]
    )
    assert text == lists == [["A", "B & C", "D"]] * 3 + [None, None, ["A"]]


def test_labels_keep_spaces_and_an_encoded_separator() -> None:
    assert parsed(["Hair Care > Over &gt; 50 ml"]) == [["Hair Care", "Over > 50 ml"]]


def test_empty_labels_at_the_end_are_cut() -> None:
    assert parsed(["A > B > ", "A > > "]) == [["A", "B"], ["A"]]
    assert parsed([["A", None], [None], [""]]) == [["A"], None, None]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["A > B", "A >  > C", " > C"], "found 2 bad rows (row 2: 'A >  > C', row 3: ' > C')"),
        ([["A"], ["A", None, "C"]], "found 1 bad row (row 2: ['A', None, 'C'])"),
        (["A", "['A', 'B']", ' ["A"] '], "found 2 bad rows (row 2: \"['A', 'B']\", row 3: "),
    ],
)
def test_malformed_paths_are_refused(values: list[object], shown: str) -> None:
    with pytest.raises(DataError) as caught:
        parsed(values)
    assert shown in str(caught.value)
    assert "items.csv, column categories" in str(caught.value)


@pytest.mark.parametrize("values", [[[["A", "B"]]], [1.5]])
def test_other_types_are_refused(values: list[object]) -> None:
    with pytest.raises(
        DataError, match="expected a list of labels or text such as 'A > B > C'; found"
    ):
        parsed(values)


def test_all_null_columns_become_lists() -> None:
    for dtype in (pl.Null, pl.String, pl.List(pl.Null), pl.List(pl.String)):
        found = parse_categories(pl.Series("categories", [None, None], dtype=dtype), "f")
        assert found.dtype == pl.List(pl.String)
        assert found.to_list() == [None, None]
