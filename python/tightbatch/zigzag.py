"""context_parallel: each segment's tokens shared out among ranks, as Megatron and torch do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._words import counted
from .masks import cu_seqlens
from .ragged import Ragged

__all__ = ["ContextParallel", "context_parallel"]

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Where:
    """What messages name: a public function, and two of its parameters."""

    function: str
    of_values: str
    of_fill: str

    @property
    def values(self) -> str:
        """Begin a message about the values."""
        return f"{self.function}(): {self.of_values}"

    @property
    def fill(self) -> str:
        """Begin a message about what padding is filled with."""
        return f"{self.function}(): {self.of_fill}"


@dataclass(frozen=True, eq=False)
class ContextParallel:
    """Which tokens each rank has: the result of :func:`context_parallel`.

    Each segment is padded to a multiple of ``2 * num_ranks`` and cut into as many chunks. Rank r
    has chunks r and ``2 * num_ranks - 1 - r`` of every segment. Under a causal mask a late token
    costs more than an early one, so this gives all ranks the same work.

    Attributes
    ----------
    lengths : ndarray of int64, shape [segments]
        The tokens of each segment.
    padded_lengths : ndarray of int64, shape [segments]
        The same with padding.
    num_ranks : int
        The ranks of context parallelism.

    Examples
    --------
    >>> import tightbatch as tb
    >>> shares = tb.context_parallel([4, 6], 2)
    >>> shares.indices(0).tolist(), shares.indices(1).tolist()
    ([0, 3, 4, 5, 10, 11], [1, 2, 6, 7, 8, 9])
    """

    lengths: Array
    padded_lengths: Array
    num_ranks: int

    @cached_property
    def total(self) -> int:
        """Tokens of all segments."""
        return int(self.lengths.sum())

    @cached_property
    def padded_total(self) -> int:
        """The same with padding: the ranks have equal shares of these."""
        return int(self.padded_lengths.sum())

    @property
    def cu_seqlens(self) -> NDArray[np.int32]:
        """Where segments begin without padding, int32 [segments + 1]."""
        return cu_seqlens(self.lengths)

    @property
    def cu_seqlens_padded(self) -> NDArray[np.int32]:
        """Where padded segments begin, int32 [segments + 1]: of all ranks together.

        Megatron-LM and TransformerEngine take this one, and divide it themselves.
        """
        return cu_seqlens(self.padded_lengths)

    @property
    def rank_cu_seqlens(self) -> NDArray[np.int32]:
        """Where segments begin in a rank's share, int32 [segments + 1]; the same for all ranks."""
        return cu_seqlens(self.padded_lengths // self.num_ranks)

    def indices(self, rank: int) -> Array:
        """Give the tokens of a rank.

        Parameters
        ----------
        rank : int
            From 0 to ``num_ranks - 1``.

        Returns
        -------
        int64 ndarray [padded_total / num_ranks]
            Where each token of its share is among all padded segments.

        Raises
        ------
        ValueError, TypeError
            When there is no such rank.
        """
        rank = self._read_rank("ContextParallel.indices", rank)
        return _core.zigzag_places(self.lengths, self.num_ranks, rank, False)

    def position_ids(self, rank: int) -> Array:
        """Give the position of each token of a rank in its segment.

        Parameters
        ----------
        rank : int
            From 0 to ``num_ranks - 1``.

        Returns
        -------
        int64 ndarray [padded_total / num_ranks]

        Raises
        ------
        ValueError, TypeError
            When there is no such rank.

        Examples
        --------
        >>> import tightbatch as tb
        >>> tb.context_parallel([4, 6], 2).position_ids(0).tolist()
        [0, 3, 0, 1, 6, 7]
        """
        rank = self._read_rank("ContextParallel.position_ids", rank)
        return _core.zigzag_places(self.lengths, self.num_ranks, rank, True)

    def shard(self, values: Any, rank: int, *, padding_value: float = 0) -> Any:
        """Take a rank's share of what has one item for each token.

        Parameters
        ----------
        values : Ragged, ndarray or tensor, shape [total, ...] or [padded_total, ...]
            The tokens of all segments, without the padding or with it.
        rank : int
            From 0 to ``num_ranks - 1``.
        padding_value : number
            What padding is filled with, if it is not there yet.

        Returns
        -------
        ndarray or tensor, shape [padded_total / num_ranks, ...]
            A tensor for a tensor, on its device; gradients go through it.

        Raises
        ------
        ValueError
            When the number of tokens differs, a segment of a Ragged has another length, there is no
            such rank, or `padding_value` does not fit.
        TypeError
            When `values` is something else.

        Examples
        --------
        >>> import numpy as np, tightbatch as tb
        >>> shares = tb.context_parallel([4, 6], 2)
        >>> shares.shard(np.arange(10), 0, padding_value=-1).tolist()
        [0, 3, 4, 5, -1, -1]
        """
        where = Where("ContextParallel.shard", "values", "padding_value")
        return self._share(where, values, rank, padding_value, shift=False)

    def shard_labels(self, labels: Any, rank: int, *, ignore_index: int = -100) -> Any:
        """Take a rank's share of labels, each moved to the token that predicts it.

        Shift labels before they are shared out: in a rank's share the next token in memory is
        often not the next one of the text. These are the labels of ``shift_labels=`` of
        transformers' models, and of a plain cross entropy.

        Parameters
        ----------
        labels : Ragged, ndarray or tensor, shape [total] or [padded_total]
            Not shifted: the label of each token is the token itself, or `ignore_index`.
        rank : int
            From 0 to ``num_ranks - 1``.
        ignore_index : int
            The label of the last token of each segment, and of padding.

        Returns
        -------
        ndarray or tensor, shape [padded_total / num_ranks]

        Raises
        ------
        ValueError, TypeError
            As for `shard`.

        Examples
        --------
        >>> import numpy as np, tightbatch as tb
        >>> tb.context_parallel([4], 2).shard_labels(np.array([5, 6, 7, 8]), 0).tolist()
        [6, -100]
        """
        where = Where("ContextParallel.shard_labels", "labels", "ignore_index")
        ignored = _core.read_int(where.function, "ignore_index", ignore_index, -(2**63), 2**63 - 1)
        return self._share(where, labels, rank, ignored, shift=True)

    def restore(self, shares: Any, *, padded: bool = False) -> Any:
        """Put the shares of all ranks together: the inverse of `shard`.

        Parameters
        ----------
        shares : list or tuple of ndarray or tensor, shape [padded_total / num_ranks, ...] each
            What each rank has, as ``torch.distributed.all_gather`` gives it.
        padded : bool
            Keep the padding.

        Returns
        -------
        ndarray or tensor, shape [total, ...], or [padded_total, ...]

        Raises
        ------
        ValueError
            When there are not as many shares as ranks, or one has another shape.
        TypeError
            When shares are not arrays or tensors of one type.

        Examples
        --------
        >>> import numpy as np, tightbatch as tb
        >>> shares = tb.context_parallel([4, 6], 2)
        >>> shares.restore([shares.shard(np.arange(10), rank) for rank in range(2)]).tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        """
        function = "ContextParallel.restore"
        padded = _core.read_flag(function, "padded", padded)
        if not isinstance(shares, (list, tuple)):
            raise TypeError(
                f"{function}(): shares={_core.describe(shares)}; expected a list with the share of "
                "each rank"
            )
        if len(shares) != self.num_ranks:
            raise ValueError(
                f"{function}(): shares has {counted(len(shares), 'item')}, expected "
                f"{self.num_ranks}: one of each rank"
            )
        self._check_shares(function, shares)
        if isinstance(shares[0], np.ndarray):
            arrays = tuple(map(_in_plain_memory, shares))
            return _core.zigzag_put(self.lengths, self.num_ranks, padded, arrays)
        import torch

        places = [self.indices(rank) for rank in range(self.num_ranks)]
        order = np.empty(self.padded_total, np.int64)
        order[np.concatenate(places)] = np.arange(self.padded_total)
        if not padded:
            order = order[self._real_places()]
        joined = torch.cat(list(shares))
        return joined.index_select(0, torch.from_numpy(order).to(joined.device))

    def _check_shares(self, function: str, shares: Sequence[Any]) -> None:
        first = shares[0]
        size = self.padded_total // self.num_ranks
        for rank, share in enumerate(shares):
            if not isinstance(share, np.ndarray) and not _is_tensor(share):
                raise TypeError(
                    f"{function}(): shares[{rank}]={_core.describe(share)}; expected an array or "
                    "tensor"
                )
            if isinstance(share, np.ndarray) and share.dtype.hasobject:
                raise TypeError(f"{function}(): shares[{rank}] has dtype object; expected numbers")
            kind = (type(share), share.dtype, tuple(share.shape[1:]))
            if kind != (type(first), first.dtype, tuple(first.shape[1:])):
                raise TypeError(
                    f"{function}(): shares[{rank}] has type {share.dtype} and shape "
                    f"{tuple(share.shape)}, shares[0] has {first.dtype} and {tuple(first.shape)}; "
                    "expected shares of one type and shape"
                )
            if not share.ndim or len(share) != size:
                raise ValueError(
                    f"{function}(): shares[{rank}] has shape {tuple(share.shape)}; expected "
                    f"{counted(size, 'token')}"
                )

    def _real_places(self) -> Array:
        """Where tokens are among padded segments, [total]."""
        moved = np.cumsum(self.padded_lengths - self.lengths) - (self.padded_lengths - self.lengths)
        places: Array = np.arange(self.total) + np.repeat(moved, self.lengths)
        return places

    def _read_rank(self, function: str, rank: Any) -> int:
        return read_rank(function, rank, self.num_ranks)

    def _share(self, where: Where, values: Any, rank: Any, fill: Any, *, shift: bool) -> Any:
        """Do what `shard` and `shard_labels` do; errors say `where`."""
        rank = read_rank(where.function, rank, self.num_ranks)
        if isinstance(values, Ragged):
            values = self._tokens_of(where, values)
        if not isinstance(values, np.ndarray) and not _is_tensor(values):
            raise TypeError(
                f"{where.values}={_core.describe(values)}; expected a Ragged, an array or a tensor "
                "with an item for each token"
            )
        size = len(values) if values.ndim else 0
        if not values.ndim or size not in (self.total, self.padded_total):
            raise ValueError(
                f"{where.values} has shape {tuple(values.shape)}; expected {self.total} tokens, or "
                f"{self.padded_total} with padding"
            )
        is_padded = size != self.total
        fill = _read_fill(where, values, fill)
        if isinstance(values, np.ndarray):
            return self._take(values, rank, is_padded, fill, shift)
        return self._take_tensor(values, rank, is_padded, fill, shift)

    def _take(
        self, values: NDArray[Any], rank: int, is_padded: bool, fill: NDArray[Any], shift: bool
    ) -> NDArray[Any]:
        values, fill = _in_plain_memory(values), _in_plain_memory(fill)
        return _core.zigzag_take(self.lengths, self.num_ranks, rank, is_padded, values, fill, shift)

    def _take_tensor(self, values: Any, rank: int, is_padded: bool, fill: Any, shift: bool) -> Any:
        """Take the places by the core, and the items by torch: on any device, with gradients."""
        import torch

        places = np.arange(self.padded_total if is_padded else self.total)
        none = np.full(1, -1, np.int64)
        chosen = torch.from_numpy(self._take(places, rank, is_padded, none, shift))
        if not len(values):
            return values.new_zeros((0, *values.shape[1:]))
        chosen = chosen.to(values.device)
        taken = values.index_select(0, chosen.clamp(min=0))
        return taken.masked_fill((chosen < 0).reshape(-1, *[1] * (values.ndim - 1)), fill)

    def _tokens_of(self, where: Where, rows: Ragged) -> NDArray[Any]:
        if len(rows) != len(self.lengths) or (rows.lengths != self.lengths).any():
            raise ValueError(
                f"{where.values} is a Ragged of other lengths; expected {len(self.lengths)} rows "
                "of the lengths that were given"
            )
        return rows.compact().values

    def __repr__(self) -> str:
        """Show the segments, the ranks and the padding."""
        segments, ranks = counted(len(self.lengths), "segment"), counted(self.num_ranks, "rank")
        padding = self.padded_total - self.total
        return (
            f"<ContextParallel of {segments} for {ranks}: "
            f"{self.padded_total // self.num_ranks} tokens each, {padding} of all are padding>"
        )


def context_parallel(lengths: Any, num_ranks: int, *, pad: bool = True) -> ContextParallel:
    """Share out the tokens of segments among the ranks of context parallelism.

    Each segment is padded to a multiple of ``2 * num_ranks`` and cut into as many chunks; rank r
    has chunks r and ``2 * num_ranks - 1 - r``, as in Megatron-LM and in torch.

    Parameters
    ----------
    lengths : sequence of int, ndarray or CPU tensor, shape [segments]
        The tokens of each segment: the differences of ``cu_seqlens``, or one width for a padded
        batch.
    num_ranks : int
        How many ranks share a segment, ``cp_size``.
    pad : bool
        False: the lengths must be multiples of ``2 * num_ranks`` already.

    Returns
    -------
    ContextParallel

    Raises
    ------
    ValueError
        When a length is negative; without `pad`, when one is no such multiple (the message names
        the segment); when `num_ranks` is below 1.
    TypeError
        When lengths are not integers in one dimension (bools are refused), or an option has another
        type.
    OverflowError
        When all segments with their padding do not fit into 64 bits.

    Examples
    --------
    >>> import tightbatch as tb
    >>> shares = tb.context_parallel([4, 6], 2)
    >>> shares
    <ContextParallel of 2 segments for 2 ranks: 6 tokens each, 2 of all are padding>
    >>> shares.cu_seqlens_padded.tolist(), shares.rank_cu_seqlens.tolist()
    ([0, 4, 12], [0, 2, 6])
    """
    function = "context_parallel"
    num_ranks = _core.read_int(function, "num_ranks", num_ranks, 1, 2**62)
    pad = _core.read_flag(function, "pad", pad)
    given = _core.read_counts(function, "lengths", lengths)
    padded = _core.zigzag_lengths(given, num_ranks)
    if not pad and (padded != given).any():
        row = int((padded != given).argmax())
        raise ValueError(
            f"{function}(): lengths, row {row}: length {given[row]} is no multiple of "
            f"{2 * num_ranks}, 2 * num_ranks; pass pad=True, or segment_multiple_of="
            f"{2 * num_ranks} to PaddingFreeCollator"
        )
    return ContextParallel(given, padded, num_ranks)


def read_rank(function: str, rank: Any, num_ranks: int) -> int:
    """Read a rank, from 0 to num_ranks - 1."""
    read = _core.read_int(function, "rank", rank, 0, 2**63 - 1)
    if read >= num_ranks:
        raise ValueError(
            f"{function}(): rank={read} with num_ranks={num_ranks}; expected 0 to {num_ranks - 1}"
        )
    return read


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "torch" and hasattr(value, "index_select")


def _in_plain_memory(array: NDArray[Any]) -> NDArray[Any]:
    """Give an array in this machine's byte order, one row after another."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _read_fill(where: Where, values: Any, fill: Any) -> Any:
    """Check a number that fills padding: for an array give one item of it, else the number."""
    if not isinstance(fill, (bool, int, float, np.number, np.bool_)):
        raise TypeError(f"{where.fill}={_core.describe(fill)}; expected a number")
    is_array = isinstance(values, np.ndarray)
    if is_array and values.dtype.kind in "OV" and values.dtype.names is not None:
        raise TypeError(f"{where.values} has a structured dtype; expected numbers")
    if is_array and values.dtype.hasobject:
        raise TypeError(f"{where.values} has dtype object; expected numbers")
    held: Any = None
    try:
        with np.errstate(all="ignore"):
            item = np.full((1, *values.shape[1:]), fill, values.dtype) if is_array else None
            held = np.full(1, fill, values.dtype)[0] if is_array else values.new_tensor(fill).item()
    except (OverflowError, ValueError, TypeError, RuntimeError):
        item = None
    if held is None or not _is_kept(held, fill):
        raise ValueError(
            f"{where.fill}={_core.show(fill)} does not fit into {values.dtype}; expected a number "
            "that it holds"
        )
    return item if is_array else fill


def _is_kept(held: Any, fill: Any) -> bool:
    """Tell whether a number was kept; floats may be rounded."""
    if isinstance(held, (float, np.floating)):
        return bool(np.isfinite(held)) or not np.isfinite(fill)
    return bool(held == fill)
