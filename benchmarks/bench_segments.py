"""tb.segment_mask and tb.block_mask against torch's expression and create_block_mask."""

from __future__ import annotations

import ctypes
import time

from harness import Row, compare, one_thread, run

one_thread()

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

import tightbatch as tb

BATCH, WIDTH = 8, 2048


def pack_lengths(total: int, seed: int = 0) -> list[int]:
    """Log-normal lengths (median 300) that fill a pack; the last one is cut."""
    random = np.random.default_rng(seed)
    lengths: list[int] = []
    while sum(lengths) < total:
        drawn = max(1, int(random.lognormal(np.log(300), 0.8)))
        lengths.append(min(drawn, total - sum(lengths)))
    return lengths


def packed_ids() -> np.ndarray:
    return tb.segment_ids([pack_lengths(WIDTH, seed) for seed in range(BATCH)])


def segment_mask() -> list[Row]:
    ids = packed_ids()
    tensor = torch.from_numpy(ids)
    tril = torch.ones(WIDTH, WIDTH, dtype=torch.bool).tril()
    out = np.empty((BATCH, WIDTH, WIDTH), bool)

    def torch_expression() -> torch.Tensor:
        return (tensor[:, :, None] == tensor[:, None, :]) & tril

    def memset() -> None:
        ctypes.memset(out.ctypes.data, 1, out.nbytes)

    name = f"segment_mask [{BATCH}, {WIDTH}, {WIDTH}], causal, bool"
    return [
        *compare(
            name + ", into out=",
            lambda: tb.segment_mask(ids, causal=True, out=out),
            {
                "(ids[:, :, None] == ids[:, None, :]) & tril": (torch_expression, 20),
                "memset of as many bytes": (memset, 0.5),
            },
        ),
        *compare(
            name + ", new memory",
            lambda: tb.segment_mask(ids, causal=True),
            {"(ids[:, :, None] == ids[:, None, :]) & tril": (torch_expression, None)},
        ),
    ]


def additive_mask() -> list[Row]:
    ids = packed_ids()
    tensor = torch.from_numpy(ids)
    tril = torch.ones(WIDTH, WIDTH, dtype=torch.bool).tril()
    lowest = torch.finfo(torch.float32).min
    out = np.empty((BATCH, WIDTH, WIDTH), np.float32)

    def torch_expression() -> torch.Tensor:
        seen = (tensor[:, :, None] == tensor[:, None, :]) & tril
        return torch.where(seen, 0.0, lowest)

    def memset() -> None:
        ctypes.memset(out.ctypes.data, 1, out.nbytes)

    return compare(
        f"segment_mask [{BATCH}, {WIDTH}, {WIDTH}], causal, additive float32, into out=",
        lambda: tb.segment_mask(ids, causal=True, additive=True, out=out),
        {
            "torch.where over the expression": (torch_expression, None),
            "memset of as many bytes": (memset, None),
        },
    )


def segment_ids() -> list[Row]:
    lengths = np.array(pack_lengths(32_768))
    tensor = torch.from_numpy(lengths)
    return compare(
        "segment_ids of 32,768 tokens",
        lambda: tb.segment_ids(lengths),
        {
            "torch.repeat_interleave": (
                lambda: torch.repeat_interleave(torch.arange(1, len(tensor) + 1), tensor),
                None,
            )
        },
    )


def cu_seqlens() -> list[Row]:
    lengths = np.array(pack_lengths(32_768))
    tensor = torch.from_numpy(lengths)
    return compare(
        f"cu_seqlens of {len(lengths)} lengths",
        lambda: tb.cu_seqlens(lengths),
        {
            "pad(cumsum)": (
                lambda: torch.nn.functional.pad(tensor.cumsum(0, dtype=torch.int32), (1, 0)),
                None,
            )
        },
    )


def block_mask(total: int, goal: float | None) -> list[Row]:
    lengths = pack_lengths(total)
    ids = torch.from_numpy(tb.segment_ids(lengths))

    def mask_mod(b: object, h: object, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (ids[query] == ids[key]) & (query >= key)

    def ours() -> BlockMask:
        blocks = map(torch.from_numpy, tb.block_mask(lengths))
        return BlockMask.from_kv_blocks(*blocks, mask_mod=mask_mod, seq_lengths=(total, total))

    # Seconds a call: timed twice, and not in turns.
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        create_block_mask(mask_mod, 1, None, total, total, "cpu")
        seconds.append(time.perf_counter() - begin)
    rows = compare(
        f"block_mask of {total:,} tokens",
        lambda: tb.block_mask(lengths),
        {"BlockMask.from_kv_blocks alone": (ours, None)},
    )
    whole = {
        **rows[0],
        "name": f"block_mask of {total:,} tokens, with BlockMask.from_kv_blocks",
        "ours_us": rows[0]["peer_us"],
        "peer": "create_block_mask",
        "peer_us": min(seconds) * 1e6,
        "ratio": min(seconds) * 1e6 / rows[0]["peer_us"],
        "goal": goal,
        "note": "create_block_mask was timed twice",
    }
    alone = {**whole, "name": f"block_mask of {total:,} tokens, the arrays alone", "goal": None}
    alone |= {"ours_us": rows[0]["ours_us"], "ratio": whole["peer_us"] / rows[0]["ours_us"]}
    return [whole, alone]


def block_mask_8k() -> list[Row]:
    return block_mask(8_192, None)


def block_mask_32k() -> list[Row]:
    return block_mask(32_768, 1000)


if __name__ == "__main__":
    run(
        [segment_mask, additive_mask, segment_ids, cu_seqlens, block_mask_8k, block_mask_32k],
        __doc__,
    )
