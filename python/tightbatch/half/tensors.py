"""The tensors of a checkpoint: those of nested containers and of files, one after another."""

from __future__ import annotations

import dataclasses
import os
import pickle
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .. import _core

FLOATS = {"float64", "float32", "float16", "bfloat16"}
PLAIN = (bool, int, float, complex, str, bytes, type(None))
ARCHIVES, HDF5, TORCH = (".npy", ".npz"), (".h5", ".hdf5"), (".pt", ".pth", ".bin", ".ckpt")
SHOWN = 5  # files of a directory that are named
SUFFIXES = (".safetensors", *TORCH, *ARCHIVES, *HDF5)


class Entry(NamedTuple):
    """A tensor of floats, or why an entry is left out.

    Attributes
    ----------
    name : str
        The keys, attributes and positions that lead to it, with dots between them.
    value : array or tensor; None if it is left out
    reason : str
        Its type, or the entry that it is the same as; "" for a tensor of floats.
    """

    name: str
    value: Any
    reason: str


class Lazy(Mapping[str, Any]):
    """A mapping that reads an entry of a safetensors file when it is asked for it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._keys = list(file.keys())

    def __getitem__(self, key: str) -> Any:
        try:
            return self._file.get_tensor(key)
        except TypeError:  # a type that NumPy lacks, where torch is not installed
            return self._file.get_slice(key).get_dtype()

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def is_tensor(value: Any) -> bool:
    """Whether it is an array, a tensor or a NumPy scalar, of whatever type."""
    return hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, type)


def is_handle(value: Any) -> bool:
    """Whether it is an open file of safetensors."""
    given = (getattr(value, name, None) for name in ("keys", "get_tensor", "get_slice"))
    return not isinstance(value, (type, Mapping)) and all(map(callable, given))


def refuse_directory(value: Any) -> None:
    """Name the files in a directory that was given for one of them."""
    if not isinstance(value, str | os.PathLike) or not os.path.isdir(value):
        return
    place = Path(value)
    files = sorted(str(one) for one in place.iterdir() if one.is_file() and is_path(one))
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    inside = ", ".join(map(_core.show, files[:SHOWN])) + more
    told = f"pass a file inside it: {inside}" if files else "there is none inside it"
    raise IsADirectoryError(
        f"half_report(): x={_core.show(os.fspath(value))} is a directory; expected a file that "
        f"ends in {', '.join(SUFFIXES)}: {told}"
    )


def is_path(value: Any) -> bool:
    """Whether it names a file of tensors."""
    return isinstance(value, str | os.PathLike) and os.fspath(value)[-12:].lower().endswith(
        SUFFIXES
    )


def children(value: Any) -> Iterator[tuple[Any, Any]] | None:
    """Give the names and values inside a container; None if it is none that could hold tensors."""
    if callable(getattr(value, "state_dict", None)) and not isinstance(value, type):
        value = value.state_dict()  # of a module, an optimizer, a scaler
    if is_handle(value):
        value = Lazy(value)
    if isinstance(value, Mapping):
        return ((key, _get(value, key)) for key in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return zip(value._fields, value, strict=True)
    if isinstance(value, list | tuple):
        # A list of plain numbers is one entry: it may have millions.
        holds_more = any(not isinstance(item, PLAIN) for item in value)
        return iter(enumerate(value)) if holds_more else None
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    elif hasattr(type(value), "__attrs_attrs__"):
        names = [field.name for field in type(value).__attrs_attrs__]
    elif isinstance(value, SimpleNamespace):
        names = list(vars(value))
    else:
        return None
    return ((name, getattr(value, name, None)) for name in names)


def walk(root: Any) -> Iterator[Entry]:
    """Give all entries in order; what occurs twice, or contains itself, is given once.

    Without recursion: a checkpoint may be nested deeper than Python's stack.
    """
    entered: dict[Any, str] = {}  # containers
    kept = []  # ids are theirs for as long as they live
    tensors: dict[Any, tuple[str, Any]] = {}
    levels = [("", children(root) or iter(()))]
    entered[_identity(root)] = "the whole"
    kept.append(root)
    while levels:
        prefix, items = levels[-1]
        pair = next(items, None)
        if pair is None:
            levels.pop()
            continue
        name, value = f"{prefix}{pair[0]}", pair[1]
        if is_tensor(value):
            yield _entry(name, value, tensors)
            continue
        inside = None if isinstance(value, PLAIN) else children(value)
        if inside is None:
            reason = value if isinstance(value, Missing) else type(value).__name__
            yield Entry(name, None, reason)
            continue
        first = entered.setdefault(_identity(value), name)
        if first != name:
            yield Entry(name, None, f"the same as {first}")
            continue
        kept.append(value)
        levels.append((f"{name}.", inside))


class Missing(str):
    """The reason why a key has no value."""

    __slots__ = ()


def _get(mapping: Mapping[Any, Any], key: Any) -> Any:
    """Read a value; what a file cannot give is told instead."""
    try:
        return mapping[key]
    except KeyError:
        return Missing("a link that leads nowhere")
    except ValueError as error:  # np.load's, of pickled objects
        return Missing("object" if "allow_pickle" in str(error) else str(error)[:80])


def _is_hdf5(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "h5py"


def _identity(value: Any) -> Any:
    # An HDF5 object is made anew for each access, and equal to others of the same place.
    return ("hdf5", value) if _is_hdf5(value) else id(value)


def _entry(name: str, value: Any, tensors: dict[Any, tuple[str, Any]]) -> Entry:
    """Read one tensor, unless it holds no floats or is one that was given before."""
    dtype = value.dtype
    kind = str(getattr(dtype, "name", dtype))
    if getattr(value, "is_quantized", False) or kind.removeprefix("torch.") not in FLOATS:
        return Entry(name, None, str(dtype))
    layout = str(getattr(value, "layout", "torch.strided"))
    if hasattr(value, "untyped_storage") and layout != "torch.strided":
        return Entry(name, None, f"{dtype}, {layout.removeprefix('torch.')}")
    if value.shape is None:  # HDF5 has such
        return Entry(name, None, "empty")
    key = _memory(value)
    first = tensors.get(key)
    # A file's array is freed after it was read, and the next may be at the same address.
    if first is not None and first[1]() is not None:
        return Entry(name, None, f"the memory of {first[0]}")
    tensors[key] = name, _weak(value)
    return Entry(name, read(value), "")


def read(value: Any) -> Any:
    """Give something that C can read: of other libraries' arrays one of NumPy."""
    if isinstance(value, np.ndarray) or hasattr(value, "untyped_storage"):
        return value
    return value[()] if _is_hdf5(value) else np.asarray(value)


def _weak(value: Any) -> Any:
    if _is_hdf5(value):
        return lambda: value  # the key holds it anyway
    try:
        return weakref.ref(value)
    except TypeError:  # a NumPy scalar; hold it, so that its id stays its own
        return lambda: value


def _memory(value: Any) -> Any:
    """What tied entries have in common; an empty or sparse one is like no other."""
    if hasattr(value, "untyped_storage"):
        if value.device.type != "cpu" or value.is_sparse or not value.numel():
            return id(value)
        return value.data_ptr(), tuple(value.shape), value.stride(), value.dtype
    if not isinstance(value, np.ndarray) or not value.size:
        return _identity(value)
    return value.ctypes.data, value.shape, value.strides, value.dtype


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a file of tensors as a mapping or an array whose parts are read when they are used."""
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"half_report(): x={_core.show(os.fspath(path))} is no file")
    suffix = place.suffix.lower()
    if suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(place, framework="pt" if find_spec("torch") else "np") as file:
            yield Lazy(file)
    elif suffix in HDF5:
        import h5py  # type: ignore[import-untyped]

        with h5py.File(place, "r") as file:
            yield file
    elif suffix == ".npz":
        with np.load(place) as file:
            yield file
    elif suffix == ".npy":
        yield np.load(place, mmap_mode="r")
    else:
        yield _load_torch(place)


def _load_torch(place: Path) -> Any:
    import torch

    settings: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        try:
            return torch.load(str(place), mmap=True, **settings)
        except RuntimeError:  # a file from before torch 1.6 cannot be mapped
            return torch.load(str(place), **settings)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"half_report(): x={_core.show(str(place))} holds Python objects, which "
            "torch.load(weights_only=True) refuses; if you trust it, pass "
            "torch.load(x, weights_only=False)"
        ) from error
