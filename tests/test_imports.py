"""Imports go one way, as the layout says; read from the source, nothing is run."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
FILES = sorted((SRC / "hidvae").rglob("*.py"))

ORDER = (
    {"__main__"},
    {"apps.entry_points"},
    {"apps.cli"},
    {"apps.show", "apps.batch", "apps.export", "apps.serve"},
    {"run"},
    {"evaluation"},
    {"retriever.train_retriever"},
    {"ranking"},
    {"retriever", "tokenizer"},
    {"training"},
    {"evaluation.id_quality"},
    {"evaluation.metrics", "evaluation.bootstrap", "evaluation.calibration"},
    {"semantic_ids", "features"},
    {"data"},
    {"store"},
    {"config"},
    {"log", "addresses"},
    {"errors", "threads"},
)
"""A part may import itself and later groups; parts of one group do not know each other."""
UPWARDS = ("hidvae.ranking.recommender", "hidvae.run.run")
"""The one import that points up: ``Recommender.load``, the way in of version 0.1."""
RANK = {part: rank for rank, group in enumerate(ORDER) for part in group}

TORCH = {"torch", "lightning_fabric"}
TORCH_FREE = (
    "addresses",
    "data",
    "semantic_ids",
    "evaluation.metrics",
    "store",
    "config",
    "errors",
    "log",
    "threads",
)
OF_ONE_FOLDER = {
    "fastapi": "apps.serve",
    "prometheus_client": "apps.serve",
    "starlette": "apps.serve",
    "uvicorn": "apps.serve",
    "plotly": "apps.show",
    "ray": "apps.batch",
}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def imports_of(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""
            if node.module in ("hidvae", *PACKAGES):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from _running(node)


PACKAGES = {module_of(file) for file in FILES if file.name == "__init__.py"}
MODULES = {module_of(file) for file in FILES}


def part_of(module: str) -> str | None:
    """The longest part of ``ORDER`` that a module lies in."""
    found = [part for part in RANK if is_in(module, part)]
    return max(found, key=len, default=None)


def is_in(module: str, *parts: str) -> bool:
    return any(f"{module}.".startswith(f"hidvae.{part}.") for part in parts)


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_imports_point_to_later_parts_only(file: Path) -> None:
    module = module_of(file)
    part = part_of(module)
    if part is None:  # hidvae/__init__.py gives the public names of all parts
        assert module.count(".") < 2, f"{module}: give it its place in ORDER"
        return
    for imported in imports_of(file):
        target = part_of(imported)
        if target is None or target == part or imported not in MODULES:
            continue
        if (module, imported) == UPWARDS:
            continue
        assert RANK[target] > RANK[part], f"{module} may not import {imported}"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_libraries_stay_in_their_part(file: Path) -> None:
    module = module_of(file)
    for imported in imports_of(file):
        library = imported.split(".")[0]
        assert library not in {"pickle", "joblib"}, f"{module}: loading must never run code"
        if is_in(module, *TORCH_FREE):
            assert library not in TORCH, f"{module} needs no torch"
        folder = OF_ONE_FOLDER.get(library)
        assert folder is None or is_in(module, folder), f"{module}: {library} belongs to {folder}"


def test_torch_free_parts_do_not_reach_torch_through_others() -> None:
    direct = {module_of(file): set(imports_of(file)) for file in FILES}
    for start in (module for module in MODULES if is_in(module, *TORCH_FREE)):
        reached, waiting = set(), [start]
        while waiting:
            module = waiting.pop()
            reached.add(module)
            for imported in direct.get(module, ()):
                assert imported.split(".")[0] not in TORCH, f"{start} reaches torch by {module}"
                if imported in MODULES and imported not in reached:
                    waiting.append(imported)


def test_no_file_name_means_two_things() -> None:
    names = Counter(file.name for file in FILES if file.name != "__init__.py")
    assert [name for name, times in names.items() if times > 1] == []


_RUNS_CODE = {"allow_pickle", "trust_remote_code"}


def test_no_loading_that_runs_code() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                forbidden = {"eval", "exec", "compile", "__import__", "torch.load", "torch.save"}
                assert called not in forbidden, f"{file}: {called}"
                may_unpickle = [
                    word.arg
                    for word in node.keywords
                    if word.arg in _RUNS_CODE and ast.unparse(word.value) != "False"
                ]
                assert not may_unpickle, f"{file}: {called} with {may_unpickle[0]}"
