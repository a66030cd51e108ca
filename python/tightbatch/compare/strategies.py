"""The ways of padding and batching that are compared.

Each is a `DataLoader` over the same rows; they differ in which rows share a batch, how wide the
batch is, and whose code pads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tightbatch.compare.dataset import Row

if TYPE_CHECKING:
    from torch.utils.data import DataLoader
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Strategy:
    """One row of the table."""

    key: str  # in JSON
    name: str
    order: str  # "random"; "length": tb.LengthBatchSampler; "transformers": LengthGroupedSampler
    collator: str  # "tightbatch" or "transformers"
    fixed: bool = False  # every batch as wide as the widest row there can be
    half: bool = False  # automatic mixed precision


def strategies(half: str) -> list[Strategy]:
    """All of them, in the table's order; `half` is the name of the mixed-precision type."""
    return [
        Strategy("fixed", "fixed padding", "random", "tightbatch", fixed=True),
        Strategy("dynamic", "dynamic padding", "random", "tightbatch"),
        Strategy("uniform", "uniform-length batching", "length", "tightbatch"),
        Strategy("uniform_transformers", "same batches, HF collator", "length", "transformers"),
        Strategy("transformers", "HF sampler, HF collator", "transformers", "transformers"),
        Strategy(
            "fixed_amp", f"fixed padding, {half}", "random", "tightbatch", fixed=True, half=True
        ),
        Strategy("uniform_amp", f"uniform-length, {half}", "length", "tightbatch", half=True),
    ]


@dataclass(frozen=True)
class Loading:
    """What every strategy shares."""

    tokenizer: PreTrainedTokenizerFast
    batch_size: int
    width: int  # of fixed padding
    seed: int
    shuffle_window: Any = None  # of LengthBatchSampler; None: all rows


def collator(strategy: Strategy, loading: Loading) -> Any:
    """The strategy's `collate_fn`."""
    from transformers import DataCollatorWithPadding

    import tightbatch as tb

    if strategy.collator == "transformers":
        return DataCollatorWithPadding(loading.tokenizer)
    width = loading.width if strategy.fixed else None
    return tb.PadCollator.from_tokenizer(loading.tokenizer, width=width)


def loader(strategy: Strategy, rows: list[Row], loading: Loading) -> DataLoader[Any]:
    """The strategy's `DataLoader`: planning happens here and when it is iterated.

    Random order and transformers' draw from a torch generator, tightbatch's from its own seed;
    the strategies of one order see the same batches in the same order.
    """
    import torch
    from torch.utils.data import DataLoader
    from transformers.trainer_pt_utils import LengthGroupedSampler

    import tightbatch as tb

    collate = collator(strategy, loading)
    data: Any = rows  # a list is a map-style dataset, which torch's annotations do not know
    generator = torch.Generator().manual_seed(loading.seed)
    if strategy.order == "random":
        return DataLoader(
            data,
            batch_size=loading.batch_size,
            shuffle=True,
            generator=generator,
            collate_fn=collate,
        )
    lengths = [len(row["input_ids"]) for row in rows]
    if strategy.order == "transformers":
        sampler: Any = LengthGroupedSampler(
            loading.batch_size, lengths=lengths, generator=generator
        )
        return DataLoader(data, batch_size=loading.batch_size, sampler=sampler, collate_fn=collate)
    plan: Any = tb.LengthBatchSampler(
        lengths,
        batch_size=loading.batch_size,
        shuffle=True,
        shuffle_window=loading.shuffle_window,
        seed=loading.seed,
    )
    return DataLoader(data, batch_sampler=plan, collate_fn=collate)
