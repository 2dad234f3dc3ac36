"""A user's table from its files to its rows: which files they are, and which reader takes them.

Items are read whole; a log is scanned, so that the streaming engine can pass over more rows than
the memory holds.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.column_names import may_be_text
from hidvae.data.delimited_text import Layout, scan_delimited
from hidvae.data.json_tables import scan_json
from hidvae.data.notes import Notes, count_of
from hidvae.data.schema import EVENT_COLUMNS, TEXT_COLUMNS, Columns
from hidvae.data.spreadsheets import read_sheet
from hidvae.data.tables import join_parts, names_of, reading, require_rows
from hidvae.data.text_files import COMPRESSIONS, TextFile, unpack
from hidvae.errors import DataError

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ""}
_JSON = (".jsonl", ".ndjson", ".json")
_ZIP = ".zip"
_PACKED = (*COMPRESSIONS, _ZIP)
_WHOLE = (".parquet", ".xlsx")
SUFFIXES = (
    *_WHOLE,
    *(kind + packed for kind in (*_SEPARATORS, *_JSON) for packed in _PACKED),
    _ZIP,
)
"""How names of tables end; upper and lower case are the same."""
FORMATS = "csv, tsv, tab, txt, jsonl, ndjson or json, also with .gz, .zst or .zip, parquet or xlsx"
"""The same for messages."""

_PART = r"[-_. ]?(?:part[-_. ]?)?\d+(?:[-_. ]?of[-_. ]?\d+)?"
"""What numbers a part of a table, such as ``-0001`` or ``.part1``."""
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_KNOWN = (*EVENT_COLUMNS, Columns.CATEGORIES, Columns.PRICE, Columns.IMAGE, *TEXT_COLUMNS)
_NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"


@dataclass(frozen=True)
class TableFiles:
    """The files of a table; as text, its name for messages."""

    parts: tuple[Path, ...]
    """In order; one, unless the table is in parts."""
    folder: Path | None = None
    """That holds the parts and nothing else."""

    @classmethod
    def of(cls, path: Path) -> TableFiles:
        """The table in a file, or in a folder of parts.

        Raises:
            DataError: If the folder holds no table, or parts of several formats.
        """
        return cls(_parts_of(path), path) if path.is_dir() else cls((path,))

    def __str__(self) -> str:
        more = f" and {count_of(len(self.parts) - 1, 'more part')}" if len(self.parts) > 1 else ""
        return str(self.folder or self.parts[0]) + ("" if self.folder else more)

    def by_name(self) -> dict[str, Path]:
        """The files by their name, with the folder's in front if there is one."""
        if self.folder is None:
            return {path.name: path for path in self.parts}
        return {str(path.relative_to(self.folder.parent)): path for path in self.parts}


def find_table(folder: Path, stem: str) -> TableFiles:
    """The table ``<stem>.csv``, ``.parquet``, …, in a folder: one file, several parts or a folder.

    Raises:
        DataError: If there is none, or more than one.
    """
    found = tables_named(folder, stem)
    if not found:
        others = [path for path in _entries(folder) if path.name.lower().startswith(f"{stem}.")]
        for path in others:
            if path.is_symlink() and not path.exists():
                raise DataError(
                    f"{path}: expected a file; found a link to {path.readlink()}, which is not "
                    "there; mend the link or put the file there"
                )
        raise DataError(
            f"{folder}: expected a table {stem}.* ({FORMATS}); found "
            f"{', '.join(path.name for path in others) or 'none'}; "
            f"{'convert it' if others else 'put one there'}"
        )
    if len(found) > 1:
        names = sorted(Path(str(table)).name for table in found)
        raise DataError(
            f"{folder}: expected one {stem} table; found {', '.join(names)}; keep the right one "
            "and move the others away"
        )
    return found[0]


def has_table(folder: Path, stem: str) -> bool:
    """Whether a folder has a table of a name, or a file that seems to be one in another format."""
    others = any(path.name.lower().startswith(f"{stem}.") for path in _entries(folder))
    return others or bool(tables_named(folder, stem))


def only_tables(folder: Path, except_for: str | None = None) -> list[TableFiles]:
    """All tables of a folder that say by their suffix that they are one, but those of a name."""
    taken = {path for table in tables_named(folder, except_for or "") for path in table.parts}
    return [
        TableFiles((path,))
        for path in _entries(folder)
        if path.is_file() and path not in taken and _suffix(path) not in ("", ".txt", ".zip")
    ]


def tables_named(folder: Path, stem: str) -> list[TableFiles]:
    """All tables of a name in a folder."""
    found: list[TableFiles] = []
    numbered: dict[str, list[Path]] = {}
    for path in _entries(folder):
        suffix = _suffix(path)
        base = path.name.lower().removesuffix(suffix)
        if path.is_dir() and base == stem:
            if any(_files_in(path)):
                found.append(TableFiles.of(path))
        elif not (suffix and path.is_file()):
            continue
        elif base == stem:
            found.append(TableFiles((path,)))
        elif re.fullmatch(re.escape(stem) + _PART, base):
            numbered.setdefault(suffix, []).append(path)
    found += [TableFiles(tuple(sorted(parts, key=_in_order))) for parts in numbered.values()]
    return found


def read_table(
    table: Path | TableFiles,
    text_columns: Sequence[str],
    config: DatasetConfig | None = None,
    notes: Notes | None = None,
) -> pl.DataFrame:
    """Read a table whole; columns of a text table that hold numbers become numbers.

    Args:
        table: Its files.
        text_columns: As of ``scan_table``.
        config: As of ``scan_table``.
        notes: As of ``scan_table``.

    Raises:
        ConfigError: If a setting does not go with the table.
        DataError: If it cannot be read, or has no row.
    """
    files = table if isinstance(table, TableFiles) else TableFiles.of(table)
    with reading(str(files)):
        frame = _scan(files, text_columns, config, notes, is_log=False).collect()
    require_rows(frame, str(files))
    if _kind(files.parts[0]) in (*_JSON, ".parquet"):
        return frame
    others = [name for name in names_of(frame) if not (name in text_columns or may_be_text(name))]
    return frame.with_columns(_typed(frame[name]) for name in others)


def scan_table(
    table: Path | TableFiles,
    text_columns: Sequence[str],
    config: DatasetConfig | None = None,
    notes: Notes | None = None,
) -> pl.LazyFrame:
    """Scan a table: its separator, quotation, encoding and packing are recognised.

    Args:
        table: Its files.
        text_columns: Columns that stay text even if they look like numbers, so that the id ``007``
            is not the id ``7``, besides those with usual names for ids. In CSV all columns do.
        config: How tables are written, as far as it is set.
        notes: Told of what was recognised and what is left out.

    Returns:
        The columns under their own names; also ``LINE`` in text, and in a table of several parts.

    Raises:
        ConfigError: If a setting does not go with the table.
        DataError: If it cannot be read; what is wrong further down shows when rows are collected
            (under ``reading``).
    """
    files = table if isinstance(table, TableFiles) else TableFiles.of(table)
    with reading(str(files)):
        return _scan(files, text_columns, config, notes, is_log=True)


def columns_by_number(column_names: Sequence[str], *, is_log: bool) -> dict[int, str]:
    """Our names by the numbers of columns, from entries such as ``user_id=1``.

    Where a name comes again, the other table begins; the log's is the one with ``user_id``.
    """
    tables: list[dict[str, int]] = [{}]
    for entry in column_names:
        ours, _, theirs = (part.strip() for part in entry.partition("="))
        if theirs.isdecimal():
            if ours in tables[-1]:
                tables.append({})
            tables[-1][ours] = int(theirs)
    wanted = [names for names in tables if (Columns.USER in names) == is_log]
    return {number: name for names in wanted for name, number in names.items()}


def _scan(
    files: TableFiles,
    text_columns: Sequence[str],
    config: DatasetConfig | None,
    notes: Notes | None,
    *,
    is_log: bool,
) -> pl.LazyFrame:
    config, notes = config or DatasetConfig(), notes or Notes()
    reader = _Reader(text_columns, config, notes, is_log)
    scans = []
    for part in files.parts:
        scan = reader.scan(part)
        scans.append(scan.with_columns(_from_folders(part, files.folder, scan)))
    return scans[0] if len(scans) == 1 else _joined(files, scans, notes)


@dataclass(frozen=True)
class _Reader:
    """Reads files of one table."""

    text_columns: Sequence[str]
    config: DatasetConfig
    notes: Notes
    is_log: bool

    def scan(self, path: Path, shown: str = "") -> pl.LazyFrame:
        """The rows of a file, which messages call ``shown``."""
        kind, shown = _kind(path), shown or str(path)
        if kind == ".parquet":
            return pl.scan_parquet(path, glob=False)
        layout = self._layout(kind)
        if kind == ".xlsx":
            stem = "interactions" if self.is_log else "items"
            return read_sheet(path, stem, layout, self.notes).lazy()
        if kind == _ZIP:
            return self.scan(unpack(path), shown)
        file = TextFile(path, shown)
        if kind in _JSON:
            key = "" if self.is_log else Columns.ITEM
            return scan_json(file, self.is_text, key, self.config, self.notes, is_log=self.is_log)
        return scan_delimited(file, layout, self.config, self.notes)

    def is_text(self, name: str) -> bool:
        """Whether the numbers of a column are read as text."""
        return name in self.text_columns or may_be_text(name)

    def _layout(self, kind: str) -> Layout:
        theirs = [entry.partition("=")[2].strip() for entry in self.config.column_names]
        named = [name for name in theirs if not name.isdecimal()]
        return Layout(
            known=frozenset((*_KNOWN, *named)),
            separator=_SEPARATORS.get(kind, ""),
            numbers=columns_by_number(self.config.column_names, is_log=self.is_log),
        )


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_", "~")))


def _suffix(path: Path) -> str:
    """The suffix by which a table is known, in lower case; empty if there is none."""
    name = path.name.lower()
    return max((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len, default="")


def _kind(path: Path) -> str:
    """What reads a file: its bytes say if it is packed or binary, else its name does."""
    with path.open("rb") as opened:
        start = opened.read(8)
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return ".xlsx" if "xl/workbook.xml" in archive.namelist() else _ZIP
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError(
            f"{path}: expected a table; found an Excel file of before 2007; save it as .xlsx or CSV"
        )
    if start.startswith(b"PAR1"):
        return ".parquet"
    suffix = _suffix(path)
    for packed in _PACKED[1:]:
        suffix = suffix.removesuffix(packed)
    return suffix or ".txt"


def _files_in(folder: Path) -> Iterator[Path]:
    """The files below a folder that belong to a table: no marks such as ``_SUCCESS``."""
    for path in _entries(folder):
        if path.is_dir():
            yield from _files_in(path)
        elif _suffix(path) or ("." not in path.name and path.name.startswith("part-")):
            yield path


def _parts_of(folder: Path) -> tuple[Path, ...]:
    parts = sorted(_files_in(folder), key=_in_order)
    if not parts:
        raise DataError(
            f"{folder}: expected parts of a table ({FORMATS}); found none; export it again"
        )
    for part in parts:
        if _suffix(part) != _suffix(parts[0]):
            raise DataError(
                f"{folder}: expected parts of one format; found {parts[0].relative_to(folder)} "
                f"and {part.relative_to(folder)}; keep those of one export"
            )
    return tuple(parts)


def _in_order(path: Path) -> list[tuple[int, str]]:
    """Sorts names by the numbers in them, part 2 before part 10."""
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def _from_folders(part: Path, folder: Path | None, scan: pl.LazyFrame) -> list[pl.Expr]:
    """Columns that stand in the names of folders, such as ``country=DE``."""
    if folder is None:
        return []
    names = set(scan.collect_schema().names())
    pairs = [name.partition("=") for name in part.relative_to(folder).parts[:-1]]
    return [
        pl.lit(None if value == _NO_VALUE else unquote(value), pl.String).alias(name)
        for name, equals, value in pairs
        if equals and name not in names
    ]


def _joined(files: TableFiles, scans: Sequence[pl.LazyFrame], notes: Notes) -> pl.LazyFrame:
    """The rows of all parts; ``notes`` is told how they are numbered.

    Raises:
        DataError: If a part has other columns than the first, or values of another kind.
    """
    scans, notes.parts[str(files)] = join_parts(scans, files.by_name())
    schemas = [scan.collect_schema() for scan in scans]
    is_sparse = _kind(files.parts[0]) in _JSON  # an object leaves out what it does not have
    for part, schema in zip(files.parts, schemas, strict=True):
        if set(schema) != set(schemas[0]) and not is_sparse:
            missing = [name for name in schemas[0] if name not in schema]
            extra = [name for name in schema if name not in schemas[0]]
            found = [f"without {', '.join(missing)}"] * bool(missing)
            found += [f"with {', '.join(extra)}"] * bool(extra)
            raise DataError(
                f"{part}: expected the columns of {files.parts[0]}; found a part "
                f"{' and '.join(found)}; give all parts the same columns"
            )
    texts = _mixed_columns(files, schemas)
    present = [[name for name in texts if name in schema] for schema in schemas]
    scans = [
        scan.with_columns(pl.col(names).cast(pl.String)) if names else scan
        for scan, names in zip(scans, present, strict=True)
    ]
    return pl.concat(scans, how="diagonal_relaxed")


def _mixed_columns(files: TableFiles, schemas: Sequence[Mapping[str, pl.DataType]]) -> list[str]:
    """Columns that are text in one part and numbers in another.

    Raises:
        DataError: If a column holds lists or objects in one part only.
    """
    mixed = []
    for name in dict.fromkeys(name for schema in schemas for name in schema):
        types = {schema[name] for schema in schemas if schema.get(name, pl.Null) != pl.Null}
        if len(types) < 2 or all(dtype.is_numeric() for dtype in types):
            continue
        if any(dtype.is_nested() for dtype in types):
            of_parts = [
                (part, schema[name])
                for part, schema in zip(files.parts, schemas, strict=True)
                if schema.get(name, pl.Null) != pl.Null
            ]
            part, dtype = of_parts[0]
            other, found = next(
                (other, found)
                for other, found in of_parts
                if found != dtype and (found.is_nested() or dtype.is_nested())
            )
            raise DataError(
                f"{other}, column {name}: expected {dtype} as in {part}; found {found}; export all "
                "parts alike"
            )
        mixed.append(name)
    return mixed


def _typed(values: pl.Series) -> pl.Series:
    """Numbers, if all texts are numbers that keep their digits; true and false; else the texts."""
    if values.dtype != pl.String:
        return values
    texts = values.str.strip_chars().drop_nulls()
    texts = texts.filter(texts != "")
    if texts.is_empty():
        return values
    if texts.is_in(["true", "false"]).all():
        return values.str.strip_chars() == "true"
    if not texts.str.contains(_NUMBER).all() or texts.str.contains(r"^[-+]?0\d|\d{16}").any():
        return values
    is_whole = not texts.str.contains(r"[.eE]").any()
    return values.str.strip_chars().replace("", None).cast(pl.Int64 if is_whole else pl.Float64)
