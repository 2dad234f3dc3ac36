from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from hidvae.config import DatasetConfig
from hidvae.data.notes import Notes
from hidvae.data.table_files import read_table, scan_table
from hidvae.data.tables import LINE
from hidvae.errors import DataError

ROWS = [{"item_id": "a", "n": 1}, {"item_id": "b", "n": 2}, {"item_id": "c", "n": None}]


def read(path: Path, content: str | bytes) -> tuple[pl.DataFrame, list[str]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    notes = Notes()
    frame = read_table(path, ["item_id", "title", "categories"], DatasetConfig(), notes)
    return frame, [decision.text.replace(str(path), path.name) for decision in notes.decisions]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps(ROWS), None),
        (json.dumps(ROWS, indent=2), None),
        ("\n".join(map(json.dumps, ROWS)), None),
        ("\n\n".join(json.dumps(row, indent=1) for row in ROWS), None),
        (json.dumps({"count": 3, "items": ROWS}), "items.json: the rows are those under 'items'"),
        (json.dumps({"item_id": ["a", "b", "c"], "n": [1, 2, None]}), None),
        (json.dumps({"item_id": {"0": "a", "1": "b", "2": "c"}, "n": {"0": 1, "1": 2}}), None),
        (
            json.dumps({"columns": ["item_id", "n"], "data": [["a", 1], ["b", 2], ["c", None]]}),
            None,
        ),
        (
            json.dumps({"a": {"n": 1}, "b": {"n": 2}, "c": {"n": None}}),
            "items.json: the keys of its objects are taken for item_id",
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_shapes_of_json(tmp_path: Path, content: str, said: str | None, encoding: str) -> None:
    found, decided = read(tmp_path / "items.json", content.encode(encoding))
    assert found.drop(LINE, strict=False).to_dicts() == ROWS
    others = [text for text in decided if "UTF-16" not in text]
    assert others == [said] * (said is not None)


def test_lines_of_an_array(tmp_path: Path) -> None:
    found, _ = read(
        tmp_path / "items.json", '[\n{"item_id": 1},\n\n{"item_id":\n2}, {"item_id": 3}]'
    )
    assert found.rows() == [(2, "1"), (4, "2"), (5, "3")]


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    lines = [
        '{"item_id": "007", "large": 1, "mixed": 1, "float": 1, "flag": true}',
        '{"item_id": 12345678901234567890123, "large": 12345678901234567890, "mixed": "x"}',
        '{"item_id": 1.50, "float": 2.5, "flag": null, "odd": NaN}',
        '{"item_id": true, "float": Infinity}',
    ]
    found, _ = read(tmp_path / "items.jsonl", "\n".join(lines))
    assert found["item_id"].to_list() == ["007", "12345678901234567890123", "1.50", "true"]
    assert found["large"].to_list() == ["1", "12345678901234567890", None, None]
    assert found["mixed"].to_list() == ["1", "x", None, None]
    assert found["float"].to_list() == [1.0, None, 2.5, None]
    assert found["flag"].to_list() == [True, None, None, None]
    assert found["odd"].to_list() == [None] * 4


def test_a_text_among_lists_spoils_none(tmp_path: Path) -> None:
    lines = ['{"item_id": 1, "categories": ["A", "B"]}'] * 3 + ['{"item_id": 2, "categories": "C"}']
    found, said = read(tmp_path / "items.jsonl", "\n".join(lines))
    assert found["categories"].to_list() == [["A", "B"]] * 3 + [["C"]]
    assert said == [
        "items.jsonl, column categories: no list in line 4, where the others have lists; taken "
        "as a list of one value"
    ]
    found, said = read(tmp_path / "items.jsonl", "\n".join([*[lines[3]] * 3, lines[0]]))
    assert found["categories"].to_list() == ["C"] * 3 + ['["A", "B"]']
    assert "a list in line 4, where the others have none; taken as text" in said[0]


def test_empty_and_uneven_objects(tmp_path: Path) -> None:
    lines = [
        '{"item_id": 1, "details": {}, "deep": {"a": {}, "b": 1}, "none": null, "list": []}',
        '{"item_id": 2, "details": {}, "deep": {"b": "x", "c": [1]}}',
    ]
    found, said = read(tmp_path / "items.jsonl", "\n".join(lines))
    assert found.columns == [LINE, "item_id", "deep", "none", "list"]
    assert found["deep"].to_list() == [{"b": "1", "c": None}, {"b": "x", "c": [1]}]
    assert found["list"].to_list() == [[], None]
    assert said == ["items.jsonl, column details: left out, as its objects are empty"]
    found.write_parquet(tmp_path / "items.parquet")


def test_half_letters_are_replaced(tmp_path: Path) -> None:
    found, _ = read(tmp_path / "items.jsonl", '{"item_id": "a\\ud800"}\n{"item_id": "b"}\n')
    assert found["item_id"].to_list() == ["a\ufffd", "b"]


def test_broken_lines_are_left_out_up_to_a_share(tmp_path: Path) -> None:
    lines = [json.dumps({"item_id": n}) for n in range(200)]
    lines[7] = '{"item_id": 7'
    path = tmp_path / "items.jsonl"
    found, said = read(path, "\n".join(lines))
    assert found.height == 199
    assert said == ["items.jsonl: 1 row that cannot be read is left out (line 8)"]
    lines[20:30] = ["[1]"] * 10
    with pytest.raises(DataError) as caught:
        read(path, "\n".join(lines))
    assert str(caught.value) == (
        f"{path}: expected a JSON object in each line; found none in line 8 "
        "('{\"item_id\": 7'), and 10 more such lines; repair the line or export the file again"
    )


@pytest.mark.parametrize("odd", ["", "\n", '{"user_id": ["u"], "item_id": "a"}\n', "{}\n", "x\n"])
def test_logs_have_their_lines_whoever_reads_them(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "interactions.jsonl"
    line = '{"user_id": 7, "item_id": "a", "context": {"page": 1}}\n'
    path.write_text(line * 100 + odd + line * 50)
    found = scan_table(path, ["user_id", "item_id"]).collect()
    plain = found.filter(pl.col("item_id").is_not_null() & (pl.col("user_id").cast(str) == "7"))
    expected = [*range(1, 101), *range(101 + bool(odd), 151 + bool(odd))]
    if not odd.startswith('{"user'):
        assert plain[LINE].to_list() == expected
    assert found.height == 150 + (odd.startswith("{"))
