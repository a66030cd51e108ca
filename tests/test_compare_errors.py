"""Bad input of ``compare``: exit code 2, one line, found before anything heavy is imported."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from comparing import COMMAND, assert_one_line, compare, needs_torch
from tightbatch.compare import data_file, library_text
from tightbatch.compare.settings import CompareError


def rubbish(path: Path) -> None:
    path.write_bytes(bytes(random.Random(0).randrange(256) for _ in range(4000)))


BAD_FILES: dict[str, tuple[bytes | None, list[str], str]] = {
    "none.txt": (None, [], "none.txt: no such file"),
    "file.pdf": (b"some text\n", [], "file.pdf: the name must end in one of .txt, .jsonl, .csv"),
    "noending": (b"some text\n", [], "noending: the name must end in one of"),
    "empty.txt": (b"", [], "empty.txt: is empty"),
    "empty.parquet": (b"", [], "empty.parquet: is empty"),
    "blank.txt": (b"\n  \n\n", [], "blank.txt: holds no text"),
    "header.csv": (b"text,label\n", [], "header.csv: holds no text"),
    "few.txt": (b"a text\nanother\n", [], "few.txt: 2 rows of text; at least 20 are needed"),
    "nul.txt": (b"a\0b\n" * 30, [], "nul.txt: not text: it holds NUL bytes"),
    "latin.txt": (b"caf\xe9\n" * 30, [], "latin.txt: not UTF-8 text: byte 0xe9"),
    "broken.jsonl": (b'{"text": "a"}\n{"text": \n', [], "broken.jsonl: line 2 is not JSON"),
    "list.jsonl": (b"[1]\n", [], "list.jsonl: line 1 is not a JSON object"),
    "number.jsonl": (b'{"text": 5}\n' * 30, [], 'row 1 of column "text" is not text but int'),
    "other.csv": (b"a,b\n1,2\n" * 30, [], 'other.csv: no column "text"; there are: a, b'),
    "column.csv": (
        b"text,label\na b,c\n" * 30,
        ["--text-column", "body"],
        'column.csv: no column "body"; there are: text, label',
    ),
    "label.csv": (
        b"text,stars\n" + b"a b,5\n" * 30,
        ["--label-column", "kind"],
        'label.csv: no column "kind"; there are: text, stars',
    ),
    "lines.txt": (b"a b\n" * 30, ["--label-column", "kind"], 'lines.txt: no column "kind"'),
    "hole.csv": (
        b"text,label\na b,c\nd e,\n" + b"f,g\n" * 30,
        [],
        'hole.csv: row 2 has no value in column "label"',
    ),
    "one.csv": (b"text,label\n" + b"a b,c\n" * 30, [], "one.csv: only one label ('c', column"),
    "many.csv": (
        b"text,label\n" + b"".join(b"a b,%d\n" % i for i in range(30)),
        [],
        "many.csv: 30 labels in 30 rows",
    ),
    "ragged.csv": (b"text,label\na,b\nc\n", [], "ragged.csv: not readable as CSV"),
}


@needs_torch
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name: str, tmp_path: Path) -> None:
    content, options, said = BAD_FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert_one_line(compare("--data", name, *options, cwd=tmp_path), said)


@needs_torch
@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".csv", ".parquet"])
def test_rubbish_directories_and_locked_files(ending: str, tmp_path: Path) -> None:
    rubbish(tmp_path / f"rubbish{ending}")
    assert_one_line(compare("--data", f"rubbish{ending}", cwd=tmp_path), f"rubbish{ending}: ")
    (tmp_path / f"folder{ending}").mkdir()
    assert_one_line(compare("--data", f"folder{ending}", cwd=tmp_path), "is a directory")
    locked = tmp_path / f"locked{ending}"
    locked.write_text("text\n")
    locked.chmod(0)
    if not os.access(locked, os.R_OK):  # root reads it all the same
        assert_one_line(compare("--data", locked.name, cwd=tmp_path), "cannot be read")


@needs_torch
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--json", "no/such/place.json"], "--json no/such/place.json: cannot be written: "),
        (["--json", "."], "--json .: is a directory"),
        (["--plot", "no/such/place.png"], "--plot no/such/place.png: cannot be written: "),
        (["--plot", "plot.pdf"], "--plot plot.pdf: the plot is a PNG"),
    ],
)
def test_unwritable_outputs_are_found_before_training(
    options: list[str], said: str, tmp_path: Path
) -> None:
    assert_one_line(compare(*options, cwd=tmp_path), said)
    assert list(tmp_path.iterdir()) == []


@needs_torch
def test_an_old_result_survives_a_run_that_fails(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("{}")
    done = compare("--json", "old.json", "--data", "none.txt", cwd=tmp_path)
    assert_one_line(done, "none.txt: no such file")
    assert (tmp_path / "old.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["torch", "transformers", "tokenizers", "rich"])
def test_a_missing_package_is_named(name: str, tmp_path: Path) -> None:
    hide = (
        "import importlib.util as util\nfind = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name == {name!r} else find(name, *rest)"
    )
    done = compare(cwd=tmp_path, before=hide)
    assert_one_line(done, name, 'not installed: pip install "tightbatch[demo]"')


@pytest.mark.parametrize(
    "options",
    [
        ["--rows", "-1"],
        ["--epochs", "0"],
        ["--batch-size", "x"],
        ["--buckets", "0"],
        ["--capacity", "none"],
        ["--pad-to-multiple-of", "0"],
        ["--no-such"],
    ],
)
def test_bad_options_are_argparse_errors(options: list[str], tmp_path: Path) -> None:
    done = compare(*options, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("python -m tightbatch")
    assert "Traceback" not in done.stderr


@needs_torch
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send to one process")
def test_interrupting_is_one_clean_line(tmp_path: Path) -> None:
    with subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        # What runs these tests in the background has switched the signal off for all of them.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("text ")  # at work now
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "tightbatch compare: interrupted"


def test_importing_tightbatch_imports_none_of_this(tmp_path: Path) -> None:
    heavy = ["torch", "transformers", "rich", "pyarrow", "matplotlib", "tightbatch.compare"]
    code = f"import sys, tightbatch; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The readers by themselves.


def test_library_text_is_this_pythons_documentation() -> None:
    texts, labels, repeated = library_text.library_text()
    assert len(texts) == len(labels) == len(set(texts)) > 1000
    assert repeated > 0
    found = dict(zip(texts, labels, strict=True))
    assert {"internet", "concurrency", library_text.REFERENCE} <= set(labels)
    expected = "JSON (JavaScript Object Notation) <https://json.org> is a subset of"
    assert {found[text] for text in texts if text.startswith(expected)} <= {"text and markup"}
    assert any(
        label == library_text.REFERENCE and "assert" in text for text, label in found.items()
    )


def test_library_text_never_imports_what_it_reads(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom tightbatch.compare.library_text import library_text\nlibrary_text()\n"
        "print([m for m in ('tkinter', 'turtle', 'asyncio', 'wsgiref') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_python_without_its_documentation_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(CompareError, match=r"only 0 texts of documentation.*--data FILE"):
        library_text.library_text()


def test_pieces_keep_every_paragraph() -> None:
    paragraphs = [f"{i}" + " word" * (i % 90) for i in range(200)]
    heading = "A heading\n*********"
    topic = "\n\n".join([heading, *paragraphs[:100], "Another\n=======", *paragraphs[100:]])
    pieces = list(library_text.pieces(topic))
    assert len(pieces) > 10
    for paragraph in paragraphs:
        assert sum(paragraph in piece.strip().split("\n\n") for piece in pieces) == 1
    assert all(len(piece) <= library_text.PIECE for piece in pieces)


def test_text_that_looks_like_something_else_stays_as_written(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "odd.csv"
    path.write_text(
        'text,label\nNA,007\nnull,1.0\n"two\nlines, ""quoted""",true\n1234,x\n',
        encoding="utf-8-sig",
    )
    texts, labels, meaning = data_file.data_file(path, "text", None)
    assert texts == ["NA", "null", 'two\nlines, "quoted"', "1234"]
    assert labels == ["007", "1.0", "true", "x"]
    assert meaning == 'column "label"'


def test_lines_end_at_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffone\r\ntwo\u2028still two\x0cand more\n\nlast".encode())
    texts, labels, _ = data_file.data_file(path, "text", None)
    assert texts == ["one", "two\u2028still two\x0cand more", "", "last"]
    assert labels == ["quarter 1", "quarter 2", "quarter 3", "quarter 4"]


# Which half type.


@needs_torch
@pytest.mark.parametrize(
    ("flags", "native"), [({"avx512_bf16"}, True), ({"amx_bf16"}, True), ({"avx2"}, False)]
)
def test_mixed_precision_on_a_cpu(
    flags: set[str], native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tightbatch.amp import precision
    from tightbatch.compare.run import mixed_precision

    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    chosen = mixed_precision("cpu")
    assert (chosen.dtype, chosen.native) == ("bfloat16", native)
    assert ("slower than float32" in chosen.reason) is not native


@needs_torch
@pytest.mark.parametrize(("has", "half"), [(True, "bfloat16"), (False, "float16")])
def test_mixed_precision_on_a_gpu(has: bool, half: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tightbatch.compare.run import mixed_precision

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has)
    assert mixed_precision("cuda").dtype == half
