"""tb.PaddingFreeCollator against transformers' DataCollatorWithFlattening, all it offers on."""

from __future__ import annotations

from typing import Any

from harness import Row, compare, one_thread, run

one_thread()

import numpy as np
import torch
from transformers import DataCollatorWithFlattening

import tightbatch as tb
from workload import token_rows

ROWS = 64
PEER = "transformers DataCollatorWithFlattening"
THEIRS = DataCollatorWithFlattening(
    return_position_ids=True, return_flash_attn_kwargs=True, return_seq_idx=True
)


def features(count: int = ROWS) -> list[dict[str, Any]]:
    """Tokenised texts as a tokenizer returns them."""
    return [
        {"input_ids": ids.tolist(), "attention_mask": [1] * len(ids)} for ids in token_rows(count)
    ]


def check_equal(ours: Any, theirs: Any) -> None:
    assert [key for key in ours if key != "use_cache"] == list(theirs)  # theirs would mix rows
    for key, value in theirs.items():
        if isinstance(value, torch.Tensor):
            assert ours[key].dtype == value.dtype
            assert torch.equal(ours[key], value), key
        else:
            assert ours[key] == value, key


def lists() -> list[Row]:
    samples, collate = features(), tb.PaddingFreeCollator()
    check_equal(collate(samples), THEIRS(samples))
    return compare(
        f"{ROWS} dicts of lists to a padding-free batch",
        lambda: collate(samples),
        {PEER: (lambda: THEIRS(samples), 30)},
    )


def dataset_rows() -> tuple[Any, Any, list[dict[str, Any]]]:
    """Random rows of a dataset of 20,000, and the same rows as the lists that suit the peer."""
    rows = token_rows(20_000)
    data = tb.RaggedDataset({"input_ids": rows})
    chosen = np.random.default_rng(0).integers(0, len(rows), ROWS).tolist()
    return data, chosen, [{"input_ids": rows[i].tolist()} for i in chosen]


def dataset() -> list[Row]:
    data, chosen, samples = dataset_rows()
    collate = tb.PaddingFreeCollator()
    check_equal(collate(data.__getitems__(chosen)), THEIRS(samples))
    return compare(
        f"{ROWS} random rows of a RaggedDataset to a padding-free batch",
        lambda: collate(data.__getitems__(chosen)),
        {PEER: (lambda: THEIRS(samples), 100)},
        note="the peer has its rows as lists already",
    )


def static() -> list[Row]:
    data, chosen, samples = dataset_rows()
    collate = tb.PaddingFreeCollator(
        max_tokens=16_384,
        max_segments=ROWS + 1,
        max_seqlen=16_384,
        shift_labels=True,
        return_num_items=True,
        return_row_idx=True,
    )
    return compare(
        f"the same, padded to 16,384 tokens and {ROWS + 1} sequences, with all that ours adds",
        lambda: collate(data.__getitems__(chosen)),
        {PEER: (lambda: THEIRS(samples), None)},
        note="the peer has no constant shapes, shifted labels, counts or numbers of rows",
    )


if __name__ == "__main__":
    run([lists, dataset, static], __doc__)
