"""What check_batch found: findings, and the report that holds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .. import _core
from .._html import left, paragraphs, table
from .._words import counted

__all__ = ["BatchReport", "Finding", "error_message"]

_SHOWN = 5  # findings in an error's message
_ROWS = 30  # findings in a report's text


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a batch.

    Attributes
    ----------
    kind : str
        What is wrong: one of the kinds of :func:`tightbatch.check_batch`.
    key : str
        The column that is wrong, or that fewer columns agree with; "query.input_ids" for a nested
        one.
    row, column : int or None
        Where: the row of the batch, and the token in it. For a list, such as ``cu_seqlens``, `row`
        is None and `column` the index.
    message : str
        What was found, and what was expected.
    consequence : str
        What follows from it for training.
    other : str or None
        The column that says otherwise.

    Examples
    --------
    >>> import tightbatch as tb
    >>> batch = {"input_ids": [[5, 6], [7, 0]], "attention_mask": [[1, 1], [1, 2]]}
    >>> tb.check_batch(batch, raises=False).findings[0].column
    1
    """

    kind: str
    key: str
    row: int | None
    column: int | None
    message: str
    consequence: str
    other: str | None = None

    @property
    def place(self) -> str:
        """Key, row and column, as messages name them."""
        parts = [f"key {_core.show(self.key)}"]
        parts += [] if self.row is None else [f"row {self.row}"]
        parts += [] if self.column is None else [f"column {self.column}"]
        return ", ".join(parts)

    def __str__(self) -> str:
        """Place, what was found, and what follows."""
        follows = self.consequence[:1].upper() + self.consequence[1:]
        return f"{self.place}: {self.message} [{self.kind}]. {follows}."


@dataclass(frozen=True, eq=False)
class BatchReport:
    """What :func:`tightbatch.check_batch` looked at and what it found; true if that is nothing.

    Attributes
    ----------
    findings : tuple of Finding
        In the order of the batch's columns.
    count : int
        How many were found; `findings` may have fewer (at most 256 of each group of columns).
    columns : dict of str to str
        What was looked at, and what each column was taken for.
    notes : tuple of str
        What could not be looked at, or only after a copy; what is no fault, but costs a little.

    Examples
    --------
    >>> import tightbatch as tb
    >>> batch = tb.PadCollator(return_tensors="np")([{"input_ids": [5, 6]}, {"input_ids": [7]}])
    >>> report = tb.check_batch(batch)
    >>> report.ok, report.columns
    (True, {'input_ids': 'ids', 'attention_mask': 'mask'})
    """

    findings: tuple[Finding, ...]
    count: int
    columns: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return self.count == 0

    def __bool__(self) -> bool:
        """Whether nothing was found."""
        return self.count == 0

    def __len__(self) -> int:
        """The number of findings."""
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        """The findings."""
        return iter(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, strings and lists, for JSON."""
        return {
            "ok": self.ok,
            "count": self.count,
            "findings": [asdict(finding) for finding in self.findings],
            "columns": dict(self.columns),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        """The summary, a line for each finding, and the notes."""
        lines = [f"  {finding}" for finding in self.findings[:_ROWS]]
        if self.count > len(lines):
            lines.append(f"  ... and {self.count - len(lines)} more")
        return "\n".join([self._summary(), *lines, *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        names = ("key", "row", "column", "kind", "message", "consequence")
        rows = (
            [left(_cell(getattr(one, name))) for name in names] for one in self.findings[:_ROWS]
        )
        found = table(map(left, names), rows)
        return paragraphs([self._summary()]) + found + paragraphs(self.notes)

    def _summary(self) -> str:
        looked = f"{counted(len(self.columns), 'column')} looked at"
        found = "nothing wrong" if self.ok else counted(self.count, "fault")
        return f"{found}; {looked}: {', '.join(self.columns)}"


def error_message(report: BatchReport) -> str:
    """Give the message of the error that check_batch raises: the first findings, and how many."""
    lines = [str(finding) for finding in report.findings[:_SHOWN]]
    rest = report.count - len(lines)
    more = [f"... and {rest} more; raises=False gives them all"] if rest > 0 else []
    head = f"check_batch(): found {counted(report.count, 'fault')} in the batch"
    return "\n".join([f"{head}:", *(f"  {line}" for line in lines + more)])


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
