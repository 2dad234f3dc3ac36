"""Write docs/configuration.md from src/hidvae/config.py: ``make docs``; ``--print`` shows it."""

import ast
import inspect
import sys
from pathlib import Path

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


def section(name: str, node: ast.ClassDef) -> list[str]:
    """A table of one config class."""
    summary = ast.get_docstring(node) or ""
    lines = ["", f"## {name}", "", summary, "", "| name | default | meaning |", "|---|---|---|"]
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            meaning = " ".join(ast.literal_eval(text.value).split()).replace("|", "\\|")
            default = ast.unparse(field.value) if field.value else ""
            lines.append(f"| `{ast.unparse(field.target)}` | `{default}` | {meaning} |")
    return lines


def page() -> str:
    """The whole page."""
    tree = ast.parse(inspect.getsource(config))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    lines = [HEAD.rstrip()]
    for cls in config.SECTIONS.values():
        lines += section(cls.__name__, classes[cls.__name__])
    lines += ["", "## Published names", "", "| published `train.…` | here |", "|---|---|"]
    lines += [f"| `{old}` | {new} |" for old, new in config.PUBLISHED_NAMES.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--print" in sys.argv[1:]:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page(), encoding="utf-8")
