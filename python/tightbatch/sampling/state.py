"""The state of a sampler: what must agree with a sampler that continues from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import _core

NO_CAP = 2**63 - 1


def check_state(function: str, state: Any, own: Mapping[str, Any]) -> None:
    """Refuse anything but a state of the same lengths and settings as `own`."""
    if not isinstance(state, Mapping):
        raise TypeError(f"{function}(): state={_core.describe(state)}; expected a dict")
    if set(state) != set(own):
        keys = _core.show(sorted(map(str, state)))
        raise ValueError(f"{function}(): state has the keys {keys}; expected {sorted(own)}")
    found, expected = state["settings"], own["settings"]
    if not isinstance(found, Mapping):
        raise ValueError(f"{function}(): state has settings={_core.show(found)}; expected a dict")
    for name in {**expected, **found}:
        if not _is_same(_as_list(found.get(name)), expected.get(name)):
            raise ValueError(
                f"{function}(): state has {name}={_core.show(found.get(name))}, this sampler has "
                f"{name}={_core.show(expected.get(name))}; expected the same settings"
            )
    lengths, rows = _as_list(state["lengths"]), own["lengths"][0]
    if not _is_same(lengths, own["lengths"]):
        is_known = isinstance(lengths, list) and len(lengths) == 2
        raise ValueError(
            f"{function}(): state is for {_core.show(lengths[0] if is_known else lengths)} rows "
            f"and this sampler has {rows}, or as many with other lengths; expected the same data "
            "set"
        )
    _core.read_int(function, "ranks", state["ranks"], 1, NO_CAP)
    _core.read_flag(function, "ended", state["ended"])
    if _core.read_int(function, "rows", state["rows"], 0, NO_CAP) > rows:
        raise ValueError(
            f"{function}(): rows={_core.show(state['rows'])}; expected at most {rows}, as the "
            "sampler has"
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
