"""Plans in files: integer arrays that processes map, and what they are a plan of.

A file is a NumPy file (.npy) of one int64 array, so that NumPy alone maps it and any tool reads it:
eight words that say where the rest is, the arrays one after another, and a JSON text that names
them. Each part has a fingerprint. Reading a file trusts nothing in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import _core

Array = NDArray[Any]
Words = NDArray[np.int64]
Found = TypeVar("Found")

_MAGIC = int.from_bytes(b"tbplan\r\n", "little")
_FORMAT = 1
_HEADER = 128  # bytes of the .npy header
_FIRST = 8  # words: magic, format, words in all, where the text begins, its bytes and fingerprint
_TYPES = ("<i8", "<i4")


def _npy_header(words: int) -> bytes:
    text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({words},), }}"
    size = (_HEADER - 10).to_bytes(2, "little")
    return b"\x93NUMPY\x01\x00" + size + text.ljust(_HEADER - 11).encode() + b"\n"


def _fingerprint(words: Words) -> int:
    return _core.fingerprint("fingerprint", words)


def _as_words(array: Array) -> Words:
    """Give an array's bytes as words, filled up with zeros."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if len(data) % 8:
        data = np.concatenate([data, np.zeros(-len(data) % 8, np.uint8)])
    words: Words = data.view(np.int64)
    return words


def write_plan(
    function: str, path: Any, about: Mapping[str, Any], arrays: Iterable[tuple[str, Array]]
) -> None:
    """Write a file in one step: others see the file before it or the whole of it."""
    target = read_path(function, path)
    with replacing(target) as part, open(part, "xb") as file:
        _write(file, about, arrays)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a name to write to, which becomes `target` when all went well.

    Errors name the target: the other name is nobody's.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        yield part
        os.replace(part, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if not isinstance(error, OSError) or error.errno is None:
            raise
        if error.filename not in (None, part, str(part)):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from None


def _write(file: BinaryIO, about: Mapping[str, Any], arrays: Iterable[tuple[str, Array]]) -> None:
    file.write(bytes(_HEADER + 8 * _FIRST))
    place, told = _FIRST, []
    for name, array in arrays:
        words = _as_words(array)
        words.tofile(file)
        told.append([name, array.dtype.str, len(array), place, _fingerprint(words)])
        place += len(words)
    text = json.dumps({"about": about, "arrays": told}).encode()
    words = _as_words(np.frombuffer(text, np.uint8))
    words.tofile(file)
    total = place + len(words)
    first = [_MAGIC, _FORMAT, total, place, len(text), _fingerprint(words), 0, 0]
    file.seek(0)
    file.write(_npy_header(total) + np.array(first, "<i8").tobytes())


def read_path(function: str, path: Any) -> Path:
    """Read the name of a file."""
    try:
        name = os.fspath(path)
    except TypeError:
        name = None
    if not isinstance(name, str) or not name:
        raise TypeError(f"{function}(): path={_core.describe(path)}; expected the name of a file")
    if "\0" in name:
        raise ValueError(f"{function}(): path={_core.show(path)}; expected the name of a file")
    return Path(name)


def read_plan(function: str, path: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    """Give what a file is about, and its arrays, mapped, as they were written."""
    name = read_path(function, path)
    words = _map_words(function, name)
    place, size = int(words[3]), int(words[4])
    if not _FIRST <= place <= len(words) or not 0 < size <= 8 * (len(words) - place):
        raise _broken(function, name, "its table is not where it should be")
    if _fingerprint(words[place:]) != words[5]:
        raise _broken(function, name, "its table is not what was written")
    try:
        content = json.loads(words[place:].view(np.uint8)[:size].tobytes())
        about, told = content["about"], content["arrays"]
        arrays = {row[0]: _take_array(words[:place], row) for row in told}
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError):
        arrays = None
    if arrays is None or not isinstance(about, dict):
        raise _broken(function, name, "its arrays are not what was written")
    return about, arrays


def _map_words(function: str, name: Path) -> Words:
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEADER + 8 * _FIRST)
        count = (size - _HEADER) // 8
        first = np.frombuffer(head[_HEADER:].ljust(8 * _FIRST, b"\0"), "<i8").tolist()
        if first[0] != _MAGIC:
            raise ValueError(f"{function}(): {name} is not a plan saved by tightbatch")
        if first[1] != _FORMAT:
            raise ValueError(
                f"{function}(): {name} has format {first[1]}, expected {_FORMAT}: it was saved by "
                "another version of tightbatch; save it again"
            )
        is_whole = size % 8 == 0 and first[2] == count and first[6:] == [0, 0]
        if not is_whole or head[:_HEADER] != _npy_header(count):
            raise _broken(function, name, f"it has {size} bytes, not those that were written")
        mapped = np.memmap(file, "<i8", "r", offset=_HEADER, shape=(count,))
    return np.asarray(mapped)


def _take_array(words: Words, told: Any) -> Array:
    """Give an array; a ValueError where it is not as told."""
    _, kind, count, place, fingerprint = told
    numbers = (count, place, fingerprint)
    if kind not in _TYPES or not all(type(number) is int for number in numbers):
        raise ValueError(kind)
    size = np.dtype(kind).itemsize
    taken = -(-count * size // 8)
    if not (0 <= count <= 8 * len(words) and _FIRST <= place <= len(words) - taken):
        raise ValueError(count)
    own = words[place : place + taken]
    if _fingerprint(own) != fingerprint:
        raise ValueError(fingerprint)
    taken_as: Array = own.view(np.dtype(kind))
    return taken_as[:count]


def _broken(function: str, name: Path, why: str) -> ValueError:
    return ValueError(f"{function}(): {name} is cut off or damaged: {why}; save the plan again")


def check_batches(indices: Array, offsets: Array, rows: int) -> bool:
    """Tell whether these are batches of rows below `rows`, none of them empty."""
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(indices):
        return False
    if len(offsets) > 1 and not (offsets[1:] > offsets[:-1]).all():
        return False
    return len(indices) == 0 or (int(indices.min()) >= 0 and int(indices.max()) < rows)


def wait_for(function: str, path: Any, timeout: Any, load: Callable[[], Found]) -> Found:
    """Load, or wait until another process has written what can be loaded."""
    if timeout is None:
        return load()
    seconds = _core.read_real(function, "timeout", timeout, 0.0, 1e9)
    name, end, pause = read_path(function, path), time.monotonic() + seconds, 0.01
    tried: Any = ()
    reason: Exception | None = None
    while True:
        seen = _look(name)
        if seen != tried:  # a file that does not fit is not read twice
            tried = seen
            try:
                return load()
            except (ValueError, FileNotFoundError) as error:
                reason = error
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(
                f"{function}(): waited {seconds:g} s for {name}; expected another process to save "
                f"this plan there ({reason})"
            ) from reason
        time.sleep(min(pause, left))
        pause = min(2 * pause, 0.5)


def _look(name: Path) -> tuple[int, int, int] | None:
    try:
        found = name.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
