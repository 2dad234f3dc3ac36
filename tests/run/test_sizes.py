"""Any size runs at the first try: ``hidvae run`` on data of odd sizes, and all that comes after."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

from hidvae.apps.cli import app, run_app
from hidvae.apps.serve.app import create_app
from hidvae.apps.serve.live_run import LiveRun
from hidvae.run.run import Run
from hidvae.run.stages import STAGES
from hidvae.store.artifacts import read_json

WORDS = "red blue green wool cotton lamp chair table shirt shoe mug pan book pen rope knife".split()
ENCODER = "EmbeddingConfig.text_encoder=hashing"  # a model takes seconds to load

Events = list[tuple[str, str, int]]
Items = list[dict[str, str]]


def items(count: int, **columns: Callable[[int], str]) -> Items:
    drawn = random.Random(0)
    columns = {"title": lambda row: " ".join(drawn.sample(WORDS, 3)) + f" {row}", **columns}
    return [
        {"item_id": f"i{row}", **{name: of(row) for name, of in columns.items()}}
        for row in range(count)
    ]


def events(lengths: Sequence[int], num_items: int, repeated: bool = False) -> Events:
    """A user of each length; items differ within a user unless ``repeated``."""
    drawn = random.Random(1)
    log: Events = []
    for user, length in enumerate(lengths):
        taken = [user % num_items] * length if repeated else drawn.sample(range(num_items), length)
        log += [(f"u{user}", f"i{row}", 10 * place + user) for place, row in enumerate(taken)]
    return log


def lengths(*choices: int, users: int = 40) -> list[int]:
    drawn = random.Random(2)
    return [drawn.choice(choices) for _ in range(users)]


CASES: dict[str, tuple[Items, Events, bool]] = {
    # name: items, events, whether anybody can be tested
    "two users, two items": (items(2), events([2, 2], 2), False),
    "two users, an event each": (items(2), [("a", "i0", 1), ("b", "i1", 1)], False),
    "three items": (items(3), events([3] * 6, 3), True),
    "50 users, 12 items": (items(12), events(lengths(*range(1, 10), users=50), 12), True),
    "a shop of short users": (
        items(150),
        events(lengths(1, 1, 1, 2, 2, 3, 5, users=300), 150),
        True,
    ),
    "nobody has three events": (items(40), events(lengths(1, 2), 40), False),
    "everybody has one event": (items(20), events([1] * 40, 20), False),
    "everybody has three events": (items(30), events([3] * 50, 30), True),
    "one user is tested": (items(40), events([2] * 60 + [5], 40), True),
    "the same text": (items(30, title=lambda _: "thing"), events(lengths(2, 4, 6), 30), True),
    "no text": (items(30, title=lambda _: ""), events(lengths(2, 4, 6), 30), True),
    "no text, no transitions": (items(12, title=lambda _: ""), events([1] * 30, 12), False),
    "one category": (
        items(30, categories=lambda _: "All > Things"),
        events(lengths(2, 4, 6), 30),
        True,
    ),
    "every item its own category": (
        items(30, categories=lambda row: f"A{row} > B{row}"),
        events(lengths(2, 4, 6), 30),
        True,
    ),
    "flat categories": (
        items(30, categories=lambda row: f"Things > {'AB'[row % 2]}"),
        events(lengths(2, 4, 6), 30),
        True,
    ),
    "one user with nearly all events": (items(30), [*events([25], 30), ("v", "i3", 5)], True),
    "a catalogue far larger than the log": (
        items(1200),
        events(lengths(1, 2, 4, users=20), 1200),
        True,
    ),
    "repeated items only": (items(5), events([5] * 20, 5, repeated=True), True),
}


def write(case: str, folder: Path) -> Path:
    of_items, log, _ = CASES[case]
    folder.mkdir()
    pl.DataFrame(of_items).write_csv(folder / "items.csv")
    schema = ["user_id", "item_id", "timestamp"]
    pl.DataFrame(log, schema=schema, orient="row").write_csv(folder / "interactions.csv")
    return folder


def hidvae(*words: str | Path) -> int:
    return run_app(app, "hidvae", [str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a case, made once."""
    runs: dict[str, Path] = {}

    def make(case: str) -> Path:
        if case not in runs:
            folder = tmp_path_factory.mktemp("sizes")
            run = folder / "run"
            data = write(case, folder / "data")
            assert hidvae("run", "--data", data, "--output", run, "--set", ENCODER) == 0
            runs[case] = run
        return runs[case]

    return make


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_run_without_settings_ends_in_recommendations_and_a_report(
    case: str, made: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = made(case)
    of_items, log, is_tested = CASES[case]
    run = Run(path)
    page = (path / "report.html").read_text(encoding="utf-8")
    assert "Traceback" not in page
    for manifest in path.glob("**/*.json"):
        json.loads(manifest.read_text(encoding="utf-8"), parse_constant=no_number)
    metrics = read_json(path / "evaluation" / "metrics.json")
    assert ("not_tested" in metrics) == (not is_tested)
    assert (metrics["test"]["recall@10"] is not None) == is_tested
    assert bool(metrics["comparisons"]) == is_tested
    history = [log[0][1]]
    found = run.recommend(history, k=50)
    wanted = {row["item_id"] for row in of_items} - {*history}
    assert len(found) == min(50, len(wanted))
    assert {item.item_id for item in found} <= wanted
    said = [decision.text for decision in run.decisions]
    assert any("settings of size" in text for text in said)
    assert any("nobody could be tested" in text for text in said) == (not is_tested)
    assert list(run.check())


def no_number(text: str) -> Any:
    raise AssertionError(f"{text} in JSON")


UNTESTED = [case for case, (_, _, is_tested) in CASES.items() if not is_tested]


@pytest.mark.parametrize("case", [*UNTESTED, "three items", "one user is tested"])
def test_everything_after_a_run_copes(
    case: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    run = made(case)
    assert hidvae("report", run, "--output", tmp_path / "page.html") == 0
    assert hidvae("inspect", run, "--html", tmp_path / "inspect.html") == 0
    assert hidvae("export", run, "--output", tmp_path / "export", "--with-run") == 0
    assert Run(tmp_path / "export").recommend(["i0"], k=3)
    assert hidvae("evaluate", "--output", run) == 0  # up to date, printed again
    users = tmp_path / "users"
    users.mkdir()
    pl.DataFrame({"user_id": ["a"], "history": [["i0", "i1"]]}).write_parquet(users / "1.parquet")
    assert (
        hidvae("batch", "recommend", "--model", run, "--input", users, "--output", tmp_path / "b")
        == 0
    )
    assert hidvae("explain", "--model", run, "--history", "i0", "--item", "i1") == 0
    with TestClient(create_app(LiveRun(run, "cpu")), base_url="http://127.0.0.1") as client:
        answer = client.post("/recommend", json={"users": [{"history": ["i0"]}], "k": 5})
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("case", ["two users, two items", "no text, no transitions", "three items"])
def test_items_are_added_to_a_tiny_run(
    case: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    new = tmp_path / "new.csv"
    new.write_text("item_id,title\nnew,green lamp\n", encoding="utf-8")
    recommender = Run(made(case)).recommender.add_items(pl.read_csv(new))
    assert recommender.recommend(["new"], k=5)
    assert "new" in {item.item_id for item in recommender.recommend(["i0"], k=50)}


@pytest.mark.parametrize("architecture", ["item_decoder", "encoder_decoder"])
@pytest.mark.parametrize("case", ["three items", "two users, an event each"])
def test_beams_may_be_wider_than_the_catalogue(
    architecture: str, case: str, tmp_path: Path
) -> None:
    data, run = write(case, tmp_path / "data"), tmp_path / "run"
    settings = [
        ENCODER,
        f"RetrieverConfig.architecture={architecture}",
        "EvaluationConfig.baselines=all",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    assert hidvae("run", "--data", data, "--output", run, *words) == 0
    assert len(Run(run).recommend(["i0"], k=10)) == len(CASES[case][0]) - 1


@pytest.mark.parametrize(
    ("num_items", "log", "found"),
    [
        (1, [("a", "i0", 1), ("b", "i0", 2)], "2 users and 1 item"),
        (5, [("a", f"i{row}", row) for row in range(5)], "1 user"),
        (5, [], "at least one row"),
    ],
)
def test_less_than_two_users_or_items_is_one_line(
    num_items: int,
    log: Events,
    found: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pl.DataFrame(items(num_items)).write_csv(tmp_path / "items.csv")
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    pl.DataFrame(log, schema, orient="row").write_csv(tmp_path / "interactions.csv")
    assert hidvae("run", "--data", tmp_path, "--output", tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert found in line
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_the_size_that_it_took(
    made: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    run = made("50 users, 12 items")
    with caplog.at_level("INFO"):
        assert hidvae("run", "--output", run) == 0
        assert hidvae("train", "--output", run) == 0
    assert caplog.text.count("is up to date") == len(STAGES) + 3
    stored = read_json(run / "config.json")
    assert (stored["run"]["size"], stored["retriever"]["dim"]) == ("auto", 192)
    assert stored["bound"] == ["DatasetConfig.folder", "EmbeddingConfig.text_encoder"]
    assert Run(run).folder("retriever").config["dim"] == 64


def test_warm_up_longer_than_the_training_and_batches_larger_than_the_data(tmp_path: Path) -> None:
    data, run = write("three items", tmp_path / "data"), tmp_path / "run"
    settings = [
        ENCODER,
        "RetrieverConfig.warmup_steps=10000",
        "RetrieverConfig.epochs=1",
        "TokenizerConfig.batch_size=4096",
        "TokenizerConfig.held_out_fraction=0.3",
        "EvaluationConfig.cutoffs=(1, 10, 50)",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    assert hidvae("run", "--data", data, "--output", run, *words) == 0


def test_the_default_encoder_copes_with_two_items(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    data, run = write("two users, two items", tmp_path / "data"), tmp_path / "run"
    assert hidvae("run", "--data", data, "--output", run) == 0
