"""Tensors are read through torch's exchange table, of whatever version, or without one."""

import os

import pytest

from checks import run_python

pytest.importorskip("torch")

READ = """
import ctypes, os, sys, traceback
import numpy as np
import torch
import tightbatch as tb

new = ctypes.pythonapi.PyCapsule_New
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
address = ctypes.pythonapi.PyCapsule_GetPointer
address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
NAME = b"dlpack_exchange_api"

class Table(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("previous", ctypes.c_void_p),
        ("functions", ctypes.c_void_p * 8),
    ]

given = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
real = None if given is None else address(given, NAME)
wrong = ctypes.CFUNCTYPE(ctypes.c_int)(lambda *_: 1 / 0)

def table(major, previous=None, function=wrong):
    made = Table(major=major, minor=7, previous=previous)
    for i in range(8):
        made.functions[i] = None if function is None else ctypes.cast(function, ctypes.c_void_p)
    kept.append(made)
    return ctypes.addressof(made)

kept = []

def check(kind):
    name = NAME
    if kind == "a newer one before":
        found = table(2, real)
    elif kind == "two newer ones before":
        found = table(99, table(2, real))
    elif kind == "none that is understood":
        found = table(99, table(0))
    elif kind == "one without functions":
        found = table(1, function=None)
    elif kind == "another name":
        found, name = table(1), b"something else"
    else:
        found = None
    torch.Tensor.__dlpack_c_exchange_api__ = None if found is None else new(found, name, None)

    rows = [torch.arange(5), torch.arange(6)[::2], torch.tensor([7])]
    assert tb.pad(rows).tolist() == [[0, 1, 2, 3, 4], [0, 2, 4, 0, 0], [7, 0, 0, 0, 0]]
    for name in "float32 float16 bfloat16 bool uint8 int16".split():
        dtype = getattr(torch, name)
        out = torch.zeros(2, 3, dtype=dtype)
        tb.pad([torch.ones(3, dtype=dtype), torch.ones(1, dtype=dtype)], out=out)
        assert out.tolist() == [[1, 1, 1], [1, 0, 0]], dtype
    assert tb.pad([torch.ones(2, 3), torch.ones(1, 3)]).shape == (2, 2, 3)
    assert tb.pad([torch.nn.Parameter(torch.ones(2), requires_grad=False)]).tolist() == [[1, 1]]
    assert tb.pad([torch.complex(torch.zeros(2), torch.ones(2)).conj().imag]).tolist() == [[-1, -1]]
    assert tb.lengths([torch.zeros(0), torch.zeros(4, 2)]).tolist() == [0, 4]
    assert tb.attention_mask(torch.tensor([1, 2])).tolist() == [[True, False], [True, True]]
    batch = tb.PadCollator()([{"a": torch.tensor([1, 2])}, {"a": torch.tensor([3])}])
    assert batch["a"].tolist() == [[1, 2], [3, 0]]
    print(kind, flush=True)

# torch takes seconds to import: each kind is met in a process that has done so, and no more.
for kind in sys.argv[2:]:
    if sys.argv[1] == "here":
        check(kind)
    elif os.fork() == 0:
        try:
            check(kind)
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(0)
    else:
        os.wait()
"""
KINDS = [
    "a newer one before",
    "two newer ones before",
    "none that is understood",
    "one without functions",
    "another name",
    "none",
]


def test_tables_of_other_versions():
    import torch

    kinds = KINDS if hasattr(torch.Tensor, "__dlpack_c_exchange_api__") else KINDS[2:]
    if hasattr(os, "fork"):
        printed = run_python(READ, "forked", *kinds)
    else:
        printed = "".join(run_python(READ, "here", kind) for kind in kinds)
    assert printed.splitlines() == kinds
