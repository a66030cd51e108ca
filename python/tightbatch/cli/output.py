"""What commands print and write: reports, files, progress."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..sampling.plan_file import replacing
from .failure import CommandError, one_line, shown


def say(text: str) -> None:
    """Print a line; what the terminal cannot show is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, errors="backslashreplace").decode(encoding))


def many(count: int, noun: str) -> str:
    """Write a number and what is counted: "1 row", "2,000 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def show_report(report: Any) -> None:
    """Print a report: in colours in a terminal, as plain text in a pipe or a file."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(report)
    else:
        say(str(report))


def check_output(path: Path | None, option: str) -> None:
    """Raise CommandError if `path` could not be written, before the work is done."""
    if path is None or str(path) == "-":
        return
    if path.is_dir():
        raise CommandError(f"{option} {shown(path)}: is a directory")
    folder = path.parent
    if not folder.is_dir():
        raise CommandError(f"{option} {shown(path)}: there is no directory {shown(folder)}")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK):
        raise CommandError(f"{option} {shown(path)}: cannot be written: no permission")
    if option == "--plot" and path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise CommandError(f"{option} {shown(path)}: the name must end in .png, .svg or .pdf")


def write_json(found: Any, path: Path) -> None:
    """Write figures to a file, or to standard output if it is called "-"."""
    text = json.dumps(found, indent=2, allow_nan=False, default=_plain)
    if str(path) == "-":
        print(text)
        return
    with replacing(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """A NumPy number as Python's."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not for JSON")


def write_plot(figure: Any, path: Path) -> None:
    """Save a figure."""
    try:
        with replacing(path) as beside:
            kind = path.suffix.lower().removeprefix(".")
            figure.savefig(beside, format=kind, dpi=150)
    except OSError as error:
        reason = one_line(error.strerror or error)
        raise CommandError(f"--plot {shown(path)}: cannot be written: {reason}") from None


@contextmanager
def progress(total: int, text: str) -> Iterator[Callable[[int], None]]:
    """Show how much of a long work is done, where somebody sees it; gives what is to be called."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
    )
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(one_line(text, 60), total=max(total, 1))
        yield lambda done: bar.update(task, completed=done)
