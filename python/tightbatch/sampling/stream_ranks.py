"""The same number of steps on all ranks: they ask each other before each step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .. import _core
from .stream_source import distributed, in_worker

NAME = "StreamBatcher.in_step"
# The first batches, which are handed out again where a rank has no more.
_KEPT = 8


class InStep:
    """A loader's batches, as many on each rank."""

    def __init__(self, loader: Any, drop_last: bool) -> None:
        if not isinstance(loader, Iterable):
            raise TypeError(
                f"{NAME}(): loader={_core.describe(loader)}; expected a DataLoader or another "
                "iterable of batches"
            )
        self.loader = loader
        self.dropped = self.repeated = 0
        self._drop_last = drop_last
        self._group: Any = None

    def __iter__(self) -> Iterator[Any]:
        """Give the loader's batches, to the step where all ranks end."""
        dist = distributed()
        self.dropped = self.repeated = 0
        if dist is None or dist.get_world_size() == 1:
            yield from self.loader
            return
        if in_worker():
            raise RuntimeError(
                f"{NAME}(): called in a DataLoader worker; expected it around the DataLoader, in "
                "the process of the rank"
            )
        if self._group is None:
            self._group = dist.new_group(backend="gloo")
        batches, kept, ranks = iter(self.loader), [], dist.get_world_size()
        while True:
            batch, failure, has_batch = None, None, False
            try:
                batch = next(batches)
                has_batch = True
            except StopIteration:
                pass
            except BaseException as error:
                failure = error
            step = len(kept)
            if failure is None and not has_batch and not kept and not self._drop_last:
                failure = ValueError(f"{NAME}(): rank {dist.get_rank()} has no batch to repeat")
            with_batch, failed = self._ask(dist, has_batch, failure is not None)
            if failure is not None:
                raise failure
            if failed:
                raise RuntimeError(f"{NAME}(): another rank has no batch, because of an error there")
            if with_batch == 0:
                return
            if with_batch < ranks and self._drop_last:
                self.dropped = with_batch
                return
            self.repeated += ranks - with_batch
            if not has_batch:
                batch = kept[self._again % step]
                self._again += 1
            elif step < _KEPT:
                kept.append(batch)
                self._again = 0
            yield batch

    def _ask(self, dist: Any, has_batch: bool, failed: bool) -> tuple[int, int]:
        """Count the ranks that have a batch, and those that have failed."""
        import torch

        counts = torch.tensor([int(has_batch), int(failed)])
        dist.all_reduce(counts, group=self._group)
        return int(counts[0]), int(counts[1])
