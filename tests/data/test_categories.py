from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidvae.data.categories import parse_categories
from hidvae.data.notes import Notes
from hidvae.errors import DataError

Paths = list[list[str] | None]


def parsed(values: list[Any], separator: str = "", dtype: Any = None) -> tuple[Paths, list[str]]:
    """The paths, and what is said of the column."""
    notes = Notes()
    column = pl.Series("categories", values, dtype=dtype)
    found = parse_categories(column, "items.csv", notes, separator=separator)
    assert found.dtype == pl.List(pl.String)
    prefix = "items.csv, column categories: "
    return found.to_list(), [each.text.removeprefix(prefix) for each in notes.decisions]


def paths_of(values: list[Any], separator: str = "") -> Paths:
    return parsed(values, separator)[0]


def test_category_text_and_lists_mean_the_same() -> None:
    text = ["A > B &amp; C > D", "A|B & C|D", " A>B & C | D ", None, "   ", "A"]
    lists = [["A", " B &amp; C", "D"], ["A", "B & C", "D"], ["A", "B & C", "D"], None, [], ["A"]]
    for values in (text, lists):
        assert parsed(values) == ([["A", "B & C", "D"]] * 3 + [None, None, ["A"]], [])


def test_labels_keep_spaces_and_an_encoded_separator() -> None:
    assert paths_of(["Hair Care > Over &gt; 50 ml"]) == [["Hair Care", "Over > 50 ml"]]
    assert paths_of(["Over &gt; 50 ml", "Oil"]) == [["Over > 50 ml"], ["Oil"]]
    assert paths_of(["A &gt; B", "A &gt; C"]) == [["A", "B"], ["A", "C"]]


def test_objects_within_each_other_are_paths() -> None:
    below = {"name": "Food", "children": [{"name": "Italian", "children": [{"name": "Pasta"}]}]}
    above = {"name": "Pasta", "parent": {"name": "Italian", "parent": {"name": "Food"}}}
    expected = [["Food", "Italian", "Pasta"], None]
    assert paths_of([[below], None]) == paths_of([below, None]) == expected
    assert paths_of([[above], None]) == paths_of([above, None]) == expected


def test_a_path_is_cut_before_an_empty_label() -> None:
    assert parsed(["A > B > ", "A > > "]) == ([["A", "B"], ["A"]], [])
    assert parsed([["A", None], [None], [""]]) == ([["A"], None, None], [])
    found, said = parsed([["A"], ["A", None, "C"], ["", "B"]])
    assert found == [["A"], ["A"], None]
    assert said == ["2 paths cut before an empty label (row 2: ['A', None, 'C'])"]
    with pytest.raises(DataError, match=r"found 1 bad row \(line 7: 'A >  > C'\); name the label"):
        parse_categories(
            pl.Series("categories", ["A > B", "A >  > C"]),
            "items.csv",
            Notes(strict=True),
            lines=pl.Series([2, 7]),
        )


@pytest.mark.parametrize(
    ("values", "expected", "said"),
    [
        (
            ["Home/Light/1", "Home/Light/2", "Toys"],
            [["Home", "Light", "1"], ["Home", "Light", "2"], ["Toys"]],
            "split at '/' (2 items), such as 'Home/Light/1' into Home > Light > 1",
        ),
        (["/Home/Light", "/Home/Table"], [["Home", "Light"], ["Home", "Table"]], "split at '/'"),
        (["Home / TV/Video", "Home / Oil"], [["Home", "TV/Video"], ["Home", "Oil"]], "split at"),
        (["A \u00bb B", "A \u00bb C"], [["A", "B"], ["A", "C"]], "split at '\u00bb'"),
        (["a;b", "a;c"], [["a", "b"], ["a", "c"]], "split at ';'"),
        (["a &amp; o; b", "a &amp; o; c"], [["a & o", "b"], ["a & o", "c"]], "split at ';'"),
        (["TV/Video", "Radio"], [["TV/Video"], ["Radio"]], "'/' is taken for a part of labels"),
        (["Arts, Crafts", "Food"], [["Arts, Crafts"], ["Food"]], "',' is taken for a part of"),
        (
            ["Home, Light", "Light, Home", "Home"],
            [["Home", "Light"], ["Home", "Light"], ["Home"]],
            "labels without an order",
        ),
        (
            ["Drama|Comedy", "Comedy|Romance", "Romance|Drama", "Drama"],
            [["Drama", "Comedy"], ["Comedy", "Romance"], ["Drama", "Romance"], ["Drama"]],
            "labels without an order",
        ),
        (
            ["Home > Light, Gifts > Ideas", "Gifts > X", "Home > Light"],
            [["Home", "Light"], ["Gifts", "X"], ["Home", "Light"]],
            "1 item under several paths",
        ),
        (
            ["Arts, Crafts > Beads", "Arts, Crafts > Yarn"],
            [["Arts, Crafts", "Beads"], ["Arts, Crafts", "Yarn"]],
            "",
        ),
    ],
)
def test_the_separator_is_what_repeats(values: list[str], expected: Paths, said: str) -> None:
    found, decided = parsed(values)
    assert found == expected
    assert any(text.startswith(said) for text in decided) if said else not decided


def test_the_users_separator() -> None:
    assert paths_of(["a#b", "c"], "#") == [["a", "b"], ["c"]]
    assert paths_of(["a, b", "c"], ",") == [["a", "b"], ["c"]]
    assert parsed(["a > b"], "/")[1] == ["no text holds '/', so each is one label"]


@pytest.mark.parametrize(
    "text",
    [
        "['Home', 'Light']",
        '["Home", "Light"]',
        "['Home' 'Light']",
        "('Home', 'Light')",
        '[{"id": 1, "name": "Home"}, {"id": 2, "name": "Light"}]',
        "[['Home', 'Light'], ['Home']]",
    ],
)
def test_lists_written_as_text(text: str) -> None:
    assert paths_of([text, text]) == [["Home", "Light"]] * 2


def test_rows_may_be_written_differently() -> None:
    found, said = parsed(["['Home', 'Light']", "['Home', 'Table']", "Home > Oil", "[Sale]"])
    assert found == [["Home", "Light"], ["Home", "Table"], ["Home", "Oil"], ["[Sale]"]]
    assert said == [
        "2 rows with a text where others have a list, each read as it is (row 3: 'Home > Oil')"
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[["Home", "Light"], ["Gifts"]], [["Home", "Oil"]], None], [["Home", "Light"], None]),
        ([["Home", "Home > Light"], ["Home > Oil"], None], [["Home", "Light"], None]),
        (
            [[{"id": 1, "name": "Home"}, {"id": 2, "name": "Light"}], None],
            [["Home", "Light"], None],
        ),
        ([[{"id": 1, "word": "Home"}], None], [["Home"], None]),
        ([{"name": "Home"}, None], [["Home"], None]),
        ([3, None], [["3"], None]),
        ([3.0, float("nan")], [["3"], None]),
        ([[3.0, 4.0], None], [["3", "4"], None]),
        (["N/A", "None", "nan"], [None, None]),
    ],
)
def test_other_types(values: list[Any], expected: Paths) -> None:
    found = paths_of(values)
    assert [found[0], found[-1]] == expected


@pytest.mark.parametrize("values", [[[{"a": 1}]], [b"a"], [{"a": "x", "b": "y"}]])
def test_types_without_labels_are_refused(values: list[Any]) -> None:
    with pytest.raises(DataError, match="expected labels, lists of labels or objects with a name"):
        parsed(values)


def test_all_null_columns_become_lists() -> None:
    for dtype in (
        pl.Null,
        pl.String,
        pl.List(pl.Null),
        pl.List(pl.String),
        pl.List(pl.List(pl.Null)),
    ):
        assert parsed([None, None], dtype=dtype) == ([None, None], [])


LABELS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=2, max_size=5)


@given(st.lists(st.lists(LABELS, min_size=1, max_size=4), min_size=1, max_size=8))
def test_text_and_lists_and_json_agree(paths: list[list[str]]) -> None:
    words = {"na", "nan", "null", "none", "undefined"}
    paths = [[label for label in path if label.lower() not in words] or ["x"] for path in paths]
    assert paths_of(paths) == paths
    assert paths_of([" > ".join(path) for path in paths]) == paths
    assert paths_of([str(path) for path in paths]) == paths
