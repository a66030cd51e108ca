"""What an element becomes: the output type, exactness, and the values that are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrays
import reference
import tightbatch as tb
from checks import assert_same, checked, fails

INT64 = np.iinfo(np.int64)
EVERY_INTEGER = pytest.mark.parametrize("dtype", arrays.INTEGERS, ids=str)
UNFIT = (OverflowError, ValueError)


# The type of lists


def test_hostile_01_bools_among_ints_are_one_and_zero():
    assert_same(checked(tb.pad, [[True, 2], [False]]), [[1, 2], [0, 0]], np.int64)
    assert_same(checked(tb.pad, [[2, True], [False]]), [[2, 1], [0, 0]], np.int64)
    assert_same(checked(tb.pad, [[True], [False, True], [3]]), [[1, 0], [0, 1], [3, 0]], np.int64)


def test_bools_alone_stay_bools():
    assert_same(checked(tb.pad, [[True, False], [True]]), [[True, False], [True, False]], bool)
    assert_same(checked(tb.pad, [[], [True]]), [[False], [True]], bool)


@pytest.mark.parametrize("place", range(6))
def test_one_float_makes_all_float32(place):
    items = [1, 0, 3, True, -5, 6]
    items[place] = 0.5
    rows = [items[:2], [], items[2:5], items[5:]]
    assert_same(checked(tb.pad, rows), reference.pad(rows), np.float32)


def test_floats_are_rounded_to_float32():
    values = [0.1, 1 / 3, 1e-46, 1e-42, -0.0, 3.4028235e38, 16777217.0]
    assert_same(checked(tb.pad, [values]), [values], np.float32)
    largest = float(np.finfo(np.float32).max)
    below_half_way = np.nextafter(largest + 2.0**103, 0)
    assert_same(checked(tb.pad, [[float(below_half_way)]]), [[largest]], np.float32)


def test_hostile_06_nan_and_inf_are_floats():
    values = [float("nan"), float("inf"), float("-inf"), 1]
    assert_same(checked(tb.pad, [values]), [values], np.float32)


@pytest.mark.parametrize("value", [1e300, -1e300, 3.4028236e38, float(2**128)])
@pytest.mark.parametrize("before", [[], [1], [0.5]], ids=str)
def test_a_float_that_overflows_float32_is_named(value, before):
    column = f"column {len(before)}"
    with fails(UNFIT, "pad()", "row 1", column):
        checked(tb.pad, [[1], [*before, value]])


def test_ints_among_floats_must_be_exact():
    assert_same(
        checked(tb.pad, [[2**24, 0.5], [2**100]]), [[2**24, 0.5], [2.0**100, 0]], np.float32
    )
    with fails(ValueError, "pad()", "row 0", "column 1", 2**24 + 1):
        checked(tb.pad, [[0.5, 2**24 + 1]])
    with fails(ValueError, "pad()", "row 0", "column 0", 2**24 + 1):
        checked(tb.pad, [[2**24 + 1], [0.5]])
    with fails(ValueError, "pad()", "row 1", "column 2", -(2**53) - 1):
        checked(tb.pad, [[], [1, 2, -(2**53) - 1], [1], [2.5]])


@pytest.mark.parametrize("value", [2**200, -(2**200), 2**128])
def test_ints_among_floats_must_be_in_range(value):
    with fails(UNFIT, "pad()", "row 0", "column 1"):
        checked(tb.pad, [[0.5, value]])


def test_the_int_that_decides_nothing_may_be_large():
    """An int outside int64 is no error where the whole is float32 and holds it."""
    assert_same(checked(tb.pad, [[2**63], [0.5]]), [[2.0**63], [0.5]], np.float32)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64, 2**200, -(2**200)])
def test_hostile_03_ints_outside_int64(value):
    with fails(OverflowError, "pad()", "row 1", "column 2"):
        checked(tb.pad, [[1], [1, 2, value]])
    with fails(OverflowError, "pad()", "row 0", "column 0"):
        checked(tb.pad, [[value]])
    with fails(OverflowError, "pad()", "row 0", "column 0"):
        checked(tb.pad, [[[value]]])


def test_hostile_03_the_limits_of_int64():
    values = [INT64.min, INT64.max, 2**62, -(2**62), 2**30, -(2**30), 2**60, 2**61 - 1, 0, -1]
    assert_same(checked(tb.pad, [values]), [values], np.int64)
    assert_same(checked(tb.pad, [[v] for v in values]), [[v] for v in values], np.int64)


def test_hostile_03_a_message_shows_the_value_and_the_type():
    with fails(OverflowError, "pad()", "row 0", "column 1", 2**63, "int64"):
        checked(tb.pad, [[0, 2**63]])


@given(bits=st.integers(0, 63), offset=st.integers(-2, 2), sign=st.sampled_from([1, -1]))
@settings(deadline=None)
def test_ints_around_every_power_of_two(bits, offset, sign):
    value = sign * (2**bits + offset)
    if INT64.min <= value <= INT64.max:
        assert_same(checked(tb.pad, [[value], [value]]), [[value], [value]], np.int64)
    else:
        with fails(OverflowError, "row 0", "column 0"):
            checked(tb.pad, [[value]])


# The type of arrays, and lists beside them


def test_hostile_byteswapped_rows_are_of_the_same_type():
    rows = [np.array([1, 2], ">i4"), np.array([3], "<i4")]
    assert_same(checked(tb.pad, rows), [[1, 2], [3, 0]], np.int32)
    assert_same(checked(tb.pad, rows[::-1]), [[3, 0], [1, 2]], np.int32)


def test_same_sized_types_of_one_kind_are_the_same_type():
    """C long and C long long are both int64 where long has 64 bits."""
    rows = [np.array([1], np.dtype("q")), np.array([2], np.int64)]
    assert_same(checked(tb.pad, rows), [[1], [2]], np.int64)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("int32", "int64"),
        ("uint8", "int8"),
        ("int64", "uint64"),
        ("float32", "float64"),
        ("int32", "float32"),
        ("float16", "int16"),
        ("bool", "int64"),
        ("bool", "uint8"),
        ("float32", "int32"),
    ],
)
def test_arrays_of_two_types(first, second):
    rows = [np.ones(2, first), [], np.ones(1, second)]
    with fails(TypeError, "pad()", "row 2", first, second):
        checked(tb.pad, rows)


def test_arrays_of_two_types_with_dtype():
    rows = [np.ones(2, np.int32), np.ones(1, np.int64), np.ones(1, bool)]
    assert_same(checked(tb.pad, rows, dtype=np.int16), [[1, 1], [1, 0], [1, 0]], np.int16)


@pytest.mark.parametrize("list_first", [True, False])
@EVERY_INTEGER
def test_lists_beside_arrays_take_their_type(dtype, list_first):
    limits = np.iinfo(dtype)
    fits = [int(limits.min), int(limits.max), True]
    row = np.array([1, 2], dtype)
    rows = [fits, row] if list_first else [row, fits]
    values = [list(map(int, values)) for values in rows]
    assert_same(checked(tb.pad, rows), reference.pad(values), dtype)
    for value in (int(limits.max) + 1, int(limits.min) - 1):
        rows = [[0, value], row] if list_first else [row, [0, value]]
        with fails(OverflowError, "pad()", f"row {int(not list_first)}", "column 1", value):
            checked(tb.pad, rows)


@pytest.mark.parametrize("list_first", [True, False])
def test_float_lists_beside_int_arrays_are_refused(list_first):
    rows = [[1, 0.5], np.array([1, 2])]
    rows = rows if list_first else rows[::-1]
    with fails(TypeError, "pad()", f"row {int(not list_first)}", "column 1"):
        checked(tb.pad, rows)
    rows = [[1, 1.0], np.array([True])]
    rows = rows if list_first else rows[::-1]
    with fails(TypeError, "pad()", f"row {int(not list_first)}"):
        checked(tb.pad, rows)


@pytest.mark.parametrize("list_first", [True, False])
@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("float32", 24), ("float64", 53)])
def test_int_lists_beside_float_arrays_must_be_exact(dtype, bits, list_first):
    row = np.array([0.5], dtype)
    rows = [[2**bits, True], row] if list_first else [row, [2**bits, True]]
    values = [[float(x) for x in values] for values in rows]
    assert_same(checked(tb.pad, rows), reference.pad(values), dtype)
    rows = [[0, 2**bits + 1], row] if list_first else [row, [0, 2**bits + 1]]
    with fails(ValueError, "pad()", f"row {int(not list_first)}", "column 1"):
        checked(tb.pad, rows)


@pytest.mark.parametrize("list_first", [True, False])
def test_float_lists_beside_float_arrays(list_first):
    rows = [[0.1, float("nan")], np.array([0.25])]
    rows = rows if list_first else rows[::-1]
    assert_same(checked(tb.pad, rows), reference.pad([list(row) for row in rows]), np.float64)
    rows = [[0.5, -2], np.array([0.25], np.float16)]
    rows = rows if list_first else rows[::-1]
    assert_same(checked(tb.pad, rows), reference.pad([list(row) for row in rows]), np.float16)
    with fails(UNFIT, "pad()", "row 0", "column 1"):
        checked(tb.pad, [[0.5, 1e300], np.array([0.25], np.float32)])
    with fails(UNFIT, "pad()", "row 0", "column 0"):
        checked(tb.pad, [[65520.0], np.array([0.25], np.float16)])


def test_bool_lists_beside_bool_arrays():
    rows = [[True, False], np.array([True])]
    assert_same(checked(tb.pad, rows), [[True, False], [True, False]], bool)


# dtype=


@pytest.mark.parametrize(
    "name", ["int32", np.int32, np.dtype("int32"), "i4", np.dtype(np.intc)], ids=repr
)
def test_dtype_is_anything_that_numpy_takes(name):
    assert_same(checked(tb.pad, [[1, 2], [3]], dtype=name), [[1, 2], [3, 0]], np.int32)


@pytest.mark.parametrize(
    "bad", ["complex64", "O", "U5", "S3", "M8[s]", "V4", [("a", "i4")], "nonsense", 7], ids=repr
)
def test_dtype_that_is_no_number(bad):
    with fails(TypeError, "pad()"):
        checked(tb.pad, [[1]], dtype=bad)


@EVERY_INTEGER
def test_hostile_04_lists_into_every_integer_type(dtype):
    limits = np.iinfo(dtype)
    values = [int(limits.min), int(limits.max), 0, 1]
    assert_same(checked(tb.pad, [values, []], dtype=dtype), reference.pad([values, []]), dtype)
    for value in (int(limits.min) - 1, int(limits.max) + 1, 2**200, -(2**200)):
        with fails(OverflowError, "pad()", "row 1", "column 2"):
            checked(tb.pad, [[1], [0, 1, value]], dtype=dtype)


@pytest.mark.parametrize("source", arrays.INTEGERS, ids=str)
@EVERY_INTEGER
def test_hostile_04_integer_arrays_into_every_integer_type(source, dtype):
    from_limits, limits = np.iinfo(source), np.iinfo(dtype)
    low = max(int(from_limits.min), int(limits.min))
    high = min(int(from_limits.max), int(limits.max))
    for layout in ("c", "reversed_first", "byteswapped", "misaligned", "strided"):
        row = arrays.LAYOUTS[layout](np.array([low, high, 0, 1], source))
        expected = reference.pad([row.tolist(), []])
        assert_same(checked(tb.pad, [row, []], dtype=dtype), expected, dtype)
        for value in (int(from_limits.min), int(from_limits.max), low - 1, high + 1):
            if not from_limits.min <= value <= from_limits.max:
                continue
            if limits.min <= value <= limits.max:
                continue
            bad = arrays.LAYOUTS[layout](np.array([0, 1, value], source))
            with fails(OverflowError, "pad()", "row 1", "column 2", value):
                checked(tb.pad, [[1], bad], dtype=dtype)


@pytest.mark.parametrize("size", [1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 200])
def test_hostile_04_the_one_bad_item_is_found_wherever_it_is(size):
    for column in {0, size // 2, size - 1}:
        row = np.arange(size, dtype=np.int64)
        row[column] = 2**40
        with fails(OverflowError, "pad()", "row 1", f"column {column}", 2**40):
            checked(tb.pad, [row[:0], row], dtype=np.int32)


def test_hostile_04_only_kept_items_must_fit():
    """What max_length cuts is in no output."""
    rows = [np.array([1, 2, 2**40])]
    assert_same(checked(tb.pad, rows, dtype=np.int32, max_length=2), [[1, 2]], np.int32)
    with fails(OverflowError, "pad()", "row 0", "column 2"):
        checked(tb.pad, rows, dtype=np.int32, max_length=2, truncation_side="left")


def test_hostile_04_a_bad_item_of_a_nested_row():
    with fails(OverflowError, "pad()", "row 1", "column 1"):
        checked(tb.pad, [[[1, 2]], [[1, 2], [3, 300]]], dtype=np.int8)
    with fails(OverflowError, "pad()", "row 1"):
        checked(tb.pad, [np.ones((1, 2), int), np.array([[1, 2], [3, 300]])], dtype=np.int8)


@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
@pytest.mark.parametrize("dtype", [*arrays.INTEGERS, np.dtype(bool)], ids=str)
def test_hostile_06_float_arrays_for_integers_are_refused(source, dtype):
    for value in (1.0, float("nan"), float("inf"), 1e300 if source == "float64" else 6e4):
        with fails(TypeError, "pad()", "row 1", source):
            checked(tb.pad, [[1], np.array([value], source)], dtype=dtype)


def test_float16_in_an_integer_field():
    with fails(TypeError, "pad()", "row 0", "float16"):
        checked(tb.pad, [np.ones(2, np.float16), np.ones(2, np.int16)], dtype=np.int16)


def test_bools_into_numbers():
    rows = [np.array([True, False]), [True]]
    for dtype in (*arrays.INTEGERS, *arrays.FLOATS):
        assert_same(checked(tb.pad, rows, dtype=dtype), [[1, 0], [1, 0]], dtype)


def test_ones_and_zeros_into_bools():
    assert_same(checked(tb.pad, [[1, 0], [True]], dtype=bool), [[1, 0], [1, 0]], bool)
    for value in (2, -1, 256, 2**63):
        with fails(UNFIT, "pad()", "row 1", "column 1"):
            checked(tb.pad, [[1], [0, value]], dtype=bool)
    for value in (2, -1, 256):
        with fails(UNFIT, "pad()", "row 1", "column 1"):
            checked(tb.pad, [[1], np.array([0, value])], dtype=bool)


@pytest.mark.parametrize("bits", [11, 24, 53])
def test_ints_into_floats_must_be_exact(bits):
    dtype = {11: np.float16, 24: np.float32, 53: np.float64}[bits]
    exact, inexact = [2**bits, -(2**bits), 2**bits - 1, 2**bits + 2], 2**bits + 1
    assert_same(checked(tb.pad, [exact], dtype=dtype), [exact], dtype)
    assert_same(checked(tb.pad, [np.array(exact)], dtype=dtype), [exact], dtype)
    with fails(ValueError, "pad()", "row 1", "column 2", inexact):
        checked(tb.pad, [[1], [1, 2, inexact]], dtype=dtype)
    with fails(ValueError, "pad()", "row 1", "column 2", inexact):
        checked(tb.pad, [[1], np.array([1, 2, inexact])], dtype=dtype)


def test_the_largest_ints_in_floats():
    """The limits of the integer types, where a round trip through the float would overflow."""
    assert_same(
        checked(tb.pad, [[INT64.min, 2**63]], dtype=np.float64), [[-(2.0**63), 2.0**63]], np.float64
    )
    row = np.array([INT64.min, 2**62])
    assert_same(checked(tb.pad, [row], dtype=np.float32), [[-(2.0**63), 2.0**62]], np.float32)
    row = np.array([2**63, 2**63 + 2**40], np.uint64)
    assert_same(
        checked(tb.pad, [row], dtype=np.float64), [[2.0**63, 2.0**63 + 2.0**40]], np.float64
    )
    for dtype in (np.float32, np.float64):
        for row in (
            np.array([0, INT64.max]),
            np.array([0, 2**64 - 1], np.uint64),
            [0, INT64.max],
            [0, 2**64 - 1],
        ):
            with fails(ValueError, "pad()", "row 0", "column 1"):
                checked(tb.pad, [row], dtype=dtype)
    for row in (np.array([0, 65520]), np.array([0, 2**16], np.uint32), [0, 65520], [0, 2**200]):
        with fails(UNFIT, "pad()", "row 0", "column 1"):
            checked(tb.pad, [row], dtype=np.float16)
    assert_same(checked(tb.pad, [[65504]], dtype=np.float16), [[65504]], np.float16)


@pytest.mark.parametrize(
    ("source", "dtype"),
    [("float16", "float32"), ("float16", "float64"), ("float32", "float64")],
)
def test_widening_floats_is_exact(source, dtype):
    row = arrays.sample(source, 50)
    expected = [row.tolist(), [0.0] * 50]
    assert_same(checked(tb.pad, [row, []], dtype=dtype), expected, dtype)


@pytest.mark.parametrize(
    ("source", "dtype"),
    [("float64", "float32"), ("float64", "float16"), ("float32", "float16")],
)
def test_narrowing_floats_rounds_to_nearest_even(source, dtype):
    random = np.random.default_rng(5)
    limits = np.finfo(dtype)
    row = (random.standard_normal(300) * np.exp2(random.uniform(-30, 15, 300))).astype(source)
    half = float(limits.smallest_subnormal) / 2
    ties = [1 + limits.eps / 2, 1 + 1.5 * limits.eps, half, 1.5 * half, -half, 3 * half, -0.0]
    row[:7] = np.array(ties, source)
    row[7:10] = [np.nan, np.inf, -np.inf]
    row = row.astype(source)
    expected = row.astype(dtype)
    assert_same(checked(tb.pad, [row], dtype=dtype), [expected.tolist()], dtype)
    assert_same(checked(tb.pad, [row.tolist()], dtype=dtype), [expected.tolist()], dtype)


def test_float64_is_rounded_once():
    """Through float32 this would be a tie, and go down to 0x3c00."""
    value = 1 + 2.0**-11 + 2.0**-40
    for row in ([value], np.array([value])):
        result = checked(tb.pad, [row], dtype=np.float16)
        assert result.view(np.uint16).tolist() == [[0x3C01]]


@pytest.mark.parametrize("source", ["list", "float64", "float32"])
def test_finite_values_that_would_become_inf(source):
    def row(*values):
        return list(values) if source == "list" else np.array(values, source)

    assert_same(
        checked(tb.pad, [row(65519.99, -65504.0)], dtype=np.float16), [[65504, -65504]], np.float16
    )
    for value in (65520.0, -65520.0, 1e30):
        with fails(UNFIT, "pad()", "row 1", "column 1"):
            checked(tb.pad, [[1], row(0.0, value)], dtype=np.float16)
    if source != "float32":
        for value in (1e300, -3.4028236e38):
            with fails(UNFIT, "pad()", "row 1", "column 1"):
                checked(tb.pad, [[1], row(0.0, value)], dtype=np.float32)


def test_float_lists_into_float64_are_exact():
    values = [0.1, 1e300, 5e-324, 2**53]
    assert_same(checked(tb.pad, [values], dtype=np.float64), [values], np.float64)


def test_dtype_of_nothing():
    for dtype in arrays.DTYPES:
        assert_same(checked(tb.pad, [[], []], dtype=dtype), [[], []], dtype, (2, 0))
        assert_same(checked(tb.pad, [[], []], dtype=dtype, width=1), [[0], [0]], dtype)


# bfloat16


@pytest.fixture
def bfloat16():
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)


def bits_of(result):
    return result.view(np.uint16).tolist()


def test_bfloat16_from_lists_and_arrays(bfloat16):
    values = [1.0, 0.1, -0.0, float("inf"), 2.0**-133, 1 + 2.0**-8, 1 + 3 * 2.0**-8]
    expected = [0x3F80, 0x3DCD, 0x8000, 0x7F80, 0x0001, 0x3F80, 0x3F82]
    for row in (values, np.array(values), np.array(values, np.float32)):
        assert bits_of(checked(tb.pad, [row], dtype=bfloat16)) == [expected]
    (nan,) = bits_of(checked(tb.pad, [[float("nan")]], dtype=bfloat16))[0]
    assert nan & 0x7FC0 == 0x7FC0


def test_bfloat16_is_rounded_once(bfloat16):
    value = 1 + 2.0**-8 + 2.0**-40
    for row in ([value], np.array([value])):
        assert bits_of(checked(tb.pad, [row], dtype=bfloat16)) == [[0x3F81]]


def test_bfloat16_of_subnormal_float32_is_exact(bfloat16):
    row = np.array([2.0**-127, -(2.0**-130)], np.float32)
    assert bits_of(checked(tb.pad, [row], dtype=bfloat16)) == [[0x0040, 0x8008]]


def test_bfloat16_rows_widen_exactly(bfloat16):
    row = np.arange(0, 0x7F80, 37, dtype=np.uint16).view(bfloat16)
    expected = [row.astype(np.float32).tolist()]
    assert_same(checked(tb.pad, [row], dtype=np.float32), expected, np.float32)
    assert_same(checked(tb.pad, [row], dtype=np.float64), expected, np.float64)


def test_bfloat16_that_cannot_hold_a_value(bfloat16):
    with fails(ValueError, "pad()", "row 0", "column 1", 257):
        checked(tb.pad, [[256, 257]], dtype=bfloat16)
    with fails(UNFIT, "pad()", "row 0", "column 1"):
        checked(tb.pad, [[1.0, 3.4e38 * 1.001]], dtype=bfloat16)
    with fails(UNFIT, "pad()", "row 0", "column 0"):
        checked(tb.pad, [np.array([3.4e38], np.float32)], dtype=bfloat16)
    with fails(TypeError, "pad()", "row 0", "bfloat16"):
        checked(tb.pad, [np.ones(2, bfloat16)], dtype=np.int64)


def test_bfloat16_rows_beside_lists_and_padding(bfloat16):
    rows = [np.array([0.5, 2], bfloat16), [3], [0.25]]
    result = checked(tb.pad, rows, padding_value=-100)
    assert_same(result, [[0.5, 2], [3, -100], [0.25, -100]], bfloat16)
    with fails(TypeError, "pad()", "row 1", "bfloat16", "float32"):
        checked(tb.pad, [rows[0], np.ones(1, np.float32)])


@pytest.mark.parametrize("side", ["right", "left"])
def test_what_max_length_cuts_decides_nothing(side):
    """Neither its type nor its values: it is not looked at."""
    kept, cut = [1, 2], ["cut", 0.5, 2**70]
    row = kept + cut if side == "right" else cut + kept
    options = {"max_length": 2, "truncation_side": side}
    assert_same(tb.pad([row], **options), [[1, 2]], np.int64)
    assert_same(tb.pad([row], dtype="float16", **options), [[1, 2]], np.float16)
    assert_same(tb.pad([[0.5, 1]], max_length=0), np.zeros((1, 0)), np.int64)


def test_what_max_length_keeps_is_named_by_its_column_in_the_row():
    with fails(ValueError, "row 0", "column 2"):
        tb.pad([[2049, 1, 2049]], dtype="float16", max_length=2, truncation_side="left")
    with fails(ValueError, "row 0", "column 2"):
        tb.pad([np.array([1e9, 1, 1e9])], dtype="float16", max_length=2, truncation_side="left")


@pytest.mark.parametrize("layout", ["fortran", "strided", "misaligned"])
def test_a_matrix_that_numpy_lays_out_and_converts(layout):
    rows = arrays.LAYOUTS[layout](np.arange(12).reshape(3, 4).astype(np.longdouble))
    assert_same(checked(tb.pad, rows, dtype=np.float64), rows.tolist(), np.float64)
    assert_same(checked(tb.pad, rows, dtype=np.float16), rows.tolist(), np.float16)


# Integers among floats, for types that only NumPy converts


@pytest.mark.parametrize(
    "integer", [3, -3, 0, True, 2**53, -(2**53), -(2**63), 2**63, 2**64, -(2**64), 2**70 + 2**20]
)
def test_integers_among_floats_of_longdouble(integer):
    for row in ([0.5, integer], [integer, 0.5]):
        result = checked(tb.pad, [row], dtype=np.longdouble)
        assert_same(result, [row], np.longdouble)
        assert [int(value) for value in result[0] if value != 0.5] == [integer]


@pytest.mark.parametrize("integer", [2**53 + 1, -(2**53) - 1, 2**64 + 1, -(2**70) - 1])
def test_integers_that_float64_rounds_are_refused_for_longdouble(integer):
    """Lists with floats are read as float64; an array of longdouble holds more."""
    with fails(ValueError, "pad()", "row 1", "column 1", integer, "not exact in float64"):
        checked(tb.pad, [[1], [0.5, integer]], dtype=np.longdouble)


@pytest.mark.parametrize(
    ("name", "exact", "inexact"),
    [
        ("float8_e4m3fn", [-3, 15, -16, 18, 448], [17, -17, 19]),
        ("float8_e5m2", [-3, 7, -14, 2**15], [9, -9, 15]),
    ],
)
def test_integers_among_floats_of_float8(name, exact, inexact):
    dtype = np.dtype(getattr(pytest.importorskip("ml_dtypes"), name))
    for integer in exact:
        assert_same(checked(tb.pad, [[0.5, integer]], dtype=dtype), [[0.5, integer]], dtype)
    for integer in inexact:
        with fails(ValueError, "pad()", "row 0", "column 1", integer, f"not exact in {name}"):
            checked(tb.pad, [[0.5, integer]], dtype=dtype)
    for integer in (-(2**63), 2**64, -(2**70)):
        with fails(UNFIT, "pad()", "row 0", "column 1", "overflows", name):
            checked(tb.pad, [[0.5, integer]], dtype=dtype)


# Integers of more than 64 bits


@pytest.mark.parametrize(
    ("dtype", "bits"), [("float64", 53), ("float32", 24), ("bfloat16", 8)], ids=str
)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("others", [[], [0.5]], ids=["ints", "floats"])
def test_integers_above_64_bits_are_exact_or_refused(dtype, bits, sign, others):
    """Where one more bit is needed than the type has, nothing is rounded silently."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    for top in (64, 65, 100, 126):
        held = sign * (2**top + 2 ** (top + 1 - bits))
        result = checked(tb.pad, [[held, *others], [1]], dtype=dtype)
        assert int(float(result[0, 0])) == held
        assert int(float(tb.pad([[*others, held]], dtype=dtype)[0, -1])) == held
        for beyond in (top - bits, top - 53, 0):
            if beyond >= 0 and beyond <= top - bits:
                with fails(ValueError, "pad()", "row 1", "column 0", f"not exact in {dtype}"):
                    checked(tb.pad, [[1], [held + sign * 2**beyond, *others]], dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "top"), [("float64", 1024), ("float32", 128), ("float16", 65), ("bfloat16", 128)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_integers_above_the_largest_float_are_refused(dtype, top, sign):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    for integer in (2**top, 2**top + 1):
        with fails(UNFIT, "pad()", "row 0", "column 1", dtype):
            checked(tb.pad, [[1, sign * integer]], dtype=dtype)
