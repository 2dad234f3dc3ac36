from __future__ import annotations

import numpy as np
import polars as pl

from hidvae.apps.show.report_ids import code_nodes
from hidvae.features.tags.vocabulary import TagVocabulary
from hidvae.semantic_ids.table import SemanticIds

TAGS = TagVocabulary(
    names=[["Light", "Seats"], ["Lamps", "Oak"]],
    paths=[["Light", "Seats"], ["Light > Lamps", "Seats > Oak"]],
    parents=[np.array([-1, -1]), np.array([0, 1])],
    counts=[np.array([2, 2]), np.array([2, 1])],
)
CODES = np.array([[3, 0], [3, 1], [1, 1], [2, 1]])
TITLES = ["Red lamp", "Blue lamp", "Chair", "Vase"]


def test_tags_stand_above_and_beside_the_codes() -> None:
    tag_ids = np.array([[0, 0], [0, 0], [1, 1], [-1, -1]])
    confidence = np.ones(tag_ids.shape, np.float32)
    ids = SemanticIds(list("wxyz"), CODES, (4, 2), tag_ids, confidence)
    nodes = code_nodes(ids, TAGS, TITLES)
    shown = {(row["name"], row["count"], row["depth"]) for row in nodes.to_dicts()}
    assert {("Light", 2, 0), ("Seats", 1, 0), ("–", 1, 0)} <= shown
    assert {("<a_3> Light", 2, 1), ("<a_1> Seats", 1, 1), ("<a_2>", 1, 1)} <= shown
    assert {("<b_0> Red lamp", 1, 2), ("<b_1> Blue lamp", 1, 2), ("<b_1> Vase", 1, 2)} <= shown
    assert nodes["id"].is_unique().all()
    assert set(nodes["parent"]) <= {"", *nodes["id"]}


def test_ids_without_tags_are_a_tree_of_codes() -> None:
    nodes = code_nodes(SemanticIds.without_tags(list("wxyz"), CODES, (4, 2)), TAGS, TITLES)
    assert nodes.filter(parent="")["name"].to_list() == ["<a_3>", "<a_1>", "<a_2>"]
    assert nodes.group_by("depth").agg(total=pl.col("count").sum()).sort("depth")[
        "total"
    ].to_list() == [4, 4]
