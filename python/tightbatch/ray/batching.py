"""batch_by_length: a dataset of batches of rows of like length, as many for each train worker."""

from __future__ import annotations

import heapq
import re
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..ragged import Ragged
from ..sampling.limits import Limit
from ..sampling.stream_limits import read_stream_limits
from ..sampling.streaming import StreamBatcher
from .collating import check_settings
from .columns import as_samples, count_rows, read_columns
from .storing import join, store

NAME = "batch_by_length"
# What has no place here: the batches of a block are made by one task, and none is left out.
_NOT_TAKEN = ("drop_last", "num_replicas", "rank", "sharded", "steps")

Array = NDArray[np.int64]


def batch_by_length(
    dataset: Any,
    collator: Callable[[Any], Any],
    *,
    num_workers: int = 1,
    length: str = "input_ids",
    fill_null: float | None = None,
    seed: int = 0,
    **options: Any,
) -> Any:
    """Cut a Ray Dataset into batches of rows of like length, collated in Ray's tasks.

    The rows of each block, in random order, go through a :class:`tightbatch.StreamBatcher` in a
    task of its own.
    So rows meet within their block, and there within the buffer: blocks of at least several
    thousand rows give the least padding. No batch is above a cap.

    Each row is in exactly one batch, and all workers make the same number of steps: the number of
    batches of each block is made a multiple of `num_workers`, by halving those with the most rows.
    Only where single rows are left to halve, as with ``batch_size=1``, does a block have some
    twice, less than `num_workers`; :attr:`BatchLoader.repeated` counts them. A block of fewer rows
    than workers is an error.

    Parameters
    ----------
    dataset : ray.data.Dataset
        Rows in any order; shuffle it before.
    collator : callable
        As for :class:`CollateFn`.
    num_workers : int
        The number of train workers, as in ``ScalingConfig(num_workers=...)``, or a multiple.
        :class:`BatchLoader` raises an error on another number of workers; with
        :class:`LoadBatch` Ray leaves out the batches that it cannot deal out equally.
    length : str
        The column whose lengths count: rows of tokens, or lengths.
    fill_null : number, optional
        As for :class:`CollateFn`.
    seed : int
        The seed of the order of rows and of what is drawn, from 0 to 2**64 - 1. The batches of a
        block depend on nothing else but its rows.
    **options
        Parameters of :class:`tightbatch.StreamBatcher`: ``batch_size``, ``max_tokens``,
        ``padding_free``, ``quadratic_length``, ``max_length``, ``overlong``,
        ``pad_to_multiple_of``, ``boundaries``, ``buffer``, ``buffer_tokens``, and ``limits`` whose
        costs are names of columns.

    Returns
    -------
    ray.data.Dataset
        A row for each batch, as :class:`StoreBatch` makes it: for :class:`BatchLoader`, or for
        ``iter_torch_batches(batch_size=1, collate_fn=LoadBatch())``. Nothing is read before it is
        iterated.

    Raises
    ------
    TypeError
        When it is not a Ray Dataset, or for a setting that has no place here.
    ValueError, OverflowError
        As :class:`tightbatch.StreamBatcher`; and, when batches are made, when the column is not
        there, when a block has rows, but fewer than `num_workers`, and as the collator. Ray wraps
        the errors of its tasks: the message is at the end.

    Examples
    --------
    >>> import ray, tightbatch as tb  # doctest: +SKIP
    >>> rows = [{"input_ids": [1] * n} for n in (5, 1, 4, 2, 6, 1)]
    >>> rows = ray.data.from_items(rows, override_num_blocks=1)
    >>> batches = tb.ray.batch_by_length(rows, tb.PadCollator(), batch_size=2, num_workers=2)
    >>> for batch in tb.ray.BatchLoader(batches):
    ...     train(batch)
    """
    if not hasattr(dataset, "map_batches"):
        raise TypeError(f"{NAME}(): dataset={_core.describe(dataset)}; expected a ray.data.Dataset")
    cut = CutBlock(collator, num_workers, length, fill_null, seed, options)
    return dataset.map_batches(cut, batch_size=None, batch_format="pyarrow")


class CutBlock:
    """Cuts a block into batches, in a task."""

    def __init__(
        self,
        collator: Any,
        num_workers: Any,
        length: Any,
        fill_null: Any,
        seed: Any,
        options: dict[str, Any],
    ) -> None:
        check_settings(NAME, collator, fill_null)
        for name in _NOT_TAKEN:
            if name in options:
                raise TypeError(
                    f"{NAME}(): {name}= has no place here; expected other parameters of "
                    "StreamBatcher, such as batch_size or max_tokens"
                )
        if not isinstance(length, str):
            raise TypeError(
                f"{NAME}(): length={_core.describe(length)}; expected the name of a column"
            )
        self.num_workers = _core.read_int(NAME, "num_workers", num_workers, 1, 2**31 - 1)
        self.seed = _core.read_int(NAME, "seed", seed, 0, 2**64 - 1)
        self.collator, self.length, self.fill_null = collator, length, fill_null
        self.options = options
        for name, limit in read_stream_limits(options.get("limits")).items():
            if not isinstance(limit[0], str):
                raise TypeError(
                    f"{NAME}(): limits: {_core.show(name)}: costs={_core.describe(limit[0])}; "
                    "expected the name of a column"
                )
        self._cut([], {}, self.seed)  # a wrong setting is an error here, not in the first task

    def __call__(self, table: Any) -> Any:
        """Give the batches of a block, each as a row."""
        if table.num_rows == 0:
            return join(())
        columns = read_columns(NAME, table, self.fill_null)
        lengths = self._lengths(columns, self.length, "length")
        drawn = np.random.SeedSequence([self.seed, zlib.crc32(lengths.tobytes())])
        cut = self._cut(lengths.tolist(), columns, int(drawn.generate_state(1, np.uint64)[0]))
        found, workers = sum(map(len, cut)), self.num_workers
        if 0 < found < workers:
            raise ValueError(
                f"{NAME}(): found a block of {found} rows, fewer than num_workers={workers}, whose "
                "rows would be handed out more than once; expected larger blocks, of several "
                "thousand rows: dataset.repartition(...) into fewer blocks"
            )
        return join(
            store(
                NAME,
                self.collator(as_samples(columns, rows)),
                repeated=repeated,
                num_workers=workers,
            )
            for rows, repeated in share_out(cut, workers)
        )

    def _lengths(self, columns: dict[str, Any], name: str, setting: str) -> Array:
        """Give the numbers of a column, or the lengths of its rows."""
        column = columns.get(name)
        if column is None:
            raise ValueError(
                f"{NAME}(): there is no column {name!r}, but {_core.show(list(columns))}; "
                f"expected {setting}= to name one"
            )
        if isinstance(column, Ragged):
            return np.ascontiguousarray(column.lengths, np.int64)
        found = column
        if isinstance(column, np.ndarray) and column.ndim > 1:
            found = np.full(count_rows(columns), column.shape[1])
        elif isinstance(column, np.ndarray) and column.dtype == object:
            found = [len(row) for row in column]
        read: Array = _core.read_lengths(NAME, name, found)
        return np.ascontiguousarray(read)

    def _cut(self, lengths: list[int], columns: dict[str, Any], seed: int) -> list[Array]:
        """Give the rows of each batch; a sample of the batcher is the number of a row."""
        options = dict(self.options)
        if options.get("limits"):
            options["limits"] = {
                name: Limit(self._costs(columns, limit[0]), *limit[1:])
                for name, limit in options["limits"].items()
            }
        order = np.random.default_rng(seed).permutation(len(lengths)).tolist()
        batcher = StreamBatcher(
            order,
            length=lengths.__getitem__,
            sharded="no",
            num_replicas=1,
            rank=0,
            seed=seed,
            **options,
        )
        try:
            return [np.array(batch, np.int64) for batch in batcher]
        except (ValueError, OverflowError) as error:  # it names a place in the order
            told = re.sub(
                r"\b(row|sample) (\d+)\b",
                lambda found: f"{found[1]} {order[int(found[2])]}",
                str(error),
                count=1,
            )
            raise type(error)(told) from None

    def _costs(self, columns: dict[str, Any], name: str) -> Callable[[int], int]:
        """Give what tells the cost of a row."""
        costs = self._lengths(columns, name, "limits").tolist() if columns else []
        return costs.__getitem__


def share_out(batches: list[Array], workers: int) -> list[tuple[Array, int]]:
    """Make the number of batches a multiple of the workers; give each with the rows it repeats.

    The batches with the most rows are halved. A half is within all caps that its batch is within.
    """
    shared = [(rows, 0) for rows in batches]
    missing = -len(shared) % workers
    largest = [(-len(rows), place) for place, rows in enumerate(batches)]
    heapq.heapify(largest)
    for _ in range(missing):
        rows, place = largest[0]
        if rows == -1:  # each row is a batch of its own
            break
        half = -rows // 2
        whole = shared[place][0]
        shared[place] = (whole[:half], 0)
        heapq.heapreplace(largest, (-half, place))
        heapq.heappush(largest, (half + rows, len(shared)))
        shared.append((whole[half:], 0))
    singles = len(shared)
    shared += [(shared[i % singles][0], 1) for i in range(-singles % workers)] if shared else []
    return shared
