"""tb.pack against trl's packing as installed, and packed datasets on their way to a model."""

import itertools

import numpy as np
import pytest

import tightbatch as tb
from checks import fails
from reference_batching import draw_lengths

pa = pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")
trl_data = pytest.importorskip("trl.data_utils", exc_type=ImportError)
trl_pack = getattr(trl_data, "_pack_bfd", None)
needs_pack = pytest.mark.skipif(trl_pack is None, reason="trl has no _pack_bfd")

BEST_FIT = {"strategy": "best_fit", "seed": None}  # as trl packs
CAPACITIES = [1, 7, 64, 65, 127, 128, 129, 2048, 2049]


def draw_rows(count, most, seed=0, least=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(least, most + 1, count)
    ends = np.cumsum(lengths)
    return np.split(np.arange(ends[-1], dtype=np.int32), ends[:-1])


def by_trl(rows, capacity, overlong):
    table = pa.table({"ids": pa.array(rows, pa.list_(pa.int32()))})
    packed = trl_pack(table, capacity, overlong)
    return packed["ids"].to_pylist(), packed["seq_lengths"].to_pylist()


def emptiest_last(packs):
    """Ours are in the order of trl's, but for the pack with the most room, which comes last."""
    lengths = [len(pack) for pack in packs]
    if lengths:
        emptiest = len(lengths) - 1 - lengths[::-1].index(min(lengths))
        packs.append(packs.pop(emptiest))
        return packs, emptiest
    return packs, 0


@needs_pack
@pytest.mark.parametrize("overlong", ["truncate", "split"])
@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("most", ["longer", "shorter", "short"])
def test_packs_of_trl(capacity, overlong, most):
    longest = {"longer": 3 * capacity, "shorter": capacity, "short": -(-capacity // 5)}[most]
    for seed in range(3):
        rows = tb.Ragged.from_sequences(draw_rows(300, longest, seed, least=1))
        packing = tb.pack(rows.lengths, capacity, overlong=overlong, **BEST_FIT)
        theirs, seq_lengths = by_trl(rows.tolist(), capacity, overlong)
        theirs, emptiest = emptiest_last(theirs)
        seq_lengths.append(seq_lengths.pop(emptiest))
        if sum(map(len, theirs)) == len(theirs) * capacity:  # all are full: as they were begun
            theirs.insert(emptiest, theirs.pop())
            seq_lengths.insert(emptiest, seq_lengths.pop())
        assert packing.apply(rows).tolist() == theirs
        assert packing.seq_lengths.tolist() == seq_lengths


@needs_pack
@pytest.mark.parametrize("overlong", ["truncate", "split"])
def test_never_more_packs_than_trl(overlong):
    """Empty rows, which trl leaves out, take no pack of their own."""
    for capacity in CAPACITIES:
        rows = [row.tolist() for row in draw_rows(300, capacity + capacity // 3, capacity)]
        lengths = [len(row) for row in rows]
        packing = tb.pack(lengths, capacity, overlong=overlong, **BEST_FIT)
        theirs, _ = by_trl(rows, capacity, overlong)
        assert len(packing) == len(theirs)
        assert sorted(packing.apply(tb.Ragged.from_sequences(rows)).tolist()) == sorted(theirs)


# pack_dataset


def make_dataset(count=2500, seed=0):
    """Rows of ids, labels and a mask, with a mean length of 150."""
    ids = draw_rows(count, 300, seed, least=1)
    features = datasets.Features(
        {
            "input_ids": datasets.List(datasets.Value("int32")),
            "labels": datasets.List(datasets.ClassLabel(names=["a", "b", "c"])),
            "completion_mask": datasets.List(datasets.Value("bool")),
            "scores": datasets.List(datasets.List(datasets.Value("float32"), length=2)),
        }
    )
    columns = {
        "input_ids": ids,
        "labels": [row % 3 for row in ids],
        "completion_mask": [row % 2 == 0 for row in ids],
        "scores": [np.stack([row / 2, row / 4], axis=1) for row in ids],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def joined(dataset, packing, column):
    rows = dataset[:][column]
    return [[item for row in pack for item in rows[row]] for pack in packing]


def check_packed(packed, dataset, capacity):
    lengths = [len(row) for row in dataset[:]["input_ids"]]
    packing = tb.pack(lengths, capacity)
    assert packed.num_rows == len(packing)
    for column in dataset.column_names:
        assert packed[:][column] == joined(dataset, packing, column)
    assert packed[:]["seq_lengths"] == packing.seq_lengths.tolist()


def test_dataset_of_several_columns():
    dataset = make_dataset(200)
    before = dataset.to_dict()
    packed = tb.pack_dataset(dataset, 512)
    check_packed(packed, dataset, 512)
    assert packed.features == {
        **dataset.features,
        "seq_lengths": datasets.List(datasets.Value("int32")),
    }
    assert dataset.to_dict() == before


def test_selected_shuffled_and_concatenated_datasets():
    dataset = make_dataset(200)
    for chosen in (
        dataset.select(range(20, 150)),
        dataset.select([5, 5, 180, 0]),
        dataset.shuffle(seed=1),
        dataset.shuffle(seed=1).select(range(7, 50)).filter(lambda row: len(row["labels"]) > 40),
        datasets.concatenate_datasets([dataset.select(range(50)), make_dataset(30, seed=1)]),
    ):
        check_packed(tb.pack_dataset(chosen, 300), chosen, 300)


def told(dataset, capacity, **options):
    """tb.pack_dataset, which warns where something is left out or cut off, and only there."""
    column = dataset.with_format("arrow")[:]["input_ids"]
    packing = tb.pack(tb.lengths(column), capacity, **options)
    if not packing.dropped and not packing.truncated:
        return tb.pack_dataset(dataset, capacity, **options)
    found = f"left out {packing.dropped} rows and cut off {packing.truncated} tokens"
    with pytest.warns(UserWarning, match=found):
        return tb.pack_dataset(dataset, capacity, **options)


def test_options_of_pack():
    dataset = make_dataset(200).select_columns("input_ids")
    lengths = [len(row) for row in dataset[:]["input_ids"]]
    rows = tb.Ragged.from_sequences(dataset[:]["input_ids"], dtype="int32")
    for options in (
        {"overlong": "split"},
        {"overlong": "truncate", "max_segments": 2},
        {"overlong": "drop", "seed": 5},
    ):
        packing = tb.pack(lengths, 128, **options)
        packed = told(dataset, 128, **options)
        assert packed[:]["input_ids"] == packing.apply(rows).tolist()
        assert packed[:]["seq_lengths"] == packing.seq_lengths.tolist()


def test_other_kinds_of_lists():
    features = {
        "large": datasets.LargeList(datasets.Value("int64")),
        "fixed": datasets.List(datasets.Value("uint8"), length=3),
        "half": datasets.List(datasets.Value("float16")),
    }
    rows = np.arange(12).reshape(4, 3)
    dataset = datasets.Dataset.from_dict(
        {name: rows.tolist() for name in features}, features=datasets.Features(features)
    )
    packed = tb.pack_dataset(dataset, 6, seed=None)
    assert packed[:] == {
        **{name: rows.reshape(2, 6).tolist() for name in features},
        "seq_lengths": [[3, 3], [3, 3]],
    }
    kinds = {name: kind.feature.dtype for name, kind in packed.features.items()}
    assert kinds == {"large": "int64", "fixed": "uint8", "half": "float16", "seq_lengths": "int32"}


@pytest.mark.parametrize("kind", [None, "numpy", "torch", "arrow"])
def test_formats_are_kept(kind):
    if kind == "torch":
        pytest.importorskip("torch")
    dataset = make_dataset(50).with_format(kind, columns=["input_ids", "labels"])
    packed = tb.pack_dataset(dataset, 512)
    assert packed.format["type"] == dataset.format["type"]
    assert packed.format["columns"] == ["input_ids", "labels", "seq_lengths"]
    assert packed.column_names == packed.format["columns"]
    plain = tb.pack_dataset(make_dataset(50).select_columns(["input_ids", "labels"]), 512)
    assert packed.with_format(None)[:] == plain[:]


def test_options_of_a_format_are_kept():
    torch = pytest.importorskip("torch")
    dataset = make_dataset(50).with_format("torch", columns=["input_ids"], dtype=torch.int16)
    packed = tb.pack_dataset(dataset, 512)
    assert packed[0]["input_ids"].dtype == torch.int16


def test_empty_datasets():
    dataset = make_dataset(10)
    packed = tb.pack_dataset(dataset.select([]), 100)
    assert packed.num_rows == 0
    assert packed.features == tb.pack_dataset(dataset, 512).features
    empty = dataset.select_columns("input_ids").map(lambda row: {"input_ids": row["input_ids"][:0]})
    packed = tb.pack_dataset(empty, 100)
    assert packed[:] == {"input_ids": [], "seq_lengths": []}


def flat(dataset, column):
    return np.sort(np.concatenate(dataset.with_format("numpy")[:][column]))


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split"])
def test_at_most_as_many_packs_as_trl(strategy):
    """trl packs the rows 1,000 at a time, each thousand with an emptiest pack of its own."""
    dataset = make_dataset(2500).remove_columns(["scores", "completion_mask"])
    overlong = {"bfd": "truncate", "bfd_split": "split"}[strategy]
    for capacity in (256, 2048):
        theirs = trl_data.pack_dataset(dataset, capacity, strategy=strategy)
        ours = told(dataset, capacity, overlong=overlong, **BEST_FIT)
        assert ours.num_rows <= theirs.num_rows
        assert ours.features == theirs.features
        for column in theirs.column_names:
            np.testing.assert_array_equal(flat(ours, column), flat(theirs, column))


def test_packs_of_trls_dataset():
    """Up to their order, where trl packs all rows at once."""
    dataset = make_dataset(900).select_columns(["labels", "input_ids"])
    sides = [
        trl_data.pack_dataset(dataset, 512, strategy="bfd"),
        tb.pack_dataset(dataset, 512, **BEST_FIT),
    ]
    theirs, ours = (sorted(side.to_list(), key=lambda row: row["input_ids"]) for side in sides)
    assert ours == theirs


EMPTY_ROWS = (
    ([[1, 2], [], [3, 4, 5], [6]], 4, None),
    ([[1, 2, 3, 4], []], 4, None),
    ([[], [1], []], 4, None),
    ([[], [], [1, 2], [3]], 4, 1),
    ([[], [], [], [1, 2], [], [3, 4, 5]], 3, 2),
)


@pytest.mark.parametrize(("rows", "capacity", "max_segments"), EMPTY_ROWS)
@pytest.mark.parametrize("seed", [None, 0])
def test_rows_without_tokens_are_in_no_pack(rows, capacity, max_segments, seed):
    dataset = datasets.Dataset.from_dict({"input_ids": rows, "labels": rows})
    packed = tb.pack_dataset(dataset, capacity, max_segments=max_segments, seed=seed)
    parts = [part for pack in packed[:]["seq_lengths"] for part in pack]
    assert sorted(parts) == sorted(len(row) for row in rows if row)
    found = []
    for pack in packed:
        assert pack["seq_lengths"]
        assert len(pack["input_ids"]) == sum(pack["seq_lengths"])
        ends = np.cumsum([0, *pack["seq_lengths"]])
        found += [pack["input_ids"][a:b] for a, b in itertools.pairwise(ends)]
    assert sorted(found) == sorted(row for row in rows if row)
    lengths = [len(row) for row in rows]
    packing = tb.pack(lengths, capacity, max_segments=max_segments, seed=seed)
    assert all(map(all, packing.seq_lengths.tolist()))
    assert packing.seq_lengths.lengths.tolist() == [
        sum(lengths[row] > 0 for row in pack) for pack in packing
    ]


@pytest.mark.parametrize(("rows", "capacity", "max_segments"), EMPTY_ROWS)
def test_trls_collator_keeps_these_packs_apart(rows, capacity, max_segments):
    pytest.importorskip("torch")
    trainer = pytest.importorskip("trl.trainer.sft_trainer")
    theirs = trainer.DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    dataset = datasets.Dataset.from_dict({"input_ids": rows})
    packed = tb.pack_dataset(dataset, capacity, max_segments=max_segments)
    batch, ours = theirs(list(packed)), tb.PaddingFreeCollator()(list(packed))
    for key in ("input_ids", "position_ids", "labels", "seq_idx", "cu_seq_lens_q"):
        assert batch[key].tolist() == ours[key].tolist()
    assert batch["cu_seq_lens_q"].diff().sum() == sum(map(len, rows))
    assert (batch["position_ids"] == 0).sum() == sum(bool(row) for row in rows)


# On to a model


@pytest.mark.parametrize("seed", [None, 3])
def test_positions_begin_anew_with_each_row_of_a_pack(seed):
    dataset = make_dataset(200).select_columns(["input_ids", "labels"])
    packed = tb.pack_dataset(dataset, 512, seed=seed)
    lengths = [len(row) for row in dataset[:]["input_ids"]]
    packing = tb.pack(lengths, 512, seed=seed)
    collate = tb.PaddingFreeCollator(return_tensors="np", return_row_idx=True)
    for begin in range(0, len(packed), 4):
        packs = [packing[k] for k in range(begin, min(begin + 4, len(packed)))]
        rows = [row for pack in packs for row in pack]
        columns = dataset[rows]
        batch = collate([packed[k] for k in range(begin, begin + len(packs))])
        wanted = np.concatenate([np.arange(lengths[row]) for row in rows])
        np.testing.assert_array_equal(batch["position_ids"], [wanted])
        np.testing.assert_array_equal(batch["input_ids"], [np.concatenate(columns["input_ids"])])
        ends = np.cumsum([0, *(lengths[row] for row in rows)])
        np.testing.assert_array_equal(batch["cu_seq_lens_q"], ends)
        labels = np.concatenate(columns["labels"])
        labels[ends[:-1]] = -100
        np.testing.assert_array_equal(batch["labels"], [labels])
        owners = np.repeat(np.arange(len(packs)), [len(pack) for pack in packs])
        np.testing.assert_array_equal(batch["row_idx"], owners)


def test_packs_of_many_rows_through_a_loader():
    """Ragged packs in a RaggedDataset, without a Hugging Face dataset."""
    torch = pytest.importorskip("torch")
    lengths = draw_lengths(500)
    rows = tb.Ragged(np.arange(lengths.sum()), np.concatenate([[0], np.cumsum(lengths)]))
    packing = tb.pack(lengths, 1024)
    data = tb.RaggedDataset({"input_ids": packing.apply(rows), "seq_lengths": packing.seq_lengths})
    loader = torch.utils.data.DataLoader(
        data, batch_size=2, collate_fn=tb.PaddingFreeCollator(naming="flash_attn")
    )
    firsts, sequences = [], 0
    for batch in loader:
        ends = batch["cu_seqlens_q"].tolist()
        assert batch["position_ids"][0, ends[:-1]].tolist() == [0] * (len(ends) - 1)
        firsts += batch["input_ids"][0, ends[:-1]].tolist()
        sequences += len(ends) - 1
    assert sequences == 500
    assert sorted(firsts) == (np.cumsum(lengths) - lengths).tolist()


def test_a_dataset_is_packed_in_windows_as_lengths_are():
    dataset = make_dataset(300)
    lengths = [len(row) for row in dataset["input_ids"]]
    options = {"strategy": "best_fit", "seed": 3, "shuffle_window": 50}
    packed = tb.pack_dataset(dataset, 512, **options)
    assert packed["seq_lengths"][:] == tb.pack(lengths, 512, **options).seq_lengths.tolist()
    with fails(ValueError, "pack_dataset()", "shuffle_window=50", "seed="):
        tb.pack_dataset(dataset, 512, strategy="best_fit", seed=None, shuffle_window=50)
    with fails(ValueError, "pack_dataset()", "shuffle_window=50", "pool_size="):
        tb.pack_dataset(dataset, 512, shuffle_window=50)
    options = {"pool_size": 9, "seed": None}
    packed = tb.pack_dataset(dataset, 512, **options)
    assert packed["seq_lengths"][:] == tb.pack(lengths, 512, **options).seq_lengths.tolist()
