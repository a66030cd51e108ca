"""DataCollatorWithFlattening: batches without padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..collate.columns import Spec, assemble, build
from ._features import columns_of, row_lengths

__all__ = ["DataCollatorWithFlattening"]


class DataCollatorWithFlattening:
    """Put all rows one after another, without padding: shape (1, total).

    Keys are ``input_ids``, ``labels``, and as asked ``position_ids``, ``seq_idx``, and
    ``cu_seq_lens_q``, ``cu_seq_lens_k`` (int32), ``max_length_q``, ``max_length_k`` (int). There
    is no attention mask: with one, models take the rows for a single sequence. Other columns are
    left out, as in transformers.

    Parameters
    ----------
    return_tensors : {"pt", "np"}
        torch tensors or NumPy arrays.
    return_position_ids : bool
        Number the tokens of each row from ``position_ids_start``.
    separator_id : int
        The label of each row's first token, which follows from nothing.
    return_flash_attn_kwargs : bool
        Where rows begin and end, for FlashAttention.
    return_seq_idx : bool
        The row of each token, from 0, int32.
    position_ids_start : int
        The first token's position: 2 for RoBERTa and its kin.

    Raises
    ------
    ValueError, TypeError, OverflowError
        For no features, no ``input_ids``, labels of other lengths than the inputs, and as
        :class:`tightbatch.PadCollator`; messages name key, row and column.

    Examples
    --------
    >>> from tightbatch.huggingface import DataCollatorWithFlattening
    >>> batch = DataCollatorWithFlattening("np")([{"input_ids": [5, 6]}, {"input_ids": [7]}])
    >>> {key: value.tolist() for key, value in batch.items()}
    {'input_ids': [[5, 6, 7]], 'labels': [[-100, 6, -100]], 'position_ids': [[0, 1, 0]]}
    """

    def __init__(
        self,
        return_tensors: str = "pt",
        *,
        return_position_ids: bool = True,
        separator_id: int = -100,
        return_flash_attn_kwargs: bool = False,
        return_seq_idx: bool = False,
        position_ids_start: int = 0,
    ) -> None:
        self.return_tensors = return_tensors
        self.return_position_ids = return_position_ids
        self.separator_id = separator_id
        self.return_flash_attn_kwargs = return_flash_attn_kwargs
        self.return_seq_idx = return_seq_idx
        self.position_ids_start = position_ids_start

    def __call__(
        self, features: Any, return_tensors: str | None = None, separator_id: int | None = None
    ) -> Any:
        """Collate features into a batch."""
        function, tensors = type(self).__name__, return_tensors or self.return_tensors
        if tensors not in ("pt", "np"):
            raise ValueError(f"{function}(): return_tensors={tensors!r}; expected 'pt' or 'np'")
        columns = columns_of(function, features)
        if "input_ids" not in columns:
            raise ValueError(f"{function}(): the features have no 'input_ids', but {list(columns)}")
        ids = columns["input_ids"]
        specs: list[Spec] = [
            (key, columns.get(key, ids), False, 0, "int64", None, None, None, like)
            for key, like in (("input_ids", -1), ("labels", 0))
        ]
        names, extras = ["input_ids", "labels"], []
        for asked, name, extra in (
            (self.return_position_ids, "position_ids", "position_ids"),
            (self.return_seq_idx, "seq_idx", "seq_idx"),
            (self.return_flash_attn_kwargs, "cu_seq_lens_q", "cu_seqlens"),
            (self.return_flash_attn_kwargs, "cu_seq_lens_k", "cu_seqlens"),
        ):
            if asked:
                names.append(name)
                extras.append(extra)
        sides = ("right", "right")
        values, block = assemble(function, specs, names, sides, 0, tuple(extras), tensors, True)
        lengths = row_lengths(function, ids)
        starts = np.cumsum(lengths) - lengths
        separator = self.separator_id if separator_id is None else separator_id
        values["labels"][0, starts[lengths > 0]] = separator
        if self.return_position_ids and self.position_ids_start:
            values["position_ids"] += self.position_ids_start
        if self.return_flash_attn_kwargs:
            values["max_length_q"] = values["max_length_k"] = int(lengths.max())
        return build(dict, values, block)
