from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidvae.errors import ArtifactError, DataError
from hidvae.semantic_ids.interchange import export_ids, import_ids
from hidvae.semantic_ids.table import SemanticIds

ENDINGS = [".json", ".parquet", ".item"]
any_name = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
plain_name = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters='\t\r\n"'), min_size=1, max_size=8
)


@st.composite
def tables(draw, names):
    sizes = draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
    items = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    codes = [[draw(st.integers(0, size - 1)) for size in sizes] for _ in items]
    return SemanticIds.without_tags(items, np.array(codes, dtype=np.int64), sizes)


def make_ids() -> SemanticIds:
    codes = np.array([[12, 3], [0, 4]])
    return SemanticIds.without_tags(["B001", "B002"], codes, [13, 5])


def check_round_trip(ids: SemanticIds, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"ids{ending}"
        export_ids(ids, path)
        read = import_ids(path, ids.level_sizes)
        assert [entry.name for entry in Path(folder).iterdir()] == [path.name]
    assert read.item_ids == ids.item_ids
    assert read.level_sizes == ids.level_sizes
    np.testing.assert_array_equal(read.codes, ids.codes)


@pytest.mark.parametrize("ending", [".json", ".parquet"])
@given(ids=tables(any_name))
@settings(max_examples=60, deadline=None)
def test_export_then_import_gives_the_same_table(ending, ids):
    check_round_trip(ids, ending)


@given(ids=tables(plain_name))
@settings(max_examples=60, deadline=None)
def test_recbole_export_then_import_gives_the_same_table(ids):
    check_round_trip(ids, ".item")


@pytest.mark.parametrize("ending", ENDINGS)
def test_sizes_that_are_not_given_fit_the_largest_codes(tmp_path, ending):
    path = tmp_path / f"ids{ending}"
    export_ids(make_ids(), path)
    assert import_ids(path).level_sizes == (13, 5)
    assert import_ids(path, [20, 20], is_disambiguated=True).is_disambiguated


def test_index_json_is_the_format_of_other_tools(tmp_path):
    export_ids(make_ids(), tmp_path / "ids.json")
    read = json.loads((tmp_path / "ids.json").read_text(encoding="utf-8"))
    assert read == {"B001": ["<a_12>", "<b_3>"], "B002": ["<a_0>", "<b_4>"]}


def test_recbole_file_is_an_atomic_file(tmp_path):
    export_ids(make_ids(), tmp_path / "ids.item")
    assert (tmp_path / "ids.item").read_text(encoding="utf-8") == (
        "item_id:token\tcodes:token_seq\nB001\t<a_12> <b_3>\nB002\t<a_0> <b_4>\n"
    )


def test_recbole_import_ignores_other_columns(tmp_path):
    path = tmp_path / "ids.item"
    path.write_text("title:token_seq\tcodes:token_seq\titem_id:token\nx y\t<a_1>\t7\n")
    ids = import_ids(path)
    assert (ids.item_ids, ids.codes.tolist()) == (["7"], [[1]])


def test_parquet_import_takes_whole_numbers_as_names_and_small_integers(tmp_path):
    path = tmp_path / "ids.parquet"
    codes = pl.Series("codes", [[1, 2]], dtype=pl.Array(pl.UInt8, 2))
    pl.DataFrame([pl.Series("item_id", [7]), codes]).write_parquet(path)
    ids = import_ids(path)
    assert (ids.item_ids, ids.codes.tolist()) == (["7"], [[1, 2]])


def read_text(tmp_path, ending: str, text: str, level_sizes=None) -> None:
    path = tmp_path / f"ids{ending}"
    path.write_text(text, encoding="utf-8")
    import_ids(path, level_sizes)


def recbole(*rows: str) -> str:
    return "\n".join(["item_id:token\tcodes:token_seq", *rows, ""])


def parquet(tmp_path, **columns):
    path = tmp_path / "ids.parquet"
    pl.DataFrame(columns).write_parquet(path)
    import_ids(path, [9, 9])


@pytest.mark.parametrize(
    ("ending", "text", "message"),
    [
        (".json", '{"x": ["<a_1>", "b_2"]}', "item 'x', level 1: .*<b_12>; found 'b_2'"),
        (".json", '{"x": ["<b_1>"]}', "item 'x', level 0: .*<a_12>; found '<b_1>'"),
        (".json", '{"x": ["<a_01>"]}', "level 0: .*found '<a_01>'"),
        (".json", '{"x": ["<a_-1>"]}', "level 0: .*found '<a_-1>'"),
        (".json", '{"x": ["<a_1>\\n"]}', "level 0: "),
        (".json", '{"x": ["<a_99999999999999999999>"]}', "level 0: "),
        (".json", '{"x": "<a_1>"}', "item 'x': expected a list of tokens .*'<a_1>'"),
        (".json", '{"x": [1]}', r"item 'x': expected a list of tokens .*\[1\]"),
        (".json", '{"x": {"<a_1>": 1}}', "item 'x': expected a list of tokens"),
        (".json", '{"x": ["<a_1>"], "y": []}', r"item 'y': expected 1 codes; found \[\]"),
        (".json", '{"x": []}', "item 'x': expected 1 to 26 codes; found 0"),
        (".json", '{"x": ["<a_1>"], "x": ["<a_2>"]}', r"item 'x': expected one .*codes \[2\]"),
        (".json", '["<a_1>"]', "expected an object .*found list"),
        (".json", "{}", "found no items"),
        (".json", '{"x": ', "expected an index JSON file"),
        (".json", '{"\\ud800": ["<a_1>"]}', "expected an index JSON file"),
        (".item", recbole("x\t<a_1> <c_1>"), "item 'x', level 1: .*found '<c_1>'"),
        (".item", recbole("x\t<a_1>", "y\t<a_1> <b_1>"), r"item 'y': expected 1 codes; .*\[1, 1\]"),
        (".item", recbole("x\t<a_1>", "x\t<a_2>"), "item 'x': expected one entry"),
        (".item", recbole("x\t<a_1>", "y\t"), "line 3: expected an item and its codes"),
        (".item", recbole("x\t<a_1>\tmore"), "expected a RecBole atomic file"),
        (".item", "item_id\tcodes\nx\t<a_1>\n", "expected a column item_id:token; found item_id,"),
        (".item", recbole(), "found no items"),
        (".item", "", "expected a RecBole atomic file"),
    ],
)
def test_a_malformed_file_is_named_in_one_line(tmp_path, ending, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_text(tmp_path, ending, text)
    assert str(tmp_path / f"ids{ending}") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_code_out_of_range_is_named(tmp_path, ending):
    path = tmp_path / f"ids{ending}"
    export_ids(make_ids(), path)
    with pytest.raises(DataError, match=r"item 'B001', level 0: .*\[0, 12\); found 12"):
        import_ids(path, [12, 5])
    with pytest.raises(DataError, match="item 'B001': expected 3 codes"):
        import_ids(path, [13, 5, 2])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["x"], "codes": [[1, -1]]}, "item 'x', level 1: .*found -1"),
        ({"item_id": ["x", "x"], "codes": [[1, 2], [3, 4]]}, r"item 'x': .*codes \[3, 4\]"),
        ({"item_id": ["x"], "codes": [[1, None]]}, "row 0, item 'x': .*without gaps"),
        ({"item_id": ["x", None], "codes": [[1, 2], [3, 4]]}, "row 1, item None"),
        ({"item_id": ["x", "y"], "codes": [[1, 2], None]}, "row 1, item 'y'"),
        ({"item_id": ["x"], "codes": [["1"]]}, "column codes: expected lists of integers"),
        ({"item_id": ["x"], "codes": [1]}, "column codes: expected lists of integers"),
        ({"item_id": [1.5], "codes": [[1, 2]]}, "column item_id: expected strings"),
        ({"item_id": ["x"], "code": [[1, 2]]}, "expected a column codes; found item_id, code"),
    ],
)
def test_a_malformed_parquet_is_named(tmp_path, columns, message):
    with pytest.raises(DataError, match=message) as caught:
        parquet(tmp_path, **columns)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_or_binary_file_is_named(tmp_path, ending):
    path = tmp_path / f"ids{ending}"
    with pytest.raises(DataError, match="expected an? .* file; found"):
        import_ids(path)
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="expected a"):
        import_ids(path)


@pytest.mark.parametrize("name", ["", "a\tb", 'a"b', "a\nb", "a\rb"])
def test_recbole_refuses_names_it_cannot_hold(tmp_path, name):
    ids = SemanticIds.without_tags([name], np.array([[0]]), [1])
    with pytest.raises(DataError, match="a RecBole file cannot hold"):
        export_ids(ids, tmp_path / "ids.item")


def test_an_unknown_ending_names_the_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"ending in \.json, \.parquet, \.item; found \.csv"):
        export_ids(make_ids(), tmp_path / "ids.csv")
    with pytest.raises(DataError, match="found no ending"):
        import_ids(tmp_path / "ids")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path, ending):
    (tmp_path / f"ids{ending}").mkdir()  # a folder is in the way
    with pytest.raises(ArtifactError, match="could not write"):
        export_ids(make_ids(), tmp_path / f"ids{ending}")
    assert [entry.name for entry in tmp_path.iterdir()] == [f"ids{ending}"]
