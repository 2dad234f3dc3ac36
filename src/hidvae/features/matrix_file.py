"""Read the user's own item vectors: .npy, .safetensors or .parquet, one row per item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import safetensors
from safetensors.numpy import load_file

from hidvae.data.schema import Columns
from hidvae.errors import ConfigError, DataError

_SETTING = "EmbeddingConfig.embeddings_file"


def read_matrix_file(path: Path, item_ids: Sequence[str]) -> np.ndarray:
    """Read one vector per item and check it.

    ``.npy`` holds (N, D) numbers and ``.safetensors`` one such tensor (or several, one of them
    named ``item_embeddings``), rows in the order of the dataset's ``items.parquet``. ``.parquet``
    holds one list column, or only number columns, and may name its rows in ``item_id``: then any
    order will do, and items that the dataset does not have are passed over.

    Args:
        path: The file.
        item_ids: The N items of the catalogue, in order.

    Returns: (N, D) float32, finite.

    Raises:
        ConfigError: If the file's ending is not one of the three.
        DataError: If it cannot be read, misses items, or holds anything but finite numbers.
    """
    readers = {".npy": _read_npy, ".safetensors": _read_safetensors}
    if not path.is_file():
        raise DataError(f"{_SETTING}: {path}: no such file; check the path")
    if path.suffix == ".parquet":
        matrix = _read_parquet(path, item_ids)
    elif path.suffix in readers:
        matrix = readers[path.suffix](path)
    else:
        raise ConfigError(
            f"{_SETTING}: expected a .npy, .safetensors or .parquet file; found {path.name!r}"
        )
    return _checked(matrix, path, item_ids)


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


def _read_parquet(path: Path, item_ids: Sequence[str]) -> np.ndarray:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: cannot be read as Parquet ({reason[:200]}); write it again"
        ) from error
    if Columns.ITEM in frame.columns:
        frame = _align(frame, path, item_ids)
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


def _align(frame: pl.DataFrame, path: Path, item_ids: Sequence[str]) -> pl.DataFrame:
    """Rows in the order of the catalogue, without the id column."""
    frame = frame.with_columns(pl.col(Columns.ITEM).cast(pl.String))
    repeated = frame.filter(pl.col(Columns.ITEM).is_duplicated())
    if repeated.height:
        raise DataError(
            f"{path}: expected one row per item; found item_id {repeated[Columns.ITEM][0]!r} more "
            "than once; keep one of its rows"
        )
    wanted = pl.DataFrame({Columns.ITEM: pl.Series(list(item_ids), dtype=pl.String)})
    missing = wanted.join(frame, on=Columns.ITEM, how="anti", maintain_order="left")
    if missing.height:
        raise DataError(
            f"{path}: expected a row for each of {len(item_ids)} items; found none for item_id "
            f"{missing[Columns.ITEM][0]!r} ({missing.height} missing); add them"
        )
    return wanted.join(frame, on=Columns.ITEM, how="left", maintain_order="left").drop(Columns.ITEM)


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


def _checked(matrix: np.ndarray, path: Path, item_ids: Sequence[str]) -> np.ndarray:
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
    return numbers
