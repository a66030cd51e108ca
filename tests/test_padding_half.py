"""Padding to and from float16 and bfloat16: rounded once, on the way into the output."""

import math
import random
from fractions import Fraction

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import arrays
import reference
import tightbatch as tb
from checks import assert_same, checked, fails, run_python

torch = pytest.importorskip("torch")
ml_dtypes = pytest.importorskip("ml_dtypes")

FORMATS = {"float16": (10, 15), "bfloat16": (7, 127)}  # bits of the fraction, bias
HALVES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
EVERY_HALF = pytest.mark.parametrize("name", HALVES)
INF, NAN = float("inf"), float("nan")
# Rounded to infinity: half a step above the largest finite value, and nothing below that.
OVERFLOWS = {"float16": 65520.0, "bfloat16": (2 - 2.0**-8) * 2.0**127}
OPTIONS = [
    {},
    {"padding_side": "left", "padding_value": -1.5},
    {"max_length": 2, "truncation_side": "left", "width": 3},
    {"max_length": 4, "padding_side": "left", "pad_to_multiple_of": 8, "padding_value": INF},
]
# Ties, numbers next to ties, subnormal ones, zeros.
VALUES = [0.1, -2.0, 1 + 2**-11, 1 + 3 * 2**-11, -(1 + 2**-8), 1 + 3 * 2**-8, -0.0, INF]
TINY = [2**-24, -(2**-25), 3 * 2**-25, 2**-133, 2**-134, -3 * 2**-134, 2**-149, 0.0]


def half_bits(value, name):
    """The bits of the nearest number, ties to even; None where a finite one becomes infinite."""
    fraction, bias = FORMATS[name]
    sign = 0x8000 if math.copysign(1, value) < 0 else 0
    infinity = (2 * bias + 1) << fraction
    if not math.isfinite(value):
        return sign | (infinity if math.isinf(value) else infinity | 1 << (fraction - 1))
    exponent = max(math.frexp(value)[1] - 1 if value else 1 - bias, 1 - bias)
    steps = round(abs(Fraction(value)) / Fraction(2) ** (exponent - fraction))
    bits = ((exponent + bias - 1) << fraction) + steps
    return None if bits >= infinity else sign | bits


def nested_bits(values, name):
    if isinstance(values, list):
        return [nested_bits(value, name) for value in values]
    return half_bits(float(values), name)


def bits_of(result):
    """The bits of an array or tensor of a half type, as nested lists."""
    if isinstance(result, torch.Tensor):
        result = result.view(torch.int16).numpy()
    return result.view(np.uint16).tolist()


def from_bits(bits, name):
    return np.array(bits, np.uint16).view(HALVES[name])


def tensor_of(array):
    """A tensor of the same elements, bfloat16 too."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def check(rows, name, values=None, **options):
    """Padded, and padded into out=, as the reference does with the values."""
    if values is None:
        values = [row.tolist() if hasattr(row, "tolist") else list(row) for row in rows]
    expected = nested_bits(reference.pad(values, **options), name)
    result = checked(tb.pad, rows, dtype=name, **options)
    assert result.dtype == HALVES[name]
    assert bits_of(result) == expected
    out = tensor_of(np.zeros_like(result))
    assert tb.pad(rows, dtype=name, out=out, **options) is out
    assert bits_of(out) == expected


# Rows of every kind


def arrow_rows(rows, dtype):
    pa = pytest.importorskip("pyarrow")
    kind = pa.from_numpy_dtype(np.dtype(dtype))
    return pa.array([row.tolist() for row in rows], pa.list_(kind))


KINDS = {
    "lists": lambda rows: [row.tolist() for row in rows],
    "tuples": lambda rows: [tuple(row.tolist()) for row in rows],
    "arrays": lambda rows: rows,
    "arrays, float32": lambda rows: [row.astype(np.float32) for row in rows],
    "tensors": lambda rows: [torch.from_numpy(row) for row in rows],
    "buffers": lambda rows: [memoryview(row) for row in rows],
    "lists beside arrays": lambda rows: [r if i % 2 else r.tolist() for i, r in enumerate(rows)],
    "Ragged": lambda rows: tb.Ragged.from_sequences(rows),
    "Arrow": lambda rows: arrow_rows(rows, np.float64),
    "Arrow, float32": lambda rows: arrow_rows(rows, np.float32),
}


@EVERY_HALF
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind(kind, options, name):
    rows = [np.array(row) for row in (VALUES[:3], [], VALUES[3:], TINY[:2], TINY[2:])]
    given = KINDS[kind](rows)
    narrow = np.float32 if "float32" in kind else np.float64
    check(given, name, [row.astype(narrow).tolist() for row in rows], **options)


@EVERY_HALF
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_rows_with_a_trailing_shape(options, name):
    rows = [np.array(row).reshape(-1, 2, 3) for row in (VALUES[:6] + TINY[:6], VALUES[:6])]
    for given in (rows, [row.tolist() for row in rows], [torch.from_numpy(row) for row in rows]):
        check(given, name, [row.tolist() for row in rows], **options)
    matrix = np.array(VALUES + TINY).reshape(4, 4)
    for given in (matrix, torch.from_numpy(matrix), matrix.T, list(matrix)):
        check(given, name, **{**options, "width": None})


@EVERY_HALF
@pytest.mark.parametrize("source", ["bool", "int8", "float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("layout", arrays.LAYOUTS)
def test_arrays_of_every_layout(layout, source, name):
    dtype = HALVES.get(source) or np.dtype(source)
    if layout == "byteswapped" and dtype.isbuiltin != 1:
        pytest.skip("bfloat16 has one byte order")
    flat = np.array([1.0, 0.0, 1.5, -2.0, 3.0, 1 + 2**-11, 1 - 2**-9, 0.1]).astype(dtype)
    for array in (flat, flat.reshape(2, 2, 2)):
        row = arrays.LAYOUTS[layout](array)
        check([row, row[:1]], name, [np.asarray(row).tolist(), np.asarray(row[:1]).tolist()])


@EVERY_HALF
def test_rows_of_several_kinds_beside_one_another(name):
    values = [[1, 0], [2, 3], [0.5, 0.1], [-2, 0.1], [True, False], [7], [0.25, -0.0], [3, 0.1]]
    rows = [
        np.array([True, False]),
        np.array([2, 3], np.uint8),
        torch.tensor([0.5, 0.1], dtype=torch.float16),
        np.array([-2, 0.1], np.float32),
        [True, False],
        torch.tensor([7], dtype=torch.int64),
        torch.tensor([0.25, -0.0], dtype=torch.bfloat16),
        np.array([3, 0.1], np.longdouble).astype(np.float64),
    ]
    values[2][1], values[3][1] = float(np.float16(0.1)), float(np.float32(0.1))
    for padding_value in (0, NAN, 0.1):
        check(rows, name, values, padding_value=padding_value)


@EVERY_HALF
def test_an_output_past_the_caches(name):
    """33 MiB, where rows that are only moved are streamed."""
    rng = np.random.default_rng(3)
    rows = [rng.standard_normal((n, 64), np.float32) for n in (5000, 1, 8650, 7777)]
    same = [row.astype(HALVES[name]) for row in rows]
    result = tb.pad(rows * 8, dtype=name)
    assert result.nbytes > 1 << 25
    assert np.array_equal(result.view(np.uint16), tb.pad(same * 8).view(np.uint16))
    assert bits_of(result[9, 0]) == nested_bits(rows[1][0].tolist(), name)


# Values


@EVERY_HALF
@hypothesis.given(data=st.lists(st.floats(allow_nan=False), max_size=40))
@hypothesis.settings(deadline=None)
def test_float64_is_rounded_once(name, data):
    expected = nested_bits(data, name)
    for row in (data, np.array(data, float)):
        if None not in expected:
            assert bits_of(tb.pad([row], dtype=name)) == [expected]
            continue
        column = expected.index(None)
        with fails(ValueError, "pad()", "row 0", f"column {column}", data[column], name):
            tb.pad([row], dtype=name)


@EVERY_HALF
def test_ties_and_their_neighbours(name):
    rng = random.Random(7)
    bits = rng.sample(range(half_bits(INF, name) - 1), 500)
    below = [float(from_bits(b, name)) for b in bits]
    above = [float(from_bits(b + 1, name)) for b in bits]
    middle = [(a + b) / 2 for a, b in zip(below, above, strict=True)]
    for row in (
        middle,
        [math.nextafter(m, 0.0) for m in middle],
        [math.nextafter(m, INF) for m in middle],
    ):
        for values in (row, [-value for value in row]):
            check([values, np.array(values)], name)


@EVERY_HALF
def test_float32_as_torch_and_numpy_round_it(name):
    """From float32 they round once."""
    rng = np.random.default_rng(1)
    patterns = rng.integers(0, 2**32, 20_000, np.uint32).view(np.float32)
    patterns = patterns[~(np.abs(patterns) >= OVERFLOWS[name]) & ~np.isnan(patterns)]
    rows = np.split(patterns, [1, 1000, 1017, 5000])
    tensors = [torch.from_numpy(row) for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
    expected = padded.half() if name == "float16" else padded.bfloat16()
    with np.errstate(all="ignore"):
        assert bits_of(expected) == bits_of(padded.numpy().astype(HALVES[name]))
    for given in (rows, tensors, [row.tolist() for row in rows]):
        assert bits_of(tb.pad(given, dtype=name)) == bits_of(expected)


@EVERY_HALF
def test_subnormal_numbers_where_the_processor_would_flush_them(name):
    rows = [np.array(TINY, dtype) for dtype in (np.float32, np.float64)]
    halves = [from_bits([1, 0x8003, 0x40], name)]
    widened = [row.astype(np.float64).tolist() for row in halves]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor flushes nothing")
    try:
        bits = [bits_of(tb.pad([row], dtype=name)) for row in (*rows, rows[1].tolist())]
        wide = tb.pad(halves, dtype="float64"), tb.pad(halves, dtype="float32")
        double = tb.pad([rows[0]], dtype="float64")
    finally:
        torch.set_flush_denormal(False)
    assert bits == [[nested_bits(TINY, name)]] * 3
    assert wide[0].tolist() == wide[1].tolist() == widened
    assert double.tolist() == [TINY]


@EVERY_HALF
def test_nan_keeps_its_sign_and_the_top_of_its_payload(name):
    fraction, bias = FORMATS[name]
    infinity, quiet = (2 * bias + 1) << fraction, 1 << (fraction - 1)
    for payload in (1, quiet, quiet | 5, 2 * quiet - 1):
        bits = 0x8000 | infinity | payload
        wide = np.array([0xFF800000 | payload << (23 - fraction)], np.uint32).view(np.float32)
        wider = np.array([0xFFF << 52 | payload << (52 - fraction)], np.uint64).view(np.float64)
        for row in (wide, wider, torch.from_numpy(wide)):
            assert bits_of(tb.pad([row], dtype=name)) == [[bits | quiet]]
        back = tb.pad([from_bits([bits], name)], dtype=np.float32).view(np.uint32)
        assert back.tolist() == [[0xFF800000 | (payload | quiet) << (23 - fraction)]]
    lowest = np.array([0xFFF0000000000001], np.uint64).view(np.float64)
    assert bits_of(tb.pad([lowest], dtype=name)) == [[0x8000 | infinity | quiet]]
    assert bits_of(tb.pad([[NAN, 1.0]], dtype=name)) == [nested_bits([NAN, 1.0], name)]


@EVERY_HALF
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_halves_widen_exactly(dtype, name):
    bits = np.arange(1 << 16, dtype=np.uint16)
    row = bits.view(HALVES[name])
    with np.errstate(invalid="ignore"):  # signalling NaN
        row = row[~np.isnan(row.astype(np.float32))]
    for given in (row, tensor_of(row)):
        assert_same(
            checked(tb.pad, [given, given[:3]], dtype=dtype, width=len(row)),
            [row.astype(dtype).tolist(), row[:3].astype(dtype).tolist() + [0] * (len(row) - 3)],
            dtype,
        )


@pytest.mark.parametrize(("source", "name"), [HALVES, list(HALVES)[::-1]])
def test_all_halves_as_the_other_kind(source, name):
    row = np.arange(1 << 16, dtype=np.uint16).view(HALVES[source])
    with np.errstate(invalid="ignore"):  # signalling NaN
        wide = row.astype(np.float64)
    row = row[~np.isnan(wide) & (np.isinf(wide) | (np.abs(wide) < OVERFLOWS[name]))]
    values = row.astype(float).tolist()
    check([row, tensor_of(row)[:5]], name, [values, values[:5]])


# What does not fit


@EVERY_HALF
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "float32" not in kind])
def test_a_finite_value_that_would_become_infinite(kind, name):
    limit = OVERFLOWS[name]
    largest = math.nextafter(limit, 0.0)
    fits = KINDS[kind]([np.array([largest, -largest, INF])])
    assert bits_of(tb.pad(fits, dtype=name)) == [nested_bits([largest, -largest, INF], name)]
    for value in (limit, -limit, 1e300):
        rows = KINDS[kind]([np.array([1.0]), np.array([INF, NAN, value, value])])
        with fails(ValueError, "pad()", "row 1", "column 2", value, "overflows", name):
            checked(tb.pad, rows, dtype=name)
        with fails(ValueError, "pad()", "row 1", "column 3", value):
            checked(tb.pad, rows, dtype=name, max_length=1, truncation_side="left")
        checked(tb.pad, rows, dtype=name, max_length=2)  # not looked at


@pytest.mark.parametrize("place", [0, 15, 16, 17, 1023, 1024, 3 * 2**14 - 1])
@pytest.mark.parametrize("source", ["float32", "float64", "bfloat16"])
def test_the_one_value_that_overflows_is_found_wherever_it_is(source, place):
    row = np.ones(3 * 2**14, np.float32)
    row[place] = -65536
    row = row.astype(HALVES.get(source, source))
    for given, column in ((row, place), (tensor_of(row), place), (row.reshape(-1, 2), place // 2)):
        with fails(ValueError, "pad()", "row 1", f"column {column}", -65536.0, "float16"):
            checked(tb.pad, [given[:0], given], dtype="float16")


@EVERY_HALF
@pytest.mark.parametrize("source", arrays.INTEGERS, ids=str)
def test_integers_must_be_exact(source, name):
    bits, largest = {"float16": (11, 65504), "bfloat16": (8, 2**64)}[name]
    limits = np.iinfo(source)
    tried = {sign * (2**power + delta) for power in range(64) for delta in (-1, 0, 1, 2**8)
             for sign in (1, -1)} | set(range(-300, 300)) | {65504, 65505, 65536}  # fmt: skip
    values = sorted(v for v in tried if limits.min <= v <= limits.max)
    exact = [v for v in values if abs(v) <= largest and abs(v) >> bits < (v & -v or 1)]
    check([exact, np.array(exact, source), exact[:2]], name, [exact, exact, exact[:2]])
    for value in sorted(set(values) - set(exact), key=abs)[::7]:
        for row in ([1, value], np.array([1, value], source)):
            with fails(ValueError, "pad()", "row 1", "column 1", value, "not exact", name):
                checked(tb.pad, [[1.5], row], dtype=name)


@EVERY_HALF
def test_integers_beyond_every_integer_type(name):
    if name == "bfloat16":
        check([[2**100, -(2**127), 1.5]], name)
        check([[1, 2], [3]], name, padding_value=-(2**100))
    for value in (2**100 + 1, -(2**200), 10**400):
        with fails((ValueError, OverflowError), "pad()", "row 0", "column 1"):
            checked(tb.pad, [[1.5, value]], dtype=name)
        with fails((ValueError, OverflowError), "pad()", "padding_value"):
            checked(tb.pad, [[1.5]], dtype=name, padding_value=value)


@EVERY_HALF
def test_padding_values(name):
    for value in (0.1, -0.0, NAN, -INF, True, -100, np.float16(0.1), np.float64(2**-24), 256):
        check([[1.5, 2], [3]], name, padding_value=float(value))
        result = tb.pad([[1.5, 2], [3]], dtype=name, padding_value=value)
        assert bits_of(result)[1][1] == half_bits(float(value), name)
    for value in (2**11 + 1, OVERFLOWS[name], -1e300):
        with fails(ValueError, "pad()", "padding_value", name):
            checked(tb.pad, [[1.5, 2], [3]], dtype=name, padding_value=value)


@EVERY_HALF
@pytest.mark.parametrize("dtype", [*arrays.INTEGERS, np.dtype(bool)], ids=str)
def test_halves_become_no_integers(dtype, name):
    rows = [np.ones(2, HALVES[name]), torch.ones(2, dtype=getattr(torch, name))]
    for row in rows:
        with fails(TypeError, "pad()", "row 1", name, dtype):
            checked(tb.pad, [[1], row], dtype=dtype)


@EVERY_HALF
def test_an_output_of_another_type(name):
    other = next(half for half in HALVES if half != name)
    for out in (np.zeros((1, 2), HALVES[other]), np.zeros((1, 2), np.int16)):
        for given in (out, tensor_of(out)):
            with fails(ValueError, "pad()", "out=", name):
                tb.pad([[1.0, 2]], dtype=name, out=given)
            assert not np.any(out.view(np.uint16))


# Types that only NumPy converts


@EVERY_HALF
def test_longdouble_is_rounded_once(name):
    fraction = FORMATS[name][0]
    tie = np.longdouble(1) + np.longdouble(2) ** -(fraction + 1)
    least = np.finfo(np.longdouble).eps
    row = np.array([tie, tie + least, tie - least, -tie - least, 0, INF, 1e-30])
    assert row.dtype == np.longdouble
    up = 1 + 2.0**-fraction
    check([row], name, [[1.0, up, 1.0, -up, 0.0, INF, 1e-30]])
    with fails(ValueError, "pad()", "row 0", "column 5", "overflows", name):
        huge = np.array([0, 0, 0, 0, 0, np.finfo(np.longdouble).max])
        checked(tb.pad, [huge], dtype=name, max_length=2, truncation_side="left")


@EVERY_HALF
@pytest.mark.parametrize("dtype", [*arrays.ML_DTYPES[1:], np.dtype(np.longdouble)], ids=str)
def test_types_that_others_register(dtype, name):
    row = np.array([1, 2, 0, 3]).astype(dtype)
    check([row, [0.1], row[:2]], name, [[1, 2, 0, 3], [0.1], [1, 2]], max_length=3)
    half = from_bits(nested_bits([1.0, 2.0, 0.0], name), name)
    for given in (half, tensor_of(half)):
        if dtype.kind == "f" or "float" in dtype.name:
            assert_same(tb.pad([given], dtype=dtype), [[1, 2, 0]], dtype)


# Collators, and without ml_dtypes


@EVERY_HALF
def test_collators_convert_while_they_pad(name):
    rng = np.random.default_rng(2)
    rows = [rng.standard_normal((n, 3)).astype(np.float32) for n in (4, 1, 7)]
    samples = [{"input_ids": [1] * len(row), "x": row, "y": 0.1} for row in rows]
    expected = nested_bits(reference.pad([row.tolist() for row in rows]), name)
    batch = tb.PadCollator(dtype={"x": name, "y": name})(samples)
    assert batch["x"].dtype == batch["y"].dtype == getattr(torch, name)
    assert bits_of(batch["x"]) == expected
    assert bits_of(batch["y"]) == [half_bits(0.1, name)] * 3
    arrays_ = tb.PadCollator(dtype={"x": name}, return_tensors="np")(samples)
    assert (arrays_["x"].dtype, bits_of(arrays_["x"])) == (HALVES[name], expected)
    line = tb.PaddingFreeCollator(dtype={"x": name})(samples)
    flat = [position for row in rows for position in row.tolist()]
    assert bits_of(line["x"]) == [nested_bits(flat, name)]
    samples[1]["x"] = samples[1]["x"] + np.float32(OVERFLOWS[name])
    for collate in (tb.PadCollator, tb.PaddingFreeCollator):
        with fails(ValueError, collate.__name__, "'x'", "row 1", "column 0", "overflows", name):
            collate(dtype={"x": name})(samples)


@EVERY_HALF
def test_ragged_rows_are_made_and_padded(name):
    rows = [VALUES[:3], TINY, []]
    ragged = tb.Ragged.from_sequences(rows, dtype=name)
    assert bits_of(ragged.values) == nested_bits(VALUES[:3] + TINY, name)
    assert bits_of(ragged.pad()) == nested_bits(reference.pad(rows), name)
    wide = tb.pad(ragged[[1, 0]], dtype="float64")
    assert wide.tolist() == ragged[[1, 0]].pad().astype(float).tolist()


def test_bfloat16_without_ml_dtypes():
    """Tensors go in and come out; NumPy alone has no such type, and says so."""
    script = """
    import sys
    sys.modules["ml_dtypes"] = None  # importing it raises ImportError
    import numpy as np, torch
    import tightbatch as tb

    def raised(kind, *arguments, **options):
        try:
            tb.pad(*arguments, **options)
        except kind as error:
            return str(error)
        raise AssertionError("nothing was raised")

    rows = [torch.tensor([0.1, -2.0, float("nan")]).bfloat16(), np.float32([1e-40]), [0.1], []]
    rows += [torch.tensor([7.0]).half(), np.array([3]), np.longdouble([0.1])]
    expected = torch.tensor([[0.1, -2, float("nan")], [1e-40, .5, .5], [0.1, .5, .5], [.5] * 3,
                             [7, .5, .5], [3, .5, .5], [0.1, .5, .5]]).bfloat16()
    bits = lambda tensor: tensor.view(torch.int16).tolist()
    out = torch.zeros(7, 3, dtype=torch.bfloat16)
    assert tb.pad(rows, dtype=torch.bfloat16, out=out, padding_value=0.5) is out
    assert bits(out) == bits(expected)
    tb.pad([rows[0][:2], [0.1]], out=out[:2, :2].contiguous())
    for dtype in ("float16", "float32", "float64", "longdouble"):
        wide = tb.pad([rows[0][:2]], dtype=dtype)
        assert wide.tolist() == np.array([rows[0][:2].tolist()], dtype).tolist()

    samples = [{"ids": [1] * len(row), "x": row} for row in rows]
    for collate in (tb.PadCollator(dtype={"x": "bfloat16"}, padding_value=0.5, attention_mask=True),
                    tb.PadCollator({"x": 0.5}, dtype={"x": torch.bfloat16})):
        batch = collate([{"x": row} for row in rows])
        assert batch["x"].dtype == torch.bfloat16
        assert bits(batch["x"]) == bits(expected)
    samples = [{"input_ids": [1] * 3, "x": torch.ones(3).bfloat16()}] * 2
    line = tb.PaddingFreeCollator()(samples)
    assert line["x"].dtype == torch.bfloat16 and line["x"].tolist() == [[1.0] * 6]
    mask = torch.empty(2, 2, dtype=torch.bfloat16)
    tb.segment_mask([1, 2], dtype=torch.bfloat16, additive=True, out=mask)
    assert mask[0, 1] == torch.finfo(torch.bfloat16).min / 4

    big = torch.tensor([1, 3e38]).bfloat16()
    assert "row 1, column 1: value 3.00" in raised(ValueError, [[1], big], dtype="float16")
    assert "value 257 is not exact in bfloat16" in raised(
        ValueError, [[257]], out=torch.zeros(1, 1).bfloat16(), dtype="bfloat16")
    assert "floats (bfloat16)" in raised(TypeError, [big], dtype="int64")
    assert "expected float32 as in row 0" in raised(TypeError, [np.ones(2, np.float32), big])
    for call in (lambda: tb.pad([[1.0]], dtype="bfloat16"), lambda: tb.pad([big]),
                 lambda: tb.PadCollator(return_tensors="np")([{"x": big}])):
        try:
            call()
        except TypeError as error:
            assert "pip install ml_dtypes" in str(error)
        else:
            raise AssertionError("nothing was raised")
    """
    run_python(script)
