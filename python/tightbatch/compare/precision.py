"""Automatic mixed precision: which half type this hardware has, and why that one."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Precision:
    """How a strategy computes: in float32, or under autocast in a half type."""

    device: str
    half: str | None  # "bfloat16", "float16"; None: float32 throughout
    reason: str = ""
    native: bool = True  # False: the hardware emulates the half type, so expect no gain

    @property
    def name(self) -> str:
        """The type's name."""
        return self.half or "float32"

    def autocast(self) -> AbstractContextManager[object]:
        """The context that forward passes run in."""
        import torch

        if self.half is None:
            return nullcontext()
        return torch.autocast(self.device, dtype=getattr(torch, self.half))

    def scaler(self) -> torch.amp.GradScaler:
        """A loss scaler: at work for float16, whose small gradients flush to zero, else idle."""
        import torch

        return torch.amp.GradScaler(self.device, enabled=self.half == "float16")


def cpu_flags() -> set[str]:
    """What this CPU can do with half types, as far as can be told."""
    import torch

    flags: set[str] = set()
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.11
    if capabilities is not None:
        flags |= {name for name, has in capabilities().items() if has is True}
    info = Path("/proc/cpuinfo")
    if platform.system() == "Linux" and info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.lower().startswith(("flags", "features")):
                return flags | set(line.split(":", 1)[1].split())
    return flags


def mixed_precision(device: str) -> Precision:
    """The half type that suits the hardware.

    Parameters
    ----------
    device : str
        A torch device type, "cpu" or "cuda".

    Returns
    -------
    Precision
        bfloat16 where the hardware computes in it; float16 on a GPU that does not; bfloat16
        with a note on a CPU that does not, as float16 is several times slower still there.
    """
    import torch

    if device == "cuda":
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision(device, "bfloat16", f"{name} computes in bfloat16")
        return Precision(device, "float16", f"{name} has no bfloat16; with a loss scaler")
    if device == "cpu":
        flags = cpu_flags()
        for flag in ("amx_bf16", "avx512_bf16", "bf16"):
            if flag in flags:
                return Precision(device, "bfloat16", f"this CPU has {flag}")
        return Precision(
            device,
            "bfloat16",
            "this CPU has no half arithmetic: emulated, expect it slower than float32 "
            "(float16 would be slower still)",
            native=False,
        )
    return Precision(device, "float16", f"the usual half type on {device}; with a loss scaler")
