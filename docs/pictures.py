"""Make the pictures of the first page and of these guides: python docs/pictures.py

They show real texts, the documentation that ships with Python, in tokens of a vocabulary that is
trained on them, as `python -m tightbatch compare` uses them; and real batches of this package, read
by what it knows of any batch. The same Python gives the same bytes. Needs the extra "demo".
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import tightbatch as tb
from tightbatch.collate.picture import read_cells
from tightbatch.compare.model import train_tokenizer
from tightbatch.compare.text import library_text
from tightbatch.plots.inline import as_svg
from tightbatch.plots.rows import Cells, plot_rows

FOLDER = Path(__file__).parent / "images"
LONGEST = 256  # tokens that a row is cut to: compare's own limit
BATCH = 32
SHOWN = 8  # batches of each panel


def token_rows() -> list[list[int]]:
    """The texts as rows of tokens."""
    texts, _, _ = library_text()
    tokenizer = train_tokenizer(texts)
    return tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]


def cells(rows: list[list[int]], batches: list[list[int]], collate: tb.PadCollator) -> list[Cells]:
    """Where the real tokens of batches are."""
    made = [collate([{"input_ids": rows[i]} for i in batch]) for batch in batches]
    return [read_cells("plot_batch", "batch", batch)[""] for batch in made]


def before_and_after(rows: list[list[int]]) -> dict[str, list[Cells]]:
    """The same rows padded to a fixed width, and in batches of similar length."""
    lengths = tb.lengths(rows)
    epoch = list(tb.LengthBatchSampler(lengths, batch_size=BATCH))
    after = epoch[middling(lengths, epoch) :][:SHOWN]
    drawn = np.random.default_rng(0).permutation(np.concatenate(after))
    before = [drawn[first : first + BATCH].tolist() for first in range(0, len(drawn), BATCH)]
    fixed = tb.PadCollator(width=LONGEST, return_tensors="np")
    return {
        "before": cells(rows, before, fixed),
        "after": cells(rows, after, tb.PadCollator(return_tensors="np")),
    }


def middling(lengths: Any, epoch: list[list[int]]) -> int:
    """The first of the batches in a row whose padding is most like that of the whole epoch."""
    real = np.array([lengths[batch].sum() for batch in epoch])
    total = np.array([lengths[batch].max() * len(batch) for batch in epoch])
    share = [real[i : i + SHOWN].sum() / total[i : i + SHOWN].sum() for i in range(len(epoch))]
    print(f"real tokens of the epoch, in batches of similar length: {real.sum() / total.sum():.1%}")
    return int(np.argmin(np.abs(np.array(share[:-SHOWN]) - real.sum() / total.sum())))


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write them")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    rows = token_rows()
    lengths = tb.lengths(rows)
    panels = before_and_after(rows)
    _, waste = tb.bucket_boundaries(lengths, 24, return_waste=True)
    few = tb.bucket_boundaries(lengths, tb.plots.knee(waste))
    for theme in ("light", "dark"):
        pictures = {
            "before_after": plot_rows(panels, theme=theme),
            "lengths": tb.plots.plot_lengths(lengths, boundaries=few, theme=theme),
            "buckets": tb.plots.plot_buckets(waste, real=int(lengths.sum()), theme=theme),
            "packs": tb.pack(lengths[: BATCH * 12], 1024).plot(theme=theme),
        }
        for name, figure in pictures.items():
            figure.set_facecolor("none")  # the page's own
            (folder / f"{name}_{theme}.svg").write_bytes(as_svg(figure))
            print(folder / f"{name}_{theme}.svg")


if __name__ == "__main__":
    main()
