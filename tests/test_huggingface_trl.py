"""TRL's collators: the same batches, and right ones where TRL's are not."""

import warnings

import numpy as np
import pytest

import tightbatch as tb
import tightbatch.huggingface.trl as ours
from checks import WORKER_LIMIT, fails
from comparing_huggingface import assert_same_batch

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from trl.trainer import dpo_trainer, kto_trainer, reward_trainer, sft_trainer

MULTIPLES = [None, 1, 4, 8]


def rows(rng, count, least=1, most=9):
    return [rng.integers(1, 50, n).tolist() for n in rng.integers(least, most, count)]


def assert_same(mine, theirs, features):
    """The same batch but for use_cache, from the same features, which stay as they are."""
    before = repr(features)
    batch = mine(features)
    assert repr(features) == before
    if getattr(mine, "padding_free", False):
        assert list(batch)[-1] == "use_cache"
        assert batch.pop("use_cache") is False
    assert_same_batch(batch, theirs(features))


# --- language modelling -----------------------------------------------------------------------


def lm_features(rng, labels, packs):
    features = [{"input_ids": row} for row in rows(rng, rng.integers(1, 7))]
    for feature in features:
        n = len(feature["input_ids"])
        if labels:
            hidden = rng.random(n) < 0.4
            feature["labels"] = np.where(hidden, -100, feature["input_ids"]).tolist()
        if packs:
            cuts = np.flatnonzero(rng.random(n - 1) < 0.4) + 1
            feature["seq_lengths"] = np.diff([0, *cuts, n]).tolist()
        feature["text"] = "left out"
    return features


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("packs", [False, True])
def test_language_modelling_as_trl(packs, labels, padding_free, positions, multiple):
    options = {
        "padding_free": padding_free,
        "return_position_ids": positions,
        "pad_to_multiple_of": multiple,
    }
    for seed in range(12):
        rng = np.random.default_rng(seed)
        pad = int(rng.integers(0, 5))
        mine = ours.DataCollatorForLanguageModeling(pad, **options)
        theirs = sft_trainer.DataCollatorForLanguageModeling(pad, **options)
        features = lm_features(rng, labels, packs)
        if packs and not padding_free:
            with fails(
                ValueError, "DataCollatorForLanguageModeling()", "'seq_lengths'", "padding_free"
            ):
                mine(features)
        else:
            assert_same(mine, theirs, features)


def test_packs_of_trl_as_trl():
    import datasets
    from trl import pack_dataset

    rng = np.random.default_rng(0)
    data = datasets.Dataset.from_dict({"input_ids": rows(rng, 40)})
    packed = pack_dataset(data, 12, "bfd")
    for multiple in MULTIPLES:
        options = {"padding_free": True, "pad_to_multiple_of": multiple}
        mine = ours.DataCollatorForLanguageModeling(0, **options)
        theirs = sft_trainer.DataCollatorForLanguageModeling(0, **options)
        for start in range(0, len(packed), 4):
            assert_same(
                mine, theirs, packed.select(range(start, min(start + 4, len(packed)))).to_list()
            )


def test_parameters_are_those_of_trl():
    import inspect

    for mine, theirs in (
        (ours.DataCollatorForLanguageModeling, sft_trainer.DataCollatorForLanguageModeling),
        (ours.DataCollatorForPreference, dpo_trainer.DataCollatorForPreference),
        (ours.DataCollatorForUnpairedPreference, kto_trainer.DataCollatorForUnpairedPreference),
    ):

        def settings(cls):
            given = inspect.signature(cls).parameters.values()
            return [(p.name, p.default) for p in given if p.kind is not p.KEYWORD_ONLY]

        assert settings(mine) == settings(theirs)


def masked_features(rng):
    features = [{"input_ids": row} for row in rows(rng, 5)]
    for feature in features:
        n = len(feature["input_ids"])
        for key in ("completion_mask", "assistant_masks"):
            feature[key] = rng.integers(0, 2, n).tolist()
    return features


@pytest.mark.parametrize("keys", [("completion_mask",), ("assistant_masks",), ours.LEARNED])
@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("multiple", MULTIPLES)
def test_masks_decide_what_is_learned(multiple, padding_free, keys):
    """As from labels that SFTTrainer makes of the masks."""
    options = {"padding_free": padding_free, "pad_to_multiple_of": multiple}
    mine = ours.DataCollatorForLanguageModeling(0, **options)
    theirs = sft_trainer.DataCollatorForLanguageModeling(0, **options)
    for seed in range(8):
        features = masked_features(np.random.default_rng(seed))
        features = [{key: row[key] for key in ("input_ids", *keys)} for row in features]
        labelled = []
        for row in features:
            hidden = np.array([row[key] for key in keys]).min(axis=0) == 0
            labels = np.where(hidden, -100, row["input_ids"]).tolist()
            labelled.append({"input_ids": row["input_ids"], "labels": labels})
        batch = mine(features)
        batch.pop("use_cache", None)
        assert_same_batch(batch, theirs(labelled))
        # Labels that are there were made from the masks already.
        both = [{**a, "labels": b["labels"]} for a, b in zip(features, labelled, strict=True)]
        assert_same(mine, theirs, both)


def test_a_mask_of_the_features_is_used():
    features = [
        {"input_ids": [1, 2, 3, 0], "attention_mask": [1, 1, 1, 0]},
        {"input_ids": [4, 5], "attention_mask": [1, 1]},
    ]
    collate = ours.DataCollatorForLanguageModeling(9, return_position_ids=True)
    batch = collate(features)
    assert list(batch) == ["input_ids", "labels", "position_ids", "attention_mask"]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[1, 2, 3, -100], [4, 5, -100, -100]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]
    collate = ours.DataCollatorForLanguageModeling(9, padding_free=True, pad_to_multiple_of=4)
    with fails(ValueError, "'attention_mask'", "row 0"):
        collate(features)
    assert collate(features[1:])["input_ids"].tolist() == [[4, 5, 9, 9]]


@pytest.mark.parametrize("multiple", MULTIPLES)
def test_documents_and_rows_without_tokens_are_left_out(multiple):
    mine = ours.DataCollatorForLanguageModeling(0, padding_free=True, pad_to_multiple_of=multiple)
    theirs = sft_trainer.DataCollatorForLanguageModeling(
        0, padding_free=True, pad_to_multiple_of=multiple
    )
    features = [
        {"input_ids": [1, 2, 3, 4], "seq_lengths": [0, 3, 0, 1, 0]},
        {"input_ids": [], "seq_lengths": []},
        {"input_ids": [], "seq_lengths": [0]},
        {"input_ids": [5, 6], "seq_lengths": [2]},
    ]
    without = [
        {"input_ids": [1, 2, 3, 4], "seq_lengths": [3, 1]},
        {"input_ids": [5, 6], "seq_lengths": [2]},
    ]
    batch = mine(features)
    assert batch.pop("use_cache") is False
    assert_same_batch(batch, theirs(without))
    batch = mine([{"input_ids": []}, {"input_ids": [1, 2]}, {"input_ids": []}])
    assert batch.pop("use_cache") is False
    assert_same_batch(batch, theirs([{"input_ids": [1, 2]}]))


def test_a_row_without_tokens_leaves_ids_integers():
    batch = ours.DataCollatorForLanguageModeling(7)([{"input_ids": []}, {"input_ids": [1, 2]}])
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"].tolist() == [[7, 7], [1, 2]]
    assert batch["labels"].tolist() == [[-100, -100], [1, 2]]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"seq_lengths": [1, 1]}, ("'seq_lengths'", "row 1")),
        ({"labels": [1, 2]}, ("'labels'", "row 1")),
        ({"completion_mask": [1, 1, 1, 1]}, ("'completion_mask'", "row 1")),
    ],
)
@pytest.mark.parametrize("padding_free", [False, True])
def test_what_does_not_fit_its_row_is_named(padding_free, more, words):
    if "seq_lengths" in more and not padding_free:
        return
    fine = {"seq_lengths": [2], "labels": [5, 6], "completion_mask": [0, 1]}
    features = [
        {"input_ids": [5, 6], **{key: fine[key] for key in more}},
        {"input_ids": [1, 2, 3], **more},
    ]
    with fails(ValueError, "DataCollatorForLanguageModeling()", *words):
        ours.DataCollatorForLanguageModeling(0, padding_free=padding_free)(features)


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize(
    "make", [np.array, torch.tensor, tuple], ids=["arrays", "tensors", "tuples"]
)
@pytest.mark.parametrize("tensors", ["pt", "np"])
def test_rows_of_other_kinds(tensors, make, padding_free):
    options = {"padding_free": padding_free, "pad_to_multiple_of": 8, "return_position_ids": True}
    collate = ours.DataCollatorForLanguageModeling(3, **options)
    for seed in range(4):
        features = lm_features(np.random.default_rng(seed), True, padding_free)
        for feature in features:
            feature.pop("text")
        expected = collate(features)
        made = [{key: make(row) for key, row in feature.items()} for feature in features]
        batch = collate(made, return_tensors=tensors)
        if tensors == "np":
            assert isinstance(batch["input_ids"], np.ndarray)
            batch = {
                key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                for key, value in batch.items()
            }
        assert_same_batch(batch, expected)


def test_integers_of_any_width_become_labels():
    row = {"input_ids": np.array([1, 2], np.int32)}
    for padding_free in (False, True):
        batch = ours.DataCollatorForLanguageModeling(0, padding_free)([row])
        assert {batch[key].dtype for key in ("input_ids", "labels")} == {torch.int64}


def test_a_batch_of_a_data_set():
    features = lm_features(np.random.default_rng(3), True, False)
    for feature in features:
        feature.pop("text")
    columns = {key: [row[key] for row in features] for key in features[0]}
    data = tb.RaggedDataset(columns)
    chosen = [2, 0, 1] if len(features) > 2 else [0]
    for options in ({}, {"padding_free": True, "pad_to_multiple_of": 16}):
        collate = ours.DataCollatorForLanguageModeling(0, **options)
        expected = collate([features[i] for i in chosen])
        assert_same_batch(collate(data.__getitems__(chosen)), expected)


# --- preference -------------------------------------------------------------------------------


def preference_features(rng, logps):
    count = int(rng.integers(1, 6))
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    columns = {name: rows(rng, count, least=0) for name in names}
    if logps:
        columns["ref_chosen_logps"] = rng.normal(size=count).tolist()
        columns["ref_rejected_logps"] = rng.normal(size=count).tolist()
    columns["prompt"] = ["left out"] * count
    columns["margin"] = [1.0] * count
    # torch makes floats of a row without tokens
    columns["chosen_ids"] = [row or [1] for row in columns["chosen_ids"]]
    columns["rejected_ids"] = [row or [1] for row in columns["rejected_ids"]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
@pytest.mark.parametrize("max_length", [None, 1, 6, 100])
@pytest.mark.parametrize("logps", [False, True])
def test_preference_as_trl(logps, max_length, mode, multiple):
    options = {
        "max_length": max_length,
        "truncation_mode": mode,
        "pad_to_multiple_of": multiple,
    }
    for seed in range(8):
        rng = np.random.default_rng(seed)
        pad = int(rng.integers(0, 5))
        mine = ours.DataCollatorForPreference(pad, **options)
        theirs = dpo_trainer.DataCollatorForPreference(pad, **options)
        assert_same(mine, theirs, preference_features(rng, logps))


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("margin", [None, 1, 0.5])
def test_rewards_as_trl(margin, multiple):
    mine = ours.DataCollatorForPreference(3, pad_to_multiple_of=multiple)
    theirs = reward_trainer.DataCollatorForPreference(3, pad_to_multiple_of=multiple)
    for seed in range(8):
        features = preference_features(np.random.default_rng(seed), True)
        for row in features:
            del row["prompt_ids"], row["margin"]
            if margin is not None:
                row["margin"] = margin
        assert_same(mine, theirs, features)
    with fails(ValueError, "max_length=8", "prompt_ids"):
        ours.DataCollatorForPreference(0, 8)(features)


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("max_length", [None, 1, 6, 100])
@pytest.mark.parametrize("kl", [False, True])
@pytest.mark.parametrize("logps", [False, True])
def test_unpaired_preference_as_trl(logps, kl, max_length, multiple):
    options = {"max_length": max_length, "pad_to_multiple_of": multiple}
    mine = ours.DataCollatorForUnpairedPreference(2, **options)
    theirs = kto_trainer.DataCollatorForUnpairedPreference(2, **options)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        features = preference_features(rng, logps)
        for row in features:
            row["completion_ids"] = row.pop("chosen_ids")
            row["KL_completion_ids" if kl else "other"] = row.pop("rejected_ids")
            row["label"] = bool(rng.integers(2))
            if logps:
                row["ref_logps"] = row.pop("ref_chosen_logps")
                row["ref_KL_logps"] = row.pop("ref_rejected_logps")
        assert_same(mine, theirs, features)


@pytest.mark.parametrize(
    "make", [np.array, torch.tensor, tuple], ids=["arrays", "tensors", "tuples"]
)
def test_prompts_and_answers_of_other_kinds_follow_each_other(make):
    """TRL adds arrays and tensors: a prompt of [1, 2] and an answer of [3, 4] are [4, 6] there."""
    for collate in (
        ours.DataCollatorForPreference(0, 7, "keep_end"),
        ours.DataCollatorForPreference(0, return_tensors="np"),
    ):
        for seed in range(4):
            features = preference_features(np.random.default_rng(seed), True)
            made = [
                {key: make(row) if key.endswith("_ids") else row for key, row in feature.items()}
                for feature in features
            ]
            assert_same_batch(collate(made), collate(features))


def test_rows_of_a_preference_are_named():
    rows = [
        {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]},
        {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3, 0.5]},
    ]
    collate = ours.DataCollatorForPreference(0)
    with fails(TypeError, "DataCollatorForPreference()", "'rejected_ids'", "row 1, column 1"):
        collate(rows)
    with fails(ValueError, "DataCollatorForPreference()", "'rejected_ids'"):
        collate([{"prompt_ids": [1], "chosen_ids": [2]}])
    with fails(TypeError, "'prompt_ids'", "row 0"):
        collate([{"prompt_ids": 1, "chosen_ids": [2], "rejected_ids": [3]}])
    with fails(ValueError, "DataCollatorForUnpairedPreference()", "'label'"):
        ours.DataCollatorForUnpairedPreference(0)([{"prompt_ids": [1], "completion_ids": [2]}])
    with fails(ValueError, "DataCollatorForUnpairedPreference()", "'completion_ids'"):
        ours.DataCollatorForUnpairedPreference(0)([{"prompt_ids": [1], "label": True}])


def test_settings_that_change_are_checked_at_the_next_batch():
    collate = ours.DataCollatorForLanguageModeling(0)
    collate.return_position_ids = True  # as SFTTrainer does for sequence parallelism
    assert "position_ids" in collate([{"input_ids": [1]}])
    collate.pad_to_multiple_of = 0
    with fails(ValueError, "pad_to_multiple_of"):
        collate([{"input_ids": [1]}])
    with fails(ValueError, "max_length"):
        ours.DataCollatorForPreference(0, max_length=0)
    shortest = ours.DataCollatorForPreference(0, max_length=1, pad_to_multiple_of=1)
    rows = [{"prompt_ids": [5, 6], "chosen_ids": [7], "rejected_ids": [8, 9]}]
    theirs = dpo_trainer.DataCollatorForPreference(0, max_length=1, pad_to_multiple_of=1)
    assert_same_batch(shortest(rows), theirs(rows))


@pytest.mark.forks
def test_batches_from_workers():
    features = masked_features(np.random.default_rng(0))
    for collate in (
        ours.DataCollatorForLanguageModeling(0),
        ours.DataCollatorForLanguageModeling(0, padding_free=True, pad_to_multiple_of=8),
    ):
        assert_same_batch(*(next(iter(load(features, collate, n))) for n in (1, 0)))
    features = preference_features(np.random.default_rng(1), True)
    collate = ours.DataCollatorForPreference(0)
    assert_same_batch(*(next(iter(load(features, collate, n))) for n in (1, 0)))


def load(features, collate, workers):
    options = {"multiprocessing_context": "fork", "timeout": WORKER_LIMIT} if workers else {}
    return torch.utils.data.DataLoader(
        features, 4, collate_fn=collate, num_workers=workers, **options
    )
