"""One HTML file that needs nothing beside it: no network, no other file.

Text is escaped where it enters: ``table``, ``paragraph`` and ``page`` take plain text and return
HTML. The page's content security policy forbids to load anything, so a browser holds this line too.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from hidvae.errors import ArtifactError

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
_ASKING_POLICY = _POLICY + "; connect-src 'self'"

_STYLE = """
:root { color-scheme: light dark; --text: #1d2329; --soft: #5a6572; --line: #d9dfe5;
  --ground: #ffffff; --panel: #f5f7f9; --link: #0b62b0; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e8ec; --soft: #a0abb6; --line: #39424c; --ground: #14181c; --panel: #1d2329;
    --link: #7db8ee; }
}
html { overflow-y: scroll; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; color: var(--text);
  background: var(--ground); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 45rem; color: var(--soft); }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 0; padding: 0;
  list-style: none; }
.figures { display: grid; gap: 1rem; grid-template-columns: minmax(0, 1fr); }
@media (min-width: 50rem) { .pair { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
figure { margin: 0; }
figcaption { font-weight: 600; margin-top: .75rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .25rem 0 .75rem; font-size: .925rem; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; }
th { font-weight: 600; white-space: nowrap; }
td:last-child { min-width: 10rem; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; min-width: 0; }
details { margin: .25rem 0; }
summary { cursor: pointer; }
pre { margin: .25rem 0 .75rem; padding: .5rem; overflow-x: auto; background: var(--panel);
  font-size: .8rem; }
.js-plotly-plot .main-svg { background: transparent !important; }
.js-plotly-plot :is(.xtick, .ytick, .g-xtitle, .g-ytitle, .legend) text {
  fill: var(--text) !important; }
.js-plotly-plot .gridlayer path { stroke: var(--line) !important; }
.js-plotly-plot .zerolinelayer path { stroke: var(--soft) !important; }
"""


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading of its own."""

    title: str
    parts: Sequence[str]
    """HTML, as the functions below make it."""


def page(
    title: str,
    introduction: Sequence[str],
    sections: Sequence[Section],
    script: str,
    *,
    may_ask_its_server: bool = False,
) -> str:
    """The whole document.

    Args:
        title: Plain text.
        introduction: HTML below the title.
        sections: In order; a line of links leads to them.
        script: JavaScript that figures need, or nothing.
        may_ask_its_server: Let scripts fetch from where the page comes from, and nowhere else.
    """
    policy = _ASKING_POLICY if may_ask_its_server else _POLICY
    links = "".join(
        f'<li><a href="#part-{number}">{escape(section.title)}</a></li>'
        for number, section in enumerate(sections, start=1)
    )
    body = "\n".join(
        f'<section>\n<h2 id="part-{number}">{escape(section.title)}</h2>\n'
        + "\n".join(section.parts)
        + "\n</section>"
        for number, section in enumerate(sections, start=1)
    )
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f"<script>{script}</script>",
            "</head>",
            "<body>",
            "<header>",
            f"<h1>{escape(title)}</h1>",
            *introduction,
            f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
            "</header>",
            "<main>",
            body,
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def heading(text: str) -> str:
    """A heading inside a section."""
    return f"<h3>{escape(text)}</h3>"


def details(summary: str, text: str) -> str:
    """Plain text as it is, folded away under a line of plain text."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def table(
    lines: Sequence[Sequence[str]],
    header: Sequence[str] | None = None,
    *,
    numbers: Collection[int] = (),
) -> str:
    """A table of plain text; the first cell of a line names it.

    Args:
        lines: Cells, line by line.
        header: Names of the columns.
        numbers: Columns that are aligned to the right.
    """
    marks = {index: ' class="number"' for index in numbers}
    head = "".join(
        f'<th scope="col"{marks.get(index, "")}>{escape(cell)}</th>'
        for index, cell in enumerate(header or ())
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<th scope="row"{marks.get(index, "")}>{escape(cell)}</th>'
            if index == 0
            else f"<td{marks.get(index, '')}>{escape(cell)}</td>"
            for index, cell in enumerate(line)
        )
        + "</tr>"
        for line in lines
    )
    top = f"<thead><tr>{head}</tr></thead>\n" if header else ""
    return f'<div class="scroll"><table>\n{top}<tbody>\n{body}\n</tbody></table></div>'


def figures(drawn: Sequence[tuple[str, str]]) -> str:
    """One figure, or several in pairs where there is room.

    Args:
        drawn: Caption (plain text) and HTML of each.
    """
    parts = [
        f"<figure><figcaption>{escape(caption)}</figcaption>{drawing}</figure>"
        for caption, drawing in drawn
    ]
    layout = "figures" if len(drawn) == 1 else "figures pair"
    return f'<div class="{layout}">\n{"".join(parts)}\n</div>'


def write_page(html: str, file: Path) -> None:
    """Write a page whole or not at all; a page of that name is replaced.

    Raises:
        ArtifactError: If it cannot be written.
    """
    temporary = file.with_name(f".{file.name}.writing")
    try:
        try:
            temporary.write_text(html, encoding="utf-8")
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(
            f"could not write {file}: {error.strerror or error}; choose a file in a folder that is "
            "there and that you may write to"
        ) from error
