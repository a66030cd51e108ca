"""What PaddingFreeCollator refuses: messages name key, row and column; inputs stay as they are."""

import numpy as np
import pytest

import tightbatch as tb
from checks import checked, fails, run_python

NAME = "PaddingFreeCollator()"


def collate(samples, **options):
    return checked(tb.PaddingFreeCollator(return_tensors="np", **options), samples)


def rows(*lengths, **columns):
    return [
        {"input_ids": list(range(n)), **{key: value[i] for key, value in columns.items()}}
        for i, n in enumerate(lengths)
    ]


def test_an_empty_batch():
    for empty in ([], (), iter([]), tb.RaggedDataset({"input_ids": [[1]]}).__getitems__([])):
        with fails(ValueError, NAME, "empty"):
            tb.PaddingFreeCollator()(empty)


@pytest.mark.parametrize("samples", [{"input_ids": [1]}, "text", [[1, 2]], [(1, 2)]])
def test_no_dicts(samples):
    with fails(TypeError, NAME):
        collate(samples)


def test_a_batch_without_a_token():
    for samples in (rows(0, 0), rows(0, seq_lengths=[[]]), rows(0, seq_lengths=[[0, 0]])):
        with fails(ValueError, NAME, "no row", "token"):
            collate(samples)
    batch = collate(rows(0, 0), max_tokens=4, return_row_idx=True)
    assert batch["cu_seq_lens_q"].tolist() == [0, 1, 2, 3, 4]
    assert batch["row_idx"].tolist() == [-1] * 4


def test_no_rows():
    with fails(ValueError, NAME, "neither 'input_ids' nor", "'label'"):
        collate([{"label": 1}])
    with fails(TypeError, NAME, "'input_ids'", "row 0"):
        collate([{"input_ids": 1, "x": [1]}])


@pytest.mark.parametrize(
    "mask",
    [
        [1, 0],
        [True, False],
        [1.0, 0.5],
        [1, 2],
        np.array([1, 0]),
        np.array([True, False]),
        np.array([1, 0], np.int8),
        np.array([1, 3], np.uint16),
        np.array([1, 0], np.int32),
        np.array([1, np.nan], np.float32),
        np.array([1, 0.0]),
    ],
    ids=repr,
)
def test_a_mask_that_masks(mask):
    with fails(ValueError, NAME, "'attention_mask'", "row 1", "column 1", "not 1"):
        collate(rows(3, 2, attention_mask=[np.ones(3, getattr(mask, "dtype", int)), mask]))


def test_a_mask_that_masks_far_from_the_start():
    for at in (0, 63, 64, 127, 199):
        mask = np.ones(200, np.int8)
        mask[at] = 0
        with fails(ValueError, NAME, "'attention_mask'", "row 0", f"column {at}"):
            collate(rows(200, attention_mask=[mask]))
    for ones in ([1] * 200, [True] * 200, [1.0] * 200, np.ones(200), np.ones(200, np.uint8)):
        assert "attention_mask" not in collate(rows(200, attention_mask=[ones]))


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([1], ValueError),
        (np.ones((2, 2)), ValueError),
        (np.ones(2, np.float16), TypeError),
        ([1, "x"], TypeError),
        ([1, None], TypeError),
        (1, TypeError),
        (None, TypeError),
        ("11", TypeError),
    ],
    ids=repr,
)
def test_a_mask_that_is_none(mask, error):
    with fails(error, NAME, "'attention_mask'"):
        collate(rows(2, attention_mask=[mask]))


@pytest.mark.parametrize("key", ["labels", "token_type_ids", "boxes"])
def test_a_column_of_another_length(key):
    with fails(ValueError, NAME, repr(key), "row 1", "length 2", "'input_ids'", "3"):
        collate(rows(1, 3, **{key: [[1], [1, 2]]}))


@pytest.mark.parametrize(
    ("lengths", "found"),
    [
        ([[1], [1, 1]], ["row 1", "sums to 2", "3"]),
        ([[1], [2, 2]], ["row 1", "column 1", "more", "3"]),
        ([[1], [-1, 4]], ["row 1", "column 0", "-1"]),
        ([[], [3]], ["row 0", "sums to 0"]),
        ([[1], [2**62, 2**62]], ["row 1", "column 0", "more"]),
    ],
    ids=repr,
)
def test_segments_that_do_not_fit(lengths, found):
    with fails(ValueError, NAME, "'seq_lengths'", *found):
        collate(rows(1, 3, seq_lengths=lengths))


@pytest.mark.parametrize(
    "lengths",
    [[1.0, 2.0], ["a"], [[1], [2]], 3, None, np.array([1.0, 2.0]), [True, 2], np.ones(3, bool)],
    ids=repr,
)
def test_segments_that_are_no_lengths(lengths):
    with fails((TypeError, ValueError), NAME, "'seq_lengths'"):
        collate(rows(3, seq_lengths=[lengths]))


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("position_ids", {}),
        ("seq_idx", {}),
        ("cu_seq_lens_q", {}),
        ("max_length_k", {}),
        ("cu_seqlens_kv_padded", {"naming": "megatron"}),
        ("qkv_format", {"naming": "megatron"}),
        ("max_q", {"naming": "varlen_attn"}),
        ("shift_labels", {"shift_labels": True}),
        ("num_items_in_batch", {"return_num_items": True}),
        ("row_idx", {"return_row_idx": True}),
    ],
)
def test_a_column_of_a_name_that_the_collator_makes(key, options):
    with fails(ValueError, NAME, repr(key), "the collator makes a column of this name"):
        collate(rows(1, **{key: [[1]]}), **options)


def test_names_of_others_are_ordinary_columns():
    assert collate(rows(1, row_idx=[[9]], max_q=[4]))["row_idx"].tolist() == [[9]]


def test_too_many_tokens():
    with fails(ValueError, NAME, "row 2", "9 positions", "max_tokens=8", "padding_free=True"):
        collate(rows(4, 4, 1), max_tokens=8)
    with fails(ValueError, NAME, "row 1", "12 positions", "max_tokens=8"):
        collate(rows(4, 5), max_tokens=8, segment_multiple_of=4)
    with fails(ValueError, NAME, "row 1", "max_tokens=4"):
        collate(rows(2, 3, seq_lengths=[[1, 1], [1, 2]]), max_tokens=4)
    assert collate(rows(4, 50), max_tokens=8, max_length=4)["input_ids"].shape == (1, 8)


def test_too_many_segments():
    with fails(ValueError, NAME, "3 segments", "max_segments=2"):
        collate(rows(1, 1, 1), max_segments=2)
    with fails(ValueError, NAME, "4 segments", "tail", "max_segments=2", "max_segments=4 or more"):
        collate(rows(1, 1), max_segments=2, max_tokens=4)
    with fails(ValueError, NAME, "2 segments", "max_segments=1"):
        collate(rows(2, seq_lengths=[[1, 1]]), max_segments=1)


def test_a_segment_longer_than_what_is_said():
    with fails(ValueError, NAME, "3 positions", "max_seqlen=2"):
        collate(rows(1, 3), max_seqlen=2)
    with fails(ValueError, NAME, "5 segments", "tail", "7 positions", "max_segments=4"):
        collate(rows(1), max_seqlen=2, max_tokens=8, max_segments=4)


def test_labels_that_are_none():
    with fails(TypeError, NAME, "'labels'", "row 0"):
        collate(rows(1, labels=[None]))
    with fails(ValueError, NAME, "'labels'", "dimensions"):
        collate(rows(2, labels=[[[1, 2], [3, 4]]]))
    for option in ("shift_labels", "return_num_items"):
        with fails(ValueError, NAME, option, "labels"):
            collate(rows(1, labels=[3]), **{option: True})
        with fails(ValueError, NAME, option, "labels"):
            collate(rows(1), return_labels=False, **{option: True})
        with fails(ValueError, NAME, option, "labels"):
            collate([{"values": [1.0]}], **{option: True})


def test_labels_of_ids_that_are_none():
    with fails(TypeError, NAME, "'labels'", "'input_ids'", "return_labels=False"):
        collate([{"input_ids": [0.5]}])
    batch = collate([{"input_ids": [0.5]}], return_labels=False)
    assert batch["input_ids"].tolist() == [[0.5]]


def test_values_that_labels_do_not_hold():
    ids = np.array([1, 2**63 + 1], np.uint64)
    with fails(OverflowError, NAME, "'labels'", "row 1", "column 1", 2**63 + 1):
        collate([{"input_ids": ids[:1]}, {"input_ids": ids}])
    with fails(OverflowError, NAME, "'labels'", "row 0", "column 1", 300):
        collate([{"input_ids": [1, 300]}], dtype={"labels": "int8"})
    with fails(OverflowError, NAME, "'labels'", -100):
        collate(rows(2), dtype={"labels": "uint8"})
    with fails(TypeError, NAME, "'labels'", "row 1", "column 0"):
        collate(rows(1, 1, labels=[[1], [0.5]]))


def test_values_in_packs_that_are_cut():
    for samples, error, where in (
        (rows(3, labels=[[1, 2, "x"]], seq_lengths=[[1, 2]]), TypeError, "column 2"),
        (rows(3, labels=[[1, 2, 2**70]], seq_lengths=[[1, 2]]), OverflowError, "column 2"),
    ):
        with fails(error, NAME, "'labels'", "row 0", where):
            collate(samples, segment_multiple_of=2)


@pytest.mark.parametrize("bad", ["x", None, [1], 2**70, {}], ids=repr)
def test_tokens_that_are_none(bad):
    with fails((TypeError, ValueError, OverflowError), NAME, "'input_ids'", "row 1"):
        collate([{"input_ids": [1]}, {"input_ids": [2, bad]}])


def test_more_positions_than_int32_counts():
    pytest.importorskip("torch")
    line = np.zeros(2**20, np.int8)
    many = tb.Ragged(line, np.array([0, 2**20]))
    data = tb.RaggedDataset({"input_ids": many})
    batch = data.__getitems__([0] * 2048)  # 2**31 positions, and no memory for them yet
    with fails(OverflowError, NAME, 2**31, "int32"):
        tb.PaddingFreeCollator()(batch)


@pytest.mark.parametrize(
    ("options", "error", "found"),
    [
        ({"naming": "flash"}, ValueError, ["naming='flash'", "'flash_attn'"]),
        ({"truncation_side": "up"}, ValueError, ["truncation_side='up'"]),
        ({"return_tensors": "tf"}, ValueError, ["return_tensors='tf'"]),
        ({"max_tokens": 0}, ValueError, ["max_tokens=0", "at least 1"]),
        ({"max_segments": -1}, ValueError, ["max_segments=-1"]),
        ({"max_seqlen": 0}, ValueError, ["max_seqlen=0"]),
        ({"max_length": 0}, ValueError, ["max_length=0"]),
        ({"pad_to_multiple_of": 0}, ValueError, ["pad_to_multiple_of=0"]),
        ({"segment_multiple_of": 1.5}, TypeError, ["segment_multiple_of=1.5"]),
        ({"max_tokens": True}, TypeError, ["max_tokens=True"]),
        ({"max_tokens": 2**70}, OverflowError, ["max_tokens"]),
        ({"position_ids_start": -1}, ValueError, ["position_ids_start=-1", "at least 0"]),
        ({"position_ids_start": None}, TypeError, ["position_ids_start=None"]),
        ({"max_tokens": 9, "segment_multiple_of": 2}, ValueError, ["max_tokens=9", 2]),
        ({"max_tokens": 9, "pad_to_multiple_of": 2}, ValueError, ["max_tokens=9", 2]),
        (
            {"pad_to_multiple_of": 6, "segment_multiple_of": 4},
            ValueError,
            ["pad_to_multiple_of=6", "segment_multiple_of=4"],
        ),
        ({"shift_labels": 1}, TypeError, ["shift_labels=1"]),
        ({"return_row_idx": None}, TypeError, ["return_row_idx=None"]),
        ({"dtype": "int32"}, TypeError, ["dtype='int32'"]),
        ({"dtype": {"x": "nonsense"}}, TypeError, ["'x'"]),
        ({"padding_value": "0"}, TypeError, ["padding_value"]),
        ({"padding_value": {"x": None}}, TypeError, ["'x'", "padding_value"]),
    ],
    ids=repr,
)
def test_wrong_options_are_refused_before_the_first_batch(options, error, found):
    with fails(error, NAME, *found):
        tb.PaddingFreeCollator(**options)


class Shrinks:
    """An int whose reading empties a list or an array."""

    def __init__(self, victim):
        self.victim = victim

    def __index__(self):
        if isinstance(self.victim, list):
            self.victim.clear()
        else:
            self.victim.resize(1, refcheck=False)
        return 1


@pytest.mark.parametrize("where", ["input_ids", "labels", "attention_mask", "seq_lengths"])
@pytest.mark.parametrize("victim", ["list", "array"])
def test_rows_that_shrink_while_they_are_read(where, victim):
    row = [1] * 500 if victim == "list" else np.ones(500, np.int64)
    evil = Shrinks(row)
    columns = {
        "input_ids": [1] * 500,
        "labels": row,
        "attention_mask": [1] * 500,
        "seq_lengths": [1] * 500,
    }
    columns[where] = [evil] + [1] * 499
    if where == "labels":
        columns["input_ids"] = row
    for options in ({}, {"segment_multiple_of": 4}):
        try:
            batch = tb.PaddingFreeCollator(return_tensors="np", **options)([columns])
        except (RuntimeError, ValueError):
            continue
        assert batch["input_ids"].size in (500, 2000)


def test_failing_allocations():
    """Of the C function: Python's own calls leak their arguments when they run out of memory."""
    pytest.importorskip("_testcapi")
    run_python(
        """
        import sys
        import _testcapi
        import numpy as np
        import tightbatch as tb
        from tightbatch import _core
        from tightbatch.collate import columns

        class Recorder:
            check_columns = _core.check_columns

            def flatten_columns(self, *given):
                self.given = given
                return _core.flatten_columns(*given)

        recorder = columns._core = Recorder()
        packs = {
            "input_ids": [10**9, 10**9 + 1, 3],
            "attention_mask": [1, 1, True],
            "labels": np.arange(3),
            "weight": [1, 0.5, 2],
            "seq_lengths": [1, 2],
            "label": 3,
        }
        plain = {"input_ids": [1, 2], "attention_mask": [1.0, 1], "other": np.ones(2, ">i4")}
        for sample, options in (
            (packs, {"segment_multiple_of": 4, "max_tokens": 32, "return_row_idx": True}),
            (plain, {"shift_labels": True, "return_num_items": True}),
        ):
            tb.PaddingFreeCollator(return_tensors="np", **options)([sample, sample])
            given = recorder.given
            wanted = str(_core.flatten_columns(*given))
            watched = [*given[1], *(v for v in sample.values() if type(v) is not int)]
            failures = 0
            for count in range(1, 200):
                before = [sys.getrefcount(item) for item in watched]
                _testcapi.set_nomemory(count, count + 1)
                try:
                    found = _core.flatten_columns(*given)
                except MemoryError as error:
                    _testcapi.remove_mem_hooks()
                    found = error.__traceback__ = error.__context__ = None
                finally:
                    _testcapi.remove_mem_hooks()
                failures += found is None
                assert found is None or str(found) == wanted
                found = None
                after = [sys.getrefcount(item) for item in watched]
                assert after == before, (count, before, after)
            assert failures > 10, failures
            assert str(_core.flatten_columns(*given)) == wanted
        """
    )
