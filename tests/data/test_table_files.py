from __future__ import annotations

import gzip
import hashlib
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.data.spreadsheet import write_excel

from hidvae.config import DatasetConfig
from hidvae.data.notes import Notes
from hidvae.data.sources.folder import read_folder
from hidvae.data.table_files import (
    SUFFIXES,
    TableFiles,
    columns_by_number,
    find_table,
    read_table,
    scan_table,
)
from hidvae.data.tables import LINE
from hidvae.errors import ConfigError, DataError, HidvaeError, MissingExtraError

FRAME = pl.DataFrame(
    {"item_id": ["007", "a,b", 'say "x"', "two\nlines"], "price": [1.5, None, 3.0, 4.0]}
)


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def write(frame: pl.DataFrame, path: Path) -> Path:
    """A table in the format and packing of its name."""
    suffix = max((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len)
    kind, *packed = suffix[1:].split(".")
    if kind == "parquet":
        frame.write_parquet(path)
        return path
    if kind == "xlsx":
        return write_excel(path, {"Sheet1": [frame.columns, *frame.rows()]})
    if kind in ("jsonl", "ndjson"):
        text = frame.write_ndjson()
    elif kind == "json":
        text = frame.write_json()
    else:
        text = frame.write_csv(separator="\t" if kind in ("tsv", "tab") else ",")
    if packed == ["zst"]:
        lines = pl.DataFrame({"line": text.splitlines()})
        separator = "\x01"
        lines.write_csv(
            path,
            include_header=False,
            separator=separator,
            quote_style="never",
            compression="zstd",  # type: ignore[call-overload]
        )
    elif packed == ["gz"]:
        path.write_bytes(gzip.compress(text.encode()))
    elif packed == ["zip"] or kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(path.name.removesuffix(".zip") if packed else "items.csv", text)
            archive.writestr("__MACOSX/._items.csv", "")
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".CSV", ".JsonL.GZ"])
def test_the_same_table_in_every_format(tmp_path: Path, suffix: str) -> None:
    if suffix == ".xlsx":
        pytest.importorskip("fastexcel")
    folder = tmp_path / "glob [1]*"
    folder.mkdir()
    path = write(FRAME, folder / f"Items{suffix}")
    found = find_table(folder, "items")
    assert (str(found), found.by_name()) == (str(path), {path.name: path})
    assert read_table(path, ["item_id", "absent"]).drop(LINE, strict=False).equals(FRAME)
    scanned = scan_table(found, ["item_id"])
    assert isinstance(scanned, pl.LazyFrame)
    assert scanned.collect(engine="streaming")["item_id"].equals(FRAME["item_id"])


def test_find_table(tmp_path: Path) -> None:
    with pytest.raises(DataError) as missing:
        find_table(tmp_path, "items")
    assert "expected a table items.* (csv, tsv, tab, txt, jsonl" in one_line(missing)
    assert "found none; put one there" in str(missing.value)
    (tmp_path / "items.csv.bz2").touch()
    with pytest.raises(DataError, match=r"found items\.csv\.bz2; convert it"):
        find_table(tmp_path, "items")
    (tmp_path / "items.csv").symlink_to("moved.csv")
    with pytest.raises(DataError, match=r"items\.csv: .*; found a link to moved\.csv, which is n"):
        find_table(tmp_path, "items")
    (tmp_path / "items.tsv").touch()
    assert find_table(tmp_path, "items").parts == (tmp_path / "items.tsv",)
    (tmp_path / "ITEMS.csv.gz").touch()
    with pytest.raises(DataError) as twice:
        find_table(tmp_path, "items")
    assert "found ITEMS.csv.gz, items.tsv; keep the right one" in one_line(twice)


@pytest.mark.parametrize(
    "names",
    [
        ["items-0001.csv", "items-0002.csv", "items-0010.csv"],
        ["items.part1.jsonl", "items.part2.jsonl", "items.part10.jsonl"],
        ["items_1.parquet", "items_2.parquet", "items_10.parquet"],
        ["items/part-00000-x.csv", "items/part-00001-x.csv", "items/part-00002-x.csv"],
        ["items.parquet/part-1.parquet", "items.parquet/part-2.parquet", "items.parquet/x.parquet"],
        ["items/day=1/a.csv.gz", "items/day=2/a.csv.gz", "items/day=10/a.csv.gz"],
        ["items/part-00000", "items/part-00001", "items/part-00002"],
    ],
)
def test_a_table_in_parts(tmp_path: Path, names: list[str]) -> None:
    frame = pl.DataFrame({"item_id": ["a", "b", "c"], "n": [1, 2, 3]})
    for number, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            write(frame[number : number + 1], path)
        else:
            path.write_text(frame[number : number + 1].write_csv())
        (path.parent / "_SUCCESS").touch()
        (path.parent / f".{path.name}.crc").touch()
    table = find_table(tmp_path, "items")
    assert list(table.by_name()) == names
    found = read_table(table, ["item_id"])
    assert found.select(frame.columns).equals(frame)
    expected = ["1", "2", "10"] if "day=1" in names[0] else None
    assert (found["day"].cast(pl.String).to_list() if expected else None) == expected


def test_parts_have_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "items_1.csv").write_text("item_id,title\na,A\n")
    (tmp_path / "items_2.csv").write_text("item_id,name\nb,B\n")
    with pytest.raises(DataError) as caught:
        read_table(find_table(tmp_path, "items"), [])
    assert one_line(caught) == (
        f"{tmp_path}/items_2.csv: expected the columns of {tmp_path}/items_1.csv; found a part "
        "without title and with name; give all parts the same columns"
    )
    (tmp_path / "items_2.csv").unlink()
    (tmp_path / "items_2.jsonl").write_text('{"item_id": "b"}\n')
    with pytest.raises(DataError, match=r"found items_1\.csv, items_2\.jsonl; keep the right one"):
        find_table(tmp_path, "items")
    mixed = tmp_path / "items"
    mixed.mkdir()
    (mixed / "a.csv").touch()
    (mixed / "b.parquet").touch()
    with pytest.raises(DataError, match=r"expected parts of one format; found a\.csv and b\.parq"):
        TableFiles.of(mixed)


def test_parts_of_parquet_with_other_types(tmp_path: Path) -> None:
    folder = tmp_path / "items.parquet"
    folder.mkdir()
    pl.DataFrame({"item_id": ["a"], "n": [1], "c": [None]}).write_parquet(folder / "0.parquet")
    pl.DataFrame({"item_id": [7], "n": [2.5], "c": ["x"]}).write_parquet(folder / "1.parquet")
    found = read_table(folder, ["item_id"])
    assert found.drop(LINE).rows() == [("a", 1.0, None), ("7", 2.5, "x")]
    pl.DataFrame({"item_id": [["b"]], "n": [1], "c": [""]}).write_parquet(folder / "2.parquet")
    with pytest.raises(DataError, match=r"2\.parquet, column item_id: expected String as"):
        read_table(folder, ["item_id"])


def test_archives_hold_one_file(tmp_path: Path) -> None:
    path = tmp_path / "items.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "item_id\n1\n")
        archive.writestr("b.csv", "item_id\n2\n")
    with pytest.raises(DataError, match=r"expected one file in the archive; found 2 \(a\.csv, b"):
        read_table(path, [])


def test_what_a_file_is_shows_in_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    FRAME.write_parquet(path)
    assert read_table(path, []).equals(FRAME)
    path.write_bytes(gzip.compress(b"item_id\na\n"))
    assert read_table(path, ["item_id"])["item_id"].to_list() == ["a"]
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    with pytest.raises(DataError, match="found an Excel file of before 2007"):
        read_table(path, [])


def test_numbers_of_text_keep_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text(
        "item_id,whole,part,code,long,flag,mixed,blank\n"
        "1,3,1.5,007,12345678901234567890,true,1,\n"
        "2,-4,2e3,10,1,false,x,\n3,,,,,,,\n"
    )
    found = read_table(path, ["item_id"])
    assert found.drop(LINE).to_dict(as_series=False) == {
        "item_id": ["1", "2", "3"],
        "whole": [3, -4, None],
        "part": [1.5, 2000.0, None],
        "code": ["007", "10", None],
        "long": ["12345678901234567890", "1", None],
        "flag": [True, False, None],
        "mixed": ["1", "x", None],
        "blank": [None, None, None],
    }


def test_columns_by_number() -> None:
    names = ("user_id=1", "item_id=2", "timestamp = 3", "item_id=1", "title=2", "brand=maker")
    assert columns_by_number(names, is_log=True) == {1: "user_id", 2: "item_id", 3: "timestamp"}
    assert columns_by_number(names, is_log=False) == {1: "item_id", 2: "title"}
    assert columns_by_number(("item_id=1",), is_log=True) == {}


def test_tables_without_header(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("sku0,Lamp\nsku1,Bed\n")
    (tmp_path / "interactions.tsv").write_text("u0\tsku1\t1700000000\t5\nu1\tsku0\t1700000001\t4\n")
    names = ("user_id=1", "item_id=2", "timestamp=3", "item_id=1", "title=2")
    tables = read_folder(DatasetConfig(folder=str(tmp_path), column_names=names))
    assert tables.items.rows() == [(1, "sku0", "Lamp"), (2, "sku1", "Bed")]
    log = tables.interactions.collect()
    assert log.rows() == [(1, "u0", "sku1", "1700000000"), (2, "u1", "sku0", "1700000001")]
    with pytest.raises(ConfigError) as caught:
        read_folder(DatasetConfig(folder=str(tmp_path), column_names=(*names[:2], "item_id=9")))
    assert "expected the number of a column of" in str(caught.value)
    assert "1 to 2; found 'item_id=9'" in str(caught.value)


def test_numbers_of_columns_leave_a_header_alone(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\nsku0,Lamp\nsku1,Bed\n")
    (tmp_path / "interactions.csv").write_text("u0,sku1\nu1,sku0\n")
    config = DatasetConfig(folder=str(tmp_path), column_names=("user_id=1", "item_id=2"))
    tables = read_folder(config)
    assert tables.items.columns == [LINE, "item_id", "title"]
    assert tables.interactions.collect().rows() == [(1, "u0", "sku1"), (2, "u1", "sku0")]


def test_sheets(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    rows = [[None], ["item_id", "title", "price"], [7, "Lamp", 3.5], [None], ["007", "Bed", 4]]
    path = write_excel(tmp_path / "items.xlsx", {"Notes": [["read me"]], "Items": rows})
    notes = Notes()
    found = read_table(path, ["item_id", "title"], notes=notes)
    assert found.rows() == [(3, "7", "Lamp", 3.5), (5, "007", "Bed", 4.0)]
    assert notes.decisions[0].text == f"{path}: sheet 'Items' is read, of Notes, Items"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError) as caught:
        read_table(path, [])
    assert "expected a" in one_line(caught)


def test_sheets_need_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    path = write_excel(tmp_path / "items.xlsx", {"Items": [["item_id"], ["a"]]})
    with pytest.raises(MissingExtraError, match=r"`pip install 'hidvae\[excel\]'`, or save the sh"):
        read_table(path, [])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"", "found an empty file"),
        ("a.csv", b"\n \n", "found an empty file"),
        ("a.csv", b"user_id,item_id\n", "found 0 rows under the columns user_id, item_id"),
        ("a.csv", b"user_id,item_id\n1,2,3\n", "expected 2 values in each line, with commas betw"),
        ("a.csv", b"user_id,item_id\n1,2\n\x00,2\n3,\x00\n", "found the byte 0x00 in line 3"),
        ("a.csv", b"user_id,user_id\n1,2\n", "found 'user_id' as column 1 and 2"),
        ("a.parquet", b"", "expected a readable Parquet file"),
        ("a.jsonl", b"", "found an empty file"),
        ("a.jsonl", b'{"user_id": 1}\n{"user_id"\n{', "found none in line 2 ('{\"user_id"),
        ("a.json", b'[{"user_id": 1},\n{"user_id"]', "line 2: expected JSON, an object a line or"),
        ("a.json", b'[{"user_id": 1},\n', "found its end"),
        ("a.json", b'[1, {"user_id": 1}]', "line 1: expected an object for each row; found 1"),
        ("a.json", b'{"a": 1, "b": 2}', "found one object with 'a', 'b'; export the rows alone"),
        ("a.jsonl", b"\n\n", "found an empty file"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00broken", "expected a whole packed file"),
        ("a.parquet", b"user_id,item_id\n1,2\n", "expected a readable Parquet file"),
        ("a.csv.zip", b"PK\x03\x04broken", "expected a whole packed file"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(path, ["user_id"])
    assert expected in one_line(caught)
    assert str(path) in str(caught.value)


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "interactions.csv.gz"
    noise = "\n".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(20_000))
    path.write_bytes(gzip.compress(f"id\n{noise}".encode())[:-50_000])
    with pytest.raises(DataError, match="found one that is cut off or damaged") as caught:
        scan_table(path, ["id"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [4, 50, 200])
def test_truncated_parquet(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": [str(i) for i in range(100)]}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="export it again"):
        read_table(path, [])


FRAGMENTS = (
    *("user_id", "item_id", ",", ",", "\n", "\n", "\r\n", "\r", '"', '"', "\0", "é", "a", "1"),
    *("7.5", "#", "sep=;", ";", "\t", "|", " ", "{", "}", "[", "]", "null", "\\", '\\"', "\\ud800"),
    *('{"item_id": 1}', '{"item_id": [1, {"a": {}}]}\n', '{"b": {"c": [1, "x"]}}\n', "1,2\n"),
)


@example("t.csv", "", ['"', "1,2\n", '\\"'], "utf-8", "auto")  # a line break in a column's name
@given(
    name=st.sampled_from(["t.csv", "t.tsv", "t.txt", "t.jsonl", "t.json", "t.zip", "t.parquet"]),
    start=st.sampled_from(["", "item_id,title\n", "["]),
    fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=30),
    encoding=st.sampled_from(["utf-8", "utf-16", "cp1252"]),
    quote=st.sampled_from(["auto", "double", "single", "none"]),
)
@settings(deadline=None, max_examples=300, derandomize=True)  # tests/oddities looks further
def test_any_file_is_read_or_refused_in_one_line(
    name: str, start: str, fragments: list[str], encoding: str, quote: str
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes((start + "".join(fragments)).encode(encoding))
        config = DatasetConfig(csv_quote=quote)  # type: ignore[arg-type]
        try:
            found = read_table(path, ["item_id"], config, Notes())
        except HidvaeError as error:
            assert "\n" not in str(error)
            assert str(path) in str(error)
        else:
            found.write_parquet(path)
