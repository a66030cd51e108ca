"""A transformers Trainer fed by RaggedDataset and our collators, and by transformers' own: equal.

The text is real: sentences of the docstrings of Python's standard library, which is read, not
imported. What is learned of them is whether they are long.
"""

import ast
import re
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import tightbatch as tb
import tightbatch.huggingface as ours
from conftest import LONG

torch = pytest.importorskip("torch")
datasets = pytest.importorskip("datasets")
tokenizers = pytest.importorskip("tokenizers")
theirs = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

MODULES = (
    "argparse",
    "difflib",
    "email/message",
    "logging/__init__",
    "pathlib",
    "textwrap",
    "typing",
)
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def read_sentences():
    """Sentences of 4 to 40 words out of docstrings, each once, in order."""
    found = {}
    for module in MODULES:
        path = Path(sysconfig.get_path("stdlib")) / f"{module}.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = " ".join((ast.get_docstring(node) or "").split())
                for sentence in re.split(r"(?<=[.!?:])\s+", text):
                    if 4 <= len(sentence.split()) <= 40:
                        found[sentence] = None
    return list(found)


@pytest.fixture(scope="module")
def tokenizer():
    sentences = read_sentences()
    assert len(sentences) > 500
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.WordLevelTrainer(
        vocab_size=600, special_tokens=[*SPECIAL.values(), "[MASK]"], show_progress=False
    )
    words.train_from_iterator(sentences, trainer)
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return theirs.PreTrainedTokenizerFast(
        tokenizer_object=words,
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **SPECIAL,
    )


@pytest.fixture(scope="module")
def splits(tokenizer, tmp_path_factory):
    """Train and test: tokenized on disk, shuffled, with text that no model takes."""
    sentences = read_sentences()
    encoded = tokenizer(sentences, truncation=True)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    label = [int(n > np.median(lengths)) for n in lengths]
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "input_ids": datasets.List(datasets.Value("int32")),
            "token_type_ids": datasets.List(datasets.Value("int8")),
            "label": datasets.ClassLabel(names=["short", "long"]),
            "length": datasets.Value("int64"),
        }
    )
    data = {"text": sentences, "label": label, "length": lengths}
    data |= {key: encoded[key] for key in ("input_ids", "token_type_ids")}
    directory = str(tmp_path_factory.mktemp("sentences"))
    datasets.Dataset.from_dict(data, features=features).save_to_disk(directory)
    return datasets.load_from_disk(directory).shuffle(seed=0).train_test_split(64, 320, seed=0)


def sizes(tokenizer, **more):
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        **more,
    }


def classifier(tokenizer):
    torch.manual_seed(0)
    config = theirs.DistilBertConfig(
        **sizes(tokenizer, dim=32, n_layers=1, n_heads=2, hidden_dim=64),
        max_position_embeddings=64,
    )
    return theirs.DistilBertForSequenceClassification(config)


def arguments(directory, cls=theirs.TrainingArguments, **options):
    settings = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 10,
        "learning_rate": 5e-3,
        "logging_steps": 1,
        "seed": 7,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
    return cls(output_dir=str(directory), **{**settings, **options})


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def train(directory, model, train_set, collator, test_set=None, cls=theirs.Trainer, **options):
    kind = theirs.Seq2SeqTrainingArguments if cls is theirs.Seq2SeqTrainer else None
    trainer = cls(
        model=model,
        args=arguments(directory, kind or theirs.TrainingArguments, **options),
        train_dataset=train_set,
        eval_dataset=test_set,
        data_collator=collator,
        compute_metrics=accuracy if test_set is not None else None,
    )
    trainer.remove_callback(theirs.PrinterCallback)
    trainer.train()
    return trainer


def ragged(splits, **options):
    return {name: tb.RaggedDataset.from_hf(split, **options) for name, split in splits.items()}


@pytest.fixture(scope="module")
def reference(tokenizer, splits, tmp_path_factory):
    """What transformers does with its own collator: losses, predictions, metrics."""
    collator = theirs.DataCollatorWithPadding(tokenizer)
    trainer = train(
        tmp_path_factory.mktemp("out"),
        classifier(tokenizer),
        splits["train"],
        collator,
        splits["test"],
    )
    return losses(trainer), trainer.predict(splits["test"]), trainer.evaluate()


def assert_equal(trainer, test_set, reference):
    expected_losses, expected, metrics = reference
    assert losses(trainer) == expected_losses
    result = trainer.predict(test_set)
    np.testing.assert_array_equal(result.predictions, expected.predictions)
    np.testing.assert_array_equal(result.label_ids, expected.label_ids)
    evaluated = trainer.evaluate()
    for key in ("eval_loss", "eval_accuracy"):
        assert evaluated[key] == metrics[key]


def test_the_reference_learns(reference, splits):
    steps, prediction, metrics = reference
    assert len(steps) == 60
    assert np.mean(steps[-10:]) < np.mean(steps[:10]) / 2
    assert metrics["eval_accuracy"] == prediction.metrics["test_accuracy"] > 0.85
    assert prediction.label_ids.tolist() == splits["test"]["label"]
    assert 0.3 < np.mean(prediction.label_ids) < 0.7


def test_a_hugging_face_dataset_and_our_collator(tokenizer, splits, reference, tmp_path):
    collator = ours.DataCollatorWithPadding(tokenizer)
    trainer = train(tmp_path, classifier(tokenizer), splits["train"], collator, splits["test"])
    assert_equal(trainer, splits["test"], reference)


def test_a_ragged_dataset_with_a_text_column(tokenizer, splits, reference, tmp_path):
    """The Trainer removes what the model does not take, sample by sample."""
    sets, collator = ragged(splits), ours.DataCollatorWithPadding(tokenizer)
    assert "text" in sets["train"].column_names
    trainer = train(tmp_path, classifier(tokenizer), sets["train"], collator, sets["test"])
    assert_equal(trainer, sets["test"], reference)


@pytest.mark.parametrize("which", ["DataCollatorWithPadding", "PadCollator"])
def test_a_ragged_dataset_whose_batches_stay_columns(tokenizer, splits, reference, tmp_path, which):
    """With remove_unused_columns=False nothing is wrapped: the collator gets the columns."""
    named = {name: split.rename_column("label", "labels") for name, split in splits.items()}
    sets = ragged(named, columns=["input_ids", "labels"])
    collator = tb.PadCollator.from_tokenizer(tokenizer, dtype={"input_ids": "int64"})
    if which == "DataCollatorWithPadding":
        collator = ours.DataCollatorWithPadding(tokenizer)
    seen = set()

    def watched(samples):
        seen.add(type(samples).__name__)
        return collator(samples)

    options = {"remove_unused_columns": False}
    trainer = train(
        tmp_path, classifier(tokenizer), sets["train"], watched, sets["test"], **options
    )
    assert_equal(trainer, sets["test"], reference)
    assert seen == {"Samples"}


@pytest.mark.forks
def test_with_two_workers(tokenizer, splits, tmp_path):
    """Spawned or forked; and as transformers' own collator in workers, which draw seeds too."""
    sets, results = ragged(splits), []
    for source, side, method in (
        (splits, theirs, "fork"),
        (sets, ours, "fork"),
        *([(sets, ours, "spawn")] if LONG else ()),
    ):
        trainer = train(
            tmp_path,
            classifier(tokenizer),
            source["train"],
            side.DataCollatorWithPadding(tokenizer),
            source["test"],
            num_train_epochs=2,
            dataloader_num_workers=2,
            dataloader_multiprocessing_context=method,
            dataloader_persistent_workers=True,
        )
        steps = losses(trainer)
        assert len(steps) == 40
        if method == "fork":
            results.append((steps, trainer.predict(source["test"]), trainer.evaluate()))
            assert_equal(trainer, source["test"], results[0])
        assert steps == results[0][0]


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance", "sequential"])
def test_sampling_strategies(tokenizer, splits, tmp_path, strategy):
    if not hasattr(theirs.TrainingArguments, "train_sampling_strategy"):
        pytest.skip("this transformers has no sampling strategies")
    options = {"train_sampling_strategy": strategy, "num_train_epochs": 1}
    splits = splits.remove_columns("length")  # it would be read row by row
    sets = ragged(splits)
    answers = []
    for source, side in ((splits, theirs), (splits, ours), (sets, ours)):
        widths = []
        collator = side.DataCollatorWithPadding(tokenizer)

        def watched(samples, collator=collator, widths=widths):
            batch = collator(samples)
            widths.append(tuple(batch["input_ids"].shape))
            return batch

        trainer = train(tmp_path, classifier(tokenizer), source["train"], watched, **options)
        answers.append((losses(trainer), widths))
    assert len(answers[0][0]) == 20
    assert answers[0] == answers[1] == answers[2]


def language_model(tokenizer, masked):
    torch.manual_seed(1)
    if masked:
        config = theirs.BertConfig(
            **sizes(tokenizer, hidden_size=32, num_hidden_layers=1, num_attention_heads=2),
            intermediate_size=64,
            max_position_embeddings=64,
        )
        return theirs.BertForMaskedLM(config)
    config = theirs.GPT2Config(
        **sizes(tokenizer, n_embd=32, n_layer=1, n_head=2, n_positions=64),
        bos_token_id=2,
        eos_token_id=3,
    )
    return theirs.GPT2LMHeadModel(config)


def test_causal_language_modelling(tokenizer, splits, tmp_path):
    answers = []
    for source, side in ((splits, theirs), (splits, ours), (ragged(splits), ours)):
        collator = side.DataCollatorForLanguageModeling(tokenizer, mlm=False)
        model = language_model(tokenizer, masked=False)
        trainer = train(tmp_path, model, source["train"], collator, num_train_epochs=1)
        answers.append((losses(trainer), trainer.evaluate(source["test"])["eval_loss"]))
    assert answers[0] == answers[1] == answers[2]
    steps, after = answers[0]
    assert abs(steps[0] - np.log(len(tokenizer))) < 1
    assert after < steps[0] - 0.5


def test_masked_language_modelling(tokenizer, splits, tmp_path):
    """Masks are drawn by a generator of our own, so losses are near and not equal."""
    results = []
    for _ in range(2):
        collator = ours.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3, seed=5)
        model = language_model(tokenizer, masked=True)
        train_set = ragged(splits)["train"]
        results.append(losses(train(tmp_path, model, train_set, collator, num_train_epochs=2)))
    assert results[0] == results[1]
    assert abs(results[0][0] - np.log(len(tokenizer))) < 1
    assert np.mean(results[0][-5:]) < np.mean(results[0][:5]) - 0.5


def test_sequence_to_sequence(tokenizer, splits, tmp_path):
    """Repeat the first words; the labels' padding, the decoder's inputs and generation fit."""

    def add_labels(row):
        return {"labels": row["input_ids"][1 : 2 + row["length"] % 4]}

    columns = ["text", "input_ids", "labels"]
    parts = {
        name: split.select(range(40)).map(add_labels).select_columns(columns)
        for name, split in splits.items()
    }
    answers = []
    for source, side in ((parts, theirs), (parts, ours), (ragged(parts), ours)):
        torch.manual_seed(2)
        config = theirs.T5Config(
            **sizes(tokenizer, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2),
            decoder_start_token_id=tokenizer.pad_token_id,
        )
        model = theirs.T5ForConditionalGeneration(config)
        collator = side.DataCollatorForSeq2Seq(tokenizer, model=model)
        trainer = train(
            tmp_path,
            model,
            source["train"],
            collator,
            cls=theirs.Seq2SeqTrainer,
            num_train_epochs=2,
            predict_with_generate=True,
            generation_max_length=6,
        )
        prediction = trainer.predict(source["test"])
        answers.append((losses(trainer), prediction))
    for steps, prediction in answers[1:]:
        assert steps == answers[0][0]
        np.testing.assert_array_equal(prediction.predictions, answers[0][1].predictions)
        np.testing.assert_array_equal(prediction.label_ids, answers[0][1].label_ids)
    expected = parts["test"]["labels"]
    assert [[t for t in row if t > 0] for row in answers[0][1].label_ids.tolist()] == expected


@pytest.mark.parametrize("key", ["label", "label_ids", "labels"])
def test_a_trainer_gets_a_loss_from_pad_collator(tokenizer, splits, tmp_path, key):
    """Labels under any of the names that transformers' collators take reach the model."""
    data = splits["train"].select(range(16))
    data = data if key == "label" else data.rename_column("label", key)
    arguments = theirs.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=8,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
    )
    columns = ["input_ids", key]
    trainer = theirs.Trainer(
        classifier(tokenizer),
        arguments,
        train_dataset=tb.RaggedDataset.from_hf(data.select_columns(columns)),
        eval_dataset=tb.RaggedDataset.from_hf(data.select_columns(columns)),
        data_collator=tb.PadCollator.from_tokenizer(tokenizer),
    )
    assert trainer.train().training_loss > 0
    assert trainer.evaluate()["eval_loss"] > 0


def test_a_plain_model_gets_a_loss_and_what_it_would_get_alone(tokenizer):
    model = classifier(tokenizer).eval()
    samples = [{"input_ids": [2, 9, 8, 7, 3], "label": 1}, {"input_ids": [2, 9, 3], "label": 0}]
    collate = tb.PadCollator.from_tokenizer(tokenizer)
    with torch.no_grad():
        together = model(**collate(samples))
        alone = [model(**collate([sample])) for sample in samples]
    torch.testing.assert_close(together.logits, torch.cat([out.logits for out in alone]))
    torch.testing.assert_close(together.loss, sum(out.loss for out in alone) / 2)
