"""Batches of one group: each row once or by weights, in proportion, on any number of ranks."""

import pickle
import sys
from collections import Counter
from fractions import Fraction
from itertools import chain, groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_groups as reference
from checks import fails
from tightbatch import LengthBatchSampler, _core

NO_CAP = 2**63 - 1


@st.composite
def cases(draw):
    count = draw(st.integers(1, 120))
    lengths = draw(st.lists(st.integers(0, 40), min_size=count, max_size=count))
    groups = draw(st.integers(1, 7))
    labels = draw(st.lists(st.integers(-3, groups - 4), min_size=count, max_size=count))
    options = {
        "batch_size": draw(st.none() | st.integers(1, 12)),
        "max_length": draw(st.none() | st.integers(1, 50)),
        "pad_to_multiple_of": draw(st.none() | st.integers(1, 12)),
        "quadratic_length": draw(st.none() | st.integers(1, 100)),
        "shuffle": draw(st.booleans()),
        "shuffle_window": draw(st.none() | st.integers(1, 60) | st.just("auto")),
        "seed": draw(st.integers(0, 2**64 - 1)),
        "drop_last": draw(st.booleans()),
        "padding_free": draw(st.booleans()),
        "balance": draw(st.sampled_from([None, 1, 2, 3, 16])),
        "longest_first": draw(st.booleans()),
        "overlong": draw(st.sampled_from(["truncate", "drop"])),
    }
    some = st.integers(60, 400)
    options["max_tokens"] = draw(some if options["batch_size"] is None else st.none() | some)
    if options["padding_free"] and options["max_tokens"]:
        options["strategy"] = draw(st.sampled_from(["pool", "best_fit"]))
        if options["strategy"] == "pool":
            options["shuffle_window"] = "auto"
            options["pool_size"] = draw(st.just("auto") | st.integers(1, 40))
    if draw(st.booleans()):
        weight = st.integers(0, 5)
        weights = {label: draw(weight) for label in set(labels)}
        weights[labels[0]] += 1
        options["group_weights"] = weights
        options["weigh"] = draw(st.sampled_from(["rows", "tokens"]))
    return lengths, labels, options


def make(lengths, labels, options, **more):
    """A sampler; None where all groups with a weight are overlong, or all rows whatever is cut."""
    try:
        return LengthBatchSampler(lengths, groups=labels, **options, **more)
    except ValueError as error:
        if "have no rows" in str(error) or "is less than any row costs" in str(error):
            return None
        raise


@given(cases(), st.integers(0, 40))
def test_plan_is_the_reference(case, epoch):
    lengths, labels, options = case
    sampler = make(lengths, labels, options)
    if sampler is not None:
        sampler.set_epoch(epoch)
        assert list(sampler) == reference.plan(sampler, lengths, labels, epoch)


@given(cases(), st.integers(1, 3), st.sampled_from(["split", "repeat"]))
def test_batches_of_one_group_within_the_caps_and_counted(case, ranks, tail):
    lengths, labels, options = case
    samplers = [
        make(lengths, labels, options, num_replicas=ranks, rank=rank, tail=tail)
        for rank in range(ranks)
        if tail == "repeat" or ranks == 1 or len(lengths) > 60
    ]
    if not samplers or samplers[0] is None:
        return
    one = samplers[0]
    dropped, repeated, steps = one.dropped, one.repeated, len(one)
    batches = [list(sampler) for sampler in samplers]
    assert {len(own) for own in batches} == {steps}
    counts = Counter(row for own in batches for batch in own for row in batch)
    assert len(lengths) - len(counts) == dropped
    assert counts.total() - len(counts) == repeated
    if one.group_weights is None and ranks == 1:
        assert set(counts.values()) <= {1}
        assert dropped == 0 or options["drop_last"] or options["overlong"] == "drop"
    rows_cap = options["batch_size"] or NO_CAP
    for batch in (batch for own in batches for batch in own):
        assert batch
        assert len({labels[row] for row in batch}) == 1
        assert len(batch) <= rows_cap
        costs = [
            reference.find_cost(
                min(lengths[row], one.max_length or NO_CAP),
                options["pad_to_multiple_of"] or 1,
                options["quadratic_length"],
                options["padding_free"],
            )
            for row in batch
        ]
        cost = sum(costs) if options["padding_free"] else len(batch) * max(costs)
        assert cost <= (options["max_tokens"] or NO_CAP)


def test_full_batches_are_mixed_and_tails_come_last():
    labels = ["a"] * 401 + ["b"] * 101
    sampler = LengthBatchSampler([5] * 502, batch_size=4, groups=labels)
    assert sampler.groups == ["a", "b"]
    assert repr(sampler).endswith("groups=2>")
    runs = []
    for _ in range(40):
        batches = list(sampler)
        assert [len(batch) for batch in batches] == [4] * 125 + [1, 1]
        names = "".join(labels[batch[0]] for batch in batches)
        assert (names[:125].count("a"), sorted(names[125:])) == (100, ["a", "b"])
        runs.append(len(list(groupby(names[:125]))))
    # In random order there are 1 + 2 * 100 * 25 / 125 runs, give or take 3.6.
    assert abs(np.mean(runs) - 41) < 4 * 3.6 / 40**0.5


def test_every_order_of_batches_is_as_likely():
    sampler = LengthBatchSampler([1] * 6, batch_size=2, groups=[0, 0, 1, 1, 2, 2])
    orders = Counter(tuple(batch[0] // 2 for batch in sampler) for _ in range(6000))
    assert len(orders) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in orders.values()) < 25.7  # p = 1e-4


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.lists(st.integers(1, 9), min_size=6, max_size=6),
    st.sampled_from(["rows", "tokens"]),
    st.integers(0, 99),
)
def test_over_epochs_each_row_of_a_group_comes_as_often(sizes, weights, weigh, seed):
    labels = [group for group, size in enumerate(sizes) for _ in range(size)]
    lengths = [1 + label * 3 for label in labels]
    shares = dict(enumerate(weights[: len(sizes)]))
    sampler = LengthBatchSampler(
        lengths, batch_size=3, groups=labels, group_weights=shares, weigh=weigh, seed=seed
    )
    members = [[row for row, one in enumerate(labels) if one == group] for group in shares]
    quotas = reference.quotas(members, lengths, weights[: len(sizes)], weigh)
    counts = Counter()
    for epoch in range(7):
        batches = list(sampler)
        counts.update(row for batch in batches for row in batch)
        for rows, quota in zip(members, quotas, strict=True):
            own = [counts[row] for row in rows]
            assert sum(own) == quota * (epoch + 1)
            assert max(own) - min(own) <= 1
    if weigh == "rows":
        assert sum(quotas) == len(lengths)
    total = Fraction(sum(shares.values()))
    for group, quota in enumerate(quotas):
        size = quota if weigh == "rows" else quota * (1 + 3 * group)
        whole = len(lengths) if weigh == "rows" else sum(lengths)
        # To a row, and one more for each group that would have had none.
        slack = len(sizes) * (1 + 3 * group if weigh == "tokens" else 1)
        assert abs(size - whole * shares[group] / total) <= slack


@pytest.mark.parametrize(
    ("temperature", "quotas"), [(1, [90, 10]), (2, [75, 25]), (float("inf"), [50, 50])]
)
def test_temperature(temperature, quotas):
    labels = ["a"] * 90 + ["b"] * 10
    sampler = LengthBatchSampler([4] * 100, batch_size=5, groups=labels, temperature=temperature)
    counts = Counter(labels[row] for batch in sampler for row in batch)
    assert [counts["a"], counts["b"]] == quotas
    by_tokens = LengthBatchSampler(
        [1] * 90 + [9] * 10, batch_size=5, groups=labels, temperature=temperature, weigh="tokens"
    )
    counts = Counter(labels[row] for batch in by_tokens for row in batch)
    assert [counts["a"], counts["b"]] == [90, 10]  # as many tokens in both


def test_tiny_temperature_is_the_largest_group_alone():
    sampler = LengthBatchSampler([4] * 10, batch_size=5, groups=[0] * 6 + [1] * 4, temperature=1e-9)
    assert {row < 6 for batch in sampler for row in batch} == {True}
    assert (sampler.dropped, sampler.repeated) == (4, 4)


def test_a_weight_of_zero_leaves_a_group_out():
    weights = {"a": 1, "b": 0.0}
    labels = ["a", "b"] * 10
    sampler = LengthBatchSampler([4] * 20, batch_size=5, groups=labels, group_weights=weights)
    rows = [row for batch in sampler for row in batch]
    assert Counter(labels[row] for row in rows) == {"a": 20}
    sampler.set_epoch(0)
    assert (sampler.dropped, sampler.repeated) == (10, 10)
    with fails(ValueError, "restore_order", "10 of 20 rows have no output", "row 1", "fill="):
        sampler.restore_order(rows)


def test_labels_of_any_kind_make_one_plan():
    numbers = [3, 1, 3, 3, 1, 7] * 5
    names = [{3: "x", 1: "y", 7: "z"}[number] for number in numbers]
    kinds = [
        numbers,
        tuple(numbers),
        (number for number in numbers),
        np.array(numbers),
        np.array(numbers, np.uint8),
        np.array(numbers, np.uint64),
        np.array(numbers)[::-1][::-1],
        np.array(numbers, object),
        [np.int32(number) for number in numbers],
        names,
        np.array(names),
        np.array(names, object),
        [name.encode() for name in names],
        [(name, number) for name, number in zip(names, numbers, strict=True)],
        [[number, 2] for number in numbers],
        np.array([[number, 2] for number in numbers]),
        np.array([[number, 2] for number in numbers], np.int16),
    ]
    wanted = list(LengthBatchSampler(range(30), batch_size=2, groups=numbers))
    for kind in kinds:
        sampler = LengthBatchSampler(range(30), batch_size=2, groups=kind)
        assert list(sampler) == wanted
        assert len(sampler.groups) == 3
    assert sampler.groups == [(3, 2), (1, 2), (7, 2)]
    flags = LengthBatchSampler([1, 2], batch_size=2, groups=np.array([True, False]))
    assert flags.groups == [True, False]


@pytest.mark.parametrize("weigh", ["tokens", "rows"])
def test_epochs_of_more_rows_than_there_are_go_on_anywhere(weigh):
    settings = {"groups": [0] * 10 + [1] * 10, "group_weights": {0: 1, 1: 1}, "weigh": weigh}
    lengths = [100] * 10 + [2] * 10
    whole = list(LengthBatchSampler(lengths, max_tokens=200, **settings))
    assert (sum(map(len, whole)) > len(lengths)) == (weigh == "tokens")
    first = LengthBatchSampler(lengths, max_tokens=200, **settings)
    batches = iter(first)
    for done in range(len(whole)):
        other = LengthBatchSampler(lengths, max_tokens=200, **settings)
        other.load_state_dict(first.state_dict())
        assert list(other) == whole[done:]
        next(batches)


def test_labels_are_kept_no_longer_than_the_sampler():
    labels = [f"label {number}" for number in range(5)]
    given = labels * 10
    before = [sys.getrefcount(label) for label in labels]
    for _ in range(3):
        list(LengthBatchSampler(range(50), batch_size=2, groups=given))
    assert [sys.getrefcount(label) for label in labels] == before


def test_labels_of_other_libraries():
    pa = pytest.importorskip("pyarrow")
    names = ["x", "y", "y", "x", "z"] * 4
    wanted = list(LengthBatchSampler(range(20), batch_size=2, groups=names))
    chunked = pa.chunked_array([names[:3], names[3:]])
    repeated = pa.DictionaryArray.from_arrays(
        pa.array([{"x": 1, "y": 2, "z": 3}[name] for name in names]), ["z", "x", "y", "z"]
    )
    for column in (pa.array(names), chunked, chunked.dictionary_encode(), repeated):
        sampler = LengthBatchSampler(range(20), batch_size=2, groups=column)
        assert (list(sampler), sampler.groups) == (wanted, ["x", "y", "z"])
    shapes = pa.array([[8, 8], [8, 16]])
    assert LengthBatchSampler([1, 2], batch_size=2, groups=shapes).groups == [(8, 8), (8, 16)]
    assert not list(LengthBatchSampler([], batch_size=2, groups=pa.chunked_array([], pa.string())))
    with fails(TypeError, "groups, row 3: found null"):
        LengthBatchSampler(range(5), batch_size=2, groups=pa.array(["x", "y", "x", None, "y"]))
    with fails(TypeError, "groups, row 3: found null"):
        column = pa.chunked_array([["x", "y"], ["x", None, "y"]])
        LengthBatchSampler(range(5), batch_size=2, groups=column)
    with fails(TypeError, "groups, row 0", "1.5"):
        LengthBatchSampler(range(2), batch_size=2, groups=pa.array([1.5, 2]))


def test_labels_as_tensor():
    torch = pytest.importorskip("torch")
    sampler = LengthBatchSampler([1, 2, 3], batch_size=2, groups=torch.tensor([4, 9, 4]))
    assert sampler.groups == [4, 9]
    with fails(TypeError, "groups, row 0", "Tensor"):
        LengthBatchSampler([1, 2], batch_size=2, groups=[torch.tensor(4), torch.tensor(4)])


@pytest.mark.parametrize(
    ("options", "kind", "parts"),
    [
        ({"groups": [1, 2]}, ValueError, ["found 2 labels in groups for 3 lengths"]),
        ({"groups": [1, 2, None]}, TypeError, ["groups, row 2", "NoneType", "expected an int"]),
        ({"groups": [1, float("nan"), 2]}, TypeError, ["groups, row 1", "nan", "float"]),
        ({"groups": np.array([1, np.nan, 2])}, TypeError, ["groups, row 0", "1.0", "float"]),
        ({"groups": [1, 2, {}]}, TypeError, ["groups, row 2", "dict"]),
        ({"groups": [1, 2, (1, None)]}, TypeError, ["groups, row 2", "tuple"]),
        ({"groups": [1, 2, [[1]]]}, TypeError, ["groups, row 2", "list"]),
        ({"groups": "abc"}, TypeError, ["groups='abc'", "a label a row"]),
        ({"groups": {1: 2}}, TypeError, ["groups=", "a label a row"]),
        ({"groups": 7}, TypeError, ["groups=7", "a label a row"]),
        ({"groups": np.array(7)}, TypeError, ["no dimensions"]),
        ({"group_weights": {1: 1}}, ValueError, ["group_weights= without groups="]),
        ({"temperature": 2}, ValueError, ["temperature= without groups="]),
        ({"groups": [1, 1, 2], "weigh": "tokens"}, ValueError, ["without weights"]),
        ({"groups": [1, 1, 2], "weigh": "bytes", "temperature": 1}, ValueError, ["weigh='bytes'"]),
        ({"groups": [1, 1, 2], "group_weights": [1, 2]}, TypeError, ["a dict"]),
        ({"groups": [1, 1, 2], "group_weights": {1: 1}}, ValueError, ["no weight", "2", "0 to"]),
        (
            {"groups": [1, 1, 2], "group_weights": {1: 1, 2: 1, 5: 1}},
            ValueError,
            ["the label 5", "no row"],
        ),
        (
            {"groups": [1, 1, 2], "group_weights": {1: 1, 2: -1}},
            ValueError,
            ["group_weights[2]=-1"],
        ),
        (
            {"groups": [1, 1, 2], "group_weights": {1: 1, 2: float("nan")}},
            ValueError,
            ["group_weights[2]=nan"],
        ),
        (
            {"groups": [1, 1, 2], "group_weights": {1: 1, 2: "3"}},
            TypeError,
            ["group_weights[2]='3'", "a number"],
        ),
        ({"groups": [1, 1, 2], "group_weights": {1: 0, 2: 0}}, ValueError, ["are 0"]),
        (
            {"groups": [1, 1, 2], "group_weights": {1: 1, 2: 1}, "temperature": 1},
            ValueError,
            ["group_weights= and temperature="],
        ),
        ({"groups": [1, 1, 2], "temperature": 0}, ValueError, ["temperature=0"]),
        ({"groups": [1, 1, 2], "temperature": -1}, ValueError, ["temperature=-1"]),
        ({"groups": [1, 1, 2], "temperature": float("nan")}, ValueError, ["temperature=nan"]),
        ({"groups": [1, 1, 2], "temperature": "hot"}, TypeError, ["temperature='hot'"]),
    ],
)
def test_errors(options, kind, parts):
    with fails(kind, "LengthBatchSampler()", *parts):
        LengthBatchSampler([4, 5, 6], batch_size=2, **options)


def test_shares_that_cannot_be():
    with fails(ValueError, "'small'", "rows an epoch", "weigh='rows'"):
        LengthBatchSampler(
            [1, 2**55] * 100,
            batch_size=1,
            groups=["small", "large"] * 100,
            group_weights={"small": 1, "large": 0},
            weigh="tokens",
        )
    with fails(ValueError, "have no rows"):
        LengthBatchSampler(
            [1, 9],
            max_tokens=5,
            overlong="drop",
            groups=["small", "large"],
            group_weights={"small": 0, "large": 1},
        )


def test_no_rows():
    sampler = LengthBatchSampler([], batch_size=2, groups=[], temperature=2)
    assert (list(sampler), len(sampler), sampler.groups) == ([], 0, [])


def test_without_shuffle_weights_go_on_through_each_group():
    sampler = LengthBatchSampler(
        [1] * 6, batch_size=2, shuffle=False, groups=[0, 0, 0, 0, 1, 1], group_weights={0: 1, 1: 2}
    )
    epochs = [sorted(row for batch in sampler for row in batch) for _ in range(2)]
    assert epochs == [[0, 1, 4, 4, 5, 5], [2, 3, 4, 4, 5, 5]]


@pytest.mark.parametrize("weights", [None, {0: 1, 1: 3, 2: 1}])
@pytest.mark.parametrize("ranks", [(2, 3), (3, 2), (1, 4)])
def test_goes_on_with_other_ranks(ranks, weights):
    rng = np.random.default_rng(3)
    lengths, labels = rng.integers(1, 90, 300), rng.integers(0, 3, 300)

    def samplers(count):
        options = {"max_tokens": 300, "groups": labels, "group_weights": weights, "balance": 6}
        return [
            LengthBatchSampler(lengths, num_replicas=count, rank=rank, **options)
            for rank in range(count)
        ]

    before, after = samplers(ranks[0]), samplers(ranks[1])
    whole = [
        row
        for batch in LengthBatchSampler(
            lengths, max_tokens=300, groups=labels, group_weights=weights, balance=6
        )
        for row in batch
    ]
    seen, state = [], None
    running = [iter(sampler) for sampler in before]
    for _ in range(5):
        seen += [next(batches) for batches in running]
    state = before[0].state_dict()
    for sampler in after:
        sampler.load_state_dict(pickle.loads(pickle.dumps(state)))
    rest = [list(sampler) for sampler in after]
    seen += [batch for own in rest for batch in own]
    assert len({len(own) for own in rest}) == 1
    assert Counter(row for batch in seen for row in batch) == Counter(whole)


def test_a_state_of_other_groups_is_refused():
    def sampler(labels, **options):
        return LengthBatchSampler([1, 2, 3, 4], batch_size=2, groups=labels, **options)

    state = sampler([0, 0, 1, 1]).state_dict()
    sampler(["x", "x", "y", "y"]).load_state_dict(state)  # the same groups by other names
    for other in (
        sampler([0, 1, 1, 0]),
        sampler([0, 0, 1, 1], temperature=2),
        LengthBatchSampler([1, 2, 3, 4], batch_size=2),
    ):
        with fails(ValueError, "state has groups="):
            other.load_state_dict(state)
    with fails(ValueError, "state has groups=None"):
        sampler([0, 0, 1, 1]).load_state_dict(
            LengthBatchSampler([1, 2, 3, 4], batch_size=2).state_dict()
        )


def test_rows_of_a_step_stay_in_their_groups_without_padding():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 240).tolist()
    for rank in range(2):
        sampler = LengthBatchSampler(
            rng.integers(1, 90, 240),
            batch_size=8,
            padding_free=True,
            groups=labels,
            num_replicas=2,
            rank=rank,
        )
        assert all(len({labels[row] for row in batch}) == 1 for batch in sampler)


def test_restore_order_and_pickle():
    sampler = LengthBatchSampler([3, 1, 2, 5], batch_size=2, groups=list("abab"))
    copied = pickle.loads(pickle.dumps(sampler))
    batches = list(sampler)
    assert list(copied) == batches
    assert sampler.restore_order([[row * 10 for row in batch] for batch in batches]) == [
        0,
        10,
        20,
        30,
    ]
    assert sampler.fairness().rows == 4


def test_private_functions_refuse_what_would_crash():
    lengths, numbers = np.array([1, 2, 3]), np.array([0, 1, 0])
    settings = LengthBatchSampler([1], batch_size=1)._planner.settings | {"ranks": 1}
    call = ("f", lengths, settings, 0)
    for groups, count, quotas in (
        (np.array([0, 2, 0]), 2, None),
        (np.array([0, -1, 0]), 2, None),
        (numbers[:2].copy(), 2, None),
        (numbers, 2, np.array([1])),
        (numbers, 0, None),
    ):
        with fails(ValueError, "f()"):
            _core.plan_groups(*call, groups, count, quotas, 0)
    with fails(ValueError, "f()"):
        _core.plan_groups(*call, numbers, 2, np.array([-1, 1]), 0)
    for wrong in (None, [0, 1, 0], numbers.astype(np.int32), numbers[::2]):
        with fails(TypeError, "f()"):
            _core.plan_groups(*call, wrong, 2, None, 0)
    with fails(TypeError, "f()"):
        _core.number_groups("f", np.zeros(3, np.int32))
    with fails(ValueError, "f()"):
        _core.assign_buckets("f", lengths, numbers, np.array([1, 2, 3]))


def test_thousands_of_groups():
    rng = np.random.default_rng(0)
    labels = rng.integers(-(2**62), 2**62, 3000)[rng.integers(0, 3000, 30_000)]
    lengths = rng.integers(1, 512, 30_000)
    for options in ({"max_tokens": 4096}, {"max_tokens": 2048, "padding_free": True}):
        sampler = LengthBatchSampler(lengths, groups=labels, **options)
        indices, offsets = sampler._plan()
        assert np.array_equal(np.sort(indices), np.arange(30_000))
        names = labels[indices]
        assert all(len(np.unique(names[a:b])) == 1 for a, b in pairwise(offsets.tolist()))
        assert sampler.groups == list(dict.fromkeys(labels.tolist()))


@pytest.mark.parametrize("longest", [2**60, 2**61 - 1, 2**40, 2**30])
@pytest.mark.parametrize("shares", [{"group_weights": {"a": 1, "b": 1}}, {"temperature": 9}])
def test_shares_of_tokens_that_need_absurdly_many_rows_are_refused(longest, shares):
    """A few very long rows weigh as many short ones as no epoch could hold."""
    lengths, labels = [1, 1, 1, longest], ["a", "a", "a", "b"]
    with fails(ValueError, "group 'a'", "4 rows", "max_length=", "weigh='rows'"):
        LengthBatchSampler(lengths, groups=labels, batch_size=2, weigh="tokens", **shares)
    for more in ({"max_length": 8}, {"weigh": "rows"}):
        options = {"weigh": "tokens", "batch_size": 2, **shares, **more}
        sampler = LengthBatchSampler(lengths, groups=labels, **options)
        assert sum(map(len, sampler)) < 40


def test_shares_of_tokens_may_need_many_more_rows_than_there_are():
    lengths, labels = [1] * 50 + [20_000], [0] * 50 + [1]
    sampler = LengthBatchSampler(
        lengths, groups=labels, max_tokens=20_000, weigh="tokens", temperature=float("inf")
    )
    counts = Counter(labels[row] for batch in sampler for row in batch)
    assert counts[1] == 1
    assert 10_000 <= counts[0] <= 10_050


@pytest.mark.parametrize("weigh", ["rows", "tokens"])
def test_a_share_of_a_group_whose_rows_are_all_dropped(weigh):
    sampler = LengthBatchSampler(
        [50, 60, 2, 3, 4, 3],
        groups=["long", "long", "b", "b", "c", "c"],
        group_weights={"long": 5, "b": 1, "c": 1},
        weigh=weigh,
        max_tokens=10,
        overlong="drop",
    )
    assert sorted(chain(*sampler)) == [2, 3, 4, 5]
