"""tightbatch.huggingface against transformers' collators, as installed, over generated features."""

import copy
from collections import UserDict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tightbatch as tb
import tightbatch.huggingface as ours
from comparing_huggingface import assert_same_batch, both, make_tokenizer

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("transformers")

TOKENIZERS = {side: make_tokenizer(padding_side=side) for side in ("right", "left")}
COMMON = settings(
    max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)

KINDS = {
    "list": list,
    "tuple": tuple,
    "int64": lambda row: np.array(row, np.int64),
    "int32": lambda row: np.array(row, np.int32),
    "uint8": lambda row: np.array(row, np.uint8),
    "tensor": lambda row: torch.tensor(row, dtype=torch.int64),
    "tensor32": lambda row: torch.tensor(row, dtype=torch.int32),
}


@st.composite
def feature_lists(draw, labels=("none",), least=1):
    """Features of 1 to 6 rows; every row has the same keys, as both sides require."""
    lengths = draw(st.lists(st.integers(least, 9), min_size=1, max_size=6))
    kind = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    optional = draw(st.sets(st.sampled_from(["attention_mask", "token_type_ids", "special"])))
    label = draw(st.sampled_from(labels))
    features = []
    for i, n in enumerate(lengths):
        feature = {"input_ids": kind([(7 * i + j) % 90 + 5 for j in range(n)])}
        if "token_type_ids" in optional:
            feature["token_type_ids"] = kind([j % 2 for j in range(n)])
        if "attention_mask" in optional:
            feature["attention_mask"] = kind([int(j != 1) for j in range(n)])
        if "special" in optional:
            feature["special_tokens_mask"] = kind([int(j == 0) for j in range(n)])
        if label == "int":
            feature["label"] = i
        elif label == "float":
            feature["label"] = i + 0.5
        elif label == "bool":
            feature["label"] = i % 2 == 0
        elif label == "ids":
            feature["label_ids"] = i
        elif label == "tokens":
            feature["labels"] = kind([(i + j) % 5 for j in range(n)])
        elif label == "label tokens":
            feature["label"] = kind([(i + j) % 5 for j in range(n)])
        elif label == "other":
            feature["labels"] = kind([i + j for j in range(i % 4 + 1)])
        elif label == "several":
            feature["labels"] = [0.5, 1.0, float(i)]
        if draw(st.booleans()) and i == 0 and len(lengths) == 1:
            feature = UserDict(feature)
        features.append(feature)
    if draw(st.booleans()):
        for i, feature in enumerate(features):
            feature["bbox"] = [[i, 1], [2, 3]]
    return features


PADDINGS = st.sampled_from(
    [True, False, "longest", "max_length", "do_not_pad", theirs.utils.PaddingStrategy.MAX_LENGTH]
)
OPTIONS = {
    "padding": PADDINGS,
    "max_length": st.sampled_from([None, 9, 12, 16]),
    "pad_to_multiple_of": st.sampled_from([None, 1, 4, 8]),
    "return_tensors": st.sampled_from(["pt", "np"]),
}


def compare(name, features, **options):
    """The same batch from both; or, where transformers refuses, an error from ours too."""
    mine, expected = both(name, features, **options)
    if isinstance(expected, Exception):
        assert isinstance(mine, Exception), (expected, mine)
    elif any(getattr(value, "dtype", None) == np.dtype(object) for value in expected.values()):
        # Rows of several lengths and no padding: an array of objects there, an error here.
        assert "padding is off" in str(mine)
    else:
        if isinstance(mine, Exception):
            raise mine
        assert_same_batch(mine, expected)


@COMMON
@given(
    feature_lists(labels=("none", "int", "float", "bool", "ids", "several")),
    st.sampled_from(["right", "left"]),
    st.fixed_dictionaries(OPTIONS),
)
def test_padding(features, side, options):
    compare("DataCollatorWithPadding", features, tokenizer=TOKENIZERS[side], **options)


@COMMON
@given(
    feature_lists(labels=("none", "tokens", "label tokens")),
    st.sampled_from(["right", "left"]),
    st.sampled_from([-100, 0, 7]),
    st.fixed_dictionaries(OPTIONS),
)
def test_token_classification(features, side, fill, options):
    options["label_pad_token_id"] = fill
    compare("DataCollatorForTokenClassification", features, tokenizer=TOKENIZERS[side], **options)


@COMMON
@given(
    feature_lists(labels=("none", "other", "tokens")),
    st.sampled_from(["right", "left"]),
    st.fixed_dictionaries(OPTIONS),
)
def test_seq2seq(features, side, options):
    compare("DataCollatorForSeq2Seq", features, tokenizer=TOKENIZERS[side], **options)


@COMMON
@given(
    feature_lists(),
    st.sampled_from(["right", "left"]),
    st.sampled_from([None, 1, 4, 8]),
    st.sampled_from(["pt", "np"]),
)
def test_causal_language_modelling(features, side, multiple, tensors):
    options = {"mlm": False, "pad_to_multiple_of": multiple, "return_tensors": tensors}
    features = [{k: v for k, v in f.items() if k != "bbox"} for f in features]
    expected = both(
        "DataCollatorForLanguageModeling", features, tokenizer=TOKENIZERS[side], **options
    )[1]
    if "attention_mask" in features[0] and not isinstance(expected, Exception):
        # Where the given mask hides a token, ours leaves it out of the labels too.
        expected["labels"][expected["attention_mask"] == 0] = -100
    mine = ours.DataCollatorForLanguageModeling(TOKENIZERS[side], **options)(features)
    assert_same_batch(mine, expected)


@COMMON
@given(
    st.lists(st.lists(st.integers(5, 90), min_size=1, max_size=7), min_size=1, max_size=5),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(["right", "left"]),
    st.sampled_from([None, 4]),
)
def test_causal_language_modelling_of_bare_rows(rows, kind, side, multiple):
    rows = [KINDS[kind](row) for row in rows]
    options = {"tokenizer": TOKENIZERS[side], "mlm": False, "pad_to_multiple_of": multiple}
    assert_same_batch(*both("DataCollatorForLanguageModeling", rows, **options))


@COMMON
@given(
    feature_lists(labels=("none", "tokens")),
    st.fixed_dictionaries(
        {
            "return_position_ids": st.booleans(),
            "separator_id": st.sampled_from([-100, 3]),
            "return_flash_attn_kwargs": st.booleans(),
            "return_seq_idx": st.booleans(),
            "position_ids_start": st.sampled_from([0, 2]),
            "return_tensors": st.sampled_from(["pt", "np"]),
        }
    ),
)
def test_flattening(features, options):
    compare("DataCollatorWithFlattening", features, **options)


def test_flattening_takes_a_separator_with_the_call():
    features = [{"input_ids": [5, 6]}, {"input_ids": [7]}]
    for side in (ours, theirs):
        batch = side.DataCollatorWithFlattening()(features, return_tensors="np", separator_id=9)
        assert batch["labels"].tolist() == [[9, 6, 9]]


@pytest.mark.parametrize("pack", [("position_ids", [0, 1, 0, 1]), ("seq_idx", [0, 0, 1, 1])])
def test_packs_are_not_joined_with_others_as_rows(pack):
    key, values = pack
    features = [{"input_ids": [5, 6, 7, 8], key: values}, {"input_ids": [9], key: [0]}]
    with pytest.raises(ValueError, match=f"{key}', row 0: .*, so it is a pack"):
        ours.DataCollatorWithFlattening(return_tensors="np")(features)
    lengths = [{**features[0], "seq_lengths": [2, 2]}, {**features[1], "seq_lengths": [1]}]
    batch = ours.DataCollatorWithFlattening(return_tensors="np")(lengths)
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 0]]


@pytest.mark.parametrize("name", ["DataCollatorForTokenClassification", "DataCollatorForSeq2Seq"])
def test_return_tensors_of_the_call_wins(name):
    features = [{"input_ids": [5, 6], "labels": [1, 2]}, {"input_ids": [7], "labels": [3]}]
    made = [
        getattr(side, name)(TOKENIZERS["right"])(features, return_tensors="np")
        for side in (ours, theirs)
    ]
    assert isinstance(made[0]["labels"], np.ndarray)
    assert_same_batch(*made)


def test_seq2seq_asks_the_model_for_decoder_inputs():
    config = theirs.T5Config(
        vocab_size=100, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = theirs.T5ForConditionalGeneration(config)
    features = [{"input_ids": [5, 6], "labels": [11, 12, 13]}, {"input_ids": [7], "labels": [14]}]
    options = {"tokenizer": TOKENIZERS["right"], "model": model}
    mine, expected = both("DataCollatorForSeq2Seq", features, **options)
    assert_same_batch(mine, expected)
    assert mine["decoder_input_ids"].tolist() == [[0, 11, 12], [0, 14, 0]]
    assert model(**mine).loss > 0


@pytest.mark.parametrize("labels", [[None, None], None])
def test_seq2seq_without_labels_says_none(labels):
    features = [{"input_ids": [5, 6]}, {"input_ids": [7]}]
    for i, feature in enumerate(features):
        if labels is not None:
            feature["labels"] = labels[i]
    mine, expected = both("DataCollatorForSeq2Seq", features, tokenizer=TOKENIZERS["right"])
    assert list(mine) == list(expected)
    assert mine["labels"] is None


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_masks_of_more_dimensions_are_stacked(kind, tensors):
    masks = [kind(np.tri(3, dtype=np.int64)[None]) for _ in range(2)]
    features = [
        {"input_ids": [5, 6, 7], "attention_mask": masks[0]},
        {"input_ids": [8], "attention_mask": masks[1]},
    ]
    collate = ours.DataCollatorWithPadding(TOKENIZERS["right"], return_tensors=tensors)
    batch = collate(features)
    assert batch["attention_mask"].tolist() == [np.tri(3).tolist()] * 2 or batch[
        "attention_mask"
    ].shape == (2, 1, 3, 3)
    expected = theirs.DataCollatorWithPadding(TOKENIZERS["right"], return_tensors=tensors)(
        copy.deepcopy(features)
    )
    assert_same_batch(batch, expected)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_pad_token_id_stands_for_a_tokenizer(side):
    tokenizer = TOKENIZERS[side]
    features = [
        {"input_ids": [5, 6, 7], "labels": [1, 2, 3]},
        {"input_ids": [8], "labels": [4]},
    ]
    plain = {"pad_token_id": tokenizer.pad_token_id, "padding_side": side}
    for name in ("DataCollatorForTokenClassification", "DataCollatorForSeq2Seq"):
        cls = getattr(ours, name)
        assert_same_batch(cls(**plain)(features), cls(tokenizer)(features))
    rows = [{"input_ids": f["input_ids"]} for f in features]
    for name, more in (
        ("DataCollatorWithPadding", {}),
        ("DataCollatorForLanguageModeling", {"mlm": False}),
    ):
        cls = getattr(ours, name)
        assert_same_batch(cls(**plain, **more)(rows), cls(tokenizer, **more)(rows))


def test_a_tokenizer_may_change_between_calls():
    tokenizer = make_tokenizer()
    collate = ours.DataCollatorWithPadding(tokenizer)
    features = [{"input_ids": [5, 6]}, {"input_ids": [7]}]
    assert collate(features)["input_ids"].tolist() == [[5, 6], [7, 0]]
    tokenizer.padding_side, tokenizer.pad_token = "left", "[UNK]"
    assert collate(features)["input_ids"].tolist() == [[5, 6], [tokenizer.unk_token_id, 7]]


def test_columns_and_tables_give_what_lists_give():
    import pyarrow as pa

    columns = {
        "input_ids": [[5, 6, 7], [8], [9, 9]],
        "attention_mask": [[1, 1, 1], [1], [1, 0]],
        "label": [0, 1, 2],
    }
    features = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    collate = ours.DataCollatorWithPadding(TOKENIZERS["left"])
    expected = theirs.DataCollatorWithPadding(TOKENIZERS["left"])(features)
    small = {"input_ids": pa.list_(pa.int32()), "attention_mask": pa.list_(pa.int8())}
    schema = pa.schema([*small.items(), ("label", pa.int16())])
    table = pa.table(columns, schema=schema)
    for source in (tb.RaggedDataset(columns), tb.RaggedDataset.from_arrow(table)):
        assert_same_batch(collate(source.__getitems__([0, 1, 2])), expected)
        assert_same_batch(collate([source[i] for i in range(3)]), expected)
    assert_same_batch(collate(table), expected)


def test_what_it_returns_is_a_batch_encoding():
    batch = ours.DataCollatorWithPadding(TOKENIZERS["right"])([{"input_ids": [5]}])
    assert type(batch) is theirs.BatchEncoding
    assert batch.to("cpu") is batch
    assert batch.input_ids.tolist() == [[5]]


REFUSALS = (ValueError, TypeError, OverflowError)
WRAPPERS = {"dict": dict, "UserDict": UserDict, "BatchEncoding": theirs.BatchEncoding}
WIDE = {key: kind for key, kind in KINDS.items() if key != "tuple"} | {
    "int16": lambda row: np.array(row, np.int16)
}


@st.composite
def wide_features(draw, labels=("none",)):
    """1 to 9 features, empty rows among them, of any mapping, with other columns and masks."""
    size = draw(st.integers(1, 9))
    lengths = draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    if draw(st.booleans()):
        lengths = [lengths[0]] * size
    name = draw(st.sampled_from(sorted(WIDE)))
    kind, wrap = WIDE[name], WRAPPERS[draw(st.sampled_from(sorted(WRAPPERS)))]
    mask = draw(st.sampled_from(["none", "row", "2-D", "4-D"]))
    optional = draw(st.sets(st.sampled_from(["token_type_ids", "special_tokens_mask", "pair"])))
    label = draw(st.sampled_from(labels))
    backwards = draw(st.booleans())
    features = []
    for i, n in enumerate(lengths):
        feature = {"input_ids": kind([(7 * i + j) % 95 + 5 for j in range(n)])}
        for key in sorted(optional - {"pair"}):
            feature[key] = kind([(i + j) % 2 for j in range(n)])
        if "pair" in optional:
            feature["pair"] = kind([i, 1])
        if mask == "row":
            feature["attention_mask"] = kind([int(j != 1) for j in range(n)])
        elif mask != "none":
            shape = (3, 3) if mask == "2-D" else (1, 3, 3)
            square = np.tri(3, dtype=np.int64).reshape(shape) + i
            feature["attention_mask"] = torch.tensor(square) if "tensor" in name else square
        if label == "number":
            feature["label"] = i
        elif label == "label_ids row":
            feature["label_ids"] = kind([i, 2, 3])
        elif label in ("label", "labels"):
            feature[label] = kind([(i + j) % 5 for j in range(n)])
        elif label == "other":
            feature["labels"] = kind([i + j for j in range(i % 4)])
        if backwards and i:
            feature = dict(reversed(feature.items()))
        features.append(wrap(feature))
    return features


def both_called(name, features, tensors, **options):
    """As both(), with return_tensors given to the call."""
    before, answers = repr(features), []
    for side in (ours, theirs):
        try:
            given = features if side is ours else copy.deepcopy(features)
            answers.append(getattr(side, name)(**options)(given, return_tensors=tensors))
        except Exception as error:
            answers.append(error)
    assert repr(features) == before
    return answers


def compare_wide(features, mine, expected, padding=True):
    """Equal batches; a refusal where transformers refuses, and where padding is off but needed."""
    rows = [key for key in ("input_ids", "labels") if key in features[0]]
    ragged = any(len({len(feature[key]) for feature in features}) > 1 for key in rows)
    if padding in (False, "do_not_pad") and ragged:
        assert type(mine) is ValueError  # there an error, objects, or all tokens lost
        assert "padding is off" in str(mine)
    elif isinstance(expected, Exception):
        assert isinstance(mine, REFUSALS), (expected, mine)
    else:
        assert_same_batch(mine, expected)


@COMMON
@given(
    wide_features(labels=("none", "number", "label_ids row")),
    st.sampled_from(["right", "left"]),
    st.fixed_dictionaries(OPTIONS),
)
def test_padding_of_any_mapping(features, side, options):
    answers = both("DataCollatorWithPadding", features, tokenizer=TOKENIZERS[side], **options)
    compare_wide(features, *answers, options["padding"])


@COMMON
@given(
    st.data(),
    st.sampled_from(["DataCollatorForTokenClassification", "DataCollatorForSeq2Seq"]),
    st.sampled_from(["right", "left"]),
    st.sampled_from([None, "pt", "np"]),
    st.fixed_dictionaries(OPTIONS),
)
def test_labels_of_any_mapping(data, name, side, call, options):
    labels = ("none", "labels", "other" if name.endswith("Seq2Seq") else "label")
    features = data.draw(wide_features(labels=labels))
    if options["padding"] in (False, "do_not_pad"):
        options["pad_to_multiple_of"] = None  # has a test of its own
    options["label_pad_token_id"] = data.draw(st.sampled_from([-100, 7]))
    answers = both_called(name, features, call, tokenizer=TOKENIZERS[side], **options)
    compare_wide(features, *answers, options["padding"])


@pytest.fixture(scope="module", params=["T5", "Bart"])
def model(request):
    if request.param == "T5":
        config = theirs.T5Config(
            vocab_size=100, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2,
            decoder_start_token_id=0,
        )  # fmt: skip
        return theirs.T5ForConditionalGeneration(config)
    config = theirs.BartConfig(
        vocab_size=100, d_model=8, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8,
        decoder_ffn_dim=8, encoder_attention_heads=2, decoder_attention_heads=2,
        max_position_embeddings=32, pad_token_id=0, decoder_start_token_id=2,
    )  # fmt: skip
    return theirs.BartForConditionalGeneration(config)


@settings(COMMON, max_examples=60)
@given(
    wide_features(labels=("none", "labels", "other")),
    st.sampled_from(["right", "left"]),
    st.sampled_from([True, "longest", "max_length"]),
    st.sampled_from([None, 4]),
)
def test_seq2seq_with_a_model(model, features, side, padding, multiple):
    options = {"tokenizer": TOKENIZERS[side], "model": model, "padding": padding}
    mine, expected = both(
        "DataCollatorForSeq2Seq", features, pad_to_multiple_of=multiple, **options
    )
    if isinstance(expected, IndexError):  # the model's own, of labels without a token
        assert not any(len(feature["labels"]) for feature in features)
        assert (type(mine), str(mine)) == (type(expected), str(expected))
    else:
        compare_wide(features, mine, expected)
        assert ("decoder_input_ids" in mine) == ("labels" in features[0])
