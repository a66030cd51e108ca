"""torch.compile and the widths of batches: how many graphs, and what they cost."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch._dynamo import config
from torch._dynamo.utils import counters

import tightbatch as tb
from gpu.bench import Bench, draw_lengths, draw_rows
from gpu.model import Settings, Transformer, loss_of

BUCKETS = 4


def section(bench: Bench) -> dict[str, Any]:
    """An epoch of batches of one number of rows, padded to the longest, and to boundaries."""
    count, longest, size = (28, 24, 4) if bench.is_tiny else (4096, 512, 32)
    lengths = draw_lengths(count, longest)
    rows = draw_rows(lengths, 500)
    boundaries = tb.bucket_boundaries(
        lengths, 2 if bench.is_tiny else BUCKETS, pad_to_multiple_of=8
    ).tolist()
    bench.note("boundaries", boundaries)
    ways: dict[str, dict[str, Any]] = {
        "padded to the longest": {},
        "boundaries": {"boundaries": boundaries},
    }
    for name, options in ways.items():
        sampler = tb.LengthBatchSampler(
            lengths, batch_size=size, drop_last=True, boundaries=options.get("boundaries")
        )
        collate = tb.PadCollator(**options)
        batches = [collate([rows[n] for n in chosen]) for chosen in sampler]
        for dynamic in (False, None):
            how = "static shapes" if dynamic is False else "torch's choice"
            bench.attempt(
                f"graphs, {name}, {how}", lambda b=batches, d=dynamic: _count(bench, b, d)
            )
        ways[name] = {"batches": batches}
    if bench.is_cuda:
        for name, way in reversed(ways.items()):
            bench.attempt(f"epoch, {name}", lambda b=way["batches"]: _epoch(bench, b))
    return bench.found


def _model(bench: Bench, is_small: bool) -> Any:
    torch.manual_seed(0)
    settings = Settings(500, 512, 32, 2, 1) if is_small else Settings(500, 512, 256, 4, 2)
    return Transformer(settings).to(bench.device)


def _count(bench: Bench, batches: Any, dynamic: bool | None) -> dict[str, Any]:
    """Graphs that torch makes in an epoch; they are not compiled, only counted."""
    torch._dynamo.reset()
    counters.clear()
    model = _model(bench, is_small=True)
    step = torch.compile(loss_of, backend="eager", dynamic=dynamic)
    shapes = set()
    with config.patch(recompile_limit=10_000, accumulated_recompile_limit=10_000):
        for batch in batches:
            ids = batch["input_ids"].to(bench.device)
            shapes.add(tuple(ids.shape))
            with torch.no_grad():
                step(model, ids, batch["attention_mask"].to(bench.device))
    return {
        "batches": len(batches),
        "shapes": len(shapes),
        "graphs": counters["stats"]["unique_graphs"],
    }


def _epoch(bench: Bench, batches: Any) -> dict[str, Any]:
    """Compile by torch's own compiler with static shapes, forward and backward.

    Ends early when time runs out, and says how many steps there were. `uncompiled` is the same
    epoch without the compiler.
    """
    torch._dynamo.reset()
    counters.clear()
    model, end = _model(bench, is_small=False), bench.end - 0.45 * bench.left
    step = torch.compile(loss_of, dynamic=False)
    passes, done = [], 0
    with config.patch(recompile_limit=10_000, accumulated_recompile_limit=10_000):
        for number in range(2):
            bench.synchronize()
            begin = time.perf_counter()
            for place, batch in enumerate(batches[: done or len(batches)]):
                _train(bench, model, step, batch)
                if number == 0:
                    done = place + 1
                    if time.monotonic() > end:
                        break
            bench.synchronize()
            passes.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    for batch in batches[:done]:
        _train(bench, model, loss_of, batch)
    bench.synchronize()
    return {
        "steps": done,
        "of": len(batches),
        "graphs": counters["stats"]["unique_graphs"],
        "first_s": passes[0],
        "second_s": passes[1],
        "uncompiled_s": time.perf_counter() - begin,
    }


def _train(bench: Bench, model: Any, step: Any, batch: Any) -> None:
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.autocast(bench.device, torch.bfloat16):
        loss = step(model, ids.to(bench.device), mask.to(bench.device))
    loss.backward()
