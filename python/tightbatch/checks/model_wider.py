"""The same batch with more padding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .model_batch import PADDING, Grid, Placed, grid_of, padding_of, tensors_of, with_tensors
from .model_tree import Path, named

if TYPE_CHECKING:
    from torch import Tensor


class NotWidened(Exception):
    """Why a batch cannot have more padding."""


def wider(placed: Placed, most: int | None) -> Placed:
    """Give the batch with as much padding again as it has columns, on the side of its padding.

    What is in the new places follows from what is in the padding: the one value that is there, or
    numbers that count on. So widths stay multiples of what the collate_fn pads to. A batch whose
    columns tell no such thing, or a width that the model cannot have, raises NotWidened.
    """
    grids, sides, more = list(placed.grids), dict[int, bool](), dict[int, int]()
    for number, grid in enumerate(grids):
        if (grid.owner != PADDING).all():
            continue
        sides[number], width = _is_left(grid), grid.shape[1]
        more[number] = width if most is None else min(width, most - width)
        if more[number] < 1:
            raise NotWidened(f"the model takes {most} tokens at most, and the batch has {width}")
        before, after = (more[number], 0) if sides[number] else (0, more[number])
        owner = np.pad(grid.owner, ((0, 0), (before, after)), constant_values=PADDING)
        grids[number] = replace(grid, owner=owner)
    new: dict[Path, Tensor] = {}
    for path, tensor in tensors_of(placed.batch).items():
        grid = grid_of(path, placed.grids)
        number = placed.grids.index(grid)
        axis = _axis(path, tensor, grid)
        if number in more and axis is not None:
            new[path] = _grown(path, tensor, axis, grid, more[number], sides[number])
    return Placed(with_tensors(placed.batch, new), tuple(grids), placed.rows, placed.segments)


def _is_left(grid: Grid) -> bool:
    """Whether padding is on the left; on both sides, or in batches of one line, it is not known."""
    if grid.axes[0] < 0:
        raise NotWidened("the batch is one line without an axis of rows")
    empty = grid.owner == PADDING
    first, last = empty[:, 0].any(), empty[:, -1].any()
    if first == last:
        raise NotWidened("its padding is not on one side")
    return bool(first)


def _axis(path: Path, tensor: Tensor, grid: Grid) -> int | None:
    """The axis of a tensor that grows with the batch; None if none does."""
    if path in grid.paths:
        return grid.axes[1]
    line, column = grid.axes
    if tensor.dim() <= max(line, column) or tensor.shape[line] != grid.shape[0]:
        return None
    axes = [a for a in range(tensor.dim()) if a != line and tensor.shape[a] == grid.shape[1]]
    if not axes:
        return None
    if axes != [column]:
        raise NotWidened(f"key {named(path)!r} of shape {list(tensor.shape)} is not for each token")
    return column


def _grown(path: Path, tensor: Tensor, axis: int, grid: Grid, more: int, left: bool) -> Tensor:
    """A column of the batch with more places."""
    import torch

    values = tensor[padding_of(tensor, grid)]
    shape = list(tensor.shape)
    shape[axis] = more
    part: Tensor | None = None
    if bool((values == values[0]).all()):
        part = values[0].expand(shape)
    elif (counts := _counts(tensor, axis, grid, left)) is not None:
        part = (counts + torch.arange(1, more + 1, device=tensor.device)).to(tensor.dtype)
    if part is None:
        raise NotWidened(f"the padding of key {named(path)!r} holds different values")
    return torch.cat([part, tensor] if left else [tensor, part], dim=axis)


def _counts(tensor: Tensor, axis: int, grid: Grid, left: bool) -> Tensor | None:
    """The last numbers of positions [rows, 1] that count through the padding on the right."""
    if left or tensor.dim() != 2 or axis != 1 or grid.axes[0] != 0 or tensor.is_floating_point():
        return None
    steps = tensor[:, 1:] - tensor[:, :-1]
    empty = padding_of(tensor, grid)[:, 1:]
    return tensor[:, -1:] if bool((steps[empty] == 1).all()) else None
