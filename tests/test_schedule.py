"""max_tokens={rows: cap}: a cap that changes while rows are seen, on any number of ranks."""

import json
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tightbatch as tb
from checks import fails

LENGTHS = np.random.default_rng(0).integers(0, 100, 700)
WARM_UP = {0: 200, 300: 400, 1000: 1000}


def cost(rows, lengths, padding_free):
    if padding_free:
        return int(lengths[rows].sum())
    return len(rows) * max(int(lengths[rows].max()), 1)


def cap_at(schedule, seen):
    return [cap for begin, cap in schedule.items() if begin <= seen][-1]


@st.composite
def schedules(draw):
    begins = draw(st.lists(st.integers(1, 120), max_size=4, unique=True))
    return {begin: draw(st.integers(20, 90)) for begin in [0, *sorted(begins)]}


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=60),
    schedules(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
def test_each_row_once_below_the_cap_of_its_time(lengths, schedule, padding_free, shuffle, seed):
    lengths = np.array(lengths)
    options = {"padding_free": padding_free, "shuffle": shuffle, "seed": seed}
    sampler = tb.LengthBatchSampler(lengths, max_tokens=schedule, **options)
    seen = 0
    for _ in range(3):
        batches = list(sampler)
        assert sorted(chain(*batches)) == list(range(len(lengths)))
        for batch in batches:
            assert cost(batch, lengths, padding_free) <= cap_at(schedule, seen)
            seen += len(batch)


@pytest.mark.parametrize("padding_free", [False, True])
def test_caps_are_used(padding_free):
    sampler = tb.LengthBatchSampler(LENGTHS, max_tokens=WARM_UP, padding_free=padding_free)
    means = []
    for _ in range(3):
        batches = list(sampler)
        means.append(np.mean([cost(batch, LENGTHS, padding_free) for batch in batches]))
    assert 200 < means[0] < 400 < means[1] < 1000
    assert means[2] > 900
    constant = tb.LengthBatchSampler(LENGTHS, max_tokens=1000, padding_free=padding_free)
    constant.set_epoch(2)
    assert len(batches) <= len(constant) + 1


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("after", [1, 2])
def test_it_resumes_on_any_number_of_ranks(ranks, after):
    def make(count):
        return [
            tb.LengthBatchSampler(LENGTHS, max_tokens=WARM_UP, num_replicas=count, rank=rank)
            for rank in range(count)
        ]

    first = make(ranks)
    seen = [list(sampler) for sampler in first]
    iterators = [iter(sampler) for sampler in first]
    begun = [[next(batches) for _ in range(9)] for batches in iterators]
    state = json.loads(json.dumps(first[0].state_dict()))
    assert state["settings"]["max_tokens"] == [[0, 200], [300, 400], [1000, 1000]]
    others = make(after)
    for sampler in others:
        sampler.load_state_dict(state)
    rest = [list(sampler) for sampler in others]
    assert sorted(chain(*chain(*seen))) == list(range(len(LENGTHS)))
    assert sorted(chain(*chain(*begun), *chain(*rest))) == list(range(len(LENGTHS)))
    if after == ranks:
        assert rest == [list(batches) for batches in iterators]


def test_what_it_says_of_itself():
    sampler = tb.LengthBatchSampler(LENGTHS, max_tokens=WARM_UP)
    assert sampler.max_tokens == WARM_UP
    assert "max_tokens={0: 200, 300: 400, 1000: 1000}" in repr(sampler)
    lengths = [len(sampler)]
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        lengths.append(len(sampler))
    assert lengths[0] > lengths[1] > lengths[2]
    state = tb.LengthBatchSampler(LENGTHS, max_tokens=200).state_dict()
    with fails(ValueError, "load_state_dict()", "max_tokens"):
        sampler.load_state_dict(state)


def test_rows_that_are_too_long_for_the_smallest_cap():
    lengths = [5, 30, 8, 2]
    with fails(ValueError, "LengthBatchSampler()", "row 1", "max_tokens=10"):
        tb.LengthBatchSampler(lengths, max_tokens={0: 10, 2: 40})
    dropping = tb.LengthBatchSampler(lengths, max_tokens={0: 10, 2: 40}, overlong="drop")
    assert sorted(chain(*dropping)) == [0, 2, 3]
    cutting = tb.LengthBatchSampler(lengths, max_tokens={0: 10, 2: 40}, overlong="truncate")
    assert cutting.max_length == 10
    assert sorted(chain(*cutting)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("schedule", "error"),
    [
        ({}, ValueError),
        ({5: 100}, ValueError),
        ({0: 100, 9: 50, 4: 200}, ValueError),
        ({0: 0}, ValueError),
        ({-1: 100}, ValueError),
        ({0: None}, TypeError),
        ({0: True}, TypeError),
        ({0: 2.5}, TypeError),
        ({"0": 100}, TypeError),
        ({0: 2**70}, OverflowError),
    ],
)
def test_wrong_schedules(schedule, error):
    with fails(error, "LengthBatchSampler()", "max_tokens"):
        tb.LengthBatchSampler([1, 2], max_tokens=schedule)


@pytest.mark.parametrize(
    "options",
    [
        {"limits": {"images": ([1, 1], 2)}},
        {"groups": [0, 1]},
        {"longest_first": True},
        {"lengths": [[1, 2], [3, 4]]},
    ],
)
def test_what_it_does_not_go_with(options):
    with fails(ValueError, "LengthBatchSampler()", "expected one cap"):
        tb.LengthBatchSampler(**{"lengths": [1, 2], "max_tokens": {0: 50}, **options})
