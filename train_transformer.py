"""Train the retriever: ``python train_transformer.py configs/decoder_amazon.gin``."""

import sys

from hidvae.apps.entry_points import train_transformer

if __name__ == "__main__":
    sys.exit(train_transformer())
