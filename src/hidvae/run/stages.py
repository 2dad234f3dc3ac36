"""The stages of a run, in order: the one place that tells the graph.

What a stage does is written in its own module; ``Run.make`` runs those that are missing or out of
date.
"""

from __future__ import annotations

from dataclasses import asdict

from hidvae.data.prepare import prepare, raw_inputs
from hidvae.evaluation.evaluate_run import evaluate_run, evaluation_settings
from hidvae.features.embed import embed, embed_inputs
from hidvae.features.tags.tag import tag, tag_settings
from hidvae.ranking.graph_weight import choose_graph_weight
from hidvae.retriever.train_retriever import train_retriever
from hidvae.store.stage import Stage
from hidvae.tokenizer.encode import encode_catalogue, ids_file_inputs
from hidvae.tokenizer.train_tokenizer import train_tokenizer

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
        inputs=embed_inputs,
        fit=embed,
    ),
    Stage(
        "tags",
        command="tag",
        needs=("dataset", "embeddings"),
        settings=tag_settings,
        fit=tag,
    ),
    Stage(
        "tokenizer",
        command="tokenize",
        needs=_LEARNED_FROM,
        settings=lambda config: asdict(config.tokenizer),
        is_seeded=True,
        is_parallel=True,
        fit=train_tokenizer,
    ),
    Stage(
        "semantic_ids",
        command="tokenize",
        needs=("tokenizer", *_LEARNED_FROM),
        settings=lambda config: asdict(config.tokenizer),
        inputs=ids_file_inputs,
        fit=encode_catalogue,
    ),
    Stage(
        "retriever",
        command="train",
        needs=(*_LEARNED_FROM, "semantic_ids"),
        settings=lambda config: asdict(config.retriever),
        is_seeded=True,
        is_parallel=True,
        fit=train_retriever,
    ),
    Stage(
        "graph",
        command="train",
        needs=(*_LEARNED_FROM, "semantic_ids", "retriever"),
        settings=lambda config: asdict(config.graph),
        is_seeded=True,
        fit=choose_graph_weight,
    ),
    Stage(
        "evaluation",
        command="evaluate",
        needs=(*_LEARNED_FROM, "tokenizer", "semantic_ids", "retriever", "graph"),
        settings=lambda config: evaluation_settings(config.evaluation, config.sasrec),
        is_seeded=True,
        fit=evaluate_run,
    ),
)
STAGE_OF = {stage.name: stage for stage in STAGES}
"""Stage by name."""
COMMANDS = tuple(dict.fromkeys(stage.command for stage in STAGES))
"""``hidvae`` commands that make stages, in order."""
SERVED_FROM = (*STAGE_OF["graph"].needs, "graph")
"""Stages that recommending reads; the tokenizer only when items are added."""
