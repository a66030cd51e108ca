"""What the collators return: a dict of tensors that can be moved as a whole."""

from __future__ import annotations

from collections.abc import Callable
from sys import modules
from typing import Any

from .. import _core
from .._records import MOST_LEVELS, at, too_deep
from ..plots.style import Theme
from . import pytree
from .shared import plain_type

__all__ = ["Batch"]


class Batch(dict[Any, Any]):
    """A batch: a dict of tensors (or arrays, or lists) that can be moved as a whole.

    Values may be nested: tuples, lists and batches. torch and JAX take it as they take a dict
    (a pytree): ``torch.func``, ``torch.export``, ``jax.jit``, ``jax.tree.map`` and others return a
    Batch again.

    Notes
    -----
    The class is registered with either library by the first Batch that is made after its import.

    Examples
    --------
    >>> import tightbatch as tb
    >>> batch = tb.PadCollator()([{"input_ids": [5, 6]}, {"input_ids": [7]}])
    >>> batch
    Batch(input_ids: int64 [2, 2], attention_mask: int64 [2, 2])
    >>> batch.to("cpu")["input_ids"]
    tensor([[5, 6],
            [7, 0]])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        dict.__init__(self, *args, **kwargs)
        if pytree.waiting and not pytree.is_compiling() and len(modules) != pytree.seen:
            pytree.register_imported()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make a subclass a pytree too."""
        super().__init_subclass__(**kwargs)
        pytree.add(cls)

    def __reduce__(self) -> Any:
        """Pickle and copy it by its entries, so that a process that reads it registers it too."""
        return type(self), (dict(self),), vars(self) or None

    def __repr__(self) -> str:
        """Show keys, types and shapes; of anything but tensors, arrays and lists, the value."""
        return _show(self, MOST_LEVELS)

    def __or__(self, other: Any) -> Any:
        """Give a batch of the entries of both; those of ``other`` win."""
        return self._like({**self, **other}) if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        """Give a batch of the entries of both; those of this batch win."""
        return self._like({**other, **self}) if isinstance(other, dict) else NotImplemented

    def copy(self) -> Any:
        """Copy the batch, but not its tensors."""
        return self._like(self)

    def _like(self, values: dict[Any, Any]) -> Any:
        return plain_type(type(self))(values)

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """Move the tensors to a device, in place, and return the batch.

        Parameters
        ----------
        device : torch.device, str or int
            The target, as for ``torch.Tensor.to``.
        non_blocking : bool
            Do not wait for the copies, if the memory is pinned.

        Returns
        -------
        Batch
            This batch, so that both ``batch.to(device)`` and ``batch = batch.to(device)`` work,
            as with transformers' BatchEncoding. Tensors in nested batches, tuples and lists are
            moved too.
        """
        waits_not = _core.read_flag("Batch.to", "non_blocking", non_blocking)
        return self._replace("to", lambda tensor: tensor.to(device, non_blocking=waits_not))

    def pin_memory(self, device: Any = None) -> Batch:
        """Pin the tensors' memory, in place, and return the batch.

        A DataLoader with ``pin_memory=True`` calls it. It raises the errors of
        ``torch.Tensor.pin_memory``, for example a RuntimeError if there is no accelerator.
        """
        pin = (lambda t: t.pin_memory()) if device is None else (lambda t: t.pin_memory(device))
        return self._replace("pin_memory", pin)

    def plot(
        self,
        *,
        before: Any = None,
        group: str | None = None,
        ax: Any = None,
        theme: Theme = "auto",
    ) -> Any:
        """Draw its rows by positions: see :func:`tightbatch.plot_batch`.

        Parameters
        ----------
        before, group, ax, theme
            As for that function.

        Returns
        -------
        matplotlib Figure
        """
        from .picture import draw

        return draw("Batch.plot", self, before, group, ax, theme)

    def _replace(self, name: str, function: Callable[[Any], Any]) -> Batch:
        import torch

        for key, value in self.items():
            if isinstance(value, torch.Tensor):
                self[key] = function(value)
            elif isinstance(value, (dict, list, tuple)):
                try:
                    self[key] = _replaced(value, function, torch.Tensor, MOST_LEVELS - 1)
                except _TooDeep:
                    raise too_deep(at(f"Batch.{name}", key)) from None
        return self


class _TooDeep(Exception):
    pass


def _replaced(value: Any, function: Callable[[Any], Any], tensor: type, levels: int) -> Any:
    """Do the same inside a nested value, which has at most so many levels."""
    if isinstance(value, tensor):
        return function(value)
    if not isinstance(value, (dict, list, tuple)):
        return value
    if levels == 0:
        raise _TooDeep
    if isinstance(value, Batch):
        for key, part in value.items():
            value[key] = _replaced(part, function, tensor, levels - 1)
        return value
    if type(value) is dict:
        return {key: _replaced(part, function, tensor, levels - 1) for key, part in value.items()}
    if isinstance(value, dict) or all(isinstance(part, str) for part in value):
        return value
    parts = [_replaced(part, function, tensor, levels - 1) for part in value]
    if type(value) in (list, tuple):
        return type(value)(parts)
    return value._make(parts) if hasattr(value, "_make") else value


def _show(batch: Batch, levels: int) -> str:
    """Show a batch, and those in it to so many levels: one may be in itself."""
    name = type(batch).__name__
    if levels == 0:
        return f"{name}(...)"
    parts = (f"{key}: {_describe(value, levels - 1)}" for key, value in batch.items())
    return f"{name}({', '.join(parts)})"


def _describe(value: Any, levels: int) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        text = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        device = str(getattr(value, "device", "cpu"))
        return text if device == "cpu" else f"{text} on {device}"
    if isinstance(value, Batch):
        return _show(value, levels)
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}"
    return _core.show(value)


pytree.add(Batch)
