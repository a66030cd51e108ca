"""The timed training."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tightbatch.compare.batches import Strategy, attention, loader, logits, split_labels, work
from tightbatch.compare.model import Setup

if TYPE_CHECKING:
    from tightbatch.amp import Amp, Precision


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
