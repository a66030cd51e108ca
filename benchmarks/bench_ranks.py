"""Epochs for 1,024 ranks: how even the work of a step is, and what the plan costs one rank.

All ranks are simulated: the costs of every batch of every rank are computed from the plan, and one
rank runs for real, in a process of its own, with its time and memory. ``--write`` puts the table
into docs/distributed.md, between its markers.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tightbatch as tb
from harness import Row, compare, one_thread, write_between
from tightbatch import _core
from workload import text_lengths

RANKS = 1024
SIZES = (1_000_000, 10_000_000)
DOCS = Path(__file__).parent.parent / "docs" / "distributed.md"
Array = NDArray[np.int64]


def uniform(count: int) -> Array:
    return np.random.default_rng(0).integers(1, 513, count)


def documents(count: int) -> Array:
    """Few long ones have most of the tokens."""
    drawn = np.random.default_rng(0).lognormal(6, 1.2, count).astype(np.int64)
    return np.clip(drawn, 1, 8192)


LENGTHS = {
    "text (log-normal, to 512)": text_lengths,
    "uniform, to 512": uniform,
    "documents (log-normal, to 8,192)": documents,
}
PLANS: dict[str, dict[str, Any]] = {
    "32 rows, padded": {"batch_size": 32},
    "16,384 tokens, padded": {"max_tokens": 16_384},
    "32 rows, padding-free": {"batch_size": 32, "padding_free": True},
    "16,384 tokens, packs": {"max_tokens": 16_384, "padding_free": True},
}
RANDOM = "32 rows, padded, random"


def costs_of_ranks(sampler: tb.LengthBatchSampler, lengths: Array) -> Array:
    """The tokens of every batch, [steps, ranks], padding included."""
    indices, _ = sampler._plan()
    steps = sampler._deal()
    begins, ends = steps.begins.reshape(-1, RANKS), steps.ends.reshape(-1, RANKS)
    costs = np.zeros(begins.shape, np.int64)
    divides = sampler.padding_free and sampler.batch_size is not None
    for step, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        if (begin[1:] != end[:-1]).any():  # some come again
            rows = [lengths[indices[b:e]] for b, e in zip(begin, end, strict=True)]
            costs[step] = [
                each.sum() if sampler.padding_free else len(each) * each.max() for each in rows
            ]
            continue
        own = lengths[indices[begin[0] : end[-1]]]
        starts = begin - begin[0]
        if divides:
            costs[step] = np.bincount(_core.share_rows(own, RANKS), own, RANKS)
        elif sampler.padding_free:
            costs[step] = np.add.reduceat(own, starts)
        else:
            costs[step] = np.maximum.reduceat(own, starts) * (end - begin)
    return costs


def cost_of(batch: list[int], lengths: Array, padding_free: bool) -> int:
    own = lengths[batch]
    return int(own.sum() if padding_free else len(own) * own.max())


def at_random(lengths: Array) -> dict[str, Any]:
    """Batches in random order, as torch's DistributedSampler deals them."""
    steps = len(lengths) // (32 * RANKS)
    order = np.random.default_rng(0).permutation(len(lengths))[: steps * 32 * RANKS]
    costs = 32 * lengths[order].reshape(steps, 32, RANKS).max(axis=1)
    return {"steps": steps, **evenness(costs, int(lengths[order].sum()))}


def evenness(costs: Array, real: int) -> dict[str, float]:
    """The padding, and how far the ranks of a step, and of an epoch, are from equal work."""
    of_step = costs.max(axis=1) / costs.mean(axis=1)
    of_rank = costs.sum(axis=0)
    return {
        "padding": 1 - real / float(costs.sum()),
        "step": float(costs.max(axis=1).sum() / costs.mean(axis=1).sum()),
        "worst": float(of_step.max()),
        "epoch": float(of_rank.max() / of_rank.mean()),
    }


def peak() -> float:
    """Megabytes of this process at most, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, plan: str, count: int) -> dict[str, Any]:
    """Run an epoch of one rank, then compute those of all."""
    lengths = LENGTHS[name](count)
    if plan == RANDOM:
        return at_random(lengths)
    begun, clock, options = peak(), time.perf_counter(), PLANS[plan]
    rank = RANKS // 2
    sampler = tb.LengthBatchSampler(lengths, num_replicas=RANKS, rank=rank, **options)
    batches = iter(sampler)
    batch = next(batches)
    planned = time.perf_counter() - clock
    own = [batch, *batches]
    clock, memory = time.perf_counter() - clock, peak() - begun
    sampler.set_epoch(0)
    costs = costs_of_ranks(sampler, lengths)
    assert (sampler.dropped, sampler.repeated) == (0, 0)
    assert [cost_of(each, lengths, sampler.padding_free) for each in own] == costs[:, rank].tolist()
    return {
        "steps": len(costs),
        **evenness(costs, int(lengths.sum())),
        "first": planned,
        "seconds": clock,
        "memory": memory,
    }


def in_a_process(*case: Any) -> dict[str, Any]:
    """Measure in a new process, whose memory is its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(case)], check=True, stdout=subprocess.PIPE
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def as_lines(sizes: tuple[int, ...]) -> list[str]:
    """The table: a line for each kind of lengths, plan and number of rows."""
    lines = [
        "| lengths | batches | rows | steps | padding | max / mean of a step | worst step "
        "| of an epoch | first batch | whole epoch | memory |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in LENGTHS:
        for plan in (RANDOM, *PLANS):
            for count in sizes:
                found = in_a_process(name, plan, count)
                cost = "| | | |"
                if "seconds" in found:
                    cost = (
                        f"| {found['first']:.2f} s | {found['seconds']:.2f} s "
                        f"| {found['memory']:,.0f} MB |"
                    )
                line = (
                    f"| {name} | {plan} | {count:,} | {found['steps']:,} "
                    f"| {found['padding']:.1%} | {found['step']:.3f} "
                    f"| {found['worst']:.2f} | {found['epoch']:.3f} {cost}"
                )
                print(line, flush=True)
                lines.append(line)
    return lines


def against_torch() -> list[Row]:
    """The order of an epoch for one rank of 1,024, beside that of torch's DistributedSampler."""
    one_thread()
    from torch.utils.data import DistributedSampler

    lengths = text_lengths(SIZES[0])
    theirs: Any = DistributedSampler(range(len(lengths)), num_replicas=RANKS, rank=RANKS // 2)

    def ours() -> list[list[int]]:
        sampler = tb.LengthBatchSampler(lengths, batch_size=32, num_replicas=RANKS, rank=RANKS // 2)
        return list(sampler)

    name = f"an epoch of one rank of {RANKS:,}, {SIZES[0]:,} rows"
    return compare(name, ours, {"torch DistributedSampler": (lambda: list(theirs), None)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write a row of docs/benchmarks.md to it")
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    parser.add_argument("--rows", type=int, help="of this many rows alone")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(*options.case)))
    elif options.json:
        options.json.write_text(json.dumps(against_torch(), indent=1) + "\n")
    else:
        lines = as_lines((options.rows,) if options.rows else SIZES)
        if options.write:
            write_between(DOCS, "ranks", "\n".join(lines))


if __name__ == "__main__":
    main()
