"""``tightbatch compare``, which reads its options itself and needs no typer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..compare import CompareError, arguments


def run(options: Sequence[str]) -> int:
    """Run the command; returns 0, or 1 if the padding check failed."""
    settings = arguments(options)  # what is wrong with them is told before anything is imported
    from ..compare.report import compare

    return compare(settings)


def explain(error: Exception) -> str | None:
    """What to say of an error; None of one that is nobody's but this library's."""
    if isinstance(error, CompareError):
        return str(error)
    if isinstance(error, OSError):
        return f"the output cannot be written: {error.strerror or error}"
    no_memory = r"out of memory|not enough memory|can't allocate memory"  # torch's messages
    is_torchs = isinstance(error, RuntimeError) and re.search(no_memory, str(error))
    if isinstance(error, MemoryError) or is_torchs:
        return "out of memory: try a smaller --batch-size, --max-length or --capacity"
    return None
