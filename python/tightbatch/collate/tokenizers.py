"""What says how to pad: a tokenizer, a feature extractor, or a processor that has one."""

from __future__ import annotations

from typing import Any

from .. import _core

__all__ = ["read_tokenizer"]

# What a feature extractor of sequences has, as transformers has them for audio.
_EXTRACTOR = ("feature_size", "padding_value", "padding_side", "model_input_names")


def read_tokenizer(function: str, given: Any, *, only_tokens: bool = False) -> tuple[Any, bool]:
    """Give a tokenizer or a feature extractor, also of a processor, and whether it is an extractor.

    Anything else is refused.
    """
    if hasattr(given, "pad_token_id"):
        return given, False
    extractor = getattr(given, "feature_extractor", None)
    extractor = given if extractor is None else extractor
    if not only_tokens and all(hasattr(extractor, name) for name in _EXTRACTOR):
        return _require_plain(function, extractor), True
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


def settings_of(extractor: Any) -> dict[str, Any]:
    """Give the settings with which a feature extractor's features are padded as it does it."""
    value = extractor.padding_value
    if value is None:
        raise ValueError(
            "PadCollator.from_tokenizer(): the feature extractor has no padding_value; set one, as "
            "with feature_extractor.padding_value = 0.0"
        )
    settings = {
        # Columns of ints take 0 and not 0.0.
        "padding_value": int(value) if float(value).is_integer() else value,
        "padding_side": extractor.padding_side,
    }
    if not getattr(extractor, "return_attention_mask", True):
        settings["attention_mask"] = False
    return settings
