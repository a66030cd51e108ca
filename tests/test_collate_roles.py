"""What PadCollator makes of a column by its name: fills, masks, positions, lengths, sides."""

import itertools
import pickle
from collections import namedtuple

import numpy as np
import pytest

import tightbatch as tb
from checks import assert_same, checked, fails
from tightbatch.collate import roles

NAME = "PadCollator()"


def collate(samples, *fill, **options):
    return checked(tb.PadCollator(*fill, return_tensors="np", **options), samples)


def two(*keys, long=(5, 6), short=(5,)):
    """Two samples with these keys, the second with shorter rows."""
    return [{key: list(row) for key in keys} for row in (long, short)]


class Tokenizer:
    pad_token_id = 9
    pad_token_type_id = 3
    padding_side = "right"


# Fills

FILLS = {
    "labels": -100,
    **dict.fromkeys(("label_ids", "chosen_labels", "rejected_labels", "shift_labels"), -100),
    **dict.fromkeys(("decoder_labels", "completion_labels", "labels_chosen", "entity_label"), -100),
    **dict.fromkeys(("attention_mask", "query_attention_mask", "decoder_attention_mask"), 0),
    **dict.fromkeys(("attention_mask_rejected", "global_attention_mask", "attn_mask"), 0),
    **dict.fromkeys(("loss_mask", "completion_mask", "assistant_masks", "assistant_mask"), 0),
    **dict.fromkeys(("prompt_mask", "response_mask", "tool_mask", "input_ids_mask", "mask"), 0),
    **dict.fromkeys(("token_type_ids", "query_token_type_ids", "mm_token_type_ids"), 0),
    **dict.fromkeys(("position_ids", "decoder_position_ids", "input_pos"), 0),
    **dict.fromkeys(("special_tokens_mask", "chosen_special_tokens_mask"), 1),
    **dict.fromkeys(("src_key_padding_mask", "key_padding_mask"), 1),
    **dict.fromkeys(("old_log_probs", "ref_chosen_logps", "advantages", "entity_ids"), 0),
    **dict.fromkeys(("targets", "tags", "ner_tags", "pos_tags", "chunk_tags", "tag_ids"), -100),
    **dict.fromkeys(("labels_shifted", "shifted_labels", "ner_ids", "span_targets"), -100),
    **dict.fromkeys(("positions", "pos_ids", "word_ids", "seq_idx", "sentence_ids"), 0),
    **dict.fromkeys(("type_ids", "seg_ids", "weights", "sample_weights", "is_masked"), 0),
    **dict.fromkeys(("rewards", "token_scores", "token_positions"), 0),
    **dict.fromkeys(("is_padding", "is_pad"), 1),
    **dict.fromkeys(("input_ids", "query_input_ids", "decoder_input_ids", "input_ids_chosen"), 1),
    **dict.fromkeys(("sentence_0_input_ids", "input_ids_0", "prompt_ids", "completion_ids"), 1),
    **dict.fromkeys(("chosen_ids", "rejected_ids", "tokens", "responses"), 1),
}


@pytest.mark.parametrize("key", FILLS)
@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_a_number_fills_tokens_and_no_column_that_means_something_else(key, kind):
    samples = [{"input_ids": kind([5, 6]), key: kind([5, 6])}, {"input_ids": [5], key: [5]}]
    if kind is np.array:
        samples[1] = {key: np.array(row) for key, row in samples[1].items()}
    batch = collate(samples, 1, attention_mask=False)
    assert_same(batch[key], [[5, 6], [5, FILLS[key]]], np.int64)


def test_fills_are_the_same_in_a_data_set_and_without_padding():
    keys = [key for key in FILLS if key not in ("attention_mask", "position_ids", "seq_idx")]
    data = tb.RaggedDataset({key: [[5, 6], [5]] for key in keys})
    batch = collate(data.__getitems__([0, 1]), 1, attention_mask=False)
    assert {key: int(batch[key][1, 1]) for key in keys} == {key: FILLS[key] for key in keys}
    flat = tb.PaddingFreeCollator(padding_value=1, max_tokens=4, return_tensors="np")
    names = {key: roles.read_name(key) for key in keys}
    refused = {key for key, name in names.items() if name.meaning in roles.MASKS}
    refused |= {
        key for key, name in names.items() if name.meaning == "labels" and name.part != ("", "")
    }
    keys = [key for key in keys if key not in refused or key == "labels"]
    tokens = two(*keys)
    batch = flat([{**sample, "labels": sample["input_ids"]} for sample in tokens])
    assert {key: int(batch[key][0, 3]) for key in keys} == {key: FILLS[key] for key in keys}


def test_names_of_namedtuples_count_too():
    Row = namedtuple("Row", "chosen_input_ids chosen_labels loss_mask")
    batch = collate([Row([5, 6], [5, 6], [1, 1]), Row([5], [5], [1])], 1)
    assert [column[1].tolist() for column in batch] == [[5, 1], [5, -100], [1, 0]]


@pytest.mark.parametrize("key", FILLS)
def test_a_mapping_always_wins(key):
    given = {key: 4}
    batch = collate(two("input_ids", key), given, attention_mask=False)
    assert batch[key][1].tolist() == [5, 4]


def test_a_mask_whose_meaning_differs_between_libraries_is_not_guessed():
    with fails(ValueError, NAME, "'padding_mask'", "padding_value="):
        collate(two("input_ids", "padding_mask"))
    for fill in (0, 1):
        batch = collate(two("input_ids", "padding_mask"), {"padding_mask": fill})
        assert batch["padding_mask"][1].tolist() == [5, fill]
    assert "padding_mask" in collate(two("input_ids", "padding_mask", short=(5, 6)))


UNKNOWN = ("anything", "n", "heads", "embedding_ids", "my_column", "dep")


@pytest.mark.parametrize("key", UNKNOWN)
@pytest.mark.parametrize("tokens", ["input_ids", "query_input_ids", "tokens"])
def test_the_padding_of_tokens_fills_no_integers_of_unknown_names_beside_them(tokens, key):
    with fails(ValueError, NAME, repr(key), "padding_value={", "beside tokens"):
        collate(two(tokens, key), 1)
    data = tb.RaggedDataset({tokens: [[5, 6], [5]], key: [[5, 6], [5]]})
    with fails(ValueError, NAME, repr(key)):
        collate(data.__getitems__([0, 1]), 1)
    for fill in ((), ({tokens: 1},)):
        assert collate(two(tokens, key), *fill)[key][1].tolist() == [5, 0]
    assert collate(two(tokens, key), {tokens: 1, key: -100})[key][1].tolist() == [5, -100]
    # Nothing is filled; they are no rows of integers; or no tokens are there that are known.
    assert collate(two(tokens, key, short=(5, 6)), 1)[key].tolist() == [[5, 6], [5, 6]]
    assert collate([{tokens: [5, 6], key: 3}, {tokens: [5], key: 3}], 1)[key].tolist() == [3, 3]
    floats = [{tokens: [5, 6], key: [0.5, 0.5]}, {tokens: [5], key: [0.5]}]
    assert collate(floats, 1)[key][1].tolist() == [0.5, 0]
    assert collate(two("src", key), 1)[key][1].tolist() == [5, 1]
    assert collate([[5, 6], [5]], 1)[1].tolist() == [5, 1]


@pytest.mark.parametrize("key", sorted(roles.LABELS_BESIDE_TOKENS))
def test_short_names_are_labels_beside_tokens(key):
    for fill in ((), (1,), ({"input_ids": 1},)):
        assert collate(two("input_ids", key), *fill)[key][1].tolist() == [5, -100]
    assert collate(two("input_ids", key), {key: 4})[key][1].tolist() == [5, 4]
    assert collate(two("x", key))[key][1].tolist() == [5, 0]


@pytest.mark.parametrize("key", ["weights", "scores", "rewards", "positions", "word_ids"])
def test_names_that_can_be_anything_say_nothing_of_the_shape(key):
    """Vectors of other lengths are an error, and no mask is of them."""
    with fails(ValueError, NAME, repr(key), "row 1"):
        collate([{"input_ids": [5], key: [0.5, 0.5]}, {"input_ids": [5], key: [0.5]}], 1)
    assert list(collate(two(key))) == [key, "attention_mask"]


def test_a_number_does_not_fill_floats_beside_tokens():
    samples = [{"input_ids": [5, 6], "weights": [0.5, 0.5]}, {"input_ids": [5], "weights": [0.5]}]
    assert_same(collate(samples, 1)["weights"], [[0.5, 0.5], [0.5, 0]], np.float32)
    assert_same(collate([[0.5, 0.5], [0.5]], 1), [[0.5, 0.5], [0.5, 1]], np.float32)


TOKENS = [
    *("input_ids", "chosen_input_ids", "rejected_input_ids", "prompt_input_ids", "query_input_ids"),
    *("anchor_input_ids", "positive_input_ids", "negative_1_input_ids", "decoder_input_ids"),
    *("encoder_input_ids", "input_ids_rejected", "prompt_ids", "chosen_ids", "teacher_input_ids"),
]


def test_a_tokenizer_fills_all_tokens_and_their_types():
    collator = tb.PadCollator.from_tokenizer(Tokenizer, return_tensors="np")
    types = ["token_type_ids", "query_token_type_ids"]
    batch = collator(two(*TOKENS, *types, "loss_mask", "chosen_labels", "anything"))
    assert {int(batch[key][1, 1]) for key in TOKENS} == {9}
    assert {int(batch[key][1, 1]) for key in types} == {3}
    assert [int(batch[key][1, 1]) for key in ("loss_mask", "chosen_labels")] == [0, -100]
    assert int(batch["anything"][1, 1]) == 0
    other = tb.PadCollator.from_tokenizer(
        Tokenizer, padding_value={"query_input_ids": 4}, return_tensors="np"
    )
    batch = pickle.loads(pickle.dumps(other))(two("input_ids", "query_input_ids"))
    assert [int(batch[key][1, 1]) for key in ("input_ids", "query_input_ids")] == [9, 4]


# Masks


def masks_of(*keys, **options):
    batch = collate(two(*keys), **options)
    return [key for key in batch if key not in keys]


@pytest.mark.parametrize("part", ["query", "anchor", "positive", "negative", "chosen", "rejected"])
def test_each_part_has_one_mask(part):
    other = "decoder"
    keys = [f"{part}_input_ids", f"{other}_input_ids"]
    assert masks_of(*keys) == [f"{part}_attention_mask", f"{other}_attention_mask"]
    assert masks_of(*keys, f"{part}_attention_mask") == [f"{other}_attention_mask"]
    assert masks_of(*keys[::-1], f"{part}_attention_mask") == [f"{other}_attention_mask"]
    assert masks_of(*keys, attention_mask=False) == []
    assert masks_of(f"input_ids_{part}", "input_ids_b") == [
        f"attention_mask_{part}",
        "attention_mask_b",
    ]
    batch = collate([{keys[0]: [1, 2], keys[1]: [1]}, {keys[0]: [3], keys[1]: [4, 5, 6]}])
    assert batch[f"{part}_attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch[f"{other}_attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    "mask",
    "attention_mask attention_masks attn_mask input_mask mask input_ids_mask "
    "src_key_padding_mask".split(),
)
def test_no_mask_is_added_beside_one_of_another_spelling(mask):
    expected = ["attention_mask"] if mask == "src_key_padding_mask" else []
    assert masks_of("input_ids", mask) == expected
    query = f"query_{mask}" if mask != "input_ids_mask" else "query_input_ids_mask"
    if not expected:
        assert masks_of("query_input_ids", query) == []


@pytest.mark.parametrize("mask", ["loss_mask", "completion_mask", "assistant_masks", "prompt_mask"])
def test_a_mask_that_chooses_tokens_is_no_attention_mask(mask):
    assert masks_of("input_ids", mask, "labels") == ["attention_mask"]
    assert masks_of("prompt_ids", "prompt_mask", "completion_ids", "completion_mask") == []


def test_a_plain_mask_is_that_of_the_only_tokens():
    assert masks_of("decoder_input_ids", "attention_mask") == []
    assert masks_of("input_values", "attention_mask") == []
    assert masks_of("input_features", "decoder_input_ids") == [
        "attention_mask",
        "decoder_attention_mask",
    ]
    assert masks_of("labels", "loss_mask", "tokens") == ["attention_mask"]


def test_columns_of_a_part_are_as_long_as_its_tokens():
    samples = [{"query_input_ids": [1, 2], "query_attention_mask": [1]}]
    with fails(ValueError, NAME, "'query_attention_mask'", "row 0", "length 1", "query_input_ids"):
        collate(samples)
    samples = [{"input_ids": [1, 2], "decoder_attention_mask": [1], "query_token_type_ids": [1]}]
    assert collate(samples)["decoder_attention_mask"].shape == (1, 1)


# Positions, lengths, sides


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["dicts", "tuples", "rows"])
def test_position_ids_are_made(side, kind):
    rows = [[5, 6, 7], [8], []]
    samples = {"dicts": [{"input_ids": r} for r in rows], "tuples": [(r, 1) for r in rows]}
    batch = collate(samples.get(kind, rows), return_position_ids=True, padding_side=side)
    found = batch["position_ids"] if kind == "dicts" else batch[-1]
    assert_same(found, tb.position_ids([3, 1, 0], padding_side=side), np.int64)


def test_position_ids_of_each_part_and_those_that_are_given():
    samples = [
        {"input_ids": [1, 2], "query_input_ids": [3], "query_position_ids": [7]},
        {"input_ids": [1], "query_input_ids": [3, 4], "query_position_ids": [5, 6]},
    ]
    batch = collate(samples, return_position_ids=True)
    assert batch["position_ids"].tolist() == [[0, 1], [0, 0]]
    assert batch["query_position_ids"].tolist() == [[7, 0], [5, 6]]
    batch = collate(samples, return_position_ids=True, padding_side="left")
    assert batch["position_ids"].tolist() == [[0, 1], [0, 0]]
    assert batch["query_position_ids"].tolist() == [[0, 7], [5, 6]]
    batch = collate([{"input_ids": [1, 2, 3]}], return_position_ids=True, width=5, max_length=2)
    assert batch["position_ids"].tolist() == [[0, 1, 0, 0, 0]]


@pytest.mark.parametrize("make", [list, np.array], ids=["lists", "arrays"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_positions_of_several_axes(make, side):
    axes = [[[0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 0, 1]], [[0, 1], [0, 1], [0, 1]]]
    samples = [
        {"input_ids": make(list(range(len(axis[0])))), "position_ids": make(axis)} for axis in axes
    ]
    found = collate(samples, padding_side=side)["position_ids"]
    expected = [[axes[0][i], tb.pad([axes[1][i]], width=4, padding_side=side)[0]] for i in range(3)]
    np.testing.assert_array_equal(found, expected, strict=False)
    assert found.dtype == np.int64
    assert found.flags.c_contiguous
    last = [{**s, "position_ids": make(np.array(s["position_ids"]).T.tolist())} for s in samples]
    found = collate(last, padding_side=side)["position_ids"]
    assert_same(found, np.array(expected).transpose(1, 2, 0), np.int64)


def test_positions_of_several_axes_that_do_not_fit():
    square = [{"input_ids": [1, 2, 3], "position_ids": np.zeros((3, 3), int)}]
    with fails(ValueError, NAME, "'position_ids'", "(3, 3)"):
        collate(square)
    other = [{"input_ids": [1, 2], "position_ids": np.zeros((3, 4), int)}]
    with fails(ValueError, NAME, "'position_ids'", "row 0", "(3, 4)", "2 tokens"):
        collate(other)
    unlike = [{"input_ids": [1, 2], "position_ids": np.zeros((n, 2), int)} for n in (3, 4)]
    with fails(ValueError, NAME, "'position_ids'", "row 1", "has 4 rows", "expected 3"):
        collate(unlike)


def test_lengths_by_key():
    samples = [
        {"input_features": np.ones((4, 2), "f4"), "labels": [1, 2, 3]},
        {"input_features": np.ones((2, 2), "f4"), "labels": [1]},
    ]
    batch = collate(samples, return_lengths=["input_features", "labels"])
    assert_same(batch["input_features_lengths"], [4, 2], np.int64)
    assert_same(batch["labels_lengths"], [3, 1], np.int64)
    names = {"input_features": "input_lengths", "labels": "target_lengths"}
    batch = collate(samples, return_lengths=names, max_length={"labels": 2})
    assert_same(batch["input_lengths"], [4, 2], np.int64)
    assert_same(batch["target_lengths"], [2, 1], np.int64)
    batch = collate(samples, return_lengths="labels")
    assert list(batch) == ["input_features", "labels", "attention_mask", "labels_lengths"]
    batch = collate([([1.0, 2.0], [1]), ([1.0], [1, 2, 3])], return_lengths=(0, 1))
    assert [part.tolist() for part in batch[2:]] == [[2, 1], [1, 3]]
    with fails(ValueError, NAME, "return_lengths=", "'missing'"):
        collate(samples, return_lengths=["missing"])
    with fails(ValueError, NAME, "return_lengths=", "'n'"):
        collate([{"input_ids": [1], "n": 1}], return_lengths=["n"])
    with fails(ValueError, NAME, "'x_lengths'"):
        collate([{"x": [1], "x_lengths": 1}], return_lengths=["x"])


def test_lengths_serve_ctc():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    samples = [
        {"input_features": rng.normal(size=(t, 4)).astype("f4"), "labels": rng.integers(1, 6, s)}
        for t, s in ((9, 3), (5, 2), (7, 1))
    ]
    names = {"input_features": "input_lengths", "labels": "target_lengths"}
    batch = tb.PadCollator({"labels": 0}, return_lengths=names)(samples)
    layer = torch.nn.Linear(4, 6)
    loss = torch.nn.CTCLoss(reduction="none")

    def losses(batch):
        scores = layer(batch["input_features"]).log_softmax(-1).transpose(0, 1)
        return loss(scores, batch["labels"], batch["input_lengths"], batch["target_lengths"])

    alone = [losses(tb.PadCollator(return_lengths=names)([sample])) for sample in samples]
    torch.testing.assert_close(losses(batch), torch.cat(alone))


def test_a_side_of_each_column():
    samples = [
        {"prompt_input_ids": [1, 2], "prompt_attention_mask": [1, 1], "completion_input_ids": [3]},
        {"prompt_input_ids": [1], "prompt_attention_mask": [1], "completion_input_ids": [3, 4]},
    ]
    options = {"padding_side": {"prompt_input_ids": "left"}, "return_position_ids": True}
    batch = collate(samples, **options)
    assert batch["prompt_input_ids"].tolist() == [[1, 2], [0, 1]]
    assert batch["prompt_attention_mask"].tolist() == [[1, 1], [0, 1]]
    assert batch["prompt_position_ids"].tolist() == [[0, 1], [0, 0]]
    assert batch["completion_input_ids"].tolist() == [[3, 0], [3, 4]]
    assert batch["completion_attention_mask"].tolist() == [[1, 0], [1, 1]]
    plain = two("input_ids", "labels", "loss_mask", "other")
    batch = collate(plain, padding_side={"input_ids": "left", "other": "left"})
    assert {key: column[1].tolist() for key, column in batch.items()} == {
        "input_ids": [0, 5],
        "labels": [-100, 5],
        "loss_mask": [0, 5],
        "other": [0, 5],
        "attention_mask": [0, 1],
    }
    batch = collate(plain, padding_side={"input_ids": "left", "labels": "right"})
    assert batch["labels"][1].tolist() == [5, -100]


def test_columns_of_a_part_have_the_widths_of_its_tokens():
    keys = ("query_input_ids", "query_attention_mask", "query_token_type_ids", "labels")
    batch = collate(two(*keys), width={"query_input_ids": 4}, max_length={"query_input_ids": 1})
    assert batch["query_attention_mask"].tolist() == [[5, 0, 0, 0]] * 2
    assert batch["query_token_type_ids"].shape == (2, 4)
    assert batch["labels"].shape == (2, 2)


# Names


def test_a_tokenizers_collator_names_labels_as_models_do():
    collator = tb.PadCollator.from_tokenizer(Tokenizer, return_tensors="np")
    for key in ("label", "label_ids"):
        batch = collator([{"input_ids": [1, 2], key: 1}, {"input_ids": [3], key: 0}])
        assert list(batch) == ["input_ids", "labels", "attention_mask"]
        assert_same(batch["labels"], [1, 0], np.int64)
    batch = collator(two("input_ids", "label"))
    assert batch["labels"].tolist() == [[5, 6], [5, -100]]
    batch = collator([{"input_ids": [1], "label": 1, "labels": 2}])
    assert (batch["label"].tolist(), batch["labels"].tolist()) == ([1], [2])
    data = tb.RaggedDataset({"input_ids": [[1], [2, 3]], "label": np.array([1, 0])})
    assert collator(data.__getitems__([1, 0]))["labels"].tolist() == [0, 1]
    kept = tb.PadCollator.from_tokenizer(Tokenizer, rename=None, return_tensors="np")
    assert "label" in kept([{"input_ids": [1], "label": 1}])
    asked = tb.PadCollator.from_tokenizer(
        Tokenizer, padding_value={"label": -1}, return_tensors="np"
    )
    assert asked(two("input_ids", "label"))["labels"].tolist() == [[5, 6], [5, -1]]


def test_columns_can_be_renamed():
    batch = collate(two("ids", "texts_labels"), 7, rename={"ids": "input_ids", "none": "x"})
    assert list(batch) == ["input_ids", "texts_labels", "attention_mask"]
    assert batch["input_ids"].tolist() == [[5, 6], [5, 7]]
    batch = collate([{"input_ids": [1], "text": "a"}], rename={"text": "prompt"})
    assert batch["prompt"] == ["a"]
    with fails(ValueError, NAME, "key 'ids'", "row 0"):
        collate([{"ids": [1], "attention_mask": [1, 1]}], rename={"ids": "input_ids"})
    assert len(collate([([1], [2])], rename={0: 1})) == 2


def test_plans_of_different_batches_do_not_mix():
    collator = tb.PadCollator(1, return_tensors="np")
    for keys in itertools.permutations(["input_ids", "labels", "query_input_ids", "word_ids"], 3):
        for number in (True, False):
            samples = two(*keys)
            if number:
                samples = [{**sample, keys[-1]: 3} for sample in samples]
            found, alone = collator(samples), tb.PadCollator(1, return_tensors="np")(samples)
            assert list(found) == list(alone)
            assert all(np.array_equal(found[key], alone[key]) for key in alone)
    for count in range(200):  # more than are remembered
        assert list(collator([{f"x{count}": [1]}])) == [f"x{count}", "attention_mask"]


# The table


def test_the_names_of_the_peers_are_known():
    """What the peers' own collators make has a meaning, and it is the one that they use."""
    for key in ("input_ids", "attention_mask", "token_type_ids", "labels", "position_ids"):
        for name in (key, f"query_{key}", f"{key}_chosen"):
            assert roles.read_name(name).meaning is not None
            assert roles.read_name(name).sibling(key) == name
    assert roles.read_name("seq_lengths").meaning == "segments"
    for nothing in ("x", "embedding", "y", "input_ids_lengths", "ids", "", 0, None, ("a",)):
        assert roles.read_name(nothing).meaning is None


def test_parts():
    for key, part in {
        "input_ids": ("", ""),
        "negative_2_input_ids": ("negative_2", ""),
        "attention_mask_b": ("", "b"),
        "prompt_ids": ("prompt", ""),
        "ref_chosen_ids": ("ref_chosen", ""),
        "query_input_ids_mask": ("query", ""),
        "completion_mask": ("completion", ""),
    }.items():
        assert roles.read_name(key).part == part


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_of_the_segment_of_its_row(side):
    """Segment 0, as each row is one: another number would join the padding of rows to a row."""
    samples = [{"input_ids": [5, 6, 7], "seq_idx": [0, 0, 0]}, {"input_ids": [8], "seq_idx": [0]}]
    batch = tb.PadCollator(padding_side=side, return_tensors="np")(samples)
    assert batch["seq_idx"].tolist() == [[0, 0, 0], [0, 0, 0]]
