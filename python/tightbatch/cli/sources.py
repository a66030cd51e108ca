"""Files and folders of all kinds, read as blocks of columns."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arrow import is_alike
from .failure import CommandError, no_file, one_line, reading, shown, suggest
from .lines import (
    COMPRESSIONS,
    Blocks,
    check_encoding,
    csv_faults,
    json_blocks,
    json_schema,
    opened,
    text_blocks,
)

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
    ".npy": "npy",
    ".bin": "bin",
}
EXPECTED = (
    ".parquet, .arrow, .feather, .jsonl, .csv, .tsv, .txt (these four also .gz, .zst, .bz2), "
    ".npy or .bin"
)
PACKED = ("jsonl", "csv", "tsv", "txt")  # kinds that may be compressed
ROWS = 4096  # of Parquet, read at once


@dataclass(frozen=True)
class Source:
    """Files of one kind that belong together.

    Attributes
    ----------
    path : Path
        What the user named.
    files : tuple of Path
    kind : str
        One of the values of `KINDS`.
    note : str
        What was chosen for the user, such as a split; "" if nothing.
    is_saved : bool
        Whether ``datasets.save_to_disk`` wrote it.
    """

    path: Path
    files: tuple[Path, ...]
    kind: str
    note: str = ""
    is_saved: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)

    def schema(self) -> pa.Schema:
        """The columns, as the first file has them."""
        file = self.files[0]
        with reading(file, self.kind):
            if self.kind in PACKED:
                check_encoding(file)
            found = _schema(file, self.kind)
        if not found.names:
            raise CommandError(f"{shown(file)}: is empty")
        twice = [name for name, count in Counter(found.names).items() if count > 1]
        if twice:
            raise CommandError(f"{shown(file)}: several columns are called {one_line(twice[0])!r}")
        return found

    def blocks(self, wanted: pa.Schema) -> Iterator[tuple[pa.RecordBatch, Path, int]]:
        """The rows of some columns, in order, their file, and how many bytes are done."""
        done = 0
        for file in self.files:
            with reading(file, self.kind):
                if file is not self.files[0]:
                    _check_same(file, self.kind, wanted)
                for batch, here in _blocks(file, self.kind, wanted):
                    yield batch, file, done + here
            done += file.stat().st_size


def find_source(path: Path, split: str | None) -> Source:
    """Say what a path is: a file, a saved dataset, or a folder of files of one kind."""
    try:
        if not path.exists():
            raise no_file(path, lambda one: kind_of(one) or one.is_dir())
        if not path.is_dir():
            kind = kind_of(path)
            if kind is None:
                raise CommandError(f"{shown(path)}: the name must end in {EXPECTED}")
            if path.stat().st_size == 0:
                raise CommandError(f"{shown(path)}: is empty")
            if split is not None:
                raise CommandError("--split is for a folder of a saved dataset with splits")
            return Source(path, (path,), kind)
        return _folder(path, split)
    except OSError as error:
        raise CommandError(f"{shown(path)}: {one_line(error.strerror or error)}") from None


def kind_of(path: Path) -> str | None:
    """The kind of a file, by its name; None if it is none that can be read."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        kind = KINDS.get(suffixes[-2]) if len(suffixes) == 2 else None
        return kind if kind in PACKED else None
    return KINDS.get(suffixes[-1]) if suffixes else None


def _folder(path: Path, split: str | None) -> Source:
    splits = path / "dataset_dict.json"
    if splits.is_file():
        names = _texts(splits, _json(splits).get("splits") or [], "splits")
        if split is None:
            split = names[0] if len(names) == 1 else "train"
        if split not in names:
            raise CommandError(f"{shown(path)}: no split {split!r}: {suggest(split, names)}")
        return _saved(path / split, f"split {split}")
    if split is not None:
        raise CommandError(f"{shown(path)}: has no splits, so --split is not for it")
    if (path / "state.json").is_file():
        return _saved(path, "")
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts)
    ]
    kinds = {file: kind_of(file) for file in files}
    counts = Counter(kind for kind in kinds.values() if kind is not None)
    if not counts:
        raise CommandError(
            f"{shown(path)}: no file in this folder is data; expected a folder that "
            f"datasets.save_to_disk wrote, or files that end in {EXPECTED}"
        )
    if len(counts) > 1:
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        raise CommandError(
            f"{shown(path)}: holds files of several kinds ({told}): pass one file, or a folder of "
            "one kind"
        )
    (kind,) = counts
    chosen = tuple(file for file in files if kinds[file] == kind and file.stat().st_size)
    if not chosen:
        raise CommandError(f"{shown(path)}: all of its {kind} files are empty")
    if len(chosen) > 1 and kind in ("npy", "bin"):
        raise CommandError(f"{shown(path)}: holds {len(chosen)} {kind} files: pass one of them")
    return Source(path, chosen, kind, f"{len(chosen)} files")


def _saved(path: Path, note: str) -> Source:
    """A dataset as ``datasets.save_to_disk`` writes it."""
    state = _json(path / "state.json")
    if state.get("_indices_data_files"):
        raise CommandError(
            f"{shown(path)}: this dataset chooses rows by an index of its own; load it, call "
            "flatten_indices() and save it again"
        )
    listed = state.get("_data_files") or []
    if isinstance(listed, list):
        listed = [one.get("filename") if isinstance(one, dict) else one for one in listed]
    files = tuple(path / name for name in _texts(path / "state.json", listed, "_data_files"))
    missing = [file for file in files if not file.is_file()]
    if not files or missing:
        told = f"lacks its file {missing[0].name}" if missing else "names no files"
        raise CommandError(f"{shown(path)}: the saved dataset {told}")
    return Source(path, files, "arrow", note, is_saved=True)


def _json(path: Path) -> dict[str, Any]:
    with reading(path, "json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("expected an object")
        return found


def _texts(path: Path, found: Any, key: str) -> list[str]:
    """Names, as a file of JSON lists them."""
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise CommandError(f"{shown(path)}: {key!r} lists no names; was it edited by hand?")
    return found


def _schema(file: Path, kind: str) -> pa.Schema:
    import pyarrow as pa

    if kind == "parquet":
        import pyarrow.parquet as pq

        with pa.OSFile(os.fsencode(file)) as raw:
            return pq.ParquetFile(raw).schema_arrow
    if kind == "arrow":
        with _arrow_reader(file) as reader:
            return reader.schema
    if kind == "jsonl":
        return json_schema(file)
    if kind in ("csv", "tsv"):
        with opened(file) as (content, _), csv_faults(file, kind):
            reader = _csv_reader(content, kind, None)
            found = reader.schema
            if not len(next(iter(reader), ())):
                raise CommandError(f"{shown(file)}: has no rows under its header")
            if len(found.names) == 1 and (mark := re.search(r"[;|\t]", found.names[0])):
                expected = "a tab" if kind == "tsv" else "a comma"
                raise CommandError(
                    f"{shown(file)}: has one column, {one_line(found.names[0], 60)!r}: are its "
                    f"columns separated by {mark[0]!r}? expected {expected}"
                )
            # What is not UTF-8 is taken for bytes; as text it is an error that names the row.
            kinds = [pa.string() if pa.types.is_binary(t) else t for t in found.types]
            return pa.schema(list(zip(found.names, kinds, strict=True)))
    return pa.schema([("text", pa.string())])


def _check_same(file: Path, kind: str, wanted: pa.Schema) -> None:
    """Raise CommandError if a file of a folder does not hold what the first file holds."""
    schema = _schema(file, kind)
    names = schema.names
    for name in wanted.names:
        if name not in names:
            raise CommandError(
                f"{shown(file)}: no column {one_line(name)!r}, which the first file has; there "
                f"are: {', '.join(map(one_line, names[:20]))}"
            )
        own, first = schema.field(name).type, wanted.field(name).type
        if kind in ("parquet", "arrow") and not is_alike(own, first):
            raise CommandError(
                f"{shown(file)}: column {one_line(name)!r} holds {one_line(own, 100)}; expected "
                f"{one_line(first, 100)}, as in the first file"
            )


def _blocks(file: Path, kind: str, wanted: pa.Schema) -> Blocks:
    if kind == "parquet":
        yield from _parquet_blocks(file, wanted.names)
    elif kind == "arrow":
        yield from _arrow_blocks(file, wanted.names)
    elif kind == "jsonl":
        yield from json_blocks(file, wanted)
    elif kind in ("csv", "tsv"):
        with opened(file) as (content, raw), csv_faults(file, kind):
            for batch in _csv_reader(content, kind, wanted):
                yield batch, raw.tell()
    else:
        yield from text_blocks(file)


def _parquet_blocks(file: Path, names: list[str]) -> Blocks:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pa.OSFile(os.fsencode(file)) as raw:
        reader = pq.ParquetFile(raw)
        rows, size, done = max(reader.metadata.num_rows, 1), file.stat().st_size, 0
        # The columns in the file's order, whatever the order asked for.
        for batch in reader.iter_batches(ROWS, columns=names):
            done += len(batch)
            yield batch.select(names), size * done // rows


@contextmanager
def _arrow_reader(file: Path) -> Iterator[Any]:
    """Open Arrow's file format, or its stream format, which datasets writes."""
    import pyarrow as pa

    with pa.memory_map(os.fsencode(file)) as content:
        if content.read(6) == b"ARROW1":
            content.seek(0)
            with pa.ipc.open_file(content) as reader:
                yield reader
        else:
            content.seek(0)
            with pa.ipc.open_stream(content) as reader:
                yield reader


def _arrow_blocks(file: Path, names: list[str]) -> Blocks:
    size = file.stat().st_size
    with _arrow_reader(file) as reader:
        count = getattr(reader, "num_record_batches", None)
        if count is None:
            for batch in reader:
                yield batch.select(names), size // 2
        else:
            for i in range(count):
                yield reader.get_batch(i).select(names), size * (i + 1) // count


def _csv_reader(content: Any, kind: str, wanted: pa.Schema | None) -> Any:
    from pyarrow import csv

    convert = csv.ConvertOptions()
    if wanted is not None:
        convert = csv.ConvertOptions(
            include_columns=wanted.names, column_types={f.name: f.type for f in wanted}
        )
    return csv.open_csv(
        content,
        csv.ReadOptions(block_size=2**23, use_threads=False),  # errors then name rows
        csv.ParseOptions(delimiter="\t" if kind == "tsv" else ",", newlines_in_values=True),
        convert,
    )
