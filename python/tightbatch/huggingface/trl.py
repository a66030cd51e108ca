"""TRL's data collators under the same names: change the import and keep the rest.

Names, parameters, keys, their order, dtypes and values are those of TRL 1.16; here
``return_tensors="np"`` works too. :class:`DataCollatorForPreference` is the collator of both
``trl.trainer.dpo_trainer`` and ``trl.trainer.reward_trainer``. The collators for images are not
here. Features are dicts of lists, arrays or tensors, or a batch of a
:class:`tightbatch.RaggedDataset`; columns that TRL leaves out are left out here too.

In some cases TRL's collators train on the wrong thing, or stop. These do not:

- ``completion_mask`` and ``assistant_masks``, where there are no ``labels``, decide what is
  learned. SFTTrainer makes labels of them as it prepares a data set; TRL's collator ignores them,
  and a data set that was prepared elsewhere would be learned as a whole.
- An ``attention_mask`` of the features is used: what it hides is no label. TRL's collator makes one
  of ones. Without padding, where there is no mask, a mask that hides something is an error.
- The rows of a batch without padding stay apart in ``model(**batch)``, because ``use_cache=False``
  is its last entry (as SFTTrainer sets it). With a cache most models do not look for rows.
- Packs, rows with ``seq_lengths``, need ``padding_free=True``. In a padded batch, where TRL pads
  them as ever, their documents would see each other. Packs that say it in another column, as
  ``seq_lens`` or ``position_ids`` that begin again, are an error; TRL's collator forgets it.
- Lengths of 0 in ``seq_lengths`` and rows without tokens are left out. In TRL's collator they join
  documents to others, make ids floats, or end in an IndexError.
- ``seq_lengths`` that do not add up to their row, labels and masks of another length than their
  input, and a key that only some features have are errors that name the row.
- Ids, labels and masks are int64, whatever integers they are made from, as losses need them.
- Prompts and completions may be arrays and tensors: TRL adds their numbers up.
- ``max_length=0`` is an error; in TRL's collator, with "keep_end", it cuts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np

from .. import _core
from .._types import Tensors
from ..collate.columns import (
    DEFAULT,
    TENSORS,
    Collator,
    ColumnSettings,
    ColumnSpec,
    build,
    flatten_columns,
    pad_columns,
)
from ..collate.packs import SAY_LENGTHS, refuse_joined
from ..collate.samples import columns_of, kind_of
from ..ragged import Ragged
from ._features import FLOAT32, INT64, row_lengths
from .flattening import NOT_ASKED

__all__ = [
    "DataCollatorForLanguageModeling",
    "DataCollatorForPreference",
    "DataCollatorForUnpairedPreference",
]

IGNORED = -100
FIX = (
    "pass padding_free=True, which keeps them apart by 'seq_lengths', or remove the column to pad "
    "a pack as one row"
)
LEARNED = ("completion_mask", "assistant_masks")  # 1 where a token is a label
TRUNCATION = ("keep_start", "keep_end")


def _check(collator: Any, return_tensors: Any) -> None:
    """Refuse wrong settings of a collator; they may change between calls."""
    function, given = type(collator).__name__, vars(collator)
    _core.read_choice(function, "return_tensors", return_tensors, TENSORS)
    _core.read_int(function, "pad_token_id", given["pad_token_id"], -(2**63), 2**63 - 1)
    for name in ("pad_to_multiple_of", "max_length"):
        if given.get(name) is not None:
            _core.read_int(function, name, given[name], 1, 2**63 - 1)
    for name in ("padding_free", "return_position_ids", "return_use_cache"):
        if name in given:
            _core.read_flag(function, name, given[name])
    if "truncation_mode" in given:
        _core.read_choice(function, "truncation_mode", given["truncation_mode"], TRUNCATION)


def _columns(function: str, features: Any, required: Iterable[str]) -> dict[Any, Any]:
    """Give the columns of the features; those required hold tokens."""
    columns, _ = columns_of(function, features)
    _require(function, columns, required)
    for key in required:
        if kind_of(function, key, columns[key]) != "rows":
            found = type(columns[key][0]).__name__
            raise TypeError(f"{function}(): key {key!r}, row 0: found {found}, expected tokens")
    return columns


def _require(function: str, columns: Mapping[Any, Any], keys: Iterable[str]) -> None:
    for key in keys:
        if key not in columns:
            raise ValueError(
                f"{function}(): the features have no {key!r}, but {_core.show(list(columns))}"
            )


@dataclass(repr=False)
class DataCollatorForLanguageModeling(Collator):
    """Pad tokens and labels for SFTTrainer, or put them one after another.

    Keys are ``input_ids``, ``labels``, ``position_ids`` if asked for, and ``attention_mask``. With
    `padding_free` they are those of a batch of shape (1, total): ``input_ids``, ``labels``,
    ``position_ids``, ``cu_seq_lens_q``, ``cu_seq_lens_k`` (int32), ``max_length_q``,
    ``max_length_k`` (int), ``seq_idx`` (int32) and ``use_cache`` (False). Labels are the features'
    ``labels``, or else their ``input_ids`` where ``completion_mask`` and ``assistant_masks`` are
    not 0; the first token of each document is no label if documents follow one another.

    Parameters
    ----------
    pad_token_id : int
        What fills ``input_ids``.
    padding_free : bool
        Put all rows one after another. ``seq_lengths``, a list of lengths for each row, says that
        rows are packs: then each length is a document.
    return_position_ids : bool
        Add ``position_ids`` to a padded batch, as sequence parallelism needs them. (SFTTrainer sets
        this by itself only on its own collator.)
    pad_to_multiple_of : int, optional
        The width is rounded up to a multiple of it. Without padding, each token of that is a
        sequence of its own, at position 0.
    return_tensors : {"pt", "np"}
        torch tensors or NumPy arrays.
    return_use_cache : bool
        Add ``use_cache`` to a batch without padding.

    Raises
    ------
    ValueError, TypeError, OverflowError
        When there are no features or no ``input_ids``, when keys differ, when labels, masks or
        ``seq_lengths`` do not fit their row, when packs are to be padded, and as
        :class:`tightbatch.PadCollator`; messages name key, row and column.

    Notes
    -----
    SFTTrainer takes no collator beside ``padding_free=True`` or packing. Give it one afterwards:
    ``trainer.data_collator = DataCollatorForLanguageModeling(pad_token_id, padding_free=True)``.

    Examples
    --------
    >>> from tightbatch.huggingface.trl import DataCollatorForLanguageModeling
    >>> collate = DataCollatorForLanguageModeling(0, return_tensors="np")
    >>> rows = [{"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1]},
    ...         {"input_ids": [8, 9], "completion_mask": [0, 1]}]
    >>> collate(rows)["labels"].tolist()
    [[-100, 6, 7], [-100, 9, -100]]
    >>> collate = DataCollatorForLanguageModeling(0, padding_free=True, return_tensors="np")
    >>> collate(rows)["position_ids"].tolist()
    [[0, 1, 2, 0, 1]]
    """

    pad_token_id: int
    padding_free: bool = False
    return_position_ids: bool = False
    pad_to_multiple_of: int | None = None
    return_tensors: Tensors = "pt"
    _: KW_ONLY
    return_use_cache: bool = True

    def __post_init__(self) -> None:
        """Check the settings; what is set later is checked at the next batch."""
        _check(self, self.return_tensors)

    def __call__(self, features: Any, return_tensors: Tensors | None = None) -> dict[str, Any]:
        """Collate features into a batch."""
        tensors = self.return_tensors if return_tensors is None else return_tensors
        _check(self, tensors)
        columns = _columns(type(self).__name__, features, ("input_ids",))
        if not (self.padding_free and "seq_lengths" in columns):
            refuse_joined(type(self).__name__, columns, SAY_LENGTHS if self.padding_free else FIX)
        values, block = (self._flat if self.padding_free else self._padded)(columns, tensors)
        return build(dict, values, block)  # type: ignore[no-any-return]

    def _padded(self, columns: dict[Any, Any], tensors: str) -> tuple[dict[Any, Any], Any]:
        function = type(self).__name__
        settings = ColumnSettings(0, INT64, pad_to_multiple_of=self.pad_to_multiple_of)
        fills = {"labels": IGNORED, "attention_mask": 0, **dict.fromkeys(_learned(columns), 0)}
        specs: list[ColumnSpec] = [
            (
                "input_ids",
                columns["input_ids"],
                "main",
                settings._replace(padding_value=self.pad_token_id),
            )
        ]
        for key, fill in fills.items():
            if key in columns:
                own = settings._replace(padding_value=fill)
                specs.append((key, columns[key], "per_token", own))
        extras = {"labels": "like_main", "attention_mask": "mask"}
        extras = {key: name for key, name in extras.items() if key not in columns}
        if self.return_position_ids:
            extras["position_ids"] = "positions"
        made, block = pad_columns(
            function,
            specs,
            [*(spec[0] for spec in specs), *extras],
            ("right", "right"),
            tuple((name, 0) for name in extras.values()),
            tensors,
            tuple((i, 0) for i in range(1, len(specs))),
        )
        if "labels" not in columns:
            arrays = (np.asarray(made[key]) for key in ("input_ids", "attention_mask", "labels"))
            tokens, mask, labels = arrays
            _core.label_tokens(function, tokens, mask, None, labels)
        _leave_out(made, columns)
        order = ("input_ids", "labels", "position_ids", "attention_mask")
        return {key: made[key] for key in order if key in made}, block

    def _flat(self, columns: dict[Any, Any], tensors: str) -> tuple[dict[Any, Any], Any]:
        function = type(self).__name__
        columns = _with_tail(function, columns, self.pad_token_id, self.pad_to_multiple_of)
        settings = ColumnSettings(0, INT64)
        ignored = settings._replace(padding_value=IGNORED)
        labels = columns.get("labels")
        specs: list[ColumnSpec] = [
            ("input_ids", columns["input_ids"], "main", settings),
            ("labels", labels, "labels_of_main" if labels is None else "labels", ignored),
        ]
        specs += [(key, columns[key], "per_token", settings) for key in _learned(columns)]
        names = [spec[0] for spec in specs]
        if "attention_mask" in columns:
            specs.append(("attention_mask", columns["attention_mask"], "attention_mask", DEFAULT))
        if "seq_lengths" in columns:
            specs.append(("seq_lengths", columns["seq_lengths"], "seq_lengths", DEFAULT))
        extras = {
            "position_ids": "position_ids",
            "cu_seq_lens_q": "cu_seqlens",
            "cu_seq_lens_k": "cu_seqlens",
            "seq_idx": "seq_idx",
        }
        made, block, longest, _ = flatten_columns(
            function,
            specs,
            {**NOT_ASKED, "position_ids_start": 0},
            tuple(extras.values()),
            [*names, *extras],
            tensors,
        )
        _leave_out(made, columns)
        seq_idx = made.pop("seq_idx")
        values = {**made, "max_length_q": longest, "max_length_k": longest, "seq_idx": seq_idx}
        if self.return_use_cache:
            values["use_cache"] = False
        return values, block


def _learned(columns: Mapping[Any, Any]) -> list[str]:
    """Give the masks that decide what is learned; where there are labels, they already did."""
    return [] if "labels" in columns else [key for key in LEARNED if key in columns]


def _leave_out(made: dict[Any, Any], columns: Mapping[Any, Any]) -> None:
    """Take the masks out of a batch, and what they leave out, of its labels."""
    for key in _learned(columns):
        np.putmask(np.asarray(made["labels"]), np.asarray(made.pop(key)) == 0, IGNORED)


def _with_tail(
    function: str, columns: dict[Any, Any], pad_token_id: int, multiple: int | None
) -> dict[Any, Any]:
    """Add the rows, of one token each, that fill a batch without padding up to a multiple."""
    missing = 0
    if multiple is not None:
        missing = -int(row_lengths(function, columns["input_ids"]).sum()) % multiple
    if missing == 0:
        return columns
    tail = {"input_ids": pad_token_id, "labels": IGNORED, "attention_mask": 1, "seq_lengths": 1}
    tail |= dict.fromkeys(LEARNED, 0)
    return {
        key: [*columns[key], *([[value]] * missing)]
        for key, value in tail.items()
        if key in columns
    }


def _offsets(lengths: Any) -> Any:
    return np.concatenate(([0], np.cumsum(lengths)))


@dataclass(repr=False)
class DataCollatorForPreference(Collator):
    """Pad pairs of answers for DPOTrainer and RewardTrainer: first those that were chosen.

    Features with ``prompt_ids`` are DPOTrainer's: each prompt stands before ``chosen_ids`` and
    before ``rejected_ids``. Keys are ``input_ids``, ``attention_mask``, ``completion_mask`` (1 at
    answers) and, if the features have them, ``ref_chosen_logps`` and ``ref_rejected_logps``.
    Features without are RewardTrainer's. Keys are ``input_ids``, ``attention_mask`` and, if the
    features have it, ``margin``.

    Parameters
    ----------
    pad_token_id : int
        What fills ``input_ids``.
    max_length : int, optional
        A prompt with its answer is cut to it.
    truncation_mode : {"keep_start", "keep_end"}
        What is kept of them.
    pad_to_multiple_of : int, optional
        The width is rounded up to a multiple of it.
    return_tensors : {"pt", "np"}
        torch tensors or NumPy arrays.

    Raises
    ------
    ValueError, TypeError, OverflowError
        When there are no features, when keys differ or are missing, when `max_length` is given for
        features without prompts, and as :class:`tightbatch.PadCollator`; messages name key, row and
        column.

    Examples
    --------
    >>> from tightbatch.huggingface.trl import DataCollatorForPreference
    >>> collate = DataCollatorForPreference(pad_token_id=0, return_tensors="np")
    >>> batch = collate([{"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [5]}])
    >>> batch["input_ids"].tolist(), batch["completion_mask"].tolist()
    ([[1, 2, 3, 4], [1, 2, 5, 0]], [[0, 0, 1, 1], [0, 0, 1, 0]])
    """

    pad_token_id: int
    max_length: int | None = None
    truncation_mode: Literal["keep_start", "keep_end"] = "keep_start"
    pad_to_multiple_of: int | None = None
    return_tensors: Tensors = "pt"

    def __post_init__(self) -> None:
        """Check the settings; what is set later is checked at the next batch."""
        _check(self, self.return_tensors)

    def __call__(self, features: Any, return_tensors: Tensors | None = None) -> dict[str, Any]:
        """Collate features into a batch."""
        tensors = self.return_tensors if return_tensors is None else return_tensors
        _check(self, tensors)
        function, keys = type(self).__name__, ("chosen_ids", "rejected_ids")
        columns = _columns(function, features, keys)
        if "prompt_ids" in columns:
            specs = _prompted(self, columns, keys)
            specs += _numbers(columns, {"ref_chosen_logps": None, "ref_rejected_logps": None})
        else:
            if self.max_length is not None:
                raise ValueError(
                    f"{function}(): max_length={self.max_length}, but the features have no "
                    "'prompt_ids': those of a reward model are not cut here; pass max_length to "
                    "RewardConfig, and pad_to_multiple_of by name"
                )
            specs = _rows(self, _gather(function, columns, keys))
            specs += _numbers(columns, {"margin": FLOAT32})
        return _padded(self, specs, tensors)


@dataclass(repr=False)
class DataCollatorForUnpairedPreference(Collator):
    """Pad answers of which each is good or bad, for KTOTrainer.

    Keys are ``input_ids`` (``prompt_ids`` and ``completion_ids``), ``attention_mask``,
    ``completion_mask`` (1 at answers); the same for ``KL_completion_ids``, with "KL\\_" before each
    name; ``ref_logps`` and ``ref_KL_logps``, if the features have them, and ``label``.

    Parameters
    ----------
    pad_token_id : int
        What fills the ids.
    max_length : int, optional
        A prompt with its answer is cut to it, at the end.
    pad_to_multiple_of : int, optional
        Each width is rounded up to a multiple of it.
    return_tensors : {"pt", "np"}
        torch tensors or NumPy arrays.

    Raises
    ------
    ValueError, TypeError, OverflowError
        When there are no features, when keys differ or are missing, and as
        :class:`tightbatch.PadCollator`; messages name key, row and column.

    Examples
    --------
    >>> from tightbatch.huggingface.trl import DataCollatorForUnpairedPreference
    >>> collate = DataCollatorForUnpairedPreference(pad_token_id=0, return_tensors="np")
    >>> batch = collate([{"prompt_ids": [1, 2], "completion_ids": [3], "label": True}])
    >>> batch["input_ids"].tolist(), batch["completion_mask"].tolist(), batch["label"].tolist()
    ([[1, 2, 3]], [[0, 0, 1]], [True])
    """

    pad_token_id: int
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: Tensors = "pt"

    def __post_init__(self) -> None:
        """Check the settings; what is set later is checked at the next batch."""
        _check(self, self.return_tensors)

    def __call__(self, features: Any, return_tensors: Tensors | None = None) -> dict[str, Any]:
        """Collate features into a batch."""
        tensors = self.return_tensors if return_tensors is None else return_tensors
        _check(self, tensors)
        columns = _columns(type(self).__name__, features, ("prompt_ids", "completion_ids"))
        specs: list[ColumnSpec] = []
        for prefix, key in (("", "completion_ids"), ("KL_", "KL_completion_ids")):
            if key in columns:
                specs += _prompted(self, columns, (key,), prefix)
        _require(type(self).__name__, columns, ("label",))
        specs += _numbers(columns, {"ref_logps": None, "ref_KL_logps": None, "label": None})
        return _padded(self, specs, tensors)


def _numbers(columns: Mapping[Any, Any], dtypes: Mapping[str, Any]) -> list[ColumnSpec]:
    """Stack the numbers that the features have."""
    return [
        (key, columns[key], "numbers", DEFAULT._replace(dtype=dtype))
        for key, dtype in dtypes.items()
        if key in columns
    ]


def _gather(function: str, columns: Mapping[Any, Any], keys: Sequence[str]) -> Ragged:
    """Give the rows of all columns, one column after the other."""
    parts = [_core.flatten(function, Ragged, key, columns[key], INT64) for key in keys]
    begins = np.cumsum([0, *(part._bounds[-1] for part in parts)])
    return Ragged._of(
        tuple(chunk for part in parts for chunk in part._chunks),
        np.concatenate(
            [part.starts + begin for part, begin in zip(parts, begins[:-1], strict=True)]
        ),
        np.concatenate([part.lengths for part in parts]),
    )


def _prompted(
    collator: Any, columns: Mapping[Any, Any], keys: Sequence[str], prefix: str = ""
) -> list[ColumnSpec]:
    """Pad each prompt with its answer, and say which tokens are answers."""
    function = type(collator).__name__
    _require(function, columns, keys)
    parts = _gather(function, columns, ("prompt_ids", *keys))
    rows = np.arange(len(parts)).reshape(len(keys) + 1, -1)
    # Prompt, answer, prompt, answer, ...: in one buffer each pair is one row.
    pairs = np.stack([np.tile(rows[0], len(keys)), rows[1:].ravel()], axis=1).ravel()
    halves = _core.flatten(function, Ragged, "prompt_ids", parts[pairs], None)
    offsets = _offsets(halves.lengths)[::2]
    is_answer = np.repeat(np.tile((0, 1), len(pairs) // 2), halves.lengths)
    ids, mask = Ragged(halves._chunks[0], offsets), Ragged(is_answer, offsets)
    return _rows(collator, ids, mask, prefix)


def _rows(
    collator: Any, ids: Ragged, is_answer: Ragged | None = None, prefix: str = ""
) -> list[ColumnSpec]:
    """Pad rows of tokens, with their mask."""
    settings = ColumnSettings(
        0,
        INT64,
        max_length=getattr(collator, "max_length", None),
        pad_to_multiple_of=collator.pad_to_multiple_of,
    )
    fill = settings._replace(padding_value=collator.pad_token_id)
    lengths = ids.lengths
    ones = Ragged(np.ones(lengths.sum(), np.int64), _offsets(lengths))
    specs: list[ColumnSpec] = [(f"{prefix}input_ids", ids, "rows", fill)]
    specs.append((f"{prefix}attention_mask", ones, "rows", settings))
    if is_answer is not None:
        specs.append((f"{prefix}completion_mask", is_answer, "rows", settings))
    return specs


def _padded(collator: Any, specs: list[ColumnSpec], tensors: str) -> dict[str, Any]:
    keeps_end = getattr(collator, "truncation_mode", "keep_start") == "keep_end"
    values, block = pad_columns(
        type(collator).__name__,
        specs,
        [spec[0] for spec in specs],
        ("right", "left" if keeps_end else "right"),
        (),
        tensors,
    )
    return build(dict, values, block)  # type: ignore[no-any-return]
