"""plot_batch: the picture of any library's batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _core
from ..plots.rows import Cells, plot_rows
from ..plots.style import Theme, check_place
from .batch_roles import Group, Role, groups_of
from .batch_values import Unreadable, flatten, is_nested, readable

__all__ = ["plot_batch"]

_IGNORED = -100  # the label that is not trained; no picture depends on it


def plot_batch(
    batch: Any,
    *,
    before: Any = None,
    group: str | None = None,
    ax: Any = None,
    theme: Theme = "auto",
) -> Any:
    """Draw a batch: rows by positions, what is real and what is padding.

    The batch may be any library's: padded on either side, packs, without padding ([1, total], which
    is folded into lines), with a mask of queries and keys; tensors, arrays or lists. Columns are
    known by their names, as to :func:`check_batch`, and rows are found by what most columns say.
    Rows that share a pack are in alternating shades. The padding at the end of a padding-free batch
    of a fixed size is known by its labels; without labels it is drawn as a row.

    Parameters
    ----------
    batch : mapping of str to columns
        What a collate function returns.
    before : mapping of str to columns, optional
        Another batch, drawn beside it on the same scale: equal areas are equally many tokens.
    group : str, optional
        Which columns to draw, of a batch with several groups of them: the prefix or suffix of their
        names, such as "query" or "chosen". All of them otherwise, up to four.
    ax : matplotlib Axes, optional
        Where to draw; a new figure's otherwise. One batch and one group fit.
    theme : {"auto", "light", "dark", "both"}
        Colours of text and background. "auto" is what the axes or matplotlib's settings say;
        "both" is legible on either, on no background.

    Returns
    -------
    matplotlib Figure
        It belongs to the caller alone: pyplot does not know it, and there is nothing to close.

    Raises
    ------
    ValueError
        When no column has a name that is known, there is no such group, a column is no array of
        numbers, or there is more to draw than one axes shows.
    TypeError
        When a batch has no columns by name, or `ax` is no Axes.
    ImportError
        When matplotlib is not installed.

    Examples
    --------
    >>> import tightbatch as tb
    >>> samples = [{"input_ids": [5, 6, 7]}, {"input_ids": [8]}]
    >>> before = tb.PadCollator(return_tensors="np")(samples)
    >>> after = tb.PaddingFreeCollator(return_tensors="np")(samples)
    >>> figure = tb.plot_batch(after, before=before)
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['before: 33 % padding', 'after: 0 % padding']
    """
    return draw("plot_batch", batch, before, group, ax, theme)


def draw(function: str, batch: Any, before: Any, group: Any, ax: Any, theme: Any) -> Any:
    """Draw a batch; errors name the function `function`."""
    check_place(function, ax, theme)
    if group is not None and not isinstance(group, str):
        raise TypeError(f"{function}(): group is {_core.describe(group)}, expected a str")
    found = read_cells(function, "batch", batch, group)
    if before is None:
        panels = {name or "batch": cells for name, cells in found.items()}
    else:
        earlier = read_cells(function, "before", before, group)
        panels = _named("before", earlier) | _named("after", found)
    if ax is not None and len(panels) > 1:
        raise ValueError(
            f"{function}(): ax has room for one batch, found {', '.join(map(repr, panels))}; "
            "expected group= of one of them, or no ax"
        )
    shown = dict(list(panels.items())[:4])
    return plot_rows(shown, ax=ax, theme=theme)


def _named(word: str, found: dict[str, Cells]) -> dict[str, Cells]:
    return {f"{word}, {name}" if name and len(found) > 1 else word: found[name] for name in found}


def read_cells(
    function: str, argument: str, batch: Any, wanted: str | None = None
) -> dict[str, Cells]:
    """Where the real tokens of each group of columns are."""
    if not isinstance(batch, Mapping) and not is_nested(batch) and not hasattr(batch, "_fields"):
        raise TypeError(
            f"{function}(): {argument} is {_core.describe(batch)}, expected columns by name: a "
            "dict or BatchEncoding, or a tuple or dataclass of them"
        )
    columns = batch if isinstance(batch, Mapping) else flatten(batch, function)
    if any(is_nested(value) for value in columns.values()):
        columns = flatten(columns, function)
    groups = groups_of(tuple(key for key in columns if isinstance(key, str)))
    if not groups:
        raise ValueError(
            f"{function}(): {argument} has no column of a known name, but "
            f"{_core.show(list(columns))}; expected names such as input_ids, attention_mask, labels"
        )
    found = {}
    for each in groups:
        cells = _look(function, each, [columns[key] for key in each.keys])
        if cells is not None:
            found[each.name] = cells
    if wanted is not None:
        if wanted not in found:
            names = ", ".join(map(_core.show, found))
            raise ValueError(
                f"{function}(): group={_core.show(wanted)}, expected one of those in {argument}: "
                f"{names}"
            )
        return {wanted: found[wanted]}
    if not found:
        raise ValueError(
            f"{function}(): {argument} has no column of tokens, positions or masks with rows, but "
            f"{_core.show(list(columns))}"
        )
    return found


def _look(function: str, group: Group, values: list[Any]) -> Cells | None:
    """Ask the C code that checks batches where rows begin and end."""
    made = []
    for key, role, value in zip(group.keys, group.roles, values, strict=True):
        try:
            made.append(readable(value, Role(role), key, []))
        except Unreadable as error:
            raise ValueError(
                f"{function}(): key {_core.show(key)}, row {error.row}: {error.message}"
            ) from None
    keys, roles, partners = group.keys, group.roles, group.partners
    square = next((one for one in made if getattr(one, "ndim", 0) == 4), None)
    if square is not None and not {Role.IDS, Role.EMBEDS} & set(roles):
        # A mask of queries and keys says how wide rows are only beside tokens.
        keys, roles, partners = (*keys, "tokens"), roles + bytes([Role.IDS]), partners + b"\xff"
        made.append(np.zeros((len(square), square.shape[-1]), np.int8))
    answer = _core.check_batch(function, keys, roles, partners, 0, made, None, None, _IGNORED, True)
    if isinstance(answer, int):
        key = keys[answer]
        raise TypeError(
            f"{function}(): key {_core.show(key)}: found {_core.describe(made[answer])}, "
            "expected a tensor, an array or lists of numbers"
        )
    if answer is None or not any(getattr(one, "ndim", 0) > 1 for one in made):
        return None
    (rows, width), segments = answer[2], answer[3]
    segments = segments[np.argsort(segments[:, 0], kind="stable")]
    columns = {Role(role): value for role, value in zip(roles, made, strict=True)}
    if rows == 1:
        return Cells(rows, width, segments[: _before_tail(segments, columns)])
    return Cells(rows, width, _cut_at_lengths(segments, width, columns.get(Role.LENGTHS)))


def _before_tail(segments: Any, columns: dict[Role, Any]) -> int:
    """How many segments there are before the padding at the end of a batch of a fixed size.

    It has boundaries and positions as rows have; but none of its labels is trained, and its tokens
    are all one.
    """
    ids, labels = columns.get(Role.IDS), columns.get(Role.LABELS)
    if ids is None or labels is None or np.shape(ids) != np.shape(labels) or not np.size(ids):
        return len(segments)
    ids, labels = np.ravel(ids), np.ravel(labels)
    real = np.flatnonzero((ids != ids[-1]) | (labels != _IGNORED))
    end = int(real[-1]) + 1 if len(real) else 0
    count = int(np.searchsorted(segments[:, 0], end))
    return count if len(ids) - end > 1 else len(segments)


def _cut_at_lengths(segments: Any, width: int, lengths: Any) -> Any:
    """Where no other column tells of padding, a column of lengths does."""
    whole = width * np.arange(len(segments))
    is_whole = np.array_equal(segments, np.stack([whole, whole + width], axis=1))
    if lengths is None or not is_whole or np.shape(lengths) != whole.shape:
        return segments
    return np.stack([whole, whole + np.clip(lengths, 0, width)], axis=1)
