"""Columns of items beside id and path, made plain: what every later stage reads and writes."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from hidvae.data.notes import Notes
from hidvae.data.text import blank_to_null, clean_text


def plain_column(
    values: pl.Series, file: str, notes: Notes, joint: str | None = None
) -> pl.Series | None:
    """A column of items that every later stage can read and write.

    Args:
        values: (N,), of any type.
        file: Where it came from, for messages.
        notes: Told of what is left out or kept in another form.
        joint: For a text column, what joins the texts of a list; None for another column.

    Returns:
        (N,): text of the text columns, also of lists; text, numbers, booleans, dates and lists of
        these in the others, where objects are JSON text. None if it is left out.
    """
    dtype, where = values.dtype, f"{file}, column {values.name}"
    if dtype == pl.Null:
        return values.cast(pl.String)
    if dtype == pl.Object or _holds(dtype, pl.Binary) or _is_hollow(dtype):
        kind = "empty objects" if _is_hollow(dtype) else "bytes or objects of a program"
        notes.decide(f"{where}: {kind}, left out")
        return None
    if _holds(dtype, pl.Struct):
        if joint is not None:
            notes.decide(f"{where}: the texts of its objects are joined to one")
            return clean_text(_mapped(values, lambda value: _texts_in(value, joint)))
        notes.decide(f"{where}: objects, kept as JSON text")
        return _mapped(values, lambda value: json.dumps(value, ensure_ascii=False, default=str))
    if joint is not None:
        if isinstance(dtype, (pl.List, pl.Array)):
            notes.decide(f"{where}: lists of texts are joined to one")
            return clean_text(_mapped(values, lambda value: _texts_in(value, joint)))
        text = _without_nan(values).to_frame().select(as_text(pl.col(values.name), dtype))
        return clean_text(text.to_series())
    if dtype == pl.String:
        return blank_to_null(values)
    if isinstance(dtype, pl.Array):
        values = values.arr.to_list()
    if isinstance(dtype, (pl.List, pl.Array)) or not _is_odd(dtype):
        return _without_nan(values.cast(pl.Float64) if dtype.is_decimal() else values)
    return values.to_frame().select(as_text(pl.col(values.name), dtype)).to_series()


def as_text(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Scalars as text; a duration is the number of its units, as it cannot be written."""
    return (values.to_physical() if dtype == pl.Duration else values).cast(pl.String)


def _is_odd(dtype: pl.DataType) -> bool:
    return dtype in (pl.Time, pl.Duration) or isinstance(dtype, (pl.Categorical, pl.Enum))


def _without_nan(values: pl.Series) -> pl.Series:
    """What is no finite number is missing."""
    return values.set(~values.is_finite(), None) if values.dtype.is_float() else values


def _mapped(values: pl.Series, function: Any) -> pl.Series:
    """A Python function of each value that is not null, as text."""
    made = [None if value is None else function(value) for value in values.to_list()]
    return pl.Series(values.name, made, pl.String)


def _texts_in(value: Any, joint: str) -> str:
    """All texts and numbers of nested lists and objects, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return joint.join(text for each in value if (text := _texts_in(each, joint)))
    return "" if value is None else str(value).strip()


def _holds(dtype: Any, kind: Any) -> bool:
    if isinstance(dtype, (pl.List, pl.Array)):
        return _holds(dtype.inner, kind)
    return bool(dtype == kind)


def _is_hollow(dtype: Any) -> bool:
    """Whether a type holds objects without any field, which Parquet cannot store."""
    if isinstance(dtype, (pl.List, pl.Array)):
        return _is_hollow(dtype.inner)
    return isinstance(dtype, pl.Struct) and all(_is_hollow(field.dtype) for field in dtype.fields)
