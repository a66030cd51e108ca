"""Packs in collators that pad: what they would do to them is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["refuse_packs"]


def refuse_packs(function: str, kinds: Mapping[Any, str]) -> None:
    """Refuse a column of segments' lengths: in a padded batch nothing would keep them apart."""
    if kinds.get("seq_lengths") == "rows":
        raise ValueError(
            f"{function}(): key 'seq_lengths': the rows are packs, and in a padded batch their "
            "segments would attend to each other; use PaddingFreeCollator (in huggingface, "
            "DataCollatorWithFlattening), which keeps them apart, or remove the column to pad a "
            "pack as one row"
        )
