"""Plans by groups in plain Python."""

import math
from fractions import Fraction

from reference_batching import MASK, NO_CAP, Random, cut, find_cost, mix, order_by_runs


def shuffled(rows, seed, group, cycle):
    rows = list(rows)
    Random(mix(seed ^ 0xD1B54A32D192ED03 * (group + 1) & MASK), cycle).shuffle(rows)
    return rows


def draw(rows, quota, seed, group, epoch, shuffle):
    """The epoch's part of an endless sequence of shuffles."""
    drawn = []
    for place in range(epoch * quota, (epoch + 1) * quota):
        cycle, at = divmod(place, len(rows))
        order = shuffled(rows, seed, group, cycle) if shuffle else rows
        drawn.append(order[at])
    return drawn


def round_shares(wanted):
    """Whole numbers of the same sum: the largest rests are rounded up, and none to 0."""
    rows = [math.floor(share) for share in wanted]
    lacking = round(round(sum(wanted), 6)) - sum(rows)
    for group in sorted(range(len(rows)), key=lambda k: (-round(wanted[k] - rows[k], 6), k))[
        :lacking
    ]:
        rows[group] += 1
    for group, share in enumerate(wanted):
        if share > 0 and rows[group] == 0:
            rows[group] = 1
            if max(rows) > 1:
                rows[rows.index(max(rows))] -= 1
    return rows


def quotas(members, lengths, weights, weigh):
    """Rows of each group in an epoch, for whole weights."""
    counts = [len(rows) for rows in members]
    sizes = [sum(max(lengths[row], 1) for row in rows) for rows in members]
    sizes = counts if weigh == "rows" else sizes
    weights = [weight if count else 0 for weight, count in zip(weights, counts, strict=True)]
    wanted = [
        Fraction(sum(sizes) * weight * count, sum(weights) * size) if count else 0
        for weight, size, count in zip(weights, sizes, counts, strict=True)
    ]
    return round_shares(wanted)


def plan(sampler, lengths, labels, epoch=0):
    """The batches of an epoch of a LengthBatchSampler of these lengths and labels."""
    settings = sampler._planner.settings
    batch_size, max_tokens = settings["batch_size"], settings["max_tokens"]
    padding_free, shuffle = sampler.padding_free, sampler.shuffle
    clipped = [min(length, sampler.max_length or NO_CAP) for length in lengths]

    def cost(row):
        multiple, quadratic = sampler.pad_to_multiple_of or 1, sampler.quadratic_length
        return find_cost(clipped[row], multiple, quadratic, padding_free, sampler.boundaries)

    def find_cost_of(batch):
        return sum(map(cost, batch)) if padding_free else len(batch) * cost(batch[0])

    names = list(dict.fromkeys(labels))
    members = [[row for row, label in enumerate(labels) if label == name] for name in names]
    if sampler.overlong == "drop":
        cap = max_tokens or NO_CAP - 1
        members = [[row for row in rows if cost(row) <= cap] for rows in members]
    shares = [len(rows) for rows in members]
    if sampler.group_weights is not None:
        weights = [sampler.group_weights[name] for name in names]
        shares = quotas(members, clipped, weights, sampler.weigh)
    full, tails = [], []
    for group, (rows, share) in enumerate(zip(members, shares, strict=True)):
        if not rows or not share:
            continue
        own_epoch = epoch if shuffle or sampler.group_weights is not None else 0
        taken = draw(rows, share, sampler.seed, group, own_epoch, shuffle)
        if shuffle and sampler.drop_last and max_tokens is None:
            del taken[len(taken) - len(taken) % batch_size :]
        window = sampler.shuffle_window or NO_CAP
        if sampler._planner.window_batches:
            mean = max(-(-sum(clipped[row] for row in rows) // len(rows)), 1)
            one = find_cost(
                mean,
                sampler.pad_to_multiple_of or 1,
                sampler.quadratic_length,
                padding_free,
                sampler.boundaries,
            )
            fits = max(min(batch_size or NO_CAP, (max_tokens or NO_CAP) // one), 1)
            window = fits * max(min(share // 4 // fits, 100), 1)
        window = window if shuffle else max(len(taken), 1)
        pool = None if sampler.pool_size is None else min(sampler.pool_size, max(share // 4, 64))
        caps = (batch_size, max_tokens)
        own, rest = cut(taken, cost, clipped, caps, padding_free, shuffle, window, pool)
        full += own
        tails += [rest] if rest and not sampler.drop_last else []
    first, ranks = [], sampler.num_replicas
    if sampler.longest_first:
        order = sorted(enumerate(full + tails), key=lambda one: -find_cost_of(one[1]))[:ranks]
        chosen = {number for number, _ in order}
        first = [batch for _, batch in order]
        count = len(full)
        full = [batch for k, batch in enumerate(full) if k not in chosen]
        tails = [batch for k, batch in enumerate(tails) if k + count not in chosen]
    if shuffle:
        random, balance = Random(sampler.seed, epoch), sampler.balance or ranks
        full = order_by_runs(full, find_cost_of, balance if len(full) > 1 else 1, random)
        tails = order_by_runs(tails, find_cost_of, balance if len(tails) > 1 else 1, random)
    return first + full + tails
