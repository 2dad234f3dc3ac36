"""Run the experiments behind docs/results.md, and write that page from what they measured.

    python scripts/make_results.py run --data FOLDER --rows final      # default config, three seeds
    python scripts/make_results.py run --data FOLDER --rows final --seeds 1 --config FILE.gin
    python scripts/make_results.py run --data FOLDER --rows ablation   # one seed, shorter schedule
    python scripts/make_results.py page                                # results/*.json -> the page

Each experiment is an ordinary run under runs/results/; one that is there and whole is not repeated.
Dataset, embeddings and tags do not depend on the seed and are made once per dataset.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import statistics
from pathlib import Path
from typing import Any

from hidvae.artifacts import read_json, write_json
from hidvae.config import load_config
from hidvae.pipeline import run_pipeline

RUNS = Path("runs/results")
RESULTS = Path("results")
PAGE = Path("docs/results.md")
SHARED_STAGES = ("dataset", "embeddings", "tags")

BASELINES = 'EvaluationConfig.baselines=("popularity", "content_graph")'
SHORT = ["TokenizerConfig.epochs=20", "RetrieverConfig.epochs=6"]
PLAIN = [
    "TokenizerConfig.tag_alignment_weight=0",
    "TokenizerConfig.tag_prediction_weight=0",
    "TokenizerConfig.uniqueness_weight=0",
]
ABLATION: dict[str, list[str]] = {
    "full": [],
    "plain RQ-VAE IDs": PLAIN,
    "without tag alignment": PLAIN[:1],
    "without tag prediction": PLAIN[1:2],
    "without uniqueness loss": PLAIN[2:],
    "encoder_decoder": [
        "RetrieverConfig.architecture=encoder_decoder",
        "RetrieverConfig.max_history=20",
        "RetrieverConfig.batch_tokens=2048",  # a row per target, not per history: as many steps
        "RetrieverConfig.learning_rate=1e-3",
    ],
}
METRICS = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")
PROTOCOLS = {"test": "history included", "test_excluding_history": "history excluded"}


def main() -> None:
    """Parse the command line and run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run experiments and keep what they measured")
    run.add_argument("--data", type=Path, required=True, help="folder with items and interactions")
    run.add_argument("--rows", choices=("final", "ablation"), required=True)
    run.add_argument("--seeds", type=int, default=3, help="seeds of the final rows, from 0 on")
    run.add_argument(
        "--config", type=Path, action="append", default=[], help="gin file; repeatable"
    )
    commands.add_parser("page", help="write docs/results.md from results/*.json")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run_rows(arguments.data, arguments.rows, arguments.seeds, arguments.config)
    write_page()


def run_rows(data: Path, rows: str, num_seeds: int, files: list[Path]) -> None:
    """Run the final rows (one per seed) or the ablation rows, and store them."""
    if rows == "final":
        experiments = {f"seed {s}": [f"RunConfig.seed={s}", BASELINES] for s in range(num_seeds)}
    else:
        experiments = {name: [*SHORT, *overrides] for name, overrides in ABLATION.items()}
    measured = {}
    for name, overrides in experiments.items():
        output = RUNS / data.name / rows / name.replace(" ", "-")
        measured[name] = run_experiment(data, output, files, overrides)
        file = RESULTS / f"{data.name}-{rows}.json"
        file.parent.mkdir(exist_ok=True)
        write_json(file, measured)


def run_experiment(
    data: Path, output: Path, files: list[Path], overrides: list[str]
) -> dict[str, Any]:
    """One run; its metrics with config, seed, commit, machine and wall time."""
    shared = RUNS / data.name / "shared"
    bindings = [f"DatasetConfig.folder={data}", "EmbeddingConfig.use_cache=False"]
    config = load_config(files, [*bindings, *overrides])
    run_pipeline(config, shared, until="tag")
    for stage in SHARED_STAGES:
        if not (output / stage).exists():
            shutil.copytree(shared / stage, output / stage)
    folders = run_pipeline(config, output)
    settings = config.to_json()
    settings["dataset"]["folder"] = data.name  # where it lies is nobody's business
    manifest = folders["retriever"].manifest
    return {
        "config_files": [str(file) for file in files],
        "overrides": overrides,
        "config": settings,
        "commit": manifest["git_commit"],
        "machine": manifest["machine"],
        "num_parameters": folders["retriever"].facts["num_parameters"],
        "num_epochs": folders["retriever"].facts["num_epochs"],
        "metrics": read_json(output / "evaluation" / "metrics.json"),
    }


def write_page() -> None:
    """Write docs/results.md."""
    lines = [
        "# Results",
        "",
        "Made by `make results DATA=FOLDER` (`scripts/make_results.py`); the numbers with their",
        "config, seed, commit and machine are in `results/*.json`. Ranked by item over the full",
        "catalogue; the epoch is selected on validation and the test targets are ranked once per",
        "run.",
    ]
    for file in sorted(RESULTS.glob("*-final.json")):
        dataset = file.name.removesuffix("-final.json")
        lines += ["", f"## {dataset}", "", *_final_table(read_json(file))]
        ablation = RESULTS / f"{dataset}-ablation.json"
        if ablation.is_file():
            lines += ["", *_ablation_table(read_json(ablation))]
    for file in sorted(RESULTS.glob("tags-*.json")):
        lines += ["", *_tags_section(read_json(file))]
    scale = RESULTS / "bench-prepare.json"
    if scale.is_file():
        lines += ["", *_scale_section(read_json(scale))]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _final_table(measured: dict[str, Any]) -> list[str]:
    runs = list(measured.values())
    first = runs[0]
    wall = [sum(run["metrics"]["wall_seconds"].values()) / 60 for run in runs]
    lines = [
        f"{_described(first.get('config_files', []), len(runs))}; "
        f"{first['metrics']['test']['num_users']} users. Machine: {first['machine']}. "
        f"Wall time of a whole run, raw files to metrics: {_range(wall, 0)} minutes. "
        f"Commit {first['commit']}.",
        "",
        "| test | " + " | ".join(METRICS) + " | invalid rate |",
        "| --- |" + " ---: |" * (len(METRICS) + 1),
    ]
    for key, protocol in PROTOCOLS.items():
        cells = [_mean_spread([run["metrics"][key][name] for run in runs]) for name in METRICS]
        invalid = max(run["metrics"][key]["invalid_rate"] for run in runs)
        lines.append(f"| hidvae, {protocol} | " + " | ".join(cells) + f" | {invalid:g} |")
        for baseline, scored in first["metrics"]["baselines"].items():
            cells = [f"{scored[key][name]:.4f}" for name in METRICS]
            lines.append(
                f"| {baseline}, {protocol} | "
                + " | ".join(cells)
                + f" | {scored[key]['invalid_rate']:g} |"
            )
    return [*lines, "", *_id_table(runs)]


def _described(files: list[str], num_seeds: int) -> str:
    config = " and ".join(f"`{file}`" for file in files) or "Default configuration"
    if num_seeds == 1:
        return f"{config}, one seed"
    return f"{config}, {num_seeds} seeds, mean ± standard deviation over the seeds"


def _id_table(runs: list[dict[str, Any]]) -> list[str]:
    quality = [run["metrics"]["semantic_ids"] for run in runs]
    num_levels = len(quality[0]["codebook_usage"])

    def per_level(name: str, digits: int) -> str:
        columns = [[q[name][level] for q in quality] for level in range(num_levels)]
        return " / ".join(f"{statistics.mean(column):.{digits}f}" for column in columns)

    before = [100 * q["collision_rate_before"] for q in quality]
    after = max(q["collision_rate_after"] for q in quality)
    held_out = " / ".join(str(count) for count in quality[0]["tag_items"])
    return [
        "Semantic IDs, mean over the seeds, levels coarse to fine:",
        "",
        "| figure | value |",
        "| --- | --- |",
        f"| collision rate before assignment | {statistics.mean(before):.2f} % "
        f"({_range(before, 2)}) |",
        f"| collision rate after assignment | {100 * after:g} % |",
        f"| codebook usage | {per_level('codebook_usage', 3)} |",
        f"| perplexity (of {quality[0]['level_sizes'][0]}) | {per_level('perplexity', 1)} |",
        *(
            [
                f"| tag accuracy, items held out from the tokenizer ({held_out}) "
                f"| {per_level('tag_accuracy', 3)} |",
                f"| majority class, the same items | {per_level('tag_majority_rate', 3)} |",
            ]
            if any(quality[0]["tag_items"])
            else []
        ),
    ]


def _ablation_table(measured: dict[str, Any]) -> list[str]:
    lines = [
        "Ablation: one seed and a shorter schedule, the same for all rows ("
        + ", ".join(f"`{override}`" for override in SHORT)
        + "), except that encoder_decoder has its own steps ("
        + ", ".join(f"`{override}`" for override in ABLATION["encoder_decoder"][1:])
        + "), tuned on nothing; history excluded unless the column says otherwise.",
        "",
        "| variant | recall@10 | ndcg@10 | recall@10, history included | collisions before "
        "| tag accuracy by level |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, run in measured.items():
        metrics = run["metrics"]
        quality = metrics["semantic_ids"]
        accuracy = " / ".join("–" if a is None else f"{a:.3f}" for a in quality["tag_accuracy"])
        excluding, including = metrics["test_excluding_history"], metrics["test"]
        lines.append(
            f"| {name} | {excluding['recall@10']:.4f} | {excluding['ndcg@10']:.4f} "
            f"| {including['recall@10']:.4f} | {100 * quality['collision_rate_before']:.2f} % "
            f"| {accuracy} |"
        )
    return lines


def _tags_section(measured: dict[str, Any]) -> list[str]:
    """What ``scripts/measure_tags.py`` found."""
    first = measured["runs"][0]
    classes = " / ".join(str(size) for size in measured["classes"])
    lines = [
        f"## Tags of {measured['dataset']}",
        "",
        f"All tags of {100 * measured['hidden_share']:g} % of the items hidden and filled in again "
        f"({first['num_hidden']} items, {classes} classes): accuracy by level, unknown counts as "
        f"wrong; mean of {len(measured['seeds'])} seeds. Machine: {measured['machine']}. Commit "
        f"{measured['commit']}. Made by `scripts/measure_tags.py`; [the sources](tags.md).",
        "",
    ]
    levels = [f"level {level}" for level in range(len(measured["classes"]))]
    parts = {
        "on_hidden": "all hidden items",
        "on_asked": f"the {first.get('num_asked', 0)} items a seed that the language model saw",
    }
    for part, described in parts.items():
        if part in measured["mean"]:
            lines += [f"| {described} | " + " | ".join(levels) + " |"]
            lines += ["| --- |" + " ---: |" * len(levels)]
            for source, scores in measured["mean"][part].items():
                name = f"llm ({measured['config']['llm']['model']})" if source == "llm" else source
                cells = " | ".join(f"{score['accuracy']:.3f}" for score in scores)
                lines.append(f"| {name} | {cells} |")
            lines.append("")
    if "clusters" in measured["mean"]:
        for figure, name in (("nmi", "normalised mutual information"), ("purity", "purity")):
            values = " / ".join(f"{level[figure]:.3f}" for level in measured["mean"]["clusters"])
            lines.append(f"Clusters beside the true tags, {name} by level: {values}.")
    return lines


def _scale_section(measured: dict[str, Any]) -> list[str]:
    """What ``benchmarks/bench_prepare.py`` found."""
    return [
        "## Scale",
        "",
        f"`hidvae prepare` on a generated log of {measured['events']:,} events, "
        f"{measured['users']:,} users and {measured['items']:,} items ({measured['format']}): "
        f"{measured['seconds']:.0f} s, peak memory {measured['peak_gib']:.1f} GiB. Machine: "
        f"{measured['machine']}. Commit {measured['git_commit']}. Made by "
        "`benchmarks/bench_prepare.py`.",
    ]


def _range(values: list[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low}–{high}"


def _mean_spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


if __name__ == "__main__":
    main()
