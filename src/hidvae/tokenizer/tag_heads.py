"""Per-level heads that tie a prefix of the semantic ID to the item's tags."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hidvae.training.dropout import Dropout


class TagHeads(nn.Module):
    """For each level a projection of tag embeddings (alignment) and a tag classifier (prediction).

    Level l's heads read the first l + 1 codes' vectors and nothing else, so a predicted tag is a
    function of the ID's prefix. Deeper classifiers are wider and have more dropout, as published.

    Source: HiD-VAE (arXiv:2508.04618): P_l in L_align and C_l in L_pred. Differs from the paper,
    which sums the codes' vectors: here they stand side by side, as in the published code.
    """

    temperatures: Tensor
    """(L,) what logits are divided by before they become confidences; 1 until calibrated."""

    def __init__(
        self,
        tag_embeddings: Sequence[Tensor],
        latent_dim: int,
        dropout: float = 0.1,
        tag_parents: Sequence[Tensor] | None = None,
    ) -> None:
        """Build the heads.

        Args:
            tag_embeddings: For each level (C_l, D_tag), the text embedding of every tag.
            latent_dim: Width D of a code's vector.
            dropout: Of level 0; each deeper level has half as much more, at most 0.5.
            tag_parents: For each level (C_l,), the tag of the level above that a tag belongs to, -1
                where it may follow any; None if the levels know no hierarchy.
        """
        super().__init__()
        self.num_classes = [embeddings.shape[0] for embeddings in tag_embeddings]
        self.register_buffer("temperatures", torch.ones(len(tag_embeddings)))
        self.projectors = nn.ModuleList()
        self.classifiers = nn.ModuleList()
        for level, embeddings in enumerate(tag_embeddings):
            num_classes, tag_dim = embeddings.shape
            width_in = latent_dim * (level + 1)
            rate = min(0.5, dropout * (1 + level / 2))
            hidden = 128 * (level + 1)
            self.register_buffer(f"tag_embeddings_{level}", embeddings)
            parents = torch.full((max(1, num_classes),), -1)
            if tag_parents is not None and num_classes:
                parents = tag_parents[level]
            self.register_buffer(f"tag_parents_{level}", parents)
            self.projectors.append(
                nn.Sequential(
                    nn.Linear(tag_dim, 256), nn.LayerNorm(256), nn.ReLU(), nn.Linear(256, width_in)
                )
            )
            self.classifiers.append(
                nn.Sequential(
                    nn.Linear(width_in, hidden),
                    nn.LayerNorm(hidden),
                    nn.ReLU(),
                    Dropout(rate),
                    nn.Linear(hidden, hidden),
                    nn.LayerNorm(hidden),
                    nn.ReLU(),
                    Dropout(rate),
                    nn.Linear(hidden, max(1, num_classes)),  # a level may have no tags at all
                )
            )

    @property
    def num_levels(self) -> int:
        """Levels that have heads."""
        return len(self.classifiers)

    def inputs(self, level_vectors: Tensor) -> list[Tensor]:
        """What each level's heads read, (B, H_l), from the codes' vectors (B, L, D)."""
        return [level_vectors[:, : level + 1].flatten(1) for level in range(self.num_levels)]

    def class_vectors(self, level: int) -> Tensor:
        """Projection (C_l, H_l) of every tag of a level."""
        embeddings: Tensor = getattr(self, f"tag_embeddings_{level}")
        projected: Tensor = self.projectors[level](embeddings)
        return projected

    def logits(self, level: int, head_input: Tensor) -> Tensor:
        """Tag logits (B, C_l) of a level."""
        logits: Tensor = self.classifiers[level](head_input)
        return logits

    @torch.no_grad()
    def predict(
        self, level_vectors: Tensor, temperatures: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The most probable tag path and each tag's probability, (B, L) each.

        The temperatures (L,) are the heads' own by default; they change no tag.

        A level chooses among the children of the tag above it, so that the path exists in the
        catalogue's hierarchy. It is -1 with probability 0.0 from where it ends: at a tag without
        children, or at a level without tags.
        """
        temperatures = self.temperatures if temperatures is None else temperatures
        tags: list[Tensor] = []
        confidences: list[Tensor] = []
        for level, head_input in enumerate(self.inputs(level_vectors)):
            logits = self.logits(level, head_input) / temperatures[level]
            probs = logits.softmax(dim=1)  # (B, C_l)
            is_possible = torch.ones_like(probs, dtype=torch.bool)
            if self.num_classes[level] == 0:
                is_possible[:] = False
            elif level > 0:
                parents: Tensor = getattr(self, f"tag_parents_{level}")
                above = tags[-1].unsqueeze(1)
                is_possible = ((parents == -1) | (parents == above)) & (above >= 0)
            confidence, tag = probs.masked_fill(~is_possible, -1.0).max(dim=1)
            tags.append(torch.where(confidence >= 0, tag, -1))
            confidences.append(confidence.clamp_min(0.0))
        return torch.stack(tags, dim=1), torch.stack(confidences, dim=1)
