"""Clean text: entities decoded, control characters blanks, and what is blank null."""

from __future__ import annotations

import html

import polars as pl

from hidvae.data.tables import map_distinct

_CONTROL = r"[\p{Cc}\u{202A}-\u{202E}\u{2066}-\u{2069}]+"
"""Control characters, also those that turn the direction of writing."""


def decode_entities(text: str) -> str:
    """Decode HTML entities until none is left: public data often encodes them twice.

    >>> decode_entities("Shea &amp;amp; Cocoa")
    'Shea & Cocoa'
    """
    while (decoded := html.unescape(text)) != text:
        text = decoded
    return text


def clean_text(values: pl.Series) -> pl.Series:
    """Text with entities decoded and outer white space removed; blank text becomes null.

    Control characters become blanks, so that no screen or page obeys them.

    Args:
        values: (N,), any type that can be written as text.
    """
    text = values.cast(pl.String)
    encoded = text.str.contains("&", literal=True).fill_null(value=False)
    if encoded.any():
        decoded = map_distinct(text.filter(encoded), decode_entities, pl.String)
        text = text.scatter(encoded.arg_true(), decoded)
    if text.str.contains(_CONTROL).any():
        text = text.str.replace_all(_CONTROL, " ")
    return blank_to_null(text)


def blank_to_null(text: pl.Series) -> pl.Series:
    """Outer white space removed; what is then empty becomes null."""
    stripped = text.str.strip_chars()
    return stripped.set(stripped == "", None)
