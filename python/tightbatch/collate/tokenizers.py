"""What says how to pad: a tokenizer, a feature extractor, or a processor that has one."""

from __future__ import annotations

from typing import Any

from .. import _core

__all__ = ["is_extractor", "read_tokenizer"]

_EXTRACTOR = ("feature_size", "padding_value", "padding_side", "model_input_names")


def is_extractor(given: Any) -> bool:
    """Tell whether it is a feature extractor of sequences, as transformers has for audio."""
    return not hasattr(given, "pad_token_id") and all(hasattr(given, name) for name in _EXTRACTOR)


def read_tokenizer(function: str, given: Any, *, only_tokens: bool = False) -> Any:
    """Give the tokenizer or the feature extractor, also of a processor; refuse anything else."""
    if hasattr(given, "pad_token_id"):
        return given
    extractor = getattr(given, "feature_extractor", None)
    extractor = given if extractor is None else extractor
    if is_extractor(extractor) and not only_tokens:
        return _require_plain(function, extractor)
    expected = "a tokenizer with a pad_token_id"
    hint = ""
    if isinstance(given, str):
        hint = f"; transformers.AutoTokenizer.from_pretrained({_core.show(given)}) gives one"
    elif hasattr(getattr(given, "tokenizer", None), "pad_token_id"):
        hint = "; the processor has one: pass processor.tokenizer"
    if not only_tokens:
        expected += ", or a feature extractor with a padding_value"
    raise TypeError(f"{function}(): found type {type(given).__name__}, expected {expected}{hint}")


def _require_plain(function: str, extractor: Any) -> Any:
    """Refuse an extractor that pads in a way of its own, such as Pop2Piano's."""
    try:
        from transformers import SequenceFeatureExtractor
    except ImportError:
        return extractor
    pad = getattr(type(extractor), "pad", None)
    if pad is None or pad is SequenceFeatureExtractor.pad:
        return extractor
    raise TypeError(
        f"{function}(): {type(extractor).__name__} pads in a way of its own; expected a feature "
        "extractor with the pad() of SequenceFeatureExtractor"
    )
