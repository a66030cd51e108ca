"""Masks and other columns of a padding-free batch: lists of every kind, and wrong lengths."""

import numpy as np
import pytest

import tightbatch as tb
from checks import fails

IDS = [[1, 2, 3], [4], [5, 6]]
LINE = [[1, 2, 3, 4, 5, 6]]


def collate(**columns):
    samples = [
        {"input_ids": ids, **{key: column[row] for key, column in columns.items()}}
        for row, ids in enumerate(IDS)
    ]
    return tb.PaddingFreeCollator(return_tensors="np")(samples)


def ones(make):
    return [make(len(ids)) for ids in IDS]


class One:
    def __index__(self):
        return 1


ONES = {
    "ints": lambda n: [1] * n,
    "bools": lambda n: [True] * n,
    "floats": lambda n: [1.0] * n,
    "NumPy's": lambda n: list(np.ones(n, np.int8)),
    "objects": lambda n: [One()] * n,
    "ints and floats": lambda n: [1, 1.0, True][:n],
    "tuples": lambda n: (1,) * n,
    "arrays": lambda n: np.ones(n, np.int64),
    **{
        f"arrays of {name}": lambda n, name=name: np.ones(n, name)
        for name in "bool int8 uint8 int16 uint16 int32 uint32 uint64 float32 float64".split()
    },
    "arrays in steps": lambda n: np.ones(2 * n, np.int32)[::2],
    "buffers": lambda n: memoryview(np.ones(n, np.uint8)),
}


@pytest.mark.parametrize("kind", ONES)
def test_a_mask_of_ones_is_left_out(kind):
    batch = collate(attention_mask=ones(ONES[kind]))
    assert "attention_mask" not in batch
    assert batch["input_ids"].tolist() == LINE


@pytest.mark.parametrize("wrong", [0, 0.0, False, 2, -1, 0.5, 1.5, 2**60, np.int64(0), np.nan])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 2), (1, 0), (2, 1)])
def test_a_mask_with_anything_else_is_refused(wrong, row, column):
    mask = ones(ONES["ints"])
    mask[row][column] = wrong
    parts = ("PaddingFreeCollator()", "key 'attention_mask'", f"row {row}", f"column {column}")
    with fails(ValueError, *parts, "not 1"):
        collate(attention_mask=mask)
    if not isinstance(wrong, np.generic):
        arrays = [
            np.array(values, type(wrong) if row == r else int) for r, values in enumerate(mask)
        ]
        if all(array.dtype == arrays[0].dtype for array in arrays):
            with fails(ValueError, *parts):
                collate(attention_mask=arrays)


@pytest.mark.parametrize(
    "wrong", [None, "1", [1], object()], ids=["none", "text", "list", "object"]
)
def test_a_mask_of_no_numbers_is_refused(wrong):
    mask = ones(ONES["ints"])
    mask[2][1] = wrong
    with fails((TypeError, ValueError), "PaddingFreeCollator()", "key 'attention_mask'", "row 2"):
        collate(attention_mask=mask)


@pytest.mark.parametrize("name", ["float16", "longdouble"])
def test_a_mask_of_another_type_is_refused(name):
    with fails(TypeError, "'attention_mask'", "row 0", "integers", "float32 or float64"):
        collate(attention_mask=ones(lambda n: np.ones(n, name)))


@pytest.mark.parametrize("name", ["attention_mask", "labels", "token_type_ids", "anything"])
@pytest.mark.parametrize("kind", ["ints", "arrays", "tuples"])
@pytest.mark.parametrize("change", [-1, 1, 5])
@pytest.mark.parametrize("row", range(3))
def test_a_column_with_more_or_fewer_values_names_the_row(name, kind, change, row):
    column = ones(ONES[kind])
    column[row] = ONES["ints"](len(IDS[row]) + change)
    with fails(ValueError, "PaddingFreeCollator()", f"key {name!r}", f"row {row}", "'input_ids'"):
        collate(**{name: column})


def test_columns_with_more_than_one_value_a_position():
    pixels = [[[1, 2], [3, 4], [5, 6]], [[7, 8]], [[9, 10], [11, 12]]]
    batch = collate(pixels=pixels)
    assert batch["pixels"].tolist() == [[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]]
    pixels[1] = [[7, 8, 9]]
    with fails(ValueError, "PaddingFreeCollator()", "key 'pixels'", "row 1", "(3,)", "(2,)"):
        collate(pixels=[np.array(row) for row in pixels])
    with fails(ValueError, "PaddingFreeCollator()", "key 'attention_mask'"):
        collate(attention_mask=[np.ones((n, n)) for n in map(len, IDS)])


def test_more_positions_than_an_int32_counts():
    for options in ({"max_tokens": 2**31}, {"pad_to_multiple_of": 2**31}):
        collator = tb.PaddingFreeCollator(return_tensors="np", **options)
        with fails(OverflowError, "PaddingFreeCollator()", 2**31, "int32"):
            collator([{"input_ids": [1, 2]}])
