"""check_batch finds what is broken: every breakage of every kind of batch, in every spelling."""

import importlib.util

import numpy as np
import pytest

import tightbatch as tb
from wrong_batches import BROKEN, SPELLINGS, VOCAB, as_tensors, beside_another

CASES = [(make, broken) for make, all_broken in BROKEN.items() for broken in all_broken]
HAS_TORCH = importlib.util.find_spec("torch") is not None
spellings = pytest.mark.parametrize("spell", SPELLINGS, ids=lambda f: f.__name__)


def skip_without_torch(spell):
    if spell is as_tensors and not HAS_TORCH:
        pytest.skip("needs torch")


@pytest.mark.parametrize("make", BROKEN, ids=lambda f: f.__name__)
@spellings
def test_right_batches_have_no_finding(make, spell):
    skip_without_torch(spell)
    for seed in range(20):
        batch, _ = spell(make(np.random.default_rng(seed)).columns)
        report = tb.check_batch(batch, vocab_size=VOCAB, max_position=60, raises=False)
        assert report.ok, str(report)


@pytest.mark.parametrize(
    ("make", "broken"), CASES, ids=[f"{make.__name__}-{broken.__name__}" for make, broken in CASES]
)
@spellings
def test_what_is_broken_is_found(make, broken, spell):
    skip_without_torch(spell)
    for seed in range(4):
        made = make(np.random.default_rng(seed))
        kind, key, row, column = broken(made)
        batch, named = spell(made.columns)
        report = tb.check_batch(batch, vocab_size=VOCAB, raises=False)
        found = {(f.kind, f.key, f.row, f.column) for f in report}
        assert (kind, named(key), row, column) in found, f"{kind} {key} {row} {column}\n{report}"
        with pytest.raises(ValueError, match=r"^check_batch\(\): found \d+ fault"):
            tb.check_batch(batch, vocab_size=VOCAB)


@pytest.mark.parametrize(
    ("make", "broken"), CASES, ids=[f"{make.__name__}-{broken.__name__}" for make, broken in CASES]
)
def test_the_order_of_columns_changes_nothing(make, broken):
    made = make(np.random.default_rng(5))
    broken(made)
    reports = []
    for first in made.columns:
        columns = {first: made.columns[first], **made.columns}
        reports.append(tb.check_batch(columns, vocab_size=VOCAB, raises=False))
        reports.append(
            tb.check_batch(dict(reversed(columns.items())), raises=False, vocab_size=VOCAB)
        )
    found = [sorted((f.kind, f.key, str(f.row), str(f.column)) for f in one) for one in reports]
    assert found == found[:1] * len(found)


@pytest.mark.parametrize(
    ("make", "broken"), CASES, ids=[f"{make.__name__}-{broken.__name__}" for make, broken in CASES]
)
def test_only_the_group_that_is_broken_is_named(make, broken):
    made = make(np.random.default_rng(9))
    broken(made)
    batch, _ = beside_another(made.columns)
    report = tb.check_batch(batch, vocab_size=VOCAB, raises=False)
    assert {finding.key.split("_")[0] for finding in report} == {"doc"}


@pytest.mark.parametrize("make", BROKEN, ids=lambda f: f.__name__)
def test_positions_beyond_the_model_are_found(make):
    made = make(np.random.default_rng(3))
    _, begin, end = max(made.spans, key=lambda span: span[2] - span[1])
    length = end - begin
    assert tb.check_batch(made.columns, max_position=length, raises=False).ok
    report = tb.check_batch(made.columns, max_position=length - 1, raises=False)
    found = [(f.kind, f.key, f.column) for f in report]
    firsts = [(r, b) for r, b, e in made.spans if e - b == length]
    assert found == [("position_range", "position_ids", firsts[0][1] + length - 1)]
