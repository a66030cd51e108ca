"""Text and JSON with a row on each line, also compressed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrow import common_type
from .failure import CommandError, not_utf8, one_line, shown

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
BLOCK = 2**22  # bytes that are split into lines at once
JSON_BLOCK = 2**24  # a longer line is read by itself
ROWS = 4096  # of JSON, read line by line
JSON_LINES = "expected an object on each line (JSON Lines; of an array: jq -c '.[]')"
JSON_NAMES = {int: "number", float: "number", str: "string", bool: "boolean", type(None): "null"}
LOOKED_AT = 1000  # objects, for columns that are null in the first one
BOM = b"\xef\xbb\xbf"

Blocks = Iterator[tuple["pa.RecordBatch", int]]  # rows, and the bytes of the file that are done


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file: its content, decompressed, and the file itself, which tells how far it is."""
    import pyarrow as pa

    codec = COMPRESSIONS.get(path.suffix.lower())
    with pa.OSFile(os.fsencode(path), "rb") as raw:  # names need not be UTF-8
        if codec is None:
            yield raw, raw
        else:
            with pa.CompressedInputStream(raw, codec) as content:
                yield content, raw


def check_encoding(path: Path) -> None:
    """Raise CommandError for UTF-16 and UTF-32, which spreadsheets write: by the first bytes."""
    with opened(path) as (content, _):
        begin = content.read(2)
    if begin in (b"\xff\xfe", b"\xfe\xff"):
        raise CommandError(
            f"{shown(path)}: is UTF-16 or UTF-32 text; save it as UTF-8, for example with "
            "iconv -f UTF-16 -t UTF-8"
        )


def text_blocks(path: Path) -> Blocks:
    """The lines of a text file that are not blank, as a column "text"."""
    import pyarrow as pa
    import pyarrow.compute as pc

    line = 1
    with opened(path) as (content, raw):
        for data in whole_lines(content):
            _check_text(path, data, line)
            texts = pc.utf8_rtrim(_split(data), characters="\r\n")
            line += data.count(b"\n")
            texts = texts.filter(_is_row(texts, "txt"))
            yield pa.record_batch({"text": texts}), raw.tell()


def _is_row(lines: pa.Array, kind: str) -> pa.Array:
    """Whether lines are rows: blank ones are not. White space of JSON is ASCII's."""
    import pyarrow.compute as pc

    trim = pc.utf8_trim_whitespace if kind == "txt" else pc.ascii_trim_whitespace
    return pc.not_equal(trim(lines), "")


def line_of(path: Path, kind: str, row: int) -> int:
    """The line, counted from 1, where a row begins; rows are counted from 0, without a header."""
    if kind in ("csv", "tsv"):
        return _record(path, kind, row + 1)[0]
    line = 1
    with opened(path) as (content, _):
        for data in whole_lines(content):
            found = np.flatnonzero(_is_row(_split(data), kind).to_numpy(zero_copy_only=False))
            if row < len(found):
                return line + int(found[row])
            row -= len(found)
            line += data.count(b"\n")
    return line


def _record(path: Path, kind: str, wanted: int) -> tuple[int, list[str]]:
    """A record of CSV: the line where it begins, which values of several lines make another."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        with opened(path) as (content, _):
            text = io.TextIOWrapper(content, "utf-8-sig", "surrogateescape", newline="")
            reader = csv.reader(text, delimiter="\t" if kind == "tsv" else ",")
            line = 1
            for values in reader:
                if values:
                    if not wanted:
                        return line, values
                    wanted -= 1
                line = reader.line_num + 1
            return line, []
    finally:
        csv.field_size_limit(limit)


@contextmanager
def csv_faults(path: Path, kind: str) -> Iterator[None]:
    """Say in which line and column the fault is that pyarrow finds in a CSV file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        if "UTF8" in str(error) or isinstance(error, UnicodeDecodeError):
            _check_encoding_of_all(path)
        found = re.search(r"(?:column #(\d+): )?Row #(\d+): (.*)", str(error), re.DOTALL)
        if found is None:
            raise
        line, _ = _record(path, kind, int(found[2]) - 1)
        why = found[3].replace("Expected", "expected").replace(", got ", ", found ")
        if found[1] is not None:
            names = _record(path, kind, 0)[1]
            why = why.replace("CSV conversion error to", "expected")
            why = why.replace(": invalid value", ", found", 1)
            why = f"column {one_line(names[int(found[1])], 60)!r}: {why}"
        raise CommandError(f"{shown(path)}: line {line}: {one_line(why, 200)}") from None


def _check_encoding_of_all(path: Path) -> None:
    line = 1
    with opened(path) as (content, _):
        for data in whole_lines(content):
            _check_utf8(path, data, line)
            line += data.count(b"\n")


def whole_lines(content: Any) -> Iterator[bytes]:
    """Give the content in blocks that end where a line ends, without a byte-order mark."""
    rest: list[bytes] = []
    is_first = True
    while chunk := content.read(BLOCK):
        if is_first:
            chunk, is_first = chunk.removeprefix(BOM), False
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, chunk[:end]])
            rest = []
        rest.append(chunk[end:])
    last = b"".join(rest)
    if last:
        yield last


def _unended(content: Any) -> Iterator[bytes]:
    """Blocks of whole lines without the end of the last."""
    for block in whole_lines(content):
        yield block.removesuffix(b"\n")


def _split(data: bytes) -> pa.Array:
    """Make an array of the lines of a block, without a Python object for each."""
    import pyarrow as pa

    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    if len(ends) == 0 or ends[-1] != len(data):
        ends = np.append(ends, len(data))
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(ends), buffers)


def _check_text(path: Path, data: bytes, line: int) -> None:
    _check_utf8(path, data, line)
    if b"\0" in data:
        number = line + data.count(b"\n", 0, data.index(b"\0"))
        raise CommandError(f"{shown(path)}: line {number}: not text: it holds a NUL byte")


def _check_utf8(path: Path, data: bytes, line: int) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        number = line + data.count(b"\n", 0, error.start)
        told = not_utf8(data[error.start])
        raise CommandError(f"{shown(path)}: line {number}: {told}") from None


def json_lines(path: Path, content: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file, with the numbers of their lines; blank lines are skipped."""
    lines = chain.from_iterable(block.split(b"\n") for block in _unended(content))
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except UnicodeDecodeError as error:
            reason = not_utf8(line[error.start])
        except json.JSONDecodeError as error:
            reason = f"not JSON: {error.msg}, at character {error.pos + 1}"
            if number == 1 and line.strip() in (b"[", b"[{", b"{"):
                reason = f"JSON over several lines; {JSON_LINES}"
        except RecursionError:
            reason = "not read: the JSON is nested too deep"
        else:
            if isinstance(row, dict):
                yield number, row
                continue
            kind = "array" if isinstance(row, list) else JSON_NAMES[type(row)]
            reason = f"a JSON {kind}; {JSON_LINES if number == 1 else 'expected an object'}"
        raise CommandError(f"{shown(path)}: line {number}: {reason}")


def json_schema(path: Path) -> pa.Schema:
    """The columns of a file of JSON lines: the keys of its first object.

    What is null or an empty list there has the type of the first that is neither.
    """
    import pyarrow as pa

    kinds: dict[str, Any] = {}
    with opened(path) as (content, _):
        lines = json_lines(path, content)
        for _, row in islice(lines, 1):
            kinds = {name: _kind_of(value) for name, value in row.items()}
        unknown = {name for name, kind in kinds.items() if _is_unknown(kind)}
        others = islice(lines, LOOKED_AT)
        while unknown and (found := next(others, None)) is not None:
            for name in unknown & found[1].keys():
                if not _is_unknown(kind := _kind_of(found[1][name])):
                    kinds[name] = kind
                    unknown = unknown - {name}
    return pa.schema([pa.field(one_line(name), kind) for name, kind in kinds.items()])


def _kind_of(value: Any) -> pa.DataType:
    import pyarrow as pa

    try:
        return pa.array([value]).type
    except OverflowError:
        return pa.list_(pa.int64()) if isinstance(value, list) else pa.int64()
    except (pa.ArrowException, TypeError, UnicodeError):
        return pa.list_(pa.null()) if isinstance(value, list) else pa.string()


def json_blocks(path: Path, schema: pa.Schema) -> Blocks:
    """The columns of a schema.

    pyarrow reads them. Where it cannot, the rest is read line by line, which takes longer but says
    what is wrong in which line, or finds that nothing is: lists of several kinds, for example.
    """
    import pyarrow as pa
    from pyarrow import json as reader

    rows = 0
    if not any(_is_unknown(kind) for kind in schema.types):
        parse = reader.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        try:
            with opened(path) as (content, raw):
                settings = reader.ReadOptions(block_size=JSON_BLOCK)
                for batch in reader.open_json(content, settings, parse):
                    rows += len(batch)
                    yield batch.select(schema.names), raw.tell() if not raw.closed else 0
                return
        except (pa.ArrowException, ValueError, OSError):
            pass
    yield from _one_by_one(path, schema, rows)


def _is_unknown(kind: pa.DataType) -> bool:
    """Whether the first row does not tell the type: it is null, or an empty list."""
    import pyarrow as pa

    while pa.types.is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_null(kind))


def _one_by_one(path: Path, schema: pa.Schema, skip: int) -> Blocks:
    import pyarrow as pa

    numbers: list[int] = []
    found: list[dict[str, Any]] = []
    kinds = {f.name: None if _is_unknown(f.type) else f.type for f in schema}

    def block() -> pa.RecordBatch:
        return pa.record_batch(
            {name: _column(path, name, kinds, numbers, found) for name in schema.names}
        )

    with opened(path) as (content, raw):
        for place, (number, row) in enumerate(json_lines(path, content)):
            if place < skip:
                continue
            numbers.append(number)
            found.append(row)
            if len(found) == ROWS:
                yield block(), raw.tell()
                numbers.clear()
                found.clear()
        if found:
            yield block(), raw.tell()


def _column(
    path: Path,
    name: str,
    kinds: dict[str, Any],
    numbers: list[int],
    found: list[dict[str, Any]],
) -> pa.Array:

    values = [row.get(name) for row in found]
    kind = kinds[name]
    array = _whole(values, kind)
    if array is None:
        for number, value in zip(numbers, values, strict=True):
            reason = _fault(value, kind)
            if reason is not None:
                place = f"{shown(path)}: line {number}: {one_line(name, 60)!r}"
                raise CommandError(f"{place} {reason}") from None
        # Each is of some type, and one of another than those before it.
        most = bisect_left(
            range(len(values)), True, key=lambda n: _whole(values[: n + 1], kind) is None
        )
        raise CommandError(
            f"{shown(path)}: line {numbers[most]}: {one_line(name, 60)!r} holds "
            f"{one_line(repr(values[most]), 60)}: expected {_whole(values[:most], kind).type}, as "
            "in the lines before"
        ) from None
    if kind is None and not _is_unknown(array.type):
        kinds[name] = array.type
    return array


def _whole(values: list[Any], kind: Any) -> Any:
    """Make an array of a type; None if the values are of several types.

    pyarrow cuts floats to the integers it is asked for; they stay floats here.
    """
    import pyarrow as pa

    array, given = _fit(values, kind), _fit(values, None)
    if kind is None or array is None or given is None:
        return None if given is None else array
    try:
        whole = common_type([kind, given.type])
    except pa.ArrowException:  # of the types that one value can have
        return array
    return array if whole == kind else _fit(values, whole)


def _fit(values: list[Any], kind: Any) -> Any:
    """Make an array of values; None if they are of several types."""
    import pyarrow as pa

    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, TypeError, UnicodeError):
        return None


def _fault(value: Any, kind: Any) -> str | None:
    """Why a value is not of a type; None if it is."""
    import pyarrow as pa

    try:
        pa.array([value], kind)
    except UnicodeError:
        return "is not Unicode text: it holds a lone surrogate"
    except OverflowError:
        return f"holds {one_line(repr(value), 60)}: a number is outside int64"
    except (pa.ArrowException, TypeError) as error:
        why = f"expected {kind}" if kind is not None else one_line(error, 100)
        return f"holds {one_line(repr(value), 60)}: {why}"
    return None
