"""padding_value: which values fill which types, exactly or by rounding, and which are refused."""

import numpy as np
import pytest

import arrays
import reference
import tightbatch as tb
from checks import assert_same, checked, fails

INF, NAN = float("inf"), float("nan")
UNFIT = (OverflowError, ValueError)
EVERY_INTEGER = pytest.mark.parametrize("dtype", arrays.INTEGERS, ids=str)


@pytest.mark.parametrize("value", [1.5, NAN, INF, -INF, 0.1, np.float32(1.5)])
@EVERY_INTEGER
def test_hostile_09_a_fraction_pads_no_integers(value, dtype):
    with fails(ValueError, "pad()", "padding_value"):
        checked(tb.pad, [np.ones(2, dtype), np.ones(1, dtype)], padding_value=value)


def test_padding_beyond_53_bits_is_exact():
    for value in (2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)):
        expected = [[1, 2], [3, value]]
        assert_same(checked(tb.pad, [[1, 2], [3]], padding_value=value), expected, np.int64)
    row, largest = np.ones(2, np.uint64), 2**64 - 1
    result = checked(tb.pad, [row, row[:1]], padding_value=largest)
    assert_same(result, [[1, 1], [1, largest]], np.uint64)


@EVERY_INTEGER
def test_hostile_09_values_outside_an_integer_type(dtype):
    limits = np.iinfo(dtype)
    rows = [np.ones(2, dtype), np.ones(1, dtype)]
    for value in (int(limits.min), int(limits.max)):
        assert_same(checked(tb.pad, rows, padding_value=value), [[1, 1], [1, value]], dtype)
    for value in (int(limits.min) - 1, int(limits.max) + 1, 2**200):
        with fails(OverflowError, "pad()", "padding_value"):
            checked(tb.pad, rows, padding_value=value)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_hostile_09_ints_that_a_float_type_cannot_hold(dtype):
    rows = [np.ones(2, dtype), np.ones(1, dtype)]
    bits = np.finfo(dtype).nmant + 1
    exact = 2**bits
    assert_same(checked(tb.pad, rows, padding_value=exact), [[1, 1], [1, exact]], dtype)
    with fails(ValueError, "pad()", "padding_value"):
        checked(tb.pad, rows, padding_value=exact + 1)
    with fails(UNFIT, "pad()", "padding_value"):
        checked(tb.pad, rows, padding_value=2**2000)
    if dtype != "float16":
        with fails(ValueError, "pad()", "padding_value"):
            checked(tb.pad, rows, padding_value=2**53 + 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [0.1, -0.0, NAN, INF, -INF, True, -100])
def test_float_padding_is_rounded(dtype, value):
    rows = [np.ones(2, dtype), np.ones(1, dtype)]
    assert_same(checked(tb.pad, rows, padding_value=value), [[1, 1], [1, value]], dtype)


@pytest.mark.parametrize(("dtype", "value"), [("float32", 1e300), ("float16", 65520.0)])
def test_float_padding_that_would_become_inf(dtype, value):
    rows = [np.ones(2, dtype), np.ones(1, dtype)]
    with fails(UNFIT, "pad()", "padding_value"):
        checked(tb.pad, rows, padding_value=value)


def test_padding_of_float_lists():
    assert_same(
        checked(tb.pad, [[0.5, 1], [2]], padding_value=0.1), [[0.5, 1], [2, 0.1]], np.float32
    )
    assert_same(
        checked(tb.pad, [[0.5], []], padding_value=float("-inf")),
        [[0.5], [float("-inf")]],
        np.float32,
    )


def test_padding_of_bools():
    rows = [[True, True], [False]]
    for value in (0, 1, False, True):
        expected = [[True, True], [False, bool(value)]]
        assert_same(checked(tb.pad, rows, padding_value=value), expected, bool)
    for value in (2, -1, 0.5, float("nan"), 256, -100):
        with fails(UNFIT, "pad()", "padding_value"):
            checked(tb.pad, rows, padding_value=value)


@pytest.mark.parametrize(
    "value", [True, np.int8(1), np.uint64(1), np.bool_(True), np.array(1)], ids=repr
)
def test_padding_is_any_integer_scalar(value):
    assert_same(checked(tb.pad, [[5, 6], [7]], padding_value=value), [[5, 6], [7, 1]], np.int64)


@pytest.mark.parametrize(
    "value", [np.float32(0.25), np.float64(0.25), np.float16(0.25), 0.25], ids=repr
)
def test_padding_is_any_float_scalar(value):
    assert_same(
        checked(tb.pad, [[0.5, 1], [2]], padding_value=value), [[0.5, 1], [2, 0.25]], np.float32
    )


@pytest.mark.parametrize("value", ["0", b"0", None, 1j, [0], {}, Ellipsis, np.zeros(2)], ids=repr)
@pytest.mark.parametrize("rows", [[[1, 2], [3]], [[0.5, 1], [2]], [[True, True], [True]]], ids=str)
def test_padding_that_is_no_number(value, rows):
    with fails(TypeError, "pad()", "padding_value"):
        checked(tb.pad, rows, padding_value=value)


def test_padding_of_n_d_rows():
    rows = [np.ones((2, 3), np.int16), np.ones((1, 3), np.int16)]
    expected = reference.pad([row.tolist() for row in rows], padding_value=-9)
    assert_same(checked(tb.pad, rows, padding_value=-9), expected, np.int16)


@pytest.mark.parametrize("dtype", arrays.DTYPES + arrays.ML_DTYPES, ids=str)
@pytest.mark.parametrize("gap", [0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 257])
def test_every_element_size_is_filled_to_the_last(dtype, gap):
    rows = [arrays.sample(dtype, gap + 1), arrays.sample(dtype, 1)]
    for side in ("right", "left"):
        expected = reference.pad([r.tolist() for r in rows], padding_value=1, padding_side=side)
        assert_same(checked(tb.pad, rows, padding_value=1, padding_side=side), expected, dtype)
