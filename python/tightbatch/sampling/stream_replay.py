"""Samples that are read again where other ranks and workers had read them: are they the same?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from .. import _core
from .stream_source import NAME
from .stream_states import Rest

_GONE = 2  # tb_row_place
REFUSED = 2**63  # added to the number of a sample, among those of errors: it was left out


class Replay(Iterator[Any]):
    """Samples from number `begin` on: past the errors of then, and with the lengths of then.

    `failures` has the number of a sample for each error that the source raised before it,
    and REFUSED more for each that was left out after an error of its length. `states` are those of
    all shares that had a part of the samples.
    """

    def __init__(
        self,
        run: Any,
        samples: Iterator[Any],
        begin: int,
        failures: list[int],
        states: Sequence[Mapping[str, Any]],
    ) -> None:
        self._run, self._samples, self._number = run, samples, begin
        self._failures = failures
        self._refused = {number - REFUSED for number in failures if number >= REFUSED}
        self._end = max((state["samples"][1] for state in states), default=0)
        self._shares = len(states)
        # Of a share that had been read from before `begin`, the fingerprint at `begin` is unknown.
        self._checks = [_Check(state) if state["samples"][0] >= begin else None for state in states]
        rests = [Rest.of(state["rest"]) for state in states]
        self._dealt = max((rest.begin for rest in rests if rest is not None), default=0)
        self._few = {
            number: share for share, rest in enumerate(rests) if rest for number in rest.few
        }

    def __next__(self) -> Any:
        """Give the next sample."""
        while True:
            try:
                sample = next(self._samples)
            except StopIteration:
                if self._number < self._end:
                    raise others(
                        f"there are {self._number}, and {self._end} had been read"
                    ) from None
                raise
            except Exception:
                if self._number not in self._failures:
                    raise
                self._failures.remove(self._number)
            else:
                number = self._number
                self._number += 1
                if number < self._end:
                    try:
                        self._count(number, sample)
                    except BaseException:  # Ctrl-C, say: the sample is still to come
                        self._samples, self._number = chain([sample], self._samples), number
                        raise
                    if self._number == self._end:
                        self._compare()
                return sample

    def _count(self, number: int, sample: Any) -> None:
        """Count a sample's length into the fingerprint of the share that had it."""
        share = number % self._shares
        if number < self._dealt:
            share = self._few.get(number, -1)
        check = self._checks[share] if share >= 0 else None
        is_counted = check is not None and check.begin <= number < check.end
        if check is not None and is_counted and number not in self._refused:
            try:
                item, costs = self._run.read_row(sample, number)
                if check.stream is None:  # the first sample tells whether it has two lengths
                    check.stream = self._run.start((0, 1), check.begun)
                _core.restore_to_stream(check.stream, number, item, 0, costs, _GONE)
            except Exception:
                return  # it was an error then too, or the fingerprint tells

    def _compare(self) -> None:
        for share, check in enumerate(self._checks):
            if check and check.now() != check.fingerprint:
                raise others(
                    f"those of share {share} of {self._shares}, before number {check.end}, have "
                    "other lengths"
                )


class _Check:
    """The fingerprint of a share, which is made again."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.begin, self.end = state["samples"]
        self.begun, self.fingerprint = state["lengths"]
        self.stream: Any = None

    def now(self) -> int:
        """Give it as it has been made so far."""
        return int(self.begun if self.stream is None else _core.stream_counts(self.stream)[2])


def others(found: str) -> ValueError:
    """Make the error of samples that are not those of the state."""
    return ValueError(
        f"{NAME}.load_state_dict(): {found}; expected the samples, in the order, of the time when "
        "the state was saved"
    )
