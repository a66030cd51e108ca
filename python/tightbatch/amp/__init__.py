"""Automatic mixed precision: a training step that avoids the usual mistakes.

``torch.autocast`` and ``torch.amp.GradScaler`` do the work. :class:`Amp` calls them in the right
order, :class:`GradScaler` adds limits, counts and names to torch's, and :func:`choose_precision`
chooses the half type that a device computes in.

It needs torch 2.4 or later. ``import tightbatch`` does not import this module.
"""

try:
    import torch
except ImportError:
    raise ImportError("tightbatch.amp needs torch: python -m pip install torch") from None
if not hasattr(torch, "get_autocast_dtype"):
    raise ImportError(
        f"tightbatch.amp needs torch 2.4 or later, found {torch.__version__}: "
        "python -m pip install --upgrade torch"
    )

from .grad_scaler import GradScaler
from .overflow import Overflow
from .precision import Precision, choose_precision
from .step import Amp

__all__ = ["Amp", "GradScaler", "Overflow", "Precision", "choose_precision"]
