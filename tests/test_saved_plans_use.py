"""Saved plans in use: processes that wait for one, and any order of what a training does."""

import json
import multiprocessing
import os
import pickle
import tempfile
import threading
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import tightbatch as tb
from checks import fails
from test_saved_plans import LABELS, LENGTHS, OPTIONS, make


@pytest.fixture
def path(tmp_path):
    return tmp_path / "plan.npy"


# Waiting


def test_waits_for_the_file_that_fits(path):
    make(OPTIONS[1]).save_plan(path)  # of an earlier run, with other settings
    sampler = make(OPTIONS[0])

    def save():
        time.sleep(0.1)
        make(OPTIONS[0]).save_plan(path)

    saver = threading.Thread(target=save)
    saver.start()
    sampler.load_plan(path, timeout=60)
    saver.join()
    assert list(sampler) == list(make(OPTIONS[0]))


def test_waits_no_longer_than_asked(path):
    with fails(TimeoutError, "load_plan()", "waited 0.02 s", "plan.npy", "No such file"):
        make(OPTIONS[0]).load_plan(path, timeout=0.02)
    tb.pack(LENGTHS, 100).save(path)
    with fails(TimeoutError, "Packing.load()", "waited 0 s", "capacity=100, expected 9"):
        tb.Packing.load(path, capacity=9, timeout=0)
    for wrong, kind in ((-1, ValueError), (float("nan"), ValueError), ("1", TypeError)):
        with fails(kind, "timeout"):
            make(OPTIONS[0]).load_plan(path, timeout=wrong)


def run_rank(rank, ranks, path, answers):
    sampler = make(OPTIONS[2], rank, ranks)
    if rank == 0:
        sampler.save_plan(path, epochs=range(2))
    sampler.load_plan(path, timeout=120)
    assert sampler._planner.saved
    answers.put((rank, [list(sampler) for _ in range(2)]))


def test_one_process_saves_and_others_wait(path):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    started = [
        context.Process(target=run_rank, args=(rank, 3, str(path), answers)) for rank in (2, 1, 0)
    ]
    for process in started:
        process.start()
    found = dict(answers.get(timeout=120) for _ in started)
    for process in started:
        process.join(60)
        assert process.exitcode == 0
    for rank, epochs in found.items():
        sampler = make(OPTIONS[2], rank, 3)
        assert epochs == [list(sampler) for _ in range(2)]


# Any interleaving


class Training(RuleBasedStateMachine):
    """Reading, stopping, saving and loading plans and states, changing ranks.

    Over an epoch every row is read as often as the plan has it, once in a plan without weights.
    """

    @initialize(
        weights=st.sampled_from([None, {0: 1, 1: 5, 2: 2}]), ranks=st.sampled_from([1, 2, 3])
    )
    def start(self, weights, ranks):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "plan.npy")
        self.options = {
            "max_tokens": 60,
            "groups": LABELS[:60],
            "group_weights": weights,
            "balance": 6,
            "tail": "split",
        }
        self.epoch, self.read = 0, []
        self.restart(ranks, None)

    def restart(self, ranks, state):
        self.samplers = [make(self.options, r, ranks, LENGTHS[:60] % 50) for r in range(ranks)]
        for sampler in self.samplers:
            if state is not None:
                sampler.load_state_dict(state)
        self.running = None

    @rule(steps=st.integers(1, 6))
    def advance(self, steps):
        if self.running is None:
            self.running = [iter(sampler) for sampler in self.samplers]
        for _ in range(steps):
            step = [next(batches, None) for batches in self.running]
            if step[0] is None:
                assert not any(step)
                self.finish()
                return
            assert all(step)
            self.read += step

    def finish(self):
        rows = sorted(row for batch in self.read for row in batch)
        whole = make(self.options, lengths=LENGTHS[:60] % 50)
        whole.set_epoch(self.epoch)
        assert rows == sorted(row for batch in whole for row in batch)
        if self.options["group_weights"] is None:
            assert rows == list(range(60))
        assert all(len({LABELS[row] for row in batch}) == 1 for batch in self.read)
        self.epoch, self.read, self.running = self.epoch + 1, [], None
        assert {sampler.epoch for sampler in self.samplers} == {self.epoch}

    @rule(ranks=st.sampled_from([1, 2, 3]), as_json=st.booleans())
    def resume(self, ranks, as_json):
        state = self.samplers[0].state_dict()
        self.restart(ranks, json.loads(json.dumps(state)) if as_json else state)

    @rule(epochs=st.integers(1, 3))
    def save(self, epochs):
        self.samplers[-1].save_plan(self.path, epochs=range(self.epoch, self.epoch + epochs))

    @precondition(lambda self: os.path.exists(self.path))
    @rule()
    def load(self):
        for sampler in self.samplers:
            sampler.load_plan(self.path)

    @precondition(lambda self: self.running is None)
    @rule()
    def copy(self):
        state = self.samplers[0].state_dict()
        self.samplers = [pickle.loads(pickle.dumps(sampler)) for sampler in self.samplers]
        for sampler in self.samplers:
            sampler.load_state_dict(state)

    def teardown(self):
        self.folder.cleanup()


TestTraining = Training.TestCase
TestTraining.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
