"""A cap on tokens that changes while rows are seen: a warm-up of the batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core

_MOST = 2**63 - 2

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """From how many rows on each cap holds; rows are counted over all epochs and ranks."""

    begins: tuple[int, ...]
    caps: tuple[int, ...]

    @property
    def least(self) -> int:
        """The smallest cap, which every row must fit."""
        return min(self.caps)

    def as_dict(self) -> dict[int, int]:
        """Give it as users write it."""
        return dict(zip(self.begins, self.caps, strict=True))

    def as_state(self) -> list[list[int]]:
        """Give it for a state, which may be stored as JSON."""
        return [list(step) for step in self.as_dict().items()]

    def parts(self, begin: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Divide rows number `begin` to ``begin + count - 1``: begin, end and cap of each part."""
        ends = (*self.begins[1:], begin + count)
        for first, end, cap in zip(self.begins, ends, self.caps, strict=True):
            low, high = max(first, begin) - begin, min(end, begin + count) - begin
            if low < high:
                yield low, high, cap


def read_schedule(function: str, max_tokens: Any) -> Schedule | None:
    """Read ``max_tokens={rows: cap}``; None where it is no mapping."""
    if not isinstance(max_tokens, Mapping):
        return None
    begins, caps = [], []
    for rows, cap in max_tokens.items():
        begins.append(_core.read_int(function, "a key of max_tokens", rows, 0, _MOST))
        caps.append(_core.read_int(function, f"max_tokens[{begins[-1]}]", cap, 1, _MOST))
    if not begins or begins[0] != 0 or sorted(set(begins)) != begins:
        raise ValueError(
            f"{function}(): max_tokens={_core.show(dict(max_tokens))}; expected a number, or "
            "{0: cap, rows: cap after so many rows, ...} with rows that rise"
        )
    return Schedule(tuple(begins), tuple(caps))


def plan_parts(
    schedule: Schedule,
    order: Array,
    epoch: int,
    plan: Callable[[Array, int, bool], tuple[Array, Array]],
) -> tuple[Array, Array]:
    """Plan an epoch whose rows are in random `order`, a part for each cap.

    ``plan(rows, cap, is_last)`` gives the indices into these rows, and the offsets.
    """
    count = len(order)
    indices, offsets = [], [np.zeros(1, np.int64)]
    for low, high, cap in schedule.parts(epoch * count, count):
        chosen, ends = plan(order[low:high], cap, high == count)
        indices.append(order[low:high][chosen])
        offsets.append(ends[1:] + offsets[-1][-1])
    return np.concatenate([order[:0], *indices]), np.concatenate(offsets)
