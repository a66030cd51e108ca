"""Packings in files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from .. import _core
from .limits import Limit, Limits, as_state, read_limits
from .plan import NO_CAP
from .plan_file import Array, check_batches, read_plan, wait_for, write_plan

_NUMBERS = ("capacity", "max_segments", "dropped", "truncated")
_ARRAYS = ("indices", "starts", "offsets", "row_lengths")


class Saved:
    """A packing that files hold."""

    limits: Limits | None

    def save(self, path: Any) -> None:
        """Save the packing in a file that processes can map: see :meth:`load`.

        The file appears in one step, when it is complete. It has the packing's arrays, 8 bytes a
        number, and fingerprints of them.

        Parameters
        ----------
        path : str or path
            The file's name, such as ``"packs.npy"``: NumPy can read it as an array.

        Raises
        ------
        OSError
            When the file cannot be written.
        """
        name = "Packing.save"
        about = {"kind": "Packing", **{number: getattr(self, number) for number in _NUMBERS}}
        arrays = {array: getattr(self, array) for array in _ARRAYS}
        if not arrays["starts"].any():
            del arrays["starts"]
        limits = self.limits or {}
        about["limits"] = as_state(limits) or []
        arrays |= {f"costs of {limit}": limits[limit].costs for limit in limits}
        write_plan(name, path, about, arrays.items())

    @classmethod
    def load(
        cls,
        path: Any,
        *,
        lengths: Any = None,
        capacity: int | None = None,
        limits: Mapping[str, Limit | tuple[Any, int]] | None = None,
        timeout: float | None = None,
    ) -> Self:
        """Give a packing that was saved, mapped: the processes of a node share its memory.

        Parameters
        ----------
        path : str or path
            The file that :meth:`save` has written.
        lengths : sequence of int, ndarray, or CPU tensor, shape [rows], optional
            The lengths that must have been packed. (`apply` compares them too.)
        capacity : int, optional
            The capacity that it must have.
        limits : dict of {str: (costs, cap)}, optional
            The limits that it must have been packed under.
        timeout : float, optional
            How many seconds to wait until there is such a file: one process packs and saves, and
            the others wait. None: do not wait.

        Returns
        -------
        Packing

        Raises
        ------
        ValueError
            When the file is for other lengths, limits or another capacity, is of another version,
            or is damaged.
        TimeoutError
            When there was no such file in time.
        OSError
            When the file cannot be read.

        Examples
        --------
        >>> import os, tempfile
        >>> import tightbatch as tb
        >>> path, lengths = os.path.join(tempfile.mkdtemp(), "packs.npy"), [5, 2, 3, 1]
        >>> tb.pack(lengths, 6, seed=None).save(path)
        >>> list(tb.Packing.load(path, lengths=lengths))
        [[0, 3], [1, 2]]
        """
        return cls(**_load(path, lengths, capacity, limits, timeout))


def _load(path: Any, lengths: Any, capacity: Any, limits: Any, timeout: Any) -> dict[str, Any]:
    """Give the fields of a packing."""
    name = "Packing.load"
    if lengths is not None:
        lengths = _core.read_lengths(name, "lengths", lengths)
    if capacity is not None:
        capacity = _core.read_int(name, "capacity", capacity, 1, NO_CAP - 1)

    def load() -> dict[str, Any]:
        fields = _read(name, path)
        if capacity is not None and fields["capacity"] != capacity:
            raise ValueError(
                f"{name}(): {path} has capacity={fields['capacity']}, expected {capacity}"
            )
        packed = fields["row_lengths"]
        if limits is not None and not _are_same(
            read_limits(name, limits, len(packed)), fields["limits"] or {}
        ):
            raise ValueError(
                f"{name}(): {path} was packed under other limits, {list(fields['limits'] or {})}; "
                "expected those that are passed"
            )
        if lengths is not None and not np.array_equal(lengths, packed):
            raise ValueError(
                f"{name}(): {path} is for {len(packed)} rows and there are {len(lengths)} lengths, "
                "or as many others; expected the lengths that were packed"
            )
        return fields

    return wait_for(name, path, timeout, load)


def _read(name: str, path: Any) -> dict[str, Any]:
    about, arrays = read_plan(name, path)
    if about.get("kind") != "Packing":
        raise ValueError(
            f"{name}(): {path} has a plan of {_core.show(about.get('kind'))}; expected a Packing"
        )
    numbers = {field: about.get(field) for field in _NUMBERS}
    if "indices" in arrays and "starts" not in arrays:
        arrays["starts"] = np.zeros(len(arrays["indices"]), np.int64)
    if not _are_numbers(numbers) or not _are_packs(numbers, arrays):
        raise ValueError(f"{name}(): {path} has packs that cannot be; save the packing again")
    limits = _read_limits(about.get("limits", []), arrays)
    if limits is None:
        raise ValueError(f"{name}(): {path} has limits that cannot be; save the packing again")
    return {**numbers, **{field: arrays[field] for field in _ARRAYS}, "limits": limits or None}


def _read_limits(told: Any, arrays: dict[str, Array]) -> dict[str, Limit] | None:
    """Give the limits that a file has; None where they cannot be."""
    limits = {}
    for one in told if isinstance(told, list) else [None]:
        if not isinstance(one, list) or [type(part) for part in one] != [str, int, bool]:
            return None
        costs = arrays.get(f"costs of {one[0]}")
        if costs is None or costs.dtype != np.int64 or len(costs) != len(arrays["row_lengths"]):
            return None
        if not 0 <= one[1] < NO_CAP or (len(costs) and int(costs.min()) < 0):
            return None
        limits[one[0]] = Limit(costs, one[1], one[2])
    return limits


def _are_same(given: Limits, found: Limits) -> bool:
    return as_state(given) == as_state(found) and all(
        np.array_equal(limit.costs, found[name].costs) for name, limit in given.items()
    )


def _are_numbers(numbers: dict[str, Any]) -> bool:
    least = {"capacity": 1, "max_segments": 1, "dropped": 0, "truncated": 0}
    return all(
        (type(number) is int and least[name] <= number < NO_CAP)
        or (name == "max_segments" and number is None)
        for name, number in numbers.items()
    )


def _are_packs(numbers: dict[str, Any], arrays: dict[str, Array]) -> bool:
    """Tell whether all segments lie in rows that there are, so that no reader leaves them."""
    if any(name not in arrays or arrays[name].dtype != np.int64 for name in _ARRAYS):
        return False
    indices, starts, offsets, rows = (arrays[name] for name in _ARRAYS)
    if len(starts) != len(indices) or not check_batches(indices, offsets, len(rows)):
        return False
    if len(rows) and int(rows.min()) < 0:
        return False
    return not starts.any() or bool((starts >= 0).all() and (starts <= rows[indices]).all())
