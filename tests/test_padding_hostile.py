"""Objects that run Python in the middle of a conversion, and memory that runs out.

The expected outcome is a right result or a named error, and a process that stays healthy.
"""

import gc
import threading
import time

import numpy as np
import pytest

import tightbatch as tb
from checks import fails, result_or_error, run_python


class Index:
    """An item that acts when it is asked for its value."""

    def __init__(self, act, value=5):
        self.act = act
        self.value = value

    def __index__(self):
        self.act()
        return self.value


PREFIXES = pytest.mark.parametrize(
    "prefix", [[], [1, 2], [2**40] * 40], ids=["first", "second", "late"]
)
DTYPES = pytest.mark.parametrize(
    "dtype", [None, np.int32, np.float32, np.float64, bool], ids=lambda dtype: str(dtype)
)


def row_with(act, prefix, suffix=200, value=1):
    """A row whose item acts, among big ints that die when nobody holds them."""
    return [*prefix, Index(act, value), *range(10**6, 10**6 + suffix)]


@PREFIXES
def test_hostile_21_index_clears_its_row(prefix):
    row = row_with(lambda: row.clear(), prefix)
    with fails(RuntimeError, "pad()", "row 1"):
        tb.pad([[1], row, [2]])
    assert row == []


@pytest.mark.parametrize("act", ["append", "pop", "extend", "delete", "insert"])
@PREFIXES
def test_hostile_21_index_resizes_its_row(prefix, act):
    acts = {
        "append": lambda: row.append(1),
        "pop": lambda: row.pop(),
        "extend": lambda: row.extend(range(10_000)),
        "delete": lambda: row.__delitem__(slice(1, None)),
        "insert": lambda: row.insert(0, 1),
    }
    row = row_with(acts[act], prefix)
    with fails(RuntimeError, "pad()", "row 1"):
        tb.pad([[1], row, [2]])


@DTYPES
def test_hostile_21_index_clears_its_row_whatever_the_output(dtype):
    row = [1, Index(lambda: row.clear(), 1), *[1] * 50]
    with fails(RuntimeError, "pad()", "row 0"):
        tb.pad([row], dtype=dtype)


def test_hostile_21_index_clears_its_row_after_a_restart():
    """The first pass ends at the float; the second meets the item again."""
    row = [1, 2, Index(lambda: row.clear()), 4, 5]
    with fails(RuntimeError, "pad()", "row 1"):
        tb.pad([[0.5], row])
    row = [1, 2, Index(lambda: row.clear()), 4, 5]
    with fails(RuntimeError, "pad()", "row 0"):
        tb.pad([row, [0.5]])


def test_hostile_21_index_clears_a_nested_item():
    item = [1, Index(lambda: item.clear()), 3]
    with fails(RuntimeError, "pad()", "row 0"):
        tb.pad([[[1, 2, 3], item]])


def test_hostile_21_index_clears_the_row_around_a_nested_item():
    row = [[1, Index(lambda: row.clear()), 3], [4, 5, 6]]
    with fails(RuntimeError, "pad()", "row 0"):
        tb.pad([row])


def test_hostile_21_index_replaces_items_in_place():
    """The size stays; each item is read once, before or after."""
    row = [1, Index(lambda: row.__setitem__(slice(None), [7] * 4)), 3, 4]
    result = tb.pad([row])
    assert result.tolist() in ([[1, 5, 7, 7]], [[1, 5, 3, 4]])


def test_hostile_21_index_changes_a_later_and_an_earlier_row():
    later = [1, 2, 3]
    with fails(RuntimeError, "pad()", "row 1"):
        tb.pad([[Index(later.clear)], later])
    longer = [1]
    with fails(RuntimeError, "pad()", "row 1"):
        tb.pad([[Index(lambda: longer.extend(range(1000)))], longer])
    earlier = [1, 2, 3]
    assert tb.pad([earlier, [Index(earlier.clear)]]).tolist() == [[1, 2, 3], [5, 0, 0]]


@pytest.mark.parametrize("other", ["x", [1]], ids=str)
def test_hostile_21_a_row_swaps_its_items_for_no_numbers(other):
    row = [1, Index(lambda: row.__setitem__(3, other)), 3, 4]
    result, error = result_or_error(TypeError, tb.pad, [row])
    if error is None:
        assert result.tolist() == [[1, 5, 3, 4]]
    else:
        assert "column 3" in str(error)


def test_hostile_21_a_row_swaps_its_items_for_floats():
    row = [1, Index(lambda: row.__setitem__(3, 0.5)), 3, 4]
    assert tb.pad([row]).tolist() in ([[1, 5, 3, 0.5]], [[1, 5, 3, 4]])


@PREFIXES
def test_hostile_22_index_clears_the_batch(prefix):
    batch = [[1, 2], row_with(lambda: batch.clear(), prefix, 0), [3] * 3]
    expected = [[1, 2], [*prefix, 1], [3] * 3]
    try:
        result = tb.pad(batch)
    except RuntimeError:
        pass
    else:
        width = max(map(len, expected))
        assert result.tolist() == [row + [0] * (width - len(row)) for row in expected]
    assert batch == []


@pytest.mark.parametrize(
    "act",
    [
        lambda batch: batch.append([9]),
        lambda batch: batch.pop(),
        lambda batch: batch.reverse(),
        lambda batch: batch.__setitem__(2, None),
        lambda batch: batch.__setitem__(2, [1] * 1000),
    ],
    ids=["append", "pop", "reverse", "none", "longer"],
)
def test_hostile_22_index_changes_the_batch(act):
    batch = [[1], [Index(lambda: act(batch)), 2], [3]]
    try:
        result = tb.pad(batch)
    except RuntimeError:
        return
    assert result.tolist() == [[1, 0], [5, 2], [3, 0]]


def test_hostile_30_rows_that_only_the_batch_holds():
    """Lists, arrays and buffers die with the batch, unless the call holds them."""
    rows = [np.arange(1000), list(range(10**6, 10**6 + 1000)), [Index(lambda: batch.clear())]]
    batch = [
        np.arange(1000),
        list(range(10**6, 10**6 + 1000)),
        rows.pop(),
        np.arange(7),
        list(range(10**7, 10**7 + 5)),
    ]
    try:
        result = tb.pad(batch)
    except RuntimeError:
        return
    assert result[0].tolist() == list(range(1000))
    assert result[1].tolist() == list(range(10**6, 10**6 + 1000))
    assert result[2, :2].tolist() == [5, 0]
    assert result[3, :8].tolist() == [*range(7), 0]
    assert result[4, :6].tolist() == [*range(10**7, 10**7 + 5), 0]


def test_hostile_30_an_item_that_frees_itself():
    row = [0, Index(lambda: row.__setitem__(1, 7)), 2]
    assert tb.pad([row]).tolist() == [[0, 5, 2]]
    assert row == [0, 7, 2]


@pytest.mark.parametrize("prefix", [[], [1, 0]], ids=len)
@DTYPES
def test_hostile_23_index_that_raises(dtype, prefix):
    error = LookupError("from __index__")

    def act():
        raise error

    rows = [[1], [*prefix, Index(act), 1]]
    with pytest.raises(LookupError) as caught:
        tb.pad(rows, dtype=dtype)
    assert caught.value is error
    assert error.args == ("from __index__",)


@pytest.mark.parametrize(
    "kind",
    [
        TypeError,
        OverflowError,
        ValueError,
        KeyboardInterrupt,
        MemoryError,
        StopIteration,
        RecursionError,
    ],
)
def test_hostile_23_any_error_of_index_passes_unchanged(kind):
    error = kind("from __index__")

    def act():
        raise error

    with pytest.raises(kind) as caught:
        tb.pad([[1, Index(act)]])
    assert caught.value is error
    assert str(error) == "from __index__"


@pytest.mark.parametrize("value", [1.5, "5", None, Ellipsis], ids=repr)
def test_hostile_24_index_that_returns_no_int(value):
    with pytest.raises(TypeError):
        tb.pad([[1], [2, Index(lambda: None, value)]])


def test_hostile_24_index_that_returns_a_large_int():
    with fails(OverflowError, "pad()", "row 1", "column 1"):
        tb.pad([[1], [2, Index(lambda: None, 2**63)]])


@pytest.mark.parametrize("act", ["append", "clear", "batch"])
def test_hostile_25_another_thread_changes_the_row(act):
    batch = [[1] * 3, [1, 2, 3, 4], [1] * 3]
    row = batch[1]
    started, changed = threading.Event(), threading.Event()

    def wait():
        started.set()
        changed.wait(10)

    def change():
        started.wait(10)
        {"append": lambda: row.append(9), "clear": row.clear, "batch": batch.clear}[act]()
        changed.set()

    row[1] = Index(wait)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        if act == "batch":
            result, error = result_or_error(RuntimeError, tb.pad, batch)
            assert error is not None or result[1].tolist() == [1, 5, 3, 4]
        else:
            with fails(RuntimeError, "pad()", "row 1"):
                tb.pad(batch)
    finally:
        thread.join()


def test_hostile_25_threads_pad_one_list_that_grows():
    """Every result is of one moment of the list, or an error says that it changed."""
    rows = [[1] * 50 for _ in range(50)]
    stop = threading.Event()
    outcomes = []

    def pad():
        while not stop.is_set():
            try:
                result = tb.pad(rows)
                outcomes.append(bool(((result == 1) | (result == 0)).all()))
            except RuntimeError:
                outcomes.append(True)
            except Exception as error:
                outcomes.append(error)

    threads = [threading.Thread(target=pad) for _ in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        rows[25].append(1)
        rows.append([1])
        if len(rows) > 200:
            del rows[100:]
            del rows[25][50:]
    stop.set()
    for thread in threads:
        thread.join()
    assert outcomes
    assert [outcome for outcome in outcomes if outcome is not True] == []


def test_index_that_pads_another_batch():
    inner = []
    row = [1, Index(lambda: inner.append(tb.pad([[7], [8, 9]]))), 3]
    assert tb.pad([row]).tolist() == [[1, 5, 3]]
    assert inner[0].tolist() == [[7, 0], [8, 9]]


def test_index_that_pads_the_batch_it_is_in():
    """Bounded by Python's own recursion limit, not by the C stack."""
    batch = [[1, Index(lambda: tb.pad(batch))]]
    with pytest.raises(RecursionError):
        tb.pad(batch)


def test_index_that_collects_garbage():
    row = [1, Index(gc.collect), 10**9]
    assert tb.pad([row, [2]]).tolist() == [[1, 5, 10**9], [2, 0, 0]]


def test_array_method_that_raises():
    error = LookupError("from __array__")

    class Row:
        def __array__(self, dtype=None, copy=None):
            raise error

    with pytest.raises(LookupError) as caught:
        tb.pad([[1], Row()])
    assert caught.value is error


@pytest.mark.parametrize("value", [None, 5, "ab", [1, 2]], ids=repr)
def test_array_method_that_returns_no_array(value):
    class Row:
        def __array__(self, dtype=None, copy=None):
            return value

    with pytest.raises((TypeError, ValueError)):
        tb.pad([[1], Row()])


def test_array_method_that_clears_the_batch():
    class Row:
        def __array__(self, dtype=None, copy=None):
            batch.clear()
            return np.array([4, 5])

    batch = [[1], Row(), list(range(10**6, 10**6 + 100)), np.arange(100)]
    try:
        result = tb.pad(batch)
    except RuntimeError:
        return
    assert result[:, :3].tolist() == [
        [1, 0, 0],
        [4, 5, 0],
        [10**6, 10**6 + 1, 10**6 + 2],
        [0, 1, 2],
    ]


def test_a_class_that_only_claims_to_be_a_tensor():
    fake = type("Tensor", (), {"__module__": "torch", "shape": (2,), "dtype": "int64"})()
    with fails(TypeError, "pad()", "row 1"):
        tb.pad([[1], fake])

    class Claims:
        __class__ = np.ndarray

    with fails(TypeError, "pad()", "row 1"):
        tb.pad([[1], Claims()])

    class ClaimsList:
        __class__ = list

    with fails(TypeError, "pad()", "row 1"):
        tb.pad([[1], ClaimsList()])


def test_attributes_that_raise_are_not_swallowed_into_a_crash():
    class Row:
        def __getattr__(self, name):
            raise RuntimeError(name)

    with pytest.raises((TypeError, RuntimeError)):
        tb.pad([[1], Row()])


def test_objects_that_cannot_be_printed_are_still_refused():
    class Mute:
        def __repr__(self):
            raise LookupError("repr")

        __str__ = __repr__

    for rows in ([[1], Mute()], [[1, Mute()]]):
        with fails(TypeError, "pad()", "Mute"):
            tb.pad(rows)
    with fails(TypeError, "pad()", "padding_value"):
        tb.pad([[1, 2], [3]], padding_value=Mute())


def test_hostile_37_an_array_that_is_resized_meanwhile():
    """The memory of 8 MiB is given back to the system: a stale pointer is a crash."""
    run_python(
        """
        import numpy as np
        import tightbatch as tb

        class Index:
            def __index__(self):
                for array in arrays:
                    array.resize(1, refcheck=False)
                return 5

        for place in range(3):
            arrays = [np.ones(1 << 20, np.int64) for _ in range(2)]
            rows = list(arrays)
            rows.insert(place, [Index()])
            try:
                tb.pad(rows)
            except (RuntimeError, ValueError):
                pass
            print(place)
        """
    )


RESIZED = """
import numpy as np
import tightbatch as tb

SIZE = 300_000

class Evil:
    def __init__(self, *change):
        self.change = change
    def __index__(self):
        self.change[0](*self.change[1:])
        return 0

def refused(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except (RuntimeError, ValueError) as error:
        assert "changed size" in str(error) or "expected (2,)" in str(error), error
    # or it was read as it was

def arrays(*shape):
    return [np.ones(shape) for _ in range(2)]

a, b = arrays(SIZE)
refused(tb.uniform_length_batching, [a, b], 2, Evil(lambda: a.resize(10, refcheck=False)))
a, b = arrays(100, 3000)
refused(tb.pad, [a, b], padding_value=Evil(lambda: a.resize((100, 2), refcheck=False)))
a, b = arrays(100, 3000)
refused(tb.pad, [a, b, [[Evil(lambda: a.resize((100, 2), refcheck=False))] * 3000]])
a = np.ones((10, 100, 3000))
refused(tb.pad, a, padding_value=Evil(lambda: a.resize((10, 100, 2), refcheck=False)))
print("done")
"""


def test_arrays_resized_by_an_index_are_never_read_past_their_end():
    assert run_python(RESIZED).strip() == "done"


def test_a_tensor_that_lies_about_its_size():
    torch = pytest.importorskip("torch")

    class Odd(torch.Tensor):
        def element_size(self):
            return 0

    odd = torch.arange(3).as_subclass(Odd)
    with fails(TypeError, "pad()", "row 0"):
        tb.pad([odd])
    with fails(TypeError, "pad()", "out"):
        tb.pad([[1, 2, 3]], out=torch.zeros(1, 3, dtype=torch.int64).as_subclass(Odd))
