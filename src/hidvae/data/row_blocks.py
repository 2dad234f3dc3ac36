"""Rows that Python read, block by block: in memory while they are few, then in temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import polars as pl

from hidvae.data.notes import MAX_BROKEN_SHARE, MAX_SHOWN, BadRows, Notes, count_of, show_value
from hidvae.data.text_files import scratch_folder

ROWS_PER_BLOCK = 100_000
_BYTES_IN_MEMORY = 64_000_000

Row = TypeVar("Row")


class RowBlocks(Generic[Row]):
    """Turns rows into a table, however many there are."""

    def __init__(self, to_frame: Callable[[Sequence[Row]], pl.DataFrame]) -> None:
        """Start without rows; ``to_frame`` makes a table with the same columns of any of them."""
        self._to_frame = to_frame
        self._rows: list[Row] = []
        self._frames: list[pl.DataFrame] = []
        self._files: list[Path] = []
        self._folder: Path | None = None

    def extend(self, rows: Iterable[Row]) -> None:
        """Add rows."""
        for row in rows:
            self._rows.append(row)
            if len(self._rows) == ROWS_PER_BLOCK:
                self._end_block()

    def table(self) -> pl.LazyFrame:
        """All rows, in order."""
        if self._rows or not (self._frames or self._files):
            self._end_block()
        if self._files:
            self._to_file()
            return pl.scan_parquet(self._files, glob=False)
        return pl.concat(self._frames).lazy()

    def _end_block(self) -> None:
        self._frames.append(self._to_frame(self._rows))
        self._rows = []
        if sum(frame.estimated_size() for frame in self._frames) > _BYTES_IN_MEMORY:
            self._to_file()

    def _to_file(self) -> None:
        if not self._frames:
            return
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(dir=scratch_folder()))
        file = self._folder / f"part-{len(self._files):06d}.parquet"
        pl.concat(self._frames).write_parquet(file)
        self._files.append(file)
        self._frames = []


class BrokenLines:
    """Counts lines that are no rows, and keeps the first ones for showing."""

    def __init__(self, expected: str, advice: str) -> None:
        """Start with none; ``expected`` and ``advice`` are for the message."""
        self.count = 0
        self._expected, self._advice = expected, advice
        self._lines: list[int] = []
        self._values: list[str] = []
        self._first = ""

    def add(self, line: int, text: str, found: str) -> None:
        """One more; ``found`` says what it holds instead."""
        self.count += 1
        self._first = self._first or f"{found} in line {line} ({show_value(text)})"
        if len(self._lines) < MAX_SHOWN:
            self._lines.append(line)
            self._values.append(text)

    def tell(self, file: str, what: str, num_rows: int, notes: Notes) -> None:
        """Have them left out, or refused if there are too many.

        Raises:
            DataError: If they are all lines, or more than ``MAX_BROKEN_SHARE`` and more than one.
        """
        if not self.count:
            return
        more = f", and {count_of(self.count - 1, 'more such line')}" if self.count > 1 else ""
        rows = BadRows(
            file=file,
            column="",
            expected=self._expected,
            rows=self._lines,
            values=self._values,
            count=self.count,
            advice=self._advice,
            place="line",
            found=self._first + more,
        )
        if not num_rows:
            notes.refuse(rows)
        notes.leave_out(rows, what, at_most=MAX_BROKEN_SHARE)
        notes.settle(file, num_rows + self.count)
