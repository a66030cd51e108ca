"""The command line: ``analyze`` on files of all kinds, good and bad; help, info and failures."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import random
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tightbatch as tb
from tightbatch.cli import main

pytest.importorskip("typer")
pa = pytest.importorskip("pyarrow")

DRAW = random.Random(0)
ROWS = [[DRAW.randrange(100) for _ in range(DRAW.randrange(1, 30))] for _ in range(60)]
LENGTHS = [len(row) for row in ROWS]
TEXTS = [" ".join(f"w{token}" for token in row) for row in ROWS]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same rows in files of every kind."""
    import pyarrow.feather as feather
    import pyarrow.parquet as parquet

    folder = tmp_path_factory.mktemp("data")
    table = pa.table(
        {
            "label": list(range(60)),
            "input_ids": ROWS,
            "text": TEXTS,
            "n": LENGTHS,
            "inner": [{"ids": row[:2]} for row in ROWS],
        }
    )
    parquet.write_table(table, folder / "a.parquet", row_group_size=13)
    feather.write_feather(table, folder / "a.feather")
    with pa.OSFile(str(folder / "a.arrow"), "wb") as out, pa.ipc.new_stream(out, table.schema) as w:
        w.write_table(table)
    lines = "".join(
        json.dumps({"input_ids": row, "text": text}) + "\n"
        for row, text in zip(ROWS, TEXTS, strict=True)
    ).encode()
    (folder / "a.jsonl").write_bytes(lines)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    with pa.CompressedOutputStream(str(folder / "a.jsonl.zst"), "zstd") as out:
        out.write(lines)
    for name, gap in (("a.csv", ","), ("a.tsv", "\t")):
        body = [
            f'{i}{gap}"{text}\n "{gap}"{row}"'
            for i, (text, row) in enumerate(zip(TEXTS, ROWS, strict=True))
        ]
        (folder / name).write_text("\n".join([gap.join(("id", "text", "ids")), *body]))
    (folder / "a.txt").write_bytes("\r\n\r\n".join(TEXTS).encode())
    np.save(folder / "lengths.npy", LENGTHS)
    flat = np.concatenate([[*(token + 1 for token in row), 0] for row in ROWS]).astype(np.uint16)
    flat.tofile(folder / "tokens.bin")
    np.save(folder / "tokens.npy", flat)
    parquet.write_table(table[:20], folder / "b.parquet")
    (folder / "shards" / "more").mkdir(parents=True)
    parquet.write_table(table[:20], folder / "shards" / "0.parquet")
    parquet.write_table(table[20:], folder / "shards" / "more" / "1.parquet")
    return folder


@pytest.fixture
def analyze(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Run the command in the folder; gives the figures of its JSON."""
    monkeypatch.chdir(data)

    def run(*options: str) -> dict[str, Any]:
        assert main(["analyze", *options, "--json", "-"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        found: dict[str, Any] = json.loads(captured.out)
        return found

    return run


def lengths_of(found: dict[str, Any]) -> list[int]:
    """The lengths of a report, sorted."""
    pairs = zip(found["lengths"], found["counts"], strict=True)
    return [length for length, count in pairs for _ in range(count)]


@pytest.mark.parametrize(
    "options",
    [
        "a.parquet", "a.feather", "a.arrow", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "shards",
        "a.csv --column text", "a.csv --column ids", "a.tsv --column text", "a.txt", "lengths.npy",
        "a.parquet --column text", "a.parquet --column n --lengths", "a.jsonl --column text",
    ],
)  # fmt: skip
def test_every_kind_of_file_gives_the_same_lengths(
    options: str, analyze: Callable[..., dict[str, Any]]
) -> None:
    found = analyze(*options.split())
    assert lengths_of(found) == sorted(LENGTHS)
    expected = tb.analyze(LENGTHS, batch_size=32)
    assert found["tokens"] == expected.tokens
    if "shards" not in options:
        dynamic = next(one for one in found["strategies"] if one["name"] == "dynamic")
        assert dynamic["padded_tokens"] == expected["dynamic"].padded_tokens  # rows are in order
    is_text = "text" in options or ".txt" in options
    assert found["unit"] == ("numbers" if " ids" in options else "words" if is_text else "tokens")


@pytest.mark.parametrize("name", ["tokens.bin --dtype uint16", "tokens.npy"])
def test_files_of_tokens_end_rows_at_a_token(
    name: str, analyze: Callable[..., dict[str, Any]]
) -> None:
    found = analyze(*name.split(), "--eos", "0")
    assert lengths_of(found) == sorted(length + 1 for length in LENGTHS)


def test_a_field_and_the_units_of_text(analyze: Callable[..., dict[str, Any]]) -> None:
    found = analyze("a.parquet", "--column", "inner.ids")
    assert lengths_of(found) == sorted(min(length, 2) for length in LENGTHS)
    for unit in ("characters", "bytes"):
        found = analyze("a.txt", "--unit", unit)
        assert lengths_of(found) == sorted(map(len, TEXTS))


def test_settings_reach_the_report(analyze: Callable[..., dict[str, Any]]) -> None:
    options = "--max-tokens 256 --max-length 20 --num-replicas 2 --shuffle-window all --seed 3"
    found = analyze("a.parquet", *options.split(), "--capacity", "64", "--buckets", "3")
    expected = tb.analyze(
        LENGTHS,
        max_tokens=256,
        max_length=20,
        num_replicas=2,
        shuffle_window=None,
        seed=3,
        capacity=64,
        buckets=3,
    )
    told = json.loads(json.dumps(expected.to_dict()))
    assert found["strategies"] == told["strategies"]
    assert found["settings"] == told["settings"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
@pytest.mark.parametrize("kind", ["parquet", "feather", "jsonl", "txt", "csv"])
def test_names_of_files_are_any_bytes(
    kind: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / os.fsdecode(b"[bold] \xff." + kind.encode())
    path.write_bytes((data / f"a.{kind}").read_bytes())
    assert main(["analyze", str(path), *(["--column", "text"] if kind == "csv" else [])]) == 0
    assert f"[bold] \\xff.{kind}, column " in capsys.readouterr().out


def test_a_saved_dataset_and_its_splits(
    tmp_path: Path, analyze: Callable[..., dict[str, Any]]
) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict({"input_ids": ROWS})
    datasets.disable_progress_bars()
    datasets.DatasetDict(train=whole, test=whole.select(range(9, 0, -1))).save_to_disk(tmp_path)
    assert lengths_of(analyze(str(tmp_path))) == sorted(LENGTHS)
    for options in ((str(tmp_path), "--split", "test"), (str(tmp_path / "test"),)):
        assert lengths_of(analyze(*options)) == sorted(LENGTHS[1:10])


def test_a_tokenizer_counts_tokens(tmp_path: Path, analyze: Callable[..., dict[str, Any]]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"w": 0, "[UNK]": 1}, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "isolated")  # a space is a token
    made.enable_truncation(4)
    made.save(str(tmp_path / "tokenizer.json"))
    expected = sorted(2 * length - 1 for length in LENGTHS)
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        found = analyze("a.txt", "--tokenizer", str(place))
        assert lengths_of(found) == expected
        assert found["unit"] == "tokens"


def test_text_for_people_and_files(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    figures = tmp_path / "out.json"
    assert main(["analyze", str(data / "a.csv"), "--column", "text", "--json", str(figures)]) == 0
    out = capsys.readouterr().out
    assert "column text: lengths are words. Models read tokens, which are more: pass --tok" in out
    assert str(tb.analyze(LENGTHS, batch_size=32)) in out
    assert json.loads(figures.read_text())["rows"] == 60
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.parametrize("name", ["a.parquet", "shards", "saved"])
def test_the_code_gives_the_lengths(
    name: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import pyarrow.parquet  # noqa: F401

    monkeypatch.chdir(data)
    names = {"tb": tb, "pyarrow": pa}
    if name == "saved":
        names["datasets"] = datasets = pytest.importorskip("datasets")
        datasets.disable_progress_bars()
        monkeypatch.chdir(tmp_path)
        datasets.Dataset.from_dict({"input_ids": ROWS}).save_to_disk(name)
    assert main(["analyze", name, "--batch-size", "4"]) == 0
    code = capsys.readouterr().out.split("# lengths: ")[1]
    assert eval(code, names).tolist() == LENGTHS


def test_the_plot_is_a_picture(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "costs.png"
    assert main(["analyze", str(data / "lengths.npy"), "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


# What is wrong is one line, and exit code 2.


@pytest.fixture
def fails(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """Run a command, and see it fail with one line that says this."""
    monkeypatch.chdir(data)

    def fails(said: str, *options: str) -> None:
        assert main([*options]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("tightbatch")
        assert said in captured.err

    return fails


BAD_FILES: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "x.jsonl", "x.jsonl: is empty"),
    "blank": (b"\n\n", "x.jsonl", "x.jsonl: is empty"),
    "no rows": (b"text,label\n", "x.csv", "x.csv: has no rows under its header"),
    "broken line": (
        b'{"text":"a"}\n\n{"text":', "x.jsonl",
        "line 3: not JSON: Expecting value, at character 9",
    ),
    "array": (b'[\n{"text":"a"}]', "x.json", "expected an object on each line"),
    "number": (b'{"text":"a"}\n3\n', "x.jsonl", "line 2: a JSON number; expected an object"),
    "array in a line": (b'[{"text":"a"}]', "x.json", "line 1: a JSON array; expected"),
    "large token": (b'{"ids":[1,%d]}' % 10**20, "x.jsonl", "a number is outside int64"),
    "large length": (b'{"n":%d}' % 10**20, "x.jsonl --lengths", "a number is outside int64"),
    "utf-16": ("text,b\nx,y\n".encode("utf-16"), "x.csv", "x.csv: is UTF-16 or UTF-32 text;"),
    "surrogate": (b'{"text":"a"}\n{"text":"\\ud800"}', "x.jsonl", "line 2: 'text' is not Unicode"),
    "types": (b'{"text":"a"}\n{"text":3}', "x.jsonl", "line 2: 'text' holds 3: expected string"),
    "items": (b'{"ids":[1]}\n{"ids":[1,"a"]}', "x.jsonl", "line 2: 'ids' holds [1, 'a']"),
    "latin text": ("a\ncaf\xe9".encode("latin-1"), "x.txt", "line 2: not UTF-8 text: byte 0xe9"),
    "latin json": ('{"text":"\xe9"}'.encode("latin-1"), "x.jsonl", "line 1: not UTF-8 text"),
    "latin csv": ("text\na\n\xe9".encode("latin-1"), "x.csv", "line 3: not UTF-8 text: byte 0xe9"),
    "nul": (b"a\nb\0", "x.txt", "line 2: not text: it holds a NUL byte"),
    "short row": (b"text,b\n1,2\n3\n", "x.csv", "x.csv: line 3: expected 2 columns, found 1: 3"),
    "two names": (b"text,text\na,b\n", "x.csv", "several columns are called 'text'"),
    "separator": (b"id;text\n1;a\n", "x.csv", "are its columns separated by ';'? expected a comma"),
    "no parquet": (b"hello", "x.parquet", "x.parquet: not readable as parquet"),
    "no arrow": (b"hello hello", "x.arrow", "x.arrow: not readable as arrow"),
    "no gzip": (b'{"text":"a"}', "x.jsonl.gz", "x.jsonl.gz: not readable as jsonl"),
    "cut gzip": (gzip.compress(b'{"text":"a"}\n' * 99)[:40], "x.jsonl.gz", "not readable as jsonl"),
    "no npy": (b"hello", "x.npy", "x.npy: not readable as npy"),
    "odd bytes": (b"abc", "x.bin --dtype uint16 --eos 1", "3 bytes are no whole number of uint16"),
    "not said": (b"abcd", "x.bin", "pass --dtype uint16 (or uint32) and --eos N"),
    "no end": (b"abcd", "x.bin --dtype uint16 --eos 1", "the token 1 is not among 2 tokens"),
    "range": (b"abcd", "x.bin --dtype uint16 --eos 70000", "--eos 70000 is not in uint16"),
    "other kind": (b"a", "x.xlsx", "the name must end in .parquet, .arrow"),
    "packed kind": (b"a", "x.parquet.gz", "the name must end in .parquet, .arrow"),
    "which": (b"a,b\nx,y\n", "x.csv", "which column? pass --column with one of: a, b"),
    "list": (b'ids\n"[1, 2]"\n"[1, x]"', "x.csv", "line 3: expected a list of numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., None]
) -> None:
    content, options, said = BAD_FILES[name]
    monkeypatch.chdir(tmp_path)
    Path(options.split()[0]).write_bytes(content)
    if name == "list":  # two are not enough to be taken for lists
        Path("x.csv").write_text("ids\n" + '"[1, 2]"\n' * 100 + '"[1, x]"\n')
        said = "x.csv: line 102: column 'ids': expected a list of numbers"
    fails(said, "analyze", *options.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("a.parqet", "no such file or directory; did you mean a.parquet?"),
        ("a.parquet --column inputids", "did you mean input_ids? there are: label, input_ids, te"),
        ("a.parquet --column label", "holds one number a row (int64)"),
        ("a.parquet --column text --lengths", "holds string, which are no lengths"),
        ("a.parquet --column inner", "holds fields; pass --column with one of: inner.ids"),
        ("a.parquet --column inner.x", "has no field 'x'"),
        ("a.parquet --column label.x", "has no fields"),
        ("a.parquet --tokenizer .", "--tokenizer is for text"),
        ("a.txt --tokenizer a.csv", "not readable as a tokenizer.json"),
        ("a.parquet --split train", "--split is for a folder"),
        ("a.parquet --eos 3", "--eos is for files of bare tokens"),
        ("lengths.npy --column a", "--column is for files with columns"),
        ("tokens.npy --eos 500", "the token 500 is not among"),
        (".", "holds files of several kinds"),
        ("shards --split x", "has no splits"),
        ("a.parquet --batch-size 0", "--batch-size 0; expected an integer of at least 1"),
        ("a.parquet --batch-size x", "Invalid value for '--batch-size'"),
        ("a.parquet --max-tokens 8", "is more than --max-tokens 8"),
        ("a.parquet --shuffle-window x", "expected a number of rows, auto or all"),
        ("a.parquet --json no/x.json", "there is no directory no"),
        ("a.parquet --json .", "--json .: is a directory"),
        ("a.parquet --plot x.doc", "the name must end in .png, .svg or .pdf"),
        ("a.parquet --nothing", "No such option"),
        ("", "Missing argument"),
    ],
)
def test_a_bad_option_is_one_line(options: str, said: str, fails: Callable[..., None]) -> None:
    fails(said, "analyze", *options.split())


def test_folders_without_data(tmp_path: Path, fails: Callable[..., None]) -> None:
    fails("no file in this folder is data", "analyze", str(tmp_path))
    (tmp_path / "x.txt").touch()
    fails("all of its txt files are empty", "analyze", str(tmp_path))
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "a.arrow"}]}')
    fails("lacks its file a.arrow", "analyze", str(tmp_path))
    (tmp_path / "state.json").write_text("{")
    fails("not readable as json", "analyze", str(tmp_path))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["a", "b"]}')
    fails("no split 'train': there are: a, b", "analyze", str(tmp_path))


def test_objects_are_not_unpickled(tmp_path: Path, fails: Callable[..., None]) -> None:
    rows = np.empty(2, object)
    rows[:] = [1], [2, 3]
    np.save(tmp_path / "x.npy", rows, allow_pickle=True)
    fails("holds Python objects, which are not read", "analyze", str(tmp_path / "x.npy"))
    np.save(tmp_path / "x.npy", np.zeros((3, 4)))
    fails("has the shape (3, 4), so all rows have 4", "analyze", str(tmp_path / "x.npy"))
    np.save(tmp_path / "x.npy", np.zeros(3))
    fails("holds float64; expected whole numbers", "analyze", str(tmp_path / "x.npy"))


@pytest.mark.parametrize(
    ("lines", "lengths", "nulls"),
    [
        (['{"ids":[]}', '{"ids":[1,2]}'], [0, 2], 0),  # the first does not tell the type
        (['{"ids":[1]}', '{"ids":[1,2.5]}', '{"ids":null}', '{"x":1}'], [1, 2], 2),
        (['\ufeff{"ids":[1]}', "", '{"ids":[1,2]}\r'], [1, 2], 0),
        (['{"ids":[[1,2],[3,4]]}', '{"ids":[[5,6]]}'], [1, 2], 0),
        (['{"ids":["a","b"]}', '{"ids":[]}'], [0, 2], 0),
        ([f'{{"ids":{list(range(40))}}}'] * 9000 + ['{"ids":[1.5]}'], [1] + [40] * 9000, 0),
    ],
)
def test_json_that_differs_from_line_to_line(
    lines: list[str],
    lengths: list[int],
    nulls: int,
    tmp_path: Path,
    analyze: Callable[..., dict[str, Any]],
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    found = analyze(str(path), "--column", "ids")
    assert lengths_of(found) == lengths
    left = f"{nulls} rows without a value were left out"
    assert (left in found["source"]) == bool(nulls)


@pytest.mark.parametrize(
    ("column", "said"),
    [("chat", "holds list<"), ("raw", "holds binary"), ("lens", "row 1: column 'lens': the ")],
)
def test_columns_that_have_no_lengths(
    column: str, said: str, tmp_path: Path, fails: Callable[..., None]
) -> None:
    import pyarrow.parquet as parquet

    table = pa.table({"chat": [[{"role": "a"}]] * 2, "raw": [b"x"] * 2, "lens": [3, -1]})
    parquet.write_table(table, tmp_path / "x.parquet")
    more = ["--lengths"] if column == "lens" else []
    fails(said, "analyze", str(tmp_path / "x.parquet"), "--column", column, *more)


def test_types_of_text_and_rows(tmp_path: Path, analyze: Callable[..., dict[str, Any]]) -> None:
    import pyarrow.feather as feather

    words = ["a b", "c", None]
    columns = {
        "plain": pa.array(words),
        "large": pa.array(words, pa.large_string()),
        "view": pa.array(words, pa.string_view()),
        "coded": pa.array(words).dictionary_encode(),
        "lists": pa.array([[1, 2], [3], None], pa.large_list(pa.int8())),
        "views": pa.array([[1, 2], [3], None], pa.list_view(pa.int8())),
    }
    feather.write_feather(pa.table(columns), tmp_path / "x.feather", "uncompressed")
    for name in columns:
        found = analyze(str(tmp_path / "x.feather"), "--column", name)
        assert lengths_of(found) == [1, 2]
        assert "1 row without a value was left out" in found["source"]


# What is of no command.


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (MemoryError(), "out of memory", 2),
        (KeyboardInterrupt(), "interrupted", 130),
        (OSError(28, "No space left on device"), "No space left on device", 2),
        (PermissionError(13, "Permission denied", "x.json"), "x.json: Permission denied", 2),
        (BrokenPipeError(), "", 0),
    ],
)
def test_what_the_machine_or_the_user_stops(
    error: BaseException,
    said: str,
    code: int,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: Any) -> None:
        raise error

    monkeypatch.setattr("tightbatch.cli.analyze.measure", stop)
    monkeypatch.setattr("tightbatch.cli.silence_output", lambda: None)
    assert main(["analyze", str(data / "a.parquet")]) == code
    told = capsys.readouterr().err
    assert told.startswith(f"tightbatch analyze: {said}" if said else "")
    assert told.count("\n") == bool(said)
    monkeypatch.setattr("tightbatch.cli.analyze.measure", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):  # a mistake of this library's is not hidden
        main(["analyze", str(data / "a.parquet")])


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    overview = capsys.readouterr().out
    for name in ("analyze", "check", "pack", "half-report", "compare", "info"):
        assert f" {name} " in overview
        if name != "compare":
            assert main([name, "--help"]) == 0
            told = capsys.readouterr().out
            assert f"Usage: tightbatch {name}" in told
            assert "Examples:" in told
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tightbatch {tb.__version__}\n"
    assert main(["nothing"]) == 2
    assert "No such command 'nothing'" in capsys.readouterr().err


def test_info_tells_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert f"tightbatch    {tb.__version__}" in out
    assert f"  numpy         {np.__version__}\n" in out
    assert main(["info", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["numpy"] == np.__version__
    assert found["cpu_level"] in found["cpu_levels"]
    assert found["cpu_level"] in out


def test_without_its_packages_the_command_says_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tightbatch.cli.find_spec", lambda name: None)
    assert main(["analyze", "x.parquet"]) == 2
    expected = "typer and rich are not installed: python -m pip install typer rich pyarrow"
    assert capsys.readouterr().err == f"tightbatch: {expected}\n"
    assert main(["--version"]) == 0
    assert main(["compare", "--nothing"]) == 2  # it does not need them
    assert "tightbatch compare: " in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr("tightbatch.cli.failure.find_spec", lambda name: None)
    assert main(["pack", "x.parquet", "y.parquet", "--capacity", "8"]) == 2
    assert "pyarrow is not installed: python -m pip install pyarrow" in capsys.readouterr().err


@pytest.mark.parametrize(("suffix", "package"), [(".h5", "h5py"), (".pt", "torch"), (".npz", None)])
def test_a_checkpoint_needs_the_package_that_reads_it(
    suffix: str,
    package: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"no checkpoint")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "tightbatch.cli.failure.find_spec", lambda name: None if name == package else find(name)
    )
    assert main(["half-report", str(path)]) == 2
    said = capsys.readouterr().err
    expected = f"{package} is not installed" if package else f"model{suffix}: not readable as npz"
    assert expected in said


def test_the_command_is_installed() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"tightbatch": "tightbatch.cli:main"}
    for extra in ("cli", "demo"):
        needed = " ".join(project["project"]["optional-dependencies"][extra])
        assert all(name in needed for name in ("typer", "rich", "pyarrow"))


def test_shells_are_told_what_can_come_next(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TIGHTBATCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "tightbatch ha")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 0
    assert capfd.readouterr().out == "half-report\n"


def test_the_command_in_a_process_of_its_own(data: Path) -> None:
    """Through ``python -m``, its output read by something that goes away."""
    command = [sys.executable, "-m", "tightbatch", "analyze", "a.parquet"]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=data, **pipe) as process:  # type: ignore[call-overload]
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("first", ['{"ids": null, "n": 1}', '{"ids": [], "n": 1}'])
def test_the_first_row_of_json_may_be_null(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = [first, '{"n": 2}', '{"ids": [1, 2, 3], "n": 3}', '{"ids": [4], "n": 4}']
    Path("x.jsonl").write_text("\n".join(text))
    assert main(["analyze", "x.jsonl", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["column"] == "ids"
    assert lengths_of(found) == ([1, 3] if "null" in first else [0, 1, 3])


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("state.json", {"_data_files": [{"x": 1}]}, "'_data_files' lists no names"),
        ("state.json", {"_data_files": 3}, "'_data_files' lists no names"),
        ("dataset_dict.json", {"splits": {"train": 1}}, "'splits' lists no names"),
    ],
)
def test_a_saved_dataset_that_was_edited_is_one_line(
    file: str, content: Any, said: str, tmp_path: Path, fails: Callable[..., None]
) -> None:
    (tmp_path / file).write_text(json.dumps(content))
    fails(said, "analyze", str(tmp_path))


def test_lengths_below_zero_name_the_file_and_the_row(
    tmp_path: Path, fails: Callable[..., None]
) -> None:
    np.save(tmp_path / "x.npy", [3, -2])
    fails("x.npy: row 1: the length -2 is below 0", "analyze", str(tmp_path / "x.npy"))
