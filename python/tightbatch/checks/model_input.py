"""What check_model is given: samples, the names of outputs, and which ids are special."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from .. import _core
from .model_rows import NAME, Rows, as_array

DEPTH = 3  # functions around a collator that are looked into


def read_outputs(outputs: Any) -> frozenset[str] | None:
    """Read names of outputs; None for all."""
    if outputs is None:
        return None
    names = outputs if isinstance(outputs, Collection) and not isinstance(outputs, bytes) else None
    if names is None or isinstance(names, str) or not all(isinstance(one, str) for one in names):
        raise TypeError(
            f"{NAME}(): outputs={_core.show(outputs)}; expected None or a collection of names, "
            'such as ("logits",)'
        )
    if not names:
        raise ValueError(f"{NAME}(): outputs={_core.show(outputs)}; expected at least one name")
    return frozenset(names)


def read_rows(model: Any, collate_fn: Any, samples: Any, seed: int) -> Rows:
    """Read the samples."""
    if isinstance(samples, Mapping):
        samples = _rows_of(samples)
    listed = hasattr(samples, "__getitem__") and hasattr(type(samples), "__len__")
    if isinstance(samples, (str, bytes)) or not (listed or hasattr(samples, "__iter__")):
        raise TypeError(
            f"{NAME}(): samples: found type {type(samples).__name__}; expected a list of them"
        )
    if not hasattr(samples, "__iter__"):  # a data set
        samples = [samples[row] for row in range(len(samples))]
    samples = list(samples)
    if not samples:
        raise ValueError(f"{NAME}(): samples: an empty list, expected at least two samples")
    special, padding = _special_ids(model)
    for tokenizer in _tokenizers(collate_fn):
        special.update(_ids(getattr(tokenizer, "all_special_ids", ())))
        special.update(_ids(getattr(tokenizer, "special_token_ids", ())))
        for name in ("pad_token_id", "mask_token_id"):
            special.update(_ids(getattr(tokenizer, name, None)))
        padding.update(_ids(getattr(tokenizer, "pad_token_id", None)))
    rows = Rows(samples, special=special, padding=padding, vocabulary=_vocabulary(model), seed=seed)
    if len(rows.units) < 2:
        raise ValueError(
            f"{NAME}(): samples: found 1 row, expected at least two, of different lengths"
        )
    return rows


def _rows_of(columns: Mapping[Any, Any]) -> list[Any]:
    """The samples of a dict of columns."""
    sizes = set()
    for column in columns.values():
        is_column = hasattr(column, "__len__") and hasattr(column, "__getitem__")
        is_column = is_column and not isinstance(column, (str, bytes, Mapping))
        sizes.add(len(column) if is_column and getattr(column, "shape", None) != () else -1)
    size = sizes.pop() if len(sizes) == 1 else -1
    rows = [{key: column[row] for key, column in columns.items()} for row in range(max(size, 0))]
    if size > 0 and any(as_array(value) is not None for value in rows[0].values()):
        return rows
    raise TypeError(
        f"{NAME}(): samples: found type {type(columns).__name__}; expected a list of them, or a "
        "dict of columns that are equally long, with a row of tokens at each place"
    )


def _special_ids(model: Any) -> tuple[set[int], set[int]]:
    """Ids that a transformers model looks for (of padding, of the end, of images); and padding."""
    found, padding = set[int](), set[int]()
    config = getattr(model, "config", None)
    for one in (config, *(getattr(config, f"{part}_config", None) for part in ("text", "decoder"))):
        if one is None or not hasattr(one, "__dict__"):
            continue
        for name, value in vars(one).items():
            if name.lstrip("_").endswith(("_token_id", "_token_index")):
                found.update(_ids(value))
                padding.update(_ids(value) if "pad" in name else ())
    return found, padding


def _ids(value: Any) -> Iterable[int]:
    values = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
    return [one for one in values if type(one) is int]


def _tokenizers(collate_fn: Any) -> list[Any]:
    """What knows special tokens in a collate_fn: itself, its tokenizer, or what it calls."""
    found, queue = [], [(collate_fn, 0)]
    seen: set[int] = set()
    while queue:
        one, depth = queue.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if any(hasattr(type(one), name) or name in getattr(one, "__dict__", ())
               for name in ("all_special_ids", "special_token_ids")):  # fmt: skip
            found.append(one)
        if depth < DEPTH:
            queue += [(part, depth + 1) for part in _parts(one)]
    return found


def _parts(one: Any) -> Iterator[Any]:
    """What a collate_fn holds: a tokenizer, the object of a method, variables of a function."""
    if isinstance(one, functools.partial):
        yield from (one.func, *one.args, *one.keywords.values())
    if inspect.ismethod(one):
        yield from (one.__self__, one.__func__)
    if inspect.isfunction(one):
        try:
            variables = inspect.getclosurevars(one)
        except (TypeError, ValueError):  # a variable that is not bound yet
            return
        yield from (
            value
            for value in (*variables.nonlocals.values(), *variables.globals.values())
            if not isinstance(value, type) and not inspect.ismodule(value)
        )
    if not isinstance(one, type) and not inspect.ismodule(one):
        for value in list(getattr(one, "__dict__", {}).values()):
            if hasattr(value, "__dict__"):
                yield value


def _vocabulary(model: Any) -> int | None:
    import torch

    sizes = [m.num_embeddings for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    return sizes[0] if sizes else None
