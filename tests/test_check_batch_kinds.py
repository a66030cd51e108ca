"""check_batch finds each kind of fault in every spelling, and does not raise where none is told."""

import numpy as np
import pytest

import tightbatch as tb

LENGTHS = [5, 9, 4]
WIDTH = sum(LENGTHS)
SEGMENTS = np.repeat(np.arange(3), LENGTHS)
POSITIONS = np.concatenate([np.arange(n) for n in LENGTHS])
CAUSAL = np.tril(np.ones((WIDTH, WIDTH), bool))
BLOCKS = (SEGMENTS[:, None] == SEGMENTS) & CAUSAL
IDS = np.arange(300, 300 + 2 * WIDTH).reshape(2, WIDTH)
# How a mask of what is seen is spelled.
SPELLINGS = {
    "bool": lambda seen: seen,
    "int": lambda seen: seen.astype(np.int64),
    "uint8": lambda seen: seen.astype(np.uint8),
    "lowest": lambda seen: np.where(seen, np.float32(0), np.finfo(np.float32).min),
    "infinity": lambda seen: np.where(seen, np.float16(0), np.float16(-np.inf)),
    "heads": lambda seen: np.concatenate([seen, seen], 1),
}
spellings = pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)


def found_in(batch, **options):
    report = tb.check_batch(batch, raises=False, **options)
    return [(f.kind, f.key, f.row, f.column) for f in report]


def kinds(batch):
    return {kind for kind, *_ in found_in(batch)}


# --- masks of queries and keys --------------------------------------------------------------------


def stories():
    """A mask's batch: alone, beside positions, and as one mask for two rows."""
    positions = np.stack([POSITIONS, POSITIONS])
    yield {"input_ids": IDS}, np.stack([BLOCKS, CAUSAL])[:, None]
    yield {"input_ids": IDS, "position_ids": positions}, np.stack([BLOCKS, BLOCKS])[:, None]
    yield {"input_ids": IDS}, CAUSAL[None, None]


@spellings
def test_inverted_masks(spell):
    for batch, seen in stories():
        assert tb.check_batch({**batch, "attention_mask": spell(seen)}).ok
        assert "mask_blind" in kinds({**batch, "attention_mask": spell(~seen)})


def test_the_message_of_an_inverted_mask_says_what_shows_a_key():
    inverted = {"input_ids": IDS[:, :3], "attention_mask": ~CAUSAL[None, None, :3, :3]}
    with pytest.raises(ValueError, match=r"does not see itself, expected a mask in which 1 \(True"):
        tb.check_batch(inverted)


@spellings
def test_masks_that_show_nothing(spell):
    for batch, seen in stories():
        nothing = spell(np.zeros_like(seen))
        found = found_in({**batch, "attention_mask": nothing})
        assert found == [("mask_empty", "attention_mask", row, None) for row in (0, 1)]
    one_query = spell(np.zeros((2, 1, 1, WIDTH), bool))
    assert kinds({"input_ids": IDS, "attention_mask": one_query}) == {"mask_empty"}


@spellings
def test_every_hole_in_a_row_is_found(spell):
    """But for a key that a window may have left, and a last token that may be padding."""
    batch, seen = next(stories())
    ends = {0: np.cumsum(LENGTHS) - 1, 1: [WIDTH - 1]}
    for row, query, key in np.argwhere(seen[:, 0]):
        begin = query - POSITIONS[query] if row == 0 else 0
        is_left = query in ends[row] and key == begin and key < query - 1
        if is_left or query == key == WIDTH - 1:
            continue
        broken = seen.copy()
        broken[row, 0, query, key] = False
        found = {
            finding[0]
            for finding in found_in({**batch, "attention_mask": spell(broken)})
            if finding[2] == row
        }
        assert "mask_blind" in found, (row, query, key)


@spellings
@pytest.mark.parametrize("window", [2, 3, 7, 99])
def test_windows_are_right(window, spell):
    places = np.arange(WIDTH)
    near = places[:, None] - places < window
    for batch, seen in stories():
        assert tb.check_batch({**batch, "attention_mask": spell(seen & near)}).ok
    both_ways = (SEGMENTS[:, None] == SEGMENTS) & (abs(places[:, None] - places) < window)
    batch = {"input_ids": IDS, "attention_mask": spell(both_ways[None, None])}
    assert tb.check_batch(batch).ok


def test_padded_masks_of_queries_and_keys_are_right():
    for real in (slice(0, 12), slice(6, WIDTH)):
        keys = np.zeros(WIDTH, bool)
        keys[real] = True
        for queries in (keys, np.ones(WIDTH, bool)):
            seen = CAUSAL & keys & queries[:, None]
            assert tb.check_batch({"input_ids": IDS[:1], "attention_mask": seen[None, None]}).ok


@spellings
@pytest.mark.parametrize("key", ["lengths", "seq_lengths", "input_lengths"])
def test_a_mask_of_keys_alone_tells_lengths(key, spell):
    """Shape [rows, 1, 1, keys], as models make it of a mask [rows, keys]."""
    keys = np.arange(WIDTH) < np.array([[10], [WIDTH]])
    mask = spell(keys[:, None, None])
    batch = {"input_ids": IDS, "attention_mask": mask}
    assert tb.check_batch(batch).ok
    assert tb.check_batch({**batch, key: [10, WIDTH]}).ok
    assert tb.check_batch({**batch, "input_mask": keys}).ok
    for wrong in (8, 12):
        (finding,) = tb.check_batch({**batch, key: [wrong, WIDTH]}, raises=False)
        assert (finding.kind, finding.key, finding.row) == ("length", key, 0)
        assert finding.message.endswith(f"{wrong}, expected 10 by 'attention_mask'")
        other = np.arange(WIDTH) < np.array([[wrong], [WIDTH]])
        kind = "mask_leak" if wrong < 10 else "mask_blind"
        found = found_in({**batch, "input_mask": other})
        assert found == [(kind, "attention_mask", 0, min(wrong, 10))]
    causal = {
        **batch,
        "attention_mask": spell(CAUSAL & keys[:, None, None] & keys[:, None, :, None]),
    }
    assert tb.check_batch({**causal, key: [10, WIDTH]}).ok
    assert found_in({**causal, key: [12, WIDTH]}) == [("length", key, 0, None)]


def test_a_row_that_a_mask_of_keys_hides_has_no_length():
    mask = np.zeros((2, 1, 1, WIDTH), bool)
    mask[0] = True
    batch = {"input_ids": IDS, "attention_mask": mask, "lengths": [WIDTH, 0]}
    for spelled in (mask, mask[:, 0, 0]):
        found = found_in({**batch, "attention_mask": spelled})
        assert found == [("mask_empty", "attention_mask", 1, None)]


def test_the_first_of_two_masks_tells_what_is_real():
    masks = {"attention_mask": np.ones((2, WIDTH)), "input_mask": np.ones((2, WIDTH))}
    masks["input_mask"][1, 9:] = 0
    batch = {"input_ids": IDS, "lengths": [WIDTH, WIDTH]}
    for columns in ({**batch, **masks}, {**masks, **batch}):
        assert ("length", "lengths", 1, None) not in found_in(columns)
    masks = dict(reversed(masks.items()))
    for columns in ({**batch, **masks}, {**masks, **batch}):
        assert ("length", "lengths", 1, None) in found_in(columns)


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["loss_mask", "completion_mask", "assistant_masks"])
@pytest.mark.parametrize("dtype", [np.int64, bool, np.float32, np.float16])
def test_loss_masks_of_zeros(key, dtype):
    batch = {"input_ids": IDS, "labels": IDS, key: np.zeros(IDS.shape, dtype)}
    assert found_in(batch) == [("batch_without_labels", key, None, None)]
    batch[key][:, 3:] = 1
    assert tb.check_batch(batch).ok
    if dtype == np.float32:
        batch[key][0] *= 0.25  # weights
        assert tb.check_batch(batch).ok


def test_labels_that_a_causal_model_shifts_away():
    labels = np.full(IDS.shape, -100)
    labels[:, 0] = IDS[:, 0]
    batch = {"input_ids": IDS, "labels": labels}
    assert found_in(batch) == [("batch_without_labels", "labels", None, None)]
    labels[1] = IDS[1]
    assert found_in(batch) == [("row_without_labels", "labels", 0, 0)]
    labels[0, 1] = IDS[0, 1]
    assert tb.check_batch(batch).ok


def test_labels_at_first_tokens_that_are_not_shifted_away():
    labels = np.full(IDS.shape, -100)
    labels[:, 0] = [1, 0]  # of rows, as tags of their first tokens
    assert tb.check_batch({"input_ids": IDS, "labels": labels}).ok
    labels[:, 0] = [777, 888]  # masked language modelling
    assert tb.check_batch({"input_ids": IDS, "labels": labels}).ok
    shifted = np.full(IDS.shape, -100)
    shifted[:, 0] = IDS[:, 1]
    assert tb.check_batch({"input_ids": IDS, "shift_labels": shifted}).ok


def test_a_row_of_its_last_token_alone_needs_no_label():
    """Where other rows end with the same token, it is the end of a text, or padding."""
    batch = {
        "input_ids": [[5, 9, 7, 9, 8, 6, 9]],
        "position_ids": [[0, 1, 0, 1, 0, 1, 2]],
        "shift_labels": [[9, -100, -100, -100, 6, 9, -100]],
    }
    assert tb.check_batch(batch).ok
    batch["input_ids"][0][3] = 3
    assert found_in(batch) == [("row_without_labels", "shift_labels", 0, 2)]


def test_the_message_of_a_label_beyond_the_vocabulary_says_both_numbers():
    batch = {"input_ids": IDS, "labels": IDS.copy()}
    batch["labels"][1, 4] = 4000
    with pytest.raises(ValueError, match=r"found label 4000, .* 0 to 499 "):
        tb.check_batch(batch, vocab_size=500)


def test_the_message_of_shifted_labels_says_by_how_much():
    ids = np.arange(3000, 3020)[None]
    for by, told in ((1, "the next token"), (2, "the one after it"), (-1, "the token before")):
        batch = {"input_ids": ids, "labels": np.roll(ids, -by)}
        edge = slice(-by, None) if by > 0 else slice(0, -by)
        batch["labels"][:, edge] = -100
        message = tb.check_batch(batch, raises=False).findings[0].message
        assert message == f"found at each token the label of {told}, expected that of its own token"


@pytest.mark.parametrize("first", [11, 3011])
@pytest.mark.parametrize("width", [4, 5, 6, 9])
def test_labels_that_are_shifted_twice(width, first):
    ids = np.arange(first, first + width)[None]
    twice = np.append(ids[:, 2:], [[-100, -100]], axis=1)
    batch = {"input_ids": ids, "shift_labels": twice}
    assert ("label_shift", "shift_labels", 0, 0) in found_in(batch)
    if width > 5:
        found = found_in({"input_ids": ids, "labels": twice})
        assert ("label_shift", "labels", 0, 0) in found


def test_a_few_tags_are_not_shifted_labels():
    for ids, tags in (([5, 6, 7, 8], [6, 7, 8, 8]), ([1, 2, 3], [2, 3, 4]), ([4, 5, 6], [9, 4, 5])):
        assert tb.check_batch({"input_ids": [ids], "labels": [tags]}).ok


def test_labels_of_other_rows_with_the_width_of_the_ids():
    samples = [{"input_ids": [5, 6, 7], "labels": [8, 9, 4]}, {"input_ids": [5], "labels": [8, 4]}]
    samples[1]["labels"].append(9)
    for count in (1, 2):
        samples[1]["input_ids"] = [5] * count
        batch = tb.PadCollator(return_tensors="np")(samples)
        assert tb.check_batch(batch).ok
    collate = tb.CheckedCollator(tb.PadCollator(return_tensors="np"))
    assert collate(samples)["labels"].tolist() == [[8, 9, 4], [8, 4, 9]]


def test_a_number_for_each_class_is_no_label_of_a_token():
    mask = [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = rng.integers(0, 2, (3, 4))
        batch = {"input_ids": IDS[0, :12].reshape(3, 4), "attention_mask": mask, "labels": labels}
        assert tb.check_batch(batch).ok


def test_tags_that_are_filled_with_one_value_are_found():
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]])
    tags = np.where(mask == 1, [[1, 2, 3, 4, 2, 1]], 0)
    batch = {"input_ids": IDS[0, :18].reshape(3, 6), "attention_mask": mask, "labels": tags}
    assert {("label_on_padding", "labels", 1, 3), ("label_on_padding", "labels", 2, 2)} == set(
        found_in(batch)
    )


@pytest.mark.parametrize("beyond", [1, 2, 3])
def test_tags_beyond_one_row_are_found_beside_rows_that_are_right(beyond):
    lengths = np.array([[4], [3], [5]])
    mask = np.arange(6) < lengths
    tags = np.where(mask, [[1, 2, 3, 1, 2, 3]], -100)
    batch = {"input_ids": np.arange(300, 318).reshape(3, 6), "attention_mask": mask}
    assert tb.check_batch({**batch, "labels": tags}).ok
    tags[1, 3 : 3 + beyond] = 2
    assert found_in({**batch, "labels": tags}) == [("label_on_padding", "labels", 1, 3)]


# --- positions, numbers, names --------------------------------------------------------------------


def test_positions_that_count_the_padding_before_the_tokens():
    ids, mask = IDS[:, :4], [[0, 0, 1, 1], [0, 0, 0, 1]]
    arange = np.arange(4)
    for rows in (slice(0, 1), slice(0, 2)):
        batch = {"input_ids": ids[rows], "attention_mask": mask[rows]}
        for positions in (np.tile(arange, (len(mask[rows]), 1)), arange[None], arange):
            found = found_in({**batch, "position_ids": positions})
            assert found[0] == ("positions_restart", "position_ids", 0, 2)
            assert len(found) == len(mask[rows])
    for right in ([[1, 1, 0, 1], [1, 1, 1, 0]], [[1, 1, 2, 3], [1, 1, 1, 2]]):
        assert tb.check_batch({"input_ids": ids, "attention_mask": mask, "position_ids": right}).ok
    one = {"input_ids": ids[:1], "attention_mask": [[0, 1, 1, 1]], "position_ids": [[1, 2, 3, 4]]}
    assert tb.check_batch(one).ok


@pytest.mark.parametrize("shape", [(2, 0), (0, 5), (0, 0), (0,)])
def test_empty_tensors(shape):
    torch = pytest.importorskip("torch")
    ids = torch.zeros(*shape, dtype=torch.long)
    for mask in (torch.zeros(*shape), ids, ids.bool()):
        batch = {"input_ids": ids, "attention_mask": mask, "labels": ids, "loss_mask": mask}
        assert tb.check_batch(batch).ok
    lists = {"cu_seqlens": ids[:0], "seq_lengths": ids[:0]}
    assert tb.check_batch({"input_ids": ids, "position_ids": ids, **lists}, raises=False).count < 3


def test_squares_without_heads():
    empty = np.zeros((2, 0, WIDTH, WIDTH), bool)
    assert tb.check_batch({"input_ids": IDS, "attention_mask": empty}).ok


@pytest.mark.parametrize(
    ("key", "kind"),
    [("input_ids", "id_range"), ("labels", "label_range"), ("position_ids", "position_range")],
)
def test_integers_beyond_64_bits(key, kind):
    for large in (10**5000, -(2**70), 2**64):
        batch = {"input_ids": [[1, 2], [3, 4]], key: [[1, 2], [3, large]]}
        report = tb.check_batch(batch, raises=False)
        assert (kind, key, 1, 1) in found_in(batch)
        message = next(finding.message for finding in report if finding.kind == kind)
        assert message == f"found an integer of {large.bit_length()} bits, expected at most 64"


def test_rows_that_hold_lists():
    endless = [1]
    endless.append(endless)
    for row in (endless, [1, [2]], [1, [[2]]]):
        report = tb.check_batch({"input_ids": [row]}, raises=False)
        assert [(f.kind, f.row, f.column) for f in report] == [("shape", 0, 1)]
        assert report.findings[0].message == "found a list among numbers, expected a number"


# A name, a wrong column of that name beside right ids, and what it is found as.
@pytest.mark.parametrize(
    ("key", "wrong", "kind"),
    [
        ("attention_masks", [[1, 0, 1]], "mask_hole"),
        ("attn_masks", [[1, 0, 1]], "mask_hole"),
        ("input_mask", [[1, 0, 1]], "mask_hole"),
        ("positions_ids", [[0, 2, 3]], "positions_step"),
        ("input_pos", [[0, 2, 3]], "positions_step"),
        ("labels_ids", [[-100, -100, -100]], "batch_without_labels"),
        ("labels_shifted", [[5, 6, 7]], "label_shift"),
        ("label_ids", [[-100, -100, -100]], "batch_without_labels"),
    ],
)
def test_names_are_read_as_collate_functions_read_them(key, wrong, kind):
    assert (kind, key) in {f[:2] for f in found_in({"input_ids": [[5, 6, 7]], key: wrong})}


@pytest.mark.parametrize("key", ["prompts", "responses", "completion_ids", "encoder_input"])
def test_tokens_of_a_part_have_a_shape_of_their_own(key):
    batch = {key: [[5, -6]], "input_ids": [[5, 6, 7]], "attention_mask": [[1, 1, 1]]}
    assert found_in(batch) == [("id_range", key, 0, 1)]


def test_masks_that_are_one_at_padding_are_not_taken_for_the_other():
    for key in ("key_padding_mask", "padding_mask"):
        batch = {"input_ids": [[5, 6, 0]], key: [[False, False, True]], "labels": [[5, 6, -100]]}
        assert tb.check_batch(batch).ok


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.int32])
def test_multi_hot_labels_that_were_padded(dtype):
    hot = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 1]], dtype)
    batch = {"input_ids": IDS[0].reshape(3, 6), "labels": hot}
    assert tb.check_batch(batch).ok
    for more in (1, 3, 20):
        if hot.shape[1] + more != 6:
            padded = np.pad(hot, ((0, 0), (0, more)), constant_values=-100)
            found = [("row_labels_padded", "labels", None, None)]
            assert found_in({**batch, "labels": padded}) == found
            finding, *_ = tb.check_batch({**batch, "labels": padded}, raises=False)
            message = finding.message
            assert f"found [3, {5 + more}]" in message
            assert "expected multi-hot labels as they are, [3, 5]" in message
            # A decoder's tokens, rows of other lengths, one row, one class, another fill.
            for labels in (
                np.where(padded == 1, 7, padded),
                np.where(np.arange(5 + more) < [[2], [5], [5]], padded, -100),
                np.where(padded == -100, -1, padded),
            ):
                assert "row_labels_padded" not in kinds({**batch, "labels": labels.astype(dtype)})
    one = np.array([[1, -100, -100], [0, -100, -100], [0, -100, -100]], dtype)
    assert kinds({**batch, "labels": one}) == set()
    single = {"input_ids": IDS[:1], "labels": np.array([[1, 0, -100]], dtype)}
    assert "row_labels_padded" not in kinds(single)
    # As wide as the ids: where labels are on padding, they are not of the tokens.
    padded = np.pad(hot, ((0, 0), (0, 1)), constant_values=-100)
    mask = np.arange(6) < [[3], [6], [4]]
    batch = {**batch, "labels": padded, "attention_mask": mask.astype(int)}
    assert "row_labels_padded" in kinds(batch)
    batch["attention_mask"][:] = 1
    assert "row_labels_padded" not in kinds(batch)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_negative_numbers_of_every_size(dtype):
    ids = np.array([[5, 6, 7], [8, 9, 0]], dtype)
    labels = np.array([[5, 6, 7], [8, 9, -100]], dtype)
    batch = {"input_ids": ids, "attention_mask": np.minimum(ids, 1), "labels": labels}
    assert tb.check_batch(batch, vocab_size=100).ok
    wrong = ids.copy()
    wrong[0, 1] = -3
    assert found_in({**batch, "input_ids": wrong}, vocab_size=100)[0][0] == "id_range"
    wrong = labels.copy()
    wrong[1, 0] = -7
    assert found_in({**batch, "labels": wrong}, vocab_size=100) == [("label_range", "labels", 1, 0)]


def test_columns_deeper_down_belong_to_the_tokens_around_them():
    ids = np.array([[5, 6, 7], [8, 9, 0]])
    labels = np.array([[5, 6, 7], [8, 9, 9]])
    mask = np.minimum(ids, 1)
    for text in (
        {"input_ids": ids, "attention_mask": mask, "more": {"labels": labels}},
        {"input_ids": ids, "more": {"attention_mask": mask, "labels": labels}},
    ):
        assert found_in({"text": text}) == [("label_on_padding", "text.more.labels", 1, 2)]
