"""Every way of making batches of some lengths: its plan, measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..sampling.buckets import bucket_boundaries
from ..sampling.plan import WINDOW_BATCHES, Planner, read_pool
from .report import Strategy, Window
from .shapes import Shapes, count_distinct, dealt_edges, measure, shared_out

__all__ = ["Caps", "Plans"]

Array = NDArray[np.int64]
NAME = "analyze"
BYTES_PER_TOKEN = 8  # a column of int64
MOST_BUCKETS = 64  # of the curve
# Windows of the curve, in batches of the mean length; 1 is random batches.
CURVE = (4, 16, 100, 400)
# A window is at most a quarter of the rows.
PARTS = 4
MOST_ESTIMATED = 2**20  # rows


@dataclass(frozen=True)
class Caps:
    """The settings that calls show, as they were passed."""

    batch_size: int | None
    max_tokens: int | None
    max_length: int | None
    pad_to_multiple_of: int | None
    shuffle_window: int | str | None
    buckets: int
    capacity: int | None
    num_replicas: int
    seed: int
    overlong: str | None = None  # "drop" where rows are dropped

    def arguments(self, *names: str, **more: Any) -> str:
        """Write settings as arguments: those that were passed."""
        known: dict[str, Any] = {name: getattr(self, name, None) for name in names} | more
        shown = [
            f"{name}={value!r}"
            for name, value in known.items()
            if value is not None and not (name == "seed" and value == 0)
        ]
        return ", ".join(shown)


class Plans:
    """The plans of some lengths under some caps.

    `lengths` are cut already, and of rows that are kept; `settings` are those of
    ``_core.read_plan_settings``.
    """

    def __init__(self, lengths: Array, settings: dict[str, Any], caps: Caps) -> None:
        self.lengths, self.settings, self.caps = lengths, settings, caps
        self.auto = caps.shuffle_window == "auto"
        self.shuffled, self.random = _core.shuffle_lengths(NAME, lengths, caps.seed, 0)
        self._latest: tuple[dict[str, Any], tuple[Array, Array, Array]] | None = None
        self.loads: dict[str, Array] = {}  # tokens of each rank at each step, by strategy
        self.total = int(lengths.sum())
        self.squares = _squares(lengths)
        self.longest = int(lengths.max())
        multiple = caps.pad_to_multiple_of or 1
        self.width = -(-self.longest // multiple) * multiple
        if self.width * len(lengths) >= 2**63:
            row = int(lengths.argmax())
            raise OverflowError(
                f"{NAME}(): row {row}: all {len(lengths)} rows at its width of {self.width} are "
                "more tokens than int64 can count; pass max_length="
            )

    def _plan(self, settings: dict[str, Any], *, ordered: bool) -> tuple[Array, Array, Array]:
        settings = {**settings, "ranks": self.caps.num_replicas if ordered else 1}
        random = self.random if ordered else None
        return _core.plan_lengths(NAME, self.shuffled, settings, random)

    def _plan_once(self, settings: dict[str, Any], *, ordered: bool) -> tuple[Array, Array, Array]:
        """Plan, or give the latest plan again where only widths differ, and no cap is on them."""
        if ordered or settings["max_tokens"] is not None:
            return self._plan(settings, ordered=ordered)
        widths = ("boundaries", "pad_to_multiple_of")
        key = {name: value for name, value in settings.items() if name not in widths}
        if self._latest is None or self._latest[0] != key:
            self._latest = key, self._plan(settings, ordered=False)
        return self._latest[1]

    def _planner(self, **other: Any) -> dict[str, Any]:
        """Settle settings as LengthBatchSampler does."""
        settings = {**self.settings, **other}
        _, pool = read_pool(
            NAME,
            "pool",
            "auto",
            shuffle_window="auto",
            packs=settings["padding_free"] and settings["max_tokens"] is not None,
        )
        settings["pool_size"] = pool
        planner = Planner(NAME, self.lengths, settings, auto_window=self.auto)
        return planner.settings

    def _sampled(self, name: str, call: str, settings: dict[str, Any]) -> Strategy:
        """Measure a plan of LengthBatchSampler."""
        ranks = self.caps.num_replicas
        lengths, begins, ends = self._plan_once(settings, ordered=ranks > 1)
        whole = shapes = measure(NAME, lengths, settings, begins, ends)
        if ranks > 1:
            begins, ends = dealt_edges(begins, ends, ranks)
            if settings["padding_free"] and settings["max_tokens"] is None:
                shapes = shared_out(lengths, begins, ends, ranks)
            else:
                shapes = measure(NAME, lengths, settings, begins, ends)
        self.loads[name] = shapes.loads(ranks)
        squares = self.squares if settings["padding_free"] else None
        return self._strategy(name, call, shapes, length_std=whole.length_std, squares=squares)

    def _strategy(
        self,
        name: str,
        call: str,
        shapes: Shapes,
        *,
        length_std: float,
        squares: float | None = None,
    ) -> Strategy:
        padded = shapes.padded
        largest = int(padded.argmax()) if len(padded) else 0
        squares = shapes.squares if squares is None else squares
        tokens = int(padded.sum())
        real = int(shapes.tokens.sum())
        return Strategy(
            name=name,
            call=call,
            batches=len(padded),
            real_tokens=real,
            padded_tokens=tokens,
            waste=1 - real / tokens if tokens else 0.0,
            attention=squares,
            speed_up=_ratio(self._fixed_tokens, tokens),
            attention_speed_up=_ratio(self._fixed_squares, squares),
            widths=count_distinct(shapes.widths),
            shapes=shapes.shapes,
            largest_rows=int(shapes.lines[largest]) if len(padded) else 0,
            largest_width=int(shapes.widths[largest]) if len(padded) else 0,
            largest_tokens=int(padded[largest]) if len(padded) else 0,
            largest_bytes=BYTES_PER_TOKEN * (int(padded[largest]) if len(padded) else 0),
            balance=shapes.balance(self.caps.num_replicas),
            length_std=length_std,
        )

    @property
    def _fixed_tokens(self) -> int:
        return self.width * len(self.lengths)

    @property
    def _fixed_squares(self) -> float:
        return len(self.lengths) * float(self.width) ** 2

    @property
    def limit(self) -> tuple[float, float]:
        """The most that fixed padding's tokens and its attention can be divided by."""
        return (
            _ratio(self._fixed_tokens, self.total),
            _ratio(self._fixed_squares, self.squares),
        )

    def _rows_at(self, width: int) -> int:
        """How many rows of this width the caps allow."""
        most = self.caps.batch_size or len(self.lengths)
        if self.caps.max_tokens is not None:
            most = min(most, self.caps.max_tokens // max(width, 1))
        return max(most, 1)

    def fixed(self) -> Strategy:
        """Measure batches of rows in random order, all padded to the longest row."""
        rows = self._rows_at(self.width)
        offsets = np.append(np.arange(0, len(self.lengths), rows), len(self.lengths))
        found = measure(NAME, self.shuffled, self.settings, offsets[:-1], offsets[1:])
        wide = Shapes(found.rows, found.rows, np.full_like(found.rows, self.width), found.tokens)
        multiple = self.caps.arguments("pad_to_multiple_of")
        call = f"tb.PadCollator(width={self.width}"
        call += self._cut(", max_length={}") + (f", {multiple}" if multiple else "") + ")"
        return self._strategy("fixed", call, wide, length_std=found.length_std)

    def _cut(self, text: str) -> str:
        return "" if self.caps.max_length is None else text.format(self.caps.max_length)

    def dynamic(self) -> Strategy:
        """Measure batches of rows in random order, each padded to its own longest row."""
        offsets = _core.cut_in_order(NAME, self.shuffled, self.settings)
        shapes = measure(NAME, self.shuffled, self.settings, offsets[:-1], offsets[1:])
        call = f"tb.PadCollator({self.caps.arguments('max_length', 'pad_to_multiple_of')})"
        return self._strategy("dynamic", call, shapes, length_std=shapes.length_std)

    def _sampler_call(self, **more: Any) -> str:
        names = ["batch_size", "max_tokens", "max_length", "overlong", "pad_to_multiple_of", "seed"]
        if more.get("padding_free"):
            names.remove("pad_to_multiple_of")
        given = self.caps.arguments(*names, **more)
        window = self.caps.shuffle_window
        if window != "auto" and not more.get("padding_free"):
            given += f", shuffle_window={window!r}"
        if self.caps.num_replicas > 1:
            given += f", num_replicas={self.caps.num_replicas}, rank=rank"
        return f"tb.LengthBatchSampler(lengths, {given})"

    def uniform(self) -> tuple[Strategy, int]:
        """Measure batches of rows of like length, and tell the window."""
        settings = self._planner()
        found = self._sampled("uniform-length", self._sampler_call(), settings)
        return found, settings["shuffle_window"]

    def buckets(self) -> tuple[Strategy, Array, Array]:
        """Measure the same with the best widths; give these, and what 1, 2, ... widths waste."""
        multiple = self.caps.pad_to_multiple_of
        k = max(self.caps.buckets, MOST_BUCKETS)
        _, waste = bucket_boundaries(
            self.lengths, k, pad_to_multiple_of=multiple, return_waste=True
        )
        bounds = bucket_boundaries(self.lengths, self.caps.buckets, pad_to_multiple_of=multiple)
        settings = self._planner(boundaries=bounds)
        call = self._sampler_call(boundaries=bounds.tolist())
        return self._sampled("optimal buckets", call, settings), bounds, waste

    def packed(self) -> tuple[Strategy, int, Array]:
        """Measure packs; give their capacity, and the tokens in each pack."""
        capacity = self.caps.capacity or max(self.width, 1)
        if capacity < self.longest:
            row = int(self.lengths.argmax())
            raise ValueError(
                f"{NAME}(): row {row}: length {self.longest} is more than capacity={capacity}; "
                "pass a larger capacity, or max_length="
            )
        settings = {
            **self.settings,
            "batch_size": None,
            "max_tokens": capacity,
            "pad_to_multiple_of": None,
            "padding_free": True,
            "pool_size": read_pool(NAME, "pool", "auto", shuffle_window="auto", packs=True)[1],
            "balance": 1,
        }
        lengths, begins, ends = self._plan(settings, ordered=False)
        packs = measure(NAME, lengths, settings, begins, ends)
        lines = self._packs_in_a_batch(capacity)
        starts = np.arange(0, len(packs.rows), lines)
        shapes = Shapes(
            np.add.reduceat(packs.rows, starts),
            np.diff(np.append(starts, len(packs.rows))),
            np.full(len(starts), capacity if self.total else 0, np.int64),
            np.add.reduceat(packs.tokens, starts),
        )
        most, of = self.caps.max_length, "lengths"
        if most is not None and most < capacity:  # pack cuts to its capacity alone
            of = f"[min(n, {most}) for n in lengths]"
        overlong = "truncate" if most == capacity else self.caps.overlong
        given = self.caps.arguments("seed", overlong=overlong)
        call = f"tb.pack({of}, {capacity}{', ' if given else ''}{given})"
        found = self._strategy(
            "packed", call, shapes, length_std=packs.length_std, squares=self.squares
        )
        return found, capacity, packs.tokens

    def _packs_in_a_batch(self, capacity: int) -> int:
        """As many packs as have about the rows of a batch, under the cap on tokens."""
        most = len(self.lengths)
        if self.caps.batch_size is not None:
            most = round(self.caps.batch_size * self.total / len(self.lengths) / capacity)
        if self.caps.max_tokens is not None:
            most = min(most, self.caps.max_tokens // capacity)
        return max(most, 1)

    def padding_free(self) -> Strategy:
        """Measure batches whose rows lie one after another."""
        settings = self._planner(padding_free=True, pad_to_multiple_of=None, shuffle_window=None)
        call = self._sampler_call(padding_free=True)
        return self._sampled("padding-free", call, settings)

    def windows(self, dynamic: Strategy, uniform: Strategy, window: int) -> Iterator[Window]:
        """Measure windows of several sizes, from random batches to all rows."""
        rows = len(self.lengths)
        batch = min(self._rows_at(-(-self.total // rows)), rows)
        window = min(window, rows)
        settings = {**self.settings, "pool_size": None}
        # Windows of one batch, without another cap, are batches of random rows.
        known = {batch: dynamic} if self.caps.max_tokens is None else {}
        known |= {window: uniform} if self.caps.num_replicas == 1 else {}
        sizes = {batch * count for count in CURVE if batch * count < rows}
        for size in sorted({*sizes, window, rows, batch}):
            if size in known:
                found = known[size]
                tokens, squares = found.padded_tokens, found.attention
                spread = found.length_std
            else:
                plan = self._plan({**settings, "shuffle_window": size}, ordered=False)
                shapes = measure(NAME, plan[0], settings, *plan[1:])
                tokens, squares = int(shapes.padded.sum()), shapes.squares
                spread = shapes.length_std
            yield self._window(
                size, batch, tokens, squares, spread, dynamic, is_chosen=size == window
            )

    def estimate(self, window: int) -> Window | None:
        """Estimate the default window of rows like these, if they are too few for 100 batches.

        Each row comes several times, so that a window holds as much of the tail of long rows as
        there is of it here.
        """
        rows = len(self.lengths)
        batch = self._rows_at(-(-self.total // rows))
        wanted = min(batch * WINDOW_BATCHES * PARTS, MOST_ESTIMATED)
        copies = -(-wanted // rows)
        if not self.auto or copies < 2 or self._fixed_tokens * copies >= 2**63:
            return None
        caps = replace(self.caps, num_replicas=1)
        more = Plans(np.tile(self.lengths, copies), self.settings, caps)
        uniform, wide = more.uniform()
        if wide <= window:  # one batch here and there
            return None
        dynamic = more.dynamic()
        return more._window(
            wide,
            batch,
            uniform.padded_tokens,
            uniform.attention,
            uniform.length_std,
            dynamic,
            is_chosen=False,
        )

    def _window(
        self,
        size: int,
        batch: int,
        tokens: int,
        squares: float,
        spread: float,
        dynamic: Strategy,
        *,
        is_chosen: bool,
    ) -> Window:
        return Window(
            rows=size,
            batches=max(round(size / batch), 1),
            data_rows=len(self.lengths),
            is_chosen=is_chosen,
            padded_tokens=tokens,
            waste=1 - self.total / tokens if tokens else 0.0,
            attention=squares,
            speed_up=_ratio(self._fixed_tokens, tokens),
            length_std=spread,
            forced=max(spread - dynamic.length_std, 0.0),
            mixing=self._mixing(spread, dynamic.length_std),
        )

    def _mixing(self, spread: float, random: float) -> float:
        """Give the part of the variance of lengths inside batches, against random batches."""
        mean = self.total / len(self.lengths)
        variance = max(self.squares / len(self.lengths) - mean**2, 0.0)
        inside, of_random = max(variance - spread**2, 0.0), max(variance - random**2, 0.0)
        return min(inside / of_random, 1.0) if of_random else 1.0


def _squares(lengths: Array) -> float:
    """Sum the squares of lengths, without a copy as floats of all of them at a time."""
    parts = (lengths[i : i + 2**16].astype(np.float64) for i in range(0, len(lengths), 2**16))
    return float(sum(float(part @ part) for part in parts))


def _ratio(one: float, other: float) -> float:
    return one / other if other else 1.0
