"""Streams under several limits, and of two sides: every cap holds, every sample comes once."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb
from checks import fails

KEYS = ("a", "b")


def samples_of(lengths, costs):
    """Mappings with a length, a number, and a cost for each limit."""
    return [
        {"n": length, "row": row, **{name: own[row] for name, own in costs.items()}}
        for row, length in enumerate(lengths)
    ]


def rows_of(batches):
    return [[sample["row"] for sample in batch] for batch in batches]


@st.composite
def problems(draw):
    """Lengths, costs of one to two limits, and the limits: every sample alone keeps them."""
    n = draw(st.integers(0, 90))
    lengths = draw(st.lists(st.integers(0, 30), min_size=n, max_size=n))
    costs, limits = {}, {}
    for name in draw(st.lists(st.sampled_from(KEYS), unique=True, min_size=1)):
        costs[name] = draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
        cap = draw(st.integers(max(costs[name], default=0), 40))
        limits[name] = tb.Limit(name, cap, draw(st.booleans()))
    return lengths, costs, limits


def check(batches, lengths, costs, limits, *, max_tokens, batch_size, padding_free):
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= (batch_size or len(batch))
        tokens = [lengths[row] if padding_free else max(lengths[row], 1) for row in batch]
        cost = sum(tokens) if padding_free else len(batch) * max(tokens)
        assert max_tokens is None or cost <= max_tokens
        for name, (_, cap, padded) in limits.items():
            own = [costs[name][row] for row in batch]
            assert (len(own) * max(own) if padded else sum(own)) <= cap


@settings(max_examples=70, deadline=None)
@given(problem=problems(), data=st.data())
def test_every_cap_of_every_batch_holds(problem, data):
    lengths, costs, limits = problem
    caps = {
        "max_tokens": data.draw(st.none() | st.integers(30, 120)),
        "batch_size": data.draw(st.none() | st.integers(1, 6)),
        "padding_free": data.draw(st.booleans()),
    }
    buffer = data.draw(st.integers(6, 40))
    born, made = {}, [0]

    def read():
        for sample in samples_of(lengths, costs):
            born[sample["row"]] = made[0]
            yield sample

    batcher = tb.StreamBatcher(read, length="n", limits=limits, buffer=buffer, **caps)
    batches = []
    for batch in batcher:
        made[0] += 1
        batches.append([sample["row"] for sample in batch])
        for row in batches[-1]:  # no sample waits for ever
            bound = buffer + 1 if caps["padding_free"] else 5 * buffer
            assert made[0] - born[row] <= bound
    check(batches, lengths, costs, limits, **caps)
    assert batcher.dropped == batcher.repeated == 0
    batcher.set_epoch(0)
    assert rows_of(batcher) == batches


def test_a_limit_that_never_binds_leaves_packs_as_full():
    rng = np.random.default_rng(3)
    lengths = np.clip(rng.lognormal(4, 0.8, 6000), 1, 512).astype(int).tolist()
    caps = {"max_tokens": 4096, "padding_free": True, "buffer": 512, "length": lambda n: n}
    plain = list(tb.StreamBatcher(lengths, **caps))
    limited = list(tb.StreamBatcher(lengths, **caps, limits={"rows": (lambda n: 1, 10**6)}))
    assert len(limited) <= 1.002 * len(plain)


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("kind", ["images", "squares", "pixels"])
def test_batches_are_about_those_of_plans_of_all_rows(kind, padding_free):
    """Two scarce caps: as many batches, and about as little padding, as a plan has."""
    rng = np.random.default_rng(1)
    n = 12_000
    lengths = np.clip(rng.lognormal(4, 0.7, n), 1, 400).astype(int)
    costs = {
        "images": rng.integers(0, 4, n),
        "squares": lengths**2,
        "pixels": rng.integers(1, 9, n),
    }[kind]
    cap, padded = {"images": (40, False), "squares": (300_000, False), "pixels": (120, True)}[kind]
    samples = list(zip(range(n), lengths.tolist(), costs.tolist(), strict=True))
    caps = {"max_tokens": 2048, "padding_free": padding_free}
    planned = list(
        tb.LengthBatchSampler(lengths, **caps, limits={kind: tb.Limit(costs, cap, padded)})
    )
    limits = {kind: tb.Limit(lambda sample: sample[2], cap, padded)}
    streamed = [
        [sample[0] for sample in batch]
        for batch in tb.StreamBatcher(
            samples, length=lambda s: s[1], limits=limits, **caps, buffer=2048
        )
    ]
    assert len(streamed) <= 1.03 * len(planned)
    if not padding_free:

        def padding(batches):
            return 1 - lengths.sum() / sum(len(rows) * lengths[rows].max() for rows in batches)

        assert padding(streamed) <= max(1.25 * padding(planned), padding(planned) + 0.02)


def test_a_costly_sample_is_taken_when_it_is_due():
    """One sample that takes a whole batch by its images, among those that have none."""
    samples = [(10, 0)] * 40 + [(10, 5)] + [(10, 0)] * 3000
    batches = list(
        tb.StreamBatcher(
            samples,
            length=lambda s: s[0],
            batch_size=8,
            limits={"images": (lambda s: s[1], 5)},
            buffer=64,
        )
    )
    assert next(i for i, batch in enumerate(batches) if (10, 5) in batch) <= 4 * 64 // 8 + 6


def test_only_the_last_batch_of_a_stream_may_be_dropped():
    lengths, images = [10] * 50, [row % 3 for row in range(50)]
    samples = samples_of(lengths, {"images": images})
    limits = {"images": ("images", 4)}
    for padding_free in (False, True):
        batcher = tb.StreamBatcher(
            samples,
            length="n",
            max_tokens=60,
            limits=limits,
            padding_free=padding_free,
            buffer=16,
            drop_last=True,
        )
        batches = rows_of(batcher)
        left = set(range(50)) - set(itertools.chain(*batches))
        assert batcher.dropped == len(left) < 6
        assert sum(images[row] for row in left) <= 4
        assert 10 * len(left) < 60


@settings(max_examples=100, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=80),
    multiple=st.sampled_from([1, 8]),
    padding_free=st.booleans(),
    batch_size=st.none() | st.integers(1, 5),
    keys=st.booleans(),
)
def test_source_and_target_are_both_padded(pairs, multiple, padding_free, batch_size, keys):
    samples = [{"s": [0] * a, "t": b, "row": row} for row, (a, b) in enumerate(pairs)]
    length = ("s", "t") if keys else lambda sample: (len(sample["s"]), sample["t"])
    batcher = tb.StreamBatcher(
        samples,
        length=length,
        max_tokens=96,
        batch_size=batch_size,
        pad_to_multiple_of=multiple,
        padding_free=padding_free,
        buffer=20,
    )
    batches = rows_of(batcher)
    assert sorted(itertools.chain(*batches)) == list(range(len(pairs)))
    for batch in batches:
        widths = np.array([[-(-n // multiple) * multiple for n in pairs[row]] for row in batch])
        total = widths.sum() if padding_free else len(batch) * widths.max(axis=0).sum()
        assert total <= 96
        assert len(batch) <= (batch_size or len(batch))


def test_pairs_have_about_the_padding_of_plans_of_all_rows():
    rng = np.random.default_rng(2)
    pairs = np.clip(rng.lognormal(4, 0.7, (8000, 2)), 1, 400).astype(int)

    def padding(batches):
        return 1 - pairs.sum() / sum(len(rows) * pairs[rows].max(axis=0).sum() for rows in batches)

    planned = list(tb.LengthBatchSampler(pairs, max_tokens=4096))
    numbers = [(row, *pair) for row, pair in enumerate(pairs.tolist())]
    streamed = [
        [sample[0] for sample in batch]
        for batch in tb.StreamBatcher(
            numbers, length=lambda s: (s[1], s[2]), max_tokens=4096, buffer=2048
        )
    ]
    assert padding(streamed) <= 1.25 * padding(planned)


def test_max_length_of_each_side():
    samples = [(9, 2), (3, 8), (20, 20)]
    batcher = tb.StreamBatcher(samples, length=tuple, max_tokens=30, max_length=(5, 6))
    assert sorted(itertools.chain(*batcher)) == sorted(samples)
    assert (batcher.truncated, batcher.max_length) == (3, [5, 6])
    batcher = tb.StreamBatcher(samples, length=tuple, max_tokens=30, max_length=7)
    assert len(list(batcher)) > 1
    with fails(TypeError, "StreamBatcher", "max_length=(5, 6)", "one length"):
        tb.StreamBatcher(samples, length="n", max_tokens=30, max_length=(5, 6))


def test_length_is_pairs_where_the_function_gives_them():
    rows = [(3, 4), (1, 2, 3)]
    with fails(TypeError, "StreamBatcher", "row 1", "tuple of two lengths"):
        list(tb.StreamBatcher(rows, length=lambda s: s, max_tokens=20))
    with fails(TypeError, "StreamBatcher", "row 1", "(3, 4)", "a tuple of two for every sample"):
        list(tb.StreamBatcher([5, (3, 4)], length=lambda s: s, max_tokens=20))
    # Without a function a tuple is a row of tokens, as ever.
    assert list(tb.StreamBatcher([(3, 4), (5,)], max_tokens=4)) == [[(3, 4), (5,)]]
    with fails(ValueError, "StreamBatcher", "boundaries= with lengths of two sides"):
        list(tb.StreamBatcher(rows, length=lambda s: s, max_tokens=20, boundaries=[8]))
    with fails(ValueError, "StreamBatcher", "quadratic_length= with lengths of two sides"):
        tb.StreamBatcher(rows, length=("a", "b"), max_tokens=20, quadratic_length=8)
    with fails(ValueError, "StreamBatcher", "overlong='truncate' with lengths of two sides"):
        tb.StreamBatcher(rows, length=("a", "b"), max_tokens=20, overlong="truncate")
    with fails(TypeError, "StreamBatcher", "length=", "two keys or functions"):
        tb.StreamBatcher(rows, length=("a", "b", "c"), max_tokens=20)


# What is refused


@pytest.mark.parametrize(
    ("limits", "kind", "parts"),
    [
        ({"images": ("images", -1)}, ValueError, ["cap of limits['images']=-1"]),
        ({"images": ("images", True)}, TypeError, ["cap of limits['images']=True"]),
        ({"images": ("images", 2.5)}, TypeError, ["cap of limits['images']=2.5"]),
        ({"images": ("images", 2**63)}, OverflowError, ["cap of limits['images']"]),
        ({"images": ("images", 4, 1)}, TypeError, ["padded of limits['images']=1"]),
        ({"images": [1, 2, 3, 4]}, TypeError, ["limits['images']=", "Limit(costs, cap"]),
        ({"images": ([1, 2, 3], 4)}, TypeError, ["costs of limits['images']", "key or a function"]),
        ({"images": (None, 4)}, TypeError, ["costs of limits['images']=None"]),
        ({"images": 4}, TypeError, ["limits['images']=4"]),
        ({3: ("images", 4)}, TypeError, ["key 3"]),
        ([("images", 4)], TypeError, ["limits=", "dict"]),
        ({str(k): ("images", 4) for k in range(31)}, ValueError, ["31 limits", "30"]),
    ],
)
def test_wrong_limits(limits, kind, parts):
    with fails(kind, "StreamBatcher", *parts):
        tb.StreamBatcher([], max_tokens=8, limits=limits)


@pytest.mark.parametrize(
    ("wrong", "kind", "parts"),
    [
        (-2, ValueError, ["row 2", "cost -2 of limits['images']", "negative"]),
        (None, TypeError, ["row 2", "cost None (NoneType) of limits['images']", "an int"]),
        (float("nan"), TypeError, ["row 2", "cost nan (float) of limits['images']"]),
        (True, TypeError, ["row 2", "cost True (bool)"]),
        ("abc", TypeError, ["row 2", "cost 'abc' (str)"]),
        (2**63, OverflowError, ["row 2", "cost 9223372036854775808", "outside int64"]),
        (7, ValueError, ["row 2", "cost 7 is more than limits['images']=4", "overlong='drop'"]),
        ([1] * 5, ValueError, ["row 2", "cost 5 is more than limits['images']=4"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("padding_free", [False, True])
def test_a_wrong_cost_names_its_row_and_limit_and_the_iteration_goes_on(
    wrong, kind, parts, padding_free
):
    images = [1, 0, wrong, 2, [1, 1], 0]
    samples = samples_of([3, 1, 2, 4, 5, 1], {"images": images})
    options = {"length": "n", "limits": {"images": ("images", 4)}, "buffer": 4}
    batches = iter(tb.StreamBatcher(samples, max_tokens=20, padding_free=padding_free, **options))
    with fails(kind, "StreamBatcher", *parts):
        next(batches)
    assert sorted(itertools.chain(*rows_of(batches))) == [0, 1, 3, 4, 5]
    if kind is ValueError and wrong != -2:
        batcher = tb.StreamBatcher(samples, max_tokens=20, overlong="drop", **options)
        assert sorted(itertools.chain(*rows_of(batcher))) == [0, 1, 3, 4, 5]
        assert batcher.dropped == 1


def test_costs_that_are_missing_name_the_row_and_the_limit():
    samples = [{"n": 1, "images": 1}, {"n": 1}]
    for limits, where in (
        ({"px": ("images", 4)}, "limits['px']"),
        ({"a": ("n", 4), "px": ("images", 4)}, "limits['px']"),
    ):
        with fails(KeyError, "StreamBatcher", "row 1", "'images'", where):
            list(tb.StreamBatcher(samples, length="n", batch_size=1, limits=limits))
    with fails(KeyError, "StreamBatcher", "row 1", "'images'", "length="):
        list(tb.StreamBatcher(samples, length=("n", "images"), batch_size=1))

    def stop(sample):
        raise StopIteration

    with pytest.raises(RuntimeError, match="row 0"):
        list(tb.StreamBatcher(samples, length="n", limits={"a": (stop, 1)}))


@pytest.mark.parametrize(
    ("pair", "kind", "parts"),
    [
        ((3, -1), ValueError, ["row 1", "length -1 is negative"]),
        ((9, 9), ValueError, ["row 1", "lengths 9 and 9", "max_tokens=16"]),
        ((2**62, 2**62), OverflowError, ["row 1", "too long to plan for"]),
        ((2**70, 1), OverflowError, ["row 1", "outside int64"]),
        ((None, 1), TypeError, ["row 1", "length None"]),
        ((1, 2, 3), TypeError, ["row 1", "tuple of two lengths"]),
        (5, TypeError, ["row 1", "tuple of two lengths"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("padding_free", [False, True])
def test_wrong_pairs_name_their_row_and_the_iteration_goes_on(pair, kind, parts, padding_free):
    samples = [(1, 2), pair, (3, 4)]
    batcher = tb.StreamBatcher(
        samples, length=lambda s: s, max_tokens=16, buffer=8, padding_free=padding_free
    )
    batches = iter(batcher)
    with fails(kind, "StreamBatcher", *parts):
        next(batches)
    assert sorted(itertools.chain(*batches)) == [(1, 2), (3, 4)]


def test_costs_near_the_end_of_int64():
    most = 2**62
    samples = samples_of([1] * 5, {"a": [most, most, most, 1, 0]})
    for padding_free in (False, True):
        batches = rows_of(
            tb.StreamBatcher(
                samples,
                length="n",
                limits={"a": ("a", most + 1)},
                padding_free=padding_free,
                buffer=3,
            )
        )
        assert sorted(itertools.chain(*batches)) == list(range(5))
        assert all(sum(samples[row]["a"] for row in batch) <= most + 1 for batch in batches)


def test_samples_that_cost_nothing_make_no_endless_batch():
    zeros = ({"n": 0, "images": 0} for _ in itertools.count())
    for padding_free in (False, True):
        batcher = tb.StreamBatcher(
            zeros,
            length="n",
            limits={"images": ("images", 9)},
            buffer=8,
            padding_free=padding_free,
        )
        sizes = [len(batch) for batch in itertools.islice(batcher, 5)]
        assert all(1 <= size <= 9 for size in sizes)


def test_other_limits_are_refused_and_the_same_pickle():
    def make(cap=4, padded=False, name="images"):
        samples = samples_of([3, 1, 2, 4], {"images": [1, 2, 0, 1]})
        limits = {name: tb.Limit("images", cap, padded)}
        return tb.StreamBatcher(samples, length="n", max_tokens=9, limits=limits, buffer=2)

    batcher = make()
    assert "limits={'images': Limit('images', cap=4, padded=False)}" in repr(batcher)
    batches = iter(batcher)
    first = next(batches)
    state = batcher.state_dict()
    other = pickle.loads(pickle.dumps(make()))
    other.load_state_dict(state)
    assert [first, *other] == [first, *batches]
    for changed in ({"cap": 5}, {"padded": True}, {"name": "pixels"}):
        with fails(ValueError, "load_state_dict", "limits="):
            make(**changed).load_state_dict(state)


def test_other_costs_are_other_samples():
    def make(images):
        samples = samples_of([3] * 12, {"images": images})
        limits = {"images": ("images", 4)}
        return tb.StreamBatcher(samples, length="n", batch_size=3, limits=limits, buffer=4)

    batcher = make([1] * 12)
    next(batches := iter(batcher))
    state = batcher.state_dict()
    other = make([1, 2] + [1] * 10)
    other.load_state_dict(state)
    with fails(ValueError, "load_state_dict", "other lengths"):
        next(iter(other))
    assert sum(map(len, batches)) == 9
