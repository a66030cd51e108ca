"""Every example runs as its reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples are not beside these tests")
def test_train_learns_and_wastes_little(tmp_path: Path) -> None:
    for package in ("torch", "transformers", "tokenizers"):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "train.py")],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        check=False,
        # Two threads that wait for each other take many times longer on a machine that is busy.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+),", done.stdout)]
    waste = [float(part) for part in re.findall(r"([\d.]+)% padding", done.stdout)]
    accuracy = re.search(r"held-out accuracy ([\d.]+)% of (\d+) rows", done.stdout)
    assert accuracy is not None, done.stdout
    assert len(losses) == len(waste) == 3
    assert losses[-1] < losses[0]
    # In random order three tokens of four would be padding.
    assert max(waste) < 45
    # Five packages, the commonest of them about three texts in ten.
    assert float(accuracy[1]) > 60
    assert int(accuracy[2]) > 100


def test_train_stays_short() -> None:
    assert len((EXAMPLES / "train.py").read_text(encoding="utf-8").splitlines()) < 60
