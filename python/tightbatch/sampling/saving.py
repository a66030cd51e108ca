"""Plans that one process makes and others map: save_plan and load_plan of a sampler."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .. import _core
from .plan import NO_CAP, Plan
from .plan_file import Array, check_batches, read_path, read_plan, wait_for, write_plan
from .state import NAME, Place, check_data, check_settings

_MOST_EPOCHS = 10**6  # of a file, whose table is made in memory
_MOST_SHORT = 2**31  # rows whose numbers fit into 32 bits


class Saving(Place):
    """Plans of a sampler in files."""

    def save_plan(self, path: Any, *, epochs: Iterable[int] | None = None) -> None:
        """Save plans of epochs in a file that all ranks of a node can map.

        The file appears in one step, when it is complete, also where there was one before. It has
        the numbers of rows (4 bytes each, from 2**31 rows on 8), where batches begin, fingerprints
        of the lengths and of groups, and the settings.

        Parameters
        ----------
        path : str or path
            The file's name, such as ``"plan.npy"``: NumPy can read it as an array.
        epochs : iterable of int, optional
            The epochs to plan, such as ``range(10)``. None: the coming one.

        Raises
        ------
        OSError
            When the file cannot be written.
        ValueError, TypeError
            When an epoch is not an integer from 0 to 2**63 - 1, and when there are more of them
            than 10**6, or than the disk has room for.

        Examples
        --------
        >>> import os, tempfile
        >>> import tightbatch as tb
        >>> path = os.path.join(tempfile.mkdtemp(), "plan.npy")
        >>> tb.LengthBatchSampler([4, 2, 3], batch_size=2).save_plan(path, epochs=range(3))
        >>> sampler = tb.LengthBatchSampler([4, 2, 3], batch_size=2)
        >>> sampler.load_plan(path)
        >>> len(list(sampler))
        2
        """
        name = f"{NAME}.save_plan"
        if isinstance(epochs, str | bytes) or not (epochs is None or isinstance(epochs, Iterable)):
            raise TypeError(
                f"{name}(): epochs={_core.describe(epochs)}; expected the numbers of epochs, such "
                "as range(10)"
            )
        keys = self._choose_keys(name, path, [self._epoch] if epochs is None else epochs)
        write_plan(name, path, self._about(keys), self._arrays(keys))

    def _choose_keys(self, name: str, path: Any, epochs: Iterable[int]) -> list[tuple[int, int]]:
        """Give what the plans of epochs depend on, each once; refuse more than fit on the disk."""
        keys: dict[tuple[int, int], None] = {}
        size = free = 0
        with contextlib.suppress(OSError):  # of a folder that is not there: writing tells
            free = shutil.disk_usage(read_path(name, path).absolute().parent).free
        for count, epoch in enumerate(epochs):
            if count == _MOST_EPOCHS:
                raise ValueError(
                    f"{name}(): epochs= has more than {_MOST_EPOCHS:,} epochs; expected fewer"
                )
            key = self._planner.key(
                _core.read_int(name, "epochs", epoch, 0, NO_CAP), self.num_replicas
            )
            keys[key] = None
            if len(keys) == 2:  # the first one is made in any case, and others are about as large
                rows = len(self._planner.plan(*next(iter(keys)))[0])
                size = rows * (4 if self._is_short() else 8)
            if 0 < free < size * len(keys):
                raise ValueError(
                    f"{name}(): the plans of {len(keys):,} epochs and more, of {size:,} bytes "
                    f"each, do not fit into the {free:,} bytes that are free for {path}; expected "
                    "fewer epochs"
                )
        return list(keys)

    def _is_short(self) -> bool:
        return len(self._planner.lengths) <= _MOST_SHORT

    def _about(self, keys: list[tuple[int, int]]) -> dict[str, Any]:
        lengths = [len(self._planner.lengths), self._planner.fingerprint]
        return {"kind": NAME, "lengths": lengths, "settings": self._order(), "epochs": keys}

    def _arrays(self, keys: list[tuple[int, int]]) -> Iterator[tuple[str, Array]]:
        is_short = self._is_short()
        for place, key in enumerate(keys):
            indices, offsets = self._planner.plan(*key)
            yield f"indices {place}", indices.astype("<i4" if is_short else "<i8", copy=False)
            yield f"offsets {place}", offsets.astype("<i8", copy=False)

    def load_plan(self, path: Any, *, timeout: float | None = None) -> None:
        """Use the plans that `save_plan` has saved, instead of making them.

        The file is mapped, so that the processes of a node share its memory. It is read once, to
        compare fingerprints. Epochs that are not in it are planned as always. Pickles and copies
        do not keep the file: they plan themselves.

        Parameters
        ----------
        path : str or path
            The file, saved by a sampler of the same lengths and settings, for any rank.
        timeout : float, optional
            How many seconds to wait until there is such a file. With it one rank can save a plan
            for all: the others wait, and a file of an earlier run that does not fit is not taken
            for it. None: do not wait.

        Raises
        ------
        ValueError
            When the file is for other lengths, groups, settings or numbers of ranks, or of another
            version, or damaged; the message says what differs.
        TimeoutError
            When there was no such file in time; the message says what was wrong with the one that
            was there.
        OSError
            When the file cannot be read.

        Examples
        --------
        >>> import os, tempfile
        >>> import tightbatch as tb
        >>> path = os.path.join(tempfile.mkdtemp(), "plan.npy")
        >>> for rank in range(2):  # in each process
        ...     sampler = tb.LengthBatchSampler(
        ...         [4, 2, 3, 5], batch_size=1, num_replicas=2, rank=rank
        ...     )
        ...     if rank == 0:
        ...         sampler.save_plan(path, epochs=range(3))
        ...     sampler.load_plan(path, timeout=600)
        """
        name = f"{NAME}.load_plan"
        saved = wait_for(name, path, timeout, lambda: self._read(name, path))
        self._planner.use(saved)

    def _read(self, name: str, path: Any) -> dict[tuple[int, int], Plan]:
        about, arrays = read_plan(name, path)
        own = self._about([])
        if about.get("kind") != NAME:
            raise ValueError(
                f"{name}(): {path} has a {_core.show(about.get('kind'))}; expected the plan of a "
                f"{NAME}"
            )
        check_data(name, "the file", about.get("lengths"), own["lengths"])
        check_settings(name, "the file", about.get("settings"), own["settings"])
        keys, saved = about.get("epochs"), {}
        for place, key in enumerate(keys if isinstance(keys, list) else [None]):
            found = [arrays.get(f"{kind} {place}") for kind in ("indices", "offsets")]
            saved[self._read_key(name, path, key)] = _read_batches(name, path, found, own)
        return saved

    def _read_key(self, name: str, path: Any, key: Any) -> tuple[int, int]:
        if not (isinstance(key, list) and len(key) == 2 and all(type(n) is int for n in key)):
            raise ValueError(f"{name}(): {path} has no epochs; save the plan again")
        expected = self._planner.key(key[0], self.num_replicas)
        if expected != tuple(key):
            raise ValueError(
                f"{name}(): {path} has plans for num_replicas={key[1]}; this sampler has "
                f"num_replicas={self.num_replicas}; expected the same"
            )
        return expected


def _read_batches(name: str, path: Any, found: list[Any], own: dict[str, Any]) -> Plan:
    indices, offsets = found
    if (
        indices is None
        or offsets is None
        or offsets.dtype != np.int64
        or not check_batches(indices, offsets, own["lengths"][0])
    ):
        raise ValueError(f"{name}(): {path} has batches that cannot be; save the plan again")
    return indices, offsets
