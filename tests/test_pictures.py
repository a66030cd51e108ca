"""docs/pictures.py: the pictures of the documents."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

for package in ("matplotlib", "torch", "transformers", "tokenizers"):
    pytest.importorskip(package)

SCRIPT = Path(__file__).parent.parent / "docs" / "pictures.py"


@pytest.fixture(scope="module")
def pictures():
    spec = importlib.util.spec_from_file_location("pictures", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def some_rows():
    lengths = np.random.default_rng(0).integers(1, 257, 900)
    return [[7] * n for n in lengths.tolist()]


def test_before_and_after_are_the_same_rows(pictures):
    found = pictures.before_and_after(some_rows())
    sizes = {
        key: sorted(np.diff(np.concatenate([cells.segments for cells in every])).ravel().tolist())
        for key, every in found.items()
    }
    assert sizes["before"] == sizes["after"]
    assert len(sizes["before"]) == pictures.SHOWN * pictures.BATCH
    assert {cells.width for cells in found["before"]} == {256}
    padding = {key: sum(cells.padding for cells in every) for key, every in found.items()}
    assert padding["after"] < padding["before"] / 5


def test_the_script_writes_what_the_documents_show(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "token_rows", some_rows)
    monkeypatch.setattr("sys.argv", ["pictures.py", "--folder", str(tmp_path)])
    pictures.main()
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {path.name for path in (SCRIPT.parent / "images").glob("*.svg")}
    page = (SCRIPT.parent / "plots.md").read_text(encoding="utf-8")
    assert all(f"images/{name}" in page for name in written)
