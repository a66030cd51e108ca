"""half_report over whole checkpoints: nested containers, optimizers, files of every kind."""

import dataclasses
import importlib.util
import pathlib
import types
from collections import OrderedDict, UserDict, namedtuple

import numpy as np
import pytest

import tightbatch as tb
from checks import fails, run_python

ONES = np.float32([1, 1e5])


def names(x):
    return sorted(tensor.name for tensor in tb.half_report(x))


def test_a_nested_checkpoint_has_dotted_names_and_lists_what_is_left_out():
    state = {"layer.weight": ONES, "layer.bias": np.float16([0.5]), "steps": np.arange(3)}
    report = tb.half_report({"model": state, "epoch": 3, "best": 0.25, "note": "x", "none": None})
    assert [tensor.name for tensor in report] == ["model.layer.weight", "model.layer.bias"]
    assert report["model.layer.weight"].float16.first_overflowed == ((1,),)
    assert report.others == {
        "model.steps": "int64", "epoch": "int", "best": "float", "note": "str", "none": "NoneType",
    }  # fmt: skip


Pair = namedtuple("Pair", "first second")


@dataclasses.dataclass
class Config:
    weight: object
    steps: int = 2


CONTAINERS = {
    "dict": ({"a": {"b": {"c": ONES}}}, ["a.b.c"]),
    "OrderedDict": (OrderedDict(a=OrderedDict(b=ONES)), ["a.b"]),
    "UserDict": (UserDict(a=UserDict(b=ONES)), ["a.b"]),
    "mappingproxy": (types.MappingProxyType({"a": ONES}), ["a"]),
    "list": ([ONES, {"b": ONES.copy()}], ["0", "1.b"]),
    "tuple": ((ONES, [ONES.copy(), (ONES.copy(),)]), ["0", "1.0", "1.1.0"]),
    "namedtuple": (Pair(ONES, {"x": ONES.copy()}), ["first", "second.x"]),
    "dataclass": (Config(ONES), ["weight"]),
    "a dataclass inside": ({"a": [Config({"w": ONES})]}, ["a.0.weight.w"]),
    "namespace": (types.SimpleNamespace(a=ONES, b=1), ["a"]),
    "numbers of other types as keys": ({1: ONES, None: ONES.copy()}, ["1", "None"]),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers_of_every_kind(kind):
    given, expected = CONTAINERS[kind]
    assert names(given) == sorted(expected)


def test_attrs_classes():
    attrs = pytest.importorskip("attrs")
    made = attrs.make_class("Made", ["weight", "count"])
    report = tb.half_report({"x": made(ONES, 3)})
    assert [tensor.name for tensor in report] == ["x.weight"]
    assert report.others == {"x.count": "int"}


@pytest.mark.parametrize("number", [np.float32(0.07), np.float64(1e9), np.float16(1)], ids=repr)
def test_numpy_scalars(number):
    alone = tb.half_report(number)
    inside = tb.half_report({"w": np.float32([1.0]), "t": number, "n": np.int64(3), "b": np.True_})
    for tensor in (alone[0], inside["t"]):
        assert (tensor.shape, tensor.size, tensor.dtype) == ((), 1, number.dtype.name)
        assert tensor.largest == abs(float(number))
        assert tensor.float16.overflowed == (number > 65504)
    assert inside.others == {"n": "int64", "b": "bool"}


def test_what_contains_itself_ends():
    checkpoint = {"w": ONES}
    checkpoint["self"] = checkpoint
    checkpoint["inner"] = {"list": [checkpoint, {"v": np.float32([2])}]}
    report = tb.half_report(checkpoint)
    assert sorted(tensor.name for tensor in report) == ["inner.list.1.v", "w"]
    assert report.others == {
        "self": "the same as the whole", "inner.list.0": "the same as the whole",
    }  # fmt: skip


def test_a_container_that_occurs_twice_is_counted_once():
    shared = {"w": ONES}
    many = shared
    for _ in range(100):  # 2**100 paths
        many = {"a": many, "b": many}
    report = tb.half_report(many)
    assert len(report) == 1
    assert report.nbytes == ONES.nbytes


def test_nesting_beyond_the_stack_of_python():
    deep = {"w": ONES}
    for _ in range(5000):
        deep = {"x": deep}
    assert names(deep)[0].endswith(".x.w")


def test_arrays_that_are_made_when_they_are_asked_for_are_not_taken_for_shared_memory():
    class Made(dict):
        def __getitem__(self, key):
            return np.full(1000, key, np.float32)

    report = tb.half_report({"made": Made.fromkeys(range(1, 30))})
    assert len(report) == 29
    assert sorted(tensor.largest for tensor in report) == list(range(1, 30))


@pytest.mark.parametrize(
    "x", [[], [1.0], ["a", None], (1, 2), {1.0}, types, "abc", "abc.txt", "x" * 10**5, int], ids=str
)
def test_what_holds_no_tensors_is_refused(x):
    with fails(TypeError, "half_report()", type(x).__name__, "expected an array", ".safetensors"):
        tb.half_report(x)


def test_a_file_that_is_not_there():
    for path in ("none.npz", pathlib.Path("none.safetensors"), "none.pt"):
        with fails(FileNotFoundError, "half_report()", str(path)):
            tb.half_report(path)


@pytest.mark.parametrize("as_path", [str, pathlib.Path])
def test_numpys_files(tmp_path, as_path):
    rows = np.full((3, 4), 7e4, np.float64)
    np.savez(tmp_path / "a.npz", w=rows, ids=np.arange(3), o=np.array([None]), b=ONES)
    report = tb.half_report(as_path(tmp_path / "a.npz"))
    assert [tensor.name for tensor in report] == ["w", "b"]
    assert report["w"].float16.overflowed == 12
    assert report.others == {"ids": "int64", "o": "object"}
    with np.load(tmp_path / "a.npz") as opened:
        assert tb.half_report({"file": opened})["file.w"].size == 12
    np.savez_compressed(tmp_path / "b.npz", **{"x/y": rows})
    (tmp_path / "b.npz").rename(tmp_path / "B.NPZ")
    assert names(as_path(tmp_path / "B.NPZ")) == ["x/y"]
    np.save(tmp_path / "c.npy", rows.T)
    assert tb.half_report(as_path(tmp_path / "c.npy"))[0].shape == (4, 3)


def test_hdf5_files_and_groups(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file["layers/0/kernel"] = np.full((2, 3), 1e9, ">f4")
        file["layers/0/bias"] = np.float16([0.5])
        file["layers/0/steps"] = 3
        file["name"] = "text"
        file["scalar"] = np.float64(0.07)
        file["hard"] = file["layers/0/bias"]
        file["loop"] = file["layers"]
        file["gone"] = h5py.SoftLink("/nowhere")
        file["empty"] = h5py.Empty("f4")
        file["layers/up"] = h5py.SoftLink("/layers")
    expected = ["layers.0.bias", "layers.0.kernel", "scalar"]
    with h5py.File(path) as file:
        found = {"file": tb.half_report(file), "group": tb.half_report(file["layers"])}
        one = tb.half_report(file["layers/0/kernel"])
    found["path"] = tb.half_report(path)
    assert one[0].float16.overflowed == 6
    assert found["path"].to_dict() == found["file"].to_dict()
    # HDF5 gives keys in the order of the alphabet: the hard links come first.
    assert sorted(t.size for t in found["file"]) == [1, 1, 6]
    assert len(found["file"]) == len(expected)
    assert sorted(t.name for t in found["group"]) == ["0.bias", "0.kernel"]
    others = found["file"].others
    assert others["gone"] == "a link that leads nowhere"
    assert others["empty"] == "empty"
    assert others["name"] == "object"
    assert found["group"].others["up"] == "the same as the whole"
    assert any("the same as" in reason for reason in others.values())


JAX = """
import jax.numpy as jnp
import tightbatch as tb

tree = {"params": {"dense": {"kernel": jnp.full((2, 2), 1e5), "bias": jnp.ones(2, "bfloat16")}}}
report = tb.half_report({**tree, "step": jnp.int32(3), "tied": tree["params"]["dense"]["bias"]})
names = sorted(tensor.name for tensor in report)
assert names == ["params.dense.bias", "params.dense.kernel"], names
assert report["params.dense.kernel"].float16.overflowed == 4
assert report["params.dense.bias"].dtype == "bfloat16"
assert report.others == {"step": "int32", "tied": "the memory of params.dense.bias"}
assert tb.half_report(jnp.float32(0.07))[0].shape == ()
assert tb.half_report(jnp.ones(3))[0].size == 3
"""


def test_jax_arrays():
    """In a process of its own: JAX has threads, which do not survive a fork."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs jax")
    run_python(JAX)


# What torch saves.


def trained():
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    return torch, model, optimizer


MODEL = ["0.bias", "0.weight", "1.bias", "1.running_mean", "1.running_var", "1.weight"]


def test_optimizer_states():
    _, model, optimizer = trained()
    report = tb.half_report(optimizer.state_dict())
    assert len(report) == 12  # step, exp_avg and exp_avg_sq of four parameters
    assert report["state.0.exp_avg"].shape == (2, 3)
    assert report["state.3.step"].shape == ()
    assert report.others["param_groups.0.lr"] == "float"
    assert report.others["param_groups.0.params"] == "list"
    assert tb.half_report(optimizer).to_dict() == report.to_dict()
    both = tb.half_report({"model": model, "optimizer": optimizer, "epoch": 1})
    assert len(both) == 12 + len(MODEL)
    assert "optimizer.state.0.exp_avg" in both
    assert both.others["model.1.num_batches_tracked"] == "torch.int64"


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_torchs_files(tmp_path, suffix, zipped):
    torch, model, optimizer = trained()
    path = tmp_path / f"model{suffix}"
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    report = tb.half_report(str(path))
    assert report.to_dict() == tb.half_report(checkpoint).to_dict()
    assert [n for n in names(path) if n.startswith("model.")] == [f"model.{n}" for n in MODEL]


def test_a_file_with_code_is_not_run(tmp_path):
    torch, model, _ = trained()
    torch.save(model, tmp_path / "model.pt")
    with fails(ValueError, "half_report()", "model.pt", "weights_only=False"):
        tb.half_report(tmp_path / "model.pt")


def test_safetensors(tmp_path):
    torch, model, _ = trained()
    save_file = pytest.importorskip("safetensors.torch").save_file
    state = {**model.state_dict(), "half": torch.full((3,), 3.0, dtype=torch.bfloat16)}
    save_file(
        {name: value.contiguous() for name, value in state.items()}, tmp_path / "m.safetensors"
    )
    for path in (str(tmp_path / "m.safetensors"), tmp_path / "m.safetensors"):
        report = tb.half_report(path)
        assert sorted(tensor.name for tensor in report) == sorted([*MODEL, "half"])
        assert report.others == {"1.num_batches_tracked": "torch.int64"}
        assert report.to_dict() == tb.half_report(dict(sorted(state.items()))).to_dict()


def test_safetensors_without_torch(tmp_path, monkeypatch):
    safetensors = pytest.importorskip("safetensors.numpy")
    from tightbatch.half import tensors

    monkeypatch.setattr(tensors, "find_spec", lambda name: None)
    safetensors.save_file({"w": ONES, "i": np.arange(3)}, tmp_path / "m.safetensors")
    report = tb.half_report(tmp_path / "m.safetensors")
    assert [tensor.name for tensor in report] == ["w"]
    assert report.others == {"i": "int64"}


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_tensors_are_named_among_what_is_left_out():
    torch, model, _ = trained()
    sparse = torch.eye(3)
    layouts = {
        "coo": sparse.to_sparse(),
        "csr": sparse.to_sparse_csr(),
        "inside": {"csc": sparse.to_sparse_csc()},
    }
    report = tb.half_report({"model": model, **layouts})
    assert sorted(tensor.name for tensor in report) == sorted(f"model.{name}" for name in MODEL)
    found = {name: told for name, told in report.others.items() if not name.startswith("model")}
    assert found == {
        "coo": "torch.float32, sparse_coo",
        "csr": "torch.float32, sparse_csr",
        "inside.csc": "torch.float32, sparse_csc",
    }
    with fails(TypeError, "half_report()", "sparse"):
        tb.half_report(layouts["coo"])


@pytest.mark.parametrize("framework", ["pt", "np"])
def test_open_files_of_safetensors(tmp_path, framework):
    pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors")
    pytest.importorskip("safetensors.numpy").save_file({"w": ONES}, tmp_path / "m.safetensors")
    with safetensors.safe_open(tmp_path / "m.safetensors", framework=framework) as file:
        assert names(file) == ["w"]
        assert names({"inside": file, "other": ONES}) == ["inside.w", "other"]


def test_a_directory_names_its_files(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    )
    place = tmp_path / "saved"
    transformers.BertModel(config).save_pretrained(place)
    for path in (place, str(place)):
        with fails(IsADirectoryError, "half_report()", "is a directory", "model.safetensors"):
            tb.half_report(path)
    assert len(tb.half_report(place / "model.safetensors")) > 0
    empty = tmp_path / "empty.pt"
    empty.mkdir()
    with fails(IsADirectoryError, "half_report()", "is a directory", "there is none inside"):
        tb.half_report(empty)
