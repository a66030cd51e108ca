"""What frameworks do with loaders behind a reader's back, and what keeps training right."""

import logging
from collections import Counter
from functools import partial

import pytest

import tightbatch as tb
from checks import WORKER_LIMIT
from reference_batching import draw_lengths

for package in ("torch", "accelerate", "lightning", "torchdata"):
    pytest.importorskip(package)
import torch  # noqa: E402
from lightning.pytorch import LightningDataModule, LightningModule, Trainer  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of Lightning, about workers
ROWS = [[row] * (1 + row * 7 % 13) for row in range(100)]
AGAIN = {"reload_dataloaders_every_n_epochs": 1}


def numbers(batch):
    """The numbers of the rows of a batch: its first tokens."""
    return [row[0] for row in batch]


def tensor(batch):
    """The same as a tensor, which accelerate asks for."""
    return torch.tensor(numbers(batch))


class Recorder(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(1, 1), []

    def training_step(self, batch):
        self.seen.append((self.current_epoch, batch))
        return self.layer(torch.ones(1, 1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


class Data(LightningDataModule):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def train_dataloader(self):
        return self.make(self.trainer.current_epoch)


def fit(make, folder, resume=False, stop=-1, **options):
    """The batches that Lightning trains on in two epochs, or up to a step, where it saves."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    module = Recorder()
    place = folder / "resumed" if resume else folder
    save = ModelCheckpoint(place, every_n_train_steps=stop if stop > 0 else 999, save_last=True)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        max_steps=stop,
        callbacks=save,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        **options,
    )
    trainer.fit(module, Data(make), ckpt_path=folder / "last.ckpt" if resume else None)
    return module.seen


def stream(epoch, steps, workers=0):
    batcher = tb.StreamBatcher(ROWS, batch_size=8, buffer=32, steps=steps)
    batcher.set_epoch(epoch)
    return StatefulDataLoader(
        batcher,
        batch_size=None,
        collate_fn=numbers,
        num_workers=workers,
        timeout=WORKER_LIMIT if workers else 0,
    )


def test_lightning_resumes_a_stream_of_steps(tmp_path):
    make = partial(stream, steps=13)
    assert len(make(0)) == 13
    whole = fit(make, tmp_path / "whole", **AGAIN)
    for epoch in range(2):
        rows = [row for at, batch in whole if at == epoch for row in batch]
        assert sorted(rows) == list(range(100))
    assert whole[:13] != [(0, batch) for _, batch in whole[13:]]
    for stop in (5, 13, 15):
        folder = tmp_path / str(stop)
        begun = fit(make, folder, stop=stop, **AGAIN)
        assert begun + fit(make, folder, resume=True, **AGAIN) == whole


@pytest.mark.forks
def test_lightning_resumes_a_stream_in_workers(tmp_path):
    make = partial(stream, steps=14, workers=2)
    whole = fit(make, tmp_path / "whole", **AGAIN)
    begun = fit(make, tmp_path, stop=5, **AGAIN)
    assert begun + fit(make, tmp_path, resume=True, **AGAIN) == whole
    assert {row for _, batch in whole for row in batch} == set(range(100))


def test_lightning_loses_a_batch_of_a_stream_without_a_length(tmp_path):
    """It reads a batch ahead, and saves the place after it: `steps` is why the docs ask for it."""
    make = partial(stream, steps=None)
    whole = fit(make, tmp_path / "whole", **AGAIN)
    begun = fit(make, tmp_path, stop=5, **AGAIN)
    assert begun + fit(make, tmp_path, resume=True, **AGAIN) == [*whole[:5], *whole[6:]]


def by_length(epoch, evens_out=True):
    sampler = tb.LengthBatchSampler(draw_lengths(100), max_tokens=1000, seed=1)
    if evens_out:
        sampler.even_out(2)
    sampler.set_epoch(epoch)
    return StatefulDataLoader(range(100), batch_sampler=sampler, collate_fn=list)


def test_lightning_counts_batches_once(tmp_path):
    """Epochs of `max_tokens` have other numbers of batches; what longer ones have more is lost."""
    as_planned = partial(by_length, evens_out=False)
    assert [len(as_planned(epoch)) for epoch in range(2)] == [23, 24]
    lost = fit(as_planned, tmp_path / "once", use_distributed_sampler=False)
    assert len(lost) == 46
    seen = fit(by_length, tmp_path / "again")
    assert len(seen) == 48
    counts = Counter(row for _, batch in seen for row in batch)
    assert counts == dict.fromkeys(range(100), 2)


def test_lightning_resumes_at_the_last_batch_of_an_epoch(tmp_path):
    """A loader that is kept is at its end there, and an epoch of another length is cut."""
    whole = fit(by_length, tmp_path / "whole", **AGAIN)
    assert len(whole) == 48
    begun = fit(by_length, tmp_path, stop=24, **AGAIN)
    assert fit(by_length, tmp_path, resume=True) == []
    assert begun + fit(by_length, tmp_path, resume=True, **AGAIN) == whole

    as_planned = partial(by_length, evens_out=False)
    folder = tmp_path / "planned"
    assert len(fit(as_planned, folder, stop=23, **AGAIN)) == 23
    assert len(fit(as_planned, folder, resume=True, **AGAIN)) == 1  # of 24


@pytest.fixture
def accelerator(monkeypatch):
    import accelerate

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    accelerate.state.AcceleratorState._reset_state(True)
    config = accelerate.DataLoaderConfiguration(use_stateful_dataloader=True)
    yield lambda: accelerate.Accelerator(cpu=True, dataloader_config=config)
    accelerate.state.AcceleratorState._reset_state(True)


@pytest.mark.parametrize("kind", ["stream", "length"])
def test_accelerate_saves_a_stateful_loader(kind, tmp_path, accelerator):
    """In one process its loader may be prepared, and `save_state` has the place."""
    import accelerate

    def make():
        if kind == "length":
            sampler = tb.LengthBatchSampler(list(map(len, ROWS)), batch_size=8)
            loader = DataLoader(ROWS, batch_sampler=sampler, collate_fn=tensor)
        else:
            batcher = tb.StreamBatcher(ROWS, batch_size=8, buffer=32)
            loader = DataLoader(batcher, batch_size=None, collate_fn=tensor)
        accelerate.state.AcceleratorState._reset_state(True)
        made = accelerator()
        return made, made.prepare(loader)

    whole = [batch.tolist() for batch in make()[1]]
    assert sorted(row for batch in whole for row in batch) == list(range(100))
    made, loader = make()
    batches = iter(loader)
    begun = [next(batches).tolist() for _ in range(4)]
    made.save_state(tmp_path)
    made, loader = make()
    made.load_state(tmp_path)
    assert begun + [batch.tolist() for batch in loader] == whole
