"""Labels of rows' first tokens, which a causal model predicts from the padding before them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .model_batch import PADDING, Placed, tensors_of, with_tensors
from .model_rows import is_label

if TYPE_CHECKING:
    from .model_run import Runner

IGNORED = -100  # by torch's cross-entropy


def without_first_labels(placed: Placed) -> Placed | None:
    """The batch with the first token of each line not labelled; None if it is not padded before.

    A model shifts labels by one: the first is predicted by what is before it.
    """
    import torch

    tensors, new = tensors_of(placed.batch), {}
    for grid in placed.grids:
        empty = grid.owner == PADDING
        if grid.axes != (0, 1) or not empty[:, 0].any():
            continue
        lines = np.flatnonzero(~empty.all(1))
        firsts = torch.from_numpy(np.argmin(empty[lines], axis=1))
        for path in grid.paths:
            if is_label(path) and tensors[path].dim() == 2:
                new[path] = tensors[path].clone()
                new[path][torch.from_numpy(lines), firsts] = IGNORED
    return replace(placed, batch=with_tensors(placed.batch, new)) if new else None


def by_first_labels(
    runner: Runner, one: Placed, other: Placed, names: Iterable[str], tolerance: float
) -> list[str]:
    """Which numbers for the whole batch do not move where first tokens have no label."""
    bare = without_first_labels(one), without_first_labels(other)
    if not names or bare[0] is None or bare[1] is None:
        return []
    try:
        first, second = runner(bare[0].batch), runner(bare[1].batch)
    except Exception:  # a loss that ignores another label
        return []
    return [
        name
        for name in names
        if abs(float(second[name]) - float(first[name]))
        <= tolerance * (abs(float(first[name])) or 1.0)
    ]


def note_of_first_labels(name: str, by: float) -> str:
    """What a loss that moves through these labels alone costs, and how to leave them out."""
    return (
        f"{name}, one number for the batch, moves by {by:.1e} with the padding, through the label "
        "of each left-padded row's first token alone, which padding predicts; the ignored label "
        f"({IGNORED}) there leaves it out"
    )
