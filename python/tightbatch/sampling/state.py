"""Where a sampler is, and its state: what must agree with a sampler that continues from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import _core
from .limits import Limit, as_state
from .plan import NO_CAP, Plan, Planner
from .ranks import Run

NAME = "LengthBatchSampler"
# The settings that decide the order of an epoch. A saved position is valid only for the same ones.
_ORDER = (
    "max_tokens",
    "padding_free",
    "quadratic_length",
    "batch_size_multiple",
    "max_length",
    "overlong",
    "pad_to_multiple_of",
    "boundaries",
    "shuffle",
    "shuffle_window",
    "strategy",
    "pool_size",
    "balance",
    "longest_first",
    "seed",
    "drop_last",
)
_PLAN = 3  # changes when a release plans differently: old states do not fit then


class Place:
    """Where a sampler is: an epoch, how many of its rows were handed out, and the iteration."""

    _planner: Planner
    num_replicas: int
    boundaries: list[int] | None
    limits: dict[str, Limit] | None

    _least_steps = 0  # of every epoch: one with fewer is cut into more batches
    _moves = 0  # counts set_epoch and load_state_dict; an older iteration moves no epoch

    def _move(self, epoch: int, begin: int = 0, *, ended: bool = False) -> None:
        """Go to a row of an epoch; `ended`: the epoch before has come to its end."""
        self._epoch, self._begin, self._ended = epoch, begin, ended
        self._planned = self.num_replicas  # ranks that the epoch is planned for
        self._asked: int | None = None  # by set_epoch, for the coming iteration
        self._is_loaded = False
        self._run: Run | None = None

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration runs."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration runs; iterations that have begun do not change.

        Choosing the current epoch changes nothing: after `load_state_dict` the sampler still
        continues where the state was saved. A state that was saved at the end of an epoch, after
        its loop too, knows that this epoch is done: choosing it, before or after loading, gives an
        iteration without batches. So ``for epoch in range(saved, epochs)`` with `set_epoch` trains
        each epoch once, whether `saved` is the epoch under way or the next one.

        Parameters
        ----------
        epoch : int
            From 0 to 2**63 - 1; a ValueError, TypeError or OverflowError otherwise.

        Examples
        --------
        >>> import tightbatch as tb
        >>> sampler = tb.LengthBatchSampler([4, 2, 3], batch_size=2)
        >>> sampler.set_epoch(5)
        >>> sampler.epoch
        5
        """
        number = _core.read_int(f"{NAME}.set_epoch", "epoch", epoch, 0, NO_CAP)
        is_done = self._is_loaded and self._ended and number == self._epoch - 1
        if number != self._epoch:
            self._move(number)
            self._moves += 1
        if is_done:
            self._go_to_end()
        self._asked = number

    def _go_to_end(self) -> None:
        """Go to the end of the epoch: the coming iteration has no batches."""
        self._begin = int(self._plan()[1][-1])

    def _plan(self) -> Plan:
        """The coming epoch: indices [rows], and offsets [batches + 1] into them."""
        return self._planner.plan(self._epoch, self._planned)

    def state_dict(self, batches_consumed: int | None = None) -> dict[str, Any]:
        """Give the position of the latest iteration, as a small dict that is new at every call.

        Parameters
        ----------
        batches_consumed : int, optional
            How many batches of the latest iteration this rank has trained on. A DataLoader with
            workers takes batches ahead; without this number, all that it took count as done.

        Returns
        -------
        dict
            For `load_state_dict` of a sampler with the same lengths and settings, on any number of
            ranks. Inside the loop, after the last batch, it is the end of the epoch: the iteration
            that goes on there has no batches, and the one after it is the next epoch. After the
            loop it is the beginning of the next epoch; leave `batches_consumed` out there.

        Raises
        ------
        ValueError
            When it is more than the batches that were handed out.

        Examples
        --------
        >>> import tightbatch as tb
        >>> sampler = tb.LengthBatchSampler([4, 2, 3, 5], batch_size=1)
        >>> batches = iter(sampler)
        >>> first, second = next(batches), next(batches)
        >>> state = sampler.state_dict()
        >>> other = tb.LengthBatchSampler([4, 2, 3, 5], batch_size=1)
        >>> other.load_state_dict(state)
        >>> list(other) == list(batches)
        True
        """
        run = self._run
        handed_out = 0 if run is None else run.done
        done = handed_out
        if batches_consumed is not None:
            name = f"{NAME}.state_dict"
            done = _core.read_int(name, "batches_consumed", batches_consumed, 0, NO_CAP)
        if done > handed_out:
            raise ValueError(
                f"{NAME}.state_dict(): batches_consumed={done}, but the latest iteration has "
                f"handed out {handed_out}"
            )
        epoch, begin, planned, ended = self._epoch, self._begin, self._planned, self._ended
        if run is not None and (batches_consumed is not None or epoch == run.epoch):
            ended = ended and done == 0 and epoch == run.epoch
            epoch, planned = run.epoch, run.planned
            begin = run.steps.end_of(done) if done < len(run.steps) else run.rows
        return {
            "epoch": epoch,
            "rows": begin,
            "ranks": planned,
            "ended": ended,
            "lengths": [len(self._planner.lengths), self._planner.fingerprint],
            "settings": self._order(),
        }

    def _order(self) -> dict[str, Any]:
        order = {
            "batch_size": self._planner.settings["batch_size"],
            "limits": as_state(self.limits or {}),
        } | {name: getattr(self, name) for name in _ORDER}
        order["plan"] = _PLAN
        if self._planner.schedule is not None:
            order["max_tokens"] = self._planner.schedule.as_state()
        if self._planner.groups is not None:
            order["groups"] = self._planner.groups.identity()
        order["boundaries"] = None if self.boundaries is None else self.boundaries.copy()
        return order

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called: the next iteration begins there.

        It raises a ValueError that says what differs if the state has other lengths or settings,
        and a TypeError if it is not a mapping.

        Examples
        --------
        >>> import tightbatch as tb
        >>> sampler = tb.LengthBatchSampler([4, 2, 3], batch_size=2)
        >>> sampler.load_state_dict(sampler.state_dict())
        """
        name = f"{NAME}.load_state_dict"
        own = self.state_dict()
        check_state(name, state, own, max(self._planner.rows, own["lengths"][0]))
        epoch = _core.read_int(name, "epoch", state["epoch"], 0, NO_CAP)
        asked = self._asked
        self._move(epoch, int(state["rows"]), ended=state["ended"])
        if self._begin:
            self._planned = int(state["ranks"])
        self._is_loaded = True
        if self._ended and asked == epoch - 1:
            self._move(asked)
            self._go_to_end()
        self._moves += 1

    def __getstate__(self) -> dict[str, Any]:
        """Give everything except the iterations that have begun."""
        return {**self.__dict__, "_run": None, "_dealt": None}


def check_state(function: str, state: Any, own: Mapping[str, Any], rows: int) -> None:
    """Refuse anything but a state of the same lengths and settings as `own`, of at most `rows`."""
    if not isinstance(state, Mapping):
        raise TypeError(f"{function}(): state={_core.describe(state)}; expected a dict")
    if set(state) != set(own):
        keys = _core.show(sorted(map(str, state)))
        raise ValueError(f"{function}(): state has the keys {keys}; expected {sorted(own)}")
    check_settings(function, "state", state["settings"], own["settings"])
    check_data(function, "state", state["lengths"], own["lengths"])
    _core.read_int(function, "ranks", state["ranks"], 1, NO_CAP)
    _core.read_flag(function, "ended", state["ended"])
    if _core.read_int(function, "rows", state["rows"], 0, NO_CAP) > rows:
        raise ValueError(
            f"{function}(): rows={_core.show(state['rows'])}; expected at most {rows}, as an "
            "epoch has"
        )


def check_settings(
    function: str, what: str, found: Any, expected: Mapping[str, Any], owner: str = "sampler"
) -> None:
    """Refuse other settings than `expected`, those of the `owner`."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{function}(): {what} has settings={_core.show(found)}; expected a dict")
    for name in {**expected, **found}:
        if not _is_same(_as_list(found.get(name)), expected.get(name)):
            raise ValueError(
                f"{function}(): {what} has {name}={_core.show(found.get(name))}, this {owner} has "
                f"{name}={_core.show(expected.get(name))}; expected the same settings"
            )


def check_data(function: str, what: str, found: Any, expected: list[int]) -> None:
    """Refuse other lengths than those of `expected`: their number and fingerprint."""
    lengths = _as_list(found)
    if not _is_same(lengths, expected):
        is_known = isinstance(lengths, list) and len(lengths) == 2
        raise ValueError(
            f"{function}(): {what} is for {_core.show(lengths[0] if is_known else lengths)} rows "
            f"and this sampler has {expected[0]}, or as many with other lengths; expected the same "
            "data set"
        )


def _is_same(found: Any, expected: Any) -> bool:
    """Tell whether settings are equal and of one type: a seed of 4.0 is none that was saved."""
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(_is_same, found, expected))
        )
    return type(found) is type(expected) and bool(found == expected)


def _as_list(value: Any) -> Any:
    """Give a tuple as a list: JSON, for example, stores tuples as lists."""
    return list(value) if isinstance(value, tuple) else value
