"""A small Transformer with random weights, in torch alone, for batches with and without padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Tensor = torch.Tensor
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Settings:
    """The size of a model."""

    vocabulary: int
    longest: int
    width: int
    heads: int
    layers: int


class Layer(nn.Module):
    """Attention and a feed-forward part, each after a norm and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, attend: Attend) -> Tensor:
        """x: [..., width]; `attend` takes q, k, v of shape [..., heads, size]."""
        parts = self.qkv(self.first(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        x = x + self.out(attend(*parts).flatten(-2))
        return x + self.down(F.gelu(self.up(self.second(x))))


class Transformer(nn.Module):
    """A causal language model: ids and positions in, the next token's logits out."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.tokens = nn.Embedding(settings.vocabulary, settings.width)
        self.places = nn.Embedding(settings.longest, settings.width)
        self.layers = nn.ModuleList(
            Layer(settings.width, settings.heads) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.width)
        self.head = nn.Linear(settings.width, settings.vocabulary)
        for embedding in (self.tokens, self.places):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, ids: Tensor, places: Tensor, attend: Attend) -> Tensor:
        x = self.tokens(ids) + self.places(places)
        for layer in self.layers:
            x = layer(x, attend)
        return self.head(self.norm(x))


def attend_padded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal, of [rows, width, heads, size] padded on the right: no token sees padding.

    So it needs no mask, and torch takes its fastest kernel: padding at its best.
    """
    parts = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2)


def loss_of(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens of a padded batch of the loss of the next one."""
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    logits = model(ids, places, attend_padded)[:, :-1]
    labels = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)
