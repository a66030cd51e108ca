"""Windows over documents that lie one after another, and chunks of long ones, without copying."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._words import counted
from .dataset import RaggedDataset
from .ragged import Ragged

__all__ = ["Chunks", "chunk", "windows"]

Array = NDArray[np.int64]
_ARRAYS = 4  # of a number for each window or chunk
HOW = ("mean", "first", "last", "max_context")


def windows(
    rows: Ragged,
    length: int,
    *,
    stride: int | None = None,
    drop_last: bool = False,
    column: str = "input_ids",
) -> RaggedDataset:
    """Lay windows of one length over documents that lie one after another, without copying.

    A window takes the tokens as they come, so it may begin and end within documents. The column
    ``seq_lengths`` says how many tokens it has of each: a padding-free collator then keeps the
    documents apart, and positions begin anew with each.

    Parameters
    ----------
    rows : Ragged
        Documents, each of which starts where the one before it ends, as
        :meth:`Ragged.from_tokens` and ``concatenate`` give them; also a slice of them.
    length : int
        Tokens of a window. For labels that the training loop shifts, one more than the model's.
    stride : int, optional
        From the start of a window to the start of the next; by default ``length``, and at most it.
        (What transformers' tokenizers call stride is the overlap, ``length - stride``.)
    drop_last : bool
        Whether to leave out the last window where it is shorter.
    column : str
        What the column of tokens is called.

    Returns
    -------
    RaggedDataset
        A sample for each window, whose tokens are views. No window lies in two files.

    Raises
    ------
    TypeError
        When ``rows`` is not a Ragged.
    MemoryError
        When the stride is so small that there is no memory for the windows, or their segments.
    ValueError
        When a row does not start where the one before it ends, or a number is out of range.

    Examples
    --------
    >>> import tightbatch as tb
    >>> rows = tb.Ragged.from_tokens([5, 6, 0, 7, 0, 8, 9, 0], end=0)
    >>> data = tb.windows(rows, 3)
    >>> data["input_ids"].tolist(), data["seq_lengths"].tolist()
    ([[5, 6, 0], [7, 0, 8], [9, 0]], [[3], [2, 1], [2]])
    """
    _check_ragged("windows", "rows", rows)
    length = _core.read_int("windows", "length", length, 1, 2**63 - 1)
    step = length if stride is None else _core.read_int("windows", "stride", stride, 1, 2**63 - 1)
    if step > length:
        raise ValueError(
            f"windows(): stride={step} is more than length={length}: tokens between windows would "
            "be left out; expected at most the length"
        )
    drop = _core.read_flag("windows", "drop_last", drop_last)
    if not isinstance(column, str):
        raise TypeError(f"windows(): column={_core.describe(column)}; expected a str")
    if column == "seq_lengths":
        raise ValueError(
            "windows(): column='seq_lengths'; expected another name: that column is there too"
        )
    ends = rows.starts + rows.lengths
    apart = np.flatnonzero(ends[:-1] != rows.starts[1:])
    if len(apart):
        row = int(apart[0]) + 1
        raise ValueError(
            f"windows(): row {row} starts at {rows.starts[row]}, expected {ends[row - 1]}, where "
            f"row {row - 1} ends: windows are views. rows.compact() lays the rows one after another"
        )
    begin, end = (int(rows.starts[0]), int(ends[-1])) if len(rows) else (0, 0)
    edges = np.clip(rows._bounds, begin, end)
    counts = [_count_steps(int(b - a), length, step, drop) for a, b in pairwise(edges)]
    _check_room("windows", sum(counts), "windows", "a larger stride=")
    parts = [a + step * np.arange(n) for a, n in zip(edges[:-1], counts, strict=True)]
    starts = np.concatenate(parts)
    stops = edges[1:][np.searchsorted(edges[1:], starts, side="right")] if len(starts) else starts
    lengths = np.minimum(length, stops - starts)
    segments, offsets = _core.window_segments(rows.starts, rows.lengths, starts, lengths)
    return RaggedDataset(
        {column: rows._with_rows(starts, lengths), "seq_lengths": Ragged(segments, offsets)}
    )


def _count_steps(size: int, length: int, step: int, drop: bool) -> int:
    """How many windows start in the positions of one file."""
    if drop or size == 0:
        return 0 if size < length else (size - length) // step + 1
    return 1 + max(0, -(-(size - length) // step))


def _check_room(function: str, count: int, what: str, fix: str) -> None:
    """Refuse what there is no memory for, before any of it is used."""
    try:
        np.empty((_ARRAYS, count), np.int64)
    except (MemoryError, ValueError):
        size = f"{8 * _ARRAYS * count / 1e9:,.0f} GB"
        raise MemoryError(
            f"{function}(): no memory for {count:,} {what}, which take {size}; pass {fix}"
        ) from None


@dataclass(frozen=True, eq=False)
class Chunks:
    """Chunks of documents: the result of :func:`chunk`.

    Attributes
    ----------
    rows : Ragged
        The chunks, document by document; views of the documents.
    indices : ndarray of int64, shape [chunks]
        The document of each chunk, as a tokenizer's ``overflow_to_sample_mapping``.
    starts : ndarray of int64, shape [chunks]
        Where in its document each chunk begins.
    offsets : ndarray of int64, shape [documents + 1]
        Document d has the chunks from ``offsets[d]`` up to ``offsets[d + 1]``.

    Examples
    --------
    >>> import tightbatch as tb
    >>> chunks = tb.chunk(tb.Ragged.from_sequences([[1, 2, 3, 4, 5], [6]]), 3, overlap=1)
    >>> chunks.rows.tolist(), chunks.indices, chunks.starts
    ([[1, 2, 3], [3, 4, 5], [6]], array([0, 0, 1]), array([0, 2, 0]))
    """

    rows: Ragged
    indices: Array
    starts: Array
    offsets: Array

    def __len__(self) -> int:
        """The number of chunks."""
        return len(self.indices)

    def __repr__(self) -> str:
        """Show how many chunks there are, of how many documents."""
        return f"<{counted(len(self), 'chunk')} of {counted(len(self.offsets) - 1, 'document')}>"

    @property
    def _ends(self) -> Array:
        """Where in its document each chunk ends."""
        ends: Array = self.starts + self.rows.lengths
        return ends

    def apply(self, ragged: Ragged) -> Ragged:
        """Cut another column of the same documents, such as their labels, in the same places.

        Parameters
        ----------
        ragged : Ragged
            A row for each document, as long as it.

        Returns
        -------
        Ragged
            A row for each chunk, views.

        Raises
        ------
        TypeError
            When it is not a Ragged.
        ValueError
            When the number of rows, or the length of one, differs.

        Examples
        --------
        >>> import tightbatch as tb
        >>> chunks = tb.chunk(tb.Ragged.from_sequences([[1, 2, 3, 4, 5]]), 3, overlap=1)
        >>> chunks.apply(tb.Ragged.from_sequences([[0, 0, 1, 0, 1]])).tolist()
        [[0, 0, 1], [1, 0, 1]]
        """
        _check_ragged("Chunks.apply", "ragged", ragged)
        _check_lengths("Chunks.apply", "document", ragged.lengths, self._document_lengths())
        return ragged._with_rows(ragged.starts[self.indices] + self.starts, self.rows.lengths)

    def merge(
        self,
        outputs: Any,
        *,
        how: Literal["mean", "first", "last", "max_context"] = "mean",
        padding_side: Literal["right", "left"] = "right",
    ) -> Ragged:
        """Put what a model gave for the chunks together again: a value for each token.

        Parameters
        ----------
        outputs : array or CPU tensor of shape [chunks, width, *trailing], or rows
            Values for each token of each chunk, padded or in rows of the chunks' lengths (a Ragged
            or a list). Special tokens that a tokenizer added have to be cut off before.
        how : {"mean", "first", "last", "max_context"}
            Where chunks overlap: the mean of all, or the value of the first chunk, of the last one,
            or of the one where the token has most context on its shorter side, the earlier of two
            such (as in question answering with BERT).
        padding_side : {"right", "left"}
            Where an array is padded.

        Returns
        -------
        Ragged
            A row for each document. A mean is made in float64 and rounded once.

        Raises
        ------
        TypeError
            For a mean of anything but float32 and float64; ``tb.to_float32`` converts halves.
        ValueError
            When there is not a row for each chunk, or one has another length than its chunk.

        Examples
        --------
        >>> import tightbatch as tb
        >>> chunks = tb.chunk(tb.Ragged.from_sequences([[1, 2, 3, 4, 5]]), 3, overlap=1)
        >>> chunks.merge([[0.5, 0.5, 0.0], [1.0, 0.5, 0.5]]).tolist()
        [[0.5, 0.5, 0.5, 0.5, 0.5]]
        """
        way = _core.read_choice("Chunks.merge", "how", how, HOW)
        side = _core.read_choice("Chunks.merge", "padding_side", padding_side, ("right", "left"))
        values = self._read_outputs(outputs, side)
        if way == "mean" and values.lengths.any():
            if values.dtype not in (np.float32, np.float64):
                raise TypeError(
                    f"Chunks.merge(): outputs are {values.dtype}; expected float32 or float64 for "
                    'how="mean". tb.to_float32() converts halves; "first", "last" and '
                    '"max_context" take any type'
                )
            merged = _core.mean_chunks("Chunks.merge", values, self.starts, self.offsets)
        else:
            begins, stops = self._shares(way)
            shares = values._with_rows(values.starts + (begins - self.starts), stops - begins)
            merged = _core.flatten("Chunks.merge", Ragged, None, shares, None).values
        lengths = self._document_lengths()
        return Ragged._of((merged,), np.cumsum(lengths) - lengths, lengths)

    def _read_outputs(self, outputs: Any, side: str) -> Ragged:
        """Read a row for each chunk, each of the chunk's length."""
        lengths = self.rows.lengths
        is_array = isinstance(outputs, np.ndarray) and outputs.dtype != object
        if not is_array and not hasattr(outputs, "untyped_storage"):
            if isinstance(outputs, (str, bytes)) or not isinstance(outputs, Iterable):
                raise TypeError(
                    f"Chunks.merge(): outputs={_core.describe(outputs)}; expected an array, a "
                    "tensor or rows: values for each token of each chunk"
                )
            rows = (
                outputs
                if isinstance(outputs, Ragged)
                else _core.flatten("Chunks.merge", Ragged, None, outputs, None)
            )
            _check_lengths("Chunks.merge", "chunk", rows.lengths, lengths)
            return rows
        array = _core.as_array("Chunks.merge", None, outputs)
        if array.ndim < 2 or len(array) != len(self):
            raise ValueError(
                f"Chunks.merge(): outputs has the shape {array.shape}; expected "
                f"({len(self)}, width, ...): a row for each chunk"
            )
        width = array.shape[1]
        longest = int(lengths.max(initial=0))
        if width < longest:
            raise ValueError(
                f"Chunks.merge(): outputs is {width} wide; expected at least {longest}, the length "
                "of the longest chunk"
            )
        starts = width * np.arange(len(self), dtype=np.int64)
        if side == "left":
            starts += width - lengths
        return Ragged(array.reshape(-1, *array.shape[2:]), starts, lengths=lengths)

    def _shares(self, how: str) -> tuple[Array, Array]:
        """Where the part of its document begins and ends that each chunk supplies."""
        ends, starts = self._ends, self.starts
        if how == "first":
            cuts = ends[:-1]
        elif how == "last":
            cuts = starts[1:]
        else:  # from the middle of an overlap on, the later chunk has more before the token
            cuts = (starts[1:] + ends[:-1] + 1) // 2
        same = self.indices[1:] == self.indices[:-1]
        begins, stops = starts.copy(), ends.copy()
        begins[1:] = np.where(same, cuts, starts[1:])
        stops[:-1] = np.where(same, cuts, ends[:-1])
        return begins, stops

    def _document_lengths(self) -> Array:
        """How long the documents are: each ends where its last chunk does."""
        lengths: Array = self._ends[self.offsets[1:] - 1]
        return lengths


def chunk(rows: Ragged, max_length: int, *, overlap: int = 0) -> Chunks:
    """Cut documents into chunks that fit into a model, and may overlap, without copying.

    The chunks are those of a fast tokenizer of transformers with ``truncation=True``,
    ``return_overflowing_tokens=True`` and ``stride=overlap``. There ``stride`` is what neighbours
    share; in :func:`windows` and in most other places it is the distance of their starts.

    Parameters
    ----------
    rows : Ragged
        The documents.
    max_length : int
        The most tokens of a chunk. Leave room for special tokens that are added later.
    overlap : int
        The tokens at the end of a chunk that the next one has too; less than ``max_length``.

    Returns
    -------
    Chunks
        An empty document has one empty chunk. ``merge`` goes back to documents.

    Raises
    ------
    TypeError
        When ``rows`` is not a Ragged.
    MemoryError
        When there is no memory for so many chunks.
    ValueError
        When a number is out of range.

    Examples
    --------
    >>> import tightbatch as tb
    >>> rows = tb.Ragged.from_sequences([[1, 2, 3, 4, 5], [6]])
    >>> tb.chunk(rows, 3, overlap=1).rows.tolist()
    [[1, 2, 3], [3, 4, 5], [6]]
    """
    _check_ragged("chunk", "rows", rows)
    max_length = _core.read_int("chunk", "max_length", max_length, 1, 2**63 - 1)
    step = max_length - _core.read_int("chunk", "overlap", overlap, 0, 2**63 - 1)
    if step < 1:
        raise ValueError(
            f"chunk(): overlap={overlap} with max_length={max_length}: the next chunk would not "
            f"begin later; expected at most {max_length - 1}"
        )
    counts = 1 + np.maximum(0, -(-(rows.lengths - max_length) // step))
    _check_room("chunk", int(counts.sum(dtype=np.float64)), "chunks", "a smaller overlap=")
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    indices = np.repeat(np.arange(len(rows)), counts)
    starts = (np.arange(len(indices)) - offsets[indices]) * step
    lengths = np.minimum(rows.lengths[indices] - starts, max_length)
    return Chunks(rows._with_rows(rows.starts[indices] + starts, lengths), indices, starts, offsets)


def _check_ragged(function: str, name: str, rows: Any) -> None:
    if not isinstance(rows, Ragged):
        raise TypeError(
            f"{function}(): {name}={_core.describe(rows)}; expected a Ragged, as made by "
            "Ragged.from_tokens or Ragged.from_sequences"
        )


def _check_lengths(function: str, what: str, found: Array, expected: Array) -> None:
    """Refuse rows that are not as many, or not as long, as expected."""
    if len(found) != len(expected):
        raise ValueError(
            f"{function}(): found {counted(len(found), 'row')}, expected {len(expected)}, one for "
            f"each {what}"
        )
    differ = np.flatnonzero(found != expected)
    if len(differ):
        row = int(differ[0])
        raise ValueError(
            f"{function}(): row {row} has length {found[row]}, expected {expected[row]}, that of "
            f"the {what}"
        )
