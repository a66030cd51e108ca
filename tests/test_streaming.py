"""Batches of a stream: every sample once, below every cap, none for long, with little padding."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb

KINDS = {
    "rows": {"batch_size": 4},
    "tokens": {"max_tokens": 40},
    "both": {"batch_size": 3, "max_tokens": 40},
    "packs": {"max_tokens": 40, "padding_free": True},
    "small packs": {"max_tokens": 40, "batch_size": 2, "padding_free": True},
    "in order": {"batch_size": 4, "padding_free": True},
}


def text_lengths(count, seed=0):
    drawn = np.random.default_rng(seed).lognormal(4.9, 0.8, count).astype(np.int64)
    return np.clip(drawn, 1, 512)


def numbers(lengths, **settings):
    """Batches of the numbers of samples that have these lengths."""
    lengths = [int(length) for length in lengths]
    return tb.StreamBatcher(range(len(lengths)), length=lengths.__getitem__, **settings)


def cost_of(batch, lengths, caps, multiple=1):
    widths = [-(-lengths[row] // multiple) * multiple for row in batch]
    if caps.get("padding_free"):
        return sum(widths)
    return len(batch) * max(*widths, multiple)


def waits(lengths, batcher):
    """How many batches came between a sample's reading and its own, for each sample."""
    made, born, waited = 0, {}, {}

    def read():
        for row in range(len(lengths)):
            born[row] = made
            yield row

    batcher.samples = read
    for batch in batcher:
        made += 1
        for row in batch:
            waited[row] = made - born[row]
    return waited


@pytest.mark.parametrize("caps", KINDS.values(), ids=KINDS)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=120),
    buffer=st.integers(4, 50),
    seed=st.integers(0, 9),
    multiple=st.sampled_from([1, 8]),
)
@settings(max_examples=40)
def test_every_sample_comes_once_below_the_caps(caps, lengths, buffer, seed, multiple):
    batcher = numbers(lengths, buffer=buffer, seed=seed, pad_to_multiple_of=multiple, **caps)
    batches = list(batcher)
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= caps.get("batch_size", 10**9)
        assert cost_of(batch, lengths, caps, multiple) <= caps.get("max_tokens", 10**9)
    assert batcher.dropped == batcher.truncated == batcher.repeated == 0
    batcher.set_epoch(0)
    assert list(batcher) == batches


@pytest.mark.parametrize("caps", KINDS.values(), ids=KINDS)
@given(lengths=st.lists(st.integers(0, 40), min_size=50, max_size=400), buffer=st.integers(4, 12))
@settings(max_examples=20)
def test_no_sample_waits_long(caps, lengths, buffer):
    waited = waits(lengths, numbers(lengths, buffer=buffer, **caps))
    bound = buffer + 1 if caps.get("padding_free") else 5 * buffer
    assert max(waited.values()) <= bound
    assert len(waited) == len(lengths)


def test_a_rare_length_is_taken_when_it_is_due():
    """One long sample among short ones has no neighbours of its own length."""
    lengths = [10] * 40 + [400] + [10] * 4000
    waited = waits(lengths, numbers(lengths, batch_size=8, buffer=64))
    assert waited[40] <= 4 * 64 // 8 + 1


@pytest.mark.parametrize("caps", [{"batch_size": 32}, {"max_tokens": 8192}], ids=str)
@pytest.mark.parametrize("kind", ["text", "uniform", "long tail"])
def test_padding_is_that_of_plans_of_all_lengths(kind, caps):
    rng = np.random.default_rng(1)
    lengths = {
        "text": text_lengths(20_000),
        "uniform": rng.integers(1, 512, 20_000),
        "long tail": np.clip(rng.lognormal(5, 1, 20_000), 1, 4096).astype(np.int64),
    }[kind]
    planned = list(tb.LengthBatchSampler(lengths, **caps))
    streamed = list(numbers(lengths, buffer=64 * len(lengths) // len(planned), **caps))

    def padding(batches):
        return 1 - lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in batches)

    assert padding(streamed) <= 1.15 * padding(planned)
    assert len(streamed) <= 1.02 * len(planned)


def test_packs_are_full_and_in_about_the_order_of_the_stream():
    lengths = text_lengths(30_000)
    packs = list(numbers(lengths, max_tokens=8192, padding_free=True, buffer=1024))
    sums = [int(lengths[pack].sum()) for pack in packs]
    assert sum(sums[:-1]) / (8192 * (len(sums) - 1)) > 0.999
    drift = [abs(np.mean(pack) - 30_000 * i / len(packs)) for i, pack in enumerate(packs)]
    assert np.mean(drift) < 1024


def test_batches_of_a_random_stream_are_in_random_order():
    lengths = text_lengths(40_000)
    for caps in ({"batch_size": 32}, {"max_tokens": 8192}):
        means = [lengths[batch].mean() for batch in numbers(lengths, buffer=2048, **caps)]
        assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.25


def test_other_seeds_and_epochs_draw_others():
    lengths = text_lengths(500)
    first = list(numbers(lengths, batch_size=8, buffer=64))
    assert list(numbers(lengths, batch_size=8, buffer=64, seed=1)) != first
    batcher = numbers(lengths, batch_size=8, buffer=64)
    assert list(batcher) == first
    assert batcher.epoch == 1
    assert list(batcher) != first


def test_without_padding_and_tokens_batches_follow_the_stream():
    batches = numbers([5, 1, 9, 2, 7], batch_size=2, padding_free=True, buffer=100)
    assert list(batches) == [[0, 1], [2, 3], [4]]


def test_an_endless_source_has_endless_batches_and_a_bounded_buffer():
    read = 0

    def forever():
        nonlocal read
        while True:
            read += 1
            yield [0] * (read % 7)

    for caps in KINDS.values():
        read, handed_out = 0, 0
        for batch in itertools.islice(tb.StreamBatcher(forever, buffer=16, **caps), 200):
            handed_out += len(batch)
            assert read - handed_out <= 16 + 40
    # Rows of length 0 cost a pack nothing, and still end it.
    empty = tb.StreamBatcher(itertools.repeat([]), max_tokens=8, padding_free=True, buffer=4)
    assert [len(pack) for pack in itertools.islice(empty, 3)] == [8, 8, 8]


def test_an_empty_source_has_no_batches():
    for caps in KINDS.values():
        batcher = tb.StreamBatcher([], **caps)
        assert list(batcher) == []
        assert list(batcher) == []


def test_an_iterator_that_is_at_its_end_warns():
    rows = [[1] * n for n in (3, 1, 2, 5)]
    spent = iter(rows)
    for samples in ((row for row in rows), iter(rows), lambda: spent):
        batcher = tb.StreamBatcher(samples, batch_size=2)
        assert sum(map(len, batcher)) == 4
        for _ in range(2):
            with pytest.warns(UserWarning, match=r"read once.*a function") as caught:
                assert list(batcher) == []
            assert caught[0].filename == __file__
    for samples in (rows, lambda: iter(rows)):
        batcher = tb.StreamBatcher(samples, batch_size=2)
        assert [sum(map(len, batcher)) for _ in range(3)] == [4, 4, 4]


def test_an_iterator_is_read_on_in_parts_without_a_warning():
    samples = ([n] * (n % 5 + 1) for n in range(24))
    batcher = tb.StreamBatcher(samples, batch_size=2, buffer=2, steps=4)
    found = [[row[0] for batch in batcher for row in batch] for _ in range(2)]
    assert list(map(len, found)) == [8, 8]
    assert not set(found[0]) & set(found[1])
    batcher = tb.StreamBatcher(iter([]), batch_size=2)
    assert [list(batcher), list(batcher)] == [[], []]
    batcher = tb.StreamBatcher(iter([[1], [2]]), batch_size=2)
    assert len(list(batcher)) == 1
    done = tb.StreamBatcher(iter([[1], [2]]), batch_size=2)
    done.load_state_dict(batcher.state_dict())
    assert len(list(done)) == 1  # the second epoch, from an iterator of its own


def test_tokens_and_bytes_limit_the_buffer():
    rows = [np.zeros(n, np.int32) for n in text_lengths(300)]
    for limit in ({"buffer_tokens": 2000}, {"buffer_bytes": 8000}):
        for caps in ({"batch_size": 4}, {"max_tokens": 1024, "padding_free": True}):
            read = []

            def samples(read=read):
                for row in rows:
                    read.append(len(row))
                    yield row

            handed_out = 0
            for batch in tb.StreamBatcher(samples, **caps, **limit):
                assert sum(read) - handed_out <= 2000 + 512 + caps.get("max_tokens", 0)
                handed_out += sum(map(len, batch))
            assert handed_out == sum(map(len, rows))


def test_bytes_are_those_of_arrays_tensors_and_strings():
    from tightbatch.sampling.stream_run import size_in_bytes

    row = {"a": np.zeros(3, np.int16), "b": [1, 2], "c": "four", "d": [[1.0], [2.0]], "e": 1}
    assert size_in_bytes(row) == 6 + 16 + 4 + 16 + 8
    assert size_in_bytes([]) == 0


def test_lengths_come_from_a_column_a_number_or_a_function():
    rows = [{"input_ids": [0] * n, "n": n, "text": "x"} for n in (5, 1, 4, 2)]
    expected = [[rows[2], rows[0]], [rows[1], rows[3]]]
    for length in (None, "input_ids", "n", lambda row: len(row["input_ids"])):
        batches = list(tb.StreamBatcher(rows, length=length, batch_size=2, buffer=4))
        assert sorted(len(b["input_ids"]) for b in batches[0]) in ([1, 2], [4, 5])
        assert [sorted(b["n"] for b in batch) for batch in sorted(batches, key=str)] == [
            sorted(b["n"] for b in batch) for batch in sorted(expected, key=str)
        ]
    arrays = [np.zeros(n) for n in (3, 1)]
    (batch,) = tb.StreamBatcher(arrays, batch_size=2)
    assert batch[0] is arrays[0]


def test_overlong_rows_are_cut_dropped_or_an_error():
    lengths = [3, 50, 2, 60, 1]
    batcher = numbers(lengths, max_tokens=8, overlong="drop")
    assert sorted(itertools.chain(*batcher)) == [0, 2, 4]
    assert batcher.dropped == 2
    batcher = numbers(lengths, max_tokens=8, overlong="truncate")
    assert batcher.max_length == 8
    assert sorted(itertools.chain(*batcher)) == [0, 1, 2, 3, 4]
    assert batcher.truncated == 2
    with pytest.raises(ValueError, match=r"StreamBatcher\(\): row 1: length 50 is more than max_"):
        list(numbers(lengths, max_tokens=8))
    batcher = numbers(lengths, boundaries=[4, 64], max_tokens=64)
    assert sorted(map(sorted, batcher)) == [[0, 2, 4], [1], [3]]


def test_drop_last_leaves_out_the_batch_that_is_not_full():
    for caps, left in (
        ({"batch_size": 4}, 2),
        ({"batch_size": 4, "padding_free": True}, 2),
        ({"max_tokens": 40, "padding_free": True}, 2),
    ):
        batcher = numbers([10] * 10, drop_last=True, buffer=8, **caps)
        assert [len(batch) for batch in batcher] == [4, 4]
        assert batcher.dropped == left


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (-1, ValueError, "length -1 is negative"),
        (None, TypeError, r"length None \(NoneType\); expected an int, or a row of tokens"),
        (float("nan"), TypeError, r"length nan \(float\)"),
        (2.0, TypeError, r"length 2.0 \(float\)"),
        (True, TypeError, r"length True \(bool\)"),
        ("abc", TypeError, r"length 'abc' \(str\)"),
        (2**70, OverflowError, "length 1180591620717411303424 is outside int64"),
        (2**62, ValueError, "length 4611686018427387904 is too long to plan for"),
        (np.float32(1), TypeError, "length .* expected an int"),
        (object(), TypeError, "length <object"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_length_names_its_row_and_the_iteration_goes_on(wrong, error, message):
    lengths = [3, 1, 2, wrong, 5, 4]
    batches = iter(tb.StreamBatcher(range(6), length=lengths.__getitem__, batch_size=2, buffer=4))
    with pytest.raises(error, match=rf"StreamBatcher\(\): row 3: {message}"):
        next(batches)
    assert sorted(itertools.chain(*batches)) == [0, 1, 2, 4, 5]


def test_numbers_of_all_kinds_are_lengths():
    lengths = [np.int64(3), np.uint8(2), np.array([1, 1, 1]), (1, 2), 10**6, np.array(4)]
    rows = [{"n": length, "row": row} for row, length in enumerate(lengths)]
    (batch,) = tb.StreamBatcher(rows, length="n", batch_size=6, buffer=6)
    assert [sample["row"] for sample in batch[:2]] == [4, 5]
    assert len(batch) == 6


def test_a_column_that_is_missing_names_the_row():
    rows = [{"input_ids": [1]}, {"ids": [1]}]
    with pytest.raises(KeyError, match=r"row 1: found dict without 'input_ids'"):
        list(tb.StreamBatcher(rows, batch_size=1))
    with pytest.raises(ValueError, match=r"row 0: found the keys \['ids'\]; pass length="):
        list(tb.StreamBatcher(rows[1:], batch_size=1))
    with pytest.raises(TypeError, match=r"row 0: found int without 'n'"):
        list(tb.StreamBatcher([5], length="n", batch_size=1))


class Failing:
    """An iterator that raises once, and goes on."""

    def __init__(self, at, count):
        self.at, self.count, self.number = at, count, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.number += 1
        if self.number == self.at:
            raise OSError("the disk is gone")
        if self.number > self.count:
            raise StopIteration
        return [0] * (self.number % 5)


@pytest.mark.parametrize("caps", KINDS.values(), ids=KINDS)
def test_an_error_of_the_source_reaches_the_loop_and_nothing_is_lost(caps):
    batches, got = iter(tb.StreamBatcher(Failing(30, 60), buffer=8, **caps)), 0
    failures = 0
    while True:
        try:
            got += len(next(batches))
        except OSError as error:
            failures += str(error) == "the disk is gone"
        except StopIteration:
            break
    assert (failures, got) == (1, 59)


def test_a_generator_that_fails_leaves_what_waits():
    def samples():
        yield from ([1], [2], [3])
        raise ZeroDivisionError

    batches = iter(tb.StreamBatcher(samples, batch_size=2, buffer=8))
    with pytest.raises(ZeroDivisionError):
        next(batches)
    assert sum(map(len, batches)) == 3


def test_stop_iteration_of_a_length_does_not_end_the_loop():
    def length(sample):
        raise StopIteration

    with pytest.raises(RuntimeError, match=r"row 0: length\(\) raised StopIteration"):
        list(tb.StreamBatcher([[1]], length=length, batch_size=1))


@pytest.mark.parametrize("name", ["buffer_tokens", "buffer_bytes"])
def test_the_largest_buffer(name):
    most = 2**63 - 2
    batcher = tb.StreamBatcher([[1], [2, 3]], batch_size=2, **{name: most})
    assert len(list(batcher)) == 1
    with pytest.raises(OverflowError, match=f"{name}={most + 1}; expected at most {most}"):
        tb.StreamBatcher([], batch_size=2, **{name: most + 1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "pass batch_size=, max_tokens= or both"),
        ({"batch_size": 9, "buffer": 8}, "buffer=8 is less than batch_size=9"),
        ({"max_tokens": 9, "buffer_tokens": 8}, "buffer_tokens=8 is less than max_tokens=9"),
        (
            {"batch_size": 1, "buffer_tokens": 8, "buffer_bytes": 8},
            "buffer_tokens= with buffer_bytes=; expected one",
        ),
        ({"max_tokens": 4, "pad_to_multiple_of": 8}, "max_tokens=4 is less than any row costs"),
        ({"batch_size": 1, "boundaries": [4], "padding_free": True}, "boundaries= with padding_f"),
        ({"batch_size": 1, "num_replicas": 2, "rank": 2}, "rank=2 of num_replicas=2"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        tb.StreamBatcher([], **settings)


def test_samples_must_be_iterable():
    for wrong in (5, None, "abc", {"a": [1]}):
        with pytest.raises(TypeError, match=r"expected an iterable of samples, or a function"):
            tb.StreamBatcher(wrong, batch_size=1)
    with pytest.raises(TypeError, match=r"samples\(\) gave 5 \(int\); expected an iterable"):
        list(tb.StreamBatcher(lambda: 5, batch_size=1))


def test_steps_are_exact_and_count_what_is_left_and_repeated():
    batcher = numbers([3] * 10, batch_size=2, buffer=4, steps=3)
    assert sum(map(len, batcher)) == 6
    assert batcher.dropped == 2  # they waited; 2 were not read
    batcher = numbers([3] * 10, batch_size=2, buffer=4, steps=8)
    assert len(list(batcher)) == 8
    assert batcher.repeated == 6
    once = iter([[1]])
    for samples, words in (
        ([], "0 of 2 steps, and there were none: they are empty; expected at least one sample"),
        (once, "1 of 2 steps, and could not be read again; expected samples that can be iterated"),
        (once, "0 of 2 steps, and there were none: they are empty, or were read before; expected"),
    ):
        with pytest.raises(ValueError, match=f"the samples ended after {words}"):
            list(tb.StreamBatcher(samples, batch_size=1, steps=2))


@pytest.mark.parametrize(
    "caps",
    [
        {"batch_size": 8, "max_tokens": 8},
        {"max_tokens": 8, "padding_free": True},
        {"limits": {"tokens": (len, 8)}, "padding_free": True},
    ],
)
def test_memory_is_for_samples_that_came_and_not_for_the_buffer(caps):
    samples = [[1], [2, 2], [3]]  # places for a whole buffer would take 50 GB
    (batch,) = tb.StreamBatcher(samples, buffer=2**31 - 2, **caps)
    assert sorted(batch) == samples


def test_repr_shows_what_differs_from_the_default():
    batcher = tb.StreamBatcher([[1]], batch_size=2, buffer=64, num_replicas=2, rank=1)
    assert repr(batcher) == "<StreamBatcher of list, batch_size=2, buffer=64, rank=1 of 2>"


def test_a_tail_that_is_dropped_counts_once():
    batcher = tb.StreamBatcher([[0], [0] * 3], max_tokens=4, buffer=4, drop_last=True, steps=1)
    (batch,) = batcher
    assert batcher.dropped == 2 - len(batch)


def test_weights_near_the_end_of_int64():
    options = {"batch_size": 2, "padding_free": True, "buffer_tokens": 2**62}
    lengths = [2**62, 2**62 - 1, 2**62, 5, 2**62]
    batches = list(tb.StreamBatcher(lengths, **options))
    assert sorted(itertools.chain(*batches)) == sorted(lengths)
