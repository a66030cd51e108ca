"""References that calls keep: to objects that all calls share, and to what is new in each."""

import array
import gc
import importlib.util
import sys
import warnings

import numpy as np
import pytest

import arrays
import tightbatch as tb
from checks import forget_frames
from test_wrong_arguments import CALLABLES, NOT_CALLED, call, skip_without_packages
from tightbatch import _core

ROUNDS = 6
SHARED = {
    **{repr(value): value for value in (None, True, False, Ellipsis, NotImplemented)},
    **{name: getattr(np, name) for name in ("ndarray", "generic", "float32", "longdouble")},
    **{f"dtype {name}": np.dtype(name) for name in "bool uint8 int32 int64".split()},
    **{f"dtype {name}": np.dtype(name) for name in "float16 float32 float64 longdouble".split()},
    **{f"dtype {dtype}": dtype for dtype in arrays.ML_DTYPES},
    **{kind.__name__: kind for kind in (TypeError, ValueError, OverflowError, list, int, float)},
    **{kind.__name__: kind for kind in (_core.RaggedBuffers, tb.Ragged, tb.Batch)},
}
if importlib.util.find_spec("torch"):
    import torch

    NAMES = "Tensor strided sparse_coo int64 uint8 bool float16 bfloat16 float32 float64".split()
    SHARED |= {f"torch.{name}": getattr(torch, name) for name in NAMES}


def measured(function, collects=True):
    """What grows by one with each call: blocks of memory, references by the object's name."""

    def calls(rounds):
        for _ in range(rounds):
            try:
                function()
            except Exception as error:
                forget_frames(error)
        if collects:
            gc.collect()

    calls(1)
    before = [sys.getrefcount(value) for value in SHARED.values()]
    blocks = sys.getallocatedblocks()
    calls(ROUNDS)
    grown = {"blocks": sys.getallocatedblocks() - blocks}
    for (name, value), count in zip(SHARED.items(), before, strict=True):
        grown[name] = sys.getrefcount(value) - count
    return {name: by for name, by in grown.items() if by >= ROUNDS}


def kept(function, besides=()):
    """What grows whenever it is measured: what others keep, they do not keep again and again."""
    found = measured(function, collects=False)
    for _ in range(19):
        found = {name: by for name, by in found.items() if name not in besides}
        if not found:
            break
        again = measured(function)
        found = {name: again[name] for name in found if name in again}
    return found


# A class of its own, so that rows of it are read by what it offers.
class Offers:
    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        return self.value


def numpy_rows():
    plain = np.arange(1.0, 7.0)
    yield "floats", [plain, plain[:2]]
    yield from {"a number": 5, "a text": "text", "a dict": {1: 2}, "nothing": None}.items()
    yield "ints", [np.arange(5), np.arange(2)]
    yield "bools", [np.ones(3, bool), np.zeros(1, bool)]
    yield "strided", [plain[::2], plain[::-1]]
    yield "of two dimensions", [plain.reshape(3, 2), plain.reshape(3, 2)[:1]]
    yield "swapped", [plain.astype(">f8"), plain.astype(">f8")[:2]]
    yield "half", [plain.astype(np.float16), plain[:2].astype(np.float16)]
    yield "longdouble", [plain.astype(np.longdouble), plain[:2].astype(np.longdouble)]
    yield "unsigned", [np.array([1, 2**64 - 1], np.uint64)]
    yield "one array", plain.reshape(2, 3)
    yield "one row", np.arange(4)
    yield "a mask", np.tri(3, 4, 1, bool)
    yield "objects", [np.array([1, None], object)]
    yield "an array of rows", np.array([[1, 2], [3]], object)
    yield "complex", [np.ones(2, complex)]
    yield "scalars", [[np.int64(1), np.float32(2)], [np.bool_(True)]]
    yield "offered", [Offers(plain), Offers(plain[:1])]
    yield "offered badly", [Offers(3), Offers("x")]
    yield "buffers", [array.array("d", [1, 2]), array.array("d", [3])]
    yield "bytes", [b"abc", bytearray(b"d"), memoryview(b"ef")]
    yield "lists", [[1, 2, 3], [4]]
    yield "lists of floats", [[1, 2.5], [4], []]
    yield "nested lists", [[[1, 2], [3, 4]], [[5, 6]]]
    yield "tuples", ((1, 2), (True,))
    yield "lengths", [3, 0, 2]
    yield "large numbers", [[10**12, 10**13], [2**63]]
    yield "no numbers", [["a"], [None], [object()]]
    yield "no rows", [[1], 2, None]
    yield "ragged", tb.Ragged.from_sequences([[1, 2], [3]])
    yield "samples", [{"input_ids": [1, 2], "x": [0.5, 1]}, {"input_ids": [3], "x": [2]}]
    for dtype in arrays.ML_DTYPES:
        yield str(dtype), [np.ones(3, dtype), np.ones(1, dtype)]


def tensor_rows():
    if "torch.Tensor" not in SHARED:
        return
    plain = torch.arange(1.0, 7.0)
    yield "tensor", [plain.clone(), plain[:2].clone()]
    yield "tensor of ints", [torch.arange(4), torch.arange(2)]
    yield "tensor of bools", [torch.ones(3, dtype=torch.bool)]
    yield "tensor, strided", [plain[::2], plain[1::2]]
    yield "tensor, bfloat16", [plain.bfloat16(), plain.bfloat16()[::2]]
    yield "tensor, half", [plain.half(), plain.half()[1:]]
    yield "tensor, gradient", [plain.clone().requires_grad_(), plain.clone().requires_grad_() * 2]
    yield "tensor, parameter", [torch.nn.Parameter(plain.clone())]
    yield "tensor, negative", [torch.complex(plain, plain).conj().imag]
    yield "tensor, zero", [torch._efficientzerotensor(3)]
    yield "tensor, subclass", [plain.as_subclass(type("Sub", (torch.Tensor,), {}))]
    yield "tensor, sparse", [plain.to_sparse(), plain.reshape(2, 3).to_sparse_csr()]
    yield "tensor, quantized", [torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8)]
    yield "tensor, meta", [torch.ones(3, device="meta")]
    yield "tensor, complex", [torch.complex(plain, plain)]
    yield "tensor, float8", [plain.to(torch.float8_e5m2)]
    yield "tensor, number", [torch.tensor(3), torch.tensor(4)]
    yield "tensor of two dimensions", torch.arange(6).reshape(2, 3)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of torch, about what is new in it
    ROWS = dict([*numpy_rows(), *tensor_rows()])
OUT, PADDED = np.zeros((2, 6), np.float32), np.zeros((3, 4))
FUNCTIONS = {
    "pad": tb.pad,
    "pad left": lambda rows: tb.pad(rows, padding_side="left", max_length=2, return_mask=True),
    "pad to float32": lambda rows: tb.pad(rows, dtype="float32", padding_value=-1.5),
    "pad to float16": lambda rows: tb.pad(rows, dtype=np.float16),
    "pad to longdouble": lambda rows: tb.pad(rows, dtype=np.longdouble, padding_value=2),
    "pad into": lambda rows: tb.pad(rows, width=6, out=OUT),
    "fixed_pad_sequences": lambda rows: tb.fixed_pad_sequences(rows, 3),
    "uniform": lambda rows: tb.uniform_length_batching(rows, 2, return_indices=True),
    "from_sequences": tb.Ragged.from_sequences,
    "RaggedDataset": lambda rows: tb.RaggedDataset({"input_ids": rows})[0],
    "lengths": tb.lengths,
    "attention_mask": lambda rows: tb.attention_mask(rows, 7, additive=True, dtype="float32"),
    "position_ids": tb.position_ids,
    "cu_seqlens": tb.cu_seqlens,
    "segment_mask": lambda rows: tb.segment_mask(rows, prefix=[1, 1], window=2),
    "block_mask": tb.block_mask,
    "pack": lambda rows: tb.pack(rows, 8),
    "sampler": lambda rows: list(tb.LengthBatchSampler(rows, max_tokens=8)),
    "boundaries": lambda rows: tb.bucket_boundaries(rows, 1),
    "unpad": lambda rows: tb.unpad(PADDED, rows),
    "to_float16": lambda rows: tb.to_float16(rows[0], return_counts=True),
    "to_bfloat16": lambda rows: tb.to_bfloat16(rows[0], overflow="saturate"),
    "to_float32": lambda rows: tb.to_float32(rows[0]),
    "half_report": lambda rows: tb.half_report({"x": rows[0]}),
    "collate": tb.PadCollator(return_tensors="np", boundaries=[4, 9]),
    "boundaries of an array": lambda rows: tb.PadCollator(boundaries=np.array([4, 9])),
    "collate tensors": tb.PadCollator(return_tensors="pt", max_length=2),
    "collate columns": lambda rows: tb.PadCollator(return_tensors="np")(
        [{"input_ids": row, "one": 1} for row in rows]
    ),
    "collate padding-free": lambda rows: tb.PaddingFreeCollator(return_tensors="np")(
        [{"input_ids": row} for row in rows]
    ),
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.filterwarnings("ignore")
def test_calls_keep_nothing(rows):
    found = {name: kept(lambda f=function: f(ROWS[rows])) for name, function in FUNCTIONS.items()}
    assert {name: growth for name, growth in found.items() if growth} == {}


# Not of pictures: matplotlib's own fill_between, stairs and imshow keep a reference to float64 each
# time. test_plots looks whether a figure is gone.
CALLED = [
    name
    for name, function in CALLABLES.items()
    if name not in NOT_CALLED
    and "plot" not in name
    and not function.__module__.startswith("tightbatch.amp")
]


@pytest.mark.parametrize("name", CALLED)
def test_right_calls_keep_no_references(name):
    """Memory is not looked at: other packages keep some of it."""
    skip_without_packages(name)
    assert kept(lambda: call(name), besides=["blocks"]) == {}
