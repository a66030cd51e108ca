"""Feature extractors and processors where transformers' collators take them."""

import copy
import functools
import pickle
import warnings

import numpy as np
import pytest

import tightbatch as tb
import tightbatch.huggingface as hf
from checks import WORKER_LIMIT, fails
from comparing_huggingface import assert_same_batch, make_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

EXTRACTORS = {
    "Wav2Vec2FeatureExtractor": 0,  # features of a position; 0: a number
    "WhisperFeatureExtractor": 4,
    "SpeechT5FeatureExtractor": 0,
    "ASTFeatureExtractor": 0,
    "SeamlessM4TFeatureExtractor": 4,
    "Speech2TextFeatureExtractor": 4,
    "EncodecFeatureExtractor": 0,
    "ParakeetFeatureExtractor": 4,
}
KINDS = {
    "lists": lambda row: row.tolist(),
    "float32": lambda row: row.astype(np.float32),
    "float64": lambda row: row,
    "float16": lambda row: row.astype(np.float16),
    "tensors": torch.from_numpy,
    "ints": lambda row: (row * 100).astype(np.int64),
    "lists of ints": lambda row: (row * 100).astype(np.int64).tolist(),
}


@functools.cache
def made_once(name):
    """Its filters take long to make."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # AST's default filters
        return getattr(transformers, name)()


def make_extractor(name, **given):
    extractor = copy.copy(made_once(name))
    for key, value in given.items():
        setattr(extractor, key, value)
    return extractor


def make_features(extractor, size, make, labels="label", mask=None, seed=0, lengths=None):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, 4) if lengths is None else lengths
    features = []
    for n in lengths:
        shape = (n, size) if size else (n,)
        row = {extractor.model_input_names[0]: make(rng.normal(size=shape))}
        if mask is not None:
            row["attention_mask"] = mask([1] * n)
        if labels == "label":
            row["label"] = int(rng.integers(5))
        elif labels:
            row[labels] = rng.normal() if labels == "score" else [int(rng.integers(5))] * 3
        features.append(row)
    return features


def both(name, features, tokenizer, **options):
    """Our batch and transformers', or the error of either; features stay as they are."""
    answers, before = [], pickle.dumps(features)
    for side in (hf, transformers):
        try:
            given = features if side is hf else copy.deepcopy(features)
            answers.append(getattr(side, name)(tokenizer, **options)(given))
        except Exception as error:
            answers.append(error)
    assert pickle.dumps(features) == before
    return answers


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EXTRACTORS)
def test_extractors_pad_as_in_transformers(name, kind, tensors):
    size = EXTRACTORS[name]
    for given in (
        {},
        {"return_attention_mask": True},
        {"return_attention_mask": False},
        {"padding_side": "left", "padding_value": 2.0},
        {"padding_side": "left", "return_attention_mask": True, "feature_size": size or 1},
    ):
        extractor = make_extractor(name, **given)
        if size:
            extractor.feature_size = size
        for seed, options in enumerate(
            (
                {},
                {"pad_to_multiple_of": 8},
                {"padding": "max_length", "max_length": 11},
                {"padding": "max_length", "max_length": 11, "pad_to_multiple_of": 4},
                {"padding": "longest", "max_length": 3},
            )
        ):
            for labels in ("label", "label_ids", "score", None):
                features = make_features(extractor, size, KINDS[kind], labels, seed=seed)
                options = {**options, "return_tensors": tensors}
                answers = both("DataCollatorWithPadding", features, extractor, **options)
                assert_same_batch(*answers)


@pytest.mark.parametrize("mask", [list, np.array, torch.tensor, lambda row: np.array(row, bool)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_mask_of_the_features_is_padded(side, mask):
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True, padding_side=side)
    features = make_features(extractor, 0, KINDS["float32"], mask=mask)
    for options in ({}, {"pad_to_multiple_of": 8}):
        assert_same_batch(*both("DataCollatorWithPadding", features, extractor, **options))
    # Where the extractor makes none, transformers does not pad one.
    extractor.return_attention_mask = False
    mine, theirs = both("DataCollatorWithPadding", features, extractor)
    assert isinstance(theirs, ValueError)
    assert mine["attention_mask"].sum().item() == sum(
        len(row["attention_mask"]) for row in features
    )


@pytest.mark.parametrize("padding", [False, "do_not_pad"])
def test_without_padding(padding):
    extractor = make_extractor("SpeechT5FeatureExtractor")
    features = make_features(extractor, 0, KINDS["float32"], lengths=[4, 4])
    assert_same_batch(*both("DataCollatorWithPadding", features, extractor, padding=padding))
    features = make_features(extractor, 0, KINDS["float32"], lengths=[4, 3])
    mine, theirs = both("DataCollatorWithPadding", features, extractor, padding=padding)
    assert isinstance(mine, ValueError)
    assert isinstance(theirs, ValueError)
    assert "row 1" in str(mine)


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["Wav2Vec2FeatureExtractor", "WhisperFeatureExtractor"])
def test_sequence_to_sequence(name, side, tensors):
    extractor = make_extractor(name, padding_side=side)
    for options in ({}, {"pad_to_multiple_of": 4}, {"padding": "max_length", "max_length": 10}):
        features = make_features(extractor, EXTRACTORS[name], KINDS["float32"], None)
        for row, n in zip(features, (3, 1, 2, 5), strict=True):
            row["labels"] = list(range(1, n + 1))
        options = {**options, "return_tensors": tensors}
        assert_same_batch(*both("DataCollatorForSeq2Seq", features, extractor, **options))
        for row in features:
            del row["labels"]
        assert_same_batch(*both("DataCollatorForSeq2Seq", features, extractor, **options))


def test_what_extractors_themselves_make():
    """Whisper's are [80, T], always padded to 30 seconds: they are stacked."""
    rng = np.random.default_rng(0)
    sound = [rng.normal(size=n).astype(np.float32) for n in (4000, 7000)]
    for name in ("WhisperFeatureExtractor", "Wav2Vec2FeatureExtractor", "ASTFeatureExtractor"):
        extractor = make_extractor(name)
        features = []
        for row in sound:
            made = extractor(row, sampling_rate=16000)
            features.append({key: value[0] for key, value in made.items()})
        assert_same_batch(*both("DataCollatorWithPadding", features, extractor))


def test_time_last_that_varies_is_named():
    extractor = make_extractor("WhisperFeatureExtractor")
    features = [{"input_features": np.zeros((80, n), np.float32)} for n in (30, 20)]
    mine, theirs = both("DataCollatorWithPadding", features, extractor)
    assert isinstance(theirs, ValueError)
    assert isinstance(mine, ValueError)
    assert "row 1" in str(mine)
    assert "input_features" in str(mine)


def test_labels_of_other_lengths_have_a_width_of_their_own():
    extractor = transformers.Wav2Vec2FeatureExtractor()
    features = [
        {"input_values": np.ones(9, np.float32), "labels": [1, 2]},
        {"input_values": np.ones(7, np.float32), "labels": [3]},
    ]
    mine, theirs = both("DataCollatorWithPadding", features, extractor)
    assert isinstance(theirs, ValueError)
    assert mine["labels"].tolist() == [[1, 2], [3, -100]]


def processors():
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    tokenizer = make_tokenizer()
    yield transformers.Wav2Vec2Processor(extractor, tokenizer), extractor, 0, True
    extractor = make_extractor("SeamlessM4TFeatureExtractor")
    yield transformers.Wav2Vec2BertProcessor(extractor, tokenizer), extractor, 4, True
    extractor = make_extractor("WhisperFeatureExtractor")
    processor = transformers.WhisperProcessor.__new__(transformers.WhisperProcessor)
    processor.feature_extractor, processor.tokenizer = extractor, tokenizer
    yield processor, extractor, 4, False


def test_processors():
    for processor, extractor, size, works in processors():
        features = make_features(extractor, size, KINDS["float32"])
        mine, theirs = both("DataCollatorWithPadding", features, processor)
        if not works:  # a processor without pad()
            assert isinstance(theirs, AttributeError)
            theirs = transformers.DataCollatorWithPadding(extractor)(copy.deepcopy(features))
        assert_same_batch(mine, theirs)
        with fails(ValueError, "DataCollatorWithPadding()", extractor.model_input_names[0]):
            hf.DataCollatorWithPadding(processor)([{"input_ids": [1]}])


def test_what_does_not_pad_is_refused():
    class Images:
        tokenizer = make_tokenizer()

    for name in ("DataCollatorWithPadding", "DataCollatorForSeq2Seq"):
        with fails(TypeError, f"{name}()", "Images", "processor.tokenizer"):
            getattr(hf, name)(Images())

    class Own(transformers.Wav2Vec2FeatureExtractor):
        def pad(self, features, **options):
            raise AssertionError

    with fails(TypeError, "DataCollatorWithPadding()", "Own"):
        hf.DataCollatorWithPadding(Own())
    extractor = transformers.Wav2Vec2FeatureExtractor()
    with fails(TypeError, "DataCollatorForLanguageModeling()", "Wav2Vec2FeatureExtractor"):
        hf.DataCollatorForLanguageModeling(extractor, mlm=False)
    with fails(ValueError, "DataCollatorWithPadding()", "max_length="):
        collate = hf.DataCollatorWithPadding(extractor, padding="max_length")
        collate([{"input_values": [0.5]}])
    extractor.padding_value = None
    for collate in (hf.DataCollatorWithPadding(extractor), tb.PadCollator.from_tokenizer):
        with fails(ValueError, "padding_value"):
            collate(
                extractor if collate == tb.PadCollator.from_tokenizer else [{"input_values": [1.0]}]
            )


@pytest.mark.forks
def test_from_workers():
    extractor = make_extractor("SpeechT5FeatureExtractor")
    features = make_features(extractor, 0, KINDS["float32"])
    collate = hf.DataCollatorWithPadding(extractor)
    loader = torch.utils.data.DataLoader(
        features,
        4,
        collate_fn=collate,
        num_workers=1,
        multiprocessing_context="fork",
        timeout=WORKER_LIMIT,
    )
    assert_same_batch(next(iter(loader)), collate(features))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", ["lists", "float32", "tensors", "ints"])
@pytest.mark.parametrize("name", ["Wav2Vec2FeatureExtractor", "SeamlessM4TFeatureExtractor"])
def test_from_tokenizer(name, kind, masked, side):
    extractor = make_extractor(
        name, padding_side=side, padding_value=0.0, return_attention_mask=masked
    )
    collate = tb.PadCollator.from_tokenizer(extractor)
    features = make_features(extractor, EXTRACTORS[name], KINDS[kind])
    expected = transformers.DataCollatorWithPadding(extractor)(copy.deepcopy(features))
    batch = collate(features)
    assert set(batch) == set(expected)
    for key, value in expected.items():
        assert torch.equal(batch[key].to(value.dtype), value), key
    extractor.padding_value = -2.5
    if kind != "ints":
        expected = transformers.DataCollatorWithPadding(extractor)(copy.deepcopy(features))
        found = tb.PadCollator.from_tokenizer(extractor)(features)
        main = extractor.model_input_names[0]
        assert torch.equal(found[main].float(), expected[main].float())
