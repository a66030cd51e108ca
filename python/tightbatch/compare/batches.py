"""The ways of padding and batching: the batches of each, and the model's logits for them.

All use the same rows. They differ in which rows share a batch, in its width, in whether several
rows share a line of it (packed, padding-free), and in whose code makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tightbatch.compare.model import Row, Setup, first_position

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from tightbatch.amp import Precision
    from tightbatch.sampling.fairness import Fairness

ATTENTION = "tightbatch_segments"
# Settings of a plan that `fairness` does not differ by.
PLAN: dict[str, Any] = {
    **dict.fromkeys(("max_length", "shuffle_window", "quadratic_length", "pool_size")),
    "batch_size_multiple": None,
    **dict.fromkeys(("shuffle", "longest_first", "drop_last"), False),
    "balance": 1,
    "ranks": 1,
    "overlong": "error",
    "seed": 0,
}


@dataclass(frozen=True)
class Strategy:
    """One way of padding and batching: a row of the table."""

    key: str  # in JSON
    name: str
    order: str  # "random"; "length": tb.LengthBatchSampler; "packs"; "transformers"
    collator: str  # "tightbatch" or "transformers"
    precision: Precision
    fixed: bool = False  # every batch is as wide as the widest row
    buckets: bool = False  # every batch is as wide as one of a few boundaries
    layout: str = "rows"  # "packs" of one width, or one "line" for all rows of a batch


def strategies(single: Precision, half: Precision) -> list[Strategy]:
    """All of them, in the table's order."""
    ours, theirs = "tightbatch", "transformers"
    return [
        Strategy("fixed", "fixed padding", "random", ours, single, fixed=True),
        Strategy("dynamic", "dynamic padding", "random", ours, single),
        Strategy("uniform", "uniform-length batching", "length", ours, single),
        Strategy("buckets", "optimal buckets", "length", ours, single, buckets=True),
        Strategy("packed", "packed", "packs", ours, single, layout="packs"),
        Strategy("padding_free", "padding-free", "length", ours, single, layout="line"),
        Strategy("uniform_transformers", "same batches, HF collator", "length", theirs, single),
        Strategy("transformers", "HF sampler, HF collator", theirs, theirs, single),
        Strategy("fixed_amp", f"fixed padding, {half.dtype}", "random", ours, half, fixed=True),
        Strategy("uniform_amp", f"uniform-length, {half.dtype}", "length", ours, half),
    ]


@dataclass(frozen=True)
class Lines:
    """A batch of lines, each of several rows one after another."""

    inputs: dict[str, Any]  # for the layers: tokens, positions, and what separates the rows
    rows: dict[str, torch.Tensor]  # for the head: the same tokens padded, [rows, width]
    places: torch.Tensor  # [rows, width]: the position of each of these among the lines' tokens
    labels: torch.Tensor  # [rows]
    pairs: int  # of a query and a key that attention computes, in one head of one layer

    def to(self, device: str) -> Lines:
        """The batch on a device."""

        def moved(tensors: dict[str, Any]) -> dict[str, Any]:
            return {k: v.to(device) if hasattr(v, "to") else v for k, v in tensors.items()}

        places, labels = self.places.to(device), self.labels.to(device)
        return Lines(moved(self.inputs), moved(self.rows), places, labels, self.pairs)


def unmasked(inputs: Any) -> Any:
    """The inputs with masks that hide nothing."""
    import torch

    if isinstance(inputs, Lines):
        return replace(inputs, inputs=unmasked(inputs.inputs))
    return {k: torch.ones_like(v) if k.endswith("_mask") else v for k, v in inputs.items()}


def places_of(begins: Any, lengths: Any) -> torch.Tensor:
    """Where each row's tokens are, int64 [rows, longest]; at padding, the row's last token."""
    import torch

    columns = np.arange(int(lengths.max()))
    return torch.from_numpy(begins[:, None] + np.minimum(columns, lengths[:, None] - 1))


class PackBatches:
    """Batches of packs: lines of one width, padded where rows do not fill them.

    Each iteration plans an epoch, in a new order.
    """

    def __init__(self, setup: Setup, rows: list[Row], pad: Any) -> None:
        import tightbatch as tb

        self.setup, self.rows, self.pad, self.epoch = setup, rows, pad, 0
        self.tokens = tb.Ragged.from_sequences([row["input_ids"] for row in rows])
        self.causal, self.window = sight(setup.model)

    def __iter__(self) -> Iterator[Lines]:
        """One epoch; the next iteration is the next."""
        packing = self.pack(self.setup.settings.seed + self.epoch)
        self.epoch += 1
        packed, segments = packing.apply(self.tokens), packing.seq_lengths
        for first in range(0, len(packing), self.setup.packs):
            part = slice(first, min(first + self.setup.packs, len(packing)))
            begin, end = packing.offsets[[part.start, part.stop]]
            yield self.batch(packed[part], segments[part], packing.indices[begin:end])

    def pack(self, seed: int) -> Any:
        """Plan an epoch."""
        import tightbatch as tb

        return tb.pack(self.tokens.lengths, self.setup.pack_width, seed=seed)

    def batch(self, packs: Any, segments: Any, members: Any) -> Lines:
        """One batch; `members` are its rows in the packs' order."""
        import torch

        import tightbatch as tb

        width, head = self.setup.pack_width, self.pad([self.rows[i] for i in members])
        ids = tb.segment_ids(segments, width)
        taken, lengths = np.flatnonzero(ids), self.tokens.lengths[members]
        begins = taken[np.cumsum(lengths) - lengths]
        positions = np.zeros(ids.shape, np.int64)
        positions.flat[taken] = taken - np.repeat(begins, lengths)
        tokens = packs.pad(width=width, padding_value=self.pad.padding_value["input_ids"])
        inputs = {
            "input_ids": torch.from_numpy(tokens),
            "position_ids": torch.from_numpy(positions) + first_position(self.setup.model),
        }
        masks = {"attention_mask": None, "windowed_mask": self.window}
        for name, window in masks.items():
            if name == "attention_mask" or window is not None:
                mask: Any = tb.segment_mask(ids, causal=self.causal, window=window)
                inputs[name] = torch.from_numpy(mask)[:, None]
        rows = {name: head[name] for name in ("input_ids", "attention_mask")}
        places, pairs = places_of(begins, lengths), len(packs) * width**2
        return Lines(inputs, rows, places, split_labels(head)[1], pairs)


def collator(strategy: Strategy, setup: Setup) -> Callable[[list[Row]], Any]:
    """The strategy's `collate_fn`."""
    from transformers import DataCollatorWithPadding

    import tightbatch as tb

    tokenizer, multiple = setup.tokenizer, setup.settings.pad_to_multiple_of
    if strategy.collator == "transformers":
        return DataCollatorWithPadding(tokenizer, pad_to_multiple_of=multiple)
    if strategy.layout == "rows":
        return tb.PadCollator.from_tokenizer(
            tokenizer,
            width=setup.width if strategy.fixed else None,
            boundaries=setup.boundaries if strategy.buckets else None,
            pad_to_multiple_of=multiple,
        )
    # The head pools from the first token, or up to the last.
    pad = tb.PadCollator.from_tokenizer(tokenizer, padding_side="right")
    if strategy.layout == "packs":
        return pad
    flatten = tb.PaddingFreeCollator(
        padding_value={"input_ids": tokenizer.pad_token_id},
        pad_to_multiple_of=multiple,
        position_ids_start=first_position(setup.model),
        return_labels=False,
    )

    def collate(rows: list[Row]) -> Lines:
        head, line = pad(rows), flatten(rows)
        labels = line.pop("label")[: len(rows)]  # the line's padding has labels of its own
        del line["seq_idx"]  # for state-space models
        lengths = np.array([len(row["input_ids"]) for row in rows])
        segments = line["cu_seq_lens_q"].diff().long()  # the line's padding is one of them
        inputs = {name: head[name] for name in ("input_ids", "attention_mask")}
        places = places_of(np.cumsum(lengths) - lengths, lengths)
        return Lines(dict(line), inputs, places, labels, int((segments * segments).sum()))

    return collate


def loader(strategy: Strategy, rows: list[Row], setup: Setup) -> Iterable[Any]:
    """The strategy's batches: planning happens here and when they are iterated.

    Strategies with the same `order` get the same batches in the same order, except those whose
    batches are filled by tokens.
    """
    import torch
    from torch.utils.data import DataLoader
    from transformers.trainer_pt_utils import LengthGroupedSampler

    import tightbatch as tb

    settings, collate = setup.settings, collator(strategy, setup)
    if strategy.order == "packs":
        return PackBatches(setup, rows, collate)
    data: Any = rows  # a list is a map-style dataset, which torch's annotations do not know
    generator = torch.Generator().manual_seed(settings.seed)
    lengths = [len(row["input_ids"]) for row in rows]
    if strategy.order != "length":
        sampler: Any = None
        if strategy.order == "transformers":
            sampler = LengthGroupedSampler(
                settings.batch_size, lengths=lengths, generator=generator
            )
        return DataLoader(
            data,
            batch_size=settings.batch_size,
            shuffle=sampler is None,
            sampler=sampler,
            generator=generator if sampler is None else None,
            collate_fn=collate,
        )
    in_line = strategy.layout == "line"
    plan: Any = tb.LengthBatchSampler(
        lengths,
        batch_size=None if in_line else settings.batch_size,
        max_tokens=setup.batch_tokens if in_line else None,
        padding_free=in_line,
        shuffle=True,
        shuffle_window="auto" if in_line else settings.shuffle_window,
        seed=settings.seed,
    )
    return DataLoader(data, batch_sampler=plan, collate_fn=collate)


def fairness(strategy: Strategy, setup: Setup) -> Fairness:
    """How far the strategy's first epoch is from random batches, as `fairness` of a plan tells."""
    from tightbatch.sampling.fairness import measure

    if strategy.order == "packs":
        packs = PackBatches(setup, setup.training, None)
        plan, tokens = packs.pack(setup.settings.seed), setup.packs * setup.pack_width
        indices, cuts = plan.indices, plan.offsets[:: setup.packs]
        offsets = np.append(cuts[cuts < len(indices)], len(indices))
    else:
        batches: Any = loader(strategy, setup.training, setup)
        number = {id(row): i for i, row in enumerate(setup.training)}
        # Iterated as in training: the loader draws from the generator before its sampler does.
        batches.collate_fn = lambda some: [number[id(row)] for row in some]
        rows = list(batches)
        indices, tokens = np.concatenate(rows), setup.batch_tokens
        offsets = np.cumsum([0, *map(len, rows)])
    in_rows = strategy.layout == "rows"
    caps = {
        "batch_size": setup.settings.batch_size if in_rows else None,
        "max_tokens": None if in_rows else tokens,
        "padding_free": not in_rows,
        "pad_to_multiple_of": setup.settings.pad_to_multiple_of if in_rows else None,
    }
    lengths = np.array([len(row["input_ids"]) for row in setup.training])
    return measure("compare", lengths, {**PLAN, **caps}, indices, offsets, 1)


def split_labels(batch: Any) -> tuple[Any, torch.Tensor]:
    """Model inputs and labels; transformers' collator renames ``label`` to ``labels``."""
    if isinstance(batch, Lines):
        return batch, batch.labels
    inputs = dict(batch)
    return inputs, inputs.pop("labels" if "labels" in inputs else "label")


def work(batch: Any) -> tuple[int, tuple[int, ...], int]:
    """Real tokens, shape and attention pairs of a batch, still on the CPU."""
    if isinstance(batch, Lines):
        ids, real, pairs = batch.inputs["input_ids"], batch.rows["attention_mask"], batch.pairs
    else:
        ids, real = batch["input_ids"], batch["attention_mask"]
        pairs = ids.numel() * ids.shape[1]
    return int(real.sum()), tuple(ids.shape), pairs


def sight(model: PreTrainedModel) -> tuple[bool, int | None]:
    """What a token sees in the layers: `causal` and `window` of `tb.segment_mask`."""
    base, config = model.base_model, model.config
    causal = any(getattr(module, "is_causal", False) for module in base.modules())
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if window is None or (kinds is not None and "sliding_attention" not in kinds):
        return causal, None
    # Without causality transformers counts the tokens on each side, the query not among them.
    return causal, window + (not causal)


def attend_segments(
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
    """Attention for variable lengths: each segment of the line by itself, [1, heads, total, d].

    It computes the same as FlashAttention's kernels for variable lengths, on any device and in any
    type. The work is the sum of the squares of the segments' lengths; with a mask over the line it
    would be the square of the sum.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    import tightbatch as tb

    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    lengths = cu_seq_lens_q.diff().tolist()
    out = []
    for q, k, v in zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True):
        mask, length = None, q.shape[2]
        if sliding_window is not None and length > sliding_window:
            seen = tb.segment_mask([1] * length, causal=causal, window=sliding_window)
            mask = torch.from_numpy(seen).to(q.device)
        out.append(
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
    return torch.cat(out, dim=2).transpose(1, 2).contiguous(), None


@contextmanager
def attention(model: PreTrainedModel, layout: str) -> Iterator[None]:
    """The attention that a layout needs: for a line `attend_segments`, else the model's own."""
    if layout != "line":
        yield
        return
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend_segments)
    usual = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    if model.config._attn_implementation != ATTENTION:
        raise NotImplementedError(f"the attention of {type(model).__name__} cannot be replaced")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def layer_inputs(model: PreTrainedModel, batch: Lines) -> dict[str, Any]:
    """The arguments of the model without its head; with a given mask it does not make its own."""
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
        masked = torch.finfo(model.dtype).min / 4  # as attention_mask(additive=True)
        masks = {
            name: torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, masked)
            for name, mask in masks.items()
        }
    inputs["attention_mask"] = masks if len(masks) > 1 else next(iter(masks.values()))
    return inputs


def logits(model: PreTrainedModel, inputs: Any) -> torch.Tensor:
    """The logits of a batch's rows, [rows, labels].

    For lines, the layers read the line and the head reads padded rows: hooks replace the input of
    the layers by the line, and their output by the hidden states at the padded rows' positions. So
    the head is the model's own, whatever its pooling.
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
        rows = found[-1][0].flatten(0, 1)[inputs.places]
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
