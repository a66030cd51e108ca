"""Lengths and settings of every kind, and what is refused."""

import math
from itertools import chain

import numpy as np
import pytest

from checks import checked, fails
from reference_batching import draw_lengths, plan_of, plan_settings
from tightbatch import _core
from tightbatch.sampling.sampler import LengthBatchSampler

# Lengths


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", ">u8"])
def test_lengths_of_any_integer_type(dtype):
    lengths = [5, 3, 100, 3, 0, 7, 3]
    array = np.array(lengths, dtype=dtype)
    wanted = list(LengthBatchSampler(lengths, batch_size=2))
    for given_lengths in (array, array.repeat(3)[::3], array[::-1].copy()[::-1]):
        assert list(checked(LengthBatchSampler, given_lengths, batch_size=2)) == wanted


def test_lengths_as_tuple_range_and_tensor():
    torch = pytest.importorskip("torch")
    wanted = list(LengthBatchSampler([0, 1, 2, 3, 4], batch_size=2))
    for lengths in ((0, 1, 2, 3, 4), range(5), torch.arange(5), torch.arange(5, dtype=torch.int32)):
        assert list(LengthBatchSampler(lengths, batch_size=2)) == wanted


def test_lengths_are_copied():
    lengths = draw_lengths(100)
    sampler = LengthBatchSampler(lengths, batch_size=4)
    wanted = plan_of(sampler, lengths.tolist())
    lengths[:] = 1
    assert list(sampler) == wanted


@pytest.mark.parametrize(
    ("lengths", "kind", "parts"),
    [
        ([4, 2, 7, -1], ValueError, ["row 3", "-1"]),
        (np.array([4, -2, -1]), ValueError, ["row 1", "-2"]),
        ([4, 2.0], TypeError, ["row 1", "2.0"]),
        ([4, math.nan], TypeError, ["row 1", "nan"]),
        (np.array([4.0, 2.0]), TypeError, ["float64"]),
        (np.array([True, False]), TypeError, ["bools"]),
        ([4, "2"], TypeError, ["row 1"]),
        ([4, None], TypeError, ["row 1"]),
        ([[4, 2], [1, 3, 5]], ValueError, ["row 1", "3 numbers", "target"]),
        (np.ones((2, 3), np.int64), ValueError, ["row 0", "3 numbers"]),
        (np.ones((2, 2, 2), np.int64), TypeError, ["dimensions"]),
        (7, TypeError, ["7"]),
        (None, TypeError, ["None"]),
        ("34", TypeError, []),
        ([4, 2**63], OverflowError, ["row 1"]),
        (np.array([4, 2**63], np.uint64), OverflowError, ["row 1"]),
        ([1, 2**62, 1, 1, 1], ValueError, ["row 1", 2**62, "max_length="]),
    ],
)
def test_wrong_lengths(lengths, kind, parts):
    with fails(kind, "LengthBatchSampler", *parts):
        checked(LengthBatchSampler, lengths, batch_size=2)


# Settings


@pytest.mark.parametrize(
    ("options", "kind", "parts"),
    [
        ({}, ValueError, ["batch_size=", "max_tokens="]),
        ({"batch_size": 0}, ValueError, ["batch_size=0", "at least 1"]),
        ({"batch_size": -3}, ValueError, ["batch_size=-3"]),
        ({"batch_size": True}, TypeError, ["batch_size=True"]),
        ({"batch_size": 2.0}, TypeError, ["batch_size=2.0"]),
        ({"batch_size": "2"}, TypeError, ["batch_size='2'"]),
        ({"batch_size": 2**63}, OverflowError, [f"batch_size={2**63}"]),
        ({"max_tokens": 0}, ValueError, ["max_tokens=0"]),
        ({"max_tokens": 1e4}, TypeError, ["max_tokens=10000.0"]),
        ({"max_length": 0}, ValueError, ["max_length=0"]),
        ({"max_length": -1}, ValueError, ["max_length=-1"]),
        ({"max_length": 2**63}, OverflowError, [f"max_length={2**63}"]),
        ({"max_length": False}, TypeError, ["max_length=False"]),
        ({"pad_to_multiple_of": 0}, ValueError, ["pad_to_multiple_of=0"]),
        ({"pad_to_multiple_of": -8}, ValueError, ["pad_to_multiple_of=-8"]),
        ({"pad_to_multiple_of": 8.0}, TypeError, ["pad_to_multiple_of=8.0"]),
        ({"shuffle_window": 0}, ValueError, ["shuffle_window=0"]),
        ({"shuffle_window": "all"}, ValueError, ["shuffle_window='all'"]),
        ({"shuffle_window": 2.5}, TypeError, ["shuffle_window=2.5"]),
        ({"shuffle_window": True}, TypeError, ["shuffle_window=True"]),
        ({"seed": -1}, ValueError, ["seed=-1"]),
        ({"seed": 2**64}, OverflowError, [f"seed={2**64}"]),
        ({"seed": None}, TypeError, ["seed=None"]),
        ({"shuffle": 1}, TypeError, ["shuffle=1"]),
        ({"shuffle": None}, TypeError, ["shuffle=None"]),
        ({"drop_last": "no"}, TypeError, ["drop_last='no'"]),
    ],
)
def test_wrong_settings(options, kind, parts):
    caps = {} if not options or {"batch_size", "max_tokens"} & set(options) else {"batch_size": 2}
    with fails(kind, "LengthBatchSampler", *parts):
        checked(LengthBatchSampler, [3, 1, 2], **caps, **options)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"max_tokens": 8}, ["row 1", "length 9", "max_tokens=8", "max_length=8"]),
        ({"max_tokens": 8, "batch_size": 1}, ["row 1", "length 9"]),
        ({"max_tokens": 8, "max_length": 10}, ["row 1", "length 9"]),
        ({"max_tokens": 6, "max_length": 8}, ["row 1", "length 8", "max_length=6"]),
        ({"max_tokens": 14, "pad_to_multiple_of": 8}, ["row 1", "multiple of 8", "max_length=8"]),
        ({"max_tokens": 5, "pad_to_multiple_of": 8}, ["row 0", "multiple of 8", "larger"]),
    ],
)
def test_row_that_no_batch_can_hold(options, parts):
    with fails(ValueError, "LengthBatchSampler", *parts):
        LengthBatchSampler([4, 9, 7, 12], **options)


@pytest.mark.parametrize("epoch", [-1, 2**63, 1.0, None, True])
def test_wrong_epoch(epoch):
    sampler = LengthBatchSampler([1, 2], batch_size=2)
    with fails((TypeError, ValueError, OverflowError), f"epoch={epoch}"):
        sampler.set_epoch(epoch)
    assert sampler.epoch == 0


def test_last_epoch_stays():
    sampler = LengthBatchSampler([1, 2], batch_size=2)
    sampler.set_epoch(2**63 - 1)
    assert [sorted(batch) for batch in sampler] == [[0, 1]]
    assert sampler.epoch == 2**63 - 1


def test_largest_caps():
    big = 2**63 - 2
    sampler = LengthBatchSampler(
        [3, 1, 2], batch_size=big, max_tokens=big, max_length=big, shuffle_window=2**63 - 1
    )
    assert [sorted(batch) for batch in sampler] == [[0, 1, 2]]
    sampler = LengthBatchSampler([3, 1], max_tokens=big, pad_to_multiple_of=big, shuffle=False)
    assert list(sampler) == [[0], [1]]
    with fails(ValueError, "row 0", big, "LengthBatchSampler"):
        LengthBatchSampler([big], batch_size=1, pad_to_multiple_of=4)


def test_private_functions_refuse_what_would_crash():
    good = np.array([1, 2, 3])
    settings = plan_settings(batch_size=1, max_tokens=9)
    for bad in ([1, 2], good.astype(np.int32), good.astype(">i8"), np.ones((2, 2), np.int64), None):
        for function in (_core.survey_lengths, _core.row_costs):
            with fails(TypeError, "f()", "int64"):
                function("f", bad, settings)
        with fails(TypeError, "f()", "int64"):
            _core.plan_batches("f", bad, settings, 0)
        with fails(TypeError, "f()", "int64"):
            _core.plan_batches("f", good, settings | {"boundaries": [bad]}, 0)
        with fails(TypeError, "share_rows()"):
            _core.share_rows(bad, 2)
    with fails(TypeError, "int64"):
        _core.plan_batches("f", np.arange(6)[::2], settings, 0)
    for name, value in settings.items():
        if not isinstance(value, (bool, str)) and name != "seed":
            with fails(ValueError, f"{name}=0", "at least 1"):
                _core.plan_batches("f", good, settings | {name: 0}, 0)
    for wrong in ((good,), ("f", good, [], 0), ("f", good, settings), (3, good, settings, 0)):
        with pytest.raises(TypeError):
            _core.plan_batches(*wrong)
    with pytest.raises(KeyError, match="balance"):
        _core.plan_batches("f", good, {k: v for k, v in settings.items() if k != "balance"}, 0)
    with fails(ValueError, "row 0", "negative"):
        _core.plan_batches("f", -good, settings, 0)
    with fails(ValueError, "at least 0"):
        _core.share_rows(-good, 2)
    with fails(ValueError, "ranks=0"):
        _core.share_rows(good, 0)


def test_rows_past_the_last_boundary():
    with fails(ValueError, "row 1", "length 9", "last boundary 8", "max_length=8"):
        LengthBatchSampler([3, 9, 8], batch_size=2, boundaries=[4, 8])
    cut = LengthBatchSampler([3, 9, 8], batch_size=2, boundaries=[4, 8], overlong="truncate")
    assert (cut.max_length, cut.truncated, cut.dropped) == (8, 1, 0)
    left_out = LengthBatchSampler([3, 9, 8], batch_size=2, boundaries=[4, 8], overlong="drop")
    assert (left_out.dropped, sorted(chain.from_iterable(left_out))) == (1, [0, 2])
    with fails(ValueError, "boundaries", "padding_free"):
        LengthBatchSampler([3], batch_size=2, boundaries=[4], padding_free=True)
    with fails(ValueError, "boundaries", "ascending"):
        LengthBatchSampler([3], batch_size=2, boundaries=[4, 4])
    # 3 rows of 4 tokens, padded to 8, are 24 tokens and not 12.
    sampler = LengthBatchSampler([4, 4, 4, 5], max_tokens=16, boundaries=[8], shuffle=False)
    assert [len(batch) for batch in sampler] == [2, 2]


def test_overlong_rows_are_cut_or_left_out_and_counted():
    lengths = [3, 20, 7, 30]
    with fails(ValueError, "row 1", "length 20", "max_length=10", "overlong"):
        LengthBatchSampler(lengths, max_tokens=10)
    cut = LengthBatchSampler(lengths, max_tokens=10, overlong="truncate")
    assert (cut.max_length, cut.truncated, cut.dropped) == (10, 2, 0)
    assert sorted(chain.from_iterable(cut)) == [0, 1, 2, 3]
    left_out = LengthBatchSampler(lengths, max_tokens=10, overlong="drop")
    assert (left_out.max_length, left_out.truncated, left_out.dropped) == (None, 0, 2)
    assert sorted(chain.from_iterable(left_out)) == [0, 2]
    square = LengthBatchSampler(lengths, max_tokens=10, quadratic_length=5, overlong="truncate")
    assert square.max_length == 5  # 5 + 25 // 5 = 10
    with fails(ValueError, "max_tokens=7", "larger"):
        LengthBatchSampler(lengths, max_tokens=7, pad_to_multiple_of=8, overlong="truncate")
    nothing = LengthBatchSampler(lengths, max_tokens=2, overlong="drop")
    assert (list(nothing), len(nothing), nothing.dropped) == ([], 0, 4)
    with fails(ValueError, "overlong", "'error', 'truncate', 'drop'"):
        LengthBatchSampler(lengths, max_tokens=9, overlong="split")
