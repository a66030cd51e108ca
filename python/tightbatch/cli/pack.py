"""``tightbatch pack``: rows of a data set put together into packs, in a file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from ..sampling.plan_file import replacing
from . import arrow
from .failure import CommandError, RowError, calling, need, one_line, shown
from .output import check_output, many, progress, say
from .places import Places
from .rows import check_kind, find_column, kind_inside
from .sources import PACKED, Source, find_source
from .tokenizer import TextTokenizer
from .tokens import Dtype, open_tokens, token_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from .. import Packing, Ragged

Overlong = Literal["error", "truncate", "split", "drop"]
Strategy = Literal["pool", "best_fit"]
SUFFIXES = (".parquet", ".arrow", ".feather")
TOKENS = 2**22  # that are written at once
TOKENIZED = "input_ids"  # the name of a column of text once it is tokens
OPTIONS = {
    "max_segments": "--max-segments",
    "overlong": "--overlong",
    "capacity": "--capacity",
    "strategy": "--strategy",
    "seed": "--seed",
}


def pack(
    file: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="The data.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Argument(help="The packs: .parquet, .arrow or .feather.", show_default=False),
    ],
    capacity: Annotated[
        int, typer.Option(metavar="N", help="Tokens in a pack.", show_default=False)
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A column to pack; may be repeated. Default: all that hold rows of numbers.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Pack the tokens of text: as for analyze."),
    ] = None,
    overlong: Annotated[
        Overlong, typer.Option(help="What to do with a row longer than a pack.")
    ] = "error",
    max_segments: Annotated[
        int | None, typer.Option(metavar="N", help="The most rows in a pack.")
    ] = None,
    strategy: Annotated[
        Strategy, typer.Option(help="Random rows from a pool, or rows sorted by length.")
    ] = "pool",
    seed: Annotated[int, typer.Option(metavar="N", help="Of the random order.")] = 0,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of a saved dataset with splits. Default: train."),
    ] = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="The type of the tokens in a .bin file.")
    ] = None,
    eos: Annotated[
        int | None,
        typer.Option(metavar="N", help="The token that ends each row of a .bin or .npy file."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
) -> None:
    """Put rows together into packs of at most N tokens, and write them to a file.

    The file has the columns that were packed, and seq_lengths: the lengths of the rows in each
    pack, from which collate functions take where a row begins.
    """
    need("pyarrow")
    _check_out(file, out, force)
    source = find_source(file, split)
    settings: dict[str, Any] = {
        "overlong": overlong,
        "max_segments": max_segments,
        "strategy": strategy,
        "seed": seed,
    }
    _make([1], capacity, settings)  # refuses wrong settings before a large file is read
    if source.kind in ("npy", "bin"):
        if column or tokenizer:
            raise CommandError(f"--column and --tokenizer are not for .{source.kind}")
        columns, places = _read_tokens(source, dtype, eos), Places(source)
        told: list[str] = []
    else:
        if eos is not None or dtype is not None:
            raise CommandError("--eos and --dtype are for files of bare tokens (.bin, .npy)")
        columns, told, places = _read_columns(source, column or [], tokenizer)
    packing = _make(next(iter(columns.values())).lengths, capacity, settings, places)
    _write(packing, columns, places, out)
    _print(packing, source, out, list(columns), told)


def _check_out(file: Path, out: Path, force: bool) -> None:
    check_output(out, "OUT")
    if out.suffix.lower() not in SUFFIXES:
        raise CommandError(f"OUT {shown(out)}: the name must end in {', '.join(SUFFIXES)}")
    if out.exists():
        if file.exists() and out.samefile(file):
            raise CommandError(f"OUT {shown(out)}: is the file that is read")
        if not force:
            raise CommandError(f"OUT {shown(out)}: is there already; --force replaces it")


def _make(
    lengths: Any, capacity: int, settings: dict[str, Any], places: Places | None = None
) -> Packing:
    from .. import pack

    with calling(places.where if places else None, **OPTIONS):
        return pack(lengths, capacity, **settings)


def _read_tokens(source: Source, dtype: str | None, eos: int | None) -> dict[str, Ragged]:
    """The rows of a file of bare tokens, mapped."""
    (file,) = source.files
    if eos is None:
        raise CommandError(f"{shown(file)}: pass --eos N, the token that ends a row")
    tokens = open_tokens(file, dtype, eos)
    with progress(source.size, f"reading {file.name}") as update:
        return {TOKENIZED: token_rows(file, tokens, eos, update)}


def _read_columns(
    source: Source, wanted: list[str], tokenizer: str | None
) -> tuple[dict[str, Ragged], list[str], Places]:
    """Read columns whole; also gives what is to be said of what was left out, and of places."""
    import pyarrow as pa

    from .. import Ragged

    schema = source.schema()
    if "seq_lengths" in schema.names:
        raise CommandError(
            f"{shown(source.path)}: has seq_lengths, so its rows are packs: pack what they were "
            "made of"
        )
    chosen = _choose(source, schema, wanted, tokenizer is not None)
    encoder = None if tokenizer is None else TextTokenizer(tokenizer)
    names = list(dict.fromkeys(name for name, _ in chosen.values()))
    fields = [schema.field(name) for name in names]
    if source.kind in ("csv", "tsv"):
        fields = [pa.field(name, pa.string()) for name in names]
    parts: dict[str, list[Any]] = {name: [] for name in chosen}
    places = Places(source)
    with progress(source.size, f"reading {source.path.name}") as update:
        for batch, file, place in source.blocks(pa.schema(fields)):
            arrays = {
                full: arrow.take(batch.column(names.index(name)), inner)
                for full, (name, inner) in chosen.items()
            }
            first = places.kept
            for full, array in _without_nulls(arrays, file, places).items():
                try:
                    parts[full].append(_tokens(encoder, array, source.kind))
                except RowError as error:
                    where = places.where(first + error.row)
                    raise CommandError(f"{where}: column {full!r}: {error}") from None
            update(place)
    if not places.kept:
        raise CommandError(places.no_rows())
    told = [f"{many(places.nulls, 'row')} without a value left out"] if places.nulls else []
    if not wanted and tokenizer is None:
        others = [one_line(name, 40) for name in schema.names if name not in names]
        told += [f"columns left out: {', '.join(others)}"] if others else []
    columns = {}
    for full, pieces in parts.items():
        try:
            with calling(places.where):
                rows = Ragged.from_arrow(pa.chunked_array(_of_one_type(pieces)))
        except CommandError as error:
            text = str(error)
            if not text.startswith(shown(source.path)):
                text = f"{shown(source.path)}: column {full!r}: {text}"
            raise CommandError(text) from None
        columns[full if encoder is None else TOKENIZED] = rows
    return columns, told, places


def _choose(
    source: Source, schema: pa.Schema, wanted: list[str], is_text: bool
) -> dict[str, tuple[str, list[str]]]:
    """The columns to pack: by the name they will have, where they are."""
    if is_text:
        if len(wanted) > 1:
            raise CommandError("--tokenizer takes one --column of text")
        holding = [n for n in schema.names if arrow.holds(schema.field(n).type) == "text"]
        texts = pa_schema([schema.field(name) for name in holding]) if not wanted else schema
        if not texts.names:
            raise CommandError(f"{shown(source.path)}: has no column of text")
        name, inner = find_column(source, texts, wanted[0] if wanted else None)
        full = ".".join([name, *inner])
        if check_kind(source, full, kind_inside(source, schema, name, inner), False) != "text":
            place = f"{shown(source.path)}: column {full!r}"
            raise CommandError(f"{place} holds rows of tokens, and --tokenizer is for text")
        return {full: (name, inner)}
    if not wanted:
        wanted = [n for n in schema.names if arrow.holds_rows_of_numbers(schema.field(n).type)]
    if not wanted:
        text = any(arrow.holds(kind) == "text" for kind in schema.types)
        hint = "; pass --tokenizer to pack text" if text else ""
        raise CommandError(f"{shown(source.path)}: no column holds rows of numbers{hint}")
    chosen = {}
    for one in wanted:
        name, inner = find_column(source, schema, one)
        kind = kind_inside(source, schema, name, inner)
        place = f"{shown(source.path)}: column {one!r}"
        if check_kind(source, one, kind, False) == "text":
            raise CommandError(f"{place} holds text: pass --tokenizer to pack its tokens")
        if not arrow.holds_rows_of_numbers(kind):
            raise CommandError(f"{place} holds {kind}; only rows of numbers can be packed")
        chosen[one] = (name, inner)
    return chosen


def _of_one_type(pieces: list[Any]) -> list[Any]:
    """Arrays as they are, or if they differ, of the type that can hold all: floats, for one."""
    kinds = {piece.type for piece in pieces}
    if len(kinds) == 1:
        return pieces
    whole = arrow.common_type(kinds)
    return [piece.cast(whole) for piece in pieces]


def pa_schema(fields: list[Any]) -> pa.Schema:
    """Make a schema."""
    import pyarrow as pa

    return pa.schema(fields)


def _without_nulls(arrays: dict[str, Any], file: Path, places: Places) -> dict[str, Any]:
    """Leave out the rows that are null in any column."""
    import pyarrow.compute as pc

    keep = reduce(pc.and_, [array.is_valid() for array in arrays.values()])
    places.add(file, keep)
    if not any(array.null_count for array in arrays.values()):
        return arrays
    return {name: array.filter(keep) for name, array in arrays.items()}


def _tokens(encoder: TextTokenizer | None, array: Any, kind: str) -> Any:
    """The rows of an array without nulls, or the tokens of its texts."""
    import pyarrow as pa

    if encoder is None:
        arrow.check_tokens(array)
        return array
    arrow.check_text(array, kind in PACKED)
    return pa.array(encoder.encode(arrow.as_text(array).to_pylist()), pa.list_(pa.int32()))


def _write(packing: Packing, columns: dict[str, Ragged], places: Places, out: Path) -> None:
    """Write the packs, block by block."""
    packed: dict[str, Any] = {}
    for name, rows in columns.items():
        try:
            with calling(places.where):
                packed[name] = packing.apply(rows)
        except CommandError as error:
            told = str(error).replace(": has ", f": column {name!r} has ", 1)
            told = told.replace("that were packed", f"of column {next(iter(columns))!r}")
            raise CommandError(f"{told}; choose columns of equal lengths by --column") from None
    packed["seq_lengths"] = packing.seq_lengths
    kept = np.flatnonzero(packing.pack_lengths)  # rows without tokens need no pack
    if not len(kept):
        raise CommandError(f"{shown(places.source.path)}: no row has a token")
    ends = np.cumsum(packing.pack_lengths[kept])
    edges = [0, *(np.flatnonzero(np.diff(ends // TOKENS)) + 1).tolist(), len(kept)]
    with (
        replacing(out) as beside,
        beside.open("wb") as sink,
        progress(len(kept), f"writing {out.name}") as update,
    ):
        writer = None
        try:
            for begin, end in pairwise(edges):
                block = _block(packed, kept[begin:end])
                if writer is None:
                    writer = _open(sink, out.suffix.lower(), block.schema)
                writer.write_table(block)
                update(end)
        finally:
            if writer is not None:
                writer.close()


def _block(packed: dict[str, Any], chosen: Any) -> pa.Table:
    import pyarrow as pa

    arrays = {name: rows[chosen].to_arrow() for name, rows in packed.items()}
    for name, array in arrays.items():
        inside = pa.int32() if name == "seq_lengths" else array.type.value_type
        arrays[name] = array.cast(pa.list_(inside))
    return pa.table(arrays)


def _open(sink: Any, suffix: str, schema: pa.Schema) -> Any:
    import pyarrow as pa

    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.ParquetWriter(sink, schema)
    return pa.ipc.new_file(sink, schema)


def _print(
    packing: Packing, source: Source, out: Path, columns: list[str], told: list[str]
) -> None:
    def lines() -> Iterator[str]:
        rows, tokens = many(len(packing.row_lengths), "row"), int(packing.row_lengths.sum())
        yield f"{shown(source.path)}: {rows}, {tokens:,} tokens"
        packs = f"{many(len(packing), 'pack')} of {packing.capacity:,} tokens"
        least = f"no packing has fewer than {packing.lower_bound:,}"
        yield f"{shown(out)}: {packs}, {packing.efficiency:.2%} full; {least}"
        yield f"columns: {', '.join([*columns, 'seq_lengths'])}"
        if packing.dropped:
            yield f"{many(packing.dropped, 'row')} longer than a pack left out"
        if packing.truncated:
            yield f"{many(packing.truncated, 'token')} cut off longer rows"
        yield from told

    for line in lines():
        say(line)
