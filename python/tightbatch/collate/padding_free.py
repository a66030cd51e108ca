"""Samples to batches without padding: rows one after another, and where each begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from .. import _core
from .._settings import Reader
from ..dataset import Samples, batch_columns
from .batch import Batch
from .columns import block_for, build, kind_of, name_outputs
from .padded import FILLS, LABELS

__all__ = ["PaddingFreeCollator"]

FUNCTION = "PaddingFreeCollator"
# Boundaries for queries and keys, the longest for queries and keys, by the names of what takes
# them. Megatron's come twice: of the tokens, and of the tokens with their padding.
NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "transformers": (("cu_seq_lens_q", "cu_seq_lens_k"), ("max_length_q", "max_length_k")),
    "flash_attn": (("cu_seqlens_q", "cu_seqlens_k"), ("max_seqlen_q", "max_seqlen_k")),
    "varlen_attn": (("cu_seq_q", "cu_seq_k"), ("max_q", "max_k")),
    "megatron": (
        ("cu_seqlens_q", "cu_seqlens_kv", "cu_seqlens_q_padded", "cu_seqlens_kv_padded"),
        ("max_seqlen_q", "max_seqlen_kv"),
    ),
}
# What the C code is told to do with a column, and to add to them: tb_flat_role, tb_flat_extra.
ROWS, NUMBERS, LABEL_ROWS, LABELS_OF_MAIN = range(4)
SHIFTED, PLACES, SEQUENCES, BOUNDS, REAL_BOUNDS, TRACES = range(6)


@dataclass(frozen=True, kw_only=True)
class PaddingFreeCollator:
    """Put the rows of a batch one after another, without padding: a ``collate_fn``.

    Attention for variable lengths (FlashAttention and its kin) takes the whole batch as one line
    of tokens and is told where each sequence begins. Samples are dicts (or other mappings); or
    all of a batch at once, as a :class:`tightbatch.RaggedDataset` hands it over or as an Arrow
    table.

    Columns with a value a token are put in the line; numbers are stacked, strings and None
    listed, as by :class:`tightbatch.PadCollator`. ``attention_mask`` is left out: with one,
    models take the line for a single sequence; it may hold nothing but ones. A row without tokens
    becomes no sequence (``return_row_idx`` tells which rows did). A column ``seq_lengths``, a list
    of lengths a row, says that rows are packs, as TRL makes them: each of its sequences is one
    here.

    Parameters
    ----------
    keys : {"transformers", "flash_attn", "varlen_attn", "megatron"}
        Under which names the boundaries come (see Returns).
    max_tokens : int, optional
        Pad the line to exactly this many positions: a constant shape. The padding is one
        sequence more, of its own positions 0, 1, 2, ..., whose labels are ignored.
    max_seqs : int, optional
        Lengthen the boundaries to this many sequences, that of the padding included, by
        repeating the last; a constant shape, too. Sequences that are not there have no length.
    max_seqlen : int, optional
        What is said to be the longest sequence, instead of the batch's longest (the padding
        included): a constant, for static graphs. ``max_tokens`` is always enough.
    pad_to_multiple_of : int, optional
        Pad the line to a multiple; the padding is as for ``max_tokens``.
    sequence_multiple_of : int, optional
        Pad each sequence by itself to a multiple, ``2 * cp_size`` for context parallelism.
        Positions go on over this padding, and labels are ignored there. ``max_tokens`` and
        ``pad_to_multiple_of`` must be multiples of it.
    padding_value : number or {key: number}
        What fills the padding of a column, as for :class:`tightbatch.PadCollator`. The one of
        ``labels``, -100 unless the mapping says otherwise, is what losses ignore.
    max_length : int, optional
        Cut longer sequences to it; of a pack, each by itself.
    truncation_side : {"right", "left"}
        Which end of a sequence is cut off.
    dtype : {key: dtype}, optional
        Element types of columns, NumPy's or torch's. ``labels`` are otherwise int64; all others
        get the type that PadCollator gives them: ints int64, bools bool, floats float32, and
        arrays, tensors and Arrow columns their own.
    position_ids_start : int
        The first token's position: 2 for RoBERTa and its kin.
    return_labels : bool
        Make ``labels`` of the tokens where the samples have none. In both cases the label of each
        sequence's first token is one that losses ignore, whichever token it is: it follows from
        nothing.
    shift_labels : bool
        Add ``shift_labels``, the labels of the next token, as transformers' models take them
        beside ``labels`` instead of shifting those themselves.
    return_num_items : bool
        Add ``num_items_in_batch``, an int: the labels that count.
    return_row_idx : bool
        Add ``row_idx``, int64 [sequences]: the row that each sequence is of, -1 for padding.
    return_tensors : {"pt", "np"}
        torch tensors or NumPy arrays.

    Returns
    -------
    Batch
        ``input_ids``, ``labels``, ``shift_labels``, ``position_ids`` (int64) and ``seq_idx``
        (int32, the number of each token's sequence), all [1, total] (more dimensions where rows
        have them); the boundaries, int32 [sequences + 1], and the longest sequence, int:

        ============  ===================================  ==============================
        keys          boundaries                           longest
        ============  ===================================  ==============================
        transformers  cu_seq_lens_q, cu_seq_lens_k         max_length_q, max_length_k
        flash_attn    cu_seqlens_q, cu_seqlens_k           max_seqlen_q, max_seqlen_k
        varlen_attn   cu_seq_q, cu_seq_k                   max_q, max_k
        megatron      cu_seqlens_q, cu_seqlens_kv,         max_seqlen_q, max_seqlen_kv
                      cu_seqlens_q_padded,
                      cu_seqlens_kv_padded
        ============  ===================================  ==============================

        Megatron's, with ``qkv_format``, are fields of its PackedSeqParams: those not "padded"
        count tokens alone. All others, and the longest, count each sequence's padding. Last
        come the samples' other columns. In a DataLoader worker the batch is written straight
        into shared memory, one block a batch.

    Raises
    ------
    ValueError
        For an empty batch or one without a token; for keys that differ between samples; for a
        column whose rows differ in length from ``input_ids`` (or, without that, from the first
        column of rows); for an ``attention_mask`` with anything but ones; for ``seq_lengths``
        that do not sum to the row's length; for a column that is made here; and for what
        ``max_tokens``, ``max_seqs`` and ``max_seqlen`` do not admit. The message names key, row
        and column.
    OverflowError
        For more positions than an int32 can count; and as :func:`tightbatch.pad`.
    TypeError, RuntimeError
        As :func:`tightbatch.pad`.

    Notes
    -----
    A transformers Trainer removes columns that its model has no argument for, ``seq_lengths``
    among them, and packs would become one sequence each: ``remove_unused_columns=False`` keeps
    them.

    Examples
    --------
    >>> import tightbatch as tb
    >>> collate = tb.PaddingFreeCollator(max_tokens=6, return_tensors="np")
    >>> batch = collate([{"input_ids": [5, 6, 7]}, {"input_ids": [8]}])
    >>> {key: value if type(value) is int else value.tolist() for key, value in batch.items()}
    {'input_ids': [[5, 6, 7, 8, 0, 0]],
     'labels': [[-100, 6, 7, -100, -100, -100]],
     'position_ids': [[0, 1, 2, 0, 0, 1]],
     'seq_idx': [[0, 0, 0, 1, 2, 2]],
     'cu_seq_lens_q': [0, 3, 4, 6], 'cu_seq_lens_k': [0, 3, 4, 6],
     'max_length_q': 3, 'max_length_k': 3}
    """

    keys: str = "transformers"
    max_tokens: int | None = None
    max_seqs: int | None = None
    max_seqlen: int | None = None
    pad_to_multiple_of: int | None = None
    sequence_multiple_of: int | None = None
    padding_value: float | Mapping[Any, float] = 0
    max_length: int | None = None
    truncation_side: str = "right"
    dtype: Mapping[Any, Any] | None = None
    position_ids_start: int = 0
    return_labels: bool = True
    shift_labels: bool = False
    return_num_items: bool = False
    return_row_idx: bool = False
    return_tensors: str = "pt"
    # Fill and dtype by key, those of None for every other key; the numbers C is told; the names
    # of what is made and what C calls it; names that the samples' own columns cannot have.
    _named: dict[Any, tuple[Any, Any]] = field(init=False, repr=False, compare=False)
    _settings: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _extras: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _extra_codes: bytes = field(init=False, repr=False, compare=False)
    _reserved: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Settle what each key gets; a wrong option is an error here, not at the first batch."""
        self._check_choices()
        named = self._settle_columns()
        sizes = [
            self._size("max_length"),
            self._size("pad_to_multiple_of", 1),
            self._size("sequence_multiple_of", 1),
            *(self._size(name) for name in ("max_tokens", "max_seqs", "max_seqlen")),
            self._size("position_ids_start", None, least=0),
        ]
        self._check_multiples(*sizes[1:4])
        boundaries, longest = NAMES[self.keys]
        extras = {"shift_labels": SHIFTED} if self.shift_labels else {}
        extras |= {"position_ids": PLACES, "seq_idx": SEQUENCES}
        for name in boundaries:
            is_real = self.keys == "megatron" and not name.endswith("_padded")
            extras[name] = REAL_BOUNDS if is_real else BOUNDS
        if self.return_row_idx:
            extras["row_idx"] = TRACES
        made = {*extras, *longest}
        made |= {"qkv_format"} if self.keys == "megatron" else set()
        made |= {"num_items_in_batch"} if self.return_num_items else set()
        for name, value in (
            ("_named", named),
            ("_settings", (self.truncation_side == "left", *sizes)),
            ("_extras", tuple(extras)),
            ("_extra_codes", bytes(extras.values())),
            ("_reserved", frozenset(made)),
        ):
            object.__setattr__(self, name, value)

    def _check_choices(self) -> None:
        for name, choices in (
            ("keys", tuple(NAMES)),
            ("truncation_side", ("right", "left")),
            ("return_tensors", ("pt", "np")),
        ):
            value = getattr(self, name)
            if value not in choices:
                expected = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
                raise ValueError(f"{FUNCTION}(): {name}={value!r}; expected {expected}")
        for name in ("return_labels", "shift_labels", "return_num_items", "return_row_idx"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{FUNCTION}(): {name}={getattr(self, name)!r}; expected a bool")
        if self.dtype is not None and not isinstance(self.dtype, Mapping):
            raise TypeError(
                f"{FUNCTION}(): dtype={self.dtype!r}; expected a mapping of keys to dtypes"
            )

    def _check_multiples(self, line: int, sequence: int, max_tokens: int) -> None:
        """See to it that the padding behind the last sequence has an admissible length."""
        for name, size, other, multiple in (
            ("pad_to_multiple_of", line, "sequence_multiple_of", sequence),
            ("max_tokens", max_tokens, "sequence_multiple_of", sequence),
            ("max_tokens", max_tokens, "pad_to_multiple_of", line),
        ):
            if getattr(self, name) is not None and size % multiple:
                raise ValueError(
                    f"{FUNCTION}(): {name}={size} is no multiple of {other}={multiple}"
                )

    def _size(self, name: str, missing: int | None = -1, least: int = 1) -> int:
        """Give a size as an int, ``missing`` for None."""
        value = getattr(self, name)
        if value is None and missing is not None:
            return missing
        most = 2**31 - 2 if name == "max_seqs" else 2**62
        return Reader(FUNCTION).number(name, value, least, most)

    def _settle_columns(self) -> dict[Any, tuple[Any, Any]]:
        """Give fill and dtype by key."""
        fills, dtypes = self.padding_value, self.dtype or {}
        rest: Any = 0
        if isinstance(fills, Mapping):
            fills = {**FILLS, **fills}
        else:
            rest, fills = fills, FILLS
        keys = {None, *fills, *dtypes}
        named = {key: (fills.get(key, rest), dtypes.get(key)) for key in keys}
        for key, (fill, _) in named.items():
            if not isinstance(fill, (Real, np.bool_)):
                where = "" if key is None else f"key {key!r}: "
                raise TypeError(
                    f"{FUNCTION}(): {where}padding_value is {fill!r} ({type(fill).__name__}), "
                    "expected a number"
                )
        specs: list[Any] = [
            (key, [], False, *both, None, None, None, -1) for key, both in named.items()
        ]
        _core.pad_columns(FUNCTION, specs, "right", "right", -1, (), None, True, False)
        return named

    def __call__(self, samples: Iterable[Any]) -> Any:
        """Collate a batch of samples."""
        columns = _columns_of(samples)
        mask, segments = columns.pop("attention_mask", None), columns.pop("seq_lengths", None)
        if not self._reserved.isdisjoint(columns):
            key = next(key for key in columns if key in self._reserved)
            raise ValueError(
                f"{FUNCTION}(): key {key!r}: this name is made here, but the samples have such a "
                "column; remove or rename it"
            )
        kinds = {key: kind_of(FUNCTION, key, column) for key, column in columns.items()}
        main = _main_column(kinds)
        named, other = self._named, self._named[None]
        specs: list[Any] = [(main, columns[main], ROWS, *named.get(main, other))]
        names, labels = [main], self._labels_role(kinds, main)
        if labels is not None:
            names.append("labels")
            specs.append(("labels", columns.get("labels"), labels, *named["labels"]))
        for key, kind in kinds.items():
            if kind == "rows" and key not in names:
                specs.append((key, columns[key], ROWS, *named.get(key, other)))
                names.append(key)
            elif kind == "number":
                dtype = named.get(key, other)[1] or getattr(columns[key][0], "dtype", None)
                specs.append((key, columns[key], NUMBERS, 0, dtype))
                names.append(key)
        return self._make(columns, names, specs, labels is not None, (mask, segments))

    def _labels_role(self, kinds: Mapping[Any, str], main: Any) -> int | None:
        """Tell what becomes of the labels; None: they are not in the line."""
        kind = kinds.get("labels")
        if kind == "rows":
            return LABEL_ROWS
        if kind is None and self.return_labels and main == "input_ids":
            return LABELS_OF_MAIN
        if kind == "listed":
            raise TypeError(f"{FUNCTION}(): key 'labels', row 0: expected a label a token")
        if self.shift_labels or self.return_num_items:
            asked = "shift_labels" if self.shift_labels else "return_num_items"
            raise ValueError(
                f"{FUNCTION}(): {asked}=True, but there is no label a token; expected a column "
                "'labels' of rows, or 'input_ids' and return_labels=True"
            )
        return None

    def _make(
        self,
        columns: Mapping[Any, Any],
        names: list[Any],
        specs: list[Any],
        labelled: bool,
        aside: tuple[Any, Any],
    ) -> Any:
        """Have the batch written, and put it in order."""
        as_tensors = self.return_tensors == "pt"
        block = block_for(as_tensors)
        mask, segments = aside
        outputs, longest, counted = _core.flatten_columns(
            FUNCTION,
            specs,
            0,
            1 if labelled else -1,
            None if mask is None else ("attention_mask", mask),
            None if segments is None else ("seq_lengths", segments),
            self._settings,
            self._extra_codes,
            self.return_num_items,
            None if block is None else block.allocate,
            as_tensors,
        )
        names = [*names, *self._extras]
        made = name_outputs(FUNCTION, names, outputs, block, as_tensors)
        values = {name: made[name] for name in names[: 1 + labelled]}
        values |= {name: made[name] for name in self._extras}
        if self.keys == "megatron":
            values["qkv_format"] = "thd"
        for name in NAMES[self.keys][1]:
            values[name] = longest
        if self.return_num_items:
            values["num_items_in_batch"] = counted
        for key, column in columns.items():
            if key not in values:
                values[key] = made.get(key, column)
        return build(Batch, values, block)


def _columns_of(samples: Any) -> dict[Any, Any]:
    """Give the columns of a batch of samples; every sample has the same keys."""
    if isinstance(samples, Samples):
        columns, count = dict(samples.columns), len(samples)
    elif isinstance(samples, (Mapping, str, bytes)):
        raise TypeError(
            f"{FUNCTION}(): found a {type(samples).__name__}, expected a list of samples"
        )
    elif not isinstance(samples, Sequence) and _core.is_arrow(samples):
        columns = batch_columns(FUNCTION, samples)
        count = len(next(iter(columns.values()), ()))
    else:
        samples = samples if isinstance(samples, Sequence) else list(samples)
        count = len(samples)
        if count and not isinstance(samples[0], Mapping):
            raise TypeError(
                f"{FUNCTION}(): row 0: found a {type(samples[0]).__name__}, expected a dict"
            )
        columns = _core.gather_columns(FUNCTION, samples)
    if count == 0:
        raise ValueError(f"{FUNCTION}(): an empty batch; expected at least one sample")
    return columns


def _main_column(kinds: Mapping[Any, str]) -> Any:
    """Choose the column whose rows are the sequences."""
    if "input_ids" in kinds and kinds["input_ids"] != "rows":
        raise TypeError(
            f"{FUNCTION}(): key 'input_ids', row 0: found no row of tokens, expected one"
        )
    if "input_ids" in kinds:
        return "input_ids"
    main = next((k for k, kind in kinds.items() if kind == "rows" and k not in LABELS), None)
    if main is None:
        raise ValueError(
            f"{FUNCTION}(): the samples have no 'input_ids' nor another column of rows, but "
            f"{list(kinds)}"
        )
    return main
