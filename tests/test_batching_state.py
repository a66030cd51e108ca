"""What a sampler's state is made of, what is refused as one, and that plans never change."""

import copy
import hashlib
import json
import pickle

import numpy as np
import pytest

from checks import fails
from reference_batching import Random, draw_lengths
from tightbatch.sampling.sampler import LengthBatchSampler

LENGTHS = draw_lengths(200).tolist()


def test_state_is_small_and_plain():
    sampler = LengthBatchSampler(
        np.full(10**5, 9),
        batch_size=2**62,
        max_tokens=2**62,
        max_length=2**61,
        quadratic_length=2**40,
        pad_to_multiple_of=2**20,
        seed=2**64 - 1,
    )
    sampler.set_epoch(2**63 - 1)
    state = sampler.state_dict()
    text = json.dumps(state)
    assert len(text) < 1000
    assert json.loads(text) == state
    assert len(pickle.dumps(state)) < 1000


def test_state_is_not_shared():
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    wanted = list(sampler)
    sampler.set_epoch(0)
    iterator = iter(sampler)
    next(iterator)
    state = sampler.state_dict()
    kept = copy.deepcopy(state)
    next(iterator)
    assert state == kept
    for changed in (sampler.state_dict(), state):
        changed["epoch"] = changed["rows"] = 7
        changed["lengths"][:] = [1]
        changed["settings"].clear()
    assert sampler.state_dict()["rows"] == 8
    other = LengthBatchSampler(LENGTHS, batch_size=4)
    other.load_state_dict(kept)
    kept["settings"]["seed"] = 99
    kept["lengths"].clear()
    assert other.state_dict()["settings"]["seed"] == 0
    assert list(other) == wanted[1:]


def test_boundaries_in_the_state_are_plain_and_not_shared():
    given = {"max_tokens": 900, "boundaries": np.array([100, 300, 512])}
    sampler = LengthBatchSampler(LENGTHS, **given)
    assert type(sampler.shuffle_window) is int
    state = sampler.state_dict()
    kept = json.loads(json.dumps(state))
    assert kept == state
    state["settings"]["boundaries"].clear()
    assert sampler.boundaries == [100, 300, 512]
    sampler.load_state_dict(kept)
    assert sampler.state_dict() == kept


def test_loading_leaves_the_state_alone():
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    next(iter(sampler))
    state = sampler.state_dict()
    kept = copy.deepcopy(state)
    for _ in range(3):
        other = LengthBatchSampler(LENGTHS, batch_size=4)
        other.load_state_dict(state)
        list(other)
        assert state == kept


# What is refused


@pytest.mark.parametrize(
    ("consumed", "kind"),
    [(-1, ValueError), (1.0, TypeError), (True, TypeError), ("1", TypeError), (1, ValueError)],
)
def test_wrong_consumed(consumed, kind):
    with fails(kind, "LengthBatchSampler", f"batches_consumed={consumed!r}"):
        LengthBatchSampler([1, 2], batch_size=1).state_dict(consumed)


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"batch_size": 5}, ["batch_size=4", "batch_size=5"]),
        ({"max_tokens": 9999}, ["max_tokens=None", "max_tokens=9999"]),
        ({"padding_free": True}, ["padding_free=False", "padding_free=True"]),
        ({"quadratic_length": 9}, ["quadratic_length=None", "quadratic_length=9"]),
        ({"max_length": 9}, ["max_length=None", "max_length=9"]),
        ({"overlong": "drop"}, ["overlong='error'", "overlong='drop'"]),
        ({"boundaries": [300, 600]}, ["boundaries=None", "boundaries=[300, 600]"]),
        ({"pad_to_multiple_of": 8}, ["pad_to_multiple_of=None", "pad_to_multiple_of=8"]),
        ({"shuffle": False}, ["shuffle=True", "shuffle=False"]),
        ({"shuffle_window": 16}, ["shuffle_window=48", "shuffle_window=16"]),
        ({"balance": 8}, ["balance=None", "balance=8"]),
        ({"strategy": "best_fit"}, ["strategy='pool'", "strategy='best_fit'"]),
        ({"longest_first": True}, ["longest_first=False", "longest_first=True"]),
        ({"seed": 1}, ["seed=0", "seed=1"]),
        ({"drop_last": True}, ["drop_last=False", "drop_last=True"]),
    ],
)
def test_other_settings_are_refused(changed, parts):
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    next(iter(sampler))
    other = LengthBatchSampler(LENGTHS, **{"batch_size": 4, **changed})
    before = other.state_dict()
    with fails(ValueError, "LengthBatchSampler", *parts):
        other.load_state_dict(sampler.state_dict())
    assert other.state_dict() == before
    with fails(ValueError, *reversed(parts)):
        sampler.load_state_dict(before)


@pytest.mark.parametrize(("name", "value"), [("seed", 4.0), ("shuffle", 1), ("balance", True)])
def test_an_equal_setting_of_another_type_is_refused(name, value):
    given = {"seed": 4, "balance": 1}
    sampler = LengthBatchSampler([1, 2, 3], batch_size=1, **given)
    state = sampler.state_dict()
    sampler.load_state_dict(json.loads(json.dumps(state)))
    state["settings"][name] = value
    with fails(ValueError, "LengthBatchSampler.load_state_dict()", f"{name}={value!r}"):
        sampler.load_state_dict(state)


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [
        (LENGTHS[:-1], ["other lengths", "200", "199"]),
        ([*LENGTHS[:-1], LENGTHS[-1] + 1], ["other lengths", "200"]),
        ([LENGTHS[1], LENGTHS[0], *LENGTHS[2:]], ["other lengths"]),
        ([0] * 200, ["other lengths"]),
    ],
)
def test_other_lengths_are_refused(lengths, parts):
    settings = {"batch_size": 4, "shuffle_window": 40}
    sampler = LengthBatchSampler(LENGTHS, **settings)
    other = LengthBatchSampler(lengths, **settings)
    with fails(ValueError, "LengthBatchSampler", *parts):
        other.load_state_dict(sampler.state_dict())


@pytest.mark.parametrize(
    ("state", "kind", "parts"),
    [
        (None, TypeError, ["state", "NoneType"]),
        ([], TypeError, ["list"]),
        (3, TypeError, ["int"]),
        ("{}", TypeError, ["str"]),
        ({}, ValueError, ["[]", "'epoch'"]),
        ({"epoch": 1}, ValueError, ["['epoch']", "'settings'"]),
        ({1: 2, "a": 3}, ValueError, ["'1'", "'a'"]),
    ],
)
def test_no_state_at_all(state, kind, parts):
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    before = sampler.state_dict()
    with fails(kind, "LengthBatchSampler", *parts):
        sampler.load_state_dict(state)
    assert sampler.state_dict() == before


@pytest.mark.parametrize(
    ("changed", "kind", "parts"),
    [
        ({"epoch": -1}, ValueError, ["epoch=-1"]),
        ({"epoch": 1.0}, TypeError, ["epoch=1.0"]),
        ({"epoch": None}, TypeError, ["epoch=None"]),
        ({"epoch": 2**63}, OverflowError, [f"epoch={2**63}"]),
        ({"rows": -1}, ValueError, ["rows=-1"]),
        ({"rows": "3"}, TypeError, ["rows='3'"]),
        ({"rows": True}, TypeError, ["rows=True"]),
        ({"ranks": 0}, ValueError, ["ranks=0"]),
        ({"ranks": 1.0}, TypeError, ["ranks=1.0"]),
        ({"ended": 1}, TypeError, ["ended=1"]),
        ({"ended": None}, TypeError, ["ended=None"]),
        ({"rows": 201}, (ValueError, OverflowError), ["rows=201", "200"]),
        ({"extra": 1}, ValueError, ["'extra'", "expected"]),
        ({"settings": {}}, ValueError, ["batch_size=None", "batch_size=4"]),
        ({"settings": None}, ValueError, ["settings=None"]),
        ({"settings": [1, 2]}, ValueError, ["settings=[1, 2]"]),
        ({"lengths": 5}, ValueError, ["5", "other lengths"]),
        ({"lengths": []}, ValueError, ["[]", "other lengths"]),
        ({"lengths": {"a": 1}}, ValueError, ["{'a': 1}", "other lengths"]),
    ],
)
def test_state_with_wrong_numbers(changed, kind, parts):
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    before = sampler.state_dict()
    with fails(kind, "LengthBatchSampler", *parts):
        sampler.load_state_dict({**before, **changed})
    assert sampler.state_dict() == before


@pytest.mark.parametrize("padding_free", [False, True])
def test_an_epoch_goes_on_as_it_was_planned_for_other_ranks(padding_free):
    """With longest_first the plan depends on the ranks: the state says which it began with."""
    options = {"batch_size": 4, "longest_first": True, "padding_free": padding_free}
    wanted = [row for batch in LengthBatchSampler(LENGTHS, **options) for row in batch]
    for before, after in ((1, 3), (3, 1), (2, 5), (4, 4)):
        rows, states = [], []
        for rank in range(before):
            sampler = LengthBatchSampler(LENGTHS, num_replicas=before, rank=rank, **options)
            iterator = iter(sampler)
            rows += [row for _ in range(3) for row in next(iterator)]
            states.append(json.loads(json.dumps(sampler.state_dict())))
        assert states[0]["ranks"] == before
        following = []
        for rank in range(after):
            sampler = LengthBatchSampler(LENGTHS, num_replicas=after, rank=rank, **options)
            sampler.load_state_dict(states[0])
            assert sampler.state_dict() == states[0]
            rows += [row for batch in sampler for row in batch]
            following.append(list(sampler))
            fresh = LengthBatchSampler(LENGTHS, num_replicas=after, rank=rank, **options)
            fresh.set_epoch(1)
            assert list(fresh) == following[-1]
        assert sorted(rows) == sorted(wanted)


def test_unknown_setting_is_refused():
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    state = sampler.state_dict()
    state["settings"]["colour"] = "red"
    with fails(ValueError, "colour='red'", "colour=None"):
        sampler.load_state_dict(state)


# The same on every platform


def digest(batches):
    return hashlib.sha256(json.dumps(batches).encode()).hexdigest()[:32]


@pytest.mark.parametrize(
    ("wanted", "options"),
    [
        ("2e0c05fd268ad02bf0b70e0cbfbfc813", {"batch_size": 32}),
        ("0b261c73a4c743173a1e14c7dd85a02b", {"max_tokens": 4096, "pad_to_multiple_of": 8}),
        ("2b22c8c91fc50d412957bb4f665156a1", {"max_tokens": 4096, "padding_free": True}),
        ("2c1e57205ce1c09f61f6a5cf74721a3e", {"max_tokens": 4096, "boundaries": [64, 200, 512]}),
        ("0dc3f4aad58b16eae627ef16650110b3", {"max_tokens": 4096, "quadratic_length": 200}),
        (
            "19303c5b0fa4548731ec9c11ef56da04",
            {"batch_size": 16, "balance": 4, "longest_first": True, "shuffle_window": None},
        ),
        (
            "9b36017a883a0b4c2fc0c9e552e34c2d",
            {"max_tokens": 4096, "shuffle": False, "max_length": 300},
        ),
        (
            "c0d40994676c19aa4a7a91a1a5cba144",
            {"batch_size": 16, "padding_free": True, "num_replicas": 3, "rank": 1},
        ),
        ("7144dca94b396d31914605f5fa95ba12", {"max_tokens": 4096, "num_replicas": 7, "rank": 6}),
        ("49aecadb6da1f56f89d878329d139898", {"batch_size": 11, "drop_last": True}),
        ("7307ef3385e1d8d834b6cdeaaf085066", {"max_tokens": 1200, "padding_free": True}),
        (
            "56a02cded2014e65847e5c0c2b2e4f49",
            {"batch_size": 8, "balance": 24, "longest_first": True},
        ),
        ("e3f963f2bb944b2d6b9b9bf94f0e55d3", {"batch_size": 6}),
        ("ff96bc1a963bc8b3a90f1ccb3a10ae4e", {"batch_size": 4}),
    ],
)
def test_plans_never_change(wanted, options):
    """A run that is resumed by another release, or elsewhere, must find the order it had."""
    words = Random(5, 0)
    lengths = [words.word() % 23 * (words.word() % 23) for _ in range(3000)]
    sampler = LengthBatchSampler(lengths, seed=12345678901234567890, **options)
    assert digest([list(sampler), list(sampler)]) == wanted


def test_fingerprint_never_changes():
    state = LengthBatchSampler([3, 1, 4, 1, 5, 9, 2, 6], batch_size=3).state_dict()
    assert state["lengths"] == [8, 6875575093997072234]
