"""Instructions for each call of the hot paths, counted by callgrind: the same on a busy machine.

    python benchmarks/count_instructions.py [NAME ...]

Each case runs in a process of its own, few times and many times; the difference is divided by the
difference in calls, so that imports and warming up do not count. Needs valgrind.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROWS = 64
# What would differ from one process to the next: the order of sets, threads that wait.
STEADY = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def lists():
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5, 0.5, ROWS), 1, 512).astype(int)
    return [rng.integers(0, 30_000, n).tolist() for n in lengths]


def pad_lists(tb):
    rows = lists()
    return lambda: tb.pad(rows)


def dicts(keys=("input_ids", "attention_mask", "token_type_ids")):
    return [{**{k: [1] * len(r) for k in keys}, "input_ids": r, "label": 1} for r in lists()]


def pad_collator_dicts(tb):
    samples, collate = dicts(), tb.PadCollator(return_tensors="np")
    return lambda: collate(samples)


def pad_collator_dataset(tb):
    data = tb.RaggedDataset(
        {"input_ids": tb.Ragged.from_sequences(lists() * 8), "label": np.arange(ROWS * 8)}
    )
    chosen = np.random.default_rng(1).permutation(ROWS * 8)[:ROWS].tolist()
    collate = tb.PadCollator(return_tensors="np")
    return lambda: collate(data.__getitems__(chosen))


def from_sequences(tb):
    rows = lists()
    return lambda: tb.Ragged.from_sequences(rows)


def from_arrow(tb):
    import pyarrow as pa

    chunks = [pa.array(lists(), pa.list_(pa.int32())) for _ in range(8)]
    rows = pa.chunked_array(chunks)
    return lambda: tb.Ragged.from_arrow(rows)


def pad_arrow(tb):
    import pyarrow as pa

    rows = pa.array(lists(), pa.list_(pa.int32()))
    return lambda: tb.pad(rows)


def padding_free(tb):
    samples = [{"input_ids": row} for row in lists()]
    collate = tb.PaddingFreeCollator(return_tensors="np")
    return lambda: collate(samples)


def plan(tb):
    lengths = np.clip(np.random.default_rng(0).lognormal(5, 0.5, 1_000_000), 1, 512).astype(int)
    sampler = tb.LengthBatchSampler(lengths, batch_size=32)
    epochs = iter(range(10**6))

    def call():
        sampler.set_epoch(next(epochs))
        next(iter(sampler))

    return call


# Calls of the short and of the long run.
CASES = {
    "pad_lists": (pad_lists, 10, 110),
    "pad_collator_dicts": (pad_collator_dicts, 10, 60),
    "pad_collator_dataset": (pad_collator_dataset, 10, 110),
    "from_sequences": (from_sequences, 10, 110),
    "from_arrow": (from_arrow, 10, 110),
    "pad_arrow": (pad_arrow, 10, 110),
    "padding_free": (padding_free, 10, 60),
    "plan": (plan, 1, 2),
}


def count(name, calls):
    """Give the instructions of a process that makes so many calls."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                *("valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"),
                *(sys.executable, __file__, "--run", name, str(calls)),
            ],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **STEADY},
        )
        found = re.search(r"Collected : (\d+)", done.stderr)
        assert found is not None, done.stderr
        assert Path(folder, "out").exists()
        return int(found[1])


def main(names):
    if names[:1] == ["--run"]:
        import tightbatch as tb

        call = CASES[names[1]][0](tb)
        for _ in range(int(names[2])):
            call()
        return
    for name in names or CASES:
        _, few, many = CASES[name]
        each = (count(name, many) - count(name, few)) / (many - few)
        print(f"{name:24} {each:16,.0f} instructions a call", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
