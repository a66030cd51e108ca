"""half_report: what float16 and bfloat16 would lose of arrays, tensors and whole models."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._html import paragraphs, table
from .._words import counted
from ..plots.style import Theme, check_place
from .conversion import Index, unravel
from .tensors import (
    SUFFIXES,
    children,
    is_path,
    is_tensor,
    open_file,
    read,
    refuse_directory,
    walk,
)

__all__ = ["HalfLoss", "HalfReport", "TensorReport", "half_report"]

_ROWS = 30  # shown as text
# Numbers from half a step above the largest on overflow: as fractions of the next power of two.
_LIMITS = {"float16": (16, 65520 / 65536), "bfloat16": (128, 1 - 2.0**-9)}


class HalfLoss(NamedTuple):
    """What one half type would lose of one tensor.

    Attributes
    ----------
    overflowed : int
        Finite numbers that would be infinite.
    flushed : int
        Numbers other than zero that would be zero.
    subnormal : int
        Numbers so close to zero that they would have fewer digits than others.
    exact : int
        Numbers that would keep their value.
    first_overflowed, first_flushed : tuple of index
        Where the first of them are, at most five. max_abs_error, max_rel_error, max_ulp_error :
        float or None The largest |x - converted|; the same divided by |x|; the same in steps of the
        type. These and `sqnr_db` are for the numbers that stay finite; None without
        ``errors=True``.
    sqnr_db : float or None
        Signal to quantisation noise, 10 log10(sum(x**2) / sum((x - converted)**2)), in decibels;
        infinity if nothing is lost, or only what is too small to square in float64; None if no
        number stays finite.
    safe_scale : float
        The largest power of two (up to 2**127) by which all finite numbers can be multiplied
        without an overflow.
    """

    overflowed: int
    flushed: int
    subnormal: int
    exact: int
    first_overflowed: tuple[Index, ...]
    first_flushed: tuple[Index, ...]
    max_abs_error: float | None
    max_rel_error: float | None
    max_ulp_error: float | None
    sqnr_db: float | None
    safe_scale: float


class TensorReport(NamedTuple):
    """What a report says of one tensor.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype : str
    size : int
        All numbers.
    nan, infinite : int
    first_nan, first_infinite : tuple of index
        Where the first five of them are, at most.
    largest, smallest : float
        The largest and the smallest finite magnitude above zero; 0.0 if there is none.
    zero : int or None
        None without ``histogram=True``.
    exponents : ndarray of int64, shape [256], or None
        How many finite numbers other than zero have the binary exponent -127 (and all below), -126,
        ... 127, 128 (and all above).
    float16, bfloat16 : HalfLoss
    """

    name: str
    shape: Index
    dtype: str
    size: int
    nan: int
    infinite: int
    first_nan: tuple[Index, ...]
    first_infinite: tuple[Index, ...]
    largest: float
    smallest: float
    zero: int | None
    exponents: NDArray[np.int64] | None
    float16: HalfLoss
    bfloat16: HalfLoss

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in its own type."""
        return self.size * {"float64": 8, "float32": 4}.get(self.dtype, 2)

    @property
    def half_nbytes(self) -> int:
        """Bytes of the tensor in either half type."""
        return self.size * 2

    def risk(self, dtype: str = "float16") -> tuple[float, float, float]:
        """The sort key of reports: share that overflows, noise to signal, share that is flushed.

        One infinite weight ruins a model. How much a flushed number matters depends on how large it
        is beside the others; noise to signal measures that.
        """
        loss: HalfLoss = getattr(self, dtype)
        size = max(self.size, 1)
        noise = 0.0 if loss.sqnr_db is None else 10 ** (-loss.sqnr_db / 10)
        return loss.overflowed / size, noise, loss.flushed / size

    def __repr__(self) -> str:
        """Show name, type and shape; the fields hold the rest."""
        return f"<TensorReport {self.name!r}: {self.dtype}{list(self.shape)}>"


@dataclass(frozen=True, eq=False)
class HalfReport:
    """What float16 and bfloat16 would lose: the result of :func:`half_report`.

    A sequence of `TensorReport`, the one with the highest risk in float16 first. A name works as an
    index too.

    Attributes
    ----------
    tensors : tuple of TensorReport
    others : dict of str to str
        Entries that were left out, and why: their type, if it is not a floating type; or the entry
        that they share memory with (tied weights) or are the same as.

    Examples
    --------
    >>> import numpy as np, tightbatch as tb
    >>> report = tb.half_report({"weight": np.float32([0.1, 1e5]), "bias": np.float32([0.5])})
    >>> report["weight"].float16.first_overflowed, report["weight"].bfloat16.overflowed
    (((1,),), 0)
    >>> report.nbytes, report.half_nbytes
    (12, 6)
    """

    tensors: tuple[TensorReport, ...]
    others: dict[str, str]

    def __len__(self) -> int:
        """The number of tensors."""
        return len(self.tensors)

    def __iter__(self) -> Iterator[TensorReport]:
        """The tensors, the highest risk first."""
        return iter(self.tensors)

    def __getitem__(self, key: int | str) -> TensorReport:
        """Give a tensor by its position or its name."""
        if isinstance(key, str):
            for tensor in self.tensors:
                if tensor.name == key:
                    return tensor
            names = [tensor.name for tensor in self.tensors]
            raise KeyError(f"HalfReport(): key={key!r:.100}; expected one of {names[:20]}")
        return self.tensors[_core.read_index("HalfReport", "key", key, len(self.tensors))]

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name."""
        return any(tensor.name == name for tensor in self.tensors)

    @property
    def size(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors in their own types."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def half_nbytes(self) -> int:
        """Bytes of all tensors in either half type."""
        return sum(tensor.half_nbytes for tensor in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, strings and lists, for JSON; None where JSON has no number.

        `sqnr_db` is None if nothing is lost (`exact` tells), and if no number stays finite.
        """
        return {
            "size": self.size,
            "nbytes": self.nbytes,
            "half_nbytes": self.half_nbytes,
            "tensors": [_as_plain(tensor) for tensor in self.tensors],
            "others": dict(self.others),
        }

    def __str__(self) -> str:
        """The summary, and a line for each tensor."""
        table = [list(_HEADER), *(_cells(tensor) for tensor in self.tensors[:_ROWS])]
        widths = [max(len(row[column]) for row in table) for column in range(len(_HEADER))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        return "\n".join([self._summary(), "", *lines, *self._rest(), "", *_LEGEND])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        after = paragraphs((*self._rest(), " ".join(_LEGEND)))
        shown = table(_HEADER, map(_cells, self.tensors[:_ROWS]))
        return paragraphs([self._summary()]) + shown + after + self._picture()

    def _picture(self) -> str:
        """The plot, for HTML; nothing if there are no exponents or no matplotlib."""
        from ..plots.inline import inline

        if any(tensor.exponents is None for tensor in self.tensors):
            return ""
        return inline(lambda: self._draw(None, "both"))

    def _summary(self) -> str:
        return (
            f"{counted(len(self), 'tensor')} of {self.size:,} "
            f"{'number' if self.size == 1 else 'numbers'}: {self.nbytes:,} bytes, "
            f"{self.half_nbytes:,} in half precision"
        )

    def _rest(self) -> list[str]:
        lines = []
        if len(self) > _ROWS:
            lines.append(f"... and {len(self) - _ROWS} tensors of less risk")
        if self.others:
            some = ", ".join(f"{name} ({dtype})" for name, dtype in list(self.others.items())[:5])
            lines.append(f"left out: {some}{', ...' * (len(self.others) > 5)}")
        return lines

    def plot(self, ax: Any = None) -> Any:
        """Draw the exponents of all numbers, and the windows of the two types.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure's otherwise.

        Returns
        -------
        matplotlib Figure

        Raises
        ------
        ValueError
            When the report was made with ``histogram=False``.
        ImportError
            When matplotlib is not installed.
        """
        check_place("HalfReport.plot", ax, "auto")
        return self._draw(ax, "auto")

    def _draw(self, ax: Any, theme: Theme) -> Any:
        from ..plots.exponents import plot_exponents

        total = np.zeros(256, np.int64)
        for tensor in self.tensors:
            if tensor.exponents is None:
                raise ValueError("HalfReport.plot(): made with histogram=False; make it with True")
            total += tensor.exponents
        return plot_exponents(total, ax=ax, theme=theme)


_HEADER = (
    "tensor", "type", "numbers", "largest", "smallest", "nan/inf",
    "fp16: overflow", "to zero", "subnormal", "SQNR dB", "safe scale",
    "bf16: overflow", "to zero", "SQNR dB",
)  # fmt: skip
_LEGEND = (
    "From the most endangered in float16 on. Largest and smallest magnitude above zero; overflow:",
    "finite numbers that would be infinite; to zero: others than zero that would be; subnormal: of",
    "fewer digits than the rest; SQNR: signal to rounding noise; safe scale: the largest power of",
    "two times which nothing overflows.",
)


def _cells(tensor: TensorReport) -> list[str]:
    f16, bf16 = tensor.float16, tensor.bfloat16
    return [
        "".join(c if c.isprintable() else "?" for c in tensor.name),
        f"{tensor.dtype}{list(tensor.shape)}",
        f"{tensor.size:,}",
        f"{tensor.largest:.3g}",
        f"{tensor.smallest:.3g}",
        f"{tensor.nan + tensor.infinite:,}",
        f"{f16.overflowed:,}",
        f"{f16.flushed:,}",
        f"{f16.subnormal:,}",
        _decibels(f16, tensor),
        f"2**{math.frexp(f16.safe_scale)[1] - 1}",
        f"{bf16.overflowed:,}",
        f"{bf16.flushed:,}",
        _decibels(bf16, tensor),
    ]


def _decibels(loss: HalfLoss, tensor: TensorReport) -> str:
    if loss.exact == tensor.size - tensor.nan:
        return "exact"
    return "" if loss.sqnr_db is None else f"{loss.sqnr_db:.1f}"


def _as_plain(value: Any) -> Any:
    if isinstance(value, (HalfLoss, TensorReport)):
        return {name: _as_plain(item) for name, item in value._asdict().items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [_as_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def half_report(x: Any, *, errors: bool = True, histogram: bool = True) -> HalfReport:
    """Report what each of some tensors would lose as float16 and as bfloat16.

    Each tensor is read once; nothing is converted or kept.

    Parameters
    ----------
    x : array, CPU tensor, module, container of them, or path
        float64, float32, float16 or bfloat16; arrays may be NumPy's, JAX's, or HDF5 datasets. Of
        modules and optimizers the ``state_dict`` is read. Mappings, lists, tuples, dataclasses and
        HDF5 groups are walked, however deep: a tensor is called by the keys that lead to it, such
        as "model.layer.weight" or "state.0.exp_avg". What else is in them, or shares memory with an
        entry before it, or is sparse, is named and left out. Files (.safetensors, or what
        ``safe_open`` opened; .pt, .pth, .bin and .ckpt of torch, without running code of theirs;
        .npz, .npy; .h5, .hdf5) are read tensor by tensor.
    errors : bool
        Also measure errors and SQNR. Counts alone take a small part of the time.
    histogram : bool
        Also count the exponents, which `HalfReport.plot` draws.

    Returns
    -------
    HalfReport

    Raises
    ------
    TypeError
        When x, or an entry that holds floats, is not on the CPU; when x is something else or does
        not hold floats.
    FileNotFoundError
        When there is no such file.
    IsADirectoryError
        When the path is a directory's; it names the files in it.
    ValueError
        When a file of torch holds other objects than tensors and plain containers.

    Notes
    -----
    float16 is binary16 of IEEE 754-2019, rounded to nearest. Errors are measured in float64. An
    error of half a step (`max_ulp_error` 0.5) is normal rounding; `flushed`, `overflowed` and a low
    SQNR show that more is lost. P. Micikevicius et al., "Mixed precision training" (2018), section
    3.2, has the histogram for gradients.

    Examples
    --------
    >>> import numpy as np, tightbatch as tb
    >>> loss = tb.half_report(np.float32([1e-9, 0.1, 1.0]))[0].float16
    >>> loss.flushed, loss.first_flushed, loss.exact, loss.safe_scale
    (1, ((0,),), 1, 32768.0)
    >>> checkpoint = {"model": {"layer.weight": np.float32([0.1])}, "epoch": 3}
    >>> report = tb.half_report(checkpoint)
    >>> [tensor.name for tensor in report], report.others
    (['model.layer.weight'], {'epoch': 'int'})
    """
    refuse_directory(x)
    if is_path(x):
        with open_file(x) as source:
            return _report(source, errors, histogram)
    return _report(x, errors, histogram)


def _report(x: Any, errors: bool, histogram: bool) -> HalfReport:
    is_one = hasattr(x, "dtype") and not hasattr(x, "state_dict")
    if is_one or isinstance(x, (memoryview, bytes, bytearray)):
        array = read(x) if is_tensor(x) else x
        return HalfReport((_survey("", None, array, errors, histogram),), {})
    if children(x) is None:
        raise TypeError(
            f"half_report(): x has type {type(x).__name__}; expected an array, a CPU tensor, a "
            "module, a mapping or list of them (a state_dict, a checkpoint), or the path of a "
            f"file of them that ends in {', '.join(SUFFIXES)}"
        )
    found, others = [], {}
    for name, value, reason in walk(x):
        if reason:
            others[name] = reason
        else:
            found.append(_survey(name, name, value, errors, histogram))
    found.sort(key=TensorReport.risk, reverse=True)
    return HalfReport(tuple(found), others)


def _survey(name: str, key: Any, x: Any, errors: bool, histogram: bool) -> TensorReport:
    dtype, counted = _core.half_loss("half_report", key, x, errors, histogram)
    size, zero, nan, infinite, largest, fraction_and_power, smallest, exponents, losses = counted
    shape = tuple(int(size) for size in np.shape(x))
    return TensorReport(
        name=name,
        shape=shape,
        dtype=dtype,
        size=size,
        nan=nan[0],
        infinite=infinite[0],
        first_nan=_indices(nan[1], shape),
        first_infinite=_indices(infinite[1], shape),
        largest=largest,
        smallest=smallest,
        zero=zero if histogram else None,
        exponents=exponents if histogram else None,
        float16=_loss("float16", losses, fraction_and_power, shape, errors),
        bfloat16=_loss("bfloat16", losses, fraction_and_power, shape, errors),
    )


def _loss(
    dtype: str, losses: Any, fraction_and_power: tuple[float, int], shape: Index, errors: bool
) -> HalfLoss:
    overflowed, flushed, subnormal, exact, signal, noise, *maxima = losses[dtype]
    sqnr = None
    if noise > 0 and signal > 0:
        sqnr = 10 * (math.log10(signal) - math.log10(noise))
    elif noise == 0 and (signal > 0 or not (overflowed[0] or flushed[0])):
        sqnr = math.inf
    return HalfLoss(
        overflowed=overflowed[0],
        flushed=flushed[0],
        subnormal=subnormal,
        exact=exact,
        first_overflowed=_indices(overflowed[1], shape),
        first_flushed=_indices(flushed[1], shape),
        max_abs_error=maxima[0] if errors else None,
        max_rel_error=maxima[1] if errors else None,
        max_ulp_error=maxima[2] if errors else None,
        sqnr_db=sqnr if errors else None,
        safe_scale=_safe_scale(*fraction_and_power, *_LIMITS[dtype]),
    )


def _safe_scale(fraction: float, power: int, exponent: int, limit: float) -> float:
    """The safe scale for the largest magnitude, fraction * 2**power."""
    if fraction == 0:
        return 1.0
    return math.ldexp(1.0, min(exponent - power - (fraction >= limit), 127))


def _indices(places: Any, shape: Index) -> tuple[Index, ...]:
    return tuple(unravel(place, shape) for place in places) if places else ()
