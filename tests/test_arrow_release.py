"""Who releases Arrow data, and when: once, after the last view, on every path, by any thread."""

import ctypes
import gc
import threading

import numpy as np
import pytest

import tightbatch as tb
from arrow_capsules import Node, Offers, Stream, new_capsule
from checks import fails, run_python


def int_lists(offsets=(0, 2, 2, 5), values=(1, 2, 3, 4, 5), length=None, **wrong):
    """list<int32> of three rows, or with something wrong about it."""
    child = wrong.pop("child", None) or Node(
        "i", len(values), [None, np.array(values, np.int32).tobytes()]
    )
    rows = len(offsets) - 1 if length is None else length
    return Node("+l", rows, [None, np.array(offsets, np.int32).tobytes()], [child], **wrong)


def offer(node):
    return Offers(node.capsules())


def test_an_array_is_released_after_its_last_view():
    node = int_lists()
    ragged = tb.Ragged.from_arrow(offer(node))
    assert ragged.tolist() == [[1, 2], [], [3, 4, 5]]
    row, part = ragged[2], ragged[1:]
    assert not node.array.release  # moved out of the capsule
    del ragged
    gc.collect()
    assert node.released["array"] == 0
    del part
    assert node.released["array"] == 0
    assert row.tolist() == [3, 4, 5]
    del row
    gc.collect()
    assert node.released == {"schema": 0, "array": 1}  # the schema is its capsule's


def test_the_last_view_may_go_in_another_thread():
    node = int_lists()
    views = [tb.Ragged.from_arrow(offer(node))[0]]
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    gc.collect()
    assert node.released["array"] == 1


def test_many_threads_read_and_drop():
    nodes = [int_lists() for _ in range(200)]

    def read(part):
        for node in part:
            assert tb.pad(tb.Ragged.from_arrow(offer(node))[[0, 2]]).tolist() == [
                [1, 2, 0],
                [3, 4, 5],
            ]

    threads = [threading.Thread(target=read, args=(nodes[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert [node.released["array"] for node in nodes] == [1] * 200


def test_chunks_of_a_stream_are_released_one_by_one():
    nodes = [int_lists(), int_lists((0, 1), (9,))]
    schema = int_lists()
    stream = Stream(schema, nodes)
    ragged = tb.Ragged.from_arrow(stream.offer())
    assert ragged.tolist() == [[1, 2], [], [3, 4, 5], [9]]
    assert stream.released == 1
    assert schema.released["schema"] == 1
    row = ragged[3]
    del ragged
    gc.collect()
    assert [node.released["array"] for node in nodes] == [1, 0]
    del row
    gc.collect()
    assert [node.released["array"] for node in nodes] == [1, 1]


@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_a_stream_that_fails_says_why_and_everything_is_released(fail_at):
    nodes = [int_lists(), int_lists()]
    schema = int_lists()
    stream = Stream(schema, nodes, fail_at=fail_at)
    with fails(OSError, "Ragged.from_arrow()", "code 5", "out of ink"):
        tb.Ragged.from_arrow(stream.offer())
    gc.collect()
    assert stream.released == 1
    assert schema.released["schema"] == 1
    assert [node.released["array"] for node in nodes] == [int(i < fail_at) for i in range(2)]


@pytest.mark.parametrize("message", [b"no schema", None])
def test_a_stream_without_a_schema_is_released(message):
    stream = Stream(int_lists(), fail_schema=22, message=message)
    with pytest.raises(ValueError, match="code 22"):
        tb.Ragged.from_arrow(stream.offer())
    assert stream.released == 1


def test_an_empty_stream_still_has_a_type():
    stream = Stream(int_lists())
    ragged = tb.Ragged.from_arrow(stream.offer())
    assert (len(ragged), ragged.dtype) == (0, np.int32)
    assert ragged.pad().shape == (0, 0)
    assert stream.released == 1


def test_chunks_without_rows_are_released_at_once():
    """A filter that matches little gives many of them."""
    empty = [int_lists((0,), (1, 2, 3)) for _ in range(50)]
    nodes = [*empty[:20], int_lists(), *empty[20:], int_lists((0, 1), (9,))]
    ragged = tb.Ragged.from_arrow(Stream(int_lists(), nodes).offer())
    assert [node.released["array"] for node in empty] == [1] * 50
    assert len(ragged._chunks) == 2
    assert ragged.tolist() == [[1, 2], [], [3, 4, 5], [9]]
    nothing = tb.Ragged.from_arrow(Stream(int_lists(), [int_lists((0,)) for _ in range(9)]).offer())
    assert (len(nothing), nothing.dtype, len(nothing._chunks)) == (0, np.int32, 1)


def wrong_arrays():
    """name -> (node, words of the message)."""
    big = 2**63 - 1
    value = np.array([7], np.int32).tobytes()
    short = Node("i", 1, [None, value])
    yield "offsets go backwards", int_lists((0, 3, 2, 5)), ("row 1", "backwards")
    yield "offsets past the values", int_lists((0, 2, 2, 6)), ("row 2", "past the values")
    yield "a negative offset", int_lists((-1, 2, 2, 5)), ("row 0", "outside the values")
    yield "offsets past a short child", int_lists(child=short), ("past the values",)
    yield "a negative length", int_lists(length=-1), ("negative",)
    yield "a negative array offset", int_lists(offset=-1), ("negative",)
    yield "length and offset overflow", int_lists(offset=big), ("negative or too large",)
    yield "a null count below -1", int_lists(null_count=-2), ("negative",)
    yield "too few buffers", int_lists(n_buffers=1), ("buffers or children",)
    yield "too many buffers", int_lists(n_buffers=7), ("buffers or children",)
    yield "no child", int_lists(n_children=0), ("buffers or children",)
    yield "no child in the schema", int_lists(schema_children=0), ("one child",)
    no_offsets = Node("+l", 3, [None, None], [Node("i", 5, [None, value * 5])])
    yield "no offsets", no_offsets, ("no offsets",)
    no_values = Node("i", 5, [None, None])
    yield "no values", int_lists(child=no_values), ("no buffer",)
    for format in ("+w:", "+w:-1", "+w:99999999999999999999", "+w", "+l:", "", "?", "+", "vl"):
        yield f"format {format!r}", Node(format, 1, [None, value], []), ()
    yield "no format", Node(None, 1, [None, value]), ("malformed",)
    sizes = [np.array(x, np.int32).tobytes() for x in ((0, 2), (2, 9))]
    view = Node("+vl", 2, [None, *sizes], [Node("i", 5, [None, value * 5])])
    yield "a view's size past the values", view, ("row 1", "past the values")
    pairs = Node("+w:2", 3, [None], [Node("i", 5, [None, value * 5])])
    yield "fixed-size rows past the values", pairs, ("fewer values",)
    for format, word in (("tdD", "dates"), ("+s", ""), ("d:5,2", "decimals"), ("n", "nulls")):
        yield f"rows of {format}", int_lists(child=Node(format, 5, [None, value * 9])), ()
        if word and format != "n":
            yield f"format {format}", Node(format, 1, [None, value * 9]), (word,)
    inner = Node("+l", 1, [None, np.array([0, 1], np.int32).tobytes()], [short])
    yield "lists of lists", int_lists((0, 1), child=inner), ("lists of lists",)


@pytest.mark.parametrize("case", list(wrong_arrays()), ids=lambda case: case[0])
@pytest.mark.parametrize("entry", ["from_arrow", "pad", "lengths"])
def test_what_is_malformed_is_refused_and_released(case, entry):
    name, node, words = case
    copied = Node.__new__(Node)  # each run moves the array out: hand over a fresh struct
    copied.__dict__.update(node.__dict__)
    copied.released = {"schema": 0, "array": 0}
    copied.array = type(node.array).from_buffer_copy(node.array)
    copied.schema = type(node.schema).from_buffer_copy(node.schema)
    copied.array.release = type(node.array.release)(copied._release_array)
    copied.schema.release = type(node.schema.release)(copied._release_schema)
    copied.keep = node
    from arrow_capsules import KEPT

    KEPT.append(copied)
    function = {"from_arrow": tb.Ragged.from_arrow, "pad": tb.pad, "lengths": tb.lengths}[entry]
    with pytest.raises((TypeError, ValueError)) as caught:
        function(offer(copied))
    for word in words:
        assert word in str(caught.value), name
    del caught
    gc.collect()
    assert copied.released == {"schema": 0, "array": 1}


def test_a_released_child_is_refused():
    child = Node("i", 5, [None, bytes(20)])
    node = int_lists(child=child)
    child.array.release = type(child.array.release)()
    with fails(ValueError, "released"):
        tb.Ragged.from_arrow(offer(node))
    assert node.released["array"] == 1


def test_a_dictionary_is_refused():
    words = Node("u", 1, [None, np.array([0, 1], np.int32).tobytes(), b"a"])
    node = Node("i", 1, [None, bytes(4)], dictionary=None)
    node.schema.dictionary = ctypes.pointer(words.schema)
    node.array.dictionary = ctypes.pointer(words.array)
    with fails(TypeError, "dictionary-encoded"):
        tb.Ragged.from_arrow(offer(node))
    assert node.released["array"] == 1


def test_data_that_was_handed_over_before_is_refused():
    node = int_lists()
    source = offer(node)
    first = tb.Ragged.from_arrow(source)
    with fails(ValueError, "already released or taken"):
        tb.Ragged.from_arrow(source)
    assert first.tolist() == [[1, 2], [], [3, 4, 5]]
    stream = Stream(int_lists(), [int_lists()]).offer()
    tb.Ragged.from_arrow(stream)
    with fails(ValueError, "already released or taken"):
        tb.Ragged.from_arrow(stream)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        (),
        (1, 2),
        (new_capsule(1, b"arrow_schema", None),),
        (new_capsule(1, b"arrow_array", None), new_capsule(1, b"arrow_schema", None)),
        (new_capsule(1, b"dltensor", None), new_capsule(1, b"dltensor", None)),
        "text",
    ],
    ids=["none", "empty", "numbers", "one", "swapped", "others", "text"],
)
def test_what_are_no_capsules_is_refused(answer):
    with pytest.raises(TypeError, match="expected"):
        tb.Ragged.from_arrow(Offers(answer))
    with pytest.raises(TypeError, match="expected a capsule"):
        tb.Ragged.from_arrow(Offers(answer, stream=True))


def test_an_error_of_the_producer_stays_what_it_is():
    class Refuses:
        def __arrow_c_array__(self, requested_schema=None):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        tb.Ragged.from_arrow(Refuses())
    with pytest.raises(KeyError, match="mine"):
        tb.pad(Refuses())


def test_buffers_may_lie_at_any_address():
    """Arrow recommends alignment and does not require it."""
    value = np.arange(1, 6, dtype=np.int64).tobytes()
    offsets = np.array([0, 2, 5], np.int32).tobytes()
    memory = ctypes.create_string_buffer(b"x" + value + b"xx" + offsets)
    start = ctypes.addressof(memory)
    child = Node("l", 5, [None, value])
    child.pointers[1] = start + 1
    node = Node("+l", 2, [None, offsets], [child])
    node.pointers[1] = start + 1 + len(value) + 2
    ragged = tb.Ragged.from_arrow(offer(node))
    assert ragged.tolist() == [[1, 2], [3, 4, 5]]
    assert tb.pad(ragged, dtype="int16").tolist() == [[1, 2, 0], [3, 4, 5]]


def test_an_exported_array_lives_as_long_as_its_consumer():
    pa = pytest.importorskip("pyarrow")
    ragged = tb.Ragged.from_sequences([[1, 2], [3]])
    array = pa.array(ragged)
    child = array.values  # moved out of its parent
    del ragged, array
    gc.collect()
    assert child.to_pylist() == [1, 2, 3]


def test_an_export_nobody_takes_is_freed():
    ragged = tb.Ragged.from_sequences([np.arange(100_000)])
    values = ragged.values
    before = values.base, gc.get_referrers(values)
    for _ in range(3):
        ragged.__arrow_c_array__()
        ragged.__arrow_c_schema__()
    import sys

    count = sys.getrefcount(values)
    capsules = ragged.__arrow_c_array__()
    assert sys.getrefcount(values) > count
    del capsules
    assert sys.getrefcount(values) == count
    assert before[0] is None


@pytest.mark.parametrize(("code", "error"), [(12, MemoryError), (22, ValueError), (2, OSError)])
def test_a_failure_is_the_exception_that_its_code_means(code, error):
    with pytest.raises(error, match=f"code {code}"):
        tb.Ragged.from_arrow(Stream(int_lists(), fail_schema=code).offer())


def test_a_producer_whose_threads_need_python_is_not_kept_waiting(tmp_path):
    """Reading through a filesystem in Python, which the producer's own threads call."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("fsspec")
    out = run_python(
        """
        import sys
        import fsspec, pyarrow as pa, pyarrow.dataset as ds, pyarrow.fs as fs, pyarrow.parquet as pq
        import tightbatch as tb
        table = pa.table({"ids": [[i] * (i % 5) for i in range(1000)]})
        pq.write_table(table, sys.argv[1], row_group_size=100)
        python = fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("file")))
        reader = ds.dataset(sys.argv[1], filesystem=python).scanner().to_reader()
        print(tb.Ragged.from_arrow(reader).tolist() == table["ids"].to_pylist())
        """,
        str(tmp_path / "rows.parquet"),
    )
    assert out.strip() == "True"


def test_exported_lists_have_the_type_that_pyarrow_gives_them():
    pa = pytest.importorskip("pyarrow")
    assert pa.array(tb.Ragged.from_sequences([[1]])).type == pa.large_list(pa.int64())
