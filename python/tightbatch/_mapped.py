"""Memory maps in pickles: where they are in their files, instead of what they hold."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MappedFile", "as_it_is", "open_again", "opened"]


def as_it_is(array: NDArray[Any]) -> NDArray[Any]:
    """Keep a memory map or a C-contiguous array; copy one of another layout or byte order."""
    if not (array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative):
        return np.array(array, array.dtype.newbyteorder("="), order="C", copy=True)
    return array if isinstance(array, np.memmap) else array.view(np.ndarray)


class MappedFile(tuple[Any, ...]):
    """Where the data of a memory map is: path, dtype, offset in bytes, shape."""

    __slots__ = ()

    @classmethod
    def of(cls, array: Any) -> MappedFile | None:
        """Describe a map of a named file, or a part of one; None for anything else."""
        if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
            return None
        whole: Any = array
        while isinstance(whole, np.memmap) and not isinstance(whole.base, mmap.mmap):
            whole = whole.base
        if (
            not isinstance(whole, np.memmap)
            or whole.filename is None
            or whole.mode not in ("r", "r+")
        ):
            return None
        skipped = _address(array) - _address(whole)
        return cls((whole.filename, array.dtype, whole.offset + skipped, array.shape))

    def open(self) -> NDArray[Any]:
        path, dtype, offset, shape = self
        return np.memmap(path, dtype, "r", offset, shape)


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def opened(part: Any) -> Any:
    """Map what was pickled as a file again; give anything else back."""
    return part.open() if isinstance(part, MappedFile) else part


def open_again(cls: Any, chunks: list[Any], starts: Any, lengths: Any) -> Any:
    """Make the Ragged that was pickled."""
    return cls._of(tuple(map(opened, chunks)), starts, lengths)
