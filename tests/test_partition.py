"""partition: every row once, never over the cap, a true bound; and the step it is made for."""

import ast
import functools
import hashlib
import heapq
import importlib.metadata
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb
from reference_batching import Random


@functools.cache
def assignments(n, k):
    return np.array(list(itertools.product(range(k), repeat=n)), np.int8)


def best_there_is(costs, k, equal_counts):
    """Try every assignment: the least that the most expensive part can cost."""
    parts, n = assignments(len(costs), k), len(costs)
    counts = np.stack([(parts == part).sum(1) for part in range(k)], 1)
    sums = np.stack([((parts == part) * np.array(costs)).sum(1) for part in range(k)], 1)
    allowed = counts.min(1) > 0
    if equal_counts:
        allowed &= (counts.min(1) >= n // k) & (counts.max(1) <= -(-n // k))
    return int(sums.max(1)[allowed].min())


def check_parts(parts, costs):
    """Every row is in one part, and what is said of the parts is so."""
    assert sorted(parts.indices.tolist()) == list(range(len(costs)))
    assert parts.counts.min() > 0
    assert all((np.diff(rows) > 0).all() for rows in parts)
    sums = [sum(costs[row] for row in rows.tolist()) for rows in parts]
    assert parts.costs.tolist() == pytest.approx(sums, rel=1e-12, abs=1e-15 * float(sum(costs)))
    assert (np.diff(parts.costs) <= 0).all()
    assert parts.largest == parts.costs[0]
    for part, rows in enumerate(parts):
        assert (parts.part_of[rows] == part).all()
    assert np.array_equal(parts.indices[parts.inverse], np.arange(len(costs)))


few_costs = st.lists(st.integers(0, 12), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(few_costs, st.integers(1, 3), st.booleans())
def test_bounds_are_true(costs, k, equal_counts):
    k = min(k, len(costs))
    parts = tb.partition(costs, k, equal_counts=equal_counts)
    check_parts(parts, costs)
    assert len(parts) == k
    best = best_there_is(costs, k, equal_counts)
    assert parts.lower_bound <= best <= parts.largest
    # Largest differencing: 7/6 for two parts (Fischetti, Martello), 4/3 - 1/3k in general.
    assert parts.largest <= best * (4 / 3) + 1e-9 or equal_counts
    if equal_counts:
        assert parts.counts.max() - parts.counts.min() <= 1


@settings(max_examples=60, deadline=None)
@given(few_costs, st.integers(1, 30), st.booleans(), st.integers(1, 2))
def test_parts_within_a_cap(costs, cap, equal_counts, multiple_of):
    settings = {"cap": cap, "equal_counts": equal_counts}
    if max(costs) > cap:
        with pytest.raises(ValueError, match=f"costs, row {costs.index(max(costs))}: cost"):
            tb.partition(costs, **settings)
        return
    fewest = next(
        k for k in range(1, 7) if best_there_is(costs, k, equal_counts) <= cap or k == len(costs)
    )
    try:
        parts = tb.partition(costs, multiple_of=multiple_of, **settings)
    except ValueError as error:
        assert "multiple_of=2" in str(error)  # noqa: PT017
        return
    check_parts(parts, costs)
    assert parts.largest <= cap
    assert len(parts) % multiple_of == 0
    if multiple_of == 1:
        assert fewest <= len(parts) <= fewest + 1
        if not equal_counts:  # and then for every number above
            for k in range(len(parts), len(costs) + 1):
                assert tb.partition(costs, k, cap=cap).largest <= cap


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(0, 1e300, allow_subnormal=True), min_size=1, max_size=30),
    st.integers(1, 5),
    st.floats(1, 3),
)
def test_floats_are_summed_without_harm(costs, k, spare):
    k = min(k, len(costs))
    parts = tb.partition(costs, k)
    check_parts(parts, costs)
    assert parts.costs.dtype == np.float64
    assert parts.lower_bound <= parts.largest
    cap = float(max(costs)) * spare
    capped = tb.partition(costs, cap=cap)
    almost = cap * (1 + 1e-12)  # to the rounding of the sum
    assert capped.largest <= almost
    assert all(math.fsum(costs[row] for row in rows.tolist()) <= almost for rows in capped)


def test_integers_as_floats_give_the_same_parts():
    costs = np.random.default_rng(0).integers(0, 5000, 500)
    for more in ({"k": 7}, {"cap": 20_000}, {"k": 50, "equal_counts": True}):
        whole, real = tb.partition(costs, **more), tb.partition(costs / 8, **scale(more))
        assert np.array_equal(whole.indices, real.indices)
        assert real.costs.tolist() == (whole.costs / 8).tolist()
        assert real.lower_bound == pytest.approx(whole.lower_bound / 8, abs=1 / 8)


def scale(more):
    return {name: value / 8 if name == "cap" else value for name, value in more.items()}


def test_many_rows_come_near_the_best():
    rng = np.random.default_rng(1)
    for costs in (rng.integers(1, 4096, 8192), np.minimum(rng.lognormal(6, 1, 8192), 8192)):
        for k in (2, 8, 256, 4000):
            for equal_counts in (False, True):
                parts = tb.partition(costs, k, equal_counts=equal_counts)
                check_parts(parts, costs)
                assert parts.gap < (0.001 if k < 4000 else 0.35)
        capped = tb.partition(costs, cap=8192)
        assert capped.largest <= 8192
        assert len(capped) <= -(-costs.sum() // 8192) + 1


@pytest.mark.parametrize("equal_counts", [False, True])
def test_nearly_as_many_parts_as_rows(equal_counts):
    rows = 100_000  # to join lists of all parts again and again would take some 10**9 steps
    parts = tb.partition(np.arange(1, rows + 1), rows // 2, equal_counts=equal_counts)
    assert parts.largest == parts.lower_bound == rows + 1
    assert (parts.part_of == parts.part_of[::-1]).all()


@pytest.mark.parametrize(
    ("wanted", "options"),
    [
        ("6d538212e2b1ae857f476e6b8300abec", {"k": 2}),
        ("f3a882ad0d91fdee813a2977a8dfa8ed", {"k": 7}),
        ("f0ead39ac133a4a35cedf3b6b2989a7b", {"k": 64, "equal_counts": True}),
        ("5b346d62fccc703fefc98edd004fb3d1", {"k": 300}),
        ("57510a10201f0e575c54c9e42f756c8c", {"cap": 2000}),
        ("5e2d2ecc95fdf0333a5d0162e33ecec3", {"cap": 900, "equal_counts": True, "multiple_of": 8}),
    ],
)
def test_parts_never_change(wanted, options):
    """A step that is repeated by another release, or elsewhere, is divided as it was."""
    words = Random(7, 0)
    found = hashlib.sha256()
    for n in (320, 777, 1500):
        costs = [words.word() % 21 * (words.word() % 29) for _ in range(n)]
        parts = tb.partition(costs, **options)
        found.update(parts.part_of.astype("<i8").tobytes())
        found.update(repr(parts.lower_bound).encode())
    assert found.hexdigest()[:32] == wanted


def test_parts_never_change_where_costs_leave_no_bits_for_rows():
    words = Random(7, 1)
    costs = [words.word() % 9000 << 40 for _ in range(600)] + [2**61, 2**61 + 1, 2**60]
    found = hashlib.sha256(tb.partition(costs, 7).part_of.astype("<i8").tobytes())
    assert found.hexdigest()[:32] == "72912eb598d9447075623449b6a4641f"


def test_results_are_the_same_each_time_and_kinds_do_not_matter():
    costs = np.random.default_rng(2).integers(0, 50, 300)
    first = tb.partition(costs, 9)
    for same in (costs.tolist(), costs.astype(np.uint8), costs[::-1][::-1], tuple(costs.tolist())):
        assert np.array_equal(tb.partition(same, 9).indices, first.indices)
    torch = pytest.importorskip("torch")
    assert np.array_equal(tb.partition(torch.tensor(costs), 9).indices, first.indices)
    halves = torch.tensor(costs, dtype=torch.float32)
    assert np.array_equal(tb.partition(halves, 9).indices, first.indices)


@pytest.mark.parametrize(
    ("costs", "more", "error", "words"),
    [
        ([3, -1], {"k": 1}, ValueError, "costs, row 1: cost -1 is negative"),
        ([3.0, -0.5], {"k": 1}, ValueError, "costs, row 1: cost -0.5 is negative"),
        ([1.0, math.nan], {"k": 1}, ValueError, "costs, row 1: found nan; expected a number"),
        ([math.inf], {"k": 1}, ValueError, "costs, row 0: found inf"),
        ([1e308, 1e308], {"k": 1}, OverflowError, "row 1: with cost 1e+308 the sum is more than"),
        ([2**62, 2**62], {"k": 1}, OverflowError, "row 1: with cost 4611686018427387904 the sum"),
        ([2**63], {"k": 1}, OverflowError, "row 0"),
        ([3, 9, 4], {"cap": 8}, ValueError, "costs, row 1: cost 9 is more than cap=8; pass a"),
        ([3, 9, 4], {"cap": 8.5}, ValueError, "costs, row 1: cost 9 is more than cap=8; pass a"),
        (
            [6, 6, 6],
            {"k": 2, "cap": 8},
            ValueError,
            "found no k=2 parts of at most cap=8; pass k=3",
        ),
        ([1, 2], {"k": 3}, ValueError, "found 2 rows for k=3 parts; expected at least one row"),
        ([], {"k": 1}, ValueError, "found no rows in costs"),
        ([1], {}, ValueError, "found neither k nor cap"),
        ([1, 2, 3], {"k": 3, "multiple_of": 2}, ValueError, "k=3 is no multiple of multiple_of=2"),
        ([4, 4, 4], {"cap": 4, "multiple_of": 2}, ValueError, "multiple_of=2; pass a smaller"),
        ([1], {"k": True}, TypeError, "k=True"),
        ([1], {"k": 0}, ValueError, "k=0"),
        ([1], {"cap": -1}, ValueError, "cap=-1"),
        ([1], {"cap": math.nan}, ValueError, "cap=nan"),
        ([True, False], {"k": 1}, TypeError, "costs"),
        ([1.5, True], {"k": 1}, TypeError, "costs, row 1: found True"),
        ([1, None], {"k": 1}, TypeError, "costs, row 1: found None"),
        (["1"], {"k": 1}, TypeError, "costs"),
        ([[1, 2]], {"k": 1}, TypeError, "costs"),
        ([[1], [1, 2]], {"k": 1}, TypeError, "costs"),
        (np.array([1j]), {"k": 1}, TypeError, "costs"),
        (None, {"k": 1}, TypeError, "costs"),
    ],
)
def test_errors_say_what_to_do(costs, more, error, words):
    with pytest.raises(error) as caught:
        tb.partition(costs, **more)
    assert str(caught.value).startswith("partition(): ")
    assert words in str(caught.value)


def test_zero_costs_and_one_row():
    parts = tb.partition([0, 0, 0, 0], 2)
    assert (parts.gap, parts.largest) == (0.0, 0)
    assert parts.counts.min() > 0
    assert len(tb.partition([0, 0], cap=0)) == 1
    assert repr(tb.partition([7], 1)) == (
        "<Partition of 1 row into 1 part: largest 7, exactly the best>"
    )
    assert tb.partition([5, 0, 0, 0], 4).counts.tolist() == [1, 1, 1, 1]
    assert tb.partition([1e-320, 0.0], cap=1e-300).largest >= 1e-320


def test_outputs_come_back_in_order():
    values = np.arange(10) * 3
    parts = tb.partition(values, 3)
    assert parts.restore([values[rows] for rows in parts]).tolist() == values.tolist()
    assert parts.restore([values[rows].tolist() for rows in parts]) == values.tolist()
    torch = pytest.importorskip("torch")
    table = torch.arange(20.0).reshape(10, 2)
    found = parts.restore([{"logits": table[rows]} for rows in parts])
    assert torch.equal(found["logits"], table)
    with pytest.raises(ValueError, match=r"Partition.restore\(\): found outputs of 9 rows"):
        parts.restore([*(values[parts[part]] for part in (0, 1)), values[parts[2]][:-1]])


def test_weights_of_parts():
    parts = tb.partition([4, 9, 2, 3, 8], 2)
    weights = parts.loss_weights([0, 5, 0, 2, 3])
    assert weights.tolist() == [0.5, 0.5]
    assert parts.loss_weights([0, 5, 0, 2, 3], num_items=40).tolist() == [0.125, 0.125]
    for tokens, more, words in (
        ([1, 2], {}, "found 2 numbers of tokens, expected 5"),
        ([1, 2, -3, 4, 5], {}, "tokens, row 2: -3 is negative"),
        ([0] * 5, {}, "found no tokens"),
        ([1] * 5, {"num_items": 4}, "num_items=4, but these rows have 5 tokens"),
    ):
        with pytest.raises(ValueError, match=words):
            parts.loss_weights(tokens, **more)
    assert parts.loss_weights([0] * 5, num_items=4).tolist() == [0.0, 0.0]


def causal_model():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=32, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0, embd_pdrop=0
    )
    config.attn_pdrop = 0
    return transformers.GPT2LMHeadModel(config).double().eval()


def rows_of_tokens():
    rng = np.random.default_rng(3)
    return [rng.integers(1, 50, size) for size in rng.integers(2, 30, 13)]


def padded(rows):
    import torch

    ids, mask = tb.pad(rows, return_mask=True)
    ids, mask = torch.from_numpy(ids), torch.from_numpy(mask)
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": ids.where(mask, -100)}


def gradients(model):
    return [weight.grad.clone() for weight in model.parameters()]


@pytest.mark.parametrize("num_items_in_batch", [False, True])
def test_a_step_on_parts_is_the_step_on_the_batch(num_items_in_batch):
    model, rows = causal_model(), rows_of_tokens()
    import torch

    model(**padded(rows)).loss.backward()
    expected = gradients(model)
    lengths = [len(row) for row in rows]
    parts = tb.partition(lengths, cap=50)
    assert len(parts) >= 3
    tokens = [length - 1 for length in lengths]  # no token predicts the first
    weights = parts.loss_weights(tokens)
    assert len(set(weights.tolist())) > 1
    model.zero_grad()
    for part, weight in zip(parts, weights, strict=True):
        batch = padded([rows[row] for row in part])
        if num_items_in_batch:  # as transformers' Trainer passes it: the loss is a share already
            model(**batch, num_items_in_batch=torch.tensor(sum(tokens))).loss.backward()
        else:
            (model(**batch).loss * weight).backward()
    for found, grad in zip(gradients(model), expected, strict=True):
        assert torch.allclose(found, grad, rtol=1e-6, atol=1e-9)
    model.zero_grad()
    for part in parts:  # what the weights are for: equal shares are another gradient
        (model(**padded([rows[row] for row in part])).loss / len(parts)).backward()
    others = zip(gradients(model), expected, strict=True)
    assert not all(torch.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in others)


def karmarkar_karp():
    """verl's function as installed; its package imports ray, so the function is read alone."""
    try:
        files = importlib.metadata.files("verl")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("verl is not installed")
    path = next(file for file in files if file.name == "seqlen_balancing.py").locate()
    tree = ast.parse(path.read_text())
    names = {"heapq": heapq}
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "karmarkar_karp")
    exec(compile(ast.Module([function], []), str(path), "exec"), names)
    return names["karmarkar_karp"]


def test_no_part_is_larger_than_verls():
    peer, rng = karmarkar_karp(), np.random.default_rng(4)
    for round in range(60):
        k = int(rng.integers(2, 12))
        costs = rng.lognormal(5, 1.2, k * int(rng.integers(1, 12))).astype(int)
        for equal_counts in (False, True):
            theirs = peer(costs.tolist(), k, equal_counts)
            largest = max(costs[rows].sum() for rows in theirs if rows)
            assert tb.partition(costs, k, equal_counts=equal_counts).largest <= largest, round


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_floats_that_fit_exactly_fit(dtype):
    for rows in (10, 1000, 5000):
        costs = np.full(rows, 0.1, dtype)
        one, two = float(costs[0]), float(costs[0]) * 2
        assert len(tb.partition(costs, cap=one)) == rows
        assert len(tb.partition(costs, cap=two)) == rows // 2
        assert len(tb.partition(costs, rows // 2, cap=two)) == rows // 2
    with pytest.raises(ValueError, match=r"row 0: cost .* is more than cap=0"):
        tb.partition([1e-320], cap=0.0)


def test_a_cap_above_all_costs_is_none():
    for costs in ([1, 2, 3], [1.0, 2.0, 3.0]):
        for cap in (math.inf, 1e19, np.float64(1e300)):
            assert len(tb.partition(costs, cap=cap)) == 1
            assert len(tb.partition(costs, 2, cap=cap)) == 2


def test_costs_near_the_end_of_int64():
    parts = tb.partition([2**62, 2**62 - 1], 1, equal_counts=True)
    assert parts.largest == parts.lower_bound == 2**63 - 1
