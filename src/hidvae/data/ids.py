"""Ids as text: what counts as the same id, what is none, and how two tables write one differently.

An id is text without outer white space; a whole number is the same in every type, so that 7.0 in
Parquet is the id 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import polars as pl

from hidvae.data.notes import MAX_SHOWN, BadRows, Notes, count_of, show_value
from hidvae.data.tables import LINE, reading
from hidvae.data.text import blank_to_null
from hidvae.errors import DataError

NO_ID_WORDS = (
    *("na", "n/a", "#n/a", "<na>", "null", "(null)", "nan", "none"),
    *("\\n", "-", "undefined"),
)
"""What programs write in place of an id that is missing, in lower case."""
_ID_FIELDS = ("id", "_id", "$oid", "$numberlong", "uuid", "key")
"""Fields of an object that name it, in order of preference."""
_LOOSE = "DatasetConfig.match_ids=loose"
_POINT_ZERO = r"^[+-]?\d+\.0+$"
_EXPONENT = r"^[+-]?\d(?:\.\d+)?[eE]\+\d{2,}$"
_EXACT = r"^[+-]?\d(?:\.\d{1,3})?[eE]\+\d{2}$"
"""Numbers with an exponent that kept all digits, such as 1e+05 of R: a spreadsheet that cuts digits
keeps five behind the point."""
_SAMPLE = 1000
_DIGITS: dict[object, int] = {pl.Float16: 2**11, pl.Float32: 2**24}
"""From here on whole numbers are too long for the type, and neighbours become one; 2^53 for
Float64."""


Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


def ids_as_text(
    raw: pl.DataFrame,
    name: str,
    file: str,
    notes: Notes,
    first_row: int,
    *,
    drop_zero: bool = False,
) -> pl.Series | None:
    """A column of ids as text; null where there is none. None if the column can hold no ids.

    Args:
        raw: The table, or a batch of it.
        name: The column.
        file: Where it came from, for messages.
        notes: Told of a type that names nothing, and of numbers that lost digits.
        first_row: Number of the first row.
        drop_zero: Whether text such as 27.0 is the number 27.

    Raises:
        DataError: Of a type that names nothing, or with ids that lost digits.
    """
    values, dtype = raw[name], raw.schema[name]
    if dtype == pl.Null:
        return values.cast(pl.String)
    is_text = dtype == pl.String or isinstance(dtype, (pl.Categorical, pl.Enum))
    if not (is_text or dtype.is_numeric()):
        notes.refuse(
            DataError(
                f"{file}, column {name}: expected text or whole numbers; found {dtype}; export the "
                "ids as text, or name their column in DatasetConfig.column_names"
            )
        )
        return None
    if dtype.is_float():
        limit = _DIGITS.get(type(dtype), 2**53)
        _refuse_lost_digits(raw, name, file, notes, first_row, (values.abs() >= limit), str(dtype))
        values = values.fill_nan(None)
        whole = values.cast(pl.Int64, strict=False)
        is_whole = whole.cast(values.dtype) == values
        return blank_to_null(whole.cast(pl.String).zip_with(is_whole, values.cast(pl.String)))
    text = blank_to_null(values.cast(pl.String))
    if dtype.is_decimal():
        return text.str.replace(r"\.0+$", "")
    if not is_text:
        return text
    has_exponent = text.str.contains(_EXPONENT)
    if has_exponent.any():
        text = text.to_frame().select(without_exponent(pl.col(name))).to_series()
        is_lost = text.str.contains(_EXPONENT)
        _refuse_lost_digits(raw, name, file, notes, first_row, is_lost, "")
        notes.decide(
            f"{file}, column {name}: whole numbers written with an exponent, such as 1e+05 for "
            "100000, are taken for the numbers"
        )
    return text.str.replace(r"\.0+$", "") if drop_zero else text


def with_ids_of_objects(frame: Frame, columns: Sequence[str], file: str, notes: Notes) -> Frame:
    """Columns of objects that have an id, such as ``{"id": 7, "name": …}``, as these ids."""
    schema = frame.collect_schema()
    for name in columns:
        dtype: Any = schema.get(name)
        values, path = pl.col(name), []
        while isinstance(dtype, pl.Struct):
            fields: dict[str, Any] = {field.name.lower(): field for field in dtype.fields}
            wanted = (*_ID_FIELDS, name, *([dtype.fields[0].name] if len(fields) == 1 else []))
            field = next((fields[each] for each in wanted if each in fields), None)
            if field is None:
                break
            values, dtype = values.struct.field(field.name), field.dtype
            path.append(field.name)
        if path:
            notes.decide(f"{file}, column {name}: of its objects the {'.'.join(path)} counts")
            frame = frame.with_columns(values.alias(name))
    return frame


def without_exponent(text: pl.Expr) -> pl.Expr:
    """Ids in which 1e+05 is 100000, where no digit can be lost."""
    number = text.cast(pl.Float64, strict=False)
    is_whole = text.str.contains(_EXACT) & (number.abs() < 2**53) & (number % 1 == 0)
    whole = number.cast(pl.Int64, strict=False).cast(pl.String)
    return pl.when(is_whole).then(whole).otherwise(text)


def is_no_id(text: pl.Series) -> pl.Series:
    """(E,) whether an id is a word for none, such as NULL."""
    return text.str.to_lowercase().is_in(NO_ID_WORDS).fill_null(value=False)


def drops_zero(table: pl.LazyFrame, name: str, file: str, notes: Notes) -> bool:
    """Whether all ids of a text column are whole numbers with .0, as pandas writes them."""
    if table.collect_schema().get(name) != pl.String:
        return False
    text = pl.col(name).str.strip_chars()
    ids = table.select(text).filter((text != "") & ~text.str.to_lowercase().is_in(NO_ID_WORDS))
    with reading(file):
        first = ids.head(_SAMPLE).collect(engine="streaming")[name]
        if first.is_empty() or not first.str.contains(_POINT_ZERO).all():
            return False
        every = ids.select(pl.col(name).str.contains(_POINT_ZERO).all())
        if not every.collect(engine="streaming").item():
            return False
    notes.decide(
        f"{file}, column {name}: whole numbers written with .0, such as {first[0]!r}, are taken "
        "for the numbers"
    )
    return True


def _refuse_lost_digits(
    raw: pl.DataFrame,
    name: str,
    file: str,
    notes: Notes,
    first_row: int,
    is_lost: pl.Series,
    dtype: str,
) -> None:
    rows = is_lost.fill_null(value=False).arg_true()
    if rows.is_empty():
        return
    shown = rows.head(MAX_SHOWN)
    place = raw[LINE].gather(shown) if LINE in raw.columns else shown.cast(pl.Int64) + first_row
    kind = f"{dtype} keeps" if dtype else "a spreadsheet kept"
    notes.refuse(
        BadRows(
            file=file,
            column=name,
            expected=f"ids with all their digits (of longer ones {kind} only the first)",
            rows=place.to_list(),
            values=raw[name].gather(shown).to_list(),
            count=rows.len(),
            advice="export the ids as text or whole numbers",
            place="line" if LINE in raw.columns else "row",
            parts=notes.parts.get(file),
        )
    )


# How two tables may write one id


_RULES: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "the Unicode form": lambda text: text.str.normalize("NFKC"),
    "blanks": lambda text: text.str.replace_all(r"[\s\p{Cf}]", ""),
    "upper and lower case": lambda text: text.str.to_lowercase(),
    ".0 at the end": lambda text: text.str.replace(r"^(\d+)\.0+$", "$1"),
    "leading zeros": lambda text: text.str.replace(r"^0+([0-9A-Za-z])", "$1"),
}
"""Differences of writing, and what undoes them; together in this order."""


def loose_form(text: pl.Expr) -> pl.Expr:
    """What an id has in common with its other spellings."""
    for rule in _RULES.values():
        text = rule(text)
    return text


@dataclass(frozen=True)
class Spelling:
    """Ids of a log that are in the catalogue in another spelling."""

    difference: str
    """Such as "leading zeros"."""
    num_events: int
    log_id: str
    """The first such id."""
    known_id: str

    @property
    def said(self) -> str:
        """In words, to go on from a file's name."""
        return (
            f"the ids of {count_of(self.num_events, 'event')} differ from known ones only by "
            f"{self.difference}, such as {show_value(self.log_id)} for {show_value(self.known_id)}"
        )

    @property
    def change(self) -> str:
        """The setting that joins them."""
        return _LOOSE


def find_spelling(unknown: pl.DataFrame, known: pl.Series) -> Spelling | None:
    """By which difference of writing most events of unknown items would be known.

    Args:
        unknown: ``item_id`` and ``count`` of the events.
        known: (N,) ids of the catalogue.
    """
    best: Spelling | None = None
    log_id, known_id = unknown.select(pl.col(known.name), "count"), known.alias("known").to_frame()
    for difference, rule in {**_RULES, "": loose_form}.items():
        same = log_id.with_columns(form=rule(pl.col(known.name))).join(
            known_id.with_columns(form=rule(pl.col("known"))).unique(
                "form", keep="first", maintain_order=True
            ),
            on="form",
            maintain_order="left",
        )
        num_events = int(same["count"].sum())
        if num_events > (best.num_events if best else 0):
            first = same.row(0, named=True)
            names = difference or _differences(same[known.name], same["known"])
            best = Spelling(names, num_events, first[known.name], first["known"])
    return best


def _differences(one: pl.Series, other: pl.Series) -> str:
    """The rules that change any of two columns of ids, one after the other."""
    ids, names = pl.concat([one, other.alias(one.name)]).to_frame(), []
    for name, rule in _RULES.items():
        after = ids.select(rule(pl.col(one.name)))
        names += [] if after.equals(ids) else [name]
        ids = after
    return ", ".join(names)


def join_spellings(
    log: pl.LazyFrame, known: pl.Series, files: tuple[str, str], notes: Notes, *, drop_zero: bool
) -> dict[str, str]:
    """Ids of a log that are unknown as they stand -> the id of the catalogue that they mean.

    Args:
        log: With ``item_id``.
        known: (N,) ids of the catalogue.
        files: Of the log and of the items, for messages.
        notes: Told how many ids are joined.
        drop_zero: As of ``ids_as_text``.

    Raises:
        DataError: If two ids of one table would become one.
    """
    name = known.name
    with reading(files[0]):
        written = log.select(pl.col(name)).unique(maintain_order=True).collect(engine="streaming")
    ids = ids_as_text(written, name, files[0], Notes(go_on=True), 1, drop_zero=drop_zero)
    if ids is None:
        return {}
    in_log = pl.DataFrame({"id": ids.drop_nulls().unique(maintain_order=True)})
    in_items = pl.DataFrame({"known": known})
    forms = in_items.with_columns(form=loose_form(pl.col("known")))
    found = in_log.join(in_items, left_on="id", right_on="known", how="anti", maintain_order="left")
    found = found.with_columns(form=loose_form(pl.col("id"))).join(
        forms, on="form", maintain_order="left"
    )
    exact = in_log.join(in_items, left_on="id", right_on="known").select("id", known="id")
    for file, one, rows in (
        (files[1], "id", found.select("id", "known")),
        (files[0], "known", pl.concat([exact, found.select("id", "known")])),
    ):
        other = "known" if one == "id" else "id"
        merged = rows.filter(pl.col(one).is_duplicated())
        if merged.height:
            pair = merged.filter(pl.col(one) == merged[one][0])[other].sort()
            notes.refuse(
                DataError(
                    f"{file}, column {name}: expected ids that stay apart with {_LOOSE}; found "
                    f"{show_value(pair[0])} and {show_value(pair[1])}, which would be one; "
                    "write the ids alike in both tables, and set exact"
                )
            )
            return {}
    joined = dict(found.select("id", "known").iter_rows())
    if joined:
        item, other = next(iter(joined.items()))
        notes.decide(
            f"{files[0]}, column {name}: {count_of(len(joined), 'id')} joined with another "
            f"spelling in {files[1]}, such as {item!r} with {other!r}",
            "DatasetConfig.match_ids=exact",
        )
    return joined
