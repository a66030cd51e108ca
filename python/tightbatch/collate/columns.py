"""Columns to the values of a batch: what all collators share."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from .. import _core
from ..ragged import Ragged
from .shared import Block, travelling

# What the C code is told of a column: key, rows, whether they are numbers, fill, dtype, width,
# max_length, multiple, and the place of a column whose lengths these must equal, or -1; then,
# where the width is to be one of them, boundaries as an int64 array.
Spec = tuple[Any, Any, bool, float, Any, int | None, int | None, int | None, int]
BoundedSpec = tuple[Any, Any, bool, float, Any, None, int | None, int | None, int, Any]


def kind_of(function: str, key: Any, column: Sequence[Any]) -> str:
    """Tell what becomes of a column: its "rows" padded, a "number" a row stacked, or "listed"."""
    if isinstance(column, Ragged):
        return "rows"
    first = column[0]
    if first is None or isinstance(first, str):
        for row, value in enumerate(column):
            if value is not None and not isinstance(value, str):
                raise TypeError(
                    f"{function}(): key {key!r}, row {row}: found a {type(value).__name__}, "
                    f"expected a str or None: row 0 is {first!r}"
                )
        return "listed"
    if isinstance(first, (list, tuple)):
        return "rows"
    if isinstance(first, (int, float)) or getattr(first, "ndim", None) == 0:
        return "number"
    return "rows"


def stack_spec(key: Any, column: Any, dtype: Any) -> Spec:
    """Describe a column of one number a row."""
    return (key, column, True, 0, dtype, None, None, None, -1)


def assemble(
    function: str,
    specs: Sequence[Spec | BoundedSpec],
    names: Iterable[Any],
    sides: tuple[str, str],
    main: int,
    extras: tuple[str, ...],
    return_tensors: str,
    flat: bool = False,
) -> tuple[dict[Any, Any], Block | None]:
    """Make the arrays or tensors of a batch: those of the specs, then the extras, by name.

    In a DataLoader worker they are views of one block of shared memory, which is returned too.
    """
    as_tensors = return_tensors == "pt"
    block = block_for(as_tensors)
    outputs = _core.pad_columns(
        function,
        specs,
        *sides,
        main,
        extras,
        None if block is None else block.allocate,
        as_tensors,
        flat,
    )
    return name_outputs(function, names, outputs, block, as_tensors), block


def block_for(as_tensors: bool) -> Block | None:
    """Give a block for a batch of tensors that is made in a DataLoader worker."""
    return Block() if as_tensors and _worker_info()() is not None else None


def name_outputs(
    function: str, names: Iterable[Any], outputs: list[Any], block: Block | None, as_tensors: bool
) -> dict[Any, Any]:
    """Give what C made as arrays or tensors by name, and note which lie in the block."""
    if not as_tensors:
        return {name: out[0] for name, out in zip(names, outputs, strict=True)}
    values = _tensors(function, names, outputs)
    if block is not None:
        block.views = [(v, out[1]) for v, out in zip(values.values(), outputs, strict=True)]
    return values


def build(cls: Any, values: dict[Any, Any], block: Block | None) -> Any:
    """Put the values together as a mapping, a tuple or a namedtuple; None: bare rows."""
    if cls is None:
        plain = tuple(values.values())
        if len(plain) == 1:
            return plain[0]
        cls = tuple
    maps = not issubclass(cls, tuple)
    if block is None or block.tensor is None:
        return cls(values) if maps else _make(cls, values.values())
    cls = travelling(cls)
    batch = cls(values) if maps else _make(cls, values.values())
    batch.block = block
    return batch


def _make(cls: Any, values: Iterable[Any]) -> Any:
    return cls._make(values) if hasattr(cls, "_make") else cls(values)


@functools.cache
def _worker_info() -> Any:
    from torch.utils.data import get_worker_info

    return get_worker_info


@functools.cache
def _from_numpy() -> Any:
    import torch

    return torch.from_numpy


def _tensors(function: str, names: Iterable[Any], outputs: list[Any]) -> dict[Any, Any]:
    from_numpy, values = _from_numpy(), {}
    for name, (array, _, is_bfloat16) in zip(names, outputs, strict=True):
        try:
            tensor = from_numpy(array)
        except TypeError as error:
            raise TypeError(
                f"{function}(): key {name!r}: torch has no dtype {array.dtype}"
            ) from error
        if is_bfloat16:
            import torch

            tensor = tensor.view(torch.bfloat16)
        values[name] = tensor
    return values
