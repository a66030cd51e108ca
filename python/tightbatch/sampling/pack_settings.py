"""What pack() asks of the planner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Other settings of the planner: batches without padding, and no rounding of lengths.
PACKING: dict[str, Any] = {
    "max_length": None,
    "shuffle_window": None,
    "overlong": "error",
    "seed": 0,
    "pad_to_multiple_of": None,
    "quadratic_length": None,
    "batch_size_multiple": None,
    "pool_size": None,
    "balance": 1,
    "ranks": 1,
    "padding_free": True,
    "shuffle": False,
    "longest_first": False,
    "drop_last": False,
}


@dataclass(frozen=True)
class Order:
    """The settings of pack() that say which rows meet; as given."""

    strategy: Any
    pool_size: Any
    seed: Any
    shuffle_window: Any
