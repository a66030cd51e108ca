"""One iteration of a StreamBatcher: it reads samples, and the core decides which share a batch."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from operator import itemgetter
from threading import RLock
from typing import Any

from .. import _core
from .stream_limits import say_missing
from .stream_replay import REFUSED, Replay, others
from .stream_source import NAME, Reader, Share
from .stream_states import Rest

_WAITS, _IN_PACK, _GONE = range(3)  # tb_row_place
# A source is asked for its state once in this part of the buffer: so many samples more are read
# again when a state is loaded.
_PARTS = 8


def size_in_bytes(sample: Any) -> int:
    """Count the bytes of a sample's arrays, tensors, strings and numbers."""
    size = getattr(sample, "nbytes", None)
    if isinstance(size, int):
        return size
    if isinstance(sample, Mapping):
        return sum(map(size_in_bytes, sample.values()))
    if isinstance(sample, (str, bytes, bytearray)):
        return len(sample)
    if isinstance(sample, (list, tuple)):
        if sample and not isinstance(sample[0], (int, float)):
            return sum(map(size_in_bytes, sample))
        return 8 * len(sample)
    return sum(map(size_in_bytes, vars(sample).values())) if hasattr(sample, "__dict__") else 8


def _same(sample: Any) -> Any:
    return sample


class Run(Iterator[list[Any]]):
    """An iteration. After an error of the source it can go on: what waits is kept."""

    def __init__(
        self, batcher: Any, epoch: int, share: Share, state: Any = None, parts: Any = ()
    ) -> None:
        self.epoch, self.ended = epoch, False
        self.done = 0  # batches handed out
        self._turn, self._is_reading = RLock(), False
        self._batcher, self._share = batcher, share
        self._state = state  # to continue from, when the first batch is asked for
        self._parts = parts  # the states of other shares that it was made of
        self._rest: Rest | None = None  # of samples that others had a part of
        self._count_steps(0)
        self._passes = 0  # how often the source was read to its end, and begun again
        self._has_had_batch = False  # in this pass, or it was begun by others
        self._is_read_on = False  # from the iterator that the iteration before this one read
        self._repeated = self._dropped = self._truncated = 0
        self._has_sides: bool = batcher._has_sides
        self._begin(0)

    def _count_steps(self, before: int) -> None:
        """Find how many steps this worker makes, after those that its rank has made before."""
        steps, share = self._batcher.steps, self._share
        if steps is not None:
            steps = max(steps - before, 0)
            steps = steps // share.workers + (share.worker < steps % share.workers)
        self._steps: int | None = steps

    def _numbering(self) -> tuple[int, int]:
        """Give the share of the samples whose numbers are counted, and of how many."""
        return (self._share.share, self._share.shares) if self._rest is None else (0, 1)

    def _is_own(self, number: int) -> bool:
        """Tell whether a sample is this share's."""
        if self._rest is not None:
            return self._rest.has(number, self._share)
        return number % self._share.shares == self._share.share

    def _begin(self, fingerprint: int) -> None:
        """Begin with no samples that wait."""
        self._begin_stream(fingerprint)
        self._held: dict[int, Any] = {}
        self._exhausted = False
        # The number of the next sample in the source, a tuple of it where it was read and has not
        # been added, and whether its length and costs were read. The core keeps it right whenever
        # code of the user's runs, which may ask for the state: a signal handler, say.
        self._progress: list[Any] = [0, (), False]
        self._marks: deque[tuple[int, Any, int]] = deque([(0, None, 0)])
        # Before which samples the source has raised an error; REFUSED more: which samples were
        # left out after one.
        self._failures: list[int] = []
        self._get = self._batcher._get
        self._reader: Reader | None = None

    @property
    def _number(self) -> int:
        """The number of the next sample in the source."""
        return int(self._progress[0])

    def _begin_stream(self, fingerprint: int) -> None:
        self._begun = fingerprint
        self._stream = self.start(self._numbering(), fingerprint)

    def start(self, numbering: tuple[int, int], fingerprint: int) -> Any:
        """Give a stream of the core."""
        batcher = self._batcher
        return _core.start_stream(
            NAME,
            batcher._settings,
            batcher.buffer,
            batcher.buffer_tokens or batcher.buffer_bytes,
            self.epoch,
            self._share.place + (self._passes << 32),
            *numbering,
            fingerprint,
            batcher._sides(self._has_sides),
        )

    # --- batches --------------------------------------------------------------------------

    def __next__(self) -> list[Any]:
        """Give the next batch: a list of samples. Threads that share the iterator take turns."""
        with self._turn:
            if self._is_reading:
                raise RuntimeError(
                    f"{NAME}(): the samples ask for a batch while one is read from them; expected "
                    "samples that do not iterate over their own batches"
                )
            self._is_reading = True
            try:
                return self._next()
            finally:
                self._is_reading = False

    def _next(self) -> list[Any]:
        if self._state is not None:
            self._restore(self._state)
            self._state = None
        while not self.ended:
            if self._steps is not None and self.done >= self._steps:
                self._dropped += len(_core.save_stream(self._stream)[0])  # that still wait
                break
            batch = _core.take_from_stream(self._stream, self._exhausted, self._held)
            if batch is not None:
                self.done += 1
                self._has_had_batch = True
                self._repeated += len(batch) if self._passes else 0
                return batch
            if not self._exhausted:
                self._read()
            elif self._steps is None:
                self._warn_of_none()
                break
            else:
                self._read_again(self._steps)
        self._finish()
        raise StopIteration

    def _warn_of_none(self) -> None:
        """Say that there were no samples because an iteration before this one had read them all."""
        if self._number == 0 and self._is_read_on:
            found = type(self._batcher.samples).__name__
            warnings.warn(
                f"{NAME}(): the samples ({found}) gave none: an iterator can be read once, and it "
                "had come to its end. For several epochs pass what can be read again: a function "
                "that gives them, a list, a dataset, or an object with __iter__",
                UserWarning,
                stacklevel=4,
            )

    def is_complete(self) -> bool:
        """Whether it has given all its steps: a loop that counts them does not ask for more."""
        return self._state is None and self._steps is not None and self.done >= self._steps

    def _finish(self) -> None:
        self.ended = True
        self._held.clear()  # with drop_last, the tail

    def _read_again(self, steps: int) -> None:
        """Begin with the first sample again: more steps are asked for than there are."""
        found = expected = None
        if self._number == 0 and self._passes == 0:
            read_before = isinstance(self._batcher.samples, Iterator)
            found = "there were none: they are empty" + ", or were read before" * read_before
            expected = "at least one sample"
        elif self._number == 0:
            found = "could not be read again"
            expected = (
                "samples that can be iterated again, such as a function that gives them, or fewer "
                "steps="
            )
        elif not self._has_had_batch:
            found = "a whole pass over them gave no batch here"
            expected = "samples that make a batch on each rank and worker, or fewer steps="
        if found is not None:
            raise ValueError(
                f"{NAME}(): the samples ended after {self.done} of {steps} steps, and {found}; "
                f"expected {expected}"
            )
        self._dropped, self._truncated, _ = self.counts()
        self._passes += 1
        self._has_had_batch = False
        self._rest = None if self._rest is None else self._rest.again()
        self._begin(0)

    def _read(self) -> None:
        """Read samples until a batch is ready, or to the end."""
        if self._reader is None:
            self._reader = Reader(self._batcher.samples, self.epoch, None, self._batcher._first)
            self._is_read_on = self._reader.samples is self._batcher._last
        self._mark(self._reader)
        if self._get is None and not self._find_first(self._reader):
            return
        try:
            is_ready = self._add(self._reader.samples)
        except Exception as error:
            number, read, is_known = self._progress
            if not read:
                self._failures.append(number)
            else:
                self._leave_out()
                if not is_known:
                    self._refuse(error, read[0], number)
            raise
        self._exhausted = not is_ready
        if self._number > 0:
            self._batcher._last = self._reader.samples

    def _add(self, samples: Iterator[Any]) -> bool:
        """Add samples of this share; give whether a batch is ready.

        A sample is kept that was being added when this is interrupted, by Ctrl-C for example.
        """
        if self._rest is not None:
            return self._add_rest(samples)
        return self._add_all(samples)

    def _add_all(self, samples: Iterator[Any]) -> bool:
        weigh: Any = size_in_bytes if self._batcher.buffer_bytes is not None else None
        if weigh is None and self._batcher.buffer_tokens is None:
            weigh = 0
        return _core.read_into_stream(
            self._stream,
            samples,
            self._getter(),
            self._batcher._get_costs,
            weigh,
            self._held,
            self._progress,
        )

    def _add_rest(self, samples: Iterator[Any]) -> bool:
        if self._progress[1] and self._add_all(iter(())):
            return True
        for sample in samples:
            if not self._is_own(self._number):
                self._progress[0] += 1
                continue
            self._progress[1] = (sample,)
            if self._add_all(iter(())):
                return True
        return False

    def _leave_out(self) -> None:
        """Go on after the sample that raised."""
        number = self._number
        self._failures.append(number + REFUSED)
        self._progress[:] = [number + 1, (), False]

    def _getter(self) -> Any:
        """Give what the core gets lengths by: a key of mappings, None for samples themselves."""
        if self._get is _same:
            return None
        length = self._batcher.length
        if isinstance(self._get, itemgetter) and not isinstance(length, (tuple, list)):
            return "input_ids" if length is None else length
        return self._get

    def _find_first(self, reader: Reader) -> bool:
        """Find the length of samples by the first one of this share, which is added later.

        Give False at the end of the samples.
        """
        while not self._progress[1]:
            try:
                sample = next(reader.samples)
            except StopIteration:
                self._exhausted = True
                return False
            except Exception:
                self._failures.append(self._number)
                raise
            if self._is_own(self._number):
                self._progress[1] = (sample,)
            else:
                self._progress[0] += 1
        [sample], number = self._progress[1], self._number
        try:
            self._get = self._find_getter(sample, number)
        except Exception as error:
            self._leave_out()
            self._refuse(error, sample, number)
            raise
        return True

    def _find_getter(self, sample: Any, row: int) -> Any:
        """Find the length of samples, where `length` does not say, and whether there are two."""
        length = self._batcher.length
        if callable(length):
            if isinstance(length(sample), tuple):
                self._has_sides = True
                self._begin_stream(self._begun)
            return length
        if not isinstance(sample, Mapping):
            return _same
        if "input_ids" in sample:
            return itemgetter("input_ids")
        raise ValueError(
            f"{NAME}(): row {row}: found the keys {_core.show(list(sample))}; pass length=, the "
            "key of a column of tokens or of lengths, or a function"
        )

    def read_row(self, sample: Any, row: int) -> tuple[Any, Any]:
        """Give what tells the length of a sample, and its costs."""
        if self._get is None:
            self._get = self._find_getter(sample, row)
        get_costs = self._batcher._get_costs
        return self._get(sample), None if get_costs is None else get_costs(sample)

    def _refuse(self, error: Exception, sample: Any, row: int) -> None:
        """Raise what says more than an error of `length` does by itself."""
        if isinstance(error, StopIteration):  # it would end the loop in silence
            raise RuntimeError(f"{NAME}(): row {row}: length() raised StopIteration") from error
        if isinstance(error, (KeyError, TypeError)):
            length = "input_ids" if self._batcher.length is None else self._batcher.length
            missing = say_missing(sample, row, length, self._batcher.limits)
            if missing is not None:
                raise missing[0](missing[1]) from error

    # --- state ----------------------------------------------------------------------------

    def _mark(self, reader: Reader) -> None:
        """Note the source's own state now and then, to read from there again."""
        share, shares = self._numbering()
        every = max(self._batcher.buffer // _PARTS, 1) * self._share.shares
        if self._progress[1]:
            return  # the source is one sample further
        if reader.has_state and self._number - self._marks[-1][0] >= every:
            fingerprint = _core.stream_counts(self._stream)[2]
            self._marks.append((self._number, reader.state(), fingerprint))
            oldest = next(iter(self._held), None)
            first = self._number if oldest is None else oldest * shares + share
            while len(self._marks) > 1 and self._marks[1][0] <= first:
                self._marks.popleft()

    def state(self) -> dict[str, Any]:
        """Give what it takes to go on from here, in plain numbers."""
        with self._turn:
            return self._find_state()

    def _find_state(self) -> dict[str, Any]:
        if self._state is not None:
            return dict(self._state)
        waiting, pack, chosen, after, batches, fingerprint, dropped, truncated = _core.save_stream(
            self._stream
        )
        share, shares = self._numbering()
        first = waiting[0] * shares + share if waiting else self._number
        while len(self._marks) > 1 and self._marks[1][0] <= first:
            self._marks.popleft()
        begin, source, begun = self._marks[0]
        return {
            "epoch": self.epoch,
            "share": self._share.as_list(),
            "sharded": self._share.sharded,
            "ended": self.ended,
            "exhausted": self._exhausted,
            "steps": [self.done, self._passes],
            "samples": [begin, self._number],
            "source": source,
            "failures": [number for number in self._failures if number % REFUSED >= begin],
            "lengths": [begun, fingerprint],
            "waiting": [] if self.ended else waiting,
            "pack": [] if self.ended else pack,
            "stream": [chosen, after, batches, dropped, truncated],
            "counts": [self._repeated, self._dropped, self._truncated],
            "rest": None if self._rest is None else self._rest.as_state(begin),
            "ended_at": None,
        }

    def ended_at(self) -> int | None:
        """Give the number of samples, if all were read."""
        return self._number if self._exhausted and self._passes == 0 else None

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Read the samples that waited again, and go on from there."""
        self.done, self._passes = state["steps"]
        self._repeated, self._dropped, self._truncated = state["counts"]
        self._rest = Rest.of(state["rest"])
        self._has_had_batch = self.done > 0 or self._passes > 0 or self._rest is not None
        self._count_steps(0 if self._rest is None else self._rest.steps)
        begin, end = state["samples"]
        begun, fingerprint = state["lengths"]
        self._begin(begun)
        self._failures = list(state["failures"])
        chosen, *counts = state["stream"]
        if not state["ended"]:
            if state["waiting"] or not state["exhausted"]:
                first = self._batcher._first
                self._reader = Reader(self._batcher.samples, self.epoch, state["source"], first)
                self._marks = deque([(begin, state["source"], begun)])
                self._read_waiting(self._reader, state, begin, end)
            else:
                fingerprint = begun  # nothing has to be read
            after, batches, dropped, truncated = counts
            is_same = _core.continue_stream(
                self._stream,
                state["pack"],
                chosen,
                after,
                batches,
                fingerprint,
                dropped,
                truncated,
            )
            if not is_same or len(self._held) != len(state["waiting"]):
                raise others(f"the first {end} have other lengths")
        self._progress[0] = end
        self._exhausted, self.ended, self._parts = state["exhausted"], state["ended"], ()

    def _read_waiting(self, reader: Reader, state: Mapping[str, Any], begin: int, end: int) -> None:
        """Read samples up to the one that comes next; keep those that had not been handed out."""
        places = dict.fromkeys(state["waiting"], _WAITS) | dict.fromkeys(state["pack"], _IN_PACK)
        shares = self._numbering()[1]
        refused = {number - REFUSED for number in self._failures if number >= REFUSED}
        if self._failures or self._parts:
            samples, failures = reader.samples, list(self._failures)
            reader.samples = Replay(self, samples, begin, failures, self._parts)
        for number in range(begin, end):
            try:
                sample = next(reader.samples)
            except StopIteration:
                raise others(f"there are {number}, and {end} had been read") from None
            if number in refused or not self._is_own(number):
                continue
            place = number // shares
            where = places.get(place, _GONE)
            try:
                weight = 0 if self._batcher.buffer_tokens is None else None
                if self._batcher.buffer_bytes is not None:
                    weight = size_in_bytes(sample)
                item, costs = self.read_row(sample, number)
                _core.restore_to_stream(self._stream, place, item, weight, costs, where)
            except Exception as error:
                if where == _GONE:
                    continue  # it was an error then too
                raise others(f"row {number} has no length now: {error}") from error
            if where != _GONE:
                self._held[place] = sample

    def counts(self) -> tuple[int, int, int]:
        """Count the samples left out, those longer than max_length, and those repeated."""
        dropped, truncated, _ = _core.stream_counts(self._stream)
        return self._dropped + dropped, self._truncated + truncated, self._repeated
