"""The timed training over seeds, and what its figures show."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from tightbatch.compare import CompareError
from tightbatch.compare.batches import (
    Strategy,
    attention,
    fairness,
    loader,
    logits,
    split_labels,
    work,
)
from tightbatch.compare.model import Setup, with_seed

if TYPE_CHECKING:
    from tightbatch.amp import Amp, Precision

VARIED = 0.5  # the spread of rows a batch over their mean
FEWEST_SEEDS = 3  # with fewer, a difference may be the same by chance in each
MOST_SEEDS = 30  # more would not change what is seen
Figures = dict[str, Any]  # by their names in JSON


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


def train_epoch(
    setup: Setup,
    batches: Iterable[Any],
    loop: Amp,
    tick: Callable[[], None],
    *,
    per_row: bool = False,
) -> Epoch:
    """One pass over the rows.

    A step's loss is the mean over the batch; with `per_row` it is the sum over `batch_size`, so
    that each row weighs the same also where batches have different numbers of rows.
    """
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
        weight = len(labels) / setup.settings.batch_size if per_row else 1.0
        epoch.skipped += not loop.step(loss * weight)
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


def checked(result: Figures) -> Figures:
    """The figures of a training, whose losses are finite."""
    if not result.pop("finite"):
        name = result["name"]
        raise CompareError(f"{name}: the loss is not finite; try a smaller --learning-rate")
    return result


def alike(strategy: Strategy) -> tuple[str, str, str]:
    """What decides the batches that a strategy trains on, and so its loss and accuracy.

    The same rows in another padding give the same loss up to rounding; the padding check shows it.
    """
    return strategy.order, strategy.layout, strategy.precision.dtype


def train_seeds(
    setup: Setup,
    plan: list[Strategy],
    deadline: float,
    begin: Callable[[str, int], None],
    tick: Any,
) -> list[Figures]:
    """Train under every strategy, with one seed after another.

    The first seed gives the times. Further ones give losses and accuracies; for these, strategies
    that train on the same batches are trained as one, with as little padding as possible. The
    padding check shows that padding changes nothing.

    Parameters
    ----------
    deadline : float
        When to be done, by ``time.perf_counter``, if the number of seeds is not given.
    begin : callable
        Called with the name of each training, and its number of steps.
    """
    settings = setup.settings
    begin("warming up", 0)
    warm_up(setup, plan)
    results = []
    for number, strategy in enumerate(plan, 1):
        steps = settings.epochs * -(-len(setup.training) // settings.batch_size)
        begin(f"seed {settings.seed}: {number}/{len(plan)} {strategy.name}", steps)
        result = checked(train(setup, strategy, tick))
        result["fairness"] = fairness(strategy, setup).to_dict()
        results.append(result)
        result["speed_up"] = results[0]["seconds_per_epoch"] / result["seconds_per_epoch"]
        names = ("final_loss", "held_out_loss", "held_out_accuracy")
        result["by_seed"] = [{"seed": settings.seed} | {name: result[name] for name in names}]
    groups: dict[Any, Strategy] = {}
    for strategy in plan:
        groups.setdefault(alike(strategy), strategy)
    lines = settings.model is None or any(strategy.layout == "line" for strategy in plan)
    took = 0.0
    for one in range(1, settings.seeds or MOST_SEEDS):
        began = time.perf_counter()
        if settings.seeds is None and began + 1.1 * (took or guess(plan, results)) > deadline:
            break
        other = with_seed(setup, settings.seed + one)
        for number, (key, strategy) in enumerate(groups.items(), 1):
            leanest = replace(strategy, fixed=False, buckets=False, collator="tightbatch")
            if lines and strategy.order == "random":
                leanest = replace(leanest, layout="line")
            begin(f"seed {settings.seed + one}: {number}/{len(groups)} {strategy.name}", steps)
            found = checked(train(other, leanest, tick))
            kept = {"seed": settings.seed + one} | {name: found[name] for name in names}
            for own, result in zip(plan, results, strict=True):
                if alike(own) == key:
                    result["by_seed"].append(dict(kept))
        took = time.perf_counter() - began
    summarize(results)
    return results


def guess(plan: list[Strategy], results: list[Figures]) -> float:
    """About the seconds of a further seed, from those of the first."""
    least = {alike(strategy): math.inf for strategy in plan}
    for strategy, result in zip(plan, results, strict=True):
        # Random batches are trained without their padding.
        part = 1 - result["waste"] if strategy.order == "random" else 1.0
        own = part * sum(result["epoch_seconds"])
        least[alike(strategy)] = min(own, least[alike(strategy)])
    return 1.2 * sum(least.values())  # and evaluation


def summarize(results: list[Figures]) -> None:
    """Add means and spreads over seeds, and differences from the first strategy, seed by seed.

    The intervals are of Student's t for paired values. Together they are right with a probability
    of 95 %: each is as wide as that takes with so many comparisons (Bonferroni).
    """
    groups = {(result["order"], result["layout"], result["precision"]) for result in results}
    compared = max(len(groups) - 1, 1)
    for name in ("held_out_loss", "held_out_accuracy"):
        base = [one[name] for one in results[0]["by_seed"]]
        for result in results:
            own = [one[name] for one in result["by_seed"]]
            less = [a - b for a, b in zip(own, base, strict=True)]
            result[name] = fmean(own)
            result[f"{name}_std"] = stdev(own) if len(own) > 1 else None
            result[f"{name}_difference"] = interval(less, 0.05 / compared)
    for result in results:
        result["final_loss"] = fmean(one["final_loss"] for one in result["by_seed"])


def interval(values: list[float], outside: float) -> Figures | None:
    """Mean, standard deviation, and the interval of the mean; None of a single value."""
    if len(values) < 2:
        return None
    mean, std = fmean(values), stdev(values)
    half = student_t(len(values) - 1, outside) * std / math.sqrt(len(values))
    return {"mean": mean, "std": std, "low": mean - half, "high": mean + half}


def student_t(freedom: int, outside: float) -> float:
    """What a value of Student's t exceeds, up or down, with the probability `outside`.

    By bisection of the closed form for whole degrees of freedom: Abramowitz and Stegun, Handbook of
    Mathematical Functions, 26.7.3 and 26.7.4.
    """

    def inside(angle: float) -> float:
        odd, cosine = freedom % 2, math.cos(angle)
        term, total = cosine if odd else 1.0, 0.0
        for k in range(1 + odd, freedom, 2):
            total += term
            term *= cosine * cosine * k / (k + 1)
        part = math.sin(angle) * total
        return 2 / math.pi * (angle + part) if odd else part

    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < 1 - outside else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def verdict(results: list[Figures], *, window: int | str | None, wide: bool) -> Figures:
    """Say which strategy is fastest at an accuracy that does not differ from the first one's.

    Parameters
    ----------
    window : int, str or None
        What uniform-length batching sorts together.
    wide : bool
        Whether that is more rows than LengthBatchSampler would.

    Returns
    -------
    dict
        The key of the fastest; of each strategy that costs accuracy the reason and the setting that
        does not, as far as the figures tell; by their names in JSON.
    """
    base = results[0]
    costs = {}
    for result in results[1:]:
        difference = result["held_out_accuracy_difference"]
        enough = len(result["by_seed"]) >= FEWEST_SEEDS
        if enough and difference["high"] < 0:
            why, setting = cause(result, base, wide)
            costs[result["key"]] = {"why": why, "setting": setting, **difference}
    # The same batches for the same model: what training takes differs by chance alone.
    names = {result["key"] for result in results}
    again = {"uniform_transformers"} if "uniform" in names else set()
    results = [result for result in results if result["key"] not in again]
    left = [result for result in results if result["key"] not in costs]
    fastest = min(left, key=lambda result: result["seconds_per_epoch"])
    slower_but = min(results, key=lambda result: result["seconds_per_epoch"])
    return {
        "against": base["key"],
        "fastest": fastest["key"],
        "speed_up": fastest["speed_up"],
        "fastest_of_all": slower_but["key"],
        "seeds": len(base["by_seed"]),
        "shuffle_window": window,
        "costs_accuracy": costs,
    }


def cause(result: Figures, base: Figures, wide: bool) -> tuple[str, str]:
    """Why a strategy may cost accuracy, from what differs in its batches; and what does not."""
    plan = result["fairness"]["plan"]
    if result["precision"] != base["precision"]:
        return f"it computes in {result['precision']}", "the same way in float32"
    if plan["correlation"] > 4 * result["fairness"]["chance"]:
        return (
            "rows of like length follow each other from batch to batch",
            "LengthBatchSampler, which draws the order of batches",
        )
    if plan["rows_std"] > VARIED * plan["rows_mean"]:
        return (
            "the loss is a mean over the batch, and the number of rows in it varies, so that rows "
            "do not weigh the same",
            "loss.sum() / batch_size, so that each row weighs the same; or batch_size in place of "
            "max_tokens",
        )
    if result["steps"] < 0.9 * base["steps"]:
        return "it makes fewer steps", "a smaller batch, or a higher --learning-rate"
    if result["order"] == "length" and result["layout"] == "rows":
        if wide:
            return "a batch shows one length only", "--shuffle-window auto (shuffle_window='auto')"
        return (
            "batches differ in their mean length",
            "a smaller --shuffle-window (shuffle_window=), which pads more and mixes more",
        )
    return "nothing in its batches explains it", "more --seeds, as it may be chance"


def judgement(results: list[Figures], found: Figures, setup: Setup) -> list[str]:
    """Notes on the verdict, and on what it rests on."""
    by_key = {result["key"]: result for result in results}
    base, best = results[0], by_key[found["fastest"]]
    seeds, rows = found["seeds"], f"{len(setup.training):,} rows to train on"
    rests = f"{rows} and {len(setup.held_out):,} held out a seed, {setup.settings.epochs} epochs, "
    rests += f"{setup.settings.model or 'the built-in model'}, {setup.device}"
    if seeds < FEWEST_SEEDS:
        return [
            f"VERDICT: {best['name']} is the fastest: {best['speed_up']:.1f}x as fast as "
            f"{base['name']}; {seeds} of the {FEWEST_SEEDS} seeds that it takes to compare "
            "accuracies: give --seeds 6, or more --minutes",
            f"VERDICT: it rests on {rests}",
        ]
    notes, less = [], best["held_out_accuracy_difference"]
    if best is base:
        notes.append(f"VERDICT: no way is faster than {base['name']} at its accuracy")
    else:
        notes.append(
            f"VERDICT: {best['name']} is the fastest way whose accuracy shows no difference from "
            f"that of {base['name']}: {best['speed_up']:.1f}x as fast an epoch; accuracy "
            f"{best['held_out_accuracy']:.1%} beside {base['held_out_accuracy']:.1%}, difference "
            f"{100 * less['mean']:+.1f} points ({100 * less['low']:+.1f} to "
            f"{100 * less['high']:+.1f})"
        )
    notes.append(
        f"VERDICT: it rests on {seeds} seeds, {rests}; the interval is of Student's t, paired by "
        "seed, 95 % for all ways together: what is smaller than it cannot be seen; more --seeds "
        "narrow it"
    )
    for key, one in found["costs_accuracy"].items():
        notes.append(
            f"COSTS: {by_key[key]['name']} costs {-100 * one['mean']:.1f} points of accuracy "
            f"({-100 * one['high']:.1f} to {-100 * one['low']:.1f}): {one['why']}; what does not: "
            f"{one['setting']}"
        )
    for result in results[1:]:
        loss = result["held_out_loss_difference"]
        if result["key"] not in found["costs_accuracy"] and loss["low"] > 0:
            notes.append(
                f"loss: that of {result['name']} is higher on held-out rows by "
                f"{loss['mean']:.3f} ({loss['low']:.3f} to {loss['high']:.3f})"
            )
    return notes
