"""One frozen dataclass per stage; gin in, JSON out.

A gin file binds the fields by class name, e.g. ``TokenizerConfig.codebook_size = 256``. Unknown
keys and values out of range stop the run and name the nearest known key. This module knows
nothing of the stages: it only holds, checks and stores their settings.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import gin

from hidvae.errors import ConfigError

GradientMode = Literal["straight_through", "gumbel", "rotation"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What all stages share."""

    seed: int = 0
    """Seed of every random choice in training; data and embeddings do not depend on it."""
    device: str = "auto"
    """auto, cpu, cuda, or a Fabric accelerator name; auto takes a GPU where there is one."""
    precision: str = "32-true"
    """Fabric precision, e.g. 32-true or bf16-mixed."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What torchrun's processes do: ddp, each holds the whole model; fsdp, they share out the
    retriever's weights, gradients and optimizer state."""
    checkpoint_every_seconds: float = 60.0
    """Wall time between training checkpoints; 0 writes one after every step."""
    loggers: tuple[str, ...] = ("csv",)
    """Where both trainings log their epochs: csv (log.csv, always), tensorboard, wandb, mlflow; an
    extra of that name brings each."""

    def __post_init__(self) -> None:
        _check(0 <= self.seed < 2**31, self, "seed", "in [0, 2^31)")
        _check(self.checkpoint_every_seconds >= 0, self, "checkpoint_every_seconds", "at least 0")
        is_known = {*self.loggers} <= {"csv", "tensorboard", "wandb", "mlflow"}
        _check(is_known, self, "loggers", "csv, tensorboard, wandb, mlflow")


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Where items and events come from, and how the log is cut (stage prepare)."""

    source: Literal["demo", "folder", "amazon", "kuairand", "movielens"] = "folder"
    """demo is generated, folder is your own tables, the others are read in their official files."""
    dataset_split: str = ""
    """Amazon category (beauty, sports, toys; of 2023 any, such as All_Beauty), KuaiRand release
    (pure, 1k, 27k) or MovieLens release (100k, 1m, 32m); empty for demo and folder."""
    folder: str = ""
    """Folder of the files; empty looks in $HIDVAE_DATA and ./data, then downloads."""
    download: bool = True
    """Fetch a public dataset that is on no disk here into the cache ($HIDVAE_CACHE);
    HIDVAE_OFFLINE=1 forbids it too."""
    accept_license: bool = False
    """You have read the dataset's licence and accept it; asked for where the publisher does."""
    column_names: tuple[str, ...] = ()
    """Your names of columns (folder), "user_id=customer" for each that differs from ours."""
    tie_order: Literal["seeded", "file"] = "seeded"
    """Order of a user's events of equal timestamp: drawn from tie_seed, or as in the file."""
    tie_seed: int = 0
    """Seed of tie_order = "seeded"."""
    repeated_items: Literal["keep", "first", "last"] = "keep"
    """Events of an item that the user had before: all of them, or only the first or last."""
    amazon_release: Literal["p5", "2014", "2023"] = "p5"
    """P5's archive (the split of the literature), the original files of 2014, or Reviews 2023."""
    kuairand_signal: Literal[
        "is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward"
    ] = "is_click"
    """What makes an exposure an event (KuaiRand)."""
    kuairand_random_log: Literal["exclude", "include"] = "exclude"
    """Events of the log whose videos were inserted at random (KuaiRand); nobody chose what was
    shown there."""
    movielens_min_rating: float = 0.0
    """Lowest rating that makes an event, in stars (MovieLens); 0 takes all."""
    cold_item_share: float = 0.0
    """Share of the items held out of training and validation, for the test to ask for; 0 splits
    leave-one-out."""
    cold_item_seed: int = 0
    """Seed of which items are held out."""
    min_events: int = 0
    """k-core: drop users and items below this many events until none is left; 0 keeps all."""
    short_histories: Literal["refuse", "drop"] = "refuse"
    """What to do with users of fewer than 3 events, who cannot be split leave-one-out."""
    unknown_items: Literal["refuse", "drop"] = "refuse"
    """What to do with events whose item is not in the catalogue."""
    demo_num_items: int = 600
    """Items of the generated demo catalogue."""
    demo_num_users: int = 1500
    """Users of the generated demo log."""
    demo_seed: int = 7
    """Seed of the demo generator."""

    def __post_init__(self) -> None:
        pairs = [entry.partition("=") for entry in self.column_names]
        is_mapping = all(ours.strip() and theirs.strip() for ours, _, theirs in pairs)
        _check(is_mapping, self, "column_names", '"our name=your name" in each entry')
        _check(self.tie_seed >= 0, self, "tie_seed", "at least 0")
        _check(0 <= self.movielens_min_rating <= 5, self, "movielens_min_rating", "in [0, 5]")
        _check(0 <= self.cold_item_share <= 0.5, self, "cold_item_share", "in [0, 0.5]")
        _check(self.cold_item_seed >= 0, self, "cold_item_seed", "at least 0")
        _check(self.min_events >= 0, self, "min_events", "at least 0")
        _check(self.demo_num_items >= 60, self, "demo_num_items", "at least 60")
        _check(self.demo_num_users >= 10, self, "demo_num_users", "at least 10")


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """How an item becomes a vector (stage embed)."""

    text_encoder: str = "all-MiniLM-L6-v2"
    """A sentence-transformers model (name or path), "hashing" (no model, for tests) or "none"."""
    text_backend: Literal["torch", "torch-bf16", "onnx-int8"] = "torch"
    """What runs the text encoder; torch-bf16 multiplies in bfloat16 (quick where the hardware has
    it), onnx-int8 quantizes its weights (extra onnx)."""
    text_columns: tuple[str, ...] = ("title", "keywords", "brand", "price", "description")
    """Columns that make an item's text, where present; the category path is left out on purpose."""
    missing_text: Literal["refuse", "zero"] = "refuse"
    """What to do with items that have no text at all; zero gives them a text part of zeros."""
    text_weight: float = 1.0
    """Length of the text part's rows (or your own matrix's) before the parts are concatenated."""
    batch_size: int = 64
    """Images per encoder batch, or texts of 16 tokens: fewer longer ones, more shorter ones."""
    use_cache: bool = True
    """Reuse vectors of the same content and model from the cache ($HIDVAE_CACHE)."""
    image_encoder: str = "none"
    """A CLIP-like sentence-transformers model (name or path) for image_column, or "none"."""
    image_column: str = "image"
    """Column with an image's path (relative to the dataset's folder) or URL."""
    image_weight: float = 1.0
    """Length of the image part's rows."""
    collaborative_dim: int = 64
    """Width of the spectral embedding of training transitions; 0 leaves it out."""
    collaborative_weight: float = 1.0
    """Length of the collaborative part's rows."""
    collaborative_window: int = 5
    """Two items of one training history are linked when at most this many steps apart."""
    categorical_columns: tuple[str, ...] = ()
    """Columns appended as 0/1 features, which the tokenizer reconstructs with cross-entropy."""
    embeddings_file: str = ""
    """Your own matrix (.npy, .safetensors, .parquet), a row per item, instead of the encoder."""

    def __post_init__(self) -> None:
        _check(self.batch_size >= 1, self, "batch_size", "at least 1")
        _check(self.collaborative_dim >= 0, self, "collaborative_dim", "at least 0")
        for name in ("text_weight", "image_weight", "collaborative_weight"):
            _check(getattr(self, name) >= 0, self, name, "at least 0")
        _check(self.collaborative_window >= 1, self, "collaborative_window", "at least 1")


@dataclass(frozen=True, kw_only=True)
class TagConfig:
    """Which tags an item carries, one per level, coarse to fine (stage tag)."""

    source: Literal["categories", "clusters", "none"] = "categories"
    """categories reads the category path; clusters, for want of one, groups the items' content
    vectors (all real parts where there are none); none leaves tags unknown (plain RQ-VAE)."""
    num_levels: int = 3
    """Tag levels L; equals the tokenizer's number of levels."""
    depths: tuple[int, ...] = ()
    """Depths of the category path that become levels (0 is the root), such as (1, 2, 4); empty
    takes the first num_levels on which items differ."""
    missing_categories: Literal["refuse", "unknown"] = "refuse"
    """What to do with items that have no category path at all; unknown gives them tag -1, as does
    any fill_missing."""
    min_count: int = 1
    """Tags of fewer items than this are merged into one extra class of their level."""
    max_singletons: int = 200
    """Most classes of one item that a level may have."""
    many_singletons: Literal["refuse", "coarsen"] = "coarsen"
    """A level with more: refuse it, or give its singletons no tag there (-1), which fill_missing
    may then fill."""
    fill_missing: Literal["none", "neighbours", "llm"] = "none"
    """Who fills tags that the source does not know: nobody, the most similar items, or an LLM."""
    num_neighbours: int = 10
    """Similar items that vote on a missing tag (fill_missing = "neighbours")."""
    min_agreement: float = 0.0
    """Smallest share of the neighbours' votes that fills a tag; below, it stays unknown."""
    num_clusters: tuple[int, ...] = (12, 8, 6)
    """Clusters of level 0, then the most children of each cluster on every further level."""
    cluster_names: Literal["words", "llm"] = "words"
    """Clusters are named by their most telling words (c-TF-IDF), or by an LLM from samples."""
    cluster_seed: int = 0
    """Seed of the clustering."""

    def __post_init__(self) -> None:
        _check(1 <= self.num_levels <= 8, self, "num_levels", "between 1 and 8")
        depths = self.depths
        is_rising = all(a < b for a, b in zip(depths, depths[1:], strict=False))
        _check(
            not depths or (len(depths) == self.num_levels and depths[0] >= 0 and is_rising),
            self,
            "depths",
            f"empty or {self.num_levels} rising depths (num_levels), 0 or more",
        )
        _check(self.min_count >= 1, self, "min_count", "at least 1")
        _check(self.max_singletons >= 0, self, "max_singletons", "at least 0")
        _check(self.num_neighbours >= 1, self, "num_neighbours", "at least 1")
        _check(0 <= self.min_agreement <= 1, self, "min_agreement", "in [0, 1]")
        _check(
            self.source != "clusters"
            or (len(self.num_clusters) == self.num_levels and min(self.num_clusters) >= 2),
            self,
            "num_clusters",
            f"one number per level (num_levels = {self.num_levels}), at least 2",
        )

    @property
    def uses_llm(self) -> bool:
        """Whether any tag or name comes from a language model."""
        names_clusters = self.source == "clusters" and self.cluster_names == "llm"
        return self.fill_missing == "llm" or names_clusters


@dataclass(frozen=True, kw_only=True)
class LLMConfig:
    """The language model that fills and names tags: any OpenAI-compatible server.

    The key comes from the environment ($OPENAI_API_KEY) and is stored nowhere.
    """

    model: str = "gemma-3-270m"
    """Name of the model on the server; with base_url "offline", the packaged one."""
    base_url: str = "offline"
    """Address of the server; "offline" starts one here with the packaged model (extra offline-llm),
    empty takes $OPENAI_BASE_URL or the client's default. No password in it: it is kept in the
    manifest."""
    num_candidates: int = 10
    """Tags of a level that the model may choose from, the most similar to the item's text."""
    items_per_request: int = 1
    """Items that share one prompt; more is cheaper, and harder for small models."""
    concurrency: int = 4
    """Requests under way at once."""
    max_retries: int = 5
    """Further tries of a request that fails, with exponential back-off."""
    timeout_seconds: float = 60.0
    """Longest wait for one answer."""
    max_text_chars: int = 400
    """Characters of an item's text that a prompt shows."""
    price_per_million_input: float = 0.0
    """Price of a million prompt tokens, for the cost report; 0 reports tokens only."""
    price_per_million_output: float = 0.0
    """Price of a million answer tokens."""

    def __post_init__(self) -> None:
        _check(bool(self.model), self, "model", "the name of a model")
        for name in ("num_candidates", "items_per_request", "concurrency", "max_text_chars"):
            _check(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("max_retries", "price_per_million_input", "price_per_million_output"):
            _check(getattr(self, name) >= 0, self, name, "at least 0")
        _check(self.timeout_seconds > 0, self, "timeout_seconds", "above 0")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """The HiD-VAE tokenizer (stage tokenize). Symbols in brackets are the paper's."""

    num_levels: int = 3
    """Codebooks [L]."""
    codebook_size: int = 256
    """Codes per level [K]."""
    latent_dim: int = 32
    """Width of the latent and of the codebook vectors [D]."""
    hidden_dims: tuple[int, ...] = (512, 256, 128)
    """Hidden widths of the encoder; the decoder mirrors them."""
    dropout: float = 0.1
    """Dropout in the tag heads."""
    normalize_latents: bool = True
    """L2-normalise the encoder's output, as published."""
    gradient_mode: GradientMode = "rotation"
    """How gradients pass the quantizer."""
    gumbel_temperature: float = 0.2
    """Temperature of the gumbel mode."""
    sim_vq: bool = False
    """Learn one linear map over a frozen codebook instead of the codebook (SimVQ)."""
    kmeans_init: bool = True
    """Initialise each codebook by k-means on the residuals it will see."""
    dead_code_epochs: int = 2
    """A code unused for this many epochs is reset to a random residual; 0 never resets."""
    reconstruction_weight: float = 1.0
    """Weight of the reconstruction loss."""
    commitment_weight: float = 0.25
    """Weight of the commitment loss [beta_commit]."""
    tag_alignment_weight: float = 0.1
    """Weight of the supervised contrastive alignment with the tags [beta_sup]; 0 turns it off."""
    tag_prediction_weight: float = 0.3
    """Weight of the tag classifiers [beta_sup]; 0 turns it off."""
    uniqueness_weight: float = 1.0
    """Weight of the uniqueness loss [beta_unique]; 0 turns it off."""
    uniqueness_margin: float = 0.9
    """Cosine similarity below which a colliding pair costs nothing [m]."""
    alignment_temperature: float = 0.07
    """Temperature of the alignment [tau]."""
    tag_input: Literal["concat", "sum"] = "concat"
    """Tag heads of level l read codes 0..l concatenated (published code) or summed (paper)."""
    level_weights: tuple[float, ...] = ()
    """Weight of each level's tag losses; empty means 1 for all."""
    focal_gamma: float = 2.0
    """Focusing power of the focal loss; 0 is plain cross-entropy."""
    label_smoothing: float = 0.0
    """Label smoothing of the tag classifiers."""
    mixup_alpha: float = 0.0
    """Beta parameter of mixup on the tag heads' inputs; 0 turns it off."""
    held_out_fraction: float = 0.05
    """Share of items that training never sees; tag accuracy is measured on them."""
    epochs: int = 30
    """Passes over the training items."""
    batch_size: int = 512
    """Items per step."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW; cosine decay to 1 % of it."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    collisions: Literal["reassign", "disambiguate"] = "reassign"
    """Part items that still share an ID: move last codes at least cost, or append one more code."""

    def __post_init__(self) -> None:
        _check(1 <= self.num_levels <= 8, self, "num_levels", "between 1 and 8")
        _check(2 <= self.codebook_size <= 65536, self, "codebook_size", "between 2 and 65536")
        _check(self.latent_dim >= 1, self, "latent_dim", "at least 1")
        _check(all(d >= 1 for d in self.hidden_dims), self, "hidden_dims", "all at least 1")
        _check(0 <= self.dropout < 1, self, "dropout", "in [0, 1)")
        _check(self.gumbel_temperature > 0, self, "gumbel_temperature", "above 0")
        _check(self.dead_code_epochs >= 0, self, "dead_code_epochs", "at least 0")
        for name in (
            "reconstruction_weight",
            "commitment_weight",
            "tag_alignment_weight",
            "tag_prediction_weight",
            "uniqueness_weight",
            "focal_gamma",
            "mixup_alpha",
            "weight_decay",
        ):
            _check(getattr(self, name) >= 0, self, name, "at least 0")
        _check(-1 <= self.uniqueness_margin <= 1, self, "uniqueness_margin", "in [-1, 1]")
        _check(self.alignment_temperature > 0, self, "alignment_temperature", "above 0")
        _check(
            not self.level_weights or len(self.level_weights) == self.num_levels,
            self,
            "level_weights",
            f"empty or one per level (num_levels = {self.num_levels})",
        )
        _check(0 <= self.label_smoothing < 1, self, "label_smoothing", "in [0, 1)")
        _check(0 <= self.held_out_fraction <= 0.5, self, "held_out_fraction", "in [0, 0.5]")
        _check(self.epochs >= 1, self, "epochs", "at least 1")
        _check(self.batch_size >= 2, self, "batch_size", "at least 2")
        _check(self.learning_rate > 0, self, "learning_rate", "above 0")

    @property
    def is_supervised(self) -> bool:
        """Whether any tag loss is on; plain RQ-VAE is the same model with this off."""
        return self.tag_alignment_weight > 0 or self.tag_prediction_weight > 0


@dataclass(frozen=True, kw_only=True)
class RetrieverConfig:
    """The transformer that generates the next item's semantic ID (stage train)."""

    architecture: Literal["item_softmax", "item_decoder", "encoder_decoder"] = "item_softmax"
    """item_softmax reads items and compares all IDs at once; item_decoder reads items and decodes
    code by code, at a cost that does not grow with the catalogue; encoder_decoder reads the
    flattened codes (as published)."""
    dim: int = 192
    """Model width."""
    num_layers: int = 2
    """Backbone layers (of encoder and of decoder each, for encoder_decoder)."""
    num_heads: int = 4
    """Attention heads."""
    dropout: float = 0.5
    """Dropout on inputs, attention outputs and feed-forward outputs."""
    max_history: int = 50
    """Latest items of a history that the model reads."""
    code_input: bool = True
    """Add the embeddings of its codes to an item's input (encoder_decoder reads nothing else)."""
    content_input: bool = True
    """Add a projection of the item embedding to an item's input (not encoder_decoder)."""
    item_input: bool = True
    """Add a learned embedding of the item itself to its input (not encoder_decoder)."""
    new_item_dropout: float = 0.0
    """Share of the items that a training step takes for new ones, without an embedding of their own
    and without transitions; .25 has new items found more often (docs/cold-items.md; not
    encoder_decoder)."""
    num_negatives: int = 0
    """Items drawn per step and process that targets compete with, besides each other (item_softmax
    alone); 0 takes all items, which costs more the larger the catalogue (docs/large.md)."""
    tag_text_input: bool = False
    """Concatenate the tag's text embedding to a code's embedding (paper, stage 2)."""
    level_type_input: bool = True
    """Concatenate a level-type embedding to a code's embedding (paper, stage 2)."""
    num_user_buckets: int = 0
    """Rows of a hashed user embedding that the model reads with the history; 0 leaves it out."""
    tag_tokens: Literal["none", "concatenated", "interleaved"] = "none"
    """Add predicted tags to the ID: after the codes, or each after its code."""
    prefix_normalized: bool = True
    """Normalise each code's probability over the codes that exist under the prefix."""
    label_smoothing: float = 0.1
    """Label smoothing over the codes that a step may choose."""
    order_noise: float = 0.0
    """Noise on the positions of a training history, drawn in [0, order_noise) every epoch: events
    closer than this may change places; 0 keeps the order, above 1 swaps neighbours."""
    reverse_probability: float = 0.0
    """Probability that a training history is read backwards in an epoch."""
    drop_item_probability: float = 0.0
    """Probability that an item is left out of a training history in an epoch."""
    epochs: int = 12
    """Most passes over the training histories."""
    max_steps: int = 0
    """Most steps of training; 0 sets no limit. For logs so long that an epoch is too much."""
    patience: int = 3
    """Validations without a better ndcg@10 before training stops; 0 never stops early."""
    validate_every: int = 2
    """Epochs between validations."""
    validation_users: int = 5000
    """Users drawn for validation during training; 0 takes all."""
    batch_tokens: int = 1024
    """Positions per step, padding included."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW; linear warm-up, then cosine decay to 1 % of it."""
    warmup_steps: int = 200
    """Steps of linear warm-up."""
    weight_decay: float = 0.05
    """Weight decay of AdamW."""
    weight_average: float = 0.999
    """Decay of an exponential moving average of the weights per step; 0 turns it off."""

    def __post_init__(self) -> None:
        _check(self.dim >= 1, self, "dim", "at least 1")
        _check(self.num_layers >= 1, self, "num_layers", "at least 1")
        _check(
            self.num_heads >= 1 and self.dim % self.num_heads == 0,
            self,
            "num_heads",
            f"a divisor of dim = {self.dim}",
        )
        for name in (
            "dropout",
            "new_item_dropout",
            "label_smoothing",
            "drop_item_probability",
            "weight_average",
        ):
            _check(0 <= getattr(self, name) < 1, self, name, "in [0, 1)")
        _check(
            self.code_input or self.content_input or self.item_input,
            self,
            "code_input",
            "True where content_input and item_input are False, as an item needs some input",
        )
        _check(
            self.num_negatives == 0 or self.architecture == "item_softmax",
            self,
            "num_negatives",
            f"0 with {self.architecture}, which has a softmax per code and draws no items",
        )
        _check(self.order_noise >= 0, self, "order_noise", "at least 0")
        _check(0 <= self.reverse_probability <= 1, self, "reverse_probability", "in [0, 1]")
        for name in ("max_history", "epochs", "validate_every", "batch_tokens"):
            _check(getattr(self, name) >= 1, self, name, "at least 1")
        for name in (
            "num_negatives",
            "num_user_buckets",
            "max_steps",
            "patience",
            "validation_users",
            "warmup_steps",
        ):
            _check(getattr(self, name) >= 0, self, name, "at least 0")
        _check(self.learning_rate > 0, self, "learning_rate", "above 0")
        _check(self.weight_decay >= 0, self, "weight_decay", "at least 0")


@dataclass(frozen=True, kw_only=True)
class SasRecConfig:
    """The trained baseline SASRec, with cross-entropy over all items (`hidvae evaluate`)."""

    dim: int = 128
    """Width of the item vectors and of the model."""
    num_layers: int = 2
    """Transformer layers."""
    num_heads: int = 2
    """Attention heads."""
    dropout: float = 0.5
    """Dropout on inputs, attention outputs and feed-forward outputs."""
    max_history: int = 50
    """Latest items of a history that the model reads."""
    label_smoothing: float = 0.1
    """Share of the target that is spread evenly over the catalogue."""
    epochs: int = 20
    """Most passes over the training histories."""
    max_steps: int = 0
    """Most steps of training; 0 sets no limit. For logs so long that an epoch is too much."""
    patience: int = 3
    """Validations without a better ndcg@10 before training stops; 0 never stops early."""
    validate_every: int = 2
    """Epochs between validations."""
    validation_users: int = 5000
    """Users drawn for validation during training; 0 takes all."""
    batch_tokens: int = 1024
    """Positions per step, padding included."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW; linear warm-up, then cosine decay to 1 % of it."""
    warmup_steps: int = 200
    """Steps of linear warm-up."""
    weight_decay: float = 0.05
    """Weight decay of AdamW."""
    weight_average: float = 0.999
    """Decay of an exponential moving average of the weights per step; 0 turns it off."""

    def __post_init__(self) -> None:
        _check(self.dim >= 1, self, "dim", "at least 1")
        _check(self.num_layers >= 1, self, "num_layers", "at least 1")
        _check(
            self.num_heads >= 1 and self.dim % self.num_heads == 0,
            self,
            "num_heads",
            f"a divisor of dim = {self.dim}",
        )
        for name in ("dropout", "label_smoothing", "weight_average"):
            _check(0 <= getattr(self, name) < 1, self, name, "in [0, 1)")
        for name in ("max_history", "epochs", "validate_every", "batch_tokens"):
            _check(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("max_steps", "patience", "validation_users", "warmup_steps"):
            _check(getattr(self, name) >= 0, self, name, "at least 0")
        _check(self.learning_rate > 0, self, "learning_rate", "above 0")
        _check(self.weight_decay >= 0, self, "weight_decay", "at least 0")


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """The item graph that is added to the generator's scores at decoding (stage train).

    The graph is untrained: neighbours of the latest history items by training transitions, by
    content and by common words. Only its weight is chosen, by ndcg@10 on validation.
    """

    weights: tuple[float, ...] = (0.0, 2.0, 4.0, 6.0, 8.0, 12.0)
    """Weights to choose from; a single one is taken as it is, and (0.0,) leaves the graph out."""
    two_hop_weight: float = 4.0
    """Weight of paths of two transitions against one."""
    content_weight: float = 0.1
    """Weight of the cosine of two items' content."""
    word_weight: float = 0.2
    """Weight of the likeness of two texts word by word."""
    max_distance: int = 5
    """Two items of one training history are linked when at most this many steps apart."""
    num_latest: int = 10
    """Latest items of a history whose neighbours count."""
    decay: float = 0.6
    """Weight of a history item relative to the one after it."""
    smoothing: float = 0.05
    """Score of an item that is no neighbour; larger makes the graph's opinion flatter."""
    num_neighbours: int = 300
    """Neighbours that are kept of an item; what is near to everything says little."""
    num_candidates: int = 200
    """Neighbours of a history that gain anything."""
    unknown_factor: float = 2.0
    """Times that the weight counts for items without a training event, of which the generator
    knows little."""
    validation_users: int = 5000
    """Users drawn to choose the weight; 0 takes all."""

    def __post_init__(self) -> None:
        _check(
            bool(self.weights) and min(self.weights) >= 0, self, "weights", "non-empty, at least 0"
        )
        for name in (
            "two_hop_weight",
            "content_weight",
            "word_weight",
            "unknown_factor",
            "validation_users",
        ):
            _check(getattr(self, name) >= 0, self, name, "at least 0")
        for name in ("max_distance", "num_latest", "num_neighbours", "num_candidates"):
            _check(getattr(self, name) >= 1, self, name, "at least 1")
        _check(0 < self.decay <= 1, self, "decay", "in (0, 1]")
        _check(self.smoothing > 0, self, "smoothing", "above 0")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How rankings are made and scored (stage evaluate)."""

    cutoffs: tuple[int, ...] = (1, 5, 10, 20, 50)
    """Cut-offs k of recall@k and ndcg@k."""
    beam_width: int = 50
    """Beams W of the constrained search."""
    batch_size: int = 2048
    """Users per batch."""
    bootstrap_samples: int = 1000
    """Resamples of the users for the confidence intervals."""
    max_users: int = 0
    """Users drawn for test and for validation, the same for every ranker; 0 takes all."""
    baselines: tuple[str, ...] = ("popularity",)
    """Baselines scored on the same split: popularity, text_similarity, content_graph, and, trained
    when needed, sasrec and tiger; or "all"."""

    def __post_init__(self) -> None:
        _check(
            bool(self.cutoffs) and min(self.cutoffs) >= 1, self, "cutoffs", "non-empty, at least 1"
        )
        _check(
            self.beam_width >= max(self.cutoffs),
            self,
            "beam_width",
            f"at least the largest cut-off ({max(self.cutoffs)})",
        )
        _check(self.batch_size >= 1, self, "batch_size", "at least 1")
        for name in ("bootstrap_samples", "max_users"):
            _check(getattr(self, name) >= 0, self, name, "at least 0")


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
    fusion: FusionConfig = field(default_factory=FusionConfig)
    sasrec: SasRecConfig = field(default_factory=SasRecConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if self.tokenizer.is_supervised and self.tags.num_levels != self.tokenizer.num_levels:
            raise ConfigError(
                "TagConfig.num_levels and TokenizerConfig.num_levels must agree when tag losses "
                f"are on; found {self.tags.num_levels} and {self.tokenizer.num_levels}. Set both, "
                "or set both tag weights of TokenizerConfig to 0"
            )

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Every setting by section, JSON values only."""
        return cast(dict[str, dict[str, Any]], json.loads(json.dumps(dataclasses.asdict(self))))

    @classmethod
    def from_json(cls, values: Mapping[str, Mapping[str, Any]]) -> Config:
        """The inverse of ``to_json``; unknown keys raise ConfigError."""
        sections = {}
        for section, settings in values.items():
            if section not in SECTIONS:
                raise ConfigError(
                    f"unknown config section {section!r}{_nearest(section, SECTIONS)}"
                )
            sections[section] = build_section(SECTIONS[section], settings)
        return cls(**sections)


SECTIONS: dict[str, type] = {
    "run": RunConfig,
    "dataset": DatasetConfig,
    "embedding": EmbeddingConfig,
    "tags": TagConfig,
    "llm": LLMConfig,
    "tokenizer": TokenizerConfig,
    "retriever": RetrieverConfig,
    "fusion": FusionConfig,
    "sasrec": SasRecConfig,
    "evaluation": EvaluationConfig,
}
"""Field of Config -> its class; the class name is the name gin files use."""

PUBLISHED_NAMES: dict[str, str] = {
    # stage 1, train.<name> of h_rqvae_*.gin
    "iterations": "TokenizerConfig.epochs or RetrieverConfig.epochs",
    "batch_size": "TokenizerConfig.batch_size or RetrieverConfig.batch_tokens",
    "learning_rate": "TokenizerConfig.learning_rate or RetrieverConfig.learning_rate",
    "weight_decay": "TokenizerConfig.weight_decay or RetrieverConfig.weight_decay",
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
    "use_kmeans_init": "TokenizerConfig.kmeans_init",
    "commitment_weight": "TokenizerConfig.commitment_weight",
    "tag_alignment_weight": "TokenizerConfig.tag_alignment_weight",
    "tag_prediction_weight": "TokenizerConfig.tag_prediction_weight",
    "sem_id_uniqueness_weight": "TokenizerConfig.uniqueness_weight",
    "sem_id_uniqueness_margin": "TokenizerConfig.uniqueness_margin",
    "alignment_temperature": "TokenizerConfig.alignment_temperature",
    "focal_loss_gamma_base": "TokenizerConfig.focal_gamma",
    "rare_tag_threshold": "TagConfig.min_count",
    "dropout_rate": "TokenizerConfig.dropout",
    "label_smoothing_alpha": "TokenizerConfig.label_smoothing",
    "mixup_alpha": "TokenizerConfig.mixup_alpha",
    # stage 2, train.<name> of decoder_*.gin
    "decoder_embed_dim": "RetrieverConfig.dim",
    "attn_embed_dim": "RetrieverConfig.dim",
    "attn_heads": "RetrieverConfig.num_heads",
    "attn_layers": "RetrieverConfig.num_layers",
    "dropout_p": "RetrieverConfig.dropout",
    "use_dedup_dim": "TokenizerConfig.collisions",
    "use_concatenated_ids": "RetrieverConfig.tag_tokens",
    "use_interleaved_ids": "RetrieverConfig.tag_tokens",
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
    "use_label_smoothing": "TokenizerConfig.label_smoothing",
    "use_mixup": "TokenizerConfig.mixup_alpha",
    "vae_input_dim": "not needed (read from the embeddings)",
    "tag_embed_dim": "not needed (read from the tags)",
    "tag_class_counts": "not needed (read from the tags)",
    "gradient_accumulate_every": "not needed (raise the batch size)",
    "force_dataset_process": "not needed (a stage is made again when its inputs change)",
    "pretrained_hrqvae_path": "not needed (a stopped training goes on by itself)",
    "pretrained_decoder_path": "not needed (a stopped training goes on by itself)",
    "model_jagged_mode": "not needed (histories are padded by length)",
}
"""``train.<name>`` of the published gin files -> the name here (docs/configuration.md)."""

for _section in SECTIONS.values():
    gin.external_configurable(_section, name=_section.__name__)


def load_config(
    files: Sequence[Path] = (), overrides: Sequence[str] = (), base: Config | None = None
) -> Config:
    """Read gin files, then ``name=value`` overrides, over ``base`` (the defaults).

    Args:
        files: gin files, later ones win.
        overrides: Bindings such as ``TokenizerConfig.epochs=10``; strings may be left unquoted.
        base: Settings to start from.

    Raises:
        ConfigError: A file is missing or malformed, a key is unknown, a value is out of range.
    """
    bindings = []
    for override in overrides:
        name, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"--set {override}: expected name=value, such as RunConfig.seed=1")
        bindings.append(f"{name.strip()} = {_as_literal(value.strip())}")
    texts = [_read_gin(Path(file)) for file in files]
    _check_names("\n".join(bindings), "--set")
    try:
        with gin.unlock_config():
            gin.clear_config()
            gin.parse_config("\n".join([*texts, *bindings]))
            found = {name: gin.get_bindings(cls.__name__) for name, cls in SECTIONS.items()}
    except (ValueError, SyntaxError, OSError, TypeError) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    finally:
        gin.clear_config()
    base = base or Config()
    return Config(
        **{
            name: build_section(cls, {**_field_values(getattr(base, name)), **found[name]})
            for name, cls in SECTIONS.items()
        }
    )


def build_section(cls: type, values: Mapping[str, Any]) -> Any:
    """Construct a config class from loose values, checking names and types."""
    hints = get_type_hints(cls)
    checked = {}
    for name, value in values.items():
        if name not in hints:
            raise ConfigError(f"unknown key {cls.__name__}.{name}{_nearest(name, hints)}")
        checked[name] = _coerce(value, hints[name], f"{cls.__name__}.{name}")
    return cls(**checked)


def _read_gin(file: Path, including: tuple[Path, ...] = ()) -> str:
    """Text of a gin file with its includes, looked up beside it, in place; names are checked."""
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
    lines = text.splitlines()
    for statement in _check_names(text, str(file)):
        if isinstance(statement, gin.config_parser.IncludeStatement):
            included = file.parent / statement.filename
            lines[statement.location.line_num - 1] = _read_gin(included, (*including, file))
    return "\n".join(lines)


def _check_names(text: str, where: str) -> list[Any]:
    """Fail on unknown keys before gin sees them, so that the message can name the nearest.

    Returns:
        The text's statements as gin parses them.
    """
    classes = {cls.__name__: cls for cls in SECTIONS.values()}
    try:
        statements = list(gin.config_parser.ConfigParser(text, gin.config.ParserDelegate(True)))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error
    for statement in statements:
        if not isinstance(statement, gin.config_parser.BindingStatement) or not statement.arg_name:
            continue
        owner, name = statement.selector, statement.arg_name
        if owner in ("macro", "gin.macro"):
            continue
        place = f"{where}, line {statement.location.line_num}" if where != "--set" else where
        if owner == "train" and name in PUBLISHED_NAMES:
            raise ConfigError(
                f"{place}: train.{name} is the published name; here it is {PUBLISHED_NAMES[name]}"
            )
        known = [f"{c}.{f.name}" for c, cls in classes.items() for f in fields(cls)]
        if f"{owner}.{name}" not in known:
            raise ConfigError(
                f"{place}: unknown key {owner}.{name}{_nearest(f'{owner}.{name}', known)}"
            )
    return statements


def _coerce(value: Any, hint: Any, name: str) -> Any:
    """Value as the annotated type, or ConfigError saying what was expected."""
    origin = get_origin(hint)
    if origin is Literal:
        if isinstance(value, int) and str(value) in get_args(hint):
            return str(value)  # --set DatasetConfig.amazon_release=2014
        if value not in get_args(hint):
            choices = ", ".join(repr(choice) for choice in get_args(hint))
            raise ConfigError(f"{name}: expected one of {choices}; found {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name}: expected a list; found {value!r}")
        return tuple(_coerce(entry, get_args(hint)[0], name) for entry in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{name}: expected {hint.__name__}; found {value!r}")
    return value


def _as_literal(value: str) -> str:
    """A bare word on the command line is a string: ``--set DatasetConfig.source=demo``."""
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value if value.startswith(("@", "%")) else repr(value)
    return value


def _field_values(section: Any) -> dict[str, Any]:
    return {f.name: getattr(section, f.name) for f in fields(section)}


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _check(is_valid: bool, section: Any, name: str, expected: str) -> None:
    if not is_valid:
        found = getattr(section, name)
        raise ConfigError(f"{type(section).__name__}.{name}: expected {expected}; found {found!r}")
