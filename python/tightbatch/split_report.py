"""split_report: what each of several tokens would cut a stream into, before one is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._split import read_tokens, split
from ._words import counted
from .ragged import Ragged

__all__ = ["SplitReport", "split_report"]


@dataclass(frozen=True)
class Split:
    """What one token would cut a stream into: a line of :class:`SplitReport`."""

    name: str
    count: int
    documents: int
    empty: int
    shortest: int
    median: float
    mean: float
    longest: int
    rest: int


@dataclass(frozen=True)
class SplitReport:
    """The documents that each of several tokens would end: the result of :func:`split_report`.

    Attributes
    ----------
    tokens : int
        Tokens in the stream.
    dtype : str
        Their type.
    splits : tuple of Split
        For each candidate its ``name``; ``count``, how often it is there; ``documents``, how many
        rows :meth:`Ragged.from_tokens` would give; ``empty``, how many of them hold nothing else;
        the ``shortest``, ``median``, ``mean`` and ``longest`` of their lengths; and ``rest``, the
        tokens after the last.

    Examples
    --------
    >>> import tightbatch as tb
    >>> tb.split_report([5, 6, 0, 7, 0, 8], {"the end": 0}).splits[0].documents
    3
    """

    tokens: int
    dtype: str
    splits: tuple[Split, ...]

    def notes(self) -> list[str]:
        """Give what the numbers suggest to look at, in sentences."""
        found = sorted((s for s in self.splits if s.count), key=lambda s: s.count)
        notes = [
            f"{other.name} is there {other.count / found[0].count:,.1f} times as often as "
            f"{found[0].name}: a chat template ends each turn with such a token, and a document "
            "has several turns"
            for other in found[1:]
            if other.count > found[0].count
        ]
        notes += [
            f"{s.name} stands {counted(s.empty, 'time')} where a document would begin: two ends in "
            "a row, as where it is the padding token too"
            for s in self.splits
            if s.empty
        ]
        return notes + [f"{s.name} is nowhere" for s in self.splits if not s.count]

    def __str__(self) -> str:
        """Show a table, and what to look at."""
        head = ["ends documents", "documents", "empty", "shortest", "median", "mean", "longest"]
        lines = [[*head, "rest"]]
        for s in self.splits:
            numbers = (s.documents, s.empty, s.shortest, s.median, s.mean, s.longest, s.rest)
            lines.append([s.name, *(f"{number:,.0f}" for number in numbers)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([f"{self.tokens:,} tokens of {self.dtype}", *table, *self.notes()])

    __repr__ = __str__


def split_report(tokens: Any, candidates: Mapping[str, Any]) -> SplitReport:
    """Count what each of several tokens would cut a stream into, before one is chosen.

    Chat templates use the same kind of token for another purpose: Qwen's ``<|im_end|>`` and
    Llama-3's ``<|eot_id|>`` end each turn, not each conversation, and GPT-2's ``<|endoftext|>``
    often is the padding token too. A split at these gives turns, or empty documents, and nothing
    fails. The numbers show it.

    Parameters
    ----------
    tokens : integer array or CPU tensor of shape (tokens,)
        As for :meth:`Ragged.from_tokens`.
    candidates : mapping of str to int or sequence of int
        What may end a document, under the names to show; several ids are one after another.

    Returns
    -------
    SplitReport
        Print it, or read ``splits``.

    Raises
    ------
    TypeError, ValueError
        As :meth:`Ragged.from_tokens`; a candidate may be nowhere.

    Examples
    --------
    >>> import tightbatch as tb
    >>> stream = [1, 5, 2, 1, 6, 6, 2, 3, 1, 7, 2, 1, 8, 2, 3]
    >>> print(tb.split_report(stream, {"<|im_end|>": 2, "<|endoftext|>": 3}))
    15 tokens of int64
    ends documents  documents  empty  shortest  median  mean  longest  rest
    <|im_end|>              5      0         1       3     3        4     1
    <|endoftext|>           2      0         7       8     8        8     0
    <|im_end|> is there 2.0 times as often as <|endoftext|>: a chat template ends each turn with such a token, and a document has several turns
    """  # noqa: E501 what is printed
    if not isinstance(candidates, Mapping):
        raise TypeError(
            f"split_report(): candidates={_core.describe(candidates)}; expected a mapping, such as "
            '{"<|endoftext|>": 50256}'
        )
    array = read_tokens("split_report", tokens)
    splits = tuple(_split(array, str(name), end) for name, end in candidates.items())
    return SplitReport(len(array), str(array.dtype), splits)


def _split(array: NDArray[Any], name: str, end: Any) -> Split:
    if end is None:
        raise TypeError(f"split_report(): {name!r} has the token None; expected an int")
    rows = split("split_report", Ragged, array, end, None, False)
    if rows is None:
        rows = Ragged(array, [0, len(array)])
        size = 0
    else:
        size = len(end) if np.ndim(end) else 1
    total = int(rows.lengths.sum())
    count = (len(array) - total) // size if size else 0
    rest = int(rows.lengths[-1]) if len(rows) > count else 0
    lengths = rows.lengths.copy()
    lengths[:count] += size
    some = len(lengths) > 0
    return Split(
        name,
        count,
        len(lengths),
        int((lengths[:count] == size).sum()),
        int(lengths.min()) if some else 0,
        float(np.median(lengths)) if some else 0.0,
        float(lengths.mean()) if some else 0.0,
        int(lengths.max()) if some else 0,
        rest,
    )
