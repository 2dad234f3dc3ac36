"""Lookups on the model's device against the table of semantic IDs itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hidvae.retriever.catalogue_tables import CatalogueTables
from hidvae.semantic_ids.table import SemanticIds

from .tiny import naive_children, random_ids

VARIANTS = [False, True]


def prefixes(codes: np.ndarray, depth: int) -> list[tuple[int, ...]]:
    return sorted({tuple(row[:depth]) for row in codes.tolist()})


def child_table(tables: CatalogueTables, depth: int, nodes: torch.Tensor) -> torch.Tensor:
    """(n, K) the child that each code leads to, -1 where there is none."""
    code, child, is_real = tables.children_at(depth, nodes.unsqueeze(1))
    assert child.shape == (len(nodes), 1, int(is_real.sum(dim=2).max()))  # no wider than needed
    table = torch.full((len(nodes), tables.level_sizes[depth]), -1)
    row, _, place = is_real.nonzero(as_tuple=True)
    table[row, code[row, 0, place]] = child[row, 0, place]
    return table


@pytest.mark.parametrize("disambiguated", VARIANTS)
def test_children_equal_a_dictionary_of_prefixes(disambiguated: bool) -> None:
    ids = random_ids(num_items=50, disambiguated=disambiguated)
    tables, children = CatalogueTables(ids), naive_children(ids.codes)
    for depth in range(ids.num_levels):
        here, below = prefixes(ids.codes, depth), prefixes(ids.codes, depth + 1)
        # Any order, repeats included: beams of a batch stand on the same nodes.
        nodes = torch.tensor([*range(len(here) - 1, -1, -1), 0, len(here) - 1])
        table = child_table(tables, depth, nodes)
        assert table.shape == (len(nodes), ids.level_sizes[depth])
        assert torch.equal(tables.codes_after(depth, nodes), table >= 0)
        assert torch.equal(tables.num_warm_children(depth, nodes), (table >= 0).sum(dim=1))
        for node, row in zip(nodes.tolist(), table.tolist(), strict=True):
            assert [code for code, child in enumerate(row) if child >= 0] == children[here[node]]
            for code, child in enumerate(row):
                if child >= 0:
                    assert below[child] == (*here[node], code)


def test_children_of_several_beams_are_those_of_each_alone() -> None:
    tables = CatalogueTables(random_ids())
    nodes = torch.tensor([[0, 2, 1], [3, 3, 0]])
    together = tables.children_at(1, nodes)
    for user in range(2):
        for beam in range(3):
            is_real = together.is_real[user, beam]
            alone = tables.children_at(1, nodes[user, beam].view(1, 1))
            assert torch.equal(together.node[user, beam][is_real], alone.node.flatten())
            assert torch.equal(together.code[user, beam][is_real], alone.code.flatten())


def test_an_exported_table_of_children_is_as_wide_as_any_node_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = CatalogueTables(random_ids())
    nodes = torch.tensor([[0, 1]])
    found = tables.children_at(1, nodes)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    wide = tables.children_at(1, nodes)
    all_nodes = torch.arange(tables.num_nodes(1)).view(1, -1)
    assert wide.node.shape[2] == tables.most_children[1]
    assert wide.node.shape[2] == int(tables.children_at(1, all_nodes).is_real.sum(dim=2).max())
    for narrow, table in zip(found, wide, strict=True):
        assert torch.equal(table[..., : narrow.shape[2]], narrow)
    assert not wide.is_real[..., found.node.shape[2] :].any()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_reachable_nodes_are_those_above_an_allowed_item(share: float) -> None:
    ids = random_ids(num_items=50)
    tables = CatalogueTables(ids)
    allowed = np.random.default_rng(3).random((3, 50)) < share
    masks = tables.reachable(torch.from_numpy(allowed))
    assert len(masks) == ids.num_levels + 1
    for depth, mask in enumerate(masks):
        for user in range(3):
            kept = {tuple(row[:depth]) for row in ids.codes[allowed[user]].tolist()}
            assert mask[user].tolist() == [path in kept for path in prefixes(ids.codes, depth)]


def test_no_nodes_have_no_children() -> None:
    tables = CatalogueTables(random_ids())
    nodes = torch.empty(0, 1, dtype=torch.long)
    assert {part.shape for part in tables.children_at(1, nodes)} == {(0, 1, 0)}
    assert tables.codes_after(1, nodes.squeeze(1)).shape == (0, tables.level_sizes[1])


def test_tables_are_not_weights_and_move_with_the_model() -> None:
    tables = CatalogueTables(random_ids())
    assert tables.state_dict() == {}
    assert list(tables.parameters()) == []
    moved = CatalogueTables(random_ids()).to("meta")
    assert {buffer.device.type for buffer in moved.buffers()} == {"meta"}


def test_an_id_of_one_level() -> None:
    ids = SemanticIds.without_tags(["x", "y", "z"], np.array([[2], [0], [3]]), (5,))
    tables = CatalogueTables(ids)
    row = child_table(tables, 0, torch.tensor([0]))[0]
    assert row.tolist() == [0, -1, 1, 2, -1]
    assert tables.item_at_leaf[row[row >= 0]].tolist() == [1, 0, 2]


@pytest.mark.parametrize("disambiguated", VARIANTS)
def test_a_loss_sees_the_trie_of_warm_items_and_a_search_that_of_all(disambiguated: bool) -> None:
    ids = random_ids(num_items=50, disambiguated=disambiguated)
    warm = np.random.default_rng(1).random(50) < 0.5
    tables, everything = CatalogueTables(ids, warm), CatalogueTables(ids)
    of_warm = naive_children(ids.codes[warm])
    for depth in range(ids.num_levels):
        nodes = tables.nodes_of_items[depth]
        valid = tables.codes_after(depth, nodes)
        for item, prefix in enumerate(map(tuple, ids.codes[:, :depth].tolist())):
            assert valid[item].nonzero().squeeze(1).tolist() == of_warm.get(prefix, [])
        assert torch.equal(tables.num_warm_children(depth, nodes), valid.sum(dim=1))
        for found, expected in zip(
            tables.children_at(depth, nodes.unsqueeze(1)),
            everything.children_at(depth, nodes.unsqueeze(1)),
            strict=True,
        ):
            assert torch.equal(found, expected)
    assert tables.num_items == 50
