"""Labels of rows and labels of tokens in PadCollator: what is padded, and what is never."""

import numpy as np
import pytest

import tightbatch as tb
from checks import assert_same, checked, fails

NAME = "PadCollator()"
WIDTHS = [
    {"pad_to_multiple_of": 8},
    {"boundaries": (8, 16)},
    {"width": 16},
    {"max_length": 2},
    {"max_length": 2, "truncation_side": "left", "padding_side": "left", "pad_to_multiple_of": 8},
]
KEYS = ["labels", "label", "label_ids", "chosen_labels", "targets", "y", "target"]
MAKES = {
    "lists": list,
    "tuples": tuple,
    "int64": np.array,
    "int8": lambda row: np.array(row, np.int8),
    "uint16": lambda row: np.array(row, np.uint16),
    "int32": lambda row: np.array(row, np.int32),
    "numbers of NumPy": lambda row: [np.int64(value) for value in row],
}


def collate(samples, **options):
    return checked(tb.PadCollator(return_tensors="np", **options), samples)


def beside(lengths, rows, key="labels"):
    """Samples with so many tokens each, and these labels."""
    return [{"input_ids": [5] * n, key: row} for n, row in zip(lengths, rows, strict=True)]


HOT = [[1, 0, 0, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
COINCIDENCE = [5, 5, 5]  # as many tokens as classes in every row


@pytest.mark.parametrize("options", WIDTHS, ids=str)
@pytest.mark.parametrize("key", KEYS)
def test_multi_hot_labels_of_integers_are_stacked(options, key):
    for lengths in ([3, 5, 7], [5, 5, 6], [4, 4, 4], [9, 9, 9], [5, 0, 5]):
        assert_same(collate(beside(lengths, HOT, key), **options)[key], HOT, np.int64)


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_multi_hot_labels_of_all_kinds(make):
    samples = beside([3, 5, 7], [make(row) for row in HOT])
    found = collate(samples, pad_to_multiple_of=8)["labels"]
    np.testing.assert_array_equal(found, HOT)
    whole = {"input_ids": [[5] * 3, [5] * 5, [5] * 7], "labels": np.array(HOT)}
    found = tb.PadCollator(pad_to_multiple_of=8, return_tensors="np")(whole)["labels"]
    np.testing.assert_array_equal(found, HOT)
    data = tb.RaggedDataset({"input_ids": whole["input_ids"], "labels": HOT})
    found = collate(data.__getitems__([2, 0]), pad_to_multiple_of=8)["labels"]
    np.testing.assert_array_equal(found, [HOT[2], HOT[0]])


@pytest.mark.parametrize("options", WIDTHS, ids=str)
@pytest.mark.parametrize("dtype", [float, bool, np.float16, np.float64])
@pytest.mark.parametrize("lengths", [[3, 5, 7], COINCIDENCE], ids=str)
def test_multi_hot_labels_of_floats_and_bools_depend_on_no_coincidence(options, dtype, lengths):
    rows = [np.array(row, dtype) for row in HOT]
    np.testing.assert_array_equal(collate(beside(lengths, rows), **options)["labels"], rows)
    if dtype in (float, bool):
        rows = [list(map(dtype, row)) for row in HOT]
        found = collate(beside(lengths, rows), **options)["labels"]
        assert_same(found, rows, np.float32 if dtype is float else np.bool_)
    if lengths == COINCIDENCE and options.get("max_length"):
        return
    rows = [[*map(int, row[:-1]), float(row[-1])] for row in HOT]  # ints, as it seems at first
    assert_same(collate(beside(lengths, rows), **options)["labels"], rows, np.float32)


@pytest.mark.parametrize("options", WIDTHS, ids=str)
def test_a_type_says_what_labels_are(options):
    for lengths in ([3, 5, 7], COINCIDENCE):
        found = collate(beside(lengths, HOT), dtype={"labels": "float32"}, **options)["labels"]
        assert_same(found, HOT, np.float32)


def test_an_epoch_of_multi_hot_labels_has_one_width():
    rng = np.random.default_rng(0)
    samples = beside(rng.integers(20, 28, 200), rng.integers(0, 2, (200, 23)).astype(np.float32))
    lengths = tb.lengths(samples, "input_ids")
    collator = tb.PadCollator(pad_to_multiple_of=8, return_tensors="np")
    for batch in tb.LengthBatchSampler(lengths, batch_size=4):
        expected = [samples[row]["labels"] for row in batch]
        assert_same(collator([samples[row] for row in batch])["labels"], expected, np.float32)


def test_a_loss_of_several_labels_takes_them():
    torch = pytest.importorskip("torch")
    samples = beside(COINCIDENCE, [list(map(float, row)) for row in HOT])
    labels = tb.PadCollator(pad_to_multiple_of=8)(samples)["labels"]
    loss = torch.nn.BCEWithLogitsLoss()(torch.zeros(3, 5), labels)
    assert loss.item() == pytest.approx(np.log(2))


# What is labels of tokens all the same


@pytest.mark.parametrize(
    ("lengths", "rows", "expected"),
    [
        ([2, 3], [[1, 0], [1, 0, 1]], [[1, 0, -100, -100], [1, 0, 1, -100]]),  # as the tokens
        ([3, 3], [[1, 0, 1], [0, 0, 1]], [[1, 0, 1, -100], [0, 0, 1, -100]]),  # as the tokens
        ([1], [[1]], [[1, -100, -100, -100]]),
        ([7, 2], [[4, 9, 1], [8, 1, 1]], [[4, 9, 1, -100], [8, 1, 1, -100]]),  # a text's tokens
        ([7], [[4, 9, 1]], [[4, 9, 1, -100]]),
        ([7, 2], [[1, 0, -100], [1, 1, -100]], [[1, 0, -100, -100], [1, 1, -100, -100]]),
        ([7, 2], [[1, 0, -1], [1, 1, 0]], [[1, 0, -1, -100], [1, 1, 0, -100]]),
        ([7, 2], [[6, 0, 1], [0, 1, 1]], [[6, 0, 1, -100], [0, 1, 1, -100]]),
        ([7, 2], [[0, 1, 1], [1, 0, 6]], [[0, 1, 1, -100], [1, 0, 6, -100]]),
        ([7, 2], [[], []], [[], []]),
        ([7, 2], [[0], [1, 1]], [[0, -100, -100, -100], [1, 1, -100, -100]]),
    ],
)
@pytest.mark.parametrize("make", [list, np.array], ids=["lists", "arrays"])
def test_class_ids_and_tokens_are_padded(lengths, rows, expected, make):
    samples = beside(lengths, [make(row) if row else row for row in rows])
    assert_same(collate(samples, pad_to_multiple_of=4)["labels"], expected, np.int64)


def test_tokens_of_a_target_are_cut_though_they_are_of_one_length():
    samples = beside([2, 3], [[7, 8, 9, 1], [6, 5, 4, 1]])
    assert collate(samples, max_length=3)["labels"].tolist() == [[7, 8, 9], [6, 5, 4]]


def test_a_setting_that_names_the_key_decides():
    samples = beside([3, 5, 7], HOT)
    padded = [[*row, -100, -100, -100] for row in HOT]
    assert collate(samples, pad_to_multiple_of={"labels": 8})["labels"].tolist() == padded
    padded = [[*row, -1, -1, -1] for row in HOT]
    found = collate(samples, padding_value={"labels": -1}, pad_to_multiple_of=8)["labels"]
    assert found.tolist() == padded
    samples = beside(COINCIDENCE, HOT)
    assert collate(samples, stack="labels", pad_to_multiple_of=8)["labels"].tolist() == HOT


def test_labels_that_the_mask_is_made_of_are_sequences():
    samples = [{"labels": row} for row in HOT]
    batch = collate(samples, pad_to_multiple_of=8)
    assert batch["labels"].shape == batch["attention_mask"].shape == (3, 8)


def test_no_float_is_filled_with_what_only_class_ids_ignore():
    samples = beside([2, 3], [[0.5, 1.5], [0.5, 1.5, 2.5]])
    words = ("'labels'", "floats", "padding_value={'labels': 0}")
    with fails(ValueError, NAME, "row 1", "has 3 items, row 0 has 2", *words):
        collate(samples)
    for named in ({"pad_to_multiple_of": {"labels": 4}}, {"return_lengths": "labels"}):
        with fails(ValueError, NAME, *words, "-100"):
            collate(samples, **named)
    for fill in (0, -100, float("nan")):
        found = collate(samples, padding_value={"labels": fill})["labels"]
        assert_same(found, [[0.5, 1.5, fill], [0.5, 1.5, 2.5]], np.float32)
    found = collate(samples, padding_value={"labels": 0}, pad_to_multiple_of=4)["labels"]
    assert_same(found, [[0.5, 1.5, 0, 0], [0.5, 1.5, 2.5, 0]], np.float32)
    vectors = beside([2, 3], [np.ones((n, 4), "f4") for n in (2, 3)])
    with fails(ValueError, NAME, "row 1", *words):
        collate(vectors)
    vectors = beside([2, 3], [np.ones((n, 4), int) for n in (2, 3)])
    assert collate(vectors)["labels"][0, 2].tolist() == [-100] * 4


def test_lists_that_change_while_they_are_read():
    class Shrinks:
        def __init__(self, rows):
            self.rows = rows

        def __index__(self):
            for row in self.rows:
                del row[1:]
            return 1

    class Fails:
        def __index__(self):
            raise ZeroDivisionError

    rows = [[1, 0, 1], [0, 1, 1]]
    rows[0][0] = Shrinks(rows)
    with pytest.raises((RuntimeError, ValueError), match="changed size"):
        tb.PadCollator(return_tensors="np")(beside([2, 7], rows))
    with pytest.raises(ZeroDivisionError):
        tb.PadCollator(return_tensors="np")(beside([2, 7], [[0, 1, Fails()], [0, 1, 1]]))
