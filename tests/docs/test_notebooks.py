"""The notebooks run from top to bottom, each in one namespace, and are stored without outputs."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.docs.pages import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
Run = Callable[[str], list[Any]]


def cells(notebook: Path, kind: str) -> list[dict[str, Any]]:
    read = json.loads(notebook.read_text(encoding="utf-8"))
    return [cell for cell in read["cells"] if cell["cell_type"] == kind]


@pytest.fixture
def run_notebook(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a notebook beside a small ``runs/demo``; the values that its cells end with."""
    shutil.copytree(tiny_run, tmp_path / "runs" / "demo")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")

    def run(name: str) -> list[Any]:
        namespace: dict[str, Any] = {"__name__": "__main__"}
        shown = []
        for number, cell in enumerate(cells(ROOT / "notebooks" / name, "code")):
            tree = ast.parse("".join(cell["source"]))
            ending = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            place = f"{name}, code cell {number}"
            exec(compile(tree, place, "exec"), namespace)
            if ending is not None:
                shown.append(eval(compile(ast.Expression(ending.value), place, "eval"), namespace))
        return shown

    return run


def test_every_notebook_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    for file in NOTEBOOKS:
        assert f'"{file.name}"' in here, file.name


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.name)
def test_notebooks_are_stored_without_outputs(notebook: Path) -> None:
    for cell in cells(notebook, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None


def test_from_csv_to_recommendations(run_notebook: Run, capsys: pytest.CaptureFixture[str]) -> None:
    shown = [
        value for value in run_notebook("from_csv_to_recommendations.ipynb") if value is not None
    ]
    tables = [value for value in shown if isinstance(value, pl.DataFrame)]
    scores = dict(
        next(t for t in tables if "ranker" in t.columns).select("ranker", "ndcg@10").rows()
    )
    assert scores["hidvae"] > 2 * scores["popularity"]
    first, electronic, mixed = (table for table in tables if "ID" in table.columns)
    assert first.height == electronic.height == mixed.height == 5
    assert first["title"][0] == "Bebop session 4"
    catalogue = dict(
        pl.read_csv("../data/my_records/items.csv").select("item_id", "categories").rows()
    )
    assert all(catalogue[item].startswith("Electronic") for item in electronic["item"])
    genres = [catalogue[item].split(" > ")[0] for item in mixed["item"]]
    assert max(map(genres.count, genres)) <= 2
    assert first["item"][0] not in mixed["item"].to_list()
    printed = capsys.readouterr().out
    for words in ("no problems in 120 items", "given the codes before it", "Bebop session 99: <a_"):
        assert words in printed


def test_what_do_the_ids_mean(run_notebook: Run, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly", reason="needs the extra report")
    shown = [value for value in run_notebook("what_do_the_ids_mean.ipynb") if value is not None]
    *tables, figure = shown
    assert all(isinstance(table, pl.DataFrame) and table.height for table in tables)
    by_shared = next(table for table in tables if "mean_cosine" in table.columns)
    assert by_shared["pairs"].sum() == 120 * 119 // 2
    assert by_shared["mean_cosine"].is_sorted(), "items that share more codes are more alike"
    sectors = figure.data[0]
    departments = np.asarray(sectors.values)[np.asarray(sectors.parents) == ""]
    assert departments.sum() == 120
    assert "after: all different: True" in capsys.readouterr().out
