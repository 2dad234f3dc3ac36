"""One HTML file that needs nothing beside it: no network, no other file.

Plain text and HTML have different types: Jinja escapes every ``str`` and leaves ``Markup`` as it
is, and only the functions here and ``figures`` make ``Markup``. The page's content security policy
forbids to load anything, so a browser holds this line too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hidvae.errors import ArtifactError
from hidvae.log import printable
from hidvae.store.files import atomic_write


def _harmless(value: object) -> object:
    """Text without control characters and marks that turn the direction of what follows."""
    return "\n".join(map(printable, value.split("\n"))) if type(value) is str else value


_TEMPLATES = Environment(
    loader=PackageLoader("hidvae.apps.show"),
    autoescape=True,
    finalize=_harmless,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading of its own."""

    title: str
    parts: Sequence[Markup]


def page(
    title: str,
    introduction: Sequence[Markup],
    sections: Sequence[Section],
    script: str,
    *,
    may_ask_its_server: bool = False,
) -> str:
    """The whole document.

    Args:
        title: Plain text.
        introduction: What stands below the title.
        sections: In order; a line of links leads to them.
        script: JavaScript that figures need, or nothing; it is not escaped.
        may_ask_its_server: Let scripts fetch from where the page comes from, and nowhere else.
    """
    return _TEMPLATES.get_template("page.html").render(
        title=title,
        introduction=introduction,
        sections=sections,
        script=Markup(script),
        may_ask_its_server=may_ask_its_server,
    )


def paragraph(text: str) -> Markup:
    """A paragraph of plain text."""
    return _part("paragraph", text)


def heading(text: str) -> Markup:
    """A heading inside a section."""
    return _part("heading", text)


def details(summary: str, text: str) -> Markup:
    """Plain text as it is, folded away under a line of plain text."""
    return _part("details", summary, text)


def table(
    lines: Sequence[Sequence[str]],
    header: Sequence[str] = (),
    *,
    numbers: Collection[int] = (),
) -> Markup:
    """A table of plain text; the first cell of a line names it.

    Args:
        lines: Cells, line by line.
        header: Names of the columns.
        numbers: Columns that are aligned to the right.
    """
    return _part("table", lines, header, numbers)


def figures(drawn: Sequence[tuple[str, Markup]]) -> Markup:
    """One figure, or several in pairs where there is room.

    Args:
        drawn: Caption (plain text) and drawing of each.
    """
    return _part("figures", drawn)


def write_page(html: str, file: Path) -> None:
    """Write a page whole or not at all; a page of that name is replaced.

    Raises:
        ArtifactError: If it cannot be written.
    """
    try:
        with atomic_write(file) as temporary:
            temporary.write_text(html, encoding="utf-8")
    except OSError as error:
        raise ArtifactError(
            f"could not write {file}: {error.strerror or error}; choose a file in a folder that is "
            "there and that you may write to"
        ) from error


def _part(name: str, *arguments: object) -> Markup:
    """What a macro of ``parts.html`` makes."""
    made: Markup = getattr(_TEMPLATES.get_template("parts.html").module, name)(*arguments)
    return made
