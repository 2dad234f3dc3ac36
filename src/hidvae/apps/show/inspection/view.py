"""What ``hidvae inspect`` and ``scripts/view_processed_dataset.py`` call."""

from __future__ import annotations

from pathlib import Path

from hidvae.apps.show.inspection.dataset import describe
from hidvae.apps.show.inspection.dataset_text import dataset_text
from hidvae.apps.show.inspection.html import dataset_page
from hidvae.apps.show.report.page import write_page


def inspect_dataset(place: Path, html: Path | None = None, num_samples: int = 3) -> str:
    """Look at a dataset: as plain text of at most 96 columns, or as a web page with plots.

    Args:
        place: A run, its stage folder ``dataset``, or a folder of raw tables. Nothing is written
            to it.
        html: File to write the page to; it needs nothing beside it and no network.
        num_samples: Users and items to show.

    Returns:
        What to print: the text, or where the page is.

    Raises:
        HidvaeError: If there is no dataset, or it breaks its contract.
        MissingExtraError: If a page is asked for and Plotly is not installed.
        ArtifactError: If the page cannot be written.
    """
    facts = describe(place, num_samples)
    if html is None:
        return dataset_text(facts)
    write_page(dataset_page(facts), html)
    return f"wrote {html}, a page that opens in any browser, offline too"
