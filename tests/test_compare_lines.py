"""Rows that share a line: the batches that ``compare`` makes, and models that read them."""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from conftest import SANITIZED

pytest.importorskip("transformers")
pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(SANITIZED, reason="it is torch that computes")

LENGTHS = [2, 3, 3, 5, 9, 9, 14, 14, 15, 23, 23, 40, 41, 42] * 3
LINES = ("packed", "padding_free")
SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "num_labels": 3,
    "pad_token_id": 0,
    "initializer_range": 0.3,  # so that what it reads matters, untrained
}
DECODER = {**SIZES, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
GPT2 = {
    "vocab_size": 50,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "num_labels": 3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
}
DISTILBERT = {"vocab_size": 50, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
MODERNBERT = {
    **SIZES,
    "global_attn_every_n_layers": 3,
    "local_attention": 8,
    "bos_token_id": 1,
    "cls_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 2,
}
# How each pools, and what of attention it has that the others do not.
MODELS: dict[str, dict[str, Any]] = {
    "ModernBert": {**MODERNBERT, "classifier_pooling": "mean"},  # windows in two of three layers
    "Bert": SIZES,  # a pooler
    "Roberta": SIZES,  # positions from 1; its head takes the first token
    "DistilBert": {**DISTILBERT, "num_labels": 3, "initializer_range": 0.3},
    "GPT2": GPT2,  # causal; the last token
    "Llama": DECODER,  # rotary, grouped heads
    "Mistral": {**DECODER, "sliding_window": 8},  # a window in all layers
    "Qwen2": {**DECODER, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
}


def rows_of(lengths: list[int]) -> list[dict[str, Any]]:
    """Rows of tokens that are not special, labelled with their number."""
    draw = random.Random(0)
    return [
        {"input_ids": [draw.randrange(5, 50) for _ in range(length)], "label": number}
        for number, length in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A tokenizer of which only the padding counts."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[PAD]": 0}, unk_token="[PAD]"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]")


def model_of(name: str, attention: str = "sdpa", **changed: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**MODELS.get(name, SIZES), **changed})
    model = getattr(transformers, f"{name}ForSequenceClassification")._from_config(
        config, attn_implementation=attention
    )
    return model.eval()


def setup_of(model: Any, tokenizer: Any, **changed: Any) -> Any:
    """What ``compare`` trains with, for a model and the rows of LENGTHS."""
    from tightbatch.compare import arguments
    from tightbatch.compare.model import set_up

    rows = rows_of(LENGTHS)
    settings = Namespace(**vars(arguments(["compare", "--batch-size", "8"])) | changed)
    return set_up(
        settings,
        tokenizer,
        model,
        "cpu",
        learning_rate=1e-3,
        limit=64,
        training=rows,
        held_out=rows[:14],
    )


def strategy_of(key: str) -> Any:
    from tightbatch.amp import choose_precision
    from tightbatch.compare.batches import strategies

    single, half = (choose_precision("cpu", dtype) for dtype in ("float32", "bfloat16"))
    return next(strategy for strategy in strategies(single, half) if strategy.key == key)


@pytest.mark.parametrize("key", LINES)
@pytest.mark.parametrize(
    ("name", "attention"),
    [*((name, "sdpa") for name in MODELS), ("ModernBert", "eager"), ("Llama", "eager")],
)
def test_a_row_in_a_line_gives_what_it_gives_alone(
    name: str, attention: str, key: str, tokenizer: Any
) -> None:
    from tightbatch.compare.inference import examine

    model = model_of(name, attention)
    setup = setup_of(model, tokenizer)
    strategy, rows = strategy_of(key), setup.held_out
    report = examine(setup, rows, strategy)
    assert report.holds, report
    assert report.tolerance < 1e-4
    # A row's own tokens move its logits by far more than the tolerance.
    assert np.diagonal(report.matrix).min() > 0.02
    if key == "packed":
        mixed = examine(setup, rows, strategy, mask=False)
        assert not mixed.holds
        assert mixed.largest > 0.05
    assert model.config._attn_implementation == attention  # as it was


@pytest.mark.parametrize("key", LINES)
def test_gradients_are_those_of_the_rows_alone(key: str, tokenizer: Any) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from tightbatch.compare.batches import attention, loader, logits, split_labels

    model = model_of("ModernBert")
    setup = setup_of(model, tokenizer)
    strategy, rows = strategy_of(key), setup.training
    for row in rows:
        ids, label = torch.tensor([row["input_ids"]]), torch.tensor([row["label"] % 3])
        cross_entropy(model(input_ids=ids).logits, label, reduction="sum").backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    with attention(model, strategy.layout):
        for batch in loader(strategy, rows, setup):
            inputs, labels = split_labels(batch)
            cross_entropy(logits(model, inputs), labels % 3, reduction="sum").backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], rtol=1e-3, atol=1e-3)


def line_batches(key: str, tokenizer: Any, **changed: Any) -> Iterator[Any]:
    from tightbatch.compare.batches import loader

    setup = setup_of(model_of("Roberta"), tokenizer, **changed)
    return iter(loader(strategy_of(key), setup.training, setup))


@pytest.mark.parametrize("multiple", [None, 16])
@pytest.mark.parametrize("key", LINES)
def test_every_row_is_in_one_line_once(key: str, multiple: int | None, tokenizer: Any) -> None:
    from tightbatch.compare.batches import work

    rows, seen, real = rows_of(LENGTHS), [], 0
    for batch in line_batches(key, tokenizer, pad_to_multiple_of=multiple):
        ids = batch.inputs["input_ids"]
        positions = batch.inputs["position_ids"]
        assert ids.shape == positions.shape
        assert ids.shape[1] % (multiple or 1) == 0
        if key == "packed":
            assert ids.shape[1] == (48 if multiple else 42)
        used = np.zeros(ids.numel(), bool)
        for number, places, mask, head in zip(
            batch.labels.tolist(),
            batch.places.numpy(),
            batch.rows["attention_mask"].numpy().astype(bool),
            batch.rows["input_ids"].numpy(),
            strict=True,
        ):
            tokens, mine = rows[number]["input_ids"], places[mask]
            assert ids.flatten()[mine].tolist() == tokens == head[mask].tolist()
            assert positions.flatten()[mine].tolist() == list(range(1, len(tokens) + 1))
            assert not used[mine].any()
            used[mine] = True
            assert not head[~mask].any()
            seen.append(number)
        assert not ids.flatten().numpy()[~used].any()  # nothing but padding, token 0
        tokens_of, shape, pairs = work(batch)
        assert (tokens_of, shape, pairs) == (used.sum(), tuple(ids.shape), batch.pairs)
        real += tokens_of
    assert sorted(seen) == list(range(len(rows)))
    assert real == sum(LENGTHS)


def test_fairness_is_that_of_the_plan(tokenizer: Any) -> None:
    import tightbatch as tb
    from tightbatch.compare.batches import fairness, loader, work

    setup = setup_of(model_of("Bert"), tokenizer)
    lengths = [len(row["input_ids"]) for row in setup.training]
    uniform = fairness(strategy_of("uniform"), setup)
    plan = tb.LengthBatchSampler(lengths, batch_size=8, shuffle_window="auto").fairness()
    assert (uniform.plan, uniform.random) == (plan.plan, plan.random)
    line = tb.LengthBatchSampler(lengths, max_tokens=setup.batch_tokens, padding_free=True)
    assert fairness(strategy_of("padding_free"), setup).plan == line.fairness().plan
    for key in ("dynamic", "transformers", "packed"):
        batches = list(loader(strategy_of(key), setup.training, setup))
        rows = [len(b.labels) if key == "packed" else len(b["input_ids"]) for b in batches]
        means = np.array([work(b)[0] for b in batches]) / rows
        found = fairness(strategy_of(key), setup).plan
        assert (found.batches, found.rows_min, found.rows_max) == (len(rows), min(rows), max(rows))
        assert found.rows_std == pytest.approx(np.std(rows))
        assert found.length_std == pytest.approx(means.std())


@pytest.mark.parametrize("per_row", [False, True])
def test_a_row_weighs_the_same_if_it_is_asked_to(per_row: bool, tokenizer: Any) -> None:
    from contextlib import nullcontext

    from tightbatch.compare.batches import attention, loader
    from tightbatch.compare.train import train_epoch

    setup = setup_of(model_of("Bert"), tokenizer)
    for row in setup.training:
        row["label"] %= 3

    class Recorded:
        """What a training step is given."""

        autocast = staticmethod(nullcontext)

        def __init__(self) -> None:
            self.losses: list[float] = []

        def step(self, loss: Any) -> bool:
            self.losses.append(float(loss.detach()))
            return True

    recorded: Any = Recorded()
    strategy = strategy_of("padding_free")
    with attention(setup.model, "line"):
        batches = list(loader(strategy, setup.training, setup))
        found = train_epoch(setup, batches, recorded, lambda: None, per_row=per_row)
    rows = np.array([len(batch.labels) for batch in batches])
    assert rows.std() > 0
    weights = rows / 8 if per_row else np.ones(len(rows))
    # The mean over rows is reported, whatever a step is given.
    assert found.loss == pytest.approx(np.sum(recorded.losses / weights * rows) / rows.sum())


def test_what_a_model_cannot_do_is_a_reason(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    import tightbatch as tb
    from tightbatch.compare.inference import obstacle

    albert = setup_of(model_of("Albert", embedding_size=16), tokenizer)
    assert "AlbertForSequenceClassification pools in a way of its own" in str(
        obstacle(albert, strategy_of("packed"))
    )
    mpnet = setup_of(model_of("MPNet", "eager"), tokenizer)
    assert "the attention of MPNetForSequenceClassification cannot be replaced" in str(
        obstacle(mpnet, strategy_of("padding_free"))
    )
    bert = setup_of(model_of("Bert"), tokenizer)
    for key in LINES:
        assert obstacle(bert, strategy_of(key)) is None
    right = tb.segment_mask
    monkeypatch.setattr(tb, "segment_mask", lambda *a, **k: np.ones_like(right(*a, **k)))
    reason = str(obstacle(bert, strategy_of("packed")))
    assert "the model does not keep the rows of a line apart: its logits differ by" in reason
    assert torch.is_grad_enabled()


def test_the_library_is_read_in_passages_of_whole_paragraphs():
    from tightbatch.compare.text import PASSAGE, passages

    paragraphs = [f"{n:04d} " + "x" * (n * 37 % (PASSAGE // 2)) for n in range(60)]
    topic = "\n\n".join(paragraphs)
    found = list(passages(topic))
    assert "\n\n".join(found) == topic
    assert 1 < len(found) < len(paragraphs)
    for piece, after in zip(found, [*found[1:], None], strict=True):
        parts = piece.split("\n\n")
        assert sum(map(len, parts)) <= PASSAGE
        if after is not None:
            assert len(piece) + len(after.split("\n\n")[0]) > PASSAGE
    assert list(passages(f"a\n\n{'y' * 2 * PASSAGE}\n\nb")) == ["a", "y" * 2 * PASSAGE, "b"]
    assert list(passages(" \n\n ")) == []
