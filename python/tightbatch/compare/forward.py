"""A batch through the model, whichever way its rows lie; and what of it is work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tightbatch.compare.lines import Lines, Sight

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ATTENTION = "tightbatch_sequences"


@dataclass(frozen=True)
class Work:
    """What one batch makes the model compute."""

    real: int  # tokens
    padded: int  # tokens, the real ones included
    pairs: int  # of a query and a key, in one head of one layer
    shape: tuple[int, ...]  # of the tokens


def split_labels(batch: Any) -> tuple[Any, torch.Tensor]:
    """Model inputs and labels; transformers' collator renames ``label`` to ``labels``."""
    if isinstance(batch, Lines):
        return batch, batch.labels
    inputs = dict(batch)
    return inputs, inputs.pop("labels" if "labels" in inputs else "label")


def work(batch: Any) -> Work:
    """Count a batch, still on the CPU."""
    if isinstance(batch, Lines):
        ids = batch.inputs["input_ids"]
        real, pairs = batch.rows["attention_mask"].sum(), batch.pairs
    else:
        ids = batch["input_ids"]
        real, pairs = batch["attention_mask"].sum(), ids.numel() * ids.shape[1]
    return Work(int(real), ids.numel(), pairs, tuple(ids.shape))


def sight(model: PreTrainedModel) -> Sight:
    """What the model's layers let a token see."""
    base, config = model.base_model, model.config
    causal = any(getattr(module, "is_causal", False) for module in base.modules())
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if window is None or (kinds is not None and "sliding_attention" not in kinds):
        return Sight(causal)
    # Without causality transformers counts the tokens on each side, the query not among them.
    return Sight(causal, window + (not causal))


def attend_sequences(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention for variable lengths: each sequence of the line by itself, [1, heads, total, d].

    What FlashAttention's kernels for variable lengths compute, for any device and type: the work
    is the sum of the sequences' squares, where a mask over the line would make it the square of
    the sum.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    import tightbatch as tb

    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    lengths = cu_seq_lens_q.diff().tolist()
    parts = []
    for q, k, v in zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True):
        mask, length = None, q.shape[2]
        if sliding_window is not None and length > sliding_window:
            seen = tb.segment_mask([1] * length, causal=causal, window=sliding_window)
            mask = torch.from_numpy(seen).to(q.device)
        parts.append(
            scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=causal and mask is None,
                scale=scaling,
                enable_gqa=k.shape[1] != q.shape[1],
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


@contextmanager
def attention(model: PreTrainedModel, layout: str) -> Iterator[None]:
    """The attention that a layout needs: its own for a line, else the model's."""
    if layout != "line":
        yield
        return
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend_sequences)
    usual = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    if model.config._attn_implementation != ATTENTION:
        raise NotImplementedError(f"the attention of {type(model).__name__} cannot be replaced")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def layer_inputs(model: PreTrainedModel, batch: Lines) -> dict[str, Any]:
    """The arguments of the model without its head; it makes no mask where it is given one."""
    import torch

    inputs = dict(batch.inputs)
    masks = {"full_attention": inputs.pop("attention_mask", None)}
    if masks["full_attention"] is None:
        return inputs
    if "windowed_mask" in inputs:
        masks["sliding_attention"] = inputs.pop("windowed_mask")
        if getattr(model.config, "layer_types", None) is None:  # all layers are of one kind
            del masks["full_attention"]
    if model.config._attn_implementation == "eager":  # it adds the mask to the scores
        lowest = torch.finfo(model.dtype).min
        masks = {
            name: torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, lowest)
            for name, mask in masks.items()
        }
    inputs["attention_mask"] = masks if len(masks) > 1 else next(iter(masks.values()))
    return inputs


def logits(model: PreTrainedModel, inputs: Any) -> torch.Tensor:
    """The logits of a batch's rows, [rows, labels].

    Of lines, the layers read the line and the head reads rows: on the way in the line takes the
    rectangle's place, on the way out the rectangle of hidden states takes the line's. So the
    head is the model's own, however it pools.
    """
    if not isinstance(inputs, Lines):
        found: torch.Tensor = model(**inputs).logits
        return found
    # It has all fields that heads of encoders and of decoders look at.
    from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

    base: Any = model.base_model

    def read_line(*_: Any) -> tuple[tuple[()], dict[str, Any]]:
        return (), {**layer_inputs(model, inputs), "return_dict": True}

    def give_rows(*found: Any) -> Any:
        hidden = found[-1][0]
        rows = hidden.flatten(0, 1)[inputs.places]
        pooler = getattr(base, "pooler", None)
        pooled = None if pooler is None else pooler(rows)
        if pooled is not None and pooled.dim() != 2:
            raise NotImplementedError(f"{type(model).__name__} pools in a way of its own")
        return BaseModelOutputWithPoolingAndCrossAttentions(rows, pooled)

    handles = [
        base.register_forward_pre_hook(read_line, with_kwargs=True),
        base.register_forward_hook(give_rows),
    ]
    try:
        found = model(**inputs.rows).logits
    finally:
        for handle in handles:
            handle.remove()
    return found
