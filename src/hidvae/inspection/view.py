"""What ``hidvae inspect`` and ``scripts/view_processed_dataset.py`` call."""

from __future__ import annotations

from pathlib import Path

from hidvae.inspection.dataset import describe
from hidvae.inspection.html import dataset_page
from hidvae.inspection.text import dataset_text
from hidvae.report.page import write_page


def describe_dataset(place: Path, *, num_samples: int = 3, html: Path | None = None) -> str:
    """A dataset as plain text of at most 96 columns, and as a web page if a file is named.

    Args:
        place: A run, its stage folder ``dataset``, or a folder of raw tables. Nothing is written
            to it.
        num_samples: Users and items to show.
        html: File to write the page with plots to; it needs nothing beside it and no network.

    Raises:
        HidvaeError: If there is no dataset, or it breaks its contract.
        MissingExtraError: If a page is asked for and Plotly is not installed.
        ArtifactError: If the page cannot be written.
    """
    facts = describe(place, num_samples)
    if html is not None:
        write_page(dataset_page(facts), html)
    return dataset_text(facts)
