"""Lengths in a file that is mapped for reading: shared, not copied, and safe if it changes."""

import pickle
import threading

import numpy as np
import pytest

import tightbatch as tb
from checks import fails

LENGTHS = np.random.default_rng(0).integers(0, 90, 400)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "lengths.npy", LENGTHS)
    return tmp_path / "lengths.npy"


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 8},
        {"max_tokens": 300, "longest_first": True},
        {"max_tokens": 300, "padding_free": True},
        {"max_tokens": 300, "padding_free": True, "strategy": "best_fit"},
        {"max_tokens": 60, "overlong": "drop"},
        {"max_tokens": 60, "overlong": "truncate"},
        {"batch_size": 8, "shuffle": False},
        {"max_tokens": {0: 200, 100: 400}},
    ],
    ids=repr,
)
def test_they_are_shared_and_planned_as_copies_are(path, options):
    mapped = np.load(path, mmap_mode="r")
    sampler = tb.LengthBatchSampler(mapped, **options)
    assert np.shares_memory(sampler._planner.lengths, mapped)
    expected = tb.LengthBatchSampler(LENGTHS, **options)
    assert list(sampler) == list(expected)
    assert list(pickle.loads(pickle.dumps(sampler))) == list(expected)


def test_what_may_change_or_is_of_another_type_is_copied(path):
    np.save(path.with_name("short.npy"), LENGTHS.astype(np.int32))
    np.save(path.with_name("other.npy"), LENGTHS.astype(">i8"))
    short, other = (np.load(path.with_name(f"{n}.npy"), mmap_mode="r") for n in ("short", "other"))
    mapped, read_only = np.load(path, mmap_mode="r"), LENGTHS.copy()
    read_only.flags.writeable = False
    expected = list(tb.LengthBatchSampler(LENGTHS, batch_size=8))
    for given in (np.load(path, mmap_mode="r+"), short, other, read_only):
        sampler = tb.LengthBatchSampler(given, batch_size=8)
        assert not np.shares_memory(sampler._planner.lengths, given)
        assert list(sampler) == expected
    half = tb.LengthBatchSampler(mapped[::2], batch_size=8)
    assert not np.shares_memory(half._planner.lengths, mapped)
    assert list(half) == list(tb.LengthBatchSampler(LENGTHS[::2], batch_size=8))


@pytest.mark.parametrize("more", ["groups", "limits"])
def test_with_groups_and_limits_they_are_copied(path, more):
    mapped = np.load(path, mmap_mode="r")
    options = {
        "groups": {"groups": np.arange(400) % 3},
        "limits": {"limits": {"squares": (LENGTHS**2, 40_000)}},
    }[more]
    sampler = tb.LengthBatchSampler(mapped, max_tokens=300, **options)
    assert not np.shares_memory(sampler._planner.lengths, mapped)
    assert list(sampler) == list(tb.LengthBatchSampler(LENGTHS, max_tokens=300, **options))


def test_errors_are_those_of_copies(path):
    wrong = LENGTHS.copy()
    wrong[7] = -3
    np.save(path, wrong)
    with fails(ValueError, "LengthBatchSampler()", "row 7", "-3"):
        tb.LengthBatchSampler(np.load(path, mmap_mode="r"), batch_size=8)
    np.save(path, LENGTHS.reshape(20, 20))
    with fails((TypeError, ValueError), "LengthBatchSampler()"):
        tb.LengthBatchSampler(np.load(path, mmap_mode="r"), batch_size=8)


def test_a_rank_maps_lengths_and_plan(path, tmp_path):
    plan = tmp_path / "plan.npy"
    options = {"max_tokens": 300, "num_replicas": 2}
    tb.LengthBatchSampler(np.load(path, mmap_mode="r"), rank=0, **options).save_plan(plan)
    ranks = []
    for rank in range(2):
        sampler = tb.LengthBatchSampler(np.load(path, mmap_mode="r"), rank=rank, **options)
        sampler.load_plan(plan)
        ranks.append(list(sampler))
        assert ranks[-1] == list(tb.LengthBatchSampler(LENGTHS, rank=rank, **options))
    assert sorted(row for batches in ranks for batch in batches for row in batch) == [*range(400)]


@pytest.mark.parametrize(
    "options",
    [{}, {"padding_free": True}, {"padding_free": True, "strategy": "best_fit"}],
    ids=repr,
)
def test_a_file_that_changes_while_it_is_planned_is_safe(path, options):
    """A plan may be of either lengths, but each number in it is that of a row, at most once."""
    np.save(path, np.full(20_000, 5))
    changing = np.load(path, mmap_mode="r+")
    sampler = tb.LengthBatchSampler(
        np.load(path, mmap_mode="r"), max_tokens=100, overlong="drop", **options
    )
    is_over = threading.Event()

    def change():
        number = 0
        while not is_over.is_set():
            number += 1
            changing[number % 7 :: 7] = (1, 5, 99, 10**9, -4)[number % 5]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for epoch in range(30):
            try:
                indices, offsets = sampler._planner._make(epoch, 1)
            except ValueError:  # a length was negative
                continue
            assert len(indices) == offsets[-1] <= 20_000
            assert len(np.unique(indices)) == len(indices)
            assert ((indices >= 0) & (indices < 20_000)).all()
    finally:
        is_over.set()
        thread.join()
