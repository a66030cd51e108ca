"""pad, lengths and the three named functions against their plain definition.

Which rows are accepted is in test_padding_rows.py, what an element becomes in
test_padding_types.py, what is refused in test_padding_errors.py, tensors in
test_padding_torch.py, and objects that fight back in test_padding_hostile.py.
"""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrays
import reference
import tightbatch as tb
from checks import assert_same, checked, fails

SIDES = ["right", "left"]
LENGTH_CASES = {
    "no_rows": [],
    "one_empty": [0],
    "all_empty": [0, 0, 0],
    "one_token": [1],
    "some_empty": [3, 0, 2, 0],
    "equal": [4, 4, 4],
    "longest_first": [9, 1, 5],
    "longest_last": [1, 2, 33],
    "many": [7, 0, 64, 63, 65, 1, 16, 15, 17, 31, 32, 33, 128, 2],
}


def numbered(row_lengths):
    """Lists whose items are all different, so that a misplaced one is seen."""
    start, rows = 1, []
    for length in row_lengths:
        rows.append(list(range(start, start + length)))
        start += length
    return rows


@st.composite
def int_rows(draw, elements=None):
    if elements is None:
        elements = st.integers(-(2**63), 2**63 - 1)
    return draw(st.lists(st.lists(elements, max_size=12), max_size=8))


@st.composite
def options(draw, rows):
    """Options of pad that are valid for these rows."""
    chosen = {}
    if draw(st.booleans()):
        chosen["max_length"] = draw(st.integers(0, 14))
    if draw(st.booleans()):
        longest = max(reference.lengths(rows), default=0)
        chosen["width"] = draw(
            st.integers(min(longest, chosen.get("max_length", longest)), longest + 5)
        )
    if draw(st.booleans()):
        chosen["pad_to_multiple_of"] = draw(st.integers(1, 17))
    if draw(st.booleans()):
        chosen["padding_side"] = draw(st.sampled_from(SIDES))
    if draw(st.booleans()):
        chosen["truncation_side"] = draw(st.sampled_from(SIDES))
    return chosen


# Lists


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", LENGTH_CASES)
def test_pad_of_lists(case, side):
    rows = numbered(LENGTH_CASES[case])
    expected = reference.pad(rows, padding_side=side)
    width = max(LENGTH_CASES[case], default=0)
    result = checked(tb.pad, rows, padding_side=side)
    assert_same(result, expected, np.int64, (len(rows), width))


def test_hostile_10_no_rows():
    assert_same(checked(tb.pad, []), [], np.int64, (0, 0))
    assert_same(checked(tb.pad, ()), [], np.int64, (0, 0))
    assert_same(checked(tb.pad, [], width=5), [], np.int64, (0, 5))
    assert_same(checked(tb.pad, [], width=5, pad_to_multiple_of=4), [], np.int64, (0, 8))
    assert_same(checked(tb.pad, [], dtype=np.float32), [], np.float32, (0, 0))
    assert_same(checked(tb.pad, iter([])), [], np.int64, (0, 0))
    array, mask = checked(tb.pad, [], return_mask=True)
    assert_same(array, [], np.int64, (0, 0))
    assert_same(mask, [], bool, (0, 0))


def test_hostile_11_all_rows_empty():
    assert_same(checked(tb.pad, [[], []]), [[], []], np.int64, (2, 0))
    assert_same(checked(tb.pad, [[], ()], width=2), [[0, 0], [0, 0]], np.int64)
    assert_same(checked(tb.pad, [[], []], width=1, padding_value=7), [[7], [7]], np.int64)
    empty = np.zeros(0, np.float32)
    assert_same(checked(tb.pad, [empty, empty]), [[], []], np.float32, (2, 0))
    assert_same(checked(tb.pad, [[], []], dtype=np.int8), [[], []], np.int8, (2, 0))


def test_hostile_12_some_rows_empty():
    rows = [[], [1, 2], [], [3]]
    array, mask = checked(tb.pad, rows, padding_value=-1, return_mask=True)
    assert_same(array, [[-1, -1], [1, 2], [-1, -1], [3, -1]], np.int64)
    assert_same(mask, [[0, 0], [1, 1], [0, 0], [1, 0]], bool)
    assert_same(checked(tb.lengths, rows), [0, 2, 0, 1], np.int64)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_pad_of_int_lists_property(data):
    rows = data.draw(int_rows())
    chosen = data.draw(options(rows))
    fill = data.draw(st.integers(-(2**63), 2**63 - 1))
    expected = reference.pad(rows, padding_value=fill, **chosen)
    cut = [reference.cut(row, chosen.get("max_length")) for row in rows]
    width = reference.padded_width(
        reference.lengths(cut), chosen.get("width"), chosen.get("pad_to_multiple_of")
    )
    array, mask = checked(tb.pad, rows, padding_value=fill, return_mask=True, **chosen)
    assert_same(array, expected, np.int64, (len(rows), width))
    kept = reference.attention_mask(
        reference.lengths(cut), width, padding_side=chosen.get("padding_side", "right")
    )
    assert_same(mask, kept, bool, (len(rows), width))


@given(rows=int_rows(st.floats(width=32)), fill=st.floats(width=32))
@settings(deadline=None)
def test_pad_of_float_lists_property(rows, fill):
    rows.append([0.5])
    expected = reference.pad(rows, padding_value=fill)
    assert_same(checked(tb.pad, rows, padding_value=fill), expected, np.float32)


@given(rows=int_rows(st.booleans()), fill=st.booleans())
@settings(deadline=None)
def test_pad_of_bool_lists_property(rows, fill):
    rows.append([True])
    expected = reference.pad(rows, padding_value=fill)
    assert_same(checked(tb.pad, rows, padding_value=fill), expected, bool)


# Width, cut, multiple


@pytest.mark.parametrize("length", [4, 5, 6])
@pytest.mark.parametrize("side", SIDES)
def test_hostile_13_a_row_at_the_boundary(length, side):
    row = list(range(1, length + 1))
    rows = [row, [1]]
    expected = reference.pad(rows, max_length=5, truncation_side=side)
    assert_same(checked(tb.pad, rows, max_length=5, truncation_side=side), expected, np.int64)
    if length <= 5:
        assert_same(checked(tb.pad, rows, width=5), reference.pad(rows, width=5), np.int64)
    else:
        with fails(ValueError, "pad()", "row 0", length, 5):
            checked(tb.pad, rows, width=5)


def test_hostile_13_one_row_of_one_token():
    assert_same(checked(tb.pad, [[7]]), [[7]], np.int64)
    assert_same(checked(tb.pad, [[7]], max_length=1), [[7]], np.int64)
    assert_same(checked(tb.pad, [[7]], width=1), [[7]], np.int64)


def test_a_row_longer_than_width_is_named():
    with fails(ValueError, "pad()", "row 2", 4, 3):
        checked(tb.pad, [[1], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5]], width=3)


def test_a_row_is_measured_against_the_width_before_the_multiple():
    with fails(ValueError, "pad()", "row 1", 4, 3):
        checked(tb.pad, [[1], [1, 2, 3, 4]], width=3, pad_to_multiple_of=8)


def test_max_length_over_width_does_not_cut_to_width():
    with fails(ValueError, "pad()", "row 0", 3):
        checked(tb.pad, [[1, 2, 3, 4, 5, 6]], width=3, max_length=4)
    rows = [[1, 2, 3]]
    assert_same(checked(tb.pad, rows, width=3, max_length=4), [[1, 2, 3]], np.int64)


def test_width_over_max_length_pads_to_width():
    assert_same(checked(tb.pad, [[1, 2, 3]], width=5, max_length=2), [[1, 2, 0, 0, 0]], np.int64)


def test_max_length_alone_never_widens():
    assert_same(checked(tb.pad, [[1, 2], [3]], max_length=9), [[1, 2], [3, 0]], np.int64)


@pytest.mark.parametrize("truncation_side", SIDES)
@pytest.mark.parametrize("padding_side", SIDES)
@pytest.mark.parametrize("max_length", [0, 1, 2, 3, 4, 99])
def test_cut_and_padding_sides_are_independent(max_length, padding_side, truncation_side):
    rows = numbered([3, 1, 4, 0])
    chosen = {
        "max_length": max_length,
        "padding_side": padding_side,
        "truncation_side": truncation_side,
    }
    expected = reference.pad(rows, width=4, padding_value=-1, **chosen)
    assert_same(checked(tb.pad, rows, width=4, padding_value=-1, **chosen), expected, np.int64)


def test_hostile_14_max_length_and_width_of_zero():
    assert_same(checked(tb.pad, [[1, 2], [3]], max_length=0), [[], []], np.int64, (2, 0))
    assert_same(checked(tb.pad, [[], []], width=0), [[], []], np.int64, (2, 0))
    assert_same(checked(tb.pad, [[1], [2]], width=0, max_length=0), [[], []], np.int64, (2, 0))
    assert_same(checked(tb.pad, [[1]], width=2, max_length=0), [[0, 0]], np.int64)
    with fails(ValueError, "pad()", "row 0", 1):
        checked(tb.pad, [[1]], width=0)


@pytest.mark.parametrize("multiple", [1, 2, 3, 7, 8, 64, 1000])
@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 16])
def test_hostile_15_any_positive_multiple(length, multiple):
    rows = numbered([length, 0, min(1, length)])
    width = reference.padded_width(reference.lengths(rows), None, multiple)
    expected = reference.pad(rows, pad_to_multiple_of=multiple)
    result = checked(tb.pad, rows, pad_to_multiple_of=multiple)
    assert_same(result, expected, np.int64, (3, width))


def test_the_multiple_is_applied_last():
    rows = numbered([10, 3])
    assert checked(tb.pad, rows, pad_to_multiple_of=8).shape == (2, 16)
    assert checked(tb.pad, rows, width=10, pad_to_multiple_of=8).shape == (2, 16)
    assert checked(tb.pad, rows, max_length=10, pad_to_multiple_of=8).shape == (2, 16)
    assert checked(tb.pad, rows, max_length=9, pad_to_multiple_of=16).shape == (2, 16)
    assert checked(tb.pad, rows, max_length=8, pad_to_multiple_of=8).shape == (2, 8)


# Arrays


@pytest.mark.parametrize("layout", arrays.LAYOUTS)
@pytest.mark.parametrize("dtype", arrays.DTYPES + arrays.ML_DTYPES, ids=str)
def test_hostile_31_32_pad_of_arrays_in_every_layout(dtype, layout):
    made = arrays.batch(dtype, [5, 0, 9, 1])
    for index in range(len(made)):
        layouts = dict(arrays.layouts(made[index]))
        if layout not in layouts:
            pytest.skip(f"{dtype} has no {layout} layout")
        rows = [*made[:index], layouts[layout], *made[index + 1 :]]
        values = [row.tolist() for row in rows]
        for side in SIDES:
            expected = reference.pad(values, padding_side=side)
            assert_same(checked(tb.pad, rows, padding_side=side), expected, dtype)


@pytest.mark.parametrize("trailing", [(3,), (2, 2), (0,), (1, 1, 2)], ids=str)
@pytest.mark.parametrize("layout", arrays.LAYOUTS)
def test_hostile_31_32_pad_of_n_d_arrays_in_every_layout(layout, trailing):
    for dtype in (np.int16, np.float64):
        rows = arrays.batch(dtype, [3, 0, 5, 1], trailing)
        rows = [arrays.LAYOUTS[layout](row) for row in rows]
        values = [row.tolist() for row in rows]
        expected = reference.pad(values, padding_value=3, max_length=4, trailing=trailing)
        result = checked(tb.pad, rows, padding_value=3, max_length=4)
        assert_same(result, expected, dtype, (4, 4, *trailing))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("layout", arrays.LAYOUTS)
def test_cut_arrays_in_every_layout(layout, side):
    rows = [arrays.LAYOUTS[layout](row) for row in arrays.batch(np.int32, [5, 9, 2])]
    values = [row.tolist() for row in rows]
    expected = reference.pad(values, max_length=4, truncation_side=side)
    assert_same(checked(tb.pad, rows, max_length=4, truncation_side=side), expected, np.int32)


@pytest.mark.parametrize("dtype", arrays.DTYPES + arrays.ML_DTYPES, ids=str)
def test_hostile_37_empty_arrays_with_odd_pointers(dtype):
    rows = [*arrays.odd_empties(dtype), arrays.sample(dtype, 3)]
    expected = reference.pad([row.tolist() for row in rows], padding_value=1)
    assert_same(checked(tb.pad, rows, padding_value=1), expected, dtype)
    only_empty = rows[:-1]
    assert_same(checked(tb.pad, only_empty), [[]] * len(only_empty), dtype, (len(only_empty), 0))


@pytest.mark.skipif(
    "TIGHTBATCH_TEST_LARGE" not in os.environ, reason="set TIGHTBATCH_TEST_LARGE: needs 9 GiB"
)
def test_hostile_37_more_elements_than_32_bits_count():
    size = 2**31 + 8
    row = np.zeros(size, np.uint8)
    row[[0, 2**31 - 1, 2**31, -1]] = [1, 2, 3, 4]
    result = tb.pad([row, np.array([9], np.uint8)], padding_value=5)
    assert result.shape == (2, size)
    assert result[0, [0, 2**31 - 1, 2**31, -1]].tolist() == [1, 2, 3, 4]
    assert int(np.count_nonzero(result[0])) == 4
    assert result[1, [0, 1, -1]].tolist() == [9, 5, 5]
    assert bool((result[1, 1:] == 5).all())


@pytest.mark.parametrize(
    ("bits", "floats"), [("u2", "f2"), ("u4", "f4"), ("u8", "f8")], ids=["f2", "f4", "f8"]
)
def test_array_bits_are_moved_not_converted(bits, floats):
    """Signalling NaNs keep their payload."""
    mantissa = {"u2": 10, "u4": 23, "u8": 52}[bits]
    everything = np.dtype(bits).itemsize * 8
    exponent = ((1 << (everything - 1 - mantissa)) - 1) << mantissa
    patterns = [exponent | 1, exponent | 1 << (mantissa - 1) | 5, 1 << (everything - 1), 1]
    row = np.array(patterns, bits).view(floats)
    result = checked(tb.pad, [row, row[:1]])
    assert result.view(bits).tolist() == [patterns, [patterns[0], 0, 0, 0]]


@given(
    data=st.data(),
    dtype=st.sampled_from(arrays.INTEGERS),
    row_lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
)
@settings(deadline=None)
def test_pad_of_arrays_property(data, dtype, row_lengths):
    layout = data.draw(st.sampled_from(sorted(arrays.LAYOUTS)))
    rows = [arrays.LAYOUTS[layout](row) for row in arrays.batch(dtype, row_lengths)]
    values = [row.tolist() for row in rows]
    chosen = data.draw(options(values))
    limits = np.iinfo(dtype)
    fill = data.draw(st.integers(int(limits.min), int(limits.max)))
    expected = reference.pad(values, padding_value=fill, **chosen)
    result = checked(tb.pad, rows, padding_value=fill, **chosen)
    assert_same(result, expected, dtype, (len(rows), result.shape[1]))
    assert len(expected[0]) == result.shape[1]


# return_mask and out


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", LENGTH_CASES)
def test_return_mask(case, side):
    row_lengths = LENGTH_CASES[case]
    rows = numbered(row_lengths)
    result = checked(tb.pad, rows, padding_side=side, return_mask=True, pad_to_multiple_of=4)
    assert isinstance(result, tuple)
    array, mask = result
    assert_same(
        array, reference.pad(rows, padding_side=side, pad_to_multiple_of=4), np.int64, array.shape
    )
    expected = reference.attention_mask(row_lengths, padding_side=side, pad_to_multiple_of=4)
    assert_same(mask, expected, bool, array.shape)


def test_the_mask_of_n_d_rows_is_two_dimensional():
    rows = arrays.batch(np.float32, [2, 0, 3], (4,))
    _, mask = checked(tb.pad, rows, return_mask=True)
    assert_same(mask, reference.attention_mask([2, 0, 3]), bool)


def test_the_mask_is_of_the_rows_as_cut():
    _, mask = checked(tb.pad, [[1, 2, 3], [1]], max_length=2, width=3, return_mask=True)
    assert_same(mask, [[1, 1, 0], [1, 0, 0]], bool)


def test_the_mask_marks_items_that_equal_the_padding():
    _, mask = checked(tb.pad, [[0, 0], [0]], padding_value=0, return_mask=True)
    assert_same(mask, [[1, 1], [1, 0]], bool)


@pytest.mark.parametrize("dtype", arrays.DTYPES, ids=str)
def test_out_is_filled_and_returned(dtype):
    rows = arrays.batch(dtype, [3, 0, 5])
    out = np.ones((3, 6), dtype)
    result = checked(tb.pad, rows, width=6, out=out)
    assert result is out
    np.testing.assert_array_equal(out, checked(tb.pad, rows, width=6))


def test_out_with_lists_takes_the_type_of_the_lists():
    out = np.full((2, 2), 9, np.int64)
    assert checked(tb.pad, [[1, 2], [3]], out=out) is out
    assert out.tolist() == [[1, 2], [3, 0]]


def test_out_with_dtype_and_mask():
    out = np.full((2, 3), 9, np.int16)
    array, mask = checked(tb.pad, [[1, 2, 3], [4]], dtype=np.int16, out=out, return_mask=True)
    assert array is out
    assert out.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]


def test_out_may_be_a_slice_of_a_larger_array():
    block = np.full((4, 3), 9, np.int64)
    out = block[1:3]
    assert checked(tb.pad, [[1, 2, 3], [4]], out=out) is out
    assert block.tolist() == [[9, 9, 9], [1, 2, 3], [4, 0, 0], [9, 9, 9]]


def test_out_beside_the_input_in_one_block_is_no_overlap():
    block = np.arange(8, dtype=np.int64)
    out = block[:4].reshape(2, 2)
    checked(tb.pad, [block[4:6].copy(), [5]], out=out)
    tb.pad([block[4:6], block[7:]], out=out)
    assert block.tolist() == [4, 5, 7, 0, 4, 5, 6, 7]


@pytest.mark.parametrize("shape", [(0, 0), (2, 0)])
def test_out_without_elements(shape):
    out = np.zeros(shape, np.int64)
    assert checked(tb.pad, [[]] * shape[0], out=out) is out


# lengths


@pytest.mark.parametrize("case", LENGTH_CASES)
def test_lengths(case):
    row_lengths = LENGTH_CASES[case]
    assert_same(checked(tb.lengths, numbered(row_lengths)), row_lengths, np.int64)
    rows = arrays.batch(np.float16, row_lengths, (2,))
    assert_same(checked(tb.lengths, rows), row_lengths, np.int64)
    assert_same(checked(tb.lengths, iter(rows)), row_lengths, np.int64)


def test_lengths_of_mixed_rows():
    rows = [[1, 2], (1,), np.zeros(3, np.uint8), b"four", bytearray(5), memoryview(b"sixsix")]
    assert_same(checked(tb.lengths, rows), [2, 1, 3, 4, 5, 6], np.int64)
    rows = [[[1, 2]], np.zeros((3, 2), int), [], np.zeros((0, 2), int)]
    assert_same(checked(tb.lengths, rows), [1, 3, 0, 0], np.int64)


def test_lengths_of_a_rectangle():
    assert_same(checked(tb.lengths, np.zeros((3, 4))), [4, 4, 4], np.int64)
    assert_same(checked(tb.lengths, np.zeros((0, 4))), [], np.int64)
    assert_same(checked(tb.lengths, np.zeros((2, 0, 3))), [0, 0], np.int64)


@pytest.mark.parametrize("bad", [None, 5, 1.5, "ab", {1: [1]}], ids=repr)
def test_lengths_refuses_what_is_no_batch(bad):
    with fails(TypeError, "lengths()"):
        checked(tb.lengths, bad)


@pytest.mark.parametrize("bad", [None, 5, 1.5, "ab", {1: 2}, {1, 2}, np.int64(3)], ids=repr)
def test_lengths_refuses_what_is_no_row(bad):
    with fails(TypeError, "lengths()", "row 1"):
        checked(tb.lengths, [[1], bad])


# The three named functions


@pytest.mark.parametrize("max_length", [0, 1, 3, 33, 70])
@pytest.mark.parametrize("case", LENGTH_CASES)
def test_fixed_pad_sequences(case, max_length):
    rows = numbered(LENGTH_CASES[case])
    expected = reference.fixed_pad_sequences(rows, max_length, -100)
    shape = (len(rows), max_length)
    result = checked(tb.fixed_pad_sequences, rows, max_length, -100)
    assert_same(result, expected, np.int64, shape)
    expected = reference.fixed_pad_sequences(rows, max_length)
    assert_same(checked(tb.fixed_pad_sequences, rows, max_length), expected, np.int64, shape)
    named = checked(tb.fixed_pad_sequences, sequences=rows, max_length=max_length, padding_value=0)
    assert_same(named, expected, np.int64, shape)


@pytest.mark.parametrize("case", LENGTH_CASES)
def test_pad_sequences_dynamic(case):
    rows = numbered(LENGTH_CASES[case])
    shape = (len(rows), max(LENGTH_CASES[case], default=0))
    expected = reference.pad_sequences_dynamic(rows, 9)
    assert_same(checked(tb.pad_sequences_dynamic, rows, 9), expected, np.int64, shape)
    expected = reference.pad_sequences_dynamic(rows)
    assert_same(checked(tb.pad_sequences_dynamic, rows), expected, np.int64, shape)
    named = checked(tb.pad_sequences_dynamic, sequences=rows, padding_value=0)
    assert_same(named, expected, np.int64, shape)


def assert_uniform(rows, batch_size, fill, dtype=np.int64):
    expected = reference.uniform_length_batching(rows, batch_size, fill)
    places = reference.uniform_length_indices(rows, batch_size)
    batches = checked(tb.uniform_length_batching, rows, batch_size, fill)
    again, indices = checked(
        tb.uniform_length_batching, rows, batch_size, fill, return_indices=True
    )
    assert type(batches) is type(again) is type(indices) is list
    assert len(batches) == len(again) == len(indices) == len(expected)
    for place in range(len(expected)):
        shape = (len(expected[place]), len(expected[place][0]))
        assert_same(batches[place], expected[place], dtype, shape)
        assert_same(again[place], expected[place], dtype, shape)
        assert indices[place].dtype == np.int64
        assert indices[place].tolist() == places[place]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 14, 1000])
@pytest.mark.parametrize("case", LENGTH_CASES)
def test_uniform_length_batching(case, batch_size):
    assert_uniform(numbered(LENGTH_CASES[case]), batch_size, -1)


def test_uniform_length_batching_of_nothing():
    assert checked(tb.uniform_length_batching, [], 4) == []
    assert checked(tb.uniform_length_batching, [], 4, return_indices=True) == ([], [])


def test_uniform_length_batching_keeps_the_order_of_equal_lengths():
    rows = [[5, 5], [1], [6, 6], [2], [7, 7], [3]]
    batches, indices = checked(tb.uniform_length_batching, rows, 4, return_indices=True)
    assert [batch.tolist() for batch in batches] == [
        [[1, 0], [2, 0], [3, 0], [5, 5]],
        [[6, 6], [7, 7]],
    ]
    assert [index.tolist() for index in indices] == [[1, 3, 5, 0], [2, 4]]


def test_uniform_length_batching_takes_every_row_once_and_reorders_nothing():
    rows = numbered([3, 1, 2, 1, 0, 5, 3])
    before = list(rows)
    _, indices = checked(tb.uniform_length_batching, rows, 3, return_indices=True)
    assert all(now is then for now, then in zip(rows, before, strict=True))
    assert sorted(np.concatenate(indices).tolist()) == list(range(len(rows)))


@given(rows=int_rows(st.integers(-9, 9)), batch_size=st.integers(1, 9), fill=st.integers(-9, 9))
@settings(deadline=None)
def test_uniform_length_batching_property(rows, batch_size, fill):
    assert_uniform(rows, batch_size, fill)


def test_the_three_accept_arrays_and_iterables():
    rows = arrays.batch(np.int16, [3, 1, 2])
    values = [row.tolist() for row in rows]
    fixed = reference.fixed_pad_sequences(values, 2)
    assert_same(checked(tb.fixed_pad_sequences, iter(rows), 2), fixed, np.int16)
    dynamic = reference.pad_sequences_dynamic(values)
    assert_same(checked(tb.pad_sequences_dynamic, iter(rows)), dynamic, np.int16)
    batches = checked(tb.uniform_length_batching, iter(rows), 2)
    expected = reference.uniform_length_batching(values, 2)
    for result, batch in zip(batches, expected, strict=True):
        assert_same(result, batch, np.int16)


def test_the_three_accept_a_rectangle():
    rectangle = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert_same(checked(tb.fixed_pad_sequences, rectangle, 2), [[0, 1], [3, 4]], np.int32)
    assert_same(checked(tb.pad_sequences_dynamic, rectangle), rectangle.tolist(), np.int32)
    (batch,) = checked(tb.uniform_length_batching, rectangle, 5)
    assert_same(batch, rectangle.tolist(), np.int32)


def test_uniform_length_batching_of_floats_has_one_type():
    """A batch of whole numbers beside a batch of fractions is of the same data set."""
    batches = checked(tb.uniform_length_batching, [[1], [1.5, 2.5]], 1)
    assert_same(batches[0], [[1.0]], np.float32)
    assert_same(batches[1], [[1.5, 2.5]], np.float32)


def test_uniform_length_batching_of_one_rectangle():
    whole = np.array([[1, 2], [3, 4], [5, 6]])
    batches, indices = tb.uniform_length_batching(whole, 2, return_indices=True)
    assert_same(batches[0], [[1, 2], [3, 4]], np.int64)
    assert_same(batches[1], [[5, 6]], np.int64)
    assert [i.tolist() for i in indices] == [[0, 1], [2]]


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.int32, np.float64, np.longdouble])
@pytest.mark.parametrize("side", SIDES)
def test_outputs_larger_than_the_caches(dtype, side):
    """They are written past the caches: the same bytes, at every alignment."""
    width, itemsize = 20_011, np.dtype(dtype).itemsize
    count = (40 << 20) // (width * itemsize)
    source = (np.arange(3 * width) % 101).astype(dtype)
    generator = np.random.default_rng(0)
    places = generator.integers(0, width, count).tolist()
    sizes = [width, 0, 1, *generator.integers(0, width, count - 3).tolist()]
    rows = [source[at : at + n] for at, n in zip(places, sizes, strict=True)]
    expected = np.full((count, width), 5, dtype)
    for target, row in zip(expected, rows, strict=True):
        target[slice(len(row)) if side == "right" else slice(width - len(row), None)] = row
    result = tb.pad(rows, padding_value=5, padding_side=side)
    assert result.nbytes >= 32 << 20
    assert np.array_equal(result, expected)
    result[:] = 9
    assert np.array_equal(tb.pad(rows, padding_value=5, padding_side=side, out=result), expected)
