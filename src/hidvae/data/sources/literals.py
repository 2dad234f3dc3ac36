"""Lines that hold an object as JSON or, in many published files, as Python writes a dictionary."""

from __future__ import annotations

import ast
import json
import warnings
from typing import Any


def parse_object(line: str) -> dict[str, Any] | None:
    """The object of a line; None if there is none. No code of the line is run."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = parse_literal(line)
    return value if isinstance(value, dict) else None


def whole_text(value: object) -> str | None:
    """As text; halves of a character that a Python literal writes as two are put together."""
    if value is None:
        return None
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def parse_literal(line: str) -> Any:
    """What a text is as Python writes it; None if it is nothing."""
    with warnings.catch_warnings():  # a broken line may hold an escape that Python warns of
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
