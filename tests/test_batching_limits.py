"""Plans that never change, packs with very many different rooms, and costs beyond 64 bits."""

import hashlib
import json

import numpy as np
import pytest

import reference_batching as reference
import tightbatch as tb
from checks import fails
from tightbatch import LengthBatchSampler


def digest(batches):
    return hashlib.sha256(json.dumps(batches).encode()).hexdigest()[:32]


PLANS = [
    ("4af9a4ae5ca125dd3d541aa843b4af67", 255, {"batch_size": 8}),
    ("aecc9c002215302be3f1a1eb4233c6be", 256, {"batch_size": 8}),
    ("e2ad2cef74b41e88044f9a2978a18536", 300, {"batch_size": 8, "balance": 12}),
    ("1c01105e7910c5462696e952603c76b7", 511, {"batch_size": 4, "longest_first": True}),
    ("90508f8a18d93a2b1609e17925206e3c", 512, {"batch_size": 4}),
    (
        "17e8c10c04ee3380b61eb674dd0ccae8",
        400,
        {"batch_size": 8, "padding_free": True, "num_replicas": 2, "rank": 1},
    ),
]


@pytest.mark.parametrize(("wanted", "batches", "options"), PLANS)
def test_plans_of_some_hundred_batches_never_change(wanted, batches, options):
    """A run that is resumed by another release, or elsewhere, must find the order it had."""
    words = reference.Random(6, 0)
    rows = batches * options["batch_size"]
    lengths = [1 + words.word() % 23 * (words.word() % 23) for _ in range(rows)]
    sampler = LengthBatchSampler(lengths, seed=98765432109876543210 % 2**64, **options)
    own = [list(sampler), list(sampler)]
    if options.get("num_replicas", 1) == 1:
        assert [len(epoch) for epoch in own] == [batches, batches]
        assert own[0] == reference.plan_of(sampler, lengths, 0)
    assert digest(own) == wanted


# Packs


def best_fit(lengths, capacity):
    """Longest first, each into the pack that it leaves the least room in: the packs' rooms."""
    rooms = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms[rooms.index(min(fitting))] -= length
        else:
            rooms.append(capacity - length)
    return sorted(rooms)


@pytest.mark.parametrize("capacity", [2**12, 10**6, 2**30 + 7, 2**40, 2**61])
@pytest.mark.parametrize("rows", [65, 700, 2000])
def test_packs_with_very_many_different_rooms(capacity, rows):
    """Each room is a path of its own in the tree of rooms, which has to grow many times over."""
    random = np.random.default_rng(rows)
    lengths = random.integers(1, capacity // (rows if capacity == 2**61 else 2), rows)
    lengths[: rows // 2] = random.integers(capacity // 2, capacity, rows // 2) // (
        rows if capacity == 2**61 else 1
    )
    packing = tb.pack(lengths, capacity, strategy="best_fit", seed=None)
    rooms = sorted(capacity - int(lengths[pack].sum()) for pack in packing)
    assert rooms == best_fit(lengths.tolist(), capacity)
    assert sorted(row for pack in packing for row in pack) == list(range(rows))


def test_rooms_come_and_go():
    """Rooms that are used up are given back, and used again for others."""
    lengths = [1000 - i for i in range(400)] + [i + 1 for i in range(400)] * 2
    packing = tb.pack(lengths, 1001, strategy="best_fit", seed=None)
    rooms = sorted(1001 - sum(lengths[row] for row in pack) for pack in packing)
    assert rooms == best_fit(lengths, 1001)


# Costs beyond 64 bits


@pytest.mark.parametrize("length", [2**32, 2**40, 2**61, 2**62 - 1])
@pytest.mark.parametrize("most", [2**50, 2**62, 2**63 - 2])
@pytest.mark.parametrize("quadratic", [1, 2, 1000])
def test_a_cost_beyond_64_bits_is_more_than_any_cap(length, most, quadratic):
    """A square beyond 64 bits too, whatever it is divided by."""

    def cost(width):
        square = width * width
        return 2**63 if square >= 2**63 else width + square // quadratic

    options = {"max_tokens": most, "quadratic_length": quadratic}
    if cost(length) <= most:
        assert next(iter(LengthBatchSampler([length, 5], shuffle=False, **options)))[0] == 0
        return
    with fails(ValueError, "LengthBatchSampler()", "row 0", f"length {length}", "quadratic"):
        LengthBatchSampler([length, 5], **options)
    sampler = LengthBatchSampler([length, 5], overlong="drop", **options)
    assert (sampler.dropped, list(sampler)) == (1, [[1]])
    sampler = LengthBatchSampler([length, 5], overlong="truncate", **options)
    allowed = sampler.max_length
    assert cost(allowed) <= most < cost(allowed + 1)
    assert sampler.truncated == 1


@pytest.mark.parametrize("multiple", [2**40, 2**61, 2**62])
def test_a_width_beyond_64_bits_is_more_than_any_cap(multiple):
    options = {"max_tokens": 2**63 - 2, "pad_to_multiple_of": multiple}
    longest = (2**63 - 2) // multiple * multiple
    assert len(LengthBatchSampler([longest], **options)) == 1
    with fails(ValueError, "LengthBatchSampler()", "row 1", f"length {longest + 1}", multiple):
        LengthBatchSampler([5, longest + 1], **options)
    sampler = LengthBatchSampler([5, longest + 1], overlong="truncate", **options)
    assert sampler.max_length == longest
