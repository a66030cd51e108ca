"""Tensors that require a gradient: a copy has none, so they are refused where autograd records."""

import types

import pytest

import tightbatch as tb
from checks import fails

torch = pytest.importorskip("torch")
TOLD = ("requires a gradient", ".detach()")
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def row(dtype=torch.float32, shape=(2,)):
    return torch.ones(shape, dtype=dtype, requires_grad=True)


class OwnTensor(torch.Tensor):
    """A class of the user's."""


ROWS = {
    "a leaf": row,
    "a parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "a result": lambda: row() * 2,
    "a strided one": lambda: row(shape=(4,))[::2],
    "a class of its own": lambda: row().as_subclass(OwnTensor),
    **{str(dtype): (lambda dtype=dtype: row(dtype)) for dtype in FLOATS},
    "vectors": lambda: row(shape=(2, 3)),
    "in a list": lambda: [torch.tensor(1.5, requires_grad=True), 2.0],
    "in a list of lists": lambda: [[2.0], [row().sum()]],
}


def encoded(value):
    return [{"input_ids": [1, 2], "x": value}, {"input_ids": [3, 4], "x": value}]


def hugging(name, **more):
    import tightbatch.huggingface as ours

    collator = getattr(ours, name)(pad_token_id=0, **more)
    return lambda value: collator(encoded(value))


CALLS = {
    "pad": lambda value: tb.pad([value]),
    "pad, two": lambda value: tb.pad([value, value]),
    "fixed_pad_sequences": lambda value: tb.fixed_pad_sequences([value], 3),
    "pad_sequences_dynamic": lambda value: tb.pad_sequences_dynamic([value]),
    "uniform_length_batching": lambda value: tb.uniform_length_batching([value], 1),
    "PadCollator": lambda value: tb.PadCollator()(encoded(value)),
    "PadCollator, rows": lambda value: tb.PadCollator()([value]),
    "PadCollator, stack": lambda value: tb.PadCollator(stack="x")(encoded(value)),
    "PadCollator, concat": lambda value: tb.PadCollator(concat="x")(encoded(value)),
    "PaddingFreeCollator": lambda value: tb.PaddingFreeCollator()(encoded(value)),
    "Ragged": lambda value: tb.Ragged.from_sequences([value]),
    "RaggedDataset": lambda value: tb.RaggedDataset({"x": [value, value]}),
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("name", CALLS)
def test_they_are_refused_as_rows(name, kind):
    value = ROWS[kind]()
    with fails(TypeError, "row", *TOLD):
        CALLS[name](value)
    with torch.no_grad():  # says that it is meant
        CALLS[name](value)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: tb.pad(t),
        lambda t: tb.Ragged(t, [0, 2]),
        lambda t: tb.unpad(t, [1, 2]),
        lambda t: tb.RaggedDataset({"x": t}),
        lambda t: tb.PadCollator()([{"x": n} for n in t.sum(1)]),
        lambda t: tb.PadCollator()([(1, n) for n in t.sum(1)]),
        lambda t: tb.PaddingFreeCollator()([{"input_ids": [1], "x": n} for n in t.sum(1)]),
    ],
)
def test_they_are_refused_as_a_whole_and_as_numbers(call):
    value = row(shape=(2, 2))
    with fails(TypeError, *TOLD):
        call(value)
    with torch.inference_mode():
        call(value)
    call(value.detach())


def test_transformers_collators_refuse_them():
    pytest.importorskip("transformers")
    for name in ("DataCollatorWithPadding", "DataCollatorForTokenClassification"):
        with fails(TypeError, name, "row 0", *TOLD):
            hugging(name)(row())


def test_what_is_not_lost_is_taken():
    assert tb.pad([torch.tensor([1, 2])]).tolist() == [[1, 2]]
    assert tb.pad([row().detach(), torch.ones(1)]).tolist() == [[1, 1], [1, 0]]
    with torch.no_grad():
        assert tb.pad([row() * 3]).tolist() == [[3, 3]]
    kept = tb.PadCollator(keep="x")(encoded(row()))["x"]
    assert all(value.requires_grad for value in kept)


def test_an_object_that_only_says_so_is_no_tensor():
    number = types.SimpleNamespace(requires_grad=True)
    with fails(TypeError, "row 0", "SimpleNamespace"):
        tb.pad([number])
