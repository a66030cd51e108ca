"""BatchLoader: the stored batches of a worker, and where it was when a checkpoint was made."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from .. import _core
from .._types import Tensors
from .._words import counted
from .storing import LoadBatch, load

NAME = "BatchLoader"
_STATE = ("epoch", "batches", "fingerprint")
_MOST = 2**63 - 1


class BatchLoader:
    """The batches that :func:`batch_by_length` or :class:`StoreBatch` stored; it can be resumed.

    Parameters
    ----------
    shard : ray.data.Dataset or DataIterator
        The stored batches: in a worker of Ray Train ``ray.train.get_dataset_shard("train")``.
    return_tensors : {"pt", "np"}
        torch tensors, or NumPy arrays on the CPU.
    **options
        Parameters of ``iter_torch_batches`` (of ``iter_batches`` for arrays), such as
        ``prefetch_batches``, ``device`` and ``pin_memory``.

    Raises
    ------
    TypeError
        When the shard has no ``iter_torch_batches``; for ``batch_size``, ``collate_fn`` and
        ``batch_format``, which are set here; and, when batches are read, when they are no stored
        batches.
    ValueError
        When a state is none that ``state_dict`` gave, and, when batches are read, when they do not
        come in the order in which they came when the state was saved; when the number of train
        workers does not divide the ``num_workers`` of :func:`batch_by_length`, or one of several
        workers has no batch: Ray leaves out the batches that it cannot deal out equally.

    Notes
    -----
    A batch is what the collator made: numbers are numbers again, and text is text, also where Ray
    moves the tensors. Tensors on the CPU are views of the object store: see :class:`LoadBatch`.

    To resume, batches must come in the same order again. That needs the same number of workers,
    blocks in order, and no shuffle without a seed::

        config = ray.train.DataConfig(
            execution_options=ray.data.ExecutionOptions(preserve_order=True)
        )
        TorchTrainer(..., datasets={"train": batches}, dataset_config=config)

    Then each batch of an epoch is handed out once, however often the job was killed; those that
    were handed out are made and read over again. If the order is another one, it is an error.

    Examples
    --------
    >>> import ray, tightbatch as tb  # doctest: +SKIP
    >>> loader = tb.ray.BatchLoader(ray.train.get_dataset_shard("train"))
    >>> for batch in loader:
    ...     loss = model(**batch).loss
    ...     save({"loader": loader.state_dict()})  # with the model, before the next batch
    """

    def __init__(self, shard: Any, *, return_tensors: Tensors = "pt", **options: Any) -> None:
        if not callable(getattr(shard, "iter_torch_batches", None)):
            raise TypeError(
                f"{NAME}(): shard={_core.describe(shard)}; expected a Ray Dataset, or "
                "ray.train.get_dataset_shard(...)"
            )
        _core.read_choice(NAME, "return_tensors", return_tensors, ("pt", "np"))
        for name in ("batch_size", "collate_fn", "batch_format"):
            if name in options:
                raise TypeError(f"{NAME}(): {name}= is set by the loader; leave it out")
        self.shard, self.return_tensors, self.options = shard, return_tensors, options
        self.epoch = 0
        self.repeated = 0
        self._batches = self._fingerprint = 0
        self._state: tuple[int, int] | None = None  # to continue from

    def __iter__(self) -> Iterator[Any]:
        """Give the batches of an epoch, or those that are left of it after `load_state_dict`."""
        skipped, expected = self._state or (0, 0)
        if skipped == 0:
            self._state = None
        self._batches = self._fingerprint = self.repeated = 0
        workers = self._count_workers()
        for batch, notes in self._stored():
            _check_workers(notes.get("num_workers"), workers)
            self._batches += 1
            self._fingerprint = zlib.crc32(
                notes["checksum"].to_bytes(4, "little"), self._fingerprint
            )
            self.repeated += notes.get("repeated", 0)
            if self._batches == skipped:
                if self._fingerprint != expected:
                    break
                self._state = None  # only now: an error before this leaves the state as it was
            if self._batches > skipped:
                yield batch
        if self._state is not None:
            raise ValueError(
                f"{NAME}.load_state_dict(): {skipped} batches had been handed out, and the first "
                f"{self._batches} are others now; expected the same dataset, settings and number "
                "of workers, and ExecutionOptions(preserve_order=True)"
            )
        if self._batches == 0 and workers > 1:
            raise ValueError(
                f"{NAME}(): found no batch for this one of {workers} workers, and Ray leaves out "
                "those that it cannot deal out equally; expected a dataset with rows, and "
                f"batch_by_length(..., num_workers={workers})"
            )
        self.epoch += 1
        self._batches = self._fingerprint = 0

    def _count_workers(self) -> int:
        """Count the workers among which Ray deals out the batches; one has a dataset whole."""
        count = getattr(self.shard, "world_size", None)
        return int(count()) if callable(count) else 1

    def _stored(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Give each batch with the notes beside it."""
        if self.return_tensors == "np":
            tables = self.shard.iter_batches(batch_size=1, batch_format="pyarrow", **self.options)
            for table in tables:
                yield load(NAME, table, "np")
            return
        batches = self.shard.iter_torch_batches(
            batch_size=1, collate_fn=_LoadWithNotes(), **self.options
        )
        for tensors in batches:
            yield _take_notes(tensors)

    def state_dict(self) -> dict[str, int]:
        """Give where this worker is: the epoch, the batches handed out, and a fingerprint of them.

        A batch counts as soon as it was handed out. Each worker saves its own state, with the
        model, in the checkpoint that it reports to Ray Train.

        Examples
        --------
        >>> import tightbatch as tb  # doctest: +SKIP
        >>> tb.ray.BatchLoader(shard).state_dict()
        {'epoch': 0, 'batches': 0, 'fingerprint': 0}
        """
        batches, fingerprint = self._state or (self._batches, self._fingerprint)
        return {"epoch": self.epoch, "batches": batches, "fingerprint": fingerprint}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue where `state_dict` was called: the next iteration begins there.

        It raises a ValueError or TypeError if the state is none that `state_dict` gave.

        Examples
        --------
        >>> import tightbatch as tb  # doctest: +SKIP
        >>> tb.ray.BatchLoader(shard).load_state_dict(saved["loader"])
        """
        name = f"{NAME}.load_state_dict"
        if not isinstance(state, Mapping):
            raise TypeError(f"{name}(): state={_core.describe(state)}; expected a dict")
        if set(state) != set(_STATE):
            keys = _core.show(sorted(map(str, state)))
            raise ValueError(f"{name}(): state has the keys {keys}; expected {list(_STATE)}")
        epoch, batches, fingerprint = (
            _core.read_int(name, key, state[key], 0, _MOST) for key in _STATE
        )
        self.epoch, self._state = epoch, (batches, fingerprint)


def _check_workers(made_for: int | None, workers: int) -> None:
    """Refuse batches that are not equally many for all workers: Ray would lose the remainder."""
    if made_for is not None and made_for % workers:
        raise ValueError(
            f"{NAME}(): the batches are for {counted(made_for, 'train worker')}, and "
            f"Ray deals them out to {workers}, which would lose rows; pass "
            f"batch_by_length(..., num_workers={workers})"
        )


class _LoadWithNotes(LoadBatch):
    """Puts what is no tensor into the name of an entry: Ray keeps names, and moves only tensors."""

    def __call__(self, batch: Any) -> Any:
        import torch

        made, notes = load(NAME, batch, "pt")
        tensors: list[Any] = []
        notes["batch"] = _without_tensors(made, tensors)
        named = {str(i): tensor for i, tensor in enumerate(tensors)}
        return {json.dumps(notes): torch.empty(0), **named}


def _without_tensors(value: Any, tensors: list[Any]) -> Any:
    """Give a value that JSON can hold, with places for the tensors, which are listed."""
    if isinstance(value, dict):
        return {"dict": {key: _without_tensors(part, tensors) for key, part in value.items()}}
    if isinstance(value, tuple):
        return {"tuple": [_without_tensors(part, tensors) for part in value]}
    if hasattr(value, "untyped_storage"):
        tensors.append(value)
        return {"tensor": len(tensors) - 1}
    return {"value": value}


def _take_notes(tensors: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Do the reverse, after Ray has moved the tensors."""
    text = next(iter(tensors))
    notes = json.loads(text)

    def restore(place: dict[str, Any]) -> Any:
        if "dict" in place:
            return {key: restore(part) for key, part in place["dict"].items()}
        if "tuple" in place:
            return tuple(map(restore, place["tuple"]))
        return tensors[str(place["tensor"])] if "tensor" in place else place["value"]

    return restore(notes.pop("batch")), notes
