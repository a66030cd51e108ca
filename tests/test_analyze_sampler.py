"""analyze(sampler=): the batches of one's own sampler, of any library."""

import numpy as np
import pytest

import tightbatch as tb

LENGTHS = np.clip(np.random.default_rng(1).lognormal(3, 0.7, 500).astype(np.int64), 1, 90)


def assert_is(strategy, batches, *, multiple=1):
    widths = [-(-int(LENGTHS[batch].max()) // multiple) * multiple for batch in batches]
    tokens = sum(len(batch) * width for batch, width in zip(batches, widths, strict=True))
    assert strategy.batches == len(batches)
    assert strategy.padded_tokens == tokens
    assert strategy.real_tokens == sum(int(LENGTHS[batch].sum()) for batch in batches)
    pairs = sum(len(batch) * width**2 for batch, width in zip(batches, widths, strict=True))
    assert strategy.attention == pairs


def test_lists_of_rows():
    batches = [[0, 5, 9], [3], [499, 1]]
    report = tb.analyze(LENGTHS, batch_size=8, sampler=batches, pad_to_multiple_of=8)
    assert_is(report["your sampler"], batches, multiple=8)
    assert len(report) == 7
    assert "your sampler" in str(report)
    assert "your sampler" in report.verdict


def test_the_rows_of_batches_are_their_cap():
    batches = [list(range(first, min(first + 32, 500))) for first in range(0, 500, 32)]
    report = tb.analyze(LENGTHS, sampler=batches)
    assert report.settings["batch_size"] == 32
    assert_is(report["your sampler"], batches)
    for same in (map(np.array, batches), iter(batches), tuple(map(tuple, batches))):
        assert tb.analyze(LENGTHS, sampler=same).strategies[:6] == report.strategies[:6]
    with pytest.raises(ValueError, match="batches of 1 to 3 rows; pass batch_size=, max_tokens="):
        tb.analyze(LENGTHS, sampler=[[0, 5, 9], [3], [499, 1]])
    own = tb.analyze(LENGTHS, sampler=[[0, 5, 9], [3], [499, 1]], max_tokens=300)
    assert own["your sampler"].batches == 3


def test_our_own_stays_at_its_epoch():
    sampler = tb.LengthBatchSampler(LENGTHS, batch_size=8, seed=3)
    report = tb.analyze(LENGTHS, sampler=sampler)
    assert sampler.epoch == 0
    assert report.settings["batch_size"] == 8
    assert_is(report["your sampler"], list(sampler))
    packs = tb.LengthBatchSampler(LENGTHS, max_tokens=300, padding_free=True)
    found = tb.analyze(LENGTHS, sampler=packs)["your sampler"]
    assert found.waste == 0
    assert found.attention == float((LENGTHS.astype(float) ** 2).sum())
    bounds = [10, 40, 90]
    wide = tb.LengthBatchSampler(LENGTHS, batch_size=8, boundaries=bounds)
    found = tb.analyze(LENGTHS, sampler=wide)["your sampler"]
    assert found.widths == 3
    assert found.padded_tokens == sum(
        len(batch) * bounds[np.searchsorted(bounds, LENGTHS[batch].max())] for batch in wide
    )


def test_torch_and_transformers():
    torch = pytest.importorskip("torch")
    from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

    batches = BatchSampler(SequentialSampler(range(500)), 32, drop_last=True)
    report = tb.analyze(LENGTHS, sampler=batches)
    assert report.settings["batch_size"] == 32
    assert_is(report["your sampler"], list(batches))
    before = torch.get_rng_state()
    random = BatchSampler(RandomSampler(range(500)), 32, drop_last=False)
    found = tb.analyze(LENGTHS, sampler=random)["your sampler"]
    assert torch.equal(torch.get_rng_state(), before)
    assert_is(found, list(random))

    pytest.importorskip("transformers")
    from transformers.trainer_pt_utils import LengthGroupedSampler

    def grouped():
        return LengthGroupedSampler(
            32, lengths=LENGTHS.tolist(), generator=torch.Generator().manual_seed(0)
        )

    found = tb.analyze(LENGTHS, sampler=BatchSampler(grouped(), 32, False))["your sampler"]
    assert_is(found, list(BatchSampler(grouped(), 32, False)))
    single = tb.analyze(LENGTHS, sampler=grouped(), batch_size=32)["your sampler"]
    assert single.padded_tokens == found.padded_tokens
    assert found.waste < report["your sampler"].waste


def test_rows_are_cut_for_it_too():
    batches = [[0, 1, 2, 3], [4, 5, 6, 7]]
    found = tb.analyze(LENGTHS, batch_size=4, sampler=batches, max_length=15)["your sampler"]
    cut = np.minimum(LENGTHS, 15)
    assert found.padded_tokens == sum(4 * int(cut[batch].max()) for batch in batches)


def test_what_is_no_sampler():
    with pytest.raises(TypeError, match=r"analyze\(\): sampler="):
        tb.analyze(LENGTHS, batch_size=4, sampler=7)
    with pytest.raises(IndexError, match=r"analyze\(\): sampler gives row 500 in batch 1"):
        tb.analyze(LENGTHS, batch_size=4, sampler=[[1], [2, 500]])
    with pytest.raises(ValueError, match="no batches"):
        tb.analyze(LENGTHS, batch_size=4, sampler=[])
    with pytest.raises(ValueError, match="single rows; pass batch_size="):
        tb.analyze(LENGTHS, max_tokens=400, sampler=range(500))
    with pytest.raises(TypeError, match="row number"):
        tb.analyze(LENGTHS, batch_size=4, sampler=[["a", "b"]])
    with pytest.raises(TypeError, match="row number"):
        tb.analyze(LENGTHS, batch_size=4, sampler=[[1.5, 2]])
    with pytest.raises(TypeError, match="row number"):
        tb.analyze(LENGTHS, batch_size=4, sampler="123")
    with pytest.raises(ValueError, match="single rows; pass batch_size="):
        tb.analyze(LENGTHS, sampler=range(500))
    for empty in ([[]], [[], []]):
        with pytest.raises(ValueError, match="batches of 0 to 0 rows; pass batch_size="):
            tb.analyze(LENGTHS, sampler=empty)


def test_a_loader_is_no_sampler() -> None:
    data = pytest.importorskip("torch.utils.data")
    loader = data.DataLoader([1, 2, 3, 4], batch_size=2)
    with pytest.raises(TypeError, match=r"sampler=DataLoader.*pass sampler=loader\.batch_sampler"):
        tb.analyze([1, 2, 3, 4], sampler=loader, batch_size=2)
    with pytest.raises(TypeError, match="no row number, nor a list of them"):
        tb.analyze([1, 2], sampler=[[0, [1]]], batch_size=2)
