"""What the commands say of one row, one line or one name: which file, where in it, what to do."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tightbatch.cli import main
from tightbatch.cli.failure import CommandError, calling, suggest

pytest.importorskip("typer")

Fails = Callable[..., str]
LATIN = "caf\xe9".encode("latin-1")
UTF8 = "not UTF-8 text: byte 0xe9; convert it, as iconv -f WINDOWS-1252 -t UTF-8 does"


@pytest.fixture
def fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Fails:
    """Run a command in an empty folder, and give the one line that it fails with."""
    monkeypatch.chdir(tmp_path)

    def fails(options: str) -> str:
        assert main(options.split()) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        return captured.err.split(": ", 1)[1].rstrip("\n")

    return fails


@pytest.fixture
def parquet() -> Any:
    """Give pyarrow.parquet."""
    pytest.importorskip("pyarrow")
    return pytest.importorskip("pyarrow.parquet")


def write(parquet: Any, name: str, **columns: Any) -> None:
    """Write a Parquet file of columns."""
    Path(name).parent.mkdir(exist_ok=True)
    parquet.write_table(pytest.importorskip("pyarrow").table(columns), name)


# A row above a limit, in every kind of file: rows from 0, lines from 1, nulls and blanks counted.

LONG = {
    "x.txt": (b"a\n\n \nb c d e\n", "line 4"),
    "x.jsonl": (b'{"ids":[1]}\n\n{"ids":null}\n  \n{"ids":[1,2,3,4]}\n', "line 5"),
    "x.csv": (b'ids\n"[1,\n 2]"\n\n"[1,2,3,4]"\n', "line 5"),
    "x.tsv": (b'ids\tb\n"[1,\n 2]"\t1\r\n\r\n[1,2,3,4]\t2\n', "line 5"),
    "x.bin": (np.uint16([1, 2, 0, 3, 4, 5, 0]).tobytes(), "row 1"),
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_row_is_found_in_its_file(name: str, fails: Fails) -> None:
    pytest.importorskip("pyarrow")
    content, place = LONG[name]
    Path(name).write_bytes(content)
    more = " --dtype uint16 --eos 0" if name == "x.bin" else ""
    more += " --column ids" if name == "x.tsv" else ""
    told = fails(f"analyze {name} --capacity 3{more}")
    assert told == (
        f"{name}: {place}: length 4 is more than --capacity 3; pass a larger --capacity, or "
        "--max-length"
    )
    told = fails(f"analyze {name} --max-tokens 3{more}")
    assert told == (
        f"{name}: {place}: length 4 is more than --max-tokens 3; pass --max-length 3, a larger "
        "--max-tokens, or --overlong truncate or drop"
    )


def test_a_long_row_is_found_in_its_shard(parquet: Any, fails: Fails) -> None:
    write(parquet, "shards/0.parquet", ids=[[1], None, [1]])
    write(parquet, "shards/1.parquet", ids=[None, [1], None, [1] * 9])
    assert fails("analyze shards --max-tokens 3").startswith("shards/1.parquet: row 3: length 9 ")
    told = fails("pack shards x.parquet --capacity 3")
    assert told == (
        "shards/1.parquet: row 3: length 9 is more than --capacity 3; pass --overlong truncate, "
        "split or drop, or a larger --capacity"
    )


def test_rows_of_a_saved_dataset_are_those_of_the_whole(fails: Fails) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = [[1]] * 5 + [[1] * 9]
    datasets.Dataset.from_dict({"ids": rows}).save_to_disk("saved", num_shards=3)
    assert fails("analyze saved --max-tokens 3").startswith("saved: row 5: length 9 is more ")


def test_lengths_that_cannot_be(parquet: Any, fails: Fails) -> None:
    np.save("huge.npy", [2**62, 2**62, 3])
    np.save("above.npy", np.uint64([1, 2**63]))
    write(parquet, "huge.parquet", n=[2**62, 2**62, 3])
    write(parquet, "above.parquet", n=np.uint64([1, 2**63]))
    Path("below.csv").write_text('x,n\n"a\nb",3\nc,-1\n')
    for kind in ("npy", "parquet"):
        more = "" if kind == "npy" else " --lengths"
        column = "" if kind == "npy" else "column 'n': "
        told = fails(f"analyze huge.{kind}{more}")
        assert told == f"huge.{kind}: row 1: the lengths add up to more than can be addressed"
        told = fails(f"analyze above.{kind}{more}")
        assert told == f"above.{kind}: row 1: {column}the length {2**63} is above 2**63 - 1"
    told = fails("analyze below.csv --column n --lengths")
    assert told == "below.csv: line 4: column 'n': the length -1 is below 0"


def test_a_value_of_another_type_far_below_in_csv(fails: Fails) -> None:
    pytest.importorskip("pyarrow")
    rows = 2**23 // 8  # more than the block that tells types
    Path("x.csv").write_text('n,"b\nc"\n\n' + "1234,56\n" * rows + "x,1\n")
    told = fails("analyze x.csv --column n --lengths")
    assert told == f"x.csv: line {rows + 4}: column 'n': expected int64, found 'x'"


# Nulls inside rows, and rows of nothing but null.


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_null_inside_a_row(
    kind: str, parquet: Any, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[Any] = [[1, 2], None, [3], [4, 5, None, None], [None]]
    write(parquet, "x.parquet", a=rows, b=rows)
    lines = "\n\n".join(json.dumps({"a": row, "b": row}) for row in rows)
    Path("x.jsonl").write_text(lines)
    place = "row 3" if kind == "parquet" else "line 7"
    told = fails(f"pack x.{kind} out.parquet --capacity 8")
    assert told == (
        f"x.{kind}: {place}: column 'a': position 2 is null; write a number there, or null for "
        "the whole row, which leaves it out"
    )
    assert main(["analyze", f"x.{kind}", "--column", "b"]) == 0
    out = capsys.readouterr().out
    assert "1 row without a value was left out. 3 tokens inside rows are null and count." in out
    assert "4 rows, 8 tokens" in out


def test_a_null_deep_inside_a_row(parquet: Any, fails: Fails) -> None:
    pa = pytest.importorskip("pyarrow")
    pairs = pa.list_(pa.list_(pa.int64(), 2))
    write(parquet, "x.parquet", a=pa.array([[[1, 2]], [], [[3, 4], [5, None], None]], pairs))
    told = fails("pack x.parquet out.parquet --capacity 8")
    assert told.startswith("x.parquet: row 2: column 'a': position 1 is null; ")
    write(parquet, "x.parquet", a=pa.array([[[1, 2]], [None, [1, None]]], pairs))
    told = fails("pack x.parquet out.parquet --capacity 8")
    assert told.startswith("x.parquet: row 1: column 'a': position 0 is null; ")


def test_nothing_but_nulls_is_not_nothing(parquet: Any, fails: Fails) -> None:
    pa = pytest.importorskip("pyarrow")
    for name, rows in (("null", [None, None]), ("none", [])):
        write(parquet, f"{name}.parquet", a=pa.array(rows, pa.list_(pa.int64())))
        said = "every row is null" if rows else "has no rows"
        for command in (f"analyze {name}.parquet", f"pack {name}.parquet x.parquet --capacity 8"):
            assert fails(command) == f"{name}.parquet: {said}"


# Types that change, and text that is not UTF-8.


@pytest.mark.parametrize(
    ("lines", "number", "found"),
    [
        (['{"ids":[1,2]}'] * 10 + ['{"ids":"hello"}'] + ['{"ids":[1]}'] * 290, 11, "'hello'"),
        (['{"ids":null}'] * 5 + ['{"ids":[1]}', "", '{"ids":"a"}', '{"ids":3}'], 8, "'a'"),
        (['{"ids":[]}', '{"ids":[3]}', '{"ids":["a"]}', '{"ids":[1]}'], 3, "['a']"),
        (['{"ids":[1]}'] * 9000 + ['{"ids":["a"]}', '{"ids":[2]}'], 9001, "['a']"),
        (['{"ids":[]}'] * 905 + ['{"ids":[3]}', '{"ids":{"a":1}}'], 907, "{'a': 1}"),
    ],
)
def test_json_of_several_types_names_the_line(
    lines: list[str], number: int, found: str, fails: Fails
) -> None:
    pytest.importorskip("pyarrow")
    Path("x.jsonl").write_text("\n".join(lines))
    for command in ("analyze x.jsonl", "pack x.jsonl out.parquet --capacity 8"):
        told = fails(f"{command} --column ids")
        assert told.startswith(f"x.jsonl: line {number}: 'ids' holds {found}: expected list<item: ")


def test_floats_among_integers_are_packed_as_they_are(
    parquet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.jsonl").write_text('{"a":[1]}\n{"a":[1,2.5]}\n')
    Path("inner.jsonl").write_text('{"a":{"ids":[1]}}\n{"a":{"ids":[1,2.5],"b":1}}\n{"a":null}\n')
    write(parquet, "shards/0.parquet", a=[np.int32([1])])
    write(parquet, "shards/1.parquet", a=[np.int64([1, 2**40])])
    for name, last in (("x.jsonl", 2.5), ("shards", 2**40)):
        assert main(["pack", name, "out.parquet", "--capacity", "8", "--force"]) == 0
        assert parquet.read_table("out.parquet")["a"].to_pylist() == [[1, 1, last]]
    assert main("pack inner.jsonl x.parquet --capacity 8 --column a.ids".split()) == 0
    assert parquet.read_table("x.parquet")["a.ids"].to_pylist() == [[1, 1, 2.5]]


def test_numbers_that_no_type_holds_together(fails: Fails) -> None:
    pytest.importorskip("pyarrow")
    Path("x.jsonl").write_text(f'{{"a":[1]}}\n{{"a":[{2**60 + 1}]}}\n\n{{"a":[2.5]}}\n')
    told = fails("pack x.jsonl out.parquet --capacity 8")
    assert told.startswith("x.jsonl: line 4: 'a' holds [2.5]: expected list<item: int64>")


def test_shards_that_hold_something_else(parquet: Any, fails: Fails) -> None:
    for name, first, second in (("a", [[1]], ["x"]), ("b", [[1]], [["x"]]), ("c", ["x"], [3])):
        write(parquet, f"{name}/0.parquet", ids=first)
        write(parquet, f"{name}/1.parquet", ids=second)
        told = fails(f"analyze {name}")
        assert told.startswith(f"{name}/1.parquet: column 'ids' holds ")
        assert told.endswith(", as in the first file")


@pytest.mark.parametrize(
    ("name", "begin", "end", "place"),
    [
        ("x.csv", b"text,b\n\na,1\n", b",2\n", "line 4"),
        ("x.csv", b'text,b\n"a\nb",1\n', b",2\n", "line 4"),
        ("x.csv", b"text,", b"\na,1\n", "line 1"),
        ("x.tsv", b"text\tb\na\t1\n", b"\t2\n", "line 3"),
        ("x.txt", b"a\n\n", b"\n", "line 3"),
        ("x.jsonl", b'{"text":"a"}\n\n{"text":"', b'"}\n', "line 3: column 'text'"),
        ("x.jsonl", b'{"text":"', b'"}\n', "line 1"),
    ],
)
def test_latin_text_is_told_alike(
    name: str, begin: bytes, end: bytes, place: str, fails: Fails
) -> None:
    pytest.importorskip("pyarrow")
    Path(name).write_bytes(begin + LATIN + end)
    more = " --column text" if name in ("x.csv", "x.tsv") and place != "line 1" else ""
    assert fails(f"analyze {name}{more}") == f"{name}: {place}: {UTF8}"


def test_latin_text_with_a_tokenizer_and_in_parquet(parquet: Any, fails: Fails) -> None:
    pa = pytest.importorskip("pyarrow")
    tokenizers = pytest.importorskip("tokenizers")
    tokenizers.Tokenizer(tokenizers.models.WordLevel({"w": 0}, "w")).save("tokenizer.json")
    texts = pa.array([None, b"a", LATIN])
    texts = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    write(parquet, "x.parquet", text=texts)
    Path("x.jsonl").write_bytes(b'{"text":"a"}\n{"text":"' + LATIN + b'"}')
    for options in ("analyze {}", "analyze {} --tokenizer .", "pack {} o.arrow --capacity 8"):
        more = " --tokenizer ." if options.startswith("pack") else ""
        told = fails(options.format("x.jsonl") + more)
        assert told == f"x.jsonl: line 2: column 'text': {UTF8}"
        told = fails(options.format("x.parquet") + more)
        assert told == "x.parquet: row 2: column 'text': not UTF-8 text: byte 0xe9; decode it"


# Checkpoints and arrays.


@pytest.mark.parametrize("command", ["analyze", "half-report"])
def test_what_is_no_array_of_numpy(command: str, fails: Fails) -> None:
    Path("x.npy").write_bytes(b"hello")
    damaged = "it is cut off or damaged, or a file of another kind"
    assert fails(f"{command} x.npy") == f"x.npy: not readable as npy: {damaged}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello", "it begins with 'hello', as no file of torch.save does"),
        (b"junkjunkjunk", "it begins with 'junkjunk', as no file of torch.save does"),
        (b"<html>", "it begins with '<html>', as no file of torch.save does"),
        (b"\x80", "it is cut off or damaged, or a file of another kind"),
        (b"\x80\x02}q.", "it is cut off or damaged, or a file of another kind"),
        (b"PK\x03\x04abcdefgh", "PytorchStreamReader failed reading zip archive"),
    ],
)
def test_what_is_no_file_of_torch(content: bytes, said: str, fails: Fails) -> None:
    pytest.importorskip("torch")
    for suffix in ("pt", "pth", "bin", "ckpt"):
        Path(f"x.{suffix}").write_bytes(content)
        told = fails(f"half-report x.{suffix}")
        assert told.startswith(f"x.{suffix}: not readable as {suffix}: {said}")


def test_checkpoints_without_floats_are_told_alike(fails: Fails) -> None:
    np.save("x.npy", np.arange(5))
    np.savez("x.npz", a=np.arange(3), b=np.array([True]))
    assert fails("half-report x.npy") == "x.npy: holds no tensor of floats; found int64"
    assert fails("half-report x.npz") == "x.npz: holds no tensor of floats; found int64, bool"
    np.savez("x.npz")
    assert fails("half-report x.npz") == "x.npz: holds no tensor of floats; found nothing"
    pytest.importorskip("safetensors.numpy").save_file({"a": np.arange(3)}, "x.safetensors")
    told = fails("half-report x.safetensors")
    assert told.startswith("x.safetensors: holds no tensor of floats; found ")
    assert told.endswith("int64")


# Names that are near, and only those.


def test_only_near_names_are_suggested(fails: Fails) -> None:
    for name in ("strs.csv", "train.jsonl", "model.npz", "loaders.py"):
        Path(name).write_text("a")
    no = "no such file or directory"
    for command, name, meant in (
        ("analyze", "nothere.csv", None),
        ("analyze", "str.csv", "strs.csv"),
        ("analyze", "train.json", "train.jsonl"),
        ("analyze", "model.csv", None),  # a checkpoint is no data
        ("pack", "trian.jsonl", "train.jsonl"),
        ("half-report", "nothere.pt", None),
        ("half-report", "modle.npz", "model.npz"),
        ("half-report", "train.npz", None),
        ("check", "loader.py", "loaders.py"),
        ("check", "nothere.py", None),
    ):
        more = {"pack": " x.parquet --capacity 8", "check": ":x"}.get(command, "")
        hint = f"; did you mean {meant}?" if meant else ""
        assert fails(f"{command} {name}{more}") == f"{name}: {no}{hint}"
    assert suggest("inputids", ["input_ids", "labels"]).startswith("did you mean input_ids? ")
    assert suggest("next", ["text", "nested"]).startswith("did you mean text? ")
    assert suggest("nothing", ["input_ids", "nested"]) == "there are: input_ids, nested"


def test_options_are_called_as_they_are_typed() -> None:
    with (
        pytest.raises(CommandError, match=r"^x: line 4: a_b 3 of --max-x 2; pass --way a, b or c$"),
        calling(lambda row: f"x: line {row + 4}", max_x="--max-x", way="--way"),
    ):
        raise ValueError("f(): row 0: a_b 3 of max_x=2; pass way='a', 'b' or 'c'")


# A file that cannot be written is called by its own name.


def test_what_cannot_be_written_has_the_name_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", [1, 2, 3])

    def fail(part: Path, target: Path) -> None:
        assert part != target
        raise OSError(28, "No space left on device", str(part), None, str(target))

    monkeypatch.setattr("os.replace", fail)
    monkeypatch.setattr("tightbatch.cli.silence_output", lambda: None)
    for command in ("analyze x.npy", "info"):
        assert main([*command.split(), "--json", "out.json"]) == 2
        told = capsys.readouterr().err
        name = command.split()[0]
        assert told == f"tightbatch {name}: out.json: No space left on device\n"
    if importlib.util.find_spec("pyarrow"):
        assert main("pack x.npy out.arrow --capacity 3 --eos 3".split()) == 2
        told = capsys.readouterr().err
        assert told == "tightbatch pack: out.arrow: No space left on device\n"
    assert [path.name for path in Path().iterdir()] == ["x.npy"]


FULL = """
import sys
from tightbatch.cli import main
from tightbatch.compare import report

report.compare = lambda settings: print("figures") or 0
sys.exit(main({options}))
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk here is always full")
@pytest.mark.parametrize("command", ["info", "compare"])
def test_output_that_is_lost_at_the_end_is_an_error(command: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    program = [sys.executable, "-c", FULL.format(options=[command])]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            program,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
            env=environment,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"tightbatch {command}: ")
    assert done.stderr.endswith("No space left on device\n")


def test_compare_is_interrupted_while_it_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Slow(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "tightbatch.compare.report", Slow("report"))
    assert main(["compare"]) == 130
    assert capsys.readouterr().err == "tightbatch compare: interrupted\n"
    assert main(["compare", "--nothing"]) == 2  # told before anything is imported
    assert "unrecognized arguments: --nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory"), OSError(28, "full")]
)
def test_compare_says_the_same_by_all_ways(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Any) -> None:
        raise error

    monkeypatch.setattr("tightbatch.compare.report.compare", fail)
    monkeypatch.setattr("tightbatch.cli.silence_output", lambda: None)
    told = []
    for options in (["compare"], ["--", "compare"]):
        assert main(options) == 2
        told.append(capsys.readouterr().err)
    assert told[0] == told[1] != ""
