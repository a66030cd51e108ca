"""tightbatch.ray on a real cluster of this machine: Ray's tasks, object store and train workers."""

import json
import logging
import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import tightbatch as tb
from conftest import SANITIZED

if SANITIZED:
    pytest.skip("Ray itself is not built for the sanitizers", allow_module_level=True)
ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")
torch = pytest.importorskip("torch")
import pyarrow as pa  # noqa: E402

from ray_training import train  # noqa: E402

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore"),  # of Ray, about what it does itself
]
CPUS = 6
COUNT, BLOCKS = 2003, 4
LENGTHS = np.random.default_rng(0).lognormal(3.5, 0.7, COUNT).astype(int).clip(1, 250)
ARRAYS = tb.PadCollator(return_tensors="np")


def make_table(lengths):
    """Rows whose tokens are all different: a token that is lost or twice there is seen."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = pa.LargeListArray.from_arrays(offsets, np.arange(offsets[-1]))
    return pa.table({"input_ids": rows, "row": np.arange(len(lengths))})


def make_dataset(lengths, blocks):
    table = make_table(lengths)
    edges = np.linspace(0, len(lengths), blocks + 1).astype(int)
    return ray.data.from_arrow([table[a:b] for a, b in pairwise(edges)])


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    """One cluster for all tests; its processes find this tightbatch, and the tests' own modules."""
    paths = [str(Path(tb.__file__).parent.parent), str(Path(__file__).parent)]
    before = {key: os.environ.get(key) for key in ("PYTHONPATH", "RAY_USAGE_STATS_ENABLED")}
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [before["PYTHONPATH"]])])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=CPUS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=300 * 2**20,
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(LENGTHS, BLOCKS)


def batch_of(rows, collator):
    table = make_table(LENGTHS)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    tokens = table["input_ids"].chunk(0).values.to_numpy()
    samples = [
        {"input_ids": tokens[offsets[row] : offsets[row + 1]], "row": int(row)} for row in rows
    ]
    return collator(samples)


def mapping_of(address):
    """The line of /proc/self/maps of an address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= address < end:
            return line
    return ""


# --- collate functions -----------------------------------------------------------------------


@pytest.mark.parametrize("collator", [tb.PadCollator(), tb.PaddingFreeCollator()])
def test_iter_torch_batches(dataset, collator):
    """Batches of rows of two blocks too, with threads that prefetch."""
    batches = list(
        dataset.iter_torch_batches(
            batch_size=300, prefetch_batches=3, collate_fn=tb.ray.CollateFn(collator)
        )
    )
    assert len(batches) == 7
    assert sorted(row for batch in batches for row in batch["row"].tolist()) == list(range(COUNT))
    for batch in batches:
        expected = batch_of(batch["row"].tolist(), collator)
        assert list(batch) == list(expected)
        for key, value in expected.items():
            assert torch.equal(batch[key], torch.as_tensor(value)), key


def test_iter_jax_batches(dataset):
    jax = pytest.importorskip("jax")
    batches = dataset.iter_jax_batches(
        batch_size=1000, collate_fn=tb.ray.CollateFn(ARRAYS), drop_last=True
    )
    for i, batch in enumerate(batches):
        expected = batch_of(range(1000 * i, 1000 * i + 1000), ARRAYS)
        assert isinstance(batch["input_ids"], jax.Array)
        assert all(np.array_equal(batch[key], value) for key, value in expected.items())


@pytest.mark.parametrize("form", ["numpy", "pandas"])
def test_other_formats_of_batches(dataset, form):
    (given,) = dataset.limit(40).iter_batches(batch_size=40, batch_format=form)
    batch, expected = tb.ray.CollateFn(ARRAYS)(given), batch_of(range(40), ARRAYS)
    assert all(np.array_equal(batch[key], value) for key, value in expected.items())


def test_rays_own_tensor_columns():
    """As Ray makes them of arrays: of one shape, and of several."""
    items = [{"pixels": np.full((2, 3), i), "speech": np.ones((i % 3 + 1, 4))} for i in range(6)]
    made = ray.data.from_items(items, override_num_blocks=2)
    (batch,) = made.iter_torch_batches(
        batch_size=6, collate_fn=tb.ray.CollateFn(tb.PadCollator(stack="pixels"))
    )
    assert batch["pixels"].shape == (6, 2, 3)
    assert batch["pixels"][:, 0, 0].tolist() == list(range(6))
    assert batch["speech"].shape == (6, 3, 4)


# --- collation in tasks ----------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_stored_batches_are_read_in_the_object_store(dataset):
    stored = dataset.map_batches(
        tb.ray.StoreBatch(ARRAYS, batch_size=100), batch_size=None, batch_format="pyarrow"
    )
    rows = []
    for batch in stored.iter_torch_batches(batch_size=1, collate_fn=tb.ray.LoadBatch()):
        for tensor in batch.values():
            assert "plasma" in mapping_of(tensor.data_ptr())
        expected = batch_of(batch["row"].tolist(), tb.PadCollator())
        assert all(torch.equal(batch[key], value) for key, value in expected.items())
        rows += batch["row"].tolist()
    assert sorted(rows) == list(range(COUNT))


def test_batches_that_ray_puts_together_are_right_too(dataset):
    """With batch_size= of map_batches, rows of several blocks meet."""
    stored = dataset.map_batches(tb.ray.StoreBatch(ARRAYS), batch_size=700, batch_format="pyarrow")
    batches = list(tb.ray.BatchLoader(stored, return_tensors="np"))
    assert sorted(row for batch in batches for row in batch["row"].tolist()) == list(range(COUNT))
    assert not any(batch["input_ids"].flags.writeable for batch in batches)


# --- batches by length, on train workers -----------------------------------------------------


def fit(dataset, workers, folder, killed_at=None):
    from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    batches = tb.ray.batch_by_length(dataset, ARRAYS, max_tokens=2048, num_workers=workers)
    trainer = TorchTrainer(
        train,
        train_loop_config={"out": str(folder), "killed_at": killed_at},
        datasets={"train": batches},
        scaling_config=ScalingConfig(num_workers=workers),
        run_config=RunConfig(
            storage_path=str(folder / "ray"), failure_config=FailureConfig(max_failures=1)
        ),
        dataset_config=DataConfig(execution_options=ray.data.ExecutionOptions(preserve_order=True)),
    )
    trainer.fit()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(workers)]


@pytest.mark.parametrize(("workers", "killed_at"), [(2, 10), (4, None)])
def test_train_workers(dataset, tmp_path, workers, killed_at):
    """Equal steps, no cap broken, and each row once; also after one worker was killed."""
    told = fit(dataset, workers, tmp_path, killed_at)
    assert [rank["resumed"] for rank in told] == [killed_at is not None] * workers
    assert len({len(rank["steps"]) for rank in told}) == 1
    steps = [rows for rank in told for rows in rank["steps"]]
    assert sorted(row for rows in steps for row in rows) == list(range(COUNT))
    assert max(len(rows) * LENGTHS[rows].max() for rows in steps) <= 2048
    padded = sum(len(rows) * LENGTHS[rows].max() for rows in steps)
    assert 1 - LENGTHS.sum() / padded < 0.15
    for rank in told:
        assert rank["state"] == {"epoch": 1, "batches": 0, "fingerprint": 0}
        assert rank["repeated"] == 0


def test_a_loader_goes_on_where_it_was(dataset):
    """Both kinds of tensors; and refuses a dataset whose batches are others."""
    batches = tb.ray.batch_by_length(dataset, ARRAYS, max_tokens=2048).materialize()
    batches.context.execution_options.preserve_order = True
    kinds = ("pt", "np")
    whole = [batch["row"].tolist() for batch in tb.ray.BatchLoader(batches)]
    for kind, other in (kinds, kinds[::-1]):
        loader = tb.ray.BatchLoader(batches, return_tensors=kind, prefetch_batches=3)
        iterator = iter(loader)
        first = [next(iterator)["row"].tolist() for _ in range(5)]
        resumed = tb.ray.BatchLoader(batches, return_tensors=other)
        resumed.load_state_dict(json.loads(json.dumps(loader.state_dict())))
        assert resumed.state_dict() == loader.state_dict()
        assert first + [batch["row"].tolist() for batch in resumed] == whole
        assert resumed.epoch == 1
        assert [batch["row"].tolist() for batch in resumed] == whole
    others = tb.ray.batch_by_length(dataset, ARRAYS, max_tokens=2048, seed=1)
    resumed = tb.ray.BatchLoader(others)
    resumed.load_state_dict(loader.state_dict())
    with pytest.raises(ValueError, match=r"5 batches had been handed out, .*preserve_order=True"):
        next(iter(resumed))
    resumed = tb.ray.BatchLoader(batches)
    resumed.load_state_dict({"epoch": 0, "batches": len(whole) + 9, "fingerprint": 1})
    with pytest.raises(ValueError, match=f"and the first {len(whole)} are others now"):
        list(resumed)


def test_another_number_of_workers_loses_no_row_in_silence(dataset):
    """Ray deals out as many rows to all, and leaves out the others."""

    @ray.remote(num_cpus=0)
    def read(shard):
        try:
            loader = tb.ray.BatchLoader(shard, return_tensors="np")
            return [row for batch in loader for row in batch["row"].tolist()]
        except ValueError as error:
            return str(error)

    def read_all(made_for, workers):
        batches = tb.ray.batch_by_length(dataset, ARRAYS, max_tokens=2048, num_workers=made_for)
        shards = batches.streaming_split(workers, equal=True)
        return ray.get([read.remote(shard) for shard in shards])

    told = read_all(1, 3)
    assert all("pass batch_by_length(..., num_workers=3)" in error for error in told)
    assert sorted(row for rows in read_all(4, 2) for row in rows) == list(range(COUNT))


def test_small_blocks_are_an_error():
    small = make_dataset(LENGTHS[:40], 20)
    batches = tb.ray.batch_by_length(small, ARRAYS, batch_size=32, num_workers=8)
    with pytest.raises(Exception, match=r"found a block of 2 rows, fewer than num_workers=8"):
        list(tb.ray.BatchLoader(batches))
    batches = tb.ray.batch_by_length(small.repartition(2), ARRAYS, batch_size=32, num_workers=8)
    rows = [row for batch in tb.ray.BatchLoader(batches) for row in batch["row"].tolist()]
    assert sorted(rows) == list(range(40))


def test_padding_free_batches_keep_their_numbers(dataset):
    collator = tb.PaddingFreeCollator(return_tensors="np")
    batches = tb.ray.batch_by_length(dataset, collator, max_tokens=4096, padding_free=True)
    tokens = 0
    for batch in tb.ray.BatchLoader(batches):
        assert type(batch["max_length_q"]) is int
        assert batch["use_cache"] is False
        assert batch["max_length_q"] == int(batch["cu_seq_lens_q"].diff().max())
        assert batch["input_ids"].shape[1] <= 4096
        tokens += batch["input_ids"].numel()
    assert tokens == LENGTHS.sum()


def test_errors_of_tasks_name_the_column(dataset):
    batches = tb.ray.batch_by_length(dataset, ARRAYS, batch_size=8, length="tokens")
    with pytest.raises(Exception, match="there is no column 'tokens', but"):
        list(tb.ray.BatchLoader(batches))


# --- packs -----------------------------------------------------------------------------------


def tokens_of(packs):
    return np.concatenate([np.asarray(pack["input_ids"]) for pack in packs])


def of_kind(kind, rng, count=12000):
    if kind == "like text":
        return rng.lognormal(4.5, 0.9, count).astype(int).clip(1, 1024)
    if kind == "uniform":
        return rng.integers(1, 1025, count)
    if kind == "no small ones":
        return rng.integers(300, 700, count)
    return np.where(
        rng.random(count) < 0.5, rng.integers(500, 900, count), rng.integers(1, 200, count)
    )


@pytest.mark.parametrize("kind", ["like text", "uniform", "no small ones", "long and short"])
def test_packs_are_as_full_as_those_of_one_pack_of_all(kind):
    lengths = of_kind(kind, np.random.default_rng(3))
    packs = tb.ray.pack_dataset(make_dataset(lengths, 6).drop_columns(["row"]), 1024)
    made = packs.take_all()
    assert np.array_equal(np.sort(tokens_of(made)), np.arange(lengths.sum()))
    sizes = np.array([len(pack["input_ids"]) for pack in made])
    assert sizes.max() <= 1024
    assert [sum(pack["seq_lengths"]) for pack in made] == sizes.tolist()
    whole = tb.pack(lengths, 1024, strategy="best_fit")
    assert sizes.mean() / 1024 > whole.efficiency - 0.001


def test_rows_stay_whole_and_meet_those_of_other_blocks():
    lengths = np.array([3, 0, 4, 4, 1, 2, 5])
    dataset = make_dataset(lengths, 3).drop_columns(["row"])
    made = tb.ray.pack_dataset(dataset, 8, seed=None).take_all()
    assert len(made) == 3
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = {tuple(range(a, b)) for a, b in pairwise(offsets) if a < b}
    found = set()
    for pack in made:
        ends = np.cumsum(pack["seq_lengths"])
        tokens = list(pack["input_ids"])
        found |= {tuple(tokens[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)}
    assert found == rows


def test_packs_are_the_same_on_any_number_of_workers(monkeypatch):
    """With one task at a time, and with several; of more than one part of left-overs too."""
    import tightbatch.ray.packing as packing

    monkeypatch.setattr(packing, "_TOKENS_A_BLOCK", 3000)
    dataset = make_dataset(LENGTHS, 5).drop_columns(["row"])
    made = {free: packs_of(dataset, free) for free in (1, 2, 4)}
    assert made[1] == made[2] == made[4]
    assert np.array_equal(np.sort(tokens_of(made[1])), np.arange(LENGTHS.sum()))
    assert tb.ray.pack_dataset(dataset, 512, seed=6).take_all() != made[1]


def packs_of(dataset, free):
    """Pack while so many of the cluster's CPUs are free: as many tasks run at a time."""
    group = ray.util.placement_group([{"CPU": CPUS - free}])
    ray.get(group.ready())
    try:
        return tb.ray.pack_dataset(dataset, 512, seed=5).take_all()
    finally:
        ray.util.remove_placement_group(group)


@pytest.mark.parametrize("overlong", ["truncate", "split", "drop"])
def test_rows_that_are_too_long(overlong):
    dataset = make_dataset(LENGTHS, 3).drop_columns(["row"])
    whole = tb.pack(LENGTHS, 64, overlong=overlong)
    expected = np.minimum(LENGTHS, 64).sum() if overlong == "truncate" else LENGTHS.sum()
    if overlong == "drop":
        expected = LENGTHS[LENGTHS <= 64].sum()
    warned = pytest.warns(UserWarning, match=f"pack_dataset.*{whole.truncated} tokens")
    if overlong == "drop":
        warned = pytest.warns(UserWarning, match=f"pack_dataset.*{whole.dropped} rows")
    if overlong == "split":
        made = tb.ray.pack_dataset(dataset, 64, overlong=overlong).take_all()
    else:
        with warned:
            made = tb.ray.pack_dataset(dataset, 64, overlong=overlong).take_all()
    tokens = tokens_of(made)
    assert len(np.unique(tokens)) == len(tokens) == expected
    assert max(len(pack["input_ids"]) for pack in made) <= 64


def test_packs_become_batches_whose_segments_stay_apart():
    dataset = make_dataset(LENGTHS, 3).drop_columns(["row"])
    packs = tb.ray.pack_dataset(dataset, 1024)
    collate_fn = tb.ray.CollateFn(tb.PaddingFreeCollator())
    segments = 0
    for batch in packs.iter_torch_batches(batch_size=4, collate_fn=collate_fn):
        assert batch["cu_seq_lens_q"][-1] == batch["input_ids"].shape[1] <= 4096
        assert batch["position_ids"].max() < LENGTHS.max()
        segments += len(batch["cu_seq_lens_q"]) - 1
    assert segments == COUNT


def test_errors_of_packing_name_block_and_row():
    bad = pa.table({"input_ids": [[1, 2], [3]], "labels": [[1, 2], [3, 4]]})
    good = pa.table({"input_ids": [[1]], "labels": [[1]]})
    cases = [
        ([good, bad], 8, "block 1, row 1: has 2 values in column 'labels', but 1 in 'input_ids'"),
        ([good, good], 0, "capacity"),
        ([bad.drop_columns("labels")], 1, "block 0, row 0: length 2 is more than capacity=1"),
        ([good.append_column("text", [["a"]])], 4, "column 'text' does not hold lists"),
        ([good.append_column("seq_lengths", [[[1]]])], 4, "none named 'seq_lengths'"),
    ]
    for tables, capacity, told in cases:
        with pytest.raises(Exception, match=told):
            tb.ray.pack_dataset(ray.data.from_arrow(tables), capacity)


def test_blocks_of_other_types_and_orders_and_without_rows_are_packed():
    int32, int64 = pa.list_(pa.int32()), pa.list_(pa.int64())
    tables = [
        pa.table({"input_ids": pa.array([[], []]), "labels": pa.array([[], []])}),
        pa.table({"input_ids": pa.array([[1, 2], [3]], int32), "labels": [[11, 12], [13]]}),
        pa.table({"labels": [[14], []], "input_ids": pa.array([[4], []], int64)}),
        pa.table({"input_ids": pa.array([[0, 0]], int32), "labels": [[0, 0]]}),
    ]
    dataset = ray.data.from_arrow(tables).filter(lambda row: 0 not in row["input_ids"])
    made = tb.ray.pack_dataset(dataset, 2)
    assert {ref.schema.field("input_ids").type for ref in ray.get(made.to_arrow_refs())} == {int64}
    found = made.take_all()
    tokens = tokens_of(found)
    assert sorted(tokens) == [1, 2, 3, 4]
    assert np.array_equal(np.concatenate([pack["labels"] for pack in found]), tokens + 10)
    assert sorted(len(pack["input_ids"]) for pack in found) == [2, 2]
    assert tb.ray.pack_dataset(dataset.filter(lambda row: False), 2).count() == 0
    other = [tables[1], tables[2].drop_columns("labels")]
    with pytest.raises(ValueError, match=r"block 1: found the columns \['input_ids'\], but"):
        tb.ray.pack_dataset(ray.data.from_arrow(other), 2)


def test_a_dataset_without_tokens_has_no_packs():
    dataset = ray.data.from_arrow(pa.table({"input_ids": pa.array([[], []], pa.list_(pa.int64()))}))
    assert tb.ray.pack_dataset(dataset, 4).count() == 0
