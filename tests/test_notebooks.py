"""The notebooks run from beginning to end, and show what is stored in them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from conftest import LONG_ONLY, SANITIZED

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.ipynb"))
# What they import, and what runs them.
PACKAGES = ("nbclient", "nbformat", "ipykernel", "torch", "transformers", "matplotlib")

pytestmark = [
    pytest.mark.skipif(SANITIZED, reason="it is torch that computes"),
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples are not beside these tests"),
    pytest.mark.skipif(
        any(find_spec(name) is None for name in PACKAGES),
        reason="the packages of tightbatch[test] are not installed",
    ),
]


def read(name: str) -> Any:
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cell: Any) -> str:
    """What a cell prints, and the text of its result."""
    return "\n".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
        if output.get("name") != "stderr"
    )


def test_there_are_these() -> None:
    assert NAMES == ["packing_and_padding_free", "precision", "quickstart"]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_stored(name: str) -> None:
    notebook = read(name)
    pytest.importorskip("nbformat").validate(notebook)
    cells = code_of(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        shows = not cell.source.rstrip().splitlines()[-1].startswith(("import ", "from "))
        assert bool(cell.outputs) is shows, cell.source
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
    pictures = [
        content
        for cell in cells
        for output in cell.outputs
        for kind, content in output.get("data", {}).items()
        if kind == "image/png" or (kind == "text/html" and "<img" in content)
    ]
    assert pictures
    assert (EXAMPLES / f"{name}.ipynb").stat().st_size < 700_000


@pytest.mark.parametrize("name", [pytest.param("precision", marks=LONG_ONLY), *NAMES[::2]])
def test_a_run_shows_what_is_stored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "")
    monkeypatch.syspath_prepend(EXAMPLES)
    import notebooks

    assert set(notebooks.NOTEBOOKS) == set(NAMES)
    stored, run = read(name), notebooks.execute(name)
    for cell, now in zip(code_of(stored), code_of(run), strict=True):
        assert [output.output_type for output in now.outputs] == [
            output.output_type for output in cell.outputs
        ], cell.source
    if stored.metadata.language_info.version != "{}.{}.{}".format(*sys.version_info[:3]):
        return  # another Python has another documentation, and so other figures
    for cell, now in zip(code_of(stored), code_of(run), strict=True):
        if "varies" not in cell.metadata.get("tags", []):
            assert text_of(now).split(" at 0x")[0] == text_of(cell).split(" at 0x")[0], cell.source
