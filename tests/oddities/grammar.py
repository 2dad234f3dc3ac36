"""Tables that strangers might have, drawn from a seed: types, nesting, encodings, sizes, faults.

``draw(seed)`` gives the same files for the same seed. What is drawn is odd in up to a few places at
once; most tables could be used by a patient person, some by nobody.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

Values = list[Any]
Columns = dict[str, Values]


@dataclass
class Tables:
    """What is written into a folder, and how it came about."""

    files: dict[str, bytes] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    """The choices that were drawn, for a failing test's message."""
    num_events: int = 0
    """Rows of the log, blank and broken lines aside; -1 where they cannot be counted."""

    def write(self, folder: Path) -> None:
        """Put the files into a new folder."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


class Draw:
    """A random generator that remembers what it chose."""

    def __init__(self, seed: int) -> None:
        """Start from a seed."""
        self.random = random.Random(seed)
        self.story: list[str] = []

    def of(self, what: str, *options: Any, odds: float = 0.5) -> Any:
        """One of the options; the first, which is the usual one, with 1 - odds."""
        chosen = options[0]
        if len(options) > 1 and self.random.random() < odds:
            chosen = self.random.choice(options[1:])
            name = getattr(chosen, "__name__", repr(chosen))
            self.story.append(f"{what}: {name}")
        return chosen

    def chance(self, what: str, odds: float) -> bool:
        """Whether something rare happens."""
        return bool(self.of(what, False, True, odds=odds))


# Ids ----------------------------------------------------------------------------------------------


def plain(number: int, letter: str) -> Any:
    return f"{letter}{number}"


def whole(number: int, letter: str) -> Any:
    return number + 1


def padded(number: int, letter: str) -> Any:
    return f"{number:05d}"


def floats(number: int, letter: str) -> Any:
    return float(number)


def large_floats(number: int, letter: str) -> Any:
    return float(2**53 + 2 * number)


def beyond_64_bits(number: int, letter: str) -> Any:
    return str(10**25 + number)


def with_commas(number: int, letter: str) -> Any:
    return f"{letter}, {number}"


def with_quotes(number: int, letter: str) -> Any:
    return f'{letter}"{number}"'


def with_markup(number: int, letter: str) -> Any:
    return f"[bold]{letter}{number}[/bold]<b>&amp;"


def with_controls(number: int, letter: str) -> Any:
    return f"{letter}\x1b[31m{number}\u202e"


def unicode_ids(number: int, letter: str) -> Any:
    return f"é{letter}\u4e2d{number}🎈"


def spaced(number: int, letter: str) -> Any:
    return f"  {letter} {number} "


def null_words(number: int, letter: str) -> Any:
    return ("NA", "null", "nan", "None", "\\N", "")[number] if number < 6 else f"{letter}{number}"


def long_ids(number: int, letter: str) -> Any:
    return letter * 300 + str(number)


def booleans(number: int, letter: str) -> Any:
    return bool(number % 2)


def lists(number: int, letter: str) -> Any:
    return [letter, str(number)]


def dates(number: int, letter: str) -> Any:
    return date(2024, 1, 1) + timedelta(days=number)


IDS = (
    plain,
    whole,
    padded,
    floats,
    large_floats,
    beyond_64_bits,
    with_commas,
    with_quotes,
    with_markup,
    with_controls,
    unicode_ids,
    spaced,
    null_words,
    long_ids,
    booleans,
    lists,
    dates,
)

# Times --------------------------------------------------------------------------------------------

START = datetime(2023, 11, 29, 22, 30)


def seconds(moment: datetime) -> Any:
    return int(moment.timestamp())


def milliseconds(moment: datetime) -> Any:
    return int(moment.timestamp() * 1000)


def microseconds(moment: datetime) -> Any:
    return int(moment.timestamp() * 1_000_000)


def fractions(moment: datetime) -> Any:
    return moment.timestamp() + 0.25


def iso(moment: datetime) -> Any:
    return moment.isoformat()


def iso_zone(moment: datetime) -> Any:
    return moment.isoformat() + "Z"


def iso_blank(moment: datetime) -> Any:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def day(moment: datetime) -> Any:
    return moment.strftime("%Y-%m-%d")


def german(moment: datetime) -> Any:
    return moment.strftime("%d.%m.%Y %H:%M")


def american(moment: datetime) -> Any:
    return moment.strftime("%m/%d/%Y")


def datetimes(moment: datetime) -> Any:
    return moment


def days(moment: datetime) -> Any:
    return moment.date()


def constant(moment: datetime) -> Any:
    return 0


def words(moment: datetime) -> Any:
    return "yesterday"


def negative(moment: datetime) -> Any:
    return -int(moment.timestamp())


TIMES = (
    seconds,
    milliseconds,
    microseconds,
    fractions,
    iso,
    iso_zone,
    iso_blank,
    day,
    german,
    american,
    datetimes,
    days,
    constant,
    words,
    negative,
    None,
)

# What is known of an item -------------------------------------------------------------------------

SHELVES = (("Home", "Light"), ("Home", "Table"), ("Garden", "Tools"), ("Garden",), ())


def path_lists(path: tuple[str, ...]) -> Any:
    return list(path)


def path_text(path: tuple[str, ...]) -> Any:
    return " > ".join(path)


def path_bars(path: tuple[str, ...]) -> Any:
    return "|".join(path)


def path_slashes(path: tuple[str, ...]) -> Any:
    return "/".join(path)


def path_commas(path: tuple[str, ...]) -> Any:
    return ", ".join(path)


def path_nested(path: tuple[str, ...]) -> Any:
    return [list(path), ["Gifts"]]


def path_objects(path: tuple[str, ...]) -> Any:
    return [{"name": label, "id": len(label)} for label in path]


def path_literal(path: tuple[str, ...]) -> Any:
    return str(list(path))


def path_gaps(path: tuple[str, ...]) -> Any:
    return " > > ".join(path)


def path_null(path: tuple[str, ...]) -> Any:
    return None


def path_number(path: tuple[str, ...]) -> Any:
    return len(path)


CATEGORIES = (
    path_lists,
    path_text,
    path_bars,
    path_slashes,
    path_commas,
    path_nested,
    path_objects,
    path_literal,
    path_gaps,
    path_null,
    path_number,
)


def lamp(number: int) -> Any:
    return f"Lamp model {number}"


def listed(number: int) -> Any:
    return ["Lamp", str(number)]


def blank(number: int) -> Any:
    return " "


def missing(number: int) -> Any:
    return None


def markup(number: int) -> Any:
    return f"[green]Lamp[/green] <script>{number}</script> \x1b[2J"


def inch(number: int) -> Any:
    return f'{number}" lamp'


def two_lines(number: int) -> Any:
    return f"Lamp\nmodel {number}"


def same(number: int) -> Any:
    return "Lamp"


def japanese(number: int) -> Any:
    return f"日本語のランプ {number}"


def nested(number: int) -> Any:
    return {"de": f"Lampe {number}", "en": f"Lamp {number}"}


TITLES = (lamp, listed, blank, missing, markup, inch, two_lines, same, japanese, nested)


def empty_object(number: int) -> Any:
    return {}


def decimal(number: int) -> Any:
    return Decimal(number) / 4


def not_finite(number: int) -> Any:
    return (float("nan"), float("inf"), 1.0)[number % 3]


def mixed(number: int) -> Any:
    return number if number % 2 else f"about {number}"


def objects(number: int) -> Any:
    return [{"large": f"{number}.jpg", "variant": None}]


FURTHER = (empty_object, decimal, not_finite, mixed, objects, missing, lists)


def draw(seed: int) -> Tables:
    """Tables, settings and the story of a seed."""
    draw = Draw(seed)
    tables = Tables(story=draw.story)
    num_items = draw.of("items", 12, 2, 3, 1, 0, 40, odds=0.4)
    num_users = draw.of("users", 10, 2, 3, 1, 30, odds=0.4)
    item_id = draw.of("item ids", *IDS, odds=0.45)
    user_id = draw.of("user ids", *IDS, odds=0.35)
    items = _items(draw, num_items, item_id)
    log = _log(draw, num_users, max(num_items, 1), user_id, item_id)
    tables.num_events = len(next(iter(log.values()), []))
    if draw.chance("no items table", 0.12):
        items = {}
    elif draw.chance("one table for both", 0.05) and items:
        rows = {value: row for row, value in enumerate(map(str, items["item_id"]))}
        ids = list(map(str, list(log.values())[1]))
        for name in items:
            if name not in log:
                log[name] = [items[name][rows[i]] if i in rows else None for i in ids]
        items = {}
    for stem, columns in (("items", items), ("interactions", log)):
        if columns:
            _write(draw, tables, stem, columns)
    if draw.chance("no log", 0.01):
        for name in [name for name in tables.files if name.lower().startswith("inter")]:
            del tables.files[name]
    return tables


def _items(draw: Draw, count: int, item_id: Callable[[int, str], Any]) -> Columns:
    numbers = range(count)
    columns: Columns = {"item_id": [item_id(number, "i") for number in numbers]}
    if not draw.chance("items without a title", 0.15):
        title = draw.of("titles", *TITLES, odds=0.4)
        columns["title"] = [title(number) for number in numbers]
    if not draw.chance("items without categories", 0.3):
        form = draw.of("categories", *CATEGORIES, odds=0.6)
        columns["categories"] = [form(draw.random.choice(SHELVES)) for _ in numbers]
        if draw.chance("one category of another form", 0.1) and count:
            columns["categories"][draw.random.randrange(count)] = "Home > Light"
    for place in range(draw.of("further columns", 0, 1, 3, odds=0.4)):
        form = draw.of(f"further column {place}", *FURTHER, odds=0.9)
        values = [form(n, "x") if form is lists else form(n) for n in numbers]
        columns[draw.of("its name", f"extra {place}", "price", "brand", "keywords")] = values
    if draw.chance("an item twice", 0.12) and count:
        for values in columns.values():
            values.append(values[0])
    return columns


def _log(
    draw: Draw,
    num_users: int,
    num_items: int,
    user_id: Callable[[int, str], Any],
    item_id: Callable[[int, str], Any],
) -> Columns:
    lengths = draw.of("events per user", (5, 9), (1, 2), (0, 4), (1, 1), (3, 3), odds=0.4)
    form = draw.of("times", *TIMES, odds=0.6)
    rows = []
    for user in range(num_users):
        for step in range(draw.random.randint(*lengths)):
            moment = START + timedelta(hours=7 * step + draw.random.randrange(6), days=user)
            rows.append((user, draw.random.randrange(num_items), moment))
    if draw.chance("in no order", 0.3):
        draw.random.shuffle(rows)
    columns: Columns = {
        "user_id": [user_id(user, "u") for user, _, _ in rows],
        "item_id": [item_id(item, "i") for _, item, _ in rows],
    }
    if form:
        columns["timestamp"] = [form(moment) for _, _, moment in rows]
    for name in ("user_id", "item_id", "timestamp"):
        if name in columns and rows and draw.chance(f"a missing {name}", 0.08):
            columns[name][draw.random.randrange(len(rows))] = None
    if rows and draw.chance("an unknown item", 0.15):
        columns["item_id"][0] = "nobody knows it"
    if rows and draw.chance("an event twice", 0.15):
        for values in columns.values():
            values.append(values[-1])
    if draw.chance("ratings", 0.2):
        columns["rating"] = [draw.random.randint(1, 5) for _ in columns["user_id"]]
    names = draw.of(
        "names of columns",
        ("user_id", "item_id", "timestamp"),
        ("userId", "itemId", "time"),
        ("User ID", "Item ID", "Timestamp"),
        ("customer", "sku", "date"),
        odds=0.2,
    )
    renames = dict(zip(("user_id", "item_id", "timestamp"), names, strict=True))
    return {renames.get(name, name): values for name, values in columns.items()}


# Files --------------------------------------------------------------------------------------------


def _write(draw: Draw, tables: Tables, stem: str, columns: Columns) -> None:
    kind = draw.of(f"{stem}", "csv", "tsv", "jsonl", "json", "parquet", "parts", odds=0.6)
    stem = draw.of("name", stem, stem.upper(), stem.capitalize(), odds=0.05)
    writers = {"csv": _delimited, "tsv": _delimited, "jsonl": _json, "json": _json}
    if kind in writers:
        content = writers[kind](draw, tables, columns, kind, stem)
        if draw.chance("gzip", 0.1):
            kind, content = f"{kind}.gz", gzip.compress(content)
        tables.files[f"{stem}.{kind}"] = content
        return
    frame = _frame(columns)
    if frame is None:  # Polars has no one type for a column: as lines of JSON
        tables.files[f"{stem}.jsonl"] = _json(draw, tables, columns, "jsonl", stem)
    elif kind == "parquet":
        tables.files[f"{stem}.parquet"] = _parquet(frame)
    else:
        half = frame.height // 2
        for number, part in enumerate((frame[:half], frame[half:])):
            tables.files[f"{stem}.parquet/part-0000{number}.parquet"] = _parquet(part)
        tables.files[f"{stem}.parquet/_SUCCESS"] = b""


def _frame(columns: Columns) -> pl.DataFrame | None:
    try:
        frame = pl.DataFrame(
            {name: pl.Series(values, strict=True) for name, values in columns.items()}
        )
        _parquet(frame)
    except (TypeError, pl.exceptions.PolarsError):
        return None
    return frame


def _parquet(frame: pl.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


def _json(draw: Draw, tables: Tables, columns: Columns, kind: str, stem: str) -> bytes:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if draw.chance("missing keys instead of null", 0.2):
        rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    lines = [json.dumps(row, default=str, ensure_ascii=draw.chance("escapes", 0.3)) for row in rows]
    if kind == "json":
        return f"[{', '.join(lines)}]".encode()
    if lines and draw.chance(f"a broken line of {stem}", 0.05):
        lines.insert(draw.random.randrange(len(lines)), '{"user_id": "u1", ')
    if draw.chance("blank lines", 0.1):
        lines = [text for line in lines for text in (line, "")]
    return ("\n".join(lines) + "\n").encode()


def _delimited(draw: Draw, tables: Tables, columns: Columns, kind: str, stem: str) -> bytes:
    separator = "\t" if kind == "tsv" else ","
    separator = draw.of("separator", separator, ";", "|", "\t", odds=0.15)
    quoting = draw.of(
        "quotes", csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_NONE, odds=0.3
    )
    end = draw.of("line ends", "\n", "\r\n", "\r", odds=0.15)
    file = io.StringIO(newline="")
    writer = csv.writer(
        file, delimiter=separator, quoting=quoting, lineterminator=end, escapechar="\\"
    )
    rows = list(zip(*columns.values(), strict=True))
    if not draw.chance(f"no header in {stem}", 0.04):
        writer.writerow(columns)
    else:
        tables.num_events = -1
    is_blank = draw.chance("blank lines", 0.1)
    for row in rows:
        try:
            writer.writerow(["" if value is None else value for value in row])
        except csv.Error:  # a single empty field cannot be written without quotes
            file.write(end)
        if is_blank:
            file.write(end)
    text = file.getvalue()
    if rows and draw.chance(f"a line of {stem} with too many fields", 0.05):
        text += separator.join(["x"] * (len(columns) + 1)) + end
    if draw.chance(f"a stray quotation mark in {stem}", 0.04):
        place = draw.random.randrange(len(text) + 1)
        text = text[:place] + '"' + text[place:]
        tables.num_events = -1
    if draw.chance("a comment above the header", 0.03):
        text = f"# exported by a shop{end}" + text
    if draw.chance("the last line is cut", 0.05):
        text = text[: -len(end) - 1]
        tables.num_events = -1
    encoding = draw.of("encoding", "utf-8", "utf-8-sig", "latin-1", "utf-16", odds=0.15)
    content = text.encode(encoding, errors="replace")
    if draw.chance("NUL bytes", 0.01):
        content = content.replace(b"a", b"\0", 1)
    if draw.chance("bytes that are no text", 0.02):
        content += b"\xff\xfe\xfa"
        tables.num_events = -1
    return content
