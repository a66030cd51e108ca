"""Documents of a stream of tokens, the segments of windows, and chunks merged again."""

from __future__ import annotations

from itertools import pairwise

from harness import Row, compare, one_thread, run

one_thread()

import numpy as np
from numpy.typing import NDArray

import tightbatch as tb

TOKENS, END = 20_000_000, 50256
RNG = np.random.default_rng(0)


def stream(mean: int, dtype: str, count: int = TOKENS) -> NDArray[np.integer]:
    tokens = RNG.integers(0, END, count).astype(dtype)
    tokens[RNG.integers(0, count, count // mean)] = END
    return tokens


def documents(mean: int, dtype: str) -> list[Row]:
    tokens = stream(mean, dtype)

    def with_numpy() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        ends = np.flatnonzero(tokens == END) + 1
        if len(ends) == 0 or ends[-1] != len(tokens):
            ends = np.append(ends, len(tokens))
        starts = np.concatenate([[0], ends[:-1]])
        return starts, ends - starts

    starts, lengths = with_numpy()
    ours = tb.Ragged.from_tokens(tokens, END)
    assert np.array_equal(ours.starts, starts)
    assert np.array_equal(ours.lengths, lengths)
    return compare(
        f"from_tokens, 20,000,000 of {dtype}, documents of {mean} on average",
        lambda: tb.Ragged.from_tokens(tokens, END),
        {"numpy.flatnonzero": (with_numpy, None)},
    )


def short_documents() -> list[Row]:
    return documents(20, "uint16")


def long_documents() -> list[Row]:
    return documents(800, "uint16")


def long_documents_of_uint32() -> list[Row]:
    return documents(800, "uint32")


def python_loop() -> list[Row]:
    tokens = stream(800, "uint16", 200_000)

    def with_python() -> list[int]:
        ends = [0]
        for i, token in enumerate(tokens.tolist()):
            if token == END:
                ends.append(i + 1)
        if ends[-1] != len(tokens):
            ends.append(len(tokens))
        return [b - a for a, b in pairwise(ends)]

    assert tb.Ragged.from_tokens(tokens, END).lengths.tolist() == with_python()
    return compare(
        "from_tokens, 200,000 of uint16, documents of 800 on average",
        lambda: tb.Ragged.from_tokens(tokens, END),
        {"a loop in Python": (with_python, None)},
    )


def window_segments() -> list[Row]:
    rows = tb.Ragged.from_tokens(stream(400, "uint16"), END)
    ends, length = rows.starts + rows.lengths, 1024

    def with_numpy() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        starts = np.arange(0, int(ends[-1]), length)
        edges = np.union1d(ends, np.append(starts[1:], ends[-1]))
        return np.diff(edges, prepend=0), np.searchsorted(edges, starts)

    ours = tb.windows(rows, length)["seq_lengths"]
    assert np.array_equal(ours.values, with_numpy()[0])
    return compare(
        "windows of 1,024 over 50,000 documents, with the segments of each",
        lambda: tb.windows(rows, length),
        {"numpy.union1d and searchsorted": (with_numpy, None)},
    )


def merge_chunks() -> list[Row]:
    lengths = RNG.integers(200, 3000, 100)
    rows = tb.Ragged(np.zeros(int(lengths.sum()), np.int64), np.cumsum([0, *lengths]))
    chunks = tb.chunk(rows, 384, overlap=128)
    outputs = RNG.normal(size=(len(chunks), 384, 9)).astype(np.float32)

    def with_numpy() -> list[NDArray[np.float32]]:
        """A NumPy operation for each chunk."""
        sums = [np.zeros((n, 9), np.float32) for n in lengths]
        counts = [np.zeros((n, 1), np.float32) for n in lengths]
        places = zip(chunks.indices, chunks.starts, chunks.rows.lengths, outputs, strict=True)
        for document, start, length, values in places:
            sums[document][start : start + length] += values[:length]
            counts[document][start : start + length] += 1
        return [total / count for total, count in zip(sums, counts, strict=True)]

    merged = chunks.merge(outputs)
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(merged, with_numpy(), strict=True))
    return compare(
        "merge of 700 chunks of 384 tokens, 9 classes, mean",
        lambda: chunks.merge(outputs),
        {"NumPy, chunk by chunk": (with_numpy, None)},
    )


if __name__ == "__main__":
    run(
        [
            short_documents,
            long_documents,
            long_documents_of_uint32,
            python_loop,
            window_segments,
            merge_chunks,
        ],
        __doc__,
    )
