"""Checks against JAX, for a process of their own: its threads do not survive a fork."""

import jax
import jax.numpy as jnp
import numpy as np

import tightbatch as tb
from checks import assert_same, fails


class Own(tb.Batch):
    """A user's own class."""


def made():
    samples = [
        {"ids": [1, 2], "more": {"feats": [1.0, 2.0]}},
        {"ids": [3], "more": {"feats": [3.0]}},
    ]
    return tb.PadCollator(return_tensors="np")(samples)


def check_batches():
    batch = made()
    doubled = jax.tree.map(lambda array: array * 2, batch)
    assert type(doubled) is type(doubled["more"]) is tb.Batch
    assert set(doubled) == set(batch)
    assert doubled["ids"].tolist() == [[2, 4], [6, 0]]
    assert doubled["more"]["feats"].tolist() == [[2, 4], [6, 0]]
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(batch)[0]]
    assert jax.tree_util.keystr(paths[0]) == "['attention_mask']"
    assert len(jax.tree.leaves(batch)) == 4
    check_compiled(batch)
    for cls in (tb.Batch, Own):
        check_moved(cls)
    check_without_padding()
    mixed = tb.Batch({1: np.ones(2), "a": np.zeros(2)})
    assert list(jax.tree.map(lambda array: array, mixed)) == [1, "a"]


def check_compiled(batch):
    calls = []

    @jax.jit
    def total(batch):
        calls.append(1)
        return batch["ids"].sum() + batch["more"]["feats"].sum(), batch

    for _ in range(2):
        value, same = total(batch)
        assert float(value) == 12
        assert type(same) is tb.Batch
        assert same["ids"].tolist() == batch["ids"].tolist()
    total(tb.Batch(reversed(list(batch.items()))))
    assert calls == [1]  # the order of the keys makes no other structure


def check_moved(cls):
    batch = cls(x=np.float32([1, 2]), y=np.float32([3, 4]))
    moved = jax.device_put(batch)
    assert type(moved) is cls
    assert isinstance(moved["x"], jax.Array)
    slope = jax.grad(lambda b: (b["x"] * b["y"]).sum())(batch)
    assert type(slope) is cls
    assert slope["x"].tolist() == [3, 4]
    assert jax.vmap(lambda b: b["x"] + b["y"])(batch).tolist() == [4, 6]
    assert type(jax.tree.map(lambda a, b: a + b, batch, batch)) is cls


def check_without_padding():
    samples = [{"input_ids": [1, 2]}, {"input_ids": [3]}]
    batch = tb.PaddingFreeCollator(return_tensors="np")(samples)
    longest = jax.jit(lambda b: b["input_ids"].sum() * b["max_length_q"])
    assert int(longest(batch)) == 12
    assert int(jax.device_put(batch)["max_length_q"]) == 2


def check_numbers():
    collate = tb.PadCollator(return_tensors="np")
    for value, dtype, own in (
        (jnp.float32(0.5), np.float32, np.float32),
        (jnp.float16(0.5), np.float32, np.float16),
        (jnp.bfloat16(0.5), np.float32, "bfloat16"),
        (jnp.int8(3), np.int64, np.int8),
        (jnp.array(True), np.bool_, np.bool_),
    ):
        plain = value.item()
        assert_same(tb.pad([[value]]), [[plain]], dtype)
        assert_same(
            tb.pad([[value, value], [value]], padding_value=value), [[plain] * 2] * 2, dtype
        )
        column = collate([{"x": [1], "y": value}])["y"]
        assert (column.dtype, column.tolist()) == (own, [plain])
        assert tb.RaggedDataset({"y": [value]})["y"].tolist() == [plain]
        assert tb.Ragged.from_sequences([[value]]).tolist() == [[plain]]
    assert tb.pad([[1]], width=jnp.int32(3)).shape == (1, 3)
    assert tb.attention_mask([jnp.int32(2)]).tolist() == [[1, 1]]
    for wrong in (jnp.complex64(1j), jnp.ones(1), jnp.ones((2, 2))):
        with fails(TypeError, "pad()", "row 1", "column 1"):
            tb.pad([[1], [2, wrong]])


def check_rows():
    for dtype in ("int32", "float16", "bfloat16", "bool"):
        rows = [jnp.array([1, 0], dtype), jnp.array([1], dtype)]
        for given in (rows, [{"features": row} for row in rows]):
            batch = tb.PadCollator(return_tensors="np")(given)
            array = batch if given is rows else batch["features"]
            assert (array.dtype, array.astype(float).tolist()) == (dtype, [[1, 0], [1, 0]])
    columns = {"x": jnp.arange(6).reshape(2, 3), "y": jnp.array([0.5, 1.5])}
    batch = tb.PadCollator(return_tensors="np")(columns)
    assert batch["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert batch["y"].tolist() == [0.5, 1.5]
