"""Tables of reports as HTML: text is escaped, and legible on light and on dark pages."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias


class Cell(NamedTuple):
    """A cell of its own style: CSS that keeps the page's colours, or sets text and background."""

    text: str
    style: str = ""
    is_head: bool = False


Text: TypeAlias = "str | Cell"


def left(text: str) -> Cell:
    """Align text to the left, where notebooks align cells to the right."""
    return Cell(text, "text-align:left;vertical-align:top")


def paragraphs(lines: Iterable[str]) -> str:
    """Write a paragraph for each line."""
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)


def table(head: Iterable[Text], rows: Iterable[Iterable[Text]]) -> str:
    """Write a table, which scrolls where a page is narrower; "" without rows."""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    if not body:
        return ""
    names = "".join(
        _cell(Cell(one, is_head=True) if isinstance(one, str) else one._replace(is_head=True))
        for one in head
    )
    return (
        f'<div style="overflow-x:auto"><table><thead><tr>{names}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(one: Text) -> str:
    text, style, is_head = Cell(one) if isinstance(one, str) else one
    tag = "th" if is_head else "td"
    styled = f' style="{html.escape(style)}"' if style else ""
    return f"<{tag}{styled}>{html.escape(text)}</{tag}>"
