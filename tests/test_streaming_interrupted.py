"""A stream that is interrupted, or asked for its state, while it reads a sample."""

import itertools
import json
import signal
from functools import partial

import numpy as np
import pytest

import tightbatch as tb

LENGTHS = np.random.default_rng(3).integers(1, 12, 26).tolist()
KINDS = {
    "rows": {"batch_size": 3},
    "padded": {"max_tokens": 24},
    "packed": {"max_tokens": 24, "padding_free": True},
    "second of two": {"max_tokens": 24, "num_replicas": 2, "rank": 1},
    "weighed": {"max_tokens": 24, "buffer_tokens": 40},
    "bytes": {"max_tokens": 24, "buffer_bytes": 200},
}
STOPS = [KeyboardInterrupt, SystemExit, GeneratorExit]


class Calls:
    """A length, and a cost, that call a function once, when they are asked for one sample."""

    def __init__(self, at, act, part="length", sides=False):
        self.at, self.act, self.part, self.sides = at, act, part, sides

    def judge(self, sample, part):
        if sample[0] == self.at and part == self.part and self.act is not None:
            act, self.act = self.act, None
            act()
        return sample[1]

    def length(self, sample):
        length = self.judge(sample, "length")
        return (length, 1) if self.sides else length

    def cost(self, sample):
        return self.judge(sample, "cost")


class Numbered:
    """A source with a state: samples are their number and their length."""

    def __init__(self):
        self.next = 0

    def __iter__(self):
        while self.next < len(LENGTHS):
            self.next += 1
            yield self.next - 1, LENGTHS[self.next - 1]

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


SOURCES = {"count": lambda: list(enumerate(LENGTHS)), "state": Numbered}


def make(source, options, calls=None):
    calls = calls or Calls(None, None)
    limits = {"cost": (calls.cost, 30)} if calls.part == "cost" else None
    return tb.StreamBatcher(source, length=calls.length, limits=limits, buffer=8, **options)


def raiser(error):
    def act():
        raise error

    return act


def resume(batcher, make_other):
    """Give the batches after a state, which a file has kept."""
    other = make_other()
    other.load_state_dict(json.loads(json.dumps(batcher.state_dict())))
    return list(other)


def numbers(batches):
    return sorted(row for batch in batches for row, _ in batch)


def own(options):
    return range(options.get("rank", 0), len(LENGTHS), options.get("num_replicas", 1))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("part", ["length", "cost", "sides"])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_what_is_interrupted_at_any_sample_goes_on_with_it(options, part, source):
    def calls_of(at, act):
        return Calls(at, act, "length" if part == "sides" else part, part == "sides")

    def fresh():
        return make(source(), options, calls_of(None, None))

    whole = list(fresh())
    assert numbers(whole) == list(own(options))
    for at, stop in zip(own(options), itertools.cycle(STOPS), strict=False):
        batcher = make(source(), options, calls_of(at, raiser(stop)))
        batches, done, stopped = iter(batcher), 0, 0
        while not batches.ended:
            try:
                for batch in batches:
                    assert batch == whole[done]
                    done += 1
                    if stopped:
                        assert resume(batcher, fresh) == whole[done:]
            except stop:
                stopped += 1
                assert resume(batcher, fresh) == whole[done:]
        assert (done, stopped) == (len(whole), 1)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("part", ["length", "cost"])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_sample_of_a_passing_error_stays_left_out(options, part, source):
    def fresh(at=None, act=None):
        return make(source(), options, Calls(at, act, part))

    for at in own(options):
        batcher = fresh(at, raiser(OSError("away")))
        batches, given, states = iter(batcher), [], []
        while not batches.ended:
            try:
                given.append(next(batches))
            except StopIteration:
                break
            except OSError:
                for again in (None, raiser(OSError("away"))):  # whether or not it comes again
                    rest = resume(batcher, partial(fresh, at, again))
                    states.append((len(given), rest))
                continue
            if states:
                states.append((len(given), resume(batcher, fresh)))
        assert numbers(given) == [number for number in own(options) if number != at]
        assert len(states) >= 2
        for done, rest in states:
            assert rest == given[done:]


def test_a_sample_without_a_length_for_a_while_is_left_out_too():
    rows = [{"input_ids": [i] * (i % 4 + 1)} for i in range(20)]
    for at in range(20):
        broken = [*rows[:at], {}, *rows[at + 1 :]]
        batcher = tb.StreamBatcher(broken, batch_size=3, buffer=6)
        batches, given = iter(batcher), []
        with pytest.raises((KeyError, ValueError)):
            given.extend(batches)
        rest = resume(batcher, lambda: tb.StreamBatcher(rows, batch_size=3, buffer=6))
        assert rest == list(batches)
        left = [row for row in rows if row is not rows[at]]
        assert sorted(map(str, itertools.chain(*given, *rest))) == sorted(map(str, left))


@pytest.mark.parametrize("place", ["source", "length", "cost", "signal"])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_state_that_is_asked_for_while_a_sample_is_read_is_right(options, place):
    part = "cost" if place == "cost" else "length"

    def fresh(samples=None):
        return make(samples or SOURCES["count"](), options, Calls(None, None, part))

    whole = list(fresh())
    for at in range(len(LENGTHS)) if place in ("source", "signal") else own(options):
        given, states, asked = [], [], []

        def ask(*_, given=given, states=states, asked=asked):
            states.append((len(given), resume(asked[0], fresh)))

        def samples(at=at, ask=ask):
            for number, length in enumerate(LENGTHS):
                if number == at and place == "source":
                    ask()
                elif number == at and place == "signal":
                    signal.raise_signal(signal.SIGINT)
                yield number, length

        batcher = make(samples, options, Calls(None if place == "source" else at, ask, part))
        if place == "signal":
            batcher = fresh(samples)
        asked.append(batcher)
        before = signal.signal(signal.SIGINT, ask)
        try:
            for batch in batcher:
                given.append(batch)
        finally:
            signal.signal(signal.SIGINT, before)
        assert given == whole
        assert [rest for _, rest in states] == [whole[done:] for done, _ in states]
        assert len(states) == 1


@pytest.mark.parametrize("at", range(len(LENGTHS)))
def test_states_of_a_signal_are_dealt_out_again(at):
    seen, saved = [], []

    def stopping():
        for number, length in enumerate(LENGTHS):
            if number == at:
                signal.raise_signal(signal.SIGINT)
            yield number, length

    def save_and_exit(*_):
        saved.append(batcher.state_dict())
        raise SystemExit

    before = signal.signal(signal.SIGINT, save_and_exit)
    try:
        for rank in range(2):
            batcher = make(stopping, {"batch_size": 2, "num_replicas": 2, "rank": rank})
            with pytest.raises(SystemExit):
                seen.extend(batcher)
            assert batcher.state_dict() == saved[-1]
    finally:
        signal.signal(signal.SIGINT, before)
    for rank in range(3):
        options = {"batch_size": 2, "num_replicas": 3, "rank": rank}
        other = make(SOURCES["count"](), options)
        other.load_state_dict(saved)
        seen.extend(other)
    assert numbers(seen) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_samples_that_are_dealt_out_again_are_once_there_after_errors_and_interruptions(source):
    for at in range(1, len(LENGTHS) - 1):
        states, seen = [], []
        for rank in range(2):
            options = {"batch_size": 2, "num_replicas": 2, "rank": rank}
            batcher = make(source(), options, Calls(at, raiser(OSError)))
            batches, is_refused = iter(batcher), at % 2 != rank
            while not is_refused:
                try:
                    seen.append(next(batches))
                except OSError:
                    is_refused = True
            states.append(batcher.state_dict())
        for rank in range(3):
            options = {"batch_size": 2, "num_replicas": 3, "rank": rank}
            stop = (at * 7 + rank) % len(LENGTHS)
            batcher = make(source(), options, Calls(stop, raiser(KeyboardInterrupt)))
            batcher.load_state_dict(states)
            batches = iter(batcher)
            while not batches.ended:
                try:
                    seen.extend(batches)
                except KeyboardInterrupt:
                    state = batcher.state_dict()
                    if rank == 1:
                        batcher = make(source(), options)
                        batcher.load_state_dict(state)
                        batches = iter(batcher)
        assert numbers(seen) == [number for number in range(len(LENGTHS)) if number != at]
