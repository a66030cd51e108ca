"""Arrays of lengths, and files of nothing but token numbers, one row after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._split import split
from ..ragged import Ragged
from .failure import CommandError, RowError, reading, shown

Array = NDArray[np.int64]
Dtype = Literal["uint16", "uint32", "int32", "int64", "uint8"]


def array_lengths(path: Path, eos: int | None, update: Callable[[int], None]) -> tuple[Array, str]:
    """The lengths that a .npy file has: those that it lists, or those of its rows of tokens."""
    with reading(path, "npy"):
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            if "Python objects" not in str(error) and "Object arrays" not in str(error):
                raise
            raise CommandError(
                f"{shown(path)}: holds Python objects, which are not read: they could run code"
            ) from None
    if array.ndim == 0 or array.size == 0:
        raise CommandError(f"{shown(path)}: has no rows: its shape is {array.shape}")
    if eos is not None:
        return _split_tokens(path, array.reshape(-1), eos, update), f"tokens up to each {eos}"
    if array.ndim > 1:
        raise CommandError(
            f"{shown(path)}: has the shape {array.shape}, so all rows have {array.shape[1]} "
            "positions; expected lengths in one dimension, or tokens with --eos"
        )
    if array.dtype.kind not in "iu":
        raise CommandError(
            f"{shown(path)}: holds {array.dtype}; expected whole numbers: the length of each row, "
            "or tokens with --eos"
        )
    try:
        return as_lengths(array), "tokens, as the file lists them"
    except RowError as error:
        raise CommandError(f"{shown(path)}: row {error.row}: {error}") from None


def as_lengths(array: NDArray[Any]) -> Array:
    """Lengths of whole numbers; RowError names the first that is none."""
    lengths = np.asarray(array).astype(np.int64)
    if array.dtype.kind == "u" and array.max(initial=0) > 2**63 - 1:
        row = int((array > np.uint64(2**63 - 1)).argmax())
        raise RowError(row, f"the length {array[row]} is above 2**63 - 1")
    if lengths.min(initial=0) < 0:
        row = int((lengths < 0).argmax())
        raise RowError(row, f"the length {lengths[row]} is below 0")
    return lengths


def file_lengths(
    path: Path, dtype: str | None, eos: int | None, update: Callable[[int], None]
) -> tuple[Array, str]:
    """The lengths of rows in a file of token numbers: each ends with the token `eos`."""
    tokens = open_tokens(path, dtype, eos)
    assert eos is not None
    return _split_tokens(path, tokens, eos, update), f"tokens up to each {eos}"


def open_tokens(path: Path, dtype: str | None, eos: int | None) -> Any:
    """Map a file of token numbers."""
    if path.suffix.lower() == ".npy":
        with reading(path, "npy"):
            return np.load(path, mmap_mode="r", allow_pickle=False).reshape(-1)
    if dtype is None or eos is None:
        raise CommandError(
            f"{shown(path)}: a file of bare tokens does not say what it holds: pass --dtype "
            "uint16 (or uint32) and --eos N, the token that ends a row"
        )
    size, item = path.stat().st_size, np.dtype(dtype).itemsize
    if size % item:
        raise CommandError(
            f"{shown(path)}: {size:,} bytes are no whole number of {dtype}: pass another --dtype"
        )
    with reading(path, f"tokens of {dtype}"):
        return np.memmap(path, dtype, "r")


def _split_tokens(path: Path, tokens: Any, eos: int, update: Callable[[int], None]) -> Array:
    """The lengths of the rows, each with the token that ends it."""
    return token_rows(path, tokens, eos, update).lengths


def token_rows(path: Path, tokens: Any, eos: int, update: Callable[[int], None]) -> Ragged:
    """The rows of a stream of tokens, each with the token that ends it; not copied."""
    if tokens.dtype.kind not in "iu":
        raise CommandError(f"{shown(path)}: holds {tokens.dtype}; tokens are whole numbers")
    limits = np.iinfo(tokens.dtype)
    if not limits.min <= eos <= limits.max:
        raise CommandError(f"--eos {eos} is not in {tokens.dtype}, the type of {shown(path)}")
    size = tokens.dtype.itemsize
    rows = split("analyze", Ragged, tokens, eos, None, True, lambda read: update(read * size))
    if rows is None or len(tokens) == 0:
        raise CommandError(
            f"{shown(path)}: the token {eos} is not among {len(tokens):,} tokens, so there is one "
            "row: is --eos right, and --dtype?"
        )
    return rows
