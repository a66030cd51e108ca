"""The samples of a stream: who reads which, and how reading goes on where it was saved."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .. import _core
from .ranks import read_ranks

NAME = "StreamBatcher"
SHARDED = ("auto", "no", "workers", "ranks", "both")


@dataclass(frozen=True)
class Share:
    """Which samples a stream gets: those whose number modulo `shares` is `share`."""

    share: int
    shares: int
    worker: int
    workers: int
    rank: int
    ranks: int
    sharded: str  # among what the source divides its samples itself

    @property
    def place(self) -> int:
        """Its number among all streams of all ranks: no two draw alike."""
        return self.rank * self.workers + self.worker

    def as_list(self) -> list[int]:
        """Give what a state says of it."""
        return [self.share, self.shares, self.worker, self.workers, self.rank, self.ranks]


def distributed() -> Any:
    """Give torch.distributed if there is a process group."""
    torch = sys.modules.get("torch")
    dist = getattr(torch, "distributed", None)
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def find_ranks(ranks: Any, rank: Any) -> tuple[int, int]:
    """Read num_replicas= and rank=; None is what torch.distributed says."""
    dist = distributed() if ranks is None and rank is None else None
    if dist is not None:
        ranks, rank = dist.get_world_size(), dist.get_rank()
    return read_ranks(NAME, 1 if ranks is None else ranks, rank)


def worker() -> tuple[int, int]:
    """Tell which DataLoader worker this process is, of how many; (0, 1) outside of workers."""
    data = getattr(getattr(sys.modules.get("torch"), "utils", None), "data", None)
    info = None if data is None else data.get_worker_info()
    return (0, 1) if info is None else (int(info.id), int(info.num_workers))


def in_worker() -> bool:
    """Tell whether this process is a DataLoader worker."""
    data = getattr(getattr(sys.modules.get("torch"), "utils", None), "data", None)
    return data is not None and data.get_worker_info() is not None


def check_samples(samples: Any) -> None:
    """Refuse what is no iterable of samples."""
    is_list = hasattr(samples, "__getitem__") and hasattr(samples, "__len__")
    if isinstance(samples, (str, bytes, Mapping)) or not (
        isinstance(samples, Iterable) or callable(samples) or is_list
    ):
        raise TypeError(
            f"{NAME}(): samples={_core.describe(samples)}; expected an iterable of samples, or a "
            "function that gives one"
        )


def register(cls: type) -> None:
    """Make the class one of torch's IterableDatasets, for its DataLoader, if torch is installed."""
    try:
        from torch.utils.data import IterableDataset
    except ImportError:
        return
    if not issubclass(cls, IterableDataset):
        IterableDataset.register(cls)


def find_share(samples: Any, sharded: str, rank: int, ranks: int) -> Share:
    """Tell which samples this process gets."""
    number, workers = worker()
    if sharded == "auto":
        sharded = _find_sharded(samples, workers)
    share, shares = 0, 1
    if sharded not in ("ranks", "both"):
        share, shares = rank, ranks
    if sharded not in ("workers", "both"):
        share, shares = share * workers + number, shares * workers
    return Share(share, shares, number, workers, rank, ranks, sharded)


def _find_sharded(samples: Any, workers: int) -> str:
    """Tell what a source divides its samples among by itself."""
    if _is_hf(samples):
        return "workers" if samples._distributed is None else "both"
    data = getattr(getattr(sys.modules.get("torch"), "utils", None), "data", None)
    if workers > 1 and data is not None and isinstance(samples, data.IterableDataset):
        raise ValueError(
            f"{NAME}(): samples is a {type(samples).__name__}, which may divide its samples among "
            f"{workers} workers by itself; expected sharded='workers' if it does, sharded='no' if "
            "each worker would get all of them"
        )
    return "no"


def _is_hf(samples: Any) -> bool:
    """Tell whether these are datasets' IterableDataset, which divides itself among workers."""
    return hasattr(samples, "_ex_iterable") and hasattr(samples, "_distributed")


def _loses_samples(part: Any) -> bool:
    """Tell whether a state of datasets' IterableDataset leaves out what its shuffle buffer has."""
    if type(part).__name__ == "BufferShuffledExamplesIterable":
        return True
    inner = [getattr(part, "ex_iterable", None), *(getattr(part, "ex_iterables", None) or ())]
    return any(_loses_samples(one) for one in inner if one is not None)


def _has_state(source: Any) -> bool:
    return callable(getattr(source, "state_dict", None)) and callable(
        getattr(source, "load_state_dict", None)
    )


class Reader:
    """Reads the samples, from the first one or from a state that their source gave.

    `first` keeps the state that the source had at first: it is iterated from there again, and not
    from where it was left or from a state that was loaded.
    """

    def __init__(self, samples: Any, epoch: int, state: Any, first: list[Any]) -> None:
        source = samples
        if callable(samples) and (isinstance(samples, type) or not isinstance(samples, Iterable)):
            source = samples()
        self._stateful: Any = None
        if _has_state(source) and not (_is_hf(source) and _loses_samples(source._ex_iterable)):
            self._stateful = source
            if source is samples and not first:
                first.append(copy.deepcopy(source.state_dict()))
            elif source is samples and state is None:
                source.load_state_dict(copy.deepcopy(first[0]))
        if callable(getattr(source, "set_epoch", None)):
            source.set_epoch(epoch)  # after its first state, which may have an epoch
        if self._stateful is not None and state is not None:
            source.load_state_dict(state)
        try:
            iterator = iter(source)
        except TypeError:
            raise TypeError(
                f"{NAME}(): samples() gave {_core.describe(source)}; expected an iterable"
            ) from None
        if self._stateful is None and _has_state(iterator):
            self._stateful = iterator
            if state is not None:
                iterator.load_state_dict(state)
        if state is not None and self._stateful is None:
            raise ValueError(
                f"{NAME}.load_state_dict(): the state has one of the source of its samples, and "
                "this one has none; expected the same source"
            )
        self.samples: Iterator[Any] = iterator

    @property
    def has_state(self) -> bool:
        """Whether the source has a state of its own that loses no sample."""
        return self._stateful is not None

    def state(self) -> Any:
        """Give the source's own state."""
        return self._stateful.state_dict()
