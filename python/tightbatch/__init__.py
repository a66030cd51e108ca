"""Variable-length sequences to model-ready batches.

See https://numpy.org for the arrays that come out; torch is used where it is installed.
"""

from .padding import (
    attention_mask,
    fixed_pad_sequences,
    lengths,
    pad,
    pad_sequences_dynamic,
    position_ids,
    uniform_length_batching,
)

__version__ = "0.1.0"

__all__ = [
    "attention_mask",
    "fixed_pad_sequences",
    "lengths",
    "pad",
    "pad_sequences_dynamic",
    "position_ids",
    "uniform_length_batching",
]
