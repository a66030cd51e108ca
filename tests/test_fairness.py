"""How random plans are: what fairness() measures, and what plans promise, on fixed seeds."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tightbatch as tb
from tightbatch import LengthBatchSampler


def text_lengths(rows, mean=5.15):
    """Log-normal lengths, as of text; their mean is about 206."""
    return np.random.default_rng(0).lognormal(mean, 0.6, rows).astype(np.int64) + 1


def numbers_of(lengths, batches):
    """Rows a batch and mean length of each batch."""
    rows = np.array([len(batch) for batch in batches])
    return rows, np.array([lengths[batch].mean() for batch in batches])


def neighbours(means):
    return float(np.corrcoef(means[:-1], means[1:])[0, 1])


# What fairness() measures


@st.composite
def samplers(draw):
    lengths = draw(st.lists(st.integers(0, 60), min_size=1, max_size=200))
    options = {"padding_free": draw(st.booleans()), "num_replicas": draw(st.integers(1, 4))}
    options["max_length"] = draw(st.none() | st.integers(5, 60))
    options["pad_to_multiple_of"] = draw(st.none() | st.integers(1, 8))
    options["batch_size"] = draw(st.none() | st.integers(1, 20))
    tokens = st.integers(64, 400)
    options["max_tokens"] = draw(tokens if options["batch_size"] is None else st.none() | tokens)
    return np.array(lengths), options


def spread_of(lengths, batches, options):
    """The same in NumPy."""
    rows, means = numbers_of(lengths, batches)
    multiple = options["pad_to_multiple_of"] or 1
    widths = [-(-max(1, int(lengths[batch].max())) // multiple) * multiple for batch in batches]
    filled = rows @ np.array(widths)
    if options["padding_free"]:
        cap = options["max_tokens"]
        filled = cap * len(batches) if cap else lengths[np.concatenate(batches)].sum()
    same = len(means) < 3 or means[:-1].std() < 1e-6 or means[1:].std() < 1e-6
    return {
        "batches": len(batches),
        "rows_mean": rows.mean(),
        "rows_std": rows.std(),
        "rows_min": rows.min(),
        "rows_max": rows.max(),
        "length_std": means.std(),
        "correlation": 0 if same else neighbours(means),
        "padding": 1 - (means @ rows) / filled if filled else 0,
    }


@given(samplers())
def test_numbers_are_those_of_numpy(case):
    lengths, options = case
    ranks = min(options["num_replicas"], len(lengths))
    sampler = LengthBatchSampler(lengths, **{**options, "num_replicas": ranks, "rank": 0})
    found = sampler.fairness()
    indices, offsets = sampler._plan()
    batches = np.split(indices, offsets[1:-1])
    cut = np.minimum(lengths, options["max_length"] or 2**60)
    plan = spread_of(cut, batches, options)
    assert found.plan.__dict__ == pytest.approx(plan, rel=1e-6, abs=1e-6)
    steps = [np.concatenate(batches[k : k + ranks]) for k in range(0, len(batches), ranks)]
    rows, means = numbers_of(cut, steps)
    assert found.steps.batches == len(steps)
    assert found.steps.rows_mean == pytest.approx(rows.mean())
    assert found.steps.length_std == pytest.approx(means.std(), abs=1e-6)
    assert (found.rows, found.ranks) == (len(lengths), ranks)
    assert found.padded is not options["padding_free"]
    json.dumps(found.to_dict(), allow_nan=False)
    assert f"{len(batches):,} batches of {len(lengths):,} rows" in str(found)


def test_random_batches_are_as_chance_has_them():
    """Rows in random order, cut at the caps: the spread of a mean of n rows is sigma / sqrt(n)."""
    lengths = text_lengths(100_000)
    by_rows = LengthBatchSampler(lengths, batch_size=25).fairness().random
    assert (by_rows.batches, by_rows.rows_mean, by_rows.rows_std) == (4000, 25, 0)
    assert by_rows.length_std == pytest.approx(lengths.std() / 5, rel=0.05)
    assert abs(by_rows.correlation) < 4 / 4000**0.5
    packs = tb.pack(lengths, 8192, overlong="truncate").fairness().random
    rows = 8192 / lengths.mean()
    assert packs.rows_mean == pytest.approx(rows, rel=0.03)
    # Of renewal theory: the number that fits has the variance rows * (sigma / mean) ** 2.
    assert packs.rows_std == pytest.approx(rows**0.5 * lengths.std() / lengths.mean(), rel=0.1)
    assert 0 < packs.padding < lengths.max() / 8192


def test_nothing_to_measure():
    found = LengthBatchSampler([], batch_size=4).fairness()
    assert found.plan.batches == found.random.batches == found.rows == 0
    assert found.plan.rows_mean == found.plan.correlation == found.chance - 1 == 0
    assert tb.pack([], 8).fairness().plan.padding == 0
    found = LengthBatchSampler([7] * 9, batch_size=2).fairness()
    assert (found.plan.length_std, found.plan.correlation, found.forced) == (0, 0, 0)
    found = LengthBatchSampler([0, 0, 0], max_tokens=4, padding_free=True).fairness()
    assert (found.plan.rows_max, found.plan.length_std, found.plan.padding) == (3, 0, 1)


def test_lengths_beyond_32_bits_are_measured():
    lengths = [2**61, 2**61 - 2**40, 2**60, 1]
    found = LengthBatchSampler(lengths, max_tokens=2**62, padding_free=True, shuffle=False)
    _, means = numbers_of(np.array(lengths, float), list(found))
    assert found.fairness().plan.length_std == pytest.approx(means.std(), rel=1e-9)


def test_it_says_what_padding_forces():
    lengths = text_lengths(20_000)
    padded = LengthBatchSampler(lengths, batch_size=32)
    small = LengthBatchSampler(lengths, batch_size=32, shuffle_window=64)
    assert padded.fairness().forced > small.fairness().forced > 0
    assert padded.fairness().plan.padding < small.fairness().plan.padding < 0.6
    assert "Padding forces" in str(padded.fairness())
    runs = LengthBatchSampler(lengths, batch_size=32, balance=48).fairness()
    assert "alike" in str(runs)
    assert "alike" not in str(padded.fairness())
    packs = LengthBatchSampler(lengths, max_tokens=16384, padding_free=True).fairness()
    assert packs.forced == 0
    assert "Padding forces" not in str(packs)
    assert "correlation of steps of 8" in str(
        LengthBatchSampler(lengths, batch_size=32, num_replicas=8, rank=0).fairness()
    )


# What plans promise


def test_batches_of_one_rank_are_in_free_order():
    """Runs of 48 had a correlation of 0.97."""
    lengths = text_lengths(50_000)
    sampler = LengthBatchSampler(lengths, batch_size=32)
    _, means = numbers_of(lengths, list(sampler))
    assert abs(neighbours(means)) < 0.1  # 1,563 batches: 4 standard deviations of chance
    runs = LengthBatchSampler(lengths, batch_size=32, balance=48)
    assert neighbours(numbers_of(lengths, list(runs))[1]) > 0.9


@pytest.mark.parametrize("ranks", [2, 8, 64])
def test_runs_are_as_long_as_there_are_ranks(ranks):
    lengths = text_lengths(50_000)
    found = LengthBatchSampler(lengths, batch_size=16, num_replicas=ranks, rank=0).fairness()
    assert abs(found.steps.correlation) < 4 * found.chance
    assert found.plan.correlation > 0.4


def test_packs_of_an_epoch_are_as_random_batches():
    """Best fit had 80 +- 72 rows in a batch, a spread of 304, and neighbours with 0.52."""
    lengths = text_lengths(50_000)
    sampler = LengthBatchSampler(lengths, max_tokens=16_384, padding_free=True)
    rows, means = numbers_of(lengths, list(sampler))
    found = sampler.fairness()
    assert 75 < rows.mean() < 85
    assert rows.std() < 8.5
    assert means.std() < 1.25 * found.random.length_std
    assert abs(neighbours(means)) < 0.16
    assert lengths.sum() / (16_384 * len(rows)) > 0.998
    like = LengthBatchSampler(lengths, max_tokens=16_384, padding_free=True, strategy="best_fit")
    assert numbers_of(lengths, list(like))[0].std() > 40
    assert len(sampler) <= len(like)


def uniform(low, high):
    return lambda rows: np.random.default_rng(1).integers(low, high, rows)


LENGTHS = {
    "mean 173": lambda rows: np.minimum(text_lengths(rows, 4.97), 512),
    "mean 330": lambda rows: np.minimum(text_lengths(rows, 5.61), 2048),
    "wide": lambda rows: np.clip(
        np.random.default_rng(2).lognormal(5.5, 1.0, rows).astype(int), 1, 2048
    ),
    "exponential": lambda rows: np.minimum(
        np.random.default_rng(3).exponential(170, rows).astype(int), 2048
    ),
    "up to a quarter": uniform(1, 513),
    "up to two thirds": uniform(1, 1401),
    "around a third": uniform(500, 1001),
    "around a half": uniform(410, 1229),
    "up to the capacity": uniform(1, 2049),
    "many of the capacity": lambda rows: np.minimum(8 * uniform(1, 301)(rows), 2048),
    "few rows": lambda rows: np.clip(
        np.random.default_rng(4).lognormal(6.5, 0.8, rows).astype(int), 1, 2048
    ),
    "one length": lambda rows: np.full(rows, 300),
}


@pytest.mark.parametrize("max_segments", [None, 6])
@pytest.mark.parametrize("kind", LENGTHS)
def test_a_pool_fills_packs_as_best_fit_over_all_rows(kind, max_segments):
    """At most 0.1 % less of the capacity; 0.15 % where half the rows need a pack of their own."""
    lengths = LENGTHS[kind](60_000)
    options = {"max_segments": max_segments}
    pool = tb.pack(lengths, 2048, **options)
    best = tb.pack(lengths, 2048, strategy="best_fit", seed=None, **options)
    lost = 0.0015 if "the capacity" in kind else 0.001
    assert pool.efficiency > best.efficiency - lost


@pytest.mark.parametrize("pool_size", [1, 16, 64, 256, 1024])
def test_a_larger_pool_fills_packs_more(pool_size):
    """What Packing.efficiency is, in per cent, for one row to 1,024."""
    least = {1: 0.83, 16: 0.985, 64: 0.997, 256: 0.999, 1024: 0.999}
    packing = tb.pack(LENGTHS["mean 330"](50_000), 2048, pool_size=pool_size)
    assert packing.efficiency > least[pool_size]


def test_no_row_waits_for_more_packs_than_the_pool_has_rows():
    """In the order given, rows come out in about this order."""
    lengths = np.tile([1000, 990, 30, 5], 4000)
    packing = tb.pack(lengths, 1024, pool_size=50, seed=None)
    packs_of_rows = np.repeat(np.arange(len(packing)), np.diff(packing.offsets))
    first = np.maximum.accumulate(packing.indices)  # the youngest row so far
    behind = first - packing.indices
    assert behind.max() < 50 * 4 + 200
    assert (np.diff(packs_of_rows) <= 1).all()
    assert sorted(packing.indices.tolist()) == list(range(len(lengths)))


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"pool_size": 8}, ["pool_size=8", "padding_free=True", "max_tokens"]),
        ({"pool_size": 8, "padding_free": True}, ["pool_size=8", "max_tokens"]),
        (
            {"padding_free": True, "max_tokens": 9, "shuffle_window": 4},
            ["shuffle_window=4", "strategy='pool'", "pool_size"],
        ),
        (
            {"padding_free": True, "max_tokens": 9, "shuffle_window": None},
            ["shuffle_window=None", "strategy='best_fit'"],
        ),
        (
            {"padding_free": True, "max_tokens": 9, "strategy": "best_fit", "pool_size": 4},
            ["pool_size=4", "strategy='best_fit'"],
        ),
    ],
)
def test_settings_that_have_no_effect_are_refused(options, parts):
    with pytest.raises(ValueError, match=r"LengthBatchSampler\(\)") as error:
        LengthBatchSampler([1, 2, 3], batch_size=2, **options)
    assert all(part in str(error.value) for part in parts)
