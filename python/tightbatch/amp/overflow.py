"""Why a group was skipped: the module and the rows where numbers stopped being finite."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from .precision import Precision

# Columns in which collators keep the numbers of rows in the data set, best first.
ROW_KEYS = (
    *("row_idx", "row_ids", "row_id", "sample_idx", "sample_ids", "sample_id", "example_id"),
    *("indices", "index", "idx", "ids", "id", "rows", "row"),
)
BOUNDARY_KEYS = ("cu_seq_lens_q", "cu_seqlens_q", "cu_seq_lens", "cu_seqlens")
SHOWN = 8  # rows or parameters in a text
WATCHED = 100  # groups


@dataclass(frozen=True)
class Overflow:
    """Why a group was skipped; ``Amp.overflow`` makes it.

    Attributes
    ----------
    loss : float
        The group's first loss that was inf or NaN; the last loss if there was none.
    module : str or None
        The first module of the forward pass with an output that was inf or NaN, by its name in the
        model ("" is the model itself); None if there was none, or the pass could not be repeated.
    rows : tuple of int
        The rows of the batch in which that output was not finite; () if it has no such axis.
    row_ids : tuple or None
        What the batch's column of indices has for these rows: ``row_idx``, ``idx``, ``index``,
        ``indices``, ``id`` and the like. None if the batch has no such column.
    parameters : tuple of str
        The parameters whose gradients were inf or NaN, as in ``scaler.overflowed``.
    reason : str
        What was found in the forward pass, in words.

    Examples
    --------
    >>> import torch
    >>> from tightbatch.amp import Amp
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    >>> amp = Amp(model, torch.optim.SGD(model.parameters(), lr=0.1), dtype="float32")
    >>> batch = {"x": torch.tensor([[1.0, 2.0], [torch.inf, 0.0]]), "idx": [40, 41]}
    >>> with amp.autocast():
    ...     loss = model(batch["x"]).square().mean()
    >>> amp.step(loss, batch), amp.overflow.module, amp.overflow.rows, amp.overflow.row_ids
    (False, '0', (1,), (41,))
    """

    loss: float
    module: str | None
    rows: tuple[int, ...]
    row_ids: tuple[Any, ...] | None
    parameters: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        """Tell it in a sentence."""
        told = f"the loss is {self.loss:.6g}; {self.reason}"
        if self.parameters:
            told += f"; gradients that are not finite: {_some(self.parameters)}"
        return told


class Batch(NamedTuple):
    """What is kept of a batch until the next group begins.

    Attributes
    ----------
    loss : tensor
    calls : list of (args, kwargs) of the model's forward passes
    batch : mapping or None
        What was given to ``Amp.step``.
    """

    loss: torch.Tensor
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    batch: Mapping[str, Any] | None


class _Found(BaseException):
    """Ends a forward pass; models catch Exception."""

    def __init__(self, module: torch.nn.Module, output: torch.Tensor, is_input_bad: bool) -> None:
        super().__init__()
        self.module, self.output, self.is_input_bad = module, output, is_input_bad


def explain(
    model: torch.nn.Module,
    batches: Sequence[Batch],
    parameters: tuple[str, ...],
    precision: Precision,
) -> Overflow:
    """Repeat the forward pass of a group that was skipped, and say where it went wrong."""
    losses = [float(batch.loss) for batch in batches]
    bad = [number for number, loss in enumerate(losses) if not math.isfinite(loss)]
    reason = "the model was not called inside amp.autocast()"
    for number in [*bad, *(n for n in range(len(batches)) if n not in bad)]:
        batch = batches[number]
        loss = losses[bad[0] if bad else -1]
        for args, kwargs in _calls(batch):
            try:
                found = _repeat(model, args, kwargs, precision)
            except Exception as error:  # whatever a model may raise
                text = f"{type(error).__name__}: {error}"
                reason = f"the forward pass could not be repeated ({text[:200]})"
                continue
            if found is None:
                reason = (
                    "each module's output is finite, so the loss is not where it is computed from "
                    "them"
                    if bad
                    else "the forward pass is finite: gradients overflowed"
                )
                continue
            source = {**_mapping(args, kwargs), **(batch.batch or {})}
            return _told(_inner(model), found, source, loss, parameters)
    return Overflow(losses[bad[0] if bad else -1], None, (), None, parameters, reason)


def _told(
    model: torch.nn.Module,
    found: _Found,
    batch: Mapping[str, Any],
    loss: float,
    parameters: tuple[str, ...],
) -> Overflow:
    name = next(name for name, module in model.named_modules() if module is found.module)
    rows = _rows(found.output, batch)
    key, ids = _row_ids(batch)
    row_ids = None if ids is None else tuple(ids[row] for row in rows if row < len(ids))
    reason = f"the first output that is not finite is that of {name or 'the model'}"
    reason += f" ({type(found.module).__name__})"
    reason += ", whose input is not finite either" if found.is_input_bad else ""
    reason += f", in rows {_some(rows)} of the batch" if rows else ""
    reason += f" ({key}: {_some(row_ids)})" if row_ids else ""
    return Overflow(loss, name, rows, row_ids, parameters, reason)


def _calls(batch: Batch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    if batch.calls or batch.batch is None:
        return batch.calls
    key = _row_ids(batch.batch)[0]
    return [((), {name: value for name, value in batch.batch.items() if name != key})]


def _mapping(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
    """Give the batch of a call: its keywords, or its only argument; else its tensors by place."""
    if kwargs:
        return kwargs
    if len(args) == 1 and isinstance(args[0], Mapping):
        return args[0]
    return {str(number): value for number, value in enumerate(args)}


def _inner(model: torch.nn.Module) -> torch.nn.Module:
    """Give the module that computes: one rank alone must not enter a collective operation."""
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, torch.nn.parallel.DistributedDataParallel | torch.nn.DataParallel):
        return _inner(model.module)
    return model


def _repeat(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], precision: Precision
) -> _Found | None:
    """Run a forward pass up to the first output that is not finite, and leave no trace of it."""
    inner = _inner(model)
    if any(isinstance(module, torch.nn.SyncBatchNorm) for module in inner.modules()):
        raise RuntimeError("SyncBatchNorm would wait for the other ranks")
    buffers = [(buffer, buffer.clone()) for buffer in inner.buffers()]
    devices = sorted({p.device.index or 0 for p in inner.parameters() if p.device.type != "cpu"})

    def look(module: Any, given: Any, named: Any, output: Any) -> None:
        bad = _first_bad(output)
        if bad is not None:
            raise _Found(module, bad, _first_bad((given, named)) is not None)

    with ExitStack() as stack:
        for module in inner.modules():
            handle = module.register_forward_hook(look, with_kwargs=True)
            stack.callback(handle.remove)
        kind = precision.device if devices else "cuda"
        stack.enter_context(torch.random.fork_rng(devices, device_type=kind))
        stack.enter_context(_eager(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(precision.autocast())
        try:
            inner(*args, **kwargs)
        except _Found as found:
            return found
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
            torch.clear_autocast_cache()
    return None


def _eager(model: torch.nn.Module) -> AbstractContextManager[Any]:
    """Leave compiled code aside: it was compiled without hooks."""
    modules = list(model.modules())
    is_compiled = any(getattr(module, "_compiled_call_impl", None) for module in modules)
    is_compiled = is_compiled or any(hasattr(module, "_orig_mod") for module in modules)
    if is_compiled and hasattr(torch.compiler, "set_stance"):  # since torch 2.6
        stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return stance
    return ExitStack()


def _first_bad(value: Any) -> torch.Tensor | None:
    """Give the first tensor in nested outputs that is not finite."""
    for tensor in _tensors(value):
        if not tensor.is_meta and not bool(tensor.isfinite().all()):
            return tensor
    return None


def _tensors(value: Any, depth: int = 4) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and not value.is_sparse and not value.is_nested:
            yield value
    elif depth and isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item, depth - 1)


def _row_ids(batch: Mapping[str, Any]) -> tuple[str, list[Any] | None]:
    """Give the name and the values of the column that tells rows of the data set."""
    for key in ROW_KEYS:
        value: Any = batch.get(key)
        if hasattr(value, "dtype"):
            value = value.tolist() if getattr(value, "ndim", 0) == 1 else None
        if isinstance(value, list | tuple) and not any(isinstance(v, list | tuple) for v in value):
            return key, list(value)
    return "", None


def _rows(output: torch.Tensor, batch: Mapping[str, Any]) -> tuple[int, ...]:
    """Give the rows of the batch in which an output is not finite, as far as its shape tells."""
    bad = output.isfinite().logical_not_()
    shapes = [value.shape for value in batch.values() if isinstance(value, torch.Tensor)]
    shape = next((shape for shape in shapes if len(shape)), None)
    if "input_ids" in batch and isinstance(batch["input_ids"], torch.Tensor):
        shape = batch["input_ids"].shape
    if shape is None or not bad.ndim:
        return ()
    bounds = next((batch[key] for key in BOUNDARY_KEYS if key in batch), None)
    if isinstance(bounds, torch.Tensor) and (len(shape) == 1 or shape[0] == 1):
        return _segments(bad, bounds, shape[-1])
    count = shape[0]
    if bad.shape[0] != count:
        if len(shape) > 1 and bad.shape[0] == count * shape[1]:
            bad = bad.reshape(count, -1)
        elif bad.ndim > 1 and bad.shape[1] == count:
            bad = bad.transpose(0, 1)
        else:
            return ()
    return tuple(bad.reshape(count, -1).any(1).nonzero().flatten().tolist())


def _segments(bad: torch.Tensor, bounds: torch.Tensor, total: int) -> tuple[int, ...]:
    """Give the segments of a batch without padding: their rows stand one after another."""
    if bad.shape[0] == 1 and bad.ndim > 1:
        bad = bad[0]
    if bad.shape[0] != total:
        return ()
    places = bad.reshape(total, -1).any(1).nonzero().flatten().to(bounds.device)
    found = torch.bucketize(places, bounds.long(), right=True) - 1
    return tuple(found.unique().tolist())


class Skips:
    """Whether the last groups were skipped; most of them, and it warns once."""

    def __init__(self) -> None:
        self._last: deque[bool] = deque(maxlen=WATCHED)
        self._has_warned = False

    def add(self, function: str, is_skipped: bool) -> None:
        """Count a group."""
        self._last.append(is_skipped)
        count = sum(self._last) if is_skipped else 0
        if self._has_warned or len(self._last) < WATCHED or count * 2 <= WATCHED:
            return
        self._has_warned = True
        warnings.warn(
            f"{function}(): {count} of the last {WATCHED} groups were skipped, because losses or "
            "gradients were inf or NaN: the model learns from the others alone. Amp.overflow tells "
            "after a skipped group which module and rows they come from; max_skipped=None allows "
            "any number",
            RuntimeWarning,
            stacklevel=5,
        )


def warn_of_zeros(
    function: str,
    parameters: Iterable[torch.Tensor],
    loss: torch.Tensor,
    scale: Callable[[], float],
) -> bool:
    """Warn if float16 left nothing of any gradient, and tell whether it did.

    Reading ends at the first gradient that is not zero, as nearly always the very first.
    """
    for parameter in parameters:
        grad = parameter.grad
        if grad is not None and bool((grad.coalesce().values() if grad.is_sparse else grad).any()):
            return False
    if not bool(loss):
        return False
    warnings.warn(
        f"{function}(): all gradients of the group are 0, with a loss of {float(loss):.6g} and a "
        f"loss scale of {scale():g}: too small for float16, unless the loss does not depend on the "
        "parameters; nothing is learned. Use bfloat16 or float32, or a scaler that starts higher: "
        "Amp(..., scaler=GradScaler(..., init_scale=...))",
        RuntimeWarning,
        stacklevel=4,
    )
    return True


def _some(items: Sequence[Any]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(map(str, items[:SHOWN])) + more
