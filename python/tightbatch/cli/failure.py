"""Errors that the user can correct, and what is said of them: one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

MOST = 300  # characters of what others say


class CommandError(Exception):
    """An error that the user can correct; its text is printed as one line."""


def one_line(value: object, most: int = MOST) -> str:
    """The text of a value on one line that can be printed, cut if it is long."""
    text = " ".join(str(value).split())
    text = text.encode(errors="backslashreplace").decode()
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= most else text[: most - 3] + "..."


def shown(path: str | os.PathLike[str]) -> str:
    """A path as it can be printed: names of files need not be UTF-8."""
    return one_line(os.fsencode(path).decode(errors="backslashreplace"))


def explain(error: Exception) -> str | None:
    """What to say of an error; None of one that is nobody's but this library's."""
    if isinstance(error, CommandError):
        return one_line(error, 2000)
    if isinstance(error, MemoryError):
        return "out of memory: try a smaller file, or --column for one column"
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{shown(error.filename)}: "
        return f"{place}{one_line(error.strerror or error)}"
    told = getattr(error, "format_message", None)  # typer's and click's, of options
    if callable(told):
        return f"{one_line(told()).removesuffix('.')} (see --help)"
    return None


def need(*packages: str) -> None:
    """Raise CommandError when a package that this run needs is not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise CommandError(
            f"{' and '.join(missing)} {verb} not installed: "
            f"python -m pip install {' '.join(missing)}"
        )


def not_utf8(byte: int) -> str:
    """Say that text is not UTF-8, and how to make it so."""
    return f"not UTF-8 text: byte {byte:#04x}; convert it, as iconv -f WINDOWS-1252 -t UTF-8 does"


@contextmanager
def reading(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Say of every error which file it is of; readers raise many kinds for a damaged one."""
    try:
        yield
    except (CommandError, MemoryError, GeneratorExit):
        raise
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise CommandError(f"{shown(path)}: {not_utf8(byte)}") from None
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
            raise CommandError(f"{shown(path)}: {one_line(reason)}") from None
        raise CommandError(f"{shown(path)}: not readable as {kind}: {one_line(reason)}") from None


@contextmanager
def calling(**options: str) -> Iterator[None]:
    """Turn what a function of the library says of its arguments into what the command says.

    ``calling(batch_size="--batch-size")`` calls settings by the names of options.
    """
    try:
        yield
    except (TypeError, ValueError, KeyError, IndexError, OverflowError, ImportError) as error:
        text = str(error.args[0]) if error.args else str(error)
        name, found, rest = text.partition("(): ")
        text = rest if found and name.replace(".", "").isidentifier() else text
        for setting, option in options.items():
            text = text.replace(f"{setting}=", f"{option} ")
            if "_" in setting:
                text = re.sub(rf"\b{setting}\b", option, text)
        raise CommandError(text) from None


def suggest(name: str, names: Any) -> str:
    """The names that there are, with the nearest first if one is near."""
    from difflib import get_close_matches

    names = list(map(str, names))
    near = get_close_matches(name, names, 1)
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return (f"did you mean {near[0]}? " if near else "") + f"there are: {listed or 'none'}"
