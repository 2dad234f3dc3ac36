"""A dataset as plain text of at most 96 columns; it only formats."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hidvae.apps.show import dataset_rows as rows
from hidvae.apps.show.dataset_facts import (
    Count,
    DatasetFacts,
    Distribution,
    Hierarchy,
    SampleItem,
)
from hidvae.apps.show.formats import number
from hidvae.log import printable

WIDTH = 96
_INDENT = 2
_GAP = 2
_NAME_WIDTH = 26
_LONGEST_NAME = 40
_BAR_WIDTH = 44
_SHOWN_CLASSES = 6
_EMPTY_LINE = Text(" ")


def dataset_text(facts: DatasetFacts) -> str:
    """The whole view; no line ends in white space."""
    written = io.StringIO()
    console = Console(
        file=written, width=WIDTH, color_system=None, highlight=False, markup=False, emoji=False
    )
    for part in _parts(facts):
        console.print(part)
    return "\n".join(line.rstrip() for line in written.getvalue().rstrip().splitlines())


def _parts(facts: DatasetFacts) -> Iterator[RenderableType]:
    yield _line(f"dataset {facts.name}")
    if facts.settings:
        changed = ", ".join(f"{name}={value}" for name, value in facts.settings.items())
        yield _indented(Text(printable(f"settings: {changed}")))
    for note in facts.notes:
        yield _indented(Text(printable(f"note: {note}")))
    yield from _section("sizes", _table(rows.size_rows(facts), right=(1,)))
    if facts.counts:
        yield from _section("counted by prepare", *_counts(facts.counts))
    if facts.ties:
        yield from _section("ties: events of one user at the same time", *_counts(facts.ties))
    yield from _section(
        "events per user",
        _table(rows.spread_rows(facts.lengths)),
        _EMPTY_LINE,
        _bars(facts.lengths),
    )
    yield from _section("events per item", _table(rows.popularity_rows(facts)))
    if facts.hierarchy.is_made:  # else the classes below say the same
        yield from _section("category paths", _table(rows.depth_rows(facts.category_depth)))
    yield from _section(f"classes of the {facts.hierarchy.title}", *_classes(facts.hierarchy))
    columns = _table(rows.column_rows(facts.columns), rows.COLUMN_HEADER, right=(1, 2), cut=True)
    yield from _section("columns of the items", columns)
    if facts.items:
        yield from _section("some items", *(line for item in facts.items for line in _item(item)))
    if facts.users:
        yield from _section("some users, their latest events", *_users(facts))


def _section(title: str, *parts: RenderableType) -> Iterator[RenderableType]:
    yield Text(f"\n{title}")
    for part in parts:
        yield _indented(part)


def _counts(counts: Sequence[Count]) -> Iterator[RenderableType]:
    if found := rows.count_rows(counts):
        yield _table(found, right=(1, 2))
    if zeros := rows.zero_names(counts):
        yield Text(f"none: {zeros}")


def _bars(numbers: Distribution) -> RenderableType:
    bins = numbers.bins()
    most = max(entry.count for entry in bins)
    drawn = [
        # rounded up: what is there is seen
        (entry.label, number(entry.count), "#" * -(-entry.count * _BAR_WIDTH // most))
        for entry in bins
    ]
    return _table(drawn, ("events", "users", ""), right=(0, 1))


def _classes(hierarchy: Hierarchy) -> Iterator[RenderableType]:
    if not any(level.num_classes for level in hierarchy.levels):
        yield Text("none")
        return
    yield _table(rows.level_rows(hierarchy), rows.LEVEL_HEADER, right=range(1, 6))
    yield _EMPTY_LINE
    yield _table(rows.class_rows(hierarchy, _SHOWN_CLASSES))
    if sources := rows.source_rows(hierarchy):
        yield _EMPTY_LINE
        yield _table(sources[1:], sources[0], right=range(1, len(sources[0])))


def _item(item: SampleItem) -> Iterator[RenderableType]:
    yield _line(f"{item.item_id}  {item.title}")
    path = " > ".join(item.tags) or "no tags"
    yield _line(f"    {path}; {number(item.num_events)} events")
    for name, value in item.fields.items():
        yield _line(f"    {name}: {value}")


def _users(facts: DatasetFacts) -> Iterator[RenderableType]:
    for user in facts.users:
        yield _line(f"{user.user_id}, {number(user.num_events)} events")
        for use, title in user.latest:
            yield _line(f"    {use:<10}  {title}")


def _table(
    lines: Sequence[rows.Row],
    header: rows.Row | None = None,
    *,
    right: Sequence[int] = (),
    cut: bool = False,
) -> Table:
    """Columns side by side; the last one takes what is left, wrapped or cut."""
    table = Table(box=None, pad_edge=False, show_header=header is not None, padding=(0, _GAP, 0, 0))
    cells = [*lines, *([header] if header else [])]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    widths[0] = max(min(widths[0], _LONGEST_NAME), 0 if header else _NAME_WIDTH)
    rest = WIDTH - _INDENT - sum(width + _GAP for width in widths[:-1])
    widths[-1] = min(widths[-1], max(rest, _NAME_WIDTH))
    for index, width in enumerate(widths):
        table.add_column(
            Text(header[index]) if header else "",
            justify="right" if index in right else "left",
            width=width,
            no_wrap=cut or index < len(widths) - 1,
            overflow="ellipsis" if cut else "fold",
        )
    for line in lines:
        table.add_row(*(Text(printable(cell)) for cell in line))
    return table


def _line(text: str) -> Text:
    return Text(printable(text), no_wrap=True, overflow="ellipsis")


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, _INDENT), expand=False)
