"""Pinned memory and asynchronous copies of our batches, and what the GPU waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

import tightbatch as tb
from gpu.bench import Bench, draw_lengths, draw_rows

COLLATORS = {
    "padded": lambda: tb.PadCollator(),
    "padding-free": lambda: tb.PaddingFreeCollator(),
}


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of a batch, nested ones too."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


def section(bench: Bench) -> dict[str, Any]:
    """Pinned by a loader, moved without waiting, equal to a plain copy; speed; gaps."""
    count, longest = (24, 32) if bench.is_tiny else (4096, 2048)
    rows = draw_rows(draw_lengths(count, longest), 1000)
    for name, make in COLLATORS.items():
        bench.attempt(f"{name}: pinned and equal", lambda m=make: _pinned(bench, rows, m()))
        bench.attempt(f"{name}: copies", lambda m=make: _copies(bench, rows, m()))
    bench.attempt("gaps", lambda: _gaps(bench, rows))
    return bench.found


def _loader(bench: Bench, rows: Any, collate: Any, workers: int = 0, size: int = 64) -> Any:
    size = 4 if bench.is_tiny else size
    return DataLoader(
        rows,
        batch_size=size,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=bench.is_cuda,
    )


def _pinned(bench: Bench, rows: Any, collate: Any) -> dict[str, Any]:
    """From a loader with and without workers, and by Batch.pin_memory."""
    found: dict[str, Any] = {}
    for workers in (0,) if bench.is_tiny else (0, 2):
        batch = next(iter(_loader(bench, rows[:256], collate, workers)))
        assert type(batch) is tb.Batch, type(batch)
        plain = [x.clone() for x in tensors(batch)]
        found[f"pinned by a loader with {workers} workers"] = all(
            x.is_pinned() for x in tensors(batch)
        )
        own = collate(rows[:64])
        if bench.is_cuda:
            own.pin_memory()
        found["pinned by pin_memory()"] = all(x.is_pinned() for x in tensors(own))
        found["moved without a wait"] = _moves_alone(bench, batch)
        moved = [x.cpu() for x in tensors(batch)]
        found["equal"] = all(map(torch.equal, plain, moved))
    return found


def _moves_alone(bench: Bench, batch: Any) -> bool:
    """Whether torch saw no synchronization."""
    if not bench.is_cuda:
        batch.to(bench.device, non_blocking=True)
        return False
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch.to("cuda", non_blocking=True)
    except RuntimeError:
        return False
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    return True


def _copies(bench: Bench, rows: Any, collate: Any) -> dict[str, Any]:
    """Seconds of a copy, pageable and pinned, and of its call alone, without waiting."""
    pageable = collate(rows[: len(rows) // 4])
    pinned = tb.Batch(pageable)
    if bench.is_cuda:
        pinned.pin_memory()
    size = sum(x.nbytes for x in tensors(pageable))

    def call_alone() -> float:
        bench.synchronize()
        begin = time.perf_counter()
        tb.Batch(pinned).to(bench.device, non_blocking=True)
        return time.perf_counter() - begin

    times = bench.seconds(
        {
            "pageable": lambda: tb.Batch(pageable).to(bench.device),
            "pinned": lambda: tb.Batch(pinned).to(bench.device, non_blocking=True),
            "pinning": lambda: (
                [x.pin_memory() for x in tensors(pageable)] if bench.is_cuda else None
            ),
        }
    )
    calls = sorted(call_alone() for _ in range(9))
    return {
        "bytes": size,
        **{f"{name}_gb_s": size / taken["median"] / 1e9 for name, taken in times.items()},
        "call_us": calls[4] * 1e6,
    }


def _gaps(bench: Bench, rows: Any) -> dict[str, Any]:
    """Part of the time that the GPU computes nothing between the steps of a loop.

    Each step multiplies matrices for some milliseconds, measured by CUDA events on the GPU. The
    three loops differ in how the next batch comes: copied when it is needed from memory that is
    not pinned, from pinned memory without waiting, and with two worker processes.
    """
    width = 32 if bench.is_tiny else 4096
    weight = torch.randn(width, width, device=bench.device)
    repeats = 1 if bench.is_tiny else 2
    found = {}
    loops = {"pageable": (False, 0), "pinned, non_blocking": (True, 0)}
    if not bench.is_tiny:
        loops["pinned, non_blocking, 2 workers"] = (True, 2)
    for name, (is_pinned, workers) in loops.items():
        shares = [
            _share_of_gaps(bench, rows, weight, repeats, is_pinned, workers) for _ in range(3)
        ]
        found[name] = {"least": min(shares), "median": sorted(shares)[1]}
    return found


def _share_of_gaps(
    bench: Bench, rows: Any, weight: torch.Tensor, repeats: int, is_pinned: bool, workers: int
) -> float:
    loader = _loader(bench, rows[:2048], tb.PadCollator(), workers)
    if not is_pinned:
        loader = DataLoader(rows[:2048], batch_size=loader.batch_size, collate_fn=tb.PadCollator())
    spans, clock = [], time.perf_counter
    events: list[tuple[Any, Any]] = []
    for step, batch in enumerate(loader):
        batch.to(bench.device, non_blocking=is_pinned)
        begin = clock()
        if bench.is_cuda:
            pair = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))
            pair[0].record()
        out = weight
        for _ in range(repeats):
            out = (out @ weight) * 1e-2
        out += batch["input_ids"].sum() * 0  # the step needs its batch
        if bench.is_cuda:
            pair[1].record()
            events.append(pair)
        else:
            spans.append((begin, clock()))
        if step == 3:  # those before it warm up
            bench.synchronize()
            events, spans = events[-1:], spans[-1:]
    bench.synchronize()
    if bench.is_cuda:
        total = events[0][0].elapsed_time(events[-1][1])
        busy = sum(begin.elapsed_time(end) for begin, end in events)
    else:
        total = spans[-1][1] - spans[0][0]
        busy = sum(end - begin for begin, end in spans)
    return 1 - busy / total
