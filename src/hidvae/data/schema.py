"""The contract of a user's tables: column names, and the checks where a table enters.

``interactions``: ``user_id``, ``item_id``, and optionally ``timestamp`` (a number or a date, see
``hidvae.data.times``) or ``position`` (a whole number).
``items``: ``item_id`` and optionally ``categories`` (root first), ``title``,
``brand``, ``price``, ``description``, ``keywords``, ``text``, ``image``; further columns are kept
as they are.

A check tells ``Notes`` of each rule that is broken, which raises the first or takes note of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from hidvae.data.categories import parse_categories
from hidvae.data.ids import drops_zero, ids_as_text, is_no_id
from hidvae.data.notes import MAX_BROKEN_SHARE, MAX_SHOWN, BadRows, Notes, count_of
from hidvae.data.other_columns import plain_column
from hidvae.data.tables import LINE, reading, require_columns
from hidvae.data.times import TimeForm, find_time_form, read_numbers


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

_JOINTS = {**dict.fromkeys(TEXT_COLUMNS, " "), Columns.KEYWORDS: ", "}
"""Text columns, and what joins the texts of a list in them."""

EVENT_COLUMNS = (Columns.USER, Columns.ITEM, Columns.TIMESTAMP, Columns.POSITION)
"""Columns of a log that are used; an id is needed, the others order the events."""

ROW = "row"
"""Column of checked events: the row or line of the file that each stood in."""

_FILL_IN, _CONVERT = "fill it in or remove the row", "convert the column or remove the row"
_NEEDED = {
    Columns.USER: ("a user id", _FILL_IN, "without a user id"),
    Columns.ITEM: ("an item id", _FILL_IN, "without an item id"),
    Columns.TIMESTAMP: (
        "a time: a number or a date",
        f"{_CONVERT}, or set DatasetConfig.time_format",
        "without a time",
    ),
    Columns.POSITION: ("a whole number", _CONVERT, "without a position"),
}
"""What every row of a column must hold, what to do where it does not, and what such rows are."""
_NO_WORD = {
    Columns.USER: ("a user id that names one", _FILL_IN, "of guests, such as NA or null,"),
    Columns.ITEM: ("an item id that names one", _FILL_IN, "of no item, such as NA or null,"),
}
"""The same for words that stand for no id."""


@dataclass(frozen=True)
class LogForm:
    """What holds for a whole column of a log, whichever batch of it is read."""

    times: TimeForm | None = None
    """Of ``timestamp``; None if there is none."""
    drop_zero: frozenset[str] = frozenset()
    """Columns of ids in which text such as 27.0 is the number 27."""


def find_log_form(log: pl.LazyFrame, file: str, time_format: str, notes: Notes) -> LogForm:
    """Look at the columns of a log before it is read in batches.

    Args:
        log: Under our column names.
        file: Where it came from, for messages.
        time_format: ``DatasetConfig.time_format``.
        notes: Told what was recognised.

    Raises:
        ConfigError: If the format is none.
        DataError: If the form of the times cannot be known.
    """
    names, times = log.collect_schema().names(), None
    if Columns.TIMESTAMP in names and not _is_empty(log, Columns.TIMESTAMP, file, notes):
        times = find_time_form(log, Columns.TIMESTAMP, file, time_format, notes)
    ids = [name for name in (Columns.USER, Columns.ITEM) if name in names]
    return LogForm(times, frozenset(name for name in ids if drops_zero(log, name, file, notes)))


def _is_empty(log: pl.LazyFrame, column: str, file: str, notes: Notes) -> bool:
    """Whether a column holds nothing at all, which is said."""
    is_there = pl.col(column).is_not_null()
    if log.collect_schema()[column] == pl.String:
        is_there &= pl.col(column).str.strip_chars() != ""
    with reading(file):
        found = log.select(column).filter(is_there).head(1).collect(engine="streaming")
    if found.height:
        return False
    notes.decide(
        f"{file}: column {column} is empty and orders nothing", "DatasetConfig.column_names"
    )
    return True


def check_items(
    raw: pl.DataFrame, file: str, notes: Notes | None = None, *, category_separator: str = ""
) -> pl.DataFrame:
    """An items table that keeps the contract.

    Args:
        raw: The table as it was read.
        file: Where it came from, for messages.
        notes: Told of rows that are left out and of broken rules; where it does not raise, the
            result is only as good as the table.
        category_separator: ``DatasetConfig.category_separator``; empty recognises it.

    Returns:
        ``item_id`` (String, unique), ``categories`` (List[String], null where unknown), then the
        other columns: text with entities decoded, lists of texts joined and blanks null, numbers
        finite, objects as JSON. Rows keep their order; those without an id, and all but the first
        of an id, are left out.

    Raises:
        DataError: A column is missing, or ids or categories can be none; with ``strict`` also if
            an id is empty or repeated, or a path has an empty label.
    """
    notes = notes or Notes()
    require_columns(raw, [Columns.ITEM], file, notes)
    ids = []
    if Columns.ITEM in raw.columns:
        drop_zero = drops_zero(raw.lazy(), Columns.ITEM, file, notes)
        found = ids_as_text(raw, Columns.ITEM, file, notes, 1, drop_zero=drop_zero)
        ids = [] if found is None else [found]
    if ids:
        is_left_out = _leave_out_empty(ids, raw, file, notes)
        is_repeated = ~ids[0].is_first_distinct() & ~is_left_out
        rule = ("each item once", "keep one row per item", "repeating an item")
        differs = is_repeated & _differs_from_first(ids[0], raw)
        _leave_out(is_repeated if notes.strict else differs, raw, Columns.ITEM, rule, file, notes)
        is_kept = ~(is_left_out | is_repeated)
        raw, ids = raw.filter(is_kept), [ids[0].filter(is_kept)]
    if Columns.CATEGORIES in raw.columns:
        lines = raw[LINE] if LINE in raw.columns else None
        categories = parse_categories(
            raw[Columns.CATEGORIES], file, notes, separator=category_separator, lines=lines
        )
    else:
        categories = pl.Series(Columns.CATEGORIES, [None] * raw.height, dtype=pl.List(pl.String))
    others = [
        plain_column(raw[column], file, notes, _JOINTS.get(column))
        for column in raw.columns
        if column not in (Columns.ITEM, Columns.CATEGORIES, LINE)
    ]
    items = pl.DataFrame([*ids, categories, *(each for each in others if each is not None)])
    _say_what_lacks(items, file, notes)
    return items


def _say_what_lacks(items: pl.DataFrame, file: str, notes: Notes) -> None:
    """Count the items without a path or text, where others have one."""
    num_without = items[Columns.CATEGORIES].null_count()
    if 0 < num_without < items.height:
        notes.decide(
            f"{file}: {num_without:,} of {count_of(items.height, 'item')} have no category path, "
            "and no tags",
            "TagConfig.fill_missing=none",
        )
    columns = [name for name in TEXT_COLUMNS if name in items.columns]
    if columns:
        num_without = int(items.select(pl.all_horizontal(pl.col(columns).is_null()).sum()).item())
        if 0 < num_without < items.height:
            notes.decide(
                f"{file}: {num_without:,} of {count_of(items.height, 'item')} have no text in "
                f"{', '.join(columns)}",
                "EmbeddingConfig.text_columns",
            )


def check_events(
    raw: pl.DataFrame,
    file: str,
    first_row: int = 1,
    notes: Notes | None = None,
    form: LogForm | None = None,
) -> pl.DataFrame:
    """The rows of a batch of a log that can be used, in the order of the file.

    Args:
        raw: The rows as they were read.
        file: Where they came from, for messages.
        first_row: Row of the table that the batch starts with.
        notes: Told of rows that are left out and of broken rules; where it does not raise, the
            result is only as good as the log.
        form: Of the whole log; None takes the batch for the whole.

    Returns:
        ``user_id`` and ``item_id`` (String), then ``timestamp`` (Int64, or Float64 where some are
        fractions) and ``position`` (Int64) as far as they are there, and ``row`` (Int64), where it
        stood: the line of a text file, else the row.

    Raises:
        DataError: A column is missing; with ``strict`` also if an id is empty, or a timestamp or
            position is no number.
    """
    notes = notes or Notes()
    ids = [Columns.USER, Columns.ITEM]
    require_columns(raw, ids, file, notes)
    form = form or find_log_form(raw.lazy(), file, "", notes)
    found = [
        ids_as_text(raw, name, file, notes, first_row, drop_zero=name in form.drop_zero)
        for name in ids
        if name in raw.columns
    ]
    columns = [values for values in found if values is not None]
    if form.times and Columns.TIMESTAMP in raw.columns:
        columns.append(form.times.read(raw[Columns.TIMESTAMP]))
    if Columns.POSITION in raw.columns:
        columns.append(_whole_numbers(raw[Columns.POSITION]))
    is_left_out = _leave_out_empty(columns, raw, file, notes, first_row)
    return pl.DataFrame([*columns, _rows(raw, first_row)]).filter(~is_left_out)


def _whole_numbers(values: pl.Series) -> pl.Series:
    """Whole numbers, as such or as text; null where a value is none."""
    floats = read_numbers(values).cast(pl.Float64)
    rounded = floats.cast(pl.Int64, strict=False)
    return rounded.set(rounded.cast(pl.Float64) != floats, None)


def _differs_from_first(ids: pl.Series, raw: pl.DataFrame) -> pl.Series:
    """(N,) whether a row holds anything else than the first row of its id."""
    others = [name for name in raw.columns if name not in (Columns.ITEM, LINE)]
    comparable = [name for name in others if raw.schema[name] != pl.Object]
    if ids.is_unique().all() or not comparable:
        return pl.repeat(False, ids.len(), eager=True)
    rows = raw.select(comparable).hash_rows()
    return pl.DataFrame({"id": ids, "row": rows}).select(
        pl.col("row") != pl.col("row").first().over("id")
    )["row"]


def _leave_out_empty(
    columns: list[pl.Series], raw: pl.DataFrame, file: str, notes: Notes, first_row: int = 1
) -> pl.Series:
    """Which rows lack something that is needed; tells of them by column."""
    is_left_out = pl.repeat(False, raw.height, eager=True)
    for values in columns:
        is_empty, name = values.is_null(), values.name
        share = 1.0 if name in _NO_WORD else MAX_BROKEN_SHARE
        _leave_out(is_empty, raw, name, _NEEDED[name], file, notes, first_row, share)
        is_text = raw.schema[name] == pl.String or isinstance(
            raw.schema[name], (pl.Categorical, pl.Enum)
        )
        if name in _NO_WORD and is_text:
            is_word = is_no_id(values)
            _leave_out(is_word, raw, name, _NO_WORD[name], file, notes, first_row)
            is_empty |= is_word
        is_left_out |= is_empty
    return is_left_out


def _leave_out(
    is_bad: pl.Series,
    raw: pl.DataFrame,
    column: str,
    rule: tuple[str, str, str],
    file: str,
    notes: Notes,
    first_row: int = 1,
    at_most: float = 1.0,
) -> None:
    """Tell of the rows of a mask, if there are any, with the values as found."""
    rows = is_bad.arg_true()
    if rows.is_empty():
        return
    shown = rows.head(MAX_SHOWN)
    expected, advice, what = rule
    bad = BadRows(
        file=file,
        column=column,
        expected=expected,
        rows=_rows(raw, first_row).gather(shown).to_list(),
        values=raw[column].gather(shown).to_list(),
        count=rows.len(),
        advice=advice,
        place=place_of(raw),
        parts=notes.parts.get(file),
    )
    notes.leave_out(bad, what, at_most=at_most)


def _rows(raw: pl.DataFrame, first_row: int) -> pl.Series:
    """Where each row stood: its line, else its number."""
    if LINE in raw.columns:
        return raw[LINE].cast(pl.Int64).alias(ROW)
    return pl.int_range(first_row, first_row + raw.height, dtype=pl.Int64, eager=True).alias(ROW)


def place_of(raw: pl.DataFrame) -> str:
    """What a row of it is named by: its "line", else its "row"."""
    return "line" if LINE in raw.columns else "row"
