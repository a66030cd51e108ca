"""tightbatch.huggingface against transformers' collators of the same names, on list features."""

from __future__ import annotations

from typing import Any

from harness import Row, compare, one_thread, run

one_thread()

import numpy as np
import torch
import transformers

import tightbatch.huggingface as ours
from workload import make_tokenizer, token_rows

TOKENIZER = make_tokenizer()


def features(**columns: Any) -> list[dict[str, Any]]:
    """64 tokenised texts as a tokenizer returns them, with further columns as asked."""
    return [
        {
            "input_ids": ids.tolist(),
            "attention_mask": [1] * len(ids),
            **{name: make(i, ids) for name, make in columns.items()},
        }
        for i, ids in enumerate(token_rows(64))
    ]


def check_equal(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    assert [key for key in a if key != "use_cache"] == list(b)  # theirs would mix rows
    for key, value in b.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == a[key].dtype
            assert torch.equal(value, a[key]), key
        else:
            assert value == a[key], key


def measure(name: str, samples: list[dict[str, Any]], goal: float, **options: Any) -> list[Row]:
    """Compare the two collators of a name over the same features, after the same result."""
    a, b = getattr(ours, name)(**options), getattr(transformers, name)(**options)
    if not options.get("seed"):
        check_equal(a(samples), b(samples))
    kind = ", masked" if options.get("seed") else ""
    return compare(
        f"64 dicts of lists, {name}{kind}",
        lambda: a(samples),
        {"transformers": (lambda: b(samples), goal)},
    )


def padding() -> list[Row]:
    samples = features(token_type_ids=lambda i, ids: [0] * len(ids), label=lambda i, ids: i % 3)
    return measure("DataCollatorWithPadding", samples, 100, tokenizer=TOKENIZER)


def token_classification() -> list[Row]:
    samples = features(labels=lambda i, ids: (ids % 9).tolist())
    return measure("DataCollatorForTokenClassification", samples, 100, tokenizer=TOKENIZER)


def seq2seq() -> list[Row]:
    samples = features(labels=lambda i, ids: ids[: len(ids) // 3 + 1].tolist())
    return measure("DataCollatorForSeq2Seq", samples, 100, tokenizer=TOKENIZER)


def causal() -> list[Row]:
    return measure(
        "DataCollatorForLanguageModeling", features(), 100, tokenizer=TOKENIZER, mlm=False
    )


def masked() -> list[Row]:
    samples = features(
        special_tokens_mask=lambda i, ids: (
            np.isin(np.arange(len(ids)), (0, len(ids) - 1)).astype(int).tolist()
        )
    )
    return measure("DataCollatorForLanguageModeling", samples, 20, tokenizer=TOKENIZER, seed=1)


def flattening() -> list[Row]:
    options = {"return_flash_attn_kwargs": True, "return_seq_idx": True}
    return measure("DataCollatorWithFlattening", features(), 30, **options)


if __name__ == "__main__":
    run([padding, token_classification, seq2seq, causal, masked, flattening], __doc__)
