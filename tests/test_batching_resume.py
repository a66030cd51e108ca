"""Stopping and going on: however often, on however many ranks, an epoch has every row once."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from checks import fails
from reference_batching import draw_lengths
from tightbatch.sampling.sampler import LengthBatchSampler

LENGTHS = draw_lengths(200).tolist()


def flatten(batches):
    return [row for batch in batches for row in batch]


def make_ranks(lengths, ranks, **options):
    return [
        LengthBatchSampler(lengths, num_replicas=ranks, rank=rank, **options)
        for rank in range(ranks)
    ]


def resume(lengths, ranks, state, **options):
    samplers = make_ranks(lengths, ranks, **options)
    for sampler in samplers:
        sampler.load_state_dict(json.loads(json.dumps(state)))
    return samplers


# Any interleaving

SETTINGS = st.sampled_from(
    [
        {"batch_size": 4},
        {"batch_size": 1},
        {"max_tokens": 60},
        {"max_tokens": 60, "batch_size": 3, "balance": 1},
        {"batch_size": 4, "padding_free": True},
        {"max_tokens": 60, "padding_free": True},
        {"batch_size": 4, "shuffle": False},
        {"batch_size": 4, "tail": "repeat"},
        {"batch_size": 4, "padding_free": True, "tail": "repeat"},
        {"batch_size": 4, "longest_first": True, "drop_last": True},
        {"max_tokens": 60, "overlong": "truncate", "max_length": 20},
        {"max_tokens": 60, "boundaries": [5, 10, 30]},
    ]
)


class Training(RuleBasedStateMachine):
    """A user's training, with what every row of the epoch under way has come to so far.

    `base` are the rows that were handed out before the latest iteration began, `handed` those
    that it handed out at each of its steps.
    """

    @initialize(
        lengths=st.lists(st.integers(0, 30), min_size=12, max_size=60),
        options=SETTINGS,
        ranks=st.integers(1, 5),
        seed=st.integers(0, 3),
    )
    def begin(self, lengths, options, ranks, seed):
        self.lengths, self.options = lengths, {**options, "seed": seed}
        self.samplers = make_ranks(lengths, ranks, **self.options)
        self.epoch, self.base = 0, frozenset()
        self.forget()
        self.saved, self.told = [], False

    def forget(self):
        """No iteration is known any more."""
        self.iterators, self.handed, self.ran = None, [], None

    def start(self):
        self.iterators = [iter(sampler) for sampler in self.samplers]
        self.handed, self.ran = [], (self.epoch, self.base)

    def step(self):
        """One batch on every rank; False where all ranks are at their end."""
        missing = object()
        batches = [next(iterator, missing) for iterator in self.iterators]
        if all(batch is missing for batch in batches):
            self.check_end()
            return False
        assert missing not in batches
        assert all(batches)
        self.handed.append(flatten(batches))
        return True

    def check_end(self):
        epoch, base = self.ran
        rows, before = flatten(self.handed), flatten(self.handed[:-1])
        left = len(self.lengths) - len(base)
        may_repeat = "tail" in self.options or left < len(self.handed) * len(self.samplers)
        # Where rows come again, they do so in the last step.
        once = before if may_repeat else rows
        assert len(set(once)) == len(once)
        assert not base & set(once)
        assert self.is_at_end()
        self.iterators = None
        self.epoch, self.base = epoch + 1, frozenset()

    def is_at_end(self):
        """Whether all batches were handed out; the iteration may not know it yet."""
        left = len(self.lengths) - len(self.ran[1] | set(flatten(self.handed)))
        if "drop_last" not in self.options:
            return left == 0
        size = self.options["batch_size"]
        return left // size < len(self.samplers)

    def place_after(self, steps):
        """The epoch and its rows so far, once `steps` of the latest iteration are done."""
        if self.ran is None:
            return self.epoch, self.base
        epoch, base = self.ran
        if steps < len(self.handed) or not self.is_at_end():
            return epoch, base | set(flatten(self.handed[:steps]))
        # The end of the epoch; with drop_last the rows that no step has are done too.
        return epoch, frozenset(range(len(self.lengths)))

    @rule(steps=st.integers(1, 5))
    def train(self, steps):
        if self.iterators is None:
            self.start()
        for _ in range(steps):
            if not self.step():
                break

    @rule()
    def train_to_the_end(self):
        if self.iterators is None:
            self.start()
        while self.step():
            pass

    @precondition(lambda self: self.iterators is not None)
    @rule()
    def abandon(self):
        """The next iteration begins where this one did."""
        self.iterators = None
        self.start()

    @rule(behind=st.integers(0, 5), said=st.booleans())
    def save(self, behind, said):
        """With `said`, training tells how far it is: a loader took batches ahead of it."""
        handed = len(self.handed)
        consumed = max(handed - behind, 0) if said else handed
        states = [s.state_dict(consumed) if said else s.state_dict() for s in self.samplers]
        assert all(state == states[0] for state in states)
        text = json.dumps(states[0])
        assert len(text) < 1000
        has_ended = self.ran is not None and self.iterators is None
        if has_ended and not said:
            self.saved.append((text, self.epoch, self.base))
        else:
            self.saved.append((text, *self.place_after(consumed)))

    @rule(behind=st.integers(0, 2), ranks=st.integers(1, 5))
    def stop_and_go_on(self, behind, ranks):
        self.save(behind, said=True)
        self.load(-1, ranks, again=False)

    @precondition(lambda self: self.saved)
    @rule(number=st.integers(0, 100), ranks=st.integers(1, 5), again=st.booleans())
    def load(self, number, ranks, again):
        """Into new samplers, or `again` into these."""
        text, self.epoch, self.base = self.saved[number % len(self.saved)]
        if again and not self.told:  # else it is kept which epoch was asked for
            for sampler in self.samplers:
                sampler.load_state_dict(json.loads(text))
        else:
            self.samplers = resume(self.lengths, ranks, json.loads(text), **self.options)
        self.told = False
        self.forget()

    @rule(further=st.sampled_from([0, 0, 1, 5]))
    def set_epoch(self, further):
        self.told = True
        for sampler in self.samplers:
            sampler.set_epoch(self.epoch + further)
        if further:
            self.epoch, self.base = self.epoch + further, frozenset()
            self.forget()

    @rule()
    def pickle(self):
        """What is under way does not travel: the copies begin where the iteration did."""
        self.samplers = pickle.loads(pickle.dumps(self.samplers))
        self.forget()

    @invariant()
    def ranks_agree(self):
        if hasattr(self, "samplers"):
            assert {sampler.epoch for sampler in self.samplers} == {self.epoch}
            assert len({len(sampler) for sampler in self.samplers}) == 1


TestTraining = Training.TestCase
TestTraining.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


# Where it goes on


@pytest.mark.parametrize("options", [{"batch_size": 7}, {"max_tokens": 900}])
def test_end_of_an_epoch_and_the_beginning_of_the_next(options):
    sampler = LengthBatchSampler(LENGTHS, **options)
    iterator = iter(sampler)
    for _ in range(len(sampler)):
        next(iterator)
    # Its iteration is not told yet that there are no more.
    last = sampler.state_dict()
    assert (last["epoch"], last["rows"]) == (0, 200)
    assert sampler.epoch == 0
    assert next(iterator, None) is None
    after = sampler.state_dict()
    assert (after["epoch"], after["rows"]) == (1, 0)
    assert sampler.state_dict(len(sampler)) == last
    sampler.set_epoch(1)
    assert sampler.state_dict() == after
    fresh = LengthBatchSampler(LENGTHS, **options)
    fresh.set_epoch(1)
    wanted = list(fresh)
    (other,) = resume(LENGTHS, 1, last, **options)
    assert other.state_dict() == last
    assert [list(other), list(other)] == [[], wanted]
    (other,) = resume(LENGTHS, 1, after, **options)
    assert list(other) == wanted
    # Whoever still counts the epoch that is done finds nothing left in it, once.
    for state in (last, after):
        (other,) = resume(LENGTHS, 1, state, **options)
        other.set_epoch(0)
        assert (other.epoch, list(other)) == (0, [])
        other.set_epoch(1)
        assert list(other) == wanted
        other.set_epoch(0)
        assert len(list(other)) == len(wanted) or "max_tokens" in options
    # Another epoch, and one that was not left by its end, is whole.
    (other,) = resume(LENGTHS, 1, after, **options)
    other.set_epoch(3)
    assert len(list(other)) > 10
    fresh = LengthBatchSampler(LENGTHS, **options)
    fresh.set_epoch(1)
    (other,) = resume(LENGTHS, 1, fresh.state_dict(), **options)
    other.set_epoch(0)
    assert len(list(other)) > 10


def test_consumed_is_behind_what_was_handed_out():
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    wanted = list(sampler) + list(sampler)
    sampler.set_epoch(0)
    iterator = iter(sampler)
    for taken in range(1, 51):
        next(iterator)
        for consumed in (0, taken // 2, taken - 1, taken):
            (other,) = resume(LENGTHS, 1, sampler.state_dict(consumed), batch_size=4)
            assert list(other) == wanted[consumed:50]
    assert next(iterator, None) is None
    # Training is still at the last batches of the epoch that the loader is done with.
    assert sampler.epoch == 1
    for consumed in range(51):
        state = sampler.state_dict(batches_consumed=consumed)
        (other,) = resume(LENGTHS, 1, state, batch_size=4)
        assert [list(other), list(other)] == [wanted[consumed:50], wanted[50:]]
    with fails(ValueError, "batches_consumed=51", "50"):
        sampler.state_dict(51)


def test_state_after_pickling():
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    wanted = list(sampler)
    sampler.set_epoch(0)
    iterator = iter(sampler)
    for _ in range(10):
        next(iterator)
    (middle,) = resume(LENGTHS, 1, sampler.state_dict(), batch_size=4)
    copied = pickle.loads(pickle.dumps(middle))
    assert copied.state_dict() == middle.state_dict() == sampler.state_dict()
    assert list(copied) == list(iterator) == wanted[10:]
    assert list(pickle.loads(pickle.dumps(middle))) == wanted[10:]


def test_set_epoch_keeps_the_place():
    """As loops do that begin with `set_epoch(epoch)`, also after loading."""
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    wanted = list(sampler)
    next(iterator := iter(sampler))
    next(iterator)
    state = sampler.state_dict()
    (other,) = resume(LENGTHS, 1, state, batch_size=4)
    other.set_epoch(1)
    assert other.state_dict() == state
    assert len(list(other)) == len(wanted) - 2
    (other,) = resume(LENGTHS, 1, state, batch_size=4)
    other.set_epoch(0)
    assert list(other) == wanted


def test_next_epochs_are_whole():
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    wanted = [list(sampler) for _ in range(3)]
    sampler.set_epoch(0)
    iterator = iter(sampler)
    for _ in range(20):
        next(iterator)
    (other,) = resume(LENGTHS, 1, sampler.state_dict(), batch_size=4)
    assert [list(other) for _ in range(3)] == [wanted[0][20:], *wanted[1:]]
    # Started again before its end, an epoch that was loaded goes on from the same place.
    (other,) = resume(LENGTHS, 1, sampler.state_dict(), batch_size=4)
    next(iter(other))
    assert next(iter(other)) == wanted[0][20]


def test_len_is_of_the_whole_epoch():
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    next(iter(sampler))
    (other,) = resume(LENGTHS, 1, sampler.state_dict(), batch_size=4)
    assert len(other) == 50
    assert len(list(other)) == 49


# Other numbers of ranks


@pytest.mark.parametrize("options", [{"batch_size": 8}, {"max_tokens": 1500, "padding_free": True}])
@pytest.mark.parametrize("before", [1, 2, 3, 5])
@pytest.mark.parametrize("after", [1, 2, 5, 8])
def test_from_every_step_to_other_ranks(options, before, after):
    """Also from the middle of a batch, where more than the last step of `before` ranks is cut."""
    lengths = [*LENGTHS, 50]
    samplers = make_ranks(lengths, before, **options)
    iterators = [iter(sampler) for sampler in samplers]
    rows, middles = [], 0
    edges = np.cumsum([len(batch) for batch in LengthBatchSampler(lengths, **options)])
    for _ in range(len(samplers[0]) - 1):
        rows += flatten(next(iterator) for iterator in iterators)
        state = samplers[-1].state_dict()
        assert state["rows"] == len(rows)
        middles += state["rows"] not in edges
        others = resume(lengths, after, state, **options)
        runs = [list(sampler) for sampler in others]
        assert len({len(batches) for batches in runs}) == 1
        left = flatten(flatten(runs))
        if 201 - len(rows) >= after * len(runs[0]):
            assert sorted(rows + left) == list(range(201))
        else:  # fewer rows than the steps take
            assert set(range(201)) - set(rows) == set(left)
        assert {sampler.epoch for sampler in others} == {1}
    if before == 5 and "batch_size" in options:
        assert middles


def test_from_the_middle_of_a_batch():
    lengths, options = list(range(13, 0, -1)), {"batch_size": 4, "shuffle": False}
    samplers = make_ranks(lengths, 3, **options)
    iterators = [iter(sampler) for sampler in samplers]
    # There is nothing to cut in the last row, so that two of the three batches are in two parts.
    first = [next(iterator) for iterator in iterators]
    assert first == [[0, 1], [2, 3], [4, 5]]
    state = samplers[0].state_dict()
    assert [list(iterator) for iterator in iterators] == [[[6, 7]], [[8, 9, 10, 11]], [[12]]]
    for ranks, wanted in [
        (1, [[[6, 7], [8, 9, 10, 11], [12]]]),
        (2, [[[6, 7], [10, 11]], [[8, 9], [12]]]),
        (3, [[[6, 7]], [[8, 9, 10, 11]], [[12]]]),
    ]:
        assert [list(sampler) for sampler in resume(lengths, ranks, state, **options)] == wanted


@pytest.mark.parametrize("tail", ["split", "repeat"])
def test_ranks_and_tail_may_differ(tail):
    sampler = LengthBatchSampler(LENGTHS, batch_size=4)
    next(iter(sampler))
    others = resume(LENGTHS, 3, sampler.state_dict(), batch_size=4, tail=tail)
    assert len(set(flatten(flatten(map(list, others))))) == 196
