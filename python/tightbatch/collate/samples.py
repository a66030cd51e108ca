"""Turn a batch of samples, of any kind, into columns: the first step of all collators."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from .. import _arrow, _core
from .._arrow import Text
from .._records import Samples, at, check_depth, gather, is_record, join
from ..dataset import batch_columns
from ..ragged import Ragged

LABELS = ("labels", "label", "label_ids")
Kind = Literal["rows", "number", "listed", "nested"]
NUMBERS = frozenset((int, float, bool))
TAKE_KEYS = ("keep", "stack", "concat", "time_last", "return_lengths")  # settings


def columns_of(
    function: str, samples: Any, *, only_mappings: bool = True
) -> tuple[dict[Any, Any], Any]:
    """Give the columns of a batch by key, and the type of a sample: dict, a tuple type, or None.

    A batch is samples, or columns as a mapping or an Arrow table. Samples with named fields count
    as dicts. None means bare rows, a single column with the key None. The first sample decides;
    all others must be like it.
    """
    if isinstance(samples, Samples):
        if len(samples) == 0:
            raise _empty(function)
        return samples.columns, dict
    if type(samples) is not list:
        columns = _given_columns(function, samples)
        if columns is not None:
            return columns, dict
        samples = _list_samples(function, samples)
    if len(samples) == 0:
        raise _empty(function)
    first = samples[0]
    if is_record(first):
        return gather(function, None, samples), dict
    if is_batch(first):
        raise TypeError(
            f"{function}(): row 0: found a list of samples, expected a sample: this is a batch of "
            "batches. Where a loader reads whole batches, as of a StreamBatcher, pass "
            "DataLoader(..., batch_size=None)"
        )
    if only_mappings:
        found = type(first).__name__
        raise TypeError(f"{function}(): row 0: found type {found}, expected a dict")
    if not isinstance(first, tuple):
        if first is None or (isinstance(first, str) and None in samples):
            row = 0 if first is None else samples.index(None)
            raise TypeError(
                f"{function}(): row {row}: found None, expected a sample: a dict, a tuple or a row"
            )
        return {None: samples}, None
    return _columns_of_tuples(function, None, samples), type(first)


def is_batch(sample: Any) -> bool:
    """Tell whether a sample is a list of samples, and so no bare row."""
    if type(sample) is not list or not sample:
        return False
    first = sample[0]
    if not isinstance(first, tuple):
        return is_record(first)
    if NUMBERS.issuperset(map(type, first)) or not _is_structure([first]):
        return False
    is_named = hasattr(first, "_fields")
    return is_named or any(isinstance(part, (int, float, str)) for part in first)


def _given_columns(function: str, batch: Any) -> dict[Any, Any] | None:
    """Give the columns of a batch that has columns already, or None."""
    if isinstance(batch, Mapping):
        columns = _read_columns(function, None, batch)
        # One sample, where a list of them is meant, has numbers for tokens.
        if not any(map(_is_column, columns.values())) or _is_number(columns.get("input_ids")):
            raise _no_samples(function, batch)
        return columns
    if isinstance(batch, Sequence) or not _core.is_arrow(batch):
        return None
    columns = batch_columns(function, batch)
    if not columns or len(next(iter(columns.values()))) == 0:
        raise _empty(function)
    return columns


def _list_samples(function: str, samples: Any) -> Sequence[Any]:
    if isinstance(samples, (str, bytes)) or is_record(samples):
        raise _no_samples(function, samples)
    if isinstance(samples, Sequence):
        return samples
    try:
        iterator = iter(samples)
    except TypeError:
        raise _no_samples(function, samples) from None
    return list(iterator)


def _no_samples(function: str, found: Any) -> TypeError:
    kind = type(found).__name__
    columns = ", or columns of rows" if isinstance(found, Mapping) else ""
    return TypeError(f"{function}(): found type {kind}, expected a list of samples{columns}")


def _empty(function: str) -> ValueError:
    return ValueError(f"{function}(): an empty batch; expected at least one sample")


def _read_columns(function: str, path: Any, given: Mapping[Any, Any]) -> dict[Any, Any]:
    """Read a mapping of columns, as Ray and datasets hand them over: all of one length."""
    columns = {key: _read_column(function, join(path, key), given[key]) for key in given}
    counts = {key: len(column) for key, column in columns.items()}
    for key, count in counts.items():
        first = next(iter(counts))
        if count != counts[first]:
            raise ValueError(
                f"{at(function, join(path, key))}found a column of {count}, expected "
                f"{counts[first]} as in {_core.show(join(path, first))}: all columns of a batch "
                "have one value for each sample; for one sample pass a list of it"
            )
        if count == 0:
            raise _empty(function)
    return columns


def _read_column(function: str, key: Any, column: Any) -> Any:
    """Read a column of a batch: as it is, or as a list where its type is one of Python objects."""
    if isinstance(column, (list, Ragged, Samples)):
        return column
    if isinstance(column, Mapping):
        check_depth(function, key)
        columns = _read_columns(function, key, column)
        return Samples(columns, len(next(iter(columns.values()), ())))
    if isinstance(column, np.ndarray) and column.ndim > 0:
        has_objects = column.ndim == 1 and column.dtype.kind in "OUST"
        return column.tolist() if has_objects and not hasattr(column, "mask") else column
    is_dataset = hasattr(column, "features") and hasattr(column, "data")
    if hasattr(column, "untyped_storage") and column.ndim > 0:
        return column
    if not is_dataset and _core.is_arrow(column):
        read = _arrow.as_column(function, key, column)
        return read.tolist() if isinstance(read, Text) else read
    is_single = isinstance(column, (str, bytes)) or getattr(column, "ndim", 1) == 0
    if is_dataset or is_single or not isinstance(column, Collection):
        raise TypeError(
            f"{at(function, key)}found type {type(column).__name__}, expected a column: a list or "
            "an array with a value for each sample; for one sample pass a list of it"
        )
    return np.asarray(column) if hasattr(column, "__array__") else list(column)


def _is_column(column: Any) -> bool:
    """Tell whether a column cannot be a row of numbers or strings: it is an array, or of rows."""
    first = column[0] if isinstance(column, list) else None
    return first is None or not (isinstance(first, (int, float, str)))


def _is_number(column: Any) -> bool:
    if column is None or isinstance(column, (Ragged, Samples)):
        return False
    return isinstance(column[0], (int, float)) or getattr(column[0], "ndim", None) == 0


def _columns_of_tuples(function: str, key: Any, samples: Sequence[Any]) -> dict[Any, Any]:
    size = len(samples[0])
    for row, sample in enumerate(samples):
        if not isinstance(sample, tuple) or len(sample) != size:
            found = f"type {type(sample).__name__}"
            if isinstance(sample, tuple):
                found = f"a tuple of {len(sample)}"
            raise ValueError(
                f"{at(function, key, row)}found {found}, expected a tuple of {size} as in row 0"
                + ("" if key is None else ": make it a list if it is a row")
            )
    names = getattr(type(samples[0]), "_fields", range(size))
    return dict(zip(names, map(list, zip(*samples, strict=True)), strict=True))


def kind_of(function: str, key: Any, column: Any, *, nested: bool = False) -> Kind:
    """Tell the kind of a column: "rows" (padded), "number" (stacked), "listed" or "nested".

    A nested column has columns of its own; it is an error unless ``nested``.
    """
    if type(column) is Ragged:  # isinstance() of an abstract class takes long
        return "rows"
    if type(column) is np.ndarray and column.ndim == 1 and column.dtype.kind in "iufb":
        return "number"
    if isinstance(column, Ragged):
        return "rows"
    if type(column) is Samples:
        return _nested(function, key, column, nested)
    first = column[0]
    kind = type(first)
    if kind is list:
        return "rows"
    if kind in NUMBERS:
        return "number"
    if first is None or isinstance(first, str):
        _check_texts(function, key, column)
        return "listed"
    if isinstance(first, tuple):
        return _nested(function, key, column, nested) if _is_structure(column) else "rows"
    if isinstance(first, (int, float)) or getattr(first, "ndim", None) == 0:
        return "number"
    return _nested(function, key, column, nested) if is_record(first) else "rows"


def _check_texts(function: str, key: Any, column: Sequence[Any]) -> None:
    """Refuse what is neither str nor None: the first row that is not None tells what is meant."""
    first = None
    for row, value in enumerate(column):
        if value is None or isinstance(value, str):
            first = row if first is None and value is not None else first
            continue
        found = type(value).__name__
        if first is None:
            raise TypeError(
                f"{at(function, key, 0)}found None, expected type {found} as in row {row}: no "
                "value may be missing, unless all are None"
            )
        raise TypeError(
            f"{at(function, key, row)}found type {found}, "
            f"expected a str or None: row {first} is {_core.show(column[first])}"
        )


def _nested(function: str, key: Any, column: Any, allowed: bool) -> Kind:
    if not allowed:
        found = type(column[0]).__name__
        raise TypeError(
            f"{at(function, key, 0)}found type {found}, expected a row, a number or text; "
            "tightbatch.PadCollator takes samples that are nested"
        )
    return "nested"


def _is_structure(column: Sequence[Any]) -> bool:
    """Tell whether tuples are parts of samples, not rows: they hold more than numbers."""
    first = next((row for row in column if row != ()), ())
    if hasattr(first, "_fields"):
        return True
    if not isinstance(first, tuple) or NUMBERS.issuperset(map(type, first)):
        return False
    return any(
        isinstance(part, str)
        or not (isinstance(part, (int, float)) or getattr(part, "ndim", None) == 0)
        for part in first
    )


def nested_columns(function: str, key: Any, column: Any) -> tuple[dict[Any, Any], Any]:
    """Do the same as :func:`columns_of` for a nested column."""
    check_depth(function, key)
    if isinstance(column, Samples):
        return column.columns, dict
    if isinstance(column[0], tuple):
        return _columns_of_tuples(function, key, column), type(column[0])
    return gather(function, key, column), dict


def inside(key: Any, setting: str, given: Any) -> Any:
    """Give a setting for what is in a nested column: of "key.x" for "x", before that of "x"."""
    start = f"{key}."

    def names(other: Any) -> list[Any]:
        if not isinstance(other, str) or not other.startswith(start):
            return []
        name = other.removeprefix(start)
        return [name, int(name)] if name.isdecimal() else [name]  # of tuples

    if isinstance(given, Mapping):
        own = {name: value for other, value in given.items() for name in names(other)}
        return {**given, **own}
    if setting not in TAKE_KEYS or isinstance(given, bool) or given is None:
        return given
    keys = [given] if isinstance(given, (str, int)) else list(given)
    return [*keys, *(name for other in keys for name in names(other))]


def choose_main(kinds: Mapping[Any, Kind]) -> tuple[Any, ...]:
    """Choose the column of the tokens: a tuple of its key, or an empty one.

    It is input_ids, or else the first column of rows that are not labels.
    """
    if kinds.get("input_ids") == "rows":
        return ("input_ids",)
    rows = [key for key, kind in kinds.items() if kind == "rows"]
    return tuple([key for key in rows if key not in LABELS][:1])


def require_main(function: str, kinds: Mapping[Any, Kind]) -> Any:
    """Give the column whose rows are the segments; it is an error where there is none."""
    if kinds.get("input_ids", "rows") != "rows":
        raise TypeError(
            f"{function}(): key 'input_ids', row 0: found no tokens, expected a row of them"
        )
    main = choose_main(kinds)
    if not main:
        raise ValueError(
            f"{function}(): the samples have neither 'input_ids' nor another column of rows, but "
            f"{_core.show(list(kinds))}"
        )
    return main[0]
