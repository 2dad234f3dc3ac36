"""Embeddings of codes and of users."""

from __future__ import annotations

import torch

from hidvae.retriever.code_embeddings import CodeEmbedding, UserEmbedding

from .tiny import LEVEL_SIZES, random_ids


def embedding() -> CodeEmbedding:
    torch.manual_seed(0)
    made = CodeEmbedding(LEVEL_SIZES, 8)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter))
    return made


def test_one_level_at_a_time_and_the_sum_equal_all_at_once() -> None:
    codes, embed = torch.from_numpy(random_ids().codes), embedding()
    together = embed(codes)
    assert together.shape == (32, 3, 8)
    for level in range(3):
        torch.testing.assert_close(embed(codes[:, level], level), together[:, level])
    torch.testing.assert_close(embed.summed(codes), together.sum(dim=1))


def test_the_sum_of_maps_is_a_linear_map_of_the_concatenation() -> None:
    codes, embed = torch.from_numpy(random_ids().codes), embedding()
    offset = 0
    for level, size in enumerate(LEVEL_SIZES):
        one_hot = torch.eye(sum(LEVEL_SIZES))[codes[:, level] + offset]
        level_one_hot = torch.eye(3)[level].expand(32, 3)
        weight = torch.cat([embed.table.weight, embed.level_type])
        expected = torch.cat([one_hot, level_one_hot], dim=1) @ weight
        torch.testing.assert_close(embed(codes)[:, level], expected)
        offset += size


def test_the_output_layer_shares_the_rows_of_its_level() -> None:
    embed = embedding()
    for level, size in enumerate(LEVEL_SIZES):
        weights = embed.output_weights(level) + embed.level_type[level]
        torch.testing.assert_close(weights, embed(torch.arange(size), level))


def test_an_unknown_user_adds_nothing_and_users_share_buckets() -> None:
    users = UserEmbedding(3, 4)
    vectors = users(torch.tensor([-1, 0, 3, 1, 2]))
    assert (vectors[0] == 0).all()
    assert torch.equal(vectors[1], vectors[2])
    assert not torch.equal(vectors[1], vectors[3])
    assert not torch.equal(vectors[3], vectors[4])
