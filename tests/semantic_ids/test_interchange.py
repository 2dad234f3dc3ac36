from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidvae.data.catalogue import Catalogue
from hidvae.errors import ArtifactError, DataError
from hidvae.semantic_ids.interchange import (
    export_folder,
    export_ids,
    ids_of_catalogue,
    import_ids,
)
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
        read = import_ids(path)
        assert [entry.name for entry in Path(folder).iterdir()] == [path.name]
    assert read.item_ids == ids.item_ids
    assert read.level_sizes == tuple(ids.codes.max(axis=0) + 1)
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
def test_sizes_fit_the_largest_codes(tmp_path, ending):
    path = tmp_path / f"ids{ending}"
    export_ids(make_ids(), path)
    assert import_ids(path).level_sizes == (13, 5)


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


def read_text(tmp_path, ending: str, text: str) -> None:
    path = tmp_path / f"ids{ending}"
    path.write_text(text, encoding="utf-8")
    import_ids(path)


def recbole(*rows: str) -> str:
    return "\n".join(["item_id:token\tcodes:token_seq", *rows, ""])


def parquet(tmp_path, **columns):
    path = tmp_path / "ids.parquet"
    pl.DataFrame(columns).write_parquet(path)
    import_ids(path)


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


def shop(item_ids=("B001", "B002")) -> Catalogue:
    return Catalogue(
        pl.DataFrame(
            {
                "item_id": item_ids,
                "title": ["Hoe", None],
                "categories": [["Garden", "Tools"], None],
                "price": [1.0, 2.0],
            }
        )
    )


def test_a_folder_is_laid_out_as_other_tools_have_it(tmp_path):
    export_folder(make_ids(), shop(), tmp_path / "Shop")
    texts = {path.name: path.read_text("utf-8") for path in (tmp_path / "Shop").iterdir()}
    assert set(texts) == {"Shop.index.json", "Shop.item2id", "Shop.item.json"}
    index = {"0": ["<a_12>", "<b_3>"], "1": ["<a_0>", "<b_4>"]}
    assert json.loads(texts["Shop.index.json"]) == index
    assert texts["Shop.item2id"] == "B001\t0\nB002\t1\n"
    assert json.loads(texts["Shop.item.json"]) == {
        "0": {"title": "Hoe", "categories": "Garden,Tools"},
        "1": {"title": "B002", "categories": ""},
    }


@pytest.mark.parametrize("name", ["Shop", "Shop/Shop.index.json"])
def test_a_folder_is_read_back_by_item_id(tmp_path, name):
    export_folder(make_ids(), shop(), tmp_path / "Shop")
    read = import_ids(tmp_path / name)
    assert (read.item_ids, read.codes.tolist()) == (["B001", "B002"], [[12, 3], [0, 4]])


def test_an_index_without_item2id_is_by_item_id(tmp_path):
    export_ids(make_ids(), tmp_path / "Shop.index.json")
    assert import_ids(tmp_path).item_ids == ["B001", "B002"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("B001\t0\n", "Shop.index.json: expected numbers of Shop.item2id; found '1'"),
        ("B001\t0\nB002\n", "Shop.item2id: expected lines of item id, tab, number"),
        ("B001 0\nB002 1\n", "Shop.item2id: expected lines of item id, tab, number"),
        ("B001\t0\t\nB002\t1\t\n", "Shop.item2id: expected lines of item id, tab, number"),
        ("B001\t0\nB001\t1\n", "Shop.item2id: expected every item and number once"),
        ("B001\t0\nB002\t0\n", "Shop.item2id: expected every item and number once"),
        ("", "Shop.item2id: expected lines of item id, tab, number"),
    ],
)
def test_a_malformed_item2id_is_named_in_one_line(tmp_path, text, message):
    export_folder(make_ids(), shop(), tmp_path / "Shop")
    (tmp_path / "Shop" / "Shop.item2id").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        import_ids(tmp_path / "Shop")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [[], ["a.index.json", "b.index.json"]])
def test_a_folder_must_have_one_index(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(DataError, match=f"expected one file .*; found {len(names)}"):
        import_ids(tmp_path)


@pytest.mark.parametrize("name", ["", "a\tb", "a\nb"])
def test_a_folder_refuses_names_it_cannot_hold(tmp_path, name):
    ids = SemanticIds.without_tags(["x", name], np.array([[0], [1]]), [2])
    with pytest.raises(DataError, match="item2id cannot hold"):
        export_folder(ids, shop(["x", name]), tmp_path / "Shop")


def write_codes(tmp_path, **codes: list[int]) -> Path:
    path = tmp_path / "ids.parquet"
    pl.DataFrame({"item_id": list(codes), "codes": list(codes.values())}).write_parquet(path)
    return path


def test_ids_come_in_the_order_of_the_catalogue(tmp_path):
    path = write_codes(tmp_path, z=[1, 1], x=[0, 2], y=[3, 0])
    ids, codes, others = ids_of_catalogue(path, ["x", "y"], may_add_code=False)
    assert (ids.item_ids, ids.level_sizes, others) == (["x", "y"], (4, 3), ["z"])
    assert ids.codes.tolist() == codes.tolist() == [[0, 2], [3, 0]]


def test_an_item_without_an_id_is_named(tmp_path):
    path = write_codes(tmp_path, x=[0])
    with pytest.raises(DataError, match="found none for 2 of 3, first 'y'") as caught:
        ids_of_catalogue(path, ["x", "y", "z"], may_add_code=True)
    assert "\n" not in str(caught.value)


def test_items_that_share_an_id_are_named_or_parted(tmp_path):
    path = write_codes(tmp_path, x=[0, 1], y=[2, 2], z=[0, 1])
    with pytest.raises(DataError, match="found 2 that share theirs, such as 'x' and 'z'; .*=disam"):
        ids_of_catalogue(path, ["x", "y", "z"], may_add_code=False)
    ids, codes, _ = ids_of_catalogue(path, ["x", "y", "z"], may_add_code=True)
    assert ids.codes.tolist() == [[0, 1, 0], [2, 2, 0], [0, 1, 1]]
    assert ids.is_disambiguated and ids.is_unique and ids.level_sizes == (3, 3, 2)
    assert codes.shape == (3, 2)


def test_unique_ids_get_no_further_code(tmp_path):
    path = write_codes(tmp_path, x=[0], y=[1])
    ids, _, _ = ids_of_catalogue(path, ["x", "y"], may_add_code=True)
    assert ids.num_levels == 1 and not ids.is_disambiguated


def test_codes_that_no_level_can_hold_are_refused(tmp_path: Path) -> None:
    """Such as hashes, for each of which the retriever would get a vector."""
    path = tmp_path / "ids.json"
    path.write_text('{"x": ["<a_0>"], "y": ["<a_1000000000000>"]}')
    with pytest.raises(DataError, match=r"item 'y', level 0: expected a code below 65536; found"):
        ids_of_catalogue(path, ["x", "y"], may_add_code=False)


def test_a_path_may_be_text(tmp_path: Path) -> None:
    ids = SemanticIds.without_tags(["a", "b"], np.array([[0, 1], [1, 0]]), [2, 2])
    for ending in ENDINGS:
        export_ids(ids, f"{tmp_path}/ids{ending}")
        assert import_ids(f"{tmp_path}/ids{ending}").codes.tolist() == ids.codes.tolist()
    export_folder(ids, Catalogue(pl.DataFrame({"item_id": ["a", "b"]})), f"{tmp_path}/folder")
    assert import_ids(f"{tmp_path}/folder").item_ids == ["a", "b"]
