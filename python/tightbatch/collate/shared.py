"""A batch on its way out of a DataLoader worker: one block of shared memory and a layout.

torch sends every tensor of a batch as a file descriptor of its own, after a copy into shared
memory. Here all columns are written into one shared block in the first place, which travels as
one tensor; the receiving process makes views of it again.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A column of at most this many bytes is copied out of the block on arrival, so that keeping the
# labels of every batch does not keep every batch.
COPIED_OUT = 16 * 1024


class Block:
    """Shared memory, and which tensors are views of it."""

    def __init__(self) -> None:
        self.tensor: Any = None
        self.views: list[tuple[Any, int]] = []

    def allocate(self, nbytes: int) -> NDArray[np.uint8]:
        """Make room for a batch; ordinary memory where this torch or system shares none."""
        import torch

        nbytes = max(nbytes, 1)
        try:
            storage = torch.UntypedStorage._new_shared(nbytes)
            self.tensor = torch.empty(0, dtype=torch.uint8).set_(storage)
        except (AttributeError, RuntimeError, OSError):
            self.tensor = None
            return np.empty(nbytes, dtype=np.uint8)
        return self.tensor.numpy()  # type: ignore[no-any-return]

    def place(self, value: Any) -> Any:
        """Describe a value: its place in the block, or itself if it is not there (any more)."""
        for view, offset in self.views:
            if view is value and _is_unmoved(value, self.tensor.data_ptr() + offset):
                return _Place(offset, value.dtype, tuple(value.shape))
        return value


def _is_unmoved(tensor: Any, address: int) -> bool:
    return (
        tensor.data_ptr() == address
        and tensor.is_contiguous()
        and not tensor.requires_grad
        and not tensor.is_neg()
    )


class _Place(tuple[int, Any, tuple[int, ...]]):
    """Offset, dtype and shape of a tensor in a block."""

    __slots__ = ()

    def __new__(cls, offset: int, dtype: Any, shape: tuple[int, ...]) -> _Place:
        return super().__new__(cls, (offset, dtype, shape))

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)


class Travelling:
    """Mixed into a batch's type in a worker: pickles as its block and a layout."""

    block: Block

    def __reduce__(self) -> Any:
        cls = next(c for c in type(self).__mro__ if c.__module__ != __name__)
        batch: Any = self
        keys = list(batch) if isinstance(batch, Mapping) else None
        values = list(batch) if keys is None else list(batch.values())
        places = [self.block.place(value) for value in values]
        return rebuild, (cls, keys, self.block.tensor, places)


@functools.cache
def travelling(cls: type) -> type:
    """Give the type that is ``cls`` in every respect but how it is pickled."""
    return type(cls.__name__, (Travelling, cls), {"__module__": __name__})


def rebuild(cls: Any, keys: list[Any] | None, block: Any, places: list[Any]) -> Any:
    """Make the batch again in the process that receives it."""
    values = [_take(block, place) if type(place) is _Place else place for place in places]
    if keys is not None:
        return cls(zip(keys, values, strict=True))
    return cls._make(values) if hasattr(cls, "_make") else cls(values)


def _take(block: Any, place: _Place) -> Any:
    import torch

    offset, dtype, shape = place
    count = 1
    for size in shape:
        count *= size
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    view = torch.frombuffer(block.numpy(), dtype=dtype, count=count, offset=offset).view(shape)
    return view.clone() if count * dtype.itemsize <= COPIED_OUT else view
