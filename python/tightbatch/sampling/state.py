"""The state of a sampler: what it has to agree with before it is gone on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import _core

NO_CAP = 2**63 - 1


def check_state(function: str, state: Any, own: Mapping[str, Any]) -> None:
    """Refuse what is no state, and a state of other lengths or settings than `own`."""
    if not isinstance(state, Mapping):
        raise TypeError(f"{function}(): found a {type(state).__name__}, expected a state_dict")
    if set(state) != set(own):
        keys = sorted(map(str, state))
        raise ValueError(f"{function}(): a state with the keys {keys}; expected {sorted(own)}")
    found, expected = state["settings"], own["settings"]
    if not isinstance(found, Mapping):
        raise ValueError(f"{function}(): a state with settings={found!r}; expected a mapping")
    for name in {**expected, **found}:
        if _as_list(found.get(name)) != expected.get(name):
            raise ValueError(
                f"{function}(): the state is of {name}={found.get(name)!r}, this sampler of "
                f"{name}={expected.get(name)!r}; expected the same settings"
            )
    lengths, rows = _as_list(state["lengths"]), own["lengths"][0]
    if lengths != own["lengths"]:
        is_known = isinstance(lengths, list) and len(lengths) == 2
        raise ValueError(
            f"{function}(): the state is of {lengths[0] if is_known else lengths!r} rows, this "
            f"sampler of {rows}, or of as many with other lengths; expected the same data set"
        )
    if _core.read_int(function, "rows", state["rows"], 0, NO_CAP) > rows:
        raise ValueError(f"{function}(): rows={state['rows']} of {rows}; expected no more")


def _as_list(value: Any) -> Any:
    """Give what was a list before it was stored as a tuple."""
    return list(value) if isinstance(value, tuple) else value
