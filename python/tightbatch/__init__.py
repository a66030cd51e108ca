"""Make model-ready batches of variable-length sequences: padding, masks, batching by length."""

from __future__ import annotations

from typing import Any

from .analysis.analyze import analyze
from .analysis.meter import WasteMeter
from .analysis.report import PaddingReport
from .checks.batch import CheckedCollator, check_batch
from .checks.batch_report import BatchReport, Finding
from .checks.model import check_model
from .checks.model_report import ModelReport
from .collate.batch import Batch
from .collate.padded import PadCollator
from .collate.padding_free import PaddingFreeCollator
from .collate.picture import plot_batch
from .collate.zigzag import shard_batch
from .dataset import RaggedDataset, lengths
from .half.conversion import ConversionCounts, to_bfloat16, to_float16, to_float32
from .half.report import HalfReport, half_report
from .masks import (
    attention_mask,
    block_mask,
    cu_seqlens,
    position_ids,
    segment_ids,
    segment_mask,
)
from .padding import (
    fixed_pad_sequences,
    pad,
    pad_sequences_dynamic,
    uniform_length_batching,
    unpad,
)
from .ragged import Ragged
from .sampling.buckets import bucket_boundaries, bucket_groups
from .sampling.fairness import Fairness
from .sampling.limits import Limit
from .sampling.packing import Packing, pack, pack_dataset
from .sampling.partition import Partition, partition
from .sampling.sampler import LengthBatchSampler
from .sampling.streaming import StreamBatcher
from .split_report import SplitReport, split_report
from .tokens import Chunks, chunk, windows
from .zigzag import ContextParallel, context_parallel

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "BatchReport",
    "CheckedCollator",
    "Chunks",
    "ContextParallel",
    "ConversionCounts",
    "Fairness",
    "Finding",
    "HalfReport",
    "LengthBatchSampler",
    "Limit",
    "ModelReport",
    "Packing",
    "PadCollator",
    "PaddingFreeCollator",
    "PaddingReport",
    "Partition",
    "Ragged",
    "RaggedDataset",
    "SplitReport",
    "StreamBatcher",
    "WasteMeter",
    "analyze",
    "attention_mask",
    "block_mask",
    "bucket_boundaries",
    "bucket_groups",
    "check_batch",
    "check_model",
    "chunk",
    "context_parallel",
    "cu_seqlens",
    "fixed_pad_sequences",
    "half_report",
    "lengths",
    "pack",
    "pack_dataset",
    "pad",
    "pad_sequences_dynamic",
    "partition",
    "plot_batch",
    "position_ids",
    "segment_ids",
    "segment_mask",
    "shard_batch",
    "split_report",
    "to_bfloat16",
    "to_float16",
    "to_float32",
    "uniform_length_batching",
    "unpad",
    "windows",
]

# Imported when they are first used: they need torch, or take time to import.
_SUBPACKAGES = ("amp", "huggingface", "plots", "ray")


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        import importlib

        try:
            return importlib.import_module(f".{name}", __name__)
        except ImportError as error:  # hasattr() is False, and other programs look further
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r} here: {error}"
            ) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBPACKAGES, "__version__"])
