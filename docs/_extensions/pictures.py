"""The directive `before-and-after`: one batch of each of a gallery page's loaders, as a picture."""

from __future__ import annotations

import json
from typing import Any

import gallery
from docutils import nodes
from docutils.parsers.rst import Directive

MOST = 32  # lines that are drawn
HEIGHT, GAP, WIDE = 5, 1, 640


def drawn(lines: list[list[int]], width: int, scale: float) -> tuple[str, int]:
    """The lines of a batch as an SVG."""
    shown = lines[:MOST]
    parts = []
    for i, line in enumerate(shown):
        y, x = i * (HEIGHT + GAP), 0.0
        parts.append(
            f'<rect class="padding" y="{y}" width="{width * scale:.1f}" height="{HEIGHT}"/>'
        )
        for length in line:
            wide = max(length * scale - (0.5 if len(line) > 1 else 0), 0.5)
            parts.append(
                f'<rect class="real" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{HEIGHT}"/>'
            )
            x += length * scale
    return "".join(parts), len(shown) * (HEIGHT + GAP)


class BeforeAndAfter(Directive):
    """Its argument is the name of a page of the gallery."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        env.note_dependency(str(gallery.BATCHES))
        both = json.loads(gallery.BATCHES.read_text(encoding="utf-8"))[self.arguments[0]]
        widest = max(found["width"] for found in both.values())
        parts = []
        for name, found in both.items():
            picture, height = drawn(found["lines"], found["width"], WIDE / widest)
            size = len(found["lines"]) * found["width"]
            waste = 1 - sum(map(sum, found["lines"])) / size
            caption = f"A batch in {gallery.ROWS[name]}: {waste:.0%} of it is padding"
            parts.append(
                f'<p class="caption">{caption}</p>'
                f'<svg viewBox="0 0 {WIDE} {height}" role="img" aria-label="{caption}">'
                f"{picture}</svg>"
            )
        html = '<div class="before-and-after">' + "".join(parts) + "</div>"
        return [nodes.raw("", html, format="html")]


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("before-and-after", BeforeAndAfter)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
