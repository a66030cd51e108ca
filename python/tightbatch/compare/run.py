"""All of ``compare``, in order."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from tightbatch.compare import (
    check,
    corpus,
    dataset,
    forward,
    model,
    record,
    strategies,
    table,
)
from tightbatch.compare.settings import (
    CompareError,
    Settings,
    check_outputs,
    check_packages,
)
from tightbatch.compare.train import Result, Training, train, warm_up

if TYPE_CHECKING:
    from rich.progress import Progress

    from tightbatch.amp import Precision


def pick_device(wanted: str) -> str:
    """The torch device type to train on; raise CompareError for one that is not there."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device).sum().item()
    except Exception as error:  # torch raises several kinds, AssertionError among them
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else "not there"
        raise CompareError(f"--device {wanted}: {reason}") from None
    return device.type


def mixed_precision(device: str) -> Precision:
    """What the rows with mixed precision compute in: never float32, which would show nothing."""
    from tightbatch.amp import choose_precision

    chosen = choose_precision(device)
    return choose_precision(device, "bfloat16") if chosen.dtype == "float32" else chosen


def progress_bar() -> Progress:
    """A bar on standard error; nothing at all where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:<26}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def train_all(
    training: Training, plan: list[tuple[strategies.Strategy, Precision]]
) -> list[Result]:
    """Train under every strategy, with a bar."""
    steps = -(-len(training.rows.training) // training.loading.batch_size) * training.epochs
    results = []
    with progress_bar() as progress:
        bar = progress.add_task("warming up", total=steps * len(plan))
        warm_up(training, plan)
        for number, (strategy, chosen) in enumerate(plan):
            # Batches that are full by tokens may be a few more or less.
            progress.update(bar, description=strategy.name, completed=number * steps)
            results.append(train(training, strategy, chosen, lambda: progress.advance(bar)))
    return results


def load_settings(settings: Settings, rows: dataset.Rows, start: model.Start) -> strategies.Loading:
    """What every strategy shares; raise CompareError for widths that the rows do not fit."""
    multiple, width = settings.pad_to_multiple_of, min(start.limit, rows.longest)
    if multiple is not None and start.limit % multiple:
        raise CompareError(
            f"--pad-to-multiple-of {multiple}: the limit of {start.limit} tokens is no multiple of "
            f"it; add --max-length {start.limit // multiple * multiple or multiple}"
        )
    width = strategies.round_up(width, multiple)
    if settings.capacity is not None and settings.capacity < width:
        raise CompareError(
            f"--capacity {settings.capacity}: less than the {width} tokens of the widest row"
        )
    return strategies.Loading(
        tokenizer=start.tokenizer,
        batch_size=settings.batch_size,
        width=width,
        seed=settings.seed,
        lengths=rows.lengths,
        buckets=settings.buckets,
        capacity=settings.capacity,
        pad_to_multiple_of=multiple,
        shuffle_window=settings.shuffle_window,
        sight=forward.sight(start.model),
        first_position=model.first_position(start.model),
    )


def runnable(
    training: Training,
    plan: list[tuple[strategies.Strategy, Precision]],
    built_in: bool,
) -> tuple[list[tuple[strategies.Strategy, Precision]], dict[str, str]]:
    """The strategies that the model can be trained under, and for each other the reason.

    The built-in model can be trained under all of them; were it not so, the check has to say so.
    """
    not_run = {}
    for strategy, chosen in plan:
        if strategy.layout != "rows" and not built_in:
            reason = check.obstacle(training, strategy, chosen)
            if reason is not None:
                not_run[strategy.key] = reason
    return [pair for pair in plan if pair[0].key not in not_run], not_run


def check_finite(results: list[Result]) -> None:
    """Raise CompareError when training diverged: its times and accuracies would mean nothing."""
    import math

    for result in results:
        if not all(map(math.isfinite, [*result.epoch_losses, result.held_out_loss])):
            raise CompareError(
                f"{result.strategy.name}: the loss is not finite; try a smaller --learning-rate"
            )


def run(settings: Settings) -> int:
    """Compare the strategies as `settings` say and print what each costs.

    Returns
    -------
    int
        0, or 1 when padding affects the model's logits by more than the tolerance.

    Raises
    ------
    CompareError
        If a file, column, package, model or device is not there or of no use.
    """
    begin = time.perf_counter()
    check_packages(settings)
    check_outputs(settings)
    from tightbatch.amp import choose_precision

    text = corpus.read_corpus(settings)
    model.offline()

    device = pick_device(settings.device)
    start = model.start(settings, [text.texts[i] for i in text.training], len(text.label_names))
    rows = dataset.tokenize(text, start.tokenizer, start.limit)
    loading = load_settings(settings, rows, start)
    out = table.console()
    table.print_lines(out, table.opening(settings, text, rows, start, loading, device))

    single, half = choose_precision(device, "float32"), mixed_precision(device)
    plan = [(s, half if s.half else single) for s in strategies.strategies(half.dtype)]
    net: Any = start.model
    net.to(device)
    training = Training(
        model=net,
        initial={name: weight.clone() for name, weight in net.state_dict().items()},
        rows=rows,
        loading=loading,
        device=device,
        epochs=settings.epochs,
        learning_rate=start.learning_rate,
    )
    names = {strategy.key: strategy.name for strategy, _ in plan}
    plan, not_run = runnable(training, plan, settings.model is None)
    results = train_all(training, plan)
    check_finite(results)
    checked = check.check_padding(training, plan, most=48 if settings.quick else check.ROWS)

    out.print(table.result_table(results, text.majority, names))
    table.print_lines(out, table.legend(results))
    table.print_lines(out, table.gains(results))
    table.print_lines(out, table.layouts(results, loading))
    table.print_lines(out, [f"NOT RUN: {names[key]}: {why}." for key, why in not_run.items()])
    table.print_lines(out, table.precision_notes(results, half))
    table.print_lines(out, table.check_lines(checked))
    table.print_lines(out, table.unsteady(results))
    seconds = time.perf_counter() - begin
    if settings.json is not None:
        figures = record.record(
            settings, text, rows, start, loading, half, results, not_run, checked, seconds
        )
        record.write_json(figures, settings.json)
    if settings.plot is not None:
        title = f"{text.source}: {len(rows.training):,} training rows, batches of "
        record.write_plot(results, f"{title}{settings.batch_size}, {device}", settings.plot)
    return 0 if checked.holds else 1
