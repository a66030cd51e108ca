"""What transformers' collators do with input that ours treats otherwise: both sides shown."""

import numpy as np
import pytest

import tightbatch as tb
import tightbatch.huggingface as ours
from checks import fails
from comparing_huggingface import assert_same_batch, both, make_tokenizer

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
    [
        name
        for name in ours.__all__
        if name.startswith("DataCollator") and name != "DataCollatorWithFlattening"
    ],
)
def test_no_features_are_named(name):
    mine, expected = both(name, [], tokenizer=TOKENIZER)
    assert isinstance(expected, (AttributeError, IndexError))
    with fails(ValueError, f"{name}()", "an empty batch"):
        raise mine


def test_no_features_to_flatten_are_named():
    with fails(ValueError, "an empty batch"):
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
        ("DataCollatorWithPadding", {"padding": "max_length", "max_length": -1}, "max_length=-1"),
        ("DataCollatorWithPadding", {"padding": 3}, "padding=3"),
        ("DataCollatorWithPadding", {"max_length": 2.5}, "max_length=2.5"),
        ("DataCollatorWithPadding", {"max_length": True}, "max_length=True"),
        ("DataCollatorWithPadding", {"pad_to_multiple_of": 0}, "pad_to_multiple_of=0"),
        ("DataCollatorWithPadding", {"pad_token_id": "0"}, "pad_token_id='0'"),
        ("DataCollatorWithPadding", {"padding_side": 1}, "padding_side=1"),
        ("DataCollatorWithPadding", {"return_tensors": None}, "return_tensors=None"),
        ("DataCollatorForTokenClassification", {"label_pad_token_id": 1.5}, "label_pad_token_id=1"),
        ("DataCollatorForSeq2Seq", {"label_pad_token_id": False}, "label_pad_token_id=False"),
        ("DataCollatorForLanguageModeling", {"mlm": "no"}, "mlm='no'"),
        ("DataCollatorForLanguageModeling", {"whole_word_mask": 1}, "whole_word_mask=1"),
        ("DataCollatorForLanguageModeling", {"mlm_probability": "0.1"}, "mlm_probability='0.1'"),
        ("DataCollatorForLanguageModeling", {"mlm_probability": 1.5}, "mlm_probability=1.5"),
        ("DataCollatorForLanguageModeling", {"random_replace_prob": True}, "random_replace_prob"),
        ("DataCollatorForLanguageModeling", {"seed": -1}, "seed=-1"),
        ("DataCollatorForLanguageModeling", {"seed": 0.5}, "seed=0.5"),
        ("DataCollatorForLanguageModeling", {"vocab_size": 0}, "vocab_size=0"),
    ],
)
def test_options_are_checked(name, options, match):
    with pytest.raises((ValueError, TypeError), match=rf"^{name}\(\): {match}"):
        getattr(ours, name)(TOKENIZER, **options)([{"input_ids": [5]}])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"return_tensors": "tf"}, "return_tensors='tf'"),
        ({"return_position_ids": 1}, "return_position_ids=1"),
        ({"return_flash_attn_kwargs": None}, "return_flash_attn_kwargs=None"),
        ({"return_seq_idx": "no"}, "return_seq_idx='no'"),
        ({"separator_id": 0.5}, "separator_id=0.5"),
        ({"position_ids_start": -1}, "position_ids_start=-1"),
        ({"position_ids_start": None}, "position_ids_start=None"),
    ],
    ids=str,
)
def test_options_of_flattening_are_checked(options, match):
    with pytest.raises((ValueError, TypeError), match=rf"^DataCollatorWithFlattening\(\): {match}"):
        ours.DataCollatorWithFlattening(**options)([{"input_ids": [5]}])


def test_a_row_of_the_data_set_is_named_with_its_column():
    data = tb.RaggedDataset({"input_ids": [[5, 6], [7]], "labels": [[1, 2], [1, 2, 3]]})
    collate = ours.DataCollatorForTokenClassification(TOKENIZER)
    with fails(ValueError, "'labels'", "row 1", "length 3"):
        collate(data.__getitems__([0, 1]))


def test_results_own_their_memory():
    ids = np.array([5, 6, 7])
    batch = ours.DataCollatorWithPadding(TOKENIZER, return_tensors="np")([{"input_ids": ids}])
    assert not np.shares_memory(batch["input_ids"], ids)


@pytest.mark.parametrize("labels", [False, True])
def test_tuples_are_flattened(labels):
    features = [{"input_ids": (5, 6)}, {"input_ids": (7,)}]
    if labels:
        features = [{**feature, "labels": feature["input_ids"]} for feature in features]
    with pytest.raises(TypeError, match="can only concatenate list"):
        theirs.DataCollatorWithFlattening()(features)
    lists = [{key: list(row) for key, row in feature.items()} for feature in features]
    batch = ours.DataCollatorWithFlattening(return_use_cache=False)(features)
    assert_same_batch(batch, theirs.DataCollatorWithFlattening()(lists))


@pytest.mark.parametrize(
    ("name", "features", "key"),
    [
        ("DataCollatorWithPadding", [{"input_ids": [5, 6, 7]}], "input_ids"),
        ("DataCollatorForSeq2Seq", [{"input_ids": [5], "labels": [1, 2, 3]}], "labels"),
    ],
)
def test_rows_that_are_all_longer_than_max_length_are_named_too(name, features, key):
    options = {"tokenizer": TOKENIZER, "padding": "max_length", "max_length": 2}
    mine, expected = both(name, features, **options)
    assert expected[key].shape == (1, 3)  # wider than was asked for
    with fails(ValueError, f"{key!r}", "row 0", "length 3", "width=2"):
        raise mine


@pytest.mark.parametrize("tensors", ["pt", "np"])
def test_rows_behind_an_empty_one_are_not_lost_where_padding_is_off(tensors):
    features = [{"input_ids": []}, {"input_ids": [5]}]
    options = {"tokenizer": TOKENIZER, "padding": False, "return_tensors": tensors}
    mine, expected = both("DataCollatorWithPadding", features, **options)
    if tensors == "pt":
        assert expected["input_ids"].shape == (2, 0)  # the token is gone
    with fails(ValueError, "'input_ids'", "row 1", "length 1", "padding is off"):
        raise mine


SPOILED = {
    "a key is missing": lambda f: f.pop("token_type_ids"),
    "no ids": lambda f: f.update(input_ids=None),
    "a number for a row": lambda f: f.update(input_ids=5),
    "text among the ids": lambda f: f.update(input_ids=["a", "b"]),
    "text for a row": lambda f: f.update(input_ids="ab"),
    "nested ids": lambda f: f.update(input_ids=[[5], [6]]),
    "a huge id": lambda f: f.update(input_ids=[5, 2**70]),
    "a long mask": lambda f: f.update(attention_mask=[1] * 9),
    "a short mask": lambda f: f.update(attention_mask=[1]),
    "long types": lambda f: f.update(token_type_ids=[0] * 9),
    "no mask": lambda f: f.update(attention_mask=None),
    "a mapping for a row": lambda f: f.update(input_ids={"a": 5}),
}


@pytest.mark.parametrize("spoiled", SPOILED)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DataCollatorWithPadding", {}),
        ("DataCollatorForTokenClassification", {}),
        ("DataCollatorForSeq2Seq", {}),
        ("DataCollatorForLanguageModeling", {"mlm": False}),
        ("DataCollatorForLanguageModeling", {"mlm": True}),
    ],
    ids=str,
)
def test_a_spoiled_row_is_refused(name, options, place, spoiled):
    """Whatever place it has; transformers lets a missing key of the first row pass."""
    features = [
        {"input_ids": [5, 6], "attention_mask": [1, 1], "token_type_ids": [0, 1]} for _ in range(3)
    ]
    SPOILED[spoiled](features[place])
    mine, expected = both(name, features, tokenizer=TOKENIZER, **options)
    assert isinstance(mine, (ValueError, TypeError, OverflowError)), mine
    assert name in str(mine)
    assert isinstance(expected, Exception) or (place, spoiled) == (0, "a key is missing")


@pytest.mark.parametrize(
    "mask",
    [
        lambda n: [True] * n,
        lambda n: [1.0] * n,
        lambda n: np.ones(n, np.bool_),
        lambda n: np.ones((1, 3, 3), np.int64),
    ],
    ids=["bools", "floats", "array of bools", "4-D"],
)
def test_causal_labels_with_masks_of_any_type(mask):
    features = [{"input_ids": np.arange(5, 5 + n), "attention_mask": mask(n)} for n in (3, 3)]
    mine, expected = both(
        "DataCollatorForLanguageModeling", features, tokenizer=TOKENIZER, mlm=False
    )
    assert expected["labels"].tolist() == [[5, 6, 7]] * 2
    assert not isinstance(mine, Exception), mine
    assert mine["labels"].tolist() == expected["labels"].tolist()


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("dtype", [np.bool_, np.float32, np.float64, np.int16, np.uint8])
def test_other_columns_of_arrays_get_the_type_of_lists(dtype, tensors):
    features = [
        {"input_ids": np.arange(5, 5 + n), "flags": np.array([1, 0, 1], dtype)} for n in (3, 2)
    ]
    mine, expected = both(
        "DataCollatorWithPadding", features, tokenizer=TOKENIZER, return_tensors=tensors
    )
    assert mine["flags"].dtype == expected["flags"].dtype
    assert mine["flags"].tolist() == expected["flags"].tolist()


@pytest.mark.parametrize("multiple", [4, 8])
@pytest.mark.parametrize("tensors", ["pt", "np"])
def test_a_multiple_does_not_widen_labels_where_padding_is_off(tensors, multiple):
    options = {"tokenizer": TOKENIZER, "padding": False, "return_tensors": tensors}
    features = [{"input_ids": [5, 6, 7], "labels": [1, 2, 3]}] * 2
    assert_same_batch(
        *both(
            "DataCollatorForTokenClassification", features, pad_to_multiple_of=multiple, **options
        )
    )


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("mask", [[True, True], np.ones(2, np.bool_)], ids=["list", "array"])
def test_bools_that_are_padded_become_integers(mask, tensors):
    kind = type(mask) if isinstance(mask, list) else np.array
    features = [
        {"input_ids": kind([5, 6]), "attention_mask": mask},
        {"input_ids": kind([7]), "attention_mask": mask[:1]},
    ]
    options = {"tokenizer": TOKENIZER, "return_tensors": tensors}
    assert_same_batch(*both("DataCollatorWithPadding", features, **options))


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "bool"])
@pytest.mark.parametrize("key", ["attention_mask", "spans", "weight"])
def test_arrays_beside_lists_keep_their_type(key, dtype, tensors):
    """4-D masks; rows; and numbers, which are NumPy scalars."""
    shape = {"attention_mask": (1, 2, 2), "spans": (3,), "weight": ()}[key]
    features = [{"input_ids": [5, 6], key: np.ones(shape, dtype)[()]} for _ in range(2)]
    options = {"tokenizer": TOKENIZER, "return_tensors": tensors}
    assert_same_batch(*both("DataCollatorWithPadding", features, **options))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_rows_without_tokens_add_nothing_wherever_they_are(place):
    rows = [{"input_ids": [5, 6], "labels": [1, 2]}, {"input_ids": [7], "labels": [3]}]
    features = list(rows)
    features.insert(place, {"input_ids": [], "labels": []})
    batch = ours.DataCollatorWithFlattening(return_use_cache=False)(features)
    assert_same_batch(batch, theirs.DataCollatorWithFlattening()(rows))


@pytest.mark.parametrize("mlm", [False, True])
def test_labels_that_give_way_need_not_be_as_long_as_the_input(mlm):
    features = [{"labels": [1, 2, 3], "input_ids": [5, 6]}, {"labels": [1], "input_ids": [7]}]
    options = {"tokenizer": TOKENIZER, "mlm": mlm, "mlm_probability": 1.0}
    mine, expected = both("DataCollatorForLanguageModeling", features, **options)
    assert "excessive nesting" in str(expected)
    assert list(mine) == ["labels", "input_ids", "attention_mask"]
    assert mine["labels"].tolist() == [[5, 6], [7, -100]]


def test_bare_rows_of_a_smaller_type_take_random_tokens():
    rows = [torch.arange(5, 25, dtype=torch.int32)]
    options = {"mlm_probability": 1.0, "mask_replace_prob": 0.0, "random_replace_prob": 1.0}
    options |= {"tokenizer": TOKENIZER, "seed": 1}
    mine, expected = both("DataCollatorForLanguageModeling", rows, **options)
    assert type(expected) is RuntimeError
    assert mine["input_ids"].dtype == mine["labels"].dtype == torch.int32
    assert torch.equal(mine["labels"][0], rows[0])
    assert not torch.equal(mine["input_ids"][0], rows[0])


WRONG = [
    ("DataCollatorWithPadding", "pad_token_id", "x", TypeError),
    ("DataCollatorWithPadding", "padding", "x", ValueError),
    ("DataCollatorWithPadding", "padding", 1, TypeError),
    ("DataCollatorWithPadding", "tokenizer", "bert", TypeError),
    ("DataCollatorForTokenClassification", "label_pad_token_id", 2**70, OverflowError),
    ("DataCollatorForTokenClassification", "return_tensors", "tf", ValueError),
    ("DataCollatorForSeq2Seq", "label_pad_token_id", None, TypeError),
    ("DataCollatorForSeq2Seq", "pad_to_multiple_of", 0, ValueError),
    ("DataCollatorWithFlattening", "separator_id", -100.0, TypeError),
    ("DataCollatorWithFlattening", "return_seq_idx", 1, TypeError),
    ("DataCollatorWithFlattening", "position_ids_start", -1, ValueError),
]


@pytest.mark.parametrize(("name", "setting", "value", "error"), WRONG)
def test_a_wrong_setting_is_refused_when_the_collator_is_made_or_changed(
    name, setting, value, error
):
    kind = getattr(ours, name)
    with fails(error, f"{name}()", setting):
        kind(**{setting: value})
    collator = kind(return_tensors="np")
    setattr(collator, setting, value)
    with fails(error, f"{name}()", setting):
        collator([{"input_ids": [1]}])


def test_a_flag_of_numpy_is_a_padding():
    features = [{"input_ids": [1, 2]}, {"input_ids": [3]}]
    collate = ours.DataCollatorWithPadding(padding=np.True_, pad_token_id=0, return_tensors="np")
    assert collate(features)["input_ids"].tolist() == [[1, 2], [3, 0]]


def test_a_batch_of_columns_is_taken():
    columns = {"input_ids": [[5, 6], [7]]}
    rows = [{"input_ids": row} for row in columns["input_ids"]]
    collate = ours.DataCollatorWithPadding(TOKENIZER)
    assert_same_batch(collate(columns), collate(rows))
