from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from hidvae.data.tables import bad_rows, find_table, map_distinct, read_table
from hidvae.errors import DataError


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_the_same_table_in_three_formats(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": ["007", "a,b"], "price": [1.5, None]})
    frame.write_parquet(tmp_path / "p.parquet")
    frame.write_csv(tmp_path / "c.csv")
    frame.write_csv(tmp_path / "t.tsv", separator="\t")
    for name in ("p.parquet", "c.csv", "t.tsv"):
        assert read_table(tmp_path / name, ["item_id", "absent"]).equals(frame), name


def test_find_table(tmp_path: Path) -> None:
    with pytest.raises(DataError) as missing:
        find_table(tmp_path, "items")
    assert "expected one of items.parquet, items.csv, items.tsv; found none" in one_line(missing)
    (tmp_path / "items.tsv").touch()
    assert find_table(tmp_path, "items") == tmp_path / "items.tsv"
    (tmp_path / "items.csv").touch()
    with pytest.raises(DataError) as twice:
        find_table(tmp_path, "items")
    assert "found items.csv, items.tsv; keep the one" in one_line(twice)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"", "found an empty file"),
        ("a.csv", b"user_id,item_id\n", "found 0 rows under the columns user_id, item_id"),
        ("a.csv", b"user_id,item_id\n1,2,3\n", "expected a readable CSV file; found: "),
        ("a.csv", b"user_id,item_id\n\xff\xfe,2\n", "invalid utf-8"),
        ("a.tsv", b'a\tb\n"1\t2\n', "expected a readable TSV file"),
        ("a.parquet", b"", "expected a readable Parquet file"),
        ("a.parquet", b"user_id,item_id\n1,2\n", "expected a readable Parquet file"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(path, ["user_id"])
    assert expected in one_line(caught)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [4, 50, 200])
def test_truncated_parquet(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": [str(i) for i in range(100)]}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="export it again"):
        read_table(path, [])


def test_bad_rows_shows_a_few_and_the_count() -> None:
    error = bad_rows(
        file="f.csv", column="c", expected="x", rows=[1, 5, 6, 9], values=["a", None, "b" * 99, 2],
        count=12, advice="do this",
    )  # fmt: skip
    text = str(error)
    assert text.startswith(
        "f.csv, column c: expected x; found 12 bad rows (row 1: 'a', row 5: null,"
    )
    assert text.endswith("... and 9 more); do this")


def test_map_distinct_calls_once_per_value() -> None:
    calls: list[str] = []

    def upper(value: str) -> str:
        calls.append(value)
        return value.upper()

    found = map_distinct(pl.Series(["a", "b", None, "a"]), upper, pl.String)
    assert found.to_list() == ["A", "B", None, "A"]
    assert sorted(calls) == ["a", "b"]
