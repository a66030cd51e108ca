"""PadCollator(boundaries=): widths from a short list, so that shapes repeat."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tightbatch as tb
from checks import WORKER_LIMIT, assert_same, checked, fails
from tightbatch import _core
from tightbatch.collate.columns import ColumnSettings
from tightbatch.huggingface.flattening import NOT_ASKED

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, Dataset  # noqa: E402

NAME = "PadCollator()"
WIDTHS = (0, 3, 4, 9)
ROWS = st.lists(st.lists(st.integers(-5, 5), max_size=9), min_size=1, max_size=8)


def collate(samples, **options):
    return checked(tb.PadCollator(return_tensors="np", **options), samples)


def expected_width(rows, boundaries, max_length=None):
    longest = max(len(row) for row in rows)
    return min(b for b in boundaries if b >= min(longest, max_length or longest))


def assert_batches_equal(a, b):
    assert list(a) == list(b)
    for key in a:
        assert a[key].dtype == b[key].dtype
        assert a[key].shape == b[key].shape
        assert (a[key] == b[key]).all()


# Values


@given(ROWS, st.sets(st.integers(0, 20)), st.none() | st.integers(1, 9), st.sampled_from("lr"))
def test_as_with_the_width_that_is_chosen(rows, more, max_length, side):
    boundaries = sorted({9, *more})
    options = {"max_length": max_length, "padding_side": "left" if side == "l" else "right"}
    samples = [{"input_ids": row, "labels": row, "n": 1} for row in rows]
    width = expected_width(rows, boundaries, max_length)
    expected = collate(samples, width=width, return_lengths=True, **options)
    for kind in (tuple, list, np.array, torch.tensor):
        got = collate(samples, boundaries=kind(boundaries), return_lengths=True, **options)
        assert_batches_equal(got, expected)


ARRAYS = {
    "lists": lambda rows: rows,
    "arrays": lambda rows: [np.array(row, np.int32) for row in rows],
    "tensors": lambda rows: [torch.tensor(row, dtype=torch.int32) for row in rows],
    "mixed": lambda rows: [rows[0], *(np.array(row, np.int64) for row in rows[1:])],
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("dtype", [None, "int16", "float16", torch.bfloat16])
@pytest.mark.parametrize("rows", [[[1, 2, 3, 4], []], [[1, 2, 3], [4]], [[], []], [[1] * 5]])
def test_every_kind_of_row(kind, dtype, rows):
    samples = [{"x": row} for row in ARRAYS[kind](rows)]
    options = {"dtype": None if dtype is None else {"x": dtype}}
    width = expected_width(rows, WIDTHS)
    got = tb.PadCollator(7, boundaries=WIDTHS, **options)(samples)
    assert got["x"].shape == got["attention_mask"].shape == (len(rows), width)
    assert_batches_equal(got, tb.PadCollator(7, width=width, **options)(samples))


def test_rows_of_features():
    rows = [np.ones((2, 3), np.float32), np.zeros((5, 3), np.float32)]
    assert collate(rows, boundaries=(4, 6)).shape == (2, 6, 3)


def test_widths_at_the_boundary():
    for length, width in [(0, 2), (1, 2), (2, 2), (3, 5), (5, 5)]:
        assert collate([[1] * length], boundaries=(2, 5)).shape == (1, width)


def test_one_boundary_is_a_width():
    assert collate([[1, 2], [3]], boundaries=[8]).shape == (2, 8)


def test_a_row_is_cut_before_the_boundary_is_chosen():
    batch = collate([{"x": [1, 2, 3, 4, 5]}, {"x": [6]}], boundaries=(2, 3), max_length=3)
    assert_same(batch["x"], [[1, 2, 3], [6, 0, 0]], np.int64)
    assert_same(batch["attention_mask"], [[1, 1, 1], [1, 0, 0]], np.int64)


def test_the_multiple_comes_last():
    assert collate([[1] * 5], boundaries=(4, 10), pad_to_multiple_of=8).shape == (1, 16)
    assert collate([[1] * 5], boundaries=(4, 16), pad_to_multiple_of=8).shape == (1, 16)


def test_a_batch_of_empty_rows():
    empty = [{"input_ids": []}, {"input_ids": []}]
    batch = collate(empty, boundaries=(0, 4))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 0)
    assert_same(collate(empty, boundaries=(4,))["attention_mask"], [[0] * 4] * 2, np.int64)


def test_boundaries_by_key():
    samples = [{"a": [1, 2, 3], "b": [1, 2, 3], "c": [1], "n": 4}]
    batch = collate(samples, boundaries={"a": [2, 4], "b": np.array([8]), "c": None})
    shapes = {key: value.shape for key, value in batch.items()}
    assert shapes == {"a": (1, 4), "b": (1, 8), "c": (1, 1), "n": (1,), "attention_mask": (1, 4)}
    batch = collate(samples, boundaries={"a": [4]}, width={"b": 9})
    assert (batch["a"].shape, batch["b"].shape, batch["c"].shape) == ((1, 4), (1, 9), (1, 1))


def test_tuples_and_bare_rows():
    ids, label = collate([([1, 2, 3], 0), ([4], 1)], boundaries={0: (4,)})
    assert (ids.shape, label.shape) == ((2, 4), (2,))
    ids, _, mask = collate([([1, 2, 3], 0)], boundaries=(4,), attention_mask=True)
    assert mask.tolist() == [[1, 1, 1, 0]]


def test_columns_of_a_table():
    samples = tb.RaggedDataset({"input_ids": tb.Ragged.from_sequences([[1, 2, 3], [4], [5, 6]])})
    batch = tb.PadCollator(boundaries=(2, 4))(samples.__getitems__([0, 2]))
    assert batch["input_ids"].tolist() == [[1, 2, 3, 0], [5, 6, 0, 0]]
    assert (
        tb.PadCollator(boundaries=(2, 4))(samples.__getitems__([1, 2]))["input_ids"].shape[1] == 2
    )


def test_the_private_function_refuses_what_would_crash():
    settings = ColumnSettings()
    bad = ([2], (2,), np.array(2), np.array([[2]]), np.array([2.0]), np.zeros(0, np.int64))
    for boundaries in (*bad, np.arange(6)[::2], np.array([2], ">i8"), np.array([2], np.int32)):
        spec = ("x", [[1]], "main", settings._replace(boundaries=boundaries))
        with fails(TypeError, "f()", "boundaries", "int64"):
            _core.pad_columns("f", [spec], "right", "right", (), (), "none", None, False)


def test_the_private_function_refuses_malformed_columns():
    spec = ("x", [[1]], "main", ColumnSettings())
    for bad in (
        spec[:3],
        [*spec],
        (*spec[:2], "line", spec[3]),
        (*spec[:2], 0, spec[3]),
        (*spec[:3], spec[3][:-1]),
        (*spec[:3], {}),
        None,
    ):
        for function in (pad_columns, flatten_columns):
            with fails((TypeError, ValueError), "f()"):
                function([bad])


def pad_columns(specs):
    return _core.pad_columns("f", specs, "right", "right", (), (), "none", None, False)


def flatten_columns(specs):
    return _core.flatten_columns(
        "f", specs, NOT_ASKED | {"position_ids_start": 0}, True, (), None, False
    )


# Loaders and compilers


class Rows(Dataset):
    """Module-level, so that a spawned worker can import it."""

    def __init__(self, count=96):
        self.lengths = np.random.default_rng(5).integers(1, 60, count)

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, i):
        return {"input_ids": np.arange(self.lengths[i]) % 7, "label": i}


def ragged(dataset):
    rows = [dataset[i]["input_ids"] for i in range(len(dataset))]
    labels = np.arange(len(dataset))
    return tb.RaggedDataset({"input_ids": tb.Ragged.from_sequences(rows), "label": labels})


@pytest.mark.parametrize(("workers", "as_ragged"), [(0, False), (0, True), (2, True)])
def test_an_epoch_has_no_more_shapes_than_boundaries(workers, as_ragged):
    dataset = Rows()
    boundaries = tb.bucket_boundaries(dataset.lengths, 3)
    sampler = tb.LengthBatchSampler(dataset.lengths, batch_size=4, drop_last=True, seed=1)
    loader = DataLoader(
        ragged(dataset) if as_ragged else dataset,
        batch_sampler=sampler,
        collate_fn=tb.PadCollator(boundaries=boundaries),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        timeout=WORKER_LIMIT if workers else 0,
    )
    shapes, labels = set(), []
    for batch in loader:
        shapes.add(tuple(batch["input_ids"].shape))
        labels += batch["label"].tolist()
        rows = [dataset[i]["input_ids"] for i in batch["label"].tolist()]
        width = expected_width(rows, boundaries.tolist())
        expected = tb.PadCollator(width=width)([{"input_ids": row} for row in rows])
        assert torch.equal(batch["input_ids"], expected["input_ids"])
        assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    assert sorted(labels) == list(range(96))
    assert shapes == {(4, int(b)) for b in boundaries}


def test_torch_compiles_once_a_boundary():
    testing = pytest.importorskip("torch._dynamo.testing")
    if not torch._dynamo.is_dynamo_supported():
        pytest.skip("this torch does not compile under this Python")
    dataset = Rows()
    boundaries = tb.bucket_boundaries(dataset.lengths, 3)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(8, 2)

        def forward(self, ids, mask):
            return (self.embed(ids) * mask[..., None]).sum(1)

    def graphs(collate_fn):
        torch._dynamo.reset()
        counter = testing.CompileCounter()
        model = torch.compile(Model(), backend=counter, dynamic=False)
        loader = DataLoader(dataset, batch_size=8, collate_fn=collate_fn)
        shapes = set()
        for batch in loader:
            model(batch["input_ids"], batch["attention_mask"])
            shapes.add(batch["input_ids"].shape)
        torch._dynamo.reset()
        return counter.frame_count, len(shapes)

    bounded, shapes = graphs(tb.PadCollator(boundaries=boundaries))
    assert bounded == shapes <= len(boundaries)
    unbounded, shapes = graphs(tb.PadCollator())
    assert unbounded > len(boundaries)


# The collator as a value


def test_a_collator_keeps_tuples_and_can_be_copied():
    collate_fn = tb.PadCollator(boundaries=np.array([4, 8]), return_tensors="np")
    assert collate_fn.boundaries == (4, 8)
    assert all(type(b) is int for b in collate_fn.boundaries)
    assert collate_fn == tb.PadCollator(boundaries=[4, 8], return_tensors="np")
    assert collate_fn != tb.PadCollator(boundaries=[4, 9], return_tensors="np")
    assert hash(collate_fn) == hash(tb.PadCollator(boundaries=[4, 8], return_tensors="np"))
    assert "boundaries=(4, 8)" in repr(collate_fn)
    for copy in (pickle.loads(pickle.dumps(collate_fn)), replace(collate_fn)):
        assert copy == collate_fn
        assert copy([[1]]).shape == (1, 4)
    assert replace(collate_fn, boundaries=None)([[1]]).shape == (1, 1)
    by_key = tb.PadCollator(boundaries={"x": [4, 8]})
    assert by_key.boundaries == {"x": (4, 8)}
    assert pickle.loads(pickle.dumps(by_key))([{"x": [1]}])["x"].shape == (1, 4)


def test_an_error_of_the_boundaries_is_told_as_it_is():
    class Sizes:
        def tolist(self):
            raise LookupError("their own")

    with pytest.raises(LookupError, match="their own"):
        tb.PadCollator(boundaries=Sizes())


def test_what_was_given_may_change_later():
    boundaries = np.array([4, 8])
    collate_fn = tb.PadCollator(boundaries=boundaries, return_tensors="np")
    boundaries[:] = 1
    assert collate_fn([[1, 2]]).shape == (1, 4)


def test_from_a_tokenizer():
    class Tokenizer:
        pad_token_id, pad_token_type_id, padding_side = 9, 0, "left"

    collate_fn = tb.PadCollator.from_tokenizer(Tokenizer, boundaries=(3,), return_tensors="np")
    assert collate_fn([{"input_ids": [1]}])["input_ids"].tolist() == [[9, 9, 1]]


# What is refused


@pytest.mark.parametrize("kind", ARRAYS)
def test_a_row_longer_than_the_last_boundary(kind):
    samples = [{"input_ids": row} for row in ARRAYS[kind]([[1], [1, 2, 3, 4, 5], [1] * 6])]
    parts = (
        NAME,
        "key 'input_ids'",
        "row 1",
        "length 5",
        "4, the last of boundaries=",
        "max_length=4",
    )
    with fails(ValueError, *parts, "a larger boundary"):
        collate(samples, boundaries=(2, 4))
    with fails(ValueError, *parts):
        collate(samples, boundaries=(2, 4), max_length=5)
    assert collate(samples, boundaries=(2, 4), max_length=4)["input_ids"].shape == (3, 4)


@pytest.mark.parametrize(
    ("boundaries", "kind", "parts"),
    [
        ((), ValueError, ["boundaries=()", "at least one"]),
        (np.zeros(0, np.int64), ValueError, ["at least one"]),
        ((4, 2), ValueError, ["boundaries[1]=2", "after 4", "ascending"]),
        ((2, 4, 4), ValueError, ["boundaries[2]=4", "after 4", "ascending"]),
        ((-1, 4), ValueError, ["boundaries[0]=-1", "at least 0"]),
        ((2, 2**63), OverflowError, [f"boundaries[1]={2**63}"]),
        ((2, 4.0), TypeError, ["boundaries[1]=4.0", "integer"]),
        ((2, True), TypeError, ["boundaries[1]=True"]),
        ((2, None), TypeError, ["boundaries[1]=None"]),
        (("2",), TypeError, ["boundaries[0]='2'"]),
        (((2, 4),), TypeError, ["boundaries[0]=(2, 4)"]),
        (np.array([[2, 4]]), TypeError, ["boundaries[0]=[2, 4]"]),
        (np.array([2.0]), TypeError, ["boundaries[0]=2.0"]),
        (torch.tensor([False, True]), TypeError, ["boundaries[0]=False"]),
        (64, TypeError, ["boundaries=64", "sequence"]),
        (np.array(64), TypeError, ["sequence"]),
        ({2, 4}, TypeError, ["sequence"]),
        ("24", TypeError, ["boundaries='24'", "sequence"]),
        (b"24", TypeError, ["sequence"]),
    ],
)
def test_boundaries_are_refused_when_they_are_given(boundaries, kind, parts):
    with fails(kind, NAME, *parts):
        tb.PadCollator(boundaries=boundaries)
    with fails(kind, NAME, "key 'x'", *parts):
        tb.PadCollator(boundaries={"x": boundaries})


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"width": 4, "boundaries": (4,)}, ["width=4"]),
        ({"width": {"x": 4}, "boundaries": (4,)}, ["key 'x'", "width=4"]),
        ({"width": 4, "boundaries": {"x": (4,)}}, ["key 'x'", "width=4"]),
        ({"width": {"x": 4, "y": 5}, "boundaries": {"y": (4,)}}, ["key 'y'", "width=5"]),
    ],
)
def test_width_and_boundaries_exclude_each_other(options, parts):
    with fails(ValueError, NAME, "boundaries=", *parts):
        tb.PadCollator(**options)
