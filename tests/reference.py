"""The plain-Python definition of every function: lists in, lists out, nothing clever.

A row is a list. Its items are numbers, or lists of one common shape (the trailing shape).
Element types, conversion and errors are left to the tests; here are only the values and places.
"""


def lengths(rows):
    return [len(row) for row in rows]


def padded_width(row_lengths, width=None, pad_to_multiple_of=None):
    """The given width, or the longest row; the multiple is applied last, to either."""
    longest = max(row_lengths, default=0)
    if width is None:
        width = longest
    if longest > width:
        raise ValueError(f"a row has length {longest}, width is {width}")
    multiple = pad_to_multiple_of or 1
    return (width + multiple - 1) // multiple * multiple


def trailing_shape(rows):
    """The shape of one item, read from the first row that has one."""
    for row in rows:
        if len(row) > 0:
            shape, item = [], row[0]
            while isinstance(item, list | tuple):
                shape.append(len(item))
                if len(item) == 0:
                    break
                item = item[0]
            return tuple(shape)
    return ()


def filler(shape, value):
    """One item of padding."""
    if not shape:
        return value
    return [filler(shape[1:], value) for _ in range(shape[0])]


def cut(row, max_length, truncation_side="right"):
    """At most max_length items; truncation_side is the side that loses items."""
    row = list(row)
    if max_length is None or len(row) <= max_length:
        return row
    if truncation_side == "right":
        return row[:max_length]
    return row[len(row) - max_length :]


def pad(
    rows,
    *,
    width=None,
    max_length=None,
    padding_value=0,
    padding_side="right",
    truncation_side="right",
    pad_to_multiple_of=None,
    trailing=None,
):
    if trailing is None:
        trailing = trailing_shape(rows)
    rows = [cut(row, max_length, truncation_side) for row in rows]
    width = padded_width(lengths(rows), width, pad_to_multiple_of)
    padded = []
    for row in rows:
        padding = [filler(trailing, padding_value) for _ in range(width - len(row))]
        padded.append(row + padding if padding_side == "right" else padding + row)
    return padded


def attention_mask(
    row_lengths, width=None, *, padding_side="right", pad_to_multiple_of=None, real=True, fill=False
):
    """`real` where there is an item, `fill` where there is padding."""
    width = padded_width(row_lengths, width, pad_to_multiple_of)
    mask = []
    for length in row_lengths:
        items, padding = [real] * length, [fill] * (width - length)
        mask.append(items + padding if padding_side == "right" else padding + items)
    return mask


def position_ids(
    row_lengths, width=None, *, padding_side="right", flat=False, pad_to_multiple_of=None
):
    """0, 1, 2... over the items of each row, 0 over its padding; flat: the items alone."""
    if flat:
        return [position for length in row_lengths for position in range(length)]
    rows = [list(range(length)) for length in row_lengths]
    return pad(rows, width=width, padding_side=padding_side, pad_to_multiple_of=pad_to_multiple_of)


def cu_seqlens(row_lengths):
    return [sum(row_lengths[:count]) for count in range(len(row_lengths) + 1)]


def segment_ids(packs, width=None, *, padding_side="right", pad_to_multiple_of=None):
    """The segments of each pack numbered from 1, 0 over padding; rows of lengths in."""
    rows = [
        [number for number, length in enumerate(pack, 1) for _ in range(length)] for pack in packs
    ]
    return pad(rows, width=width, padding_side=padding_side, pad_to_multiple_of=pad_to_multiple_of)


def segment_mask(ids, *, causal=False, window=None, prefix=None, real=True, fill=False):
    """One row of ids: `real` where the query sees the key; prefix is a number, or one an id."""

    def sees(query, key):
        if ids[query] != ids[key]:
            return False
        if prefix is not None and ids[key] != 0:
            count = prefix if isinstance(prefix, int) else prefix[ids[key] - 1]
            if key - ids.index(ids[key]) < count:
                return True
        if causal and key > query:
            return False
        return window is None or abs(query - key) < window

    places = range(len(ids))
    return [[real if sees(query, key) else fill for key in places] for query in places]


def block_mask(mask, query_size, key_size):
    """The blocks of a mask [T, T]: [(partial counts, numbers), (full counts, numbers)]."""
    total = len(mask)
    query_blocks, key_blocks = -(-total // query_size), -(-total // key_size)
    answer = []
    for full in (False, True):
        counts, numbers = [], []
        for block in range(query_blocks):
            queries = mask[block * query_size : (block + 1) * query_size]
            chosen = []
            for other in range(key_blocks):
                keys = [row[other * key_size : (other + 1) * key_size] for row in queries]
                seen = sum(map(sum, keys))
                is_full = seen == query_size * key_size
                if seen and is_full == full:
                    chosen.append(other)
            counts.append(len(chosen))
            numbers.append(chosen + [b for b in range(key_blocks) if b not in chosen])
        answer.append((counts, numbers))
    return answer


def fixed_pad_sequences(rows, max_length, padding_value=0):
    padded = []
    for row in rows:
        row = list(row)[:max_length]
        padded.append(row + [padding_value] * (max_length - len(row)))
    return padded


def pad_sequences_dynamic(rows, padding_value=0):
    return fixed_pad_sequences(rows, max(lengths(rows), default=0), padding_value)


def uniform_length_indices(rows, batch_size):
    """Which row is in which place of which batch: a stable order by length, in slices."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def uniform_length_batching(rows, batch_size, padding_value=0):
    batches = []
    for indices in uniform_length_indices(rows, batch_size):
        batches.append(pad_sequences_dynamic([rows[index] for index in indices], padding_value))
    return batches
