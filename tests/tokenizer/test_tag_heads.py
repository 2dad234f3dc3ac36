from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hidvae.tokenizer.tag_heads import TagHeads

LATENT_DIM = 4


def heads_of(sizes: list[int], dropout: float = 0.1) -> TagHeads:
    torch.manual_seed(0)
    embeddings = [torch.randn(size, 6) for size in sizes]
    return TagHeads(embeddings, LATENT_DIM, dropout).eval()


def vectors(seed: int = 0, batch: int = 5, levels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, levels, LATENT_DIM, generator=generator)


def test_a_predicted_tag_depends_on_the_prefix_alone() -> None:
    heads, before = heads_of([3, 5, 7]), vectors()
    for changed in range(3):
        after = before.clone()
        after[:, changed] += 1
        for level in range(3):
            logits = [heads.logits(level, heads.inputs(v)[level]) for v in (before, after)]
            assert torch.equal(*logits) == (changed > level), (changed, level)
            tags, confidence = heads.predict(after)
            if changed > level:
                assert torch.equal(tags[:, level], heads.predict(before)[0][:, level])
                assert torch.equal(confidence[:, level], heads.predict(before)[1][:, level])


def test_inputs_are_the_prefixes_vectors_side_by_side() -> None:
    level_vectors = vectors()
    inputs = heads_of([2, 2, 2]).inputs(level_vectors)
    for level in range(3):
        assert torch.equal(inputs[level], level_vectors[:, : level + 1].reshape(5, -1))


def test_shapes_of_every_level() -> None:
    heads = heads_of([3, 5, 7])
    for level, size in enumerate([3, 5, 7]):
        width = LATENT_DIM * (level + 1)
        head_input = heads.inputs(vectors())[level]
        assert head_input.shape == (5, width)
        assert heads.class_vectors(level).shape == (size, width)
        assert heads.logits(level, head_input).shape == (5, size)


def test_prediction_is_the_most_probable_class() -> None:
    heads, level_vectors = heads_of([3, 5]), vectors(levels=2)
    tags, confidence = heads.predict(level_vectors)
    for level in range(2):
        probabilities = heads.logits(level, heads.inputs(level_vectors)[level]).softmax(dim=1)
        assert torch.equal(tags[:, level], probabilities.argmax(dim=1))
        torch.testing.assert_close(confidence[:, level], probabilities.max(dim=1).values)


def test_the_path_ends_at_a_level_without_tags() -> None:
    tags, confidence = heads_of([3, 5, 0]).predict(vectors())
    assert (tags[:, :2] >= 0).all() and (confidence[:, :2] > 0).all()
    assert (tags[:, 2] == -1).all() and (confidence[:, 2] == 0).all()
    tags, confidence = heads_of([3, 0, 7]).predict(vectors())
    assert (tags[:, 1:] == -1).all() and (confidence[:, 1:] == 0).all()


PARENTS = [
    torch.tensor([-1, -1, -1]),
    torch.tensor([0, 0, 2, 2]),  # tag 1 of level 0 has no children
    torch.tensor([0, 1, 1, 3, -1]),  # tag 2 of level 1 has none; the last is "Other"
]


def hierarchy() -> tuple[TagHeads, Tensor]:
    torch.manual_seed(0)
    embeddings = [torch.randn(len(parents), 6) for parents in PARENTS]
    return TagHeads(embeddings, LATENT_DIM, tag_parents=PARENTS).eval(), vectors(batch=400)


def test_a_predicted_path_exists_in_the_hierarchy() -> None:
    heads, level_vectors = hierarchy()
    tags, confidence = heads.predict(level_vectors)
    for level in (1, 2):
        above, own = tags[:, level - 1], tags[:, level]
        parents = PARENTS[level][own]
        assert ((own == -1) | (parents == above) | (parents == -1)).all()
        assert (own[above == -1] == -1).all(), "an ended path does not go on, not even to Other"
    assert torch.equal(tags[:, 1] == -1, tags[:, 0] == 1)
    assert torch.equal(tags == -1, confidence == 0)
    assert (tags[:, 2] == 4).any(), "Other follows any tag"
    assert len(tags.unique(dim=0)) > 5


def test_a_level_takes_the_most_probable_of_the_children() -> None:
    heads, level_vectors = hierarchy()
    tags, confidence = heads.predict(level_vectors)
    inputs = heads.inputs(level_vectors)
    for level in range(3):
        probabilities = heads.logits(level, inputs[level]).softmax(dim=1).detach()
        for row in range(0, 400, 20):
            above = int(tags[row, level - 1]) if level else -1
            is_over = level > 0 and above == -1
            children = [t for t, p in enumerate(PARENTS[level].tolist()) if p in (-1, above)]
            scores = {tag: float(probabilities[row, tag]) for tag in children if not is_over}
            best = max(scores, key=lambda tag: scores[tag], default=-1)
            assert tags[row, level] == best
            assert float(confidence[row, level]) == pytest.approx(scores.get(best, 0.0))


def test_deeper_heads_are_wider_and_drop_more() -> None:
    heads = heads_of([2] * 6, dropout=0.2)
    rates = [head[3].rate for head in heads.classifiers]  # type: ignore[index]
    assert rates == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.5, 0.5])
    widths = [head[0].out_features for head in heads.classifiers]  # type: ignore[index]
    assert widths == sorted(set(widths))


def test_dropout_is_off_in_evaluation() -> None:
    heads, head_input = heads_of([3], dropout=0.5), vectors()[:, 0]
    assert torch.equal(heads.logits(0, head_input), heads.logits(0, head_input))
    heads.train()
    assert not torch.equal(heads.logits(0, head_input), heads.logits(0, head_input))
