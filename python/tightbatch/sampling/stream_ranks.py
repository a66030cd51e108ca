"""The same number of steps on all ranks: they ask each other before each step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

from .. import _core
from .stream_source import distributed, in_worker

NAME = "StreamBatcher.in_step"
# The first batches, which are handed out again where a rank has no more. Copies, also each time:
# a loop may take columns out of a batch, or change it in place.
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
        ranks, batches = dist.get_world_size(), iter(self.loader)
        kept: list[Any] = []
        again = 0  # batches of this rank that were handed out again
        while True:
            batch, has_batch, failure = _next(batches)
            needs_batch = not has_batch and not kept and not self._drop_last
            with_batch, failed, needy = self._ask(dist, has_batch, failure is not None, needs_batch)
            if failure is not None:
                raise failure
            if failed:
                raise RuntimeError(f"{NAME}(): the batches of another rank ended with an error")
            if with_batch < ranks and self._drop_last:
                self.dropped = with_batch
                return
            if with_batch == 0:
                return
            self.repeated += ranks - with_batch
            if needy:  # a rank that never had a batch gets that of another
                given = self._give(dist, batch, has_batch)
                kept = [given] if needs_batch else kept
            if not has_batch:
                batch = deepcopy(kept[again % len(kept)])
                again += 1
            elif len(kept) < _KEPT:
                kept.append(deepcopy(batch))
            yield batch

    def _ask(self, dist: Any, *answers: bool) -> list[int]:
        """Count the ranks that answer yes, for each question."""
        import torch

        counts = torch.tensor(answers, dtype=torch.int64)
        dist.all_reduce(counts, group=self._group)
        return list(map(int, counts))

    def _give(self, dist: Any, batch: Any, has_batch: bool) -> Any:
        """Hand the batch of the first rank that has one to all."""
        import torch

        first = torch.tensor(dist.get_rank() if has_batch else dist.get_world_size())
        dist.all_reduce(first, op=dist.ReduceOp.MIN, group=self._group)
        given = [batch]
        dist.broadcast_object_list(given, src=int(first), group=self._group)
        return given[0]


def _next(batches: Iterator[Any]) -> tuple[Any, bool, BaseException | None]:
    """Give the next batch, whether there is one, and the error that came instead."""
    try:
        return next(batches), True, None
    except StopIteration:
        return None, False, None
    except BaseException as error:
        return None, False, error  # the other ranks hear of it before it is raised
