"""Streams beside lhotse's dynamic bucketing: on the same lengths, less padding, no more steps."""

import itertools
import warnings

import numpy as np
import pytest

import tightbatch as tb


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("caps", [{"max_tokens": 8192}, {"batch_size": 16}], ids=str)
def test_less_padding_in_fewer_steps_than_lhotse(caps):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampling = pytest.importorskip(
            "lhotse.dataset.sampling", exc_type=ImportError, reason="lhotse is not installed"
        )
        from lhotse import CutSet
        from lhotse.testing.dummies import dummy_cut
    lengths = np.clip(np.random.default_rng(2).lognormal(4.9, 0.8, 3000), 1, 512).astype(int)
    cuts = CutSet.from_cuts(
        [dummy_cut(i, start=0.0, duration=float(n)) for i, n in enumerate(lengths)]
    )
    limits = {"max_duration": caps.get("max_tokens"), "max_cuts": caps.get("batch_size")}
    theirs = [
        [int(cut.duration) for cut in batch]
        for batch in sampling.DynamicBucketingSampler(
            cuts, num_buckets=10, buffer_size=1024, **limits
        )
    ]
    ours = [
        [len(sample) for sample in batch]
        for batch in tb.StreamBatcher([range(n) for n in lengths], buffer=1024, **caps)
    ]
    for batches in (ours, theirs):
        assert sorted(itertools.chain(*batches)) == sorted(lengths.tolist())
        for batch in batches:
            assert len(batch) * max(batch) <= caps.get("max_tokens", 10**9)
            assert len(batch) <= caps.get("batch_size", 10**9)

    def padding(batches):
        return 1 - lengths.sum() / sum(len(batch) * max(batch) for batch in batches)

    assert padding(ours) < padding(theirs)
    assert len(ours) <= len(theirs)
