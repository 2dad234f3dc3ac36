"""Semantic IDs and predicted tags of items, by the trained tokenizer of a run.

Shards are encoded one by one; collisions are then resolved over all of them at once, since that two
items share an ID shows only where both are seen.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hidvae.apps.batch.shards import make_output, read_shard, write_shard
from hidvae.apps.batch.workers import Counts, Work, Workers, limited_threads, open_shards, run_job
from hidvae.data.prepare import load_dataset
from hidvae.data.schema import Columns
from hidvae.errors import DataError, ShapeError
from hidvae.features.embeddings import load_embeddings
from hidvae.features.matrix_file import read_matrix_file
from hidvae.features.new_items import VECTOR
from hidvae.log import in_stage
from hidvae.run.run import Run
from hidvae.semantic_ids.collisions import colliding_groups
from hidvae.semantic_ids.table import list_column
from hidvae.store.artifacts import StageFolder
from hidvae.tokenizer.encode import encode_items, unique_ids
from hidvae.tokenizer.train_tokenizer import load_tokenizer

ENCODED = ".encoded"
"""Folder under the output: latent and codes of every item, before collisions are resolved."""
_LATENT, _CODES = "latent", "codes"
_FOLDERS = ("dataset", "embeddings", "tags", "tokenizer")
_LENGTH_TOLERANCE = 1e-3

logger = logging.getLogger("hidvae.apps.batch")


def tokenize_shards(
    run: Path | str,
    input: Path | str,
    output: Path | str,
    workers: Workers | None = None,
) -> Counter[str]:
    """Give every item of the shards its semantic ID, unique among them all, and its tags.

    For the run's own items in the order of its catalogue this is what ``hidvae tokenize`` gives.
    Their parts of the vector that a shard does not bring (transitions, 0/1 features) are the run's;
    those of items that the run does not know are zeros, as for items without events.

    Args:
        run: Run with the tokenizer.
        input: Parquet shards: ``item_id`` and ``vector``, the text part that ``embed_shards``
            writes, or the whole content part (text or own matrix, and image) of the run's width.
        output: Shards of the same names and rows: ``item_id``, ``codes``, ``tag_ids`` and
            ``tag_confidence``, as in ``semantic_ids.parquet``.
        workers: Who encodes; collisions are resolved in this process.

    Returns: Counts over all shards: ``rows``, ``new_items`` (unknown to the run),
        ``colliding_items`` (whose ID another has too, before that is resolved).

    Raises:
        DataError: If a shard breaks its contract, an item is there twice, or there are more items
            than IDs.
        ShapeError: If vectors are of another width than the run's.
        HidvaeError: As ``run_job``; or if the run is damaged or not made yet.
    """
    run, input, output = Path(run), Path(input), Path(output)
    workers = workers or Workers()
    folders = Run(run).folders(_FOLDERS)
    job = TokenizeJob(
        run.resolve(), {name: folder.fingerprint for name, folder in sorted(folders.items())}
    )
    shards = open_shards(input, output, job.columns)
    encoded = output / ENCODED
    make_output(encoded)
    totals = run_job(job, input, encoded, shards, workers)
    with limited_threads(workers.threads), in_stage(job.name):
        totals["colliding_items"] = _resolve(folders, encoded, output, shards, job.made_with)
    return totals


@dataclass(frozen=True)
class TokenizeJob:
    """See ``workers.Job``; encodes, and leaves collisions as they are."""

    run: Path
    fingerprints: Mapping[str, str]
    """Of the run's folders that are read."""
    name = "tokenize"
    columns = {Columns.ITEM: "id", VECTOR: "vector"}

    @property
    def made_with(self) -> Mapping[str, Any]:
        """The run's folders."""
        return dict(self.fingerprints)

    def load(self) -> Work:
        """The tokenizer, and how it encodes a shard."""
        folders = Run(self.run).folders(_FOLDERS)
        model = load_tokenizer(folders["tokenizer"], folders["tags"])
        own = _OwnVectors(folders)

        def encode(path: Path) -> tuple[pl.DataFrame, Counts]:
            item_ids, vectors, num_new = own.completed(path)
            if not item_ids:  # one row for the widths, and then none
                vectors = np.zeros((1, vectors.shape[1]), np.float32)
            latents, codes = encode_items(model, vectors)
            frame = pl.DataFrame({_LATENT: latents, _CODES: codes}).head(len(item_ids))
            frame.insert_column(0, pl.Series(Columns.ITEM, item_ids, dtype=pl.String))
            return frame, {"new_items": num_new}

        return encode


class _OwnVectors:
    """The vectors of the run's own items, which complete those of a shard."""

    def __init__(self, folders: Mapping[str, StageFolder]) -> None:
        embeddings = load_embeddings(folders["embeddings"])
        self._matrix = embeddings.matrix  # (N, D)
        self._parts = embeddings.parts
        catalogue = load_dataset(folders["dataset"]).catalogue
        self._rows = pl.DataFrame(
            {Columns.ITEM: catalogue.item_ids, "row": np.arange(catalogue.num_items)}
        )

    def completed(self, path: Path) -> tuple[list[str], np.ndarray, int]:
        """Item ids, vectors (n, D) for the tokenizer, and how many items the run does not know."""
        ids = read_shard(path).select(pl.col(Columns.ITEM).cast(pl.String))
        found = ids.join(self._rows, on=Columns.ITEM, how="left", maintain_order="left")
        rows = found["row"].fill_null(-1).to_numpy()
        vectors = np.zeros((len(rows), self._matrix.shape[1]), np.float32)
        vectors[rows >= 0] = self._matrix[rows[rows >= 0]]
        item_ids = ids[Columns.ITEM].to_list()
        if not item_ids:
            return [], vectors, 0
        given = read_matrix_file(path, item_ids)
        self._check(given, item_ids, path)
        vectors[:, : given.shape[1]] = given
        return item_ids, vectors, int((rows < 0).sum())

    def _check(self, given: np.ndarray, item_ids: Sequence[str], path: Path) -> None:
        """Refuse vectors of another width, or with parts of another length, than the run's."""
        parts = [name for name in ("text", "file", "image") if name in self._parts]
        widths = [self._parts[name][1] for name in parts]
        if given.shape[1] not in widths:
            described = " or ".join(
                f"{width} numbers ({' and '.join(parts[: i + 1])})"
                for i, width in enumerate(widths)
            )
            raise ShapeError(
                f"{path}, column {VECTOR}: expected {described or 'a run with content vectors'}; "
                f"found {given.shape[1]}; make them with `hidvae batch embed` and the same run"
            )
        for name in parts[: widths.index(given.shape[1]) + 1]:
            norms = np.linalg.norm(given[:, slice(*self._parts[name])], axis=1)
            wrong = np.flatnonzero((norms > 0) & (abs(norms - 1) > _LENGTH_TOLERANCE))
            if len(wrong):
                raise DataError(
                    f"{path}, column {VECTOR}, item_id {item_ids[wrong[0]]!r}: expected a {name} "
                    f"part of length 1 or 0; found {norms[wrong[0]]:.3g} ({len(wrong)} "
                    "such rows); scale it, or use what `hidvae batch embed` writes"
                )


def _resolve(
    folders: Mapping[str, StageFolder],
    encoded: Path,
    output: Path,
    shards: Sequence[str],
    made_with: Mapping[str, Any],
) -> int:
    """Write the IDs of all shards, no two alike; the number of items that shared one before."""
    frames = [read_shard(encoded / shard) for shard in shards]
    whole = pl.concat(frames)
    repeated = whole.filter(pl.col(Columns.ITEM).is_duplicated())
    if repeated.height:
        raise DataError(
            f"{encoded.parent}: expected each item once over all shards; found item_id "
            f"{repeated[Columns.ITEM][0]!r} more than once; keep one of its rows"
        )
    model = load_tokenizer(folders["tokenizer"], folders["tags"])
    latents, codes = whole[_LATENT].to_numpy(), whole[_CODES].to_numpy()
    ids = unique_ids(model, folders["tokenizer"], whole[Columns.ITEM].to_list(), latents, codes)
    table = pl.DataFrame(
        {
            Columns.ITEM: whole[Columns.ITEM],
            "codes": list_column(ids.codes),
            "tag_ids": list_column(ids.tag_ids),
            "tag_confidence": list_column(ids.tag_confidence),
        }
    )
    start = 0
    for shard, frame in zip(shards, frames, strict=True):
        rows = table.slice(start, frame.height)
        record = {"made_from": {"job": "tokenize", **made_with}, "counts": {"rows": rows.height}}
        write_shard(rows, output / shard, record)
        start += frame.height
    num_colliding = sum(len(group) for group in colliding_groups(codes))
    logger.info("%d of %d items shared an ID before; none do now", num_colliding, len(codes))
    return num_colliding
