"""Where the rows are in a batch, and which of a model's outputs are theirs.

Both are observed, not read from masks or boundaries: those may be what is wrong. A place of the
batch is a row's if it changes when the row's tokens do. What no row changes is padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .model_rows import NAME, Rows, draw_other, is_label
from .model_tree import Path, leaves, named, replaced

if TYPE_CHECKING:
    from torch import Tensor

PADDING = -1  # in place of a row's number


@dataclass(frozen=True)
class Grid:
    """Whose each place of a batch is, for the columns of one shape."""

    prefix: str  # of the columns' names: "", "decoder_", "query_"
    paths: tuple[Path, ...]
    owner: NDArray[np.int64]  # [lines, columns]: the row's number, or PADDING
    axes: tuple[int, int]  # of lines and of columns; -1 for the lines of a column with none
    fill: int | None = None  # the id of the padding, where a mask hides it alone

    @property
    def shape(self) -> tuple[int, int]:
        """Lines and columns."""
        return self.owner.shape[0], self.owner.shape[1]

    @cached_property
    def one_row_a_line(self) -> bool:
        """Whether no line holds several rows, nor a row several lines."""
        lines, columns = np.nonzero(self.owner != PADDING)
        pairs = np.unique(np.stack([lines, self.owner[lines, columns]]), axis=1)
        return all(len(np.unique(of)) == pairs.shape[1] for of in pairs)

    @property
    def order(self) -> list[int]:
        """The rows in the order in which they lie."""
        rows, first = np.unique(self.owner, return_index=True)
        return [int(rows[i]) for i in np.argsort(first) if rows[i] != PADDING]

    def place(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The lines and columns of a row's tokens, in order."""
        lines, columns = np.nonzero(self.owner == row)
        return lines, columns


@dataclass(frozen=True)
class Placed:
    """A batch, and where each of its rows is."""

    batch: Any
    grids: tuple[Grid, ...]
    rows: tuple[int, ...]  # the numbers of those that are in it
    segments: int | None  # as its boundaries count them


def tensors_of(batch: Any) -> dict[Path, Tensor]:
    """The tensors and arrays of a batch, as tensors."""
    import torch

    found = {}
    for path, value in leaves(batch, lists=True).items():
        if isinstance(value, torch.Tensor):
            found[path] = value
        elif isinstance(value, np.ndarray) and value.dtype.kind in "iufb":
            found[path] = torch.from_numpy(np.ascontiguousarray(value))
    return found


def with_tensors(batch: Any, new: dict[Path, Tensor]) -> Any:
    """A copy of a batch with other tensors."""
    return replaced(batch, new, lists=True)


def place(
    rows: Rows,
    collate: Callable[[list[Any]], Any],
    numbers: list[int],
    encoder_decoder: bool = False,
    like: Placed | None = None,
) -> Placed:
    """Collate, and find the rows in the batch; ``numbers`` are what they are called there.

    The axes of columns are those of the batch ``like``, whose rows may show them better.
    """
    batch = collate(rows.samples)
    tensors = tensors_of(batch)
    if not tensors:
        kind = type(batch).__name__
        raise TypeError(
            f"{NAME}(): collate_fn gave a {kind} without tensors or arrays; expected a mapping, "
            "a tuple, a dataclass or one tensor"
        )
    moved: dict[Path, list[NDArray[np.bool_] | None]] = {path: [] for path in tensors}
    for unit in range(len(rows.units)):
        other = tensors_of(collate(rows.changed([unit], mark=True)))
        for path, tensor in tensors.items():
            moved[path].append(_differs(path, tensor, other.get(path)))
    grids = _grids(tensors, moved, numbers, encoder_decoder, like)
    if not grids:
        raise ValueError(
            f"{NAME}(): collate_fn: none of {_core.show([named(path) for path in tensors])} "
            "changes when the tokens of a row change; expected a batch with the tokens"
        )
    there = {int(row) for grid in grids for row in np.unique(grid.owner)} - {PADDING}
    return Placed(batch, tuple(grids), tuple(sorted(there)), _segments(tensors))


def _differs(path: Path, one: Tensor, other: Tensor | None) -> NDArray[np.bool_] | None:
    if other is None or one.shape != other.shape:
        found = None if other is None else list(other.shape)
        raise ValueError(
            f"{NAME}(): collate_fn: key {named(path)!r}: shape {list(one.shape)} becomes {found} "
            "when tokens of a row are replaced by others; expected shapes that follow from "
            "lengths alone"
        )
    same = one == other
    if one.is_floating_point():
        same |= one.isnan() & other.isnan()
    return None if bool(same.all()) else (~same).cpu().numpy()


def _segments(tensors: dict[Path, Tensor]) -> int | None:
    """How many segments the batch's boundaries make."""
    for path, tensor in tensors.items():
        if path and str(path[-1]).startswith("cu_seq") and tensor.dim() == 1:
            return int(tensor.shape[0]) - 1
    return None


def _prefix(path: Path) -> str:
    """What columns of one group have before their names: input_ids, labels, attention_mask."""
    name = named(path)
    for known in ("input_ids", "labels", "attention_mask", "input_values", "inputs_embeds"):
        if name.endswith(known):
            return name.removesuffix(known)
    return ""


def _grids(
    tensors: dict[Path, Tensor],
    moved: dict[Path, list[NDArray[np.bool_] | None]],
    numbers: list[int],
    encoder_decoder: bool,
    like: Placed | None,
) -> list[Grid]:
    """Put the columns that hold tokens together by prefix and shape, labels last."""
    grids: dict[Any, Grid] = {}
    known = {path: grid.axes for grid in (like.grids if like else ()) for path in grid.paths}
    # Labels come last and fill places that were masked; those of a decoder come first, and its
    # inputs are the labels, moved by one.
    for path in sorted(moved, key=lambda path: is_label(path) != encoder_decoder):
        changes = moved[path]
        if tensors[path].dim() == 0 or all(one is None for one in changes):
            continue
        if tensors[path].dim() == 1 and is_label(path):
            continue  # a number for each row
        axes = known.get(path) or _axes(tensors[path].dim(), changes)
        prefix = _prefix(path)
        if is_label(path) and prefix == "" and encoder_decoder:
            prefix = "decoder_"
        found = [None if one is None else _flat(one, axes) for one in changes]
        shape = next(one.shape for one in found if one is not None)
        before = grids.get((prefix, shape))
        owner = np.full(shape, PADDING, np.int64) if before is None else before.owner
        if before is None or prefix != "decoder_":
            owner = _claim(path, owner, found, numbers, lenient=before is not None)
        paths = (path,) if before is None else (*before.paths, path)
        grids[prefix, shape] = Grid(prefix, paths, owner, before.axes if before else axes)
    fills = {grid.prefix: grid.fill for grid in (like.grids if like else ())}
    return [
        _with_added(_with_gaps(grid), tensors, fills.get(grid.prefix)) for grid in grids.values()
    ]


def _axes(dim: int, changes: list[NDArray[np.bool_] | None]) -> tuple[int, int]:
    """The axes of lines and of columns: a row is in one line, usually the first axis."""
    if dim == 1:
        return -1, 0
    there = [one for one in changes if one is not None]

    def lines_of(one: NDArray[np.bool_], axis: int) -> int:
        other = tuple(a for a in range(one.ndim) if a != axis)
        return int(one.any(axis=other).sum())

    line = next((a for a in (0, 1) if all(lines_of(one, a) == 1 for one in there)), 0)
    rest = [axis for axis in range(dim) if axis != line]
    for axis in rest:
        if any(lines_of(one, axis) < one.shape[axis] for one in there):
            return line, axis
    return line, rest[0]


def _flat(one: NDArray[np.bool_], axes: tuple[int, int]) -> NDArray[np.bool_]:
    other = tuple(axis for axis in range(one.ndim) if axis not in axes)
    flat: NDArray[np.bool_] = np.asarray(one.any(axis=other)) if other else one
    if axes[0] < 0:
        return flat[None]
    return flat if axes[0] < axes[1] else flat.T


def _claim(
    path: Path,
    owner: NDArray[np.int64],
    found: list[NDArray[np.bool_] | None],
    numbers: list[int],
    lenient: bool,
) -> NDArray[np.int64]:
    """Give each row the places that it changes."""
    before, owner = owner, owner.copy()
    taken = np.zeros(owner.shape, bool)
    for number, mine in zip(numbers, found, strict=True):
        if mine is None:
            continue
        if lenient:  # labels fill what the tokens leave: places that were masked
            mine = mine & (before == PADDING)
        elif (taken & mine).any():
            line, column = np.argwhere(taken & mine)[0]
            raise ValueError(
                f"{NAME}(): collate_fn: key {named(path)!r}, row {line}, column {column}: "
                "changes when the tokens of either of two rows do; expected a collate_fn that "
                "does not mix rows"
            )
        taken |= mine
        owner[mine] = number
    return owner


def _with_gaps(grid: Grid) -> Grid:
    """Count as a row's also what lies between two of its places, such as masked tokens."""
    owner = grid.owner.copy()
    for line in owner:
        for row in set(line[line != PADDING].tolist()):
            at = np.flatnonzero(line == row)
            between = line[at[0] : at[-1] + 1]
            between[between == PADDING] = row
    return Grid(grid.prefix, grid.paths, owner, grid.axes)


def _with_added(grid: Grid, tensors: dict[Path, Tensor], fill: int | None) -> Grid:
    """Count as a row's also the tokens that the collate_fn adds to it, such as the first of all.

    The mask keeps them, and they are another value than what it hides. A mask that hides nothing
    tells nothing: it may be what is wrong.
    """
    ids = tensors[grid.paths[0]]
    for path, mask in tensors.items():
        if not named(path).endswith("attention_mask") or _prefix(path) != grid.prefix:
            continue
        kept = mask.cpu().numpy() != 0
        if tuple(mask.shape) != grid.shape or ids.shape != mask.shape or grid.axes != (0, 1):
            continue
        values = ids.cpu().numpy()
        hidden = np.unique(values[~kept & (grid.owner == PADDING)])
        fill = int(hidden[0]) if len(hidden) == 1 and values.dtype.kind in "iu" else fill
        if fill is None or not grid.one_row_a_line:
            continue
        rows = np.broadcast_to(grid.owner.max(1, keepdims=True), grid.shape)
        added = (grid.owner == PADDING) & kept & (values != fill)
        return replace(grid, owner=np.where(added, rows, grid.owner), fill=fill)
    return grid


# What the model gives.


@dataclass(frozen=True)
class Layout:
    """How an output's axes are those of the batch."""

    kind: str  # "token", "flat", "line", "segment"
    line: int = 0  # axis
    column: int = 0  # axis

    def fits(self, shape: tuple[int, ...], placed: Placed, grid: Grid) -> bool:
        """Whether an output of this shape can be laid out so."""
        lines, columns = grid.shape
        if self.kind == "token":
            return shape[self.line] in (lines, 1) and shape[self.column] == columns
        if self.kind == "flat":
            return shape[0] == lines * columns
        if self.kind == "segment":
            counts = {len(placed.rows), len(placed.rows) + 1, placed.segments}
            return shape[0] in counts
        return grid.one_row_a_line and shape[self.line] == lines

    def take(self, output: Tensor, placed: Placed, grid: Grid, row: int) -> Tensor:
        """A row's part of an output; its tokens, or its line, come first."""
        import torch

        lines, columns = (torch.from_numpy(x).to(output.device) for x in grid.place(row))
        if self.kind == "token":
            output = output.movedim((self.line, self.column), (0, 1))
            return output[lines * (output.shape[0] > 1), columns]
        if self.kind == "flat":
            return output[lines * grid.shape[1] + columns]
        if self.kind == "segment":
            return output[grid.order.index(row)]
        return output.movedim(self.line, 0)[lines[0]]


def layouts(shape: tuple[int, ...], grid: Grid) -> Iterable[Layout]:
    """All that an output may be, the likeliest first."""
    dim = len(shape)
    if dim == 0:
        return
    time_first = 0 <= grid.axes[1] < grid.axes[0]
    pairs = [(0, column) for column in range(1, dim)]
    if dim > 1:
        pairs.insert(0 if time_first else len(pairs), (1, 0))
    for line, column in pairs:
        yield Layout("token", line, column)
    yield Layout("flat")
    yield Layout("segment") if not grid.one_row_a_line else Layout("line", 0)
    if dim > 2:  # the last states of an LSTM: [layers, rows, width]
        yield Layout("line", 1)


def settle(
    name: str, seen: list[tuple[tuple[int, ...], Placed]], prefer: str = ""
) -> tuple[Layout, int] | None:
    """Find the layout, and the number of the grid, that all shapes of an output fit."""
    shape, first = seen[0]
    order = sorted(range(len(first.grids)), key=lambda i: first.grids[i].prefix != prefer)
    for number in order:
        for layout in layouts(shape, first.grids[number]):
            if all(
                len(other) == len(shape)
                and number < len(placed.grids)
                and layout.fits(other, placed, placed.grids[number])
                for other, placed in seen
            ):
                return layout, number
    return None


# Padding.


def with_other_padding(placed: Placed, rows: Rows, special: Iterable[int]) -> Any | None:
    """The batch with other tokens or features in its padding; None if it has no padding."""
    import torch

    generator, new, tensors = np.random.default_rng(rows.seed), {}, tensors_of(placed.batch)
    ids = [pool for pool in rows.pools.values() if isinstance(pool, np.ndarray)]
    for grid in placed.grids:
        for path in grid.paths:
            if is_label(path):
                continue
            tensor, empty = tensors[path], padding_of(tensors[path], grid)
            old = tensor[empty]
            if not old.numel():
                continue
            if tensor.is_floating_point():
                mean, std = next((p for p in rows.pools.values() if isinstance(p, tuple)), (0, 1))
                drawn: Any = mean + std * generator.standard_normal(tuple(old.shape))
            else:
                pool = rows.pools.get(path, ids[0] if ids else np.arange(1, 3))
                drawn = draw_other(pool, old.cpu().numpy(), generator)
            new[path] = tensor.clone()
            new[path][empty] = torch.as_tensor(drawn).to(tensor)
    return with_tensors(placed.batch, new) if new else None


def padding_of(tensor: Tensor, grid: Grid) -> Tensor:
    """A mask of the padding in a column of the batch."""
    import torch

    mask = torch.from_numpy(grid.owner == PADDING)
    if grid.axes[0] < 0:
        mask = mask[0]
    elif grid.axes[0] > grid.axes[1]:
        mask = mask.T
    for axis in range(tensor.dim()):
        if axis not in grid.axes:
            mask = mask.unsqueeze(axis)
    return mask.expand(tensor.shape).to(tensor.device)


def cut_out(placed: Placed, row: int) -> Placed | None:
    """The batch of one row alone, without padding; None where columns do not show how to cut."""
    import torch

    new, grids = {}, []
    if placed.segments is not None:
        return None
    for grid in placed.grids:
        lines, columns = grid.place(row)
        if not len(lines) or grid.axes[0] != 0 or not grid.one_row_a_line:
            return None
        owner = grid.owner[lines[:1]][:, columns]
        grids.append(Grid(grid.prefix, grid.paths, owner, grid.axes))
    for path, tensor in tensors_of(placed.batch).items():
        grid = grid_of(path, placed.grids)
        at, to = (torch.from_numpy(x).to(tensor.device) for x in grid.place(row))
        axes = [grid.axes[1]] if path in grid.paths else []
        if tensor.dim() == 0 or tensor.shape[0] != grid.shape[0]:
            new[path] = tensor
            continue
        if not axes and tensor.dim() > 1:  # masks, positions
            axes = [a for a in range(1, tensor.dim()) if tensor.shape[a] == grid.shape[1]]
            axes = axes if tensor.dim() == 4 else axes[:1]
        tensor = tensor.index_select(0, at[:1])
        for axis in axes:
            tensor = tensor.index_select(axis, to)
        new[path] = tensor
    return Placed(with_tensors(placed.batch, new), tuple(grids), (row,), None)


def grid_of(path: Path, grids: tuple[Grid, ...]) -> Grid:
    """The grid of a column: its own, or that of the columns with the same prefix."""
    for grid in grids:
        if path in grid.paths or (grid.prefix and named(path).startswith(grid.prefix)):
            return grid
    return next((grid for grid in grids if not grid.prefix), grids[0])


def without_padding(placed: Placed) -> Placed | None:
    """The batch of one row without its padding; None if it has none, or cannot be cut."""
    if len(placed.rows) != 1 or all((grid.owner != PADDING).all() for grid in placed.grids):
        return None
    return cut_out(placed, placed.rows[0])


def same_tokens(one: Placed, other: Placed, row: int) -> bool:
    """Whether a row has the same tokens in two batches: not, where a collate_fn masks at random."""
    first, second = tensors_of(one.batch), tensors_of(other.batch)
    for grid, again in zip(one.grids, other.grids, strict=False):
        for path in grid.paths:
            if is_label(path) or path not in again.paths or first[path].dim() > 2:
                continue
            here = _taken(first[path], grid, row)
            there = _taken(second[path], again, row)
            if here.shape == there.shape and not bool((here == there).all()):
                return False
    return True


def _taken(tensor: Tensor, grid: Grid, row: int) -> Tensor:
    """A row's ids in a column of one or two dimensions."""
    import torch

    mine = torch.from_numpy(grid.owner == row)
    if grid.axes[0] < 0:
        tensor = tensor[None]
    elif grid.axes[0] > grid.axes[1]:
        tensor = tensor.T
    return tensor.cpu()[mine]
