"""Turn features into columns, and pad columns as a tokenizer's pad() does."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..collate.batch import Batch
from ..collate.columns import (
    DEFAULT,
    TENSORS,
    ColumnSettings,
    ColumnSpec,
    Role,
    pad_columns,
)
from ..collate.packs import refuse_joined, refuse_packs
from ..collate.samples import LABELS, kind_of
from ..collate.tokenizers import read_tokenizer
from ..ragged import Ragged

INT64, BOOL, FLOAT32, FLOAT64 = map(np.dtype, ("int64", "bool", "float32", "float64"))
STRATEGIES = ("longest", "max_length", "do_not_pad")
REQUIRED = ("label_pad_token_id", "separator_id")  # integers that may not be None
LARGE = 10**20  # what transformers has for "no model_max_length"
# What is padded beside the input, to its width, and with what; transformers pads no position_ids.
FILLS = {"attention_mask": 0, "token_type_ids": 0, "special_tokens_mask": 1}


@functools.cache
def encoding(name: str = "BatchEncoding") -> Any:
    """Give the type of transformers' batches; ours, if it is not installed."""
    try:
        import transformers
    except ImportError:
        return Batch
    return getattr(transformers, name)


def _as_list_dtype(column: Any, return_tensors: str) -> np.dtype[Any] | None:
    """Give the type that the column would get as lists of Python numbers; None: C decides."""
    dtype = getattr(column, "dtype", None)
    if dtype is None and hasattr(column[0], "dtype"):
        # An empty row does not count: numpy.array([]) and torch.tensor([]) are floats.
        telling = next((row for row in column if getattr(row, "ndim", 0) == 0 or len(row)), None)
        dtype = INT64 if telling is None else getattr(telling, "dtype", None)
    if dtype is None:
        return None
    kind = getattr(dtype, "kind", None)  # NumPy's
    if kind is None:
        kind = "f" if dtype.is_floating_point else "b" if str(dtype) == "torch.bool" else "i"
    if kind in "iu":
        return INT64
    if kind == "b":
        return BOOL
    return FLOAT32 if return_tensors == "pt" else FLOAT64


def row_lengths(function: str, column: Any) -> Any:
    return column.lengths if isinstance(column, Ragged) else _core.lengths(function, column)


def _require_equal(function: str, key: Any, lengths: Any, why: str) -> None:
    if (lengths != lengths[0]).any():
        row = int(np.argmax(lengths != lengths[0]))
        raise ValueError(
            f"{function}(): key {_core.show(key)}, row {row}: has length {lengths[row]}, "
            f"row 0 has {lengths[0]}: {why}"
        )


def _is_bool(column: Any) -> bool:
    """Tell whether rows hold bools, by the first value."""
    dtype = getattr(column, "dtype", None) or getattr(column[0], "dtype", None)
    if dtype is not None:
        return str(dtype) in ("bool", "torch.bool")
    return isinstance(next((row[0] for row in column if len(row)), None), bool)


def is_matrix(column: Any) -> bool:
    """Tell whether a position has more than one number, as in 4-D masks."""
    if isinstance(column, Ragged):
        return bool(column.trailing)
    return getattr(column[0], "ndim", 1) > 1


def _round_up(width: int, multiple: int | None) -> int:
    return width if multiple is None else -(-width // multiple) * multiple


def read_ids(function: str, name: str, given: Any) -> NDArray[np.int64]:
    """Read token ids: integers, also in a set."""
    ids = list(given) if isinstance(given, (set, frozenset)) else given
    return _core.read_lengths(function, name, ids)


def check_settings(collator: Any, return_tensors: Any) -> tuple[Any, bool]:
    """Refuse wrong settings of a collator; they may change between calls.

    Give what pads, None without a tokenizer, and whether it is a feature extractor.
    """
    function, given = type(collator).__name__, vars(collator)
    _core.read_choice(function, "return_tensors", return_tensors, TENSORS)
    for name, least in (
        ("max_length", 0),
        ("pad_to_multiple_of", 1),
        ("pad_token_id", -(2**63)),
        ("label_pad_token_id", -(2**63)),
        ("separator_id", -(2**63)),
        ("mask_token_id", 0),
        ("vocab_size", 1),
    ):
        if name in given and (given[name] is not None or name in REQUIRED):
            _core.read_int(function, name, given[name], least, 2**63 - 1)
    if given.get("special_token_ids") is not None:
        read_ids(function, "special_token_ids", given["special_token_ids"])
    if given.get("padding_side") is not None:
        _core.read_choice(function, "padding_side", given["padding_side"], ("right", "left"))
    for name in (
        "return_position_ids",
        "return_flash_attn_kwargs",
        "return_seq_idx",
        "return_use_cache",
    ):
        if name in given:
            _core.read_flag(function, name, given[name])
    if "padding" in given:
        read_padding(function, given["padding"])
    if given.get("tokenizer") is None:
        return None, False
    return read_tokenizer(function, given["tokenizer"], only_tokens="mlm" in given)


def read_padding(function: str, padding: Any) -> str:
    """Read how to pad, as transformers has it; its enum's members are strings."""
    if isinstance(padding, str):
        return _core.read_choice(function, "padding", padding, STRATEGIES)
    return "longest" if _core.read_flag(function, "padding", padding) else "do_not_pad"


class Features:
    """The columns of one batch, with the settings to pad them as a tokenizer's pad() does."""

    encoding = "BatchEncoding"
    extracts = False
    hint = ""
    fills: Mapping[str, float] = FILLS

    def __init__(
        self, collator: Any, columns: dict[Any, Any], return_tensors: Any, tokenizer: Any
    ) -> None:
        self.function = type(collator).__name__
        self.columns, self.return_tensors = columns, return_tensors
        self.specs: list[ColumnSpec] = []
        self.names: list[Any] = []
        self.listed: dict[Any, Any] = {}
        self.tokenizer, self.multiple = tokenizer, collator.pad_to_multiple_of
        self.pad_token_id, self.side = collator.pad_token_id, collator.padding_side
        self.main, self.makes_mask = "input_ids", True
        if self.tokenizer is not None:
            self._ask_tokenizer(self.tokenizer)
        strategy = read_padding(self.function, getattr(collator, "padding", True))
        self.pads_labels = self.pads = strategy != "do_not_pad"
        self.asked: int | None = None
        if strategy == "max_length":
            self._ask_width(collator.max_length)
        if self.main not in columns:
            raise ValueError(
                f"{self.function}(): the features have no {self.main!r}, but "
                f"{_core.show(list(columns))}{self.hint}"
            )

    def _ask_tokenizer(self, tokenizer: Any) -> None:
        """Read from the tokenizer what the collator was not given; it may change between calls."""
        names = tokenizer.model_input_names
        self.main, self.makes_mask = names[0], "attention_mask" in names
        if self.pad_token_id is None:
            self.pad_token_id = tokenizer.pad_token_id
        if self.side is None:
            self.side = tokenizer.padding_side

    def _ask_width(self, max_length: int | None) -> None:
        """Settle the width of "max_length": as given, or the tokenizer's; without, nothing pads."""
        longest = getattr(self.tokenizer, "model_max_length", LARGE)
        if max_length is None and longest >= LARGE:
            self.pads = False
        else:
            self.asked = int(longest) if max_length is None else max_length

    def _fill(self) -> float:
        if not self.pads:
            return 0
        fill: float | None = self.pad_token_id
        if fill is None:
            raise ValueError(
                f"{self.function}(): there is no padding token; set one, as "
                "with tokenizer.pad_token = tokenizer.eos_token, or give pad_token_id="
            )
        return fill

    @functools.cached_property
    def width(self) -> int:
        """The width of the padded input."""
        lengths = row_lengths(self.function, self.columns[self.main])
        width = int(lengths.max()) if self.asked is None else self.asked
        return _round_up(width, self.multiple) if self.pads else width

    def add_inputs(self, skipped: tuple[Any, ...] = ()) -> None:
        """Add every column but those skipped."""
        kinds = {
            key: kind_of(self.function, key, column)
            for key, column in self.columns.items()
            if key not in skipped
        }
        refuse_packs(self.function, kinds)
        refuse_joined(self.function, self.columns)
        if kinds[self.main] != "rows":
            found = type(self.columns[self.main][0]).__name__
            raise TypeError(
                f"{self.function}(): key {self.main!r}, row 0: found {found}, expected tokens"
            )
        self.listed = {key: self.columns[key] for key, kind in kinds.items() if kind == "listed"}
        order = [key for key in kinds if key not in self.listed] if self.listed else list(kinds)
        # transformers makes lists of all columns if the input is not a list, and else of none.
        main = self.columns[self.main]
        as_lists = isinstance(main, Ragged) or not isinstance(main[0], (list, tuple))
        as_lists = as_lists and not self.extracts
        for key in order:
            column = self.columns[key]
            dtype = _as_list_dtype(column, self.return_tensors) if as_lists else None
            if kinds[key] == "number":
                self.add(key, column, "numbers", DEFAULT._replace(dtype=dtype))
            elif key == self.main:
                self.add_rows(key, column, self._fill(), self.asked, dtype, "main")
            elif key in self.fills and not is_matrix(column):
                fill = self.fills[key]
                if key == "token_type_ids":
                    fill = getattr(self.tokenizer, "pad_token_type_id", 0)
                if _is_bool(column) and not self.extracts:
                    dtype = INT64  # transformers makes ints of a mask of bools when it pads it
                self.add_rows(key, column, fill, self.asked, dtype, "per_token")
            else:
                self._add_other(key, column, dtype)

    def add_rows(
        self,
        key: Any,
        column: Any,
        fill: float,
        width: int | None,
        dtype: Any,
        role: Role = "rows",
    ) -> None:
        """Add a column to pad; if padding is off, its rows must have one length."""
        settings = ColumnSettings(fill, dtype)
        if self.pads:
            settings = settings._replace(width=width, pad_to_multiple_of=self.multiple)
        else:
            why = "padding is off; pass padding=True to pad to the longest"
            _require_equal(self.function, key, row_lengths(self.function, column), why)
        self.add(key, column, role, settings)

    def _add_other(self, key: Any, column: Any, dtype: Any) -> None:
        lengths = row_lengths(self.function, column)
        ragged = bool((lengths != lengths[0]).any())
        if ragged and key in LABELS and self.pads:
            width = None if self.extracts else self.width
            self.add(key, column, "rows", ColumnSettings(-100, dtype, width=width))
            return
        why = "only inputs and labels are padded; PadCollator pads every column"
        _require_equal(self.function, key, lengths, why)
        self.add(key, column, "rows", ColumnSettings(0, dtype))

    def add(self, key: Any, column: Any, role: Role, settings: ColumnSettings) -> None:
        """Add a column; for NumPy, lists of floats become float64, as NumPy does it."""
        is_list = settings.dtype is None and not hasattr(column[0], "dtype")
        if self.return_tensors == "np" and is_list:
            settings = settings._replace(float_dtype=FLOAT64)
        self.specs.append((key, column, role, settings))
        self.names.append(key)

    def finish(
        self, extras: tuple[str, ...] = (), names: tuple[str, ...] = ()
    ) -> tuple[dict[Any, Any], Any]:
        """Make the values, text too, in the order of the columns."""
        sides = ("right" if self.side is None else self.side, "right")
        if self.makes_mask and "attention_mask" not in self.columns:
            extras, names = ("mask", *extras), ("attention_mask", *names)
        main = self.names.index(self.main)
        links = tuple((i, main) for i, spec in enumerate(self.specs) if spec[2] == "per_token")
        values, block = pad_columns(
            self.function,
            self.specs,
            [*self.names, *names],
            sides,
            tuple((extra, main) for extra in extras),
            self.return_tensors,
            links,
        )
        if self.listed:
            values = {**values, **self.listed}
            order = [key for key in self.columns if key in values]
            values = {**{key: values[key] for key in order}, **values}
        return values, block


class ExtractedFeatures(Features):
    """The same, padded as a feature extractor's pad() does."""

    encoding = "BatchFeature"
    extracts = True
    hint = "; of a processor it is the feature extractor that pads: for text, pass its tokenizer"
    fills: Mapping[str, float] = {"attention_mask": 0}

    def _ask_tokenizer(self, tokenizer: Any) -> None:
        self.main, self.makes_mask = tokenizer.model_input_names[0], False
        self.adds_mask = bool(getattr(tokenizer, "return_attention_mask", True))
        if self.side is None:
            self.side = tokenizer.padding_side

    def _ask_width(self, max_length: int | None) -> None:
        if max_length is None:
            raise ValueError(
                f"{self.function}(): padding='max_length' with a feature extractor, which knows no "
                "length; expected max_length="
            )
        self.asked = max_length

    def _fill(self) -> float:
        value = self.tokenizer.padding_value if self.pad_token_id is None else self.pad_token_id
        if value is None and self.pads:
            raise ValueError(
                f"{self.function}(): the feature extractor has no padding_value; set one, as with "
                "feature_extractor.padding_value = 0.0"
            )
        # A column of ints takes 0 and not 0.0.
        return int(value or 0) if float(value or 0).is_integer() else value

    def add(self, key: Any, column: Any, role: Role, settings: ColumnSettings) -> None:
        """Add a column; floats become float32 if they are not narrower."""
        dtype = getattr(column, "dtype", None) or getattr(column[0], "dtype", None)
        if settings.dtype is None and "16" not in str(dtype):
            settings = settings._replace(float_dtype=FLOAT32)
        self.specs.append((key, column, role, settings))
        self.names.append(key)

    def finish(
        self, extras: tuple[str, ...] = (), names: tuple[str, ...] = ()
    ) -> tuple[dict[Any, Any], Any]:
        """Make the values; the mask of a feature extractor is int32."""
        values, block = super().finish(extras, names)
        if self.adds_mask and "attention_mask" not in self.columns:
            lengths = row_lengths(self.function, self.columns[self.main])
            side = "right" if self.side is None else self.side
            width = values[self.main].shape[1]
            mask: Any = _core.attention_mask(lengths, width, side, None, np.int32, False)
            if self.return_tensors == "pt":
                import torch

                mask = torch.from_numpy(mask)
            values["attention_mask"] = mask
        return values, block


def features_of(collator: Any, columns: dict[Any, Any], return_tensors: Any = None) -> Features:
    """Read a batch for a collator whose "tokenizer" may be a feature extractor or a processor."""
    return_tensors = collator.return_tensors if return_tensors is None else return_tensors
    tokenizer, extracts = check_settings(collator, return_tensors)
    cls = ExtractedFeatures if extracts else Features
    return cls(collator, columns, return_tensors, tokenizer)
