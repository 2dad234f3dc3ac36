"""docs/extending.md is followed to the letter, in a copy of the package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from tests.docs.pages import ROOT, blocks_of

from hidvae.data.prepare import load_dataset
from hidvae.store.artifacts import StageFolder, read_json

BLOCKS = blocks_of(ROOT / "docs" / "extending.md")
FOLLOW_THE_PAGE = """
import json, sys
import pytest

if code := pytest.main(sys.argv[2:]):
    sys.exit(code)
from hidvae.apps.cli import app, run_app

for words in json.loads(sys.argv[1]):
    if code := run_app(app, "hidvae", words):
        sys.exit(code)
"""
"""In one process, as importing torch is most of the time."""
TESTS_OF_MODES = ("-q", "-p", "no:cacheprovider", "-k", "noise") + tuple(
    str(ROOT / "tests" / "tokenizer" / file)
    for file in ("test_codebook.py", "test_residual_quantizer.py")
)


def apply(diff: str, package: Path) -> None:
    """Change files below the package's root; each place must be there once."""
    for part in re.split(r"^--- a/", diff, flags=re.MULTILINE)[1:]:
        header, *places = re.split(r"^@@\n", part, flags=re.MULTILINE)
        file = package / header.split("\n")[0]
        text = file.read_text(encoding="utf-8")
        for place in places:
            lines = [(line[:1], line[1:] + "\n") for line in place.splitlines()]
            old = "".join(line for sign, line in lines if sign != "+")
            new = "".join(line for sign, line in lines if sign != "-")
            assert text.count(old) == 1, f"{file}: expected once:\n{old}"
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, demo_folder: StageFolder) -> Path:
    """A folder with the changed package in src/ and the demo as orders in my_orders/."""
    root = tmp_path_factory.mktemp("extending")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for block in BLOCKS:
        if block.file:
            (root / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "diff":
            apply(block.text, root)
    items = pl.read_parquet(demo_folder.path / "items.parquet")
    log = load_dataset(demo_folder).events_frame().join(items, on="item_id")
    (root / "my_orders").mkdir()
    with (root / "my_orders" / "orders.jsonl").open("w", encoding="utf-8") as file:
        for row in log.sort("user_id", "position").iter_rows(named=True):
            line = {
                "sku": row["item_id"],
                "name": row["title"],
                "path": "/".join(row["categories"]),
            }
            order = {"customer": row["user_id"], "at": row["position"], "lines": [line]}
            file.write(json.dumps(order) + "\n")
    return root


def test_what_the_page_adds_runs_and_passes_the_tests_of_its_kind(
    place: Path, tiny_settings: list[str]
) -> None:
    small = [
        word
        for setting in tiny_settings
        if not setting.startswith(("DatasetConfig.", "EvaluationConfig.baselines"))
        for word in ("--set", setting)
    ]
    commands = [words for block in BLOCKS if block.language == "sh" for words in block.commands()]
    assert [words[:2] for words in commands] == [
        ["hidvae", command] for command in ("prepare", "run", "evaluate")
    ]
    lines = [words[1:] + (small if words[1] == "run" else []) for words in commands]
    done = subprocess.run(
        [sys.executable, "-c", FOLLOW_THE_PAGE, json.dumps(lines), *TESTS_OF_MODES],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(place / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed, \d+ deselected", done.stdout, re.MULTILINE), done.stdout
    run = place / "runs" / "my_orders"
    prepared = read_json(run / "dataset" / "manifest.json")
    assert prepared["facts"]["name"] == "orders"
    assert list(prepared["inputs"]) == ["orders.jsonl"]
    assert read_json(run / "tokenizer" / "manifest.json")["config"]["gradient_mode"] == "noise"
    assert "last_item" in read_json(run / "evaluation" / "metrics.json")["baselines"]
