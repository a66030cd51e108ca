"""Run the notebooks beside this file, and store their outputs.

For all of them: python examples/notebooks.py; or with their names. A cell with the tag "varies"
shows times, or what differs between processors.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
NOTEBOOKS = ("quickstart", "packing_and_padding_free", "precision")


def execute(name: str) -> Any:
    """Give the notebook with the outputs of a run from its beginning."""
    # tqdm, in a notebook without widgets, about itself.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    notebook = nbformat.read(HERE / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(HERE)}}
    NotebookClient(
        notebook,
        timeout=550,
        kernel_name="python3",
        resources=resources,
        record_timing=False,
        coalesce_streams=True,
    ).execute()
    return notebook


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in NOTEBOOKS]
    if unknown:
        print(f"notebooks.py: no notebook {unknown[0]!r}; there are {', '.join(NOTEBOOKS)}")
        return 2
    for name in names or NOTEBOOKS:
        notebook = execute(name)
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):  # what says nothing, and is another each time
                data = output.get("data", {})
                if "text/html" in data or "image/png" in data:
                    data["text/plain"] = data.get("text/plain", "").split(" at 0x")[0]
        nbformat.validate(notebook)
        path = HERE / f"{name}.ipynb"
        path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        print(f"{path.name}: {path.stat().st_size / 1e3:,.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
