"""What the sections of benchmarks/cuda.py share: the device, sizes, timing, rows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Bench:
    """A run of one section: where, how large, until when, and what it has found so far."""

    device: str
    is_tiny: bool
    end: float  # of time.monotonic()
    report: Callable[[dict[str, Any]], None] = lambda found: None
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def is_cuda(self) -> bool:
        return self.device == "cuda"

    @property
    def left(self) -> float:
        """Seconds until the section should be over."""
        return self.end - time.monotonic()

    def note(self, name: str, value: Any) -> None:
        """Keep a result, and write all of them, so that what follows may fail."""
        self.found[name] = value
        self.report(self.found)

    def attempt(self, name: str, call: Callable[[], Any]) -> Any:
        """Keep what a part gives, or why it failed; parts for which no time is left are skipped."""
        if self.left <= 0:
            self.note(name, {"skipped": "no time was left"})
            return None
        try:
            value = call()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self.note(name, {"failed": text[:600]})
            return None
        self.note(name, value)
        return value

    def synchronize(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()

    def seconds(
        self, sides: dict[str, Callable[[], Any]], rounds: int = 15
    ) -> dict[str, dict[str, float]]:
        """Time calls in turns, each until the device is done: the least, and the median.

        Two rounds warm up. Every round calls each side once, so that a drift slows all alike.
        """
        rounds = 2 if self.is_tiny else rounds
        times: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(rounds + 2):
            for name, call in sides.items():
                self.synchronize()
                begin = time.perf_counter()
                call()
                self.synchronize()
                if number >= 2:
                    times[name].append(time.perf_counter() - begin)
        return {
            name: {"least": min(taken), "median": median(taken), "rounds": rounds}
            for name, taken in times.items()
        }


def open_bench(
    is_tiny: bool, seconds: float, report: Callable[[dict[str, Any]], None], device: str = ""
) -> Bench:
    """Begin a section."""
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Bench(chosen, is_tiny, time.monotonic() + seconds, report)


def about_machine(bench: Bench) -> dict[str, Any]:
    """The device and versions, and what the device copies and multiplies at best."""
    import platform

    import tightbatch

    found: dict[str, Any] = {
        "device": bench.device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "tightbatch": tightbatch.__version__ if hasattr(tightbatch, "__version__") else "",
        "cores": os.cpu_count(),
        "tf32": torch.get_float32_matmul_precision() != "highest",
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        found["processor"] = named[0].partition(":")[2].strip() if named else ""
    if bench.is_cuda:
        about = torch.cuda.get_device_properties(0)
        found["gpu"] = about.name
        found["gpu_memory"] = about.total_memory
        found["capability"] = f"{about.major}.{about.minor}"
        found["cuda"] = torch.version.cuda
    bench.note("machine", found)
    size = 64 if bench.is_tiny else 8192
    flat = torch.empty(size * size * (1 if bench.is_tiny else 16), device=bench.device)
    target = torch.empty_like(flat)
    sides: dict[str, Callable[[], Any]] = {"copy": lambda: target.copy_(flat)}
    for name, dtype in DTYPES.items():
        a = torch.randn(size, size, device=bench.device).to(dtype)
        sides[name] = lambda a=a: a @ a
    times = bench.seconds(sides, rounds=8)
    bench.note(
        "ceilings",
        {
            "copy_gb_s": 2 * flat.nbytes / times["copy"]["median"] / 1e9,
            **{f"{name}_tflop_s": 2 * size**3 / times[name]["median"] / 1e12 for name in DTYPES},
        },
    )
    return bench.found


def draw_lengths(count: int, longest: int, seed: int = 0) -> NDArray[np.int64]:
    """Log-normal lengths, as of texts, cut at the longest: a mean of about 0.3 of it."""
    rng = np.random.default_rng(seed)
    drawn = rng.lognormal(np.log(longest * 0.22), 0.7, count)
    return np.clip(drawn, 4, longest).astype(np.int64)


def draw_rows(lengths: NDArray[np.int64], vocabulary: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows that a model can learn: each token is followed by one of eight, the first most often.

    A Markov chain for all rows at once. The loss cannot fall below its entropy, 1.6 nats.
    """
    rng = np.random.default_rng(seed)
    follows = rng.integers(0, vocabulary, (vocabulary, 8))
    weights = 0.7 ** np.arange(8)
    edges = np.cumsum(weights / weights.sum())
    width, count = int(lengths.max()), len(lengths)
    tokens = np.empty((width, count), np.int64)
    tokens[0] = rng.integers(0, vocabulary, count)
    for place in range(1, width):
        chosen = np.minimum(np.searchsorted(edges, rng.random(count)), 7)
        tokens[place] = follows[tokens[place - 1], chosen]
    rows = np.ascontiguousarray(tokens.T)
    return [{"input_ids": row[:n]} for row, n in zip(rows, lengths.tolist(), strict=True)]
