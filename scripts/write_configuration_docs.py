"""Write docs/configuration.md from src/hidvae/config.py: ``make docs``; ``--print`` shows it."""

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from hidvae import config

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = """# Configuration

Written by `make docs` from `src/hidvae/config.py`; edit there.

Give settings in a [gin](https://github.com/google/gin-config) file (`--config FILE.gin`) or on the
command line (`--set NAME=VALUE`). Both can be repeated; the last one wins, and the command line
wins over files. Text needs no quotes there, and a list of one text no brackets. An unknown name, a
name without its section, or a value out of range is an error that names the nearest known one.

`hidvae run` stores all settings as `RUN/config.json`, and each stage stores those it used in its
`manifest.json`. The commands of single stages (`hidvae train --output RUN`, …) start from
`RUN/config.json`.
"""
PUBLISHED_HEAD = """## Published names

The published gin files bind `train.…`. Such a name is an error, and the message gives the new name.
A published name that is missing from this table has no counterpart."""
TYPE_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "whole number",
    float: "number",
    str: "text",
}


def checks(node: ast.ClassDef) -> dict[str, str]:
    """What the ``_check(is_valid, self, name, expected)`` of a class want beyond ranges."""
    found = {}
    for call in (child for child in ast.walk(node) if isinstance(child, ast.Call)):
        if ast.unparse(call.func) == "_check" and isinstance(call.args[3], ast.Constant):
            found[ast.literal_eval(call.args[2])] = ast.literal_eval(call.args[3])
    return found


def values_of(hint: Any) -> str:
    """The type of a setting in words."""
    if get_origin(hint) is Annotated:
        return values_of(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice!r}`" for choice in get_args(hint))
    if get_origin(hint) is tuple:
        entry = values_of(get_args(hint)[0])
        return f"list of {entry}" + ("s" if entry.endswith("number") else "")
    return TYPE_WORDS[hint]


def section(cls: type, node: ast.ClassDef) -> list[str]:
    """A table of one config class."""
    hints, wanted = get_type_hints(cls, include_extras=True), checks(node)
    lines = ["", f"## {cls.__name__}", "", ast.get_docstring(node) or "", ""]
    lines += ["| name | default | values | meaning |", "|---|---|---|---|"]
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            name = ast.unparse(field.target)
            default = ast.unparse(field.value) if field.value else ""
            limits = (values_of(hints[name]), config.allowed_range(cls, name), wanted.get(name))
            values = ", ".join(limit for limit in limits if limit)
            meaning = " ".join(ast.literal_eval(text.value).split()).replace("|", "\\|")
            meaning = re.sub(r"\bdocs/((?:[\w-]+/)?[\w-]+)\.md", r"[\1](\1.md)", meaning)
            lines.append(f"| `{name}` | `{default}` | {values} | {meaning} |")
    return lines


def page() -> str:
    """The whole page."""
    tree = ast.parse(inspect.getsource(config))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    lines = [HEAD.rstrip()]
    for cls in config.SECTIONS.values():
        lines += section(cls, classes[cls.__name__])
    lines += ["", PUBLISHED_HEAD, "", "| published `train.…` | here |", "|---|---|"]
    lines += [f"| `{old}` | {new} |" for old, new in config.PUBLISHED_NAMES.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--print" in sys.argv[1:]:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page(), encoding="utf-8")
