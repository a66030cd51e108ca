"""tightbatch.ray without a cluster: collate functions on the batches that Ray hands over."""

import pickle
import threading
from itertools import pairwise

import numpy as np
import pytest

import tightbatch as tb
from checks import run_python
from conftest import SANITIZED

if SANITIZED:
    pytest.skip("Ray itself is not built for the sanitizers", allow_module_level=True)
pytest.importorskip("ray.data")
torch = pytest.importorskip("torch")
pd = pytest.importorskip("pandas")
import pyarrow as pa  # noqa: E402
from ray.data.collate_fn import is_tensor_batch_type  # noqa: E402
from ray.data.extensions import (  # noqa: E402
    ArrowTensorArray,
    ArrowVariableShapedTensorArray,
    TensorArray,
)

# Ray's own settings, which it reads when it makes a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")

ROWS = [[5, 6, 7], [8], [9, 10], [11]]
LABELS = [1, 0, 1, 1]
SAMPLES = [{"input_ids": row, "label": y} for row, y in zip(ROWS, LABELS, strict=True)]
LISTS = {
    "list": pa.list_(pa.int64()),
    "large_list": pa.large_list(pa.int64()),
    "list_view": pa.list_view(pa.int64()),
    "large_list_view": pa.large_list_view(pa.int64()),
}
PADDED = tb.PadCollator()


def assert_same(batch, expected):
    assert list(batch) == list(expected)
    for key, value in expected.items():
        if isinstance(value, np.ndarray):
            assert batch[key].dtype == value.dtype
            assert np.array_equal(batch[key], value), key
        else:
            assert torch.equal(batch[key], torch.as_tensor(value)), key
            assert batch[key].dtype == torch.as_tensor(value).dtype


def table(rows=ROWS, kind=LISTS["list"], chunks=3):
    """A table whose rows lie in several chunks, one of them sliced."""
    column = pa.array([[1, 2], *rows], kind)[1:]
    edges = np.linspace(0, len(rows), chunks + 1).astype(int)
    parts = [column[a:b] for a, b in pairwise(edges)]
    chunked = pa.chunked_array(parts, kind)
    return pa.table({"input_ids": chunked, "label": pa.array(LABELS[: len(rows)])})


# --- CollateFn -------------------------------------------------------------------------------


@pytest.mark.parametrize("collator", [PADDED, tb.PaddingFreeCollator()], ids=["padded", "free"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_table_gives_what_its_samples_give(kind, collator):
    batch = tb.ray.CollateFn(collator)(table(kind=LISTS[kind]))
    assert_same(batch, collator(SAMPLES))
    assert is_tensor_batch_type(batch)


def test_lists_of_a_fixed_size():
    rows = [[1, 2], [3, 4]]
    batch = tb.ray.CollateFn(PADDED)(table(rows, pa.list_(pa.int32(), 2), 2))
    samples = [
        {"input_ids": np.int32(row), "label": y} for row, y in zip(rows, LABELS, strict=False)
    ]
    assert_same(batch, PADDED(samples))


def test_numbers_of_a_batch_are_tensors_without_dimensions():
    batch = tb.ray.CollateFn(tb.PaddingFreeCollator(return_num_items=True))(table())
    assert batch["max_length_q"].shape == ()
    assert int(batch["max_length_q"]) == 3
    assert batch["use_cache"].dtype == torch.bool
    assert not batch["use_cache"]
    assert int(batch["num_items_in_batch"]) == 3


def test_arrays_for_jax_are_all_arrays():
    batch = tb.ray.CollateFn(tb.PaddingFreeCollator(return_tensors="np"))(table())
    assert all(type(value) is np.ndarray and value.ndim >= 1 for value in batch.values())
    assert batch["max_length_q"].tolist() == [3]
    padded = tb.PadCollator(return_tensors="np")
    assert_same(tb.ray.CollateFn(padded)(table()), padded(SAMPLES))


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.bool_, np.uint8])
def test_rays_tensors_of_one_shape(dtype):
    pixels = (np.arange(2 * 3 * 4 * 5).reshape(6, 4, 5) % 7).astype(dtype)
    column = pa.chunked_array(
        [ArrowTensorArray.from_numpy(pixels[:3])[1:], ArrowTensorArray.from_numpy(pixels[3:])]
    )
    batch = tb.ray.CollateFn(PADDED)(pa.table({"pixel_values": column, "label": np.arange(5)}))
    assert torch.equal(batch["pixel_values"], torch.from_numpy(pixels[1:]))
    assert batch["label"].tolist() == [0, 1, 2, 3, 4]


def test_arrows_own_tensors():
    images = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    batch = tb.ray.CollateFn(PADDED)(pa.table({"pixel_values": column}))
    assert torch.equal(batch["pixel_values"], torch.from_numpy(images))
    kind = pa.fixed_shape_tensor(pa.float32(), (2, 3), permutation=[1, 0])
    turned = pa.ExtensionArray.from_storage(kind, column.storage)
    with pytest.raises(TypeError, match=r"CollateFn\(\): key 'pixel_values': .*permuted"):
        tb.ray.CollateFn(PADDED)(pa.table({"pixel_values": turned}))


def ragged_tensors(arrays):
    column = ArrowVariableShapedTensorArray.from_numpy(np.array([*arrays, None], object)[:-1])
    return pa.chunked_array([column[:1], column[1:]])


@pytest.mark.parametrize(
    "arrays",
    [
        [np.arange(3), np.arange(1), np.arange(4)],
        [np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32), np.ones((4, 3), np.float32)],
        [np.ones((0, 3), np.float32), np.zeros((2, 3), np.float32), np.ones((1, 3), np.float32)],
    ],
    ids=["tokens", "vectors", "an empty row"],
)
def test_rays_tensors_of_several_shapes(arrays):
    batch = tb.ray.CollateFn(PADDED)(pa.table({"input_ids": ragged_tensors(arrays)}))
    assert_same(batch, PADDED([{"input_ids": array} for array in arrays]))


def test_tensors_that_vary_in_the_last_dimension():
    arrays = [np.arange(2 * n, dtype=np.float32).reshape(2, n) for n in (3, 1, 2)]
    collator = tb.PadCollator(time_last="speech")
    batch = tb.ray.CollateFn(collator)(pa.table({"speech": ragged_tensors(arrays)}))
    assert_same(batch, collator([{"speech": array} for array in arrays]))


def test_mappings_of_arrays_and_data_frames():
    objects = np.empty(4, object)
    objects[:] = [np.array(row) for row in ROWS]
    given = {"input_ids": objects, "label": np.array(LABELS)}
    expected = PADDED(SAMPLES)
    assert_same(tb.ray.CollateFn(PADDED)(given), expected)
    assert_same(tb.ray.CollateFn(PADDED)(pd.DataFrame(given)), expected)
    free = tb.PaddingFreeCollator()
    assert_same(tb.ray.CollateFn(free)(given), free(SAMPLES))
    images = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    frame = pd.DataFrame({"pixel_values": TensorArray(images)})
    assert torch.equal(tb.ray.CollateFn(PADDED)(frame)["pixel_values"], torch.from_numpy(images))


def test_nulls_are_errors_or_filled():
    for rows, where in (([[1], None], "row 1"), ([[1, None], [2]], "row 0")):
        given = pa.table({"input_ids": rows})
        with pytest.raises(ValueError, match=rf"CollateFn\(\).*'input_ids'.*{where}.*fill_null"):
            tb.ray.CollateFn(PADDED)(given)
        filled = tb.ray.CollateFn(PADDED, fill_null=7)(given)
        plain = [[7 if token is None else token for token in row or []] for row in rows]
        assert_same(filled, PADDED([{"input_ids": np.int64(row)} for row in plain]))


def test_null_tensors_are_errors():
    kind = ArrowTensorArray.from_numpy(np.ones((2, 2))).type
    column = pa.ExtensionArray.from_storage(kind, pa.array([[1.0] * 2, None], kind.storage_type))
    given = pa.table({"pixel_values": column})
    with pytest.raises(ValueError, match=r"'pixel_values'.*row 1.*null"):
        tb.ray.CollateFn(PADDED)(given)
    with pytest.raises(ValueError, match=r"'pixel_values', row 1: is null; .*shape \(2,\)"):
        tb.ray.CollateFn(PADDED, fill_null=0)(given)


def test_what_is_no_tensor_is_named():
    given = table().append_column("text", pa.array(["a", "b", "c", None]))
    with pytest.raises(TypeError, match=r"CollateFn\(\): key 'text': .* list .*drop_columns"):
        tb.ray.CollateFn(PADDED)(given)
    with pytest.raises(TypeError, match=r"CollateFn\(\): batch=.*expected what Ray hands over"):
        tb.ray.CollateFn(PADDED)([1])
    with pytest.raises(TypeError, match="key 0"):
        tb.ray.CollateFn(len)(table())
    with pytest.raises(ValueError, match="empty batch"):
        tb.ray.CollateFn(PADDED)(table()[:0])


def test_tokens_do_not_become_python_objects():
    """A million tokens take their bytes in the batch, and next to no other memory."""
    import tracemalloc

    rows = pa.LargeListArray.from_arrays(np.arange(0, 1_000_001, 100), np.arange(1_000_000))
    given, collate_fn = pa.table({"input_ids": rows}), tb.ray.CollateFn(PADDED)
    collate_fn(given[:2])
    tracemalloc.start()
    try:
        batch = collate_fn(given)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * sum(value.nbytes for value in batch.values())


def test_threads_may_call_it_at_once():
    """As Ray does while it prefetches: with batches of several keys, so that plans are made."""
    collate_fn = tb.ray.CollateFn(tb.PadCollator())
    tables = [table().rename_columns(["input_ids", f"label_{i}"]) for i in range(8)]
    expected = [collate_fn(one) for one in tables]
    fresh, wrong = tb.ray.CollateFn(tb.PadCollator()), []
    start = threading.Barrier(8)

    def work(first):
        start.wait()
        for i in range(50):
            k = (first + i) % len(tables)
            batch = fresh(tables[k])
            if any(not torch.equal(batch[key], expected[k][key]) for key in expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_collators_of_transformers_and_functions_around_them():
    pytest.importorskip("transformers")
    from tightbatch.huggingface import DataCollatorWithFlattening, DataCollatorWithPadding

    plain = [{key: sample[key] for key in ("input_ids",)} for sample in SAMPLES]
    given = table().drop_columns(["label"])
    for collator in (
        DataCollatorWithPadding(pad_token_id=0),
        DataCollatorWithFlattening(),
        tb.CheckedCollator(PADDED),
        lambda samples: {**PADDED(samples), "rows": torch.arange(len(samples))},
        lambda samples: PADDED([{"input_ids": sample["input_ids"][:2]} for sample in samples]),
    ):
        batch, expected = tb.ray.CollateFn(collator)(given), collator(plain)
        assert list(batch) == list(expected)
        for key, value in expected.items():
            assert torch.equal(batch[key], torch.as_tensor(value)), key


def test_it_is_pickled():
    import ray.cloudpickle

    collate_fn = tb.ray.CollateFn(tb.PadCollator(3, boundaries=(4, 8)))
    for module in (pickle, ray.cloudpickle):
        again = module.loads(module.dumps(collate_fn))
        assert again == collate_fn
        assert_same(again(table()), collate_fn(table()))


# --- StoreBatch and LoadBatch ----------------------------------------------------------------


def everything(_samples):
    """A batch of all that a collator may give."""
    return tb.Batch(
        ids=torch.arange(6).reshape(2, 3),
        half=torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        mask=torch.tensor([[True, False]]),
        turned=torch.arange(6.0).reshape(2, 3).T,
        none=torch.zeros((0, 3), dtype=torch.int32),
        number=torch.tensor(7, dtype=torch.uint8),
        longest=3,
        cache=False,
        text=["a", None],
        inner=tb.Batch(labels=torch.tensor([1]), pair=(torch.ones(2), 5)),
    )


def test_a_stored_batch_is_the_batch():
    from tightbatch.ray.storing import load

    stored = tb.ray.StoreBatch(everything)(table())
    assert stored.num_rows == 1
    batch, expected = load("test", stored, "pt")[0], everything(None)
    assert list(batch) == list(expected)
    for key in ("ids", "half", "mask", "turned", "none", "number"):
        assert batch[key].dtype == expected[key].dtype
        assert batch[key].shape == expected[key].shape
        assert torch.equal(batch[key], expected[key])
    assert {key: batch[key] for key in ("longest", "cache", "text")} == {
        "longest": 3,
        "cache": False,
        "text": ["a", None],
    }
    assert batch["inner"]["labels"].tolist() == [1]
    assert batch["inner"]["pair"][0].tolist() == [1, 1]
    assert batch["inner"]["pair"][1] == 5


def test_what_is_loaded_are_views_of_what_is_stored():
    stored = tb.ray.StoreBatch(PADDED)(table())
    memory = stored["batch"].chunk(0).buffers()[2]
    batch = tb.ray.LoadBatch()(stored)
    assert_same(batch, PADDED(SAMPLES))
    for value in batch.values():
        assert memory.address <= value.data_ptr() < memory.address + memory.size
        assert (value.data_ptr() - memory.address) % 64 == 0
    arrays = tb.ray.LoadBatch(return_tensors="np")(stored)
    assert not any(value.flags.writeable or value.flags.owndata for value in arrays.values())
    del stored, memory
    assert_same(batch, PADDED(SAMPLES))  # the memory lives as long as its tensors


def test_bfloat16_as_arrays():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    stored = tb.ray.StoreBatch(lambda _: {"x": torch.tensor([1.5]).bfloat16()})(table())
    array = tb.ray.LoadBatch(return_tensors="np")(stored)["x"]
    assert array.dtype == ml_dtypes.bfloat16
    assert array.tolist() == [1.5]


def test_a_block_is_cut_into_batches_in_one_piece():
    stored = tb.ray.StoreBatch(PADDED, batch_size=3)(table())
    assert stored.num_rows == 2
    assert stored["batch"].num_chunks == 1
    loaded = [tb.ray.LoadBatch()(stored[i : i + 1]) for i in range(2)]
    assert_same(loaded[0], PADDED(SAMPLES[:3]))
    assert_same(loaded[1], PADDED(SAMPLES[3:]))
    assert tb.ray.StoreBatch(PADDED, batch_size=3)(table()[:0]).num_rows == 0


def test_what_cannot_be_stored_or_loaded():
    for value, told in ((object(), "object"), (np.array(["a"]), "ndarray"), ({1: 2}, "key 1")):
        store = tb.ray.StoreBatch(lambda _, value=value: {"x": value})
        with pytest.raises(TypeError, match=told):
            store(table())
    stored = tb.ray.StoreBatch(PADDED, batch_size=2)(table())
    with pytest.raises(ValueError, match=r"found 2 stored batches; .*batch_size=1"):
        tb.ray.LoadBatch()(stored)
    for other in (table(), {"input_ids": [1]}, None):
        with pytest.raises(TypeError, match="expected a batch that StoreBatch"):
            tb.ray.LoadBatch()(other)
    with pytest.raises(TypeError, match=r"LoadBatch.*'text'"):
        tb.ray.LoadBatch()(tb.ray.StoreBatch(lambda _: {"text": ["a"]})(table()))


# --- batch_by_length, block by block ---------------------------------------------------------


def cut_block(lengths, workers=1, **options):
    from tightbatch.ray.batching import CutBlock
    from tightbatch.ray.storing import load

    rows = tb.Ragged.from_sequences([np.full(n, i) for i, n in enumerate(lengths)])
    given = pa.table({"input_ids": pa.array(rows.to_arrow()), "row": np.arange(len(lengths))})
    collator = tb.PadCollator(return_tensors="np")
    length = options.pop("length", "input_ids")
    seed = options.pop("seed", 0)
    stored = CutBlock(collator, workers, length, None, seed, options)(given)
    loaded = [load("test", stored[i : i + 1], "np") for i in range(len(stored))]
    return [batch["row"].tolist() for batch, _ in loaded], loaded


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [7, 8, 250])
def test_batches_of_a_block_are_a_multiple_of_the_workers(count, workers):
    lengths = np.random.default_rng(count).integers(1, 100, count)
    batches, loaded = cut_block(lengths, workers, max_tokens=800)
    assert len(batches) % workers == 0
    assert sorted(row for rows in batches for row in rows) == list(range(count))
    assert not any(notes["repeated"] for _, notes in loaded)
    for rows, (batch, _) in zip(batches, loaded, strict=True):
        assert len(rows) * lengths[rows].max() <= 800
        assert batch["input_ids"].shape == (len(rows), lengths[rows].max())
    plain = list(tb.StreamBatcher(range(count), length=lengths.__getitem__, max_tokens=800))
    assert len(batches) < len(plain) + max(workers, 4)


def test_a_block_has_at_least_as_many_rows_as_workers():
    told = r"batch_by_length\(\): found a block of 3 rows, fewer than num_workers=4, .*repartition"
    with pytest.raises(ValueError, match=told):
        cut_block([3, 1, 2], 4, batch_size=8)
    with pytest.raises(ValueError, match=told):  # of those that are kept
        cut_block([3, 1, 20, 20, 2], 4, max_tokens=8, overlong="drop")
    assert cut_block([], 4, batch_size=8) == ([], [])
    assert cut_block([20, 20], 4, max_tokens=8, overlong="drop") == ([], [])


def test_only_batches_of_one_row_are_repeated():
    batches, loaded = cut_block([3, 1, 2, 4, 1], 4, batch_size=1)
    assert len(batches) == 8
    assert {row for rows in batches for row in rows} == set(range(5))
    assert sum(notes["repeated"] for _, notes in loaded) == 3


def test_errors_of_lengths_name_the_row_of_the_block():
    lengths = np.ones(40, int)
    for row in (7, 31):
        told = rf"row {row}: length 99 is more than max_tokens=20"
        with pytest.raises(ValueError, match=told):
            cut_block(np.where(np.arange(40) == row, 99, lengths), max_tokens=20)


def test_a_block_whose_rows_are_all_empty():
    """Arrow has no type for its tokens."""
    from tightbatch.ray.batching import CutBlock

    given = pa.table({"input_ids": pa.array([[], []])})
    assert str(given.schema.field(0).type.value_type) == "null"
    stored = CutBlock(PADDED, 1, "input_ids", None, 0, {"batch_size": 2})(given)
    assert tb.ray.LoadBatch()(stored)["input_ids"].shape == (2, 0)
    assert tb.ray.CollateFn(PADDED)(given)["input_ids"].shape == (2, 0)


# --- BatchLoader, of batches that are there --------------------------------------------------


class Shard:
    """The batches of a worker, one of several, as Ray's iterator gives them."""

    def __init__(self, count=8, workers=1, **notes):
        from tightbatch.ray.storing import store

        self.rows = [store("test", {"x": np.array([i])}, **notes) for i in range(count)]
        self.workers, self.fails_at = workers, None

    def world_size(self):
        return self.workers

    def iter_torch_batches(self, **_):
        raise NotImplementedError

    def iter_batches(self, **_):
        for i, row in enumerate(self.rows):
            if i == self.fails_at:
                raise RuntimeError("a node was lost")
            yield row


def numbers(loader):
    return [int(batch["x"][0]) for batch in loader]


@pytest.mark.parametrize("fails_at", [0, 3, 4])
def test_an_error_while_batches_are_passed_over_leaves_the_state(fails_at):
    shard = Shard()
    loader = tb.ray.BatchLoader(shard, return_tensors="np")
    iterator = iter(loader)
    assert [int(next(iterator)["x"][0]) for _ in range(5)] == [0, 1, 2, 3, 4]
    state = loader.state_dict()
    resumed = tb.ray.BatchLoader(shard, return_tensors="np")
    resumed.load_state_dict(state)
    shard.fails_at = fails_at
    with pytest.raises(RuntimeError, match="a node was lost"):
        numbers(resumed)
    assert resumed.state_dict() == state
    shard.fails_at = None
    assert numbers(resumed) == [5, 6, 7]
    assert resumed.state_dict() == {"epoch": 1, "batches": 0, "fingerprint": 0}
    assert numbers(resumed) == list(range(8))


def test_other_batches_than_before_leave_the_state_too():
    state = {"epoch": 2, "batches": 5, "fingerprint": 1}
    for count in (3, 8):
        loader = tb.ray.BatchLoader(Shard(count), return_tensors="np")
        loader.load_state_dict(state)
        for _ in range(2):
            with pytest.raises(ValueError, match=rf"the first {min(count, 5)} are others now"):
                numbers(loader)
            assert loader.state_dict() == state


def test_the_number_of_workers_is_that_of_the_batches():
    for made_for, workers in ((1, 1), (4, 4), (4, 2), (4, 1), (None, 3)):
        notes = {} if made_for is None else {"num_workers": made_for}
        shard = Shard(4, workers, **notes)
        assert numbers(tb.ray.BatchLoader(shard, return_tensors="np")) == [0, 1, 2, 3]
    for made_for, workers in ((1, 2), (2, 3), (2, 4)):
        loader = tb.ray.BatchLoader(Shard(4, workers, num_workers=made_for), return_tensors="np")
        told = (
            rf"for {made_for} train worker.*pass batch_by_length\(\.\.\., num_workers={workers}\)"
        )
        with pytest.raises(ValueError, match=told):
            next(iter(loader))
    with pytest.raises(ValueError, match=r"found no batch for this one of 3 workers"):
        numbers(tb.ray.BatchLoader(Shard(0, 3), return_tensors="np"))
    assert numbers(tb.ray.BatchLoader(Shard(0), return_tensors="np")) == []
    _, loaded = cut_block([3, 1, 2, 4], 2, batch_size=8)
    assert [notes["num_workers"] for _, notes in loaded] == [2, 2]


# --- pack_dataset: the columns of its blocks --------------------------------------------------


def test_types_of_blocks_are_promoted():
    from tightbatch.ray.packing import unite_types

    assert unite_types([None, None]) is None
    assert unite_types([{"a": ""}, None]) == {"a": "<i8"}
    blocks = [None, {"b": "", "a": "<i4"}, {"a": "<i8", "b": "<f4"}, {"b": "<f8", "a": "<i2"}]
    united = unite_types(blocks)
    assert united == {"b": "<f8", "a": "<i8"}
    assert list(united) == ["b", "a"]
    for kinds in (("<i8", "<f4"), ("<f8", "<u8"), ("<i8", "<u8")):
        told = r"pack_dataset\(\): block 2: column 'a' holds .*no type holds both exactly"
        with pytest.raises(TypeError, match=told):
            unite_types([{"a": kinds[0]}, None, {"a": kinds[1]}])
    told = r"block 2: found the columns \['b'\], but \['a', 'b'\] in block 1; .*select_columns"
    with pytest.raises(ValueError, match=told):
        unite_types([None, {"a": "<i8", "b": "<i8"}, {"b": "<i8"}])


def test_limits_are_columns():
    lengths = np.random.default_rng(2).integers(1, 50, 120)
    caps = {"rows": ("input_ids", 150), "numbers": tb.Limit("row", 700, True)}
    batches, _ = cut_block(lengths, 3, max_tokens=2000, limits=caps)
    assert sorted(row for rows in batches for row in rows) == list(range(120))
    assert max(lengths[rows].sum() for rows in batches) <= 150
    assert max(len(rows) * max(rows) for rows in batches) <= 700
    with pytest.raises(TypeError, match=r"batch_by_length\(\): limits: 'x': .*name of a column"):
        cut_block(lengths, limits={"x": (len, 3)})
    for wrong in (3, {"x": 3}, {"x": ("row", -1)}):
        with pytest.raises((TypeError, ValueError), match="limits"):
            cut_block(lengths, limits=wrong)
    with pytest.raises(ValueError, match=r"there is no column 'images'.*limits="):
        cut_block(lengths, batch_size=2, limits={"x": ("images", 3)})
    with pytest.raises(ValueError, match=r"there is no column 'tokens'.*length="):
        cut_block(lengths, batch_size=2, length="tokens")


def test_like_lengths_share_a_batch_and_a_seed_decides():
    lengths = np.random.default_rng(1).integers(1, 500, 2000)
    batches, loaded = cut_block(lengths, 2, max_tokens=8000)
    padded = sum(batch["input_ids"].size for batch, _ in loaded)
    assert 1 - lengths.sum() / padded < 0.05
    assert cut_block(lengths, 2, max_tokens=8000)[0] == batches
    assert cut_block(lengths, 2, max_tokens=8000, seed=1)[0] != batches


# --- imports ---------------------------------------------------------------------------------


def test_importing_tightbatch_does_not_import_ray():
    code = (
        "import sys, tightbatch as tb\n"
        "before = 'ray' in sys.modules\n"
        "print(before, tb.ray.CollateFn.__name__, tb.ray.__name__, sys.modules['ray'].__version__)"
    )
    told = run_python(code).split()
    assert told[:3] == ["False", "CollateFn", "tightbatch.ray"]
    assert int(told[3].split(".")[0]) >= 2


def test_without_ray_the_packages_are_named():
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import tightbatch as tb\n"
        "print(hasattr(tb, 'ray'), 'ray' in dir(tb))\n"
        "try:\n    from tightbatch import ray\nexcept ImportError as error:\n    print(error)\n"
    )
    there, told = run_python(code).splitlines()
    assert there == "False True"
    assert "python -m pip install 'ray[data]' pyarrow" in told
