"""Which half type a device computes in, and what says so."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .._settings import Reader

DTYPES = ("float32", "bfloat16", "float16")
# As Linux and torch call them. The first that a CPU has is the reason given.
CPU_FLAGS = {
    "bfloat16": ("amx_bf16", "avx512_bf16", "bf16"),
    "float16": ("amx_fp16", "avx512_fp16"),
}


@dataclass(frozen=True)
class Precision:
    """What a model computes in on a device; made by :func:`choose_precision`.

    Attributes
    ----------
    device : str
        A torch device type, such as "cuda".
    dtype : str
        "float32", "bfloat16" or "float16".
    reason : str
        Why this type, in words.
    native : bool
        False where the device does not compute in `dtype`, so that no gain is to be expected.
    """

    device: str
    dtype: str
    reason: str = ""
    native: bool = True

    def autocast(self) -> AbstractContextManager[object]:
        """Make the context that forward passes run in; for float32 one that does nothing."""
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device, dtype=getattr(torch, self.dtype))


def choose_precision(device: str | torch.device, dtype: Any = "auto") -> Precision:
    """Choose the half type that suits a device, or float32 where none does.

    Parameters
    ----------
    device : str or torch.device
        Where the model is. Of "cuda:1" the type counts: "cuda".
    dtype : {"auto", "float32", "bfloat16", "float16"} or torch.dtype
        "auto" chooses. A type that is given is taken, and the result says what to expect of it.

    Returns
    -------
    Precision
        With "auto":

        - bfloat16 on a GPU, or a CPU, that computes in it. It has float32's range, so that
          gradients neither overflow nor vanish, and no loss scaling is needed.
        - float16, with a loss scaler, on a GPU without bfloat16, and on a CPU that computes in
          float16 alone (AVX512-FP16 or AMX-FP16), where oneDNN does so too.
        - float32 on a CPU that computes in neither. Emulated on a CPU with AVX2, half types took
          seven times as long as float32, and float16 took 35 times as long on one with
          bfloat16 (a Transformer layer in torch 2.13).
        - Elsewhere ("mps", "xpu", "hpu") the type that torch's autocast takes there unasked, or
          float32 where it has no autocast.

    Raises
    ------
    ValueError
        When torch knows no such device or `dtype` is none of these; or a half type is asked for
        where torch has no autocast.
    TypeError
        When `dtype` is neither a string nor a torch.dtype.

    Examples
    --------
    >>> from tightbatch.amp import choose_precision
    >>> choose_precision("cpu").dtype in ("bfloat16", "float16", "float32")
    True
    >>> choose_precision("meta")
    Precision(device='meta', dtype='float32', reason='torch has no autocast on meta', native=True)
    """
    read = Reader("choose_precision")
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        expected = "expected a torch device, such as 'cuda' or 'cpu'"
        raise read.error(ValueError, f"device={device!r}; {expected}") from None
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    wanted = read.choice("dtype", dtype, ("auto", *DTYPES))

    if not torch.amp.is_autocast_available(kind):
        reason = f"torch has no autocast on {kind}"
        if wanted in ("auto", "float32"):
            return Precision(kind, "float32", reason)
        raise read.error(ValueError, f"dtype={wanted!r}, but {reason}; expected 'float32'")
    reasons, lack = _half_types(kind)
    if wanted == "auto":
        wanted = next(iter(reasons), "float32")
        if wanted == "float32":
            return Precision(kind, wanted, lack)
    elif wanted == "float32" or kind not in ("cpu", "cuda"):
        return Precision(kind, wanted, "it was asked for")
    elif wanted not in reasons:
        reason = lack if not reasons else f"this device computes in {' and '.join(reasons)} only"
        return Precision(
            kind, wanted, f"{reason}: emulated, expect it slower than float32", native=False
        )
    scaled = "; with a loss scaler" if wanted == "float16" else ""
    return Precision(kind, wanted, reasons[wanted] + scaled)


def _half_types(device: str) -> tuple[dict[str, str], str]:
    """Give the half types that a device computes in, best first, with reasons; and the lack."""
    if device == "cpu":
        flags, reasons = cpu_flags(), dict[str, str]()
        for dtype, names in CPU_FLAGS.items():
            for flag in names:
                if flag in flags:
                    reasons.setdefault(dtype, f"this CPU has {flag}")
        return reasons, "this CPU has no half arithmetic"
    if device == "cuda":
        if not torch.cuda.is_available():
            return {}, "torch finds no CUDA device"
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            halves = ("bfloat16", "float16")
            return {half: f"{name} computes in {half}" for half in halves}, ""
        return {"float16": f"{name} has no bfloat16"}, ""
    dtype = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
    return {dtype: f"torch computes in it on {device} unless told otherwise"}, ""


def cpu_flags() -> set[str]:
    """Give what this CPU can do with half types, as far as can be told."""
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
    """Make a context in which autocast is off, whatever is open around it."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)
