"""Lists that are nested deeply, contain themselves, or contain one list many times."""

import pytest

import tightbatch as tb
from checks import fails, run_python

HUGE = 2**70  # outside int64: the other numbers decide whether the column may be float32


def inside_itself():
    row = [HUGE]
    row.append(row)
    return row


def deep(depth):
    row = []
    for _ in range(depth):
        row = [row]
    return row


def test_a_list_that_contains_itself_beside_a_number_out_of_range():
    with fails(OverflowError, "pad()", "row 0", "column 0", "outside int64"):
        tb.pad([inside_itself()])
    with fails(OverflowError, "row 1", "column 1"):
        tb.pad([[1], [2, HUGE], inside_itself()])


@pytest.mark.parametrize("place", range(3))
def test_deep_lists_beside_a_number_out_of_range(place):
    rows = [[1], [2]]
    rows.insert(place, [HUGE, deep(300_000)])
    with fails(OverflowError, "pad()", f"row {place}", "column 0"):
        tb.pad(rows)
    rows.append(deep(300_000))
    with fails((OverflowError, ValueError), "PadCollator()"):
        tb.PadCollator(return_tensors="np")(rows)


def test_floats_count_only_where_they_can_stand():
    assert tb.pad([[[HUGE, 1]], [[0.5, 1]]]).dtype == "float32"
    assert tb.pad([[[[HUGE], [1]]], [[[1], [0.5]]]]).dtype == "float32"
    with fails(OverflowError, "row 0", "column 0"):
        tb.pad([[[HUGE, 1]], [[2, 1]]])
    with fails(OverflowError, "row 0", "column 0"):
        tb.pad([[HUGE, [0.5]]])
    assert tb.pad([[HUGE, 0.5]]).dtype == "float32"


class Clears:
    """An integer out of range that empties its list when it is read."""

    def __init__(self, row, reads):
        self.row = row
        self.left = reads

    def __index__(self):
        self.left -= 1
        if self.left <= 0:
            self.row.clear()
        return HUGE


@pytest.mark.parametrize("reads", [1, 2, 3])
@pytest.mark.parametrize("before", [[], [1], [HUGE]])
def test_a_row_that_is_emptied_while_floats_are_looked_for(before, reads):
    row = list(before)
    row += [Clears(row, reads), 5, 6]
    with fails((OverflowError, RuntimeError, ValueError), "pad()", "row 0"):
        tb.pad([row, [7]])


SHARED = """
import signal
import tightbatch as tb

class Stopped(BaseException):
    pass

def stop(*_):
    raise Stopped

def shared(leaf):
    row = [leaf]
    for _ in range(29):
        row = [row, row]
    return [row]

signal.signal(signal.SIGALRM, stop)
for rows, dtype in ((shared(2**70), None), (shared(1), "float32"), (shared(1), "int8")):
    signal.alarm(1)
    try:
        tb.pad(rows, dtype=dtype)
    except Stopped:
        print("stopped")
    signal.alarm(0)
"""


def test_signals_are_answered_while_a_shared_list_is_read():
    """A list that holds one list twice, 29 times over, is 2**29 lists to read."""
    assert run_python(SHARED, timeout=120).split() == ["stopped"] * 3


OUT = """
import numpy as np
import tightbatch as tb

class Act:
    def __init__(self, act):
        self.act = act
    def __index__(self):
        self.act()
        return 7

def refused(rows, **options):
    try:
        tb.pad(rows, **options)
    except (RuntimeError, ValueError) as error:
        print("refused", error)

shape = (2, 300_000)
for size in (0, 10, 10_000_000):
    for front in ([], [1, 2], [np.int64(3)]):
        out = np.zeros(shape, np.int64)
        resize = Act(lambda: out.resize(size, refcheck=False))
        refused([[*front, resize, *range(200_000)], range(300_000)], out=out)
        out = np.zeros((*shape, 1), np.float32)
        nested = [[x] for x in (*front, resize, *range(200_000))]
        refused([nested, [[0.5]] * 300_000], out=out, dtype="float32")
"""


def test_an_out_that_is_resized_while_lists_are_read():
    """It has megabytes, which are given back to the system: a stale pointer is a crash."""
    printed = run_python(OUT).splitlines()
    assert len(printed) == 18
    assert all("pad(): out= " in line for line in printed)


def test_a_tensor_for_out_that_is_replaced_while_lists_are_read():
    torch = pytest.importorskip("torch")

    class Act:
        def __init__(self, act):
            self.act = act

        def __index__(self):
            self.act()
            return 7

    for change in (
        lambda out: out.resize_(1, 1),
        lambda out: out.set_(torch.zeros((2, 3), dtype=torch.int64)),
        lambda out: setattr(out, "data", torch.zeros((2, 3), dtype=torch.int64)),
    ):
        out = torch.zeros((2, 3), dtype=torch.int64)
        with fails(RuntimeError, "pad()", "out= changed size during conversion"):
            tb.pad([[1, Act(lambda: change(out)), 2], [3]], out=out)  # noqa: B023
