"""Write docs/results.md from results/*.json, and from results/record.toml."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hidvae.evaluation.evaluate_run import rankers_of
from hidvae.store.artifacts import read_json

METRICS = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")
COMPARED = ("recall@10", "ndcg@10")
BEYOND_ACCURACY = {
    "coverage@10": "coverage@10",
    "novelty@10": "novelty@10 (bits)",
    "popularity_bias@10": "popularity bias@10",
    "diversity@10": "diversity@10 (tags)",
    "invalid_rate": "invalid rate",
}
FINAL = "-final.json"
WITHOUT_SETTINGS = ("popularity",)
EXCLUDED = "test_excluding_history"
RULES = {EXCLUDED: "history excluded", "test": "history included"}
SLICES = {"target_popularity": "training events of the target", "history_length": "history length"}
RECORD = "record.toml"
"""What the numbers do not say by themselves, beside them in results/."""
INTRODUCTION = """\
# Results

Measured by this package, but for the [published figures](#published-figures). Made by `make
results DATA=FOLDER` (`scripts/experiments`); the numbers with their config, seed, commit and
machine are in `results/*.json`. What each figure means is in [evaluation](evaluation.md).

## Protocol

- **Split**: each user's last event is the test, the one before it validation. Items are ranked
  among the full catalogue.
- **History**: *excluded* leaves items that the user already had out of the lists, *included* does
  not. Compare figures of the same rule only. Where nobody repeats an item in training, what is
  added to our model's scores favours no item of the history, and the baselines have no such rule:
  much of a difference with the history included comes from it.
- **Choice**: epoch and weights of a run are chosen on validation; its test targets are ranked once.
- **Seeds**: our figures are mean ± standard deviation over the seeds, which share dataset,
  embeddings, tags and the baselines. Baselines are trained once, with seed 0.
- **Trials**: settings of a method that were tried on the data set's validation, the one in the
  table among them. 0: it has those of Amazon Beauty.
- **Inputs**: ours reads content and words beside the events, `sasrec`, `item_knn` and `ease` read
  events alone, `sasrec_content` is offered the same item embeddings as ours, `sasrec_reranked` the
  item graph, the likeness and the reranker
  ([the baselines](evaluation.md#baselines)). A baseline without a row was not measured there.
- **Differences** are paired: per user the mean over our seeds minus the baseline, with a 95 %
  bootstrap interval over the users."""
LOOKS = """\
### How often each test was looked at

A test that is looked at while the recipe changes is no longer fresh. Single choices were made on
validation, but work on the recipe went on until a goal for the test of Amazon Beauty was met. So
trust the data sets at the top most: the recipe came to them as it was."""
PUBLISHED = """\
## Published figures

What others report on Amazon's 5-core data of 2014, each user's last event, ranked among all items:
recall@10 / ndcg@10. Nothing here was run again by us, and encoders, texts and schedules differ.
Where the history rule is not said, our figures with the history *included* are the safer
comparison. We found no published figure for KuaiRand-Pure ranked among all items."""
Table = list[str]
Runs = Sequence[Mapping[str, Any]]
Differences = Mapping[str, Mapping[str, Mapping[str, Any]]]


def write_page(results: Path, page: Path) -> None:
    """Write the page from the files of a folder: JSON, and ``RECORD`` where it is there."""
    file = results / RECORD
    record = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    lines = [INTRODUCTION]
    if "tests" in record:
        lines += ["", *looks_section(record["tests"])]
    for dataset in in_order(results, record.get("order", ())):
        peers = results / f"peer-{dataset}.json"
        lines += ["", f"## {dataset}", ""]
        lines += final_section(
            read_json(results / f"{dataset}{FINAL}"),
            trials=record.get("trials", {}).get(dataset),
            peers=read_json(peers) if peers.is_file() else {},
        )
        for kind, section in (("ablation", ablation_section), ("cold", cold_section)):
            other = results / f"{dataset}-{kind}.json"
            if other.is_file():
                lines += ["", *section(read_json(other))]
    if "published" in record:
        lines += ["", *published_section(record["published"])]
    for file in sorted(results.glob("tags-*.json")):
        lines += ["", *tags_section(read_json(file))]
    for file in sorted(results.glob("diversity-*.json")):
        lines += ["", *diversity_section(read_json(file))]
    for file in sorted(results.glob("new-items-*.json")):
        lines += ["", *new_items_section(read_json(file))]
    for file in sorted(results.glob("calibration-*.json")):
        lines += ["", *calibration_section(read_json(file))]
    benchmarks = results / "benchmarks.json"
    if benchmarks.is_file():
        lines += ["", *speed_section(read_json(benchmarks))]
    scale = results / "bench-prepare.json"
    if scale.is_file():
        lines += ["", *scale_section(read_json(scale))]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def in_order(results: Path, order: Sequence[str]) -> list[str]:
    """The data sets with final metrics: those of the record in its order, then the others."""
    found = sorted(file.name.removesuffix(FINAL) for file in results.glob(f"*{FINAL}"))
    place = {name: number for number, name in enumerate(order)}
    return sorted(found, key=lambda name: place.get(name, len(place)))


def looks_section(tests: Sequence[Mapping[str, Any]]) -> Table:
    """How often a test was looked at, by data set, and what was found."""
    lines = [
        LOOKS,
        "",
        "| data set | recipes that ranked its test | chosen with it | goal for its test |",
        "| --- | ---: | --- | --- |",
    ]
    for test in tests:
        cells = [str(len(test["looks"])), test["chosen"], test["goal"]]
        lines.append(line(test["dataset"], cells))
    lines += [
        "",
        "| data set | date | recipe | recall@10 / ndcg@10 |",
        "| --- | --- | --- | ---: |",
    ]
    for test in tests:
        for look in test["looks"]:
            lines.append(line(test["dataset"], [look["date"], look["recipe"], look["found"]]))
    return lines


def published_section(figures: Sequence[Mapping[str, str]]) -> Table:
    """What others report, with protocol and source."""
    lines = [
        PUBLISHED,
        "",
        "| system | Beauty | Sports | history | source | read |",
        "| --- | ---: | ---: | --- | --- | --- |",
    ]
    columns = ("beauty", "sports", "history", "source", "read")
    return lines + [line(row["system"], (row[name] for name in columns)) for row in figures]


def final_section(
    measured: Mapping[str, Any],
    trials: Mapping[str, str] | None = None,
    peers: Mapping[str, Any] | None = None,
) -> Table:
    """One dataset: accuracy, paired differences, what accuracy hides, slices, semantic IDs.

    Args:
        measured: ``ranking.final``.
        trials: Ranker -> settings that were tried for it; none for those that are not named.
        peers: What ``benchmarks/rectools_peer.py`` stored of the same data set.
    """
    (row,) = measured["rows"].values()
    runs = row["runs"]
    lines = [described(measured, runs)]
    for key, rule in RULES.items():
        lines += ["", f"Test, {rule}:", "", *accuracy_table(runs, key, trials, peers or {})]
    if chosen := chosen_weights(runs):
        lines += ["", chosen]
    lines += ["", *difference_tables(measured["comparisons"], list(RULES))]
    lines += ["### What accuracy hides", "", "Lists of test, history excluded:", ""]
    lines += metric_table(runs, EXCLUDED, BEYOND_ACCURACY)
    if "slices" in runs[0]["metrics"][EXCLUDED]:
        for name, of in SLICES.items():
            lines += ["", f"By {of}, history excluded, recall@10 / ndcg@10:", ""]
            lines += slice_table(runs, EXCLUDED, name)
    return [*lines, "", "### Semantic IDs", "", *id_table(runs)]


def accuracy_table(
    runs: Runs, key: str, trials: Mapping[str, str] | None, peers: Mapping[str, Any]
) -> Table:
    """Rankers x accuracy under one key, with what each was given: trials and seeds."""
    scored = {name: of_ranker(runs, name) for name in rankers_of(runs[0]["metrics"])}
    for peer in peers.values():
        if key in peer:
            scored.setdefault(f"{peer['model']} (RecTools)", []).append(peer)
    with_trials = trials is not None
    lines = header(["", *METRICS, *(["trials"] if with_trials else []), "seeds"])
    for name, of_name in scored.items():
        cells = [mean_spread([s[key][metric] for s in of_name]) for metric in METRICS]
        if trials is not None:
            cells.append(trials.get(name, "–" if name in WITHOUT_SETTINGS else "0"))
        lines.append(line(name, [*cells, str(len(of_name))]))
    return lines


def chosen_weights(runs: Runs) -> str:
    """What validation chose for each seed, where the runs say it."""
    chosen = [run["chosen"] for run in runs if "chosen" in run]
    if not chosen:
        return ""
    said = "; ".join(
        ", ".join(f"{name} {value:g}" for name, value in weights.items()) for weights in chosen
    )
    return f"Chosen on validation, seed by seed: {said}."


def described(measured: Mapping[str, Any], runs: Runs) -> str:
    """Config, seeds, users, machine, wall time and commit."""
    config = " and ".join(f"`{file}`" for file in measured["config_files"])
    settings = "".join(f", `{override}`" for override in measured["overrides"])
    seeds = "one seed" if len(runs) == 1 else f"{len(runs)} seeds"
    minutes = [
        sum(seconds for name, seconds in wall.items() if name != "baselines") / 60
        for wall in (run["metrics"]["wall_seconds"] for run in runs)
    ]
    return (
        f"{config or 'Default configuration'}{settings}, {seeds}; "
        f"{runs[0]['metrics']['test']['num_users']} users. Wall time of a run of ours, raw files "
        f"to metrics: {spread(minutes, 0)} minutes. {made_on(runs)}"
    )


def made_on(runs: Runs) -> str:
    """Machines and commits of the runs, each once."""
    machines = "; ".join(dict.fromkeys(run["machine"] for run in runs))
    commits = " and ".join(dict.fromkeys(str(run["commit"]) for run in runs))
    return f"Machine: {machines}. Commit {commits}."


def metric_table(runs: Runs, key: str, names: Iterable[str]) -> Table:
    """Rankers x metrics under one key; ours over the seeds, a baseline as of the first."""
    titles = names if isinstance(names, Mapping) else {name: name for name in names}
    lines = header(["", *titles.values()])
    for ranker in rankers_of(runs[0]["metrics"]):
        scored = of_ranker(runs, ranker)
        lines.append(line(ranker, (mean_spread([s[key][m] for s in scored]) for m in titles)))
    return lines


def difference_tables(comparisons: Mapping[str, Differences], keys: Sequence[str]) -> Table:
    """A table per mode of ours: it minus each other ranker; an empty line after each."""
    titles = [f"{metric}, {RULES.get(key, key)}" for key in keys for metric in COMPARED]
    lines: Table = []
    for name, others in comparisons.items():
        lines += header([f"{name} minus", *titles])
        for other, differences in others.items():
            cells = (interval(differences[key][m]) for key in keys for m in COMPARED)
            lines.append(line(other, cells))
        lines.append("")
    return lines


def slice_table(runs: Runs, key: str, name: str) -> Table:
    """Buckets with users x rankers; a bucket of no users is left out."""
    rankers = list(rankers_of(runs[0]["metrics"]))
    scored = {ranker: of_ranker(runs, ranker) for ranker in rankers}
    lines = header(["bucket", "users", *rankers])
    for place, bucket in enumerate(runs[0]["metrics"][key]["slices"][name]):
        if not bucket["num_users"]:
            continue
        cells = [str(bucket["num_users"])]
        for ranker in rankers:
            buckets = [s[key]["slices"][name][place] for s in scored[ranker]]
            means = (statistics.mean(b[metric] for b in buckets) for metric in COMPARED)
            cells.append(" / ".join(f"{mean:.4f}" for mean in means))
        lines.append(line(bucket["bucket"], cells))
    return lines


def id_table(runs: Runs) -> Table:
    """Collisions, usage, tag accuracy."""
    quality = [run["metrics"]["semantic_ids"] for run in runs]
    first = quality[0]

    def per_level(name: str, digits: int) -> str:
        columns = zip(*(q[name] for q in quality), strict=True)
        return " / ".join(f"{statistics.mean(column):.{digits}f}" for column in columns)

    before = [100 * q["collision_rate_before"] for q in quality]
    after = 100 * max(q["collision_rate_after"] for q in quality)
    rows = {
        "collision rate before assignment": f"{statistics.mean(before):.2f} % "
        f"({spread(before, 2)})",
        "collision rate after assignment": f"{after:g} %",
        "codebook usage": per_level("codebook_usage", 3),
        f"perplexity (of {first['level_sizes'][0]})": per_level("perplexity", 1),
    }
    if any(first["tag_items"]):
        held_out = " / ".join(str(count) for count in first["tag_items"])
        accuracy = f"tag accuracy, items held out from the tokenizer ({held_out})"
        rows[accuracy] = per_level("tag_accuracy", 3)
        rows["majority class, the same items"] = per_level("tag_majority_rate", 3)
    return [
        "Mean over the seeds, levels coarse to fine:",
        "",
        "| figure | value |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in rows.items()),
    ]


def ablation_section(measured: Mapping[str, Any]) -> Table:
    """A table per mode of ours: each row beside the full model, history excluded."""
    rows = measured["rows"]
    runs = rows["full"]["runs"]
    schedule = ", ".join(f"`{override}`" for override in measured["overrides"])
    seeds = "One seed" if len(runs) == 1 else f"{len(runs)} seeds"
    lines = [
        "### Ablation",
        "",
        f"{seeds} and a short schedule ({schedule}) for all rows, so the numbers are below those "
        "above; what else a row sets is in the last table. Differences are row minus full, paired, "
        "per user the mean over the seeds: below 0, the part that is off helps. History excluded. "
        f"{made_on(runs)}",
        "",
        "Read with care: all rows have the full model's schedule and weights, also `item_decoder`, "
        "which does better with longer training and more of the item graph "
        "([experiments](experiments.md#the-retriever)). The rows without tags are of a model that "
        "scores items and not codes, so they say little of models that generate codes. Without "
        "collaborative signal, the item graph still counts co-occurrences.",
    ]
    for mode in rankers_of(runs[0]["metrics"]):
        lines += ["", *header([mode, *COMPARED, *(f"{m} minus full" for m in COMPARED)])]
        for name, row in rows.items():
            scored = of_ranker(row["runs"], mode)
            cells = [mean_spread([s[EXCLUDED][metric] for s in scored]) for metric in COMPARED]
            difference = measured["comparisons"].get(name, {}).get(mode)
            cells += [
                interval(difference[EXCLUDED][metric]) if difference and name != "full" else "–"
                for metric in COMPARED
            ]
            lines.append(line(name, cells))
    lines += ["", *header(["", "collisions before", "tag accuracy by level"])]
    for name, row in rows.items():
        quality = [run["metrics"]["semantic_ids"] for run in row["runs"]]
        collisions = statistics.mean(100 * q["collision_rate_before"] for q in quality)
        levels = zip(*(q["tag_accuracy"] for q in quality), strict=True)
        accuracy = " / ".join(
            "–" if None in level else f"{statistics.mean(level):.3f}" for level in levels
        )
        lines.append(line(name, [f"{collisions:.2f} %", accuracy]))
    lines += ["", "| row | settings |", "| --- | --- |"]
    for name, row in rows.items():
        settings = ", ".join(f"`{override}`" for override in row["overrides"])
        lines.append(line(name, [settings or "–"]))
    return lines


def cold_section(measured: Mapping[str, Any]) -> Table:
    """Items held out of training: ranked among themselves, and among all items."""
    (row,) = measured["rows"].values()
    runs = row["runs"]
    users = runs[0]["metrics"]["cold"]["num_users"]
    share = row["config"]["dataset"]["cold_item_share"]
    lines = [
        "### Cold items",
        "",
        f"{100 * share:g} % of the items are held out of training; {users} users test, each on one "
        f"of these. {described(measured, runs)}",
    ]
    by_chance = runs[0]["metrics"]["random_guess"]
    lines += ["", f"Ranked among the {by_chance['num_cold_items']} held-out items:", ""]
    lines += metric_table(runs, "cold", METRICS)
    lines.append(line("random order", (f"{by_chance[metric]:.4f}" for metric in METRICS)))
    lines += ["", "Ranked among all items:", "", *metric_table(runs, "test", METRICS)]
    return [*lines, "", *difference_tables(measured["comparisons"], ["cold"])][:-1]


def tags_section(measured: Mapping[str, Any]) -> Table:
    """Tags hidden and filled in again."""
    first = measured["runs"][0]
    classes = " / ".join(str(size) for size in measured["classes"])
    lines = [
        f"## Tags of {measured['dataset']}",
        "",
        f"All tags of {100 * measured['hidden_share']:g} % of the items hidden and filled in again "
        f"({first['num_hidden']} items, {classes} classes): accuracy by level, unknown counts as "
        f"wrong; mean of {len(measured['seeds'])} seeds. Machine: {measured['machine']}. Commit "
        f"{measured['commit']}. Made by `scripts/experiments/tags.py`; [the sources](tags.md).",
        "",
    ]
    levels = [f"level {level}" for level in range(len(measured["classes"]))]
    parts = {
        "on_hidden": "all hidden items",
        "on_asked": f"the {first.get('num_asked', 0)} items a seed that the language model saw",
    }
    for part, items in parts.items():
        if part in measured["mean"]:
            lines += header([items, *levels])
            for source, scores in measured["mean"][part].items():
                name = f"llm ({measured['config']['llm']['model']})" if source == "llm" else source
                lines.append(line(name, (f"{score['accuracy']:.3f}" for score in scores)))
            lines.append("")
    if "clusters" in measured["mean"]:
        for figure, name in (("nmi", "normalised mutual information"), ("purity", "purity")):
            values = " / ".join(f"{level[figure]:.3f}" for level in measured["mean"]["clusters"])
            lines.append(f"Clusters beside the true tags, {name} by level: {values}.")
    return lines


def diversity_section(measured: Mapping[str, Any]) -> Table:
    """What variety costs."""
    names = [name for name in measured["rows"][0] if name != "diversity"]
    lines = [
        f"## Variety in a list of {measured['dataset']}",
        "",
        f"`Filters.diversity` ([filters](recommend.md#filters)) against accuracy, validation, "
        f"history excluded, {measured['num_users']} users, seed {measured['seed']}. The run's "
        f"commit {measured['run_commit']}, the list's {measured['git_commit']}. Machine: "
        f"{measured['machine']}. Made by `scripts/experiments/diversity.py`.",
        "",
        *header(["diversity, nats", *names]),
    ]
    for row in measured["rows"]:
        lines.append(line(f"{row['diversity']:g}", (f"{row[name]:.4f}" for name in names)))
    return lines


def new_items_section(measured: Mapping[str, Any]) -> Table:
    """Items that came after training."""
    overrides = ", ".join(f"`{setting}`" for setting in measured.get("overrides", []))
    lines = [
        f"## New items of {measured['dataset']}" + (f", with {overrides}" if overrides else ""),
        "",
        f"{measured['num_new']} items ({measured['share']:.0%}) and all their events were held out "
        "of everything, and added after training ([how](recommend.md#new-and-changed-items)); "
        "the target is each user's first new item after his training events. All at once they took "
        f"{measured['seconds_all']} s, one by one {measured['milliseconds_each']} ms each "
        "(median). History excluded; a random list finds "
        f"{measured['random_guess']:.4f} of the new items. Seed {measured['seed']}. Machine: "
        f"{measured['machine']}. Commit {measured['git_commit']}. Made by "
        "`scripts/experiments/new_items.py`.",
        "",
        *header(["ranker", "among", "users", *COMPARED]),
    ]
    for row in measured["rows"]:
        metrics = [f"{row[name]:.4f} {_ci(row, name)}" for name in COMPARED]
        lines.append(line(row["ranker"], [row["among"], str(row["num_users"]), *metrics]))
    return lines


def calibration_section(measured: Mapping[str, Any]) -> Table:
    """Whether confidences of predicted tags can be believed."""
    lines = [
        f"## Confidence of tags of {measured['dataset']}",
        "",
        "Expected calibration error (ten bins) of the predicted tags' confidences, before and "
        f"after the temperatures, on the items that each of {measured['seeds']} trainings of the "
        "tokenizer never saw, put together; no item is judged by a temperature that was fitted on "
        "it. The last column is what exactly true confidences would show by chance. Machine: "
        f"{measured['machine']}. Commit {measured['git_commit']}. Made by "
        "`scripts/experiments/calibration.py`.",
        "",
        *header(
            ["level", "items", "accuracy", "before", "after", "after, each training", "by chance"]
        ),
    ]
    together = measured["together"]
    names = [f"tag_calibration_error{name}" for name in ("_before", "", "_by_chance")]
    for level, count in enumerate(together["items"]):
        before, after, by_chance = (f"{together[name][level]:.4f}" for name in names)
        each = spread([seed[names[1]][level] for seed in measured["by_seed"]], 4)
        accuracy = f"{together['tag_accuracy'][level]:.4f}"
        cells = [str(count), accuracy, before, after, each, by_chance]
        lines.append(line(str(level + 1), cells))
    return lines


def _ci(row: Mapping[str, Any], name: str) -> str:
    low, high = row[f"{name}_ci"]
    return f"[{low:.4f}, {high:.4f}]"


def speed_section(measured: Mapping[str, Any]) -> Table:
    """What the benchmarks are held against."""
    lines = [
        "## Speed",
        "",
        "What `make bench` is held against, and what it found ([what each is](benchmarks.md)).",
    ]
    for name, section in measured.items():
        bars = section["bars"]
        if not bars:
            continue  # of "gpu" below, as tables
        lines += [
            "",
            f"`{name}`, {section['date'][:10]}, {section['machine']}, {section['threads']} "
            f"threads, commit {section['git_commit']}:",
            "",
            *header(["figure", "found", "bar", "met"]),
        ]
        for bar in bars:
            limit = f"{'≥' if bar['is_minimum'] else '≤'} {bar['limit']:g}"
            is_met = "yes" if bar["is_met"] else "**no**"
            lines.append(line(bar["name"], [f"{bar['value']:.3g}", limit, is_met]))
        if name == "large":
            lines += ["", *large_table(section["results"])]
    if "gpu" in measured:
        lines += ["", *gpu_tables(measured["gpu"])]
    return lines


def large_table(results: Mapping[str, Any]) -> Table:
    """Every stage of a run at the limits of one machine."""
    dataset, test = results["dataset"], results["test"]
    lines = [
        f"A generated log of {results['events']:,} events ({dataset['num_items']:,} items and "
        f"{dataset['num_users']:,} users are left by the 3-core), `configs/large.gin`, "
        f"{results['steps']} steps of the retriever, {test['num_users']:,} users tested:",
        "",
        *header(["command", "seconds", "peak memory, GiB"]),
    ]
    for stage in results["stages"]:
        cells = [f"{stage['seconds']:,.0f}", f"{stage['peak_gib']:.1f}"]
        lines.append(line(f"`hidvae {stage['command']}`", cells))
    return lines


def gpu_tables(section: Mapping[str, Any]) -> Table:
    """Training steps and searches on a CUDA device."""
    lines = [
        f"`gpu`, {section['date'][:10]}, {section['results']['device']}, torch "
        f"{section['versions']['torch']}, commit {section['git_commit']}; no bars, Beauty's size:",
        "",
        *header(
            ["training of the default model", "positions a step", "ms a step", "positions a second"]
        ),
    ]
    for row in section["results"]["training"]:
        cells = [f"{row['batch_tokens']:,}", f"{row['step_ms']:.1f}"]
        lines.append(line(row["precision"], [*cells, f"{row['positions_per_second']:,.0f}"]))
    titles = ["search, 50 beams", "users at once", "users a second", "p50 of one user, ms"]
    lines += ["", *header(titles)]
    for row in section["results"]["search"]:
        cells = [f"{row['users_at_once']:,}", f"{row['users_per_second']:,.0f}"]
        lines.append(line(row["search"], [*cells, f"{row['p50_ms_of_one']:.1f}"]))
    return lines


def scale_section(measured: Mapping[str, Any]) -> Table:
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


def of_ranker(runs: Runs, name: str) -> list[Mapping[str, Any]]:
    """The metrics of one ranker in every seed that has it."""
    rankers = (rankers_of(run["metrics"]) for run in runs)
    return [by_name[name] for by_name in rankers if name in by_name]


def header(titles: Sequence[str]) -> Table:
    """The first two lines of a table; all columns but the first are numbers."""
    return [line(titles[0], titles[1:]), "| --- |" + " ---: |" * (len(titles) - 1)]


def line(name: str, cells: Iterable[str]) -> str:
    """One line of a table."""
    return f"| {name} | " + " | ".join(cells) + " |"


def interval(found: Mapping[str, Any]) -> str:
    """A paired difference with its interval."""
    low, high = found["ci"]
    return f"{found['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"


def spread(values: Sequence[float], digits: int) -> str:
    """The lowest and the highest value."""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low}–{high}"


def mean_spread(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation over the seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{statistics.mean(known):.4f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.4f}"
