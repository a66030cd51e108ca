"""Labels that are missing, ragged or negative, and ids below 0: what transformers' collators do."""

import numpy as np
import pytest

from checks import fails
from tightbatch.huggingface import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
)

SETTINGS = {"pad_token_id": 0, "return_tensors": "np"}


def features(*labels):
    return [
        {"input_ids": list(range(1, 3 + row)), "labels": label} for row, label in enumerate(labels)
    ]


# Labels that are None


@pytest.mark.parametrize(
    "labels", [(None, [1, 2]), ([1, 2], None), ([1], None, [2]), (None, None, [3])], ids=str
)
def test_one_sample_without_labels_is_an_error(labels):
    """Nobody's labels are dropped because one sample has none."""
    row = labels.index(None)
    with fails(TypeError, "DataCollatorForSeq2Seq()", "key 'labels'", f"row {row}", "None"):
        DataCollatorForSeq2Seq(**SETTINGS)(features(*labels))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_without_any_labels_there_are_none(count):
    batch = DataCollatorForSeq2Seq(**SETTINGS)(features(*[None] * count))
    assert batch["labels"] is None
    assert batch["input_ids"].shape == (count, count + 1)


# padding=False


@pytest.mark.parametrize("padding", [False, "do_not_pad"])
def test_ragged_labels_without_padding_are_an_error(padding):
    rows = [{"input_ids": [1, 2], "labels": [1, 2]}, {"input_ids": [3, 4], "labels": [5]}]
    for collator in (DataCollatorForSeq2Seq, DataCollatorWithPadding):
        with fails(ValueError, f"{collator.__name__}()", "key 'labels'", "row 1"):
            collator(padding=padding, **SETTINGS)(rows)
    with fails(ValueError, "DataCollatorWithPadding()", "key 'input_ids'", "row 1"):
        DataCollatorWithPadding(padding=padding, **SETTINGS)(
            [{"input_ids": [1, 2]}, {"input_ids": [3]}]
        )


@pytest.mark.parametrize("padding", [False, "do_not_pad", True, "longest"])
def test_labels_of_one_length_stay_as_they_are(padding):
    rows = [{"input_ids": [1, 2], "labels": [1, 2, 3]}, {"input_ids": [3, 4], "labels": [5, 6, 7]}]
    batch = DataCollatorForSeq2Seq(padding=padding, **SETTINGS)(rows)
    assert batch["labels"].tolist() == [[1, 2, 3], [5, 6, 7]]
    assert batch["input_ids"].tolist() == [[1, 2], [3, 4]]


def test_the_fill_of_labels_is_what_was_asked_for():
    rows = features([1, 2], [3])
    for fill in (-100, -1, 0, 9, -(2**62)):
        for collator in (DataCollatorForSeq2Seq, DataCollatorForTokenClassification):
            batch = collator(label_pad_token_id=fill, **SETTINGS)(rows)
            width = batch["labels"].shape[1]
            assert batch["labels"][1].tolist() == [3] + [fill] * (width - 1)


# Ids below 0


MASKED = {
    "mask_token_id": 99,
    "vocab_size": 1000,
    "mlm_probability": 1.0,
    "mask_replace_prob": 1.0,
    "random_replace_prob": 0.0,
    "seed": 1,
    **SETTINGS,
}


def test_ids_below_0_are_masked_as_any_other():
    rows = [{"input_ids": [5, -3, -1, -(2**60), 7]}, {"input_ids": [-2]}]
    batch = DataCollatorForLanguageModeling(special_token_ids=[0, 7], **MASKED)(rows)
    assert batch["input_ids"].tolist() == [[99, 99, 99, 99, 7], [99, 0, 0, 0, 0]]
    assert batch["labels"].tolist() == [[5, -3, -1, -(2**60), -100], [-2, *[-100] * 4]]


def test_an_id_below_0_is_never_another_special_token():
    """An id is not taken for the special token that lies as far from the end of a table."""
    special = [0, 1, 2, 3, 6]
    rows = [{"input_ids": [-1, -2, -5, -6, -7, -8, 4, 5, 7, 10**9]}]
    batch = DataCollatorForLanguageModeling(special_token_ids=special, **MASKED)(rows)
    assert batch["input_ids"].tolist() == [[99] * 10]
    rows = [{"input_ids": [0, 1, 2, 3, 6]}]
    batch = DataCollatorForLanguageModeling(special_token_ids=special, **MASKED)(rows)
    assert batch["input_ids"].tolist() == [[0, 1, 2, 3, 6]]
    assert batch["labels"].tolist() == [[-100] * 5]


def test_a_padding_token_below_0():
    rows = [{"input_ids": [5, -3, -1]}, {"input_ids": [7]}]
    settings = {"pad_token_id": -1, "return_tensors": "np"}
    batch = DataCollatorForLanguageModeling(mlm=False, **settings)(rows)
    assert batch["input_ids"].tolist() == [[5, -3, -1], [7, -1, -1]]
    assert batch["labels"][1].tolist() == [7, -100, -100]
    assert batch["labels"][0, :2].tolist() == [5, -3]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert np.asarray(batch["labels"]).dtype == np.int64
