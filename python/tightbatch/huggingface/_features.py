"""Features to columns, and columns padded as a tokenizer's pad() does."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _core
from .._columns import Spec, assemble, kind_of, stack_spec
from ..collate import Batch
from ..dataset import Samples, batch_columns
from ..ragged import Ragged

LARGE = 10**20  # transformers' sign for "no model_max_length"
LABELS = ("label", "labels", "label_ids")


@functools.cache
def encoding() -> type:
    try:
        from transformers import BatchEncoding
    except ImportError:
        return Batch
    return BatchEncoding


def columns_of(function: str, features: Any) -> dict[Any, Any]:
    """Turn features into columns; every feature has the same keys."""
    if isinstance(features, Samples):
        columns = dict(features.columns)
        count = len(features)
    elif not isinstance(features, (list, tuple)) and _core.is_arrow(features):
        columns = batch_columns(function, features)
        count = len(next(iter(columns.values()), ()))
    else:
        features = list(features)
        count = len(features)
        if count and not isinstance(features[0], Mapping):
            raise TypeError(
                f"{function}(): found a {type(features[0]).__name__}, expected features: dicts"
            )
        columns = _core.gather_columns(function, features)
    if count == 0:
        raise ValueError(f"{function}(): no features; expected at least one")
    return columns


def _is_floating(dtype: Any) -> bool:
    floating = getattr(dtype, "is_floating_point", None)  # torch's; NumPy's have a kind
    return bool(floating) if floating is not None else dtype.kind not in "biu"


def _as_list_dtype(column: Any, return_tensors: str) -> str | None:
    """Give the type that the column would get as lists of Python numbers; None: C sees to it."""
    source = column if hasattr(column, "dtype") else column[0]
    if not hasattr(source, "dtype"):
        return None
    dtype = source.dtype
    if _is_floating(dtype):
        return "float32" if return_tensors == "pt" else "float64"
    return "bool" if str(dtype) in ("bool", "torch.bool") else "int64"


def row_lengths(function: str, column: Any) -> Any:
    return column.lengths if isinstance(column, Ragged) else _core.lengths(function, column)


def _require_equal(function: str, key: Any, lengths: Any, why: str) -> None:
    if (lengths != lengths[0]).any():
        row = int(np.argmax(lengths != lengths[0]))
        raise ValueError(
            f"{function}(): key {key!r}, row {row}: has length {lengths[row]}, row 0 has "
            f"{lengths[0]}: {why}"
        )


def _round_up(width: int, multiple: int | None) -> int:
    return width if multiple is None else -(-width // multiple) * multiple


@dataclass
class Settings:
    """Width and fill, from a tokenizer or from what was given in its place."""

    function: str
    main: str
    pad_token_id: int | None
    pad_token_type_id: int
    padding_side: str
    model_max_length: int | float
    makes_mask: bool

    @classmethod
    def of(cls, collator: Any) -> Settings:
        function, tokenizer = type(collator).__name__, collator.tokenizer
        if tokenizer is None:
            side = "right" if collator.padding_side is None else collator.padding_side
            return cls(function, "input_ids", collator.pad_token_id, 0, side, LARGE, True)
        names = tokenizer.model_input_names
        side = collator.padding_side
        return cls(
            function,
            names[0],
            tokenizer.pad_token_id if collator.pad_token_id is None else collator.pad_token_id,
            getattr(tokenizer, "pad_token_type_id", 0),
            tokenizer.padding_side if side is None else side,
            tokenizer.model_max_length,
            "attention_mask" in names,
        )

    def width(self, padding: Any, max_length: int | None) -> tuple[bool, int | None]:
        """Tell whether to pad, and to which width (None: the longest row)."""
        strategy = "do_not_pad" if padding is False or padding is None else padding
        strategy = "longest" if strategy is True else getattr(strategy, "value", strategy)
        if strategy not in ("longest", "max_length", "do_not_pad"):
            raise ValueError(
                f"{self.function}(): padding={padding!r}; expected True, False, 'longest', "
                "'max_length' or 'do_not_pad'"
            )
        if strategy != "max_length":
            return strategy == "longest", None
        if max_length is None:
            if self.model_max_length > LARGE:
                return False, None
            max_length = int(self.model_max_length)
        return True, max_length

    def require_pad_token(self) -> int:
        if self.pad_token_id is None:
            raise ValueError(
                f"{self.function}(): asked to pad, but there is no padding token; set one, as "
                "with tokenizer.pad_token = tokenizer.eos_token, or give pad_token_id="
            )
        return self.pad_token_id


class Padding:
    """The specs of one batch, as the columns are gone through."""

    def __init__(self, collator: Any, columns: dict[Any, Any], return_tensors: str) -> None:
        if return_tensors not in ("pt", "np"):
            raise ValueError(
                f"{type(collator).__name__}(): return_tensors={return_tensors!r}; expected 'pt' "
                "or 'np'"
            )
        self.settings = Settings.of(collator)
        self.function, self.main = self.settings.function, self.settings.main
        self.columns, self.return_tensors = columns, return_tensors
        self.multiple = collator.pad_to_multiple_of
        padding = getattr(collator, "padding", True)
        self.pads, self.asked = self.settings.width(padding, getattr(collator, "max_length", None))
        if self.main not in columns:
            raise ValueError(
                f"{self.function}(): the features have no {self.main!r}, but {list(columns)}"
            )
        self.specs: list[Spec] = []
        self.names: list[Any] = []
        self.listed: dict[Any, Any] = {}

    @functools.cached_property
    def width(self) -> int:
        """Of the padded input."""
        lengths = row_lengths(self.function, self.columns[self.main])
        return _round_up(int(lengths.max()) if self.asked is None else self.asked, self.multiple)

    def add_inputs(self, skipped: tuple[Any, ...] = ()) -> None:
        """Add every column but those skipped, as tokenizer.pad treats it."""
        fills = {
            self.main: self.settings.require_pad_token() if self.pads else 0,
            "attention_mask": 0,
            "token_type_ids": self.settings.pad_token_type_id,
            "special_tokens_mask": 1,
        }
        order = [key for key in self.columns if key not in skipped]
        place = order.index(self.main)
        position = 0
        for key in order:
            column = self.columns[key]
            kind = kind_of(self.function, key, column)
            if kind == "listed":
                self.listed[key] = column
                place -= position < place
                continue
            position += 1
            dtype = _as_list_dtype(column, self.return_tensors)
            if kind == "number":
                self.add(key, stack_spec(key, column, dtype))
            elif key in fills and not self._is_matrix(column):
                like = -1 if key == self.main else place
                self.add_rows(key, column, fills[key], self.asked, dtype, like)
            else:
                self._add_other(key, column, dtype)
        self.place = place

    def add_rows(
        self, key: Any, column: Any, fill: float, width: int | None, dtype: Any, like: int = -1
    ) -> None:
        """Add a column that is padded; where nothing is, its rows must have one length."""
        if self.pads:
            self.add(key, (key, column, False, fill, dtype, width, None, self.multiple, like))
            return
        why = "padding is off; padding=True pads to the longest"
        _require_equal(self.function, key, row_lengths(self.function, column), why)
        self.add(key, (key, column, False, fill, dtype, None, None, None, like))

    def _is_matrix(self, column: Any) -> bool:
        """Tell whether the rows have positions of more than a number, as 4-D masks do."""
        if isinstance(column, Ragged):
            return bool(column.trailing)
        return getattr(column[0], "ndim", 1) > 1

    def _add_other(self, key: Any, column: Any, dtype: Any) -> None:
        lengths = row_lengths(self.function, column)
        ragged = bool((lengths != lengths[0]).any())
        if ragged and key in LABELS and self.pads:
            self.add(key, (key, column, False, -100, dtype, self.width, None, None, -1))
            return
        why = "only inputs and labels are padded; PadCollator pads every column"
        _require_equal(self.function, key, lengths, why)
        self.add(key, (key, column, False, 0, dtype, None, None, None, -1))

    def add(self, key: Any, spec: Spec) -> None:
        """Add a column as it is described."""
        self.specs.append(spec)
        self.names.append(key)

    def finish(
        self, extras: tuple[str, ...] = (), names: tuple[str, ...] = (), flat: bool = False
    ) -> tuple[dict[Any, Any], Any]:
        """Make the values, with text among them, in the order of the columns."""
        sides = (self.settings.padding_side, "right")
        if not flat and self.settings.makes_mask and "attention_mask" not in self.columns:
            extras, names = ("mask", *extras), ("attention_mask", *names)
        arguments = (sides, self.place, extras, self.return_tensors, flat)
        values, block = assemble(self.function, self.specs, (*self.names, *names), *arguments)
        if self.return_tensors == "np" and self._has_listed_floats(values):
            values, block = assemble(self.function, self.specs, (*self.names, *names), *arguments)
        if self.listed:
            values = {**values, **self.listed}
            order = [key for key in self.columns if key in values]
            values = {**{key: values[key] for key in order}, **values}
        return values, block

    def _has_listed_floats(self, values: dict[Any, Any]) -> bool:
        """Ask for float64, NumPy's own, where lists of floats have become float32."""
        found = False
        for i, spec in enumerate(self.specs):
            if spec[4] is None and values[spec[0]].dtype == np.float32:
                self.specs[i] = (*spec[:4], "float64", *spec[5:])
                found = True
        return found
