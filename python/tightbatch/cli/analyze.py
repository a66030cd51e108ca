"""``tightbatch analyze``: what each way of batching would cost on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .arrow import Unit
from .failure import CommandError, calling, need
from .output import check_output, say, show_report, write_json, write_plot
from .rows import Measured, Wanted, measure
from .tokens import Dtype

Overlong = Literal["error", "truncate", "drop"]
BATCH_SIZE = 32  # where no cap is given
OPTIONS = {
    "batch_size": "--batch-size",
    "max_tokens": "--max-tokens",
    "max_length": "--max-length",
    "overlong": "--overlong",
    "pad_to_multiple_of": "--pad-to-multiple-of",
    "shuffle_window": "--shuffle-window",
    "buckets": "--buckets",
    "capacity": "--capacity",
    "num_replicas": "--num-replicas",
    "seed": "--seed",
}
DATA, BATCHES, OUTPUT = "What is read", "How it is batched", "Output"


def analyze(
    file: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="The data.", show_default=False)
    ],
    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The column of tokens or text; a.b is field b of column a. "
            "Default: input_ids, tokens, text or the like, or the only one.",
            rich_help_panel=DATA,
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Count the tokens of text: a directory, a tokenizer.json, or a model in "
            "transformers' local cache.",
            rich_help_panel=DATA,
        ),
    ] = None,
    unit: Annotated[
        Unit,
        typer.Option(help="What is counted in text without a tokenizer.", rich_help_panel=DATA),
    ] = "words",
    lengths: Annotated[
        bool,
        typer.Option("--lengths", help="The column holds lengths.", rich_help_panel=DATA),
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of a saved dataset with splits. Default: train.",
            rich_help_panel=DATA,
        ),
    ] = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="The type of the tokens in a .bin file.", rich_help_panel=DATA),
    ] = None,
    eos: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The token that ends each row of a .bin or .npy file of tokens.",
            rich_help_panel=DATA,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"The most rows in a batch. Default: {BATCH_SIZE}, without --max-tokens.",
            rich_help_panel=BATCHES,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The most tokens in a batch, padding included.",
            rich_help_panel=BATCHES,
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(metavar="N", help="Longer rows are cut.", rich_help_panel=BATCHES),
    ] = None,
    overlong: Annotated[
        Overlong,
        typer.Option(
            help="What to do with a row that alone is above --max-tokens.",
            rich_help_panel=BATCHES,
        ),
    ] = "error",
    pad_to_multiple_of: Annotated[
        int | None,
        typer.Option(metavar="N", help="Round widths up to it.", rich_help_panel=BATCHES),
    ] = None,
    shuffle_window: Annotated[
        str,
        typer.Option(
            metavar="N",
            help="Shuffled rows that are sorted together: a number, auto or all.",
            rich_help_panel=BATCHES,
        ),
    ] = "auto",
    buckets: Annotated[
        int,
        typer.Option(metavar="K", help="Widths of optimal buckets.", rich_help_panel=BATCHES),
    ] = 8,
    capacity: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Tokens in a pack. Default: the longest row.",
            rich_help_panel=BATCHES,
        ),
    ] = None,
    num_replicas: Annotated[
        int,
        typer.Option(metavar="N", help="Ranks that share the batches.", rich_help_panel=BATCHES),
    ] = 1,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of all random orders.", rich_help_panel=BATCHES)
    ] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw the report: .png, .svg or .pdf.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write every figure to FILE; - prints JSON and nothing else.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Show what each way of padding and batching would cost on your data.

    Only lengths are read; no model and no GPU is needed.
    """
    check_output(plot, "--plot")
    check_output(json, "--json")
    if plot is not None:
        need("matplotlib")
    wanted = Wanted(
        column=column,
        split=split,
        tokenizer=tokenizer,
        unit=unit,
        lengths=lengths,
        dtype=dtype,
        eos=eos,
    )
    settings: dict[str, Any] = {
        "batch_size": BATCH_SIZE if batch_size is None and max_tokens is None else batch_size,
        "max_tokens": max_tokens,
        "max_length": max_length,
        "overlong": overlong,
        "pad_to_multiple_of": pad_to_multiple_of,
        "shuffle_window": _window(shuffle_window),
        "buckets": buckets,
        "capacity": capacity,
        "num_replicas": num_replicas,
        "seed": seed,
    }
    check_settings(settings)
    show(measure(file, wanted), settings, plot, json)


def _window(text: str) -> int | str | None:
    if text in ("auto", "all"):
        return None if text == "all" else text
    if text.isascii() and text.isdigit():
        return int(text)
    raise CommandError(f"--shuffle-window {text[:40]!r}: expected a number of rows, auto or all")


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse wrong settings before a large file is read."""
    from .. import analyze

    harmless = {"capacity": None, "num_replicas": 1, "overlong": "truncate"}
    with calling(**OPTIONS):
        analyze([1], **{**settings, **harmless})


def show(
    measured: Measured, settings: dict[str, Any], plot: Path | None, json: Path | None
) -> None:
    """Analyze lengths, and print and write what was found."""
    from .. import analyze

    with calling(measured.places.where, **OPTIONS):
        report = analyze(measured.lengths, **settings)
    found = {"source": measured.about, "unit": measured.unit, "column": measured.column}
    if str(json) != "-":
        say(measured.about)
        say("")
        show_report(report)
        if measured.code and "lengths" in report.code:
            say(f"# lengths: {measured.code}")
    if json is not None:
        write_json({**report.to_dict(), **found}, json)
    if plot is not None:
        write_plot(report.plot(), plot)
