"""PadCollator in a torch DataLoader: with workers, a batch comes as one block of shared memory."""

import gc
import os
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import tightbatch as tb
from checks import WORKER_LIMIT, run_python
from conftest import LONG_ONLY

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, Dataset  # noqa: E402

Pair = namedtuple("Pair", "input_ids label")
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


class Rows(Dataset):
    """Module-level, so that a spawned worker can import it."""

    def __init__(self, count=24, kind="dict", width=3000):
        self.count, self.kind, self.width = count, kind, width

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        ids = np.arange(i % 5 + self.width, dtype=np.int64) + i
        if self.kind == "dict":
            return {"input_ids": ids, "label": i, "text": str(i), "labels": [i] * (i % 3)}
        if self.kind == "tuple":
            return ids, i
        return Pair(ids, i) if self.kind == "namedtuple" else ids


class Wrapped:
    """A user's own collate_fn around ours, which changes the batch in the worker."""

    def __init__(self):
        self.collate = tb.PadCollator()

    def __call__(self, samples):
        batch = self.collate(samples)
        batch["input_ids"].add_(1)
        batch["label"] = batch["label"] * 2.5
        del batch["text"]
        batch["added"] = torch.ones(3)
        batch["attention_mask"] = batch["attention_mask"][:, :4]
        batch["labels"].unsqueeze_(0)
        return batch


class Extracting:
    """A collate_fn that takes tensors out of the batch."""

    def __call__(self, samples):
        batch = tb.PadCollator()(samples)
        return {"ids": batch["input_ids"], "first": batch["label"][:1]}


def load(dataset, workers, collate=None, **options):
    collate = tb.PadCollator() if collate is None else collate
    if "batch_sampler" not in options:
        options["batch_size"] = 4
    options["timeout"] = WORKER_LIMIT if workers else 0
    return DataLoader(dataset, num_workers=workers, collate_fn=collate, **options)


def assert_equal(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, (tuple, list)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *(
            pytest.param(kind, "fork", marks=pytest.mark.forks)
            for kind in ("dict", "tuple", "bare")
        ),
        ("namedtuple", "spawn"),  # a class that the worker has to import
    ],
)
def test_workers_send_what_the_main_process_makes(method, kind):
    if sys.platform == "win32" and method == "fork":
        pytest.skip("no fork on Windows")
    dataset = Rows(kind=kind)
    expected = list(load(dataset, 0))
    loader = load(dataset, 2, multiprocessing_context=method, persistent_workers=True)
    for _ in range(2):
        received = list(loader)
        assert len(received) == len(expected) == 6
        for a, b in zip(received, expected, strict=True):
            assert_equal(a, b)


@pytest.mark.parametrize("workers", [0, 2])
def test_with_the_sampler_that_batches_by_length(workers):
    dataset = Rows(width=2)
    lengths = [len(dataset[i]["input_ids"]) for i in range(len(dataset))]
    sampler = tb.LengthBatchSampler(lengths, max_tokens=16, seed=3)
    seen = []
    for batch in load(
        dataset, workers, batch_sampler=sampler, prefetch_factor=3 if workers else None
    ):
        assert batch["input_ids"].numel() <= 16
        seen += batch["label"].tolist()
    assert sorted(seen) == list(range(len(dataset)))


def test_every_option_in_a_worker():
    collate = tb.PadCollator(
        9, padding_side="left", max_length=8, dtype={"labels": "int16"}, return_lengths=True
    )
    for a, b in zip(load(Rows(), 2, collate), load(Rows(), 0, collate), strict=True):
        assert_equal(a, b)
        assert a["lengths"].tolist() == [8] * 4


def test_numpy_output_of_a_worker():
    collate = tb.PadCollator(return_tensors="np")
    batches = zip(load(Rows(), 2, collate), load(Rows(), 0, collate), strict=True)
    for a, b in batches:
        assert type(a) is tb.Batch
        assert a["text"] == b["text"]
        for key in ("input_ids", "label", "labels", "attention_mask"):
            np.testing.assert_array_equal(a[key], b[key])


def test_what_a_wrapper_changed_in_the_worker_arrives():
    collate = Wrapped()
    for a, b in zip(load(Rows(), 2, collate), load(Rows(), 0, collate), strict=True):
        assert_equal(a, b)
    for a, b in zip(load(Rows(), 2, Extracting()), load(Rows(), 0, Extracting()), strict=True):
        assert_equal(a, b)


def test_large_columns_share_one_block_and_small_ones_are_copied_out():
    for batch in load(Rows(), 2):
        ids, mask = batch["input_ids"], batch["attention_mask"]
        begin, end = ids.data_ptr(), mask.data_ptr() + mask.nbytes
        gap = mask.data_ptr() - begin - ids.nbytes
        assert 0 < gap < 1024  # the label and the labels were written in between
        for key in ("label", "labels"):
            assert not begin <= batch[key].data_ptr() < end
        ids[0, 0] = -1  # the receiver may write to it
        assert mask[0, 0] == 1


@LINUX
@pytest.mark.forks
@pytest.mark.parametrize(
    "strategy", ["file_descriptor", pytest.param("file_system", marks=LONG_ONLY)]
)
def test_keeping_labels_does_not_keep_blocks(strategy):
    run_python(
        f"""
        import gc, os
        import torch
        import torch.multiprocessing
        torch.multiprocessing.set_sharing_strategy({strategy!r})
        from test_collate_workers import Rows, load

        def mapped():
            with open("/proc/self/maps") as maps:
                return sum("/dev/shm/torch" in line or "torch_" in line for line in maps)

        before, labels = None, []
        for step, batch in enumerate(load(Rows(1200), 2)):
            labels.append(batch["label"])
            del batch
            if step == 50:
                gc.collect()
                before = mapped(), len(os.listdir("/proc/self/fd"))
        gc.collect()
        after = mapped(), len(os.listdir("/proc/self/fd"))
        assert len(labels) == 300
        assert torch.cat(labels).tolist() == list(range(1200))
        assert after[0] <= before[0] + 4, (before, after)
        assert after[1] <= before[1] + 4, (before, after)
        """
    )


@LINUX
def test_nothing_grows_over_many_batches():
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    loader = load(Rows(4800, width=200), 2, persistent_workers=True)
    list_of = [0 for _ in loader]
    gc.collect()
    before = descriptors(), resident()
    assert len([0 for _ in loader]) == len(list_of) == 1200
    gc.collect()
    assert descriptors() <= before[0] + 2
    if os.environ.get("TIGHTBATCH_SANITIZED") != "1":  # which keeps freed memory for a while
        assert resident() <= before[1] + (32 << 20)


@pytest.mark.forks
@pytest.mark.parametrize("missing", [AttributeError, RuntimeError, OSError])
def test_without_shared_memory_ordinary_memory_serves(monkeypatch, missing):
    def refuse(*_):
        raise missing("none")

    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", refuse)
    for a, b in zip(load(Rows(), 2, multiprocessing_context="fork"), load(Rows(), 0), strict=True):
        assert_equal(a, b)


class Ragged(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"input_ids": [1, 2, "x" if i == 3 else 3]}


def test_an_error_in_a_worker_keeps_its_message():
    with pytest.raises(TypeError, match=r"key 'input_ids', row 3, column 2: found 'x' \(str\)"):
        list(load(Ragged(), 2))


class Empty(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"input_ids": [], "features": np.zeros((0, 3), np.float32)}


def test_columns_without_elements():
    for batch in load(Empty(), 2):
        assert batch["input_ids"].shape == (4, 0)
        assert batch["features"].shape == (4, 0, 3)
        assert batch["features"].dtype == torch.float32


@pytest.mark.forks
@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
def test_fork_while_another_thread_pads():
    """No lock of ours is held over fork: the child goes on."""
    run_python(
        """
        import os, threading
        import numpy as np
        import tightbatch as tb
        rows = [np.arange(200_000) for _ in range(8)]
        stop = threading.Event()
        def work():
            while not stop.is_set():
                tb.pad(rows)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if tb.pad([[1, 2], [3]]).tolist() == [[1, 2], [3, 0]] else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        """
    )
