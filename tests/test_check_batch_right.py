"""check_batch finds nothing in right batches: ours under every option, transformers', TRL's."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tightbatch as tb

LIMITS = {"vocab_size": 1000, "max_position": 200}
# At least two tokens: one token alone has nothing to predict.
rows = st.lists(st.lists(st.integers(5, 999), min_size=2, max_size=12), min_size=1, max_size=6)
quickly = settings(max_examples=25, deadline=None)


def plain(given_rows):
    return [{"input_ids": row} for row in given_rows]


def labelled(given_rows):
    return [{"input_ids": row, "labels": row} for row in given_rows]


def answers(given_rows):
    """Only the second half is trained, as in instruction tuning."""
    halves = [(row, len(row) // 2) for row in given_rows]
    return [{"input_ids": row, "labels": [-100] * half + row[half:]} for row, half in halves]


def tags(given_rows):
    return [{"input_ids": row, "labels": [token % 5 for token in row]} for row in given_rows]


def classes(given_rows):
    return [{"input_ids": row, "label": i % 3} for i, row in enumerate(given_rows)]


def whole(given_rows):
    keys = ("attention_mask", "special_tokens_mask", "token_type_ids")
    others = {"attention_mask": 1, "special_tokens_mask": 0, "token_type_ids": 0}
    return [
        {"input_ids": row, **{key: [others[key]] * len(row) for key in keys}} for row in given_rows
    ]


def assert_right(batch, **options):
    report = tb.check_batch(batch, raises=False, **{**LIMITS, **options})
    assert report.ok, f"{report}\n{batch}"


SAMPLES = [plain, labelled, answers, tags, classes, whole]
PAD_OPTIONS = {
    "as it is": {},
    "left": {"padding_side": "left"},
    "multiple": {"pad_to_multiple_of": 8, "return_lengths": True},
    "width": {"width": 20, "return_lengths": True},
    "left width": {"width": 20, "padding_side": "left", "return_lengths": True},
    "no mask": {"attention_mask": False, "return_lengths": True},
    "no mask, left": {"attention_mask": False, "padding_side": "left", "width": 16},
    "boundaries": {"boundaries": [4, 8, 16]},
    "fill": {"padding_value": 1},
    "int32": {"dtype": {"input_ids": "int32", "labels": "int32"}},
}


@pytest.mark.parametrize("options", PAD_OPTIONS.values(), ids=PAD_OPTIONS)
@pytest.mark.parametrize("make", SAMPLES, ids=lambda f: f.__name__)
@quickly
@given(rows)
@example([[5, 5], [5, 5], [5, 5, 5, 6]])  # tags of 0 are what the padding is
def test_our_padded_batches(make, options, given_rows):
    assert_right(tb.PadCollator(return_tensors="np", **options)(make(given_rows)))


FREE_OPTIONS = {
    "as it is": {},
    "shifted": {"shift_labels": True},
    "all returns": {"return_num_items": True, "return_row_idx": True, "shift_labels": True},
    "tokens": {"max_tokens": 96},
    "tokens, cut": {"max_tokens": 96, "max_length": 6},
    "multiple": {"pad_to_multiple_of": 8},
    "segments": {"segment_multiple_of": 4},
    "segments, shifted": {"segment_multiple_of": 4, "shift_labels": True},
    "static": {"max_tokens": 96, "max_segments": 110, "max_seqlen": 96},
    "start": {"position_ids_start": 2},
}


@pytest.mark.parametrize("naming", ["transformers", "flash_attn", "varlen_attn", "megatron"])
@pytest.mark.parametrize("options", FREE_OPTIONS.values(), ids=FREE_OPTIONS)
@quickly
@given(rows)
def test_our_batches_without_padding(options, naming, given_rows):
    collate = tb.PaddingFreeCollator(naming=naming, return_tensors="np", **options)
    for make in (plain, labelled, classes):
        assert_right(collate(make(given_rows)))
    if "max_length" not in options:  # which may cut an answer off
        assert_right(collate(answers(given_rows)))


@quickly
@given(rows)
@example([[5, 5], [5, 5, 5]])  # a row of one token is no tail of padding
def test_our_batches_without_padding_of_other_labels(given_rows):
    collate = tb.PaddingFreeCollator(return_labels=False, return_tensors="np")
    for make in (plain, tags, classes):
        assert_right(collate(make(given_rows)))


@quickly
@given(st.lists(rows, min_size=1, max_size=3))
def test_packs_in_our_batches_without_padding(packs):
    samples = [
        {
            "input_ids": list(itertools.chain(*pack)),
            "labels": list(itertools.chain(*pack)),
            "seq_lengths": list(map(len, pack)),
        }
        for pack in packs
    ]
    assert_right(tb.PaddingFreeCollator(return_tensors="np")(samples))


@quickly
@given(rows)
def test_our_functions(given_rows):
    lengths = list(map(len, given_rows))
    total = sum(lengths)
    flat = np.concatenate(given_rows)[None]
    for side in ("right", "left"):
        batch = {
            "input_ids": tb.pad(given_rows, padding_side=side),
            "attention_mask": tb.attention_mask(lengths, padding_side=side),
            "position_ids": tb.position_ids(lengths, padding_side=side),
            "lengths": lengths,
        }
        assert_right(batch)
    packed = {
        "input_ids": flat,
        "position_ids": tb.position_ids([lengths]),
        "segment_ids": tb.segment_ids([lengths]),
        "cu_seqlens": tb.cu_seqlens(lengths),
        "max_seqlen": max(lengths),
        "seq_lengths": [lengths],
    }
    assert_right(packed)
    for options in ({}, {"causal": True}, {"causal": True, "window": 3}, {"additive": True}):
        mask = tb.segment_mask(tb.segment_ids([lengths], total + 2), **options)
        wider = {
            "input_ids": tb.pad([flat[0]], width=total + 2),
            "position_ids": tb.position_ids([lengths], total + 2),
            "segment_ids": tb.segment_ids([lengths], total + 2),
            "attention_mask": mask,
        }
        assert_right(wider)
        assert_right({**wider, "attention_mask": mask[:, None]})


# --- peers ----------------------------------------------------------------------------------------


def tokenizer_of(side):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from comparing_huggingface import make_tokenizer

    return make_tokenizer(padding_side=side)


class Decoder:
    """What a collator asks of a model: inputs of its decoder, shifted to the right."""

    def prepare_decoder_input_ids_from_labels(self, labels):
        shifted = labels.new_zeros(labels.shape)
        shifted[:, 1:] = labels[:, :-1]
        shifted[:, 0] = 1
        return shifted.masked_fill(shifted == -100, 0)


def random_rows(rng, count, low=2, high=14):
    return [rng.integers(300, 999, rng.integers(low, high)).tolist() for _ in range(count)]


def drawn(seed):
    rng = np.random.default_rng(seed)
    return rng, random_rows(rng, rng.integers(1, 7))


def pairs(rng, given_rows):
    others = random_rows(rng, len(given_rows))
    return [
        {"input_ids": row, "labels": other} for row, other in zip(given_rows, others, strict=True)
    ]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("ours", [False, True], ids=["transformers", "tightbatch"])
def test_data_collators(ours, side):
    tokenizer = tokenizer_of(side)
    transformers = pytest.importorskip("transformers")
    library = __import__("tightbatch.huggingface").huggingface if ours else transformers
    scattered = ("row_without_labels", "batch_without_labels")
    flattening = library.DataCollatorWithFlattening
    for seed in range(60):
        rng, given_rows = drawn(seed)
        for more in ({}, {"pad_to_multiple_of": 8}):
            pad = library.DataCollatorWithPadding(tokenizer, **more)
            assert_right(pad(whole(given_rows)))
            assert_right(pad(classes(given_rows)))
            assert_right(
                library.DataCollatorForTokenClassification(tokenizer, **more)(tags(given_rows))
            )
            seq2seq = library.DataCollatorForSeq2Seq(tokenizer, **more)
            assert_right(seq2seq(pairs(rng, given_rows)))
            assert_right(seq2seq(answers(given_rows)))
            with_decoder = library.DataCollatorForSeq2Seq(tokenizer, model=Decoder(), **more)
            assert_right(with_decoder(pairs(rng, given_rows)))
            causal = library.DataCollatorForLanguageModeling(tokenizer, mlm=False, **more)
            assert_right(causal(plain(given_rows)))
            masked = library.DataCollatorForLanguageModeling(tokenizer, **more)
            assert_right(masked(plain(given_rows)), skip=scattered)
        if side == "right":
            everything = {"return_flash_attn_kwargs": True, "return_seq_idx": True}
            for options in ({}, everything, {"return_position_ids": False, **everything}):
                assert_right(flattening(**options)(plain(given_rows)))
                assert_right(flattening(**options)(answers(given_rows)))


def test_masked_language_modelling_leaves_rows_without_labels_by_chance():
    tokenizer = tokenizer_of("right")
    transformers = pytest.importorskip("transformers")
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, seed=0)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        samples = plain(random_rows(rng, 6, 10, 30))
        batch = collate(samples)
        assert (batch["labels"] != -100).any()
        assert_right(batch)


def test_other_data_collators():
    tokenizer = tokenizer_of("right")
    transformers = pytest.importorskip("transformers")
    for seed in range(40):
        rng = np.random.default_rng(seed)
        questions = [
            {"input_ids": (choices := random_rows(rng, 3)), "label": seed % 3}
            | {"attention_mask": [[1] * len(choice) for choice in choices]}
            for _ in range(rng.integers(1, 4))
        ]
        assert_right(transformers.DataCollatorForMultipleChoice(tokenizer)(questions))
        same = [random_rows(rng, 1, 6, 7)[0] for _ in range(3)]
        assert_right(transformers.default_data_collator(classes(same)))
        permuted = transformers.DataCollatorForPermutationLanguageModeling(tokenizer)
        assert_right(permuted(plain(same)), skip=("row_without_labels", "batch_without_labels"))


def test_trl_collators():
    sft = pytest.importorskip("trl.trainer.sft_trainer")
    dpo = pytest.importorskip("trl.trainer.dpo_trainer")
    reward = pytest.importorskip("trl.trainer.reward_trainer")
    kto = pytest.importorskip("trl.trainer.kto_trainer")
    for seed in range(40):
        rng, given_rows = drawn(seed)
        for options in (
            {},
            {"pad_to_multiple_of": 8},
            {"padding_free": True},
            {"padding_free": True, "pad_to_multiple_of": 8},
            {"return_position_ids": True},
        ):
            collate = sft.DataCollatorForLanguageModeling(0, **options)
            for make in (plain, answers):
                assert_right(collate(make(given_rows)))
        packs = [
            {"input_ids": [*first, *second], "seq_lengths": [len(first), len(second)]}
            for first, second in itertools.pairwise([given_rows[0], *given_rows])
        ]
        for options in ({"padding_free": True}, {"padding_free": True, "pad_to_multiple_of": 8}):
            assert_right(sft.DataCollatorForLanguageModeling(0, **options)(packs))
        others = random_rows(rng, len(given_rows)), random_rows(rng, len(given_rows))
        preferences = [
            {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
            for prompt, chosen, rejected in zip(given_rows, *others, strict=True)
        ]
        unpaired = [
            {
                "prompt_ids": prompt,
                "completion_ids": chosen,
                "KL_completion_ids": rejected,
                "label": True,
            }
            for prompt, chosen, rejected in zip(given_rows, *others, strict=True)
        ]
        for options in ({}, {"pad_to_multiple_of": 8}):
            assert_right(dpo.DataCollatorForPreference(0, **options)(preferences))
            assert_right(reward.DataCollatorForPreference(0, **options)(preferences))
            assert_right(kto.DataCollatorForUnpairedPreference(0, **options)(unpaired))
