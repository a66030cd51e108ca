"""Half-precision batches on the device, CUDA autocast, and the loss scalers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

import tightbatch as tb
from gpu.bench import Bench, draw_lengths
from tightbatch.amp import Amp, GradScaler

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
KEYS = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")


def section(bench: Bench) -> dict[str, Any]:
    """Rounded as the GPU rounds, in half the bytes; trained as torch's own scaler trains."""
    count, longest, width = (12, 16, 8) if bench.is_tiny else (512, 1500, 80)
    rng = np.random.default_rng(0)
    lengths = draw_lengths(count, longest)
    rows = [rng.standard_normal((n, width)).astype(np.float32) for n in lengths.tolist()]
    samples = [{"features": row, "labels": n % 7} for n, row in enumerate(rows)]
    hard = rows[0].copy()
    hard[:4, 0] = (65504.0, 6e-8, -1e-3, 1 + 2**-9)
    hostile = [{"features": hard, "labels": 0}, *samples[1:]]
    for name, half in HALVES.items():
        bench.attempt(f"{name}: batches", lambda h=half: _batches(bench, hostile, h))
        bench.attempt(f"{name}: Amp", lambda h=half: _amp(bench, samples, h))
    bench.attempt("scalers", lambda: _scalers(bench))
    return bench.found


def _batches(bench: Bench, samples: Any, half: torch.dtype) -> dict[str, Any]:
    """A half batch made on the CPU and moved, against a float32 one moved and converted."""
    full_collate, half_collate = tb.PadCollator(), tb.PadCollator(dtype=half)
    full, ours = full_collate(samples), half_collate(samples)
    if bench.is_cuda:
        full.pin_memory()
        ours.pin_memory()
    there = full["features"].to(bench.device).to(half)
    equal = torch.equal(there, ours["features"].to(bench.device))
    features = ours["features"]
    times = bench.seconds(
        {
            "float32, converted there": lambda: (
                full["features"].to(bench.device, non_blocking=True).to(half)
            ),
            "half": lambda: features.to(bench.device, non_blocking=True),
        }
    )
    made = bench.seconds(
        {"float32": lambda: full_collate(samples), "half": lambda: half_collate(samples)}
    )
    return {
        "equal": equal,
        "bytes": features.nbytes,
        "copy_us": {name: taken["median"] * 1e6 for name, taken in times.items()},
        "collate_us": {name: taken["median"] * 1e6 for name, taken in made.items()},
    }


def _layers(width: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, 7))


def _amp(bench: Bench, samples: Any, half: torch.dtype) -> dict[str, Any]:
    """tightbatch.amp's step, from half-precision batches: the loss falls as in float32."""
    ends = {}
    for dtype in (torch.float32, half):
        batch = tb.PadCollator(dtype=dtype)(samples).to(bench.device)
        x, labels = batch["features"], batch["labels"]
        model = _layers(x.shape[-1]).to(bench.device)
        amp = Amp(model, torch.optim.AdamW(model.parameters(), lr=1e-2), dtype=dtype)
        losses = []
        for _ in range(5 if bench.is_tiny else 60):
            with amp.autocast():
                logits = model(x).mean(dim=1)
                loss = nn.functional.cross_entropy(logits.float(), labels)
            amp.step(loss)
            losses.append(loss.detach())
        ends[str(dtype).removeprefix("torch.")] = [float(losses[0]), float(losses[-1])]
        del batch
    first, last = ends[str(half).removeprefix("torch.")]
    full = ends["float32"][1]
    return {"losses": ends, "equal": math.isclose(last, full, rel_tol=0.05) and last < first}


def _scalers(bench: Bench) -> dict[str, Any]:
    """Ours and torch's under autocast to float16: the same scales, skips and weights."""
    ends = []
    for kind in (torch.amp.GradScaler, GradScaler):
        model = _layers(16).to(bench.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        scaler = kind(bench.device, growth_interval=3)
        scales = []
        generator = torch.Generator().manual_seed(1)
        for step in range(20):
            x = torch.randn(32, 16, generator=generator).to(bench.device)
            optimizer.zero_grad()
            with torch.autocast(bench.device, torch.float16):
                loss = model(x).float().square().mean()
            scaler.scale(loss).backward()
            if step % 6 == 4:  # as of an overflow: the loss itself is finite
                model[0].bias.grad[0] = math.inf
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
        state = {key: scaler.state_dict()[key] for key in KEYS}
        skipped = getattr(scaler, "skipped_steps", None)  # torch's does not count them
        ends.append((scales, state, [p.detach().cpu() for p in model.parameters()], skipped))
    same = ends[0][:2] == ends[1][:2] and all(map(torch.equal, ends[0][2], ends[1][2]))
    return {"equal": same, "scales": ends[1][0], "skipped": ends[1][3]}
