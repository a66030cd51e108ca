"""What a setting can be handed by mistake, and the error that each kind of setting owes for it.

A kind yields what is wrong for it: a value and the errors that may answer it. What is neither
right nor wrong for sure (a width of 1 where a row is longer) it leaves out.
"""

import numbers
import re
from dataclasses import dataclass, field

import numpy as np

LONG = 100_000  # characters, or items, of a value that no message may hold
HUGE = 10**5000  # too long for repr(): Python refuses to write more than 4,300 digits
OUTSIDE = (ValueError, OverflowError)


class Wordy:
    """An object that says much about itself."""

    def __repr__(self):
        return "z" * LONG


# Values of every kind that a setting of another kind may be handed.
VALUES = {
    "None": None,
    "True": True,
    "False": False,
    "np.True_": np.True_,
    "0": 0,
    "1": 1,
    "-1": -1,
    "2**63": 2**63,
    "2**64": 2**64,
    "-2**64": -(2**64),
    "10**5000": HUGE,
    "1.0": 1.0,
    "1.5": 1.5,
    "nan": float("nan"),
    "np.float64(3)": np.float64(3),
    "1j": 1j,
    "'1'": "1",
    "'nonsense'": "nonsense",
    "a long str": "y" * LONG,
    "b'right'": b"right",
    "an array": np.arange(3),
    "an array of floats": np.array([1.5]),
    "an array of bools": np.array([True, False]),
    "a list": [1],
    "a long list": [1] * LONG,
    "a list of str": ["right"],
    "a dict": {},
    "a set": {1},
    "an object": object(),
    "a wordy object": Wordy(),
    "a type": int,
    "a function": len,
}


def is_bool(value):
    return isinstance(value, bool | np.bool_)


def is_int(value):
    return isinstance(value, int | np.integer) and not is_bool(value)


@dataclass(frozen=True)
class Kind:
    """What all kinds have.

    A message holds the parameter's name, or one of the `words`. All is wrong `but` what is
    called so here.
    """

    words: tuple[str, ...] = field(default=(), kw_only=True)
    but: tuple[str, ...] = field(default=(), kw_only=True)

    def wrong(self, optional):
        """What is wrong: pairs of (how to call it, value, errors)."""
        for name, value in VALUES.items():
            if value is None and optional:
                continue
            errors = self.errors(value)
            if errors is not None:
                yield name, value, errors

    def errors(self, value):
        raise NotImplementedError


@dataclass(frozen=True)
class Integer(Kind):
    """An integer from `least` to `most`."""

    least: int = 0
    most: int = 2**63 - 1

    def errors(self, value):
        if not is_int(value):
            return TypeError
        if value < self.least:
            return ValueError if value >= -(2**63) else OUTSIDE
        return OverflowError if value > self.most else None


@dataclass(frozen=True)
class Flag(Kind):
    """True or False, and no number for them."""

    def errors(self, value):
        return None if is_bool(value) else TypeError


@dataclass(frozen=True)
class Real(Kind):
    """A number within limits."""

    least: float = -np.inf
    most: float = np.inf

    def errors(self, value):
        if is_bool(value) or not isinstance(value, numbers.Real):
            return TypeError
        if value is HUGE:  # beyond any float
            return OUTSIDE
        return None if self.least <= value <= self.most else OUTSIDE


@dataclass(frozen=True)
class Fill(Kind):
    """A number that int64 holds: padding of ids."""

    def errors(self, value):
        if is_bool(value) or (isinstance(value, float) and value.is_integer()):
            return None
        if not isinstance(value, numbers.Real):
            return TypeError
        return None if is_int(value) and -(2**63) <= value < 2**63 else (TypeError, *OUTSIDE)


@dataclass(frozen=True)
class AnyFill(Kind):
    """A number of any kind: padding of columns whose type is not known yet."""

    def errors(self, value):
        is_number = is_bool(value) or isinstance(value, numbers.Real)
        return None if is_number else TypeError


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few strings."""

    def errors(self, value):
        return ValueError if isinstance(value, str) else TypeError


@dataclass(frozen=True)
class Dtype(Kind):
    """An element type, by its name or as NumPy's or torch's."""

    def errors(self, value):
        if value is int or isinstance(value, np.generic):  # NumPy takes a scalar's own
            return None
        return (TypeError, ValueError) if isinstance(value, str) else TypeError


@dataclass(frozen=True)
class Key(Kind):
    """The name of a column, or of a tensor."""

    def errors(self, value):
        return KeyError if isinstance(value, str) else TypeError


@dataclass(frozen=True)
class Keys(Kind):
    """A key of samples, or several: names, or positions in a tuple."""

    def errors(self, value):
        if isinstance(value, str | int) and not isinstance(value, bool):
            return None
        return None if isinstance(value, list | set) else TypeError


@dataclass(frozen=True)
class Instance(Kind):
    """An object of a type, or with a method."""

    error: type[Exception] | tuple[type[Exception], ...] = TypeError

    def errors(self, value):
        return self.error


@dataclass(frozen=True)
class Anything(Kind):
    """What takes any object, or what somebody else reads, and why."""

    reason: str = ""

    def wrong(self, optional):
        assert self.reason
        return ()


@dataclass(frozen=True)
class Or(Kind):
    """One of two kinds: wrong is what is wrong for both, with the errors of either."""

    first: Kind = None
    second: Kind = None

    def wrong(self, optional):
        firsts = {name: errors for name, _, errors in self.first.wrong(optional)}
        for name, value, errors in self.second.wrong(optional):
            if name in firsts:
                yield name, value, _as_tuple(firsts[name]) + _as_tuple(errors)


@dataclass(frozen=True)
class ByKey(Kind):
    """A setting for all columns, or a mapping of keys to settings."""

    kind: Kind = None
    key: str = "input_ids"

    def wrong(self, optional):
        for name, value, errors in self.kind.wrong(optional):
            if not isinstance(value, dict):
                yield name, value, errors
            yield f"{{{self.key!r}: {name}}}", {self.key: value}, errors


@dataclass(frozen=True)
class Lengths(Kind):
    """Integers in one dimension, none of them a bool."""

    least: int = 0
    one: bool = False  # whether a single integer is taken too
    rows: bool = False  # whether rows of them are taken too

    def wrong(self, optional):
        for name, value in VALUES.items():
            if (value is None and optional) or name in ("an array", "a list", "a long list"):
                continue
            if name == "b'right'":  # a buffer of numbers
                pass
            elif self.one and is_int(value):
                errors = Integer(self.least).errors(value)
                if errors is not None:
                    yield name, value, errors
            elif name != "a dict":  # an empty one
                yield name, value, TypeError
            if name not in ("0", "1"):
                items = Integer(self.least).errors(value)
                if items is not None:
                    yield f"[2, {name}]", [2, value], items
        yield "[True]", [True], TypeError
        yield "a tuple with np.False_", (2, np.False_), TypeError
        if not self.rows:
            yield "a matrix", np.ones((2, 2), np.int64), (TypeError, ValueError)
            yield "a list of lists", [[1], [2]], (TypeError, ValueError)
        yield "an object array with True", np.array([2, True], dtype=object), TypeError
        yield "an array with -1", np.array([2, -1]), ValueError
        yield "an array with 2**63", np.array([1, 2**63], np.uint64), OverflowError
        yield from _tensors()


@dataclass(frozen=True)
class Places(Lengths):
    """Integers in one dimension that may be of any order and sign."""

    def wrong(self, optional):
        for name, value, errors in super().wrong(optional):
            if errors is TypeError:
                yield name, value, errors


@dataclass(frozen=True)
class Ids(Lengths):
    """Integers of any sign, in one dimension or two; a mask of bools may stand for them."""

    def wrong(self, optional):
        for name, value, errors in super().wrong(optional):
            if errors is TypeError and not re.search("True|False|bool", name):
                yield name, value, errors


@dataclass(frozen=True)
class Rows(Kind):
    """Rows of numbers."""

    looks: bool = True  # whether the numbers are looked at

    def wrong(self, optional):
        numbers_of_rows = ("an array", "an array of floats", "an array of bools")
        for name, value in VALUES.items():
            if (value is None and optional) or name in ("a list", "a long list", *numbers_of_rows):
                continue
            if name != "a dict":
                yield name, value, TypeError
            if name not in (*numbers_of_rows, "b'right'", "a dict") and (
                self.looks or name != "a list of str"
            ):
                yield f"[[2], {name}]", [[2], value], TypeError
            if self.looks and (
                value is None or isinstance(value, str | set) or name.endswith("object")
            ):
                yield f"[[2], [{name}]]", [[2], [value]], TypeError
        if self.looks:
            yield "[[2**64]]", [[2], [2**64]], OverflowError


@dataclass(frozen=True)
class Samples(Kind):
    """A batch of samples: what is wrong as a whole."""

    def wrong(self, optional):
        for name, value in VALUES.items():
            if not isinstance(value, list | set | dict | np.ndarray):
                yield name, value, TypeError
        yield "a dict", {"input_ids": [1, 2]}, TypeError
        yield "no samples", [], ValueError


@dataclass(frozen=True)
class Index(Kind):
    """A row, or rows, of three."""

    one: bool = True  # whether a single row may be chosen

    def wrong(self, optional):
        for name, value in VALUES.items():
            if name in ("0", "1", "-1", "a list", "a long list", "an array"):
                continue
            if name in ("a dict", "a set", "an array of bools", "b'right'"):
                continue
            out_of_range = self.one and is_int(value)
            yield name, value, (IndexError, OverflowError) if out_of_range else TypeError
        yield "[9]", [9], (IndexError, TypeError)
        yield "[True, 1, 2]", [1, True, 2], TypeError
        yield "[1.5]", [1.5], TypeError


@dataclass(frozen=True)
class Array(Kind):
    """An array or tensor; lists are left out, since some take them."""

    bytes: bool = False  # whether bytes are taken, as buffers of uint8

    def errors(self, value):
        if isinstance(value, np.ndarray | np.generic | list | set | dict):
            return None
        if self.bytes and isinstance(value, bytes):
            return None
        return (TypeError, ValueError)


@dataclass(frozen=True)
class Out(Kind):
    """An array of exactly the result's shape and type to write to."""

    def errors(self, value):
        return (TypeError, ValueError)


def _as_tuple(errors):
    return errors if isinstance(errors, tuple) else (errors,)


def _tensors():
    try:
        import torch
    except ImportError:
        return
    yield "a tensor of bools", torch.tensor([True, False]), TypeError
    yield "a list with a tensor of a bool", [2, torch.tensor(True)], TypeError
    yield "a tensor of floats", torch.tensor([1.5]), TypeError
    yield "a tensor with -1", torch.tensor([2, -1]), ValueError
