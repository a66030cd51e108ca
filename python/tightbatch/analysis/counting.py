"""How many tokens of a batch are real, from whichever of its columns tells."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..collate.batch_roles import Group, Role, groups_of
from ..collate.batch_values import Unreadable, flatten, is_nested, readable

__all__ = ["Count", "count_tokens"]

NAME = "WasteMeter"
# Columns that tell where rows end. Without any, padding cannot be told from tokens.
TELLING = frozenset(
    (
        Role.MASK,
        Role.POSITIONS,
        Role.BOUNDARIES,
        Role.PADDED_BOUNDARIES,
        Role.SEQ_IDX,
        Role.SEGMENT_IDS,
        Role.SEQ_LENGTHS,
        Role.LENGTHS,
    )
)


class Count(NamedTuple):
    """Tokens of a batch: of its rows, and with padding.

    `later` are real tokens that a device still counts: numbers to be added when they are read.
    """

    real: int
    padded: int
    later: tuple[Any, ...] = ()


class Source(NamedTuple):
    """A group of columns that tells: its mask, if there is one, and all of it."""

    mask: str | None
    group: Group


def count_tokens(batch: Any) -> Count | None:
    """Count the tokens of a batch; None where no column tells."""
    try:
        columns = batch if isinstance(batch, (dict, Mapping)) else flatten(batch, NAME)
        sources = _sources_of(tuple(columns))
        if not sources and any(map(is_nested, columns.values())):
            columns = flatten(columns, NAME)
            sources = _sources_of(tuple(columns))
    except (TypeError, AttributeError):
        return None
    found: Count | None = None
    for source in sources:
        count = _count_source(source, columns)
        if count is not None:
            found = count if found is None else _add(found, count)
    return found


def _add(one: Count, other: Count) -> Count:
    return Count(one.real + other.real, one.padded + other.padded, one.later + other.later)


@functools.lru_cache(maxsize=256)
def _sources_of(keys: tuple[Any, ...]) -> tuple[Source, ...]:
    sources = []
    for group in groups_of(tuple(key for key in keys if isinstance(key, str))):
        roles = list(map(Role, group.roles))
        if TELLING.isdisjoint(roles):
            continue
        mask = group.keys[roles.index(Role.MASK)] if roles.count(Role.MASK) == 1 else None
        sources.append(Source(mask, group))
    return tuple(sources)


def _count_source(source: Source, columns: Mapping[Any, Any]) -> Count | None:
    if source.mask is not None:
        found = _count_mask(columns[source.mask])
        if found is not None:
            return found
    values = [columns[key] for key in source.group.keys]
    if any(map(_is_elsewhere, values)):
        return _count_elsewhere(source.group, values)
    if TELLING.intersection(map(Role, source.group.roles)) == {Role.LENGTHS}:
        return _count_lengths(source.group, values)
    return _count_segments(source.group, values)


def _count_mask(mask: Any) -> Count | None:
    """Count a mask of rows and columns; None for another one."""
    if isinstance(mask, np.ndarray):
        if mask.ndim != 2 or mask.dtype.kind not in "biu":
            return None
        return Count(int(np.count_nonzero(mask)), mask.size)
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(mask, torch.Tensor) or mask.ndim != 2:
        return None
    if mask.is_floating_point() or mask.layout != torch.strided:
        return None
    if mask.device.type == "cpu":
        return Count(int(np.count_nonzero(mask.numpy())), mask.numel())
    if mask.device.type == "meta":
        return None
    return Count(0, mask.numel(), ((mask != 0).sum(),))


def _is_elsewhere(value: Any) -> bool:
    """Tell whether a value lies on a device, where to read it is to wait for it."""
    device = getattr(value, "device", None)
    return device is not None and getattr(device, "type", "cpu") != "cpu"


def _count_elsewhere(group: Group, values: list[Any]) -> Count | None:
    """Count what a device holds, without waiting: by boundaries of rows without padding."""
    named = dict(zip(map(Role, group.roles), values, strict=True))
    ids = named.get(Role.IDS, named.get(Role.POSITIONS))
    bounds = named.get(Role.BOUNDARIES)
    if ids is None or bounds is None or getattr(bounds, "ndim", 0) != 1:
        return None
    return Count(0, int(np.prod(ids.shape)), (bounds[-1] - bounds[0],))


def _count_lengths(group: Group, values: list[Any]) -> Count | None:
    """Count by the lengths of rows alone, which do not say on which side the padding is."""
    try:
        named = dict(zip(map(Role, group.roles), map(np.asarray, values), strict=True))
        real = int(named.pop(Role.LENGTHS).sum())
    except (TypeError, ValueError, RuntimeError):
        return None
    shapes = [column.shape[:2] for column in named.values() if column.ndim >= 2]
    if not shapes or real > (padded := int(np.prod(shapes[0]))):
        return None
    return Count(real, padded)


def _count_segments(group: Group, values: list[Any]) -> Count | None:
    """Ask what check_batch asks: where rows begin and end, by all columns together."""
    keys, roles = group.keys, group.roles
    for _ in range(2):
        answer = _core.check_batch(
            NAME, keys, roles, group.partners, 0, values, None, None, -100, True
        )
        if isinstance(answer, tuple):
            _, _, shape, segments = answer
            return Count(int((segments[:, 1] - segments[:, 0]).sum()), shape[0] * shape[1])
        if answer is None:
            return None
        try:
            values = [
                readable(value, Role(role), key, [])
                for key, role, value in zip(keys, roles, values, strict=True)
            ]
        except Unreadable:
            return None
    return None
