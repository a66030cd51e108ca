"""The collators that pad: for inputs, for token classification, for sequence to sequence."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from .._types import Padding, Side, Tensors
from ..collate.columns import Collator, ColumnSettings, build
from ..collate.samples import columns_of
from ..ragged import Ragged
from ._features import check_settings, encoding, features_of

__all__ = [
    "DataCollatorForSeq2Seq",
    "DataCollatorForTokenClassification",
    "DataCollatorWithPadding",
]


@dataclass(repr=False)
class DataCollatorWithPadding(Collator):
    """Pad the inputs; ``label`` and ``label_ids`` become ``labels``.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase, SequenceFeatureExtractor or ProcessorMixin, optional
        Its padding token or value, side and input names are used; of a processor, those of its
        feature extractor. Without one, pass ``pad_token_id``.
    padding : bool, str or PaddingStrategy
        True or "longest"; "max_length"; False or "do_not_pad".
    max_length : int, optional
        The width for "max_length"; by default the tokenizer's ``model_max_length`` (a feature
        extractor has none). It never cuts.
    pad_to_multiple_of : int, optional
        The width is rounded up to a multiple of it.
    return_tensors : {"pt", "np"}
        torch tensors or NumPy arrays.
    pad_token_id : int, optional
        Instead of the tokenizer's.
    padding_side : {"right", "left"}, optional
        Instead of the tokenizer's.

    Raises
    ------
    ValueError, TypeError, OverflowError
        When there are no features, when their keys differ, when there is no padding token, when a
        row is longer than "max_length", and as :class:`tightbatch.PadCollator`; messages name key,
        row and column.

    Examples
    --------
    >>> from tightbatch.huggingface import DataCollatorWithPadding
    >>> collate = DataCollatorWithPadding(pad_token_id=0, return_tensors="np")
    >>> batch = collate([{"input_ids": [5, 6], "label": 1}, {"input_ids": [7], "label": 0}])
    >>> list(batch), batch["input_ids"].tolist(), batch["labels"].tolist()
    (['input_ids', 'attention_mask', 'labels'], [[5, 6], [7, 0]], [1, 0])
    """

    tokenizer: Any = None
    padding: Padding = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: Tensors = "pt"
    _: KW_ONLY
    pad_token_id: int | None = None
    padding_side: Side | None = None

    def __post_init__(self) -> None:
        """Check the settings; what is set later is checked at the next batch."""
        check_settings(self, self.return_tensors)

    def __call__(self, features: Any) -> Any:
        """Collate features into a batch."""
        columns, _ = columns_of(type(self).__name__, features)
        padding = features_of(self, columns)
        padding.add_inputs()
        values, block = padding.finish()
        return build(encoding(padding.encoding), _renamed(values), block)


@dataclass(repr=False)
class DataCollatorForTokenClassification(Collator):
    """Pad the inputs, and the labels to the same width; they keep their name.

    Parameters
    ----------
    tokenizer, padding, max_length, pad_to_multiple_of, return_tensors, pad_token_id, padding_side
        As for :class:`DataCollatorWithPadding`.
    label_pad_token_id : int
        What fills the labels.

    Raises
    ------
    ValueError, TypeError, OverflowError
        As :class:`DataCollatorWithPadding`; and when labels are longer than the padded input.

    Examples
    --------
    >>> from tightbatch.huggingface import DataCollatorForTokenClassification
    >>> collate = DataCollatorForTokenClassification(pad_token_id=0, return_tensors="np")
    >>> collate([{"input_ids": [5, 6], "labels": [1, 2]}, {"input_ids": [7], "labels": [3]}])[
    ...     "labels"
    ... ].tolist()
    [[1, 2], [3, -100]]
    """

    tokenizer: Any = None
    padding: Padding = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = -100
    return_tensors: Tensors = "pt"
    _: KW_ONLY
    pad_token_id: int | None = None
    padding_side: Side | None = None

    def __post_init__(self) -> None:
        """Check the settings; what is set later is checked at the next batch."""
        check_settings(self, self.return_tensors)

    def __call__(self, features: Any, return_tensors: Tensors | None = None) -> Any:
        """Collate features into a batch."""
        columns, _ = columns_of(type(self).__name__, features)
        name = "label" if "label" in columns else "labels"
        padding = features_of(self, columns, return_tensors)
        padding.add_inputs(skipped=(name,))
        if name in columns:
            settings = ColumnSettings(self.label_pad_token_id, "int64", width=padding.width)
            padding.add(name, columns[name], "rows", settings)
        values, block = padding.finish()
        if name in columns:  # after the mask, as in transformers
            values[name] = values.pop(name)
        return build(encoding(padding.encoding), values, block)


@dataclass(repr=False)
class DataCollatorForSeq2Seq(Collator):
    """Pad the inputs, and the labels to a width of their own, always as ``labels``.

    Parameters
    ----------
    tokenizer, padding, max_length, pad_to_multiple_of, return_tensors, pad_token_id, padding_side
        As for :class:`DataCollatorWithPadding`; "max_length" and the multiple are for labels too.
    model : PreTrainedModel, optional
        If it has ``prepare_decoder_input_ids_from_labels``, ``decoder_input_ids`` are added.
    label_pad_token_id : int
        What fills the labels.

    Raises
    ------
    ValueError, TypeError, OverflowError
        As :class:`DataCollatorWithPadding`, for labels too.

    Examples
    --------
    >>> from tightbatch.huggingface import DataCollatorForSeq2Seq
    >>> collate = DataCollatorForSeq2Seq(pad_token_id=0, return_tensors="np")
    >>> batch = collate([{"input_ids": [5], "labels": [1, 2]}, {"input_ids": [7], "labels": [3]}])
    >>> batch["input_ids"].tolist(), batch["labels"].tolist()
    ([[5], [7]], [[1, 2], [3, -100]])
    """

    tokenizer: Any = None
    model: Any = None
    padding: Padding = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = -100
    return_tensors: Tensors = "pt"
    _: KW_ONLY
    pad_token_id: int | None = None
    padding_side: Side | None = None

    def __post_init__(self) -> None:
        """Check the settings; what is set later is checked at the next batch."""
        check_settings(self, self.return_tensors)

    def __call__(self, features: Any, return_tensors: Tensors | None = None) -> Any:
        """Collate features into a batch."""
        columns, _ = columns_of(type(self).__name__, features)
        name = "label" if "label" in columns else "labels"
        labels = columns.get(name)
        if labels is not None and not isinstance(labels, Ragged) and not hasattr(labels, "dtype"):
            labels = None if all(label is None for label in labels) else labels
        padding = features_of(self, columns, return_tensors)
        padding.add_inputs(skipped=(name,))
        if labels is not None:
            fixed = padding.asked if self.max_length is not None else None
            padding.pads = padding.pads_labels
            padding.add_rows("labels", labels, self.label_pad_token_id, fixed, "int64")
        values, block = padding.finish()
        values["labels"] = values.pop("labels", None)
        if labels is not None and hasattr(self.model, "prepare_decoder_input_ids_from_labels"):
            make = self.model.prepare_decoder_input_ids_from_labels
            values["decoder_input_ids"] = make(labels=values["labels"])
        return build(encoding(padding.encoding), values, block)


def _renamed(values: dict[Any, Any]) -> dict[Any, Any]:
    for name in ("label", "label_ids"):
        if name in values:
            values["labels"] = values.pop(name)
    return values
