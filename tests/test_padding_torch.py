"""Tensors as rows, as batches and as out; and the peer, torch.nn.utils.rnn.pad_sequence."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrays
import reference
import tightbatch as tb
from checks import assert_same, checked, fails, result_or_error, run_python

torch = pytest.importorskip("torch")
pad_sequence = torch.nn.utils.rnn.pad_sequence

NAMES = [
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
]
PEER_NAMES = [name for name in NAMES if name not in ("uint16", "uint32", "uint64")]


def tensor(name, *shape, seed=0):
    return torch.from_numpy(arrays.sample(name, shape, seed))


def batch(name, row_lengths, trailing=()):
    return [tensor(name, n, *trailing, seed=k) for k, n in enumerate(row_lengths)]


LAYOUTS = {
    "plain": lambda rows: rows.clone(),
    "strided": lambda rows: torch.stack([rows, rows], 1)[:, 1],
    "offset": lambda rows: torch.cat([rows[:1], rows])[min(1, len(rows)) :],
    "expanded": lambda rows: rows[:1].expand(rows.shape),
    "requires_grad": lambda rows: (
        rows.clone().requires_grad_() if rows.is_floating_point() else rows.clone()
    ),
    "with_history": lambda rows: (
        rows.clone().requires_grad_() * 1 if rows.is_floating_point() else rows.clone()
    ),
    "parameter": lambda rows: torch.nn.Parameter(rows.clone(), requires_grad=False),
    "shared": lambda rows: rows.clone().share_memory_(),
    "numpy": lambda rows: torch.from_numpy(rows.numpy().copy()),
    "inference": lambda rows: inference(rows),
}


def inference(rows):
    with torch.inference_mode():
        return rows.clone()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_hostile_38_tensors_in_every_layout(name, layout):
    rows = [LAYOUTS[layout](row) for row in batch(name, [5, 1, 9])]
    values = [row.detach().numpy().tolist() for row in rows]
    for side in ("right", "left"):
        expected = reference.pad(values, padding_side=side, max_length=7)
        with torch.no_grad():  # else what requires a gradient is refused
            result = checked(tb.pad, rows, padding_side=side, max_length=7)
        assert_same(result, expected, name)


@pytest.mark.parametrize("name", ["bool", "int32", "float16"])
def test_hostile_38_tensors_of_more_dimensions(name):
    rows = [row.transpose(1, 2) for row in batch(name, [2, 3, 1], (4, 5))]
    expected = reference.pad([row.tolist() for row in rows], padding_value=1)
    result = checked(tb.pad, rows, padding_value=1)
    np.testing.assert_array_equal(result, np.array(expected, name))
    assert result.dtype == name
    assert result.shape == (3, 3, 5, 4)


def test_empty_tensors():
    rows = [torch.zeros(0, dtype=torch.int32), torch.tensor([1], dtype=torch.int32), []]
    assert_same(checked(tb.pad, rows), [[0], [1], [0]], np.int32)
    rows = [torch.zeros(0, 80), torch.zeros(0, 80)]
    assert_same(checked(tb.pad, rows), [[], []], np.float32, (2, 0, 80))
    rows = [torch.zeros(0, 2), torch.ones(1, 2), []]
    assert_same(checked(tb.pad, rows), [[[0, 0]], [[1, 1]], [[0, 0]]], np.float32)


def test_tensors_beside_every_other_kind():
    rows = [torch.tensor([1, 2]), np.array([3]), [4, 5, 6], (), memoryview(np.array([7]))]
    values = [[1, 2], [3], [4, 5, 6], [], [7]]
    assert_same(checked(tb.pad, rows), reference.pad(values), np.int64)
    assert_same(checked(tb.pad, rows, dtype=np.int16), reference.pad(values), np.int16)


def test_tensors_of_two_types():
    with fails(TypeError, "pad()", "row 1", "int64", "int32"):
        checked(tb.pad, [torch.tensor([1]), torch.tensor([1], dtype=torch.int32)])
    with fails(TypeError, "pad()", "row 1", "int64", "float32"):
        checked(tb.pad, [torch.tensor([1]), torch.tensor([1.9])])
    with fails(TypeError, "pad()", "row 1", "int64", "int32"):
        checked(tb.pad, [torch.tensor([1]), np.array([1], np.int32)])


def test_bfloat16_tensors_are_bfloat16_arrays():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = torch.tensor([0x3F80, 0x4049, -0x8000, 0x7F81, 0x0001, 0x7F80], dtype=torch.int16)
    row = bits.view(torch.bfloat16)
    with torch.no_grad():
        rows = [row, row[::2], row.clone().requires_grad_()]
        result = checked(tb.pad, rows, padding_value=-100)
    assert result.dtype == ml_dtypes.bfloat16
    words = result.view(np.int16).tolist()
    assert words[0] == bits.tolist()
    assert words[1] == [*bits[::2].tolist(), *[0xC2C8 - 0x10000] * 3]
    assert words[2] == bits.tolist()


def test_bfloat16_tensors_into_float32():
    row = torch.tensor([1.5, -2.0, float("inf")], dtype=torch.bfloat16)
    result = checked(tb.pad, [row, row[:1]], dtype=np.float32)
    assert_same(result, [[1.5, -2.0, float("inf")], [1.5, 0, 0]], np.float32)
    with fails(TypeError, "pad()", "row 0", "bfloat16"):
        checked(tb.pad, [row], dtype=np.int32)


@pytest.mark.parametrize(
    "name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
)
def test_hostile_38_float8_tensors(name):
    """Moved as they are, where ml_dtypes has the type, or refused by name."""
    row = torch.tensor([0.5, 1.0, -2.0]).to(getattr(torch, name))
    result, error = result_or_error(TypeError, checked, tb.pad, [row, row[:1]])
    if error is not None:
        assert "row 0" in str(error)
        assert name in str(error)
    else:
        assert result.dtype.name == name
        assert result.view(np.uint8)[0].tolist() == row.view(torch.uint8).tolist()
        assert result.astype(np.float32).tolist() == [[0.5, 1.0, -2.0], [0.5, 0, 0]]


def test_hostile_38_negative_views():
    for row in (torch._neg_view(torch.tensor([1.0, -2.0])), torch.tensor([1j, -2j]).conj().imag):
        assert row.is_neg()
        expected = row.tolist()
        assert_same(checked(tb.pad, [row, [1]]), [expected, [1, 0]], np.float32)


def refused():
    yield "complex", torch.tensor([1j, 2j]), "complex64"
    yield "conjugate", torch.tensor([1j, 2j]).conj(), "complex64"
    yield "meta", torch.empty(3, device="meta"), "meta"
    yield "sparse", torch.tensor([1.0, 0, 2]).to_sparse(), "sparse"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield "sparse_csr", torch.eye(3).to_sparse_csr(), "sparse_csr"
        yield "nested", torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), None
        yield (
            "jagged",
            torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
            None,
        )
        try:
            row = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
        except (AttributeError, RuntimeError):
            pass
        else:
            yield "quantised", row, "quantized"
    yield "zero_dimensional", torch.tensor(3), None
    if torch.cuda.is_available():
        yield "cuda", torch.ones(3, device="cuda"), "cuda"


REFUSED = {name: (row, word) for name, row, word in refused()}
CASES = [name for name in REFUSED if name != "cuda"]
CASES.append(pytest.param("cuda", marks=pytest.mark.cuda))


@pytest.mark.parametrize("case", CASES)
def test_hostile_38_tensors_that_are_no_rows(case):
    row, word = REFUSED[case]
    for rows in ([[1], row], [np.ones(1, np.float32), row]):
        with fails(TypeError, "pad()", "row 1") as caught:
            tb.pad(rows)
        assert word is None or word in str(caught.value)
    with fails(TypeError, "lengths()", "row 0"):
        tb.lengths([row])


@pytest.mark.parametrize("case", CASES)
def test_hostile_38_tensors_that_are_no_batches(case):
    row, _ = REFUSED[case]
    outer = row.unsqueeze(0) if case in ("meta", "complex", "conjugate", "cuda") else row
    with fails(TypeError, "pad()"):
        tb.pad(outer)


# Batches


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_of_rows(name):
    outer = tensor(name, 3, 4)
    expected = reference.pad(outer.numpy().tolist(), width=5)
    assert_same(checked(tb.pad, outer, width=5), expected, name)
    assert_same(checked(tb.lengths, outer), [4, 4, 4], np.int64)


def test_a_tensor_of_rows_in_other_layouts():
    outer = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    for view in (outer.t(), outer[:, ::2], outer.clone().requires_grad_(), outer[1:, 2:4]):
        expected = reference.pad(view.tolist(), padding_side="left", pad_to_multiple_of=4)
        with torch.no_grad():
            result = checked(tb.pad, view, padding_side="left", pad_to_multiple_of=4)
        assert_same(result, expected, np.float32)
    block = torch.arange(24).reshape(2, 3, 4)
    assert_same(checked(tb.pad, block), block.tolist(), np.int64)
    assert not np.shares_memory(tb.pad(block), block.numpy())


def test_a_flat_tensor_is_no_batch():
    for outer in (torch.arange(3), torch.tensor(3), torch.ones(2)):
        with fails(TypeError, "pad()"):
            checked(tb.pad, outer)


def test_the_three_accept_tensors():
    rows = [torch.tensor([1, 2, 3]), torch.tensor([4])]
    assert_same(checked(tb.fixed_pad_sequences, rows, 2), [[1, 2], [4, 0]], np.int64)
    assert_same(checked(tb.pad_sequences_dynamic, rows), [[1, 2, 3], [4, 0, 0]], np.int64)
    first, second = checked(tb.uniform_length_batching, rows, 1)
    assert_same(first, [[4]], np.int64)
    assert_same(second, [[1, 2, 3]], np.int64)


# out


def test_out_may_be_a_tensor():
    out = torch.full((2, 3), 9)
    assert checked(tb.pad, [torch.tensor([1, 2, 3]), [4]], out=out) is out
    assert out.tolist() == [[1, 2, 3], [4, 0, 0]]
    block = torch.full((4, 3), 9)
    view = block[1:3]
    array, mask = checked(tb.pad, [[1, 2, 3], [4]], out=view, return_mask=True)
    assert array is view
    assert block.tolist() == [[9, 9, 9], [1, 2, 3], [4, 0, 0], [9, 9, 9]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize("name", NAMES)
def test_out_tensors_of_every_type(name):
    rows = batch(name, [3, 1])
    out = torch.ones(2, 3, dtype=getattr(torch, name))
    assert checked(tb.pad, rows, out=out) is out
    np.testing.assert_array_equal(out.numpy(), checked(tb.pad, rows))


def test_out_may_be_a_bfloat16_tensor():
    pytest.importorskip("ml_dtypes")
    row = torch.tensor([1.5, 2.5, -3], dtype=torch.bfloat16)
    out = torch.ones(2, 3, dtype=torch.bfloat16)
    assert checked(tb.pad, [row, row[:1]], out=out) is out
    assert out.tolist() == [[1.5, 2.5, -3], [1.5, 0, 0]]


BAD_OUT = {
    "shape": lambda: torch.zeros(2, 4, dtype=torch.int64),
    "dtype": lambda: torch.zeros(2, 3, dtype=torch.int32),
    "float_dtype": lambda: torch.zeros(2, 3),
    "transposed": lambda: torch.zeros(3, 2, dtype=torch.int64).t(),
    "expanded": lambda: torch.zeros(1, 3, dtype=torch.int64).expand(2, 3),
    "strided": lambda: torch.zeros(2, 6, dtype=torch.int64)[:, ::2],
    "meta": lambda: torch.zeros(2, 3, dtype=torch.int64, device="meta"),
    "sparse": lambda: torch.zeros(2, 3, dtype=torch.int64).to_sparse(),
}


@pytest.mark.parametrize("case", BAD_OUT)
def test_hostile_33_out_tensors_that_do_not_fit(case):
    out = BAD_OUT[case]()
    with fails((ValueError, TypeError), "pad()", "out"):
        checked(tb.pad, [[1, 2, 3], [4]], out=out)
    if case not in ("meta", "sparse"):
        assert not out.any()


def test_hostile_33_an_out_tensor_that_overlaps_a_row():
    out = torch.arange(6).reshape(2, 3)
    for rows in ([out[0], [1]], [out[0].numpy(), [1]], [[1, 2, 3], out[1, 2:]], out):
        with fails(ValueError, "pad()", "out"):
            checked(tb.pad, rows, out=out)
    array = out.numpy()
    with fails(ValueError, "pad()", "out"):
        checked(tb.pad, [out[0], [1]], out=array)
    assert out.flatten().tolist() == list(range(6))


def test_a_tensor_is_a_padding_value():
    result = checked(tb.pad, [torch.tensor([1, 2]), [3]], padding_value=torch.tensor(7))
    assert_same(result, [[1, 2], [3, 7]], np.int64)


# Storage that goes away


def test_hostile_39_tensors_that_are_resized_meanwhile():
    """The memory of 8 MiB is given back to the system: a stale pointer is a crash."""
    run_python(
        """
        import torch
        import tightbatch as tb

        class Index:
            def __init__(self, act):
                self.act = act
            def __index__(self):
                for row in tensors:
                    self.act(row)
                return 5

        acts = [
            lambda row: row.resize_(0),
            lambda row: row.set_(),
            lambda row: row.untyped_storage().resize_(0),
            lambda row: row.untyped_storage().resize_(1 << 25),
        ]
        for act in acts:
            for place in range(3):
                tensors = [torch.ones(1 << 20, dtype=torch.int64) for _ in range(2)]
                rows = list(tensors)
                rows.insert(place, [Index(act)])
                try:
                    tb.pad(rows)
                except (RuntimeError, ValueError):
                    pass
        print("done")
        """
    )


def test_hostile_39_a_tensor_that_only_the_batch_holds():
    class Index:
        def __index__(self):
            rows.clear()
            return 5

    for place in (0, 1):
        rows = [torch.arange(1 << 20)]
        rows.insert(place, [Index()])
        try:
            result = tb.pad(rows)
        except RuntimeError:
            continue
        assert result[place, :2].tolist() == [5, 0]
        np.testing.assert_array_equal(result[1 - place], np.arange(1 << 20))


# The peer


def same_as_peer(rows, fill, side):
    peer = pad_sequence(rows, batch_first=True, padding_value=fill, padding_side=side)
    ours = checked(tb.pad, rows, padding_value=fill, padding_side=side)
    assert ours.dtype == peer.numpy().dtype
    np.testing.assert_array_equal(ours, peer.numpy())


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("trailing", [(), (3,), (2, 2)], ids=str)
@pytest.mark.parametrize("name", PEER_NAMES)
def test_pad_is_pad_sequence(name, trailing, side):
    rows = batch(name, [3, 1, 0, 7], trailing)
    for fill in (0, 1):
        same_as_peer(rows, fill, side)


@given(
    row_lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8),
    name=st.sampled_from(["int64", "int32", "uint8", "float32", "float16"]),
    fill=st.integers(0, 100),
    side=st.sampled_from(["right", "left"]),
    trailing=st.sampled_from([(), (2,), (1, 3)]),
)
@settings(deadline=None)
def test_pad_is_pad_sequence_property(row_lengths, name, fill, side, trailing):
    same_as_peer(batch(name, row_lengths, trailing), fill, side)


@pytest.mark.parametrize("fill", [-100, float("nan"), float("-inf"), 0.1])
def test_pad_is_pad_sequence_for_every_float_value(fill):
    same_as_peer(batch("float32", [3, 1]), fill, "right")


def test_tensors_that_torch_does_not_show():
    """Inside vmap() and grad() there is no memory to look at; an error of torch keeps its place."""

    def in_vmap(row):
        return tb.pad([[1.0], row])

    def in_grad(row):
        tb.pad([[1.0], row])
        return row.sum()

    for call in (
        lambda: torch.vmap(in_vmap)(torch.ones(2, 3)),
        lambda: torch.func.grad(in_grad)(torch.ones(3)),
    ):
        with fails(TypeError, "pad()", "row 1", "tensor"):
            call()


def test_a_subclass_that_answers_nonsense_is_refused():
    class Odd(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            return 7

    with fails(TypeError, "pad()", "row 0", "tensor"):
        tb.pad([torch.ones(3).as_subclass(Odd)])


def test_running_out_of_memory_is_not_a_wrong_type():
    class Large(torch.Tensor):
        def detach(self):
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        tb.pad([torch.ones(2, 3).as_subclass(Large).t()[0]])


def test_what_a_subclass_raises_or_gives_in_place_of_an_array_is_named():
    class Lost(torch.Tensor):
        def untyped_storage(self):
            raise LookupError("no storage")

    class Listed(torch.Tensor):
        def numpy(self, *_, **__):
            return [1]

    with pytest.raises(LookupError, match="no storage"):
        tb.PadCollator()([{"a": torch.ones(2).as_subclass(Lost)}])
    with fails(TypeError, "pad()", "row 0", "numpy", "array"):
        tb.pad([torch.ones(2).as_subclass(Listed)])
