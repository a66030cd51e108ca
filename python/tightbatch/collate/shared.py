"""A batch that leaves a DataLoader worker, as one block of shared memory and a layout.

torch copies every tensor of a batch into shared memory and sends it as a file descriptor of its
own. Here all columns are written into one shared block from the start, and it is sent as one
tensor. The receiving process makes views of it.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A column of at most this many bytes is copied out of the block on arrival, so that keeping the
# labels of every batch does not keep every batch.
COPIED_OUT = 16 * 1024


class Block:
    """A block of shared memory, and the tensors that are views of it."""

    def __init__(self, function: str) -> None:
        self.function = function
        self.tensor: Any = None
        self.views: list[tuple[Any, int]] = []

    def allocate(self, nbytes: int) -> NDArray[np.uint8]:
        """Make room for a batch; ordinary memory if this torch or system cannot share memory.

        If shared memory is full, ordinary memory would not help: torch would copy the batch into
        shared memory later, in a thread whose error reaches nobody, and the loader would wait
        forever.
        """
        import torch

        nbytes = max(nbytes, 1)
        try:
            storage = torch.UntypedStorage._new_shared(nbytes)
            self.tensor = torch.empty(0, dtype=torch.uint8).set_(storage)
        except (AttributeError, RuntimeError, OSError) as error:
            if _is_full(error):
                raise RuntimeError(_explain_full(self.function, nbytes)) from error
            self.tensor = None
            return np.empty(nbytes, dtype=np.uint8)
        return self.tensor.numpy()  # type: ignore[no-any-return]

    def place(self, value: Any) -> Any:
        """Give a value's place in the block, or the value if it is not in the block."""
        for view, offset in self.views:
            if view is value and _is_unmoved(value, self.tensor.data_ptr() + offset):
                return _Place(offset, value.dtype, tuple(value.shape))
        return value


def _is_full(error: BaseException) -> bool:
    """Tell whether shared memory was full; only torch's message says so."""
    return getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error)


def _explain_full(function: str, nbytes: int) -> str:
    free = ""
    if os.path.isdir("/dev/shm"):
        found = os.statvfs("/dev/shm")
        free = f", of which /dev/shm has {found.f_bavail * found.f_frsize:,} free"
    return (
        f"{function}(): a batch needs {nbytes:,} bytes of shared memory{free}. Give it more "
        "(docker run --shm-size=8g), keep fewer batches waiting (prefetch_factor=, num_workers=), "
        "make batches smaller, or collate in the main process (num_workers=0)"
    )


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


class SharedBatch:
    """A mixin for a batch's type in a worker: pickles the batch as its block and a layout."""

    block: Block

    def __reduce__(self) -> Any:
        cls = plain_type(type(self))
        batch: Any = self
        keys = list(batch) if isinstance(batch, Mapping) else None
        values = list(batch) if keys is None else list(batch.values())
        places = [self.block.place(value) for value in values]
        return rebuild, (cls, keys, self.block.tensor, places)


def plain_type(cls: type) -> Any:
    """Give the class that a SharedBatch's class was made of; any other class as it is."""
    return next(c for c in cls.__mro__ if c.__module__ != __name__)


@functools.cache
def shared_type(cls: type) -> type:
    """Give a type like ``cls`` that is pickled as a SharedBatch."""
    return type(cls.__name__, (SharedBatch, cls), {"__module__": __name__})


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
