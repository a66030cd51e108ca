"""Packs as rows of a Hugging Face dataset: what pack_dataset makes of a packing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from ..dataset import RaggedDataset
from ..ragged import Ragged

__all__ = ["as_dataset", "as_lists", "read_columns", "seq_lengths"]

# The most tokens of a packed dataset: Arrow's lists count them in 32 bits.
_TOKENS_A_CHUNK = 2**30


def read_columns(dataset: Any) -> dict[str, Ragged]:
    """Read the columns of a dataset; each must hold lists of numbers."""
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        raise TypeError(
            f"pack_dataset(): dataset has type {type(dataset).__name__}; expected a "
            "datasets.Dataset (one split of a DatasetDict)"
        )
    source = RaggedDataset.from_hf(dataset)
    columns = {name: source[name] for name in source.column_names}
    if not columns or "seq_lengths" in columns:
        raise ValueError(
            f"pack_dataset(): found the columns {list(columns)}; expected at least one, and none "
            "named 'seq_lengths'"
        )
    for name, column in columns.items():
        if not isinstance(column, Ragged):
            raise TypeError(
                f"pack_dataset(): column {name!r} does not hold lists of numbers; remove it, or "
                "choose the columns with dataset.select_columns"
            )
    return columns


def seq_lengths(lengths: Any, offsets: Any) -> Ragged:
    """Give the lengths of each pack's segments, without those that have no tokens."""
    kept = lengths > 0
    places = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(kept, out=places[1:])
    return Ragged(lengths[kept], places[offsets])


def as_dataset(dataset: Any, packing: Any, columns: Mapping[str, Ragged]) -> Any:
    """Make a dataset of packs of these columns, in the format of the one they are of."""
    import datasets
    import pyarrow as pa

    packed = {name: packing.apply(column) for name, column in columns.items()}
    packed["seq_lengths"] = seq_lengths(packing.lengths.astype(np.int32), packing.offsets)
    sizes = packing.pack_lengths
    if not sizes.all():  # packs of nothing but rows without tokens
        packed = {name: rows[np.flatnonzero(sizes)] for name, rows in packed.items()}
        sizes = sizes[sizes > 0]
    ends, edges = np.cumsum(sizes), [0]
    while edges[-1] < len(sizes):
        tokens = _TOKENS_A_CHUNK + (ends[edges[-1] - 1] if edges[-1] else 0)
        edges.append(max(int(np.searchsorted(ends, tokens, side="right")), edges[-1] + 1))
    chunks = [
        pa.table({name: as_lists(rows[begin:end]) for name, rows in packed.items()})
        for begin, end in pairwise(edges if len(edges) > 1 else (0, 0))
    ]
    form = dataset.format
    table = pa.concat_tables(chunks)
    info = datasets.DatasetInfo(features=_features_of(table.schema, dataset.features))
    return datasets.Dataset(table, info).with_format(form["type"], **form["format_kwargs"])


def _features_of(schema: Any, given: Any) -> Any:
    """The types of the columns for datasets, which, unlike Arrow's, have names of classes."""
    import datasets

    features = datasets.Features.from_arrow_schema(schema)
    for name in set(features) & set(given):
        element = getattr(given[name], "feature", None)
        packed = None if element is None else type(features[name])(element)
        if packed and datasets.Features({name: packed}).type[name].type == schema.field(name).type:
            features[name] = packed
    return features


def as_lists(rows: Ragged) -> Any:
    """Rows as Arrow lists with 32-bit offsets, as datasets uses them."""
    import pyarrow as pa

    array = rows.to_arrow()
    return array.cast(pa.list_(array.type.value_type))
