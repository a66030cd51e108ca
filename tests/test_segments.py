"""cu_seqlens and segment_ids against their definitions and torch's expressions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrays
import reference
import tightbatch as tb
from checks import assert_same, check_lengths_that_act, checked, fails

SIDES = ["right", "left"]
PACKS = {
    "none": [],
    "no_segments": [[]],
    "empty_segments": [[0, 0], [0]],
    "one": [[1]],
    "mixed": [[3, 0, 2], [], [1, 1, 1, 1, 1], [0, 0, 4, 0]],
    "tails": [[15, 16, 17], [31, 1, 32], [63], [7] * 9],
}
BY_LENGTHS = pytest.mark.parametrize("name", ["cu_seqlens", "segment_ids"])
lengths_of_packs = st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=5)


def longest(packs):
    return max(map(sum, packs), default=0)


# cu_seqlens


@pytest.mark.parametrize("pack", [[], [0], [3, 0, 2], [0, 0, 7], list(range(100))], ids=str)
def test_cu_seqlens(pack):
    expected = reference.cu_seqlens(pack)
    assert_same(checked(tb.cu_seqlens, pack), expected, np.int32, (len(pack) + 1,))
    assert_same(checked(tb.cu_seqlens, np.array(pack, np.int16)), expected, np.int32)


def test_cu_seqlens_is_torchs_padded_cumsum():
    torch = pytest.importorskip("torch")
    pack = torch.tensor([5, 0, 9, 1], dtype=torch.int32)
    peer = torch.nn.functional.pad(pack.cumsum(0, dtype=torch.int32), (1, 0))
    assert_same(checked(tb.cu_seqlens, pack), peer.tolist(), np.int32)


def test_hostile_17_cu_seqlens_past_int32():
    most = 2**31 - 1
    assert_same(tb.cu_seqlens([most, 0]), [0, most, most], np.int32)
    assert_same(tb.cu_seqlens([most - 1, 1]), [0, most - 1, most], np.int32)
    for bad in ([5, most - 5, 0, 1, 1], [5, most - 5, 0, 2**31], [5, 6, 7, 2**62, 2**62]):
        with fails(OverflowError, "cu_seqlens()", "row 3", bad[3]):
            checked(tb.cu_seqlens, bad)
        with fails(OverflowError, "cu_seqlens()", "row 3"):
            checked(tb.cu_seqlens, np.array(bad))


def test_cu_seqlens_are_of_one_row():
    for bad in ([[1, 2]], np.ones((2, 2), int), tb.Ragged(np.arange(3), [0, 3])):
        with fails(TypeError, "cu_seqlens()"):
            checked(tb.cu_seqlens, bad)


# segment_ids


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", PACKS)
def test_segment_ids(case, side):
    packs = PACKS[case]
    expected = reference.segment_ids(packs, padding_side=side)
    shape = len(packs), longest(packs)
    if packs:
        result = checked(tb.segment_ids, packs, padding_side=side)
        assert_same(result, expected, np.int64, shape)
    for pack in packs:
        expected = reference.segment_ids([pack], padding_side=side)[0]
        result = checked(tb.segment_ids, pack, padding_side=side)
        assert_same(result, expected, np.int64, (sum(pack),))


@given(
    packs=lengths_of_packs,
    more=st.none() | st.integers(0, 9),
    side=st.sampled_from(SIDES),
    multiple=st.none() | st.integers(1, 20),
)
@settings(deadline=None)
def test_segment_ids_property(packs, more, side, multiple):
    width = None if more is None else longest(packs) + more
    options = {"padding_side": side, "pad_to_multiple_of": multiple}
    expected = reference.segment_ids(packs, width, **options)
    shape = len(packs), reference.padded_width(list(map(sum, packs)), width, multiple)
    if packs:
        assert_same(checked(tb.segment_ids, packs, width, **options), expected, np.int64, shape)
        result = checked(tb.segment_ids, packs[0], width, **options)
        expected = reference.segment_ids(packs[:1], width, **options)[0]
        assert_same(result, expected, np.int64)
    rows = tb.Ragged.from_sequences([np.array(pack, np.int32) for pack in packs])
    result = checked(tb.segment_ids, rows, width, **options)
    assert result.tolist() == reference.segment_ids(packs, width, **options)
    assert result.shape == shape


@pytest.mark.parametrize("layout", arrays.LAYOUTS)
@pytest.mark.parametrize("dtype", arrays.INTEGERS, ids=str)
def test_lengths_of_segments_in_every_type_and_layout(dtype, layout):
    pack = arrays.LAYOUTS[layout](np.array([3, 0, 120, 1], dtype))
    expected = reference.segment_ids([pack.tolist()])[0]
    assert_same(checked(tb.segment_ids, pack), expected, np.int64)
    expected = reference.cu_seqlens(pack.tolist())
    assert_same(checked(tb.cu_seqlens, pack), expected, np.int32)
    packs = arrays.LAYOUTS[layout](np.array([[3, 0], [1, 9]], dtype))
    expected = reference.segment_ids(packs.tolist())
    assert_same(checked(tb.segment_ids, packs), expected, np.int64)


def test_lengths_of_segments_in_rows_of_every_kind():
    torch = pytest.importorskip("torch")
    expected = reference.segment_ids([[1, 2], [4]])
    for packs in (
        [[1, 2], [4]],
        ([1, 2], (4,)),
        [np.array([1, 2]), [4]],
        [torch.tensor([1, 2]), torch.tensor([4])],
        np.array([[1, 2], [4]], object),
        [np.array([1, 2], np.uint8), np.array([4], np.uint8)],
    ):
        assert_same(checked(tb.segment_ids, packs), expected, np.int64)
    assert_same(tb.segment_ids(row for row in [[1, 2], [4]]), expected, np.int64)
    for pack in ((1, 2), torch.tensor([1, 2]), [np.int8(1), torch.tensor(2)], b"\1\2"):
        assert_same(checked(tb.segment_ids, pack), [1, 2, 2], np.int64)


def test_segment_ids_are_torchs_repeat_interleave():
    torch = pytest.importorskip("torch")
    lengths = torch.tensor([5, 0, 9, 1])
    peer = torch.repeat_interleave(torch.arange(1, 5), lengths)
    assert_same(checked(tb.segment_ids, lengths), peer.tolist(), np.int64)


def test_a_large_pack_is_written_without_the_gil():
    lengths = np.full(1000, 100)
    np.testing.assert_array_equal(tb.segment_ids(lengths), np.repeat(np.arange(1, 1001), 100))


def test_packs_over_the_width_are_named():
    with fails(ValueError, "segment_ids()", "row 1", 8, 7):
        checked(tb.segment_ids, [[1], [4, 4]], 7)
    with fails(ValueError, "segment_ids()", 8, 7):
        checked(tb.segment_ids, [4, 4], 7, pad_to_multiple_of=16)


@BY_LENGTHS
@pytest.mark.parametrize("case", arrays.NOT_INTEGERS)
def test_what_are_no_lengths(name, case):
    with fails(TypeError, f"{name}()"):
        checked(getattr(tb, name), arrays.NOT_INTEGERS[case])


@BY_LENGTHS
def test_wrong_lengths_are_named(name):
    function = getattr(tb, name)
    with fails(TypeError, f"{name}()", "row 1", "float"):
        checked(function, [1, 2.0])
    for bad in ([3, 1, -1], np.array([3, 1, -1]), np.array([3, 1, -1], np.int8)):
        with fails(ValueError, f"{name}()", "row 2", "-1"):
            checked(function, bad)
    for bad in ([1, True], [1, np.True_], (1, True)):
        with fails(TypeError, f"{name}()", "row 1"):
            checked(function, bad)
    for bad in (np.array([True, False]), [False]):
        with fails(TypeError, f"{name}()", "row 0"):
            checked(function, bad)
    for bad in ([1, 2**63], [1, 2**200]):
        with fails(OverflowError, f"{name}()", "row 1"):
            checked(function, bad)


def test_wrong_lengths_in_rows_are_named():
    with fails(TypeError, "segment_ids()", "row 1", "column 2", "float"):
        checked(tb.segment_ids, [[1], [1, 2, 2.0]])
    with fails(TypeError, "segment_ids()", "row 1", "column 1", "nan"):
        checked(tb.segment_ids, [[1], [1, float("nan")]])
    with fails(ValueError, "segment_ids()", "row 1", "column 1", "-4"):
        checked(tb.segment_ids, [[1, 2], [3, -4]])
    with fails(ValueError, "segment_ids()", "row 1", "column 1", "-4"):
        checked(tb.segment_ids, np.array([[1, 2], [3, -4]]))
    with fails(TypeError, "segment_ids()", "row 1", "column 1", "True"):
        checked(tb.segment_ids, [[1, 2], [3, True]])
    with fails(TypeError, "segment_ids()"):
        checked(tb.segment_ids, np.ones((2, 2), bool))
    with fails(TypeError, "segment_ids()", "row 1"):
        checked(tb.segment_ids, [[1], 2])


def test_hostile_16_lengths_beyond_any_memory():
    for claim in (2**60, 2**62, 2**63 - 1):
        for bad in ([claim, 1], [[claim, 1], [1]], [claim] * 4, np.array([claim] * 4)):
            with pytest.raises((ValueError, MemoryError)):
                checked(tb.segment_ids, bad)
        for option in ({"width": claim}, {"pad_to_multiple_of": claim}):
            with pytest.raises((ValueError, MemoryError)):
                checked(tb.segment_ids, [1, 1], **option)


def test_options_of_segment_ids():
    for size in ("width", "pad_to_multiple_of"):
        for bad in (True, 1.0, "3", [3]):
            with fails(TypeError, "segment_ids()", size):
                checked(tb.segment_ids, [1, 2], **{size: bad})
        with fails(ValueError, "segment_ids()", size):
            checked(tb.segment_ids, [1, 2], **{size: -1})
    with fails(ValueError, "segment_ids()", "padding_side"):
        checked(tb.segment_ids, [1, 2], padding_side="up")
    with pytest.raises(TypeError):
        tb.segment_ids([1], 2, "left")


@BY_LENGTHS
def test_hostile_21_22_23_index_of_a_length_that_acts(name):
    check_lengths_that_act(getattr(tb, name))


def test_positions_of_packs():
    packs = [[3, 0, 2], [1], []]
    assert tb.position_ids(packs, 6).tolist() == [[0, 1, 2, 0, 1, 0], [0] * 6, [0] * 6]
    left = tb.position_ids(packs, padding_side="left", pad_to_multiple_of=4)
    assert left.tolist() == [[0, 0, 0, 0, 1, 2, 0, 1], [0] * 8, [0] * 8]
    assert tb.position_ids(packs, flat=True).tolist() == [0, 1, 2, 0, 1, 0]
    for flat in (False, True):
        with fails(ValueError, "position_ids()", "lengths", "row 0", 5, "width=4"):
            tb.position_ids(packs, 4, flat=flat)
        with fails(ValueError, "position_ids()", "row 1", "column 1", "-2"):
            tb.position_ids([[1], [2, -2]], flat=flat)
    assert tb.position_ids([], flat=True).tolist() == []


@pytest.mark.parametrize("function", [tb.segment_ids, tb.position_ids, tb.segment_mask])
def test_what_lengths_raise_is_raised(function):
    class Lengths:
        @property
        def ndim(self):
            raise LookupError("no dimensions")

        def __len__(self):
            return 1

        def __getitem__(self, i):
            return [2][i]

    with pytest.raises(LookupError, match="no dimensions"):
        function(Lengths())
