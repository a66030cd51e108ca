"""References given back, on success and on error, and memory that runs out at every place."""

import gc
import sys

import numpy as np
import pytest

import tightbatch as tb
from checks import assert_same, forget_frames, run_python

BIG = 10**12


class Index:
    """An item that acts when it is asked for its value."""

    def __init__(self, act):
        self.act = act

    def __index__(self):
        self.act()
        return 5


def growth(function, *objects, rounds=1000):
    """How many references and memory blocks 1000 calls leave behind."""
    for _ in range(3):
        function()
    gc.collect()
    counts = [sys.getrefcount(item) for item in objects]
    blocks = sys.getallocatedblocks()
    for _ in range(rounds):
        function()
    gc.collect()
    blocks = sys.getallocatedblocks() - blocks
    after = [sys.getrefcount(item) for item in objects]
    return [now - then for now, then in zip(after, counts, strict=True)], blocks


def assert_no_growth(function, *objects):
    """Caches come and go, so the best of three counts: a leak shows in each."""
    blocks = []
    for _ in range(3):
        counts, more = growth(function, *objects)
        assert counts == [0] * len(objects)
        blocks.append(more)
        if more < 300:
            return
    raise AssertionError(f"{min(blocks)} blocks of memory more after 1000 calls")


def attempt(function, *arguments, **options):
    """A call that is expected to fail, wrapped so that the error is gone afterwards."""

    def call():
        try:
            function(*arguments, **options)
        except Exception as error:
            forget_frames(error)
        else:
            raise AssertionError("expected an error")

    return call


def test_references_of_lists_on_success():
    items = [BIG + index for index in range(4)]
    rows = [items[:3], [items[3]], []]
    assert_no_growth(lambda: tb.pad(rows), rows, *rows, *items)
    assert_no_growth(lambda: tb.pad(rows, return_mask=True, padding_value=items[0]), *rows, *items)
    assert_no_growth(lambda: tb.pad(iter(rows)), *rows, *items)
    assert_no_growth(lambda: tb.lengths(rows), rows, *rows)
    floats = [[0.5 + index for index in range(3)], [BIG, 1.5], [True]]
    floats[1][0] = 2**40
    assert_no_growth(lambda: tb.pad(floats), *floats, *floats[0], *floats[1])
    nested = [[[BIG, BIG + 1]], []]
    assert_no_growth(lambda: tb.pad(nested), *nested, nested[0][0], *nested[0][0])


def test_references_of_arrays_and_buffers_on_success():
    base = np.arange(20)
    rows = [base, base[::2], base.astype(">i8"), memoryview(base), [BIG]]
    out = np.zeros((5, 20), np.int64)
    dtype = np.dtype(np.int64)
    assert_no_growth(lambda: tb.pad(rows), base, rows, *rows, dtype)
    assert_no_growth(lambda: tb.pad(rows, dtype=np.float64), base, *rows)
    out = np.zeros((2, 20), np.int64)
    plain = [base.copy(), [BIG]]
    assert_no_growth(lambda: tb.pad(plain, out=out), out, *plain, dtype)
    rectangle = np.arange(6).reshape(2, 3)
    assert_no_growth(lambda: tb.pad(rectangle), rectangle, rectangle.dtype)
    small = [bytearray(b"abc"), b"de", np.zeros(2, np.uint8)]
    assert_no_growth(lambda: tb.pad(small), *small)


def test_references_of_the_three_on_success():
    items = [BIG + index for index in range(4)]
    rows = [items[:3], [items[3]], []]
    assert_no_growth(lambda: tb.fixed_pad_sequences(rows, 2), rows, *rows, *items)
    assert_no_growth(lambda: tb.pad_sequences_dynamic(rows), rows, *rows, *items)
    assert_no_growth(lambda: tb.uniform_length_batching(rows, 2), rows, *rows, *items)
    assert_no_growth(
        lambda: tb.uniform_length_batching(rows, 2, return_indices=True), rows, *rows, *items
    )


def raises_lookup():
    raise LookupError


FAILING = {
    "bad_item": ([[BIG, BIG + 1], [BIG + 2, "no"]], {}),
    "bad_row": ([[BIG], np.arange(3), None], {}),
    "overflow": ([[BIG], [2**63]], {}),
    "overflow_of_dtype": ([[1], [BIG]], {"dtype": np.int8}),
    "array_overflow": ([np.array([BIG]), [1]], {"dtype": np.int8}),
    "inexact": ([[0.5], [2**53 + 1]], {}),
    "too_wide": ([[BIG], [BIG, 1, 2]], {"width": 2}),
    "padding_value": ([[BIG], [BIG, 1]], {"padding_value": 1.5}),
    "padding_kind": ([[BIG], [BIG, 1]], {"padding_value": "x"}),
    "two_types": ([np.ones(2), np.ones(2, int)], {}),
    "trailing": ([np.ones((2, 3)), [], np.ones((2, 4))], {}),
    "ragged": ([[[BIG, 1], [2]]], {}),
    "depth": ([[BIG, [1]]], {}),
    "out_shape": ([[BIG], [1]], {"out": np.zeros((3, 3), np.int64)}),
    "out_kind": ([[BIG], [1]], {"out": [1]}),
    "dtype_kind": ([[BIG], [1]], {"dtype": "complex64"}),
    "side": ([[BIG], [1]], {"padding_side": "up"}),
    "multiple": ([[BIG], [1]], {"pad_to_multiple_of": 0}),
    "index_raises": ([[BIG, Index(raises_lookup)], [1]], {}),
    "generator": (5, {}),
    "too_large": ([[BIG], [1]], {"width": 2**60}),
}


@pytest.mark.parametrize("case", FAILING)
def test_references_on_error(case):
    rows, chosen = FAILING[case]
    objects = []
    if isinstance(rows, list):
        objects = [rows, *(row for row in rows if row is not None)]
        objects += [
            item
            for row in rows
            if isinstance(row, list)
            for item in row
            if not (isinstance(item, int) and item < BIG)
        ]
    objects += [value for value in chosen.values() if isinstance(value, np.ndarray | list)]
    assert_no_growth(attempt(tb.pad, rows, **chosen), *objects)


@pytest.mark.parametrize("name", ["fixed_pad_sequences", "uniform_length_batching"])
def test_references_of_the_three_on_error(name):
    rows = [[BIG, BIG + 1], [BIG + 2, "no"]]
    assert_no_growth(attempt(getattr(tb, name), rows, 2), rows, *rows, *rows[0], rows[1][0])


def test_references_when_the_row_changes():
    def call():
        row = [BIG, Index(lambda: row.clear()), BIG]
        attempt(tb.pad, [row])()
        row[:] = []

    assert_no_growth(call)


# Memory that runs out


NO_MEMORY = """
import sys
import numpy as np
import tightbatch as tb
from _testcapi import set_nomemory, remove_mem_hooks

big = 10**12
items = [big + k for k in range(6)]


class Index:
    def __index__(self):
        return 7


class AsArray:
    def __array__(self, dtype=None, copy=None):
        return kept

kept = np.arange(5)
out = np.zeros((2, 3), np.int64)
lists = [items[:3], [items[3]], []]
mixed = [items[:3], kept, kept[::2], kept.astype(">i8"), memoryview(kept), AsArray(), [Index()]]
cases = {
    "lists": lambda: tb.pad(lists, return_mask=True),
    "floats": lambda: tb.pad([items[:0], [0.5, True], [1]]),
    "nested": lambda: tb.pad([[items[:2]], [items[2:4], items[4:6]]]),
    "mixed": lambda: tb.pad(mixed),
    "cast": lambda: tb.pad([kept, [1, 2]], dtype=np.float32),
    "out": lambda: tb.pad([items[:3], [1]], out=out),
    "iterator": lambda: tb.pad(iter(lists)),
    "rectangle": lambda: tb.pad(np.ones((3, 2))),
    "lengths": lambda: tb.lengths(mixed),
    "fixed": lambda: tb.fixed_pad_sequences(lists, 2),
    "dynamic": lambda: tb.pad_sequences_dynamic(lists),
    "uniform": lambda: tb.uniform_length_batching(lists, 2, return_indices=True),
    "mask": lambda: tb.attention_mask([3, 1], dtype=np.float32, additive=True),
    "mask_of_array": lambda: tb.attention_mask(kept, 9),
    "positions": lambda: (tb.position_ids([3, 1]), tb.position_ids([3, 1], flat=True)),
    "bad_item": lambda: tb.pad([items[:3], [1, "x"]]),
    "bad_row": lambda: tb.pad([items[:3], kept, None]),
    "overflow": lambda: tb.pad([[1], [2**63]]),
    "overflow_of_array": lambda: tb.pad([[1], np.array([0, 2**40])], dtype=np.int8),
    "too_wide": lambda: tb.pad(lists, width=2),
    "padding_value": lambda: tb.pad(lists, padding_value=1.5),
    "out_shape": lambda: tb.pad(lists, out=out),
    "two_types": lambda: tb.pad([kept, np.ones(2)]),
    "trailing": lambda: tb.pad([[[1, 2]], [[1, 2], [3]]]),
    "bad_length": lambda: tb.attention_mask([1, -1]),
    "bad_lengths": lambda: tb.position_ids([1, 0.5]),
}


def outcome(call):
    # The value, or the error's type and words.
    try:
        value = call()
    except Exception as error:
        error.__traceback__ = None
        return type(error), str(error)
    flat, parts = [value], []
    while flat:
        part = flat.pop()
        if isinstance(part, (list, tuple)):
            flat.extend(part)
        else:
            parts.append((part.dtype, part.tolist()))
    return parts


def starved(call, start, stop):
    # Short, so that the interpreter needs no memory of its own to reach the handler.
    set_nomemory(start, stop)
    try:
        value = call()
    except Exception as caught:
        remove_mem_hooks()
        return None, caught
    remove_mem_hooks()
    return value, None


watched = [lists, *lists, *items, mixed, *mixed, kept, out, np.dtype(np.int64)]
name = sys.argv[1]
call = cases[name]
for _ in range(3):
    right = outcome(call)
failures = 0
for once in (False, True):
    for start in range(1, 2000):
        before = [sys.getrefcount(item) for item in watched]
        value, error = starved(call, start, start + 1 if once else 0)
        kind = None if error is None else type(error)
        if error is not None:
            error.__traceback__ = error.__context__ = error.__cause__ = None
            error = None
        same = value is None or name == "out" or outcome(lambda: value) == right
        value = None
        after = [sys.getrefcount(item) for item in watched]
        if name != "uniform":  # Python's own closures leak their cells when this fails
            assert before == after, (name, once, start, kind, before, after)
        assert same, (name, once, start, "a wrong value")
        expected = right[0] if isinstance(right, tuple) else None
        # CPython itself loses an error whose own making runs out of memory, now and then.
        lost = SystemError if once and expected else MemoryError
        assert kind in (MemoryError, expected, lost), (name, once, start, kind)
        assert outcome(call) == right, (name, once, start, "a later call is changed")
        if kind is MemoryError:
            failures += 1
        elif not once and kind is expected:
            break
        elif once and start > 300:
            break
print(name, failures)
"""

NO_MEMORY_CASES = [
    line.split('"')[1] for line in NO_MEMORY.splitlines() if line.startswith('    "')
]


@pytest.mark.parametrize("case", NO_MEMORY_CASES)
def test_hostile_48_every_allocation_fails_in_turn(case):
    pytest.importorskip("_testcapi")
    name, failures = run_python(NO_MEMORY, case).split()
    assert name == case
    assert int(failures) > 0


def test_the_process_is_healthy_after_all_of_it():
    result = tb.pad([[1, 2], [3]])
    assert_same(result, [[1, 2], [3, 0]], np.int64)
