"""Two runs are compared on the users that both test with the same target."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hidvae.apps.cli import main
from hidvae.config import DatasetConfig, load_config
from hidvae.data.schema import Columns
from hidvae.data.sources.demo import generate_demo
from hidvae.data.sources.frames import tables_from
from hidvae.errors import ConfigError, DataError, NotTrainedError
from hidvae.evaluation.compare_runs import compare_runs
from hidvae.evaluation.evaluate_run import RANKS
from hidvae.run.run import Run

NOBODY, OTHER_TARGET = 5, 3
"""Users that are not in the other run, and users whose last item is another there."""


@pytest.fixture(scope="module")
def other(tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of much the same log: other numbers of items and users, some users gone, some changed."""
    demo = generate_demo(num_items=120, num_users=200)
    log = demo.interactions.sort(Columns.USER, Columns.TIMESTAMP)
    users = log[Columns.USER].unique(maintain_order=True).to_list()
    log = log.filter(~pl.col(Columns.USER).is_in(users[:NOBODY]))
    changed = users[NOBODY : NOBODY + OTHER_TARGET]
    is_last = pl.int_range(pl.len()).over(Columns.USER) == pl.len().over(Columns.USER) - 1
    ids = demo.items[Columns.ITEM].to_list()
    new = pl.col(Columns.ITEM).replace_strict(dict(zip(ids, ids[1:] + ids[:1], strict=True)))
    log = log.with_columns(
        pl.when(is_last & pl.col(Columns.USER).is_in(changed))
        .then(new)
        .otherwise(pl.col(Columns.ITEM))
        .alias(Columns.ITEM)
    )
    run = Run(tmp_path_factory.mktemp("runs") / "other", "cpu")
    run.tables = tables_from(demo.items.reverse(), log.reverse(), DatasetConfig())
    run.make(load_config([], [each for each in tiny_settings if "DatasetConfig" not in each]))
    return run


def hits(run: Run, rule: str) -> dict[tuple[str, str], int]:
    """By user and target, the rank of the target."""
    split, log = run.dataset.split, run.dataset.interactions
    ranks = pl.read_parquet(run.path / "evaluation" / RANKS)
    of_user = dict(zip(ranks["user_index"], ranks[f"hidvae/{rule}"], strict=True))
    ids = run.dataset.catalogue.item_ids
    return {
        (log.user_ids[user], ids[target]): of_user[user]
        for user, target in zip(split.test_users.tolist(), split.test_targets.tolist(), strict=True)
    }


def test_users_are_matched_by_their_ids(tiny_run: Path, other: Run) -> None:
    first = Run(tiny_run, "cpu")
    found = compare_runs(first, other, 5)
    for rule, history in (("test_excluding_history", "excluded"), ("test", "included")):
        one, two = hits(first, rule), hits(other, rule)
        common = [key for key in one if key in two]
        assert len(common) == found.num_users == len(two) - OTHER_TARGET
        assert found.left_out == NOBODY + OTHER_TARGET
        for metric, value in (
            ("recall@5", lambda rank: float(1 <= rank <= 5)),
            ("ndcg@5", lambda rank: 1 / np.log2(1 + rank) if 1 <= rank <= 5 else 0.0),
        ):
            (row,) = [
                each for each in found.metrics if (each.metric, each.history) == (metric, history)
            ]
            means = [np.mean([value(ranks[key]) for key in common]) for ranks in (one, two)]
            assert (row.first, row.second) == pytest.approx(tuple(means))
            assert row.difference.mean == pytest.approx(means[0] - means[1])
            assert row.difference.low <= row.difference.mean <= row.difference.high


def test_a_run_is_as_good_as_itself(tiny_run: Path) -> None:
    found = compare_runs(Run(tiny_run, "cpu"), Run(tiny_run, "cpu"))
    assert found.left_out == 0 and len(found.metrics) == 4
    assert all(row.difference.low == row.difference.high == 0 for row in found.metrics)


def test_what_cannot_be_compared_is_one_line(
    tiny_run: Path, other: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Run(tiny_run, "cpu")
    for k in (0, 11):
        with pytest.raises(ConfigError, match=f"expected 1 to 10.*found {k}"):
            compare_runs(first, other, k)
    with pytest.raises(NotTrainedError, match="hidvae evaluate"):
        compare_runs(first, Run(tmp_path, "cpu", borrowed=first.folders(["dataset"])))
    log = other.dataset.interactions
    monkeypatch.setitem(vars(log), "user_ids", [f"{user}-x" for user in log.user_ids])
    with pytest.raises(DataError, match="none; compare runs of one log"):
        compare_runs(first, other)


def printed(
    words: Sequence[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr("sys.argv", ["hidvae", "compare", *map(str, words)])
    assert main() == 0
    return capsys.readouterr().out


def test_the_command_prints_text_and_json(
    tiny_run: Path, other: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed([tiny_run, other.path], monkeypatch, capsys)
    found = compare_runs(Run(tiny_run, "cpu"), other)
    for row in found.metrics:
        assert f"{row.first:.4f}" in text and f"{row.difference.low:+.4f}" in text
    assert f"{found.num_users} test users in common, {found.left_out} left out" in text
    shown = json.loads(printed([tiny_run, other.path, "--json"], monkeypatch, capsys))
    assert shown == found.to_json()
    assert shown["metrics"][0]["ci"] == [
        found.metrics[0].difference.low,
        found.metrics[0].difference.high,
    ]
