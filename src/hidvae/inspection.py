"""Read-only views of a prepared dataset and of a tokenizer's training, as plain text."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from hidvae.artifacts import StageFolder, read_json, read_stage
from hidvae.config import DatasetConfig
from hidvae.data.prepare import Dataset, load_dataset, prepare
from hidvae.data.schema import Columns
from hidvae.errors import NotTrainedError
from hidvae.evaluation.evaluate import format_table

_SHOWN = 3
_SHOWN_EVENTS = 5
_LOG = "log.csv"
_COUNTS = {
    "num_users",
    "num_items",
    "num_events",
    "items_without_events",
    "items_without_categories",
    "repeated_events",
    "dropped_users",
    "dropped_items",
    "dropped_events",
}


def describe_dataset(place: Path) -> str:
    """Counts, history lengths, category depth, tags, and some users and items.

    Args:
        place: A run, its stage folder ``dataset``, or a folder of raw tables, which is prepared
            in a temporary folder: nothing is written to ``place``.

    Raises:
        HidvaeError: If there is no dataset, or it breaks its contract.
    """
    run = place.parent if (place / "manifest.json").is_file() else place
    if (run / "dataset").is_dir():
        folder = read_stage(run / "dataset", produced_by="hidvae prepare")
        return "\n".join([*_dataset_lines(folder), *_tag_lines(run)])
    config = DatasetConfig(
        source="folder", folder=str(place), short_histories="drop", unknown_items="drop"
    )
    with tempfile.TemporaryDirectory() as temporary:
        return "\n".join(_dataset_lines(prepare(config, Path(temporary) / "dataset")))


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


def _dataset_lines(folder: StageFolder) -> list[str]:
    dataset = load_dataset(folder)
    lengths = dataset.interactions.sequences.lengths
    quartiles = np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1]).astype(int).tolist()
    lines = [f"dataset {dataset.name}", ""]
    lines += [f"  {name:<26} {value}" for name, value in folder.metrics.items() if name in _COUNTS]
    lines.append(f"  {'events per user':<26} min, quartiles, max: {quartiles}")
    depth = dataset.catalogue.frame[Columns.CATEGORIES].list.len().fill_null(0).to_numpy()
    for level in range(1, int(depth.max()) + 1):
        share = float((depth >= level).mean())
        lines.append(f"  {f'category path >= {level}':<26} {share:.1%} of items")
    return [*lines, "", *_sample_items(dataset), "", *_sample_users(dataset)]


def _sample_items(dataset: Dataset) -> list[str]:
    catalogue = dataset.catalogue
    paths = catalogue.frame[Columns.CATEGORIES]
    lines = ["some items"]
    for index in _spread(catalogue.num_items):
        path = " > ".join(paths[index]) if paths[index] is not None else "no categories"
        lines.append(f"  {catalogue.item_ids[index]}  {catalogue.titles[index][:60]}")
        lines.append(f"      {path}")
    return lines


def _sample_users(dataset: Dataset) -> list[str]:
    sequences, titles = dataset.interactions.sequences, dataset.catalogue.titles
    lines = ["some users (latest events; the last is the test target, the one before validation)"]
    for user in _spread(sequences.num_users):
        items = sequences[user].tolist()
        lines.append(f"  {dataset.interactions.user_ids[user]}, {len(items)} events")
        lines += [f"      {titles[index][:64]}" for index in items[-_SHOWN_EVENTS:]]
    return lines


def _tag_lines(run: Path) -> list[str]:
    if not (run / "tags").is_dir():
        return []
    levels = read_stage(run / "tags", produced_by="hidvae tag").metrics["levels"]
    return ["", "tags", format_table({f"level {i}": level for i, level in enumerate(levels)})]


def _quality_lines(quality: Path) -> list[str]:
    lines = []
    for name, value in read_json(quality).items():
        values = value if isinstance(value, list) else [value]
        shown = " ".join("-" if v is None else f"{v:.4g}" for v in values)
        lines.append(f"  {name:<26} {shown}")
    return lines


def _spread(count: int) -> list[int]:
    rows: list[int] = np.linspace(0, count - 1, min(_SHOWN, count)).round().astype(int).tolist()
    return rows
