from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.data.amazon_samples import write_lines

from hidvae.data.sources.amazon_lines import read_reviews
from hidvae.errors import DataError

FIELDS = {"user": "u", "item": "i", "timestamp": "t"}


def review(user: object = "u1", item: object = "a", timestamp: object = 5) -> str:
    return json.dumps({"u": user, "i": item, "t": timestamp, "text": 'x "i": "z"'})


def test_events_keep_the_order_of_the_file(tmp_path: Path) -> None:
    lines = [review(f"u{n}", f"i{n % 7}", 10_000_000_000_000 + n) for n in range(3000)]
    log = read_reviews(write_lines(tmp_path / "log.jsonl.gz", lines), **FIELDS)
    events = log.events.collect(engine="streaming")
    assert events["user_id"].to_list() == [f"u{n}" for n in range(3000)]
    assert events["timestamp"].to_list() == [10_000_000_000_000 + n for n in range(3000)]
    assert log.item_ids.to_list() == [f"i{n}" for n in range(7)]
    assert log.broken_lines == 0


@pytest.mark.parametrize(
    "broken",
    [
        '{"u": "u1", "i": "a", "t"',
        "not json",
        "[1, 2]",
        review(timestamp="yesterday"),
        review(user=None),
        review(item=" "),
        json.dumps({"u": "u1", "i": "a"}),
    ],
)
def test_broken_lines_are_counted_and_left_out(tmp_path: Path, broken: str) -> None:
    lines = [review(timestamp=n) for n in range(150)]
    lines[77] = broken
    lines[99:99] = ["", "  "]
    log = read_reviews(write_lines(tmp_path / "log.jsonl", lines), **FIELDS)
    assert log.broken_lines == 1
    assert log.events.collect()["timestamp"].to_list() == [n for n in range(150) if n != 77]


def test_too_many_broken_lines_name_the_first(tmp_path: Path) -> None:
    lines = [review() for _ in range(150)]
    lines[20] = lines[90] = '{"u": "cut'
    lines[3] = ""
    path = write_lines(tmp_path / "log.jsonl", lines)
    with pytest.raises(DataError) as caught:
        read_reviews(path, **FIELDS)
    assert str(caught.value) == (
        f"{path}: expected a JSON object with u, i and t on each line; found 2 of 149 lines "
        """broken, first line 21: '{"u": "cut'; download the file again"""
        ""
    )


def test_one_line_in_a_hundred_may_be_broken(tmp_path: Path) -> None:
    lines = [review() for _ in range(99)]
    path = write_lines(tmp_path / "log.jsonl", [*lines, "?"])
    assert read_reviews(path, **FIELDS).broken_lines == 1
    write_lines(path, [*lines[1:], "?"])
    with pytest.raises(DataError, match="found 1 of 99 lines broken, first line 99: '\\?'"):
        read_reviews(path, **FIELDS)


def test_bytes_that_are_no_text_spoil_one_line_only(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "log.jsonl", [review() for _ in range(150)])
    path.write_bytes(path.read_bytes() + b'{"u": "u\xff", "i": "a", "t": 1\n')
    assert read_reviews(path, **FIELDS).broken_lines == 1


def test_whole_floats_are_timestamps(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "log.jsonl", [review(timestamp=1369699200.0)])
    events = read_reviews(path, **FIELDS).events.collect()
    assert events["timestamp"].to_list() == [1369699200]


def test_ids_stay_text(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "log.jsonl", [review(user=7, item="0007")])
    assert read_reviews(path, **FIELDS).events.collect().row(0)[:2] == ("7", "0007")


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "log.jsonl.gz", [review(f"u{n}") for n in range(500)])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"log\.jsonl\.gz: expected a readable .* file"):
        read_reviews(path, **FIELDS)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "log.jsonl.gz", [""])
    with pytest.raises(DataError, match="with u, i and t per line; found none; download it again"):
        read_reviews(path, **FIELDS)
