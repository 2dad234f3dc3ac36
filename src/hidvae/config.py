"""One frozen dataclass per stage; gin in, JSON out.

A gin file binds the fields by class name, e.g. ``TokenizerConfig.codebook_size = 256``. Unknown
keys and values out of range stop the run and name the nearest known key. This module knows
nothing of the stages: it only holds, checks and stores their settings.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from gin import config_parser
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import ErrorDetails

from hidvae.addresses import PASSWORD_VARIABLE, has_password, hide_passwords, sql_has_password
from hidvae.errors import ConfigError

logger = logging.getLogger(__name__)

MAX_CODEBOOK_SIZE = 65536

GradientMode = Literal["straight_through", "gumbel", "rotation"]

Count = Annotated[int, Field(ge=1)]
NoCount = Annotated[int, Field(ge=0)]  # 0 turns something off, or sets no limit
Levels = Annotated[int, Field(ge=1, le=8)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
HalfAtMost = Annotated[float, Field(ge=0, le=0.5)]

Section = TypeVar("Section")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def _settings(cls: type[Section]) -> type[Section]:
    """Make a frozen dataclass that checks its values and raises ConfigError, one line."""
    checks = ConfigDict(extra="forbid", strict=True)
    checked = pydantic_dataclass(config=checks, frozen=True, kw_only=True)(cls)
    construct = checked.__init__

    @functools.wraps(construct)
    def __init__(self: Any, **values: Any) -> None:
        # JSON and gin write tuples as lists
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            construct(self, **values)
        except ValidationError as error:
            raise ConfigError(_one_line(checked, error.errors()[0])) from None

    checked.__init__ = __init__  # type: ignore[method-assign]
    return cast(type[Section], checked)


def allowed_range(cls: type, name: str) -> str:
    """Which numbers a setting takes, such as "at least 1" or "in [0, 1)"; "" without bounds.

    Of a list, those that each of its entries takes.
    """
    hint = get_type_hints(cls, include_extras=True)[name]
    hints = [hint, *get_args(hint)[:1], *get_args((get_args(hint) or (hint,))[0])[:1]]
    infos = [info for part in hints for info in getattr(part, "__metadata__", ())]
    limits = [limit for info in infos for limit in getattr(info, "metadata", ())]
    bounds: dict[str, Any] = {}
    for limit in limits:
        bounds |= {k: getattr(limit, k) for k in ("ge", "gt", "le", "lt") if hasattr(limit, k)}
    lower, upper = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if lower is None:
        return ""
    if upper is None:
        return f"{'at least' if 'ge' in bounds else 'above'} {lower}"
    return f"in {'[' if 'ge' in bounds else '('}{lower}, {upper}{']' if 'le' in bounds else ')'}"


def _one_line(cls: type, error: ErrorDetails) -> str:
    """What pydantic found wrong, as name, expected, found."""
    name, kind = str(error["loc"][0]), error["type"]
    if kind == "unexpected_keyword_argument":
        return _unknown(f"{cls.__name__}.{name}")
    if kind == "literal_error":
        expected = f"one of {error['ctx']['expected']}"
    elif kind.startswith(("greater_than", "less_than")):
        expected = allowed_range(cls, name)
    else:
        expected = _KINDS.get(kind, error["msg"])
    found = hide_passwords(repr(error["input"]))
    return f"{cls.__name__}.{name}: expected {expected}; found {found}"


_KINDS = {
    "bool_type": "True or False",
    "float_type": "a number",
    "int_type": "a whole number",
    "string_type": "text",
    "string_too_short": "a name",
    "too_short": "one entry or more",
    "tuple_type": "a list",
}
"""pydantic's kinds of errors, in words."""


@_settings
class RunConfig:
    """Settings that all stages share."""

    size: Literal["auto", "small", "base", "large"] = "auto"
    """Chooses other defaults: small for hundreds of items, base, or large for a million items and
    tens of millions of events (docs/large.md); auto goes by the dataset."""
    seed: Seed = 0
    """Seed of all random choices in training; data and embeddings do not depend on it."""
    device: str = "auto"
    """auto, cpu, cuda, or a Fabric accelerator name; auto uses a GPU if there is one."""
    precision: str = "32-true"
    """Fabric precision, e.g. 32-true or bf16-mixed."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """How several processes (torchrun) work: ddp, each holds the whole model; fsdp, each holds a
    part of the retriever's weights, gradients and optimizer state."""
    checkpoint_every_seconds: NotNegative = 60.0
    """Seconds between checkpoints of a training; 0 writes one after every step."""
    loggers: tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...] = ("csv",)
    """Where trainings log their epochs: csv (log.csv, always), tensorboard, wandb, mlflow; each but
    csv needs the extra of its name."""


@_settings
class DatasetConfig:
    """Where items and events come from, and how the log is split (stage prepare)."""

    source: Literal[
        "demo", "folder", "amazon", "amazon-2014", "amazon-2023", "kuairand", "movielens"
    ] = "folder"
    """demo is generated, folder is your own tables, the others are public datasets
    (docs/datasets.md); amazon is P5's archive, as in most papers, the other two are the original
    files."""
    dataset_split: str = ""
    """Amazon category (beauty, sports, toys; for 2014 and 2023 any, such as Video_Games), KuaiRand
    release (pure, 1k, 27k) or MovieLens release (100k, 1m, 10m, 20m, 25m, 32m, latest,
    latest-small); empty for demo and folder."""
    folder: str = ""
    """Folder with the files, or the address of a database; if empty, $HIDVAE_DATA and ./data are
    searched, then files downloaded."""
    strict: bool = False
    """Refuse tables of which anything would be left out or repaired, instead of saying so."""
    column_names: tuple[str, ...] = ()
    """Your column names: "user_id=customer" for each name that differs from ours, with the number
    of the column where there is no header ("user_id=1"), and "categories=department>aisle" for a
    path that stands in several."""
    csv_separator: str = ""
    """What stands between the values of a text table; empty recognises it."""
    csv_quote: Literal["auto", "double", "single", "none"] = "auto"
    """What encloses values that hold a separator; none takes every quotation mark as a letter."""
    csv_encoding: str = ""
    """Encoding of text tables, such as latin-1; empty recognises UTF-8, UTF-16 and Windows-1252."""
    time_format: str = ""
    """How times are written, such as "%d.%m.%Y %H:%M"; empty recognises ISO dates and numbers."""
    category_separator: str = ""
    """What stands between the labels of a category path written as text; empty recognises it."""
    events_where: tuple[str, ...] = ()
    """What a row of the log must fulfil to be an event, such as "rating >= 4" or
    "event_type = purchase"; all of them together."""
    match_ids: Literal["exact", "loose"] = "exact"
    """Whether ids that differ only by .0, leading zeros, case, blanks or Unicode form are the
    same."""
    queries: tuple[str, ...] = ()
    """SQL of the events, then of the items, if the folder is the address of a database."""
    tie_order: Literal["seeded", "file"] = "seeded"
    """Order of a user's events with equal timestamps: drawn at random, or as in the file."""
    repeated_items: Literal["keep", "first", "last"] = "keep"
    """Which events of an item to keep if a user took it more than once: all, the first or the
    last."""
    cold_item_share: HalfAtMost = 0.0
    """Share of the items held out of training and validation, to test cold items
    (docs/recommend.md); 0 splits leave-one-out."""
    min_events: NoCount = 0
    """k-core: repeatedly drop users and items with fewer events than this; 0 keeps all."""
    demo_num_items: Annotated[int, Field(ge=60)] = 600
    """Items of the generated demo catalogue."""
    demo_num_users: Annotated[int, Field(ge=10)] = 1500
    """Users of the generated demo log."""

    def __post_init__(self) -> None:
        pairs = [entry.partition("=") for entry in self.column_names]
        is_mapping = all(ours.strip() and theirs.strip() for ours, _, theirs in pairs)
        _check(is_mapping, self, "column_names", '"our name=your name" in each entry')
        for name, is_secret in (
            ("folder", has_password(self.folder)),
            ("queries", any(map(sql_has_password, self.queries))),
        ):
            if is_secret:  # the settings are stored and shown, so it may not get this far
                raise ConfigError(
                    f"DatasetConfig.{name}: expected no password, as settings are stored; found "
                    f"one (not shown); put it into ${PASSWORD_VARIABLE}, $PGPASSWORD or ~/.pgpass"
                )


@_settings
class EmbeddingConfig:
    """How an item becomes a vector (stage embed)."""

    text_encoder: str = "auto"
    """A sentence-transformers model (name or path), "hashing" (no model), "none", or "auto":
    all-MiniLM-L6-v2, and hashing where that can be neither found nor downloaded, which is said."""
    text_backend: Literal["torch", "torch-bf16", "onnx-int8"] = "torch"
    """What runs the text encoder: torch, torch-bf16 (bfloat16, fast if the hardware supports it) or
    onnx-int8 (quantized weights, extra onnx)."""
    text_columns: tuple[str, ...] = ("title", "keywords", "brand", "price", "description")
    """Columns that form an item's text, if present; the category path is left out on purpose."""
    image_encoder: str = "none"
    """A CLIP-like sentence-transformers model (name or path) for the images, or "none"."""
    cooccurrence_dim: NoCount = 64
    """Width of the spectral embedding of training co-occurrences; 0 leaves it out."""
    cooccurrence_window: Count = 5
    """Two items of a training history count together if at most this many steps lie between
    them."""
    categorical_columns: tuple[str, ...] = ()
    """Columns appended as 0/1 features, which the tokenizer reconstructs with cross-entropy."""
    embeddings_file: str = ""
    """Your own vectors (.npy, .safetensors, .parquet), one row per item, instead of the encoder."""


@_settings
class TagConfig:
    """The tags of an item, one per level, coarse to fine (stage tag)."""

    source: Literal["auto", "categories", "clusters", "none"] = "auto"
    """categories reads the category path; clusters groups items by content, for catalogues without
    paths; auto takes categories if most items have a path, else clusters; none leaves tags unknown
    (plain RQ-VAE)."""
    depths: tuple[int, ...] = ()
    """Depths of the category path that become levels (0 is the root), such as (1, 2, 4); if empty,
    the first at which items differ, as many as the tokenizer has levels."""
    min_count: Count = 1
    """Tags with fewer items than this are merged into one class "Other" per level."""
    fill_missing: Literal["none", "neighbours", "llm"] = "none"
    """What fills in missing tags: nothing, the most similar items, or a language model."""
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the neighbours' votes that a tag needs; with less, it stays unknown."""
    num_clusters: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (
        12,
        8,
        6,
    )
    """Number of clusters at level 0, then the largest number of children per cluster at each level;
    the last number holds for all further levels."""
    cluster_names: Literal["words", "llm"] = "words"
    """What names clusters: their most telling words (c-TF-IDF), or a language model."""

    def __post_init__(self) -> None:
        depths = self.depths
        is_rising = all(a < b for a, b in zip(depths, depths[1:], strict=False))
        _check(is_rising and min(depths, default=0) >= 0, self, "depths", "rising, 0 or more")

    @property
    def uses_llm(self) -> bool:
        """Whether any tag or name comes from a language model."""
        names_clusters = self.source in ("auto", "clusters") and self.cluster_names == "llm"
        return self.fill_missing == "llm" or names_clusters


@_settings
class LLMConfig:
    """The language model that fills in tags and names clusters: any OpenAI-compatible server.

    The key comes from the environment ($OPENAI_API_KEY) and is stored nowhere.
    """

    model: Annotated[str, Field(min_length=1)] = "gemma-3-270m"
    """Name of the model on the server; with base_url "offline", that of the packaged model."""
    base_url: str = "offline"
    """Address of the server; "offline" runs the packaged model here (extra offline-llm), empty uses
    $OPENAI_BASE_URL or the client's default. Put no password in it: the manifest stores it."""
    items_per_request: Count = 1
    """Items per prompt; more is cheaper, and harder for small models."""
    concurrency: Count = 4
    """Requests at the same time."""


@_settings
class TokenizerConfig:
    """The HiD-VAE tokenizer (stage tokenize). Symbols in brackets are the paper's."""

    source: Literal["trained", "file"] = "trained"
    """Train the tokenizer here, or take the semantic IDs of ids_file and train none."""
    ids_file: str = ""
    """Semantic IDs of another tool: index JSON, Parquet, a RecBole .item file, or a folder as
    LC-Rec has it."""
    num_levels: Levels = 3
    """Number of levels [L]."""
    codebook_size: Annotated[int, Field(ge=2, le=MAX_CODEBOOK_SIZE)] = 256
    """Codes per level [K]; at most one for each training item is used."""
    latent_dim: Count = 32
    """Width of the latent and of the codebook vectors [D]."""
    hidden_dims: tuple[Count, ...] = (512, 256, 128)
    """Hidden widths of the encoder; the decoder mirrors them."""
    dropout: Share = 0.1
    """Dropout in the tag heads."""
    normalize_latents: bool = True
    """Scale the encoder's output to length 1, as published."""
    gradient_mode: GradientMode = "rotation"
    """How gradients pass the quantizer (docs/decisions/0005-gradient-estimator.md)."""
    sim_vq: bool = False
    """Learn one linear map over a frozen codebook instead of the codebook (SimVQ)."""
    commitment_weight: NotNegative = 0.25
    """Weight of the commitment loss [beta_commit]."""
    tag_alignment_weight: NotNegative = 0.1
    """Weight of the alignment with the tags [beta_sup]; 0 turns it off."""
    tag_prediction_weight: NotNegative = 0.3
    """Weight of the tag classifiers [beta_sup]; 0 turns it off."""
    uniqueness_weight: NotNegative = 1.0
    """Weight of the uniqueness loss [beta_unique]; 0 turns it off."""
    uniqueness_margin: Annotated[float, Field(ge=-1, le=1)] = 0.9
    """Cosine similarity below which two items with equal IDs add no loss [m]."""
    alignment_temperature: Positive = 0.07
    """Temperature of the alignment [tau]."""
    focal_gamma: NotNegative = 2.0
    """Exponent of the focal loss; 0 is plain cross-entropy."""
    held_out_fraction: HalfAtMost = 0.05
    """Share of items that training never sees; tag accuracy is measured on them."""
    epochs: Count = 30
    """Passes over the training items."""
    batch_size: Annotated[int, Field(ge=2)] = 512
    """Items per step."""
    learning_rate: Positive = 1e-3
    """Peak learning rate of AdamW; cosine decay to 1 % of it."""
    collisions: Literal["reassign", "disambiguate"] = "reassign"
    """What to do with items that still share an ID: move them to the nearest free IDs, or append a
    code."""

    def __post_init__(self) -> None:
        is_named = self.source != "file" or bool(self.ids_file)
        _check(is_named, self, "ids_file", 'the name of a file with source = "file"')

    @property
    def is_supervised(self) -> bool:
        """Whether any tag loss is on; plain RQ-VAE is the same model with this off."""
        has_tag_loss = self.tag_alignment_weight > 0 or self.tag_prediction_weight > 0
        return self.source == "trained" and has_tag_loss


@_settings
class RetrieverConfig:
    """The transformer that predicts the next item's semantic ID (stage train)."""

    architecture: Literal["item_softmax", "item_decoder", "encoder_decoder"] = "item_softmax"
    """item_softmax reads items and compares all IDs at once; item_decoder reads items and predicts
    code by code, at a cost that does not grow with the catalogue; encoder_decoder reads codes (as
    published)."""
    dim: Count = 192
    """Model width."""
    num_layers: Count = 2
    """Backbone layers (of encoder and of decoder each, for encoder_decoder)."""
    num_heads: Count = 4
    """Attention heads."""
    dropout: Share = 0.5
    """Dropout on inputs, attention outputs and feed-forward outputs."""
    max_history: Count = 50
    """Number of latest items in a history that the model reads."""
    code_input: bool = True
    """Add the embeddings of its codes to an item's input (encoder_decoder reads nothing else)."""
    content_input: bool = True
    """Add a projection of the item embedding to an item's input (not encoder_decoder)."""
    item_input: bool = True
    """Add a learned embedding of the item itself to its input (not encoder_decoder)."""
    new_item_dropout: Share = 0.0
    """Share of the items that a training step treats as new, without a learned vector and without
    co-occurrences; with .25, new items are found more often (docs/recommend.md; not for
    encoder_decoder)."""
    num_negatives: NoCount = 0
    """Items drawn in each step and process for the targets to compete with (item_softmax only); 0
    takes all items, which costs more in a larger catalogue (docs/large.md)."""
    num_user_buckets: NoCount = 0
    """Size of a hashed table of user embeddings that the model reads too; 0 leaves it out."""
    prefix_normalized: bool = True
    """Normalise a code's probability over the codes that exist under its prefix."""
    label_smoothing: Share = 0.1
    """Label smoothing over the possible codes."""
    order_noise: NotNegative = 0.0
    """Random number in [0, order_noise) added to positions in a training history, new in every
    epoch: closer events may change places; 0 keeps the order, above 1 swaps neighbours."""
    epochs: Count = 12
    """Largest number of passes over the training histories."""
    max_steps: NoCount = 0
    """Largest number of training steps; 0 sets no limit. For logs too long for a whole epoch."""
    patience: NoCount = 3
    """Validations without a better ndcg@10 after which training stops; 0 never stops early."""
    validate_every: Count = 2
    """Epochs between validations."""
    batch_tokens: Count = 1024
    """Positions per step, padding included."""
    learning_rate: Positive = 2e-3
    """Peak learning rate of AdamW; linear warm-up, then cosine decay to 1 % of it."""
    warmup_steps: NoCount = 200
    """Steps of linear warm-up."""
    weight_average: Share = 0.999
    """Decay per step of the moving average of the weights; 0 turns it off."""

    def __post_init__(self) -> None:
        _check(self.dim % self.num_heads == 0, self, "num_heads", f"a divisor of dim = {self.dim}")
        has_input = self.code_input or self.content_input or self.item_input
        expected = "True where content_input and item_input are False, as an item needs some input"
        _check(has_input, self, "code_input", expected)
        _check(
            self.num_negatives == 0 or self.architecture == "item_softmax",
            self,
            "num_negatives",
            f"0 with {self.architecture}, which has a softmax per code and draws no items",
        )


@_settings
class SasRecConfig:
    """The trained baselines sasrec and sasrec_content, with cross-entropy over all items."""

    dim: Count = 128
    """Width of the item vectors and of the model."""
    epochs: Count = 20
    """Largest number of passes over the training histories."""
    learning_rate: Positive = 2e-3
    """Peak learning rate of AdamW; linear warm-up, then cosine decay to 1 % of it."""

    # Trained in the retriever's loop, and otherwise as the retriever is by default.
    num_layers: ClassVar[int] = RetrieverConfig.num_layers
    num_heads: ClassVar[int] = 2
    max_history: ClassVar[int] = RetrieverConfig.max_history
    dropout: ClassVar[float] = RetrieverConfig.dropout
    label_smoothing: ClassVar[float] = RetrieverConfig.label_smoothing
    max_steps: ClassVar[int] = RetrieverConfig.max_steps
    patience: ClassVar[int] = RetrieverConfig.patience
    validate_every: ClassVar[int] = RetrieverConfig.validate_every
    batch_tokens: ClassVar[int] = RetrieverConfig.batch_tokens
    warmup_steps: ClassVar[int] = RetrieverConfig.warmup_steps
    weight_average: ClassVar[float] = RetrieverConfig.weight_average


@_settings
class GraphConfig:
    """What is added to the retriever's scores (stage train): item graph and learned likeness.

    The graph is not trained: it links items by co-occurrence in training, by content and by words
    they share. The likeness is learned from what items are. Their weights are chosen by ndcg@10 on
    validation.
    """

    weights: Annotated[tuple[NotNegative, ...], Field(min_length=1)] = (
        0.0,
        2.0,
        4.0,
        6.0,
        8.0,
        12.0,
    )
    """Weights to choose from; a single one is used as it is, and (0.0,) leaves the graph out. Where
    nobody validates, the middle one is used."""
    likeness_weights: Annotated[tuple[NotNegative, ...], Field(min_length=1)] = (
        0.0,
        3.0,
        6.0,
        9.0,
        12.0,
    )
    """Likewise for the learned likeness, whose score is added too; with (0.0,) none is learned."""


@_settings
class RerankerConfig:
    """The learned last step (stage train): a small network puts the best items in order.

    It learns from validation users, and is used where it does better on others of them.
    """

    enabled: bool = True
    """Whether one is learned; with False, the best items stay in the order of their scores."""


@_settings
class EvaluationConfig:
    """How rankings are made and scored (stage evaluate)."""

    cutoffs: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 5, 10, 20, 50)
    """Cut-offs k of recall@k and ndcg@k."""
    beam_width: Count = 50
    """Prefixes that a search keeps per level (not item_softmax, whose search is exact)."""
    max_users: NoCount = 0
    """Number of users to evaluate, drawn at random but the same for every ranker; 0 takes all."""
    baselines: tuple[str, ...] = ("popularity",)
    """Baselines to compare with: popularity, text_similarity, content_graph, item_knn, ease, and
    the trained sasrec, sasrec_content, sasrec_reranked and tiger; or "all"."""

    def __post_init__(self) -> None:
        largest = max(self.cutoffs)
        expected = f"at least the largest cut-off ({largest})"
        _check(self.beam_width >= largest, self, "beam_width", expected)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every stage's settings, resolved."""

    run: RunConfig = field(default_factory=RunConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    tags: TagConfig = field(default_factory=TagConfig)
    llm: LLMConfig = field(default_factory=LLMConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    retriever: RetrieverConfig = field(default_factory=RetrieverConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    reranker: RerankerConfig = field(default_factory=RerankerConfig)
    sasrec: SasRecConfig = field(default_factory=SasRecConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    bound: frozenset[str] = frozenset()
    """Names of the settings that were chosen, such as "RunConfig.seed", which no size changes;
    whatever differs from its default is among them."""

    def __post_init__(self) -> None:
        differing = {name for name, value in self._values().items() if value != _DEFAULTS[name]}
        object.__setattr__(self, "bound", frozenset(self.bound | differing))
        depths, levels = self.tags.depths, self.tokenizer.num_levels
        expected = f"none or one per level (TokenizerConfig.num_levels = {levels})"
        _check(len(depths) in (0, levels), self.tags, "depths", expected)

    def for_catalogue(self, num_items: int, num_events: int) -> Config:
        """With the defaults that follow from the size of a dataset, wherever nothing was chosen.

        The codebooks grow until they have IDs for twice as many items.
        """
        size = self.run.size if self.run.size != "auto" else size_for(num_items, num_events)
        values = {name: v for name, v in SIZES[size].items() if name not in self.bound}
        if "TokenizerConfig.codebook_size" not in self.bound:
            codebook_size = values.get(
                "TokenizerConfig.codebook_size", TokenizerConfig.codebook_size
            )
            while (
                codebook_size**self.tokenizer.num_levels < 2 * num_items
                and codebook_size < MAX_CODEBOOK_SIZE
            ):
                codebook_size *= 2
            values["TokenizerConfig.codebook_size"] = codebook_size
        return self._with(values)

    def _values(self) -> dict[str, Any]:
        """Every setting by its full name."""
        return {
            f"{cls.__name__}.{f.name}": getattr(getattr(self, section), f.name)
            for section, cls in SECTIONS.items()
            for f in fields(cls)
        }

    def _with(self, values: Mapping[str, Any], bound: Iterable[str] = ()) -> Config:
        """With other values of some settings."""
        sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
        section_of = {cls.__name__: name for name, cls in SECTIONS.items()}
        for name, value in {**self._values(), **values}.items():
            owner, _, key = name.partition(".")
            sections[section_of[owner]][key] = value
        made = {name: build_section(SECTIONS[name], of) for name, of in sections.items()}
        return Config(**made, bound=self.bound | frozenset(bound))

    def to_json(self) -> dict[str, Any]:
        """Every setting by section, and under "bound" the names of those that were chosen."""
        sections = {name: dataclasses.asdict(getattr(self, name)) for name in SECTIONS}
        made = json.loads(json.dumps({**sections, "bound": sorted(self.bound)}))
        return cast(dict[str, Any], made)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Config:
        """The inverse of ``to_json``; unknown keys raise ConfigError.

        What an older version stored of a setting that is a constant by now is left out, with a
        warning if it was chosen: a constant that differs shows in the stages, which are made again.
        """
        bound = frozenset(values.get("bound", ()))
        gone = {name for name, now in FORMER_NAMES.items() if now.startswith(_ALWAYS)}
        for name in sorted(gone & bound):
            logger.warning("stored settings: %s", _unknown(name))
        bound -= gone
        sections = {
            section: {
                key: value
                for key, value in of.items()
                if section not in SECTIONS or f"{SECTIONS[section].__name__}.{key}" not in gone
            }
            for section, of in values.items()
            if section != "bound"
        }
        try:
            for section in sections:
                if section not in SECTIONS:
                    near = _nearest(section, SECTIONS)
                    raise ConfigError(f"unknown config section {section!r}{near}")
            for name in sorted(bound - _known_names()):
                raise ConfigError(_unknown(name))
            made = {name: build_section(SECTIONS[name], of) for name, of in sections.items()}
            return cls(**made, bound=bound)
        except ConfigError as error:
            raise ConfigError(
                f"stored settings: {error}; if an older version stored them, "
                "`hidvae run --config FILE --output RUN` makes the run anew"
            ) from error


SECTIONS: dict[str, type] = {
    "run": RunConfig,
    "dataset": DatasetConfig,
    "embedding": EmbeddingConfig,
    "tags": TagConfig,
    "llm": LLMConfig,
    "tokenizer": TokenizerConfig,
    "retriever": RetrieverConfig,
    "graph": GraphConfig,
    "reranker": RerankerConfig,
    "sasrec": SasRecConfig,
    "evaluation": EvaluationConfig,
}
"""Field of Config -> its class; the class name is the name gin files use."""
_DEFAULTS: dict[str, Any] = {
    f"{cls.__name__}.{f.name}": f.default for cls in SECTIONS.values() for f in fields(cls)
}

MOST_ITEMS_OF_SMALL, MOST_EVENTS_OF_SMALL = 1_000, 200_000
"""A dataset below both is small."""
LEAST_ITEMS_OF_LARGE, LEAST_EVENTS_OF_LARGE = 200_000, 50_000_000
"""One that has as many of either is large: comparing all pairs of items, or a dozen passes over the
events, would take days."""

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "EmbeddingConfig.cooccurrence_dim": 32,  # few distinct transitions
        "TokenizerConfig.codebook_size": 32,
        "TokenizerConfig.hidden_dims": (256, 128),
        "TokenizerConfig.batch_size": 128,
        "TokenizerConfig.epochs": 60,  # passes over hundreds of items are quick
        "RetrieverConfig.max_history": 20,
        "RetrieverConfig.dim": 64,
        "RetrieverConfig.epochs": 14,
        "RetrieverConfig.warmup_steps": 50,  # an epoch has few steps
    },
    "base": {},
    # What costs items x items or items x users at once is off: the item graph, one softmax over all
    # items, a vector of its own for each.
    "large": {
        "EmbeddingConfig.text_encoder": "hashing",  # a model takes hours over a million texts
        "EmbeddingConfig.cooccurrence_window": 1,  # every step further costs gigabytes and minutes
        "TokenizerConfig.codebook_size": 1024,  # few items share an ID before they are parted
        "TokenizerConfig.batch_size": 4096,
        "TokenizerConfig.epochs": 3,
        "RetrieverConfig.architecture": "item_decoder",  # its cost does not grow with the catalogue
        "RetrieverConfig.item_input": False,
        "RetrieverConfig.dropout": 0.1,  # a large log needs less
        "RetrieverConfig.batch_tokens": 8192,
        "RetrieverConfig.epochs": 1,
        "GraphConfig.weights": (0.0,),
        "GraphConfig.likeness_weights": (0.0,),
        "EvaluationConfig.max_users": 5000,
    },
}
"""``RunConfig.size`` -> the defaults that it replaces; whatever is bound wins over them. None is of
the dataset, whose size they may follow from."""


def size_for(num_items: int, num_events: int) -> str:
    """The ``RunConfig.size`` that "auto" takes."""
    if num_items >= LEAST_ITEMS_OF_LARGE or num_events >= LEAST_EVENTS_OF_LARGE:
        return "large"
    is_small = num_items < MOST_ITEMS_OF_SMALL and num_events < MOST_EVENTS_OF_SMALL
    return "small" if is_small else "base"


_NO_TAG_TOKENS = "not offered: predicted tags repeat what the codes say"

PUBLISHED_NAMES: dict[str, str] = {
    # stage 1, train.<name> of h_rqvae_*.gin
    "iterations": "TokenizerConfig.epochs or RetrieverConfig.epochs",
    "batch_size": "TokenizerConfig.batch_size or RetrieverConfig.batch_tokens",
    "learning_rate": "TokenizerConfig.learning_rate or RetrieverConfig.learning_rate",
    "weight_decay": "not needed (0.01 for the tokenizer, 0.05 for the retriever)",
    "dataset_split": "DatasetConfig.dataset_split",
    "dataset_folder": "DatasetConfig.folder",
    "vae_hidden_dims": "TokenizerConfig.hidden_dims",
    "vae_embed_dim": "TokenizerConfig.latent_dim",
    "vae_codebook_size": "TokenizerConfig.codebook_size",
    "vae_n_layers": "TokenizerConfig.num_levels",
    "vae_n_cat_feats": "EmbeddingConfig.categorical_columns",
    "vae_codebook_normalize": "TokenizerConfig.normalize_latents",
    "vae_sim_vq": "TokenizerConfig.sim_vq",
    "vae_codebook_mode": "TokenizerConfig.gradient_mode",
    "use_kmeans_init": "not needed (codebooks always start by k-means)",
    "commitment_weight": "TokenizerConfig.commitment_weight",
    "tag_alignment_weight": "TokenizerConfig.tag_alignment_weight",
    "tag_prediction_weight": "TokenizerConfig.tag_prediction_weight",
    "sem_id_uniqueness_weight": "TokenizerConfig.uniqueness_weight",
    "sem_id_uniqueness_margin": "TokenizerConfig.uniqueness_margin",
    "alignment_temperature": "TokenizerConfig.alignment_temperature",
    "focal_loss_gamma_base": "TokenizerConfig.focal_gamma",
    "rare_tag_threshold": "TagConfig.min_count",
    "dropout_rate": "TokenizerConfig.dropout",
    "label_smoothing_alpha": "not offered (TokenizerConfig.focal_gamma is)",
    "mixup_alpha": "not offered",
    # stage 2, train.<name> of decoder_*.gin
    "decoder_embed_dim": "RetrieverConfig.dim",
    "attn_embed_dim": "RetrieverConfig.dim",
    "attn_heads": "RetrieverConfig.num_heads",
    "attn_layers": "RetrieverConfig.num_layers",
    "dropout_p": "RetrieverConfig.dropout",
    "use_dedup_dim": "TokenizerConfig.collisions",
    "use_concatenated_ids": _NO_TAG_TOKENS,
    "use_interleaved_ids": _NO_TAG_TOKENS,
    "pretrained_rqvae_path": "--tokenizer RUN of train_transformer.py",
    "full_eval_every": "RetrieverConfig.validate_every",
    "partial_eval_every": "RetrieverConfig.validate_every",
    # both stages
    "dataset": "DatasetConfig.source",
    "save_dir_root": "--output RUN",
    "save_model_every": "RunConfig.checkpoint_every_seconds",
    "amp": "RunConfig.precision",
    "mixed_precision_type": "RunConfig.precision",
    "use_focal_loss": "TokenizerConfig.focal_gamma",
    "use_label_smoothing": "not offered (TokenizerConfig.focal_gamma is)",
    "use_mixup": "not offered",
    "vae_input_dim": "not needed (read from the embeddings)",
    "tag_embed_dim": "not needed (read from the tags)",
    "tag_class_counts": "not needed (read from the tags)",
    "gradient_accumulate_every": "not needed (raise the batch size)",
    "force_dataset_process": "not needed (a stage is made again when its inputs change)",
    "pretrained_hrqvae_path": "not needed (the same command continues a training)",
    "pretrained_decoder_path": "not needed (the same command continues a training)",
    "model_jagged_mode": "not needed (histories are padded by length)",
}
"""``train.<name>`` of the published gin files -> the name here (docs/configuration.md)."""

_ALWAYS = "not a setting any more"

FORMER_NAMES: dict[str, str] = {
    # renamed
    "EmbeddingConfig.collaborative_dim": "EmbeddingConfig.cooccurrence_dim",
    "EmbeddingConfig.collaborative_window": "EmbeddingConfig.cooccurrence_window",
    "FusionConfig.weights": "GraphConfig.weights",
    "DatasetConfig.accept_license": "HIDVAE_ACCEPT_LICENSE=1 in the environment",
    "DatasetConfig.amazon_release": 'DatasetConfig.source ("amazon-2014" or "amazon-2023")',
    "DatasetConfig.kuairand_signal": 'DatasetConfig.events_where, such as "long_view = 1"',
    "DatasetConfig.movielens_min_rating": 'DatasetConfig.events_where, such as "rating >= 4"',
    # gone, with what they held or what is done instead
    **dict.fromkeys(
        (
            "GraphConfig.cold_factor",
            "FusionConfig.unknown_factor",
            "GraphConfig.content_weight",
            "GraphConfig.tfidf_weight",
            "LLMConfig.num_candidates",
            "FusionConfig.content_weight",
            "FusionConfig.word_weight",
            "FusionConfig.two_hop_weight",
            "FusionConfig.max_distance",
            "FusionConfig.num_latest",
            "FusionConfig.decay",
            "FusionConfig.smoothing",
            "FusionConfig.num_neighbours",
            "FusionConfig.num_candidates",
            "FusionConfig.validation_users",
        ),
        f"{_ALWAYS} (a constant in ranking/graph_weight.py)",
    ),
    "LLMConfig.max_retries": f"{_ALWAYS} (5)",
    "LLMConfig.timeout_seconds": f"{_ALWAYS} (60)",
    "LLMConfig.max_text_chars": f"{_ALWAYS} (400)",
    "LLMConfig.price_per_million_input": f"{_ALWAYS} (tokens are counted)",
    "LLMConfig.price_per_million_output": f"{_ALWAYS} (tokens are counted)",
    "TokenizerConfig.gumbel_temperature": f"{_ALWAYS} (0.2)",
    "TokenizerConfig.kmeans_init": f"{_ALWAYS} (codebooks always start by k-means)",
    "TokenizerConfig.dead_code_epochs": f"{_ALWAYS} (2)",
    "TokenizerConfig.reconstruction_weight": f"{_ALWAYS} (1)",
    "TokenizerConfig.tag_input": f"{_ALWAYS} (concat)",
    "TokenizerConfig.level_weights": f"{_ALWAYS} (1 for all)",
    "TokenizerConfig.mixup_alpha": f"{_ALWAYS} (no mixup)",
    "TokenizerConfig.label_smoothing": f"{_ALWAYS} (no smoothing of tags)",
    "TokenizerConfig.weight_decay": f"{_ALWAYS} (0.01)",
    "RetrieverConfig.weight_decay": f"{_ALWAYS} (0.05)",
    "RetrieverConfig.validation_users": f"{_ALWAYS} (5000)",
    "RetrieverConfig.tag_tokens": f"{_ALWAYS} ({_NO_TAG_TOKENS})",
    "RetrieverConfig.tag_text_input": f"{_ALWAYS} (codes alone)",
    "RetrieverConfig.level_type_input": f"{_ALWAYS} (True)",
    "RetrieverConfig.reverse_probability": f"{_ALWAYS} (histories are read forwards)",
    "RetrieverConfig.drop_item_probability": f"{_ALWAYS} (no item is left out)",
    **dict.fromkeys(
        (
            "SasRecConfig.num_layers",
            "SasRecConfig.num_heads",
            "SasRecConfig.max_history",
            "SasRecConfig.dropout",
            "SasRecConfig.label_smoothing",
            "SasRecConfig.max_steps",
            "SasRecConfig.patience",
            "SasRecConfig.validate_every",
            "SasRecConfig.validation_users",
            "SasRecConfig.batch_tokens",
            "SasRecConfig.warmup_steps",
            "SasRecConfig.weight_decay",
            "SasRecConfig.weight_average",
        ),
        f"{_ALWAYS} (as the retriever has it by default)",
    ),
    "DatasetConfig.tie_seed": f"{_ALWAYS} (0)",
    "DatasetConfig.cold_item_seed": f"{_ALWAYS} (0)",
    "DatasetConfig.demo_seed": f"{_ALWAYS} (7)",
    "DatasetConfig.kuairand_random_log": f"{_ALWAYS} (nobody chose what is in it)",
    "DatasetConfig.short_histories": f"{_ALWAYS} (users below 3 events only train)",
    "DatasetConfig.unknown_items": f"{_ALWAYS} (events of unknown items are left out)",
    "EmbeddingConfig.missing_text": f"{_ALWAYS} (an item without text has zeros)",
    "EmbeddingConfig.text_weight": f"{_ALWAYS} (1)",
    "EmbeddingConfig.image_weight": f"{_ALWAYS} (1)",
    "EmbeddingConfig.cooccurrence_weight": f"{_ALWAYS} (1)",
    "EmbeddingConfig.collaborative_weight": f"{_ALWAYS} (1)",
    "EmbeddingConfig.image_column": f"{_ALWAYS} (image; see DatasetConfig.column_names)",
    "EmbeddingConfig.batch_size": f"{_ALWAYS} (1024 tokens or 64 images)",
    "EmbeddingConfig.use_cache": f"{_ALWAYS} (vectors are kept in $HIDVAE_CACHE)",
    "DatasetConfig.download": f"{_ALWAYS} (HIDVAE_OFFLINE=1 forbids downloads)",
    "TagConfig.num_levels": "TokenizerConfig.num_levels",
    "TagConfig.max_singletons": f"{_ALWAYS} (200; see TagConfig.min_count)",
    "TagConfig.many_singletons": f"{_ALWAYS} (their items get no tag there)",
    "TagConfig.cluster_seed": f"{_ALWAYS} (0)",
    "TagConfig.num_neighbours": f"{_ALWAYS} (10)",
    "TagConfig.missing_categories": f"{_ALWAYS} (an item without a category path gets no tag)",
    "EvaluationConfig.batch_size": f"{_ALWAYS} (as many users as the catalogue allows)",
    "EvaluationConfig.bootstrap_samples": f"{_ALWAYS} (1000)",
}
"""A setting's former name -> its name now, which is taken in its place, or why there is none."""

FORMER_VALUES: dict[tuple[str, str], dict[str, Any]] = {
    ("DatasetConfig.amazon_release", "p5"): {},
    ("DatasetConfig.amazon_release", "2014"): {"DatasetConfig.source": "amazon-2014"},
    ("DatasetConfig.amazon_release", "2023"): {"DatasetConfig.source": "amazon-2023"},
    ("DatasetConfig.short_histories", "drop"): {},
    ("DatasetConfig.short_histories", "refuse"): {"DatasetConfig.strict": True},
    ("DatasetConfig.unknown_items", "drop"): {},
    ("DatasetConfig.unknown_items", "refuse"): {"DatasetConfig.strict": True},
    ("EmbeddingConfig.missing_text", "zero"): {},
    ("TagConfig.missing_categories", "unknown"): {},
    ("TagConfig.many_singletons", "coarsen"): {},
}
"""A former setting with a value that still has a meaning -> what it is now; empty where it is so
anyway. Older config files go on working, and what was made of them is said."""


def load_config(
    files: Path | str | Sequence[Path | str] = (),
    overrides: Sequence[str] = (),
    base: Config | None = None,
) -> Config:
    """Read gin files, then ``name=value`` overrides, over ``base`` (the defaults).

    Of gin only the syntax is used: bindings, macros and includes of other files. What would run
    code (imports, ``@references``) is refused.

    Args:
        files: A gin file, or several; later ones win.
        overrides: Bindings such as ``TokenizerConfig.epochs=10``; texts may be left unquoted.
        base: Settings to start from.

    Raises:
        ConfigError: A file is missing or malformed, a key is unknown or has no section, a macro is
            not read, a value is out of range.
    """
    files = [files] if isinstance(files, (str, Path)) else files
    bindings = [binding for file in files for binding in _read_file(Path(file))]
    bindings += _overrides(overrides, {binding.name for binding in bindings})
    _refuse_unread(bindings)
    bound = {binding.name: binding for binding in bindings}
    found = {
        name: _fitted(name, _without_macros(binding.value, bound, binding.place))
        for name, binding in bound.items()
        if "." in name  # others are macros
    }
    return (base or Config())._with(found, bound=found)


def build_section(cls: type, values: Mapping[str, Any]) -> Any:
    """Construct a config class from loose values; ConfigError says which is wrong."""
    return cls(**values)


@dataclass(frozen=True)
class _Macro:
    """A ``%NAME`` in a value."""

    name: str


@dataclass(frozen=True)
class _Binding:
    """``name = value`` of a gin file; a name without a point is a macro's."""

    name: str
    value: Any
    place: str


class _SyntaxOnly(config_parser.ParserDelegate):  # type: ignore[misc]
    """Takes macros for what they are, and no references to functions."""

    def configurable_reference(self, scoped_name: str, evaluate: bool) -> Any:
        raise SyntaxError(f"@{scoped_name}: expected a value; a config file may not call anything")

    def macro(self, scoped_name: str) -> _Macro:
        return _Macro(scoped_name)


def _overrides(overrides: Sequence[str], macros: set[str]) -> Iterator[_Binding]:
    """Bindings of ``name=value`` texts.

    Args:
        overrides: The texts.
        macros: Names that files bind; a text with a % may name one of them.
    """
    pairs = [override.partition("=") for override in overrides]
    macros = macros | {name.strip() for name, _, _ in pairs}
    for override, (name, separator, value) in zip(overrides, pairs, strict=True):
        if not separator:
            raise ConfigError(f"--set {override}: expected name=value, such as RunConfig.seed=1")
        line = f"{name.strip()} = {_as_literal(name.strip(), value, macros)}"
        yield from (b for b in _bindings(line, "--set") if isinstance(b, _Binding))


def _read_file(file: Path, including: tuple[Path, ...] = ()) -> list[_Binding]:
    """Bindings of a gin file and of those that it includes, which are looked up beside it."""
    file = file.resolve() if including else file
    if not file.is_file():
        by = (
            f" (included by {including[-1]})"
            if including
            else "; the ones that ship are in configs/"
        )
        raise ConfigError(f"{file}: no such config file{by}")
    if file.resolve() in [earlier.resolve() for earlier in including]:
        raise ConfigError(f"{file}: includes itself by way of {including[-1]}; remove one include")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as UTF-8 text ({error})") from error
    bound: list[_Binding] = []
    for statement in _bindings(text, str(file)):
        if isinstance(statement, _Binding):
            bound.append(statement)
        else:
            bound += _read_file(file.parent / statement, (*including, file))
    return bound


def _bindings(text: str, where: str) -> Iterator[_Binding | str]:
    """A text's bindings, and names of files to include, in order.

    Raises:
        ConfigError: If the text is malformed, names an unknown setting, or would run code.
    """
    try:
        statements = list(config_parser.ConfigParser(text, _SyntaxOnly()))
    except (SyntaxError, ValueError) as error:
        reason = hide_passwords(" ".join(str(error).split()))
        raise ConfigError(
            f"{where}: expected NAME = VALUE, such as RunConfig.seed = 1; found what is none "
            f"({reason})"
        ) from None
    for statement in statements:
        line = statement.location.line_num
        place = where if where == "--set" else f"{where}, line {line}"
        if isinstance(statement, config_parser.IncludeStatement):
            yield statement.filename
        elif isinstance(statement, config_parser.ImportStatement):
            raise ConfigError(
                f"{place}: expected settings, NAME = VALUE; found an import of "
                f"{statement.module}; remove it, as a config file may not run code"
            )
        elif isinstance(statement, config_parser.BindingStatement):
            name = f"{statement.selector}.{statement.arg_name}".rstrip(".")
            if statement.scope:
                raise ConfigError(f"{place}: {statement.scope}/{name}: settings have no scopes")
            if (renamed := FORMER_NAMES.get(name, "")) in _known_names():
                logger.warning("%s: %s is now %s", place, name, renamed)
                name = renamed
            if (now := FORMER_VALUES.get((name, str(statement.value)))) is not None:
                logger.warning("%s: %s = %s", place, _unknown(name), statement.value)
                yield from (_Binding(other, value, place) for other, value in now.items())
                continue
            if "." in name and name not in _known_names():
                raise ConfigError(f"{place}: {_unknown(name)}")
            yield _Binding(name, statement.value, place)


def _without_macros(value: Any, bound: Mapping[str, _Binding], place: str) -> Any:
    """A value with ``%NAME`` replaced by what is bound to NAME."""
    if isinstance(value, _Macro):
        if value.name not in bound:
            raise ConfigError(
                f"{place}: %{value.name}: expected a macro bound somewhere; found none"
            )
        others = {name: binding for name, binding in bound.items() if name != value.name}
        return _without_macros(bound[value.name].value, others, place)
    if isinstance(value, (list, tuple)):
        return type(value)(_without_macros(entry, bound, place) for entry in value)
    return value


def _macros_in(value: Any) -> Iterator[str]:
    if isinstance(value, _Macro):
        yield value.name
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _macros_in(entry)


def _refuse_unread(bindings: Sequence[_Binding]) -> None:
    """A name without a section is a macro; one that no value names is a mistake.

    Values that later ones replace count too, so that ``--set`` may replace what names a macro.
    """
    read = {name for binding in bindings for name in _macros_in(binding.value)}
    for binding in bindings:
        if "." not in binding.name and binding.name not in read:
            raise ConfigError(f"{binding.place}: {_without_section(binding.name)}")


def _without_section(name: str) -> str:
    """What to say of a name that has no section and is no macro that is read."""
    owners: dict[str, list[str]] = {}
    for known in sorted(_known_names()):
        owners.setdefault(known.partition(".")[2], []).append(known)
    former = {known.partition(".")[2]: known for known in FORMER_NAMES}
    if name in former and name not in owners:
        return _unknown(former[name])
    close = difflib.get_close_matches(name, list(owners), n=1, cutoff=0.6)
    if not close:
        return (
            f"unknown key {name}, which has no section, and no value has %{name}; expected "
            "SECTION.NAME, such as TokenizerConfig.epochs (docs/configuration.md)"
        )
    return f"unknown key {name}; did you mean {' or '.join(owners[close[0]])}?"


def _as_literal(name: str, value: str, macros: set[str]) -> str:
    """What is typed on the command line, as gin writes it; text may be left without quotes.

    Where a setting takes text, everything is text that is not quoted: also 100, ; and %Y.
    """
    stripped = value.strip()
    is_macro = stripped.startswith("%") and stripped[1:] in macros
    if is_macro or (stripped.startswith(("@", "%")) and not _takes_text(_hint_of(name))):
        return stripped
    try:
        literal = ast.literal_eval(stripped)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return repr(stripped or value)  # a separator may be a blank
    if _takes_text(_hint_of(name)) and not isinstance(literal, (str, list, tuple)):
        return repr(stripped)
    return stripped


@functools.cache
def _hint_of(name: str) -> Any:
    """Type of a setting; None of a name that is none."""
    owner, _, key = name.partition(".")
    cls = next((cls for cls in SECTIONS.values() if cls.__name__ == owner), None)
    return get_type_hints(cls).get(key) if cls else None


def _takes_text(hint: Any) -> bool:
    """Whether a setting is a text, one of some words, or a list of those."""
    if get_origin(hint) is tuple:
        return _takes_text(get_args(hint)[0])
    return hint is str or (get_origin(hint) is Literal and isinstance(get_args(hint)[0], str))


def _fitted(name: str, value: Any) -> Any:
    """A value as its setting takes it: a number is text where that is wanted, one text a list."""
    hint = _hint_of(name)
    if not _takes_text(hint):
        return value
    if get_origin(hint) is not tuple:
        return _as_text(value)
    if not isinstance(value, (list, tuple)):
        value = (value,) if value != "" else ()
    return tuple(map(_as_text, value))


def _as_text(value: Any) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number else value


def _known_names() -> set[str]:
    return set(_DEFAULTS)


def _unknown(name: str) -> str:
    """What to say of a name that is no setting: what took its place, or the nearest one."""
    owner, _, key = name.partition(".")
    if owner == "train" and key in PUBLISHED_NAMES:
        return f"{name} is the published name; here it is {PUBLISHED_NAMES[key]}"
    if name in FORMER_NAMES:
        return f"{name} is a former name; now it is {FORMER_NAMES[name]}"
    return f"unknown key {name}{_nearest(name, _known_names())}"


def _nearest(name: str, known: Iterable[str]) -> str:
    spelled = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), list(spelled), n=1, cutoff=0.5)
    return f"; did you mean {spelled[close[0]]}?" if close else ""


def _check(is_valid: bool, section: Any, name: str, expected: str) -> None:
    if not is_valid:
        found = getattr(section, name)
        raise ConfigError(f"{type(section).__name__}.{name}: expected {expected}; found {found!r}")
