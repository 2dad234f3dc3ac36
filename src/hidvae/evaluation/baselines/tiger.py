"""TIGER: semantic IDs of text alone by a plain RQ-VAE, and an encoder-decoder over their codes.

Source: TIGER (arXiv:2305.05065). It runs through the stages of this package, with its own settings:
no tags, no uniqueness loss, no transitions in the item embeddings; a further code parts items that
share an ID; probabilities are normalised over whole codebooks. Differs, so that it trains in
reasonable time: 3 + 3 layers with learned positions (published: 4 + 4 layers, 6 heads of 64, T5's
relative positions), a one-cycle learning rate and far fewer steps (published: 200,000 of 256
pairs).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hidvae.config import Config, RetrieverConfig, TokenizerConfig
from hidvae.features.embeddings import write_content
from hidvae.ranking.ranker import GenerativeRanker

if TYPE_CHECKING:
    from hidvae.run.run import Run

BEAM_WIDTH = 50

TOKENIZER = TokenizerConfig(
    num_levels=3,
    codebook_size=256,
    latent_dim=32,
    hidden_dims=(512, 256, 128),
    normalize_latents=True,
    gradient_mode="rotation",
    tag_alignment_weight=0.0,
    tag_prediction_weight=0.0,
    uniqueness_weight=0.0,
    held_out_fraction=0.0,
    epochs=30,
    batch_size=1024,
    collisions="disambiguate",
)
"""Sizes and collisions as published. Latents of length 1 and the rotation trick use the codes more
evenly (on Amazon Beauty perplexity 205-213 of 256 a level, 83-128 without) and collide less."""

RETRIEVER = RetrieverConfig(
    architecture="encoder_decoder",
    dim=192,
    num_layers=3,
    num_heads=6,
    dropout=0.2,
    max_history=20,
    num_user_buckets=2000,
    prefix_normalized=False,
    order_noise=0.0,
    label_smoothing=0.1,
    weight_average=0.0,
    epochs=45,
    patience=0,
    validate_every=5,
    batch_tokens=8192,
    learning_rate=1e-3,
)
"""A token per user of 2,000 buckets and the latest 20 items, as published. The best of five sizes
on Amazon Beauty's validation (docs/experiments.md): 3 minutes on an H200, hours on two cores."""


def tiger(run: Run, config: Config) -> GenerativeRanker:
    """The ranker, trained in a run of its own below ``run`` unless it is up to date.

    Of the run's embeddings TIGER is given the content alone, of its tags nothing.

    Args:
        run: Its stages ``dataset``, ``embeddings`` and ``tags`` are there.
        config: Seed, device, checkpoints.

    Raises:
        ConfigError: If the items have no content.
        DataError: If no training history has two items.
    """
    own = run.child("baselines/tiger", borrowed=("dataset", "tags"))
    source = run.folder("embeddings")
    content = replace(
        run.stage("embeddings"),
        settings=lambda config: {},
        inputs=lambda own, config: {"embeddings": source.fingerprint},
        fit=lambda own, config, stage: write_content(source, stage),
    )
    config = replace(config, tokenizer=TOKENIZER, retriever=RETRIEVER)
    for stage in (content, *map(run.stage, ("tokenizer", "semantic_ids", "retriever"))):
        own.make_stage(stage, config)
    return GenerativeRanker(own.retriever, BEAM_WIDTH, RETRIEVER.max_history, name="tiger")
