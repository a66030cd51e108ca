"""Variable-length sequences to model-ready batches: padding, masks, batching by length."""

from .batching import LengthBatchSampler
from .buckets import bucket_boundaries
from .collate import Batch, PadCollator
from .dataset import RaggedDataset
from .half import ConversionCounts, to_bfloat16, to_float16, to_float32
from .half_report import HalfReport, half_report
from .packing import Packing, pack, pack_dataset
from .padding import (
    attention_mask,
    fixed_pad_sequences,
    lengths,
    pad,
    pad_sequences_dynamic,
    position_ids,
    uniform_length_batching,
    unpad,
)
from .padding_free import PaddingFreeCollator
from .ragged import Ragged
from .segments import block_mask, cu_seqlens, segment_ids, segment_mask

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "ConversionCounts",
    "HalfReport",
    "LengthBatchSampler",
    "Packing",
    "PadCollator",
    "PaddingFreeCollator",
    "Ragged",
    "RaggedDataset",
    "attention_mask",
    "block_mask",
    "bucket_boundaries",
    "cu_seqlens",
    "fixed_pad_sequences",
    "half_report",
    "lengths",
    "pack",
    "pack_dataset",
    "pad",
    "pad_sequences_dynamic",
    "position_ids",
    "segment_ids",
    "segment_mask",
    "to_bfloat16",
    "to_float16",
    "to_float32",
    "uniform_length_batching",
    "unpad",
]
