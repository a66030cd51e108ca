"""cu_seqlens, segment_ids and segment_mask against their definitions and torch's expressions."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrays
import reference
import tightbatch as tb
from checks import assert_same, checked, fails

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
NOT_INTEGERS = {
    "none": None,
    "int": 3,
    "str": "12",
    "dict": {1: 2},
    "float_list": [1.0, 2.0],
    "float_item": [1, 2.5],
    "nan": [float("nan")],
    "str_item": [1, "2"],
    "none_item": [1, None],
    "list_item": [1, [2]],
    "complex_item": [1, 2j],
    "float_array": np.array([1.0, 2.0]),
    "str_array": np.array(["1"]),
    "object_array": np.array([1, None], object),
    "datetime_array": np.zeros(2, "M8[s]"),
    "scalar_array": np.array(3),
    "three_dimensions": np.ones((2, 2, 2), int),
}
IDS = {
    "none": [],
    "one": [1],
    "padding": [0, 0, 0],
    "right": [1, 1, 1, 2, 3, 3, 0, 0],
    "left": [0, 0, 1, 1, 1, 2, 3, 3],
    "both": [0, 1, 1, 2, 0, 0, 3, 0],
    "again": [1, 1, 2, 1, 3, 2, 2, 1],
    "any": [7, -3, 7, 2**63 - 1, -(2**63), -3, 0, 7],
    "falling": [3, 3, 2, 2, 2, 1],
    "alternating": [1, 2] * 9,
    "long": [1] * 15 + [2] * 16 + [3] * 17 + [4] * 33 + [0] * 9,
}
RULES = [
    {},
    {"causal": True},
    {"window": 1},
    {"window": 2},
    {"window": 3, "causal": True},
    {"window": 2**62},
    {"window": 2**63 - 1, "causal": True},
]
lengths_of_packs = st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=5)
rows_of_ids = st.integers(0, 24).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(-1, 3), min_size=width, max_size=width), min_size=1, max_size=3
    )
)


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
@pytest.mark.parametrize("case", NOT_INTEGERS)
def test_what_are_no_lengths(name, case):
    with fails(TypeError, f"{name}()"):
        checked(getattr(tb, name), NOT_INTEGERS[case])


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
    function = getattr(tb, name)
    error = LookupError("from __index__")

    class Index:
        def __init__(self, act):
            self.act = act

        def __index__(self):
            self.act()
            return 2

    def act():
        raise error

    with pytest.raises(LookupError) as caught:
        function([1, Index(act)])
    assert caught.value is error
    lengths = [1, Index(lambda: lengths.clear()), *range(10**3)]
    with pytest.raises(RuntimeError):
        function(lengths)
    lengths = [Index(lambda: lengths.append(1))]
    with pytest.raises(RuntimeError):
        function(lengths)


# segment_mask


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("case", IDS)
def test_segment_mask(case, rule):
    ids = IDS[case]
    expected = reference.segment_mask(ids, **rule)
    shape = len(ids), len(ids)
    assert_same(checked(tb.segment_mask, ids, **rule), expected, bool, shape)
    batch = np.array([ids, ids[::-1], ids])
    expected = [reference.segment_mask(row, **rule) for row in batch.tolist()]
    assert_same(checked(tb.segment_mask, batch, **rule), expected, bool, (3, *shape))


@given(
    rows=rows_of_ids,
    causal=st.booleans(),
    window=st.none() | st.integers(1, 26),
    additive=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_segment_mask_property(rows, causal, window, additive):
    rule = {"causal": causal, "window": window}
    values = {"real": 0.0, "fill": np.finfo(np.float32).min} if additive else {}
    expected = [reference.segment_mask(row, **rule, **values) for row in rows]
    result = checked(tb.segment_mask, rows, additive=additive, **rule)
    shape = len(rows), len(rows[0]), len(rows[0])
    assert_same(result, expected, np.float32 if additive else bool, shape)
    assert (result == (0 if additive else 1)).any(axis=2).all()


@given(
    packs=st.lists(st.lists(st.integers(0, 7), max_size=5), min_size=1, max_size=3),
    causal=st.booleans(),
    window=st.none() | st.integers(1, 9),
    prefix=st.data(),
    side=st.sampled_from(SIDES),
)
@settings(max_examples=200, deadline=None)
def test_prefix_property(packs, causal, window, prefix, side):
    ids = tb.segment_ids(packs, longest(packs) + 2, padding_side=side)
    rule = {"causal": causal, "window": window}
    for prefixes in (
        [prefix.draw(st.integers(0, 9))] * len(packs),
        [prefix.draw(st.lists(st.integers(0, 9), min_size=len(p), max_size=9)) for p in packs],
    ):
        chosen = prefixes[0] if isinstance(prefixes[0], int) else prefixes
        rows = zip(ids.tolist(), prefixes, strict=True)
        expected = [reference.segment_mask(row, prefix=own, **rule) for row, own in rows]
        result = checked(tb.segment_mask, ids, prefix=chosen, **rule)
        assert_same(result, expected, bool, (*ids.shape, ids.shape[1]))
        result = checked(tb.segment_mask, ids[0], prefix=prefixes[0], **rule)
        assert_same(result, expected[0], bool, (ids.shape[1],) * 2)


@pytest.mark.parametrize("window", [None, 1, 7, 100])
@pytest.mark.parametrize("causal", [False, True])
def test_segment_mask_is_torchs_expression(causal, window):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(5)
    ids = torch.from_numpy(np.sort(random.integers(0, 9, (3, 90)), axis=1))
    places = torch.arange(90)
    peer = ids[:, :, None] == ids[:, None, :]
    if causal:
        peer &= torch.ones(90, 90, dtype=torch.bool).tril()
    if window is not None:
        peer &= (places[:, None] - places[None, :]).abs() < window
    for source in (ids, ids.int(), ids.numpy(), ids.tolist()):
        result = checked(tb.segment_mask, source, causal=causal, window=window)
        np.testing.assert_array_equal(result, peer.numpy())
    additive = torch.zeros(peer.shape).masked_fill(~peer, torch.finfo(torch.float32).min)
    result = checked(tb.segment_mask, ids, causal=causal, window=window, additive=True)
    np.testing.assert_array_equal(result, additive.numpy())


@pytest.mark.parametrize("window", [1, 3, 8])
def test_windows_are_those_of_transformers(window):
    masking = pytest.importorskip("transformers.masking_utils")
    torch = pytest.importorskip("torch")
    inside = masking.sliding_window_overlay(window)
    query, key = torch.arange(12)[:, None], torch.arange(12)[None, :]
    peer = (inside(0, 0, query, key) & (key <= query)).numpy()
    result = tb.segment_mask(np.ones(12, int), causal=True, window=window)
    np.testing.assert_array_equal(result, peer)


@pytest.mark.parametrize("dtype", arrays.DTYPES + arrays.ML_DTYPES, ids=str)
def test_segment_masks_of_every_type(dtype):
    ids = IDS["long"]
    expected = reference.segment_mask(ids, causal=True, real=1, fill=0)
    assert_same(checked(tb.segment_mask, ids, causal=True, dtype=dtype), expected, dtype)


@pytest.mark.parametrize("dtype", [None, "float16", "float32", "float64"])
def test_additive_masks_are_zero_and_the_lowest_finite_value(dtype):
    ids = IDS["long"]
    chosen = np.dtype(dtype or np.float32)
    lowest = np.finfo(chosen).min
    expected = reference.segment_mask(ids, causal=True, real=0.0, fill=lowest)
    result = checked(tb.segment_mask, ids, causal=True, dtype=dtype, additive=True)
    assert_same(result, expected, chosen)


def test_bfloat16_masks():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    torch = pytest.importorskip("torch")
    result = checked(tb.segment_mask, [1, 2], dtype=ml_dtypes.bfloat16, additive=True)
    assert result.dtype == ml_dtypes.bfloat16
    assert result.view(np.uint16).tolist() == [[0, 0xFF7F], [0xFF7F, 0]]
    out = torch.empty(2, 2, dtype=torch.bfloat16)
    tb.segment_mask([1, 2], dtype=torch.bfloat16, additive=True, out=out)
    lowest = torch.finfo(torch.bfloat16).min
    assert torch.equal(out, torch.tensor([[0, lowest], [lowest, 0]], dtype=torch.bfloat16))


@pytest.mark.parametrize("layout", arrays.LAYOUTS)
@pytest.mark.parametrize("dtype", arrays.INTEGERS, ids=str)
def test_ids_in_every_type_and_layout(dtype, layout):
    ids = arrays.LAYOUTS[layout](np.array([[1, 1, 2, 3, 0], [4, 9, 9, 9, 9]], dtype))
    expected = [reference.segment_mask(row, causal=True) for row in ids.tolist()]
    assert_same(checked(tb.segment_mask, ids, causal=True), expected, bool)


def test_ids_in_rows_of_every_kind():
    torch = pytest.importorskip("torch")
    rows = [[1, 1, 2], [0, 5, 5]]
    expected = [reference.segment_mask(row) for row in rows]
    for ids in (
        rows,
        tuple(map(tuple, rows)),
        [np.array(row) for row in rows],
        torch.tensor(rows),
        tb.Ragged.from_sequences(rows),
        [torch.tensor(row) for row in rows],
    ):
        assert_same(checked(tb.segment_mask, ids), expected, bool)
    assert tb.segment_mask(np.zeros((0, 4), int)).shape == (0, 0, 0)
    assert tb.segment_mask(np.zeros((3, 0), int)).shape == (3, 0, 0)


def test_a_softmax_over_padding_is_no_nan():
    torch = pytest.importorskip("torch")
    ids = tb.segment_ids([[3, 2], [1]])
    mask = torch.from_numpy(tb.segment_mask(ids, causal=True, additive=True))
    assert bool(torch.isfinite(torch.softmax(mask, dim=-1)).all())
    query = torch.randn(2, 1, 5, 8, generator=torch.Generator().manual_seed(0))
    attended = torch.nn.functional.scaled_dot_product_attention(
        query, query, query, attn_mask=mask[:, None]
    )
    assert bool(torch.isfinite(attended).all())


def test_packed_attention_is_attention_of_each_alone():
    torch = pytest.importorskip("torch")
    lengths = [5, 0, 1, 9]
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, sum(lengths), 16, generator=generator)
    attention = torch.nn.functional.scaled_dot_product_attention
    mask = torch.from_numpy(tb.segment_mask(tb.segment_ids(lengths), causal=True))
    packed = attention(query, key, value, attn_mask=mask)
    edges = tb.cu_seqlens(lengths).tolist()
    for begin, end in pairwise(edges):
        if begin < end:
            own = [part[:, :, begin:end] for part in (query, key, value)]
            alone = attention(*own, is_causal=True)
            torch.testing.assert_close(packed[:, :, begin:end], alone)


def test_segment_masks_into_out():
    torch = pytest.importorskip("torch")
    ids = np.array([[1, 1, 2], [1, 0, 0]])
    expected = tb.segment_mask(ids, causal=True)
    out = np.ones((2, 3, 3), bool)
    assert tb.segment_mask(ids, causal=True, out=out) is out
    np.testing.assert_array_equal(out, expected)
    out = torch.ones(2, 3, 3, dtype=torch.bool)
    assert tb.segment_mask(ids, causal=True, out=out) is out
    np.testing.assert_array_equal(out.numpy(), expected)
    out = np.ones((3, 3), np.float32)
    assert tb.segment_mask(ids[0], additive=True, out=out) is out
    assert_same(out, tb.segment_mask(ids[0], additive=True), np.float32)


def test_out_that_cannot_take_the_mask():
    ids = np.array([[1, 1, 2]])
    read_only = np.ones((1, 3, 3), bool)
    read_only.flags.writeable = False
    for bad in (
        np.ones((3, 3), bool),
        np.ones((1, 3, 4), bool),
        np.ones((1, 3, 3), np.uint8),
        np.ones((1, 3, 6), bool)[:, :, ::2],
        read_only,
    ):
        before = bad.copy()
        with fails(ValueError, "segment_mask()", "out"):
            checked(tb.segment_mask, ids, out=bad)
        np.testing.assert_array_equal(bad, before)
    for bad in ([[[True]]], "out", np.ma.ones((1, 3, 3), bool)):
        with fails(TypeError, "segment_mask()", "out"):
            checked(tb.segment_mask, ids, out=bad)


def test_out_that_is_the_ids():
    memory = np.zeros(9, np.int8)
    ids = memory[:3]
    with fails(ValueError, "segment_mask()", "memory", "out"):
        checked(tb.segment_mask, ids, dtype=np.int8, out=memory.reshape(3, 3))
    with fails(ValueError, "segment_mask()", "memory", "out"):
        checked(tb.segment_mask, [ids], dtype=np.int8, out=memory.reshape(1, 3, 3))
    assert not memory.any()


@pytest.mark.parametrize("case", NOT_INTEGERS)
def test_what_are_no_ids(case):
    with fails(TypeError, "segment_mask()"):
        checked(tb.segment_mask, NOT_INTEGERS[case])


def test_wrong_ids_are_named():
    with fails(TypeError, "segment_mask()", "row 1", "column 1", "float"):
        checked(tb.segment_mask, [[1, 2], [1, 2.5]])
    with fails(ValueError, "segment_mask()", "row 1", 1, 2):
        checked(tb.segment_mask, [[1, 2], [1]])
    with fails(OverflowError, "segment_mask()", "column 1"):
        checked(tb.segment_mask, [1, 2**63])


def test_ids_that_have_no_prefix_are_named():
    for prefix in (0, 2, [1, 1], [[1, 1], [1, 1]]):
        ids = [[1, 1, 2, 2], [1, 2, 2, 1]]
        given = ids[1] if isinstance(prefix, list) and prefix[0] == 1 else ids
        row = "row 0" if given is ids[1] else "row 1"
        out = np.ones((2, 4, 4), bool) if given is ids else None
        with fails(ValueError, "segment_mask()", row, "column 3", "id 1"):
            checked(tb.segment_mask, given, prefix=prefix, out=out)
        assert out is None or out.all()
    assert tb.segment_mask([0, 1, 0, 2, 0], prefix=1).shape == (5, 5)
    with fails(ValueError, "segment_mask()", "row 1", "column 2", "id 3"):
        checked(tb.segment_mask, [[1, 1, 2], [1, 2, 3]], prefix=[[1, 1], [1, 1]])
    with fails(ValueError, "segment_mask()", "row 0", "column 0", "id -1"):
        checked(tb.segment_mask, [-1, 1], prefix=[1])


def test_prefixes_of_the_wrong_kind():
    ids = [[1, 1], [1, 2]]
    for bad in (1.5, True, "2", np.float32(1), np.array(1.0)):
        with fails(TypeError, "segment_mask()", "prefix"):
            checked(tb.segment_mask, ids, prefix=bad)
    for bad in ([[1.0], [1, 1]], [[True], [1, 1]], {1: 2}):
        with fails(TypeError, "segment_mask()", "prefix"):
            checked(tb.segment_mask, ids, prefix=bad)
    for bad in (-1, [1, 1], [[1]], [[1], [1], [1]], [[1], [1, -1]]):
        with fails(ValueError, "segment_mask()", "prefix"):
            checked(tb.segment_mask, ids, prefix=bad)
    with fails(ValueError, "segment_mask()", "prefix"):
        checked(tb.segment_mask, ids[0], prefix=[[1]])
    for good in (np.int8(1), np.array(1), 2**63 - 1):
        assert tb.segment_mask(ids, prefix=good).shape == (2, 2, 2)


def test_options_of_segment_masks():
    for bad in (True, 1.0, "3", [3]):
        with fails(TypeError, "segment_mask()", "window"):
            checked(tb.segment_mask, [1, 2], window=bad)
    for bad in (0, -1):
        with fails(ValueError, "segment_mask()", "window"):
            checked(tb.segment_mask, [1, 2], window=bad)
    for bad in ("complex64", "O", "U3", "M8[s]", "nonsense"):
        with fails(TypeError, "segment_mask()"):
            checked(tb.segment_mask, [1, 2], dtype=bad)
    with fails(TypeError, "segment_mask()", "additive"):
        checked(tb.segment_mask, [1, 2], dtype="int64", additive=True)
    with pytest.raises(TypeError):
        tb.segment_mask([1], True)


def test_a_large_mask_is_written_without_the_gil():
    ids = np.repeat(np.arange(1, 11), 50)[None].repeat(3, axis=0)
    expected = (ids[:, :, None] == ids[:, None, :]) & np.tri(500, dtype=bool)
    np.testing.assert_array_equal(tb.segment_mask(ids, causal=True), expected)


def test_hostile_16_ids_too_many_for_a_mask():
    ids = np.broadcast_to(np.ones(1, np.int8), (2**22,))
    with pytest.raises((ValueError, MemoryError)):
        tb.segment_mask(ids, dtype=np.float64)
