"""dtype= of the collators: one type for all columns that hold floats, or a type for each key."""

import numpy as np
import pytest

import tightbatch as tb
from checks import checked, fails

torch = pytest.importorskip("torch")

COLUMNS = {
    "input_ids": [[1, 2, 3], [4]],
    "lists": [[0.5, 1.5, 2.5], [3.5]],
    "float32": [np.ones(3, np.float32), np.zeros(1, np.float32)],
    "float64": [np.ones(3), np.zeros(1)],
    "mixed": [np.ones(3, np.float32), np.zeros(1)],
    "tensors": [torch.ones(3, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.bfloat16)],
    "late": [[1, 2, 3], [0.5]],
    "features": [np.ones((3, 2), np.float32), np.zeros((1, 2), np.float32)],
    "bools": [[True, False, True], [True]],
    "int8": [np.ones(3, np.int8), np.zeros(1, np.int8)],
    "number": [0.5, 2],
    "late_number": [1, 2.5],
    "scalar": [np.float64(0.5), np.float64(2)],
    "count": [1, 2],
    "small_count": [np.int16(1), np.int16(2)],
    "text": ["a", None],
}
FLOATS = {
    *("lists", "float32", "float64", "mixed", "tensors", "late", "features"),
    *("number", "late_number", "scalar"),
}
SAMPLES = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
COLLATORS = {
    "padded": tb.PadCollator,
    "padding-free": tb.PaddingFreeCollator,
    "padding-free packs": lambda **options: tb.PaddingFreeCollator(
        segment_multiple_of=4, **options
    ),
}


@pytest.mark.parametrize("kind", COLLATORS)
@pytest.mark.parametrize("dtype", ["float16", torch.bfloat16, np.float64, np.dtype(np.float32)])
def test_one_type_for_all_floats(kind, dtype):
    samples = SAMPLES
    if kind == "padding-free packs":
        samples = [{**s, "seq_lengths": [len(s["input_ids"])]} for s in SAMPLES]
    batch = checked(COLLATORS[kind](dtype=dtype), samples)
    named = COLLATORS[kind](dtype=dict.fromkeys(FLOATS, dtype))(samples)
    plain = COLLATORS[kind](dtype={"mixed": "float32"})(samples)
    assert list(batch) == list(named) == list(plain)
    for key, value in batch.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == named[key].dtype
            assert torch.equal(value, named[key]), key
            assert (value.dtype == plain[key].dtype) or key in FLOATS, key
        else:
            assert value == named[key]


def test_other_floating_types():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rows = [{"x": np.array([1, 0.5], ml_dtypes.float8_e4m3fn)}, {"x": [2]}]
    for dtype in (np.longdouble, ml_dtypes.float8_e5m2, "float32"):
        batch = tb.PadCollator({"x": 0}, dtype=dtype, return_tensors="np")(rows)
        assert batch["x"].dtype == dtype
        assert batch["x"].astype(float).tolist() == [[1, 0.5], [2, 0]]
        assert batch["attention_mask"].dtype == np.int64


@pytest.mark.parametrize("kind", [tb.PadCollator, tb.PaddingFreeCollator])
def test_what_does_not_fit_is_named(kind):
    with fails(ValueError, "key 'x'", "row 0", "column 1", "1e+39"):
        kind(dtype="float16", return_tensors="np")([{"x": [1.0, 1e39]}])
    with fails(ValueError, "key 'x'", "row 0", "column 1", "70000"):
        kind(dtype="float16", return_tensors="np")([{"x": [0.5, 70000]}])
    batch = kind(dtype="float16", return_tensors="np")([{"x": [1, 70000]}])
    assert batch["x"].dtype == np.int64


@pytest.mark.parametrize("kind", [tb.PadCollator, tb.PaddingFreeCollator])
@pytest.mark.parametrize("dtype", ["int32", bool, torch.int8, 5, "complex64", ["float16"], object])
def test_a_type_for_all_that_is_no_floating_type(kind, dtype):
    with fails(TypeError, f"{kind.__name__}()", "dtype"):
        kind(dtype=dtype)
