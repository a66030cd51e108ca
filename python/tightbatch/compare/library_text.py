"""The default text: the English and Python documentation that ships with Python.

Docstrings of the standard library, read from its source with `ast` (a module that is imported
can open windows, start threads or print), and the language reference of `pydoc_data.topics`,
which is a table of strings and nothing else. The label is the part of the library.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from tightbatch.compare.settings import CompareError

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
PIECE = 1000  # characters of a piece of the reference: about one full row of tokens
FEWEST = 200  # texts; with fewer this Python has had its documentation taken out
HEADING = re.compile(r"\n(?=[^\n]+\n(?:\*{3,}|={3,}|-{3,})\n)")


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
    """Every docstring in a source file: module, classes and functions."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in the library are not our concern
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # bad on purpose (lib2to3 and encodings carry such files), or unreadable
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield text


def pieces(topic: str) -> Iterator[str]:
    """A topic's sections, in pieces of whole paragraphs of about `PIECE` characters."""
    for section in HEADING.split(topic):
        piece = ""
        for paragraph in section.split("\n\n"):
            if piece and len(piece) + len(paragraph) > PIECE:
                yield piece
                piece = ""
            piece = f"{piece}\n\n{paragraph}" if piece else paragraph
        if piece.strip():
            yield piece


def reference_texts() -> Iterator[str]:
    """The language reference, piece by piece."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return  # a stripped Python: the count below says so if too little is left
    for name in sorted(topics):
        yield from pieces(topics[name])


def library_text() -> tuple[list[str], list[str], int]:
    """Read the documentation of this Python.

    Returns
    -------
    texts : list of str
        Each text once, in a fixed order.
    labels : list of str
        The part of the library each text comes from.
    repeated : int
        How many texts were left out because an equal one came before: a copy in the held-out
        rows would make the accuracy look better than it is.

    Raises
    ------
    CompareError
        If this Python ships without its documentation.
    """
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    found = [(text.strip(), REFERENCE) for text in reference_texts()]
    for part, modules in PARTS.items():
        for module in modules.split():
            for path in source_files(stdlib, module):
                found += [(text.strip(), part) for text in docstrings(path)]
    labels: dict[str, str] = {}
    for text, part in found:
        labels.setdefault(text, part)
    if len(labels) < FEWEST:
        raise CompareError(
            f"only {len(labels)} texts of documentation in this Python ({stdlib}): "
            "give text of your own with --data FILE"
        )
    return list(labels), list(labels.values()), len(found) - len(labels)
