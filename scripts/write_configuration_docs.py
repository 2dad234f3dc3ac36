"""Write docs/configuration.md from src/hidvae/config.py: ``make docs``; ``--print`` shows it."""

import ast
import inspect
import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hidvae import config

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = """# Configuration

Written by `make docs` from `src/hidvae/config.py`; edit there.

Settings are [gin](https://github.com/google/gin-config) bindings in a file (`--config FILE.gin`,
repeatable, later ones win) or on the command line (`--set NAME=VALUE`, repeatable, wins over
files). An unknown name or a value out of range stops the run and names the nearest known one.
`hidvae run` stores the resolved settings as `RUN/config.json`, and every stage those it ran with in
its `manifest.json`; the single commands (`hidvae train --output RUN`, …) start from
`RUN/config.json`.
"""
PUBLISHED_HEAD = """## Published names

What the published gin files call `train.…`. A file that uses such a name is refused, and the
message says the new one. A published name that is not in this table has no counterpart."""
TYPE_WORDS = {
    bool: "True or False",
    int: "whole number",
    float: "number",
    str: "text",
    tuple[int, ...]: "list of whole numbers",
    tuple[float, ...]: "list of numbers",
    tuple[str, ...]: "list of texts",
}


def ranges(node: ast.ClassDef) -> dict[str, str]:
    """Allowed values by setting, as the ``_check`` calls of a config class word them."""
    found = {}
    for statement in ast.walk(node):
        if isinstance(statement, ast.For):  # for name in ("epochs", …): _check(…, name, …)
            names = ast.literal_eval(statement.iter)
            for call in checks(statement):
                found |= dict.fromkeys(names, wording(call.args[3]))
    for call in checks(node):
        if isinstance(call.args[2], ast.Constant):
            found[call.args[2].value] = wording(call.args[3])
    return found


def checks(node: ast.AST) -> list[ast.Call]:
    """All ``_check(is_valid, self, name, expected)`` below a node."""
    calls = [child for child in ast.walk(node) if isinstance(child, ast.Call)]
    return [call for call in calls if ast.unparse(call.func) == "_check"]


def wording(expected: ast.expr) -> str:
    """The text of a check, without the found values that it quotes at the end."""
    if isinstance(expected, ast.JoinedStr):
        first = expected.values[0]
        assert isinstance(first, ast.Constant)
        return re.split(r"\s*[=(]", first.value)[0]
    return str(ast.literal_eval(expected))


def values_of(hint: Any, range_text: str | None) -> str:
    """What a setting may hold."""
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice!r}`" for choice in get_args(hint))
    word = TYPE_WORDS[hint]
    return word if range_text is None else f"{word}, {range_text}"


def section(cls: type, node: ast.ClassDef) -> list[str]:
    """A table of one config class."""
    hints, limits = get_type_hints(cls), ranges(node)
    lines = ["", f"## {cls.__name__}", "", ast.get_docstring(node) or "", ""]
    lines += ["| name | default | values | meaning |", "|---|---|---|---|"]
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            name = ast.unparse(field.target)
            default = ast.unparse(field.value) if field.value else ""
            values = values_of(hints[name], limits.pop(name, None))
            meaning = " ".join(ast.literal_eval(text.value).split()).replace("|", "\\|")
            lines.append(f"| `{name}` | `{default}` | {values} | {meaning} |")
    assert not limits, f"{cls.__name__}: checks of no documented field: {', '.join(limits)}"
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
