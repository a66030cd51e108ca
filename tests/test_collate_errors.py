"""What PadCollator refuses: messages name key, row and column, and inputs stay as they are."""

from collections import namedtuple

import numpy as np
import pytest

import tightbatch as tb
from checks import checked, fails
from tightbatch import huggingface

torch = pytest.importorskip("torch")
NAME = "PadCollator()"


def collate(samples, **options):
    return checked(tb.PadCollator(return_tensors="np", **options), samples)


def test_an_empty_batch():
    for empty in ([], (), iter([])):
        with fails(ValueError, NAME, "empty"):
            tb.PadCollator()(empty)


@pytest.mark.parametrize("sample", [{"x": [1]}, "text", b"bytes"])
def test_one_sample_instead_of_a_list(sample):
    with fails(TypeError, NAME, type(sample).__name__, "a list of samples"):
        tb.PadCollator()(sample)


def test_incumbents_a_key_only_in_a_later_row():
    with fails(ValueError, f"{NAME}: row 1: has the key 'extra'"):
        collate([{"input_ids": [1]}, {"input_ids": [2], "extra": 1}])


def test_incumbents_a_key_missing_in_a_later_row():
    with fails(ValueError, f"{NAME}: row 2: has no key 'label'"):
        collate([{"x": [1], "label": 1}, {"x": [1], "label": 1}, {"x": [2]}])


def test_a_key_that_differs():
    with fails(ValueError, NAME, "row 1", "'x'"):
        collate([{"x": [1]}, {"y": [1]}])


def test_incumbents_a_mask_of_another_length():
    with fails(ValueError, NAME, "'attention_mask'", "row 1", "length 1", "'input_ids'", "2"):
        collate(
            [
                {"input_ids": [1], "attention_mask": [1]},
                {"input_ids": [1, 2], "attention_mask": [1]},
            ]
        )


def test_incumbents_labels_of_unequal_length_are_padded():
    batch = collate([{"input_ids": [1], "labels": [1, 2]}, {"input_ids": [1, 2], "labels": []}])
    assert batch["labels"].tolist() == [[1, 2], [-100, -100]]


@pytest.mark.parametrize(
    ("values", "kind", "parts"),
    [
        ([[1, 2], [3, "a"]], TypeError, ["row 1", "column 1", "'a'", "str"]),
        ([[1, 2], None], TypeError, ["row 1", "None"]),
        ([[1, 2], 3], TypeError, ["row 1", "3", "int"]),
        ([[1], {"a": 1}], TypeError, ["row 1", "dict"]),
        ([1, [2]], TypeError, ["row 1", "list"]),
        ([1, None], TypeError, ["row 1", "None"]),
        ([1, "a"], TypeError, ["row 1", "'a'"]),
        (["a", 1], TypeError, ["row 1", "int"]),
        ([None, [1]], TypeError, ["row 1", "list"]),
        ([[1], [2**63]], OverflowError, ["row 1", "column 0", "int64"]),
        ([1, 2**70], OverflowError, ["row 1", "int64"]),
        ([np.zeros(1, np.int8), np.zeros(1, np.int16)], TypeError, ["row 1", "int16", "int8"]),
        ([np.int32(1), np.int32(1) + 0.5], TypeError, ["row 1", "1.5"]),
        ([np.zeros((2, 3)), np.zeros((2, 4))], ValueError, ["row 1", "(4,)", "(3,)"]),
        ([1j, 2j], TypeError, ["row 0"]),
        ([[1j]], TypeError, ["row 0", "column 0"]),
        ([object()], TypeError, ["row 0", "object"]),
    ],
)
def test_values(values, kind, parts):
    with fails(kind, NAME, "key 'x'", *parts):
        collate([{"x": value} for value in values])


def test_a_row_longer_than_width():
    with fails(ValueError, NAME, "key 'input_ids'", "row 1", "length 3", "max_length="):
        collate([{"input_ids": [1]}, {"input_ids": [1, 2, 3]}], width=2)


def test_a_fill_that_does_not_fit_where_it_is_needed():
    samples = [{"labels": np.ones(2, np.uint8)}, {"labels": np.ones(1, np.uint8)}]
    with fails(OverflowError, NAME, "key 'labels'", "padding_value=-100", "uint8"):
        collate(samples)
    with fails(ValueError, NAME, "key 'x'", "1.5"):
        collate([{"x": [1, 2]}, {"x": [1]}], padding_value=1.5)


def test_a_dtype_that_does_not_fit():
    with fails(OverflowError, NAME, "key 'x'", "row 0", "column 1", "300", "int8"):
        collate([{"x": [1, 300]}], dtype={"x": "int8"})
    with fails(TypeError, NAME, "key 'x'", "row 0", "column 0"):
        collate([{"x": np.ones(2)}], dtype={"x": "int64"})


def test_samples_of_different_kinds():
    with fails(TypeError, NAME, "row 1", "tuple"):
        collate([{"x": [1]}, ([1],)])
    with fails(ValueError, NAME, "row 1", "a tuple of 1", "a tuple of 2"):
        collate([([1], 1), ([2],)])
    with fails(ValueError, NAME, "row 1", "dict"):
        collate([([1], 1), {"x": 1}])
    with fails(TypeError, NAME, "row 1", "dict"):
        collate([[1], {"x": 1}])


@pytest.mark.parametrize(
    ("options", "kind", "parts"),
    [
        ({"padding_side": "up"}, ValueError, ["padding_side='up'", "'right'", "'left'"]),
        ({"truncation_side": 3}, TypeError, ["truncation_side=3"]),
        ({"width": -1}, ValueError, ["width=-1"]),
        ({"width": 2.5}, TypeError, ["width=2.5"]),
        ({"max_length": True}, TypeError, ["max_length=True"]),
        ({"max_length": {"x": -1}}, ValueError, ["'x'", "max_length=-1"]),
        ({"pad_to_multiple_of": 0}, ValueError, ["pad_to_multiple_of=0"]),
        ({"dtype": "int32"}, TypeError, ["dtype='int32'", "mapping"]),
        ({"dtype": {"x": "complex64"}}, TypeError, ["'x'", "complex64"]),
        ({"dtype": {"x": "no such"}}, TypeError, ["'x'", "no such"]),
        ({"return_tensors": "tf"}, ValueError, ["return_tensors='tf'", "'pt'", "'np'"]),
        ({"attention_mask": "yes"}, TypeError, ["attention_mask='yes'"]),
        ({"padding_side": {"x": "up"}}, ValueError, ["'x'", "padding_side='up'"]),
        ({"padding_side": {"x": 1}}, TypeError, ["'x'", "padding_side=1"]),
        ({"return_lengths": 1.5}, TypeError, ["return_lengths=1.5", "True, False"]),
        ({"return_lengths": [None]}, TypeError, ["return_lengths=[None]"]),
        ({"return_lengths": {"x": 1}}, TypeError, ["return_lengths={'x': 1}", "names"]),
        ({"return_position_ids": 1}, TypeError, ["return_position_ids=1"]),
        ({"keep": 1.5}, TypeError, ["keep=1.5", "keys"]),
        ({"stack": {"x": 1}}, TypeError, ["stack={'x': 1}", "keys"]),
        ({"concat": [True]}, TypeError, ["concat=[True]", "keys"]),
        ({"time_last": None}, TypeError, ["time_last=None", "keys"]),
        ({"keep": "x", "concat": ["x"]}, ValueError, ["'x'", "keep=", "concat="]),
        ({"concat": "x", "time_last": ["x"]}, ValueError, ["'x'", "concat=", "time_last="]),
        ({"rename": ["x"]}, TypeError, ["rename=['x']", "mapping"]),
    ],
)
def test_options_are_refused_when_they_are_given(options, kind, parts):
    with fails(kind, NAME, *parts):
        tb.PadCollator(**options)


def test_a_fill_that_is_no_number_is_refused_when_it_is_given():
    with fails(TypeError, NAME, "padding_value", "'0'"):
        tb.PadCollator("0")
    with fails(TypeError, NAME, "padding_value", "None", "key 'x'"):
        tb.PadCollator({"x": None})


def test_a_mask_or_lengths_of_nothing():
    with fails(ValueError, NAME, "no column holds rows"):
        collate([{"n": 1}], attention_mask=True)
    with fails(ValueError, NAME, "no column holds rows"):
        collate([{"n": 1}], return_lengths=True)
    with fails(ValueError, NAME, "'lengths'"):
        collate([{"x": [1], "lengths": 1}], return_lengths=True)


def test_namedtuples_have_no_room_for_more():
    Pair = namedtuple("Pair", "x y")
    with fails(ValueError, NAME, "Pair"):
        collate([Pair([1], 1)], attention_mask=True)


def test_a_type_that_torch_has_not():
    with fails(TypeError, NAME, "'x'", str(np.dtype(np.longdouble))):
        tb.PadCollator()([{"x": np.ones(2, np.longdouble)}])


def test_tensors_that_are_not_on_the_cpu():
    with fails(TypeError, NAME, "key 'x'", "row 0", "meta"):
        tb.PadCollator()([{"x": torch.ones(2, device="meta")}])


def test_a_tokenizer_without_a_padding_token():
    class Tokenizer:
        pad_token_id = None

    with fails(ValueError, "PadCollator.from_tokenizer()", "pad_token"):
        tb.PadCollator.from_tokenizer(Tokenizer)


def test_hostile_an_index_that_empties_its_own_sample():
    class Clears:
        def __init__(self, sample):
            self.sample = sample

        def __index__(self):
            self.sample["x"].clear()
            return 1

    sample = {"x": [1, 2, 3]}
    sample["x"][1] = Clears(sample)
    with fails(RuntimeError, NAME, "key 'x'", "row 1", "changed size"):
        tb.PadCollator(return_tensors="np")([{"x": [1]}, sample])


def test_hostile_an_array_of_another_column_is_resized_meanwhile():
    array = np.arange(2_000_000)

    class Resizes:
        def __index__(self):
            array.resize(1, refcheck=False)
            return 1

    with fails(RuntimeError, NAME, "changed size"):
        tb.PadCollator(return_tensors="np")([{"a": [1, Resizes()], "b": array}])


@pytest.mark.parametrize("stack", [(), ("x",)])
def test_rows_of_other_shapes_are_named_by_their_row_alone(stack):
    samples = [{"x": [1.5, 2.5], "input_ids": [1]}, {"x": [1.0], "input_ids": [1]}]
    collate = tb.PadCollator(return_tensors="np", stack=stack)
    with fails(ValueError, "key 'x', row 1: has 1 items") as caught:
        collate(samples)
    assert "column" not in str(caught.value)


@pytest.mark.parametrize(
    ("second", "error", "told"),
    [
        ({"a": {"y": [2]}}, ValueError, "key 'a', row 1: has no key 'x'"),
        ({"a": 3}, TypeError, "key 'a', row 1: found type int"),
        ({"a": {"x": {"w": [1]}}}, ValueError, "key 'a.x', row 1: has no key 'z'"),
    ],
)
def test_errors_of_nested_samples_name_the_way_to_the_key(second, error, told):
    first = {"a": {"x": {"z": [1]} if "a.x" in told else [1]}}
    with pytest.raises(error, match=f"PadCollator\\(\\): {told}"):
        tb.PadCollator(return_tensors="np")([first, second])


@pytest.mark.parametrize("value", [2, 2.5, True, [1, 2], np.array([1, 2]), {"a": 1}, np.int64(2)])
@pytest.mark.parametrize("count", [1, 2])
def test_a_none_before_values_is_what_is_wrong(value, count):
    samples = [{"x": [1], "y": None}] * count + [{"x": [1], "y": value}]
    found = type(value).__name__
    for collator in (tb.PadCollator(), tb.PaddingFreeCollator()):
        with fails(
            TypeError, "'y', row 0", "found None", f"expected type {found} as in row {count}"
        ):
            collator([{"input_ids": [1], **sample} for sample in samples])


def test_text_says_what_a_column_with_none_is():
    with fails(TypeError, NAME, "'y', row 2", "found type int", "str or None: row 1 is 'a'"):
        collate([{"x": [1], "y": y} for y in (None, "a", 3)])


SAMPLE = {"input_ids": [1, 2], "labels": [1, 2]}


@pytest.mark.parametrize("make", [dict, tb.Batch, namedtuple("Row", SAMPLE)])
def test_a_batch_of_batches_names_what_a_loader_needs(make):
    sample = make(**SAMPLE)
    batches = [[sample, sample], [sample]]
    words = ("row 0", "a list of samples", "DataLoader(..., batch_size=None)")
    for collator in (
        tb.PadCollator(),
        tb.PaddingFreeCollator(),
        huggingface.DataCollatorWithPadding(pad_token_id=0),
        huggingface.DataCollatorForTokenClassification(pad_token_id=0),
        huggingface.DataCollatorForSeq2Seq(pad_token_id=0),
        huggingface.DataCollatorForLanguageModeling(mlm=False, pad_token_id=0),
        huggingface.DataCollatorWithFlattening(),
    ):
        with fails(TypeError, type(collator).__name__, *words):
            collator(batches)
    batcher = tb.StreamBatcher([SAMPLE] * 4, batch_size=2)
    for options, error in (({}, True), ({"batch_size": None}, False)):
        loader = torch.utils.data.DataLoader(batcher, collate_fn=tb.PadCollator(), **options)
        if error:
            with fails(TypeError, NAME, *words):
                next(iter(loader))
        else:
            assert [len(batch["labels"]) for batch in loader] == [2, 2]


def test_a_batch_of_batches_of_tuples_and_what_are_rows():
    with fails(TypeError, NAME, "row 0", "batch_size=None"):
        tb.PadCollator()([[([1, 2], 1), ([1], 0)]])
    rows = tb.PadCollator(return_tensors="np")([[(1, 2), (3, 4)], [(5, 6)]])
    assert rows.tolist() == [[[1, 2], [3, 4]], [[5, 6], [0, 0]]]
