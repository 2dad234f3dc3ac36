"""What the commands print: metrics, semantic IDs, recommendations; plain text, 80 columns or more.

On a terminal Rich adds colour; piped, the same lines come plain. Whatever a catalogue holds is
text: lines are put together by ``_say``, never written in Rich's markup.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hidvae.apps.show.formats import (
    NOTHING,
    difference,
    evenly_spread,
    level_value,
    percent,
    score,
    short,
)
from hidvae.apps.show.shown_users import users_to_show
from hidvae.data.prepare import Dataset, load_dataset
from hidvae.features.tags.vocabulary import TagVocabulary, load_tags
from hidvae.log import printable
from hidvae.ranking.explain import (
    KIND_WORDS,
    Cause,
    Explainer,
    OrderParts,
    Recommendation,
    ScoreParts,
)
from hidvae.ranking.recommender import Recommender
from hidvae.run.run import Run
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import read_json, read_stage

if TYPE_CHECKING:
    from hidvae.evaluation.compare_runs import RunComparison

_SHOWN_METRICS = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")
_HISTORY_RULES = {
    "test_excluding_history": "history excluded",
    "test": "history included",
}
_SHOWN_ITEMS = 5
_SHOWN_USERS = 3
_SHOWN_HISTORY = 5
_TOP_K = 3
_LONGEST_LINE = 100
_WIDTH = 64
"""Characters of a title."""
_NO_CAUSE = "the generator expects it, no item of the history lifts it"


def print_run(run: Path, device: str = "auto") -> None:
    """The end of ``hidvae run``: metrics, IDs of some items, recommendations of some users."""
    console = make_console()
    dataset = load_dataset(read_stage(run / "dataset", produced_by="hidvae prepare"))
    ids = SemanticIds.load(read_stage(run / "semantic_ids", produced_by="hidvae tokenize"))
    tags = load_tags(read_stage(run / "tags", produced_by="hidvae tag")).vocabulary
    print_metrics(run, console)
    print_semantic_ids(ids, tags, dataset, console)
    print_users(Recommender.load(run, device), dataset, console)
    print_decisions(run, console)
    _say(console, f"\nRun: {run}", soft_wrap=True)


def print_decisions(run: Path, console: Console | None = None) -> None:
    """What was chosen for the user, each with the setting that changes it."""
    console = console or make_console()
    decisions = Run(run).decisions
    if decisions:
        _say(console, ("\nWhat was decided", "bold"), " (and the setting that changes it)")
    for decision in decisions:
        lines = textwrap.wrap(
            printable(decision.said),
            min(console.width, _LONGEST_LINE),
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines:
            _say(console, line, soft_wrap=True)


def print_metrics(run: Path, console: Console | None = None) -> None:
    """Test metrics beside the baselines, and the health of the semantic IDs."""
    from hidvae.evaluation.evaluate_run import METRICS, rankers_of  # and the training's packages

    console = console or make_console()
    metrics = read_json(run / "evaluation" / METRICS)
    if reason := metrics.get("not_tested"):
        _say(console, ("\nTest metrics", "bold"), f": {reason}")
        _print_quality(metrics["semantic_ids"], console)
        return
    how = f" ({metrics['test']['num_users']} users, all items ranked, seed {metrics['seed']})"
    _say(console, ("\nTest metrics", "bold"), how)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in _SHOWN_METRICS:
        table.add_column(name, justify="right")
    for key, rule in _HISTORY_RULES.items():
        for name, scored in rankers_of(metrics).items():
            numbers = [score(scored[key].get(metric)) for metric in _SHOWN_METRICS]
            style = "" if name in metrics["baselines"] else "bold"
            table.add_row(f"{name}, {rule}", *numbers, style=style)
    console.print(table)
    console.print(f"invalid recommendations: {percent(metrics['test']['invalid_rate'])}")
    _print_quality(metrics["semantic_ids"], console)
    total = sum(metrics["wall_seconds"].values())
    parts = ", ".join(f"{name} {taken:.0f}" for name, taken in metrics["wall_seconds"].items())
    console.print(f"wall time {total:.0f} s ({parts})")


def print_comparison(run: Path, console: Console | None = None) -> None:
    """The run beside its baselines on test, and the paired differences with their intervals."""
    from hidvae.evaluation.evaluate_run import METRICS, rankers_of

    console = console or make_console()
    metrics = read_json(run / "evaluation" / METRICS)
    if reason := metrics.get("not_tested"):
        _say(console, ("\nTest", "bold"), f": {reason}")
        return
    k = next(name.partition("@")[2] for name in metrics["test"] if name.startswith("coverage@"))
    lists = [f"{name}@{k}" for name in ("coverage", "novelty", "diversity")]
    how = f"{metrics['test']['num_users']} users, all items ranked, seed {metrics['seed']}"
    _say(console, ("\nTest", "bold"), f" ({how}; lists of {k})")
    table = Table(box=None, pad_edge=False)
    for name in ("", *_SHOWN_METRICS, *(name.partition("@")[0] for name in lists)):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for key, rule in _HISTORY_RULES.items():
        table.add_row(rule, style="bold")
        for name, scored in rankers_of(metrics).items():
            shown = (*_SHOWN_METRICS, *lists)
            table.add_row(f"  {name}", *(score(scored[key].get(metric)) for metric in shown))
    console.print(table)
    for own, others in metrics["comparisons"].items():
        _print_differences(own, others, console)


def print_run_comparison(
    found: RunComparison, names: tuple[str, str], console: Console | None = None
) -> None:
    """Both runs' metrics, and the difference with its interval."""
    console = console or make_console()
    table = Table(box=None, pad_edge=False)
    for name in ("", *names, "difference", "95 % interval"):
        table.add_column(Text(printable(name)), justify="right" if name else "left")
    history = None
    for row in found.metrics:
        if row.history != history:
            history = row.history
            table.add_row(f"history {history}", style="bold")
        paired = row.difference
        table.add_row(
            f"  {row.metric}",
            score(row.first),
            score(row.second),
            f"{paired.mean:+.4f}",
            f"{paired.low:+.4f} to {paired.high:+.4f}",
        )
    console.print(table)
    left_out = f", {found.left_out} left out" if found.left_out else ""
    console.print(f"{found.num_users} test users in common{left_out}")


def print_semantic_ids(
    ids: SemanticIds, tags: TagVocabulary, dataset: Dataset, console: Console | None = None
) -> None:
    """Semantic ID and predicted tag path of a few items, spread over the catalogue."""
    console = console or make_console()
    explainer = Explainer(dataset.catalogue, ids, tags)
    _say(
        console,
        ("\nSemantic IDs of some items", "bold"),
        " (tag path, confidence per level)",
    )
    for index in evenly_spread(ids.num_items, _SHOWN_ITEMS):
        title = short(dataset.catalogue.titles[index], _WIDTH)
        _say(console, f"  {' '.join(ids.strings(index))}  {title}")
        path, confidences = explainer.tag_path(index)
        if path:
            _say(console, "      ", *_tag_parts(path, confidences))


def print_users(recommender: Recommender, dataset: Dataset, console: Console | None = None) -> None:
    """Histories and recommendations of a few users; the item they took next is marked.

    They are users of the test, or where there are none any.
    """
    console = console or make_console()
    titles, item_ids = dataset.catalogue.titles, dataset.catalogue.item_ids
    users = users_to_show(dataset, _SHOWN_USERS)
    said = f"{len(users)} user{'s' if len(users) > 1 else ''}"
    marked = " (* = taken next)" if dataset.split.test_users.size else ""
    _say(console, (f"\nRecommendations for {said}", "bold"), marked)
    for name, history, target in users:
        shown = history[-_SHOWN_HISTORY:]
        latest = f", latest {len(shown)} of {len(history)} items, oldest first:"
        _say(console, (f"\nUser {name}", "bold"), latest)
        for index in shown:
            _say(console, f"  - {short(titles[index], _WIDTH)}")
        recommended = recommender.recommend([item_ids[index] for index in history], _TOP_K)
        taken = None if target is None else item_ids[target]
        print_recommendations(recommended, console, taken=taken)


def print_items(
    recommender: Recommender, item_ids: Sequence[str], console: Console | None = None
) -> None:
    """Semantic ID and predicted tags of some items, the first few of them."""
    console = console or make_console()
    ids, catalogue = recommender.semantic_ids, recommender.catalogue
    explainer = Explainer(catalogue, ids, recommender.tags)
    for item_id, item in zip(item_ids[:_SHOWN_ITEMS], catalogue.index_of(item_ids), strict=False):
        title = f"{item_id}  {short(catalogue.titles[item], _WIDTH)}"
        _say(console, f"{' '.join(ids.strings(int(item)))}  {title}")
        path, confidences = explainer.tag_path(int(item))
        if path:
            _say(console, "    ", *_tag_parts(path, confidences))
    if len(item_ids) > _SHOWN_ITEMS:
        _say(console, f"and {len(item_ids) - _SHOWN_ITEMS} more")


def print_recommendations(
    recommended: Sequence[Recommendation], console: Console | None = None, taken: str | None = None
) -> None:
    """Ranked items with probability, tag path, confidences and the strongest cause."""
    console = console or make_console()
    if not recommended:
        _say(console, "  nothing to recommend: every item is in the history, or left out")
    for rank, item in enumerate(recommended, start=1):
        mark = "*" if item.item_id == taken else " "
        title = (short(item.title, 60), "bold")
        _say(console, f"{mark} {rank}. ", title, f" ({item.item_id}, p={item.prob:.3f})")
        if item.tag_path:
            _say(console, "     ", *_tag_parts(item.tag_path, item.tag_confidences))
        for cause in item.because[:1]:
            _say(console, f"     {_lift(cause, 50, most_kinds=2)}")
        if not item.because:
            _say(console, f"     {_NO_CAUSE}")


def recommendations_json(recommended: Sequence[Recommendation]) -> str:
    """The recommendations as a JSON list, best first."""
    return json.dumps([item.to_json() for item in recommended], indent=2)


def recommendation_json(item: Recommendation) -> str:
    """One recommendation as a JSON object."""
    return json.dumps(item.to_json(), indent=2)


def print_explanation(item: Recommendation) -> None:
    """One item: codes, how probable each is, tags, what the score is made of and who lifts it."""
    console = make_console()
    title = (short(item.title, _WIDTH), "bold")
    _say(console, title, f" ({item.item_id}, p={item.prob:.2e})")
    table = Table(box=None, pad_edge=False)
    for name in ("level", "code", "probability", "tag", "confidence"):
        table.add_column(name, justify="right" if name in {"probability", "confidence"} else "left")
    for level, code in enumerate(item.codes):
        has_tag = level < len(item.tag_path)
        table.add_row(
            str(level + 1),
            code,
            f"{item.code_probs[level]:.4f}",
            Text(printable(item.tag_path[level])) if has_tag else NOTHING,
            f"{item.tag_confidences[level]:.2f}" if has_tag else NOTHING,
        )
    console.print(table)
    _say(console, f"score {item.score:.2f}: {_parts(item.score_parts)}")
    if item.order_parts is not None:
        _say(console, f"placed by {_parts(item.order_parts)}")
    if not item.because:
        _say(console, _NO_CAUSE)
    for cause in item.because:
        alike = f"IDs begin alike: {cause.shared_levels} of {len(item.codes)} levels"
        _say(console, f"{_lift(cause, _WIDTH)}; {alike}")


def _parts(parts: ScoreParts | OrderParts) -> str:
    """Those that are not 0."""
    known = ((name, part) for name, part in parts._asdict().items() if part)
    return ", ".join(f"{name.replace('_', ' ')} {part:+.2f}" for name, part in known)


def make_console() -> Console:
    """A console on stdout that does not cut lines when piped."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _LONGEST_LINE
    return console


def _print_differences(own: str, others: Mapping[str, Any], console: Console) -> None:
    """Paired differences on test of one mode of the run, a line per ranker and history rule."""
    _say(console, (f"\n{own} minus …", "bold"), " (mean over users, 95 % interval)")
    table = Table(box=None, pad_edge=False)
    metrics = list(next(iter(others.values()))["test"])
    for name in ("", *metrics):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for key, rule in _HISTORY_RULES.items():
        table.add_row(rule, style="bold")
        for name, found in others.items():
            table.add_row(
                f"  {name}", *(Text(difference(found[key][metric])) for metric in metrics)
            )
    console.print(table)


def _print_quality(quality: Mapping[str, Any], console: Console) -> None:
    before, after = quality["collision_rate_before"], quality["collision_rate_after"]
    rates = f"collision rate {percent(before, 2)} before assignment, {percent(after, 2)} after"
    _say(console, ("\nSemantic IDs", "bold"), f": {rates}")
    table = Table(box=None, pad_edge=False)
    for name in ("level", "codebook usage", "perplexity", "tag accuracy*", "majority class"):
        table.add_column(name, justify="right")
    accuracy, majority = quality["tag_accuracy"], quality.get("tag_majority_rate", [])
    for level, usage in enumerate(quality["codebook_usage"]):
        table.add_row(
            str(level + 1),
            percent(usage),
            f"{quality['perplexity'][level]:.1f}",
            percent(level_value(accuracy, level)),
            percent(level_value(majority, level)),
        )
    console.print(table)
    console.print("* on items that the tokenizer never saw")


def _say(console: Console, *parts: str | tuple[str, str], soft_wrap: bool = False) -> None:
    """Print a line of texts, some with a style; none of them can steer Rich or the terminal."""
    line = Text()
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        start = "\n" if text.startswith("\n") else ""
        line.append(start + printable(text[len(start) :]), style)
    console.print(line, soft_wrap=soft_wrap)


def _tag_parts(path: Sequence[str], confidences: Sequence[float]) -> tuple[tuple[str, str], str]:
    shares = " ".join(f"{confidence:.2f}" for confidence in confidences)
    return (" > ".join(path), "green"), f" ({shares})"


def _lift(cause: Cause, width: int, most_kinds: int = len(KIND_WORDS)) -> str:
    """A history item, its share of what lifts an item, and by what, largest first."""
    kinds = sorted(zip(KIND_WORDS.values(), cause.parts, strict=True), key=lambda kind: -kind[1])
    parts = ", ".join(f"{word} {share:.0%}" for word, share in kinds[:most_kinds] if share >= 0.005)
    return f"{cause.share:.0%} of its lift: {short(cause.title, width)} ({parts})"
