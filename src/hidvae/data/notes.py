"""What was decided about a user's tables, and what is wrong in them.

Whatever reads or checks tables is handed one ``Notes`` and tells it: what it *decided* (said in the
summary), which rows it *leaves out* (counted; refused with ``DatasetConfig.strict``) and what it
*refuses*. So ``hidvae prepare`` and ``hidvae prepare --check`` are one pass: the first stops at the
first fault, the second notes it and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hidvae.errors import DataError
from hidvae.store.artifacts import Decision

MAX_SHOWN = 10
"""Bad rows of a rule that are kept for showing."""
MAX_BROKEN_SHARE = 0.01
"""Largest share of a table's rows that may be broken and left out; one may always be."""
_SHOWN_IN_LINE = 3


@dataclass(frozen=True)
class Parts:
    """The parts of a table that was read as one, to say in which of them a row stands."""

    files: Mapping[str, Path]
    """By the name for messages, in the order in which they were read."""
    place: str
    """What a row of a part is named by, "line" or "row"."""
    ROWS = 2**40
    """The number of a row is that within its part, plus this for each part before."""

    def locate(self, number: int) -> tuple[str, int]:
        """The part's name, and the row within it."""
        part, row = divmod(number, self.ROWS)
        return list(self.files)[part], row


class BadRows(DataError):
    """Rows that break one rule; as text one line: where, what, and what to do.

    Attributes:
        file: Table the rows are in.
        column: Column that breaks the rule; empty if a line as a whole does.
        expected: What the column must hold.
        rows: The first bad rows (at most ``MAX_SHOWN``).
        values: What was found in ``column`` in those rows, or the lines.
        count: How many rows break the rule in all.
        advice: What to do.
        place: What ``rows`` counts: "line" of a text file as an editor counts them, or "row" of
            another table, of which the first is 1.
        parts: Of a table that has several; then they say what ``rows`` counts.

    Args:
        found: For the line, in place of the count and the first rows.
    """

    def __init__(
        self,
        *,
        file: str,
        column: str,
        expected: str,
        rows: Sequence[int],
        values: Sequence[object],
        count: int,
        advice: str,
        place: str = "row",
        parts: Parts | None = None,
        found: str = "",
    ) -> None:
        self.file, self.column, self.expected, self.advice = file, column, expected, advice
        self.rows, self.values, self.count = rows[:MAX_SHOWN], values[:MAX_SHOWN], count
        self.parts, self.place = parts, parts.place if parts else place
        found = found or self._summary()
        where = f"{file}, column {column}" if column else file
        super().__init__(f"{where}: expected {expected}; found {found}; {advice}")

    def _summary(self) -> str:
        pairs = list(zip(self.rows, self.values, strict=True))[:_SHOWN_IN_LINE]
        shown = ", ".join(f"{self.where(row)}: {show_value(value)}" for row, value in pairs)
        more = f" and {self.count - len(pairs)} more" if self.count > len(pairs) else ""
        return f"{self.count} bad {'row' if self.count == 1 else 'rows'} ({shown}{more})"

    def where(self, row: int) -> str:
        """One of ``rows`` in words, such as "line 3" or "line 3 of events-2.csv"."""
        return where_is(row, self.place, self.parts)

    def locate(self, row: int) -> tuple[str, int]:
        """The file that one of ``rows`` is in, and its line or row there."""
        if self.parts is None:
            return self.file, row
        name, row = self.parts.locate(row)
        return str(self.parts.files[name]), row

    def with_more(self, later: BadRows) -> BadRows:
        """The same rule over two parts of a table."""
        return BadRows(
            file=self.file,
            column=self.column,
            expected=self.expected,
            rows=[*self.rows, *later.rows],
            values=[*self.values, *later.values],
            count=self.count + later.count,
            advice=self.advice,
            place=self.place,
            parts=self.parts,
        )


@dataclass(frozen=True)
class _LeftOut:
    rows: BadRows
    what: str
    change: str
    at_most: float


class Notes:
    """Collects decisions, rows left out, and faults."""

    def __init__(self, *, strict: bool = False, go_on: bool = False) -> None:
        """Start with nothing.

        Args:
            strict: Refuse what would be left out.
            go_on: Keep faults in ``problems`` instead of raising the first.
        """
        self.strict, self.go_on = strict, go_on
        self.problems: list[DataError] = []
        """Faults that were refused, in the order in which they were found."""
        self.parts: dict[str, Parts] = {}
        """Of each table that has several, by its name for messages."""
        self.used: set[str] = set()
        """Settings of ``DatasetConfig`` that said how the tables are read; see ``use``."""
        self._decided: dict[str, Decision] = {}
        self._left_out: dict[tuple[str, str, str], _LeftOut] = {}

    def use(self, *settings: str) -> None:
        """Take note that settings had an effect, so that they are not said to have none."""
        self.used.update(settings)

    def decide(self, text: str, change: str = "") -> None:
        """Say what was chosen for the user; the same text twice is one decision.

        Args:
            text: What was found and what is done about it, without a full stop.
            change: The setting that changes it.
        """
        self._decided.setdefault(text, Decision(text, change))

    def leave_out(
        self, rows: BadRows, what: str, *, change: str = "", at_most: float = 1.0
    ) -> None:
        """Say that rows are left out, or refuse them if ``strict``.

        Args:
            rows: Which, and the rule that they break; parts of a table add up.
            what: What they are, to go on from "12 rows", such as "without a user id".
            change: The setting that changes it.
            at_most: Largest share of the table's rows; ``settle`` refuses more, but never one row.
        """
        if self.strict:
            self.refuse(rows)
            return
        key = (rows.file, rows.column, rows.expected)
        before = self._left_out.get(key)
        if before:
            rows = before.rows.with_more(rows)
        self._left_out[key] = _LeftOut(rows, what, change, at_most)

    def settle(self, file: str, num_rows: int) -> None:
        """At the end of a table: refuse what was left out of it too often.

        Raises:
            DataError: Unless ``go_on``.
        """
        for key, left in list(self._left_out.items()):
            if left.rows.file == file and left.rows.count > max(1, left.at_most * num_rows):
                del self._left_out[key]
                self.refuse(left.rows)

    def refuse(self, error: DataError) -> None:
        """Raise it, or keep it and return if ``go_on``.

        Raises:
            DataError: Unless ``go_on``.
        """
        if not self.go_on:
            raise error
        self.problems.append(error)

    def num_left_out(self, file: str) -> int:
        """Rows of a table that were left out, a row with two faults twice."""
        return sum(left.rows.count for left in self._left_out.values() if left.rows.file == file)

    @property
    def decisions(self) -> list[Decision]:
        """All of them, what is left out last."""
        left_out = [
            Decision(
                f"{left.rows.file}: {count_of(left.rows.count, 'row')} {left.what} "
                f"{'is' if left.rows.count == 1 else 'are'} left out "
                f"({_places(left.rows)}{', …' if left.rows.count > _SHOWN_IN_LINE else ''})",
                left.change or "DatasetConfig.strict=True",
            )
            for left in self._left_out.values()
        ]
        return [*self._decided.values(), *left_out]


def where_is(row: int, place: str, parts: Parts | None = None) -> str:
    """Where a row is in words: "line 3", or "line 3 of events-2.csv" in a table of parts."""
    if parts is None:
        return f"{place} {row}"
    name, row = parts.locate(row)
    return f"{parts.place} {row} of {name}"


def _places(bad: BadRows) -> str:
    """The first rows in words, such as "line 3, 7"."""
    first = bad.rows[:_SHOWN_IN_LINE]
    if bad.parts is None:
        return f"{bad.place} {', '.join(map(str, first))}"
    return ", ".join(map(bad.where, first))


def count_of(number: int, noun: str) -> str:
    """A number with its noun, such as "1 row" or "2,000 rows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def show_value(value: object) -> str:
    """A value of a table for a message, cut to 60 characters."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
