"""Tables as text with a separator: commas, semicolons, tabs or bars, quoted in any way or not.

Separator, quotation, encoding and header are recognised, and told to ``Notes`` where they are not
what the file's name says. One fast pass looks whether every line holds a row as Polars reads it,
which then reads the file itself. Any other file is read line by line here: blank lines are
skipped, and a line with another number of values than the header is left out and counted.

**Quotation.** A value in quotation marks may hold separators, line breaks and doubled marks (RFC
4180). A mark that encloses nothing, such as that of ``12" lamp``, is a letter. Lines that are whole
rows on their own are not taken for parts of a quoted value, which would swallow them, unless they
have words where the row has numbers.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import islice
from typing import NamedTuple

import numpy as np
import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.column_names import is_usual
from hidvae.data.notes import Notes, count_of, show_value
from hidvae.data.row_blocks import BrokenLines, RowBlocks
from hidvae.data.tables import LINE, empty_file
from hidvae.data.text_files import (
    NOT_TEXT,
    UTF_8,
    TextFile,
    encoding_of_other_bytes,
    find_encoding,
    is_utf_8,
    open_bytes,
    read_lines,
    say_encoding,
    whole_lines,
    why_not_text,
)
from hidvae.errors import ConfigError, DataError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
"""What is recognised between values, with its name for messages."""

_WRITTEN = {"\\t": "\t", "tab": "\t", "space": " ", "comma": ",", "semicolon": ";", "bar": "|"}
_QUOTES = {"auto": '"', "double": '"', "single": "'", "none": ""}
_SAMPLE_LINES, _SAMPLE_CHARACTERS = 1000, 2_000_000
_MAX_SPAN = 1000
"""Lines that a quoted value may span."""
_MANY_LINES = 20
_SHOWN = 3
_BLANK = " \x1a\ufeff"
_BLANK_LINE = re.compile(rb"\n\r?\n")
_STAND_IN = "\x1f"
"""In place of a separator of several characters, for the reader of quotation."""
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?")
_CODE = re.compile(r"(?=.*\d)[\w./:-]+")


@dataclass(frozen=True)
class Layout:
    """What is known of a table before its file is opened."""

    known: frozenset[str]
    """Names that columns may have: ours and the user's."""
    separator: str = ""
    """What the file's name promises between the values."""
    quote: str = ""
    """What encloses values whatever the settings say: "double", "single" or "none"."""
    numbers: Mapping[int, str] = field(default_factory=dict)
    """Our name by the number of a column, from 1, for a file without header."""
    has_header: bool = False
    """Whether the first line is the header, whatever it holds."""

    def names_in(self, header: Iterable[str]) -> int:
        """How many fields of a header are known names; RecBole's have a type after a colon."""
        known = {name.casefold() for name in self.known}
        names = [name.partition(":")[0].strip(" \"'").casefold() for name in header]
        num_usual = sum(map(is_usual, names))
        # a single one may be a value, such as the category "book"
        return max(sum(name in known for name in names), num_usual if num_usual > 1 else 0)


@dataclass(frozen=True)
class _Dialect:
    """How a file is written."""

    separator: str
    quote: str
    """What encloses values; empty if nothing does."""
    encoding: str
    columns: tuple[str, ...]
    header: str
    """The header as it stands there; empty if there is none."""
    first_line: int
    """The line below the header."""
    is_certain: bool
    """Whether a setting says what encloses values, so that a mark elsewhere is a fault."""
    has_usual_ends: bool
    """Whether no line that was looked at ends with a carriage return alone."""

    @property
    def between(self) -> str:
        """The separator for messages."""
        return SEPARATORS.get(self.separator, show_value(self.separator))


def scan_delimited(
    file: TextFile, layout: Layout, config: DatasetConfig, notes: Notes
) -> pl.LazyFrame:
    """Scan a table of text.

    Args:
        file: The file, not in an archive.
        layout: What is known of it.
        config: ``csv_separator``, ``csv_quote`` and ``csv_encoding`` as far as they are set.
        notes: Told of what was recognised and of lines that are left out.

    Returns:
        ``LINE``, then all columns as text, null or empty where nothing stands. A large file is read
        when rows are collected.

    Raises:
        ConfigError: If a setting does not go with the file.
        DataError: If the file is empty or has no header, or too many of its lines are no rows.
    """
    encoding = find_encoding(file, config.csv_encoding)
    notes.use("csv_encoding", "csv_separator")
    if not layout.quote:
        notes.use("csv_quote")
    dialect = _recognise(file, encoding, layout, config)
    shape = _check(file, dialect)
    if shape is _OTHER_BYTES:
        encoding = encoding_of_other_bytes(file)
        dialect = _recognise(file, encoding, layout, config)
    if not config.csv_encoding:
        say_encoding(file, encoding, notes)
    _say_separator(file, dialect, layout, config, notes)
    if isinstance(shape, int):
        return _scan(file, dialect, shape)
    table, found = _read(file, dialect)
    if found.is_without_quotes and not dialect.is_certain:
        notes.decide(
            f"{file.name}: quotation marks are letters, as they enclose no values "
            f"({_lines(found.letters)})",
            "DatasetConfig.csv_quote=double",
        )
        dialect = replace(dialect, quote="", is_certain=True)
        shape = _check(file, dialect)
        if isinstance(shape, int):
            return _scan(file, dialect, shape)
        table, found = _read(file, dialect)
    found.say(file, dialect, notes)
    return table


# Recognising


def _recognise(file: TextFile, encoding: str, layout: Layout, config: DatasetConfig) -> _Dialect:
    lines = _first_lines(file, encoding)
    start, separator = _skip_top(lines, layout)
    lines = lines[start:]
    if not lines:
        raise empty_file(file.name)
    quote = _QUOTES[layout.quote or config.csv_quote]
    wanted = _WRITTEN.get(config.csv_separator, config.csv_separator)
    separator = wanted or separator or _likely_separator(lines, quote, layout)
    header, rows, height = _sample(lines, separator, quote)
    if wanted and len(header) == 1:
        _refuse_other_separator(file, lines, quote, layout, config.csv_separator)
    dialect = _Dialect(
        separator=separator,
        quote=quote,
        encoding=encoding,
        columns=(),
        header="",
        first_line=lines[0][0],
        is_certain=bool(layout.quote) or config.csv_quote != "auto",
        has_usual_ends=not any(line.endswith("\r") for _, line in lines[:-1]),
    )
    text = lines[0][1].strip()
    header = [name.encode(errors="replace").decode() for name in header]  # of broken letters too
    columns, is_named = name_columns(header, rows, layout, file.name, lines[0][0], text)
    if not is_named:
        return replace(dialect, columns=columns)
    return replace(
        dialect,
        columns=columns,
        header="".join(line for _, line in lines[:height]).rstrip("\r\n"),
        first_line=lines[0][0] + height,
    )


def _refuse_other_separator(
    file: TextFile, lines: list[tuple[int, str]], quote: str, layout: Layout, setting: str
) -> None:
    """Refuse a separator that is set, leaves one column, and where another one makes several."""
    likely = _likely_separator(lines, quote, layout)
    if len(_sample(lines, likely, quote)[0]) > 1:
        raise ConfigError(
            f"DatasetConfig.csv_separator: expected what stands between the values of {file.name}; "
            f"found {show_value(setting)}, which leaves one column, while {SEPARATORS[likely]} "
            f"make several; set DatasetConfig.csv_separator={likely!r}, or leave it out, and the "
            "separator of each table is recognised"
        )


def name_columns(
    first: Sequence[str],
    rows: Sequence[Sequence[str]],
    layout: Layout,
    file: str,
    line: int,
    text: str,
) -> tuple[tuple[str, ...], bool]:
    """The names of a table's columns, and whether they stand in its first line.

    Args:
        first: Values of the first line.
        rows: Values of some lines below it.
        layout: What is known of the table.
        file: Where it came from, for messages.
        line: Number of the first line.
        text: The first line, for messages.

    Raises:
        ConfigError: If columns are named by numbers that there are not.
        DataError: If there is no header, or a name that we know is there twice.
    """
    if layout.numbers:
        width = Counter(map(len, [first, *rows])).most_common(1)[0][0]
        columns = _columns_by_number(layout.numbers, width, file)
        if not (_is_header(first, layout) or _is_above_values(first, rows)):
            return columns, False
        named = _columns_of_header(first, layout, file, line)
        others = [f"{name}_{n}" if name in columns else name for n, name in enumerate(named, 1)]
        return tuple(layout.numbers.get(n, name) for n, name in enumerate(others, 1)), True
    if not layout.has_header and _looks_like_data(first, rows, layout):
        example = ["user_id=1", "item_id=2", "timestamp=3"][: max(2, len(first))]
        shown = ", ".join(f'"{entry}"' for entry in example)
        raise DataError(
            f"{file}: expected a header with the names of the columns; found line {line}: "
            f"{show_value(text)}, which looks like data; write the names above it, or name "
            f"columns by their number, such as --set 'DatasetConfig.column_names=[{shown}]'"
        )
    return _columns_of_header(first, layout, file, line), True


def _first_lines(file: TextFile, encoding: str) -> list[tuple[int, str]]:
    lines, size = [], 0
    for number, line in islice(read_lines(file.path, encoding), _SAMPLE_LINES):
        lines.append((number, line))
        size += len(line)
        if size > _SAMPLE_CHARACTERS:
            break
    return lines


def _skip_top(lines: list[tuple[int, str]], layout: Layout) -> tuple[int, str]:
    """Where the header is, below blank lines and comments, and a separator that is named there."""
    has_comments = any(not line.startswith("#") and line.strip() for _, line in lines)
    separator = ""
    for place, (number, line) in enumerate(lines):
        text = line.strip("\r\n" + _BLANK)
        if text.lower().startswith("sep=") and len(text) <= 5:  # as Excel writes it
            separator = text[4:] or ","
        elif text.startswith("#") and has_comments:
            names = re.split(r"[,;|\t ]", text.lstrip("# "))
            if layout.names_in(names) >= min(2, len(names)):  # a header written as a comment
                lines[place] = (number, line.lstrip("# " + _BLANK))
                return place, separator
        elif text:
            return place, separator
    return len(lines), separator


def _likely_separator(lines: list[tuple[int, str]], quote: str, layout: Layout) -> str:
    """The separator under which the header has known names and the rows as many values."""
    best, best_score = layout.separator or ",", (0, 0.0, False, 1)
    for separator in SEPARATORS:
        header, rows, _ = _sample(lines, separator, quote)
        num_known = min(2, layout.names_in(header))
        if len(header) < 2 or (separator == " " and num_known < 2):
            continue
        share = sum(len(row) == len(header) for row in rows) / max(1, len(rows))
        score = (num_known, round(share, 2), separator == layout.separator, len(header))
        if score > best_score:
            best, best_score = separator, score
    return best


def _sample(
    lines: list[tuple[int, str]], separator: str, quote: str
) -> tuple[list[str], list[list[str]], int]:
    """The header's fields, those of the rows below, and how many lines the header takes."""
    for height in range(1, min(_MANY_LINES, len(lines)) + 1):  # names may hold line breaks
        text = "".join(line for _, line in lines[:height]).rstrip("\r\n")
        header = _strict(text, separator, quote)
        if header is not _OPEN:
            break
    if header is None or header is _OPEN:
        header, height = lines[0][1].rstrip("\r\n").split(separator), 1
    records = _records(iter(lines[height:]), separator, quote, len(header), is_certain=False)
    rows = [record.fields or record.text.split(separator) for record in records
            if record.text.strip(_BLANK)]  # fmt: skip
    return header, rows, height


def _is_header(fields: Sequence[str], layout: Layout) -> bool:
    is_numbered = list(fields) == [str(number) for number in range(len(fields))]
    return layout.has_header or layout.names_in(fields) > 0 or (is_numbered and len(fields) > 1)


def _looks_like_data(first: Sequence[str], rows: Sequence[Sequence[str]], layout: Layout) -> bool:
    """Whether the first line holds values like those below it, and no known name."""
    if layout.names_in(first):
        return False
    is_alike = False
    for place, value in enumerate(first):
        below = [row[place] for row in rows if len(row) == len(first) and row[place].strip()]
        if not below or not value.strip():
            continue
        kind, count = Counter(map(_kind, below)).most_common(1)[0]
        if count >= 0.9 * len(below) and kind != "words":
            if _kind(value) == kind:
                is_alike = True
            elif kind in ("number", "date"):
                return False
        is_alike |= value in below
    return is_alike


def _is_above_values(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line has a word above numbers or dates, as a header has."""
    for place, value in enumerate(first):
        below = [_kind(row[place]) for row in rows if len(row) == len(first) and row[place].strip()]
        num_fit = sum(kind in ("number", "date") for kind in below)
        if below and num_fit >= 0.9 * len(below) and _kind(value) == "words" and value.strip():
            return True
    return False


def _kind(value: str) -> str:
    value = value.strip()
    kinds = {"number": _NUMBER, "date": _DATE, "code": _CODE}
    return next((kind for kind, pattern in kinds.items() if pattern.fullmatch(value)), "words")


def _columns_by_number(numbers: Mapping[int, str], width: int, file: str) -> tuple[str, ...]:
    if max(numbers) > width or min(numbers) < 1:
        wrong = next(number for number in numbers if not 1 <= number <= width)
        raise ConfigError(
            f"DatasetConfig.column_names: expected the number of a column of {file}, 1 to "
            f"{width}; found '{numbers[wrong]}={wrong}'"
        )
    return tuple(numbers.get(number, f"column_{number}") for number in range(1, width + 1))


def _columns_of_header(
    header: Sequence[str], layout: Layout, file: str, line: int
) -> tuple[str, ...]:
    columns: list[str] = []
    for number, name in enumerate((name.strip() for name in header), 1):
        if name in columns:
            if layout.names_in([name]):
                raise DataError(
                    f"{file}, line {line}: expected each column once; found {name!r} as "
                    f"column {columns.index(name) + 1} and {number}; remove or rename one of them"
                )
            name = f"{name}_{number}"
        columns.append(name or f"column_{number}")
    return tuple(columns)


def _say_separator(
    file: TextFile, dialect: _Dialect, layout: Layout, config: DatasetConfig, notes: Notes
) -> None:
    if len(dialect.columns) > 1 and dialect.separator != layout.separator:
        if not config.csv_separator:
            notes.decide(
                f"{file.name} is read with {dialect.between} between the values",
                f"DatasetConfig.csv_separator={dialect.separator!r}",
            )


# Files that Polars reads itself


class _Shape(Enum):
    OTHER_BYTES = auto()
    """Not UTF-8 throughout."""
    ODD_LINES = auto()
    """Some lines need a closer look."""


_OTHER_BYTES, _ODD_LINES = _Shape.OTHER_BYTES, _Shape.ODD_LINES


def _check(file: TextFile, dialect: _Dialect) -> int | _Shape:
    """How many rows a file has, if each line below the header is one for Polars too."""
    is_odd = len(dialect.separator) > 1 or not dialect.has_usual_ends
    if dialect.encoding not in (UTF_8, "utf-8-sig"):
        return _ODD_LINES
    num_rows = 0
    with open_bytes(file.path) as source:
        for _ in range(dialect.first_line - 1):
            source.readline()
        repeated = dialect.header.encode(errors="surrogateescape")
        if not is_utf_8(repeated):
            return _OTHER_BYTES
        for block in whole_lines(source):
            if not is_utf_8(block):
                return _OTHER_BYTES
            if not is_odd:
                rows = _count_rows(block, dialect)
                is_odd = rows == 0 or bool(repeated and repeated in block)
                num_rows += rows
    return _ODD_LINES if is_odd else num_rows


def _count_rows(block: bytes, dialect: _Dialect) -> int:
    """Rows of some whole lines; 0 if one of them is odd."""
    if b"\0" in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
        return 0
    num_columns, separator = len(dialect.columns), dialect.separator.encode()
    if num_columns == 1 and (block.startswith((b"\n", b"\r")) or _BLANK_LINE.search(block)):
        return 0  # to Polars a blank line would be a row
    if dialect.quote and dialect.quote.encode() in block:
        outside = _outside_quotes(block, dialect)
        if outside is None:
            return 0
        block = outside
    marks = block.translate(None, bytes(set(range(256)) - set(separator + b"\n")))
    row = separator * (num_columns - 1) + b"\n"
    num_rows = len(marks) // num_columns
    return num_rows if marks == row * num_rows else 0


def _outside_quotes(block: bytes, dialect: _Dialect) -> bytes | None:
    """Some whole lines without what is in quotation marks; None if a mark is a letter.

    So it is if it does not stand beside a separator or a line's end on its outer side, or if a line
    ends between two marks. A doubled mark closes and opens.
    """
    characters = np.frombuffer(block, np.uint8)
    is_quote = characters == ord(dialect.quote)
    is_inside = np.cumsum(is_quote, dtype=np.uint32) % 2 == 1
    is_end = characters == ord("\n")
    is_edge = is_quote | is_end | (characters == ord(dialect.separator))
    is_after_edge = np.concatenate([[True], is_edge[:-1]])
    is_before_edge = np.concatenate([(is_edge | (characters == ord("\r")))[1:], [True]])
    is_well = np.where(is_inside, is_after_edge, is_before_edge) | ~is_quote
    if not is_well.all() or (is_end & is_inside).any():
        return None
    return np.where(is_inside, 0, characters).astype(np.uint8).tobytes()


def _scan(file: TextFile, dialect: _Dialect, num_rows: int) -> pl.LazyFrame:
    schema = dict.fromkeys(dialect.columns, pl.String)
    if not num_rows:
        return pl.LazyFrame(schema={LINE: pl.get_index_type(), **schema})
    return pl.scan_csv(
        file.path,
        glob=False,
        has_header=False,
        skip_lines=dialect.first_line - 1,
        schema=schema,
        separator=dialect.separator,
        quote_char=dialect.quote or None,
        row_index_name=LINE,
        row_index_offset=dialect.first_line,
        n_rows=num_rows,  # blank lines at the end would be rows
    )


# Files that are read here, line by line


class _How(Enum):
    """What a record's quotation marks are."""

    NONE = auto()
    ENCLOSING = auto()
    """Around values that could stand without."""
    NEEDED = auto()
    """Around values that hold a separator or a line break."""
    LETTERS = auto()
    """Letters in a value, as none of them encloses one by itself."""
    TAKEN_AS_LETTERS = auto()
    """Letters, as the record would not be whole otherwise."""


class _Record(NamedTuple):
    """A row of a file, or a line that is none."""

    line: int
    fields: list[str] | None
    """None if the line has not as many values as the header."""
    text: str
    how: _How = _How.NONE
    num_lines: int = 1


@dataclass
class _Found:
    """What was found while reading line by line."""

    broken: BrokenLines
    num_rows: int = 0
    num_enclosing: int = 0
    num_needed: int = 0
    letters: list[int] = field(default_factory=list)
    """Lines with quotation marks that are letters."""
    num_taken_as_letters: int = 0
    spans: list[int] = field(default_factory=list)
    """Lines where a value begins that holds line breaks."""
    blanks: list[int] = field(default_factory=list)
    headers: list[int] = field(default_factory=list)
    """Lines that repeat the header."""

    def add(self, record: _Record) -> None:
        self.num_rows += 1
        self.num_enclosing += record.how is _How.ENCLOSING
        self.num_needed += record.how is _How.NEEDED
        self.num_taken_as_letters += record.how is _How.TAKEN_AS_LETTERS
        if record.how in (_How.LETTERS, _How.TAKEN_AS_LETTERS):
            self.letters.append(record.line)
        if record.num_lines > 1:
            self.spans.append(record.line)

    @property
    def is_without_quotes(self) -> bool:
        """Whether marks are letters everywhere: none is needed, and most enclose nothing."""
        return self.num_needed == 0 and self.num_taken_as_letters > self.num_enclosing

    def say(self, file: TextFile, dialect: _Dialect, notes: Notes) -> None:
        """Tell what became of odd lines."""
        setting = f"DatasetConfig.csv_quote={'none' if dialect.quote else 'double'}"
        if self.blanks:
            notes.decide(f"{file.name}: {count_of(len(self.blanks), 'blank line')} skipped")
        if self.headers:
            notes.decide(
                f"{file.name}: {count_of(len(self.headers), 'line')} that "
                f"{'repeats' if len(self.headers) == 1 else 'repeat'} the header skipped "
                f"({_lines(self.headers)})"
            )
        if self.letters:
            notes.decide(
                f"{file.name}: quotation marks that enclose no value are letters "
                f"({_lines(self.letters)})",
                setting,
            )
        if self.spans:
            notes.decide(
                f"{file.name}: {count_of(len(self.spans), 'quoted value')} with line breaks "
                f"({_lines(self.spans)})",
                setting,
            )
        self.broken.tell(file.name, "that cannot be read", self.num_rows, notes)


def _lines(numbers: Sequence[int]) -> str:
    more = ", …" if len(numbers) > _SHOWN else ""
    return f"line {', '.join(map(str, numbers[:_SHOWN]))}{more}"


def _read(file: TextFile, dialect: _Dialect) -> tuple[pl.LazyFrame, _Found]:
    num_columns = len(dialect.columns)
    quoting = "put values that hold the separator or a line break in quotation marks"
    broken = BrokenLines(
        f"{count_of(num_columns, 'value')} in each line, with {dialect.between} between",
        f"repair the line, or {quoting}" if dialect.quote else "repair the line",
    )
    found = _Found(broken)
    blocks: RowBlocks[_Record] = RowBlocks(lambda records: _frame(records, dialect.columns))
    lines = islice(read_lines(file.path, dialect.encoding), dialect.first_line - 1, None)
    records = _records(
        lines, dialect.separator, dialect.quote, num_columns, is_certain=dialect.is_certain
    )
    blocks.extend(_sorted_out(records, found, dialect))
    return blocks.table(), found


def _sorted_out(records: Iterator[_Record], found: _Found, dialect: _Dialect) -> Iterator[_Record]:
    """The rows among records; tells ``found`` of everything else."""
    blanks: list[int] = []
    for record in records:
        if not record.text.strip(_BLANK):
            blanks.append(record.line)
            continue
        found.blanks += blanks  # those at the end are no matter
        blanks.clear()
        if NOT_TEXT.search(record.text):
            found.broken.add(record.line, record.text, why_not_text(record.text))
        elif record.fields is None:
            num_values = len(record.text.split(dialect.separator))
            what = count_of(num_values, "value")
            if num_values == len(dialect.columns):
                what = "a quotation mark inside or at the end of no value"
            found.broken.add(record.line, record.text, what)
        elif record.text == dialect.header:
            found.headers.append(record.line)
        else:
            found.add(record)
            yield record


def _frame(records: Sequence[_Record], columns: Sequence[str]) -> pl.DataFrame:
    lines = pl.Series(LINE, [record.line for record in records], dtype=pl.get_index_type())
    values = zip(*(record.fields or () for record in records), strict=True)
    found = list(values) if records else [()] * len(columns)
    series = [
        pl.Series(name, texts, dtype=pl.String) for name, texts in zip(columns, found, strict=True)
    ]
    filled = pl.when(pl.col(columns) != "").then(pl.col(columns))
    return pl.DataFrame([lines, *series]).with_columns(filled)


def _records(
    lines: Iterator[tuple[int, str]],
    separator: str,
    quote: str,
    num_columns: int,
    *,
    is_certain: bool,
) -> Iterator[_Record]:
    """Rows of lines, each with what its quotation marks are; see the module's rule."""
    ahead: deque[tuple[int, str]] = deque()
    while True:
        if ahead:
            number, line = ahead.popleft()
        else:
            following = next(lines, None)
            if following is None:
                return
            number, line = following
        text = line.rstrip("\r\n")
        plain = text.split(separator)
        is_whole = len(plain) == num_columns
        if not quote or quote not in text:
            yield _Record(number, plain if is_whole else None, text)
            continue
        fields = _strict(text, separator, quote)
        if fields is not None and len(fields) == num_columns:
            how = _How.LETTERS if fields == plain else _How.ENCLOSING
            yield _Record(number, fields, text, how if is_whole else _How.NEEDED)
            continue
        loose = _loose(text, separator, quote)
        if loose is not None and len(loose) == num_columns:
            yield _Record(number, loose, text, _How.NEEDED)
            continue
        if fields is _OPEN:
            span = _span([(number, line)], ahead, lines, separator, quote)
            joined = "".join(line for _, line in span).rstrip("\r\n")
            fields = _strict(joined, separator, quote) if len(span) > 1 else None
            if fields is not None and len(fields) == num_columns:
                if is_certain or not _is_rows(span, separator, quote, num_columns):
                    yield _Record(number, fields, joined, _How.NEEDED, len(span))
                    continue
            ahead.extendleft(reversed(span[1:]))
            fields = None
        is_row = is_whole and fields is None and not is_certain
        how = _How.TAKEN_AS_LETTERS if is_row else _How.NONE
        yield _Record(number, plain if is_row else None, text, how)


def _span(
    span: list[tuple[int, str]],
    ahead: deque[tuple[int, str]],
    lines: Iterator[tuple[int, str]],
    separator: str,
    quote: str,
) -> list[tuple[int, str]]:
    """The lines of a quoted value that the first one opens; only that one if nothing closes it."""
    text = span[0][1]
    while len(span) < _MAX_SPAN:
        following = ahead.popleft() if ahead else next(lines, None)
        if following is None:
            break
        span.append(following)
        text += following[1]
        if quote in following[1]:
            fields = _strict(text.rstrip("\r\n"), separator, quote)
            if fields is not _OPEN:
                if fields is not None:
                    return span
                break
    ahead.extendleft(reversed(span[1:]))
    return span[:1]


def _is_rows(span: list[tuple[int, str]], separator: str, quote: str, num_columns: int) -> bool:
    """Whether lines are whole rows, so that no value spans them.

    In a table of two columns a line of a text with one comma looks like a row; many of them in a
    line do not. In a wider one, lines of a text seldom have numbers where the row has them.
    """
    lines = [line.rstrip("\r\n").split(separator) for _, line in span]
    if num_columns < 2 or any(len(fields) != num_columns for fields in lines):
        return False
    if num_columns == 2:
        return len(span) > _MANY_LINES
    first, last = lines[0], lines[-1]
    opening = max(n for n, text in enumerate(first) if quote in text)
    closing = min(n for n, text in enumerate(last) if quote in text)
    pairs = [(first[n], fields[n]) for fields in lines[1:] for n in range(opening)]
    pairs += [
        (last[n], fields[n]) for fields in lines[:-1] for n in range(closing + 1, num_columns)
    ]
    kinds = [{_kind(text.strip(quote)) for text in pair} for pair in pairs if all(pair)]
    differs = ["words" in pair for pair in kinds if pair != {"words"}]
    return 2 * sum(differs) <= len(differs)


class _Open(list[str]):
    """No fields yet: a quoted value goes on in the next line."""


_OPEN = _Open()


def _strict(text: str, separator: str, quote: str) -> list[str] | None:
    """The fields of a record by RFC 4180; None if it breaks the rule, ``_OPEN`` if it goes on."""
    if not quote or quote not in text:
        return text.split(separator)
    return _parse(text, separator, quote)


def _loose(text: str, separator: str, quote: str) -> list[str] | None:
    """The fields of a line whose quotation is not that of RFC 4180 but a usual one."""
    if "\\" + quote in text:  # as MySQL and Spark write them
        fields = _parse(text, separator, quote, escape="\\")
        if fields is not None and fields is not _OPEN:
            return fields
    if separator + " " + quote in text:
        fields = _parse(text, separator, quote, skip_blanks=True)
        return None if fields is _OPEN else fields
    return None


def _parse(
    text: str, separator: str, quote: str, *, escape: str | None = None, skip_blanks: bool = False
) -> list[str] | None:
    csv.field_size_limit(sys.maxsize)
    if len(separator) > 1:
        text, separator = text.replace(separator, _STAND_IN), _STAND_IN
    reader = csv.reader(
        [text],
        delimiter=separator,
        quotechar=quote,
        strict=True,
        doublequote=escape is None,
        escapechar=escape,
        skipinitialspace=skip_blanks,
    )
    try:
        return next(reader, [""])
    except csv.Error as error:
        return _OPEN if "unexpected end" in str(error) else None
