"""PadCollator against the peers that are installed, on generated features."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

KEYS = ["input_ids", "attention_mask", "token_type_ids", "special_tokens_mask"]
tokens = st.integers(0, 30_000)


@pytest.fixture(scope="module", params=["right", "left"])
def tokenizer(request):
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(
            tokenizers.models.WordLevel({"[UNK]": 0, "[PAD]": 11}, unk_token="[UNK]")
        ),
        pad_token="[PAD]",
        padding_side=request.param,
    )


@st.composite
def features(draw):
    """Samples as a tokenizer returns them: some of the keys, each as long as input_ids."""
    keys = ["input_ids", *draw(st.lists(st.sampled_from(KEYS[1:]), unique=True))]
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=8))
    small = st.integers(0, 1)
    samples = [
        {
            key: draw(st.lists(tokens if key == "input_ids" else small, min_size=n, max_size=n))
            for key in keys
        }
        for n in lengths
    ]
    if draw(st.booleans()):
        for sample in samples:
            sample["label"] = draw(st.integers(0, 9))
    return samples


@settings(max_examples=150, deadline=None)
@given(samples=features(), multiple=st.sampled_from([None, 1, 4, 7]))
def test_as_transformers_pads(tokenizer, samples, multiple):
    """Equal but for the name of the label, which is the model's business."""
    theirs = transformers.DataCollatorWithPadding(tokenizer, pad_to_multiple_of=multiple)
    ours = tb.PadCollator.from_tokenizer(tokenizer, pad_to_multiple_of=multiple)
    expected = dict(theirs([dict(sample) for sample in samples]))
    result = dict(ours(samples))
    if "label" in result:
        result["labels"] = result.pop("label")
    assert sorted(result) == sorted(expected)
    assert list(result)[:1] == list(expected)[:1]
    for key, value in expected.items():
        assert result[key].dtype == (value.dtype if value.numel() else torch.int64), key
        assert torch.equal(result[key], value.to(result[key].dtype)), key


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 6),
    length=st.integers(1, 5),
    dtype=st.sampled_from([torch.int64, torch.int32, torch.float32, torch.float64, torch.bool]),
    seed=st.integers(0, 99),
)
def test_as_default_collate_stacks_rows_of_one_length(size, length, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    samples = [
        (torch.randint(0, 9, (length, 2), generator=generator).to(dtype), i) for i in range(size)
    ]
    expected = torch.utils.data.default_collate(samples)
    result = tb.PadCollator()(samples)
    assert result[0].dtype == expected[0].dtype
    assert torch.equal(result[0], expected[0])
    assert torch.equal(result[1], expected[1])


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    side=st.sampled_from(["right", "left"]),
    value=st.integers(-5, 5),
    dtype=st.sampled_from([torch.int16, torch.float16, torch.bfloat16, torch.float64]),
)
def test_as_pad_sequence_pads_tensors(lengths, side, value, dtype):
    rows = [torch.arange(n * 3).reshape(n, 3).to(dtype) for n in lengths]
    expected = torch.nn.utils.rnn.pad_sequence(
        rows, batch_first=True, padding_value=value, padding_side=side
    )
    result = tb.PadCollator(value, padding_side=side)(rows)
    assert result.dtype == expected.dtype
    assert torch.equal(result, expected)


def test_a_model_gives_each_row_what_it_gives_it_alone(tokenizer):
    """The mask does its work in a real model, on both sides."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    model = transformers.BertModel(config).eval()
    rows = [np.random.default_rng(n).integers(12, 50, n).tolist() for n in (9, 4, 1)]
    collator = tb.PadCollator.from_tokenizer(tokenizer)
    batch = collator([{"input_ids": row} for row in rows])
    positions = tb.position_ids([len(row) for row in rows], padding_side=collator.padding_side)
    with torch.inference_mode():
        together = model(**batch, position_ids=torch.from_numpy(positions)).last_hidden_state
        for row, hidden, mask in zip(rows, together, batch["attention_mask"], strict=True):
            alone = model(input_ids=torch.tensor([row])).last_hidden_state[0]
            torch.testing.assert_close(hidden[mask.bool()], alone, atol=1e-5, rtol=1e-5)


def test_a_transformers_trainer_takes_it(tmp_path):
    """The Trainer moves, counts and feeds a Batch like any mapping."""
    pytest.importorskip("accelerate")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=2,
    )
    rng = np.random.default_rng(0)
    samples = [
        {
            "input_ids": rng.integers(2 + 20 * (i % 2), 20 + 20 * (i % 2), n).tolist(),
            "labels": i % 2,
        }
        for i, n in enumerate(rng.integers(1, 20, 64).tolist())
    ]
    trainer = transformers.Trainer(
        model=transformers.BertForSequenceClassification(config),
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=4,
            per_device_train_batch_size=16,
            learning_rate=1e-2,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            remove_unused_columns=False,
        ),
        train_dataset=samples,
        eval_dataset=samples,
        data_collator=tb.PadCollator(),
    )
    before = trainer.evaluate()["eval_loss"]
    assert trainer.train().global_step == 16
    assert trainer.evaluate()["eval_loss"] < before
