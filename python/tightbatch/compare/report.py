"""The whole command in order, and what it prints and writes."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightbatch.compare import CompareError
from tightbatch.compare.batches import Strategy, strategies
from tightbatch.compare.check import check_padding, obstacle
from tightbatch.compare.model import Setup, offline, start
from tightbatch.compare.text import read_text
from tightbatch.compare.train import train, warm_up

if TYPE_CHECKING:
    from rich.console import Console

    from tightbatch.amp import Precision

UNSTEADY = 1.5  # slowest over fastest epoch of a strategy
PIPE_WIDTH = 120  # columns of output that does not go to a terminal
BAR_WIDTH = 60  # on a terminal with fewer columns progress has no bar

Figures = dict[str, Any]  # by their names in JSON
# Heading, figure and format of each column of the table.
COLUMNS: list[tuple[str, str, Callable[[Any], str]]] = [
    ("real\ntokens", "real_tokens", "{:,}".format),
    ("padded\ntokens", "padded_tokens", "{:,}".format),
    ("waste", "waste", "{:.1%}".format),
    ("attn.\npairs", "attention_pairs", lambda pairs: f"{pairs / 1e6:.1f}M"),
    ("shapes", "shapes", "{:,}".format),
    ("steps", "steps", "{:,}".format),
    ("s per\nepoch", "seconds_per_epoch", "{:.2f}".format),
    ("of it\ndata", "data_seconds_per_epoch", "{:.3f}".format),
    ("tokens\nper s", "tokens_per_second", "{:,.0f}".format),
    ("speed\n-up", "speed_up", "{:.2f}x".format),
    ("final\nloss", "final_loss", "{:.3f}".format),
    ("held-out\naccuracy", "held_out_accuracy", "{:.1%}".format),
]
LEGEND = (
    "columns: tokens, steps and attention pairs (of a query and a key, in one head of one layer) "
    "are per epoch; padded tokens include the real ones, waste is the padding among them; shapes "
    "are all that the batches had; seconds are of the fastest epoch: planning, collating and "
    "training, not evaluation; tokens per s are real ones; HF is transformers"
)


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
        raise CompareError(f"{' and '.join(missing)} not installed: {fix}")


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


def pick_device(wanted: str) -> str:
    """The torch device type to train on; raise CompareError if the device does not exist."""
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
    """The type for the rows with mixed precision: never float32, which would show nothing."""
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
        Called with the name of what begins.
    tick : callable
        Called after every step.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    out = Console(stderr=True)
    if not out.is_terminal:
        yield lambda what: print(what, file=sys.stderr, flush=True), lambda: None
        return
    text = TextColumn("{task.description}", table_column=Column(overflow="fold"))
    rest = [BarColumn(), TimeElapsedColumn()] if out.width >= BAR_WIDTH else []
    percent = TextColumn("{task.percentage:>3.0f}%")
    with Progress(text, percent, *rest, console=out, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda what: bar.update(task, description=what), lambda: bar.advance(task)


def train_all(setup: Setup, plan: list[Strategy]) -> list[Figures]:
    """Train under every strategy."""
    steps = -(-len(setup.training) // setup.settings.batch_size) * setup.settings.epochs
    results = []
    with progress(steps * len(plan)) as (begin, tick):
        begin("warming up")
        warm_up(setup, plan)
        for number, strategy in enumerate(plan, 1):
            begin(f"{number}/{len(plan)} {strategy.name}")
            result = train(setup, strategy, tick)
            if not result.pop("finite"):
                raise CompareError(
                    f"{strategy.name}: the loss is not finite; try a smaller --learning-rate"
                )
            results.append(result)
            result["speed_up"] = results[0]["seconds_per_epoch"] / result["seconds_per_epoch"]
    return results


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
        f"{setup.learning_rate:g}, seed {settings.seed}: the same weights to start from",
        f"order: new every epoch; uniform-length sorts {settings.shuffle_window or 'all'} rows "
        "together and shuffles the batches (--shuffle-window)",
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


def print_table(out: Console, results: list[Figures], names: dict[str, str]) -> None:
    """Print a line for each strategy of `names`, in as many tables as the width needs."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    by_key = {result["key"]: result for result in results}

    def table(columns: list[Any]) -> Table:
        made = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        made.add_column("strategy", overflow="fold", max_width=max(14, out.width // 3))
        for heading, _, _ in columns:
            made.add_column(heading, justify="right", no_wrap=True, overflow="fold")
        for key, name in names.items():
            figures = by_key.get(key)
            made.add_row(name, *(show(figures[f]) if figures else "-" for _, f, show in columns))
        return made

    left, boundless = COLUMNS, out.options.update(width=10_000)
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
    uniform, same = "uniform", "uniform_transformers"
    notes = [
        f"planning: dynamic padding takes {seconds['dynamic'] / seconds[uniform]:.2f}x the time of "
        "uniform-length batching, both padded by this library",
        "padding: the same batches padded by transformers (HF) take "
        f"{seconds[same] / seconds[uniform]:.2f}x the time; its data work an epoch takes "
        f"{data[same] * 1e3:.1f} ms, ours {data[uniform] * 1e3:.1f} ms "
        f"({data[same] / data[uniform]:.1f}x)",
        "both: transformers' group_by_length sampler and collator take "
        f"{seconds['transformers'] / seconds[uniform]:.2f}x the time of uniform-length batching",
        f"half: {half.dtype}, as {half.reason}",
    ]
    for key, name in (("fixed", "fixed padding"), (uniform, "uniform-length batching")):
        gain = seconds[key] / seconds[f"{key}_amp"]
        verdict = f"{gain:.2f}x as fast as" if gain >= 1 else f"SLOWER ({gain:.2f}x) than"
        notes.append(f"half: with {name} it is {verdict} float32")
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
    seen = (
        ""
        if check["control_is_seen"]
        else ": within the tolerance, so this model does not see its padding anyway (a causal one "
        "with padding on the right does not)"
    )
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


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def environment(device: str) -> Figures:
    """The machine and the packages that the figures were measured with."""
    import torch

    packages = ("tightbatch", "torch", "transformers", "tokenizers", "numpy")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": device,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        **{package: version(package) for package in packages},
    }


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
    results = train_all(setup, plan)
    check = check_padding(setup, plan)

    print_table(out, results, names)
    unable = [f"NOT RUN: {names[key]}: {why}" for key, why in not_run.items()]
    print_notes(out, [LEGEND, *unable, *closing(results, half, check)])
    figures |= {
        "strategies": results,
        "not_run": not_run,
        "padding_check": check,
        "seconds_in_all": time.perf_counter() - began,
    }
    content = json.dumps(figures, indent=2) + "\n"
    write("--json", settings.json, lambda path: path.write_text(content, encoding="utf-8"))
    title = f"{texts.figures['source']}: {len(setup.training):,} training rows, batches of "
    title += f"{settings.batch_size}, {device}"
    write("--plot", settings.plot, lambda path: write_plot(results, title, path))
    return 0 if check["holds"] else 1
