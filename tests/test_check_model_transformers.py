"""check_model on transformers' models: what holds, and what goes wrong in silence elsewhere."""

import os

import numpy as np
import pytest

import tightbatch as tb

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from packed_models import GROUPED as DECODER  # noqa: E402
from packed_models import LENGTHS  # noqa: E402
from packed_models import PLAIN as SIZES  # noqa: E402

GPT2 = {
    "vocab_size": 50,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 48,
    "n_positions": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODERN = {**SIZES, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
# Class, sizes; the head that gives logits for each token.
CAUSAL = {
    "Llama": (DECODER, "ForCausalLM"),
    "Qwen2": (DECODER, "ForCausalLM"),
    "Mistral": ({**DECODER, "sliding_window": 8}, "ForCausalLM"),
    "GPT2": (GPT2, "LMHeadModel"),
}
BOTH_WAYS = {
    "Bert": (SIZES, "ForMaskedLM"),
    "Roberta": ({**SIZES, "pad_token_id": 1, "max_position_embeddings": 66}, "ForMaskedLM"),
    "ModernBert": (MODERN, "ForMaskedLM"),
}
MODELS = {**CAUSAL, **BOTH_WAYS}
ATTENTIONS = ("eager", "sdpa")


def samples(lengths=LENGTHS):
    generator = np.random.default_rng(0)
    return [{"input_ids": generator.integers(5, 50, n).tolist()} for n in lengths]


def make(name, attention="sdpa", head=None):
    if not hasattr(transformers, f"{name}Config"):
        pytest.skip(f"transformers has no {name}")
    sizes, usual = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes)
    cls = getattr(transformers, f"{name}{head or usual}")
    return cls._from_config(config, attn_implementation=attention).eval()


def padded(name, **options):
    return tb.PadCollator(1 if name == "Roberta" else 0, **options)


def without_cache(collate):
    return lambda batch: {**collate(batch), "use_cache": False}


def between(report):
    """The leaks from row to row."""
    return {leak for leak in report.leaks if leak.startswith("row")}


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_padding_on_the_right_with_its_mask_holds(name, attention):
    report = tb.check_model(make(name, attention), padded(name), samples())
    assert report.holds, report
    assert report.outputs["logits"] == "for each token"
    assert report.tolerance < 1e-4


@pytest.mark.parametrize("name", ["Llama", "Bert"])
def test_training_holds_with_dropout_in_the_model(name):
    model = make(name, "eager")
    for rate in ("attention_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(model.config, rate, 0.3)
    report = tb.check_model(model, padded(name), samples(), training=True)
    assert report.holds, report
    assert not model.training


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Mistral", "ModernBert", "Roberta"])
def test_padding_on_the_left_holds_where_positions_are_relative_or_follow_ids(name):
    report = tb.check_model(make(name), padded(name, padding_side="left"), samples())
    assert report.holds, report


@pytest.mark.parametrize("name", ["GPT2", "Bert"])
def test_padding_on_the_left_shifts_absolute_positions(name):
    report = tb.check_model(make(name), padded(name, padding_side="left"), samples())
    assert not report.holds
    # No other token matters, only how many there are: alone each row begins at 0.
    assert between(report) == set()
    assert {"alone: row 0", "alone: row 1", "alone: row 3"} <= set(report.leaks)
    assert "alone: row 2" not in report.leaks  # has no padding
    assert report.place.kind == "Embedding"
    assert "position" in report.place.module or report.place.module.endswith("wpe")
    assert "position_ids" in report.place.hint


def test_position_ids_put_left_padding_right():
    def collate(batch):
        made = tb.PadCollator(padding_side="left")(batch)
        positions = (made["attention_mask"].cumsum(1) - 1).clamp_min(0)
        return {**made, "position_ids": positions}

    report = tb.check_model(make("GPT2"), collate, samples())
    assert report.holds, report


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_an_attention_mask_that_is_left_out_is_found(name, attention):
    side = "left" if name in CAUSAL else "right"
    collate = padded(name, attention_mask=False, padding_side=side)
    report = tb.check_model(make(name, attention), collate, samples())
    assert not report.holds
    assert {f"padding -> row {row}" for row in (0, 1, 3)} <= set(report.leaks)
    assert "Attention" in report.place.kind or "Attn" in report.place.kind
    assert "attention_mask" in report.place.hint


@pytest.mark.parametrize("name", CAUSAL)
def test_padding_on_the_right_needs_no_mask_in_a_causal_model(name):
    report = tb.check_model(make(name), padded(name, attention_mask=False), samples())
    assert report.holds, report


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", CAUSAL)
def test_rows_one_after_another_leak_with_a_cache(name, attention):
    """transformers' own collator: with the default use_cache rows read those before them."""
    model = make(name, attention)
    report = tb.check_model(model, transformers.DataCollatorWithFlattening(), labelled())
    assert not report.holds
    expected = {f"row {i} -> row {j}" for i in range(4) for j in range(i + 1, 4)}
    # What a window of 8 does not reach.
    unseen = {"row 0 -> row 3", "row 1 -> row 3"} if name == "Mistral" else set()
    assert expected - unseen <= between(report) <= expected
    assert report.largest > 0.1
    assert "Attention" in report.place.kind
    assert any("use_cache=False" in note for note in report.notes)
    apart = without_cache(transformers.DataCollatorWithFlattening())
    assert tb.check_model(model, apart, labelled()).holds


def labelled():
    return [{**sample, "labels": sample["input_ids"]} for sample in samples()]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize(
    "options", [{}, {"max_tokens": 32}, {"segment_multiple_of": 4, "shift_labels": True}], ids=repr
)
def test_our_padding_free_batches_hold_as_they_are(name, attention, training, options):
    collate = tb.PaddingFreeCollator(**options)
    report = tb.check_model(make(name, attention), collate, samples(), training=training)
    assert report.holds, report
    assert np.isnan(report.padding).all() is np.bool_(not options)


@pytest.mark.parametrize("name", CAUSAL)
def test_our_flattened_batches_hold_as_they_are(name):
    from tightbatch.huggingface import DataCollatorWithFlattening

    for options in ({}, {"return_flash_attn_kwargs": True, "return_seq_idx": True}):
        report = tb.check_model(make(name), DataCollatorWithFlattening(**options), labelled())
        assert report.holds, report


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_an_encoder_attends_over_a_padding_free_batch(name):
    start = 2 if name == "Roberta" else 0
    collate = tb.PaddingFreeCollator(position_ids_start=start)
    report = tb.check_model(make(name), collate, samples())
    assert {f"row {i} -> row {j}" for i in range(4) for j in range(4) if i != j} == between(report)
    assert "Attention" in report.place.kind


def test_packs_of_rows_hold_or_leak_by_what_is_made_of_them():
    first, second, third, fourth = (sample["input_ids"] for sample in samples())
    packs = [
        {"input_ids": first + second, "seq_lengths": [7, 1]},
        {"input_ids": third + fourth, "seq_lengths": [12, 3]},
    ]
    model = make("Llama")
    apart = tb.check_model(model, tb.PaddingFreeCollator(), packs)
    assert apart.rows == ("row 0.0", "row 0.1", "row 1.0", "row 1.1")
    assert apart.holds, apart

    def one_row(batch):
        return tb.PadCollator()([{"input_ids": sample["input_ids"]} for sample in batch])

    mixed = tb.check_model(model, one_row, packs)
    assert between(mixed) == {"row 0.0 -> row 0.1", "row 1.0 -> row 1.1"}

    def with_positions(batch):
        made = one_row(batch)
        positions = tb.position_ids([sample["seq_lengths"] for sample in batch])
        del made["attention_mask"]
        return {**made, "position_ids": torch.from_numpy(positions), "use_cache": False}

    assert tb.check_model(model, with_positions, packs).holds


HEADS = [
    ("Llama", "right", True),
    ("Llama", "left", True),
    ("GPT2", "right", True),
    ("Bert", "right", True),
    ("Bert", "left", False),
    ("Roberta", "right", True),
    ("ModernBert", "right", True),
    ("ModernBert", "left", False),
]


@pytest.mark.parametrize(("name", "side", "holds"), HEADS)
def test_logits_of_rows(name, side, holds):
    model = make(name, head="ForSequenceClassification")
    collate = padded(name, padding_side=side)
    given = [{**sample, "labels": i % 2} for i, sample in enumerate(samples())]
    report = tb.check_model(model, collate, given)
    assert report.outputs["logits"] == "for each row"
    assert report.outputs["loss"].startswith("for the whole batch")
    assert report.holds is holds, report
    if name in CAUSAL and side == "right":
        assert any("tells padding by its id" in note for note in report.notes)


def seq2seq(name):
    torch.manual_seed(0)
    if name == "T5":
        config = transformers.T5Config(
            vocab_size=50,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
            initializer_factor=1.5,
        )
        return transformers.T5ForConditionalGeneration(config).eval()
    config = transformers.BartConfig(
        vocab_size=50,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        init_std=0.2,
    )
    return transformers.BartForConditionalGeneration(config).eval()


@pytest.mark.parametrize("kind", ["ours", "with decoder inputs", "without a mask"])
@pytest.mark.parametrize("name", ["T5", "Bart"])
def test_encoder_and_decoder(name, kind):
    model, generator = seq2seq(name), np.random.default_rng(1)
    # Both sides are 12 wide: which output is whose does not follow from shapes.
    given = [
        {**sample, "labels": generator.integers(5, 50, n).tolist()}
        for sample, n in zip(samples(), (3, 9, 2, 12), strict=True)
    ]
    pad = model.config.pad_token_id
    if kind == "with decoder inputs":
        from tightbatch.huggingface import DataCollatorForSeq2Seq

        collate = DataCollatorForSeq2Seq(pad_token_id=pad, model=model)
    else:
        collate = tb.PadCollator(pad, attention_mask=None if kind == "ours" else False)
    report = tb.check_model(model, collate, given)
    if kind == "without a mask":
        assert "padding -> row 0" in report.leaks
        assert between(report) == set()
        assert "Attention" in report.place.kind
        assert "encoder" in report.place.module
        return
    assert report.holds, report
    assert report.outputs["encoder_last_hidden_state"] == "for each token"


def test_masked_language_modelling_draws_its_masks():
    from tightbatch.huggingface import DataCollatorForLanguageModeling

    collate = DataCollatorForLanguageModeling(
        pad_token_id=0, mask_token_id=4, vocab_size=50, special_token_ids=[0], seed=1
    )
    report = tb.check_model(make("Bert"), collate, samples())
    assert report.holds, report
    assert any("other tokens in another order" in note for note in report.notes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    model = make("Llama").to(dtype)
    assert tb.check_model(model, tb.PadCollator(), samples()).holds
    leaking = transformers.DataCollatorWithFlattening()
    report = tb.check_model(model, leaking, labelled())
    assert "row 0 -> row 1" in report.leaks
    assert report.dtype == str(dtype).removeprefix("torch.")


@pytest.mark.skipif(
    not os.environ.get("TIGHTBATCH_TEST_LONG"),
    reason="each shape is compiled: minutes on a CPU (TIGHTBATCH_TEST_LONG=1)",
)
@pytest.mark.filterwarnings("ignore")
def test_flex_attention():
    model, given = make("Llama", "flex_attention"), samples((5, 3))
    assert tb.check_model(model, tb.PadCollator(), given).holds
    assert tb.check_model(model, tb.PaddingFreeCollator(), given).holds
    flattened = transformers.DataCollatorWithFlattening()
    rows = [{**sample, "labels": sample["input_ids"]} for sample in given]
    assert between(tb.check_model(model, flattened, rows)) == {"row 0 -> row 1"}


class Wrapped:
    """A collator of the user's own, around another."""

    def __init__(self, collate):
        self.inner = collate

    def __call__(self, batch):
        return self.inner(batch)


@pytest.mark.parametrize("words", [False, True], ids=["tokens", "words"])
@pytest.mark.parametrize("wrap", ["itself", "function", "object"])
@pytest.mark.parametrize("whose", ["transformers", "tightbatch"])
def test_masking_at_random_is_no_mixing_of_rows(whose, wrap, words):
    from comparing_huggingface import make_tokenizer
    from tightbatch import huggingface

    if words and whose == "transformers":
        pytest.skip("transformers cannot pad offset_mapping")
    tokenizer = make_tokenizer()
    module = huggingface if whose == "tightbatch" else transformers
    options = {"whole_word_mask": True, "mask_replace_prob": 1, "random_replace_prob": 0}
    collate = module.DataCollatorForLanguageModeling(tokenizer, **(options if words else {}))
    special = tokenizer.all_special_ids
    plain = [token for token in range(len(tokenizer)) if token not in special]
    generator = np.random.default_rng(0)
    rows = []
    for n in (9, 6, 14, 5, 11, 8, 7, 10, 17):
        ids = generator.choice(plain, n).tolist()
        ids = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
        offsets = [[0, 0], *([3 * i, 3 * i + 2 + i % 2] for i in range(n)), [0, 0]]
        rows.append({"input_ids": ids, **({"offset_mapping": offsets} if words else {})})
    sizes = {**SIZES, "vocab_size": max(50, len(tokenizer)), "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**sizes)).eval()
    given = {
        "itself": collate,
        "function": lambda batch: collate(batch),
        "object": Wrapped(collate),
    }
    report = tb.check_model(model, given[wrap], rows)
    assert report.holds, report
    assert not np.isnan(report.wider).any()


@pytest.mark.parametrize("name", MODELS)
def test_losses_of_transformers_do_not_depend_on_the_amount_of_padding(name):
    labelled = [{**sample, "labels": sample["input_ids"]} for sample in samples()]
    report = tb.check_model(make(name), padded(name), labelled)
    assert report.holds, report
    assert report.outputs["loss"].startswith("for the whole batch")
    assert (report.wider <= report.tolerance).all()


# --- the labels of first tokens, which padding predicts -------------------------------------------


def first_labels_ignored(batch):
    made = tb.PadCollator(padding_side="left")(batch)
    firsts = made["attention_mask"].argmax(1)
    made["labels"][torch.arange(len(firsts)), firsts] = -100
    return made


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_loss_that_moves_by_first_labels_alone_is_a_note(side):
    """No row's outputs move: both checks say what it is, and how to leave it out."""
    model, collate = make("Llama"), tb.PadCollator(padding_side=side)
    report = tb.check_model(model, collate, labelled())
    assert report.holds, report
    told = [note for note in report.notes if "first token" in note]
    noted = [note for note in tb.check_batch(collate(labelled())).notes if "first token" in note]
    assert len(told) == len(noted) == (side == "left")
    if side == "left":
        assert told[0].startswith("loss, one number for the batch, moves by ")
        assert told[0].endswith("padding predicts; the ignored label (-100) there leaves it out")
        cured = tb.check_model(model, first_labels_ignored, labelled())
        assert cured.holds
        assert not cured.notes
        assert not tb.check_batch(first_labels_ignored(labelled())).notes


def test_first_labels_do_not_hide_another_loss_that_moves():
    """A mean over all places, or a loss of padding, moves with these labels left out too."""
    model = make("Llama")

    def loss_of(logits, labels, over, ignored):
        each = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1),
            labels[:, 1:].flatten(),
            ignore_index=ignored,
            reduction="none",
        )
        return each.sum() / over

    def mean_of_all(model, batch):
        logits = model(batch["input_ids"], batch["attention_mask"]).logits
        labels = batch["labels"]
        return {"loss": loss_of(logits, labels, labels.numel(), -100), "logits": logits}

    collate = tb.PadCollator(padding_side="left")
    report = tb.check_model(model, collate, labelled(), call=mean_of_all)
    assert not report.holds
    assert (report.wider > report.tolerance).all()
    assert any("not of all places" in note for note in report.notes)

    def trained_padding(model, batch):
        logits = model(batch["input_ids"], batch["attention_mask"]).logits
        return {"loss": loss_of(logits, batch["input_ids"], 1.0, -100), "logits": logits}

    report = tb.check_model(model, collate, labelled(), call=trained_padding)
    assert not report.holds
    assert (report.padding > report.tolerance).all()
    assert not any("first token" in note for note in report.notes)
