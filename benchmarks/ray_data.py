"""tightbatch.ray against what Ray Data does by itself, and a collate_fn that users write.

    python benchmarks/ray_data.py [--rows 40000] [--epochs 5] [--write]

On a cluster of this machine. First the collate function alone, on batches that are there as Arrow
tables. Then rows a second from a dataset in the object store to batches in one process, or in two
at a time, from the first batch to the last: each side reads an epoch in turn, and the best of its
epochs counts. Bytes are those of the blocks that go through the object store: Ray counts them.
``--write`` puts both tables into docs/ray.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness import best_times, one_thread, write_between

one_thread()
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from ray.data.block import BlockAccessor
from ray.data.collate_fn import ArrowBatchCollateFn, NumpyBatchCollateFn

import tightbatch as tb
from workload import text_lengths

BATCH, BLOCKS = 64, 8
DOCS = Path(__file__).parent.parent / "docs" / "ray.md"
LIKE_USERS = "NumPy collate_fn"


class ByUsers(NumpyBatchCollateFn):  # type: ignore[misc]
    """Pad each row into arrays of zeros, as recipes for Ray do it."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = batch["input_ids"]
        width = max(map(len, rows))
        ids = np.zeros((len(rows), width), np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        made = {"input_ids": ids, "attention_mask": mask, "label": batch["label"]}
        return {key: torch.from_numpy(value) for key, value in made.items()}


class ByPadSequence(ArrowBatchCollateFn):  # type: ignore[misc]
    """Turn the table into lists and tensors, and let torch pad them."""

    def __call__(self, batch: Any) -> dict[str, Any]:
        rows = [torch.tensor(row) for row in batch["input_ids"].to_pylist()]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "label": torch.tensor(batch["label"].to_pylist()),
        }


def pad_in_task(table: Any) -> dict[str, Any]:
    """Collate in a task as users do: a batch of arrays, which Ray makes a column of tensors."""
    batch = ByUsers()({"input_ids": table["input_ids"], "label": table["label"]})
    return {key: value.numpy()[None] for key, value in batch.items()}


class Unwrap(NumpyBatchCollateFn):  # type: ignore[misc]
    """Take the only batch out of Ray's column of tensors."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {key: torch.from_numpy(np.array(value[0])) for key, value in batch.items()}


def make_tables(rows: int) -> list[Any]:
    lengths = text_lengths(rows).clip(1, 512)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.random.default_rng(0).integers(1, 30_000, offsets[-1])
    table = pa.table(
        {
            "input_ids": pa.LargeListArray.from_arrays(offsets, tokens),
            "label": np.arange(rows) % 2,
        }
    )
    edges = np.linspace(0, rows, BLOCKS + 1).astype(int)
    return [table[a:b] for a, b in pairwise(edges)]


def epoch(dataset: Any, collate_fn: Any, batch_size: int) -> float:
    """Give the rows a second after the first batch: an execution's start takes a second."""
    rows, begin = 0, None
    for batch in dataset.iter_torch_batches(batch_size=batch_size, collate_fn=collate_fn):
        if begin is None:
            begin = time.perf_counter()
        else:
            rows += len(batch["label"])
    return 0.0 if begin is None else rows / (time.perf_counter() - begin)


def alone(tables: list[Any]) -> list[str]:
    """Time collate functions without Ray's iterator, in microseconds a batch."""
    table = pa.concat_tables(tables)
    batches = [table[i : i + BATCH].combine_chunks() for i in range(0, 20 * BATCH, BATCH)]
    functions = {
        "CollateFn(PadCollator())": tb.ray.CollateFn(tb.PadCollator()),
        "CollateFn(PaddingFreeCollator())": tb.ray.CollateFn(tb.PaddingFreeCollator()),
        LIKE_USERS: lambda one: ByUsers()(BlockAccessor.for_block(one).to_batch_format("numpy")),
        "lists and pad_sequence": ByPadSequence(),
    }

    def all_of(function: Any) -> Callable[[], None]:
        def call() -> None:
            for one in batches:
                function(one)

        return call

    times = best_times({name: all_of(function) for name, function in functions.items()})
    base = times[LIKE_USERS]
    return [
        "| | a batch | of the time of the NumPy collate_fn |",
        "| --- | ---: | ---: |",
        *(
            f"| {name} | {us / len(batches):.0f} us | {us / base:.2f} |"
            for name, us in times.items()
        ),
    ]


@ray.remote(num_cpus=1)
class Consumer:
    """A process that reads batches, as a train worker does."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False

    def run(self, shard: Any, collate_fn: Any, batch_size: int) -> float:
        return epoch(shard, collate_fn, batch_size)


def rows_a_second(consumers: list[Any], dataset: Any, collate_fn: Any, batch_size: int) -> float:
    """Read one epoch."""
    shards = [dataset] if len(consumers) == 1 else dataset.streaming_split(2, equal=False)
    runs = [
        consumer.run.remote(shard, collate_fn, batch_size)
        for consumer, shard in zip(consumers, shards, strict=True)
    ]
    return float(sum(ray.get(runs)))


def measure(tables: list[Any], rows: int, epochs: int) -> list[dict[str, Any]]:
    """Give the best epoch of each side by one process and by two, and its bytes a row."""
    consumers = [Consumer.remote() for _ in range(2)]
    made = {name: (make(), *rest) for name, (make, *rest) in sides(tables).items()}
    best = {name: [0.0, 0.0] for name in made}
    for number in range(epochs):
        for name, (dataset, collate_fn, size) in made.items():
            for count in (1, 2):
                speed = rows_a_second(consumers[:count], dataset, collate_fn, size)
                best[name][count - 1] = max(best[name][count - 1], speed)
        print(f"epoch {number + 1} of {epochs}", flush=True)
    return [
        {
            "side": name,
            "rows_a_second": best[name],
            "bytes_a_row": made[name][0].materialize().size_bytes() / rows,
        }
        for name in made
    ]


def sides(tables: list[Any]) -> dict[str, tuple[Callable[[], Any], Any, int]]:
    """What is compared: what makes the dataset, its collate function, and rows of it a batch."""
    given = ray.data.from_arrow(tables)
    equal = [table.set_column(0, "input_ids", _of_one_length(table)) for table in tables]
    padded = tb.PadCollator()
    arrays = tb.PadCollator(return_tensors="np")
    store = tb.ray.StoreBatch(arrays, batch_size=BATCH)
    return {
        "CollateFn(PadCollator())": (lambda: given, tb.ray.CollateFn(padded), BATCH),
        "CollateFn(PaddingFreeCollator())": (
            lambda: given,
            tb.ray.CollateFn(tb.PaddingFreeCollator()),
            BATCH,
        ),
        LIKE_USERS: (lambda: given, ByUsers(), BATCH),
        "lists and pad_sequence": (lambda: given, ByPadSequence(), BATCH),
        "Ray's own, rows of one length": (lambda: ray.data.from_arrow(equal), None, BATCH),
        "CollateFn, rows of one length": (
            lambda: ray.data.from_arrow(equal),
            tb.ray.CollateFn(tb.PadCollator(attention_mask=False)),
            BATCH,
        ),
        "StoreBatch in tasks": (
            lambda: given.map_batches(store, batch_size=None, batch_format="pyarrow"),
            tb.ray.LoadBatch(),
            1,
        ),
        "batch_by_length in tasks": (
            lambda: tb.ray.batch_by_length(given, arrays, batch_size=BATCH, num_workers=2),
            tb.ray.LoadBatch(),
            1,
        ),
        "arrays from tasks": (
            lambda: given.map_batches(pad_in_task, batch_size=BATCH, batch_format="numpy"),
            Unwrap(),
            1,
        ),
    }


def _of_one_length(table: Any) -> Any:
    tokens = np.zeros((len(table), 256), np.int64)
    return pa.FixedSizeListArray.from_arrays(tokens.reshape(-1), 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write the tables into docs/ray.md")
    options = parser.parse_args()
    folder = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    tables = make_tables(options.rows)
    ragged = ray.data.from_arrow(tables)
    try:
        next(iter(ragged.iter_torch_batches(batch_size=BATCH)))
    except Exception as error:
        print("Ray's own collate of rows of different lengths:", str(error).splitlines()[-1][:160])
    collating = "\n".join(alone(tables))
    print(collating, flush=True)
    reading = as_table(measure(tables, options.rows, options.epochs))
    print(reading)
    if options.write:
        write_between(DOCS, "collating", collating)
        write_between(DOCS, "reading", reading)


def as_table(figures: list[dict[str, Any]]) -> str:
    (base,) = [f["rows_a_second"] for f in figures if f["side"] == LIKE_USERS]
    lines = [
        f"| | rows/s, 1 process | 2 processes | beside the {LIKE_USERS} | bytes a row |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for figure in figures:
        one, two = figure["rows_a_second"]
        lines.append(
            f"| {figure['side']} | {one:,.0f} | {two:,.0f} | {one / base[0]:.1f}, "
            f"{two / base[1]:.1f} | {figure['bytes_a_row']:,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
