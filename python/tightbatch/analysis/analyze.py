"""analyze: what each way of padding and batching would cost on a data set."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._records import refuse_fields
from ..dataset import lengths as lengths_of
from ..sampling.plan import NO_CAP, Planner
from .own_sampler import caps_of, measure_sampler, read_sampler
from .plans import NAME, Caps, Plans
from .report import PaddingReport, Strategy
from .verdict import choose, code_for, verdict_on

__all__ = ["analyze"]

Array = NDArray[np.int64]
T = TypeVar("T")
MANY_ROWS = 2**18  # for which planning takes so long that a thread pays


def analyze(
    data: Any,
    *,
    column: str | None = None,
    batch_size: int | None = None,
    max_tokens: int | None = None,
    max_length: int | None = None,
    overlong: Literal["error", "truncate", "drop"] = "error",
    pad_to_multiple_of: int | None = None,
    shuffle_window: int | Literal["auto"] | None = "auto",
    buckets: int = 8,
    capacity: int | None = None,
    num_replicas: int = 1,
    seed: int = 0,
    sampler: Any = None,
) -> PaddingReport:
    """Measure what each way of padding and batching costs, from lengths alone.

    Six ways are planned for one epoch, as this library does it, and measured: fixed padding,
    dynamic padding of random batches, batches of rows of like length, those with few widths
    (optimal buckets), packs, and batches without padding. The plans are exact, not estimates: those
    of the first epoch with this `seed`. For a sample that is too small for the default window,
    there is an estimate beside them. 10 million rows take a second or two.

    Parameters
    ----------
    data : lengths, or rows, samples, a table or a dataset
        The length of each row, in one dimension of anything; or whatever
        :func:`tightbatch.lengths` takes: rows, a :class:`Ragged`, a list of dicts, an Arrow table,
        a Hugging Face dataset, a :class:`RaggedDataset`.
    column : str, optional
        The column of rows, if `data` has columns.
    batch_size : int, optional
        The most rows in a batch. Needed, or `max_tokens`, or a `sampler` that has one of them or
        whose batches have the same number of rows.
    max_tokens : int, optional
        The most tokens in a batch, padding included.
    max_length : int, optional
        Longer rows are cut.
    overlong : {"error", "truncate", "drop"}
        What to do with a row that alone is more than `max_tokens`: see
        :class:`LengthBatchSampler`.
    pad_to_multiple_of : int, optional
        Widths are rounded up to a multiple of it; packs and batches without padding are not.
    shuffle_window : int, None or "auto"
        For batches of like length, as for :class:`LengthBatchSampler`, with its default: 100
        batches, but at most a quarter of the rows.
    buckets : int
        How many widths the optimal buckets have.
    capacity : int, optional
        Tokens in a pack. By default the width of fixed padding. A batch has as many packs as hold
        about `batch_size` rows, or as fit into `max_tokens`.
    num_replicas : int
        How many ranks share the batches.
    seed : int
        The seed of all random orders.
    sampler : batch sampler or sampler, optional
        Your own, to be measured beside the others: whatever gives lists of row numbers (this
        library's, torch's ``BatchSampler``, a list of lists) or, with `batch_size`, row numbers
        (transformers' ``LengthGroupedSampler``). It is iterated once; its batches are taken as
        padded to their own longest row.

    Returns
    -------
    PaddingReport

    Raises
    ------
    ValueError
        When there are no rows, no cap, or a number is out of range; when a row alone is above
        `max_tokens`, or longer than `capacity` (the message names the row).
    TypeError
        When `data` has no lengths, or a setting has the wrong type.
    KeyError
        When there is no such column.
    IndexError
        When `sampler` gives the number of a row that is not there.
    OverflowError
        When all rows at the width of the longest are more tokens than int64 can count.

    Notes
    -----
    Dynamic padding with `max_tokens` ends a batch where the next row of a random order would break
    the cap; with `batch_size`, its batches are those of ``shuffle_window=batch_size``. With several
    ranks the batches are divided as :class:`LengthBatchSampler` divides them.

    Examples
    --------
    >>> import tightbatch as tb
    >>> report = tb.analyze([5, 6, 7, 8] * 100, batch_size=4)
    >>> [strategy.name for strategy in report]
    ['fixed', 'dynamic', 'uniform-length', 'optimal buckets', 'packed', 'padding-free']
    >>> report["fixed"].padded_tokens, report["uniform-length"].padded_tokens
    (3200, 2620)
    >>> samples = [{"input_ids": [1, 2]}, {"input_ids": [3]}]
    >>> tb.analyze(samples, column="input_ids", batch_size=2)["fixed"].waste
    0.25
    """
    given = read_data(data, column)
    if len(given) == 0:
        raise ValueError(f"{NAME}(): found no rows in data; expected at least one")
    given_sampler = None if sampler is None else read_sampler(sampler)
    if given_sampler is not None and batch_size is None and max_tokens is None:
        batch_size, max_tokens = caps_of(given_sampler)
    if batch_size is None and max_tokens is None:
        raise ValueError(f"{NAME}(): pass batch_size=, max_tokens= or both")
    caps, settings = _read_settings(
        batch_size, max_tokens, max_length, overlong, pad_to_multiple_of, shuffle_window, seed,
        buckets, capacity, num_replicas,
    )  # fmt: skip
    cutter = Planner(NAME, given, settings, auto_window=False)
    kept, most = _cut(cutter)
    if len(kept) == 0:
        raise ValueError(f"{NAME}(): overlong='drop' leaves no row; pass a larger max_tokens")
    if caps.num_replicas > len(kept):
        raise ValueError(
            f"{NAME}(): {len(kept)} rows for num_replicas={caps.num_replicas}; expected at least a "
            "row for each rank"
        )
    settings = {**settings, "max_length": None, "overlong": "error"}
    dropping = "drop" if len(kept) < len(given) else None
    caps = Caps(**{**vars(caps), "max_length": most, "overlong": dropping})
    plans = Plans(kept, settings, caps)
    own = None
    if given_sampler is not None:
        lengths = given if most is None else np.minimum(given, most)
        own = measure_sampler(given_sampler, lengths, plans)
    return _report(given, plans, cutter, own, column, overlong)


def read_data(data: Any, column: str | None) -> Array:
    """Give the lengths that `data` is or has."""
    if column is None:
        if isinstance(data, Iterator):  # as map(len, texts) is
            data = list(data)
        if _is_lengths(data):
            return _core.read_lengths(NAME, "data", _as_array(data))
        _refuse_frames(data)
        refuse_fields(NAME, data)
        try:
            return _core.lengths(NAME, data)
        except TypeError as error:
            if not str(error).startswith(f"{NAME}(): sequences: "):
                raise
        raise TypeError(
            f"{NAME}(): data={_core.describe(data)}; expected lengths, rows, or with column= "
            "samples, a table or a dataset"
        )
    try:
        return lengths_of(data, column)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        message = str(error.args[0]) if error.args else str(error)
        raise type(error)(message.replace("lengths()", f"{NAME}()", 1)) from error


def _is_lengths(data: Any) -> bool:
    """Tell lengths from rows: numbers in one dimension."""
    if isinstance(data, (list, tuple, range)):
        first = data[0] if len(data) else ()
        return isinstance(first, (int, float)) or getattr(first, "ndim", None) == 0
    if isinstance(data, array):
        return True
    if getattr(data, "ndim", 1 if hasattr(data, "to_numpy") else 0) != 1:
        return False
    kind = str(getattr(data, "dtype", getattr(data, "type", "")))  # Arrow has a type
    return bool(re.match(r"(torch\.)?(u?int|float|bool|half|bfloat|double)\d*$", kind.lower()))


def _as_array(data: Any) -> Any:
    """Give what is no array, list or tensor as an array."""
    if isinstance(data, (list, tuple, range, np.ndarray)) or hasattr(data, "is_cuda"):
        return data
    nulls = data.isna().sum() if hasattr(data, "isna") else getattr(data, "null_count", 0)
    nulls = nulls() if callable(nulls) else nulls  # polars has a method
    if nulls:
        raise TypeError(
            f"{NAME}(): data: {int(nulls)} of {len(data)} lengths are null; expected integers: "
            "drop the nulls first"
        )
    return np.asarray(data)


def _refuse_frames(data: Any) -> None:
    """Refuse a data frame, of several columns: say how to name one."""
    names = getattr(data, "columns", None)
    if hasattr(data, "to_numpy") and names is not None and len(names) > 1:
        chosen = "input_ids" if "input_ids" in list(names) else names[0]
        raise TypeError(
            f"{NAME}(): found {type(data).__name__} with {_core.show(list(names))}, which does not "
            f"say whose lengths; pass column={_core.show(chosen)}"
        )


def _read_settings(
    batch_size: Any,
    max_tokens: Any,
    max_length: Any,
    overlong: Any,
    multiple: Any,
    window: Any,
    seed: Any,
    buckets: Any,
    capacity: Any,
    num_replicas: Any,
) -> tuple[Caps, dict[str, Any]]:
    """Read the settings: as calls show them, and as the planner takes them."""
    is_auto = isinstance(window, str)
    if is_auto:
        _core.read_choice(NAME, "shuffle_window", window, ("auto",))
    _core.read_choice(NAME, "overlong", overlong, ("error", "truncate", "drop"))
    settings = _core.read_plan_settings(
        NAME,
        {
            "batch_size": batch_size,
            "max_tokens": max_tokens,
            "max_length": max_length,
            "pad_to_multiple_of": multiple,
            "quadratic_length": None,
            "batch_size_multiple": None,
            "shuffle_window": None if is_auto else window,
            "pool_size": None,
            "balance": None,
            "ranks": 1,
            "padding_free": False,
            "shuffle": True,
            "longest_first": False,
            "drop_last": False,
            "overlong": overlong,
            "seed": seed,
        },
    )
    if capacity is not None:
        capacity = _core.read_int(NAME, "capacity", capacity, 1, NO_CAP - 1)
    caps = Caps(
        batch_size=settings["batch_size"],
        max_tokens=settings["max_tokens"],
        max_length=settings["max_length"],
        pad_to_multiple_of=None if multiple is None else settings["pad_to_multiple_of"],
        shuffle_window="auto" if is_auto else settings["shuffle_window"],
        buckets=_core.read_int(NAME, "buckets", buckets, 1, NO_CAP - 1),
        capacity=capacity,
        num_replicas=_core.read_int(NAME, "num_replicas", num_replicas, 1, NO_CAP - 1),
        seed=settings["seed"],
    )
    return caps, settings


def _cut(cutter: Planner) -> tuple[Array, int | None]:
    """Give the lengths of the rows that are kept, once cut, and the most that they can be."""
    lengths, most = cutter.lengths, cutter.settings["max_length"]
    if cutter.truncated:
        lengths = np.minimum(lengths, most)
    if cutter.rows < len(lengths):
        costs = _core.row_costs(NAME, lengths, cutter.settings)
        lengths = lengths[costs <= cutter.settings["max_tokens"]]
    return lengths, most


def _report(
    given: Array,
    plans: Plans,
    cutter: Planner,
    own: Strategy | None,
    column: str | None,
    overlong: str,
) -> PaddingReport:
    caps, lengths = plans.caps, plans.lengths
    with _beside(len(lengths) > MANY_ROWS) as beside:
        packing = beside(plans.packed)
        fixed, dynamic = plans.fixed(), plans.dynamic()
        uniform, window = plans.uniform()
        sweep = beside(
            lambda: (tuple(plans.windows(dynamic, uniform, window)), plans.estimate(window))
        )
        bucketed, boundaries, bucket_waste = plans.buckets()
        padding_free = plans.padding_free()
    packed, capacity, pack_tokens = packing()
    windows, estimate = sweep()
    found = [fixed, dynamic, uniform, bucketed, packed, padding_free]
    strategies = tuple(found if own is None else [*found, own])
    distinct, counts = _count_lengths(lengths)
    limit, attention_limit = plans.limit
    choice = choose(strategies, windows, estimate, limit, len(lengths))
    dropped = len(given) - len(lengths)
    # If rows are dropped, so are those that max_length cuts: none is shorter than they.
    is_cut = cutter.truncated > 0 and not dropped
    shown = {**vars(caps), "max_length": cutter.settings["max_length"], "overlong": overlong}
    half = np.searchsorted(np.cumsum(counts), [(len(lengths) + 1) // 2, len(lengths) // 2 + 1])
    return PaddingReport(
        rows=len(lengths),
        tokens=plans.total,
        longest=plans.longest,
        mean_length=plans.total / len(lengths),
        median_length=float(distinct[half].mean()),
        rows_cut=cutter.truncated if is_cut else 0,
        tokens_cut=int(given.sum()) - plans.total if is_cut else 0,
        rows_dropped=dropped,
        settings={**shown, "column": column},
        strategies=strategies,
        windows=windows,
        estimate=estimate,
        limit=limit,
        attention_limit=attention_limit,
        capacity=capacity,
        pack_tokens=pack_tokens,
        loads=plans.loads["uniform-length"],
        boundaries=boundaries,
        bucket_waste=bucket_waste,
        lengths=distinct,
        counts=counts,
        recommended=choice.recommended,
        verdict=verdict_on(choice, caps),
        code=code_for(choice, caps, column),
    )


@contextmanager
def _beside(is_long: bool) -> Iterator[Callable[[Callable[[], T]], Callable[[], T]]]:
    """Give what does a work beside all others, in one thread if it takes long.

    It gives what gives the result.
    """
    if not is_long:
        yield lambda work: work
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        yield lambda work: pool.submit(work).result


def _count_lengths(lengths: Array) -> tuple[Array, Array]:
    if int(lengths.max()) <= max(len(lengths), 2**16):
        counts = np.bincount(lengths)
        distinct = np.flatnonzero(counts)
        return distinct, counts[distinct]
    distinct, counts = np.unique(lengths, return_counts=True)
    return distinct, counts
