"""What tb.pack, Packing.apply and pack_dataset refuse, and what they say."""

import math

import numpy as np
import pytest

import arrays
import tightbatch as tb
from checks import check_lengths_that_act, checked, fails

NO_LENGTHS = {name: value for name, value in arrays.NOT_INTEGERS.items() if name != "scalar_array"}


@pytest.mark.parametrize(
    ("lengths", "kind", "parts"),
    [
        ([4, 2, -1], ValueError, ["row 2", "-1", "negative"]),
        (np.array([4, -2, -1]), ValueError, ["row 1", "-2"]),
        (np.array([4, -2], np.int8), ValueError, ["row 1", "-2"]),
        ([4, 2.0], TypeError, ["row 1", "2.0"]),
        ([4, math.nan], TypeError, ["row 1", "nan"]),
        (np.array([4.0, 2.0]), TypeError, ["float64"]),
        (np.array([4.0, np.nan]), TypeError, ["float64"]),
        (np.array([True, False]), TypeError, ["bools", "expected integers"]),
        ([4, "2"], TypeError, ["row 1"]),
        ([4, None], TypeError, ["row 1"]),
        ([[4, 2], [1, 3]], TypeError, ["2 dimensions"]),
        (np.ones((2, 2), np.int64), TypeError, ["2 dimensions"]),
        ([4, 2**63], OverflowError, ["row 1"]),
        (np.array([4, 2**63], np.uint64), OverflowError, ["row 1"]),
        ([1, 2**62, 2**62], ValueError, ["row 2", "add up"]),
    ],
)
def test_wrong_lengths(lengths, kind, parts):
    with fails(kind, "pack", *parts):
        checked(tb.pack, lengths, 8)


@pytest.mark.parametrize("name", NO_LENGTHS)
def test_no_lengths(name):
    with fails(TypeError, "pack"):
        checked(tb.pack, NO_LENGTHS[name], 8)


def test_bools_of_torch():
    torch = pytest.importorskip("torch")
    with fails(TypeError, "pack", "bools"):
        tb.pack(torch.ones(3, dtype=torch.bool), 8)


def test_hostile_21_22_23_index_of_a_length_that_acts():
    check_lengths_that_act(lambda lengths: tb.pack(lengths, 2000))


@pytest.mark.parametrize(
    ("options", "kind", "parts"),
    [
        ({"capacity": 0}, ValueError, ["capacity=0", "at least 1"]),
        ({"capacity": -1}, ValueError, ["capacity=-1", "at least 1"]),
        ({"capacity": True}, TypeError, ["capacity=True"]),
        ({"capacity": np.True_}, TypeError, ["capacity"]),
        ({"capacity": 1.5}, TypeError, ["capacity=1.5"]),
        ({"capacity": 8.0}, TypeError, ["capacity=8.0"]),
        ({"capacity": "8"}, TypeError, ["capacity='8'"]),
        ({"capacity": None}, TypeError, ["capacity=None"]),
        ({"capacity": 2**63 - 1}, OverflowError, [f"capacity={2**63 - 1}"]),
        ({"max_segments": 0}, ValueError, ["max_segments=0"]),
        ({"max_segments": -1}, ValueError, ["max_segments=-1"]),
        ({"max_segments": True}, TypeError, ["max_segments=True"]),
        ({"max_segments": 2.0}, TypeError, ["max_segments=2.0"]),
        ({"max_segments": 2**63}, OverflowError, [f"max_segments={2**63}"]),
        ({"seed": -1}, ValueError, ["seed=-1"]),
        ({"seed": 1.0}, TypeError, ["seed=1.0"]),
        ({"seed": 2**64}, OverflowError, [f"seed={2**64}"]),
        ({"shuffle_window": 0}, ValueError, ["shuffle_window=0"]),
        ({"shuffle_window": 7}, ValueError, ["shuffle_window=7", "'pool'", "pool_size"]),
        (
            {"shuffle_window": 7, "strategy": "best_fit", "seed": None},
            ValueError,
            ["shuffle_window=7", "seed"],
        ),
        ({"strategy": "bfd"}, ValueError, ["strategy='bfd'", "'pool'", "'best_fit'"]),
        ({"strategy": None}, TypeError, ["strategy=None"]),
        ({"pool_size": 0}, ValueError, ["pool_size=0", "at least 1"]),
        ({"pool_size": None}, TypeError, ["pool_size=None"]),
        ({"pool_size": "all"}, ValueError, ["pool_size='all'", "'auto'"]),
        ({"pool_size": 2**63}, OverflowError, [f"pool_size={2**63}"]),
        (
            {"pool_size": 8, "strategy": "best_fit"},
            ValueError,
            ["pool_size=8", "strategy='best_fit'"],
        ),
        ({"shuffle_window": 1.5}, TypeError, ["shuffle_window=1.5"]),
        ({"shuffle_window": True}, TypeError, ["shuffle_window=True"]),
        ({"overlong": "cut"}, ValueError, ["overlong='cut'", "'error'", "'split'"]),
        ({"overlong": None}, TypeError, ["overlong=None"]),
    ],
)
def test_wrong_settings(options, kind, parts):
    with fails(kind, "pack", *parts):
        checked(tb.pack, [3, 1, 2], **{"capacity": 8, **options})


def test_row_longer_than_the_capacity():
    with fails(ValueError, "pack", "row 2", "length 9", "capacity=8", "overlong='truncate'"):
        tb.pack([8, 0, 9, 10], 8)
    assert tb.pack([8, 0, 9, 10], 10).dropped == 0


def test_row_too_long_to_number():
    long = 2**62
    with fails(ValueError, "pack", "row 1", f"length {long}", "5 rows", "capacity"):
        tb.pack([1, long, 1, 1, 1], long)
    long = 2**61
    with fails(ValueError, "pack", "row 2", f"length {long}", "5 rows"):
        tb.pack([long + 1, 1, long, 1, 1, 1], long, overlong="drop")
    assert len(tb.pack([1, long, 1, 1, 1], 2**60, overlong="truncate")) == 2


def test_more_pieces_than_can_be_numbered():
    with fails(ValueError, "pack", "row 0", f"length {2**62}", "capacity=5"):
        tb.pack([2**62, 3], 5, overlong="split")
    with fails(ValueError, "pack", "row 1", "capacity=1"):
        tb.pack([0, 2**63 - 1, 0], 1, overlong="split")


# Packing.apply


def test_other_rows_than_were_packed():
    packing = tb.pack([2, 1, 3], 4)
    for rows, kind, parts in (
        ([[1, 2], [3], [4, 5, 6, 7]], ValueError, ["row 2", "4 positions", "the 3"]),
        ([[1], [3, 2], [4, 5, 6]], ValueError, ["row 0", "1 positions", "the 2"]),
        ([[1, 2], [3]], ValueError, ["2 rows", "3"]),
        ([], ValueError, ["0 rows", "3"]),
    ):
        with fails(kind, "Packing.apply", *parts):
            packing.apply(tb.Ragged.from_sequences(rows))
    for other in ([[1, 2], [3], [4, 5, 6]], np.arange(6), None):
        with fails(TypeError, "Packing.apply", "Ragged", type(other).__name__):
            packing.apply(other)


def test_length_of_a_truncated_row_still_counts():
    packing = tb.pack([2, 9], 4, overlong="truncate")
    with fails(ValueError, "row 1", "4 positions", "the 9"):
        packing.apply(tb.Ragged(np.arange(6), [0, 2, 6]))


def test_values_that_were_resized():
    rows = tb.Ragged.from_sequences([[1, 2, 3, 4], [5, 6, 7, 8, 9, 10]])
    packing = tb.pack(rows.lengths, 6)
    rows.values.resize(8, refcheck=False)
    with fails(RuntimeError, "Packing.apply", "resized"):
        packing.apply(rows)


@pytest.mark.parametrize("pack", [2, -3, 10**30])
def test_pack_that_is_not_there(pack):
    with fails(IndexError, f"pack={pack}", "from -2 to 1"):
        tb.pack([3, 3], 4)[pack]


# pack_dataset


@pytest.fixture
def datasets():
    return pytest.importorskip("datasets")


def test_columns_that_differ_in_length(datasets):
    rows = datasets.Dataset.from_dict({"a": [[1], [2, 3]], "b": [[1], [2, 3]], "c": [[1], [2]]})
    with fails(ValueError, "pack_dataset", "row 1", "1 values", "'c'", "2 in 'a'"):
        tb.pack_dataset(rows, 4)
    assert len(tb.pack_dataset(rows.remove_columns("c"), 4)) == 1


@pytest.mark.parametrize("column", [[1, 2], ["a", "b"], [["a"], ["b"]], [None, None]])
def test_columns_that_hold_no_lists_of_numbers(datasets, column):
    rows = datasets.Dataset.from_dict({"ids": [[1], [2, 3]], "other": column})
    with fails(TypeError, "'other'"):
        tb.pack_dataset(rows, 4)


def test_no_columns_and_a_name_that_is_taken(datasets):
    with fails(ValueError, "pack_dataset", "at least one"):
        tb.pack_dataset(datasets.Dataset.from_dict({}), 4)
    rows = datasets.Dataset.from_dict({"ids": [[1]], "seq_lengths": [[1]]})
    with fails(ValueError, "pack_dataset", "seq_lengths"):
        tb.pack_dataset(rows, 4)


def test_dataset_that_is_none(datasets):
    for other in ({"ids": [[1]]}, [[1]], None):
        with fails(TypeError, type(other).__name__):
            tb.pack_dataset(other, 4)


def test_rows_of_a_dataset_longer_than_the_capacity(datasets):
    rows = datasets.Dataset.from_dict({"ids": [[1], [2, 3, 4]]})
    with fails(ValueError, "row 1", "length 3", "capacity=2"):
        tb.pack_dataset(rows, 2)
    with fails(TypeError, "capacity=2.0"):
        tb.pack_dataset(rows, 2.0)
    nulls = datasets.Dataset.from_dict({"ids": [[1], None]})
    with fails(ValueError, "'ids'"):
        tb.pack_dataset(nulls, 2)


def test_pack_dataset_takes_limits():
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"a": [[1, 2, 3], [4], [5, 6], [7]]})
    images = [1, 0, 1, 1]
    packed = tb.pack_dataset(rows, 8, limits={"images": (images, 1)}, seed=None)
    assert len(packed) == 3
    packing = tb.pack([3, 1, 2, 1], 8, limits={"images": (images, 1)}, seed=None)
    assert packed["seq_lengths"][:] == packing.seq_lengths.tolist()
    assert all(sum(images[row] for row in pack) <= 1 for pack in packing)
    with fails(ValueError, "pack_dataset", "row 2", "cost 5", "limits['images']=4"):
        tb.pack_dataset(rows, 8, limits={"images": ([1, 1, 5, 1], 4)})
    with fails(ValueError, "pack_dataset", "3 costs", "expected 4"):
        tb.pack_dataset(rows, 8, limits={"images": ([1, 1, 1], 4)})
    with pytest.warns(UserWarning, match=r"left out 1 row"):
        packed = tb.pack_dataset(rows, 8, limits={"images": ([1, 1, 5, 1], 4)}, overlong="drop")
    assert sum(map(len, packed["a"])) == 5
    with fails(ValueError, "pack_dataset", "overlong='split'", "limits="):
        tb.pack_dataset(rows, 2, limits={"images": (images, 1)}, overlong="split")
