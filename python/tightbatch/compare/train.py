"""The training loop that is timed, and the held-out accuracy that is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tightbatch.compare.dataset import Row, Rows
from tightbatch.compare.forward import attention, logits, split_labels, work
from tightbatch.compare.strategies import Loading, Strategy, loader

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from tightbatch.amp import Amp, Precision


@dataclass(frozen=True)
class Training:
    """What every strategy trains with."""

    model: PreTrainedModel
    initial: dict[str, torch.Tensor]  # weights to start from
    rows: Rows
    loading: Loading
    device: str
    epochs: int
    learning_rate: float


@dataclass(frozen=True)
class Result:
    """What one strategy cost and reached; tokens and steps are per epoch."""

    strategy: Strategy
    precision: Precision
    real_tokens: int
    padded_tokens: int  # of the padded rectangles, real tokens included
    pairs: int  # of a query and a key that attention computes, in one head of one layer
    shapes: int  # that the batches had in all epochs
    steps: int
    steps_skipped: int  # by the loss scaler, in all epochs
    epoch_seconds: list[float]
    epoch_data_seconds: list[float]  # of them: planning, collating, waiting for a batch
    epoch_losses: list[float]  # mean over the epoch's rows
    held_out_loss: float
    accuracy: float

    @property
    def fastest(self) -> int:
        """The fastest epoch: what else the machine does only ever adds time."""
        return min(range(len(self.epoch_seconds)), key=self.epoch_seconds.__getitem__)

    @property
    def seconds(self) -> float:
        """Seconds of the fastest epoch."""
        return self.epoch_seconds[self.fastest]

    @property
    def data_seconds(self) -> float:
        """Of them, spent on data."""
        return self.epoch_data_seconds[self.fastest]

    @property
    def waste(self) -> float:
        """The part of the padded tokens that is padding."""
        return 1 - self.real_tokens / self.padded_tokens

    @property
    def tokens_per_second(self) -> float:
        """Real tokens a second: padding is no work done."""
        return self.real_tokens / self.seconds

    @property
    def final_loss(self) -> float:
        """The mean training loss of the last epoch."""
        return self.epoch_losses[-1]


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given, so that a clock can be read."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


@dataclass
class Epoch:
    """Sums over the steps of one epoch."""

    real: int = 0
    padded: int = 0
    pairs: int = 0
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    steps: int = 0
    skipped: int = 0
    loss: float = 0.0  # mean over rows
    seconds: float = 0.0
    data_seconds: float = 0.0


def train_epoch(
    training: Training,
    batches: Iterable[Any],
    loop: Amp,
    tick: Callable[[], None],
) -> Epoch:
    """One pass over the rows."""
    import torch

    epoch, rows = Epoch(), 0
    total = torch.zeros((), device=training.device)
    iterator = None
    synchronize(training.device)
    begin = time.perf_counter()
    while True:
        asked = time.perf_counter()
        iterator = iter(batches) if iterator is None else iterator  # plans, so it is timed
        batch = next(iterator, None)
        epoch.data_seconds += time.perf_counter() - asked
        if batch is None:
            break
        done = work(batch)
        epoch.real += done.real
        epoch.padded += done.padded
        epoch.pairs += done.pairs
        epoch.shapes.add(done.shape)
        epoch.steps += 1
        inputs, labels = split_labels(batch.to(training.device))
        with loop.autocast():
            found = logits(training.model, inputs)
        loss = torch.nn.functional.cross_entropy(found.float(), labels)
        epoch.skipped += not loop.step(loss)
        total += loss.detach() * len(labels)
        rows += len(labels)
        tick()
    epoch.loss = float(total) / rows  # waits for the device
    epoch.seconds = time.perf_counter() - begin
    return epoch


def train(
    training: Training, strategy: Strategy, precision: Precision, tick: Callable[[], None]
) -> Result:
    """Train from the initial weights under one strategy.

    Parameters
    ----------
    training : Training
        Model, rows and settings, the same for every strategy.
    strategy : Strategy
        How rows are batched and padded.
    precision : Precision
        float32 or automatic mixed precision.
    tick : callable
        Called after every step.

    Returns
    -------
    Result
        Figures per epoch. The clock runs over planning, collating, moving to the device and
        training; it does not run over loading the weights or evaluation.
    """
    import torch

    from tightbatch.amp import Amp, GradScaler

    torch.manual_seed(training.loading.seed)
    training.model.load_state_dict(training.initial)
    training.model.train()
    optimizer = torch.optim.AdamW(training.model.parameters(), lr=training.learning_rate)
    # float32 and bfloat16 pay for no check that they need only in the worst case: a loss that is
    # not finite ends the comparison.
    scaler = GradScaler(training.device, enabled=precision.dtype == "float16")
    loop = Amp(
        training.model, optimizer, device=training.device, dtype=precision.dtype, scaler=scaler
    )
    begin = time.perf_counter()
    batches = loader(strategy, training.rows.training, training.loading)
    setting_up = time.perf_counter() - begin
    with attention(training.model, strategy.layout):
        epochs = [train_epoch(training, batches, loop, tick) for _ in range(training.epochs)]
    held_out_loss, accuracy = evaluate(training, training.rows.held_out, precision)
    return Result(
        strategy=strategy,
        precision=precision,
        real_tokens=round(fmean(epoch.real for epoch in epochs)),
        padded_tokens=round(fmean(epoch.padded for epoch in epochs)),
        pairs=round(fmean(epoch.pairs for epoch in epochs)),
        shapes=len(set[tuple[int, ...]]().union(*(epoch.shapes for epoch in epochs))),
        steps=round(fmean(epoch.steps for epoch in epochs)),
        steps_skipped=sum(epoch.skipped for epoch in epochs),
        # Whatever a sampler does once, each epoch bears its part of.
        epoch_seconds=[epoch.seconds + setting_up / len(epochs) for epoch in epochs],
        epoch_data_seconds=[epoch.data_seconds + setting_up / len(epochs) for epoch in epochs],
        epoch_losses=[epoch.loss for epoch in epochs],
        held_out_loss=held_out_loss,
        accuracy=accuracy,
    )


def evaluate(training: Training, rows: list[Row], precision: Precision) -> tuple[float, float]:
    """Mean loss and accuracy on rows the model has not seen."""
    import torch

    loss, right = 0.0, 0
    training.model.eval()
    uniform = Strategy("evaluation", "evaluation", "length", "tightbatch")
    with torch.inference_mode():
        for batch in loader(uniform, rows, training.loading):
            inputs, labels = split_labels(batch.to(training.device))
            with precision.autocast():
                found = logits(training.model, inputs).float()
            loss += float(torch.nn.functional.cross_entropy(found, labels, reduction="sum"))
            right += int((found.argmax(-1) == labels).sum())
    return loss / len(rows), right / len(rows)


def warm_up(training: Training, plan: list[tuple[Strategy, Precision]]) -> None:
    """A few untimed steps, so that the first strategy does not pay for what all need once."""
    few = training.rows.training[: 2 * training.loading.batch_size]
    rows = replace(training.rows, training=few, held_out=training.rows.held_out[:2])
    brief = replace(training, rows=rows, epochs=1)
    precisions = list(dict.fromkeys(precision for _, precision in plan))
    layouts = {(s.layout, s.order): None for s, _ in plan if s.layout != "rows"}
    for precision in precisions:
        fixed = Strategy("warm-up", "warm-up", "random", "tightbatch", fixed=True)
        train(brief, fixed, precision, lambda: None)
    theirs = Strategy("warm-up", "warm-up", "transformers", "transformers")
    train(brief, theirs, precisions[0], lambda: None)
    for layout, order in layouts:
        shared = Strategy("warm-up", "warm-up", order, "tightbatch", layout=layout)
        train(brief, shared, precisions[0], lambda: None)
