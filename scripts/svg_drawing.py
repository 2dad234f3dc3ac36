"""A sheet to draw on, written as an SVG file that reads well on light and dark pages.

Colours are named by role and change with the reader's system; sizes are pixels. Text is not
measured: it is wrapped by counting letters, at an average width that few fonts exceed.
"""

from __future__ import annotations

import textwrap
from html import escape
from pathlib import Path

LETTER = 0.59
"""Width of an average letter, in font sizes."""

_LIGHT = {
    "page": "#ffffff",
    "card": "#f1f5f9",
    "edge": "#cbd5e1",
    "text": "#0f172a",
    "soft": "#5b6b7f",
    "first": "#0f766e",
    "second": "#c2410c",
    "third": "#6d28d9",
}
_DARK = {
    "page": "#111827",
    "card": "#1f2a3a",
    "edge": "#4b5c72",
    "text": "#e8edf4",
    "soft": "#9fb0c5",
    "first": "#2dd4bf",
    "second": "#fb923c",
    "third": "#b79cff",
}
ROLES = tuple(_LIGHT)
"""page, card and edge are surfaces; text and soft are inks; the levels of an ID are the rest."""
LEVELS = ("first", "second", "third")


class Drawing:
    """Shapes in the order in which they are drawn."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._shapes: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, role: str = "card") -> None:
        """A rounded rectangle with an edge."""
        self._shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="9" '
            f'class="edge-line fill-{role}"/>'
        )

    def bar(self, x: float, y: float, width: float, height: float, role: str) -> None:
        """A filled rectangle without an edge."""
        self._shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" '
            f'rx="2" class="fill-{role}"/>'
        )

    def dot(self, x: float, y: float, radius: float, role: str, opacity: float = 1.0) -> None:
        """A filled circle."""
        self._shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="fill-{role}" '
            f'opacity="{opacity:g}"/>'
        )

    def line(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        role: str = "edge",
        *,
        thickness: float = 1.5,
        is_arrow: bool = False,
    ) -> None:
        """A straight line, with a head at its end if it is an arrow."""
        head = f' marker-end="url(#head-{role})"' if is_arrow else ""
        self._shapes.append(
            f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" '
            f'class="line-{role}" stroke-width="{thickness:g}"{head}/>'
        )

    def bend(
        self, start: tuple[float, float], end: tuple[float, float], role: str, thickness: float
    ) -> None:
        """A curve that leaves and arrives horizontally."""
        middle = (start[0] + end[0]) / 2
        self._shapes.append(
            f'<path d="M{start[0]:.1f},{start[1]:.1f} C{middle:.1f},{start[1]:.1f} {middle:.1f},'
            f'{end[1]:.1f} {end[0]:.1f},{end[1]:.1f}" class="line-{role}" fill="none" '
            f'stroke-width="{thickness:.1f}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        role: str = "text",
        *,
        size: int = 14,
        is_bold: bool = False,
        is_code: bool = False,
        anchor: str = "start",
    ) -> None:
        """One line of text; y is its base line."""
        weight = ' font-weight="600"' if is_bold else ""
        family = ' class="code fill-' if is_code else ' class="fill-'
        self._shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{weight}'
            f'{family}{role}">{escape(text, quote=False)}</text>'
        )

    def paragraph(
        self, x: float, y: float, text: str, width: float, role: str = "text", *, size: int = 14
    ) -> float:
        """Text broken into lines of a width; returns the base line below it."""
        for line in textwrap.wrap(text, max(8, int(width / (LETTER * size)))):
            self.text(x, y, line, role, size=size)
            y += 1.4 * size
        return y

    def save(self, file: Path) -> None:
        """Write the file."""
        heads = "".join(
            f'<marker id="head-{role}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" class="fill-{role}"/>'
            "</marker>"
            for role in ROLES
        )
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img">',
            f"<title>{escape(self.title, quote=False)}</title>",
            f"<style>{_style()}</style>",
            f"<defs>{heads}</defs>",
            f'<rect width="{self.width}" height="{self.height}" rx="12" class="fill-page"/>',
            *self._shapes,
            "</svg>",
        ]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _style() -> str:
    """Every colour once; the dark ones where the reader's system is dark."""
    names = ";".join(f"--{role}:{colour}" for role, colour in _LIGHT.items())
    dark = ";".join(f"--{role}:{colour}" for role, colour in _DARK.items())
    uses = "".join(
        f".fill-{role}{{fill:var(--{role})}}.line-{role}{{stroke:var(--{role})}}" for role in ROLES
    )
    return (
        "text{font-family:system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}"
        ".code{font-family:ui-monospace,Menlo,Consolas,'Liberation Mono',monospace}"
        f".edge-line{{stroke:var(--edge)}}{uses}"
        f"svg{{{names}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}"
    )
