"""Numbers and choices that users give, checked: what is wrong is named, with what was expected."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

NO_CAP = 2**63 - 1


class Reader:
    """Reads settings for one function, whose name is in all messages."""

    def __init__(self, function: str) -> None:
        self.function = function

    def error(self, kind: type[Exception], message: str) -> Exception:
        """Make an exception of that kind."""
        return kind(f"{self.function}(): {message}")

    def number(self, name: str, value: Any, least: int, most: int) -> int:
        """Read an integer, NumPy's too; bools are none."""
        if isinstance(value, bool | np.bool_) or not hasattr(type(value), "__index__"):
            raise self.error(TypeError, f"{name}={value!r}; expected an integer")
        number = operator.index(value)
        if number < least:
            message = f"{name}={value!r}; expected an integer of at least {least}"
            raise self.error(ValueError, message)
        if number > most:
            raise self.error(OverflowError, f"{name}={value!r}; expected at most {most}")
        return number

    def real(self, name: str, value: Any, least: float, most: float) -> float:
        """Read a number, NumPy's too; bools are none, and NaN is outside any range."""
        if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
            raise self.error(TypeError, f"{name}={value!r}; expected a number")
        number = float(value)
        if not least <= number <= most:
            message = f"{name}={value!r}; expected a number from {least} to {most}"
            raise self.error(ValueError, message)
        return number

    def cap(self, name: str, value: Any) -> int | None:
        """Read an integer of at least 1, or None."""
        return None if value is None else self.number(name, value, 1, NO_CAP - 1)

    def not_bools(self, lengths: Any) -> None:
        """Refuse an array or tensor of bools where lengths are expected."""
        if str(getattr(lengths, "dtype", "")) in ("bool", "torch.bool"):
            raise self.error(TypeError, "lengths are bools (a mask?); expected integers")

    def rank(self, value: Any, count: int) -> int:
        """Read one of `count` ranks."""
        number = self.number("rank", value, 0, NO_CAP)
        if number >= count:
            message = (
                f"rank={value!r} of num_replicas={count}; expected a rank from 0 to {count - 1}"
            )
            raise self.error(ValueError, message)
        return number

    def flag(self, name: str, value: Any) -> bool:
        """Read a bool."""
        if not isinstance(value, bool | np.bool_):
            raise self.error(TypeError, f"{name}={value!r}; expected a bool")
        return bool(value)

    def choice(self, name: str, value: Any, choices: Sequence[str]) -> str:
        """Read one of several strings."""
        if not isinstance(value, str) or value not in choices:
            expected = ", ".join(map(repr, choices))
            kind = ValueError if isinstance(value, str) else TypeError
            raise self.error(kind, f"{name}={value!r}; expected one of {expected}")
        return value


def or_no_cap(value: int | None) -> int:
    """Give what stands for no cap in C, where there is none."""
    return NO_CAP if value is None else value


def check_state(read: Reader, state: Any, own: Mapping[str, Any]) -> None:
    """Refuse what is no state, and a state of other lengths or settings than `own`."""
    if not isinstance(state, Mapping):
        raise read.error(TypeError, f"found a {type(state).__name__}, expected a state_dict")
    if set(state) != set(own):
        keys = sorted(map(str, state))
        raise read.error(ValueError, f"a state with the keys {keys}; expected {sorted(own)}")
    found, expected = state["settings"], own["settings"]
    if not isinstance(found, Mapping):
        raise read.error(ValueError, f"a state with settings={found!r}; expected a mapping")
    for name in {**expected, **found}:
        if _as_list(found.get(name)) != expected.get(name):
            raise read.error(
                ValueError,
                f"the state is of {name}={found.get(name)!r}, this sampler of "
                f"{name}={expected.get(name)!r}; expected the same settings",
            )
    lengths, rows = _as_list(state["lengths"]), own["lengths"][0]
    if lengths != own["lengths"]:
        is_known = isinstance(lengths, list) and len(lengths) == 2
        raise read.error(
            ValueError,
            f"the state is of {lengths[0] if is_known else lengths!r} rows, this sampler of "
            f"{rows}, or of as many with other lengths; expected the same data set",
        )
    if read.number("rows", state["rows"], 0, NO_CAP) > rows:
        raise read.error(ValueError, f"rows={state['rows']} of {rows}; expected no more")


def _as_list(value: Any) -> Any:
    """Give what was a list before it was stored as a tuple."""
    return list(value) if isinstance(value, tuple) else value
