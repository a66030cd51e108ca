"""Chunks that are slices of larger arrays, with nulls before the slice and after it."""

import itertools

import numpy as np
import pytest

import tightbatch as tb
from checks import fails

pa = pytest.importorskip("pyarrow")

TYPES = {
    "list": pa.list_(pa.int64()),
    "large_list": pa.large_list(pa.int64()),
    "list_view": pa.list_view(pa.int64()),
    "fixed": pa.list_(pa.int64(), 2),
}
ROWS = [[1, 2], None, [3, 4], [5, 6], None, [7, 8], [None, 9], [10, 11]]
CUTS = [(2, 4), (2, 3), (3, 4), (5, 6), (7, 8), (2, 2), (8, 8)]
TWO_PARTS = list(itertools.product(CUTS, repeat=2))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("cuts", TWO_PARTS, ids=str)
def test_nulls_outside_a_part_are_nobodys(name, cuts):
    array = pa.array(ROWS, TYPES[name])
    parts = [array.slice(begin, end - begin) for begin, end in cuts]
    wanted = [ROWS[i] for begin, end in cuts for i in range(begin, end)]
    chunked = pa.chunked_array(parts, type=array.type)
    ragged = tb.Ragged.from_arrow(chunked)
    assert ragged.tolist() == wanted
    assert tb.Ragged.from_arrow(parts[0]).tolist() == wanted[: cuts[0][1] - cuts[0][0]]
    table = pa.table({"a": chunked})
    assert tb.lengths(table, "a").tolist() == [len(row) for row in wanted]
    dataset = tb.RaggedDataset.from_arrow(table)
    assert dataset["a"].tolist() == wanted
    for i, row in enumerate(wanted):
        assert dataset[i]["a"].tolist() == row


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("begin", range(8))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_nulls_inside_a_part_are_filled_or_refused(name, begin, count):
    array = pa.array(ROWS, TYPES[name])
    before, part = array.slice(2, 2), array.slice(begin, count)
    rows = ROWS[begin : begin + count]
    chunked = pa.chunked_array([before, part, before])
    filled = [[] if row is None else [0 if item is None else item for item in row] for row in rows]
    around = ROWS[2:4]
    ragged = tb.Ragged.from_arrow(chunked, fill_null=0)
    assert ragged.tolist() == [*around, *filled, *around]
    if filled == rows:
        assert tb.Ragged.from_arrow(chunked).tolist() == [*around, *rows, *around]
        return
    bad = next(i for i, row in enumerate(rows) if row != filled[i])
    with fails(ValueError, "Ragged.from_arrow()", f"row {bad + 2}"):
        tb.Ragged.from_arrow(chunked)


@pytest.mark.parametrize("cuts", TWO_PARTS, ids=str)
@pytest.mark.parametrize("dtype", [pa.int32(), pa.float64(), pa.bool_(), pa.string()], ids=str)
def test_columns_of_one_value_a_row(cuts, dtype):
    values = [1, None, 0, 1, None, 1, None, 1]
    if dtype == pa.string():
        values = [None if value is None else str(value) for value in values]
    if dtype == pa.bool_():
        values = [None if value is None else bool(value) for value in values]
    array = pa.array(values, dtype)
    column = pa.chunked_array([array.slice(b, e - b) for b, e in cuts], type=dtype)
    wanted = [values[i] for begin, end in cuts for i in range(begin, end)]
    dataset = tb.RaggedDataset.from_arrow(pa.table({"a": column}))
    assert list(dataset["a"]) == wanted
    for i, value in enumerate(wanted):
        assert dataset[i]["a"] == value


@pytest.mark.parametrize("name", ["list", "large_list", "fixed"])
def test_datasets_that_chose_rows_beside_nulls(name):
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset(pa.table({"a": pa.array(ROWS, TYPES[name])}))
    for chosen in ([0, 2, 3], [3, 0], [5, 7, 2], [7]):
        found = tb.RaggedDataset.from_hf(whole.select(chosen))
        assert found["a"].tolist() == [ROWS[i] for i in chosen]
    with fails(ValueError, "RaggedDataset.from_hf()", "row 1"):
        tb.RaggedDataset.from_hf(whole.select([0, 1]))
    filled = tb.RaggedDataset.from_hf(whole.select([6, 1, 0]), fill_null=-1)
    assert filled["a"].tolist() == [[-1, 9], [], [1, 2]]
    assert filled["a"].dtype == np.int64
