"""Stage tag: one tag per level for every item, who said so, and a vector for every tag."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from hidvae.config import Config, EmbeddingConfig, LLMConfig, TagConfig
from hidvae.data.notes import count_of
from hidvae.errors import ConfigError
from hidvae.features.tags.from_categories import has_categories, tags_from_categories
from hidvae.features.tags.from_clusters import NoClusters, tags_from_clusters
from hidvae.features.tags.from_llm import Candidates, fill_with_llm, preview_prompts
from hidvae.features.tags.from_neighbours import fill_from_neighbours
from hidvae.features.tags.items_to_tag import ItemsToTag
from hidvae.features.tags.llm_client import ChatModel, open_chat
from hidvae.features.tags.name_clusters import name_clusters
from hidvae.features.tags.vocabulary import SOURCES, ItemTags, TagVocabulary, save_tags
from hidvae.features.text_vectors import text_vectors
from hidvae.features.unit_rows import unit_rows
from hidvae.store.artifacts import StageWriter

if TYPE_CHECKING:
    from hidvae.run.run import Run

logger = logging.getLogger(__name__)

Metrics = dict[str, Any]

CLUSTER_SEED = 0
"""Of the clustering, whose result is judged by reading it."""
_LLM_SETTINGS = ("model", "base_url", "items_per_request")
"""Those that change the tags; concurrency does not."""


def tag(run: Run, config: Config, stage: StageWriter) -> None:
    """Write the stage ``tags``.

    ``tags.parquet`` (item_id, tag_ids, tag_sources), ``vocabulary.parquet`` (level, tag_id, tag,
    path, parent_id, count) and ``tag_embeddings.safetensors`` (``level_0`` (C_0, D_tag), …). The
    facts are ``source``, ``num_levels``, ``sizes``, ``embedding_dim`` and ``text_encoder``; the
    metrics, per level, are those of ``tag_metrics``, and what a language model was asked. With
    source "none" every tag is -1 and every level empty. A stage that was stopped gives the same
    folder when it is run again; answers of a language model are not asked for twice.

    Raises:
        ConfigError: If the settings do not go together.
        DataError: If category paths are missing that the configuration asks for.
        MissingExtraError: If the text encoder's or the language model's package is missing.
    """
    settings, embedding = config.tags, config.embedding
    _check_settings(settings, embedding)
    items = ItemsToTag.of(run, embedding)
    chosen = _with_source(settings, items)
    if chosen.source != settings.source and chosen.source == "clusters":
        stage.decide(
            "no category paths that tell the items apart: the tags are clusters of their content",
            "TagConfig.source=none",
        )
    num_levels = config.tokenizer.num_levels
    try:
        with _open_chat(chosen, config.llm) as chat:
            tags, reports = _make_tags(chosen, config.llm, items, chat, num_levels)
    except NoClusters:
        if settings.source == "clusters":
            raise
        chosen = dataclasses.replace(chosen, source="none", fill_missing="none")
        stage.decisions.clear()
        stage.decide(
            f"{count_of(items.num_items, 'item')} without category paths are too few, or too "
            "alike, for clusters: there are no tags",
            "TagConfig.source=clusters",
        )
        tags, reports = _make_tags(chosen, config.llm, items, None, num_levels)
    settings = chosen
    assert tags.sources is not None
    save_tags(tags, items.catalogue.item_ids, stage.path)
    stage.facts["source"] = settings.source
    stage.facts["num_levels"] = tags.vocabulary.num_levels
    stage.facts["sizes"] = tags.vocabulary.sizes
    stage.facts["embedding_dim"] = int(tags.embeddings[0].shape[1])
    is_tagged = settings.source != "none"
    stage.facts["text_encoder"] = items.config.text_encoder if is_tagged else "none"
    stage.metrics["levels"] = tag_metrics(tags.ids, tags.vocabulary, tags.sources)
    stage.metrics.update(reports)
    if settings.source != "none":
        _log_levels(stage.metrics["levels"])
        empty = [str(level) for level, size in enumerate(tags.vocabulary.sizes) if not size]
        if empty:
            why = "items are too few" if settings.source == "clusters" else "no path is so deep"
            stage.decide(
                f"no tags at level {', '.join(empty)} of 0 to {num_levels - 1}: {why}",
                f"TokenizerConfig.num_levels={max(1, num_levels - len(empty))}",
            )


def tag_settings(config: Config) -> dict[str, Any]:
    """The settings that the stage's result depends on; kept in its manifest."""
    encoder = "none" if config.tags.source == "none" else config.embedding.text_encoder
    settings = {
        **dataclasses.asdict(config.tags),
        "num_levels": config.tokenizer.num_levels,
        "text_columns": config.embedding.text_columns,
        "text_encoder": encoder,
    }
    if encoder != "none":
        settings["text_backend"] = config.embedding.text_backend
    if config.tags.uses_llm:
        settings["llm"] = {name: getattr(config.llm, name) for name in _LLM_SETTINGS}
    return settings


def preview_tags(run: Run, config: Config, num_items: int = 3) -> str:
    """The prompts that the stage would send, without sending any or writing anything.

    Args:
        run: Its stages dataset and embeddings are there.
        config: With TagConfig.fill_missing = "llm".
        num_items: Most items whose prompts are shown.

    Raises:
        ConfigError: If no tag would be filled by a language model.
    """
    settings = config.tags
    _check_settings(settings, config.embedding)
    if settings.fill_missing != "llm":
        raise ConfigError(
            "TagConfig.fill_missing: expected llm to show its prompts; found "
            f"{settings.fill_missing!r}; use --set TagConfig.fill_missing=llm"
        )
    items = ItemsToTag.of(run, config.embedding)
    settings = _with_source(settings, items)
    ids, vocabulary = tags_from_source(settings, items, config.tokenizer.num_levels)
    vectors = tag_vectors(ids, vocabulary, items)
    candidates = Candidates(vocabulary, items.texts, items.text_vectors, vectors)
    return str(preview_prompts(ids, candidates, config.llm, num_items))


def tags_from_source(
    config: TagConfig, items: ItemsToTag, num_levels: int
) -> tuple[np.ndarray, TagVocabulary]:
    """The tags before missing ones are filled: (N, L) ids, -1 unknown, and the vocabulary.

    Raises:
        DataError: If category paths are missing that the configuration asks for, or items cannot
            be clustered.
    """
    if config.source == "none":
        ids = np.full((items.num_items, num_levels), -1, np.int64)
        return ids, TagVocabulary.empty(num_levels)
    if config.source == "clusters":
        return tags_from_clusters(
            items.similarity_vectors,
            items.words,
            num_clusters=one_per_level(config.num_clusters, num_levels),
            seed=CLUSTER_SEED,
            min_count=config.min_count,
        )
    return tags_from_categories(
        items.catalogue,
        num_levels=num_levels,
        depths=config.depths,
        min_count=config.min_count,
    )


def tag_metrics(ids: np.ndarray, vocabulary: TagVocabulary, sources: np.ndarray) -> list[Metrics]:
    """How informative the tags of each level are, and where they come from.

    Args:
        ids: (N, L), -1 unknown.
        vocabulary: L levels.
        sources: (N, L), index into ``SOURCES``.

    Returns:
        Per level: ``coverage``, the share of items with a tag; ``coverage_before``, the same before
        missing tags were filled; ``sources``, tags by who said so; ``classes``; ``singletons``,
        classes of one item; ``majority_share``, the share of the largest class among items with a
        tag (the accuracy of always guessing it), 0 where there is none.
    """
    num_items = max(len(ids), 1)
    metrics = []
    for level, counts in enumerate(vocabulary.counts):
        num_tagged = int((ids[:, level] >= 0).sum())
        by_source = np.bincount(sources[:, level], minlength=len(SOURCES)).tolist()
        said = {name: n for name, n in zip(SOURCES, by_source, strict=True) if name and n}
        num_filled = said.get("neighbours", 0) + said.get("llm", 0)
        metrics.append(
            {
                "coverage": num_tagged / num_items,
                "coverage_before": (num_tagged - num_filled) / num_items,
                "sources": said,
                "classes": len(counts),
                "singletons": int((counts == 1).sum()),
                "majority_share": float(counts.max(initial=0)) / max(num_tagged, 1),
            }
        )
    return metrics


def tag_vectors(ids: np.ndarray, vocabulary: TagVocabulary, items: ItemsToTag) -> list[np.ndarray]:
    """Vectors of every level's tags, (C_l, D_tag) float32 each; D_tag is 0 without any tag.

    They are the text vectors of the tags' paths. Without a text encoder a tag is the mean of its
    items' embeddings, scaled to length 1.
    """
    if not sum(vocabulary.sizes):
        return [np.zeros((0, 0), np.float32) for _ in vocabulary.paths]
    if items.config.text_encoder == "none":
        return [
            _mean_vectors(items.real_parts, column, size)
            for column, size in zip(ids.T, vocabulary.sizes, strict=True)
        ]
    all_paths = [path for paths in vocabulary.paths for path in paths]
    vectors = text_vectors(all_paths, items.config)
    return np.split(vectors, np.cumsum(vocabulary.sizes)[:-1])


def _make_tags(
    config: TagConfig,
    llm: LLMConfig,
    items: ItemsToTag,
    chat: ChatModel | None,
    num_levels: int,
) -> tuple[ItemTags, Metrics]:
    """The tags from the source, filled and with vectors, and the reports of a language model."""
    reports: Metrics = {}
    ids, vocabulary = tags_from_source(config, items, num_levels)
    first_source = SOURCES.index("cluster" if config.source == "clusters" else "category")
    sources = np.where(ids >= 0, first_source, 0).astype(np.int8)
    if chat is not None and config.source == "clusters" and config.cluster_names == "llm":
        vocabulary, report = name_clusters(vocabulary, ids, items.texts, llm, chat)
        reports["llm_names"] = report.as_dict()
    vectors = tag_vectors(ids, vocabulary, items)
    if config.fill_missing != "none":
        if config.fill_missing == "neighbours":
            filled, agreement = fill_from_neighbours(
                ids,
                vocabulary,
                items.similarity_vectors,
                min_agreement=config.min_agreement,
            )
            reports["neighbours_agreement"] = _mean_by_level(agreement)
        else:
            assert chat is not None
            candidates = Candidates(vocabulary, items.texts, items.text_vectors, vectors)
            filled, report = fill_with_llm(ids, candidates, llm, chat)
            reports["llm"] = report.as_dict()
        sources[(ids < 0) & (filled >= 0)] = SOURCES.index(config.fill_missing)
        ids = filled
        vocabulary = vocabulary.recounted(ids)
    return ItemTags(ids, vocabulary, vectors, sources), reports


@contextlib.contextmanager
def _open_chat(config: TagConfig, llm: LLMConfig) -> Iterator[ChatModel | None]:
    """The language model if the settings use one."""
    if not config.uses_llm:
        yield None
        return
    with open_chat(llm) as chat:
        yield chat


def _with_source(config: TagConfig, items: ItemsToTag) -> TagConfig:
    """With ``auto`` settled: categories if most items have a path, else clusters."""
    if config.source != "auto":
        return config
    if has_categories(items.catalogue):
        return dataclasses.replace(config, source="categories")
    return dataclasses.replace(config, source="clusters")


def one_per_level(num_clusters: Sequence[int], num_levels: int) -> tuple[int, ...]:
    """The last number holds for all further levels."""
    more = (num_clusters[-1],) * (num_levels - len(num_clusters))
    return (*num_clusters, *more)[:num_levels]


def _check_settings(config: TagConfig, embedding: EmbeddingConfig) -> None:
    if config.source == "none" and config.fill_missing != "none":
        raise ConfigError(
            "TagConfig.fill_missing: expected none with TagConfig.source=none, which has no tags "
            f"to choose from; found {config.fill_missing!r}; set TagConfig.source=clusters (or "
            "categories), or TagConfig.fill_missing=none"
        )
    if config.fill_missing == "llm" and embedding.text_encoder == "none":
        raise ConfigError(
            "EmbeddingConfig.text_encoder: expected an encoder, which finds the language model's "
            "candidates (TagConfig.fill_missing=llm); found 'none'; set it to hashing "
            "(or a model), or set TagConfig.fill_missing=neighbours"
        )


def _mean_vectors(vectors: np.ndarray, tag_ids: np.ndarray, num_tags: int) -> np.ndarray:
    """Mean vector of each tag's items, scaled to length 1: (C, D) float32."""
    rows = np.flatnonzero(tag_ids >= 0)
    ones = np.ones(len(rows), np.float32)
    members = sp.csr_array((ones, (tag_ids[rows], rows)), shape=(num_tags, len(vectors)))
    sums: np.ndarray = members @ vectors
    return unit_rows(sums, out=sums)


def _mean_by_level(agreement: np.ndarray) -> list[float | None]:
    filled = [column[np.isfinite(column)] for column in agreement.T]
    return [float(column.mean()) if len(column) else None for column in filled]


def _log_levels(levels: list[Metrics]) -> None:
    for level, found in enumerate(levels):
        described = (
            f"tag level {level}: {found['classes']} classes ({found['singletons']} of one item), "
            f"coverage {found['coverage']:.1%}, largest class {found['majority_share']:.1%}"
        )
        if found["coverage"] > found["coverage_before"]:
            described += (
                f" (coverage {found['coverage_before']:.1%} before missing tags were filled)"
            )
        if found["classes"] < 2:
            logger.warning("%s; it does not distinguish any items", described)
        elif found["coverage"] < 0.5 or found["singletons"] > found["classes"] / 2:
            logger.warning("%s; consider fewer levels or TagConfig.min_count", described)
        else:
            logger.info("%s", described)
