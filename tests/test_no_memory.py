"""Memory that runs out at each allocation in turn, of every right call that NumPy alone can do."""

import json
import subprocess
import sys

import pytest

from checks import run_python

PROGRAM = """
import json
import linecache
import os
import warnings

import numpy as np
import pytest
from _testcapi import remove_mem_hooks, set_nomemory

import tightbatch as tb
from test_wrong_arguments import CALLABLES, NEED, NOT_CALLED, call, skip_without_packages

warnings.simplefilter("ignore")
QUIET = 40  # calls in a row without an error: all allocations have failed once; 7 were seen
os.fsync = lambda file: None  # thousands of times, and no machine goes down here


def starved(name, start):
    # Short, so that the interpreter needs no memory of its own to reach the handler.
    set_nomemory(start, start + 1)
    try:
        value = call(name)
    except Exception as error:
        remove_mem_hooks()
        return None, error
    remove_mem_hooks()
    return value, None


def plain(value):
    # What can be compared: numbers and names, with their types.
    if isinstance(value, (np.ndarray, np.generic)):
        return str(value.dtype), value.tolist()
    if isinstance(value, tb.Ragged):
        return str(value.values.dtype), value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, tb.Packing, tb.Partition)):
        return [plain(item) for item in value]
    if isinstance(value, (int, float, str, bytes)):
        return value
    return type(value).__name__


def fault(name, right, start, value, error):
    # What is wrong with this answer, or None.
    if error is None:
        found = plain(value)
        return None if found == right else f"{start}: gives {found}"[:300]
    if isinstance(error, MemoryError):
        return None
    # Of other code: NumPy's reductions, and what opens files, lose the error now and then.
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    line = linecache.getline(last.tb_frame.f_code.co_filename, last.tb_lineno)
    calls_us = "_core." in line or "super().__new__" in line
    return f"{start}: {error!r} in {line.strip()}"[:300] if calls_us else None


def check(name):
    try:
        for _ in range(3):
            right = plain(call(name))
    except ImportError:  # of what is installed beside NumPy, if anything is
        return "skipped"
    start = quiet = failures = 0
    while quiet < QUIET:
        start += 1
        value, error = starved(name, start)
        if told := fault(name, right, start, value, error):
            return told
        quiet += 1
        if error is not None:
            failures += isinstance(error, MemoryError)
            quiet = 0
            value = error = None
            if (again := plain(call(name))) != right:
                return f"{start}: and then gives {again}"[:300]
    return failures


for name, function in CALLABLES.items():
    others = ("tightbatch.amp", "tightbatch.huggingface", "tightbatch.plots", "tightbatch.ray")
    if (
        name in NOT_CALLED
        or name.startswith("PaddingReport.")  # of analyze(), which is asked itself
        or NEED.get(name, "numpy") != "numpy"
        or "plot" in name
        or function.__module__.startswith(others)
    ):
        continue
    print(json.dumps([name, "begins"]), flush=True)
    print(json.dumps([name, check(name)]), flush=True)
"""


# Without anything of this library: CPython 3.12.1 and 3.13.0 crash where a generator has no memory.
PLAIN = """
from _testcapi import remove_mem_hooks, set_nomemory

def call():
    return [tuple(key for key in {1: 2}) for _ in range(3)], all(key for key in (1, 2))

for start in [*range(1, 80)] * 3:
    set_nomemory(start, start + 1)
    try:
        call()
    except MemoryError:
        pass
    remove_mem_hooks()
    call()
"""


@pytest.fixture(scope="module")
def answers():
    """Of each call: how often it raised MemoryError and was right otherwise; or what was wrong."""
    pytest.importorskip("_testcapi")
    if subprocess.run([sys.executable, "-c", PLAIN], check=False, timeout=100).returncode != 0:
        pytest.skip("this Python itself crashes without memory")
    return dict(json.loads(line) for line in run_python(PROGRAM).splitlines())


def test_every_allocation_fails_in_turn(answers):
    assert len(answers) > 50
    told = {name: found for name, found in answers.items() if found != "skipped"}
    assert {name: found for name, found in told.items() if not isinstance(found, int)} == {}
    assert sum(count > 20 for count in told.values()) > 50
