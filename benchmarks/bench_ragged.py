"""tb.Ragged and tb.RaggedDataset: from Arrow and Hugging Face datasets to a torch batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness import Row, compare, one_thread, run

one_thread()

import datasets
import numpy as np
import pyarrow as pa
import torch
from transformers import DataCollatorWithPadding as TheirCollator

import tightbatch as tb
from tightbatch.huggingface import DataCollatorWithPadding
from workload import make_tokenizer, text_lengths, token_rows

ROWS, BATCH = 20_000, 64
TOKENIZER = make_tokenizer()


def random_rows() -> list[Row]:
    """64 random rows, other ones each time, to input ids, mask and label."""
    rows = token_rows(ROWS)
    data = datasets.Dataset.from_dict(
        {"input_ids": [row.tolist() for row in rows], "label": [i % 3 for i in range(ROWS)]}
    )
    values, offsets = np.concatenate(rows), np.cumsum([0, *map(len, rows)])
    labels = np.arange(ROWS) % 3
    rng = np.random.default_rng(1)
    batches = [rng.permutation(ROWS)[:BATCH].tolist() for _ in range(64)]
    ragged = tb.RaggedDataset.from_hf(data)
    as_numpy = data.with_format("numpy")
    collate, theirs = DataCollatorWithPadding(TOKENIZER), TheirCollator(TOKENIZER)
    plain = tb.PadCollator(TOKENIZER.pad_token_id)

    def in_turn(function: Callable[[list[int]], Any]) -> Callable[[], Any]:
        place = iter(range(10**9))
        return lambda: function(batches[next(place) % len(batches)])

    def gather(batch: list[int]) -> dict[str, torch.Tensor]:
        """Rows out of a flat buffer by a NumPy loop; no mask."""
        counts = [offsets[i + 1] - offsets[i] for i in batch]
        out = np.zeros((len(batch), max(counts)), np.int64)
        for target, i, count in zip(out, batch, counts, strict=True):
            target[:count] = values[offsets[i] : offsets[i] + count]
        return {"input_ids": torch.from_numpy(out), "label": torch.from_numpy(labels[batch])}

    def read_numpy(batch: list[int]) -> Any:
        """datasets in its NumPy format: the rows as arrays, neither padded nor masked."""
        return as_numpy[batch]

    expected, got = theirs(data.__getitems__(batches[0])), collate(ragged.__getitems__(batches[0]))
    assert list(got) == list(expected)
    assert all(torch.equal(got[key], expected[key]) for key in got)
    assert torch.equal(gather(batches[0])["input_ids"], got["input_ids"])
    what = f"{BATCH} random rows of a Hugging Face dataset to a torch batch"
    answer: list[Row] = []
    # A pair at a time: a peer that takes milliseconds leaves cold caches to the next call.
    for name, call in (
        (what, lambda batch: collate(ragged.__getitems__(batch))),
        (f"{what}, PadCollator", lambda batch: plain(ragged.__getitems__(batch))),
    ):
        for peer, function, goal in (
            (
                "datasets + DataCollatorWithPadding",
                lambda batch: theirs(data.__getitems__(batch)),
                150,
            ),
            ("NumPy gather from a flat buffer, no mask", gather, 2),
            ("datasets in NumPy format, reading alone", read_numpy, 15),
        ):
            answer += compare(name, in_turn(call), {peer: (in_turn(function), goal)})
    return answer


def from_lists() -> list[Row]:
    rows = [row.tolist() for row in token_rows(2000)]
    return compare(
        "Ragged.from_sequences of 2,000 lists",
        lambda: tb.Ragged.from_sequences(rows),
        {"pyarrow.array(lists)": (lambda: pa.array(rows), 10)},
    )


def from_arrow() -> list[Row]:
    """20,000 rows, and the same number of rows with 16 times the tokens."""
    counts = text_lengths(ROWS)
    small, large = (
        pa.LargeListArray.from_arrays(
            np.cumsum([0, *(counts * times)]), np.zeros(int((counts * times).sum()), np.int64)
        )
        for times in (1, 16)
    )
    return compare(
        "Ragged.from_arrow of 20,000 rows",
        lambda: tb.Ragged.from_arrow(small),
        {
            "the same, 16 times the tokens": (lambda: tb.Ragged.from_arrow(large), None),
            "pyarrow to_numpy of the same": (lambda: small.to_numpy(zero_copy_only=False), None),
        },
    )


def lengths() -> list[Row]:
    count = 5_000_000
    offsets = np.arange(count + 1, dtype=np.int32) * 3
    column = pa.ListArray.from_arrays(offsets, pa.array(np.zeros(3 * count, np.int8)))
    data = datasets.Dataset(pa.table({"input_ids": column}))
    return compare(
        "tb.lengths of 5,000,000 rows of a Hugging Face dataset",
        lambda: tb.lengths(data, column="input_ids"),
        {"pyarrow list_value_length": (lambda: column.value_lengths().to_numpy(), None)},
    )


if __name__ == "__main__":
    run([random_rows, from_lists, from_arrow, lengths], __doc__)
