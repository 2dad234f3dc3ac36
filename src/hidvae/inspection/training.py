"""A tokenizer's training, finished or not, as plain text."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from hidvae.artifacts import read_json
from hidvae.errors import NotTrainedError
from hidvae.evaluation.evaluate import format_table

_LOG = "log.csv"


def describe_tokenizer_training(run: Path) -> str:
    """A line per epoch of a run's tokenizer, then the quality of its semantic IDs if they exist.

    A training that has not ended is read from the log beside its checkpoint.

    Raises:
        NotTrainedError: If the run has no tokenizer and none in training.
    """
    finished, running = run / "tokenizer" / _LOG, run / ".tokenizer.checkpoint" / _LOG
    log = running if running.is_file() else finished
    if not log.is_file():
        raise NotTrainedError(f"{run} has no tokenizer: run `hidvae tokenize --output {run}` first")
    state = "training has not ended" if log == running else "finished"
    lines = [f"tokenizer of {run} ({state})", ""]
    rows = pl.read_csv(log).to_dicts()
    lines.append(format_table({str(row.pop("epoch")): row for row in rows}))
    quality = run / "semantic_ids" / "quality.json"
    if quality.is_file() and log == finished:
        lines += ["", "semantic IDs", *_quality_lines(quality)]
    return "\n".join(lines)


def _quality_lines(quality: Path) -> list[str]:
    lines = []
    for name, value in read_json(quality).items():
        values = value if isinstance(value, list) else [value]
        shown = " ".join("-" if v is None else f"{v:.4g}" for v in values)
        lines.append(f"  {name:<26} {shown}")
    return lines
