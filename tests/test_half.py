"""to_float16, to_bfloat16 and to_float32 against their definition and against the peers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import arrays
import reference_half
import tightbatch as tb
from checks import checked, run_python

ml_dtypes = pytest.importorskip("ml_dtypes")
torch = pytest.importorskip("torch")

BF16 = np.dtype(ml_dtypes.bfloat16)
SOURCES = [np.dtype("f8"), np.dtype("f4"), np.dtype("f2"), BF16]
TARGETS = {"float16": tb.to_float16, "bfloat16": tb.to_bfloat16, "float32": tb.to_float32}
DTYPES = {"float16": np.dtype("f2"), "bfloat16": BF16, "float32": np.dtype("f4")}
TORCH = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
PAIRS = [(source, target) for source in SOURCES for target in TARGETS if source.name != target]
BY_PAIR = pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda p: getattr(p, "name", p))


def patterns(source, count, seed=0):
    """Any bits at all, but half of them where the half types round, overflow and vanish."""
    random = np.random.default_rng(seed)
    array = random.integers(0, 256, count * source.itemsize, np.uint8).view(source)
    scale = np.exp2(random.integers(-30, 20, count).astype(np.float64))
    with np.errstate(over="ignore"):
        values = (random.standard_normal(count) * scale).astype(source)
    array[::2] = values[::2]
    return array


def unsigned(array):
    return array.view(f"u{array.dtype.itemsize}")


def assert_converted(result, array, target):
    assert type(result) is np.ndarray
    assert result.dtype == DTYPES[target]
    assert result.dtype.isnative
    assert result.shape == array.shape
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert result.flags.owndata
    np.testing.assert_array_equal(unsigned(result), reference_half.convert(array, target))


# Values


@BY_PAIR
def test_any_bits_become_what_the_definition_says(source, target):
    array = patterns(source, 3000)
    assert_converted(checked(TARGETS[target], array, overflow="inf"), array, target)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_float64(data):
    array = data.draw(hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(width=64)))
    for target, function in TARGETS.items():
        assert_converted(function(array, overflow="inf"), array, target)


def test_float64_is_rounded_once():
    """torch and ml_dtypes go by way of float32, where these two become ties."""
    x = np.array([1 + 2**-11 + 2**-40, 1 + 2**-8 + 2**-40])
    assert unsigned(tb.to_float16(x))[0] == 0x3C01
    assert unsigned(tb.to_bfloat16(x))[1] == 0x3F81
    assert torch.from_numpy(x).half()[0] == 1.0
    assert x.astype(ml_dtypes.bfloat16)[1] == 1.0


@pytest.mark.parametrize("target", ["float16", "bfloat16"])
def test_all_halves_come_back(target):
    every = np.arange(2**16, dtype=np.uint16).view(DTYPES[target])
    for function in (tb.to_float32, reference_half.as_float64):
        wide = function(every)
        back = TARGETS[target](wide)
        numbers = ~np.isnan(wide)
        np.testing.assert_array_equal(unsigned(back)[numbers], unsigned(every)[numbers])
        assert np.isnan(back[~numbers].astype(np.float32)).all()
    np.testing.assert_array_equal(
        unsigned(tb.to_float32(every)), reference_half.convert(every, "float32")
    )


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_numpy_torch_and_ml_dtypes_agree_where_they_are_right():
    for source in (np.dtype("f8"), np.dtype("f4")):
        array = patterns(source, 100_000, seed=1)
        array = array[~np.isnan(array)]
        mine = tb.to_float16(array, overflow="inf")
        np.testing.assert_array_equal(unsigned(mine), unsigned(array.astype(np.float16)))
    mine = unsigned(tb.to_bfloat16(array, overflow="inf"))
    np.testing.assert_array_equal(mine, unsigned(array.astype(ml_dtypes.bfloat16)))
    tensor = torch.from_numpy(array)
    assert torch.equal(tb.to_float16(tensor, overflow="inf"), tensor.half())
    assert torch.equal(tb.to_bfloat16(tensor, overflow="inf"), tensor.bfloat16())
    assert torch.equal(tb.to_float32(tensor.bfloat16()), tensor.bfloat16().float())
    assert torch.equal(tb.to_float32(tensor.half()), tensor.half().float())


def test_what_the_process_has_set_does_not_show():
    array = patterns(np.dtype("f4"), 5000, seed=2)
    expected = {target: function(array, overflow="inf") for target, function in TARGETS.items()}
    torch.set_flush_denormal(True)
    try:
        for target, function in TARGETS.items():
            found = function(array, overflow="inf")
            np.testing.assert_array_equal(unsigned(found), unsigned(expected[target]))
        # bfloat16 and float64 subnormals of float32, which arithmetic would flush here.
        assert unsigned(tb.to_float32(np.array([2.0**-140])))[0] == 1 << 9
    finally:
        torch.set_flush_denormal(False)


# Every layout, kind and level


@BY_PAIR
@pytest.mark.parametrize("shape", [(7, 5), (0, 3), (3, 0, 2), (2, 3, 4)], ids=str)
def test_every_layout(source, target, shape):
    array = patterns(source, int(np.prod(shape)), seed=3).reshape(shape)
    for _, given_array in arrays.layouts(array):
        found = checked(TARGETS[target], given_array, overflow="inf")
        assert_converted(found, np.array(given_array), target)


def test_more_than_the_iterators_buffer():
    wide = patterns(np.dtype("f8"), 60_000, seed=4).reshape(200, 300)
    for view in (wide.T, wide[::-1, ::3], wide.astype(">f8"), wide[:, 1:-1]):
        np.testing.assert_array_equal(
            unsigned(tb.to_float16(view, overflow="inf")),
            unsigned(tb.to_float16(np.array(view, np.float64, order="C"), overflow="inf")),
        )


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_odd_empties_and_no_dimensions(source):
    for target, function in TARGETS.items():
        if source.isbuiltin == 1:
            for empty in arrays.odd_empties(source):
                assert checked(function, empty).shape == (0,)
        scalar = np.array(1.5).astype(source)
        found = checked(function, scalar)
        assert found.shape == ()
        assert float(found) == 1.5
        assert found.dtype == DTYPES[target]


def test_the_same_type_is_copied_as_it_is():
    signalling = np.array([0x7C01, 0x3C00], np.uint16).view(np.float16)
    found = tb.to_float16(signalling)
    assert found is not signalling
    np.testing.assert_array_equal(unsigned(found), unsigned(signalling))


def test_buffers_and_scalars():
    memory = memoryview(np.float32([1.5, -2]))
    assert tb.to_float16(memory).tolist() == [1.5, -2]
    assert tb.to_float16(np.float32(0.5)) == 0.5


TENSORS = {
    "plain": lambda t: t,
    "transposed": lambda t: t.T,
    "strided": lambda t: t[::2, 1::3],
    "expanded": lambda t: t[:1].expand(4, t.shape[1]),
    "no_dimensions": lambda t: t[0, 0],
    "empty": lambda t: t[:0],
    "parameter": lambda t: torch.nn.Parameter(t),
    "with_gradient": lambda t: t.clone().requires_grad_(),
    "offset": lambda t: t.flatten()[3:20],
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("source", TORCH)
def test_tensors_become_tensors(kind, source):
    tensor = TENSORS[kind](
        torch.from_numpy(patterns(np.dtype("f4"), 48).reshape(6, 8)).to(TORCH[source])
    )
    for target, function in TARGETS.items():
        with torch.no_grad():  # else a tensor that requires a gradient is refused
            found = checked(function, tensor, overflow="inf")
        assert type(found) is torch.Tensor
        assert found.dtype == TORCH[target]
        assert not found.requires_grad
        assert found.is_contiguous()
        plain = tensor.detach()
        array = plain.float().numpy() if source == "bfloat16" else plain.numpy()
        expected = plain.to(TORCH[target])
        if source == "float64":
            array = np.ascontiguousarray(array)
            bits = reference_half.convert(array, target).reshape(found.shape)
            width = {4: torch.int32, 2: torch.int16}[bits.itemsize]
            assert torch.equal(found.view(width), torch.from_numpy(bits.view(f"i{bits.itemsize}")))
        else:
            assert torch.equal(found.nan_to_num(7.0), expected.nan_to_num(7.0))


def test_a_negated_view_is_read_as_it_reads():
    negated = torch.imag(torch.tensor([1 + 2j, 3 - 4j]).conj())
    assert negated.is_neg()
    assert tb.to_float16(negated).tolist() == [-2.0, 4.0]


LEVELS = tb._core.cpu_levels()[1]


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_gives_the_same_bits(level, monkeypatch):
    script = """
        import hashlib, numpy as np, ml_dtypes, tightbatch as tb
        print(tb._core.cpu_levels()[0])
        random = np.random.default_rng(5)
        digest = hashlib.sha256()
        for source in ("f8", "f4", "f2", ml_dtypes.bfloat16):
            for n in (*range(70), 1000, 40_000):
                array = random.integers(0, 256, n * np.dtype(source).itemsize, np.uint8)
                array = array.view(source)
                for function in (tb.to_float16, tb.to_bfloat16, tb.to_float32):
                    for rule in ("inf", "saturate"):
                        digest.update(function(array, overflow=rule).tobytes())
                digest.update(repr(tb.half_report(array).to_dict()).encode())
        print(digest.hexdigest())
    """
    found = []
    for name in (level, "scalar"):
        monkeypatch.setenv("TIGHTBATCH_CPU", name)
        found.append(run_python(script).split())
    assert [name for name, _ in found] == [level, "scalar"]
    assert found[0][1] == found[1][1]


def test_a_level_that_is_not_there_is_an_import_error(monkeypatch):
    monkeypatch.setenv("TIGHTBATCH_CPU", "mmx")
    told = run_python(
        "try:\n    import tightbatch\nexcept ImportError as error:\n    print(error)\n"
    )
    assert told.strip().endswith(
        f"TIGHTBATCH_CPU='mmx'; expected one of those this machine has: {', '.join(LEVELS)}"
    )
    monkeypatch.setenv("TIGHTBATCH_CPU", "")
    assert "float16" in run_python("import tightbatch as tb; print(tb.to_float16.__name__)")


# out=


@pytest.mark.parametrize("target", TARGETS)
def test_out_is_written_and_returned(target):
    array = patterns(np.dtype("f8"), 100, seed=6).reshape(10, 10)
    expected = reference_half.convert(array, target)
    out = np.zeros((10, 10), DTYPES[target])
    assert checked(TARGETS[target], array, overflow="inf", out=out) is out
    np.testing.assert_array_equal(unsigned(out), expected)
    tensor = torch.zeros(10, 10, dtype=TORCH[target])
    assert TARGETS[target](array, overflow="inf", out=tensor) is tensor
    width = {4: torch.int32, 2: torch.int16}[expected.itemsize]
    assert torch.equal(tensor.view(width), torch.from_numpy(expected.view(f"i{expected.itemsize}")))
    tensor.zero_()
    assert TARGETS[target](torch.from_numpy(array), overflow="inf", out=tensor) is tensor
    assert torch.equal(tensor.view(width), torch.from_numpy(expected.view(f"i{expected.itemsize}")))
    assert TARGETS[target](array.T, overflow="inf", out=out) is out
    np.testing.assert_array_equal(unsigned(out), expected.T)


# Overflow and counts


def test_overflow_rules():
    x = np.float32([[1, 65519.996], [-70000, 1e30], [np.inf, np.nan]])
    with pytest.warns(
        RuntimeWarning,
        match=r"to_float16\(\): 2 of 6 numbers overflow float16.*\(1, 0\) is -70000.0",
    ):
        warned = tb.to_float16(x)
    np.testing.assert_array_equal(warned, tb.to_float16(x, overflow="inf"))
    assert warned[1].tolist() == [-np.inf, np.inf]
    saturated = tb.to_float16(x, overflow="saturate")
    assert saturated[:2].tolist() == [[1, 65504], [-65504, 65504]]
    assert saturated[2, 0] == np.inf
    assert np.isnan(saturated[2, 1])
    with pytest.raises(
        ValueError, match=r"to_float16\(\): element \(1, 0\) is -70000.0, which overf"
    ):
        tb.to_float16(x, overflow="error")
    assert tb.to_float16(x[:1], overflow="error").tolist() == [[1, 65504]]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
@pytest.mark.parametrize("place", [0, 1, 16_383, 16_384, 40_000, 49_999])
def test_the_first_that_overflows_is_named(kind, place):
    x = np.ones((5, 10_000))
    x.reshape(-1)[place:] = 1e39
    where = np.unravel_index(place, x.shape)
    for target, function in TARGETS.items():
        out = np.zeros(x.shape, DTYPES[target])
        with pytest.raises(ValueError, match=rf"element \({where[0]}, {where[1]}\) is 1e\+39"):
            function(kind(x), overflow="error", out=out)
        assert not out.any()  # as it was
        with pytest.raises(ValueError, match=rf"element \({where[0]}, {where[1]}\) is 1e\+39"):
            function(kind(x), overflow="error")
        counts = function(kind(x), overflow="saturate", return_counts=True)[1]
        assert counts.first_overflowed == where
        assert counts.overflowed == x.size - place
    with pytest.warns(RuntimeWarning, match="1 of 1 numbers overflow float16"):
        tb.to_float16(kind(np.float64(1e39).reshape(1)))


@BY_PAIR
def test_counts(source, target):
    array = patterns(source, 4000, seed=7).reshape(40, 100)
    for given_array in (array, array.T):
        found, counts = checked(TARGETS[target], given_array, overflow="inf", return_counts=True)
        assert_converted(found, given_array, target)
        expected = reference_half.loss(given_array, target)
        for name in ("overflowed", "flushed", "subnormal", "exact"):
            assert getattr(counts, name) == expected[name], name
        for name in ("first_overflowed", "first_flushed"):
            assert getattr(counts, name) == (expected[name][0] if expected[name] else None)
        wide = reference_half.as_float64(given_array)
        assert counts.size == array.size
        assert counts.nan == np.isnan(wide).sum()
        assert counts.infinite == np.isinf(wide).sum()
        for name, which in (("first_nan", np.isnan(wide)), ("first_infinite", np.isinf(wide))):
            where = np.argwhere(which)
            assert getattr(counts, name) == (tuple(where[0]) if len(where) else None)


def test_what_overflows_is_told_whatever_x_is():
    big = np.array([1.0, 1e30])
    for x in (
        memoryview(big.astype("<f8")),
        memoryview(big.astype(">f8")),
        torch.from_numpy(big),
        torch.from_numpy(big).bfloat16(),
    ):
        with pytest.raises(ValueError, match=r"element 1 is 1(\.\d+)?e\+30"):
            tb.to_float16(x, overflow="error")
    with pytest.raises(ValueError, match=r"3\.4028235677973366e\+38, which overflows float32"):
        tb.to_float32(np.array([3.4028235677973366e38]), overflow="error")


def test_new_tensors_are_on_the_cpu():
    x = torch.ones(3)
    with torch.device("meta"):
        assert tb.to_float16(x).tolist() == [1.0] * 3


# ml_dtypes is optional


def test_without_ml_dtypes():
    told = run_python(
        """
        import sys
        sys.modules["ml_dtypes"] = None
        import numpy as np, torch, tightbatch as tb
        x = np.float32([1.5, 1e-3, 3e38])
        for make in (lambda: tb.to_bfloat16(x), lambda: tb.to_bfloat16(x.T, overflow="inf")):
            try:
                make()
            except TypeError as error:
                print(error)
        tensor = torch.from_numpy(x)
        assert torch.equal(tb.to_bfloat16(tensor), tensor.bfloat16())
        out = torch.zeros(3, dtype=torch.bfloat16)
        assert tb.to_bfloat16(x, out=out) is out and torch.equal(out, tensor.bfloat16())
        assert torch.equal(tb.to_float32(out), out.float())
        assert tb.half_report(out)[0].dtype == "bfloat16"
        strided = torch.zeros(4, 4, dtype=torch.bfloat16).T[::2]
        assert torch.equal(tb.to_float16(strided), strided.half())
        """
    )
    assert told.count("pip install ml_dtypes") == 2


@pytest.mark.parametrize("kind", ["float64", "float32"])
@pytest.mark.parametrize("function", [tb.to_float16, tb.to_bfloat16])
def test_counts_of_many_numbers_change_no_number(function, kind):
    """They are counted in blocks; every number is one that no other place has."""
    x = np.linspace(-3, 3, 100_003).astype(kind)
    x[[0, 40_000, 100_002]] = 1e30
    counted, counts = function(x, overflow="inf", return_counts=True)
    plain = function(x, overflow="inf")
    assert counted.tobytes() == plain.tobytes()
    halves = [function(part, overflow="inf", return_counts=True)[1] for part in np.split(x, [9999])]
    for name in ("overflowed", "flushed", "subnormal", "exact"):
        assert getattr(counts, name) == sum(getattr(part, name) for part in halves), name
    assert counts.overflowed == (3 if function is tb.to_float16 else 0)
