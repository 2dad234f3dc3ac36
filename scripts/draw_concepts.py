"""The pictures of docs/concepts.md, drawn from a trained run.

    python scripts/draw_concepts.py runs/demo

Items, codes, probabilities and scores are the run's; what residual quantization does is shown on
points of the plane, with the package's own quantizer. Writes docs/images/*.svg.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from svg_drawing import LEVELS, Drawing

from hidvae import DataError, Recommendation, Recommender
from hidvae.data.prepare import load_dataset
from hidvae.store.artifacts import read_stage
from hidvae.tokenizer.residual_quantizer import ResidualQuantizer

IMAGES = Path(__file__).parent.parent / "docs" / "images"
NUM_SHOWN = 6
WIDE_BEAM = 200
"""Finds the place that an item has without the graph."""


@dataclass(frozen=True)
class Example:
    """A user of the run and what is recommended to them."""

    recommender: Recommender
    history: list[str]
    found: list[Recommendation]

    @property
    def first(self) -> Recommendation:
        """The best item."""
        return self.found[0]

    def with_prefix(self, prefix: Sequence[str]) -> list[int]:
        """Items (item_index) whose semantic ID begins with these codes."""
        ids = self.recommender.semantic_ids
        wanted = list(prefix)
        return [i for i in range(ids.num_items) if ids.strings(i)[: len(wanted)] == wanted]

    def next_codes(self, prefix: Sequence[str]) -> set[str]:
        """Codes that follow a prefix in the catalogue."""
        ids = self.recommender.semantic_ids
        return {ids.strings(item)[len(prefix)] for item in self.with_prefix(prefix)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a trained run with tags")
    parser.add_argument("--output", type=Path, default=IMAGES)
    options = parser.parse_args(arguments)
    example = choose_example(options.run)
    draw_overview(example).save(options.output / "overview.svg")
    draw_semantic_id(example).save(options.output / "semantic-id.svg")
    draw_quantization().save(options.output / "residual-quantization.svg")
    draw_search(example).save(options.output / "trie-and-beam-search.svg")
    draw_fusion(example).save(options.output / "graph-at-decoding.svg")


def choose_example(run: Path) -> Example:
    """The test user who shows most: the first one whose best item meets every wish.

    Raises:
        DataError: If no best item has a tag path and an item of the history that is like it.
    """
    recommender = Recommender.load(run, device="cpu")
    split = load_dataset(read_stage(run / "dataset", produced_by="hidvae prepare")).split
    item_ids = recommender.catalogue.item_ids
    chosen, most_met = None, -1
    for row in range(split.test_histories.num_users):
        history = [item_ids[item] for item in split.test_histories[row].tolist()]
        found = recommender.recommend(history, k=NUM_SHOWN)
        example = Example(recommender, history, found)
        best = example.first
        if len(best.tag_path) < len(best.codes) or not best.because:
            continue
        item = recommender.catalogue.index_of([best.item_id])
        wishes = (
            # The codes stand for the item's own tags, ...
            bool((recommender.semantic_ids.tag_ids == recommender.item_tags.tag_ids)[item].all()),
            # ... something of the history is much like it, ...
            best.because[0].shared_levels > 1,
            # ... and it has company.
            len(example.with_prefix(best.codes[:-1])) > 3,
        )
        if sum(wishes) > most_met:
            chosen, most_met = example, sum(wishes)
        if all(wishes):
            break
    if chosen is None:
        raise DataError(
            f"{run}: expected a run with tags, and a user whose best item shares a code with the "
            "history; found none; draw another run"
        )
    return chosen


def draw_overview(example: Example) -> Drawing:
    """From a catalogue and a log to a recommendation with its reason."""
    best = example.first
    sheet = Drawing(960, 330, "From a catalogue and an event log to recommendations with reasons")
    columns = [20, 262, 504, 746]
    heads = ["Catalogue and log", "1  Tokenizer", "2  Retriever", "Recommendation"]
    for x, head in zip(columns, heads, strict=True):
        sheet.box(x, 24, 194, 282)
        sheet.text(x + 14, 52, head, is_bold=True, size=16)
    for x in columns[1:]:
        sheet.line((x - 44, 165), (x - 6, 165), "soft", thickness=2, is_arrow=True)

    x = columns[0] + 14
    y = sheet.paragraph(x, 82, best.title, 170)
    y = sheet.paragraph(x, y + 4, " > ".join(best.tag_path), 170, "soft", size=13)
    sheet.paragraph(x, y + 16, "Text, category path, and who took what before what", 170, size=13)

    x = columns[1] + 14
    sheet.paragraph(x, 78, "gives every item a code per level; each stands for a tag", 170, size=13)
    for level, (code, tag) in enumerate(zip(best.codes, best.tag_path, strict=True)):
        y = 158 + 50 * level
        sheet.text(x, y, code, LEVELS[level % 3], size=17, is_bold=True, is_code=True)
        sure = f"{best.tag_confidences[level]:.0%} sure"
        sheet.paragraph(x, y + 20, f"{_cut(tag, 15)}, {sure}", 190, "soft", size=13)

    x = columns[2] + 14
    y = sheet.paragraph(
        x, 78, "reads the codes of a history, writes those of the next", 170, size=13
    )
    for item_id in example.history[-4:]:
        item = int(example.recommender.catalogue.index_of([item_id])[0])
        _codes(sheet, x, y + 14, example.recommender.semantic_ids.strings(item), size=13)
        y += 27
    sheet.line((x + 70, y + 2), (x + 70, y + 28), "soft", is_arrow=True)
    _codes(sheet, x, y + 50, best.codes, size=14)

    x = columns[3] + 14
    y = sheet.paragraph(x, 82, best.title, 170)
    because = best.because[0]
    reason = f"Shares {because.shared_levels} codes with {because.title}, which the user had"
    y = sheet.paragraph(x, y + 4, reason, 170, "soft", size=13)
    sheet.paragraph(x, y + 10, f"probability {best.prob:.2f}", 170, "first", size=13)
    return sheet


def draw_semantic_id(example: Example) -> Drawing:
    """Boxes in boxes: what shares one code with an item, two codes, all."""
    best = example.first
    ids, titles = example.recommender.semantic_ids, example.recommender.catalogue.titles
    sheet = Drawing(960, 410, f"The semantic ID of {best.title}")
    for level in range(len(best.codes)):
        prefix = best.codes[: level + 1]
        inside = example.with_prefix(prefix)
        x, y = 20 + 30 * level, 20 + 116 * level
        is_item = level == len(best.codes) - 1
        bottom = 390 - 20 * level
        sheet.box(x, y, 920 - 60 * level, bottom - y, "page" if level % 2 else "card")
        _codes(sheet, x + 18, y + 32, prefix, size=18)
        tag, sure = best.tag_path[level], best.tag_confidences[level]
        start = x + 40 + 70 * (level + 1)
        sheet.text(start, y + 31, tag, LEVELS[level % 3], size=17, is_bold=True)
        count = "this item alone" if is_item else f"{len(inside)} of {ids.num_items} items"
        sheet.text(start, y + 54, f"{count}; the tag is {sure:.0%} sure", "soft", size=13)
        if is_item:
            sheet.paragraph(start, y + 80, best.title, 560)
            continue
        neighbours = {ids.strings(item)[level + 1]: titles[item] for item in inside}
        neighbours.pop(best.codes[level + 1])
        for line, (code, title) in enumerate(list(neighbours.items())[:2]):
            text = f"{code}  {_cut(title, 34)}"
            sheet.text(x + 480 - 12 * level, y + 31 + 23 * line, text, "soft", size=13)
    return sheet


def draw_quantization() -> Drawing:
    """Points of the plane through two levels of four codes each."""
    generator = np.random.default_rng(5)
    centres = np.array([[-2.1, 1.3], [2.0, 1.7], [-1.5, -1.6], [1.9, -1.3]])
    parts = 0.75 * np.array([[-1, 0.3], [0.9, 0.6], [0.1, -1], [0.3, 1.1]])
    points = centres[generator.integers(0, 4, 110)] + parts[generator.integers(0, 4, 110)]
    latents = torch.from_numpy(points + generator.normal(0, 0.13, points.shape)).float()
    quantizer = ResidualQuantizer(num_levels=2, codebook_size=4, dim=2)
    quantizer.initialize(latents, torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = quantizer(latents)
        tables = [codebook.vectors().numpy() for codebook in quantizer.levels]
    is_right = (latents[:, 0] > 0) & (latents[:, 1] > 0)
    chosen = int((found.residuals[:, 1].norm(dim=1) * is_right).argmax())
    point = latents[chosen].numpy()
    first, second = (vector.numpy() for vector in found.level_vectors[chosen])
    names = [f"<{'ab'[level]}_{int(found.codes[chosen, level])}>" for level in range(2)]
    errors = [float(found.residuals[:, 1].norm(dim=1).mean())]
    errors.append(float((latents - found.latent).norm(dim=1).mean()))

    sheet = Drawing(960, 372, "Residual quantization: each level codes what the one before left")
    panels = [(20, 44.0), (332, 100.0), (644, 44.0)]

    def place(panel: int, vector: np.ndarray) -> tuple[float, float]:
        left, scale = panels[panel]
        return left + 148 + scale * float(vector[0]), 190 - scale * float(vector[1])

    heads = ["Level 1: the nearest code", "Level 2: what is left over", "Together"]
    for (left, _), head in zip(panels, heads, strict=True):
        sheet.box(left, 20, 296, 334)
        sheet.text(left + 16, 48, head, is_bold=True, size=15)
    for panel, table in enumerate(tables):
        for row, vector in enumerate(found.residuals[:, panel].numpy()):
            is_chosen = row == chosen
            sheet.dot(*place(panel, vector), 6 if is_chosen else 3, "text" if is_chosen else "soft")
        for code, vector in enumerate(table):
            x, y = place(panel, vector)
            _cross(sheet, x, y, LEVELS[panel])
            name = f"<{'ab'[panel]}_{code}>"
            sheet.bar(x - 25, y - 27, 50, 18, "card")
            sheet.text(x, y - 13, name, LEVELS[panel], size=14, is_code=True, anchor="middle")
    sheet.line(place(0, first), place(0, point), "text", thickness=2, is_arrow=True)
    sheet.line(place(1, second), place(1, point - first), "text", thickness=2, is_arrow=True)
    for row, vector in enumerate(latents.numpy()):
        if row != chosen:
            sheet.dot(*place(2, vector), 3, "soft", 0.35)
    origin = place(2, np.zeros(2))
    sheet.dot(*origin, 3, "text")
    sheet.line(origin, place(2, first), LEVELS[0], thickness=2.5, is_arrow=True)
    sheet.line(place(2, first), place(2, first + second), LEVELS[1], thickness=2.5, is_arrow=True)
    sheet.dot(*place(2, point), 5, "text")
    _codes(sheet, panels[2][0] + 16, 320, names, size=17)
    sheet.text(panels[2][0] + 150, 320, "the item's ID", size=13)
    sheet.text(panels[0][0] + 16, 338, f"distance that is left: {errors[0]:.2f}", "soft", size=13)
    sheet.text(panels[1][0] + 16, 338, "the same points, less their first code", "soft", size=13)
    sheet.text(panels[2][0] + 16, 343, f"distance that is left: {errors[1]:.2f}", "soft", size=13)
    return sheet


def draw_search(example: Example) -> Drawing:
    """The part of the trie that the search entered: each code with its probability."""
    ranked = sorted(example.found, key=lambda found: found.codes)
    num_levels = len(ranked[0].codes)
    sheet = Drawing(960, 80 + 46 * len(ranked), "The search enters only codes that items have")
    columns = [36 + 172 * depth for depth in range(num_levels + 1)]
    rows = {found.codes: 82.0 + 46 * row for row, found in enumerate(ranked)}
    height: dict[tuple[str, ...], float] = {}
    for depth in range(num_levels + 1):
        for prefix in {found.codes[:depth] for found in ranked}:
            below = [rows[found.codes] for found in ranked if found.codes[:depth] == prefix]
            height[prefix] = sum(below) / len(below)
    for depth in range(1, num_levels + 1):
        probs = {found.codes[:depth]: found.code_probs[depth - 1] for found in ranked}
        for prefix, prob in probs.items():
            start = (columns[depth - 1] + (8 if depth == 1 else 122), height[prefix[:-1]])
            end = (columns[depth] - 6.0, height[prefix])
            role = LEVELS[(depth - 1) % 3]
            sheet.bend(start, end, role, 1 + 5 * prob)
            y = height[prefix] + 5
            sheet.text(columns[depth], y, prefix[-1], role, size=16, is_bold=True, is_code=True)
            sheet.text(columns[depth] + 64, y, f"{prob:.2f}", size=14)
    sheet.dot(columns[0], height[()], 8, "text")
    for depth in range(num_levels):
        shown = {found.codes[: depth + 1] for found in ranked}
        parents = {found.codes[:depth] for found in ranked}
        others = sum(len(example.next_codes(prefix)) for prefix in parents) - len(shown)
        sheet.text(columns[depth + 1], 36, f"{others} others exist", "soft", size=13)
    x = columns[-1] + 124
    for found in ranked:
        y = rows[found.codes]
        sheet.text(x, y + 1, _cut(found.title, 34), size=14)
        sheet.text(x, y + 18, f"probability {found.prob:.3f}", "soft", size=12)
    return sheet


def draw_fusion(example: Example) -> Drawing:
    """Bars: log-probability of the generator, and what the item graph adds to it."""
    recommender = example.recommender
    prior, recommender.prior = recommender.prior, None
    alone = [
        found.item_id
        for found in recommender.recommend(example.history, k=WIDE_BEAM, beam_width=WIDE_BEAM)
    ]
    recommender.prior = prior
    sheet = Drawing(960, 76 + 50 * len(example.found), "The item graph joins at decoding")
    zero, lowest = 620.0, min(found.log_prob for found in example.found)
    highest = max(found.score - found.log_prob for found in example.found)
    scale = 230 / max(1.0, -lowest, highest)
    sheet.text(zero - 10, 36, "log-probability", "first", size=14, is_bold=True, anchor="end")
    sheet.text(zero + 10, 36, "what the graph adds", "second", size=14, is_bold=True)
    sheet.text(940, 36, "score", size=14, is_bold=True, anchor="end")
    for row, found in enumerate(example.found):
        y = 60 + 50 * row
        added = found.score - found.log_prob
        sheet.text(20, y + 14, f"{row + 1}  {_cut(found.title, 40)}", size=14)
        place = f"place {alone.index(found.item_id) + 1}" if found.item_id in alone else "far below"
        sheet.text(38, y + 32, f"{place} by the generator alone", "soft", size=12)
        sheet.bar(zero + scale * found.log_prob, y + 4, -scale * found.log_prob, 22, "first")
        sheet.bar(zero, y + 4, scale * added, 22, "second")
        sheet.text(940, y + 20, f"{found.score:.2f}", size=14, anchor="end")
    sheet.line((zero, 46), (zero, 56 + 50 * len(example.found)), "text", thickness=1)
    return sheet


def _codes(sheet: Drawing, x: float, y: float, codes: Sequence[str], size: int) -> None:
    """Codes side by side, each in the colour of its level."""
    for level, code in enumerate(codes):
        sheet.text(x, y, code, LEVELS[level % 3], size=size, is_bold=True, is_code=True)
        x += 0.62 * size * (len(code) + 0.6)


def _cross(sheet: Drawing, x: float, y: float, role: str) -> None:
    for dx, dy in ((7, 7), (7, -7)):
        sheet.line((x - dx, y - dy), (x + dx, y + dy), role, thickness=3.5)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip(" ,") + "…"


if __name__ == "__main__":
    main()
