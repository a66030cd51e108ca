"""check_batch tells labels of tokens from those of rows, and whose boundaries are whose."""

import numpy as np
import pytest

import tightbatch as tb


def found_in(batch, **options):
    report = tb.check_batch(batch, raises=False, **options)
    return [(f.kind, f.key, f.row, f.column) for f in report]


def pad(rows, width, value):
    return np.array([[*row, *[value] * (width - len(row))] for row in rows])


def mask_of(lengths, width):
    return (np.arange(width) < np.asarray(lengths)[:, None]).astype(np.int64)


def lengths_in(rng, count, width):
    lengths = rng.integers(1, width + 1, count)
    lengths[rng.integers(count)] = width
    return lengths


def rows_of(rng, lengths, low=6, high=100):
    return [rng.integers(low, high, n).tolist() for n in lengths]


# --- boundaries beside tokens with a prefix or a suffix -------------------------------------------

ROWS = [[5, 6, 7, 8], [9, 10, 11], [12, 13]]
FLAT = [[token for row in ROWS for token in row]]
STARTS = {
    "boundaries": {"cu_seq_lens_q": np.array([0, 4, 7, 9], np.int32), "max_length_q": 4},
    "positions": {"position_ids": np.array([[0, 1, 2, 3, 0, 1, 2, 0, 1]])},
    "numbers": {"seq_idx": np.array([[0, 0, 0, 0, 1, 1, 1, 2, 2]])},
    "segment ids": {"segment_ids": np.array([[1, 1, 1, 1, 2, 2, 2, 3, 3]])},
}
names = pytest.mark.parametrize("name", ["{}_a", "query_{}", "chosen_{}", "{}_chosen"])
starts = pytest.mark.parametrize("starts", STARTS.values(), ids=STARTS)


@names
@starts
def test_labels_and_masks_with_a_prefix_are_held_against_the_batch(name, starts):
    ids, mask, labels = (name.format(key) for key in ("input_ids", "attention_mask", "labels"))
    batch = {ids: FLAT, labels: FLAT, **starts}
    crossing = ("label_crosses_rows", labels, 0, 4)
    assert found_in(batch) == [crossing]
    assert set(found_in({**batch, mask: [[1] * 9]})) == {("mask_joins_rows", mask, 0, 4), crossing}
    right = np.array(FLAT)
    right[0, [0, 4, 7]] = -100
    report = tb.check_batch({**batch, labels: right})
    assert set(starts) < set(report.columns)


@names
def test_boundaries_of_another_number_of_tokens_are_of_others(name):
    ids, labels = name.format("input_ids"), name.format("labels")
    batch = {ids: FLAT, labels: FLAT}
    for other in ([0, 4, 8], [0, 4, 9, 12]):
        assert tb.check_batch({**batch, "cu_seqlens": other, "max_seqlen": 1}).ok
    positions = {"position_ids": [[0, 1, 0]], "seq_idx": [[0, 0, 1]]}
    assert tb.check_batch({**batch, **positions}).ok
    rows = {ids: ROWS[:1] * 2, "position_ids": [[0, 1, 0, 1]] * 2}  # of padded rows
    assert tb.check_batch(rows).ok


def test_boundaries_beside_tokens_of_their_own_are_not_lent():
    own = {"input_ids": FLAT, "cu_seqlens": [0, 4, 7, 9]}
    other = {"query_input_ids": FLAT, "query_labels": FLAT}
    assert tb.check_batch({**own, **other}).ok
    assert found_in({**own, **other, "labels": FLAT}) == [("label_crosses_rows", "labels", 0, 4)]
    both = {**other, "cu_seqlens": [0, 2, 9], "query_cu_seqlens": [0, 4, 7, 9]}
    assert found_in(both) == [("label_crosses_rows", "query_labels", 0, 4)]


def test_what_several_groups_look_at_is_told_once():
    positions = np.array([[0, 1, 2, 3, 4, 1, 2, 0, 1]])
    batch = {"query_input_ids": FLAT, "doc_input_ids": FLAT, "position_ids": positions}
    batch |= {"cu_seqlens": [0, 4, 7, 9], "max_seqlen": 3}
    report = tb.check_batch(batch, raises=False)
    assert sorted(found_in(batch), key=str) == [
        ("longest_too_small", "max_seqlen", None, None),
        ("positions_restart", "position_ids", 0, 4),
    ]
    assert report.count == 2
    nested = {"pair": {"query_input_ids": FLAT, "query_labels": FLAT, "cu_seqlens": [0, 4, 7, 9]}}
    assert found_in(nested) == [("label_crosses_rows", "pair.query_labels", 0, 4)]


# --- labels of rows that have the width of the ids by chance --------------------------------------


def test_labels_of_a_decoder_with_the_width_of_the_ids_by_chance():
    rng = np.random.default_rng(0)
    for _ in range(1500):
        count, width = rng.integers(2, 9), rng.integers(2, 12)
        lengths, others = lengths_in(rng, count, width), lengths_in(rng, count, width)
        batch = {
            "input_ids": pad(rows_of(rng, lengths), width, 0),
            "attention_mask": mask_of(lengths, width),
            "labels": pad(rows_of(rng, others), width, -100),
        }
        report = tb.check_batch(batch, raises=False)
        assert report.ok, f"{report}\n{batch}"


@pytest.mark.parametrize("multiple", [8, 16])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_translations_of_about_the_same_length(count, multiple):
    rng = np.random.default_rng(0)
    equal = 0
    for _ in range(300):
        lengths = np.maximum(rng.normal(12, 5, count).astype(int), 2)
        others = np.maximum((lengths * rng.uniform(0.7, 1.3, count)).astype(int), 1)
        width, other = (-(-max(n) // multiple) * multiple for n in (lengths, others))
        batch = {
            "input_ids": pad(rows_of(rng, lengths), width, 0),
            "attention_mask": mask_of(lengths, width),
            "labels": pad(rows_of(rng, others), other, -100),
        }
        equal += width == other
        assert tb.check_batch(batch, vocab_size=100).ok
    assert equal > 50


def test_the_collator_does_not_raise_for_such_labels():
    collate = tb.CheckedCollator(tb.PadCollator(return_tensors="np"))
    samples = [
        {"input_ids": [62, 31], "labels": [16, 57]},
        {"input_ids": [98], "labels": [92, 6]},
        {"input_ids": [9], "labels": [14]},
    ]
    assert collate(samples)["labels"].tolist() == [[16, 57], [92, 6], [14, -100]]


def tagged(side="right"):
    """Tags of six rows, which all have padding."""
    lengths, width = [4, 3, 5, 2, 4, 3], 8
    mask = mask_of(lengths, width)
    ids = np.arange(300, 348).reshape(6, width)
    tags = np.where(mask == 1, [[1, 2, 0, 4, 3, 1, 2, 4]], -100)
    if side == "left":
        mask, tags = mask[:, ::-1].copy(), tags[:, ::-1].copy()
    return {"input_ids": ids, "attention_mask": mask, "labels": tags}


@pytest.mark.parametrize("side", ["right", "left"])
def test_tags_on_padding_are_found_beside_rows_that_are_right(side):
    batch = tagged(side)
    assert tb.check_batch(batch).ok
    for rows in ([1], [1, 4]):
        wrong = batch["labels"].copy()
        places = [4 - (row == 1) if side == "right" else 3 + (row == 1) for row in rows]
        wrong[rows, places] = 2
        expected = [("label_on_padding", "labels", r, p) for r, p in zip(rows, places, strict=True)]
        assert found_in({**batch, "labels": wrong}) == expected
    wrong[:3, 5 if side == "right" else 2] = 2  # with gaps: tags of words' first tokens
    assert len(found_in({**batch, "labels": wrong})) == 4


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("fill", [0, 9])
def test_tags_that_are_filled_on_either_side(fill, side):
    batch = tagged(side)
    filled = np.where(batch["labels"] == -100, fill, batch["labels"])
    found = found_in({**batch, "labels": filled})
    assert [(kind, row) for kind, _, row, _ in found] == [
        ("label_on_padding", row) for row in range(6)
    ]
    filled[2] = [1, 2, 0, 4, 3, 1, 2, 4]  # ratings, of which some end alike
    assert tb.check_batch({**batch, "labels": filled}).ok


# --- labels of another width ----------------------------------------------------------------------

IDS = {"input_ids": [[2, 3, 4], [5, 6, 0]], "attention_mask": [[1, 1, 1], [1, 1, 0]]}


@pytest.mark.parametrize("value", [-7, -1, 100, 10**6])
@pytest.mark.parametrize("width", [2, 3, 5])
def test_labels_of_any_width_are_in_the_vocabulary(width, value):
    labels = np.arange(10, 10 + 2 * width).reshape(2, width)
    batch = {**IDS, "labels": labels}
    assert tb.check_batch(batch, vocab_size=100).ok
    labels[1, width - 1] = value
    assert found_in(batch, vocab_size=100) == [("label_range", "labels", 1, width - 1)]
    assert bool(found_in(batch)) == (value < 0)
    expected = "at least 0" if value < 0 else "0 to 99"
    with pytest.raises(ValueError, match=f"found label {value}, .* ignored label or {expected} "):
        tb.check_batch(batch, vocab_size=100)
    assert tb.check_batch(batch, vocab_size=100, ignore_index=value).ok


def test_labels_of_rows_and_classes_are_no_tokens():
    for labels in (
        [150, 3],
        [1, -1],
        [0, -100],
        [[150], [3]],
        [[0, 1], [1, 1]],
        [[1, -1], [-1, 1]],
    ):
        assert tb.check_batch({**IDS, "labels": labels}, vocab_size=100).ok
        assert tb.check_batch({**IDS, "labels": np.array(labels)}, vocab_size=100).ok
    assert found_in({**IDS, "labels": [3, -2]}) == [("label_range", "labels", 1, None)]
    assert found_in({**IDS, "labels": [[3], [-2]]}) == [("label_range", "labels", 1, 0)]
    flat = {"input_ids": FLAT, "cu_seqlens": [0, 4, 7, 9], "labels": [3, -2, 1]}
    assert found_in(flat) == [("label_range", "labels", None, 1)]


# --- rows without a label -------------------------------------------------------------------------


def drawn(rng, share, special, is_tag):
    """Labels of tokens that are drawn, as in masked language modelling, or first of a word."""
    lengths = rng.integers(2, 21, rng.integers(1, 7))
    width = int(lengths.max())
    ids, mask = rng.integers(6, 100, (len(lengths), width)), mask_of(lengths, width)
    chosen = (rng.random(ids.shape) < share) & (mask == 1)
    if special:
        chosen[:, 0] = False
        chosen[np.arange(len(lengths)), lengths - 1] = False
    labels = np.where(chosen, rng.integers(0, 9, ids.shape) if is_tag else ids, -100)
    stays = rng.random(ids.shape) < 0.1  # of the tokens that are drawn
    ids = np.where(chosen & ~stays, 3, ids)
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("special", [False, True], ids=["", "special"])
@pytest.mark.parametrize("is_tag", [False, True], ids=["masked", "tags"])
@pytest.mark.parametrize("share", [0.15, 0.5, 0.7])
def test_rows_that_lack_labels_by_chance(share, is_tag, special):
    rng = np.random.default_rng(3)
    lacking = 0
    for _ in range(600):
        batch = drawn(rng, share, special, is_tag)
        labelled = (batch["labels"] != -100).any(1)
        lacking += not labelled.all()
        report = tb.check_batch(batch, raises=False, skip=["batch_without_labels"])
        assert report.ok, f"{report}\n{batch}"
    assert lacking > 8


@pytest.mark.parametrize("edge", [0, 1])
@pytest.mark.parametrize("is_tag", [False, True])
def test_rows_that_lack_labels_beside_rows_that_have_all(is_tag, edge):
    """But for special tokens at the ends."""
    lengths, width = np.array([8, 7, 9, 6]), 9
    mask = mask_of(lengths, width)
    ids = np.arange(300, 336).reshape(4, width)
    labels = np.where(mask == 1, ids % 5 if is_tag else ids + 1000, -100)
    if edge:
        labels[:, 0] = -100
        labels[np.arange(4), lengths - 1] = -100
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    assert tb.check_batch(batch).ok
    labels[1] = -100
    assert found_in(batch) == [("row_without_labels", "labels", 1, 0)]
    mask[1, 2 + edge :] = 0  # too few tokens to tell
    assert tb.check_batch(batch).ok


# --- labels that padding predicts -----------------------------------------------------------------


def test_the_first_label_of_a_left_padded_row_is_noted():
    samples = [{"input_ids": row, "labels": row} for row in ROWS]
    batch = tb.PadCollator(padding_side="left", return_tensors="np")(samples)
    report = tb.check_batch(batch)
    assert report.ok
    assert report.count == 0
    assert not report.findings
    (note,) = report.notes
    assert note.startswith("labels: the first token of row 1 and 1 more has a label, which a")
    batch["labels"][1, 1] = -100
    (note,) = tb.check_batch(batch).notes
    assert "the first token of row 2 has a label" in note
    batch["labels"][2, 0] = 5
    report = tb.check_batch(batch, raises=False)
    assert [f.kind for f in report] == ["label_on_padding"]
    assert report.count == len(report.notes) == 1
    batch["labels"][2, :3] = -100
    assert not tb.check_batch(batch).notes
    right = tb.PadCollator(return_tensors="np")(samples)
    assert not tb.check_batch(right).notes
    tags = {**batch, "labels": np.where(batch["attention_mask"] == 1, 2, -100)}
    assert not tb.check_batch(tags).notes


def test_padding_at_the_end_that_is_cut_as_evenly_as_it_can_be():
    collate = tb.PaddingFreeCollator(
        max_tokens=11, max_segments=4, max_length=40, return_tensors="np"
    )
    batch = collate([{"input_ids": [5, 6], "labels": [5, 6]}])
    assert batch["cu_seq_lens_q"].tolist() == [0, 2, 5, 8, 11]
    assert tb.check_batch(batch).ok
    whole = {"input_ids": batch["input_ids"], "cu_seqlens": [0, 2, 11], "max_seqlen": 9}
    assert found_in(whole) == [("longest_is_tail", "max_seqlen", None, None)]
    assert found_in({**whole, "cu_seqlens": [0, 2, 4, 11], "max_seqlen": 7}) == [
        ("longest_is_tail", "max_seqlen", None, None)
    ]


def test_padding_at_the_end_that_only_labels_tell():
    whole = {"input_ids": [[5, 6, 3, 3, 3, 3]], "cu_seqlens": [0, 2, 6], "max_seqlen": 4}
    assert tb.check_batch(whole).ok
    for key in ("labels", "decoder_labels"):
        labels = {key: [[-100, 6, -100, -100, -100, -100]]}
        assert found_in({**whole, **labels}) == [("longest_is_tail", "max_seqlen", None, None)]


@pytest.mark.parametrize("count", [7, 8])
def test_a_row_without_tags_beside_one_of_few_tags(count):
    """Tags of first tokens alone may lack in a short row; eight in a row tell that all have one."""
    ids = np.arange(200, 220).reshape(2, 10)
    tags = np.full((2, 10), -100)
    tags[0, 1 : count + 1] = np.arange(count) % 5
    batch = {"input_ids": ids[:, : count + 2], "labels": tags[:, : count + 2]}
    row = {"attention_mask": np.ones((2, count + 2), int)}
    expected = [("row_without_labels", "labels", 1, 0)] if count == 8 else []
    assert found_in({**batch, **row}) == expected


@pytest.mark.parametrize("starts", [[0, 3, 8], [0, 5, 8], [0, 3, 6, 8]])
def test_targets_of_the_next_token_that_begins_another_row(starts):
    ids = np.arange(500, 508)
    targets = np.append(ids[1:], -100)
    batch = {"input_ids": ids[None], "cu_seqlens": starts}
    expected = [("label_crosses_rows", "targets", 0, starts[1] - 1)]
    assert found_in({**batch, "targets": targets[None]}) == expected
    targets[np.array(starts[1:-1]) - 1] = -100
    assert tb.check_batch({**batch, "targets": targets[None]}).ok


@pytest.mark.parametrize("same", range(5))
def test_labels_of_another_width_repeat_the_ids_or_are_a_decoders(same):
    ids = np.arange(300, 312).reshape(2, 6)
    labels = np.arange(800, 808).reshape(2, 4)
    labels[:, :same] = ids[:, :same]
    expected = [("shape", "labels", None, None)] if same >= 3 else []  # of two thirds on
    assert found_in({"input_ids": ids, "attention_mask": ids > 0, "labels": labels}) == expected
