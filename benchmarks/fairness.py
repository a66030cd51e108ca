"""What grouping rows by length costs in loss and accuracy: one model, many seeds, every order.

The model, the text and the training are those of ``python -m tightbatch compare --quick``. Each
seed chooses held-out rows, weights and orders anew, and trains from the same start under each way
of making batches.

    python benchmarks/fairness.py                 # 12 seeds: about ten minutes on one core
    python benchmarks/fairness.py --seeds 2       # a first look
    python benchmarks/fairness.py --write         # and write the table of docs/fairness.md
    python benchmarks/fairness.py --causes        # what it is about a plan that costs accuracy
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from harness import one_thread, write_between

one_thread()

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import LengthGroupedSampler

import tightbatch as tb
from tightbatch.amp import Amp, GradScaler, choose_precision
from tightbatch.compare import arguments
from tightbatch.compare.batches import Lines, PackBatches, Strategy, attention, collator
from tightbatch.compare.model import Setup, offline, start
from tightbatch.compare.text import read_text
from tightbatch.compare.train import evaluate, student_t, train_epoch

DOCS = Path(__file__).parent.parent / "docs"
TEXT_ROWS = 2000  # 1,600 of them are trained on
PACK = 256  # tokens

Batches = Iterable[Any]


@dataclass(frozen=True)
class Way:
    """A way of making batches."""

    name: str
    batches: Callable[[Setup, Strategy], Batches]
    layout: str = "rows"
    per_row: bool = False  # each row weighs the same, however many its batch has
    rate: float = 1.0  # of the learning rate


class BestFitPacks(PackBatches):
    """Packs by best fit over all rows, in random order."""

    def pack(self, seed: int) -> tb.Packing:
        """Plan an epoch."""
        return tb.pack(self.tokens.lengths, self.setup.pack_width, seed=seed, strategy="best_fit")


def row_lengths(setup: Setup) -> list[int]:
    return [len(row["input_ids"]) for row in setup.training]


def by_sampler(**options: Any) -> Callable[[Setup, Strategy], Batches]:
    """Batches of tb.LengthBatchSampler."""

    def batches(setup: Setup, strategy: Strategy) -> Batches:
        caps: dict[str, Any] = {"batch_size": setup.settings.batch_size}
        if strategy.layout == "line" and "batch_size" not in options:
            caps = {"max_tokens": setup.batch_tokens, "padding_free": True}
        seed = setup.settings.seed
        plan: Any = tb.LengthBatchSampler(row_lengths(setup), seed=seed, **{**caps, **options})
        data: Any = setup.training
        return DataLoader(data, batch_sampler=plan, collate_fn=collator(strategy, setup))

    return batches


def by_rows(*, by_length: bool) -> Callable[[Setup, Strategy], Batches]:
    """Random batches, or those of transformers' sampler."""

    def batches(setup: Setup, strategy: Strategy) -> Batches:
        size = setup.settings.batch_size
        generator = torch.Generator().manual_seed(setup.settings.seed)
        sampler: Any = None
        if by_length:
            sampler = LengthGroupedSampler(size, lengths=row_lengths(setup), generator=generator)
        data: Any = setup.training
        return DataLoader(
            data,
            batch_size=size,
            shuffle=sampler is None,
            sampler=sampler,
            generator=generator if sampler is None else None,
            collate_fn=collator(strategy, setup),
        )

    return batches


def by_packs(kind: type[PackBatches]) -> Callable[[Setup, Strategy], Batches]:
    """Batches of packs."""
    return lambda setup, strategy: kind(setup, setup.training, collator(strategy, setup))


WAYS = [
    Way("random batches", by_rows(by_length=False), "line"),
    Way("transformers' LengthGroupedSampler", by_rows(by_length=True)),
    Way("like length, runs of 48 of like cost", by_sampler(balance=48)),
    Way("like length, free order (the default)", by_sampler()),
    Way(f"packs of {PACK}, best fit", by_packs(BestFitPacks), "packs"),
    Way(f"packs of {PACK}, pool (the default)", by_packs(PackBatches), "packs"),
    Way("padding-free, best fit", by_sampler(strategy="best_fit", shuffle_window=None), "line"),
    Way("padding-free, pool (the default)", by_sampler(), "line"),
]


BEST_FIT = by_sampler(strategy="best_fit", shuffle_window=None)
ALIKE = by_sampler(batch_size=32, shuffle_window=None)  # with a line's attention: no padding
# One thing changed at a time: the order, how many rows a batch has, what a row weighs, the rate.
CAUSES = [
    WAYS[0],
    Way(
        "like length, the default window, here a quarter of the rows",
        by_sampler(batch_size=32),
        "line",
    ),
    Way("like length, one window of all rows", ALIKE, "line"),
    Way("one window of all rows, half the learning rate", ALIKE, "line", rate=0.5),
    Way("rows a batch vary (best fit), mean over the batch", BEST_FIT, "line"),
    Way("rows a batch vary (best fit), each row weighs the same", BEST_FIT, "line", per_row=True),
    Way("rows a batch vary (pool), mean over the batch", by_sampler(), "line"),
]


def noted(batches: Batches, seen: list[list[tuple[int, float]]]) -> Iterator[Any]:
    """Note rows and mean length of each batch that goes by."""
    seen.append([])
    for batch in batches:
        mask = batch.rows["attention_mask"] if isinstance(batch, Lines) else batch["attention_mask"]
        seen[-1].append((len(mask), float(mask.sum()) / len(mask)))
        yield batch


def train(setup: Setup, way: Way) -> dict[str, float]:
    """Train from the start under one way: loss of the last epoch, accuracy held out, spreads."""
    precision = choose_precision(setup.device, "float32")
    strategy = Strategy("fairness", way.name, "", "tightbatch", precision, layout=way.layout)
    torch.manual_seed(setup.settings.seed)
    setup.model.load_state_dict(setup.initial)
    setup.model.train()
    optimizer = torch.optim.AdamW(setup.model.parameters(), lr=way.rate * setup.learning_rate)
    scaler = GradScaler(setup.device, enabled=False)
    loop = Amp(setup.model, optimizer, device=setup.device, dtype="float32", scaler=scaler)
    batches, seen, loss = way.batches(setup, strategy), [], math.nan
    with attention(setup.model, strategy.layout):
        for _ in range(setup.settings.epochs):
            passed = noted(batches, seen)
            loss = train_epoch(setup, passed, loop, lambda: None, per_row=way.per_row).loss
    held_out, accuracy = evaluate(setup, precision)
    rows = np.array([rows for epoch in seen for rows, _ in epoch])
    means = [np.array([mean for _, mean in epoch]) for epoch in seen]
    return {
        "loss": loss,
        "held_out": held_out,
        "accuracy": 100 * accuracy,
        "rows_mean": float(rows.mean()),
        "rows_std": float(rows.std()),
        "length_std": fmean(float(mean.std()) for mean in means),
        "correlation": fmean(float(np.corrcoef(mean[:-1], mean[1:])[0, 1]) for mean in means),
    }


def interval(values: list[float], digits: int) -> str:
    """Mean, standard deviation, and the 95 % interval of the mean."""
    mean, std = fmean(values), stdev(values)
    half = student_t(len(values) - 1, 0.05) * std / math.sqrt(len(values))
    low, high = mean - half, mean + half
    return f"{mean:.{digits}f} ± {std:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def as_table(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """One line for each way."""
    lines = [
        "| batches | rows a batch | spread of mean lengths | neighbours' correlation | "
        "training loss | held-out accuracy, % | accuracy less that of random batches |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    chance = [run["accuracy"] for run in found[WAYS[0].name]]
    for name, runs in found.items():
        mean = {key: fmean(run[key] for run in runs) for key in runs[0]}
        accuracy = [run["accuracy"] for run in runs]
        less = [own - of for own, of in zip(accuracy, chance, strict=True)]
        cells = [
            name,
            f"{mean['rows_mean']:.1f} ± {mean['rows_std']:.1f}",
            f"{mean['length_std']:.1f}",
            f"{mean['correlation']:.2f}",
            interval([run["loss"] for run in runs], 3),
            interval(accuracy, 1),
            "" if less == [0] * len(less) else interval(less, 1),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def as_causes(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """One line for each way: losses and accuracy, and each less that of random batches."""
    heads = ["batches", "rows a batch", "training loss", "less random"]
    heads += ["held-out loss", "less random", "accuracy, %", "less random"]
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for name, runs in found.items():
        rows = [fmean(run[key] for run in runs) for key in ("rows_mean", "rows_std")]
        cells = [name, f"{rows[0]:.0f} ± {rows[1]:.0f}"]
        for key, digits in (("loss", 2), ("held_out", 2), ("accuracy", 1)):
            own = [run[key] for run in runs]
            less = [a - run[key] for a, run in zip(own, found[CAUSES[0].name], strict=True)]
            half = student_t(len(less) - 1, 0.05) * stdev(less) / math.sqrt(len(less))
            cells.append(f"{fmean(own):.{digits}f} ± {stdev(own):.{digits}f}")
            cells.append(f"{fmean(less):+.{digits}f} ± {half:.{digits}f}" if half else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def set_up() -> Setup:
    """The model and the rows."""
    options = ["compare", "--quick", "--rows", str(TEXT_ROWS), "--device", "cpu"]
    settings = arguments([*options, "--capacity", str(PACK)])
    return start(settings, read_text(settings), "cpu")[0]


def with_seed(setup: Setup, seed: int) -> Setup:
    """Other weights, another order, and other rows held out."""
    rows, count = setup.training + setup.held_out, len(setup.training)
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    torch.manual_seed(seed)
    model: Any = type(setup.model)
    model = model(setup.model.config).to(setup.device)
    return replace(
        setup,
        settings=argparse.Namespace(**{**vars(setup.settings), "seed": seed}),
        model=model,
        initial={name: weight.clone() for name, weight in model.state_dict().items()},
        training=[rows[i] for i in order[:count]],
        held_out=[rows[i] for i in order[count:]],
    )


def machine() -> str:
    """What it was measured on."""
    versions = f"torch {torch.__version__}, NumPy {np.__version__}"
    return f"{platform.machine()}, Python {platform.python_version()}, {versions}"


def note(base: Setup, seeds: int) -> str:
    """What the figures rest on."""
    rows, batch = len(base.training), base.settings.batch_size
    return (
        f"{seeds} seeds, {rows:,} rows, batches of {batch} rows or as many tokens, "
        f"{base.settings.epochs} epochs; mean ± standard deviation; differences ± their 95 % "
        f"interval, paired by seed. {machine()}."
    )


def main() -> None:
    """Train, print the table, and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=12, help="how many (default: 12)")
    parser.add_argument("--write", action="store_true", help="write fairness.md, or compare.md")
    parser.add_argument("--causes", action="store_true", help="one thing changed at a time")
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("--seeds: at least 2, for a spread")
    offline()
    torch.set_num_threads(1)
    ways = CAUSES if given.causes else WAYS
    found: dict[str, list[dict[str, float]]] = {way.name: [] for way in ways}
    begin = time.perf_counter()
    base = set_up()
    for seed in range(given.seeds):
        setup = with_seed(base, seed)
        for way in ways:
            found[way.name].append(train(setup, way))
        print(f"seed {seed}: {time.perf_counter() - begin:.0f} s", flush=True)
    table = "\n".join(
        [*(as_causes if given.causes else as_table)(found), "", note(base, given.seeds)]
    )
    print(table)
    if given.write:
        page = DOCS / ("compare.md" if given.causes else "fairness.md")
        write_between(page, "measured", table)


if __name__ == "__main__":
    main()
