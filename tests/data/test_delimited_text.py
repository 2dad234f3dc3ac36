from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hidvae.config import DatasetConfig
from hidvae.data.notes import Notes
from hidvae.data.table_files import read_table
from hidvae.data.tables import LINE
from hidvae.errors import ConfigError, DataError

LETTERS = "ab1 é\"',;|\t>."
NAMES = ("item_id", "title", "brand")


def read(path: Path, content: str | bytes, **config: object) -> tuple[pl.DataFrame, list[str]]:
    """The table, and what was said of it without its path."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    notes = Notes()
    settings = DatasetConfig(**config)  # type: ignore[arg-type]
    frame = read_table(path, NAMES, settings, notes)
    return frame, [decision.text.replace(str(path), path.name) for decision in notes.decisions]


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(1, 3))
    text = st.text(LETTERS, max_size=6)
    rows = draw(st.lists(st.lists(text, min_size=width, max_size=width), min_size=1, max_size=6))
    # an id that stands alone tells a row from a blank line and a value from a mark
    return [[f"id{number}", *row[1:]] for number, row in enumerate(rows)]


@given(
    rows=tables(),
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    has_break=st.booleans(),
    has_end=st.booleans(),
)
@example([["id0", 'a"']], ",", "\n", "utf-8", csv.QUOTE_MINIMAL, False, False)
@example([["id0", "a,b", "c,d"]], ",", "\n", "utf-8", csv.QUOTE_MINIMAL, True, True)
@settings(deadline=None, max_examples=200, derandomize=True)  # tests/oddities looks further
def test_whatever_is_written_is_read(
    rows: list[list[str]],
    separator: str,
    end: str,
    encoding: str,
    quoting: int,
    has_break: bool,
    has_end: bool,
) -> None:
    if has_break and len(rows[0]) > 1:
        rows[0][1] += f" first{end}second"
    out = io.StringIO(newline="")
    names = NAMES[: len(rows[0])]
    writer = csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerows([names, *rows])
    text = out.getvalue() if has_end else out.getvalue().removesuffix(end)
    with TemporaryDirectory() as folder:
        found, _ = read(
            Path(folder) / "items.csv",
            text.encode(encoding),
            csv_separator=separator,
            csv_quote="double",
            csv_encoding=encoding,
        )
        lines, line = [], 2
        for row in rows:
            lines.append(line)
            line += 1 + sum(value.count(end) for value in row)
        assert found[LINE].to_list() == lines
        expected = [[value or None for value in row] for row in rows]
        filled = found.drop(LINE).with_columns(pl.all().replace("", None))
        assert list(map(list, filled.rows())) == expected
        has_accent = any("é" in value for row in rows for value in row)
        if encoding != "cp1252" or not has_accent:
            again, _ = read(Path(folder) / "items.csv", text.encode(encoding))
            assert again.columns == found.columns
            assert again["item_id"].equals(found["item_id"])


@pytest.mark.parametrize(
    ("name", "separator", "said"),
    [
        ("items.csv", ",", ""),
        ("items.tsv", "\t", ""),
        ("items.csv", ";", "items.csv is read with semicolons between the values"),
        ("items.csv", "\t", "items.csv is read with tabs between the values"),
        ("items.tsv", ",", "items.tsv is read with commas between the values"),
        ("items.txt", "|", "items.txt is read with bars between the values"),
    ],
)
def test_separators_are_recognised(tmp_path: Path, name: str, separator: str, said: str) -> None:
    lines = [("item_id", "title", "price"), ("1", "a, b", "3"), ("2", "c", "4"), ("3", "d", "5")]
    text = "".join(
        separator.join(f'"{v}"' if separator in v else v for v in x) + "\n" for x in lines
    )
    found, decided = read(tmp_path / name, text)
    assert found["title"].to_list() == ["a, b", "c", "d"]
    assert found["price"].to_list() == [3, 4, 5]
    assert decided == [said] * bool(said)


def test_a_separator_of_two_letters(tmp_path: Path) -> None:
    found, _ = read(tmp_path / "items.csv", "item_id::title\n1::a:b\n", csv_separator="::")
    assert found.rows() == [(2, "1", "a:b")]


def test_what_stands_above_the_header(tmp_path: Path) -> None:
    found, _ = read(tmp_path / "items.csv", "# made by x\n\nsep=;\nitem_id;title\n1;a\n")
    assert found.rows() == [(5, "1", "a")]
    found, _ = read(tmp_path / "items.csv", "#item_id,title\n1,a\n")
    assert found.rows() == [(2, "1", "a")]
    found, _ = read(tmp_path / "items.csv", "#tag,title\n#1,a\n")
    assert found.columns == [LINE, "#tag", "title"]


def test_blank_lines_and_repeated_headers(tmp_path: Path) -> None:
    text = "item_id,title\n\n1,a\n  \nitem_id,title\n2,b\n\n\n"
    found, said = read(tmp_path / "items.csv", text)
    assert found.rows() == [(3, "1", "a"), (6, "2", "b")]
    assert said == [
        "items.csv: 2 blank lines skipped",
        "items.csv: 1 line that repeats the header skipped (line 5)",
    ]


def test_columns_without_a_name_and_twice(tmp_path: Path) -> None:
    found, _ = read(tmp_path / "items.csv", ",item_id,note,note\n0,7,x,y\n")
    assert found.columns == [LINE, "column_1", "item_id", "note", "note_4"]
    with pytest.raises(
        DataError, match="line 1: expected each column once; found 'title' as colum"
    ):
        read(tmp_path / "items.csv", "item_id,title,title\n7,x,y\n")


LOG = [f"u{n % 7},sku{n % 11},{1700000000 + n},lamp" for n in range(200)]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    ("first", "second"), [('"lamp', '"lamp'), ('"lamp', 'lamp"'), ('"lamp', "lamp")]
)
def test_a_quotation_mark_never_swallows_events(
    tmp_path: Path, suffix: str, first: str, second: str
) -> None:
    lines = ["user_id,item_id,timestamp,query", *LOG]
    lines[20] = lines[20].replace("lamp", first)
    lines[110] = lines[110].replace("lamp", second)
    text = "\n".join(lines).replace(",", "," if suffix == "csv" else "\t") + "\n"
    found, said = read(tmp_path / f"interactions.{suffix}", text)
    assert found[LINE].to_list() == list(range(2, 202))
    assert found["query"][19] == first
    where = "21, 111" if second != "lamp" and second != 'lamp"' else "21"
    assert f"quotation marks are letters, as they enclose no values (line {where}" in said[0]


def test_marks_that_enclose_and_marks_that_do_not(tmp_path: Path) -> None:
    lines = ['1,"Lamp, blue",x', '2,12" tv,x', '3,"Blue" lamp,x', '4,"say ""hi""",x']
    found, said = read(tmp_path / "items.csv", "\n".join(["item_id,title,brand", *lines]) + "\n")
    assert found["title"].to_list() == ["Lamp, blue", '12" tv', '"Blue" lamp', 'say "hi"']
    assert said == ["items.csv: quotation marks that enclose no value are letters (line 3, 4)"]


def test_other_ways_of_quotation(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    found, _ = read(path, 'item_id,title\n1,"say \\"hi\\", you"\n2, "a, b"\n')
    assert found["title"].to_list() == ['say "hi", you', "a, b"]
    found, _ = read(path, "item_id,title\n1,'a, b'\n2,c\n", csv_quote="single")
    assert found["title"].to_list() == ["a, b", "c"]
    found, _ = read(path, 'item_id,title\n1,"a\n2,b"\n', csv_quote="none")
    assert found["title"].to_list() == ['"a', 'b"']
    with pytest.raises(DataError, match=r"found a quotation mark inside or at the end of no val"):
        read(path, 'item_id,title\n1,"a" b\n2,"c" d\n3,"e"\n', csv_quote="double")


def test_quoted_values_with_line_breaks_are_said(tmp_path: Path) -> None:
    found, said = read(tmp_path / "items.csv", 'item_id,title\n1,"two\nlines, one row"\n2,b\n')
    assert found.rows() == [(2, "1", "two\nlines, one row"), (4, "2", "b")]
    assert said == ["items.csv: 1 quoted value with line breaks (line 2)"]


def test_broken_lines_are_left_out_up_to_a_share(tmp_path: Path) -> None:
    lines = [f"{n},t{n}" for n in range(300)]
    lines[40] += ",x"
    lines[41] = "41"
    path = tmp_path / "items.csv"
    found, said = read(path, "\n".join(["item_id,title", *lines]))
    assert found.height == 298
    assert said == ["items.csv: 2 rows that cannot be read are left out (line 42, 43)"]
    lines[50:60] = ["x"] * 10
    with pytest.raises(DataError) as caught:
        read(path, "\n".join(["item_id,title", *lines]))
    assert str(caught.value) == (
        f"{path}: expected 2 values in each line, with commas between; found 3 values in line 42 "
        "('40,t40,x'), and 11 more such lines; repair the line, or put values that hold the "
        "separator or a line break in quotation marks"
    )


def test_encodings(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    text = "item_id,title\n" + "".join(f"{n},caf\u00e9 {n}\n" for n in range(200))
    found, said = read(path, text.encode("cp1252"))
    assert found["title"][0] == "café 0"
    assert said == [
        "items.csv is no UTF-8 and read as Windows-1252 (Latin-1), such as '0,café 0' in line 2"
    ]
    content = text.encode().replace("café 7\n".encode(), b"caf\xe9 7\n")
    found, said = read(path, content)
    assert found.height == 199
    assert said == ["items.csv: 1 row that cannot be read is left out (line 9)"]
    found, said = read(path, text.encode("latin-1"), csv_encoding="latin-1")
    assert (found["title"][0], said) == ("café 0", [])
    with pytest.raises(ConfigError, match="expected the name of an encoding"):
        read(path, text, csv_encoding="latinum")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "u0,sku27,1700008377\nu0,sku12,1700016339\nu1,sku24,1700022974\n",
        "sku0,Lamp 0,Home > Light\nsku1,Lamp 1,Home > Table\n",
        "anna,milk\nbob,bread\nanna,bread\n",
    ],
)
def test_a_file_without_header(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / "items.csv", text)
    first = text.splitlines()[0]
    assert f"expected a header with the names of the columns; found line 1: {first!r}" in str(
        caught.value
    )
    assert 'column_names=["user_id=1", "item_id=2"' in str(caught.value)


@pytest.mark.parametrize(
    "text", ["kunde,artikel,zeit\nk17,a4,17\nk18,a5,18\n", "user_id,2019\nu1,2\n", "a,b\nx,y\n"]
)
def test_headers_of_strangers_are_headers(tmp_path: Path, text: str) -> None:
    found, _ = read(tmp_path / "items.csv", text)
    assert ",".join(found.columns[1:]) == text.splitlines()[0]


def test_large_odd_files_go_through_temporary_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hidvae.data.row_blocks.ROWS_PER_BLOCK", 30)
    monkeypatch.setattr("hidvae.data.row_blocks._BYTES_IN_MEMORY", 100)
    rows = "\n\n".join(f"{n},t{n}" for n in range(1000))
    found, _ = read(tmp_path / "items.csv", f"item_id,title\n{rows}\n")
    assert found["item_id"].to_list() == [str(n) for n in range(1000)]
    assert found[LINE].to_list() == list(range(2, 2002, 2))


@pytest.mark.parametrize(
    ("separator", "text", "found"),
    [
        (";", "item_id,title\n1,a\n", "';', which leaves one column, while commas make several"),
        ("tab", "item_id;title\n1;a\n", "'tab', which leaves one column, while semicolons make"),
        ("::", "item_id\ttitle\n1\ta\n", "'::', which leaves one column, while tabs make"),
    ],
)
def test_a_set_separator_that_is_not_there(
    tmp_path: Path, separator: str, text: str, found: str
) -> None:
    with pytest.raises(ConfigError, match="csv_separator: expected what stands between") as caught:
        read(tmp_path / "items.csv", text, csv_separator=separator)
    assert found in str(caught.value) and "items.csv" in str(caught.value)
    one, _ = read(tmp_path / "items.csv", "item_id\n1\n", csv_separator=separator)
    assert one.rows() == [(2, "1")]


@pytest.mark.parametrize(
    "rows",
    [
        [("7", "Lamp, big\nblue, red", "5")],
        [("7", "Lamp, big\nblue, red\ngreen, grey", "5"), ("8", "Vase", "6")],
        [("sku7", "a, b\nc, d", "2014-01-03"), ("sku8", "e", "2014-01-04")],
    ],
)
def test_lines_of_a_text_are_no_rows(tmp_path: Path, rows: list[tuple[str, ...]]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([("item_id", "title", "price"), *rows])
    found, said = read(tmp_path / "items.csv", out.getvalue())
    assert found["title"].to_list() == [row[1] for row in rows]
    assert any("1 quoted value with line breaks" in line for line in said)


def test_rows_between_two_marks_are_rows(tmp_path: Path) -> None:
    text = 'item_id,title,price\n1,"small lamp,5\n2,vase,\n,lamp 12",\n4,x,9\n'
    found, _ = read(tmp_path / "items.csv", text)
    assert found["title"].to_list() == ['"small lamp', "vase", 'lamp 12"', "x"]


@pytest.mark.parametrize("body", ["a;Lamp\nb;Desk\n", "a;Lämp\nb;Désk\n"])
def test_the_header_alone_may_show_the_encoding(tmp_path: Path, body: str) -> None:
    """Before: the codec's own words, and no row."""
    content = ("item_id;Gebühr\n" + body).encode("latin-1")
    table, told = read(tmp_path / "items.csv", content)
    assert table.columns[-1] == "Gebühr"
    assert table["Gebühr"].to_list() == [line[2:] for line in body.splitlines()]
    assert any("Windows-1252" in each for each in told)


def test_a_broken_letter_of_the_header_is_no_fault_of_the_rows(tmp_path: Path) -> None:
    rows = "".join(f"{n};é{n}\n" for n in range(5)).encode()
    table, _ = read(tmp_path / "items.csv", b"item_id;Geb\xfchr\n" + rows)
    assert table.columns[-1] == "Geb?hr" and table["Geb?hr"][0] == "é0"
