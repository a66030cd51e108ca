"""The rows that every benchmark uses: log-normal lengths, as real text has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def text_lengths(count: int, seed: int = 0) -> NDArray[np.int64]:
    """Lengths with a mean of about 180, clipped to 512."""
    drawn = np.random.default_rng(seed).lognormal(4.9, 0.8, count).astype(np.int64)
    return np.clip(drawn, 1, 512)


def token_rows(count: int, seed: int = 0) -> list[NDArray[np.int64]]:
    """Rows of token ids as int64 arrays."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 30_000, n) for n in text_lengths(count, seed)]


def fresh_lists(arrays: list[NDArray[Any]]) -> list[list[Any]]:
    """Give the rows as lists, with int objects that nothing else has touched."""
    return [array.tolist() for array in arrays]
