"""Transformer blocks: pre-norm, bias-free, PyTorch's fused attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hidvae.training.dropout import Dropout


class Attention(nn.Module):
    """Multi-head attention of queries over keys and values of the same or of another sequence."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, S, d / heads) of a sequence (B, S, d)."""
        keys, values = self.key_value(x).chunk(2, dim=-1)
        return self._heads(keys), self._heads(values)

    def forward(
        self,
        x: Tensor,
        keys_values: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Attend from x (B, T, d).

        Args:
            x: Queries' sequence.
            keys_values: From ``keys_values``.
            mask: Broadcastable to (B, heads, T, S); True may be attended to.
            is_causal: Position t sees positions up to t; needs T = S.
        """
        queries = self._heads(self.query(x))
        keys, values = keys_values
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=is_causal
        )
        output: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, T, d / heads)


class Block(nn.Module):
    """Self-attention, optional cross-attention, feed-forward; each behind a norm and a residual."""

    def __init__(self, dim: int, num_heads: int, dropout: float, has_memory: bool = False) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(dim, bias=False)
        self.self_attention = Attention(dim, num_heads)
        self.cross_norm = nn.LayerNorm(dim, bias=False) if has_memory else None
        self.cross_attention = Attention(dim, num_heads) if has_memory else None
        self.feed_norm = nn.LayerNorm(dim, bias=False)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, 4 * dim, bias=False), nn.GELU(), nn.Linear(4 * dim, dim, bias=False)
        )
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        is_causal: bool = False,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Map (B, T, d) to (B, T, d), with a look at the memory (B, S, d) if there is one."""
        normed = self.self_norm(x)
        keys_values = self.self_attention.keys_values(normed)
        x = x + self.dropout(self.self_attention(normed, keys_values, mask, is_causal))
        if memory is not None:
            x = self.attend_memory(x, self.memory_keys_values(memory), memory_mask)
        return self.feed(x)

    def feed(self, x: Tensor) -> Tensor:
        """The feed-forward half."""
        return x + self.dropout(self.feed_forward(self.feed_norm(x)))

    def memory_keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the memory (B, S, d) that ``attend_memory`` takes."""
        assert self.cross_attention is not None
        return self.cross_attention.keys_values(memory)

    def attend_memory(
        self, x: Tensor, memory: tuple[Tensor, Tensor], memory_mask: Tensor | None
    ) -> Tensor:
        """The cross-attention part: x (B, T, d) over memory keys and values (B, heads, S, ·)."""
        assert self.cross_attention is not None and self.cross_norm is not None
        return x + self.dropout(self.cross_attention(self.cross_norm(x), memory, memory_mask))


def padding_mask(is_real: Tensor) -> Tensor:
    """Attention mask (B, 1, 1, S) from (B, S) booleans, True where there is something to see."""
    return is_real[:, None, None, :]


def init_weights(module: nn.Module, std: float = 0.02) -> None:
    """Normal initialisation of every linear map, as in GPT-2."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.normal_(child.weight, std=std)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
