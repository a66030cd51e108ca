"""Plans of very many rows: what a row costs to plan, to pack, by groups, to save and to load.

python benchmarks/plans.py                     # 10 million rows
python benchmarks/plans.py --rows 100000000    # about 6 GB of memory
"""

import argparse
import os
import tempfile
import time

import numpy as np

import tightbatch as tb


def best(rows, rounds, call):
    """Nanoseconds a row: the least of some rounds."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times) / rows * 1e9


def draw_lengths(rows):
    lengths = np.empty(rows, np.int64)
    rng = np.random.default_rng(0)
    for begin in range(0, rows, 2**22):
        part = lengths[begin : begin + 2**22]
        part[:] = np.minimum(rng.lognormal(5.0, 0.6, len(part)), 512)
    return lengths


def planner(lengths, **options):
    """Time the plans of new epochs; the sampler itself is made once."""
    sampler = tb.LengthBatchSampler(lengths, **options)
    epochs = iter(range(1000))
    return lambda: sampler._planner._make(next(epochs), 1)


def plan_rows(lengths, rounds):
    rows = len(lengths)
    for name, options in {
        "batch_size=32": {"batch_size": 32},
        "max_tokens=16384": {"max_tokens": 16384},
        "max_tokens=16384, padding_free": {"max_tokens": 16384, "padding_free": True},
    }.items():
        print(f"  plan, {name:34}{best(rows, rounds, planner(lengths, **options)):7.1f} ns a row")
    for strategy in ("pool", "best_fit"):
        found = best(rows, rounds, lambda s=strategy: tb.pack(lengths, 4096, strategy=s))
        print(f"  pack, strategy={strategy!r:29}{found:7.1f} ns a row")


def plan_groups(lengths, rounds):
    rows = len(lengths)
    rng = np.random.default_rng(1)
    for count in (1, 10, 10_000):
        groups = rng.integers(0, count, rows)
        for name, options in {
            "max_tokens=16384": {"max_tokens": 16384},
            "the same, padding_free": {"max_tokens": 16384, "padding_free": True},
            "the same, temperature=2": {"max_tokens": 16384, "temperature": 2.0},
        }.items():
            found = best(rows, rounds, planner(lengths, groups=groups, **options))
            print(f"  {count:6} groups, {name:26}{found:7.1f} ns a row")


def save(lengths):
    """A plan in this format, and the same arrays in Arrow's and NumPy's own."""
    rows = len(lengths)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "plan.npy")
        sampler = tb.LengthBatchSampler(lengths, max_tokens=16384)
        indices, offsets = sampler._plan()
        found = {"saved": best(rows, 1, lambda: sampler.save_plan(path))}
        found["loaded, compared and checked"] = best(rows, 2, lambda: sampler.load_plan(path))
        for name, call in _others(folder, indices.astype(np.int32), offsets).items():
            found[name] = best(rows, 1, call)
        for name, time_of_row in found.items():
            print(f"  {name:40}{time_of_row:7.2f} ns a row")


def _others(folder, indices, offsets):
    zipped, arrow = os.path.join(folder, "plan.npz"), os.path.join(folder, "plan.arrow")

    def load_npz():
        with np.load(zipped) as found:  # NumPy cannot map what is in an archive
            assert found["indices"][-1] == indices[-1]

    calls = {
        "np.savez": lambda: np.savez(zipped, indices=indices, offsets=offsets),
        "np.load of it, copied": load_npz,
    }
    try:
        import pyarrow as pa
    except ImportError:
        return calls

    def write_arrow():
        table = pa.table({"batches": pa.ListArray.from_arrays(offsets.astype(np.int32), indices)})
        with pa.ipc.new_file(arrow, table.schema) as writer:
            writer.write_table(table)

    def read_arrow():
        found = pa.ipc.open_file(pa.memory_map(arrow)).read_all()
        assert found.num_rows == len(offsets) - 1

    return {**calls, "Arrow IPC, written": write_arrow, "Arrow IPC, mapped": read_arrow}


def pair_buckets():
    rng = np.random.default_rng(0)
    first = np.minimum(rng.lognormal(3.5, 0.6, 20_000).astype(np.int64) + 1, 512)
    second = np.minimum((first * rng.lognormal(0, 0.35, 20_000)).astype(np.int64) + 1, 600)
    pairs = np.stack([first, second], axis=1)
    for k in (4, 16, 64):
        begin = time.perf_counter()
        bounds = tb.bucket_boundaries(pairs, k)
        seconds = time.perf_counter() - begin
        padded = bounds[tb.bucket_groups(pairs, bounds)].sum()
        grids = []
        for own in (n for n in range(1, k + 1) if k % n == 0):
            widths = tb.bucket_boundaries(first, own), tb.bucket_boundaries(second, k // own)
            grids.append(
                widths[0][np.searchsorted(widths[0], first)].sum()
                + widths[1][np.searchsorted(widths[1], second)].sum()
            )
        equal, side = 0, int(k**0.5)
        for part in np.array_split(np.argsort(first, kind="stable"), side):
            for own in np.array_split(part[np.argsort(second[part], kind="stable")], k // side):
                equal += len(own) * (first[own].max() + second[own].max())
        waste = [f"{total / pairs.sum() - 1:.1%}" for total in (padded, min(grids), equal)]
        print(
            f"  {k:3} buckets of source and target: padding {waste[0]} of the tokens; own widths "
            f"for each {waste[1]}, equal counts {waste[2]} ({seconds:.2f} s)"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("rows", "groups", "save", "pairs"))
    asked = parser.parse_args()
    lengths = draw_lengths(asked.rows)
    print(f"{asked.rows:,} rows")
    if asked.only in (None, "rows"):
        plan_rows(lengths, asked.rounds)
    if asked.only in (None, "groups"):
        plan_groups(lengths, asked.rounds)
    if asked.only in (None, "save"):
        save(lengths)
    if asked.only in (None, "pairs"):
        pair_buckets()


if __name__ == "__main__":
    main()
