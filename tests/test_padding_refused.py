"""What pad refuses as a batch, a row or an item, and what the error names."""

import array
import datetime
import decimal
import fractions

import numpy as np
import pytest

import tightbatch as tb
from checks import checked, fails


@pytest.mark.parametrize(
    "bad",
    [None, 5, 1.5, True, "ab", "", b"ab", bytearray(b"ab"), {}, {1: [2]}, Ellipsis, len],
    ids=repr,
)
def test_what_is_no_batch(bad):
    with fails(TypeError, "pad()"):
        checked(tb.pad, bad)


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool", "uint8"])
def test_a_flat_array_is_no_batch(dtype):
    with fails(TypeError, "pad()"):
        checked(tb.pad, np.ones(3, dtype))
    with fails(TypeError, "pad()"):
        checked(tb.pad, np.ones((), dtype))


BAD_ROWS = {
    "none": None,
    "int": 5,
    "float": 1.5,
    "bool": True,
    "str": "ab",
    "empty_str": "",
    "dict": {1: 2},
    "set": {1, 2},
    "frozenset": frozenset([1]),
    "object": object(),
    "generator": (item for item in [1]),
    "complex": 1j,
    "numpy_int": np.int64(3),
    "zero_dimensional": np.array(3),
    "complex_array": np.ones(2, complex),
    "datetime_array": np.zeros(2, "M8[s]"),
    "timedelta_array": np.zeros(2, "m8[s]"),
    "string_array": np.array(["a", "b"]),
    "bytes_array": np.array([b"a", b"b"]),
    "void_array": np.zeros(2, "V4"),
    "structured_array": np.zeros(2, [("a", "i4")]),
    "record_array": np.zeros(2, [("a", "i4")]).view(np.recarray),
    "object_array": np.array([1, 2], object),
    "masked_array": np.ma.MaskedArray([1, 2], [False, True]),
    "unmasked_masked_array": np.ma.MaskedArray([1, 2]),
    "array_of_str_code": array.array("w" if "w" in array.typecodes else "u", "ab"),
    "date": datetime.date(2020, 1, 1),
    "class": list,
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("case", BAD_ROWS)
def test_hostile_34_what_is_no_row(case, place):
    rows = [[1, 2], [3], [4]]
    rows[place] = BAD_ROWS[case]
    with fails(TypeError, "pad()", f"row {place}"):
        checked(tb.pad, rows)


@pytest.mark.parametrize(
    "case", [case for case, row in BAD_ROWS.items() if isinstance(row, np.ndarray) and row.ndim]
)
def test_hostile_34_refused_arrays_name_their_type(case):
    row = BAD_ROWS[case]
    with fails(TypeError, "pad()", "row 0") as caught:
        checked(tb.pad, [row])
    message = str(caught.value)
    if isinstance(row, np.ma.MaskedArray):
        assert "mask" in message.lower()
    else:
        names = (str(row.dtype), row.dtype.name, row.dtype.str)
        assert any(name in message for name in (*names, repr(row.dtype))), message


@pytest.mark.parametrize(
    "dtype", ["complex64", "M8[s]", "m8[s]", "U1", "S1", "V4", [("a", "i4")]], ids=str
)
def test_hostile_34_rectangles_of_no_number(dtype):
    with fails(TypeError, "pad()"):
        checked(tb.pad, np.zeros((2, 3), dtype))


def test_a_masked_rectangle_is_refused():
    with fails(TypeError, "pad()"):
        checked(tb.pad, np.ma.MaskedArray(np.ones((2, 2)), np.eye(2)))


BAD_ITEMS = {
    "none": None,
    "str": "7",
    "bytes": b"7",
    "complex": 1j,
    "decimal": decimal.Decimal(1),
    "fraction": fractions.Fraction(1),
    "object": object(),
    "dict": {},
    "set": {1},
    "date": datetime.date(2020, 1, 1),
    "complex64": np.complex64(1),
    "datetime64": np.datetime64(1, "s"),
    "timedelta64": np.timedelta64(1, "s"),
    "numpy_str": np.str_("7"),
    "class": int,
}


@pytest.mark.parametrize("before", [[1, 2], [0.5, 2], [True, False]], ids=["int", "float", "bool"])
@pytest.mark.parametrize("case", BAD_ITEMS)
def test_hostile_05_what_is_no_item(case, before):
    item = BAD_ITEMS[case]
    with fails(TypeError, "pad()", "row 1", "column 2", type(item).__name__):
        checked(tb.pad, [[], [*before, item, 4], [1]])
    with fails(TypeError, "pad()", "row 0", "column 0", type(item).__name__):
        checked(tb.pad, [[item]])


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32, np.float64, bool])
@pytest.mark.parametrize("case", BAD_ITEMS)
def test_hostile_05_what_is_no_item_of_any_dtype(case, dtype):
    with fails(TypeError, "pad()", "row 1", "column 1", type(BAD_ITEMS[case]).__name__):
        checked(tb.pad, [[1], [0, BAD_ITEMS[case]]], dtype=dtype)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16, bool])
@pytest.mark.parametrize("value", [1.9, 1.0, -0.0, float("nan"), float("inf")])
def test_hostile_05_a_float_for_integers_or_bools(value, dtype):
    with fails(TypeError, "pad()", "row 1", "column 1"):
        checked(tb.pad, [[1], [1, value]], dtype=dtype)


# Shapes that disagree


MIXED_DEPTH = {
    "scalar_then_list": ([[1, [2]]], "row 0", "column 1"),
    "list_then_scalar": ([[[1], 2]], "row 0", "column 1"),
    "between_rows": ([[1], [[2]]], "row 1", "column 0"),
    "between_rows_down": ([[[1]], [2]], "row 1", "column 0"),
    "deeper_later": ([[[1], [2]], [[3], [[4]]]], "row 1", "column 1"),
    "shallower_later": ([[[[1]]], [[[2]], [3]]], "row 1", "column 1"),
    "float_then_list": ([[0.5, [2.5]]], "row 0", "column 1"),
}


@pytest.mark.parametrize("case", MIXED_DEPTH)
def test_hostile_08_mixed_depth(case):
    rows, *named = MIXED_DEPTH[case]
    with fails(TypeError, "pad()", *named):
        checked(tb.pad, rows)


RAGGED = {
    "inside_a_row": ([[[1, 2], [3]]], "row 0", "column 1"),
    "between_rows": ([[[1, 2]], [[1, 2], [1, 2, 3]]], "row 1", "column 1"),
    "empty_item": ([[[1, 2], []]], "row 0", "column 1"),
    "empty_first": ([[[], [1]]], "row 0", "column 1"),
    "deep": ([[[[1], [2]]], [[[1], [2]], [[1]]]], "row 1", "column 1"),
    "deepest": ([[[[1], [2]]], [[[1], [2, 3]]]], "row 1", "column 0"),
}


@pytest.mark.parametrize("case", RAGGED)
def test_hostile_08_ragged_items(case):
    rows, *named = RAGGED[case]
    with fails(ValueError, "pad()", *named):
        checked(tb.pad, rows)


def test_hostile_08_trailing_shapes_of_arrays_disagree():
    wide, wider = np.zeros((2, 80)), np.zeros((2, 81))
    for rows in ([wide, wider], [wide, [], wider], [np.zeros((0, 80)), wider]):
        with fails(ValueError, "pad()", f"row {len(rows) - 1}", 80, 81):
            checked(tb.pad, rows)
    with fails((TypeError, ValueError), "pad()", "row 1"):
        checked(tb.pad, [wide, np.zeros(2)])
    with fails((TypeError, ValueError), "pad()", "row 1"):
        checked(tb.pad, [wide, np.zeros((2, 80, 1))])
    with fails((TypeError, ValueError), "pad()", "row 1"):
        checked(tb.pad, [wide, [1.5]])
    with fails(ValueError, "pad()", "row 1"):
        checked(tb.pad, [np.zeros((2, 2), int), [[1, 2, 3]]])


def test_hostile_08_self_containing_lists():
    row = [1]
    row.append(row)
    with fails((TypeError, ValueError), "pad()", "row 0"):
        tb.pad([row])
    loop = []
    loop.append(loop)
    with fails((TypeError, ValueError), "pad()", "row 0"):
        tb.pad([loop])
    with fails((TypeError, ValueError), "pad()", "row 0"):
        tb.pad(loop)
    assert len(row) == 2
    assert len(loop) == 1


@pytest.mark.parametrize("depth", [63, 64, 65, 100, 100_000])
def test_hostile_08_deep_nesting(depth):
    row = [1]
    for _ in range(depth):
        row = [row]
    with fails((TypeError, ValueError), "pad()", "row 0"):
        tb.pad([row])


@pytest.mark.parametrize("sequences", [5, "text", b"bytes", {1: 2}, {3}, None, 1.5, object()])
def test_what_is_no_batch_is_refused_as_a_whole(sequences):
    """There is no row to name yet."""
    for function in (tb.pad, tb.lengths, tb.pad_sequences_dynamic):
        with pytest.raises(TypeError, match=r"^\w+\(\): sequences: found \w+, expected a list"):
            function(sequences)
