"""Tensors whose values cannot be read, and tensors whose memory moves while a batch is made."""

import gc
import warnings

import numpy as np
import pytest

import tightbatch as tb
from checks import fails, result_or_error, run_python

torch = pytest.importorskip("torch")

ONES = torch.ones(3)
ROWS = {  # a row, given as `t`
    "pad()": lambda t: tb.pad([ONES, t]),
    "lengths()": lambda t: tb.lengths([ONES, t]),
    "Ragged.from_sequences()": lambda t: tb.Ragged.from_sequences([ONES, t]),
    "PadCollator()": lambda t: tb.PadCollator()([{"x": ONES}, {"x": t}]),
    "PaddingFreeCollator()": lambda t: tb.PaddingFreeCollator()([{"x": ONES}, {"x": t}]),
    "uniform_length_batching()": lambda t: tb.uniform_length_batching([ONES, t], 2, 0),
}
NUMBERS = {  # a number
    "pad()": lambda t: tb.pad([[1.0], [t]]),
    "PadCollator()": lambda t: tb.PadCollator()([{"x": [1], "y": 0.5}, {"x": [1], "y": t}]),
    "RaggedDataset()": lambda t: tb.RaggedDataset({"x": [0.5, t]}),
}
SETTINGS = {
    "padding_value": lambda t: tb.pad([[1]], padding_value=t),
    "width": lambda t: tb.pad([[1]], width=t.long()),
}


def in_vmap(call, tensor):
    return torch.vmap(lambda t: call(t) and t)(torch.stack([tensor, tensor]))


def in_grad(call, tensor):
    return torch.func.grad(lambda t: (call(t), t.sum())[1])(tensor)


def in_functionalize(call, tensor):
    return torch.func.functionalize(lambda t: (call(t), t)[1])(tensor)


def fake(call, tensor):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        other = mode.from_tensor(tensor)
    return call(other)


def meta(call, tensor):
    return call(tensor.to("meta"))


VALUELESS = [in_vmap, fake, meta]
UNREADABLE = [*VALUELESS, in_grad, in_functionalize]


def nested(call, _):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    return call(tensor)


def jagged(call, _):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    return call(tensor)


def sparse(call, tensor):
    return call(tensor.to_sparse())


def quantized(call, tensor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8))


def broken(call, tensor):
    class Odd(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            return 7

    return call(tensor.as_subclass(Odd))


@pytest.mark.parametrize("kind", [*UNREADABLE, nested, jagged, sparse, quantized, broken])
@pytest.mark.parametrize("name", ROWS)
def test_rows_that_cannot_be_read(name, kind):
    with fails(TypeError, name, "row 1", "tensor") as caught:
        kind(ROWS[name], torch.ones(3))
    assert "unknown dtype" not in str(caught.value)
    told = {
        nested: "nested",
        jagged: "nested",
        sparse: "sparse",
        quantized: "quantized",
        meta: "device 'meta'",
        broken: "__torch_function__ gives 7",
    }
    assert told.get(kind, "") in str(caught.value)


@pytest.mark.parametrize("kind", VALUELESS)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_cannot_be_read(name, kind):
    with fails(TypeError, name, "row 1", "expected a number") as caught:
        kind(NUMBERS[name], torch.tensor(0.5))
    assert isinstance(caught.value.__cause__, RuntimeError)  # torch says why


@pytest.mark.parametrize("kind", VALUELESS)
@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_be_read(name, kind):
    with fails(TypeError, "pad()", name):
        kind(SETTINGS[name], torch.tensor(1.0))


def test_errors_of_torch_function_pass_unchanged():
    class Raises(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        tb.pad([torch.ones(3).as_subclass(Raises)])


def test_running_out_of_memory_says_so():
    """A tensor of 256 TiB, of which one number is there: no memory holds a copy."""
    large = torch.zeros(1).expand(1 << 46)
    negated = torch._neg_view(large)
    for tensor in (large, negated):
        for call in ROWS.values():
            if call is ROWS["lengths()"]:
                continue
            with pytest.raises((MemoryError, RuntimeError)) as caught:
                call(tensor)
            assert "llocate" in str(caught.value)
            assert "dtype torch" not in str(caught.value)


# Memory that moves


class Row:
    """A row that acts when its item is taken: later than tensors before it are looked at."""

    def __init__(self, act):
        self.act = act

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if index:
            raise IndexError
        self.act()
        return 5.0


class Number:
    def __init__(self, act):
        self.act = act

    def __index__(self):
        self.act()
        return 3


class Array:
    """What gives the user's own array."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


ACTS = {
    "emptied storage": lambda t: t.untyped_storage().resize_(0),
    "grown storage": lambda t: t.untyped_storage().resize_(1 << 25),
    "emptied": lambda t: t.resize_(0),
    "reshaped": lambda t: t.resize_(2, t.numel() // 2),
    "set": lambda t: t.set_(torch.zeros(2)),
    "data": lambda t: setattr(t, "data", torch.zeros(1)),
}
CALLS = {
    "row": lambda t, act: tb.pad([t, Row(act)]),
    "item": lambda t, act: tb.pad([t, [Number(act)]], dtype="float32"),
    "fill": lambda t, act: tb.pad([t, [1.0]], padding_value=Number(act)),
    "whole": lambda t, act: tb.pad(t.view(1, -1), padding_value=Number(act)),
    "sequences": lambda t, act: tb.uniform_length_batching([t, Row(act)], 2, 0)[0][0],
    "ragged": lambda t, act: tb.Ragged.from_sequences([t, Row(act)]).values,
    "column": lambda t, act: collate({"a": t, "b": [1]}, {"a": t, "b": Row(act)})["a"],
    "column before": lambda t, act: collate({"b": [1], "a": t}, {"b": [Number(act)], "a": t})["a"],
    "padding-free": lambda t, act: tb.PaddingFreeCollator(return_tensors="np")(
        [{"a": t, "b": 1}, {"a": t, "b": Number(act)}]
    )["a"],
    "subclass": lambda t, act: tb.pad([t.as_subclass(Sub), Row(act)]),
    "parameter": lambda t, act: tb.pad([Row(lambda: None), torch.nn.Parameter(t, False), Row(act)]),
    "negated": lambda t, act: -tb.pad([torch._neg_view(t), Row(act)]),
}


class Sub(torch.Tensor):
    pass


def collate(*samples):
    return tb.PadCollator({"a": 0}, return_tensors="np")(list(samples))


def run_hostile():
    """Nothing is read but ones, what the rows that act hold, and padding."""
    gc.freeze()  # the modules, a million objects
    for name, act in ACTS.items():
        for place, call in CALLS.items():
            tensor = torch.ones(1 << 20)
            result, error = result_or_error(
                (RuntimeError, ValueError, TypeError),
                lambda call=call, act=act, t=tensor: np.asarray(call(t, lambda: act(t))),
            )
            if error is not None:
                torchs = "not resizable" in str(error)  # what numpy() was called of
                assert torchs or "()" in str(error), (name, place, error)
                continue
            found = set(np.unique(result).tolist())
            assert found <= {0.0, 1.0, -5.0, 3.0, 5.0}, (name, place, found)
            gc.collect()
    for act in (lambda a: a.resize(2, refcheck=False), lambda a: a.resize(1 << 22, refcheck=False)):
        array = np.ones(1 << 20)
        row = Row(lambda a=array, act=act: act(a))
        with fails(RuntimeError, "pad()", "row 0"):
            tb.pad([Array(array), row])
    print("done")


def test_tensors_whose_memory_moves_are_never_read_past_it():
    assert run_python("import test_tensor_kinds as t; t.run_hostile()").strip() == "done"


@pytest.mark.parametrize("name", ["emptied storage", "grown storage", "set", "data"])
def test_a_tensor_that_moved_is_named(name):
    tensor = torch.ones(1 << 16)
    with fails(RuntimeError, "PadCollator()", "key 'a'", "row 0", "changed size"):
        collate({"a": tensor, "b": [1]}, {"a": [1.0], "b": Row(lambda: ACTS[name](tensor))})


def test_a_tensor_that_is_written_meanwhile_is_no_error():
    tensor = torch.ones(4)
    result = tb.pad([tensor, Row(lambda: tensor.fill_(2))])
    assert result.tolist() == [[2, 2, 2, 2], [5, 0, 0, 0]]
