"""Padding-free batches in models: what a row gives must not depend on its neighbours."""

from itertools import pairwise

import numpy as np
import pytest

import tightbatch as tb

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LENGTHS = (7, 1, 12, 3)
# Two orders of summation in float32; logits are of the order of 1.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
COMMON = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
MODELS = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
}


def make_model(name, attention):
    config, model = MODELS[name]
    torch.manual_seed(0)
    made = config(**COMMON, pad_token_id=0)
    made._attn_implementation = attention
    return model(made).eval()


def make_samples(labelled=True):
    rng = np.random.default_rng(1)
    samples = []
    for n in LENGTHS:
        ids = rng.integers(1, 50, n)
        labels = np.where(rng.random(n) < 0.3, -100, ids)
        samples.append({"input_ids": ids, **({"labels": labels} if labelled else {})})
    return samples


def run(model, batch):
    """Logits, loss and gradients."""
    model.zero_grad()
    out = model(**batch)
    out.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    return out.logits.detach(), out.loss.detach(), gradients


def padded_results(model, samples):
    batch = tb.PadCollator()(samples)
    counted = int((batch["labels"][:, 1:] != -100).sum())
    logits, loss, gradients = run(model, {**batch, "num_items_in_batch": counted})
    rows = [row[: len(sample["input_ids"])] for row, sample in zip(logits, samples, strict=True)]
    return rows, loss, gradients, counted


def assert_same_results(model, samples, batch, starts):
    rows, loss, gradients, counted = padded_results(model, samples)
    assert batch["num_items_in_batch"] == counted
    logits, free_loss, free_gradients = run(model, batch)
    for row, start in zip(rows, starts, strict=True):
        torch.testing.assert_close(logits[0, start : start + len(row)], row, **CLOSE)
    torch.testing.assert_close(free_loss, loss, **CLOSE)
    for name, gradient in gradients.items():
        torch.testing.assert_close(free_gradients[name], gradient, **CLOSE)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shift_labels": True},
        {"max_tokens": 40},
        {"pad_to_multiple_of": 32, "max_segments": 9, "max_seqlen": 32},
        {"segment_multiple_of": 8, "shift_labels": True, "max_tokens": 48},
    ],
    ids=repr,
)
def test_logits_loss_and_gradients_are_those_of_the_padded_batch(name, attention, options):
    model, samples = make_model(name, attention), make_samples()
    batch = tb.PaddingFreeCollator(return_num_items=True, **options)(samples)
    starts = batch["cu_seq_lens_q"][: len(samples)].tolist()
    assert_same_results(model, samples, batch, starts)


def test_packs_give_what_their_rows_give():
    model, samples = make_model("llama", "sdpa"), make_samples()
    packs = [
        {
            **{key: np.concatenate([s[key] for s in part]) for key in samples[0]},
            "seq_lengths": [len(s["input_ids"]) for s in part],
        }
        for part in (samples[:3], samples[3:])
    ]
    batch = tb.PaddingFreeCollator(return_num_items=True)(packs)
    assert_same_results(model, samples, batch, batch["cu_seq_lens_q"][:-1].tolist())


def test_a_mask_of_ones_would_have_mixed_the_rows():
    """Why there is none: with one, the same line is a single sequence to the model."""
    model, samples = make_model("llama", "sdpa"), make_samples()
    batch = tb.PaddingFreeCollator()(samples)
    assert "attention_mask" not in batch
    with torch.no_grad():
        right = model(**batch).logits
        mask = torch.ones_like(batch["input_ids"])
        mixed = model(**batch, attention_mask=mask).logits
    assert not torch.allclose(right, mixed, **CLOSE)


def test_the_tail_changes_nothing_and_is_no_longer_than_a_row():
    model, samples = make_model("llama", "sdpa"), make_samples()
    bare = tb.PaddingFreeCollator()(samples)
    total = bare["input_ids"].shape[1]
    with torch.no_grad():
        expected = model(**bare).logits
        for fill in (0, 49):
            batch = tb.PaddingFreeCollator(max_tokens=64, padding_value=fill)(samples)
            logits = model(**batch).logits
            torch.testing.assert_close(logits[:, :total], expected, **CLOSE)
    begins = (batch["position_ids"] == 0).sum()
    assert begins == len(samples) + 4 == len(batch["cu_seq_lens_q"]) - 1  # 41 in rows of 12
    assert batch["max_length_q"] == 12


def heads(total, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(total, 2, 8, generator=generator) for _ in range(3)]


def attend_alone(q, k, v, bounds):
    """Causal attention, one sequence after another."""
    out = torch.empty_like(q)
    for begin, end in pairwise(bounds):
        if begin < end:
            parts = (x[begin:end].transpose(0, 1) for x in (q, k, v))
            done = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
            out[begin:end] = done.transpose(0, 1)
    return out


@pytest.mark.parametrize(
    "options", [{}, {"max_tokens": 48, "max_segments": 8}, {"segment_multiple_of": 4}], ids=repr
)
def test_masks_made_of_seq_idx_agree_with_the_boundaries(options):
    batch = tb.PaddingFreeCollator(**options)(make_samples(labelled=False))
    q, k, v = heads(batch["input_ids"].shape[1])
    sequence = batch["seq_idx"][0]
    causal = torch.ones(len(sequence), len(sequence), dtype=torch.bool).tril()
    mask = (sequence[:, None] == sequence[None, :]) & causal
    parts = (x.transpose(0, 1) for x in (q, k, v))
    out = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask)
    expected = attend_alone(q, k, v, batch["cu_seq_lens_q"].tolist())
    torch.testing.assert_close(out.transpose(0, 1), expected, **CLOSE)


@pytest.mark.parametrize("options", [{}, {"max_tokens": 48, "max_segments": 8, "max_seqlen": 48}])
def test_torch_varlen_attention_takes_the_boundaries(options):
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    batch = tb.PaddingFreeCollator(naming="varlen_attn", **options)(make_samples(labelled=False))
    names = ("cu_seq_q", "cu_seq_k", "max_q", "max_k")
    q, k, v = heads(batch["input_ids"].shape[1])
    bounds = {name: batch[name] for name in names}
    # It computes on CUDA alone, which test_cuda tests. Here the names and types, by the operator's
    # own check.
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [mode.from_tensor(x) for x in (q, k, v)]
        given = {
            n: mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for n, x in bounds.items()
        }
        assert varlen.varlen_attn(*fake, **given, window_size=(-1, 0)).shape == q.shape


def test_the_trainer_takes_the_batches(tmp_path):
    samples = [{"input_ids": list(range(1, 2 + i % 7))} for i in range(16)]
    model = make_model("llama", "sdpa")
    expected, weights = 0.0, 0
    with torch.no_grad():
        for row in (torch.tensor(sample["input_ids"])[None] for sample in samples[:4]):
            if row.shape[1] > 1:
                expected += model(input_ids=row, labels=row).loss.item() * (row.shape[1] - 1)
                weights += row.shape[1] - 1
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        max_steps=2,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    collate = tb.PaddingFreeCollator(
        max_tokens=64, max_segments=8, max_length=64, shift_labels=True
    )
    trainer = transformers.Trainer(
        model, arguments, train_dataset=samples, data_collator=collate, eval_dataset=samples[:4]
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected / weights, rel=1e-4)
    done = trainer.train()
    assert np.isfinite(done.training_loss)
    assert any(not torch.equal(before[name], p.detach()) for name, p in model.named_parameters())
