"""Half types by definition: exact rational numbers, rounded once to the nearest of a grid."""

import math
import struct
from fractions import Fraction

import numpy as np

# Bits of the fraction, and the exponents of the smallest and the largest normal number.
FORMATS = {"float16": (10, -14, 15), "bfloat16": (7, -126, 127), "float32": (23, -126, 127)}


def largest(dtype):
    digits, _, highest = FORMATS[dtype]
    return math.ldexp(2 - 2.0**-digits, highest)


def nearest(value, dtype):
    """What a Python float becomes: to nearest, ties to even, as a Python float."""
    digits, lowest, _ = FORMATS[dtype]
    if value == 0 or not math.isfinite(value):
        return value
    exponent = max(math.frexp(value)[1] - 1, lowest)
    step = Fraction(2) ** (exponent - digits)
    rounded = round(Fraction(value) / step) * step  # Python rounds ties to even
    limit = Fraction(largest(dtype))
    result = math.inf if abs(rounded) > limit else float(abs(rounded))
    return math.copysign(result, value)


def bits(value, dtype):
    """The bits of a value that the type holds exactly; not of NaN."""
    if dtype == "float16":
        return int(np.float16(value).view(np.uint16))
    word = struct.unpack("<I", struct.pack("<f", value))[0]
    return word >> 16 if dtype == "bfloat16" else word


def nan_bits(pattern, width, digits, dtype):
    """NaN of `width` bits, `digits` of them the fraction: sign, top of the payload, quiet."""
    kept = FORMATS[dtype][0]
    payload = pattern & ((1 << digits) - 1)
    payload = payload >> (digits - kept) if digits >= kept else payload << (kept - digits)
    full = 32 if dtype == "float32" else 16
    infinity = ((1 << full - 1) - 1) >> kept << kept
    return pattern >> (width - 1) << (full - 1) | infinity | payload | 1 << (kept - 1)


def as_float64(array):
    with np.errstate(invalid="ignore"):  # signalling NaN
        return array.astype(np.float64)


def convert(array, dtype):
    """Expected bits, as unsigned integers, of a float array of NumPy's or of ml_dtypes'."""
    name = array.dtype.name
    width, digits = {"float64": (64, 52), "float32": (32, 23)}.get(
        name, (16, 10 if name == "float16" else 7)
    )
    native = array.astype(array.dtype.newbyteorder("=")) if array.dtype.isbuiltin == 1 else array
    patterns = np.ascontiguousarray(native).view(f"u{width // 8}").ravel().tolist()
    values = as_float64(np.ascontiguousarray(native)).ravel().tolist()
    expected = [
        nan_bits(pattern, width, digits, dtype)
        if math.isnan(value)
        else bits(nearest(value, dtype), dtype)
        for pattern, value in zip(patterns, values, strict=True)
    ]
    return np.array(expected, np.uint32 if dtype == "float32" else np.uint16).reshape(array.shape)


def loss(array, dtype):
    """What half_report counts and measures, number by number: a dict."""
    digits, lowest, _ = FORMATS[dtype]
    found = dict.fromkeys(("overflowed", "flushed", "subnormal", "exact"), 0)
    found |= {"first_overflowed": [], "first_flushed": []}
    absolute, relative, ulps, signal, noise = [0.0], [0.0], [0.0], [], []
    for index, value in zip(
        np.ndindex(array.shape), as_float64(array).ravel().tolist(), strict=True
    ):
        if math.isnan(value):
            continue
        converted = nearest(value, dtype)
        found["exact"] += converted == value
        if math.isinf(value):
            continue
        if math.isinf(converted):
            found["overflowed"] += 1
            found["first_overflowed"].append(index)
            continue
        if converted == 0 and value != 0:
            found["flushed"] += 1
            found["first_flushed"].append(index)
        found["subnormal"] += 0 < abs(converted) < 2.0**lowest
        error = abs(value - converted)
        exponent = max(math.frexp(converted)[1] - 1 if converted else lowest, lowest)
        absolute.append(error)
        relative.append(error / abs(value) if error else 0.0)
        ulps.append(error / 2.0 ** (exponent - digits))
        signal.append(value * value)
        noise.append(error * error)
    found["max_abs_error"], found["max_rel_error"] = max(absolute), max(relative)
    found["max_ulp_error"] = max(ulps)
    noise_sum, signal_sum = math.fsum(noise), math.fsum(signal)
    found["sqnr_db"] = 10 * math.log10(signal_sum / noise_sum) if noise_sum else math.inf
    found["first_overflowed"] = tuple(found["first_overflowed"][:5])
    found["first_flushed"] = tuple(found["first_flushed"][:5])
    return found
