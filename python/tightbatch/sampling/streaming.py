"""StreamBatcher: batches of samples of like length, or packs, from samples that come one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any, Literal

import numpy as np

from .. import _core
from .limits import Limit, as_state
from .plan import NO_CAP
from .rows import check_sides, read_cut
from .stream_limits import as_stream_settings, cost_getter, read_length, read_stream_limits
from .stream_ranks import InStep
from .stream_run import Run
from .stream_source import (
    NAME,
    SHARDED,
    check_samples,
    find_ranks,
    find_share,
    in_worker,
    register,
)
from .stream_states import choose_state, read_states

__all__ = ["StreamBatcher"]

_FORM = 1  # changes when a release batches differently: old states do not fit then
_MOST_ROWS = 2**31 - 2


class StreamBatcher:
    """Batches of samples of like length, or packs, of a stream whose lengths are not known before.

    Pass it to ``DataLoader(batcher, batch_size=None, collate_fn=collator, num_workers=...)``: it is
    an IterableDataset of torch where torch is installed, and an iterable of lists of samples
    everywhere. Samples come from any iterable: a generator function, ``datasets.IterableDataset``,
    a torch IterableDataset, lines of a file. They may be endless.

    Samples wait in a buffer until it is full. Then a batch is taken, and as many are read again.

    - **Padded batches.** The samples that wait are sorted by length. A batch is the full run of
      neighbours around one of the oldest, drawn at random, that needs the least padding.
    - **Packs**, with `padding_free` and `max_tokens` or `limits`. Samples go into a pack as they
      come, and those that wait end it, as for :class:`LengthBatchSampler`.
    - With `padding_free` and `batch_size` alone, batches follow the stream: nothing has to wait.

    No batch is above a cap. Each sample is handed out exactly once; only `drop_last`,
    ``overlong="drop"`` and `steps` leave any out, and `dropped` counts them. At the end of the
    samples the last ones are handed out, with `batch_size` in at most one batch that is not full.

    **Waiting.** A sample is due when 4 times `buffer` others have been read after it: every batch
    is then taken around the oldest one that is due. With `batch_size` alone that is after ``4 *
    buffer / batch_size`` batches; whatever the lengths, none waits for more than ``5 * buffer``
    batches. In a pack, none waits for more than `buffer` packs.

    **Workers and ranks.** Each DataLoader worker of each rank gets its own share of the samples,
    those whose number modulo the number of shares is its own; so each of them reads all samples,
    but hands out its share alone. A source that divides its samples among workers or ranks itself
    is not divided again: see `sharded`. Each worker has a buffer. Ranks make different numbers of
    batches: `steps` gives each the same number, or :meth:`in_step` lets them agree.

    **Resuming.** `state_dict` has the numbers of the samples that wait, not the samples. After
    `load_state_dict` they are read again: from a state of the source, if it has one that loses none
    (``state_dict`` and ``load_state_dict``, of the source or of its iterator), or else from the
    beginning. The batches are those that would have come. If the samples read again have other
    lengths, it is an error. torchdata's StatefulDataLoader saves and loads the states of its
    workers. The states of all ranks and workers, as a list, go on with other numbers of them.

    Parameters
    ----------
    samples : iterable, or function that gives one
        A function, such as a generator function, is called for each iteration. An iterator, such
        as a generator, can be read once: an iteration after its end gives nothing, and a
        UserWarning.
    length : str, function, tuple of two of these, or None
        What gives the length of a sample: a function of the sample, or the key of a column of
        tokens (whose length counts) or of lengths. None is "input_ids" for mappings, and the sample
        itself for anything else. Two of them, or a function that gives a tuple of two ints, are
        the lengths of source and target, both of which are padded.
    batch_size : int, optional
        The most samples in a batch.
    max_tokens : int, optional
        The most tokens in a batch, padding included; at least one of these two is needed, or
        `limits`.
    limits : dict of {str: (costs, cap)}, optional
        More hard caps on a batch, each with a name and what every sample costs: the key of a column
        of costs (or of lists, whose length counts), or a function of the sample. Costs are added
        up; `tightbatch.Limit` has those that are padded. A sample that alone breaks a limit is
        overlong, and cannot be truncated.
    padding_free, quadratic_length, max_length, overlong, pad_to_multiple_of, boundaries
        As for :class:`LengthBatchSampler`. With ``overlong="truncate"``, give the collator the
        batcher's `max_length`.
    buffer : int
        How many samples wait. The more, the less padding: with 64 batches it is about that of a
        :class:`LengthBatchSampler`, and packs of 1,024 are full to 99.9 %.
    buffer_tokens, buffer_bytes : int, optional
        A second limit: the buffer is full too when the samples that wait have so many tokens, or
        bytes of arrays, tensors and strings.
    seed : int
        The seed of what is drawn, from 0 to 2**64 - 1. Samples are not shuffled otherwise.
    drop_last : bool
        Whether to leave out the batch at the end that is not full, in each worker.
    steps : int, optional
        How many batches an iteration has on each rank, all its workers together. If there are more,
        the rest is not read; if there are fewer, the first samples come again, and `repeated`
        counts them. It is the ``len`` of the batcher, and of its loader: Lightning, which reads
        ahead where it knows no length, resumes at the right batch only with `steps`.
    sharded : {"auto", "no", "workers", "ranks", "both"}
        Among what the source divides its samples itself. "auto" knows datasets' IterableDataset,
        asks about other torch IterableDatasets in workers, and is "no" for anything else.
    num_replicas, rank : int, optional
        The number of ranks, and which of them this is. None asks torch.distributed, if there is a
        process group when the batcher is made.

    Raises
    ------
    ValueError
        For caps that contradict each other; and, when batches are made, for a length or cost that
        is negative or above a cap.
    TypeError, OverflowError
        For settings of a wrong type; and for lengths or costs that are no integers, or too large.
        These errors, and those of the source, leave the iteration as it was: it can go on.

    Examples
    --------
    >>> import tightbatch as tb
    >>> def numbers():
    ...     for n in (5, 1, 4, 2, 6, 1):
    ...         yield [n] * n
    >>> batcher = tb.StreamBatcher(numbers, batch_size=2, buffer=4)
    >>> for batch in batcher:
    ...     print(batch)
    [[5, 5, 5, 5, 5], [4, 4, 4, 4]]
    [[1], [1]]
    [[6, 6, 6, 6, 6, 6], [2, 2]]
    """

    max_length: int | list[int | None] | None
    limits: dict[str, Limit] | None
    seed: int

    def __init__(
        self,
        samples: Any,
        *,
        length: str | Callable[[Any], Any] | Sequence[str | Callable[[Any], Any]] | None = None,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        padding_free: bool = False,
        quadratic_length: int | None = None,
        max_length: int | Sequence[int] | None = None,
        overlong: Literal["error", "truncate", "drop"] = "error",
        pad_to_multiple_of: int | None = None,
        boundaries: Sequence[int] | None = None,
        limits: Mapping[str, Limit | tuple[str | Callable[[Any], Any], int]] | None = None,
        buffer: int = 2048,
        buffer_tokens: int | None = None,
        buffer_bytes: int | None = None,
        seed: int = 0,
        drop_last: bool = False,
        steps: int | None = None,
        sharded: Literal["auto", "no", "workers", "ranks", "both"] = "auto",
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        check_samples(samples)
        self.samples, self.length = samples, length
        self._get = read_length(length)
        read = read_stream_limits(limits)
        self._get_costs = cost_getter(read)
        if batch_size is None and max_tokens is None and not read:
            raise ValueError(f"{NAME}(): pass batch_size=, max_tokens= or both, or limits=")
        _core.read_choice(NAME, "overlong", overlong, ("error", "truncate", "drop"))
        given = {
            "batch_size": batch_size,
            "max_tokens": max_tokens,
            "max_length": None if isinstance(max_length, tuple | list) else max_length,
            "pad_to_multiple_of": pad_to_multiple_of,
            "quadratic_length": quadratic_length,
            "batch_size_multiple": None,
            "shuffle_window": None,
            "pool_size": None,
            "balance": None,
            "ranks": 1,
            "padding_free": padding_free,
            "shuffle": True,
            "longest_first": False,
            "drop_last": drop_last,
            "overlong": overlong,
            "seed": seed,
        }
        settings = _core.read_plan_settings(NAME, given)
        if boundaries is not None:
            settings["boundaries"] = _core.read_boundaries(NAME, None, boundaries)
            if settings["padding_free"]:
                raise ValueError(f"{NAME}(): boundaries= with padding_free=True; expected one")
        self._settings = settings
        self._read_sides(max_length)
        if read:
            settings["limits"] = as_stream_settings(read)
        self._read_buffer(buffer, buffer_tokens, buffer_bytes)
        self._read_cap()
        self.steps = None if steps is None else _core.read_int(NAME, "steps", steps, 1, NO_CAP)
        self.sharded = _core.read_choice(NAME, "sharded", sharded, SHARDED)
        self.num_replicas, self.rank = find_ranks(num_replicas, rank)
        for name in signature(StreamBatcher).parameters:
            if name in settings:
                setattr(self, name, settings[name])
        self.boundaries = None if boundaries is None else settings["boundaries"].tolist()
        self.limits = read or None
        if isinstance(max_length, tuple | list):
            self.max_length = list(self._cut)
        self._epoch = 0
        self._first: list[Any] = []  # the state of the source before one was loaded
        self._last: Any = None  # the iterator that samples were read from
        self._states: list[dict[str, Any]] = []  # that were loaded
        self._run: Run | None = None
        register(type(self))

    def _read_sides(self, max_length: Any) -> None:
        """Read whether samples have two lengths: None, the first sample tells."""
        self._has_sides = isinstance(self.length, tuple | list)
        self._may_have_sides = callable(self.length)
        if isinstance(max_length, tuple | list):
            if not (self._has_sides or self._may_have_sides):
                raise TypeError(
                    f"{NAME}(): max_length={_core.describe(max_length)}; expected an int, as each "
                    "sample has one length"
                )
            self._has_sides = True
        self._cut = read_cut(NAME, max_length)
        if self._has_sides:
            if self._get is None and callable(self.length):
                self._get = self.length
            check_sides(NAME, self._settings)

    def _sides(self, has_sides: bool) -> Any:
        """Give what the core is told of the lengths of a sample."""
        if not has_sides:
            return self._may_have_sides  # a tuple is no row of tokens then
        check_sides(NAME, self._settings)
        return self._cut

    def _read_buffer(self, rows: Any, tokens: Any, size: Any) -> None:
        """Read what the buffer holds at most."""
        self.buffer = _core.read_int(NAME, "buffer", rows, 1, _MOST_ROWS)
        self.buffer_tokens = self.buffer_bytes = None
        if tokens is not None and size is not None:
            raise ValueError(f"{NAME}(): buffer_tokens= with buffer_bytes=; expected one of them")
        if tokens is not None:
            self.buffer_tokens = _core.read_int(NAME, "buffer_tokens", tokens, 1, NO_CAP - 1)
        if size is not None:
            self.buffer_bytes = _core.read_int(NAME, "buffer_bytes", size, 1, NO_CAP - 1)
        batch = self._settings["batch_size"]
        if self._settings["max_tokens"] is None and batch is not None and batch > self.buffer:
            raise ValueError(
                f"{NAME}(): buffer={self.buffer} is less than batch_size={batch}; expected a "
                "buffer of several batches"
            )
        cap = self._settings["max_tokens"]
        if cap is not None and self.buffer_tokens is not None and self.buffer_tokens < cap:
            raise ValueError(
                f"{NAME}(): buffer_tokens={self.buffer_tokens} is less than max_tokens={cap}; "
                "expected a buffer of several batches"
            )

    def _read_cap(self) -> None:
        """Find the longest row that fits: with "truncate" it is max_length."""
        settings = self._settings
        none = np.zeros(0, np.int64)
        allowed = _core.survey_lengths(NAME, none, settings)[2]
        if allowed < 1:
            raise ValueError(
                f"{NAME}(): max_tokens={settings['max_tokens']} is less than any row costs; pass a "
                "larger one"
            )
        if settings["overlong"] == "truncate":
            most = min(settings["max_length"] or NO_CAP, allowed)
            settings["max_length"] = most if most < NO_CAP - 1 else None

    def __iter__(self) -> Iterator[list[Any]]:
        """Read through the samples, from where a state was loaded or from the first one."""
        share = find_share(self.samples, self.sharded, self.rank, self.num_replicas)
        state, parts = choose_state(self._states, share) if self._states else (None, ())
        self._states = []
        if state is None:
            self._epoch = self._coming(self._run)
        self._run = Run(self, self._epoch, share, state, parts)
        return self._run

    def __len__(self) -> int:
        """How many batches each rank gets: `steps`; a TypeError without, as of any stream.

        Lightning reads one batch ahead of training where it knows no length, and saves the place
        after that batch.
        """
        if self.steps is None:
            raise TypeError(f"{NAME}: the number of batches of a stream is not known; pass steps=")
        return self.steps

    def __bool__(self) -> bool:
        """Say yes: it may have batches, whether or not it knows how many."""
        return True

    def _coming(self, run: Run | None) -> int:
        """Give the epoch after an iteration: the next one if that has given all its batches."""
        is_over = run is not None and run.epoch == self._epoch and (run.ended or run.is_complete())
        return self._epoch + is_over

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration, or of the one under way."""
        run = self._run
        ended = run is not None and run.ended and run.epoch == self._epoch
        return self._epoch + ended

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration: what is drawn, and the order of the source.

        A source with a method ``set_epoch`` gets the epoch too. A state that was loaded for another
        epoch is forgotten.

        Parameters
        ----------
        epoch : int
            From 0 to 2**63 - 1; a ValueError, TypeError or OverflowError otherwise.

        Examples
        --------
        >>> import tightbatch as tb
        >>> batcher = tb.StreamBatcher([[1, 2], [3]], batch_size=2)
        >>> batcher.set_epoch(3)
        >>> batcher.epoch
        3
        """
        number = _core.read_int(f"{NAME}.set_epoch", "epoch", epoch, 0, NO_CAP)
        run = self._run
        if number != self._epoch:
            self._states = []
        if number != self._epoch or (run is not None and (run.ended or run.is_complete())):
            self._run = None
        self._epoch = number

    @property
    def dropped(self) -> int:
        """How many samples the latest iteration has left out, in this process."""
        return self._counts()[0]

    @property
    def truncated(self) -> int:
        """How many samples of the latest iteration were longer than `max_length`."""
        return self._counts()[1]

    @property
    def repeated(self) -> int:
        """How many samples the latest iteration handed out again for `steps`, in this process."""
        return self._counts()[2]

    def _counts(self) -> tuple[int, int, int]:
        return (0, 0, 0) if self._run is None else self._run.counts()

    def in_step(self, loader: Any) -> InStep:
        """Let all ranks make the same number of steps, by asking each other before each.

        Parameters
        ----------
        loader : DataLoader or other iterable
            What gives this rank's batches: a loader of this batcher, or the batcher itself.

        Returns
        -------
        InStep
            An iterable of the same batches. It ends on all ranks at once. With `drop_last`, that is
            when one of them has no batch left, and ``.dropped`` counts the batches, of all ranks,
            that were made and not handed out. Otherwise it is when none has one: until then the
            others hand out their first batches again, or that of another rank if they had none, and
            ``.repeated`` counts these, of all ranks.
            If the batches of one rank end with an error, all others raise a RuntimeError. Without
            torch.distributed, it gives the loader's batches.

        Examples
        --------
        >>> import tightbatch as tb
        >>> batcher = tb.StreamBatcher([[1, 2], [3]], batch_size=1)
        >>> len(list(batcher.in_step(batcher)))
        2
        """
        return InStep(loader, bool(self._settings["drop_last"]))

    def state_dict(self) -> dict[str, Any]:
        """Give where the latest iteration is: a new dict of numbers, lists and the source's state.

        Returns
        -------
        dict
            For `load_state_dict` of a batcher of the same samples and settings. After the end of an
            iteration it is the beginning of the next epoch; in a DataLoader worker, where others
            may not have come to their end, it is the end.

        Examples
        --------
        >>> import tightbatch as tb
        >>> rows = [[1] * n for n in (4, 2, 3, 5)]
        >>> batcher = tb.StreamBatcher(rows, batch_size=1, buffer=2)
        >>> batches = iter(batcher)
        >>> first = next(batches)
        >>> other = tb.StreamBatcher(rows, batch_size=1, buffer=2)
        >>> other.load_state_dict(batcher.state_dict())
        >>> list(other) == list(batches)
        True
        """
        run, total = self._run, None
        if self._states or run is None or (run.ended and not in_worker()):
            share = find_share(self.samples, self.sharded, self.rank, self.num_replicas)
            if self._states:
                return {**choose_state(self._states, share)[0], "settings": self._order()}
            total = None if run is None else run.ended_at()
            run = Run(self, self.epoch, share)
        return {**run.state(), "ended_at": total, "settings": self._order()}

    def _order(self) -> dict[str, Any]:
        """Give what decides which samples share a batch."""
        names = (
            "batch_size max_tokens padding_free quadratic_length max_length pad_to_multiple_of "
            "overlong drop_last seed boundaries buffer buffer_tokens buffer_bytes steps"
        )
        order = {name: getattr(self, name) for name in names.split()}
        return order | {"limits": as_state(self.limits or {}), "form": _FORM}

    def load_state_dict(self, state: Mapping[str, Any] | Sequence[Any]) -> None:
        """Continue where `state_dict` was called: the next iteration begins there.

        A list of the states of all ranks and workers, saved at one step, continues on any number of
        ranks and workers: the samples that none has handed out are dealt out again, in their order.
        With the same numbers as then, each goes on with its own batches. Samples that waited are
        read again when the first batch is asked for.

        Parameters
        ----------
        state : dict or list
            What `state_dict` gave, or a list of that of all ranks; also the states of torchdata's
            StatefulDataLoader, which have those of its workers.

        Raises
        ------
        ValueError
            For other settings; and, when an iteration begins, for states of a part of the ranks,
            for a source that divides its samples itself so that they cannot be dealt out again, and
            for other samples.
        TypeError
            When it is neither a dict nor a list.

        Examples
        --------
        >>> import tightbatch as tb
        >>> rows = [[1] * n for n in (4, 2, 3, 5, 1, 6, 2)]
        >>> def make(rank, ranks):
        ...     return tb.StreamBatcher(
        ...         rows, batch_size=1, buffer=2, num_replicas=ranks, rank=rank
        ...     )
        >>> two = [make(0, 2), make(1, 2)]
        >>> begun = [next(iter(batcher)) for batcher in two]
        >>> one = make(0, 1)
        >>> one.load_state_dict([batcher.state_dict() for batcher in two])
        >>> sorted(len(batch[0]) for batch in begun + list(one))
        [1, 2, 2, 3, 4, 5, 6]
        """
        self._states = read_states(state, self._order())
        self._epoch, self._run = min(one["epoch"] for one in self._states), None

    def __getstate__(self) -> dict[str, Any]:
        """Give everything except the iteration that has begun."""
        return {**self.__dict__, "_run": None, "_last": None, "_epoch": self.epoch}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what __getstate__ gave."""
        self.__dict__.update(state)
        register(type(self))

    def __repr__(self) -> str:
        """Show the settings that differ from the default."""
        shown = [type(self.samples).__name__]
        for name, parameter in signature(StreamBatcher).parameters.items():
            value = getattr(self, name)
            is_default = value == parameter.default or name in ("samples", "num_replicas", "rank")
            if not is_default:
                shown.append(f"{name}={value!r}")
        if self.num_replicas > 1:
            shown.append(f"rank={self.rank} of {self.num_replicas}")
        return f"<StreamBatcher of {', '.join(shown)}>"
