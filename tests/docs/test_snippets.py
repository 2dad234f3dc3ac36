"""Commands and Python of the README and of docs/ are run on a small run; what is not is checked.

Checked means: the options exist, the settings are allowed, the files, extras and targets are there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import typer
from tests.docs.pages import BLOCKS, PAGES, ROOT, Block, fit_in_seconds, write_shop

from hidvae.apps.cli import app, run_app
from hidvae.config import load_config
from hidvae.data.prepare import load_dataset
from hidvae.store.artifacts import read_stage

RUN = {
    "prepare",
    "inspect",
    "compare",
    "recommend",
    "explain",
    "report",
    "batch",
    "add-items",
    "remove-items",
    "export",
    "ids",
}
"""Commands that are run wherever they stand, unless the line is listed below."""
NOT_RUN = {
    "hidvae evaluate --output runs/my_shop --baselines": "trains SASRec and TIGER for minutes",
    "hidvae run --data my_shop --output runs/my_shop --config configs/large.gin": (
        "wants more items than my_shop has, as tests/test_benchmarks.py runs it"
    ),
    "pip install hidvae": "installs, as tests/test_wheel.py does",
    "hidvae demo": "trains for half a minute, as tests/apps/test_cli.py does in less",
    "hidvae run --data FOLDER --output runs/mine": "the folder is the reader's",
    **dict.fromkeys(
        (
            f"hidvae prepare --check --data {name}"
            for name in "lamps clicks orders plays books".split()
        ),
        "run on its own tables in test_your_data.py",
    ),
    "hidvae run --output runs/kuairand-pure": "downloads KuaiRand",
    "HIDVAE_ACCEPT_LICENSE=1 hidvae run": "downloads MovieLens",
    "hidvae batch recommend --model runs/my_shop --input users --output lists --workers 4": (
        "starts a Ray cluster, as tests/apps/batch/test_ray_cluster.py does"
    ),
    "hidvae batch recommend --model RUN": "needs a Ray cluster of several machines",
    "hidvae ids import": "wants a run without IDs (tests/run/test_ids_from_file.py)",
    "hidvae serve": "answers until it is stopped, as tests/apps/serve/test_server.py has it",
    "curl http://127.0.0.1:8000": "asks a server, as tests/apps/serve/test_docs.py does",
    "curl --get http://127.0.0.1:8000": "the same",
    "curl -X": "the same",
    "python scripts/take_pictures.py": "needs Chromium, as test_take_pictures.py does",
    "torchrun": "starts several processes, as tests/training/test_parallel.py does",
    "python train_": "downloads a dataset and trains on it",
    "python scripts/view_": "looks at such a training",
    "hidvae report runs/demo --live": "serves until Ctrl-C (test_follow_training.py)",
    "python -m venv": "makes an environment for a peer",
    "../hidvae-peers/bin/pip": "installs a peer",
    "../hidvae-peer/bin/pip": "the same",
    "../hidvae-peer/bin/python": "trains a peer for hours",
    "conda": "makes an environment",
    "pip install": "needs a package index",
    "hf upload": "needs an account of the Hugging Face Hub",
    "make": "installs, or takes long; `make -n` says what it would run, and that is checked",
}
"""How a line begins, and why it is only checked."""
FOLLOWED = "docs/extending.md"
"""Its commands need what it adds; test_extending.py runs them."""
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]
LINES = [
    (block, [words[0].removeprefix(".venv/bin/"), *words[1:]])
    for block in BLOCKS
    if block.language in ("sh", "bash") and block.page != FOLLOWED
    for words in block.commands()
]
PYTHON = [block for block in BLOCKS if block.language == "python" and not block.file]
WITH_SNIPPETS = sorted({block.page for block in PYTHON} | {block.page for block, _ in LINES})
each_page = pytest.mark.parametrize("page", WITH_SNIPPETS)


def reason_not_to_run(words: list[str]) -> str:
    """Why a line is only checked; empty if it is run."""
    line = " ".join(words)
    return next((why for start, why in NOT_RUN.items() if line.startswith(start)), "")


@pytest.fixture(scope="module")
def place(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the pages name: runs, raw tables, shards, files of the project."""
    root = tmp_path_factory.mktemp("snippets")
    for name in ("demo", "my_shop"):
        shutil.copytree(tiny_run, root / "runs" / name)
    items = pl.read_parquet(tiny_run / "dataset" / "items.parquet")
    events = load_dataset(
        read_stage(tiny_run / "dataset", produced_by="hidvae prepare")
    ).events_frame()
    for name in ("my_shop", "path/to/my_shop", "."):
        write_shop(root / name, tiny_run)
    histories = events.group_by("user_id", maintain_order=True).agg(history="item_id")
    for name, rows in (("items", items), ("users", histories)):
        (root / name).mkdir()
        rows[:40].write_parquet(root / name / "part-0.parquet")
    (new_items,) = (block.text for block in BLOCKS if block.text.startswith("item_id,"))
    (root / "new_items.csv").write_text(new_items, encoding="utf-8")
    shutil.copytree(ROOT / "configs", root / "configs")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (root / name).symlink_to(ROOT / name)
    return root


@each_page
def test_snippets(
    page: str,
    place: Path,
    tiny_settings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    fit_in_seconds(monkeypatch, tiny_settings)
    for words in (words for block, words in LINES if block.page == page):
        check(words)
        if reason_not_to_run(words):
            continue
        if words[0] == "cp":
            shutil.copy(words[1], words[2])
            continue
        assert words[0] == "hidvae" and words[1] in RUN, (
            f"{' '.join(words)}: add the command to RUN, or say in NOT_RUN why it cannot be run"
        )
        assert run_app(app, "hidvae", words[1:]) == 0, capsys.readouterr().err
    for block in (block for block in PYTHON if block.page == page):
        exec(compile(block.text, page, "exec"), {"__name__": "__main__"})


def check(words: list[str]) -> None:
    """Check a line of a page without running it."""
    if words[0] in ("hidvae", "torchrun"):
        check_hidvae(words[words.index("hidvae") + 1 :])
    elif words[0] == "make":
        check_make(words[1:])
    elif words[-2:-1] == ["install"] and "[" in words[-1]:
        check_extras(words[-1])
    else:
        for word in words:
            if re.fullmatch(r"[\w/]+\.(py|gin|yml)", word) and words[0] != "cp":
                assert (ROOT / word).is_file(), word
        check_options_of_script(words)


def check_hidvae(words: list[str]) -> None:
    """Parse a command line as Typer does, and the settings that it names."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    given = command.make_context("hidvae", list(words)).params
    named = [Path(file) for file in given.get("config") or ()]
    files = [file for file in named if len(file.parts) > 1]  # else one that the page has written
    load_config(files, given.get("set_") or ())


def check_make(words: list[str]) -> None:
    """Targets and variables exist, and what make would run can be run."""
    variables = {name for name, is_one, _ in (word.partition("=") for word in words) if is_one}
    known = set(re.findall(r"^([A-Z]+) \?=", Path("Makefile").read_text("utf-8"), re.MULTILINE))
    assert variables <= known | {"PEERS"}, variables
    done = subprocess.run(["make", "-n", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        if line.startswith(".venv/bin/hidvae "):
            check_hidvae(shlex.split(line)[1:])


def check_extras(requirement: str) -> None:
    """``hidvae[a,b]`` names extras that there are."""
    name, extras = re.fullmatch(r"([\w-]+)(?:\[([\w,-]+)\])?", requirement).groups()  # type: ignore[union-attr]
    if name == "hidvae" and extras:
        assert set(extras.split(",")) <= set(EXTRAS), requirement


def check_options_of_script(words: list[str]) -> None:
    """A script's options stand in its source."""
    script = next((ROOT / word for word in words if word.endswith(".py")), None)
    if script is not None:
        # Or in that of a script beside it, which several share.
        source = "".join(file.read_text("utf-8") for file in script.parent.glob("*.py"))
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in source, f"{script.name} has no {option}"


def inline_commands(text: str) -> Iterator[list[str]]:
    """Words of each command in back quotes."""
    for line in re.findall(r"`((?:hidvae|make|pip|python) [^`…]+)`", text.replace("\n", " ")):
        yield shlex.split(line)


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_in_running_text(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for words in inline_commands(re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= set(TARGETS), words
        elif words[0] == "pip":
            check_extras(words[-1])
        elif words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), words
            check_options_of_script(words)
        elif words[0] == "hidvae":
            command = typer.main.get_command(app)
            for word in words[1:]:
                command = getattr(command, "commands", {}).get(word, command)
            known = {option for param in command.params for option in param.opts} | {"--help"}
            assert {word for word in words if word.startswith("--")} <= known, words


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language == "text" and "\nhidvae " in "\n" + block.text],
    ids=lambda block: block.page,
)
def test_commands_shown_as_text(block: Block) -> None:
    for words in block.commands():
        check_hidvae(words[1:])


def test_nothing_is_left_out_in_vain() -> None:
    lines = [" ".join(words) for _, words in LINES]
    for start in NOT_RUN:
        assert any(line.startswith(start) for line in lines), f"no page has {start!r} any more"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("hidvae recomend --model runs/demo --history a", "no command 'recomend'"),
        ("hidvae recommend --model runs/demo --history a --topk 5", "--topk"),
        ("hidvae recommend --history a", "model"),
        ("hidvae train --output runs/demo --set TokenizerConfig.epoch=3", "unknown key"),
        ("hidvae run --output runs/demo --config configs/dmeo.gin", "dmeo.gin"),
        ("make runn", "runn"),
        ("make run FOLDER=my_shop", "FOLDER"),
        ("make run ARGS=--fast", "--fast"),
        ('pip install "hidvae[everything]"', "everything"),
        ("python train_tokenizer.py configs/demo.gin", "train_tokenizer.py"),
        ("python benchmarks/rectools_peer.py runs/beauty --validation", "--validation"),
    ],
)
def test_the_checks_find_what_is_wrong(
    line: str, found: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(Exception, match=found):  # each check has its own
        check(shlex.split(line))
