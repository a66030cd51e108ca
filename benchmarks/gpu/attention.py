"""Attention over several rows at once, by the boundaries, ids and blocks of tightbatch.

Each function takes q, k, v of shape [tokens, heads, size] and gives the same shape; attention is
causal within each row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import tightbatch as tb
from gpu.bench import DTYPES, Bench, draw_lengths

Tensor = torch.Tensor
# What each row alone may differ by from float32; of all others that is the yardstick.
ROUNDING = {"float32": 2e-5, "bfloat16": 3e-2, "float16": 4e-3}


def has_varlen() -> bool:
    """Whether torch has attention for variable lengths (since 2.10)."""
    try:
        import torch.nn.attention.varlen  # noqa: F401
    except ImportError:
        return False
    return True


def varlen(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int) -> Tensor:
    """torch.nn.attention.varlen: FlashAttention over the boundaries, in half types on CUDA."""
    from torch.nn.attention.varlen import varlen_attn

    # Before 2.11 it had is_causal, then a window.
    is_new = "window_size" in inspect.signature(varlen_attn).parameters
    causal: dict[str, Any] = {"window_size": (-1, 0)} if is_new else {"is_causal": True}
    return varlen_attn(q, k, v, bounds, bounds, longest, longest, **causal)


def nested(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int) -> Tensor:
    """scaled_dot_product_attention of jagged tensors, which also takes float32, on CUDA."""
    parts = [
        torch.nested.nested_tensor_from_jagged(
            x.contiguous(), bounds.long(), min_seqlen=1, max_seqlen=longest
        ).transpose(1, 2)
        for x in (q, k, v)
    ]
    done = F.scaled_dot_product_attention(*parts, is_causal=True)
    return done.transpose(1, 2).values()


def alone(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int) -> Tensor:
    """Each row by itself: what all others must equal. Slow, and runs on any device."""
    parts = []
    edges = bounds.tolist()
    for begin, end in pairwise(edges):
        if end > begin:
            row = (x[begin:end].transpose(0, 1)[None] for x in (q, k, v))
            parts.append(F.scaled_dot_product_attention(*row, is_causal=True)[0].transpose(0, 1))
    return torch.cat(parts)


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """One dense mask [tokens, tokens], as of tb.segment_mask."""
    parts = (x.transpose(0, 1)[None] for x in (q, k, v))
    return F.scaled_dot_product_attention(*parts, attn_mask=mask)[0].transpose(0, 1)


def make_blocks(lengths: Any, width: int, device: str) -> Any:
    """FlexAttention's BlockMask from tb.block_mask, and the rule from tb.segment_ids."""
    from torch.nn.attention.flex_attention import BlockMask

    ids = torch.from_numpy(tb.segment_ids(lengths, width=width)).reshape(-1).to(device)

    def rule(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        return (ids[q] == ids[kv]) & (q >= kv)

    blocks = (torch.from_numpy(x).to(device) for x in tb.block_mask(lengths, width=width))
    return BlockMask.from_kv_blocks(*blocks, mask_mod=rule, seq_lengths=(width, width))


def flex(q: Tensor, k: Tensor, v: Tensor, blocks: Any, call: Callable[..., Any]) -> Tensor:
    """flex_attention over these blocks; `call` is it, compiled or not."""
    parts = (x.transpose(0, 1)[None].contiguous() for x in (q, k, v))
    return call(*parts, block_mask=blocks)[0].transpose(0, 1)


def gradients(
    call: Callable[..., Tensor], inputs: list[Tensor], weight: Tensor
) -> tuple[Tensor, ...]:
    """The output, and the gradients of a weighted sum of it."""
    own = [x.detach().clone().requires_grad_() for x in inputs]
    out = call(*own)
    (out * weight).sum().backward()
    return (out.detach(), *(x.grad for x in own))


def outputs(call: Callable[..., Tensor], inputs: list[Tensor], _: Tensor) -> tuple[Tensor, ...]:
    """The output alone."""
    with torch.no_grad():
        return (call(*inputs),)


def differ(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], bounds: Tensor) -> float:
    """The largest difference, by the largest number of what was expected; padding apart."""
    end = int(bounds[-1])
    worst = 0.0
    for ours, theirs in zip(found, expected[: len(found)], strict=True):
        gap = (ours[:end].float() - theirs[:end].float()).abs().max()
        worst = max(worst, float(gap / theirs[:end].float().abs().max()))
    return worst


def section(bench: Bench) -> dict[str, Any]:
    """Equal to each row alone, outputs and gradients, in each type; and what each takes."""
    longest, heads, size = (24, 2, 16) if bench.is_tiny else (1024, 16, 64)
    width = 160 if bench.is_tiny else 16_384
    torch.manual_seed(0)
    lengths = draw_lengths(4096, longest, seed=3)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), width - 7, side="right"))]
    rows = [{"input_ids": np.zeros(n, np.int64)} for n in lengths.tolist()]
    # With a tail: the rest of a constant shape, which attends only to itself.
    collate = tb.PaddingFreeCollator(
        naming="varlen_attn", max_tokens=width, max_segments=len(rows) + 8, max_seqlen=longest
    )
    batch = collate(rows).to(bench.device, non_blocking=True)
    bounds, most = batch["cu_seq_q"], batch["max_q"]
    segments = np.diff(bounds.cpu().numpy())
    bench.note(
        "shape",
        {"rows": len(rows), "tokens": width, "real": int(lengths.sum()), "heads": heads,
         "size": size, "longest": longest},
    )  # fmt: skip
    base = [torch.randn(width, heads, size, device=bench.device) for _ in range(3)]
    weight = torch.randn(width, heads, size, device=bench.device)
    for name, dtype in DTYPES.items():
        inputs, part = [x.to(dtype) for x in base], weight.to(dtype)
        exact = [x.float() for x in inputs]
        sides = _sides(bench, dtype, segments, width, bounds, most)
        expected = gradients(sides["each row alone"], exact, part.float())
        rounding = ROUNDING[name]
        for kind, call in sides.items():
            # flex_attention has no gradients on CPUs.
            both = bench.is_cuda or kind != "flex_attention"
            run = gradients if both else outputs
            found = bench.attempt(
                f"{name}: {kind}",
                partial(_compare, bench, run, call, inputs, part, expected, bounds, rounding),
            )
            if kind == "each row alone" and found:
                rounding = max(4 * found["difference"], ROUNDING["float32"])
    bench.attempt("making the masks", lambda: _masks(bench, segments, width))
    return bench.found


def _sides(
    bench: Bench, dtype: torch.dtype, segments: Any, width: int, bounds: Tensor, most: int
) -> dict[str, Callable[..., Tensor]]:
    sides: dict[str, Callable[..., Tensor]] = {
        "each row alone": lambda q, k, v: alone(q, k, v, bounds, most)
    }
    ids = tb.segment_ids(segments, width=width)
    dense = torch.from_numpy(tb.segment_mask(ids, causal=True)).to(bench.device)
    sides["one dense mask"] = lambda q, k, v: masked(q, k, v, dense)
    if bench.is_cuda:
        sides["jagged tensors"] = lambda q, k, v: nested(q, k, v, bounds, most)
        if dtype != torch.float32 and has_varlen():
            sides["varlen_attn"] = lambda q, k, v: varlen(q, k, v, bounds, most)
    from torch.nn.attention.flex_attention import flex_attention

    call = torch.compile(flex_attention, dynamic=False) if bench.is_cuda else flex_attention
    blocks = make_blocks(segments, width, bench.device)
    sides["flex_attention"] = lambda q, k, v: flex(q, k, v, blocks, call)
    return sides


def _compare(
    bench: Bench,
    run: Callable[..., tuple[Tensor, ...]],
    call: Callable[..., Tensor],
    inputs: list[Tensor],
    weight: Tensor,
    expected: tuple[Tensor, ...],
    bounds: Tensor,
    rounding: float,
) -> dict[str, Any]:
    """How far it is from each row alone in float32, and how long it takes with gradients."""
    gap = differ(run(call, inputs, weight), expected, bounds)
    times = bench.seconds({"both": lambda: run(call, inputs, weight)}, rounds=10)
    return {
        "difference": gap,
        "equal": gap <= rounding,
        "gradients": run is gradients,
        **times["both"],
    }


def _masks(bench: Bench, segments: Any, width: int) -> dict[str, Any]:
    """The blocks from lengths, moved to the device, and torch's way there."""
    from torch.nn.attention.flex_attention import create_block_mask

    ids = torch.from_numpy(tb.segment_ids(segments, width=width)).reshape(-1).to(bench.device)

    def rule(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        return (ids[q] == ids[kv]) & (q >= kv)

    def theirs() -> Any:
        return create_block_mask(rule, 1, 1, width, width, device=bench.device)

    ours = make_blocks(segments, width, bench.device)
    expected = theirs()
    assert torch.equal(ours.to_dense(), expected.to_dense())
    return bench.seconds(
        {
            "tb.block_mask and the copy": lambda: make_blocks(segments, width, bench.device),
            "create_block_mask": theirs,
        }
    )
