"""What ``hidvae inspect`` and the two ``scripts/view_*.py`` show."""

from __future__ import annotations

from pathlib import Path

from hidvae.apps.show.dataset_text import dataset_text
from hidvae.apps.show.describe_dataset import describe
from hidvae.apps.show.formats import number
from hidvae.apps.show.training_log import read_log
from hidvae.store.artifacts import read_json


def inspect_dataset(place: Path | str, html: Path | str | None = None, num_samples: int = 3) -> str:
    """Look at a dataset: as plain text of at most 96 columns, or as a web page with plots.

    Args:
        place: A run, its stage folder ``dataset``, a folder of raw tables, or the address of a
            database. Nothing is written to it.
        html: File to write the page to; it needs nothing beside it and no network.
        num_samples: Users and items to show.

    Returns:
        What to print: the text, or where the page is.

    Raises:
        HidvaeError: If there is no dataset, or it breaks its contract.
        ArtifactError: If the page cannot be written.
    """
    facts = describe(place, num_samples)
    if html is None:
        return dataset_text(facts)
    from hidvae.apps.show.dataset_page import dataset_page
    from hidvae.apps.show.page import write_page

    write_page(dataset_page(facts), Path(html))
    return f"wrote {html}, a page that opens in any browser, offline too"


def describe_tokenizer_training(run: Path) -> str:
    """A line per epoch of a run's tokenizer, then the quality of its semantic IDs if they exist.

    A training that has not ended is read from the log beside its checkpoint.

    Raises:
        NotTrainedError: If the run has no tokenizer and none in training.
    """
    from hidvae.evaluation.evaluate_ranker import format_table
    from hidvae.tokenizer.encode import QUALITY

    log = read_log(run, "tokenizer")
    lines = [f"tokenizer of {run} ({log.state})", ""]
    lines.append(format_table({str(row.pop("epoch")): row for row in log.rows.to_dicts()}))
    quality = run / "semantic_ids" / QUALITY
    if quality.is_file() and not log.is_running:
        lines += ["", "semantic IDs"]
        for name, value in read_json(quality).items():
            values = value if isinstance(value, list) else [value]
            lines.append(f"  {name:<26} {' '.join(map(number, values))}")
    return "\n".join(lines)
