"""Columns that are neither tokens nor of varying length: never padded unnoticed.

They are kept, stacked or joined, as their names say or a setting does; what nothing is known of is
stacked, or refused where rows differ.
"""

import itertools
import pickle
from collections import namedtuple

import numpy as np
import pytest

import tightbatch as tb
from checks import assert_same, checked, fails

NAME = "PadCollator()"


def collate(samples, **options):
    return checked(tb.PadCollator(return_tensors="np", **options), samples)


def plain_collate(samples, **options):
    return tb.PadCollator(return_tensors="np", **options)(samples)


def images(*shapes):
    return [np.full(shape, i + 1, np.float32) for i, shape in enumerate(shapes)]


def as_samples(kind, rows, key="picture"):
    """The same rows in each kind of sample."""
    Row = namedtuple("Row", [key, "label"])
    return {
        "dicts": [{key: row} for row in rows],
        "dicts beside tokens": [{"input_ids": [1] * (i + 1), key: r} for i, r in enumerate(rows)],
        "namedtuples": [Row(row, 1) for row in rows],
        "tuples": [(row, 1) for row in rows],
        "rows": list(rows),
    }[kind]


KINDS = ["dicts", "dicts beside tokens", "namedtuples", "tuples", "rows"]


# Images and vectors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["picture", "image", "pixel_values", "labels", "loss_mask"])
@pytest.mark.parametrize("make", [np.asarray, np.ndarray.tolist, "tensors"])
def test_images_of_different_channels_are_not_padded(kind, key, make):
    if make == "tensors":
        make = pytest.importorskip("torch").from_numpy
    rows = [make(image) for image in images((3, 2, 2), (4, 2, 2))]
    with fails(ValueError, NAME, "row 1", "has 4 items", "row 0 has 3", "padding_value="):
        collate(as_samples(kind, rows, key))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [{}, {"pad_to_multiple_of": 8}, {"width": 9}, {"max_length": 2}, {"boundaries": (4, 8)}],
    ids=str,
)
def test_images_are_stacked_as_they_are_and_no_mask_covers_channels(kind, options):
    rows = images((3, 2, 2), (3, 2, 2))
    batch = collate(as_samples(kind, rows), **options)
    found = batch if kind == "rows" else batch["picture"] if "dicts" in kind else batch[0]
    assert_same(found, np.stack(rows), np.float32)
    if "dicts" in kind:
        assert ("attention_mask" in batch) == ("tokens" in kind)
    if kind == "dicts beside tokens":
        assert batch["attention_mask"].shape == batch["input_ids"].shape


@pytest.mark.parametrize("kind", ["dicts", "dicts beside tokens", "namedtuples"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, "list"])
def test_vectors_of_different_sizes_are_not_padded(kind, dtype):
    rows = [np.ones(size, np.float32) for size in (511, 512)]
    rows = [row.tolist() if dtype == "list" else row.astype(dtype) for row in rows]
    with fails(ValueError, NAME, "row 1", "512 items", "row 0 has 511", "padding_value="):
        collate(as_samples(kind, rows, "embedding"))


def test_vectors_in_a_data_set_are_not_padded():
    pa = pytest.importorskip("pyarrow")
    rows = [np.ones(size, np.float32) for size in (511, 512)]
    data = tb.RaggedDataset({"input_ids": [[1], [2, 3]], "embedding": rows})
    with fails(ValueError, NAME, "'embedding'", "row 1"):
        collate(data.__getitems__([0, 1]))
    assert collate(data.__getitems__([1, 1]), width=4)["embedding"].shape == (2, 512)
    with fails(ValueError, NAME, "'embedding'", "row 1"):
        collate(pa.table({"input_ids": [[1], [2, 3]], "embedding": rows}))


def test_vectors_are_stacked_as_they_are():
    samples = [{"input_ids": [1, 2], "v": [0.5] * 3}, {"input_ids": [3], "v": [0.25] * 3}]
    batch = collate(samples, pad_to_multiple_of=8)
    assert_same(batch["v"], [[0.5] * 3, [0.25] * 3], np.float32)
    assert batch["input_ids"].shape == (2, 8)
    assert list(collate([{"v": [0.5] * 3}, {"v": [0.25] * 3}])) == ["v"]


@pytest.mark.parametrize(
    "row", [[1, 2], [True, False], [0.5, 1.5], [[1, 2], [3, 4]], [[0.5], [1.5]]], ids=str
)
def test_rows_as_long_as_the_tokens_are_padded_with_them(row):
    samples = [{"x": row, "input_ids": [1, 2]}, {"x": row[:1], "input_ids": [3]}]
    batch = collate(samples, pad_to_multiple_of=4)
    assert batch["x"].shape[:2] == batch["input_ids"].shape == (2, 4)
    assert batch["x"][1, 0].tolist() == row[0]
    assert not batch["x"][1, 1:].any()


@pytest.mark.parametrize(
    "key",
    [
        "input_values",
        "input_features",
        "inputs_embeds",
        "decoder_inputs_embeds",
        "audio",
        "past_values",
    ],
)
@pytest.mark.parametrize("trailing", [(), (80,)])
def test_features_are_padded_by_their_names(key, trailing):
    rows = images((3, *trailing), (1, *trailing))
    batch = collate([{key: row, "label": 1} for row in rows], pad_to_multiple_of=4)
    assert batch[key].shape == (2, 4, *trailing)
    mask = "decoder_attention_mask" if key.startswith("decoder") else "attention_mask"
    assert batch[mask].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(
    "options",
    [
        {"padding_value": {"x": 0.0}},
        {"width": {"x": 3}},
        {"max_length": {"x": 3}},
        {"pad_to_multiple_of": {"x": 3}},
        {"boundaries": {"x": (3,)}},
        {"padding_side": {"x": "right"}},
        {"return_lengths": "x"},
        {"attention_mask": True},
        {"return_lengths": True},
        {"width": 3},
        {"boundaries": (3, 9)},
    ],
    ids=str,
)
@pytest.mark.parametrize("trailing", [(), (2,)])
def test_a_setting_says_that_rows_are_sequences(options, trailing):
    rows = images((3, *trailing), (1, *trailing))
    batch = collate([{"x": row, "n": 1} for row in rows], **options)
    assert batch["x"].shape == (2, 3, *trailing)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_setting_pads_even_images():
    batch = collate(as_samples("dicts", images((3, 2, 2), (4, 2, 2))), padding_value={"picture": 0})
    assert batch["picture"].shape == (2, 4, 2, 2)


def test_bare_rows_and_the_first_of_a_tuple_are_sequences():
    rows = images((3, 2), (1, 2))
    assert collate(rows).shape == (2, 3, 2)
    assert collate([(row, 1) for row in rows])[0].shape == (2, 3, 2)
    assert collate([(1, row) for row in rows])[1].shape == (2, 3, 2)
    with fails(ValueError, NAME, "key 1", "row 1"):
        collate([([1, 2], row) for row in rows])
    assert collate([([1] * len(row), row) for row in rows])[1].shape == (2, 3, 2)


def test_rows_of_vectors_are_sequences_where_there_are_no_tokens():
    rows = images((3, 2), (1, 2))
    batch = collate([{"n": 1, "x": row} for row in rows])
    assert batch["x"].shape == (2, 3, 2)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    for other in ("input_ids", "ids"):
        with fails(ValueError, NAME, "'x'", "row 1"):
            collate([{"x": row, other: [1, 2]} for row in rows])
    with fails(ValueError, NAME, "'y'", "row 1"):
        collate([{"x": row, "y": row[1:]} for row in images((3, 2), (2, 2))])


def test_a_mask_that_is_asked_for_and_covers_nothing():
    with fails(ValueError, NAME, "attention_mask=True", "no column"):
        collate(as_samples("dicts", images((3, 2, 2))), attention_mask=True)
    with fails(ValueError, NAME, "return_lengths"):
        collate(as_samples("dicts", images((3, 2, 2))), return_lengths=True)


# keep=, stack=, concat=


def test_keep_lists_what_samples_hold():
    collate = plain_collate  # the batch holds what the samples do
    things = [{"boxes": [1]}, None]
    samples = [
        {"input_ids": [1, 2], "target": things[0], "size": (2, 3), "image": np.ones((3, 2, 2))},
        {"input_ids": [3], "target": things[1], "size": (4, 5), "image": np.ones((4, 2, 2))},
    ]
    batch = collate(samples, keep=["target", "size", "image"])
    assert list(batch) == ["input_ids", "target", "size", "image", "attention_mask"]
    assert batch["target"] == things
    assert batch["target"][0] is things[0]
    assert batch["size"] == [(2, 3), (4, 5)]
    assert [image.shape for image in batch["image"]] == [(3, 2, 2), (4, 2, 2)]
    found = collate([([1, 2], {"a": 1}), ([3], {"a": 2})], keep=1)
    assert found[1] == [{"a": 1}, {"a": 2}]
    data = tb.RaggedDataset({"input_ids": [[1, 2], [3]], "words": [[7], [8, 9]]})
    assert [row.tolist() for row in collate(data.__getitems__([1, 0]), keep="words")["words"]] == [
        [8, 9],
        [7],
    ]


def test_stack_takes_rows_of_one_shape():
    samples = [{"input_ids": [1, 2], "ids": [1, 2, 3]}, {"input_ids": [3], "ids": [4, 5, 6]}]
    batch = collate(samples, stack="ids", pad_to_multiple_of=8)
    assert_same(batch["ids"], [[1, 2, 3], [4, 5, 6]], np.int64)
    samples[1]["ids"] = [4, 5]
    with fails(ValueError, NAME, "key 'ids'", "row 1", "has 2 items", "row 0 has 3", "concat="):
        collate(samples, stack="ids")
    assert_same(collate([{"n": 1}, {"n": 2}], stack="n")["n"], [1, 2], np.int64)
    batch = collate([{"x": np.ones((2, 3), "f2")}] * 2, stack={"x"}, dtype="float32")
    assert batch["x"].dtype == np.float32
    with fails(ValueError, NAME, "key 'x'", "row 1", "(4,)", "(3,)"):
        collate([{"x": np.ones((2, 3))}, {"x": np.ones((2, 4))}], stack="x")


def vision(patches, grids, **more):
    pixels = np.arange(patches * 6, dtype=np.float32).reshape(patches, 6)
    return {
        "input_ids": [1] * (patches or 2),
        "pixel_values": pixels,
        "image_grid_thw": grids,
        **more,
    }


TEXT = {"input_ids": [5, 6]}


@pytest.mark.parametrize("given", [{}, {"concat": ("pixel_values", "image_grid_thw")}], ids=str)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("text", [TEXT, {**TEXT, "pixel_values": None, "image_grid_thw": None}])
def test_images_with_a_grid_are_joined(given, order, text):
    made = [vision(4, [[1, 2, 2]]), text, vision(8, [[1, 2, 2], [1, 2, 2]])]
    samples = [made[i] for i in order]
    batch = collate(samples, **given)
    kept = [sample for sample in samples if sample.get("pixel_values") is not None]
    assert_same(
        batch["pixel_values"], np.concatenate([s["pixel_values"] for s in kept]), np.float32
    )
    assert batch["image_grid_thw"].tolist() == [[1, 2, 2]] * 3
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 8)
    assert set(collate([TEXT, text], **given)) == {"input_ids", "attention_mask"}


def test_concat_joins_rows_along_the_first_dimension():
    samples = [{"x": [1, 2], "y": [[0.5, 1]], "n": 1}, {"x": [], "y": [[1, 2], [3, 4]], "n": 2}]
    batch = collate(samples, concat=["x", "y"], return_lengths=["x", "y"])
    assert_same(batch["x"], [1, 2], np.int64)
    assert_same(batch["y"], [[0.5, 1], [1, 2], [3, 4]], np.float32)
    assert [batch[f"{key}_lengths"].tolist() for key in "xy"] == [[2, 0], [1, 2]]
    data = tb.RaggedDataset({"x": [[1, 2], [], [3]], "input_ids": [[1], [2], [3]]})
    assert collate(data.__getitems__([2, 0]), concat="x")["x"].tolist() == [3, 1, 2]
    assert collate([([1, 2], 1), ([3], 2)], concat=0)[0].tolist() == [1, 2, 3]
    with fails(ValueError, NAME, "key 'y'", "row 1", "(3,)", "(2,)"):
        collate([{"y": np.ones((1, 2))}, {"y": np.ones((1, 3))}], concat="y")
    with fails(TypeError, NAME, "key 'y'", "row 1"):
        collate([{"y": [1, 2]}, {"y": 1}], concat="y")


def test_only_columns_that_are_joined_may_be_absent():
    with fails(ValueError, NAME, "row 1", "'other'"):
        collate([{**TEXT, "x": [1], "other": 1}, TEXT], concat="x")
    with fails(ValueError, NAME, "row 1", "'pixel_values'"):
        collate([{**TEXT, "pixel_values": np.ones((3, 2, 2))}, TEXT])
    batch = collate(iter([{**TEXT, "x": [1]}, TEXT]), concat="x")
    assert batch["x"].tolist() == [1]


# Time last


@pytest.mark.parametrize("tensors", ["np", "pt"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_features_with_time_last(tensors, side):
    if tensors == "pt":
        pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(80, t)).astype("f4") for t in (5, 2, 7)]
    for kind in (np.asarray, np.ndarray.tolist):
        collator = tb.PadCollator(
            time_last="input_features",
            padding_side=side,
            return_tensors=tensors,
            return_lengths=True,
            pad_to_multiple_of=4,
        )
        batch = checked(collator, [{"input_features": kind(row), "label": 1} for row in rows])
        expected = np.stack([tb.pad(row, width=8, padding_side=side) for row in rows])
        np.testing.assert_array_equal(np.asarray(batch["input_features"]), expected)
        assert batch["lengths"].tolist() == [5, 2, 7]
        mask = tb.attention_mask([5, 2, 7], 8, padding_side=side)
        np.testing.assert_array_equal(np.asarray(batch["attention_mask"]), mask)
        if tensors == "pt":
            assert batch["input_features"].is_contiguous()
    with fails(ValueError, NAME, "'input_features'", "row 1", "2 rows", "80"):
        collate(
            [{"input_features": rows[0]}, {"input_features": rows[1][:2]}],
            time_last="input_features",
        )


def test_two_dimensions_that_vary():
    rows = [np.ones((2, 3)), np.ones((3, 4))]
    for key in ("x", "input_features", "labels"):
        with fails(ValueError, NAME, f"'{key}'", "row 1", "(4,)", "time_last=", "keep="):
            collate([{key: row} for row in rows])
    assert len(collate([{"x": row} for row in rows], keep="x")["x"]) == 2


# Loaders


def test_workers_send_the_same():
    torch = pytest.importorskip("torch")
    samples = [
        {**vision(4, [[1, 2, 2]]), "note": {"a": 1}, "mel": np.ones((3, 5), "f4")},
        {**TEXT, "note": None, "mel": np.ones((3, 2), "f4")},
    ]
    collator = tb.PadCollator(keep="note", time_last="mel", return_position_ids=True)
    here = pickle.loads(pickle.dumps(collator))(samples)
    (sent,) = torch.utils.data.DataLoader(samples, 2, collate_fn=collator, num_workers=1)
    assert list(sent) == list(here)
    for key, value in here.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(sent[key], value, rtol=0, atol=0)
        else:
            assert sent[key] == value
