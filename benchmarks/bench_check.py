"""tb.check_batch beside the collation of the same batch: what it costs to leave it on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness import Row, compare, one_thread, run

one_thread()

import tightbatch as tb
from workload import token_rows

Samples = list[dict[str, Any]]


def check(batch: Any) -> None:
    tb.check_batch(batch, vocab_size=30_000, max_position=512)


def padded_samples(seed: int = 0) -> Samples:
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


def plain_samples(seed: int = 0) -> Samples:
    return [{"input_ids": ids.tolist()} for ids in token_rows(64, seed)]


def in_the_caches() -> list[Row]:
    """The same samples again and again, as benchmarks do: the collation is at its quickest."""
    rows = []
    for name, collate, samples in (
        ("check 64 padded rows (4 keys)", tb.PadCollator(), padded_samples()),
        ("check 64 rows without padding", tb.PaddingFreeCollator(), plain_samples()),
    ):
        batch, make = collate(samples), lambda c=collate, s=samples: c(s)
        rows += compare(
            name, lambda b=batch: check(b), {"the collation, samples in caches": (make, None)}
        )
    return rows


def of_new_samples() -> list[Row]:
    """Samples that are not in the caches, as in training; the batch is, since it was just made."""
    return [
        *_in_turns("check 64 padded rows (4 keys)", tb.PadCollator(), padded_samples, 60),
        *_in_turns("check 64 rows without padding", tb.PaddingFreeCollator(), plain_samples, 150),
    ]


def _in_turns(
    name: str, collate: Callable[[Samples], Any], make: Callable[[int], Samples], count: int
) -> list[Row]:
    batches = [make(seed) for seed in range(count)]
    best = [float("inf")] * 2
    for _ in range(7):
        spent = [0.0, 0.0]
        for samples in batches:
            begin = time.perf_counter()
            batch = collate(samples)
            middle = time.perf_counter()
            check(batch)
            end = time.perf_counter()
            spent[0] += end - middle
            spent[1] += middle - begin
        best = [min(pair) for pair in zip(best, spent, strict=True)]
    ours, theirs = (seconds / count * 1e6 for seconds in best)
    return [
        {
            "name": name,
            "ours_us": ours,
            "peer": "the collation, of new samples",
            "peer_us": theirs,
            "ratio": theirs / ours,
            "goal": None,
            "note": "",
        }
    ]


if __name__ == "__main__":
    run([in_the_caches, of_new_samples], __doc__)
