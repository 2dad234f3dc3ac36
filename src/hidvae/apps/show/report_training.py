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

_FAMILIES = {
    "collision_rate": ("Collisions", "share of the items"),
    "usage_": ("Codes in use", "share of the codebook"),
    "perplexity_": ("Perplexity of the codes", "codes"),
    "validation_": ("Validation, history excluded", "metric"),
}
"""How the names of columns begin -> the figure that they share, and its heights."""
_NO_CURVE = ("epoch", "seconds")


def training_parts(run: Path) -> Iterator[Markup]:
    """Both trainings; one that there is not says so."""
    for stage in TRAINED_BY:
        yield heading(stage.capitalize())
        try:
            yield from log_parts(read_log(run, stage))
        except NotTrainedError as error:
            yield paragraph(str(error))


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
