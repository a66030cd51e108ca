"""``--data``: the user's own text from .txt, .jsonl, .csv or .parquet.

Each reader returns the text and label columns with None where a row has no value; every failure
is a `CompareError` that names the file and, where there is one, the row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightbatch.compare.settings import CompareError

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = (".txt", ".jsonl", ".csv", ".parquet")
DEFAULT_LABEL = "label"


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, without their ends; a byte-order mark is no text."""
    try:
        # Universal newlines only: str.splitlines would also cut at form feeds and U+2028.
        with path.open(encoding="utf-8-sig") as file:
            return [line.rstrip("\n") for line in file]
    except UnicodeDecodeError as error:
        raise CompareError(
            f"{path}: not UTF-8 text: byte {error.object[error.start]:#04x} ({error.reason})"
        ) from None


def read_txt(path: Path) -> dict[str, list[Any]]:
    """A row per line."""
    lines = read_lines(path)
    if any("\0" in line for line in lines):
        raise CompareError(f"{path}: not text: it holds NUL bytes")
    return {"text": list(lines)}


def read_jsonl(path: Path) -> dict[str, list[Any]]:
    """A JSON object per line; lines of white space are no rows."""
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
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def columns_of(table: pa.Table, path: Path, wanted: set[str]) -> dict[str, list[Any]]:
    """The wanted columns of an Arrow table as lists, the others as names only."""
    if len(set(table.column_names)) < len(table.column_names):
        raise CompareError(f"{path}: two columns have the same name: {table.column_names}")
    return {
        name: table.column(name).to_pylist() if name in wanted else []
        for name in table.column_names
    }


def read_csv(path: Path, wanted: set[str]) -> dict[str, list[Any]]:
    """Comma-separated values with a header line."""
    import pyarrow as pa
    from pyarrow import csv

    try:
        table = csv.read_csv(
            path,
            # The whole file as one block where it is not huge: a row longer than a block fails.
            read_options=csv.ReadOptions(
                block_size=max(1 << 20, min(path.stat().st_size, 1 << 28))
            ),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            # As strings: "007" and "1.0" stay as written, and a text that reads "NA" is a text.
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(wanted, pa.string())),
        )
    except (pa.ArrowException, ValueError) as error:
        raise CompareError(f"{path}: not readable as CSV: {one_line(error)}") from None
    return columns_of(table, path, wanted)


def read_parquet(path: Path, wanted: set[str]) -> dict[str, list[Any]]:
    """An Apache Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        return columns_of(table, path, wanted)
    except (pa.ArrowException, ValueError) as error:
        raise CompareError(f"{path}: not readable as Parquet: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """An exception's text on one line of sensible length."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."


def read_columns(path: Path, wanted: set[str]) -> dict[str, list[Any]]:
    """Read a file by its ending; raise CompareError when that cannot be done."""
    kind = path.suffix.lower()
    try:
        if not path.exists():
            raise CompareError(f"{path}: no such file")
        if path.is_dir():
            raise CompareError(f"{path}: is a directory")
        if kind not in KINDS:
            raise CompareError(f"{path}: the name must end in one of {', '.join(KINDS)}")
        if path.stat().st_size == 0:
            raise CompareError(f"{path}: is empty")
        if kind == ".txt":
            return read_txt(path)
        if kind == ".jsonl":
            return read_jsonl(path)
        return read_csv(path, wanted) if kind == ".csv" else read_parquet(path, wanted)
    except OSError as error:
        raise CompareError(f"{path}: cannot be read: {error.strerror or error}") from None


def text_values(path: Path, column: str, values: list[Any]) -> list[str]:
    """The text column as strings; no value is an empty text, which is counted later."""
    for number, value in enumerate(values, 1):
        if value is not None and not isinstance(value, str):
            raise CompareError(
                f'{path}: row {number} of column "{column}" is not text but '
                f"{type(value).__name__}: {one_line(ValueError(repr(value)))}"
            )
    return [value or "" for value in values]


def label_values(path: Path, column: str, values: list[Any]) -> list[str]:
    """The label column as strings; every row must have one."""
    for number, value in enumerate(values, 1):
        if value is None or value == "":
            raise CompareError(f'{path}: row {number} has no value in column "{column}"')
        if isinstance(value, (list, dict, bytes)):
            raise CompareError(
                f'{path}: row {number} of column "{column}" is a {type(value).__name__}, '
                "not a label"
            )
    return [str(value) for value in values]


def quarters(rows: int) -> list[str]:
    """The label of a file without labels: the quarter of the file that a row comes from."""
    return [f"quarter {4 * row // rows + 1}" for row in range(rows)]


def data_file(
    path: Path, text_column: str, label_column: str | None
) -> tuple[list[str], list[str], str]:
    """Read the user's text and labels.

    Parameters
    ----------
    path : Path
        The file; its ending decides how it is read.
    text_column : str
        Name of the text column; a .txt file has no columns, its lines are the texts.
    label_column : str or None
        Name of the label column. None takes "label" where there is one, else the quarter of the
        file that the row comes from.

    Returns
    -------
    texts, labels : list of str
        One of each per row; a text may be empty.
    meaning : str
        What the label is, for the user.

    Raises
    ------
    CompareError
        If the file, a column or a label is not there or cannot be read.
    """
    is_txt = path.suffix.lower() == ".txt"
    text_column = "text" if is_txt else text_column
    columns = read_columns(path, {text_column, label_column or DEFAULT_LABEL})
    for name in (text_column, label_column):
        if name is not None and name not in columns:
            has = (
                "a .txt file has no columns but its lines"
                if is_txt
                else (f"there are: {', '.join(columns)}" if columns else "there are none")
            )
            raise CompareError(f'{path}: no column "{name}"; {has}')
    texts = text_values(path, text_column, columns[text_column])
    if not any(text.strip() for text in texts):
        raise CompareError(f"{path}: holds no text")
    label_column = label_column or (DEFAULT_LABEL if DEFAULT_LABEL in columns else None)
    if label_column is None:
        return texts, quarters(len(texts)), "the quarter of the file a row comes from"
    labels = label_values(path, label_column, columns[label_column])
    return texts, labels, f'column "{label_column}"'
