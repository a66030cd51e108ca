"""tb.PadCollator: what comes out of each kind of sample, and tb.Batch."""

import pickle
from collections import UserDict, namedtuple
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

import tightbatch as tb
from checks import assert_same, checked

torch = pytest.importorskip("torch")
Pair = namedtuple("Pair", "input_ids label")


def collate(samples, **options):
    return checked(tb.PadCollator(return_tensors="np", **options), samples)


def assert_tensor(result, values, dtype):
    expected = torch.tensor(values, dtype=dtype)
    assert type(result) is torch.Tensor
    assert result.dtype == dtype
    assert result.shape == expected.shape
    assert result.is_contiguous()
    assert torch.equal(result, expected)


SAMPLES = [
    {"input_ids": [5, 6, 7], "label": 1, "text": "a", "weight": 0.5},
    {"input_ids": [8], "label": 0, "text": "b", "weight": 2},
]


def test_dicts_gain_a_mask_and_keep_their_keys_in_order():
    batch = checked(tb.PadCollator(), SAMPLES)
    assert type(batch) is tb.Batch
    assert list(batch) == ["input_ids", "label", "text", "weight", "attention_mask"]
    assert_tensor(batch["input_ids"], [[5, 6, 7], [8, 0, 0]], torch.int64)
    assert_tensor(batch["attention_mask"], [[1, 1, 1], [1, 0, 0]], torch.int64)
    assert_tensor(batch["label"], [1, 0], torch.int64)
    assert_tensor(batch["weight"], [0.5, 2.0], torch.float32)
    assert batch["text"] == ["a", "b"]


def test_numpy_output():
    batch = collate(SAMPLES)
    assert type(batch) is tb.Batch
    assert_same(batch["input_ids"], [[5, 6, 7], [8, 0, 0]], np.int64)
    assert_same(batch["attention_mask"], [[1, 1, 1], [1, 0, 0]], np.int64)
    assert_same(batch["label"], [1, 0], np.int64)


@pytest.mark.parametrize("mapping", [UserDict, dict])
def test_other_mappings(mapping):
    batch = collate([mapping(input_ids=[1, 2]), {"input_ids": [3]}, mapping(input_ids=[])])
    assert_same(batch["input_ids"], [[1, 2], [3, 0], [0, 0]], np.int64)


def test_a_tokenizers_encodings():
    transformers = pytest.importorskip("transformers")
    rows = [transformers.BatchEncoding({"input_ids": row}) for row in ([1, 2], [3])]
    batch = tb.PadCollator()(rows)
    assert_tensor(batch["input_ids"], [[1, 2], [3, 0]], torch.int64)


def test_an_iterator_of_samples():
    batch = tb.PadCollator(return_tensors="np")(iter(SAMPLES))
    assert_same(batch["input_ids"], [[5, 6, 7], [8, 0, 0]], np.int64)


def test_tuples_keep_their_structure():
    ids, label = collate([([1, 2], 1), ([3], 0)])
    assert_same(ids, [[1, 2], [3, 0]], np.int64)
    assert_same(label, [1, 0], np.int64)
    batch = collate([([1, 2], 1), ([3], 0)], attention_mask=True, return_lengths=True)
    assert type(batch) is tuple
    assert len(batch) == 4
    assert_same(batch[2], [[1, 1], [1, 0]], np.int64)
    assert_same(batch[3], [2, 1], np.int64)


def test_namedtuples_keep_their_type_and_the_fills_of_their_names():
    Labelled = namedtuple("Labelled", "input_ids labels")
    batch = collate([Labelled([1, 2], [1, 2]), Labelled([3], [3])])
    assert type(batch) is Labelled
    assert_same(batch.input_ids, [[1, 2], [3, 0]], np.int64)
    assert_same(batch.labels, [[1, 2], [3, -100]], np.int64)
    assert type(tb.PadCollator()([Pair([1], 2)])) is Pair


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_bare_rows(kind):
    rows = [kind([1, 2]), kind([3])]
    assert_same(collate(rows), [[1, 2], [3, 0]], np.int64)
    padded, mask = collate(rows, attention_mask=True)
    assert_same(padded, [[1, 2], [3, 0]], np.int64)
    assert_same(mask, [[1, 1], [1, 0]], np.int64)
    padded, lengths = collate(rows, return_lengths=True)
    assert_same(lengths, [2, 1], np.int64)


def test_every_key_has_its_fill():
    keys = ["labels", "label", "label_ids", "attention_mask", "token_type_ids", "position_ids"]
    keys += ["special_tokens_mask", "word_ids"]
    samples = [dict.fromkeys(["input_ids", *keys], row) for row in ([7, 7], [7])]
    batch = collate(samples, padding_value=9)
    fills = {key: int(batch[key][1, 1]) for key in batch}
    assert fills == {
        "input_ids": 9,
        "labels": -100,
        "label": -100,
        "label_ids": -100,
        "attention_mask": 0,
        "token_type_ids": 0,
        "position_ids": 0,
        "special_tokens_mask": 1,
        "word_ids": 0,
    }
    batch = collate(samples, padding_value={"labels": -1, "input_ids": 3})
    assert int(batch["labels"][1, 1]) == -1
    assert int(batch["input_ids"][1, 1]) == 3
    assert int(batch["word_ids"][1, 1]) == 0
    assert int(batch["label"][1, 1]) == -100


def test_a_fill_that_is_not_needed_need_not_fit():
    """Multi-hot labels are bools of one length: -100 is no bool, and fills nothing."""
    batch = collate([{"x": [1], "labels": [True, False]}, {"x": [2], "labels": [True, True]}])
    assert_same(batch["labels"], [[True, False], [True, True]], np.bool_)


def test_columns_of_tuples_are_set_by_position():
    batch = collate([([1, 2], [1.5]), ([3], [])], padding_value={1: -1.0}, dtype={1: "float64"})
    assert_same(batch[0], [[1, 2], [3, 0]], np.int64)
    assert_same(batch[1], [[1.5], [-1.0]], np.float64)


@pytest.mark.parametrize(
    ("values", "expected", "dtype"),
    [
        ([1, 2], [1, 2], np.int64),
        ([True, False], [True, False], np.bool_),
        ([1, 2.5], [1, 2.5], np.float32),
        ([np.int32(1), np.int32(2)], [1, 2], np.int32),
        ([np.float64(1.5), np.float64(2)], [1.5, 2], np.float64),
        ([np.array(1, np.uint8), np.array(2, np.uint8)], [1, 2], np.uint8),
        ([torch.tensor(1), torch.tensor(2)], [1, 2], np.int64),
        ([torch.tensor(1.5), torch.tensor(2.0)], [1.5, 2], np.float32),
        ([torch.tensor(True), torch.tensor(False)], [True, False], np.bool_),
    ],
)
def test_numbers_are_stacked(values, expected, dtype):
    assert_same(collate([{"x": value} for value in values])["x"], expected, dtype)


def test_strings_and_none_are_listed():
    batch = collate([{"id": "a", "note": None, "x": [1]}, {"id": "b", "note": "n", "x": [2]}])
    assert batch["id"] == ["a", "b"]
    assert batch["note"] == [None, "n"]


def test_only_strings():
    assert collate([{"id": "a"}, {"id": "b"}]) == {"id": ["a", "b"]}


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_features_of_more_dimensions(dtype):
    rows = [np.arange(6, dtype=dtype).reshape(3, 2), np.arange(2, dtype=dtype).reshape(1, 2)]
    batch = collate([{"input_features": row} for row in rows], return_lengths=True)
    assert_same(
        batch["input_features"], [[[0, 1], [2, 3], [4, 5]], [[0, 1], [0, 0], [0, 0]]], dtype
    )
    assert_same(batch["attention_mask"], [[1, 1, 1], [1, 0, 0]], np.int64)
    assert_same(batch["lengths"], [3, 1], np.int64)


def test_the_mask_is_of_input_ids_or_else_the_first_column_that_is_no_label():
    batch = collate([{"other": [1, 2, 3], "input_ids": [1]}])
    assert batch["attention_mask"].shape == (1, 1)
    batch = collate([{"labels": [1], "n": 5, "input_values": [1.0, 2.0]}])
    assert batch["attention_mask"].shape == (1, 2)
    assert "attention_mask" not in collate([{"n": 5}])


@pytest.mark.parametrize("choice", [None, True])
def test_a_mask_that_is_given_is_kept(choice):
    samples = [
        {"input_ids": [1, 2], "attention_mask": [1, 0]},
        {"input_ids": [3], "attention_mask": [1]},
    ]
    batch = collate(samples, attention_mask=choice)
    assert_same(batch["attention_mask"], [[1, 0], [1, 0]], np.int64)


def test_no_mask_is_made_when_it_is_not_wanted():
    assert list(collate(SAMPLES, attention_mask=False)) == list(SAMPLES[0])


def test_sizes_and_sides():
    samples = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}, {"input_ids": [4], "labels": [4]}]
    batch = collate(samples, max_length=2, padding_side="left", truncation_side="left")
    assert_same(batch["input_ids"], [[2, 3], [0, 4]], np.int64)
    assert_same(batch["labels"], [[2, 3], [-100, 4]], np.int64)
    assert_same(batch["attention_mask"], [[1, 1], [0, 1]], np.int64)
    batch = collate(samples, pad_to_multiple_of=4)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 4)
    batch = collate(samples, width={"labels": 5}, max_length={"input_ids": 2})
    assert batch["input_ids"].shape == (2, 2)
    assert batch["labels"].shape == (2, 5)
    lengths = collate(samples, max_length=2, return_lengths=True)["lengths"]
    assert_same(lengths, [2, 1], np.int64)


def test_dtypes_by_key():
    batch = tb.PadCollator(dtype={"input_ids": torch.int32, "x": "float16", "y": np.float64})(
        [{"input_ids": [1, 2], "x": [0.5], "y": 1}, {"input_ids": [3], "x": [2], "y": 2}]
    )
    assert_tensor(batch["input_ids"], [[1, 2], [3, 0]], torch.int32)
    assert_tensor(batch["x"], [[0.5], [2.0]], torch.float16)
    assert_tensor(batch["y"], [1.0, 2.0], torch.float64)


def test_bfloat16_goes_by_its_bits():
    rows = [torch.tensor([1.0, -2.0, float("nan")]).bfloat16(), torch.tensor([3.0]).bfloat16()]
    values = tb.PadCollator(padding_value=0.5)([{"input_values": row} for row in rows])
    assert values["input_values"].dtype == torch.bfloat16
    assert torch.equal(values["input_values"][1], torch.tensor([3.0, 0.5, 0.5]).bfloat16())
    assert values["input_values"][0, :2].tolist() == [1.0, -2.0]
    assert values["input_values"][0, 2].isnan()


def test_int_lists_that_turn_out_to_hold_a_float():
    batch = collate([{"x": [1, 2], "n": 1}, {"x": [0.5], "n": 2}], padding_value={"x": 0})
    assert_same(batch["x"], [[1, 2], [0.5, 0]], np.float32)
    assert_same(batch["n"], [1, 2], np.int64)


def test_empty_rows():
    batch = collate([{"input_ids": []}, {"input_ids": []}])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 0)


def test_the_configuration_is_frozen_compared_printed_and_pickled():
    collator = tb.PadCollator({"input_ids": 3}, max_length=5, dtype={"x": torch.int32})
    with pytest.raises(FrozenInstanceError):
        collator.max_length = 6
    assert pickle.loads(pickle.dumps(collator)) == collator
    assert replace(collator, max_length=6).max_length == 6
    assert replace(collator, max_length=6) != collator
    assert "max_length=5" in repr(collator)
    assert pickle.loads(pickle.dumps(collator))(SAMPLES)["input_ids"][1, 1] == 3


def test_a_batch_pickles_and_moves():
    batch = tb.PadCollator()(SAMPLES)
    again = pickle.loads(pickle.dumps(batch))
    assert type(again) is tb.Batch
    assert torch.equal(again["input_ids"], batch["input_ids"])
    moved = batch.to("meta")
    assert moved is batch
    assert batch["input_ids"].device.type == "meta"
    assert batch["text"] == ["a", "b"]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator to pin for")
def test_pinning_raises_what_torch_raises():
    batch = tb.PadCollator()(SAMPLES)
    with pytest.raises((RuntimeError, AssertionError)):
        batch.pin_memory()


class Tokenizer:
    pad_token_id = 7
    pad_token_type_id = 3
    padding_side = "left"


def test_from_tokenizer():
    collator = tb.PadCollator.from_tokenizer(Tokenizer, return_tensors="np")
    keys = ("input_ids", "token_type_ids", "decoder_input_ids", "labels")
    batch = collator([dict.fromkeys(keys, row) for row in ([1, 2], [1])])
    assert {key: int(batch[key][1, 0]) for key in keys} == {
        "input_ids": 7,
        "token_type_ids": 3,
        "decoder_input_ids": 7,
        "labels": -100,
    }
    assert_same(batch["attention_mask"], [[1, 1], [0, 1]], np.int64)
    other = tb.PadCollator.from_tokenizer(
        Tokenizer, padding_side="right", padding_value={"labels": 5}, max_length=9
    )
    assert (other.padding_side, other.max_length) == ("right", 9)
    assert dict(other.padding_value)["labels"] == 5
    assert dict(other.padding_value)["input_ids"] == 7
    asked = tb.PadCollator.from_tokenizer(
        Tokenizer, padding_value={"input_ids": 9}, return_tensors="np"
    )
    assert asked([{"input_ids": [1, 2]}, {"input_ids": [3]}])["input_ids"].tolist() == [
        [1, 2],
        [9, 3],
    ]
