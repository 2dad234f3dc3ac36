"""Read a user's tables by their names, and say in one line what cannot be used in them.

Items are read whole; a log is scanned, so that the streaming engine can pass over more rows than
the memory holds, also in compressed files.
"""

from __future__ import annotations

import difflib
import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.data.notes import Notes, Parts
from hidvae.errors import DataError
from hidvae.store.artifacts import Decision

LINE = "__line__"
"""Column of a text table's rows: the line of the file that each starts on, from 1."""


@dataclass(frozen=True, eq=False)
class SourceTables:
    """The two raw tables of a dataset, as they were found."""

    name: str
    """Name of the dataset, for people."""
    items: pl.DataFrame
    interactions: pl.LazyFrame
    """Read in batches, as the log may be larger than the memory."""
    items_file: str
    """Where ``items`` came from, for messages."""
    interactions_file: str
    """Where ``interactions`` came from, for messages."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What the source left out or mended on the way, by name; kept in the manifest."""
    decisions: Sequence[Decision] = ()
    """What the source decided about the tables, for the summary."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """What the tables hold, by table, where they were handed over and no source can say it."""
    parts: Mapping[str, Parts] = field(default_factory=dict)
    """Of a table that has several: how its rows are numbered, by its name for messages."""
    used: frozenset[str] = frozenset()
    """Settings of ``DatasetConfig`` that said how the tables are read."""
    holds: object = None
    """What must live as long as the tables, such as a temporary folder with the log."""


def read_batches(
    tables: SourceTables, rows_per_batch: int = 1_000_000
) -> Iterator[tuple[int, pl.DataFrame]]:
    """The log from first to last row, a batch at a time, with the number of its first row.

    Raises:
        DataError: If a part of the file cannot be read.
    """
    row = 1
    batches = tables.interactions.collect_batches(chunk_size=rows_per_batch, maintain_order=True)
    with reading(tables.interactions_file):
        for batch in batches:
            yield row, batch
            row += batch.height


@contextmanager
def reading(file: str | Path) -> Iterator[None]:
    """Turn what Polars and Python say about a file they cannot read into one line for its owner.

    Raises:
        DataError: If the body raised an error of Polars or of the operating system.
    """
    try:
        yield
    except pl.exceptions.NoDataError as error:
        raise empty_file(file) from error
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise DataError(
            f"{file}: expected a whole packed file; found one that is cut off or damaged; "
            "copy or export it again"
        ) from error
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{file}: expected a readable {_kind_of(file)} file; found: {reason}; repair the file "
            "or export it again"
        ) from error


def empty_file(file: str | Path) -> DataError:
    """What is wrong with a file in which nothing stands."""
    return DataError(f"{file}: expected a header and rows; found an empty file; export it again")


def require_rows(frame: pl.DataFrame | pl.LazyFrame, file: str) -> None:
    """Check that there is a row at all.

    Raises:
        DataError: If there is none; names the columns.
    """
    with reading(file):
        first = frame.lazy().head(1).collect(engine="streaming")
    if first.is_empty():
        raise DataError(
            f"{file}: expected at least one row; found 0 rows under the columns "
            f"{', '.join(names_of(first)) or '(none)'}; export it again"
        )


def require_columns(
    frame: pl.DataFrame, columns: Sequence[str], file: str, notes: Notes | None = None
) -> None:
    """Check that the columns are there.

    Raises:
        DataError: Names the missing columns, the ones found, and the nearest of those.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        near = nearest(missing[0], names_of(frame))
        hint = f"rename {near!r} to {missing[0]!r}" if near else "rename or add them"
        (notes or Notes()).refuse(
            DataError(
                f"{file}: expected columns {', '.join(columns)}; missing {', '.join(missing)}; "
                f"found {', '.join(names_of(frame))}; {hint}"
            )
        )


def join_parts(
    scans: Sequence[pl.LazyFrame], files: Mapping[str, Path]
) -> tuple[list[pl.LazyFrame], Parts]:
    """Scans of the parts of a table with ``LINE`` numbered as ``Parts`` says, ready to be joined.

    Args:
        scans: A part each; without ``LINE`` in one of them, rows are counted in all.
        files: The parts by their name for messages.
    """
    has_lines = all(LINE in scan.collect_schema() for scan in scans)
    parts = Parts(files, "line" if has_lines else "row")
    numbered = []
    for part, scan in enumerate(scans):
        rows = scan
        if not has_lines:
            rows = scan.drop(LINE, strict=False).with_row_index(LINE, offset=1)
        numbered.append(rows.with_columns(pl.col(LINE).cast(pl.Int64) + part * parts.ROWS))
    return numbered, parts


def names_of(frame: pl.DataFrame | pl.LazyFrame) -> list[str]:
    """The columns that stand in the file."""
    return [name for name in frame.lazy().collect_schema().names() if name != LINE]


def nearest(name: str, names: Iterable[str]) -> str:
    """The name most like a mistyped one, whatever its case and separators; empty if none is."""
    plain = {each.lower().replace(" ", "_").replace("-", "_"): each for each in names}
    close = difflib.get_close_matches(name.lower(), plain, n=1)
    return plain[close[0]] if close else ""


def map_distinct(
    values: pl.Series, function: Callable[[Any], Any], return_dtype: pl.DataType | type[pl.DataType]
) -> pl.Series:
    """Apply a Python function once per distinct non-null value."""
    distinct = values.drop_nulls().unique()
    results = pl.Series([function(value) for value in distinct], dtype=return_dtype)
    return values.replace_strict(distinct, results, default=None, return_dtype=return_dtype)


_KINDS = {
    "parquet": "Parquet",
    "csv": "CSV",
    "tsv": "TSV",
    "jsonl": "JSON Lines",
    "ndjson": "JSON Lines",
    "json": "JSON",
    "xlsx": "Excel",
}


def _kind_of(file: str | Path) -> str:
    """The format that a file's name says, for messages."""
    parts = Path(file).name.lower().split(".")
    return next((_KINDS[part] for part in reversed(parts) if part in _KINDS), "table")
