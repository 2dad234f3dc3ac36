"""Load a run and recommend from it."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tests.retriever.tiny import all_log_probs

from hidvae.config import load_config
from hidvae.data.interactions import Sequences
from hidvae.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    FingerprintMismatch,
    HidvaeError,
    NotTrainedError,
)
from hidvae.evaluation.evaluate_ranker import evaluate_ranker
from hidvae.ranking.explain import Recommendation
from hidvae.ranking.filters import Filters
from hidvae.ranking.recommender import Recommender
from hidvae.run.run import Run


@pytest.fixture(scope="module")
def recommender(tiny_run: Path) -> Recommender:
    """Lists by score; for the learned order of the best items see test_reranker.py."""
    recommender = Recommender.load(tiny_run, device="cpu")
    recommender.reranker = None
    return recommender


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the run that the test may damage."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture(scope="module")
def history(recommender: Recommender) -> list[str]:
    return [recommender.catalogue.item_ids[index] for index in (3, 50, 17, 90, 3, 41)]


def exact(recommender: Recommender, history: list[str]) -> dict[str, float]:
    """Log-probability of every item, by name."""
    items = torch.from_numpy(recommender.catalogue.index_of(history))[None]
    scores = all_log_probs(recommender.retriever, items, torch.tensor([-1]))[0]
    return dict(zip(recommender.catalogue.item_ids, scores.tolist(), strict=True))


def ranked_by(recommender: Recommender, history: list[str]) -> dict[str, float]:
    """Log-probability plus what the item graph adds, by name."""
    scores = exact(recommender, history)
    if recommender.graph is not None:
        added = recommender.graph(torch.from_numpy(recommender.catalogue.index_of(history))[None])
        for item, value in zip(added.items[0].tolist(), added.values[0].tolist(), strict=True):
            scores[recommender.catalogue.item_ids[item]] += value
    return scores


def assert_one_line(error: pytest.ExceptionInfo[HidvaeError]) -> None:
    assert "\n" not in str(error.value)


# --- recommend ----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, 30])
def test_k_new_items_best_first(recommender: Recommender, history: list[str], k: int) -> None:
    found = recommender.recommend(history, k)
    assert len(found) == k
    names = [each.item_id for each in found]
    assert len(set(names)) == k
    assert set(names) <= set(recommender.catalogue.item_ids)
    assert not set(names) & set(history)
    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("column", [tuple, np.array, pl.Series])
def test_a_history_may_be_a_column(
    recommender: Recommender, history: list[str], column: Callable[[list[str]], Any]
) -> None:
    assert recommender.recommend(column(history), 3) == recommender.recommend(history, 3)
    with pytest.raises(DataError, match="history is empty"):
        recommender.recommend(column([]), 3)


@pytest.mark.parametrize("exclude_history", [True, False])
def test_a_wide_beam_finds_the_truly_best(
    recommender: Recommender, history: list[str], exclude_history: bool
) -> None:
    scores = ranked_by(recommender, history)
    if exclude_history:
        scores = {name: score for name, score in scores.items() if name not in history}
    best = sorted(scores, key=lambda name: -scores[name])[:12]
    found = recommender.recommend(history, 12, beam_width=120, exclude_history=exclude_history)
    assert [each.item_id for each in found] == best
    assert [each.score for each in found] == pytest.approx([scores[n] for n in best], abs=1e-5)


def test_the_history_is_in_the_list_only_if_asked_for(recommender: Recommender) -> None:
    everything = recommender.catalogue.item_ids
    history = everything[:40]
    without = recommender.recommend(history, 120)
    assert {each.item_id for each in without} == set(everything[40:])
    included = recommender.recommend(history, 120, exclude_history=False)
    assert {each.item_id for each in included} == set(everything)


@pytest.mark.parametrize("k", [1, 5])
def test_a_long_history_and_a_narrow_beam_still_give_k_items(
    recommender: Recommender, k: int
) -> None:
    scores = exact(recommender, recommender.catalogue.item_ids[:4])
    likely = sorted(scores, key=lambda name: -scores[name])[:60]  # what the beam would hold
    found = recommender.recommend(likely, k, beam_width=k)
    assert len(found) == k
    assert not {each.item_id for each in found} & set(likely)


def test_fewer_items_than_k_are_all_there_is(recommender: Recommender) -> None:
    everything = recommender.catalogue.item_ids
    found = recommender.recommend(everything[:115], 10)
    assert {each.item_id for each in found} == set(everything[115:])
    assert recommender.recommend(everything, 10) == []


def test_only_the_latest_items_are_read_but_all_are_left_out(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = recommender.catalogue.item_ids
    recent = names[20:30]  # max_history
    found = recommender.recommend([*names[60:90], *recent], 20)
    assert not {each.item_id for each in found} & {*names[60:90], *recent}
    monkeypatch.setattr(recommender, "graph", None)  # which favours no item of the history
    short = recommender.recommend(recent, 8, exclude_history=False)
    long = recommender.recommend([*names[60:90], *recent], 8, exclude_history=False)
    assert [each.item_id for each in long] == [each.item_id for each in short]


def test_order_of_the_history_matters(recommender: Recommender, history: list[str]) -> None:
    forwards, backwards = exact(recommender, history), exact(recommender, history[::-1])
    assert max(abs(forwards[name] - backwards[name]) for name in forwards) > 1e-4


def test_the_same_question_has_the_same_answer(tiny_run: Path, history: list[str]) -> None:
    recommender = Recommender.load(tiny_run, device="cpu")
    first = recommender.recommend(history, 5)
    assert recommender.recommend(history, 5) == first
    assert Recommender.load(str(tiny_run), device="cpu").recommend(tuple(history), 5) == first


# --- explain ------------------------------------------------------------------------------------


def assert_well_explained(
    recommender: Recommender, found: Recommendation, history: list[str]
) -> None:
    ids, catalogue = recommender.semantic_ids, recommender.catalogue
    item = int(catalogue.index_of([found.item_id])[0])
    assert found.title == catalogue.titles[item]
    assert found.codes == tuple(ids.strings(item))
    assert len(found.code_probs) == len(found.codes) == ids.num_levels
    assert all(0 <= prob <= 1 + 1e-6 for prob in found.code_probs)
    assert math.prod(found.code_probs) == pytest.approx(found.prob, rel=1e-4)
    assert found.log_prob == pytest.approx(math.log(found.prob), abs=1e-5)
    assert len(found.tag_path) == len(found.tag_confidences) <= ids.num_tag_levels
    for level, (tag, confidence) in enumerate(
        zip(found.tag_path, found.tag_confidences, strict=True)
    ):
        assert tag == recommender.tags.names[level][ids.tag_ids[item, level]]
        assert 0 <= confidence <= 1
    parts = found.score_parts
    assert sum(parts) == pytest.approx(found.score, abs=1e-4)
    assert parts.generator == pytest.approx(found.log_prob) and parts.reranker == 0
    assert parts.item_graph >= 0 and parts.likeness >= 0
    assert len(found.because) <= 3 and (found.because == ()) == (found.score == found.log_prob)
    shares = [cause.share for cause in found.because]
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 1 + 1e-9
    for cause in found.because:
        assert cause.item_id in history[-10:]
        assert sum(cause.parts) == pytest.approx(cause.share)
        other = ids.codes[catalogue.index_of([cause.item_id])[0]]
        length = cause.shared_levels
        assert (other[:length] == ids.codes[item, :length]).all()
        assert length == ids.num_levels or other[length] != ids.codes[item, length]


def test_recommendations_carry_true_reasons(recommender: Recommender) -> None:
    history = recommender.catalogue.item_ids[:30]
    found = recommender.recommend(history, 20)
    for each in found:
        assert_well_explained(recommender, each, history)
    assert any(each.because for each in found)
    assert all(each.tag_path for each in found)


def test_explaining_an_item_agrees_with_recommending_it(
    recommender: Recommender, history: list[str]
) -> None:
    for found in recommender.recommend(history, 10, exclude_history=False):
        explained = recommender.explain(history, found.item_id)
        assert explained.log_prob == pytest.approx(found.log_prob, abs=1e-5)
        assert explained.score == pytest.approx(found.score, abs=1e-5)
        assert explained.code_probs == pytest.approx(found.code_probs, abs=1e-5)
        assert explained.score_parts == pytest.approx(found.score_parts, abs=1e-5)
        assert [each.item_id for each in explained.because] == [
            each.item_id for each in found.because
        ]
        for one, other in zip(explained.because, found.because, strict=True):
            assert one.parts == pytest.approx(other.parts, abs=1e-6)
        same = {"log_prob": 0.0, "score": 0.0, "score_parts": (), "code_probs": (), "because": ()}
        assert dataclasses.replace(explained, **same) == dataclasses.replace(found, **same)


def test_any_item_can_be_explained_with_its_true_probability(
    recommender: Recommender, history: list[str]
) -> None:
    scores = exact(recommender, history)
    worst = min(scores, key=lambda name: scores[name])
    for name in (worst, history[0]):
        explained = recommender.explain(history, name)
        assert explained.item_id == name
        assert explained.log_prob == pytest.approx(scores[name], abs=1e-5)
        assert_well_explained(recommender, explained, history)


# --- refuses ------------------------------------------------------------------------------------


def test_an_unknown_item_is_named_with_the_nearest(recommender: Recommender) -> None:
    known = recommender.catalogue.item_ids[5]
    typo = known + "x"
    for ask in (
        lambda: recommender.recommend([known, typo]),
        lambda: recommender.explain([typo], known),
        lambda: recommender.explain([known], typo),
    ):
        with pytest.raises(DataError, match=f"{typo}.*did you mean '{known}'") as error:
            ask()
        assert_one_line(error)


def test_an_empty_history_is_refused(recommender: Recommender) -> None:
    known = recommender.catalogue.item_ids[0]
    for ask in (lambda: recommender.recommend([]), lambda: recommender.explain([], known)):
        with pytest.raises(DataError, match="history is empty") as error:
            ask()
        assert_one_line(error)


@pytest.mark.parametrize(
    ("k", "beam_width", "message"),
    [
        (2.5, None, "k: expected a whole number; found 2.5"),
        (0, None, "k: expected at least 1; found 0"),
        (-3, 10, "k: expected at least 1; found -3"),
        (10, 9, "beam_width: expected at least k = 10; found 9"),
        (1, 0, "beam_width: expected at least k = 1; found 0"),
    ],
)
def test_k_and_beam_width_are_checked(
    recommender: Recommender, history: list[str], k: int, beam_width: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        recommender.recommend(history, k, beam_width=beam_width)
    assert_one_line(error)


@pytest.mark.parametrize("missing", ["dataset", "embeddings", "tags", "semantic_ids", "retriever"])
def test_a_missing_stage_says_what_to_run(run: Path, missing: str) -> None:
    shutil.rmtree(run / missing)
    command = {
        "dataset": "prepare",
        "embeddings": "embed",
        "tags": "tag",
        "semantic_ids": "tokenize",
        "retriever": "train",
    }[missing]
    with pytest.raises(NotTrainedError, match=f"run `hidvae {command}` first") as error:
        Recommender.load(run, device="cpu")
    assert_one_line(error)


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(NotTrainedError, match="hidvae prepare"):
        Recommender.load(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def other_run(
    tiny_run: Path, tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run with another tokenizer and retriever on the same dataset."""
    other = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("runs") / "other"))
    more = ["TokenizerConfig.epochs=1", "RetrieverConfig.epochs=1"]
    Run(other).make(load_config([], [*tiny_settings, *more]), until="train")
    return other


@pytest.mark.parametrize("swapped", ["semantic_ids", "retriever"])
def test_folders_of_two_runs_are_not_mixed(run: Path, other_run: Path, swapped: str) -> None:
    Recommender.load(other_run, device="cpu")
    shutil.rmtree(run / swapped)
    shutil.copytree(other_run / swapped, run / swapped)
    with pytest.raises(FingerprintMismatch, match="was made from") as error:
        Recommender.load(run, device="cpu")
    assert_one_line(error)


def test_a_dataset_of_another_run_is_refused(run: Path, tmp_path: Path) -> None:
    settings = ["DatasetConfig.source=demo", "DatasetConfig.demo_num_items=130"]
    other = [*settings, "DatasetConfig.demo_num_users=50"]
    Run(tmp_path / "other").make(load_config([], other), until="prepare")
    shutil.rmtree(run / "dataset")
    shutil.copytree(tmp_path / "other" / "dataset", run / "dataset")
    with pytest.raises(FingerprintMismatch, match="was made from dataset") as error:
        Recommender.load(run, device="cpu")
    assert_one_line(error)


@pytest.mark.parametrize("damage", ["truncated", "garbage"])
def test_damaged_weights(run: Path, damage: str) -> None:
    file = run / "retriever" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage == "truncated" else bytes(len(content)))
    with pytest.raises(ArtifactError, match=r"model\.safetensors.*hidvae train") as error:
        Recommender.load(run, device="cpu")
    assert_one_line(error)


# --- many at once -------------------------------------------------------------------------------


def histories_of(recommender: Recommender) -> list[list[str]]:
    """Of one to thirty items, more than the model reads among them."""
    rng = np.random.default_rng(0)
    names = recommender.catalogue.item_ids
    return [[names[item] for item in rng.integers(120, size=n)] for n in (1, 30, 4, 2, 11, 1, 7)]


@pytest.mark.parametrize("exclude_history", [True, False])
@pytest.mark.parametrize(
    ("k", "beam_width", "filters"),
    [
        (10, None, Filters()),
        (5, 5, Filters()),  # too few beams for long histories: some lists are searched again
        (8, 8, Filters(most_per_tag=1, tag_level=1)),
        (6, 6, Filters(diversity=1.5)),
        (200, None, Filters(diversity=0.5, most_per_tag=9)),
    ],
)
def test_many_histories_are_answered_as_one_by_one(
    recommender: Recommender,
    k: int,
    beam_width: int | None,
    filters: Filters,
    exclude_history: bool,
) -> None:
    histories = histories_of(recommender)
    ask = {"exclude_history": exclude_history, "filters": filters, "beam_width": beam_width}
    together = recommender.recommend_many(histories, k, **ask)
    assert len(together) == len(histories)
    for history, found in zip(histories, together, strict=True):
        alone = recommender.recommend(history, k, **ask)
        assert [each.item_id for each in found] == [each.item_id for each in alone]
        for one, other in zip(found, alone, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert one.code_probs == pytest.approx(other.code_probs, rel=1e-4)
            assert one.because == other.because


def test_many_under_a_path_and_nobody_at_all(recommender: Recommender) -> None:
    histories = histories_of(recommender)
    filters = Filters(under=(recommender.tags.paths[0][0],))
    together = recommender.recommend_many(histories, 7, filters=filters)
    alone = [recommender.recommend(history, 7, filters=filters) for history in histories]
    names = [[each.item_id for each in found] for found in together]
    assert names == [[each.item_id for each in found] for found in alone]
    assert recommender.recommend_many([], 7) == []


def test_one_wrong_history_of_many_is_an_error(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="history 2 is empty"):
        recommender.recommend_many([[recommender.catalogue.item_ids[0]], []])


# --- as a ranker --------------------------------------------------------------------------------


def test_ranking_agrees_with_recommending(recommender: Recommender) -> None:
    rng = np.random.default_rng(0)
    histories = Sequences.from_lists([rng.permutation(120)[:length] for length in (3, 12, 1)])
    ranked = recommender.rank(histories, 10)
    names = recommender.catalogue.item_ids
    for user in range(3):
        history = [names[item] for item in histories[user]]
        items = [names[item] for item in ranked.items[user] if item >= 0]
        for exclude in (True, False):
            found = recommender.recommend(history, 10, exclude_history=exclude)
            left = [name for name in items if not exclude or name not in history]
            assert [each.item_id for each in found] == left[:10]


def test_the_evaluator_accepts_it(recommender: Recommender) -> None:
    histories = Sequences.from_lists([[1, 2, 3], [4], [5, 5, 6]])
    result = evaluate_ranker(
        recommender,
        histories,
        np.array([7, 8, 9]),
        num_items=120,
        cutoffs=(5, 10),
        popularity=np.ones(120, dtype=np.int64),
        bootstrap_samples=0,
    )
    assert result.name == "hidvae"
    assert result.including["invalid_rate"] == result.excluding["invalid_rate"] == 0


def test_its_name_says_what_it_is(recommender: Recommender) -> None:
    assert repr(recommender) == "Recommender(120 items, 3 codes per ID, ItemSoftmax)"


def test_a_history_may_be_any_list_of_ids(recommender: Recommender) -> None:
    pd = pytest.importorskip("pandas")
    ids = recommender.catalogue.item_ids[:3]
    expected = recommender.recommend(ids, k=4)
    for history in (
        tuple(ids),
        np.array(ids),
        pd.Series([*ids, None], index=[5, 5, 1, 0]),
        pl.Series(ids),
        (item_id for item_id in ids),
        {"item_id": ids},
        [*ids, float("nan")],
    ):
        assert recommender.recommend(history, k=np.int64(4)) == expected
    lists = pl.Series([ids, ids[:2]])
    assert recommender.recommend_many(lists, k=4)[0] == expected
    explained = recommender.explain(np.array(ids), np.str_(expected[0].item_id))
    assert (explained.item_id, explained.reason) == (expected[0].item_id, expected[0].reason)


@pytest.mark.parametrize(
    ("history", "k", "message"),
    [
        ("item-1", 3, "history: expected a list of item ids; found the text"),
        ({"item-1"}, 3, "history: expected a list of item ids; found a set"),
        ([None, float("nan")], 3, "the history is empty"),
        (["item-00001"], 2.0, "k: expected a whole number; found 2.0"),
        (["item-00001"], True, "k: expected a whole number; found True"),
    ],
)
def test_what_is_no_history_is_one_line(
    recommender: Recommender, history: Any, k: Any, message: str
) -> None:
    with pytest.raises(HidvaeError, match=message):
        recommender.recommend(history, k)
    with pytest.raises(HidvaeError, match="history 2|k: expected"):
        recommender.recommend_many([recommender.catalogue.item_ids[:1], history], k)


def test_filters_take_arrays_and_whole_numbers(recommender: Recommender) -> None:
    ids = recommender.catalogue.item_ids
    given = Filters(without=np.array(ids[:2]), most_per_tag=np.int64(1), tag_level=np.int8(0))
    assert given == Filters(without=(ids[0], ids[1]), most_per_tag=1)
    assert Filters(without={"a"}).without == ("a",)
    for wrong in ({"most_per_tag": 1.5}, {"diversity": "much"}, {"diversity": float("nan")}):
        with pytest.raises(ConfigError, match="Filters.*: expected a"):
            Filters(**wrong)
