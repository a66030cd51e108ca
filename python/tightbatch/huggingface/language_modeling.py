"""DataCollatorForLanguageModeling: masked and causal."""

from __future__ import annotations

import sys
import warnings
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from .. import _core
from .._records import Samples, is_record
from .._types import Side, Tensors
from ..collate.columns import Collator, ColumnSettings, build
from ..collate.samples import columns_of, is_batch
from ._features import (
    Features,
    check_settings,
    encoding,
    features_of,
    is_matrix,
    read_ids,
    row_lengths,
)

__all__ = ["DataCollatorForLanguageModeling"]

LARGEST_IN_TABLE = 2**22  # above it special tokens are looked for one by one


@dataclass(repr=False)
class DataCollatorForLanguageModeling(Collator):
    """Pad the inputs and make the labels of masked (``mlm=True``) or causal language modelling.

    Parameters
    ----------
    tokenizer, pad_to_multiple_of, return_tensors, pad_token_id, padding_side
        As for :class:`DataCollatorWithPadding`.
    mlm : bool
        True: hide some tokens, and make them the labels. False: the labels are the inputs, with
        -100 at padding: beyond the row's end, where ``attention_mask`` is 0, and, as in
        transformers, at every padding token unless it is the end-of-sequence token too.
    whole_word_mask : bool
        Mask whole words, by ``offset_mapping``.
    mlm_probability, mask_replace_prob, random_replace_prob : float
        The share of tokens that are masked; of these, the share that is replaced by the mask token,
        and the share that is replaced by random tokens. The rest does not change.
    seed : int, optional
        With a seed, the masks are the same in every run; a DataLoader worker adds its number.
        Without it, torch's (or NumPy's) global generator seeds each call.
    mask_token_id, vocab_size, special_token_ids : optional
        Instead of the tokenizer's: needed for ``mlm`` without one (``special_token_ids`` unless
        features have ``special_tokens_mask``).

    Raises
    ------
    ValueError, TypeError, OverflowError
        As :class:`DataCollatorWithPadding`; when a probability is outside [0, 1], or two add up to
        more than 1; and when ``mlm`` has no mask token.

    Notes
    -----
    Masks have the same distribution as transformers', but come from another generator: equal seeds
    give equal masks on every platform, but not those of transformers. As in transformers, features
    may be bare rows instead of dicts, and then no attention mask is made. Labels of the features
    are replaced.

    Examples
    --------
    >>> from tightbatch.huggingface import DataCollatorForLanguageModeling
    >>> collate = DataCollatorForLanguageModeling(mlm=False, pad_token_id=0, return_tensors="np")
    >>> collate([{"input_ids": [5, 6]}, {"input_ids": [7]}])["labels"].tolist()
    [[5, 6], [7, -100]]
    """

    tokenizer: Any = None
    mlm: bool = True
    whole_word_mask: bool = False
    mlm_probability: float | None = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    pad_to_multiple_of: int | None = None
    return_tensors: Tensors = "pt"
    seed: int | None = None
    _: KW_ONLY
    pad_token_id: int | None = None
    padding_side: Side | None = None
    mask_token_id: int | None = None
    vocab_size: int | None = None
    special_token_ids: Any = None
    _calls: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the settings, with what the tokenizer adds to them."""
        function = type(self).__name__
        for name in ("mlm", "whole_word_mask"):
            _core.read_flag(function, name, getattr(self, name))
        for name in ("mask_replace_prob", "random_replace_prob"):
            _core.read_real(function, name, getattr(self, name), 0, 1)
        if self.seed is not None:
            _core.read_int(function, "seed", self.seed, 0, 2**64 - 1)
        check_settings(self, self.return_tensors)
        if self.mlm:
            self._check_masking(function)
        elif self.whole_word_mask:
            raise ValueError(f"{function}(): whole_word_mask=True needs mlm=True")
        if self.mask_replace_prob + self.random_replace_prob > 1:
            raise ValueError(
                f"{function}(): mask_replace_prob and random_replace_prob add up to more than 1"
            )
        if self.whole_word_mask and self.mask_replace_prob < 1:
            warnings.warn(
                "whole_word_mask=True replaces words by the mask token only: "
                "mask_replace_prob is set to 1.",
                stacklevel=3,
            )
            self.mask_replace_prob, self.random_replace_prob = 1, 0

    def _check_masking(self, function: str) -> None:
        mask, vocabulary, _ = self._vocabulary()
        if mask is None:
            raise ValueError(
                f"{function}(): mlm=True needs a mask token, but there is none; pass mlm=False for "
                "causal language modelling"
            )
        if self.mlm_probability is None:
            raise ValueError(f"{function}(): mlm_probability=None; expected a number from 0 to 1")
        _core.read_real(function, "mlm_probability", self.mlm_probability, 0, 1)
        if vocabulary is None and self.random_replace_prob > 0:
            raise ValueError(f"{function}(): random tokens need vocab_size= or a tokenizer")

    def _vocabulary(self) -> tuple[int | None, int | None, Any]:
        """Give mask token, size and special tokens: as given, or else the tokenizer's."""
        mask, size, special = self.mask_token_id, self.vocab_size, self.special_token_ids
        if self.tokenizer is not None:
            mask = self.tokenizer.mask_token_id if mask is None else mask
            size = len(self.tokenizer) if size is None else size
            special = self.tokenizer.all_special_ids if special is None else special
        return mask, size, special

    def __call__(self, features: Any, return_tensors: Tensors | None = None) -> Any:
        """Collate features into a batch."""
        function, tensors = (
            type(self).__name__,
            self.return_tensors if return_tensors is None else return_tensors,
        )
        bare = not isinstance(features, Samples) and _is_bare(features)
        columns = {"input_ids": features} if bare else columns_of(function, features)[0]
        padding = features_of(self, columns, tensors)
        if bare:
            padding.makes_mask = False
            lengths = row_lengths(function, features)
            multiple = self.pad_to_multiple_of
            padding.pads = bool((lengths != lengths[0]).any()) or (
                multiple is not None and bool(lengths[0] % multiple)
            )
        offsets = columns.get("offset_mapping") if self.mlm and self.whole_word_mask else None
        padding.add_inputs(skipped=("offset_mapping", "labels"))
        if offsets is not None:
            settings = ColumnSettings(0, "int64", pad_to_multiple_of=self.pad_to_multiple_of)
            padding.add("offset_mapping", offsets, "rows", settings)
        values, block = (
            self._with_masks(padding) if self.mlm else self._with_copies(padding, columns)
        )
        if not bare:
            order = dict.fromkeys((*columns, *values))  # labels of the features keep their position
            values = {key: values[key] for key in order if key in values}
            return build(encoding(), values, block)
        return build(dict, _as_given(values, features[0], tensors), block)

    def _with_copies(self, padding: Features, columns: dict[Any, Any]) -> Any:
        """Label each token with itself, and padding with -100."""
        given = columns.get("attention_mask")
        real = padding.makes_mask if given is None else not is_matrix(given)
        extras = (
            (("like_main",), ("labels",)) if real else (("like_main", "mask"), ("labels", "real"))
        )
        values, block = padding.finish(*extras)
        values.pop("special_tokens_mask", None)
        labels = values["labels"] = values.pop("labels")  # after the mask, as in transformers
        mask = np.asarray(values["attention_mask"] if real else values.pop("real"))
        if mask.dtype != np.int64:
            mask = (mask != 0).astype(np.int64)
        pad = padding.pad_token_id
        if self.tokenizer is None or pad == self.tokenizer.eos_token_id:
            pad = None  # it may be the end-of-sequence token, which must be learned
        ids = _token_array(padding, values)
        _core.label_tokens(padding.function, ids, mask, pad, np.asarray(labels))
        return values, block

    def _with_masks(self, padding: Features) -> Any:
        """Hide tokens, and label those that are hidden."""
        values, block = padding.finish(("like_main", "mask"), ("labels", "real"))
        labels = values["labels"] = values.pop("labels")  # after the mask, as in transformers
        real = np.asarray(values.pop("real")) != 0
        special_mask = values.pop("special_tokens_mask", None)
        offsets = values.pop("offset_mapping", None)
        ids = _token_array(padding, values)
        mask_token, size, special_ids = self._vocabulary()
        if special_mask is None:
            special = self._special(ids, special_ids)
        else:
            special = np.asarray(special_mask) != 0
        special = special | ~real
        kinds = (~special).view(np.uint8)
        if self.whole_word_mask:
            if offsets is None:
                raise ValueError(
                    f"{padding.function}(): whole_word_mask=True needs the features' "
                    "offset_mapping; call the tokenizer with return_offsets_mapping=True"
                )
            kinds = _word_kinds(special, np.asarray(offsets))
        seed, call = self._next_seed(padding.return_tensors)
        _core.mask_tokens(
            padding.function,
            ids,
            kinds,
            np.asarray(labels),
            self.mlm_probability,
            self.mask_replace_prob,
            self.random_replace_prob,
            mask_token,
            size,
            seed,
            call,
        )
        return values, block

    def _special(self, ids: Any, special_ids: Any) -> Any:
        """Tell which tokens are special."""
        if special_ids is None:
            raise ValueError(
                f"{type(self).__name__}(): which tokens are special? Give the tokenizer, "
                "special_token_ids= or features with special_tokens_mask"
            )
        special = read_ids(type(self).__name__, "special_token_ids", special_ids)
        largest = int(special.max(initial=-1))
        if largest > LARGEST_IN_TABLE:
            return np.isin(ids, special)
        table = np.zeros(largest + 2, np.bool_)
        table[special] = True
        return table[np.clip(ids, -1, len(table) - 1)]  # the last entry is for no token: False

    def _next_seed(self, tensors: str) -> tuple[int, int]:
        """Give the seed and the number of this call."""
        self._calls += 1
        if self.seed is None:
            if tensors == "np":
                return int(np.random.randint(0, 2**63 - 1, dtype=np.int64)), 0  # noqa: NPY002 as transformers
            import torch

            return int(torch.randint(2**63 - 1, ()).item()), 0
        worker = 0
        if "torch" in sys.modules:
            from torch.utils.data import get_worker_info

            info = get_worker_info()
            worker = 0 if info is None else info.id
        return (self.seed + worker) % 2**64, self._calls


def _token_array(padding: Features, values: dict[Any, Any]) -> Any:
    """Give the padded input as an array; it must be tokens: int64, one at each position."""
    ids = np.asarray(values[padding.main])
    if ids.dtype != np.int64 or ids.ndim != 2:
        raise TypeError(
            f"{padding.function}(): key {padding.main!r}: {ids.dtype} of {ids.ndim} dimensions; "
            "expected tokens: integers in one dimension a row"
        )
    return ids


def _is_bare(features: Any) -> bool:
    """Tell whether features are rows of tokens instead of dicts."""
    if not isinstance(features, (list, tuple)) or len(features) == 0:
        return False
    return not is_record(features[0]) and not is_batch(features[0])


def _as_given(values: dict[Any, Any], first: Any, tensors: str) -> dict[Any, Any]:
    """Give the result the integer type of bare tensors (with NumPy, of bare arrays)."""
    keeps = not isinstance(first, (list, tuple)) and (
        tensors == "np" or not isinstance(first, np.ndarray)
    )
    if not keeps or not hasattr(first, "dtype") or str(first.dtype).endswith("int64"):
        return values
    if tensors == "np":
        dtype = np.asarray(first).dtype
        return {key: value.astype(dtype) for key, value in values.items()}
    return {key: value.to(first.dtype) for key, value in values.items()}


def _word_kinds(special: Any, offsets: Any) -> Any:
    """Mark the tokens that begin a word (1), continue one (2) or are special (0).

    A word begins at a token whose characters do not directly follow those of the token before, or
    after a special token.
    """
    ends = np.roll(offsets[:, :, 1], 1, axis=1)
    ends[:, 0] = -1
    after_special = np.roll(special, 1, axis=1)
    after_special[:, 0] = False
    begins = (offsets[:, :, 0] != ends) | after_special
    return np.where(special, 0, np.where(begins, 1, 2)).astype(np.uint8)
