"""Look at a dataset: ``python scripts/view_processed_dataset.py RUN|FOLDER``."""

import sys

from hidvae.apps.entry_points import view_processed_dataset

if __name__ == "__main__":
    sys.exit(view_processed_dataset())
