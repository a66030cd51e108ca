"""Epochs, iterators, pickles, DataLoader, accelerate, threads, and no memory."""

import os
import pickle
import sys
import threading

import numpy as np
import pytest

from checks import WORKER_LIMIT, fails, run_python
from reference_batching import draw_lengths, plan_of
from tightbatch.sampling.sampler import LengthBatchSampler

# Epochs


def test_finished_epoch_advances():
    sampler = LengthBatchSampler(draw_lengths(300), max_tokens=2000)
    seen = []
    for epoch in range(3):
        assert sampler.epoch == epoch
        length = len(sampler)
        seen.append(list(sampler))
        assert len(seen[-1]) == length
    assert seen == [plan_of(sampler, draw_lengths(300), epoch) for epoch in range(3)]
    sampler.set_epoch(1)
    assert list(sampler) == seen[1]


def test_abandoned_iteration_repeats_its_epoch():
    sampler = LengthBatchSampler(draw_lengths(300), batch_size=4)
    full = list(sampler)
    sampler.set_epoch(0)
    begun = iter(sampler)
    part = [next(begun) for _ in range(70)]
    assert part == full[:70]
    assert sampler.epoch == 0
    assert list(sampler) == full
    assert sampler.epoch == 1


def test_iterators_do_not_disturb_each_other():
    sampler = LengthBatchSampler(draw_lengths(300), batch_size=4)
    one, two = iter(sampler), iter(sampler)
    pairs = list(zip(one, two, strict=True))
    assert all(a == b for a, b in pairs)
    assert sampler.epoch == 1
    late = iter(sampler)
    next(late)
    sampler.set_epoch(9)
    for _ in late:
        pass
    assert sampler.epoch == 9
    assert [a for a, _ in pairs] == plan_of(sampler, draw_lengths(300), 0)


def test_epoch_is_chosen_when_the_iteration_is_made():
    sampler = LengthBatchSampler(draw_lengths(100), batch_size=4)
    begun = iter(sampler)
    sampler.set_epoch(5)
    assert list(begun) == plan_of(sampler, draw_lengths(100), 0)
    assert sampler.epoch == 5


def test_one_plan_an_epoch():
    sampler = LengthBatchSampler(draw_lengths(100), max_tokens=900)
    plan = sampler._plan()
    assert len(sampler) == len(plan[1]) - 1
    assert sampler.dropped == 0
    iter(sampler)
    assert sampler._plan() is plan
    list(sampler)
    assert sampler._plan() is not plan
    fixed = LengthBatchSampler(draw_lengths(100), max_tokens=900, shuffle=False)
    plan = fixed._plan()
    list(fixed)
    assert fixed._plan() is plan


def test_batches_belong_to_the_caller():
    sampler = LengthBatchSampler(draw_lengths(100), batch_size=4)
    for batch in sampler:
        batch.clear()
    sampler.set_epoch(0)
    assert list(sampler) == plan_of(sampler, draw_lengths(100), 0)


def test_pickle_keeps_settings_and_leaves_the_plan():
    lengths = draw_lengths(5000)
    sampler = LengthBatchSampler(lengths, max_tokens=3000, max_length=400, seed=4)
    before = len(pickle.dumps(sampler))
    first = list(sampler)
    second = list(sampler)
    data = pickle.dumps(sampler)
    assert len(data) < before + 100
    again = pickle.loads(data)
    assert again.epoch == 2
    assert repr(again) == repr(sampler)
    again.set_epoch(0)
    assert list(again) == first
    assert list(again) == second


def test_repr_shows_the_settings():
    sampler = LengthBatchSampler([1, 2], batch_size=2, seed=5)
    assert repr(sampler) == (
        "<LengthBatchSampler of 2 rows: batch_size=2, shuffle_window=2, seed=5>"
    )


def test_attributes_that_accelerate_reads():
    sampler = LengthBatchSampler([1, 2], batch_size=2, drop_last=True)
    assert (sampler.batch_size, sampler.drop_last) == (2, True)
    assert LengthBatchSampler([1, 2], batch_size=2, max_tokens=9).batch_size is None


# With others


class Rows:
    def __init__(self, lengths):
        self.lengths = lengths

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, row):
        return row, int(self.lengths[row])


def collate(samples):
    return samples


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loader(workers):
    data = pytest.importorskip("torch.utils.data")
    lengths = draw_lengths(200)
    sampler = LengthBatchSampler(lengths, max_tokens=2000)
    loader = data.DataLoader(
        Rows(lengths),
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        timeout=WORKER_LIMIT if workers else 0,
    )
    for epoch in range(2):
        wanted = plan_of(sampler, lengths, epoch)
        assert len(loader) == len(wanted)
        assert list(loader) == [[(r, int(lengths[r])) for r in batch] for batch in wanted]
    assert sampler.epoch == 2


@pytest.mark.parametrize("even_batches", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 8},
        {"max_tokens": 1500},
        {"batch_size": 8, "groups": True},  # the last batch of each group is not full
        {"batch_size": 8, "groups": True, "longest_first": True},
        {"batch_size": 10, "batch_size_multiple": 4},  # no batch has 10 rows
        {"batch_size": 8, "batch_size_multiple": 4},
        {"batch_size": 8, "padding_free": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("rows", [200, 203])
def test_accelerate_shards(options, rows, even_batches):
    """Where a batch has fewer rows than `batch_size` says, accelerate would lose a whole step."""
    accelerate = pytest.importorskip("accelerate.data_loader")
    lengths = draw_lengths(rows)
    if "groups" in options:
        options = {**options, "groups": np.arange(rows) % 3}
    seen, counts = [], []
    for rank in range(2):
        shard = accelerate.BatchSamplerShard(
            LengthBatchSampler(lengths, **options), 2, rank, even_batches=even_batches
        )
        length = len(shard)
        batches = list(shard)
        assert len(batches) == length
        counts.append(length)
        seen += [row for batch in batches for row in batch]
    assert set(seen) == set(range(rows))
    if even_batches:
        assert counts[0] == counts[1]
    else:
        assert len(seen) == rows


def test_accelerate_does_not_share_out_twice():
    accelerate = pytest.importorskip("accelerate.data_loader")
    sampler = LengthBatchSampler(draw_lengths(40), batch_size=4, num_replicas=2, rank=1)
    with fails(ValueError, "LengthBatchSampler()", "num_replicas=2", "prepare()"):
        list(accelerate.BatchSamplerShard(sampler, 2, 1))
    own = list(sampler)
    sampler.set_epoch(0)
    assert list(accelerate.BatchSamplerShard(sampler, 1, 0)) == own


@pytest.mark.parametrize("ranks", [1, 2])
def test_epochs_evened_out(ranks):
    """A loop that asks for the length once has all batches of every epoch, and each row once."""
    lengths = draw_lengths(200)

    def make(rank, even=True):
        sampler = LengthBatchSampler(
            lengths, max_tokens=1000, seed=4, num_replicas=ranks, rank=rank
        )
        if even:
            sampler.even_out(3)
        return sampler

    planned = make(0, even=False)
    counts = [sum(1 for _ in planned) for _ in range(3)]
    assert len(set(counts)) > 1
    samplers = [make(rank) for rank in range(ranks)]
    for epoch in range(3):
        assert [sampler.epoch for sampler in samplers] == [epoch] * ranks
        seen = [list(sampler) for sampler in samplers]
        assert [len(own) for own in seen] == [max(counts)] * ranks
        assert sorted(row for own in seen for batch in own for row in batch) == list(range(200))
        for own in seen:
            assert all(len(b) * max(lengths[b]) <= 1000 for b in own)
    begun = make(0)
    begun.set_epoch(2)
    batches = iter(begun)
    next(batches)
    state = begun.state_dict()
    again = make(0)
    again.load_state_dict(state)
    assert list(again) == list(batches)


def test_spawned_process_makes_the_same_plan(tmp_path):
    sampler = LengthBatchSampler(draw_lengths(300), batch_size=7, seed=5)
    path = tmp_path / "sampler"
    path.write_bytes(pickle.dumps(sampler))
    script = """
        import pickle
        with open(sys.argv[1], "rb") as file:
            print(list(pickle.load(file)))
        assert "torch" not in sys.modules
    """
    assert run_python(script, str(path)).strip() == str(list(sampler))


def test_threads_make_the_same_plan():
    lengths = draw_lengths(50000)
    wanted = list(LengthBatchSampler(lengths, batch_size=7))
    sampler, found = LengthBatchSampler(lengths, batch_size=7), []
    threads = [threading.Thread(target=lambda: found.append(list(iter(sampler)))) for _ in range(4)]
    begun = [iter(sampler) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [list(one) for one in begun] == [wanted, wanted]
    assert len(found) == 4
    assert wanted in found


# Memory


def test_failing_allocations():
    pytest.importorskip("_testcapi")
    run_python(
        """
        import _testcapi
        import numpy as np
        from reference_batching import plan_settings
        from tightbatch import _core

        lengths = np.arange(50)
        settings = plan_settings(
            batch_size=4, max_tokens=99, max_length=99, shuffle_window=20, balance=3,
            padding_free=True, longest_first=True, seed=1,
        )

        def plan():
            plan = _core.plan_batches("plan", lengths, settings, 1)
            return *plan, _core.share_rows(lengths, 3)

        wanted = plan()
        failures = 0
        for count in range(200):
            _testcapi.set_nomemory(count, count + 1)
            try:
                found = plan()
            except MemoryError:
                found = None
            finally:
                _testcapi.remove_mem_hooks()
            if found is None:
                failures += 1
            else:
                assert all((a == b).all() for a, b in zip(found, wanted, strict=True))
        assert failures > 2, failures
        assert all((a == b).all() for a, b in zip(plan(), wanted, strict=True))
        """
    )


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or "TIGHTBATCH_SANITIZED" in os.environ,
    reason="limits the address space",
)
def test_no_memory_for_the_plan():
    run_python(
        """
        import resource
        import numpy as np
        from reference_batching import plan_settings
        from tightbatch import _core

        lengths = np.ones(4_000_000, np.int64)
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        plans = failures = 0
        for room in range(0, 300, 16):
            resource.setrlimit(resource.RLIMIT_AS, (used + room * 2**20, -1))
            try:
                packed = plans % 2 == 1
                settings = plan_settings(
                    batch_size=1, max_tokens=99, max_length=99, shuffle_window=20, balance=2,
                    padding_free=packed, seed=1,
                )
                _core.plan_batches("plan", lengths, settings, 1)
                plans += 1
            except MemoryError:
                failures += 1
        assert plans > 1, plans
        assert failures > 3, failures
        """
    )


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or "TIGHTBATCH_SANITIZED" in os.environ,
    reason="limits the address space",
)
@pytest.mark.parametrize(
    "call",
    [
        "_core.share_rows(lengths, 7)",
        "tb.pack(lengths, 5).indices",
        "tb.pack(lengths, 3, overlong='split', seed=1, max_segments=2).indices",
        "next(iter(tb.LengthBatchSampler(lengths, max_tokens=64)))",
        "tb.position_ids(lengths)",
    ],
)
def test_no_memory_at_any_place(call):
    """Each array in turn is the one that finds no memory: MemoryError, or the right answer."""
    run_python(
        f"""
        import resource
        import numpy as np
        import tightbatch as tb
        from tightbatch import _core

        lengths = np.arange(400_000) % 5 + 1
        call = lambda: {call}
        wanted = call()
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        failures = 0
        for room in range(0, 50, 2):
            resource.setrlimit(resource.RLIMIT_AS, (used + room * 2**20, -1))
            try:
                found = call()
            except MemoryError:
                failures += 1
            else:
                resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
                assert np.array_equal(found, wanted), room
        assert failures > 1, failures
        """
    )
