"""Several limits: hard caps that all hold, plans that stay plans, bounds that are true."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb
from checks import checked, fails


def breaks(rows, limits):
    """The first limit that a batch breaks, in plain Python; None where all hold."""
    for name, (costs, cap, *padded) in limits.items():
        own = [int(costs[row]) for row in rows]
        if (len(own) * max(own) if padded and padded[0] else sum(own)) > cap:
            return name
    return None


def caps_of(lengths, limits, *, max_tokens=None, batch_size=None, padding_free=False):
    """All caps of a sampler as limits."""
    found = dict(limits)
    if max_tokens is not None:
        tokens = np.asarray(lengths) if padding_free else np.maximum(lengths, 1)
        found["tokens"] = (tokens, max_tokens, not padding_free)
    if batch_size is not None:
        found["rows"] = (np.ones(len(lengths), int), batch_size)
    return found


def check_batches(batches, rows, limits):
    """Every row exactly once, and no batch breaks a limit or is empty."""
    assert sorted(row for batch in batches for row in batch) == list(rows)
    for batch in batches:
        assert batch
        assert breaks(batch, limits) is None


@st.composite
def problems(draw, most=40):
    """Lengths, and limits that every row alone keeps."""
    n = draw(st.integers(1, most))
    lengths = draw(st.lists(st.integers(0, 30), min_size=n, max_size=n))
    limits = {}
    for name in draw(st.lists(st.sampled_from("abc"), unique=True, min_size=1)):
        costs = draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
        cap = draw(st.integers(max(costs), 40))
        limits[name] = tb.Limit(costs, cap, draw(st.booleans()))
    return lengths, limits


@settings(max_examples=150, deadline=None)
@given(problem=problems(), data=st.data())
def test_every_cap_of_every_batch_holds(problem, data):
    lengths, limits = problem
    options = {
        "max_tokens": data.draw(st.none() | st.integers(31, 120)),
        "batch_size": data.draw(st.none() | st.integers(1, 6)),
        "padding_free": data.draw(st.booleans()),
    }
    more = {"strategy": "best_fit"} if data.draw(st.booleans()) else {}
    ranks = data.draw(st.integers(1, min(3, len(lengths))))
    samplers = [
        tb.LengthBatchSampler(
            lengths,
            **options,
            **more,
            limits=limits,
            shuffle=data.draw(st.booleans()) if ranks == 1 else True,
            longest_first=ranks == 2,
            num_replicas=ranks,
            rank=rank,
        )
        for rank in range(ranks)
    ]
    caps = caps_of(lengths, limits, **options)
    for _ in range(2):
        steps = [len(sampler) for sampler in samplers]
        repeated = samplers[0].repeated
        given_out = [list(sampler) for sampler in samplers]
        assert [len(batches) for batches in given_out] == steps == steps[:1] * ranks
        batches = [batch for own in given_out for batch in own]
        if not repeated:
            check_batches(batches, range(len(lengths)), caps)


@settings(max_examples=60, deadline=None)
@given(problem=problems(), data=st.data())
def test_plans_continue_where_they_were_saved(problem, data):
    lengths, limits = problem
    padding_free = data.draw(st.booleans())

    def make():
        return tb.LengthBatchSampler(
            lengths, max_tokens=60, limits=limits, seed=3, padding_free=padding_free
        )

    sampler = make()
    batches = iter(sampler)
    done = [next(batches) for _ in range(data.draw(st.integers(0, len(sampler))))]
    state = json.loads(json.dumps(sampler.state_dict()))
    other = pickle.loads(pickle.dumps(make()))
    other.load_state_dict(state)
    check_batches(done + list(other), range(len(lengths)), limits)


def test_states_of_other_limits_are_refused():
    lengths, images = [5, 4, 3, 2], [1, 2, 0, 1]

    def make(costs=images, cap=3, padded=False, name="images"):
        return tb.LengthBatchSampler(
            lengths, max_tokens=20, limits={name: tb.Limit(costs, cap, padded)}
        )

    state = make().state_dict()
    make().load_state_dict(state)
    for other in (make(cap=4), make(padded=True), make(name="pixels")):
        with fails(ValueError, "load_state_dict", "limits=", "same settings"):
            other.load_state_dict(state)
    with fails(ValueError, "load_state_dict", "limits="):
        tb.LengthBatchSampler(lengths, max_tokens=20).load_state_dict(state)
    with fails(ValueError, "load_state_dict", "other lengths"):
        make(costs=[1, 2, 1, 0]).load_state_dict(state)


def test_the_tail_keeps_the_caps_on_all_ranks():
    rng = np.random.default_rng(5)
    lengths, images = rng.integers(1, 50, 97), rng.integers(0, 3, 97)
    limits = {"images": (images, 4), "squares": (lengths**2, 5000)}
    given_out, ranks = [], 5
    for rank in range(ranks):
        sampler = tb.LengthBatchSampler(
            lengths, max_tokens=200, limits=limits, num_replicas=ranks, rank=rank
        )
        given_out.append(list(sampler))
    assert len({len(batches) for batches in given_out}) == 1
    caps = caps_of(lengths, limits, max_tokens=200)
    check_batches([batch for own in given_out for batch in own], range(97), caps)


def test_rows_of_like_length_still_share_batches():
    rng = np.random.default_rng(1)
    lengths = np.minimum(rng.lognormal(5.0, 0.6, 20_000).astype(np.int64), 512)
    images = rng.integers(0, 4, len(lengths)) * (rng.random(len(lengths)) < 0.4)

    def waste(**options):
        batches = list(tb.LengthBatchSampler(lengths, max_tokens=8192, **options))
        width = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
        return 1 - lengths.sum() / width, len(batches)

    plain, count = waste()
    capped, more = waste(limits={"images": (images, 60)})
    assert capped < plain + 0.01
    assert more <= count * 1.02


def test_a_limit_on_lengths_is_max_tokens():
    lengths = np.random.default_rng(2).integers(1, 60, 500)
    limits = {"tokens": tb.Limit(lengths, 300, padded=True)}
    sampler = tb.LengthBatchSampler(lengths, limits=limits, shuffle=False)
    assert list(sampler) == list(tb.LengthBatchSampler(lengths, max_tokens=300, shuffle=False))


# Packs


def first_fit_decreasing(sizes, caps):
    """How many packs first fit makes, in plain NumPy: the scarcest limit's largest rows first."""
    parts = [size.sum() / cap if cap else 0 for size, cap in zip(sizes, caps, strict=True)]
    order = np.argsort(-sizes[int(np.argmax(parts))], kind="stable")
    needs, rooms = np.stack(sizes, 1), np.empty((0, len(caps)), np.int64)
    for row in order:
        fits = (rooms >= needs[row]).all(axis=1)
        if not fits.any():
            rooms = np.vstack([rooms, caps])
            fits = np.append(fits, True)
        rooms[fits.argmax()] -= needs[row]
    return len(rooms)


@settings(max_examples=150, deadline=None)
@given(problem=problems(60), data=st.data())
def test_never_more_packs_than_first_fit_decreasing(problem, data):
    lengths, limits = problem
    limits = {name: (np.array(costs), cap) for name, (costs, cap, _) in limits.items()}
    options = {"strategy": "best_fit"} if data.draw(st.booleans()) else {}
    if not options and data.draw(st.booleans()):
        options = {"pool_size": data.draw(st.integers(1, 20))}
    seed = data.draw(st.none() | st.integers(0, 5))
    packing = tb.pack(lengths, 40, limits=limits, seed=seed, **options)
    check_batches(list(packing), range(len(lengths)), {**limits, "tokens": (lengths, 40)})
    sizes = [np.array(lengths), *(costs for costs, _ in limits.values())]
    most = first_fit_decreasing(sizes, np.array([40, *(cap for _, cap in limits.values())]))
    assert packing.lower_bound <= len(packing) <= most
    if options.get("strategy"):
        assert len(packing) == most


def find_optimum(n, limits):
    """The least number of packs, by trying every way."""
    best = n

    def place(row, packs):
        nonlocal best
        if len(packs) >= best:
            return
        if row == n:
            best = len(packs)
            return
        for pack in packs:
            if breaks([*pack, row], limits) is None:
                pack.append(row)
                place(row + 1, packs)
                pack.pop()
        place(row + 1, [*packs, [row]])

    place(0, [])
    return best


@settings(max_examples=150, deadline=None)
@given(problem=problems(7))
def test_the_bound_is_true(problem):
    lengths, limits = problem
    packing = tb.pack(lengths, 45, limits=limits)
    caps = {**limits, "tokens": (lengths, 45)}
    check_batches(list(packing), range(len(lengths)), caps)
    assert packing.lower_bound <= find_optimum(len(lengths), caps) <= len(packing)


def test_packs_are_fair_where_that_costs_no_pack():
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.lognormal(5.3, 1.0, 20_000).astype(np.int64), 4096)
    images = rng.integers(0, 6, len(lengths)) * (rng.random(len(lengths)) < 0.4)
    packing = tb.pack(lengths, 8192, limits={"images": (images, 40)})
    assert len(packing) <= packing.lower_bound * 1.005
    fairness = packing.fairness()
    assert fairness.plan.length_std < 1.5 * fairness.random.length_std


def test_fairness_needs_a_cap_of_its_own():
    limits = {"images": ([1, 1, 1, 1], 2)}
    with fails(ValueError, "fairness", "limits=", "max_tokens="):
        tb.LengthBatchSampler([3] * 4, limits=limits).fairness()
    assert tb.LengthBatchSampler([3] * 4, limits=limits, batch_size=3).fairness().plan.batches == 2


def test_fill_and_repr():
    limits = {"images": ([1, 0, 2, 1], 2), "pixels": tb.Limit([4, 1, 2, 4], 8, padded=True)}
    packing = tb.pack([3, 3, 3, 3], 6, limits=limits, seed=None)
    assert sorted(map(sorted, packing)) == [[0, 3], [1, 2]]
    assert packing.fill == {"tokens": 1.0, "images": 1.0, "pixels": 0.75}
    assert "images 100.00 %, pixels 75.00 %" in repr(packing)
    assert "images" in repr(tb.LengthBatchSampler([3, 3], limits={"images": ([1, 1], 1)}))
    assert tb.pack([], 6, limits={"images": ([], 2)}).fill == {"tokens": 1.0, "images": 1.0}


def test_large_costs_do_not_overflow():
    most = 2**62
    limits = {"squares": ([most, most, most, 1], most + 1), "b": tb.Limit([most] * 4, most, True)}
    for padding_free in (False, True):
        sampler = tb.LengthBatchSampler(
            [1] * 4, max_tokens=9, limits={"squares": limits["squares"]}, padding_free=padding_free
        )
        check_batches(list(sampler), range(4), {"squares": limits["squares"]})
        sampler = tb.LengthBatchSampler([1] * 4, limits=limits, padding_free=padding_free)
        assert len(list(sampler)) == 4


# What is refused


LENGTHS = [4, 3, 2]


@pytest.mark.parametrize(
    ("limits", "kind", "parts"),
    [
        ({"images": ([1, -2, 0], 3)}, ValueError, ["row 1", "cost -2", "'images'"]),
        ({"images": ([1, np.nan, 0], 3)}, TypeError, ["'images'", "row 1", "nan"]),
        ({"images": ([1, True, 0], 3)}, TypeError, ["'images'", "row 1", "True"]),
        ({"images": ([1, None, 0], 3)}, TypeError, ["'images'", "row 1"]),
        ({"images": (np.ones((3, 2), int), 3)}, TypeError, ["'images'", "dimensions"]),
        ({"images": ([1, 2**63, 0], 3)}, OverflowError, ["'images'", "row 1"]),
        ({"images": ([1, 2], 3)}, ValueError, ["'images'", "2 costs", "expected 3"]),
        ({"images": ([1, 2, 5], 4)}, ValueError, ["row 2", "cost 5", "limits['images']=4"]),
        ({"images": ([0, 1, 0], 0)}, ValueError, ["row 1", "cost 1", "limits['images']=0"]),
        ({"images": ([1, 2, 3], -1)}, ValueError, ["cap of limits['images']=-1"]),
        ({"images": ([1, 2, 3], True)}, TypeError, ["cap of limits['images']=True"]),
        ({"images": ([1, 2, 3], 2.5)}, TypeError, ["cap of limits['images']=2.5"]),
        ({"images": ([1, 2, 3], 2**63)}, OverflowError, ["cap of limits['images']"]),
        ({"images": ([1, 2, 3], 4, 1)}, TypeError, ["padded of limits['images']=1"]),
        ({"images": [1, 2, 3, 4]}, TypeError, ["limits['images']=", "Limit(costs, cap"]),
        ({"images": 4}, TypeError, ["limits['images']=4"]),
        ({3: ([1, 2, 3], 4)}, TypeError, ["key 3"]),
        ([([1, 2, 3], 4)], TypeError, ["limits=", "dict"]),
        ({str(k): ([1, 2, 3], 4) for k in range(31)}, ValueError, ["31 limits", "30"]),
    ],
)
@pytest.mark.parametrize("function", ["LengthBatchSampler", "pack"])
def test_wrong_limits(function, limits, kind, parts):
    own = {"max_tokens": 8} if function == "LengthBatchSampler" else {"capacity": 8}
    with fails(kind, function, *parts):
        checked(getattr(tb, function), LENGTHS, **own, limits=limits)


def test_overlong_rows_of_a_limit():
    limits = {"images": ([1, 5, 1], 4)}
    sampler = tb.LengthBatchSampler(LENGTHS, max_tokens=8, limits=limits, overlong="drop")
    assert (sorted(row for batch in sampler for row in batch), sampler.dropped) == ([0, 2], 1)
    packing = tb.pack(LENGTHS, 9, limits=limits, overlong="drop", seed=None)
    assert (list(packing), packing.dropped) == ([[0, 2]], 1)
    packing = tb.pack([12, 3, 20, 2], 9, limits={"images": ([1, 5, 1, 1], 4)}, overlong="drop")
    assert (list(packing), packing.dropped) == ([[3]], 3)
    for overlong in ("error", "truncate"):
        with fails(ValueError, "LengthBatchSampler", "row 1", "'truncate' shortens rows"):
            tb.LengthBatchSampler(LENGTHS, max_tokens=8, limits=limits, overlong=overlong)
    with fails(ValueError, "pack", "overlong='split'", "row 0", "no cost of its own"):
        tb.pack([12, 3, 2], 9, limits={"images": ([1, 1, 1], 4)}, overlong="split")


def test_no_cap_at_all():
    with fails(ValueError, "LengthBatchSampler", "limits="):
        tb.LengthBatchSampler(LENGTHS, limits={})
    assert list(tb.LengthBatchSampler(LENGTHS, limits={"a": ([0, 0, 0], 0)})) != []
    assert len(tb.LengthBatchSampler([], limits={"a": ([], 0)})) == 0


def test_costs_are_copied():
    costs = np.array([1, 1, 1])
    sampler = tb.LengthBatchSampler(LENGTHS, limits={"a": (costs, 1)})
    costs[:] = 0
    assert len(sampler) == 3
    assert not sampler.limits["a"].costs.flags.writeable


# Two lengths a row


def check_pairs(batches, pairs, cap, *, multiple=1, padding_free=False):
    widths = -(-np.asarray(pairs) // multiple) * multiple
    for batch in batches:
        own = widths[batch]
        assert (own.sum() if padding_free else len(batch) * own.max(axis=0).sum()) <= cap


@settings(max_examples=100, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=40),
    multiple=st.sampled_from([None, 8]),
    padding_free=st.booleans(),
    batch_size=st.none() | st.integers(1, 5),
    cap=st.integers(48, 200),
)
def test_source_and_target_are_both_padded(pairs, multiple, padding_free, batch_size, cap):
    sampler = tb.LengthBatchSampler(
        pairs,
        max_tokens=cap,
        batch_size=batch_size,
        pad_to_multiple_of=multiple,
        padding_free=padding_free,
    )
    batches = list(sampler)
    check_batches(batches, range(len(pairs)), {})
    check_pairs(batches, pairs, cap, multiple=multiple or 1, padding_free=padding_free)
    assert max(map(len, batches)) <= (batch_size or 40)


def test_pairs_have_less_padding_than_sorting_by_one_number():
    rng = np.random.default_rng(3)
    source, noise = rng.normal(size=(2, 20_000))
    target = 0.8 * source + 0.6 * noise
    pairs = np.exp(3.4 + 0.7 * np.stack([source, target], 1)).astype(np.int64).clip(1, 1000)

    def waste(lengths):
        batches = list(tb.LengthBatchSampler(lengths, max_tokens=4096))
        filled = sum(len(batch) * int(pairs[batch].max(axis=0).sum()) for batch in batches)
        return 1 - pairs.sum() / filled

    assert waste(pairs) < 0.16 < 0.3 < waste(pairs.sum(axis=1)) < waste(pairs[:, 0])


def test_max_length_of_each_side():
    pairs = [(9, 2), (3, 8), (4, 4)]
    options = {"max_tokens": 10, "shuffle": False}
    with fails(ValueError, "LengthBatchSampler", "row 0", "9 and 2", "max_length=(source, target)"):
        tb.LengthBatchSampler(pairs, **options)
    sampler = tb.LengthBatchSampler(pairs, **options, max_length=(4, 5))
    assert (sampler.max_length, sampler.truncated, len(sampler)) == ([4, 5], 2, 3)
    assert tb.LengthBatchSampler(pairs, **options, max_length=5).truncated == 2
    assert (
        tb.LengthBatchSampler(pairs, **options, max_length=(None, 5), overlong="drop").dropped == 1
    )
    sampler.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
    with fails(ValueError, "load_state_dict", "max_length"):
        tb.LengthBatchSampler(pairs, **options, max_length=(4, 6)).load_state_dict(
            sampler.state_dict()
        )


@pytest.mark.parametrize(
    ("options", "kind", "parts"),
    [
        ({"boundaries": [8]}, ValueError, ["boundaries=", "two sides"]),
        ({"quadratic_length": 8}, ValueError, ["quadratic_length=", "two sides", "limits="]),
        ({"overlong": "truncate"}, ValueError, ["'truncate'", "max_length=(source, target)"]),
        ({"max_length": (1, 2, 3)}, ValueError, ["max_length=(1, 2, 3)"]),
        ({"max_length": (1, 0)}, ValueError, ["max_length=0"]),
        ({"max_length": (1, True)}, TypeError, ["max_length=True"]),
    ],
)
def test_what_pairs_cannot_have(options, kind, parts):
    with fails(kind, "LengthBatchSampler", *parts):
        tb.LengthBatchSampler([(1, 2)], max_tokens=20, **options)
    with fails(TypeError, "LengthBatchSampler", "max_length=(1, 2)", "one length"):
        tb.LengthBatchSampler([1, 2], max_tokens=20, max_length=(1, 2))


def test_pairs_as_arrays_lists_and_tensors():
    torch = pytest.importorskip("torch")
    pairs = np.random.default_rng(0).integers(1, 9, (50, 2))
    wanted = list(tb.LengthBatchSampler(pairs, max_tokens=60))
    for other in (pairs.tolist(), pairs.astype(np.uint8), torch.from_numpy(pairs), list(pairs)):
        assert list(tb.LengthBatchSampler(other, max_tokens=60)) == wanted


# Multiples of rows


@settings(max_examples=80, deadline=None)
@given(problem=problems(), multiple=st.integers(2, 5), data=st.data())
def test_full_batches_have_a_multiple_of_rows(problem, multiple, data):
    lengths, limits = problem
    limits = limits if data.draw(st.booleans()) else {}
    options = {"max_tokens": data.draw(st.integers(31, 120))}
    sampler = tb.LengthBatchSampler(
        lengths, **options, limits=limits, batch_size_multiple=multiple, shuffle=False
    )
    batches = list(sampler)
    caps = caps_of(lengths, limits, **options)
    check_batches(batches, range(len(lengths)), caps)
    for batch in batches[:-1]:
        assert len(batch) % multiple == 0 or len(batch) < multiple


def test_multiples_and_other_settings():
    lengths = np.random.default_rng(0).integers(1, 60, 1000)
    options = {"batch_size_multiple": 8, "batch_size": 30}
    assert {len(batch) for batch in tb.LengthBatchSampler(lengths, **options)} == {24, 16}
    kept = tb.LengthBatchSampler(lengths, **options, drop_last=True)
    assert ({len(batch) for batch in kept}, kept.dropped) == ({24}, 1000 % 24)
    for rank in range(3):
        free = tb.LengthBatchSampler(
            lengths, **options, padding_free=True, num_replicas=3, rank=rank, drop_last=True
        )
        assert {len(batch) for batch in free} == {24}
    with fails(ValueError, "LengthBatchSampler", "batch_size_multiple=8", "batch_size=4"):
        tb.LengthBatchSampler(lengths, batch_size=4, batch_size_multiple=8)
    with fails(ValueError, "LengthBatchSampler", "batch_size_multiple=8", "packs"):
        tb.LengthBatchSampler(lengths, max_tokens=99, padding_free=True, batch_size_multiple=8)
    state = kept.state_dict()
    with fails(ValueError, "load_state_dict", "batch_size_multiple=8"):
        tb.LengthBatchSampler(lengths, batch_size=30, drop_last=True).load_state_dict(state)


def test_costs_near_the_end_of_int64():
    for rows in (2, 3, 4):
        packing = tb.pack([1] * rows, 1, limits={"x": ([2**62] * rows, 2**62)}, seed=None)
        assert packing.fill["x"] == 1.0
        padded = tb.Limit([2**62] * rows, 2**62, padded=True)
        assert tb.pack([1] * rows, 1, limits={"x": padded}, seed=None).fill["x"] == 1.0


@pytest.mark.parametrize("length", [2**63 - 1, 2**62])
@pytest.mark.parametrize("options", [{"max_tokens": 100}, {"batch_size": 2}])
@pytest.mark.parametrize("multiple", [None, 8])
def test_pairs_near_the_end_of_int64_are_named(length, options, multiple):
    for padding_free in (False, True):
        with pytest.raises((OverflowError, ValueError), match=r"row 0: lengths? "):
            tb.LengthBatchSampler(
                np.array([[length] * 2, [1, 1]]),
                pad_to_multiple_of=multiple,
                padding_free=padding_free,
                **options,
            )


# Groups


@settings(max_examples=100, deadline=None)
@given(problem=problems(), data=st.data())
def test_batches_of_one_group_keep_every_cap(problem, data):
    lengths, limits = problem
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(lengths), max_size=len(lengths)))
    options = {
        "max_tokens": data.draw(st.none() | st.integers(31, 120)),
        "batch_size": data.draw(st.none() | st.integers(1, 6)),
        "padding_free": data.draw(st.booleans()),
        "overlong": data.draw(st.sampled_from(["error", "drop"])),
        "shuffle": data.draw(st.booleans()),
        "drop_last": data.draw(st.booleans()),
        "strategy": data.draw(st.sampled_from(["pool", "best_fit"])),
    }
    if options["overlong"] == "drop":  # some rows are too costly by themselves
        limits = {name: limit._replace(cap=limit.cap // 2) for name, limit in limits.items()}
    weighed = data.draw(st.booleans())
    if weighed:
        options["group_weights"] = {label: label + 1 for label in set(labels)}
    kept = [row for row in range(len(lengths)) if breaks([row], limits) is None]
    if weighed and not kept:
        with fails(ValueError, "have no rows"):
            tb.LengthBatchSampler(lengths, limits=limits, groups=labels, **options)
        return
    sampler = tb.LengthBatchSampler(lengths, limits=limits, groups=labels, **options)
    names = ("max_tokens", "batch_size", "padding_free")
    caps = caps_of(lengths, limits, **{name: options[name] for name in names})
    for _ in range(2):
        counted = len(sampler)
        batches = list(sampler)
        assert len(batches) == counted
        found = [row for batch in batches for row in batch]
        if not weighed and not options["drop_last"]:
            assert sorted(found) == kept
        assert set(found) <= set(kept)
        for batch in batches:
            assert len({labels[row] for row in batch}) == 1
            assert breaks(batch, caps) is None


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=60),
    padding_free=st.booleans(),
    batch_size=st.none() | st.integers(1, 6),
    data=st.data(),
)
def test_groups_of_pairs(pairs, padding_free, batch_size, data):
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(pairs), max_size=len(pairs)))
    sampler = tb.LengthBatchSampler(
        pairs,
        groups=labels,
        max_tokens=96,
        batch_size=batch_size,
        padding_free=padding_free,
        longest_first=data.draw(st.booleans()),
    )
    for _ in range(2):
        batches = list(sampler)
        check_pairs(batches, pairs, 96, padding_free=padding_free)
        assert all(len({labels[row] for row in batch}) == 1 for batch in batches)
        assert all(len(batch) <= (batch_size or len(batch)) for batch in batches)


def test_a_group_alone_is_the_plan_without_groups_in_its_batches():
    """One group: the same caps, as many batches, and as much of the scarce limit in each."""
    rng = np.random.default_rng(0)
    lengths, images = rng.integers(1, 100, 2000), rng.integers(0, 4, 2000)
    for padding_free in (False, True):
        options = {"max_tokens": 2000, "limits": {"a": (images, 30)}, "padding_free": padding_free}
        plain = len(tb.LengthBatchSampler(lengths, **options))
        grouped = len(tb.LengthBatchSampler(lengths, **options, groups=[0] * 2000))
        assert abs(grouped - plain) <= 0.02 * plain


def test_multiples_of_rows_in_groups():
    labels = [row % 3 for row in range(100)]
    for more in ({}, {"limits": {"a": ([1] * 100, 19)}}):
        sampler = tb.LengthBatchSampler(
            [5] * 100, max_tokens=100, batch_size_multiple=8, groups=labels, **more
        )
        sizes = sorted(len(batch) for batch in sampler)
        assert sum(sizes) == 100
        assert sum(size % 8 != 0 for size in sizes) <= 3  # the last of each group
        dropped = tb.LengthBatchSampler(
            [5] * 100,
            max_tokens=100,
            batch_size_multiple=8,
            groups=labels,
            drop_last=True,
            **more,
        )
        assert all(len(batch) % 8 == 0 for batch in dropped)


def test_groups_take_no_schedule():
    with fails(ValueError, "LengthBatchSampler", "groups="):
        tb.LengthBatchSampler([1, 2], groups=[0, 1], max_tokens={0: 4, 10: 8})
