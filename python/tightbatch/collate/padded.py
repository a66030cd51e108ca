"""PadCollator: padded batches of samples, as the ``collate_fn`` of a DataLoader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._types import Side, Tensors
from .batch import Batch
from .columns import (
    TENSORS,
    Collator,
    ColumnSettings,
    ColumnSpec,
    Role,
    build,
    pad_columns,
    settle_columns,
)
from .packs import refuse_packs
from .samples import PER_TOKEN, Kind, choose_main, columns_of, kind_of

__all__ = ["PadCollator"]

NAME = "PadCollator"
Widths = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class PadCollator(Collator):
    """Pad, stack and list the columns of samples: a ``collate_fn`` for a torch DataLoader.

    Samples are dicts (or other mappings), tuples, namedtuples, or bare rows (a list, an array, a
    tensor). A whole batch from a :class:`tightbatch.RaggedDataset`, or as an Arrow table, works
    too. Columns of rows are padded, each to its own width; columns of numbers are stacked; columns
    of strings or None become lists. Keys are never renamed, and nothing is cut without
    ``max_length``.

    Parameters
    ----------
    padding_value : number or {key: number}
        The number that fills the padding. A mapping applies to its keys. Otherwise ``labels``,
        ``label`` and ``label_ids`` are filled with -100, ``attention_mask``, ``token_type_ids`` and
        ``position_ids`` with 0, ``special_tokens_mask`` with 1, and all others with this number (0
        when it is a mapping). Keys of tuples are their positions, 0, 1, ...
    width, max_length, pad_to_multiple_of : int or {key: int}, optional
        As for :func:`tightbatch.pad`, for all columns of rows or for the named ones.
    boundaries : sequence of int or {key: sequence of int}, optional
        The only allowed widths, in ascending order, for all columns of rows or for the named ones.
        A column gets the smallest width that holds its longest row, after the cut to
        ``max_length``; then ``pad_to_multiple_of`` rounds it up. So for each number of rows (with
        ``drop_last`` there is only one) an epoch has at most as many shapes as boundaries, and
        ``torch.compile`` makes at most as many graphs. :func:`tightbatch.bucket_boundaries` finds
        the best ones. Give the sampler the same boundaries, so that ``max_tokens`` counts these
        widths. One column cannot have both ``boundaries`` and ``width``.
    padding_side, truncation_side : {"right", "left"}
        The side of the padding, and the end of a row that is cut off.
    dtype : dtype or {key: dtype}, optional
        A NumPy or torch dtype: one floating type for all columns that hold floats (ints and bools
        keep their types), or the types of the named columns. By default ints become int64, bools
        bool and floats float32, and arrays, tensors and NumPy's scalars keep their type.
    attention_mask : bool, optional
        None: dicts without one get an int64 ``attention_mask``, for ``input_ids`` or else for the
        first column of rows; other samples keep their structure. True: it is always added, to
        tuples and bare rows at the end. False: it is never added.
    return_lengths : bool
        Add ``lengths``, int64: the tokens of each row of the column that the mask is for; to tuples
        and bare rows at the end.
    return_tensors : {"pt", "np"}
        torch tensors or NumPy arrays.

    Returns
    -------
    Batch, tuple, namedtuple, or one tensor
        For dicts, tuples, namedtuples and bare rows. In a DataLoader worker the batch is written
        directly into one block of shared memory.

    Raises
    ------
    ValueError
        When the batch is empty; when keys differ between samples; when an ``attention_mask`` (or
        another column with a value for each token) has another length than ``input_ids``; when a
        row is longer than the last boundary; when boundaries are not in ascending order; for a
        column ``seq_lengths``, which says that rows are packs, because a padded batch would not
        keep their segments apart; and as :func:`tightbatch.pad`.
    TypeError, OverflowError, RuntimeError
        As :func:`tightbatch.pad`; the message names key, row and column. RuntimeError also when
        shared memory is full in a DataLoader worker.
    ImportError
        When torch is not installed; ``return_tensors="np"`` works without it.

    Examples
    --------
    >>> import tightbatch as tb
    >>> collate = tb.PadCollator(return_tensors="np")
    >>> batch = collate([{"input_ids": [5, 6], "label": 1}, {"input_ids": [7], "label": 0}])
    >>> batch["input_ids"], batch["attention_mask"], batch["label"]
    (array([[5, 6],
           [7, 0]]), array([[1, 1],
           [1, 0]]), array([1, 0]))

    >>> collate = tb.PadCollator(boundaries=(4, 8), return_tensors="np")
    >>> collate([[5, 6], [7]])
    array([[5, 6, 0, 0],
           [7, 0, 0, 0]])
    """

    padding_value: float | Mapping[Any, float] = 0
    width: int | Mapping[Any, int] | None = field(default=None, kw_only=True)
    max_length: int | Mapping[Any, int] | None = field(default=None, kw_only=True)
    padding_side: Side = field(default="right", kw_only=True)
    truncation_side: Side = field(default="right", kw_only=True)
    pad_to_multiple_of: int | Mapping[Any, int] | None = field(default=None, kw_only=True)
    boundaries: Widths | Mapping[Any, Widths | None] | None = field(default=None, kw_only=True)
    dtype: Any = field(default=None, kw_only=True)
    attention_mask: bool | None = field(default=None, kw_only=True)
    return_lengths: bool = field(default=False, kw_only=True)
    return_tensors: Tensors = field(default="pt", kw_only=True)
    # Settings by key; None has those of every other key.
    _named: dict[Any, ColumnSettings] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the settings of each key; a wrong one is an error here, not at the first batch."""
        _core.read_choice(NAME, "return_tensors", self.return_tensors, TENSORS)
        _core.read_flag(NAME, "return_lengths", self.return_lengths)
        if self.attention_mask is not None:
            _core.read_flag(NAME, "attention_mask", self.attention_mask)
        boundaries = _read_all_boundaries(self.boundaries)
        object.__setattr__(self, "boundaries", _as_tuples(boundaries))
        options = {
            "padding_value": self.padding_value,
            "dtype": self.dtype,
            "width": self.width,
            "max_length": self.max_length,
            "pad_to_multiple_of": self.pad_to_multiple_of,
            "boundaries": boundaries,
        }
        named = settle_columns(NAME, options, self.padding_side, self.truncation_side)
        object.__setattr__(self, "_named", named)

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, **options: Any) -> PadCollator:
        """Make a collator with the fills and the padding side of a transformers tokenizer.

        Parameters
        ----------
        tokenizer : PreTrainedTokenizerBase
            Its ``pad_token_id`` fills ``input_ids`` and ``decoder_input_ids``, its
            ``pad_token_type_id`` ``token_type_ids``.
        **options
            Parameters of :class:`PadCollator`; they are used instead of the tokenizer's.

        Returns
        -------
        PadCollator

        Raises
        ------
        ValueError
            When the tokenizer has no padding token.
        TypeError
            When it is not a tokenizer; and as :class:`PadCollator`.
        """
        check_tokenizer("PadCollator.from_tokenizer", tokenizer)
        if tokenizer.pad_token_id is None:
            raise ValueError(
                "PadCollator.from_tokenizer(): the tokenizer has no padding token; set one, as "
                "with tokenizer.pad_token = tokenizer.eos_token"
            )
        fills: Any = {
            "input_ids": tokenizer.pad_token_id,
            "decoder_input_ids": tokenizer.pad_token_id,
            "token_type_ids": tokenizer.pad_token_type_id,
        }
        given = options.pop("padding_value", {})
        fills = {**fills, **given} if isinstance(given, Mapping) else given
        return cls(fills, **{"padding_side": tokenizer.padding_side, **options})

    @overload
    def __call__(self, samples: Iterable[Mapping[Any, Any]]) -> Batch: ...
    @overload
    def __call__(self, samples: Any) -> Any: ...
    def __call__(self, samples: Any) -> Any:
        """Collate a batch of samples."""
        columns, kind = columns_of(NAME, samples, only_mappings=False)
        if kind is dict:
            masked = self.attention_mask is not False and "attention_mask" not in columns
            return self._collate(columns, Batch, masked)
        if hasattr(kind, "_fields") and (self.attention_mask or self.return_lengths):
            raise ValueError(
                f"PadCollator(): {kind.__name__} has no field for a mask or lengths; expected "
                "dict or tuple samples"
            )
        return self._collate(columns, kind, self.attention_mask is True)

    def _collate(self, columns: Mapping[Any, Sequence[Any]], cls: Any, masked: bool) -> Any:
        """Pad, stack or list each column, and put the results together as a ``cls``."""
        kinds = {key: kind_of(NAME, key, column) for key, column in columns.items()}
        refuse_packs(NAME, kinds)
        main = choose_main(kinds, or_labels=True)
        self._check_extras(kinds, main, masked)
        named, other = self._named, self._named[None]
        specs: list[ColumnSpec] = []
        names: list[Any] = []
        for key, kind in kinds.items():
            if kind == "listed":
                continue
            role: Role = "numbers" if kind == "number" else "rows"
            if main and key == main[0]:
                role = "main"
            elif role == "rows" and key in PER_TOKEN and main == ("input_ids",):
                role = "per_token"
            specs.append((key, columns[key], role, named.get(key, other)))
            names.append(key)
        extras: tuple[str, ...] = ()
        if masked and main:
            extras, names = ("mask",), [*names, "attention_mask"]
        if self.return_lengths:
            extras, names = (*extras, "lengths"), [*names, "lengths"]
        sides = (self.padding_side, self.truncation_side)
        made, block = pad_columns(NAME, specs, names, sides, extras, self.return_tensors)
        return build(cls, {**columns, **made}, block)

    def _check_extras(self, kinds: Mapping[Any, Kind], main: tuple[Any, ...], masked: bool) -> None:
        """Refuse to make a mask or lengths where there is nothing to make them of."""
        if self.return_lengths and "lengths" in kinds:
            raise ValueError(
                "PadCollator(): return_lengths=True, but the samples have a key 'lengths' already"
            )
        if not main and (self.return_lengths or (masked and self.attention_mask)):
            raise ValueError(
                "PadCollator(): return_lengths=True, but no column holds rows; expected one"
            )


def check_tokenizer(function: str, tokenizer: Any) -> None:
    """Refuse anything but a tokenizer; for a feature extractor, say how to pad its output."""
    if hasattr(tokenizer, "pad_token_id"):
        return
    hint = ""
    if isinstance(tokenizer, str):
        hint = f"; transformers.AutoTokenizer.from_pretrained({_core.show(tokenizer)}) gives one"
    elif hasattr(tokenizer, "padding_value"):
        hint = (
            "; to pad what a feature extractor returns, use "
            "PadCollator(extractor.padding_value, padding_side=extractor.padding_side)"
        )
    raise TypeError(
        f"{function}(): found type {type(tokenizer).__name__}, expected a tokenizer with a "
        f"pad_token_id{hint}"
    )


def _read_all_boundaries(given: Any) -> Any:
    if isinstance(given, Mapping):
        return {key: _read_boundaries(key, value) for key, value in given.items()}
    return _read_boundaries(None, given)


def _read_boundaries(key: Any, given: Any) -> NDArray[np.int64] | None:
    return None if given is None else _core.read_boundaries(NAME, key, given)


def _as_tuples(boundaries: Any) -> Any:
    """Make them tuples, so that collators can be compared."""
    if isinstance(boundaries, Mapping):
        return {key: _as_tuples(value) for key, value in boundaries.items()}
    return None if boundaries is None else tuple(boundaries.tolist())
