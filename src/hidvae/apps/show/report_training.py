"""The trainings of a run as curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
from markupsafe import Markup

from hidvae.apps.show.figures import lines
from hidvae.apps.show.formats import number, seconds
from hidvae.apps.show.page import figures, heading, paragraph, table
from hidvae.apps.show.training_log import TRAINED_BY, StageLog, read_log
from hidvae.errors import NotTrainedError
from hidvae.store.artifacts import StageFolder, read_stage

_FAMILIES = {
    "collision_rate": ("Collisions", "share of the items"),
    "usage_": ("Codes in use", "share of the codebook"),
    "perplexity_": ("Perplexity of the codes", "codes"),
    "validation_": ("Validation, history excluded", "metric"),
}
"""How the names of columns begin -> the figure that they share, and its heights."""
_NO_CURVE = ("epoch", "seconds")


def training_parts(run: Path) -> Iterator[Markup]:
    """Both trainings, and whether the reranker pays; one that there is not says so."""
    for stage in TRAINED_BY:
        yield heading(stage.capitalize())
        try:
            yield from log_parts(read_log(run, stage))
        except NotTrainedError as error:
            yield paragraph(str(error))
    yield heading("Reranker")
    try:
        yield paragraph(_in_words(read_stage(run / "reranker", produced_by="hidvae train")))
    except NotTrainedError as error:
        yield paragraph(str(error))


def _in_words(folder: StageFolder) -> str:
    """What the reranker changes, or why there is none."""
    metrics = folder.metrics
    if "judged_users" not in metrics:
        return " ".join(["Not used.", *(decision.said for decision in folder.decisions)])
    changed = " and ".join(
        f"{name} from {number(metrics[f'judged_{name}_without'])} to "
        f"{number(metrics[f'judged_{name}_with'])}"
        for name in ("recall@10", "ndcg@10")
    )
    return (
        f"{'Used' if folder.facts['is_used'] else 'Not used'}: for {metrics['judged_users']} "
        f"validation users that it had not learned from, it changed {changed}, history excluded."
    )


def log_parts(log: StageLog) -> Iterator[Markup]:
    """Curves of one training, and the numbers of its last epoch."""
    last = log.rows.row(-1, named=True)
    yield paragraph(f"{last['epoch']} epochs in {seconds(last['seconds'])}, {log.state}.")
    names = [name for name in log.rows.columns if name not in _NO_CURVE]
    drawn = []
    for beginning, (title, heights) in _FAMILIES.items():
        family = [name for name in names if name.startswith(beginning)]
        if family:
            drawn.append((title, _curves(log, family, beginning, heights)))
    losses = [name for name in names if not name.startswith(tuple(_FAMILIES))]
    drawn.insert(0, ("Losses" if len(losses) > 1 else "Loss", _curves(log, losses, "loss", "loss")))
    yield figures(drawn)
    yield heading(f"Last epoch of the {log.stage}")
    yield table([(name, number(last[name])) for name in names], numbers=(1,))


def _curves(log: StageLog, columns: Sequence[str], family: str, y: str) -> Markup:
    series = {}
    for name in columns:
        known = log.rows.filter(pl.col(name).is_not_null())
        level = name.removeprefix(family)
        label = f"level {int(level) + 1}" if level.isdigit() else name
        series[label] = (known["epoch"].to_numpy(), known[name].to_numpy())
    return lines(f"{log.stage}-{family.strip('_')}", series, x="epoch", y=y)
