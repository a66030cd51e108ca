"""Padding does not affect the model: shown on the logits of the same rows.

Every held-out row goes through the model alone, without padding and without a mask; then in the
batches of every strategy. Controls go through padded without the mask, and packed without the mask
that keeps rows apart: these must differ, or the comparison could not have seen a difference.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tightbatch.compare.forward import attention, logits, split_labels
from tightbatch.compare.lines import Lines
from tightbatch.compare.strategies import Strategy, loader
from tightbatch.compare.train import Training

if TYPE_CHECKING:
    import torch

    from tightbatch.amp import Precision

# Of the largest logit (at least 1). Sums of another length are rounded in another order: float32
# has 24 significant bits, bfloat16 8, float16 11, and a network multiplies the last one's error.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}
ROWS = 128
PROBE_ROWS = 8


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
    packed_difference: float | None  # packs whose rows see each other; None: there were none

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
            "control_rows_together": self.packed_difference,
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
    found, numbers = [], []
    with attention(training.model, strategy.layout):
        for batch in loader(strategy, numbered, training.loading):
            inputs, number = split_labels(batch.to(training.device))
            if not mask:
                inputs = unmasked(inputs)
            with precision.autocast():
                found.append(logits(training.model, inputs).float())
            numbers.append(number)
    return torch.cat(found)[torch.cat(numbers).argsort()]


def unmasked(inputs: Any) -> Any:
    """The inputs with masks that hide nothing."""
    import torch

    if isinstance(inputs, Lines):
        return replace(inputs, inputs=unmasked(inputs.inputs))
    return {
        name: torch.ones_like(value) if name.endswith("_mask") else value
        for name, value in inputs.items()
    }


def checked_rows(training: Training, most: int) -> list[Any]:
    """Held-out rows, longest first, every k-th: short and long rows both take part.

    A held-out row can be longer than every training row, and so wider than fixed padding is.
    """
    fitting = [r for r in training.rows.held_out if len(r["input_ids"]) <= training.loading.width]
    by_length = sorted(fitting, key=lambda row: -len(row["input_ids"]))
    return by_length[:: -(-len(by_length) // most)]


def obstacle(training: Training, strategy: Strategy, precision: Precision) -> str | None:
    """Why the model cannot be trained under a strategy; None if it can.

    Not every model takes positions, masks or boundaries, and only trying it on a few rows tells.
    """
    import torch

    training.model.eval()
    rows = checked_rows(training, PROBE_ROWS)
    with torch.inference_mode():
        expected = logits_alone(training, rows, precision)
        try:
            found = logits_batched(training, rows, strategy, precision)
        except Exception as error:  # whatever a model raises that was not made for it
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return f"the model does not take its batches: {reason[:160]}"
    agreement = compare_logits(found, expected, strategy, precision)
    if agreement.holds:
        return None
    return (
        "the model does not keep the rows of a line apart: its logits differ by "
        f"{agreement.largest_difference:.1e} from those of each row alone"
    )


def compare_logits(
    found: torch.Tensor, expected: torch.Tensor, strategy: Strategy, precision: Precision
) -> Agreement:
    """How far the logits are apart."""
    scale = max(1.0, float(expected.abs().max()))
    difference = float((found - expected).abs().max())
    return Agreement(strategy.key, precision.dtype, difference, TOLERANCES[precision.dtype] * scale)


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
        The largest absolute difference of each, and of the controls without a mask.
    """
    import torch

    training.model.eval()
    rows = checked_rows(training, most)
    alone: dict[str, torch.Tensor] = {}
    agreements = []
    with torch.inference_mode():
        for strategy, precision in compared:
            if precision.dtype not in alone:
                alone[precision.dtype] = logits_alone(training, rows, precision)
            expected = alone[precision.dtype]
            found = logits_batched(training, rows, strategy, precision)
            agreements.append(compare_logits(found, expected, strategy, precision))

        def control(strategy: Strategy, precision: Precision) -> float:
            found = logits_batched(training, rows, strategy, precision, mask=False)
            return float((found - alone[precision.dtype]).abs().max())

        packed = next((pair for pair in compared if pair[0].layout == "packs"), None)
        return PaddingCheck(
            rows=len(rows),
            agreements=agreements,
            control_difference=control(*compared[0]),
            packed_difference=None if packed is None else control(*packed),
        )
