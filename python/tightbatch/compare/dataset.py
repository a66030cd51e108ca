"""Texts to token rows: cut to the model's limit, and every cut counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tightbatch.compare.corpus import Corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Row = dict[str, Any]  # {"input_ids": list of int, "label": int}


@dataclass(frozen=True)
class Rows:
    """Token rows for training and testing, and what cutting them lost."""

    training: list[Row]
    held_out: list[Row]
    longest: int  # training row, after cutting
    rows_cut: int
    tokens_lost: int
    tokens_before: int  # in all rows, before cutting

    @property
    def lengths(self) -> list[int]:
        """Tokens of each training row."""
        return [len(row["input_ids"]) for row in self.training]


def tokenize(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, limit: int) -> Rows:
    """Tokenize every text; rows longer than `limit` tokens are cut by the tokenizer.

    The tokenizer cuts, not the collator, so that a closing special token stays in place; the
    same cut rows then go through every strategy.
    """
    whole = tokenizer(corpus.texts, verbose=False, return_attention_mask=False)["input_ids"]
    cut = tokenizer(corpus.texts, truncation=True, max_length=limit, return_attention_mask=False)[
        "input_ids"
    ]
    lost = [len(before) - len(after) for before, after in zip(whole, cut, strict=True)]

    def rows(indices: list[int]) -> list[Row]:
        return [{"input_ids": cut[i], "label": corpus.labels[i]} for i in indices]

    training = rows(corpus.training)
    return Rows(
        training=training,
        held_out=rows(corpus.held_out),
        longest=max(len(row["input_ids"]) for row in training),
        rows_cut=sum(n > 0 for n in lost),
        tokens_lost=sum(lost),
        tokens_before=sum(map(len, whole)),
    )
