"""Integers in lists become floats of every type exactly, or are refused: near every limit.

What a type holds is worked out here in integers, from its digits and its largest number.
"""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tightbatch as tb
from checks import assert_same, checked, fails

# Significant bits, and the largest number as (significand, exponent).
FORMATS = {
    "float64": (53, 1023),
    "float32": (24, 127),
    "float16": (11, 15),
    "bfloat16": (8, 127),
}
FLOAT8 = {"float8_e4m3fn": (4, 448), "float8_e5m2": (3, 57344)}


def holds(dtype, value):
    """Whether the type has this integer, without rounding."""
    magnitude = abs(value)
    if magnitude == 0:
        return True
    if dtype in FLOAT8:
        bits, largest = FLOAT8[dtype]
        fits = magnitude <= largest
    else:
        bits, exponent = FORMATS[dtype]
        fits = magnitude.bit_length() <= exponent + 1
    trailing_zeros = (magnitude & -magnitude).bit_length() - 1
    return fits and magnitude.bit_length() - trailing_zeros <= bits


def dtype_of(name):
    if name in ("bfloat16", *FLOAT8):
        return np.dtype(getattr(pytest.importorskip("ml_dtypes"), name))
    return np.dtype(name)


def as_integer(number):
    return int(np.float64(number)) if number.dtype.itemsize <= 8 else int(number)


def near(exponent, digits):
    """Integers about a power of two: one more in the last place of a type, half that, a quarter."""
    power = 2**exponent
    for bits in (digits - 1, digits, digits + 1, 63, 64):
        if exponent >= bits:
            yield from (power + 2 ** (exponent - bits), power - 2 ** (exponent - bits))
    yield power


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("exponent", [10, 15, 16, 24, 52, 53, 62, 63, 64, 65, 100, 126, 127, 128])
@pytest.mark.parametrize("sign", [1, -1])
def test_integers_beyond_64_bits_are_exact_or_refused(dtype, exponent, sign):
    for magnitude in near(exponent, FORMATS[dtype][0]):
        value = sign * magnitude
        for row in ([value], [0.5, value], [value, 0.5], [1, value, -1]):
            if holds(dtype, value):
                array = checked(tb.pad, [row, [0]], dtype=dtype_of(dtype))
                assert [as_integer(number) for number in array[0] if number != 0.5] == [
                    item for item in row if item != 0.5
                ]
                assert array.dtype == dtype_of(dtype)
            else:
                with fails(
                    (ValueError, OverflowError), "pad()", "row 0", f"column {row.index(value)}"
                ):
                    checked(tb.pad, [row, [0]], dtype=dtype_of(dtype))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_integers_beside_a_float_make_floats_exactly(dtype):
    """Without dtype= too, where lists with a float are float32."""
    options = {} if dtype == "float32" else {"dtype": dtype}
    for value in (2**64, 2**64 + 2**41, -(2**100), 2**24 + 1, 2**64 + 2**12, 2**53 + 1):
        if holds(dtype, value):
            assert_same(tb.pad([[0.5, value]], **options), [[0.5, float(value)]], dtype)
        else:
            with fails(ValueError, "pad()", "row 0", "column 1", value):
                tb.pad([[0.5, value]], **options)


@pytest.mark.parametrize("dtype", FLOAT8)
@given(values=st.lists(st.integers(-70000, 70000), min_size=1, max_size=4))
@example([-1, -3])
@example([-448, 448])
@example([57344, -57344])
@example([9])
@example([-17])
def test_negative_integers_of_types_of_8_bits(dtype, values):
    for row in (values, [0.5, *values], [*values, -0.5]):
        if all(holds(dtype, value) for value in values):
            array = tb.pad([row], dtype=dtype_of(dtype))
            assert array.dtype == dtype_of(dtype)
            assert array.astype(np.float64).tolist() == [[float(item) for item in row]]
        else:
            with fails((ValueError, OverflowError), "pad()", "row 0"):
                tb.pad([row], dtype=dtype_of(dtype))


@pytest.mark.parametrize("row", [[1, 1.5], [1.5, 1], [-7, 0.25, -(2**52)], [1.5], [-3], [0, -0.5]])
def test_lists_of_longdouble(row):
    array = checked(tb.pad, [row, []], dtype=np.longdouble)
    assert array.dtype == np.longdouble
    assert array.tolist() == [[np.longdouble(item) for item in row], [0] * len(row)]


# Types


EMPTY = [np.zeros(0, np.int8), np.zeros(0, np.float32), np.zeros(0, np.bool_), [], ()]


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("second", range(5))
def test_a_batch_of_nothing_but_empty_rows_has_its_first_type(first, second):
    for rows in ([EMPTY[first], EMPTY[second]], [[], EMPTY[first], EMPTY[second]]):
        array = checked(tb.pad, rows, width=2)
        assert_same(array, np.zeros((len(rows), 2)), EMPTY[first].dtype)
        ragged = tb.Ragged.from_sequences(rows)
        assert ragged.dtype == EMPTY[first].dtype
    assert tb.pad([[], ()]).dtype == np.int64


@pytest.mark.parametrize("empty", EMPTY[:3], ids=lambda row: row.dtype.name)
def test_an_empty_row_never_says_the_type(empty):
    full = np.array([1.5, 2.5])
    for rows in ([empty, full], [full, empty], [empty, [], full]):
        assert tb.pad(rows).dtype == np.float64


@pytest.mark.parametrize("turn", [1, -1])
def test_two_types_that_only_numpy_knows_are_refused(turn):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rows = [np.ones(2, ml_dtypes.float8_e4m3fn), np.ones(1, np.longdouble)][::turn]
    names = [row.dtype.name for row in rows]
    with fails(TypeError, "pad()", "row 1", *names):
        checked(tb.pad, rows)
    with fails(TypeError, "Ragged.from_sequences()", "row 1", *names):
        tb.Ragged.from_sequences(rows)
    collate = tb.PadCollator(return_tensors="np")
    with fails(TypeError, "PadCollator()", "key 'a'", "row 1", *names):
        collate([{"a": row} for row in rows])
