"""What a model gave for each batch, put back into the order of the data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core

Array = NDArray[np.int64]


def restore(
    function: str, outputs: Any, given: Sequence[tuple[Array, Array]], count: int, fill: Any
) -> Any:
    """Give the outputs of rows 0 to count - 1, in this order.

    `given` has, for each rank, the rows that it got, in order, and the sizes of its batches.
    """
    parts = [outputs]
    if len(given) > 1:
        if not isinstance(outputs, (list, tuple)) or len(outputs) != len(given):
            raise ValueError(
                f"{function}(): expected a list with the outputs of each of {len(given)} ranks, "
                "as torch.distributed.all_gather_object gives it; found "
                + (
                    f"{len(outputs)}"
                    if isinstance(outputs, (list, tuple))
                    else _core.describe(outputs)
                )
            )
        parts = list(outputs)
    joined = [
        _check(function, _of_rank(function, part, sizes), len(rows), len(given) == 1, "")
        for part, (rows, sizes) in zip(parts, given, strict=True)
    ]
    places = np.full(count, -1, np.int64)
    order = np.concatenate([rows for rows, _ in given])
    places[order[::-1]] = np.arange(len(order))[::-1]  # of what is repeated, the first counts
    left_out = np.flatnonzero(places < 0)
    if len(left_out) and fill is None:
        raise ValueError(
            f"{function}(): {len(left_out)} of {count} rows have no output, the first is row "
            f"{left_out[0]}: the sampler left them out; pass fill=, or a sampler without "
            "drop_last=True and overlong='drop'"
        )
    return _take(_join(function, joined, ""), places, fill)


def _of_rank(function: str, outputs: Any, sizes: Array) -> Any:
    """Join the batches of one rank; anything but a list is one value that has all its rows."""
    if not isinstance(outputs, list):
        return outputs
    if not outputs:
        return []
    lengths = [_count(batch) for batch in outputs]
    is_batches = None not in lengths
    if len(outputs) == int(sizes.sum()) and lengths != sizes.tolist():
        is_batches = False  # a row each: numbers, strings, or sequences of any length
    return _join(function, outputs, "") if is_batches else outputs


def _count(batch: Any) -> int | None:
    """Count the rows of a batch's output; None if it is no batch."""
    if isinstance(batch, (Mapping, tuple)):
        values = batch.values() if isinstance(batch, Mapping) else batch
        counts = (_count(value) for value in values if value is not None)
        return next((count for count in counts if count is not None), None)
    if isinstance(batch, list):
        return len(batch)
    return int(batch.shape[0]) if _is_array(batch) and batch.ndim else None


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "torch" and hasattr(value, "index_select")


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or _is_tensor(value)


def _join(function: str, parts: list[Any], where: str) -> Any:
    """Put parts one after another: arrays that fit become one array, others a list of rows."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if first is None and all(part is None for part in parts):
        return None
    if isinstance(first, Mapping) and all(isinstance(part, Mapping) for part in parts):
        for part in parts:
            if set(part) != set(first):
                raise ValueError(
                    f"{function}(): {where}outputs have the keys {_core.show(sorted(first))} and "
                    f"{_core.show(sorted(part))}; expected the same keys in each"
                )
        return {
            key: _join(function, [part[key] for part in parts], f"{where}{key}: ") for key in first
        }
    if isinstance(first, tuple) and all(
        isinstance(part, tuple) and len(part) == len(first) for part in parts
    ):
        columns = zip(*parts, strict=True)
        joined = [
            _join(function, list(column), f"{where}{place}: ")
            for place, column in enumerate(columns)
        ]
        return _like(first, joined)
    if all(isinstance(part, list) or (_is_array(part) and part.ndim) for part in parts):
        return _join_rows(parts)
    wrong = next(
        part for part in parts if not (isinstance(part, list) or (_is_array(part) and part.ndim))
    )
    raise TypeError(
        f"{function}(): {where}found {_core.describe(wrong)} for a batch; expected a tensor, array "
        "or list with an item for each row, or a dict or tuple of these; leave out what a batch "
        "has one of"
    )


def _like(given: tuple[Any, ...], values: list[Any]) -> Any:
    return type(given)(*values) if hasattr(given, "_fields") else tuple(values)


def _join_rows(parts: list[Any]) -> Any:
    if all(_is_array(part) for part in parts):
        kinds = {(type(part), part.dtype, tuple(part.shape[1:])) for part in parts}
        if len(kinds) == 1 and isinstance(parts[0], np.ndarray):
            return np.concatenate(parts)
        if len({kind[1:] for kind in kinds}) == 1 and all(map(_is_tensor, parts)):
            import torch

            return torch.cat(parts)
    return [row for part in parts for row in part]


def _check(function: str, value: Any, count: int, may_repeat: bool, where: str) -> Any:
    """Hold that there is an item for each row, and cut what another library repeated."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {
            key: _check(function, item, count, may_repeat, f"{where}{key}: ")
            for key, item in value.items()
        }
    if isinstance(value, tuple):
        checked = [
            _check(function, item, count, may_repeat, f"{where}{place}: ")
            for place, item in enumerate(value)
        ]
        return _like(value, checked)
    if not isinstance(value, list) and not (_is_array(value) and value.ndim):
        raise TypeError(
            f"{function}(): {where}found {_core.describe(value)}; expected a list of what each "
            "batch gave, or a tensor or array with an item for each row"
        )
    most = 2 * count - 1 if may_repeat and count else count
    if not count <= len(value) <= most:
        raise ValueError(
            f"{function}(): {where}found outputs of {len(value)} rows, expected {count}: those of "
            "every batch of one iteration, from its first to its last"
        )
    return value[:count]


def _take(value: Any, places: Array, fill: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: _take(item, places, fill) for key, item in value.items()}
    if isinstance(value, tuple):
        return _like(value, [_take(item, places, fill) for item in value])
    if isinstance(value, list):
        return [fill if place < 0 else value[place] for place in places.tolist()]
    missing = np.flatnonzero(places < 0)
    if isinstance(value, np.ndarray):
        taken = value[places] if len(value) else np.empty((len(places), *value.shape[1:]))
        taken = taken.astype(value.dtype, copy=False)
        if len(missing):
            taken[missing] = fill
        return taken
    import torch

    if not len(value):
        return value.new_full((len(places), *value.shape[1:]), fill)
    chosen = torch.from_numpy(places % len(value)).to(value.device)
    taken = value.index_select(0, chosen)
    return (
        taken.index_fill(0, torch.from_numpy(missing).to(value.device), fill)
        if len(missing)
        else taken
    )
