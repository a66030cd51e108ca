"""Bad input of the conversions and of half_report: nothing is read or written wrongly."""

import numpy as np
import pytest

import tightbatch as tb
from checks import checked, fails, run_python

torch = pytest.importorskip("torch")

FUNCTIONS = [tb.to_float16, tb.to_bfloat16, tb.to_float32, tb.half_report]
BY_FUNCTION = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)

NOT_FLOATS = {
    "int64": np.arange(3),
    "bool": np.ones(3, bool),
    "complex64": np.ones(3, np.complex64),
    "float128" if hasattr(np, "float128") else "complex128": np.ones(
        3, getattr(np, "float128", np.complex128)
    ),
    "datetime64": np.zeros(3, "M8[s]"),
    "object": np.array([1.0, None], object),
    "<U3": np.array(["1.0"]),
    "f8": np.zeros(2, [("a", "f8")]),
}


@BY_FUNCTION
@pytest.mark.parametrize("dtype", NOT_FLOATS)
def test_other_types_are_refused_by_name(function, dtype):
    with fails(TypeError, f"{function.__name__}()", dtype, "float64, float32, float16 or bfloat16"):
        checked(function, NOT_FLOATS[dtype])


@BY_FUNCTION
@pytest.mark.parametrize(
    "x", [None, 1.0, [1.0, 2.0], (1.0,), "abc", range(3), object()], ids=lambda x: type(x).__name__
)
def test_what_is_no_array_is_refused(function, x):
    with fails(TypeError, f"{function.__name__}()", type(x).__name__):
        checked(function, x)


@BY_FUNCTION
def test_masked_arrays_are_refused(function):
    with fails(TypeError, "masked", ".filled"):
        function(np.ma.masked_array([1.0, 2.0], [True, False]))


@BY_FUNCTION
@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        (torch.zeros(3, device="meta"), "meta"),
        (torch.zeros(3).to_sparse(), "sparse"),
        (torch.zeros(3, dtype=torch.complex64), "complex64"),
        (torch.zeros(3, dtype=torch.int32), "int32"),
        (torch.zeros(3).to(torch.float8_e4m3fn), "float8_e4m3fn"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_elsewhere_or_other(function, tensor, named):
    with fails(TypeError, f"{function.__name__}()", named):
        function(tensor)


@pytest.mark.parametrize("function", [tb.to_float16, tb.to_bfloat16, tb.to_float32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_gradient_is_not_lost_in_silence(function, dtype):
    x = torch.ones(2, dtype=dtype, requires_grad=True)
    for each in (x, x * 2, torch.nn.Parameter(x.detach())):
        for given in ({}, {"return_counts": True}):
            with fails(TypeError, f"{function.__name__}()", "requires a gradient", "detach"):
                function(each, **given)
        assert function(each.detach()).tolist() == each.tolist()
        for context in (torch.no_grad(), torch.inference_mode()):
            with context:
                assert function(each).tolist() == each.tolist()
    report = tb.half_report({"w": x, "layer": torch.nn.Linear(2, 2)})
    assert sorted(one.name for one in report) == ["layer.bias", "layer.weight", "w"]


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_a_padding_value_with_a_gradient_is_refused(value):
    fill = torch.tensor(value, requires_grad=True)
    rows = [torch.ones(2), torch.ones(1)]
    dicts = [{"input_ids": row} for row in rows]
    calls = {
        "pad()": lambda fill: tb.pad(rows, padding_value=fill),
        "PadCollator()": lambda fill: tb.PadCollator(fill)(dicts)["input_ids"],
        "uniform_length_batching()": lambda fill: tb.uniform_length_batching(
            rows, 2, padding_value=fill
        ),
    }
    for name, call in calls.items():
        with fails(TypeError, name, "padding_value is a tensor", "detach"):
            call(fill)
        call(fill.detach())
        with torch.no_grad():
            call(fill)


@pytest.mark.cuda
def test_cuda_tensors_are_refused():
    with fails(TypeError, "cuda", ".cpu()"):
        tb.to_float16(torch.zeros(3, device="cuda"))


BAD_OUT = {
    "has shape (3,), expected (2,)": np.zeros(3, np.float16),
    "has shape (2, 1), expected (2,)": np.zeros((2, 1), np.float16),
    "has dtype float32, expected float16": np.zeros(2, np.float32),
    "has dtype int16, expected float16": np.zeros(2, np.int16),
    "is not C-contiguous, aligned and in native byte order": np.zeros(4, np.float16)[::2],
    "has type list": [0.0, 0.0],
}


@pytest.mark.parametrize("told", BAD_OUT)
def test_bad_out_is_refused_before_anything_is_written(told):
    out = BAD_OUT[told]
    before = np.array(out)
    with fails((TypeError, ValueError), "to_float16()", "out=", told):
        tb.to_float16(np.float32([1, 2]), out=out)
    np.testing.assert_array_equal(before, out)


def test_more_bad_out():
    x = np.float32([1, 2])
    out = np.zeros(2, np.float16)
    out.flags.writeable = False
    with fails(ValueError, "out=", "read-only"):
        tb.to_float16(x, out=out)
    with fails(ValueError, "out=", "native"):
        tb.to_float16(x, out=np.zeros(2, ">f2"))
    with fails(ValueError, "out=", "float16"):
        tb.to_float16(torch.ones(2), out=torch.zeros(2, dtype=torch.bfloat16))
    with fails(ValueError, "out=", "(3,)"):
        tb.to_float16(torch.ones(2), out=torch.zeros(3, dtype=torch.float16))
    with fails(TypeError, "out=", "meta"):
        tb.to_float16(torch.ones(2), out=torch.zeros(2, dtype=torch.float16, device="meta"))
    with fails(ValueError, "out=", "C-contiguous"):
        tb.to_float16(torch.ones(2), out=torch.zeros(2, 2, dtype=torch.float16)[:, 0])


def test_overlapping_out_is_refused():
    memory = np.zeros(64, np.uint8)
    x = memory[:32].view(np.float32)
    for begin in (0, 14, 16, 30):
        with fails(ValueError, "out=", "shares memory"):
            tb.to_float16(x, out=memory[begin : begin + 16].view(np.float16))
    tb.to_float16(x, out=memory[32:48].view(np.float16))
    back = memory[:32].view(np.float32)[::-1]
    with fails(ValueError, "out=", "shares memory"):
        tb.to_float16(back, out=memory[16:32].view(np.float16))
    with fails(ValueError, "out=", "shares memory"):
        tb.to_float32(x, out=x)
    tensor = torch.zeros(8)
    with fails(ValueError, "out=", "shares memory"):
        tb.to_float16(tensor, out=tensor.view(torch.float16)[:8])


@pytest.mark.parametrize("overflow", ["clip", None, 1, ""], ids=str)
def test_overflow_is_one_of_four(overflow):
    kind = ValueError if isinstance(overflow, str) else TypeError
    with fails(kind, "overflow", "'warn', 'inf', 'saturate' or 'error'"):
        tb.to_float16(np.float32([1]), overflow=overflow)


def test_warnings_turned_into_errors_leave_a_result_in_out():
    out = np.zeros(2, np.float16)
    with pytest.warns(RuntimeWarning, match="element 1 is 1"):
        assert tb.to_float16(np.float32([1, 1e10]), out=out) is out
    assert out.tolist() == [1, np.inf]


@pytest.mark.parametrize("counted", [False, True])
def test_the_element_that_overflows_first_is_named_wherever_it_is(counted):
    x = np.zeros(40_000, np.float32)
    x[[30_000, 35_000]] = 1e6
    with pytest.warns(RuntimeWarning, match="2 of 40,000 .* element 30000 is 1000000.0"):
        tb.to_float16(x, return_counts=counted)


def test_half_report_names_the_entry():
    good = np.ones(2, np.float32)
    with fails(TypeError, "half_report()", "'b'", "meta"):
        tb.half_report({"a": good, "b": torch.zeros(3, device="meta")})
    report = tb.half_report({"a": good, "c": torch.zeros(3).to_sparse()})
    assert report.others == {"c": "torch.float32, sparse_coo"}


def test_an_out_that_cannot_be_written_as_it_reads():
    ones = torch.ones(4)
    with fails(TypeError, "out=", "negated"):
        tb.to_float16(ones, out=torch._neg_view(torch.ones(4, dtype=torch.float16)))
    with fails(TypeError, "pad()", "out=", "negated"):
        tb.pad([np.ones(4, np.float32)], out=torch._neg_view(torch.ones(1, 4)))
    leaf = torch.zeros(4, dtype=torch.float16, requires_grad=True)
    with fails(TypeError, "out=", "gradient", "detach"):
        tb.to_float16(ones, out=leaf)
    with torch.no_grad():
        assert tb.to_float16(ones, out=leaf.detach()).tolist() == [1.0] * 4
        assert leaf.tolist() == [1.0] * 4


@BY_FUNCTION
def test_a_storage_that_was_resized_is_refused(function):
    for size in (0, 16):
        x = torch.ones(1000)
        x.untyped_storage().resize_(size)
        with fails((TypeError, ValueError, RuntimeError), "storage"):
            function(x)
    out = torch.zeros(1000, dtype=torch.float16)
    out.untyped_storage().resize_(16)
    with fails(ValueError, "storage", "16 bytes"):
        tb.to_float16(torch.ones(1000), out=out)
    with fails(TypeError, "cannot be read"):  # a ZeroTensor has no memory
        function(torch._efficientzerotensor((1000,)))


def test_hostile_48_memory_errors_are_told():
    done = run_python(
        """
        import numpy as np, tightbatch as tb, _testcapi
        x = np.ones((64, 64), np.float32).T
        tb.to_float16(x), tb.half_report(x)
        for function in (tb.to_float16, tb.half_report):
            for n in range(60):
                try:
                    _testcapi.set_nomemory(n, n + 1)
                    try:
                        function(x)
                    finally:
                        _testcapi.remove_mem_hooks()
                except MemoryError:
                    pass
        print("done")
        """
    )
    assert done.split() == ["done"]
