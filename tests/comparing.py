"""Running ``python -m tightbatch compare`` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "tightbatch", "compare"]

needs_torch = pytest.mark.skipif(
    any(
        find_spec(name) is None
        for name in ("torch", "transformers", "tokenizers", "rich", "pyarrow", "matplotlib")
    ),
    reason="the packages of tightbatch[demo] are not installed",
)


def compare(
    *options: object, cwd: Path, before: str = "", timeout: float = 200
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; `before` is Python to run in it first."""
    arguments = [str(option) for option in options]
    command = [*COMMAND, *arguments]
    if before:
        call = f"raise SystemExit(main({['compare', *arguments]!r}))"
        code = f"{before}\nfrom tightbatch.cli import main\n{call}"
        command = [sys.executable, "-c", code]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        check=False,
        # Two threads that wait for each other take many times longer on a machine that is busy.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """The command failed with exit code 2 and one line that holds `parts`."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("tightbatch compare: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr
