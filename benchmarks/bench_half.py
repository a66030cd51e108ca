"""Conversion to half types and back, and reports of what they lose, against NumPy and torch.

Everything goes into ready outputs; memcpy moves as many bytes, read and written together.
"""

from __future__ import annotations

from harness import Row, compare, one_thread, run

one_thread()

import ml_dtypes
import numpy as np
import torch

import tightbatch as tb

SIZES = {"4 Ki": 4 << 10, "64 Ki": 64 << 10, "1 Mi": 1 << 20, "32 Mi": 32 << 20}


def aligned(count: int, dtype: torch.dtype) -> torch.Tensor:
    """Memory that begins at a cache line, as torch has it, in the large pages NumPy asks for."""
    size = torch.empty(0, dtype=dtype).element_size()
    block = np.zeros(count * size + 64, np.uint8)
    begin = -block.ctypes.data % 64
    return torch.from_numpy(block[begin : begin + count * size]).view(dtype)


def weights(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Numbers as large as a layer's weights are."""
    found = np.random.default_rng(0).standard_normal(count) * 0.02
    return aligned(count, dtype).copy_(torch.from_numpy(found))


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """The same memory: all sides read and write one place."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def narrow(size: str, dtype: str, convert, goals: tuple[float, float]) -> list[Row]:
    """float32 to a half type: `goals` are those against NumPy or ml_dtypes, and torch."""
    source = weights(SIZES[size])
    target = aligned(SIZES[size], getattr(torch, dtype))
    x, out = as_array(source), as_array(target)
    block = as_array(aligned(x.nbytes * 3 // 4, torch.uint8).fill_(1))
    copied = as_array(aligned(x.nbytes * 3 // 4, torch.uint8))
    library = "NumPy" if dtype == "float16" else "ml_dtypes"
    return compare(
        f"float32 to {dtype}, {size}, into out=",
        lambda: convert(x, out=out),
        {
            f"{library}, np.copyto": (
                lambda: np.copyto(out, x, casting="same_kind"),
                goals[0],
            ),
            "torch, copy_": (lambda: target.copy_(source), goals[1]),
            "memcpy of as many bytes": (
                lambda: np.copyto(copied, block),
                0.9 if dtype == "float16" else None,
            ),
        },
    )


def to_float16() -> list[Row]:
    """To float16."""
    goals = {"4 Ki": (25, 1), "64 Ki": (25, 1), "1 Mi": (25, 1), "32 Mi": (15, 1.2)}
    return [
        row for size, goal in goals.items() for row in narrow(size, "float16", tb.to_float16, goal)
    ]


def to_bfloat16() -> list[Row]:
    """To bfloat16."""
    goals = {"4 Ki": (4, 1), "64 Ki": (4, 1), "1 Mi": (4, 1), "32 Mi": (2, 1)}
    return [
        row
        for size, goal in goals.items()
        for row in narrow(size, "bfloat16", tb.to_bfloat16, goal)
    ]


def to_float32() -> list[Row]:
    """float16 back to float32."""
    rows = []
    for size, goal in {"4 Ki": 20, "64 Ki": 20, "1 Mi": 20, "32 Mi": 9}.items():
        source = weights(SIZES[size], torch.float16)
        target = aligned(SIZES[size], torch.float32)
        x, out = as_array(source), as_array(target)
        rows += compare(
            f"float16 to float32, {size}, into out=",
            lambda x=x, out=out: tb.to_float32(x, out=out),
            {
                "NumPy, np.copyto": (lambda x=x, out=out: np.copyto(out, x), goal),
                "torch, copy_": (lambda s=source, t=target: t.copy_(s), 1),
            },
        )
    return rows


def from_float64() -> list[Row]:
    """float64, rounded once."""
    source = weights(1 << 20, torch.float64)
    target = aligned(1 << 20, torch.float16)
    x, out = as_array(source), as_array(target)
    return compare(
        "float64 to float16, 1 Mi, into out=",
        lambda: tb.to_float16(x, out=out),
        {"NumPy, np.copyto": (lambda: np.copyto(out, x, casting="same_kind"), None)},
    )


def losses(x: np.ndarray, half: np.ndarray, smallest_normal: float) -> dict:
    """The counts of half_report for one type, as one would write them in NumPy."""
    finite = np.isfinite(x)
    there_and_back = half.astype(x.dtype)
    over = finite & np.isinf(there_and_back)
    flushed = (there_and_back == 0) & (x != 0)
    magnitude = np.abs(there_and_back)
    return {
        "overflowed": np.flatnonzero(over)[:5],
        "overflow_count": over.sum(),
        "flushed": np.flatnonzero(flushed)[:5],
        "flushed_count": flushed.sum(),
        "subnormal": ((magnitude < smallest_normal) & (magnitude > 0)).sum(),
        "exact": (there_and_back == x).sum(),
    }


def errors(x: np.ndarray, half: np.ndarray, digits: int, lowest: int) -> dict:
    """The errors of half_report for one type."""
    wide, converted = x.astype(np.float64), half.astype(np.float64)
    kept = np.isfinite(wide) & np.isfinite(converted)
    error = np.abs(wide - converted, where=kept, out=np.zeros_like(wide))
    exponent = np.maximum(np.frexp(converted)[1] - 1, lowest)
    return {
        "absolute": error.max(),
        "relative": np.max(error / np.abs(wide), where=error > 0, initial=0),
        "ulp": np.ldexp(error, digits - exponent).max(),
        "sqnr": 10 * np.log10(np.square(wide[kept]).sum() / np.square(error).sum()),
    }


def numpy_report(x: np.ndarray, with_errors: bool, with_exponents: bool) -> list[dict]:
    """Everything that half_report says of one array."""
    found: list[dict] = [
        {
            "nan": np.isnan(x).sum(),
            "infinite": np.isinf(x).sum(),
            "largest": np.abs(x).max(),
            "smallest": np.min(np.abs(x), where=x != 0, initial=np.inf),
        }
    ]
    for name, digits, lowest in ((np.float16, 10, -14), (ml_dtypes.bfloat16, 7, -126)):
        half = x.astype(name)
        found.append(losses(x, half, 2.0**lowest))
        if with_errors:
            found.append(errors(x, half, digits, lowest))
    if with_exponents:
        exponents = np.frexp(x[np.isfinite(x) & (x != 0)])[1] - 1
        found.append({"exponents": np.bincount(np.clip(exponents, -127, 128) + 127, minlength=256)})
    return found


def reports() -> list[Row]:
    """half_report: all of it, and the counts alone."""
    rows = []
    for size in ("64 Ki", "1 Mi", "32 Mi"):
        x, copied = as_array(weights(SIZES[size])), as_array(aligned(SIZES[size], torch.float32))
        peers = {}
        if size != "32 Mi":  # there NumPy takes half a minute and 3 GB
            peers["NumPy, the same numbers"] = (lambda x=x: numpy_report(x, True, True), 10)
        peers["memcpy of the array"] = (lambda x=x, y=copied: np.copyto(y, x), None)
        rows += compare(f"half_report of {size}", lambda x=x: tb.half_report(x), peers)
        rows += compare(
            f"half_report of {size}, with errors, no histogram",
            lambda x=x: tb.half_report(x, histogram=False),
            {"memcpy of the array": (lambda x=x, y=copied: np.copyto(y, x), None)},
        )
        peers = {}
        if size != "32 Mi":
            peers["NumPy, the same numbers"] = (lambda x=x: numpy_report(x, False, False), 10)
        # half_report reads, memcpy reads and writes: a third of its bytes a second is 2/3 of
        # its time.
        peers["memcpy of the array"] = (lambda x=x, y=copied: np.copyto(y, x), 0.67)
        rows += compare(
            f"half_report of {size}, counts alone",
            lambda x=x: tb.half_report(x, errors=False, histogram=False),
            peers,
        )
    return rows


def other_numbers() -> dict[str, np.ndarray]:
    """1 Mi that are not what a layer's weights are."""
    x = as_array(weights(1 << 20))
    bias, large = x.copy(), x * 1e4
    bias[::2000] = -np.inf
    large[::2000] = 1e6
    return {
        "float32 with an -inf in 2,000": bias,
        "float32 with an overflow in 2,000": large,
        "float32 that holds float16": x.astype(np.float16).astype(np.float32),
        "float64": x.astype(np.float64),
        "float16": x.astype(np.float16),
    }


def other_reports() -> list[Row]:
    """half_report of what is rarer."""
    rows = []
    for name, x in other_numbers().items():
        for what, errors_too in (("", True), (", counts alone", False)):
            rows += compare(
                f"half_report of 1 Mi {name}{what}",
                lambda x=x, e=errors_too: tb.half_report(x, errors=e, histogram=e),
                {"NumPy, the same numbers": (lambda x=x, e=errors_too: numpy_report(x, e, e), 10)},
            )
    return rows


def other_conversions() -> list[Row]:
    """Overflow, and the pairs that are rarer, 1 Mi into out=."""
    large = as_array(weights(1 << 20)) * np.float32(1e4)
    large[::5000] = 1e6
    source, target = torch.from_numpy(large), torch.zeros(1 << 20, dtype=torch.float16)
    out = as_array(target)
    rows = compare(
        "float32 to float16, an overflow in 5,000, overflow='inf'",
        lambda: tb.to_float16(large, overflow="inf", out=out),
        {"torch, copy_": (lambda: target.copy_(source), None)},
    )
    clean = as_array(weights(1 << 20))
    rows += compare(
        "float32 to float16, overflow='error'",
        lambda: tb.to_float16(clean, overflow="error", out=out),
        {
            "torch, isfinite().all() and copy_": (
                lambda: target.copy_(torch.from_numpy(clean)).isfinite().all(),
                None,
            )
        },
    )
    halves, others = weights(1 << 20, torch.bfloat16), torch.zeros(1 << 20, dtype=torch.float16)
    rows += compare(
        "bfloat16 to float16",
        lambda: tb.to_float16(halves, out=others),
        {"torch, copy_": (lambda: others.copy_(halves), 1)},
    )
    return rows


if __name__ == "__main__":
    run(
        [
            to_float16,
            to_bfloat16,
            to_float32,
            from_float64,
            other_conversions,
            reports,
            other_reports,
        ],
        __doc__,
    )
