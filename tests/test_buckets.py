"""tb.bucket_boundaries against every other choice, and against a plain dynamic programme."""

import gc
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tightbatch as tb
from checks import assert_same, checked, fails, run_python
from conftest import SANITIZED
from reference_buckets import padded_tokens, plain_dp, round_up, try_all

FEW = st.lists(st.integers(0, 12), min_size=1, max_size=14)
MANY = st.lists(st.integers(0, 10**9) | st.integers(0, 90), min_size=1, max_size=80)
MULTIPLES = st.none() | st.integers(1, 9) | st.sampled_from([64, 2**33])
INT64_MAX = 2**63 - 1


def choose(lengths, k, **options):
    return checked(tb.bucket_boundaries, lengths, k, **options)


# The optimum


@given(FEW, st.integers(1, 9), st.none() | st.integers(1, 5))
def test_no_other_choice_is_better(lengths, k, multiple):
    expected = try_all(lengths, k, multiple)
    boundaries = choose(lengths, k, pad_to_multiple_of=multiple)
    assert_same(boundaries, expected, np.int64)


@given(MANY, st.integers(1, 12), MULTIPLES)
def test_plain_dynamic_programme(lengths, k, multiple):
    boundaries, waste = choose(lengths, k, pad_to_multiple_of=multiple, return_waste=True)
    expected = plain_dp(lengths, k, multiple)
    assert_same(boundaries, expected[0], np.int64)
    assert_same(waste, expected[1], np.int64)
    alone = choose(lengths, k, pad_to_multiple_of=multiple)
    assert alone.tolist() == boundaries.tolist()


@given(MANY, st.integers(1, 12), MULTIPLES)
def test_what_is_promised(lengths, k, multiple):
    boundaries, waste = choose(lengths, k, pad_to_multiple_of=multiple, return_waste=True)
    assert len(boundaries) == min(k, len({round_up(n, multiple) for n in lengths}))
    assert (np.diff(boundaries) > 0).all()
    assert boundaries[-1] == round_up(max(lengths), multiple)
    assert (boundaries % (multiple or 1) == 0).all()
    assert (np.diff(waste) < 0).all()
    assert waste[-1] == padded_tokens(lengths, boundaries.tolist()) - sum(lengths)
    for fewer in range(1, len(boundaries)):
        part, curve = choose(lengths, fewer, pad_to_multiple_of=multiple, return_waste=True)
        assert curve.tolist() == waste[:fewer].tolist()
        assert padded_tokens(lengths, part.tolist()) - sum(lengths) == waste[fewer - 1]


@given(MANY, st.integers(1, 12), st.randoms())
def test_order_does_not_matter(lengths, k, random):
    shuffled = random.sample(lengths, len(lengths))
    assert choose(lengths, k).tolist() == choose(shuffled, k).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_hundreds_of_widths(seed):
    """Long queues, with lines dropped at both ends; table and sort alike."""
    rng = np.random.default_rng(seed)
    spread = [rng.integers(0, 400, 900), rng.lognormal(5, 1, 900), rng.geometric(0.01, 900)][
        seed % 3
    ].astype(np.int64)
    expected = plain_dp(spread.tolist(), 9)
    for scale in (1, 2**20):
        boundaries, waste = choose(spread * scale, 9, return_waste=True)
        assert boundaries.tolist() == [b * scale for b in expected[0]]
        assert waste.tolist() == [w * scale for w in expected[1]]


def test_equally_good_choices_have_smaller_boundaries():
    # 1, 2, 3 in two buckets: {1, 3} and {2, 3} both waste one token.
    assert choose([1, 2, 3], 2).tolist() == [1, 3]
    assert choose([4, 3, 2, 1], 2).tolist() == [2, 4]
    assert choose(range(1, 7), 4).tolist() == list(try_all(range(1, 7), 4))


@pytest.mark.parametrize("k", [3, 4, 100, 2**40, INT64_MAX])
def test_more_buckets_than_widths(k):
    boundaries, waste = choose([7, 3, 3, 5], k, return_waste=True)
    assert boundaries.tolist() == [3, 5, 7]
    assert waste.tolist() == [10, 2, 0]
    boundaries, waste = choose([7, 3, 3, 5], k, pad_to_multiple_of=4, return_waste=True)
    assert boundaries.tolist() == [4, 8]
    assert waste.tolist() == [14, 6]


def test_rows_without_tokens():
    """They count as any others: their boundary may be 0, or that of longer rows."""
    assert_same(choose([0], 1), [0], np.int64)
    boundaries, waste = choose([0, 0, 0], 4, pad_to_multiple_of=8, return_waste=True)
    assert (boundaries.tolist(), waste.tolist()) == ([0], [0])
    assert choose([0, 0, 9], 2, pad_to_multiple_of=8).tolist() == [0, 16]
    assert choose([0, 8, 9], 2).tolist() == [0, 9]
    assert choose([0, 1, 9, 9, 9], 2).tolist() == [1, 9]


def test_one_bucket_is_the_longest():
    lengths = [5, 9, 2]
    assert choose(lengths, 1).tolist() == [9]
    assert choose(lengths, 1, pad_to_multiple_of=10).tolist() == [10]


# What lengths may be


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", ">u8"])
def test_lengths_of_any_integer_type(dtype):
    lengths = [5, 3, 100, 3, 0, 7, 3]
    array = np.array(lengths, dtype=dtype)
    for given_lengths in (array, array.repeat(3)[::3], array[::-1].copy()[::-1]):
        assert choose(given_lengths, 2).tolist() == [7, 100]


def test_lengths_of_other_kinds():
    torch = pytest.importorskip("torch")
    read_only = np.arange(5)
    read_only.flags.writeable = False
    for lengths in ((0, 1, 2, 3, 4), range(5), torch.arange(5), torch.arange(5).int(), read_only):
        assert choose(lengths, 5).tolist() == [0, 1, 2, 3, 4]


def test_lengths_of_rows():
    rows = [[1, 2, 3], [4], [5, 6, 7]]
    assert choose(tb.lengths(rows), 2).tolist() == [1, 3]


# Large numbers and memory


@pytest.mark.parametrize("longest", [2**40, 2**60, INT64_MAX // 4])
def test_few_rows_that_are_long(longest):
    lengths = [longest, 1, longest - 5, 3]
    tracemalloc.start()
    try:
        boundaries, waste = tb.bucket_boundaries(lengths, 2, return_waste=True)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert boundaries.tolist() == [3, longest]
    assert waste.tolist() == [2 * longest + 1, 7]


@pytest.mark.parametrize(
    ("lengths", "multiple", "parts"),
    [
        ([1, INT64_MAX], None, ["row 1", "2 rows", f"length {INT64_MAX}", "tokens", "int64"]),
        ([1, 2**62, 2**62], None, ["row 1", "3 rows", f"length {2**62}"]),
        ([INT64_MAX - 2], 8, ["row 0", "1 rows", "multiple of 8"]),
        ([INT64_MAX // 2, 1], 2**40, ["row 0", "2 rows", f"multiple of {2**40}"]),
        ([1, 1], INT64_MAX, ["row 0", "2 rows", f"multiple of {INT64_MAX}"]),
    ],
)
def test_more_tokens_than_can_be_counted(lengths, multiple, parts):
    with fails(OverflowError, "bucket_boundaries()", *parts):
        choose(lengths, 2, pad_to_multiple_of=multiple)


def test_as_many_tokens_as_can_be_counted():
    assert choose([INT64_MAX], 3).tolist() == [INT64_MAX]
    assert choose([3], 3, pad_to_multiple_of=INT64_MAX).tolist() == [INT64_MAX]
    assert choose([0], 3, pad_to_multiple_of=INT64_MAX).tolist() == [0]
    most = INT64_MAX // 3
    boundaries, waste = choose([most, 0, most - 1], 2, return_waste=True)
    assert boundaries.tolist() == [0, most]
    assert waste.tolist() == [3 * most - (2 * most - 1), 1]


def test_no_memory_is_kept():
    lengths = np.random.default_rng(0).integers(0, 3000, 5000)

    def grown(calls):
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(calls):
            tb.bucket_boundaries(lengths, 50, return_waste=True)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        grown(5)
        assert grown(100) < 100 * 50 * 8  # one array of two kept would be that much
    finally:
        tracemalloc.stop()


# What is refused


@pytest.mark.parametrize(
    ("lengths", "kind", "parts"),
    [
        ([], ValueError, ["no rows"]),
        (np.zeros(0, np.int64), ValueError, ["no rows"]),
        ([4, 2, 7, -1], ValueError, ["row 3", "-1"]),
        (np.array([4, -2, -1]), ValueError, ["row 1", "-2"]),
        (np.array([4, 2**62, -(2**63)]), ValueError, ["row 2", -(2**63)]),
        ([4, 2.0], TypeError, ["row 1", "2.0"]),
        ([4, math.nan], TypeError, ["row 1", "nan"]),
        (np.array([4.0, math.nan]), TypeError, ["row 0", "float64"]),
        ([4, True], TypeError, ["row 1", "bool"]),
        ((False, 3), TypeError, ["row 0", "bool"]),
        ([4, np.bool_(True)], TypeError, ["row 1", "bool"]),
        (np.array([True, False]), TypeError, ["bools"]),
        ([4, "2"], TypeError, ["row 1"]),
        ([4, None], TypeError, ["row 1"]),
        (np.ones((2, 2, 2), np.int64), TypeError, ["dimensions"]),
        (np.ones((2, 3), np.int64), ValueError, ["row 0", "3 numbers"]),
        (7, TypeError, ["7"]),
        (None, TypeError, ["None"]),
        ([4, 2**63], OverflowError, ["row 1"]),
        (np.array([4, 2**63], np.uint64), OverflowError, ["row 1"]),
        (np.ma.array([4, 2], mask=[0, 1]), TypeError, ["masked"]),
    ],
)
def test_wrong_lengths(lengths, kind, parts):
    with fails(kind, "bucket_boundaries()", *parts):
        choose(lengths, 2)


def test_bools_in_a_tensor():
    torch = pytest.importorskip("torch")
    with fails(TypeError, "bucket_boundaries()", "bools"):
        choose(torch.tensor([True, False]), 2)


@pytest.mark.parametrize(
    ("k", "options", "kind", "parts"),
    [
        (0, {}, ValueError, ["k=0", "at least 1"]),
        (-2, {}, ValueError, ["k=-2"]),
        (True, {}, TypeError, ["k=True"]),
        (2.0, {}, TypeError, ["k=2.0"]),
        (None, {}, TypeError, ["k=None"]),
        (2**63, {}, OverflowError, [f"k={2**63}"]),
        (2, {"pad_to_multiple_of": 0}, ValueError, ["pad_to_multiple_of=0"]),
        (2, {"pad_to_multiple_of": -8}, ValueError, ["pad_to_multiple_of=-8"]),
        (2, {"pad_to_multiple_of": 8.0}, TypeError, ["pad_to_multiple_of=8.0"]),
    ],
)
def test_wrong_options(k, options, kind, parts):
    with fails(kind, "bucket_boundaries()", *parts):
        choose([3, 1, 2], k, **options)


# Very many boundaries: not all cuts are held at once


def test_many_boundaries_of_many_widths():
    lengths = np.arange(6000) ** 2
    k = 3000
    boundaries, waste = tb.bucket_boundaries(lengths, k, return_waste=True)
    assert len(boundaries) == k
    assert boundaries[-1] == lengths[-1]
    tokens = boundaries[np.searchsorted(boundaries, lengths)].sum()
    assert tokens - lengths.sum() == waste[-1]
    assert tb.bucket_boundaries(lengths, k).tolist() == boundaries.tolist()
    # Of a prefix of the widths these are the best boundaries too.
    end = boundaries[100]
    alone = tb.bucket_boundaries(lengths[lengths <= end], 101)
    assert alone.tolist() == boundaries[:101].tolist()


STOPPED = """
import resource
import signal
import tightbatch as tb

class Stopped(BaseException):
    pass

def stop(*_):
    raise Stopped

resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
signal.signal(signal.SIGALRM, stop)
signal.alarm(1)
try:
    tb.bucket_boundaries(range(200_000), 100_000)
except Stopped:
    print("stopped")
"""


@pytest.mark.skipif(SANITIZED, reason="AddressSanitizer takes memory of its own")
def test_signals_are_answered_and_memory_is_bounded():
    """All cuts would be 80 GB. One GiB is far more than it takes."""
    pytest.importorskip("resource")
    assert run_python(STOPPED, timeout=120).strip() == "stopped"
