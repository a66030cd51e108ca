"""What a sampler knows of each row: one length or two, and what it costs by each limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .limits import Limit, as_settings, read_limits

__all__ = ["Rows", "check_sides", "read_cut", "read_rows"]

_NO_CAP = 2**63 - 1

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The rows of a data set, as the planner takes them."""

    lengths: Array  # of both sides together, where rows have two
    limits: dict[str, Limit]
    planned: dict[str, Any]  # settings that are about each row
    is_pairs: bool = False
    max_length: int | list[int | None] | None = None  # of pairs
    truncated: int = 0  # rows that are longer than that


def read_rows(
    function: str, lengths: Any, limits: Any, max_length: Any, settings: dict[str, Any]
) -> Rows:
    """Read lengths, of shape [rows] or [rows, 2], and limits; `settings` are the planner's."""
    if "Sampler" in type(lengths).__name__:
        raise TypeError(
            f"{function}(): found type {type(lengths).__name__}, expected lengths. If Lightning "
            "passes a sampler, give its Trainer use_distributed_sampler=False, and pass "
            "num_replicas= and rank= here; for predict, pass "
            "DataLoader(sampler=this, batch_size=None)"
        )
    read = _mapped(lengths) if limits is None else None
    if read is None:
        read = _core.read_length_pairs(function, "lengths", lengths)
    own = read_limits(function, limits, len(read))
    planned: dict[str, Any] = {"limits": as_settings(own)} if own else {}
    _check_multiple(function, settings, is_limited=bool(own))
    if read.ndim == 1:
        if isinstance(max_length, tuple | list):
            raise TypeError(
                f"{function}(): max_length={_core.describe(max_length)}; expected an int, as each "
                "row has one length"
            )
        return Rows(read, own, planned)
    check_sides(function, settings)
    cut = read_cut(function, max_length)
    shortened = np.minimum(read, [_NO_CAP if side is None else side for side in cut])
    truncated = int((shortened != read).any(axis=1).sum())
    multiple = settings["pad_to_multiple_of"] or 1
    most_of_side = 2**62 - multiple
    if len(shortened) and int(shortened.max()) > most_of_side:
        row = int((shortened > most_of_side).any(axis=1).argmax())
        raise OverflowError(
            f"{function}(): row {row}: lengths {shortened[row].tolist()} are too long to plan for; "
            "pass max_length="
        )
    widths = -(-shortened // multiple) * multiple
    if not settings["padding_free"]:
        planned["keys"] = _core.pair_keys(widths)
        if settings["max_tokens"] is not None:
            sides = (widths[:, 0].copy(), widths[:, 1].copy())
            both = ("max_tokens", *sides, settings["max_tokens"], True)
            planned |= {"limits": (both, *as_settings(own)), "max_tokens": None}
    most = list(cut) if isinstance(max_length, tuple | list) else cut[0]
    return Rows(widths.sum(axis=1), own, planned, True, most, truncated)


def _mapped(lengths: Any) -> Array | None:
    """Keep lengths of a file mapped for reading where they are: the ranks of a node share them.

    All other lengths are copied, because they may change; None for them. The planner is safe from a
    file that changes.
    """
    if not isinstance(lengths, np.memmap) or lengths.ndim != 1 or lengths.flags.writeable:
        return None
    is_plain = lengths.dtype == np.int64 and lengths.dtype.isnative
    plain = is_plain and lengths.flags.c_contiguous and lengths.flags.aligned
    return lengths.view(np.ndarray) if plain else None


def _check_multiple(function: str, settings: dict[str, Any], *, is_limited: bool) -> None:
    """Refuse a multiple of rows that no batch can have."""
    multiple, most = settings["batch_size_multiple"], settings["batch_size"]
    if multiple is None:
        return
    if most is not None and most < multiple:
        raise ValueError(
            f"{function}(): batch_size_multiple={multiple} with batch_size={most}; expected a "
            "batch_size of at least that"
        )
    if settings["padding_free"] and (is_limited or settings["max_tokens"] is not None):
        raise ValueError(
            f"{function}(): batch_size_multiple={multiple} with packs; expected padding, or "
            "batch_size= as the only cap"
        )


def check_sides(function: str, settings: dict[str, Any]) -> None:
    """Refuse what is about one width."""
    for name, instead in (
        ("boundaries", "pad_to_multiple_of="),
        ("quadratic_length", "limits={'squares': (lengths[:, 0] ** 2, cap)}"),
    ):
        if settings.get(name) is not None:
            raise ValueError(f"{function}(): {name}= with lengths of two sides; expected {instead}")
    if settings["overlong"] == "truncate":
        raise ValueError(
            f"{function}(): overlong='truncate' with lengths of two sides; expected "
            "max_length=(source, target), or 'drop'"
        )


def read_cut(function: str, max_length: Any) -> tuple[int | None, ...]:
    """Read max_length: one for both sides, or a pair."""
    if not isinstance(max_length, tuple | list):
        max_length = (max_length, max_length)
    if len(max_length) != 2:
        raise ValueError(
            f"{function}(): max_length={_core.show(max_length)}; expected an int, or two of them "
            "(source and target)"
        )
    return tuple(
        None if side is None else _core.read_int(function, "max_length", side, 1, _NO_CAP - 1)
        for side in max_length
    )
