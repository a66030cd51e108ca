"""What a column of Arrow holds, and how long its rows are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .failure import RowError, not_utf8

if TYPE_CHECKING:
    import pyarrow as pa

# Of text without a tokenizer. Words are what stands between white space, also Unicode's.
Unit = Literal["words", "characters", "bytes"]
WORD = r"[^\s\p{Z}]+"
LISTED = r"[^\s,\[\]]+"  # a number in a list that was written as text: [1, 2] or [1 2]
IS_LISTED = r"^\s*\[[\s\d,.eE+-]*\]\s*$"


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values behind dictionaries and extensions."""
    import pyarrow as pa

    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind):
            kind = kind.value_type
        else:
            return kind


def plain(array: pa.Array) -> pa.Array:
    """The values behind dictionaries and extensions."""
    import pyarrow as pa

    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif isinstance(array, pa.DictionaryArray):
            array = array.dictionary_decode()
        else:
            break
    # Few functions take views.
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    if pa.types.is_list_view(array.type) or pa.types.is_large_list_view(array.type):
        return array.cast(pa.large_list(array.type.value_type))
    return array


def holds(kind: pa.DataType) -> str:
    """Whether a type holds "rows", "text", "numbers", "fields" or something "else"."""
    import pyarrow as pa

    kind, is_a = plain_type(kind), pa.types
    tests = (is_a.is_list, is_a.is_large_list, is_a.is_fixed_size_list, is_a.is_list_view)
    if any(test(kind) for test in (*tests, is_a.is_large_list_view)):
        inside = plain_type(kind.value_type)
        return "else" if is_a.is_struct(inside) or is_a.is_map(inside) else "rows"
    if is_a.is_string(kind) or is_a.is_large_string(kind) or is_a.is_string_view(kind):
        return "text"
    if is_a.is_integer(kind) or is_a.is_floating(kind) or is_a.is_boolean(kind):
        return "numbers"
    return "fields" if is_a.is_struct(kind) else "else"


def holds_rows_of_numbers(kind: pa.DataType) -> bool:
    """Whether rows are of numbers, which a model reads, and not of words."""
    if holds(kind) != "rows":
        return False
    while holds(kind) == "rows":
        kind = plain_type(kind).value_type
    return holds(kind) == "numbers"


def is_alike(kind: pa.DataType, first: pa.DataType) -> bool:
    """Whether what one file holds can be read as what the first file holds: widths may differ."""
    import pyarrow as pa

    kind, first = plain_type(kind), plain_type(first)
    if kind == first or pa.types.is_null(kind):
        return True
    what = holds(first)
    if what != holds(kind) or what == "else":
        return False
    if what == "rows":
        return is_alike(kind.value_type, first.value_type)
    if what == "fields":
        own = {field.name: field.type for field in kind}
        return all(f.name in own and is_alike(own[f.name], f.type) for f in first)
    return True


def common_type(kinds: Iterable[pa.DataType]) -> pa.DataType:
    """The type that holds what all of these hold: floats and integers are floats."""
    import pyarrow as pa

    schemas = [pa.schema([("", kind)]) for kind in kinds]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def take(array: pa.Array, path: list[str]) -> pa.Array:
    """The field of a nested column: ``["a", "b"]`` of fields of fields."""
    import pyarrow.compute as pc

    for name in path:
        array = pc.struct_field(plain(array), name)
    return plain(array)


def as_text(array: pa.Array) -> pa.Array:
    """Text of any of Arrow's types as one that all functions take."""
    import pyarrow as pa

    kind = pa.string() if pa.types.is_string(array.type) else pa.large_string()
    return array if array.type == kind else array.cast(kind)


def row_lengths(array: pa.Array) -> NDArray[np.int64]:
    """The lengths of lists, none of them null."""
    import pyarrow.compute as pc

    found: Any = pc.list_value_length(array).to_numpy(zero_copy_only=False)
    lengths: NDArray[np.int64] = found.astype(np.int64)
    return lengths


def null_tokens(array: pa.Array) -> int:
    """How many values inside the lists of an array are null, at any depth."""
    import pyarrow.compute as pc

    count = 0
    while holds(array.type) == "rows":
        array = plain(pc.list_flatten(array))
        count += array.null_count
    return count


def check_tokens(array: pa.Array) -> None:
    """Raise RowError for the first list that holds a null, at any depth."""
    if null_tokens(array):
        row, position = _first_null(array)
        raise RowError(
            row,
            f"position {position} is null; write a number there, or null for the whole row, which "
            "leaves it out",
        )


def _first_null(array: pa.Array) -> tuple[int, int]:
    """The row of the first null inside an array of lists, and its position in that row."""
    import pyarrow.compute as pc

    parents, items = pc.list_parent_indices(array), plain(pc.list_flatten(array))
    found = [pc.index(items.is_null(), True).as_py()] if items.null_count else []
    if null_tokens(items):
        found.append(_first_null(items)[0])
    place = min(found)
    row = parents[place].as_py()
    return row, place - pc.index(parents, row).as_py()


def check_text(array: pa.Array, is_file_of_text: bool) -> None:
    """Raise RowError for the first text that is not UTF-8, which some readers let by."""
    import pyarrow as pa

    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        for row, text in enumerate(as_text(array).cast(pa.large_binary()).to_pylist()):
            try:
                (text or b"").decode()
            except UnicodeDecodeError as error:
                told = not_utf8(text[error.start], is_file_of_text)
                raise RowError(row, told) from None
        raise


def text_lengths(array: pa.Array, unit: str) -> NDArray[np.int64]:
    """The lengths of texts, none of them null."""
    import pyarrow.compute as pc

    array = as_text(array)
    if unit == "words":
        found = pc.count_substring_regex(array, pattern=WORD)
    elif unit == "numbers":
        found = pc.count_substring_regex(array, pattern=LISTED)
    elif unit == "characters":
        found = pc.utf8_length(array)
    else:
        found = pc.binary_length(array)
    counts: NDArray[np.int64] = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return counts


def is_listed(array: pa.Array) -> bool:
    """Whether the texts are lists of numbers, as pandas writes them to a CSV file."""
    import pyarrow.compute as pc

    first = as_text(array[:100]).drop_null()
    return len(first) > 0 and bool(pc.all(pc.match_substring_regex(first, IS_LISTED)).as_py())


def check_listed(array: pa.Array) -> None:
    """Raise RowError for the first text that is no list of numbers."""
    import pyarrow.compute as pc

    wrong = pc.index(pc.match_substring_regex(as_text(array), IS_LISTED), False).as_py()
    if wrong >= 0:
        found = str(array[wrong].as_py())
        raise RowError(
            wrong, f"expected a list of numbers as in the rows before, found {found[:60]!r}"
        )
