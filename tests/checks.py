"""What every test checks beside the values: inputs untouched, references returned, messages."""

import gc
import re
import subprocess
import sys
import textwrap
from contextlib import contextmanager

import numpy as np
import pytest

# Public classes that functions return: nobody makes one, so they raise nothing.
RESULTS = frozenset(
    "Batch BatchReport Chunks ContextParallel ConversionCounts Fairness Finding HalfReport "
    "ModelReport Packing PaddingReport Partition SplitReport".split()
)
# Seconds that a batch may take to come from a worker. One that cannot pickle it says nothing.
WORKER_LIMIT = 200


def snapshot(value):
    """Everything about an input that a call could change, in a form that == compares."""
    if value is np.ma.masked:
        return "other", id(value)  # NumPy's one object for what is masked
    if isinstance(value, list | tuple):
        items = tuple(list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value))
        return "items", tuple(map(id, items)), tuple(map(snapshot, items))
    if isinstance(value, np.ndarray) and value.dtype == object:
        return "objects", value.shape, tuple(map(snapshot, value.ravel()))
    if isinstance(value, np.ndarray):
        places = (value.shape, value.strides, value.dtype, value.flags.writeable, value.ctypes.data)
        mask = value.mask.tobytes() if isinstance(value, np.ma.MaskedArray) else None
        return "array", places, mask, np.asarray(value).tobytes()  # masked.tobytes() may raise
    if type(value).__module__.split(".")[0] == "torch" and hasattr(value, "is_inference"):
        version = None if value.is_inference() else value._version
        return "tensor", id(value), version, value.requires_grad, str(value)
    if isinstance(value, bytearray | memoryview):
        return "bytes", bytes(value)
    return "other", id(value)


def counted(value, depth=2):
    """The objects whose references are counted: containers and rows, nothing that is shared."""
    shared = type(None) | str | bytes | int | float | complex | type | np.generic | np.dtype
    if isinstance(value, shared) or (type(value) is tuple and not value):
        return []
    found = [value]
    if depth and isinstance(value, list | tuple):
        items = list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)
        found.extend(inner for item in items for inner in counted(item, depth - 1))
    return found


def forget_frames(error):
    """Frames of the functions that raised hold their arguments: let them go."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def checked(function, *arguments, **options):
    """The call's result or error, after a check that the inputs are as they were.

    Values, layout and flags are compared, and the reference counts of containers and rows.
    An `out` is written by intent, and a generator is used up: leave them out of the comparison.
    """
    given = [*arguments, *(value for key, value in options.items() if key != "out")]
    before = [snapshot(value) for value in given]
    objects = [item for value in given for item in counted(value)]
    error = result = None
    collecting = gc.isenabled()
    gc.disable()  # garbage of earlier errors may hold the same objects
    try:
        counts = [sys.getrefcount(item) for item in objects]
        try:
            result = function(*arguments, **options)
        except Exception as caught:
            forget_frames(caught)
            error = caught
        after = [sys.getrefcount(item) for item in objects]
    finally:
        if collecting:
            gc.enable()
    changed = [(type(o), b, a) for o, b, a in zip(objects, counts, after, strict=True) if a != b]
    if changed:
        raise AssertionError(f"reference counts changed: {changed}") from error
    if [snapshot(value) for value in given] != before:
        raise AssertionError("an input was modified") from error
    try:
        if error is not None:
            raise error
    finally:
        error = None
    return result


def result_or_error(kinds, function, *arguments, **options):
    """(result, None), or (None, error): where the contract leaves either open."""
    try:
        return function(*arguments, **options), None
    except kinds as error:
        return None, error


def expected_array(values, dtype, shape=None):
    array = np.array(values, dtype=dtype)
    return array if shape is None else array.reshape(shape)


def assert_same(result, values, dtype, shape=None):
    """A plain, C-contiguous, writeable, native array that owns exactly these values."""
    expected = expected_array(values, dtype, shape)
    assert type(result) is np.ndarray
    assert result.dtype == expected.dtype
    assert result.dtype.isnative
    assert result.shape == expected.shape
    assert result.flags.c_contiguous
    assert result.flags.owndata
    assert result.flags.writeable
    assert result.flags.aligned
    if result.dtype.isbuiltin == 1:
        np.testing.assert_array_equal(result, expected)
        if result.dtype.kind == "f":
            numbers = ~np.isnan(expected)
            np.testing.assert_array_equal(
                np.signbit(result[numbers]), np.signbit(expected[numbers])
            )
    else:
        assert result.tobytes() == expected.tobytes()


@contextmanager
def fails(kinds, *parts):
    """The block raises one of `kinds`, and its message names every part.

    Parts are matched as whole words, so "row 1" is not found in "row 10".
    """
    with pytest.raises(kinds) as caught:
        yield caught
    message = str(caught.value)
    for part in parts:
        pattern = rf"(?<!\w){re.escape(str(part))}(?!\w)"
        assert re.search(pattern, message), f"{part!r} is not named in: {message}"


def run_python(script, *arguments, timeout=300):
    """Run a script in a process of its own, where a crash is only a failed test."""
    paths = [path for path in sys.path if path]
    program = f"import sys; sys.path[:0] = {paths!r}\n" + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_lengths_that_act(function):
    """Hostile 21 to 23: the __index__ of a length raises, or changes the list it is in."""
    error = LookupError("from __index__")

    class Index:
        def __init__(self, act):
            self.act = act

        def __index__(self):
            self.act()
            return 2

    def act():
        raise error

    with pytest.raises(LookupError) as caught:
        function([1, Index(act)])
    assert caught.value is error
    lengths = [1, Index(lambda: lengths.clear()), *range(10**3)]
    with pytest.raises(RuntimeError):
        function(lengths)
    lengths = [Index(lambda: lengths.append(1))]
    with pytest.raises(RuntimeError):
        function(lengths)


def amp_devices(torch):
    """The devices that Amp is tested on."""
    return ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
