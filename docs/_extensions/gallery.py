"""Runs the gallery's pages, and writes what they waste before and after.

    python docs/_extensions/gallery.py [NAME ...]

A page's Python blocks are one program. It makes two loaders: `before`, the usual way, and
`loader`. This writes the table between the page's markers, the shares in index.md, and one batch
of each loader into batches.json, from which the site draws its pictures.
tests/test_gallery.py runs the pages too.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "gallery"
BATCHES = FOLDER / "batches.json"
INDEX = FOLDER / "index.md"
MARKERS = "<!-- measured: begin -->", "<!-- measured: end -->"
HEAD = "| | batches | positions | of them padding |\n| --- | ---: | ---: | ---: |\n"
ROWS = {"before": "the usual way", "loader": "this loader"}
Lines = list[list[int]]  # the lengths of the rows that lie in each line of a batch


def pages() -> list[Path]:
    return [page for page in sorted(FOLDER.glob("*.md")) if page.name != "index.md"]


def run(page: Path) -> dict[str, Any]:
    """Run a page's blocks in order, and return the names that they leave."""
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(page), "exec"), names)
    return names


def as_list(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def groups_of(batch: Any) -> list[tuple[Lines, int]]:
    """For each part of a batch: the lengths of the rows in each line, and how wide lines are."""
    masks = [as_list(batch[name]) for name in batch if name.endswith("attention_mask")]
    if masks and isinstance(masks[0][0], list):
        return [([[sum(line)] for line in mask], len(mask[0])) for mask in masks]
    if "position_ids" in batch:  # rows one after another: a 0 begins one
        lines, width = [], 0
        for positions in as_list(batch["position_ids"]):
            starts = [i for i, position in enumerate(positions) if position == 0]
            width = len(positions)
            lines.append([b - a for a, b in zip(starts, [*starts[1:], width], strict=True)])
        return [(lines, width)]
    if "num_images" in batch and len(batch["pixel_values"]) == sum(batch["num_images"]):
        return [([as_list(batch["num_images"])], len(batch["pixel_values"]))]
    (name,) = [name for name in batch if name.endswith("_lengths")]
    column = batch[name.removesuffix("_lengths")]
    return [([[n] for n in as_list(batch[name])], column.shape[1])]


def measure(loader: Iterable[Any]) -> dict[str, Any]:
    """One epoch: its size, and the batch whose share of padding is the median."""
    found = [groups_of(batch) for batch in loader]
    sizes = [sum(len(lines) * width for lines, width in groups) for groups in found]
    real = [sum(sum(map(sum, lines)) for lines, _ in groups) for groups in found]
    order = sorted(range(len(found)), key=lambda i: real[i] / sizes[i])
    lines, width = max(found[order[len(order) // 2]], key=lambda group: group[1])
    return {
        "batches": len(found),
        "positions": sum(sizes),
        "waste": 1 - sum(real) / sum(sizes),
        "lines": lines,
        "width": width,
    }


def as_table(figures: dict[str, dict[str, Any]]) -> str:
    rows = [
        f"| {ROWS[name]} | {f['batches']:,} | {f['positions']:,} | {f['waste']:.1%} |\n"
        for name, f in figures.items()
    ]
    return HEAD + "".join(rows)


def figures_of(page: Path) -> dict[str, dict[str, Any]]:
    names = run(page)
    return {name: measure(names[name]) for name in ROWS}


def main() -> None:
    chosen = sys.argv[1:]
    kept = json.loads(BATCHES.read_text(encoding="utf-8")) if BATCHES.exists() else {}
    home = Path.cwd()
    for page in pages():
        if chosen and page.stem not in chosen:
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            figures = figures_of(page)
            os.chdir(home)
        text = page.read_text(encoding="utf-8")
        begin, end = text.index(MARKERS[0]) + len(MARKERS[0]), text.index(MARKERS[1])
        page.write_text(f"{text[:begin]}\n{as_table(figures)}{text[end:]}", encoding="utf-8")
        kept[page.stem] = {
            name: {key: figure[key] for key in ("lines", "width")}
            for name, figure in figures.items()
        }
        shares = " | ".join(f"{figure['waste']:.1%}" for figure in figures.values())
        index = re.sub(
            rf"(\({page.stem}\.md\)[^|]*) \| .*",
            rf"\1 | {shares} |",
            INDEX.read_text(encoding="utf-8"),
        )
        INDEX.write_text(index, encoding="utf-8")
        print(page.stem, as_table(figures), sep="\n", flush=True)
    rows = (f"{json.dumps(name)}: {json.dumps(kept[name])}" for name in sorted(kept))
    BATCHES.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
