"""The whole command in order, and what it prints and writes."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightbatch.compare import CompareError, Settings
from tightbatch.compare.batches import Setup, Strategy, strategies
from tightbatch.compare.model import offline, start, tokenize
from tightbatch.compare.text import Text, read_text
from tightbatch.compare.train import PaddingCheck, Result, check_padding, obstacle, train, warm_up

if TYPE_CHECKING:
    from rich.console import Console

    from tightbatch.amp import Precision

UNSTEADY = 1.5  # slowest over fastest epoch of a strategy
PIPE_WIDTH = 120  # columns of output that does not go to a terminal
BAR_WIDTH = 60  # columns of a terminal, with fewer of which the progress shows no bar

Notes = list[tuple[str, str]]  # a word, and what there is to say about it
# Heading and figure of each column of the table, from a strategy's result and fixed padding's.
COLUMNS: dict[str, Callable[[Result, Result], str]] = {
    "real\ntokens": lambda r, _: f"{r.mean('real'):,}",
    "padded\ntokens": lambda r, _: f"{r.mean('padded'):,}",
    "waste": lambda r, _: f"{r.waste:.1%}",
    "attn.\npairs": lambda r, _: f"{r.mean('pairs') / 1e6:.1f}M",
    "shapes": lambda r, _: f"{r.shapes:,}",
    "steps": lambda r, _: f"{r.mean('steps'):,}",
    "s per\nepoch": lambda r, _: f"{r.seconds:.2f}",
    "of it\ndata": lambda r, _: f"{r.data_seconds:.3f}",
    "tokens\nper s": lambda r, _: f"{r.tokens_per_second:,.0f}",
    "speed\n-up": lambda r, fixed: f"{fixed.seconds / r.seconds:.2f}x",
    "final\nloss": lambda r, _: f"{r.losses[-1]:.3f}",
    "held-out\naccuracy": lambda r, _: f"{r.accuracy:.1%}",
}


def check_packages(settings: Settings) -> None:
    """Raise CompareError when a package that this run needs is not installed."""
    needed = ["torch", "transformers", "tokenizers", "rich"]
    if settings.plot is not None:
        needed.append("matplotlib")
    if settings.data is not None and settings.data.suffix.lower() in (".csv", ".parquet"):
        needed.append("pyarrow")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise CompareError(f'{" and ".join(missing)} not installed: pip install "tightbatch[demo]"')


def check_output(path: Path | None, option: str) -> None:
    """Raise CompareError when `path` could not be written; an existing file stays as it is."""
    if path is None:
        return
    if path.is_dir():
        raise CompareError(f"{option} {path}: is a directory")
    existed = path.exists()
    try:
        # Only an attempt tells: permissions, read-only disks and odd names differ by system.
        with path.open("ab"):
            pass
        if not existed:
            os.unlink(path)
    except OSError as error:
        raise CompareError(f"{option} {path}: cannot be written: {error.strerror}") from None
    if option == "--plot" and path.suffix.lower() != ".png":
        raise CompareError(f"{option} {path}: the plot is a PNG, so the name must end in .png")


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


def console() -> Console:
    """Standard output: coloured and as wide as the terminal, or plain text in a pipe or file."""
    from rich.console import Console

    out = Console(highlight=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = PIPE_WIDTH
    return out


@contextmanager
def progress(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Progress on standard error: a bar on a terminal, elsewhere a line for each strategy.

    Yields
    ------
    begin : callable
        Called with what begins now.
    tick : callable
        Called after every step of it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    out = Console(stderr=True)
    if not out.is_terminal:
        yield lambda what: print(what, file=sys.stderr, flush=True), lambda: None
        return
    columns = [TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn()]
    if out.width >= BAR_WIDTH:
        columns.insert(0, BarColumn())
    text = TextColumn("{task.description}")
    with Progress(text, *columns, console=out, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda what: bar.update(task, description=what), lambda: bar.advance(task)


def train_all(setup: Setup, plan: list[Strategy]) -> list[Result]:
    """Train under every strategy."""
    settings, results = setup.settings, []
    steps = -(-len(setup.rows.training) // settings.batch_size) * settings.epochs
    with progress(steps * len(plan)) as (begin, tick):
        begin("warming up")
        warm_up(setup, plan)
        for number, strategy in enumerate(plan, 1):
            begin(f"{number}/{len(plan)} {strategy.name}")
            result = train(setup, strategy, tick)
            if not all(map(math.isfinite, [*result.losses, result.held_out_loss])):
                raise CompareError(
                    f"{strategy.name}: the loss is not finite; try a smaller --learning-rate"
                )
            results.append(result)
    return results


def opening(text: Text, setup: Setup) -> Notes:
    """What is about to be trained, and what was left out or cut to get there."""
    settings, start, rows = setup.settings, setup.start, setup.rows
    used = len(rows.training) + len(rows.held_out)
    counts = {"empty": text.rows_empty, "repeated": text.rows_repeated}
    counts["not drawn"] = text.rows_found - sum(counts.values()) - used
    left_out = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
    parameters = sum(p.numel() for p in start.model.parameters())
    shorter = "the model's limit" if start.limit <= setup.longest else "the longest training row"
    boundaries = setup.boundaries()
    return [
        (
            "text",
            f"{text.source}: {used:,} of {text.rows_found:,} rows"
            + (f" ({left_out})" if left_out else ""),
        ),
        (
            "label",
            f"{text.label_meaning}: {len(text.label_names)} of them; {len(rows.training):,} rows "
            f"to train on, {len(rows.held_out):,} held out",
        ),
        (
            "model",
            f"{start.name}: {parameters:,} parameters, vocabulary {len(start.tokenizer):,}, limit "
            f"{start.limit} tokens; on {setup.device}",
        ),
        (
            "cut",
            f"{rows.rows_cut:,} rows were longer and lost {rows.tokens_lost:,} of "
            f"{rows.tokens_before:,} tokens",
        ),
        (
            "fixed",
            f"padded to {setup.width} tokens: {shorter} (limit {start.limit}, longest "
            f"{setup.longest})",
        ),
        (
            "buckets",
            f"{len(boundaries)} widths with the least padding: "
            f"{', '.join(map(str, boundaries[:12]))}{', ...' if len(boundaries) > 12 else ''}",
        ),
        (
            "lines",
            f"packed: batches of {setup.packs} packs of {setup.pack_width} tokens; padding-free: "
            f"one line of up to {setup.batch_tokens:,} tokens",
        ),
        (
            "training",
            f"{settings.epochs} epochs, batches of {settings.batch_size}, AdamW at "
            f"{start.learning_rate:g}, seed {settings.seed}: the same weights to start from",
        ),
        (
            "order",
            f"new every epoch; uniform-length sorts {settings.shuffle_window or 'all'} rows "
            "together and shuffles the batches (--shuffle-window)",
        ),
    ]


def print_notes(out: Console, notes: Notes) -> None:
    """Print notes in two columns, the right one folded to the width."""
    from rich.table import Table
    from rich.text import Text as Plain  # a file name in square brackets is no markup

    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for word, what in notes:
        grid.add_row(Plain(f"{word:<9}"), Plain(what))
    out.print(grid)


def print_table(out: Console, results: list[Result], names: dict[str, str]) -> None:
    """Print a line for each strategy of `names`; in several tables where the width needs it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    by_key = {result.strategy.key: result for result in results}
    cells = {
        heading: [figure(by_key[key], results[0]) if key in by_key else "-" for key in names]
        for heading, figure in COLUMNS.items()
    }

    def table(headings: list[str]) -> Table:
        made = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        made.add_column("strategy", overflow="fold", max_width=max(12, out.width // 3))
        for heading in headings:
            made.add_column(heading, justify="right", overflow="fold")
        for name, *row in zip(names.values(), *(cells[h] for h in headings), strict=True):
            made.add_row(name, *row)
        return made

    left = list(cells)
    while left:
        count = len(left)
        while count > 1 and out.measure(table(left[:count])).maximum > out.width:
            count -= 1
        out.print(table(left[:count]))
        left = left[count:]


def costs(results: list[Result], setup: Setup) -> Notes:
    """What planning, this library, few shapes and no padding gain or cost."""
    by_key = {result.strategy.key: result for result in results}
    uniform, same = by_key["uniform"], by_key["uniform_transformers"]

    def times(key: str) -> str:
        return f"{by_key[key].seconds / uniform.seconds:.2f}x the time"

    notes = [
        (
            "planning",
            f"dynamic padding takes {times('dynamic')} of uniform-length batching, both padded by "
            "this library",
        ),
        (
            "padding",
            f"the same batches padded by transformers (HF) take {times('uniform_transformers')}; "
            f"its data work an epoch takes {same.data_seconds * 1e3:.1f} ms, ours "
            f"{uniform.data_seconds * 1e3:.1f} ms "
            f"({same.data_seconds / uniform.data_seconds:.1f}x)",
        ),
        (
            "both",
            f"transformers' group_by_length sampler and collator take {times('transformers')} of "
            "uniform-length batching",
        ),
    ]
    whys = {
        "buckets": f"{setup.settings.buckets} widths at most, for compilers and graphs that want "
        "few shapes",
        "packed": f"a mask over all {setup.pack_width} tokens of a pack separates its rows",
        "padding_free": "attention goes row by row, as kernels for variable lengths do",
    }
    for key in whys.keys() & by_key.keys():
        found = by_key[key]
        notes.append(
            (
                "layout",
                f"{found.strategy.name}: {times(key)} of uniform-length batching, "
                f"{found.waste:.1%} waste for {uniform.waste:.1%}, "
                f"{found.mean('pairs') / uniform.mean('pairs'):.2f}x the attention, shapes: "
                f"{found.shapes} for {uniform.shapes}; {whys[key]}",
            )
        )
    return notes


def precision_notes(results: list[Result], half: Precision) -> Notes:
    """Which half type, why, and whether it paid."""
    by_key = {result.strategy.key: result for result in results}
    notes = [("half", f"{half.dtype}, as {half.reason}")]
    for key, name in (("fixed", "fixed padding"), ("uniform", "uniform-length batching")):
        gain = by_key[key].seconds / by_key[f"{key}_amp"].seconds
        verdict = f"{gain:.2f}x as fast as" if gain >= 1 else f"SLOWER ({gain:.2f}x) than"
        notes.append(("half", f"with {name} it is {verdict} float32"))
    skipped = sum(epoch.skipped for result in results for epoch in result.epochs)
    if skipped:
        notes.append(("half", f"the loss scaler skipped {skipped} steps that overflowed"))
    return notes


def check_notes(check: PaddingCheck) -> Notes:
    """Whether padding affects the model, with the figures that say so."""
    lines = [
        f"padding does {'not affect' if check.holds else 'AFFECT'} the model: largest difference "
        f"of a logit from that of the row alone, over {check.rows} held-out rows:"
    ]
    for precision in dict.fromkeys(a.precision for a in check.agreements):
        these = [a for a in check.agreements if a.precision == precision]
        lines.append(
            f"{precision}: {max(a.largest_difference for a in these):.1e} "
            f"(tolerance {these[0].tolerance:.1e}) in {len(these)} strategies"
        )
    lines += [
        f"FAILED: {a.strategy} ({a.precision}): {a.largest_difference:.3e}, more than "
        f"{a.tolerance:.1e}"
        for a in check.agreements
        if not a.holds
    ]
    control = f"control: padded without the mask they differ by {check.control_without_mask:.1e}"
    if not check.control_is_seen:
        control += (
            ", which is within the tolerance: this model does not see its padding anyway (a causal "
            "one with padding on the right does not)"
        )
    lines.append(control)
    if check.control_rows_together is not None:
        lines.append(
            "control: packed without the mask that separates rows they differ by "
            f"{check.control_rows_together:.1e}"
        )
    return [("check", line) for line in lines]


def closing(text: Text, setup: Setup, results: list[Result], not_run: dict[str, str]) -> Notes:
    """How to read the table, and warnings."""
    notes = [
        (
            "columns",
            "tokens, attention pairs and steps are per epoch; padded tokens include the real ones; "
            "waste is the padding among them; HF is transformers",
        ),
        (
            "columns",
            "attention pairs are of a query and a key, in one head of one layer; shapes are all "
            "that the batches had",
        ),
        (
            "columns",
            f"seconds are the fastest of {setup.settings.epochs} epochs: planning, collating and "
            "training, not evaluation; tokens per s are real ones",
        ),
        (
            "columns",
            f"always answering the commonest label would have an accuracy of {text.majority:.1%}",
        ),
    ]
    notes += [("NOT RUN", f"{name}: {why}") for name, why in not_run.items()]
    worst = max(results, key=lambda r: max(e.seconds for e in r.epochs) / r.seconds)
    slowest = max(epoch.seconds for epoch in worst.epochs)
    if slowest >= UNSTEADY * worst.seconds:
        notes.append(
            (
                "UNSTEADY",
                f"epochs of {worst.strategy.name!r} took {worst.seconds:.2f} to {slowest:.2f} s: "
                "other work on this machine blurs these times",
            )
        )
    return notes


def version(package: str) -> str | None:
    """The installed version of a package, None where it is not installed as one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def result_figures(result: Result, fixed: Result) -> dict[str, Any]:
    """One strategy's figures, for JSON."""
    strategy = result.strategy
    return {
        **{name: value for name, value in vars(strategy).items() if name != "precision"},
        "precision": strategy.precision.dtype,
        "real_tokens": result.mean("real"),
        "padded_tokens": result.mean("padded"),
        "attention_pairs": result.mean("pairs"),
        "shapes": result.shapes,
        "waste": result.waste,
        "steps": result.mean("steps"),
        "steps_skipped": sum(epoch.skipped for epoch in result.epochs),
        "seconds_per_epoch": result.seconds,
        "data_seconds_per_epoch": result.data_seconds,
        "epoch_seconds": [epoch.seconds for epoch in result.epochs],
        "epoch_data_seconds": [epoch.data_seconds for epoch in result.epochs],
        "tokens_per_second": result.tokens_per_second,
        "speed_up": fixed.seconds / result.seconds,
        "epoch_losses": result.losses,
        "final_loss": result.losses[-1],
        "held_out_loss": result.held_out_loss,
        "held_out_accuracy": result.accuracy,
    }


def figures(text: Text, setup: Setup, half: Precision, results: list[Result]) -> dict[str, Any]:
    """What was asked for, what it was measured on, and every figure."""
    import torch

    settings, start, rows = setup.settings, setup.start, setup.rows
    options = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(settings).items()
        if name != "command"
    }
    return {
        "settings": options | {"learning_rate": start.learning_rate},
        "environment": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "device": setup.device,
            "gpu": torch.cuda.get_device_name() if setup.device == "cuda" else None,
            **{
                name: version(name)
                for name in ("tightbatch", "torch", "transformers", "tokenizers", "numpy")
            },
        },
        "data": {
            "source": text.source,
            "label": text.label_meaning,
            "labels": text.label_names,
            "rows_found": text.rows_found,
            "rows_empty": text.rows_empty,
            "rows_repeated": text.rows_repeated,
            "rows_training": len(rows.training),
            "rows_held_out": len(rows.held_out),
            "rows_cut": rows.rows_cut,
            "tokens_before": rows.tokens_before,
            "tokens_lost": rows.tokens_lost,
            "longest_training_row": setup.longest,
            "majority_accuracy": text.majority,
        },
        "model": {
            "name": start.name,
            "parameters": sum(p.numel() for p in start.model.parameters()),
            "vocabulary": len(start.tokenizer),
            "limit": start.limit,
            "fixed_width": setup.width,
        },
        "batching": {
            "bucket_boundaries": setup.boundaries(),
            "pack_capacity": setup.pack_width,
            "packs_a_batch": setup.packs,
            "tokens_a_line": setup.batch_tokens,
        },
        "mixed_precision": {
            "device": half.device,
            "half": half.dtype,
            "reason": half.reason,
            "native": half.native,
        },
        "strategies": [result_figures(result, results[0]) for result in results],
    }


def write_plot(results: list[Result], title: str, path: Path) -> None:
    """Write a PNG: seconds an epoch on the left, real tokens and padding on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # no window, no display, no global state
    times, tokens = figure.subplots(1, 2, sharey=True)
    names = [result.strategy.name for result in results]
    seconds = [result.seconds for result in results]
    data = [result.data_seconds for result in results]
    rest = [result.seconds - result.data_seconds for result in results]
    real = [result.mean("real") / 1e3 for result in results]
    padded = [result.mean("padded") / 1e3 for result in results]
    padding = [all_of_it - some for all_of_it, some in zip(padded, real, strict=True)]
    for axes, unit, ends, *bars in (
        (
            times,
            "seconds per epoch, the fastest one (and speed-up over fixed padding)",
            seconds,
            (rest, "#4477aa", "model"),
            (data, "#ee6677", "data: planning and collating"),
        ),
        (
            tokens,
            "thousand tokens per epoch",
            padded,
            (real, "#228833", "real"),
            (padding, "#bbbbbb", "padding"),
        ),
    ):
        (first, color, label), (second, other, what) = bars
        axes.barh(names, first, color=color, label=label)
        axes.barh(names, second, left=first, color=other, label=what)
        axes.set_xlim(right=1.3 * max(ends))
        axes.set(xlabel=unit)
        for row, result in enumerate(results):
            note = f" {result.seconds:.2f} s, {seconds[0] / result.seconds:.1f}x"
            note = note if axes is times else f" {result.waste:.0%} padding"
            axes.annotate(note, (ends[row], row), va="center", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    times.invert_yaxis()  # shared: the table's order from the top
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=120)


def write(option: str, path: Path | None, writer: Callable[[Path], object]) -> None:
    """Write an output file, if it was asked for."""
    if path is None:
        return
    try:
        writer(path)
    except OSError as error:
        raise CompareError(f"{option} {path}: cannot be written: {error.strerror}") from None


def compare(settings: Settings) -> int:
    """Train under every strategy, print what each costs, and write JSON and plot.

    Returns
    -------
    int
        0, or 1 when padding changes the model's logits by more than the tolerance.

    Raises
    ------
    CompareError
        If a file, column, package, model or device is missing or of no use.
    """
    began = time.perf_counter()
    check_packages(settings)
    check_output(settings.json, "--json")
    check_output(settings.plot, "--plot")
    from tightbatch.amp import choose_precision

    text = read_text(settings)
    offline()
    device = pick_device(settings.device)
    made = start(settings, text)
    rows = tokenize(text, made.tokenizer, made.limit)
    net: Any = made.model
    net.to(device)
    initial = {name: weight.clone() for name, weight in net.state_dict().items()}
    setup = Setup(settings, made, rows, device, initial)
    setup.check()
    out = console()
    print_notes(out, opening(text, setup))

    half = mixed_precision(device)
    plan = strategies(choose_precision(device, "float32"), half)
    names, not_run = {strategy.key: strategy.name for strategy in plan}, {}
    if settings.model is not None:  # the built-in model can be trained under all of them
        tried = {s.key: obstacle(setup, s) for s in plan if s.layout != "rows"}
        not_run = {key: why for key, why in tried.items() if why is not None}
        plan = [strategy for strategy in plan if strategy.key not in not_run]
    results = train_all(setup, plan)
    check = check_padding(setup, plan)

    print_table(out, results, names)
    unable = {names[key]: why for key, why in not_run.items()}
    print_notes(
        out,
        [
            *closing(text, setup, results, unable),
            *costs(results, setup),
            *precision_notes(results, half),
            *check_notes(check),
        ],
    )
    found = figures(text, setup, half, results) | {
        "not_run": not_run,
        "padding_check": asdict(check)
        | {"holds": check.holds, "control_is_seen": check.control_is_seen},
        "seconds_in_all": time.perf_counter() - began,
    }
    content = json.dumps(found, indent=2) + "\n"
    write("--json", settings.json, lambda path: path.write_text(content, encoding="utf-8"))
    title = f"{text.source}: {len(rows.training):,} training rows, batches of "
    title += f"{settings.batch_size}, {device}"
    write("--plot", settings.plot, lambda path: write_plot(results, title, path))
    return 0 if check.holds else 1
