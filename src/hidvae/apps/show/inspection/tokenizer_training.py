"""A tokenizer's training, finished or not, as plain text."""

from __future__ import annotations

from pathlib import Path

from hidvae.apps.show.report.training_log import read_log
from hidvae.evaluation.evaluate_ranker import format_table
from hidvae.store.artifacts import read_json


def describe_tokenizer_training(run: Path) -> str:
    """A line per epoch of a run's tokenizer, then the quality of its semantic IDs if they exist.

    A training that has not ended is read from the log beside its checkpoint.

    Raises:
        NotTrainedError: If the run has no tokenizer and none in training.
    """
    log = read_log(run, "tokenizer")
    lines = [f"tokenizer of {run} ({log.state})", ""]
    lines.append(format_table({str(row.pop("epoch")): row for row in log.rows.to_dicts()}))
    quality = run / "semantic_ids" / "quality.json"
    if quality.is_file() and not log.is_running:
        lines += ["", "semantic IDs", *_quality_lines(quality)]
    return "\n".join(lines)


def _quality_lines(quality: Path) -> list[str]:
    lines = []
    for name, value in read_json(quality).items():
        values = value if isinstance(value, list) else [value]
        shown = " ".join("-" if v is None else f"{v:.4g}" for v in values)
        lines.append(f"  {name:<26} {shown}")
    return lines
