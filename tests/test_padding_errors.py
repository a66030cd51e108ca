"""Every argument of the padding functions, given wrongly."""

import itertools

import numpy as np
import pytest

import tightbatch as tb
from checks import checked, fails, result_or_error

ROWS = [[1, 2, 3], [4]]
OBJECT = type("Thing", (), {"__repr__": lambda self: "thing"})()
NOT_SIZES = [True, False, 1.0, 2.5, float("nan"), "3", b"3", 1j, [3], OBJECT, np.float64(3)]
FIXED, DYNAMIC, UNIFORM = (
    "fixed_pad_sequences",
    "pad_sequences_dynamic",
    "uniform_length_batching",
)


# Sizes


@pytest.mark.parametrize("value", NOT_SIZES, ids=repr)
@pytest.mark.parametrize("name", ["width", "max_length", "pad_to_multiple_of"])
def test_hostile_14_15_sizes_that_are_no_ints(name, value):
    with fails(TypeError, "pad()", name):
        checked(tb.pad, ROWS, **{name: value})


@pytest.mark.parametrize("value", [-1, -8, -(2**62), np.int64(-1)])
@pytest.mark.parametrize("name", ["width", "max_length", "pad_to_multiple_of"])
def test_hostile_14_15_negative_sizes(name, value):
    with fails(ValueError, "pad()", name):
        checked(tb.pad, ROWS, **{name: value})


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**200])
@pytest.mark.parametrize("name", ["width", "max_length", "pad_to_multiple_of"])
def test_hostile_14_sizes_beyond_any_memory(name, value):
    with fails((OverflowError, ValueError), name):
        checked(tb.pad, ROWS, **{name: value})


def test_hostile_15_multiple_of_zero():
    with fails(ValueError, "pad()", "pad_to_multiple_of"):
        checked(tb.pad, ROWS, pad_to_multiple_of=0)
    with fails(ValueError, "pad()", "pad_to_multiple_of"):
        checked(tb.pad, [], pad_to_multiple_of=0)
    with fails(ValueError, "pad()", "pad_to_multiple_of"):
        checked(tb.pad, [], pad_to_multiple_of=-8)


@pytest.mark.parametrize("value", [np.int8(3), np.uint64(3), np.array(3)], ids=repr)
@pytest.mark.parametrize("name", ["width", "max_length", "pad_to_multiple_of"])
def test_sizes_may_be_numpy_integers(name, value):
    assert checked(tb.pad, ROWS, **{name: value}).tolist() == [[1, 2, 3], [4, 0, 0]]


def test_sizes_may_be_none():
    result = checked(tb.pad, ROWS, width=None, max_length=None, pad_to_multiple_of=None)
    assert result.tolist() == [[1, 2, 3], [4, 0, 0]]


@pytest.mark.parametrize("width", [2**60, 2**61, 2**62, 2**63 - 1])
@pytest.mark.parametrize("rows", [ROWS, [[0.5]], [np.ones(3, np.int8)] * 2, [[[1, 2]]]], ids=str)
def test_hostile_16_a_width_beyond_any_memory(rows, width):
    with pytest.raises((ValueError, MemoryError, OverflowError)):
        checked(tb.pad, rows, width=width)
    with pytest.raises((ValueError, MemoryError, OverflowError)):
        checked(tb.pad, rows, width=width, return_mask=True)


@pytest.mark.parametrize("multiple", [2**61, 2**62, 2**63 - 1])
def test_hostile_16_a_multiple_beyond_any_memory(multiple):
    with pytest.raises((ValueError, MemoryError, OverflowError)):
        checked(tb.pad, ROWS, pad_to_multiple_of=multiple)
    with pytest.raises((ValueError, MemoryError, OverflowError)):
        checked(tb.pad, ROWS, width=2**62 + 1, pad_to_multiple_of=multiple)


def test_a_huge_max_length_is_no_allocation():
    assert checked(tb.pad, ROWS, max_length=2**63 - 1).tolist() == [[1, 2, 3], [4, 0, 0]]


# Words


@pytest.mark.parametrize("value", ["", "Right", "r", "both", "centre", "right ", "rightleft"])
@pytest.mark.parametrize("name", ["padding_side", "truncation_side"])
def test_sides_that_do_not_exist(name, value):
    with fails(ValueError, "pad()", name):
        checked(tb.pad, ROWS, **{name: value})


@pytest.mark.parametrize("value", [None, 0, True, b"right", ["right"]], ids=repr)
@pytest.mark.parametrize("name", ["padding_side", "truncation_side"])
def test_sides_that_are_no_words(name, value):
    with fails((TypeError, ValueError), "pad()", name):
        checked(tb.pad, ROWS, **{name: value})


@pytest.mark.parametrize("word", ["right", "left"])
def test_sides_are_compared_by_value(word):
    class Side(str):
        __slots__ = ()

    fresh = "".join(list(word))
    expected = [[1, 2, 3], [4, 0, 0]] if word == "right" else [[1, 2, 3], [0, 0, 4]]
    for given in (fresh, Side(word)):
        assert checked(tb.pad, ROWS, padding_side=given).tolist() == expected


# Names and numbers of arguments


def test_pad_takes_one_positional_argument():
    with pytest.raises(TypeError):
        tb.pad()
    with pytest.raises(TypeError):
        tb.pad(ROWS, 5)
    with pytest.raises(TypeError):
        tb.pad(ROWS, sequences=ROWS)
    with pytest.raises(TypeError, match="nonsense"):
        tb.pad(ROWS, nonsense=1)
    assert tb.pad(sequences=ROWS).tolist() == [[1, 2, 3], [4, 0, 0]]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("lengths", 0),
        (FIXED, 1),
        (DYNAMIC, 0),
        (UNIFORM, 1),
        ("attention_mask", 0),
        ("position_ids", 0),
    ],
)
def test_too_few_too_many_and_unknown_arguments(name, arguments):
    function = getattr(tb, name)
    with pytest.raises(TypeError):
        function(*[ROWS][:arguments])
    with pytest.raises(TypeError):
        function(*itertools.repeat([1], 9))
    with pytest.raises(TypeError, match="nonsense"):
        function(
            [[1]] if "pad" in name or "uniform" in name else [1],
            *([1] if arguments else []),
            nonsense=1,
        )


# out


def out_cases():
    read_only = np.zeros((2, 3), np.int64)
    read_only.flags.writeable = False
    yield "read_only", read_only
    yield "shape", np.zeros((2, 4), np.int64)
    yield "transposed_shape", np.zeros((3, 2), np.int64)
    yield "flat", np.zeros(6, np.int64)
    yield "too_deep", np.zeros((2, 3, 1), np.int64)
    yield "dtype", np.zeros((2, 3), np.int32)
    yield "float_dtype", np.zeros((2, 3), np.float64)
    yield "byteswapped", np.zeros((2, 3), ">i8")
    yield "unsigned", np.zeros((2, 3), np.uint64)
    yield "object", np.zeros((2, 3), object)
    yield "fortran", np.zeros((2, 3), np.int64, order="F")
    yield "strided", np.zeros((2, 6), np.int64)[:, ::2]
    yield "reversed", np.zeros((2, 3), np.int64)[::-1]
    yield "broadcast", np.lib.stride_tricks.as_strided(np.zeros(3, np.int64), (2, 3), (0, 8))


OUT_CASES = dict(out_cases())


@pytest.mark.parametrize("case", OUT_CASES)
def test_hostile_33_an_unfit_out_is_refused_before_anything_is_written(case):
    out = OUT_CASES[case]
    before = out.tobytes()
    with fails(ValueError, "pad()", "out"):
        checked(tb.pad, ROWS, out=out)
    assert out.tobytes() == before


def test_hostile_33_a_misaligned_out_is_filled_or_refused():
    out = np.frombuffer(bytearray(49), np.int64, offset=1).reshape(2, 3)
    _, error = result_or_error(ValueError, checked, tb.pad, ROWS, out=out)
    if error is None:
        assert out.tolist() == [[1, 2, 3], [4, 0, 0]]
    else:
        assert "out" in str(error)
        assert not out.any()


@pytest.mark.parametrize("bad", [[[0] * 3] * 2, 5, "out", b"123", bytearray(48), OBJECT], ids=repr)
def test_hostile_33_an_out_that_is_no_array(bad):
    with fails(TypeError, "pad()", "out"):
        checked(tb.pad, ROWS, out=bad)


def test_hostile_33_an_out_that_disagrees_with_dtype():
    with fails(ValueError, "pad()", "out"):
        checked(tb.pad, ROWS, dtype=np.int32, out=np.zeros((2, 3), np.int64))


def overlapping():
    block = np.arange(12, dtype=np.int64)
    out = block[:6].reshape(2, 3)
    yield "exact", out, [out[0], out[1]]
    yield "partial", out, [block[5:8], block[9:10]]
    yield "later_row", out, [[1, 2, 3], block[2:3]]
    yield "strided", out, [block[1::5], [4]]
    yield "reversed", out, [block[7:4:-1], [4]]
    yield "rectangle", out, out
    yield "shifted_rectangle", out, block[3:9].reshape(2, 3)
    yield "memoryview", out, [memoryview(block[3:6]), [4]]


@pytest.mark.parametrize(
    "case",
    [
        "exact",
        "partial",
        "later_row",
        "strided",
        "reversed",
        "rectangle",
        "shifted_rectangle",
        "memoryview",
    ],
)
def test_hostile_33_an_overlapping_out_is_refused(case):
    _, out, rows = next(found for found in overlapping() if found[0] == case)
    before = out.tolist()
    with fails(ValueError, "pad()", "out"):
        checked(tb.pad, rows, out=out)
    assert out.tolist() == before


def test_hostile_33_an_out_over_a_bytearray_row():
    memory = bytearray(b"abcd")
    out = np.frombuffer(memory, np.uint8).reshape(1, 4)
    with fails(ValueError, "pad()", "out"):
        checked(tb.pad, [memory], out=out)
    assert memory == b"abcd"


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3), (3, 1, 2), (6, 1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.longdouble], ids=lambda d: d.__name__)
def test_hostile_33_an_out_from_the_last_number_of_a_row_on(shape, dtype):
    """Every dimension of a row counts: one shared number is refused, neighbours are not."""
    for begin, is_shared in ((5, True), (6, False)):
        block = np.arange(20).astype(dtype)
        row, out = block[:6].reshape(shape), block[begin : begin + 6].reshape(1, *shape)
        if is_shared:
            with fails(ValueError, "pad()", "row 0", "out"):
                tb.pad([row], out=out)
            assert block.tolist() == list(range(20))
        else:
            tb.pad([row], out=out)
            assert block[6:12].tolist() == list(range(6))
        row, out = block[10:16].reshape(shape), block[10 - begin : 16 - begin].reshape(1, *shape)
        if is_shared:
            with fails(ValueError, "pad()", "row 0", "out"):
                tb.pad([row], out=out)
        else:
            tb.pad([row], out=out)


def test_hostile_33_memory_between_the_items_of_a_row_is_no_overlap():
    """Refused or filled; never a wrong value."""
    block = np.arange(12, dtype=np.int64)
    row = block[::4]
    out = block[1:4].reshape(1, 3)
    _, error = result_or_error(ValueError, tb.pad, [row], out=out)
    unchanged, filled = list(range(12)), [0, 0, 4, 8, *range(4, 12)]
    assert block.tolist() == (filled if error is None else unchanged)


def test_a_failed_conversion_into_out_changes_no_input():
    out = np.zeros((2, 3), np.int64)
    with fails(TypeError, "pad()", "row 1", "column 0"):
        checked(tb.pad, [[1, 2, 3], ["x"]], out=out)


# The three named functions


@pytest.mark.parametrize("bad", [None, *NOT_SIZES], ids=repr)
def test_sizes_of_the_three_that_are_no_ints(bad):
    with fails(TypeError, "max_length"):
        checked(tb.fixed_pad_sequences, ROWS, bad)
    with fails(TypeError, "batch_size"):
        checked(tb.uniform_length_batching, ROWS, bad)


def test_sizes_of_the_three_out_of_range():
    with fails(ValueError, "max_length"):
        checked(tb.fixed_pad_sequences, ROWS, -1)
    for bad in (0, -1):
        with fails(ValueError, "batch_size"):
            checked(tb.uniform_length_batching, ROWS, bad)
        with fails(ValueError, "batch_size"):
            checked(tb.uniform_length_batching, [], bad)
    with pytest.raises((OverflowError, ValueError, MemoryError)):
        checked(tb.fixed_pad_sequences, ROWS, 2**62)
    with pytest.raises((OverflowError, ValueError)):
        checked(tb.fixed_pad_sequences, ROWS, 2**63)
    (batch,) = checked(tb.uniform_length_batching, ROWS, 2**63 - 1)
    assert batch.tolist() == [[4, 0, 0], [1, 2, 3]]


@pytest.mark.parametrize(("name", "arguments"), [(FIXED, (3,)), (DYNAMIC, ()), (UNIFORM, (2,))])
def test_errors_of_the_three_name_the_row_as_given(name, arguments):
    """Rows are counted in the caller's order, whatever order the batches are made in."""
    function = getattr(tb, name)
    with fails(TypeError, "row 1"):
        checked(function, [[1, 2], 5, [3]], *arguments)
    with fails(TypeError, "row 2"):
        checked(function, [[1, 2, 3], [1], ["x"]], *arguments)
    with fails(OverflowError, "row 1", "column 2"):
        checked(function, [[1], [1, 2, 2**63], [1]], *arguments)
    with fails(TypeError):
        checked(function, 5, *arguments)
    with fails(ValueError, "padding_value"):
        checked(function, ROWS, *arguments, 1.5)
    with fails(TypeError, "padding_value"):
        checked(function, ROWS, *arguments, "0")


@pytest.mark.parametrize(("name", "arguments"), [(FIXED, (3,)), (DYNAMIC, ()), (UNIFORM, (2,))])
def test_errors_of_the_three_name_the_function_that_was_called(name, arguments):
    with fails(TypeError, f"{name}()"):
        checked(getattr(tb, name), [[1], [None]], *arguments)


def test_an_error_of_a_float_is_told_as_it_is():
    class Half(np.float16):
        def __float__(self):
            raise LookupError("its own")

    for call in (
        lambda: tb.pad([[1.0], []], padding_value=Half(1)),
        lambda: tb.pad([[Half(1)]]),
        lambda: tb.pad([[1, Half(1)]]),
    ):
        with pytest.raises(LookupError, match="its own"):
            call()
