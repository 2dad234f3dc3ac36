from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.data.test_table_files import FRAME, write

from hidvae.data.notes import BadRows
from hidvae.data.table_files import scan_table
from hidvae.data.tables import SourceTables, map_distinct, nearest, read_batches


def log_of(path: Path) -> SourceTables:
    return SourceTables("x", pl.DataFrame(), scan_table(path, ["id"]), "items", str(path))


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl.gz", ".parquet"])
def test_a_log_is_read_in_batches_in_order(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame({"id": [str(i) for i in range(1000)]})
    path = write(frame, tmp_path / f"interactions{suffix}")
    rows, ids = [], []
    for row, batch in read_batches(log_of(path), rows_per_batch=300):
        rows.append(row)
        ids += batch["id"].to_list()
        assert rows[-1] + batch.height == len(ids) + 1
    assert ids == frame["id"].to_list()
    assert len(rows) > 1


def test_errors_of_the_reader_of_batches_stay_theirs(tmp_path: Path) -> None:
    path = write(FRAME, tmp_path / "interactions.csv")
    tables = SourceTables("x", FRAME, scan_table(path, []), "items", str(path))
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        for _, batch in read_batches(tables):
            batch["absent"]


def test_bad_rows_shows_a_few_and_the_count() -> None:
    error = BadRows(
        file="f.csv", column="c", expected="x", rows=[1, 5, 6, 9], values=["a", None, "b" * 99, 2],
        count=12, advice="do this",
    )  # fmt: skip
    assert (error.rows, error.count) == ([1, 5, 6, 9], 12)
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


def test_nearest_name() -> None:
    assert nearest("user_id", ["item", "User ID", "ts"]) == "User ID"
    assert nearest("price", ["user", "ts"]) == ""
