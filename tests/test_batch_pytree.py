"""tb.Batch in torch and JAX: a container that both look into, whatever was imported first."""

import copy
import importlib.util
import io
import pickle

import numpy as np
import pytest

import tightbatch as tb
from checks import run_python

SAMPLES = [
    {"input_ids": [1, 2], "weight": 0.5, "more": {"feats": [1.0, 2.0]}},
    {"input_ids": [3], "weight": 1.5, "more": {"feats": [3.0]}},
]


class Own(tb.Batch):
    """A user's own class."""


@pytest.fixture(params=[tb.Batch, Own])
def cls(request):
    return request.param


def made(tensors="np"):
    return tb.PadCollator(return_tensors=tensors)([dict(sample) for sample in SAMPLES])


# JAX, in processes of its own: its threads do not survive the forks of other tests.


@pytest.fixture
def jax():
    if importlib.util.find_spec("jax") is None:
        pytest.skip("could not import 'jax'")


def test_jax_takes_a_batch_as_a_dict(jax):
    run_python("import checks_of_jax; checks_of_jax.check_batches()")


@pytest.mark.parametrize("first", ["jax", "batch"])
def test_a_fresh_process_with_jax(jax, first):
    run_python(
        f"""
        import sys
        import numpy as np
        if {first!r} == "jax":
            import jax
        import tightbatch as tb
        batch = tb.Batch(x=np.ones(2))
        assert "torch" not in sys.modules
        assert ("jax" in sys.modules) == ({first!r} == "jax")
        import jax
        batch = tb.Batch(x=np.ones(2))
        assert type(jax.tree.map(lambda array: array + 1, batch)) is tb.Batch
        assert len(jax.tree.leaves(batch)) == 1
        """
    )


# torch


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_torch_maps_a_batch(torch, cls):
    from torch.utils import _pytree

    batch = cls(made("pt"))
    doubled = _pytree.tree_map_only(torch.Tensor, lambda tensor: tensor * 2, batch)
    assert type(doubled) is cls
    assert list(doubled) == list(batch)
    assert doubled["input_ids"].tolist() == [[2, 4], [6, 0]]
    assert type(doubled["more"]) is tb.Batch
    assert doubled["more"]["feats"].tolist() == [[2, 4], [6, 0]]


def test_torch_transforms_take_a_batch(torch, cls):
    batch = cls(x=torch.tensor([1.0, 2.0]), y=torch.tensor([3.0, 4.0]))
    assert torch.vmap(lambda b: b["x"] * b["y"])(batch).tolist() == [3, 8]
    slope = torch.func.grad(lambda b: (b["x"] * b["y"]).sum())(batch)
    assert type(slope) is cls
    assert slope["x"].tolist() == [3, 4]


def test_torch_exports_a_model_of_a_batch(torch):
    class Whole(torch.nn.Module):
        def forward(self, batch):
            return tb.Batch(total=batch["input_ids"].sum() + batch["more"]["feats"].sum())

    class Parts(torch.nn.Module):
        def forward(self, input_ids, **others):
            return input_ids.sum() + others["weight"].sum()

    batch = made("pt")
    for strict in (False, True):
        program = torch.export.export(Whole(), (batch,), strict=strict)
        assert program.module()(batch)["total"].item() == 12
    kept = io.BytesIO()
    torch.export.save(torch.export.export(Whole(), (batch,)), kept)
    kept.seek(0)
    assert torch.export.load(kept).module()(batch)["total"].item() == 12
    program = torch.export.export(Parts(), (), dict(batch))
    assert program.module()(**batch).item() == 8
    assert torch.func.functional_call(Parts(), {}, (), batch).item() == 8


def test_torch_compiles_with_a_batch(torch):
    @torch.compile(backend="eager", fullgraph=True)
    def total(batch):
        return tb.Batch(total=batch["input_ids"].sum(), ids=batch["input_ids"])

    result = total(made("pt"))
    assert type(result) is tb.Batch
    assert result["total"].item() == 6


def test_torch_saves_and_loads_a_batch(torch, cls):
    kept = io.BytesIO()
    torch.save(cls(made("pt")), kept)
    kept.seek(0)
    loaded = torch.load(kept, weights_only=True)
    assert type(loaded) is cls
    assert loaded["input_ids"].tolist() == [[1, 2], [3, 0]]


def collate_one_more(samples):
    """At the top of the module, so that a worker that is spawned can import it."""
    import torch
    from torch.utils._pytree import tree_map_only

    return tree_map_only(torch.Tensor, lambda tensor: tensor + 1, tb.PadCollator()(samples))


def test_a_batch_in_a_worker_is_a_pytree(torch):
    from torch.utils.data import DataLoader

    loader = DataLoader(
        SAMPLES, batch_size=2, num_workers=1, collate_fn=collate_one_more, timeout=200
    )
    (batch,) = loader
    assert type(batch) is tb.Batch
    assert batch["input_ids"].tolist() == [[2, 3], [4, 1]]


@pytest.mark.parametrize("first", ["torch", "batch"])
def test_a_fresh_process_with_torch(torch, first):
    run_python(
        f"""
        import sys
        if {first!r} == "torch":
            import torch
        import tightbatch as tb
        batch = tb.Batch(x=1)
        assert ("torch" in sys.modules) == ({first!r} == "torch")
        import torch
        batch = tb.Batch(x=torch.ones(2))
        assert torch.vmap(lambda b: b["x"] + 1)(batch).tolist() == [2, 2]
        """
    )


def test_a_batch_that_was_pickled_is_one_too(torch, jax):
    stored = pickle.dumps(tb.Batch(x=np.ones(2)))
    run_python(
        f"""
        import pickle, jax
        batch = pickle.loads({stored!r})
        assert len(jax.tree.leaves(batch)) == 1
        assert batch["x"].tolist() == [1, 1]
        """
    )


def test_moves_what_is_nested(torch):
    batch = tb.PadCollator()([{"a": {"x": [1]}, "p": ([1], 2), "t": "s"}])
    batch["more"] = [torch.ones(2), None]
    batch["plain"] = {"y": torch.ones(1)}
    inner = batch["a"]
    assert batch.to("meta") is batch
    assert batch["a"] is inner
    assert inner["x"].is_meta
    assert batch["p"][0].is_meta
    assert batch["more"][0].is_meta
    assert batch["plain"]["y"].is_meta
    assert batch["t"] == ["s"]
    assert type(batch["p"]) is tuple


def test_torch_pins_a_batch(torch, monkeypatch):
    from torch.utils.data._utils import pin_memory

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *device: tensor + 1)
    for pin in (pin_memory.pin_memory, tb.Batch.pin_memory):
        pinned = pin(tb.PadCollator()(SAMPLES))
        assert type(pinned) is tb.Batch
        assert pinned["input_ids"].tolist() == [[2, 3], [4, 1]]
        assert type(pinned["more"]) is tb.Batch
        assert pinned["more"]["feats"].tolist() == [[2, 3], [4, 1]]


# Without either


@pytest.mark.parametrize(
    "make",
    [
        copy.copy,
        copy.deepcopy,
        lambda batch: batch.copy(),
        lambda batch: batch | {},
        lambda batch: {} | batch,
        lambda batch: pickle.loads(pickle.dumps(batch)),
        lambda batch: type(batch)(**batch),
        lambda batch: type(batch)(batch.items()),
    ],
)
def test_copies_keep_their_class(make, cls):
    batch = cls(made())
    other = make(batch)
    assert type(other) is cls
    assert other is not batch
    assert list(other) == list(batch)
    assert other["more"]["feats"].tolist() == [[1, 2], [3, 0]]


def test_entries_of_the_right_win():
    one, other = tb.Batch(x=1, y=2), {"y": 3}
    assert (one | other) == {"x": 1, "y": 3}
    assert (other | one) == {"x": 1, "y": 2}
    one |= other
    assert type(one) is tb.Batch
    assert one == {"x": 1, "y": 3}
    with pytest.raises(TypeError):
        one | [1]


def test_attributes_of_ones_own_are_copied():
    batch = Own(x=1)
    batch.note = "kept"
    assert copy.copy(batch).note == pickle.loads(pickle.dumps(batch)).note == "kept"


def test_a_nested_batch_is_shown():
    assert repr(tb.Batch(a=tb.Batch(x=np.ones(2)))) == "Batch(a: Batch(x: float64 [2]))"
