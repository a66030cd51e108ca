"""The text and its labels: the documentation that ships with Python, or a file."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import sysconfig
import warnings
from argparse import Namespace
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightbatch.compare import CompareError

if TYPE_CHECKING:
    import pyarrow as pa

# The chapters of the library reference, the small ones joined to a neighbour.
PARTS = {
    "data types and numbers": "array bisect calendar cmath collections copy datetime _pydatetime "
    "decimal _pydecimal enum fractions graphlib heapq numbers random statistics types weakref "
    "zoneinfo queue secrets reprlib pprint operator functools contextlib dataclasses",
    "text and markup": "codecs difflib encodings gettext html locale re sre_parse string "
    "stringprep textwrap tokenize tomllib configparser csv xml plistlib json",
    "files and storage": "bz2 compression dbm filecmp fileinput fnmatch genericpath glob gzip "
    "linecache lzma mailbox ntpath os pathlib pickle pickletools posixpath _pyio shelve shutil "
    "sqlite3 stat tarfile tempfile zipfile zipapp",
    "concurrency": "_threading_local asyncio concurrent multiprocessing sched selectors signal "
    "subprocess threading",
    "internet": "base64 cgi email ftplib http imaplib ipaddress mimetypes nntplib poplib smtplib "
    "socket socketserver ssl telnetlib urllib uuid webbrowser wsgiref xmlrpc",
    "user interface": "argparse cmd code curses getopt getpass logging optparse shlex tkinter "
    "turtle _pyrepl",
    "development tools": "bdb cProfile doctest ensurepip pdb profile pstats pydoc timeit trace "
    "traceback tracemalloc unittest venv distutils",
    "language services": "_collections_abc _py_abc abc ast compileall dis importlib inspect "
    "modulefinder opcode pkgutil platform py_compile runpy site symtable sysconfig _sysconfig "
    "typing annotationlib warnings zipimport",
}
REFERENCE = "language reference"
PASSAGE = 1000  # characters of a passage of the reference: about one full row of tokens
HEADING = re.compile(r"\n(?=[^\n]+\n(?:\*{3,}|={3,}|-{3,})\n)")
FEWEST_TEXTS = 200  # in Python's documentation; with fewer, it was removed from this Python
FEWEST_ROWS = 20  # with fewer, nothing can be held out
HELD_OUT = 0.2  # of the rows
KINDS = (".txt", ".jsonl", ".csv", ".parquet")

Columns = dict[str, list[Any]]  # values by column name, None where a row has none

# Whatever has a body, in which there may be docstrings.
STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)


@dataclass(frozen=True)
class Texts:
    """The text and the label of each row."""

    training: list[tuple[str, int]]
    held_out: list[tuple[str, int]]  # to test on
    figures: dict[str, Any]  # for JSON: where they come from, and what was left out


def source_files(stdlib: Path, module: str) -> Iterator[Path]:
    """The source files of a standard-library module or package, without its tests."""
    package = stdlib / module
    if package.is_dir():
        for path in sorted(package.rglob("*.py")):
            if not {"test", "tests", "idle_test"} & set(path.relative_to(package).parts):
                yield path
    elif (stdlib / f"{module}.py").is_file():
        yield stdlib / f"{module}.py"


def docstrings(path: Path) -> Iterator[str]:
    """Every docstring of a source file. It is not imported: that could open windows or print."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in the library
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # some files of lib2to3 and encodings are invalid on purpose
    blocks: deque[ast.AST] = deque([tree])
    while blocks:
        node = blocks.popleft()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield text
        # Most of a tree is expressions, which hold no docstrings.
        blocks += [n for n in ast.iter_child_nodes(node) if isinstance(n, STATEMENTS)]


def passages(topic: str) -> Iterator[str]:
    """A topic's sections, in passages of whole paragraphs of about `PASSAGE` characters."""
    for section in HEADING.split(topic):
        passage = ""
        for paragraph in section.split("\n\n"):
            if passage and len(passage) + len(paragraph) > PASSAGE:
                yield passage
                passage = ""
            passage = f"{passage}\n\n{paragraph}" if passage else paragraph
        if passage.strip():
            yield passage


def library_text() -> tuple[list[str], list[str], int]:
    """Read the documentation of this Python: docstrings, and the language reference.

    Returns
    -------
    texts, labels : list of str
        Each text once, in a fixed order, and the part of the library that it comes from.
    repeated : int
        How many texts were left out because they were copies: a copy among the held-out rows would
        make the accuracy look better than it is.

    Raises
    ------
    CompareError
        If the documentation has been removed from this Python.
    """
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    try:
        topics = import_module("pydoc_data.topics").topics  # a dict of strings
    except ImportError:
        topics = {}
    found = [
        (passage.strip(), REFERENCE)
        for name in sorted(topics)
        for passage in passages(topics[name])
    ]
    for part, modules in PARTS.items():
        for module in modules.split():
            for path in source_files(stdlib, module):
                found += [(text.strip(), part) for text in docstrings(path)]
    labels: dict[str, str] = {}
    for text, part in found:
        labels.setdefault(text, part)
    if len(labels) < FEWEST_TEXTS:
        raise CompareError(
            f"only {len(labels)} texts of documentation in this Python ({stdlib}): "
            "give your own text with --data FILE"
        )
    return list(labels), list(labels.values()), len(found) - len(labels)


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, without newlines and without a byte-order mark."""
    # Only newlines end a line: str.splitlines would also cut at form feeds and U+2028.
    with path.open(encoding="utf-8-sig") as file:
        lines = [line.rstrip("\n") for line in file]
    if any("\0" in line for line in lines):
        raise CompareError(f"{path}: not text: it holds NUL bytes")
    return lines


def read_jsonl(path: Path) -> Columns:
    """The columns of a file with a JSON object on each line; blank lines are skipped.

    pyarrow cannot read it: it turns text that looks like a date into a date, and refuses a label
    that is a number in one row and a string in another.
    """
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise CompareError(f"{path}: line {number} is not JSON: {reason}") from None
        if not isinstance(row, dict):
            raise CompareError(f"{path}: line {number} is not a JSON object")
        rows.append(row)
    return {name: [row.get(name) for row in rows] for name in {name: 0 for r in rows for name in r}}


def open_arrow(path: Path, wanted: set[str]) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """Column names of a CSV or Parquet file, and the wanted columns, a batch of rows at a time."""
    import pyarrow as pa

    if path.suffix.lower() == ".parquet":
        from pyarrow.parquet import ParquetFile

        # Neither the file nor a row group is held as a whole.
        file = ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        names = file.schema_arrow.names
        return names, file.iter_batches(4096, columns=[n for n in names if n in wanted])
    from pyarrow import csv

    options = {
        # A row that is longer than a block cannot be read.
        "read_options": csv.ReadOptions(block_size=max(1 << 20, min(path.stat().st_size, 1 << 28))),
        "parse_options": csv.ParseOptions(newlines_in_values=True),
    }
    names = csv.open_csv(path, **options).schema.names
    found = [name for name in names if name in wanted]
    # As strings: "007" and "1.0" do not change, and "NA" is text.
    convert = csv.ConvertOptions(
        include_columns=found, column_types=dict.fromkeys(found, pa.string())
    )
    return names, csv.open_csv(path, convert_options=convert, **options) if found else iter(())


def read_file(path: Path, text_column: str, label_column: str | None) -> Iterator[tuple[Any, Any]]:
    """Read texts and labels from a file, a block of rows at a time.

    Parameters
    ----------
    path : Path
        The file; the ending of its name says what it is.
    text_column : str
        Name of the text column; a .txt file has one column, "text", of its lines.
    label_column : str or None
        Name of the label column. None takes "label" if there is one.

    Yields
    ------
    texts : list of str
        The texts of the next rows; "" for a row without one.
    labels : list of str, or None
        Their labels; None if there is no label column.

    Raises
    ------
    CompareError
        If the file, a column or a label is missing or cannot be read; it names file and row.
    """
    kind = path.suffix.lower()
    text_column = "text" if kind == ".txt" else text_column
    wanted = {text_column, label_column or "label"}
    blocks: Iterator[Columns]
    try:
        if not path.exists():
            raise CompareError(f"{path}: no such file")
        if path.is_dir():
            raise CompareError(f"{path}: is a directory")
        if kind not in KINDS:
            raise CompareError(f"{path}: the name must end in one of {', '.join(KINDS)}")
        if path.stat().st_size == 0:
            raise CompareError(f"{path}: is empty")
        if kind in (".txt", ".jsonl"):
            columns = read_jsonl(path) if kind == ".jsonl" else {"text": read_lines(path)}
            names, blocks = list(columns), iter([columns])
        else:
            names, batches = open_arrow(path, wanted)
            blocks = (batch.to_pydict() for batch in batches)
        for name in (text_column, label_column):
            if name is not None and names.count(name) != 1:
                wrong = "several columns are called" if name in names else "no column"
                raise CompareError(f'{path}: {wrong} "{name}"; there are: {", ".join(names)}')
        label_column = label_column or ("label" if "label" in names else None)
        row = 0
        for block in blocks:
            texts, labels = block[text_column], block.get(label_column or "")
            for column, values in ((text_column, texts), (label_column, labels or ())):
                for number, value in enumerate(values, row + 1):
                    problem = fault(value, values is labels)
                    if problem is not None:
                        raise CompareError(f'{path}: row {number} of column "{column}" {problem}')
            row += len(texts)
            yield [text or "" for text in texts], labels and list(map(str, labels))
    except (CompareError, MemoryError):
        raise
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise CompareError(f"{path}: not UTF-8 text: byte {byte:#04x} ({error.reason})") from None
    except OSError as error:
        raise CompareError(f"{path}: cannot be read: {one_line(error.strerror or error)}") from None
    except Exception as error:  # readers raise many kinds of errors for a damaged file
        raise CompareError(f"{path}: not readable as {kind[1:]}: {one_line(error)}") from None


def one_line(value: object) -> str:
    """The text of a value on one line, cut if it is long."""
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:197] + "..."


def fault(value: Any, is_label: bool) -> str | None:
    """Why a value cannot be a label, or a text; None if it can."""
    if isinstance(value, str) and value:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                return f"is not Unicode text: it holds {value[error.start]!a}"
        return None
    kind = type(value).__name__
    if is_label:
        if value is None or value == "":
            return "has no value"
        return f"is a {kind}, not a label" if isinstance(value, (list, dict, bytes)) else None
    if value is None or value == "":
        return None
    return f"is not text but {kind}: {one_line(repr(value))}"


def read_text(settings: Namespace) -> Texts:
    """Read the text, count the empty rows, draw the rows to use, and split them.

    A file is read twice: first to find the rows that are not empty, then to take the drawn ones. So
    memory holds only the drawn rows and one block of the file.

    Raises
    ------
    CompareError
        If there is too little text, or there is nothing to learn from the labels.
    """
    path, repeated = settings.data, 0
    if path is None:
        source, meaning = "Python's own documentation", "the part of the library"
        texts, labels, repeated = library_text()
        library = (texts, labels)
    else:
        # A name that is not UTF-8 could not be printed.
        source, meaning = os.fsencode(path).decode(errors="backslashreplace"), ""

    def blocks() -> Iterator[tuple[Any, Any]]:
        if path is None:
            return iter([library])
        return read_file(path, settings.text_column, settings.label_column)

    kept, found = array("q"), 0
    for texts, labels in blocks():
        kept.extend(row for row, text in enumerate(texts, found) if text.strip())
        found += len(texts)
        if path is not None:
            meaning = f'column "{settings.label_column or "label"}"'
            if labels is None:
                meaning = "the quarter of the file a row comes from"
    if not kept:
        raise CompareError(f"{source}: holds no text")
    empty = found - len(kept)
    # One seed decides which rows are used, in which order, and which are held out.
    random.Random(settings.seed).shuffle(kept)
    place = {row: i for i, row in enumerate(kept[: settings.rows or None])}
    if len(place) < FEWEST_ROWS:
        raise CompareError(
            f"{source}: {len(place)} rows of text; at least {FEWEST_ROWS} are needed"
        )
    rows, begin = [("", "")] * len(place), 0
    for texts, labels in blocks():
        for row, text in enumerate(texts, begin):
            if row in place:
                label = labels[row - begin] if labels else f"quarter {4 * row // found + 1}"
                rows[place[row]] = (text, label)
        begin += len(texts)
    number = {name: i for i, name in enumerate(sorted({label for _, label in rows}))}
    if len(number) == 1:
        raise CompareError(
            f"{source}: only one label ({rows[0][1]!r}, {meaning}): there is nothing to learn"
        )
    if len(number) > len(rows) // 4:
        raise CompareError(
            f"{source}: {len(number)} labels in {len(rows)} rows ({meaning}): too many to learn; "
            "give another --label-column"
        )
    numbered = [(text, number[label]) for text, label in rows]
    tested = max(1, round(len(rows) * HELD_OUT))
    training, held_out = numbered[tested:], numbered[:tested]
    commonest = Counter(label for _, label in training).most_common(1)[0][0]
    figures = {
        "source": source,
        "label": meaning,
        "labels": list(number),
        "rows_found": found + repeated,
        "rows_empty": empty,
        "rows_repeated": repeated,
        "rows_training": len(training),
        "rows_held_out": len(held_out),
        "majority_accuracy": sum(label == commonest for _, label in held_out) / tested,
    }
    return Texts(training, held_out, figures)
