"""shard_batch: a rank's share of a padding-free batch, for context parallelism."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..zigzag import ContextParallel, Where, context_parallel, read_rank
from .batch import Batch

__all__ = ["shard_batch"]

NAME = "shard_batch"
# Boundaries, by naming; those with padding first, for they say how tokens lie in memory.
_BOUNDARIES = (
    "cu_seqlens_q_padded",
    "cu_seqlens_kv_padded",
    "cu_seq_lens_q",
    "cu_seq_lens_k",
    "cu_seqlens_q",
    "cu_seqlens_k",
    "cu_seq_q",
    "cu_seq_k",
)
_TOKENS_ONLY = ("cu_seqlens_q", "cu_seqlens_kv")  # beside those with padding: of tokens alone
_LONGEST = (
    "max_length_q",
    "max_length_k",
    "max_seqlen_q",
    "max_seqlen_k",
    "max_seqlen_kv",
    "max_q",
    "max_k",
)
_LABELS = ("labels", "shift_labels")


def shard_batch(
    batch: Mapping[str, Any],
    num_ranks: int,
    rank: int,
    *,
    padding_value: float = 0,
    ignore_index: int = -100,
) -> dict[str, Any]:
    """Take a rank's share of a padding-free batch, for context parallelism.

    Each segment is shared out as :func:`context_parallel` does it. What has a value for each token,
    of shape ``[1, total, ...]``, becomes ``[1, padded_total / num_ranks, ...]``; all else stays.

    Parameters
    ----------
    batch : dict
        As :class:`PaddingFreeCollator` makes it, in any `naming`. With its ``segment_multiple_of=``
        of ``2 * num_ranks``, or a multiple, nothing more is padded here.
    num_ranks : int
        How many ranks share a segment.
    rank : int
        From 0 to ``num_ranks - 1``.
    padding_value : number
        What padding of other columns than those below is filled with: the ``pad_token_id``.
    ignore_index : int
        The label of padding, and of the last token of each segment.

    Returns
    -------
    dict
        A :class:`Batch` for a Batch. ``shift_labels`` are made of ``labels``, at each token the
        label of the next one, unless the batch has them. Use these for the loss: in a share the
        next token in memory is often not the next one of the text, so ``labels`` cannot be shifted
        any more. transformers' models take both.

        ``position_ids`` are the places in the whole segment; they and ``seq_idx`` go on in padding.
        ``cu_seq_lens_q`` and its like are those of all ranks, with padding, as TransformerEngine
        takes them. ``rank_cu_seqlens``, int32, are the boundaries in the share, as
        ring-flash-attention takes them. ``num_items_in_batch`` is still that of the whole batch, so
        that losses divided by it add up to the loss of the whole.

    Raises
    ------
    ValueError
        When the batch has no boundaries, or they do not end where the tokens do; when it has an
        attention mask of two dimensions of tokens; when there is no such rank.
    TypeError
        When it is no mapping, or a number has another type.

    Examples
    --------
    >>> import tightbatch as tb
    >>> collate = tb.PaddingFreeCollator(return_tensors="np")
    >>> batch = collate([{"input_ids": [5, 6, 7, 8]}, {"input_ids": [1, 2]}])
    >>> share = tb.shard_batch(batch, 2, 1)
    >>> share["input_ids"].tolist(), share["shift_labels"].tolist()
    ([[6, 7, 2, 0]], [[7, 8, -100, -100]])
    >>> share["position_ids"].tolist(), share["cu_seq_lens_q"].tolist()
    ([[1, 2, 1, 2]], [0, 4, 8])
    """
    if not isinstance(batch, Mapping):
        raise TypeError(f"{NAME}(): batch={_core.describe(batch)}; expected a dict")
    num_ranks = _core.read_int(NAME, "num_ranks", num_ranks, 1, 2**62)
    rank = read_rank(NAME, rank, num_ranks)
    ignore_index = _core.read_int(NAME, "ignore_index", ignore_index, -(2**63), 2**63 - 1)
    edges = _find_boundaries(batch)
    shares = context_parallel(np.diff(edges), num_ranks)
    out = {
        key: _shard_value(shares, rank, key, value, padding_value, ignore_index)
        for key, value in batch.items()
    }
    if "labels" in batch and "shift_labels" not in batch and _has_tokens(batch["labels"], shares):
        flat = batch["labels"][0]
        where = Where(NAME, "batch['labels']", "ignore_index")
        out["shift_labels"] = shares._share(where, flat, rank, ignore_index, shift=True)[None]
    _write_boundaries(out, shares)
    return Batch(out) if isinstance(batch, Batch) else out


def _find_boundaries(batch: Mapping[str, Any]) -> NDArray[np.int64]:
    name = next((name for name in _BOUNDARIES if name in batch), None)
    if name is None:
        raise ValueError(
            f"{NAME}(): batch has no boundaries of segments; expected one of "
            f"{', '.join(_BOUNDARIES)}, as PaddingFreeCollator gives them; for other batches use "
            "context_parallel(lengths)"
        )
    given = batch[name]
    edges = _core.read_counts(NAME, name, given.cpu() if hasattr(given, "cpu") else given)
    if not len(edges) or edges[0] != 0 or (np.diff(edges) < 0).any():
        raise ValueError(f"{NAME}(): key {name!r}: expected numbers that rise from 0")
    tokens = batch.get("input_ids", batch.get("inputs_embeds"))
    shape = tuple(getattr(tokens, "shape", (1, edges[-1])))
    if len(shape) < 2 or shape[0] != 1 or shape[1] != edges[-1]:
        raise ValueError(
            f"{NAME}(): key {name!r} ends at {edges[-1]}, but the tokens have shape {shape}; "
            f"expected (1, {edges[-1]})"
        )
    return edges


def _has_tokens(value: Any, shares: ContextParallel) -> bool:
    shape: tuple[int, ...] = tuple(getattr(value, "shape", ()))
    return len(shape) > 1 and shape[0] == 1 and shape[1] == shares.total


def _shard_value(
    shares: ContextParallel, rank: int, key: str, value: Any, padding: float, ignored: int
) -> Any:
    if key == "attention_mask" and len(getattr(value, "shape", ())) > 2:
        raise ValueError(
            f"{NAME}(): key 'attention_mask' has shape {tuple(value.shape)}, a mask of queries and "
            "keys; expected none: attention over shares takes cu_seqlens"
        )
    if not _has_tokens(value, shares):
        return value
    flat = value[0]
    if key in _LABELS:
        where = Where(NAME, f"batch[{key!r}]", "ignore_index")
        return shares._share(where, flat, rank, ignored, shift=False)[None]
    if key not in ("position_ids", "seq_idx"):
        fill = 0 if key in ("attention_mask", "token_type_ids") else padding
        where = Where(NAME, f"batch[{key!r}]", "padding_value")
        return shares._share(where, flat, rank, fill, shift=False)[None]
    whole = _continue(shares, key, flat)
    return (flat[:0].new_tensor(whole) if hasattr(flat, "new_tensor") else whole)[
        shares.indices(rank)
    ][None]


def _continue(shares: ContextParallel, key: str, flat: Any) -> NDArray[Any]:
    """Positions and segment numbers of all padded tokens: those given, which go on in padding."""
    given = np.asarray(flat.cpu() if hasattr(flat, "cpu") else flat)
    ends = np.cumsum(shares.lengths)
    padding = shares.padded_lengths - shares.lengths
    padded = np.empty(shares.padded_total, given.dtype)
    real = np.zeros(shares.padded_total, bool)
    real[shares._real_places()] = True
    padded[real] = given
    after = np.arange(padding.sum()) - np.repeat(np.cumsum(padding) - padding, padding)
    last = np.repeat(given[np.maximum(ends - 1, 0)] if len(given) else given, padding)
    padded[~real] = last + after + 1 if key == "position_ids" else last
    return padded


def _write_boundaries(out: dict[str, Any], shares: ContextParallel) -> None:
    """Put in the boundaries with padding, and those of the share."""
    padded, longest = shares.cu_seqlens_padded, int(shares.padded_lengths.max(initial=0))
    like = None
    tokens_only = _TOKENS_ONLY if "cu_seqlens_q_padded" in out else ()
    for name in (*_BOUNDARIES, "cu_seqlens_kv"):
        if name in out and name not in tokens_only:
            like = out[name]
            out[name] = _as(like, padded)
    for name in _LONGEST:
        if name in out:
            out[name] = longest
    out["rank_cu_seqlens"] = _as(like, shares.rank_cu_seqlens)


def _as(like: Any, edges: NDArray[np.int32]) -> Any:
    return like.new_tensor(edges) if hasattr(like, "new_tensor") else edges
