"""All commands of ``tightbatch``, and their help."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from . import analyze, check, half_report, info, pack
from .failure import CommandError

HELP = """\
Batches with less padding for rows of different lengths: see what your data costs, check the
batches of a loader, and pack a data set.
"""
EPILOG = """\
Begin with: tightbatch analyze train.parquet

Exit codes: 0 done; 1 a check found faults; 2 a wrong option, file or missing package;
130 interrupted
"""


def _examples(*lines: str) -> str:
    """The end of a command's help; each line stays one."""
    return "\n\n".join(["Examples:", *lines])


app = typer.Typer(
    name="tightbatch",
    help=HELP,
    epilog=EPILOG,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        print(f"tightbatch {__version__}")
        raise typer.Exit


@app.callback()
def tightbatch(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """What stands before the name of a command."""


app.command(
    "analyze",
    epilog=_examples(
        "tightbatch analyze train.parquet",
        "tightbatch analyze reviews.csv --column review --tokenizer ./my-bert --batch-size 64",
        "tightbatch analyze ./saved-dataset --split train --max-tokens 16384 --plot costs.png",
        "tightbatch analyze tokens.bin --dtype uint16 --eos 50256 --json -",
    ),
)(analyze.analyze)
app.command(
    "check",
    epilog=_examples(
        "tightbatch check train:loader",
        "tightbatch check ./train.py:make_loader --batches 20 --vocab-size 50257",
    ),
)(check.check)
app.command(
    "pack",
    epilog=_examples(
        "tightbatch pack tokenized.parquet packs.parquet --capacity 4096",
        "tightbatch pack corpus.jsonl packs.arrow --capacity 2048 --tokenizer ./my-gpt "
        "--overlong split",
    ),
)(pack.pack)
app.command(
    "half-report",
    epilog=_examples(
        "tightbatch half-report model.safetensors",
        "tightbatch half-report checkpoint.pt --plot exponents.png",
    ),
)(half_report.half_report)
app.command("info", epilog=_examples("tightbatch info"))(info.info)


@app.command(
    "compare",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def compare(context: typer.Context) -> int:
    """Train one Transformer under each way of batching on real text; print what each costs."""
    # It comes here only after options of tightbatch itself: main() goes to it at once.
    from .compare import explain, run

    try:
        return run(["compare", *context.args])
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        raise CommandError(told) from None


NAMES = [command.name for command in app.registered_commands]


def run(options: Sequence[str]) -> int:
    """Run a command; returns its exit code."""
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(args=list(options), prog_name="tightbatch", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as stop:
        if stop.code == 1 and "_TIGHTBATCH_COMPLETE" not in os.environ:
            raise BrokenPipeError from None  # the reader of the output has gone
        raise
    if code == 130:  # what typer makes of an interrupt
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0
