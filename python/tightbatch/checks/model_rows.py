"""The rows of some samples, and the same samples with other tokens in some of the rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .model_tree import Path, leaves, named, replaced

NAME = "check_model"
# What says where tokens are and what they count for, by the ends of names. It is never changed.
STRUCTURE = (
    "mask",
    "masks",
    "token_type_ids",
    "position_ids",
    "lengths",
    "length",
    "seq_idx",
    "segment_ids",
    "row_idx",
    "grid_thw",
    "offset_mapping",
    "word_ids",
)
FEWEST_VALUES = 4  # that are drawn from


@dataclass(frozen=True)
class Unit:
    """A row: a sample, or one of the rows that a sample packs."""

    sample: int
    begin: int
    end: int  # in tokens of the sample
    segment: int | None  # its number in a sample of several

    @property
    def name(self) -> str:
        """As the report calls it."""
        if self.segment is None:
            return f"row {self.sample}"
        return f"row {self.sample}.{self.segment}"


def is_label(path: Path) -> bool:
    """Whether a column holds labels."""
    return "label" in str(path[-1] if path else "").lower()


def as_array(value: Any) -> NDArray[Any] | None:
    """Give a row of numbers as an array; None for what is no row of numbers."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        tensor = value.detach().cpu()
        value = tensor.float().numpy() if str(tensor.dtype) == "torch.bfloat16" else tensor.numpy()
    elif isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        return None
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return None
    return array if array.ndim > 0 and array.dtype.kind in "iuf" else None


def _like(value: Any, array: NDArray[Any]) -> Any:
    """Give an array as the kind of row that `value` is."""
    if hasattr(value, "detach"):
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).to(value.dtype).to(value.device)
    if isinstance(value, (list, tuple)):
        return type(value)(array.tolist())
    return array.astype(value.dtype) if isinstance(value, np.ndarray) else array


class Rows:
    """The rows of some samples.

    ``pools`` are the values that tokens are drawn from, by column; ``special`` are the ids that
    stay as they are, because models look for them; ``padding`` are those of them that pad.
    """

    def __init__(
        self,
        samples: list[Any],
        *,
        special: Collection[int] = (),
        padding: Collection[int] = (),
        vocabulary: int | None = None,
        pools: dict[Path, Any] | None = None,
        numbers: list[int] | None = None,
        seed: int = 0,
    ) -> None:
        self.samples, self.seed = samples, seed
        self.numbers = list(range(len(samples))) if numbers is None else numbers
        self.special, self.padding = frozenset(special), frozenset(padding)
        self.vocabulary = vocabulary
        self.values = [leaves(sample, lists=False) for sample in samples]
        arrays = [
            {path: a for path, value in one.items() if (a := as_array(value)) is not None}
            for one in self.values
        ]
        self.columns = list(pools) if pools is not None else _changeable(arrays)
        if not self.columns:
            kinds = sorted(
                {named(path) or type(v).__name__ for one in self.values for path, v in one.items()}
            )
            raise ValueError(
                f"{NAME}(): samples have no rows of tokens or features that could be changed, but "
                f"{_core.show(kinds)}; expected dicts, tuples or bare rows of numbers"
            )
        self.main = _main(self.columns)
        self.arrays = arrays
        self.pools = self._pools() if pools is None else pools
        self.marks = self._marks()
        self.units = [unit for row in range(len(samples)) for unit in self._units(row)]

    def _units(self, row: int) -> Iterable[Unit]:
        """The rows of one sample: several where it is a pack."""
        number, main = self.numbers[row], self.arrays[row].get(self.main)
        size = 0 if main is None else len(main)
        lengths = self._packed(row, size)
        if len(lengths) < 2:
            return [Unit(number, 0, size, None)]
        ends = np.cumsum(lengths)
        return [
            Unit(number, int(end - length), int(end), segment)
            for segment, (length, end) in enumerate(zip(lengths, ends, strict=True))
            if length
        ]

    def _packed(self, row: int, size: int) -> list[int]:
        """The lengths of the rows in a pack, by its seq_lengths or else by its positions."""
        for path, array in self.arrays[row].items():
            if path and path[-1] == "seq_lengths" and array.ndim == 1:
                return [int(length) for length in array]
        for path, array in self.arrays[row].items():
            if path and path[-1] == "position_ids" and array.shape == (size,) and size:
                begins = np.flatnonzero(array == array[0])
                return [int(length) for length in np.diff([*begins, size])]
        return [size]

    def _pools(self) -> dict[Path, Any]:
        """The values of each column over all samples: ids that are there are valid ids."""
        pools: dict[Path, Any] = {}
        for path in self.columns:
            parts = [one[path].ravel() for one in self.arrays if path in one]
            values = np.concatenate(parts) if parts else np.zeros(0)
            if values.dtype.kind == "f":
                finite = values[np.isfinite(values)].astype(np.float64)
                mean, std = (finite.mean(), finite.std()) if finite.size else (0.0, 0.0)
                pools[path] = (float(mean), float(std) or 1.0)
                continue
            known = np.unique(values)
            known = known[known >= 0] if is_label(path) else known
            kept = known[~np.isin(known, list(self.special))]
            if len(kept) < FEWEST_VALUES and not is_label(path):
                kept = self._more_ids(kept)
            pools[path] = kept if len(kept) > 1 else known
        return pools

    def _marks(self) -> NDArray[Any]:
        """Special ids that others are replaced by: those that occur, or all that do not pad."""
        ids = np.array(sorted(self.special - self.padding), np.int64)
        parts = [one[self.main].ravel() for one in self.arrays if self.main in one]
        there = [ids[np.isin(ids, part)] for part in parts if part.dtype.kind in "iu"]
        used = np.unique(np.concatenate(there)) if there else ids[:0]
        return used if len(used) > 1 else ids

    def _more_ids(self, kept: NDArray[Any]) -> NDArray[Any]:
        most = int(kept.max()) + 2 if len(kept) else 2
        ids = np.arange(1, min(64, self.vocabulary) if self.vocabulary else most)
        return np.union1d(kept, ids[~np.isin(ids, list(self.special))])

    def changed(self, units: Collection[int], draw: int = 0, *, mark: bool = False) -> list[Any]:
        """Give the samples with other tokens in some rows, each of them another than before.

        With ``mark`` special ids are changed too: it shows where a row is in the batch. They become
        other special ids, because a collate_fn that masks at random draws for all others.
        """
        generator = np.random.default_rng([self.seed, draw])
        where: dict[int, list[Unit]] = {}
        for index in units:
            unit = self.units[index]
            where.setdefault(self.numbers.index(unit.sample), []).append(unit)
        samples = list(self.samples)
        for row, parts in where.items():
            new = {}
            for path in self.columns:
                array = self.arrays[row].get(path)
                if array is None:
                    continue
                array, size = array.copy(), len(array)
                for unit in parts:
                    part = slice(unit.begin, unit.end) if size == self._size(row) else slice(None)
                    array[part] = self._others(path, array[part], generator, mark)
                new[path] = _like(self.values[row][path], array)
            samples[row] = replaced(samples[row], new, lists=False)
        return samples

    def _size(self, row: int) -> int:
        main = self.arrays[row].get(self.main)
        return 0 if main is None else len(main)

    def _others(
        self, path: Path, old: NDArray[Any], generator: np.random.Generator, mark: bool
    ) -> NDArray[Any]:
        """Draw other values for some tokens."""
        pool = self.pools[path]
        if old.dtype.kind == "f":
            mean, std = pool
            new: NDArray[Any] = mean + std * generator.standard_normal(old.shape)
            return new.astype(old.dtype)
        if is_label(path):
            return draw_other(pool, old, generator, old < 0)
        special = np.isin(old, list(self.special))
        if not mark:
            return draw_other(pool, old, generator, special)
        marked = draw_other(pool, old, generator)
        if len(self.marks) < 2:
            return marked
        return np.where(special, draw_other(self.marks, old, generator), marked)

    def alone(self, index: int) -> Rows:
        """Give one row by itself."""
        unit = self.units[index]
        row = self.numbers.index(unit.sample)
        sample = self.samples[row]
        if unit.segment is not None:
            new, size = {}, self._size(row)
            for path, array in self.arrays[row].items():
                if path and path[-1] == "seq_lengths":
                    array = array[:1] * 0 + (unit.end - unit.begin)
                elif len(array) == size:
                    array = array[unit.begin : unit.end]
                new[path] = _like(self.values[row][path], array)
            sample = replaced(sample, new, lists=False)
        return self._again([sample], [unit.sample])

    def in_company(self, longer: Collection[int], most: int | None) -> Rows:
        """Give the samples in the reverse order, some of them made longer by a half.

        A sample grows by repeating its values, to at most ``most`` tokens; packs do not.
        """
        samples = []
        for row, sample in enumerate(self.samples):
            if row in longer and len(list(self._units(row))) == 1:
                sample = replaced(sample, self._grown(row, most), lists=False)
            samples.append(sample)
        return self._again(samples[::-1], self.numbers[::-1])

    def _grown(self, row: int, most: int | None) -> dict[Path, Any]:
        size, new = self._size(row), {}
        longest = max(self._size(other) for other in range(len(self.samples)))
        for path, array in self.arrays[row].items():
            per_token, name = len(array) == size, str(path[-1]) if path else ""
            if not len(array) or not (per_token or path in self.columns):
                continue
            wanted = longest + longest // 2 + 1 if per_token else len(array) * 3 // 2 + 1
            wanted = max(min(wanted, most or wanted), len(array))
            if name.endswith("lengths") or array.ndim > 2:
                continue
            array = np.resize(array, (wanted, *array.shape[1:]))  # repeats it
            if name.endswith("position_ids") and array.ndim == 1:
                array = array[0] + np.arange(wanted)
            new[path] = _like(self.values[row][path], array)
        return new

    def _again(self, samples: list[Any], numbers: list[int]) -> Rows:
        return Rows(
            samples,
            special=self.special,
            padding=self.padding,
            vocabulary=self.vocabulary,
            pools=self.pools,
            numbers=numbers,
            seed=self.seed,
        )


def draw_other(
    pool: NDArray[Any],
    old: NDArray[Any],
    generator: np.random.Generator,
    fixed: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """Draw values of the sorted pool that differ from the old ones; fixed ones stay."""
    if not len(pool):
        return old
    place = np.searchsorted(pool, old).clip(0, len(pool) - 1)
    known = pool[place] == old
    step = generator.integers(1, max(len(pool), 2), old.shape)
    new = pool[(place + np.where(known, step, step - 1)) % len(pool)].astype(old.dtype)
    return new if fixed is None else np.where(fixed, old, new)


def _main(columns: list[Path]) -> Path:
    """The column whose rows are the tokens."""
    for path in columns:
        if path and path[-1] == "input_ids":
            return path
    return next((path for path in columns if not is_label(path)), columns[0])


def _changeable(arrays: list[dict[Path, NDArray[Any]]]) -> list[Path]:
    """The columns of tokens, features and labels of tokens."""
    found: list[Path] = []
    for path in dict.fromkeys(path for one in arrays for path in one):
        name = str(path[-1]).lower() if path else ""
        if not name.endswith(STRUCTURE):
            found.append(path)
    wide = [path for path in found if not _is_flags(path, arrays)]
    return wide if any(not is_label(path) for path in wide) else found


def _is_flags(path: Path, arrays: list[dict[Path, NDArray[Any]]]) -> bool:
    """Whether a column without a name that says so is a mask: ints 0 and 1 alone."""
    rows = [one[path] for one in arrays if path in one]
    if is_label(path) or (path and str(path[-1]).endswith("input_ids")):
        return False
    return all(row.dtype.kind in "iu" and np.isin(row, (0, 1)).all() for row in rows)
