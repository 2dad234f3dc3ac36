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
    {"retriever", "tokenizer", "likeness"},
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


_RUNS_CODE = (
    *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__"),
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("runpy", "imp", "code", "codeop", "pkgutil", "zipimport", "importlib"),
    *("torch.load", "torch.save", "torch.hub", "torch.jit", "torch.package", "torch.ops"),
    *("torch.utils.cpp_extension", "torch.export.load", "torch.serialization", "torch._inductor"),
    *("numpy.lib.npyio", "numpy.lib.format", "numpy.ctypeslib", "ctypes"),
    *("pandas.read_pickle", "polars.DataFrame.deserialize", "polars.LazyFrame.deserialize"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load"),
    *("yaml.full_load_all", "yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader"),
    *("gin", "keras", "tensorflow", "jsonpickle"),
)
"""What runs what it reads, or what may; with all that is below it."""
_RUNS_NOTHING = (
    *("importlib.util.find_spec", "importlib.metadata", "importlib.resources"),
    "gin.config_parser",  # reads the syntax alone
)
_LAZY = ("hidvae", "hidvae.apps.serve", "hidvae.run.stages")
"""These import modules that they list themselves, when they are first needed."""
_MUST_BE = {"allow_pickle": "False", "trust_remote_code": "False", "weights_only": "True"}


def loading_that_runs_code(module: str, source: str) -> list[str]:
    """Names, arguments and texts in a module by which what is loaded could run.

    A name is followed through ``import``, ``from`` and ``as``, and need not be called.
    """
    tree = ast.parse(source)
    meaning: dict[str, str] = {}
    used: list[str] = []
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used += [alias.name for alias in node.names]
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.split(".")[0]
                meaning[alias.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom):
            names = {alias.asname or alias.name: alias.name for alias in node.names}
            meaning |= {name: f"{node.module}.{of}" for name, of in names.items()}
            used += [f"{node.module}.{of}" for of in names.values()]

    def named(node: ast.expr) -> str:
        first, *rest = ast.unparse(node).split(".")
        return ".".join([meaning.get(first, f"builtins.{first}"), *rest])

    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            used.append(named(node))
        elif isinstance(node, ast.keyword) and node.arg in _MUST_BE:
            if ast.unparse(node.value) != _MUST_BE[node.arg]:
                found.append(f"{node.arg}={ast.unparse(node.value)}")
        elif isinstance(node, ast.Constant) and node.value in _MUST_BE:
            found.append(f"{node.value!r}, which may be an argument")
        elif isinstance(node, ast.Call) and named(node.func) == "numpy.load" and node.args[1:]:
            found.append("numpy.load with an argument by place")
    for name in dict.fromkeys(used):
        if _below(name, _RUNS_CODE) and not _below(name, _RUNS_NOTHING):
            if name not in _HARMLESS_ROOTS and not (
                module in _LAZY and name == "importlib.import_module"
            ):
                found.append(name)
    return found


_HARMLESS_ROOTS = {"importlib", "importlib.util", "gin"}
"""Names that do nothing by themselves; what is taken from them is looked at."""


def _below(name: str, parts: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{part}.") for part in parts)


def test_no_loading_that_runs_code() -> None:
    for file in FILES:
        module = module_of(file)
        found = loading_that_runs_code(module, file.read_text(encoding="utf-8"))
        assert found == [], f"{module}: loading must never run code"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import torch\ntorch.load(file)",
        "import torch as t\nload = t.load",
        "from torch import load as read",
        "import torch.jit\ntorch.jit.load(file)",
        "from torch import hub",
        "import numpy as np\nnp.load(file, allow_pickle=True)",
        "import numpy as np\nnp.load(file, None, True)",
        "options = {'allow_pickle': True}",
        "SentenceTransformer(name, trust_remote_code=is_trusted)",
        "import yaml\nyaml.load(text, yaml.SafeLoader)",
        "from yaml import unsafe_load",
        "import importlib\nimportlib.import_module(name)",
        "from importlib import import_module",
        "import importlib.util\nimportlib.util.spec_from_file_location(name, path)",
        "import importlib.machinery",
        "eval(text)",
        "run = exec",
        "__import__(name)",
        "import builtins\nbuiltins.eval(text)",
        "import gin\ngin.parse_config(text)",
        "from gin import parse_config_file",
        "import joblib",
        "import pandas as pd\npd.read_pickle(file)",
        "import polars as pl\npl.LazyFrame.deserialize(file)",
        "def load():\n    from runpy import run_path",
        "torch_load(file, weights_only=False)",
    ],
)
def test_every_kind_of_it_is_found(source: str) -> None:
    assert loading_that_runs_code("hidvae.store.somewhere", source)


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile(text)",
        "import torch\nmodel = torch.compile(model)\nmodel.eval()",
        "import importlib.util\nimportlib.util.find_spec(name)",
        "from importlib.metadata import version",
        "from gin import config_parser",
        "import yaml\nyaml.safe_load(text)",
        "import numpy as np\nnp.load(file, allow_pickle=False)",
        "import json\njson.load(file)",
    ],
)
def test_nothing_else_is(source: str) -> None:
    assert loading_that_runs_code("hidvae.store.somewhere", source) == []
