"""Read the user's own item vectors: .npy, .safetensors or .parquet, one row per item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import safetensors
from safetensors.numpy import load_file

from hidvae.data.ids import ids_as_text
from hidvae.data.notes import Notes, count_of
from hidvae.data.schema import Columns
from hidvae.errors import ConfigError, DataError

_SETTING = "EmbeddingConfig.embeddings_file"


def read_matrix_file(path: Path, item_ids: Sequence[str], notes: Notes | None = None) -> np.ndarray:
    """Read one vector per item and check it.

    ``.npy`` holds (N, D) numbers and ``.safetensors`` one such tensor (or several, one of them
    named ``item_embeddings``), rows in the order of the dataset's ``items.parquet``. ``.parquet``
    holds one list column, or only number columns, and names its rows in ``item_id`` or in the one
    column whose values are the catalogue's ids: then any order will do, and items that the dataset
    does not have are passed over. Without such a column its rows are in order too; a column of
    text that names no items is refused.

    Args:
        path: The file.
        item_ids: The N items of the catalogue, in order.
        notes: Told by what the rows were matched, and of vectors of zeros.

    Returns: (N, D) float32, finite.

    Raises:
        ConfigError: If the file's ending is not one of the three.
        DataError: If it cannot be read, misses items, or holds anything but finite numbers that
            differ between items.
    """
    notes = notes or Notes()
    readers = {".npy": _read_npy, ".safetensors": _read_safetensors}
    if not path.is_file():
        raise DataError(f"{_SETTING}: {path}: no such file; check the path")
    if path.suffix == ".parquet":
        matrix = _read_parquet(path, item_ids, notes)
    elif path.suffix in readers:
        matrix = readers[path.suffix](path)
        _say_row_order(path, notes)
    else:
        raise ConfigError(
            f"{_SETTING}: expected a .npy, .safetensors or .parquet file; found {path.name!r}"
        )
    return _checked(matrix, path, item_ids, notes)


def _read_npy(path: Path) -> np.ndarray:
    try:
        matrix = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: expected a NumPy array of numbers; found a file that cannot be read as one "
            f"({reason}); save it again with numpy.save"
        ) from error
    if not isinstance(matrix, np.ndarray):  # an .npz under the name .npy
        matrix.close()
        raise DataError(f"{path}: expected one array; found an archive; save it with numpy.save")
    return matrix


def _read_safetensors(path: Path) -> np.ndarray:
    try:
        tensors = load_file(path)
    except (safetensors.SafetensorError, OSError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be read as safetensors ({error}); write it again"
        ) from error
    if len(tensors) == 1:
        matrix: np.ndarray = next(iter(tensors.values()))
        return matrix
    if "item_embeddings" not in tensors:
        raise DataError(
            f"{path}: expected one tensor, or one named item_embeddings; found "
            f"{', '.join(sorted(tensors)) or 'none'}"
        )
    return tensors["item_embeddings"]


def _say_row_order(path: Path, notes: Notes) -> None:
    notes.decide(
        f"{path}: no ids, so its rows are taken for the items of items.parquet in their order",
        _SETTING,
    )


def _read_parquet(path: Path, item_ids: Sequence[str], notes: Notes) -> np.ndarray:
    try:
        frame = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: cannot be read as Parquet ({reason[:200]}); write it again"
        ) from error
    if id_column := _id_column(frame, path, item_ids, notes):
        frame = _align(frame, id_column, path, item_ids)
    else:
        _say_row_order(path, notes)
    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List | pl.Array)]
    if len(lists) == 1:
        return _stack(frame[lists[0]], path)
    if lists or not frame.columns or not all(dtype.is_numeric() for dtype in frame.dtypes):
        described = ", ".join(f"{name} ({dtype})" for name, dtype in frame.schema.items())
        raise DataError(
            f"{path}: expected item_id and one list column, or item_id and number columns; found "
            f"{described or 'no column'}"
        )
    return frame.cast(pl.Float32).to_numpy()  # nulls become NaN, which the check names


def _id_column(frame: pl.DataFrame, path: Path, item_ids: Sequence[str], notes: Notes) -> str:
    """The column that names the items; empty if none does.

    Raises:
        DataError: If a column of text, or one called an id, is there and none names items.
    """
    if Columns.ITEM in frame.columns:
        return Columns.ITEM
    kinds = {name: dtype for name, dtype in frame.schema.items() if not dtype.is_nested()}
    text = [name for name, kind in kinds.items() if kind == pl.String or kind == pl.Categorical]
    whole = [name for name, kind in kinds.items() if kind.is_integer()]
    names = [*text, *(name for name in whole if name.lower().endswith("id"))]
    known = set(item_ids)
    shares = {
        name: len(known & set(frame[name].cast(pl.String).str.strip_chars())) / max(1, len(known))
        for name in (*text, *whole)
    }
    named = [name for name in shares if shares[name] == 1.0]
    if len(named) == 1:
        notes.decide(f"{path}: rows matched by column {named[0]}", _SETTING)
        return named[0]
    if names:
        best = max(names, key=lambda name: shares[name])
        found = (
            f"columns {', '.join(named)}, each with all ids"
            if named
            else (
                f"{best!r} with {shares[best]:.0%} of the ids, such as {frame[best][0]!r}"
                if frame.height
                else "no row"
            )
        )
        raise DataError(
            f"{path}: expected a column {Columns.ITEM} with the ids of the items, such as "
            f"{next(iter(item_ids), '')!r}; found {found}; name the column {Columns.ITEM}, or "
            "remove it if rows are in the order of items.parquet"
        )
    return ""


def _align(
    frame: pl.DataFrame, id_column: str, path: Path, item_ids: Sequence[str]
) -> pl.DataFrame:
    """Rows in the order of the catalogue, without the id column."""
    ids = ids_as_text(frame, id_column, str(path), Notes(), 1)
    frame = frame.with_columns(ids if ids is not None else pl.lit(None).alias(id_column))
    repeated = frame.filter(pl.col(id_column).is_duplicated() & pl.col(id_column).is_not_null())
    if repeated.height:
        raise DataError(
            f"{path}: expected one row per item; found {id_column} {repeated[id_column][0]!r} more "
            "than once; keep one of its rows"
        )
    wanted = pl.DataFrame({id_column: pl.Series(list(item_ids), dtype=pl.String)})
    missing = wanted.join(frame, on=id_column, how="anti", maintain_order="left")
    if missing.height:
        raise DataError(
            f"{path}: expected a row for each of {len(item_ids)} items; found none for {id_column} "
            f"{missing[id_column][0]!r} ({missing.height} missing); add them"
        )
    return wanted.join(frame, on=id_column, how="left", maintain_order="left").drop(id_column)


def _stack(column: pl.Series, path: Path) -> np.ndarray:
    """A list column as a matrix."""
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    lengths = column.list.len().fill_null(0)
    width = int(lengths[0]) if len(lengths) else 0
    odd = (lengths != width).arg_true()
    if len(odd):
        raise DataError(
            f"{path}: expected vectors of one length; found {width} numbers in row 0 and "
            f"{lengths[int(odd[0])]} in row {odd[0]} (column {column.name})"
        )
    inner = column.dtype.inner if isinstance(column.dtype, pl.List) else column.dtype
    if not inner.is_numeric():
        raise DataError(f"{path}: expected numbers in column {column.name}; found {inner}")
    numbers = column.explode().cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return numbers.reshape(len(column), width)


def _checked(matrix: np.ndarray, path: Path, item_ids: Sequence[str], notes: Notes) -> np.ndarray:
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise DataError(
            f"{path}: expected a matrix, one row per item; found an array of shape {matrix.shape}"
        )
    if matrix.dtype.kind not in "fiu":
        raise DataError(f"{path}: expected numbers; found values of type {matrix.dtype}")
    if len(matrix) != len(item_ids):
        raise DataError(
            f"{path}: expected {len(item_ids)} rows, one per item; found {len(matrix)}; write one "
            "row per item of the dataset's items.parquet, or a .parquet with an item_id column"
        )
    with np.errstate(over="ignore"):  # what overflows is found below
        numbers = matrix.astype(np.float32)
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        row, column = bad[0]
        num_rows = len(np.unique(bad[:, 0]))
        raise DataError(
            f"{path}, row {row} (from 0), item_id {item_ids[row]!r}, column {column}: expected a "
            f"finite number; found {matrix[row, column]} ({num_rows} rows in all); "
            "replace these values"
        )
    if len(numbers) > 1 and not (numbers != numbers[0]).any():
        raise DataError(
            f"{path}: expected vectors that differ between items; found the same in all "
            f"{len(numbers)} rows, so they say nothing; compute them again"
        )
    silent = np.flatnonzero(~numbers.any(axis=1))
    if silent.size:
        notes.decide(
            f"{path}: {count_of(silent.size, 'vector')} of zeros, such as that of item_id "
            f"{item_ids[silent[0]]!r}, which say nothing of the item",
            _SETTING,
        )
    return numbers
