"""Bucket boundaries in plain Python: the definition, and the textbook dynamic programme."""

from itertools import combinations

import numpy as np


def round_up(length, multiple=None):
    return length if multiple is None else -(-length // multiple) * multiple


def padded_tokens(lengths, boundaries):
    """Tokens once every row is padded to the smallest boundary that is at least its length."""
    return sum(min(b for b in boundaries if b >= length) for length in lengths)


def try_all(lengths, k, multiple=None):
    """The best of all choices: fewest tokens, then fewest and smallest from the last one on."""
    widths = sorted({round_up(length, multiple) for length in lengths})
    choices = [
        (*below, widths[-1])
        for count in range(min(k, len(widths)))
        for below in combinations(widths[:-1], count)
    ]
    return min(choices, key=lambda c: (padded_tokens(lengths, c), len(c), c[::-1]))


def plain_dp(lengths, k, multiple=None):
    """(boundaries, waste) by the recurrence as it is written: O(k m**2) for m widths."""
    widths, counts = np.unique([round_up(n, multiple) for n in lengths], return_counts=True)
    widths, rows = widths.tolist(), [0, *np.cumsum(counts).tolist()]
    m, total = len(widths), sum(int(n) for n in lengths)
    best, cuts, waste = [0] + [None] * m, [], []
    for _ in range(min(k, m)):
        layer, chosen = [None] * (m + 1), [0] * (m + 1)
        for j in range(1, m + 1):
            for i in range(j):
                if best[i] is not None:
                    tokens = best[i] + (rows[j] - rows[i]) * widths[j - 1]
                    if layer[j] is None or tokens < layer[j]:
                        layer[j], chosen[j] = tokens, i
        best = layer
        cuts.append(chosen)
        waste.append(best[m] - total)
    boundaries, end = [], m
    for chosen in reversed(cuts):
        boundaries.append(widths[end - 1])
        end = chosen[end]
    return boundaries[::-1], waste
