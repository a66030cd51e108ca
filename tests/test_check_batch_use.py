"""check_batch as it is used: forms of batches, reports, errors, the collator that checks."""

import dataclasses
import json
import pickle
import re
from collections import UserDict, namedtuple

import numpy as np
import pytest

import tightbatch as tb
from wrong_batches import flat, packs, padded, squared


def right(make=padded, seed=0):
    return make(np.random.default_rng(seed)).columns


def kinds(batch, **options):
    return [finding.kind for finding in tb.check_batch(batch, raises=False, **options)]


def places(batch, **options):
    report = tb.check_batch(batch, raises=False, **options)
    return [(f.kind, f.key, f.row, f.column) for f in report]


# --- reports --------------------------------------------------------------------------------------


def test_a_right_batch():
    report = tb.check_batch(right())
    assert report.ok
    assert report
    assert len(report) == report.count == 0
    assert report.to_dict()["findings"] == []
    assert report.columns["attention_mask"] == "mask"
    assert str(report).startswith("nothing wrong; 5 columns looked at: input_ids")
    assert "<table>" not in report._repr_html_()


def test_a_finding_says_where_and_what_follows():
    batch = right()
    batch["labels"][1, -1] = 7
    report = tb.check_batch(batch, raises=False)
    (finding,) = report.findings
    assert (finding.kind, finding.key, finding.row) == ("label_on_padding", "labels", 1)
    assert finding.message == "found label 7 on padding, expected -100"
    assert "trained to predict padding" in finding.consequence
    assert finding.place == f"key 'labels', row 1, column {finding.column}"
    assert list(report) == [finding]
    assert not report
    assert not report.ok
    assert json.loads(json.dumps(report.to_dict()))["findings"][0]["key"] == "labels"
    assert str(finding) in str(report) == repr(report)
    html = report._repr_html_()
    assert ">labels</td><td " in html
    assert re.sub(r' style="[^"]*"', "", html).count("<td>labels</td><td>1</td>") == 1
    assert pickle.loads(pickle.dumps(report)).findings == report.findings


def test_html_escapes_what_the_user_named():
    batch = {"<b>_input_ids": [[1, 2], [3, -4]]}
    assert "&lt;b&gt;_input_ids" in tb.check_batch(batch, raises=False)._repr_html_()


def test_the_error_has_the_first_findings_and_their_number():
    batch = {"input_ids": -np.ones((40, 3), np.int64)}
    with pytest.raises(ValueError, match=r"found 40 faults in the batch:") as caught:
        tb.check_batch(batch)
    message = str(caught.value)
    assert "key 'input_ids', row 0, column 0: found id -1, expected at least 0" in message
    assert message.endswith("... and 35 more; raises=False gives them all")
    assert len(tb.check_batch(batch, raises=False)) == 40


def test_more_findings_than_are_kept_are_counted():
    report = tb.check_batch({"input_ids": -np.ones((1000, 3), np.int64)}, raises=False)
    assert (report.count, len(report)) == (1000, 256)
    assert "... and 970 more" in str(report)


def test_kinds_can_be_skipped():
    batch = right()
    batch["labels"][0] = -100
    batch["input_ids"][1, 0] = -1
    assert set(kinds(batch)) == {"row_without_labels", "id_range"}
    assert kinds(batch, skip=["row_without_labels"]) == ["id_range"]
    assert tb.check_batch(batch, skip=("row_without_labels", "id_range")).ok
    with pytest.raises(ValueError, match=r"skip has 'rows', expected one of shape, id_range"):
        tb.check_batch(batch, skip=["rows"])


def test_inputs_stay_as_they_are():
    batch = right(flat)
    before = {key: np.copy(value) for key, value in batch.items()}
    tb.check_batch(batch, vocab_size=5, max_position=2, raises=False)
    assert all(np.array_equal(batch[key], value) for key, value in before.items())


# --- forms ----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Packed:
    """As Megatron's PackedSeqParams: boundaries beside the tokens' own dict."""

    cu_seqlens_q: object
    max_seqlen_q: int
    qkv_format: str = "thd"


Named = namedtuple("Named", ["input_ids", "attention_mask", "labels"])


def test_batches_of_other_types():
    batch = right()
    assert tb.check_batch(UserDict(batch)).ok
    assert tb.check_batch(tb.Batch(batch)).ok
    named = Named(*(batch[key] for key in Named._fields))
    assert tb.check_batch(named).ok
    batch["attention_mask"][0, 0] = 5
    assert places(named) == [("mask_value", "attention_mask", 0, 0)]
    assert places(UserDict(batch))[0] == ("mask_value", "attention_mask", 0, 0)


def test_boundaries_in_an_object_of_their_own():
    batch = right(flat)
    params = Packed(batch.pop("cu_seq_lens_q"), batch.pop("max_length_q"))
    kept = {key: batch[key] for key in ("input_ids", "position_ids", "labels")}
    assert tb.check_batch({**kept, "packed_seq_params": params}).ok
    params.max_seqlen_q -= 1
    params.cu_seqlens_q[-1] -= 1
    found = places({**kept, "packed_seq_params": params})
    assert (
        "boundaries_end",
        "packed_seq_params.cu_seqlens_q",
        None,
        len(params.cu_seqlens_q) - 1,
    ) in found


def test_a_dict_of_masks_belongs_to_the_tokens_around_it():
    batch = right(squared)
    masks = {"full_attention": batch.pop("attention_mask"), "sliding_attention": None}
    assert tb.check_batch({**batch, "attention_mask": masks}).ok
    masks["full_attention"][:, :, :, :] = True
    assert "mask_leak" in kinds({**batch, "attention_mask": masks})


def test_inputs_and_targets_in_a_tuple():
    batch = right()
    labels = {"labels": batch.pop("labels")}
    assert tb.check_batch((batch, labels)).ok
    labels["labels"][0, -1] = 4
    assert places((batch, labels))[0][:2] == ("label_on_padding", "1.labels")


def test_one_line_of_tokens():
    """Without a dimension for rows, as flash-attention and torchtitan take them."""
    batch = {
        key: value[0] if getattr(value, "ndim", 0) == 2 else value
        for key, value in right(flat).items()
    }
    assert tb.check_batch(batch).ok
    batch["position_ids"][3] = 9
    assert places(batch) == [("positions_step", "position_ids", 0, 3)]


def test_rows_of_different_lengths_are_a_finding():
    batch = {"input_ids": [[1, 2], [3]], "attention_mask": [[1, 1], [1, 1]]}
    assert places(batch) == [("shape", "input_ids", 1, None)]


def test_rows_in_an_object_array():
    """As Ray and datasets hand over rows of different lengths, and rows of one length."""
    rows = np.empty(2, object)
    rows[:] = [np.array([1, 2]), np.array([3, 4])]
    assert tb.check_batch({"input_ids": rows}, vocab_size=5).ok
    assert places({"input_ids": rows}, vocab_size=4) == [("id_range", "input_ids", 1, 1)]
    rows[1] = np.array([3])
    assert places({"input_ids": rows}) == [("shape", "input_ids", 1, None)]
    assert tb.check_batch({"input_ids": [["a", "b"]], "labels": [0], "ids": np.array(["a"])}).ok


def test_labels_of_other_tokens():
    ids = np.arange(300, 308)[None]
    own = {"input_ids": ids, "labels": ids}
    for shift, place in ((-1, 1), (0, 0), (2, 0)):
        shifted = np.full_like(ids, -100)
        at = slice(max(0, -shift), 8 - max(0, shift))
        shifted[0, at] = ids[0, at.start + shift : at.stop + shift]
        found = places({**own, "shift_labels": shifted})
        assert ("label_shift", "shift_labels", 0, place) in found, shift


def test_lengths_of_segments_as_lists():
    batch = {"input_ids": [[1, 2, 3, 4], [5, 6, 0, 0]], "attention_mask": [[1] * 4, [1, 1, 0, 0]]}
    told = {**batch, "seq_lengths": [[4], [2]]}
    assert tb.check_batch(told).ok
    assert ("length", "seq_lengths", 0, None) in places({**batch, "seq_lengths": [[3], [2]]})
    assert ("length", "seq_lengths", 0, 1) in places({**batch, "seq_lengths": [[4, 0], [2]]})
    told = {**batch, "seq_lengths": [[3, 1], [2]]}
    assert places(told) == [("mask_joins_rows", "attention_mask", 0, 3)]


def test_choices_are_rows_of_their_own():
    ids = np.arange(1, 25).reshape(2, 3, 4)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": [0, 2]}
    assert tb.check_batch(batch).ok
    batch["attention_mask"][1, 0, 2] = 0
    assert places(batch) == [("mask_hole", "attention_mask", 3, 2)]


def test_several_positions_for_a_token():
    """Those of Qwen2-VL: equal for text, other ones in a picture."""
    lengths = [6, 5]
    text = np.concatenate([np.arange(n) for n in lengths])
    for axis, swap in ((0, lambda p: p), (2, lambda p: np.moveaxis(p, 0, -1))):
        positions = np.stack([text[None]] * 3)
        positions[1, 0, 2:4], positions[2, 0, 2:4] = 2, [2, 3]
        batch = {
            "input_ids": np.arange(1, 12)[None],
            "position_ids": np.ascontiguousarray(swap(positions)),
            "cu_seqlens": np.array([0, 6, 11], np.int32),
        }
        assert tb.check_batch(batch, max_position=6).ok, axis
        assert ("position_range", "position_ids", 0, 5) in places(batch, max_position=5)
        positions[:, 0, 6:] += 6
        batch["position_ids"] = np.ascontiguousarray(swap(positions))
        assert places(batch) == [("positions_restart", "position_ids", 0, 6)]


def test_one_row_of_positions_for_all():
    ids = np.arange(1, 9).reshape(2, 4)
    for positions in (np.arange(4), np.arange(4)[None]):
        assert tb.check_batch({"input_ids": ids, "position_ids": positions}).ok
    assert kinds({"input_ids": ids, "position_ids": np.array([0, 1, 1, 3])}) == [
        "positions_step",
        "positions_step",
    ]


def test_positions_from_another_start():
    """RoBERTa counts from 2, and its padding has position 1."""
    batch = {
        "input_ids": [[5, 6, 7], [8, 1, 1]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "position_ids": [[2, 3, 4], [2, 1, 1]],
    }
    assert tb.check_batch(batch, max_position=5).ok
    assert kinds(batch, max_position=4) == ["position_range"]


def test_without_positions_the_width_must_fit_the_model():
    batch = {"input_ids": np.ones((2, 8), np.int64)}
    assert tb.check_batch(batch, max_position=8).ok
    assert places(batch, max_position=7) == [("position_range", "input_ids", 0, 7)]


def test_token_types_that_are_called_segment_ids():
    ids = np.arange(1, 9).reshape(2, 4)
    types = [[0, 0, 1, 1], [0, 1, 1, 1]]
    assert tb.check_batch({"input_ids": ids, "segment_ids": types}).ok
    assert kinds({"input_ids": ids, "segment_ids": [[1, 1, 2, 1], [1, 1, 1, 1]]}) == [
        "segment_repeated"
    ]


def test_labels_of_a_decoder_have_rows_of_their_own():
    rng = np.random.default_rng(0)
    for _ in range(200):
        inputs, outputs = (
            [rng.integers(300, 9000, n).tolist() for n in rng.integers(1, 6, 3)] for _ in range(2)
        )
        batch = {
            "input_ids": tb.pad(inputs),
            "attention_mask": tb.attention_mask(list(map(len, inputs)), dtype="int64"),
            "labels": tb.pad(outputs, padding_value=-100),
        }
        assert tb.check_batch(batch).ok


def test_inputs_of_a_decoder():
    labels = np.array([[5, 6, 7, 2], [8, 2, -100, -100]])
    inputs = np.array([[0, 5, 6, 7], [0, 8, 2, 0]])
    batch = {"input_ids": [[9, 9], [9, 9]], "labels": labels, "decoder_input_ids": inputs}
    assert tb.check_batch(batch).ok
    seen = np.where(labels == -100, 0, labels)
    assert places({**batch, "decoder_input_ids": seen}) == [("label_shift", "labels", 0, 0)]


def test_labels_that_are_shifted_already_where_that_is_the_custom():
    """Megatron's batches: tokens, and at each token the label of the next."""
    tokens = np.arange(300, 312).reshape(2, 6)
    batch = {"tokens": tokens[:, :-1], "labels": tokens[:, 1:]}
    assert tb.check_batch({**batch, "loss_mask": np.ones((2, 5), np.int64)}).ok
    assert kinds({"input_ids": batch["tokens"], "labels": batch["labels"]}) == ["label_shift"]


def test_tags_of_packed_rows_may_be_at_their_first_tokens():
    batch = right(packs)
    batch["labels"] = np.where(batch["segment_ids"] > 0, batch["input_ids"] % 5, -100)
    assert tb.check_batch(batch).ok


def test_another_ignored_label():
    batch = right()
    batch["labels"][batch["labels"] == -100] = -1
    assert "label_on_padding" in kinds(batch)
    assert tb.check_batch(batch, ignore_index=-1).ok


def test_a_loss_mask():
    ids = np.arange(300, 308).reshape(2, 4)
    batch = {"input_ids": ids, "attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0]]}
    assert tb.check_batch({**batch, "loss_mask": [[0, 0, 1, 1], [0, 1, 0, 0]]}).ok
    assert places({**batch, "loss_mask": [[0, 0, 1, 1], [0, 1, 1, 0]]}) == [
        ("label_on_padding", "loss_mask", 1, 2)
    ]
    assert places({**batch, "loss_mask": [[0, 0, 1, 1], [0, 0, 0, 0]]}) == [
        ("row_without_labels", "loss_mask", 1, 0)
    ]
    assert kinds({**batch, "loss_mask": [[0] * 4] * 2}) == ["batch_without_labels"]


def test_the_padding_at_the_end_is_not_the_longest_row():
    ids = np.array([[5, 6, 7, 8, 9, 0, 0, 0, 0]])
    batch = {"input_ids": ids, "cu_seqlens": [0, 2, 5, 9], "max_seqlen": 4}
    assert places(batch) == [("longest_is_tail", "max_seqlen", None, None)]
    assert tb.check_batch({**batch, "cu_seqlens": [0, 2, 5, 8, 9], "max_seqlen": 3}).ok
    assert tb.check_batch({**batch, "max_seqlen": 16}).ok  # a constant


def test_boundaries_of_tokens_beside_those_with_padding():
    batch = {
        "input_ids": np.arange(1, 13)[None],
        "cu_seqlens_q": [0, 3, 8],
        "cu_seqlens_q_padded": [0, 4, 12],
        "max_seqlen_q": 8,
    }
    assert tb.check_batch(batch).ok
    assert kinds({**batch, "cu_seqlens_q": [0, 5, 8]}) == ["rows_disagree"]
    assert kinds({**batch, "cu_seqlens_q_padded": [0, 4, 11]}) == ["boundaries_end"]


def test_boundaries_of_the_real_tokens_of_padded_rows():
    """As flash-attention's unpad_input gives them, and flat ones."""
    batch = {
        "input_ids": [[1, 2, 3, 0], [4, 5, 0, 0]],
        "attention_mask": [[1, 1, 1, 0], [1, 1, 0, 0]],
    }
    assert tb.check_batch({**batch, "cu_seqlens": [0, 3, 5]}).ok
    assert "rows_disagree" in kinds({**batch, "cu_seqlens": [0, 2, 5]})
    assert kinds({**batch, "cu_seqlens": [0, 3, 6]}) == ["boundaries_end"]


# --- tensors --------------------------------------------------------------------------------------


def test_tensors_of_every_kind():
    torch = pytest.importorskip("torch")
    batch = {key: torch.as_tensor(value) for key, value in right().items()}
    assert tb.check_batch(batch).ok
    batch["attention_mask"] = batch["attention_mask"].to(torch.bfloat16)
    assert tb.check_batch(batch).ok
    batch["attention_mask"] = batch["attention_mask"].bool().T.contiguous().T
    assert tb.check_batch(batch).ok
    batch["attention_mask"] = batch["attention_mask"].to("meta")
    report = tb.check_batch(batch)
    assert report.notes == ("attention_mask: a nested, sparse or meta tensor is not looked at",)
    assert "note: attention_mask" in str(report)
    with torch._subclasses.FakeTensorMode():
        batch["attention_mask"] = torch.ones(right()["attention_mask"].shape)
    (note,) = tb.check_batch(batch).notes
    assert note.startswith("attention_mask: not looked at: ")


def test_what_cannot_be_read_is_noted_or_refused():
    batch = right()
    report = tb.check_batch({**batch, "attention_mask": object()})
    assert report.notes == ("attention_mask: a object is not looked at",)
    assert tb.check_batch({**batch, "attention_mask": None, "lengths": "many"}).ok
    masked = np.ma.array(batch["input_ids"], mask=False)
    with pytest.raises(TypeError, match=r"check_batch\(\): key 'input_ids': found a masked array"):
        tb.check_batch({**batch, "input_ids": masked})


@pytest.mark.parametrize("kind", ["right", "joined", "blind"])
def test_block_masks(kind):
    torch = pytest.importorskip("torch")
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    lengths = [100, 60, 96]
    numbers = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))

    def right_mask(b, h, query, key):
        return (numbers[query] == numbers[key]) & (query >= key)

    def causal(b, h, query, key):
        return query >= key

    def strict(b, h, query, key):
        return right_mask(b, h, query, key) & (query > key)

    mod = {"right": right_mask, "joined": causal, "blind": strict}[kind]
    batch = {
        "input_ids": torch.arange(1, 257)[None],
        "position_ids": torch.cat([torch.arange(n) for n in lengths])[None],
        "attention_mask": flex.create_block_mask(
            mod, None, None, 256, 256, device="cpu", BLOCK_SIZE=64
        ),
    }
    expected = {
        "right": [],
        "joined": [("mask_leak", "attention_mask", 0, 100)],
        "blind": [("mask_blind", "attention_mask", 0, 0)],
    }
    assert places(batch) == expected[kind]
    ours = tb.block_mask(lengths, block_size=64)
    tensors = [None if part is None else torch.from_numpy(part) for part in ours]
    for shown in (right_mask, causal):
        batch["attention_mask"] = flex.BlockMask.from_kv_blocks(
            *tensors, BLOCK_SIZE=64, mask_mod=shown, seq_lengths=(256, 256)
        )
        assert (places(batch) == []) == (shown is right_mask)


def test_a_block_of_the_row_before_the_last_one_is_found():
    """Tokens beside the borders of rows do not see each other there."""
    torch = pytest.importorskip("torch")
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    counts = torch.tensor([[[1, 1, 2]]], dtype=torch.int32)
    blocks = torch.tensor([[[[0, 1, 2], [1, 0, 2], [2, 0, 1]]]], dtype=torch.int32)
    mask = flex.BlockMask.from_kv_blocks(0 * counts, 0 * blocks, counts, blocks, BLOCK_SIZE=8)
    batch = {
        "input_ids": torch.arange(1, 25)[None],
        "position_ids": torch.arange(8).repeat(3)[None],
        "attention_mask": mask,
    }
    (finding,) = tb.check_batch(batch, raises=False)
    assert (finding.kind, finding.row, finding.column) == ("mask_leak", 0, 16)
    assert "the token sees token 0 of another row" in finding.message


# --- errors and the collator ----------------------------------------------------------------------


def test_batches_without_names_are_refused():
    for batch in (5, "ids", None, [1, 2], (np.ones((2, 2)), np.ones((2, 2)))):
        with pytest.raises(
            TypeError, match=r"(?s)check_batch\(\): batch is .*expected columns by name"
        ):
            tb.check_batch(batch)
    with pytest.raises(ValueError, match=r"batch has no column of a known name, but \['x', 3\]"):
        tb.check_batch({"x": 1, 3: 4})


def test_the_collator_hands_on_what_it_checked():
    samples = [{"input_ids": [5, 6]}, {"input_ids": [7]}]
    collate = tb.CheckedCollator(tb.PadCollator(return_tensors="np"), vocab_size=8)
    assert collate(samples)["input_ids"].tolist() == [[5, 6], [7, 0]]
    assert pickle.loads(pickle.dumps(collate))(samples)["input_ids"].tolist() == [[5, 6], [7, 0]]
    with pytest.raises(ValueError, match=r"found id 9, expected 0 to 7"):
        collate([{"input_ids": [9]}])
    for every in (1, 2, 3):
        some = tb.CheckedCollator(collate.collate_fn, vocab_size=8, every=every)
        for k in range(7):
            if k % every == 0:
                with pytest.raises(ValueError, match="id_range"):
                    some([{"input_ids": [1, 9]}])
            else:
                assert some([{"input_ids": [1, 9]}])["input_ids"].tolist() == [[1, 9]]
        with pytest.raises(ValueError, match="id_range"):
            pickle.loads(pickle.dumps(tb.CheckedCollator(some, 4, 8)))([{"input_ids": [1, 9]}])
    skipping = tb.CheckedCollator(collate.collate_fn, vocab_size=8, skip=["id_range"])
    assert skipping([{"input_ids": [9]}])["input_ids"].tolist() == [[9]]


def test_an_error_in_a_worker_reaches_the_loop():
    data = pytest.importorskip("torch.utils.data")
    samples = [{"input_ids": [5, 6]}, {"input_ids": [99]}]
    collate = tb.CheckedCollator(tb.PadCollator(), vocab_size=50)
    loader = data.DataLoader(samples, batch_size=1, collate_fn=collate, num_workers=1)
    with pytest.raises(ValueError, match="found id 99, expected 0 to 49"):
        list(loader)


def test_empty_batches_are_looked_at_without_harm():
    for shape in ((0, 5), (3, 0), (0, 0), (0,)):
        batch = {"input_ids": np.ones(shape, np.int64), "attention_mask": np.ones(shape, np.int64)}
        assert tb.check_batch(batch).ok
    strange = {"input_ids": np.ones((2, 3), np.int64), "cu_seqlens": np.ones(0, np.int32)}
    assert kinds(strange) == ["boundaries_start"]
    assert tb.check_batch({"input_ids": np.int64(3)}).ok


def test_each_of_several_positions_begins_with_each_row():
    batch = {"input_ids": [[5, 6, 7, 8, 9]], "cu_seqlens": [0, 2, 5]}
    right = np.array([[[0, 1, 0, 1, 2]]] * 3)
    assert tb.check_batch({**batch, "position_ids": right}).ok
    for axis in range(3):
        for at in (0, 2):
            wrong = right.copy()
            wrong[axis, 0, at] = 1
            found = places({**batch, "position_ids": wrong})
            assert found == [("positions_restart", "position_ids", 0, at)], (axis, at)


def test_positions_that_begin_again_within_a_row():
    positions = np.array([[[0, 0, 1]]] * 3)
    batch = {"input_ids": [[5, 6, 7]], "cu_seqlens": [0, 3], "position_ids": positions}
    with pytest.raises(ValueError, match="all positions at 0, as where a row begins, but by 'cu_s"):
        tb.check_batch(batch)


@pytest.mark.parametrize(("query", "key", "begins"), [(1, 4, 0), (4, 0, 3)])
def test_a_leak_names_where_the_tokens_own_row_begins(query, key, begins):
    seen = np.tri(6, dtype=bool)
    seen[3:, :3] = False
    batch = {"input_ids": [[5, 6, 7, 8, 9, 4]], "cu_seqlens": [0, 3, 6]}
    assert tb.check_batch({**batch, "attention_mask": seen[None, None]}).ok
    seen[query, key] = True
    said = f"the token sees token {key}, but its own row, by 'cu_seqlens', begins at {begins}"
    with pytest.raises(ValueError, match=said):
        tb.check_batch({**batch, "attention_mask": seen[None, None]})
