"""The report of a run, section by section, against the artifacts that it is made from."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.numpy import load_file
from tests.apps.show.pages import Page

from hidvae.apps.show.formats import percent
from hidvae.apps.show.report import run_page, write_report
from hidvae.data.prepare import load_dataset
from hidvae.errors import NotTrainedError
from hidvae.ranking.recommender import Recommender
from hidvae.store.artifacts import read_stage

SECTIONS = [
    "Metrics",
    "Differences",
    "Slices",
    "Some users",
    "Decisions",
    "Training",
    "Codebooks",
    "Collisions",
    "Tree of semantic IDs",
    "Purity of prefixes",
    "Tag accuracy",
    "Tag confusion",
    "Calibration",
    "Time",
    "Settings",
    "Manifests",
]
RANKERS = ["hidvae", "hidvae, model alone", "popularity", "content_graph"]


@pytest.fixture(scope="module")
def html(tiny_run: Path) -> str:
    return run_page(tiny_run)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def metrics(tiny_run: Path) -> Any:
    return read(tiny_run, "evaluation/metrics.json")


@pytest.fixture(scope="module")
def quality(tiny_run: Path) -> Any:
    return read(tiny_run, "semantic_ids/quality.json")


def of_rankers(metrics: Any) -> list[Any]:
    return [
        metrics,
        metrics["variants"][RANKERS[1]],
        *(metrics["baselines"][n] for n in RANKERS[2:]),
    ]


# --- the page -----------------------------------------------------------------------------------


def test_every_section_is_there_and_none_lacks_anything(page: Page, html: str) -> None:
    assert list(page.parts) == SECTIONS
    assert "Not in this report" not in html
    assert "Dataset demo: 200 users, 120 items" in page.introduction.text


def test_it_needs_no_other_file_and_no_network(page: Page) -> None:
    page.assert_needs_nothing()


def test_it_is_written_whole_and_the_same_again(tiny_run: Path, tmp_path: Path, html: str) -> None:
    file = write_report(tiny_run, tmp_path / "page.html")
    assert file.read_text(encoding="utf-8") == html
    assert file.stat().st_size < 8e6
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


# --- its numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "table"), [("test_excluding_history", 0), ("test", 1)])
def test_metrics_with_intervals_beside_the_baselines(
    page: Page, metrics: Any, task: str, table: int
) -> None:
    part = page.parts["Metrics"]
    assert part.tables[table][0] == ["", *RANKERS]
    shown = part.table(table)
    for name in ("recall@1", "recall@10", "ndcg@5", "ndcg@10"):
        assert shown[name] == [
            "{:.4f} [{:.4f}, {:.4f}]".format(ranker[task][name], *ranker[task][f"{name}_ci"])
            for ranker in of_rankers(metrics)
        ]
    assert shown["novelty@10"] == [f"{r[task]['novelty@10']:.4f}" for r in of_rankers(metrics)]
    drawn = page.figure(f"{task}-ndcg")
    assert drawn["x"] == [ranker[task]["ndcg@10"] for ranker in of_rankers(metrics)]
    for row, ranker in enumerate(of_rankers(metrics)):
        low, high = ranker[task]["ndcg@10_ci"]
        assert drawn["x"][row] - drawn["error_x"]["arrayminus"][row] == pytest.approx(low)
        assert drawn["x"][row] + drawn["error_x"]["array"][row] == pytest.approx(high)


def test_differences_are_those_of_the_evaluation(page: Page, metrics: Any) -> None:
    shown = page.parts["Differences"].table(0)
    for other in RANKERS[1:]:
        found = metrics["comparisons"]["hidvae"][other]["test_excluding_history"]["ndcg@10"]
        low, high = found["ci"]
        assert shown[other][1] == f"{found['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"


def test_slices_count_every_user_and_hold_their_metrics(page: Page, metrics: Any) -> None:
    part = page.parts["Slices"]
    slices = [ranker["test_excluding_history"]["slices"] for ranker in of_rankers(metrics)]
    places = [(key, name) for key in slices[0] for name in ("recall@10", "ndcg@10")]
    for number, (key, name) in enumerate(places):
        shown = part.table(number)
        assert part.tables[number][0] == [name, "users", *RANKERS]
        for row, bucket in enumerate(slices[0][key]):
            values = [of_ranker[key][row][name] for of_ranker in slices]
            wanted = ["–" if value is None else f"{value:.4f}" for value in values]
            assert shown[bucket["bucket"]] == [str(bucket["num_users"]), *wanted]
        assert sum(int(line[0]) for line in list(shown.values())[1:]) == 200
    drawn = page.figures["slice-history_length"]
    assert [trace["name"] for trace in drawn] == RANKERS
    assert drawn[0]["y"] == [bucket["ndcg@10"] for bucket in slices[0]["history_length"]]
    assert "No item was held out" in part.text


def test_users_see_what_the_recommender_says(page: Page, tiny_run: Path) -> None:
    part = page.parts["Some users"]
    users = re.findall("^User (.+)$", part.text, re.MULTILINE)
    assert len(users) == len(part.tables) == len(set(users)) == 5
    events = (
        load_dataset(read_stage(tiny_run / "dataset", produced_by="hidvae prepare"))
        .events_frame()
        .sort("position")
    )
    recommender = Recommender.load(tiny_run, "cpu")
    for user, (_, *lines) in zip(users, part.tables, strict=True):
        *history, taken = events.filter(user_id=user)["item_id"]
        found = recommender.recommend(history, 5)
        for rank, (line, item) in enumerate(zip(lines, found, strict=True), start=1):
            assert line[0] == f"{rank}*" if item.item_id == taken else str(rank)
            assert f"({item.item_id})" in line[1]
            assert line[3] == percent(item.prob, 2)
            assert line[5] == item.reason


@pytest.mark.parametrize("stage", ["tokenizer", "retriever"])
def test_curves_are_those_of_the_log(page: Page, tiny_run: Path, stage: str) -> None:
    with (tiny_run / stage / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    drawn = {
        (name, trace["name"]): trace
        for name, traces in page.figures.items()
        for trace in traces
        if name.startswith(f"{stage}-")
    }
    names = {
        "tokenizer": {
            "reconstruction": ("tokenizer-loss", "reconstruction"),
            "collision_rate": ("tokenizer-collision_rate", "collision_rate"),
            "usage_0": ("tokenizer-usage", "level 1"),
            "perplexity_2": ("tokenizer-perplexity", "level 3"),
        },
        "retriever": {
            "loss": ("retriever-loss", "loss"),
            "validation_ndcg@10": ("retriever-validation", "validation_ndcg@10"),
        },
    }[stage]
    for column, key in names.items():
        known = [row for row in rows if row[column]]
        assert drawn[key]["x"] == [int(row["epoch"]) for row in known]
        assert drawn[key]["y"] == [float(row[column]) for row in known]
    assert f"{rows[-1]['epoch']} epochs in " in page.parts["Training"].text
    reranker = read_stage(tiny_run / "reranker", produced_by="hidvae train")
    used = "Used" if reranker.facts["is_used"] else "Not used"
    judged = f"{used}: for {reranker.metrics['judged_users']} validation users"
    assert judged in page.parts["Training"].text


def test_codebooks_and_collisions_are_those_of_the_ids(
    page: Page, quality: Any, tiny_run: Path
) -> None:
    books = page.parts["Codebooks"].table()
    for level, perplexity in enumerate(quality["perplexity"]):
        size, usage, dead, shown, _ = books[str(level + 1)]
        assert (size, dead) == ("16", str(quality["dead_codes"][level]))
        assert usage == f"{quality['codebook_usage'][level]:.1%}"
        assert shown == f"{perplexity:.1f}"
    for trace in page.figures["codes"]:
        assert sum(trace["y"]) == 120
    ids = pl.read_parquet(tiny_run / "semantic_ids" / "semantic_ids.parquet")
    collisions = page.parts["Collisions"].table()
    rate = quality["collision_rate_before"]
    assert rate > 0, "a run without collisions shows nothing here"
    assert collisions["collision rate"] == [f"{rate:.2%}", "0.00%"]
    assert collisions["different IDs"] == [str(quality["num_ids"]), str(ids["codes"].n_unique())]
    assert collisions["items that share an ID"] == [str(quality["num_colliding_items"]), "0"]
    assert f"{quality['items_moved']} were given other codes" in page.parts["Collisions"].text


def test_the_tree_holds_every_item_once(page: Page, tiny_run: Path) -> None:
    tree = page.figure("ids")
    ids = pl.read_parquet(tiny_run / "semantic_ids" / "semantic_ids.parquet")
    assert (tree["parents"][0], tree["values"][0]) == ("", 120)
    values = dict(zip(tree["ids"], tree["values"], strict=True))
    sums: Counter[str] = Counter()
    for name, parent in zip(tree["ids"], tree["parents"], strict=True):
        sums[parent] += values[name]
    assert all(sums[name] == values[name] for name in values if name in sums)
    leaves = {name for name in values if name not in sums}
    assert len(leaves) == 120
    a, b, c = ids["codes"][0].to_list()
    (leaf,) = (name for name in leaves if name.endswith(f"<a_{a}><b_{b}><c_{c}>"))
    title = pl.read_parquet(tiny_run / "dataset" / "items.parquet")["title"][0]
    label = tree["labels"][tree["ids"].index(leaf)]
    assert label.startswith(f"&lt;c_{c}&gt; {title[:10]}")


def test_purity_and_tag_accuracy_are_those_of_the_ids(
    page: Page, quality: Any, tiny_run: Path
) -> None:
    levels = read(tiny_run, "tags/manifest.json")["metrics"]["levels"]
    purity, accuracy = page.parts["Purity of prefixes"].table(), page.parts["Tag accuracy"].table()
    for level, found in enumerate(quality["prefix_purity"]):
        shown = purity[str(level + 1)]
        assert shown[1:] == [
            str(levels[level]["classes"]),
            f"{found:.1%}",
            f"{levels[level]['majority_share']:.1%}",
        ]
        assert accuracy[str(level + 1)] == [
            str(quality["tag_items"][level]),
            f"{quality['tag_accuracy'][level]:.1%}",
            f"{quality['tag_majority_rate'][level]:.1%}",
        ]
    assert purity["3"][0] == "120"


def test_confusion_counts_the_held_out_items(page: Page, tiny_run: Path) -> None:
    held_out = load_file(tiny_run / "tokenizer" / "held_out.safetensors")["is_held_out"]
    known = pl.read_parquet(tiny_run / "tags" / "tags.parquet")["tag_ids"].to_list()
    found = pl.read_parquet(tiny_run / "semantic_ids" / "semantic_ids.parquet")["tag_ids"].to_list()
    names = (
        pl.read_parquet(tiny_run / "tags" / "vocabulary.parquet").filter(level=0)["tag"].to_list()
    )
    pairs = Counter(
        (names[known[item][0]], names[found[item][0]])
        for item, is_held_out in enumerate(held_out)
        if is_held_out
    )
    grid = page.figure("confusion-1")
    shown = {
        (row, column): grid["text"][i][j]
        for i, row in enumerate(grid["y"])
        for j, column in enumerate(grid["x"])
        if grid["text"][i][j]
    }
    assert shown == dict(pairs)
    assert grid["x"][-1] == "other"


def test_calibration_before_and_after(page: Page, quality: Any) -> None:
    shown = page.parts["Calibration"].table()
    names = ("_before", "", "_by_chance")
    for level in range(3):
        errors = [quality[f"tag_calibration_error{name}"][level] for name in names]
        assert shown[str(level + 1)] == [f"{error:.2%}" for error in errors]
    assert [trace["name"] for trace in page.figures["reliability"]] == [
        "exact",
        "level 1",
        "level 2",
        "level 3",
    ]


def test_time_settings_and_manifests(page: Page, tiny_run: Path) -> None:
    manifests = {
        path.parent.name: read(path.parent, path.name) for path in tiny_run.glob("*/manifest.json")
    }
    drawn = page.figure("timing")
    assert dict(zip(drawn["y"], drawn["x"], strict=True)) == {
        name: manifest["wall_seconds"] for name, manifest in manifests.items()
    }
    assert page.parts["Settings"].table()["tokenizer.codebook_size"] == ["16", "256"]
    assert "seed" not in page.parts["Settings"].table()
    shown = page.parts["Manifests"].table()
    for name, manifest in manifests.items():
        assert manifest["fingerprint"].startswith(shown[name][0])
        assert manifest["fingerprint"] in page.parts["Manifests"].text


# --- what a run may lack ------------------------------------------------------------------------


def without(run: Path, folders: list[str], copy: Path) -> Path:
    shutil.copytree(run, copy, ignore=lambda _, names: [name for name in names if name in folders])
    return copy


def test_a_part_without_its_artifact_says_what_to_run(tiny_run: Path, tmp_path: Path) -> None:
    run = without(tiny_run, ["retriever", "graph", "reranker", "evaluation"], tmp_path / "run")
    page = Page(run_page(run))
    assert list(page.parts) == SECTIONS
    for title, command in {
        "Metrics": "evaluate",
        "Slices": "evaluate",
        "Some users": "train",
    }.items():
        text = page.parts[title].text.strip()
        assert text.startswith("Not in this report: "), title
        assert f"hidvae {command}" in text
        assert "\n" not in text
    training = page.parts["Training"].text
    assert "has no retriever: run `hidvae train" in training
    assert "reranker has no manifest.json: run `hidvae train` first" in training
    assert page.parts["Codebooks"].table()["1"][0] == "16"
    assert set(page.parts["Time"].table()) == {
        "dataset",
        "embeddings",
        "likeness",
        "tags",
        "tokenizer",
        "semantic_ids",
        "together",
    }


def test_a_damaged_artifact_costs_its_parts_alone(tiny_run: Path, tmp_path: Path) -> None:
    run = without(tiny_run, [], tmp_path / "run")
    (run / "evaluation" / "metrics.json").write_text("{", encoding="utf-8")
    page = Page(run_page(run))
    assert "damaged" in page.parts["Metrics"].text
    assert page.parts["Some users"].tables


def test_a_run_of_settings_alone_has_a_report(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_run / "config.json").read_bytes())
    page = Page(run_page(tmp_path))
    assert page.parts["Settings"].tables
    assert page.parts["Time"].text.strip() == "Not in this report: no stage is complete yet"


@pytest.mark.parametrize("name", ["absent", "."])
def test_no_run_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotTrainedError, match="is no run.+hidvae run --output") as caught:
        write_report(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
