"""Items added, changed or removed after training: what they are, and how they are kept.

All changes since the training are one value, ``ItemChanges``, and one stage folder,
``item_changes``, which each further change replaces as a whole. ``RunItems.changed`` applies them
to what the stages of the run wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy import sparse

from hidvae.data.catalogue import Catalogue
from hidvae.errors import ArtifactError, FingerprintMismatch
from hidvae.features.csr import csr_from_tensors, csr_to_tensors
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import (
    MANIFEST,
    StageFolder,
    read_json,
    read_stage,
    write_json,
    write_stage,
)
from hidvae.store.files import settled

FOLDER = "item_changes"
_ITEMS, _FEATURES, _REMOVED = "items.parquet", "features.safetensors", "removed.json"
_PRODUCED_BY = "hidvae add-items"


@dataclass(frozen=True, eq=False)
class RunItems:
    """All that is known of N items, row = item_index."""

    catalogue: Catalogue
    vectors: npt.NDArray[np.float32]
    """(N, D) item embeddings."""
    tfidf: sparse.csr_array
    """(N, V) word vectors."""
    tag_ids: npt.NDArray[np.int64]
    """(N, L) tags of the catalogue, -1 where unknown."""
    ids: SemanticIds
    is_known: npt.NDArray[np.bool_]
    """(N,) whether an item occurs in training."""
    is_removed: npt.NDArray[np.bool_]
    """(N,) whether it may not be recommended any more; histories may still hold it."""

    def changed(self, changes: ItemChanges) -> RunItems:
        """With some rows replaced and others added at the end."""
        rows = self.rows_of(changes.items.catalogue.item_ids)
        num_old, new = self.catalogue.num_items, changes.items
        source = np.arange(max(num_old, int(rows.max(initial=-1)) + 1))
        source[rows] = num_old + np.arange(len(rows))  # of the rows one below the other
        frame = pl.concat([self.catalogue.frame, new.catalogue.frame], how="diagonal")
        catalogue = Catalogue(frame[source])
        is_known = np.zeros(len(source), dtype=bool)
        is_known[:num_old] = self.is_known
        is_removed = np.zeros(len(source), dtype=bool)
        is_removed[catalogue.index_of(changes.removed)] = True
        return RunItems(
            catalogue,
            np.concatenate([self.vectors, new.vectors])[source],
            sparse.vstack([self.tfidf, new.tfidf], format="csr")[source],
            np.concatenate([self.tag_ids, new.tag_ids])[source],
            SemanticIds(
                catalogue.item_ids,
                np.concatenate([self.ids.codes, new.ids.codes])[source],
                self.ids.level_sizes,
                np.concatenate([self.ids.tag_ids, new.ids.tag_ids])[source],
                np.concatenate([self.ids.tag_confidence, new.ids.tag_confidence])[source],
                self.ids.is_disambiguated,
            ),
            is_known,
            is_removed,
        )

    def rows_of(self, item_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Row of each item; those that are not there yet come after the last, in their order."""
        known = self.catalogue.positions
        rows, last = [], self.catalogue.num_items
        for item_id in item_ids:
            rows.append(known.get(item_id, last))
            last += item_id not in known
        return np.array(rows, dtype=np.int64)

    def take(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> RunItems:
        """Some of the items."""
        index = np.asarray(rows, dtype=np.int64)
        catalogue = Catalogue(self.catalogue.frame[index])
        ids = self.ids
        return RunItems(
            catalogue,
            self.vectors[index],
            self.tfidf[index],
            self.tag_ids[index],
            SemanticIds(
                catalogue.item_ids,
                ids.codes[index],
                ids.level_sizes,
                ids.tag_ids[index],
                ids.tag_confidence[index],
                ids.is_disambiguated,
            ),
            self.is_known[index],
            self.is_removed[index],
        )


@dataclass(frozen=True, eq=False)
class ItemChanges:
    """What differs from the catalogue that a run was trained with."""

    version: int
    """0 for no change; one more with each."""
    items: RunItems
    """n items that were added or changed, as they are now."""
    removed: tuple[str, ...] = ()
    """Items that may not be recommended."""
    latest: tuple[str, ...] = ()
    """Items that the last change added or changed; unknown of changes that were read."""

    @classmethod
    def none(cls, items: RunItems) -> Self:
        """No change to a run's items."""
        return cls(0, items.take([]))

    def with_items(self, items: RunItems) -> ItemChanges:
        """Further items, or the same ones anew, which keep their place."""
        new = set(items.catalogue.item_ids)
        return ItemChanges(
            self.version + 1,
            self.items.changed(ItemChanges(0, items)),
            tuple(name for name in self.removed if name not in new),
            tuple(items.catalogue.item_ids),
        )

    def without(self, item_ids: Sequence[str]) -> ItemChanges:
        """Further items removed."""
        removed = tuple(dict.fromkeys([*self.removed, *item_ids]))
        return replace(self, version=self.version + 1, removed=removed, latest=())


def write_changes(
    changes: ItemChanges, run: Path, inputs: Mapping[str, str], replaces: int
) -> StageFolder:
    """Write the stage folder ``item_changes`` of a run in place of the one before.

    Args:
        changes: All of them.
        run: The run's folder.
        inputs: Fingerprints of the run's folders that they were made with.
        replaces: Version that must be there.

    Raises:
        ArtifactError: If another process has written a version since.
    """
    path = run / FOLDER
    with FileLock(str(run / f".{FOLDER}.lock")):
        found = version_on_disk(run)
        if found != replaces:
            raise ArtifactError(
                f"{path}: expected version {replaces}, which these changes are based on; found "
                f"{found}, written in the meantime; load the run again and repeat the change"
            )
        with write_stage(path, stage=FOLDER, config={}, inputs=inputs) as stage:
            items = changes.items
            items.catalogue.frame.write_parquet(stage.path / _ITEMS)
            tensors: dict[str, npt.NDArray[Any]] = {
                "vectors": items.vectors,
                "tag_ids": items.tag_ids,
                "codes": items.ids.codes,
                "predicted_tags": items.ids.tag_ids,
                "tag_confidence": items.ids.tag_confidence,
                **csr_to_tensors("tfidf", items.tfidf),
            }
            tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
            save_file(tensors, stage.path / _FEATURES)
            write_json(stage.path / _REMOVED, list(changes.removed))
            stage.facts |= {
                "version": changes.version,
                "num_changed": items.catalogue.num_items,
                "num_removed": len(changes.removed),
                "num_terms": items.tfidf.shape[1],
            }
    return read_stage(path, produced_by=_PRODUCED_BY)


def version_on_disk(run: Path) -> int:
    """Version of a run's changes; 0 where there are none."""
    manifest = settled(run / FOLDER) / MANIFEST
    return int(read_json(manifest)["facts"]["version"]) if manifest.is_file() else 0


def changes_fingerprint(run: Path) -> str:
    """Fingerprint of a run's changes, "none" where there are none.

    Raises:
        ArtifactError: If the folder is damaged.
    """
    if version_on_disk(run) == 0:
        return "none"
    return read_stage(run / FOLDER, produced_by=_PRODUCED_BY).fingerprint


def read_changes(run: Path, items: RunItems, inputs: Mapping[str, str]) -> ItemChanges:
    """The changes of a run.

    Args:
        run: Its folder.
        items: As its stages wrote them.
        inputs: Fingerprints of these stages.

    Raises:
        FingerprintMismatch: If the run was trained again since.
        ArtifactError: If the folder is damaged.
    """
    if not (settled(run / FOLDER) / MANIFEST).is_file():
        return ItemChanges.none(items)
    try:
        folder = read_stage(run / FOLDER, produced_by=_PRODUCED_BY, expect=inputs)
    except FingerprintMismatch as error:
        raise FingerprintMismatch(
            f"{run / FOLDER} holds items that were added before {run} was trained again; move it "
            f"away, and give its {_ITEMS} to `{_PRODUCED_BY}` if the new tables lack them"
        ) from error
    try:
        frame = pl.read_parquet(folder.path / _ITEMS, glob=False)
        tensors = load_file(folder.path / _FEATURES)
        shape = (frame.height, int(folder.facts["num_terms"]))
        catalogue = Catalogue(frame)
        changed = RunItems(
            catalogue,
            tensors["vectors"],
            csr_from_tensors("tfidf", tensors, shape),
            tensors["tag_ids"],
            SemanticIds(
                catalogue.item_ids,
                tensors["codes"],
                items.ids.level_sizes,
                tensors["predicted_tags"],
                tensors["tag_confidence"],
                items.ids.is_disambiguated,
            ),
            np.zeros(frame.height, dtype=bool),
            np.zeros(frame.height, dtype=bool),
        )
        removed = tuple(read_json(folder.path / _REMOVED))
    except (pl.exceptions.PolarsError, SafetensorError, OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{folder.path}: cannot be read ({' '.join(str(error).split())[:200]}); delete it to "
            "return to the catalogue as trained, or restore it from a copy"
        ) from error
    return ItemChanges(int(folder.facts["version"]), changed, removed)
