"""What torchrun starts in the tests: a run up to stage train, which may die in a training.

    run_in_parts.py OUTPUT STAGE SETTING…

STAGE, tokenizer or retriever, dies in its second epoch after a checkpoint; empty lets it live.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from hidvae.config import load_config
from hidvae.retriever.interface import Retriever
from hidvae.run.run import Run
from hidvae.tokenizer.model import HiDVAE
from hidvae.training import trainer

torch.set_num_threads(1)
output, stage, *settings = sys.argv[1:]
if stage:
    save = trainer.save_checkpoint

    def save_then_die(*args: Any, **keywords: Any) -> None:
        save(*args, **keywords)
        place = keywords["state"]["place"]
        is_it = isinstance(keywords["model"], HiDVAE if stage == "tokenizer" else Retriever)
        if is_it and (place["epoch"], place["step"]) == (1, 1):
            sys.exit(1)

    trainer.save_checkpoint = save_then_die
Run(Path(output)).make(load_config([], settings), until="train")
