"""``hidvae export``: the folder is used without the package, and with it as a run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hidvae import Recommender
from hidvae.apps.cli import app, run_app
from hidvae.apps.export.card import CardFacts, model_card
from hidvae.apps.export.export_run import export_run
from hidvae.errors import ArtifactError, ConfigError, FingerprintMismatch
from hidvae.run.run import Run
from hidvae.run.stages import SERVED_FROM
from hidvae.store.artifacts import StageFolder, read_json, read_stage, write_json

GUARD = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"hidvae", "polars", "scipy", "safetensors"}:
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Refuse())
"""
"""Stands before a script that must do without this package."""


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, exported with all there is, by the command; do not write into it."""
    output = tmp_path_factory.mktemp("exported") / "tiny"
    arguments = ["export", str(tiny_run), "--output", str(output)]
    options = ["--with-run", "--longest-history", "30", "--license", "mit"]
    assert run_app(app, "hidvae", [*arguments, *options]) == 0
    return output


def test_a_script_without_the_package_ranks_the_same(exported: Path, tiny_run: Path) -> None:
    recommender = Recommender.load(tiny_run, device="cpu")
    ids = recommender.catalogue.item_ids
    generator = np.random.default_rng(5)
    histories = [
        [ids[item] for item in generator.integers(0, len(ids), length)]
        for length in generator.integers(1, 31, 100)
    ]
    (snippet,) = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    assert len(snippet.splitlines()) <= 14
    script = re.sub(r"^histories = .*$", "histories = json.load(sys.stdin)", snippet, flags=re.M)
    script = re.sub(
        r"^    print\(.*$", "    print(json.dumps([items[i] for i in found]))", script, flags=re.M
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", GUARD + script],
        input=json.dumps(histories),
        cwd=exported,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for history, items in zip(histories, found, strict=True):
        expected = recommender.recommend(history)
        assert [item["item_id"] for item in items] == [item.item_id for item in expected]
        assert [item["codes"] for item in items] == [list(item.codes) for item in expected]
        assert [item["tag_path"] for item in items] == [list(item.tag_path) for item in expected]
        assert [item["title"] for item in items] == [item.title for item in expected]


def test_the_program_holds_no_pickle(exported: Path) -> None:
    with zipfile.ZipFile(exported / "program.pt2") as archive:
        for name in archive.namelist():
            assert not archive.read(name).startswith(b"PK"), name  # what torch.save writes
            assert not (name.endswith((".pt", ".pkl")) and archive.read(name)), name
        for name in archive.namelist():
            if name.endswith("config.json"):
                text = archive.read(name).decode()
                assert '"use_pickle": true' not in text, name


def test_the_card_is_one_of_the_hub(exported: Path, tiny_run: Path) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    card = huggingface_hub.ModelCard.load(exported / "README.md")
    assert card.data.license == "mit"
    assert card.data.datasets == ["demo"]
    measured = read_json(tiny_run / "evaluation" / "metrics.json")["test_excluding_history"]
    values = {
        result.metric_type: result.metric_value
        for result in card.data.eval_results
        if result.task_name == "next item, history excluded"
    }
    assert values["ndcg@10"] == measured["ndcg@10"]
    low, high = measured["ndcg@10_ci"]
    assert f"| {low:.4f} to {high:.4f} |" in card.text
    assert read_stage(tiny_run / "dataset", produced_by="").fingerprint in card.text


def test_an_older_export_is_replaced_and_a_run_need_not_be_evaluated(
    exported: Path, tiny_run: Path, tmp_path: Path
) -> None:
    run, output = tmp_path / "run", tmp_path / "out"
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns("evaluation"))
    output.mkdir()
    for name in ("manifest.json", "items.json"):
        shutil.copyfile(exported / name, output / name)
    (output / "older").touch()
    export_run(run, output, k=2, longest_history=3)
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "Not evaluated." in card
    assert "model-index" not in card
    found = {file.name for file in output.iterdir()}
    assert found == {"manifest.json", "program.pt2", "items.json", "README.md"}


def test_the_copy_of_the_run_recommends_the_same(exported: Path, tiny_run: Path) -> None:
    copy, run = Recommender.load(exported), Recommender.load(tiny_run)
    history = run.catalogue.item_ids[4:9]
    assert copy.recommend(history) == run.recommend(history)
    assert copy.explain(history, history[0]) == run.explain(history, history[0])


def test_the_copy_is_checked_as_a_run_is(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(app, "hidvae", ["check", str(exported)]) == 0
    assert "dataset: 2 files as they were written" in capsys.readouterr().out
    copy = shutil.copytree(exported, tmp_path / "copy")
    file = copy / "dataset" / "manifest.json"
    write_json(file, {**read_json(file), "fingerprint_of_copy": "0" * 64})
    assert run_app(app, "hidvae", ["check", str(copy)]) == 2


def test_a_copy_on_the_hub_is_checked_too(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hidvae.run.run.local_folder", lambda place: exported)
    assert run_app(app, "hidvae", ["check", "hf://shop/tiny"]) == 0
    assert "graph: " in capsys.readouterr().out


def test_the_copy_holds_no_user(exported: Path, tiny_run: Path) -> None:
    files = {
        file.relative_to(exported).as_posix() for file in exported.rglob("*") if file.is_file()
    }
    assert not files & {"dataset/users.parquet", "dataset/events.safetensors"}
    assert not [name for name in files if name.startswith(("evaluation", "tokenizer"))]
    assert {Path(name).suffix for name in files} <= {
        ".json",
        ".parquet",
        ".safetensors",
        ".csv",
        ".md",
        ".pt2",
    }
    with pytest.raises(ArtifactError, match="copy without the log"):
        _ = Recommender.load(exported)._updates.dataset.split  # type: ignore[union-attr]


def test_nothing_but_an_export_is_replaced(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="found something else"):
        export_run(exported, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("architecture", "said"),
    [("item_softmax", "the ranking is exact"), ("item_decoder", "The beam search, 12 beams wide")],
)
def test_the_card_says_how_the_items_are_found(
    tiny_run: Path, architecture: str, said: str
) -> None:
    folders = Run(tiny_run).folders(SERVED_FROM)
    retriever = folders["retriever"]
    config = {**retriever.config, "architecture": architecture}
    folders["retriever"] = StageFolder(retriever.path, {**retriever.manifest, "config": config})
    settings = {"top_k": 5, "longest_history": 9, "beam_width": 12, "license": "mit"}
    facts = CardFacts(
        folders=folders,
        evaluation=None,
        num_items=120,
        version=0,
        settings={**settings, "with_run": False},
    )
    card = model_card(facts)
    assert said in card
    assert ("beam" in card) == (architecture == "item_decoder")


def test_the_card_says_which_levels_have_no_tags_and_takes_names_as_text(tiny_run: Path) -> None:
    folders = Run(tiny_run).folders(SERVED_FROM)

    def card_of(sizes: list[int], accuracy: list[float | None]) -> str:
        changed = dict(folders)
        for name, part, values in (
            ("dataset", "facts", {"name": "<b>my_shop</b> | *1*\x1b\u202e"}),
            ("tags", "facts", {"sizes": sizes}),
            ("semantic_ids", "metrics", {"tag_accuracy": accuracy}),
        ):
            manifest = folders[name].manifest
            manifest = {**manifest, part: {**manifest[part], **values}}
            changed[name] = StageFolder(folders[name].path, manifest)
        settings = {"top_k": 5, "longest_history": 9, "beam_width": 12, "license": "mit"}
        return model_card(CardFacts(changed, None, 120, 0, {**settings, "with_run": False}))

    shown = card_of([4, 9, 0], [0.5, None, None])
    assert "coarse to fine: 50.0% (of 4 tags), unknown (of 9 tags), no tags." in shown
    assert "# hidvae on \\<b\\>my\\_shop\\</b\\> \\| \\*1\\*" in shown
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert "The run has no tags" in card_of([0, 0, 0], [None, None, None])


def test_metrics_of_another_model_are_no_part_of_a_card(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    manifest = read_json(tmp_path / "run" / "evaluation" / "manifest.json")
    manifest["inputs"]["retriever"] = "another"
    write_json(tmp_path / "run" / "evaluation" / "manifest.json", manifest)
    with pytest.raises(FingerprintMismatch, match="run `hidvae evaluate` again"):
        export_run(tmp_path / "run", tmp_path / "out", longest_history=3)
    assert not (tmp_path / "out").exists()


def test_a_run_with_changed_items_is_exported_without_a_copy(
    tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    recommender = Recommender.load(tmp_path / "run", device="cpu")
    recommender.remove_items(recommender.catalogue.item_ids[:2]).save_changes()
    with pytest.raises(ConfigError, match="leave out --with-run"):
        export_run(tmp_path / "run", tmp_path / "out", with_run=True)
    assert not (tmp_path / "out").exists()
