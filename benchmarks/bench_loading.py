"""An epoch of a torch DataLoader over 200,000 rows of a Hugging Face dataset on disk."""

from __future__ import annotations

import tempfile
import time
from typing import Any

from harness import Row, one_thread, run

one_thread()

import datasets
import numpy as np
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding as TheirCollator

import tightbatch as tb
from tightbatch.huggingface import DataCollatorWithPadding
from workload import make_tokenizer, text_lengths

ROWS, BATCH, GOAL = 200_000, 64, 10
NOTE = (
    "0 workers is the choice wherever collation is all that a worker would do: a batch takes "
    "less time to make than to hand over. Workers pay when samples are decoded, augmented or "
    "tokenised on the way."
)


def make_data(folder: str) -> Any:
    """Write a tokenised dataset to disk and map it, as a user has it."""
    import pyarrow as pa

    counts = text_lengths(ROWS)
    tokens = np.random.default_rng(0).integers(0, 30_000, counts.sum()).astype(np.int32)
    ids = pa.ListArray.from_arrays(np.cumsum([0, *counts]).astype(np.int32), pa.array(tokens))
    table = pa.table({"input_ids": ids, "label": pa.array(np.arange(ROWS) % 3)})
    datasets.Dataset(table).save_to_disk(folder)
    return datasets.load_from_disk(folder)


def epoch(data: Any, collate: Any, workers: int) -> float:
    """Seconds for all batches, workers started and ended included."""
    loader = DataLoader(
        data, batch_size=BATCH, shuffle=True, collate_fn=collate, num_workers=workers
    )
    begin = time.perf_counter()
    rows = sum(len(batch["input_ids"]) for batch in loader)
    seconds = time.perf_counter() - begin
    assert rows == ROWS
    return seconds


def epochs() -> list[Row]:
    tokenizer = make_tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(folder)
        ragged = tb.RaggedDataset.from_hf(data)
        ours, theirs = DataCollatorWithPadding(tokenizer), TheirCollator(tokenizer)
        sides = {
            "ours, 0": lambda: epoch(ragged, ours, 0),
            "ours, 2": lambda: epoch(ragged, ours, 2),
            "theirs, 2": lambda: epoch(data, theirs, 2),
        }
        best = dict.fromkeys(sides, float("inf"))
        for _ in range(2):
            for name, call in sides.items():
                best[name] = min(best[name], call())
    rows = f"DataLoader epoch over {ROWS:,} rows"
    peer = "datasets + transformers' collator, 2 workers"
    return [
        {
            "name": f"{rows}, {workers} workers",
            "ours_us": best[f"ours, {workers}"] * 1e6,
            "peer": peer,
            "peer_us": best["theirs, 2"] * 1e6,
            "ratio": best["theirs, 2"] / best[f"ours, {workers}"],
            "goal": GOAL if workers == 0 else None,
            "note": NOTE if workers == 0 else "",
        }
        for workers in (0, 2)
    ]


if __name__ == "__main__":
    run([epochs], __doc__)
