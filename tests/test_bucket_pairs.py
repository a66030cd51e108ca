"""Buckets of two lengths: against brute force on tiny inputs, and against simpler choices."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb
from checks import fails

SIZES = {"sum": lambda a, b: a + b, "area": lambda a, b: a * b}


def cost_of(pairs, bounds, size):
    return sum(min(SIZES[size](*b) for b in bounds if p[0] <= b[0] and p[1] <= b[1]) for p in pairs)


def partitions(rows, k):
    """All ways to put rows into at most k sets."""
    if not rows:
        yield []
        return
    for parts in partitions(rows[1:], k):
        for place in range(len(parts)):
            yield [*parts[:place], [rows[0], *parts[place]], *parts[place + 1 :]]
        if len(parts) < k:
            yield [[rows[0]], *parts]


def optimum(pairs, k, size):
    return min(
        sum(
            len(part) * SIZES[size](max(p[0] for p in part), max(p[1] for p in part))
            for part in parts
        )
        for parts in partitions(pairs, k)
    )


def strips(pairs, k, size):
    """The least cost of strips of the first length, each cut along the second."""
    pairs = sorted(pairs)
    n, found = len(pairs), []
    for marks in product([0, 1, 2], repeat=n - 1):  # what ends after a row: nothing or a strip
        if 2 in marks:
            continue
        ends = [place + 1 for place, mark in enumerate(marks) if mark] + [n]
        if any(pairs[end - 1][0] == pairs[end][0] for end in ends[:-1]):
            continue  # a strip holds all rows between its bounds
        parts = [pairs[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        if len(parts) > k:
            continue
        best = {0: 0}
        for part in parts:
            bound = max(p[0] for p in part)
            along = sorted(p[1] for p in part)
            costs = {}
            for cuts in product([0, 1], repeat=len(along) - 1):
                own = [place + 1 for place, cut in enumerate(cuts) if cut] + [len(along)]
                cost = sum(
                    (b - a) * SIZES[size](bound, along[b - 1])
                    for a, b in zip([0, *own], own, strict=False)
                )
                costs[len(own)] = min(costs.get(len(own), cost), cost)
            best = {
                q: min(best[a] + costs[q - a] for a in best if q - a in costs)
                for q in {a + b for a in best for b in costs}
            }
        found += [cost for q, cost in best.items() if q <= k]
    return min(found)


pairs_of = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=6)


@given(pairs_of, st.integers(1, 4), st.sampled_from(["sum", "area"]))
@settings(max_examples=60)
def test_tiny_inputs_against_brute_force(pairs, k, size):
    bounds = tb.bucket_boundaries(pairs, k, size=size)
    assert bounds.dtype == np.int64
    assert 1 <= len(bounds) <= k
    found, best = cost_of(pairs, bounds.tolist(), size), optimum(pairs, k, size)
    assert found >= best
    assert found <= min(strips(pairs, k, size), strips([p[::-1] for p in pairs], k, size))
    if k >= len(set(pairs)):
        assert found == best
    costs = [SIZES[size](*bound) for bound in bounds.tolist()]
    assert costs == sorted(costs)
    groups = tb.bucket_groups(pairs, bounds)
    assert found == sum(costs[group] for group in groups.tolist())
    assert set(groups.tolist()) == set(range(len(bounds)))
    for group, bound in enumerate(bounds.tolist()):
        own = [pair for pair, one in zip(pairs, groups.tolist(), strict=True) if one == group]
        assert bound == [max(pair[0] for pair in own), max(pair[1] for pair in own)]


def test_near_the_optimum():
    rng = np.random.default_rng(0)
    excess = []
    for _ in range(60):
        pairs = [tuple(pair) for pair in rng.integers(1, 40, (7, 2)).tolist()]
        k, size = int(rng.integers(2, 5)), str(rng.choice(["sum", "area"]))
        found = cost_of(pairs, tb.bucket_boundaries(pairs, k, size=size).tolist(), size)
        excess.append(found / optimum(pairs, k, size) - 1)
    assert max(excess) < 0.2
    assert np.mean(excess) < 0.02


def simpler(first, second, k, size):
    """Costs of an own choice of widths for either length, and of buckets of equal counts."""
    grids = []
    for own in (n for n in range(1, k + 1) if k % n == 0):
        a, b = tb.bucket_boundaries(first, own), tb.bucket_boundaries(second, k // own)
        padded = SIZES[size](a[np.searchsorted(a, first)], b[np.searchsorted(b, second)])
        grids.append(int(padded.sum()))
    equal, side = 0, int(k**0.5)
    for part in np.array_split(np.argsort(first, kind="stable"), side):
        for own in np.array_split(part[np.argsort(second[part], kind="stable")], k // side):
            equal += len(own) * int(SIZES[size](first[own].max(), second[own].max()))
    return min(grids), equal


@pytest.mark.parametrize("size", ["sum", "area"])
@pytest.mark.parametrize("k", [4, 16])
def test_less_padding_than_simpler_choices(k, size):
    rng = np.random.default_rng(1)
    first = np.minimum(rng.lognormal(3.5, 0.6, 5000).astype(np.int64) + 1, 512)
    second = np.minimum((first * rng.lognormal(0, 0.35, 5000)).astype(np.int64) + 1, 600)
    pairs = np.stack([first, second], axis=1)
    bounds = tb.bucket_boundaries(pairs, k, size=size)
    assert len(bounds) == k
    padded = int(SIZES[size](*bounds[tb.bucket_groups(pairs, bounds)].T).sum())
    grid, equal = simpler(first, second, k, size)
    assert padded < 0.95 * grid
    assert padded < 0.8 * equal
    assert np.array_equal(tb.bucket_boundaries(pairs, k, size=size), bounds)


def test_more_rows_than_are_drawn():
    rng = np.random.default_rng(2)
    pairs = rng.integers(1, 60, (70_000, 2))
    pairs[12_345] = (999, 7)
    bounds = tb.bucket_boundaries(pairs, 8)
    assert len(bounds) <= 8
    groups = tb.bucket_groups(pairs, bounds)
    assert (pairs <= bounds[groups]).all()
    assert bounds.max() == 999


def test_multiples_and_kinds_of_lengths():
    pairs = [(30, 3), (9, 9), (8, 9)]
    bounds = tb.bucket_boundaries(pairs, 2, pad_to_multiple_of=8)
    assert (bounds % 8 == 0).all()
    assert bounds.tolist() == [[16, 16], [32, 8]]
    for kind in (np.array(pairs), np.array(pairs, np.uint8), [list(pair) for pair in pairs]):
        assert np.array_equal(tb.bucket_boundaries(kind, 2, pad_to_multiple_of=8), bounds)
        assert tb.bucket_groups(kind, bounds).tolist() == [1, 0, 0]
    assert tb.bucket_groups(np.empty((0, 2), int), bounds).tolist() == []
    assert tb.bucket_groups([], bounds).tolist() == []


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 6))
def test_groups_of_one_length(lengths, k):
    widths = tb.bucket_boundaries(lengths, k)
    groups = tb.bucket_groups(lengths, widths)
    for length, group in zip(lengths, groups.tolist(), strict=True):
        assert length <= widths[group]
        assert group == 0 or length > widths[group - 1]


def test_a_sampler_of_shapes():
    rng = np.random.default_rng(4)
    shapes = rng.integers(1, 9, (300, 2)) * 16
    bounds = tb.bucket_boundaries(shapes, 5, size="area")
    groups = tb.bucket_groups(shapes, bounds)
    areas = bounds.prod(axis=1)[groups]
    sampler = tb.LengthBatchSampler(areas, max_tokens=60_000, groups=groups)
    for batch in sampler:
        assert len(set(groups[batch])) == 1
        assert shapes[batch].max(axis=0).prod() * len(batch) <= 60_000


@pytest.mark.parametrize(
    ("lengths", "options", "kind", "parts"),
    [
        ([(1, 2, 3)], {}, ValueError, ["row 0", "3 numbers", "two"]),
        ([(1, 2), (3,)], {}, ValueError, ["row 1", "1 numbers", "two"]),
        (np.empty((0, 2), int), {}, ValueError, ["no rows"]),
        ([(1, 2), (3, -4)], {}, ValueError, ["row 1", "length -4"]),
        ([(1, 2), (3, 4.5)], {}, TypeError, ["bucket_boundaries()"]),
        ([(1, 2), (3, None)], {}, TypeError, ["bucket_boundaries()"]),
        ([(True, False)], {}, TypeError, ["bucket_boundaries()"]),
        ([(2**40, 2**40)], {"size": "area"}, OverflowError, ["1099511627776"]),
        ([(2**62, 2**62)], {}, OverflowError, ["int64"]),
        ([(1, 2)], {"size": "volume"}, ValueError, ["size='volume'"]),
        ([(1, 2)], {"k": 0}, ValueError, ["k=0"]),
        ([(1, 2)], {"pad_to_multiple_of": 0}, ValueError, ["pad_to_multiple_of=0"]),
        ([(1, 2)], {"return_waste": True}, ValueError, ["return_waste=True"]),
        ([1, 2], {"size": "area"}, ValueError, ["size='area'", "one length"]),
    ],
)
def test_errors(lengths, options, kind, parts):
    with fails(kind, "bucket_boundaries()", *parts):
        tb.bucket_boundaries(lengths, **{"k": 2, **options})


@pytest.mark.parametrize(
    ("lengths", "boundaries", "kind", "parts"),
    [
        ([(1, 2), (9, 1)], [(8, 8)], ValueError, ["row 1", "9 and 1"]),
        ([1, 9], [8], ValueError, ["row 1", "no bucket holds 9"]),
        ([1, -1], [8], ValueError, ["row 1", "-1 is negative"]),
        ([(1, -1)], [(8, 8)], ValueError, ["row 0", "-1 is negative"]),
        ([1, 2], [(8, 8)], ValueError, ["two lengths a row"]),
        ([(1, 2)], [8, 9], ValueError, ["two lengths a row"]),
        ([1], [8, 8], ValueError, ["boundaries"]),
        ([1], [], ValueError, ["boundaries"]),
        ([1.5], [8], TypeError, ["bucket_groups()"]),
    ],
)
def test_groups_errors(lengths, boundaries, kind, parts):
    with fails(kind, "bucket_groups()", *parts):
        tb.bucket_groups(lengths, boundaries)
