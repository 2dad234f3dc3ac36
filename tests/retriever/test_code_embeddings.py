"""Embeddings of codes, and which tag describes which token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hidvae.retriever.code_embeddings import (
    CodeEmbedding,
    UserEmbedding,
    code_of_token,
    tag_level_of_token,
)
from hidvae.semantic_ids.table import SemanticIds

from .tiny import LEVEL_SIZES, TAG_SIZES, random_ids

CODE_SIZE, TAG_SIZE = 100, 10  # a token's kind and level can be read off its level's size


@given(
    st.integers(1, 5), st.integers(1, 5), st.sampled_from(["none", "concatenated", "interleaved"])
)
@settings(max_examples=60, deadline=None)
def test_tag_levels_follow_the_layout_of_the_tokens(num_codes: int, num_tags: int, mode) -> None:
    num_tags = min(num_tags, num_codes)
    ids = SemanticIds(
        ["only"],
        np.zeros((1, num_codes), dtype=np.int64),
        tuple(CODE_SIZE + level for level in range(num_codes)),
        np.zeros((1, num_tags), dtype=np.int64),
        np.ones((1, num_tags), dtype=np.float32),
    )
    tokens = ids.with_tag_tokens(mode, [TAG_SIZE + level - 1 for level in range(num_tags)])
    expected = []
    for size in tokens.level_sizes:
        is_tag = size < CODE_SIZE
        level = size - (TAG_SIZE if is_tag else CODE_SIZE)
        expected.append(level if level < num_tags else -1)
    assert tag_level_of_token(tokens.num_levels, num_tags, mode) == tuple(expected)
    owners, code = [], -1
    for size in tokens.level_sizes:
        code += size >= CODE_SIZE  # a tag belongs to the code before it
        owners.append(code)
    assert code_of_token(tokens.num_levels, num_tags, mode) == tuple(owners)


def embedding(level_type: bool = True, tag_texts: bool = True) -> CodeEmbedding:
    torch.manual_seed(0)
    made = CodeEmbedding(
        LEVEL_SIZES,
        8,
        level_type=level_type,
        tag_embeddings=[torch.randn(size, 5) for size in TAG_SIZES] if tag_texts else None,
        tag_levels=(0, 1, 2),
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("level_type", [True, False])
@pytest.mark.parametrize("tag_texts", [True, False])
def test_one_level_at_a_time_equals_all_at_once(level_type: bool, tag_texts: bool) -> None:
    ids, embed = random_ids(), embedding(level_type, tag_texts)
    codes, tags = torch.from_numpy(ids.codes), torch.from_numpy(ids.tag_ids)
    together = embed(codes, tags)
    assert together.shape == (32, 3, 8)
    for level in range(3):
        torch.testing.assert_close(embed(codes[:, level], tags, level), together[:, level])


def test_the_sum_of_maps_is_a_linear_map_of_the_concatenation() -> None:
    ids, embed = random_ids(), embedding()
    offset = 0
    for level, size in enumerate(LEVEL_SIZES):
        tag, code = ids.tag_ids[:, level], ids.codes[:, level]
        text = getattr(embed, f"tag_text_{level}")[:-1]
        text = torch.cat([text, torch.zeros(1, 5)])[torch.from_numpy(tag)]  # -1: the zero row
        one_hot = torch.eye(sum(LEVEL_SIZES))[torch.from_numpy(code + offset)]
        level_one_hot = torch.eye(3)[level].expand(32, 3)
        assert embed.tag_projection is not None and embed.level_type is not None
        weight = torch.cat([embed.table.weight, embed.level_type, embed.tag_projection.weight.T])
        expected = torch.cat([one_hot, level_one_hot, text], dim=1) @ weight
        found = embed(torch.from_numpy(ids.codes), torch.from_numpy(ids.tag_ids))[:, level]
        torch.testing.assert_close(found, expected)
        offset += size


def test_an_unknown_tag_adds_nothing_and_a_known_one_does() -> None:
    with_texts, without = embedding(), embedding(tag_texts=False)
    without.load_state_dict(with_texts.state_dict(), strict=False)
    codes = torch.tensor([[1, 2, 3]])
    plain = without(codes, torch.tensor([[0, 0, 0]]))
    torch.testing.assert_close(with_texts(codes, torch.tensor([[-1, -1, -1]])), plain)
    partly = with_texts(codes, torch.tensor([[0, -1, 3]])) - plain
    assert (partly.abs().amax(dim=2) > 1e-3).tolist() == [[True, False, True]]


def test_the_output_layer_shares_the_rows_of_its_level() -> None:
    embed = embedding(level_type=False, tag_texts=False)
    for level, size in enumerate(LEVEL_SIZES):
        weights = embed.output_weights(level)
        codes = torch.arange(size)
        torch.testing.assert_close(weights, embed(codes, torch.empty(size, 0), level))


def test_tag_text_reaches_codes_and_tags_of_every_layout() -> None:
    ids = random_ids()
    for mode in ("concatenated", "interleaved"):
        tokens = ids.with_tag_tokens(mode, TAG_SIZES)
        embed = CodeEmbedding(
            tokens.level_sizes,
            8,
            tag_embeddings=[torch.randn(size, 5) for size in TAG_SIZES],
            tag_levels=tag_level_of_token(tokens.num_levels, 3, mode),
        )
        vectors = embed(torch.from_numpy(tokens.codes), torch.from_numpy(tokens.tag_ids))
        assert vectors.shape == (32, 6, 8)
        no_tag = embed(torch.from_numpy(tokens.codes), torch.full((32, 3), -1))
        has_text = ((vectors - no_tag).abs().amax(dim=2) > 1e-6).numpy()
        level_of = np.array(tag_level_of_token(6, 3, mode))
        assert (has_text == (ids.tag_ids >= 0)[:, level_of]).all()


def test_an_unknown_user_adds_nothing_and_users_share_buckets() -> None:
    users = UserEmbedding(3, 4)
    vectors = users(torch.tensor([-1, 0, 3, 1, 2]))
    assert (vectors[0] == 0).all()
    assert torch.equal(vectors[1], vectors[2])
    assert not torch.equal(vectors[1], vectors[3])
    assert not torch.equal(vectors[3], vectors[4])
