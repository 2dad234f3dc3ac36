"""Which rows of a log are events: ``DatasetConfig.events_where``, such as ``rating >= 4``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from hidvae.data.tables import nearest, reading
from hidvae.errors import ConfigError

_SHAPE = re.compile(r"^\s*(?P<column>.+?)\s*(?P<operator><=|>=|!=|==|=|<|>)\s*(?P<value>.+?)\s*$")
_SETTING = "DatasetConfig.events_where"
_TRUTH = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "y", "t"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "n", "f"), False),
}
"""How programs write what is true and false, in lower case."""
_SAMPLE = 1000


@dataclass(frozen=True)
class Condition:
    """One comparison of a column with a value."""

    column: str
    operator: str
    """``=``, ``!=``, ``<``, ``<=``, ``>`` or ``>=``."""
    values: tuple[str, ...]
    """One value, or several of which one has to be met (``event_type = cart | purchase``)."""

    def is_met(self, *, is_truth: bool = False) -> pl.Expr:
        """Whether a row meets it; a value that is missing or no number where one is needed doesn't.

        Numbers are compared as numbers, so that ``4`` is ``4.0``, everything else as text.

        Args:
            is_truth: Whether the column says true or false, in whatever way; then ``1``, ``true``
                and ``yes`` are the same.
        """
        text = pl.col(self.column).cast(pl.String).str.strip_chars()
        number = text.cast(pl.Float64, strict=False)
        if is_truth:
            lower = text.str.to_lowercase()
            truth = lower.replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)
            number = pl.coalesce(number, truth.cast(pl.Float64))
        if self.operator in ("=", "!="):
            equal = [
                (number == _as_number(value, is_truth=is_truth)).fill_null(value=False)
                if _is_number(value) or (is_truth and value.lower() in _TRUTH)
                else _same_text(text, value)
                for value in self.values
            ]
            met = pl.any_horizontal(equal)
            met = ~met & text.is_not_null() if self.operator == "!=" else met
        else:
            limit = float(self.values[0])
            met = {
                "<": number < limit,
                "<=": number <= limit,
                ">": number > limit,
                ">=": number >= limit,
            }[self.operator]
        return met.fill_null(value=False)


def parse_condition(text: str) -> Condition:
    """A condition from its words.

    Raises:
        ConfigError: If it is none.
    """
    found = _SHAPE.match(text)
    if not found:
        raise ConfigError(
            f"{_SETTING}: expected a column, one of = != < <= > >= and a value, such as "
            f"'rating >= 4'; found {text!r}"
        )
    operator = found["operator"].replace("==", "=")
    values = tuple(value.strip().strip("'\"") for value in found["value"].split("|"))
    if operator not in ("=", "!=") and not (len(values) == 1 and _is_number(values[0])):
        raise ConfigError(f"{_SETTING}: expected a number after {operator}; found {text!r}")
    return Condition(found["column"], operator, values)


def keep_events(log: pl.LazyFrame, conditions: Sequence[str], file: str) -> pl.LazyFrame:
    """The rows of a log that meet all conditions.

    Args:
        log: Under its own column names.
        conditions: As in the setting.
        file: Where it came from, for messages.

    Raises:
        ConfigError: If a condition is malformed, or its column is not there.
    """
    every, names = log, log.collect_schema().names() if conditions else []
    for condition in map(parse_condition, conditions):
        if condition.column not in names:
            near = nearest(condition.column, names)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(names)}"
            raise ConfigError(
                f"{_SETTING}: expected a column of {file}; found {condition.column!r}; {hint}"
            )
        log = log.filter(condition.is_met(is_truth=_says_truth(every, condition.column, file)))
    return log


def _says_truth(log: pl.LazyFrame, column: str, file: str) -> bool:
    """Whether a column says nothing but true or false, to judge by its first rows."""
    if log.collect_schema()[column] == pl.Boolean:
        return True
    text = pl.col(column).cast(pl.String).str.strip_chars().str.to_lowercase()
    with reading(file):
        first = log.select(text).head(_SAMPLE).drop_nulls().collect(engine="streaming").to_series()
    first = first.filter(first != "")
    return bool(first.len() and first.is_in(list(_TRUTH)).all())


def _as_number(value: str, *, is_truth: bool) -> float:
    if is_truth and value.lower() in _TRUTH:
        return float(_TRUTH[value.lower()])
    return float(value)


def _same_text(text: pl.Expr, value: str) -> pl.Expr:
    """Whether text is a value; ``True`` is ``true``, as each program writes it."""
    if value.lower() in ("true", "false"):
        return text.str.to_lowercase() == value.lower()
    return text == value


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
