"""docs/data-format.md shows real messages: each line is made to happen here."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.stages import prepare

from hidvae.config import DatasetConfig
from hidvae.data.check import find_problems
from hidvae.data.sources.folder import read_folder
from hidvae.errors import HidvaeError

DOCS = Path(__file__).parents[2] / "docs" / "data-format.md"
BLOCKS = re.findall(r"```text\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
ITEMS = "item_id\n1\n2\n3\n"
LOG = "user_id,item_id,timestamp\nu,1,1\nu,2,2\nu,3,3\nu,1,4\n"
TWICE = "item_id\n1\n2\n3\n4\n2\n"
YESTERDAY = LOG + "u,2,yesterday\n"

CASES: dict[str, dict[str, str]] = {
    "expected columns": {"interactions.csv": "user,item_id,timestamp\nu,1,1\n"},
    "expected each item once": {"items.csv": TWICE},
    "expected ids of": {"interactions.csv": LOG.replace("u,", "u,i")},
    "expected a number": {"interactions.csv": YESTERDAY},
    "expected no empty label": {"items.csv": "item_id,categories\n1,A > > B\n"},
    "expected a readable JSON Lines": {"interactions.jsonl": '{"user_id": "u1"}\n{"user_id": "u"'},
    "expected a column of": {"interactions.csv": LOG.replace("user_id", "customer")},
}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    monkeypatch.chdir(tmp_path)

    def write(files: dict[str, str]) -> None:
        folder = Path("my_shop")
        folder.mkdir()
        log = {} if any("interactions" in name for name in files) else {"interactions.csv": LOG}
        for name, content in {"items.csv": ITEMS, **log, **files}.items():
            (folder / name).write_text(content)

    return write


def block_with(text: str) -> list[str]:
    return next(block for block in BLOCKS if text in block).splitlines()


def test_every_line_is_tried() -> None:
    lines = block_with("expected columns")
    assert [next(case for case in CASES if case in line) for line in lines] == list(CASES)


def test_what_is_left_out_is_real(
    shop: Callable[[dict[str, str]], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    shop({"interactions.csv": LOG + "u,17,5\nv,1,6\n"})
    prepare(DatasetConfig(folder="my_shop"), tmp_path / "out")
    assert caplog.messages == block_with("are left out")


@pytest.mark.parametrize("case", CASES)
def test_lines_are_real(case: str, shop: Callable[[dict[str, str]], None], tmp_path: Path) -> None:
    shop(CASES[case])
    names = ("user_id=costumer",) if case == "expected a column of" else ()
    with pytest.raises(HidvaeError) as caught:
        prepare(DatasetConfig(folder="my_shop", column_names=names), tmp_path / "out")
    assert str(caught.value) in block_with("expected columns")


def test_the_check_is_real(shop: Callable[[dict[str, str]], None]) -> None:
    shop({"items.csv": TWICE, "interactions.csv": YESTERDAY})
    config = DatasetConfig(folder="my_shop")
    assert find_problems(read_folder(config), config).lines() == block_with("3 problems:")
