"""pack_dataset: a whole Ray Dataset as packs; blocks by themselves, and then their left-overs."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from .. import _core
from .._types import Overlong
from .._words import counted
from ..ragged import Ragged
from ..sampling.pack_settings import Order
from ..sampling.packed_dataset import as_lists, seq_lengths
from ..sampling.packing import Packing, pack, pack_as
from .columns import read_columns

NAME = "pack_dataset"
# The packs of a block that stay as they are leave at most this part of their capacity empty, all
# together. Rows of the others meet those of other blocks.
_EMPTY = 0.0005
_MORE = 1.0005  # as many packs as one packing of all rows, and 0.05 % more
_TOKENS_A_BLOCK = 2**22  # of packs of left-overs

Array = NDArray[np.int64]


def pack_dataset(
    dataset: Any,
    capacity: int,
    *,
    overlong: Overlong = "error",
    max_segments: int | None = None,
    seed: int | None = 0,
) -> Any:
    """Pack the rows of a Ray Dataset, so that there are few packs and they are full.

    Each block is packed by best fit, in a task of its own. Its fullest packs stay, as many as leave
    0.05 % of their capacity empty. The rows of all others, from all blocks, are packed together.
    All this looks at lengths alone; only then do tokens move, those of the packs that stay not
    beyond their block. There are at most 0.05 % more packs than one :func:`tightbatch.pack` of all
    rows makes by best fit: where blocks by themselves leave more, they give back packs.

    Each token is in exactly one pack. For the same blocks and seed the packs are the same, on any
    number of nodes and workers.

    Parameters
    ----------
    dataset : ray.data.Dataset
        All of its columns are lists of numbers, with the same length in each row. Blocks may have
        them in another order, or of another type that NumPy can promote exactly. It is executed,
        and its blocks lie in the object store (or are spilled) until they are packed. The plan
        takes 32 bytes a row in the process that calls.
    capacity, overlong, max_segments
        As for :func:`tightbatch.pack`.
    seed : int or None
        The seed of the order of rows, packs and blocks, from 0 to 2**64 - 1. None: nothing is
        random, and in each block the longest rows come first.

    Returns
    -------
    ray.data.Dataset
        A row for each pack, in the object store: the same columns, and ``seq_lengths``, the lengths
        of the pack's segments. ``CollateFn(PaddingFreeCollator())`` keeps them apart. Rows without
        tokens are in no pack. If rows were left out or cut, a UserWarning says how many rows and
        tokens.

    Raises
    ------
    TypeError
        When it is not a Ray Dataset, or a column does not hold lists of numbers.
    ValueError, OverflowError
        As :func:`tightbatch.pack_dataset`; the message names the block and its row. Ray wraps the
        errors of its tasks: the message is at the end.

    Examples
    --------
    >>> import ray, tightbatch as tb  # doctest: +SKIP
    >>> rows = ray.data.from_items([{"input_ids": [1] * n} for n in (3, 1, 2)])
    >>> tb.ray.pack_dataset(rows, 4, seed=None).take_all()
    [{'input_ids': [1, 1, 1, 1], 'seq_lengths': [3, 1]}, {'input_ids': [1, 1], 'seq_lengths': [2]}]
    """
    if not hasattr(dataset, "to_arrow_refs"):
        raise TypeError(f"{NAME}(): dataset={_core.describe(dataset)}; expected a ray.data.Dataset")
    if seed is not None:
        seed = _core.read_int(NAME, "seed", seed, 0, 2**64 - 1)
    settings = (capacity, overlong, max_segments)
    pack_as(NAME, [], *settings, _order(seed))  # a wrong setting is an error here
    blocks = _blocks_in_order(dataset)
    plan = ray.remote(num_returns=2)(_plan_block)
    made = [plan.remote(block, i, settings, seed) for i, block in enumerate(blocks)]
    found: list[dict[str, str] | None] = ray.get([types for _, types in made])
    types = unite_types(found)
    if types is None:
        return ray.data.from_arrow(pa.table({"seq_lengths": pa.array([], pa.list_(pa.int32()))}))
    has_rows = [i for i, of_block in enumerate(found) if of_block is not None]
    plans = [made[i][0] for i in has_rows]
    packings: list[Packing] = ray.get(plans)
    kept, merged = choose_kept(packings, capacity, max_segments, _seed_of(seed, len(blocks)))
    split = ray.remote(num_returns=2)(_split_block)
    parts = [
        split.remote(blocks[i], types, *given)
        for i, *given in zip(has_rows, plans, kept, strict=True)
    ]
    tables = [part[0] for part, chosen in zip(parts, kept, strict=True) if chosen.any()]
    counts = [
        int((p.lengths[_of_packs(p, ~k)] > 0).sum()) for p, k in zip(packings, kept, strict=True)
    ]
    tables += _merge([part[1] for part in parts], counts, merged)
    _warn(overlong, sum(p.dropped for p in packings), sum(p.truncated for p in packings))
    if not tables:
        tables = [parts[0][0]]  # no row has a token: a table of no packs
    if seed is not None:
        order = np.random.default_rng([seed, len(tables)]).permutation(len(tables))
        tables = [tables[i] for i in order.tolist()]
    return ray.data.from_arrow_refs(tables)


def _blocks_in_order(dataset: Any) -> list[Any]:
    """Execute a dataset; its blocks come in its own order, and not as they become ready."""
    options = dataset.context.execution_options
    before = options.preserve_order
    options.preserve_order = True
    try:
        blocks: list[Any] = dataset.to_arrow_refs()
    finally:
        options.preserve_order = before
    return blocks


def _seed_of(seed: int | None, block: int) -> int | None:
    """Give each block a seed of its own: blocks of the same lengths are packed differently."""
    if seed is None:
        return None
    return int(np.random.SeedSequence([seed, block]).generate_state(1, np.uint64)[0])


def _order(seed: int | None) -> Order:
    return Order("best_fit", "auto", seed, None)


def _warn(overlong: str, dropped: int, truncated: int) -> None:
    if dropped or truncated:
        warnings.warn(
            f"{NAME}(): overlong={overlong!r} left out {counted(dropped, 'row')} and cut off "
            f"{counted(truncated, 'token')} of others",
            stacklevel=3,
        )


# --- which packs stay ------------------------------------------------------------------------


def choose_kept(
    packings: list[Packing], capacity: int, max_segments: int | None, seed: int | None
) -> tuple[list[NDArray[np.bool_]], Packing]:
    """Choose the packs of each block that stay, and pack the segments of all others.

    Segments without tokens are not among these. If there are then more packs than one packing of
    all segments needs, blocks give back packs too: those of many small segments, which fill others.
    """
    kept = [_fullest(packing) for packing in packings]
    tokens = sum(int(packing.lengths.sum()) for packing in packings)
    most = _MORE * -(-tokens // capacity)
    is_bound, given_back = True, 0.0

    def merge() -> Packing:
        chosen = zip(packings, kept, strict=True)
        lengths = [packing.lengths[_of_packs(packing, ~stays)] for packing, stays in chosen]
        left = np.concatenate(lengths)
        return pack(
            left[left > 0],
            capacity,
            max_segments=max_segments,
            strategy="best_fit",
            seed=seed,
        )

    while True:
        merged = merge()
        packs = len(merged) + sum(int(stays.sum()) for stays in kept)
        if packs > most and is_bound:  # no packing may be as full as that
            lengths = np.concatenate([packing.lengths for packing in packings])
            whole = pack(
                lengths[lengths > 0], capacity, max_segments=max_segments, strategy="best_fit"
            )
            most, is_bound = max(most, _MORE * len(whole)), False
        if packs <= most or given_back == 1.0:
            return kept, merged
        given_back = min(max(2 * given_back, 0.125), 1.0)
        for packing, stays in zip(packings, kept, strict=True):
            order = np.argsort(-np.diff(packing.offsets), kind="stable")
            stays[order[: int(given_back * len(order))]] = False


def _fullest(packing: Packing) -> NDArray[np.bool_]:
    """Choose the fullest packs, as many as leave little of their capacity empty."""
    sizes = packing.pack_lengths
    empty = packing.capacity - sizes
    order = np.argsort(empty, kind="stable")
    allowed = _EMPTY * packing.capacity * np.arange(1, len(order) + 1)
    fits = np.flatnonzero(np.cumsum(empty[order]) <= allowed)
    kept = np.zeros(len(order), bool)
    kept[order[: fits[-1] + 1 if len(fits) else 0]] = True
    return kept & (sizes > 0)


def _of_packs(packing: Packing, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which segments are in the chosen packs."""
    return np.repeat(chosen, np.diff(packing.offsets))


# --- what columns there are ------------------------------------------------------------------


def unite_types(found: list[dict[str, str] | None]) -> dict[str, str] | None:
    """Give the type of each column in all blocks; None when no block has rows.

    Columns are in the order of the first block. Types of values that none would keep exactly, such
    as int64 and float32, are an error.
    """
    united: dict[str, str] | None = None
    for block, types in enumerate(found):
        if types is None:
            continue
        if united is None:
            united, first = dict.fromkeys(types, ""), block
        if set(types) != set(united):
            raise ValueError(
                f"{NAME}(): block {block}: found the columns {sorted(types)}, but {sorted(united)} "
                f"in block {first}; expected the same in all, as with dataset.select_columns"
            )
        for name, kind in types.items():
            if kind and united[name]:
                united[name] = _promote(f"{NAME}(): block {block}", name, kind, united[name])
            elif kind:
                united[name] = kind
    return None if united is None else {name: kind or "<i8" for name, kind in united.items()}


def _promote(where: str, name: str, kind: str, before: str) -> str:
    both = np.dtype(kind), np.dtype(before)
    promoted = np.result_type(*both)
    if promoted.kind == "f" and any(one.kind in "iu" and one.itemsize == 8 for one in both):
        raise TypeError(
            f"{where}: column {name!r} holds {both[0]}, but {both[1]} in the blocks before, and no "
            "type holds both exactly; expected one type in all blocks"
        )
    return promoted.str


# --- in tasks --------------------------------------------------------------------------------


def _plan_block(
    table: Any, block: int, settings: tuple[int, str, int | None], seed: int | None
) -> tuple[Packing | None, dict[str, str] | None]:
    """Pack a block by its lengths; give the types of its columns too, "" without a value.

    A block without rows, such as a filter leaves, may have lost its columns: it is left out.
    """
    if table.num_rows == 0:
        return None, None
    where = f"{NAME}(): block {block}"
    columns = _read_rows(where, table)
    first = next(iter(columns))
    lengths = columns[first].lengths
    for name, column in columns.items():
        other = column.lengths != lengths
        if other.any():
            row = int(other.argmax())
            raise ValueError(
                f"{where}, row {row}: has {column.lengths[row]} values in column {name!r}, but "
                f"{lengths[row]} in {first!r}; expected equal numbers"
            )
    try:
        packing = pack_as(NAME, lengths, *settings, _order(_seed_of(seed, block)))
    except (ValueError, OverflowError) as error:
        raise type(error)(str(error).replace(f"{NAME}(): ", f"{where}, ", 1)) from None
    has_values = bool(lengths.any())
    return packing, {n: column.dtype.str if has_values else "" for n, column in columns.items()}


def _split_block(
    table: Any, types: dict[str, str], packing: Packing, kept: NDArray[np.bool_]
) -> tuple[Any, Any]:
    """Give the packs of a block that stay, and the segments of the others, in these types."""
    found = _read_rows(NAME, table)
    columns = {name: _as_type(found[name], np.dtype(kind)) for name, kind in types.items()}
    return _as_table(columns, _choose(packing, kept)), _segments(columns, _choose(packing, ~kept))


def _read_rows(where: str, table: Any) -> dict[str, Ragged]:
    columns = read_columns(NAME, table, None)
    if not columns or "seq_lengths" in columns:
        raise ValueError(
            f"{where}: found the columns {list(columns)}; expected at least one, and none named "
            "'seq_lengths'"
        )
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and column.ndim > 1:
            columns[name] = column = Ragged.from_sequences(column)
        if not isinstance(column, Ragged):
            raise TypeError(
                f"{where}: column {name!r} does not hold lists of numbers; remove it, as with "
                f"dataset.drop_columns([{name!r}])"
            )
    return columns


def _as_type(column: Ragged, kind: np.dtype[Any]) -> Ragged:
    if column.dtype == kind:
        return column
    rows = column.compact()
    return Ragged(rows.values.astype(kind), lengths=rows.lengths)


def _choose(packing: Packing, chosen: NDArray[np.bool_]) -> Packing:
    """Give a packing of the chosen packs alone, in their order."""
    counts, segments = np.diff(packing.offsets), _of_packs(packing, chosen)
    offsets = np.zeros(int(chosen.sum()) + 1, np.int64)
    np.cumsum(counts[chosen], out=offsets[1:])
    indices, starts = packing.indices[segments], packing.starts[segments]
    return replace(packing, indices=indices, starts=starts, offsets=offsets)


def _as_table(columns: dict[str, Ragged], packing: Packing) -> Any:
    """Make a table of packs."""
    made = {name: as_lists(packing.apply(column)) for name, column in columns.items()}
    sizes = seq_lengths(packing.lengths.astype(np.int32), packing.offsets)
    return pa.table({**made, "seq_lengths": as_lists(sizes)})


def _segments(columns: dict[str, Ragged], packing: Packing) -> Any:
    """Make a table of a packing's segments; those without tokens go."""
    rows = np.flatnonzero(packing.lengths)
    lengths = packing.lengths[rows]
    made = {
        name: as_lists(
            column._with_rows(column.starts[packing.indices[rows]] + packing.starts[rows], lengths)
        )
        for name, column in columns.items()
    }
    return pa.table(made)


def _merge(rests: list[Any], counts: list[int], packing: Packing) -> list[Any]:
    """Send the segments of each block to where they are packed."""
    if not len(packing):
        return []
    ends = np.cumsum(packing.pack_lengths)
    groups = int(-(-ends[-1] // _TOKENS_A_BLOCK))
    inner = np.searchsorted(ends, np.arange(1, groups) * _TOKENS_A_BLOCK)
    edges = np.unique(np.concatenate([[0], inner, [len(packing)]]))
    parts = [_span(packing, int(a), int(b)) for a, b in pairwise(edges)]
    # The segments of each part, in ascending order, and where those of each block begin there.
    wanted = [np.sort(part.indices) for part in parts]
    firsts = np.concatenate([[0], np.cumsum(counts)])
    cuts = [np.searchsorted(rows, firsts) for rows in wanted]
    split = ray.remote(num_returns=len(parts))(_split_segments)
    pieces = []
    for block, rest in enumerate(rests):
        rows = [
            chosen[cut[block] : cut[block + 1]] - firsts[block]
            for chosen, cut in zip(wanted, cuts, strict=True)
        ]
        made = split.remote(rest, rows)
        pieces.append([made] if len(parts) == 1 else made)
    merge = ray.remote(_merge_segments)
    return [
        merge.remote(
            np.searchsorted(wanted[g], part.indices),
            part.offsets,
            packing.capacity,
            *(piece[g] for piece, count in zip(pieces, counts, strict=True) if count),
        )
        for g, part in enumerate(parts)
    ]


def _span(packing: Packing, begin: int, end: int) -> Packing:
    chosen = np.zeros(len(packing), bool)
    chosen[begin:end] = True
    return _choose(packing, chosen)


def _split_segments(table: Any, rows: list[Array]) -> Any:
    """Give the chosen rows of a table, for each part."""
    pieces = [table.take(pa.array(chosen)) for chosen in rows]
    return pieces[0] if len(pieces) == 1 else tuple(pieces)


def _merge_segments(indices: Array, offsets: Array, capacity: int, *pieces: Any) -> Any:
    """Pack the segments of several blocks."""
    table = pa.concat_tables(pieces)
    columns: dict[str, Any] = read_columns(NAME, table, None)
    lengths = next(iter(columns.values())).lengths
    starts = np.zeros(len(indices), np.int64)
    packing = Packing(capacity, None, indices, starts, offsets, lengths)
    return _as_table(columns, packing)
