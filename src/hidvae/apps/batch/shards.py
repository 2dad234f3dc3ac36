"""Folders of Parquet shards: listed and checked before the work, written whole or not at all.

An output shard holds, in the metadata of its file, what it was made from. So a job that was
stopped, and is started again, makes what is missing or out of date and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from hidvae.data.tables import nearest, reading
from hidvae.errors import ArtifactError, ConfigError, DataError
from hidvae.store.files import atomic_write

_KEY = "hidvae"
"""Key of the record in a file's metadata."""
UNFINISHED = ".writing"
"""End of the names of hidden files that a killed job may leave behind."""


def list_shards(folder: Path) -> list[str]:
    """Names of the Parquet files of a folder, sorted; its subfolders are not read.

    Raises:
        DataError: If there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of .parquet files; found no such folder")
    names = _shard_names(folder)
    if not names:
        raise DataError(
            f"{folder}: expected .parquet files; found none; write the table as one or more shards"
        )
    return names


def check_output(output: Path, input: Path, shards: Sequence[str]) -> None:
    """Check that an output folder can hold the results of these shards and nothing else.

    Raises:
        ConfigError: If it is the input folder.
        DataError: If it is a file, or holds shards that the input lacks.
    """
    if output.resolve() == input.resolve():
        raise ConfigError(
            f"--output: expected a folder other than --input; found {output} for both"
        )
    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: expected a folder; found a file; choose another --output")
    others = sorted(set(_shard_names(output)) - set(shards))
    if others:
        raise DataError(
            f"{output}: expected only shards with names from {input}; found {others[0]!r} "
            f"({len(others)} like it); delete it or choose another --output"
        )


def make_output(output: Path) -> None:
    """Make an output folder, or remove what a killed job left half-written in it.

    Raises:
        ArtifactError: If it cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        for unfinished in output.glob(f".*{UNFINISHED}"):
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise _not_written(output, error) from error


def check_columns(path: Path, columns: Mapping[str, str]) -> None:
    """Check names and types of a shard's columns, by its schema alone.

    Args:
        path: The shard.
        columns: By name the kind that is needed: "id", "ids" (lists of them) or "vector".

    Raises:
        DataError: If the file is no Parquet, lacks a column, or has one of another kind.
    """
    with reading(path):
        schema = pl.scan_parquet(path, glob=False).collect_schema()
    for name, kind in columns.items():
        if name not in schema:
            near = nearest(name, schema)
            raise DataError(
                f"{path}: expected the columns {', '.join(columns)}; missing {name}; found "
                f"{', '.join(schema) or 'none'}; "
                + (f"rename {near!r} to {name!r}" if near else "add it")
            )
        is_right, expected = _KINDS[kind]
        if not is_right(schema[name]):
            raise DataError(
                f"{path}, column {name}: expected {expected}; found {schema[name]}; "
                "convert the column"
            )


def read_shard(path: Path) -> pl.DataFrame:
    """All rows of a shard.

    Raises:
        DataError: If it cannot be read.
    """
    with reading(path):
        return pl.read_parquet(path, glob=False)


def write_shard(frame: pl.DataFrame, path: Path, record: Mapping[str, Any]) -> None:
    """Write a shard under a temporary name, and rename it when it is complete.

    Args:
        frame: Its rows.
        path: Where to; a shard of that name is replaced.
        record: JSON values that ``read_record`` gives back.

    Raises:
        ArtifactError: If the disk is full or the file cannot be written; nothing is left behind.
    """
    # Under a name of its own: where a cluster lost sight of a worker, two may write the same shard.
    try:
        with atomic_write(path) as unfinished:
            frame.write_parquet(unfinished, metadata={_KEY: json.dumps(record)})
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _not_written(path, error) from error


def read_record(path: Path) -> dict[str, Any] | None:
    """What ``write_shard`` noted in a shard; None if there is none of ours."""
    try:
        record = json.loads(pl.read_parquet_metadata(path)[_KEY])
    except (OSError, KeyError, ValueError, pl.exceptions.PolarsError):
        return None
    return record if isinstance(record, dict) else None


def _shard_names(folder: Path) -> list[str]:
    found = (path.name for path in folder.glob("*.parquet") if path.is_file())
    return sorted(name for name in found if not name.startswith("."))


def _not_written(path: Path, error: Exception) -> ArtifactError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return ArtifactError(
        f"could not write {path}: {reason}; free some space or choose another --output, then run "
        "the same command again (finished shards stay)"
    )


def _is_id(dtype: Any) -> bool:
    return dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum)


def _are_ids(dtype: Any) -> bool:
    if not isinstance(dtype, pl.List | pl.Array):
        return False
    return dtype.inner == pl.Null or _is_id(dtype.inner)  # Null: every list of the shard is empty


def _is_vector(dtype: Any) -> bool:
    return isinstance(dtype, pl.List | pl.Array) and dtype.inner.is_numeric()


_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_is_id, "text or whole numbers"),
    "ids": (_are_ids, "lists of item ids (text or whole numbers)"),
    "vector": (_is_vector, "lists of numbers"),
}
