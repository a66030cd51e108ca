"""``python -m tightbatch compare``: what each way of padding costs, on real text.

The files, each using only those above it:

__init__  the options
text      the text: Python's own documentation, or a file
model     the tokenizer and the model: small ones made here, or the user's
batches   the ways of padding: the batches of each, and the model's logits for them
train     the timed training, and the check that padding does not change the logits
report    the whole command in order, and what it prints and writes

``import tightbatch`` imports nothing of this.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

MOST = 10**6  # of what is counted


class CompareError(Exception):
    """An error that the user can correct; its text is the one line that is printed."""


class Settings(argparse.Namespace):
    """The options of one run."""

    data: Path | None
    text_column: str
    label_column: str | None  # None: "label" if there is one, else the quarter of the file
    rows: int  # 0: all
    model: str | None
    max_length: int | None
    epochs: int
    batch_size: int
    buckets: int
    capacity: int | None  # None: the width of fixed padding
    pad_to_multiple_of: int | None
    shuffle_window: int | str | None  # as LengthBatchSampler takes it; None: all rows
    learning_rate: float | None
    seed: int
    device: str
    quick: bool
    json: Path | None
    plot: Path | None


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
    """The value of --shuffle-window as `LengthBatchSampler` takes it."""
    if text in ("all", "auto"):
        return None if text == "all" else text
    try:
        return whole_number(1, MOST)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor all, nor auto") from None


def rate(text: str) -> float:
    """A learning rate."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a finite number above 0")
    return value


EXAMPLES = """\
examples:
  python -m tightbatch compare
  python -m tightbatch compare --quick --json figures.json --plot figures.png
  python -m tightbatch compare --data reviews.csv --text-column review --label-column stars
  python -m tightbatch compare --model ./my-bert --data mine.parquet

exit code: 0 done; 1 the padding check failed; 2 a bad option, file or missing package;
130 interrupted
"""


def arguments(options: Sequence[str] | None) -> Settings:
    """Read the command line; raise CompareError for what is wrong in it."""
    parser = Parser(
        prog="python -m tightbatch",
        description="tightbatch: variable-length sequences to model-ready batches.",
    )
    command = parser.add_subparsers(dest="command", metavar="command", required=True).add_parser(
        "compare",
        help="train one Transformer under each way of padding and print what each costs",
        description="Train the same Transformer on the same real text from the same weights under "
        "each way of padding and batching, without any network, and print what each costs. "
        "Without --data the text is the documentation that ships with Python, and the label to "
        "learn is the part of the library that a text belongs to. The ways: fixed and dynamic "
        "padding, uniform-length batching, optimal buckets, packs of rows with a mask that "
        "separates them, no padding with attention for variable lengths, and transformers' own "
        "padding and batching.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    count = whole_number(1, MOST)
    add = command.add_argument_group("text").add_argument
    add(
        "--data",
        metavar="FILE",
        type=Path,
        help="your own text: .txt (a row per line), .jsonl, .csv or .parquet",
    )
    add("--text-column", metavar="NAME", default="text", help="column of the text (default: text)")
    add(
        "--label-column",
        metavar="NAME",
        help='column of the label (default: "label" if there is one; else the label is the quarter '
        "of the file that a row comes from: the training is real, but its accuracy only says how "
        "much the quarters differ)",
    )
    add(
        "--rows",
        metavar="N",
        type=whole_number(0, 2**31),
        help="use N rows, drawn at random; 0 uses all (default: 2400; with --quick 512)",
    )
    add = command.add_argument_group("model and training").add_argument
    add(
        "--model",
        metavar="DIR",
        help="a transformers model: a directory, or a name in the local cache (default: a small "
        "ModernBERT with random weights and a BPE vocabulary trained on the text)",
    )
    add(
        "--max-length",
        metavar="N",
        type=count,
        help="longest row in tokens; longer rows are cut, and counted (default: the model's "
        "limit; 256 for the built-in model)",
    )
    add("--epochs", metavar="N", type=count, default=2, help="default: 2")
    add("--batch-size", metavar="N", type=count, default=32, help="default: 32")
    add(
        "--buckets",
        metavar="K",
        type=count,
        default=8,
        help="widths that optimal buckets pad to (default: 8)",
    )
    add(
        "--capacity",
        metavar="N",
        type=count,
        help="tokens in a pack, at least the longest row (default: the width of fixed padding); "
        "a batch has as many packs as hold about --batch-size rows",
    )
    add(
        "--pad-to-multiple-of",
        metavar="N",
        type=count,
        help="round every width up to a multiple of N; the length limit must be one, too",
    )
    add(
        "--shuffle-window",
        metavar="N",
        type=window,
        help="shuffled rows that uniform-length batching sorts together: all (the default; least "
        "padding), auto (tightbatch's choice) or a number (more mixing)",
    )
    add(
        "--learning-rate",
        metavar="X",
        type=rate,
        help="of AdamW (default: 1e-3 for the built-in model, 3e-3 with --quick, 5e-5 for --model)",
    )
    add("--seed", metavar="N", type=whole_number(0, 2**63 - 1), default=0, help="default: 0")
    add("--device", default="auto", help="cpu, cuda, ... (default: cuda if there is one)")
    add = command.add_argument
    add("--quick", action="store_true", help="less text and a smaller model: about half a minute")
    add("--json", metavar="FILE", type=Path, help="write every figure to FILE")
    add("--plot", metavar="FILE", type=Path, help="write a PNG plot to FILE")
    settings = parser.parse_args(options, Settings())
    if settings.rows is None:
        settings.rows = 512 if settings.quick else 2400
    return settings
