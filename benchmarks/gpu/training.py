"""What training gains: a small Transformer under five ways of making batches, in three types.

Every way gets the same rows, the same weights to begin with, and about the same number of real
tokens in a step, so about as many steps. Ways take turns, a tenth of an epoch at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import tightbatch as tb
from gpu import attention
from gpu.bench import DTYPES, Bench, draw_lengths, draw_rows
from gpu.model import Settings, Transformer, attend_padded
from tightbatch.amp import GradScaler

Tensor = torch.Tensor
SLICES, WARM_UP = 10, 20
# The yardstick for final losses: the same way with rows in another order.
AGAIN = "padding to the longest, another order"


@dataclass
class Sizes:
    """How much there is to train on, and how large a step is."""

    rows: int
    longest: int
    tokens: int  # real ones in a step, about
    capacity: int  # of a pack
    model: Settings

    @classmethod
    def of(cls, bench: Bench) -> Sizes:
        if bench.is_tiny:
            return cls(72, 32, 96, 32, Settings(64, 32, 32, 2, 1))
        return cls(24_000, 512, 16_384, 2048, Settings(4096, 512, 512, 8, 6))


@dataclass
class Way:
    """One way to make batches: the rows of each, and the collator."""

    batches: list[list[int]]
    collate: Any
    is_flat: bool = False


@dataclass
class Run:
    """One way in training: its model, and what has been measured."""

    way: Way
    model: Transformer
    optimizer: torch.optim.Optimizer
    schedule: Any
    scaler: Any
    attend: Any
    done: int = 0
    seconds: list[float] = field(default_factory=list)
    real: list[int] = field(default_factory=list)
    positions: int = 0
    peak: int = 0


def make_ways(lengths: Any, sizes: Sizes) -> dict[str, Way]:
    """The ways; a step of each has about `sizes.tokens` real tokens."""
    rng = np.random.default_rng(0)
    size = max(round(sizes.tokens / float(lengths.mean())), 1)

    def at_random() -> list[list[int]]:
        order = rng.permutation(len(lengths))
        return [order[n : n + size].tolist() for n in range(0, len(order), size)]

    random, again = at_random(), at_random()
    uniform = tb.LengthBatchSampler(lengths, max_tokens=sizes.tokens)
    free = tb.LengthBatchSampler(lengths, max_tokens=sizes.tokens, padding_free=True)
    packs = list(tb.pack(lengths, sizes.capacity))
    many = sizes.tokens // sizes.capacity
    packed = [list(chain(*packs[n : n + many])) for n in range(0, len(packs), many)]
    static = tb.PaddingFreeCollator(
        max_tokens=sizes.tokens,
        max_segments=max(map(len, packed)) + -(-sizes.tokens // sizes.longest) + 1,
        max_seqlen=sizes.longest,
    )
    return {
        "fixed padding": Way(random, tb.PadCollator(width=sizes.longest)),
        "padding to the longest": Way(random, tb.PadCollator()),
        AGAIN: Way(again, tb.PadCollator()),
        "uniform-length batches": Way(list(uniform), tb.PadCollator()),
        "packed": Way(packed, static, is_flat=True),
        "padding-free": Way(list(free), tb.PaddingFreeCollator(), is_flat=True),
    }


def loss_of(run: Run, batch: Any) -> Tensor:
    """The mean loss of the next token, over all that have one."""
    ids = batch["input_ids"]
    if run.way.is_flat:
        bounds, longest = batch["cu_seq_lens_q"], batch["max_length_q"]

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return run.attend(q[0], k[0], v[0], bounds, longest)[None]

        logits = run.model(ids, batch["position_ids"], attend)[:, :-1]
        labels = batch["labels"][:, 1:]
    else:
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        logits = run.model(ids, places, attend_padded)[:, :-1]
        labels = ids[:, 1:].masked_fill(batch["attention_mask"][:, 1:] == 0, -100)
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)


def step(bench: Bench, run: Run, rows: Any, dtype: torch.dtype) -> None:
    """One step, from rows to weights, without waiting for the device."""
    samples = [rows[n] for n in run.way.batches[run.done % len(run.way.batches)]]
    batch = run.way.collate(samples)
    if bench.is_cuda:
        batch.pin_memory()
    batch.to(bench.device, non_blocking=True)
    run.positions += batch["input_ids"].numel()
    with torch.autocast(bench.device, dtype, enabled=dtype != torch.float32):
        loss = loss_of(run, batch)
    run.optimizer.zero_grad(set_to_none=True)
    if run.scaler is None:
        loss.backward()
        run.optimizer.step()
    else:
        run.scaler.scale(loss).backward()
        run.scaler.step(run.optimizer)
        run.scaler.update()
    run.schedule.step()
    run.done += 1


def start(bench: Bench, way: Way, weights: Any, dtype: torch.dtype, sizes: Sizes) -> Run:
    """A run from these weights."""
    model = Transformer(sizes.model).to(bench.device)
    model.load_state_dict(weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=bench.is_cuda or None)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min((n + 1) / WARM_UP, 1.0))
    scaler = GradScaler(bench.device) if dtype == torch.float16 else None
    return Run(way, model, optimizer, schedule, scaler, None)


def choose_attention(bench: Bench, dtype: torch.dtype) -> list[tuple[str, Callable[..., Tensor]]]:
    """What computes attention over boundaries here, the best first."""
    if not bench.is_cuda:
        return [("each row alone", attention.alone)]
    kinds: list[tuple[str, Callable[..., Tensor]]] = []
    if dtype != torch.float32 and attention.has_varlen():
        kinds.append(("varlen_attn", attention.varlen))
    return [*kinds, ("jagged tensors", attention.nested), ("each row alone", attention.alone)]


def warm_up(bench: Bench, way: Way, weights: Any, rows: Any, dtype: Any, sizes: Sizes) -> Any:
    """Some steps of a model that is thrown away; which attention has worked."""
    kinds = choose_attention(bench, dtype) if way.is_flat else [("causal", None)]
    for place, (name, attend) in enumerate(kinds):
        run = start(bench, way, weights, dtype, sizes)
        run.attend = attend
        try:
            for _ in range(1 if bench.is_tiny else 5):
                step(bench, run, rows, dtype)
            bench.synchronize()
        except (RuntimeError, ValueError, TypeError):
            if place == len(kinds) - 1:
                raise
        else:
            return name, attend
    raise AssertionError("unreachable: the last kind returns or raises")


def take_slice(bench: Bench, run: Run, rows: Any, lengths: Any, dtype: Any, end: int) -> None:
    """Train to this step, and measure."""
    bench.synchronize()
    own = 3 * sum(p.nbytes for p in run.model.parameters())  # weights and Adam's two moments
    before = 0
    if bench.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    chosen = run.way.batches[run.done : end]
    begin = time.perf_counter()
    while run.done < end:
        step(bench, run, rows, dtype)
    bench.synchronize()
    run.seconds.append(time.perf_counter() - begin)
    run.real.append(sum(int(lengths[batch].sum()) for batch in chosen))
    run.optimizer.zero_grad(set_to_none=True)
    # The first slice begins without Adam's moments: it makes them.
    if bench.is_cuda and len(run.seconds) > 1:
        run.peak = max(run.peak, torch.cuda.max_memory_allocated() - before + own)


@torch.no_grad()
def evaluate(bench: Bench, run: Run, held_out: Any) -> float:
    """The loss of rows that were not trained on, in float32 and padded, the same for all ways."""
    collate, total, count = tb.PadCollator(), 0.0, 0
    judge = Run(Way([], collate), run.model, run.optimizer, None, None, None)
    for n in range(0, len(held_out), 64):
        batch = collate(held_out[n : n + 64]).to(bench.device)
        weight = int(batch["attention_mask"].sum()) - len(batch["input_ids"])
        total += float(loss_of(judge, batch)) * weight
        count += weight
    return total / count


def compare_ways(bench: Bench, runs: dict[str, Run], rows: Any, dtype: Any) -> dict[str, Any]:
    """The loss of the same rows before training, as each way lays them out."""
    losses = {}
    count = next(iter(runs.values())).model.places.num_embeddings // 16
    for name, run in runs.items():
        batch = run.way.collate(rows[:count]).to(bench.device)
        with torch.no_grad(), torch.autocast(bench.device, dtype, enabled=dtype != torch.float32):
            losses[name] = float(loss_of(run, batch))
    gap = max(losses.values()) - min(losses.values())
    most = 1e-4 if dtype == torch.float32 else 2e-2
    return {"losses": losses, "equal": gap < most}


def train(bench: Bench, name: str, dtype: torch.dtype, share: float) -> dict[str, Any]:
    """All ways in one type, in turns, for at most this part of the time that is left."""
    end_time = time.monotonic() + share * bench.left
    sizes = Sizes.of(bench)
    lengths = draw_lengths(sizes.rows, sizes.longest)
    held = max(sizes.rows // 24, 8)
    rows = draw_rows(lengths, sizes.model.vocabulary)
    rows, held_out, lengths = rows[:-held], rows[-held:], lengths[:-held]
    torch.manual_seed(0)
    weights = Transformer(sizes.model).state_dict()
    runs, kinds = {}, {}
    for way_name, way in make_ways(lengths, sizes).items():
        kinds[way_name], attend = warm_up(bench, way, weights, rows, dtype, sizes)
        runs[way_name] = start(bench, way, weights, dtype, sizes)
        runs[way_name].attend = attend
    begin = next(iter(runs.values()))
    loss_before = evaluate(bench, begin, held_out)
    same = compare_ways(bench, runs, rows, dtype)
    slices = 0
    while slices < SLICES and (slices < 2 or time.monotonic() < end_time):
        slices += 1
        for run in runs.values():
            until = len(run.way.batches) * slices // SLICES
            take_slice(bench, run, rows, lengths, dtype, until)
    found = {
        way_name: {
            "attention": kinds[way_name],
            "tokens_per_s": median(n / s for n, s in zip(run.real, run.seconds, strict=True)),
            "best_tokens_per_s": max(n / s for n, s in zip(run.real, run.seconds, strict=True)),
            "epoch_s": sum(run.seconds) * SLICES / slices,
            "steps": len(run.way.batches),
            "steps_done": run.done,
            "real_tokens": sum(run.real),
            "padding": 1 - sum(run.real) / run.positions,
            "peak_bytes": run.peak or None,
            "loss": evaluate(bench, run, held_out),
            "skipped": 0 if run.scaler is None else run.scaler.skipped_steps,
        }
        for way_name, run in runs.items()
    }
    return {
        "slices": slices,
        "of_slices": SLICES,
        "loss_before": loss_before,
        "same_rows": same,
        "sizes": {"rows": len(rows), "longest": sizes.longest, "mean": float(lengths.mean()),
                  "tokens": sizes.tokens, "capacity": sizes.capacity, **vars(sizes.model)},
        "ways": found,
    }  # fmt: skip


def section(bench: Bench) -> dict[str, Any]:
    """The half types first: they are quick, and float32 gets what is left."""
    for name, share in (("bfloat16", 0.3), ("float16", 0.4), ("float32", 1.0)):
        bench.attempt(name, lambda n=name, s=share: train(bench, n, DTYPES[n], s))
        if bench.is_cuda:
            torch.cuda.empty_cache()
    return bench.found
