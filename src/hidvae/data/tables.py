"""Read a user's tables by their names, and say in one line what cannot be used in them.

Items are read whole; a log is scanned, so that the streaming engine can pass over more rows than
the memory holds, also in compressed files.
"""

from __future__ import annotations

import difflib
import glob
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.notes import Notes, show_value
from hidvae.errors import DataError
from hidvae.store.artifacts import Decision

_TEXT_FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson")
COMPRESSIONS = ("", ".gz", ".zst")
SUFFIXES = (
    ".parquet",
    *(kind + compression for kind in _TEXT_FORMATS for compression in COMPRESSIONS),
)
"""Formats of a table; Parquet compresses on its own."""
FORMATS = "parquet, csv, tsv, jsonl or ndjson, all but the first also with .gz or .zst"
"""The same for messages."""
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
    holds: object = None
    """What must live as long as the tables, such as a temporary folder with the log."""


def find_table(folder: Path, stem: str) -> Path:
    """The one file ``<stem>.parquet``, ``.csv``, ``.tsv``, ``.jsonl``, … in a folder.

    Raises:
        DataError: If there is none, or more than one.
    """
    found = [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
    if not found:
        others = sorted(path.name for path in folder.glob(f"{glob.escape(stem)}.*"))
        raise DataError(
            f"{folder}: expected a table {stem}.* ({FORMATS}); found "
            f"{', '.join(others) or 'none'}; {'convert it' if others else 'put one there'}"
        )
    if len(found) > 1:
        raise DataError(
            f"{folder}: expected one {stem} table; found {', '.join(path.name for path in found)}; "
            "keep the right one and move the others away"
        )
    return found[0]


def read_table(
    path: Path,
    text_columns: Sequence[str],
    config: DatasetConfig | None = None,
    notes: Notes | None = None,
) -> pl.DataFrame:
    """Read a table whole; see ``scan_table``.

    Raises:
        DataError: If it cannot be read, or has no row.
    """
    with reading(path):
        frame = scan_table(path, text_columns, config, notes).collect()
    require_rows(frame, str(path))
    return frame


def scan_table(
    path: Path,
    text_columns: Sequence[str],
    config: DatasetConfig | None = None,
    notes: Notes | None = None,
    *,
    infer: bool = True,
) -> pl.LazyFrame:
    """Scan a Parquet, CSV (comma), TSV (tab) or JSON Lines file in UTF-8.

    Args:
        path: The file; its suffix says its format. A CSV or TSV starts with a header.
        text_columns: Columns that stay text even if they look like numbers, so that the id ``007``
            is not the id ``7``. Parquet has types of its own.
        config: How tables are written; the defaults recognise it.
        notes: Told of what was recognised and what is left out.
        infer: Whether the other columns of a CSV or TSV get types, for which the file is read once
            more; else they are text.

    Raises:
        DataError: If it cannot be read; what is wrong further down shows when rows are collected
            (under ``reading``).
    """
    kind = _format(path)
    with reading(path):
        if kind == "parquet":
            return pl.scan_parquet(path, glob=False)
        if kind in ("jsonl", "ndjson"):
            pattern = glob.escape(str(path))  # there is no glob=False
            found = pl.scan_ndjson(pattern, infer_schema_length=None).collect_schema()
            plain = [c for c in text_columns if c in found and not found[c].is_nested()]
            return pl.scan_ndjson(pattern, schema={**found, **dict.fromkeys(plain, pl.String)})
        scan = pl.scan_csv(
            path,
            glob=False,
            separator="\t" if kind == "tsv" else ",",
            infer_schema=infer,
            infer_schema_length=None,
            schema_overrides=dict.fromkeys(text_columns, pl.String),
        )
        scan.collect_schema()
        return scan


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
    """Turn what Polars says about a file it cannot read into one line for the file's owner.

    Raises:
        DataError: If the body raised an error of Polars or of the operating system.
    """
    try:
        yield
    except pl.exceptions.NoDataError as error:
        raise _empty_file(file) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        path = Path(file)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if _format(path) in ("jsonl", "ndjson") and isinstance(error, pl.exceptions.ComputeError):
            if path.stat().st_size == 0:
                raise _empty_file(file) from error
            reason = _first_broken_line(path) or reason
        raise DataError(
            f"{file}: expected a readable {_FORMAT_NAMES.get(_format(path), 'table')} file; found: "
            f"{reason}; repair the file or export it again"
        ) from error


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
            f"{', '.join(first.columns) or '(none)'}; export it again"
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
        near = nearest(missing[0], frame.columns)
        hint = f"rename {near!r} to {missing[0]!r}" if near else "rename or add them"
        (notes or Notes()).refuse(
            DataError(
                f"{file}: expected columns {', '.join(columns)}; missing {', '.join(missing)}; "
                f"found {', '.join(frame.columns)}; {hint}"
            )
        )


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


_FORMAT_NAMES = {
    "parquet": "Parquet",
    "csv": "CSV",
    "tsv": "TSV",
    "jsonl": "JSON Lines",
    "ndjson": "JSON Lines",
}


def _format(path: Path) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    return name.rpartition(".")[2].lower()


def _empty_file(file: str | Path) -> DataError:
    return DataError(f"{file}: expected a header and rows; found an empty file; export it again")


def _first_broken_line(path: Path) -> str:
    """Number and start of the first line that is no JSON object; empty if there is none."""
    line = pl.col("line").str.strip_chars()
    is_object = line.str.starts_with("{") & line.str.json_path_match("$").is_not_null()
    broken = (
        pl.scan_lines(path, row_index_name="number", row_index_offset=1, glob=False)
        .filter((line != "") & ~is_object)
        .head(1)
        .collect(engine="streaming")
    )
    if broken.is_empty():
        return ""
    return f"line {broken['number'][0]} is no JSON object: {show_value(broken['line'][0])}"
