"""The tokenizer: training, unique IDs for a large catalogue, and quantizer and k-means with peers.

    python benchmarks/bench_tokenizer.py
    python benchmarks/bench_tokenizer.py --items 200000

The catalogue is generated: 448 numbers per item, planted in three levels of clusters, whose tags
the tokenizer learns. "IDs" is all that the second half of the stage ``tokenize`` computes:
encoding, parting items that share an ID, and the tags of the new IDs. Peers take turns with ours:
vector-quantize-pytorch's ResidualVQ, and scikit-learn's KMeans and MiniBatchKMeans.
"""

from __future__ import annotations

import importlib.util
import resource
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import Bar, Timing, argument_parser, print_table, report, set_threads, take_turns

from hidvae.config import TokenizerConfig
from hidvae.semantic_ids.collisions import collision_rate, reassign
from hidvae.tokenizer.codebook import kmeans
from hidvae.tokenizer.encode import encode_items, predict_tags
from hidvae.tokenizer.model import HiDVAE, TokenizerLosses, build_tokenizer
from hidvae.tokenizer.residual_quantizer import ResidualQuantizer
from hidvae.tokenizer.train_tokenizer import WEIGHT_DECAY

CLUSTERS = (16, 128, 1024)
"""Tags of each level; those of a level part each one above into 8."""
TAG_DIM = 384
KMEANS_ITERATIONS = 25
_BLOCK = 65_536


@dataclass(frozen=True)
class Sizes:
    """How much is trained, encoded and compared."""

    items: int = 1_000_000
    input_dim: int = 448
    codebook_size: int = 256
    training_items: int = 100_000
    """First items, on which the codebooks start and the steps run."""
    steps_per_round: int = 10
    rounds: int = 9
    vectors: int = 65_536
    """Latents that the quantizers are compared on."""
    peer_rounds: int = 3


QUICK = Sizes(
    items=20_000,
    input_dim=32,
    codebook_size=64,
    training_items=2_000,
    steps_per_round=1,
    rounds=3,
    vectors=2_000,
    peer_rounds=2,
)


@dataclass(frozen=True)
class Catalogue:
    """Generated items."""

    embeddings: np.ndarray
    """(N, D_in) float32."""
    tag_ids: np.ndarray
    """(N, L)."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep."""
    parser = argument_parser(__doc__)
    parser.add_argument("--items", type=int, help="that get IDs, instead of a million")
    arguments = parser.parse_args(argv)
    set_threads(arguments)
    sizes = QUICK if arguments.quick else Sizes()
    num_items = arguments.items or sizes.items
    catalogue = generate(num_items, sizes.input_dim)
    config = TokenizerConfig(codebook_size=sizes.codebook_size)
    model = new_tokenizer(config, sizes.input_dim)

    training = bench_training(model, catalogue, config, sizes)
    print_table([training])
    ids = bench_ids(model, catalogue)
    print_table([ids])
    quantizer = bench_quantizer(config, sizes)
    print("\nquantizing, ms per call")
    print_table(quantizer)
    clustering = bench_kmeans(config, sizes)
    print(f"\nk-means, {KMEANS_ITERATIONS} iterations at most")
    print_table(clustering)

    results = {
        "sizes": {**vars(sizes), "items": num_items},
        "training": training,
        "ids": ids,
        "quantizer": quantizer,
        "kmeans": clustering,
    }
    bars = [Bar(f"IDs of {num_items:,} items, seconds", ids["seconds"], 180.0)]
    report("tokenizer", arguments, results, bars)


def generate(num_items: int, dim: int) -> Catalogue:
    """Items around clusters in clusters in clusters."""
    generator = np.random.default_rng(0)
    finest = generator.integers(CLUSTERS[-1], size=num_items)
    tag_ids = np.stack([finest // (CLUSTERS[-1] // count) for count in CLUSTERS], axis=1)
    centres = [
        generator.standard_normal((count, dim), np.float32) * 2.0 ** (1 - level)
        for level, count in enumerate(CLUSTERS)
    ]
    embeddings = np.empty((num_items, dim), np.float32)
    for start in range(0, num_items, _BLOCK):  # so that the peak of memory is not made here
        block = embeddings[start : start + _BLOCK]
        generator.standard_normal(out=block, dtype=np.float32)
        for level, of_level in enumerate(centres):
            block += of_level[tag_ids[start : start + _BLOCK, level]]
    return Catalogue(embeddings, tag_ids)


def new_tokenizer(config: TokenizerConfig, input_dim: int) -> HiDVAE:
    """An untrained tokenizer with tag heads."""
    torch.manual_seed(0)
    parents = [torch.full((CLUSTERS[0],), -1)]
    for above, count in zip(CLUSTERS, CLUSTERS[1:], strict=False):
        parents.append(torch.arange(count) // (count // above))
    texts = [torch.randn(count, TAG_DIM) for count in CLUSTERS]
    return build_tokenizer(config, input_dim, 0, texts, parents)


def bench_training(
    model: HiDVAE, catalogue: Catalogue, config: TokenizerConfig, sizes: Sizes
) -> dict[str, Any]:
    """Start the codebooks, then train for a few steps; the model stays as trained."""
    embeddings = torch.from_numpy(catalogue.embeddings[: sizes.training_items])
    tag_ids = torch.from_numpy(catalogue.tag_ids[: sizes.training_items])
    started = time.perf_counter()
    model.autoencoder.fit_scale(embeddings)
    with torch.no_grad():
        latents = model.autoencoder.encode(embeddings)
    model.quantizer.initialize(latents, torch.Generator().manual_seed(0))
    start_seconds = time.perf_counter() - started
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=config.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
    )
    order = torch.randperm(len(embeddings))
    batches = order.split(config.batch_size)[: sizes.steps_per_round]

    def steps() -> None:
        for rows in batches:
            losses = model(embeddings[rows], tag_ids[rows], rows)
            total_loss(losses, config).backward()
            optimizer.step()
            optimizer.zero_grad()

    model.train()
    timing = take_turns({"steps": steps}, sizes.rounds)["steps"]
    model.eval()
    return {
        "training_items_per_second": sum(map(len, batches)) / timing.median,
        "step_ms": 1000 * timing.median / len(batches),
        "start_seconds": start_seconds,
        "start_items": len(embeddings),
    }


def total_loss(losses: TokenizerLosses, config: TokenizerConfig) -> torch.Tensor:
    """The weighted sum that the stage minimises."""
    return (
        losses.reconstruction
        + losses.codebook
        + config.commitment_weight * losses.commitment
        + config.uniqueness_weight * losses.uniqueness
        + config.tag_alignment_weight * losses.tag_alignment.sum()
        + config.tag_prediction_weight * losses.tag_prediction.sum()
    )


def bench_ids(model: HiDVAE, catalogue: Catalogue) -> dict[str, Any]:
    """Unique IDs and their tags for the whole catalogue, and the most memory so far."""
    clock = [time.perf_counter()]
    latents, codes = encode_items(model, catalogue.embeddings)
    clock.append(time.perf_counter())
    codebooks = [level.vectors().detach().numpy() for level in model.quantizer.levels]
    unique = reassign(latents, codebooks, codes)
    clock.append(time.perf_counter())
    predict_tags(model, unique.codes)
    clock.append(time.perf_counter())
    encoding, parting, tagging = np.diff(clock).tolist()
    assert collision_rate(unique.codes) == 0
    return {
        "items": len(codes),
        "encoded_items_per_second": len(codes) / encoding,
        "encoding_seconds": encoding,
        "parting_seconds": parting,
        "tagging_seconds": tagging,
        "seconds": clock[-1] - clock[0],
        "collision_rate_before": collision_rate(codes),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,  # KiB on Linux
    }


def bench_quantizer(config: TokenizerConfig, sizes: Sizes) -> list[dict[str, Any]]:
    """Residual quantization beside ResidualVQ: codes, a training step, codebooks by k-means."""
    levels, size, dim = config.num_levels, config.codebook_size, config.latent_dim
    latents = torch.randn(sizes.vectors, dim, generator=torch.Generator().manual_seed(0))
    batch = latents[: config.batch_size].clone().requires_grad_()
    ours = ResidualQuantizer(levels, size, dim, config.gradient_mode)
    ours.initialize(latents, torch.Generator().manual_seed(0))

    def train_ours() -> None:
        found = ours(batch)
        loss = found.latent.square().mean() + found.codebook_loss + found.commitment_loss
        loss.backward()

    contestants: dict[str, dict[str, Callable[[], object]]] = {
        "codes": {"hidvae": partial(torch.no_grad()(ours), latents)},
        "training step": {"hidvae": train_ours},
        "start by k-means": {
            "hidvae": lambda: ours.initialize(latents, torch.Generator().manual_seed(0))
        },
    }
    if importlib.util.find_spec("vector_quantize_pytorch") is None:
        print("vector-quantize-pytorch is not installed, so ResidualVQ is left out")
    else:
        theirs = residual_vq(config).eval()
        trained = residual_vq(config).train()
        start = partial(residual_vq, config, kmeans_init=True, kmeans_iters=KMEANS_ITERATIONS)

        def train_theirs() -> None:
            quantized, _, losses = trained(batch[None])
            (quantized.square().mean() + losses.sum()).backward()

        contestants["codes"]["ResidualVQ"] = partial(torch.no_grad()(theirs), latents[None])
        contestants["training step"]["ResidualVQ"] = train_theirs
        contestants["start by k-means"]["ResidualVQ"] = lambda: start().train()(latents[None])
    return [
        {
            "job": job,
            "vectors": len(batch if job == "training step" else latents),
            **rivals_row(take_turns(rivals, sizes.peer_rounds)),
        }
        for job, rivals in contestants.items()
    ]


def residual_vq(config: TokenizerConfig, **settings: Any) -> Any:
    """vector-quantize-pytorch's quantizer of our sizes; its default gradient is the same trick."""
    from vector_quantize_pytorch import ResidualVQ

    return ResidualVQ(
        dim=config.latent_dim,
        num_quantizers=config.num_levels,
        codebook_size=config.codebook_size,
        rotation_trick=config.gradient_mode == "rotation",
        **settings,
    )


def rivals_row(timings: dict[str, Timing]) -> dict[str, Any]:
    """Milliseconds of ours, and of a peer if there is one."""
    ours = timings["hidvae"]
    row: dict[str, Any] = {"hidvae_ms": 1000 * ours.median, "peer_ms": "", "peer_over_hidvae": ""}
    for name, timing in timings.items():
        if name != "hidvae":
            row["peer_ms"] = 1000 * timing.median
            row["peer_over_hidvae"] = timing.ratio_to(ours)
    return row


def bench_kmeans(config: TokenizerConfig, sizes: Sizes) -> list[dict[str, Any]]:
    """One codebook by k-means: seconds, and the mean squared distance that is left."""
    points = generate(sizes.vectors, config.latent_dim).embeddings
    tensor = torch.from_numpy(points)
    found: dict[str, np.ndarray] = {}

    def cluster_ours() -> None:
        generator = torch.Generator().manual_seed(0)
        found["hidvae"] = kmeans(tensor, config.codebook_size, generator, KMEANS_ITERATIONS).numpy()

    contestants: dict[str, Callable[[], object]] = {"hidvae": cluster_ours}
    if importlib.util.find_spec("sklearn") is None:
        print("scikit-learn is not installed, so its k-means is left out")
    else:
        contestants |= {
            name: partial(cluster_sklearn, name, points, config.codebook_size, found)
            for name in ("KMeans", "MiniBatchKMeans")
        }
    timings = take_turns(contestants, sizes.peer_rounds)
    return [
        {
            "k-means": name,
            "vectors": len(points),
            "seconds": timing.median,
            "over_hidvae": timing.ratio_to(timings["hidvae"]),
            "mean_squared_distance": mean_squared_distance(tensor, found[name]),
        }
        for name, timing in timings.items()
    ]


def cluster_sklearn(name: str, points: np.ndarray, size: int, found: dict[str, np.ndarray]) -> None:
    """scikit-learn's k-means from random points, as ours begins, on as many threads as torch."""
    import sklearn.cluster
    from threadpoolctl import threadpool_limits

    settings: dict[str, Any] = {"init": "random", "n_init": 1, "random_state": 0}
    settings["max_iter"] = KMEANS_ITERATIONS
    kind = getattr(sklearn.cluster, name)
    with threadpool_limits(torch.get_num_threads()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge
        found[name] = kind(size, **settings).fit(points).cluster_centers_


def mean_squared_distance(points: torch.Tensor, centroids: np.ndarray) -> float:
    """Of every point to its nearest centroid."""
    others = torch.from_numpy(np.asarray(centroids, np.float32))
    blocks = [torch.cdist(block, others).amin(dim=1) for block in points.split(_BLOCK)]
    return float(torch.cat(blocks).square().mean())


if __name__ == "__main__":
    main()
