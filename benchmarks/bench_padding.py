"""tb.pad against NumPy's row-by-row fill and torch's pad_sequence."""

from __future__ import annotations

from harness import Row, best_times, compare, one_thread, run

one_thread()

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

import tightbatch as tb
from workload import fresh_lists, text_lengths, token_rows


def numpy_fill(rows: list, dtype: type | np.dtype, trailing: tuple[int, ...] = ()) -> NDArray:
    """Fill a zeroed array row by row: what people write by hand."""
    out = np.zeros((len(rows), max(map(len, rows)), *trailing), dtype)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return out


def lists() -> list[Row]:
    rows = fresh_lists(token_rows(64))
    expected = torch.from_numpy(tb.pad(rows))
    assert torch.equal(
        expected, pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    )
    return compare(
        "64 lists of ints to padded int64",
        lambda: tb.pad(rows),
        {
            "NumPy row by row": (lambda: numpy_fill(rows, np.int64), 10),
            "pad_sequence over torch.tensor(row)": (
                lambda: pad_sequence([torch.tensor(row) for row in rows], batch_first=True),
                60,
            ),
        },
    )


def arrays() -> list[Row]:
    rows = token_rows(64)
    tensors = [torch.from_numpy(row) for row in rows]
    return compare(
        "64 int64 arrays",
        lambda: tb.pad(rows),
        {
            "NumPy row by row": (lambda: numpy_fill(rows, np.int64), 3),
            "pad_sequence, ready tensors": (lambda: pad_sequence(tensors, batch_first=True), 15),
        },
    )


def tensors() -> list[Row]:
    rows = [torch.from_numpy(row) for row in token_rows(64)]
    return compare(
        "64 int64 tensors",
        lambda: tb.pad(rows),
        {"pad_sequence": (lambda: pad_sequence(rows, batch_first=True), 3)},
    )


def features() -> list[Row]:
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((n, 80), dtype=np.float32) for n in text_lengths(64)]
    return compare(
        "64 [T, 80] float32 features",
        lambda: tb.pad(rows),
        {"NumPy row by row": (lambda: numpy_fill(rows, np.float32, (80,)), 1.3)},
    )


def half_features(name: str, goal: float) -> list[Row]:
    """Pad and convert in one go; torch makes the float32 batch first, and is rounded as we are."""
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((n, 80), dtype=np.float32) for n in text_lengths(64)]
    tensors = [torch.from_numpy(row) for row in rows]
    dtype = np.dtype(np.float16 if name == "float16" else ml_dtypes.bfloat16)
    theirs = pad_sequence(tensors, batch_first=True).to(getattr(torch, name))
    ours = tb.pad(rows, dtype=dtype)
    assert torch.equal(torch.from_numpy(ours.view(np.int16)), theirs.view(torch.int16))
    method = {"float16": torch.Tensor.half, "bfloat16": torch.Tensor.bfloat16}[name]
    return compare(
        f"64 [T, 80] float32 features to {name}",
        lambda: tb.pad(rows, dtype=dtype),
        {
            f"pad_sequence(...).{method.__name__}()": (
                lambda: method(pad_sequence(tensors, batch_first=True)),
                goal,
            ),
            f"{'NumPy' if name == 'float16' else 'ml_dtypes'} row by row": (
                lambda: numpy_fill(rows, dtype, (80,)),
                None,
            ),
        },
    )


def float16_features() -> list[Row]:
    return half_features("float16", 2)


def bfloat16_features() -> list[Row]:
    return half_features("bfloat16", 2)


def small() -> list[Row]:
    rows = [[1, 2, 3], [4]]
    return compare(
        "2 lists of 3 and 1 ints (cost of a call)",
        lambda: tb.pad(rows),
        {"NumPy row by row": (lambda: numpy_fill(rows, np.int64), None)},
    )


def large_out() -> list[Row]:
    """Bytes a second, read plus written, against memcpy; the ratio is of those."""
    answer = []
    for kind, lengths in (
        ("rows all of one length", np.full(2048, 4096)),
        ("log-normal rows", np.sort(np.tile(text_lengths(2048) * 8, 1))),
    ):
        rows = [np.arange(n) for n in lengths]
        out = np.empty((len(rows), int(lengths.max())), np.int64)
        source, copy = np.ones_like(out), np.empty_like(out)
        times = best_times(
            {
                "ours": lambda rows=rows, out=out: tb.pad(rows, out=out),
                "memcpy": lambda copy=copy, source=source: np.copyto(copy, source),
            },
            seconds=3,
        )
        moved = int(lengths.sum()) * 8 + out.nbytes
        rate, peer = moved / times["ours"], 2 * out.nbytes / times["memcpy"]
        answer.append(
            {
                "name": f"{out.nbytes >> 20} MiB batch into out=, {kind}, bytes a second",
                "ours_us": times["ours"],
                "peer": "memcpy of the result",
                "peer_us": times["memcpy"],
                "ratio": rate / peer,
                "goal": 0.8,
                "note": f"{rate / 1e3:.1f} against {peer / 1e3:.1f} GB/s, read plus written",
            }
        )
    return answer


if __name__ == "__main__":
    run(
        [
            lists,
            arrays,
            tensors,
            features,
            float16_features,
            bfloat16_features,
            small,
            large_out,
        ],
        __doc__,
    )
