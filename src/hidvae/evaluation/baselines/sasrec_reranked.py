"""SASRec in the generator's place, with all that stands beside ours.

What is left of the difference is the generator itself: a causal transformer over items with one
softmax over all of them, as ours by default, but an item is only a vector of its own, as in SASRec
(arXiv:1808.09781), without content and without the codes of its semantic ID. It is trained with our
settings, and item graph, learned likeness and reranker are chosen and learned for it on validation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hidvae.config import Config
from hidvae.ranking.ranker import GenerativeRanker

if TYPE_CHECKING:
    from hidvae.run.run import Run

NAME = "sasrec_reranked"
_BORROWED = ("dataset", "embeddings", "likeness", "tags", "semantic_ids")
_OWN = ("retriever", "graph", "reranker")


def sasrec_reranked(run: Run, config: Config) -> GenerativeRanker:
    """The ranker, trained in a run of its own below ``run`` unless it is up to date.

    Args:
        run: Its stages before the retriever are there.
        config: Seed, device, checkpoints, and the settings of our generator.

    Raises:
        HidvaeError: Whatever a stage finds wrong.
    """
    own = run.child(f"baselines/{NAME}", borrowed=_BORROWED)
    settings = replace(
        config.retriever,
        architecture="item_softmax",
        code_input=False,
        content_input=False,
        item_input=True,
    )
    config = replace(config, retriever=settings)
    for name in _OWN:
        own.make_stage(run.stage(name), config)
    return GenerativeRanker(
        own.retriever,
        config.evaluation.beam_width,
        settings.max_history,
        name=NAME,
        graph=own.graph,
        reranker=own.reranker,
    )
