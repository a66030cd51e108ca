"""Samples of every kind: records, nested ones, and batches that are columns already."""

import dataclasses
import sqlite3
from collections import OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Mapping

import numpy as np
import pytest

import tightbatch as tb
from checks import assert_same, checked, fails

NAME = "PadCollator()"


@dataclasses.dataclass
class Plain:
    input_ids: list
    label: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    input_ids: object
    label: object = 0


@dataclasses.dataclass
class Base:
    input_ids: object


@dataclasses.dataclass
class Derived(Base):
    label: object = 0
    words: dataclasses.InitVar[int] = 0


def dataclass_maker():
    return Plain


def attrs_maker():
    attr = pytest.importorskip("attr")
    return attr.make_class("Record", ["input_ids", "label"])


def attrs_slotted_maker():
    attr = pytest.importorskip("attr")
    return attr.make_class("Record", ["input_ids", "label"], frozen=True, slots=True)


def pydantic_maker():
    pydantic = pytest.importorskip("pydantic")
    return pydantic.create_model("Record", input_ids=(list[int], ...), label=(int, ...))


def pydantic_extra_maker():
    pydantic = pytest.importorskip("pydantic")

    class Record(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        input_ids: list[int]

    return Record


def pydantic_dataclass_maker():
    return pytest.importorskip("pydantic").dataclasses.dataclass(Plain)


def msgspec_maker():
    msgspec = pytest.importorskip("msgspec")
    return msgspec.defstruct("Record", [("input_ids", list), ("label", int)])


MAKERS = [
    dataclass_maker,
    lambda: Slotted,
    lambda: Derived,
    attrs_maker,
    attrs_slotted_maker,
    pydantic_maker,
    pydantic_extra_maker,
    pydantic_dataclass_maker,
    msgspec_maker,
]


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def record(request):
    return request.param()


def collate(samples, **options):
    return checked(tb.PadCollator(return_tensors="np", **options), samples)


def records(record):
    return [record(input_ids=[5, 6], label=1), record(input_ids=[7], label=0)]


def test_records_are_like_dicts(record):
    batch = collate(records(record))
    assert type(batch) is tb.Batch
    assert list(batch) == ["input_ids", "label", "attention_mask"]
    assert_same(batch["input_ids"], [[5, 6], [7, 0]], np.int64)
    assert_same(batch["label"], [1, 0], np.int64)
    assert_same(batch["attention_mask"], [[1, 1], [1, 0]], np.int64)


def test_records_without_padding(record):
    batch = tb.PaddingFreeCollator(return_tensors="np")(records(record))
    assert batch["input_ids"].tolist() == [[5, 6, 7]]
    assert batch["label"].tolist() == [1, 0]


def test_records_for_transformers_collators(record):
    from tightbatch.huggingface import (
        DataCollatorForLanguageModeling,
        DataCollatorWithFlattening,
        DataCollatorWithPadding,
    )

    pad = DataCollatorWithPadding(pad_token_id=0, return_tensors="np")
    assert pad(records(record))["labels"].tolist() == [1, 0]
    flat = DataCollatorWithFlattening(return_tensors="np")(records(record))
    assert flat["input_ids"].tolist() == [[5, 6, 7]]
    learn = DataCollatorForLanguageModeling(mlm=False, pad_token_id=0, return_tensors="np")
    assert learn(records(record))["labels"].tolist() == [[5, 6], [7, -100]]


def test_records_in_a_dataset_and_their_lengths(record):
    data = tb.RaggedDataset(records(record))
    assert data.column_names == ["input_ids", "label"]
    assert data["input_ids"].tolist() == [[5, 6], [7]]
    assert data["label"].tolist() == [1, 0]
    assert tb.lengths(records(record), column="input_ids").tolist() == [2, 1]
    with fails(KeyError, "lengths()", "row 0", "'other'"):
        tb.lengths(records(record), column="other")


def test_records_beside_dicts_at_any_place(record):
    one, other = records(record)
    plain = {"input_ids": [9], "label": 3}
    for samples in ([one, plain, other], [plain, one], [one, UserDict(plain)]):
        ids = [
            sample["input_ids"] if isinstance(sample, Mapping) else sample.input_ids
            for sample in samples
        ]
        batch = collate(samples)
        np.testing.assert_array_equal(batch["input_ids"], tb.pad(ids))


def test_records_of_other_fields_are_refused():
    with fails(ValueError, NAME, "row 1", "'label'", "row 0"):
        collate([Plain([1], 2), Base([1])])
    with fails(ValueError, NAME, "row 1", "'label'", "row 0"):
        collate([Base([1]), Plain([1], 2)])
    with fails(TypeError, NAME, "row 1", "object", "dict"):
        collate([Plain([1], 2), object()])
    empty = Slotted.__new__(Slotted)
    with fails(ValueError, NAME, "row 1", "no value"):
        collate([Slotted(input_ids=[1]), empty])
    with fails(TypeError, NAME, "Plain", "a list of samples"):
        tb.PadCollator()(Plain([1], 2))


def test_a_record_that_is_an_array_is_a_row():
    @dataclasses.dataclass
    class Row:
        values: list

        def __array__(self, dtype=None, copy=None):
            return np.array(self.values)

    assert_same(collate([Row([1, 2]), Row([3])]), [[1, 2], [3, 0]], np.int64)
    batch = collate([{"x": Row([1, 2])}, {"x": Row([3])}])
    assert_same(batch["x"], [[1, 2], [3, 0]], np.int64)


# Mappings


class Keyed:
    """A mapping that does not say that it is one."""

    def __init__(self, **values):
        self.values = values

    def keys(self):
        return self.values.keys()

    def __getitem__(self, key):
        return self.values[key]


class Endless(Keyed):
    def __getitem__(self, key):
        return self.values.get(key, 0)


class Lazy(dict):
    """What it keeps is not what it gives, and it counts how often it is asked."""

    asked = 0

    def __getitem__(self, key):
        self.asked += 1
        return [int(number) for number in super().__getitem__(key).split()]


@pytest.mark.parametrize("kind", [Keyed, Endless, UserDict, OrderedDict])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_mappings_are_alike_at_any_place(kind, place):
    samples = [{"input_ids": [n + 1] * (n + 1)} for n in range(3)]
    samples[place] = kind(**samples[place])
    assert_same(collate(samples)["input_ids"], [[1, 0, 0], [2, 2, 0], [3, 3, 3]], np.int64)
    assert tb.RaggedDataset(samples)["input_ids"].tolist() == [[1], [2, 2], [3, 3, 3]]
    assert tb.lengths(samples, "input_ids").tolist() == [1, 2, 3]
    assert collate([kind(**s) for s in samples])["input_ids"].shape == (3, 3)
    nested = [{"x": sample} for sample in samples]
    assert_same(collate(nested)["x"]["attention_mask"].sum(axis=1), [1, 2, 3], np.int64)


@pytest.mark.parametrize("place", [0, 1])
def test_subclasses_of_dict_are_read_through_their_getitem(place):
    lazy = Lazy(input_ids="1 2", labels="3")
    samples = [{"input_ids": [9], "labels": [8]}] * 2
    samples[place] = lazy
    batch = collate(samples)
    assert batch["input_ids"][place].tolist() == [1, 2]
    assert batch["labels"][place].tolist() == [3]
    assert lazy.asked == 2  # once a value
    assert tb.RaggedDataset(samples)["input_ids"].tolist()[place] == [1, 2]
    assert tb.lengths(samples, "input_ids").tolist() == [2, 1][:: 1 if place == 0 else -1]


def test_a_defaultdict_gets_no_keys():
    samples = [defaultdict(list, x=[1, 2]), defaultdict(list, x=[3])]
    assert_same(collate(samples)["x"], [[1, 2], [3, 0]], np.int64)
    with fails(ValueError, NAME, "row 1", "'y'"):
        collate([defaultdict(list, x=[1], y=[1]), defaultdict(list, x=[3])])
    assert list(samples[0]) == ["x"]


def test_errors_of_a_lazy_sample_pass_unchanged():
    class Broken(dict):
        def __getitem__(self, key):
            raise LookupError("the file is gone")

    with pytest.raises(LookupError, match="the file is gone"):
        tb.PadCollator()([Broken(x=1)])
    with pytest.raises(LookupError, match="the file is gone"):
        tb.PadCollator()([{"x": 1}, Broken(x=1)])


def test_rows_of_a_database():
    table = sqlite3.connect(":memory:")
    table.row_factory = sqlite3.Row
    rows = list(table.execute("select 1 as label, 2.5 as weight union all select 3, 4.5"))
    table.close()
    batch = collate(rows)
    assert_same(batch["label"], [1, 3], np.int64)
    assert_same(batch["weight"], [2.5, 4.5], np.float32)


def test_a_series_is_a_row():
    pd = pytest.importorskip("pandas")
    rows = [pd.Series([1, 2], index=["a", "b"]), pd.Series([3])]
    assert_same(collate(rows), [[1, 2], [3, 0]], np.int64)


def test_mappings_are_no_rows():
    for given in (UserDict({1: 2}), Keyed(a=1), Endless(a=1)):
        with fails(TypeError, "pad()", "row 0", type(given).__name__):
            tb.pad([given])
        with fails(TypeError, "pad()", "row 1", type(given).__name__):
            tb.pad([[1], given])


# Nested


Point = namedtuple("Point", "x y")


def test_nested_dicts_become_nested_batches():
    samples = [
        {"query": {"input_ids": [1, 2], "labels": [1, 2]}, "meta": {"id": 7, "url": "a"}},
        {"query": {"input_ids": [3], "labels": [3]}, "meta": {"id": 8, "url": None}},
    ]
    batch = collate(samples, padding_value=9)
    assert type(batch) is type(batch["query"]) is type(batch["meta"]) is tb.Batch
    assert list(batch) == ["query", "meta"]
    assert list(batch["query"]) == ["input_ids", "labels", "attention_mask"]
    assert_same(batch["query"]["input_ids"], [[1, 2], [3, 9]], np.int64)
    assert_same(batch["query"]["labels"], [[1, 2], [3, -100]], np.int64)
    assert_same(batch["query"]["attention_mask"], [[1, 1], [1, 0]], np.int64)
    assert_same(batch["meta"]["id"], [7, 8], np.int64)
    assert batch["meta"]["url"] == ["a", None]


def test_nested_records_and_deeper():
    samples = [{"a": {"b": Plain([1], 2)}}, {"a": {"b": {"input_ids": [1, 2], "label": 3}}}]
    batch = collate(samples)
    assert_same(batch["a"]["b"]["input_ids"], [[1, 0], [1, 2]], np.int64)
    assert_same(batch["a"]["b"]["label"], [2, 3], np.int64)
    assert_same(collate([Plain({"input_ids": [1]}, 2)])["input_ids"]["input_ids"], [[1]], np.int64)


def test_nested_tuples_keep_their_structure():
    (source, target), label = collate([(([1, 2], [3]), 0), (([4], [5, 6]), 1)])
    assert_same(source, [[1, 2], [4, 0]], np.int64)
    assert_same(target, [[3, 0], [5, 6]], np.int64)
    assert_same(label, [0, 1], np.int64)
    batch = collate([{"pair": ([1, 2], "a", 0.5)}, {"pair": ([3], "b", 1.5)}])
    assert type(batch["pair"]) is tuple
    assert_same(batch["pair"][0], [[1, 2], [3, 0]], np.int64)
    assert batch["pair"][1] == ["a", "b"]
    assert_same(batch["pair"][2], [0.5, 1.5], np.float32)
    batch = collate([{"at": Point(1, [2])}, {"at": Point(3, [4, 5])}])
    assert type(batch["at"]) is Point
    assert_same(batch["at"].y, [[2, 0], [4, 5]], np.int64)
    assert_same(collate([{"at": Point(1, 2)}])["at"].x, [1], np.int64)
    batch = collate([([1], {"input_ids": [1, 2]}), ([2, 3], {"input_ids": [3]})])
    assert_same(batch[1]["attention_mask"], [[1, 1], [1, 0]], np.int64)


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 2), (3,)],
        [(), (1, 2)],
        [(np.int64(1), np.float32(2)), (3.0, 1)],
        [(np.array(1), 2), (3,)],
        [(True, False), (True,)],
        [[(0, 1), (1, 2)], [(0, 3)]],  # a tokenizer's offsets
    ],
    ids=str,
)
def test_tuples_of_numbers_are_rows(rows):
    batch = collate([{"x": row} for row in rows], padding_value={"x": 0})
    np.testing.assert_array_equal(batch["x"], tb.pad(rows))


def test_extras_of_nested_samples():
    samples = [{"a": {"x": [1, 2]}, "n": 1}, {"a": {"x": [3]}, "n": 2}]
    batch = collate(samples, return_lengths=True)
    assert_same(batch["a"]["lengths"], [2, 1], np.int64)
    assert "attention_mask" not in collate(samples, attention_mask=False)["a"]
    pair = collate([{"p": ([1, 2], [3])}, {"p": ([4], [5])}], return_lengths=True)["p"]
    assert len(pair) == 2  # tuples keep their structure


def test_settings_of_one_place():
    samples = [
        {"a": {"x": [1, 2], "y": ([1, 2], 3)}, "b": {"x": [1, 2], "f": [0.5]}, "x": [1, 2]},
        {"a": {"x": [3], "y": ([4], 5)}, "b": {"x": [3], "f": [1.5, 2.5]}, "x": [3]},
    ]
    fills = {"x": 5, "a.x": 6, "a.y.0": 7, "b.f": 8.0}
    batch = collate(samples, padding_value=fills, keep=["b.x"], return_lengths={"a.x": "n"})
    assert batch["x"].tolist() == [[1, 2], [3, 5]]
    assert batch["a"]["x"].tolist() == [[1, 2], [3, 6]]
    assert batch["a"]["y"][0].tolist() == [[1, 2], [4, 7]]
    assert batch["b"]["f"].tolist() == [[0.5, 8], [1.5, 2.5]]
    assert batch["b"]["x"] == [[1, 2], [3]]
    assert batch["a"]["n"].tolist() == [2, 1]
    assert "n" not in batch
    ragged = [{"a": {"f": [0.5]}}, {"a": {"f": [1.5, 2.5]}}]
    with fails(ValueError, NAME, "key 'a.f'", "row 1", "padding_value={'a.f': 0}"):
        collate(ragged)
    collate(ragged, padding_value={"a.f": 0})  # what the message says


def test_settings_apply_inside():
    samples = [{"a": {"x": [1, 2]}, "b": {"x": [1]}}, {"a": {"x": [3]}, "b": {"x": [2]}}]
    batch = collate(samples, padding_value={"x": 5}, width={"x": 3})
    assert_same(batch["a"]["x"], [[1, 2, 5], [3, 5, 5]], np.int64)
    assert_same(batch["b"]["x"], [[1, 5, 5], [2, 5, 5]], np.int64)


@pytest.mark.parametrize(
    ("samples", "kind", "parts"),
    [
        ([{"a": {"b": [1]}}, {"a": {"b": [None]}}], TypeError, ["key 'a.b'", "row 1", "column 0"]),
        ([{"a": {"b": [1]}}, {"a": {"c": [1]}}], ValueError, ["key 'a'", "row 1", "'b'", "row 0"]),
        ([{"a": {"b": [1]}}, {"a": [1]}], TypeError, ["key 'a'", "row 1", "list"]),
        ([{"a": [1]}, {"a": {"b": [1]}}], TypeError, ["key 'a'", "row 1", "dict"]),
        ([{"a": {"b": {"c": [1]}}}, {"a": {"b": {"c": 2}}}], TypeError, ["key 'a.b.c'", "row 1"]),
        ([{"a": ([1], 2)}, {"a": ([1], 2, 3)}], ValueError, ["key 'a'", "row 1", "a tuple of 3"]),
        ([{"a": ([1], 2)}, {"a": [[1], 2]}], ValueError, ["key 'a'", "row 1", "list"]),
        ([{"a": ([1], 2)}, {"a": ([1], "x")}], TypeError, ["key 'a.1'", "row 1", "'x'"]),
        ([(1, {"b": 1}), (1, {"b": "x"})], TypeError, ["key '1.b'", "row 1", "'x'"]),
        ([{"a": {"b": 1}}, {"a": None}], TypeError, ["key 'a'", "row 1", "NoneType"]),
    ],
)
def test_messages_name_the_path(samples, kind, parts):
    with fails(kind, NAME, *parts):
        collate(samples)


def test_nested_samples_without_padding():
    samples = [
        {"input_ids": [1, 2], "meta": {"id": 7, "url": "a"}, "doc": Base([4, 5, 6])},
        {"input_ids": [3], "meta": {"id": 8, "url": "b"}, "doc": Base([7])},
    ]
    batch = tb.PaddingFreeCollator(return_tensors="np")(samples)
    assert batch["input_ids"].tolist() == [[1, 2, 3]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 2, 3]
    assert type(batch["meta"]) is type(batch["doc"]) is tb.Batch
    assert dict(batch["meta"], id=batch["meta"]["id"].tolist()) == {"id": [7, 8], "url": ["a", "b"]}
    assert batch["doc"]["input_ids"].tolist() == [[4, 5, 6, 7]]
    assert batch["doc"]["cu_seq_lens_q"].tolist() == [0, 3, 4]
    assert batch["doc"]["labels"].tolist() == [[-100, 5, 6, -100]]
    batch = tb.PaddingFreeCollator(return_tensors="np")([{"doc": s["doc"]} for s in samples])
    assert list(batch) == ["doc"]
    padded = tb.PaddingFreeCollator(
        max_tokens=6, padding_value={"input_ids": 8, "doc.input_ids": 9}, return_tensors="np"
    )(samples)
    assert padded["input_ids"].tolist() == [[1, 2, 3, 8, 8, 8]]
    assert padded["doc"]["input_ids"].tolist() == [[4, 5, 6, 7, 9, 9]]


@pytest.mark.parametrize(
    ("samples", "kind", "parts"),
    [
        ([{"a": {"x": [1]}}, {"a": {"x": [None]}}], TypeError, ["key 'a.x'", "row 1"]),
        ([{"a": {"x": [1], "y": [1, 2]}}], ValueError, ["key 'a.y'", "row 0"]),
        ([{"a": {"input_ids": [1], "seq_idx": 1}}], ValueError, ["key 'a.seq_idx'"]),
        ([{"input_ids": [1], "p": ([1], "x")}], TypeError, ["key 'p'", "tuple"]),
    ],
)
def test_messages_without_padding_name_the_path(samples, kind, parts):
    with fails(kind, "PaddingFreeCollator()", *parts):
        tb.PaddingFreeCollator(return_tensors="np")(samples)


def test_transformers_collators_refuse_nested_samples():
    from tightbatch.huggingface import DataCollatorWithPadding

    with fails(TypeError, "DataCollatorWithPadding()", "key 'a'", "row 0", "dict", "PadCollator"):
        DataCollatorWithPadding(pad_token_id=0)([{"input_ids": [1], "a": {"b": [1]}}])


def test_nested_columns_of_a_dataset():
    samples = [{"a": {"b": [1, 2], "c": 1}, "d": 1}, {"a": {"b": [3], "c": 2}, "d": 2}]
    for given in (
        samples,
        {"a": [s["a"] for s in samples], "d": [1, 2]},
        {"a": {"b": [[1, 2], [3]], "c": np.array([1, 2])}, "d": [1, 2]},
    ):
        data = tb.RaggedDataset(given)
        assert "a: columns b, c" in repr(data)
        assert data[1]["a"]["b"].tolist() == [3]
        assert data["a"]["c"].tolist() == [1, 2]
        batch = tb.PadCollator(return_tensors="np")(data.__getitems__([1, 0]))
        assert_same(batch["a"]["b"], [[3, 0], [1, 2]], np.int64)
        assert tb.lengths(data, "a.b").tolist() == [2, 1]
        assert tb.lengths(given, "a.b").tolist() == [2, 1]
        assert data[[1]]["a"]["b"].tolist() == [[3]]
    with fails(TypeError, "RaggedDataset()", "'x.a'"):
        tb.RaggedDataset({"x": {"a": 1}})
    with fails(ValueError, "RaggedDataset()", "'x.b'", "2 rows", "1", "'x.a'"):
        tb.RaggedDataset({"x": {"a": [[1]], "b": [1, 2]}})
    with fails(KeyError, "lengths()", "'z'"):
        tb.lengths(data, "a.z")
    with fails(KeyError, "lengths()", "row 0", "'a.z'"):
        tb.lengths(samples, "a.z")


def test_nested_batches_from_workers():
    torch = pytest.importorskip("torch")
    samples = [{"a": {"x": [n] * n, "y": ([n], n)}, "n": n} for n in range(1, 5)]
    for data in (samples, tb.RaggedDataset([{"a": {"x": s["a"]["x"]}} for s in samples])):
        loader = torch.utils.data.DataLoader(
            data, batch_size=2, num_workers=1, collate_fn=tb.PadCollator(), timeout=200
        )
        batches = list(loader)
        assert [type(batch["a"]) for batch in batches] == [tb.Batch] * 2
        assert batches[1]["a"]["x"].tolist() == [[3, 3, 3, 0], [4, 4, 4, 4]]
        assert batches[1]["a"]["attention_mask"].sum().item() == 7
        if data is samples:
            assert batches[0]["a"]["y"][1].tolist() == [1, 2]


# None and absent fields


@pytest.mark.parametrize(
    "samples", [[None, None], [None], [None, [1]], [[1], None], ["a", None], (None, None)]
)
def test_none_is_no_sample(samples):
    row = next(i for i, sample in enumerate(samples) if sample is None)
    with fails(TypeError, NAME, f"row {row}", "None"):
        tb.PadCollator(return_tensors="np")(samples)


def test_a_column_of_none_is_listed():
    batch = collate([{"x": [1], "y": None}, {"x": [2], "y": None}])
    assert batch["y"] == [None, None]
    _, nothing = collate([([1], None), ([2], None)])
    assert nothing == [None, None]


@pytest.mark.parametrize("value", [[1], 1, 0.5, True, np.ones(2), {"b": 1}, ([1], 2)], ids=str)
def test_none_in_some_rows_is_an_error(value):
    with fails((TypeError, ValueError), NAME, "key 'x'", "row 1", "NoneType"):
        collate([{"x": value}, {"x": None}])
    with fails(TypeError, NAME, "key 'x'", "row 1", "None"):
        collate([{"x": None}, {"x": value}])


# Batches that are columns


def objects(rows):
    column = np.empty(len(rows), object)
    column[:] = rows
    return column


def ragged(rows):
    return tb.Ragged.from_sequences(rows)


def tensors(rows):
    torch = pytest.importorskip("torch")
    return [torch.tensor(row) for row in rows]


def arrow(rows):
    return pytest.importorskip("pyarrow").array([list(map(int, row)) for row in rows])


KINDS = [
    list,
    tuple,
    deque,
    UserList,
    objects,
    ragged,
    tensors,
    arrow,
    lambda rows: objects([np.array(row) for row in rows]),
    lambda rows: [np.array(row) for row in rows],
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_may_be_columns(kind):
    rows = [[5, 6], [7], [8, 9, 9]]
    columns = {
        "input_ids": kind(rows),
        "label": np.array([1, 0, 1], np.int32),
        "n": [1, 2, 3],
        "text": np.array(["a", "b", "c"]),
        "note": objects(["x", None, "y"]),
    }
    for given in (columns, UserDict(columns)):
        batch = tb.PadCollator(return_tensors="np")(given)
        assert type(batch) is tb.Batch
        assert batch["input_ids"].tolist() == [[5, 6, 0], [7, 0, 0], [8, 9, 9]]
        assert batch["attention_mask"].sum(axis=1).tolist() == [2, 1, 3]
        assert_same(batch["label"], [1, 0, 1], np.int32)
        assert_same(batch["n"], [1, 2, 3], np.int64)
        assert batch["text"] == ["a", "b", "c"]
        assert batch["note"] == ["x", None, "y"]
        flat = tb.PaddingFreeCollator(return_tensors="np")(given)
        assert flat["input_ids"].tolist() == [[5, 6, 7, 8, 9, 9]]


def test_columns_for_transformers_collators():
    from tightbatch.huggingface import DataCollatorForLanguageModeling, DataCollatorWithPadding

    columns = {"input_ids": objects([[5, 6], [7]]), "label": np.array([1, 0])}
    batch = DataCollatorWithPadding(pad_token_id=0, return_tensors="np")(columns)
    assert batch["input_ids"].tolist() == [[5, 6], [7, 0]]
    assert batch["labels"].tolist() == [1, 0]
    learn = DataCollatorForLanguageModeling(mlm=False, pad_token_id=0, return_tensors="np")
    assert learn({"input_ids": [[5, 6], [7]]})["labels"].tolist() == [[5, 6], [7, -100]]


def test_rectangles_and_tensors_as_columns():
    torch = pytest.importorskip("torch")
    columns = {"x": np.arange(6).reshape(2, 3), "y": torch.tensor([0.5, 1.5])}
    batch = collate(columns)
    assert_same(batch["x"], [[0, 1, 2], [3, 4, 5]], np.int64)
    assert_same(batch["y"], [0.5, 1.5], np.float32)


def test_nested_columns():
    columns = {
        "a": {"x": [[1, 2], [3]], "y": np.array([1, 2])},
        "b": objects([{"z": [1]}, {"z": []}]),
    }
    batch = collate(columns)
    assert_same(batch["a"]["x"], [[1, 2], [3, 0]], np.int64)
    assert_same(batch["a"]["y"], [1, 2], np.int64)
    assert_same(batch["b"]["z"], [[1], [0]], np.int64)


def test_batches_of_datasets():
    datasets = pytest.importorskip("datasets")
    rows = {"input_ids": [[1, 2], [3], [4]], "label": [0, 1, 0], "text": ["a", "b", "c"]}
    data = datasets.Dataset.from_dict(rows)
    for form in (None, "numpy", "torch"):
        if form == "torch":
            pytest.importorskip("torch")
        batch = tb.PadCollator(return_tensors="np")(data.with_format(form)[:2])
        assert batch["input_ids"].tolist() == [[1, 2], [3, 0]]
        assert batch["label"].tolist() == [0, 1]
        assert batch["text"] == ["a", "b"]


def test_a_tokenizers_batch():
    transformers = pytest.importorskip("transformers")
    given = transformers.BatchEncoding(
        {"input_ids": [[1, 2], [3]], "token_type_ids": [[0, 0], [0]]}
    )
    assert collate(given)["attention_mask"].tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize(
    "sample",
    [
        {"input_ids": [1, 2], "labels": [1, 2]},
        {"input_ids": np.array([1, 2])},
        {"x": [1, 2], "text": ["a", "b"]},
        {},
    ],
    ids=str,
)
def test_one_sample_is_no_batch_of_columns(sample):
    with fails(TypeError, NAME, "dict", "a list of samples"):
        tb.PadCollator()(sample)


@pytest.mark.parametrize(
    ("columns", "kind", "parts"),
    [
        ({"x": [[1]], "label": 0}, TypeError, ["key 'label'", "int"]),
        ({"x": [[1]], "t": "ab"}, TypeError, ["key 't'", "str"]),
        ({"x": [[1]], "n": None}, TypeError, ["key 'n'", "NoneType"]),
        ({"x": [[1]], "n": np.array(1)}, TypeError, ["key 'n'", "ndarray"]),
        ({"x": [[1]], "y": [1, 2]}, ValueError, ["key 'y'", "2", "1", "'x'"]),
        ({"x": [[1]], "a": {"y": [1, 2]}}, ValueError, ["key 'a'", "2", "1", "'x'"]),
        ({"x": [[1]], "a": {"y": [1], "z": []}}, ValueError, ["key 'a.z'", "0", "1", "'a.y'"]),
        ({"x": [], "y": []}, ValueError, ["empty"]),
        (
            {"x": [[1], [2]], "y": np.ma.array([1, 2], mask=[0, 1])},
            TypeError,
            ["key 'y'", "masked"],
        ),
        ({"x": [[1], ["a"]]}, TypeError, ["key 'x'", "row 1", "column 0"]),
    ],
)
def test_what_is_no_column_is_named(columns, kind, parts):
    with fails(kind, NAME, *parts):
        collate(columns)


def test_a_dataset_dict_is_no_batch():
    datasets = pytest.importorskip("datasets")
    data = datasets.DatasetDict(train=datasets.Dataset.from_dict({"x": [[1]]}))
    with fails(TypeError, NAME, "key 'train'", "Dataset"):
        tb.PadCollator()(data)


def test_an_index_that_empties_a_record():
    class Index:
        def __index__(self):
            samples.clear()
            return 1

    samples = [Plain([1, Index()], 0), Plain([2], 0)]
    assert tb.PadCollator(return_tensors="np")(samples)["input_ids"].tolist() == [[1, 1], [2, 0]]


# Samples without end


def in_itself(kind=dict):
    sample = kind({"input_ids": [1]})
    sample["meta"] = sample
    return sample


def both_ways():
    sample = {"input_ids": [1]}
    sample["meta"] = {"a": sample, "b": sample}
    return sample


def deep(wrap, levels=100_000):
    value = {"input_ids": [1]}
    for _ in range(levels):
        value = wrap(value)
    return value


ENDLESS = {
    "in_itself": in_itself,
    "in_itself_ordered": lambda: in_itself(OrderedDict),
    "both_ways": both_ways,
    "dicts": lambda: {"meta": deep(lambda value: {"meta": value})},
    "tuples": lambda: {"input_ids": [1], "meta": deep(lambda value: (value, "a"))},
}


@pytest.mark.parametrize("make", ENDLESS.values(), ids=ENDLESS)
def test_samples_without_end_are_refused(make):
    for many in ([make()], [make(), make()]):
        with fails(ValueError, "PadCollator()", "'meta'", "64 levels", "contains itself"):
            collate(many)
        with fails((ValueError, TypeError), "PaddingFreeCollator()", "'meta'"):
            tb.PaddingFreeCollator(return_tensors="np")(many)
        with fails(ValueError, "RaggedDataset()", "'meta'"):
            tb.RaggedDataset(many)
    with fails(TypeError, "lengths()", "column="):
        tb.lengths([make()])


def test_bare_samples_and_columns_without_end_are_refused():
    with fails(ValueError, "PadCollator()", "key 0", "64 levels"):
        tb.PadCollator(return_tensors="np")([deep(lambda value: (value, "a"))])
    columns = {"input_ids": [[1]]}
    columns["meta"] = columns
    for function in (tb.PadCollator(), tb.PaddingFreeCollator(), tb.RaggedDataset):
        with fails(ValueError, "'meta'", "64 levels"):
            function(columns)


@pytest.mark.parametrize("levels", [1, 30, 60])
def test_deep_samples_are_collated(levels):
    batch = collate([deep(lambda value: {"a": value}, levels)] * 2)
    assert batch.copy() == batch
    for _ in range(levels):
        batch = batch["a"]
    assert_same(batch["input_ids"], [[1], [1]], np.int64)


def test_keys_with_dots_are_not_deep():
    key = ".".join("a" * 200)
    batch = collate([{key: {key: {"input_ids": [1]}}}])
    assert_same(batch[key][key]["input_ids"], [[1]], np.int64)


def test_batches_without_end():
    torch = pytest.importorskip("torch")
    cycle = tb.Batch(input_ids=torch.ones(1))
    cycle["meta"] = cycle
    nested = tb.Batch(input_ids=torch.ones(1))
    for _ in range(100_000):
        nested = tb.Batch(meta=nested)
    held = []
    held.append(held)
    others = [tb.Batch(meta=held), tb.Batch(meta=deep(lambda value: (value, 1)))]
    for batch in (cycle, nested, *others, tb.Batch(meta=deep(lambda value: {"a": value}))):
        with fails(ValueError, "Batch.to()", "'meta'", "64 levels"):
            batch.to("cpu")
        assert repr(batch).startswith("Batch(")
    assert "meta: Batch(...)" in repr(cycle)
    assert "meta: Batch(...)" in repr(nested)
