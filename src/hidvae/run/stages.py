"""The stages of a run, in order: the one place that tells the graph.

What a stage does is written in its own module, which is imported when the stage's turn comes: to
prepare tables takes no torch. ``Run.make`` runs those that are missing or out of date.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from hidvae.data.prepare import prepare, raw_inputs
from hidvae.store.stage import Stage


def _later(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is imported when the function is first called."""

    def call(*args: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args)

    call.__name__, call.__qualname__, call.__module__ = name, name, module
    return call


_LEARNED_FROM = ("dataset", "embeddings", "tags")

STAGES = (
    Stage(
        "dataset",
        command="prepare",
        needs=(),
        settings=lambda config: asdict(config.dataset),
        inputs=raw_inputs,
        fit=prepare,
    ),
    Stage(
        "embeddings",
        command="embed",
        needs=("dataset",),
        settings=lambda config: asdict(config.embedding),
        inputs=_later("hidvae.features.embed", "embed_inputs"),
        fit=_later("hidvae.features.embed", "embed"),
    ),
    Stage(
        "likeness",
        command="embed",
        needs=("dataset", "embeddings"),
        settings=_later("hidvae.likeness.train_likeness", "likeness_settings"),
        is_seeded=True,
        is_parallel=True,
        fit=_later("hidvae.likeness.train_likeness", "train_likeness"),
    ),
    Stage(
        "tags",
        command="tag",
        needs=("dataset", "embeddings"),
        settings=_later("hidvae.features.tags.tag", "tag_settings"),
        fit=_later("hidvae.features.tags.tag", "tag"),
    ),
    Stage(
        "tokenizer",
        command="tokenize",
        needs=_LEARNED_FROM,
        settings=lambda config: asdict(config.tokenizer),
        is_seeded=True,
        is_parallel=True,
        fit=_later("hidvae.tokenizer.train_tokenizer", "train_tokenizer"),
    ),
    Stage(
        "semantic_ids",
        command="tokenize",
        needs=("tokenizer", *_LEARNED_FROM),
        settings=lambda config: asdict(config.tokenizer),
        inputs=_later("hidvae.tokenizer.encode", "ids_file_inputs"),
        fit=_later("hidvae.tokenizer.encode", "encode_catalogue"),
    ),
    Stage(
        "retriever",
        command="train",
        needs=(*_LEARNED_FROM, "semantic_ids"),
        settings=lambda config: asdict(config.retriever),
        is_seeded=True,
        is_parallel=True,
        fit=_later("hidvae.retriever.train_retriever", "train_retriever"),
    ),
    Stage(
        "graph",
        command="train",
        needs=(*_LEARNED_FROM, "likeness", "semantic_ids", "retriever"),
        settings=lambda config: asdict(config.graph),
        is_seeded=True,
        fit=_later("hidvae.ranking.graph_weight", "choose_graph_weight"),
    ),
    Stage(
        "reranker",
        command="train",
        needs=(*_LEARNED_FROM, "likeness", "semantic_ids", "retriever", "graph"),
        settings=lambda config: asdict(config.reranker),
        is_seeded=True,
        fit=_later("hidvae.ranking.train_reranker", "train_reranker"),
    ),
    Stage(
        "evaluation",
        command="evaluate",
        needs=(
            *_LEARNED_FROM,
            "likeness",
            "tokenizer",
            "semantic_ids",
            "retriever",
            "graph",
            "reranker",
        ),
        settings=_later("hidvae.evaluation.evaluate_run", "evaluation_settings"),
        is_seeded=True,
        fit=_later("hidvae.evaluation.evaluate_run", "evaluate_run"),
    ),
)
STAGE_OF = {stage.name: stage for stage in STAGES}
"""Stage by name."""
COMMANDS = tuple(dict.fromkeys(stage.command for stage in STAGES))
"""``hidvae`` commands that make stages, in order."""
SERVED_FROM = (*STAGE_OF["reranker"].needs, "reranker")
"""Stages that recommending reads; the tokenizer only when items are added."""
