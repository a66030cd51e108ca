"""WasteMeter: the padding of a loader's batches, and the time they take, while it runs."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .. import _core
from .counting import count_tokens

__all__ = ["WasteMeter"]

NAME = "WasteMeter"
# Counting takes at most this part of the time: a batch is not counted while it took more. The first
# ones always are.
MOST_SPENT, FIRST = 0.003, 4
WAITS = 1000  # the latest, of which there are quantiles


class _Counts:
    """What one iteration has counted."""

    __slots__ = ("batches", "begin", "counted", "end", "later", "padded", "real", "spent", "waited",
                 "waits")  # fmt: skip

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.end: float | None = None
        self.batches = self.counted = self.real = self.padded = 0
        self.later: Any = None  # what devices have counted, until it is read
        self.spent = self.waited = 0.0
        self.waits: deque[float] = deque(maxlen=WAITS)


class WasteMeter:
    """Measures a loader while it is iterated: its padding, its tokens a second, its waiting time.

    It stands where the loader stood: it gives the same batches, has its length, and hands on its
    attributes and methods (``dataset``, ``batch_sampler``, ``set_epoch``, ...). Counting takes less
    than 1 % of the time: where batches come faster than that allows, as in a loop that does nothing
    with them, only the first 4 and some others are counted, and figures are those of these.

    Parameters
    ----------
    loader : DataLoader, batch sampler, or any iterable of batches
        Batches are dicts (or tuples or dataclasses of them) of any library's tensors, arrays or
        lists, padded or without padding. Tokens are counted by a column that tells them from
        padding: ``attention_mask``, ``cu_seq_lens_q``, ``lengths``, ``seq_idx``, ``position_ids``
        and others, by the names that :func:`check_batch` knows.
    lengths : sequence of int, optional
        For a batch sampler, whose batches are lists of row numbers: the length of each row. A batch
        counts as padded to its longest row.

    Raises
    ------
    TypeError
        When `loader` is not iterable, or lengths are not integers.
    ValueError
        When a length is negative.

    Notes
    -----
    Figures are those of the latest iteration, and begin anew with the next one. Tensors on a GPU
    are counted there, without waiting for it; :meth:`metrics` then reads one number from it, which
    waits, as reading the loss does. In a batch without padding, the tail that static shapes add
    looks like rows, and counts as real tokens.

    Examples
    --------
    >>> import tightbatch as tb
    >>> rows = [{"input_ids": [1] * n} for n in (2, 8, 8, 6)]
    >>> collate = tb.PadCollator(return_tensors="np")
    >>> meter = tb.WasteMeter([collate(rows[:2]), collate(rows[2:])])
    >>> for batch in meter:
    ...     pass
    >>> metrics = meter.metrics()
    >>> metrics["waste"], metrics["batches"], sorted(metrics)[-4:]
    (0.25, 2.0, ['wait_p50', 'wait_p95', 'wait_share', 'waste'])
    """

    def __init__(self, loader: Any, *, lengths: Any = None) -> None:
        if not isinstance(loader, Iterable):
            raise TypeError(
                f"{NAME}(): loader={_core.describe(loader)}; expected a DataLoader, a batch "
                "sampler or another iterable of batches"
            )
        self.loader: Any = loader
        self._lengths = None
        if lengths is not None:
            self._lengths = _core.read_lengths(NAME, "lengths", lengths)
        self._counts = _Counts()
        self._counts.end = self._counts.begin

    def __iter__(self) -> Iterator[Any]:
        """Give the loader's batches, and measure them."""
        counts = self._counts = _Counts()
        clock, waits, items = time.perf_counter, counts.waits, iter(self.loader)
        asked = clock()
        try:
            for batch in items:
                got = clock()
                waits.append(got - asked)
                counts.waited += got - asked
                counts.batches += 1
                if counts.batches <= FIRST or counts.spent <= MOST_SPENT * (got - counts.begin):
                    self._count(counts, batch)
                    counts.spent += clock() - got
                yield batch
                asked = clock()
        finally:
            counts.end = clock()

    def __len__(self) -> int:
        """The loader's length."""
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "loader" or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(f"{NAME!r} object has no attribute {name!r}")  # while unpickled
        return getattr(self.loader, name)

    def __repr__(self) -> str:
        """Show the loader."""
        return f"WasteMeter({self.loader!r})"

    def _count(self, counts: _Counts, batch: Any) -> None:
        if self._lengths is not None:
            if len(rows := _lengths_of(batch, self._lengths)):
                counts.real += int(rows.sum())
                counts.padded += len(rows) * int(rows.max())
                counts.counted += 1
            return
        found = count_tokens(batch)
        if found is not None:
            counts.real += found.real
            counts.padded += found.padded
            counts.counted += 1
            for number in found.later:
                counts.later = number if counts.later is None else counts.later + number

    def metrics(self) -> dict[str, float]:
        """Give the figures of the latest iteration, up to now.

        Returns
        -------
        dict of str to float
            For tqdm's ``set_postfix``, TensorBoard's ``add_scalars``, or a Trainer's log.

            ===================== ==============================================================
            ``waste``             the part of all tokens that is padding, from 0 to 1; NaN where
                                  no column tells
            ``tokens_per_second`` real tokens of the batches that were handed out, by the time
                                  since the iteration began; NaN too
            ``wait_p50``,         seconds that the loop waits for a batch: median and 95th
            ``wait_p95``          percentile of the latest 1,000. In one process that is the time
                                  to collate it, with workers what they are late
            ``wait_share``        the part of the time that the loop waits
            ``batches``           how many were handed out
            ``counted``           how many of them were counted: all, unless they come so fast that
                                  counting would take 1 % of their time
            ===================== ==============================================================
        """
        counts = self._counts
        if counts.later is not None:
            counts.real += int(counts.later)
            counts.later = None
        end = time.perf_counter() if counts.end is None else counts.end
        seconds = end - counts.begin
        share = counts.counted / counts.batches if counts.batches else 0.0
        waits = np.array(counts.waits)
        p50, p95 = np.percentile(waits, (50, 95)).tolist() if len(waits) else (0.0, 0.0)
        known = counts.padded > 0
        return {
            "waste": 1 - counts.real / counts.padded if known else math.nan,
            "tokens_per_second": (
                counts.real / share / seconds if known and seconds > 0 else math.nan
            ),
            "wait_p50": p50,
            "wait_p95": p95,
            "wait_share": min(counts.waited / seconds, 1.0) if seconds > 0 else 0.0,
            "batches": float(counts.batches),
            "counted": float(counts.counted),
        }


def _lengths_of(batch: Any, lengths: Any) -> Any:
    """The lengths of a batch of row numbers."""
    rows = np.asarray(batch) if hasattr(batch, "__len__") and len(batch) else np.zeros(0, np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not hasattr(batch, "__len__"):
        raise TypeError(
            f"{NAME}: a batch is {_core.describe(batch)}; with lengths= expected lists of row "
            "numbers, as a batch sampler gives; pass a DataLoader without lengths="
        )
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(lengths):
        wrong = int(rows.min()) if rows.min() < 0 else int(rows.max())
        raise IndexError(f"{NAME}: a batch has row {wrong}; expected 0 to {len(lengths) - 1}")
    return lengths[rows]
