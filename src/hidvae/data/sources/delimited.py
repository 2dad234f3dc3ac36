"""Official delimited files: found plain or gzipped, scanned lazily, broken lines counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.notes import MAX_BROKEN_SHARE, BadRows, Notes, show_value
from hidvae.data.tables import SourceTables, reading, require_columns
from hidvae.errors import DataError

_EXPECTED = f"at most {MAX_BROKEN_SHARE:.0%} broken lines"
_ABSENT = "\x01"  # a separator that no text has: one column, the line


def find_file(folders: Iterable[Path], name: str) -> Path | None:
    """The file ``name`` or ``name.gz`` in the first folder that has one."""
    candidates = (folder / file for folder in folders for file in (name, f"{name}.gz"))
    return next((path for path in candidates if path.is_file()), None)


def header_of(path: Path, separator: str = ",") -> list[str]:
    """Names in the first line of a text table; none if it cannot be read."""
    try:
        rows = pl.scan_csv(
            path, glob=False, separator=separator, infer_schema=False, encoding="utf8-lossy"
        )
        return [name.strip() for name in rows.collect_schema().names()]
    except (pl.exceptions.PolarsError, OSError):
        return []


def scan_columns(
    path: Path, schema: Mapping[str, type[pl.DataType]], *, quote: str | None = None
) -> pl.LazyFrame:
    """Some columns of a file with a header and commas; a value that is not of its type is null.

    Args:
        path: A CSV file in UTF-8, plain or gzipped.
        schema: The columns and their types. Let the first be text, to tell a blank line from one
            whose columns are all of another type.
        quote: What encloses texts that hold a comma; None if none does, which keeps a stray
            quotation mark from swallowing the lines below it.

    Raises:
        DataError: If a column is missing or the file has no header.
    """
    with reading(path):
        rows = pl.scan_csv(
            path,
            glob=False,
            schema_overrides=schema,
            infer_schema=False,
            ignore_errors=True,
            truncate_ragged_lines=True,
            quote_char=quote,
            encoding="utf8-lossy",
        )
        names = rows.collect_schema().names()
    require_columns(pl.DataFrame(schema=names), list(schema), str(path))
    return rows.select(schema.keys())


def scan_lines(path: Path) -> pl.LazyFrame:
    """The lines of a text file in UTF-8, plain or gzipped, as column ``line``; blank ones null."""
    return pl.scan_csv(
        path,
        glob=False,
        separator=_ABSENT,
        quote_char=None,
        has_header=False,
        schema={"line": pl.String},
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
    )


def collect(rows: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Run a query over a file in the streaming engine.

    Raises:
        DataError: If the file cannot be read to its end.
    """
    with reading(path):
        return rows.collect(engine="streaming")


def drop_broken_lines(
    rows: pl.LazyFrame,
    is_usable: pl.Expr,
    path: Path,
    *,
    header_lines: int = 1,
    notes: Notes | None = None,
) -> tuple[pl.LazyFrame, int]:
    """Rows without blank and broken lines, and how many are broken; scans the file once.

    Args:
        rows: What was scanned from ``path``, a row per line.
        is_usable: Whether a row can be used; null counts as no.
        path: The file, for messages.
        header_lines: Lines of the file above the first row.
        notes: Told of the broken lines, if there are any.

    Raises:
        DataError: If there is no line at all, or more than 1 % of the lines are broken.
    """
    usable = is_usable.fill_null(value=False)
    is_blank = pl.all_horizontal(pl.col(rows.collect_schema().names()).is_null())
    is_broken = ~usable & ~is_blank
    numbered = rows.with_row_index("row", offset=1 + header_lines)
    first = pl.col("row").filter(is_broken).first()
    counted = collect(numbered.select(usable.sum(), broken=is_broken.sum(), first=first), path)
    num_usable, num_broken, line = counted.row(0)
    num_lines = num_usable + num_broken
    if not num_lines:
        raise DataError(f"{path}: expected rows; found an empty file; download it again")
    if num_broken:
        found = collect(scan_lines(path).slice(line - 1, 1), path).item()
        report_broken(path, num_broken, num_lines, line, found, _EXPECTED, notes)
    return rows.filter(usable), num_broken


def report_broken(
    path: Path,
    num_broken: int,
    num_lines: int,
    first: int,
    found: str,
    expected: str,
    notes: Notes | None,
) -> None:
    """Tell of broken lines of an official file, or refuse it.

    Args:
        path: The file.
        num_broken: Broken lines, at least one.
        num_lines: Lines looked at.
        first: Number of the first broken line.
        found: That line.
        expected: What the file must hold.
        notes: Told of them.

    Raises:
        DataError: If more than 1 % of the lines are broken, or, with ``strict``, any.
    """
    if num_broken > MAX_BROKEN_SHARE * num_lines:
        raise DataError(
            f"{path}: expected {expected}; found {num_broken} of {num_lines} lines broken, "
            f"first line {first}: {show_value(found)}; download the file again"
        )
    if notes is not None:
        broken = BadRows(
            file=str(path),
            column="the whole line",
            expected="a line like the others",
            rows=[first],
            values=[found],
            count=num_broken,
            advice="download the file again, or remove the line",
            place="line",
        )
        notes.leave_out(broken, "broken in the file")


def read_with_notes(config: DatasetConfig, read: Callable[[Notes], SourceTables]) -> SourceTables:
    """Tables with what was decided while they were read."""
    notes = Notes(strict=config.strict)
    tables = read(notes)
    return replace(tables, decisions=[*tables.decisions, *notes.decisions])
