"""Pictures inside HTML: a data URI, of a size that a notebook can hold."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["as_html", "as_svg", "inline"]

MOST_BYTES = 300_000  # of one picture in a notebook's file
_RESOLUTIONS = (200, 144, 100, 72)  # dots per inch


def as_html(figure: Any, alt: str = "", most_bytes: int = MOST_BYTES) -> str:
    """Give a figure as an ``<img>`` with a data URI: SVG, or PNG where that is too large.

    Parameters
    ----------
    figure : matplotlib Figure
        Drawn with ``theme="both"``, it is legible on light and on dark pages.
    alt : str
        What the picture says, for who does not see it; the titles of its axes otherwise.
    most_bytes : int
        The most bytes of the URI. A picture that needs more is left out.

    Returns
    -------
    str
        One HTML element, or "" if the picture is too large in every form.
    """
    text = alt or "; ".join(filter(None, (ax.get_title(loc="left") for ax in figure.axes)))
    for kind, content in _forms(figure):
        uri = f"data:{kind};base64,{base64.b64encode(content).decode()}"
        if len(uri) <= most_bytes:
            width = round(100 * figure.get_figwidth())
            return (
                f'<img alt="{html.escape(text, quote=True)}" src="{uri}" '
                f'style="width:{width}px;max-width:100%;height:auto">'
            )
    return ""


def inline(draw: Callable[[], Any], alt: str = "", most_bytes: int = MOST_BYTES) -> str:
    """Give what `draw` draws as :func:`as_html` does; "" where matplotlib is not installed.

    For the ``_repr_html_`` of a report: it shows its table either way.
    """
    try:
        figure = draw()
    except ImportError:
        return ""
    return as_html(figure, alt, most_bytes)


def as_svg(figure: Any) -> bytes:
    """Give a figure as SVG; the same picture has the same bytes."""
    from matplotlib import rc_context

    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "tightbatch", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", facecolor=figure.get_facecolor(), metadata=_NO_DATE)
    return re.sub(rb"[ \t]+\n", b"\n", out.getvalue())


def _lighter(svg: bytes) -> bytes:
    """Leave out of an SVG by matplotlib what nobody sees: two thirds of it remain.

    Coordinates are in points, so their third digit is a hundredth of a pixel. Those inside a glyph
    are whole numbers, and its scale is left alone.
    """
    svg = re.sub(rb"<metadata>.*?</metadata>|<!--.*?-->|<[!?].*?>", b"", svg, flags=re.DOTALL)
    svg = re.sub(rb'<g id="[^"]*"', b"<g", svg)
    svg = re.sub(rb'(?: d="| [xy]="|translate\()[^")]*', _rounded, svg)
    svg = re.sub(rb'(?<=style=")[^"]*', lambda style: re.sub(rb"([:;]) ", rb"\1", style[0]), svg)
    svg = re.sub(rb'(?<=href=")(#[^"]*)" transform="translate\((\S+) 0\)"', rb'\1" x="\2"', svg)
    svg = svg.replace(b"DejaVuSans-", b"")
    return re.sub(rb">\s+<", b"><", svg).strip()


def _rounded(numbers: re.Match[bytes]) -> bytes:
    """Cut the digits of numbers, and the white space around the commands of a path."""
    found = re.sub(rb"(\d\.\d\d)\d+", rb"\1", numbers[0])
    return re.sub(rb"\s*([MLQCZz])\s*", rb"\1", found) if found.startswith(b" d=") else found


_NO_DATE = {"Date": None, "Creator": None}


def _forms(figure: Any) -> Iterator[tuple[str, bytes]]:
    yield "image/svg+xml", _lighter(as_svg(figure))
    for resolution in _RESOLUTIONS:
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=resolution, facecolor=figure.get_facecolor())
        yield "image/png", out.getvalue()
