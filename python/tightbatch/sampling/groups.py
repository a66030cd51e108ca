"""Groups of rows: their labels, and how many rows of each an epoch has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core

Array = NDArray[np.int64]
Floats = NDArray[np.float64]

_MOST_PRODUCT = 2**62  # quota times rows of a group: the planner counts in 64 bits
# An epoch of so many times the rows there are, and of more than that, is a mistake: shares of
# tokens give a group of short rows as many of them as a few very long rows of another weigh.
_MOST_TIMES, _MOST_ROWS = 1000, 2**24


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of each row, as a number, and what is planned from that."""

    labels: list[Any]  # in the order in which they come first
    numbers: Array
    fingerprint: int
    quotas: Array | None = None  # rows of each group in an epoch; None: each row once

    def plan(
        self,
        function: str,
        lengths: Array,
        settings: dict[str, Any],
        epoch: int,
        window_batches: int,
    ) -> tuple[Array, Array]:
        """Give an epoch's indices [rows], and offsets [batches + 1] into them."""
        count, quotas = len(self.labels), self.quotas
        return _core.plan_groups(
            function, lengths, settings, epoch, self.numbers, count, quotas, window_batches
        )

    def identity(self) -> list[int]:
        """Give what tells these groups from others: a state or a saved plan holds it."""
        numbers = [len(self.labels), self.fingerprint]
        if self.quotas is not None:
            numbers.append(_core.fingerprint("groups", self.quotas))
        return numbers


@dataclass(frozen=True)
class Shares:
    """How much of an epoch each group has; as given."""

    weights: Any = None
    temperature: Any = None
    weigh: Any = "rows"

    def read(self, function: str, groups: Any) -> Shares:
        """Check the settings, apart from which groups there are."""
        temperature = self.temperature
        if self.weights is not None and temperature is not None:
            raise ValueError(f"{function}(): group_weights= and temperature=; expected one of them")
        given = "temperature" if temperature is not None else "group_weights"
        if groups is None and not (self.weights is None and temperature is None):
            raise ValueError(f"{function}(): {given}= without groups=; expected groups= too")
        weigh = _core.read_choice(function, "weigh", self.weigh, ("rows", "tokens"))
        if weigh != "rows" and self.weights is None and temperature is None:
            raise ValueError(
                f"{function}(): weigh={weigh!r} without weights; expected group_weights= or "
                "temperature= too"
            )
        if temperature is not None:
            temperature = _core.read_real(function, "temperature", temperature, 0.0, math.inf)
            if temperature == 0:
                raise ValueError(f"{function}(): temperature=0; expected a number above 0")
        weights = self.weights
        if weights is not None and not isinstance(weights, Mapping):
            raise TypeError(
                f"{function}(): group_weights={_core.describe(weights)}; expected a dict with the "
                "weight of each label in groups"
            )
        return Shares(None if weights is None else dict(weights), temperature, weigh)

    def quotas(self, function: str, labels: list[Any], rows: Array, tokens: Floats) -> Array | None:
        """Give the rows of each group in an epoch; `rows` and `tokens` are what groups have."""
        if self.weights is None and self.temperature is None:
            return None
        sizes = rows.astype(np.float64) if self.weigh == "rows" else tokens
        if self.weights is not None:
            weights = _read_weights(function, self.weights, labels)
            weights[rows == 0] = 0.0
            if labels and not weights.any():
                raise ValueError(
                    f"{function}(): the groups with a weight above 0 have no rows; expected one "
                    "with rows at least"
                )
        else:
            weights = _flatten(sizes, self.temperature)
        shares = weights / weights.sum() if weights.any() else weights
        size_of_row = sizes / np.maximum(rows, 1)
        wanted = np.divide(sizes.sum() * shares, size_of_row, where=rows > 0, out=shares * 0)
        most = max(_MOST_TIMES * int(rows.sum()), _MOST_ROWS)
        if wanted.sum() > most or (wanted * rows > _MOST_PRODUCT).any():
            group = int(wanted.argmax())
            raise ValueError(
                f"{function}(): the share of group {_core.show(labels[group])} is "
                f"{wanted[group]:g} rows an epoch, and there are {int(rows.sum())} rows; pass a "
                "smaller weight, a max_length= for the longest rows, or weigh='rows'"
            )
        return _round(wanted)


def _read_weights(function: str, weights: dict[Any, Any], labels: list[Any]) -> Floats:
    known = set(labels)
    for label in weights:
        if label not in known:
            raise ValueError(
                f"{function}(): group_weights has the label {_core.show(label)}, which no row of "
                f"groups has; expected those of groups, such as {_core.show(labels[:3])}"
            )
    read = np.zeros(len(labels))
    for place, label in enumerate(labels):
        if label not in weights:
            raise ValueError(
                f"{function}(): group_weights has no weight for the label {_core.show(label)}; "
                "expected one for each label in groups, 0 to leave a group out"
            )
        name = f"group_weights[{_core.show(label)}]"
        read[place] = _core.read_real(function, name, weights[label], 0.0, 1e100)
    if labels and not read.any():
        raise ValueError(f"{function}(): all group_weights are 0; expected one above 0 at least")
    return read


def _flatten(sizes: Floats, temperature: float) -> Floats:
    """Weights of size ** (1 / temperature), the largest 1."""
    weights = np.zeros(len(sizes))
    kept = sizes > 0
    if kept.any():
        logs = np.log(sizes[kept])
        with np.errstate(over="ignore"):
            weights[kept] = np.exp((logs - logs.max()) / temperature)
    return weights


def _round(wanted: Floats) -> Array:
    """Round so that the sum stays, those with the largest rests up, and none to 0."""
    near = np.rint(wanted)
    exact = np.where(np.abs(wanted - near) <= 1e-9 * np.maximum(wanted, 1), near, wanted)
    rows = np.floor(exact).astype(np.int64)
    lacking = int(np.rint(np.round(exact.sum(), 6))) - int(rows.sum())
    if lacking > 0:
        # Rests that differ by less than machines do are equal: then the first group comes first.
        rests = np.round(exact - rows, 6)
        rows[np.argsort(-rests, kind="stable")[:lacking]] += 1
    none = (rows == 0) & (wanted > 0)
    rows[none] = 1
    for _ in range(int(none.sum())):
        most = int(rows.argmax())
        if rows[most] < 2:
            break
        rows[most] -= 1
    return rows


def read_groups(function: str, groups: Any, rows: int) -> Groups:
    """Read the label of each row."""
    if isinstance(groups, (str, bytes, Mapping, set, frozenset)):
        raise TypeError(f"{function}(): groups={_core.describe(groups)}; expected a label a row")
    labels, of_rows = _read_labels(function, groups)
    if len(of_rows) != rows:
        raise ValueError(
            f"{function}(): found {len(of_rows)} labels in groups for {rows} lengths; expected a "
            "label for each row"
        )
    numbers, firsts = _core.number_groups(function, of_rows)
    named = [of_rows[first] for first in firsts.tolist()]
    if labels is not None:
        named = [labels[int(number)] for number in named]
    named = [tuple(name) if isinstance(name, list) else name for name in named]
    named = [name.item() if isinstance(name, np.generic) else name for name in named]
    return Groups(named, numbers, _core.fingerprint(function, numbers))


def _read_labels(function: str, groups: Any) -> tuple[list[Any] | None, Any]:
    """Give the label of each row as a tuple or int64 array; with names, their numbers."""
    if hasattr(groups, "dictionary_encode") and hasattr(groups, "null_count"):
        return _read_arrow(function, groups)
    if type(groups).__module__.split(".")[0] == "torch" and hasattr(groups, "detach"):
        groups = groups.detach().cpu().numpy()
    elif hasattr(groups, "to_numpy"):
        groups = groups.to_numpy()
    if isinstance(groups, np.ndarray):
        if groups.ndim == 0:
            raise TypeError(f"{function}(): groups has no dimensions; expected a label a row")
        if groups.ndim == 1 and groups.dtype.kind in "iu" and groups.dtype != np.uint64:
            return None, np.ascontiguousarray(groups, np.int64)
        return None, tuple(groups.tolist())
    if not isinstance(groups, Iterable):
        raise TypeError(f"{function}(): groups={_core.describe(groups)}; expected a label a row")
    return None, tuple(groups)


def _read_arrow(function: str, groups: Any) -> tuple[list[Any] | None, Any]:
    if groups.null_count:
        row = int(np.asarray(groups.is_null()).argmax())
        raise TypeError(
            f"{function}(): groups, row {row}: found null; expected an int, a str, or a tuple of "
            "these"
        )
    if str(groups.type).startswith(("list", "large_list", "fixed_size_list", "float", "struct")):
        return None, tuple(groups.to_pylist())
    if not str(groups.type).startswith("dictionary"):
        groups = groups.dictionary_encode()
    chunks = groups.unify_dictionaries().chunks if hasattr(groups, "chunks") else [groups]
    if not chunks:
        return None, ()
    labels = chunks[0].dictionary.to_pylist()
    places = [chunk.indices.to_numpy().astype(np.int64) for chunk in chunks]
    # A dictionary may hold a label twice.
    same, _ = _core.number_groups(function, tuple(labels))
    firsts = np.unique(same, return_index=True)[1]
    return [labels[first] for first in firsts.tolist()], same[np.concatenate(places)]


def count_rows(
    groups: Groups, lengths: Array, settings: Mapping[str, Any], allowed: int
) -> tuple[Array, Floats]:
    """Count the rows of each group, and their tokens, an empty row as one."""
    most = settings["max_length"]
    clipped = lengths if most is None else np.minimum(lengths, most)
    numbers, count = groups.numbers, len(groups.labels)
    if settings["overlong"] == "drop":
        kept = clipped <= allowed
        for _, costs, others, cap, _ in settings.get("limits", ()):
            kept &= costs <= (cap if others is None else cap - others)
        clipped, numbers = clipped[kept], numbers[kept]
    rows = np.bincount(numbers, minlength=count).astype(np.int64)
    tokens = np.bincount(numbers, np.maximum(clipped, 1), minlength=count)
    return rows, tokens.astype(np.float64)
