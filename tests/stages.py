"""Single stages on folders of any place, for tests of one stage alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hidvae.config import (
    Config,
    DatasetConfig,
    EmbeddingConfig,
    GraphConfig,
    LLMConfig,
    RetrieverConfig,
    RunConfig,
    SasRecConfig,
    TagConfig,
    TokenizerConfig,
    build_section,
)
from hidvae.data.tables import SourceTables
from hidvae.run.run import Run
from hidvae.run.stages import STAGE_OF
from hidvae.store.artifacts import StageFolder, read_stage, write_stage
from hidvae.store.stage import Stage


def fit_stage(
    stage: Stage | str,
    output: Path,
    config: Config,
    folders: Mapping[str, StageFolder],
    tables: SourceTables | None = None,
) -> StageFolder:
    """Make a stage at ``output``, whatever is there, from the folders that it needs."""
    stage = STAGE_OF[stage] if isinstance(stage, str) else stage
    run = Run(output.parent, config.run.device, borrowed=folders)
    run.tables = tables
    inputs = {name: run.folder(name).fingerprint for name in stage.needs}
    with write_stage(
        output,
        stage=stage.name,
        config=stage.settings(config),
        inputs={**inputs, **stage.inputs(run, config)},
        seed=config.run.seed if stage.is_seeded else None,
    ) as writer:
        stage.fit(run, config, writer)
    return read_stage(output, produced_by=stage.made_by)


def prepare(config: DatasetConfig, output: Path, tables: SourceTables | None = None) -> StageFolder:
    return fit_stage("dataset", output, Config(dataset=config), {}, tables)


def embed(config: EmbeddingConfig, dataset: StageFolder, output: Path) -> StageFolder:
    return fit_stage("embeddings", output, Config(embedding=config), {"dataset": dataset})


def tag(
    config: TagConfig,
    llm: LLMConfig,
    embedding: EmbeddingConfig,
    dataset: StageFolder,
    embeddings: StageFolder,
    output: Path,
    num_levels: int = 3,
) -> StageFolder:
    levels = TokenizerConfig(num_levels=num_levels)
    made = Config(tags=config, llm=llm, embedding=embedding, tokenizer=levels)
    return fit_stage("tags", output, made, {"dataset": dataset, "embeddings": embeddings})


def train_tokenizer(
    config: TokenizerConfig,
    run: RunConfig,
    dataset: StageFolder,
    embeddings: StageFolder,
    tags: StageFolder,
    output: Path,
) -> StageFolder:
    made = Config(tokenizer=config, run=run)
    return fit_stage("tokenizer", output, made, _learned_from(dataset, embeddings, tags))


def encode_catalogue(
    tokenizer: StageFolder,
    dataset: StageFolder,
    embeddings: StageFolder,
    tags: StageFolder,
    output: Path,
) -> StageFolder:
    folders = {"tokenizer": tokenizer, **_learned_from(dataset, embeddings, tags)}
    config = build_section(TokenizerConfig, tokenizer.config)
    made = Config(tokenizer=config)
    return fit_stage("semantic_ids", output, made, folders)


def train_retriever(
    config: RetrieverConfig,
    run: RunConfig,
    dataset: StageFolder,
    embeddings: StageFolder,
    tags: StageFolder,
    semantic_ids: StageFolder,
    output: Path,
) -> StageFolder:
    folders = {**_learned_from(dataset, embeddings, tags), "semantic_ids": semantic_ids}
    return fit_stage("retriever", output, Config(retriever=config, run=run), folders)


def choose_graph_weight(
    config: GraphConfig, run: RunConfig, folders: Mapping[str, StageFolder], output: Path
) -> StageFolder:
    return fit_stage("graph", output, Config(graph=config, run=run), folders)


def train_sasrec(
    config: SasRecConfig,
    run: RunConfig,
    dataset: StageFolder,
    output: Path,
    embeddings: StageFolder | None = None,
) -> StageFolder:
    """``sasrec``, or ``sasrec_content`` where there are embeddings."""
    # And torch: tests of tables need none.
    from hidvae.evaluation.baselines.sasrec import SASREC, SASREC_CONTENT

    made = Config(sasrec=config, run=run)
    if embeddings is None:
        return fit_stage(SASREC, output, made, {"dataset": dataset})
    folders = {"dataset": dataset, "embeddings": embeddings}
    return fit_stage(SASREC_CONTENT, output, made, folders)


def _learned_from(
    dataset: StageFolder, embeddings: StageFolder, tags: StageFolder
) -> dict[str, StageFolder]:
    return {"dataset": dataset, "embeddings": embeddings, "tags": tags}
