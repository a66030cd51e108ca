"""tb.attention_mask and tb.position_ids against the torch expressions for them."""

from __future__ import annotations

from harness import Row, compare, one_thread, run

one_thread()

import torch

import tightbatch as tb
from workload import text_lengths


def attention_mask() -> list[Row]:
    lengths = text_lengths(64)
    tensor, width = torch.from_numpy(lengths), int(lengths.max())
    return compare(
        "attention_mask of 64 rows, bool",
        lambda: tb.attention_mask(lengths),
        {
            "torch.arange(width) < lengths[:, None]": (
                lambda: torch.arange(width) < tensor[:, None],
                8,
            )
        },
    )


def additive_mask() -> list[Row]:
    lengths = text_lengths(64)
    tensor, width = torch.from_numpy(lengths), int(lengths.max())
    lowest = torch.finfo(torch.float32).min
    return compare(
        "attention_mask of 64 rows, additive float32",
        lambda: tb.attention_mask(lengths, additive=True),
        {
            "torch.where over the comparison": (
                lambda: torch.where(torch.arange(width) < tensor[:, None], 0.0, lowest),
                None,
            )
        },
    )


def position_ids() -> list[Row]:
    lengths = text_lengths(64)
    tensor, width = torch.from_numpy(lengths), int(lengths.max())

    def with_torch() -> torch.Tensor:
        positions = torch.arange(width).expand(len(tensor), width)
        return positions.masked_fill(positions >= tensor[:, None], 0)

    return compare(
        "position_ids of 64 rows",
        lambda: tb.position_ids(lengths),
        {"arange.masked_fill": (with_torch, None)},
    )


if __name__ == "__main__":
    run([attention_mask, additive_mask, position_ids], __doc__)
