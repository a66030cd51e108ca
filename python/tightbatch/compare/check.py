"""The check that padding, and the rows beside a row, do not change the model's logits.

It is `tb.check_model` over held-out rows, for the batches of every strategy. A row alone is read by
the model as it is, without padding, mask or another attention. As controls, rows are padded without
the mask, and packed without the mask that separates them. Their logits must move: otherwise the
check could not find a difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tightbatch as tb
from tightbatch.compare.batches import (
    Lines,
    PackBatches,
    Strategy,
    attention,
    collator,
    logits,
    split_labels,
    unmasked,
)
from tightbatch.compare.model import Row, Setup

if TYPE_CHECKING:
    import torch

ROWS, QUICK_ROWS, PROBE_ROWS = 24, 8, 8  # that the check reads


def one_batch(setup: Setup, strategy: Strategy) -> Callable[[list[Row]], Any]:
    """What makes one batch of all rows that it gets."""
    collate = collator(strategy, setup)
    if strategy.layout != "packs":
        return collate
    whole = replace(setup, packs=10**6)
    return lambda rows: next(iter(PackBatches(whole, rows, collate)))


def examine(setup: Setup, rows: list[Row], strategy: Strategy, mask: bool = True) -> tb.ModelReport:
    """Check the model on a batch of these rows, with or without what keeps them apart."""

    def call(model: Any, batch: Any) -> torch.Tensor:
        inputs, labels = split_labels(batch)
        with strategy.precision.autocast():
            if len(labels) == 1:
                row = inputs.rows if isinstance(inputs, Lines) else inputs
                ids = row["input_ids"][row["attention_mask"].bool()][None]
                found: torch.Tensor = model(input_ids=ids).logits
                return found.float()
            with attention(model, strategy.layout):
                return logits(model, inputs if mask else unmasked(inputs)).float()

    return tb.check_model(setup.model, one_batch(setup, strategy), rows, call=call)


def checked_rows(setup: Setup, most: int) -> list[Row]:
    """Held-out rows, longest first, every k-th: both short and long ones.

    A held-out row that is longer than every training row does not fit fixed padding, and is left
    out.
    """
    fitting = [row for row in setup.held_out if len(row["input_ids"]) <= setup.width]
    by_length = sorted(fitting, key=lambda row: -len(row["input_ids"]))
    return by_length[:: -(-len(by_length) // most)]


def largest_of(report: tb.ModelReport) -> float:
    """The largest movement of a logit, in its own units."""
    return report.largest * report.scales["output"]


def agreement(report: tb.ModelReport, strategy: Strategy) -> dict[str, Any]:
    """How far one strategy's logits move, for JSON."""
    return {
        "strategy": strategy.key,
        "precision": strategy.precision.dtype,
        "largest_difference": largest_of(report),
        "tolerance": report.tolerance * report.scales["output"],
        "holds": report.holds,
        "place": None if report.place is None else str(report.place),
    }


def obstacle(setup: Setup, strategy: Strategy) -> str | None:
    """Why the model cannot be trained under a strategy; None if it can.

    Not every model takes positions, masks or boundaries; only a trial on a few rows shows it.
    """
    try:
        report = examine(setup, checked_rows(setup, PROBE_ROWS), strategy)
    except Exception as error:  # models raise errors of any kind
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return f"the model does not take its batches: {reason[:160]}"
    if not report.leaks:
        return None
    return (
        "the model does not keep the rows of a line apart: its logits differ by "
        f"{largest_of(report):.1e} from those of each row alone"
    )


def check_padding(setup: Setup, plan: list[Strategy]) -> dict[str, Any]:
    """Check held-out rows under each strategy.

    The model has the weights of the last training. Returns the figures by their names in JSON: the
    largest difference under each strategy, and those of the controls.
    """
    rows = checked_rows(setup, QUICK_ROWS if setup.settings.quick else ROWS)
    known: list[tuple[Any, tb.ModelReport]] = []
    agreements = []
    for one in plan:
        # Strategies that only differ in which rows share a batch make the same one of these rows.
        key = (collator(one, setup), one.layout, one.precision.dtype)
        report = next((report for other, report in known if other == key), None)
        if report is None:
            report = examine(setup, rows, one)
            known.append((key, report))
        agreements.append(agreement(report, one))
    fixed = examine(setup, rows, plan[0], mask=False)
    packs = [examine(setup, rows, s, mask=False) for s in plan if s.layout == "packs"]
    return {
        "rows": len(rows),
        "holds": all(one["holds"] for one in agreements),
        "agreements": agreements,
        "control_without_mask": largest_of(fixed),
        "control_rows_together": largest_of(packs[0]) if packs else None,
        "control_is_seen": bool(fixed.leaks),
    }
