"""Turn a batch of samples, of any kind, into columns: the first step of all collators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .. import _core
from ..dataset import Samples, batch_columns
from ..ragged import Ragged

LABELS = ("labels", "label", "label_ids")
Kind = Literal["rows", "number", "listed"]


def columns_of(
    function: str, samples: Any, *, only_mappings: bool = True
) -> tuple[dict[Any, Any], Any]:
    """Give the columns of a batch by key, and the type of a sample: dict, a tuple type, or None.

    None means bare rows, a single column with the key None. The first sample decides; all others
    must be like it.
    """
    if isinstance(samples, Samples):
        if len(samples) == 0:
            raise _empty(function)
        return samples.columns, dict
    if isinstance(samples, (Mapping, str, bytes)):
        raise _no_samples(function, samples)
    if not isinstance(samples, Sequence):
        if _core.is_arrow(samples):
            columns = batch_columns(function, samples)
            if not columns or len(next(iter(columns.values()))) == 0:
                raise _empty(function)
            return columns, dict
        try:
            iterator = iter(samples)
        except TypeError:
            raise _no_samples(function, samples) from None
        samples = list(iterator)
    if len(samples) == 0:
        raise _empty(function)
    first = samples[0]
    if isinstance(first, Mapping):
        return _core.gather_columns(function, samples), dict
    if only_mappings:
        found = type(first).__name__
        raise TypeError(f"{function}(): row 0: found type {found}, expected a dict")
    if not isinstance(first, tuple):
        return {None: samples}, None
    return _columns_of_tuples(function, samples), type(first)


def _no_samples(function: str, found: Any) -> TypeError:
    kind = type(found).__name__
    return TypeError(f"{function}(): found type {kind}, expected a list of samples")


def _empty(function: str) -> ValueError:
    return ValueError(f"{function}(): an empty batch; expected at least one sample")


def _columns_of_tuples(function: str, samples: Sequence[Any]) -> dict[Any, Any]:
    size = len(samples[0])
    for row, sample in enumerate(samples):
        if not isinstance(sample, tuple) or len(sample) != size:
            found = f"type {type(sample).__name__}"
            if isinstance(sample, tuple):
                found = f"a tuple of {len(sample)}"
            raise ValueError(
                f"{function}(): row {row}: found {found}, expected a tuple of {size} as in row 0"
            )
    names = getattr(type(samples[0]), "_fields", range(size))
    return dict(zip(names, zip(*samples, strict=True), strict=True))


def kind_of(function: str, key: Any, column: Sequence[Any]) -> Kind:
    """Tell the kind of a column: "rows" (padded), "number" (stacked) or "listed"."""
    if isinstance(column, Ragged):
        return "rows"
    first = column[0]
    if first is None or isinstance(first, str):
        for row, value in enumerate(column):
            if value is not None and not isinstance(value, str):
                shown, found = _core.show(key), type(value).__name__
                raise TypeError(
                    f"{function}(): key {shown}, row {row}: found type {found}, "
                    f"expected a str or None: row 0 is {_core.show(first)}"
                )
        return "listed"
    if isinstance(first, (list, tuple)):
        return "rows"
    if isinstance(first, (int, float)) or getattr(first, "ndim", None) == 0:
        return "number"
    return "rows"


def choose_main(kinds: Mapping[Any, Kind]) -> tuple[Any, ...]:
    """Choose the column of the tokens: a tuple of its key, or an empty one.

    It is input_ids, or else the first column of rows that are not labels.
    """
    if kinds.get("input_ids") == "rows":
        return ("input_ids",)
    rows = [key for key, kind in kinds.items() if kind == "rows"]
    return tuple([key for key in rows if key not in LABELS][:1])
