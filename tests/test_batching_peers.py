"""The sampler in the loops of others: every row once an epoch, and on from where training was."""

import os
import pickle
import time
from pathlib import Path

import pytest

from checks import WORKER_LIMIT
from conftest import SANITIZED
from reference_batching import draw_lengths
from tightbatch.sampling.sampler import LengthBatchSampler

torch = pytest.importorskip("torch")
data = pytest.importorskip("torch.utils.data")

# What runs here of our C, the other tests of the sampler run as well.
pytestmark = pytest.mark.skipif(SANITIZED, reason="many processes, each slow to start so")

LENGTHS = draw_lengths(150)
OPTIONS = {"batch_size": 8, "seed": 3}


class Rows(data.Dataset):
    """Row `i` is `i`; at module level, so that a spawned worker finds it."""

    def __len__(self):
        return len(LENGTHS)

    def __getitem__(self, row):
        return row


def as_tensor(rows):
    return torch.tensor(rows)


def make_loader(sampler, loader=data.DataLoader, **options):
    options["timeout"] = WORKER_LIMIT if options.get("num_workers") else 0
    return loader(Rows(), batch_sampler=sampler, collate_fn=as_tensor, **options)


def rows_of(batches):
    return [batch.tolist() for batch in batches]


def flatten(batches):
    return [row for batch in batches for row in batch]


def plan_epochs(count, **options):
    sampler = LengthBatchSampler(LENGTHS, **{**OPTIONS, **options})
    return [list(sampler) for _ in range(count)]


# torch


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 0},
        {"num_workers": 2, "prefetch_factor": 3},
        {"num_workers": 2, "persistent_workers": True},
    ],
)
def test_data_loader_goes_on_after_what_was_consumed(options):
    wanted = plan_epochs(3)
    sampler = LengthBatchSampler(LENGTHS, **OPTIONS)
    loader = make_loader(sampler, **options)
    assert rows_of(loader) == wanted[0]
    states = []
    for consumed, batch in enumerate(loader, 1):
        assert batch.tolist() == wanted[1][consumed - 1]
        states.append(sampler.state_dict(batches_consumed=consumed))
    assert len(states) == len(wanted[1]) == 19
    for consumed in (1, 9, 18, 19):
        sampler = LengthBatchSampler(LENGTHS, **OPTIONS)
        sampler.load_state_dict(states[consumed - 1])
        # Of two loaders, one without workers: what was saved does not depend on them.
        loader = make_loader(sampler, **(options if consumed == 9 else {}))
        assert rows_of(loader) == wanted[1][consumed:]
        assert rows_of(loader) == wanted[2]


def test_data_loader_without_consumed_counts_what_it_took():
    sampler = LengthBatchSampler(LENGTHS, **OPTIONS)
    loader = make_loader(sampler, num_workers=2, prefetch_factor=2)
    batches = iter(loader)
    next(batches)
    # Two workers with two batches each, and one more for the one that was taken.
    assert sampler.state_dict()["rows"] == 5 * 8
    assert sampler.state_dict(1)["rows"] == 8


# torchdata


@pytest.fixture(scope="module")
def stateful():
    return pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader


def make_stateful(stateful, workers, **options):
    sampler = LengthBatchSampler(LENGTHS, **OPTIONS)
    return make_loader(sampler, stateful, num_workers=workers, **options)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize(
    ("workers", "options"),
    [(0, {}), (2, {}), (2, {"persistent_workers": True}), (2, {"snapshot_every_n_steps": 3})],
)
@pytest.mark.parametrize("consumed", [0, 1, 10, 18, 19, "finished"])
def test_stateful_loader_goes_on(stateful, workers, options, consumed):
    wanted = plan_epochs(4)
    loader = make_stateful(stateful, workers, **options)
    assert rows_of(loader) == wanted[0]
    batches = iter(loader)
    taken = 19 if consumed == "finished" else consumed
    for place in range(taken):
        assert next(batches).tolist() == wanted[1][place]
    if consumed == "finished":
        assert next(batches, None) is None
    state = pickle.loads(pickle.dumps(loader.state_dict()))
    loader = make_stateful(stateful, workers, **options)
    loader.load_state_dict(state)
    # After an epoch's last batch the rest of it is empty, as of torchdata's own samplers.
    left = wanted[2:] if consumed == "finished" else [wanted[1][taken:], *wanted[2:]]
    for batches in left:
        assert rows_of(loader) == batches


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_loader_stopped_again_and_again(stateful, workers):
    state, seen = None, []
    for taken in (4, 7, 5, 11, 8, 14):  # 49 of 57 batches, across two ends of epochs
        loader = make_stateful(stateful, workers)
        if state is not None:
            loader.load_state_dict(state)
        while taken:
            for batch in loader:
                seen.append(batch.tolist())
                taken -= 1
                if not taken:
                    break
        state = pickle.loads(pickle.dumps(loader.state_dict()))
    assert seen == flatten(plan_epochs(3))[:49]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_stateful_loader_on_other_numbers_of_ranks(stateful):
    """The loader's state holds the sampler's, which may be taken to other ranks."""

    def make(rank, ranks):
        sampler = LengthBatchSampler(LENGTHS, num_replicas=ranks, rank=rank, **OPTIONS)
        return make_loader(sampler, stateful)

    seen, states = [], []
    for rank in range(2):
        loader = make(rank, 2)
        batches = iter(loader)
        seen += flatten(next(batches).tolist() for _ in range(4))
        states.append(loader.state_dict())
    assert states[0] == states[1]
    for rank in range(3):
        loader = make(rank, 3)
        loader.load_state_dict(states[0])
        seen += flatten(rows_of(loader))
    assert sorted(seen) == list(range(150))


# Processes


def run_in_process(rank, ranks, folder, function, arguments):
    """What a process does: find the others by a file (no port to be taken), then its work."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(ranks),
        LOCAL_WORLD_SIZE=str(ranks),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="29500",
        ACCELERATE_USE_CPU="true",
        CUDA_VISIBLE_DEVICES="",
    )
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(Path(folder) / "store"), ranks)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    found = function(rank, ranks, *arguments)
    (Path(folder) / f"rank-{rank}").write_bytes(pickle.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def run_processes(function, folder, *arguments, ranks=2, limit=300):
    """What `function(rank, ranks, *arguments)` returns in each of `ranks` processes."""
    if not torch.distributed.is_available():
        pytest.skip("torch without torch.distributed")
    context = torch.multiprocessing.spawn(
        run_in_process, (ranks, str(folder), function, arguments), nprocs=ranks, join=False
    )
    end = time.monotonic() + limit
    try:
        while not context.join(timeout=1):
            assert time.monotonic() < end, f"not done after {limit} s"
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()
                process.join()
    return [pickle.loads((Path(folder) / f"rank-{rank}").read_bytes()) for rank in range(ranks)]


# accelerate


@pytest.fixture
def accelerate():
    """accelerate keeps the state of a process in classes: each test begins anew."""
    module = pytest.importorskip("accelerate")
    states = module.state
    states.AcceleratorState._reset_state(True)
    yield module
    states.AcceleratorState._reset_state(True)


def test_accelerate_one_process(accelerate):
    wanted = plan_epochs(3)
    sampler = LengthBatchSampler(LENGTHS, **OPTIONS)
    loader = accelerate.Accelerator(cpu=True).prepare(make_loader(sampler))
    assert [rows_of(loader) for _ in range(3)] == wanted
    loader.set_epoch(1)
    assert sampler.epoch == 1
    assert rows_of(loader) == wanted[1]
    for skipped in (0, 1, 18, 19):
        loader.set_epoch(1)
        left = accelerate.skip_first_batches(loader, skipped)
        assert len(left) == 19 - skipped
        assert rows_of(left) == wanted[1][skipped:]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("consumed", [1, 10, 18, 19])
def test_accelerate_with_a_stateful_loader(accelerate, stateful, consumed):
    wanted = plan_epochs(2)

    def prepare():
        settings = accelerate.utils.DataLoaderConfiguration(use_stateful_dataloader=True)
        accelerator = accelerate.Accelerator(cpu=True, dataloader_config=settings)
        return accelerator.prepare(make_loader(LengthBatchSampler(LENGTHS, **OPTIONS)))

    loader = prepare()
    batches = iter(loader)
    assert rows_of(next(batches) for _ in range(consumed)) == wanted[0][:consumed]
    state = pickle.loads(pickle.dumps(loader.state_dict()))
    loader = prepare()
    loader.load_state_dict(state)
    assert rows_of(loader) == wanted[0][consumed:]  # none, after the last: as a sampler's own


CASES = [
    (True, {"batch_size": 8}),
    (True, {"max_tokens": 1500}),
    (False, {"max_tokens": 1500}),
]


def run_accelerate(rank, ranks):
    """For each case two epochs, then one that is chosen, and what is left of it after a skip."""
    import accelerate

    found = []
    for even, options in CASES:
        settings = accelerate.utils.DataLoaderConfiguration(even_batches=even)
        accelerator = accelerate.Accelerator(cpu=True, dataloader_config=settings)
        assert (accelerator.num_processes, accelerator.process_index) == (ranks, rank)
        sampler = LengthBatchSampler(LENGTHS, seed=3, **options)
        loader = accelerator.prepare(make_loader(sampler))
        epochs = [rows_of(loader), rows_of(loader)]
        loader.set_epoch(5)
        assert sampler.epoch == 5
        epochs.append(rows_of(loader))
        loader.set_epoch(5)
        epochs.append(rows_of(accelerate.skip_first_batches(loader, 3)))
        found.append(epochs)
        accelerate.state.AcceleratorState._reset_state()
    return found


def check_shares(even, options, per_rank, wanted):
    """Every row once, but for what even_batches adds from the beginning."""
    assert not even or len({len(batches) for batches in per_rank}) == 1
    steps = max(map(len, per_rank))
    merged = [own[step] for step in range(steps) for own in per_rank if step < len(own)]
    assert set(flatten(merged)) == set(range(150))
    if "max_tokens" in options:
        assert merged[: len(wanted)] == wanted
        assert merged[len(wanted) :] == (wanted[: len(wanted) % 2] if even else [])
    else:
        # The short batch is filled up, so that all are of the same size.
        assert merged[: len(wanted) - 1] == wanted[:-1]
        assert merged[len(wanted) - 1][: len(wanted[-1])] == wanted[-1]
        assert {len(batch) for batch in merged} == {8}


@pytest.mark.cluster
def test_accelerate_two_processes(tmp_path):
    """With num_replicas left at 1: accelerate takes each process's share."""
    pytest.importorskip("accelerate")
    found = run_processes(run_accelerate, tmp_path)
    for number, (even, options) in enumerate(CASES):
        for place, epoch in enumerate((0, 1, 5)):
            sampler = LengthBatchSampler(LENGTHS, seed=3, **options)
            sampler.set_epoch(epoch)
            per_rank = [own[number][place] for own in found]
            check_shares(even, options, per_rank, list(sampler))
        for own in found:
            assert own[number][3] == own[number][2][3:]


# Lightning


@pytest.fixture(scope="module")
def lightning():
    return pytest.importorskip("lightning")


class Told(LengthBatchSampler):
    """Notes which epochs it is told."""

    def set_epoch(self, epoch):
        self.told = [*getattr(self, "told", []), epoch]
        super().set_epoch(epoch)


def fit(folder, loader, **options):
    """Train for three epochs; the batches of each."""
    import lightning

    class Recording(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.seen = []

        def on_train_epoch_start(self):
            self.seen.append([])

        def training_step(self, batch, _):
            self.seen[-1].append(batch.tolist())
            return self.weight.sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet["enable_model_summary"] = False
    model = Recording()
    lightning.Trainer(
        accelerator="cpu", max_epochs=3, default_root_dir=str(folder), **quiet, **options
    ).fit(model, loader)
    return model.seen


@pytest.mark.filterwarnings("ignore")
def test_lightning_one_device(lightning, tmp_path):
    sampler = Told(LENGTHS, **OPTIONS)
    seen = fit(tmp_path, make_loader(sampler), devices=1)
    assert seen == plan_epochs(3)
    assert sampler.told == [0, 1, 2]


@pytest.mark.filterwarnings("ignore")
def test_lightning_predicts_with_a_sampler_of_lists(lightning, tmp_path):
    """It makes batch samplers anew for predict; what it is given as `sampler` it leaves alone."""

    class Echo(lightning.LightningModule):
        def predict_step(self, batch, _):
            return batch

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, default_root_dir=str(tmp_path), **quiet
    )
    sampler = LengthBatchSampler(LENGTHS, **OPTIONS)
    with pytest.raises(TypeError, match=r"found type SequentialSampler.*batch_size=None"):
        trainer.predict(Echo(), make_loader(sampler))
    loader = data.DataLoader(Rows(), sampler=sampler, batch_size=None, collate_fn=as_tensor)
    assert rows_of(trainer.predict(Echo(), loader)) == plan_epochs(1)[0]


def run_lightning(rank, ranks, folder):
    """The message where Lightning is to shard; the batches of each epoch where it is not."""
    sampler = Told(LENGTHS, num_replicas=ranks, rank=rank, **OPTIONS)
    options = {"strategy": "ddp", "devices": ranks}
    with pytest.raises(TypeError) as refused:
        fit(folder, make_loader(sampler), use_distributed_sampler=True, **options)
    seen = fit(folder, make_loader(sampler), use_distributed_sampler=False, **options)
    return str(refused.value), seen, sampler.told


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")
def test_lightning_two_processes(lightning, tmp_path):
    found = run_processes(run_lightning, tmp_path, str(tmp_path))
    for rank, (message, seen, told) in enumerate(found):
        # Refused, rather than sharded twice.
        assert "LengthBatchSampler" in message
        assert "found type DistributedSampler" in message
        assert "use_distributed_sampler=False" in message
        assert seen == plan_epochs(3, num_replicas=2, rank=rank)
        assert told == [0, 1, 2]
    for epochs in zip(*(seen for _, seen, _ in found), strict=True):
        assert sorted(flatten(flatten(epochs))) == list(range(150))


# transformers


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("accelerate")
    return pytest.importorskip("transformers")


def make_trainer(transformers, folder, sampler, **options):
    class Model(torch.nn.Module):
        """Says which rows it is shown."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.seen = []

        def forward(self, rows):
            self.seen.append(rows.tolist())
            return {"loss": self.weight.sum()}

    class Trainer(transformers.Trainer):
        def get_train_dataloader(self):
            loader = data.DataLoader(
                Rows(),
                batch_sampler=sampler,
                collate_fn=lambda rows: {"rows": torch.tensor(rows)},
            )
            return self.accelerator.prepare(loader)

    arguments = transformers.TrainingArguments(
        output_dir=str(folder), use_cpu=True, report_to=[], disable_tqdm=True, **options
    )
    return Trainer(Model(), arguments, train_dataset=Rows())


@pytest.mark.filterwarnings("ignore")
def test_transformers_trainer(transformers, tmp_path):
    wanted = flatten(plan_epochs(3))
    options = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 25}
    trainer = make_trainer(
        transformers, tmp_path, LengthBatchSampler(LENGTHS, **OPTIONS), **options
    )
    trainer.train()
    assert trainer.model.seen == wanted
    assert trainer.state.global_step == len(wanted) == 57
    # From the middle of the second epoch.
    sampler = LengthBatchSampler(LENGTHS, **OPTIONS)
    trainer = make_trainer(transformers, tmp_path, sampler, **options)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-25"))
    assert trainer.model.seen == wanted[25:]
