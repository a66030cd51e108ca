"""FlexAttention's BlockMask against the rows that the other columns tell of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batch_report import Finding
from .batch_words import KINDS

__all__ = ["check_block_mask"]


def check_block_mask(
    key: str,
    block_mask: Any,
    shape: tuple[int, int],
    segments: NDArray[np.int64],
    notes: list[str],
) -> list[Finding]:
    """Give what is wrong with a block mask over `shape` rows and tokens of these segments.

    Blocks are looked at as a whole, and the mask's own function at the pairs of tokens that tell:
    each token with itself, with the one before it, and with the last one of the segment before.
    """
    rows, width = shape
    queries, keys = (int(n) for n in block_mask.seq_lengths)
    if width == 0 or min(queries, keys) < width or max(queries, keys) >= 2 * width + 128:
        notes.append(f"{key}: a BlockMask of {queries} queries and {keys} keys is not looked at")
        return []
    findings: list[Finding] = []
    visited = _Blocks(block_mask)
    for row in range(rows):
        numbers = np.full(width, -1, np.int64)
        begins = np.zeros(width, np.int64)
        own = segments[(segments[:, 0] >= row * width) & (segments[:, 0] < (row + 1) * width)]
        for number, (begin, end) in enumerate(own - row * width):
            numbers[begin:end] = number
            begins[begin:end] = begin
        found = _check_row(key, row, visited, numbers, begins)
        findings += [found] if found else []
    return findings


class _Blocks:
    """Which blocks of keys each block of queries visits, and the function within them."""

    def __init__(self, block_mask: Any) -> None:
        self.mask = block_mask
        self.query_size, self.key_size = (int(n) for n in block_mask.BLOCK_SIZE)
        self.partial = self._dense(block_mask.kv_num_blocks, block_mask.kv_indices)
        full = block_mask.full_kv_num_blocks
        self.full = (
            np.zeros_like(self.partial)
            if full is None
            else self._dense(full, block_mask.full_kv_indices)
        )

    @staticmethod
    def _dense(counts: Any, indices: Any) -> NDArray[np.bool_]:
        counts, indices = counts.cpu().numpy(), indices.cpu().numpy()
        batch, heads, queries, keys = indices.shape
        dense = np.zeros((batch, heads, queries, keys + 1), np.bool_)
        shown = np.arange(keys) < counts[..., None]
        np.put_along_axis(dense, np.where(shown, indices, keys), True, axis=3)
        return dense[..., :keys]

    def of_row(self, row: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Partial and full blocks of the first head."""
        at = row if len(self.partial) > 1 else 0
        return self.partial[at, 0], self.full[at, 0]

    def allows(
        self, row: int, queries: NDArray[np.int64], keys: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether each query sees the key beside it."""
        import torch

        partial, full = self.of_row(row)
        places = queries // self.query_size, keys // self.key_size
        device = self.mask.kv_indices.device
        at = [torch.as_tensor(index, device=device) for index in (queries, keys)]
        row_index = torch.full_like(at[0], row if len(self.partial) > 1 else 0)
        inside = self.mask.mask_mod(row_index, torch.zeros_like(row_index), *at)
        inside = np.broadcast_to(torch.as_tensor(inside).cpu().numpy(), queries.shape)
        return np.asarray(full[places] | (partial[places] & inside))


def _check_row(
    key: str,
    row: int,
    blocks: _Blocks,
    numbers: NDArray[np.int64],
    begins: NDArray[np.int64],
) -> Finding | None:
    tokens = np.flatnonzero(numbers >= 0)
    leaks = [(tokens, begins[tokens] - 1)]
    ends = np.append(np.flatnonzero(np.diff(numbers)) + 1, len(numbers))
    after = ends[np.searchsorted(ends, tokens, side="right")]
    leaks.append((tokens, np.where(after < len(numbers), after, -1)))
    for queries, keys in leaks:
        real = keys >= 0
        shown = blocks.allows(row, queries[real], keys[real])
        if shown.any():
            at = int(np.argmax(shown))
            return _leak(key, row, int(queries[real][at]), int(keys[real][at]))
    found = _find_wide_block(key, row, blocks, numbers)
    if found is not None:
        return found
    before = tokens[(tokens > 0) & (begins[tokens] < tokens)]
    for queries, keys in ((tokens, tokens), (before, before - 1)):
        hidden = ~blocks.allows(row, queries, keys)
        if hidden.any():
            at = int(np.argmax(hidden))
            message = (
                f"the token does not see token {int(keys[at])} of its own row, which it should"
            )
            return Finding(
                "mask_blind", key, row, int(queries[at]), message, KINDS["mask_blind"][1]
            )
    return None


def _find_wide_block(
    key: str, row: int, blocks: _Blocks, numbers: NDArray[np.int64]
) -> Finding | None:
    """Find a block that is shown as a whole, but holds tokens of several segments."""
    _, full = blocks.of_row(row)
    for query, other in np.argwhere(full):
        of_queries = numbers[query * blocks.query_size : (query + 1) * blocks.query_size]
        of_keys = numbers[other * blocks.key_size : (other + 1) * blocks.key_size]
        if (
            of_queries.size
            and of_keys.size
            and len({*of_queries.tolist(), *of_keys.tolist()} - {-1}) > 1
        ):
            far = int(np.argmax(of_keys != of_queries[0]))
            return _leak(
                key, row, int(query) * blocks.query_size, int(other) * blocks.key_size + far
            )
    return None


def _leak(key: str, row: int, query: int, other: int) -> Finding:
    message = f"the token sees token {other} of another row; expected nothing of other rows"
    return Finding("mask_leak", key, row, query, message, KINDS["mask_leak"][1])
