"""A padding-free batch in a few plain lines of Python: what PaddingFreeCollator must give."""


def segments_of(rows, seq_lengths=None, max_length=None, side="right"):
    """(row, tokens) of each sequence, in order; what has no token is none."""
    found = []
    for number, row in enumerate(rows):
        at = 0
        for length in [len(row)] if seq_lengths is None else seq_lengths[number]:
            tokens = list(row[at : at + length])
            at += length
            if max_length is not None:
                tokens = tokens[-max_length:] if side == "left" else tokens[:max_length]
            if tokens:
                found.append((number, tokens))
    return found


def round_up(n, multiple):
    return n if multiple is None else -(-n // multiple) * multiple


def total_width(segments, max_tokens=None, multiple=None, each=None):
    used = sum(round_up(len(tokens), each) for _, tokens in segments)
    return used, round_up(used, multiple) if max_tokens is None else max_tokens


def line(segments, width, fill, each=None):
    """One column of the line."""
    out = []
    for _, tokens in segments:
        out += tokens + [fill] * (round_up(len(tokens), each) - len(tokens))
    return out + [fill] * (width - len(out))


def tail_sizes(tail, longest, room, each=None, most=None):
    """The tail's segments: as long as the longest, or as they must be to fit into the room."""
    each = each or 1
    most = round_up(min(tail, most or 1), each)
    size = min(longest or most, tail)
    while tail and room is not None and max(room, 1) < -(-tail // size) and size < most:
        size += each
    return [min(size, tail - at) for at in range(0, tail, size or 1)]


def batch(rows, labels=None, seq_lengths=None, *, max_length=None, side="right", fill=0,
          max_tokens=None, max_segments=None, multiple=None, each=None, start=0):  # fmt: skip
    """All that is made: plain lists and ints."""
    cut = {"seq_lengths": seq_lengths, "max_length": max_length, "side": side}
    segments = segments_of(rows, **cut)
    labelled = segments_of(rows if labels is None else labels, **cut)
    used, width = total_width(segments, max_tokens, multiple, each)
    sizes = [round_up(len(tokens), each) for _, tokens in segments]
    real = [len(tokens) for _, tokens in segments]
    owners = [row for row, _ in segments]
    room = None if max_segments is None else max_segments - len(sizes)
    tail = tail_sizes(width - used, max(sizes, default=0), room, each, max_length)
    sizes, real, owners = sizes + tail, real + [0] * len(tail), owners + [-1] * len(tail)
    count = len(sizes) if max_segments is None else max_segments
    marked = [(row, [-100, *tokens[1:]]) for row, tokens in labelled]
    ignored = line(marked, width, -100, each)
    return {
        "input_ids": [line(segments, width, fill, each)],
        "labels": [ignored],
        "shift_labels": [[*ignored[1:], -100]],
        "position_ids": [[start + i for size in sizes for i in range(size)]],
        "seq_idx": [[k for k, size in enumerate(sizes) for _ in range(size)]],
        "cu": _bounds(sizes, count),
        "cu_real": _bounds(real, count),
        "row_idx": owners + [-1] * (count - len(owners)),
        "longest": max(sizes),
        "num_items": sum(label != -100 for label in ignored),
    }


def _bounds(sizes, count):
    bounds = [0]
    for size in sizes:
        bounds.append(bounds[-1] + size)
    return bounds + [bounds[-1]] * (count - len(sizes))
