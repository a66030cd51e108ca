"""tb.CheckedCollator beside the collation alone: what it costs to leave the check on."""

from __future__ import annotations

import itertools
from typing import Any

from harness import Row, compare, one_thread, run

one_thread()

import tightbatch as tb
from workload import token_rows

LIMITS: dict[str, Any] = {"vocab_size": 30_000, "max_position": 512}


def padded_samples(seed: int = 0) -> list[dict[str, Any]]:
    """64 tokenised texts as a tokenizer returns them, with labels."""
    return [
        {
            "input_ids": ids.tolist(),
            "attention_mask": [1] * len(ids),
            "token_type_ids": [0] * len(ids),
            "labels": ids.tolist(),
        }
        for ids in token_rows(64, seed)
    ]


def plain_samples(seed: int = 0) -> list[dict[str, Any]]:
    return [{"input_ids": ids.tolist()} for ids in token_rows(64, seed)]


def beside(name: str, collate: Any, batches: list[list[dict[str, Any]]]) -> list[Row]:
    checked = tb.CheckedCollator(collate, **LIMITS)
    ours, theirs = itertools.cycle(batches), itertools.cycle(batches)
    return compare(
        name,
        lambda: checked(next(ours)),
        {"the collation alone": (lambda: collate(next(theirs)), None)},
    )


def padded() -> list[Row]:
    return beside("64 padded rows (4 keys), checked", tb.PadCollator(), [padded_samples()])


def padding_free() -> list[Row]:
    return beside("64 rows without padding, checked", tb.PaddingFreeCollator(), [plain_samples()])


def fresh() -> list[Row]:
    """Samples that are not in the caches, as in training."""
    batches = [padded_samples(seed) for seed in range(40)]
    others = [plain_samples(seed) for seed in range(100)]
    return [
        *beside("64 padded rows (4 keys) of new samples, checked", tb.PadCollator(), batches),
        *beside("64 rows of new samples without padding, checked", tb.PaddingFreeCollator(), others),
    ]


if __name__ == "__main__":
    run([padded, padding_free, fresh], __doc__)
