"""_core by itself: what is handed to it wrongly by Python code is refused, never read."""

import types

import numpy as np
import pytest

from checks import fails
from tightbatch import _core

IDS, KINDS, LABELS = np.arange(6), np.full(6, 2, np.uint8), np.full(6, -100)
TOKENS = {
    "mask_tokens": ((IDS, KINDS, LABELS), (0.5, 0.8, 0.1, 3, 100, 1, 1)),
    "label_tokens": ((IDS, np.ones(6, np.int64), LABELS), ()),
}
CALLS = [(name, place) for name in TOKENS for place in range(3)]


def call(name, place=None, value=None):
    arrays, settings = TOKENS[name]
    arrays = [array.copy() for array in arrays]
    if place is not None:
        arrays[place] = value
    if name == "label_tokens":
        arrays.insert(2, None)
    getattr(_core, name)("f()", *arrays, *settings)
    return arrays


@pytest.mark.parametrize(("name", "place"), CALLS)
def test_arrays_of_tokens_that_are_malformed(name, place):
    right = TOKENS[name][0][place]
    read_only = right.copy()
    read_only.flags.writeable = False
    others = [right.astype(np.int32), right[:5], np.repeat(right, 2)[::2], right.tolist(), None]
    for wrong in [*others, read_only]:
        with fails(TypeError, "f()", "malformed arrays"):
            call(name, place, wrong)


def test_tokens_are_labelled():
    arrays = call("label_tokens")
    assert arrays[3].tolist() == [0, 1, 2, 3, 4, 5]


FUNCTIONS = [
    name for name, value in vars(_core).items() if isinstance(value, types.BuiltinFunctionType)
]


@pytest.mark.parametrize("count", [0, 40])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_are_counted_before_they_are_read(name, count):
    if name == "cpu_levels" and count == 0:
        assert len(_core.cpu_levels()) == 2
        return
    expected = rf"\(\) takes (no|exactly one|\d+) arguments?\b.*\b{count} given"
    with pytest.raises(TypeError, match=expected):
        getattr(_core, name)(*[None] * count)


@pytest.mark.parametrize(
    "pairs",
    [
        [[1, 2]],
        np.zeros(2, np.int64),
        np.zeros((2, 3), np.int64),
        np.zeros((2, 2), np.int32),
        np.zeros((2, 4), np.int64)[:, ::2],
        np.zeros((2, 2), ">i8"),
    ],
)
def test_pairs_that_are_malformed(pairs):
    with fails(TypeError, "pair_keys()", "contiguous int64 array"):
        _core.pair_keys(pairs)
