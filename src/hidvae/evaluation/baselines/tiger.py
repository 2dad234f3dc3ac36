"""TIGER: semantic IDs of text alone by a plain RQ-VAE, and an encoder-decoder over their codes.

Source: TIGER (arXiv:2305.05065). It runs through the stages of this package, with its own settings:
no tags, no uniqueness loss, no transitions in the item embeddings; a further code parts items that
share an ID; probabilities are normalised over whole codebooks. Differs, so that it trains in
reasonable time: 3 + 3 layers with learned positions (published: 4 + 4 layers, 6 heads of 64, T5's
relative positions), a one-cycle learning rate and far fewer steps (published: 200,000 of 256
pairs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from hidvae.config import RetrieverConfig, RunConfig, TokenizerConfig
from hidvae.evaluation.baselines.trained import make_or_skip
from hidvae.features.embeddings import load_embeddings, write_content
from hidvae.ranking.ranker import GenerativeRanker
from hidvae.retriever.build import load_retriever
from hidvae.retriever.train_retriever import train_retriever
from hidvae.semantic_ids.table import SemanticIds
from hidvae.store.artifacts import StageFolder
from hidvae.tokenizer.encode import encode_catalogue
from hidvae.tokenizer.train_tokenizer import train_tokenizer
from hidvae.training.runtime import start_fabric

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


def tiger(run: RunConfig, folders: Mapping[str, StageFolder], output: Path) -> GenerativeRanker:
    """The ranker, trained into four folders below ``output`` unless they are up to date.

    Args:
        run: Seed, device, checkpoints.
        folders: The run's ``dataset``, ``embeddings`` and ``tags``; of the embeddings TIGER is
            given the content alone, of the tags nothing.
        output: Folder to write ``embeddings``, ``tokenizer``, ``semantic_ids`` and ``retriever``
            into.

    Raises:
        ConfigError: If the items have no content.
        DataError: If no training history has two items.
    """
    dataset, tags = folders["dataset"], folders["tags"]
    embeddings = make_or_skip(
        output / "embeddings",
        lambda: write_content(folders["embeddings"], dataset, output / "embeddings"),
        config={},
        inputs={"dataset": dataset, "embeddings": folders["embeddings"]},
        seed=None,
    )
    items = load_embeddings(embeddings)
    settings = replace(TOKENIZER, codebook_size=min(TOKENIZER.codebook_size, items.num_items))
    learned_from = {"dataset": dataset, "embeddings": embeddings, "tags": tags}
    tokenizer = make_or_skip(
        output / "tokenizer",
        lambda: train_tokenizer(settings, run, dataset, embeddings, tags, output / "tokenizer"),
        config=asdict(settings),
        inputs=learned_from,
        seed=run.seed,
    )
    semantic_ids = make_or_skip(
        output / "semantic_ids",
        lambda: encode_catalogue(tokenizer, dataset, embeddings, tags, output / "semantic_ids"),
        config=tokenizer.config,
        inputs={"tokenizer": tokenizer, **learned_from},
        seed=None,
    )
    retriever = make_or_skip(
        output / "retriever",
        lambda: train_retriever(
            RETRIEVER, run, dataset, embeddings, tags, semantic_ids, output / "retriever"
        ),
        config=asdict(RETRIEVER),
        inputs={**learned_from, "semantic_ids": semantic_ids},
        seed=run.seed,
    )
    model = load_retriever(retriever, SemanticIds.load(semantic_ids), items.matrix)
    model = model.to(start_fabric(run).device)
    return GenerativeRanker(model, BEAM_WIDTH, RETRIEVER.max_history, name="tiger")
