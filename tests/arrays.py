"""One generator of every awkward memory layout, and the element types to run it over.

`LAYOUTS[name](array)` has the shape, the element type and, but for `zero_stride`, the values of
`array`; only where its elements lie differs. Read the expected values from the result itself.
"""

import numpy as np

try:
    import ml_dtypes
except ImportError:  # the types are optional, and so are their tests
    ml_dtypes = None

INTEGERS = [
    np.dtype(name)
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
]
FLOATS = [np.dtype(name) for name in ("float16", "float32", "float64", "longdouble")]
DTYPES = [np.dtype(bool), *INTEGERS, *FLOATS]
ML_DTYPES = (
    []
    if ml_dtypes is None
    else [
        np.dtype(getattr(ml_dtypes, name))
        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")
        if hasattr(ml_dtypes, name)
    ]
)

# What no function takes for a row of integers, or for rows of them.
NOT_INTEGERS = {
    "none": None,
    "int": 3,
    "str": "12",
    "dict": {1: 2},
    "float_list": [1.0, 2.0],
    "float_item": [1, 2.5],
    "nan": [float("nan")],
    "str_item": [1, "2"],
    "none_item": [1, None],
    "list_item": [1, [2]],
    "complex_item": [1, 2j],
    "float_array": np.array([1.0, 2.0]),
    "str_array": np.array(["1"]),
    "object_array": np.array([1, None], object),
    "datetime_array": np.zeros(2, "M8[s]"),
    "scalar_array": np.array(3),
    "three_dimensions": np.ones((2, 2, 2), int),
}


class Subclass(np.ndarray):
    """An array subclass that carries an attribute, as many in the wild do."""

    def __array_finalize__(self, parent):
        self.note = getattr(parent, "note", None)


def fortran(array):
    return np.asfortranarray(array)


def reversed_first(array):
    return array[::-1].copy()[::-1]


def reversed_all(array):
    back = (slice(None, None, -1),) * array.ndim
    return array[back].copy()[back]


def strided(array):
    """Every third place of a larger array, along every axis."""
    wide = np.ones(tuple(3 * size + 1 for size in array.shape), array.dtype)
    view = wide[tuple(slice(1, None, 3) for _ in array.shape)]
    view[...] = array
    return view


def transposed(array):
    return np.ascontiguousarray(array.T).T


def zero_stride(array):
    """The first item everywhere, from one place in memory."""
    return np.broadcast_to(array[:1].copy(), array.shape) if len(array) else array


def misaligned(array):
    memory = bytearray(array.nbytes + 1)
    if array.size == 0:
        return np.ndarray(array.shape, array.dtype, buffer=memory, offset=1)
    view = np.frombuffer(memory, array.dtype, offset=1).reshape(array.shape)
    view[...] = array
    return view


def byteswapped(array):
    return array.astype(array.dtype.newbyteorder())


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def subclass(array):
    return array.copy().view(Subclass)


def field(array):
    """A field of a packed record: strided, and misaligned in every other record."""
    records = np.zeros(array.shape, [("gap", "i1"), ("value", array.dtype)])
    records["value"] = array
    return records["value"]


def inside(array):
    """A C-contiguous view that begins inside a larger block."""
    block = np.concatenate([array[:1], array, array[:1]])
    return block[min(1, len(array)) : min(1, len(array)) + len(array)]


LAYOUTS = {
    "c": np.array,
    "fortran": fortran,
    "reversed_first": reversed_first,
    "reversed_all": reversed_all,
    "strided": strided,
    "transposed": transposed,
    "zero_stride": zero_stride,
    "misaligned": misaligned,
    "byteswapped": byteswapped,
    "read_only": read_only,
    "subclass": subclass,
    "field": field,
    "inside": inside,
}


def layouts(array):
    """Every layout of one logical array, as (name, array)."""
    swappable = array.dtype.isbuiltin == 1
    for name, layout in LAYOUTS.items():
        if name == "byteswapped" and not swappable:
            continue  # types from outside NumPy have one byte order
        yield name, layout(array)


def odd_empties(dtype):
    """Arrays of no bytes whose data pointer is nowhere sensible."""
    memory = bytearray(64)
    yield np.ndarray((0,), dtype, buffer=memory, offset=1)
    yield np.ndarray((0,), dtype, buffer=memory, offset=64)
    yield np.zeros(8, dtype)[8:]
    yield np.zeros(8, dtype)[5:2:1]
    yield np.zeros(8, dtype)[0:0:-1]
    yield np.broadcast_to(np.zeros((), dtype), (0,))
    yield np.ndarray((0,), dtype, buffer=b"")


def sample(dtype, shape, seed=0):
    """Values over the whole range of a type: extremes, zeros of both signs, inf and nan too."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape))
    random = np.random.default_rng(seed)
    if dtype.kind == "b":
        return random.integers(0, 2, size).astype(bool).reshape(shape)
    if dtype.isbuiltin == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = random.integers(limits.min, limits.max, size, dtype, endpoint=True)
        special = [limits.min, limits.max, 0, 1]
    elif dtype.isbuiltin == 1:
        values = random.standard_normal(size).astype(dtype)
        limits = np.finfo(dtype)
        special = [limits.min, limits.max, limits.smallest_subnormal, -0.0, np.inf, np.nan]
        special = [dtype.type(value) for value in special]
    else:
        return random.integers(0, 8, size).astype(dtype).reshape(shape)
    places = random.permutation(size)[: len(special)]
    for place, value in zip(places, special, strict=False):
        values[place] = value
    return values.reshape(shape)


def batch(dtype, row_lengths, trailing=(), seed=0):
    """One sample row of each length."""
    return [
        sample(dtype, (length, *trailing), seed + index) for index, length in enumerate(row_lengths)
    ]
