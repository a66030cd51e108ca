"""segment_mask against its definition, torch's expression and attention itself."""

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
rows_of_ids = st.integers(0, 24).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(-1, 3), min_size=width, max_size=width), min_size=1, max_size=3
    )
)


def longest(packs):
    return max(map(sum, packs), default=0)


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
    values = {"real": 0.0, "fill": np.finfo(np.float32).min / 4} if additive else {}
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
    additive = torch.zeros(peer.shape).masked_fill(~peer, torch.finfo(torch.float32).min / 4)
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
def test_additive_masks_are_zero_and_a_quarter_of_the_lowest_value(dtype):
    ids = IDS["long"]
    chosen = np.dtype(dtype or np.float32)
    masked = np.finfo(chosen).min / 4
    expected = reference.segment_mask(ids, causal=True, real=0.0, fill=masked)
    result = checked(tb.segment_mask, ids, causal=True, dtype=dtype, additive=True)
    assert_same(result, expected, chosen)


def test_bfloat16_masks():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    torch = pytest.importorskip("torch")
    result = checked(tb.segment_mask, [1, 2], dtype=ml_dtypes.bfloat16, additive=True)
    assert result.dtype == ml_dtypes.bfloat16
    assert result.view(np.uint16).tolist() == [[0, 0xFE7F], [0xFE7F, 0]]
    out = torch.empty(2, 2, dtype=torch.bfloat16)
    tb.segment_mask([1, 2], dtype=torch.bfloat16, additive=True, out=out)
    masked = torch.finfo(torch.bfloat16).min / 4
    assert torch.equal(out, torch.tensor([[0, masked], [masked, 0]], dtype=torch.bfloat16))


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


def test_out_that_is_an_input():
    memory = np.zeros(9, np.int8)
    ids = memory[:3]
    with fails(ValueError, "segment_mask()", "memory", "out"):
        checked(tb.segment_mask, ids, dtype=np.int8, out=memory.reshape(3, 3))
    with fails(ValueError, "segment_mask()", "memory", "out"):
        checked(tb.segment_mask, [ids], dtype=np.int8, out=memory.reshape(1, 3, 3))
    prefix = memory[:1]
    with fails(ValueError, "segment_mask()", "prefix", "memory", "out"):
        checked(tb.segment_mask, [1, 1, 1], prefix=prefix, dtype=np.int8, out=memory.reshape(3, 3))
    assert not memory.any()


@pytest.mark.parametrize("case", arrays.NOT_INTEGERS)
def test_what_are_no_ids(case):
    with fails(TypeError, "segment_mask()"):
        checked(tb.segment_mask, arrays.NOT_INTEGERS[case])


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
