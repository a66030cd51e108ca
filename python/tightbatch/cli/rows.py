"""Which column of a source is meant, and how long its rows are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import arrow
from .failure import CommandError, RowError, need, one_line, shown, suggest
from .output import many, progress
from .places import Places
from .sources import PACKED, Source, find_source
from .tokenizer import TextTokenizer
from .tokens import array_lengths, as_lengths, file_lengths

if TYPE_CHECKING:
    import pyarrow as pa

# Names of columns that are taken without --column, in this order.
USUAL = ("input_ids", "tokens", "token_ids", "ids", "text", "content", "sentence", "document")


@dataclass(frozen=True)
class Wanted:
    """What the user asked to be measured."""

    column: str | None = None
    split: str | None = None
    tokenizer: str | None = None
    unit: str = "words"
    lengths: bool = False
    dtype: str | None = None
    eos: int | None = None


@dataclass(frozen=True)
class Measured:
    """The lengths of the rows of a source, and what was done to get them."""

    lengths: NDArray[np.int64]
    column: str | None
    unit: str
    about: str  # in a line or two, for the user
    places: Places
    code: str = ""  # what gives these lengths in Python; "" if no short line does


def measure(path: Path, wanted: Wanted) -> Measured:
    """Read the length of every row of a file or folder."""
    source = find_source(path, wanted.split)
    _check_options(source, wanted)
    if source.kind in ("npy", "bin"):
        (file,) = source.files
        with progress(source.size, f"reading {file.name}") as update:
            if source.kind == "npy":
                lengths, unit = array_lengths(file, wanted.eos, update)
            else:
                lengths, unit = file_lengths(file, wanted.dtype, wanted.eos, update)
        about = f"{shown(path)}: lengths are {unit}."
        return Measured(lengths, None, "tokens", about, Places(source))
    need("pyarrow")
    schema = source.schema()
    name, inner = find_column(source, schema, wanted.column, wanted.lengths)
    kind = kind_inside(source, schema, name, inner)
    return _measure_column(source, name, inner, kind, wanted)


def _check_options(source: Source, wanted: Wanted) -> None:
    """Refuse options that would be without effect."""
    if source.kind in ("npy", "bin"):
        named = {"--column": wanted.column, "--tokenizer": wanted.tokenizer}
        for option, value in named.items():
            if value is not None:
                raise CommandError(f"{option} is for files with columns, not for .{source.kind}")
    elif wanted.eos is not None or wanted.dtype is not None:
        option = "--eos" if wanted.eos is not None else "--dtype"
        raise CommandError(f"{option} is for files of bare tokens (.bin, .npy)")


def find_column(
    source: Source, schema: pa.Schema, column: str | None, lengths: bool = False
) -> tuple[str, list[str]]:
    """Find the column that is meant: its name, and the names of fields inside it."""
    names = list(schema.names)
    if column is not None:
        if column in names:
            return column, []
        first, *inner = column.split(".")
        if inner and first in names:
            return first, inner
        raise CommandError(
            f"{shown(source.path)}: no column {one_line(column, 60)!r}: {suggest(column, names)}"
        )
    kinds = {name: arrow.holds(schema.field(name).type) for name in names}
    fitting = ("numbers",) if lengths else ("rows", "text")
    for name in USUAL:
        if kinds.get(name) in fitting:
            return name, []
    for kind in fitting:
        found = [name for name in names if kinds[name] == kind]
        if len(found) == 1:
            return found[0], []
    if len(names) == 1:
        return names[0], []
    raise CommandError(
        f"{shown(source.path)}: which column? pass --column with one of: "
        f"{', '.join(one_line(name, 40) for name in names[:20])}"
    )


def kind_inside(source: Source, schema: pa.Schema, name: str, inner: list[str]) -> pa.DataType:
    """The type of a column, or of a field inside it."""
    kind = arrow.plain_type(schema.field(name).type)
    for i, field in enumerate(inner):
        here = ".".join([name, *inner[:i]])
        if arrow.holds(kind) != "fields":
            raise CommandError(f"{shown(source.path)}: column {here!r} has no fields: it is {kind}")
        names = [kind.field(j).name for j in range(kind.num_fields)]
        if field not in names:
            raise CommandError(
                f"{shown(source.path)}: column {here!r} has no field {field!r}: "
                f"{suggest(field, names)}"
            )
        kind = arrow.plain_type(kind.field(field).type)
    return kind


def _measure_column(
    source: Source, name: str, inner: list[str], kind: pa.DataType, wanted: Wanted
) -> Measured:
    import pyarrow as pa

    full = ".".join([name, *inner])
    holds = check_kind(source, full, kind, wanted.lengths)
    if holds == "rows" and wanted.tokenizer is not None:
        raise CommandError(
            f"{shown(source.path)}: column {full!r} holds rows of tokens already, and --tokenizer "
            "is for text"
        )
    field = source.schema().field(name)
    if source.kind in ("csv", "tsv"):
        field = pa.field(name, pa.int64() if wanted.lengths else pa.string())
    reader = _Reader(wanted, holds, None, source.kind in PACKED)
    if holds == "text" and wanted.tokenizer is not None:
        reader.tokenizer = TextTokenizer(wanted.tokenizer)
    parts, places = [], Places(source)
    with progress(source.size, f"reading {source.path.name}") as update:
        for batch, file, place in source.blocks(pa.schema([field])):
            array = arrow.take(batch.column(0), inner)
            first = places.kept
            places.add(file, array.is_valid())
            try:
                parts.append(reader.read(array.drop_null()))
            except RowError as error:
                where = places.where(first + error.row)
                raise CommandError(f"{where}: column {full!r}: {error}") from None
            except CommandError as error:
                raise CommandError(f"{shown(file)}: column {full!r}: {error}") from None
            update(place)
    lengths = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    if not len(lengths):
        raise CommandError(places.no_rows())
    about = _about(source, full, reader, places.nulls)
    code = _code(source, name, full) if holds == "rows" and not places.nulls else ""
    return Measured(lengths, full, reader.unit, about, places, code)


def check_kind(source: Source, column: str, kind: pa.DataType, lengths: bool) -> str:
    """What a column holds; raise CommandError if it has no lengths."""
    holds = arrow.holds(kind)
    place = f"{shown(source.path)}: column {column!r} holds"
    if lengths and holds != "numbers":
        raise CommandError(f"{place} {kind}, which are no lengths; leave out --lengths")
    if holds == "numbers" and not lengths:
        raise CommandError(
            f"{place} one number a row ({kind}); expected rows of tokens or text. If the numbers "
            "are the lengths of rows, pass --lengths"
        )
    if holds == "fields":
        names = [kind.field(i).name for i in range(kind.num_fields)]
        choices = ", ".join(f"{column}.{name}" for name in names[:20])
        raise CommandError(f"{place} fields; pass --column with one of: {choices}")
    if holds == "else":
        raise CommandError(f"{place} {one_line(kind, 100)}; expected rows of tokens, or text")
    return holds


@dataclass
class _Reader:
    """Reads the lengths of one array after another."""

    wanted: Wanted
    holds: str
    tokenizer: TextTokenizer | None
    is_file_of_text: bool
    unit: str = ""
    null_tokens: int = 0

    def read(self, array: pa.Array) -> NDArray[np.int64]:
        """The lengths of an array without nulls."""
        if self.holds == "rows":
            self.unit = "tokens"
            self.null_tokens += arrow.null_tokens(array)
            return arrow.row_lengths(array)
        if self.holds == "numbers":
            self.unit = "tokens"
            return _read_numbers(array)
        arrow.check_text(array, self.is_file_of_text)
        if self.tokenizer is not None:
            self.unit = "tokens"
            return self.tokenizer.lengths(array)
        if not self.unit and len(array):
            listed = self.wanted.unit == "words" and arrow.is_listed(array)
            self.unit = "numbers" if listed else self.wanted.unit
        if self.unit == "numbers":
            arrow.check_listed(array)
        return arrow.text_lengths(array, self.unit or self.wanted.unit)


def _read_numbers(array: pa.Array) -> NDArray[np.int64]:
    import pyarrow as pa

    if not pa.types.is_integer(array.type):
        raise CommandError(f"holds {array.type}; lengths are whole numbers")
    return as_lengths(array.to_numpy(zero_copy_only=False))


def _code(source: Source, name: str, full: str) -> str:
    """The line of Python that gives the lengths of a column of rows."""
    path, name, full = (json.dumps(text) for text in (str(source.path), name, full))
    if source.is_saved:
        data = f"datasets.load_from_disk({path})"
    elif source.kind == "parquet":
        data = f"pyarrow.parquet.read_table({path}, columns=[{name}])"
    else:
        return ""
    return f"tb.lengths({data}, column={full})"


def _about(source: Source, column: str, reader: _Reader, nulls: int) -> str:
    """Say what was read, and how."""
    unit = reader.unit
    note = f" ({source.note})" if source.note else ""
    told = f"{shown(source.path)}{note}, column {one_line(column, 60)}: "
    if unit == "words":
        told += "lengths are words. Models read tokens, which are more: pass --tokenizer."
    elif unit in ("characters", "bytes"):
        told += f"lengths are {unit}."
    elif unit == "numbers":
        told += "lengths are the numbers in each list that the text holds."
    else:
        told += "lengths are tokens."
    if nulls:
        verb = "was" if nulls == 1 else "were"
        told += f" {many(nulls, 'row')} without a value {verb} left out."
    if reader.null_tokens:
        verb = "is null and counts" if reader.null_tokens == 1 else "are null and count"
        told += f" {many(reader.null_tokens, 'token')} inside rows {verb}."
    return told
