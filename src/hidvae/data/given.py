"""What a program hands over: ids, tables and whole numbers in whatever it holds them.

Ids may stand in a list, a NumPy array, a pandas or Polars Series, an Arrow array, or the column
``item_id`` of a frame; the rules are those of tables (data/schema.py): outer blanks go, a whole
float such as 7.0 is the id 7. What is missing (None, NaN, NaT, NA, a blank) cannot be known and is
left out.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
import polars as pl

from hidvae.data.schema import Columns
from hidvae.errors import ConfigError, DataError, MissingExtraError

GivenIds: TypeAlias = Any
"""Anything that ``given_ids`` takes; pandas and Arrow have no type that could be named here."""
_LARGEST_EXACT = 2**53
"""From here on a float may stand for several whole numbers."""
_CANNOT = (TypeError, ValueError, AttributeError, OverflowError)
"""What a library raises of a table that it cannot convert; Arrow's errors are among them."""
_CONVERTERS = ("to_list", "to_pylist", "tolist")
"""How Polars and pandas, Arrow, and NumPy and torch give a list of Python's own values."""


def given_ids(values: GivenIds, what: str, *, in_order: bool = True) -> list[str]:
    """Item ids as text, in order, without those that are missing.

    Args:
        values: A list or another iterable of text or whole numbers, or a frame or dict of columns
            with ``item_id``.
        what: What they are, for messages, such as "history".
        in_order: Whether their order counts, so that a set is refused.

    Raises:
        DataError: If this is no list of ids.
    """
    entries = enumerate(_entries(values, what, in_order), 1)
    return [item_id for place, value in entries if (item_id := _id(value, what, place))]


def given_id(value: object, what: str) -> str:
    """One id as text; see ``given_ids``.

    Raises:
        DataError: If this is no id.
    """
    if not (item_id := _id(value, what, None)):
        raise DataError(f"{what}: expected an item id; found {value!r}; name one item")
    return item_id


def given_lists(values: Any, what: str) -> list[Any]:
    """Several lists of ids, each for ``given_ids``, from a list, column or array of them.

    Raises:
        DataError: If this is no list.
    """
    if isinstance(values, (str, bytes, Mapping, set, frozenset)) or _is_frame(values):
        raise DataError(
            f"{what}: expected a list of lists of item ids; found {_named(values)}; give one list "
            "per user"
        )
    return _as_list(values, f"{what}: expected a list of lists of item ids")


def whole_number(value: Any, name: str) -> int:
    """A whole number of any type, NumPy's and torch's among them.

    Raises:
        ConfigError: If it is none; 2.0 and True are none.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{name}: expected a whole number; found {value!r}") from None


def frame_of(table: Any, what: str, index_names: Sequence[str] = ()) -> pl.LazyFrame:
    """A table in Polars.

    Args:
        table: A Polars or pandas frame, whatever else Polars takes as an Arrow stream, a dict of
            columns, or a list of rows (mappings from column to value).
        what: What it is, for messages.
        index_names: Columns that a pandas index may hold; another index is left out.

    Raises:
        DataError: If it is none of these, or a column holds several types.
        MissingExtraError: If a pandas frame cannot be converted without pyarrow.
    """
    if isinstance(table, (pl.DataFrame, pl.LazyFrame)):
        return table.lazy()
    try:
        return _converted(table, what, index_names).lazy()
    except ImportError as error:
        raise MissingExtraError(
            f"{what}: a pandas frame needs the package pyarrow; `pip install pyarrow`, or give a "
            "Polars frame or the name of a file"
        ) from error
    except (*_CANNOT, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{what}: expected columns of one type and length each; found: {reason}; convert the "
            "column, for example with astype(str)"
        ) from error


def is_missing(value: object) -> bool:
    """Whether a value is None, NaN, NaT or pandas' NA."""
    if value is None or type(value).__name__ == "NAType":
        return True
    if isinstance(value, (Real, Decimal, np.datetime64)) or type(value).__name__ == "NaTType":
        return bool(value != value)
    return False


def _converted(table: Any, what: str, index_names: Sequence[str]) -> pl.DataFrame:
    if _is_pandas(table) and type(table).__name__ not in ("Series", "Index"):
        # from_pandas leaves the index out, which pandas would send along as a column
        levels = getattr(getattr(table, "index", None), "names", ())
        wanted = [name for name in levels if name in index_names and name not in table.columns]
        return pl.from_pandas(table.reset_index(wanted) if wanted else table)
    if isinstance(table, Mapping):
        return pl.DataFrame(
            {str(name): _column(name, values, what) for name, values in table.items()}
        )
    if isinstance(table, Sequence) and not isinstance(table, (str, bytes)):
        for row in table:
            if not isinstance(row, Mapping):
                raise DataError(
                    f"{what}: expected a mapping from column to value per row; found {row!r}"
                )
        rows = [{name: _cell(value) for name, value in row.items()} for row in table]
        return pl.DataFrame(rows, infer_schema_length=None)
    if hasattr(table, "__arrow_c_stream__") and not isinstance(table, pl.Series):
        return pl.DataFrame(table)
    raise DataError(
        f"{what}: expected a Polars or pandas frame, a dict of columns or a list of rows; found "
        f"{_named(table)}; convert it with polars.DataFrame(...)"
    )


def _column(name: object, values: Any, what: str) -> pl.Series:
    """A column of a dict; NaN between texts is missing."""
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        raise DataError(
            f"{what}, column {name}: expected a list of values; found {_named(values)}; give one "
            "value per row"
        )
    if isinstance(values, pl.Series):
        return values.alias(str(name))
    if _is_pandas(values):
        return pl.Series(str(name), pl.from_pandas(values))
    if isinstance(values, np.ndarray) and values.dtype != object:
        return pl.Series(str(name), values, nan_to_null=True)
    return pl.Series(str(name), [_cell(value) for value in _as_list(values, what)])


def _cell(value: Any) -> Any:
    """A value of a table in Python's own types."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return None if is_missing(value) else value


def _entries(values: Any, what: str, in_order: bool) -> list[Any]:
    expected = f"{what}: expected a list of item ids"
    if isinstance(values, (str, bytes)):
        raise DataError(f"{expected}; found the text {values!r}; put it into a list, [{values!r}]")
    if isinstance(values, (set, frozenset)) and in_order:
        raise DataError(f"{expected}; found a set, which has no order; give a list, oldest first")
    if isinstance(values, Mapping) or _is_frame(values):
        names = _names(values)
        if Columns.ITEM not in names:
            raise DataError(
                f"{expected}, or a table with the column {Columns.ITEM}; found {_named(values)} "
                f"with {', '.join(map(str, names[:5])) or 'no column'}; give its column of ids"
            )
        if isinstance(values, pl.LazyFrame):
            values = values.select(Columns.ITEM).collect()
        return _entries(values[Columns.ITEM], what, in_order)
    return _as_list(values, expected)


def _names(table: Any) -> list[str]:
    """Columns of a frame or dict."""
    if isinstance(table, pl.LazyFrame):
        return table.collect_schema().names()
    return list(getattr(table, "column_names", None) or getattr(table, "columns", table))


def _as_list(values: Any, expected: str) -> list[Any]:
    for name in _CONVERTERS:
        if not isinstance(values, type) and callable(convert := getattr(values, name, None)):
            values = convert()
            break
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise DataError(f"{expected}; found {_named(values)}; put it into a list")
    return list(values)


def _id(value: Any, what: str, place: int | None) -> str:
    """One id as text, empty if it is missing."""
    if isinstance(value, str):
        return str(value).strip()
    if is_missing(value):
        return ""
    if _is_number(value):
        if isinstance(value, (float, np.floating)) and value >= _LARGEST_EXACT:
            raise DataError(
                f"{what}: expected ids as text or whole numbers; found {value!r}, a float that has "
                "lost digits; give the ids as text"
            )
        return _number_text(value)
    if isinstance(value, UUID):
        return str(value)
    if callable(getattr(value, "item", None)) and getattr(value, "ndim", None) == 0:
        return _id(value.item(), what, place)  # of NumPy or torch
    at = "" if place is None else f" at place {place}"
    is_list = hasattr(value, "__iter__") and not isinstance(value, (bytes, Mapping))
    advice = "for several users use recommend_many" if is_list else "give its id as text"
    raise DataError(f"{what}: expected item ids; found {_named(value)}{at}; {advice}")


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (Real, Decimal))


def _number_text(number: Any) -> str:
    is_whole = isinstance(number, Integral) or (math.isfinite(number) and number == int(number))
    return str(int(number)) if is_whole else str(number)


def _is_frame(values: Any) -> bool:
    """Whether it has named columns: of Polars, pandas or Arrow."""
    return isinstance(values, (pl.DataFrame, pl.LazyFrame)) or (
        (hasattr(values, "columns") or hasattr(values, "column_names"))
        and hasattr(values, "__getitem__")
        and not isinstance(values, (str, list, tuple))
    )


def _is_pandas(table: Any) -> bool:
    return type(table).__module__.partition(".")[0] == "pandas"


def _named(value: object) -> str:
    """A value for a message: a short one itself, else its type."""
    text = repr(value)
    is_short = len(text) <= 40 and "\n" not in text and " at 0x" not in text
    return text if is_short else f"a {type(value).__name__}"
