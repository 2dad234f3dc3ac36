"""A page as its sections, tables and figures."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "img"}


@dataclass
class Part:
    """What stands under one heading of the page."""

    text: str = ""
    tables: list[list[list[str]]] = field(default_factory=list)
    """Cells by table and line, the header's line first where there is one."""

    def table(self, number: int = 0) -> dict[str, list[str]]:
        """Lines of a table by their first cell."""
        return {line[0]: line[1:] for line in self.tables[number]}


class Page(HTMLParser):
    """Reads a page that ``hidvae.apps.show.page`` made, whose tags all have their end."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.parts: dict[str, Part] = {}
        self.figures = {
            found.group(1): json.JSONDecoder().raw_decode(html[found.end() :].lstrip())[0]
            for found in re.finditer(r'Plotly\.newPlot\(\s*"figure-([^"]+)",', html)
        }
        """Traces by the name of the figure."""
        self.references: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.introduction = Part()
        self._part = self.introduction
        self.feed(html)
        self.close()
        assert self._open == []

    def figure(self, name: str) -> dict[str, Any]:
        """The only trace of a figure."""
        (trace,) = self.figures[name]
        return dict(trace)

    def assert_needs_nothing(self, may_connect: bool = False) -> None:
        """No other file and no network; links lead within the page."""
        assert self.references
        assert all(reference.startswith("#part-") for reference in self.references)
        assert not {"link", "iframe", "object", "embed", "base", "img"} & set(self.tags)
        assert "default-src 'none'" in self.html
        assert ("connect-src" in self.html) == may_connect
        style = self.html.split("<style>")[1].split("</style>")[0]
        assert "@import" not in style
        assert "url(" not in style
        start, end = self.html.index("<script>"), self.html.index("</script>")
        outside_of_the_library = self.html[:start] + self.html[end:]
        assert "http://" not in outside_of_the_library
        assert "https://" not in outside_of_the_library

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in {"src", "href", "srcset", "action", "data"} or name.startswith("on"):
                self.references.append(str(value))
        if tag == "h2":
            self._part = Part()
        elif tag == "table":
            self._part.tables.append([])
        elif tag == "tr":
            self._part.tables[-1].append([])
        elif tag in {"td", "th"}:
            self._part.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"script", "style"} & set(self._open):
            return
        self.text += data
        if self._open and self._open[-1] in {"h1", "h2", "h3"}:
            self.headings.append((self._open[-1], data))
        if "h2" in self._open:
            self.parts[data] = self._part
            return
        if {"td", "th"} & set(self._open):
            self._part.tables[-1][-1][-1] += data
        self._part.text += data
