"""A plain ``model(**batch)`` keeps rows apart: models of many kinds, in training and evaluation."""

import numpy as np
import pytest

import tightbatch as tb
from checks import WORKER_LIMIT, fails

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tightbatch.huggingface as hf  # noqa: E402
from packed_models import (  # noqa: E402
    CLOSE,
    DECODERS,
    MASKED,
    MIXING,
    assert_rows_are_apart,
    make_model,
    make_packs,
    make_rows,
    outputs_of,
    starts_of,
)
from tightbatch.huggingface import trl as hf_trl  # noqa: E402

MODES = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
ATTENTIONS = pytest.mark.parametrize("attention", ["eager", "sdpa"])


def samples_of(rows):
    return [{"input_ids": row} for row in rows]


def collate_both(rows, packed):
    """The batches of each collator that puts rows one after another."""
    samples = make_packs(rows) if packed else samples_of(rows)
    yield tb.PaddingFreeCollator()(samples)
    yield tb.PaddingFreeCollator(max_tokens=40, max_segments=8, max_length=16)(samples)
    yield hf.DataCollatorWithFlattening()(samples)
    yield hf.DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_seq_idx=True)(samples)


@MODES
@ATTENTIONS
@pytest.mark.parametrize("name", DECODERS)
def test_language_models_keep_rows_apart(name, attention, training):
    model, rows = make_model(name, attention, training), make_rows()
    assert_rows_are_apart(model, rows, tb.PaddingFreeCollator()(samples_of(rows)), starts_of(rows))


@MODES
@ATTENTIONS
@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packs"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_every_collator_keeps_rows_and_packs_apart(name, packed, attention, training):
    model, rows = make_model(name, attention, training), make_rows()
    for batch in collate_both(rows, packed):
        assert_rows_are_apart(model, rows, batch, starts_of(rows))


@MODES
@pytest.mark.parametrize("name", ["llama", "mistral"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_flex_attention_keeps_rows_apart(name, training):
    """Not compiled: that takes minutes, and computes the same. There is no backward on CPUs."""
    model, rows = make_model(name, "flex_attention", training), make_rows()
    batch = tb.PaddingFreeCollator()(samples_of(rows))
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        parts, alone = outputs_of(model, rows, batch, starts_of(rows))
    torch.testing.assert_close(parts, alone, **CLOSE)


@pytest.mark.cuda
@MODES
@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention", "sdpa", "eager"])
@pytest.mark.parametrize("options", [{}, {"max_tokens": 40, "max_segments": 8, "max_length": 16}])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_on_a_gpu(attention, options, training):
    close, dtype = CLOSE, torch.float32
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
        close, dtype = {"rtol": 5e-2, "atol": 1e-1}, torch.bfloat16
    rows = make_rows()
    model = make_model("llama", attention, training, hidden_size=128).to("cuda", dtype)
    batch = tb.PaddingFreeCollator(**options)(samples_of(rows)).to("cuda")
    assert_rows_are_apart(model, rows, batch, starts_of(rows), **close)


@ATTENTIONS
@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral", "gpt2"])
def test_without_the_entry_a_cache_mixes_the_rows(name, attention):
    """Why it is there, as long as transformers looks for rows only where there is no cache."""
    model, rows = make_model(name, attention), make_rows()
    batch = tb.PaddingFreeCollator(return_use_cache=False)(samples_of(rows))
    assert "use_cache" not in batch
    with pytest.raises(AssertionError):
        assert_rows_are_apart(model, rows, batch, starts_of(rows))


def test_the_entry_is_there_whatever_the_naming():
    samples = samples_of(make_rows())
    for naming in ("transformers", "flash_attn", "varlen_attn", "megatron"):
        made = [
            tb.PaddingFreeCollator(naming=naming, **given)(samples).get("use_cache")
            for given in ({}, {"return_use_cache": True}, {"return_use_cache": False})
        ]
        assert made == [None if naming == "megatron" else False, False, None]
    for kind in ("pt", "np"):
        assert tb.PaddingFreeCollator(return_tensors=kind)(samples)["use_cache"] is False
    with fails(ValueError, "PaddingFreeCollator()", "'use_cache'"):
        tb.PaddingFreeCollator()([{"input_ids": [1], "use_cache": 1}])
    tb.PaddingFreeCollator(return_use_cache=False)([{"input_ids": [1], "use_cache": 1}])


@MODES
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_gradient_checkpointing(training):
    model, rows = make_model("llama", "sdpa", training), make_rows()
    model.gradient_checkpointing_enable()
    assert_rows_are_apart(model, rows, tb.PaddingFreeCollator()(samples_of(rows)), starts_of(rows))


def test_batches_that_accelerate_moves():
    operations = pytest.importorskip("accelerate.utils.operations")
    model, rows = make_model("llama"), make_rows()
    batch = operations.send_to_device(tb.PaddingFreeCollator()(samples_of(rows)), "cpu")
    assert_rows_are_apart(model, rows, batch, starts_of(rows))


# Models that need a mask, and models that mix rows


@MODES
@ATTENTIONS
@pytest.mark.parametrize("name", MASKED)
def test_for_model_finds_what_the_model_needs(name, attention, training):
    model, rows = make_model(name, attention, training), make_rows()
    collate = tb.PaddingFreeCollator.for_model(model)
    assert all(part.training is training for part in model.modules())
    assert_rows_are_apart(model, rows, collate(samples_of(rows)), starts_of(rows))
    packs = collate(make_packs(rows))
    assert_rows_are_apart(model, rows, packs, starts_of(rows))
    causal = name in ("opt", "falcon", "bert decoder")
    assert collate.attention_mask == ("causal" if causal else "bidirectional")
    assert collate.return_labels is causal
    assert collate.position_ids_start == (2 if name == "roberta" else 0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
def test_for_model_changes_nothing_where_the_defaults_do(name):
    model = make_model(name)
    assert tb.PaddingFreeCollator.for_model(model) == tb.PaddingFreeCollator()
    options = {"max_tokens": 64, "shift_labels": True, "max_length": 9}
    assert tb.PaddingFreeCollator.for_model(model, **options) == tb.PaddingFreeCollator(**options)


@pytest.mark.parametrize("name", MIXING)
def test_for_model_refuses_a_model_that_mixes_rows(name):
    model = make_model(name, "eager")
    kind = type(model).__name__
    with fails(ValueError, "PaddingFreeCollator.for_model()", kind, "apart", "PadCollator"):
        tb.PaddingFreeCollator.for_model(model)


def test_for_model_keeps_what_is_given():
    model = make_model("bert", dtype="float32")
    given = {"dtype": {"attention_mask": "float32"}, "return_labels": True}
    collate = tb.PaddingFreeCollator.for_model(model, **given)
    assert (collate.dtype, collate.return_labels) == (given["dtype"], True)
    assert collate(samples_of(make_rows()))["attention_mask"].dtype == torch.float32
    collate = tb.PaddingFreeCollator.for_model(make_model("llama"), return_use_cache=False)
    assert (collate.attention_mask, collate.return_use_cache) == ("causal", False)
    with fails(ValueError, "for_model()", "RobertaForMaskedLM", "alone"):
        tb.PaddingFreeCollator.for_model(make_model("roberta"), position_ids_start=0)
    with fails(ValueError, "PaddingFreeCollator()", "max_tokens"):
        tb.PaddingFreeCollator.for_model(model, max_tokens=0)


def test_for_model_of_half_precision():
    rows = make_rows()
    for attention in ("eager", "sdpa"):
        model = make_model("bert", attention).to(torch.bfloat16)
        batch = tb.PaddingFreeCollator.for_model(model)(samples_of(rows))
        assert batch["attention_mask"].dtype == torch.bfloat16
        close = {"rtol": 5e-2, "atol": 1e-1}
        assert_rows_are_apart(model, rows, batch, starts_of(rows), **close)


def test_for_model_of_what_is_no_language_model():
    with fails(TypeError, "for_model()", "model has type str", "torch.nn.Module"):
        tb.PaddingFreeCollator.for_model("bert")
    with fails(TypeError, "for_model()", "Linear", "no embedding"):
        tb.PaddingFreeCollator.for_model(torch.nn.Linear(2, 2))
    config = transformers.BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1,
                                     num_attention_heads=4, intermediate_size=48)  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    with fails(ValueError, "for_model()", "each token", "PadCollator"):
        tb.PaddingFreeCollator.for_model(model)


@pytest.mark.parametrize("kind", ["causal", "bidirectional"])
@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("dtype", [None, np.float32, "float16"])
def test_the_mask_is_that_of_the_segments(kind, tensors, dtype):
    options = {} if dtype is None else {"dtype": {"attention_mask": dtype}}
    rows = make_rows()
    batch = tb.PaddingFreeCollator(
        attention_mask=kind, max_tokens=30, return_tensors=tensors, **options
    )(samples_of(rows))
    mask, ids = np.asarray(batch["attention_mask"]), np.asarray(batch["seq_idx"])[0]
    sees = ids[:, None] == ids[None, :]
    if kind == "causal":
        sees &= np.tri(len(ids), dtype=bool)
    assert mask.shape == (1, 1, 30, 30)
    name = {None: "float32", np.float32: "float32"}.get(dtype, dtype)
    assert mask.dtype == np.dtype(name)
    np.testing.assert_array_equal(mask[0, 0] == 0, sees)
    assert (mask[0, 0][~sees] < -1e4).all()


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", bool, np.bool_, torch.bool])
def test_a_mask_that_cannot_be_added_is_refused(dtype):
    with fails(ValueError, "PaddingFreeCollator()", "'attention_mask'", "floating"):
        tb.PaddingFreeCollator(attention_mask="causal", dtype={"attention_mask": dtype})


# Packs, where rows are padded


@pytest.mark.parametrize("kind", ["list", "array", "tensor", "ragged", "arrow"])
@pytest.mark.parametrize(
    "name",
    [
        "PadCollator",
        "DataCollatorWithPadding",
        "DataCollatorForSeq2Seq",
        "DataCollatorForTokenClassification",
        "DataCollatorForLanguageModeling",
        "causal",
    ],
)
def test_collators_that_pad_refuse_packs(name, kind):
    columns = {"input_ids": [[1, 2, 3, 4], [5]], "seq_lengths": [[3, 1], [1]]}
    convert = {"array": np.array, "tensor": torch.tensor}.get(kind, list)
    samples = [
        dict(zip(columns, map(convert, pair), strict=True))
        for pair in zip(*columns.values(), strict=True)
    ]
    if kind == "ragged":
        samples = tb.RaggedDataset(columns).__getitems__([0, 1])
    elif kind == "arrow":
        samples = pytest.importorskip("pyarrow").table(columns)
    if name == "PadCollator":
        collate = tb.PadCollator()
    elif name == "causal":
        name = "DataCollatorForLanguageModeling"
        collate = hf.DataCollatorForLanguageModeling(mlm=False, pad_token_id=0)
    else:
        special = {"mask_token_id": 3, "vocab_size": 9, "special_token_ids": [0]}
        options = special if name == "DataCollatorForLanguageModeling" else {}
        collate = getattr(hf, name)(pad_token_id=0, **options)
    with fails(ValueError, f"{name}()", "'seq_lengths'", "packs", "DataCollatorWithFlattening"):
        collate(samples)


@pytest.mark.parametrize("kind", ["list", "tuple", "array", "int32", "tensor", "ragged", "arrow"])
def test_flattening_honours_packs(kind):
    columns = {"input_ids": [[1, 2, 3, 4], [], [5]], "seq_lengths": [[3, 0, 1], [0], [1]]}
    convert = {
        "tuple": tuple,
        "array": lambda row: np.array(row, np.int64),
        "int32": lambda row: np.array(row, np.int32),
        "tensor": lambda row: torch.tensor(row, dtype=torch.int64),
    }.get(kind, list)
    samples = [
        dict(zip(columns, map(convert, pair), strict=True))
        for pair in zip(*columns.values(), strict=True)
    ]
    if kind == "ragged":
        samples = tb.RaggedDataset(
            {k: tb.Ragged.from_sequences(v, dtype="int64") for k, v in columns.items()}
        ).__getitems__([0, 1, 2])
    elif kind == "arrow":
        samples = pytest.importorskip("pyarrow").table(columns)
    collate = hf.DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_seq_idx=True)
    batch = collate(samples)
    assert batch["cu_seq_lens_q"].tolist() == batch["cu_seq_lens_k"].tolist() == [0, 3, 4, 5]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, -100]]
    assert batch["seq_idx"].tolist() == [[0, 0, 0, 1, 2]]
    assert (batch["max_length_q"], batch["use_cache"]) == (3, False)
    assert "seq_lengths" not in batch
    with fails(ValueError, "DataCollatorWithFlattening()", "'seq_lengths'", "row 0"):
        collate([{"input_ids": [1, 2], "seq_lengths": [1]}])


# The tail of a static shape


@pytest.mark.parametrize("naming", ["transformers", "flash_attn", "varlen_attn", "megatron"])
@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 128},
        {"max_tokens": 128, "max_length": 32},
        {"max_tokens": 128, "max_length": 32, "max_segments": 9},
        {"max_tokens": 128, "max_segments": 16, "max_seqlen": 32},
        {"pad_to_multiple_of": 128},
        {"max_tokens": 128, "segment_multiple_of": 4, "max_length": 32},
        {"max_tokens": 128, "shift_labels": True, "max_length": 20},
    ],
    ids=repr,
)
@pytest.mark.parametrize("lengths", [(20,), (30, 3), (5, 0, 9)])
def test_the_tail_has_no_position_that_rows_do_not_have(naming, options, lengths):
    model, rows = make_model("gpt2", n_positions=32), make_rows(lengths)
    batch = tb.PaddingFreeCollator(naming=naming, **options)(samples_of(rows))
    cut = max(min(n, options.get("max_length", n)) for n in lengths)
    each = options.get("segment_multiple_of", 1)
    longest = -(-cut // each) * each
    assert batch["input_ids"].shape == (1, 128)
    allowed = longest if "max_segments" not in options else 32
    assert batch["position_ids"].max() < allowed
    said = next(v for k, v in batch.items() if k.startswith(("max_length", "max_seqlen", "max_q")))
    assert said == options.get("max_seqlen", said) <= allowed
    bounds = next(
        v for k, v in batch.items() if k.startswith("cu_") and not k.endswith("seqlens_q")
    )
    if naming == "megatron":
        bounds = batch["cu_seqlens_q_padded"]
    sizes = bounds.diff()
    assert int(sizes.max()) <= said
    assert bounds[-1] == 128
    begins = (batch["position_ids"][0] == 0).nonzero().flatten()
    assert begins.tolist() == bounds[:-1][sizes > 0].tolist()
    inputs = {k: batch[k] for k in ("input_ids", "position_ids", "labels")}
    assert torch.isfinite(model(**inputs, use_cache=False).loss)


def test_a_tail_that_does_not_fit_is_an_error():
    samples = samples_of(make_rows((20,)))
    tight = tb.PaddingFreeCollator(max_tokens=128, max_length=32, max_segments=4)
    with fails(ValueError, "PaddingFreeCollator()", "5 segments", "the padded tail", "32"):
        tight(samples)
    batch = tb.PaddingFreeCollator(max_tokens=128, max_length=32, max_segments=5)(samples)
    assert batch["cu_seq_lens_q"].tolist() == [0, 20, 47, 74, 101, 128]
    assert batch["max_length_q"] == 27


def test_a_tail_without_a_limit_is_never_longer_than_the_rows():
    samples = [{"input_ids": [1] * 20}]
    with fails(ValueError, "7 segments", "max_segments=2", "max_segments=7 or more", "max_length="):
        tb.PaddingFreeCollator(max_tokens=128, max_segments=2)(samples)
    batch = tb.PaddingFreeCollator(max_tokens=128, max_segments=7)(samples)
    assert batch["max_length_q"] == 20
    assert batch["position_ids"].max() == 19
    assert not tb.check_batch(batch).findings
    batch = tb.PaddingFreeCollator(max_tokens=128, max_segments=2, max_seqlen=108)(samples)
    assert batch["position_ids"].max() == 107


def test_for_model_knows_the_positions_of_the_model():
    model = make_model("gpt2", "eager")
    most = model.config.max_position_embeddings
    rows = [{"input_ids": [3] * 5}, {"input_ids": [4]}]
    sizes = {"max_tokens": 4 * most, "max_segments": 8}
    collate = tb.PaddingFreeCollator.for_model(model, **sizes)
    assert collate.max_seqlen == most
    batch = collate(rows)
    assert batch["position_ids"].max() < most
    assert model(**batch).logits.shape[1] == 4 * most
    with fails(ValueError, f"max_seqlen={most}"):
        collate([{"input_ids": [3] * (most + 1)}])
    assert tb.PaddingFreeCollator.for_model(model, **sizes, max_length=7).max_seqlen is None
    assert tb.PaddingFreeCollator.for_model(model).max_seqlen is None


@pytest.mark.parametrize("naming", ["transformers", "flash_attn", "varlen_attn"])
def test_every_naming_keeps_rows_apart_in_a_plain_call(naming):
    rows, model = make_rows(), make_model("llama", "sdpa")
    batch = tb.PaddingFreeCollator(naming=naming)(samples_of(rows))
    assert_rows_are_apart(model, rows, batch, starts_of(rows))


PARTS = ["{}_a", "query_{}", "chosen_{}", "{}_chosen", "decoder_{}", "{}_2"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside input_ids"])
@pytest.mark.parametrize("stem", ["attention_mask", "labels", "padding_mask"])
def test_masks_and_labels_of_other_names_are_refused(part, alone, stem):
    """A mask of ones [1, total], or labels whose rows' first ones count, would join the rows."""
    tokens = "input_ids"
    samples = [
        {(part.format(tokens) if alone else tokens): row, part.format(stem): [1] * len(row)}
        for row in ([5, 6, 7], [8, 9])
    ]
    with fails(ValueError, "PaddingFreeCollator()", repr(part.format(stem)), "one part"):
        tb.PaddingFreeCollator()(samples)


LENGTHS = ["seq_lens", "seqlens", "pack_lengths", "segment_lengths", "sequence_lengths"]
LENGTHS += ["query_seq_lengths", "doc_lens"]
JOINED = {"position_ids": [0, 1, 2, 0], "seq_idx": [0, 0, 0, 1], "document_ids": [5, 5, 5, 2]}
JOINED |= {key: [3, 1] for key in LENGTHS}


@pytest.mark.parametrize("key", JOINED)
@pytest.mark.parametrize("name", ["PadCollator", "padded", "trl", "flat", "trl_flat", "free"])
def test_packs_of_other_names_are_refused(key, name):
    trl = hf_trl.DataCollatorForLanguageModeling
    collate = {
        "PadCollator": tb.PadCollator(),
        "padded": hf.DataCollatorForSeq2Seq(pad_token_id=0),
        "trl": trl(0),
        "flat": hf.DataCollatorWithFlattening(),
        "trl_flat": trl(0, padding_free=True),
        "free": tb.PaddingFreeCollator(),
    }[name]
    if name == "free" and key == "document_ids":
        pytest.skip("a column of tokens like another")
    samples = [{"input_ids": [7], key: JOINED[key][:1]}, {"input_ids": [1] * 4, key: JOINED[key]}]
    if key in LENGTHS:
        samples[0][key] = [1]
    with fails(ValueError, f"{type(collate).__name__}()", repr(key)):
        collate(samples)


@pytest.mark.parametrize(
    "columns",
    [
        {"position_ids": [0, 1, 2, 3]},
        {"position_ids": [0, 0, 0, 0]},
        {"position_ids": [3, 2, 1, 0]},
        {"position_ids": [1, 1, 0, 1], "attention_mask": [0, 0, 1, 1]},
        {"position_ids": [0, 1, 0, 0], "attention_mask": [1, 1, 0, 0]},
        {"position_ids": [[0, 1, 2, 0]] * 3},
        {"seq_idx": [1, 1, 1, 1]},
        {"seq_lengths": 4},
    ],
)
def test_what_says_of_no_pack_is_padded(columns):
    batch = tb.PadCollator()([{"input_ids": [1] * 4, **columns}])
    assert set(columns) < set(batch)


def test_packs_that_are_kept_or_renamed_are_refused():
    sample = {"input_ids": [1] * 4, "seq_lengths": [3, 1], "parts": [3, 1]}
    with fails(ValueError, "PadCollator()", "'seq_lengths'"):
        tb.PadCollator(keep="seq_lengths")([sample])
    del sample["seq_lengths"]
    with fails(ValueError, "PadCollator()", "'parts'"):
        tb.PadCollator(rename={"parts": "seq_lengths"})([sample])


@pytest.mark.parametrize("key", ["labels", "label", "label_ids"])
@pytest.mark.parametrize(
    "options", [{"max_tokens": 16}, {"pad_to_multiple_of": 8}, {"max_segments": 3}]
)
def test_a_tail_has_no_label_of_floats_unless_one_is_named(key, options):
    samples = [{"input_ids": [1] * 5, key: 0.5}]
    own = {"return_labels": False, "return_tensors": "np"}
    with fails(ValueError, "PaddingFreeCollator()", repr(key), "float32", "padding_value"):
        tb.PaddingFreeCollator(**own, **options)(samples)
    batch = tb.PaddingFreeCollator(**own, **options, padding_value={key: 0.0})(samples)
    assert batch[key][0] == 0.5
    assert not batch[key][1:].any()
    assert tb.PaddingFreeCollator(**own)(samples)[key].tolist() == [0.5]
    whole = tb.PaddingFreeCollator(**own, **options)([{"input_ids": [1] * 5, key: 2}])
    assert (whole[key][1:] == -100).all()


def test_shapes_are_constant_for_every_batch_of_a_plan():
    rng = np.random.default_rng(0)
    rows = [rng.integers(3, 50, n) for n in rng.integers(1, 30, 200)]
    sampler = tb.LengthBatchSampler(list(map(len, rows)), max_tokens=64, padding_free=True, seed=0)
    collate = tb.PaddingFreeCollator(max_tokens=64, max_segments=64, max_length=32, max_seqlen=32)
    shapes = {
        tuple((k, tuple(v.shape) if isinstance(v, torch.Tensor) else v) for k, v in batch.items())
        for batch in (collate(samples_of([rows[i] for i in chosen])) for chosen in sampler)
    }
    assert len(shapes) == 1


def test_padding_the_rows_gives_the_same_loss():
    rows = make_rows()
    model = make_model("llama", training=True)
    free = tb.PaddingFreeCollator(return_num_items=True, max_tokens=64)(samples_of(rows))
    labelled = [{"input_ids": row, "labels": row} for row in rows]
    padded = tb.PadCollator()(labelled)
    padded["num_items_in_batch"] = free["num_items_in_batch"]
    torch.testing.assert_close(model(**free).loss, model(**padded).loss, **CLOSE)


class Tagged:
    """Module-level, so that a spawned worker can import it."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        ids = list(range(1, 3 + i))
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "label": i}


def test_workers_send_masks_and_labels_of_rows():
    collate = tb.PaddingFreeCollator(
        attention_mask="bidirectional", return_labels=False, max_tokens=24, max_segments=8
    )
    loader = torch.utils.data.DataLoader(
        Tagged(), 3, collate_fn=collate, num_workers=1, timeout=WORKER_LIMIT
    )
    data = Tagged()
    for k, batch in enumerate(loader):
        wanted = collate([data[i] for i in range(3 * k, 3 * k + 3)])
        assert list(batch) == list(wanted)
        for key, value in wanted.items():
            torch.testing.assert_close(batch[key], value)
