"""Both sides of a data collator: tightbatch's and transformers'."""

import copy
from collections import UserDict

import numpy as np


def make_tokenizer(**options):
    """A word-level tokenizer of 100 words, with every special token."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    special = {
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
    }
    words = {word: i for i, word in enumerate([*special.values(), *(f"w{i}" for i in range(95))])}
    model = models.WordLevel(words, unk_token="[UNK]")
    settings = {"model_max_length": 12, **special, **options}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **settings)


def without_tuples(value):
    """A deep copy with lists for tuples, which transformers cannot add padding to."""
    if isinstance(value, (list, tuple)):
        return [without_tuples(item) for item in value]
    if isinstance(value, (dict, UserDict)):
        return type(value)({key: without_tuples(item) for key, item in value.items()})
    return copy.deepcopy(value)


def both(name, features, **options):
    """(ours, theirs): each a batch, or the exception that it raised. Features stay as they are."""
    import transformers

    import tightbatch.huggingface

    answers = []
    before = repr(features)
    for side in (tightbatch.huggingface, transformers):
        try:
            collate = getattr(side, name)(**options)
            mine = side is tightbatch.huggingface
            batch = collate(features if mine else without_tuples(features))
            if mine and name == "DataCollatorWithFlattening":
                assert batch.pop("use_cache") is False  # what ours has and theirs has not
            answers.append(batch)
        except Exception as error:
            answers.append(error)
    assert repr(features) == before
    return answers


def assert_same_batch(mine, expected):
    """Type, keys in order, and each value's type, dtype, shape and content."""
    if isinstance(mine, Exception):
        raise mine
    assert type(mine) is type(expected)
    assert list(mine) == list(expected)
    for key in mine:
        a, b = mine[key], expected[key]
        assert type(a) is type(b), key
        if not hasattr(a, "dtype"):
            assert a == b, key
            continue
        assert a.dtype == b.dtype, (key, a.dtype, b.dtype)
        assert a.shape == b.shape, (key, a.shape, b.shape)
        assert np.array_equal(np.asarray(a), np.asarray(b)), (key, a, b)
