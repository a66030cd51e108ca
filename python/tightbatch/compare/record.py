"""The figures as JSON, and the plot."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightbatch.compare.check import PaddingCheck
from tightbatch.compare.corpus import Corpus
from tightbatch.compare.dataset import Rows
from tightbatch.compare.model import Start
from tightbatch.compare.settings import CompareError, Settings
from tightbatch.compare.strategies import Loading
from tightbatch.compare.train import Result

if TYPE_CHECKING:
    from tightbatch.amp import Precision

PACKAGES = ("tightbatch", "torch", "transformers", "tokenizers", "numpy")


def version(package: str) -> str | None:
    """The installed version of a package, None where it is not installed as one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def environment(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": device,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        **{package: version(package) for package in PACKAGES},
    }


def result_dict(result: Result, fixed_seconds: float) -> dict[str, Any]:
    """One strategy's figures."""
    strategy = asdict(result.strategy)
    del strategy["half"]
    return {
        **strategy,
        "precision": result.precision.dtype,
        "real_tokens": result.real_tokens,
        "padded_tokens": result.padded_tokens,
        "attention_pairs": result.pairs,
        "shapes": result.shapes,
        "waste": result.waste,
        "steps": result.steps,
        "steps_skipped": result.steps_skipped,
        "seconds_per_epoch": result.seconds,
        "data_seconds_per_epoch": result.data_seconds,
        "epoch_seconds": result.epoch_seconds,
        "epoch_data_seconds": result.epoch_data_seconds,
        "tokens_per_second": result.tokens_per_second,
        "speed_up": fixed_seconds / result.seconds,
        "epoch_losses": result.epoch_losses,
        "final_loss": result.final_loss,
        "held_out_loss": result.held_out_loss,
        "held_out_accuracy": result.accuracy,
    }


def record(
    settings: Settings,
    corpus: Corpus,
    rows: Rows,
    start: Start,
    loading: Loading,
    half: Precision,
    results: list[Result],
    not_run: dict[str, str],
    check: PaddingCheck,
    seconds: float,
) -> dict[str, Any]:
    """Every figure, with the settings and the environment it belongs to."""
    options = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(settings).items()
    }
    return {
        "settings": options | {"learning_rate": start.learning_rate},
        "environment": environment(half.device),
        "data": {
            "source": corpus.source,
            "label": corpus.label_meaning,
            "labels": corpus.label_names,
            "rows_found": corpus.rows_found,
            "rows_empty": corpus.rows_empty,
            "rows_repeated": corpus.rows_repeated,
            "rows_training": len(rows.training),
            "rows_held_out": len(rows.held_out),
            "rows_cut": rows.rows_cut,
            "tokens_before": rows.tokens_before,
            "tokens_lost": rows.tokens_lost,
            "longest_training_row": rows.longest,
            "majority_accuracy": corpus.majority,
        },
        "model": {
            "name": start.name,
            "parameters": sum(p.numel() for p in start.model.parameters()),
            "vocabulary": len(start.tokenizer),
            "limit": start.limit,
            "fixed_width": loading.width,
        },
        "batching": {
            "bucket_boundaries": loading.boundaries(),
            "pack_capacity": loading.pack_width,
            "packs_a_batch": loading.packs,
            "tokens_a_line": loading.batch_tokens,
        },
        "mixed_precision": {
            "device": half.device,
            "half": half.dtype,
            "reason": half.reason,
            "native": half.native,
        },
        "strategies": [result_dict(result, results[0].seconds) for result in results],
        "not_run": not_run,
        "padding_check": check.as_dict(),
        "seconds_in_all": seconds,
    }


def write_json(figures: dict[str, Any], path: Path) -> None:
    """Write the figures to `path`."""
    text = json.dumps(figures, indent=2) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CompareError(f"--json {path}: cannot be written: {error.strerror}") from None


def write_plot(results: list[Result], title: str, path: Path) -> None:
    """Write a PNG: seconds an epoch on the left, real tokens and padding on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # no window, no display, no global state
    times, tokens = figure.subplots(1, 2, sharey=True)
    names = [result.strategy.name for result in results]
    data = [result.data_seconds for result in results]
    rest = [result.seconds - result.data_seconds for result in results]
    times.barh(names, rest, color="#4477aa", label="model")
    times.barh(names, data, left=rest, color="#ee6677", label="data: planning and collating")
    for row, result in enumerate(results):
        gain = results[0].seconds / result.seconds
        times.annotate(
            f" {result.seconds:.2f} s, {gain:.1f}x", (result.seconds, row), va="center", fontsize=9
        )
    times.set_xlim(right=1.3 * max(result.seconds for result in results))
    times.set(xlabel="seconds per epoch, the fastest one (and speed-up over fixed padding)")
    real = [result.real_tokens / 1e3 for result in results]
    padding = [(result.padded_tokens - result.real_tokens) / 1e3 for result in results]
    tokens.barh(names, real, color="#228833", label="real")
    tokens.barh(names, padding, left=real, color="#bbbbbb", label="padding")
    for row, result in enumerate(results):
        tokens.annotate(
            f" {result.waste:.0%} padding",
            (result.padded_tokens / 1e3, row),
            va="center",
            fontsize=9,
        )
    tokens.set_xlim(right=1.25 * max(result.padded_tokens for result in results) / 1e3)
    tokens.set(xlabel="thousand tokens per epoch")
    times.invert_yaxis()  # shared: the table's order from the top
    for axes in (times, tokens):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise CompareError(f"--plot {path}: cannot be written: {error.strerror}") from None
