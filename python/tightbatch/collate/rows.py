"""Rows that PadCollator changes before C reads them: absent ones, and those of two dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .. import _core
from ..ragged import Ragged
from .padded_plan import GRIDS, NAME, Plan
from .roles import read_name


def without_none(column: Any) -> tuple[Any, str]:
    """Let rows that are None be empty; "none" is a column that has no others."""
    if not any(row is None for row in column):
        return column, "concat"
    rows = [[] if row is None else row for row in column]
    return rows, "none" if all(row is None for row in column) else "concat"


def fill_missing(samples: Any, kinds: Mapping[Any, str]) -> list[Any] | None:
    """Add None for columns that are joined and that some samples lack; None: there are none."""
    if not isinstance(samples, Sequence) or not all(isinstance(s, Mapping) for s in samples):
        return None
    keys = dict.fromkeys(key for sample in samples for key in sample)
    joined = [
        key
        for key in keys
        if kinds.get(key) == "concat"
        or (kinds.get(key) == "described" and any(grid in keys for grid in GRIDS[key]))
    ]
    if all(key in sample for sample in samples for key in joined):
        return None
    return [{**dict.fromkeys(joined), **sample} for sample in samples]


def kind_of_positions(key: Any, column: Any, columns: Mapping[Any, Any]) -> str:
    """Tell positions [3, T] of a token, as Qwen2-VL's, from those that are one for each token."""
    if isinstance(column, Ragged):
        return "rows"
    shapes = [_shape(row) for row in column]
    tokens = columns.get(read_name(key).sibling("input_ids"))
    if len(shapes[0]) != 2 or tokens is None:
        return "rows"
    lengths = [len(row) for row in tokens]
    first = [shape[0] == n for shape, n in zip(shapes, lengths, strict=True)]
    last = [len(shape) == 2 and shape[1] == n for shape, n in zip(shapes, lengths, strict=True)]
    if all(first) and all(last):
        raise ValueError(
            f"{NAME}(): key {_core.show(key)}: rows of shape {shapes[0]} may be "
            "[positions, tokens] or [tokens, positions]; expected a batch with another number of "
            "tokens"
        )
    if all(last):
        return "positions_first"
    if all(first):
        return "rows"
    row = next(i for i, fits in enumerate(map(any, zip(first, last, strict=True))) if not fits)
    raise ValueError(
        f"{NAME}(): key {_core.show(key)}, row {row}: has shape {shapes[row]}, but 'input_ids' has "
        f"{lengths[row]} tokens in this row; expected [tokens, positions] or [positions, tokens]"
    )


def _shape(row: Any) -> tuple[int, ...]:
    if hasattr(row, "shape"):
        return tuple(row.shape)
    nested = isinstance(row, (list, tuple)) and len(row) and isinstance(row[0], (list, tuple))
    return (len(row), len(row[0])) if nested else (len(row),)


def split_rows(key: Any, column: Iterable[Any], kind: str) -> tuple[list[Any], int]:
    """Give the rows of the samples' rows [A, T], and A: sample by sample, or A by A."""
    samples = list(column)
    leads = []
    for row, sample in enumerate(samples):
        try:
            leads.append(len(sample))
        except TypeError:
            leads.append(0)
        if leads[row] == 0 or leads[row] != leads[0]:
            raise ValueError(
                f"{NAME}(): key {_core.show(key)}, row {row}: has {leads[row]} rows, expected "
                f"{leads[0] or 'at least 1'}: only the last dimension may vary"
            )
    if kind == "time_last":
        return [item for sample in samples for item in sample], leads[0]
    return [sample[i] for i in range(leads[0]) for sample in samples], leads[0]


def join_rows(plan: Plan, leads: Mapping[int, int], outputs: list[Any]) -> list[Any]:
    """Put outputs of split rows into their shape: [batch, A, T], or [A, batch, T]."""
    joined = list(outputs)
    for index, lead in leads.items():
        array, *rest = outputs[index]
        width = array.shape[1:]
        count = array.shape[0] // lead
        first = (count, lead) if plan.split[index] == "time_last" else (lead, count)
        joined[index] = (array.reshape(*first, *width), *rest)
    for place, (_, index) in enumerate(plan.extras, len(plan.columns)):
        array, *rest = outputs[place]
        if index in leads and array is not None:  # the rows of a sample are alike
            step = leads[index] if plan.split[index] == "time_last" else 1
            count = array.shape[0] // leads[index]
            joined[place] = (array[::step][:count].copy(), *rest)
    return joined
