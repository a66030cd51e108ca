"""The states of a stream's ranks and workers, dealt out again among others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .plan import NO_CAP
from .state import check_settings
from .stream_source import NAME, SHARDED, Share

_LOAD = f"{NAME}.load_state_dict"
_SAVED = "expected a state as state_dict gives it"
_STATE = frozenset(
    "epoch share sharded ended exhausted steps samples source failures lengths waiting pack stream "
    "counts rest ended_at settings".split()
)  # fmt: skip
_BY_RANKS = ("ranks", "both")  # what divides its samples among ranks by itself
_BY_WORKERS = ("workers", "both")


@dataclass(frozen=True)
class Rest:
    """The samples of a share, where others had a part of the epoch: `few`, and all from `begin` on.

    Of those from `begin` on, it has the ones whose number modulo the number of shares is its own.
    """

    begin: int
    few: frozenset[int]
    steps: int  # of each rank, before the samples were dealt out again

    @staticmethod
    def of(state: Any) -> Rest | None:
        """Read what `as_state` gave."""
        if state is None:
            return None
        return Rest(state["begin"], frozenset(state["few"]), state["steps"])

    def as_state(self, begin: int) -> dict[str, Any]:
        """Give it in plain numbers, for a share that reads from sample `begin` on."""
        few = sorted(number for number in self.few if number >= begin)
        return {"begin": self.begin, "few": few, "steps": self.steps}

    def has(self, number: int, share: Share) -> bool:
        """Tell whether a sample is this share's."""
        if number < self.begin:
            return number in self.few
        return number % share.shares == share.share

    def again(self) -> Rest:
        """Give all samples: those of the next time that the source is read."""
        return Rest(0, frozenset(), self.steps)


def _check_rest(state: Mapping[str, Any]) -> None:
    """Refuse what `Rest.as_state` has not given."""
    rest, total = state["rest"], state["ended_at"]
    if not (total is None or _is_number(total)):
        raise ValueError(f"{_LOAD}(): state has ended_at={_core.show(total)}; {_SAVED}")
    if rest is None:
        return
    is_sound = isinstance(rest, Mapping) and set(rest) == {"begin", "few", "steps"}
    if is_sound:
        few, begin = rest["few"], rest["begin"]
        is_sound = (
            _is_number(begin)
            and _is_number(rest["steps"])
            and isinstance(few, (list, tuple))
            and all(map(_is_number, few))
            and all(a < b for a, b in pairwise(few))
            and (not few or few[-1] < begin)
        )
    if not is_sound:
        raise ValueError(f"{_LOAD}(): state has rest={_core.show(rest)}; {_SAVED}")


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _find_states(given: Any) -> list[Mapping[str, Any]]:
    """Find the states of batchers in lists, tuples and dicts, such as those of data loaders."""
    if isinstance(given, Mapping):
        if set(given) == _STATE:
            return [given]
        if given.get("_steps_since_snapshot"):
            raise ValueError(
                f"{_LOAD}(): the loader's state is {given['_steps_since_snapshot']} steps older "
                "than its place; expected the state of a StatefulDataLoader with "
                "snapshot_every_n_steps=1, to divide it again"
            )
        given = list(given.values())
    if not isinstance(given, (list, tuple)):
        return []
    return [state for inner in given for state in _find_states(inner)]


def read_states(given: Any, own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read what `load_state_dict` is given; `own` are the settings of the batcher."""
    if not isinstance(given, (Mapping, list, tuple)):
        raise TypeError(
            f"{_LOAD}(): state={_core.describe(given)}; expected a dict, or a list of those of all "
            "ranks"
        )
    states = _find_states(given)
    if not states:
        found = "no state of a StreamBatcher"
        if isinstance(given, Mapping):
            found = f"the keys {_core.show(sorted(map(str, given)))}"
        raise ValueError(f"{_LOAD}(): state has {found}; expected {sorted(_STATE)}")
    for state in states:
        check_settings(_LOAD, "state", state["settings"], own, "batcher")
        _core.read_int(_LOAD, "epoch", state["epoch"], 0, NO_CAP)
        _check_state(_LOAD, state)
    return [{key: state[key] for key in _STATE if key != "settings"} for state in states]


def _check_state(function: str, state: Mapping[str, Any]) -> None:
    """Refuse a state that no iteration has given; whether its samples are these shows later."""
    sizes = {"share": 6, "steps": 2, "samples": 2, "lengths": 2, "stream": 5, "counts": 3}
    for key, size in (*sizes.items(), ("waiting", None), ("pack", None), ("failures", None)):
        given = state[key]
        is_list = isinstance(given, (list, tuple)) and size in (None, len(given))
        numbers = given[1:] if is_list and key == "stream" else given
        if not is_list or not all(type(n) is int and 0 <= n < 2**64 for n in numbers):
            raise ValueError(f"{function}(): state has {key}={_core.show(given)}; {_SAVED}")
    flags = {key: state[key] for key in ("ended", "exhausted")} | {"stream": state["stream"][0]}
    for key, flag in flags.items():
        if type(flag) is not bool:
            raise ValueError(f"{function}(): state has {key}={_core.show(flag)}; {_SAVED}")
    _check_share(state)
    waiting, pack, (begin, end) = state["waiting"], state["pack"], state["samples"]
    is_sound = all(a < b for a, b in pairwise(waiting)) and len(set(pack)) == len(pack)
    if not is_sound or not set(pack) <= set(waiting) or begin > end or end >= 2**63:
        raise ValueError(f"{function}(): state has samples that cannot wait; {_SAVED}")
    _check_rest(state)


def _check_share(state: Mapping[str, Any]) -> None:
    """Refuse a share that is none of as many, and a division that there is not."""
    share, shares, worker, workers, rank, ranks = state["share"]
    if share >= shares or worker >= workers or rank >= ranks:
        raise ValueError(f"{_LOAD}(): state has share={_core.show(state['share'])}; {_SAVED}")
    if state["sharded"] not in SHARDED[1:]:
        raise ValueError(f"{_LOAD}(): state has sharded={_core.show(state['sharded'])}; {_SAVED}")


def choose_state(
    states: Sequence[Mapping[str, Any]], share: Share
) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """Give the state that a share continues from: its own, or its part of what all have left.

    Where it is a part, give the states too that it was made of.
    """
    _check_sharded(states, share)
    if share.sharded in _BY_RANKS:
        states = _of_this_rank(states, share)
    if len(states) == 1 and states[0]["share"] == share.as_list():
        return states[0], ()
    steps = _count_steps(states)
    if share.sharded == "workers":
        if any(state["share"][3] != share.workers for state in states):
            raise ValueError(
                f"{_LOAD}(): {_found(states)}, and the source divides its samples among workers "
                f"by itself; expected num_workers={states[0]['share'][3]}, as then; ranks may be "
                "more or fewer"
            )
        states = [state for state in states if state["share"][2] == share.worker]
    alike = _of_one_epoch(_by_share(states, share))
    if len(alike) == share.shares and alike[share.share]["share"] == share.as_list():
        return alike[share.share], ()
    return _deal_again(alike, share, steps), alike


def _check_sharded(states: Sequence[Mapping[str, Any]], share: Share) -> None:
    """Refuse states of samples that were divided by others than now."""
    own = _divided_by(share.sharded, share.as_list())
    for state in states:
        then = state["sharded"]
        if then != share.sharded and _divided_by(then, state["share"]) != own:
            raise ValueError(
                f"{_LOAD}(): state has sharded={then!r}, and now it is {share.sharded!r}; expected "
                "samples that divide themselves as then, among as many ranks and workers"
            )


def _divided_by(sharded: str, share: Sequence[int]) -> tuple[bool, bool]:
    """Tell whether ranks, and workers, have samples of their own: not where there is one."""
    return sharded in _BY_RANKS and share[5] > 1, sharded in _BY_WORKERS and share[3] > 1


def _of_this_rank(states: Sequence[Mapping[str, Any]], share: Share) -> list[Mapping[str, Any]]:
    """Keep the states of this rank, whose samples no other has."""
    is_both = share.sharded == "both"
    by = "ranks and workers" if is_both else "ranks"
    divides = f"and the source divides its samples among {by} by itself"
    found = sorted({tuple(state["share"][4:]) for state in states})
    shown = _show_some("rank", found)
    if any(ranks != share.ranks for _, ranks in found):
        raise ValueError(
            f"{_LOAD}(): {shown}, {divides}; expected the same numbers of both, and this one is "
            f"of {share.ranks}"
            if is_both
            else f"{_LOAD}(): {shown}, {divides}; expected num_replicas={found[0][1]}, as then; "
            "workers may be more or fewer"
        )
    if is_both and any(state["share"][3] != share.workers for state in states):
        workers = sorted({state["share"][3] for state in states})
        raise ValueError(
            f"{_LOAD}(): found states of {', '.join(map(str, workers))} workers, {divides}; "
            f"expected the same numbers of both, and this one is of {share.workers}"
        )
    own = [state for state in _of_one_epoch(states) if state["share"][4] == share.rank]
    if is_both:
        own = [state for state in own if state["share"][2] == share.worker]
        if len(own) > 1:
            raise ValueError(
                f"{_LOAD}(): found {len(own)} states of rank {share.rank}, worker {share.worker}; "
                "expected those that were saved at one step"
            )
    if not own:
        worker = f", worker {share.worker}," if is_both and share.workers > 1 else ""
        raise ValueError(
            f"{_LOAD}(): {shown}, {divides}; expected the state of rank {share.rank}{worker} or "
            "those of all ranks"
        )
    return own


def _show_some(what: str, found: Sequence[tuple[int, ...]]) -> str:
    shown = ", ".join(f"{number} of {count}" for number, count in found[:8])
    return f"found states of {what} {shown}{', ...' if len(found) > 8 else ''}"


def _found(states: Sequence[Mapping[str, Any]]) -> str:
    shares = sorted({tuple(state["share"][:2]) for state in states})
    return _show_some("share", shares)


def _by_share(states: Sequence[Mapping[str, Any]], share: Share) -> list[Mapping[str, Any]]:
    """Order states by their share; all must be there, once."""
    counts = Counter(tuple(state["share"][:2]) for state in states)
    by_share = {state["share"][0]: state for state in states}
    for (number, shares), count in counts.items():
        if count > 1:
            own = " of this rank's workers" if share.sharded == "ranks" else ""
            raise ValueError(
                f"{_LOAD}(): found {count} states of share {number} of {shares}; expected the "
                f"states{own} that were saved at one step"
            )
    if sorted(counts) != [(number, len(states)) for number in range(len(states))]:
        raise ValueError(
            f"{_LOAD}(): {_found(states)}; expected the same numbers of ranks and workers, or a "
            "list of the states of all of them, saved at one step"
        )
    return [by_share[number] for number in range(len(by_share))]


def _of_one_epoch(states: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Let a share that is at the beginning of the next epoch be at the end of this one."""
    epoch = min(state["epoch"] for state in states)
    if all(state["epoch"] == epoch for state in states):
        return list(states)
    alike = []
    for state in states:
        if state["epoch"] != epoch:
            total, begun = state["ended_at"], state["steps"][0] or state["samples"][1]
            if state["epoch"] != epoch + 1 or total is None or begun:
                raise ValueError(
                    f"{_LOAD}(): found states of epochs {epoch} and {state['epoch']}; expected "
                    "those that were saved at one step"
                )
            ended = {"epoch": epoch, "samples": [total, total], "exhausted": True, "ended": True}
            state = {**state, **ended}
        alike.append(state)
    return alike


def _deal_again(states: list[Mapping[str, Any]], share: Share, steps: int) -> Mapping[str, Any]:
    """Deal out the samples that no share has handed out, in their order, to other shares."""
    if any(state["steps"][1] for state in states):
        raise ValueError(
            f"{_LOAD}(): the samples had ended, and some came again for steps=; expected the same "
            "numbers of ranks and workers, or set_epoch() to go on with the next epoch"
        )
    ended = all(state["ended"] for state in states)
    rests = [state["rest"] for state in states if state["rest"] is not None]
    end = max([state["samples"][1] for state in states] + [rest["begin"] for rest in rests])
    left = np.sort(np.concatenate([_left(state, end, len(states)) for state in states]))
    begin, source = (
        (end, None) if ended else _find_begin(states, int(left[0]) if len(left) else end)
    )
    failures: Counter[int] = Counter()
    for state in states:
        failures |= Counter(number for number in state["failures"] if number >= begin)
    return {
        "epoch": states[0]["epoch"],
        "share": share.as_list(),
        "sharded": share.sharded,
        "ended": ended,
        "exhausted": ended,
        "steps": [0, 0],
        "samples": [begin, begin],
        "source": source,
        "failures": sorted(failures.elements()),
        "lengths": [0, 0],
        "waiting": [],
        "pack": [],
        "stream": [False, 0, 0, 0, 0],
        "counts": _sum_counts(states) if share.place == 0 else [0, 0, 0],
        "rest": {
            "begin": end,
            "few": left[share.share :: share.shares].tolist(),
            "steps": steps,
        },
        "ended_at": None,
    }


def _left(state: Mapping[str, Any], end: int, shares: int) -> NDArray[np.int64]:
    """Number the samples before `end` that a share has not handed out."""
    share, read, rest = state["share"][0], state["samples"][1], state["rest"]
    waiting = np.array(state["waiting"], np.int64)
    if rest is None:
        few, begin = waiting * shares + share, read
    else:
        few = np.array(rest["few"], np.int64)
        few, begin = np.concatenate([waiting, few[few >= read]]), max(read, rest["begin"])
    unread = np.arange(begin + (share - begin) % shares, end, shares)
    return np.concatenate([few, unread])


def _find_begin(states: list[Mapping[str, Any]], first: int) -> tuple[int, Any]:
    """Give the last place before sample `first` of which there is a state of the source."""
    begin, source = 0, None
    for state in states:
        place = state["samples"][0]
        if begin < place <= first and state["source"] is not None and not state["ended"]:
            begin, source = place, state["source"]
    return begin, source


def _sum_counts(states: list[Mapping[str, Any]]) -> list[int]:
    """Add up what was repeated, dropped and truncated."""
    sums = [sum(state["counts"][i] for state in states) for i in range(3)]
    dropped, truncated = (sum(state["stream"][i] for state in states) for i in (3, 4))
    return [sums[0], sums[1] + dropped, sums[2] + truncated]


def _count_steps(states: Sequence[Mapping[str, Any]]) -> int:
    """Count the batches of the rank that had most, before its samples are dealt out again."""
    done: Counter[int] = Counter()
    before = 0
    for state in states:
        done[state["share"][4]] += state["steps"][0]
        before = max(before, 0 if state["rest"] is None else state["rest"]["steps"])
    return before + max(done.values())
