"""Train the tokenizer: ``python train_hidvae.py configs/h_rqvae_amazon.gin``."""

import sys

from hidvae.apps.entry_points import train_hidvae

if __name__ == "__main__":
    sys.exit(train_hidvae())
