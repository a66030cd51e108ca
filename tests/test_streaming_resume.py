"""A stream that is saved and continued: every sample once, and the batches that would have come."""

import copy
import itertools
import json
import os
import signal

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import tightbatch as tb

KINDS = [
    {"batch_size": 4},
    {"max_tokens": 40},
    {"max_tokens": 40, "padding_free": True},
    {"batch_size": 3, "padding_free": True},
    {"batch_size": 4, "drop_last": True},
    {"max_tokens": 40, "padding_free": True, "drop_last": True},
    {"max_tokens": 20, "overlong": "drop"},
    {"max_tokens": 64, "buffer_tokens": 100},
    {"max_tokens": 64, "buffer_tokens": 100, "padding_free": True},
    {"batch_size": 4, "steps": 40},
]

IMAGES = {"images": (lambda sample: sample[0] % 4, 7)}
LIMITED = [
    {"max_tokens": 60, "limits": IMAGES},
    {"max_tokens": 60, "limits": IMAGES, "padding_free": True},
    {"limits": {**IMAGES, "pixels": tb.Limit(lambda sample: sample[1] // 2, 50, True)}},
    {"limits": {"lengths": (lambda sample: sample[1], 50)}, "padding_free": True},
    {"max_tokens": 90, "length": lambda sample: (sample[1], sample[0] % 9)},
    {
        "max_tokens": 90,
        "length": (lambda sample: sample[1], lambda sample: sample[0] % 9),
        "limits": IMAGES,
        "padding_free": True,
        "drop_last": True,
    },
    {"batch_size": 4, "length": lambda sample: (sample[1], sample[0] % 9), "drop_last": True},
]


class Counted:
    """A source with a state of its own: the number of the next sample."""

    def __init__(self, lengths):
        self.lengths, self.next, self.read = lengths, 0, 0

    def __iter__(self):
        while self.next < len(self.lengths):
            self.next += 1
            self.read += 1
            yield self.next - 1, self.lengths[self.next - 1]
        self.next = 0

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


def plain(lengths):
    return lambda: enumerate(lengths)


def of(source, caps, **others):
    options = {"length": lambda sample: sample[1], "buffer": 16, **caps, **others}
    return tb.StreamBatcher(source, **options)


def as_stored(state):
    """What a file gives back: JSON has no tuples."""
    return json.loads(json.dumps(state))


LENGTHS = np.random.default_rng(5).integers(0, 40, 90).tolist()


@pytest.mark.parametrize("make", [plain, Counted], ids=["count", "state"])
@pytest.mark.parametrize(
    "caps", KINDS + LIMITED, ids=[*map(str, KINDS), *map("limits {}".format, range(7))]
)
def test_a_state_of_every_step_continues_with_the_same_batches(caps, make):
    batcher = of(make(LENGTHS), caps)
    whole = list(batcher)
    counts = (batcher.dropped, batcher.repeated)
    batcher = of(make(LENGTHS), caps)
    batches = iter(batcher)
    for done in range(len(whole) + 1):
        other = of(make(LENGTHS), caps)
        other.load_state_dict(as_stored(batcher.state_dict()))
        assert as_stored(other.state_dict()) == as_stored(batcher.state_dict())
        rest = iter(other)
        assert list(rest) == whole[done:]
        assert (other.dropped, other.repeated) == counts
        if done < len(whole):
            assert next(batches) == whole[done]
    with pytest.raises(StopIteration):
        next(batches)
    assert batcher.state_dict()["epoch"] == 1  # after the loop: the next epoch
    other.load_state_dict(batcher.state_dict())
    assert list(other) == list(batcher)


def test_a_source_with_a_state_is_not_read_from_its_beginning():
    lengths = np.random.default_rng(0).integers(1, 40, 5000).tolist()
    batcher = of(Counted(lengths), {"batch_size": 4})
    for _ in itertools.islice(batcher, 1000):
        pass
    state = batcher.state_dict()
    source = Counted(lengths)
    other = of(source, {"batch_size": 4})
    other.load_state_dict(state)
    assert len(next(iter(other))) == 4
    assert source.read < 200
    assert len(json.dumps(state)) < 1000


class Shuffled(Counted):
    """A source whose state has its epoch too, which decides its order."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        order = np.random.default_rng(self.epoch).permutation(len(self.lengths)).tolist()
        while self.next < len(order):
            self.next += 1
            yield order[self.next - 1], self.lengths[order[self.next - 1]]
        self.next = 0

    def state_dict(self):
        return {"next": self.next, "epoch": self.epoch}

    def load_state_dict(self, state):
        self.next, self.epoch = state["next"], state["epoch"]


def test_a_source_whose_state_has_its_epoch_goes_on_to_the_next_one():
    batcher = of(Shuffled(LENGTHS), {"batch_size": 4}, buffer=4)  # in the order of the source
    epochs = []
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(len(LENGTHS)).tolist()
        batches = []
        for batch in batcher:
            batches.append(batch)
            if len(batches) == 9:
                state = as_stored(batcher.state_dict())
        assert sorted(order) == sorted(row for batch in batches for row, _ in batch)
        first = {row for row, _ in itertools.chain(*batches[:5])}
        assert first <= set(order[:24])
        other = of(Shuffled(LENGTHS), {"batch_size": 4}, buffer=4)
        other.load_state_dict(state)
        assert list(other) == batches[9:]
        epochs.append(batches)
    other.set_epoch(0)
    assert list(other) == epochs[0]


@pytest.mark.parametrize("make", [plain, Counted], ids=["count", "state"])
def test_other_samples_are_refused(make):
    batcher = of(make(LENGTHS), {"batch_size": 4})
    next(batches := iter(batcher))
    next(batches)
    state = batcher.state_dict()
    others = list(LENGTHS)
    others[3] += 1
    for lengths, found in (
        (others, "the first [0-9]+ have other lengths"),
        (LENGTHS[:10], "there are 10, and 2[0-9] had been read"),
        ([*LENGTHS[:19], None, *LENGTHS[20:]], "row 19 has no length now|other lengths"),
    ):
        other = of(make(lengths), {"batch_size": 4})
        other.load_state_dict(state)
        with pytest.raises(ValueError, match=rf"load_state_dict\(\): {found}"):
            next(iter(other))
    other = of([(0, 1)], {"batch_size": 4})
    other.load_state_dict({**state, "source": {"next": 0}})
    with pytest.raises(ValueError, match="expected the same source"):
        next(iter(other))


def test_other_settings_shares_and_states_are_refused():
    batcher = of(plain(LENGTHS), {"batch_size": 4})
    state = batcher.state_dict()
    with pytest.raises(ValueError, match="state has batch_size=4, this batcher has batch_size=5"):
        of(plain(LENGTHS), {"batch_size": 5}).load_state_dict(state)
    with pytest.raises(ValueError, match="state has buffer=16, this batcher has buffer=17"):
        of(plain(LENGTHS), {"batch_size": 4}, buffer=17).load_state_dict(state)
    with pytest.raises(TypeError, match="expected a dict"):
        batcher.load_state_dict(None)
    with pytest.raises(ValueError, match=r"state has the keys \[\]"):
        batcher.load_state_dict({})
    two = [of(plain(LENGTHS), {"batch_size": 4}, num_replicas=2, rank=rank) for rank in (0, 1)]
    other = of(plain(LENGTHS), {"batch_size": 4}, num_replicas=3, rank=1)
    other.load_state_dict(two[0].state_dict())
    with pytest.raises(ValueError, match=r"expected the same\s+numbers of ranks and workers"):
        iter(other)


def test_a_row_that_failed_before_the_state_is_left_out_after_it_too():
    lengths = [3, 1, -5, 2, None, 5, 4, 2]
    batches = iter(batcher := of(plain(lengths), {"batch_size": 2}, buffer=4))
    for error in (ValueError, TypeError):
        with pytest.raises(error):
            next(batches)
    other = of(plain(lengths), {"batch_size": 2}, buffer=4)
    other.load_state_dict(batcher.state_dict())
    rest = list(other)
    assert rest == list(batches)
    assert sorted(row for row, _ in itertools.chain(*rest)) == [0, 1, 3, 5, 6, 7]


class Streams(RuleBasedStateMachine):
    """Reading, saving, and loading in a new process, on all ranks of a stream, in any order."""

    @initialize(
        caps=st.sampled_from([*KINDS[:4], *LIMITED[:5]]),
        lengths=st.lists(st.integers(0, 40), max_size=60),
        ranks=st.integers(1, 3),
        make=st.sampled_from([plain, Counted]),
        buffer=st.integers(4, 20),
    )
    def begin(self, caps, lengths, ranks, make, buffer):
        self.lengths = lengths
        self.make = lambda rank: of(
            make(lengths), caps, buffer=buffer, num_replicas=ranks, rank=rank
        )
        self.whole = [list(self.make(rank)) for rank in range(ranks)]
        assert sorted(row for b in itertools.chain(*self.whole) for row, _ in b) == list(
            range(len(lengths))
        )
        self.batchers = [self.make(rank) for rank in range(ranks)]
        self.runs = [iter(batcher) for batcher in self.batchers]
        self.done = [0] * ranks
        self.saved = [(batcher.state_dict(), 0) for batcher in self.batchers]

    def rank(self, number):
        return number % len(self.runs)

    @rule(number=st.integers(0, 5), count=st.integers(1, 6))
    def read(self, number, count):
        rank = self.rank(number)
        for batch in itertools.islice(self.runs[rank], count):
            assert batch == self.whole[rank][self.done[rank]]
            self.done[rank] += 1

    @precondition(lambda self: not any(run.ended for run in self.runs))
    @rule()
    def save(self):
        self.saved = [
            (copy.deepcopy(batcher.state_dict()), done)
            for batcher, done in zip(self.batchers, self.done, strict=True)
        ]

    @rule()
    def kill_and_load(self):
        for rank, (state, done) in enumerate(self.saved):
            self.batchers[rank] = self.make(rank)
            self.batchers[rank].load_state_dict(as_stored(state))
            self.runs[rank], self.done[rank] = iter(self.batchers[rank]), done

    @invariant()
    def ends_where_the_whole_ends(self):
        for run, done, whole in zip(
            getattr(self, "runs", ()),
            getattr(self, "done", ()),
            getattr(self, "whole", ()),
            strict=True,
        ):
            assert not run.ended or done == len(whole)


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


# --- torchdata, in a process that is killed -------------------------------------------------

WIDTHS = [(7 * i * i + 3 * i) % 37 + 1 for i in range(240)]
CAPS = {"pad": {"max_tokens": 150}, "pack": {"max_tokens": 150, "padding_free": True}}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*worker processes:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]


def tensors():
    import torch

    for i, n in enumerate(WIDTHS):
        yield {"input_ids": torch.full((n,), i), "row": i}


def gather(batch):
    return [sample["row"] for sample in batch]


def loader_of(kind, workers):
    data = pytest.importorskip("torchdata.stateful_dataloader")
    batcher = tb.StreamBatcher(tensors, buffer=24, **CAPS[kind])
    return data.StatefulDataLoader(
        batcher,
        batch_size=None,
        collate_fn=gather,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )


@pytest.mark.parametrize(
    "workers", [0, *(pytest.param(workers, marks=pytest.mark.forks) for workers in (2, 4))]
)
@pytest.mark.parametrize("kind", ["pad", "pack"])
def test_torchdata_continues_at_any_step(workers, kind):
    whole = list(loader_of(kind, workers))
    assert sorted(itertools.chain(*whole)) == list(range(240))
    stops = range(len(whole) + 1) if workers == 0 else [1, len(whole) // 2, len(whole) - 1]
    for stop in stops:
        loader = loader_of(kind, workers)
        begun = list(itertools.islice(batches := iter(loader), stop))
        state = loader.state_dict()
        del batches
        other = loader_of(kind, workers)
        other.load_state_dict(state)
        assert begun + list(other) == whole
    assert sorted(itertools.chain(*other)) == list(range(240))  # the next epoch is a whole one


def train(kind, workers, path, stop):
    """Train to the end, or to a step where the process is killed."""
    import torch

    loader, done = loader_of(kind, workers), []
    if path.exists():
        saved = torch.load(path)  # plain data alone
        done = saved["rows"]
        loader.load_state_dict(saved["state"])
    for step, rows in enumerate(loader, 1):
        done = [*done, rows]
        new = path.with_suffix(".new")
        torch.save({"rows": done, "state": loader.state_dict()}, new)
        new.replace(path)
        if step == stop:
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_fork(function, *arguments):
    """Run it in a child process; give how that ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function(*arguments)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.forks
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("workers", "kind", "rounds"), [(0, "pad", 16), (2, "pack", 8), (4, "pad", 6)]
)
def test_a_process_that_is_killed_goes_on_with_every_sample_once(workers, kind, rounds, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchdata")
    rng, path = np.random.default_rng(workers), tmp_path / "state"
    left = 100 if os.environ.get("TIGHTBATCH_TEST_LONG") else rounds
    while left > 0:
        stop = int(rng.integers(1, 7))
        ended = in_a_fork(train, kind, workers, path, stop)
        assert ended in (0, -signal.SIGKILL)
        left -= 1
        if ended == 0 or left == 0:
            if ended != 0:
                assert in_a_fork(train, kind, workers, path, 0) == 0
            rows = torch.load(path)["rows"]
            assert sorted(itertools.chain(*rows)) == list(range(240))
            path.unlink()


class Failing:
    """Raises before some of its rows, and goes on."""

    def __init__(self, count, before):
        self.count, self.before, self.number = count, list(before), 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.number in self.before:
            self.before.remove(self.number)
            raise OSError("a broken record")
        if self.number == self.count:
            raise StopIteration
        self.number += 1
        return [0] * (self.number % 5) + [self.number]


class FailingWithState(Failing):
    """The same with a state of its own."""

    def state_dict(self):
        return {"number": self.number, "before": list(self.before)}

    def load_state_dict(self, state):
        self.number, self.before = state["number"], list(state["before"])


@pytest.mark.parametrize("source", [Failing, FailingWithState])
@pytest.mark.parametrize("options", [{"batch_size": 4}, {"max_tokens": 12, "padding_free": True}])
@pytest.mark.parametrize("before", [[3], [0, 0, 9], [3, 4, 17, 17], list(range(0, 30, 7))])
def test_it_resumes_past_the_errors_of_its_source(options, before, source):
    def make():
        return tb.StreamBatcher(lambda: source(30, before), buffer=8, **options)

    def step(batches):
        while True:
            try:
                return next(batches, None)
            except OSError:
                continue

    def rows_of(batches, count=None):
        given = iter(lambda: step(batches), None)
        return [[row[-1] for row in batch] for batch in itertools.islice(given, count)]

    whole = rows_of(iter(make()))
    assert sorted(n for batch in whole for n in batch) == list(range(1, 31))
    for done in range(len(whole)):
        first = make()
        batches = iter(first)
        for _ in range(done):
            step(batches)
        other = make()
        other.load_state_dict(json.loads(json.dumps(first.state_dict())))
        batches = iter(other)
        assert rows_of(batches, 1) == whole[done : done + 1]
        last = make()  # and again, from a mark that the second one set
        last.load_state_dict(json.loads(json.dumps(other.state_dict())))
        assert rows_of(batches) == whole[done + 1 :]
        assert rows_of(iter(last)) == whole[done + 1 :]


@pytest.mark.parametrize(
    "changed",
    [
        {"samples": [0, 1], "waiting": [0], "pack": [0] * 100_000},
        {"samples": [0, 4], "waiting": [0, 1], "pack": [1, 1]},
        {"samples": [0, 4], "waiting": [0, 1], "pack": [2]},
        {"samples": [0, 4], "waiting": [1, 0]},
        {"samples": [3, 1]},
        {"samples": None},
        {"waiting": 5},
        {"waiting": [0.5]},
        {"waiting": [True]},
        {"stream": [0]},
        {"stream": [0, 0, 0, 0, 0]},
        {"steps": [0, 2**70]},
        {"steps": [-3, 0]},
        {"counts": ["0", 0, 0]},
        {"ended": 1},
        {"failures": [None]},
        {"share": [0, 1, 0, 0, 0, 1]},
        {"share": [0, 1, 0, 1, 1, 1]},
        {"sharded": "auto"},
        {"sharded": 5},
    ],
)
def test_states_that_nothing_gave_are_refused(changed):
    def make():
        rows = [[] for _ in range(300)]
        return tb.StreamBatcher(rows, max_tokens=10**9, padding_free=True, buffer=4)

    batcher = make()
    with pytest.raises(ValueError, match=r"StreamBatcher\.load_state_dict\(\): state has "):
        batcher.load_state_dict({**batcher.state_dict(), **changed})
    assert sum(len(batch) for batch in batcher) == 300
