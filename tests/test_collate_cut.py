"""PadCollator where rows are cut below the width: the fill is there, whatever it is."""

import itertools

import numpy as np
import pytest

import reference
import tightbatch as tb
from checks import assert_same

ROWS = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
KINDS = {
    "lists": lambda rows: rows,
    "tuples in a list": lambda rows: [tuple(row) for row in rows],
    "arrays": lambda rows: [np.array(row) for row in rows],
    "arrays backward": lambda rows: [np.array(row[::-1])[::-1] for row in rows],
    "floats": lambda rows: [[float(item) for item in row] for row in rows],
    "ragged": lambda rows: tb.Ragged.from_sequences(rows),
}
SIDES = list(itertools.product(["right", "left"], repeat=2))


def collated(rows, fill, **options):
    """What PadCollator makes of a column, and what it should be."""
    collator = tb.PadCollator(fill, return_tensors="np", **options)
    if isinstance(rows, tb.Ragged):
        dataset = tb.RaggedDataset({"a": rows})
        return collator(dataset.__getitems__(range(len(dataset))))["a"]
    return collator([{"a": row} for row in rows])["a"]


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "tuples in a list"])
@pytest.mark.parametrize("sides", SIDES, ids="-".join)
@pytest.mark.parametrize("attention_mask", [None, False, True])
@pytest.mark.parametrize("max_length", [0, 1, 2, 5, 9])
def test_rows_that_are_all_cut_below_the_width(kind, sides, attention_mask, max_length):
    padding_side, truncation_side = sides
    options = {
        "max_length": max_length,
        "width": 9,
        "padding_side": padding_side,
        "truncation_side": truncation_side,
    }
    wanted = reference.pad(ROWS, padding_value=7, **options)
    found = collated(KINDS[kind](ROWS), 7, attention_mask=attention_mask, **options)
    assert found.tolist() == wanted


def test_bare_rows_that_are_all_cut():
    collate = tb.PadCollator(7, max_length=2, width=4, attention_mask=False, return_tensors="np")
    assert_same(collate([[1, 2, 3, 4, 5]] * 2), [[1, 2, 7, 7]] * 2, np.int64)
    collate = tb.PadCollator(-1, max_length=1, pad_to_multiple_of=4, return_tensors="np")
    assert collate([[1, 2], [3, 4]]).tolist() == [[1, -1, -1, -1], [3, -1, -1, -1]]
    collate = tb.PadCollator(-1, max_length=1, boundaries=[3, 8], return_tensors="np")
    assert collate([[1, 2], [3, 4]]).tolist() == [[1, -1, -1], [3, -1, -1]]


@pytest.mark.parametrize("dtype", ["int8", "int64", "float16", "float32", "float64", "bool"])
def test_the_fill_of_rows_that_are_all_cut_is_of_every_type(dtype):
    fill = 1
    rows = [np.zeros(5, dtype), np.zeros(3, dtype)]
    for width, max_length in ((4, 2), (6, 3), (3, 0)):
        found = collated(rows, fill, width=width, max_length=max_length, attention_mask=False)
        assert_same(found, [[0] * max_length + [1] * (width - max_length)] * 2, dtype)


def test_columns_are_cut_and_filled_each_in_its_way():
    collate = tb.PadCollator(
        {"a": 7, "b": 8},
        max_length={"a": 1, "b": 3},
        width={"a": 3, "b": 3, "labels": 6},
        return_tensors="np",
    )
    batch = collate([{"a": row, "b": row, "labels": row} for row in ROWS])
    assert batch["a"].tolist() == [[1, 7, 7], [6, 7, 7]]
    assert batch["b"].tolist() == [[1, 2, 3], [6, 7, 8]]
    assert batch["labels"].tolist() == [[1, 2, 3, 4, 5, -100], [6, 7, 8, 9, 10, -100]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0]] * 2


@pytest.mark.parametrize("fill", [0, 7])
def test_rows_of_one_length_are_filled_where_the_width_is_more(fill):
    collate = tb.PadCollator(fill, width=4, attention_mask=False, return_tensors="np")
    for count in (1, 2, 65):
        found = collate([[1, 2]] * count)
        assert found.tolist() == [[1, 2, fill, fill]] * count


# Fills that the tokenizer says, and the caller


class Tokenizer:
    pad_token_id = 3
    pad_token_type_id = 5
    padding_side = "left"


ENCODED = [
    {"input_ids": [1, 2], "token_type_ids": [0, 0], "decoder_input_ids": [1, 2], "x": [1, 2]},
    {"input_ids": [4], "token_type_ids": [0], "decoder_input_ids": [4], "x": [4]},
]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {"input_ids": 3, "decoder_input_ids": 3, "token_type_ids": 5, "x": 0}),
        (
            {"padding_value": {"input_ids": 9}},
            {"input_ids": 9, "decoder_input_ids": 3, "token_type_ids": 5, "x": 0},
        ),
        (
            {"padding_value": {"token_type_ids": 8, "x": 6}},
            {"input_ids": 3, "decoder_input_ids": 3, "token_type_ids": 8, "x": 6},
        ),
    ],
)
def test_what_the_caller_gives_wins_over_the_tokenizer(given, wanted):
    collate = tb.PadCollator.from_tokenizer(Tokenizer(), return_tensors="np", **given)
    batch = collate(ENCODED)
    for key, fill in wanted.items():
        assert batch[key][1].tolist() == [fill, ENCODED[1][key][0]], key
    given["padding_side"] = "right"
    batch = tb.PadCollator.from_tokenizer(Tokenizer(), return_tensors="np", **given)(ENCODED)
    for key, fill in wanted.items():
        assert batch[key][1].tolist() == [ENCODED[1][key][0], fill], key


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("dtype", ["longdouble", "float64", "float16"])
def test_rows_that_numpy_converts_are_cut(dtype, side):
    """Their elements are rows themselves: what is left out is counted in whole ones."""
    rows = [np.arange(2 * n).reshape(n, 2).astype(np.longdouble) for n in (3, 1)]
    result = collated(rows, 0, max_length=2, truncation_side=side, dtype=dtype)
    kept = rows[0][:2] if side == "right" else rows[0][1:]
    assert_same(result, [kept.tolist(), [[0, 1], [0, 0]]], dtype)
