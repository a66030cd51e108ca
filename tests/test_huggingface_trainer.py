"""Batches by length in transformers' Trainer and TRL's SFTTrainer, with real models.

What is trained is compared with a loop written by hand over the sampler's own batches.
"""

import json
import os
import threading

import numpy as np
import pytest

import tightbatch as tb
from checks import fails, run_python
from tightbatch.huggingface import batch_by_length

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

pytestmark = pytest.mark.filterwarnings("ignore")
VOCABULARY = 40


def draw_rows(count, seed=0, longest=24):
    """Rows of ids, with a label that says whether most of them are small."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        length = int(random.integers(2, longest))
        ids = random.integers(3, VOCABULARY, length)
        rows.append({"input_ids": ids.tolist(), "labels": int((ids < 20).mean() > 0.5)})
    return rows


ROWS = draw_rows(50)
TEST = draw_rows(37, seed=1)
LENGTHS = [len(row["input_ids"]) for row in ROWS]


def classifier():
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=16,
        n_layers=1,
        n_heads=2,
        hidden_dim=32,
        max_position_embeddings=64,
        pad_token_id=0,
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
    )
    return transformers.DistilBertForSequenceClassification(config)


def language_model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return transformers.LlamaForCausalLM(config)


COMMON = {
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 6,
    "num_train_epochs": 3,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "optim": "sgd",
    "logging_steps": 1,
    "save_strategy": "no",
    "seed": 5,
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "report_to": [],
    "disable_tqdm": True,
}


def make_trainer(folder, model=None, rows=ROWS, seen=None, collator=None, **options):
    collator = collator or tb.PadCollator()

    def collate(samples):
        if seen is not None:
            seen.append([tuple(sample["input_ids"]) for sample in samples])
        return collator(samples)

    arguments = transformers.TrainingArguments(
        output_dir=str(folder), remove_unused_columns=False, **{**COMMON, **options}
    )
    trainer = transformers.Trainer(
        model=model or classifier(),
        args=arguments,
        data_collator=collate,
        train_dataset=rows,
        eval_dataset=TEST,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def logged(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def parameters(model):
    return [value.detach().clone() for value in model.parameters()]


def assert_same_parameters(left, right):
    for a, b in zip(parameters(left), parameters(right), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def by_hand(model, epochs, accumulation=None, collator=None):
    """Steps of plain torch over batches of row numbers: the losses, and the model trained."""
    collator = collator or tb.PadCollator()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    model.train()
    losses = []
    for batches in epochs:
        for begin in range(0, len(batches), accumulation or 1):
            group = batches[begin:][: accumulation or 1]
            group = [collator([ROWS[row] for row in batch]) for batch in group]
            more = {}
            if accumulation is not None:  # of a language model: the mean over all their tokens
                counts = [int((batch["labels"][..., 1:] != -100).sum()) for batch in group]
                more["num_items_in_batch"] = torch.tensor(sum(counts))
            total = 0.0
            for batch in group:
                loss = model(**batch, **more).loss
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(total)
    return losses, model


def plans(epochs, **settings):
    sampler = tb.LengthBatchSampler(LENGTHS, seed=5, **settings)
    return [list(sampler) for _ in range(epochs)]


def as_ids(epochs):
    return [[tuple(ROWS[row]["input_ids"]) for row in batch] for epoch in epochs for batch in epoch]


# Training


def test_losses_are_those_of_a_loop_by_hand(tmp_path):
    seen = []
    trainer = make_trainer(tmp_path, seen=seen)
    trainer = batch_by_length(trainer)
    trainer.train()
    wanted = plans(3, batch_size=8)
    assert seen == as_ids(wanted)
    losses, model = by_hand(classifier(), wanted)
    np.testing.assert_allclose(logged(trainer), losses, atol=1e-4)
    for a, b in zip(parameters(trainer.model), parameters(model), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("accumulation", [1, 2, 3])
def test_tokens_are_counted_over_accumulated_batches(tmp_path, accumulation):
    """num_items_in_batch: a token weighs the same in a batch of few as in one of many."""
    collator = transformers.DataCollatorForLanguageModeling(_tokenizer(), mlm=False)

    def collate(samples):
        return dict(collator([{"input_ids": sample["input_ids"]} for sample in samples]))

    trainer = make_trainer(
        tmp_path, language_model(), collator=collate, gradient_accumulation_steps=accumulation
    )
    batch_by_length(trainer, max_tokens=120).train()
    batches = _even(plans(3, max_tokens=120))
    losses, model = by_hand(language_model(), batches, accumulation, collate)
    np.testing.assert_allclose(logged(trainer), losses, atol=1e-4)
    for a, b in zip(parameters(trainer.model), parameters(model), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def _tokenizer():
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[PAD]": 0, "[BOS]": 1, "[EOS]": 2, **{f"w{n}": n for n in range(3, VOCABULARY)}}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[PAD]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]"
    )


def _even(epochs):
    """Those of a trainer, where each epoch has the number of steps of the longest."""
    sampler = tb.LengthBatchSampler(LENGTHS, seed=5, max_tokens=120)
    sampler.even_out(len(epochs))
    return [list(sampler) for _ in epochs]


def test_epochs_have_the_same_number_of_steps(tmp_path):
    counts = [len(epoch) for epoch in plans(8, max_tokens=100)]
    assert len(set(counts)) > 1
    seen = []
    trainer = make_trainer(tmp_path, seen=seen, num_train_epochs=8)
    batch_by_length(trainer, max_tokens=100).train()
    steps = max(counts)
    assert trainer.state.global_step == len(seen) == 8 * steps
    everything = sorted(tuple(row["input_ids"]) for row in ROWS)
    for epoch in range(8):
        batches = seen[epoch * steps : (epoch + 1) * steps]
        assert sorted(row for batch in batches for row in batch) == everything
        assert all(len(batch) * max(map(len, batch)) <= 100 for batch in batches)


@pytest.mark.parametrize(
    ("options", "steps"), [({"num_train_epochs": 1.5}, 11), ({"max_steps": 17}, 17)]
)
def test_parts_of_epochs(tmp_path, options, steps):
    seen = []
    trainer = batch_by_length(make_trainer(tmp_path, seen=seen, **options))
    trainer.train()
    assert trainer.state.global_step == steps
    assert seen[:steps] == as_ids(plans(3, batch_size=8))[:steps]


# Resuming


@pytest.mark.parametrize("settings", [{}, {"max_tokens": 120, "longest_first": True}], ids=str)
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("at", [3, 4, 9])
def test_resumed_training_ends_with_the_same_parameters(tmp_path, settings, accumulation, at):
    options = {
        "save_strategy": "steps",
        "save_steps": 1,
        "gradient_accumulation_steps": accumulation,
        "optim": "adamw_torch",
    }
    whole = batch_by_length(make_trainer(tmp_path, **options), **settings)
    whole.train()
    seen = []
    resumed = batch_by_length(make_trainer(tmp_path, seen=seen, **options), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{at}"))
    assert resumed.state.global_step == whole.state.global_step
    assert_same_parameters(resumed.model, whole.model)


def test_resuming_at_the_end_of_an_epoch(tmp_path):
    options = {"save_strategy": "epoch"}
    whole = batch_by_length(make_trainer(tmp_path, **options))
    whole.train()
    seen = []
    resumed = batch_by_length(make_trainer(tmp_path, seen=seen, **options))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-14"))
    assert seen == as_ids(plans(3, batch_size=8)[2:])
    assert_same_parameters(resumed.model, whole.model)


# Evaluation


def scores(prediction):
    """Metrics that see the order: the rows' own labels, by number."""
    assert prediction.label_ids.tolist() == [row["labels"] for row in TEST]
    chosen = prediction.predictions.argmax(-1)
    weights = np.arange(len(chosen)) + 1
    return {"right": float(((chosen == prediction.label_ids) * weights).sum())}


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize("batch", [6, 64, 37])
def test_evaluation_is_that_in_order(tmp_path, evaluation, batch):
    options = {"per_device_eval_batch_size": batch}
    plain = make_trainer(tmp_path, **options)
    seen = []
    ours = batch_by_length(make_trainer(tmp_path, seen=seen, **options), evaluation=evaluation)
    plain.compute_metrics = ours.compute_metrics = scores
    expected, found = plain.predict(TEST), ours.predict(TEST)
    np.testing.assert_allclose(found.predictions, expected.predictions, atol=1e-6)
    np.testing.assert_array_equal(found.label_ids, expected.label_ids)
    assert found.metrics["test_right"] == expected.metrics["test_right"]
    assert abs(found.metrics["test_loss"] - expected.metrics["test_loss"]) < 1e-6
    for key in ("eval_loss", "eval_right"):
        assert abs(ours.evaluate(TEST)[key] - plain.evaluate(TEST)[key]) < 1e-5
    widths = [max(map(len, rows)) for rows in seen[: -(-37 // batch)]]
    assert (widths == sorted(widths, reverse=True)) is (evaluation or batch > 36)


def test_predictions_of_tokens_come_back_in_order(tmp_path):
    """Rows of different widths: Trainer pads them all with -100, in whatever order they came."""
    plain = make_trainer(tmp_path, language_model())
    ours = batch_by_length(make_trainer(tmp_path, language_model()), evaluation=True)
    rows = [{"input_ids": row["input_ids"]} for row in TEST]
    expected, found = plain.predict(rows).predictions, ours.predict(rows).predictions
    assert found.shape == expected.shape
    for row, (a, b) in enumerate(zip(found, expected, strict=True)):
        length = len(TEST[row]["input_ids"])
        np.testing.assert_allclose(a[:length], b[:length], atol=1e-5)


def test_evaluation_while_training(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 5}
    found = []
    for evaluation in (False, True):
        trainer = make_trainer(tmp_path, **options)
        trainer.compute_metrics = scores
        batch_by_length(trainer, evaluation=evaluation).train()
        found.append([e["eval_right"] for e in trainer.state.log_history if "eval_right" in e])
    assert len(found[0]) >= 4
    assert found[0] == found[1]


@pytest.mark.forks
def test_persistent_workers_are_not_started_again(tmp_path):
    options = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    trainer = batch_by_length(make_trainer(tmp_path, **options), evaluation=True)
    trainer.compute_metrics = scores
    assert trainer.get_eval_dataloader() is trainer.get_eval_dataloader()
    assert trainer.evaluate()["eval_right"] == trainer.evaluate()["eval_right"]


@pytest.mark.parametrize(
    "options", [{"dataloader_drop_last": True}, {"eval_do_concat_batches": False}]
)
def test_what_has_no_order_stays_as_it_is(tmp_path, options):
    plain = make_trainer(tmp_path, **options)
    ours = batch_by_length(make_trainer(tmp_path, **options), evaluation=True)
    expected, found = plain.predict(TEST).predictions, ours.predict(TEST).predictions
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# Data sets, classes, errors


def test_lengths_of_every_data_set(tmp_path):
    datasets = pytest.importorskip("datasets")
    plain = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in ROWS]
    wanted = as_ids(plans(1, batch_size=8))
    hf = datasets.Dataset.from_list(plain)
    for rows, more in (
        (plain, {}),
        (hf, {}),
        (tb.RaggedDataset.from_hf(hf), {}),
        (hf, {"column": "input_ids"}),
        (plain, {"lengths": LENGTHS}),
        (plain, {"lengths": torch.tensor(LENGTHS)}),
    ):
        seen = []
        trainer = make_trainer(tmp_path, rows=rows, seen=seen, num_train_epochs=1)
        batch_by_length(trainer, **more).train()
        assert [[tuple(map(int, row)) for row in batch] for batch in seen] == wanted


def test_the_trainer_stays_what_it_was(tmp_path):
    trainer = make_trainer(tmp_path)
    own = type(trainer)
    assert batch_by_length(trainer) is trainer
    assert isinstance(trainer, own)
    assert type(trainer).__name__ == own.__name__
    once = type(trainer)
    batch_by_length(trainer, max_tokens=100)
    assert type(trainer) is once
    assert trainer.get_train_dataloader().batch_sampler.max_tokens == 100


@pytest.mark.parametrize(
    ("options", "settings", "parts"),
    [
        ({"train_sampling_strategy": "group_by_length"}, {}, ["group_by_length", "random"]),
        ({"auto_find_batch_size": True}, {"max_tokens": 100}, ["auto_find_batch_size"]),
        ({"accelerator_config": {"split_batches": True}}, {}, ["split_batches"]),
        ({"accelerator_config": {"dispatch_batches": True}}, {}, ["dispatch_batches"]),
        ({}, {"lengths": [1, 2]}, ["2 lengths", "50 rows"]),
        ({}, {"max_tokens": 5}, ["max_tokens=5"]),
    ],
)
def test_errors_when_training_begins(tmp_path, options, settings, parts):
    trainer = batch_by_length(make_trainer(tmp_path, **options), **settings)
    with fails(ValueError, *parts):
        trainer.train()


def test_errors_at_once(tmp_path):
    trainer = make_trainer(tmp_path)
    own = type(trainer)
    with fails(TypeError, "batch_by_length()", "Trainer"):
        batch_by_length(object())
    with fails(TypeError, "batch_by_length()", "num_replicas"):
        batch_by_length(trainer, num_replicas=2)
    with fails(TypeError, "colour"):
        batch_by_length(trainer, colour=2)
    with fails(ValueError, "batch_size=0"):
        batch_by_length(trainer, batch_size=0)
    assert type(trainer) is own

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, row):
            return {"a": [1] * (row + 1)}

    trainer = batch_by_length(make_trainer(tmp_path, rows=Rows()))
    with fails((TypeError, KeyError), "batch_by_length()", "lengths="):
        trainer.train()

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(ROWS)

    datasets = pytest.importorskip("datasets")
    for stream in (Stream(), datasets.IterableDataset.from_generator(lambda: iter(ROWS))):
        with fails(TypeError, "batch_by_length()", "train_dataset", "tb.StreamBatcher"):
            batch_by_length(make_trainer(tmp_path, rows=stream, max_steps=1))


# What the collator makes of the batches


@pytest.mark.parametrize("settings", [{"max_tokens": 120}, {"batch_size": 8}], ids=str)
def test_a_collator_that_pads_is_refused_without_padding(tmp_path, settings):
    trainer = batch_by_length(make_trainer(tmp_path), padding_free=True, **settings)
    with fails(ValueError, "batch_by_length()", "padding_free=True", "the collator pads"):
        trainer.train()


@pytest.mark.parametrize(
    ("collator", "settings", "words"),
    [
        (tb.PaddingFreeCollator(), {"max_tokens": 120}, "pass padding_free=True"),
        (tb.PadCollator(), {"max_tokens": 12, "overlong": "truncate"}, "max_length"),
        (tb.PadCollator(pad_to_multiple_of=16), {"max_tokens": 60}, "pad_to_multiple_of"),
        (tb.PadCollator(), {"max_tokens": {0: 12, 5: 13}, "overlong": "truncate"}, "_tokens=13"),
    ],
    ids=["joined", "not cut", "rounded up", "a schedule"],
)
def test_batches_above_the_cap_are_told_once(tmp_path, collator, settings, words):
    model = language_model()
    rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in ROWS]
    trainer = make_trainer(tmp_path, model, rows=rows, collator=collator, num_train_epochs=1)
    with pytest.warns(UserWarning, match=r"batch_by_length\(\): the collator ") as told:
        list(batch_by_length(trainer, **settings).get_train_dataloader())
    (message,) = [str(w.message) for w in told if "batch_by_length" in str(w.message)]
    assert words in message


@pytest.mark.parametrize(
    ("collator", "settings"),
    [
        (tb.PadCollator(max_length=12), {"max_tokens": 12, "overlong": "truncate"}),
        (tb.PadCollator(pad_to_multiple_of=16), {"max_tokens": 64, "pad_to_multiple_of": 16}),
        (tb.PaddingFreeCollator(), {"max_tokens": 120, "padding_free": True}),
        (tb.PaddingFreeCollator(max_tokens=120), {"max_tokens": 120, "padding_free": True}),
        (tb.PadCollator(), {"max_tokens": {0: 60, 40: 120}}),
        (tb.PaddingFreeCollator(), {"batch_size": 4}),
    ],
    ids=str,
)
def test_batches_as_planned_are_not_told_of(tmp_path, collator, settings):
    rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in ROWS]
    trainer = make_trainer(tmp_path, language_model(), rows=rows, collator=collator)
    assert len(list(batch_by_length(trainer, **settings).get_train_dataloader())) > 3


# TRL


@pytest.fixture(scope="module")
def trl():
    pytest.importorskip("datasets")
    return pytest.importorskip("trl")


def make_sft(trl, folder, rows=50, **options):
    import datasets

    data = datasets.Dataset.from_list([{"input_ids": row["input_ids"]} for row in ROWS[:rows]])
    config = trl.SFTConfig(
        output_dir=str(folder), **{**COMMON, "max_length": 32, "bf16": False, **options}
    )
    trainer = trl.SFTTrainer(
        model=language_model(),
        args=config,
        train_dataset=data,
        eval_dataset=data,
        processing_class=_tokenizer(),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def rows_of_batches(trainer):
    """The rows that a trainer's batches hold, in order."""
    found = []
    for batch in trainer.get_train_dataloader():
        ids, mask = batch["input_ids"], batch.get("attention_mask")
        if mask is not None:
            found.append(
                [tuple(row[own.bool()].tolist()) for row, own in zip(ids, mask, strict=True)]
            )
            continue
        (positions,) = batch["position_ids"].tolist()
        begins = [place for place, position in enumerate(positions) if position == 0]
        ends = [*begins[1:], len(positions)]
        found.append([tuple(ids[0, b:e].tolist()) for b, e in zip(begins, ends, strict=True)])
    return found


@pytest.mark.parametrize("padding_free", [False, True])
def test_sft_trains_each_row_once_and_resumes(trl, tmp_path, padding_free):
    options = {"padding_free": padding_free, "save_strategy": "steps", "save_steps": 5}
    options["max_length"] = None
    settings = {"max_tokens": 120, "padding_free": padding_free}
    whole = batch_by_length(make_sft(trl, tmp_path, **options), **settings)
    batches = rows_of_batches(whole)
    assert sorted(row for batch in batches for row in batch) == sorted(
        tuple(row["input_ids"]) for row in ROWS
    )
    sizes = [
        sum(map(len, batch)) if padding_free else len(batch) * max(map(len, batch))
        for batch in batches
    ]
    assert max(sizes) <= 120
    whole.train()
    assert np.isfinite(whole.evaluate()["eval_loss"])
    resumed = batch_by_length(make_sft(trl, tmp_path, **options), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    assert resumed.state.global_step == whole.state.global_step
    assert_same_parameters(resumed.model, whole.model)


def test_sft_of_packs(trl, tmp_path):
    """Packs are rows like others: each comes once."""
    trainer = batch_by_length(make_sft(trl, tmp_path, packing=True), batch_size=4)
    rows = [tuple(row) for row in trainer.train_dataset["input_ids"]]
    assert len(rows) < 50
    flat = [tuple(id for row in batch for id in row) for batch in rows_of_batches(trainer)]
    assert sorted(i for batch in flat for i in batch) == sorted(i for row in rows for i in row)
    trainer.train()
    assert trainer.state.global_step == 3 * -(-len(rows) // 4)


def test_lengths_of_packs_reach_the_collator(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"input_ids": row["input_ids"]} for row in ROWS])
    packed = tb.pack_dataset(rows, 48, seed=1)
    assert "seq_lengths" in packed.column_names
    seen = []
    for data in (packed, list(packed)):
        flat = tb.PaddingFreeCollator()

        def collate(samples, flat=flat):
            seen.append(flat(samples))
            return seen[-1]

        trainer = make_trainer(tmp_path, language_model(), rows=data, max_steps=1)
        trainer.data_collator, trainer.args.remove_unused_columns = collate, True
        batch_by_length(trainer, batch_size=4).train()
        most = max(max(lengths) for lengths in packed["seq_lengths"])
        assert seen[-1]["max_length_q"] <= most
        assert len(seen[-1]["cu_seq_lens_q"]) > 5
        trainer.data_collator = tb.PadCollator()
        with fails(ValueError, "PadCollator()", "'seq_lengths'"):
            trainer.train()


@pytest.mark.parametrize("name", ["PaddingFreeCollator", "flattening", "transformers", "trl"])
def test_metrics_of_batches_without_padding_are_refused(tmp_path, name):
    from tightbatch.huggingface import DataCollatorWithFlattening
    from tightbatch.huggingface.trl import DataCollatorForLanguageModeling

    collator = {
        "PaddingFreeCollator": tb.PaddingFreeCollator(),
        "flattening": DataCollatorWithFlattening(),
        "transformers": transformers.DataCollatorWithFlattening(),
        "trl": DataCollatorForLanguageModeling(0, padding_free=True),
    }[name]
    rows = [{"input_ids": row["input_ids"]} for row in TEST]
    trainer = make_trainer(tmp_path, language_model())
    trainer.data_collator = collator
    trainer = batch_by_length(trainer, evaluation=True)
    assert np.isfinite(trainer.evaluate(rows)["eval_loss"])
    with fails(ValueError, "batch_by_length()", type(collator).__name__, "padded batches"):
        trainer.predict(rows)
    trainer.compute_metrics = scores
    with fails(ValueError, "batch_by_length()", type(collator).__name__, "padded batches"):
        batch_by_length(trainer, evaluation=True)
    batch_by_length(trainer)


# Processes

TWO = """
    import json, os, sys
    import torch
    torch.set_num_threads(1)
    sys.path.insert(0, sys.argv[1])
    rank, folder = int(sys.argv[2]), sys.argv[3]
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1", MASTER_PORT="29500", ACCELERATE_USE_CPU="true",
        CUDA_VISIBLE_DEVICES="",
    )
    store = torch.distributed.FileStore(os.path.join(folder, "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    import test_huggingface_trainer as here

    def train(checkpoint=None):
        seen = []
        options = {"save_strategy": "steps", "save_steps": 4, "num_train_epochs": 2}
        options |= {"ddp_backend": "gloo", "optim": "adamw_torch"}
        trainer = here.make_trainer(os.path.join(folder, "out"), seen=seen, **options)
        trainer.compute_metrics = here.scores
        trainer = here.batch_by_length(trainer, max_tokens=100, evaluation=True)
        trainer.train(resume_from_checkpoint=checkpoint)
        steps = len(trainer.get_train_dataloader())
        trained = list(seen)
        found = trainer.predict(here.TEST)
        return {
            "seen": trained, "steps": steps, "right": found.metrics["test_right"],
            "predictions": found.predictions.tolist(),
            "weights": [value.tolist() for value in here.parameters(trainer.model)],
        }

    runs = [train()]
    torch.distributed.barrier()
    runs.append(train(os.path.join(folder, "out", "checkpoint-8")))
    with open(os.path.join(folder, f"rank-{rank}"), "w") as file:
        json.dump(runs, file)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
"""


def run_two(folder):
    """Both processes, found by a file; what each wrote of training and of training resumed."""
    here = os.path.dirname(os.path.abspath(__file__))
    errors = []

    def run(rank):
        try:
            run_python(TWO, here, str(rank), str(folder))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    written = [json.loads((folder / f"rank-{rank}").read_text()) for rank in range(2)]
    return zip(*written, strict=True)


@pytest.mark.cluster
def test_two_processes(tmp_path):
    """Each row once an epoch over both processes, also after a resume within the second epoch."""
    if not torch.distributed.is_available():
        pytest.skip("torch without torch.distributed")
    whole, resumed = run_two(tmp_path)
    steps = whole[0]["steps"]
    assert steps == whole[1]["steps"] < 8 < 2 * steps
    everything = sorted(row["input_ids"] for row in ROWS)
    for own in whole:
        assert len(own["seen"]) == 2 * steps
    for epoch in range(2):
        part = slice(epoch * steps, (epoch + 1) * steps)
        rows = [row for own in whole for batch in own["seen"][part] for row in batch]
        assert sorted(rows) == everything
    assert whole[0]["right"] == whole[1]["right"]
    assert np.shape(whole[0]["predictions"]) == (37, 2)
    for own, before in zip(resumed, whole, strict=True):
        assert own["seen"] == before["seen"][8:]
        assert own["weights"] == before["weights"]
        assert own["predictions"] == before["predictions"]
