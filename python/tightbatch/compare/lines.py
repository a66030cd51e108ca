"""Batches in which rows share a line: packs of one width, and one line without any padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tightbatch.compare.dataset import Row

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Sight:
    """What a token may attend to, by the model's own rule."""

    causal: bool = False
    window: int | None = None  # as `tb.segment_mask` takes it; None: no layer has one


@dataclass(frozen=True)
class Lines:
    """A batch of lines, each of several rows one after another."""

    inputs: dict[str, Any]  # of the layers: tokens, positions, and what keeps rows apart
    rows: dict[str, torch.Tensor]  # of the head: the same tokens as a rectangle, [rows, width]
    places: torch.Tensor  # where among the lines' tokens each of the rectangle's is
    labels: torch.Tensor  # [rows]
    pairs: int  # of a query and a key that attention computes, in one head of one layer

    def to(self, device: str) -> Lines:
        """The batch on a device."""

        def moved(tensors: dict[str, Any]) -> dict[str, Any]:
            return {
                key: value.to(device) if hasattr(value, "to") else value
                for key, value in tensors.items()
            }

        return replace(
            self,
            inputs=moved(self.inputs),
            rows=moved(self.rows),
            places=self.places.to(device),
            labels=self.labels.to(device),
        )


def places(begins: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any]) -> torch.Tensor:
    """Where each row's tokens are, int64 [rows, longest]; at padding, the row's last token."""
    import torch

    columns = np.arange(int(lengths.max()))
    return torch.from_numpy(begins[:, None] + np.minimum(columns, lengths[:, None] - 1))


class PackBatches:
    """Batches of packs: rows of exactly `capacity` tokens, padded where rows do not fill them.

    Iterating plans an epoch, each in an order of its own, and gathers its tokens once.

    Parameters
    ----------
    rows : list of Row
        None longer than `capacity`.
    capacity : int
        Tokens in a pack, padding included.
    packs : int
        Packs in a batch.
    pad : PadCollator
        The head's batches.
    seed : int
        Chooses the orders.
    sight : Sight
        What the mask lets a token see of its own row.
    first_position : int
        Of a row's first token.
    """

    def __init__(
        self,
        rows: list[Row],
        *,
        capacity: int,
        packs: int,
        pad: Any,
        seed: int,
        sight: Sight,
        first_position: int,
    ) -> None:
        import tightbatch as tb

        self.rows = rows
        self.tokens = tb.Ragged.from_sequences([row["input_ids"] for row in rows])
        self.capacity, self.packs, self.pad, self.seed = capacity, packs, pad, seed
        self.sight, self.first_position = sight, first_position
        self.epoch = 0

    def __iter__(self) -> Iterator[Lines]:
        """One epoch; the next iteration is the next."""
        import tightbatch as tb

        seed = (self.seed + self.epoch) % 2**64
        self.epoch += 1
        packing = tb.pack(self.tokens.lengths, self.capacity, seed=seed)
        packed, segments = packing.apply(self.tokens), packing.seq_lengths
        for first in range(0, len(packing), self.packs):
            part = slice(first, min(first + self.packs, len(packing)))
            begin, end = packing.offsets[[part.start, part.stop]]
            yield self._batch(packed[part], segments[part], packing.indices[begin:end].tolist())

    def _batch(self, packs: Any, segments: Any, members: list[int]) -> Lines:
        """One batch; `members` are its rows in the packs' order."""
        import torch

        import tightbatch as tb

        head = self.pad([self.rows[i] for i in members])
        lengths = self.tokens.lengths[members]
        counts = segments.lengths
        ends = np.cumsum(lengths)
        # A row begins where the batch's rows before it end, past the padding of earlier packs.
        padding = np.cumsum(self.capacity - packs.lengths) - (self.capacity - packs.lengths)
        begins = ends - lengths + np.repeat(padding, counts)
        ids = tb.segment_ids(segments, self.capacity)
        positions = np.zeros(len(packs) * self.capacity, np.int64)
        starts = np.repeat(begins, lengths)
        taken = ids.reshape(-1) > 0
        positions[taken] = np.flatnonzero(taken) - starts
        mask: Any = tb.segment_mask(ids, causal=self.sight.causal)
        masks = {"attention_mask": torch.from_numpy(mask)[:, None]}
        if self.sight.window is not None:
            near = tb.segment_mask(ids, causal=self.sight.causal, window=self.sight.window)
            masks["windowed_mask"] = torch.from_numpy(near)[:, None]
        tokens = packs.pad(width=self.capacity, padding_value=self.pad.padding_value["input_ids"])
        return Lines(
            inputs={
                "input_ids": torch.from_numpy(tokens),
                "position_ids": torch.from_numpy(positions).view(ids.shape) + self.first_position,
                **masks,
            },
            rows={name: head[name] for name in ("input_ids", "attention_mask")},
            places=places(begins, lengths),
            labels=head["label"],
            pairs=len(packs) * self.capacity**2,
        )


@dataclass(frozen=True)
class LineCollator:
    """A `collate_fn` that puts all rows of a batch into one line, without padding."""

    pad: Any  # PadCollator of the head's batches
    line: Any  # PaddingFreeCollator of the layers'

    def __call__(self, rows: list[Row]) -> Lines:
        """Collate a batch of rows."""
        head, line = self.pad(rows), self.line(rows)
        labels = line.pop("label")
        del line["seq_idx"]  # of state-space models
        lengths = np.array([len(row["input_ids"]) for row in rows])
        sizes = line["cu_seq_lens_q"].diff().long()
        return Lines(
            inputs=dict(line),
            rows={name: head[name] for name in ("input_ids", "attention_mask")},
            places=places(np.cumsum(lengths) - lengths, lengths),
            labels=labels,
            pairs=int((sizes * sizes).sum()),
        )
