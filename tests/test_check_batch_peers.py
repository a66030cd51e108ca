"""What check_batch finds in batches that other libraries' collators make, as docs/peers.md says.

Each test asserts on the batch of the peer as installed. When one of them fails because the peer was
mended, the line of the table goes.
"""

import numpy as np
import pytest

import tightbatch as tb


def found_in(batch, **options):
    report = tb.check_batch(batch, raises=False, **options)
    return [(f.kind, f.key, f.row, f.column) for f in report]


def sft(**options):
    trainer = pytest.importorskip("trl.trainer.sft_trainer")
    return trainer.DataCollatorForLanguageModeling(0, **options)


PACKS = [
    {"input_ids": [5, 6, 7, 8, 9], "seq_lengths": [3, 2]},
    {"input_ids": [10, 11, 12], "seq_lengths": [3]},
]


def test_trl_packs_with_positions_beside_a_mask():
    """The mask of ones hides that there are several rows; and labels cross them."""
    batch = sft(return_position_ids=True)([dict(pack) for pack in PACKS])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 0, 0]]
    assert found_in(batch) == [
        ("mask_joins_rows", "attention_mask", 0, 3),
        ("label_crosses_rows", "labels", 0, 3),
    ]


def test_trl_packs_without_positions_are_one_row():
    """Nothing in the batch tells that there are two rows, so that nothing can be found."""
    batch = sft()([dict(pack) for pack in PACKS])
    assert "position_ids" not in batch
    assert found_in(batch) == []
    told = {**batch, "seq_lengths": [pack["seq_lengths"] for pack in PACKS]}
    assert ("mask_joins_rows", "attention_mask", 0, 3) in found_in(told)
    assert ("label_crosses_rows", "labels", 0, 3) in found_in(told)


def test_trl_packs_without_padding_are_right():
    assert found_in(sft(padding_free=True)([dict(pack) for pack in PACKS])) == []


def test_trl_merges_rows_after_a_length_of_zero():
    """The batch is of one mind, but the lengths that it was made from say otherwise."""
    packs = [
        {"input_ids": [1, 2, 3, 4], "seq_lengths": [3, 1, 0]},
        {"input_ids": [5, 6], "seq_lengths": [2]},
    ]
    batch = sft(padding_free=True)([dict(pack) for pack in packs])
    told = {**batch, "seq_lengths": [pack["seq_lengths"] for pack in packs]}
    assert ("length", "seq_lengths", 0, 2) in found_in(told)


def test_trl_preferences_lose_their_completions_to_max_length():
    dpo = pytest.importorskip("trl.trainer.dpo_trainer")
    samples = [
        {"prompt_ids": [5, 6, 7, 8], "chosen_ids": [9, 10], "rejected_ids": [11]},
        {"prompt_ids": [5, 6], "chosen_ids": [9, 10], "rejected_ids": [11]},
    ]
    batch = dpo.DataCollatorForPreference(0, max_length=4)(samples)
    assert found_in(batch) == [
        ("row_without_labels", "completion_mask", 0, 0),
        ("row_without_labels", "completion_mask", 2, 0),
    ]
    batch = dpo.DataCollatorForPreference(0, max_length=2)(samples)
    assert ("batch_without_labels", "completion_mask", None, None) in found_in(batch)


def test_transformers_flattening_has_more_labels_than_tokens_for_an_empty_row():
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    samples = [{"input_ids": row} for row in ([5, 6], [], [7, 8])]
    for options in ({}, {"return_flash_attn_kwargs": True, "return_seq_idx": True}):
        batch = transformers.DataCollatorWithFlattening(**options)(samples)
        assert batch["labels"].shape == (1, 5)
        assert batch["input_ids"].shape == (1, 4)
        assert found_in(batch) == [("shape", "labels", None, None)]


@pytest.fixture
def tokenizer():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from comparing_huggingface import make_tokenizer

    return make_tokenizer()


def test_transformers_masked_language_modelling_may_mask_nothing(tokenizer):
    transformers = pytest.importorskip("transformers")
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, seed=0)
    rng, unlabelled = np.random.default_rng(0), 0
    for _ in range(200):
        samples = [{"input_ids": rng.integers(5, 99, 4).tolist()} for _ in range(2)]
        batch = collate(samples)
        found = found_in(batch)
        is_unlabelled = bool((batch["labels"] == -100).all())
        assert (("batch_without_labels", "labels", None, None) in found) == is_unlabelled
        unlabelled += is_unlabelled
    assert unlabelled > 20  # 0.85 ** 8 is 0.27


def test_transformers_pads_an_empty_row_to_a_row_of_padding(tokenizer):
    transformers = pytest.importorskip("transformers")
    samples = [{"input_ids": [5, 6, 7]}, {"input_ids": []}]
    batch = transformers.DataCollatorWithPadding(tokenizer)(samples)
    assert found_in(batch) == [("mask_empty", "attention_mask", 1, None)]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("function", ["create_causal_mask", "create_sliding_window_causal_mask"])
def test_transformers_own_masks_are_right_and_inverted_ones_are_not(implementation, function):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    masking = pytest.importorskip("transformers.masking_utils")
    config = transformers.LlamaConfig(
        hidden_size=8, num_attention_heads=1, num_hidden_layers=1, intermediate_size=8
    )
    config.sliding_window, config._attn_implementation = 3, implementation
    ids = torch.arange(300, 312).view(2, 6)
    for padded in ([0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]):
        seen = getattr(masking, function)(
            config=config,
            inputs_embeds=torch.zeros(2, 6, 8),
            attention_mask=torch.tensor([padded, [1] * 6]),
            past_key_values=None,
        )
        assert seen.shape == (2, 1, 6, 6)
        assert found_in({"input_ids": ids, "attention_mask": seen}) == []
        if implementation == "sdpa":
            found = found_in({"input_ids": ids, "attention_mask": ~seen})
            assert {("mask_blind", row) for row in (0, 1)} <= {(f[0], f[2]) for f in found}
