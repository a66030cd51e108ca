"""Data collators: rows without tokens, padding under masks, tokenizers that change."""

import numpy as np
import pytest

import tightbatch.huggingface as ours
from checks import WORKER_LIMIT, fails
from comparing_huggingface import assert_same_batch, both, make_tokenizer

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("transformers")


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("make", [torch.tensor, np.array], ids=["tensors", "arrays"])
def test_a_row_without_tokens_does_not_decide_the_type(make, tensors):
    features = [
        {"input_ids": make(ids), "attention_mask": make([1] * len(ids)), "labels": make(ids)}
        for ids in ([], [14, 12, 14])
    ]
    tokenizer = make_tokenizer()
    options = {"tokenizer": tokenizer, "return_tensors": tensors}
    assert_same_batch(*both("DataCollatorForTokenClassification", features, **options))
    rows = [{"input_ids": feature["input_ids"]} for feature in features]
    for name, more in (
        ("DataCollatorWithPadding", {}),
        ("DataCollatorForLanguageModeling", {"mlm": False}),
    ):
        assert_same_batch(*both(name, rows, **options, **more))


def test_padding_is_never_masked_whatever_is_special():
    plain = {"pad_token_id": 0, "mask_token_id": 4, "vocab_size": 100, "special_token_ids": [1, 2]}
    features = [{"input_ids": [1, 5, 6, 7, 2]}, {"input_ids": [1, 9, 2]}]
    for side, row in (
        ("right", [-100, 9, -100, -100, -100]),
        ("left", [-100, -100, -100, 9, -100]),
    ):
        collate = ours.DataCollatorForLanguageModeling(
            **plain, mlm_probability=1.0, padding_side=side, return_tensors="np"
        )
        assert collate(features)["labels"].tolist() == [[-100, 5, 6, 7, -100], row]
        bare = collate([feature["input_ids"] for feature in features])
        assert bare["labels"].tolist() == [[-100, 5, 6, 7, -100], row]
        assert list(bare) == ["input_ids", "labels"]


def test_special_tokens_are_those_that_the_tokenizer_has_now():
    tokenizer = make_tokenizer(pad_token=None)
    options = {"mlm_probability": 1.0, "mask_replace_prob": 1.0, "random_replace_prob": 0.0}
    made = [side.DataCollatorForLanguageModeling(tokenizer, **options) for side in (ours, theirs)]
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    features = [{"input_ids": [5, 6, 7]}, {"input_ids": [8]}]
    assert_same_batch(*(collate(features) for collate in made))


def test_ids_outside_the_vocabulary_are_ordinary_tokens():
    collate = ours.DataCollatorForLanguageModeling(make_tokenizer(), mlm_probability=1.0)
    assert collate([[-100, -7, 10**7]])["labels"].tolist() == [[-100, -7, 10**7]]


@pytest.mark.parametrize("mlm", [True, False])
@pytest.mark.parametrize("row", [[1.5, 2.0], [[1, 2], [3, 4]]], ids=["floats", "nested"])
def test_what_are_no_tokens_is_named(row, mlm):
    collate = ours.DataCollatorForLanguageModeling(make_tokenizer(), mlm=mlm)
    with fails(TypeError, "DataCollatorForLanguageModeling()", "'input_ids'", "tokens"):
        collate([{"input_ids": row}])


class Sentences(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"input_ids": list(range(5, 65))}


@pytest.mark.forks
def test_workers_mask_differently_with_numpy_too():
    collate = ours.DataCollatorForLanguageModeling(make_tokenizer(), seed=5, return_tensors="np")
    loader = torch.utils.data.DataLoader(
        Sentences(),
        2,
        collate_fn=collate,
        num_workers=2,
        multiprocessing_context="fork",
        timeout=WORKER_LIMIT,
    )
    a, b = (batch["labels"].tolist() for batch in loader)
    assert a != b


@pytest.mark.parametrize("multiple", [None, 4])
def test_labels_are_padded_where_max_length_knows_no_limit(multiple):
    tokenizer = make_tokenizer(model_max_length=10**30)
    features = [{"input_ids": [5], "labels": [1, 2, 3, 4, 5]}, {"input_ids": [7], "labels": [3]}]
    options = {"tokenizer": tokenizer, "padding": "max_length", "pad_to_multiple_of": multiple}
    assert_same_batch(*both("DataCollatorForSeq2Seq", features, **options))
