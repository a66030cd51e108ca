"""Ragged: rows of different lengths in one buffer, made, chosen, put together, padded, pickled."""

import copy
import gc
import html
import re
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrays
import tightbatch as tb
from checks import checked, fails, result_or_error, snapshot

OFFSETS = [0, 2, 2, 5, 6]
LENGTHS = [2, 0, 3, 1]


def six(dtype=np.int64):
    """Rows [0, 1], [], [2, 3, 4] and [5]."""
    return tb.Ragged(np.arange(6, dtype=dtype), OFFSETS)


def assert_rows(ragged, rows):
    """The rows are these, whichever way they are asked for."""
    assert len(ragged) == len(rows)
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    for found in (list(ragged), [ragged[i] for i in range(len(rows))]):
        for one, row in zip(found, rows, strict=True):
            assert type(one) is np.ndarray or isinstance(one, np.memmap)
            assert one.dtype == ragged.dtype
            assert one.shape[1:] == ragged.trailing
            np.testing.assert_array_equal(one, np.asarray(row, ragged.dtype).reshape(one.shape))


# --- the constructor -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, np.array, np.uint8, np.uint64, np.int16, ">i4"])
def test_rows_lie_between_offsets(kind):
    offsets = kind(OFFSETS) if kind in (list, tuple, np.array) else np.array(OFFSETS, kind)
    ragged = tb.Ragged(np.arange(6), offsets)
    assert_rows(ragged, [[0, 1], [], [2, 3, 4], [5]])
    assert ragged.tolist() == [[0, 1], [], [2, 3, 4], [5]]
    assert repr(ragged) == "Ragged(4 rows, 6 positions, int64)"
    assert (ragged.starts.tolist(), ragged.starts.dtype) == ([0, 2, 2, 5], np.int64)
    assert (ragged.dtype, ragged.trailing) == (np.int64, ())


def test_offsets_need_not_cover_the_values():
    ragged = tb.Ragged(np.arange(9), [3, 4, 7])
    assert_rows(ragged, [[3], [4, 5, 6]])
    np.testing.assert_array_equal(ragged.values, np.arange(9))


def test_with_lengths_rows_lie_anywhere():
    ragged = tb.Ragged(np.arange(10), [6, 0, 9, 10, 2, 4], lengths=[4, 5, 0, 0, 3, 1])
    assert_rows(ragged, [[6, 7, 8, 9], [0, 1, 2, 3, 4], [], [], [2, 3, 4], [4]])


def test_no_rows_and_no_values():
    for values in (np.zeros(0, np.int16), np.arange(3, dtype=np.int16)):
        for empty in (tb.Ragged(values, [0]), tb.Ragged(values, [], lengths=[])):
            assert (len(empty), empty.dtype, empty.tolist()) == (0, np.int16, [])
            assert empty.pad().shape == (0, 0)
            assert empty.pad(width=4).shape == (0, 4)
            assert list(empty) == []
    assert_rows(tb.Ragged(np.zeros(0), [0, 0, 0]), [[], []])


@pytest.mark.parametrize("dtype", arrays.DTYPES + arrays.ML_DTYPES, ids=str)
@pytest.mark.parametrize("trailing", [(), (3,), (2, 2)], ids=str)
def test_every_layout_and_type(dtype, trailing):
    sample = arrays.sample(dtype, (6, *trailing))
    for name, values in arrays.layouts(sample):
        before = snapshot(values)
        ragged = tb.Ragged(values, OFFSETS)
        assert (ragged.dtype, ragged.trailing) == (dtype, trailing), name
        kept = values.flags.c_contiguous and values.flags.aligned and values.dtype.isnative
        assert np.shares_memory(ragged.values, values) == kept, name
        assert type(ragged.values) is np.ndarray, name
        expected = tb.pad([np.array(values[a:b]) for a, b in pairwise(OFFSETS)])
        padded = checked(tb.pad, ragged)
        assert padded.dtype == dtype, name
        np.testing.assert_array_equal(padded, expected)
        for i, row in enumerate(ragged):
            np.testing.assert_array_equal(row, values[OFFSETS[i] : OFFSETS[i + 1]])
        assert snapshot(values) == before, name


@pytest.mark.parametrize("dtype", [np.int64, np.float32], ids=lambda dtype: dtype.__name__)
def test_empty_values_at_odd_addresses(dtype):
    for values in arrays.odd_empties(dtype):
        ragged = tb.Ragged(values, [0, 0, 0])
        assert_rows(ragged, [[], []])
        assert ragged.pad(width=2, padding_value=3).tolist() == [[3, 3], [3, 3]]


def test_values_may_be_lists_bytes_and_buffers():
    assert tb.Ragged([1.5, 2], [0, 1, 2]).tolist() == [[1.5], [2.0]]
    text = tb.Ragged(b"tight", [0, 3, 5])
    assert (text.dtype, text.tolist()) == (np.uint8, [[116, 105, 103], [104, 116]])
    numbers = memoryview(np.arange(4, dtype=np.int16))
    assert (tb.Ragged(numbers, [0, 4]).dtype, tb.Ragged(numbers, [0, 4]).tolist()) == (
        np.int16,
        [[0, 1, 2, 3]],
    )


def test_tensors():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(12, dtype=torch.int32).reshape(6, 2)
    ragged = tb.Ragged(tensor, torch.tensor(OFFSETS))
    assert_rows(ragged, [[[0, 1], [2, 3]], [], [[4, 5], [6, 7], [8, 9]], [[10, 11]]])
    assert ragged[0].ctypes.data == tensor.data_ptr()
    tensor[0, 0] = 77
    assert ragged[0][0, 0] == 77
    assert_rows(tb.Ragged(tensor.T.contiguous().T, [0, 6]), [tensor.numpy()])
    half = tb.Ragged(torch.ones(3, dtype=torch.bfloat16), [0, 1, 3])
    assert (half.dtype.name, half.pad().tolist()) == ("bfloat16", [[1, 0], [1, 1]])
    with fails(TypeError, "Ragged()", "meta"):
        tb.Ragged(torch.ones(3, device="meta"), [0, 3])
    with fails(TypeError, "Ragged()", "sparse"):
        tb.Ragged(torch.ones(3).to_sparse(), [0, 3])


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a", "b"]),
        np.array([1j, 2]),
        np.array([object()]),
        np.array([1, 2], "M8[s]"),
        np.zeros(2, [("a", "i4")]),
        np.array(3),
        None,
        {1: 2},
        [["a"]],
        np.ma.array([1, 2], mask=[0, 1]),
    ],
    ids=lambda value: str(getattr(value, "dtype", value)),
)
def test_values_that_are_no_numbers_are_refused(values):
    with pytest.raises((TypeError, ValueError), match="Ragged"):
        tb.Ragged(values, [0, 1])


@pytest.mark.parametrize(
    ("error", "offsets", "lengths", "parts"),
    [
        (ValueError, [], None, ["offsets is empty"]),
        (ValueError, [0, 3, 2, 6], None, ["row 1", "length -1", "backwards"]),
        (ValueError, [0, 3, 7], None, ["row 1", "positions 3 to 7", "6"]),
        (ValueError, [-1, 3], None, ["row 0", "positions -1 to 3"]),
        (ValueError, [7, 7], None, ["row 0", "positions 7 to 7"]),
        (ValueError, [0, 2**63 - 1], None, ["row 0"]),
        (ValueError, [-(2**63), 2**63 - 1], None, ["row 0"]),
        (ValueError, [0, -(2**63)], None, ["row 0"]),
        (ValueError, [0, 1, 2], [1, 2], ["3 offsets but 2 lengths"]),
        (ValueError, [0, 1], [1, 6], ["row 1", "positions 1 to 7"]),
        (ValueError, [0, 1], [1, -1], ["row 1", "length -1"]),
        (ValueError, [0, 2**63 - 1], [1, 2**63 - 1], ["row 1"]),
        (ValueError, [0, -(2**63)], [1, 2**63 - 1], ["row 1"]),
        (TypeError, [0.0, 6.0], None, ["offsets", "row 0", "float"]),
        (TypeError, np.array([0.0, 6.0]), None, ["offsets", "float64"]),
        (TypeError, [0, 1], [1.0, 2.0], ["lengths", "row 0", "float"]),
        (TypeError, [True, True], None, ["offsets", "bool"]),
        (TypeError, [[0, 6]], None, ["offsets", "2 dimensions"]),
        (TypeError, np.array([True, True]), None, ["offsets", "bools"]),
        (TypeError, np.ma.array([0, 6], mask=[0, 1]), None, ["offsets", "masked"]),
        (TypeError, [0], np.ma.array([6]), ["lengths", "masked"]),
        (TypeError, 6, None, ["offsets", "int"]),
        (TypeError, ["0", "6"], None, ["offsets"]),
        (TypeError, None, None, ["offsets"]),
        (OverflowError, [0, 2**63], None, ["offsets", "row 1", str(2**63), "int64"]),
        (OverflowError, [0, 2**64], None, ["offsets", "row 1", str(2**64), "int64"]),
        (OverflowError, np.array([0, 2**63], np.uint64), None, ["offsets", "int64"]),
        (OverflowError, [0], np.array([2**64 - 1], np.uint64), ["lengths", "int64"]),
    ],
    ids=str,
)
def test_offsets_are_checked(error, offsets, lengths, parts):
    with fails(error, "Ragged()", *parts):
        checked(tb.Ragged, np.arange(6), offsets, lengths=lengths)


def test_masked_numbers_are_refused():
    masked = np.ma.array([1, 2, 3], mask=[0, 1, 0])
    with fails(TypeError, "Ragged()", "masked array"):
        tb.Ragged(masked, [0, 3])
    with fails(TypeError, "Ragged()", "offsets", "row 1", "masked"):
        tb.Ragged(np.arange(3), [0, np.ma.masked])
    with fails(TypeError, "Ragged.from_sequences()", "row 1", "column 1", "masked"):
        tb.Ragged.from_sequences([[1], list(masked)])
    with fails(TypeError, "Ragged.from_sequences()", "row 0", "masked array"):
        tb.Ragged.from_sequences([masked])
    with fails(TypeError, "unpad()", "masked array"):
        tb.unpad(masked.reshape(1, 3), [2])


def test_rows_without_offsets_are_shown_the_way():
    for rows in ([[1, 2]], [[1, 2], [3]]):
        with fails(TypeError, "Ragged()", "offsets", "Ragged.from_sequences()"):
            tb.Ragged(rows)
    with fails(TypeError, "Ragged()", "offsets"):
        tb.Ragged([1, 2], lengths=[2])


def test_what_c_keeps_of_a_ragged():
    from tightbatch._core import RaggedBuffers

    ragged = six()
    assert isinstance(ragged, RaggedBuffers)
    assert not hasattr(ragged, "__dict__")
    for name in ("starts", "lengths"):
        with pytest.raises(AttributeError):
            setattr(ragged, name, np.zeros(2, np.int64))
        with pytest.raises(ValueError, match="read-only"):
            getattr(ragged, name)[0] = 1
    values, places = np.arange(6), np.arange(2)
    for chunks in ((), [values], (values, values.astype(float)), (values[::2],), (np.int64(1),)):
        with pytest.raises(TypeError):
            RaggedBuffers(chunks, places, places)
    for starts in (places.astype(np.int32), places[:1], places.reshape(1, 2), [0, 1]):
        with pytest.raises(TypeError):
            RaggedBuffers((values,), starts, places)
    with fails(RuntimeError, "found no arrays"):
        tb.pad(RaggedBuffers.__new__(RaggedBuffers))
    with fails(RuntimeError, "found no arrays"):
        len(tb.Ragged.__new__(tb.Ragged))
    with fails(IndexError, "6"):
        ragged._take(np.array([6]))
    for indices in ([0], np.array([0.0]), np.array([[0]])):
        with pytest.raises(TypeError):
            ragged._take(indices)
    # Rows that its arrays do not hold are refused where they are read.
    outside = RaggedBuffers((values,), np.array([0, 5]), np.array([2, 2]))
    with fails(RuntimeError, "row 1", "outside"):
        tb.pad(outside)


def test_a_subclass_of_ragged():
    class Named(tb.Ragged):
        def __init__(self, values, offsets, name="none"):
            super().__init__(values, offsets)
            self.name = name

    named = Named(np.arange(6), [0, 2, 6], name="mine")
    assert named.name == "mine"
    assert type(named[::-1]) is type(named[[1]]) is Named
    assert named[::-1].tolist() == [[2, 3, 4, 5], [0, 1]]
    assert tb.pad(named).tolist() == [[0, 1, 0, 0], [2, 3, 4, 5]]
    assert type(Named.from_sequences([[1]])) is Named
    assert type(Named.from_arrow(pytest.importorskip("pyarrow").array([[1]]))) is Named


def test_offsets_changed_later_change_nothing():
    offsets = np.array(OFFSETS)
    starts, lengths = np.array([0, 3]), np.array([2, 2])
    ragged, view = (
        tb.Ragged(np.arange(6), offsets),
        tb.Ragged(np.arange(6), starts, lengths=lengths),
    )
    offsets[:] = starts[:] = lengths[:] = 1 << 40
    assert ragged.tolist() == [[0, 1], [], [2, 3, 4], [5]]
    assert view.tolist() == [[0, 1], [3, 4]]
    for ragged in (view, view[:1], view[[1]]):
        for places in (ragged.starts, ragged.lengths):
            with pytest.raises(ValueError, match="read-only"):
                places[:] = 9


def test_values_are_seen_where_they_are():
    values = np.arange(6)
    ragged = tb.Ragged(values, OFFSETS)
    values[2] = 70
    assert ragged[2].tolist() == [70, 3, 4]
    ragged[2][0] = 2
    assert values[2] == 2
    values.flags.writeable = False
    assert not tb.Ragged(values, OFFSETS)[2].flags.writeable


# --- from sequences --------------------------------------------------------------------------

SEQUENCES = {
    "lists": [[1, 2, 3], [], [4]],
    "tuples": ((1, 2), (3,)),
    "floats": [[1.5], [2, 3], []],
    "bools": [[True], [False, True]],
    "arrays": [np.arange(3, dtype=np.int16), np.zeros(0, np.int16), np.ones(2, np.int16)],
    "trailing": [np.ones((2, 3), np.float32), np.zeros((0, 3), np.float32)],
    "nested": [[[1, 2], [3, 4]], [[5, 6]]],
    "mixed": [[1, 2], np.array([3], np.int64), range(3)],
    "bytes": [b"ab", bytearray(b"c")],
    "square": np.arange(6).reshape(3, 2),
    "objects": np.array([[1, 2], [3]], dtype=object),
    "none": [],
    "empty": [[], []],
    "late float": [[1, 2], [3, 4.5]],
    "ragged": tb.Ragged(np.arange(6), [4, 0], lengths=[2, 3]),
}


@pytest.mark.parametrize("dtype", [None, "float64", np.int32], ids=str)
@pytest.mark.parametrize("name", SEQUENCES)
def test_from_sequences_holds_what_pad_would(name, dtype):
    rows = SEQUENCES[name]
    expected, theirs = result_or_error(TypeError, checked, tb.pad, rows, dtype=dtype)
    ragged, ours = result_or_error(TypeError, checked, tb.Ragged.from_sequences, rows, dtype=dtype)
    if theirs is not None:
        assert str(ours) == str(theirs).replace("pad()", "Ragged.from_sequences()")
        return
    assert (ragged.dtype, ragged.trailing) == (expected.dtype, expected.shape[2:])
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert len(ragged.values) == ragged.lengths.sum()
    np.testing.assert_array_equal(ragged.pad(), expected)
    assert ragged.values.flags.owndata


def test_from_sequences_takes_generators_and_copies():
    assert tb.Ragged.from_sequences(iter([[1], [2, 3]])).tolist() == [[1], [2, 3]]
    array = np.arange(3)
    ragged = tb.Ragged.from_sequences([array])
    array[:] = 9
    assert ragged.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("error", "rows", "dtype", "parts"),
    [
        (TypeError, [[1], ["a"]], None, ["row 1", "column 0"]),
        (TypeError, [[1], 5], None, ["row 1"]),
        (OverflowError, [[1], [2, 300]], "int8", ["row 1", "column 1", "int8"]),
        (ValueError, [np.ones((1, 2)), np.ones((1, 3))], None, ["row 1"]),
        (TypeError, [np.ones(1), np.ones(1, np.int64)], None, ["row 1"]),
    ],
    ids=str,
)
def test_from_sequences_refuses_as_pad_does(error, rows, dtype, parts):
    with fails(error, "Ragged.from_sequences()", *parts):
        checked(tb.Ragged.from_sequences, rows, dtype=dtype)


# --- choosing rows ---------------------------------------------------------------------------

ROWS = [[0, 1], [], [2, 3, 4], [5]]


def test_one_row_is_a_view():
    ragged = six()
    for i in (0, 2, -1, np.int8(2), np.uint64(0), np.int64(-4)):
        row = ragged[i]
        assert row.tolist() == ROWS[i]
        assert np.shares_memory(row, ragged.values)
    assert ragged[1].shape == (0,)


@pytest.mark.parametrize("i", [4, -5, 2**62, -(2**62), 2**100, np.int64(4), np.uint64(2**63)])
def test_a_row_that_is_not_there(i):
    with fails(IndexError, "Ragged", str(int(i)), "-4 to 3"):
        six()[i]
    with pytest.raises((IndexError, OverflowError), match=r"Ragged|int64"):
        six()[[0, i]]


@settings(max_examples=200, deadline=None)
@given(
    start=st.one_of(st.none(), st.integers(-6, 6)),
    stop=st.one_of(st.none(), st.integers(-6, 6)),
    step=st.one_of(st.none(), st.integers(-4, 4).filter(bool)),
)
def test_slices_are_those_of_a_list(start, stop, step):
    ragged, cut = six(), slice(start, stop, step)
    assert_rows(ragged[cut], ROWS[cut])
    assert np.shares_memory(ragged[cut].values, ragged.values)


@settings(max_examples=200, deadline=None)
@given(
    indices=st.lists(st.integers(-4, 3), max_size=9),
    kind=st.sampled_from(["list", "tuple", "int8", "int64", "uint8", "strided", "tensor"]),
)
def test_rows_by_their_indices(indices, kind):
    ragged = six()
    if kind == "uint8":
        indices = [i % 4 for i in indices]
    given_as = indices
    if kind == "tensor":
        given_as = pytest.importorskip("torch").tensor(indices, dtype=int)
    elif kind == "strided":
        given_as = np.repeat(np.array(indices, np.int64), 3)[::3]
    elif kind == "tuple":
        given_as = tuple(indices)
    elif kind != "list":
        given_as = np.array(indices, kind)
    chosen = checked(ragged.__getitem__, given_as)
    assert_rows(chosen, [ROWS[i] for i in indices])
    assert np.shares_memory(chosen.values, ragged.values)
    assert chosen[::-1].tolist() == [ROWS[i] for i in indices][::-1]


@settings(max_examples=60, deadline=None)
@given(mask=st.lists(st.booleans(), min_size=4, max_size=4))
def test_rows_by_a_mask(mask):
    torch = pytest.importorskip("torch")
    expected = [row for row, chosen in zip(ROWS, mask, strict=True) if chosen]
    for given_as in (np.array(mask), torch.tensor(mask)):
        assert_rows(six()[given_as], expected)


@pytest.mark.parametrize(
    ("error", "index", "parts"),
    [
        (IndexError, [0, 4], ["index 4", "position 1", "4 rows"]),
        (IndexError, np.array([-5]), ["index -5", "position 0"]),
        (IndexError, np.ones(3, bool), ["mask", "(4,)"]),
        (IndexError, np.ones((4, 1), bool), ["mask", "(4,)"]),
        (TypeError, np.array([0.0]), []),
        (TypeError, [0, 1.5], []),
        (TypeError, ["a"], []),
        (TypeError, "a", []),
        (TypeError, None, []),
        (TypeError, 1.0, []),
        (TypeError, np.array([[0, 1]]), []),
        (TypeError, {0: 1}, []),
    ],
    ids=str,
)
def test_indices_that_choose_nothing(error, index, parts):
    with fails((error, ValueError) if error is TypeError else error, "Ragged", *parts):
        checked(six().__getitem__, index)


def test_a_choice_of_a_choice_keeps_one_buffer_alive():
    values = np.arange(100_000)
    before = sys.getrefcount(values)
    ragged = tb.Ragged(values, np.arange(0, 100_001, 10))
    row = ragged[5000:][::2][[1, -1]][np.array([False, True])][0]
    del ragged
    assert row.tolist() == list(range(99_980, 99_990))
    assert np.shares_memory(row, values)
    del row
    gc.collect()
    assert sys.getrefcount(values) == before


# --- equality, notebooks ---------------------------------------------------------------------


def test_equal_where_rows_are():
    ragged = six()
    assert ragged == six()
    assert ragged == six(np.float32)  # as arrays are
    assert ragged == tb.Ragged(np.arange(-3, 9), [3, 5, 5, 8, 9])
    assert ragged == tb.Ragged.concatenate([ragged[:1], ragged[1:]])
    assert ragged != ragged[::-1]
    assert ragged[:0] == ragged[4:]
    assert ragged != tb.Ragged(np.array([0, 1, 2, 3, 4, 6]), OFFSETS)
    assert ragged != tb.Ragged(np.arange(6), [0, 2, 3, 5, 6])
    assert tb.Ragged(np.ones((2, 1)), [0, 2]) != tb.Ragged(np.ones(2), [0, 2])
    nan = tb.Ragged(np.array([np.nan]), [0, 1])
    assert nan != nan
    assert (ragged == ROWS) is False
    assert ragged != "ragged"
    with pytest.raises(TypeError, match="unhashable"):
        hash(ragged)


def test_notebooks_see_the_first_rows_escaped():
    ragged = tb.Ragged.from_sequences([[i] * i for i in range(30)])
    shown = ragged._repr_html_()
    cells = re.findall(r"<td[^>]*>(.*?)</td>", shown, re.S)
    assert [cells[3 * i] for i in range(5)] == ["0", "1", "2", "3", "4"]
    assert [cells[3 * i + 1] for i in range(5)] == ["0", "1", "2", "3", "4"]
    assert cells[3 * 3 + 2] == "[3 3 3]"
    assert len(cells) == 18
    assert cells[15] == "…"
    assert "30 rows" in shown
    assert "[5 5 5 5 5]" not in shown
    assert "&#8230;" not in ragged[:5]._repr_html_()
    long = tb.Ragged.from_sequences([np.arange(100_000)])._repr_html_()
    assert len(long) < 600
    assert "..." in long
    assert tb.Ragged(np.zeros(0), [0])._repr_html_().count("<td") == 0


def test_notebooks_run_nothing_that_a_type_calls_itself():
    class Evil(np.ndarray):
        def __repr__(self):
            return "<script>"

    ragged = tb.Ragged(np.arange(3).view(Evil), [0, 3])
    with np.printoptions(formatter={"all": lambda _: "<script>&"}):
        shown = ragged._repr_html_()
    assert "<script>" not in shown
    assert html.escape("<script>&") in shown


def test_no_attribute_can_be_added_or_places_set():
    ragged = six()
    with pytest.raises(AttributeError):
        ragged.extra = 1
    with pytest.raises(AttributeError):
        ragged.starts = np.arange(4)
    assert copy.copy(ragged) == ragged
    deep = copy.deepcopy(ragged)
    assert deep == ragged
    assert not np.shares_memory(deep.values, ragged.values)
