"""The half type that a device computes in, and the reason for the choice."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch

from .. import _core

DTYPES = ("float32", "bfloat16", "float16")
Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
HalfChoice: TypeAlias = Literal["auto"] | Dtype | torch.dtype
# The names of CPU features in Linux and torch. The first that a CPU has is given as the reason.
CPU_FLAGS: dict[Dtype, tuple[str, ...]] = {
    "bfloat16": ("amx_bf16", "avx512_bf16", "bf16"),
    "float16": ("amx_fp16", "avx512_fp16"),
}


@dataclass(frozen=True)
class Precision:
    """The type that a model computes in on a device; :func:`choose_precision` makes it.

    Attributes
    ----------
    device : str
        A torch device type, such as "cuda".
    dtype : str
        "float32", "bfloat16" or "float16".
    reason : str
        Why this type was chosen.
    native : bool
        False if the device only emulates `dtype`; then it is not faster than float32.
    """

    device: str
    dtype: Dtype
    reason: str = ""
    native: bool = True

    def autocast(self) -> AbstractContextManager[object]:
        """Make the context for forward passes; for float32 it does nothing."""
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device, dtype=getattr(torch, self.dtype))


def choose_precision(device: str | torch.device, dtype: HalfChoice = "auto") -> Precision:
    """Choose the half type that suits a device, or float32 if none does.

    Parameters
    ----------
    device : str or torch.device
        The model's device. Only its type matters: for "cuda:1" this is "cuda".
    dtype : {"auto", "float32", "bfloat16", "float16"} or torch.dtype
        With "auto" the function chooses. Any other type is used as given, and the result says
        whether the device computes in it.

    Returns
    -------
    Precision
        With "auto":

        - bfloat16 on a GPU or CPU that computes in it. It has the range of float32: gradients
          neither overflow nor become zero, and no loss scaling is needed.
        - float16, with a loss scaler, on a GPU without bfloat16, and on a CPU that computes in
          float16 but not in bfloat16 (AVX512-FP16 or AMX-FP16).
        - float32 on a CPU that computes in neither. On a CPU with AVX2, which emulates half
          types, they took seven times as long as float32; on a CPU with bfloat16, emulated
          float16 took 35 times as long (a Transformer layer in torch 2.13).
        - On other devices ("mps", "xpu", "hpu") the default type of torch's autocast, or float32
          if torch has no autocast there.

    Raises
    ------
    ValueError
        When torch does not know the device, when `dtype` is another type, or when a half type
        is given for a device on which torch has no autocast.
    TypeError
        When `device` is neither a string nor a torch.device, or `dtype` neither a string nor a
        torch.dtype.

    Examples
    --------
    >>> from tightbatch.amp import choose_precision
    >>> choose_precision("cpu").dtype in ("bfloat16", "float16", "float32")
    True
    >>> choose_precision("meta")
    Precision(device='meta', dtype='float32', reason='torch has no autocast on meta', native=True)
    """
    return choose_for("choose_precision", device, dtype)


def choose_for(function: str, device: Any, dtype: Any) -> Precision:
    """Choose as :func:`choose_precision` does; errors name the function ``function``."""
    kind = _device_type(function, device)
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    given = _core.read_choice(function, "dtype", dtype, ("auto", *DTYPES))
    wanted = None if given == "auto" else cast("Dtype", given)

    if not torch.amp.is_autocast_available(kind):
        reason = f"torch has no autocast on {kind}"
        if wanted in (None, "float32"):
            return Precision(kind, "float32", reason)
        raise ValueError(f"{function}(): dtype={wanted!r}, but {reason}; expected 'float32'")
    reasons, lack = _half_types(kind)
    if wanted is None and not reasons:
        return Precision(kind, "float32", lack)
    if wanted is not None and (wanted == "float32" or kind not in ("cpu", "cuda")):
        return Precision(kind, wanted, "it was asked for")
    half = next(iter(reasons)) if wanted is None else wanted
    if half not in reasons:
        reason = lack if not reasons else f"this device computes in {' and '.join(reasons)} only"
        reason += ": emulated, expect it slower than float32"
        return Precision(kind, half, reason, native=False)
    scaled = "; with a loss scaler" if half == "float16" else ""
    return Precision(kind, half, reasons[half] + scaled)


def _device_type(function: str, device: Any) -> str:
    """Read the type of a device."""
    expected = "expected a torch device, such as 'cuda' or 'cpu'"
    if isinstance(device, torch.device):
        return device.type
    if not isinstance(device, str):
        raise TypeError(f"{function}(): device has type {type(device).__name__}; {expected}")
    try:
        return torch.device(device).type
    except RuntimeError:
        raise ValueError(f"{function}(): device={_core.show(device)}; {expected}") from None


def _half_types(device: str) -> tuple[dict[Dtype, str], str]:
    """Give the half types of a device with reasons, best first, and why there is no other."""
    if device == "cpu":
        flags, reasons = cpu_flags(), dict[Dtype, str]()
        for half, names in CPU_FLAGS.items():
            for flag in names:
                if flag in flags:
                    reasons.setdefault(half, f"this CPU has {flag}")
        return reasons, "this CPU has no half arithmetic"
    if device == "cuda":
        if not torch.cuda.is_available():
            return {}, "torch finds no CUDA device"
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            reason = f"{name} computes in"
            return {"bfloat16": f"{reason} bfloat16", "float16": f"{reason} float16"}, ""
        return {"float16": f"{name} has no bfloat16"}, ""
    dtype = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
    return {cast("Dtype", dtype): f"it is the default of torch's autocast on {device}"}, ""


def cpu_flags() -> set[str]:
    """Give the names of this CPU's features, as far as torch and Linux know them."""
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


def outside_autocast(device: str) -> AbstractContextManager[object]:
    """Make a context in which autocast is off, also inside ``torch.autocast``."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)
