"""A copy of a run to give away: what recommending needs, and no user's history."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hidvae.data.prepare import ITEMS_FILE, WITHOUT_LOG_FILE, load_dataset
from hidvae.store.artifacts import (
    MANIFEST,
    StageFolder,
    describe_files,
    fingerprint_of,
    write_json,
)


def copy_run(folders: Mapping[str, StageFolder], output: Path) -> None:
    """Write a folder that ``Recommender.load`` takes.

    The stages are copied as they are, but for the dataset: of the log only which items occur in
    training. Manifests keep the fingerprints of the run, so that
    the stages still match; paths of this machine are left out.

    Args:
        folders: Those that recommending reads.
        output: Folder that is there.
    """
    for name, folder in folders.items():
        if name != "dataset":
            _copy_stage(folder, output / name)
    _copy_dataset(folders["dataset"], output / "dataset")


def _copy_stage(folder: StageFolder, output: Path) -> None:
    output.mkdir()
    for name in (MANIFEST, *folder.manifest["files"]):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder.path / name, output / name)
    if folder.config.get("ids_file"):
        config = {**folder.config, "ids_file": Path(folder.config["ids_file"]).name}
        write_json(output / MANIFEST, {**folder.manifest, "config": config})


def _copy_dataset(folder: StageFolder, output: Path) -> None:
    dataset = load_dataset(folder)
    unknown = np.flatnonzero(~dataset.warm_items).tolist()
    output.mkdir()
    shutil.copyfile(folder.path / ITEMS_FILE, output / ITEMS_FILE)
    write_json(
        output / WITHOUT_LOG_FILE,
        {"unknown_items": [dataset.catalogue.item_ids[item] for item in unknown]},
    )
    config = {**folder.config, "folder": Path(folder.config["folder"]).name}
    facts = {key: value for key, value in folder.facts.items() if key != "folder"}
    files = describe_files(output)
    manifest = {**folder.manifest, "files": files, "config": config, "facts": facts}
    write_json(output / MANIFEST, {**manifest, "fingerprint_of_copy": fingerprint_of(files)})
