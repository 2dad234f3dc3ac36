from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import polars as pl
import pytest

from hidvae.data.notes import BadRows
from hidvae.data.table_files import SUFFIXES, find_table, read_table, scan_table
from hidvae.data.tables import SourceTables, map_distinct, nearest, read_batches
from hidvae.errors import DataError


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


FRAME = pl.DataFrame(
    {"item_id": ["007", "a,b", 'say "x"', "two\nlines"], "price": [1.5, None, 3.0, 4.0]}
)


def write(frame: pl.DataFrame, path: Path) -> Path:
    """A table in the format and compression of its suffix."""
    kind = path.name.split(".")[1]
    compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix, "uncompressed")
    if kind == "parquet":
        frame.write_parquet(path)
    elif kind in ("jsonl", "ndjson"):
        frame.write_ndjson(path, compression=compression)  # type: ignore[call-overload]
    else:
        separator = "\t" if kind == "tsv" else ","
        frame.write_csv(path, separator=separator, compression=compression)  # type: ignore[call-overload]
    magic = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}.get(path.suffix, b"")
    assert path.read_bytes().startswith(magic)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_table_in_every_format(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "glob [1]*"
    folder.mkdir()
    path = write(FRAME, folder / f"items{suffix}")
    assert find_table(folder, "items") == path
    assert read_table(path, ["item_id", "absent"]).equals(FRAME)
    scanned = scan_table(path, ["item_id"])
    assert isinstance(scanned, pl.LazyFrame)
    assert scanned.collect(engine="streaming")["item_id"].equals(FRAME["item_id"])


def test_find_table(tmp_path: Path) -> None:
    with pytest.raises(DataError) as missing:
        find_table(tmp_path, "items")
    assert "expected a table items.* (parquet, csv, tsv, jsonl or ndjson" in one_line(missing)
    assert "found none; put one there" in str(missing.value)
    (tmp_path / "items.csv.bz2").touch()
    with pytest.raises(DataError, match=r"found items\.csv\.bz2; convert it"):
        find_table(tmp_path, "items")
    (tmp_path / "items.tsv").touch()
    assert find_table(tmp_path, "items") == tmp_path / "items.tsv"
    (tmp_path / "items.csv.gz").touch()
    with pytest.raises(DataError) as twice:
        find_table(tmp_path, "items")
    assert "found items.csv.gz, items.tsv; keep the right one" in one_line(twice)


def test_json_lines_keep_ids_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    lines = [
        '{"item_id": "007", "categories": ["A", "B"], "stock": 3}',
        "",
        '{"item_id": 7, "title": "late"}',
        '{"item_id": 12345678901234567890123, "stock": 2.5}',
    ]
    path.write_text("\r\n".join(lines))
    found = read_table(path, ["item_id", "categories"])
    assert found["item_id"].to_list() == ["007", "7", "12345678901234567890123"]
    assert found["categories"].to_list() == [["A", "B"], None, None]
    assert found["title"].to_list() == [None, "late", None]
    assert found["stock"].to_list() == [3.0, None, 2.5]


def test_ids_that_are_large_json_numbers(tmp_path: Path) -> None:
    path = tmp_path / "items.ndjson"
    path.write_text('{"item_id": 12345678901234567890123}\n{"item_id": 7}\n')
    assert read_table(path, ["item_id"])["item_id"].to_list() == ["12345678901234567890123", "7"]


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


def test_a_broken_line_far_down_is_named(tmp_path: Path) -> None:
    path = tmp_path / "interactions.jsonl.gz"
    lines = ['{"id": 1}'] * 5000 + ["", '{"id": 2', '{"id": 3}', "[4]"]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(DataError) as caught:
        log_of(path)
    assert "expected a readable JSON Lines file" in one_line(caught)
    assert "found: line 5002 is no JSON object: '{\"id\": 2'; repair" in str(caught.value)


def test_a_cut_file_shows_while_reading(tmp_path: Path) -> None:
    path = tmp_path / "interactions.csv.gz"
    noise = "\n".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(20_000))
    path.write_bytes(gzip.compress(f"id\n{noise}".encode())[:-50_000])
    tables = log_of_text(path)
    with pytest.raises(DataError, match="expected a readable CSV file; found: ") as caught:
        list(read_batches(tables))
    assert "\n" not in str(caught.value)


def log_of_text(path: Path) -> SourceTables:
    log = scan_table(path, ["id"])
    return SourceTables("x", pl.DataFrame(), log, "items", str(path))


def test_errors_of_the_reader_of_batches_stay_theirs(tmp_path: Path) -> None:
    path = write(FRAME, tmp_path / "interactions.csv")
    tables = SourceTables("x", FRAME, scan_table(path, []), "items", str(path))
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        for _, batch in read_batches(tables):
            batch["absent"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"", "found an empty file"),
        ("a.csv", b"user_id,item_id\n", "found 0 rows under the columns user_id, item_id"),
        ("a.csv", b"user_id,item_id\n1,2,3\n", "expected a readable CSV file; found: "),
        ("a.csv", b"user_id,item_id\n\xff\xfe,2\n", "invalid utf-8"),
        ("a.tsv", b'a\tb\n"1\t2\n', "expected a readable TSV file"),
        ("a.parquet", b"", "expected a readable Parquet file"),
        ("a.jsonl", b"", "found an empty file"),
        ("a.jsonl", b'{"user_id": 1}\n{"user_id"', "line 2 is no JSON object: '{\"user_id\"'"),
        ("a.ndjson", b'[{"user_id": 1}]\n', "line 1 is no JSON object"),
        ("a.jsonl", b"\n\n", "expected a readable JSON Lines file"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00broken", "expected a readable CSV file"),
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
