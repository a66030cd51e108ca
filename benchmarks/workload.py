"""The rows that every benchmark uses: log-normal lengths, as real text has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def text_lengths(count: int, seed: int = 0) -> NDArray[np.int64]:
    """Lengths with a mean of about 180, clipped to 512."""
    drawn = np.random.default_rng(seed).lognormal(4.9, 0.8, count).astype(np.int64)
    return np.clip(drawn, 1, 512)


def token_rows(count: int, seed: int = 0) -> list[NDArray[np.int64]]:
    """Rows of token ids as int64 arrays."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 30_000, n) for n in text_lengths(count, seed)]


def fresh_lists(arrays: list[NDArray[Any]]) -> list[list[Any]]:
    """Give the rows as lists, with int objects that nothing else has touched."""
    return [array.tolist() for array in arrays]


def make_tokenizer() -> Any:
    """Make a transformers tokenizer of 30,000 words: only its settings matter to a collator."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    special = ("[PAD]", "[MASK]", "[CLS]", "[SEP]", "[UNK]")
    words = {word: i for i, word in enumerate((*special, *map(str, range(29_995))))}
    names = ("pad_token", "mask_token", "cls_token", "sep_token", "unk_token")
    model = models.WordLevel(words, unk_token="[UNK]")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), **dict(zip(names, special, strict=True))
    )
