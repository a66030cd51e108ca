"""Batches of similar length in transformers' Trainer, and in those that are made from it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .. import _core
from ..collate.packs import is_pack_lengths
from ..collate.padding_free import PaddingFreeCollator
from ..dataset import lengths as count_lengths
from ..sampling.sampler import LengthBatchSampler
from .flattening import DataCollatorWithFlattening

__all__ = ["batch_by_length"]

_NAME = "batch_by_length"
_T = TypeVar("_T")
# What a DataLoader is made of beside its data set and its batches, of those that this torch has.
_LOADING = (
    "collate_fn",
    "num_workers",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
    "pin_memory_device",
    "in_order",
)


@dataclass
class _Asked:
    lengths: Any
    column: str | None
    evaluation: bool
    settings: dict[str, Any]


def batch_by_length(
    trainer: _T,
    *,
    lengths: Any = None,
    column: str | None = None,
    evaluation: bool = False,
    **settings: Any,
) -> _T:
    """Let a Trainer train on batches of similar length: those of a `LengthBatchSampler`.

    It works on transformers' ``Trainer`` and on trainers that are made from it, such as TRL's
    ``SFTTrainer``, before ``train()``. Resuming from a checkpoint, gradient accumulation,
    ``max_steps`` and several processes work as ever: each row comes once in an epoch, every process
    and every epoch has the same number of steps, and the epochs are those of the sampler. With
    ``max_tokens``, where the number of batches varies, the last batches of the epochs with fewer
    are cut for that into smaller ones. A column with the lengths of packs, such as
    ``seq_lengths``, reaches the collator, which a Trainer by itself removes.

    Parameters
    ----------
    trainer : transformers.Trainer
        Its collator, data set and arguments stay as they are.
    lengths : sequence of int, optional
        The length of each row of ``train_dataset``. Without it :func:`tightbatch.lengths` reads
        `column`.
    column : str, optional
        The column of tokens; by default the model's main input, as a rule "input_ids".
    evaluation : bool
        Whether ``evaluate()`` and ``predict()`` take rows by length as well,
        ``per_device_eval_batch_size`` at a time. What they give, and what ``compute_metrics`` gets,
        is in the order of the data set. A loss that is a mean over tokens, or a metric of each
        batch, then weighs them by other batches. (With ``dataloader_drop_last``, or without
        ``eval_do_concat_batches``, evaluation stays in order.)
    **settings
        Of :class:`tightbatch.LengthBatchSampler`. By default `batch_size`, if there is no
        `max_tokens`, is ``per_device_train_batch_size``, `seed` is the trainer's ``data_seed`` or
        ``seed``, and `drop_last` its ``dataloader_drop_last``.

    Returns
    -------
    transformers.Trainer
        The same trainer. Its class is a subclass, of the same name, of the class that it had.

    Raises
    ------
    TypeError
        When it is no Trainer, when a setting is none of the sampler's, or when lengths cannot be
        read from the data set: pass `lengths`.
    ValueError
        When the trainer is told to batch in another way too: a ``train_sampling_strategy``,
        ``dispatch_batches``, ``split_batches``, or ``auto_find_batch_size`` with `max_tokens`.
        When metrics or predictions are asked for with `evaluation` and batches without padding.
        When the collator pads, with ``padding_free=True``: no cap would hold.
        These, and errors of the sampler, come with ``train()``.

    Warns
    -----
    UserWarning
        When the collator makes a batch of more positions than `max_tokens`, or joins rows that were
        planned with padding.

    Examples
    --------
    >>> import tightbatch as tb
    >>> trainer = transformers.Trainer(model, args, train_dataset=rows)  # doctest: +SKIP
    >>> trainer = tb.huggingface.batch_by_length(trainer, max_tokens=4096)  # doctest: +SKIP
    >>> trainer.train()  # doctest: +SKIP
    """
    import transformers

    if not isinstance(trainer, transformers.Trainer):
        raise TypeError(
            f"{_NAME}(): trainer={_core.describe(trainer)}; expected a transformers.Trainer"
        )
    if column is not None and not isinstance(column, str):
        raise TypeError(f"{_NAME}(): column={_core.describe(column)}; expected a str")
    dataset = getattr(trainer, "train_dataset", None)
    if dataset is not None and not hasattr(dataset, "__len__"):
        raise TypeError(
            f"{_NAME}(): train_dataset is {_core.describe(dataset)}; expected a data set with a "
            "length: a stream is batched by tb.StreamBatcher, in a training loop"
        )
    for name in ("num_replicas", "rank"):
        if name in settings:
            raise TypeError(f"{_NAME}(): found {name}=, which the trainer knows; leave it out")
    if {"batch_size", "max_tokens"} & settings.keys():
        LengthBatchSampler([], **settings)
    else:
        LengthBatchSampler([], batch_size=1, **settings)
    if lengths is not None:
        lengths = _core.read_lengths(_NAME, "lengths", lengths)
    evaluation = _core.read_flag(_NAME, "evaluation", evaluation)
    if evaluation and trainer.compute_metrics is not None:
        _refuse_flat(trainer.data_collator)
    own = type(trainer)
    if not issubclass(own, _ByLength):
        names = {"__module__": own.__module__, "__doc__": own.__doc__}
        trainer.__class__ = type(own.__name__, (_ByLength, own), names)
    vars(trainer)["_by_length"] = _Asked(lengths, column, evaluation, settings)
    return trainer


class _ByLength:
    """What of a Trainer becomes another; it stands before the trainer's own class."""

    _by_length: _Asked

    def _set_signature_columns_if_needed(self: Any) -> None:
        # Without the lengths of packs, which no model takes, a collator would join their segments.
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        for key in _find_pack_lengths(self.train_dataset, self.eval_dataset):
            if key not in self._signature_columns:
                self._signature_columns.append(key)

    def get_train_dataloader(self: Any) -> Any:
        asked = self._by_length
        _check_arguments(self.args, asked.settings)
        loader = super().get_train_dataloader()  # type: ignore[misc]
        ranks, rank = _find_share(loader)
        lengths = asked.lengths
        if lengths is None:
            lengths = self._lengths_of(self.train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        own = {"seed": seed, "drop_last": self.args.dataloader_drop_last, **asked.settings}
        if own.get("batch_size") is None and own.get("max_tokens") is None:
            own["batch_size"] = self._train_batch_size
        sampler = LengthBatchSampler(lengths, num_replicas=ranks, rank=rank, **own)
        _check_count(sampler, loader)
        sampler.even_out(_count_epochs(self.args, len(sampler)))
        cap: Any = sampler.max_tokens
        cap = max(cap.values()) if isinstance(cap, Mapping) else cap
        collate_fn = _AsPlanned(loader.collate_fn, self._main_column(), cap, sampler.padding_free)
        return _prepare(_loader_of(loader, sampler, collate_fn=collate_fn), self.accelerator)

    def get_eval_dataloader(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._evaluate_by_length(super().get_eval_dataloader(*args, **kwargs))  # type: ignore[misc]

    def get_test_dataloader(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._evaluate_by_length(super().get_test_dataloader(*args, **kwargs))  # type: ignore[misc]

    def evaluation_loop(self: Any, dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        evaluate = super().evaluation_loop  # type: ignore[misc]
        sampler = getattr(dataloader, "_tightbatch_sampler", None)
        if sampler is None:
            return evaluate(dataloader, *args, **kwargs)
        loss_only = args[1] if len(args) > 1 else kwargs.get("prediction_loss_only")
        if not (self.args.prediction_loss_only if loss_only is None else loss_only):
            _refuse_flat(self.data_collator)
        given = self.compute_metrics
        if given is not None and not self.args.batch_eval_metrics:
            self.compute_metrics = lambda prediction: given(_in_order(sampler, prediction))
        try:
            output = evaluate(dataloader, *args, **kwargs)
        finally:
            self.compute_metrics = given
        return output._replace(
            predictions=_restore(sampler, output.predictions),
            label_ids=_restore(sampler, output.label_ids),
        )

    def _main_column(self: Any) -> str:
        column = self._by_length.column or getattr(self.model, "main_input_name", "input_ids")
        return str(column)

    def _lengths_of(self: Any, dataset: Any) -> Any:
        column = self._main_column()
        try:
            return count_lengths(dataset, column=column)
        except (TypeError, KeyError, ValueError) as error:
            raise type(error)(
                f"{_NAME}(): no lengths in {type(dataset).__name__} ({error}); pass lengths=, or "
                "column= with the name of the column of tokens"
            ) from error

    def _evaluate_by_length(self: Any, loader: Any) -> Any:
        is_plain = self.args.dataloader_drop_last or not self.args.eval_do_concat_batches
        if is_plain or not self._by_length.evaluation:
            return loader
        # A loader with persistent workers comes again: then so does ours.
        known = loader.__dict__.get("_tightbatch_loader")
        if known is None:
            sampler = LengthBatchSampler(
                self._lengths_of(loader.dataset),
                batch_size=self.args.eval_batch_size,
                shuffle=False,
            )
            known = self.accelerator.prepare(_loader_of(loader, sampler))
            known._tightbatch_sampler = sampler
            loader._tightbatch_loader = known
        return known


@dataclass
class _AsPlanned:
    """A collate function, whose batches have to be what the sampler planned them for."""

    collate_fn: Any
    column: str
    max_tokens: int | None
    padding_free: bool
    has_warned: bool = False

    def __call__(self, samples: Any) -> Any:
        """Collate, and look at the shape of the tokens."""
        batch = self.collate_fn(samples)
        tokens = batch.get(self.column) if isinstance(batch, Mapping) else None
        shape = tuple(getattr(tokens, "shape", ()))
        if len(shape) >= 2:
            self._check(len(samples), int(shape[0]), int(shape[1]))
        return batch

    def _check(self, samples: int, rows: int, width: int) -> None:
        if self.padding_free and rows > 1:
            raise ValueError(
                f"{_NAME}(): padding_free=True, but the collator pads: it made {rows} rows of "
                f"{width} positions of {samples} samples; expected one that joins rows, such as "
                "tb.PaddingFreeCollator() or that of SFTConfig(padding_free=True), or "
                "padding_free=False"
            )
        if self.max_tokens is None or self.has_warned:
            return
        told = None
        if not self.padding_free and rows == 1 < samples:
            told = (
                f"the collator joins {samples} samples into one row of {width} positions; pass "
                f"padding_free=True, which fills max_tokens={self.max_tokens} with them"
            )
        elif rows * width > self.max_tokens:
            told = (
                f"the collator made {rows} rows of {width} positions, more than max_tokens="
                f"{self.max_tokens}; give it the sampler's max_length, and the sampler its "
                "pad_to_multiple_of"
            )
        if told is not None:
            self.has_warned = True
            warnings.warn(f"{_NAME}(): {told}", stacklevel=2)


def _find_pack_lengths(*given: Any) -> set[Any]:
    """Give the columns, by the first row of each data set, that hold the lengths of packs."""
    found: set[Any] = set()
    for each in given:
        for dataset in each.values() if isinstance(each, Mapping) else [each]:
            if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__") and len(dataset) > 0:
                first = dataset[0]
                if isinstance(first, Mapping):
                    keys = filter(is_pack_lengths, first)
                    found |= {key for key in keys if hasattr(first[key], "__len__")}
    return found


def _refuse_flat(collator: Any) -> None:
    """Refuse batches without padding where outputs of rows are gathered."""
    import transformers

    flat = (
        PaddingFreeCollator,
        DataCollatorWithFlattening,
        transformers.DataCollatorWithFlattening,
    )
    if isinstance(collator, flat) or getattr(collator, "padding_free", False) is True:
        raise ValueError(
            f"{_NAME}(): evaluation=True, but {type(collator).__name__} makes batches without "
            "padding, whose outputs are not one for each row; metrics and predict() need padded "
            "batches: evaluate with a trainer whose data_collator pads, or without compute_metrics "
            "(or prediction_loss_only=True), which gives the loss alone"
        )


def _check_arguments(args: Any, settings: dict[str, Any]) -> None:
    strategy = getattr(args, "train_sampling_strategy", "random")
    config = args.accelerator_config
    for name, found, expected in (
        ("train_sampling_strategy", strategy, "random"),
        ("dispatch_batches", bool(getattr(config, "dispatch_batches", None)), False),
        ("split_batches", bool(getattr(config, "split_batches", None)), False),
    ):
        if found != expected:
            raise ValueError(
                f"{_NAME}(): the trainer has {name}={found!r}; expected {expected!r}: the batches "
                "are those of tightbatch"
            )
    if args.auto_find_batch_size and settings.get("max_tokens") is not None:
        raise ValueError(
            f"{_NAME}(): the trainer has auto_find_batch_size=True, which does not lower "
            "max_tokens; expected batch_size= alone, or longest_first=True to find out at once"
        )


def _find_share(loader: Any) -> tuple[int, int]:
    """Give how many processes share the batches, and which of them this is."""
    shard: Any = getattr(loader, "batch_sampler", None)
    if type(shard).__name__ == "BatchSamplerShard":
        return shard.num_processes, shard.process_index
    return 1, 0


def _check_count(sampler: LengthBatchSampler, loader: Any) -> None:
    found, expected = len(sampler._planner.lengths), len(loader.dataset)
    if found != expected:
        raise ValueError(
            f"{_NAME}(): {found} lengths for a train_dataset of {expected} rows; expected a length "
            "for each row"
        )


def _count_epochs(args: Any, steps: int) -> int:
    """How many epochs there may be: all of them are to have the same number of steps."""
    epochs = float(args.num_train_epochs)
    if args.max_steps > 0:
        epochs = args.max_steps * args.gradient_accumulation_steps / max(steps, 1)
    return max(math.ceil(epochs), 1)


def _loader_of(loader: Any, sampler: LengthBatchSampler, **other: Any) -> Any:
    """Make a DataLoader like this one, with other batches, and what else is other."""
    from torch.utils.data import DataLoader

    options = {name: getattr(loader, name) for name in _LOADING if hasattr(loader, name)}
    return DataLoader(loader.dataset, batch_sampler=sampler, **{**options, **other})


def _prepare(loader: Any, accelerator: Any) -> Any:
    """Prepare as accelerate does, but for sharing out batches: the sampler did that already."""
    from accelerate.data_loader import prepare_data_loader  # type: ignore[import-untyped]

    prepared = prepare_data_loader(
        loader,
        accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=accelerator.device_placement,
        rng_types=accelerator.rng_types.copy(),
        dispatch_batches=False,
        non_blocking=accelerator.non_blocking,
        use_stateful_dataloader=accelerator.use_stateful_dataloader,
    )
    prepared._is_accelerate_prepared = True
    return prepared


def _restore(sampler: LengthBatchSampler, value: Any) -> Any:
    return sampler.restore_order(tuple(value) if isinstance(value, list) else value)


def _in_order(sampler: LengthBatchSampler, prediction: Any) -> Any:
    """Give an EvalPrediction in the order of the data set."""
    return type(prediction)(
        predictions=_restore(sampler, prediction.predictions),
        label_ids=_restore(sampler, prediction.label_ids),
        inputs=_restore(sampler, prediction.inputs),
        losses=_restore(sampler, prediction.losses),
    )
