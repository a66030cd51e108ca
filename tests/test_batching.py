"""What a plan promises: the reference's batches, every row once, caps kept, chance that is fair."""

import hashlib
import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_batching as reference
from checks import checked
from reference_batching import NO_CAP, draw_lengths, plan_of, plan_settings
from tightbatch import _core
from tightbatch.sampling.sampler import LengthBatchSampler


def width_of(lengths, batch, max_length=None, multiple=None):
    longest = max(min(int(lengths[row]), max_length or NO_CAP) for row in batch)
    return reference.round_up(longest, multiple or 1)


def padded_size(lengths, batches):
    return sum(len(batch) * int(max(lengths[row] for row in batch)) for batch in batches)


def cost_of(length, options):
    multiple, quadratic = options["pad_to_multiple_of"] or 1, options["quadratic_length"]
    packed, widths = options["padding_free"], options["boundaries"]
    return reference.find_cost(length, multiple, quadratic, packed, widths)


# The plan


@st.composite
def cases(draw):
    lengths = draw(st.lists(st.integers(0, 40), max_size=150))
    options = {
        "max_length": draw(st.none() | st.integers(1, 50)),
        "pad_to_multiple_of": draw(st.none() | st.integers(1, 12)),
        "batch_size": draw(st.none() | st.integers(1, 20)),
        "shuffle": draw(st.booleans()),
        "shuffle_window": draw(st.none() | st.integers(1, 200) | st.just("auto")),
        "seed": draw(st.integers(0, 2**64 - 1)),
        "drop_last": draw(st.booleans()),
        "padding_free": draw(st.booleans()),
        "quadratic_length": draw(st.none() | st.integers(1, 100)),
        "balance": draw(st.sampled_from([None, 1, 2, 3, 16])),
        "longest_first": draw(st.booleans()),
        "overlong": draw(st.sampled_from(["error", "truncate", "drop"])),
    }
    longest = max([min(length, options["max_length"] or NO_CAP) for length in lengths] or [0])
    options["boundaries"] = None
    if not options["padding_free"] and draw(st.booleans()):
        last = 1 if options["overlong"] == "truncate" else max(longest, 1)
        last = draw(st.integers(1, 50)) if options["overlong"] == "drop" else last
        widths = draw(st.sets(st.integers(0, 60), max_size=5)) | {last}
        options["boundaries"] = tuple(sorted(widths))
        longest = min(longest, max(widths))  # longer rows are cut or left out
    most = max(cost_of(longest, options), 1)
    least = 1 if options["overlong"] == "drop" else most
    if options["overlong"] == "truncate":
        least = max(cost_of(1, options), 1)
    some = st.integers(least, 8 * max(least, most))
    options["max_tokens"] = draw(some if options["batch_size"] is None else st.none() | some)
    if options["padding_free"] and options["max_tokens"]:
        options["strategy"] = draw(st.sampled_from(["pool", "best_fit"]))
        if options["strategy"] == "pool":
            options["shuffle_window"] = "auto"
            options["pool_size"] = draw(st.just("auto") | st.integers(1, 40))
    return lengths, options


@given(cases(), st.integers(0, 2**63 - 1))
def test_plan_is_the_reference(case, epoch):
    lengths, options = case
    sampler = checked(LengthBatchSampler, lengths, **options)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert batches == plan_of(sampler, lengths, epoch)
    assert all(type(batch) is list for batch in batches)
    assert all(type(row) is int for batch in batches for row in batch)


@given(cases())
def test_every_index_once_within_the_caps(case):
    lengths, options = case
    sampler = LengthBatchSampler(lengths, **options)
    dropped, length, batches = sampler.dropped, len(sampler), list(sampler)
    counts = Counter(row for batch in batches for row in batch)
    assert set(counts.values()) <= {1}
    assert len(batches) == length
    assert len(lengths) - len(counts) == dropped
    assert dropped == 0 or options["drop_last"] or options["overlong"] == "drop"
    rows_cap, tokens_cap = options["batch_size"] or NO_CAP, options["max_tokens"] or NO_CAP
    for number, batch in enumerate(batches):
        assert batch
        assert len(batch) <= rows_cap
        clipped = [min(lengths[row], sampler.max_length or NO_CAP) for row in batch]
        if options["padding_free"]:
            assert sum(cost_of(one, options) for one in clipped) <= tokens_cap
            continue
        cost = cost_of(max(clipped), options)
        assert len(batch) * cost <= tokens_cap
        is_full = len(batch) == rows_cap or (len(batch) + 1) * cost > tokens_cap
        assert is_full or (number == length - 1 and not options["drop_last"])


@pytest.mark.parametrize("window", [1, 7, 33, 1000, None])
@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 2**33])
def test_long_lengths_take_several_passes(window, scale):
    lengths = (np.random.default_rng(1).integers(0, 3000, 1000) * scale).tolist()
    sampler = LengthBatchSampler(lengths, batch_size=16, shuffle_window=window, seed=3)
    assert list(sampler) == plan_of(sampler, lengths)
    sampler = LengthBatchSampler(
        lengths, max_tokens=20000 * scale, shuffle_window=window, seed=3, pad_to_multiple_of=64
    )
    assert list(sampler) == plan_of(sampler, lengths)


def test_plan_never_changes():
    """The same plan on every platform and in every release: a resumed run depends on it."""
    words = reference.Random(11, 0)
    lengths = np.array([words.word() % 23 * (words.word() % 23) for _ in range(5000)], np.int64)
    settings = plan_settings(
        max_tokens=4096, max_length=500, pad_to_multiple_of=8, shuffle_window=700, seed=2**64 - 1
    )
    indices, offsets = _core.plan_batches("test", lengths, settings, 7)
    digest = hashlib.sha256(indices.astype("<i8").tobytes() + offsets.astype("<i8").tobytes())
    assert digest.hexdigest() == (
        "4b719e593f1705f9621e94aaf39ae280f68d8686bc5b8d276cba2e182869d162"
    )


def test_without_shuffle_longest_first_and_stable():
    lengths = [5, 3, 9, 3, 7, 3]
    sampler = LengthBatchSampler(lengths, batch_size=2, shuffle=False, shuffle_window=1, seed=8)
    assert list(sampler) == list(sampler) == [[2, 4], [0, 1], [3, 5]]
    assert sampler.epoch == 2


def test_tail_comes_last():
    for seed in range(20):
        sizes = [len(b) for b in LengthBatchSampler(range(1, 42), batch_size=8, seed=seed)]
        assert sizes == [8, 8, 8, 8, 8, 1]


def test_max_tokens_leaves_no_room():
    # 3 rows of 4 in 12, then 12 // 3 = 4 rows of 3, ...
    lengths = [3, 4, 3, 4, 1, 3, 4, 3]
    sampler = LengthBatchSampler(lengths, max_tokens=12, shuffle=False)
    assert list(sampler) == [[1, 3, 6], [0, 2, 5, 7], [4]]
    assert list(LengthBatchSampler(lengths, max_tokens=12, batch_size=3, shuffle=False)) == [
        [1, 3, 6],
        [0, 2, 5],
        [7, 4],
    ]
    assert list(LengthBatchSampler([3, 4, 3], max_tokens=8, max_length=3, shuffle=False)) == [
        [0, 1],
        [2],
    ]
    with_multiple = LengthBatchSampler([5, 4, 3], max_tokens=16, pad_to_multiple_of=8)
    assert sorted(map(len, with_multiple)) == [1, 2]


def test_empty_rows_are_kept_and_capped():
    assert list(LengthBatchSampler([0, 0, 0, 0, 0], max_tokens=2, shuffle=False)) == [
        [0, 1],
        [2, 3],
        [4],
    ]
    sampler = LengthBatchSampler([0, 7, 0], batch_size=2)
    assert sorted(row for batch in sampler for row in batch) == [0, 1, 2]


@pytest.mark.parametrize("empty", [[], (), np.zeros(0, np.int64), np.zeros(0, np.uint8)])
@pytest.mark.parametrize("options", [{"batch_size": 3}, {"max_tokens": 3, "drop_last": True}])
def test_no_rows_make_an_empty_sampler(empty, options):
    sampler = LengthBatchSampler(empty, **options)
    assert (len(sampler), sampler.dropped, list(sampler)) == (0, 0, [])
    assert list(LengthBatchSampler(empty, shuffle_window=None, shuffle=False, **options)) == []


def test_one_row():
    assert list(LengthBatchSampler([2**62], batch_size=3)) == [[0]]
    assert list(LengthBatchSampler([2**62], max_tokens=2**62)) == [[0]]


def test_drop_last_counts_what_it_drops():
    lengths = draw_lengths(1003)
    sampler = LengthBatchSampler(lengths, batch_size=10, drop_last=True)
    assert (sampler.dropped, len(sampler)) == (3, 100)
    assert {len(batch) for batch in sampler} == {10}
    everything = LengthBatchSampler([1, 2], batch_size=3, drop_last=True)
    assert (everything.dropped, len(everything), list(everything)) == (2, 0, [])
    assert LengthBatchSampler(lengths, batch_size=10).dropped == 0


@pytest.mark.parametrize("window", ["auto", None])
def test_drop_last_drops_by_chance_not_by_length(window):
    lengths = list(range(1, 32))
    sampler = LengthBatchSampler(lengths, batch_size=8, drop_last=True, shuffle_window=window)
    missing = Counter()
    for _ in range(400):
        missing.update(set(range(31)) - {row for batch in sampler for row in batch})
    # 7 of 31 rows an epoch: about 90 times in 400 epochs, each row; 5 standard deviations.
    assert len(missing) == 31
    assert all(48 < times < 132 for times in missing.values())


# Chance


def test_every_order_is_as_likely():
    orders = Counter(
        tuple(batch[0] for batch in LengthBatchSampler([1, 1, 1, 1], batch_size=1, seed=seed))
        for seed in range(4800)
    )
    assert len(orders) == 24
    assert all(130 < times < 270 for times in orders.values())  # 200 and 5 standard deviations


def test_every_place_is_as_likely_past_a_block():
    # One batch of ties shows the order in which rows were shuffled.
    sampler = LengthBatchSampler([1] * 70, batch_size=70)
    places = np.zeros((70, 70))
    for _ in range(7000):
        places[np.arange(70), next(iter(sampler))] += 1
        sampler.set_epoch(sampler.epoch + 1)
    chi_square = ((places - 100) ** 2 / 100).sum()
    # 69 * 69 degrees of freedom: 5 standard deviations.
    assert abs(chi_square - 69**2) < 5 * math.sqrt(2 * 69**2)


def test_ties_mix_in_one_window():
    lengths = np.repeat([3, 5], 500)
    sampler = LengthBatchSampler(lengths, batch_size=10, shuffle_window=None)
    first = {frozenset(batch) for batch in sampler}
    second = {frozenset(batch) for batch in sampler}
    assert padded_size(lengths, first) == lengths.sum()
    assert not first & second


def test_seed_and_epoch_choose_the_order():
    lengths = draw_lengths(500)
    plans = []
    for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1), (2**64 - 1, 0), (0, 2**63 - 1)]:
        sampler = LengthBatchSampler(lengths, batch_size=5, seed=seed)
        sampler.set_epoch(epoch)
        plans.append(list(sampler))
        again = LengthBatchSampler(lengths.tolist(), batch_size=5, seed=np.uint64(seed))
        again.set_epoch(epoch)
        assert list(again) == plans[-1]
    assert all(a != b for a, b in itertools.combinations(plans, 2))


# Padding


@pytest.mark.parametrize("batch_size", [8, 32, 64])
def test_no_more_padding_than_transformers(batch_size):
    torch = pytest.importorskip("torch")
    trainer = pytest.importorskip("transformers.trainer_pt_utils")
    lengths = draw_lengths(20000)
    plain = lengths.tolist()
    window = max(min(len(plain) // (batch_size * 4), 50), 1) * batch_size
    ours = theirs = 0
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        order = iter(trainer.LengthGroupedSampler(batch_size, lengths=plain, generator=generator))
        batches = iter(lambda: list(itertools.islice(order, batch_size)), [])  # noqa: B023
        theirs += padded_size(plain, batches)
        sampler = LengthBatchSampler(plain, batch_size=batch_size, seed=seed, shuffle_window=window)
        ours += padded_size(plain, sampler)
    assert ours <= theirs * 1.0005  # other orders: equal but for chance
    automatic = LengthBatchSampler(plain, batch_size=batch_size)
    assert padded_size(plain, automatic) <= theirs / 8


def test_larger_windows_leave_less_padding():
    lengths = draw_lengths(20000)
    sizes = [
        padded_size(lengths, LengthBatchSampler(lengths, max_tokens=8192, shuffle_window=window))
        for window in (100, 1000, 10000, None)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1.005 * lengths.sum()
    assert sizes[1] < 1.07 * lengths.sum()


@pytest.mark.parametrize(
    ("rows", "options", "window"),
    [
        (10**6, {"batch_size": 32}, 3200),
        (1000, {"batch_size": 32}, 7 * 32),
        (10, {"batch_size": 32}, 32),
        (10**5, {"max_tokens": 1000, "pad_to_multiple_of": 8}, 100 * (1000 // 16)),
        (10**5, {"max_tokens": 1000, "batch_size": 7}, 700),
        (10**5, {"max_tokens": 1000, "max_length": 2}, 50 * 500),
        (0, {"max_tokens": 1000}, 1000),
        (3, {"batch_size": 2**63 - 2}, 2**63 - 2),
    ],
)
def test_automatic_window(rows, options, window):
    sampler = LengthBatchSampler(np.full(rows, 10), **options)
    assert sampler.shuffle_window == window


# Size


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        ({"batch_size": 1000}, 10**4),
        ({"max_tokens": 10**5, "shuffle_window": None}, 10**4),
        ({"max_tokens": 2**62, "shuffle_window": 1}, 1),
    ],
)
def test_ten_million_equal_lengths(options, batches):
    sampler = LengthBatchSampler(np.full(10**7, 100), **options)
    indices, offsets = sampler._plan()
    assert len(sampler) == batches
    assert (np.diff(offsets) == 10**7 // batches).all()
    assert (np.bincount(indices, minlength=10**7) == 1).all()
