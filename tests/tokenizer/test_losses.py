from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hidvae.errors import ShapeError
from hidvae.tokenizer import losses
from hidvae.tokenizer.losses import tag_alignment_loss, tag_prediction_loss, uniqueness_loss


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def paper_uniqueness(latents: Tensor, codes: Tensor, items: Tensor, margin: float) -> float:
    """The equation, pair by pair, in plain Python."""
    costs = []
    for i in range(len(latents)):
        for j in range(i + 1, len(latents)):
            if items[i] != items[j] and codes[i].tolist() == codes[j].tolist():
                a, b = latents[i].double(), latents[j].double()
                costs.append(max(0.0, float(a @ b / (a.norm() * b.norm())) - margin))
    return sum(costs) / len(costs) if costs else 0.0


@settings(max_examples=50, deadline=None)
@given(
    size=st.integers(1, 12),
    num_codes=st.integers(1, 3),
    num_items=st.integers(1, 12),
    margin=st.floats(-1, 1),
    seed=st.integers(0, 1000),
)
def test_uniqueness_is_the_papers_equation(
    size: int, num_codes: int, num_items: int, margin: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    latents = normal(size, 4, seed=seed)
    codes = torch.randint(num_codes, (size, 2), generator=generator)
    items = torch.randint(num_items, (size,), generator=generator)
    expected = paper_uniqueness(latents, codes, items, margin)
    for most_pairs in (64, 0):  # one by one, and all in a table
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(losses, "_MOST_PAIRS", most_pairs)
            found = uniqueness_loss(latents, codes, items, margin).item()
        assert found == pytest.approx(expected, abs=1e-5)


def test_pairs_in_a_table_have_the_gradient_of_pairs_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = torch.randint(3, (40, 2), generator=torch.Generator().manual_seed(0))
    gradients = []
    for most_pairs in (64, 0):
        monkeypatch.setattr(losses, "_MOST_PAIRS", most_pairs)
        latents = normal(40, 4).requires_grad_()
        uniqueness_loss(latents, codes, torch.arange(40), margin=-0.2).backward()
        gradients.append(latents.grad)
    assert gradients[0] is not None and gradients[0].abs().sum() > 0.01
    torch.testing.assert_close(gradients[1], gradients[0])


def test_uniqueness_is_positive_on_planted_duplicates() -> None:
    """The published code compared levels instead of items, and was 0 here (bug B1)."""
    half = normal(64, 8)
    latents = torch.cat([half, half + 0.01 * normal(64, 8, seed=1)])
    codes = torch.arange(64).repeat(2).unsqueeze(1).expand(-1, 3)
    loss = uniqueness_loss(latents, codes, torch.arange(128), margin=0.9)
    assert loss.item() == pytest.approx(0.1, abs=1e-3)


def test_a_gradient_step_on_uniqueness_parts_the_latents() -> None:
    latents = torch.tensor([[1.0, 0.1], [1.0, -0.1], [0.0, 1.0]], requires_grad=True)
    codes = torch.tensor([[5, 5], [5, 5], [5, 4]])
    items = torch.arange(3)
    before = uniqueness_loss(latents, codes, items, margin=0.5)
    (gradient,) = torch.autograd.grad(before, latents)
    moved = latents.detach() - gradient
    cosine = F.cosine_similarity(moved[0], moved[1], dim=0)
    assert cosine < F.cosine_similarity(latents[0], latents[1], dim=0)
    assert uniqueness_loss(moved, codes, items, margin=0.5) < before
    assert gradient[2].abs().sum() == 0, "an item with an ID of its own is left alone"


def test_uniqueness_is_exactly_zero_without_a_reason() -> None:
    latents = torch.ones(4, 3)
    codes = torch.tensor([[0, 1], [0, 2], [1, 1], [2, 2]])
    assert uniqueness_loss(latents, codes, torch.arange(4), 0.9).item() == 0
    same_codes = torch.zeros(4, 2, dtype=torch.long)
    assert uniqueness_loss(latents, same_codes, torch.full((4,), 7), 0.9).item() == 0
    assert uniqueness_loss(latents, same_codes, torch.arange(4), 0.9).item() > 0
    assert uniqueness_loss(torch.eye(4), same_codes, torch.arange(4), 0.9).item() == 0


@pytest.mark.parametrize("sizes", [(3, 4, 4), (4, 3, 4), (4, 4, 3)])
def test_uniqueness_refuses_inputs_of_different_sizes(sizes: tuple[int, int, int]) -> None:
    latents, codes, items = sizes
    with pytest.raises(ShapeError, match=f"{latents}, {codes} and {items}"):
        uniqueness_loss(
            torch.ones(latents, 2), torch.zeros(codes, 2), torch.arange(items), margin=0.9
        )


def test_items_of_one_tag_are_positives() -> None:
    """Same vector, same tag: another item of the tag must not raise the loss."""
    quantized, classes = normal(2, 4), normal(2, 4, seed=1)
    two = tag_alignment_loss(quantized, classes, torch.tensor([0, 1]), 0.1)
    repeated = tag_alignment_loss(
        quantized.repeat_interleave(5, dim=0), classes, torch.tensor([0] * 5 + [1] * 5), 0.1
    )
    assert repeated.item() == pytest.approx(two.item(), rel=1e-5)


def test_alignment_is_a_cross_entropy_over_the_classes_of_the_batch() -> None:
    quantized, classes = normal(6, 4), normal(9, 4, seed=1)
    tags = torch.tensor([8, 2, 2, 8, 2, 5])
    present = classes[[2, 5, 8]]
    cosine = F.cosine_similarity(quantized.unsqueeze(1), present.unsqueeze(0), dim=2)
    expected = F.cross_entropy(cosine / 0.07, torch.tensor([2, 0, 0, 2, 0, 1]))
    assert tag_alignment_loss(quantized, classes, tags, 0.07).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_alignment_can_reach_zero_with_few_classes() -> None:
    """In-batch negatives cannot: their floor is the mean log of a class's size (bug B5)."""
    num_classes, size = 6, 128
    classes = torch.eye(num_classes)
    tags = torch.arange(size) % num_classes
    quantized = classes[tags]  # perfectly aligned
    assert tag_alignment_loss(quantized, classes, tags, 0.07).item() < 1e-4
    in_batch = F.cross_entropy(quantized @ classes[tags].T / 0.07, torch.arange(size))
    assert in_batch.item() == pytest.approx(math.log(size / num_classes), abs=0.01)


def test_alignment_pulls_an_item_to_its_tag() -> None:
    quantized = normal(3, 4).requires_grad_()
    classes, tags = normal(3, 4, seed=1), torch.tensor([0, 1, 2])
    (gradient,) = torch.autograd.grad(tag_alignment_loss(quantized, classes, tags, 0.5), quantized)
    before = F.cosine_similarity(quantized.detach(), classes, dim=1)
    after = F.cosine_similarity(quantized.detach() - 0.1 * gradient, classes, dim=1)
    assert (after > before).all()


@pytest.mark.parametrize("loss", ["alignment", "prediction"])
def test_unknown_tags_give_the_loss_of_the_cut_batch(loss: str) -> None:
    tags = torch.tensor([1, -1, 0, -1, 3])
    known = tags >= 0
    inputs = normal(5, 4).requires_grad_()

    def value(rows: Tensor, ids: Tensor) -> Tensor:
        if loss == "alignment":
            return tag_alignment_loss(rows, normal(4, 4, seed=1), ids, 0.07)
        return tag_prediction_loss(rows, ids, 2.0)

    masked = value(inputs, tags)
    assert masked.item() == pytest.approx(value(inputs[known], tags[known]).item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(masked, inputs)
    assert gradient[~known].abs().sum() == 0
    assert gradient[known].abs().sum() > 0
    assert value(inputs, torch.full((5,), -1)).item() == 0


def test_prediction_without_options_is_cross_entropy() -> None:
    logits, tags = normal(7, 5), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    assert torch.equal(tag_prediction_loss(logits, tags), F.cross_entropy(logits, tags))


def test_focal_scales_each_item_by_how_wrong_it_is() -> None:
    logits, tags = normal(7, 5).requires_grad_(), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    scale = (1 - logits.detach().softmax(dim=1)[torch.arange(7), tags]) ** 2
    expected = (scale * F.cross_entropy(logits, tags, reduction="none")).mean()
    found = tag_prediction_loss(logits, tags, 2.0)
    torch.testing.assert_close(found, expected)
    # The scale is a weight and no loss: making an item easier is no way to lower it.
    torch.testing.assert_close(
        torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits)
    )


def test_focal_down_weights_what_is_easy() -> None:
    easy, hard = torch.tensor([[4.0, 0.0]]), torch.tensor([[-4.0, 0.0]])
    tag = torch.tensor([0])

    def kept(logits: Tensor) -> float:
        focal, plain = tag_prediction_loss(logits, tag, 2.0), tag_prediction_loss(logits, tag)
        return float(focal / plain)

    assert kept(easy) < 0.001
    assert kept(hard) > 0.95
