"""Read a user's table by its stem, and say in one line which of its rows cannot be used."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.errors import DataError

SUFFIXES = (".parquet", ".csv", ".tsv")
_SHOWN = 3


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


def find_table(folder: Path, stem: str) -> Path:
    """The one file ``<stem>.parquet``, ``.csv`` or ``.tsv`` in a folder.

    Raises:
        DataError: If there is none, or more than one.
    """
    names = [stem + suffix for suffix in SUFFIXES]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise DataError(f"{folder}: expected one of {', '.join(names)}; found none; put one there")
    if len(found) > 1:
        raise DataError(
            f"{folder}: expected one {stem} table; found {', '.join(path.name for path in found)}; "
            "keep the one that is meant and move the others away"
        )
    return found[0]


def read_table(path: Path, text_columns: Sequence[str]) -> pl.DataFrame:
    """Read a Parquet, CSV (comma) or TSV (tab) file with a header, in UTF-8.

    Args:
        path: The file; its suffix says its format.
        text_columns: Columns of a CSV or TSV that stay text even if they look like numbers, so
            that the id ``007`` is not the id ``7``.

    Raises:
        DataError: If it cannot be read as such, or has no row.
    """
    kind = path.suffix[1:].upper() if path.suffix != ".parquet" else "Parquet"
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path, glob=False)
        else:
            frame = pl.read_csv(
                path,
                glob=False,
                separator="\t" if path.suffix == ".tsv" else ",",
                infer_schema_length=None,
                schema_overrides=dict.fromkeys(text_columns, pl.String),
            )
    except pl.exceptions.NoDataError as error:
        raise DataError(
            f"{path}: expected a header and rows; found an empty file; export it again"
        ) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{path}: expected a readable {kind} file; found: {reason}; "
            "mend the file or export it again"
        ) from error
    if frame.is_empty():
        raise DataError(
            f"{path}: expected at least one row; found 0 rows under the columns "
            f"{', '.join(frame.columns)}; export it again"
        )
    return frame


def require_columns(frame: pl.DataFrame, columns: Sequence[str], file: str) -> None:
    """Check that the columns are there.

    Raises:
        DataError: Names the missing columns, the ones found, and the nearest of those.
    """
    missing = [column for column in columns if column not in frame.columns]
    if not missing:
        return
    lowered = {column.lower().replace(" ", "_"): column for column in frame.columns}
    near = difflib.get_close_matches(missing[0], lowered, n=1)
    hint = f"rename {lowered[near[0]]!r} to {missing[0]!r}" if near else "rename or add them"
    raise DataError(
        f"{file}: expected columns {', '.join(columns)}; missing {', '.join(missing)}; "
        f"found {', '.join(frame.columns)}; {hint}"
    )


def bad_rows(
    *,
    file: str,
    column: str,
    expected: str,
    rows: Sequence[int],
    values: Sequence[object],
    count: int,
    advice: str,
) -> DataError:
    """The error for rows that break a rule, in one line: where, what, and what to do.

    Args:
        file: Table the rows are in.
        column: Column that breaks the rule.
        expected: What the column must hold.
        rows: Data rows (the first below the header is 1); the first three are shown.
        values: What was found in ``column`` in those rows.
        count: How many rows break the rule in all.
        advice: What to do.
    """
    shown = ", ".join(
        f"row {r}: {_show(v)}" for r, v in list(zip(rows, values, strict=False))[:_SHOWN]
    )
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    noun = "row" if count == 1 else "rows"
    return DataError(
        f"{file}, column {column}: expected {expected}; "
        f"found {count} bad {noun} ({shown}{more}); {advice}"
    )


def map_distinct(
    values: pl.Series, function: Callable[[Any], Any], return_dtype: pl.DataType | type[pl.DataType]
) -> pl.Series:
    """Apply a Python function once per distinct non-null value."""
    distinct = values.drop_nulls().unique()
    results = pl.Series([function(value) for value in distinct], dtype=return_dtype)
    return values.replace_strict(distinct, results, default=None, return_dtype=return_dtype)


def _show(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
