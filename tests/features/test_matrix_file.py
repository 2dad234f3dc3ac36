from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from hidvae.data.notes import Notes
from hidvae.errors import ConfigError, DataError
from hidvae.features.matrix_file import read_matrix_file

MATRIX = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]])
ITEM_IDS = ["a", "b", "c"]


def save_npy(path: Path, matrix: np.ndarray) -> None:
    np.save(path, matrix)


def save_tensor(path: Path, matrix: np.ndarray) -> None:
    save_file({"x": matrix}, path)


def save_list_column(path: Path, matrix: np.ndarray) -> None:
    pl.DataFrame({"vector": matrix.tolist()}).write_parquet(path)


def save_array_column(path: Path, matrix: np.ndarray) -> None:
    pl.DataFrame({"vector": matrix}).write_parquet(path)


def save_number_columns(path: Path, matrix: np.ndarray) -> None:
    pl.DataFrame(matrix, schema=["x", "y"]).write_parquet(path)


FORMATS = {
    "x.npy": save_npy,
    "x.safetensors": save_tensor,
    "list.parquet": save_list_column,
    "array.parquet": save_array_column,
    "numbers.parquet": save_number_columns,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_matrix(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "vectors [v2]*"  # no pattern
    folder.mkdir()
    FORMATS[name](folder / name, MATRIX)
    matrix = read_matrix_file(folder / name, ITEM_IDS)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, MATRIX)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_names_the_first_number_that_is_not_finite(name: str, tmp_path: Path) -> None:
    broken = MATRIX.copy()
    broken[1:, 1] = np.nan, np.inf
    FORMATS[name](tmp_path / name, broken)
    with pytest.raises(DataError, match=r"row 1 \(from 0\), item_id 'b', column 1.*nan \(2 rows"):
        read_matrix_file(tmp_path / name, ITEM_IDS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_counts_its_rows(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / name, MATRIX)
    with pytest.raises(DataError, match="expected 2 rows, one per item; found 3"):
        read_matrix_file(tmp_path / name, ["a", "b"])


def test_parquet_with_item_ids_comes_in_any_order_and_may_hold_more(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    ids = ["z", "c", "a", "b"]
    pl.DataFrame({"item_id": ids, "v": [[9.0, 9.0], *MATRIX[[2, 0, 1]].tolist()]}).write_parquet(
        file
    )
    np.testing.assert_array_equal(read_matrix_file(file, ITEM_IDS), MATRIX)


def test_integer_item_ids_match_their_text(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    pl.DataFrame({"item_id": [2, 1], "x": [20, 10]}).write_parquet(file)
    np.testing.assert_array_equal(read_matrix_file(file, ["1", "2"]), [[10], [20]])


def test_a_number_too_large_for_float32_is_not_finite(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1e300]]))
    with pytest.raises(DataError, match=r"found 1e\+300"):
        read_matrix_file(tmp_path / "x.npy", ["a"])


def test_the_named_tensor_is_taken_from_several(tmp_path: Path) -> None:
    save_file({"item_embeddings": MATRIX, "other": MATRIX * 2}, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(read_matrix_file(tmp_path / "x.safetensors", ITEM_IDS), MATRIX)


def write_parquet(**columns: object) -> Callable[[Path], None]:
    return lambda path: pl.DataFrame(columns).write_parquet(path)


def save_objects(path: Path) -> None:
    np.save(path, np.array([[{}]]), allow_pickle=True)


def save_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=MATRIX)


@pytest.mark.parametrize(
    ("name", "save", "error", "message"),
    [
        ("x.csv", lambda path: path.touch(), ConfigError, r"\.npy, \.safetensors or \.parquet"),
        ("x.npy", lambda path: None, DataError, "no such file"),
        ("x.npy", lambda path: path.write_bytes(b"no"), DataError, "cannot be read as one"),
        ("x.npy", lambda path: path.write_bytes(b""), DataError, "cannot be read as one"),
        ("x.npy", save_objects, DataError, "cannot be read as one"),
        ("x.npy", save_archive, DataError, "found an archive"),
        ("x.npy", lambda path: np.save(path, np.zeros(3)), DataError, r"found .* shape \(3,\)"),
        ("x.npy", lambda path: np.save(path, np.zeros((3, 0))), DataError, r"shape \(3, 0\)"),
        ("x.npy", lambda path: np.save(path, np.full((3, 1), "a")), DataError, "of type <U1"),
        ("x.safetensors", lambda path: path.write_bytes(b"no"), DataError, "read as safetensors"),
        (
            "x.safetensors",
            lambda path: save_file({"p": MATRIX, "q": MATRIX}, path),
            DataError,
            "named item_embeddings; found p, q",
        ),
        ("x.parquet", lambda path: path.write_bytes(b"no"), DataError, "cannot be read as Parquet"),
        (
            "x.parquet",
            write_parquet(item_id=["a", "a"], x=[1.0, 2.0]),
            DataError,
            "item_id 'a' more than once",
        ),
        (
            "x.parquet",
            write_parquet(item_id=["a"], x=[1.0]),
            DataError,
            r"none for item_id 'b' \(2 missing\)",
        ),
        (
            "x.parquet",
            write_parquet(v=[[1.0, 2.0], [3.0], [4.0, 5.0]]),
            DataError,
            "2 numbers in row 0 and 1 in row 1",
        ),
        ("x.parquet", write_parquet(v=[["p"], ["q"], ["r"]]), DataError, "expected numbers"),
        (
            "x.parquet",
            write_parquet(name=["p", "q", "r"]),
            DataError,
            "found 'name' with 0% of",
        ),
        ("x.parquet", write_parquet(item_id=["a", "b", "c"]), DataError, "found no column"),
    ],
)
def test_a_bad_file_is_one_clear_line(
    name: str, save: Callable[[Path], None], error: type[Exception], message: str, tmp_path: Path
) -> None:
    save(tmp_path / name)
    if not message.startswith("no such"):
        (tmp_path / name).stat()
    with pytest.raises(error, match=message) as caught:
        read_matrix_file(tmp_path / name, ITEM_IDS)
    assert "\n" not in str(caught.value)


def test_missing_numbers_in_parquet_are_not_finite(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1.0, None, 2.0]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="item_id 'b'"):
        read_matrix_file(tmp_path / "x.parquet", ITEM_IDS)


def test_rows_are_matched_by_the_one_column_of_ids(tmp_path: Path) -> None:
    path = tmp_path / "vectors.parquet"
    rows = pl.DataFrame({"sku": ["c", "a", "b"], "kind": [*"xxy"], "x": [3.0, 1.0, 2.0]})
    rows.select("sku", "x").write_parquet(path)
    notes = Notes()
    assert read_matrix_file(path, ["a", "b", "c"], notes).tolist() == [[1], [2], [3]]
    assert notes.decisions[0].text == f"{path}: rows matched by column sku"
    rows.select("sku", pl.concat_list("x").alias("v"), "kind").write_parquet(path)
    assert read_matrix_file(path, ["a", "b", "c"]).tolist() == [[1], [2], [3]]
    numbers = pl.DataFrame({"movie": [2, 1], "x": [2.0, 1.0]})
    numbers.write_parquet(path)
    assert read_matrix_file(path, ["1", "2"]).tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"sku": ["c", "zz"]}, "'sku' with 0% of the ids, such as 'c'"),
        ({"sku": ["a", "zz"]}, "'sku' with 50% of the ids"),
        ({"sku": ["a", "b"], "id": ["b", "a"]}, "columns sku, id, each with all ids"),
        ({"movieId": [7, 8]}, "'movieId' with 0% of the ids, such as 7"),
    ],
)
def test_row_order_is_not_assumed_where_a_column_names_rows(
    columns: dict[str, list[object]], found: str, tmp_path: Path
) -> None:
    path = tmp_path / "vectors.parquet"
    pl.DataFrame({**columns, "x": [1.0, 2.0]}).write_parquet(path)
    with pytest.raises(DataError) as caught:
        read_matrix_file(path, ["a", "b"])
    assert (
        f"expected a column item_id with the ids of the items, such as 'a'; found {found}"
        in str(caught.value)
    )


def test_row_order_and_vectors_of_zeros_are_said(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    np.save(path, np.array([[1.0, 2], [0, 0], [0, 0]]))
    notes = Notes()
    read_matrix_file(path, ["a", "b", "c"], notes)
    assert [decision.text for decision in notes.decisions] == [
        f"{path}: no ids, so its rows are taken for the items of items.parquet in their order",
        f"{path}: 2 vectors of zeros, such as that of item_id 'b', which say nothing of the item",
    ]
    np.save(path, np.zeros((3, 2)))
    with pytest.raises(DataError, match="found the same in all 3 rows, so they say nothing"):
        read_matrix_file(path, ["a", "b", "c"])
