"""The whole command in order, and what it prints and writes."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightbatch.compare import CompareError
from tightbatch.compare.batches import strategies
from tightbatch.compare.inference import check_padding, inference_notes, obstacle, pretrained
from tightbatch.compare.model import (
    Setup,
    environment,
    mixed_precision,
    offline,
    pick_device,
    start,
)
from tightbatch.compare.text import read_text
from tightbatch.compare.train import judgement, train_seeds, verdict

if TYPE_CHECKING:
    from rich.console import Console

    from tightbatch.amp import Precision

UNSTEADY = 1.5  # slowest over fastest epoch of a strategy
PIPE_WIDTH = 120  # columns of output that does not go to a terminal
FOR_INFERENCE = 0.25  # of the time in all
LEFT = 8.0  # seconds for the padding check and the output
BAR_WIDTH = 60  # on a terminal with fewer columns progress has no bar

Figures = dict[str, Any]  # by their names in JSON
Column = tuple[str, str, Callable[[Any], str]]


# Heading, figure and format of each column of the tables: what a way costs, and what it learns.
COLUMNS: list[Column] = [
    ("padded\ntokens", "padded_tokens", "{:,}".format),
    ("waste", "waste", "{:.1%}".format),
    ("rows a\nbatch", "plan", lambda plan: f"{plan['rows_mean']:.0f}±{plan['rows_std']:.0f}"),
    ("length\nspread", "plan", lambda plan: f"{plan['length_std']:.0f}"),
    ("like\nnext", "plan", lambda plan: f"{plan['correlation']:.2f}"),
    ("shapes", "shapes", "{:,}".format),
    ("steps", "steps", "{:,}".format),
    ("s per\nepoch", "seconds_per_epoch", "{:.2f}".format),
    ("of it\ndata", "data_seconds_per_epoch", "{:.3f}".format),
    ("tokens\nper s", "tokens_per_second", "{:,.0f}".format),
    ("speed\n-up", "speed_up", "{:.2f}x".format),
]
LEARNT: list[Column] = [
    ("speed\n-up", "speed_up", "{:.2f}x".format),
    ("training\nloss", "final_loss", "{:.3f}".format),
    ("held-out\nloss", "loss", str),
    ("less\nfirst's", "loss_less", str),
    ("accuracy\n%", "accuracy", str),
    ("less\nfirst's", "accuracy_less", str),
]
LEGEND = (
    "columns: tokens and steps are per epoch; padded tokens include the real ones, waste is the "
    "padding among them; rows a batch: mean±deviation; length spread: the deviation of batches' "
    "mean lengths, in tokens; like next: the correlation of a batch's mean length with that of the "
    "next (all three are fairness() of the plan); shapes are all that the batches had; seconds are "
    "of the first seed's fastest epoch: planning, collating and training, not evaluation; tokens "
    "per s are real ones; training loss is that of the last epoch; held-out loss and accuracy: "
    "mean±deviation over seeds; less first's: less that of the first line, paired by seed, ± its "
    "95 % interval; HF is transformers"
)
INFERENCE_COLUMNS: list[Column] = [
    ("padded\ntokens", "padded_tokens", "{:,}".format),
    ("waste", "waste", "{:.1%}".format),
    ("s in\nall", "seconds", "{:.2f}".format),
    ("rows\nper s", "rows_per_second", "{:,.1f}".format),
    ("speed\n-up", "speed_up", "{:.2f}x".format),
    ("largest\ndifference", "largest_difference", "{:.1e}".format),
    ("least\ncosine", "smallest_cosine", "{:.5f}".format),
]


def shown(result: Figures) -> Figures:
    """A strategy's figures, and those that its tables join in one column."""
    joined: Figures = {"plan": result["fairness"]["plan"]}
    for short, scale, digits in (("loss", 1, 3), ("accuracy", 100, 1)):
        name = f"held_out_{short}"
        mean, std, less = (result[f"{name}{end}"] for end in ("", "_std", "_difference"))
        joined[short] = f"{scale * mean:.{digits}f}"
        joined[f"{short}_less"] = "-"
        if std is not None:
            half = scale * (less["high"] - less["low"]) / 2
            joined[short] += f"±{scale * std:.{digits}f}"
            joined[f"{short}_less"] = f"{scale * less['mean']:+.{digits}f}±{half:.{digits}f}"
    return result | joined


def check_packages(settings: Namespace) -> None:
    """Raise CompareError when a package that this run needs is not installed."""
    needed = ["torch", "transformers", "tokenizers", "rich"]
    if settings.plot is not None:
        needed.append("matplotlib")
    if settings.data is not None and settings.data.suffix.lower() in (".csv", ".parquet"):
        needed.append("pyarrow")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        fix = f"pip install {' '.join(missing)}"
        if "torch" in missing and sys.version_info >= (3, 15):
            fix += ", with Python 3.14 or earlier"
        raise CompareError(f"{', '.join(missing)} not installed: {fix}")


def check_output(path: Path | None, option: str) -> None:
    """Raise CompareError when `path` could not be written; an existing file stays as it is."""
    if path is None:
        return
    if path.is_dir():
        raise CompareError(f"{option} {path}: is a directory")
    existed = path.exists()
    try:
        # Only an attempt shows it: permissions, read-only disks and odd names differ by system.
        with path.open("ab"):
            pass
        if not existed:
            os.unlink(path)
    except OSError as error:
        raise CompareError(f"{option} {path}: cannot be written: {error.strerror}") from None
    if option == "--plot" and path.suffix.lower() != ".png":
        raise CompareError(f"{option} {path}: the plot is a PNG, so the name must end in .png")


def console() -> Console:
    """Standard output: coloured and as wide as the terminal, or plain text in a pipe or file."""
    from rich.console import Console

    out = Console(highlight=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = PIPE_WIDTH
    return out


@contextmanager
def progress() -> Iterator[tuple[Callable[..., None], Callable[[], None]]]:
    """Progress on standard error: a bar on a terminal or in a notebook, elsewhere plain lines.

    Yields
    ------
    begin : callable
        Called with the name of what begins, and how many steps it has, if they are known.
    tick : callable
        Called after every step.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    out = Console(stderr=True)
    if not (out.is_terminal or out.is_jupyter):
        yield lambda what, steps=0: print(what, file=sys.stderr, flush=True), lambda: None
        return
    text = TextColumn("{task.description}", table_column=Column(overflow="fold"))
    rest = [BarColumn(), TimeElapsedColumn()] if out.width >= BAR_WIDTH else []
    percent = TextColumn("{task.percentage:>3.0f}%")
    with Progress(text, percent, *rest, console=out, transient=True) as bar:
        task = bar.add_task("", total=None)

        def begin(what: str, steps: int = 0) -> None:
            bar.reset(task, description=what, total=steps or None)

        yield begin, lambda: bar.advance(task)


def window_of(setup: Setup) -> str:
    """What uniform-length batching sorts together, in words."""
    import tightbatch as tb

    settings = setup.settings
    if settings.shuffle_window is None:
        return "all"
    lengths = [len(row["input_ids"]) for row in setup.training]
    given: Any = {"batch_size": settings.batch_size, "shuffle_window": settings.shuffle_window}
    return f"{tb.LengthBatchSampler(lengths, **given).shuffle_window:,}"


def opening(setup: Setup, data: Figures, model: Figures) -> list[str]:
    """Notes on what will be trained, and on what was left out or cut."""
    settings, limit, longest = setup.settings, setup.limit, setup.longest
    counts = {"empty": data["rows_empty"], "repeated": data["rows_repeated"]}
    used = data["rows_training"] + data["rows_held_out"]
    counts["not drawn"] = data["rows_found"] - sum(counts.values()) - used
    left_out = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
    shorter = "the model's limit" if limit <= longest else "the longest training row"
    return [
        f"text: {data['source']}: {used:,} of {data['rows_found']:,} rows"
        + (f" ({left_out})" if left_out else ""),
        f"label: {data['label']}: {len(data['labels'])} of them; {data['rows_training']:,} rows to "
        f"train on, {data['rows_held_out']:,} held out; always answering the commonest label has "
        f"an accuracy of {data['majority_accuracy']:.1%}",
        f"model: {model['name']}: {model['parameters']:,} parameters, vocabulary "
        f"{model['vocabulary']:,}, limit {limit} tokens; on {setup.device}",
        f"cut: {data['rows_cut']:,} rows were longer and lost {data['tokens_lost']:,} of "
        f"{data['tokens_before']:,} tokens",
        f"fixed: padded to {setup.width} tokens: {shorter} (limit {limit}, longest {longest})",
        f"buckets: {len(setup.boundaries)} widths with the least padding: "
        f"{', '.join(map(str, setup.boundaries[:12]))}{', ...' * (len(setup.boundaries) > 12)}",
        f"lines: packed: batches of {setup.packs} packs of {setup.pack_width} tokens; "
        f"padding-free: one line of up to {setup.batch_tokens:,} tokens",
        f"training: {settings.epochs} epochs, batches of {settings.batch_size}, AdamW at "
        f"{setup.learning_rate:g}; all ways start a seed with the same weights and rows",
        f"order: new every epoch; uniform-length sorts {window_of(setup)} rows together and "
        "shuffles the batches (--shuffle-window)",
    ]


def print_notes(out: Console, notes: list[str]) -> None:
    """Print notes in two columns, the word before the first colon and the rest."""
    from rich.table import Table
    from rich.text import Text  # no markup: a file name may hold square brackets

    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    last = ""
    for note in notes:
        word, _, rest = note.partition(": ")
        grid.add_row(Text("" if word == last else f"{word:<9}"), Text(rest))
        last = word
    out.print(grid)


def print_table(
    out: Console, results: list[Figures], names: dict[str, str], columns: list[Column], first: str
) -> None:
    """Print a line for each key of `names`, in as many tables as the width needs."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    by_key = {result["key"]: result for result in results}

    def table(columns: list[Any]) -> Table:
        made = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        made.add_column(first, overflow="fold", max_width=max(14, out.width // 3))
        for heading, _, _ in columns:
            made.add_column(heading, justify="right", no_wrap=True, overflow="fold")
        for key, name in names.items():
            figures = by_key.get(key)
            made.add_row(name, *(show(figures[f]) if figures else "-" for _, f, show in columns))
        return made

    left, boundless = columns, out.options.update(width=10_000)
    while left:
        count = len(left)
        while count > 1 and out.measure(table(left[:count]), options=boundless).maximum > out.width:
            count -= 1
        out.print(table(left[:count]))
        left = left[count:]


def closing(results: list[Figures], half: Precision, check: Figures) -> list[str]:
    """Notes on what was gained, whether mixed precision helped, and what the padding check
    found."""
    by_key = {result["key"]: result for result in results}
    seconds = {key: result["seconds_per_epoch"] for key, result in by_key.items()}
    data = {key: result["data_seconds_per_epoch"] for key, result in by_key.items()}
    uniform, same, notes = "uniform", "uniform_transformers", []
    if {"dynamic", uniform} <= set(seconds):
        notes.append(
            f"planning: dynamic padding takes {seconds['dynamic'] / seconds[uniform]:.2f}x the "
            "time of uniform-length batching, both padded by this library"
        )
    if {uniform, same} <= set(seconds):
        notes.append(
            "padding: the same batches padded by transformers (HF): its data work an epoch takes "
            f"{data[same] * 1e3:.1f} ms, ours {data[uniform] * 1e3:.1f} ms "
            f"({data[same] / data[uniform]:.1f}x); training on them is the same work, and took "
            f"{seconds[same] - data[same]:.2f} s and {seconds[uniform] - data[uniform]:.2f} s: "
            "what these differ by is not of padding"
        )
    if {uniform, "transformers"} <= set(seconds):
        notes.append(
            "both: transformers' group_by_length sampler and collator take "
            f"{seconds['transformers'] / seconds[uniform]:.2f}x the time of uniform-length batching"
        )
    notes.append(f"half: {half.dtype}, as {half.reason}")
    for key, name in (("fixed", "fixed padding"), (uniform, "uniform-length batching")):
        if {key, f"{key}_amp"} <= set(seconds):
            gain = seconds[key] / seconds[f"{key}_amp"]
            word = f"{gain:.2f}x as fast as" if gain >= 1 else f"SLOWER ({gain:.2f}x) than"
            notes.append(f"half: with {name} it is {word} float32")
    skipped = sum(result["steps_skipped"] for result in results)
    if skipped:
        notes.append(f"half: the loss scaler skipped {skipped} steps that overflowed")
    notes.append(
        f"check: padding does {'not affect' if check['holds'] else 'AFFECT'} the model; the "
        "largest differences of a logit from that of the row alone, or with other tokens in the "
        f"padding and in other rows, over {check['rows']} held-out rows:"
    )
    for precision in dict.fromkeys(one["precision"] for one in check["agreements"]):
        these = [one for one in check["agreements"] if one["precision"] == precision]
        notes.append(
            f"check: {precision}: {max(one['largest_difference'] for one in these):.1e} "
            f"(tolerance {these[0]['tolerance']:.1e}) in {len(these)} strategies"
        )
        notes += [
            f"check: FAILED: {one['strategy']} ({precision}): {one['largest_difference']:.3e}"
            + (f", from {one['place']}" if one["place"] else "")
            for one in these
            if not one["holds"]
        ]
    if check["control_without_mask"] is not None:
        seen = (
            ": within the tolerance, so this model does not see its padding anyway (a causal one "
        )
        seen += "with padding on the right does not)"
        seen = "" if check["control_is_seen"] else seen
        notes.append(f"check: control, without the mask: {check['control_without_mask']:.1e}{seen}")
    if check["control_rows_together"] is not None:
        together = f"{check['control_rows_together']:.1e}"
        notes.append(f"check: control, packed without the mask that separates rows: {together}")
    worst = max(results, key=lambda r: max(r["epoch_seconds"]) / r["seconds_per_epoch"])
    fastest, slowest = worst["seconds_per_epoch"], max(worst["epoch_seconds"])
    if slowest >= UNSTEADY * fastest:
        notes.append(
            f"UNSTEADY: epochs of {worst['name']!r} took {fastest:.2f} to {slowest:.2f} s: other "
            "work on this machine blurs these times"
        )
    return notes


def write_plot(results: list[Figures], title: str, path: Path) -> None:
    """Write a PNG: seconds an epoch on the left, real tokens and padding on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from tightbatch.plots.style import COLOURS

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # no window, no display, no global state
    names = [result["name"] for result in results]

    def bars(
        axes: Any, whole: str, part: str, labels: dict[str, str], note: str, unit: str
    ) -> None:
        for row, result in enumerate(results):
            first, end = result[part], result[whole]
            for begin, width, (role, label) in zip(
                (0, first), (first, end - first), labels.items(), strict=True
            ):
                label = label if row == 0 else "_"
                axes.barh(row, width, left=begin, color=COLOURS[role], label=label)
            axes.annotate(note.format(**result), (end, row), va="center", fontsize=9)
        axes.set_xlim(right=1.3 * max(result[whole] for result in results))
        axes.set(xlabel=unit)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower right", frameon=False, fontsize=9)

    times, tokens = figure.subplots(1, 2, sharey=True)
    times.set_yticks(range(len(names)), names)
    bars(
        times,
        "seconds_per_epoch",
        "data_seconds_per_epoch",
        {"bound": "data: planning and collating", "cut": "model"},
        " {seconds_per_epoch:.2f} s, {speed_up:.1f}x",
        "seconds per epoch, the fastest one (and speed-up over fixed padding)",
    )
    bars(
        tokens,
        "padded_tokens",
        "real_tokens",
        {"real": "real", "padding": "padding"},
        " {waste:.0%} padding",
        "tokens per epoch",
    )
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


def compare(settings: Namespace) -> int:
    """Train under every strategy, print what each costs, and write JSON and plot.

    Returns
    -------
    int
        0, or 1 when padding changes the model's logits by more than the tolerance.

    Raises
    ------
    CompareError
        If a file, column, package, model or device is missing or cannot be used.
    """
    began = time.perf_counter()
    check_packages(settings)
    check_output(settings.json, "--json")
    check_output(settings.plot, "--plot")
    texts = read_text(settings)
    from tightbatch.amp import choose_precision

    offline()
    device = pick_device(settings.device)
    setup, cut = start(settings, texts, device)
    half = mixed_precision(device)
    plan = strategies(choose_precision(device, "float32"), half)
    plan = [strategy for strategy in plan if strategy.key in settings.ways]
    names = {strategy.key: strategy.name for strategy in plan}
    options = {n: str(v) if isinstance(v, Path) else v for n, v in vars(settings).items()}
    figures: Figures = {
        "settings": options | {"learning_rate": setup.learning_rate},
        "environment": environment(device),
        "data": texts.figures | cut | {"longest_training_row": setup.longest},
        "model": {
            "name": settings.model or "built-in small ModernBERT",
            "parameters": sum(p.numel() for p in setup.model.parameters()),
            "vocabulary": len(setup.tokenizer),
            "limit": setup.limit,
            "fixed_width": setup.width,
        },
        "batching": {
            "bucket_boundaries": setup.boundaries,
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
    }
    out = console()
    print_notes(out, opening(setup, figures["data"], figures["model"]))

    not_run = {}
    if settings.model is not None:  # the built-in model can be trained under all strategies
        tried = {s.key: obstacle(setup, s) for s in plan if s.layout != "rows"}
        not_run = {key: why for key, why in tried.items() if why is not None}
        plan = [strategy for strategy in plan if strategy.key not in not_run]
        if not plan:
            raise CompareError(f"--ways: the model can be trained in none of them: {not_run}")
    in_all = 60 * settings.minutes
    for_encoder = 0 if settings.inference_rows == 0 else FOR_INFERENCE * in_all
    with progress() as (begin, tick):
        results = train_seeds(setup, plan, began + in_all - for_encoder - LEFT, begin, tick)
        check = check_padding(setup, plan)
        encoder: Figures = {"not_run": "--inference-rows 0"}
        if settings.inference_rows != 0:
            rows = [text for text, _ in texts.held_out + texts.training]
            encoder = pretrained(rows, half, settings, device, begin, seconds=for_encoder)

    lines = [shown(result) for result in results]
    print_table(out, lines, names, COLUMNS, "strategy")
    print_table(out, lines, names, LEARNT, "strategy")
    wide = settings.shuffle_window is None
    found = verdict(results, window=settings.shuffle_window, wide=wide)
    notes = judgement(results, found, setup)
    notes += [f"NOT RUN: {names[key]}: {why}" for key, why in not_run.items()]
    print_notes(out, [LEGEND, *notes, *closing(results, half, check)])
    if "ways" in encoder:
        lines = [one | {"key": f"{one['way']} {one['precision']}"} for one in encoder["ways"]]
        named = {one["key"]: f"{one['name']}, {one['precision']}" for one in lines}
        print_table(out, lines, named, INFERENCE_COLUMNS, "inference")
    print_notes(out, inference_notes(encoder))
    figures |= {
        "strategies": results,
        "verdict": found | {"text": [note.partition(": ")[2] for note in notes]},
        "inference": encoder,
        "not_run": not_run,
        "padding_check": check,
        "seconds_in_all": time.perf_counter() - began,
    }
    content = json.dumps(figures, indent=2) + "\n"
    write("--json", settings.json, lambda path: path.write_text(content, encoding="utf-8"))
    title = f"{texts.figures['source']}: {len(setup.training):,} training rows, batches of "
    title += f"{settings.batch_size}, {device}"
    write("--plot", settings.plot, lambda path: write_plot(results, title, path))
    return 0 if check["holds"] and encoder.get("holds", True) else 1
