"""Packs where nothing would keep their segments apart: they are refused."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..ragged import Ragged
from .roles import MASKS, read_name

__all__ = ["is_pack_lengths", "refuse_joined", "refuse_other_names", "refuse_packs", "refuse_parts"]

# Names of a list of lengths for each row. Collators that keep segments apart read the first.
PACK_LENGTHS = (
    "seq_lengths",
    "seq_lens",
    "seqlens",
    "pack_lengths",
    "pack_lens",
    "segment_lengths",
    "segment_lens",
    "sequence_lengths",
    "sequence_lens",
    "doc_lengths",
    "doc_lens",
    "document_lengths",
)
_NAMES = frozenset(PACK_LENGTHS)
_ENDS = tuple(f"_{name}" for name in PACK_LENGTHS)
# Columns that say of each token which segment it is in, or where in it.
_POSITIONS = frozenset(("position_ids", "input_pos", "positions_ids"))
_SEGMENTS = frozenset(
    ("seq_idx", "sequence_idx", "sequence_id", "doc_id", "doc_ids", "document_id", "document_ids")
)
NOTHING: Mapping[Any, Any] = {}
SAY_LENGTHS = (
    "say where they begin in a column 'seq_lengths', a list of lengths for each row, or remove the "
    "column to take a pack as one row"
)
FIX = (
    "use PaddingFreeCollator (in huggingface, DataCollatorWithFlattening), which keeps them apart "
    "by 'seq_lengths', or remove the column to pad a pack as one row"
)


def is_pack_lengths(key: Any) -> bool:
    """Tell whether a column of this name holds the lengths of packs, if it has rows."""
    return isinstance(key, str) and (key in _NAMES or key.endswith(_ENDS))


@functools.lru_cache(4096)
def _tells(key: Any) -> bool:
    return is_pack_lengths(key) or key in _POSITIONS or key in _SEGMENTS


def refuse_packs(
    function: str, kinds: Mapping[Any, str], rename: Mapping[Any, Any] = NOTHING, fix: str = FIX
) -> None:
    """Refuse a column of segments' lengths: in a padded batch nothing would keep them apart."""
    for key, kind in kinds.items():
        if kind == "rows" and (is_pack_lengths(key) or is_pack_lengths(rename.get(key))):
            raise ValueError(
                f"{function}(): key {key!r}: the rows are packs, and in a padded batch their "
                f"segments would attend to each other; {fix}"
                if fix != SAY_LENGTHS
                else f"{function}(): key {key!r}: the rows are packs; {fix}"
            )


def refuse_other_names(function: str, kinds: Mapping[Any, str]) -> None:
    """Refuse lengths of packs that have another name than the one that is read."""
    for key, kind in kinds.items():
        if is_pack_lengths(key) and key != "seq_lengths" and kind == "rows":
            raise ValueError(
                f"{function}(): key {key!r}: the rows are packs, whose lengths are read from "
                "'seq_lengths'; rename the column to it, or remove it to take a pack as one row"
            )


def refuse_parts(function: str, kinds: Mapping[Any, str], main: Any) -> None:
    """Refuse masks and labels that would join rows, as they have other names than those read."""
    for key, kind in kinds.items():
        name = read_name(key)
        if kind != "rows" or key in (main, "labels"):
            continue
        if name.meaning in MASKS:
            found, plain = "a mask of ones shows all rows to each other", "attention_mask"
        elif name.meaning == "labels" and name.part != ("", ""):
            found, plain = "the row before would predict each row's first label", "labels"
        else:
            continue
        raise ValueError(
            f"{function}(): key {key!r}: {found}; expected {plain!r}: collate the columns of one "
            f"part ({main!r} and what belongs to it) at a time, by their plain names"
        )


def refuse_joined(function: str, columns: Mapping[Any, Any], fix: str = FIX) -> None:
    """Refuse positions that begin again inside a row, and numbers of segments that change in it.

    So are lengths of packs, whatever is to become of them. Tokens that the row's own attention_mask
    hides do not count. Columns with several values for a token, as Qwen2-VL's positions, are
    something else, and so are masks of pairs of tokens.
    """
    for key in filter(_tells, columns):
        if is_pack_lengths(key):
            lists = isinstance(columns[key], Ragged) or hasattr(columns[key][0], "__len__")
            refuse_packs(function, {key: "rows" if lists else "number"}, fix=fix)
            continue
        row = _find_joined(columns[key], columns.get("attention_mask"), key in _POSITIONS)
        if row is not None:
            found = "positions begin again" if key in _POSITIONS else "numbers of segments change"
            raise ValueError(
                f"{function}(): key {key!r}, row {row}: {found} inside the row, so it is a pack, "
                f"and its segments would attend to each other; {fix}"
            )


def _find_joined(column: Any, mask: Any, is_positions: bool) -> int | None:
    """Give the first row of several segments, if there is one."""
    rows = _read(column)
    if rows is None:
        return None
    values, lengths = rows
    owners = np.repeat(np.arange(len(lengths)), lengths)
    if mask is not None:
        masks = _read(mask)
        if masks is None or not np.array_equal(masks[1], lengths):
            return None
        values, owners = values[masks[0] != 0], owners[masks[0] != 0]
    if len(values) == 0:
        return None
    same, steps = owners[1:] == owners[:-1], np.diff(values.astype(np.int64))
    if is_positions:
        _, starts, inverse = np.unique(owners, return_index=True, return_inverse=True)
        counts = np.isin(owners, owners[1:][same & (steps == 1)])  # rows that count up somewhere
        begins = (steps <= 0) & (values <= values[starts][inverse])[1:]
        joined = same & begins & counts[1:]
    else:
        joined = same & (steps != 0)
    return int(owners[1:][joined][0]) if joined.any() else None


def _read(column: Any) -> tuple[Any, Any] | None:
    """Give the numbers of rows, one after another, and the rows' lengths; None: of more."""
    try:
        rows = column if isinstance(column, Ragged) else Ragged.from_sequences(list(column))
    except (TypeError, ValueError, OverflowError):
        return None  # the collator says what is wrong with it
    values = np.asarray(rows.values)
    return (values, np.asarray(rows.lengths)) if values.ndim == 1 else None
