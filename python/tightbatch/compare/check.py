"""Padding does not affect the model: shown on the logits of the same rows.

Every held-out row goes through the model alone, without padding and without a mask; then in the
batches of every strategy. A control goes through padded but without the mask: it must differ, or
the comparison could not have seen a difference.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tightbatch.compare.precision import Precision
from tightbatch.compare.strategies import Strategy, loader
from tightbatch.compare.train import Training, split_labels

if TYPE_CHECKING:
    import torch

# Of the largest logit (at least 1). Sums of another length are rounded in another order: float32
# has 24 significant bits, bfloat16 8, float16 11, and a network multiplies the last one's error.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}
ROWS = 128


@dataclass(frozen=True)
class Agreement:
    """How far one strategy's logits are from those of each row alone."""

    strategy: str
    precision: str
    largest_difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance; a NaN is not."""
        return self.largest_difference <= self.tolerance


@dataclass(frozen=True)
class PaddingCheck:
    """The agreements, and the control."""

    rows: int
    agreements: list[Agreement]
    control_difference: float  # fixed padding without a mask

    @property
    def holds(self) -> bool:
        """Whether every strategy agrees."""
        return all(agreement.holds for agreement in self.agreements)

    @property
    def sees(self) -> bool:
        """Whether the control is outside the tolerance, so that a difference would be seen."""
        return self.control_difference > self.agreements[0].tolerance

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": self.rows,
            "holds": self.holds,
            "agreements": [asdict(a) | {"holds": a.holds} for a in self.agreements],
            "control_without_mask": self.control_difference,
            "control_is_seen": self.sees,
        }


def logits_alone(training: Training, rows: list[Any], precision: Precision) -> torch.Tensor:
    """The logits of each row by itself: no padding, no mask."""
    import torch

    out = []
    for row in rows:
        ids = torch.tensor([row["input_ids"]], device=training.device)
        with precision.autocast():
            out.append(training.model(input_ids=ids).logits[0].float())
    return torch.stack(out)


def logits_batched(
    training: Training, rows: list[Any], strategy: Strategy, precision: Precision, mask: bool = True
) -> torch.Tensor:
    """The logits of the rows in the strategy's batches, put back in the rows' order."""
    import torch

    # A row's number takes the place of its label, and so comes out beside its logits.
    numbered = [{"input_ids": row["input_ids"], "label": i} for i, row in enumerate(rows)]
    logits, numbers = [], []
    for batch in loader(strategy, numbered, training.loading):
        inputs, number = split_labels(batch.to(training.device))
        if not mask:
            inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
        with precision.autocast():
            logits.append(training.model(**inputs).logits.float())
        numbers.append(number)
    return torch.cat(logits)[torch.cat(numbers).argsort()]


def check_padding(
    training: Training, compared: list[tuple[Strategy, Precision]], most: int = ROWS
) -> PaddingCheck:
    """Compare the logits of held-out rows under each strategy with those of each row alone.

    Parameters
    ----------
    training : Training
        Its model is used as it stands, in evaluation mode.
    compared : list of (Strategy, Precision)
        What to compare; each with the lone rows in its own precision.
    most : int
        Rows to take part.

    Returns
    -------
    PaddingCheck
        The largest absolute difference of each, and of the control without a mask.
    """
    import torch

    training.model.eval()
    # Longest first, every k-th: short and long rows both take part. A held-out row can be longer
    # than every training row, and so wider than fixed padding is.
    fitting = [r for r in training.rows.held_out if len(r["input_ids"]) <= training.loading.width]
    by_length = sorted(fitting, key=lambda row: -len(row["input_ids"]))
    rows = by_length[:: -(-len(by_length) // most)]
    alone: dict[str, torch.Tensor] = {}
    agreements = []
    with torch.inference_mode():
        for strategy, precision in compared:
            if precision.name not in alone:
                alone[precision.name] = logits_alone(training, rows, precision)
            expected = alone[precision.name]
            found = logits_batched(training, rows, strategy, precision)
            scale = max(1.0, float(expected.abs().max()))
            agreements.append(
                Agreement(
                    strategy.key,
                    precision.name,
                    float((found - expected).abs().max()),
                    TOLERANCES[precision.name] * scale,
                )
            )
        strategy, precision = compared[0]
        unmasked = logits_batched(training, rows, strategy, precision, mask=False)
    return PaddingCheck(
        rows=len(rows),
        agreements=agreements,
        control_difference=float((unmasked - alone[precision.name]).abs().max()),
    )
