"""The command ``tightbatch``, also ``python -m tightbatch``.

The files, each using only those above it:

__init__    which command runs; exit codes; one line for every failure
failure     errors that the user can correct
output      what is printed and written; progress
arrow       the lengths that a column of Arrow has
lines       text and JSON, a row on a line
tokens      arrays and files of token numbers
sources     files and folders of all kinds, as blocks of columns
tokenizer   text to tokens
places      in which file and line a row is
rows        which column is meant, and how long its rows are
...         a file for each command, which reads its options
app         all commands, and their help

``import tightbatch`` imports nothing of this.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec

NEEDED = ("typer", "rich")


def main(options: Sequence[str] | None = None) -> int:
    """Run the command line, and print one line for every failure.

    Parameters
    ----------
    options : sequence of str, optional
        The command line after the program's name; ``sys.argv[1:]`` when None.

    Returns
    -------
    int
        The exit code: 0 done, 1 a check found faults, 2 bad input, 130 interrupted.
    """
    options = list(sys.argv[1:] if options is None else options)
    if options[:1] == ["compare"]:
        from . import compare

        return _run(compare.run, options, compare.explain, "tightbatch compare")
    if options == ["--version"]:
        from .. import __version__

        print(f"tightbatch {__version__}")
        return 0
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        named = " and ".join(missing)
        verb = "is" if len(missing) == 1 else "are"
        fix = f"python -m pip install {' '.join(missing)} pyarrow"
        print(f"tightbatch: {named} {verb} not installed: {fix}", file=sys.stderr)
        return 2
    from .app import NAMES, run
    from .failure import explain

    name = next((option for option in options if not option.startswith("-")), "")
    program = f"tightbatch {name}" if name in NAMES else "tightbatch"
    return _run(run, options or ["--help"], explain, program)


def _run(
    run: Callable[[list[str]], int],
    options: list[str],
    explain: Callable[[Exception], str | None],
    program: str,
) -> int:
    try:
        answer = run(options)
        sys.stdout.flush()
        return answer
    except BrokenPipeError:  # the reader of the output (head, less) has gone
        silence_output()
        return 0
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    except Exception as error:
        told = explain(error)
        if told is None:  # a mistake of this library's is not hidden
            raise
        code, message = 2, told
        if isinstance(error, OSError):
            silence_output()
    print(f"{program}: {message}", file=sys.stderr)
    return code


def silence_output() -> None:
    """Keep Python from flushing standard output again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
