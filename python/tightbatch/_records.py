"""Samples with named fields: mappings, dataclasses, attrs classes, pydantic models and the like."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, overload

from . import _core
from .ragged import row_indices

# How deep samples and batches may be nested.
MOST_LEVELS = 64


class Samples(Sequence[Any]):
    """The samples of a batch, kept as columns: a collator reads the columns, others see dicts."""

    def __init__(self, columns: dict[str, Any], size: int) -> None:
        self.columns, self.size = columns, size

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(self.size)[row_indices("Samples", index, self.size)]]
        i = _core.read_index("Samples", "index", index, self.size)
        return {name: column[i] for name, column in self.columns.items()}


def is_record(sample: Any) -> bool:
    """Tell whether a sample has named fields."""
    cls: Any = type(sample)
    return cls is dict or is_mapping(sample) or _fields_of(cls) is not None


def is_mapping(value: Any) -> bool:
    """Tell whether a value is a mapping, also one that does not say so, such as sqlite3.Row.

    What can be an array is none: a pandas Series has keys too.
    """
    if isinstance(value, Mapping):
        return True
    cls = type(value)
    return (
        callable(getattr(cls, "keys", None))
        and hasattr(cls, "__getitem__")
        and not issubclass(cls, (list, tuple))
        and not hasattr(cls, "__array__")
    )


@functools.lru_cache(maxsize=256)
def _fields_of(cls: Any) -> tuple[str, ...] | None:
    """Give the names of a class's fields; None if it does not declare any."""
    if issubclass(cls, (str, bytes, list, tuple)) or hasattr(cls, "__array__"):
        return None
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    for names in ("model_fields", "__struct_fields__", "__fields__"):  # pydantic, msgspec
        declared = getattr(cls, names, None)
        if isinstance(declared, (dict, tuple)):
            return tuple(declared)
    attributes = getattr(cls, "__attrs_attrs__", None)
    return None if attributes is None else tuple(attribute.name for attribute in attributes)


def as_dict(function: str, key: Any, row: int, sample: Any) -> dict[Any, Any]:
    """Read a sample that is no plain dict: a mapping by its own keys, others by their fields."""
    if is_mapping(sample):
        return {name: sample[name] for name in sample.keys()}  # noqa: SIM118 a sqlite3.Row has values
    cls: Any = type(sample)
    names = _fields_of(cls)
    if names is None:
        raise TypeError(
            f"{at(function, key, row)}found type {cls.__name__}, expected a dict as in row 0"
        )
    values, missing = {}, None
    for name in names:
        try:
            values[name] = getattr(sample, name)
        except AttributeError as error:  # which would keep the sample alive
            missing = str(error)
    if missing is not None:
        raise ValueError(f"{at(function, key, row)}a field has no value: {missing}")
    return {**values, **(getattr(sample, "__pydantic_extra__", None) or {})}


def read_field(sample: Any, name: str) -> tuple[Any, ...]:
    """Give one field of a record, as a tuple of it; an empty one if there is none."""
    if is_mapping(sample):
        return (sample[name],) if name in sample.keys() else ()  # noqa: SIM118
    fields = as_dict("", None, 0, sample)
    return (fields[name],) if name in fields else ()


def gather(function: str, key: Any, samples: Any) -> dict[Any, list[Any]]:
    """Turn records into columns. ``key`` is of the column that holds them, or None."""
    return _core.gather_columns(function, key, samples, as_dict)


def at(function: str, key: Any, row: int | None = None) -> str:
    """Begin a message: where in the batch something is wrong."""
    parts = [f"key {_core.show(key)}"] if key is not None else []
    parts += [f"row {row}"] if row is not None else []
    return f"{function}(): {', '.join(parts)}{': ' if parts else ''}"


class Path(str):
    """The name of a field of a field, "a.b"; it knows how deep that is."""

    depth: int
    first: Any


def join(path: Any, key: Any) -> Any:
    """Name a field of a field: "a.b"."""
    if path is None:
        return key
    joined = Path(f"{path}.{key}")
    is_deep = isinstance(path, Path)
    joined.depth = path.depth + 1 if is_deep else 2
    joined.first = path.first if is_deep else path
    return joined


def check_depth(function: str, path: Any) -> None:
    """Refuse what is nested without end, as a sample that contains itself."""
    if isinstance(path, Path) and path.depth > MOST_LEVELS:
        raise too_deep(at(function, path.first))


def too_deep(where: str) -> ValueError:
    return ValueError(
        f"{where}nested more than {MOST_LEVELS} levels deep, or contains itself; expected at most "
        f"{MOST_LEVELS} levels"
    )


def refuse_fields(function: str, sequences: Any) -> None:
    """Refuse what has columns, where rows are expected: say how to name one that is there."""
    found = sequences.columns if isinstance(sequences, Samples) else sequences
    if isinstance(found, (list, tuple)) and found and is_record(found[0]):
        found = found[0]
        found = found if is_mapping(found) else as_dict(function, None, 0, found)
    names = getattr(found, "column_names", None)
    if names is None and is_mapping(found):
        names = found.keys()
    if names is None:
        return
    names = [name for name in names if isinstance(name, str)]
    if not names or (len(names) == 1 and _core.is_arrow(found)):
        return  # a table of one column is its rows
    chosen = "input_ids" if "input_ids" in names else names[0]
    raise TypeError(
        f"{function}(): found {type(found).__name__} with {_core.show(names)}, which does not say "
        f"whose lengths; pass column={_core.show(chosen)}"
    )
