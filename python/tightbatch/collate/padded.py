"""Samples to padded batches: the ``collate_fn`` of a DataLoader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..dataset import Samples, batch_columns
from .batch import Batch
from .columns import BoundedSpec, Spec, assemble, build, kind_of, stack_spec

__all__ = ["PadCollator"]

# What fills a column whose key says what it is, unless `padding_value` says otherwise. -100 is
# what torch's cross-entropy ignores.
FILLS: dict[Any, float] = {
    "labels": -100,
    "label": -100,
    "label_ids": -100,
    "attention_mask": 0,
    "token_type_ids": 0,
    "position_ids": 0,
    "special_tokens_mask": 1,
}
# Columns with a value for each token of input_ids: their lengths must be the same.
PER_TOKEN = frozenset(("attention_mask", "token_type_ids", "position_ids", "special_tokens_mask"))
EMPTY = "PadCollator(): an empty batch; expected at least one sample"
LABELS = frozenset(("labels", "label", "label_ids"))
Widths = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True)
class PadCollator:
    """Pad, stack and list the columns of samples: a ``collate_fn`` for a torch DataLoader.

    Samples are dicts (or other mappings), tuples, namedtuples, or bare rows (a list, an array, a
    tensor); or all of a batch at once, as a :class:`tightbatch.RaggedDataset` hands it over or as
    an Arrow table. Columns of sequences are padded, each to its own width; columns of numbers are
    stacked; columns of strings or None become lists. Keys are never renamed, and nothing is cut
    without ``max_length``.

    Parameters
    ----------
    padding_value : number or {key: number}
        What fills the padding. A mapping applies to its keys. Otherwise ``labels``, ``label``
        and ``label_ids`` are filled with -100, ``attention_mask``, ``token_type_ids`` and
        ``position_ids`` with 0, ``special_tokens_mask`` with 1, and all others with this number
        (0 when it is a mapping). Keys of tuples are their positions, 0, 1, ...
    width, max_length, pad_to_multiple_of : int or {key: int}, optional
        As for :func:`tightbatch.pad`, of all columns of sequences or of those named.
    boundaries : sequence of int or {key: sequence of int}, optional
        The only widths there may be, in ascending order; of all columns of sequences or of those
        named. A column is as wide as the smallest that is at least its longest row, once that is
        cut to ``max_length``; ``pad_to_multiple_of`` is applied to it last. So an epoch has no
        more shapes than boundaries for each number of rows (``drop_last`` keeps that to one), and
        ``torch.compile`` no more graphs. :func:`tightbatch.bucket_boundaries` chooses them. Give
        the sampler the same, so that ``max_tokens`` counts them. Not together with ``width`` for
        one column.
    padding_side, truncation_side : {"right", "left"}
        Where the padding goes, and which end of a row is cut off.
    dtype : {key: dtype}, optional
        Element types of columns, NumPy's or torch's. Otherwise ints become int64, bools bool,
        floats float32, and arrays, tensors and NumPy's scalars keep their type.
    attention_mask : bool, optional
        None: dicts without one gain an int64 ``attention_mask``, of ``input_ids`` or else of the
        first column of sequences; other samples keep their structure. True: added always, to
        tuples and bare rows at the end. False: never.
    return_lengths : bool
        Add ``lengths``, the tokens of each row of the column that the mask is of, int64; to
        tuples and bare rows at the end.
    return_tensors : {"pt", "np"}
        torch tensors or NumPy arrays.

    Returns
    -------
    Batch, tuple, namedtuple, or one tensor
        For dicts, tuples, namedtuples and bare rows. In a DataLoader worker it is written
        straight into shared memory, one block a batch.

    Raises
    ------
    ValueError
        For an empty batch, for keys that differ between samples, for an ``attention_mask`` (or
        another column with a value a token) of another length than ``input_ids``, for a row that
        is longer than the last boundary, for boundaries that are not in ascending order, and as
        :func:`tightbatch.pad`.
    TypeError, OverflowError, RuntimeError
        As :func:`tightbatch.pad`; the message names key, row and column.

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
    padding_side: str = field(default="right", kw_only=True)
    truncation_side: str = field(default="right", kw_only=True)
    pad_to_multiple_of: int | Mapping[Any, int] | None = field(default=None, kw_only=True)
    boundaries: Widths | Mapping[Any, Widths | None] | None = field(default=None, kw_only=True)
    dtype: Mapping[Any, Any] | None = field(default=None, kw_only=True)
    attention_mask: bool | None = field(default=None, kw_only=True)
    return_lengths: bool = field(default=False, kw_only=True)
    return_tensors: str = field(default="pt", kw_only=True)
    # Settings by key; those of None are for every other key.
    _named: dict[Any, tuple[Any, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Settle what each key gets; a wrong option is an error here, not at the first batch."""
        self._check_choices()
        object.__setattr__(self, "boundaries", _read_all_boundaries(self.boundaries))
        options = (
            self.padding_value,
            self.dtype,
            self.width,
            self.max_length,
            self.pad_to_multiple_of,
            self.boundaries,
        )
        keys = {key for option in options if isinstance(option, Mapping) for key in option}
        named = {key: self._settings(key) for key in (None, *FILLS, *keys)}
        for key, (fill, _, width, *_, boundaries) in named.items():
            if not isinstance(fill, (Real, np.bool_)):
                raise TypeError(
                    f"{_where(key)}padding_value is {fill!r} ({type(fill).__name__}), expected a "
                    "number"
                )
            if width is not None and boundaries is not None:
                raise ValueError(
                    f"{_where(key)}width={width!r} and boundaries=; expected one of them: "
                    "boundaries=(width,) is the same as width="
                )
        specs = [(key, [], False, *sizes, -1, bounds) for key, (*sizes, bounds) in named.items()]
        sides = (self.padding_side, self.truncation_side)
        _core.pad_columns("PadCollator", specs, *sides, -1, (), None, True, False)
        object.__setattr__(self, "_named", named)

    def _check_choices(self) -> None:
        found, expected = "", ""
        if self.return_tensors not in ("pt", "np"):
            raise ValueError(
                f"PadCollator(): return_tensors={self.return_tensors!r}; expected 'pt' or 'np'"
            )
        if self.attention_mask not in (None, True, False):
            found, expected = f"attention_mask={self.attention_mask!r}", "None or a bool"
        elif not isinstance(self.return_lengths, bool):
            found, expected = f"return_lengths={self.return_lengths!r}", "a bool"
        elif self.dtype is not None and not isinstance(self.dtype, Mapping):
            found, expected = f"dtype={self.dtype!r}", "a mapping of keys to dtypes"
        if found:
            raise TypeError(f"PadCollator(): {found}; expected {expected}")

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, **options: Any) -> PadCollator:
        """Take the fills and the padding side from a transformers tokenizer.

        Parameters
        ----------
        tokenizer : PreTrainedTokenizerBase
            Its ``pad_token_id`` fills ``input_ids`` and ``decoder_input_ids``, its
            ``pad_token_type_id`` ``token_type_ids``.
        **options
            Of :class:`PadCollator`; they win over the tokenizer's.

        Returns
        -------
        PadCollator

        Raises
        ------
        ValueError
            When the tokenizer has no padding token.
        """
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

    def __call__(self, samples: Iterable[Any]) -> Any:
        """Collate a batch of samples."""
        if isinstance(samples, (Mapping, str, bytes)):
            raise TypeError(
                f"PadCollator(): found a {type(samples).__name__}, expected a list of samples"
            )
        if isinstance(samples, Samples):
            return self._collate_columns(samples.columns, len(samples))
        if not isinstance(samples, Sequence):
            if _core.is_arrow(samples):
                columns = batch_columns("PadCollator", samples)
                return self._collate_columns(columns, len(next(iter(columns.values()), ())))
            samples = list(samples)
        if len(samples) == 0:
            raise ValueError(EMPTY)
        first = samples[0]
        if isinstance(first, Mapping):
            columns = _core.gather_columns("PadCollator", samples)
            return self._collate(columns, Batch, self.attention_mask is not False)
        if not isinstance(first, tuple):
            return self._collate({None: samples}, None, self.attention_mask is True)
        cls = type(first)
        names = getattr(cls, "_fields", range(len(first)))
        self._check_tuples(samples, cls, len(first))
        by_name: dict[Any, Any] = dict(zip(names, zip(*samples, strict=True), strict=True))
        return self._collate(by_name, cls, self.attention_mask is True)

    def _collate_columns(self, columns: Mapping[Any, Any], count: int) -> Any:
        if count == 0:
            raise ValueError(EMPTY)
        return self._collate(columns, Batch, self.attention_mask is not False)

    def _check_tuples(self, samples: Sequence[Any], cls: type, size: int) -> None:
        if cls is not tuple and (self.attention_mask or self.return_lengths):
            raise ValueError(
                f"PadCollator(): {cls.__name__} has no field for a mask or lengths; expected "
                "dict or tuple samples"
            )
        for row, sample in enumerate(samples):
            if not isinstance(sample, tuple) or len(sample) != size:
                found = type(sample).__name__
                if isinstance(sample, tuple):
                    found = f"a tuple of {len(sample)}"
                raise ValueError(
                    f"PadCollator(): row {row}: found {found}, expected a tuple of {size} as in "
                    "row 0"
                )

    def _settings(self, key: Any) -> tuple[Any, ...]:
        """Give fill, dtype, width, max_length, multiple and boundaries of a column."""
        fill = self.padding_value
        if isinstance(fill, Mapping):
            fill = fill.get(key, FILLS.get(key, 0))
        else:
            fill = FILLS.get(key, fill)
        dtype = None if self.dtype is None else self.dtype.get(key)
        options = (self.width, self.max_length, self.pad_to_multiple_of, self.boundaries)
        *sizes, boundaries = (
            option.get(key) if isinstance(option, Mapping) else option for option in options
        )
        if boundaries is not None:  # as the C code reads them
            boundaries = np.array(boundaries, np.int64)
        return (fill, dtype, *sizes, boundaries)

    def _collate(self, columns: Mapping[Any, Sequence[Any]], cls: Any, masked: bool) -> Any:
        """Pad, stack or list each column, and put the results together as a ``cls``."""
        masked = masked and not ("attention_mask" in columns and cls is Batch)
        kinds = {key: kind_of("PadCollator", key, column) for key, column in columns.items()}
        padded = [key for key, kind in kinds.items() if kind != "listed"]
        main = self._main_column(padded, kinds, masked)
        tokens = padded.index("input_ids") if kinds.get("input_ids") == "rows" else -1
        specs: list[Spec | BoundedSpec] = []
        other = self._named[None]
        for key in padded:
            column = columns[key]
            fill, dtype, *sizes, bounds = self._named.get(key, other)
            if kinds[key] == "number":
                dtype = getattr(column[0], "dtype", None) if dtype is None else dtype
                specs.append(stack_spec(key, column, dtype))
            else:
                like = tokens if key in PER_TOKEN else -1
                specs.append((key, column, False, fill, dtype, *sizes, like, bounds))
        masked = masked and main >= 0
        extras = ("mask",) * masked + ("lengths",) * self.return_lengths
        names = padded + ["attention_mask"] * masked + ["lengths"] * self.return_lengths
        sides = (self.padding_side, self.truncation_side)
        made, block = assemble(
            "PadCollator", specs, names, sides, main, extras, self.return_tensors
        )
        return build(cls, {**columns, **made}, block)

    def _main_column(self, padded: list[Any], kinds: Mapping[Any, str], masked: bool) -> int:
        """Find the column that the mask and the lengths are of: its place, or -1."""
        if self.return_lengths and "lengths" in kinds:
            raise ValueError(
                "PadCollator(): return_lengths=True, but the samples have a key 'lengths' already"
            )
        if kinds.get("input_ids") == "rows":
            return padded.index("input_ids")
        rows = [key for key in padded if kinds[key] == "rows"]
        main = next((key for key in rows if key not in LABELS), rows[0] if rows else None)
        if rows:
            return padded.index(main)
        if self.return_lengths or (masked and self.attention_mask):
            raise ValueError("PadCollator(): no column of sequences to take the lengths of")
        return -1


def _where(key: Any) -> str:
    return "PadCollator(): " if key is None else f"PadCollator(): key {key!r}: "


def _read_all_boundaries(given: Any) -> Any:
    """Check them as given; tuples, so that collators can be compared."""
    if isinstance(given, Mapping):
        return {key: None if one is None else _read_widths(key, one) for key, one in given.items()}
    return None if given is None else _read_widths(None, given)


def _read_widths(key: Any, given: Any) -> tuple[int, ...]:
    return tuple(_core.read_boundaries("PadCollator", key, given).tolist())
