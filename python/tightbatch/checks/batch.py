"""check_batch: whether all columns of a batch tell one story about where rows begin and end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .. import _core
from ..collate.batch_roles import Group, Role, groups_of, lend
from ..collate.batch_values import Unreadable, flatten, is_nested, readable
from .batch_report import BatchReport, Finding, error_message
from .batch_words import KINDS, Facts, after_padding

__all__ = ["CheckedCollator", "check_batch"]

NAME = "check_batch"
_NAMES = tuple(KINDS)


class Plan(NamedTuple):
    """How batches with certain keys are checked."""

    groups: tuple[Group, ...]
    others: tuple[Any, ...]  # keys that may hold columns of their own
    clean: BatchReport  # of a batch in which nothing is found


def check_batch(
    batch: Any,
    *,
    max_position: int | None = None,
    vocab_size: int | None = None,
    ignore_index: int = -100,
    skip: Iterable[str] = (),
    raises: bool = True,
) -> BatchReport:
    """Check that all columns of a batch tell one story about where rows begin and end.

    The batch may be any library's: padded ([rows, width], on either side), without padding
    ([1, total]), or of packs; tensors, arrays or lists; a dict, ``BatchEncoding`` or
    :class:`Batch`, nested, or a tuple or dataclass of them. Nothing is changed. It takes about as
    long as reading the batch once, so that it can stay on in training
    (:class:`CheckedCollator`).

    Columns are known by their names, as to the collate functions: ``input_ids``,
    ``attention_mask``, ``position_ids``, ``labels``, and what only batches have, ``shift_labels``,
    ``loss_mask``, ``seq_idx``, ``segment_ids``, ``cu_seqlens``, ``max_seqlen``, ``seq_lengths``,
    ``lengths``, in the spellings that libraries have, also with a prefix or suffix
    (``query_input_ids``, ``input_ids_chosen``): columns of one prefix are checked by themselves.
    Others are left alone.

    Parameters
    ----------
    batch : mapping of str to columns
        What a collate function returns.
    max_position : int, optional
        The number of positions that the model has (``config.max_position_embeddings``).
    vocab_size : int, optional
        The number of ids that the model has (``config.vocab_size``).
    ignore_index : int
        The label that the loss ignores.
    skip : iterable of str
        Kinds of findings to leave out, such as ``"row_without_labels"``.
    raises : bool
        Raise an error if anything is found, instead of only reporting it.

    Returns
    -------
    BatchReport
        The findings: kind, key, row, column, what was found, and what follows from it for training.

        ======================  =================================================================
        kind                    what is wrong
        ======================  =================================================================
        shape                   a column is not of this batch's rows and width
        id_range                an id is negative or not in the vocabulary
        mask_value              a mask holds other numbers than 0 and 1 (or segment numbers)
        mask_empty, mask_hole   a row has no real token, or no token sees any; padding is between
                                real tokens
        mask_joins_rows         a mask of ones lies over several packed rows
        mask_leak, mask_blind   a mask of queries and keys, or a block mask, shows a token of
                                another row; it hides the token itself, or its row's past
        rows_disagree           columns disagree about where a row begins or ends
        boundaries_start,       cu_seqlens do not begin with 0; descend; do not end with the number
        boundaries_order,       of tokens
        boundaries_end
        longest_too_small,      max_seqlen is less than a row's length; is the length of the padding
        longest_is_tail         at the end
        positions_restart,      positions do not restart with a row; do not count up in a row; are
        positions_step,         negative or beyond what the model has
        position_range
        segment_repeated        the number of an earlier segment comes again
        length                  a length is not that of its row or segment
        label_range             a label is negative, but not the ignored one, or not in the
                                vocabulary
        label_on_padding        a label on padding is trained
        label_crosses_rows      a token is trained to predict the first token of another row
        label_shift             labels are off by one
        label_differs           shift_labels are not the next labels
        row_labels_padded       labels of rows (multi-hot) are padded, as if they were of tokens
        batch_without_labels,   no label is trained: of the batch; of a row
        row_without_labels
        ======================  =================================================================

    Raises
    ------
    ValueError
        When something is found, with the first findings and their number (``raises=True``); when no
        column has a name that is known; when `skip` has an unknown kind.
    TypeError
        When `batch` has no columns by name, or a setting is of another type.
    OverflowError
        When a setting does not fit into 64 bits.

    Notes
    -----
    Rows are found by majority: a column that disagrees with most others is the one that is named.
    A mask of queries and keys that is bool or int shows a key where it is 1 (True), as in
    transformers and torch's attention; what it hides from a token may not be shown to a later one.
    Labels that repeat the ids are those of a causal language model: a label at the first token of a
    packed row is one that the row before predicts. Other labels (tags, masked language modelling)
    may be there. Labels of rows, such as a decoder's, may have the ids' width by chance: where the
    batch does not tell, one on padding is not reported. A row without a label is reported only
    where that is no chance: not where labels are few and scattered, as in masked language
    modelling. The label of a left-padded row's first token, which padding predicts, is a note.

    Examples
    --------
    >>> import tightbatch as tb
    >>> samples = [{"input_ids": [5, 6]}, {"input_ids": [7]}]
    >>> batch = tb.PaddingFreeCollator(return_tensors="np")(samples)
    >>> tb.check_batch(batch).ok
    True
    >>> batch["position_ids"][0, 2] = 2
    >>> finding, = tb.check_batch(batch, raises=False)
    >>> print(finding.place)
    key 'position_ids', row 0, column 2
    >>> print(finding.message)
    found position 2 where a row begins by 'cu_seq_lens_q', expected 0
    """
    if raises is not True:
        raises = _core.read_flag(NAME, "raises", raises)
    skipped = () if type(skip) is tuple and not skip else _read_skip(NAME, skip)
    settings = (max_position, vocab_size, ignore_index)
    is_mapping = isinstance(batch, (dict, Mapping))
    columns = batch if is_mapping else flatten(batch, NAME)
    plan = _plan_of(tuple(columns))
    for key in plan.others:
        if is_nested(columns[key]):
            columns = flatten(columns, NAME)
            plan = _plan_of(tuple(columns))
            break
    if not plan.groups:
        raise ValueError(
            f"{NAME}(): batch has no column of a known name, but {_core.show(list(columns))}; "
            "expected names such as input_ids, attention_mask, labels"
        )
    report = plan.clean
    for group in plan.groups:
        found = _check_group(group, columns, settings)
        if found is not None:
            report = _add(report, found, skipped)
    if report.count and raises:
        raise ValueError(error_message(report))
    return report


def _read_skip(function: str, skip: Any) -> tuple[str, ...]:
    if isinstance(skip, str) or not isinstance(skip, Iterable):
        raise TypeError(
            f"{function}(): skip={_core.show(skip)}, expected a list of kinds, such as "
            "['row_without_labels']"
        )
    kinds = tuple(skip)
    for kind in kinds:
        if not isinstance(kind, str):
            raise TypeError(f"{function}(): skip has {_core.describe(kind)}, expected a str")
        if kind not in KINDS:
            raise ValueError(
                f"{function}(): skip has {_core.show(kind)}, expected one of {', '.join(KINDS)}"
            )
    return kinds


@functools.lru_cache(maxsize=256)
def _plan_of(keys: tuple[Any, ...]) -> Plan:
    names = tuple(key for key in keys if isinstance(key, str))
    groups = lend(groups_of(names))
    looked_at = {
        key: Role(role)
        for group in groups
        for key, role in zip(group.keys, group.roles, strict=True)
    }
    words = {key: role.name.lower() for key, role in looked_at.items()}
    others = tuple(key for key in keys if key not in looked_at or looked_at[key] is Role.MASK)
    return Plan(groups, others, BatchReport((), 0, words))


@dataclass
class Found:
    """What was found in a group of columns; `count` may be more than the findings."""

    findings: list[Finding]
    count: int
    notes: list[str]


def _check_group(
    group: Group, columns: Mapping[Any, Any], settings: tuple[Any, Any, Any]
) -> Found | None:
    values = [columns[key] for key in group.keys]
    answer = _look(group, values, settings, False)
    if answer is None:
        return None
    if isinstance(answer, int):
        return _check_made_readable(group, values, settings)
    return _found(group, values, answer)


def _look(group: Group, values: list[Any], settings: tuple[Any, Any, Any], wants: bool) -> Any:
    max_position, vocab_size, ignore_index = settings
    return _core.check_batch(
        NAME,
        group.keys,
        group.roles,
        group.partners,
        group.lent_from,
        values,
        max_position,
        vocab_size,
        ignore_index,
        wants,
    )


def _check_made_readable(
    group: Group, values: list[Any], settings: tuple[Any, Any, Any]
) -> Found | None:
    """Check columns that are not all tensors on the CPU, arrays or ints."""
    made = Found([], 0, [])
    blocks = {i: value for i, value in enumerate(values) if _is_block_mask(value)}
    for i, (key, value) in enumerate(zip(group.keys, values, strict=True)):
        try:
            role = Role(group.roles[i])
            values[i] = None if i in blocks else readable(value, role, key, made.notes)
        except Unreadable as error:
            values[i] = None
            at, follows = (error.row, error.column), KINDS[error.kind][1]
            made.findings.append(Finding(error.kind, key, *at, error.message, follows))
    answer = _look(group, values, settings, bool(blocks))
    if isinstance(answer, int):
        raise TypeError(
            f"{NAME}(): key {group.keys[answer]!r}: found {_core.describe(values[answer])}, "
            "expected a tensor, an array or lists of numbers"
        )
    if answer is not None and blocks:
        from .batch_block_mask import check_block_mask

        _, _, shape, segments = answer
        for i, block_mask in blocks.items():
            made.findings += check_block_mask(
                group.keys[i], block_mask, shape, segments, made.notes
            )
    made.count = len(made.findings)
    if answer is not None:
        rest = _found(group, values, answer)
        made = Found(made.findings + rest.findings, made.count + rest.count, made.notes)
    return made if made.count or made.notes else None


def _found(group: Group, values: list[Any], answer: tuple[Any, ...]) -> Found:
    raw, count, shape, _ = answer
    findings, notes = [], []
    for one in raw:
        if one[0] == len(KINDS):
            notes.append(after_padding(group.keys[one[1]], rows=one[5], row=one[3]))
        else:
            findings.append(_word(group, values, one, shape))
    return Found(findings, count - len(notes), notes)


def _is_block_mask(value: Any) -> bool:
    return type(value).__name__ == "BlockMask" and hasattr(value, "kv_indices")


def _word(group: Group, values: list[Any], raw: tuple[int, ...], shape: tuple[int, int]) -> Finding:
    """Put a finding of the C code into words."""
    kind, column, other, row, place, found, expected = raw
    key, words = group.keys[column], KINDS[_NAMES[kind]]
    at = None if row < 0 else row, None if place < 0 else place
    other_key = None if other < 0 else group.keys[other]
    facts = Facts(
        role=Role(group.roles[column]).name,
        other="" if other_key is None else _core.show(other_key),
        row=at[0],
        place=at[1],
        found=found,
        expected=expected,
        width=shape[1],
        rows=shape[0],
        shown=_shown(values[column], at, found),
    )
    return Finding(_NAMES[kind], key, *at, words[0](facts), words[1], other_key)


def _shown(value: Any, at: tuple[int | None, int | None], found: int) -> str:
    """Give a number as it is in its column; the C code knows floats of masks only as not 0 or 1."""
    shape: tuple[int, ...] = getattr(value, "shape", ())
    row, place = at
    if row is None or place is None:
        return str(found)
    if len(shape) == 2 and row < shape[0]:  # one row may stand for all
        return str(value[at].item())
    return str(found)


def _add(report: BatchReport, found: Found, skipped: tuple[str, ...]) -> BatchReport:
    told = {(one.kind, one.key, one.row, one.column) for one in report.findings}
    kept = [  # a column that several groups look at is told once
        one
        for one in found.findings
        if one.kind not in skipped and (one.kind, one.key, one.row, one.column) not in told
    ]
    count = found.count - (len(found.findings) - len(kept))
    return BatchReport(
        (*report.findings, *kept),
        report.count + (count if kept else 0),
        report.columns,
        (*report.notes, *found.notes),
    )


@dataclass(frozen=True)
class CheckedCollator:
    """A ``collate_fn`` that checks the batches it makes, so that a wrong one stops the training.

    Parameters
    ----------
    collate_fn : callable
        Any collate function: of this library, of transformers, of TRL or your own.
    max_position, vocab_size, ignore_index, skip
        As for :func:`check_batch`.
    every : int
        Check the first batch, and then each batch of this number; 1 is all of them. A check takes a
        tenth to a third of the time that it takes to collate a batch of ours, so with 8 it costs
        one to four percent. Each worker of a DataLoader counts its own batches.

    Returns
    -------
    What `collate_fn` returns, unchanged.

    Raises
    ------
    ValueError, TypeError, OverflowError
        As :func:`check_batch`; a DataLoader hands the error of a worker on.

    Examples
    --------
    >>> import tightbatch as tb
    >>> collate = tb.CheckedCollator(tb.PadCollator(return_tensors="np"), vocab_size=10)
    >>> collate([{"input_ids": [5, 6]}, {"input_ids": [7]}])["input_ids"].tolist()
    [[5, 6], [7, 0]]
    >>> try:
    ...     collate([{"input_ids": [5, 16]}])
    ... except ValueError as error:
    ...     print(str(error)[:115])
    check_batch(): found 1 fault in the batch:
      key 'input_ids', row 0, column 1: found id 16, expected 0 to 9 [id_ran
    """

    collate_fn: Callable[[Any], Any]
    max_position: int | None = None
    vocab_size: int | None = None
    ignore_index: int = -100
    skip: Iterable[str] = ()
    every: int = 1
    _left: list[int] = field(default_factory=lambda: [0], init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the settings; a wrong one is an error here, not at the first batch."""
        _core.read_int("CheckedCollator", "every", self.every, 1, 2**63 - 1)
        if not callable(self.collate_fn):
            raise TypeError(
                f"CheckedCollator(): collate_fn is {_core.describe(self.collate_fn)}, expected a "
                "function"
            )
        object.__setattr__(self, "skip", _read_skip("CheckedCollator", self.skip))
        settings = (self.max_position, self.vocab_size, self.ignore_index)
        _core.check_batch("CheckedCollator", (), b"", b"", 0, [], *settings, False)

    def __call__(self, samples: Any) -> Any:
        """Collate a batch of samples, and check it if it is its turn."""
        batch = self.collate_fn(samples)
        left = self._left[0]
        self._left[0] = (left or self.every) - 1
        if left:
            return batch
        check_batch(
            batch,
            max_position=self.max_position,
            vocab_size=self.vocab_size,
            ignore_index=self.ignore_index,
            skip=self.skip,
        )
        return batch
