"""Memory over many calls: batches that start anew, numbers that do not fit, items that are gone."""

import gc
import importlib.util
import os
import subprocess
import sys
import textwrap
import tracemalloc
import weakref

import numpy as np
import pytest

import tightbatch as tb
from checks import forget_frames

ROWS = [[1] * 500 + [0.5], [2] * 1000, [3]]  # ints, until a float comes up
LEAK = 200_000  # bytes of 100 calls, of which each has a buffer of 24,000 or so
WIDENED = [[float(item) for item in row] + [0.0] * (1000 - len(row)) for row in ROWS]
SEGMENTS = [
    {"input_ids": [1, 2, 3], "x": [1] * 2 + [0.5]},
    {"input_ids": [4] * 400, "x": [2] * 400},
]


def bytes_kept(function, rounds=100):
    """Bytes that many calls leave behind, of Python's memory and of NumPy's."""
    tracemalloc.start()
    try:
        for _ in range(5):
            function()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(rounds):
            function()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def refused(function, *arguments, **options):
    """A call that fails, and leaves nothing of its error."""
    try:
        function(*arguments, **options)
    except Exception as error:
        forget_frames(error)
    else:
        raise AssertionError("expected an error")


def collate(collator, samples):
    return lambda: collator(samples)


WIDENING = {
    "pad": lambda: tb.pad(ROWS),
    "pad with mask": lambda: tb.pad(ROWS, return_mask=True),
    "pad nested": lambda: tb.pad([[[item, item] for item in row] for row in ROWS]),
    "bools, ints, floats": lambda: tb.pad([[True] * 900, [True, 7], [0.5]]),
    "float64": lambda: tb.pad(ROWS, dtype="float64"),
    "float16": lambda: tb.pad(ROWS, dtype="float16"),
    "longdouble": lambda: tb.pad([[1.0] * 900, [0.5]], dtype=np.longdouble),
    "dynamic": lambda: tb.pad_sequences_dynamic(ROWS),
    "fixed": lambda: tb.fixed_pad_sequences(ROWS, 700),
    "uniform": lambda: tb.uniform_length_batching(ROWS, 2),
    "ragged": lambda: tb.Ragged.from_sequences(ROWS),
    "rows": collate(tb.PadCollator(return_tensors="np"), ROWS),
    "columns": collate(
        tb.PadCollator(return_tensors="np"),
        [{"a": row, "b": row, "input_ids": [1] * len(row)} for row in ROWS],
    ),
    "padding-free": collate(tb.PaddingFreeCollator(return_tensors="np"), SEGMENTS),
}


@pytest.mark.parametrize("name", WIDENING)
def test_batches_that_start_anew_leave_nothing(name):
    assert bytes_kept(WIDENING[name]) < LEAK


def test_batches_that_start_anew_are_right():
    assert tb.pad(ROWS).tolist() == WIDENED
    assert tb.pad(ROWS).dtype == np.float32
    assert tb.pad(ROWS, padding_side="left")[2].tolist() == [0.0] * 999 + [3.0]
    assert tb.pad([[True], [True, 7], [0.5]]).tolist() == [[1, 0], [1, 7], [0.5, 0]]


@pytest.mark.parametrize("name", ["pt", "np"])
def test_tensors_that_start_anew_leave_nothing(name):
    pytest.importorskip("torch")
    collator = tb.PadCollator(return_tensors=name)
    assert bytes_kept(lambda: collator(ROWS)) < LEAK


# Numbers that do not fit


def places_of(number):
    """Every place for an integer that refuses this one."""
    ragged = tb.Ragged.from_sequences([[1], [2]])
    lengths = [2, number]
    yield "a row", lambda: tb.pad([[1], [number]])
    yield "a row of int8", lambda: tb.pad([[1], [number]], dtype="int8")
    yield "a row of float16", lambda: tb.pad([[0.5], [number]], dtype="float16")
    yield "a row with a float", lambda: tb.pad([[number, 0.5]])
    yield "a nested row", lambda: tb.pad([[[1, number]]])
    yield "from_sequences", lambda: tb.Ragged.from_sequences([[number]])
    yield "padding_value", lambda: tb.pad([[1], []], padding_value=number)
    yield "width", lambda: tb.pad([[1]], width=number)
    yield "pad_to_multiple_of", lambda: tb.pad([[1]], pad_to_multiple_of=number)
    yield "batch_size", lambda: tb.uniform_length_batching([[1]], number)
    yield "an index", lambda: ragged[[0, number]]
    yield "seed", lambda: tb.pack([1, 2], 4, seed=number)
    yield "capacity", lambda: tb.pack([1, 2], number)
    yield "epoch", lambda: tb.LengthBatchSampler([1], batch_size=1).set_epoch(number)
    yield "max_tokens", lambda: tb.LengthBatchSampler([1], max_tokens=number)
    yield "boundaries", lambda: tb.PadCollator(boundaries=[1, number])
    yield "a column", lambda: tb.PadCollator(return_tensors="np")([{"a": [number]}])
    yield "a column of numbers", lambda: tb.PadCollator(return_tensors="np")([{"a": number}])
    yield "k", lambda: tb.bucket_boundaries([1], number)
    yield "block_size", lambda: tb.block_mask([1], block_size=number)
    yield "window", lambda: tb.segment_mask([[1]], window=number)
    yield "segment_ids", lambda: tb.segment_mask([[1, number]])
    yield "prefix", lambda: tb.segment_mask([[1]], prefix=number)
    for function in (
        tb.attention_mask,
        tb.position_ids,
        tb.segment_ids,
        tb.cu_seqlens,
        tb.block_mask,
    ):
        yield f"lengths of {function.__name__}", lambda function=function: function(lengths)
    yield "lengths of pack", lambda: tb.pack(lengths, 4)
    yield "lengths of a sampler", lambda: tb.LengthBatchSampler(lengths, batch_size=1)
    yield "lengths of unpad", lambda: tb.unpad(np.ones((2, 3)), lengths)
    yield "lengths of bucket_boundaries", lambda: tb.bucket_boundaries(lengths, 1)


PLACES = [name for name, _ in places_of(0)]


@pytest.mark.parametrize("place", PLACES)
def test_an_integer_that_does_not_fit_is_given_back(place):
    for number in (2**90 + 1, -(2**90) - 1):
        function = dict(places_of(number))[place]
        refused(function)
        before = sys.getrefcount(number)
        for _ in range(100):
            refused(function)
        assert sys.getrefcount(number) == before


# Items that are gone


GONE = """
import gc, sys
import numpy as np
import tightbatch as tb

class Item:
    \"\"\"Takes itself out of its list when it is asked for its value.\"\"\"

    def __init__(self, value):
        self.value = value

    def __index__(self):
        items.clear()
        gc.collect()
        junk = [bytearray(64) for _ in range(50)]
        return self.value

    def __repr__(self):
        return "an item that is gone"

def attempt(function, value):
    items[:] = [1, 2, Item(value), 3]
    try:
        function()
    except (RuntimeError, OverflowError, ValueError, TypeError) as error:
        return type(error).__name__, str(error)
    raise AssertionError("no error")

items = []
ragged = tb.Ragged.from_sequences([[1], [2], [3], [4], [5]])
functions = [
    lambda: tb.pad([items]),
    lambda: tb.pad([items], dtype="int8"),
    lambda: tb.pad([items], dtype="float16"),
    lambda: tb.pad([[[0, 0, 0, 0], items]]),
    lambda: tb.pad([[0.5], items]),
    lambda: tb.Ragged.from_sequences([items]),
    lambda: tb.uniform_length_batching([items, [1]], 1),
    lambda: tb.PadCollator(return_tensors="np")([{"a": items}]),
    lambda: tb.attention_mask(items),
    lambda: tb.cu_seqlens(items),
    lambda: tb.segment_mask(items),
    lambda: tb.segment_ids(items),
    lambda: tb.block_mask(items),
    lambda: tb.pack(items, 10),
    lambda: tb.bucket_boundaries(items, 2),
    lambda: tb.LengthBatchSampler(items, batch_size=2),
    lambda: ragged[items],
]
for number, function in enumerate(functions):
    for value in (2, 2**90, -5, -2**90, 2**40):
        for _ in range(3):
            name, message = attempt(function, value)
            assert "changed size" in message or "an item that is gone" in message or str(
                value) in message, (number, value, name, message)
print("done")
"""


def test_an_item_that_takes_itself_away_is_held():
    """In a process whose freed memory is overwritten, where a use of it shows."""
    paths = [path for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(GONE)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONMALLOC": "debug"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "done\n", f"exit {done.returncode}\n{done.stderr}"


def test_the_measure_sees_what_numpy_keeps():
    kept = []
    assert bytes_kept(lambda: kept.append(np.empty(3000)), rounds=10) > 200_000


# The module itself


def test_a_module_that_is_gone_has_given_all_back():
    """A second _core, as after a reload: it shows Python what it holds, and gives it back."""
    torch = pytest.importorskip("torch")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    from tightbatch import _core, _numpy_fallback

    spec = importlib.util.spec_from_file_location(_core.__name__, _core.__file__)
    kept = [torch.Tensor, torch.nn.Parameter, torch.Tensor.is_neg, _numpy_fallback.convert]
    kept += [_numpy_fallback.significand_bits, _numpy_fallback.masking_value]
    rows = [(torch.ones(1), None), (np.ones(1, ml_dtypes.bfloat16), None), ([0.5], "bfloat16")]
    rows += [([3], np.longdouble), ([2**70], np.longdouble), ([0.5], ml_dtypes.float8_e5m2)]
    gc.collect()
    before = [sys.getrefcount(thing) for thing in kept]
    for _ in range(5):
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for row, dtype in rows:
            asked = (None, None, 0, "right", "right", None, dtype, None, False)
            assert module.pad("pad", [row], *asked).shape == (1, 1)
        module.attention_mask([1], 2, "right", None, np.longdouble, True)
        held = gc.get_referents(module)
        assert [thing for thing in kept if all(thing is not other for other in held)] == []
        assert module.RaggedBuffers in held
        gone = weakref.ref(module)
        del module, held
        gc.collect()
        assert gone() is None
    assert [sys.getrefcount(thing) for thing in kept] == before
