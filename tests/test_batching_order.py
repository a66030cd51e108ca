"""What a model gave for batches by length, back in the order of the data set."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tightbatch as tb
from checks import fails

LENGTHS = [5, 3, 9, 2, 7, 3, 4]
SETTINGS = [
    {"batch_size": 2, "shuffle": False},
    {"batch_size": 3},
    {"max_tokens": 12, "seed": 4},
    {"max_tokens": 12, "padding_free": True},
    {"batch_size": 3, "padding_free": True},
    {"batch_size": 2, "tail": "repeat", "longest_first": True},
]


def make(options, ranks=1, rank=0, lengths=LENGTHS):
    return tb.LengthBatchSampler(lengths, num_replicas=ranks, rank=rank, **options)


def kinds():
    """What a model may give for a batch of rows, and what all rows together should be."""

    def tensor(rows):
        torch = pytest.importorskip("torch")
        return torch.tensor([[row, -row] for row in rows])

    def widths(rows):
        """Rows as wide as the longest of their batch."""
        width = max(LENGTHS[row] for row in rows)
        return np.array([[row] * width for row in rows])

    return {
        "array": lambda rows: np.array(rows) * 1.5,
        "tensor": tensor,
        "list": lambda rows: [f"row {row}" for row in rows],
        "list of lists": lambda rows: [[row] * LENGTHS[row] for row in rows],
        "widths": widths,
        "dict": lambda rows: {"a": np.array(rows), "b": [str(row) for row in rows], "c": None},
        "tuple": lambda rows: (np.array(rows), (tensor(rows), np.array(rows) > 2)),
        "nested": lambda rows: {"x": {"y": Pair(np.array(rows), list(rows))}},
    }


Pair = collections.namedtuple("Pair", "left right")


def simple(value):
    """Values as plain Python, and their kinds."""
    if isinstance(value, dict):
        return {key: simple(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return type(value).__name__, [simple(item) for item in value]
    if isinstance(value, list):
        return [simple(item) for item in value]
    if hasattr(value, "tolist") and getattr(value, "ndim", 0):
        return type(value).__name__, str(value.dtype), value.tolist()
    return value


def strip(value, rows):
    """Cut rows of different widths to their own."""
    return [simple(row)[2][: LENGTHS[i]] for i, row in zip(rows, value, strict=True)]


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", kinds())
def test_one_rank(kind, options):
    give, everything = kinds()[kind], list(range(7))
    sampler = make(options)
    for _ in range(2):
        outputs = [give(batch) for batch in sampler]
        found = sampler.restore_order(outputs)
        if kind == "widths":
            assert strip(found, everything) == [[row] * LENGTHS[row] for row in everything]
        else:
            assert simple(found) == simple(give(everything))


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_ranks(kind, options, ranks):
    """Gathered in the order of ranks; what comes twice is there once."""
    give, everything = kinds()[kind], list(range(7))
    samplers = [make(options, ranks, rank) for rank in range(ranks)]
    for _ in range(2):
        gathered = [[give(batch) for batch in sampler] for sampler in samplers]
        for sampler in samplers:
            found = sampler.restore_order(gathered)
            if kind == "widths":
                assert strip(found, everything) == [[row] * LENGTHS[row] for row in everything]
            else:
                assert simple(found) == simple(give(everything))


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    options=st.sampled_from(SETTINGS),
    ranks=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_any_lengths(lengths, options, ranks, epoch):
    options = {**options, "overlong": "truncate"}
    if len(lengths) < ranks:
        options["tail"] = "repeat"
    samplers = [make(options, ranks, rank, lengths) for rank in range(ranks)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    gathered = [[np.array(batch) for batch in sampler] for sampler in samplers]
    found = samplers[-1].restore_order(gathered if ranks > 1 else gathered[0])
    assert found.tolist() == list(range(len(lengths)))


def test_all_rows_in_one_value():
    sampler = make({"batch_size": 2})
    order = [row for batch in sampler for row in batch]
    assert sampler.restore_order(np.array(order)).tolist() == list(range(7))
    assert sampler.restore_order(order) == list(range(7))
    assert sampler.restore_order([str(row) for row in order]) == [str(row) for row in range(7)]
    assert sampler.restore_order([[row] * row for row in order]) == [[r] * r for r in range(7)]
    found = sampler.restore_order({"a": np.array(order), "b": (order, None)})
    assert found["a"].tolist() == found["b"][0] == list(range(7))
    assert found["b"][1] is None
    torch = pytest.importorskip("torch")
    kinds = (torch.float32, torch.float16)
    parts = [torch.tensor(batch, dtype=kinds[batch[0] % 2]) for batch in sampler]
    found = sampler.restore_order(parts)
    assert isinstance(found, list)  # no number takes the type of another batch
    assert [int(row) for row in found] == list(range(7))
    assert {row.dtype for row in found} == set(kinds)
    samplers = [make({"batch_size": 2}, 2, rank) for rank in range(2)]
    parts = [np.array([row for batch in sampler for row in batch]) for sampler in samplers]
    assert samplers[1].restore_order(parts).tolist() == list(range(7))


def test_what_another_library_repeats_is_cut():
    """accelerate fills the last step up with rows from the beginning."""
    sampler = make({"batch_size": 2})
    batches = list(sampler)
    gathered = [
        np.array(batches[0] + batches[1]),
        np.array(batches[2] + batches[3] + batches[0][:1]),
    ]
    assert sampler.restore_order(gathered).tolist() == list(range(7))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 2, "drop_last": True},
        {"batch_size": 2, "drop_last": True, "shuffle": False},
        {"max_tokens": 6, "overlong": "drop"},
    ],
    ids=str,
)
@pytest.mark.parametrize("ranks", [1, 2])
def test_rows_without_an_output(options, ranks):
    samplers = [make(options, ranks, rank) for rank in range(ranks)]
    dropped = samplers[0].dropped
    gathered = [list(sampler) for sampler in samplers]
    seen = {row for own in gathered for batch in own for row in batch}
    first = min(set(range(7)) - seen)
    assert dropped == 7 - len(seen) > 0

    def restore(give, **more):
        outputs = [[give(batch) for batch in own] for own in gathered]
        return samplers[0].restore_order(outputs if ranks > 1 else outputs[0], **more)

    with fails(ValueError, f"{dropped} of 7 rows", f"row {first}", "fill="):
        restore(np.array)
    wanted = [row if row in seen else -1 for row in range(7)]
    assert restore(np.array, fill=-1).tolist() == wanted
    assert restore(list, fill=-1) == wanted
    found = restore(lambda rows: np.array(rows) * 1.0, fill=float("nan"))
    assert np.isnan(found).tolist() == [row == -1 for row in wanted]
    torch = pytest.importorskip("torch")
    assert restore(torch.tensor, fill=-1).tolist() == wanted


def test_nothing_was_handed_out():
    sampler = tb.LengthBatchSampler([9, 9], max_tokens=3, overlong="drop")
    assert sampler.restore_order(list(sampler), fill=0) == [0, 0]
    assert sampler.restore_order(np.zeros((0, 2)), fill=1.0).tolist() == [[1, 1], [1, 1]]
    torch = pytest.importorskip("torch")
    assert sampler.restore_order(torch.zeros(0), fill=1.0).tolist() == [1, 1]
    assert tb.LengthBatchSampler([], batch_size=1).restore_order([]) == []


def test_it_is_the_latest_iteration():
    sampler = make({"batch_size": 2})
    list(sampler)
    outputs = [np.array(batch) for batch in sampler]
    assert sampler.epoch == 2
    assert sampler.restore_order(outputs).tolist() == list(range(7))
    sampler.set_epoch(1)  # the coming one
    assert sampler.restore_order(outputs).tolist() == list(range(7))
    sampler.set_epoch(5)
    assert sampler.restore_order(outputs).tolist() != list(range(7))


@pytest.mark.parametrize(
    ("outputs", "kind", "parts"),
    [
        ([[0, 1]], ValueError, ["outputs of 2 rows", "expected 7"]),
        (np.zeros(6), ValueError, ["outputs of 6 rows", "expected 7"]),
        (np.zeros(14), ValueError, ["outputs of 14 rows", "expected 7"]),
        (3, TypeError, ["3", "int"]),
        ("abcdefg", TypeError, ["abcdefg"]),
        (np.float64(3), TypeError, ["float64"]),
        ({"loss": 3.0}, TypeError, ["loss", "float"]),
    ],
)
def test_errors(outputs, kind, parts):
    sampler = make({"batch_size": 2})
    list(sampler)
    with fails(kind, "LengthBatchSampler.restore_order()", *parts):
        sampler.restore_order(outputs)


def test_errors_in_batches():
    sampler = make({"batch_size": 2})
    batches = list(sampler)
    with fails(TypeError, "loss", "one of"):
        sampler.restore_order([{"logits": np.array(b), "loss": np.float32(1)} for b in batches])
    with fails(TypeError, "1", "one of"):
        sampler.restore_order([(np.array(b), 3.0) for b in batches])
    with fails(ValueError, "['a']", "['b']"):
        sampler.restore_order([{"a": batches[0]}, *({"b": b} for b in batches[1:])])
    two = make({"batch_size": 2}, 2)
    list(two)
    for outputs in (np.zeros(7), [np.zeros(7)], {"a": np.zeros(7)}):
        with fails(ValueError, "2 ranks", "all_gather_object"):
            two.restore_order(outputs)
    with fails(ValueError, "expected 4"):
        two.restore_order([np.zeros(5), np.zeros(3)])
    state = sampler.state_dict()
    begun = iter(sampler)
    next(begun)
    state = sampler.state_dict()
    sampler.load_state_dict(state)
    rest = list(sampler)
    with fails(ValueError, "2 rows", "whole epoch"):
        sampler.restore_order(rest)


def test_tensors_keep_type_device_and_gradients_apart():
    torch = pytest.importorskip("torch")
    sampler = make({"batch_size": 2})
    outputs = [torch.ones(len(batch), 3, dtype=torch.bfloat16) for batch in sampler]
    found = sampler.restore_order(outputs)
    assert (found.dtype, tuple(found.shape)) == (torch.bfloat16, (7, 3))
    found.zero_()
    assert all(bool((output == 1).all()) for output in outputs)


def test_with_a_loader_and_a_model():
    torch = pytest.importorskip("torch")
    rows = [{"input_ids": list(range(1, length + 1))} for length in LENGTHS]
    sampler = tb.LengthBatchSampler(tb.lengths(rows, "input_ids"), batch_size=3, shuffle=False)
    loader = torch.utils.data.DataLoader(rows, batch_sampler=sampler, collate_fn=tb.PadCollator())
    with torch.inference_mode():
        outputs = [(b["input_ids"] * b["attention_mask"]).sum(1) for b in loader]
    found = sampler.restore_order(outputs)
    assert found.tolist() == [sum(row["input_ids"]) for row in rows]
