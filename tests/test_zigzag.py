"""context_parallel and shard_batch: the shares that Megatron-LM and torch expect, and the loss."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb
from tightbatch import _core

segments = st.lists(st.integers(0, 40), max_size=6)


def chunks_of(lengths, num_ranks, rank):
    """The definition: the tokens of chunks rank and 2 * num_ranks - 1 - rank of each."""
    found, begin = [], 0
    for length in lengths:
        size = -(-length // (2 * num_ranks))
        for chunk in (rank, 2 * num_ranks - 1 - rank):
            found += range(begin + chunk * size, begin + (chunk + 1) * size)
        begin += 2 * num_ranks * size
    return found


def partitioned_indices(cu_seqlens_padded, num_ranks, rank):
    """What TransformerEngine's thd_get_partitioned_indices gives, token by token.

    The arithmetic of its kernel: boundaries are divided by the ranks; the first half of a share of
    a segment is moved by `rank` halves, the second by 2 * (num_ranks - 1) - rank.
    """
    own = np.asarray(cu_seqlens_padded) // num_ranks
    found = []
    for token in range(own[-1]):
        segment = int(np.searchsorted(own, token, side="right")) - 1
        half = (own[segment + 1] - own[segment]) // 2
        place = token - own[segment]
        moved = rank if place < half else (num_ranks - 1) * 2 - rank
        found.append(place + own[segment] * num_ranks + half * moved)
    return found


@settings(max_examples=80, deadline=None)
@given(segments, st.integers(1, 5))
def test_shares_are_the_chunks(lengths, num_ranks):
    shares = tb.context_parallel(lengths, num_ranks)
    places = [shares.indices(rank).tolist() for rank in range(num_ranks)]
    padded = [-(-length // (2 * num_ranks)) * 2 * num_ranks for length in lengths]
    assert shares.padded_lengths.tolist() == padded
    assert sorted(itertools.chain(*places)) == list(range(sum(padded)))
    positions = [p for length in padded for p in range(length)]
    for rank in range(num_ranks):
        assert places[rank] == chunks_of(lengths, num_ranks, rank)
        assert places[rank] == partitioned_indices(shares.cu_seqlens_padded, num_ranks, rank)
        assert shares.position_ids(rank).tolist() == [positions[place] for place in places[rank]]
    assert shares.rank_cu_seqlens.tolist() == (shares.cu_seqlens_padded // num_ranks).tolist()
    assert shares.cu_seqlens.tolist() == np.cumsum([0, *lengths]).tolist()


@settings(max_examples=60, deadline=None)
@given(segments, st.integers(1, 4), st.sampled_from(["int64", "uint8", "float32", "bool", "2d"]))
def test_what_is_sharded_comes_back(lengths, num_ranks, kind):
    shares = tb.context_parallel(lengths, num_ranks)
    rng = np.random.default_rng(0)
    shape = (shares.total, 3) if kind == "2d" else shares.total
    values = rng.integers(0, 2, shape).astype("int32" if kind == "2d" else kind)
    padded = np.ones((shares.padded_total, *values.shape[1:]), values.dtype)
    begins = np.cumsum(shares.padded_lengths) - shares.padded_lengths
    ends = np.cumsum(shares.lengths)
    for begin, end, length in zip(begins, ends, lengths, strict=True):
        padded[begin : begin + length] = values[end - length : end]
    parts = [shares.shard(values, rank, padding_value=1) for rank in range(num_ranks)]
    for rank, part in enumerate(parts):
        assert part.dtype == values.dtype
        assert np.array_equal(part, padded[shares.indices(rank)])
        assert np.array_equal(part, shares.shard(padded, rank))
    assert np.array_equal(shares.restore(parts), values)
    assert np.array_equal(shares.restore(tuple(parts), padded=True), padded)


def test_megatrons_batch_of_one_width():
    """get_batch_on_this_cp_rank: view as 2 * cp_size chunks, select two, view as one again."""
    torch = pytest.importorskip("torch")
    ids = torch.arange(2 * 24).reshape(2, 24)
    for cp_size in (1, 2, 3):
        shares = tb.context_parallel([24], cp_size, pad=False)
        for rank in range(cp_size):
            view = ids.view(2, 2 * cp_size, 24 // (2 * cp_size))
            index = torch.tensor([rank, 2 * cp_size - rank - 1])
            expected = view.index_select(1, index).reshape(2, -1)
            assert torch.equal(ids[:, shares.indices(rank)], expected)


def test_torchs_load_balancers():
    torch = pytest.importorskip("torch")
    balancers = pytest.importorskip(
        "torch.distributed.tensor.experimental._context_parallel._load_balancer"
    )
    for ranks in (1, 2, 4):
        head_tail = balancers._HeadTailLoadBalancer(48, ranks, "cpu")
        shares = tb.context_parallel([48], ranks, pad=False)
        ours = np.concatenate([shares.indices(rank) for rank in range(ranks)])
        assert head_tail._generate_indices()[0].tolist() == ours.tolist()
        back = head_tail._generate_indices(restore=True)[0]
        joined = torch.cat([shares.shard(torch.arange(48), rank) for rank in range(ranks)])
        assert torch.equal(joined[back], shares.restore(list(joined.chunk(ranks))))
        # By document torch gives the shares of one document after another, not rank by rank.
        lengths = [8, 16, 24]
        by_document = balancers._PerDocumentHeadTailLoadBalancer([lengths], ranks, "cpu")
        shares = tb.context_parallel(lengths, ranks, pad=False)
        edges = shares.rank_cu_seqlens
        own = [
            shares.indices(rank)[edges[document] : edges[document + 1]]
            for document in range(3)
            for rank in range(ranks)
        ]
        assert by_document._generate_indices()[0].tolist() == np.concatenate(own).tolist()


def test_tensors_keep_type_and_gradients():
    torch = pytest.importorskip("torch")
    shares = tb.context_parallel([5, 0, 3], 2)
    for dtype in (torch.bfloat16, torch.int32, torch.bool, torch.float64):
        values = torch.arange(8).remainder(2).to(dtype)
        parts = [shares.shard(values, rank) for rank in range(2)]
        assert all(part.dtype == dtype and part.shape == (6,) for part in parts)
        assert torch.equal(shares.restore(parts), values)
    hidden = torch.randn(8, 4, requires_grad=True)
    parts = [shares.shard(hidden, rank) for rank in range(2)]
    shares.restore(parts).pow(2).sum().backward()
    assert torch.allclose(hidden.grad, 2 * hidden)
    rows = tb.Ragged.from_sequences([[1, 2, 3, 4, 5], [], [6, 7, 8]])
    assert shares.shard(rows, 0).tolist() == [1, 2, 0, 0, 6, 0]
    assert shares.shard(rows[::-1][::-1], 1).tolist() == [3, 4, 5, 0, 7, 8]
    with pytest.raises(ValueError, match="is a Ragged of other lengths"):
        shares.shard(rows[::-1], 0)


@settings(max_examples=60, deadline=None)
@given(segments, st.integers(1, 4))
def test_labels_are_shifted_before_they_are_shared_out(lengths, num_ranks):
    shares = tb.context_parallel(lengths, num_ranks)
    labels = np.arange(shares.total) + 1
    ends = np.cumsum(lengths).tolist()
    expected = np.append(labels[1:], -100)[: shares.total]
    expected[[end - 1 for end, length in zip(ends, lengths, strict=True) if length]] = -100
    parts = [shares.shard_labels(labels, rank) for rank in range(num_ranks)]
    assert shares.restore(parts).tolist() == expected.tolist()
    padded = shares.restore([shares.shard(labels, rank) for rank in range(num_ranks)], padded=True)
    for rank in range(num_ranks):
        assert np.array_equal(shares.shard_labels(padded, rank), parts[rank])


SAMPLES = [{"input_ids": list(range(1, 1 + length))} for length in (7, 3, 8, 1)]
NAMINGS = ["transformers", "flash_attn", "varlen_attn", "megatron"]


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("multiple", [None, 4])
def test_shares_of_a_batch(naming, multiple):
    collate = tb.PaddingFreeCollator(
        naming=naming, segment_multiple_of=multiple, return_tensors="np", return_num_items=True
    )
    batch = collate(SAMPLES)
    parts = [tb.shard_batch(batch, 2, rank) for rank in range(2)]
    whole = tb.PaddingFreeCollator(
        naming=naming, segment_multiple_of=4, return_tensors="np", shift_labels=True
    )(SAMPLES)
    shares = tb.context_parallel([8, 4, 8, 4], 2)
    for key in ("input_ids", "labels", "shift_labels", "position_ids", "seq_idx"):
        if key == "seq_idx" and key not in batch:
            continue
        joined = shares.restore([part[key][0] for part in parts], padded=True)
        assert joined.tolist() == whole[key][0].tolist(), key
        assert parts[0][key].dtype == whole[key].dtype
    for part in parts:
        assert isinstance(part, tb.Batch)
        assert part["rank_cu_seqlens"].tolist() == [0, 4, 6, 10, 12]
        assert part["num_items_in_batch"] == batch["num_items_in_batch"]
        for key in part:
            if key.startswith(("cu_seq", "max_")) and not (
                naming == "megatron"
                and multiple is None
                and key in ("cu_seqlens_q", "cu_seqlens_kv")
            ):
                assert np.array_equal(part[key], whole[key]), key


def test_losses_of_ranks_add_up():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    torch.manual_seed(0)
    embed, head = torch.nn.Embedding(30, 8).double(), torch.nn.Linear(8, 30).double()
    batch = tb.PaddingFreeCollator(return_num_items=True)(SAMPLES)
    logits = head(embed(batch["input_ids"]))
    whole = functional.cross_entropy(
        logits[0, :-1], batch["labels"][0, 1:], ignore_index=-100, reduction="sum"
    )
    expected = whole / batch["num_items_in_batch"]
    expected.backward()
    gradient, found = head.weight.grad.clone(), 0.0
    head.zero_grad()
    naive = 0.0
    for rank in range(2):
        share = tb.shard_batch(batch, 2, rank)
        logits = head(embed(share["input_ids"]))
        loss = functional.cross_entropy(
            logits[0], share["shift_labels"][0], ignore_index=-100, reduction="sum"
        )
        loss = loss / share["num_items_in_batch"]
        loss.backward()
        found += loss.item()
        naive += functional.cross_entropy(
            logits[0, :-1], share["labels"][0, 1:], ignore_index=-100, reduction="sum"
        ).item() / int(batch["num_items_in_batch"])
    assert found == pytest.approx(expected.item(), rel=1e-12)
    assert torch.allclose(head.weight.grad, gradient, rtol=1e-10)
    assert naive != pytest.approx(expected.item(), rel=1e-3)  # the trap


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tb.context_parallel([4, -1], 2), ValueError, "lengths, row 1: length -1 is neg"),
        (lambda: tb.context_parallel([2**63 - 1], 2), OverflowError, "lengths, row 0: with length"),
        (lambda: tb.context_parallel([2**62, 2**62], 1), OverflowError, "lengths, row 1"),
        (lambda: tb.context_parallel([4], 2**62), OverflowError, "num_ranks=4611686018427387904"),
        (lambda: tb.context_parallel([4], 0), ValueError, "num_ranks=0"),
        (lambda: tb.context_parallel([4], True), TypeError, "num_ranks=True"),
        (lambda: tb.context_parallel([4.0], 2), TypeError, "lengths"),
        (lambda: tb.context_parallel([True], 2), TypeError, "lengths"),
        (
            lambda: tb.context_parallel([4, 6], 2, pad=False),
            ValueError,
            "row 1: length 6 is no multiple of 4, 2 * num_ranks; pass pad=True, or segment_mult",
        ),
        (lambda: tb.context_parallel([4], 2).indices(2), ValueError, "rank=2"),
        (lambda: tb.context_parallel([4], 2).position_ids(-1), ValueError, "rank=-1"),
        (
            lambda: four().shard(np.arange(5), 0),
            ValueError,
            "values has shape (5,); expected 4 tokens",
        ),
        (lambda: four().shard([1, 2, 3, 4], 0), TypeError, "expected a Ragged, an array"),
        (
            lambda: three().shard(np.uint8([1, 2, 3]), 0, padding_value=300),
            ValueError,
            "padding_value=300 does",
        ),
        (
            lambda: three().shard(np.arange(3), 0, padding_value=0.5),
            ValueError,
            "padding_value=0.5 does",
        ),
        (
            lambda: three().shard(np.arange(3), 0, padding_value=np.nan),
            ValueError,
            "padding_value=nan",
        ),
        (
            lambda: three().shard(np.ones(3, "f2"), 0, padding_value=1e9),
            ValueError,
            "1000000000.0 do",
        ),
        (
            lambda: three().shard(np.arange(3), 0, padding_value="0"),
            TypeError,
            "padding_value='0' (str)",
        ),
        (lambda: four().restore([np.arange(2)]), ValueError, "shares has 1 item, expected 2"),
        (lambda: four().restore(3), TypeError, "shares=3 (int)"),
        (
            lambda: four().restore([np.arange(2), np.arange(3)]),
            ValueError,
            "shares[1] has shape (3,)",
        ),
        (
            lambda: four().restore([np.arange(2), np.zeros(2)]),
            TypeError,
            "shares[1] has type float64",
        ),
        (lambda: tb.shard_batch([1], 2, 0), TypeError, "expected a dict"),
        (
            lambda: tb.shard_batch({"input_ids": np.ones((1, 4))}, 2, 0),
            ValueError,
            "batch has no boundaries",
        ),
        (
            lambda: tb.shard_batch(batch_of(5), 2, 0),
            ValueError,
            "key 'cu_seq_lens_q' ends at 5, but",
        ),
        (lambda: tb.shard_batch(batch_of(4), 2, 2), ValueError, "rank=2"),
    ],
)
def test_errors_say_what_to_do(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def four():
    return tb.context_parallel([4], 2)


def three():
    return tb.context_parallel([3], 2)


def batch_of(end):
    return {"input_ids": np.ones((1, 4), np.int64), "cu_seq_lens_q": np.int32([0, end])}


def test_the_core_refuses_what_python_would_not_pass():
    lengths, ids = np.array([4]), np.arange(4)
    for arguments in (
        (lengths, 2, 0, False, ids[:3], ids[:1], False),
        (lengths, 2, 0, False, ids, np.zeros(1, np.int8), False),
        (lengths, 2, 0, False, ids[::-1], ids[:1], False),
        ([4], 2, 0, False, ids, ids[:1], False),
    ):
        with pytest.raises(TypeError, match="context_parallel"):
            _core.zigzag_take(*arguments)
    with pytest.raises(IndexError):
        _core.zigzag_take(lengths, 2, 2, False, ids, ids[:1], False)
    for shares in ((ids[:2],), [ids[:2], ids[:2]], (ids[:2], ids[:3]), (ids[:2], np.int8([1, 2]))):
        with pytest.raises(TypeError, match="context_parallel"):
            _core.zigzag_put(lengths, 2, False, shares)


def test_arrays_of_the_other_byte_order():
    shares = tb.context_parallel([4, 6], 2)
    values = np.arange(10)
    for order in "<>":
        given = values.astype(f"{order}i4")
        parts = [shares.shard(given, rank) for rank in range(2)]
        for part, rank in zip(parts, range(2), strict=True):
            assert part.tolist() == shares.shard(values, rank).tolist()
        again = shares.restore([part.astype(f"{order}i8") for part in parts])
        assert again.tolist() == values.tolist()
    with pytest.raises(TypeError, match="structured dtype"):
        shares.shard(np.zeros(10, [("a", int)]), 0)


def test_more_ranks_than_can_be_counted():
    for number, said in ((2**62, "more than chunks can be counted for"), (2**62 + 1, f"{2**62}")):
        with pytest.raises(OverflowError, match=said):
            tb.context_parallel([3], number)
