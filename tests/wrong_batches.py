"""Right batches of every kind, what can be broken in them, and the spellings of both."""

import itertools

import numpy as np

VOCAB = 30_000


class Made:
    """A right batch: its columns as arrays, and the rows or segments it holds."""

    def __init__(self, columns, spans, rng):
        self.columns = columns
        self.spans = spans  # (row, begin, end) of each segment
        self.rng = rng

    def pick(self, least=1):
        """A segment of at least so many tokens."""
        fit = [span for span in self.spans if span[2] - span[1] >= least]
        return fit[self.rng.integers(len(fit))]

    def pick_place(self, first=0, last=0, least=2):
        """A token of a segment, not among its first and last so many."""
        row, begin, end = self.pick(max(least, first + last + 1))
        return row, int(self.rng.integers(begin + first, end - last))


def lengths_of(rng, count, low=4, high=12):
    return rng.integers(low, high, count).tolist()


def ids_of(rng, count):
    return rng.integers(300, VOCAB, count)


def padded(rng, side="right", width=None):
    lengths = lengths_of(rng, rng.integers(3, 6))
    width = width or max(lengths) + 3
    shape = (len(lengths), width)
    ids, mask, labels = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, -100)
    positions, spans = np.zeros(shape, np.int64), []
    for row, n in enumerate(lengths):
        at = slice(0, n) if side == "right" else slice(width - n, width)
        ids[row, at], mask[row, at] = ids_of(rng, n), 1
        positions[row, at] = np.arange(n)
        labels[row, at] = ids[row, at]
        spans.append((row, at.start, at.stop))
    columns = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions,
        "labels": labels,
        "lengths": np.array(lengths),
    }
    return Made(columns, spans, rng)


def left_padded(rng):
    return padded(rng, "left")


def tagged(rng):
    made = padded(rng)
    tags = rng.integers(0, 5, made.columns["labels"].shape)
    made.columns["labels"] = np.where(made.columns["labels"] == -100, -100, tags)
    return made


def flat(rng, names=("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")):
    lengths = lengths_of(rng, rng.integers(3, 7))
    total = sum(lengths)
    ids = ids_of(rng, total)[None]
    cu = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    labels, shifted = ids.copy(), np.full((1, total), -100)
    labels[0, cu[:-1]] = -100
    shifted[0, :-1] = labels[0, 1:]
    columns = {
        "input_ids": ids,
        "labels": labels,
        "shift_labels": shifted,
        "position_ids": np.concatenate([np.arange(n) for n in lengths])[None],
        "seq_idx": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[None],
        names[0]: cu,
        names[1]: cu.copy(),
        names[2]: max(lengths),
        names[3]: max(lengths),
    }
    spans = [(0, int(a), int(b)) for a, b in itertools.pairwise(cu)]
    return Made(columns, spans, rng)


def flash(rng):
    return flat(rng, ("cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"))


def varlen(rng):
    return flat(rng, ("cu_seq_q", "cu_seq_k", "max_q", "max_k"))


def packs(rng, square=None):
    """Rows of several segments, with padding after the last."""
    rows = [lengths_of(rng, rng.integers(2, 4)) for _ in range(2)]
    width = max(map(sum, rows)) + 2
    shape = (len(rows), width)
    ids, labels = np.zeros(shape, np.int64), np.full(shape, -100)
    positions, segments, spans = np.zeros(shape, np.int64), np.zeros(shape, np.int64), []
    for row, lengths in enumerate(rows):
        at = 0
        for number, n in enumerate(lengths, 1):
            span = slice(at, at + n)
            ids[row, span] = ids_of(rng, n)
            labels[row, at + 1 : at + n] = ids[row, at + 1 : at + n]
            positions[row, span], segments[row, span] = np.arange(n), number
            spans.append((row, at, at + n))
            at += n
    columns = {
        "input_ids": ids,
        "labels": labels,
        "position_ids": positions,
        "segment_ids": segments,
    }
    if square is not None:
        same = segments[:, :, None] == segments[:, None, :]
        causal = np.tril(np.ones((width, width), bool))
        columns["attention_mask"] = square((same & causal)[:, None])
    return Made(columns, spans, rng)


def numbered(rng):
    """Packs whose mask has the segments' numbers, as axolotl and LLaMA-Factory make them."""
    made = packs(rng)
    made.columns["attention_mask"] = made.columns.pop("segment_ids")
    return made


def squared(rng):
    return packs(rng, lambda seen: seen)


def squared_int(rng):
    return packs(rng, lambda seen: seen.astype(np.int64))


def additive(rng):
    lowest = np.finfo(np.float32).min
    return packs(rng, lambda seen: np.where(seen, np.float32(0), lowest))


def additive_inf(rng):
    return packs(rng, lambda seen: np.where(seen, np.float16(0), np.float16(-np.inf)))


# --- what is broken: gives what must be found, (kind, key, row, column) ---------------------------


def odd_mask(made):
    row, column = made.pick_place()
    made.columns["attention_mask"][row, column] = 7
    return "mask_value", "attention_mask", row, column


def half_mask(made):
    made.columns["attention_mask"] = made.columns["attention_mask"].astype(np.float32)
    row, column = made.pick_place()
    made.columns["attention_mask"][row, column] = 0.5
    return "mask_value", "attention_mask", row, column


def empty_mask(made):
    row, _, _ = made.pick()
    made.columns["attention_mask"][row] = 0
    return "mask_empty", "attention_mask", row, None


def hole(made):
    row, column = made.pick_place(1, 1)
    made.columns["attention_mask"][row, column] = 0
    return "mask_hole", "attention_mask", row, column


def narrow_mask(made):
    made.columns["attention_mask"] = made.columns["attention_mask"][:, :-1]
    return "shape", "attention_mask", None, None


def padding_place(made):
    row, _, _ = made.pick()
    real = {c for r, begin, end in made.spans if r == row for c in range(begin, end)}
    places = [c for c in range(made.columns["input_ids"].shape[1]) if c not in real]
    return row, places[made.rng.integers(len(places))]


def trained_padding(made):
    row, column = padding_place(made)
    made.columns["labels"][row, column] = 1
    columns = np.flatnonzero(made.columns["labels"][row] != -100)
    real = {c for r, b, e in made.spans if r == row for c in range(b, e)}
    return "label_on_padding", "labels", row, min(c for c in columns if c not in real)


def padding_filled_with_zeros(made):
    labels, mask = made.columns["labels"], made.columns["attention_mask"]
    labels[mask == 0] = 0
    return "label_on_padding", "labels", 0, int(np.argmin(mask[0]))


def unlabelled_row(made):
    row, begin, end = made.pick()
    made.columns["labels"][row, begin:end] = -100
    if "shift_labels" in made.columns:
        made.columns["shift_labels"][row, begin:end] = -100
    return "row_without_labels", "labels", row, begin


def unlabelled(made):
    made.columns["labels"][:] = -100
    return "batch_without_labels", "labels", None, None


def shifted_row(made):
    row, begin, end = made.pick(4)
    labels = made.columns["labels"]
    labels[row, begin:end] = [*labels[row, begin + 1 : end], -100]
    return "label_shift", "labels", row, begin + (labels[row, begin] == -100)


def shifted_batch(made):
    for row, begin, end in made.spans:
        labels = made.columns["labels"]
        labels[row, begin:end] = [*made.columns["input_ids"][row, begin + 1 : end], -100]
    row, begin, _ = made.spans[0]
    return "label_shift", "labels", row, begin


def backwards_batch(made):
    for row, begin, end in made.spans:
        labels = made.columns["labels"]
        labels[row, begin:end] = [-100, *made.columns["input_ids"][row, begin : end - 1]]
    row, begin, _ = made.spans[0]
    return "label_shift", "labels", row, begin + 1


def negative_id(made):
    row, column = made.pick_place()
    made.columns["input_ids"][row, column] = -1
    return "id_range", "input_ids", row, column


def large_id(made):
    row, column = made.pick_place()
    made.columns["input_ids"][row, column] = VOCAB
    return "id_range", "input_ids", row, column


def large_label(made):
    row, column = made.pick_place(1)
    made.columns["labels"][row, column] = VOCAB + 5
    return "label_range", "labels", row, column


def negative_label(made):
    row, column = made.pick_place(1)
    made.columns["labels"][row, column] = -7
    return "label_range", "labels", row, column


def jumping_position(made):
    row, column = made.pick_place(1)
    made.columns["position_ids"][row, column] += 3
    return "positions_step", "position_ids", row, column


def negative_position(made):
    row, column = made.pick_place(1)
    made.columns["position_ids"][row, column] = -2
    return "position_range", "position_ids", row, column


def late_start(made):
    row, begin, end = made.pick()
    made.columns["position_ids"][row, begin:end] += 1
    return "positions_restart", "position_ids", row, begin


def no_restart(made):
    row, begin, end = made.spans[1]
    made.columns["position_ids"][row, begin:end] += made.columns["position_ids"][row, begin - 1] + 1
    return "positions_restart", "position_ids", row, begin


def wrong_length(made):
    row, _, _ = made.pick()
    made.columns["lengths"][row] += 1
    return "length", "lengths", row, None


def name_of(made, *starts):
    return next(key for start in starts for key in made.columns if key.startswith(start))


def boundaries(made, axis=0):
    return [key for key in made.columns if key.startswith("cu_")][axis]


def late_first_boundary(made):
    key = boundaries(made, made.rng.integers(2))
    made.columns[key][0] = 1
    return "boundaries_start", key, None, 0


def descending_boundary(made):
    key = boundaries(made, made.rng.integers(2))
    place = int(made.rng.integers(1, len(made.columns[key]) - 1))
    made.columns[key][place] = made.columns[key][place + 1] + 1
    return "boundaries_order", key, None, place + 1


def short_boundaries(made):
    key = boundaries(made, made.rng.integers(2))
    made.columns[key][-1] -= 1
    return "boundaries_end", key, None, len(made.columns[key]) - 1


def long_boundaries(made):
    key = boundaries(made, made.rng.integers(2))
    made.columns[key][-1] += 2
    return "boundaries_end", key, None, len(made.columns[key]) - 1


def moved_boundary(made):
    key = boundaries(made, made.rng.integers(2))
    place = int(made.rng.integers(1, len(made.columns[key]) - 1))
    made.columns[key][place] += 1
    return "rows_disagree", key, None, place


def missing_boundary(made):
    key = boundaries(made, made.rng.integers(2))
    made.columns[key] = np.delete(made.columns[key], 1)
    return "rows_disagree", key, None, 1


def short_longest(made):
    key = name_of(made, "max_")
    made.columns[key] -= 1
    return "longest_too_small", key, None, None


def moved_segment(made):
    key = name_of(made, "seq_idx", "segment_ids", "attention_mask")
    row, begin, _ = made.spans[1]
    made.columns[key][row, begin] = made.columns[key][row, begin - 1]
    return "rows_disagree", key, row, begin


def split_segment(made):
    key = name_of(made, "seq_idx", "segment_ids", "attention_mask")
    row, _, end = made.spans[0]
    made.columns[key][row, end - 1 :] += 1
    return "rows_disagree", key, row, end - 1


def repeated_segment(made):
    key = name_of(made, "seq_idx", "segment_ids")
    row, begin, end = made.spans[2] if made.spans[2][0] == 0 else made.spans[1]
    if made.spans[2][0] != 0:  # only two in the row: the first comes again within the second
        made.columns[key][row, end - 1] = made.columns[key][row, 0]
        return "segment_repeated", key, row, end - 1
    made.columns[key][row, begin:end] = made.columns[key][row, 0]
    return "segment_repeated", key, row, begin


def crossing_label(made):
    row, begin, _ = made.spans[1]
    made.columns["labels"][row, begin] = made.columns["input_ids"][row, begin]
    return "label_crosses_rows", "labels", row, begin


def crossing_shifted_label(made):
    row, _, end = made.spans[0]
    made.columns["shift_labels"][row, end - 1] = made.columns["input_ids"][row, end]
    return "label_crosses_rows", "shift_labels", row, end - 1


def unshifted_labels(made):
    made.columns["shift_labels"] = made.columns["labels"].copy()
    return "label_shift", "shift_labels", 0, 1


def other_shifted_label(made):
    row, column = made.pick_place(0, 1)
    made.columns["shift_labels"][row, column] += 1
    return "label_differs", "shift_labels", row, column


def joining_mask(made):
    made.columns["attention_mask"] = (made.columns["input_ids"] != 0).astype(np.int64)
    row, begin, _ = made.spans[1]
    return "mask_joins_rows", "attention_mask", row, begin


def shown_of(mask):
    return True if mask.dtype == bool else np.ones((), mask.dtype) * (mask.dtype.kind == "i")


def leak(made):
    mask = made.columns["attention_mask"]
    row, begin, end = made.spans[1]
    query, key = int(made.rng.integers(begin, end)), int(made.rng.integers(0, begin))
    mask[row, 0, query, key] = shown_of(mask)
    return "mask_leak", "attention_mask", row, query


def blind(made):
    mask = made.columns["attention_mask"]
    row, begin, end = made.pick()
    query = int(made.rng.integers(begin + 1, end))
    mask[row, 0, query, query - 1] = mask[row, 0, 0, -1]
    return "mask_blind", "attention_mask", row, query


def only_causal(made):
    mask = made.columns["attention_mask"]
    width = mask.shape[-1]
    mask[:] = np.where(np.tril(np.ones((width, width), bool)), shown_of(mask), mask[0, 0, 0, -1])
    row, begin, _ = made.spans[1]
    return "mask_leak", "attention_mask", row, begin


PADDED = (
    odd_mask, half_mask, empty_mask, hole, narrow_mask, trained_padding, unlabelled_row,
    unlabelled, shifted_row, shifted_batch, backwards_batch, negative_id, large_id, large_label,
    negative_label, jumping_position, negative_position, late_start, wrong_length,
)  # fmt: skip
TAGGED = (
    odd_mask, hole, trained_padding, padding_filled_with_zeros, unlabelled_row, unlabelled,
    large_label, negative_label,
)  # fmt: skip
FLAT = (
    negative_id, large_id, large_label, jumping_position, negative_position, no_restart,
    late_first_boundary, descending_boundary, short_boundaries, long_boundaries, moved_boundary,
    missing_boundary, short_longest, moved_segment, split_segment, repeated_segment, unlabelled,
    unlabelled_row, crossing_label, crossing_shifted_label, unshifted_labels, other_shifted_label,
    joining_mask,
)  # fmt: skip
PACKS = (
    negative_id, large_label, jumping_position, no_restart, moved_segment, repeated_segment,
    crossing_label, unlabelled, unlabelled_row, trained_padding, joining_mask,
)  # fmt: skip
SQUARE = (leak, blind, only_causal, crossing_label, no_restart, jumping_position)
NUMBERED = (crossing_label, no_restart, jumping_position, hole, trained_padding)
BROKEN = {
    padded: PADDED,
    left_padded: PADDED,
    tagged: TAGGED,
    flat: FLAT,
    flash: FLAT,
    varlen: FLAT,
    packs: PACKS,
    numbered: NUMBERED,
    squared: SQUARE,
    squared_int: SQUARE,
    additive: SQUARE,
    additive_inf: SQUARE,
}


# --- spellings: give the batch and the name that a key has in it ---------------------------------


def as_it_is(columns):
    return columns, lambda key: key


def with_prefix(columns):
    return {f"chosen_{key}": value for key, value in columns.items()}, lambda key: f"chosen_{key}"


def beside_another(columns):
    """Two groups: the other one is right, and has other rows."""
    other = padded(np.random.default_rng(5)).columns
    batch = {f"query_{key}": value for key, value in other.items()}
    return {**batch, **{f"doc_{k}": v for k, v in columns.items()}}, lambda key: f"doc_{key}"


def nested(columns):
    return {"text": dict(columns), "name": ["x"]}, lambda key: f"text.{key}"


def in_tuple(columns):
    return (dict(columns), {"weights": [0.5]}), lambda key: f"0.{key}"


def as_lists(columns):
    lists = {k: v if isinstance(v, int) else v.tolist() for k, v in columns.items()}
    return lists, lambda key: key


def as_int32(columns):
    def narrow(value):
        return value.astype(np.int32) if getattr(value, "dtype", None) == np.int64 else value

    return {key: narrow(value) for key, value in columns.items()}, lambda key: key


def as_strided(columns):
    def strided(value):
        return value if isinstance(value, int) else np.repeat(value, 2, axis=0)[::2]

    return {key: strided(value) for key, value in columns.items()}, lambda key: key


def as_tensors(columns):
    import torch

    def tensor(value):
        return value if isinstance(value, int) else torch.from_numpy(np.ascontiguousarray(value))

    return {key: tensor(value) for key, value in columns.items()}, lambda key: key


SPELLINGS = [
    as_it_is, with_prefix, beside_another, nested, in_tuple, as_lists, as_int32, as_strided,
    as_tensors,
]  # fmt: skip
