"""What each kind of finding says, and what follows from it for training."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Facts(NamedTuple):
    """What is known of a finding: numbers, and the key of the column that says otherwise."""

    role: str
    other: str  # ", but 'input_ids' ..." needs it quoted; "" where there is none
    row: int | None
    place: int | None
    found: int
    expected: int
    width: int
    rows: int
    shown: str  # the value as it is in the column


Words = tuple[Callable[[Facts], str], str]


def _against(facts: Facts, default: str = "the other columns") -> str:
    return facts.other or default


def _range(facts: Facts) -> str:
    if facts.expected < 0 or facts.found < 0:
        return "at least 0"
    return f"0 to {facts.expected - 1}"


def _shape(facts: Facts) -> str:
    shape = f"[{facts.found}]" if facts.expected < 0 else f"[{facts.found}, {facts.expected}]"
    return (
        f"found shape {shape}, but {_against(facts, 'the batch')} has {facts.rows} "
        f"{'row' if facts.rows == 1 else 'rows'} of {facts.width} tokens"
    )


def _rows(facts: Facts) -> str:
    if facts.role in ("BOUNDARIES", "PADDED_BOUNDARIES"):
        return (
            f"found the boundary {facts.found}, expected {facts.expected}, where "
            f"{_against(facts)} has one"
        )
    if facts.role == "MASK" and facts.expected >= 0:
        return f"found {facts.shown}, expected {facts.expected} by {_against(facts)}"
    if facts.expected >= 0:
        return (
            f"found number {facts.found} after {facts.expected}, but by {_against(facts)} no row "
            "begins here"
        )
    return (
        f"found number {facts.found} as for the token before, but by {_against(facts)} a row "
        "begins here"
    )


def _length(facts: Facts) -> str:
    if facts.role == "SEQ_LENGTHS" and facts.expected < 0:
        length = "0" if facts.found == -1 else facts.found
        return f"found a segment of length {length}, expected at least 1 and at most the row's"
    what = "a sum of" if facts.role == "SEQ_LENGTHS" and facts.place is None else "length"
    by = f" by {facts.other}" if facts.other else ""
    return f"found {what} {facts.found}, expected {facts.expected}{by}"


def _restart(facts: Facts) -> str:
    by = f" by {facts.other}" if facts.other else ""
    return f"found position {facts.found} where a row begins{by}, expected {facts.expected}"


def _step(facts: Facts) -> str:
    if facts.expected < 0:
        return (
            f"found all positions at {facts.found}, as where a row begins, but by "
            f"{_against(facts)} none begins here"
        )
    return f"found position {facts.found}, expected {facts.expected}"


def _position_range(facts: Facts) -> str:
    if facts.role != "POSITIONS":
        return (
            f"found rows of {facts.width} tokens without position_ids: a model numbers them 0 to "
            f"{facts.found}, expected at most {facts.expected - 1} (max_position)"
        )
    return f"found position {facts.found}, expected {_range(facts)}"


def _leak(facts: Facts) -> str:
    if facts.expected < 0:
        return f"key {facts.found} is shown to every token, but it is padding"
    return (
        f"the token sees token {facts.found}, but its own row, by {_against(facts)}, begins at "
        f"{facts.expected}; expected nothing of other rows or of padding"
    )


def _blind(facts: Facts) -> str:
    if facts.expected < 0:
        return f"key {facts.found} is hidden from every token, but it is real"
    if facts.found == facts.place:
        return (
            "the token does not see itself, expected a mask in which 1 (True), or a bias of 0, "
            "shows a key"
        )
    return f"the token does not see token {facts.found} of its own row, which it should"


def _shift(facts: Facts) -> str:
    names = {-1: "the token before", 0: "its own token", 1: "the next token", 2: "the one after it"}
    return (
        f"found at each token the label of {names.get(facts.found, facts.found)}, expected that of "
        f"{names[facts.expected]}"
    )


LEAKS = "tokens attend to another sample, and the model learns from what it will never see again"
UNTRUE = "the columns are right for different batches: one of them is not that of this batch"
CRASH = "an embedding lookup fails with an IndexError, on a GPU with a device assert"
NAN = "the mean of no losses is NaN, and so are the gradients of the step"
FAILS = "attention kernels read rows where there are none: wrong outputs, or a crash"
# By kind, in the order of tb_found in core/check/check.h.
KINDS: dict[str, Words] = {
    "shape": (_shape, UNTRUE),
    "id_range": (lambda f: f"found id {f.found}, expected {_range(f)}", CRASH),
    "mask_value": (
        lambda f: f"found {f.shown}, expected 0 or 1",
        "models take what is not 0 as a real token, or add it to scores as it is",
    ),
    "mask_empty": (
        lambda f: (
            "found a row in which no token sees any, expected each to see itself"
            if f.expected < 0
            else "found a row of zeros alone, expected a real token"
        ),
        "attention over nothing is NaN or an average of padding, and the loss takes it in",
    ),
    "mask_hole": (
        lambda _: "found 0 between real tokens, expected padding only before or after them",
        "a token of the row is not seen, and positions counted from the mask jump",
    ),
    "mask_joins_rows": (
        lambda f: (
            f"found ones across the start of a row that {_against(f)} has here, expected no "
            "mask of two dimensions beside packed rows"
        ),
        f"with such a mask models do not look for packed rows: {LEAKS}",
    ),
    "mask_leak": (_leak, LEAKS),
    "mask_blind": (_blind, "the token is predicted without its own context, or from nothing (NaN)"),
    "rows_disagree": (_rows, LEAKS),
    "boundaries_start": (
        lambda f: (
            "found no boundaries, expected 0 first"
            if f.place is None
            else f"found {f.found} first, expected 0"
        ),
        "tokens before the first boundary belong to no row: their outputs are not written",
    ),
    "boundaries_order": (
        lambda f: f"found {f.found} after {f.expected}, expected boundaries that never descend",
        FAILS,
    ),
    "boundaries_end": (
        lambda f: f"found {f.found} last, expected {f.expected}, the number of tokens",
        "tokens after the last boundary belong to no row, or kernels read past the end",
    ),
    "longest_too_small": (
        lambda f: f"found {f.found}, but the longest row has {f.expected} tokens",
        "the end of longer rows is not computed: outputs and gradients are wrong",
    ),
    "longest_is_tail": (
        lambda f: (
            f"found {f.found}, the length of the padding at the end; the longest row has "
            f"{f.expected} tokens"
        ),
        "attention kernels are launched for rows as long as the padding: slow, not wrong",
    ),
    "positions_restart": (
        _restart,
        "the model takes the token to be in the middle of a row: outputs differ from the row alone",
    ),
    "positions_step": (
        _step,
        "tokens are placed elsewhere, and models that find rows by positions cut the row here",
    ),
    "position_range": (_position_range, CRASH),
    "segment_repeated": (
        lambda f: f"found segment number {f.found} again after another segment",
        f"both segments are taken for one: {LEAKS}",
    ),
    "length": (_length, "what is computed from lengths (losses, pooling, masks) is of other rows"),
    "label_range": (
        lambda f: f"found label {f.found}, expected the ignored label or {_range(f)}",
        "cross-entropy fails with an IndexError, on a GPU with a device assert",
    ),
    "label_on_padding": (
        lambda f: f"found label {f.found} on padding, expected {f.expected}",
        "the model is trained to predict padding, and the loss looks better for it",
    ),
    "label_crosses_rows": (
        lambda f: f"found label {f.found} at the edge of two rows, expected {f.expected}",
        "the last token of one row is trained to predict the first of the next",
    ),
    "label_shift": (
        _shift,
        "the model is trained to predict another token than the next one",
    ),
    "label_differs": (
        lambda f: f"found {f.found}, but {_against(f)} has {f.expected} at the next token",
        "the loss depends on which of the two columns the model takes",
    ),
    "row_labels_padded": (
        lambda f: (
            f"found [{f.rows}, {f.found}], 0 and 1 with padding after column {f.expected - 1} of "
            f"every row, expected multi-hot labels as they are, [{f.rows}, {f.expected}]"
        ),
        "a loss of several classes stops at the other shape, or trains towards the padding; "
        "PadCollator(stack='labels') pads none",
    ),
    "batch_without_labels": (
        lambda _: "found no label that is trained, expected at least one",
        NAN,
    ),
    "row_without_labels": (
        lambda f: f"found no label that is trained in {f.found} tokens, expected at least one",
        "the row is computed for nothing; often its answer was cut off with its end",
    ),
}


def after_padding(key: str, rows: int, row: int) -> str:
    """What is no fault, but costs a little: labels that padding predicts."""
    where = f"row {row}" if rows == 1 else f"row {row} and {rows - 1} more"
    return (
        f"{key}: the first token of {where} has a label, which a causal model predicts from the "
        "padding before it: the loss moves a little with the padding; the ignored label there "
        "leaves it out"
    )
