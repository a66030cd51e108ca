"""The timed training, and the check that padding does not change the model's logits.

For the check the model reads every held-out row alone, without padding and without a mask, and then
in the batches of every strategy. As controls, it reads rows that are padded without the mask, and
packed without the mask that separates them. Their logits must differ: otherwise the check could not
find a difference.
"""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tightbatch.compare.batches import (
    Strategy,
    attention,
    loader,
    logits,
    split_labels,
    unmasked,
    work,
)
from tightbatch.compare.model import Row, Setup

if TYPE_CHECKING:
    import torch

    from tightbatch.amp import Amp, Precision

# Of the largest logit (at least 1). Sums of another length are rounded in another order: float32
# has 24 significant bits, bfloat16 8, float16 11, and a network multiplies the last one's error.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}
ROWS, QUICK_ROWS, PROBE_ROWS = 128, 48, 8  # that the check reads


@dataclass
class Epoch:
    """Sums over the steps of one epoch."""

    real_tokens: int = 0
    padded_tokens: int = 0  # the real ones included
    attention_pairs: int = 0  # of a query and a key, in one head of one layer
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    steps: int = 0
    skipped: int = 0  # by the loss scaler
    loss: float = 0.0  # mean over rows
    seconds: float = 0.0
    data_seconds: float = 0.0  # of these: planning, collating, waiting for a batch


def train_epoch(setup: Setup, batches: Iterable[Any], loop: Amp, tick: Callable[[], None]) -> Epoch:
    """One pass over the rows."""
    import torch

    epoch, rows, iterator = Epoch(), 0, None
    total = torch.zeros((), device=setup.device)
    if setup.device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    while True:
        asked = time.perf_counter()
        iterator = iter(batches) if iterator is None else iterator  # plans, so it is timed
        batch = next(iterator, None)
        epoch.data_seconds += time.perf_counter() - asked
        if batch is None:
            break
        real, shape, pairs = work(batch)
        epoch.real_tokens += real
        epoch.padded_tokens += math.prod(shape)
        epoch.attention_pairs += pairs
        epoch.shapes.add(shape)
        epoch.steps += 1
        inputs, labels = split_labels(batch.to(setup.device))
        with loop.autocast():
            found = logits(setup.model, inputs)
        loss = torch.nn.functional.cross_entropy(found.float(), labels)
        epoch.skipped += not loop.step(loss)
        total += loss.detach() * len(labels)
        rows += len(labels)
        tick()
    epoch.loss = float(total) / rows  # waits for the device
    epoch.seconds = time.perf_counter() - begin
    return epoch


def train(setup: Setup, strategy: Strategy, tick: Callable[[], None]) -> dict[str, Any]:
    """Train from the initial weights under one strategy, calling `tick` after every step.

    Returns the figures of the strategy by their names in JSON; tokens and steps are per epoch.
    Planning, collating, moving to the device and training are timed; loading the weights and
    evaluation are not.
    """
    import torch

    from tightbatch.amp import Amp, GradScaler

    settings, model = setup.settings, setup.model
    dtype: Any = strategy.precision.dtype
    torch.manual_seed(settings.seed)
    model.load_state_dict(setup.initial)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=setup.learning_rate)
    # float32 and bfloat16 are trained without a check for inf and NaN: a loss that is not finite
    # ends the comparison anyway.
    scaler = GradScaler(setup.device, enabled=dtype == "float16")
    loop = Amp(model, optimizer, device=setup.device, dtype=dtype, scaler=scaler)
    begin = time.perf_counter()
    batches = loader(strategy, setup.training, setup)
    setting_up = time.perf_counter() - begin
    with attention(model, strategy.layout):
        epochs = [train_epoch(setup, batches, loop, tick) for _ in range(settings.epochs)]
    for epoch in epochs:  # each has a share of what the sampler does once
        epoch.seconds += setting_up / len(epochs)
        epoch.data_seconds += setting_up / len(epochs)
    losses = [epoch.loss for epoch in epochs]
    held_out_loss, accuracy = evaluate(setup, strategy.precision)
    # The fastest epoch counts, because other work on the machine only adds time.
    fastest = min(epochs, key=lambda epoch: epoch.seconds)
    counts = {
        name: round(fmean(getattr(epoch, name) for epoch in epochs))
        for name in ("real_tokens", "padded_tokens", "attention_pairs", "steps")
    }
    return {
        **vars(strategy),
        **counts,
        "precision": dtype,
        "shapes": len(set().union(*(epoch.shapes for epoch in epochs))),
        "waste": 1 - counts["real_tokens"] / counts["padded_tokens"],
        "steps_skipped": sum(epoch.skipped for epoch in epochs),
        "seconds_per_epoch": fastest.seconds,
        "data_seconds_per_epoch": fastest.data_seconds,
        "epoch_seconds": [epoch.seconds for epoch in epochs],
        "epoch_data_seconds": [epoch.data_seconds for epoch in epochs],
        "tokens_per_second": counts["real_tokens"] / fastest.seconds,
        "epoch_losses": losses,
        "final_loss": losses[-1],
        "held_out_loss": held_out_loss,
        "held_out_accuracy": accuracy,
        "finite": all(map(math.isfinite, [*losses, held_out_loss])),
    }


def evaluate(setup: Setup, precision: Precision) -> tuple[float, float]:
    """Mean loss and accuracy on the held-out rows."""
    import torch

    rows, loss, right = setup.held_out, 0.0, 0
    setup.model.eval()
    uniform = Strategy("evaluation", "evaluation", "length", "tightbatch", precision)
    with torch.inference_mode():
        for batch in loader(uniform, rows, setup):
            inputs, labels = split_labels(batch.to(setup.device))
            with precision.autocast():
                found = logits(setup.model, inputs).float()
            loss += float(torch.nn.functional.cross_entropy(found, labels, reduction="sum"))
            right += int((found.argmax(-1) == labels).sum())
    return loss / len(rows), right / len(rows)


def warm_up(setup: Setup, plan: list[Strategy]) -> None:
    """A few untimed steps, so that the first strategy does not pay for what all need once."""
    settings = Namespace(**vars(setup.settings) | {"epochs": 1})
    few = setup.training[: 2 * settings.batch_size]
    brief = replace(setup, settings=settings, training=few, held_out=setup.held_out[:2])
    for strategy in {(s.layout, s.collator, s.precision.dtype): s for s in plan}.values():
        train(brief, strategy, lambda: None)


def logits_alone(setup: Setup, rows: list[Row], precision: Precision) -> torch.Tensor:
    """The logits of each row by itself: no padding, no mask."""
    import torch

    out = []
    for row in rows:
        ids = torch.tensor([row["input_ids"]], device=setup.device)
        with precision.autocast():
            out.append(setup.model(input_ids=ids).logits[0].float())
    return torch.stack(out)


def logits_batched(
    setup: Setup, rows: list[Row], strategy: Strategy, mask: bool = True
) -> torch.Tensor:
    """The logits of the rows in the strategy's batches, put back in the rows' order."""
    import torch

    # A row's number replaces its label, and so comes out beside its logits.
    numbered = [{"input_ids": row["input_ids"], "label": i} for i, row in enumerate(rows)]
    found, numbers = [], []
    with attention(setup.model, strategy.layout):
        for batch in loader(strategy, numbered, setup):
            inputs, number = split_labels(batch.to(setup.device))
            with strategy.precision.autocast():
                inputs = inputs if mask else unmasked(inputs)
                found.append(logits(setup.model, inputs).float())
            numbers.append(number)
    return torch.cat(found)[torch.cat(numbers).argsort()]


def checked_rows(setup: Setup, most: int) -> list[Row]:
    """Held-out rows, longest first, every k-th: both short and long ones.

    A held-out row that is longer than every training row does not fit fixed padding, and is left
    out.
    """
    fitting = [row for row in setup.held_out if len(row["input_ids"]) <= setup.width]
    by_length = sorted(fitting, key=lambda row: -len(row["input_ids"]))
    return by_length[:: -(-len(by_length) // most)]


def agreement(found: torch.Tensor, expected: torch.Tensor, strategy: Strategy) -> dict[str, Any]:
    """How far one strategy's logits are from those of each row alone, for JSON."""
    dtype = strategy.precision.dtype
    tolerance = TOLERANCES[dtype] * max(1.0, float(expected.abs().max()))
    difference = float((found - expected).abs().max())
    return {
        "strategy": strategy.key,
        "precision": dtype,
        "largest_difference": difference,
        "tolerance": tolerance,
        "holds": difference <= tolerance,  # a NaN is not
    }


def obstacle(setup: Setup, strategy: Strategy) -> str | None:
    """Why the model cannot be trained under a strategy; None if it can.

    Not every model takes positions, masks or boundaries; only a trial on a few rows shows it.
    """
    import torch

    setup.model.eval()
    rows = checked_rows(setup, PROBE_ROWS)
    with torch.inference_mode():
        expected = logits_alone(setup, rows, strategy.precision)
        try:
            found = logits_batched(setup, rows, strategy)
        except Exception as error:  # models raise errors of any kind
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return f"the model does not take its batches: {reason[:160]}"
    compared = agreement(found, expected, strategy)
    if compared["holds"]:
        return None
    return (
        "the model does not keep the rows of a line apart: its logits differ by "
        f"{compared['largest_difference']:.1e} from those of each row alone"
    )


def check_padding(setup: Setup, plan: list[Strategy]) -> dict[str, Any]:
    """Compare the logits of held-out rows under each strategy with those of each row alone.

    The model has the weights of the last training. Returns the figures by their names in JSON: the
    largest difference under each strategy, and those of the controls.
    """
    import torch

    setup.model.eval()
    rows = checked_rows(setup, QUICK_ROWS if setup.settings.quick else ROWS)
    with torch.inference_mode():
        precisions = {strategy.precision.dtype: strategy.precision for strategy in plan}
        alone = {name: logits_alone(setup, rows, one) for name, one in precisions.items()}

        def compared(strategy: Strategy, mask: bool = True) -> dict[str, Any]:
            found = logits_batched(setup, rows, strategy, mask)
            return agreement(found, alone[strategy.precision.dtype], strategy)

        agreements = [compared(strategy) for strategy in plan]
        fixed = compared(plan[0], mask=False)
        packs = [compared(s, mask=False) for s in plan if s.layout == "packs"]
    return {
        "rows": len(rows),
        "holds": all(one["holds"] for one in agreements),
        "agreements": agreements,
        "control_without_mask": fixed["largest_difference"],
        "control_rows_together": packs[0]["largest_difference"] if packs else None,
        "control_is_seen": not fixed["holds"],
    }
