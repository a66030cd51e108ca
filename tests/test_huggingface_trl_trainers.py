"""TRL's trainers with our collators: the same losses as with TRL's."""

import warnings

import pytest

import tightbatch.huggingface.trl as ours
from comparing_huggingface import make_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")
pytest.importorskip("trl")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import trl

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 3


def make_model(kind=transformers.LlamaForCausalLM, **options):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=0,
        **options,
    )
    return kind(config)


def make_rows(count, least=2):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(least, 10, (count,), generator=generator).tolist()
    return [torch.randint(5, 100, (n,), generator=generator).tolist() for n in lengths]


def word_tokenizer():
    from tokenizers import pre_tokenizers

    tokenizer = make_tokenizer(eos_token="[SEP]", model_max_length=10**30)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def settle(cls, tmp_path, **options):
    plain = {
        "output_dir": str(tmp_path),
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "seed": 0,
    }
    return cls(**{**plain, **options})


def losses(trainer, collator=None):
    """Train; give the losses of all steps, and how often the collator was called."""
    calls = []
    if collator is not None:
        assert type(trainer.data_collator).__name__ == type(collator).__name__

        def counted(features):
            calls.append(len(features))
            return collator(features)

        trainer.data_collator = counted
    trainer.train()
    found = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(found) == STEPS
    assert collator is None or len(calls) >= STEPS
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pad_to_multiple_of": 8},
        {"padding_free": True, "max_length": None},
        {"packing": True, "packing_strategy": "bfd", "max_length": 12},
        {"packing": True, "packing_strategy": "wrapped", "max_length": 12},
    ],
    ids=["padded", "multiple", "padding_free", "bfd", "wrapped"],
)
@pytest.mark.parametrize("completions", [False, True])
def test_sft(tmp_path, completions, options):
    rows = make_rows(40)
    columns = {"input_ids": rows}
    if completions:
        columns["completion_mask"] = [[0] + [1] * (len(row) - 1) for row in rows]
    found = []
    for mine in (False, True):
        trainer = trl.SFTTrainer(
            make_model(),
            settle(trl.SFTConfig, tmp_path, completion_only_loss=completions, **options),
            train_dataset=datasets.Dataset.from_dict(columns),
            processing_class=word_tokenizer(),
        )
        collator = None
        if mine:
            theirs = trainer.data_collator
            collator = ours.DataCollatorForLanguageModeling(
                theirs.pad_token_id,
                padding_free=theirs.padding_free,
                pad_to_multiple_of=theirs.pad_to_multiple_of,
            )
        found.append(losses(trainer, collator))
    assert found[0] == found[1]


@pytest.mark.parametrize("options", [{}, {"max_length": 7, "truncation_mode": "keep_end"}])
def test_dpo(tmp_path, options):
    names = ("prompt", "chosen", "rejected")
    rows = [" ".join(f"w{token - 5}" for token in row) for row in make_rows(24)]
    columns = {name: rows[k::3] for k, name in enumerate(names)}
    found = []
    for mine in (False, True):
        tokenizer = word_tokenizer()
        collator = ours.DataCollatorForPreference(tokenizer.pad_token_id, **options)
        trainer = trl.DPOTrainer(
            make_model(),
            ref_model=make_model(),
            args=settle(trl.DPOConfig, tmp_path, **options),
            train_dataset=datasets.Dataset.from_dict(columns),
            processing_class=tokenizer,
            data_collator=collator if mine else None,
        )
        assert (trainer.data_collator is collator) == mine
        found.append(losses(trainer))
    assert found[0] == found[1]
    assert len(set(found[0])) == STEPS


def test_rewards(tmp_path):
    rows = [" ".join(f"w{token - 5}" for token in row) for row in make_rows(24)]
    columns = {"chosen": rows[::2], "rejected": rows[1::2], "margin": [0.5] * 12}
    found = []
    for mine in (False, True):
        tokenizer = word_tokenizer()
        collator = ours.DataCollatorForPreference(tokenizer.pad_token_id)
        trainer = trl.RewardTrainer(
            make_model(transformers.LlamaForSequenceClassification, num_labels=1),
            args=settle(trl.RewardConfig, tmp_path, max_length=16),
            train_dataset=datasets.Dataset.from_dict(columns),
            processing_class=tokenizer,
            data_collator=collator if mine else None,
        )
        assert (trainer.data_collator is collator) == mine
        found.append(losses(trainer))
    assert found[0] == found[1]


def test_kto(tmp_path):
    rows = [" ".join(f"w{token - 5}" for token in row) for row in make_rows(24)]
    columns = {"prompt": rows[::2], "completion": rows[1::2], "label": [True, False] * 6}
    found = []
    for mine in (False, True):
        tokenizer = word_tokenizer()
        collator = ours.DataCollatorForUnpairedPreference(tokenizer.pad_token_id)
        trainer = trl.KTOTrainer(
            make_model(),
            ref_model=make_model(),
            args=settle(trl.KTOConfig, tmp_path),
            train_dataset=datasets.Dataset.from_dict(columns),
            processing_class=tokenizer,
            data_collator=collator if mine else None,
        )
        assert (trainer.data_collator is collator) == mine
        found.append(losses(trainer))
    assert found[0] == found[1]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multiple", [None, 8])
def test_a_batch_without_padding_keeps_rows_apart(multiple, attention):
    """In a plain model(**batch), which TRL's batch does not."""
    model = make_model(attn_implementation=attention).eval()
    pack = {"input_ids": [7, 8, 9, 10, 11, 12, 13], "seq_lengths": [4, 0, 3]}
    collate = ours.DataCollatorForLanguageModeling(0, True, pad_to_multiple_of=multiple)
    with torch.no_grad():
        whole = model(**collate([pack, {"input_ids": [3, 4], "seq_lengths": [2]}])).logits[0]
        for start, ids in ((0, [7, 8, 9, 10]), (4, [11, 12, 13]), (7, [3, 4])):
            alone = model(torch.tensor([ids])).logits[0]
            assert torch.allclose(whole[start : start + len(ids)], alone, atol=1e-5)
