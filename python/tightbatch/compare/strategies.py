"""The ways of padding and batching that are compared.

Each goes through the same rows; they differ in which rows share a batch, how wide the batch is,
whether rows share a line of it, and whose code makes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tightbatch.compare.dataset import Row
from tightbatch.compare.lines import LineCollator, PackBatches, Sight

if TYPE_CHECKING:
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
    buckets: bool = False  # every batch as wide as one of few boundaries
    layout: str = "rows"  # "packs": of one width, "line": all of a batch; rows share them


def strategies(half: str) -> list[Strategy]:
    """All of them, in the table's order; `half` is the name of the mixed-precision type."""
    return [
        Strategy("fixed", "fixed padding", "random", "tightbatch", fixed=True),
        Strategy("dynamic", "dynamic padding", "random", "tightbatch"),
        Strategy("uniform", "uniform-length batching", "length", "tightbatch"),
        Strategy("buckets", "optimal buckets", "length", "tightbatch", buckets=True),
        Strategy("packed", "packed", "packs", "tightbatch", layout="packs"),
        Strategy("padding_free", "padding-free", "length", "tightbatch", layout="line"),
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
    lengths: list[int]  # of the training rows
    buckets: int = 8  # the most boundaries
    capacity: int | None = None  # of a pack; None: as wide as fixed padding
    pad_to_multiple_of: int | None = None
    shuffle_window: Any = None  # of LengthBatchSampler; None: all rows
    sight: Sight = Sight()  # noqa: RUF009 (frozen)
    first_position: int = 0

    @property
    def pack_width(self) -> int:
        """Tokens in a pack."""
        return round_up(self.capacity or self.width, self.pad_to_multiple_of)

    @property
    def batch_tokens(self) -> int:
        """Tokens that a batch without padding holds: `batch_size` rows of average length."""
        average = -(-self.batch_size * sum(self.lengths) // len(self.lengths))
        return max(average, self.width)

    @property
    def packs(self) -> int:
        """Packs in a batch, so that there are about `batch_size` rows in it."""
        return max(1, round(self.batch_tokens / self.pack_width))

    def boundaries(self) -> list[int]:
        """The bucket boundaries of the training rows."""
        import tightbatch as tb

        found: list[int] = tb.bucket_boundaries(
            self.lengths, self.buckets, pad_to_multiple_of=self.pad_to_multiple_of
        ).tolist()
        return found


def round_up(width: int, multiple: int | None) -> int:
    """The next multiple."""
    return width if multiple is None else -(-width // multiple) * multiple


def collator(strategy: Strategy, loading: Loading) -> Any:
    """The strategy's `collate_fn`."""
    from transformers import DataCollatorWithPadding

    import tightbatch as tb

    multiple = loading.pad_to_multiple_of
    if strategy.collator == "transformers":
        return DataCollatorWithPadding(loading.tokenizer, pad_to_multiple_of=multiple)
    if strategy.layout != "rows":
        # The head's rectangle; it pools from the first token, or up to the last.
        pad = tb.PadCollator.from_tokenizer(loading.tokenizer, padding_side="right")
        line = tb.PaddingFreeCollator(
            padding_value={"input_ids": loading.tokenizer.pad_token_id},
            pad_to_multiple_of=multiple,
            position_ids_start=loading.first_position,
            return_labels=False,
        )
        return LineCollator(pad, line)
    return tb.PadCollator.from_tokenizer(
        loading.tokenizer,
        width=loading.width if strategy.fixed else None,
        boundaries=loading.boundaries() if strategy.buckets else None,
        pad_to_multiple_of=multiple,
    )


def loader(strategy: Strategy, rows: list[Row], loading: Loading) -> Iterable[Any]:
    """The strategy's batches: planning happens here and when they are iterated.

    Random order and transformers' draw from a torch generator, tightbatch's from its own seed;
    the strategies of one order see the same batches in the same order, but for those whose
    batches are full by tokens.
    """
    import torch
    from torch.utils.data import DataLoader
    from transformers.trainer_pt_utils import LengthGroupedSampler

    import tightbatch as tb

    collate = collator(strategy, loading)
    if strategy.order == "packs":
        return PackBatches(
            rows,
            capacity=loading.pack_width,
            packs=loading.packs,
            pad=collate.pad,
            seed=loading.seed,
            sight=loading.sight,
            first_position=loading.first_position,
        )
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
    in_line = strategy.layout == "line"
    plan: Any = tb.LengthBatchSampler(
        lengths,
        batch_size=None if in_line else loading.batch_size,
        max_tokens=loading.batch_tokens if in_line else None,
        padding_free=in_line,
        shuffle=True,
        shuffle_window=loading.shuffle_window,
        seed=loading.seed,
    )
    return DataLoader(data, batch_sampler=plan, collate_fn=collate)
