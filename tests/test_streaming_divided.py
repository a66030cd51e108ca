"""States of samples that divide themselves among ranks: each goes on with its own."""

import pytest

import tightbatch as tb
from test_streaming_redeal import Fleet, as_worker, rows_of
from test_streaming_resume import LENGTHS, of
from tightbatch.sampling import stream_source


def divided(sharded):
    """Make batchers of samples that divide themselves among ranks, and workers if there are any."""

    def make(rank, ranks):
        def source():
            rows = list(enumerate(LENGTHS))[rank::ranks]
            number, count = stream_source.worker() if sharded == "both" else (0, 1)
            return rows[number::count]

        return of(source, {"batch_size": 2}, sharded=sharded, num_replicas=ranks, rank=rank)

    return make


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sharded", ["ranks", "both"])
def test_a_state_of_samples_that_ranks_divide_is_of_one_rank(sharded, workers):
    make = divided(sharded)
    fleet = Fleet(make, 3, workers)
    begun = [row for place in range(len(fleet.places)) for row in fleet.read(place, 2 + place)]
    states = fleet.states()
    # The list of all, in any order, and for each rank its own, go on with the same batches.
    whole = rows_of(begun + Fleet(make, 3, workers, states[::-1]).finish())
    assert whole == list(range(len(LENGTHS)))
    both = Fleet(make, 3, workers, states)
    for place, (rank, worker) in enumerate(fleet.places):
        left = fleet.read(place)
        assert both.read(place) == left
        batcher = make(rank, 3)
        batcher.load_state_dict([state for state in states if state["share"][4] == rank])
        with as_worker(worker, workers):
            assert [row for batch in batcher for row in batch] == left
    # Of another rank, or another number of ranks: one state, or all.
    batcher = make(1, 3)
    for given in (states[0], [states[0], states[-1]]):
        batcher.load_state_dict(given)
        with as_worker(0, workers), pytest.raises(ValueError, match="expected the state of rank 1"):
            iter(batcher)
    expected = "num_replicas=3" if sharded == "ranks" else "the same numbers of both"
    for ranks in (2, 4):
        for given in (states[0], states):
            with pytest.raises(ValueError, match=f"by itself; expected {expected}"):
                Fleet(make, ranks, workers, given)


def test_a_rank_that_is_at_the_next_epoch_waits_for_the_others():
    make = divided("ranks")
    fleet = Fleet(make, 2, 0)
    begun = fleet.read(0) + fleet.read(1, 3)
    states = fleet.states()
    assert [state["epoch"] for state in states] == [1, 0]
    other = Fleet(make, 2, 0, states)
    assert rows_of(begun + other.finish()) == list(range(len(LENGTHS)))
    assert [batcher.epoch for batcher in other.batchers] == [1, 1]


def test_samples_that_were_divided_by_others_are_refused():
    states = Fleet(divided("ranks"), 2, 0).states()
    for given in (states, states[0]):
        for sharded in ("no", "workers"):
            with pytest.raises(ValueError, match=f"sharded='ranks', and now it is '{sharded}'"):
                Fleet(divided(sharded), 2, 0, given)
            with pytest.raises(ValueError, match=f"sharded='ranks', and now it is '{sharded}'"):
                Fleet(divided(sharded), 1, 0, given)
    with pytest.raises(ValueError, match="state has sharded='no', and now it is 'workers'"):
        Fleet(divided("workers"), 1, 2, Fleet(divided("no"), 1, 2).states())
    # Where there is one rank and one worker, nothing is divided.
    fleet = Fleet(divided("both"), 1, 0)
    begun = fleet.read(0, 3)
    other = Fleet(divided("no"), 1, 0, fleet.states())
    assert rows_of(begun + other.finish()) == list(range(len(LENGTHS)))


def test_a_datasets_stream_that_nodes_divide_stays_with_its_rank():
    datasets = pytest.importorskip("datasets")
    from datasets.distributed import split_dataset_by_node

    rows = datasets.Dataset.from_dict({"input_ids": [[i] * 4 for i in range(40)]})

    def make(rank, ranks):
        stream = split_dataset_by_node(rows.to_iterable_dataset(num_shards=4), rank, ranks)
        return tb.StreamBatcher(stream, batch_size=2, buffer=4, num_replicas=ranks, rank=rank)

    old = [make(rank, 4) for rank in range(4)]
    seen = [row for batcher in old for row in next(iter(batcher))]
    states = [batcher.state_dict() for batcher in old]
    for ranks in (1, 2):
        for given in (states[0], states):
            new = make(0, ranks)
            new.load_state_dict(given)
            with pytest.raises(ValueError, match="among ranks and workers by itself; expected"):
                iter(new)
    for rank in range(4):
        new = make(rank, 4)
        new.load_state_dict(states)
        seen += [row for batch in new for row in batch]
    assert sorted(row["input_ids"][0] for row in seen) == list(range(40))
