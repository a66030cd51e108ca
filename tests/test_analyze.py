"""analyze: every figure against the batches that are really made, padded and counted."""

import array
import html
import importlib.util
import io
import json
import math
import re
from typing import Any

import numpy as np
import pytest

import tightbatch as tb
from tightbatch import _core
from tightbatch.analysis.report_text import percent

RNG = np.random.default_rng(5)
TEXT = np.clip(RNG.lognormal(3.4, 0.8, 3001).astype(np.int64), 0, 200)
SMALL = TEXT[:257]


def rows_of(lengths):
    return [np.ones(length, np.int64) for length in lengths]


def padded(lengths, batches, **options):
    """Pad the rows of each batch, and give the shapes of the arrays."""
    rows = rows_of(lengths)
    collate = tb.PadCollator(return_tensors="np", **options)
    made = [collate([{"input_ids": rows[i]} for i in batch]) for batch in batches]
    real = sum(int(batch["attention_mask"].sum()) for batch in made)
    return [batch["input_ids"].shape for batch in made], real


def assert_is(strategy, shapes, real, *, squares=None, fixed=None):
    tokens = sum(rows * width for rows, width in shapes)
    assert strategy.batches == len(shapes)
    assert (strategy.real_tokens, strategy.padded_tokens) == (real, tokens)
    assert strategy.waste == pytest.approx(1 - real / tokens)
    if squares is None:
        squares = sum(rows * width**2 for rows, width in shapes)
    assert strategy.attention == squares
    assert strategy.shapes == len(set(shapes))
    assert strategy.widths == len({width for _, width in shapes})
    largest = max(rows * width for rows, width in shapes)
    assert strategy.largest_tokens == strategy.largest_rows * strategy.largest_width == largest
    assert strategy.largest_bytes == 8 * largest
    if fixed is not None:
        assert strategy.speed_up == fixed.padded_tokens / tokens
        assert strategy.attention_speed_up == fixed.attention / squares


def random_order(lengths, seed=0):
    """The order in which every plan of a seed begins."""
    sampler = tb.LengthBatchSampler(
        lengths, batch_size=len(lengths), padding_free=True, seed=seed, shuffle_window=None
    )
    (order,) = sampler
    return order


def squares_of(lengths):
    return float((lengths.astype(float) ** 2).sum())


CAPS = [
    {"batch_size": 16},
    {"batch_size": 7, "pad_to_multiple_of": 8, "seed": 3},
    {"max_tokens": 1000},
    {"max_tokens": 1200, "batch_size": 9, "pad_to_multiple_of": 16},
    {"batch_size": 16, "shuffle_window": 40},
    {"batch_size": 16, "shuffle_window": None},
    {"batch_size": 5000},
]


@pytest.mark.parametrize("caps", CAPS, ids=str)
def test_plans_are_those_of_the_sampler(caps):
    lengths = TEXT
    report = tb.analyze(lengths, **caps)
    multiple = caps.get("pad_to_multiple_of")
    fixed = report["fixed"]
    batches = list(tb.LengthBatchSampler(lengths, **caps))
    shapes, real = padded(lengths, batches, pad_to_multiple_of=multiple)
    assert real == report.tokens == int(lengths.sum())
    assert_is(report["uniform-length"], shapes, real, fixed=fixed)

    bounds = tb.bucket_boundaries(lengths, 8, pad_to_multiple_of=multiple)
    np.testing.assert_array_equal(report.boundaries, bounds)
    batches = list(tb.LengthBatchSampler(lengths, **caps, boundaries=bounds))
    shapes, real = padded(lengths, batches, pad_to_multiple_of=multiple, boundaries=bounds)
    assert_is(report["optimal buckets"], shapes, real, fixed=fixed)

    kept = {name: caps[name] for name in ("batch_size", "max_tokens", "seed") if name in caps}
    batches = list(tb.LengthBatchSampler(lengths, **kept, padding_free=True))
    shapes = [(1, int(lengths[batch].sum())) for batch in batches]
    assert_is(report["padding-free"], shapes, real, squares=squares_of(lengths), fixed=fixed)


@pytest.mark.parametrize("caps", CAPS, ids=str)
def test_random_batches_and_fixed_ones(caps):
    report = tb.analyze(TEXT, **caps)
    multiple = caps.get("pad_to_multiple_of", 1)
    order = random_order(TEXT, caps.get("seed", 0))
    rows, tokens = caps.get("batch_size", math.inf), caps.get("max_tokens", math.inf)
    batches = [[]]
    for row in order:
        longest = max(TEXT[[*batches[-1], row]].max(), 1)
        cost = (len(batches[-1]) + 1) * -(-longest // multiple) * multiple
        if batches[-1] and (len(batches[-1]) == rows or cost > tokens):
            batches.append([])
        batches[-1].append(row)
    shapes, real = padded(TEXT, batches, pad_to_multiple_of=multiple)
    assert_is(report["dynamic"], shapes, real, fixed=report["fixed"])

    width = -(-TEXT.max() // multiple) * multiple
    count = int(min(rows, tokens / int(width)))
    groups = [order[i : i + count] for i in range(0, len(order), count)]
    shapes = [(len(group), width) for group in groups]
    assert_is(report["fixed"], shapes, real)
    assert report["fixed"].speed_up == report["fixed"].attention_speed_up == 1
    assert report.limit == len(TEXT) * width / TEXT.sum()
    assert report.attention_limit == pytest.approx(len(TEXT) * width**2 / squares_of(TEXT))


@pytest.mark.parametrize(
    ("caps", "capacity", "packs_in_a_batch"),
    [
        ({"batch_size": 16}, 200, round(16 * TEXT.mean() / 200)),
        ({"batch_size": 16, "capacity": 512, "seed": 2}, 512, 1),
        ({"max_tokens": 1000}, 200, 5),
        ({"max_tokens": 1000, "pad_to_multiple_of": 64}, 256, 3),
    ],
    ids=str,
)
def test_packs_are_those_of_pack(caps, capacity, packs_in_a_batch):
    report = tb.analyze(TEXT, **caps)
    packing = tb.pack(TEXT, capacity, seed=caps.get("seed", 0))
    assert report.capacity == capacity
    assert sorted(report.pack_tokens) == sorted(packing.pack_lengths)
    whole, rest = divmod(len(packing), packs_in_a_batch)
    shapes = [(packs_in_a_batch, capacity)] * whole + [(rest, capacity)] * (rest > 0)
    real = int(TEXT.sum())
    assert_is(report["packed"], shapes, real, squares=squares_of(TEXT), fixed=report["fixed"])


@pytest.mark.parametrize("caps", [{"batch_size": 4}, {"max_tokens": 900}], ids=str)
@pytest.mark.parametrize("ranks", [2, 7])
def test_balance_is_that_of_the_ranks(caps, ranks):
    report = tb.analyze(TEXT, **caps, num_replicas=ranks)
    for name, more in (("uniform-length", {}), ("padding-free", {"padding_free": True})):
        samplers = [
            tb.LengthBatchSampler(TEXT, **caps, **more, num_replicas=ranks, rank=rank)
            for rank in range(ranks)
        ]
        steps = list(zip(*samplers, strict=True))
        if more:
            costs = [[int(TEXT[batch].sum()) for batch in step] for step in steps]
        else:
            costs = [[len(batch) * int(TEXT[batch].max()) for batch in step] for step in steps]
        found = report[name]
        assert found.padded_tokens == sum(map(sum, costs))
        most = sum(map(max, costs))
        assert found.balance == pytest.approx(found.padded_tokens / (ranks * most))
        assert found.batches == ranks * len(steps)
        if not more:
            np.testing.assert_array_equal(report.loads, costs)
        assert found.largest_tokens == max(map(max, costs))
    assert tb.analyze(TEXT, **caps)["uniform-length"].balance == 1


@pytest.mark.parametrize("caps", [{"batch_size": 8}, {"max_tokens": 900}], ids=str)
def test_windows_cost_what_samplers_with_them_do(caps):
    report = tb.analyze(TEXT, **caps)
    sampler = tb.LengthBatchSampler(TEXT, **caps)
    assert [w.rows for w in report.windows if w.is_chosen] == [sampler.shuffle_window]
    assert report.windows[-1].rows == len(TEXT)
    assert len({w.rows for w in report.windows}) == len(report.windows) > 4
    for window in report.windows:
        own = tb.LengthBatchSampler(TEXT, **caps, shuffle_window=window.rows)
        fairness = own.fairness()
        assert window.waste == pytest.approx(fairness.plan.padding, abs=1e-12)
        assert window.length_std == pytest.approx(fairness.plan.length_std, rel=1e-9)
        forced = max(window.length_std - report["dynamic"].length_std, 0)
        assert window.forced == forced
        inside = [
            TEXT.var() - spread**2 for spread in (window.length_std, report["dynamic"].length_std)
        ]
        assert window.mixing == pytest.approx(max(inside[0], 0) / inside[1], abs=1e-9)
        assert window.speed_up == report["fixed"].padded_tokens / window.padded_tokens
    wastes = [w.waste for w in report.windows]
    assert wastes == sorted(wastes, reverse=True)
    fairness = sampler.fairness()
    random = fairness.random.length_std  # of another random order
    assert report["dynamic"].length_std == pytest.approx(random, rel=0.25)
    assert report["uniform-length"].length_std == pytest.approx(fairness.plan.length_std)


def test_what_is_cut_is_counted():
    report = tb.analyze(TEXT, batch_size=16, max_length=50)
    cut = np.minimum(TEXT, 50)
    assert report.rows_cut == (TEXT > 50).sum()
    assert report.tokens_cut == TEXT.sum() - cut.sum()
    assert report.tokens == cut.sum()
    assert report["fixed"].largest_width == report.capacity == report.longest == 50
    shapes, real = padded(cut, tb.LengthBatchSampler(TEXT, batch_size=16, max_length=50))
    assert_is(report["uniform-length"], shapes, real)


@pytest.mark.parametrize("overlong", ["truncate", "drop"])
def test_rows_above_the_cap(overlong):
    report = tb.analyze(TEXT, max_tokens=100, overlong=overlong)
    sampler = tb.LengthBatchSampler(TEXT, max_tokens=100, overlong=overlong)
    batches = list(sampler)
    lengths = np.minimum(TEXT, 100)
    shapes, real = padded(lengths, batches)
    assert_is(report["uniform-length"], shapes, real)
    long = int((TEXT > 100).sum())
    assert report.rows == len(TEXT) - (long if overlong == "drop" else 0)
    assert (report.rows_cut, report.rows_dropped) == (
        (0, long) if overlong == "drop" else (long, 0)
    )
    lost = 0 if overlong == "drop" else int((TEXT - lengths).sum())
    assert report.tokens_cut == lost
    with pytest.raises(ValueError, match=r"analyze\(\): row \d+: length"):
        tb.analyze(TEXT, max_tokens=100)


def test_rows_that_are_cut_and_then_dropped():
    report = tb.analyze(TEXT, max_tokens=100, max_length=150, overlong="drop")
    kept = TEXT[TEXT <= 100]
    assert (report.rows, report.tokens) == (len(kept), kept.sum())
    assert (report.rows_cut, report.tokens_cut) == (0, 0)
    assert report.rows_dropped == len(TEXT) - len(kept)
    report = tb.analyze(TEXT, max_tokens=100, max_length=60, overlong="drop")
    assert (report.rows_cut, report.rows_dropped) == ((TEXT > 60).sum(), 0)


def test_batches_of_rows_beyond_any_memory():
    report = tb.analyze([2**61, 5], batch_size=2)
    assert [strategy.shapes for strategy in report.strategies[:3]] == [1, 1, 1]


def test_many_rows():
    lengths = np.tile(TEXT[:3000], 90)  # so many that packing has a thread of its own
    report = tb.analyze(lengths, batch_size=64)
    packing = tb.pack(lengths, report.capacity)
    assert len(report.pack_tokens) == len(packing)
    assert report["packed"].real_tokens == report.tokens == lengths.sum()
    with pytest.raises(ValueError, match="analyze"):
        tb.analyze(lengths, batch_size=64, capacity=10)


def test_lengths_as_they_are():
    report = tb.analyze(SMALL, batch_size=4)
    values, counts = np.unique(SMALL, return_counts=True)
    np.testing.assert_array_equal(report.lengths, values)
    np.testing.assert_array_equal(report.counts, counts)
    assert report.median_length == np.median(SMALL)
    assert report.mean_length == SMALL.mean()
    assert report.longest == SMALL.max()
    _, waste = tb.bucket_boundaries(SMALL, 64, return_waste=True)
    np.testing.assert_array_equal(report.bucket_waste, waste)


def test_even_medians_and_long_rows():
    report = tb.analyze([1, 2, 10**9, 4], batch_size=2)
    assert report.median_length == 3
    assert report.lengths.tolist() == [1, 2, 4, 10**9]
    assert report["fixed"].padded_tokens == 4 * 10**9
    with pytest.raises(OverflowError, match=r"analyze\(\): row 1: .* max_length="):
        tb.analyze([1, 2**61, 3, 4], batch_size=2)


def test_data_of_every_kind():
    rows = [[1] * int(n) for n in SMALL[:40]]
    expected = tb.analyze(SMALL[:40], batch_size=4).to_dict()
    samples = [{"input_ids": row} for row in rows]
    ragged = tb.Ragged.from_sequences(rows)
    for data, column in (
        (SMALL[:40].tolist(), None),
        (SMALL[:40].astype(np.uint16), None),
        (tuple(SMALL[:40]), None),
        (map(len, rows), None),
        (array.array("q", SMALL[:40].tolist()), None),
        (list(SMALL[:40]), None),
        (rows, None),
        (iter(rows), None),
        (ragged, None),
        (samples, "input_ids"),
        (tb.RaggedDataset(samples), "input_ids"),
        ({"input_ids": ragged}, "input_ids"),
    ):
        found = tb.analyze(data, column=column, batch_size=4).to_dict()
        assert found["settings"].pop("column") == column
        code = found.pop("code")
        assert {**expected, "settings": {**expected["settings"], "column": None}} == {
            **found,
            "settings": {**found["settings"], "column": None},
            "code": expected["code"],
        }
        assert ("tb.lengths(data, column='input_ids')" in code) == (column is not None)


def test_tables_and_datasets():
    pa = pytest.importorskip("pyarrow")
    rows = [[1] * int(n) for n in SMALL[:40]]
    table = pa.table({"ids": rows, "label": [0] * 40})
    expected = tb.analyze(SMALL[:40], batch_size=4).strategies
    assert tb.analyze(table, column="ids", batch_size=4).strategies == expected
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"ids": rows})
    assert tb.analyze(dataset, column="ids", batch_size=4).strategies == expected
    assert tb.analyze(pa.chunked_array([SMALL[:40]]), batch_size=4).strategies == expected
    with pytest.raises(TypeError, match=r"analyze\(\): found Table .* pass column='ids'"):
        tb.analyze(table, batch_size=4)


def test_frames_and_tensors():
    expected = tb.analyze(SMALL[:40], batch_size=4).strategies
    pandas = pytest.importorskip("pandas")
    for dtype in ("int32", "Int64"):
        series = pandas.Series(SMALL[:40], dtype=dtype)
        assert tb.analyze(series, batch_size=4).strategies == expected
    frame = pandas.DataFrame({"ids": [[1] * int(n) for n in SMALL[:40]], "label": 0})
    assert tb.analyze(frame["ids"], batch_size=4).strategies == expected
    with pytest.raises(TypeError, match=r"analyze\(\): found DataFrame .* pass column='ids'"):
        tb.analyze(frame, batch_size=4)
    torch = pytest.importorskip("torch")
    for data in (torch.tensor(SMALL[:40]), list(torch.tensor(SMALL[:40]))):
        assert tb.analyze(data, batch_size=4).strategies == expected


def test_what_has_no_lengths():
    with pytest.raises(TypeError, match=r"^analyze\(\): .*pass column='input_ids'"):
        tb.analyze([{"input_ids": [1]}], batch_size=2)
    with pytest.raises(KeyError, match=r"analyze\(\): row 0: there is no column"):
        tb.analyze([{"input_ids": [1]}], column="ids", batch_size=2)
    with pytest.raises(ValueError, match=r"^analyze\(\): found no rows in data"):
        tb.analyze([], batch_size=2)
    with pytest.raises(ValueError, match=r"^analyze\(\): pass batch_size=, max_tokens= or both"):
        tb.analyze([1, 2])
    with pytest.raises(ValueError, match=r"analyze\(\).*row 1.* -2"):
        tb.analyze([1, -2], batch_size=2)
    with pytest.raises(TypeError, match=r"^analyze\(\)"):
        tb.analyze([1.5, 2.0], batch_size=2)
    with pytest.raises(ValueError, match=r"analyze\(\): row 1: length 9 is more than"):
        tb.analyze([1, 9], batch_size=2, capacity=4)
    with pytest.raises(ValueError, match="a row for each rank"):
        tb.analyze([1, 9], batch_size=2, num_replicas=3)


def test_as_numbers():
    report = tb.analyze(SMALL, batch_size=4, max_length=60)
    found = json.loads(json.dumps(report.to_dict()))
    assert found["strategies"][2]["padded_tokens"] == report["uniform-length"].padded_tokens
    assert found["boundaries"] == report.boundaries.tolist()
    assert set(found) == set(vars(report)) - {"pack_tokens", "loads"}
    assert len(report) == 6
    with pytest.raises(KeyError, match="expected one of 'fixed'"):
        report["nothing"]
    pandas = pytest.importorskip("pandas")
    frame = report.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.loc["packed", "padded_tokens"] == report["packed"].padded_tokens


@pytest.mark.parametrize("width", [20, 40, 80, 100, 140])
def test_text_fits_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    report = tb.analyze(TEXT, batch_size=16, num_replicas=2)
    text = str(report)
    lines = text.splitlines()
    code = report.code.splitlines()
    assert lines[-len(code) :] == code
    assert max(map(len, lines[: -len(code)])) <= width
    joined = " ".join(text.split())
    for one in report:
        assert percent(one.waste) in joined
        assert percent(one.balance) in joined
    assert report.verdict in joined
    assert joined.count("uniform-length") >= 1


def test_text_of_rich():
    rich = pytest.importorskip("rich.console")
    report = tb.analyze(TEXT, batch_size=16)
    for width in (30, 60, 120):
        console = rich.Console(width=width, record=True, file=io.StringIO())
        console.print(report)
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= width
        assert percent(report["uniform-length"].waste) in text
        if width > 30:
            assert text.count("uniform-length") == text.count("optimal buckets") > 0


def run_code(code, **names):
    exec(code, names)  # as a user pastes it
    return names


@pytest.mark.parametrize(
    "caps",
    [
        {"batch_size": 16},
        {"max_tokens": 900, "pad_to_multiple_of": 8, "seed": 4},
        {"batch_size": 16, "shuffle_window": None, "max_length": 64},
        {"batch_size": 16, "num_replicas": 2},
    ],
    ids=str,
)
def test_the_code_and_the_calls_run(caps):
    pytest.importorskip("torch")
    report = tb.analyze(TEXT, **caps)
    assert report.recommended == "uniform-length"
    names = run_code(report.code, lengths=TEXT)
    rows = rows_of(TEXT)
    made = [names["collate_fn"]([{"input_ids": rows[i]} for i in b]) for b in names["sampler"]]
    shapes = [tuple(batch["input_ids"].shape) for batch in made]
    ranks = caps.get("num_replicas", 1)
    if ranks == 1:
        assert_is(report["uniform-length"], shapes, report.tokens)
    else:
        assert [rows * width for rows, width in shapes] == report.loads[:, 0].tolist()
    for strategy in report:
        result = eval(strategy.call, {"tb": tb, "lengths": TEXT, "rank": 1})
        if strategy.name == "packed":
            assert sorted(result.pack_lengths) == sorted(report.pack_tokens)
        elif strategy.name in ("optimal buckets", "padding-free"):
            assert len(list(result)) == strategy.batches / ranks


@pytest.mark.parametrize(
    "caps",
    [
        {"max_tokens": 16, "overlong": "drop"},
        {"batch_size": 4, "overlong": "truncate", "max_tokens": 25},
        {"batch_size": 4, "max_length": 10},
        {"batch_size": 4, "max_length": 10, "capacity": 40},
        {"batch_size": 4, "max_length": 10, "capacity": 10, "seed": 3},
    ],
    ids=str,
)
def test_calls_cut_and_drop_what_was_measured(caps):
    pytest.importorskip("torch")
    lengths = [3, 9, 30, 30, 7, 30, 4, 5] * 20
    report = tb.analyze(lengths, **caps)
    run_code(report.code, lengths=lengths)
    for name in ("uniform-length", "optimal buckets", "padding-free"):
        made = list(eval(report[name].call, {"tb": tb, "lengths": lengths}))
        assert len(made) == report[name].batches
    packing = eval(report["packed"].call, {"tb": tb, "lengths": lengths})
    assert sorted(packing.pack_lengths) == sorted(report.pack_tokens)


def test_the_verdict():
    assert tb.analyze([7] * 64, batch_size=8).recommended == "fixed"
    assert "Nothing to gain" in tb.analyze([7] * 64, batch_size=8).verdict
    outlier = [10] * 1000 + [1000]
    report = tb.analyze(outlier, batch_size=2)
    assert report.recommended == "dynamic"
    assert "batches by length would save nothing more" in report.verdict
    assert "tb.PadCollator()" in report.code
    run_code(report.code)
    report = tb.analyze(TEXT, batch_size=16)
    best, widest = report["uniform-length"], report.windows[-1]
    assert f"{best.speed_up:.2f} times fewer tokens" in report.verdict
    assert f"at most {report.limit:.2f}" in report.verdict
    assert f"{widest.speed_up:.2f} with shuffle_window=None" in report.verdict
    assert repr(report) == f"<PaddingReport: {report.verdict}>"
    full = tb.analyze(np.tile(TEXT, 3), batch_size=16)
    assert full.estimate is None
    assert full.verdict == (
        f"Batches by length: {full['uniform-length'].speed_up:.2f} times fewer tokens than fixed "
        f"padding, of at most {full.limit:.2f}; {full['uniform-length'].waste:.1%} padding instead "
        f"of {full['fixed'].waste:.1%}."
    )


UNIFORM = np.random.default_rng(0).integers(1, 200, 200)


def test_the_verdict_on_a_small_sample():
    report = tb.analyze(UNIFORM, batch_size=32)
    assert report.recommended == "uniform-length"
    assert (report.windows[0].rows, report.windows[0].is_chosen) == (32, True)
    estimate = report.estimate
    assert (estimate.rows, estimate.batches, estimate.data_rows) == (3200, 100, 12_800)
    assert report.verdict == (
        f"Batches by length: about {estimate.speed_up:.2f} times fewer tokens than fixed padding, "
        f"of at most {report.limit:.2f}, estimated for 12,800 rows like these. These 200 rows fill "
        "only 7 batches, so the default window is 1 batch instead of 100: here batches by length "
        f"give {report['uniform-length'].speed_up:.2f}, {report.windows[-1].speed_up:.2f} with "
        "shuffle_window=None; padding-free batches or packs, for a model that keeps their rows "
        f"apart, {report['padding-free'].speed_up:.2f} and {report['packed'].speed_up:.2f}."
    )
    assert "# if these 200 rows are all: shuffle_window=None" in report.code
    text = " ".join(str(report).split())
    assert "3,200 of 12,800" in text
    assert "The last line is an estimate" in text
    assert json.loads(json.dumps(report.to_dict()))["estimate"]["data_rows"] == 12_800


@pytest.mark.parametrize("caps", [{"batch_size": 8}, {"max_tokens": 900, "num_replicas": 2}])
def test_the_estimate_is_a_plan_of_more_such_rows(caps):
    report = tb.analyze(SMALL, **caps)
    estimate = report.estimate
    copies, rest = divmod(estimate.data_rows, len(SMALL))
    assert rest == 0
    assert copies > 1
    caps.pop("num_replicas", None)
    large = tb.analyze(np.tile(SMALL, copies), **caps)
    (chosen,) = (one for one in large.windows if one.is_chosen)
    assert large.estimate is None
    assert chosen.rows == estimate.rows
    for name in ("padded_tokens", "waste", "speed_up", "attention", "length_std", "forced"):
        assert getattr(estimate, name) == pytest.approx(getattr(chosen, name))
    real = tb.analyze(np.random.default_rng(2).permutation(TEXT), batch_size=7)
    sample = tb.analyze(real_rows := TEXT[::6], batch_size=7)
    assert len(real_rows) == 501
    assert sample.estimate.waste == pytest.approx(real["uniform-length"].waste, abs=0.03)


def test_no_estimate_where_none_is_needed():
    assert tb.analyze(TEXT, batch_size=4).estimate is None
    assert tb.analyze(UNIFORM, batch_size=32, shuffle_window=None).estimate is None
    assert tb.analyze(UNIFORM, batch_size=32, shuffle_window=64).estimate is None
    assert tb.analyze(UNIFORM, batch_size=10**12).estimate is None
    assert tb.analyze([2**52, 5], batch_size=32).estimate is None  # more tokens than int64 counts
    assert tb.analyze(UNIFORM, batch_size=5000).estimate.data_rows < 2**20 + 200


def tail():
    return (10 * np.random.default_rng(0).pareto(1.5, 20_000) + 5).astype(int).clip(1, 4000)


@pytest.mark.parametrize(
    ("lengths", "caps", "recommended", "said"),
    [
        (tail(), {"batch_size": 32}, "padding-free", "padded, batches by length give"),
        (
            UNIFORM,
            {"batch_size": 32, "pad_to_multiple_of": 512},
            "padding-free",
            "no padded way saves more than 3%.",
        ),
        (
            np.tile(TEXT, 3),
            {"batch_size": 16, "shuffle_window": 16},
            "padding-free",
            "padded, dynamic padding gives .* batches by length give .* "
            "shuffle_window=None instead of 16, which is 1 batch",
        ),
        (
            TEXT[:60],
            {"batch_size": 16, "pad_to_multiple_of": 100},
            "padding-free",
            "padded, batches by length give about .* estimated .* These 60 rows fill only 4",
        ),
        (
            75 + np.arange(4000) * 7 % 26,
            {"batch_size": 32, "shuffle_window": 32},
            "fixed",
            "^Fixed padding: 12.5% .* save less than 3% .* with shuffle_window=None instead of 32, "
            "which is 1 batch; padding-free batches, for a model .* apart, 1.14.$",
        ),
        (UNIFORM[:20], {"batch_size": 32}, "uniform-length", "20 rows fill only 1 batch, .* 1.00;"),
        ([0, 0], {"batch_size": 2}, "dynamic", "^Nothing to gain: the rows have no tokens.$"),
    ],
)
def test_the_verdict_on(lengths, caps, recommended, said):
    report = tb.analyze(lengths, **caps)
    assert report.recommended == recommended
    assert re.search(said, report.verdict), report.verdict
    named = {one.name: one.speed_up for one in report}
    # "Nothing to gain" is said, and fixed padding pasted, only where that is so.
    assert ("Nothing to gain" in report.verdict) == (report.limit < 1.03)
    assert "width=" not in report.code or max(named.values()) < 1.3


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_code_without_padding_runs(ranks):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    lengths = tail()[:3000]
    rows = [{"input_ids": torch.ones(min(int(n), 50), dtype=torch.int64)} for n in lengths]
    caps = {"batch_size": 16, "max_length": 50, "pad_to_multiple_of": 64, "num_replicas": ranks}
    report = tb.analyze(rows, column="input_ids", **caps)
    assert report.recommended == "padding-free"
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=20, num_hidden_layers=1, **sizes)
    model = transformers.LlamaForCausalLM(config)
    names = run_code(report.code, data=rows, model=model)
    first = next(iter(names["sampler"]))
    batch = names["collate_fn"]([rows[i] for i in first])
    assert batch["input_ids"].shape == (1, sum(len(rows[i]["input_ids"]) for i in first))


def test_html():
    report = tb.analyze(TEXT, batch_size=16)
    page = report._repr_html_()
    assert page.count("<table>") == 2
    assert page.count("<img ") == (3 if importlib.util.find_spec("matplotlib") else 0)
    assert html.escape(percent(report["packed"].waste)) in page
    assert f"<b>{html.escape(report.verdict)}</b>" in page
    assert page.count("<b>") == 1
    assert "tb.LengthBatchSampler(lengths, batch_size=16)" in page


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]


def test_pictures():
    pytest.importorskip("matplotlib")
    report = tb.analyze(TEXT, batch_size=16, num_replicas=3)
    every = titles(report.plot(theme="light"))
    assert len(every) == 6
    packs, capacity = len(report.pack_tokens), report.capacity
    assert every[0] == "Tokens by strategy"
    assert every[1] == f"Lengths of {len(TEXT):,} rows"
    assert every[4].startswith(f"{packs} packs of {capacity} tokens")
    assert every[5].startswith("3 ranks wait")
    assert len(titles(tb.analyze(TEXT, batch_size=16).plot())) == 5
    names = ("strategies", "lengths", "windows", "buckets", "packs", "ranks")
    assert [titles(report.plot(name))[0] for name in names] == every
    bars = report.plot("strategies").axes[0]
    widths = {round(bar.get_width()) for bar in bars.patches}
    assert report.tokens in widths
    assert report["fixed"].padded_tokens - report.tokens in widths
    line = report.plot("windows").axes[0].lines[0]
    assert line.get_ydata().tolist() == [100 * window.waste for window in report.windows]
    ax = report.plot("lengths").axes[0]
    report.plot("buckets", ax)
    assert ax.get_title(loc="left") == every[3]
    with pytest.raises(ValueError, match=r"PaddingReport\.plot\(\): ax with panel='all'"):
        report.plot(ax=ax)


def test_pictures_of_little():
    pytest.importorskip("matplotlib")
    for lengths in ([0, 0, 0], [5], [7] * 64):
        assert len(titles(tb.analyze(lengths, batch_size=2).plot())) == 5
    assert tb.analyze([0, 0, 0], batch_size=2)._repr_html_().count("<img ") == 3


def test_rows_of_no_tokens():
    report = tb.analyze([0, 0, 0], batch_size=2)
    assert report["fixed"].padded_tokens == 0
    assert report.limit == 1
    assert report["uniform-length"].waste == 0
    for one in report:
        assert (one.padded_tokens, one.waste, one.speed_up) == (0, 0.0, 1.0)
    assert "nan" not in str(report)
    assert "100.0%  " not in str(report).partition("shuffle_window")[0]
    pytest.importorskip("torch")
    run_code(report.code)
    json.dumps(report.to_dict(), allow_nan=False)


def test_huge_numbers_are_written_short():
    text = " ".join(str(tb.analyze([10**12] * 3, batch_size=2)).split())  # at any width
    assert "mean 1.00T, median 1.00T, longest 1,000,000,000,000." in text
    assert "3.00e24" in text
    assert "2x1.00T" in text
    assert "14.6 TiB" in text
    assert max(map(len, re.findall(r"\d{8,}", text.partition("import")[0])), default=0) == 0
    text = " ".join(str(tb.analyze([1000, 3001], batch_size=2)).split())
    assert "mean 2,000.5, median 2,000.5," in text
    assert "2x3001" in text
    assert "median 2," in str(tb.analyze([1, 2, 3], batch_size=2))
    assert "EiB" in str(tb.analyze([2**61, 5], batch_size=2))


def test_what_the_binding_is_never_handed():
    settings = {**tb.LengthBatchSampler([3, 4], batch_size=1)._planner.settings, "ranks": 1}
    lengths, random = _core.shuffle_lengths("analyze", np.array([3, 4]), 0, 0)
    assert sorted(lengths.tolist()) == [3, 4]
    for wrong in (b"short", 3):
        with pytest.raises(TypeError, match=r"analyze\(\): expected the bytes of shuffle_lengths"):
            _core.plan_lengths("analyze", lengths, settings, wrong)
    assert len(_core.plan_lengths("analyze", lengths, settings, random)) == 3
    for begins, ends in (([0], [3]), ([-1], [1]), ([1], [0])):
        with pytest.raises(ValueError, match=r"analyze\(\): batch 0 lies outside"):
            _core.measure_shapes("analyze", lengths, settings, np.array(begins), np.array(ends))
    narrow = {**settings, "boundaries": np.array([3])}
    with pytest.raises(ValueError, match=r"analyze\(\): batch 0: its longest row, of length 4"):
        _core.measure_shapes("analyze", lengths, narrow, np.array([0]), np.array([2]))
    with pytest.raises(ValueError, match=r"analyze\(\): row 0: length -1 is negative"):
        _core.plan_lengths("analyze", np.array([-1]), settings, None)


def test_lengths_stay_as_they_are():
    lengths = TEXT.copy()
    tb.analyze(lengths, batch_size=16, max_length=20)
    np.testing.assert_array_equal(lengths, TEXT)


def test_a_row_above_the_capacity_is_told_by_that_name() -> None:
    with pytest.raises(ValueError, match=r"row 2: length 7 is more than capacity=5; pass a larger"):
        tb.analyze([5, 6, 7], batch_size=2, capacity=5)
    assert tb.analyze([5, 6, 7], batch_size=2, capacity=5, max_length=5).capacity == 5


@pytest.mark.parametrize("data", [None, "abc", 5, {1, 2}])
def test_what_has_no_lengths_is_called_data(data: Any) -> None:
    with pytest.raises(TypeError, match=r"^analyze\(\): data=.*; expected lengths, rows"):
        tb.analyze(data, batch_size=2)


def test_null_lengths_are_counted() -> None:
    for package, make in (("pandas", "Series"), ("pyarrow", "array"), ("polars", "Series")):
        series = getattr(pytest.importorskip(package), make)([1, None, 3])
        with pytest.raises(TypeError, match="1 of 3 lengths are null; expected integers"):
            tb.analyze(series, batch_size=2)
