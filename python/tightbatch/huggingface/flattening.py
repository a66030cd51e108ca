"""DataCollatorWithFlattening: batches without padding."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from .. import _core
from .._types import Tensors
from ..collate.columns import (
    Collator,
    ColumnSettings,
    ColumnSpec,
    build,
    flatten_columns,
)
from ..collate.packs import SAY_LENGTHS, refuse_joined
from ..collate.samples import columns_of
from ._features import check_settings

__all__ = ["DataCollatorWithFlattening"]

# Settings that transformers' collator does not have.
NOT_ASKED = {
    "max_tokens": None,
    "max_segments": None,
    "max_seqlen": None,
    "pad_to_multiple_of": None,
    "segment_multiple_of": None,
    "max_length": None,
    "truncation_side": "right",
    "return_num_items": False,
}
PLAIN = ColumnSettings()


@dataclass(repr=False)
class DataCollatorWithFlattening(Collator):
    """Put all rows one after another, without padding: shape (1, total).

    Keys are ``input_ids``, ``labels`` and, if asked for, ``position_ids``, ``seq_idx``,
    ``cu_seq_lens_q``, ``cu_seq_lens_k`` (int32), ``max_length_q``, ``max_length_k`` (int). There is
    no attention mask, because with a mask, models attend across rows. For the same reason
    ``use_cache`` is there, False. Other columns are left out, as in transformers, but
    ``seq_lengths``, a list of lengths for each row, says that rows are packs: then each length is a
    row of its own here, unless it is 0.

    Parameters
    ----------
    return_tensors : {"pt", "np"}
        torch tensors or NumPy arrays.
    return_position_ids : bool
        Number the tokens of each row from ``position_ids_start``.
    separator_id : int
        The label of each row's first token, because no token of its row predicts it.
    return_flash_attn_kwargs : bool
        Add where rows begin and end, for FlashAttention.
    return_seq_idx : bool
        Add the row of each token, from 0, int32.
    position_ids_start : int
        The position of the first token, for example 2 for RoBERTa.
    return_use_cache : bool
        Add ``use_cache``.

    Raises
    ------
    ValueError, TypeError, OverflowError
        When there are no features or no ``input_ids``, when labels and inputs differ in length,
        when ``seq_lengths`` do not add up to the row's length, when a column of another name says
        that rows are packs (``seq_lens``, or ``position_ids`` that begin again), and as
        :class:`tightbatch.PadCollator`; messages name key, row and column.

    Examples
    --------
    >>> from tightbatch.huggingface import DataCollatorWithFlattening
    >>> batch = DataCollatorWithFlattening("np")([{"input_ids": [5, 6]}, {"input_ids": [7]}])
    >>> batch.pop("use_cache")
    False
    >>> {key: value.tolist() for key, value in batch.items()}
    {'input_ids': [[5, 6, 7]], 'labels': [[-100, 6, -100]], 'position_ids': [[0, 1, 0]]}
    """

    return_tensors: Tensors = "pt"
    _: KW_ONLY
    return_position_ids: bool = True
    separator_id: int = -100
    return_flash_attn_kwargs: bool = False
    return_seq_idx: bool = False
    position_ids_start: int = 0
    return_use_cache: bool = True

    def __post_init__(self) -> None:
        """Check the settings; what is set later is checked at the next batch."""
        check_settings(self, self.return_tensors)
        _core.check_padding_free(type(self).__name__, self._asked())

    def __call__(
        self, features: Any, return_tensors: Tensors | None = None, separator_id: int | None = None
    ) -> dict[str, Any]:
        """Collate features into a batch."""
        function = type(self).__name__
        tensors = self.return_tensors if return_tensors is None else return_tensors
        check_settings(self, tensors)
        separator = self.separator_id if separator_id is None else separator_id
        _core.read_int(function, "separator_id", separator, -(2**63), 2**63 - 1)
        columns, _ = columns_of(function, features)
        if "input_ids" not in columns:
            raise ValueError(
                f"{function}(): the features have no 'input_ids', but {_core.show(list(columns))}"
            )
        if "seq_lengths" not in columns:
            refuse_joined(function, columns, SAY_LENGTHS)
        labels = columns.get("labels")
        specs: list[ColumnSpec] = [
            ("input_ids", columns["input_ids"], "main", ColumnSettings(0, "int64")),
            (
                "labels",
                labels,
                "labels_of_main" if labels is None else "labels",
                ColumnSettings(separator, "int64"),
            ),
        ]
        packed = "seq_lengths" in columns
        if packed:
            specs.append(("seq_lengths", columns["seq_lengths"], "seq_lengths", PLAIN))
        extras = self._extras()
        values, block, longest, _ = flatten_columns(
            function,
            specs,
            self._asked(),
            tuple(extras.values()),
            ["input_ids", "labels", *extras],
            tensors,
            keep_empty=not packed,
        )
        if self.return_flash_attn_kwargs:
            values["max_length_q"] = values["max_length_k"] = longest
        if self.return_use_cache:
            values["use_cache"] = False
        return build(dict, values, block)  # type: ignore[no-any-return]

    def _asked(self) -> dict[str, Any]:
        return {**NOT_ASKED, "position_ids_start": self.position_ids_start}

    def _extras(self) -> dict[str, str]:
        """Give the extras that were asked for, by their names in the batch and in C."""
        extras = {}
        if self.return_position_ids:
            extras["position_ids"] = "position_ids"
        if self.return_seq_idx:
            extras["seq_idx"] = "seq_idx"
        if self.return_flash_attn_kwargs:
            extras |= {"cu_seq_lens_q": "cu_seqlens", "cu_seq_lens_k": "cu_seqlens"}
        return extras
