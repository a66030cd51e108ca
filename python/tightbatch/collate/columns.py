"""Make the values of a batch from columns: the code that all collators share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._types import Side
from . import roles
from .shared import Block, shared_type

TENSORS = ("pt", "np")


class ColumnSettings(NamedTuple):
    """The settings of one key's column, as the C code reads them (column_spec.c)."""

    padding_value: float | None = 0  # None: not known, and padding is an error
    dtype: Any = None
    float_dtype: Any = None  # instead of dtype, of a column that would be of a floating type
    width: int | None = None
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    boundaries: NDArray[np.int64] | None = None
    padding_side: Side | None = None  # None: that of all columns
    # Instead of padding_value, of a column of floats; False: not known, and padding is an error.
    float_padding_value: float | None = None


DEFAULT = ColumnSettings()
# What happens to a column. Columns of rows are padded, or put one after another; a "per_token"
# column has a value for each token of the "main" one. Those from "labels" to "seq_lengths" are for
# batches without padding. What happens to the last four is in column_role.h.
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
    "sequence",
    "loose",
    "stack",
    "concat",
]
ColumnSpec = tuple[Any, Any, Role, ColumnSettings]  # key, rows, role, settings
Links = tuple[tuple[int, int], ...]
Extras = tuple[tuple[str, int], ...]


class SettingsByKey(dict[Any, ColumnSettings]):
    """The settings of each key: as given, or else by what its name means (roles.py).

    Under None are those of a name that says nothing.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = dict(options)
        if not isinstance(self.options["dtype"], Mapping):
            self.options["float_dtype"] = self.options.pop("dtype")
        self.mappings = {k: v for k, v in self.options.items() if isinstance(v, Mapping)}
        for key in dict.fromkeys(
            (None, *(key for given in self.mappings.values() for key in given))
        ):
            self[key] = self._settle(key)

    def __missing__(self, key: Any) -> ColumnSettings:
        settings = self[key] = self._settle(key)
        return settings

    def _settle(self, key: Any) -> ColumnSettings:
        own: dict[str, Any] = {
            name: option.get(key) if name in self.mappings else option
            for name, option in self.options.items()
        }
        own["padding_value"] = self._fill_of(key)
        return ColumnSettings(**own)

    def _fill_of(self, key: Any) -> Any:
        given, name = self.options["padding_value"], roles.read_name(key)
        if "padding_value" not in self.mappings:
            return roles.FILLS.get(name.meaning, given)
        if key in given:
            return given[key]
        of_all = roles.PATTERNS.get(name.meaning)
        if of_all in given:
            return given[of_all]
        return roles.FILLS.get(name.meaning, 0)


def settle_columns(
    function: str,
    options: Mapping[str, Any],
    padding_side: str = "right",
    truncation_side: str = "right",
) -> SettingsByKey:
    """Give the settings of each key; check all of them.

    ``options`` are those of :class:`ColumnSettings`: a value for all columns, or a mapping of
    keys to values. One dtype for all is for all that hold floats.
    """
    named = SettingsByKey(options)
    _core.check_columns(function, named, padding_side, truncation_side)
    return named


def pad_columns(
    function: str,
    specs: list[ColumnSpec],
    names: Iterable[Any],
    sides: tuple[str, str],
    extras: Extras,
    return_tensors: str,
    links: Links = (),
    promote: str = "none",
    reshape: Callable[[list[Any]], list[Any]] | None = None,
) -> tuple[dict[Any, Any], Block | None]:
    """Make the arrays or tensors of a padded batch by name: first the specs', then the extras.

    An extra is a kind and the index of its column; -1 is the first column of tokens, or else the
    first of what ``promote`` says: "vectors", or any "rows". Without a column it is left out. A
    link is the index of a column with a value for each token, and of that of the tokens. In a
    DataLoader worker they are views of one block of shared memory. It is returned too.
    """
    block, allocate, as_tensors = _memory_for(function, return_tensors)
    outputs = _core.pad_columns(
        function, specs, *sides, links, extras, promote, allocate, as_tensors
    )
    if reshape is not None:
        outputs = reshape(outputs)
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
        return {
            name: out[0] for name, out in zip(names, outputs, strict=True) if out[0] is not None
        }
    values = _tensors(function, names, outputs)
    if block is not None:
        offsets = (out[1] for out in outputs if out[0] is not None)
        block.views = list(zip(values.values(), offsets, strict=True))
    return values


def _tensors(function: str, names: Iterable[Any], outputs: list[Any]) -> dict[Any, Any]:
    torch = _torch(function)
    from_numpy, values = torch.from_numpy, {}
    for name, (array, _, is_bfloat16) in zip(names, outputs, strict=True):
        if array is None:  # left out
            continue
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
