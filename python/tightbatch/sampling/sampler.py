"""LengthBatchSampler: rows of similar length share a batch, so that there is little padding."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._words import counted
from .groups import Shares
from .limits import Limit
from .plan import NO_CAP, Planner, read_pool
from .ranks import Run, Steps, check_shared_once, deal, dealt, in_line, read_ranks, shared
from .results import Results
from .rows import read_rows
from .schedule import read_schedule
from .state import NAME

__all__ = ["LengthBatchSampler"]


class LengthBatchSampler(Results):
    """Batches of rows of similar length, in a new order every epoch.

    Pass it to ``DataLoader(dataset, batch_sampler=sampler, collate_fn=...)``. It reads only
    lengths, never rows, and yields lists of int: the indices of the rows of each batch.

    At least one of `batch_size` and `max_tokens` is needed. `max_tokens` is a hard cap on the size
    of a padded batch: its number of rows times its longest row, rounded up to `pad_to_multiple_of`.
    (Rows of length 0 count as 1 here.) With both caps, a batch stays below both.

    `padding_free` is for a collator that puts rows one after another: a batch costs the sum of its
    rows, each rounded up. With `max_tokens` batches are then packs.

    An epoch is planned in five steps:

    1. Rows are shuffled.
    2. The first `shuffle_window` of them, then the next, and so on, are sorted by length, longest
       first. Rows of equal length keep their random order.
    3. Each window is cut, from its longest row on, into full batches. A batch is full when it could
       not take one more row as long as its longest. The rest of a window, too few rows for a batch,
       joins the next window before that is sorted.
    4. The rest of the last window is the one batch that is not full: the tail.
    5. The full batches are shuffled. With several ranks they are sorted by cost and divided into
       runs of `balance` before; then the runs are shuffled, and the batches in each of them, so
       that the ranks of a step have similar work. The tail, if there is one, comes last. With
       `longest_first` the most expensive batch for each rank, which may be the tail, is taken out
       before and comes first.

    Packs need no sorting. Instead of steps 2 to 4, the shuffled rows go into packs one after
    another, and a pool of rows that are held back ends each pack with those that fill it, as for
    :func:`tightbatch.pack`. The last pack is the tail, if it is not full. So packs are full, and
    else as random as batches can be. `fairness` tells how random a plan is. With
    ``strategy="best_fit"`` windows are packed, each row into the pack in which it leaves the least
    room, and the rows of a window's emptiest pack join the next one; rows of like length are then
    in the same packs.

    Without `shuffle`, steps 1 and 5 are left out, and one window holds all rows. Then every epoch
    goes from the longest batch to the shortest, and rows of equal length are in the order of their
    indices. Packs from a pool are in about the order of the indices.

    Every index comes exactly once in an epoch, rows of length 0 too. Only `drop_last` and
    `overlong="drop"` leave rows out; `dropped` counts them. If `batch_size` is the only cap and
    rows are shuffled, `drop_last` leaves out random rows. With `max_tokens`, or without shuffling,
    it leaves out the tail: the shortest rows of the last window, or the last pack.

    The plan of an epoch depends only on lengths, settings, seed, epoch, and on the number of ranks
    that began it; not on that with `balance` and without `longest_first`. It is the same on every
    machine. It is made when it is first needed, and kept until the next.

    **Ranks.** Of `num_replicas` ranks, `rank` gets the batches number rank, rank + num_replicas,
    ... of one global order. So the batches of one step follow each other in this order, and cost
    about the same. With `padding_free` and no `max_tokens`, the rows of each step are divided
    again, by largest differencing, so that all ranks have similar cost and equal numbers of rows.
    All ranks make the same number of steps; `tail` says how.

    **Resuming.** `state_dict` holds the epoch, how many of its rows all ranks together have got,
    and for how many ranks it was planned. A sampler with the same lengths and settings continues
    there, in the same order, on any number of ranks. (With another number of ranks, the batches of
    a step may differ more in cost for the rest of the epoch.) Copies and pickles keep the epoch,
    but not the position in it.

    Parameters
    ----------
    lengths : sequence of int, ndarray, or CPU tensor, shape [rows] or [rows, 2]
        The length of each row of the data set. They are copied, except for int64 that
        ``np.load(path, mmap_mode="r")`` maps, which processes share; with groups or limits these
        too. Without lengths the sampler is empty, with ``len`` 0. Two lengths are those of a source
        and a target, both padded: a batch costs its rows times the sum of both widths, and rows
        that are alike in both share one.
    batch_size : int, optional
        The most rows in a batch.
    max_tokens : int or dict of {int: int}, optional
        The most tokens in a batch, padding included. A dict is a schedule, to warm up: from how
        many rows on, counted over all epochs and ranks, each cap holds, as ``{0: 4096, 100_000:
        16384}``. Every row must fit the smallest cap. Where the cap changes, one more batch may not
        be full. It goes with neither `limits`, `groups` nor `longest_first`.
    padding_free : bool
        Whether the collator puts rows one after another, instead of padding them.
    quadratic_length : int, optional
        The cost of attention grows with the square of the width: a row of width w counts as ``w + w
        * w // quadratic_length`` tokens, so a row of this width counts twice. It counts for
        `max_tokens` and for the balance between ranks.
    max_length : int or (int, int), optional
        Longer rows count as if they had this length. Give the collator the same, to cut them. For
        two lengths it may be a pair.
    overlong : {"error", "truncate", "drop"}
        What to do with a row that alone costs more than `max_tokens`. "truncate" lowers
        `max_length` until all rows fit (give the collator the sampler's `max_length`); "drop"
        leaves the row out of every epoch.
    shuffle : bool
        Whether there is a new order every epoch.
    shuffle_window : int, None or "auto"
        How many shuffled rows are sorted together. A larger window leaves less padding and mixes
        less. None is one window of all rows: then a row is always with rows of nearly its own
        length. "auto" is 100 batches, but at most a quarter of the rows, and at least one batch.
    strategy : {"pool", "best_fit"}
        How packs are filled, with `padding_free` and `max_tokens`.
    pool_size : int or "auto"
        Rows that are held back to fill packs. "auto" is 8,192.
    balance : int, optional
        How many batches of about the same cost stay together. None is the number of ranks, so that
        for one rank all orders of batches are equally likely. Pass it where another library shares
        out the batches of this sampler among ranks: their number, or a multiple of it.
    longest_first : bool
        Whether every rank begins an epoch with its most expensive batch. Then memory that is too
        small fails at the first step.
    seed : int
        The seed of the random orders, from 0 to 2**64 - 1.
    drop_last : bool
        Whether to leave out the tail, and the last batches that are too few for a step of all
        ranks.
    tail : {"split", "repeat"}
        What to do, without `drop_last`, if the last batches are too few for a step of all ranks.
        "split" cuts some of the last batches into smaller ones, so that every row still comes
        exactly once, which is right for evaluation too. (If nearly all batches have one row, there
        may be nothing to cut; then it repeats.) "repeat" gives out the first batches again (with
        `longest_first` each rank its own); `repeated` counts their rows.
    pad_to_multiple_of : int, optional
        The collator rounds the width up to a multiple of this; `max_tokens` counts that.
    boundaries : sequence of int, optional
        The widths that the collator pads to; `max_tokens` counts them, and a row longer than the
        last one is overlong.
    limits : dict of {str: (costs, cap)}, optional
        More hard caps on a batch, each with a name and what every row costs: images, pixels,
        ``lengths**2``. Costs are added up; `tightbatch.Limit` has those that are padded. A row that
        alone breaks a limit is overlong, and cannot be truncated.
    batch_size_multiple : int, optional
        Full batches have a multiple of this many rows, where the caps allow it. Not for packs.
    groups : sequence of int or str, array or Arrow column, shape [rows], optional
        A label for each row: its task, source, modality or shape; also tuples, or an array of shape
        [rows, 2]. All rows of a batch have the same label. Each group is planned as if it were
        alone, then the full batches of all groups are mixed. The last batch of each group, which
        is not full, comes after them, or is left out with `drop_last`.
    group_weights : dict, optional
        The share of each label in an epoch, as any numbers; 0 leaves a group out. An epoch is as
        large as without. Of a small group rows come again, of a large one rows are left out: over
        the epochs each row of a group comes equally often. `repeated` and `dropped` count them.
    temperature : float, optional
        Shares in proportion to ``size ** (1 / temperature)``: 1 leaves groups as they are, infinity
        makes them equal.
    weigh : {"rows", "tokens"}
        Whether shares, and sizes, are of rows or of tokens.
    num_replicas, rank : int
        The number of ranks, and which of them this is, which has no default among several. Leave
        them out for a loader that goes through accelerate's ``prepare``, which shares out the
        batches itself.

    Attributes
    ----------
    batch_size : int or None
        None if the number of rows varies (by `max_tokens`, `limits` or `groups`, or because it is
        no multiple of `batch_size_multiple`), as other libraries expect.
    max_length : int or None
        As given, or lower with ``overlong="truncate"``.
    shuffle_window : int or None
        Rows in a window: the number that "auto" or None stands for. None where a pool is used.
    groups : list or None
        The labels there are, in the order in which they come first.
    pool_size : int or None
        Rows in the pool: the number that "auto" stands for. None without a pool.
    truncated : int
        How many rows are longer than `max_length`.
    max_tokens, padding_free, ... :
        The other parameters, as given.

    Raises
    ------
    ValueError
        When there is no cap; when a number is out of range; when there are fewer rows than ranks;
        when a length is negative; when a row alone is above `max_tokens` (the message names the row
        and what to change).
    TypeError
        When lengths are not integers in one dimension, or a setting has the wrong type.
    OverflowError
        When a number does not fit into 64 bits.

    Notes
    -----
    The epoch advances by itself: an iteration that reaches its end moves the sampler from its epoch
    to the next, unless `set_epoch` has moved it since. An iteration that is stopped before its end
    does not, so the next one repeats the epoch. Several iterations may run at the same time. A
    DataLoader with workers reads ahead: before the loop ends, the sampler may be at the next epoch
    already, and with `max_tokens` its ``len`` is that epoch's.

    Sorting in windows of shuffled rows was described, as sequence bucketing, by V. Khomenko et al.,
    "Accelerating recurrent neural network training using sequence bucketing and multi-GPU data
    parallelization" (2016), https://arxiv.org/abs/1708.05604; best-fit packing of documents by H.
    Ding et al., "Fewer truncations improve language modeling" (2024),
    https://arxiv.org/abs/2404.10830.

    Examples
    --------
    >>> import tightbatch as tb
    >>> lengths = [5, 3, 9, 2, 7, 3]
    >>> list(tb.LengthBatchSampler(lengths, batch_size=2, shuffle=False))
    [[2, 4], [0, 1], [5, 3]]
    >>> list(tb.LengthBatchSampler(lengths, max_tokens=10, shuffle=False))
    [[2], [4], [0, 1], [5, 3]]

    >>> sampler = tb.LengthBatchSampler(lengths, batch_size=2, seed=1)
    >>> first, second = list(sampler), list(sampler)
    >>> len(sampler), sampler.epoch
    (3, 2)
    >>> sampler.set_epoch(0)
    >>> list(sampler) == first
    True
    """

    batch_size: int | None
    max_tokens: int | dict[int, int] | None
    max_length: int | list[int | None] | None
    pad_to_multiple_of: int | None
    quadratic_length: int | None
    batch_size_multiple: int | None
    shuffle_window: int | None
    strategy: str
    pool_size: int | None
    balance: int | None
    padding_free: bool
    shuffle: bool
    longest_first: bool
    drop_last: bool
    overlong: str
    seed: int
    boundaries: list[int] | None
    limits: dict[str, Limit] | None

    def __init__(
        self,
        lengths: Any,
        *,
        batch_size: int | None = None,
        max_tokens: int | Mapping[int, int] | None = None,
        padding_free: bool = False,
        quadratic_length: int | None = None,
        max_length: int | Sequence[int] | None = None,
        overlong: Literal["error", "truncate", "drop"] = "error",
        shuffle: bool = True,
        shuffle_window: int | Literal["auto"] | None = "auto",
        strategy: Literal["pool", "best_fit"] = "pool",
        pool_size: int | Literal["auto"] = "auto",
        balance: int | None = None,
        longest_first: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        tail: Literal["split", "repeat"] = "split",
        pad_to_multiple_of: int | None = None,
        boundaries: Sequence[int] | None = None,
        limits: Mapping[str, Limit | tuple[Any, int]] | None = None,
        batch_size_multiple: int | None = None,
        groups: Any = None,
        group_weights: Mapping[Any, float] | None = None,
        temperature: float | None = None,
        weigh: Literal["rows", "tokens"] = "rows",
        num_replicas: int = 1,
        rank: int | None = None,
    ) -> None:
        if batch_size is None and max_tokens is None and not limits:
            raise ValueError(f"{NAME}(): pass batch_size=, max_tokens= or both, or limits=")
        schedule = read_schedule(NAME, max_tokens)
        if schedule is not None:
            max_tokens = schedule.least
        auto = isinstance(shuffle_window, str)
        given = {
            "batch_size": batch_size,
            "max_tokens": max_tokens,
            "max_length": None if isinstance(max_length, tuple | list) else max_length,
            "pad_to_multiple_of": pad_to_multiple_of,
            "quadratic_length": quadratic_length,
            "batch_size_multiple": batch_size_multiple,
            "shuffle_window": None if auto else shuffle_window,
            "pool_size": None,
            "balance": balance,
            "ranks": 1,
            "padding_free": padding_free,
            "shuffle": shuffle,
            "longest_first": longest_first,
            "drop_last": drop_last,
            "overlong": overlong,
            "seed": seed,
        }
        asked: Any = overlong  # a str, by what users read
        if isinstance(asked, str) and asked == "split":
            raise ValueError(
                f"{NAME}(): overlong='split'; expected one of 'error', 'truncate', 'drop': "
                "a sampler yields whole rows; tightbatch.pack splits them"
            )
        _core.read_choice(NAME, "overlong", overlong, ("error", "truncate", "drop"))
        settings = _core.read_plan_settings(NAME, given)
        if auto:
            _core.read_choice(NAME, "shuffle_window", shuffle_window, ("auto",))
        if boundaries is not None:
            settings["boundaries"] = _core.read_boundaries(NAME, None, boundaries)
            if settings["padding_free"]:
                raise ValueError(f"{NAME}(): boundaries= with padding_free=True; expected one")
        self.tail = _core.read_choice(NAME, "tail", tail, ("split", "repeat"))
        self.num_replicas, self.rank = read_ranks(NAME, num_replicas, rank)
        rows = read_rows(NAME, lengths, limits, max_length, settings)
        self.limits = rows.limits or None
        if schedule and (
            limits or groups is not None or settings["longest_first"] or rows.is_pairs
        ):
            raise ValueError(
                f"{NAME}(): max_tokens={schedule.as_dict()} with limits=, groups=, "
                "longest_first=True or lengths of two sides; expected one cap"
            )
        self.strategy, settings["pool_size"] = read_pool(
            NAME,
            strategy,
            pool_size,
            shuffle_window="auto" if auto else settings["shuffle_window"],
            packs=settings["padding_free"] and bool(settings["max_tokens"] or limits),
            limited=bool(limits),
        )
        shares = Shares(group_weights, temperature, weigh).read(NAME, groups)
        self._planner = Planner(
            NAME,
            rows.lengths,
            settings,
            auto_window=auto,
            by_row=rows.planned,
            schedule=schedule,
        )
        if groups is not None:
            self._planner.group(groups, shares)
        if 0 < self._planner.rows < self.num_replicas and self.tail == "split":
            raise ValueError(
                f"{NAME}(): {self._planner.rows} rows for num_replicas={self.num_replicas}; "
                "expected at least a row for each rank, or tail='repeat'"
            )
        self.__dict__.update(self._planner.settings)
        if rows.is_pairs:
            self.max_length = rows.max_length
        if schedule is not None:
            self.max_tokens = schedule.as_dict()
        del self.__dict__["ranks"]  # the planner's: num_replicas, or what a state says
        self.boundaries = None if boundaries is None else settings["boundaries"].tolist()
        multiple = settings["batch_size_multiple"] or 1
        if self._is_capped or groups is not None or (settings["batch_size"] or 0) % multiple:
            self.batch_size = None  # accelerate loses batches that have fewer rows than it says
        self.truncated = rows.truncated or self._planner.truncated
        found = self._planner.groups
        self.groups = None if found is None else found.labels
        self.group_weights, self.temperature = shares.weights, shares.temperature
        self.weigh = shares.weigh
        self._dealt: tuple[NDArray[np.int64], Steps] | None = None
        self._move(0)

    @property
    def sampler(self) -> LengthBatchSampler:
        """The sampler itself, because accelerate and Lightning look for ``set_epoch`` here."""
        return self

    @property
    def _is_capped(self) -> bool:
        """Whether something else than `batch_size` limits a batch."""
        return self.max_tokens is not None or bool(self.limits)

    def _deal(self) -> Steps:
        """The steps of the coming iteration: those of a whole epoch, or of the rest of one."""
        offsets = self._plan()[1]
        if self._dealt is None or self._dealt[0] is not offsets:
            self._dealt = (offsets, self._deal_from(offsets, 0))
        steps = self._dealt[1]
        if self._begin == 0:
            return steps
        return steps.go_on(self._begin) or self._deal_from(offsets, self._begin)

    def _deal_from(self, offsets: NDArray[np.int64], begin: int) -> Steps:
        uneven = "drop" if self.drop_last else self.tail
        steps = 0 if begin else self._least_steps
        own = self.longest_first
        return deal(offsets, begin, self.num_replicas, uneven, steps=steps, repeats_own=own)

    def __len__(self) -> int:
        """Batches of this rank in the coming epoch, exactly, counted from its beginning."""
        batches = len(self._plan()[1]) - 1
        steps = batches // self.num_replicas
        if not self.drop_last:
            steps = -(-batches // self.num_replicas)
        return max(steps, self._least_steps) if steps else 0

    def even_out(self, epochs: int) -> None:
        """Let the first epochs have the same number of steps, that of the longest of them.

        With `max_tokens` or `limits` epochs have other numbers of batches. transformers' Trainer
        and Lightning ask for ``len`` once, and leave out what longer epochs have more. Here the
        last batches of shorter epochs are cut into smaller ones instead: every row still comes
        once. The sampler is at epoch 0 then. Each epoch is planned once for it.

        Parameters
        ----------
        epochs : int
            How many there are, from 1; a ValueError, TypeError or OverflowError otherwise.

        Examples
        --------
        >>> import tightbatch as tb
        >>> sampler = tb.LengthBatchSampler([3, 9, 4, 8, 2, 7, 5] * 9, max_tokens=30)
        >>> sampler.even_out(5)
        >>> len({len(list(sampler)) for epoch in range(5)})
        1
        """
        count = _core.read_int(f"{NAME}.even_out", "epochs", epochs, 1, NO_CAP)
        self._least_steps = 0
        if self._is_capped and self._planner.renews:
            counts = []
            for epoch in range(count):
                self._move(epoch)
                counts.append(len(self))
            self._least_steps = max(counts, default=0)
        self._move(0)
        self._moves += 1
        self._dealt = None

    def __iter__(self) -> Iterator[list[int]]:
        """Run through the epoch that the sampler is at now."""
        if self.num_replicas > 1:
            check_shared_once(NAME, self.num_replicas, sys._getframe(1).f_locals.get("self"))
        indices, offsets = self._plan()
        steps, rows = self._deal(), int(offsets[-1])
        self._run = run = Run(self._epoch, self._planned, rows, steps, self._moves)
        self._is_loaded = False
        return self._hand_out(run, self._batches(indices, steps, self.rank))

    def _batches(self, indices: NDArray[np.int64], steps: Steps, rank: int) -> Iterator[list[int]]:
        shares = self.padding_free and not self._is_capped and self.groups is None
        if shares and self.num_replicas > 1:
            kept = self.longest_first and steps.begins_as_planned
            costs = self._planner.row_costs
            return shared(indices, steps, rank, costs, begins_as_planned=kept)
        if self.num_replicas > 1:
            return dealt(indices, steps, rank)
        return in_line(indices, steps.begins, steps.ends)

    def _hand_out(self, run: Run, batches: Iterator[list[int]]) -> Iterator[list[int]]:
        self._asked = None
        for batch in batches:
            run.done += 1
            yield batch
        if (self._epoch, self._moves) == (run.epoch, run.moves):
            self._move(min(run.epoch + 1, NO_CAP), ended=True)
            self._run = run

    def __repr__(self) -> str:
        """Show the settings that differ from the default."""
        batch_size = self._planner.settings["batch_size"]
        given = [f"batch_size={batch_size!r}"] if batch_size else []
        for name, parameter in signature(LengthBatchSampler).parameters.items():
            value = getattr(self, name, parameter.default)
            unused = name in ("shuffle_window", "pool_size") and value is None
            unused = unused or (name == "rank" and self.num_replicas == 1)
            if name == "groups" and value is not None:
                given.append(f"groups={len(value)}")
            elif name != "batch_size" and value != parameter.default and not unused:
                given.append(f"{name}={value!r}")
        rows = counted(len(self._planner.lengths), "row")
        return f"<LengthBatchSampler of {rows}: {', '.join(given)}>"
