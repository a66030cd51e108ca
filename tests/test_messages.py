"""What a message says of a value that is long or cannot be shown: a part of it, or its type."""

import re
from pathlib import Path

import numpy as np
import pytest

import tightbatch as tb

LONG = 100_000
TEXT = "y" * LONG
NUMBER = 10**4000  # as many digits as Python writes, nearly
UNWRITABLE = 10**5000  # more digits than Python writes


class Wordy:
    def __repr__(self):
        return "z" * LONG


class Silent:
    def __repr__(self):
        raise LookupError("no words")


VALUES = {
    "a str": TEXT,
    "bytes": TEXT.encode(),
    "an int": NUMBER,
    "an int that Python does not write": UNWRITABLE,
    "a list": [[1]] * LONG,
    "a set": set(range(LONG)),
    "a dict": dict.fromkeys(range(LONG)),
    "an object": Wordy(),
    "an object without words": Silent(),
}
RAGGED = tb.Ragged.from_sequences([[1], [2]])


def collate(samples):
    return tb.PadCollator(return_tensors="np")(samples)


def flatten(samples):
    return tb.PaddingFreeCollator(return_tensors="np")(samples)


def as_dicts(first, second):
    return [{"input_ids": [1, 2], "a": first}, {"input_ids": [1], "a": second}]


# Where each value is wrong, by the function that says so.
PLACES = {
    "an item": ("pad()", lambda value: tb.pad([[1], [value]])),
    "an item of floats": ("pad()", lambda value: tb.pad([[0.5], [value]], dtype="float16")),
    "a row": ("pad()", lambda value: tb.pad([[1], value, [[1]]])),
    "a nested item": ("pad()", lambda value: tb.pad([[[1, 2]], [[1, value]]])),
    "a fill": ("pad()", lambda value: tb.pad([[1], []], padding_value=value)),
    "a row of lengths()": ("lengths()", lambda value: tb.lengths([[1], 5, value])),
    "a length": ("attention_mask()", lambda value: tb.attention_mask([1, value])),
    "a segment's length": ("cu_seqlens()", lambda value: tb.cu_seqlens([1, value])),
    "an id": ("segment_mask()", lambda value: tb.segment_mask([[1, value]])),
    "an index": ("Ragged", lambda value: RAGGED[[0, value]]),
    "a boundary": ("PadCollator()", lambda value: tb.PadCollator(boundaries=[1, value])),
    "a fill by key": ("PadCollator()", lambda value: tb.PadCollator({"a": value, "b": "x"})),
    "a value of a sample": ("PadCollator()", lambda value: collate(as_dicts([1], [value]))),
    "a column of numbers": ("PadCollator()", lambda value: collate(as_dicts(1, [value]))),
    "a value without padding": (
        "PaddingFreeCollator()",
        lambda value: flatten(as_dicts([1, 2], [value])),
    ),
    "a column": ("RaggedDataset()", lambda value: tb.RaggedDataset({"a": [[1], [value]]})),
    "no column": ("RaggedDataset", lambda value: tb.RaggedDataset({"a": [[1]]})[value]),
    "a state": (
        "LengthBatchSampler",
        lambda value: tb.LengthBatchSampler([1], batch_size=1).load_state_dict(
            {**tb.LengthBatchSampler([1], batch_size=1).state_dict(), "epoch": value}
        ),
    ),
    "a state's setting": (
        "LengthBatchSampler",
        lambda value: tb.LengthBatchSampler([1], batch_size=1).load_state_dict(
            {**tb.LengthBatchSampler([1], batch_size=1).state_dict(), "settings": {"seed": value}}
        ),
    ),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", PLACES)
def test_a_long_value_is_not_written_out(place, value):
    function, call = PLACES[place]
    if place == "a fill by key" and value.startswith("an int"):
        pytest.skip("a number, until a column says its type")
    with pytest.raises((TypeError, ValueError, OverflowError, KeyError, IndexError)) as caught:
        call(VALUES[value])
    message = str(caught.value)
    assert function in message, message[:200]
    assert len(message) < 600, f"{len(message)} characters: {message[:200]}"


@pytest.mark.parametrize("key", ["k" * LONG, ("k",) * LONG], ids=["str", "tuple"])
def test_a_long_key_is_not_written_out(key):
    for call in (
        lambda: collate([{key: [1]}, {key: ["x"]}]),
        lambda: collate([{key: [1]}, {"b": [1]}]),
        lambda: flatten([{"input_ids": [1], key: [1, 2]}]),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert len(str(caught.value)) < 600


def test_a_short_value_is_written_out():
    for value in ("words", 2**70, [1, 2], {3: 4}, b"bytes"):
        with pytest.raises((TypeError, ValueError, OverflowError)) as caught:
            tb.pad([[1], [value]])
        assert repr(value) in str(caught.value)
    with pytest.raises(TypeError) as caught:
        tb.pad([[1]], width="x" * 40)
    assert "x" * 40 in str(caught.value)


def test_names_of_many_columns_are_not_written_out():
    columns = {f"column {i}": [[1]] for i in range(LONG // 100)}
    dataset = tb.RaggedDataset(columns)
    with pytest.raises(KeyError) as caught:
        dataset["another"]
    assert "another" in str(caught.value)
    samples = [{"a": 1}, {f"column {i}": i for i in range(LONG // 100)}]
    with pytest.raises((ValueError, KeyError)) as caught:
        collate(samples)
    assert "row 1" in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_what_stops_a_beginner_says_what_to_do():
    for call, *parts in (
        (lambda: tb.PadCollator.from_tokenizer("bert"), "str", "AutoTokenizer", "'bert'"),
        (lambda: tb.RaggedDataset([[1], [2]]), "row 0", "list", '{"input_ids": rows}'),
        (lambda: tb.Ragged([[1, 2]]), "offsets", "Ragged.from_sequences()"),
        (lambda: tb.PadCollator(return_tensors="np")([None, None]), "row 0", "None", "a sample"),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        for part in parts:
            assert part in str(caught.value)


def test_choices_are_listed_as_a_sentence():
    with pytest.raises(ValueError, match=r"expected 'right' or 'left'$"):
        tb.pad([[1]], padding_side="x")
    with pytest.raises(ValueError, match=r"expected 'error', 'truncate', 'split' or 'drop'$"):
        tb.pack([1], 2, overlong="x")


def test_only_where_lengths_are_expected_may_a_mask_have_been_meant():
    with pytest.raises(TypeError, match=r"found bools, expected integers$"):
        tb.partition(np.array([True, False]), 1)
    with pytest.raises(TypeError, match=r"mask\.sum\(axis=1\)$"):
        tb.pack(np.array([True, False]), 2)


def test_nothing_advises_to_install_what_no_index_has():
    root = Path(__file__).parent.parent
    texts = [*(root / "python").rglob("*.py"), *(root / "csrc").rglob("*.[ch]")]
    texts += [root / "README.md", *(root / "docs").glob("*.md"), *(root / "examples").glob("*.py")]
    for path in texts:
        assert not re.search(r"install ['\"]?tightbatch", path.read_text("utf-8")), path
