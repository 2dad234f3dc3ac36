"""The contract of a user's tables: column names, and the checks where a table enters.

``interactions``: ``user_id``, ``item_id``, and optionally ``timestamp`` (a number) or ``position``
(a whole number). ``items``: ``item_id`` and optionally ``categories`` (root first), ``title``,
``brand``, ``price``, ``description``, ``keywords``, ``text``, ``image``; further columns are kept
as they are.

A check calls ``report`` for each rule that is broken: by default it raises the first one, and
``hidvae.data.check`` takes note of them all.
"""

from __future__ import annotations

import polars as pl

from hidvae.data.tables import MAX_SHOWN, BadRows, Report, refuse, require_columns
from hidvae.data.text import blank_to_null, clean_text, parse_categories
from hidvae.errors import DataError


class Columns:
    """Names of the columns that the package knows."""

    USER = "user_id"
    ITEM = "item_id"
    POSITION = "position"
    TIMESTAMP = "timestamp"
    TEXT = "text"
    CATEGORIES = "categories"
    TITLE = "title"
    KEYWORDS = "keywords"
    BRAND = "brand"
    PRICE = "price"
    DESCRIPTION = "description"
    IMAGE = "image"


TEXT_COLUMNS = (
    Columns.TITLE,
    Columns.KEYWORDS,
    Columns.BRAND,
    Columns.DESCRIPTION,
    Columns.TEXT,
)
"""Columns of items that hold text; entities in them are decoded."""

EVENT_COLUMNS = (Columns.USER, Columns.ITEM, Columns.TIMESTAMP, Columns.POSITION)
"""Columns of a log that are used; an id is needed, the others order the events."""

_FILL_IN, _CONVERT = "fill it in or remove the row", "convert the column or remove the row"
_NEEDED = {
    Columns.USER: ("a user id", _FILL_IN),
    Columns.ITEM: ("an item id", _FILL_IN),
    Columns.TIMESTAMP: ("a number, such as seconds since 1970", _CONVERT),
    Columns.POSITION: ("a whole number", _CONVERT),
}
"""What must stand in every row of a column, and what to do where it does not."""


def check_items(raw: pl.DataFrame, file: str, report: Report = refuse) -> pl.DataFrame:
    """An items table that keeps the contract.

    Args:
        raw: The table as it was read.
        file: Where it came from, for messages.
        report: What to do about a broken rule; where it returns, the result is only as good as
            the table.

    Returns:
        ``item_id`` (String, unique), ``categories`` (List[String], null where unknown), then the
        other columns; text with entities decoded and blanks null. Rows keep their order.

    Raises:
        DataError: A column is missing, an id is empty or repeated, a path is malformed.
    """
    require_columns(raw, [Columns.ITEM], file, report)
    ids = _ids(raw, [Columns.ITEM], file, report)
    for values in ids:
        is_repeated = values.is_duplicated() & values.is_not_null()
        once = ("each item once", "keep one row per item")
        _report_rows(is_repeated, raw[Columns.ITEM], once, file, report)
    _report_empty(ids, raw, file, report)
    if Columns.CATEGORIES in raw.columns:
        categories = parse_categories(raw[Columns.CATEGORIES], file, report)
    else:
        categories = pl.Series(Columns.CATEGORIES, [None] * raw.height, dtype=pl.List(pl.String))
    others = [
        _clean_other(raw[column])
        for column in raw.columns
        if column not in (Columns.ITEM, Columns.CATEGORIES)
    ]
    return pl.DataFrame([*ids, categories, *others])


def check_events(
    raw: pl.DataFrame, file: str, first_row: int = 1, report: Report = refuse
) -> pl.DataFrame:
    """A batch of a log that keeps the contract, in the order of the file.

    Args:
        raw: The rows as they were read.
        file: Where they came from, for messages.
        first_row: Row of the file that the batch starts with.
        report: What to do about a broken rule; where it returns, the result is only as good as
            the log.

    Returns:
        ``user_id`` and ``item_id`` (String), then ``timestamp`` (Int64, or Float64 where some are
        fractions) and ``position`` (Int64) as far as they are there.

    Raises:
        DataError: A column is missing, an id is empty, a timestamp or position is no number.
    """
    ids = [Columns.USER, Columns.ITEM]
    require_columns(raw, ids, file, report)
    columns = _ids(raw, ids, file, report)
    columns += [
        _numbers(raw[name], whole=name == Columns.POSITION)
        for name in (Columns.TIMESTAMP, Columns.POSITION)
        if name in raw.columns
    ]
    _report_empty(columns, raw, file, report, first_row)
    return pl.DataFrame(columns)


def _ids(raw: pl.DataFrame, names: list[str], file: str, report: Report) -> list[pl.Series]:
    """Ids as text, outer white space removed; a whole float such as 7.0 is the id 7."""
    columns = []
    for values in (raw[name] for name in names if name in raw.columns):
        if values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object):
            report(
                DataError(
                    f"{file}, column {values.name}: expected text or whole numbers; found "
                    f"{values.dtype}; export the ids as text"
                )
            )
            continue
        text = values.cast(pl.String)
        if values.dtype.is_float():
            values = values.fill_nan(None)
            whole = values.cast(pl.Int64, strict=False)
            is_whole = whole.cast(values.dtype) == values
            text = whole.cast(pl.String).zip_with(is_whole, values.cast(pl.String))
        columns.append(blank_to_null(text))
    return columns


def _numbers(values: pl.Series, *, whole: bool) -> pl.Series:
    """Numbers that order events; null where a value is none. Dates count as numbers."""
    dtype = values.dtype
    if dtype.is_temporal():
        return values.to_physical()
    if not (dtype.is_numeric() or dtype == pl.String):
        return pl.Series(values.name, [None] * values.len(), dtype=pl.Int64)
    if dtype == pl.String:
        values = values.str.strip_chars()
    integers = values.cast(pl.Int64, strict=False)  # exact, where floats would merge nanoseconds
    floats = values.cast(pl.Float64, strict=False)
    floats = floats.set(~floats.is_finite(), None)
    is_whole = integers.is_not_null() & (integers.cast(pl.Float64) == floats)
    if whole:
        rounded = floats.cast(pl.Int64, strict=False)
        return rounded.set(rounded.cast(pl.Float64) != floats, None)
    return integers if bool((is_whole | floats.is_null()).all()) else floats


def _clean_other(values: pl.Series) -> pl.Series:
    if values.name in TEXT_COLUMNS and not values.dtype.is_nested():
        return clean_text(values)
    if values.dtype == pl.String:
        return blank_to_null(values)
    if values.dtype == pl.Null:
        return values.cast(pl.String)
    return values


def _report_empty(
    columns: list[pl.Series], raw: pl.DataFrame, file: str, report: Report, first_row: int = 1
) -> None:
    """Report the columns that are null where something is needed."""
    for values in columns:
        rule = _NEEDED[values.name]
        _report_rows(values.is_null(), raw[values.name], rule, file, report, first_row)


def _report_rows(
    is_bad: pl.Series,
    raw: pl.Series,
    rule: tuple[str, str],
    file: str,
    report: Report,
    first_row: int = 1,
) -> None:
    """Report the rows of a mask, if there are any, with the values as found."""
    rows = is_bad.arg_true()
    if rows.is_empty():
        return
    shown = rows.head(MAX_SHOWN)
    expected, advice = rule
    report(
        BadRows(
            file=file,
            column=raw.name,
            expected=expected,
            rows=(shown.cast(pl.Int64) + first_row).to_list(),
            values=raw.gather(shown).to_list(),
            count=rows.len(),
            advice=advice,
        )
    )
