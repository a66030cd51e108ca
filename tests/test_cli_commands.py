"""The commands ``check``, ``pack`` and ``half-report``, on real loaders, files and checkpoints."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tightbatch as tb
from tightbatch.cli import main

pytest.importorskip("typer")

DRAW = random.Random(0)
ROWS = [[DRAW.randrange(1, 100) for _ in range(DRAW.randrange(1, 30))] for _ in range(60)]
LENGTHS = [len(row) for row in ROWS]


@pytest.fixture
def fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """Run a command in an empty folder, and see it fail with one line that says this."""
    monkeypatch.chdir(tmp_path)

    def fails(said: str, *options: str) -> None:
        assert main([*options]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert said in captured.err

    return fails


# check

LOADERS = """
import numpy as np
import tightbatch as tb

samples = [{"input_ids": list(range(1, 2 + i % 7))} for i in range(40)]
collate = tb.PadCollator(return_tensors="np")
good = [collate(samples[i : i + 4]) for i in range(0, 40, 4)]
masks = [batch["attention_mask"].copy() for batch in good]
for mask in masks[3:]:
    mask[1, 0] = 2
wrong = [{**batch, "attention_mask": mask} for batch, mask in zip(good, masks)]
one, number, none, words = good[0], 3, [], ["a"]


class Inside:
    loader = good


def make():
    return iter(good)


def fail():
    raise ValueError("my\\nmistake")


def later():
    yield good[0]
    raise KeyError("x")
"""


@pytest.fixture
def loaders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module with loaders, in the current folder; each test has its own."""
    name = f"loaders_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(LOADERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


@pytest.mark.parametrize("name", ["good", "make", "Inside.loader", "one"])
def test_good_batches_are_exit_code_0(
    name: str, loaders: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (loaders, f"./{loaders}.py"):
        assert main(["check", f"{module}:{name}"]) == 0
        out = capsys.readouterr().out
        batches = "1 batch" if name == "one" else "10 batches"
        assert out.startswith(f"{batches}: nothing wrong. Looked at: input_ids (ids), attention_m")


def test_findings_are_exit_code_1(loaders: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{loaders}:wrong", "--batches", "3"]) == 0
    capsys.readouterr()
    assert main(["check", f"{loaders}:wrong", "--batches", "4"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("batch 3: key 'attention_mask', row 1")
    assert "4 batches: 1 fault. " in out
    assert main(["check", f"{loaders}:wrong", "--json", "-"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["batches"] == 10
    assert found["count"] == len(found["findings"]) == 7
    assert [one["batch"] for one in found["findings"]] == list(range(3, 10))
    kind = found["findings"][0]["kind"]
    assert main(["check", f"{loaders}:wrong", "--skip", kind]) == 0


def test_settings_of_the_model_count(loaders: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{loaders}:good", "--vocab-size", "8", "--max-position", "7"]) == 0
    assert main(["check", f"{loaders}:good", "--vocab-size", "2"]) == 1
    out = capsys.readouterr().out
    assert "found id 2, expected 0 to 1" in out
    assert "more; of all: id_range " in out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{}:goood", "has no 'goood': did you mean good? there are: "),
        ("{}:number", "is an int; expected a loader, or a function that makes one"),
        ("{}:none", "gives no batches"),
        ("{}:words", "batch 0: batch is 'a' (str), expected columns by name"),
        ("{}:fail", "failed with ValueError: my mistake ("),
        ("{}:later", "failed with KeyError: 'x' ("),
        ("{}", "names no loader; expected module:name"),
        ("{}_no:x", "there is no module "),
        ("./{}_no.py:x", "no such file"),
        ("{}:good --vocab-size -1", "--vocab-size -1; expected an integer of at least 1"),
        ("{}:good --skip foo", "skip has 'foo'"),
        ("{}:good --batches 0", "Invalid value for '--batches'"),
    ],
)
def test_a_loader_that_cannot_be_checked(
    name: str, said: str, loaders: str, fails: Callable[..., None]
) -> None:
    fails(said, "check", *name.format(loaders).split())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_here", "ModuleNotFoundError: No module named 'nothing_here' ("),
        ("def f(:", "SyntaxError: invalid syntax (broken_"),
        ("raise SystemExit(3)", "SystemExit: 3 ("),
    ],
)
def test_a_module_that_cannot_be_imported(
    code: str, said: str, loaders: str, fails: Callable[..., None]
) -> None:
    name = loaders.replace("loaders", "broken")
    Path(f"{name}.py").write_text(code)
    fails(said, "check", f"{name}:x")


def test_a_traceback_when_asked_for(loaders: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{loaders}:fail", "--traceback"]) == 2
    assert "in fail" in capsys.readouterr().err


# pack


@pytest.fixture
def parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file of rows, in the current folder; gives pyarrow.parquet."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    table = pa.table(
        {
            "id": list(range(60)),
            "input_ids": ROWS,
            "labels": [[-token for token in row] for row in ROWS],
            "text": [" ".join(["w"] * len(row)) for row in ROWS],
            "inner": [{"ids": [1]}] * 60,
        }
    )
    pq.write_table(table, "a.parquet")
    return pq


def test_packs_hold_every_row_once(parquet: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "a.parquet", "out.parquet", "--capacity", "64", "--seed", "3"]) == 0
    packing = tb.pack(LENGTHS, 64, seed=3)
    out = capsys.readouterr().out
    assert f"a.parquet: 60 rows, {sum(LENGTHS):,} tokens" in out
    assert f"{len(packing)} packs of 64 tokens, {packing.efficiency:.2%} full" in out
    assert f"no packing has fewer than {packing.lower_bound}" in out
    assert "columns left out: id, text, inner" in out
    table = parquet.read_table("out.parquet")
    assert table.column_names == ["input_ids", "labels", "seq_lengths"]
    rows = tb.Ragged.from_sequences(ROWS)
    assert table["input_ids"].to_pylist() == packing.apply(rows).tolist()
    assert table["labels"].to_pylist() == [[-t for t in p] for p in packing.apply(rows).tolist()]
    assert table["seq_lengths"].to_pylist() == packing.seq_lengths.tolist()


def test_packs_are_read_by_datasets_and_collated(parquet: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    options = ["--capacity", "64", "--column", "input_ids"]
    for name, reader in (("p.parquet", "from_parquet"), ("p.arrow", "from_file")):
        assert main(["pack", "a.parquet", name, *options]) == 0
        if reader == "from_file":
            table = pytest.importorskip("pyarrow").ipc.open_file(name).read_all()
            packs = datasets.Dataset(table)
        else:
            packs = datasets.Dataset.from_parquet(name, cache_dir=str(tmp_path / "cache"))
        batch = tb.PaddingFreeCollator(return_tensors="np", padding_value=0)([packs[0], packs[1]])
        lengths = packs[0]["seq_lengths"] + packs[1]["seq_lengths"]
        assert np.diff(batch["cu_seq_lens_q"]).tolist() == lengths
        assert batch["input_ids"].ravel().tolist() == packs[0]["input_ids"] + packs[1]["input_ids"]


def test_text_and_bare_tokens_are_packed(parquet: Any) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"w": 7}, "w"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save("tokenizer.json")
    options = ["--capacity", "64", "--tokenizer", "."]
    assert main(["pack", "a.parquet", "text.parquet", *options]) == 0
    found = parquet.read_table("text.parquet")
    packing = tb.pack(LENGTHS, 64)
    assert found["seq_lengths"].to_pylist() == packing.seq_lengths.tolist()
    assert set(np.concatenate(found["input_ids"].to_pylist()).tolist()) == {7}

    flat = np.concatenate([[*row, 0] for row in ROWS]).astype(np.uint16)
    flat.tofile("x.bin")
    np.save("x.npy", flat)
    rows = tb.Ragged.from_sequences([[*row, 0] for row in ROWS])
    for name, *options in (["x.bin", "--dtype", "uint16"], ["x.npy"]):
        options += ["--eos", "0", "--capacity", "64", "--force"]
        assert main(["pack", name, "x.parquet", *options]) == 0
        found = parquet.read_table("x.parquet")
        assert found["input_ids"].to_pylist() == tb.pack(rows.lengths, 64).apply(rows).tolist()


@pytest.mark.parametrize("overlong", ["truncate", "split", "drop"])
def test_rows_longer_than_a_pack(
    overlong: Any, parquet: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--capacity", "16", "--overlong", overlong, "--max-segments", "3"]
    assert main(["pack", "a.parquet", "out.parquet", *options]) == 0
    packing = tb.pack(LENGTHS, 16, overlong=overlong, max_segments=3)
    found = parquet.read_table("out.parquet")["seq_lengths"].to_pylist()
    assert found == packing.seq_lengths.tolist()
    out = capsys.readouterr().out
    assert (f"{packing.dropped} rows longer than a pack left out" in out) == (overlong == "drop")
    assert (f"{packing.truncated:,} tokens cut off" in out) == (overlong == "truncate")


def test_rows_without_a_value_or_tokens(parquet: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"a": [[1, 2], None, [3], []], "b": [[1, 2], [3], None, []]})
    parquet.write_table(table, "nulls.parquet")
    assert main(["pack", "nulls.parquet", "out.parquet", "--capacity", "2"]) == 0
    assert "2 rows without a value left out" in capsys.readouterr().out
    found = parquet.read_table("out.parquet")
    assert found.to_pydict() == {"a": [[1, 2]], "b": [[1, 2]], "seq_lengths": [[2]]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("a.parquet a.parquet --force", "is the file that is read"),
        ("a.parquet there.parquet", "is there already; --force replaces it"),
        ("a.parquet x.csv", "the name must end in .parquet, .arrow, .feather"),
        ("a.parquet no/x.parquet", "there is no directory no"),
        ("a.parquet x.parquet --column text", "column 'text' holds text: pass --tokenizer"),
        ("a.parquet x.parquet --column id", "holds one number a row (int64)"),
        ("a.parquet x.parquet --column input_ids --column inner.ids", "row 0: column 'inner.ids'"),
        ("a.parquet x.parquet --capacity 5", "is more than --capacity 5; pass --overlong"),
        ("a.parquet x.parquet --capacity 0", "--capacity 0; expected an integer of at least 1"),
        ("a.parquet x.parquet --eos 3", "--eos and --dtype are for files of bare tokens"),
        ("a.txt x.parquet", "no column holds rows of numbers; pass --tokenizer to pack text"),
        ("packed.parquet x.parquet", "has seq_lengths, so its rows are packs"),
        ("empty.parquet x.parquet", "no row has a token"),
    ],
)
def test_what_cannot_be_packed(
    options: str, said: str, parquet: Any, fails: Callable[..., None]
) -> None:
    pa = pytest.importorskip("pyarrow")
    Path("there.parquet").write_text("mine")
    Path("a.txt").write_text("a b")
    parquet.write_table(pa.table({"ids": [[1]], "seq_lengths": [[1]]}), "packed.parquet")
    parquet.write_table(pa.table({"ids": pa.array([[]], pa.list_(pa.int64()))}), "empty.parquet")
    before = sorted(path.name for path in Path().iterdir())
    more = [] if "--capacity" in options else ["--capacity", "64"]
    fails(said, "pack", *options.split(), *more)
    assert sorted(path.name for path in Path().iterdir()) == before  # no part of a file stays
    assert Path("there.parquet").read_text() == "mine"


# half-report


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arrays, and the current folder with files of them."""
    monkeypatch.chdir(tmp_path)
    arrays = {
        "large": np.float32([1e6, 1.0, 1e-9]),
        "usual": np.linspace(0.1, 1, 50, dtype=np.float32),
        "ids": np.arange(3),
    }
    np.savez("w.npz", **arrays)
    return arrays


def test_a_checkpoint_is_reported(
    weights: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["half-report", "w.npz"]) == 0
    out = capsys.readouterr().out
    first, second, _, *rest = out.splitlines()
    assert first == (
        "float16: 1 number in 1 of 2 tensors would be infinite; "
        "1 number in 1 of 2 tensors would be zero."
    )
    assert second == "bfloat16: no number would be infinite or zero."
    assert "\n".join(rest) == str(tb.half_report(weights))
    assert main(["half-report", "w.npz", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(
        json.dumps(tb.half_report(weights).to_dict())
    )


def test_checkpoints_of_torch_and_safetensors(
    weights: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    torch.save({"model": tensors, "epoch": 3}, "w.pt")
    assert main(["half-report", "w.pt", "--counts", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found["tensors"]] == ["model.large", "model.usual"]
    pytest.importorskip("safetensors.torch").save_file(tensors, "w.safetensors")
    assert main(["half-report", "w.safetensors"]) == 0
    assert "float16: 1 number in 1 of 2 tensors would be infinite" in capsys.readouterr().out
    torch.save({"a": Path("x")}, "objects.pt")
    assert main(["half-report", "objects.pt"]) == 2
    assert "holds Python objects, not tensors alone" in capsys.readouterr().err
    Path("junk.safetensors").write_bytes(b"junk" * 9)
    assert main(["half-report", "junk.safetensors"]) == 2
    assert "junk.safetensors: not readable as safetensors: " in capsys.readouterr().err


def test_the_plot_of_exponents(weights: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["half-report", "w.npz", "--plot", "w.svg"]) == 0
    assert "<svg" in Path("w.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no.npz", "no.npz: no such file"),
        (".", "is a directory; expected a file that ends in .safetensors"),
        ("a.csv", "the name must end in .safetensors, .pt"),
        ("empty.npz", "empty.npz: is empty"),
        ("junk.npz", "junk.npz: not readable as npz"),
        ("ids.npz", "ids.npz: holds no tensor of floats"),
    ],
)
def test_what_is_no_checkpoint(
    name: str, said: str, weights: dict[str, Any], fails: Callable[..., None]
) -> None:
    Path("a.csv").write_text("a")
    Path("empty.npz").touch()
    Path("junk.npz").write_bytes(b"junk")
    np.savez("ids.npz", ids=weights["ids"])
    fails(said, "half-report", name)
