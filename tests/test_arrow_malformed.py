"""Arrow structures of any content: read as a plain model of the format reads them, or refused.

What test_arrow_release.py lists by hand is here generated. Buffers are always as large as the
largest reading of their sizes, so that whatever is accepted can be looked at.
"""

import gc
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb
from arrow_capsules import KEPT, Node, Offers, Stream

CODES = {
    "c": "int8",
    "C": "uint8",
    "s": "int16",
    "S": "uint16",
    "i": "int32",
    "I": "uint32",
    "l": "int64",
    "L": "uint64",
    "e": "float16",
    "f": "float32",
    "g": "float64",
    "b": "bool",
}
LISTS = {"+l": "i", "+L": "q", "+vl": "i", "+vL": "q"}
WIDE = 8  # bytes that any item of a buffer is given
REFUSED = (TypeError, ValueError)


class Malformed(Exception):
    pass


# --- the format, in plain Python -------------------------------------------------------------


class Part:
    """The fields of one array and of its schema, as they will be claimed."""

    def __init__(self, format, length, offset, buffers, children=(), null_count=0, **claims):
        self.format, self.length, self.offset = format, length, offset
        self.buffers, self.children, self.null_count = list(buffers), list(children), null_count
        self.claims = claims  # n_buffers, n_children, schema_children

    def node(self, name=""):
        children = [child.node("x") for child in self.children]
        claims = {"n_buffers": self.n_buffers, **self.claims}
        return Node(
            self.format,
            self.length,
            self.buffers,
            children,
            self.offset,
            self.null_count,
            name=name,
            **claims,
        )

    @property
    def n_buffers(self):
        return self.claims.get("n_buffers", buffers_of(self.format))

    def check(self, buffers, children):
        n_children = self.claims.get("n_children", len(self.children))
        if (self.n_buffers, n_children) != (buffers, children):
            raise Malformed("buffers or children")
        if self.length < 0 or self.offset < 0 or self.null_count < -1:
            raise Malformed("a negative size")
        if self.length + self.offset >= 2**63:
            raise Malformed("too large")

    def is_null(self, i):
        bits = self.buffers[0]
        if self.null_count == 0 or bits is None:
            return False
        place = self.offset + i
        return not bits[place // 8] >> place % 8 & 1


def fixed_size(format):
    """The n of "+w:n", or None."""
    digits = format[3:]
    if format[:3] != "+w:" or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits) if int(digits) < 2**31 else None


def buffers_of(format):
    if format in LISTS:
        return 3 if "v" in format else 2
    return 1 if format[:1] == "+" else 2


def check_type(part):
    """Lists of numbers, or of fixed-size lists of them."""
    if part.claims.get("schema_children", len(part.children)) != 1:
        raise Malformed("exactly one child")
    (child,) = part.children
    if child.format in CODES:
        return
    if fixed_size(child.format) is None:
        raise Malformed("not numbers")
    check_type(child)


def check_values(part, first, count):
    """Positions first to first + count are there, at every depth."""
    last = part.format in CODES
    part.check(2 if last else 1, 0 if last else 1)
    if first + count > part.length:
        raise Malformed("fewer values than its lists need")
    if last:
        if count and part.buffers[1] is None:
            raise Malformed("no values")
        return
    size = fixed_size(part.format)
    check_values(part.children[0], (part.offset + first) * size, count * size)


def element(part, i):
    if part.format not in CODES:
        size = fixed_size(part.format)
        first = (part.offset + i) * size
        nothing = part.is_null(i)
        inner = [element(part.children[0], first + k) for k in range(size)]
        return blank(inner) if nothing else inner
    if part.is_null(i):
        return None
    place = part.offset + i
    if part.format == "b":
        return bool(part.buffers[1][place // 8] >> place % 8 & 1)
    dtype = np.dtype(CODES[part.format])
    return np.frombuffer(part.buffers[1], dtype, 1, place * dtype.itemsize)[0].item()


def blank(item):
    return [blank(one) for one in item] if isinstance(item, list) else None


def row_bounds(part, i):
    place = part.offset + i
    if part.format not in LISTS:
        size = fixed_size(part.format)
        return place * size, size
    code = LISTS[part.format]
    width = struct.calcsize(code)

    def at(buffer, k):
        return struct.unpack_from(code, part.buffers[buffer], k * width)[0]

    start = at(1, place)
    return start, at(2, place) if "v" in part.format else at(1, place + 1) - start


def read(part, first=0, count=None):
    """The rows; None where a row, or an element, is null."""
    if part.format not in LISTS and fixed_size(part.format) is None:
        raise Malformed("no list")
    check_type(part)
    part.check(buffers_of(part.format), 1)
    count = part.length - first if count is None else count
    if first + count > part.length:
        raise Malformed("fewer rows than its table")
    for buffer in range(1, buffers_of(part.format)):
        if count and part.buffers[buffer] is None:
            raise Malformed("no offsets")
    (child,) = part.children
    if part.format in LISTS:
        check_values(child, 0, child.length)
    else:
        size = fixed_size(part.format)
        check_values(child, (part.offset + first) * size, count * size)
    rows = []
    for i in range(first, first + count):
        start, size = (0, 0) if part.is_null(i) else row_bounds(part, i)
        if start < 0 or size < 0 or start + size > child.length:
            raise Malformed(f"row {i}")
        rows.append(None if part.is_null(i) else [element(child, start + k) for k in range(size)])
    return rows


def read_table(table):
    if table.claims.get("schema_children", 1) < 0:
        raise Malformed("a negative size")
    table.check(1, table.claims.get("schema_children", 1))
    column = table.children[0]
    if column.length < table.offset + table.length:
        raise Malformed("fewer rows than its table")
    if any(table.is_null(i) for i in range(table.length)):
        raise Malformed("has null rows")
    return read(column, table.offset, table.length)


# --- structures of random fields -------------------------------------------------------------

extremes = st.sampled_from([-1, -(2**31), 2**31 - 1, -(2**63), 2**63 - 1, 2**32, 1])
rarely = st.sampled_from([False] * 30 + [True])


@st.composite
def fields(draw, format, capacity, buffers, children=()):
    """Sizes within the capacity, or ones that cannot be."""
    offset = min(capacity, draw(st.sampled_from([0, 0, 1, 2, 5])))
    length = max(0, capacity - offset - draw(st.sampled_from([0, 0, 0, 1, 3])))
    part = Part(format, length, offset, buffers, children)
    if draw(st.booleans()):
        bits = bytearray(b"\xff" * (capacity // 8 + 1))
        for place in draw(st.lists(st.integers(0, 8 * len(bits) - 1), max_size=2)):
            bits[place // 8] &= ~(1 << place % 8)
        part.buffers[0] = bytes(bits)
        part.null_count = draw(st.sampled_from([0, -1, 1, capacity]))
    if draw(rarely):
        wrong = {"length": [-1, -(2**63)], "offset": [-1], "null_count": [-2, -(2**63)]}
        if part.length:
            wrong["offset"].append(2**63 - part.length)  # one too many
        name = draw(st.sampled_from(list(wrong)))
        setattr(part, name, draw(st.sampled_from(wrong[name])))
    if draw(rarely):
        name = draw(st.sampled_from(["n_buffers", "n_children", "schema_children"]))
        part.claims[name] = draw(st.sampled_from([-1, 0, 1, 2, 3, 2**62]))
    if draw(rarely):
        part.buffers[draw(st.integers(1, len(part.buffers) - 1))] = None
    return part


kinds = st.tuples(
    st.sampled_from([*LISTS, "+w:0", "+w:1", "+w:2"]),
    st.sampled_from([[], [], [], [1], [2], [3], [0], [2, 2], [1, 3], [0, 2]]),
    st.sampled_from(list(CODES)),
)


@st.composite
def values(draw, capacity, trailing, code):
    """A part of at least `capacity` positions: numbers, or fixed-size lists of them."""
    slots = capacity * int(np.prod(trailing)) if trailing else capacity
    seed = draw(st.integers(0, 9))
    memory = np.random.default_rng(seed).integers(0, 50, slots * WIDE + WIDE, np.uint8).tobytes()
    part = draw(fields(code, slots, [None, memory, memory]))
    for size in reversed(trailing):
        slots = slots // size if size else capacity
        part = draw(fields(f"+w:{size}", slots, [None, memory, memory], [part]))
    return part


odd_formats = st.sampled_from(
    "+ +w +w: +w:-1 +w:1x +w:99999999999999999999 +w:4294967296 +l: +vx +r +m".split()
    + "n l vu z u tdD w:4 d:3,2 ? ll +LL".split()
    + ["", "+w: 1", "+L "]
)


@st.composite
def lists(draw, kind=None):
    format, trailing, number = draw(kinds) if kind is None else kind
    capacity = draw(st.sampled_from([0, 1, 2, 4, 4, 7]))
    positions = draw(st.sampled_from([0, 5, 12, 20])) + (fixed_size(format) or 0) * (capacity + 2)
    child = draw(values(positions, trailing, number))
    code, inside = LISTS.get(format, "i"), st.integers(0, max(child.length, 0))
    if "v" in format:
        starts = draw(st.lists(inside, min_size=capacity + 1, max_size=capacity + 1))
        sizes = [draw(st.integers(0, max(child.length - start, 0))) for start in starts]
    else:
        starts = sorted(draw(st.lists(inside, min_size=capacity + 1, max_size=capacity + 1)))
        sizes = starts
    places = [list(starts), list(sizes)]
    if draw(st.integers(0, 2)) == 2:
        place = draw(st.integers(0, capacity))
        wrong = draw(st.one_of(extremes, st.integers(-2, positions + 2)))
        limits = np.iinfo(np.int32 if code == "i" else np.int64)
        places[draw(st.integers(0, 1))][place] = max(limits.min, min(limits.max, wrong))
    elif draw(st.integers(0, 2)) == 2:  # one too many: at the end, or in some size
        place = draw(st.integers(0, capacity))
        places[0][place:] = [max(child.length, 0) + 1] * (capacity + 1 - place)
        if "v" in format:
            places = [list(starts), list(sizes)]
            places[1][place] = max(child.length, 0) - starts[place] + 1
    memory = [
        struct.pack(f"{capacity + 1}{code}", *each).ljust(64 * WIDE, b"\0") for each in places
    ]
    part = draw(fields(format, capacity, [None, *memory], [child]))
    if kind is None and draw(rarely):
        part.format = draw(odd_formats)
    return part


def filled(rows, value):
    def fill(item):
        if isinstance(item, list):
            return [fill(one) for one in item]
        return value if item is None else item

    return [[] if row is None else fill(row) for row in rows]


def holds_null(item):
    return item is None or (isinstance(item, list) and any(map(holds_null, item)))


def model(function, parts):
    """(rows or None, rows without a null or None): None where it is to be refused."""
    try:
        rows = [row for part in parts for row in function(part)]
    except Malformed:
        return None, None
    return rows, None if holds_null(rows) else rows


def same(ragged, rows):
    """Compared as printed, where NaN is NaN."""
    return str(ragged.tolist()) == str(rows)


def check_source(source, rows, whole, fill, column=None):
    """Read it; tell nothing but whether it agrees with the model."""
    options = {"fill_null": 1} if fill else {}
    if column is not None:
        options["column"] = column
    expected = filled(rows, 1) if fill and rows is not None else whole
    if expected is None:
        with pytest.raises(REFUSED):
            tb.Ragged.from_arrow(source, **options)
        return
    ragged = tb.Ragged.from_arrow(source, **options)
    if fill and ragged.dtype.kind in "bf":
        expected = filled(rows, True if ragged.dtype.kind == "b" else 1.0)
    assert same(ragged, expected)
    assert ragged.lengths.tolist() == [len(row) for row in expected]


def assert_released(*nodes):
    gc.collect(0)
    assert [node.released["array"] for node in nodes] == [1] * len(nodes)


@settings(max_examples=700, deadline=None)
@given(part=lists(), fill=st.booleans())
def test_an_array_of_random_fields(part, fill):
    rows, whole = model(read, [part])
    kept = len(KEPT)
    node = part.node()
    check_source(Offers(node.capsules()), rows, whole, fill)
    assert_released(node)
    del KEPT[kept:]


@settings(max_examples=300, deadline=None)
@given(part=lists(), entry=st.sampled_from([tb.lengths, tb.pad, tb.Ragged.from_sequences]))
def test_random_fields_as_an_argument(part, entry):
    _, whole = model(read, [part])
    kept = len(KEPT)
    node = part.node()
    if whole is None:
        with pytest.raises(REFUSED):
            entry(Offers(node.capsules()))
    else:
        found = entry(Offers(node.capsules()))
        if entry is tb.lengths:
            assert found.tolist() == [len(row) for row in whole]
        elif entry is tb.pad:
            width = max(map(len, whole), default=0)
            assert found.shape[:2] == (len(whole), width)
            for row, padded in zip(whole, found, strict=True):
                assert str(padded[: len(row)].tolist()) == str(row)
        else:
            assert same(found, whole)
        del found
    assert_released(node)
    del KEPT[kept:]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), kind=kinds, fill=st.booleans())
def test_a_stream_of_random_chunks(data, kind, fill):
    """Chunks of one type, whose sizes and buffers differ; the stream's schema is right."""
    parts = data.draw(st.lists(lists(kind), min_size=1, max_size=3))
    for part in parts:
        while part.children:
            part.claims.pop("schema_children", None)
            part = part.children[0]
        part.claims.pop("schema_children", None)
    # Chunks without rows are dropped before anything of them is read.
    rows, whole = model(read, [part for part in parts if part.length != 0])
    kept = len(KEPT)
    nodes = [one.node() for one in parts]
    schema = parts[0].node()
    stream = Stream(schema, nodes)
    check_source(stream.offer(), rows, whole, fill)
    assert_released(*nodes[: stream.handed])
    assert (stream.released, schema.released["schema"]) == (1, 1)
    del KEPT[kept:]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), part=lists(), fill=st.booleans())
def test_a_table_of_random_fields(data, part, fill):
    capacity = max(0, part.length) + data.draw(rarely)
    bits = bytes(8)
    table = data.draw(fields("+s", capacity, [None, bits], [part]))
    if table.claims.get("schema_children", 1) != 1:
        del table.claims["schema_children"]  # it would claim children that do not exist
    table.claims.setdefault("n_buffers", 1)
    rows, whole = model(read_table, [table])
    kept = len(KEPT)
    node = table.node()
    check_source(Offers(node.capsules()), rows, whole, fill, "x")
    assert_released(node)
    del KEPT[kept:]
