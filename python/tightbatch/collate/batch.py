"""What the collators return: a dict of tensors that can be moved as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import _core

__all__ = ["Batch"]


class Batch(dict[Any, Any]):
    """A batch: a dict of tensors (or arrays, or lists) that can be moved as a whole.

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

    def __repr__(self) -> str:
        """Show keys, types and shapes; of anything but tensors, arrays and lists, the value."""
        parts = (f"{key}: {_describe(value)}" for key, value in self.items())
        return f"{type(self).__name__}({', '.join(parts)})"

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
            as with transformers' BatchEncoding.
        """
        waits_not = _core.read_flag("Batch.to", "non_blocking", non_blocking)
        return self._replace(lambda tensor: tensor.to(device, non_blocking=waits_not))

    def pin_memory(self, device: Any = None) -> Batch:
        """Pin the tensors' memory, in place, and return the batch.

        A DataLoader with ``pin_memory=True`` calls it. It raises the errors of
        ``torch.Tensor.pin_memory``, for example a RuntimeError if there is no accelerator.
        """
        pin = (lambda t: t.pin_memory()) if device is None else (lambda t: t.pin_memory(device))
        return self._replace(pin)

    def _replace(self, function: Callable[[Any], Any]) -> Batch:
        import torch

        for key, value in self.items():
            if isinstance(value, torch.Tensor):
                self[key] = function(value)
        return self


def _describe(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        text = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        device = str(getattr(value, "device", "cpu"))
        return text if device == "cpu" else f"{text} on {device}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}"
    return _core.show(value)
