"""RaggedDataset.from_arrow and from_hf: read where it lies, in the order of the source."""

import pickle

import numpy as np
import pytest

import tightbatch as tb
from checks import fails
from test_dataset import assert_rows, in_chunks, make, plain

torch = pytest.importorskip("torch")
pa = pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")

COUNT = 30
DATA = make(COUNT)
FEATURES = datasets.Features(
    {
        "input_ids": datasets.Sequence(datasets.Value("int32")),
        "token_type_ids": datasets.List(datasets.Value("int8")),
        "label": datasets.ClassLabel(names=["short", "long", "odd"]),
        "flag": datasets.Value("bool"),
        "text": datasets.Value("string"),
    }
)


# --- Arrow -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, COUNT])
@pytest.mark.parametrize("cut", [slice(0, COUNT), slice(4, 19), slice(29, 30), slice(9, 9)])
def test_tables_in_chunks_and_slices(size, cut):
    table = in_chunks(pa.table(DATA), size)[cut.start : cut.stop]
    expected = {name: column[cut] for name, column in DATA.items()}
    assert_rows(tb.RaggedDataset.from_arrow(table), expected)
    lengths = tb.lengths(table, "input_ids")
    assert lengths.tolist() == [len(row) for row in expected["input_ids"]]
    reader = table.to_reader(max_chunksize=3)
    assert_rows(tb.RaggedDataset.from_arrow(reader), expected)
    for batch in table.to_batches():
        assert_rows(tb.RaggedDataset.from_arrow(batch), batch.to_pydict())
        assert_rows(tb.RaggedDataset.from_arrow(batch[1:]), batch[1:].to_pydict())


@pytest.mark.parametrize("rechunk", [True, False])
def test_polars_frames(rechunk):
    polars = pytest.importorskip("polars")
    frame = polars.concat([polars.DataFrame(DATA)] * 2, rechunk=rechunk)
    doubled = {name: column * 2 for name, column in DATA.items()}
    assert_rows(tb.RaggedDataset.from_arrow(frame), doubled)
    assert_rows(tb.RaggedDataset.from_arrow(frame[20:50]), doubled, range(20, 50))
    picked = frame.select("text", "input_ids")
    assert_rows(tb.RaggedDataset.from_arrow(picked), {k: doubled[k] for k in ("text", "input_ids")})
    assert tb.lengths(frame, "input_ids").tolist() == [len(r) for r in doubled["input_ids"]]
    kept = frame.filter(polars.col("label") == 2)
    assert_rows(
        tb.RaggedDataset.from_arrow(kept), doubled, [i for i in range(60) if i % COUNT % 3 == 2]
    )


def test_tables_without_rows():
    schema = pa.table(DATA).schema
    for table in (schema.empty_table(), pa.Table.from_batches([], schema)):
        dataset = tb.RaggedDataset.from_arrow(table)
        assert_rows(dataset, {name: [] for name in DATA})
        assert dataset["input_ids"].dtype == np.int64
        assert dataset["flag"].dtype == np.bool_
        assert tb.lengths(table, "input_ids").tolist() == []
        with fails(IndexError, "0"):
            dataset[0]


@pytest.mark.parametrize(
    "names", [["text"], ["label", "input_ids"], ["flag", "flag"], iter(["text", "label"]), []]
)
def test_columns_are_read_in_the_order_asked_for(names):
    names = list(names)
    for dataset in (
        tb.RaggedDataset.from_arrow(pa.table(DATA), columns=iter(names)),
        tb.RaggedDataset.from_hf(datasets.Dataset.from_dict(DATA), columns=iter(names)),
    ):
        assert dataset.column_names == list(dict.fromkeys(names))
        if names:
            assert_rows(dataset, {name: DATA[name] for name in names})
    with fails(KeyError, "RaggedDataset.from_arrow()", "'other'"):
        tb.RaggedDataset.from_arrow(pa.table(DATA), columns=[*names, "other"])
    with fails(KeyError, "RaggedDataset.from_hf()", "'other'"):
        tb.RaggedDataset.from_hf(datasets.Dataset.from_dict(DATA), columns=[*names, "other"])


NULLS = {
    "ids": [[1, None], None, [3], []],
    "vectors": pa.array([[1, 2], None, [3, None], [4, 5]], pa.list_(pa.float32(), 2)),
    "label": [1, 2, None, 0],
    "flag": [None, True, False, None],
    "score": pa.array([None, 1.5, None, 2.5], pa.float32()),
    "text": ["ä", None, "", "😀"],
}


@pytest.mark.parametrize("size", [1, 3, 4])
def test_nulls_are_filled(size):
    dataset = tb.RaggedDataset.from_arrow(in_chunks(pa.table(NULLS), size), fill_null=1)
    assert [plain(sample) for sample in dataset] == [
        {"ids": [1, 1], "vectors": [1, 2], "label": 1, "flag": True, "score": 1, "text": "ä"},
        {"ids": [], "vectors": [], "label": 2, "flag": True, "score": 1.5, "text": None},
        {"ids": [3], "vectors": [3, 1], "label": 1, "flag": False, "score": 1, "text": ""},
        {"ids": [], "vectors": [4, 5], "label": 0, "flag": True, "score": 2.5, "text": "😀"},
    ]
    assert dataset["score"].dtype == np.float32
    assert dataset["label"].dtype == np.int64
    hf = datasets.Dataset(datasets.table.InMemoryTable(in_chunks(pa.table(NULLS), size)))
    same = tb.RaggedDataset.from_hf(hf.select([3, 0, 1]), fill_null=1)
    same = pickle.loads(pickle.dumps(same))
    assert [plain(sample) for sample in same] == [plain(dataset[i]) for i in (3, 0, 1)]


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize(
    ("name", "row"), [("ids", 0), ("vectors", 1), ("label", 2), ("flag", 0), ("score", 0)]
)
def test_nulls_are_refused_by_place(size, name, row):
    table = in_chunks(pa.table({name: NULLS[name]}), size)
    if name == "ids":  # of lists a null list is told before a null in one
        with fails(ValueError, "'ids'", "row 1", "fill_null="):
            tb.RaggedDataset.from_arrow(table)
        with fails(ValueError, "'ids'", "row 0, column 1", "fill_null="):
            tb.RaggedDataset.from_arrow(table[:1])
        assert_rows(tb.RaggedDataset.from_arrow(table[2:]), {"ids": NULLS["ids"][2:]})
        with fails(ValueError, "lengths()", "'ids'", "row 1"):
            tb.lengths(table, "ids")
        return
    with fails(ValueError, f"'{name}'", f"row {row}", "fill_null="):
        tb.RaggedDataset.from_arrow(table)


@pytest.mark.parametrize(
    ("column", "fill"),
    [
        (pa.array([None, 1], pa.uint8()), -1),
        (pa.array([None, [1]], pa.list_(pa.int8())), None),
        (pa.array([[None], [1]], pa.list_(pa.int8())), 200),
        (pa.array([[None], [1]], pa.list_(pa.int8())), 0.5),
        (pa.array([None, 1], pa.int64()), "x"),
    ],
    ids=str,
)
def test_a_fill_that_the_type_does_not_hold(column, fill):
    with fails((TypeError, ValueError, OverflowError), "'x'"):
        tb.RaggedDataset.from_arrow(pa.table({"x": column}), fill_null=fill)


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pa.array([1], pa.date32()), "dates"),
        (pa.array([1], pa.timestamp("s")), "dates"),
        (pa.array([1], pa.decimal128(5)), "decimals"),
        (pa.array([{"a": 1}]), "structs"),
        (pa.array(["a"]).dictionary_encode(), "dictionary"),
        (pa.array([["a"]]), "lists"),
        (pa.array([[[1], [2, 3]]]), "lists of lists"),
        (pa.array([[{"a": 1}]]), "lists"),
        (pa.array([None]), "nulls"),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())), "type"),
    ],
    ids=str,
)
def test_other_types_are_named_and_can_be_left_out(column, told):
    table = pa.table({"n": [1], "x": column})
    with fails(TypeError, "RaggedDataset.from_arrow()", "column 'x'", told):
        tb.RaggedDataset.from_arrow(table)
    with fails(TypeError, "column 'x'", told):
        tb.RaggedDataset.from_arrow(table, columns=["x"])
    assert_rows(tb.RaggedDataset.from_arrow(table, columns=["n"]), {"n": [1]})


def test_what_is_no_table_is_refused():
    for source in ([1], {"a": [1]}, None, np.zeros(3), "table", pa.array([[1]]), pa.schema([])):
        with fails(TypeError, "RaggedDataset.from_arrow()"):
            tb.RaggedDataset.from_arrow(source)
    with fails(ValueError, "'a'"):
        tb.RaggedDataset.from_arrow(pa.table([[1], [2]], names=["a", "a"]))


def test_a_table_is_a_batch():
    """What a dataset in arrow format gives a collate_fn."""
    table = in_chunks(pa.table(DATA), 8)[3:25]
    dataset = tb.RaggedDataset.from_arrow(table)
    for source in (table, table.combine_chunks().to_batches()[0]):
        batch = tb.PadCollator(return_lengths=True)(source)
        expected = tb.PadCollator(return_lengths=True)(dataset.__getitems__(list(range(22))))
        assert list(batch) == list(expected)
        assert batch["text"] == expected["text"] == DATA["text"][3:25]
        for key in set(batch) - {"text"}:
            assert batch[key].dtype == expected[key].dtype
            assert torch.equal(batch[key], expected[key])
    with fails(ValueError, "PadCollator()", "empty batch"):
        tb.PadCollator()(table[:0])
    with fails(ValueError, "PadCollator()", "'x'", "row 1"):
        tb.PadCollator()(pa.table({"x": [[1], None]}))


# --- Hugging Face ------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "disk", "shards"])
def hf(request, tmp_path):
    dataset = datasets.Dataset.from_dict(DATA, features=FEATURES)
    if request.param != "memory":
        dataset.save_to_disk(tmp_path / "set", num_shards=4 if request.param == "shards" else 1)
        dataset = datasets.load_from_disk(tmp_path / "set")
        assert dataset.cache_files
    return dataset


def glued(dataset):
    return datasets.concatenate_datasets(
        [dataset.select([5, 3]), dataset, datasets.Dataset.from_dict(DATA, features=FEATURES)]
    )


WAYS = {
    "as it is": lambda d: d,
    "range": lambda d: d.select(range(4, 17)),
    "select": lambda d: d.select([7, 7, 0, 29, 3]),
    "select twice": lambda d: d.select(range(29, 2, -2)).select([3, 1, 1]),
    "one": lambda d: d.select([11]),
    "none": lambda d: d.select([]),
    "shuffle": lambda d: d.shuffle(seed=4),
    "sort": lambda d: d.sort("label", reverse=True),
    "filter": lambda d: d.filter(lambda row: len(row["input_ids"]) > 3),
    "filter all": lambda d: d.filter(lambda row: False),
    "train": lambda d: d.train_test_split(test_size=7, seed=1)["train"],
    "test": lambda d: d.train_test_split(test_size=7, seed=1)["test"].shuffle(seed=0),
    "shard": lambda d: d.shard(3, 1),
    "contiguous shard": lambda d: d.shard(4, 2, contiguous=True),
    "concatenate": glued,
    "concatenate, shuffle": lambda d: glued(d).shuffle(seed=2),
    "concatenate parts": lambda d: datasets.concatenate_datasets(
        [d.shuffle(seed=1).select(range(5)), d.select([2, 1])]
    ),
    "side by side": lambda d: datasets.concatenate_datasets(
        [d.select_columns(["input_ids"]), d.select_columns(["text", "label"])], axis=1
    ),
    "flatten_indices": lambda d: d.shuffle(seed=5).flatten_indices().select(range(9)),
    "map": lambda d: d.map(lambda row: {"n": len(row["input_ids"])}).select([4, 2]),
    "skip, take": lambda d: d.skip(5).take(9),
    "rename": lambda d: d.rename_column("label", "labels").remove_columns("flag"),
    "format": lambda d: d.shuffle(seed=3).with_format("torch"),
    "repeat": lambda d: d.select([2, 0]).repeat(3),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_rows_of_a_hugging_face_dataset_in_its_order(hf, way):
    changed = WAYS[way](hf)
    expected = changed.with_format(None)
    expected = {name: list(expected[name]) for name in expected.column_names}
    dataset = tb.RaggedDataset.from_hf(changed)
    assert_rows(dataset, expected)
    assert tb.lengths(changed, "input_ids").tolist() == [len(r) for r in expected["input_ids"]]
    assert dataset["input_ids"].dtype == np.int32
    if len(dataset):  # datasets does not unpickle an empty part of several files
        again = pickle.loads(pickle.dumps(dataset))
        assert_rows(again, expected)
        assert again["input_ids"] == dataset["input_ids"]
        last = len(dataset) - 1
        batch = tb.PadCollator()(again.__getitems__([last, 0, last]))
        samples = [changed.with_format("numpy")[i] for i in (last, 0, last)]
        padded = tb.PadCollator()([{"input_ids": s["input_ids"]} for s in samples])
        assert torch.equal(batch["input_ids"], padded["input_ids"].to(torch.int32))


@pytest.mark.parametrize("kind", ["numpy", "torch", "pandas", "arrow", "python", "polars"])
def test_the_columns_of_a_format_are_those_read(hf, kind):
    pytest.importorskip(kind if kind in ("pandas", "polars") else "numpy")
    names = ["input_ids", "label"]
    hf.set_format(kind if kind != "python" else None, columns=names)
    dataset = tb.RaggedDataset.from_hf(hf)
    assert_rows(dataset, {name: DATA[name] for name in names})
    other = tb.RaggedDataset.from_hf(hf, columns=["text"])
    assert_rows(pickle.loads(pickle.dumps(other)), {"text": DATA["text"]})
    assert tb.lengths(hf, "token_type_ids").tolist() == [len(r) for r in DATA["token_type_ids"]]
    hf.reset_format()
    assert tb.RaggedDataset.from_hf(hf).column_names == list(DATA)


def test_what_from_hf_refuses(hf):
    with fails(ValueError, "RaggedDataset.from_hf()", "transform"):
        tb.RaggedDataset.from_hf(hf.with_transform(lambda rows: rows))
    split = datasets.DatasetDict({"train": hf})
    others = (split, hf.to_iterable_dataset(), [1], DATA, pa.table(DATA), None)
    for other in others:
        with fails(TypeError, "RaggedDataset.from_hf()", type(other).__name__):
            tb.RaggedDataset.from_hf(other)
    with fails(TypeError, "lengths()", "DatasetDict"):
        tb.lengths(split, "input_ids")
    with fails(KeyError, "'other'"):
        tb.lengths(hf, "other")
    with fails(TypeError, "'label'"):
        tb.lengths(hf, "label")
    features = datasets.Features({"n": datasets.Value("int8"), "s": {"a": datasets.Value("int8")}})
    structs = datasets.Dataset.from_dict({"n": [1], "s": [{"a": 1}]}, features=features)
    with fails(TypeError, "RaggedDataset.from_hf()", "'s'", "structs"):
        tb.RaggedDataset.from_hf(structs)
    assert_rows(tb.RaggedDataset.from_hf(structs, columns=["n"]), {"n": [1]})


def test_features_of_every_kind():
    features = datasets.Features(
        {
            "half": datasets.Sequence(datasets.Value("float16")),
            "fixed": datasets.Sequence(datasets.Value("uint8"), length=3),
            "large": datasets.LargeList(datasets.Value("int64")),
            "bools": datasets.Sequence(datasets.Value("bool")),
            "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B"])),
            "string": datasets.Value("large_string"),
            "class": datasets.ClassLabel(names=["x", "y"]),
            "double": datasets.Value("float64"),
        }
    )
    data = {
        "half": [[0.5], [], [1.5, 2.5]],
        "fixed": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        "large": [[2**40], [1, 2], []],
        "bools": [[True, False], [], [True]],
        "tags": [[0, 1], [1], []],
        "string": ["ä", None, ""],
        "class": [1, 0, 1],
        "double": [0.1, 2.0, -0.0],
    }
    source = datasets.Dataset.from_dict(data, features=features)
    dataset = tb.RaggedDataset.from_hf(source.select([2, 0, 1]))
    assert_rows(dataset, data, [2, 0, 1])
    names = ["half", "fixed", "large", "bools", "tags"]
    kinds = [dataset[name].dtype.name for name in names]
    assert kinds == ["float16", "uint8", "int64", "bool", "int64"]
    empty = datasets.Dataset.from_dict({name: [] for name in data}, features=features)
    assert_rows(tb.RaggedDataset.from_hf(empty), {name: [] for name in data})
    assert tb.lengths(empty, "large").tolist() == []


def test_nothing_is_copied_from_a_file(tmp_path):
    datasets.Dataset.from_dict(DATA, features=FEATURES).save_to_disk(tmp_path / "set")
    hf = datasets.load_from_disk(tmp_path / "set").shuffle(seed=0)
    values = [chunk.values.to_numpy() for chunk in hf.data.column("input_ids").chunks]
    dataset = tb.RaggedDataset.from_hf(hf)
    for part in (dataset, dataset[5:20], dataset[[3, 1]]):
        for row in part["input_ids"]:
            assert len(row) == 0 or any(np.shares_memory(row, chunk) for chunk in values)
    whole = datasets.load_from_disk(tmp_path / "set")
    labels = whole.data.column("label").chunk(0).to_numpy()
    assert np.shares_memory(tb.RaggedDataset.from_hf(whole)["label"], labels)
    copied = tb.RaggedDataset.from_hf(hf.flatten_indices())
    assert copied["input_ids"].tolist() == dataset["input_ids"].tolist()


def test_pickling_opens_the_files_again(tmp_path):
    big = datasets.Dataset.from_dict(make(20_000), features=FEATURES)
    big.save_to_disk(tmp_path / "set", num_shards=2)
    hf = datasets.load_from_disk(tmp_path / "set")
    dataset = tb.RaggedDataset.from_hf(hf)
    stored = pickle.dumps(dataset)
    assert len(stored) < 20_000
    again = pickle.loads(stored)
    assert [plain(again[i]) for i in (0, 9_999, -1)] == [hf[i] for i in (0, 9_999, 19_999)]
    assert len(pickle.dumps(dataset[:10])) < 20_000
    filtered = tb.RaggedDataset.from_hf(hf.shuffle(seed=1), columns=["input_ids"])
    assert len(pickle.dumps(filtered)) < 20_000
    again = pickle.loads(pickle.dumps(filtered))
    assert again["input_ids"] == filtered["input_ids"]
    assert again.column_names == ["input_ids"]


def test_rows_that_the_dataset_left_out_may_be_null():
    data = {"input_ids": [[1, 2], None, [3], [4]], "label": [0, 1, None, 2], "text": ["a"] * 4}
    hf = datasets.Dataset.from_dict(data)
    kept = hf.select([3, 0])
    assert tb.RaggedDataset.from_hf(kept)["input_ids"].tolist() == [[4], [1, 2]]
    assert tb.lengths(kept, "input_ids").tolist() == [1, 2]
    with fails(ValueError, "'input_ids'", "row 1"):  # of the selection
        tb.RaggedDataset.from_hf(hf.select([0, 1]))
    with fails(ValueError, "'label'", "row 0"):
        tb.RaggedDataset.from_hf(hf.select([2]))


def test_a_map_in_fortran_order_stays_what_it_is(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(np.arange(12).reshape(3, 4)))
    dataset = tb.RaggedDataset({"x": np.load(tmp_path / "f.npy", mmap_mode="r")})
    again = pickle.loads(pickle.dumps(dataset))
    assert again["x"].tolist() == dataset["x"].tolist() == np.arange(12).reshape(3, 4).tolist()


class One:
    """What is no int, and says which it stands for."""

    def __index__(self):
        return 1


@pytest.mark.parametrize("of", ["Ragged", "dataset", "samples", "text", "strings"])
def test_one_index_is_read_alike_by_all_that_have_rows(of):
    given = tb.RaggedDataset({"ids": [[1, 2], [3]], "text": ["a", "b"]})
    read = tb.RaggedDataset.from_arrow(pa.table({"text": ["a", "b"]}))
    rows = {
        "Ragged": given["ids"],
        "dataset": given,
        "samples": given.__getitems__([0, 1]),
        "text": read["text"],
        "strings": given["text"],
    }[of]
    name = {"Ragged": "Ragged()", "samples": "Samples()"}.get(of, "RaggedDataset()")
    expected = repr(rows[1])
    for one in (One(), np.int64(1), np.array(1), -1, np.int8(-1)):
        assert repr(rows[one]) == expected
    for wrong in (True, False, np.True_, np.array(True), 1.0, None):
        with fails(TypeError, name):
            rows[wrong]
    for outside in (2, -3, 2**70, np.int64(2)):
        with fails(IndexError, name, "index", "-2 to 1"):
            rows[outside]
    for wrong in (slice("a", None), slice(1.0, None), slice(True, None)):
        with fails(TypeError, name, "index", "slice"):
            rows[wrong]
    with fails(ValueError, name, "index", "step"):
        rows[::0]
    assert len(rows[: 10**30]) == 2
