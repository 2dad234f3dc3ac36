"""Which columns of a log say when an event happened: one, or a date and a time of day.

A column with a usual name comes first. Where several hold times, or none has a usual name, the
values decide: what is the same for all events of a user (their birthday) or of an item (its
release) is no time of an event; of columns that order the events alike the finest counts, of
others the one that is never after the rest. Where that says nothing the log is refused, as every
history would be a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from hidvae.data.column_names import ITEM_COLUMNS, SETTING, first_rows, plain_name, usual_times
from hidvae.data.notes import Notes
from hidvae.data.schema import Columns
from hidvae.data.tables import LINE, reading
from hidvae.data.times import SETTING as TIME_FORMAT
from hidvae.data.times import (
    date_alone,
    has_clock,
    in_seconds,
    looks_like_times,
    read_numbers,
    time_of_day,
)
from hidvae.errors import DataError

_LOOKED_AT = 100_000
"""Rows from the start of a log in which several columns are compared."""
_NEARLY_ALL = 0.99
_NOT_OF_EVENTS = (
    *("birth", "dob", "signup", "regist", "joined", "member", "releas", "publish", "launch"),
    *("expir", "valid"),
)
"""How words begin that speak of a user or an item."""
_AFTERWARDS = (
    *("updat", "modif", "delet", "ship", "deliver", "dispatch", "return", "refund", "process"),
    *("load", "import", "export", "sync", "ingest", "insert", "due", "logout", "last"),
)
"""How words begin that speak of what happens to an event later."""
_PARTS = {"year": (1970, 2100), "month": (1, 12), "day": (1, 31)}
"""Columns that are a date together, and what their numbers are."""
_OF_TIME = re.compile(
    r"time|date|stamp|epoch|unix|zeit|datum|fecha|heure|when|(?:^|[\W_])(?:ts|at|day|on)(?:$|[\W_])",
    re.IGNORECASE,
)
"""Names of columns whose large numbers are times and no ids."""
_DURATIONS = (
    *("duration", "length", "runtime", "elapsed", "spent", "watch", "listen", "wait", "delay"),
    *("opening", "closing", "playtime", "avg", "average", "total"),
)
"""How words begin of columns whose 00:03:25 is no time of day."""


def with_times(
    log: pl.LazyFrame,
    file: str,
    time_format: str,
    notes: Notes,
    *,
    named: str = Columns.TIMESTAMP,
    is_set: bool,
) -> pl.LazyFrame:
    """A log whose ``timestamp`` is the time of its events, if any column says it.

    Args:
        log: Under our column names, as far as they were given or recognised.
        file: Where it came from, for messages.
        time_format: ``DatasetConfig.time_format``.
        notes: Told what was taken for the time, and why.
        named: What the file calls the column that is ``timestamp`` already, if there is one.
        is_set: Whether the user named the column of the time, so that nothing is chosen or joined.

    Raises:
        DataError: If several columns may say it, which order the events differently.
    """
    names = _free(log)
    if named != Columns.TIMESTAMP and _is_of_another(log, names, file, time_format):
        log = log.rename({Columns.TIMESTAMP: named})
        names = _free(log)
    if Columns.TIMESTAMP not in log.collect_schema():
        candidates = _candidates(log, names, file, time_format)
        named = _choose(log, candidates, file, time_format, notes) if candidates else ""
        if named:
            log = log.rename({named: Columns.TIMESTAMP})
        else:
            log, named = _with_date_of_parts(log, names, file, notes)
        if not named:
            return log
        names = [name for name in names if name in log.collect_schema()]
    return log if is_set else _with_time_of_day(log, named, names, file, time_format, notes)


def say_file_order(log: pl.LazyFrame, file: str, notes: Notes) -> None:
    """Say that nothing orders the events but the file, and why columns like times do not."""
    names = _free(log)
    looked = first_rows(log, names, file)
    clocks = [name for name in names if time_of_day(looked[name]) is not None]
    times = [name for name in names if looks_like_times(looked[name])]
    unsure = [name for name in times if not _may_be_time(name, looked[name])]
    others = [name for name in times if name not in unsure]
    hints = [f"{_listed(clocks)} without a date order{_s(clocks)} no events"] * bool(clocks)
    hints += [f"{_listed(others)}, by name or values, of something else"] * bool(others)
    hints += [f"{_listed(unsure)} may be a time, or an id"] * bool(unsure)
    times = [*unsure, *others]
    notes.decide(
        f"{file}: no timestamp and no position, so events count in the order of the file"
        + "".join(f"; {hint}" for hint in hints),
        f'{SETTING}=["timestamp={times[0] if times else "YOURS"}"]',
    )


def _free(log: pl.LazyFrame) -> list[str]:
    """Columns that have no other meaning."""
    known = (Columns.USER, Columns.ITEM, Columns.TIMESTAMP, Columns.POSITION, *ITEM_COLUMNS, LINE)
    return [name for name in log.collect_schema().names() if name not in known]


def _candidates(log: pl.LazyFrame, names: Sequence[str], file: str, time_format: str) -> list[str]:
    """Columns whose values are times; none if a position orders the events and no name is usual."""
    looked = first_rows(log, names, file)
    times = [name for name in names if _may_be_time(name, looked[name], time_format)]
    is_ordered = Columns.POSITION in log.collect_schema()
    return [] if is_ordered and len(usual_times(times)) < 2 else times


def _is_of_another(log: pl.LazyFrame, names: Sequence[str], file: str, time_format: str) -> bool:
    """Whether ``timestamp`` was recognised by its name, is of users or items, and others are not.

    Only with another column of times it matters whose time it is.
    """
    looked = first_rows(log, names, file)
    if not any(_may_be_time(name, looked[name], time_format) for name in names):
        return False
    return not _of_events(log, [Columns.TIMESTAMP], file, time_format)[0]


def _may_be_time(name: str, values: pl.Series, time_format: str = "") -> bool:
    """Whether a column holds dates, or, if its name speaks of a time, numbers since 1970."""
    speaks = bool(_OF_TIME.search(name)) or bool(usual_times([name]))
    return looks_like_times(values, time_format, with_numbers=speaks)


def _choose(
    log: pl.LazyFrame, candidates: list[str], file: str, time_format: str, notes: Notes
) -> str:
    """The one that says when an event happened; empty if none does.

    Raises:
        DataError: If it cannot be known.
    """
    kept, rows = _of_events(log, candidates, file, time_format)
    kept = [name for name in kept if not _begins(name, _AFTERWARDS)] or kept
    kept = usual_times(kept) or kept
    if not kept:
        return ""
    chosen, reason = kept[0], ", as its values are times"
    if len(kept) > 1:
        chosen, reason = _best(rows, kept, file, time_format)
    if not chosen:
        notes.refuse(
            DataError(
                f"{file}: expected one column with the time of an event; found {_listed(kept)}, "
                f"which order the events differently; set "
                f'{SETTING}=["timestamp={kept[0]}"] or another of them'
            )
        )
        return kept[0]
    others = [name for name in candidates if name not in kept]
    if others and len(kept) == 1:
        reason += f"; {_listed(others)} by name or values are no times of the events themselves"
    notes.decide(
        f"{file}: {chosen!r} is taken for the timestamp{reason}",
        f'{SETTING}=["timestamp={chosen}"]',
    )
    return chosen


def _of_events(
    log: pl.LazyFrame, candidates: Sequence[str], file: str, time_format: str
) -> tuple[list[str], pl.DataFrame]:
    """The candidates that are no times of users or items, and their first rows with the ids.

    Where values are missing or none, the column speaks of what happens to some events only.
    """
    kept = [name for name in candidates if not _begins(name, _NOT_OF_EVENTS)]
    schema = log.collect_schema()
    ids = [
        name for name in (Columns.USER, Columns.ITEM) if schema.get(name, pl.Object) != pl.Object
    ]
    with reading(file):
        rows = log.select(*ids, *kept).head(_LOOKED_AT).collect(engine="streaming")
    num_read = {name: in_seconds(rows[name], file, time_format).count() for name in kept}
    kept = [name for name in kept if num_read[name] >= _NEARLY_ALL * rows.height]
    return [name for name in kept if not any(_belongs_to(rows, each, name) for each in ids)], rows


def _best(rows: pl.DataFrame, names: list[str], file: str, time_format: str) -> tuple[str, str]:
    """Of several times of events the one to take and why; empty if nothing says it."""
    times = pl.DataFrame([in_seconds(rows[name], file, time_format) for name in names])
    finest, *others = sorted(names, key=lambda name: _detail(times[name]), reverse=True)
    user = rows[Columns.USER] if Columns.USER in rows.columns else pl.repeat(0, rows.height)
    if all(_order_alike(times[finest], times[other], user) for other in others):
        return finest, f", which orders the events as {_listed(others)} do{_s(others, 'es')}"
    for name in names:
        rest = [other for other in names if other != name]
        after = [times.select((pl.col(each) >= pl.col(name)).mean()).item() for each in rest]
        if all(share is not None and share >= _NEARLY_ALL for share in after):
            return name, f", as it is never after {_listed(rest)}"
    return "", ""


def _detail(times: pl.Series) -> tuple[int, int]:
    """How many times a column tells apart, and how many times of the day."""
    return times.n_unique(), (times % 86400).n_unique()


def _order_alike(one: pl.Series, other: pl.Series, user: pl.Series | pl.Expr) -> bool:
    """Whether each user's events in the order of one column are nearly in that of the other."""
    frame = pl.DataFrame([one.alias("one"), other.alias("other")]).with_columns(user=user)
    frame = frame.drop_nulls().sort("user", "one", "other")
    rises = (pl.col("other").shift(-1) >= pl.col("other")).filter(
        pl.col("user").shift(-1) == pl.col("user")
    )
    share = frame.select(rises.mean()).item()
    return share is None or share >= _NEARLY_ALL


def _belongs_to(rows: pl.DataFrame, owner: str, name: str) -> bool:
    """Whether a column is the same in all rows of each user or item, though they have several."""
    known = rows.select(owner, name).drop_nulls()
    num_owners = known[owner].n_unique()
    return known.height > num_owners and known.n_unique() == num_owners


def _begins(name: str, stems: tuple[str, ...]) -> bool:
    """Whether a word of a name begins so."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()
    return any(word.startswith(stems) for word in re.split(r"[\W_]+", words))


def _with_time_of_day(
    log: pl.LazyFrame,
    day: str,
    names: Sequence[str],
    file: str,
    time_format: str,
    notes: Notes,
) -> pl.LazyFrame:
    """The log with the time of day joined to the date in ``timestamp``, if it holds only dates."""
    days = first_rows(log, [Columns.TIMESTAMP], file)[Columns.TIMESTAMP]
    if (day_text := date_alone(days)) is None:
        return log
    looked = first_rows(log, names, file)
    found = {name: time_of_day(looked[name]) for name in names if not _begins(name, _DURATIONS)}
    clocks = {name: text for name, text in found.items() if text is not None}
    if not clocks:
        return log
    best = min(clocks, key=lambda name: (_stem(name) != _stem(day), _begins(name, _AFTERWARDS)))
    if time_format and not has_clock(time_format):
        notes.decide(
            f"{file}: {best!r} is not joined to the date in {day!r}, as the format has no hours",
            TIME_FORMAT,
        )
        return log
    notes.decide(
        f"{file}: the date in {day!r} and the time of day in {best!r} are joined to the timestamp",
        f'{SETTING}=["timestamp={"YOURS" if day in names else day}"]',
    )
    joined = pl.concat_str(day_text, clocks[best], separator=" ", ignore_nulls=True)
    return log.with_columns(pl.when(day_text.is_not_null()).then(joined).alias(Columns.TIMESTAMP))


def _with_date_of_parts(
    log: pl.LazyFrame, names: Sequence[str], file: str, notes: Notes
) -> tuple[pl.LazyFrame, str]:
    """The log with ``timestamp`` from the columns year, month and day, and the name of the last.

    Without them, or with a position, the log itself and no name.
    """
    plain = {plain_name(name): name for name in names}
    if Columns.POSITION in log.collect_schema() or not set(_PARTS) <= set(plain):
        return log, ""
    parts = {plain[part]: limits for part, limits in _PARTS.items()}
    looked = first_rows(log, [*parts], file)
    for name, (low, high) in parts.items():
        numbers = read_numbers(looked[name]).drop_nulls()
        if not (numbers.len() and numbers.is_between(low, high).all()):
            return log, ""
    notes.decide(
        f"{file}: {', '.join(map(repr, parts))} are joined to the date of the timestamp",
        f'{SETTING}=["timestamp=YOURS"]',
    )
    whole = [pl.col(name).cast(pl.Float64, strict=False).cast(pl.Int64) for name in parts]
    date = pl.concat_str(*whole, separator="-")
    return log.with_columns(date.alias(Columns.TIMESTAMP)), list(parts)[-1]


def _stem(name: str) -> str:
    """What a name says beside date and time, such as "order" of order_date."""
    return re.sub("datetime|date|timeofday|time|timestamp|day|hour", "", plain_name(name))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names))


def _s(names: Sequence[str], ending: str = "s") -> str:
    """The ending of a verb of one subject."""
    return ending if len(names) == 1 else ""
