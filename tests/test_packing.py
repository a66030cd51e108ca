"""tb.pack and Packing against plain Python: which rows share a pack, and the packs' tokens."""

import hashlib
import itertools
import pickle
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import reference_batching as reference
import tightbatch as tb
from checks import assert_same, checked, run_python
from conftest import SANITIZED
from reference_batching import NO_CAP, draw_lengths

CAPACITIES = sorted({1, 2, 3} | {2**k + d for k in (6, 7, 12, 33) for d in (-1, 0, 1)})


def segments_of(lengths, capacity, overlong):
    """(row, start, length) of what is packed, in order of row."""
    for row, length in enumerate(lengths):
        if length <= capacity:
            yield row, 0, length
        elif overlong == "truncate":
            yield row, 0, capacity
        elif overlong == "split":
            for start in range(0, length, capacity):
                yield row, start, min(capacity, length - start)


def packed(
    lengths,
    capacity,
    overlong="error",
    max_segments=None,
    strategy="pool",
    pool_size="auto",
    seed=0,
    shuffle_window=None,
):
    """Packs as lists of (row, start, length)."""
    segments = list(segments_of(lengths, capacity, overlong))
    if pool_size == "auto":
        pool_size = 8192
    packs = reference.plan(
        [length for _, _, length in segments],
        batch_size=max_segments,
        max_tokens=capacity,
        padding_free=True,
        shuffle=seed is not None,
        shuffle_window=shuffle_window,
        pool_size=pool_size if strategy == "pool" else None,
        balance=1,
        seed=seed or 0,
    )
    return [[segments[i] for i in pack] for pack in packs]


def packs_of(packing):
    """The same of a Packing."""
    found = zip(
        packing.indices.tolist(), packing.starts.tolist(), packing.lengths.tolist(), strict=True
    )
    ends = packing.offsets.tolist()
    found = list(found)
    return [found[begin:end] for begin, end in itertools.pairwise(ends)]


def fewest_packs(lengths, capacity, max_segments):
    """By trying everything: rows one after another, each into any pack or a new one."""

    def fewest(rest, rooms, best):
        if len(rooms) >= best:
            return best
        if not rest:
            return len(rooms)
        for k, (room, free) in enumerate(rooms):
            if room >= rest[0] and free and (room, free) not in rooms[:k]:
                more = [*rooms[:k], (room - rest[0], free - 1), *rooms[k + 1 :]]
                best = fewest(rest[1:], more, best)
        begun = [*rooms, (capacity - rest[0], (max_segments or len(lengths)) - 1)]
        return fewest(rest[1:], begun, best)

    return fewest(sorted(lengths, reverse=True), [], len(lengths) + 1)


def joined(rows, packing):
    """The packs' tokens, by slices of lists."""
    return [
        [item for row, start, length in pack for item in rows[row][start : start + length]]
        for pack in packs_of(packing)
    ]


@st.composite
def cases(draw):
    capacity = draw(st.sampled_from(CAPACITIES) | st.integers(1, 50))
    overlong = draw(st.sampled_from(["error", "truncate", "split", "drop"]))
    most = capacity if overlong == "error" else min(5 * capacity, 2**40)
    length = st.integers(0, most) | st.integers(0, min(most, 3)) | st.integers(most // 4, most // 2)
    options = {
        "overlong": overlong,
        "max_segments": draw(st.none() | st.integers(1, 6)),
        "strategy": draw(st.sampled_from(["pool", "best_fit"])),
        "seed": draw(st.none() | st.integers(0, 2**64 - 1)),
    }
    if options["strategy"] == "pool":
        options["pool_size"] = draw(st.just("auto") | st.integers(1, 100))
    elif options["seed"] is not None:
        options["shuffle_window"] = draw(st.none() | st.integers(1, 100))
    return draw(st.lists(length, max_size=100)), capacity, options


# The plan


@settings(max_examples=300)
@given(cases())
@example(([], 1, {}))
@example(([0, 0, 0], 1, {}))
@example(([0] * 9 + [5], 5, {"max_segments": 4, "seed": 1}))
@example(([7, 1, 14, 0, 20], 7, {"overlong": "split"}))
def test_packs_are_the_references(case):
    lengths, capacity, options = case
    packing = checked(tb.pack, lengths, capacity, **options)
    packs = packed(lengths, capacity, **options)
    assert packs_of(packing) == packs
    assert list(packing) == [[row for row, _, _ in pack] for pack in packs]
    assert [packing[k] for k in range(-len(packs), 0)] == list(packing)


@given(cases())
def test_what_packs_promise(case):
    lengths, capacity, options = case
    overlong, max_segments = options["overlong"], options["max_segments"]
    packing = tb.pack(lengths, capacity, **options)
    wanted = list(segments_of(lengths, capacity, overlong))
    packs = packs_of(packing)
    assert Counter(itertools.chain(*packs)) == Counter(wanted)
    assert all(packs)
    totals = [sum(length for _, _, length in pack) for pack in packs]
    assert max(totals, default=0) <= capacity
    assert max(map(len, packs), default=0) <= (max_segments or NO_CAP)
    over = [length for length in lengths if length > capacity]
    assert packing.truncated == (sum(over) - capacity * len(over)) * (overlong == "truncate")
    assert packing.dropped == len(over) * (overlong == "drop")
    assert len(packing) == len(packs)
    assert (packing.capacity, packing.max_segments) == (capacity, max_segments)
    assert packing.row_lengths.tolist() == lengths
    assert packing.pack_lengths.tolist() == totals
    assert packing.seq_lengths.tolist() == [
        [length for _, _, length in pack if length] for pack in packs
    ]
    assert packing.efficiency == (sum(totals) / (len(packs) * capacity) if packs else 1.0)
    assert packing.lower_bound <= len(packs)
    assert packing.lower_bound >= -(-sum(totals) // capacity)
    assert packing.lower_bound >= (
        -(-len(wanted) // max_segments) if max_segments else bool(wanted)
    )


@settings(max_examples=150)
@given(st.lists(st.integers(0, 12), max_size=8), st.integers(1, 12), st.none() | st.integers(1, 3))
@example([6, 6, 4, 4, 4], 12, None)
@example([7, 6, 5, 5, 4, 3, 2, 1], 11, None)
def test_bounds_of_tiny_packings(lengths, capacity, max_segments):
    options = {"overlong": "truncate", "max_segments": max_segments}
    packing = tb.pack(lengths, capacity, **options)
    optimum = fewest_packs(packing.lengths.tolist(), capacity, max_segments)
    assert packing.lower_bound <= optimum <= len(packing)
    packing = tb.pack(lengths, capacity, strategy="best_fit", **options)
    assert optimum <= len(packing)
    if max_segments is None:
        assert 9 * len(packing) <= 11 * optimum + 9 * bool(lengths)


def test_lower_bound_of_rows_that_share_with_none():
    assert tb.pack([6] * 10, 10).lower_bound == 10
    assert tb.pack([7, 7, 4, 4], 10).lower_bound == 3
    assert tb.pack([5] * 7, 10).lower_bound == 4
    assert tb.pack([1] * 7, 10, max_segments=2).lower_bound == 4
    assert tb.pack([0, 0], 10).lower_bound == 1
    assert tb.pack([], 10).lower_bound == 0


def test_types_of_what_a_packing_holds():
    packing = tb.pack([5, 2, 13, 1], 6, overlong="split", strategy="best_fit", seed=None)
    assert_same(packing.indices, [2, 2, 0, 2, 1, 3], np.int64)
    assert_same(packing.starts, [0, 6, 0, 12, 0, 0], np.int64)
    assert_same(packing.lengths, [6, 6, 5, 1, 2, 1], np.int64)
    assert_same(packing.offsets, [0, 1, 2, 4, 6], np.int64)
    assert_same(packing.row_lengths, [5, 2, 13, 1], np.int64)
    assert_same(packing.pack_lengths, [6, 6, 6, 3], np.int64)
    assert_same(tb.pack([5, 2], 6, seed=None).starts, [0, 0], np.int64)
    assert repr(packing) == "<Packing of 4 rows into 4 packs of 6: 87.50 % full>"


def test_lengths_are_copied():
    lengths = np.array([3, 2, 1])
    packing = tb.pack(lengths, 5, seed=None)
    lengths[:] = 9
    assert packing.row_lengths.tolist() == [3, 2, 1]
    assert packing.seq_lengths.tolist() == [[3, 2], [1]]


def test_lengths_of_any_kind():
    torch = pytest.importorskip("torch")
    wanted = list(tb.pack([4, 0, 2, 3], 5))
    for lengths in (
        (4, 0, 2, 3),
        np.array([4, 0, 2, 3], np.uint8),
        np.array([4, 9, 0, 9, 2, 9, 3, 9], ">i4")[::2],
        torch.tensor([4, 0, 2, 3], dtype=torch.int32),
        tb.Ragged.from_sequences([[1, 2, 3, 4], [], [1, 2], [1, 2, 3]]).lengths,
    ):
        assert list(checked(tb.pack, lengths, np.int32(5))) == wanted


def test_ten_million_rows_of_one_length():
    """All ties: each row finds its pack, and each pack its rows, without a search."""
    lengths = np.full(10_000_000, 128, np.int32)
    packing = tb.pack(lengths, 2048)
    assert len(packing) == packing.lower_bound == 625_000
    packing = tb.pack(lengths, 2048, strategy="best_fit", seed=None)
    assert len(packing) == packing.lower_bound == 625_000
    assert set(np.diff(packing.offsets)) == {16}
    np.testing.assert_array_equal(packing.indices, np.arange(10_000_000))


def test_lengths_beyond_32_bits():
    lengths = [2**40, 2**33 + 1, 7, 2**31, 2**40 - 2**33 - 1, 0]
    packing = tb.pack(lengths, 2**40, seed=3)
    assert packs_of(packing) == packed(lengths, 2**40, seed=3)
    assert packing.lower_bound == 3
    packing = tb.pack([2**61, 2**60, 2**60], 2**61, seed=None)
    assert packs_of(packing) == [[(0, 0, 2**61)], [(1, 0, 2**60), (2, 0, 2**60)]]
    assert (packing.efficiency, packing.lower_bound) == (1.0, 2)
    assert packing.pack_lengths.tolist() == [2**61, 2**61]
    packing = tb.pack([2**62, 2**61, 3], 2**60, overlong="split", seed=None)
    assert packing.pack_lengths.tolist() == [2**60] * 6 + [3]
    packing = tb.pack([2**62, 2**62 - 5, 3], 5, overlong="truncate")
    assert packing.truncated == 2**63 - 15
    assert list(tb.pack([3, 1], 2**63 - 2, seed=None)) == [[0, 1]]
    assert sorted(tb.pack([3, 1], 2**63 - 2, seed=1)[0]) == [0, 1]


@pytest.mark.parametrize("capacity", [2**20 + 7, 2**42, 2**50 - 1])
def test_packs_of_many_different_rooms(capacity):
    """Each room is a path of its own through the tree of rooms, which has to grow."""
    rng = np.random.default_rng(capacity)
    lengths = rng.integers(0, capacity // 2, 1500)
    for options in ({}, {"strategy": "best_fit"}):
        packing = tb.pack(lengths, capacity, seed=None, **options)
        assert packs_of(packing) == packed(lengths.tolist(), capacity, seed=None, **options)
    assert len(set((capacity - packing.pack_lengths).tolist())) > 100


PLANS = {
    "14ba3f7b118275e7dc19c8238b8d9be5deb76a3369eb3bd7f4401ba452ebcdfd": {},
    "f1326d71b07ccf5d308071082ef26b34346934f300f9d63d444d1d52459d1a9d": {"max_segments": 7},
    "5dd5e768113c3b3556c5053fb208cca021f5acd98fc1083615896c5e1a447053": {"seed": 2**64 - 1},
    "4e7bf8470409ca888449da4a726c4ba8b3d8319d67021bcd044676097be4abb2": {
        "capacity": 301,
        "overlong": "split",
        "strategy": "best_fit",
        "seed": 5,
        "shuffle_window": 700,
    },
}


@pytest.mark.parametrize("digest", PLANS)
def test_plan_never_changes(digest):
    """The same plan on every platform and in every release."""
    words = reference.Random(11, 0)
    lengths = [words.word() % 23 * (words.word() % 23) for _ in range(5000)]
    packing = tb.pack(lengths, **{"capacity": 484, **PLANS[digest]})
    parts = packing.indices, packing.starts, packing.lengths, packing.offsets
    found = hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in parts))
    assert found.hexdigest() == digest


# With a seed


def rank_correlation(values):
    """Spearman's, of values with their places, ties in the order of places at random."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(values))
    ranks = np.empty(len(values))
    ranks[order[np.argsort(values[order], kind="stable")]] = np.arange(len(values))
    return np.corrcoef(ranks, np.arange(len(values)))[0, 1]


@pytest.mark.parametrize("strategy", ["pool", "best_fit"])
def test_packs_with_a_seed_are_in_no_order_of_length(strategy):
    lengths = np.sort(draw_lengths(200_000))
    packing = tb.pack(lengths, 2048, strategy=strategy)
    whole = tb.pack(lengths, 2048, strategy=strategy, seed=None)
    means = packing.pack_lengths / np.diff(packing.offsets)
    # Nearly 17,000 packs: chance alone stays below 4 / sqrt(17,000) = 0.03.
    assert abs(rank_correlation(means[:-1])) < 0.03
    assert abs(rank_correlation(whole.pack_lengths / np.diff(whole.offsets))) > 0.9
    assert packing.efficiency > 0.999
    assert sorted(packing.indices.tolist()) == list(range(200_000))


@pytest.mark.parametrize("options", [{}, {"strategy": "best_fit"}])
def test_seeds_differ_and_repeat(options):
    lengths = draw_lengths(3000)
    plans = [list(tb.pack(lengths, 1024, seed=seed, **options)) for seed in (0, 1, 2**64 - 1)]
    assert plans[0] != plans[1] != plans[2] != plans[0]
    assert list(tb.pack(lengths, 1024, seed=1, **options)) == plans[1]
    assert list(tb.pack(lengths, 1024, **options)) == plans[0]
    other = {"shuffle_window": 7} if options else {"pool_size": 7}
    assert list(tb.pack(lengths, 1024, seed=1, **options, **other)) != plans[1]


def test_its_repr_shows_what_differs_from_the_default():
    assert repr(tb.pack([4], 4)) == "<Packing of 1 row into 1 pack of 4: 100.00 % full>"
    assert repr(tb.pack([3, 3, 9], 6, overlong="drop", max_segments=2)) == (
        "<Packing of 3 rows into 1 pack of 6: 100.00 % full, max_segments=2, dropped=1>"
    )
    assert repr(tb.pack([9], 6, overlong="truncate")).endswith("100.00 % full, truncated=3>")


# The tokens


VALUES = {
    "int64": lambda n: np.arange(n) * 10**12,
    "int32": lambda n: np.arange(n, dtype=np.int32),
    "uint8": lambda n: np.arange(n).astype(np.uint8),
    "bool": lambda n: np.arange(n) % 3 == 0,
    "float32": lambda n: np.arange(n, dtype=np.float32) / 7,
    "float16": lambda n: np.arange(n).astype(np.float16),
    "float64": lambda n: np.sqrt(np.arange(n)),
    "features": lambda n: np.arange(n * 80, dtype=np.float32).reshape(n, 80),
    "planes": lambda n: np.arange(n * 6, dtype=np.int16).reshape(n, 2, 3),
}
WAYS = [{}, {"overlong": "split"}, {"overlong": "truncate"}, {"overlong": "drop"}, {"seed": 4}]


def options_of(way):
    return (50 if way.get("overlong", "error") == "error" else 17), way


def make_ragged(kind, rows=60):
    lengths = draw_lengths(rows, seed=5) % 51
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return tb.Ragged(VALUES[kind](int(offsets[-1])), offsets)


def check_apply(ragged, way):
    capacity, options = options_of(way)
    packing = tb.pack(ragged.lengths, capacity, **options)
    before = ragged.tolist()
    result = packing.apply(ragged)
    assert isinstance(result, tb.Ragged)
    assert result.tolist() == joined(before, packing)
    assert (result.dtype, result.trailing) == (ragged.dtype, ragged.trailing)
    assert result.lengths.tolist() == packing.pack_lengths.tolist()
    assert result.starts.tolist() == (np.cumsum(packing.pack_lengths) - result.lengths).tolist()
    assert len(result.values) == packing.lengths.sum()
    assert not np.shares_memory(result.values, ragged.values)
    assert ragged.tolist() == before


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", VALUES)
def test_tokens_of_packs(kind, way):
    check_apply(make_ragged(kind), way)


@pytest.mark.parametrize("way", WAYS)
def test_tokens_of_chosen_rows(way):
    ragged = make_ragged("int32")
    rng = np.random.default_rng(0)
    for rows in (
        ragged[10:50],
        ragged[::-3],
        ragged[rng.permutation(60)],
        ragged[[5, 5, 5, 0]],
        ragged[ragged.lengths > 20],
        tb.Ragged.concatenate([ragged[40:], ragged, ragged[:3]]),
        tb.Ragged(np.arange(30), [20, 0, 5, 25], lengths=[10, 17, 0, 5]),
    ):
        check_apply(rows, way)


@pytest.mark.parametrize("way", WAYS)
def test_tokens_of_arrow_chunks(way):
    pa = pytest.importorskip("pyarrow")
    rows = make_ragged("int32").tolist()
    parts = [rows[:7], [], rows[7:8], rows[8:]]
    chunks = pa.chunked_array(parts, type=pa.list_(pa.int32()))
    check_apply(tb.Ragged.from_arrow(chunks), way)
    check_apply(tb.Ragged.from_arrow(chunks.slice(3, 40)), way)
    check_apply(tb.Ragged.from_arrow(chunks)[5:][::-2], way)
    bools = pa.chunked_array([[[i % 2 == 0 for i in row] for row in part] for part in parts])
    check_apply(tb.Ragged.from_arrow(bools), way)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_rows_without_tokens(lengths):
    rows = tb.Ragged.from_sequences([[] for _ in lengths], dtype=np.int32)
    packing = tb.pack(lengths, 3, max_segments=2)
    result = packing.apply(rows)
    assert result.tolist() == [[]] * len(packing)
    assert result.dtype == np.int32
    assert len(packing.lengths) == len(lengths)
    assert packing.seq_lengths.lengths.sum() == sum(length > 0 for length in lengths)
    assert packing.efficiency == (0.0 if lengths else 1.0)
    assert packing.pack_lengths.tolist() == [0] * len(packing)


def test_nothing_is_left():
    packing = tb.pack([5, 6], 4, overlong="drop")
    assert (len(packing), list(packing), packing.dropped) == (0, [], 2)
    assert packing.apply(tb.Ragged(np.arange(11), [0, 5, 11])).tolist() == []
    assert (packing.efficiency, packing.lower_bound) == (1.0, 0)


def test_columns_of_the_same_lengths_stay_together():
    ids = make_ragged("int32")
    labels = tb.Ragged(-ids.values, np.concatenate([[0], np.cumsum(ids.lengths)]))
    for way in WAYS:
        capacity, options = options_of(way)
        packing = tb.pack(ids.lengths, capacity, **options)
        packed_ids, packed_labels = packing.apply(ids), packing.apply(labels)
        np.testing.assert_array_equal(packed_ids.values, -packed_labels.values)
        assert packed_ids.lengths.tolist() == packed_labels.lengths.tolist()


def test_unpickling():
    ragged = make_ragged("int32")
    for way in WAYS:
        capacity, options = options_of(way)
        packing = tb.pack(ragged.lengths, capacity, **options)
        fresh = pickle.loads(pickle.dumps(packing))
        assert packs_of(packing) == packs_of(fresh)
        again = pickle.loads(pickle.dumps(packing))  # with what was looked up
        for other in (fresh, again):
            assert packs_of(other) == packs_of(packing)
            assert repr(other) == repr(packing)
            assert other.truncated == packing.truncated
            assert other.apply(ragged) == packing.apply(ragged)


# Memory


PEAK = """
import gc, resource
import numpy as np
import tightbatch as tb

rng = np.random.default_rng(0)
rows = 1_000_000
lengths = np.clip(rng.lognormal(4.9, 0.8, rows).astype(np.int64), 1, 2048)
tb.pack(lengths[:1000], 2048)

def peak():
    # What is freed lowers the resident set, never its peak. The peak of getrusage would be that
    # of the process that started this one, if that is higher.
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

# The peak so far may be above what is resident now: fill the gap, to see what comes on top.
ballast = np.ones(max(peak() - resident(), 0) // 8 + 1)
gc.collect()
before = peak()
packing = tb.pack(lengths, 2048)
above = peak() - before
result = sum(getattr(packing, name).nbytes for name in ("offsets", "row_lengths", "indices"))
print((above - result) / rows)
"""


def test_memory_of_a_plan():
    """The planner's own: 8 bytes a row for items, 8 to sort them, 4 for packs; packs are few."""
    pytest.importorskip("resource")
    if not sys.platform.startswith("linux") or SANITIZED:
        pytest.skip("reads Linux's figures, of an ordinary allocator")
    assert 4 < float(run_python(PEAK)) < 24
