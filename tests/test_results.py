"""The experiments behind docs/results.md, and the page made of what they measured."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scripts.experiments import calibration, diversity, new_items, page, ranking, tags
from scripts.experiments.__main__ import result_name
from scripts.experiments.runner import DEFAULT, Request

from hidvae.config import load_config
from hidvae.data.prepare import Dataset
from hidvae.evaluation.baselines.by_name import BASELINES
from hidvae.evaluation.evaluate_run import MODEL_ALONE
from hidvae.evaluation.metrics import recall_at
from hidvae.store.artifacts import read_json, write_json

ROOT = Path(__file__).parent.parent
KEYS = {"test", "test_excluding_history"}


@pytest.fixture(scope="module")
def measured(
    demo_dataset: Dataset,
    tiny_settings: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Final and ablation rows of two seeds and a cold row, on the demo as a folder of tables.

    Returns:
        Where runs/, results/ and the page are.
    """
    root = tmp_path_factory.mktemp("results")
    data = root / "demo"
    new_items.write_tables_without(demo_dataset, [], data)
    of_data = ("DatasetConfig", "TokenizerConfig.epochs", "RetrieverConfig.epochs")
    settings = [name for name in tiny_settings if not name.startswith(of_data)]
    short = ["TokenizerConfig.epochs=2", "RetrieverConfig.epochs=1"]
    off = "TokenizerConfig.uniqueness_weight=0"
    rows = {
        "full": [],
        "without input": ["RetrieverConfig.content_input=False"],
        "without fusion": ["GraphConfig.weights=(0.0,)"],
    }
    brief = Request(data, 2, overrides=settings)
    whole = Request(
        data,
        2,
        overrides=[*settings, *short, "RetrieverConfig.validate_every=1"],
        num_jobs=2,
        baselines=("popularity", "content_graph"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(ranking, "SHORT", short)
        patch.setattr(ranking, "ABLATION", rows)
        patch.setattr(ranking, "COLD", {"default": [off, "DatasetConfig.cold_item_share=0.1"]})
        found = {
            "final": ranking.final(whole),
            "ablation": ranking.ablation(brief),
            "cold": ranking.cold(replace(whole, num_seeds=1, num_jobs=1)),
        }
    (root / "results").mkdir()
    for kind, of_kind in found.items():
        write_json(root / "results" / result_name(kind, "demo"), of_kind)
    page.write_page(root / "results", root / "results.md")
    return root


def finals(root: Path) -> list[Path]:
    """The runs of the final rows, by seed."""
    runs = root / "runs" / "results" / "demo" / "final"
    return [runs / f"default-seed-{seed}" for seed in (0, 1)]


def rows_of(page: str) -> dict[str, str]:
    """The first table of accuracy of a page: ranker -> its line."""
    table = page.partition("Test, history excluded:\n\n")[2].partition("\n\n")[0]
    return {row.split(" | ")[0].removeprefix("| "): row for row in table.splitlines()[2:]}


def ranks(root: Path, run: str, column: str) -> np.ndarray:
    path = root / "runs" / "results" / "demo" / run / "evaluation" / "ranks.parquet"
    return pl.read_parquet(path)[column].to_numpy()


def test_differences_are_pooled_over_the_seeds(measured: Path) -> None:
    found = read_json(measured / "results" / "demo-final.json")["comparisons"]
    assert set(found["hidvae"]) >= {"popularity", "content_graph"}
    for key in KEYS:
        ours = [recall_at(ranks(measured, f"final/default-seed-{seed}", f"hidvae/{key}"), 10)
                for seed in (0, 1)]  # fmt: skip
        theirs = recall_at(ranks(measured, "final/default-seed-0", f"popularity/{key}"), 10)
        difference = found["hidvae"]["popularity"][key]["recall@10"]
        assert difference["difference"] == pytest.approx((np.mean(ours, axis=0) - theirs).mean())
        assert difference["ci"][0] < difference["ci"][1]


def test_baselines_are_scored_once_and_the_seeds_differ(measured: Path) -> None:
    first, second = read_json(measured / "results" / "demo-final.json")["rows"]["default"]["runs"]
    assert set(first["metrics"]["baselines"]) == {"popularity", "content_graph"}
    assert second["metrics"]["baselines"] == {}
    assert (first["seed"], second["seed"]) == (0, 1)
    assert first["metrics"]["test"] != second["metrics"]["test"]


def test_an_ablation_row_is_compared_with_the_full_model_and_makes_no_stage_twice(
    measured: Path,
) -> None:
    ablation = read_json(measured / "results" / "demo-ablation.json")
    assert set(ablation["comparisons"]) == {"full", "without input", "without fusion"}
    for key in KEYS:
        nothing = ablation["comparisons"]["full"]["hidvae"][key]["ndcg@10"]
        assert (nothing["difference"], nothing["ci"]) == (0, [0, 0])
        means = [
            np.mean([run["metrics"][key]["ndcg@10"] for run in ablation["rows"][row]["runs"]])
            for row in ("without input", "full")
        ]
        found = ablation["comparisons"]["without input"]["hidvae"][key]["ndcg@10"]
        assert found["difference"] == pytest.approx(means[0] - means[1])
    runs = measured / "runs" / "results" / "demo" / "ablation"
    for seed in (0, 1):
        for stage, is_shared in (("tokenizer", True), ("semantic_ids", True), ("retriever", False)):
            written = {
                (runs / f"{row}-seed-{seed}" / stage / "manifest.json").stat().st_mtime_ns
                for row in ("full", "without-input")
            }
            assert (len(written) == 1) == is_shared, stage
        retrievers = {
            (runs / f"{row}-seed-{seed}" / "retriever" / "manifest.json").read_text("utf-8")
            for row in ("full", "without-fusion")
        }
        assert len(retrievers) == 1  # what changes decoding alone trains nothing


def test_cold_items_are_ranked_among_themselves_too(measured: Path) -> None:
    cold = read_json(measured / "results" / "demo-cold.json")
    metrics = cold["rows"]["default"]["runs"][0]["metrics"]
    assert metrics["cold"]["num_users"] == metrics["test"]["num_users"] < 200
    runs = list((measured / "runs" / "results" / "demo").rglob("evaluation/ranks.parquet"))
    cold_ranks = [pl.read_parquet(file) for file in runs]
    (ranks,) = [found for found in cold_ranks if "hidvae/cold" in found.columns]
    ranked = ranks.filter(pl.col("hidvae/cold").is_not_null())
    for key in ("test", "cold"):
        is_found = ranked[f"hidvae/{key}"].is_between(1, 5)
        assert metrics[key]["recall@5"] == pytest.approx(is_found.mean())
    # Fewer items to rank among: nobody falls behind, and somebody gets ahead.
    both = ranked.filter(pl.col("hidvae/test") > 0)
    assert (both["hidvae/cold"] <= both["hidvae/test"]).all()
    assert metrics["cold"]["recall@5"] > metrics["test"]["recall@5"]
    assert set(cold["comparisons"]["hidvae"]["popularity"]) >= {"cold", "test"}
    shown = (measured / "results.md").read_text(encoding="utf-8")
    assert f"| random order | {metrics['random_guess']['recall@5']:.4f} |" in shown


def test_the_page_shows_what_was_measured(measured: Path) -> None:
    shown = (measured / "results.md").read_text(encoding="utf-8")
    final = read_json(measured / "results" / "demo-final.json")
    first, second = final["rows"]["default"]["runs"]
    key = "test_excluding_history"
    values = [run["metrics"][key]["recall@5"] for run in (first, second)]
    cell = f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
    assert f"| hidvae | {cell} |" in shown
    seeds = {name: row.split("|")[-2].strip() for name, row in rows_of(shown).items()}
    assert (seeds["hidvae"], seeds["popularity"]) == ("2", "1")
    for run, path in zip((first, second), finals(measured), strict=True):
        graph, training = (
            read_json(path / "graph" / "graph.json"),
            read_json(path / "retriever" / "manifest.json"),
        )
        epoch = training["metrics"]["best_epoch"]
        assert (run["chosen"]["weight"], run["chosen"]["epoch"]) == (graph["weight"], epoch)
        assert f"epoch {epoch:g}, weight {graph['weight']:g}, " in shown
    found = final["comparisons"]["hidvae"]["content_graph"][key]["recall@10"]
    low, high = found["ci"]
    assert f"| content_graph | {found['difference']:+.4f} [{low:+.4f}, {high:+.4f}] |" in shown
    for bucket in first["metrics"][key]["slices"]["target_popularity"]:
        row = rf"^\| {re.escape(bucket['bucket'])} \| {bucket['num_users']} \|"
        assert bool(re.search(row, shown, re.MULTILINE)) == bool(bucket["num_users"])
    titles = re.findall(r"^##+ (.+)$", shown, re.MULTILINE)
    assert titles == [
        *("Protocol", "demo"),
        *("What accuracy hides", "Semantic IDs", "Ablation", "Cold items"),
    ]
    assert "| without input | `RetrieverConfig.content_input=False` |" in shown
    assert str(measured) not in shown


def test_the_record_orders_the_data_sets_and_says_what_each_method_was_given(
    measured: Path, tmp_path: Path
) -> None:
    final = read_json(measured / "results" / "demo-final.json")
    for name in ("a-target", "never-tuned", "unknown"):
        write_json(tmp_path / f"{name}-final.json", final)
    peer = {"model": "sasrec", "test_excluding_history": dict.fromkeys(page.METRICS, 0.0123)}
    write_json(tmp_path / "peer-a-target.json", {"seed 0": peer, "seed 1": peer})
    look = '{ date = "2026-01-02", recipe = "first", found = ".01 / .02" }'
    (tmp_path / "record.toml").write_text(
        f"""
        order = ["never-tuned", "a-target"]
        [[tests]]
        dataset = "a-target"
        chosen = "the recipe"
        goal = ".1"
        looks = [{look}, {look}]
        [trials.a-target]
        hidvae = "over 9"
        [[published]]
        system = "Other"
        source = "there"
        read = "second-hand"
        history = "not said"
        beauty = ".03 / .04"
        sports = "–"
        """,
        encoding="utf-8",
    )
    page.write_page(tmp_path, tmp_path / "page.md")
    shown = (tmp_path / "page.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## (.+)$", shown, re.MULTILINE)
    assert titles == ["Protocol", "never-tuned", "a-target", "unknown", "Published figures"]
    assert "| a-target | 2 | the recipe | .1 |" in shown
    assert shown.count("| a-target | 2026-01-02 | first | .01 / .02 |") == 2
    assert "| Other | .03 / .04 | – | not said | there | second-hand |" in shown
    without, of_target, unknown = re.split(r"^## (?:never-tuned|a-target|unknown)$", shown,
                                           flags=re.MULTILINE)[1:]  # fmt: skip
    assert "| trials | seeds |" not in without + unknown
    assert "| trials | seeds |" in of_target
    rows = rows_of(of_target)
    assert rows["hidvae"].endswith("| over 9 | 2 |")
    assert rows["popularity"].endswith("| – | 1 |")  # nothing to set
    assert rows["content_graph"].endswith("| 0 | 1 |")
    peers = "| sasrec (RecTools) |" + " 0.0123 ± 0.0000 |" * 4 + " 0 | 2 |"
    assert rows["sasrec (RecTools)"] == peers
    assert of_target.count("RecTools") == 1  # its test was not ranked with the history included


def test_the_record_is_of_the_stored_results() -> None:
    """Every name in it is one of the results, and what it says of our test was found."""
    record = tomllib.loads((ROOT / "results" / "record.toml").read_text(encoding="utf-8"))
    stored = {
        file.name.removesuffix("-final.json"): read_json(file)
        for file in (ROOT / "results").glob("*-final.json")
    }
    assert set(record["order"]) == set(stored) == {test["dataset"] for test in record["tests"]}
    assert set(record["trials"]) == set(stored)
    assert record["order"][-1] == "amazon-beauty-2014"  # the recipe's own comes last
    known = {"hidvae", MODEL_ALONE, "sasrec (RecTools)", *BASELINES}
    assert {name for of_data in record["trials"].values() for name in of_data} <= known
    for test in record["tests"]:
        runs = stored[test["dataset"]]["rows"]["default"]["runs"]
        means = [
            np.mean([run["metrics"]["test_excluding_history"][metric] for run in runs])
            for metric in ("recall@10", "ndcg@10")
        ]
        ours = " / ".join(f"{mean:.4f}".removeprefix("0") for mean in means)
        assert ours in [look["found"] for look in test["looks"]]
    for figure in record["published"]:
        assert figure["source"] and figure["read"]
        assert figure["history"] in ("excluded", "included", "not said")


def test_every_table_of_the_page_is_whole(measured: Path) -> None:
    pages = (measured / "results.md", ROOT / "docs" / "results.md")
    for file in pages:
        blocks = re.findall(r"(?:^\|.*\n)+", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(blocks) >= 5
        for block in blocks:
            widths = {row.count("|") for row in block.splitlines()}
            assert len(widths) == 1 and len(block.splitlines()) >= 3, block


def test_the_page_in_docs_is_made_of_the_stored_results(tmp_path: Path) -> None:
    page.write_page(ROOT / "results", tmp_path / "results.md")
    made, shown = (tmp_path / "results.md"), ROOT / "docs" / "results.md"
    assert made.read_text(encoding="utf-8") == shown.read_text(encoding="utf-8")


def test_the_real_rows_are_settings_that_exist() -> None:
    settings = [[*ranking.SHORT, *of_row] for of_row in ranking.ABLATION.values()]
    settings += [list(of_row) for of_row in (*DEFAULT.values(), *ranking.COLD.values())]
    configs = [load_config([], of_row) for of_row in settings]
    assert len({str(config.to_json()) for config in configs}) == len(configs)  # each is another


def test_variety_is_bought_with_accuracy(tiny_run: Path) -> None:
    measured = diversity.measure_run(tiny_run)
    variety = [row["diversity@10"] for row in measured["rows"]]
    assert measured["num_users"] == 200
    assert variety == sorted(variety) and variety[-1] > variety[0]
    table = page.diversity_section({"dataset": "demo", "machine": "", "git_commit": "", **measured})
    assert sum(row.startswith("| ") for row in table) == len(measured["rows"]) + 2


def test_calibration_of_several_trainings_is_that_of_their_items_together(tiny_run: Path) -> None:
    judged = calibration.judge_run(tiny_run)
    one = calibration.summary(judged)
    quality = read_json(tiny_run / "semantic_ids" / "quality.json")
    assert one["tag_calibration_error"] == quality["tag_calibration_error"]
    together = calibration.summary([calibration.put_together((level, level)) for level in judged])
    assert together["items"] == [2 * count for count in one["items"]]
    assert together["tag_calibration_error"] == pytest.approx(one["tag_calibration_error"])
    found = {"dataset": "demo", "seeds": 2, "machine": "", "git_commit": "", "together": together}
    table = page.calibration_section({**found, "by_seed": [one, one]})
    assert sum(row.startswith("| ") for row in table) == len(judged) + 2


def test_experiments_on_a_small_run_measure_what_the_page_shows(
    measured: Path, tiny_settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags and new items, from the tables to a section of the page."""
    monkeypatch.chdir(measured)
    monkeypatch.setattr(new_items, "ONE_BY_ONE", 2)
    of_data = ("DatasetConfig", "EvaluationConfig")
    settings = [name for name in tiny_settings if not name.startswith(of_data)]
    sources = ("majority", "nearest", "neighbours", "clusters")
    request = Request(measured / "demo", 2, overrides=settings, sources=sources)
    found = tags.measure(request)
    sections = [page.tags_section(found)]
    assert found["seeds"] == [0, 1] and set(found["mean"]["on_hidden"]) == set(sources[:3])
    found = new_items.measure(request)
    sections.append(page.new_items_section(found))
    assert (found["num_new"], found["seed"]) == (12, 0)
    assert str(measured) not in str(found | {"overrides": ()})
    for section in sections:
        assert sum(row.startswith("| ") for row in section) > 3
