"""What is done with a Ragged: padding and its inverse, putting together, pickling, hostile uses."""

import mmap
import multiprocessing
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrays
import reference
import tightbatch as tb
from checks import checked, fails, result_or_error, run_python

SIDES = ["right", "left"]
lengths_of_rows = st.lists(st.integers(0, 6), max_size=7)
dtypes = st.sampled_from([*arrays.DTYPES, *arrays.ML_DTYPES])
trailings = st.sampled_from([(), (1,), (3,), (2, 2), (0,)])


@st.composite
def batches(draw):
    """(rows, the same rows in one Ragged): in one buffer or several, in order or not."""
    dtype, trailing = draw(dtypes), draw(trailings)
    rows = arrays.batch(dtype, draw(lengths_of_rows), trailing, draw(st.integers(0, 99)))
    places = draw(st.permutations(range(len(rows))))
    shuffled = [rows[place] for place in places]
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    nothing = [np.zeros((0, *trailing), dtype)]
    parts = []
    for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        part = shuffled[begin:end]
        values = np.concatenate([*nothing, *[arrays.sample(dtype, (2, *trailing))], *part])
        counts = [len(row) for row in part]
        parts.append(tb.Ragged(values, 2 + np.cumsum([0, *counts])))
    order = np.argsort(np.array(places, np.int64))
    return rows, tb.Ragged.concatenate(parts)[order]


def assert_equal(result, expected):
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(result, expected)


# --- padding ---------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(data=st.data(), batch=batches())
def test_padded_as_its_rows_are(data, batch):
    rows, ragged = batch
    options = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "width": st.integers(0, 9),
                "max_length": st.integers(0, 7),
                "padding_value": st.sampled_from([0, 1, -1, 0.5, 2.0, True, 1e300]),
                "padding_side": st.sampled_from(SIDES),
                "truncation_side": st.sampled_from(SIDES),
                "pad_to_multiple_of": st.integers(1, 5),
                "dtype": st.sampled_from(["int64", "int8", "float32", "float64", "bool", "f2"]),
                "return_mask": st.booleans(),
            },
        )
    )
    kinds = (TypeError, ValueError, OverflowError)
    rows = rows or [np.zeros((0, *ragged.trailing), ragged.dtype)] * 0
    expected, error = result_or_error(kinds, tb.pad, rows, **options)
    result, mine = result_or_error(kinds, checked, tb.pad, ragged, **options)
    if not rows:  # a list of none has no element type
        assert mine is not None or np.shape(result[0] if type(result) is tuple else result)[0] == 0
        return
    assert (type(mine), str(mine)) == (type(error), str(error))
    if error is None and options.get("return_mask"):
        assert_equal(result[1], expected[1])
        result, expected = result[0], expected[0]
    if error is None:
        assert_equal(result, expected)
        assert_equal(tb.lengths(ragged), tb.lengths(rows))


@pytest.mark.parametrize("trailing", [(), (3,)], ids=str)
def test_no_rows_keep_their_type_and_trailing_shape(trailing):
    empty = tb.Ragged(np.ones((5, *trailing), np.float16), [0])
    assert empty.pad(width=2).shape == (0, 2, *trailing)
    assert empty.pad().dtype == np.float16
    assert tb.Ragged(np.ones((0, *trailing)), [0, 0]).pad(width=2).shape == (1, 2, *trailing)


@pytest.mark.parametrize("function", ["fixed", "dynamic", "uniform"])
def test_the_other_functions_take_it(function):
    rows = [[1, 2, 3], [4], [], [5, 6]]
    ragged = tb.Ragged.from_sequences(rows)
    if function == "fixed":
        result = tb.fixed_pad_sequences(ragged, 2, -1).tolist()
        assert result == reference.fixed_pad_sequences(rows, 2, -1)
    elif function == "dynamic":
        result = tb.pad_sequences_dynamic(ragged, 7).tolist()
        assert result == reference.pad_sequences_dynamic(rows, 7)
    else:
        result = tb.uniform_length_batching(ragged, 3, 9)
        expected = reference.uniform_length_batching(rows, 3, 9)
        assert [batch.tolist() for batch in result] == expected


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_out_that_overlaps_the_values_is_refused(dtype):
    memory = np.arange(24)
    parts = [tb.Ragged(np.arange(3), [0, 3]), tb.Ragged(memory[:12], [0, 2, 6])]
    for ragged in (parts[1], parts[1][:1], tb.Ragged.concatenate(parts)):
        out = memory[4 : 4 + 4 * len(ragged)].view(dtype)[: 4 * len(ragged)].reshape(-1, 4)
        with fails(ValueError, "pad()", "out"):
            tb.pad(ragged, out=out, dtype=dtype)
    assert memory.tolist() == list(range(24))
    apart = memory[12:20].reshape(2, 4)
    assert tb.pad(parts[1], out=apart) is apart
    assert apart.tolist() == [[0, 1, 0, 0], [2, 3, 4, 5]]


# --- unpad -----------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(batch=batches(), side=st.sampled_from(SIDES), extra=st.integers(0, 3), data=st.data())
def test_unpad_is_the_inverse_of_pad(batch, side, extra, data):
    rows, ragged = batch
    width = max((len(row) for row in rows), default=0) + extra
    padded, mask = tb.pad(ragged, width=width, padding_side=side, return_mask=True)
    counts = [len(row) for row in rows]
    known = data.draw(
        st.sampled_from([counts, np.array(counts, np.int64), mask, mask.astype(int), mask * 0.5])
    )
    back = tb.unpad(padded, known, padding_side=side)
    assert (back.dtype, back.trailing) == (ragged.dtype, ragged.trailing)
    assert back.lengths.tolist() == counts
    for one, row in zip(back, rows, strict=True):
        np.testing.assert_array_equal(one, row)
    again = tb.pad(back, width=width, padding_side=side)
    assert_equal(again, padded)
    assert padded.size == 0 or np.shares_memory(back.values, padded)


def test_unpad_takes_tensors_and_any_layout():
    torch = pytest.importorskip("torch")
    rows = [[1, 2, 3], [], [4]]
    padded, mask = tb.pad(rows, return_mask=True)
    back = tb.unpad(torch.from_numpy(padded), torch.from_numpy(mask))
    assert back.tolist() == rows
    assert np.shares_memory(back.values, padded)
    assert tb.unpad(torch.from_numpy(padded), torch.tensor([3, 0, 1])).tolist() == rows
    for name, array in arrays.layouts(padded):
        if name != "zero_stride":
            assert tb.unpad(array, mask).tolist() == rows, name
    for name, strange in arrays.layouts(mask):
        if name != "zero_stride":
            assert tb.unpad(padded, strange).tolist() == rows, name
    nested = torch.nested.nested_tensor(
        [torch.tensor(row, dtype=int) for row in rows], layout=torch.jagged
    )
    assert torch.equal(nested.values(), torch.from_numpy(back.compact().values))


@pytest.mark.parametrize(
    ("error", "known", "side", "parts"),
    [
        (ValueError, [1, 4], "right", ["row 1", "length 4", "width=3"]),
        (ValueError, [1, -1], "right", ["unpad()", "-1"]),
        (ValueError, [1], "right", ["1 lengths for 2 rows"]),
        (ValueError, [1, 2, 3], "left", ["3 lengths for 2 rows"]),
        (TypeError, [1.0, 2.0], "right", ["unpad()"]),
        (TypeError, None, "right", ["unpad()"]),
        (ValueError, np.ones((2, 4), bool), "right", ["mask", "(2, 4)", "(2, 3)"]),
        (ValueError, np.array([[1, 0, 0], [1, 0, 1]]), "right", ["row 1", "right"]),
        (ValueError, np.array([[1, 0, 0], [1, 1, 0]]), "left", ["row 0", "left"]),
        (ValueError, [1, 2], "both", ["padding_side='both'"]),
        (TypeError, [1, 2], None, ["padding_side=None"]),
    ],
    ids=str,
)
def test_unpad_refuses(error, known, side, parts):
    with fails(error, "unpad()", *parts):
        checked(tb.unpad, np.ones((2, 3)), known, padding_side=side)


def test_unpad_refuses_what_is_no_batch():
    with fails(TypeError, "unpad()", "1 dimensions"):
        tb.unpad(np.ones(3), [1])
    with pytest.raises(TypeError, match="Ragged"):
        tb.unpad(np.full((1, 2), "a"), [1])


# --- put together, brought together ----------------------------------------------------------


def test_concatenating_copies_nothing():
    parts = [tb.Ragged(np.arange(3 * i, 3 * i + 3), [0, 1, 1, 3]) for i in range(200)]
    many = tb.Ragged.concatenate(iter(parts))
    assert len(many) == 600
    assert many.tolist() == [row for part in parts for row in part.tolist()]
    for i in (0, 5, 599, -600):
        assert np.shares_memory(many[i], parts[i % 600 // 3].values)
    assert many.values.tolist() == list(range(600))
    chosen = many[[599, 0, 300, 301, 302, 0]]
    assert_equal(chosen.pad(), tb.pad([many[i] for i in (599, 0, 300, 301, 302, 0)]))
    twice = tb.Ragged.concatenate([many, chosen])
    assert twice[-1].tolist() == many[0].tolist()
    compact = chosen.compact()
    assert compact == chosen
    assert len(compact.values) == chosen.lengths.sum()


def test_empty_chunks_and_empty_rows_at_their_edges():
    nothing = tb.Ragged(np.zeros(0, np.int64), [0, 0, 0])
    some = tb.Ragged(np.arange(2), [2, 0, 2], lengths=[0, 2, 0])
    for parts in ([nothing, some], [some, nothing], [nothing] * 3, [some, nothing, some]):
        rows = [row for part in parts for row in part.tolist()]
        put = tb.Ragged.concatenate(parts)
        assert put.tolist() == rows
        assert put.compact().tolist() == rows
        assert_equal(put.pad(), tb.pad([np.array(row, int) for row in rows]))
        assert pickle.loads(pickle.dumps(put)).tolist() == rows


def test_what_differs_is_not_put_together():
    part = tb.Ragged(np.arange(2), [0, 2])
    with fails(ValueError, "Ragged.concatenate()", "empty"):
        tb.Ragged.concatenate([])
    with fails(ValueError, "Ragged.concatenate()", "part 1", "int32", "int64"):
        tb.Ragged.concatenate([part, tb.Ragged(np.arange(2, dtype=np.int32), [0, 2])])
    with fails(ValueError, "Ragged.concatenate()", "part 2", "(3,)"):
        tb.Ragged.concatenate([part, part, tb.Ragged(np.ones((1, 3), int), [0, 1])])


@settings(max_examples=150, deadline=None)
@given(batch=batches())
def test_compact_is_one_buffer_of_nothing_else(batch):
    rows, ragged = batch
    compact = ragged.compact()
    assert (compact.dtype, compact.trailing) == (ragged.dtype, ragged.trailing)
    nothing = np.zeros((0, *ragged.trailing), ragged.dtype)
    assert_equal(compact.values, np.concatenate([nothing, *rows]))
    assert compact.compact() is compact
    assert compact.lengths.tolist() == [len(row) for row in rows]


def test_compact_copies_only_what_is_scattered():
    values = np.arange(10)
    ragged = tb.Ragged(values, [0, 4, 10])
    assert ragged.compact() is ragged
    for part in (ragged[:1], ragged[1:], ragged[[1]]):
        assert np.shares_memory(part.compact().values, values)
        assert len(part.compact().values) == part.lengths.sum()
    assert not np.shares_memory(ragged[::-1].compact().values, values)
    assert ragged[:0].compact().values.size == 0


# --- pickling --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_by_every_protocol(protocol, tmp_path):
    for dtype in [np.dtype(name) for name in ("int64", "float16", "bool")] + arrays.ML_DTYPES[:1]:
        rows = arrays.batch(dtype, [3, 0, 2], (2,))
        whole = tb.Ragged.from_sequences(rows)
        for ragged in (whole, whole[::-1], tb.Ragged.concatenate([whole, whole[1:]]), whole[:0]):
            back = pickle.loads(pickle.dumps(ragged, protocol))
            assert (back.dtype, back.trailing, len(back)) == (dtype, (2,), len(ragged))
            for one, row in zip(back, ragged, strict=True):
                np.testing.assert_array_equal(one, row)
    np.save(tmp_path / "values.npy", np.arange(5))
    mapped = tb.Ragged(np.load(tmp_path / "values.npy", mmap_mode="r"), [0, 2, 5])[::-1]
    back = pickle.loads(pickle.dumps(mapped, protocol))
    assert back.tolist() == [[2, 3, 4], [0, 1]]
    assert isinstance(back.values, np.memmap)


def test_a_selection_pickles_its_rows_alone():
    ragged = tb.Ragged(np.arange(100_000), np.arange(0, 100_001, 10))
    assert len(pickle.dumps(ragged)) > 800_000
    for part in (ragged[:3], ragged[[9000, 5, 5]], ragged[-3:]):
        assert len(pickle.dumps(part)) < 1200
        assert pickle.loads(pickle.dumps(part)) == part


def test_buffers_are_pickled_out_of_band():
    ragged = tb.Ragged.from_sequences([np.arange(50_000), np.arange(3)])
    buffers = []
    stream = pickle.dumps(ragged, 5, buffer_callback=buffers.append)
    assert len(stream) < 1000
    back = pickle.loads(stream, buffers=buffers)
    assert np.shares_memory(back.values, ragged.values)
    assert_equal(back.pad(), ragged.pad())


def lengths_elsewhere(ragged, queue):
    os.chdir("/")
    queue.put((type(ragged.values).__name__, ragged.values.nbytes, ragged.tolist()))


def test_memory_maps_are_mapped_again_in_a_spawned_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("values.npy", np.arange(500_000, dtype=np.int32))
    mapped = tb.Ragged(np.load("values.npy", mmap_mode="r"), [7, 499_998], lengths=[3, 2])
    assert len(pickle.dumps(mapped)) < 1000
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=lengths_elsewhere, args=(mapped, queue))
    process.start()
    answer = queue.get(timeout=100)
    process.join()
    assert answer == ("memmap", 2_000_000, [[7, 8, 9], [499_998, 499_999]])


@pytest.mark.parametrize("part", ["slice", "view", "reshape", "copy on write", "array", "chunks"])
def test_parts_of_maps_are_mapped_and_the_rest_is_copied(tmp_path, part):
    np.save(tmp_path / "values.npy", np.arange(1000))
    mapped = np.load(tmp_path / "values.npy", mmap_mode="c" if "write" in part else "r")
    if part == "copy on write":
        mapped[500] = -7
    else:
        views = {"slice": mapped[500:], "view": mapped.view("u8"), "reshape": mapped.reshape(-1, 1)}
        mapped = views.get(part, np.asarray(mapped))
    ragged = tb.Ragged(mapped, [0, 1, 500, 500])
    if part == "chunks":
        ragged = tb.Ragged.concatenate([ragged, tb.Ragged(np.arange(3), [0, 3])])
    back = pickle.loads(pickle.dumps(ragged))
    assert isinstance(back.values.base, mmap.mmap) is (part in ("slice", "view", "reshape"))
    assert back.tolist() == ragged.tolist()


def test_a_file_that_shrank_is_an_error(tmp_path):
    path = tmp_path / "values.npy"
    np.save(path, np.arange(100_000))
    stream = pickle.dumps(tb.Ragged(np.load(path, mmap_mode="r"), [0, 100_000]))
    np.save(path, np.arange(10))
    with pytest.raises(ValueError, match=r"mmap|size"):
        pickle.loads(stream)


# --- hostile ---------------------------------------------------------------------------------


def test_resized_values_are_an_error():
    run_python("""
        import numpy as np
        import tightbatch as tb
        from checks import fails

        def resized(rows, shape):
            ragged = tb.Ragged.from_sequences([np.ones((100_000, *rows))] * 3)
            ragged.values.resize(shape, refcheck=False)
            return ragged

        for ragged in (resized((), 1), resized((2,), (1, 2)), resized((2,), (300_000, 1))):
            for part in (ragged, ragged[1:], ragged[[2, 2]]):
                for use in (tb.pad, tb.lengths, tb.Ragged.from_sequences):
                    if ragged.values.ndim == 1 or len(ragged.values) == 1:
                        with fails(RuntimeError, "resized"):
                            use(part)
                    else:  # the rows are narrower now, and there
                        assert use(part) is not None
        values = np.arange(4)
        with fails(ValueError, "resize"):
            tb.Ragged(values, [0, 4]).values.resize(1, refcheck=False)
    """)


def test_a_resized_chunk_among_others_is_an_error():
    run_python("""
        import numpy as np
        import tightbatch as tb
        from checks import fails

        for shape in [(100_000, 1), (1, 2), (100_000, 2, 1), (100_001, 2)]:
            part = tb.Ragged.from_sequences([np.ones((100_000, 2))])
            first = tb.Ragged.from_sequences([np.ones((3, 2))])
            both = tb.Ragged.concatenate([first, part])
            part.values.resize(shape, refcheck=False)
            for use in (tb.pad, tb.lengths):
                with fails(RuntimeError, "row 1", "resized"):
                    use(both)
    """)


def test_resized_values_are_not_exported():
    pytest.importorskip("pyarrow")
    run_python("""
        import numpy as np
        import pyarrow as pa
        import tightbatch as tb

        ragged = tb.Ragged.from_sequences([np.arange(1000), np.arange(1000)])
        ragged.values.resize(5, refcheck=False)
        for part in (ragged, ragged[:1], ragged[::-1]):
            try:
                array = pa.array(part)
            except (RuntimeError, ValueError):
                continue
            array.validate(full=True)
    """)
