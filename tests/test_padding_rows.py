"""Which rows, and which batches of rows, pad accepts; test_padding_refused.py has the others."""

import array
import collections
import ctypes

import numpy as np
import pytest

import arrays
import reference
import tightbatch as tb
from checks import assert_same, checked, fails

Pair = collections.namedtuple("Pair", "first second")


class ListRow(list):
    """A list whose methods all lie; its items do not."""

    def __len__(self):
        return 1_000_000

    def __iter__(self):
        return iter("lies")

    def __getitem__(self, index):
        return "lies"


class AsArray:
    """Anything that numpy.asarray understands."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


# The batch


OUTER = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "generator": lambda rows: (row for row in rows),
    "map": lambda rows: map(list, rows),
    "deque": collections.deque,
    "dict_values": lambda rows: dict(enumerate(rows)).values(),
}


@pytest.mark.parametrize("outer", OUTER)
def test_any_iterable_of_rows(outer):
    rows = [[1, 2, 3], [], [4]]
    result = checked(tb.pad, OUTER[outer](rows))
    assert_same(result, reference.pad(rows), np.int64)


def test_an_iterable_class_is_iterated_once():
    class Rows:
        started = 0

        def __iter__(self):
            self.started += 1
            return iter([[1], [2, 3]])

    rows = Rows()
    assert_same(checked(tb.pad, rows), [[1, 0], [2, 3]], np.int64)
    assert rows.started == 1


@pytest.mark.parametrize("claimed", [0, 1, 50])
def test_a_wrong_length_hint_is_only_a_hint(claimed):
    class Rows:
        def __length_hint__(self):
            return claimed

        def __iter__(self):
            return iter([[1], [2], [3]])

    assert_same(checked(tb.pad, Rows()), [[1], [2], [3]], np.int64)


def test_an_iterator_that_raises_passes_its_error_on():
    error = KeyError("from the iterator")

    def rows():
        yield [1]
        raise error

    with pytest.raises(KeyError) as caught:
        checked(tb.pad, rows())
    assert caught.value is error


@pytest.mark.parametrize("layout", arrays.LAYOUTS)
@pytest.mark.parametrize("dtype", arrays.DTYPES, ids=str)
def test_a_rectangle_is_rows_of_equal_length(dtype, layout):
    rectangle = arrays.LAYOUTS[layout](arrays.sample(dtype, (4, 6)))
    expected = reference.pad(rectangle.tolist(), width=8, max_length=5, truncation_side="left")
    result = checked(tb.pad, rectangle, width=8, max_length=5, truncation_side="left")
    assert_same(result, expected, dtype)
    assert_same(checked(tb.pad, rectangle), rectangle.tolist(), dtype)


@pytest.mark.parametrize("layout", arrays.LAYOUTS)
def test_a_block_of_three_dimensions(layout):
    block = arrays.LAYOUTS[layout](arrays.sample(np.float32, (2, 3, 4)))
    expected = reference.pad(block.tolist(), pad_to_multiple_of=4)
    assert_same(checked(tb.pad, block, pad_to_multiple_of=4), expected, np.float32)


@pytest.mark.parametrize("dtype", arrays.ML_DTYPES, ids=str)
def test_a_rectangle_of_foreign_types(dtype):
    rectangle = arrays.sample(dtype, (3, 4))
    expected = reference.pad(rectangle.tolist(), width=5)
    assert_same(checked(tb.pad, rectangle, width=5), expected, dtype)


def test_a_rectangle_is_copied():
    rectangle = np.arange(6).reshape(2, 3)
    result = checked(tb.pad, rectangle)
    assert not np.shares_memory(result, rectangle)


def test_rectangles_without_elements():
    assert_same(checked(tb.pad, np.zeros((3, 0), np.int16)), [[], [], []], np.int16, (3, 0))
    assert_same(checked(tb.pad, np.zeros((3, 0), np.int16), width=1), [[0]] * 3, np.int16)
    result = checked(tb.pad, np.zeros((2, 0, 3), np.int16), width=1)
    assert_same(result, [[[0] * 3]] * 2, np.int16)
    assert checked(tb.pad, np.zeros((0, 5), np.int16)).shape[0] == 0
    assert checked(tb.pad, np.zeros((0, 5), np.int16)).dtype == np.int16


def object_array(rows):
    made = np.empty(len(rows), object)
    for index, row in enumerate(rows):
        made[index] = row
    return made


@pytest.mark.parametrize("step", [1, -1, 2])
def test_an_object_array_of_rows(step):
    rows = [[1, 2], np.array([3]), (), [4, 5, 6]]
    outer = object_array(rows)[::step]
    values = [list(row) for row in rows[::step]]
    assert_same(checked(tb.pad, outer), reference.pad(values), np.int64)


def test_an_object_array_of_no_rows():
    assert_same(checked(tb.pad, np.empty(0, object)), [], np.int64, (0, 0))


# List rows


def test_tuples_lists_and_their_subclasses():
    rows = [(1, 2), [3], Pair(4, 5), ListRow([6, 7, 8]), ()]
    result = checked(tb.pad, rows)
    assert_same(result, [[1, 2, 0], [3, 0, 0], [4, 5, 0], [6, 7, 8], [0, 0, 0]], np.int64)


def test_an_outer_list_subclass_is_read_as_a_list_or_as_it_iterates():
    class Rows(list):
        pass

    assert_same(checked(tb.pad, Rows([[1], [2, 3]])), [[1, 0], [2, 3]], np.int64)


NESTED = {
    "pairs": [[[1, 2], [3, 4]], [[5, 6]]],
    "pairs_and_empty": [[], [[1, 2]], [], [[3, 4], [5, 6]]],
    "tuples": [((1, 2), [3, 4]), [(5, 6)]],
    "empty_items": [[[]], [[], []]],
    "three_deep": [[[[1], [2]]], [[[3], [4]], [[5], [6]]]],
    "floats": [[[0.5, 1.5]], [[2.5, 3], [True, 4.5]]],
    "bools": [[[True, False]], [[False, False], [True, True]]],
}


@pytest.mark.parametrize("case", NESTED)
@pytest.mark.parametrize("side", ["right", "left"])
def test_nested_lists(case, side):
    rows = NESTED[case]
    dtype = {"floats": np.float32, "bools": bool}.get(case, np.int64)
    trailing = reference.trailing_shape(rows)
    expected = reference.pad(rows, padding_side=side, width=3)
    result = checked(tb.pad, rows, padding_side=side, width=3)
    assert_same(result, expected, dtype, (len(rows), 3, *trailing))
    expected = reference.pad(rows, max_length=1, padding_value=1)
    assert_same(
        checked(tb.pad, rows, max_length=1, padding_value=1),
        expected,
        dtype,
        (len(rows), 1, *trailing),
    )


def test_many_nested_rows():
    rows = [[[i, j, i * j] for j in range(i % 7)] for i in range(50)]
    assert_same(checked(tb.pad, rows), reference.pad(rows, trailing=(3,)), np.int64)


def test_nested_lists_beside_arrays():
    rows = [[[1, 2], [3, 4]], np.array([[5, 6]], np.int16), [], np.zeros((0, 2), np.int16)]
    expected = reference.pad([[[1, 2], [3, 4]], [[5, 6]], [], []])
    assert_same(checked(tb.pad, rows), expected, np.int16)


def test_empty_lists_take_the_trailing_shape_of_arrays():
    filterbank = arrays.sample(np.float32, (3, 80))
    for rows in ([[], filterbank], [filterbank, ()], [np.zeros((0, 80), np.float32), filterbank]):
        values = [row if len(row) else [] for row in rows]
        expected = reference.pad([np.asarray(v).tolist() for v in values], trailing=(80,))
        assert_same(checked(tb.pad, rows), expected, np.float32, (2, 3, 80))


def test_arrays_of_no_items_keep_their_trailing_shape():
    rows = [np.zeros((0, 80), np.float32)] * 2
    assert_same(checked(tb.pad, rows), [[], []], np.float32, (2, 0, 80))
    result = checked(tb.pad, rows, width=1, padding_value=2)
    assert_same(result, [[[2] * 80]] * 2, np.float32)
    assert_same(checked(tb.pad, [[], rows[0]]), [[], []], np.float32, (2, 0, 80))


def test_the_deepest_nesting_that_numpy_holds():
    row = [1]
    for _ in range(62):
        row = [row]
    result = checked(tb.pad, [row])
    assert result.shape == (1,) * 64
    assert result.ravel().tolist() == [1]


# Buffers


@pytest.mark.parametrize("code", "bBhHiIlLqQfd")
def test_array_array_rows(code):
    rows = [array.array(code, [1, 2, 3]), array.array(code), array.array(code, [4])]
    assert_same(checked(tb.pad, rows), [[1, 2, 3], [0, 0, 0], [4, 0, 0]], np.dtype(code))
    assert_same(
        checked(tb.pad, [memoryview(row) for row in rows]),
        [[1, 2, 3], [0, 0, 0], [4, 0, 0]],
        np.dtype(code),
    )


def test_bytes_rows_are_uint8():
    rows = [b"\x00\xff", bytearray(b"\x01"), memoryview(b"abc"), b"", bytearray()]
    expected = reference.pad([list(row) for row in rows], padding_value=255)
    assert_same(checked(tb.pad, rows, padding_value=255), expected, np.uint8)
    result = checked(tb.pad, [b"ab", np.array([1], np.uint8), [3, 255]])
    assert_same(result, [[97, 98], [1, 0], [3, 255]], np.uint8)


def test_memoryviews_of_every_shape():
    numbers = memoryview(array.array("i", range(12)))
    assert_same(
        checked(tb.pad, [numbers[::3], numbers[5:2:-1]]), [[0, 3, 6, 9], [5, 4, 3, 0]], np.int32
    )
    grid = numbers.cast("B").cast("i", (6, 2))
    expected = reference.pad([grid.tolist(), []])
    assert_same(checked(tb.pad, [grid, []]), expected, np.int32)


def test_ctypes_rows():
    rows = [(ctypes.c_int16 * 3)(1, -2, 3), (ctypes.c_int16 * 1)(4)]
    assert_same(checked(tb.pad, rows), [[1, -2, 3], [4, 0, 0]], np.int16)


def test_buffers_are_released_again():
    row = bytearray(b"abc")
    checked(tb.pad, [row])
    row.extend(b"d")  # a BufferError while anything still exports it
    with pytest.raises((TypeError, ValueError)):
        checked(tb.pad, [row, "no row"])
    row.extend(b"e")
    assert row == b"abcde"


def test_memory_mapped_rows(tmp_path):
    path = tmp_path / "ids.bin"
    np.arange(6, dtype=np.int32).tofile(path)
    row = np.memmap(path, np.int32, "r")
    assert_same(checked(tb.pad, [row, row[:2]]), [[0, 1, 2, 3, 4, 5], [0, 1, 0, 0, 0, 0]], np.int32)


# Objects that NumPy understands


def test_objects_with_array_method():
    rows = [AsArray(np.array([1, 2], np.int16)), AsArray(np.arange(6, dtype=np.int16)[::2])]
    assert_same(checked(tb.pad, rows), [[1, 2, 0], [0, 2, 4]], np.int16)


def test_pandas_series_rows():
    pandas = pytest.importorskip("pandas")
    rows = [pandas.Series([1, 2], dtype="int32"), pandas.Series([3], index=[9], dtype="int32")]
    assert_same(checked(tb.pad, rows), [[1, 2], [3, 0]], np.int32)


def test_a_pandas_column_of_rows():
    pandas = pytest.importorskip("pandas")
    column = pandas.DataFrame({"ids": [[1, 2], [3]]})["ids"]
    assert_same(checked(tb.pad, column), [[1, 2], [3, 0]], np.int64)


# Items


def test_hostile_07_numpy_scalars_are_items():
    rows = [[np.int8(1), np.uint64(2**63 - 1)], [np.int64(-3), 4]]
    assert_same(checked(tb.pad, rows), [[1, 2**63 - 1], [-3, 4]], np.int64)
    rows = [[np.bool_(True), False], [np.bool_(False)]]
    assert_same(checked(tb.pad, rows), [[True, False], [False, False]], bool)
    rows = [[np.float32(0.5), np.float64(0.25)], [np.float16(2), 1]]
    assert_same(checked(tb.pad, rows), [[0.5, 0.25], [2, 1]], np.float32)
    rows = [[np.bool_(True), 5]]
    assert_same(checked(tb.pad, rows), [[1, 5]], np.int64)


def test_hostile_07_zero_dimensional_arrays_are_items():
    rows = [[np.array(1), np.array(2, np.uint8)], [3]]
    assert_same(checked(tb.pad, rows), [[1, 2], [3, 0]], np.int64)
    rows = [[np.array(1.5)], [2, 3]]
    assert_same(checked(tb.pad, rows), [[1.5, 0], [2, 3]], np.float32)


def test_hostile_07_zero_dimensional_tensors_are_items():
    torch = pytest.importorskip("torch")
    rows = [[torch.tensor(1), torch.tensor(2, dtype=torch.uint8)], [3]]
    assert_same(checked(tb.pad, rows), [[1, 2], [3, 0]], np.int64)
    rows = [list(torch.tensor([7, 8])), [9]]
    assert_same(checked(tb.pad, rows), [[7, 8], [9, 0]], np.int64)


@pytest.mark.parametrize("scalar", [np.float32(1), np.float64(1), np.float16(1), 1.0], ids=repr)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_hostile_07_float_scalars_are_refused_for_integers(scalar, dtype):
    with fails(TypeError, "pad()", "row 1", "column 1"):
        checked(tb.pad, [[1], [0, scalar]], dtype=dtype)


def test_objects_with_index_are_items():
    class Index:
        def __index__(self):
            return 2**40

    assert_same(checked(tb.pad, [[Index(), 1], [2]]), [[2**40, 1], [2, 0]], np.int64)
    assert_same(checked(tb.pad, [[1, 2], [Index()]]), [[1, 2], [2**40, 0]], np.int64)


def test_hostile_02_int_subclasses_are_their_own_value():
    class Liar(int):
        def __index__(self):
            raise AssertionError("called")

        __int__ = __float__ = __len__ = __bool__ = __index__

    rows = [[Liar(5), 1], [Liar(2**62)], [Liar(-1)]]
    assert_same(checked(tb.pad, rows), [[5, 1], [2**62, 0], [-1, 0]], np.int64)
    assert_same(checked(tb.pad, rows[::2], dtype=np.float32), [[5, 1], [-1, 0]], np.float32)
    with fails(OverflowError, "pad()", "row 0", "column 0"):
        checked(tb.pad, [[Liar(2**63)]])


def test_enum_members_are_their_value():
    import enum

    class Token(enum.IntEnum):
        CLS = 101

    assert_same(checked(tb.pad, [[Token.CLS, 7]]), [[101, 7]], np.int64)


def test_float_subclasses_are_their_own_value():
    class Liar(float):
        def __float__(self):
            raise AssertionError("called")

        __int__ = __index__ = __bool__ = __float__

    assert_same(checked(tb.pad, [[Liar(0.5)], [1, Liar(2)]]), [[0.5, 0], [1, 2]], np.float32)


# Kinds mixed


def test_every_kind_of_integer_row_together():
    rows = [
        [1, 2],
        (3,),
        np.array([4, 5, 6], np.int32),
        array.array("i", [7]),
        memoryview(array.array("i", [8, 9])),
        np.array([10, 11, 12, 13], ">i4")[::2],
        AsArray(np.array([14], np.int32)),
        [],
    ]
    values = [[1, 2], [3], [4, 5, 6], [7], [8, 9], [10, 12], [14], []]
    assert_same(checked(tb.pad, rows), reference.pad(values), np.int32)
    assert_same(checked(tb.pad, rows[::-1]), reference.pad(values[::-1]), np.int32)


def test_rows_of_as_many_dimensions_as_a_batch_can_have():
    """NumPy has 64, and one is the batch's."""
    assert tb.pad([np.ones((1,) * 63)]).shape == (1,) * 64
    with fails(ValueError, "pad()", "row 1", "has 64 dimensions", "expected at most 63"):
        tb.pad([[], np.ones((1,) * 64)])
