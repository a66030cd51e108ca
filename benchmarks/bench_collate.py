"""tb.PadCollator against transformers' collator and the best that NumPy can do by hand."""

from __future__ import annotations

from itertools import chain
from typing import Any

from harness import Row, compare, one_thread, run

one_thread()

import numpy as np
import torch
from transformers import DataCollatorWithPadding

import tightbatch as tb
from workload import make_tokenizer, text_lengths, token_rows

KEYS = ("input_ids", "attention_mask", "token_type_ids")


def features() -> list[dict[str, Any]]:
    """64 tokenised texts as a tokenizer returns them, with a label."""
    return [
        {
            "input_ids": ids.tolist(),
            "token_type_ids": [0] * len(ids),
            "attention_mask": [1] * len(ids),
            "label": i % 3,
        }
        for i, ids in enumerate(token_rows(64))
    ]


def by_numpy(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """One conversion a column (chained, typed), one masked assignment: no loop over rows."""
    lengths = np.fromiter(map(len, [s["input_ids"] for s in samples]), np.int64, len(samples))
    total = int(lengths.sum())
    real = np.arange(lengths.max()) < lengths[:, None]
    batch = {}
    for key in KEYS:
        flat = np.fromiter(chain.from_iterable([s[key] for s in samples]), np.int64, total)
        out = np.zeros(real.shape, np.int64)
        out[real] = flat
        batch[key] = torch.from_numpy(out)
    labels = np.fromiter([s["label"] for s in samples], np.int64, len(samples))
    batch["labels"] = torch.from_numpy(labels)
    return batch


def by_rows(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A row at a time, which skips the mask but converts each row by itself."""
    width = max(len(s["input_ids"]) for s in samples)
    batch = {}
    for key in KEYS:
        out = np.zeros((len(samples), width), np.int64)
        for target, sample in zip(out, samples, strict=True):
            row = sample[key]
            target[: len(row)] = row
        batch[key] = torch.from_numpy(out)
    batch["labels"] = torch.tensor([s["label"] for s in samples])
    return batch


def dicts_of_lists() -> list[Row]:
    tokenizer = make_tokenizer()
    samples = features()
    ours, theirs = tb.PadCollator.from_tokenizer(tokenizer), DataCollatorWithPadding(tokenizer)
    batch = ours(samples)
    for peer in (theirs(samples), by_numpy(samples), by_rows(samples)):
        assert sorted(peer) == sorted(batch)
        assert all(torch.equal(peer[key], batch[key]) for key in batch)
    return compare(
        "64 dicts (3 keys of lists, a label) to a torch batch",
        lambda: ours(samples),
        {
            "transformers DataCollatorWithPadding": (lambda: theirs(samples), 200),
            "NumPy, one conversion a column": (lambda: by_numpy(samples), 5),
            "NumPy, row by row": (lambda: by_rows(samples), 5),
        },
    )


def dicts_of_arrays() -> list[Row]:
    samples = [{**s, **{key: np.asarray(s[key]) for key in KEYS}} for s in features()]
    collate = tb.PadCollator()
    return compare(
        "64 dicts (3 keys of int64 arrays, a label) to a torch batch",
        lambda: collate(samples),
        {"NumPy, row by row": (lambda: by_rows(samples), None)},
    )


def speech() -> list[Row]:
    rng = np.random.default_rng(0)
    samples = [
        {"input_features": rng.standard_normal((n, 80), dtype=np.float32), "label": 0}
        for n in text_lengths(16)
    ]
    collate = tb.PadCollator(attention_mask=False)

    def with_torch() -> dict[str, torch.Tensor]:
        rows = [torch.from_numpy(sample["input_features"]) for sample in samples]
        return {
            "input_features": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
            "label": torch.tensor([sample["label"] for sample in samples]),
        }

    return compare(
        "16 dicts of [T, 80] float32 features",
        lambda: collate(samples),
        {"pad_sequence over from_numpy": (with_torch, None)},
    )


if __name__ == "__main__":
    run([dicts_of_lists, dicts_of_arrays, speech], __doc__)
