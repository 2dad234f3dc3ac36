"""Items are added, updated and removed after training, and everything else stays as it was."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tests.retriever.tiny import all_log_probs, ranked

from hidvae.apps.batch import recommend_shards
from hidvae.config import load_config
from hidvae.data.interactions import Sequences
from hidvae.errors import ArtifactError, ConfigError, DataError, FingerprintMismatch
from hidvae.features.item_graph import ItemGraph
from hidvae.ranking.filters import Filters
from hidvae.ranking.item_changes import FOLDER, version_on_disk
from hidvae.ranking.recommender import Recommender
from hidvae.run.run import Run
from hidvae.store.artifacts import read_json


@pytest.fixture(scope="module")
def recommender(tiny_run: Path) -> Recommender:
    return Recommender.load(tiny_run, device="cpu")


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def like(recommender: Recommender, item: int, item_id: str, **changed: Any) -> dict[str, Any]:
    """A row like that of an item, under another id."""
    row = recommender.catalogue.frame.row(item, named=True)
    return {**row, "item_id": item_id, **changed}


def ranking(recommender: Recommender, history: list[str], k: int = 10) -> list[tuple[str, float]]:
    return [
        (found.item_id, pytest.approx(found.score, abs=1e-5))
        for found in recommender.recommend(history, k)
    ]


@pytest.fixture(scope="module")
def history(recommender: Recommender) -> list[str]:
    return [recommender.catalogue.item_ids[item] for item in (3, 50)]


def test_an_added_item_is_a_full_member(recommender: Recommender, history: list[str]) -> None:
    after = recommender.add_items([like(recommender, 7, "new"), like(recommender, 7, "newer")])
    ids = after.semantic_ids
    assert after.version == 1
    assert after.catalogue.item_ids == [*recommender.catalogue.item_ids, "new", "newer"]
    assert ids.is_unique
    np.testing.assert_array_equal(ids.codes[:-2], recommender.semantic_ids.codes)
    # Same text and no transitions of its own, so the same tags, and mostly the same prefix.
    np.testing.assert_array_equal(after.item_tags.tag_ids[-2], recommender.item_tags.tag_ids[7])
    names = {found.item_id for found in after.recommend(history, len(ids.item_ids))}
    assert names == set(after.catalogue.item_ids) - set(history)
    assert after.explain(["new", *history], "newer").prob > 0


def test_an_added_item_is_lifted_by_content_words_and_likeness_alone(
    recommender: Recommender, history: list[str]
) -> None:
    after = recommender.add_items([like(recommender, 3, "new")])
    twin, new = (after.explain(history, name) for name in (history[0], "new"))
    assert new.because and all(cause.parts.co_occurrence == 0 for cause in new.because)
    alike = next(cause for cause in new.because if cause.item_id == history[0])
    assert alike.parts.words > 0 and alike.parts.content > 0
    found = after.explain([history[0], "new"], history[1])
    assert all(c.parts.co_occurrence == 0 for c in found.because if c.item_id == "new")
    assert twin.item_id == history[0]


def test_the_old_recommender_goes_on_as_it_was(
    recommender: Recommender, history: list[str]
) -> None:
    before = ranking(recommender, history)
    recommender.add_items([like(recommender, 7, "new")]).recommend(history, 5)
    recommender.remove_items(recommender.catalogue.item_ids[:30])
    assert ranking(recommender, history) == before
    assert recommender.version == 0 and recommender.catalogue.num_items == 120


def test_old_items_keep_their_order_of_logits(recommender: Recommender, history: list[str]) -> None:
    """A further item takes probability from all others alike: the weights are the same."""
    after = recommender.add_items([like(recommender, 7, "new")])
    items = torch.from_numpy(recommender.catalogue.index_of(history))[None]
    users = torch.tensor([-1])
    old = all_log_probs(recommender.retriever, items, users)[0]
    new = all_log_probs(after.retriever, items, users)[0]
    difference = (new[:-1] - old).numpy()
    np.testing.assert_allclose(difference, difference[0], atol=1e-4)
    assert torch.logsumexp(new, dim=0).item() == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("architecture", ["item_decoder", "encoder_decoder"])
def test_other_architectures_take_items_too(
    architecture: str, tiny_run: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    settings = [
        *tiny_settings,
        f"RetrieverConfig.architecture={architecture}",
        "RetrieverConfig.epochs=1",
        "TokenizerConfig.collisions=disambiguate",
    ]
    Run(tmp_path / "run").make(load_config([], settings), until="train", reuse=[tiny_run])
    recommender = Recommender.load(tmp_path / "run", device="cpu")
    history = recommender.catalogue.item_ids[:2]
    after = recommender.add_items([like(recommender, 7, "new")]).remove_items(history[:1])
    found = [each.item_id for each in after.recommend(history[1:], 200)]
    assert sorted(found) == sorted({*after.catalogue.item_ids} - {*history})
    assert after.semantic_ids.is_unique


def test_removed_items_are_never_listed(recommender: Recommender, history: list[str]) -> None:
    best = [found.item_id for found in recommender.recommend(history, 5)]
    after = recommender.remove_items([*best[:2], history[0]])
    listed = [found.item_id for found in after.recommend(history, 200)]
    assert not {*best[:2], *history} & {*listed}
    assert len(listed) == 120 - 2 - 2
    assert after.explain(history, best[2]).item_id == best[2]
    ordered = after.recommend(history, 200, filters=Filters(without=(best[2],)))
    assert not {*best[:3]} & {found.item_id for found in ordered}
    items, _ = after.best(after_histories(after, [history]), 120, exclude_history=False)
    assert not {*after.catalogue.index_of([*best[:2], history[0]])} & {*items[0].tolist()}


def after_histories(recommender: Recommender, histories: list[list[str]]) -> Any:
    return Sequences.from_lists([recommender.catalogue.index_of(each) for each in histories])


def test_a_removed_item_comes_back_when_it_is_added_again(recommender: Recommender) -> None:
    gone = recommender.catalogue.item_ids[7]
    without = recommender.remove_items([gone])
    with pytest.raises(DataError, match="does not have"):
        without.update_items([like(recommender, 7, gone)])
    back = without.add_items([like(recommender, 7, gone)])
    assert back.catalogue.num_items == 120
    assert gone in {found.item_id for found in back.recommend(back.catalogue.item_ids[:1], 200)}


def test_an_update_changes_the_row_and_keeps_the_place(
    recommender: Recommender, history: list[str]
) -> None:
    item_id = recommender.catalogue.item_ids[7]
    same = recommender.update_items([like(recommender, 7, item_id)])
    # The same row gives the same vector, and its ID is free for it, so nothing changes.
    np.testing.assert_allclose(same.content, recommender.content, atol=1e-5)
    assert ranking(same, history) == ranking(recommender, history)
    other = recommender.update_items([like(recommender, 90, item_id, title="Another thing")])
    assert other.catalogue.titles[7] == "Another thing"
    assert other.catalogue.item_ids == recommender.catalogue.item_ids
    added = other.add_items([like(recommender, 7, "new"), like(recommender, 8, "newer")])
    again = added.update_items([like(recommender, 9, "new")])
    assert again.catalogue.item_ids == added.catalogue.item_ids
    assert again.catalogue.titles[-2] == recommender.catalogue.titles[9]
    np.testing.assert_array_equal(other.item_tags.tag_ids[7], recommender.item_tags.tag_ids[90])


def test_neighbours_are_those_of_a_graph_made_anew(recommender: Recommender) -> None:
    """Rows of changed items, and every row's new columns, against the whole graph."""
    after = recommender.add_items([like(recommender, 7, "new"), like(recommender, 90, "newer")])
    updates, _ = after._changeable
    assert after.graph is not None
    items = updates.items.changed(after._changes)  # type: ignore[arg-type]
    graph = updates._graph.over(items.catalogue.num_items, updates.content(items), items.tfidf)
    expected = graph.neighbours(count=300).toarray()  # more than there are items: all of them
    np.testing.assert_allclose(after.graph.neighbours.toarray(), expected, atol=1e-6)


def test_a_change_compares_what_it_changes_and_nothing_else(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same result as when all changes are taken up at once, from the disk."""
    compared, scores = [], ItemGraph.scores

    def counted(graph: ItemGraph, histories: Sequences) -> Any:
        compared.append(histories.num_users)
        return scores(graph, histories)

    first = Recommender.load(run, device="cpu")
    item_ids = first.catalogue.item_ids
    monkeypatch.setattr(ItemGraph, "scores", counted)
    steps: list[tuple[Callable[[Recommender], Recommender], int]] = [
        (lambda now: now.add_items([like(first, item, f"new-{item}") for item in range(20)]), 20),
        (lambda now: now.add_items([like(first, 90, "one more")]), 1),
        (lambda now: now.update_items([like(first, 3, "new-5"), like(first, 8, item_ids[9])]), 2),
        (lambda now: now.remove_items(["new-7", item_ids[4]]), 0),
        (lambda now: now.add_items([like(first, 60, item_ids[4])]), 1),
    ]
    now = first
    for change, count in steps:
        compared.clear()
        now = change(now)
        assert sum(compared) == count
    now.save_changes()
    compared.clear()
    loaded = Recommender.load(run, device="cpu")
    assert sum(compared) == 20 + 1 + 1 + 1
    assert now.graph is not None and loaded.graph is not None
    np.testing.assert_allclose(
        now.graph.neighbours.toarray(), loaded.graph.neighbours.toarray(), atol=1e-6
    )


def test_a_history_may_hold_added_items(recommender: Recommender) -> None:
    after = recommender.add_items([like(recommender, 7, "new")])
    found = after.recommend(["new"], 5)
    assert len(found) == 5
    padded = torch.tensor([[120]])
    searched = ranked(after.retriever, padded, torch.tensor([-1]), 121)
    assert sorted(searched.items[0].tolist()) == list(range(121))


def test_changes_are_kept_and_taken_up(run: Path, history: list[str]) -> None:
    first = Recommender.load(run, device="cpu")
    second = first.add_items([like(first, 7, "new")]).remove_items(history[:1])
    assert version_on_disk(run) == 0
    assert second.save_changes() == 2
    assert version_on_disk(run) == 2
    loaded = Recommender.load(run, device="cpu")
    assert loaded.version == 2
    assert ranking(loaded, history, 50) == ranking(second, history, 50)
    np.testing.assert_array_equal(loaded.semantic_ids.codes, second.semantic_ids.codes)
    assert not [path for path in run.iterdir() if path.name.endswith(".writing")]


def test_two_writers_do_not_overwrite_each_other(run: Path) -> None:
    first, second = (Recommender.load(run, device="cpu") for _ in range(2))
    first.add_items([like(first, 7, "new")]).save_changes()
    with pytest.raises(ArtifactError, match="expected version 0.* found 1"):
        second.add_items([like(second, 8, "other")]).save_changes()
    assert Recommender.load(run, device="cpu").catalogue.item_ids[-1] == "new"


ADD_ITEM = """
import os, signal, sys
from pathlib import Path
from hidvae.ranking.recommender import Recommender

run, item_id, dies = sys.argv[1:]
recommender = Recommender.load(run, device="cpu")
row = {**recommender.catalogue.frame.row(7, named=True), "item_id": item_id}
changed = recommender.add_items([row])
replace = os.replace

def killed(source, target):
    replace(source, target)
    if Path(target).name == ".item_changes.old":
        os.kill(os.getpid(), signal.SIGKILL)

if dies == "yes":
    os.replace = killed
print("ready", flush=True)
sys.stdin.readline()
changed.save_changes()
"""
"""Adds an item as soon as it is given a line; killed between the two renames, if it is to die."""


def adding(run: Path, item_id: str, *, dies: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ADD_ITEM, str(run), item_id, "yes" if dies else "no"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signal kills a process at once")
def test_a_kill_between_two_renames_loses_no_change(run: Path) -> None:
    first = Recommender.load(run, device="cpu")
    gone = first.catalogue.item_ids[5]
    first.add_items([like(first, 7, "new")]).remove_items([gone]).save_changes()
    process = adding(run, "lost", dies=True)
    process.communicate("go\n")
    assert process.returncode == -signal.SIGKILL
    assert not (run / FOLDER).exists()

    assert version_on_disk(run) == 2
    assert Run(run).changes_fingerprint != "none"
    again = Recommender.load(run, device="cpu")
    assert again.catalogue.item_ids[-1] == "new"
    assert again.add_items([like(again, 8, "newer")]).save_changes() == 3
    last = Recommender.load(run, device="cpu")
    assert last.catalogue.item_ids[-2:] == ["new", "newer"]
    assert not last.allowed[5]
    assert not [path for path in run.iterdir() if path.name.endswith((".old", ".writing"))]


def test_two_processes_that_add_at_once_lose_neither(run: Path) -> None:
    """One is told to repeat its change, and does."""
    process = adding(run, "theirs")
    recommender = Recommender.load(run, device="cpu")
    changed = recommender.add_items([like(recommender, 8, "ours")])
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    print("go", file=process.stdin, flush=True)
    refused, errors = "theirs", ""
    try:
        changed.save_changes()
    except ArtifactError as error:
        refused, errors = "ours", str(error)
    errors += process.communicate()[1]
    assert process.returncode == (1 if refused == "theirs" else 0)
    assert errors.count("load the run again and repeat the change") == 1
    again = Recommender.load(run, device="cpu")
    again.add_items([like(again, 7, refused)]).save_changes()
    assert {"ours", "theirs"} < {*Recommender.load(run, device="cpu").catalogue.item_ids}


def test_lists_of_a_batch_job_follow_the_changes(run: Path, tmp_path: Path) -> None:
    first = Recommender.load(run, device="cpu")
    (tmp_path / "users").mkdir()
    users = pl.DataFrame({"user_id": ["u"], "history": [first.catalogue.item_ids[3:5]]})
    users.write_parquet(tmp_path / "users" / "part-0.parquet")

    def lists() -> set[str]:
        recommend_shards(run, tmp_path / "users", tmp_path / "lists", k=200)
        return {*pl.read_parquet(tmp_path / "lists" / "part-0.parquet")["items"][0]}

    before = lists()
    gone = [item for item in first.catalogue.item_ids if item in before][:2]
    first.remove_items(gone).save_changes()
    without = lists()
    assert without == before - {*gone}
    second = Recommender.load(run, device="cpu")
    second.add_items([like(second, 7, "new")]).save_changes()
    assert lists() == without | {"new"}
    third = Recommender.load(run, device="cpu")
    third.add_items([like(first, first.catalogue.positions[gone[0]], gone[0])]).save_changes()
    assert lists() == without | {"new", gone[0]}


def test_an_evaluation_is_of_the_run_as_trained(run: Path, tiny_settings: list[str]) -> None:
    before = read_json(run / "evaluation" / "metrics.json")
    ranks = pl.read_parquet(run / "evaluation" / "ranks.parquet")
    first = Recommender.load(run, device="cpu")
    added = first.add_items([like(first, item, f"new-{item}") for item in range(20)])
    added.remove_items(first.catalogue.item_ids[:30]).save_changes()
    shutil.rmtree(run / "evaluation")
    Run(run).make(load_config([], tiny_settings), only="evaluate")
    after = read_json(run / "evaluation" / "metrics.json")
    assert {**after, "wall_seconds": None} == {**before, "wall_seconds": None}
    assert pl.read_parquet(run / "evaluation" / "ranks.parquet").equals(ranks)


def test_changes_of_another_training_are_refused(run: Path, tiny_settings: list[str]) -> None:
    first = Recommender.load(run, device="cpu")
    first.add_items([like(first, 7, "new")]).save_changes()
    Run(run).make(load_config([], [*tiny_settings, "RunConfig.seed=5"]), until="train")
    with pytest.raises(FingerprintMismatch, match="item_changes"):
        Recommender.load(run, device="cpu")


def test_a_damaged_folder_says_what_to_do(run: Path) -> None:
    first = Recommender.load(run, device="cpu")
    first.add_items([like(first, 7, "new")]).save_changes()
    file = run / FOLDER / "items.parquet"
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(ArtifactError, match="damaged, delete .*item_changes"):
        Recommender.load(run, device="cpu")


def test_bad_rows_are_refused(recommender: Recommender) -> None:
    for rows, message in [
        ([], "at least one item"),
        ([like(recommender, 7, recommender.catalogue.item_ids[7])], "update it instead"),
        ([like(recommender, 7, "new"), like(recommender, 8, "new")], "each item once"),
        ([{"item_id": "new"}], "expected"),
        ([like(recommender, 7, "new") | {"tittle": "x"}], "did you mean 'title'"),
        (["new"], "a mapping"),
    ]:
        with pytest.raises(DataError, match=message):
            recommender.add_items(rows)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="did you mean"):
        recommender.remove_items([recommender.catalogue.item_ids[0] + "x"])
    with pytest.raises(DataError, match="at least one item to remain"):
        recommender.remove_items(recommender.catalogue.item_ids)


def test_only_a_loaded_run_can_change(recommender: Recommender) -> None:
    bare = Recommender(
        recommender.catalogue,
        recommender.semantic_ids,
        recommender.tags,
        recommender.retriever,
        recommender.max_history,
    )
    assert bare.version == 0
    with pytest.raises(ConfigError, match=r"Recommender\.load"):
        bare.remove_items(recommender.catalogue.item_ids[:1])


def test_a_table_is_taken_as_well_as_rows(recommender: Recommender) -> None:
    table = recommender.catalogue.frame.slice(7, 2).with_columns(
        item_id=pl.Series(["new", "newer"])
    )
    by_table = recommender.add_items(table.drop("categories"))
    assert by_table.catalogue.num_items == 122
    # Without a path, the tags that its ID stands for count.
    assert (by_table.item_tags.tag_ids[-2:, 0] >= 0).all()


def test_items_are_added_from_any_table(recommender: Recommender) -> None:
    pd = pytest.importorskip("pandas")
    row = {"item_id": "new", "title": "Steel kettle", "brand": float("nan")}
    expected = recommender.add_items([{"item_id": "new", "title": "Steel kettle"}])
    row = {name: value for name, value in row.items() if name in expected.catalogue.frame.columns}
    frame = pl.DataFrame([row])
    for rows in (
        [row],
        row,
        {name: np.array([value], dtype=object) for name, value in row.items()},
        frame,
        frame.lazy(),
        frame.to_arrow(),
        pd.DataFrame([row]),
        pd.DataFrame([row]).set_index("item_id"),
    ):
        assert recommender.add_items(rows).catalogue.frame[-1].equals(expected.catalogue.frame[-1])
    number = recommender.add_items([{**row, "item_id": 7.0}])
    assert number.catalogue.item_ids[-1] == "7"
    assert not number.remove_items(np.array([7])).allowed[-1]
    gone = recommender.remove_items(pd.Series(recommender.catalogue.item_ids[:2]))
    assert np.flatnonzero(~gone.allowed).tolist() == [0, 1]
    with pytest.raises(DataError, match="items: expected at least one item; found none"):
        recommender.add_items(frame.clear())
