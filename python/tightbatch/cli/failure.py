"""Errors that the user can correct, and what is said of them: one line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MOST = 300  # characters of what others say
NEAR = 0.75  # how like a name must be to be suggested


class CommandError(Exception):
    """An error that the user can correct; its text is printed as one line."""


class RowError(CommandError):
    """An error in one row of those that a function was given; `row` is counted from 0."""

    def __init__(self, row: int, text: str) -> None:
        super().__init__(text)
        self.row = row


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


def not_utf8(byte: int, is_file_of_text: bool = True) -> str:
    """Say that text is not UTF-8, and how to make it so."""
    hint = "convert it, as iconv -f WINDOWS-1252 -t UTF-8 does" if is_file_of_text else "decode it"
    return f"not UTF-8 text: byte {byte:#04x}; {hint}"


def _reason(error: Exception) -> str:
    """Why a file could not be read, as its reader says it, if that tells a user something."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    text = one_line(reason)
    # A bare number or key says nothing; NumPy takes a file that it does not know for a pickle.
    says_nothing = isinstance(error, LookupError | EOFError) or "allow_pickle" in text
    if says_nothing or not re.search(r"[^\W\d_]{3}", text):
        return "it is cut off or damaged, or a file of another kind"
    return text


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
        if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
            raise CommandError(f"{shown(path)}: {_reason(error)}") from None
        raise CommandError(f"{shown(path)}: not readable as {kind}: {_reason(error)}") from None


@contextmanager
def calling(where: Callable[[int], str] | None = None, /, **options: str) -> Iterator[None]:
    """Turn what a function of the library says of its arguments into what the command says.

    ``calling(batch_size="--batch-size")`` calls settings by the names of options. ``where`` says
    of a row in which file it is.
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
            text = text.replace(f"a larger {setting}", f"a larger {option}")
            # What is typed needs no quotation marks.
            choices = rf"(?:pass|or) {option} '\w+'(?:(?:, | or )'\w+')*"
            text = re.sub(choices, lambda found: found[0].replace("'", ""), text)
        if where is not None:
            text = re.sub(r"^(?:data, )?row (\d+)\b:?", lambda m: f"{where(int(m[1]))}:", text)
        raise CommandError(text) from None


def with_article(noun: str) -> str:
    """Write a name with its article: "an int"."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def no_file(path: Path, fits: Callable[[Path], Any]) -> CommandError:
    """Say that a path is not there, and which one may be meant, of those that fit."""
    from difflib import get_close_matches

    stems: dict[str, list[str]] = {}
    if path.parent.is_dir():
        for one in path.parent.iterdir():
            if fits(one):
                stems.setdefault(one.stem, []).append(one.name)
    # Endings are alike in most names of a folder: they say nothing, except of equal stems.
    near = get_close_matches(path.stem, stems, 1, NEAR)
    if not near:
        return CommandError(f"{shown(path)}: no such file or directory")
    (name,) = get_close_matches(path.name, stems[near[0]], 1, 0)
    meant = shown(path.parent / name)
    return CommandError(f"{shown(path)}: no such file or directory; did you mean {meant}?")


def suggest(name: str, names: Any) -> str:
    """The names that there are, with the nearest first if one is near."""
    from difflib import get_close_matches

    names = list(map(str, names))
    near = get_close_matches(name, names, 1, NEAR)
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return (f"did you mean {near[0]}? " if near else "") + f"there are: {listed or 'none'}"
