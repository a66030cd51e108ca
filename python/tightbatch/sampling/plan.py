"""The plan of an epoch: which rows share a batch. It depends only on lengths and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .groups import Groups, Shares, count_rows, read_groups
from .limits import rows_in_batch
from .schedule import Schedule, plan_parts

NO_CAP = 2**63 - 1

# Batches in a window, with shuffle_window="auto". If lengths are log-normal, about 1.4 % of a batch
# of 32 is then padding, and rows still meet different rows in every epoch.
WINDOW_BATCHES = 100

# Rows held back to fill packs, with pool_size="auto": packs are then about as full as with best fit
# over all rows, and the pool stays in the processor's cache.
_POOL_ROWS = 8192
# The same under several limits, where each of them is looked at when a pack is ended.
_LIMITED_POOL_ROWS = 256

Array = NDArray[np.int64]
Plan = tuple[Array, Array]


def read_pool(
    function: str,
    strategy: Any,
    pool_size: Any,
    *,
    shuffle_window: Any,
    packs: bool,
    limited: bool = False,
) -> tuple[str, int | None]:
    """Read how packs are filled: the strategy, and the rows in the pool; None without a pool.

    `shuffle_window` is what was passed for it, or "auto"; `packs` tells whether there are packs,
    `limited` whether they are under several limits.
    """
    strategy = _core.read_choice(function, "strategy", strategy, ("pool", "best_fit"))
    if isinstance(pool_size, str):
        _core.read_choice(function, "pool_size", pool_size, ("auto",))
        pool_size = None
    else:
        pool_size = _core.read_int(function, "pool_size", pool_size, 1, NO_CAP)
        if not packs:
            raise ValueError(
                f"{function}(): pool_size={pool_size} without packs; expected padding_free=True "
                "and max_tokens= too, or no pool_size"
            )
    if strategy == "best_fit" and pool_size is not None:
        raise ValueError(
            f"{function}(): pool_size={pool_size} with strategy='best_fit'; expected "
            "strategy='pool', or no pool_size"
        )
    if packs and strategy == "pool" and shuffle_window != "auto":
        raise ValueError(
            f"{function}(): shuffle_window={_core.show(shuffle_window)} with strategy='pool'; "
            "expected pool_size=, or strategy='best_fit' too"
        )
    if strategy == "best_fit" or not packs:
        return strategy, None
    if pool_size is None:
        pool_size = _LIMITED_POOL_ROWS if limited else _POOL_ROWS
    return strategy, pool_size


class Planner:
    """Plans epochs, and keeps the last plan; errors name the function ``function``.

    ``settings`` are those of ``_core.read_plan_settings``, with boundaries as an array. Two of them
    are computed here: with "truncate" ``max_length`` is lowered, and a window of None becomes all
    rows, one of "auto" about 100 batches or a quarter of the rows. ``by_row`` are settings with an
    item for each row: limits and keys to sort by.
    """

    def __init__(
        self,
        function: str,
        lengths: Array,
        settings: dict[str, Any],
        *,
        auto_window: bool,
        by_row: Mapping[str, Any] | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self.function, self.lengths, self.by_row = function, lengths, by_row or {}
        self.schedule = schedule
        window = settings["shuffle_window"]
        self.settings = {**settings, "shuffle_window": 1}
        self.rows, total, allowed, self.fingerprint = self._survey()
        capped = settings["max_tokens"] is not None or settings.get("boundaries") is not None
        if settings["overlong"] == "truncate" and capped:
            self._cut(allowed)
            self.rows, total, *_ = self._survey()
        most = self.settings["max_length"]
        self.truncated = 0 if most is None else int((lengths > most).sum())
        self.window_batches = WINDOW_BATCHES if auto_window else 0  # of groups
        if settings["pool_size"] is not None:
            window = None
        elif window is None:
            window = self._auto_window(total) if auto_window else max(len(lengths), 1)
        self.settings["shuffle_window"] = window
        self._total = total
        self.groups: Groups | None = None
        self.saved: dict[tuple[int, int], Plan] = {}  # of a file
        self._kept: tuple[tuple[int, int], Plan] | None = None

    def _survey(self) -> tuple[int, int, int, int]:
        settings = {**self.settings, **self.by_row}
        return _core.survey_lengths(self.function, self.lengths, settings)

    def _cut(self, allowed: int) -> None:
        """Lower max_length to what the caps allow."""
        if allowed < 1:
            cap = f"max_tokens={self.settings['max_tokens']}"
            if self.settings["max_tokens"] is None:
                cap = "the last boundary"
            raise ValueError(
                f"{self.function}(): {cap} is less than any row costs; pass a larger one"
            )
        self.settings["max_length"] = min(self.settings["max_length"] or NO_CAP, allowed)

    def _auto_window(self, total: int, cap: int | None = None) -> int:
        """Rows in a window: 100 batches, but at most a quarter of the rows, and at least one batch.

        `total` is the sum of the lengths after cutting.
        """
        batch = self.settings["batch_size"] or NO_CAP
        cap = self.settings["max_tokens"] if cap is None else cap
        if cap is not None:
            mean = np.array([max(-(-total // max(self.rows, 1)), 1)])
            (cost,) = _core.row_costs(self.function, mean, self.settings).tolist()
            batch = min(batch, max(cap // cost, 1))
        batch = rows_in_batch(self.by_row.get("limits", ()), batch)
        batches = max(min(self.rows // (4 * batch), WINDOW_BATCHES), 1)
        return int(min(batch * batches, NO_CAP))

    def group(self, groups: Any, shares: Shares) -> None:
        """Plan each group of rows apart; `groups` is as given, `shares` are read."""
        self.lengths = np.require(self.lengths, requirements="O")  # rows are counted twice
        read = read_groups(self.function, groups, len(self.lengths))
        allowed = self._survey()[2]
        settings = {**self.settings, **self.by_row}
        rows, tokens = count_rows(read, self.lengths, settings, allowed)
        quotas = shares.quotas(self.function, read.labels, rows, tokens)
        self.groups = replace(read, quotas=quotas)
        if quotas is not None:
            self.rows = int(quotas.sum())

    @property
    def renews(self) -> bool:
        """Whether epochs differ."""
        has_quotas = self.groups is not None and self.groups.quotas is not None
        return self.settings["shuffle"] or has_quotas or self.schedule is not None

    def key(self, epoch: int, ranks: int) -> tuple[int, int]:
        """Give what a plan depends on, beside lengths and settings: an epoch, and ranks."""
        in_runs = self.settings["shuffle"] and self.settings["balance"] is None
        return (
            epoch if self.renews else 0,
            ranks if in_runs or self.settings["longest_first"] else 1,
        )

    def plan(self, epoch: int, ranks: int = 1) -> Plan:
        """Give an epoch's indices [rows], and offsets [batches + 1] into them."""
        key = self.key(epoch, ranks)
        kept = self._kept  # read once: another thread may keep another epoch's
        if kept is None or kept[0] != key:
            plan = self.saved.get(key)
            kept = self._kept = (key, self._make(*key) if plan is None else plan)
        return kept[1]

    def use(self, saved: dict[tuple[int, int], Plan]) -> None:
        """Take these plans instead of making them."""
        self.saved, self._kept = saved, None

    def _make(self, epoch: int, ranks: int) -> Plan:
        settings = {**self.settings, **self.by_row, "ranks": ranks}
        if self.schedule is not None:
            return self._make_parts(self.schedule, settings, epoch)
        if self.groups is None:
            return _core.plan_batches(self.function, self.lengths, settings, epoch)
        return self.groups.plan(self.function, self.lengths, settings, epoch, self.window_batches)

    def _make_parts(self, schedule: Schedule, settings: dict[str, Any], epoch: int) -> Plan:
        """Plan an epoch in which the cap on tokens changes."""
        rows = np.arange(len(self.lengths))
        if settings["overlong"] == "drop":
            rows = rows[self.row_costs(rows) <= schedule.least]
        if settings["shuffle"]:
            one_by_one = {"batch_size": 1, "max_tokens": None, "padding_free": True}
            one_by_one |= {"pool_size": None, "boundaries": None, "ranks": 1, "drop_last": False}
            order = {**settings, **one_by_one}
            rows = rows[_core.plan_batches(self.function, self.lengths[rows], order, epoch)[0]]

        def plan(part: Array, cap: int, is_last: bool) -> Plan:
            own = {**settings, "max_tokens": cap}
            own["drop_last"] = settings["drop_last"] and is_last
            if self.window_batches and settings["shuffle_window"] is not None:
                own["shuffle_window"] = self._auto_window(self._total, cap)
            return _core.plan_batches(self.function, self.lengths[part], own, epoch)

        return plan_parts(schedule, rows, epoch, plan)

    def row_costs(self, rows: Array) -> Array:
        """Give the cost of each of these rows alone."""
        return _core.row_costs(self.function, self.lengths[rows], self.settings)

    def __getstate__(self) -> dict[str, Any]:
        """Give everything except plans, which can be made again."""
        return {**self.__dict__, "_kept": None, "saved": {}}


def lower_bound(lengths: Array, capacity: int, max_segments: int | None) -> int:
    """Give the least number of packs for segments of these lengths."""
    if len(lengths) == 0:
        return 0
    if capacity == 0:  # no length is above it
        return 1
    sizes = np.sort(lengths)
    sums = np.concatenate([[0], np.cumsum(sizes)])
    half = np.searchsorted(sizes, capacity // 2, side="right")
    least = np.unique(sizes[:half])
    # Rows above capacity - k are alone. Those above half the capacity need a pack each too, and
    # the rows from k up to half the capacity may share the room that they leave.
    alone = np.searchsorted(sizes, capacity - least, side="right")
    small = sums[half] - sums[np.searchsorted(sizes, least)]
    room = (alone - half) * capacity - (sums[alone] - sums[half])
    more = np.maximum(-(-(small - room) // capacity), 0)
    bound = max(int((len(sizes) - half + more).max(initial=len(sizes) - half)), 1)
    return bound if max_segments is None else max(bound, -(-len(sizes) // max_segments))
