"""0-d tensors, arrays and scalars are numbers in any process, whatever ran before; masked ones are
no numbers anywhere."""

import importlib.util
import json
import os

import numpy as np
import pytest

import tightbatch as tb
from checks import assert_same, fails, run_python

# Every place that takes a number, in a process of its own: what it gives must not depend on what
# was called before. {value} is the number.
PLACES = {
    "pad": "tb.pad([[{value}]])",
    "pad_later": "tb.pad([[1], [2, {value}]])",
    "pad_nested": "tb.pad([[[{value}]]])",
    "dtype": "tb.pad([[{value}]], dtype='float64')",
    "fill": "tb.pad([[1.5, 2.5], [3.5]], padding_value={value})",
    "three": "tb.uniform_length_batching([[{value}]], 1, 0)[0][0]",
    "ragged": "tb.Ragged.from_sequences([[{value}]]).values",
    "dataset": "tb.RaggedDataset({{'y': [{value}]}})['y']",
    "dataset_of_samples": "tb.RaggedDataset([{{'y': {value}}}])['y']",
    "column": "collate([{{'x': [1], 'y': {value}}}])['y']",
    "column_alone": "collate([{{'y': {value}}}])['y']",
    "tuple": "collate([([1], {value})])[1]",
    "nested": "collate([{{'a': {{'y': {value}}}}}])['a']['y']",
    "columns": "collate({{'x': [[1]], 'y': [{value}]}})['y']",
    "row": "collate([[{value}]])",
    "collator_fill": "PadCollator({value}, return_tensors='np')([[1.5, 2.5], [3.5]])",
    "padding_free": "free([{{'x': [1], 'y': {value}}}])['y']",
}
WIDTHS = {
    "width": "tb.pad([[1]], width={value})",
    "max_length": "tb.pad([[1, 2, 3, 4]], max_length={value})",
    "multiple": "tb.pad([[1]], pad_to_multiple_of={value})",
    "lengths": "tb.attention_mask([{value}])",
    "packs": "tb.segment_ids([[{value}, 1]])",
    "sampler": "np.array(list(tb.LengthBatchSampler([{value}, 1], batch_size=1, shuffle=False)))",
    "collator_width": "PadCollator(width={value}, return_tensors='np')([[1]])",
    "boundaries": "PadCollator(boundaries=[1, {value}], return_tensors='np')([[1, 2]])",
    "pack": "np.array(tb.pack([{value}, 1], 8).row_lengths)",
}
PROGRAM = """
import json
import os
import sys
import numpy as np
import torch
import tightbatch as tb
from tightbatch import PadCollator

collate = PadCollator(return_tensors="np")
free = tb.PaddingFreeCollator(return_tensors="np")


def answer(place, value):
    try:
        found = eval(place.format(value="value"), globals(), {"value": value})
        return [str(found.dtype), np.asarray(found, float).tolist()]
    except Exception as error:
        return [type(error).__name__, str(error)]


def answers(given, is_warm, places):
    if is_warm:
        tb.pad([torch.ones(3)])
    value = eval(given)
    return [answer(place, value) for place in places]


values, places = json.loads(sys.argv[1])
for value in values:
    for order in (places, places[::-1]):
        for is_warm in (False, True):
            if os.fork() == 0:  # where nothing was called before
                print(json.dumps(answers(value, is_warm, order)), flush=True)
                os._exit(0)
            os.wait()
"""
# Types in a list and in a column, and the number.
VALUES = {
    "torch.tensor(True)": ("bool", "bool", 1),
    "torch.tensor(3)": ("int64", "int64", 3),
    "torch.tensor(3, dtype=torch.uint8)": ("int64", "uint8", 3),
    "torch.tensor(0.5)": ("float32", "float32", 0.5),
    "torch.tensor(0.5, dtype=torch.float64)": ("float32", "float64", 0.5),
    "torch.tensor(0.5, dtype=torch.float16)": ("float32", "float16", 0.5),
    "torch.tensor(0.5, dtype=torch.bfloat16)": ("float32", "bfloat16", 0.5),
    "torch.nn.Parameter(torch.tensor(0.5), False)": ("float32", "float32", 0.5),
}
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork()")


def answers(values, places):
    """What every place gives for each value: the same in a new process and in an old one."""
    lines = run_python(PROGRAM, json.dumps([values, list(places.values())])).splitlines()
    found = [json.loads(line) for line in lines]
    for i, value in enumerate(values):
        cold, warm, cold_backwards, warm_backwards = found[4 * i : 4 * i + 4]
        assert cold == warm, value
        assert cold == cold_backwards[::-1], value
        assert warm == warm_backwards[::-1], value
        yield value, dict(zip(places, cold, strict=True))


@needs_fork
def test_tensors_are_numbers_in_any_process():
    pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")  # for arrays of bfloat16
    stacks = {"column", "column_alone", "tuple", "nested", "columns", "padding_free"}
    for value, found in answers(list(VALUES), PLACES):
        listed, stacked, number = VALUES[value]
        for place, (dtype, values) in found.items():
            expected = stacked if place in stacks else listed
            if place == "dtype" or "fill" in place:
                expected = "float64" if place == "dtype" else "float32"
            elif place == "pad_later" and listed == "bool":
                expected = "int64"
            assert dtype == expected, (value, place)
            assert np.ravel(values)[-1] == number, (value, place)


@needs_fork
def test_tensors_are_sizes_in_any_process():
    pytest.importorskip("torch")
    given = ["2", "torch.tensor(2)", "torch.tensor(2, dtype=torch.uint8)"]
    plain, *others = [found for _, found in answers(given, WIDTHS)]
    assert others == [plain, plain]


@needs_fork
def test_tensors_that_are_no_sizes_in_any_process():
    pytest.importorskip("torch")
    given = ["torch.tensor(2.0)", "torch.tensor(True)", "torch.ones(1).long()"]
    for value, found in answers(given, WIDTHS):
        for place, (kind, message) in found.items():
            assert kind == "TypeError", (value, place, message)


def test_numbers_and_rows_of_jax():
    if importlib.util.find_spec("jax") is None:
        pytest.skip("could not import 'jax'")
    run_python("import checks_of_jax; checks_of_jax.check_numbers(); checks_of_jax.check_rows()")


SCALARS = [
    (np.float16(0.5), np.float32),
    (np.float64(0.5), np.float32),
    (np.longdouble(0.5), np.float32),
    (np.bool_(True), np.bool_),
    (np.int8(3), np.int64),
    (np.uint64(3), np.int64),
]


@pytest.mark.parametrize(("value", "dtype"), SCALARS, ids=str)
def test_scalars_and_arrays_of_numpy(value, dtype):
    for given in (value, np.array(value), np.array(value).astype(value.dtype.newbyteorder())):
        assert_same(tb.pad([[given]]), [[value]], dtype)
        assert_same(
            tb.pad([[0.5, 0.5], [1.5]], padding_value=given), [[0.5, 0.5], [1.5, value]], np.float32
        )
        batch = tb.PadCollator(return_tensors="np")([{"x": [1], "y": given}])
        assert_same(batch["y"], [value], value.dtype)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4", "uint4"])
def test_scalars_of_ml_dtypes(name):
    kind = getattr(pytest.importorskip("ml_dtypes"), name)
    value = kind(1)
    expected = np.int64 if "int" in name else np.float32
    for given in (value, np.array(value)):
        assert_same(tb.pad([[given]]), [[1]], expected)
        assert_same(tb.pad([[2, given]]), [[2, 1]], expected)
        assert_same(tb.pad([[2, 3], [4]], padding_value=given), [[2, 3], [4, 1]], np.int64)


@pytest.mark.parametrize("name", ["int64", "uint8", "bool", "int4", "uint4"])
def test_whole_floats_fill_integers_of_any_type(name):
    kind = name if hasattr(np, name) else getattr(pytest.importorskip("ml_dtypes"), name)
    rows = [np.ones(2, kind), np.ones(1, kind)]
    for value in (0.0, -0.0, 1.0, np.float32(1), np.array(0.0)):
        assert_same(tb.pad(rows, padding_value=value), [[1, 1], [1, value]], np.dtype(kind))
    for value in (0.5, np.nan, np.inf):
        with fails(ValueError, "pad()", "padding_value", "is not an integer", name):
            tb.pad(rows, padding_value=value)


@pytest.mark.parametrize("name", ["float32", "longdouble", "float8_e4m3fn"])
def test_a_negative_zero_fills_floats_as_it_is(name):
    kind = name if hasattr(np, name) else getattr(pytest.importorskip("ml_dtypes"), name)
    rows = [np.ones(2, kind), np.ones(1, kind)]
    assert np.signbit(tb.pad(rows, padding_value=-0.0).astype(np.float64)[1, 1])
    assert not np.signbit(tb.pad(rows, padding_value=0.0).astype(np.float64)[1, 1])


TIMES = [
    np.datetime64(3, "s"),
    np.datetime64(3, "ns"),
    np.timedelta64(3, "s"),
    np.timedelta64(3, "ns"),
]


@pytest.mark.parametrize("value", [*TIMES, *map(np.array, TIMES)], ids=repr)
def test_times_are_no_numbers(value):
    with fails(TypeError, "pad()", "row 0", "column 1", "a number"):
        tb.pad([[1, value]])
    with fails(TypeError, "PadCollator()", "key 'y'"):
        tb.PadCollator(return_tensors="np")([{"y": value}])
    with fails(TypeError, "pad()", "padding_value"):
        tb.pad([[1]], padding_value=value)


@pytest.mark.parametrize("make", [np.array, "tensor"], ids=["array", "tensor"])
@pytest.mark.parametrize("value", [[1], [[1]], [1.0], [True], []], ids=str)
def test_arrays_with_dimensions_are_no_numbers(make, value):
    """Not even those of one number, which item() would give."""
    given = pytest.importorskip("torch").tensor(value) if make == "tensor" else make(value)
    with fails(TypeError, "pad()", "row 0", "column 1", "a number"):
        tb.pad([[1, given]])
    with fails(TypeError, "pad()", "row 0", "column 1", "a number"):
        tb.pad([[1.5, given]])
    with fails(TypeError, "pad()", "padding_value", "a number"):
        tb.pad([[1]], padding_value=given)
    with fails(TypeError, "PadCollator()", "key 'y'", "row 1", "a number"):
        tb.PadCollator(return_tensors="np")([{"y": 1}, {"y": given}])
    with fails(TypeError, "cu_seqlens()", "row 1"):
        tb.cu_seqlens([1, given])


# Masked values

MASKED = np.ma.array([5, 6], mask=[False, True])
MASKED_FLOATS = np.ma.array([5.0, 6.0], mask=[False, True])
SCALAR = np.ma.array(3, mask=True)


def collate(*samples):
    return tb.PadCollator(return_tensors="np")(list(samples))


def flatten(samples):
    return tb.PaddingFreeCollator(return_tensors="np")(samples)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: tb.pad([list(MASKED)]), ["row 0", "column 1"]),
        (lambda: tb.pad([tuple(MASKED_FLOATS)]), ["row 0", "column 1"]),
        (lambda: tb.pad([[1], [np.ma.masked]]), ["row 1", "column 0"]),
        (lambda: tb.pad([[[1, np.ma.masked]]]), ["row 0"]),
        (lambda: tb.pad([[1, SCALAR]]), ["row 0", "column 1"]),
        (lambda: tb.pad([list(MASKED)], dtype="float64"), ["row 0", "column 1"]),
        (lambda: tb.pad([MASKED]), ["row 0"]),
        (lambda: tb.pad(np.ma.array([[1, 2]], mask=[[0, 1]])), []),
        (lambda: tb.pad([np.ma.masked]), ["row 0"]),
        (lambda: tb.pad([[1, 2]], padding_value=np.ma.masked), ["padding_value"]),
        (lambda: tb.pad([[1, 2]], padding_value=SCALAR), ["padding_value"]),
        (lambda: tb.pad([[1, 2]], width=np.ma.masked), ["width"]),
        (lambda: tb.pad([[1, 2]], width=SCALAR), ["width"]),
        (lambda: tb.pad([[1, 2]], out=np.ma.zeros((1, 2), np.int64)), ["out"]),
        (lambda: tb.uniform_length_batching([list(MASKED)], 1, 0), ["row 0", "column 1"]),
        (lambda: tb.lengths([MASKED]), ["row 0"]),
        (lambda: tb.attention_mask(MASKED), ["lengths"]),
        (lambda: tb.attention_mask(list(MASKED)), ["lengths", "row 1"]),
        (lambda: tb.unpad(np.ma.array([[1, 2]], mask=[[0, 1]]), [2]), []),
        (lambda: tb.unpad(np.array([[1, 2]]), np.ma.array([2], mask=[1])), []),
        (lambda: tb.Ragged(np.arange(6), np.ma.array([0, 2, 6], mask=[0, 1, 0])), ["offsets"]),
        (lambda: tb.Ragged(np.arange(6), [0, np.ma.masked, 6]), ["offsets"]),
        (lambda: tb.Ragged(np.ma.array(np.arange(2), mask=[0, 1]), [0, 2]), []),
        (lambda: tb.Ragged.from_sequences([list(MASKED)]), ["row 0", "column 1"]),
        (lambda: tb.RaggedDataset({"x": MASKED}), ["'x'"]),
        (lambda: tb.RaggedDataset({"x": list(MASKED)}), ["'x'", "row 1"]),
        (lambda: tb.RaggedDataset({"x": [MASKED]}), ["'x'", "row 0"]),
        (lambda: tb.RaggedDataset({"x": np.ma.array([[1, 2]], mask=[[0, 1]])}), ["'x'"]),
        (lambda: tb.RaggedDataset([{"x": v} for v in MASKED]), ["'x'", "row 1"]),
        (lambda: collate(*({"x": v} for v in MASKED)), ["'x'", "row 1"]),
        (lambda: collate({"x": np.ma.masked}), ["'x'", "row 0"]),
        (lambda: collate({"x": SCALAR}), ["'x'", "row 0"]),
        (lambda: collate({"x": MASKED}), ["'x'", "row 0"]),
        (lambda: collate({"x": list(MASKED)}), ["'x'", "row 0", "column 1"]),
        (lambda: collate({"a": {"x": np.ma.masked}}), ["'a.x'", "row 0"]),
        (lambda: collate(([1], np.ma.masked)), ["key 1", "row 0"]),
        (lambda: tb.PadCollator(return_tensors="np")({"x": [[1], [2]], "y": MASKED}), ["'y'"]),
        (lambda: tb.PadCollator(np.ma.masked), ["padding_value"]),
        (
            lambda: tb.PaddingFreeCollator(return_tensors="np")([{"x": list(MASKED)}]),
            ["'x'", "row 0", "column 1"],
        ),
        (lambda: tb.to_float16(np.ma.masked), []),
        (lambda: tb.to_float16(MASKED_FLOATS), []),
        (lambda: tb.to_bfloat16(MASKED_FLOATS), []),
        (lambda: tb.half_report({"w": MASKED_FLOATS}), ["'w'"]),
        (lambda: tb.bucket_boundaries(MASKED, 2), ["lengths"]),
        (lambda: tb.pack(MASKED, 8), ["lengths"]),
        (lambda: tb.LengthBatchSampler(MASKED, batch_size=1), ["lengths"]),
        (lambda: tb.segment_ids([list(MASKED)]), ["row 0"]),
    ],
)
def test_masked_values_are_refused_everywhere(call, parts):
    with fails(TypeError, *parts):
        call()


@pytest.mark.parametrize("name", ["mask", "compressed"])
def test_an_array_with_one_of_the_names_of_masked_arrays_is_read(name):
    other = type("Other", (np.ndarray,), {name: None})
    assert_same(tb.pad([np.arange(2).view(other), [7]]), [[0, 1], [7, 0]], np.int64)


def test_a_masked_value_is_explained():
    with fails(TypeError, "pad()", "masked", ".filled(value)", ".compressed()"):
        tb.pad([list(MASKED)])
