"""``tightbatch half-report``: what half precision would lose of a checkpoint."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from ..half.tensors import HDF5, SUFFIXES, TORCH, is_path
from .failure import CommandError, need, no_file, one_line, reading, shown
from .output import check_output, many, say, write_json, write_plot

ROWS = 30  # tensors in a narrow table


def half_report(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help=".safetensors; .pt, .pth, .bin or .ckpt of torch; .npz, .npy; .h5, .hdf5.",
            show_default=False,
        ),
    ],
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the exponents of all numbers: .png, .svg, .pdf."),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every figure to FILE; - prints JSON alone."),
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors/--counts", help="Measure errors too, or only count.")
    ] = True,
) -> None:
    """Show what float16 and bfloat16 would lose of each tensor of a checkpoint.

    Nothing is converted, and no code of the file is run.
    """
    check_output(plot, "--plot")
    check_output(json, "--json")
    if plot is not None:
        need("matplotlib")
    report = _read(checkpoint, errors, plot is not None or json is not None)
    if str(json) != "-":
        for dtype in ("float16", "bfloat16"):
            say(_summary(report, dtype))
        say("")
        _show(report)
    if json is not None:
        write_json(report.to_dict(), json)
    if plot is not None:
        write_plot(report.plot(), plot)


def _read(path: Path, errors: bool, histogram: bool) -> Any:
    from .. import half_report

    place = shown(path)
    if not path.exists():
        raise no_file(path, is_path)
    suffix = path.suffix.lower()
    if path.is_file():
        if not is_path(path):
            raise CommandError(f"{place}: the name must end in {', '.join(SUFFIXES)}")
        if not path.stat().st_size:
            raise CommandError(f"{place}: is empty")
        need(*{".safetensors": ["safetensors"]}.get(suffix, []))
        need(*["torch"] if suffix in TORCH else ["h5py"] if suffix in HDF5 else [])
    try:
        with reading(path, suffix.removeprefix(".")), _waiting(f"reading {path.name}"):
            _check_torch(path)
            report = half_report(path, errors=errors, histogram=histogram)
    except CommandError as error:
        text = str(error)
        if "holds Python objects" in text:
            text = f"{place}: holds Python objects, not tensors alone; to load them runs their code"
        elif found := re.search(r"x: found dtype (\S+);", text):
            text = _no_floats(place, [found[1]])
        elif "half_report(): " in text:
            told = text.split("half_report(): ", 1)[1]
            text = f"{place}: {re.sub(r'^x=.*? is ', 'is ', told)}"
        raise CommandError(text) from None
    if not len(report):
        raise CommandError(_no_floats(place, report.others.values()))
    return report


def _no_floats(place: str, found: Iterable[str]) -> str:
    """Say what a file holds that is nothing to report."""
    kinds = [one_line(kind, 40) for kind in dict.fromkeys(found)]
    names = ", ".join(kinds[:5]) + (", ..." if len(kinds) > 5 else "")
    return f"{place}: holds no tensor of floats; found {names or 'nothing'}"


def _check_torch(path: Path) -> None:
    """Refuse what no file of torch begins with; torch says odd things of it."""
    if path.suffix.lower() not in TORCH or not path.is_file():
        return
    with path.open("rb") as file:
        first = file.read(8)
    if not first.startswith((b"PK\x03\x04", b"\x80")):  # a zip archive; pickles, before torch 1.6
        raise CommandError(
            f"{shown(path)}: not readable as {path.suffix[1:]}: it begins with {repr(first)[1:]}, "
            "as no file of torch.save does"
        )


def _show(report: Any) -> None:
    """Print the report; in a terminal too narrow for it, fewer columns."""
    text = str(report)
    width = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or max(map(len, text.splitlines())) <= width:
        say(text)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("tensor", overflow="fold")
    for name in ("numbers", "fp16: inf", "zero", "SQNR dB", "bf16: inf", "zero", "SQNR dB"):
        table.add_column(name, justify="right")
    for tensor in report.tensors[:ROWS]:
        cells = []
        for loss in (tensor.float16, tensor.bfloat16):
            noise = "" if loss.sqnr_db is None else f"{loss.sqnr_db:.1f}"
            cells += [f"{loss.overflowed:,}", f"{loss.flushed:,}", noise]
        table.add_row(Text(one_line(tensor.name)), f"{tensor.size:,}", *cells)
    Console().print(table)
    rest = len(report) - ROWS
    if rest > 0:
        say(f"... and {many(rest, 'tensor')} of less risk; --json FILE has all")


def _waiting(text: str) -> Any:
    """Show that something goes on, where somebody sees it."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.text import Text

    return Console(stderr=True).status(Text(one_line(text, 60)))


def _summary(report: Any, dtype: str) -> str:
    """What a type would lose, in a sentence."""
    losses = [getattr(tensor, dtype) for tensor in report]
    told = []
    for field, end in (("overflowed", "would be infinite"), ("flushed", "would be zero")):
        tensors = sum(getattr(loss, field) > 0 for loss in losses)
        numbers = sum(getattr(loss, field) for loss in losses)
        if tensors:
            which = f"{tensors:,} of {many(len(losses), 'tensor')}"
            told.append(f"{many(numbers, 'number')} in {which} {end}")
    return f"{dtype}: {'; '.join(told) or 'no number would be infinite or zero'}."
