"""``python -m tightbatch compare``: what each way of padding costs, on real text.

The files, each using only those above it:

__init__   the options
text       the text: Python's own documentation, or a file
model      the tokenizer and the model: small ones made here, or the user's
batches    the ways of padding: the batches of each, their fairness, and the model's logits for them
inference  what padding and other rows change (nothing); a pre-trained model's speed, in input order
train      the timed training over seeds, and what its figures show
report     the whole command in order, and what it prints and writes

``import tightbatch`` imports nothing of this.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

MOST = 10**6  # the most of anything that is counted
# By their names in JSON and for --ways, in the order of the table; the first that runs is what the
# others are compared with.
WAYS = (
    "fixed",
    "dynamic",
    "uniform",
    "buckets",
    "packed",
    "padding_free",
    "uniform_transformers",
    "transformers",
    "fixed_amp",
    "uniform_amp",
)


class CompareError(Exception):
    """An error that the user can correct; its text is printed as one line."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise a CompareError in place of printing the usage."""
        raise CompareError(f"{message} (see --help)")


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A reader of whole numbers from `least` to `most`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"{text[:40]!r} is not a whole number from {least} to {most}"
            )
        return value

    return read


def window(text: str) -> int | str | None:
    """The value of --shuffle-window, as `LengthBatchSampler` takes it."""
    if text in ("all", "auto"):
        return None if text == "all" else text
    try:
        return whole_number(1, MOST)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor all, nor auto") from None


def ways(text: str) -> tuple[str, ...]:
    """The value of --ways, in the order of the table."""
    asked = [name.strip() for name in text.split(",")]
    for name in asked:
        if name not in WAYS:
            raise argparse.ArgumentTypeError(f"{name[:40]!r} is none of {', '.join(WAYS)}")
    return tuple(name for name in WAYS if name in asked)


def positive(text: str) -> float:
    """A learning rate, or minutes."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a finite number above 0")
    return value


DESCRIPTION = """\
Train the same Transformer on the same real text from the same weights under each way of padding
and batching, without any network, and print what each costs: time, padding, and accuracy over
several seeds. The ways: fixed and dynamic padding, uniform-length batching, optimal buckets, packs
of rows with a mask that separates them, no padding with attention for variable lengths, and
transformers' own padding and batching. Then time a pre-trained sentence encoder on the same text.

Without --data the text is the documentation that ships with Python, and the label to learn is the
part of the library that a text belongs to. Without --model the model is a small ModernBERT with
random weights, and a BPE vocabulary trained on the text.
"""
EXAMPLES = """\
examples:
  python -m tightbatch compare
  python -m tightbatch compare --ways fixed,uniform --seeds 12
  python -m tightbatch compare --quick --json figures.json --plot figures.png
  python -m tightbatch compare --data reviews.csv --text-column review --label-column stars
  python -m tightbatch compare --model ./my-bert --data mine.parquet

exit code: 0 done; 1 padding changes what a model gives; 2 a bad option, file or missing package;
130 interrupted
"""


def arguments(options: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; raise CompareError for a wrong option."""
    parser = Parser(
        prog="python -m tightbatch",
        description="tightbatch: variable-length sequences to model-ready batches.",
    )
    command = parser.add_subparsers(dest="command", metavar="command", required=True).add_parser(
        "compare",
        help="train one Transformer under each way of padding and print what each costs",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(name: str, metavar: str, kind: Callable[[str], Any], default: Any, text: str) -> None:
        if default is not None:
            text = f"{text} (default: {default})"
        group.add_argument(name, metavar=metavar, type=kind, default=default, help=text)

    count = whole_number(1, MOST)
    group = command.add_argument_group("text")
    add("--data", "FILE", Path, None, "your own .txt (a row per line), .jsonl, .csv or .parquet")
    add("--text-column", "NAME", str, "text", "column of the text")
    label = "column of the label (default: label, if there is one; else the label is the quarter "
    label += "of the file that a row comes from, and the accuracy means little)"
    add("--label-column", "NAME", str, None, label)
    rows = "use N rows, drawn at random; 0 uses all (default: 800; with --quick 512)"
    add("--rows", "N", whole_number(0, 2**31), None, rows)
    group = command.add_argument_group("model and training")
    add("--model", "DIR", str, None, "a transformers model: a directory, or a name in the cache")
    length = "cut longer rows to N tokens (default: the model's limit; 256 for the built-in one)"
    add("--max-length", "N", count, None, length)
    add("--epochs", "N", count, 2, "passes over the rows")
    add("--batch-size", "N", count, 32, "rows in a batch")
    add("--buckets", "K", count, 8, "widths that optimal buckets pad to")
    capacity = "tokens in a pack (default: the width of fixed padding); a batch has as many packs "
    add("--capacity", "N", count, None, capacity + "as hold about --batch-size rows")
    multiple = "round every width up to a multiple of N; the length limit must be one, too"
    add("--pad-to-multiple-of", "N", count, None, multiple)
    shuffled = "shuffled rows that uniform-length batching sorts together: auto (that of "
    shuffled += "LengthBatchSampler), all (least padding) or a number (a smaller one mixes more)"
    add("--shuffle-window", "N", window, "auto", shuffled)
    learning = "of AdamW (default: 3e-3; with --model 5e-5)"
    add("--learning-rate", "X", positive, None, learning)
    first = "the first seed: it chooses rows, weights and orders"
    add("--seed", "N", whole_number(0, 2**62), 0, first)
    seeds = "seeds to train with, each with other weights, orders and held-out rows (default: as "
    add("--seeds", "N", count, None, seeds + "many as fit into --minutes)")
    named = f"train only these, with commas between: {', '.join(WAYS)} (default: all)"
    add("--ways", "NAMES", ways, None, named)
    add("--device", "NAME", str, "auto", "cpu, cuda, ...; auto is cuda if there is one")
    group = command.add_argument_group("size and output")
    group.add_argument("--quick", action="store_true", help="less text, a minute in all")
    minutes = "about how long all may take; the first seed is always finished (default: 3; with "
    add("--minutes", "M", positive, None, minutes + "--quick 1)")
    paragraphs = "rows that the pre-trained model reads (default: as many as fit); 0: no such table"
    add("--inference-rows", "N", whole_number(0, MOST), None, paragraphs)
    add("--json", "FILE", Path, None, "write every figure to FILE")
    add("--plot", "FILE", Path, None, "write a PNG plot to FILE")
    settings = parser.parse_args(options)
    del settings.command
    if settings.rows is None:
        settings.rows = 512 if settings.quick else 800
    settings.ways = settings.ways or WAYS
    if settings.minutes is None:
        settings.minutes = 1.0 if settings.quick else 3.0
    return settings
