"""CollateFn: a collator as the collate_fn of Ray's iterators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from ray.data.collate_fn import ArrowBatchCollateFn

from .. import _arrow, _core
from .columns import as_samples, read_columns

NAME = "CollateFn"


@dataclass(frozen=True)
class CollateFn(ArrowBatchCollateFn):  # type: ignore[misc]
    """Make a collator the ``collate_fn`` of ``iter_torch_batches`` and ``iter_jax_batches``.

    Ray hands over an Arrow table, whose columns are read in place: no row becomes a Python object.
    All values of the batch are tensors, so Ray pins the batch and moves it to the device. It may be
    called by several threads at once, as Ray does with ``prefetch_batches``, and be pickled.

    Lists, large lists, list views, lists of a fixed size and Ray's own tensors are read, in any
    number of chunks. The mapping of arrays that Ray calls "numpy" batches and a pandas DataFrame
    are taken too.

    Parameters
    ----------
    collator : callable
        A :class:`tightbatch.PadCollator`, a :class:`tightbatch.PaddingFreeCollator`, a collator of
        :mod:`tightbatch.huggingface`, or a function of samples around one. For ``iter_jax_batches``
        it has ``return_tensors="np"``.
    fill_null : number, optional
        The value for null tokens and numbers; null rows become empty. Without it a null is an
        error.

    Returns
    -------
    dict of {str: tensor}
        Numbers of the batch, such as a PaddingFreeCollator's ``max_length_q``, become tensors
        without dimensions (arrays of one number for JAX).

    Raises
    ------
    TypeError
        When the collator is not callable; when a value of the batch is neither a tensor nor a
        number, such as a column of strings: the message names the key; and as the collator.
    ValueError
        When there are nulls and no `fill_null`; and as the collator.

    Examples
    --------
    >>> import pyarrow as pa
    >>> import tightbatch as tb
    >>> collate_fn = tb.ray.CollateFn(tb.PadCollator())
    >>> batch = collate_fn(pa.table({"input_ids": [[5, 6], [7]], "label": [1, 0]}))
    >>> batch["input_ids"]
    tensor([[5, 6],
            [7, 0]])

    With a Ray Dataset: ``dataset.iter_torch_batches(batch_size=32, collate_fn=collate_fn)``.
    """

    collator: Callable[[Any], Any]
    fill_null: float | None = None

    def __post_init__(self) -> None:
        """Read the settings."""
        check_settings(NAME, self.collator, self.fill_null)

    def __call__(self, batch: Any) -> Any:
        """Collate a batch of Ray's."""
        columns = read_columns(NAME, batch, self.fill_null)
        return as_tensors(NAME, self.collator(as_samples(columns)))


def check_settings(function: str, collator: Any, fill_null: Any) -> None:
    """Refuse what is no collator, and what is no number for nulls."""
    if not callable(collator):
        raise TypeError(
            f"{function}(): collator={_core.describe(collator)}; expected a collator, such as "
            "tightbatch.PadCollator()"
        )
    _arrow.columns(function, pa.table({"rows": [[1]]}), None, fill_null)


def is_tensor(value: Any) -> bool:
    """Tell whether a value is a torch tensor, without importing torch."""
    return hasattr(value, "untyped_storage")


def as_tensors(function: str, batch: Any) -> Any:
    """Make all values of a batch tensors, or all arrays: Ray moves nothing otherwise."""
    if not isinstance(batch, Mapping):
        parts = batch if isinstance(batch, (tuple, list)) else [batch]
        for place, part in enumerate(parts):
            if not is_tensor(part) and not isinstance(part, np.ndarray):
                raise _no_tensor(function, place, part)
        return batch
    arrays = any(isinstance(value, np.ndarray) for value in batch.values())
    tensors = any(map(is_tensor, batch.values()))
    made = {}
    for key, value in batch.items():
        if isinstance(value, (bool, int, float)):
            value = np.array([value]) if arrays and not tensors else _number(value)
        elif not is_tensor(value) and not (isinstance(value, np.ndarray) and not tensors):
            raise _no_tensor(function, key, value)
        made[key] = value
    return made


def _number(value: float) -> Any:
    import torch

    return torch.tensor(value)


def _no_tensor(function: str, key: Any, value: Any) -> TypeError:
    return TypeError(
        f"{function}(): key {_core.show(key)}: the batch has a {type(value).__name__} there; "
        "expected a tensor or a number, because Ray pins and moves a batch only if all of it are "
        f"tensors: leave the column out, as with dataset.drop_columns([{_core.show(key)}])"
    )
