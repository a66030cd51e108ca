"""RaggedDataset over lists, arrays, Arrow tables and Hugging Face datasets: the same rows."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb
from checks import fails

torch = pytest.importorskip("torch")
pa = pytest.importorskip("pyarrow")

WORDS = "ein Wort Ωmega 語 😀 naïve  end".split(" ")


def make(count):
    """Columns of a row for each i: lists, numbers of three kinds, and text with gaps."""
    return {
        "input_ids": [[i * 10 + j for j in range(i * 3 % 7)] for i in range(count)],
        "token_type_ids": [[j % 2 for j in range(i * 3 % 7)] for i in range(count)],
        "label": [i % 3 for i in range(count)],
        "flag": [i % 2 == 0 for i in range(count)],
        "text": [None if i % 5 == 4 else WORDS[i % len(WORDS)] for i in range(count)],
    }


DATA = make(23)


def in_chunks(table, size):
    """The same table in many chunks, each a slice into memory that holds more."""
    return pa.concat_tables([table[i : i + size] for i in range(0, len(table), size)])


def from_polars(data):
    return tb.RaggedDataset.from_arrow(pytest.importorskip("polars").DataFrame(data))


def from_datasets(data):
    datasets = pytest.importorskip("datasets")
    table = pa.table(data)  # from_dict would make input_ids int32
    return tb.RaggedDataset.from_hf(datasets.Dataset(datasets.table.InMemoryTable(table)))


SOURCES = {
    "lists": tb.RaggedDataset,
    "table": lambda data: tb.RaggedDataset.from_arrow(pa.table(data)),
    "chunks": lambda data: tb.RaggedDataset.from_arrow(in_chunks(pa.table(data), 4)),
    "batch": lambda data: tb.RaggedDataset.from_arrow(pa.RecordBatch.from_pydict(data)),
    "polars": from_polars,
    "datasets": from_datasets,
}
ALL_SOURCES = pytest.mark.parametrize("source", SOURCES)


def plain(sample):
    """A sample with its rows as lists, to compare with ==; and with its types."""
    return {
        name: value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        for name, value in sample.items()
    }


def assert_rows(dataset, data, order=None):
    """Each sample is that row of the plain columns, with numbers of the column's type in it."""
    count = len(next(iter(data.values()), []))
    order = range(count) if order is None else order
    assert len(dataset) == len(order)
    assert dataset.column_names == list(data)
    for i, row in enumerate(order):
        sample, expected = plain(dataset[i]), {name: data[name][row] for name in data}
        assert sample == expected
        assert [type(v) for v in sample.values()] == [type(v) for v in expected.values()]


def assert_batch(a, b):
    assert type(a) is type(b)
    assert list(a) == list(b)
    for key, value in b.items():
        if isinstance(value, torch.Tensor):
            assert a[key].dtype == value.dtype, key
            assert torch.equal(a[key], value), key
        else:
            assert isinstance(a[key], list), key
            assert a[key] == value, key


@ALL_SOURCES
def test_samples_are_the_rows(source):
    dataset = SOURCES[source](DATA)
    assert_rows(dataset, DATA)
    assert "23 rows" in repr(dataset)
    assert "text: text" in repr(dataset)
    assert "input_ids: rows of int64" in repr(dataset)
    for i in (-1, -23, np.int64(7), np.int8(-2), np.uint16(22)):
        assert plain(dataset[i]) == {name: column[int(i)] for name, column in DATA.items()}
    for i in (23, -24, np.int64(99)):
        with fails(IndexError, i, 23):
            dataset[i]
    assert [plain(sample) for sample in dataset] == [plain(dataset[i]) for i in range(23)]


@ALL_SOURCES
@pytest.mark.parametrize(
    "index",
    [
        slice(None),
        slice(5, 11),
        slice(None, None, -1),
        slice(20, 3, -4),
        slice(7, 7),
        slice(-3, 99),
        [3, 3, -1, 0],
        (2, 1),
        [],
        np.array([22, 0, -23]),
        np.array([1, 2], np.uint8),
        torch.tensor([4, 4, 1]),
        np.arange(23) % 3 == 1,
        np.zeros(23, bool),
        torch.arange(23) > 20,
    ],
    ids=lambda index: str(index).replace("\n", "")[:24],
)
def test_parts_are_datasets_of_these_rows(source, index):
    dataset = SOURCES[source](DATA)
    kind = np.asarray(index) if not isinstance(index, slice) else index
    order = np.arange(23)[kind if np.size(kind) else np.zeros(0, int)].tolist()
    part = dataset[index]
    assert type(part) is tb.RaggedDataset
    assert_rows(part, DATA, order)
    assert_rows(part[::-1], DATA, order[::-1])
    assert_rows(dataset, DATA)


@ALL_SOURCES
def test_columns_by_name(source):
    dataset = SOURCES[source](DATA)
    assert dataset["input_ids"].tolist() == DATA["input_ids"]
    assert type(dataset["input_ids"]) is tb.Ragged
    assert list(dataset["label"]) == DATA["label"]
    assert list(dataset["flag"]) == DATA["flag"]
    assert list(dataset["text"]) == DATA["text"]
    assert len(dataset["text"]) == 23
    with fails(KeyError, "'tokens'", "'input_ids'"):
        dataset["tokens"]


@ALL_SOURCES
def test_lengths_of_a_column(source):
    dataset = SOURCES[source](DATA)
    lengths = tb.lengths(dataset, "input_ids")
    assert lengths.dtype == np.int64
    assert lengths.tolist() == [len(row) for row in DATA["input_ids"]]
    lengths[:] = -1  # a copy
    assert tb.lengths(dataset, column="input_ids").min() == 0
    assert tb.lengths(dataset[::-2], "input_ids").tolist() == [
        len(row) for row in DATA["input_ids"][::-2]
    ]
    with fails(TypeError, "lengths()", "'label'"):
        tb.lengths(dataset, "label")
    with fails(TypeError, "lengths()", "'text'"):
        tb.lengths(dataset, "text")
    with fails(KeyError, "'tokens'"):
        tb.lengths(dataset, "tokens")


@ALL_SOURCES
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention_mask": False},
        {"return_lengths": True, "padding_side": "left"},
        {"padding_value": {"input_ids": 9, "token_type_ids": 3}, "pad_to_multiple_of": 4},
        {"max_length": 3, "truncation_side": "left", "width": 5},
        {"dtype": {"input_ids": "int16", "label": torch.float32, "flag": "int8"}},
    ],
    ids=repr,
)
def test_a_batch_is_that_of_its_samples(source, options):
    collate, dataset = tb.PadCollator(**options), SOURCES[source](DATA)
    for batch in ([2, 5, 2, 22], [4], list(range(23)), [0, 7, 14]):
        samples = dataset.__getitems__(batch)
        assert len(samples) == len(batch)
        expected = collate([{name: DATA[name][i] for name in DATA} for i in batch])
        assert_batch(collate(samples), expected)
        assert_batch(collate([dataset[i] for i in batch]), expected)
        assert_batch(collate(list(samples)), expected)
        assert_batch(collate(samples[1:] + samples[:1]), collate([*samples[1:], samples[0]]))
    assert expected["text"] == [DATA["text"][i] for i in batch]


@pytest.mark.parametrize("dtype", ["int32", "float64", "bool"])
def test_a_column_of_numbers_has_one_type_however_it_is_asked_for(dtype):
    """A Trainer that drops columns looks at samples; a DataLoader does not. Both train alike."""
    rows = [np.arange(n).astype(dtype) for n in (2, 0, 3)]
    dataset = tb.RaggedDataset({"rows": rows, "number": np.array([0, 1, 1], dtype)})
    collate = tb.PadCollator({"rows": 0})
    whole = collate(dataset.__getitems__([0, 2]))
    single = collate([dataset[0], dataset[2]])
    assert whole["rows"].dtype == single["rows"].dtype == getattr(torch, dtype)
    assert whole["number"].tolist() == single["number"].tolist() == [0, 1]
    assert whole["number"].dtype == single["number"].dtype


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    size=st.integers(1, 7),
    view=st.data(),
)
def test_chunks_and_choices_in_any_order(lengths, size, view):
    rows = [list(range(i, i + n)) for i, n in enumerate(lengths)]
    ids = pa.array(rows, pa.list_(pa.int64()))
    table = in_chunks(
        pa.table({"input_ids": ids, "n": lengths, "text": list(map(str, rows))}), size
    )
    order = view.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=12))
    again = view.draw(st.lists(st.integers(-len(order), len(order) - 1), min_size=1, max_size=12))
    dataset = tb.RaggedDataset.from_arrow(table)[order]
    batch = tb.PadCollator(return_tensors="np", return_lengths=True)(dataset.__getitems__(again))
    expected = [rows[order[i]] for i in again]
    assert batch["lengths"].tolist() == batch["n"].tolist() == [len(row) for row in expected]
    assert batch["text"] == [str(row) for row in expected]
    np.testing.assert_array_equal(batch["input_ids"], tb.pad(expected, dtype="int64"))
    assert tb.lengths(dataset, "input_ids").tolist() == [lengths[i] for i in order]


# --- the constructor ---------------------------------------------------------------------------


def ragged():
    return tb.Ragged.from_sequences([[1, 2], [], [3]])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (ragged(), [[1, 2], [], [3]]),
        (ragged()[[2, 0, 1]], [[3], [1, 2], []]),
        (pa.array([[1, 2], [], [3]], pa.list_(pa.int16())), [[1, 2], [], [3]]),
        (pa.chunked_array([[[1, 2], []], [[3]]]), [[1, 2], [], [3]]),
        (np.array([5, 6, 7]), [5, 6, 7]),
        (np.array([5, 6, 7])[::-1], [7, 6, 5]),
        (np.arange(6, dtype=np.float32).reshape(3, 2), [[0, 1], [2, 3], [4, 5]]),
        (np.arange(6).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]]),
        (np.zeros((3, 2, 2), bool), [[[False] * 2] * 2] * 3),
        (torch.tensor([1.5, 2.5, 3.5]), [1.5, 2.5, 3.5]),
        (torch.arange(6).reshape(3, 2), [[0, 1], [2, 3], [4, 5]]),
        (torch.tensor([1.0, 2, 3], requires_grad=True).detach(), [1, 2, 3]),
        ([[1, 2], [], (3,)], [[1, 2], [], [3]]),
        (([1.5], [2.5], [3.5]), [[1.5], [2.5], [3.5]]),
        ([np.arange(2), np.arange(0), np.arange(1)], [[0, 1], [], [0]]),
        ([torch.arange(2), torch.arange(0), torch.arange(1)], [[0, 1], [], [0]]),
        ([np.ones((1, 2)), np.ones((0, 2)), np.ones((2, 2))], [[[1, 1]], [], [[1, 1], [1, 1]]]),
        ((row for row in ([1], [2], [3])), [[1], [2], [3]]),
        (range(3), [0, 1, 2]),
        ([3, 2, 1], [3, 2, 1]),
        ([0.5, 1.5, 2], [0.5, 1.5, 2]),
        ([True, False, True], [True, False, True]),
        ([np.int16(1), np.int16(2), np.int16(3)], [1, 2, 3]),
        ([torch.tensor(1), torch.tensor(2), torch.tensor(3)], [1, 2, 3]),
        (["a", None, "語"], ["a", None, "語"]),
        ([None, "", "b"], [None, "", "b"]),
        ([None, None, None], [None, None, None]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_columns_of_every_kind(column, expected):
    dataset = tb.RaggedDataset({"x": column, "i": [0, 1, 2]})
    values = [dataset[i]["x"] for i in range(3)]
    assert [v.tolist() if isinstance(v, np.ndarray) else v for v in values] == expected
    chosen = dataset.__getitems__([2, 0])
    assert [plain(sample)["x"] for sample in chosen] == [expected[2], expected[0]]
    assert plain(dataset[1:][0])["x"] == expected[1]
    batch = tb.PadCollator({"x": 0}, return_tensors="np")(chosen)
    assert list(batch)[:2] == ["x", "i"]
    if isinstance(expected[1], list):
        array = tb.PadCollator(return_tensors="np")([dataset[2]["x"], dataset[0]["x"]])
        np.testing.assert_array_equal(batch["x"], array)
    else:
        assert list(batch["x"]) == [expected[2], expected[0]]


def test_arrays_and_ragged_are_not_copied():
    ids, table = np.arange(6).reshape(3, 2), pa.table({"x": [[1, 2], [3]], "y": [1.5, 2.5]})
    dataset = tb.RaggedDataset({"ids": ids, "rows": tb.Ragged(ids.ravel(), [0, 1, 1, 6])})
    assert np.shares_memory(dataset[1]["ids"], ids)
    assert np.shares_memory(dataset[2]["rows"], ids)
    assert np.shares_memory(dataset[1:][1]["rows"], ids)
    lists = table["x"].chunk(0).values.to_numpy()
    dataset = tb.RaggedDataset.from_arrow(table)
    assert np.shares_memory(dataset[0]["x"], lists)
    assert np.shares_memory(dataset[[1]][0]["x"], lists)
    assert np.shares_memory(dataset["y"], table["y"].chunk(0).to_numpy())
    del table
    assert dataset[0]["x"].tolist() == [1, 2]  # the Arrow memory lives on


def test_an_empty_dataset():
    assert len(tb.RaggedDataset({})) == 0
    for dataset in (tb.RaggedDataset({"x": [], "y": np.zeros(0)}), tb.RaggedDataset(DATA)[:0]):
        assert len(dataset) == len(dataset.__getitems__([])) == 0
        assert list(dataset) == []
        with fails(ValueError, "PadCollator()", "empty batch"):
            tb.PadCollator()(dataset.__getitems__([]))
        with fails(IndexError, "2"):
            dataset.__getitems__([2])


def test_unequal_counts_name_the_column():
    with fails(ValueError, "RaggedDataset()", "'y'", "2 rows", "3", "'x'"):
        tb.RaggedDataset({"x": [[1], [2], [3]], "same": [1, 2, 3], "y": [1, 2]})


@pytest.mark.parametrize(
    ("column", "row"),
    [
        (["a", "b", 3], 2),
        ([None, None, b"c"], 0),
        ([1, 2, "c"], 2),
        ([1, None, 3], 1),
        ([None, 1, 2], 0),
        ([1, 2.5, [3]], 2),
        ([[1], 2, [3]], 1),
        ([[1], [2], None], 2),
        ([[1], [2, "b"], [3]], 1),
        ([[1], [[2]], [3]], 1),
        ([{}, {}, {}], 0),
        ([len, len, len], 0),
    ],
    ids=str,
)
def test_mixed_types_name_column_and_row(column, row):
    with fails(TypeError, "RaggedDataset()", "key 'x'", f"row {row}"):
        tb.RaggedDataset({"ok": [1, 2, 3], "x": column})


@pytest.mark.parametrize(
    "column",
    [
        3,
        None,
        "abc",
        b"abc",
        np.array(3),
        np.array(["2020-01-01"], "M8[D]"),
        pa.array([["a"], ["b"]]),
        pa.array([{"a": 1}]),
        torch.tensor(3),
        torch.tensor([1.5j]),
    ],
    ids=lambda column: f"{type(column).__name__}-{str(column).split()[0][:9]}",
)
def test_what_is_no_column_is_refused_by_name(column):
    with fails(TypeError, "'x'"):
        tb.RaggedDataset({"x": column})


def test_an_array_of_strings_is_text_or_refused():
    try:
        dataset = tb.RaggedDataset({"ids": [[1], [2]], "t": np.array(["ab", "c"])})
    except TypeError as error:
        assert "'t'" in str(error)  # noqa: PT017
        return
    text = tb.PadCollator()(dataset.__getitems__([1, 0]))["t"]
    assert isinstance(text, list)
    assert text == ["c", "ab"]


def test_a_list_of_bools_is_a_mask_or_refused():
    dataset = tb.RaggedDataset({"x": [5, 6, 7]})
    try:
        part = dataset[[True, False, True]]
    except (TypeError, IndexError):
        return
    assert part["x"].tolist() == [5, 7]


@pytest.mark.parametrize("index", [True, 1.0, None, "x1", b"x", [0.5], ["x"], [[0]], {}])
def test_what_is_no_index_is_refused(index):
    with pytest.raises((TypeError, KeyError, IndexError)):
        tb.RaggedDataset({"x": [5, 6]})[index]
    with fails(IndexError, "(3,)", "(2,)"):
        tb.RaggedDataset({"x": [5, 6]})[np.array([True, False, True])]


def test_rows_of_an_array_have_lengths():
    dataset = tb.RaggedDataset({"x": np.zeros((2, 3))})
    assert tb.lengths(dataset, "x").tolist() == [3, 3]
    ragged = np.empty(2, object)  # a column of a batch of Ray's
    ragged[:] = [np.arange(3), np.arange(2)]
    assert tb.lengths({"x": ragged, "label": np.arange(2)}, "x").tolist() == [3, 2]


# --- pickling ----------------------------------------------------------------------------------


@ALL_SOURCES
def test_pickling_keeps_every_row(source):
    for part in (SOURCES[source](DATA), SOURCES[source](DATA)[5:9]):
        again = pickle.loads(pickle.dumps(part))
        assert type(again) is tb.RaggedDataset
        assert_rows(again, {name: [plain(s)[name] for s in part] for name in DATA})


def test_pickling_copies_the_rows_of_a_table_and_no_others():
    table = pa.table(make(20_000))
    whole = tb.RaggedDataset.from_arrow(table)
    assert len(pickle.dumps(whole[9_000:9_010])) < 4_000
    assert len(pickle.dumps(whole[[19_999, 3, 3]])) < 4_000
    assert len(pickle.dumps(tb.RaggedDataset.from_arrow(table[50:60]))) < 4_000
    again = pickle.loads(pickle.dumps(whole[[19_999, 3]]))
    assert [plain(s) for s in again] == [plain(whole[19_999]), plain(whole[3])]


@pytest.mark.parametrize("trailing", [(), (4,)])
def test_pickling_stores_the_place_of_a_memory_map(tmp_path, trailing):
    np.arange(40_000).tofile(tmp_path / "numbers")
    mapped = np.memmap(tmp_path / "numbers", np.int64, "r").reshape(-1, *trailing)
    dataset = tb.RaggedDataset(
        {"x": np.memmap(tmp_path / "numbers", np.int64, "r", 0, mapped.shape)}
    )
    again = pickle.loads(stored := pickle.dumps(dataset))
    assert np.array_equal(again["x"], mapped)
    assert len(stored) < 2_000
    rows = tb.RaggedDataset(
        {"x": tb.Ragged(np.memmap(tmp_path / "numbers", np.int64, "r"), [0, 7])}
    )
    assert len(pickle.dumps(rows)) < 2_000
    assert pickle.loads(pickle.dumps(rows))[0]["x"].tolist() == list(range(7))


@pytest.mark.parametrize("index", [slice(0, 0), [0], [1, 0]])
def test_no_warning_on_the_way(index):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = tb.RaggedDataset.from_arrow(pa.table(DATA))[index]
        pickle.loads(pickle.dumps(dataset))
        if len(dataset):
            tb.PadCollator()(dataset.__getitems__([0]))


def samples_of(columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_samples_become_columns():
    names = ("input_ids", "label", "text")
    columns = {name: DATA[name] for name in names}
    expected = tb.RaggedDataset(columns)
    samples = samples_of(columns)
    for source in (samples, tuple(samples), iter(samples), map(dict, samples)):
        dataset = tb.RaggedDataset(source)
        assert dataset.column_names == list(names)
        assert all(list(dataset[name]) == list(expected[name]) for name in names[1:])
        assert dataset["input_ids"] == expected["input_ids"]
    assert len(tb.RaggedDataset([])) == 0
    with fails(ValueError, "RaggedDataset()", "row 1", "'b'"):
        tb.RaggedDataset([{"a": [1], "b": 2}, {"a": [1]}])


def test_a_batch_encoding_is_columns():
    encoding = pytest.importorskip("transformers").BatchEncoding
    data = {"input_ids": [[1, 2, 3], [4]], "attention_mask": [[1, 1, 1], [1]]}
    dataset = tb.RaggedDataset(encoding(data))
    assert {name: dataset[name].tolist() for name in dataset.column_names} == data
    assert tb.lengths(encoding(data), column="input_ids").tolist() == [3, 1]
    rows = [encoding({"input_ids": row}) for row in data["input_ids"]]
    assert tb.RaggedDataset(rows)["input_ids"].tolist() == data["input_ids"]
    assert tb.lengths(rows, column="input_ids").tolist() == [3, 1]
    dense = encoding({"input_ids": [[1, 2], [3, 4]]}, tensor_type="pt")
    assert tb.RaggedDataset(dense)["input_ids"].tolist() == [[1, 2], [3, 4]]
    assert tb.lengths(dense, column="input_ids").tolist() == [2, 2]


@pytest.mark.parametrize("first", ["input_ids", "ids"])
def test_lengths_of_what_has_columns_name_one(first):
    columns = {first: [[1, 2], [3]], "label": [0, 1]}
    samples = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    data = tb.RaggedDataset(columns)
    later = [{"label": 0, "input_ids": [1]}]
    for source in (samples, tuple(samples), columns, data, data.__getitems__([0, 1])):
        with fails(TypeError, "lengths()", f"column={first!r}"):
            tb.lengths(source)
    with fails(TypeError, "lengths()", "column='input_ids'"):
        tb.lengths(later)
    with fails(TypeError, "lengths()"):
        tb.lengths([{}])


def test_lengths_of_samples():
    samples = samples_of({name: DATA[name] for name in ("input_ids", "label")})
    expected = [len(row) for row in DATA["input_ids"]]
    assert tb.lengths(samples, column="input_ids").tolist() == expected
    assert tb.lengths(iter(samples), "input_ids").tolist() == expected
    batch = tb.RaggedDataset(samples).__getitems__([3, 1])
    assert tb.lengths(batch, "input_ids").tolist() == [expected[3], expected[1]]
    with fails(TypeError, "lengths()", "key 'label'", "row 0"):
        tb.lengths(samples, column="label")
    with fails(KeyError, "lengths()", "row 1", "'a'"):
        tb.lengths([{"a": [1]}, {"b": [1]}], column="a")
    with fails(KeyError, "lengths()", "'b'"):
        tb.lengths({"a": [[1]]}, column="b")
    with fails(TypeError, "lengths()", "row 0", "list", "'a'"):
        tb.lengths([[1], [2]], column="a")
    for source in (5, None, "text"):
        with fails(TypeError, "lengths()", type(source).__name__, "samples"):
            tb.lengths(source, column="a")


@pytest.mark.parametrize("source", [[[1], [2]], [1], np.zeros((2, 2)), "bert", 5, None], ids=str)
def test_what_are_neither_columns_nor_samples(source):
    with fails(TypeError, "RaggedDataset()", "columns", "samples"):
        tb.RaggedDataset(source)


def test_sources_with_a_constructor_of_their_own():
    with fails(TypeError, "RaggedDataset()", "Table", "RaggedDataset.from_arrow()"):
        tb.RaggedDataset(pa.table({"x": [[1]]}))
    hf = pytest.importorskip("datasets").Dataset.from_dict({"x": [[1]]})
    with fails(TypeError, "RaggedDataset()", "Dataset", "RaggedDataset.from_hf()"):
        tb.RaggedDataset(hf)


@pytest.mark.parametrize(
    "column",
    [
        np.ma.array([1, 2], mask=[0, 1]),
        np.ma.array([[1, 2], [3, 4]]),
        [1, np.ma.masked],
        [np.ma.masked, 1],
        [[1], np.ma.array([1, 2], mask=[0, 1])],
        [[1], [2, np.ma.masked]],
    ],
    ids=["numbers", "rows", "a scalar", "the first scalar", "a row", "in a row"],
)
def test_masked_columns_are_refused(column):
    with fails(TypeError, "RaggedDataset()", "key 'x'", "masked"):
        tb.RaggedDataset({"x": column})
