"""A stream that goes on with other numbers of ranks and workers: every sample once in all."""

import itertools
import json
from collections import Counter
from contextlib import contextmanager

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import tightbatch as tb
from test_streaming_resume import KINDS, LENGTHS, Counted, Failing, as_stored, of, plain
from tightbatch.sampling import stream_source, streaming

SQUARES = {"batch_size": 4, "limits": {"squares": (lambda sample: sample[1] ** 2, 4000)}}


@contextmanager
def as_worker(number, workers):
    """Be a DataLoader worker for a moment, without a process."""
    with pytest.MonkeyPatch.context() as patch:
        if workers:
            patch.setattr(stream_source, "worker", lambda: (number, workers))
            patch.setattr(streaming, "in_worker", lambda: True)
        yield


class Fleet:
    """The workers of all ranks, each with a copy of the batcher, as processes have them."""

    def __init__(self, make, ranks, workers, states=None):
        self.workers = workers
        self.places = list(itertools.product(range(ranks), range(max(workers, 1))))
        self.batchers = [make(rank, ranks) for rank, _ in self.places]
        self.runs = []
        for place, batcher in enumerate(self.batchers):
            with self.worker(place):
                if states is not None:
                    batcher.load_state_dict(states)
                self.runs.append(iter(batcher))

    def worker(self, place):
        return as_worker(self.places[place][1], self.workers)

    def read(self, place, count=None):
        with self.worker(place):
            return [row for batch in itertools.islice(self.runs[place], count) for row in batch]

    def states(self):
        states = []
        for place, batcher in enumerate(self.batchers):
            with self.worker(place):
                states.append(as_stored(batcher.state_dict()))
        return states

    def finish(self):
        return [row for place in range(len(self.places)) for row in self.read(place)]


def rows_of(samples):
    return sorted(row for row, _ in samples)


class Sizes(RuleBasedStateMachine):
    """Reading on all workers, saving, and going on with other numbers of ranks and workers."""

    @initialize(
        caps=st.sampled_from([*KINDS[:4], *KINDS[7:9], SQUARES]),
        lengths=st.lists(st.integers(0, 40), max_size=120),
        ranks=st.integers(1, 4),
        workers=st.integers(0, 2),
        make=st.sampled_from([plain, Counted]),
        buffer=st.integers(4, 20),
    )
    def begin(self, caps, lengths, ranks, workers, make, buffer):
        self.rows = list(range(len(lengths)))
        self.make = lambda rank, ranks: of(
            make(lengths), caps, buffer=buffer, num_replicas=ranks, rank=rank
        )
        self.fleet = Fleet(self.make, ranks, workers)
        self.seen, self.epoch = [], 0
        self.save()

    @rule(number=st.integers(0, 7), count=st.integers(1, 6))
    def read(self, number, count):
        self.seen += self.fleet.read(number % len(self.fleet.places), count)

    @rule(count=st.integers(1, 3))
    def read_all(self, count):
        for place in range(len(self.fleet.places)):
            self.seen += self.fleet.read(place, count)

    @rule()
    def save(self):
        states = self.fleet.states()
        epoch = min(state["epoch"] for state in states)
        # After the end of all ranks, states are those of the next epoch.
        self.saved = states, list(self.seen) if epoch == self.epoch else [], epoch

    @rule(ranks=st.integers(1, 5), workers=st.integers(0, 3))
    def kill_and_go_on(self, ranks, workers):
        states, seen, self.epoch = self.saved
        self.fleet, self.seen = Fleet(self.make, ranks, workers, states), list(seen)

    @invariant()
    def each_sample_comes_at_most_once(self):
        seen = rows_of(getattr(self, "seen", ()))
        assert len(set(seen)) == len(seen)

    def teardown(self):
        if hasattr(self, "fleet"):
            assert rows_of(self.seen + self.fleet.finish()) == self.rows


TestSizes = Sizes.TestCase
TestSizes.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)


@pytest.mark.parametrize("caps", [*KINDS[4:6], KINDS[6], KINDS[8]], ids=str)
def test_what_is_left_out_is_counted_once(caps):
    """The samples that were dropped before count on one rank, and those handed out come once."""
    lengths = [*LENGTHS[:80], *[25] * 4]

    def make(rank, ranks):
        return of(plain(lengths), caps, num_replicas=ranks, rank=rank)

    fleet = Fleet(make, 3, 0)
    begun = [row for place in range(3) for row in fleet.read(place, 2 + place)]
    other = Fleet(make, 2, 2, fleet.states())
    seen = rows_of(begun + other.finish())
    assert len(set(seen)) == len(seen)
    dropped = sum(batcher.dropped for batcher in other.batchers)
    assert len(seen) + dropped == len(lengths)


def test_what_was_cut_before_is_counted():
    lengths = [*LENGTHS[:80], *[25] * 4] * 2
    caps = {"max_tokens": 24, "overlong": "truncate"}

    def make(rank, ranks):
        return of(plain(lengths), caps, num_replicas=ranks, rank=rank)

    fleet = Fleet(make, 3, 0)
    seen = [row for place in range(3) for row in fleet.read(place, 9)]
    cut = sum(batcher.truncated for batcher in fleet.batchers)
    other = Fleet(make, 2, 0, fleet.states())
    seen += other.finish()
    assert len(seen) == len(set(rows_of(seen))) == len(lengths)
    assert 0 < cut < sum(batcher.truncated for batcher in other.batchers)


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("steps", [17, 40])
def test_steps_count_on_all_sizes_together(steps, workers):
    """Each rank makes the steps that are left; the samples come again where there are fewer."""

    def make(rank, ranks):
        return of(plain(LENGTHS), {"batch_size": 2, "steps": steps}, num_replicas=ranks, rank=rank)

    fleet = Fleet(make, 2, 0)
    begun = [row for place in range(2) for row in fleet.read(place, 9)]
    other = Fleet(make, 3, workers, fleet.states())
    batches, states = Counter(), []
    seen = rows_of(begun)
    for place, (rank, _) in enumerate(other.places):
        with other.worker(place):
            for batch in other.runs[place]:
                batches[rank] += 1
                seen += [row for row, _ in batch]
                last = other.batchers[place].state_dict()
            states.append(last)
    assert [batches[rank] for rank in range(3)] == [steps - 9] * 3
    if steps == 17:
        assert len(set(seen)) == len(seen)
    else:
        assert set(seen) == set(range(len(LENGTHS)))
        with pytest.raises(ValueError, match=r"some came again for steps=; expected the same"):
            Fleet(make, 2, 0, states)


def test_a_pass_without_a_batch_is_an_error_on_other_ranks_too():
    """Rank 1 of 2 has only samples that are dropped, except of those that rank 0 of 1 left."""
    lengths = [3, 100] * 12

    def make(rank, ranks):
        caps = {"max_tokens": 6, "overlong": "drop", "buffer": 4, "steps": 40}
        return of(plain(lengths), caps, num_replicas=ranks, rank=rank)

    fleet = Fleet(make, 1, 0)
    begun = fleet.read(0, 2)
    other = Fleet(make, 2, 0, fleet.states())
    left = other.read(1, 1)
    assert len(begun + left) == len({row for row, _ in begun + left}) == 5
    for batches in (other.runs[1], iter(make(1, 2))):
        with pytest.raises(
            ValueError, match=r"a whole pass over them gave no batch here; expected"
        ):
            next(batches)
    # One that continues within a later pass, after its last batch, goes on with the next.
    states = []
    whole = of(plain(LENGTHS[:9]), {"batch_size": 4, "steps": 8})
    batches = []
    for batch in whole:
        batches.append(batch)
        states.append(as_stored(whole.state_dict()))
    assert max(state["steps"][1] for state in states) == 2
    for done, state in enumerate(states, 1):
        again = of(plain(LENGTHS[:9]), {"batch_size": 4, "steps": 8})
        again.load_state_dict(state)
        assert list(again) == batches[done:]


def test_the_source_is_read_from_its_last_state_that_loses_nothing():
    lengths = [n % 37 + 1 for n in range(6000)]
    sources = []

    def make(rank, ranks):
        sources.append(Counted(lengths))
        return of(sources[-1], {"batch_size": 4}, num_replicas=ranks, rank=rank)

    fleet = Fleet(make, 2, 0)
    begun = [row for place in range(2) for row in fleet.read(place, 500)]
    states = fleet.states()
    other = Fleet(make, 5, 0, states)
    rest = [row for place in range(5) for row in other.read(place, 1)]
    assert max(source.read for source in sources[2:]) < 300
    assert max(len(json.dumps(state)) for state in other.states()) < 1500
    again = Fleet(make, 3, 0, other.states())  # another time, before much was read
    assert rows_of(begun + rest + again.finish()) == list(range(6000))
    fleet = Fleet(make, 5, 0, states)
    rest = [row for place in range(5) for row in fleet.read(place, 40)]
    assert all(state["rest"]["few"] == [] for state in fleet.states())  # all are handed out
    again = Fleet(make, 5, 0, fleet.states())
    assert all(state["steps"][0] == 40 for state in again.states())  # as many: the same batches
    assert rows_of(begun + rest + again.finish()) == list(range(6000))


@pytest.mark.parametrize("before", [[3], [0, 0, 9], [3, 4, 17, 17], list(range(0, 40, 7))])
def test_errors_of_the_source_come_once(before):
    errors = []

    def make(rank, ranks):
        return tb.StreamBatcher(
            lambda: Failing(40, before), batch_size=2, buffer=4, num_replicas=ranks, rank=rank
        )

    def read(fleet, place, count):
        rows = []
        while count:
            count -= 1
            try:
                rows += [(row[-1], None) for row in next(fleet.runs[place], [])]
            except OSError as error:
                errors.append(error)
                count += 1
        return rows

    fleet = Fleet(make, 2, 0)
    begun = read(fleet, 0, 2) + read(fleet, 1, 6)  # one rank is far ahead
    other = Fleet(make, 3, 0, fleet.states())
    begun += [row for place in range(3) for row in read(other, place, 2)]
    last = Fleet(make, 1, 0, other.states())
    errors.clear()
    assert rows_of(begun + read(last, 0, 40)) == list(range(1, 41))
    ahead = max(state["samples"][1] for state in fleet.states())
    assert len(errors) <= sum(number > ahead for number in before)


def test_sources_that_divide_themselves():
    def make(sharded, ranks, rank=0):
        return of(plain(LENGTHS), {"batch_size": 4}, sharded=sharded, num_replicas=ranks, rank=rank)

    # Among workers: each worker's samples can go to other ranks, but not to other workers.
    fleet = Fleet(lambda rank, ranks: make("workers", ranks, rank), 2, 2)
    begun = [row for place in range(4) for row in fleet.read(place, 1 + place)]
    other = Fleet(lambda rank, ranks: make("workers", ranks, rank), 3, 2, fleet.states())
    assert rows_of(begun + other.finish()) == sorted([*range(len(LENGTHS))] * 2)
    with pytest.raises(ValueError, match=r"among workers by itself; expected num_workers=2"):
        Fleet(lambda rank, ranks: make("workers", ranks, rank), 3, 1, fleet.states())
    # Among ranks: the workers of one rank may be others.
    fleet = Fleet(lambda rank, ranks: make("ranks", ranks, rank), 1, 2)
    begun = [row for place in range(2) for row in fleet.read(place, 2 + place)]
    other = Fleet(lambda rank, ranks: make("ranks", ranks, rank), 1, 3, fleet.states())
    assert rows_of(begun + other.finish()) == list(range(len(LENGTHS)))
    with pytest.raises(ValueError, match=r"expected the states of this rank's workers"):
        Fleet(lambda rank, ranks: make("ranks", ranks, rank), 1, 3, fleet.states() + fleet.states())
    fleet = Fleet(lambda rank, ranks: make("both", ranks, rank), 2, 0)
    with pytest.raises(ValueError, match=r"among ranks and\s+workers by itself; expected the same"):
        Fleet(lambda rank, ranks: make("both", ranks, rank), 1, 0, fleet.states())


def test_states_that_do_not_belong_together_are_refused():
    def make(rank, ranks):
        return of(plain(LENGTHS), {"batch_size": 4}, num_replicas=ranks, rank=rank)

    fleet = Fleet(make, 3, 0)
    for place in range(3):
        fleet.read(place, 2)
    states = fleet.states()
    with pytest.raises(
        ValueError, match=r"found states of share 0 of 3, 2 of 3; expected the same"
    ):
        Fleet(make, 2, 0, [states[0], states[2]])
    with pytest.raises(ValueError, match=r"found 2 states of share 1 of 3; expected the states"):
        Fleet(make, 2, 0, [*states, states[1]])
    later = [{**state, "epoch": state["epoch"] + 1} for state in states]
    with pytest.raises(ValueError, match=r"found states of epochs 0 and 1; expected those"):
        Fleet(make, 2, 0, [states[0], later[1], states[2]])
    batcher = make(0, 2)
    with pytest.raises(ValueError, match=r"state has no state of a StreamBatcher; expected"):
        batcher.load_state_dict([])
    with pytest.raises(ValueError, match=r"the loader's state is 2 steps older"):
        batcher.load_state_dict([{"_snapshot": states[0], "_steps_since_snapshot": 2}])
    twice = {"begin": 3, "few": [1, 1], "steps": 0}
    beyond = {"begin": 3, "few": [3], "steps": 0}
    for rest in (5, {}, twice, beyond, {"begin": 3, "few": 1, "steps": 0}):
        with pytest.raises(ValueError, match=r"state has rest="):
            batcher.load_state_dict([{**states[0], "rest": rest}])
    with pytest.raises(ValueError, match=r"state has ended_at="):
        batcher.load_state_dict([{**states[0], "ended_at": -1}])
    assert len(rows_of(list(itertools.chain(*batcher)))) == 45  # nothing was loaded


@pytest.mark.parametrize("made", [plain, Counted], ids=["count", "state"])
def test_other_samples_are_refused_on_other_ranks_too(made):
    def fleet(lengths, ranks, states=None):
        def make(rank, ranks):
            return of(made(lengths), {"batch_size": 4}, num_replicas=ranks, rank=rank)

        return Fleet(make, ranks, 0, states)

    old = fleet(LENGTHS, 3)
    for place in range(3):
        old.read(place, 2)
    states = old.states()
    end = max(state["samples"][1] for state in states)
    begin = max(state["samples"][0] for state in states)
    for changed in range(begin, end):
        others = [*LENGTHS[:changed], LENGTHS[changed] + 1, *LENGTHS[changed + 1 :]]
        new = fleet(others, 2, states)
        if changed < max(s["samples"][1] for s in states if s["share"][0] == changed % 3):
            with pytest.raises(ValueError, match=f"share {changed % 3} of 3, .* other lengths"):
                new.finish()
        else:  # its share had not been read so far
            new.finish()
    with pytest.raises(ValueError, match=f"there are {end - 1}, and {end} had been read"):
        fleet(LENGTHS[: end - 1], 2, states).finish()
    middle = fleet(LENGTHS, 2, states)  # dealt out again twice
    for place in range(2):
        middle.read(place, 1)
    states = middle.states()
    end = states[0]["samples"][1]
    changed = max(number for number in states[0]["rest"]["few"] if number < end)
    others = [*LENGTHS[:changed], LENGTHS[changed] + 1, *LENGTHS[changed + 1 :]]
    with pytest.raises(ValueError, match=f"those of share 0 of 2, before number {end}, have"):
        fleet(others, 5, states).finish()
    fleet(LENGTHS, 5, states).finish()


@pytest.mark.parametrize("length", [lambda n: (n[1], n[1] // 3), (lambda n: n[1], lambda n: 2)])
def test_samples_of_two_lengths(length):
    def fleet(lengths, ranks, states=None):
        def make(rank, ranks):
            return tb.StreamBatcher(
                list(enumerate(lengths)),
                length=length,
                max_tokens=150,
                buffer=12,
                num_replicas=ranks,
                rank=rank,
            )

        return Fleet(make, ranks, 0, states)

    old = fleet(LENGTHS, 3)
    begun = [row for place in range(3) for row in old.read(place, 2)]
    states = old.states()
    assert rows_of(begun + fleet(LENGTHS, 2, states).finish()) == list(range(len(LENGTHS)))
    others = [*LENGTHS[:4], LENGTHS[4] + 3, *LENGTHS[5:]]
    with pytest.raises(ValueError, match=r"share 1 of 3, .* other lengths"):
        fleet(others, 2, states).finish()


@pytest.mark.forks
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.filterwarnings("ignore:.*worker processes:UserWarning")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_torchdata_goes_on_with_other_numbers_of_workers_and_ranks():
    pytest.importorskip("torch")
    data = pytest.importorskip("torchdata.stateful_dataloader")

    def load(rank, ranks, workers, states=None):
        batcher = of(plain(LENGTHS), {"max_tokens": 60}, num_replicas=ranks, rank=rank)
        if states is not None:
            batcher.load_state_dict(states)
        return data.StatefulDataLoader(
            batcher,
            batch_size=None,
            collate_fn=list,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )

    loaders = [load(0, 2, 2), load(1, 2, 0)]
    begun, states = [], []
    for loader, stop in zip(loaders, (3, 4), strict=True):
        begun += itertools.chain(*itertools.islice(batches := iter(loader), stop))
        states.append(loader.state_dict())
        del batches
    with pytest.raises(ValueError, match=r"found states of share 0 of 4, 1 of 2, 1 of 4; expected"):
        next(iter(load(0, 1, 0, states)))
    loaders = [load(rank, 2, 2) for rank in range(2)]
    begun, states = [], []
    for loader, stop in zip(loaders, (3, 4), strict=True):
        begun += itertools.chain(*itertools.islice(batches := iter(loader), stop))
        states.append(loader.state_dict())
        del batches
    loader = load(0, 1, 1, states)
    middle = list(itertools.chain(*itertools.islice(batches := iter(loader), 3)))
    state = loader.state_dict()
    del batches
    rest = list(itertools.chain(*load(0, 1, 0, state)))
    assert rows_of(begun + middle + rest) == list(range(len(LENGTHS)))
