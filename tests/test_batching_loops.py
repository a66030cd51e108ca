"""The loops that users write, killed and started again: every batch of every epoch once."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks import WORKER_LIMIT
from conftest import LONG
from reference_batching import draw_lengths
from tightbatch.sampling.sampler import LengthBatchSampler

pytestmark = [
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]
LENGTHS = draw_lengths(30).tolist()
EPOCHS = 4
SETTINGS = [
    {"batch_size": 4},
    {"max_tokens": 900},
    {"max_tokens": 900, "padding_free": True, "longest_first": True},
    {"batch_size": 4, "drop_last": True},
    {"batch_size": 4, "shuffle": False},
]


def make_sampler(**options):
    return LengthBatchSampler(LENGTHS, seed=3, **options)


def plan_epochs(options, count=EPOCHS):
    sampler = make_sampler(**options)
    return [list(sampler) for _ in range(count)]


class Killed(Exception):
    """The process ends here; what was saved is all that is left."""


class Program:
    """A training loop, as users write it, that may be killed after any step and started again."""

    def __init__(self, kind, options, uses_set_epoch, loads_late=False):
        self.kind, self.options, self.loads_late = kind, options, loads_late
        self.uses_set_epoch = uses_set_epoch
        self.trained, self.checkpoint = [], None

    def save(self, epoch, state):
        """What is saved together: the model, which is what was trained, and where that was."""
        self.checkpoint = (epoch, json.loads(json.dumps(state, default=str)), list(self.trained))

    def run(self, save_at, kill_at):
        """Save at these places, then be killed at one: (epoch, step); step -1 is before the loop
        over batches, and "end" after it. False if it has come to its end."""
        sampler = make_sampler(**self.options)
        loader = self.kind.make(sampler)
        start = 0
        if self.checkpoint is not None:
            start, state, self.trained = self.checkpoint
            self.trained = list(self.trained)
            if not self.loads_late:
                self.kind.load(sampler, loader, state)
        try:
            for epoch in range(start, EPOCHS):
                if self.uses_set_epoch:
                    self.kind.set_epoch(sampler, loader, epoch)
                if self.loads_late and self.checkpoint is not None and epoch == start:
                    self.kind.load(sampler, loader, state)
                self.reach(sampler, loader, epoch, -1, save_at, kill_at)
                step = -1
                for step, batch in enumerate(loader):
                    self.trained.append(sorted(batch))
                    self.reach(sampler, loader, epoch, step, save_at, kill_at)
                self.reach(sampler, loader, epoch, "end", save_at, kill_at)
        except Killed:
            return True
        return False

    def reach(self, sampler, loader, epoch, step, save_at, kill_at):
        if (epoch, step) in save_at:
            resumed = epoch + 1 if step == "end" and self.counts_ended else epoch
            self.save(resumed, self.kind.state(sampler, loader, step))
        if (epoch, step) == kill_at:
            raise Killed

    counts_ended = True  # after the loop, `epoch + 1` is saved; else `epoch`


class Bare:
    """The sampler itself in the loop."""

    def make(self, sampler):
        return sampler

    def load(self, sampler, loader, state):
        sampler.load_state_dict(state)

    def set_epoch(self, sampler, loader, epoch):
        sampler.set_epoch(epoch)

    def state(self, sampler, loader, step):
        return sampler.state_dict()


def as_list(rows):
    return rows


class Loader(Bare):
    """torch's DataLoader; training says how far it is, inside the loop."""

    def __init__(self, workers):
        self.workers = workers

    def make(self, sampler):
        data = pytest.importorskip("torch.utils.data")
        return data.DataLoader(
            range(len(LENGTHS)),
            batch_sampler=sampler,
            collate_fn=as_list,
            num_workers=self.workers,
            timeout=WORKER_LIMIT if self.workers else 0,
        )

    def state(self, sampler, loader, step):
        if step == "end":
            return sampler.state_dict()
        if step == -1:
            return sampler.state_dict()
        return sampler.state_dict(batches_consumed=step + 1)


class Prepared(Loader):
    """The same, prepared by accelerate, which reads one batch ahead."""

    def make(self, sampler):
        accelerate = pytest.importorskip("accelerate")
        accelerate.state.AcceleratorState._reset_state(True)
        return accelerate.Accelerator(cpu=True).prepare(super().make(sampler))

    def set_epoch(self, sampler, loader, epoch):
        loader.set_epoch(epoch)


class Stateful(Bare):
    """torchdata's StatefulDataLoader, whose state holds the sampler's."""

    def __init__(self, workers, every=1, persistent=False):
        self.workers, self.every, self.persistent = workers, every, persistent

    def make(self, sampler):
        stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
        return stateful(
            range(len(LENGTHS)),
            batch_sampler=sampler,
            collate_fn=as_list,
            num_workers=self.workers,
            snapshot_every_n_steps=self.every,
            persistent_workers=self.persistent,
            timeout=WORKER_LIMIT if self.workers else 0,
        )

    def load(self, sampler, loader, state):
        loader.load_state_dict(state)

    def state(self, sampler, loader, step):
        return loader.state_dict()


def check(program, options):
    """Each batch of each epoch once, in order."""
    wanted = [sorted(batch) for epoch in plan_epochs(options) for batch in epoch]
    assert program.trained == wanted


def places(options):
    """Every place of an epoch: before the loop, after each step, and after the loop."""
    steps = [len(epoch) for epoch in plan_epochs(options)]
    return [(epoch, step) for epoch in (0, 2) for step in (-1, *range(steps[epoch]), "end")]


# One stop, everywhere


@pytest.mark.parametrize("loads_late", [False, True], ids=["load, set_epoch", "set_epoch, load"])
@pytest.mark.parametrize("uses_set_epoch", [True, False], ids=["set_epoch", "no set_epoch"])
@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", [Bare(), Loader(0)], ids=["bare", "loader"])
def test_stopped_once(kind, options, uses_set_epoch, loads_late):
    if loads_late and not uses_set_epoch:
        pytest.skip("there is no order of one")
    for place in places(options):
        program = Program(kind, options, uses_set_epoch, loads_late)
        assert program.run({place}, place)
        assert not program.run(set(), None)
        check(program, options)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("loads_late", [False, True], ids=["load, set_epoch", "set_epoch, load"])
@pytest.mark.parametrize(
    "kind",
    [Bare(), Loader(0), Prepared(0), Stateful(0)],
    ids=["bare", "loader", "accelerate", "stateful"],
)
def test_after_the_loop_the_epoch_may_be_saved_or_the_next(kind, options, loads_late):
    """range(epoch, ...) with set_epoch: an epoch that is done has no batches left."""
    for epoch in (0, 1, 3):
        program = Program(kind, options, uses_set_epoch=True, loads_late=loads_late)
        program.counts_ended = False
        assert program.run({(epoch, "end")}, (epoch, "end"))
        assert program.checkpoint[0] == epoch
        assert not program.run(set(), None)
        check(program, options)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.forks)])
def test_loaders_that_read_ahead(workers):
    kinds = [Prepared(workers), Loader(workers)]
    for kind, options in zip(kinds, SETTINGS, strict=False):
        steps = len(plan_epochs(options)[1])
        for place in [(1, -1), (1, 0), (1, steps - 2), (1, steps - 1), (1, "end")]:
            program = Program(kind, options, uses_set_epoch=True)
            assert program.run({place}, place)
            assert not program.run(set(), None)
            check(program, options)


WORKERS = (2, 4)
EVERY = itertools.product(WORKERS, (1, 3, 100), (True, False))
# To start workers takes longer than all else: one place each, unless there is time.
SOME = [(2, 1, True), (2, 3, False), (2, 100, True), (4, 1, False), (4, 3, True), (4, 100, False)]


@pytest.mark.parametrize(
    ("workers", "every", "uses_set_epoch"),
    [
        *itertools.product([0], (1, 3, 100), (True, False)),
        *(pytest.param(*case, marks=pytest.mark.forks) for case in (EVERY if LONG else SOME)),
    ],
)
def test_stateful_loader(workers, every, uses_set_epoch):
    options = SETTINGS[0]
    steps = len(plan_epochs(options)[1])
    stops = [(1, 0), (1, 3), (1, steps - 2), (1, steps - 1), (1, "end")]
    if workers and not LONG:
        stops = [(1, 3), (1, steps - 1)] if every == 3 else [(1, "end")]
    for place in stops:
        program = Program(Stateful(workers, every), options, uses_set_epoch)
        assert program.run({place}, place)
        assert not program.run(set(), None)
        check(program, options)


@pytest.mark.forks
def test_stateful_loader_with_fewer_batches_than_are_prefetched():
    for options, places in (
        ({"batch_size": 30}, [(1, "end"), (3, "end")]),
        ({"batch_size": 15}, [(1, 0)]),
    ):
        for place in places:
            for persistent in (False, True):
                kind = Stateful(4, persistent=persistent)
                program = Program(kind, options, uses_set_epoch=True)
                assert program.run({place}, place)
                assert not program.run(set(), None)
                check(program, options)


# Stopped again and again

KINDS = st.sampled_from([Bare(), Loader(0), Stateful(0), Stateful(0, 3)])


@given(
    kind=KINDS,
    options=st.sampled_from(SETTINGS),
    uses_set_epoch=st.booleans(),
    loads_late=st.booleans(),
    counts_ended=st.booleans(),
    choices=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=6),
)
@settings(max_examples=150, deadline=None)
def test_any_interleaving(kind, options, uses_set_epoch, loads_late, counts_ended, choices):
    """Saved at some place, killed at that or a later one, and started again."""
    steps = [len(epoch) for epoch in plan_epochs(options)]
    line = [(e, step) for e, count in enumerate(steps) for step in (-1, *range(count), "end")]
    is_stateful = isinstance(kind, Stateful)
    program = Program(kind, options, uses_set_epoch, loads_late and uses_set_epoch)
    # Without set_epoch the number of passes must count what was saved.
    program.counts_ended = counts_ended or not uses_set_epoch
    begun = 0
    for place, later in choices:
        at = min(begun + place, len(line) - 1)
        if is_stateful and line[at][1] == -1:
            at += 1  # it has no iteration yet, and makes one in order to say where it is
        killed = min(at + later, len(line) - 1)
        program.run({line[at]}, line[killed])
        begun = at
    program.run(set(), None)
    check(program, options)


# Beside torchdata's own sampler


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.forks)])
def test_torchdata_gives_an_empty_rest_too(workers):
    """Saved after the last batch, inside the loop: one pass without batches in both."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    theirs = pytest.importorskip("torchdata.stateful_dataloader.sampler")

    def sizes(make):
        loader = make()
        for batch in itertools.islice(loader, len(loader)):
            last = batch
        assert last
        state = loader.state_dict()
        loader = make()
        loader.load_state_dict(state)
        return [len(list(loader)) for _ in range(3)]

    def make_theirs():
        rows = range(len(LENGTHS))
        sampler = theirs.StatefulDistributedSampler(rows, num_replicas=1, rank=0)
        return stateful.StatefulDataLoader(
            rows, batch_size=4, sampler=sampler, collate_fn=as_list, num_workers=workers
        )

    def make_ours():
        return Stateful(workers).make(make_sampler(batch_size=4))

    assert sizes(make_ours) == sizes(make_theirs) == [0, 8, 8]
