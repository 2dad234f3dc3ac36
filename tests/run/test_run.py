"""The stages in a row: skipped when current, made again when not, refused on a mismatch."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hidvae.config import Config, load_config
from hidvae.data.sources.frames import tables_from
from hidvae.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    FingerprintMismatch,
    NotTrainedError,
)
from hidvae.run.run import Run
from hidvae.run.stages import COMMANDS, STAGES
from hidvae.store import artifacts
from hidvae.store.artifacts import read_json, write_json
from hidvae.store.lock import writing


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the whole run that the test may change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def fingerprints(run: Path) -> dict[str, str]:
    return {name: folder.fingerprint for name, folder in Run(run).folders().items()}


def changed(settings: list[str], *more: str) -> Config:
    return load_config([], [*settings, *more])


def written_times(run: Path) -> dict[str, int]:
    return {s.name: (run / s.name / "manifest.json").stat().st_mtime_ns for s in STAGES}


def made_again(before: dict[str, int], run: Path) -> set[str]:
    return {name for name, time in written_times(run).items() if time != before[name]}


def test_stages_are_listed_in_an_order_that_can_run() -> None:
    seen: set[str] = set()
    for stage in STAGES:
        assert set(stage.needs) <= seen, stage.name
        seen.add(stage.name)
    assert COMMANDS == ("prepare", "embed", "tag", "tokenize", "train", "evaluate")


def test_metrics_hold_what_is_promised(tiny_run: Path) -> None:
    metrics = read_json(tiny_run / "evaluation" / "metrics.json")
    splits = ("test", "test_excluding_history", "validation", "validation_excluding_history")
    for scored in (metrics, *metrics["baselines"].values()):
        for split in splits:
            for name in ("recall@5", "recall@10", "ndcg@5", "ndcg@10"):
                assert 0 <= scored[split][name] <= 1
            assert scored[split]["num_users"] == 200
            assert scored[split]["invalid_rate"] == 0
    assert set(metrics["baselines"]) == {"popularity", "content_graph"}
    assert metrics["seed"] == 0
    assert set(metrics["wall_seconds"]) == {*COMMANDS, "baselines"}
    assert all(seconds > 0 for seconds in metrics["wall_seconds"].values())


def test_semantic_ids_hold_what_is_promised(tiny_run: Path) -> None:
    table = pl.read_parquet(tiny_run / "semantic_ids" / "semantic_ids.parquet")
    assert {"item_id", "codes"} <= set(table.columns)
    assert table["codes"].n_unique() == table.height == 120
    quality = read_json(tiny_run / "semantic_ids" / "quality.json")
    assert quality["collision_rate_after"] == 0
    promised = ("collision_rate_before", "codebook_usage", "perplexity", "tag_accuracy")
    assert set(promised) <= set(quality)
    assert read_json(tiny_run / "evaluation" / "metrics.json")["semantic_ids"] == quality


def test_a_whole_run_is_not_repeated(
    run: Path, tiny_settings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = written_times(run)
    with caplog.at_level(logging.INFO, "hidvae"):
        Run(run).make(changed(tiny_settings))
    assert made_again(before, run) == set()
    assert sum("skipped" in message for message in caplog.messages) == len(STAGES)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("EvaluationConfig.beam_width=11", {"evaluation"}),
        ("GraphConfig.likeness_weights=(3.0,)", {"graph", "reranker", "evaluation"}),
        ("RetrieverConfig.epochs=1", {"retriever", "graph", "reranker", "evaluation"}),
        ("RerankerConfig.enabled=False", {"reranker", "evaluation"}),
        ("RunConfig.checkpoint_every_seconds=1", set()),
        (
            "RunConfig.seed=1",
            {
                *("likeness", "tokenizer", "semantic_ids"),
                *("retriever", "graph", "reranker", "evaluation"),
            },
        ),
    ],
)
def test_a_changed_setting_makes_its_stage_and_the_ones_after_again(
    run: Path, tiny_settings: list[str], setting: str, expected: set[str]
) -> None:
    before = written_times(run)
    Run(run).make(changed(tiny_settings, setting))
    assert made_again(before, run) == expected
    assert Run(run).folders().keys() == before.keys()


def test_same_bytes_from_a_changed_setting_leave_the_later_stages_alone(
    run: Path, tiny_settings: list[str]
) -> None:
    before = written_times(run)
    Run(run).make(changed(tiny_settings, "DatasetConfig.csv_separator=;"))
    assert made_again(before, run) == {"dataset"}


def test_a_damaged_stage_is_made_again_with_the_same_result(
    run: Path, tiny_settings: list[str]
) -> None:
    before = fingerprints(run)
    for file in (run / "tokenizer").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:10])
    Run(run).make(changed(tiny_settings), until="tokenize")
    after = fingerprints(run)
    assert after["semantic_ids"] == before["semantic_ids"]


def test_same_settings_elsewhere_give_the_same_model_and_metrics(
    tiny_run: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    Run(tmp_path / "again").make(changed(tiny_settings))
    for name in ("dataset", "embeddings", "tags", "semantic_ids"):
        assert fingerprints(tmp_path / "again")[name] == fingerprints(tiny_run)[name], name
    again, first = (
        read_json(run / "evaluation" / "metrics.json") for run in (tmp_path / "again", tiny_run)
    )
    assert again["test"] == first["test"]
    assert again["validation_excluding_history"] == first["validation_excluding_history"]


def test_stages_of_another_run_are_copied_where_nothing_of_theirs_changed(
    tiny_run: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    config = changed(tiny_settings, "RetrieverConfig.epochs=1")
    Run(tmp_path / "run").make(config, reuse=[tmp_path / "absent", tiny_run])
    assert made_again(written_times(tiny_run), tmp_path / "run") == {
        "retriever",
        "graph",
        "reranker",
        "evaluation",
    }
    assert set(Run(tmp_path / "run").folders()) == {stage.name for stage in STAGES}


def test_until_stops_after_that_stage(tiny_settings: list[str], tmp_path: Path) -> None:
    made = Run(tmp_path / "run").make(changed(tiny_settings), until="tag")
    assert list(made) == ["dataset", "embeddings", "likeness", "tags"]
    assert not (tmp_path / "run" / "tokenizer").exists()
    with pytest.raises(ConfigError, match="expected one of prepare, embed"):
        Run(tmp_path / "run").make(changed(tiny_settings), until="tokenise")


@pytest.mark.parametrize(
    ("command", "missing", "advice"),
    [
        ("embed", "dataset", "hidvae prepare"),
        ("tokenize", "tags", "hidvae tag"),
        ("train", "semantic_ids", "hidvae tokenize"),
        ("evaluate", "retriever", "hidvae train"),
    ],
)
def test_a_stage_alone_says_which_earlier_one_is_missing(
    run: Path, tiny_settings: list[str], command: str, missing: str, advice: str
) -> None:
    shutil.rmtree(run / missing)
    with pytest.raises(NotTrainedError, match=f"run `{advice}` first"):
        Run(run).make(changed(tiny_settings), only=command)


def test_a_retriever_of_another_tokenizer_is_refused(run: Path, tiny_settings: list[str]) -> None:
    Run(run).make(changed(tiny_settings, "TokenizerConfig.epochs=2"), only="tokenize")
    with pytest.raises(FingerprintMismatch, match=r"retriever was made from semantic_ids .*train"):
        Run(run).make(changed(tiny_settings), only="evaluate")


def test_tags_of_another_dataset_are_refused(run: Path, tiny_settings: list[str]) -> None:
    Run(run).make(changed(tiny_settings, "DatasetConfig.demo_num_users=190"), only="prepare")
    with pytest.raises(FingerprintMismatch, match=r"was made from dataset .*hidvae embed"):
        Run(run).make(changed(tiny_settings), only="train")


def test_full_disk_keeps_the_old_stage(
    run: Path, tiny_settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprints(run)
    write = artifacts.write_json

    def full(path: Path, value: Any) -> None:
        if path.name == "manifest.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, value)

    monkeypatch.setattr(artifacts, "write_json", full)
    with pytest.raises(ArtifactError, match="No space left on device"):
        config = changed(tiny_settings, "EvaluationConfig.beam_width=11")
        Run(run).make(config, only="evaluate")
    assert fingerprints(run) == before
    assert [entry.name for entry in run.iterdir() if entry.name.startswith(".")] == [".lock"]


def test_unknown_baseline_is_refused_before_anything_is_ranked(
    run: Path, tiny_settings: list[str]
) -> None:
    config = changed(tiny_settings, "EvaluationConfig.baselines=('popularty',)")
    with pytest.raises(ConfigError, match="expected some of popularity"):
        Run(run).make(config, only="evaluate")


def test_the_tokenizer_of_another_run_can_be_used(
    tiny_run: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    Run(tmp_path / "other").take_tokenizer(Run(tiny_run))
    Run(tmp_path / "other").take_tokenizer(Run(tiny_run))  # again changes nothing
    copied = Run(tmp_path / "other").folders(["semantic_ids"])
    assert copied["semantic_ids"].fingerprint == fingerprints(tiny_run)["semantic_ids"]
    Run(tmp_path / "other").make(
        changed(tiny_settings, "TokenizerConfig.epochs=2"), only="tokenize"
    )
    with pytest.raises(FingerprintMismatch, match="choose another --output"):
        Run(tmp_path / "other").take_tokenizer(Run(tiny_run))


def test_settings_of_a_run_are_the_base_of_its_next_command(tmp_path: Path) -> None:
    first = load_config([], ["TokenizerConfig.epochs=7", "DatasetConfig.source=demo"])
    (tmp_path / "config.json").write_text(json.dumps(first.to_json()), encoding="utf-8")
    later = Run(tmp_path).resolve(overrides=["RetrieverConfig.epochs=8"])
    assert (later.tokenizer.epochs, later.retriever.epochs) == (7, 8)
    fresh = Run(tmp_path).resolve(overrides=["RetrieverConfig.epochs=8"], is_fresh=True)
    assert fresh.tokenizer.epochs == Config().tokenizer.epochs


def test_data_takes_the_place_of_the_demo_and_keeps_a_named_source(tmp_path: Path) -> None:
    demo = Run(tmp_path).resolve(Path("shop"), overrides=["DatasetConfig.source=demo"])
    assert (demo.dataset.source, demo.dataset.folder) == ("folder", "shop")
    amazon = ["DatasetConfig.source=amazon", "DatasetConfig.dataset_split=beauty"]
    config = Run(tmp_path).resolve(Path("shop"), overrides=amazon)
    assert (config.dataset.source, config.dataset.folder) == ("amazon", "shop")


def test_stored_settings_are_the_resolved_ones(tiny_run: Path, tiny_settings: list[str]) -> None:
    assert Config.from_json(read_json(tiny_run / "config.json")) == changed(tiny_settings)


def tables(run: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Items and events of a run, as a user would hold them."""
    dataset = Run(run).dataset
    events = dataset.events_frame().select(
        "user_id", "item_id", pl.col("position").alias("timestamp")
    )
    return dataset.catalogue.frame, events


def test_two_tables_in_python_become_recommendations(
    tiny_run: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    items, interactions = tables(tiny_run)
    settings = [setting for setting in tiny_settings if not setting.startswith("DatasetConfig")]
    made = Run.fit(items, interactions, tmp_path / "frames", settings=settings)
    history = items["item_id"][:3].to_list()
    found = made.recommend(history, k=5)
    assert [each.item_id for each in found] == [
        each.item_id for each in Run(tiny_run).recommend(history, k=5)
    ]
    assert made.metrics["test"]["num_users"] == 200
    items.write_parquet(tmp_path / "items.parquet")
    interactions.write_csv(tmp_path / "events.csv")
    files = tmp_path / "items.parquet", str(tmp_path / "events.csv")
    again = Run.fit(*files, tmp_path / "files", settings=settings)
    assert again.folder("retriever").fingerprint == made.folder("retriever").fingerprint
    assert again.folder("dataset").facts["name"] == "files"


def test_the_same_tables_are_not_prepared_again(
    tiny_run: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    items, interactions = tables(tiny_run)
    settings = [*tiny_settings, "DatasetConfig.source=folder"]
    run = Run(tmp_path)
    for table, is_new in ((items, True), (items, False), (items[::-1], True)):
        run.tables = tables_from(table, interactions)
        before = (tmp_path / "dataset").stat().st_ino if run.has("dataset") else None
        run.make(load_config([], settings), only="prepare")
        assert ((tmp_path / "dataset").stat().st_ino != before) == is_new


def test_a_command_does_not_replace_tables_that_python_gave(
    tiny_run: Path, tiny_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, interactions = tables(tiny_run)
    made = Run(tmp_path / "run")
    made.tables = tables_from(items, interactions)
    made.make(load_config([], [*tiny_settings, "DatasetConfig.source=folder"]), only="prepare")
    before = made.folder("dataset").fingerprint
    other = tmp_path / "other"  # where a folder without a name is looked for
    other.mkdir()
    items.write_parquet(other / "items.parquet")
    interactions.head(300).write_parquet(other / "interactions.parquet")
    monkeypatch.setenv("HIDVAE_DATA", str(other))
    run = Run(tmp_path / "run")
    run.make(run.resolve(), only="prepare")
    assert run.folder("dataset").fingerprint == before
    with pytest.raises(DataError, match="given in Python"):
        run.make(run.resolve(overrides=["DatasetConfig.min_events=1"]), only="prepare")
    named = run.make(run.resolve(other), only="prepare")["dataset"]
    assert named.fingerprint != before


def test_a_run_shows_what_its_stages_wrote(tiny_run: Path) -> None:
    run = Run(tiny_run, "cpu")
    assert run.dataset.catalogue.num_items == run.semantic_ids.num_items == 120
    assert run.embeddings.matrix.shape[0] == len(run.tags.ids) == 120
    assert run.dataset is run.dataset  # loaded once
    assert run.retriever.tables.num_items == 120
    assert run.metrics["test"]["num_users"] == 200
    assert not run.tokenizer.training
    assert str(tiny_run) in repr(run)
    run.forget()
    with pytest.raises(NotTrainedError, match="hidvae prepare"):
        _ = Run(tiny_run / "nowhere").dataset


def test_check_compares_every_file_with_its_hash(run: Path) -> None:
    checked = [str(folder.path.relative_to(run)) for folder in Run(run).check()]
    assert checked == [stage.name for stage in STAGES]
    file = run / "embeddings" / "embeddings.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"embeddings.safetensors: .*hidvae embed"):
        list(Run(run).check())


def test_check_sees_what_a_kill_left_as_what_it_is(run: Path) -> None:
    (run / "evaluation").rename(run / ".evaluation.old")  # between the two renames
    shutil.copytree(run / "graph", run / ".graph.host-1-0.writing")
    (run / ".graph.host-1-0.writing" / "graph.json").write_text("half")
    (run / "fusion").mkdir()  # of an older version
    (run / "fusion" / "manifest.json").write_text('{"format_version": 1}')
    checked = [str(folder.path.relative_to(run)) for folder in Run(run).check()]
    assert checked == [stage.name for stage in STAGES]


def test_a_second_writer_is_refused_while_the_first_one_works(
    run: Path, tiny_settings: list[str]
) -> None:
    before = fingerprints(run)
    with (
        writing(run),
        pytest.raises(ArtifactError, match="expected no other command"),
    ):
        Run(run).make(changed(tiny_settings, "RunConfig.seed=1"))
    assert fingerprints(run) == before


def test_a_run_of_an_older_version_is_refused_with_the_command_to_make_it(
    run: Path,
) -> None:
    manifest = read_json(run / "dataset" / "manifest.json") | {"format_version": 1}
    write_json(run / "dataset" / "manifest.json", manifest)
    with pytest.raises(
        ArtifactError, match=r"version 2, found 1.*`hidvae run .*makes the run anew"
    ):
        Run(run).recommend(["item-00001"])
