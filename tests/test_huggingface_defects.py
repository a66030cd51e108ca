"""What transformers' collators do with input that ours treats otherwise: both sides shown."""

import numpy as np
import pytest

import tightbatch as tb
import tightbatch.huggingface as ours
from checks import fails
from comparing_huggingface import both, make_tokenizer

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("transformers")

TOKENIZER = make_tokenizer()
PAD, MASK = TOKENIZER.pad_token_id, TOKENIZER.mask_token_id


def test_a_key_of_a_later_row_alone_is_named_not_dropped():
    features = [{"input_ids": [5]}, {"input_ids": [6], "weight": 2}]
    mine, expected = both("DataCollatorWithPadding", features, tokenizer=TOKENIZER)
    assert "weight" not in expected  # lost without a word
    with fails(ValueError, "DataCollatorWithPadding()", "row 1", "'weight'"):
        raise mine


def test_a_key_that_a_later_row_lacks_is_named():
    features = [{"input_ids": [5], "label": 1}, {"input_ids": [6]}]
    mine, expected = both("DataCollatorWithPadding", features, tokenizer=TOKENIZER)
    assert type(expected) is KeyError
    with fails(ValueError, "row 1", "'label'", "row 0"):
        raise mine


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("key", ["labels", "label_ids", "label"])
def test_labels_of_different_lengths_are_padded(side, key):
    features = [{"input_ids": [5, 6, 7], key: [1, 2, 3]}, {"input_ids": [8], key: [4]}]
    tokenizer = make_tokenizer(padding_side=side)
    options = {"tokenizer": tokenizer, "pad_to_multiple_of": 4}
    mine, expected = both("DataCollatorWithPadding", features, **options)
    assert "excessive nesting" in str(expected)
    row = [4, -100, -100, -100] if side == "right" else [-100, -100, -100, 4]
    assert mine["labels"][1].tolist() == row
    assert mine["labels"].dtype == torch.int64


def test_other_columns_of_different_lengths_are_named():
    features = [{"input_ids": [5, 6], "spans": [1, 2]}, {"input_ids": [7], "spans": [1]}]
    mine, expected = both("DataCollatorWithPadding", features, tokenizer=TOKENIZER)
    assert "padding=True" in str(expected)  # which was given
    with fails(ValueError, "'spans'", "row 1", "length 1", "PadCollator"):
        raise mine


@pytest.mark.parametrize("with_mask", [False, True])
def test_a_padding_token_that_ends_sequences_keeps_its_label(with_mask):
    tokenizer = make_tokenizer(eos_token="[PAD]")
    end = tokenizer.eos_token_id
    assert end == tokenizer.pad_token_id
    features = [{"input_ids": [5, 6, end]}, {"input_ids": [7, end]}]
    if with_mask:
        for feature in features:
            feature["attention_mask"] = [1] * len(feature["input_ids"])
    options = {"tokenizer": tokenizer, "mlm": False}
    mine, expected = both("DataCollatorForLanguageModeling", features, **options)
    assert expected["labels"].tolist() == [[5, 6, -100], [7, -100, -100]]  # never learns to stop
    assert mine["labels"].tolist() == [[5, 6, end], [7, end, -100]]
    assert mine["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_rows_that_were_padded_before_are_known_by_their_mask():
    tokenizer = make_tokenizer(eos_token="[PAD]", padding_side="left")
    end = tokenizer.eos_token_id
    features = [
        {"input_ids": [end, end, 5, end], "attention_mask": [0, 0, 1, 1]},
        {"input_ids": [5, 6, 7, end], "attention_mask": [1, 1, 1, 1]},
    ]
    mine = ours.DataCollatorForLanguageModeling(tokenizer, mlm=False)(features)
    assert mine["labels"].tolist() == [[-100, -100, 5, end], [5, 6, 7, end]]


def test_a_row_without_tokens_does_not_part_labels_from_inputs():
    features = [{"input_ids": [5, 6]}, {"input_ids": []}, {"input_ids": [7]}]
    options = {"return_flash_attn_kwargs": True, "return_seq_idx": True}
    mine, expected = both("DataCollatorWithFlattening", features, **options)
    assert expected["labels"].shape != expected["input_ids"].shape
    assert mine["input_ids"].tolist() == [[5, 6, 7]]
    assert mine["labels"].tolist() == [[-100, 6, -100]]
    assert mine["position_ids"].tolist() == [[0, 1, 0]]
    assert mine["seq_idx"].tolist() == [[0, 0, 2]]
    assert mine["cu_seq_lens_q"].tolist() == [0, 2, 2, 3]
    assert mine["cu_seq_lens_q"].data_ptr() != mine["cu_seq_lens_k"].data_ptr()


def test_nothing_but_empty_rows_flatten_to_nothing():
    batch = ours.DataCollatorWithFlattening(return_flash_attn_kwargs=True)([{"input_ids": []}] * 2)
    assert batch["input_ids"].shape == batch["labels"].shape == (1, 0)
    assert batch["max_length_q"] == 0


def test_flattened_labels_of_other_lengths_are_named():
    features = [{"input_ids": [5, 6], "labels": [5, 6]}, {"input_ids": [7], "labels": [7, 8]}]
    mine, expected = both("DataCollatorWithFlattening", features)
    assert expected["labels"].shape == (1, 4)  # of 3 inputs
    with fails(ValueError, "'labels'", "row 1", "length 2", "'input_ids'"):
        raise mine


def test_a_label_longer_than_its_input_is_named():
    features = [{"input_ids": [5, 6], "labels": [1, 2]}, {"input_ids": [7], "labels": [1, 2, 3]}]
    mine, expected = both("DataCollatorForTokenClassification", features, tokenizer=TOKENIZER)
    assert "expected sequence of length" in str(expected)
    with fails(ValueError, "'labels'", "row 1", "length 3", "width=2"):
        raise mine


def test_a_row_longer_than_max_length_is_named():
    features = [{"input_ids": [5]}, {"input_ids": [5, 6, 7]}]
    options = {"tokenizer": TOKENIZER, "padding": "max_length", "max_length": 2}
    mine, expected = both("DataCollatorWithPadding", features, **options)
    assert "truncation=True" in str(expected)
    with fails(ValueError, "'input_ids'", "row 1", "length 3", "width=2"):
        raise mine


@pytest.mark.parametrize("multiple", [0, -8])
def test_a_multiple_below_one_is_named(multiple):
    options = {"tokenizer": TOKENIZER, "pad_to_multiple_of": multiple}
    mine, expected = both(
        "DataCollatorWithPadding", [{"input_ids": [5]}, {"input_ids": [5, 6]}], **options
    )
    assert isinstance(expected, ZeroDivisionError if multiple == 0 else ValueError)
    with fails(ValueError, f"pad_to_multiple_of={multiple}"):
        raise mine


@pytest.mark.parametrize(
    "name",
    [name for name in ours.__all__ if name != "DataCollatorWithFlattening"],
)
def test_no_features_are_named(name):
    mine, expected = both(name, [], tokenizer=TOKENIZER)
    assert isinstance(expected, (AttributeError, IndexError))
    with fails(ValueError, f"{name}()", "no features"):
        raise mine


def test_no_features_to_flatten_are_named():
    with fails(ValueError, "no features"):
        ours.DataCollatorWithFlattening()([])


@pytest.mark.parametrize("key", ["attention_mask", "token_type_ids", "special_tokens_mask"])
def test_a_column_of_other_lengths_than_the_input_is_named(key):
    features = [{"input_ids": [5, 6], key: [1, 1]}, {"input_ids": [5, 6], key: [1]}]
    mine, expected = both("DataCollatorWithPadding", features, tokenizer=TOKENIZER)
    assert isinstance(expected, ValueError)
    with fails(ValueError, f"{key!r}", "row 1", "length 1", "'input_ids'"):
        raise mine


def test_no_padding_token_is_named():
    tokenizer = make_tokenizer(pad_token=None)
    mine, expected = both("DataCollatorWithPadding", [{"input_ids": [5]}], tokenizer=tokenizer)
    assert isinstance(expected, ValueError)
    with fails(ValueError, "padding token", "pad_token_id="):
        raise mine


def test_bare_rows_padded_left_may_be_empty():
    tokenizer = make_tokenizer(padding_side="left")
    rows = [[5, 6], []]
    options = {"tokenizer": tokenizer, "mlm": False}
    mine, expected = both("DataCollatorForLanguageModeling", rows, **options)
    assert isinstance(expected, Exception)
    assert mine["input_ids"].tolist() == [[5, 6], [PAD, PAD]]
    assert mine["labels"].tolist() == [[5, 6], [-100, -100]]


def test_floats_for_labels_are_refused_not_cut():
    features = [{"input_ids": [5], "labels": [1.9]}]
    mine, expected = both("DataCollatorForTokenClassification", features, tokenizer=TOKENIZER)
    assert expected["labels"].tolist() == [[1]]
    with fails(TypeError, "'labels'", "row 0", "column 0", "1.9"):
        raise mine


def test_text_and_missing_values_are_listed():
    features = [{"input_ids": [5], "text": "one"}, {"input_ids": [6, 7], "text": None}]
    mine, expected = both("DataCollatorWithPadding", features, tokenizer=TOKENIZER)
    assert isinstance(expected, ValueError)
    assert list(mine) == ["input_ids", "text", "attention_mask"]
    assert mine["text"] == ["one", None]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_text_anywhere_among_the_columns(place):
    keys = ["attention_mask", "input_ids"]
    keys.insert(place, "text")
    values = {"attention_mask": [1, 0], "input_ids": [5, 6], "text": "two"}
    features = [{key: values[key] for key in keys}, {**{key: values[key] for key in keys}}]
    features[1] = {**features[1], "attention_mask": [1], "input_ids": [7]}
    batch = ours.DataCollatorWithPadding(TOKENIZER)(features)
    assert list(batch) == keys
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 0]]
    bad = [features[0], {**features[1], "attention_mask": [1, 1]}]
    with fails(ValueError, "'attention_mask'", "row 1", "'input_ids'"):
        ours.DataCollatorWithPadding(TOKENIZER)(bad)


@pytest.mark.parametrize(
    ("features", "error"),
    [
        ([5, 6], TypeError),
        ([[5], [6]], TypeError),
        ({"input_ids": [[5]]}, TypeError),
        ("text", TypeError),
        ([{"label": 1}], ValueError),
        ([{"input_ids": 5}], TypeError),
        ([{"input_ids": [[5], [6, 7]]}], ValueError),
        ([{"input_ids": ["a"]}], TypeError),
        ([{"input_ids": [5]}, {"input_ids": None}], TypeError),
        ([{"input_ids": [2**70]}], OverflowError),
    ],
    ids=repr,
)
def test_what_are_no_features_is_refused(features, error):
    with pytest.raises(error, match="DataCollatorWithPadding"):
        ours.DataCollatorWithPadding(TOKENIZER)(features)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("DataCollatorWithPadding", {"padding": "most"}, "padding="),
        ("DataCollatorWithPadding", {"padding_side": "up"}, "padding_side"),
        ("DataCollatorWithPadding", {"return_tensors": "tf"}, "return_tensors"),
        ("DataCollatorWithPadding", {"padding": "max_length", "max_length": -1}, "width"),
    ],
)
def test_options_are_checked(name, options, match):
    with pytest.raises((ValueError, TypeError), match=match):
        getattr(ours, name)(TOKENIZER, **options)([{"input_ids": [5]}])


def test_a_row_of_the_data_set_is_named_with_its_column():
    data = tb.RaggedDataset({"input_ids": [[5, 6], [7]], "labels": [[1, 2], [1, 2, 3]]})
    collate = ours.DataCollatorForTokenClassification(TOKENIZER)
    with fails(ValueError, "'labels'", "row 1", "length 3"):
        collate(data.__getitems__([0, 1]))


def test_results_own_their_memory():
    ids = np.array([5, 6, 7])
    batch = ours.DataCollatorWithPadding(TOKENIZER, return_tensors="np")([{"input_ids": ids}])
    assert not np.shares_memory(batch["input_ids"], ids)
