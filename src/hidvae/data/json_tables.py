"""Tables in JSON: an object a line, an array of objects, or one object that holds them.

A log of plain objects, one a line, is read by Polars. Anything else is read here, object by object,
so that a column of mixed values spoils none of them: numbers among texts become text, one text
among lists a list of one, empty objects nothing. A line that is no object is left out and counted.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.column_names import is_usual
from hidvae.data.notes import Notes, show_value
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
)
from hidvae.errors import DataError

_LOOKED_AT = 20
_SHOWN = 3
_INT64 = range(-(2**63), 2**63)

Record = tuple[int, dict[str, Any]]
"""A line of the file and the object that starts there."""


def scan_json(
    file: TextFile,
    is_text: Callable[[str], bool],
    key: str,
    config: DatasetConfig,
    notes: Notes,
    *,
    is_log: bool,
) -> pl.LazyFrame:
    """Scan a table in JSON.

    Args:
        file: The file, not in an archive.
        is_text: Whether numbers of a column become text as they are written.
        key: Name for the keys of an object of records; empty if such an object is no table.
        config: ``csv_encoding``, if it is set.
        notes: Told of what was recognised and of lines that are left out.
        is_log: Whether other columns than those for text are hardly looked at, so that Polars may
            read them.

    Returns:
        ``LINE`` and the columns by first appearance.

    Raises:
        ConfigError: If the encoding is none.
        DataError: If there are no objects, or too many lines are none.
    """
    encoding = find_encoding(file, config.csv_encoding)
    notes.use("csv_encoding")
    head = list(islice(_filled(read_lines(file.path, encoding)), _LOOKED_AT))
    if not head:
        raise empty_file(file.name)
    are_objects = [isinstance(_parsed(line), dict) for _, line in head]
    is_lines = len(head) > 1 and (are_objects[0] or sum(are_objects) > len(head) / 2)
    if is_lines and is_log and encoding in (UTF_8, "utf-8-sig"):
        scan = _scan_plain(file, is_text)
        if scan is not None:
            return scan
    if encoding == UTF_8:
        with open_bytes(file.path) as source:
            if not all(map(is_utf_8, whole_lines(source))):
                encoding = encoding_of_other_bytes(file)
    if not config.csv_encoding:
        say_encoding(file, encoding, notes)
    table = _Table(file, is_text, notes)
    if is_lines:
        return table.from_lines(encoding)
    text = "".join(line for _, line in read_lines(file.path, encoding))
    return table.from_records(_records_of(_Document(file, text), key, notes))


# What Polars reads


def _scan_plain(file: TextFile, is_text: Callable[[str], bool]) -> pl.LazyFrame | None:
    """The log as Polars reads it; None if there is an odd line or a mixed column."""
    is_flat = True
    with open_bytes(file.path) as source:
        for block in whole_lines(source):
            num_lines = block.count(b"\n")
            num_objects = block.count(b"\n{") + block.startswith(b"{")
            if num_objects != num_lines or b"\0" in block or not is_utf_8(block):
                return None
            if block.count(b"\r") != block.count(b"\r\n"):
                return None
            is_flat &= block.count(b"{") == num_lines and b"[" not in block
    pattern = glob.escape(str(file.path))  # there is no glob=False
    try:
        found = pl.scan_ndjson(pattern, infer_schema_length=None).collect_schema()
    except pl.exceptions.PolarsError:
        return None
    texts = [name for name in found if is_text(name)]
    if any(found[name].is_nested() for name in texts) or any(map(_is_hollow, found.values())):
        return None
    schema: dict[str, Any] = {**found, **dict.fromkeys(texts, pl.String)}
    scan = pl.scan_ndjson(pattern, schema=schema, row_index_name=LINE, row_index_offset=1)
    if not is_flat and texts:  # a list among texts would be a text
        has_nested = pl.any_horizontal(pl.col(texts).str.contains(r"^\s*[\[{]").any())
        if scan.select(has_nested).collect(engine="streaming").item():
            return None
    return scan


def _is_hollow(dtype: Any) -> bool:
    """Whether a type holds an object without fields, which no file can store."""
    if isinstance(dtype, pl.Struct):
        return not dtype.fields or any(_is_hollow(field.dtype) for field in dtype.fields)
    return isinstance(dtype, pl.List) and _is_hollow(dtype.inner)


# What is read here


class _Written(float):
    """A number with a fraction, and how it is written."""

    text: str

    def __new__(cls, text: str) -> _Written:
        number = super().__new__(cls, text)
        number.text = text
        return number


_DECODER = json.JSONDecoder(parse_float=_Written, parse_constant=lambda _: None)


def _parsed(line: str) -> Any:
    """The value of a line; a text if it is none."""
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError):
        return line


def _filled(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    return ((number, text) for number, line in lines if (text := line.strip("\ufeff\x1a \t\r\n")))


@dataclass
class _Document:
    """A file that is one value of JSON, or several one after the other."""

    file: TextFile
    text: str
    _place: int = 0
    _line: int = 1

    def values(self) -> Iterator[tuple[int, Any]]:
        """The values at the top, or the elements if there is one array, each with its line."""
        self._skip(" \t\r\n\ufeff")
        closing = ""
        if self.text[self._place : self._place + 1] == "[":
            self._skip_over("[")
            closing = "]"
        while self._place < len(self.text) and self.text[self._place] != closing:
            line, start = self._line, self._place
            try:
                value, end = _DECODER.raw_decode(self.text, start)
            except (ValueError, RecursionError) as error:
                at = getattr(error, "pos", start)
                line += _ends(self.text, start, at)
                raise self._broken(line, at) from error
            self._line += _ends(self.text, start, end)
            self._place = end
            yield line, value
            self._skip(", \t\r\n")
        if closing and self._place >= len(self.text):
            raise self._broken(self._line, len(self.text))

    def _skip_over(self, character: str) -> None:
        self._place += len(character)
        self._skip(" \t\r\n")

    def _skip(self, characters: str) -> None:
        start = self._place
        while self.text[self._place : self._place + 1] in characters and self._place < len(
            self.text
        ):
            self._place += 1
        self._line += _ends(self.text, start, self._place)

    def _broken(self, line: int, place: int) -> DataError:
        found = (
            show_value(self.text[place : place + 60].strip()) if self.text[place:] else "its end"
        )
        return DataError(
            f"{self.file.name}, line {line}: expected JSON, an object a line or one array of "
            f"objects; found {found}; repair the file or export it again"
        )


def _ends(text: str, start: int, end: int) -> int:
    """Line ends in a part of a text."""
    newlines = text.count("\n", start, end)
    returns = text.count("\r", start, end) - text.count("\r\n", start, end)
    return newlines + returns


def _records_of(document: _Document, key: str, notes: Notes) -> Iterator[Record]:
    """The objects of a document, whatever holds them.

    Raises:
        DataError: If there are none.
    """
    values = list(document.values())
    file = document.file
    if not values:
        raise empty_file(file.name)
    if len(values) == 1 and isinstance(values[0][1], dict):
        values = _unwrapped(*values[0], key, file, notes)
    for line, value in values:
        if not isinstance(value, dict):
            raise DataError(
                f"{file.name}, line {line}: expected an object for each row; found "
                f"{show_value(value)}; export the table as objects with the columns' names"
            )
        yield line, value


def _unwrapped(
    line: int, whole: dict[str, Any], key: str, file: TextFile, notes: Notes
) -> list[tuple[int, Any]]:
    """The rows of a table that is one object."""
    lists = {name: value for name, value in whole.items() if isinstance(value, list)}
    if {"columns", "data"} <= lists.keys():  # pandas, orient="split"
        rows = [dict(zip(lists["columns"], row, strict=False)) for row in lists["data"]]
        return [(line, row) for row in rows]
    tables = [name for name, value in lists.items() if value and all(_is_object(v) for v in value)]
    if len(tables) == 1 and not any(map(is_usual, whole)):
        notes.decide(f"{file.name}: the rows are those under {tables[0]!r}")
        return [(line, value) for value in lists[tables[0]]]
    lengths = {len(value) for value in lists.values()}
    if len(lists) == len(whole) and len(lengths) == 1:
        columns = zip(*lists.values(), strict=True)
        return [(line, dict(zip(lists, row, strict=True))) for row in columns]
    if whole and all(map(_is_object, whole.values())):
        if any(map(is_usual, whole)):  # pandas, orient="columns"
            rows_of = dict.fromkeys(index for column in whole.values() for index in column)
            return [
                (line, {name: column.get(index) for name, column in whole.items()})
                for index in rows_of
            ]
        if key:
            notes.decide(f"{file.name}: the keys of its objects are taken for {key}")
            return [(line, {key: name, **value}) for name, value in whole.items()]
    if any(map(is_usual, whole)) and not tables:
        return [(line, whole)]
    raise DataError(
        f"{file.name}: expected an array of objects, or an object a line; found one object with "
        f"{', '.join(map(repr, islice(whole, _SHOWN)))}; export the rows alone"
    )


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


@dataclass
class _Kind:
    """What the values of a column have in common.

    A tree: the kind of a list's elements and of an object's fields.
    """

    scalars: set[type] = field(default_factory=set)
    has_large: bool = False
    elements: _Kind | None = None
    fields: dict[str, _Kind] | None = None
    num_lists: int = 0
    plain_lines: list[int] = field(default_factory=list)
    """Where a value is no list."""
    list_lines: list[int] = field(default_factory=list)
    num_plain: int = 0

    def add(self, value: Any, line: int) -> None:
        """Take one more value into account."""
        if value is None:
            return
        if isinstance(value, list):
            self.elements = self.elements or _Kind()
            for element in value:
                self.elements.add(element, line)
            self.num_lists += 1
            if len(self.list_lines) < _SHOWN:
                self.list_lines.append(line)
            return
        self.num_plain += 1
        if len(self.plain_lines) < _SHOWN:
            self.plain_lines.append(line)
        if isinstance(value, dict):
            self.fields = {} if self.fields is None else self.fields
            for name, inner in value.items():
                self.fields.setdefault(name, _Kind()).add(inner, line)
        else:
            self.scalars.add(type(value))
            self.has_large |= type(value) is int and value not in _INT64

    @property
    def is_list(self) -> bool:
        """Whether lists prevail."""
        return self.num_lists > 0 and self.num_lists >= self.num_plain

    def dtype(self) -> pl.DataType | None:
        """The type for all values; None if there is nothing in them."""
        if self.is_list:
            inner = self._with_plain().dtype() if self.elements else None
            return pl.List(inner or pl.String())
        if self.num_lists or (self.scalars and self.fields is not None):
            return pl.String()
        if self.fields is not None:
            kept = {name: kind.dtype() for name, kind in self.fields.items()}
            inner_fields = {name: dtype for name, dtype in kept.items() if dtype is not None}
            return pl.Struct(inner_fields) if inner_fields else None
        if not self.scalars:
            return None
        if self.scalars == {bool}:
            return pl.Boolean()
        if self.scalars == {int}:
            return pl.String() if self.has_large else pl.Int64()
        if self.scalars <= {int, _Written} and not self.has_large:
            return pl.Float64()
        return pl.String()

    def _with_plain(self) -> _Kind:
        """The elements of all lists, a value that is none being a list of one."""
        assert self.elements is not None
        elements = self.elements
        return _Kind(
            scalars=elements.scalars | self.scalars,
            has_large=elements.has_large or self.has_large,
            elements=elements.elements,
            fields=elements.fields
            if self.fields is None
            else {**(elements.fields or {}), **self.fields},
            num_lists=elements.num_lists,
            num_plain=elements.num_plain + self.num_plain,
        )


class _Table:
    """Builds the table of a file's objects."""

    def __init__(self, file: TextFile, is_text: Callable[[str], bool], notes: Notes) -> None:
        self.file, self.is_text, self.notes = file, is_text, notes

    def from_lines(self, encoding: str) -> pl.LazyFrame:
        """Of a file with an object a line: read once for the types and once for the values."""
        broken = BrokenLines(
            "a JSON object in each line", "repair the line or export the file again"
        )
        kinds: dict[str, _Kind] = {}
        num_rows = 0
        for line, record in self._objects(encoding, broken):
            num_rows += 1
            _learn(kinds, line, record)
        broken.tell(self.file.name, "that cannot be read", num_rows, self.notes)
        return self._table(kinds, self._objects(encoding, None))

    def from_records(self, records: Iterator[Record]) -> pl.LazyFrame:
        """Of objects that are in memory."""
        kinds: dict[str, _Kind] = {}
        kept = list(records)
        for line, record in kept:
            _learn(kinds, line, record)
        has_lines = len({line for line, _ in kept}) > 1 or len(kept) == 1
        table = self._table(kinds, iter(kept))
        return table if has_lines else table.drop(LINE)

    def _objects(self, encoding: str, broken: BrokenLines | None) -> Iterator[Record]:
        for number, text in _filled(read_lines(self.file.path, encoding)):
            value = _parsed(text)
            if isinstance(value, dict) and not NOT_TEXT.search(text):
                yield number, value
            elif broken is not None:
                broken.add(number, text, "none")

    def _table(self, kinds: Mapping[str, _Kind], records: Iterator[Record]) -> pl.LazyFrame:
        schema: dict[str, pl.DataType] = {}
        for name, kind in kinds.items():
            dtype = kind.dtype()
            if self.is_text(name) and dtype is not None and not dtype.is_nested():
                dtype = pl.String()
            if dtype is not None or kind.fields is None:
                schema[name] = dtype or pl.String()
            else:
                self.notes.decide(
                    f"{self.file.name}, column {name}: left out, as its objects are empty"
                )
            self._say_mixed(name, kind)
        blocks: RowBlocks[Record] = RowBlocks(lambda rows: _frame(rows, schema))
        blocks.extend(records)
        return blocks.table()

    def _say_mixed(self, name: str, kind: _Kind) -> None:
        if not (kind.num_lists and kind.num_plain):
            return
        odd, lines = ("no list", kind.plain_lines) if kind.is_list else ("a list", kind.list_lines)
        count = min(kind.num_lists, kind.num_plain)
        more = ", …" if count > len(lines) else ""
        taken = "a list of one value" if kind.is_list else "text"
        self.notes.decide(
            f"{self.file.name}, column {name}: {odd} in line {', '.join(map(str, lines))}{more}, "
            f"where {'the others have lists' if kind.is_list else 'the others have none'}; taken "
            f"as {taken}"
        )


def _learn(kinds: dict[str, _Kind], line: int, record: Mapping[str, Any]) -> None:
    for name, value in record.items():
        kind = kinds.get(name)
        if kind is None:
            kind = kinds[name] = _Kind()
        kind.add(value, line)


def _frame(records: Sequence[Record], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    lines = pl.Series(LINE, [line for line, _ in records], dtype=pl.get_index_type())
    columns = [
        _series(name, [_fitted(record.get(name), dtype) for _, record in records], dtype)
        for name, dtype in schema.items()
    ]
    return pl.DataFrame([lines, *columns])


def _series(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    try:
        return pl.Series(name, values, dtype=dtype)
    except UnicodeEncodeError:  # an escape such as \\ud800, which is half a letter
        return pl.Series(name, _whole_letters(values), dtype=dtype)


def _whole_letters(value: Any) -> Any:
    """A value with a sign for each half of a letter in its texts."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole_letters(element) for element in value]
    if isinstance(value, dict):
        return {name: _whole_letters(inner) for name, inner in value.items()}
    return value


def _fitted(value: Any, dtype: pl.DataType) -> Any:
    """A value of a mixed column as one of its type."""
    if value is None:
        return None
    if isinstance(dtype, pl.List):
        elements = value if isinstance(value, list) else [value]
        return [_fitted(element, dtype.inner) for element in elements]  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        if not isinstance(value, dict):
            return None
        return {each.name: _fitted(value.get(each.name), each.dtype) for each in dtype.fields}  # type: ignore[arg-type]
    if dtype == pl.String and not isinstance(value, str):
        if isinstance(value, _Written):
            return value.text
        return json.dumps(value, ensure_ascii=False)
    return value
