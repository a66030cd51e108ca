"""StreamBatcher in spawned workers, and over WebDataset: each sample once, and resumed."""

import io
import multiprocessing
import tarfile

import pytest

import tightbatch as tb
from checks import WORKER_LIMIT

torch = pytest.importorskip("torch")
StatefulDataLoader = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*worker processes:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
    # Of files that WebDataset leaves open where reading stops.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROWS = [[row] * (1 + row * 7 % 13) for row in range(100)]


def numbers(batch):
    """The numbers of the rows of a batch."""
    return [row[0] for row in batch]


def load(samples, workers=0, start=None, **options):
    return StatefulDataLoader(
        tb.StreamBatcher(samples, batch_size=8, buffer=16, **options),
        batch_size=None,
        collate_fn=numbers,
        num_workers=workers,
        multiprocessing_context=multiprocessing.get_context(start) if workers else None,
        timeout=WORKER_LIMIT if workers else 0,
    )


def check_goes_on(make):
    """Every row once, and again in the same batches from a state after three of them."""
    loader, whole = make(), []
    for batch in loader:
        whole.append(batch)
        if len(whole) == 3:
            state = loader.state_dict()
    assert sorted(row for batch in whole for row in batch) == list(range(100))
    loader = make()
    loader.load_state_dict(state)
    assert whole[:3] + list(loader) == whole


@pytest.mark.cluster
def test_a_stream_in_spawned_workers():
    """The batcher is pickled; each worker gets its share."""
    check_goes_on(lambda: load(ROWS, 2, "spawn"))


def test_steps_are_the_length():
    batcher = tb.StreamBatcher(ROWS, batch_size=8, steps=20)
    assert len(batcher) == len(load(ROWS, steps=20)) == 20
    endless = tb.StreamBatcher(ROWS, batch_size=8)
    with pytest.raises(TypeError, match=r"StreamBatcher: .* is not known"):
        len(endless)
    assert bool(endless)
    assert len(list(endless)) == 13


def test_a_loop_that_counts_steps_comes_to_the_next_epoch():
    """Lightning does not ask for the end of an iteration whose length it knows."""
    batcher = tb.StreamBatcher(ROWS, batch_size=8, buffer=32, steps=13)
    epochs = []
    for epoch in range(2):
        batches = iter(batcher)
        epochs.append([next(batches) for _ in range(len(batcher))])
        assert batcher.state_dict()["epoch"] == epoch
    assert epochs[0] != epochs[1]
    batcher.set_epoch(1)
    assert list(batcher) == epochs[1]
    batcher.set_epoch(0)
    assert list(batcher) == epochs[0]


# WebDataset


@pytest.fixture
def shards(tmp_path):
    """Four tar files of 25 samples."""
    pytest.importorskip("webdataset")
    for shard in range(4):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as file:
            for row in range(25 * shard, 25 * shard + 25):
                data = " ".join(map(str, ROWS[row])).encode()
                entry = tarfile.TarInfo(f"{row:03d}.txt")
                entry.size = len(data)
                file.addfile(entry, io.BytesIO(data))
    return [str(tmp_path / f"{shard}.tar") for shard in range(4)]


def tokens(sample):
    return [int(word) for word in sample["txt"].split()]


def web(shards, **options):
    import webdataset

    return webdataset.WebDataset(shards, shardshuffle=False, **options).map(tokens)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.forks)])
def test_webdataset(shards, workers):
    """It divides its shards among the workers by itself."""
    check_goes_on(lambda: load(web(shards), workers, "fork", sharded="workers"))


@pytest.mark.forks
def test_webdataset_must_say_what_it_divides(shards):
    """A guess would lose samples, or repeat them."""
    with pytest.raises(ValueError, match="sharded='workers' if it does"):
        list(load(web(shards), 2, "fork"))


def test_webdataset_on_ranks(shards, monkeypatch):
    """With split_by_node its shards are those of this rank; without, ours are every other row."""
    webdataset = pytest.importorskip("webdataset")
    options = {
        "both": webdataset.split_by_node,
        "workers": lambda urls: urls,
    }
    for sharded, splitter in options.items():
        seen = []
        for rank in range(2):
            monkeypatch.setenv("RANK", str(rank))
            monkeypatch.setenv("WORLD_SIZE", "2")
            data = web(shards, nodesplitter=splitter)
            loader = load(data, sharded=sharded, num_replicas=2, rank=rank)
            seen += [row for batch in loader for row in batch]
        assert sorted(seen) == list(range(100))
