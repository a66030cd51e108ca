"""The command ``compare``: its exit codes, and one line for every failure."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from tightbatch.compare import CompareError, arguments


def run(options: Sequence[str] | None) -> int:
    """Run the command; returns 0, or 1 if the padding check failed."""
    settings = arguments(options)
    from tightbatch.compare.report import compare

    code = compare(settings)
    sys.stdout.flush()
    return code


def main(options: Sequence[str] | None = None) -> int:
    """Run the command line, and print one line for every failure.

    Parameters
    ----------
    options : sequence of str, optional
        The command line after the program's name, ``compare`` first; ``sys.argv[1:]`` when None.

    Returns
    -------
    int
        The exit code: 0 done, 1 the padding check failed, 2 bad input, 130 interrupted.
    """
    code = 2
    try:
        return run(options)
    except CompareError as error:
        message = str(error)
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    except BrokenPipeError:  # the reader of the output (head, less) has gone
        silence_output()
        return 0
    except OSError as error:
        silence_output()
        message = f"the output cannot be written: {error.strerror or error}"
    except (MemoryError, RuntimeError) as error:
        no_memory = r"out of memory|not enough memory|can't allocate memory"  # torch's messages
        if not isinstance(error, MemoryError) and not re.search(no_memory, str(error)):
            raise
        message = "out of memory: try a smaller --batch-size, --max-length or --capacity"
    print(f"tightbatch compare: {message}", file=sys.stderr)
    return code


def silence_output() -> None:
    """Keep Python from flushing standard output again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
