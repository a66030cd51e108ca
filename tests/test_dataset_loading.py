"""RaggedDataset in a torch DataLoader: every row once, one block a batch, nothing grows."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import tightbatch as tb
from checks import WORKER_LIMIT, run_python
from conftest import LONG, LONG_ONLY
from tightbatch.huggingface import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithFlattening,
    DataCollatorWithPadding,
)

torch = pytest.importorskip("torch")
pa = pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")
from torch.utils.data import ConcatDataset, DataLoader, Subset, random_split  # noqa: E402

COUNT = 60
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


def make(count=COUNT, width=0):
    """Rows that tell their own number: the first token and `row` are it."""
    rows = [[i, *range(100, 100 + width + i * 7 % 11)] for i in range(count)]
    return {
        "input_ids": rows,
        "labels": [[token % 5 for token in row] for row in rows],
        "row": list(range(count)),
        "text": [None if i % 7 == 6 else f"row {i} ä" for i in range(count)],
    }


def on_disk(directory, data):
    datasets.Dataset.from_dict(data).save_to_disk(str(directory))
    return datasets.load_from_disk(str(directory))


SOURCES = ["lists", "arrow", "hf", "hf shuffled"]


@pytest.fixture(params=SOURCES)
def dataset(request, tmp_path):
    if request.param == "lists":
        return tb.RaggedDataset(make())
    if request.param == "arrow":
        table = pa.table(make())
        return tb.RaggedDataset.from_arrow(pa.concat_tables([table[:13], table[13:]]))
    hf = on_disk(tmp_path / "set", make())
    return tb.RaggedDataset.from_hf(hf if request.param == "hf" else hf.shuffle(seed=1))


def load(dataset, workers, method=None, **options):
    options = {"collate_fn": tb.PadCollator(return_lengths=True), **options}
    if workers:
        options |= {"multiprocessing_context": method, "timeout": WORKER_LIMIT}
    if not options.keys() & {"batch_sampler", "batch_size", "sampler"}:
        options["batch_size"] = 7
    return DataLoader(dataset, num_workers=workers, **options)


def assert_same(a, b):
    assert type(a) is type(b)
    assert list(a) == list(b)
    for key in b:
        if isinstance(b[key], torch.Tensor):
            assert a[key].dtype == b[key].dtype, key
            assert torch.equal(a[key], b[key]), key
        else:
            assert a[key] == b[key], key


def assert_right(batch):
    """Each row of the batch is that of the data, and padded as it should be."""
    data = make()
    rows = batch["row"].tolist()
    ids = [data["input_ids"][i] for i in rows]
    assert batch["input_ids"].tolist() == tb.pad(ids).tolist()
    assert (
        batch["labels"].tolist()
        == tb.pad([data["labels"][i] for i in rows], padding_value=-100).tolist()
    )
    assert batch["lengths"].tolist() == [len(row) for row in ids]
    assert batch["attention_mask"].sum(1).tolist() == [len(row) for row in ids]
    assert batch["text"] == [data["text"][i] for i in rows]
    return rows


@pytest.mark.parametrize(
    ("dataset", "workers", "method"),
    [
        *((name, 0, None) for name in SOURCES),
        *(pytest.param(name, 2, "fork", marks=pytest.mark.forks) for name in SOURCES),
        pytest.param("arrow", 2, "spawn", marks=LONG_ONLY),
        pytest.param("hf shuffled", 2, "spawn", marks=LONG_ONLY),
    ],
    indirect=["dataset"],
)
def test_every_row_once_in_every_epoch(dataset, workers, method):
    """Batches by length, over three epochs, with the same workers."""
    lengths = tb.lengths(dataset, "input_ids")

    def sampler():
        return tb.LengthBatchSampler(lengths, max_tokens=40, shuffle_window=20, seed=5)

    options = {"persistent_workers": True, "prefetch_factor": 3} if workers else {}
    loader = load(dataset, workers, method, batch_sampler=sampler(), **options)
    plan, orders = sampler(), []
    for _ in range(3):
        rows, expected = [], list(plan)
        for batch, indices in zip(loader, expected, strict=True):
            assert_same(batch, tb.PadCollator(return_lengths=True)(dataset.__getitems__(indices)))
            rows += assert_right(batch)
            assert batch["input_ids"].numel() <= 40
        assert sorted(rows) == list(range(COUNT))
        orders.append(rows)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.forks
@pytest.mark.parametrize("workers", [0, 2])
def test_a_shuffled_loader_of_batches_of_one_size(dataset, workers):
    generator = torch.Generator().manual_seed(3)
    rows = []
    loader = load(dataset, workers, "fork", shuffle=True, generator=generator, batch_size=7)
    for i, batch in enumerate(loader):
        rows += assert_right(batch)
        assert len(batch["row"]) == (7 if i < COUNT // 7 else COUNT % 7)
    assert sorted(rows) == list(range(COUNT))
    assert rows != sorted(rows)


def test_datasets_made_of_it(dataset):
    """Subset asks for whole batches, ConcatDataset for samples: the same comes out."""
    parts = random_split(dataset, [0.25, 0.75], torch.Generator().manual_seed(0))
    rows = [row for part in parts for batch in load(part, 0) for row in assert_right(batch)]
    assert sorted(rows) == list(range(COUNT))
    chosen = Subset(Subset(dataset, range(40, 2, -2)), [3, 0, 5])
    (batch,) = load(chosen, 0)
    assert_same(batch, tb.PadCollator(return_lengths=True)(dataset.__getitems__([34, 40, 30])))
    both = ConcatDataset([dataset, dataset[:5]])
    rows = [row for batch in load(both, 0) for row in assert_right(batch)]
    assert rows == dataset["row"].tolist() + dataset["row"][:5].tolist()
    sampler = torch.utils.data.DistributedSampler(dataset, 3, 1, shuffle=False)
    rows = [row for batch in load(dataset, 0, sampler=sampler) for row in assert_right(batch)]
    assert rows == dataset["row"][1::3].tolist()


def test_default_collate_gets_samples():
    dataset = tb.RaggedDataset({"x": np.arange(12.0).reshape(6, 2), "n": list(range(6))})
    (batch,) = DataLoader(dataset, batch_size=6)
    assert batch["x"].tolist() == dataset["x"].tolist()
    assert batch["n"].tolist() == list(range(6))


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="no accelerator to pin for")
@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_memory(dataset, workers):
    rows = []
    for batch in load(dataset, workers, "spawn" if workers else None, pin_memory=True):
        assert batch["input_ids"].is_pinned()
        rows += assert_right(batch)
    assert sorted(rows) == list(range(COUNT))


COLLATORS = {
    "PadCollator": tb.PadCollator(return_lengths=True),
    "WithPadding": DataCollatorWithPadding(pad_token_id=3),
    "TokenClassification": DataCollatorForTokenClassification(pad_token_id=3),
    "Seq2Seq": DataCollatorForSeq2Seq(pad_token_id=3),
    "causal": DataCollatorForLanguageModeling(mlm=False, pad_token_id=3),
    "masked": DataCollatorForLanguageModeling(
        pad_token_id=3, mask_token_id=4, vocab_size=500, special_token_ids=[3, 4], seed=1
    ),
    "Flattening": DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_seq_idx=True),
}
LARGE = 16 * 1024  # bytes; what is smaller is copied out of its block


def mapping_of(tensor):
    """The line of /proc/self/maps that a tensor's memory is in."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= tensor.data_ptr() < end:
            return line
    raise AssertionError("the tensor is in no mapping")


@LINUX
@pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param("WithPadding", "spawn", marks=LONG_ONLY),
        *(pytest.param(name, "fork", marks=pytest.mark.forks) for name in COLLATORS),
    ],
)
def test_a_batch_comes_as_one_block(name, method):
    collate, data = COLLATORS[name], make(16, width=3000)
    if name == "masked":
        del data["labels"]  # it makes them
    dataset = tb.RaggedDataset.from_arrow(pa.table(data))
    expected = list(load(dataset, 0, collate_fn=collate, batch_size=4))
    received = list(load(dataset, 2, method, collate_fn=collate, batch_size=4))
    assert len(received) == 4
    blocks = set()
    for a, b in zip(received, expected, strict=True):
        if name == "masked":  # a worker's masks are of its own; what is not masked is the same
            assert list(a) == list(b)
            for batch in (a, b):
                labels = batch.pop("labels")
                batch["input_ids"] = torch.where(labels < 0, batch["input_ids"], labels)
            a["attention_mask"][:, 0] += 0  # it may be written to
        else:
            large = [v for v in a.values() if isinstance(v, torch.Tensor) and v.nbytes > LARGE]
            assert len(large) >= 2
            lines = {mapping_of(tensor) for tensor in large}
            assert len(lines) == 1
            assert "torch" in next(iter(lines))
            blocks |= lines
            for key, value in a.items():
                if isinstance(value, torch.Tensor) and 0 < value.nbytes <= LARGE:
                    assert mapping_of(value) not in lines, key
        assert_same(a, b)
    assert name == "masked" or len(blocks) == 4


class Where:
    """A collate_fn that tells which file the rows lie in, and how they are chosen."""

    def __call__(self, samples):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a mapped file is read-only
            row = torch.from_numpy(samples[0]["input_ids"])
        return {"map": mapping_of(row), "samples": type(samples).__name__, "row": row.tolist()}


@LINUX
@pytest.mark.parametrize("method", [pytest.param("fork", marks=pytest.mark.forks), "spawn"])
def test_workers_read_the_file_itself(tmp_path, method):
    dataset = tb.RaggedDataset.from_hf(on_disk(tmp_path / "set", make()).shuffle(seed=0))
    loader = load(dataset, 2, method, collate_fn=Where(), batch_size=10)
    for i, batch in enumerate(loader):
        assert batch["map"].endswith(".arrow")
        assert str(tmp_path) in batch["map"]
        assert batch["samples"] == "Samples"  # columns, not a list of dicts
        assert batch["row"] == dataset[i * 10]["input_ids"].tolist()


@LINUX
@pytest.mark.forks
@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        pytest.param("PadCollator", "file_descriptor", marks=LONG_ONLY),
        pytest.param("WithPadding", "file_system", marks=LONG_ONLY),
        ("Flattening", "file_descriptor"),
    ],
)
def test_keeping_a_small_column_keeps_no_blocks(name, strategy):
    run_python(
        f"""
        import gc, os
        import torch.multiprocessing
        torch.multiprocessing.set_sharing_strategy({strategy!r})
        import numpy as np
        import tightbatch as tb
        from test_dataset_loading import COLLATORS, load

        def held():
            with open("/proc/self/maps") as maps:
                shared = sum("/dev/shm/torch" in line or "torch_" in line for line in maps)
            return shared, len(os.listdir("/proc/self/fd"))

        rows = tb.Ragged(np.zeros(4000, np.int64), np.zeros(1200, np.int64),
                         lengths=np.arange(2800, 4000))
        dataset = tb.RaggedDataset({{"input_ids": rows, "row": np.arange(1200)}})
        key = "cu_seq_lens_q" if {name!r} == "Flattening" else "row"
        before, kept = None, []
        for step, batch in enumerate(load(dataset, 2, "fork", collate_fn=COLLATORS[{name!r}],
                                          batch_size=4)):
            kept.append(batch[key])
            del batch
            if step == 50:
                gc.collect()
                before = held()
        gc.collect()
        after = held()
        assert len(kept) == 300
        if key == "row":
            assert torch.cat(kept).tolist() == list(range(1200))
        else:
            assert kept[299].tolist() == [0, 3996, 7993, 11991, 15990]
        assert after[0] <= before[0] + 4, (before, after)
        assert after[1] <= before[1] + 4, (before, after)
        """
    )


@LINUX
@pytest.mark.parametrize(
    ("source", "method"),
    [
        pytest.param("from_hf", "spawn", marks=LONG_ONLY),
        pytest.param("from_arrow", "fork", marks=pytest.mark.forks),
    ],
)
def test_nothing_grows_over_many_batches(tmp_path, method, source):
    """Memory, descriptors and maps, here and in both workers, from epoch 4 on."""
    run_python(
        """
        import gc, os, sys
        import numpy as np
        import tightbatch as tb
        from test_dataset_loading import load, make, on_disk, pa, datasets

        def measure(process):
            with open(f"/proc/{process}/statm") as statm:
                resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            with open(f"/proc/{process}/maps") as maps:
                regions = sum(1 for _ in maps)
            return resident, len(os.listdir(f"/proc/{process}/fd")), regions

        def main(directory, method, source, count):
            count = int(count)
            data = make(count)
            if source == "from_hf":
                dataset = tb.RaggedDataset.from_hf(on_disk(directory, data).shuffle(seed=0))
            else:
                dataset = tb.RaggedDataset.from_arrow(pa.table(data))
            sampler = tb.LengthBatchSampler(tb.lengths(dataset, "input_ids"), batch_size=2)
            loader = load(dataset, 2, method, batch_sampler=sampler, persistent_workers=True)
            batches, rows, before = 0, 0, None
            for epoch in range(10):
                for batch in loader:
                    batches += 1
                    rows += int(batch["row"].sum())
                gc.collect()
                if epoch in (3, 9):
                    pids = [os.getpid(), *(w.pid for w in loader._iterator._workers)]
                    after = [measure(pid) for pid in pids]
                    before = before or after
            assert batches == 5 * count
            assert rows == 10 * sum(range(count))
            for (size, files, regions), (new_size, new_files, new_regions) in zip(
                before, after, strict=True
            ):
                if os.environ.get("TIGHTBATCH_SANITIZED") != "1":  # which keeps freed memory
                    assert new_size <= size + (8 << 20), (before, after)
                assert new_files <= files + 2, (before, after)
                assert new_regions <= regions + 8, (before, after)

        main(*sys.argv[1:])
        """,
        str(tmp_path / "set"),
        method,
        source,
        "2000" if LONG else "150",
    )


@pytest.mark.parametrize(
    ("form", "workers", "method"),
    [
        ("arrow", 0, None),
        pytest.param("arrow", 2, "fork", marks=pytest.mark.forks),
        ("polars", 0, None),
        ("polars", 2, "spawn"),  # its threads hold locks, which a forked process would wait for
    ],
)
def test_a_dataset_in_arrow_format_gives_whole_batches(tmp_path, form, workers, method):
    """batch_size=None with a batch sampler: the collator is given a table."""
    hf = on_disk(tmp_path / "set", make()).shuffle(seed=2)
    lengths = tb.lengths(hf, "input_ids")
    assert lengths.tolist() == [len(row) for row in hf["input_ids"]]
    order = hf["row"]
    options = {"max_tokens": 50, "seed": 4}
    loader = load(
        hf.with_format(form),
        workers,
        method,
        sampler=tb.LengthBatchSampler(lengths, **options),
        batch_size=None,
    )
    rows = []
    plan = list(tb.LengthBatchSampler(lengths, **options))
    for batch, indices in zip(loader, plan, strict=True):
        assert assert_right(batch) == [order[i] for i in indices]
        rows += batch["row"].tolist()
    assert sorted(rows) == list(range(COUNT))


@pytest.mark.forks
def test_an_error_in_a_worker_names_its_place():
    dataset, collate = tb.RaggedDataset(make()), tb.PadCollator(dtype={"input_ids": "bool"})
    loader = load(dataset, 2, "fork", collate_fn=collate, batch_size=COUNT)
    with pytest.raises(OverflowError, match=r"key 'input_ids', row \d+, column \d+"):
        list(loader)
