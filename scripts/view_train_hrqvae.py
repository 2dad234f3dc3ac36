"""Look at a tokenizer's training: ``python scripts/view_train_hrqvae.py CONFIG``."""

import sys

from hidvae.apps.entry_points import view_train_hrqvae

if __name__ == "__main__":
    sys.exit(view_train_hrqvae())
