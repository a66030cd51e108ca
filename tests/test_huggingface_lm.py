"""DataCollatorForLanguageModeling with masks: distribution, seeds, words, options."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tightbatch as tb
import tightbatch.huggingface as ours
from checks import WORKER_LIMIT, fails
from comparing_huggingface import assert_same_batch, both, make_tokenizer

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("transformers")

TOKENIZER = make_tokenizer()
PAD, MASK, CLS, SEP = (
    TOKENIZER.pad_token_id,
    TOKENIZER.mask_token_id,
    TOKENIZER.cls_token_id,
    TOKENIZER.sep_token_id,
)
SPECIAL = TOKENIZER.all_special_ids


def sentences(rows=400, seed=0):
    """[CLS] words [SEP], of 5 to 120 words: ids 5 to 99."""
    rng = np.random.default_rng(seed)
    return [
        {"input_ids": [CLS, *rng.integers(5, 100, n).tolist(), SEP]}
        for n in rng.integers(5, 121, rows)
    ]


def assert_share(count, total, probability):
    """A count of a binomial variable, within 5 standard deviations of its mean."""
    spread = 5 * np.sqrt(total * probability * (1 - probability)) + 1e-9
    assert abs(count - total * probability) <= spread, (count / total, probability)


def shares(collate, features, original):
    """(words, chosen, shown as mask, shown as another token, shown as they are)."""
    batch = collate(features)
    ids, labels = np.asarray(batch["input_ids"]), np.asarray(batch["labels"])
    words = ~np.isin(original, SPECIAL)
    chosen = labels != -100
    assert not (chosen & ~words).any()
    assert (labels[chosen] == original[chosen]).all()
    assert (ids[~chosen] == original[~chosen]).all()
    masked, kept = chosen & (ids == MASK), chosen & (ids == original)
    return words.sum(), chosen.sum(), masked.sum(), (chosen & ~masked & ~kept).sum(), kept.sum()


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("given", [False, True], ids=["special ids", "special_tokens_mask"])
@pytest.mark.parametrize(
    ("probability", "replace", "random"),
    [(0.15, 0.8, 0.1), (0.4, 0.5, 0.4), (0.3, 1.0, 0.0), (0.3, 0.0, 1.0), (0.5, 0.0, 0.0),
     (1.0, 0.8, 0.1), (0.0, 0.8, 0.1)],
)  # fmt: skip
def test_tokens_are_masked_in_the_shares_asked_for(probability, replace, random, given, tensors):
    features = sentences()
    original = tb.pad([f["input_ids"] for f in features], padding_value=PAD)
    if given:
        for feature in features:
            inner = [0] * (len(feature["input_ids"]) - 2)
            feature["special_tokens_mask"] = [1, *inner, 1]
    options = {
        "mlm_probability": probability,
        "mask_replace_prob": replace,
        "random_replace_prob": random,
        "return_tensors": tensors,
    }
    for side in (ours, theirs):  # the test of the test: transformers passes it too
        collate = side.DataCollatorForLanguageModeling(TOKENIZER, seed=3, **options)
        words, chosen, masked, other, kept = shares(collate, features, original)
        assert_share(chosen, words, probability)
        vocabulary = len(TOKENIZER)
        # A random token may be the mask token, or the one that was there.
        assert_share(masked, chosen, replace + random / vocabulary)
        assert_share(other, chosen, random * (vocabulary - 2) / vocabulary)
        assert_share(kept, chosen, 1 - replace - random + random / vocabulary)


def test_keys_shapes_and_types_are_transformers():
    features = [
        {"input_ids": ids, "token_type_ids": [0] * len(ids), "special_tokens_mask": special}
        for ids, special in (([CLS, 5, 6, SEP], [1, 0, 0, 1]), ([CLS, SEP], [1, 1]))
    ]
    for tensors in ("pt", "np"):
        options = {"tokenizer": TOKENIZER, "seed": 1, "return_tensors": tensors}
        mine, expected = both("DataCollatorForLanguageModeling", features, **options)
        assert type(mine) is type(expected)
        assert list(mine) == list(expected)
        for key in mine:
            assert mine[key].dtype == expected[key].dtype
            assert mine[key].shape == expected[key].shape
        assert mine["attention_mask"].tolist() == expected["attention_mask"].tolist()


def test_random_tokens_are_drawn_evenly_from_the_vocabulary():
    rows = [[5] * 500] * 200
    collate = ours.DataCollatorForLanguageModeling(
        TOKENIZER, mlm_probability=1.0, mask_replace_prob=0.0, random_replace_prob=1.0, seed=9
    )
    counts = np.bincount(collate(rows)["input_ids"].numpy().ravel(), minlength=len(TOKENIZER))
    assert len(counts) == len(TOKENIZER)
    for count in counts:
        assert_share(count, 100_000, 1 / len(TOKENIZER))


def labels_of(collate, features):
    return np.asarray(collate(features)["labels"]).tolist()


@pytest.mark.parametrize("tensors", ["pt", "np"])
def test_equal_seeds_give_equal_masks_and_calls_differ(tensors):
    features = sentences(20)
    make = ours.DataCollatorForLanguageModeling
    options = {"return_tensors": tensors}
    a, b = (make(TOKENIZER, seed=7, **options) for _ in range(2))
    first, second = labels_of(a, features), labels_of(a, features)
    assert first != second
    assert [labels_of(b, features) for _ in range(2)] == [first, second]
    assert labels_of(make(TOKENIZER, seed=8, **options), features) != first


def test_known_masks_of_a_seed():
    """The same on every platform: written down once, on x86-64."""
    collate = ours.DataCollatorForLanguageModeling(TOKENIZER, seed=1, mlm_probability=0.5)
    batch = collate([list(range(5, 25))])
    shown = [1, 1, 1, 8, 1, 42, 11, 12, 13, 14, 15, 16, 1, 1, 19, 20, 21, 22, 23, 1]
    assert batch["input_ids"].tolist() == [shown]
    chosen = (batch["labels"][0] != -100).nonzero().flatten().tolist()
    assert chosen == [0, 1, 2, 4, 5, 8, 12, 13, 19]


@pytest.mark.parametrize("tensors", ["pt", "np"])
def test_without_a_seed_the_global_generator_decides(tensors):
    features = sentences(20)
    collate = ours.DataCollatorForLanguageModeling(TOKENIZER, return_tensors=tensors)

    def drawn(seed):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 what transformers draws from
        return labels_of(collate, features)

    assert drawn(1) == drawn(1) != drawn(2)


class Sentences(torch.utils.data.Dataset):
    def __init__(self):
        self.features = [{"input_ids": [CLS, *range(5, 65), SEP]}] * 8

    def __len__(self):
        return len(self.features)

    def __getitem__(self, i):
        return self.features[i]


def load_sentences(method):
    collate = ours.DataCollatorForLanguageModeling(TOKENIZER, seed=5)
    return torch.utils.data.DataLoader(
        Sentences(),
        2,
        collate_fn=collate,
        num_workers=2,
        multiprocessing_context=method,
        timeout=WORKER_LIMIT,
    )


@pytest.mark.parametrize("method", [pytest.param("fork", marks=pytest.mark.forks), "spawn"])
def test_workers_mask_differently_and_reproducibly(method):
    def epoch():
        return [batch["labels"].tolist() for batch in load_sentences(method)]

    batches = epoch()
    assert len({str(batch) for batch in batches}) == len(batches) == 4
    assert method == "spawn" or epoch() == batches  # to spawn workers takes seconds


def words_of(offsets, special):
    """Units by transformers' own rule: (word number, -1 where special)."""
    cls = theirs.DataCollatorForLanguageModeling
    return cls._calc_word_ids_and_prob_mask(np.array(offsets), np.array(special))[0]


def test_whole_words_are_masked_as_a_whole():
    rng = np.random.default_rng(2)
    features = []
    for _ in range(60):
        offsets, at = [(0, 0)], 0
        for _ in range(int(rng.integers(1, 25))):
            at += int(rng.integers(0, 2))  # a gap begins a word, none continues it
            offsets.append((at, at + 3))
            at += 3
        offsets.append((0, 0))
        n = len(offsets)
        features.append(
            {
                "input_ids": [CLS, *rng.integers(5, 100, n - 2).tolist(), SEP],
                "offset_mapping": offsets,
                "special_tokens_mask": [1, *[0] * (n - 2), 1],
            }
        )
    options = {"whole_word_mask": True, "mlm_probability": 0.3, "seed": 4}
    with pytest.warns(UserWarning, match="mask_replace_prob"):
        collate = ours.DataCollatorForLanguageModeling(TOKENIZER, **options)
    batch = collate(features)
    chosen = (batch["labels"] != -100).numpy()
    words = masked = 0
    for row, feature in enumerate(features):
        n = len(feature["input_ids"])
        ids = words_of([feature["offset_mapping"]], [feature["special_tokens_mask"]])[0]
        assert not chosen[row, n:].any()
        assert not chosen[row, :n][ids == -1].any()
        for word in set(ids[ids != -1].tolist()):
            hit = chosen[row, :n][ids == word]
            assert hit.all() == hit.any()
            words += 1
            masked += hit.any()
    assert_share(masked, words, 0.3)
    assert (batch["input_ids"].numpy()[chosen] == MASK).all()
    assert "offset_mapping" not in batch


def test_whole_words_need_offsets():
    with pytest.warns(UserWarning, match="mask_replace_prob"):
        collate = ours.DataCollatorForLanguageModeling(TOKENIZER, whole_word_mask=True)
    with fails(ValueError, "offset_mapping"):
        collate([{"input_ids": [5, 6]}])


@pytest.mark.parametrize(
    "options",
    [
        {"mlm_probability": -0.1},
        {"mlm_probability": 1.1},
        {"mlm_probability": None},
        {"mask_replace_prob": 1.5},
        {"mask_replace_prob": -0.5},
        {"random_replace_prob": 2},
        {"random_replace_prob": -1},
        {"mask_replace_prob": 0.8, "random_replace_prob": 0.3},
        {"mlm": False, "whole_word_mask": True},
    ],
    ids=str,
)
def test_both_refuse_what_is_no_probability(options):
    for side in (ours, theirs):
        with pytest.raises(ValueError, match=r"prob|word|Whole"):
            side.DataCollatorForLanguageModeling(TOKENIZER, **options)


def test_masking_needs_a_mask_token():
    tokenizer = make_tokenizer(mask_token=None)
    for side in (ours, theirs):
        with pytest.raises(ValueError, match="mlm=False"):
            side.DataCollatorForLanguageModeling(tokenizer)


def test_without_a_tokenizer():
    plain = {"pad_token_id": PAD, "mask_token_id": MASK, "vocab_size": len(TOKENIZER), "seed": 6}
    features = sentences(10)
    a = ours.DataCollatorForLanguageModeling(**plain, special_token_ids=SPECIAL)(features)
    b = ours.DataCollatorForLanguageModeling(TOKENIZER, seed=6)(features)
    assert all(torch.equal(a[key], b[key]) for key in b)
    with fails(ValueError, "special_token_ids="):
        ours.DataCollatorForLanguageModeling(**plain)(features)
    with fails(ValueError, "mask token"):
        ours.DataCollatorForLanguageModeling(pad_token_id=PAD)
    with fails(ValueError, "vocab_size="):
        ours.DataCollatorForLanguageModeling(pad_token_id=PAD, mask_token_id=MASK)


def test_tokens_beyond_the_vocabulary_are_ordinary_ones():
    """An id of an added token, or a wrong one, is no reason to read past a table."""
    rows = [[10**6, 2**62, 5]]
    collate = ours.DataCollatorForLanguageModeling(TOKENIZER, mlm_probability=1.0, seed=0)
    assert collate(rows)["labels"].tolist() == [[10**6, 2**62, 5]]


def test_one_training_step_of_each_kind():
    config = theirs.BertConfig(
        vocab_size=len(TOKENIZER), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    features = sentences(8)
    for collate, model in (
        (
            ours.DataCollatorForLanguageModeling(TOKENIZER, seed=1),
            theirs.BertForMaskedLM(config),
        ),
        (
            ours.DataCollatorForLanguageModeling(TOKENIZER, mlm=False),
            theirs.BertLMHeadModel(theirs.BertConfig(**{**config.to_dict(), "is_decoder": True})),
        ),
    ):
        loss = model(**collate(features)).loss
        loss.backward()
        assert 2 < loss.item() < 8


KINDS = {
    "list": list,
    "int16": lambda row: np.array(row, np.int16),
    "tensor": torch.LongTensor,
    "tensor32": lambda row: torch.tensor(row, dtype=torch.int32),
}
# Nothing is left to chance: no token is chosen, or all are, to be shown as the mask or as they are.
CERTAIN = [
    {"mlm_probability": share, "mask_replace_prob": shown, "random_replace_prob": 0.0}
    for share, shown in ((0.0, 1.0), (1.0, 1.0), (1.0, 0.0))
]
LEFT = make_tokenizer(padding_side="left")
PROPERTY = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
COLUMNS = ["attention_mask", "token_type_ids", "special_tokens_mask", "labels"]


@PROPERTY
@given(
    st.lists(st.lists(st.integers(0, 99), max_size=9), min_size=1, max_size=9),
    st.sets(st.sampled_from(COLUMNS)),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from([TOKENIZER, LEFT]),
    st.sampled_from([None, 1, 8]),
    st.sampled_from(["pt", "np"]),
    st.sampled_from(CERTAIN),
)
def test_what_is_certain_is_as_transformers(
    rows, columns, kind, tokenizer, multiple, tensors, sure
):
    """Special tokens anywhere among the ids; labels that features bring give way."""
    features = []
    for i, ids in enumerate(rows):
        feature = {"labels": [i, 3]} if "labels" in columns else {}
        feature["input_ids"] = KINDS[kind](ids)
        for key in sorted(columns - {"labels"}):
            feature[key] = KINDS[kind]([(i + j) % 2 for j in range(len(ids))])
        features.append(feature)
    options = {"tokenizer": tokenizer, "pad_to_multiple_of": multiple, "return_tensors": tensors}
    assert_same_batch(*both("DataCollatorForLanguageModeling", features, seed=1, **options, **sure))


@PROPERTY
@given(
    st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=9),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from([TOKENIZER, LEFT]),
    st.sampled_from([None, 1, 8]),
    st.sampled_from(["pt", "np"]),
    st.sampled_from([*CERTAIN, {"mlm": False}]),
)
def test_bare_rows_are_as_transformers(rows, kind, tokenizer, multiple, tensors, sure):
    options = {"tokenizer": tokenizer, "pad_to_multiple_of": multiple, "return_tensors": tensors}
    if kind.startswith("tensor"):
        options["return_tensors"] = "pt"  # bare tensors do not become arrays there
    rows = [KINDS[kind](row) for row in rows]
    assert_same_batch(*both("DataCollatorForLanguageModeling", rows, **options, **sure))


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("tokenizer", [TOKENIZER, LEFT], ids=["right", "left"])
@pytest.mark.parametrize("multiple", [None, 8])
def test_words_of_padded_rows_are_those_of_transformers(tokenizer, multiple, tensors):
    """Units by transformers' rule, over the padded offsets, with special tokens in mid-row."""
    rng = np.random.default_rng(5)
    offsets, special = [], []
    for n in rng.integers(0, 15, 40):
        gaps = rng.integers(0, 2, n)
        ends = np.cumsum(gaps + 2)
        offsets.append(np.stack([ends - 2, ends], 1).reshape(-1, 2))
        special.append(rng.integers(0, 5, n) == 0)
    features = [
        {
            "input_ids": [7] * len(rows),
            "offset_mapping": [tuple(pair) for pair in rows.tolist()],
            "special_tokens_mask": mask.astype(int).tolist(),
        }
        for rows, mask in zip(offsets, special, strict=True)
    ]
    pads = {"padding_side": tokenizer.padding_side, "pad_to_multiple_of": multiple}
    words = words_of(
        np.stack([tb.pad([c[:, i] for c in offsets], dtype="int64", **pads) for i in (0, 1)], -1),
        tb.pad(special, padding_value=1, dtype="int64", **pads),
    )
    options = {"whole_word_mask": True, "mask_replace_prob": 1.0, "random_replace_prob": 0.0}
    options |= {"return_tensors": tensors, "pad_to_multiple_of": multiple, "seed": 2}
    collate = ours.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5, **options)
    parted = 0
    for _ in range(20):
        chosen = np.asarray(collate(features)["labels"]) != -100
        assert not chosen[words == -1].any()
        for row, ids in zip(chosen, words, strict=True):
            for word in set(ids[ids != -1].tolist()):
                assert row[ids == word].all() == row[ids == word].any()
            parted += len(set(row[ids != -1].tolist())) == 2
    assert parted > 200  # units are drawn one by one, not a row at once


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("sure", CERTAIN[:2], ids=["none", "all"])
def test_certain_words_are_as_transformers(sure, tensors):
    feature = {
        "input_ids": [CLS, 5, 6, 7, 8, SEP],
        "offset_mapping": [(0, 0), (0, 2), (2, 4), (5, 6), (6, 9), (0, 0)],
        "special_tokens_mask": [1, 0, 0, 0, 0, 1],
    }
    options = {"tokenizer": TOKENIZER, "whole_word_mask": True, "return_tensors": tensors, **sure}
    assert_same_batch(*both("DataCollatorForLanguageModeling", [feature] * 2, **options))


@pytest.mark.forks
def test_a_worker_adds_its_number_to_the_seed():
    batches = [batch["labels"].tolist() for batch in load_sentences("fork")]
    here = [ours.DataCollatorForLanguageModeling(TOKENIZER, seed=5 + i) for i in (0, 1)]
    assert batches == [labels_of(here[i % 2], Sentences().features[:2]) for i in range(4)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DataCollatorForTokenClassification", {"tokenizer": LEFT}),
        ("DataCollatorForSeq2Seq", {"tokenizer": LEFT, "pad_to_multiple_of": 4}),
        ("DataCollatorForLanguageModeling", {"tokenizer": LEFT, "mlm": False}),
        ("DataCollatorForLanguageModeling", {"tokenizer": LEFT, "seed": 1, **CERTAIN[1]}),
        ("DataCollatorWithFlattening", {"return_flash_attn_kwargs": True, "return_seq_idx": True}),
    ],
)
@pytest.mark.parametrize("tensors", ["pt", "np"])
def test_columns_and_tables_give_what_lists_give(name, options, tensors):
    pa = pytest.importorskip("pyarrow")
    columns = {"input_ids": [[CLS, 5, SEP], [9], [9, 8]], "labels": [[1, 2, 3], [4], [5, 6]]}
    order = [2, 0, 1]
    features = [{key: column[i] for key, column in columns.items()} for i in order]
    if name.endswith("LanguageModeling"):
        columns.pop("labels")
        features = [{"input_ids": feature["input_ids"]} for feature in features]
    expected = both(name, features, return_tensors=tensors, **options)[1]
    table = pa.table(columns, schema=pa.schema([(key, pa.list_(pa.int32())) for key in columns]))
    large = pa.schema([(key, pa.large_list(pa.int16())) for key in columns])
    for source in (
        tb.RaggedDataset(columns).__getitems__(order),
        tb.RaggedDataset.from_arrow(table).__getitems__(order),
        table.take(order),
        table.take(order).cast(large),
        pa.concat_tables([table.slice(2), table.slice(0, 2)]),
    ):
        batch = getattr(ours, name)(return_tensors=tensors, **options)(source)
        assert (batch.pop("use_cache", None) is False) == (name == "DataCollatorWithFlattening")
        assert_same_batch(batch, expected)
