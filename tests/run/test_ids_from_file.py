"""A run whose semantic IDs come from another tool: no tokenizer, and all else works."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hidvae.apps.cli import app, run_app
from hidvae.apps.serve.live_run import LiveRun
from hidvae.errors import NotTrainedError
from hidvae.ranking.recommender import Recommender
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import read_stage

FILES = ("ids.parquet", "ids.json", "ids.item", "Shop")
NO_TAG_LOSSES = (
    "TokenizerConfig.tag_prediction_weight=0",
    "TokenizerConfig.tag_alignment_weight=0",
)


def hidvae(*words: object) -> int:
    return run_app(app, "hidvae", [str(word) for word in words])


def with_settings(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def ids_of(run: Path) -> SemanticIds:
    return SemanticIds.load(read_stage(run / "semantic_ids", produced_by="hidvae tokenize"))


def begun(source: Path, run: Path) -> Path:
    """The stages of a run that come before the tokenizer."""
    for name in ("dataset", "embeddings", "tags"):
        shutil.copytree(source / name, run / name)
    shutil.copyfile(source / "config.json", run / "config.json")
    return run


@pytest.fixture(scope="module")
def trained(tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose tokenizer uses all 5 codes of its 3 levels for 120 items and predicts no tags."""
    run = tmp_path_factory.mktemp("trained") / "run"
    settings = [*tiny_settings, *NO_TAG_LOSSES, "TokenizerConfig.codebook_size=5"]
    assert hidvae("run", "--output", run, *with_settings(settings)) == 0
    assert ids_of(run).level_sizes == (5, 5, 5)
    return run


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    for name in FILES:
        assert hidvae("ids", "export", trained, "--output", folder / name) == 0
    return folder


@pytest.fixture(scope="module")
def imported(trained: Path, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run on the exported IDs."""
    run = begun(trained, tmp_path_factory.mktemp("imported") / "run")
    assert hidvae("ids", "import", exported / "Shop", "--output", run) == 0
    assert hidvae("run", "--output", run) == 0
    return run


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_ids(
    trained: Path, exported: Path, tmp_path: Path, name: str
) -> None:
    run = begun(trained, tmp_path / "run")
    assert hidvae("ids", "import", exported / name, "--output", run) == 0
    before, after = ids_of(trained), ids_of(run)
    assert after.item_ids == before.item_ids and after.level_sizes == before.level_sizes
    np.testing.assert_array_equal(after.codes, before.codes)
    assert after.num_tag_levels == 0


def test_the_lists_are_those_of_the_run_that_the_ids_come_from(
    trained: Path, imported: Path
) -> None:
    ranks = [pl.read_parquet(run / "evaluation" / "ranks.parquet") for run in (trained, imported)]
    assert ranks[0].equals(ranks[1])
    mine, theirs = Recommender.load(imported), Recommender.load(trained)
    history = mine.catalogue.item_ids[:3]
    found = [(item.item_id, item.score) for item in mine.recommend(history, 10)]
    assert found == [(item.item_id, item.score) for item in theirs.recommend(history, 10)]


def test_what_reads_a_run_does_without_a_tokenizer(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = ",".join(Recommender.load(imported).catalogue.item_ids[:3])
    asked = ("--model", imported, "--history", history)
    assert hidvae("recommend", *asked, "--most-per-tag", 1) == 0
    assert hidvae("explain", *asked, "--item", "item-00007") == 0
    assert hidvae("evaluate", "--output", imported) == 0
    assert hidvae("report", imported, "--output", tmp_path / "report.html") == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "the semantic IDs were taken from Shop, which predicts no tags" in page
    assert "its semantic IDs were taken from a file" in page
    assert hidvae("export", imported, "--output", tmp_path / "program", "--with-run") == 0
    assert "taken from another tool (Shop)" in (tmp_path / "program" / "README.md").read_text()
    for manifest in (tmp_path / "program").rglob("manifest.json"):  # no path of this machine
        assert str(tmp_path.parent.parent) not in manifest.read_text(), manifest
    assert hidvae("ids", "export", imported, "--output", tmp_path / "again.json") == 0
    assert len(json.loads((tmp_path / "again.json").read_text())) == 120
    live = LiveRun(imported, "cpu")
    live.load_encoders()  # only warns
    assert live.current.view.search("a", None, 5, 0)
    assert "Traceback" not in capsys.readouterr().err


def test_new_items_are_refused_in_one_line(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"item_id": ["new"], "title": ["A hoe"]}).write_csv(tmp_path / "new.csv")
    assert hidvae("add-items", "--model", imported, "--items", tmp_path / "new.csv") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "expected a trained tokenizer; found semantic IDs that were taken from" in last
    vectors = pl.DataFrame({"item_id": ["new"], "vector": [[0.0] * 264]})
    (tmp_path / "vectors").mkdir()
    vectors.write_parquet(tmp_path / "vectors" / "part.parquet")
    folders = ("--input", tmp_path / "vectors", "--output", tmp_path / "ids")
    assert hidvae("batch", "tokenize", "--model", imported, *folders) == 2
    assert "expected a trained tokenizer" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(NotTrainedError):
        Recommender.load(imported).add_items([{"item_id": "new", "title": "A hoe"}])


def test_items_can_be_removed(imported: Path) -> None:
    recommender = Recommender.load(imported)
    gone, *history = recommender.catalogue.item_ids[:4]
    found = recommender.remove_items([gone]).recommend(history, 50)
    assert gone not in [item.item_id for item in found]


def test_another_file_of_the_same_name_is_taken_up(
    trained: Path, exported: Path, tmp_path: Path
) -> None:
    run = begun(trained, tmp_path / "run")
    file = shutil.copyfile(exported / "ids.json", tmp_path / "ids.json")
    assert hidvae("ids", "import", file, "--output", run) == 0
    codes = json.loads(file.read_text())
    first, second = sorted(codes)[:2]
    codes[first], codes[second] = codes[second], codes[first]
    file.write_text(json.dumps(codes))
    assert hidvae("tokenize", "--output", run) == 0
    assert ids_of(run).strings(0) == codes[ids_of(run).item_ids[0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected an index JSON file"),
        ('{"item-00000": ["<a_1>"]}', "expected an ID for every item of the catalogue; found none"),
        ('{"0": ["<a_1>"]}', "put NAME.item2id beside NAME.index.json"),
    ],
)
def test_a_file_that_does_not_fit_leaves_the_tokenizer(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (tmp_path / "ids.json").write_text(text)
    assert hidvae("ids", "import", tmp_path / "ids.json", "--output", run) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("hidvae: error: ") and message in last
    assert (run / "tokenizer" / "model.safetensors").is_file()


def test_shared_ids_are_parted_by_one_more_code(
    trained: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begun(trained, tmp_path / "run")
    frame = pl.read_parquet(exported / "ids.parquet")
    frame.with_columns(codes=pl.col("codes").list.head(2)).write_parquet(tmp_path / "ids.parquet")
    words = ("ids", "import", tmp_path / "ids.parquet", "--output", run)
    assert hidvae(*words) == 2
    assert "expected an ID of its own for every item" in capsys.readouterr().err
    assert hidvae(*words, "--set", "TokenizerConfig.collisions=disambiguate") == 0
    ids = ids_of(run)
    assert ids.is_unique and ids.is_disambiguated and ids.num_levels == 3


def test_a_source_file_needs_a_name(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("tokenize", "--output", tiny_run, "--set", "TokenizerConfig.source=file")
    assert hidvae(*words) == 2
    assert "TokenizerConfig.ids_file: expected the name of a file" in capsys.readouterr().err


@pytest.mark.parametrize("names", [True, False], ids=["with names", "with numbers"])
def test_a_folder_of_lc_rec_from_its_files_to_lists(
    names: bool, tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = tmp_path / "Games", tmp_path / "run"
    folder.mkdir()
    items, users = range(40), range(60)
    files = {
        "inter": {user: [(user * 3 + step * 7) % 40 for step in range(6)] for user in users},
        "item": {
            item: {"title": f"Game {item}", "categories": f"Games,{item % 3}"} for item in items
        },
        "index": {item: [f"<a_{item % 3}>", f"<b_{item % 5}>", f"<c_{item}>"] for item in items},
    }
    for kind, content in files.items():
        (folder / f"Games.{kind}.json").write_text(json.dumps(content))
    if names:
        lines = "".join(f"B00{item:02d}\t{item}\n" for item in items)
        (folder / "Games.item2id").write_text(lines)
    settings = with_settings([each for each in tiny_settings if "DatasetConfig" not in each])
    for command in ("prepare", "embed", "tag"):
        data = ("--data", folder) if command == "prepare" else ()
        assert hidvae(command, "--output", run, *data, *settings) == 0
    assert "this folder holds a dataset of LC-Rec, LETTER or MiniOneRec" in capsys.readouterr().err
    assert hidvae("ids", "import", folder, "--output", run) == 0
    assert hidvae("run", "--output", run) == 0
    ids = ids_of(run)
    assert ids.item_ids[17] == ("B0017" if names else "17")
    assert ids.strings(17) == files["index"][17]
    assert len(Recommender.load(run).recommend(ids.item_ids[:2], 5)) == 5
