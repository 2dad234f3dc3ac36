"""``hidvae export``: a folder with the program, the items' names, a model card, perhaps the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from hidvae.apps.export.card import CardFacts, model_card
from hidvae.apps.export.program import LONGEST_HISTORY, build_program
from hidvae.apps.export.run_copy import copy_run
from hidvae.data.given import whole_number
from hidvae.errors import ConfigError
from hidvae.ranking.explain import Explainer
from hidvae.ranking.recommender import Recommender
from hidvae.run.run import Run
from hidvae.run.stages import SERVED_FROM
from hidvae.store.artifacts import MANIFEST, StageFolder, read_json, read_stage, write_stage

PROGRAM = "program.pt2"
ITEMS = "items.json"
CARD = "README.md"
_STAGE = "export"


def export_run(
    run: Path | str,
    output: Path | str,
    *,
    k: int = 10,
    longest_history: int = LONGEST_HISTORY,
    license_name: str = "other",
    with_run: bool = False,
) -> StageFolder:
    """Write a trained run as a folder that others can use without this package.

    Args:
        run: Folder of a trained run.
        output: Folder to write, as a whole or not at all; an older export is replaced.
        k: Length of the lists that the program gives.
        longest_history: Most items of a history that the program takes.
        license_name: Of the model, for the card, as the Hugging Face Hub names licences.
        with_run: Add what ``Recommender.load`` needs, without the users' histories.

    Raises:
        ConfigError: If ``output`` holds something else, a number is out of range, or a run with
            changed items is to be added.
        NotTrainedError: If the run is not trained.
        ArtifactError: If the run is damaged, or the folder cannot be written.
    """
    output = Path(output)
    k, longest_history = whole_number(k, "k"), whole_number(longest_history, "longest_history")
    _check_replaceable(output)
    opened = Run(run, device="cpu")
    run, recommender = opened.path, opened.recommender
    if with_run and recommender.version:
        raise ConfigError(
            "--with-run: expected a run whose items were not changed since training; found "
            f"changes in {run}, and a copy would need the users' histories; leave out --with-run"
        )
    folders = opened.folders(SERVED_FROM)
    settings = {
        "top_k": k,
        "longest_history": longest_history,
        "beam_width": max(recommender.beam_width, k),
        "license": license_name,
        "with_run": with_run,
    }
    inputs = {name: folder.fingerprint for name, folder in folders.items()}
    evaluation = opened.metrics if opened.has("evaluation") else None
    with write_stage(output, stage=_STAGE, config=settings, inputs=inputs) as stage:
        torch.export.save(build_program(recommender, k, longest_history), stage.path / PROGRAM)
        rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in items_table(recommender))
        (stage.path / ITEMS).write_text(f"[\n{rows}\n]\n", encoding="utf-8")
        if with_run:
            copy_run(folders, stage.path)
        facts = CardFacts(
            folders=folders,
            evaluation=evaluation,
            num_items=int(recommender.allowed.sum()),
            version=recommender.version,
            settings=settings,
        )
        (stage.path / CARD).write_text(model_card(facts), encoding="utf-8")
        stage.facts["item_changes"] = recommender.version
    return read_stage(output, produced_by="hidvae export")


def items_table(recommender: Recommender) -> list[dict[str, Any]]:
    """What to show for each item; the place in the list is its item_index."""
    catalogue, ids = recommender.catalogue, recommender.semantic_ids
    explainer = Explainer(catalogue, ids, recommender.tags)
    return [
        {
            "item_id": item_id,
            "title": title,
            "codes": ids.strings(item),
            "tag_path": list(explainer.tag_path(item)[0]),
        }
        for item, (item_id, title) in enumerate(
            zip(catalogue.item_ids, catalogue.titles, strict=True)
        )
    ]


def _check_replaceable(output: Path) -> None:
    """Never delete what is not an export."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if (output / MANIFEST).is_file() and read_json(output / MANIFEST).get("stage") == _STAGE:
        return
    raise ConfigError(
        f"--output {output}: expected a new folder or an older export; found something else; "
        "choose another folder"
    )
