"""Everything that is wrong with a dataset's tables at once, for ``hidvae prepare --check``.

The rules are those of ``prepare``, which stops at the first; here each broken rule is noted and
the next one tried. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest

from hidvae.config import DatasetConfig
from hidvae.data.notes import MAX_SHOWN, BadRows, Notes, show_value
from hidvae.data.prepare import assemble
from hidvae.data.tables import SourceTables
from hidvae.errors import DataError
from hidvae.store.artifacts import Decision


@dataclass(frozen=True)
class Problem:
    """A row that breaks a rule, or a fault of a whole table."""

    message: str
    """Where, what was expected, what was found and what to do, in one line."""
    file: str = ""
    row: int | None = None
    """The line of a text file, the row of another table, from 1; None for a whole table."""
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
    """That ``prepare`` would keep, if it would take the tables."""
    num_events: int
    decisions: Sequence[Decision] = ()
    """What ``prepare`` would decide and leave out."""

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
        decided = [f"decided: {decision.said}" for decision in self.decisions]
        if self.is_clean:
            sizes = f"{self.num_items} items and {self.num_events} events"
            return [*decided, f"no problems in {sizes}"]
        noun = "problem" if self.num_problems == 1 else "problems"
        shown = f", {len(self.problems)} shown" if len(self.problems) < self.num_problems else ""
        totals = [f"  {count} x {rule}" for rule, count in self.totals.items()]
        return [
            *decided,
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
    notes = Notes(strict=config.strict, go_on=True)
    sizes = (tables.items.height, 0)
    try:
        made = assemble(tables, config, notes)
        sizes = made.metrics["num_items"], made.metrics["num_events"]
    except DataError as error:
        if error not in notes.problems:
            notes.problems.append(error)
    found = _Findings()
    for problem in notes.problems:
        found.add(problem)
    return found.report(*sizes, notes.decisions)


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

    def report(
        self, num_items: int, num_events: int, decisions: Sequence[Decision]
    ) -> ProblemReport:
        by_rule = [_problems(errors) for errors in self.errors.values()]
        in_turn = chain.from_iterable(zip_longest(*by_rule))
        shown = list(islice((problem for problem in in_turn if problem), MAX_SHOWN))
        totals = {_rule(errors[0]): _total(errors) for errors in self.errors.values()}
        in_order = [problem for rule in by_rule for problem in rule if problem in shown]
        return ProblemReport(in_order, totals, num_items, num_events, decisions)


def _problems(errors: list[DataError]) -> list[Problem]:
    return list(islice(chain.from_iterable(map(_rows_of, errors)), MAX_SHOWN))


def _rows_of(error: DataError) -> Iterator[Problem]:
    """One problem per row that is shown of a rule."""
    if not isinstance(error, BadRows):
        yield Problem(str(error))
        return
    column = f", column {error.column}" if error.column else ""
    for row, value in zip(error.rows, error.values, strict=True):
        file, number = error.locate(row)
        message = (
            f"{file}, {error.place} {number}{column}: expected {error.expected}; "
            f"found {show_value(value)}; {error.advice}"
        )
        yield Problem(message, file, number, error.column, value)


def _rule(error: DataError) -> str:
    if isinstance(error, BadRows):
        column = f", column {error.column}" if error.column else ""
        return f"{error.file}{column}: {error.expected}"
    return str(error).partition("; ")[0]


def _total(errors: list[DataError]) -> int:
    return sum(error.count if isinstance(error, BadRows) else 1 for error in errors)
