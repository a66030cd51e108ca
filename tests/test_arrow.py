"""Ragged over Arrow data of pyarrow, polars and nanoarrow, and back: the same rows, not copied."""

import gc
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrays
import tightbatch as tb
from checks import fails, result_or_error

pa = pytest.importorskip("pyarrow")
pl = pytest.importorskip("polars")
na = pytest.importorskip("nanoarrow")

NUMBERS = {
    np.dtype(name): getattr(pa, arrow)()
    for name, arrow in [
        *[(name, name) for name in "int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()],
        ("float16", "float16"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("bool", "bool_"),
    ]
}
FORMS = ["list", "large_list", "list_view", "large_list_view", "fixed"]
ROWS = [[1, 2], [], [3, 4, 5], [6]]
from_arrow = tb.Ragged.from_arrow


def list_type(form, inner, size=3):
    makers = {"fixed": lambda item: pa.list_(item, size), "list": pa.list_}
    return makers.get(form, getattr(pa, form, None))(inner)


def address(array):
    """Where the values buffer of a pyarrow list array starts."""
    while not isinstance(array, pa.NumericArray | pa.BooleanArray):
        array = array.values
    return array.buffers()[1].address + array.offset * array.type.bit_width // 8


@st.composite
def list_arrays(draw, nulls=False, forms=FORMS):
    """(array, its rows as arrays): any type, cut out of a longer one."""
    form, dtype = draw(st.sampled_from(forms)), draw(st.sampled_from(list(NUMBERS)))
    pair = draw(st.sampled_from([None, None, 1, 2]))  # positions that are lists of this size
    size = draw(st.integers(0, 4))
    counts = draw(st.lists(st.integers(0, 5), max_size=8))
    if form == "fixed":
        counts = [size] * len(counts)
    trailing = () if pair is None else (pair,)
    rows = arrays.batch(dtype, counts, trailing, draw(st.integers(0, 9)))
    inner = NUMBERS[dtype] if pair is None else pa.list_(NUMBERS[dtype], pair)
    array = pa.array([row.tolist() for row in rows], list_type(form, inner, size))
    begin = draw(st.integers(0, len(rows)))
    end = draw(st.integers(begin, len(rows)))
    return array[begin:end], rows[begin:end], dtype, trailing


def assert_holds(ragged, rows, dtype, trailing=()):
    assert (ragged.dtype, ragged.trailing, len(ragged)) == (dtype, trailing, len(rows))
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    for one, row in zip(ragged, rows, strict=True):
        np.testing.assert_array_equal(one, row)


# --- in --------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(made=list_arrays(), cuts=st.lists(st.integers(0, 8), max_size=3))
def test_lists_of_every_type_cut_anywhere(made, cuts):
    array, rows, dtype, trailing = made
    assert_holds(from_arrow(array), rows, dtype, trailing)
    cuts = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    chunks = [array[a:b] for a, b in pairwise(cuts)]
    chunked = pa.chunked_array(chunks, array.type)
    assert_holds(from_arrow(chunked), rows, dtype, trailing)
    table = pa.table({"other": pa.array(["x"] * len(rows), pa.string()), "tokens": chunked})
    assert_holds(from_arrow(table, column="tokens"), rows, dtype, trailing)
    assert_holds(from_arrow(table.slice(1), column="tokens"), rows[1:], dtype, trailing)
    batch = pa.record_batch({"tokens": array})
    assert_holds(from_arrow(batch), rows, dtype, trailing)
    assert_holds(from_arrow(batch.slice(1, 2)), rows[1:3], dtype, trailing)
    expected = tb.pad([np.array(row, dtype) for row in rows]) if rows else None
    for source in (array, chunked):
        assert tb.lengths(source).tolist() == [len(row) for row in rows]
        padded = tb.pad(source)
        if rows:
            assert padded.dtype == dtype
            np.testing.assert_array_equal(padded, expected)
        assert len(padded) == len(rows)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", list(NUMBERS), ids=str)
def test_values_lie_where_arrow_has_them(form, dtype):
    rows = [[dtype.type(x).item() for x in row] for row in ([1, 0, 1], [0, 1, 1])]
    array = pa.array(rows, list_type(form, NUMBERS[dtype]))
    ragged = from_arrow(array)
    assert ragged.tolist() == rows
    assert (ragged[0].ctypes.data == address(array)) == (dtype.kind != "b")
    assert ragged.values.flags.writeable == (dtype.kind == "b")  # Arrow's memory is its own
    one = from_arrow(array[1:])[0]
    size = dtype.itemsize
    assert (one.ctypes.data == address(array) + 3 * size) == (dtype.kind != "b")
    with pytest.raises(ValueError, match="read-only"):
        from_arrow(pa.array([[1]]))[0][0] = 2


def test_a_view_keeps_arrow_memory_alive():
    before = pa.total_allocated_bytes()
    array = pa.array(np.arange(1_000_000).reshape(-1, 10).tolist())
    row = from_arrow(pa.chunked_array([array, array[:5]]))[77]
    del array
    gc.collect()
    junk = [np.full(10_000, 7) for _ in range(200)]
    assert row.tolist() == list(range(770, 780))
    assert pa.total_allocated_bytes() - before >= 8_000_000
    del row, junk
    gc.collect()
    assert pa.total_allocated_bytes() == before


def test_views_may_lie_in_any_order_and_overlap():
    for maker, offset in ((pa.ListViewArray, pa.int32()), (pa.LargeListViewArray, pa.int64())):
        starts = pa.array([4, 0, 1, 6, 2], offset)
        sizes = pa.array([2, 3, 4, 0, 1], offset)
        array = maker.from_arrays(starts, sizes, pa.array(range(6), pa.int16()))
        rows = [[4, 5], [0, 1, 2], [1, 2, 3, 4], [], [2]]
        assert array.to_pylist() == rows
        assert from_arrow(array).tolist() == rows
        assert from_arrow(array[1:4]).tolist() == rows[1:4]


def test_fixed_size_lists_nested_and_empty():
    deep = pa.list_(pa.list_(pa.list_(pa.float32(), 2), 3))
    rows = arrays.batch("float32", [2, 0, 1], (3, 2))
    ragged = from_arrow(pa.array([row.tolist() for row in rows], deep))
    assert_holds(ragged, rows, np.float32, (3, 2))
    assert_holds(
        from_arrow(pa.array([row.tolist() for row in rows], deep)[1:]), rows[1:], "f4", (3, 2)
    )
    nothing = pa.array([[], [], []], pa.list_(pa.int8(), 0))
    assert_holds(from_arrow(nothing), [[], [], []], np.int8)
    empty = pa.array([[[], []], [[]]], pa.list_(pa.list_(pa.int8(), 0)))
    assert_holds(from_arrow(empty), [np.zeros((2, 0)), np.zeros((1, 0))], np.int8, (0,))


@pytest.mark.parametrize("dtype", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_bytes_are_rows_of_uint8(dtype):
    rows = [b"tight", b"", b"a batch that is longer than a view", b"\0\xff"]
    array = pa.array(rows, dtype)
    for begin, end in ((0, 4), (1, 3), (2, 4), (4, 4)):
        ragged = from_arrow(array[begin:end])
        assert ragged.dtype == np.uint8
        assert [row.tobytes() for row in ragged] == rows[begin:end]
    assert tb.pad(array[3:]).tolist() == [[0, 255]]
    if dtype != pa.binary_view():
        assert from_arrow(array)[0].ctypes.data == array.buffers()[2].address


def test_polars():
    for dtype in (pl.Int8, pl.UInt64, pl.Float32, pl.Float64, pl.Boolean):
        one, zero = (True, False) if dtype == pl.Boolean else (1, 0)
        rows = [[one, zero], [], [one]]
        series = pl.Series("tokens", rows, pl.List(dtype))
        longer = pl.concat([series, series[1:]], rechunk=False)
        assert from_arrow(series).tolist() == rows
        assert from_arrow(longer).tolist() == rows + rows[1:]
        frame = pl.DataFrame({"tokens": longer, "name": list("abcde")})
        assert from_arrow(frame, column="tokens").tolist() == rows + rows[1:]
        assert from_arrow(frame[2:4], column="tokens").tolist() == [[1], []]
        assert tb.pad(longer, padding_value=0)[2:].tolist() == [[1, 0], [0, 0], [1, 0]]
    fixed = pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int16, 2))
    assert from_arrow(fixed).tolist() == [[1, 2], [3, 4]]
    nested = pl.Series([[[1, 2], [3, 4]], [[5, 6]]], dtype=pl.List(pl.Array(pl.Int16, 2)))
    assert from_arrow(nested).tolist() == [[[1, 2], [3, 4]], [[5, 6]]]
    assert from_arrow(pl.Series([b"ab", b"c"])).tolist() == [[97, 98], [99]]


def test_nanoarrow():
    array = pa.array(ROWS, pa.list_(pa.int32()))
    assert from_arrow(na.Array(array)).tolist() == ROWS
    assert from_arrow(na.c_array(array)).tolist() == ROWS
    assert from_arrow(na.c_array(array[1:3])).tolist() == ROWS[1:3]
    chunked = pa.chunked_array([array, array[2:]])
    assert from_arrow(na.ArrayStream(chunked)).tolist() == ROWS + ROWS[2:]
    stream = na.c_array_stream(pa.table({"tokens": chunked}))
    assert from_arrow(stream, column="tokens").tolist() == ROWS + ROWS[2:]
    with pytest.raises((ValueError, RuntimeError), match="release"):
        from_arrow(stream, column="tokens")


def test_a_reader_is_read_to_its_end():
    batches = [pa.record_batch({"x": pa.array(ROWS[i : i + 2])}) for i in (0, 2)]
    reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    assert from_arrow(reader).tolist() == ROWS
    assert len(from_arrow(pa.RecordBatchReader.from_batches(batches[0].schema, []))) == 0


# --- nulls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_nulls_are_refused_by_place_and_filled_when_asked(form):
    array = pa.array([[1, 2, 3], [4, None, 6], None, [7, 8, None]], list_type(form, pa.int16()))
    for source, base in ((array, 0), (array[1:], 1), (pa.chunked_array([array[:1], array[1:]]), 0)):
        with fails(ValueError, "Ragged.from_arrow()", f"row {2 - base}", "null", "fill_null="):
            from_arrow(source)
        filled = from_arrow(source, fill_null=-9)
        assert filled.tolist() == [[1, 2, 3], [4, -9, 6], [], [7, 8, -9]][base:]
    with fails(ValueError, "Ragged.from_arrow()", "row 1", "column 1", "null"):
        from_arrow(array[:2])
    with fails(ValueError, "Ragged.from_arrow()", "row 0", "column 2", "null"):
        from_arrow(array[3:])
    for function in (tb.pad, tb.lengths):
        with fails(ValueError, f"{function.__name__}()", "row 2", "null"):
            function(array)
    with fails(ValueError, "key 'x'", "row 2", "null"):
        from_arrow(pa.table({"x": array}), column="x")


@pytest.mark.parametrize("form", FORMS)
def test_nulls_that_no_row_holds_are_no_error(form):
    array = pa.array([[None, 1], [2, 3], [None, None], None], list_type(form, pa.float32(), 2))
    part = array[1:2]
    assert from_arrow(part).tolist() == [[2.0, 3.0]]
    assert tb.pad(part).tolist() == [[2.0, 3.0]]
    assert part.null_count == 0


def test_a_null_row_that_lies_over_values_is_empty():
    mask = pa.array([False, True, False])
    array = pa.ListArray.from_arrays([0, 2, 4, 5], pa.array([1, 2, None, 4, 5]), mask=mask)
    assert from_arrow(array, fill_null=0).tolist() == [[1, 2], [], [5]]
    assert from_arrow(array[2:]).tolist() == [[5]]


def test_null_positions_and_null_elements_of_nested_lists():
    kind = pa.list_(pa.list_(pa.int64(), 2))
    array = pa.array([[[1, 2]], [[3, 4], None], [[5, None]]], kind)
    with fails(ValueError, "row 1", "column 1", "null"):
        from_arrow(array)
    with fails(ValueError, "row 0", "column 0", "null"):
        from_arrow(array[2:])
    assert from_arrow(array, fill_null=7).tolist() == [[[1, 2]], [[3, 4], [7, 7]], [[5, 7]]]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(0, 1)), max_size=11)),
        max_size=20,
    ),
    form=st.sampled_from(FORMS[:4]),
    dtype=st.sampled_from(list(NUMBERS)),
    begin=st.integers(0, 20),
)
def test_nulls_anywhere(rows, form, dtype, begin):
    array = pa.array(
        [row and [None if x is None else dtype.type(x).item() for x in row] for row in rows],
        list_type(form, NUMBERS[dtype]),
    )[begin:]
    rows = array.to_pylist()
    filled = from_arrow(array, fill_null=1)
    assert filled.tolist() == [[1 if x is None else x for x in row or []] for row in rows]
    ragged, error = result_or_error(ValueError, from_arrow, array)
    assert (error is None) == all(row is not None and None not in row for row in rows)
    if error is None:
        assert ragged.tolist() == rows


@pytest.mark.parametrize(
    ("dtype", "value"), [("int8", 128), ("uint8", -1), ("int64", 0.5), ("bool", 2)]
)
def test_a_fill_that_the_type_cannot_hold_is_refused(dtype, value):
    array = pa.array([[None]], pa.list_(NUMBERS[np.dtype(dtype)]))
    with fails((TypeError, ValueError, OverflowError), "fill_null", dtype):
        from_arrow(array, fill_null=value)


@pytest.mark.parametrize("value", ["junk", [1], b"1", np.arange(2)], ids=repr)
def test_a_fill_that_is_no_number_is_refused_where_nothing_is_null_too(value):
    table = pa.table({"ids": [[1, 2], [3]], "text": ["a", "b"]})
    with fails(TypeError, "Ragged.from_arrow()", "fill_null", "expected a number"):
        tb.Ragged.from_arrow(table, column="ids", fill_null=value)
    for columns in (None, ["text"]):
        with fails(TypeError, "RaggedDataset.from_arrow()", "fill_null", "expected a number"):
            tb.RaggedDataset.from_arrow(table, columns=columns, fill_null=value)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (pa.array(["a"]), ["text"]),
        (pa.array([1, 2]), ["numbers"]),
        (pa.array([["a"]]), ["values that are not numbers"]),
        (pa.array([[{"x": 1}]]), ["values that are not numbers"]),
        (pa.array([[[1], [2, 3]]]), ["lists of lists of different lengths"]),
        (pa.array([None]), ["nulls"]),
        (pa.array([[None]]), ["values that are not numbers"]),
        (pa.array([1], pa.timestamp("s")), ["dates"]),
        (pa.array([[1]], pa.list_(pa.date32())), ["values that are not numbers"]),
        (pa.array([1], pa.decimal128(5, 2)), ["decimals"]),
        (pa.array(["a"]).dictionary_encode(), ["dictionary-encoded"]),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32())), ["numbers"]),
        (pa.array([1]).value_counts(), ["column="]),
        (pa.RunEndEncodedArray.from_arrays([1], [1]), ["not numbers, text or lists"]),
        (pa.array([b"abc"], pa.binary(3)), ["not numbers, text or lists"]),
    ],
    ids=lambda value: str(getattr(value, "type", "")) or None,
)
def test_other_types_are_named(array, words):
    with fails((TypeError, ValueError), "Ragged.from_arrow()", *words):
        from_arrow(array)
    table = pa.table({"odd": array})
    with pytest.raises(TypeError, match="'odd'"):
        from_arrow(table)
    with pytest.raises(TypeError, match="'odd'"):
        from_arrow(table, column="odd")


def test_columns_are_chosen_by_name():
    table = pa.table({"a": [[1]], "b": [[2]], "ñ": [[3]]})
    assert from_arrow(table, column="ñ").tolist() == [[3]]
    with fails(KeyError, "Ragged.from_arrow()", "'c'"):
        from_arrow(table, column="c")
    with fails(ValueError, "columns 'a', 'b', 'ñ'", "column="):
        from_arrow(table)
    with pytest.raises((KeyError, ValueError), match="a"):
        from_arrow(pa.array([[1]]), column="a")
    doubled = pa.Table.from_arrays([pa.array([[1]]), pa.array([[2]])], ["a", "a"])
    with pytest.raises(ValueError, match="'a'"):
        from_arrow(doubled, column="a")
    for source in (None, 5, [[1]], np.arange(3), pa.table, pa.int32()):
        with fails(TypeError, "Ragged.from_arrow()"):
            from_arrow(source)


# --- out -------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    counts=st.lists(st.integers(0, 6), max_size=7),
    dtype=st.sampled_from(list(NUMBERS)),
    trailing=st.sampled_from([(), (2,), (0,), (3, 1)]),
    data=st.data(),
)
def test_there_and_back(counts, dtype, trailing, data):
    rows = arrays.batch(dtype, counts, trailing)
    whole = tb.Ragged.concatenate(
        [tb.Ragged.from_sequences([np.ones((1, *trailing), dtype), *rows])[1:]]
    )
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)) if rows else []
    parts = [(whole, rows), (whole[chosen], [rows[i] for i in chosen])]
    twice = tb.Ragged.concatenate([whole, whole[::-1]])
    for ragged, expected in [*parts, (twice, rows + rows[::-1])]:
        array = pa.array(ragged)
        array.validate(full=True)
        assert pa.types.is_large_list(array.type)
        assert len(array) == len(expected)
        if dtype.kind != "f":
            assert array.to_pylist() == [row.tolist() for row in expected]
        assert_holds(from_arrow(array), expected, dtype, trailing)
        assert ragged.to_arrow().type == array.type == pa.field(_Schema(ragged)).type


class _Schema:
    """Offers a type and nothing else."""

    def __init__(self, ragged):
        self.__arrow_c_schema__ = ragged.__arrow_c_schema__


def test_exported_values_are_not_copied():
    ragged = tb.Ragged.from_sequences([np.arange(1000), np.arange(5)])
    array = pa.array(ragged)
    assert array.values.buffers()[1].address == ragged.values.ctypes.data
    assert array[1:][0].as_py() == [0, 1, 2, 3, 4]
    assert pa.array(ragged[1:]).values.buffers()[1].address == ragged[1].ctypes.data
    assert from_arrow(array)[0].ctypes.data == ragged.values.ctypes.data


def test_a_child_moved_away_keeps_the_values_alive():
    values = np.arange(1000)
    count = sys.getrefcount(values)
    array = pa.array(tb.Ragged(values, [0, 400, 1000]))
    child = array.values
    del array
    gc.collect()
    during, moved = sys.getrefcount(values), child[997:].to_pylist()
    del child
    gc.collect()
    after = sys.getrefcount(values)
    assert moved == [997, 998, 999]
    assert (during > count, after) == (True, count)
    parts = na.c_array(tb.Ragged(values, [0, 400, 1000]))
    child = parts.child(0)
    del parts
    gc.collect()
    assert from_arrow(pa.array([[1]])).tolist() == [[1]]
    assert list(na.Array(child).iter_py())[-1] == 999


def test_others_take_it():
    ragged = tb.Ragged.from_sequences(ROWS)
    series = pl.Series(ragged)
    assert series.to_list() == ROWS
    assert from_arrow(series).tolist() == ROWS
    assert pl.Series(ragged[[2, 0]]).to_list() == [ROWS[2], ROWS[0]]
    bools = tb.Ragged(np.arange(20) % 3 == 0, [0, 9, 9, 20])[1:]
    assert pl.Series(bools).to_list() == bools.tolist()
    assert list(na.Array(bools).iter_py()) == bools.tolist()
    assert list(na.Array(ragged).iter_py()) == ROWS
    deep = tb.Ragged(np.arange(12, dtype=np.int16).reshape(3, 2, 2), [0, 1, 3])
    assert list(na.Array(deep).iter_py()) == deep.tolist()
    assert pl.Series(deep).to_list() == deep.tolist()
    schema = na.Schema(_Schema(ragged))
    assert (schema.type, schema.value_type.type) == (na.Type.LARGE_LIST, na.Type.INT64)


@pytest.mark.parametrize("dtype", ["longdouble", *map(str, arrays.ML_DTYPES[:2])])
def test_types_that_arrow_lacks_are_not_exported(dtype):
    known = {str(item): item for item in [*arrays.DTYPES, *arrays.ML_DTYPES]}
    ragged = tb.Ragged(np.ones(2, known.get(dtype, dtype)), [0, 2])
    with fails(TypeError, "Ragged", "Arrow"):
        ragged.to_arrow()
    with fails(TypeError, "Ragged", "Arrow"):
        ragged.__arrow_c_schema__()


def test_five_million_rows():
    counts = np.random.default_rng(0).integers(0, 4, 5_000_000)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = np.arange(offsets[-1], dtype=np.int32)
    table = pa.table({"tokens": pa.ListArray.from_arrays(offsets, values)})
    column = table["tokens"]
    chunked = pa.chunked_array([*column.chunks, column.chunk(0)[4_999_990:]])
    for found in (tb.lengths(table, "tokens"), tb.lengths(column), tb.lengths(chunked)[:-10]):
        assert found.dtype == np.int64
        assert np.array_equal(found, counts)
    assert tb.lengths(chunked)[-10:].tolist() == counts[-10:].tolist()
    ragged = from_arrow(chunked)
    assert ragged[4_999_999].tolist() == values[offsets[-2] :].tolist() == ragged[-1].tolist()


def bool8(values, storage=None):
    """One byte a bool, of which every one but 0 is true."""
    return pa.ExtensionArray.from_storage(pa.bool8(), pa.array(values, storage or pa.int8()))


@pytest.mark.skipif(not hasattr(pa, "bool8"), reason="this pyarrow has no such type")
def test_the_extension_type_bool8_is_read_as_bool():
    values = bool8([0, 1, -1, 5, 0, 127])
    numbers = tb.RaggedDataset.from_arrow(pa.table({"x": values}))["x"]
    assert (numbers.dtype, numbers.tolist()) == (np.bool_, [False, True, True, True, False, True])
    assert numbers.view(np.uint8).max() == 1
    for form in (pa.ListArray, pa.LargeListArray):
        rows = form.from_arrays([0, 2, 2, 6], values)
        ragged = from_arrow(rows[1:])
        assert ragged.dtype == np.bool_
        assert ragged.tolist() == [[], [True, True, False, True]]
        assert tb.pad(rows).tolist() == tb.pad(from_arrow(rows)).tolist()
    gaps = bool8([0, None, 2])
    with fails(ValueError, "key 'x'", "row 1", "null"):
        tb.RaggedDataset.from_arrow(pa.table({"x": gaps}))
    filled = tb.RaggedDataset.from_arrow(pa.table({"x": gaps}), fill_null=True)["x"]
    assert filled.tolist() == [False, True, True]
    # Storage of an unknown extension type stays what it is.
    field = pa.field("x", pa.int8(), metadata={"ARROW:extension:name": "mine", "a": "b"})
    table = pa.table([pa.array([0, 5], pa.int8())], schema=pa.schema([field]))
    assert tb.RaggedDataset.from_arrow(table)["x"].dtype == np.int8


def test_out_that_overlaps_arrow_memory_is_refused():
    memory = np.arange(12)
    values = pa.Array.from_buffers(pa.int64(), 6, [None, pa.py_buffer(memory)])
    rows = pa.ListArray.from_arrays([0, 2, 6], values)
    with fails(ValueError, "pad()", "row 0", "out="):
        tb.pad(rows, out=memory[:8].reshape(2, 4))
    with fails(ValueError, "pad()", "row 1", "out="):
        tb.pad(rows, out=memory[4:12].reshape(2, 4))
    apart = np.zeros((2, 4), np.int64)
    assert tb.pad(rows, out=apart) is apart
    assert apart.tolist() == [[0, 1, 0, 0], [2, 3, 4, 5]]


def test_rows_are_read_from_a_table_of_one_column():
    table = pa.table({"tokens": ROWS})
    assert tb.lengths(table).tolist() == [len(row) for row in ROWS]
    two = table.append_column("other", table["tokens"])
    with fails(ValueError, "pad()", "columns 'tokens', 'other'", "column="):
        tb.pad(two)
    with fails(TypeError, "pad()", "column 'n' holds numbers", "lists"):
        tb.pad(pa.table({"n": [1]}))
    with fails(TypeError, "pad()", "column 's' holds text", "lists"):
        tb.pad(pa.table({"s": ["a"]}))
