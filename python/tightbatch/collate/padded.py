"""PadCollator: padded batches of samples, as the ``collate_fn`` of a DataLoader."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._records import Samples, join
from .._types import Side, Tensors
from ..ragged import Ragged
from .batch import Batch
from .columns import TENSORS, Collator, ColumnSpec, build, pad_columns, settle_columns
from .packs import refuse_joined, refuse_packs
from .padded_plan import GRIDS, KINDS, Plan, Wishes, no_rows, plan_columns, with_renamed
from .roles import read_name
from .rows import fill_missing, join_rows, kind_of_positions, split_rows, without_none
from .samples import columns_of, inside, kind_of, nested_columns
from .tokenizers import read_tokenizer, settings_of

__all__ = ["PadCollator"]

NAME = "PadCollator"
Widths = Sequence[int] | NDArray[np.int64]
Keys = Any | Iterable[Any]
# What transformers' models call it, and its own collators make of it.
TO_LABELS = {"label": "labels", "label_ids": "labels"}
MOST_PLANS, MOST_KEYS = 64, 4096  # sets of keys, and keys, that are remembered


@dataclass(frozen=True, repr=False)
class PadCollator(Collator):
    """Pad, stack and list the columns of samples: a ``collate_fn`` for a torch DataLoader.

    Samples are dicts (or other mappings, dataclasses, attrs classes, pydantic models), tuples,
    namedtuples, or bare rows (a list, an array, a tensor). A whole batch from a
    :class:`tightbatch.RaggedDataset`, as columns by key, or as an Arrow table, works too. A dict in
    a sample becomes a Batch in the batch, as samples of their own; a tuple of anything but numbers
    keeps its structure; "a.b" is key b in the dict a. Rows of tokens, and what belongs to them, are
    padded, each column to its own width; numbers are stacked; strings and None become lists. What a
    column is follows from its name, as transformers, TRL, sentence-transformers, torchtune and verl
    use names (see docs/collating.md), or from a setting that names its key. Nothing is cut without
    ``max_length``.

    Parameters
    ----------
    padding_value : number or {key: number}
        The number that fills the padding of tokens. Other columns are filled by what their names
        mean: labels of class ids or tokens with -100 (see Notes), masks, token types, positions and
        log-probabilities with 0, masks of special tokens with 1; floats of other names with 0
        beside tokens, and with this number where there are none. A mapping applies to its keys and
        always wins; in it "*_input_ids" and "*_token_type_ids" stand for all such columns, and
        others have 0. Keys of tuples are their positions, 0, 1, ..., and the key of bare rows is
        None.
    width, max_length, pad_to_multiple_of : int or {key: int}, optional
        As for :func:`tightbatch.pad`, for all columns that are padded, or for the named ones and
        the masks, types and positions of their tokens.
    boundaries : sequence of int or {key: sequence of int}, optional
        The only allowed widths, in ascending order, for all columns that are padded or for the
        named ones. A column gets the smallest width that holds its longest row, after the cut to
        ``max_length``; then ``pad_to_multiple_of`` rounds it up. So for each number of rows (with
        ``drop_last`` there is only one) an epoch has at most as many shapes as boundaries, and
        ``torch.compile`` makes at most as many graphs. :func:`tightbatch.bucket_boundaries` finds
        the best ones. Give the sampler the same boundaries, so that ``max_tokens`` counts these
        widths. One column cannot have both ``boundaries`` and ``width``.
    padding_side : {"right", "left"} or {key: side}
        The side of the padding. Columns that belong to named tokens follow them; those that the
        mapping does not concern are padded on the right.
    truncation_side : {"right", "left"}
        The end of a row that is cut off.
    dtype : dtype or {key: dtype}, optional
        A NumPy or torch dtype: one floating type for all columns that hold floats (ints and bools
        keep their types), or the types of the named columns. By default ints become int64, bools
        bool and floats float32, and arrays, tensors and NumPy's scalars keep their type.
    attention_mask : bool, optional
        None: dicts get an int64 mask for each column of tokens (or features) that has none under
        any spelling: ``attention_mask`` for ``input_ids``, ``query_attention_mask`` for
        ``query_input_ids``; without such a column, ``attention_mask`` for the first one of rows of
        integers, or else of vectors. Other samples keep their structure. True: it is always added,
        to tuples and bare rows at the end. False: it is never added.
    return_lengths : bool, key, keys or {key: name}
        True: add ``lengths``, int64, the tokens of each row of the column that the first mask is
        for. Keys: add ``<key>_lengths`` of each, or under the names of a mapping, as CTC needs
        them. Lengths are after the cut; to tuples and bare rows they are added at the end.
    return_position_ids : bool
        Add ``position_ids`` of each column that has a mask, int64: 0, 1, 2, ... at its tokens and 0
        at padding, on either side. Those that the samples have are kept, and padded; rows
        [positions, tokens], as Qwen2-VL has them, become [positions, batch, width].
    keep : key or keys
        Columns of any objects that become lists.
    stack : key or keys
        Columns whose rows have one shape: [batch, *shape], never padded. Images are stacked by
        their names, such as ``pixel_values``. For multi-hot labels of integers see Notes.
    concat : key or keys
        Columns whose rows [n, *shape] are joined along the first dimension, [sum of n, *shape].
        Samples may lack them or have None; a column without any rows is left out of the batch. By
        name these are ``image_grid_thw``, ``video_grid_thw``, and beside them ``pixel_values`` and
        ``pixel_values_videos``.
    time_last : key or keys
        Columns whose rows [channels, T] vary in the last dimension: [batch, channels, width].
    rename : {key: new key}, optional
        Names in the batch. A key stays as it is where the samples have the new one already.
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
        When the batch is empty; when keys differ between samples; when labels of floats differ in
        length and have no ``padding_value`` of their own; when an ``attention_mask`` (or
        another column with a value for each token) has another length than its tokens; when rows of
        floats or vectors differ in length and nothing says that they are sequences: neither the
        name, nor a setting that names the key, nor another column with rows as long; when rows that
        are stacked differ in shape; when a row is longer than the last boundary; when boundaries
        are not in ascending order; for a column ``seq_lengths``, which says that rows are packs,
        because a padded batch would not keep their segments apart; and as :func:`tightbatch.pad`.
    TypeError, OverflowError, RuntimeError
        As :func:`tightbatch.pad`; the message names key, row and column. TypeError also for a list
        of batches: a DataLoader of batches that are made already needs ``batch_size=None``.
        RuntimeError also when shared memory is full in a DataLoader worker.
    ImportError
        When torch is not installed; ``return_tensors="np"`` works without it.

    Notes
    -----
    Rows of labels are class ids or tokens, which are padded with -100, unless they are a vector for
    each row, as multi-hot labels (multi-label classification). Vectors are stacked, [batch,
    classes], and neither padded nor cut: rows of floats; bools of one length; and integers of 0 and
    1 alone, of one length that is not that of the tokens in every row. Integers that happen to be
    as many as the tokens in every row of a batch look like labels of tokens: ``stack="labels"``
    says that they are none. For floats of each token name a fill, ``padding_value={"labels": 0}``:
    no loss of floats ignores -100.

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
    padding_side: Side | Mapping[Any, Side] = field(default="right", kw_only=True)
    truncation_side: Side = field(default="right", kw_only=True)
    pad_to_multiple_of: int | Mapping[Any, int] | None = field(default=None, kw_only=True)
    boundaries: Widths | Mapping[Any, Widths | None] | None = field(default=None, kw_only=True)
    dtype: Any = field(default=None, kw_only=True)
    attention_mask: bool | None = field(default=None, kw_only=True)
    return_lengths: bool | Any | Iterable[Any] | Mapping[Any, Any] = field(
        default=False, kw_only=True
    )
    return_position_ids: bool = field(default=False, kw_only=True)
    return_tensors: Tensors = field(default="pt", kw_only=True)
    keep: Keys = field(default=(), kw_only=True)
    stack: Keys = field(default=(), kw_only=True)
    concat: Keys = field(default=(), kw_only=True)
    time_last: Keys = field(default=(), kw_only=True)
    rename: Mapping[Any, Any] | None = field(default=None, kw_only=True)
    # What the settings say of each key; and the plans for the keys that were met so far.
    _kinds: dict[Any, str] = field(init=False, repr=False, compare=False)
    _wishes: Wishes = field(init=False, repr=False, compare=False)
    _plans: dict[Any, Plan] = field(init=False, repr=False, compare=False)
    _inner: dict[Any, PadCollator] = field(init=False, repr=False, compare=False)  # of nested parts
    _sides: tuple[Side, Side] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the settings of each key; a wrong one is an error here, not at the first batch."""
        _core.read_choice(NAME, "return_tensors", self.return_tensors, TENSORS)
        _core.read_flag(NAME, "return_position_ids", self.return_position_ids)
        if self.attention_mask is not None:
            _core.read_flag(NAME, "attention_mask", self.attention_mask)
        boundaries = _read_all_boundaries(self.boundaries)
        lengths = _read_lengths(self.return_lengths)
        rename = _read_rename(self.rename)
        kinds = dict(KINDS)
        told: dict[Any, str] = {}
        for name in ("keep", "stack", "concat", "time_last"):
            keys = _read_keys(name, getattr(self, name))
            object.__setattr__(self, name, keys)
            for key in (*keys, *(rename[key] for key in keys if key in rename)):
                if told.setdefault(key, name) != name:
                    raise ValueError(
                        f"{NAME}(): {told[key]}= and {name}= both name the key {_core.show(key)}; "
                        "expected one of them"
                    )
                kinds[key] = "kept" if name == "keep" else name
        side: Side = "right"  # of the columns that have none of their own
        if not isinstance(self.padding_side, Mapping):
            side = self.padding_side
        elif any(given is None for given in self.padding_side.values()):
            raise TypeError(
                f"{NAME}(): padding_side={_core.show(self.padding_side)}; expected 'right' or "
                "'left' for each key"
            )
        options = {
            "padding_value": self.padding_value,
            "dtype": self.dtype,
            "width": self.width,
            "max_length": self.max_length,
            "pad_to_multiple_of": self.pad_to_multiple_of,
            "boundaries": boundaries,
            "padding_side": None if side is self.padding_side else self.padding_side,
        }
        sides = (side, self.truncation_side)
        named = settle_columns(NAME, with_renamed(options, rename), *sides)
        wishes = Wishes(
            named,
            self.attention_mask,
            None if self.return_lengths is True else lengths,
            bool(lengths),
            self.return_position_ids,
            rename,
        )
        for name, value in (
            ("boundaries", _as_tuples(boundaries)),
            ("_kinds", kinds),
            ("_wishes", wishes),
            ("_plans", {}),
            ("_inner", {}),
            ("_sides", sides),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, **options: Any) -> PadCollator:
        """Make a collator with the fills and the padding side of a transformers tokenizer.

        Parameters
        ----------
        tokenizer : PreTrainedTokenizerBase, SequenceFeatureExtractor or ProcessorMixin
            Its ``pad_token_id`` fills all columns of tokens, ``input_ids`` and
            ``query_input_ids`` alike; its ``pad_token_type_id`` all of token types. ``label`` and
            ``label_ids`` become ``labels``, as in transformers' own collators, because its models
            take no other name; ``rename=None`` prevents it. Of a feature extractor, or of the one
            that a processor has, ``padding_value`` is used, and where its
            ``return_attention_mask`` is False, as for Wav2Vec2 models that know no mask, none is
            added.
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
            When it is none of these; and as :class:`PadCollator`.
        """
        tokenizer, extracts = read_tokenizer("PadCollator.from_tokenizer", tokenizer)
        if extracts:
            return cls(**{**settings_of(tokenizer), "rename": TO_LABELS, **options})
        if tokenizer.pad_token_id is None:
            raise ValueError(
                "PadCollator.from_tokenizer(): the tokenizer has no padding token; set one, as "
                "with tokenizer.pad_token = tokenizer.eos_token"
            )
        tokens, types = tokenizer.pad_token_id, tokenizer.pad_token_type_id
        fills: Any = {
            "input_ids": tokens,
            "*_input_ids": tokens,
            "token_type_ids": types,
            "*_token_type_ids": types,
        }
        given = options.pop("padding_value", {})
        fills = {**fills, **given} if isinstance(given, Mapping) else given
        settings = {"padding_side": tokenizer.padding_side, "rename": TO_LABELS, **options}
        return cls(fills, **settings)

    @overload
    def __call__(self, samples: Iterable[Mapping[Any, Any]]) -> Batch: ...
    @overload
    def __call__(self, samples: Any) -> Any: ...
    def __call__(self, samples: Any) -> Any:
        """Collate a batch of samples."""
        columns, sample = self._columns_of(samples)
        return self._make(columns, sample, None)

    def _make(self, columns: dict[Any, Any], sample: Any, path: Any) -> Any:
        """Make a batch of columns, or the part of one that is at a path."""
        columns, kinds = self._kinds_of(columns, path)
        if self.attention_mask is not False or "attention_mask" in columns:
            refuse_joined(NAME, columns)
        met = (sample, tuple(kinds.items()))
        plan = self._plans.get(met)
        if plan is None:
            plan = self._settle(sample, kinds, path)
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            self._plans[met] = plan
        return self._collate(plan, columns, Batch if sample is dict else sample, path)

    def _make_nested(self, key: Any, column: Any, path: Any) -> Any:
        """Make what is inside a column; settings of "key.x" are those of "x" there."""
        columns, sample = nested_columns(NAME, path, column)
        inner = self._inner.get((key, sample))
        if inner is None:
            changes = {
                f.name: inside(key, f.name, getattr(self, f.name)) for f in fields(self) if f.init
            }
            if sample is not dict:  # tuples keep their structure
                changes |= dict.fromkeys(("attention_mask", "return_lengths"), False)
                changes["return_position_ids"] = False
            inner = replace(self, **changes)
            if len(self._inner) >= MOST_PLANS:
                self._inner.clear()
            self._inner[key, sample] = inner
        return inner._make(columns, sample, path)

    def _columns_of(self, samples: Any) -> tuple[dict[Any, Any], Any]:
        """Give the columns; where a sample lacks one that is joined, None stands for its rows."""
        if type(samples) is Samples and samples.size > 0:
            return samples.columns, dict
        if hasattr(samples, "__next__"):
            samples = list(samples)
        try:
            return columns_of(NAME, samples, only_mappings=False)
        except ValueError:
            filled = fill_missing(samples, self._kinds)
            if filled is None:
                raise
            return columns_of(NAME, filled, only_mappings=False)

    def _kinds_of(
        self, columns: dict[Any, Any], path: Any
    ) -> tuple[dict[Any, Any], dict[Any, str]]:
        """Give the kind of each column, and the columns: nested ones are made already."""
        kinds: dict[Any, str] = {}
        joined: dict[Any, Any] = {}
        told = self._kinds
        for key, column in columns.items():
            kind = told.get(key) or self._learn(key)
            at = key if path is None else join(path, key)
            if kind == "unknown":
                kind = kind_of(NAME, at, column, nested=True)
                if kind == "nested":
                    joined[key] = self._make_nested(key, column, at)
            elif kind == "positions":
                kind = kind_of(NAME, at, column)
                if kind == "rows":
                    kind = kind_of_positions(key, column, columns)
            elif kind == "described":
                is_joined = any(grid in columns for grid in GRIDS[key])
                kind = "concat" if is_joined else kind_of(NAME, at, column)
            elif kind == "stack":
                kind = "number" if kind_of(NAME, at, column) == "number" else "stack"
            if kind == "concat" and not isinstance(column, Ragged):
                joined[key], kind = without_none(column)
            kinds[key] = kind
        return {**columns, **joined} if joined else columns, kinds

    def _learn(self, key: Any) -> str:
        """Tell what the name says of the kind of a column, and remember it."""
        kind = "positions" if read_name(key).meaning == "positions" else "unknown"
        if len(self._kinds) < MOST_KEYS:
            self._kinds[key] = kind
        return kind

    def _settle(self, sample: Any, kinds: dict[Any, str], path: Any) -> Plan:
        added = self.attention_mask or self.return_lengths or self.return_position_ids
        if hasattr(sample, "_fields") and added:
            raise ValueError(
                f"PadCollator(): {sample.__name__} has no field for a mask, lengths or positions; "
                "expected dict or tuple samples"
            )
        refuse_packs(NAME, kinds, self._wishes.rename)
        is_part = path is not None or "nested" in kinds.values()
        wishes = self._wishes.of_part(kinds) if is_part else self._wishes
        return plan_columns(wishes, kinds, sample)

    def _collate(self, plan: Plan, columns: Mapping[Any, Any], cls: Any, path: Any) -> Any:
        """Pad, stack or list each column, and put the results together as a ``cls``."""
        specs: list[ColumnSpec] = [
            (key, columns[key], role, settings) for key, _, role, settings in plan.columns
        ]
        if path is not None:
            specs = [(join(path, key), *others) for key, *others in specs]
        reshape = None
        if plan.split:
            leads = {}
            for index, kind in plan.split.items():
                key, column, role, settings = specs[index]
                rows, leads[index] = split_rows(key, column, kind)
                specs[index] = (key, rows, role, settings)
            reshape = functools.partial(join_rows, plan, leads)
        made, block = pad_columns(
            NAME,
            specs,
            plan.names,
            self._sides,
            plan.extras,
            self.return_tensors,
            plan.links,
            plan.promote,
            reshape,
        )
        if self.attention_mask and len(made) < len(plan.names):
            raise no_rows("attention_mask")
        for key, name in plan.listed.items():
            column = columns[key]
            made[name] = column if isinstance(column, (dict, tuple)) else list(column)
        if plan.listed:
            order = {name: made[name] for name in plan.order}
            made = {**order, **made}
        return build(cls, made, block)


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


def _read_keys(setting: str, given: Any) -> tuple[Any, ...]:
    """Read one key, or several."""
    if isinstance(given, (str, int)) and not isinstance(given, bool):
        return (given,)
    if not isinstance(given, (list, tuple, set, frozenset)) or any(
        not isinstance(key, (str, int)) or isinstance(key, bool) for key in given
    ):
        raise TypeError(
            f"{NAME}(): {setting}={_core.show(given)}; expected a key, or a list of keys"
        )
    return tuple(given)


def _read_lengths(given: Any) -> Mapping[Any, Any]:
    """Read return_lengths: keys, and the names of their lengths."""
    if isinstance(given, (bool, np.bool_)):
        return {None: "lengths"} if given else {}
    if isinstance(given, Mapping):
        if any(not isinstance(name, str) for name in given.values()):
            raise TypeError(
                f"{NAME}(): return_lengths={_core.show(given)}; expected a mapping of keys to names"
            )
        return dict(given)
    try:
        keys = _read_keys("return_lengths", given)
    except TypeError:
        raise TypeError(
            f"{NAME}(): return_lengths={_core.show(given)}; expected True, False, a key, keys, or "
            "a mapping of keys to names"
        ) from None
    return {key: f"{key}_lengths" for key in keys}


def _read_rename(given: Any) -> dict[Any, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{NAME}(): rename={_core.show(given)}; expected a mapping of keys to new keys"
        )
    return dict(given)
