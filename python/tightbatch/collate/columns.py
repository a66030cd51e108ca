"""Make the values of a batch from columns: the code that all collators share."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .samples import LABELS
from .shared import Block, shared_type

TENSORS = ("pt", "np")
# Fills of the columns with these keys, unless `padding_value` has another. torch's cross-entropy
# ignores -100.
FILLS: dict[Any, float] = {
    **dict.fromkeys(LABELS, -100),
    "attention_mask": 0,
    "token_type_ids": 0,
    "position_ids": 0,
    "special_tokens_mask": 1,
}


class ColumnSettings(NamedTuple):
    """The settings of one key's column, as the C code reads them (column_spec.c)."""

    padding_value: float = 0
    dtype: Any = None
    float_dtype: Any = None  # instead of dtype, of a column that would be of a floating type
    width: int | None = None
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    boundaries: NDArray[np.int64] | None = None


DEFAULT = ColumnSettings()
# What happens to a column. Columns of rows are padded, or put one after another. Masks and lengths
# are made from the "main" one; a "per_token" column has a value for each of its tokens. The last
# six are for batches without padding.
Role = Literal[
    "main",
    "rows",
    "per_token",
    "numbers",
    "labels",
    "labels_of_main",
    "labels_kept",
    "row_labels",
    "attention_mask",
    "seq_lengths",
]
ColumnSpec = tuple[Any, Any, Role, ColumnSettings]  # key, rows, role, settings


def settle_columns(
    function: str,
    options: Mapping[str, Any],
    padding_side: str = "right",
    truncation_side: str = "right",
) -> dict[Any, ColumnSettings]:
    """Give the settings of each key, and under None those of every other key; check all of them.

    ``options`` are those of :class:`ColumnSettings`: a value for all columns, or a mapping of
    keys to values. One dtype for all is for all that hold floats.
    """
    options = dict(options)
    if not isinstance(options["dtype"], Mapping):
        options["float_dtype"] = options.pop("dtype")
    mappings = [option for option in options.values() if isinstance(option, Mapping)]
    named: dict[Any, ColumnSettings] = {}
    for key in dict.fromkeys((None, *FILLS, *(key for given in mappings for key in given))):
        own: dict[str, Any] = {
            name: option.get(key) if isinstance(option, Mapping) else option
            for name, option in options.items()
        }
        own["padding_value"] = _fill_of(key, options["padding_value"])
        named[key] = ColumnSettings(**own)
    _core.check_columns(function, named, padding_side, truncation_side)
    return named


def _fill_of(key: Any, given: Any) -> Any:
    if isinstance(given, Mapping):
        return given.get(key, FILLS.get(key, 0))
    return FILLS.get(key, given)


def pad_columns(
    function: str,
    specs: list[ColumnSpec],
    names: Iterable[Any],
    sides: tuple[str, str],
    extras: tuple[str, ...],
    return_tensors: str,
) -> tuple[dict[Any, Any], Block | None]:
    """Make the arrays or tensors of a padded batch by name: first the specs', then the extras.

    In a DataLoader worker they are views of one block of shared memory. It is returned too.
    """
    block, allocate, as_tensors = _memory_for(function, return_tensors)
    outputs = _core.pad_columns(function, specs, *sides, extras, allocate, as_tensors)
    return _named(function, names, outputs, block, as_tensors), block


def flatten_columns(
    function: str,
    specs: list[ColumnSpec],
    settings: Mapping[str, Any],
    extras: tuple[str, ...],
    names: Iterable[Any],
    return_tensors: str,
    keep_empty: bool = False,
) -> tuple[dict[Any, Any], Block | None, int, int]:
    """Do the same without padding; also give the longest segment and the number of labels.

    ``settings`` are those of PaddingFreeCollator by name. With ``keep_empty`` rows without tokens
    are segments too.
    """
    block, allocate, as_tensors = _memory_for(function, return_tensors)
    outputs, longest, items = _core.flatten_columns(
        function, specs, settings, keep_empty, extras, allocate, as_tensors
    )
    return _named(function, names, outputs, block, as_tensors), block, longest, items


def _memory_for(function: str, return_tensors: str) -> tuple[Block | None, Any, bool]:
    """Give a block for a batch of tensors that is made in a DataLoader worker."""
    if return_tensors != "pt":
        return None, None, False
    if _torch(function).utils.data.get_worker_info() is None:
        return None, None, True
    block = Block(function)
    return block, block.allocate, True


@functools.cache
def _torch(function: str) -> Any:
    try:
        import torch.utils.data
    except ImportError as error:
        raise ImportError(
            f"{function}(): return_tensors='pt' makes torch tensors, but torch is not installed: "
            "pip install torch, or pass return_tensors='np' to get arrays"
        ) from error
    return torch


def _named(
    function: str, names: Iterable[Any], outputs: list[Any], block: Block | None, as_tensors: bool
) -> dict[Any, Any]:
    """Name the arrays or tensors that C made, and note which lie in the block."""
    if not as_tensors:
        return {name: out[0] for name, out in zip(names, outputs, strict=True)}
    values = _tensors(function, names, outputs)
    if block is not None:
        block.views = [(v, out[1]) for v, out in zip(values.values(), outputs, strict=True)]
    return values


def _tensors(function: str, names: Iterable[Any], outputs: list[Any]) -> dict[Any, Any]:
    torch = _torch(function)
    from_numpy, values = torch.from_numpy, {}
    for name, (array, _, is_bfloat16) in zip(names, outputs, strict=True):
        try:
            tensor = from_numpy(array)
        except TypeError as error:
            raise TypeError(
                f"{function}(): key {_core.show(name)}: torch has no dtype {array.dtype}"
            ) from error
        values[name] = tensor.view(torch.bfloat16) if is_bfloat16 else tensor
    return values


def build(cls: Any, values: dict[Any, Any], block: Block | None) -> Any:
    """Make a mapping, a tuple or a namedtuple of the values; None means bare rows."""
    if cls is None:
        plain = tuple(values.values())
        if len(plain) == 1:
            return plain[0]
        cls = tuple
    maps = not issubclass(cls, tuple)
    if block is None or block.tensor is None:
        return cls(values) if maps else _make(cls, values.values())
    cls = shared_type(cls)
    batch = cls(values) if maps else _make(cls, values.values())
    batch.block = block
    return batch


def _make(cls: Any, values: Iterable[Any]) -> Any:
    return cls._make(values) if hasattr(cls, "_make") else cls(values)


class Collator:
    """The base class of all collators, which are dataclasses: gives them a short repr."""

    def __repr__(self) -> str:
        """Show the settings that differ from the default."""
        changed = []
        for setting in fields(self):  # type: ignore[arg-type]
            value = getattr(self, setting.name)
            if setting.repr and not _is_default(value, setting.default):
                text = repr(value)
                if len(text) > 200:  # a tokenizer, a model
                    text = f"{type(value).__name__}(...)"
                changed.append(f"{setting.name}={text}")
        return f"{type(self).__name__}({', '.join(changed)})"


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))
