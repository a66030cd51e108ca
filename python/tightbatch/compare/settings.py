"""What was asked for, and the checks that need no heavy import."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path


class CompareError(Exception):
    """A failure the user can act on; its text is the one line that is printed."""


@dataclass(frozen=True)
class Settings:
    """The options of one run, with every default filled in."""

    data: Path | None
    text_column: str
    label_column: str | None  # None: "label" if there is one, else the quarter of the file
    rows: int  # 0: all
    model: str | None
    max_length: int | None
    epochs: int
    batch_size: int
    buckets: int  # boundaries of the optimal buckets
    capacity: int | None  # tokens in a pack; None: as wide as fixed padding
    pad_to_multiple_of: int | None
    shuffle_window: int | str | None  # as LengthBatchSampler takes it; None: all rows
    learning_rate: float | None
    seed: int
    device: str
    quick: bool
    json: Path | None
    plot: Path | None


def check_packages(settings: Settings) -> None:
    """Raise CompareError when a package that this run needs is not installed."""
    needed = ["torch", "transformers", "tokenizers", "rich"]
    if settings.plot is not None:
        needed.append("matplotlib")
    if settings.data is not None and settings.data.suffix.lower() in (".csv", ".parquet"):
        needed.append("pyarrow")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise CompareError(f'{" and ".join(missing)} not installed: pip install "tightbatch[demo]"')


def check_output(path: Path | None, option: str) -> None:
    """Raise CompareError when `path` could not be written; an existing file stays as it is."""
    if path is None:
        return
    if path.is_dir():
        raise CompareError(f"{option} {path}: is a directory")
    existed = path.exists()
    try:
        # Only an attempt tells: permissions, read-only disks and odd names differ by system.
        with path.open("ab"):
            pass
        if not existed:
            os.unlink(path)
    except OSError as error:
        raise CompareError(f"{option} {path}: cannot be written: {error.strerror}") from None
    if option == "--plot" and path.suffix.lower() != ".png":
        raise CompareError(f"{option} {path}: the plot is a PNG, so the name must end in .png")


def check_outputs(settings: Settings) -> None:
    """Check both output files before any time is spent on training."""
    check_output(settings.json, "--json")
    check_output(settings.plot, "--plot")
