"""docs/contract.md: each call raises what the page says, with the name of what raised it."""

import re
from pathlib import Path

import numpy as np
import pytest

import tightbatch as tb

PAGE = Path(__file__).parent.parent / "docs" / "contract.md"
ROW = re.compile(r"^\| `(tb\..+)` \| `(\w+)` \| ", re.MULTILINE)
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else []


def test_there_are_calls():
    assert len(ROWS) > 30


@pytest.mark.parametrize(("call", "error"), ROWS, ids=lambda text: text)
def test_a_call_raises_what_the_page_says(call, error):
    names = {"tb": tb, "np": np}
    if "torch" in call or "Collator" in call:
        names["torch"] = pytest.importorskip("torch")
    with pytest.raises(Exception) as caught:  # noqa: PT011
        eval(call, names)
    assert type(caught.value).__name__ == error
    assert len(str(caught.value)) > 20
