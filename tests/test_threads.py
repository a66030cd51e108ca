"""Eight threads at once: nothing crashes, and each batch is right or is an error that says why."""

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import tightbatch as tb

THREADS = 8
LENGTHS = np.random.default_rng(5).integers(1, 30, 400)


@pytest.fixture(autouse=True)
def _switch_often():
    """Let threads take turns a hundred times more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


def together(*works):
    """Run all at the same time; give what each has returned, or raise what one has raised."""
    barrier, answers = threading.Barrier(len(works)), [None] * len(works)

    def run(place):
        barrier.wait()
        try:
            answers[place] = works[place]()
        except BaseException as error:
            answers[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


def against(change, read, rounds=150):
    """Let six threads read what two others change, until the readers are done."""
    left, works = [6], []

    def reading():
        try:
            for _ in range(rounds):
                read()
        finally:
            left.pop() if len(left) > 1 else left.__setitem__(0, left[0] - 1)

    def changing():
        step = 0
        while left[0] > 0:
            change(step)
            step += 1

    works = [reading] * 6 + [changing] * 2
    together(*works)


# --- rows that change -------------------------------------------------------------------------

# Each row holds its number, and a digit that all items of the row share: a row that is half of
# one state and half of another shows.
ROWS = 12


def changing_rows(nested=False):
    rows = [[10 * i + 1] * (3 + i) for i in range(ROWS)]
    if nested:
        rows = [[[value, value] for value in row] for row in rows]

    turn = threading.Lock()  # two that clear and extend a row at once leave items of both in it

    def change(step):
        i = step % ROWS
        item = 10 * i + step % 9 + 1
        item = [item, item] if nested else item
        with turn:
            if step % 3 == 0:
                rows[i][:] = [item] * (1 + step % 17)
            elif step % 3 == 1:
                rows[i].clear()
                rows[i].extend([item] * (2 + step % 5))
            else:
                rows[i] = [item] * (3 + i)

    return rows, change


def assert_whole(padded, lengths=None):
    """Assert that each row of a batch is of one state of the row."""
    for i, row in enumerate(padded.reshape(ROWS, -1)):
        kept = row[row != 0]
        assert len(set(kept.tolist())) <= 1, row
        assert ((kept // 10) == i).all()
        assert (row[: len(kept)] != 0).all()
        if lengths is not None:
            assert len(kept) == lengths[i]


def or_changed(call, check):
    """Call, and check the answer; an error must say that the rows changed."""
    try:
        answer = call()
    except RuntimeError as error:
        if "changed size during conversion" not in str(error):
            raise
    else:
        check(answer)


def test_rows_that_change_are_padded_whole_or_refused():
    rows, change = changing_rows()
    against(change, lambda: or_changed(lambda: tb.pad(rows), assert_whole))


def test_lengths_that_change():
    lengths = list(range(1, ROWS + 1))
    rows, change_rows = changing_rows()

    def change(step):
        lengths[step % 6] = 1 + step % 20
        if step % 2:
            lengths.append(7)
        else:
            lengths.pop()
        change_rows(step)

    def read():
        mask = tb.attention_mask(lengths)
        counts = mask.sum(axis=1)
        assert len(mask) >= ROWS - 2
        assert (mask == (np.arange(mask.shape[1]) < counts[:, None])).all()
        assert len(tb.lengths(rows)) == ROWS

    against(change, read)


def test_collators_of_rows_that_change():
    rows, change = changing_rows()
    padded, free = tb.PadCollator(return_tensors="np"), tb.PaddingFreeCollator(return_tensors="np")

    def check_padded(batch):
        assert_whole(batch["input_ids"], batch["attention_mask"].sum(axis=1))

    def check_free(batch):
        ids, bounds = batch["input_ids"].ravel(), np.flatnonzero(batch["position_ids"] == 0)
        for part in np.split(ids, bounds[1:]):
            assert len(set(part.tolist())) == 1, part

    def read():
        samples = [{"input_ids": row} for row in rows]
        or_changed(lambda: padded(samples), check_padded)
        or_changed(lambda: free(samples), check_free)

    against(change, read, rounds=60)


def test_nested_rows_that_change():
    rows, change = changing_rows(nested=True)

    def read():
        or_changed(lambda: tb.pad(rows), assert_whole)

    against(change, read, rounds=60)


def test_samples_whose_keys_change():
    samples = [{"input_ids": [i + 1] * 3} for i in range(ROWS)]
    collate = tb.PadCollator(return_tensors="np")

    def change(step):
        sample = samples[step % ROWS]
        sample["more"] = 1
        del sample["more"]

    def read():
        try:
            batch = collate(samples)
        except (ValueError, RuntimeError) as error:
            if "key" not in str(error):
                raise
        else:
            assert (batch["input_ids"] == np.arange(1, ROWS + 1)[:, None]).all()

    try:
        against(change, read, rounds=60)
    except KeyError:  # the two that change met
        pytest.fail("the threads of this test are in each other's way")


def test_a_list_of_rows_that_changes():
    rows = [[i + 1] * 4 for i in range(ROWS)]

    def change(step):
        rows.append([99] * 4)
        rows.pop()

    def read():
        padded = tb.pad(rows)
        assert (padded[:ROWS] == np.arange(1, ROWS + 1)[:, None]).all()
        assert (padded[ROWS:] == 99).all()

    against(change, read)


# --- objects that are shared ------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"batch_size": 4}, {"batch_size": 4, "padding_free": True}])
def test_threads_share_an_iterator_of_a_stream(settings):
    """Each sample once, whichever thread gets it; and any state in between can be continued."""
    settings = {**settings, "max_tokens": 200, "buffer": 64}
    samples = [[number] * int(length) for number, length in enumerate(LENGTHS)]
    batcher = tb.StreamBatcher(samples, **settings)
    batches, states = iter(batcher), []

    def read():
        found = []
        for batch in batches:
            found.append([sample[0] for sample in batch])
            if len(found) == 3:
                states.append(batcher.state_dict())
        return found

    found = [batch for batches in together(*[read] * THREADS) for batch in batches]
    assert sorted(number for batch in found for number in batch) == list(range(len(LENGTHS)))
    alone = [[sample[0] for sample in batch] for batch in tb.StreamBatcher(samples, **settings)]
    assert sorted(found) == sorted(alone)
    assert states
    for state in states:
        other = tb.StreamBatcher(samples, **settings)
        other.load_state_dict(state)
        rest = [[sample[0] for sample in batch] for batch in other]
        assert rest == alone[len(alone) - len(rest) :]


def test_threads_iterate_over_one_batcher():
    samples = [[number] * int(length) for number, length in enumerate(LENGTHS)]
    batcher = tb.StreamBatcher(samples, batch_size=4, buffer=64)
    alone = list(tb.StreamBatcher(samples, batch_size=4, buffer=64))
    runs = [iter(batcher) for _ in range(THREADS)]
    assert all(found == alone for found in together(*[lambda run=run: list(run) for run in runs]))


def test_samples_that_ask_for_their_own_batches_are_refused():
    def samples():
        yield [1]
        next(batches)

    batches = iter(tb.StreamBatcher(samples, batch_size=2))
    with pytest.raises(RuntimeError, match=r"the samples ask for a batch while one is read"):
        next(batches)


def test_threads_share_a_plan_of_several_epochs():
    sampler = tb.LengthBatchSampler(LENGTHS, batch_size=8, seed=3)
    planner = sampler._planner
    alone = [planner.plan(epoch)[0].tolist() for epoch in range(4)]

    def read(epoch):
        return all(planner.plan(epoch)[0].tolist() == alone[epoch] for _ in range(40))

    assert all(together(*[lambda epoch=i % 4: read(epoch) for i in range(THREADS)]))


def test_threads_share_a_collator():
    """Also of more kinds of samples than a collator remembers."""
    kinds = [
        [{"input_ids": [i + 1] * n, f"labels_{k}": [i] * n} for i, n in enumerate((3, 5, 2))]
        for k in range(40)
    ]
    collate = tb.PadCollator(return_tensors="np")
    alone = [
        {key: value.tolist() for key, value in tb.PadCollator(return_tensors="np")(samples).items()}
        for samples in kinds
    ]

    def read(begin):
        for k in range(len(kinds)):
            place = (k + begin) % len(kinds)
            batch = collate(kinds[place])
            assert {key: value.tolist() for key, value in batch.items()} == alone[place]

    together(*[lambda begin=5 * i: read(begin) for i in range(THREADS)])


def test_threads_pack_and_plan_at_once():
    alone = tb.pack(LENGTHS, 64), tb.bucket_boundaries(LENGTHS, 4)

    def read():
        for _ in range(5):
            packs = tb.pack(LENGTHS, 64)
            assert [list(p) for p in packs] == [list(p) for p in alone[0]]
            assert list(tb.bucket_boundaries(LENGTHS, 4)) == list(alone[1])

    together(*[read] * THREADS)


def test_a_ragged_keeps_its_arrays():
    ragged = tb.Ragged(np.arange(6), [0, 2, 6])
    with pytest.raises(RuntimeError, match=r"Ragged.__init__\(\): the object has its arrays"):
        ragged.__init__(np.arange(3), [0, 3])
    assert [row.tolist() for row in ragged] == [[0, 1], [2, 3, 4, 5]]


def test_what_is_looked_up_once_is_looked_up_by_all_at_once():
    """In a process of its own, whose first call needs the functions that NumPy converts by."""
    code = """
        import sys, threading
        import numpy as np
        import tightbatch as tb
        sys.setswitchinterval(5e-5)
        rows = [np.arange(5, dtype=np.longdouble), np.ones(3)]
        barrier, found = threading.Barrier(8), []
        def work():
            barrier.wait()
            found.append(tb.pad(rows, dtype=np.longdouble).tolist())
        threads = [threading.Thread(target=work) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert found == [[[0, 1, 2, 3, 4], [1, 1, 1, 0, 0]]] * 8, found
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)
