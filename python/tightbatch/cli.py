"""The command line: reads arguments, hands them on, turns failures into one line each."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tightbatch.compare.settings import CompareError, Settings

EXAMPLES = """\
examples:
  python -m tightbatch compare
  python -m tightbatch compare --quick --json figures.json --plot figures.png
  python -m tightbatch compare --data reviews.csv --text-column review --label-column stars
  python -m tightbatch compare --model ./my-bert --data mine.parquet

exit code: 0 done; 1 the padding check failed; 2 a bad option, file or missing package;
130 interrupted
"""


def count(text: str) -> int:
    """An option's whole number, one or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not one or more")
    return value


def count_or_zero(text: str) -> int:
    """An option's whole number, zero or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def window(text: str) -> int | str | None:
    """The value of --shuffle-window as `LengthBatchSampler` takes it."""
    if text in ("all", "auto"):
        return None if text == "all" else text
    return count(text)


# argparse names a type in "invalid ... value": say what is wanted instead.
count.__name__ = count_or_zero.__name__ = "whole number"
window.__name__ = "window (all, auto or a whole number)"


def add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``compare`` and its options."""
    parser = commands.add_parser(
        "compare",
        help="train one Transformer under each way of padding and print what each costs",
        description="Train the same Transformer on the same real text from the same start under "
        "each way of padding and batching, without any network, and print what each costs. "
        "Without --data the text is the documentation that ships with Python, and the label to "
        "learn is the part of the library that a text belongs to. The ways: fixed and dynamic "
        "padding, uniform-length batching, optimal buckets, packs of rows with a mask that keeps "
        "these apart, no padding at all with attention for variable lengths, and transformers' "
        "own.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = parser.add_argument_group("text")
    data.add_argument(
        "--data",
        metavar="FILE",
        type=Path,
        help="your own text: .txt (a row per line), .jsonl, .csv or .parquet",
    )
    data.add_argument(
        "--text-column", metavar="NAME", default="text", help="column of the text (default: text)"
    )
    data.add_argument(
        "--label-column",
        metavar="NAME",
        help='column of the label (default: "label" where there is one; without any, the label '
        "is the quarter of the file that a row comes from, which makes the training real but "
        "its accuracy says only how much the quarters differ)",
    )
    data.add_argument(
        "--rows",
        metavar="N",
        type=count_or_zero,
        help="use N rows, drawn at random; 0 uses all (default: 2400; with --quick 512)",
    )
    model = parser.add_argument_group("model and training")
    model.add_argument(
        "--model",
        metavar="DIR",
        help="a transformers model: a directory, or a name in the local cache (default: a small "
        "ModernBERT with random weights and a BPE vocabulary trained on the text)",
    )
    model.add_argument(
        "--max-length",
        metavar="N",
        type=count,
        help="longest row in tokens; longer rows are cut, and counted (default: the model's "
        "limit; 256 for the built-in model)",
    )
    model.add_argument("--epochs", metavar="N", type=count, default=2, help="default: 2")
    model.add_argument("--batch-size", metavar="N", type=count, default=32, help="default: 32")
    model.add_argument(
        "--buckets",
        metavar="K",
        type=count,
        default=8,
        help="widths that optimal buckets pad to (default: 8)",
    )
    model.add_argument(
        "--capacity",
        metavar="N",
        type=count,
        help="tokens in a pack, at least the longest row (default: the width of fixed padding); "
        "a batch has as many packs as hold about --batch-size rows",
    )
    model.add_argument(
        "--pad-to-multiple-of",
        metavar="N",
        type=count,
        help="round every width up to a multiple, of which the limit must be one, too",
    )
    model.add_argument(
        "--shuffle-window",
        metavar="N",
        type=window,
        default=None,
        help="shuffled rows that uniform-length batching sorts together: all (the default; least "
        "padding), auto (tightbatch's choice) or a number (more mixing)",
    )
    model.add_argument(
        "--learning-rate",
        metavar="X",
        type=float,
        help="of AdamW (default: 1e-3 for the built-in model, 3e-3 with --quick, 5e-5 for --model)",
    )
    model.add_argument("--seed", metavar="N", type=count_or_zero, default=0, help="default: 0")
    model.add_argument(
        "--device", default="auto", help="cpu, cuda, ... (default: cuda where there is one)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="less text and a smaller model: about half a minute"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure to FILE")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="write a PNG plot to FILE")


def compare(options: argparse.Namespace) -> int:
    """Run ``compare``; returns the exit code."""
    from tightbatch.compare.run import run

    return run(
        Settings(
            data=options.data,
            text_column=options.text_column,
            label_column=options.label_column,
            rows=options.rows if options.rows is not None else (512 if options.quick else 2400),
            model=options.model,
            max_length=options.max_length,
            epochs=options.epochs,
            batch_size=options.batch_size,
            buckets=options.buckets,
            capacity=options.capacity,
            pad_to_multiple_of=options.pad_to_multiple_of,
            shuffle_window=options.shuffle_window,
            learning_rate=options.learning_rate,
            seed=options.seed,
            device=options.device,
            quick=options.quick,
            json=options.json,
            plot=options.plot,
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m tightbatch``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line after the program's name; ``sys.argv`` when None.

    Returns
    -------
    int
        The exit code: 0 done, 1 a check failed, 2 bad input, 130 interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m tightbatch", description=__doc__)
    parser.description = "tightbatch: variable-length sequences to model-ready batches."
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    add_compare(commands)
    options = parser.parse_args(arguments)
    try:
        code = compare(options)
        sys.stdout.flush()
        return code
    except CompareError as error:
        print(f"tightbatch {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ntightbatch {options.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) went away; keep the interpreter's last flush quiet too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
