"""block_mask against its definition, torch's create_block_mask and attention itself."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
import tightbatch as tb
from checks import assert_same, checked, fails

RULES = [
    {},
    {"causal": False},
    {"window": 5},
    {"window": 5, "causal": False},
    {"window": 1},
    {"window": 2**63 - 1, "causal": False},
]
# Lengths that are multiples of the block and others, empty segments, many in one block and one
# over many; tails.
CASES = {
    "empty": ([], None),
    "no_tokens": ([0, 0], None),
    "tail_alone": ([], 21),
    "one": ([1], None),
    "one_block": ([8], None),
    "multiples": ([8, 16, 8], None),
    "others": ([3, 9, 0, 0, 21, 1, 1, 1, 7], None),
    "tail": ([3, 9], 40),
    "tail_of_a_block": ([8], 16),
    "cut_block": ([30, 4], 43),
    "long": ([100], 101),
    "many": ([1] * 50, 64),
    "packs": ([[3, 9, 20], [], [32], [0, 1, 0, 31], [5, 5, 5]], None),
    "packs_with_tails": ([[3, 9, 20], [40], [0, 0]], 43),
    "no_packs": ([[]], None),
}


def ids_of(lengths, total):
    """The ids of each pack; its tail has 0, which is a segment too."""
    packs = lengths if lengths and isinstance(lengths[0], list) else [lengths]
    total = max(map(sum, packs)) if total is None else total
    return reference.segment_ids(packs, total)


def assert_blocks(result, expected_of_packs, shape):
    parts = ["kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"]
    assert len(result) == len(parts)
    for place, array in enumerate(result):
        expected = [[pack[place // 2][place % 2]] for pack in expected_of_packs]
        assert_same(array, expected, np.int32, shape[: 3 + place % 2])


def reference_blocks(lengths, total, size, rule):
    query_size, key_size = size if isinstance(size, tuple) else (size, size)
    ids = ids_of(lengths, total)
    rule = {"causal": True, **rule}
    masks = [reference.segment_mask(row, **rule) for row in ids]
    blocks = [reference.block_mask(mask, query_size, key_size) for mask in masks]
    shape = len(ids), 1, -(-len(ids[0]) // query_size), -(-len(ids[0]) // key_size)
    return blocks, shape


def torch_blocks(torch, lengths, total, size, rule):
    from torch.nn.attention.flex_attention import create_block_mask

    ids = torch.tensor(ids_of(lengths, total))
    causal, window = rule.get("causal", True), rule.get("window")

    def mask_mod(b, h, query, key):
        seen = ids[b, query] == ids[b, key]
        if causal:
            seen = seen & (query >= key)
        if window is not None:
            seen = seen & ((query - key).abs() < window)
        return seen

    width = ids.shape[1]
    mask = create_block_mask(mask_mod, len(ids), None, width, width, "cpu", size)
    return mask, mask_mod


def assert_equals_torch(torch, result, mask):
    peers = (
        mask.kv_num_blocks,
        mask.kv_indices,
        mask.full_kv_num_blocks,
        mask.full_kv_indices,
    )
    for array, peer in zip(result, peers, strict=True):
        assert peer.dtype == torch.int32
        assert array.shape == tuple(peer.shape)
        np.testing.assert_array_equal(array, peer.numpy())


@pytest.mark.parametrize("size", [1, 8, (8, 4), (4, 8), (3, 7), 128], ids=str)
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_block_mask(case, rule, size):
    lengths, total = CASES[case]
    expected, shape = reference_blocks(lengths, total, size, rule)
    result = checked(tb.block_mask, lengths, block_size=size, width=total, **rule)
    assert_blocks(result, expected, shape)


@given(
    packs=st.lists(st.lists(st.integers(0, 30), max_size=8), min_size=1, max_size=3),
    more=st.none() | st.integers(0, 20),
    size=st.integers(1, 20) | st.tuples(st.integers(1, 20), st.integers(1, 20)),
    causal=st.booleans(),
    window=st.none() | st.integers(1, 60),
)
@settings(max_examples=200, deadline=None)
def test_block_mask_property(packs, more, size, causal, window):
    rule = {"causal": causal, "window": window}
    total = None if more is None else max(map(sum, packs)) + more
    expected, shape = reference_blocks(packs, total, size, rule)
    result = checked(tb.block_mask, packs, block_size=size, width=total, **rule)
    assert_blocks(result, expected, shape)


@pytest.mark.parametrize("seed", range(40))
def test_block_mask_is_torchs_create_block_mask(seed):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.nn.attention.flex_attention")
    random = np.random.default_rng(seed)
    size = [128, 16, (16, 8), (8, 16), 7][seed % 5]
    longest = 300 if size == 128 else 60
    packs = [
        (random.integers(0, longest, random.integers(1, 9)) * random.integers(0, 2, 1)).tolist()
        if seed % 3 == 0
        else random.integers(0, longest, random.integers(1, 9)).tolist()
        for _ in range(random.integers(1, 4))
    ]
    most = max(map(sum, packs))
    total = None if seed % 2 and most > 0 else most + int(random.integers(1, longest))
    rule = {"causal": bool(random.integers(0, 3))}
    if random.integers(0, 2):
        rule["window"] = int(random.integers(1, 2 * longest))
    mask, _ = torch_blocks(torch, packs, total, size, rule)
    result = checked(tb.block_mask, packs, block_size=size, width=total, **rule)
    assert_equals_torch(torch, result, mask)
    if len(packs) == 1:
        result = tb.block_mask(packs[0], block_size=size, width=total, **rule)
        assert_equals_torch(torch, result, mask)


def test_no_tokens_are_torchs_too():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.nn.attention.flex_attention")
    mask, _ = torch_blocks(torch, [], None, 128, {})
    assert_equals_torch(torch, tb.block_mask([]), mask)


def attention_problem(torch, flex, rule):
    """Inputs of flex_attention with our blocks, and what dense attention makes of them."""
    packs, total = [[200, 0, 130, 100], [1, 300]], 512
    _, mask_mod = torch_blocks(torch, packs, total, 128, rule)
    blocks = map(torch.from_numpy, tb.block_mask(packs, width=total, **rule))
    mask = flex.BlockMask.from_kv_blocks(
        *blocks, BLOCK_SIZE=128, mask_mod=mask_mod, seq_lengths=(total, total)
    )
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 2, 2, total, 16, generator=generator)
    dense = tb.segment_mask(tb.segment_ids(packs, total), **{"causal": True, **rule})
    attention = torch.nn.functional.scaled_dot_product_attention
    return inputs, mask, attention(*inputs, attn_mask=torch.from_numpy(dense)[:, None])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("rule", [{}, {"window": 100}, {"causal": False}], ids=str)
def test_flex_attention_with_these_blocks_is_attention(rule):
    torch = pytest.importorskip("torch")
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    inputs, mask, expected = attention_problem(torch, flex, rule)
    result = flex.flex_attention(*inputs, block_mask=mask)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(
    os.environ.get("TIGHTBATCH_SANITIZED") == "1",
    reason="the compiler would run under the sanitizers too",
)
def test_compiled_flex_attention_skips_what_these_blocks_leave_out():
    """The one that goes by the blocks; eager flex_attention goes by mask_mod alone."""
    torch = pytest.importorskip("torch")
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    inputs, mask, expected = attention_problem(torch, flex, {})
    try:
        result = torch.compile(flex.flex_attention)(*inputs, block_mask=mask)
    except Exception as error:
        pytest.skip(f"no compiled flex_attention on this machine: {error!r:.200}")
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_lengths_in_rows_of_every_kind():
    torch = pytest.importorskip("torch")
    expected = tb.block_mask([[20, 3], [9]], block_size=4)
    for packs in (
        [np.array([20, 3], np.uint8), np.array([9], np.uint8)],
        tb.Ragged.from_sequences([[20, 3], [9]]),
        [torch.tensor([20, 3]), torch.tensor([9])],
        np.array([[20, 3], [9, 0]]),
    ):
        for array, same in zip(tb.block_mask(packs, block_size=4), expected, strict=True):
            np.testing.assert_array_equal(array, same)


def test_blocks_of_a_long_pack():
    """Far too long for a mask: the answer is known where one segment is all."""
    total = 2**20
    counts, numbers, full_counts, full_numbers = tb.block_mask([total], block_size=2**12)
    places = np.arange(256)
    assert (counts == 1).all()
    np.testing.assert_array_equal(numbers[0, 0, :, 0], places)
    np.testing.assert_array_equal(full_counts[0, 0], places)
    np.testing.assert_array_equal(full_numbers[0, 0], np.tile(places, (256, 1)))


def test_wrong_lengths_are_named():
    with fails(TypeError, "block_mask()", "row 1", "float"):
        checked(tb.block_mask, [1, 2.0])
    with fails(TypeError, "block_mask()", "row 1", "column 0", "nan"):
        checked(tb.block_mask, [[1], [float("nan")]])
    with fails(TypeError, "block_mask()", "row 1", "True"):
        checked(tb.block_mask, [1, True])
    with fails(ValueError, "block_mask()", "row 1", "-2"):
        checked(tb.block_mask, [1, -2])
    with fails(ValueError, "block_mask()", "row 1", "column 1", "-2"):
        checked(tb.block_mask, [[1, 1], [1, -2]])
    for bad in (None, 3, "12", [[[1]]], {1: 2}, np.ones((1, 1, 1), int), np.array([1.5])):
        with fails(TypeError, "block_mask()"):
            checked(tb.block_mask, bad)
    for bad in ([2**63 - 1] * 2, [[1], [2**62, 2**62]]):
        with fails(ValueError, "block_mask()"):
            checked(tb.block_mask, bad)


def test_packs_over_the_total_are_named():
    with fails(ValueError, "block_mask()", 3, "width=2"):
        checked(tb.block_mask, [1, 2], width=2)
    with fails(ValueError, "block_mask()", "row 1", 6, "width=5"):
        checked(tb.block_mask, [[5], [5, 1]], width=5)


def test_totals_past_int32():
    for bad in ([2**31], [2**30, 2**30], [[1], [2**31 - 1, 1]]):
        with fails(OverflowError, "block_mask()", 2**31):
            checked(tb.block_mask, bad, block_size=2**20)
    for bad in (2**31, 2**62, 2**63):
        with fails(OverflowError, "block_mask()", bad):
            checked(tb.block_mask, [1], width=bad)
    counts, _, full_counts, _ = tb.block_mask([2**31 - 1], block_size=2**30)
    assert (counts.tolist(), full_counts.tolist()) == ([[[1, 2]]], [[[0, 0]]])
    for size in (2**31, 2**62, 2**63 - 1):
        assert tb.block_mask([2**31 - 1], block_size=size)[1].tolist() == [[[[0]]]]
    with pytest.raises((ValueError, MemoryError)):
        checked(tb.block_mask, [2**31 - 1], block_size=1)


def test_options_of_block_masks():
    for name in ("block_size", "window", "width"):
        for bad in (True, 1.0, "3", np.ones(1)):
            with fails(TypeError, "block_mask()", name):
                checked(tb.block_mask, [1, 2], **{name: bad})
        with fails(ValueError, "block_mask()", name):
            checked(tb.block_mask, [1, 2], **{name: -1})
    for bad in (0, (0, 1), (1, 0), (1,), (1, 2, 3), ()):
        with fails(ValueError, "block_mask()", "block_size"):
            checked(tb.block_mask, [1, 2], block_size=bad)
    for bad in (None, (None, 1), (1, 2.0), ((1, 1), 1)):
        with fails(TypeError, "block_mask()", "block_size"):
            checked(tb.block_mask, [1, 2], block_size=bad)
    with fails(ValueError, "block_mask()", "window"):
        checked(tb.block_mask, [1, 2], window=0)
    with pytest.raises(TypeError):
        tb.block_mask([1], 128)


def test_masks_beyond_any_memory_and_beyond_all_addresses():
    most = 2**31 - 1
    for block_size in ((1, 2**11), (2**11, 1)):  # 2**51 blocks a pack can be counted, not held
        with pytest.raises(MemoryError):
            tb.block_mask([[5], [6]], block_size=block_size, width=most)
    for block_size, shape in (((1, 2), (most, 2**30)), ((2, 1), (2**30, most))):
        text = f"3 masks of {shape[0]} by {shape[1]} blocks"
        with fails(ValueError, "block_mask()", text, "block_size="):
            tb.block_mask([[5], [6], []], block_size=block_size, width=most)
