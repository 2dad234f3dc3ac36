"""Everything that is wrong with a dataset's tables at once, for ``hidvae prepare --check``.

The rules are those of ``prepare``, which stops at the first; here each broken rule is noted and
the next one tried. Reads the log in batches and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest

import polars as pl

from hidvae.config import DatasetConfig
from hidvae.data.events import drop_rare, keep_repeated, put_in_order, read_events
from hidvae.data.rules import ROW, unknown_items
from hidvae.data.schema import Columns, check_events, check_items
from hidvae.data.tables import MAX_SHOWN, BadRows, SourceTables, read_batches, show_value
from hidvae.errors import DataError


@dataclass(frozen=True)
class Problem:
    """A row that breaks a rule, or a fault of a whole table."""

    message: str
    """Where, what was expected, what was found and what to do, in one line."""
    file: str = ""
    row: int | None = None
    """Counts from 1 below the header; None for a whole table."""
    column: str = ""
    value: object = None


@dataclass(frozen=True)
class ProblemReport:
    """What ``find_problems`` found."""

    problems: list[Problem]
    """At most the first ten, a few of each broken rule."""
    totals: dict[str, int]
    """Bad rows (or 1 for a whole table) by rule."""
    num_items: int
    num_events: int

    @property
    def num_problems(self) -> int:
        """Bad rows over all rules, and faults of whole tables."""
        return sum(self.totals.values())

    @property
    def is_clean(self) -> bool:
        """Whether ``prepare`` would take the tables."""
        return not self.totals

    def lines(self) -> list[str]:
        """The report to print."""
        if self.is_clean:
            return [f"no problems in {self.num_items} items and {self.num_events} events"]
        noun = "problem" if self.num_problems == 1 else "problems"
        shown = f", {len(self.problems)} shown" if len(self.problems) < self.num_problems else ""
        totals = [f"  {count} x {rule}" for rule, count in self.totals.items()]
        return [
            *(problem.message for problem in self.problems),
            f"{self.num_problems} {noun}{shown}:",
            *totals,
        ]


def find_problems(tables: SourceTables, config: DatasetConfig) -> ProblemReport:
    """Try all rules on both tables.

    Args:
        tables: As the source read them.
        config: Says which events count.

    Raises:
        DataError: If a file cannot be read to its end.
    """
    found = _Findings()
    items = check_items(tables.items, tables.items_file, found.add)
    known = _known_items(items)
    unknown, num_unknown, num_events = pl.DataFrame(), 0, 0
    for first_row, raw in read_batches(tables):
        events = check_events(raw, tables.interactions_file, first_row, found.add)
        numbers = pl.int_range(first_row, first_row + pl.len(), dtype=pl.Int64)
        events = events.with_columns(numbers.alias(ROW))
        num_events += raw.height
        if Columns.ITEM in events.columns and not known.is_empty():
            is_known = pl.col(Columns.ITEM).is_in(known[Columns.ITEM].implode())
            missing = events.filter(~is_known)
            num_unknown += missing.height
            if unknown.height < MAX_SHOWN:
                unknown = pl.concat([unknown, missing.select(Columns.ITEM, ROW)], how="diagonal")
    if error := unknown_items(unknown, num_unknown, num_events, known, tables):
        found.add(error)
    if not found.errors:  # else what is left of each user cannot be known
        logged, _ = read_events(tables, items)
        events_in_order = put_in_order(logged, items, config)
        try:
            drop_rare(keep_repeated(events_in_order, config.repeated_items), tables, config)
        except DataError as error:
            found.add(error)
    return found.report(tables.items.height, num_events)


@dataclass
class _Findings:
    """Collects broken rules; the same rule in several batches is one."""

    errors: dict[tuple[str, ...], list[DataError]] = field(default_factory=dict)

    def add(self, error: DataError) -> None:
        key: tuple[str, ...] = (str(error),)
        if isinstance(error, BadRows):
            key = (error.file, error.column, error.expected)
        seen = self.errors.setdefault(key, [])
        if isinstance(error, BadRows) or not seen:
            seen.append(error)

    def report(self, num_items: int, num_events: int) -> ProblemReport:
        by_rule = [_problems(errors) for errors in self.errors.values()]
        in_turn = chain.from_iterable(zip_longest(*by_rule))
        shown = list(islice((problem for problem in in_turn if problem), MAX_SHOWN))
        totals = {_rule(errors[0]): _total(errors) for errors in self.errors.values()}
        in_order = [problem for rule in by_rule for problem in rule if problem in shown]
        return ProblemReport(in_order, totals, num_items, num_events)


def _problems(errors: list[DataError]) -> list[Problem]:
    return list(islice(chain.from_iterable(map(_rows_of, errors)), MAX_SHOWN))


def _rows_of(error: DataError) -> Iterator[Problem]:
    """One problem per row that is shown of a rule."""
    if not isinstance(error, BadRows):
        yield Problem(str(error))
        return
    for row, value in zip(error.rows, error.values, strict=True):
        message = (
            f"{error.file}, row {row}, column {error.column}: expected {error.expected}; "
            f"found {show_value(value)}; {error.advice}"
        )
        yield Problem(message, error.file, row, error.column, value)


def _rule(error: DataError) -> str:
    if isinstance(error, BadRows):
        return f"{error.file}, column {error.column}: {error.expected}"
    return str(error).partition("; ")[0]


def _total(errors: list[DataError]) -> int:
    return sum(error.count if isinstance(error, BadRows) else 1 for error in errors)


def _known_items(items: pl.DataFrame) -> pl.DataFrame:
    """The ids that events may name; none if the table has no usable ids."""
    if Columns.ITEM not in items.columns:
        return pl.DataFrame(schema={Columns.ITEM: pl.String})
    return items.select(pl.col(Columns.ITEM).drop_nulls().unique(maintain_order=True))
