"""Arrow structures that claim what cannot be: sizes, views, offsets; and who frees them."""

import gc
import struct
import threading

import pytest

import tightbatch as tb
from arrow_capsules import Node, Offers, Stream
from checks import fails, run_python


def assert_released(*nodes):
    gc.collect(0)
    assert [node.released["array"] for node in nodes] == [1] * len(nodes)


# --- sizes that only claim -------------------------------------------------------------------


def test_rows_of_nothing_beyond_all_memory_are_refused():
    """Rows and positions that take no memory in Arrow, and some here."""
    node = Node("+w:0", 2**60, [None], [Node("c", 0, [None, None])])
    with pytest.raises(MemoryError):
        tb.Ragged.from_arrow(Offers(node.capsules()))
    assert_released(node)
    inner = Node("+w:0", 2**62, [None], [Node("c", 0, [None, None])])
    offsets = struct.pack("3q", 0, 2**61, 2**62)
    node = Node("+L", 2, [None, offsets], [inner])
    ragged = tb.Ragged.from_arrow(Offers(node.capsules()))
    assert ragged.lengths.tolist() == [2**61, 2**61]
    assert ragged[1].shape == (2**61, 0)
    assert ragged.pad(max_length=3).shape == (2, 3, 0)
    del ragged
    assert_released(node)


@pytest.mark.parametrize("size", [2**31 - 1, 2**20])
def test_sizes_whose_product_overflows_are_refused(size):
    bottom = Node("b", 8, [None, b"\1"])
    for _ in range(4):
        bottom = Node(f"+w:{size}", 8, [None], [bottom])
    node = Node("+l", 1, [None, bytes(8)], [bottom])
    with pytest.raises((TypeError, ValueError)):
        tb.Ragged.from_arrow(Offers(node.capsules()))
    assert_released(node)
    wide = Node(f"+w:{size}", 2**40, [None], [Node("i", 8, [None, bytes(32)])])
    with fails(ValueError, "Ragged.from_arrow()"):
        tb.Ragged.from_arrow(Offers(wide.capsules()))
    assert_released(wide)


def test_chunks_whose_positions_overflow_together_are_refused():
    def chunk():
        inner = Node("+w:0", 2**62, [None], [Node("c", 0, [None, None])])
        return Node("+L", 1, [None, struct.pack("2q", 0, 2**62)], [inner])

    nodes = [chunk(), chunk(), chunk()]
    with fails(ValueError, "Ragged.from_arrow()"):
        tb.Ragged.from_arrow(Stream(chunk(), nodes).offer())
    assert_released(*nodes)


@pytest.mark.parametrize("depth", [10, 100])
def test_deep_nesting_is_refused(depth):
    part = Node("i", 1, [None, bytes(4)])
    for _ in range(depth * 10):
        part = Node("+w:1", 1, [None], [part])
    node = Node("+l", 1, [None, struct.pack("2i", 0, 1)], [part])
    with fails(TypeError, "nested too deeply"):
        tb.Ragged.from_arrow(Offers(node.capsules()))
    assert_released(node)


# --- views of strings and bytes --------------------------------------------------------------


def views(*items):
    """(length, what follows) each: 12 bytes in place, or a prefix, a buffer and an offset."""
    return b"".join(struct.pack("<i", n) + rest.ljust(12, b"\0") for n, rest in items)


def far(prefix, buffer, offset):
    return struct.pack("<4sii", prefix, buffer, offset)


LONG = b"a text longer than a view"
SIZES = struct.pack("<q", len(LONG))


def test_views_of_bytes():
    memory = views((2, b"ab"), (len(LONG), far(b"a te", 0, 0)), (0, b""), (13, far(b"onge", 0, 8)))
    node = Node("vz", 3, [None, memory, LONG, SIZES], offset=1)
    ragged = tb.Ragged.from_arrow(Offers(node.capsules()))
    assert [row.tobytes() for row in ragged] == [LONG, b"", LONG[8:21]]
    del ragged
    assert_released(node)


@pytest.mark.parametrize(
    "view",
    [
        (-1, b""),
        (-(2**31), b""),
        (13, far(b"a te", 1, 0)),
        (13, far(b"a te", -1, 0)),
        (13, far(b"a te", 0, -1)),
        (13, far(b"a te", 0, 13)),
        (13, far(b"a te", 0, 2**31 - 1)),
        (2**31 - 1, far(b"a te", 0, 2**31 - 1)),
    ],
    ids=str,
)
def test_views_that_lead_elsewhere_are_refused(view):
    node = Node("vz", 2, [None, views((1, b"a"), view), LONG, SIZES])
    with fails(ValueError, "Ragged.from_arrow()", "row 1"):
        tb.Ragged.from_arrow(Offers(node.capsules()))
    assert_released(node)


@pytest.mark.parametrize("dtype", ["vz", "vu"])
def test_views_of_more_bytes_than_there_is_memory(dtype):
    """Many long views of one buffer: as many bytes as they claim, each by itself credible."""
    rows, length = 2**16, 2**31 - 1
    memory = views((length, far(b"a te", 0, 0))) * rows
    node = Node(dtype, rows, [None, memory, LONG, struct.pack("<q", length)])
    column = Node("+s", rows, [None], [node])
    with pytest.raises((MemoryError, ValueError)):
        tb.RaggedDataset.from_arrow(Offers(column.capsules()))
    assert_released(column)


@pytest.mark.parametrize(
    ("buffers", "claims"),
    [
        ([None, None, LONG, SIZES], {}),
        ([None, views((13, far(b"a te", 0, 0))), None, SIZES], {}),
        ([None, views((13, far(b"a te", 0, 0))), LONG, None], {}),
        ([None, views((13, far(b"a te", 0, 0))), LONG, struct.pack("<q", -1)], {}),
        ([None, views((13, far(b"a te", 0, 0)))], {}),
        ([None, views((13, far(b"a te", 0, 0))), LONG, SIZES], {"n_buffers": -1}),
        ([None, views((13, far(b"a te", 0, 0))), LONG, SIZES], {"n_children": 1}),
    ],
    ids=["views", "buffer", "sizes", "size", "short", "negative", "children"],
)
def test_views_without_their_buffers_are_refused(buffers, claims):
    node = Node("vz", 1, buffers, **claims)
    with fails(ValueError, "Ragged.from_arrow()"):
        tb.Ragged.from_arrow(Offers(node.capsules()))
    assert_released(node)


@pytest.mark.parametrize("form", ["z", "Z"])
@pytest.mark.parametrize(
    "places", [[-1, 2, 3], [0, 3, 2], [3, 2, 3], [0, 4, 3], [0, 2, -1]], ids=str
)
def test_bytes_with_wrong_offsets_are_refused(form, places):
    offsets = struct.pack("3i" if form == "z" else "3q", *places)
    node = Node(form, 2, [None, offsets, b"abcd"])
    with fails(ValueError, "Ragged.from_arrow()"):
        tb.Ragged.from_arrow(Offers(node.capsules()))
    assert_released(node)


# --- whoever drops it ------------------------------------------------------------------------


def test_threads_read_and_drop_one_ragged_together():
    """Each row is the last view of a chunk to somebody."""
    offsets = struct.pack("2i", 0, 2)
    nodes = [
        Node("+l", 1, [None, offsets], [Node("i", 2, [None, struct.pack("2i", i, i)])])
        for i in range(120)
    ]
    rows = list(tb.Ragged.from_arrow(Stream(nodes[0], nodes).offer()))
    barrier, wrong = threading.Barrier(4), []

    def drop(mine):
        barrier.wait()
        while mine:
            i, row = mine.pop()
            if row.tolist() != [i, i]:
                wrong.append(i)

    threads = [threading.Thread(target=drop, args=(list(enumerate(rows))[k::4],)) for k in range(4)]
    del rows
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    del threads
    assert_released(*nodes)


def test_data_alive_at_the_end_of_the_program():
    """No crash where Arrow memory, ours or theirs, outlives the module."""
    pytest.importorskip("pyarrow")
    run_python("""
        import sys
        import pyarrow as pa
        import tightbatch as tb

        kept = tb.Ragged.from_arrow(pa.array([[1, 2], [3]] * 1000))
        sys.modules["kept"] = kept, pa.array(kept), kept[1], pa.array(kept[::-1])
        cycle = [kept]
        cycle.append(cycle)
        capsules = kept.__arrow_c_array__()
    """)
