"""The directive `before-and-after`: one batch of each of a gallery page's loaders, as a picture.

It makes lines of text and bars that follow the page's theme and width: a drawing with words in it
would be too small on a phone. The colours are those of `tightbatch.plots`.
"""

from __future__ import annotations

import html
import json
from typing import Any, NamedTuple

import gallery

MOST = 32  # lines that are drawn
HEIGHT, GAP, WIDE = 6, 1, 640


class Bar(NamedTuple):
    """Part of a line, in positions."""

    kind: str  # the class in site.css
    line: int
    begin: int
    end: int


def bars_of(lines: list[list[int]], width: int, fold: int) -> list[Bar]:
    """The bars of a batch whose lines are cut into pieces of `fold` positions."""
    bars = []
    each = -(-width // fold)
    for i, rows in enumerate(lines):
        at, kinds = 0, []
        for k, length in enumerate(rows):
            kinds.append(("real-2" if k % 2 else "real", at, at + length))
            at += length
        kinds.append(("padding", at, width))
        for kind, begin, end in kinds:
            while begin < end:
                line, column = divmod(begin, fold)
                stop = min(end, (line + 1) * fold)
                bars.append(Bar(kind, i * each + line, column, column + stop - begin))
                begin = stop
    return [bar for bar in bars if bar.line < MOST]


def as_svg(bars: list[Bar], widest: int, label: str) -> str:
    scale = WIDE / widest
    height = (1 + max(bar.line for bar in bars)) * (HEIGHT + GAP)
    parts = [
        f'<rect class="{bar.kind}" x="{bar.begin * scale:.1f}" y="{bar.line * (HEIGHT + GAP)}" '
        f'width="{(bar.end - bar.begin) * scale:.1f}" height="{HEIGHT}"/>'
        for bar in bars
    ]
    return (
        f'<svg viewBox="0 0 {WIDE} {height}" role="img" aria-label="{html.escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def describe(name: str, found: dict[str, Any]) -> tuple[str, str]:
    """What a batch wastes, and its shape."""
    real = sum(map(sum, found["lines"]))
    waste = 1 - real / (len(found["lines"]) * found["width"])
    shape = f"{len(found['lines'])} × {found['width']:,} positions, {real:,} of them real"
    return f"A batch, {gallery.ROWS[name]}: {waste:.0%} padding", shape


def as_text(page: str) -> str:
    """What the picture of a gallery page says."""
    both = json.loads(gallery.BATCHES.read_text(encoding="utf-8"))[page]
    said = (describe(name, found) for name, found in both.items())
    return "".join(f"- {title} ({shape})\n" for title, shape in said)


def as_html(both: dict[str, Any]) -> str:
    """Both batches on one scale, with a sentence above each and a legend below."""
    widest = max([f["width"] for f in both.values() if len(f["lines"]) > 1] or [256])
    parts, is_packed = [], False
    for name, found in both.items():
        lines, width = found["lines"], found["width"]
        fold = widest if len(lines) == 1 else width
        title, shape = describe(name, found)
        is_packed |= any(len(rows) > 1 for rows in lines)
        if fold < width:
            shape += ", drawn in several lines"
        elif len(lines) > MOST:
            shape += f", {MOST} rows drawn"
        bars = bars_of(lines, width, fold)
        parts.append(
            f'<p class="caption"><strong>{title}</strong> <span>{shape}</span></p>'
            + as_svg(bars, widest, title)
        )
    kinds = [("real", "real"), ("real-2", "the next row of a pack"), ("padding", "padding")]
    legend = "".join(
        f'<span><svg viewBox="0 0 1 1"><rect class="{kind}" width="1" height="1"/></svg>'
        f"{words}</span>"
        for kind, words in kinds
        if kind != "real-2" or is_packed
    )
    return f'<div class="before-and-after">{"".join(parts)}<p class="legend">{legend}</p></div>'


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    from docutils import nodes
    from docutils.parsers.rst import Directive

    class BeforeAndAfter(Directive):
        """Its argument is the name of a page of the gallery."""

        required_arguments = 1

        def run(self) -> list[nodes.Node]:
            self.state.document.settings.env.note_dependency(str(gallery.BATCHES))
            both = json.loads(gallery.BATCHES.read_text(encoding="utf-8"))[self.arguments[0]]
            return [nodes.raw("", as_html(both), format="html")]

    app.add_directive("before-and-after", BeforeAndAfter)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
