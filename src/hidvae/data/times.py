"""What the time column of a log means: a number, a date, or text in one of the usual forms.

One form holds for the whole column, because a guess by row would put events in a wrong order:
``01/03/2014`` is January where any first number is above 12, else March, and where none says it
the column is refused (``DatasetConfig.time_format`` says it then).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hidvae.data.notes import MAX_BROKEN_SHARE, Notes, count_of, show_value
from hidvae.data.tables import reading
from hidvae.errors import ConfigError, DataError

SETTING = "DatasetConfig.time_format"

_CLOCK = (
    r"(?:[T ,:]+(?P<hour>\d{1,2}):(?P<minute>\d{2})"
    r"(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?)?\s*(?P<zone>Z|z|UTC|GMT|(?:UTC|GMT)?[+-]\d{2}:?(?:\d{2})?)?$"
)
_WEEKDAY = r"^(?:[A-Za-z]{2,9}\.?,?\s+)?"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_YEAR_FIRST = r"^(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})" + _CLOCK
_COMPACT = (
    r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})[T ](?P<hour>\d{2})(?P<minute>\d{2})"
    r"(?P<second>\d{2})?(?:[.,](?P<fraction>\d{1,9}))?(?P<half>\b)?(?P<zone>Z|[+-]\d{2}:?(?:\d{2})?)?$"
)
_YEAR_LAST = (
    r"^(?P<first>\d{1,2})(?P<gap>[-/. ])(?P<second_part>\d{1,2})[-/., ]+(?P<year>\d{4}|\d{2})"
    + _CLOCK
)
_DAY_NAMED = (
    _WEEKDAY + r"(?P<day>\d{1,2})[-/. ]+(?P<month>[A-Za-z]{3,9})\.?[-/., ]+(?P<year>\d{4})" + _CLOCK
)
_NAMED_DAY = (
    r"^(?:[A-Za-z]{2,9}\.?,?\s+)??(?P<month>[A-Za-z]{3,9})\.?\s+(?P<day>\d{1,2})"
    r"(?:st|nd|rd|th)?,?\s+(?P<year>\d{4})" + _CLOCK
)
_PATTERNS = {
    "ISO 8601": _YEAR_FIRST,
    "compact ISO 8601": _COMPACT,
    "year last": _YEAR_LAST,
    "day, name of the month, year": _DAY_NAMED,
    "name of the month, day, year": _NAMED_DAY,
}
_TIME_OF_DAY = (
    r"^(?:1899-12-3[01][T ])?(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?"
    r"(?:\s*[AaPp]\.?[Mm]\.?)?$"
)
"""A time without a date; a spreadsheet's day 0 stands before some."""
_HOUR = re.compile(r"(?:^|[\W_])(?:hour|hr)(?:$|[\W_])|hourofday", re.IGNORECASE)
_HOUR_MINUTE = re.compile(r"(?:^|[\W_])(?:hourmin|hourminute|hhmm)(?:$|[\W_])", re.IGNORECASE)
"""Names of columns with whole numbers such as 9 or 905 for a time of day."""
_MIDNIGHT = r"[T ]0?0:00(?::00(?:\.0+)?)?$"
_NUMBERS = "numbers"
_MICROSECONDS = 1_000_000
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""How many there are in a second."""
_FIRST_SECOND, _LAST_SECOND = 10**8, 4_102_444_800
"""Numbers between these, 1973 and 2100, are taken for seconds since 1970, times 1000 for
milliseconds, and so on: the ranges do not meet."""
_LIKELY = 0.75
"""Share of the values of a column that are times, where it is one."""
_SAMPLE = 1000
"""Values that say which form a column has; one of them that has another is a broken row."""


@dataclass(frozen=True)
class TimeForm:
    """How the times of one column are written."""

    name: str
    """For people, such as "ISO 8601" or "numbers"."""
    pattern: str = ""
    """Regular expression of the text with named parts; empty for numbers and dates."""
    strptime: str = ""
    """In place of a pattern: the user's ``DatasetConfig.time_format``."""
    units: int = 0
    """How many of the resulting numbers are a second; 0 where nobody said."""

    def read(self, values: pl.Series) -> pl.Series:
        """The times as numbers, in one unit for the whole column.

        Returns:
            (E,) Int64, or Float64 where some are fractions; null where a value has another form.
        """
        if values.dtype.is_temporal():
            return values.to_physical().cast(pl.Int64)
        if self.strptime:
            return _by_format(values, self.strptime).alias(values.name)
        if self.pattern and values.dtype == pl.String:
            return _by_pattern(values, self.pattern)
        return read_numbers(values)


NUMBERS = TimeForm(_NUMBERS)


def read_numbers(values: pl.Series) -> pl.Series:
    """Numbers, as such or as text; null where a value is none."""
    if not (values.dtype.is_numeric() or values.dtype == pl.String):
        return pl.Series(values.name, [None] * values.len(), dtype=pl.Int64)
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    integers = values.cast(pl.Int64, strict=False)  # exact, where floats would merge nanoseconds
    floats = values.cast(pl.Float64, strict=False)
    floats = floats.set(~floats.is_finite(), None)
    is_whole = integers.is_not_null() & (integers.cast(pl.Float64) == floats)
    return integers if bool((is_whole | floats.is_null()).all()) else floats


def find_time_form(
    log: pl.LazyFrame, column: str, file: str, time_format: str, notes: Notes
) -> TimeForm:
    """Which form the times of a log have.

    Text is judged by its first values; only where day and month could be confused is the column
    read to its end.

    Args:
        log: With the column.
        column: Its name.
        file: Where it came from, for messages.
        time_format: The user's, for ``strptime``; empty recognises the form.
        notes: Told where the form cannot be known.

    Raises:
        ConfigError: If the format is none.
        DataError: If the column holds times of day, or day and month cannot be told apart.
    """
    dtype = log.collect_schema()[column]
    if dtype == pl.Time:
        notes.refuse(
            DataError(
                f"{file}, column {column}: expected dates; found times of day, which order no "
                "events; join them with the date"
            )
        )
        return NUMBERS
    if isinstance(dtype, pl.Datetime):
        units = {"ms": 10**3, "us": 10**6, "ns": 10**9}[dtype.time_unit]
        return TimeForm("dates with a time", units=units)
    if dtype == pl.Date:
        return TimeForm("dates", units=-1)
    if time_format and (dtype == pl.String or dtype.is_numeric()):
        notes.use("time_format")
        return _set_form(time_format)
    if dtype != pl.String:
        return NUMBERS
    sample = _first_values(log, column, file)
    form = recognise(sample)
    if time_of_day(sample) is not None:
        notes.refuse(
            DataError(
                f"{file}, column {column}: expected dates; found times of day, such as "
                f"{show_value(sample[0])}, which order no events; name the column of the date, or "
                "join it with them"
            )
        )
        return NUMBERS
    return _decide_order(log, column, file, sample, notes) if form.name == "year last" else form


def recognise(sample: pl.Series) -> TimeForm:
    """The form that most values of a sample of text have; ``NUMBERS`` if they have none."""
    counts = {_NUMBERS: read_numbers(sample).count()}
    for name, pattern in _PATTERNS.items():
        counts[name] = int(sample.str.contains(pattern).sum())
    best = max(counts, key=lambda name: counts[name])
    if best == _NUMBERS:
        return NUMBERS
    return TimeForm(best, _PATTERNS[best], units=_MICROSECONDS)


def looks_like_times(
    values: pl.Series, time_format: str = "", *, with_numbers: bool = True
) -> bool:
    """Whether nearly all values of a sample are times; a time of day is none.

    Args:
        values: The sample.
        time_format: The user's: what is written so is a time.
        with_numbers: Whether numbers in a unit since 1970 are, which may be ids as well.
    """
    if values.dtype in (pl.Date, pl.Datetime):
        return True
    if time_of_day(values) is not None:
        return False
    if time_format and (values.dtype == pl.String or values.dtype.is_numeric()):
        num_read = _set_form(time_format).read(values).count()
        if num_read and num_read >= _LIKELY * values.len():
            return True
    if values.dtype == pl.String:
        values = values.str.strip_chars()
        values = values.filter(values != "")
        form = recognise(values) if values.len() else NUMBERS
        if form.pattern:
            return int(values.str.contains(form.pattern).sum()) >= _LIKELY * values.len()
    numbers = read_numbers(values).drop_nulls().cast(pl.Float64).to_numpy()
    if numbers.size < max(1.0, _LIKELY * values.len()):
        return False
    return (with_numbers and _unit_of(numbers)[0] != "") or _as_digits(numbers) is not None


def time_of_day(values: pl.Series) -> pl.Expr | None:
    """The column of a sample as text such as 10:05, null where nothing stands.

    None if it holds no times of day. Whole numbers are some if the column is called so ("hour").
    """
    column = pl.col(values.name)
    if values.dtype == pl.Time:
        return column.dt.to_string("%H:%M:%S%.f")
    if values.dtype == pl.String:
        filled = values.str.strip_chars().drop_nulls()
        filled = filled.filter(filled != "")
        num_fit = int(filled.str.contains(_TIME_OF_DAY).sum())
        if num_fit and num_fit >= _LIKELY * filled.len():
            text = column.str.strip_chars().str.replace(r"^\d{4}-\d\d-\d\d[T ]", "")
            return text.replace("", None)
    per_hour = 1 if _HOUR.search(values.name) else 100 if _HOUR_MINUTE.search(values.name) else 0
    if not per_hour:
        return None
    numbers = read_numbers(values).drop_nulls()
    is_time = numbers.is_between(0, 24 * per_hour - 1) & (numbers % per_hour < 60)
    if not numbers.len() or numbers.dtype != pl.Int64 or not is_time.all():
        return None
    number = column.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
    parts = [(number // per_hour), (number % per_hour)]
    hour, minute = (part.cast(pl.Int64).cast(pl.String).str.zfill(2) for part in parts)
    return hour + ":" + minute


def date_alone(values: pl.Series) -> pl.Expr | None:
    """The column of a sample as text such as 2014-01-03, null where nothing stands.

    None if it holds anything but dates without a time of day; midnight everywhere is none.
    """
    column = pl.col(values.name)
    if values.dtype == pl.Date:
        return column.cast(pl.String)
    if values.dtype == pl.Datetime:
        is_midnight = (values.dt.time() == time(0)).all()
        return column.dt.date().cast(pl.String) if is_midnight else None
    if not (values.dtype == pl.String or values.dtype.is_integer()):
        return None
    text = column.cast(pl.String).str.strip_chars().str.replace(_MIDNIGHT, "").replace("", None)
    digits = r"^(\d{4})(\d\d)(\d\d)$"
    text = text.str.replace(digits, "$1-$2-$3")
    dates = values.to_frame().select(text).to_series().drop_nulls()
    if not dates.len() or dates.str.contains(":", literal=True).any():
        return None
    form = recognise(dates)
    if not form.pattern or form.pattern == _COMPACT:
        return None
    num_dates = int(dates.str.contains(form.pattern).sum())
    return text if num_dates >= _LIKELY * dates.len() else None


def has_clock(time_format: str) -> bool:
    """Whether a format of strptime has hours."""
    return bool(re.search(r"%[HIkl]|%[TRsXrc+]", time_format))


def in_seconds(values: pl.Series, file: str, time_format: str) -> pl.Series:
    """Times of some rows in seconds since 1970, to compare columns; null where a value is none."""
    log, notes = values.to_frame().lazy(), Notes(go_on=True)
    form = find_time_form(log, values.name, file, time_format, notes)
    times = form.read(values)
    if form.units:
        return times * 86400.0 if form.units < 0 else times / form.units
    numbers = times.drop_nulls().to_numpy()
    if numbers.size and _as_digits(numbers):
        text = times.cast(pl.Int64).cast(pl.String).str.pad_end(14, "0")
        return text.str.to_datetime("%Y%m%d%H%M%S", strict=False).dt.epoch("s").cast(pl.Float64)
    return times / _UNITS.get(_unit_of(numbers)[0], 1)


def say_times(
    times: NDArray[np.int64] | NDArray[np.float64],
    form: TimeForm,
    column: str,
    file: str,
    notes: Notes,
) -> None:
    """Say what the times of a log were taken for, with the first and last date.

    Args:
        times: (E,) as ``TimeForm.read`` gives them.
        form: The column's.
        column: Its name.
        file: Where it came from.
        notes: Told.

    Raises:
        DataError: If the numbers mix two units, so that no order could be right.
    """
    if not times.size:
        return
    where, name, units = f"{file}, column {column}", form.name, form.units
    if not units:
        if dates := _as_digits(times):
            notes.decide(f"{where}: dates as digits, from {dates[0]} to {dates[1]}", SETTING)
            return
        name, mixed = _unit_of(times)
        if mixed:
            notes.refuse(
                DataError(
                    f"{where}: expected times in one unit; found {mixed}; write all of them in one"
                )
            )
            return
        if not name and _are_dates(times, "%d%m%Y", 8):
            notes.refuse(
                DataError(
                    f"{where}: expected numbers that rise with time; found dates as digits with "
                    f"the year last, such as {_plain(times[0])}; set {SETTING}=%d%m%Y, with text "
                    "of eight digits, or write the year first"
                )
            )
            return
        if not name:
            low, high = (_plain(value) for value in (times.min(), times.max()))
            notes.decide(
                f"{where}: numbers from {low} to {high}, which are no dates and only order the "
                "events",
                SETTING,
            )
            return
        units, name = _UNITS[name], f"{name} since 1970"
    seconds = times * 86400.0 if units < 0 else times / units
    is_odd = (seconds <= 0) | (seconds >= _LAST_SECOND)
    usual = seconds[~is_odd] if not is_odd.all() else seconds
    notes.decide(f"{where}: {name}, from {_date(usual.min())} to {_date(usual.max())}", SETTING)
    if num_odd := int(is_odd.sum()):
        shown = _plain(times[is_odd][0]) if not form.units else _date(seconds[is_odd][0])
        notes.decide(
            f"{where}: {count_of(num_odd, 'event')} at a time before 1970 or after 2100, such as "
            f"{shown}; they are kept in that order"
        )
    if times.min() == times.max() and times.size > 1:
        notes.decide(
            f"{where}: all {count_of(times.size, 'event')} have the same time, so nothing orders "
            "them",
            "DatasetConfig.tie_order=file",
        )


def _set_form(time_format: str) -> TimeForm:
    """The user's format; Polars writes Python's fraction of a second in another way."""
    chrono = time_format.replace(".%f", "%.f")
    if re.search(r"(?<!\.)%f", chrono):
        raise ConfigError(
            f"{SETTING}: expected %f after a point, as in %S.%f; found {time_format!r}"
        )
    form = TimeForm(f"written as {time_format}", strptime=chrono, units=_MICROSECONDS)
    try:
        form.read(pl.Series(["1"]))
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            f"{SETTING}: expected a format of strptime, such as '%d.%m.%Y %H:%M'; found "
            f"{time_format!r}"
        ) from error
    return form


def _by_format(values: pl.Series, chrono: str) -> pl.Series:
    text = values.cast(pl.String).str.strip_chars()
    if not has_clock(chrono):
        days = text.str.to_date(chrono, strict=False)
        return days.cast(pl.Datetime("us")).to_physical()
    read = text.str.to_datetime(chrono, strict=False, time_unit="us")
    return read.dt.replace_time_zone(None).to_physical()


def _by_pattern(values: pl.Series, pattern: str) -> pl.Series:
    """Microseconds since 1970; a time without a zone counts as UTC."""
    found = values.str.strip_chars().str.extract_groups(pattern).struct.unnest()
    month = pl.col("month")
    if pattern in (_DAY_NAMED, _NAMED_DAY):
        names = month.str.slice(0, 3).str.to_lowercase()
        month = names.replace_strict(
            list(_MONTHS), [str(number) for number in range(1, 13)], default=None
        )
    year = pl.col("year")
    century = pl.when(year.cast(pl.Int32) < 70).then(pl.lit("20")).otherwise(pl.lit("19"))
    year = pl.when(year.str.len_chars() == 2).then(century + year).otherwise(year)
    padded = [part.str.zfill(2) for part in (month, pl.col("day"))]
    day = pl.concat_str([year, *padded], separator="-").str.to_date("%Y-%m-%d", strict=False)
    hour, minute, second = (
        pl.col(name).cast(pl.Int64).fill_null(0) for name in ("hour", "minute", "second")
    )
    half = pl.col("half").str.to_lowercase()
    hour = (
        pl.when(half == "p").then(hour % 12 + 12).when(half == "a").then(hour % 12).otherwise(hour)
    )
    fraction = pl.col("fraction").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64).fill_null(0)
    zone = (
        pl.col("zone").str.extract(r"([+-]\d{2}:?(?:\d{2})?)$").str.replace(":", "", literal=True)
    )
    offset = zone.str.slice(1, 2).cast(pl.Int64) * 60 + zone.str.slice(3).str.zfill(2).cast(
        pl.Int64
    )
    offset = pl.when(zone.str.starts_with("-")).then(-offset).otherwise(offset).fill_null(0)
    minutes = (day.cast(pl.Int64) * 24 + hour) * 60 + minute - offset
    is_time = (hour < 24) & (minute < 60) & (second < 61)
    micros = (minutes * 60 + second) * _MICROSECONDS + fraction
    return found.select(pl.when(is_time).then(micros).alias(values.name)).to_series()


def _first_values(log: pl.LazyFrame, column: str, file: str) -> pl.Series:
    text = pl.col(column).str.strip_chars()
    with reading(file):
        found = log.select(text).filter(pl.col(column) != "").head(_SAMPLE)
        return found.collect(engine="streaming").to_series()


def _decide_order(
    log: pl.LazyFrame, column: str, file: str, sample: pl.Series, notes: Notes
) -> TimeForm:
    """Day or month first, from the whole column: the one that is above 12 anywhere is the day."""
    parts = pl.col(column).str.strip_chars().str.extract_groups(_YEAR_LAST).struct
    first, second = (parts.field(name).cast(pl.Int8) for name in ("first", "second_part"))
    with reading(file):
        counted = log.select(
            day_first=((first > 12) & (second <= 12)).sum(),
            month_first=((second > 12) & (first <= 12)).sum(),
            of=first.count(),
            num_first=first.n_unique(),
            num_last=parts.field("year").n_unique(),
            may_be_day=(parts.field("year").str.len_chars() == 2).all()
            & parts.field("year").cast(pl.Int16).is_between(1, 31).all(),
        ).collect(engine="streaming")
    day_first, month_first, num_dates, num_first, num_last, may_be_day = counted.row(0)
    shown = next((value for value in sample if re.match(_YEAR_LAST, value)), "")
    if (
        may_be_day and day_first and num_last > num_first
    ):  # days vary more than years, as in 14-01-31
        year_first = _format_of(shown, is_day_first=True)
        year_first = year_first.replace("%y", "%D").replace("%d", "%y").replace("%D", "%d")
        notes.refuse(
            DataError(
                f"{file}, column {column}: expected dates that show which number is the year; "
                f"found two digits of it that may stand first, as in {show_value(shown)}; set "
                f"{SETTING}={year_first!r}, or {SETTING}="
                f"{_format_of(shown, is_day_first=True)!r} if it stands last"
            )
        )
    if min(day_first, month_first) > MAX_BROKEN_SHARE * num_dates or not day_first + month_first:
        formats = " or ".join(
            f"{SETTING}={_format_of(shown, is_day)!r}" for is_day in (True, False)
        )
        both = "both in the first and in the second place" if day_first else "nowhere"
        notes.refuse(
            DataError(
                f"{file}, column {column}: expected dates that show which number is the day; found "
                f"a number above 12 {both}, as in {show_value(shown)}; set {formats}"
            )
        )
    if day_first >= month_first:
        name, day, month = "day, month, year", "first", "second_part"
    else:
        name, day, month = "month, day, year", "second_part", "first"
    pattern = _YEAR_LAST.replace(f"<{day}>", "<day>").replace(f"<{month}>", "<month>")
    return TimeForm(name, pattern, units=_MICROSECONDS)


def _format_of(text: str, is_day_first: bool) -> str:
    """A date as the format to set for it."""
    found = re.match(_YEAR_LAST, text)
    if not found:
        return "%d/%m/%Y" if is_day_first else "%m/%d/%Y"
    start, end = found.span("first")[1], found.span("second_part")
    numbers = ("%d", "%m") if is_day_first else ("%m", "%d")
    year = "%Y" if len(found["year"]) == 4 else "%y"
    date = (
        numbers[0] + text[start : end[0]] + numbers[1] + text[end[1] : found.start("year")] + year
    )
    if not found["hour"]:
        return date
    hour = "%I" if found["half"] else "%H"
    clock = text[found.end("year") : found.start("hour")] + hour + ":%M"
    clock += ":%S" if found["second"] else ""
    clock += ".%f" if found["fraction"] else ""
    return date + clock + (" %p" if found["half"] else "")


def _unit_of(times: NDArray[Any]) -> tuple[str, str]:
    """The unit since 1970 of most numbers, "" if they have none; and two units, if they mix."""
    counts = {
        name: int(((times >= _FIRST_SECOND * units) & (times < _LAST_SECOND * units)).sum())
        for name, units in _UNITS.items()
    }
    first, second = sorted(counts, key=lambda name: -counts[name])[:2]
    if counts[second] > MAX_BROKEN_SHARE * times.size:
        return (
            "",
            f"{count_of(counts[first], 'event')} in {first} and {counts[second]:,} in {second}",
        )
    return (first, "") if counts[first] > 0.5 * times.size else ("", "")


def _as_digits(times: NDArray[Any]) -> tuple[str, str] | None:
    """First and last date of numbers such as 20140103 or 20140103101500; None if they are not."""
    low, high = times.min(), times.max()
    digits = len(str(int(low))) if low > 0 else 0
    pattern = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(digits)
    if not pattern or len(str(int(high))) != digits:
        return None
    step = max(1, times.size // _SAMPLE)
    for number in (low, high, *times[::step]):
        try:
            date = datetime.strptime(str(_plain(number)), pattern)
        except ValueError:
            return None
        if not 1970 <= date.year <= 2100:
            return None
    shown = [str(int(number))[:8] for number in (low, high)]
    return tuple(f"{text[:4]}-{text[4:6]}-{text[6:]}" for text in shown)  # type: ignore[return-value]


def _are_dates(times: NDArray[Any], pattern: str, digits: int) -> bool:
    """Whether numbers, with leading zeros, are all dates of a form, and not all the same day."""
    if times.min() == times.max():
        return False
    for number in times[:: max(1, times.size // _SAMPLE)]:
        try:
            date = datetime.strptime(f"{int(number):0{digits}}", pattern)
        except ValueError:
            return False
        if number != int(number) or not 1970 <= date.year <= 2100:
            return False
    return True


def _plain(number: Any) -> int | float:
    return int(number) if float(number).is_integer() else float(number)


def _date(seconds: float) -> str:
    """A date for people; the number where the calendar has none."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} seconds after 1970"
