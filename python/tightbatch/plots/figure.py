"""A figure that nobody has to close, and that a notebook shows in light and dark."""

from __future__ import annotations

import matplotlib.figure
from matplotlib.backends.backend_agg import FigureCanvasAgg

from .inline import as_html

__all__ = ["Picture"]


class Picture(matplotlib.figure.Figure):
    """A figure that pyplot does not know: it is gone when nobody holds it.

    A notebook shows it as the last value of a cell; ``savefig`` writes it to a file.
    """

    def __init__(self, *args: object, **settings: object) -> None:
        settings.setdefault("layout", "constrained")
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        FigureCanvasAgg(self)  # no window, no display

    def _repr_html_(self) -> str:
        return as_html(self)
