"""PaddingFreeCollator: every output, against plain Python and transformers' collator."""

import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb
from checks import WORKER_LIMIT, checked, fails
from conftest import LONG_ONLY
from reference_padding_free import batch as reference

NAMES = {
    "transformers": ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"),
    "flash_attn": ("cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"),
    "varlen_attn": ("cu_seq_q", "cu_seq_k", "max_q", "max_k"),
}
ALL = {
    "shift_labels": True,
    "return_num_items": True,
    "return_row_idx": True,
    "return_tensors": "np",
}
OURS = {  # the names of reference_padding_free.batch as options
    "max_length": "max_length",
    "side": "truncation_side",
    "fill": "padding_value",
    "max_tokens": "max_tokens",
    "max_segments": "max_segments",
    "multiple": "pad_to_multiple_of",
    "each": "segment_multiple_of",
    "start": "position_ids_start",
}


def samples_of(rows, labels=None, seq_lengths=None):
    columns = {"input_ids": rows}
    if labels is not None:
        columns["labels"] = labels
    if seq_lengths is not None:
        columns["seq_lengths"] = seq_lengths
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def plain(batch):
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in batch.items()}


def expected(rows, labels=None, seq_lengths=None, naming="transformers", **options):
    made = reference(rows, labels, seq_lengths, **options)
    cu, real, longest = made.pop("cu"), made.pop("cu_real"), made.pop("longest")
    made["num_items_in_batch"] = made.pop("num_items")
    if naming == "megatron":
        named = dict.fromkeys(("cu_seqlens_q", "cu_seqlens_kv"), real)
        named |= dict.fromkeys(("cu_seqlens_q_padded", "cu_seqlens_kv_padded"), cu)
        named |= {"max_seqlen_q": longest, "max_seqlen_kv": longest, "qkv_format": "thd"}
    else:
        q, k, max_q, max_k = NAMES[naming]
        named = {q: cu, k: cu, max_q: longest, max_k: longest}
        named |= {"use_cache": False}
    return {**made, **named}


@st.composite
def cases(draw):
    lengths = draw(st.lists(st.integers(0, 9), min_size=1, max_size=7))
    tokens = st.integers(-5, 300)
    rows = [draw(st.lists(tokens, min_size=n, max_size=n)) for n in lengths]
    labels = seq_lengths = None
    if draw(st.booleans()):
        labels = [draw(st.lists(tokens, min_size=n, max_size=n)) for n in lengths]
    if draw(st.booleans()):
        seq_lengths = []
        for n in lengths:
            parts = []
            while sum(parts) < n:
                parts.append(draw(st.integers(0, n - sum(parts))))
            seq_lengths.append(parts)
    each = draw(st.sampled_from((None, 1, 2, 4)))
    multiple = draw(st.sampled_from((None, 4, 8)))
    options = {
        "max_length": draw(st.sampled_from((None, None, 1, 3))),
        "side": draw(st.sampled_from(("right", "left"))),
        "fill": draw(st.integers(-3, 3)),
        "multiple": multiple,
        "each": each,
        "start": draw(st.sampled_from((0, 2))),
        "max_tokens": draw(st.sampled_from((None, 512))),
        "max_segments": draw(st.sampled_from((None, 64, 512))),
    }
    return rows, labels, seq_lengths, options


@settings(max_examples=300, deadline=None)
@given(cases(), st.sampled_from([*NAMES, "megatron"]), st.sampled_from(["lists", "ragged"]))
def test_the_batch_is_what_plain_python_makes_of_it(case, naming, kind):
    rows, labels, seq_lengths, options = case
    if not any(rows) and options["max_tokens"] is None:
        return
    collate = tb.PaddingFreeCollator(
        naming=naming, **ALL, **{OURS[name]: value for name, value in options.items()}
    )
    samples = samples_of(rows, labels, seq_lengths)
    if kind == "ragged":
        columns = {
            key: tb.Ragged.from_sequences([sample[key] for sample in samples], dtype="int64")
            for key in samples[0]
        }
        samples = tb.RaggedDataset(columns).__getitems__(list(range(len(samples))))
    made = expected(rows, labels, seq_lengths, naming, **options)
    if options["max_segments"] and len(made["row_idx"]) > options["max_segments"]:
        with fails(ValueError, "PaddingFreeCollator()", "segments", "the padded tail"):
            collate(samples)
        return
    assert plain(collate(samples)) == made


@pytest.mark.parametrize("side", ["lists", "arrays", "mixed", "int32", "tensors"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_kind_of_row_gives_the_same(side, packed):
    rows = [[3, 4, 5, 6], [], [7], [8, 9, 10]]
    parts = [[1, 3], [], [1], [2, 1]] if packed else None
    kinds = {
        "lists": lambda i, row: row,
        "arrays": lambda i, row: np.array(row, dtype=np.int64),
        "mixed": lambda i, row: np.array(row, dtype=np.int64) if i % 2 else tuple(row),
        "int32": lambda i, row: np.array(row, dtype=np.int32),
        "tensors": lambda i, row: pytest.importorskip("torch").tensor(row, dtype=None).long(),
    }
    given = [kinds[side](i, row) for i, row in enumerate(rows)]
    samples = samples_of(given, None, parts)
    for options in ({}, {"multiple": 4, "each": 2}, {"max_length": 2, "max_tokens": 40}):
        collate = tb.PaddingFreeCollator(**ALL, **{OURS[k]: v for k, v in options.items()})
        batch = checked(collate, samples)
        assert batch["input_ids"].dtype == (np.int32 if side == "int32" else np.int64)
        assert batch["labels"].dtype == batch["shift_labels"].dtype == np.int64
        assert plain(batch) == expected(rows, None, parts, **options)


def test_types_and_shapes():
    torch = pytest.importorskip("torch")
    batch = tb.PaddingFreeCollator(shift_labels=True, return_row_idx=True)(
        [{"input_ids": np.array([1, 2], np.uint16)}, {"input_ids": np.array([3], np.uint16)}]
    )
    assert type(batch) is tb.Batch
    shapes = {key: tuple(v.shape) for key, v in batch.items() if isinstance(v, torch.Tensor)}
    line = {"input_ids", "labels", "shift_labels", "position_ids", "seq_idx"}
    assert {key for key, shape in shapes.items() if shape == (1, 3)} == line
    assert shapes["cu_seq_lens_q"] == shapes["cu_seq_lens_k"] == (3,)
    assert shapes["row_idx"] == (2,)
    types = {key: v.dtype for key, v in batch.items() if isinstance(v, torch.Tensor)}
    assert types["input_ids"] == torch.uint16
    assert types["seq_idx"] == types["cu_seq_lens_q"] == types["cu_seq_lens_k"] == torch.int32
    for key in ("labels", "shift_labels", "position_ids", "row_idx"):
        assert types[key] == torch.int64
    assert type(batch["max_length_q"]) is type(batch["max_length_k"]) is int
    assert batch["cu_seq_lens_q"].data_ptr() != batch["cu_seq_lens_k"].data_ptr()
    narrow = tb.PaddingFreeCollator(dtype={"labels": torch.int16, "input_ids": np.int32})(
        [{"input_ids": [1, 2]}]
    )
    assert (narrow["labels"].dtype, narrow["input_ids"].dtype) == (torch.int16, torch.int32)


def test_other_columns_go_along():
    samples = [
        {
            "text": "a",
            "weight": np.array([0.5, 1.0], np.float32),
            "input_ids": [5, 6],
            "attention_mask": [1, 1],
            "token_type_ids": [1, 0],
            "score": 0.25,
            "points": np.arange(4.0).reshape(2, 2),
        },
        {
            "text": None,
            "weight": np.array([2.0], np.float32),
            "input_ids": [7],
            "attention_mask": [True],
            "token_type_ids": [1],
            "score": 4,
            "points": np.ones((1, 2)),
        },
    ]
    collate = tb.PaddingFreeCollator(
        padding_value={"weight": -1, "token_type_ids": 9}, pad_to_multiple_of=2, return_tensors="np"
    )
    batch = checked(collate, samples)
    assert list(batch)[-5:] == ["text", "weight", "token_type_ids", "score", "points"]
    assert "attention_mask" not in batch
    assert plain(
        {k: batch[k] for k in ("text", "weight", "token_type_ids", "score", "points")}
    ) == {
        "text": ["a", None],
        "weight": [[0.5, 1.0, 2.0, -1.0]],
        "token_type_ids": [[1, 0, 1, 9]],
        "score": [0.25, 4.0],
        "points": [[[0.0, 1.0], [2.0, 3.0], [1.0, 1.0], [0.0, 0.0]]],
    }


def test_labels_are_masked_by_place_and_not_by_token():
    rows = [[7, 7, 7], [7]]
    batch = tb.PaddingFreeCollator(padding_value=7, pad_to_multiple_of=8, return_tensors="np")(
        samples_of(rows)
    )
    assert batch["input_ids"].tolist() == [[7] * 8]
    assert batch["labels"].tolist() == [[-100, 7, 7] + [-100] * 5]
    other = tb.PaddingFreeCollator(
        padding_value={"labels": -1}, return_num_items=True, return_tensors="np"
    )(samples_of(rows))
    assert other["labels"].tolist() == [[-1, 7, 7, -1]]
    assert other["num_items_in_batch"] == 2


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "int64"])
def test_labels_that_count_are_counted_in_every_type(dtype):
    collate = tb.PaddingFreeCollator(
        dtype={"labels": dtype},
        padding_value={"labels": 9},
        return_num_items=True,
        return_tensors="np",
    )
    rows = [[1, 9, 2, 3], [9, 0], [4, 9, 6]]
    batch = collate([{"input_ids": [7] * len(row), "labels": row} for row in rows])
    assert batch["labels"].dtype == dtype
    assert batch["labels"].tolist() == [[9, 9, 2, 3, 9, 0, 9, 9, 6]]
    assert batch["num_items_in_batch"] == 4


def test_labels_can_be_left_out_or_be_of_rows():
    rows = [[1, 2], [3]]
    bare = tb.PaddingFreeCollator(return_labels=False, return_tensors="np")(samples_of(rows))
    assert "labels" not in bare
    kept = tb.PaddingFreeCollator(return_labels=False, return_tensors="np")(
        samples_of(rows, [[4, 5], [6]])
    )
    assert kept["labels"].tolist() == [[4, 5, 6]]
    of_rows = tb.PaddingFreeCollator(return_tensors="np")(samples_of(rows, [0, 1]))
    assert of_rows["labels"].tolist() == [0, 1]


NAMES_OF_LABELS = ("labels", "label", "label_ids")


@pytest.mark.parametrize("kind", ["lists", "arrays", "ragged", "tensors"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", [{}, {"max_tokens": 16}, {"segment_multiple_of": 4}])
def test_labels_of_tokens_can_be_kept(kind, packed, options):
    rows, labels = [[1, 2, 3], [4], [5, 6]], [[3, -100, 1], [2], [0, 4]]
    samples = samples_of(rows, labels, [[2, 1], [1], [2]] if packed else None)
    if kind == "arrays":
        samples = [{k: np.array(v, np.int32) for k, v in sample.items()} for sample in samples]
    elif kind == "tensors":
        torch = pytest.importorskip("torch")
        samples = [{k: torch.tensor(v) for k, v in sample.items()} for sample in samples]
    elif kind == "ragged":
        columns = {key: [sample[key] for sample in samples] for key in samples[0]}
        samples = tb.RaggedDataset(columns).__getitems__([0, 1, 2])
    collate = tb.PaddingFreeCollator(
        return_labels=False, return_num_items=True, return_tensors="np", **options
    )
    batch = checked(collate, samples)
    assert batch["labels"].dtype == np.int64
    kept = dict.fromkeys(zip(batch["seq_idx"][0], batch["position_ids"][0], strict=True))
    assert len(kept) == batch["labels"].size
    real = np.isin(batch["input_ids"][0], [1, 2, 3, 4, 5, 6])
    assert batch["labels"][0][real].tolist() == [3, -100, 1, 2, 0, 4]
    assert (batch["labels"][0][~real] == -100).all()
    assert batch["num_items_in_batch"] == 5
    shifted = tb.PaddingFreeCollator(return_labels=False, shift_labels=True, return_tensors="np")(
        samples
    )
    first = shifted["cu_seq_lens_q"][:-1]
    assert (shifted["labels"][0][first] == -100).all()
    assert shifted["shift_labels"].tolist() == [[*shifted["labels"][0][1:].tolist(), -100]]


def test_kept_labels_may_be_floats_or_several_of_a_token():
    rows = [[1, 2], [3]]
    collate = tb.PaddingFreeCollator(return_labels=False, max_tokens=4, return_tensors="np")
    floats = collate(samples_of(rows, [[0.5, 1], [2]]))["labels"]
    assert floats.dtype == np.float32
    assert floats.tolist() == [[0.5, 1, 2, -100]]
    several = collate(samples_of(rows, [np.ones((2, 3), np.int64), np.zeros((1, 3), np.int64)]))
    assert several["labels"].tolist() == [[[1] * 3, [1] * 3, [0] * 3, [-100] * 3]]
    narrow = tb.PaddingFreeCollator(
        return_labels=False, dtype={"labels": "int16"}, return_tensors="np"
    )
    assert narrow(samples_of(rows, [[1, 2], [3]]))["labels"].dtype == np.int16


@pytest.mark.parametrize("name", NAMES_OF_LABELS)
@pytest.mark.parametrize("tensors", ["np", "pt"])
def test_labels_of_rows_follow_the_segments(name, tensors):
    if tensors == "pt":
        pytest.importorskip("torch")
    rows = [[1, 2, 3], [], [4], [5, 6]]
    samples = [{"input_ids": row, name: k} for k, row in enumerate(rows)]
    for options in ({}, {"max_tokens": 12}, {"max_tokens": 12, "max_segments": 9},
                    {"pad_to_multiple_of": 8}, {"max_segments": 5}):  # fmt: skip
        collate = tb.PaddingFreeCollator(return_row_idx=True, return_tensors=tensors, **options)
        batch = collate(samples)
        owners, labels = batch["row_idx"].tolist(), batch[name].tolist()
        assert labels == [-100 if row < 0 else row for row in owners]
        assert len(labels) == len(batch["cu_seq_lens_q"]) - 1
        assert [owner for owner in owners if owner >= 0] == [0, 2, 3]
    if name != "labels":
        assert batch["labels"].tolist() == [[-100, 2, 3, -100, -100, 6]]


def test_labels_of_packs_and_of_other_types():
    samples = [
        {"input_ids": [1, 2, 3], "seq_lengths": [1, 2], "label": np.float32(0.5), "score": 1},
        {"input_ids": [4], "seq_lengths": [1], "label": np.float32(1.5), "score": 2},
    ]
    named = {"padding_value": {"label": -100}, "return_tensors": "np"}
    collate = tb.PaddingFreeCollator(max_tokens=5, **named)
    batch = checked(collate, samples)
    assert batch["label"].dtype == np.float32
    assert batch["label"].tolist() == [0.5, 0.5, 1.5, -100]
    assert batch["score"].tolist() == [1, 2]
    mixed = [{"input_ids": [1], "label": 1}, {"input_ids": [2], "label": 0.5}]
    assert collate(mixed)["label"].tolist() == [1, 0.5, -100, -100, -100]
    bools = [{"input_ids": [1], "label": True}, {"input_ids": [2], "label": False}]
    full = tb.PaddingFreeCollator(return_tensors="np")(bools)["label"]
    assert full.tolist() == [True, False]
    other = tb.PaddingFreeCollator(padding_value={"label": 7}, max_tokens=3, return_tensors="np")
    assert other(mixed[:1])["label"].tolist() == [1, 7, 7]


def test_rows_without_ids():
    rows = [np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32)]
    batch = tb.PaddingFreeCollator(return_tensors="np", pad_to_multiple_of=4)(
        [{"inputs_embeds": row, "labels": [1] * len(row)} for row in rows]
    )
    assert batch["inputs_embeds"].shape == (1, 4, 3)
    assert batch["labels"].tolist() == [[-100, 1, -100, -100]]
    assert batch["seq_idx"].tolist() == [[0, 0, 1, 2]]


def test_floats_after_integers_and_bfloat16():
    torch = pytest.importorskip("torch")
    samples = [{"input_ids": [1, 2], "w": [1, 2]}, {"input_ids": [3], "w": [0.5]}]
    for options in ({}, {"segment_multiple_of": 2}):
        batch = tb.PaddingFreeCollator(dtype={"h": torch.bfloat16}, **options)(
            [{**s, "h": s["w"]} for s in samples]
        )
        assert batch["w"].dtype == torch.float32
        assert batch["h"].dtype == torch.bfloat16
        assert torch.equal(batch["h"].float(), batch["w"])
        packs = [{**s, "seq_lengths": [1] * len(s["w"]), "h": s["w"]} for s in samples]
        parts = tb.PaddingFreeCollator(dtype={"h": torch.bfloat16}, **options)(packs)
        assert parts["w"].dtype == torch.float32
        assert torch.equal(parts["h"].float(), parts["w"])


def test_a_fixed_longest_is_what_is_said():
    collate = tb.PaddingFreeCollator(max_tokens=16, max_seqlen=16, return_tensors="np")
    for rows in ([[1, 2, 3]], [[1] * 16], [[1], [2]]):
        batch = collate(samples_of(rows))
        assert batch["max_length_q"] == batch["max_length_k"] == 16
    tight = tb.PaddingFreeCollator(max_seqlen=3, return_tensors="np")
    assert tight(samples_of([[1, 2, 3], [4]]))["max_length_q"] == 3


def test_a_full_line_has_no_tail():
    collate = tb.PaddingFreeCollator(max_tokens=3, max_segments=2, return_tensors="np")
    batch = collate(samples_of([[1, 2], [3]]))
    assert batch["cu_seq_lens_q"].tolist() == [0, 2, 3]
    shorter = collate(samples_of([[1, 2]]))
    assert shorter["cu_seq_lens_q"].tolist() == [0, 2, 3]
    assert shorter["position_ids"].tolist() == [[0, 1, 0]]


def test_constant_shapes_are_constant():
    collate = tb.PaddingFreeCollator(max_tokens=64, max_segments=9, max_length=64, **ALL)
    rng = np.random.default_rng(0)
    seen = set()
    for count in (1, 3, 8):
        rows = [rng.integers(0, 9, n).tolist() for n in rng.integers(0, 9, count)]
        batch = collate(samples_of([[1], *rows]) if count < 8 else samples_of(rows))
        seen.add(tuple((key, v.shape) for key, v in batch.items() if isinstance(v, np.ndarray)))
    assert len(seen) == 1


def test_arrow_tables_and_datasets():
    pa = pytest.importorskip("pyarrow")
    rows, parts = [[5, 6, 7], [8], [9, 10]], [[1, 2], [1], [2]]
    mask = pa.array([[1] * len(row) for row in rows], pa.list_(pa.int8()))
    table = pa.table(
        {
            "input_ids": rows,
            "attention_mask": mask,
            "seq_lengths": parts,
            "text": ["a", "b", "c"],
        }
    )
    collate = tb.PaddingFreeCollator(**ALL)
    want = expected(rows, None, parts) | {"text": ["a", "b", "c"]}
    assert plain(collate(table)) == want
    data = tb.RaggedDataset.from_arrow(table)
    assert plain(collate(data.__getitems__([0, 1, 2]))) == want
    assert plain(collate([data[0], data[1], data[2]])) == want


def test_packs_of_trl():
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"input_ids": [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10], [11]]})
    packed = trl.pack_dataset(data, seq_length=4, strategy="bfd_split")
    rows, parts = packed["input_ids"][:], packed["seq_lengths"][:]
    batch = tb.PaddingFreeCollator(**ALL)([packed[i] for i in range(len(packed))])
    assert plain(batch) == expected(rows, None, parts)


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("kind", ["lists", "arrays"])
def test_transformers_makes_the_same(labelled, kind):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    rng = np.random.default_rng(3)
    rows = [rng.integers(0, 99, n) for n in rng.integers(1, 40, 9)]
    samples = samples_of(rows, [row + 1 for row in rows] if labelled else None)
    if kind == "lists":
        samples = [{key: v.tolist() for key, v in sample.items()} for sample in samples]
    for start in (0, 2):
        theirs = transformers.DataCollatorWithFlattening(
            return_flash_attn_kwargs=True, return_seq_idx=True, position_ids_start=start
        )(samples)
        ours = tb.PaddingFreeCollator(position_ids_start=start)(samples)
        assert ours.pop("use_cache") is False
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            if isinstance(value, torch.Tensor):
                assert ours[key].dtype == value.dtype
                assert torch.equal(ours[key], value), key
            else:
                assert type(ours[key]) is type(value)
                assert ours[key] == value


def test_trl_makes_the_same_of_packs():
    torch = pytest.importorskip("torch")
    trainer = pytest.importorskip("trl.trainer.sft_trainer")
    theirs = trainer.DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    rows, parts = [[5, 6, 7, 8, 9], [1, 2, 3]], [[3, 2], [3]]
    samples = samples_of(rows, None, parts)
    a, b = tb.PaddingFreeCollator()(samples), theirs(samples)
    for key in set(a) & set(b):
        same = torch.equal(a[key], b[key]) if isinstance(b[key], torch.Tensor) else a[key] == b[key]
        assert same, key
    assert {"input_ids", "labels", "position_ids"} <= set(a) & set(b)


def test_pickled_frozen_and_equal():
    pytest.importorskip("torch")
    collate = tb.PaddingFreeCollator(max_tokens=8, padding_value={"labels": -1})
    again = pickle.loads(pickle.dumps(collate))
    assert again == collate
    samples = samples_of([[1, 2], [3]])
    assert str(again(samples)) == str(collate(samples))
    with pytest.raises(AttributeError):
        collate.max_tokens = 3


class Packs:
    """Module-level, so that a spawned worker can import it."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return {"input_ids": np.arange(3000 + i), "label": i, "seq_lengths": [1000, 2000 + i]}


@pytest.mark.parametrize(
    ("naming", "context"),
    [
        pytest.param("transformers", "fork", marks=pytest.mark.forks),
        pytest.param("megatron", "fork", marks=pytest.mark.forks),
        pytest.param("transformers", "spawn", marks=LONG_ONLY),
        ("megatron", "spawn"),
    ],
)
def test_workers_send_one_block(context, naming):
    torch = pytest.importorskip("torch")
    if context == "fork" and sys.platform == "win32":
        pytest.skip("no fork on Windows")
    collate = tb.PaddingFreeCollator(
        naming=naming,
        max_tokens=16384,
        max_segments=12,
        shift_labels=True,
        return_num_items=True,
        return_row_idx=True,
    )
    loader = torch.utils.data.DataLoader(
        Packs(),
        4,
        collate_fn=collate,
        num_workers=2,
        multiprocessing_context=context,
        timeout=WORKER_LIMIT,
    )
    data = Packs()
    for k, batch in enumerate(loader):
        want = collate([data[i] for i in range(4 * k, 4 * k + 4)])
        assert type(batch) is tb.Batch
        assert list(batch) == list(want)
        large = [v for v in batch.values() if isinstance(v, torch.Tensor) and v.numel() > 10_000]
        begin, end = min(v.data_ptr() for v in large), max(v.data_ptr() + v.nbytes for v in large)
        assert 0 <= end - begin - sum(v.nbytes for v in large) < 4096
        for key, value in want.items():
            if isinstance(value, torch.Tensor):
                assert batch[key].dtype == value.dtype
                assert torch.equal(batch[key], value)
            else:
                assert batch[key] == value
