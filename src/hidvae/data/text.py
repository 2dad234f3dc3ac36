"""Clean text and category paths: entities decoded, blanks null, one list of labels per item."""

from __future__ import annotations

import html

import polars as pl

from hidvae.data.notes import MAX_SHOWN, BadRows, Notes
from hidvae.data.tables import map_distinct
from hidvae.errors import DataError

_SEPARATOR = "\x1f"
_NO_GAPS = ("no empty label before a path's last one", "name the label or cut the path there")
_PATH_TEXT = (
    "a path such as 'A > B > C'",
    "join the labels with >, or keep lists in Parquet or JSON Lines",
)


def decode_entities(text: str) -> str:
    """Decode HTML entities until none is left: public data often encodes them twice.

    >>> decode_entities("Shea &amp;amp; Cocoa")
    'Shea & Cocoa'
    """
    while (decoded := html.unescape(text)) != text:
        text = decoded
    return text


def clean_text(values: pl.Series) -> pl.Series:
    """Text with entities decoded and outer white space removed; blank text becomes null.

    Args:
        values: (N,), any type that can be written as text.
    """
    text = values.cast(pl.String)
    encoded = text.str.contains("&", literal=True).fill_null(value=False)
    if encoded.any():
        decoded = map_distinct(text.filter(encoded), decode_entities, pl.String)
        text = text.scatter(encoded.arg_true(), decoded)
    return blank_to_null(text)


def blank_to_null(text: pl.Series) -> pl.Series:
    """Outer white space removed; what is then empty becomes null."""
    stripped = text.str.strip_chars()
    return stripped.set(stripped == "", None)


def parse_categories(values: pl.Series, file: str, notes: Notes | None = None) -> pl.Series:
    """Category paths as lists of clean labels, root first; null where there is none.

    Args:
        values: (N,), a list of labels each, or text such as ``A > B > C`` or ``A|B|C``.
        file: Table they come from, for messages.
        notes: Told of broken rules; where it does not raise, bad paths are null or cut.

    Raises:
        DataError: If the column holds neither, or a label inside a path is empty.
    """
    notes = notes or Notes()
    dtype = values.dtype
    if dtype == pl.Null:
        return values.cast(pl.List(pl.String))
    if dtype == pl.String or isinstance(dtype, (pl.Categorical, pl.Enum)):
        text = blank_to_null(values.cast(pl.String))
        is_list = text.str.contains(r"^\[.*\]$").fill_null(value=False)
        _report_paths(is_list.arg_true(), values, file, notes, _PATH_TEXT)
        paths = text.str.replace_all(r"\s*[>|]\s*", _SEPARATOR).str.split(_SEPARATOR)
    elif isinstance(dtype, (pl.List, pl.Array)) and not dtype.inner.is_nested():
        paths = values.cast(pl.List(pl.String))
    else:
        notes.refuse(
            DataError(
                f"{file}, column {values.name}: expected a list of labels or text such as "
                f"'A > B > C'; found {dtype}; give each item one path, root first"
            )
        )
        return pl.Series(values.name, [None] * values.len(), dtype=pl.List(pl.String))
    paths = paths.set(paths.list.len() == 0, None)  # explode: one null label, as for a null path
    labels = clean_text(paths.explode())
    row = pl.int_range(paths.len(), eager=True)
    repeats = paths.list.len().fill_null(1).clip(lower_bound=1)
    long = pl.DataFrame({"row": row.repeat_by(repeats).explode(), "label": labels})
    later = pl.col("label").is_not_null().cum_sum(reverse=True).over("row")
    gaps = long.filter(pl.col("label").is_null() & (later > 0))
    _report_paths(gaps["row"].unique().sort(), values, file, notes, _NO_GAPS)
    return _regroup(long.drop_nulls("label"), paths.len()).alias(values.name)


def _regroup(labels: pl.DataFrame, num_rows: int) -> pl.Series:
    """Labels (row, label) as one list per row; null for rows without."""
    lists = labels.group_by("row", maintain_order=True).agg(pl.col("label"))
    rows = pl.DataFrame({"row": pl.int_range(num_rows, eager=True)})
    joined = rows.join(lists, on="row", how="left", maintain_order="left")
    return joined["label"].cast(pl.List(pl.String))


def _report_paths(
    bad: pl.Series, values: pl.Series, file: str, notes: Notes, rule: tuple[str, str]
) -> None:
    if bad.is_empty():
        return
    shown = bad.head(MAX_SHOWN)
    expected, advice = rule
    notes.refuse(
        BadRows(
            file=file,
            column=values.name,
            expected=expected,
            rows=(shown.cast(pl.Int64) + 1).to_list(),
            values=[_plain(values[i]) for i in shown],
            count=bad.len(),
            advice=advice,
        )
    )


def _plain(value: object) -> object:
    return value.to_list() if isinstance(value, pl.Series) else value
