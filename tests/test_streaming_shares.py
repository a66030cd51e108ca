"""Streams among workers and ranks: each sample once in all, and as many steps on each rank."""

import itertools
import os
import pickle
import traceback

import pytest

import tightbatch as tb

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, IterableDataset, get_worker_info  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*worker processes:UserWarning")
LENGTHS = [(5 * i * i + i) % 31 + 1 for i in range(150)]


def numbered():
    for i, n in enumerate(LENGTHS):
        yield {"input_ids": [i] * n}


def rows_of(batch):
    return [sample["input_ids"][0] for sample in batch]


class Whole(IterableDataset):
    """Gives every worker all samples."""

    def __iter__(self):
        return numbered()


class Divided(IterableDataset):
    """Divides its samples among workers itself."""

    def __iter__(self):
        info = get_worker_info()
        part = (0, 1) if info is None else (info.id, info.num_workers)
        return itertools.islice(numbered(), part[0], None, part[1])


def load(batcher, workers, **settings):
    loader = DataLoader(
        batcher, batch_size=None, collate_fn=rows_of, num_workers=workers, **settings
    )
    return list(loader)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(
    ("samples", "sharded"), [(numbered, "auto"), (Whole(), "no"), (Divided(), "workers")]
)
def test_each_worker_hands_out_its_share(samples, sharded, workers):
    seen = []
    for rank in range(2):
        batcher = tb.StreamBatcher(
            samples, max_tokens=90, buffer=20, sharded=sharded, num_replicas=2, rank=rank
        )
        batches = load(batcher, workers)
        assert all(len(b) * max(LENGTHS[row] for row in b) <= 90 for b in batches)
        seen += itertools.chain(*batches)
    assert sorted(seen) == list(range(150))


@pytest.mark.parametrize("padding_free", [False, True])
def test_the_collators_take_a_stream(padding_free):
    collate = tb.PaddingFreeCollator() if padding_free else tb.PadCollator()
    batcher = tb.StreamBatcher(numbered, max_tokens=90, buffer=20, padding_free=padding_free)
    assert isinstance(batcher, IterableDataset)
    batcher = pickle.loads(pickle.dumps(batcher))  # as workers get it that are not forked
    assert isinstance(batcher, IterableDataset)
    batches = list(DataLoader(batcher, batch_size=None, collate_fn=collate, num_workers=1))
    assert all(batch["input_ids"].numel() <= 90 for batch in batches)
    if padding_free:
        real = sum(batch["input_ids"].numel() for batch in batches)
    else:
        real = sum(int(batch["attention_mask"].sum()) for batch in batches)
    assert real == sum(LENGTHS)


def test_a_dataset_that_may_divide_itself_is_asked_about():
    batcher = tb.StreamBatcher(Divided(), batch_size=4, buffer=20)
    assert len(load(batcher, 0)) == 38
    with pytest.raises(ValueError, match="Divided, which may divide its samples among 2 workers"):
        load(batcher, 2)


def test_steps_are_those_of_the_rank_whatever_its_workers():
    for workers in (0, 1, 2, 3):
        batcher = tb.StreamBatcher(numbered, batch_size=4, buffer=16, steps=11)
        assert len(load(batcher, workers)) == 11


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_of_datasets_divides_itself_among_workers(workers):
    datasets = pytest.importorskip("datasets")
    from datasets.distributed import split_dataset_by_node

    rows = datasets.Dataset.from_dict({"input_ids": [[i] * n for i, n in enumerate(LENGTHS)]})
    stream = rows.to_iterable_dataset(num_shards=4)
    batcher = tb.StreamBatcher(stream, max_tokens=90, buffer=20)
    assert sorted(itertools.chain(*load(batcher, workers))) == list(range(150))
    by_rank = [split_dataset_by_node(stream, rank=rank, world_size=2) for rank in range(2)]
    seen = [
        load(tb.StreamBatcher(part, max_tokens=90, buffer=20, num_replicas=2, rank=rank), workers)
        for rank, part in enumerate(by_rank)
    ]
    assert sorted(itertools.chain(*itertools.chain(*seen))) == list(range(150))


@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
def test_a_dataset_of_datasets_continues(shuffled):
    """Its own state leaves out what its shuffle buffer has: then it is read from the beginning."""
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"input_ids": [[i] * n for i, n in enumerate(LENGTHS)]})

    def make():
        stream = rows.to_iterable_dataset(num_shards=3)
        stream = stream.shuffle(seed=4, buffer_size=30) if shuffled else stream
        return tb.StreamBatcher(stream, max_tokens=90, buffer=16)

    whole, used = [rows_of(batch) for batch in make()], []
    for stop in range(0, len(whole) + 1, 5):
        batcher = make()
        batches = iter(batcher)
        begun = [rows_of(batch) for batch in itertools.islice(batches, stop)]
        other = make()
        other.load_state_dict(batcher.state_dict())
        used.append(batcher.state_dict()["source"] is not None)
        rest = [rows_of(batch) for batch in other]
        assert begun + rest == whole
        assert rest == [rows_of(batch) for batch in batches]
        assert sorted(itertools.chain(*map(rows_of, other))) == list(range(150))
    assert any(used) is not shuffled


# --- ranks that ask each other ---------------------------------------------------------------


def on_rank(rank, ranks, path, work):
    """Run `work` on a rank, and leave what it gave, or its error, in a file."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}/meet", rank=rank, world_size=ranks)
    try:
        answer = work(rank)
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    torch.save(answer, path / f"answer{rank}")
    dist.destroy_process_group()


def on_ranks(path, work, ranks=3):
    """Run `work` on ranks that can talk; give what each gave."""
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                on_rank(rank, ranks, path, work)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * ranks
    return [torch.load(path / f"answer{rank}") for rank in range(ranks)]


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def unequal(rank):
    """Samples of one rank: ranks have different numbers."""
    return [[rank] * n for n in LENGTHS[: 40 + 15 * rank]]


def use_up(batches):
    """The number of batches, each changed as a loop may do: it is whole if it comes again."""
    count = 0
    for count, batch in enumerate(batches, 1):  # noqa: B007
        assert batch
        batch.clear()
    return count


@pytest.mark.forks
@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_ranks_agree_about_the_number_of_steps(drop_last, workers, tmp_path):
    def work(rank):
        batcher = tb.StreamBatcher(
            unequal(rank), max_tokens=60, buffer=8, drop_last=drop_last, sharded="both"
        )
        assert (batcher.num_replicas, batcher.rank) == (3, rank)
        alone = len(list(batcher))
        batcher.set_epoch(0)
        loader = DataLoader(batcher, batch_size=None, collate_fn=list, num_workers=workers)
        steps = batcher.in_step(loader)
        seen = [use_up(steps), use_up(steps)]
        return alone, seen, steps.dropped, steps.repeated

    answers = on_ranks(tmp_path, work)
    alone = [answer[0] for answer in answers]
    assert len(set(alone)) > 1
    for _, seen, dropped, repeated in answers:
        if drop_last:
            assert seen[0] == min(alone)
            assert dropped == sum(steps > min(alone) for steps in alone) or seen[1] != seen[0]
        else:
            assert seen[0] == max(alone)
            assert repeated > 0
        assert seen == answers[0][1]
        assert (dropped, repeated) == answers[0][2:]


@pytest.mark.forks
@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_an_error_of_one_rank_ends_all_and_an_empty_share_gets_a_batch_of_another(tmp_path):
    def work(rank):
        def samples():
            for i, row in enumerate(unequal(rank)):
                if rank == 1 and i == 30:
                    raise OSError("the disk is gone")
                yield row

        batcher = tb.StreamBatcher(samples, max_tokens=60, buffer=8, sharded="ranks")
        try:
            list(batcher.in_step(batcher))
        except Exception as error:
            first = f"{type(error).__name__}: {error}"
        rows = unequal(rank) if rank else []
        empty = tb.StreamBatcher(rows, max_tokens=60, buffer=8, sharded="ranks")
        steps = empty.in_step(empty)
        given = list(steps)
        empty.set_epoch(0)
        return first, given, steps.repeated, list(empty)

    answers = on_ranks(tmp_path, work)
    other = "RuntimeError: StreamBatcher.in_step(): the batches of another rank ended with an error"
    assert [answer[0] for answer in answers] == [other, "OSError: the disk is gone", other]
    (_, given, _, alone), (_, own, _, fewer), (_, most, _, more) = answers
    assert (len(alone), len(given)) == (0, len(more))
    assert given == [own[0]] * len(more)  # that of the first rank which has one
    assert most == more
    assert own[: len(fewer)] == fewer
    assert {answer[2] for answer in answers} == {2 * len(more) - len(fewer)}


def test_in_step_without_ranks_gives_the_batches():
    batcher = tb.StreamBatcher([[1], [2, 3]], batch_size=1)
    assert len(list(batcher.in_step(batcher))) == 2
    with pytest.raises(TypeError, match=r"StreamBatcher.in_step\(\): loader=5 \(int\)"):
        batcher.in_step(5)
