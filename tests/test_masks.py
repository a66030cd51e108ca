"""attention_mask and position_ids against their definition and against torch's expressions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrays
import reference
import tightbatch as tb
from checks import assert_same, check_lengths_that_act, checked, fails

SIDES = ["right", "left"]
LENGTH_CASES = {
    "none": [],
    "zero": [0],
    "zeros": [0, 0, 0],
    "one": [1],
    "equal": [4, 4],
    "mixed": [3, 0, 5, 1, 5],
    "vector_tails": [15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1, 0],
}
BOTH = pytest.mark.parametrize("name", ["attention_mask", "position_ids"])
NOT_LENGTHS = {
    **{
        name: value
        for name, value in arrays.NOT_INTEGERS.items()
        if name not in ("scalar_array", "three_dimensions")
    },
    "float16_array": np.ones(2, np.float16),
    "complex_array": np.ones(2, complex),
}


@st.composite
def lengths_and_width(draw):
    row_lengths = draw(st.lists(st.integers(0, 70), max_size=8))
    longest = max(row_lengths, default=0)
    width = draw(st.none() | st.integers(longest, longest + 20))
    return row_lengths, width


def shape_of(row_lengths, width=None, multiple=None):
    return len(row_lengths), reference.padded_width(row_lengths, width, multiple)


# attention_mask


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", LENGTH_CASES)
def test_attention_mask(case, side):
    row_lengths = LENGTH_CASES[case]
    expected = reference.attention_mask(row_lengths, padding_side=side)
    result = checked(tb.attention_mask, row_lengths, padding_side=side)
    assert_same(result, expected, bool, shape_of(row_lengths))


@given(
    given=lengths_and_width(),
    side=st.sampled_from(SIDES),
    multiple=st.none() | st.integers(1, 40),
    dtype=st.sampled_from([None, *arrays.DTYPES]),
)
@settings(max_examples=200, deadline=None)
def test_attention_mask_property(given, side, multiple, dtype):
    row_lengths, width = given
    expected = reference.attention_mask(
        row_lengths, width, padding_side=side, pad_to_multiple_of=multiple
    )
    result = checked(
        tb.attention_mask,
        row_lengths,
        width,
        padding_side=side,
        pad_to_multiple_of=multiple,
        dtype=dtype,
    )
    assert_same(result, expected, dtype or bool, shape_of(row_lengths, width, multiple))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("dtype", arrays.DTYPES + arrays.ML_DTYPES, ids=str)
def test_attention_mask_of_every_type_is_one_and_zero(dtype, side):
    row_lengths = LENGTH_CASES["vector_tails"]
    expected = reference.attention_mask(row_lengths, padding_side=side, real=1, fill=0)
    result = checked(tb.attention_mask, row_lengths, padding_side=side, dtype=dtype)
    assert_same(result, expected, dtype)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("dtype", [None, "float16", "float32", "float64", "longdouble"])
def test_additive_masks_are_zero_and_a_quarter_of_the_lowest_value(dtype, side):
    row_lengths = LENGTH_CASES["vector_tails"]
    dtype = np.dtype(dtype or np.float32)
    masked = np.finfo(dtype).min / 4
    expected = reference.attention_mask(row_lengths, padding_side=side, real=0.0, fill=masked)
    chosen = {"padding_side": side, "additive": True}
    result = checked(tb.attention_mask, row_lengths, dtype=dtype, **chosen)
    assert_same(result, expected, dtype)
    assert bool(np.isfinite(result).all())
    if dtype == np.float32:
        assert_same(checked(tb.attention_mask, row_lengths, **chosen), expected, dtype)


@pytest.mark.parametrize("dtype", arrays.ML_DTYPES[:3], ids=str)
def test_additive_masks_of_types_that_numpy_lacks(dtype):
    import ml_dtypes

    masked = float(ml_dtypes.finfo(dtype).min) / 4
    result = checked(tb.attention_mask, [1, 2], dtype=dtype, additive=True)
    assert_same(result, np.array([[0, masked], [0, 0]], dtype).tolist(), dtype)


@pytest.mark.parametrize("dtype", arrays.ML_DTYPES[3:], ids=str)
def test_additive_masks_of_small_integers_are_refused(dtype):
    with fails(TypeError, "attention_mask()", "additive=True", str(dtype), "floating"):
        checked(tb.attention_mask, [1, 2], dtype=dtype, additive=True)


def test_additive_bfloat16_masks():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    result = checked(tb.attention_mask, [1, 3], dtype=ml_dtypes.bfloat16, additive=True)
    assert result.dtype == ml_dtypes.bfloat16
    assert result.view(np.uint16).tolist() == [[0, 0xFE7F, 0xFE7F], [0, 0, 0]]
    assert float(result[0, 1]) * 4 == float(ml_dtypes.finfo(ml_dtypes.bfloat16).min)


@pytest.mark.parametrize("dtype", [*arrays.INTEGERS, np.dtype(bool)], ids=str)
def test_additive_masks_are_floats(dtype):
    with fails((TypeError, ValueError), "attention_mask()", "additive"):
        checked(tb.attention_mask, [1, 2], dtype=dtype, additive=True)


@pytest.mark.parametrize(
    "bad", ["complex64", "O", "U3", "M8[s]", [("a", "i4")], "nonsense"], ids=str
)
def test_attention_mask_dtype_that_is_no_number(bad):
    for additive in (False, True):
        with fails(TypeError, "attention_mask()"):
            checked(tb.attention_mask, [1, 2], dtype=bad, additive=additive)


@pytest.mark.parametrize("side", SIDES)
def test_attention_mask_is_torchs_comparison(side):
    torch = pytest.importorskip("torch")
    lengths = torch.tensor(LENGTH_CASES["vector_tails"])
    width = 140
    places = torch.arange(width)[None]
    peer = places < lengths[:, None]
    if side == "left":
        peer = peer.flip(1)
    result = checked(tb.attention_mask, lengths, width, padding_side=side)
    assert_same(result, peer.tolist(), bool)
    additive = torch.zeros(peer.shape).masked_fill(~peer, torch.finfo(torch.float32).min / 4)
    result = checked(tb.attention_mask, lengths, width, padding_side=side, additive=True)
    assert_same(result, additive.tolist(), np.float32)


def test_attention_mask_is_the_mask_of_pad():
    rows = [list(range(n)) for n in LENGTH_CASES["mixed"]]
    for side in SIDES:
        chosen = {"padding_side": side, "pad_to_multiple_of": 4}
        _, mask = tb.pad(rows, return_mask=True, **chosen)
        assert_same(tb.attention_mask(tb.lengths(rows), **chosen), mask.tolist(), bool)


# position_ids


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", LENGTH_CASES)
def test_position_ids(case, side):
    row_lengths = LENGTH_CASES[case]
    expected = reference.position_ids(row_lengths, padding_side=side)
    result = checked(tb.position_ids, row_lengths, padding_side=side)
    assert_same(result, expected, np.int64, shape_of(row_lengths))


@pytest.mark.parametrize("case", LENGTH_CASES)
def test_flat_position_ids(case):
    row_lengths = LENGTH_CASES[case]
    expected = reference.position_ids(row_lengths, flat=True)
    result = checked(tb.position_ids, row_lengths, flat=True)
    assert_same(result, expected, np.int64, (sum(row_lengths),))


@given(
    given=lengths_and_width(),
    side=st.sampled_from(SIDES),
    multiple=st.none() | st.integers(1, 40),
)
@settings(deadline=None)
def test_position_ids_property(given, side, multiple):
    row_lengths, width = given
    expected = reference.position_ids(
        row_lengths, width, padding_side=side, pad_to_multiple_of=multiple
    )
    result = checked(
        tb.position_ids, row_lengths, width, padding_side=side, pad_to_multiple_of=multiple
    )
    assert_same(result, expected, np.int64, shape_of(row_lengths, width, multiple))


@pytest.mark.parametrize("side", SIDES)
def test_position_ids_are_the_running_count_of_the_mask(side):
    torch = pytest.importorskip("torch")
    lengths = LENGTH_CASES["vector_tails"]
    mask = torch.from_numpy(tb.attention_mask(lengths, 140, padding_side=side)).long()
    peer = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)
    result = checked(tb.position_ids, lengths, 140, padding_side=side)
    assert_same(result, peer.tolist(), np.int64)


# The lengths


@pytest.mark.parametrize("layout", arrays.LAYOUTS)
@pytest.mark.parametrize("dtype", arrays.INTEGERS, ids=str)
def test_lengths_in_every_type_and_layout(dtype, layout):
    given = arrays.LAYOUTS[layout](np.array([3, 0, 127, 1], dtype))
    row_lengths = given.tolist()
    expected = reference.attention_mask(row_lengths)
    assert_same(checked(tb.attention_mask, given), expected, bool)
    expected = reference.position_ids(row_lengths)
    assert_same(checked(tb.position_ids, given), expected, np.int64)
    expected = reference.position_ids(row_lengths, flat=True)
    assert_same(checked(tb.position_ids, given, flat=True), expected, np.int64)


@pytest.mark.parametrize("name", ["uint8", "int8", "int16", "int32", "int64"])
def test_lengths_may_be_tensors(name):
    torch = pytest.importorskip("torch")
    given = torch.tensor([3, 9, 0, 9, 1, 9], dtype=getattr(torch, name))[::2]
    assert_same(checked(tb.attention_mask, given), reference.attention_mask([3, 0, 1]), bool)
    assert_same(checked(tb.position_ids, given), reference.position_ids([3, 0, 1]), np.int64)


def test_lengths_may_be_tuples_and_numpy_integers():
    expected = reference.attention_mask([1, 2])
    assert_same(checked(tb.attention_mask, (1, 2)), expected, bool)
    assert_same(checked(tb.attention_mask, [np.int32(1), np.uint8(2)]), expected, bool)
    assert_same(checked(tb.attention_mask, tb.lengths([[7], [7, 7]])), expected, bool)


@BOTH
def test_no_lengths(name):
    function = getattr(tb, name)
    dtype = bool if name == "attention_mask" else np.int64
    assert_same(checked(function, []), [], dtype, (0, 0))
    assert_same(checked(function, [], 5), [], dtype, (0, 5))
    assert_same(checked(function, [], 5, pad_to_multiple_of=4), [], dtype, (0, 8))
    assert_same(checked(function, np.zeros(0, np.int64)), [], dtype, (0, 0))
    assert_same(checked(function, [0, 0], 0), [[], []], dtype, (2, 0))


@BOTH
@pytest.mark.parametrize("case", NOT_LENGTHS)
def test_what_are_no_lengths(name, case):
    with fails(TypeError, f"{name}()"):
        checked(getattr(tb, name), NOT_LENGTHS[case])


@BOTH
def test_lengths_have_one_dimension(name):
    rows = (np.ones((2, 2), int), [[1, 2]])
    packs_are_rows = name == "position_ids"  # those of a pack's segments
    for bad in (np.array(3), *(() if packs_are_rows else rows), [[[1]]]):
        with fails((TypeError, ValueError), f"{name}()"):
            checked(getattr(tb, name), bad)


@BOTH
def test_wrong_items_of_lengths_are_named(name):
    function = getattr(tb, name)
    with fails(TypeError, f"{name}()", "row 1", "float"):
        checked(function, [1, 2.0])
    with fails(TypeError, f"{name}()", "row 2", "str"):
        checked(function, [1, 2, "3"])


@BOTH
def test_negative_lengths_are_named(name):
    function = getattr(tb, name)
    for bad in ([3, -1, 2], np.array([3, -1, 2]), np.array([3, -1, 2], np.int8)):
        with fails(ValueError, f"{name}()", "row 1", -1):
            checked(function, bad)
        with fails(ValueError, f"{name}()", "row 1"):
            checked(function, bad, 10)
    if name == "position_ids":
        with fails(ValueError, f"{name}()", "row 1", -1):
            checked(function, [3, -1, 2], flat=True)


@BOTH
def test_lengths_over_the_width_are_named(name):
    function = getattr(tb, name)
    for bad in ([3, 2, 4, 9], np.array([3, 2, 4, 9], np.uint8)):
        with fails(ValueError, f"{name}()", "row 2", 4, 3):
            checked(function, bad, 3)
        with fails(ValueError, f"{name}()", "row 2", 4):
            checked(function, bad, 3, pad_to_multiple_of=8)
    with fails(ValueError, f"{name}()", "row 0"):
        checked(function, [1], 0)


@BOTH
def test_hostile_16_a_length_beyond_any_memory(name):
    """Two rows, one of which claims 2**60 items."""
    function = getattr(tb, name)
    for claim in (2**60, 2**62, 2**63 - 1):
        for bad in ([claim, 1], np.array([claim, 1]), np.array([claim, 1], np.uint64)):
            with pytest.raises((ValueError, MemoryError, OverflowError)):
                checked(function, bad)
        with pytest.raises((ValueError, MemoryError, OverflowError)):
            checked(function, [1, 1], claim)
        with pytest.raises((ValueError, MemoryError, OverflowError)):
            checked(function, [1, 1], pad_to_multiple_of=claim)
    for claim in (2**63, 2**64 - 1, 2**64, 2**200):
        with pytest.raises((ValueError, OverflowError)):
            checked(function, [1, claim])
    with pytest.raises((ValueError, OverflowError)):
        checked(function, np.array([1, 2**63], np.uint64))
    if name == "position_ids":
        for claim in (2**62, 2**63 - 1):
            with pytest.raises((ValueError, MemoryError, OverflowError)):
                checked(function, [claim] * 4, flat=True)
    else:
        with pytest.raises((ValueError, MemoryError, OverflowError)):
            checked(function, [2**61, 1], dtype=np.float64)


@BOTH
def test_hostile_14_15_sizes_of_masks(name):
    function = getattr(tb, name)
    for size in ("width", "pad_to_multiple_of"):
        for bad in (True, 1.0, "3", [3], float("nan")):
            with fails(TypeError, f"{name}()", size):
                checked(function, [1, 2], **{size: bad})
        with fails(ValueError, f"{name}()", size):
            checked(function, [1, 2], **{size: -1})
        with fails((ValueError, OverflowError), size):
            checked(function, [1, 2], **{size: 2**63})
    with fails(ValueError, f"{name}()", "pad_to_multiple_of"):
        checked(function, [1, 2], pad_to_multiple_of=0)
    with fails(ValueError, f"{name}()", "padding_side"):
        checked(function, [1, 2], padding_side="up")
    with fails((TypeError, ValueError), f"{name}()", "padding_side"):
        checked(function, [1, 2], padding_side=None)


@BOTH
@pytest.mark.parametrize("multiple", [1, 3, 8, 64])
def test_the_multiple_of_masks_is_applied_last(name, multiple):
    function = getattr(tb, name)
    for width in (None, 5, 8):
        result = checked(function, [5, 2], width, pad_to_multiple_of=multiple)
        assert result.shape == shape_of([5, 2], width, multiple)


@BOTH
def test_options_of_masks_are_keywords(name):
    function = getattr(tb, name)
    with pytest.raises(TypeError):
        function([1], 2, "left")
    with pytest.raises(TypeError):
        function()
    assert function(lengths=[1], width=2).shape == (1, 2)


@BOTH
def test_hostile_21_22_23_index_of_a_length_that_acts(name):
    check_lengths_that_act(getattr(tb, name))
    assert checked(getattr(tb, name), [1, 2]).shape == (2, 2)


def test_hostile_02_int_subclasses_as_lengths():
    class Liar(int):
        def __index__(self):
            raise AssertionError("called")

        __int__ = __index__

    assert_same(tb.attention_mask([Liar(1), 2]), [[1, 0], [1, 1]], bool)
