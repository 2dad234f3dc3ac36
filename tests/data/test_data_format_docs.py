"""docs/data-format.md shows real messages: each line is made to happen here."""

from __future__ import annotations

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
ITEMS = "item_id,title\n1,a\n2,b\n3,c\n"
LOG = "user_id,item_id,timestamp\nu,1,1500000000\nu,2,1500000060\nv,3,1500000120\nu,3,1500000180\n"
TWICE = ITEMS + "2,e\n"
LEFT_OUT = LOG + "NA,2,1500000240\nu,17,1500000300\n"

CASES: dict[str, dict[str, str]] = {
    "expected columns": {"interactions.csv": "who,item_id,timestamp\nu,1,1\n"},
    "expected ids of": {"interactions.csv": LOG.replace("u,", "u,00").replace("v,", "v,00")},
    "expected dates": {
        "interactions.csv": "user_id,item_id,date\nu,1,01/03/2014\nv,2,02/03/2014\n"
    },
    "expected a column user_id": {
        "interactions.csv": LOG.replace("user_id,", "customer,uid,").replace("u,", "u,u,")
    },
    "expected a column of": {"interactions.csv": LOG.replace("user_id", "customer")},
}
FILES: dict[str, dict[str, str]] = {
    "expected 3 values": {"interactions.csv": LOG.replace("\n", ",\n").replace("mp,", "mp")},
    "expected a header": {"interactions.csv": LOG.partition("\n")[2]},
    "expected a JSON object": {
        "interactions.jsonl": '{"user_id": "u", "item_id": "1"}\n{"user_id": "u", "item_id\n}\n'
    },
    "expected each column once": {"items.csv": ITEMS.replace("title", "title,title")},
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
    lines = block_with("expected 3 values")
    assert [next(case for case in FILES if case in line) for line in lines] == list(FILES)


@pytest.mark.parametrize("case", FILES)
def test_lines_about_files_are_real(case: str, shop: Callable[[dict[str, str]], None]) -> None:
    shop(FILES[case])
    with pytest.raises(HidvaeError) as caught:
        read_folder(DatasetConfig(folder="my_shop"))
    assert str(caught.value) in block_with("expected 3 values")


@pytest.mark.parametrize("case", CASES)
def test_lines_are_real(case: str, shop: Callable[[dict[str, str]], None], tmp_path: Path) -> None:
    shop(CASES[case])
    names = ("user_id=costumer",) if case == "expected a column of" else ()
    with pytest.raises(HidvaeError) as caught:
        prepare(DatasetConfig(folder="my_shop", column_names=names), tmp_path / "out")
    assert str(caught.value) in block_with("expected columns")


@pytest.mark.parametrize("strict", [False, True])
def test_the_check_is_real(strict: bool, shop: Callable[[dict[str, str]], None]) -> None:
    shop({"items.csv": TWICE, "interactions.csv": LEFT_OUT})
    config = DatasetConfig(folder="my_shop", strict=strict)
    lines = find_problems(read_folder(config), config).lines()
    assert lines == block_with("2 problems:" if strict else "no problems in")
