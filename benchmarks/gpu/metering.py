"""WasteMeter around batches on the device: exact counts, no waiting, and what it costs."""

from __future__ import annotations

import time
from typing import Any

import torch

import tightbatch as tb
from gpu.bench import Bench, draw_lengths, draw_rows


def section(bench: Bench) -> dict[str, Any]:
    """The waste of padded and padding-free batches, and the time of a loop with and without."""
    count, longest, size = (32, 32, 4) if bench.is_tiny else (8192, 1024, 64)
    lengths = draw_lengths(count, longest)
    rows = draw_rows(lengths, 1000)
    groups = [rows[n : n + size] for n in range(0, count, size)]
    collators = {"padded": tb.PadCollator(), "padding-free": tb.PaddingFreeCollator()}
    for name, collate in collators.items():
        batches = [collate(group).to(bench.device) for group in groups]
        bench.attempt(f"{name}: exact", lambda b=batches: _exact(bench, b))
        bench.attempt(f"{name}: loop", lambda b=batches: _loop(bench, b))
    bench.attempt("waiting time", lambda: _waits(bench, rows[:64]))
    return bench.found


def _exact(bench: Bench, batches: Any) -> dict[str, Any]:
    """Counts on the device, while torch refuses every synchronization: those always counted."""
    chosen = batches[:4]
    real, padded = 0, 0
    for batch in chosen:
        mask = batch.get("attention_mask")
        real += batch["input_ids"].numel() if mask is None else int(mask.sum())
        padded += batch["input_ids"].numel()
    meter = tb.WasteMeter(chosen)
    if bench.is_cuda:
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in meter:
            pass
    finally:
        if bench.is_cuda:
            torch.cuda.set_sync_debug_mode("default")
    found = meter.metrics()
    return {
        "waste": found["waste"],
        "expected": 1 - real / padded,
        "counted": found["counted"],
        "equal": found["counted"] == 4 and found["waste"] == 1 - real / padded,
    }


class Slow:
    """A loader that takes a time for each batch."""

    def __init__(self, batches: Any, seconds: float) -> None:
        self.batches, self.seconds = batches, seconds

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        for batch in self.batches:
            end = time.perf_counter() + self.seconds
            while time.perf_counter() < end:
                pass
            yield batch


def _loop(bench: Bench, batches: Any) -> dict[str, Any]:
    """Seconds of a loop whose steps take about a millisecond on a GPU."""
    size = 32 if bench.is_tiny else 2048
    weight = torch.randn(size, size, device=bench.device)

    def run(loader: Any) -> None:
        for batch in loader:
            out = weight @ weight
            out += batch["input_ids"].sum() * 0

    chosen = batches[:128]
    times = bench.seconds(
        {"without": lambda: run(chosen), "with": lambda: run(tb.WasteMeter(chosen))}, rounds=9
    )
    return {
        **{name: taken["median"] for name, taken in times.items()},
        "overhead": times["with"]["median"] / times["without"]["median"] - 1,
    }


def _waits(bench: Bench, rows: Any) -> dict[str, Any]:
    """What it reports where a loader is known to take 2 ms a batch, and the loop 4 ms."""
    collate = tb.PadCollator()
    size = max(len(rows) // 16, 2)
    batches = [
        collate(rows[n : n + size]).to(bench.device) for n in range(0, len(rows) - size, size)
    ]
    meter = tb.WasteMeter(Slow(batches, 0.002))
    for _ in meter:
        bench.synchronize()
        end = time.perf_counter() + 0.004
        while time.perf_counter() < end:
            pass
    found = meter.metrics()
    return {"wait_p50_ms": found["wait_p50"] * 1e3, "wait_share": found["wait_share"]}
