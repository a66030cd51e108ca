"""Every example runs as its reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import LONG_ONLY

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run_example(name: str, folder: Path) -> str:
    for package in ("torch", "transformers", "tokenizers"):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=550,
        cwd=folder,
        check=False,
        # Two threads that wait for each other take many times longer on a machine that is busy.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@LONG_ONLY
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples are not beside these tests")
def test_train_learns_and_wastes_little(tmp_path: Path) -> None:
    printed = run_example("train.py", tmp_path)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+),", printed)]
    waste = [float(part) for part in re.findall(r"([\d.]+)% padding", printed)]
    accuracy = re.search(r"held-out accuracy ([\d.]+)% of (\d+) rows", printed)
    assert accuracy is not None, printed
    assert len(losses) == len(waste) == 3
    assert losses[-1] < losses[0]
    # In random order three tokens of four would be padding.
    assert max(waste) < 45
    # Five packages, the commonest of them about three texts in ten.
    assert float(accuracy[1]) > 60
    assert int(accuracy[2]) > 100


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples are not beside these tests")
def test_train_padding_free_learns_and_goes_on(tmp_path: Path) -> None:
    printed = run_example("train_padding_free.py", tmp_path)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+),", printed)]
    full = [float(part) for part in re.findall(r"([\d.]+)% full", printed)]
    resumed = re.search(r"resumed in epoch 1: (\d+) of (\d+) steps left", printed)
    assert resumed is not None, printed
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
    assert min(full) > 90
    assert int(resumed[1]) == int(resumed[2]) - 3
    apart = re.search(r"differ by at most ([\d.e-]+)", printed)
    assert apart is not None, printed
    assert float(apart[1]) < 1e-3


@pytest.mark.parametrize("name", ["train.py", "train_padding_free.py"])
def test_examples_stay_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 70
