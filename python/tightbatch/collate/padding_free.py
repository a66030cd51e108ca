"""PaddingFreeCollator: batches without padding, rows one after another with boundaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from .. import _core
from .._records import join
from .._types import Side, Tensors
from ..masks import segment_mask
from .batch import Batch
from .columns import (
    TENSORS,
    Collator,
    ColumnSpec,
    Role,
    SettingsByKey,
    build,
    flatten_columns,
    pad_columns,
    settle_columns,
)
from .kept_apart import find_longest, find_settings
from .packs import refuse_other_names, refuse_parts
from .roles import read_name
from .samples import Kind, columns_of, inside, kind_of, nested_columns, require_main

__all__ = ["PaddingFreeCollator"]

NAME = "PaddingFreeCollator"
# Names of the boundaries for queries and keys, and of the longest segment for both. Megatron has
# boundaries twice: of the tokens, and of the tokens with their padding.
NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "transformers": (("cu_seq_lens_q", "cu_seq_lens_k"), ("max_length_q", "max_length_k")),
    "flash_attn": (("cu_seqlens_q", "cu_seqlens_k"), ("max_seqlen_q", "max_seqlen_k")),
    "varlen_attn": (("cu_seq_q", "cu_seq_k"), ("max_q", "max_k")),
    "megatron": (
        ("cu_seqlens_q", "cu_seqlens_kv", "cu_seqlens_q_padded", "cu_seqlens_kv_padded"),
        ("max_seqlen_q", "max_seqlen_kv"),
    ),
}
Naming = Literal["transformers", "flash_attn", "varlen_attn", "megatron"]
MASKS = ("causal", "bidirectional")
# Settings that decide whether a model keeps rows apart.
_TRIED = ("naming", "position_ids_start", "attention_mask", "return_use_cache", "dtype")


@dataclass(frozen=True, kw_only=True, repr=False)
class PaddingFreeCollator(Collator):
    """Put the rows of a batch one after another, without padding: a ``collate_fn``.

    Attention for variable lengths, such as FlashAttention, takes a whole batch as one row of
    tokens, with the boundaries of its segments. Samples are dicts (or other mappings, dataclasses,
    attrs classes, pydantic models); a dict in them becomes a Batch in the batch. A whole
    batch from a :class:`tightbatch.RaggedDataset`, or as an Arrow table, works too.

    Columns with a value for each token are put one row after another. As with
    :class:`tightbatch.PadCollator`, numbers are stacked, and strings and None become lists. Numbers
    that are labels (``labels``, ``label``, ``label_ids``) come in the order of the segments: to
    each the label of its row. ``attention_mask`` may hold only ones and is left out, because with
    it, models attend across segments. A row without tokens does not become a segment
    (``return_row_idx`` tells which rows did). A column ``seq_lengths``, a list of lengths for each
    row, says that rows are packs, as TRL makes them: each length is a segment of its own here.

    A transformers language model reads from ``position_ids`` where rows begin, but only if it makes
    no cache, which is why ``use_cache`` is in the batch. Other models, such as encoders under eager
    and sdpa attention, read it from nothing, and mix the rows without an error:
    :meth:`for_model` tries the model, and finds the settings that it needs or raises.

    Parameters
    ----------
    naming : {"transformers", "flash_attn", "varlen_attn", "megatron"}
        The names of the boundaries in the batch (see Returns).
    max_tokens : int, optional
        Pad the batch to exactly this many positions: a constant shape. The padding, the tail, is
        cut into segments as long as the longest before it, so that it has no position that the rows
        do not have, and its labels are ignored.
    max_segments : int, optional
        Extend the boundaries to this many segments, those of the tail included, by repeating the
        last boundary: a constant shape too. The added segments have length 0. If the tail's do not
        fit, they become longer, up to ``max_length`` and ``max_seqlen``. Without either that is an
        error, so that no position is beyond what the model has.
    max_seqlen : int, optional
        The number to report as the longest segment, instead of the batch's own longest: a constant,
        for static graphs. ``max_length`` is large enough.
    pad_to_multiple_of : int, optional
        Pad the batch to a multiple of this; the padding is as for ``max_tokens``.
    segment_multiple_of : int, optional
        Pad each segment by itself to a multiple of this, for example ``2 * cp_size`` for context
        parallelism. Positions continue in this padding (so let ``max_length`` be a multiple, too,
        if the model has no more positions), and labels are ignored there.
        ``max_tokens`` and ``pad_to_multiple_of`` must be multiples of it.
    padding_value : number or {key: number}
        The number that fills the padding of a column, as for :class:`tightbatch.PadCollator`.
        Losses ignore that of ``labels``: -100, unless the mapping has another.
    max_length : int, optional
        Cut longer segments to this many tokens; each segment of a pack by itself.
    truncation_side : {"right", "left"}
        The end of a segment that is cut off.
    dtype : dtype or {key: dtype}, optional
        As for :class:`tightbatch.PadCollator`: one floating type for all columns that hold floats,
        or the types of the named columns. By default ``labels`` are int64.
    position_ids_start : int
        The position of the first token, for example 2 for RoBERTa.
    return_labels : bool
        True: labels are those of a language model, made from the tokens if the samples have none.
        Losses ignore the label of each segment's first token, because no token of its segment
        predicts it. False: labels of the samples are kept as they are, as tagging and masked
        language models need them, and none are made.
    shift_labels : bool
        Add ``shift_labels``, at each token the label of the next one. transformers' models take
        them together with ``labels``, instead of shifting ``labels`` themselves. So ``labels`` are
        those of a language model also without ``return_labels``.
    attention_mask : {"causal", "bidirectional"}, optional
        Add an ``attention_mask`` of shape [1, 1, total, total], for models that find the rows in
        nothing else: 0 where a token sees another one, and the lowest number where not. ``dtype``
        is its type, float32 if not given; attention wants the model's. It is not bool, which eager
        attention would add to the scores as numbers.
    return_use_cache : bool, optional
        Add ``use_cache``, False: with a cache, which transformers' models make by default, they do
        not look for rows, and they ignore boundaries of other names without an error. By default it
        is there unless the naming is Megatron's. False is for a model of your own that takes exact
        names.
    return_num_items : bool
        Add ``num_items_in_batch``, an int: the number of labels that losses do not ignore.
    return_row_idx : bool
        Add ``row_idx``, int64 [segments]: the row of each segment, -1 for padding.
    return_tensors : {"pt", "np"}
        torch tensors or NumPy arrays.

    Returns
    -------
    Batch
        ``input_ids``, ``labels``, ``shift_labels``, ``position_ids`` (int64) and ``seq_idx``
        (int32, the number of each token's segment), all [1, total] (with more dimensions if rows
        have more); the boundaries, int32 [segments + 1], and the longest segment, int:

        ============  ===================================  ==============================
        naming        boundaries                           longest
        ============  ===================================  ==============================
        transformers  cu_seq_lens_q, cu_seq_lens_k         max_length_q, max_length_k
        flash_attn    cu_seqlens_q, cu_seqlens_k           max_seqlen_q, max_seqlen_k
        varlen_attn   cu_seq_q, cu_seq_k                   max_q, max_k
        megatron      cu_seqlens_q, cu_seqlens_kv,         max_seqlen_q, max_seqlen_kv
                      cu_seqlens_q_padded,
                      cu_seqlens_kv_padded
        ============  ===================================  ==============================

        Megatron's, with ``qkv_format``, are fields of its PackedSeqParams: those without "padded"
        count only tokens. All others, and the longest, count each segment's padding too. The
        samples' other columns come last. In a DataLoader worker the batch is written directly into
        one block of shared memory.

    Raises
    ------
    ValueError
        When ``attention_mask`` is to have a type that is not floating; when the batch is empty or
        has no token; when keys differ between samples; when the rows of a column differ in length
        from ``input_ids`` (or, without it, from the first column of rows); when an
        ``attention_mask`` has a value other than 1; when ``seq_lengths`` do not add up to the row's
        length, or have another name; when a tail has no label for rows whose labels are floats;
        when a column has the name of one that the collator makes; and when a batch is larger than
        ``max_tokens``, ``max_segments`` or ``max_seqlen``. The message names key, row and column.
    OverflowError
        When there are more positions than an int32 can count; and as :func:`tightbatch.pad`.
    TypeError, RuntimeError, ImportError
        As :class:`tightbatch.PadCollator`.

    Notes
    -----
    A transformers Trainer removes the columns that its model has no argument for, also
    ``seq_lengths``. Then each pack would become one segment. Pass it
    ``remove_unused_columns=False``.

    Examples
    --------
    >>> import tightbatch as tb
    >>> collate = tb.PaddingFreeCollator(max_tokens=6, return_tensors="np")
    >>> batch = collate([{"input_ids": [5, 6, 7]}, {"input_ids": [8]}])
    >>> {key: getattr(value, "tolist", lambda: value)() for key, value in batch.items()}
    {'input_ids': [[5, 6, 7, 8, 0, 0]],
     'labels': [[-100, 6, 7, -100, -100, -100]],
     'position_ids': [[0, 1, 2, 0, 0, 1]],
     'seq_idx': [[0, 0, 0, 1, 2, 2]],
     'cu_seq_lens_q': [0, 3, 4, 6], 'cu_seq_lens_k': [0, 3, 4, 6],
     'max_length_q': 3, 'max_length_k': 3, 'use_cache': False}
    """

    naming: Naming = "transformers"
    max_tokens: int | None = None
    max_segments: int | None = None
    max_seqlen: int | None = None
    pad_to_multiple_of: int | None = None
    segment_multiple_of: int | None = None
    padding_value: float | Mapping[Any, float] = 0
    max_length: int | None = None
    truncation_side: Side = "right"
    dtype: Any = None
    position_ids_start: int = 0
    return_labels: bool = True
    shift_labels: bool = False
    attention_mask: Literal["causal", "bidirectional"] | None = None
    return_use_cache: bool | None = None
    return_num_items: bool = False
    return_row_idx: bool = False
    return_tensors: Tensors = "pt"
    # Settings by key, under None those of every other key; the extras, by their names in the batch
    # and in C; names that the samples' own columns cannot have.
    _named: SettingsByKey = field(init=False, repr=False, compare=False)
    _extras: dict[str, str] = field(init=False, repr=False, compare=False)
    _reserved: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the settings of each key; a wrong one is an error here, not at the first batch."""
        _core.read_choice(NAME, "naming", self.naming, tuple(NAMES))
        _core.read_choice(NAME, "return_tensors", self.return_tensors, TENSORS)
        if self.attention_mask is not None:
            _core.read_choice(NAME, "attention_mask", self.attention_mask, MASKS)
        for name in ("return_labels", "shift_labels", "return_row_idx"):
            _core.read_flag(NAME, name, getattr(self, name))
        if self.return_use_cache is not None:
            _core.read_flag(NAME, "return_use_cache", self.return_use_cache)
        _core.check_padding_free(NAME, vars(self))
        options = {"padding_value": self.padding_value, "dtype": self.dtype}
        boundaries, longest = NAMES[self.naming]
        extras = {"shift_labels": "shift_labels"} if self.shift_labels else {}
        extras |= {"position_ids": "position_ids", "seq_idx": "seq_idx"}
        for name in boundaries:
            tokens_only = self.naming == "megatron" and not name.endswith("_padded")
            extras[name] = "cu_seqlens_tokens" if tokens_only else "cu_seqlens"
        if self.return_row_idx:
            extras["row_idx"] = "row_idx"
        made = {*extras, *longest}
        made |= {"qkv_format"} if self.naming == "megatron" else set()
        made |= {"num_items_in_batch"} if self.return_num_items else set()
        made |= {"use_cache"} if self._has_use_cache() else set()
        for name, value in (
            ("_named", settle_columns(NAME, options)),
            ("_extras", extras),
            ("_reserved", frozenset(made)),
        ):
            object.__setattr__(self, name, value)
        if self.attention_mask is not None and "float" not in self._mask_dtype():
            raise ValueError(
                f"{NAME}(): key 'attention_mask': dtype={self._mask_dtype()}; expected a floating "
                "type: attention adds the mask to its scores, and one of bools would mix the rows"
            )

    @classmethod
    def for_model(cls, model: Any, **options: Any) -> PaddingFreeCollator:
        """Make a collator whose batches this model keeps apart, or raise.

        A collator sees only samples: by default it makes batches for language models that find the
        rows in ``position_ids``. Others need a mask, such as encoders under eager and sdpa
        attention; some count positions from another number; some mix the rows whatever the batch
        says. So a few rows are tried on the model itself, alone, in one batch, and with other
        tokens in the other rows. The first settings with which only the row's own tokens matter are
        taken.

        Parameters
        ----------
        model : torch.nn.Module
            A model that takes ``input_ids`` and gives outputs for each token, with the attention
            and on the device that it is trained with. It is not changed.
        **options
            Parameters of :class:`PaddingFreeCollator`; they are not changed. Where not given,
            ``attention_mask`` (of the model's dtype) and ``position_ids_start`` are what the model
            needs, and ``return_labels`` is False if tokens see those after them, because labels of
            such a model are not those of the next token. With ``max_tokens`` or ``max_segments``
            and neither ``max_length`` nor ``max_seqlen``, ``max_seqlen`` is the number of positions
            that the model's config has: no longer segment is made, and a longer row is an error.

        Returns
        -------
        PaddingFreeCollator

        Raises
        ------
        ValueError
            When the model mixes rows with every setting, or gives no outputs for each token.
        TypeError
            When it is not a torch module, or has no embedding of tokens; and as
            :class:`PaddingFreeCollator`.

        Examples
        --------
        >>> import tightbatch as tb
        >>> from transformers import BertConfig, BertForTokenClassification
        >>> model = BertForTokenClassification(BertConfig(
        ...     vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        ...     num_attention_heads=4))
        >>> tb.PaddingFreeCollator.for_model(model)
        PaddingFreeCollator(dtype={'attention_mask': torch.float32}, return_labels=False, \
attention_mask='bidirectional')
        """
        cls(**options)  # a wrong option is an error of its own
        dtype = getattr(model, "dtype", None)

        def settle(settings: Mapping[str, Any]) -> dict[str, Any]:
            if settings.get("attention_mask") is None or settings.get("dtype") is not None:
                return dict(settings)
            return {**settings, "dtype": {"attention_mask": dtype}}

        def make(settings: Mapping[str, Any]) -> PaddingFreeCollator:
            tried = {name: settings[name] for name in _TRIED if name in settings}
            return cls(**settle(tried), return_labels=False)

        found = {**find_settings(model, make, options), **options}
        return cls(**settle(found), **find_longest(model, cls(**settle(found))))

    def __call__(self, samples: Iterable[Any]) -> Batch:
        """Collate a batch of samples."""
        columns, _ = columns_of(NAME, samples)
        return self._collate(columns, None)

    def _collate(self, columns: dict[Any, Any], path: Any) -> Batch:
        """Make a batch of columns, or the part of one that is at a path."""
        if not self._reserved.isdisjoint(columns):
            key = next(key for key in columns if key in self._reserved)
            raise ValueError(
                f"{NAME}(): key {join(path, key)!r}: the collator makes a column of this name, but "
                "the samples have one too; remove or rename it"
            )
        kinds = {
            key: kind_of(NAME, join(path, key), column, nested=True)
            for key, column in columns.items()
            if key not in ("attention_mask", "seq_lengths")
        }
        refuse_other_names(NAME, kinds)
        if path is not None or "nested" in kinds.values():
            columns = self._with_nested(columns, kinds, path)
            if "rows" not in kinds.values():
                return self._stack(columns, kinds, path)
        main = require_main(NAME, kinds)
        refuse_parts(NAME, kinds, main)
        named = self._named
        specs: list[ColumnSpec] = [(main, columns[main], "main", named[main])]
        names, labels = [main], self._labels_role(kinds, main)
        if labels is not None:
            names.append("labels")
            specs.append(("labels", columns.get("labels"), labels, named["labels"]))
        for key, kind in kinds.items():
            if kind not in ("listed", "nested") and key not in names:
                role: Role = "per_token"
                if kind == "number":
                    role = "row_labels" if read_name(key).meaning == "labels" else "numbers"
                specs.append((key, columns[key], role, named[key]))
                names.append(key)
        if "attention_mask" in columns:
            specs.append(
                (
                    "attention_mask",
                    columns["attention_mask"],
                    "attention_mask",
                    named["attention_mask"],
                )
            )
        if "seq_lengths" in columns:
            specs.append(
                ("seq_lengths", columns["seq_lengths"], "seq_lengths", named["seq_lengths"])
            )
        if path is not None:
            specs = [(join(path, key), *others) for key, *others in specs]
        return self._make(kinds, columns, names, specs, labels is not None)

    def _with_nested(
        self, columns: dict[Any, Any], kinds: Mapping[Any, Kind], path: Any
    ) -> dict[Any, Any]:
        """Make the nested columns, each as samples of its own; the others stay."""
        made = dict(columns)
        for key, kind in kinds.items():
            if kind == "nested":
                at = join(path, key)
                inner, sample = nested_columns(NAME, at, columns[key])
                if sample is not dict:
                    raise TypeError(
                        f"{NAME}(): key {_core.show(at)}, row 0: found type {sample.__name__}, "
                        "expected a dict, tokens, a number or text"
                    )
                settings = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
                settings = {name: inside(key, name, given) for name, given in settings.items()}
                made[key] = type(self)(**settings)._collate(inner, at)
        return made

    def _stack(self, columns: dict[Any, Any], kinds: Mapping[Any, Kind], path: Any) -> Batch:
        """Make a part that has no rows: of numbers and text."""
        names = [key for key, kind in kinds.items() if kind == "number"]
        specs: list[ColumnSpec] = [
            (join(path, key), columns[key], "numbers", self._named[key]) for key in names
        ]
        sides = ("right", "right")
        made, block = pad_columns(NAME, specs, names, sides, (), self.return_tensors)
        return build(Batch, {**columns, **made}, block)  # type: ignore[no-any-return]

    def _labels_role(self, kinds: Mapping[Any, Kind], main: Any) -> Role | None:
        """Choose the role of the labels; None if there are no labels of tokens."""
        kind = kinds.get("labels")
        if kind == "rows":
            return "labels" if self.return_labels or self.shift_labels else "labels_kept"
        if kind is None and self.return_labels and main == "input_ids":
            return "labels_of_main"
        if kind == "listed":
            raise TypeError(f"{NAME}(): key 'labels', row 0: expected a label for each token")
        if self.shift_labels or self.return_num_items:
            asked = "shift_labels" if self.shift_labels else "return_num_items"
            raise ValueError(
                f"{NAME}(): {asked}=True, but there are no labels of tokens; expected a column "
                "'labels' of rows, or 'input_ids' and return_labels=True"
            )
        return None

    def _make(
        self,
        kinds: Mapping[Any, Kind],
        columns: Mapping[Any, Any],
        names: list[Any],
        specs: list[ColumnSpec],
        labelled: bool,
    ) -> Batch:
        """Make the batch, with its entries in order."""
        extras = self._extras
        made, block, longest, items = flatten_columns(
            NAME,
            specs,
            vars(self),
            tuple(extras.values()),
            [*names, *extras],
            self.return_tensors,
        )
        values = {name: made[name] for name in names[: 1 + labelled]}
        values |= {name: made[name] for name in extras}
        if self.naming == "megatron":
            values["qkv_format"] = "thd"
        for name in NAMES[self.naming][1]:
            values[name] = longest
        if self._has_use_cache():
            values["use_cache"] = False
        if self.attention_mask is not None:
            values["attention_mask"] = self._mask(values["seq_idx"])
        if self.return_num_items:
            values["num_items_in_batch"] = items
        for key in kinds:
            if key not in values:
                values[key] = made.get(key, columns[key])
        self._check_tail(
            {
                spec[0]: made[name]
                for spec, name in zip(specs, names, strict=False)
                if spec[2] == "row_labels"
            }
        )
        return build(Batch, values, block)  # type: ignore[no-any-return]

    def _has_use_cache(self) -> bool:
        asked = self.return_use_cache
        return self.naming != "megatron" if asked is None else bool(asked)

    def _check_tail(self, labels: Mapping[Any, Any]) -> None:
        """Refuse floats as labels of rows where the tail's would be learned: none are ignored."""
        named = self.padding_value if isinstance(self.padding_value, Mapping) else {}
        sizes = (self.max_tokens, self.max_segments, self.pad_to_multiple_of)
        for key, value in labels.items():
            if sizes != (None, None, None) and key not in named and "float" in str(value.dtype):
                raise ValueError(
                    f"{NAME}(): key {_core.show(key)}: labels of rows are {value.dtype}, and no "
                    "loss of floats ignores those of the padded tail; leave out max_tokens, "
                    "max_segments and pad_to_multiple_of, or name the tail's label, as with "
                    f"padding_value={{{_core.show(key)}: 0.0}} and return_row_idx=True, -1 there"
                )

    def _mask(self, seq_idx: Any) -> Any:
        """Make the mask of the whole batch, [1, 1, total, total]."""
        dtype, out, total = self._mask_dtype(), None, seq_idx.shape[-1]
        if self.return_tensors == "pt":
            import torch

            out = torch.empty((1, total, total), dtype=getattr(torch, dtype))
        causal = self.attention_mask == "causal"
        mask = segment_mask(seq_idx, causal=causal, dtype=dtype, additive=True, out=out)
        return mask[:, None]

    def _mask_dtype(self) -> str:
        """Give the name of the mask's type; one that is floating is right."""
        settings = self._named["attention_mask"]
        dtype = settings.float_dtype if settings.dtype is None else settings.dtype
        if dtype is None:
            return "float32"
        name = dtype if isinstance(dtype, str) else str(dtype).removeprefix("torch.")
        return np.dtype(dtype).name if name.startswith("<class") else name
