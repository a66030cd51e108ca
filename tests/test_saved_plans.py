"""Plans in files: what is loaded is what was saved, and anything else is refused."""

import copy
import itertools
import json
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb
from checks import fails
from tightbatch.sampling import plan_file

LENGTHS = np.random.default_rng(0).integers(0, 90, 400)
LABELS = np.arange(400) % 3
OPTIONS = [
    {"batch_size": 8},
    {"max_tokens": 300, "longest_first": True},
    {"max_tokens": 300, "padding_free": True, "groups": LABELS},
    {"max_tokens": 300, "shuffle": False, "groups": LABELS, "group_weights": {0: 1, 1: 2, 2: 4}},
    {"batch_size": 8, "groups": LABELS, "temperature": 3.0},
    {"batch_size": 8, "padding_free": True, "drop_last": True},
]


def make(options, rank=0, ranks=1, lengths=LENGTHS):
    return tb.LengthBatchSampler(lengths, rank=rank, num_replicas=ranks, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "plan.npy"


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("ranks", [1, 3])
def test_several_samplers_load_one_plan(options, ranks, path):
    make(options, 0, ranks).save_plan(path, epochs=range(2))
    for rank in range(ranks):
        loaded, own = make(options, rank, ranks), make(options, rank, ranks)
        loaded.load_plan(str(path))
        for epoch in range(3):  # the last one is not in the file
            assert len(loaded) == len(own)
            assert (loaded.dropped, loaded.repeated) == (own.dropped, own.repeated)
            assert list(loaded) == list(own), epoch
    loaded.set_epoch(0)
    own.set_epoch(0)
    assert loaded.fairness() == own.fairness()
    outputs = [[[row] for batch in make(options, r, ranks) for row in batch] for r in range(ranks)]
    if ranks == 1 and loaded.dropped == 0 == loaded.repeated:
        list(loaded)
        assert loaded.restore_order(outputs[0]) == [[row] for row in range(400)]


def test_the_file_is_mapped_and_an_array_for_numpy(path):
    make(OPTIONS[0]).save_plan(path)
    words = np.load(path, allow_pickle=False)
    assert (words.dtype, words.ndim) == (np.int64, 1)
    loaded = make(OPTIONS[0])
    loaded.load_plan(path)
    indices, offsets = loaded._plan()
    assert (indices.dtype, offsets.dtype) == (np.int32, np.int64)
    for array in (indices, offsets):
        assert not array.flags.writeable
        assert not array.flags.owndata
        base = array
        while base.base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)
    assert [name.name for name in path.parent.iterdir()] == [path.name]


def test_the_coming_epoch_is_saved(path):
    sampler = make(OPTIONS[0])
    sampler.set_epoch(7)
    sampler.save_plan(path)
    assert sampler.epoch == 7
    loaded = make(OPTIONS[0])
    loaded.load_plan(path)
    assert list(loaded._planner.saved) == [(7, 1)]
    loaded.set_epoch(7)
    assert list(loaded) == list(sampler)


def test_one_plan_without_shuffle_is_that_of_all_epochs(path):
    options = {"batch_size": 8, "shuffle": False}
    make(options).save_plan(path, epochs=range(100))
    loaded = make(options)
    loaded.load_plan(path)
    assert list(loaded._planner.saved) == [(0, 1)]


def test_pickles_and_copies_plan_themselves(path):
    sampler = make(OPTIONS[2])
    sampler.save_plan(path)
    sampler.load_plan(path)
    wanted = list(sampler)
    os.remove(path)
    sampler.set_epoch(0)
    for other in (pickle.loads(pickle.dumps(sampler)), copy.deepcopy(sampler), sampler):
        assert list(other) == wanted


@pytest.mark.parametrize(
    ("other", "parts"),
    [
        (lambda: make({"batch_size": 9}), ["the file has batch_size=8", "batch_size=9"]),
        (lambda: make({"batch_size": 8, "seed": 1}), ["seed=0", "seed=1"]),
        (lambda: make({"batch_size": 8, "groups": LABELS}), ["groups=None"]),
        (lambda: make({"batch_size": 8}, 0, 2), ["num_replicas=1", "num_replicas=2"]),
        (lambda: make({"batch_size": 8}, lengths=LENGTHS + 1), ["400 rows", "other lengths"]),
        (lambda: make({"batch_size": 8}, lengths=LENGTHS[:-1]), ["400 rows", "399"]),
    ],
)
def test_other_data_and_settings_are_refused(other, parts, path):
    make({"batch_size": 8}).save_plan(path)
    with fails(ValueError, "load_plan()", *parts):
        other().load_plan(path)


def test_other_groups_are_refused(path):
    make({"batch_size": 8, "groups": LABELS}).save_plan(path)
    for groups in (LABELS[::-1].copy() % 2, np.roll(LABELS, 1) + (np.arange(400) == 5)):
        with fails(ValueError, "load_plan()", "groups="):
            make({"batch_size": 8, "groups": groups}).load_plan(path)
    # Another order of the same labels, a name for each: the same groups.
    make({"batch_size": 8, "groups": [f"g{label}" for label in LABELS]}).load_plan(path)


def test_what_is_no_plan(path, tmp_path):
    sampler = make(OPTIONS[0])
    with pytest.raises(FileNotFoundError):
        sampler.load_plan(path)
    for content in (b"", b"x", b"PK\x03\x04" + bytes(300), b"\x93NUMPY" + bytes(300)):
        path.write_bytes(content)
        with fails(ValueError, "is not a plan saved by tightbatch"):
            sampler.load_plan(path)
    np.save(path, np.arange(100))
    with fails(ValueError, "is not a plan saved by tightbatch"):
        sampler.load_plan(path)
    tb.pack(LENGTHS, 100).save(path)
    with fails(ValueError, "'Packing'", "expected the plan of a LengthBatchSampler"):
        sampler.load_plan(path)
    sampler.save_plan(path)
    with fails(ValueError, "'LengthBatchSampler'", "expected a Packing"):
        tb.Packing.load(path)
    with pytest.raises(IsADirectoryError):
        sampler.load_plan(tmp_path)
    for wrong in (3, None, b"plan", ""):
        with fails(TypeError, "path", "name of a file"):
            sampler.load_plan(wrong)
        with fails(TypeError, "path", "name of a file"):
            sampler.save_plan(wrong)
    with fails(ValueError, "path='a\\x00b'"):
        sampler.save_plan("a\0b")
    with fails(TypeError, "epochs='12'"):
        sampler.save_plan(path, epochs="12")
    with fails(TypeError, "epochs=3"):
        sampler.save_plan(path, epochs=3)
    with fails(ValueError, "epochs=-1"):
        sampler.save_plan(path, epochs=[0, -1])
    with fails(ValueError, "epochs= has more than 1,000,000 epochs; expected fewer"):
        make(OPTIONS[3]).save_plan(path, epochs=itertools.count())
    large = tb.LengthBatchSampler(np.ones(4_000_000, np.int8), batch_size=2_000_000)
    with fails(ValueError, "of 16,000,000 bytes each, do not fit into the", "fewer epochs"):
        large.save_plan(path, epochs=range(2**62))


def test_another_version_says_so(path):
    make(OPTIONS[0]).save_plan(path)
    content = bytearray(path.read_bytes())
    content[136:144] = (2).to_bytes(8, "little")
    path.write_bytes(content)
    with fails(ValueError, "has format 2, expected 1", "another version", "save it again"):
        make(OPTIONS[0]).load_plan(path)


@given(st.data())
@settings(max_examples=150)
def test_damaged_and_cut_files(data):
    """Any byte that changes, and any other size, is found."""
    name, content = damaged_source()
    kind = data.draw(st.sampled_from(["byte", "cut", "longer", "zeros"]))
    broken = bytearray(content)
    place = data.draw(st.integers(0, len(content) - 1))
    if kind == "byte":
        broken[place] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del broken[place:]
    elif kind == "longer":
        broken += bytes(data.draw(st.integers(1, 20)))
    else:
        end = min(place + data.draw(st.integers(1, 64)), len(content))
        broken[place:end] = bytes(end - place)
        if broken == content:
            return
    name.write_bytes(broken)
    with pytest.raises(ValueError, match=r"load_plan\(\): .*(not a plan|damaged|another version)"):
        make(OPTIONS[0]).load_plan(name)


SOURCE = []


def damaged_source():
    if not SOURCE:
        name = Path(tempfile.mkdtemp()) / "plan.npy"
        make(OPTIONS[0]).save_plan(name)
        SOURCE.append((name, name.read_bytes()))
    return SOURCE[0]


def forge(path, change, kind="LengthBatchSampler"):
    """Write a file whose fingerprints are right and whose content is not."""
    about, arrays = plan_file.read_plan("test", path)
    arrays = {name: np.array(array) for name, array in arrays.items()}
    change(about, arrays)
    plan_file.write_plan("test", path, about, arrays.items())


def setter(name, place, value):
    def change(about, arrays):
        arrays[name][place] = value

    return change


def remove(name):
    return lambda about, arrays: arrays.pop(name)


HOSTILE = [
    setter("indices 0", 3, 400),
    setter("indices 0", 3, -1),
    setter("offsets 0", 0, 1),
    setter("offsets 0", -1, 401),
    setter("offsets 0", -1, 2**62),
    setter("offsets 0", 2, 2**62),
    setter("offsets 0", 2, -(2**62)),
    setter("offsets 0", 2, 8),
    remove("indices 0"),
    remove("offsets 0"),
    lambda about, arrays: arrays.update({"offsets 0": arrays["offsets 0"][:0]}),
    lambda about, arrays: arrays.update({"offsets 0": arrays["offsets 0"].astype("<i4")}),
    lambda about, arrays: about.update(epochs=[[0]]),
    lambda about, arrays: about.update(epochs=[[True, 1]]),
    lambda about, arrays: about.update(epochs=7),
    lambda about, arrays: about.update(epochs=[[0, 1], [1, 1]]),
    lambda about, arrays: about.pop("epochs"),
    lambda about, arrays: about.pop("settings"),
    lambda about, arrays: about.update(lengths=[[]]),
    lambda about, arrays: about.update(kind=[1]),
]


@pytest.mark.parametrize("change", HOSTILE)
def test_hostile_plans(change, path):
    make(OPTIONS[0]).save_plan(path)
    forge(path, change)
    with fails(ValueError, "load_plan()"):
        make(OPTIONS[0]).load_plan(path)


@pytest.mark.parametrize(
    "table",
    [
        {"about": {}, "arrays": [["a", "<i8", 2**62, 8, 0]]},
        {"about": {}, "arrays": [["a", "<i8", -1, 8, 0]]},
        {"about": {}, "arrays": [["a", "<i8", 1, -5, 0]]},
        {"about": {}, "arrays": [["a", "<i8", 1, 2**70, 0]]},
        {"about": {}, "arrays": [["a", "O", 0, 8, 0]]},
        {"about": {}, "arrays": [["a", "<i8", 1.5, 8, 0]]},
        {"about": {}, "arrays": [[["a"], "<i8", 0, 8, 0]]},
        {"about": {}, "arrays": [["a", "<i8"]]},
        {"about": {}, "arrays": 3},
        {"about": [], "arrays": []},
        {"arrays": []},
        [],
        3,
    ],
)
def test_hostile_tables(table, path):
    text = json.dumps(table).encode()
    write_table(path, text)
    with fails(ValueError, "load_plan()", "damaged"):
        make(OPTIONS[0]).load_plan(path)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"\xff\xfe", b"{", b" "])
def test_tables_that_are_no_json(text, path):
    write_table(path, text)
    with fails(ValueError, "load_plan()", "damaged"):
        make(OPTIONS[0]).load_plan(path)


def write_table(path, text, **words):
    table = plan_file._as_words(np.frombuffer(text, np.uint8))
    first = [plan_file._MAGIC, 1, 8 + len(table), 8, len(text), plan_file._fingerprint(table), 0, 0]
    for place, value in words.items():
        first[int(place[1:])] = value
    count = 8 + len(table)
    path.write_bytes(
        plan_file._npy_header(count) + np.array(first, "<i8").tobytes() + table.tobytes()
    )


@pytest.mark.parametrize("word", ["w3", "w4"])
@pytest.mark.parametrize("value", [-1, 0, 7, 2**62, -(2**63), 2**63 - 1])
def test_places_that_lie(word, value, path):
    write_table(path, b"{}", **{word: value})
    with fails(ValueError, "load_plan()", "damaged"):
        make(OPTIONS[0]).load_plan(path)


def test_a_failed_save_leaves_what_was_there(path, monkeypatch):
    sampler = make(OPTIONS[0])
    sampler.save_plan(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda descriptor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(OPTIONS[1]).save_plan(path)
    assert [name.name for name in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_what_cannot_be_written_has_the_name_that_was_given(path):
    sampler = make(OPTIONS[0])
    path.mkdir()
    for place in (path.parent / "none" / "plan.npy", path):
        # On Windows a directory is no permission.
        with pytest.raises((FileNotFoundError, IsADirectoryError, PermissionError)) as caught:
            sampler.save_plan(place)
        assert (caught.value.filename, caught.value.filename2) == (str(place), None)
        assert str(caught.value).endswith(f": {str(place)!r}")
    assert [name.name for name in path.parent.iterdir()] == [path.name]


# Packings


@pytest.mark.parametrize("overlong", ["split", "truncate", "drop"])
def test_packings(overlong, path):
    packing = tb.pack(LENGTHS, 60, overlong=overlong, max_segments=3)
    packing.save(path)
    loaded = tb.Packing.load(path, lengths=LENGTHS.tolist(), capacity=60, timeout=0)
    assert list(loaded) == list(packing)
    for name in ("capacity", "max_segments", "dropped", "truncated", "efficiency", "lower_bound"):
        assert getattr(loaded, name) == getattr(packing, name)
    assert repr(loaded) == repr(packing)
    for name in ("indices", "starts", "offsets", "row_lengths", "lengths"):
        assert np.array_equal(getattr(loaded, name), getattr(packing, name))
        assert getattr(loaded, name).dtype == np.int64
    rows = tb.Ragged.from_sequences([range(length) for length in LENGTHS.tolist()])
    assert loaded.apply(rows).tolist() == packing.apply(rows).tolist()
    assert loaded.fairness() == packing.fairness()
    os.remove(path)
    again = pickle.loads(pickle.dumps(loaded))
    assert list(again) == list(packing)


def test_packings_keep_their_limits(path):
    limits = {"images": ([1, 1, 0, 0], 1), "pixels": tb.Limit([3, 1, 2, 2], 4, padded=True)}
    packing = tb.pack([1] * 4, 4, limits=limits, seed=None)
    packing.save(path)
    for again in (tb.Packing.load(path), tb.Packing.load(path, limits=limits)):
        assert (again.lower_bound, again.fill) == (packing.lower_bound, packing.fill)
        assert list(again) == list(packing)
        assert {name: limit[1:] for name, limit in again.limits.items()} == {
            "images": (1, False), "pixels": (4, True)
        }  # fmt: skip
    others = [
        {"images": limits["images"]},
        {**limits, "images": ([1, 1, 0, 0], 2)},
        {**limits, "images": ([1, 0, 1, 0], 1)},
        {**limits, "pixels": ([3, 1, 2, 2], 4)},
        {},
    ]
    for other in others:
        with pytest.raises(ValueError, match="packed under other limits"):
            tb.Packing.load(path, limits=other)
    tb.pack([1, 1], 2).save(path)
    assert tb.Packing.load(path, limits={}).limits is None
    with pytest.raises(ValueError, match="packed under other limits"):
        tb.Packing.load(path, limits={"images": ([1, 1], 1)})


def test_no_packs(path):
    tb.pack([], 5).save(path)
    assert (len(tb.Packing.load(path)), tb.Packing.load(path, lengths=[]).efficiency) == (0, 1.0)


def test_other_lengths_and_capacities_are_refused(path):
    tb.pack(LENGTHS, 100).save(path)
    with fails(ValueError, "Packing.load()", "400 rows", "or as many others"):
        tb.Packing.load(path, lengths=LENGTHS + 1)
    with fails(ValueError, "Packing.load()", "400 rows", "there are 3"):
        tb.Packing.load(path, lengths=[1, 2, 3])
    with fails(ValueError, "Packing.load()", "capacity=100, expected 90"):
        tb.Packing.load(path, capacity=90)


@pytest.mark.parametrize(
    "change",
    [
        setter("indices", 0, 400),
        setter("indices", 0, -1),
        setter("starts", 0, -1),
        setter("starts", 0, 2**62),
        setter("row_lengths", 0, -1),
        setter("offsets", 1, 2**60),
        remove("indices"),
        remove("row_lengths"),
        lambda about, arrays: arrays.update(starts=arrays["starts"][:-1]),
        lambda about, arrays: about.update(capacity=0),
        lambda about, arrays: about.update(capacity=True),
        lambda about, arrays: about.update(capacity=2**63),
        lambda about, arrays: about.update(dropped=None),
        lambda about, arrays: about.pop("truncated"),
    ],
)
def test_hostile_packings(change, path):
    tb.pack(LENGTHS, 60, overlong="split").save(path)
    forge(path, change)
    with fails(ValueError, "Packing.load()"):
        tb.Packing.load(path)
