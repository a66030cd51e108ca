"""The plan of an epoch in plain Python, random numbers included."""

import numpy as np

MASK = 2**64 - 1
NO_CAP = 2**63 - 1


def mix(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def rotate(x, k):
    return (x << k | x >> (64 - k)) & MASK


class Random:
    """xoshiro256**, seeded from a pair by splitmix64."""

    def __init__(self, seed, epoch):
        golden = 0x9E3779B97F4A7C15
        start = mix((seed + golden) & MASK) + epoch
        self.state = [mix((start + (i + 1) * golden) & MASK) for i in range(4)]

    def word(self):
        a, b, c, d = self.state
        c, d = c ^ a, d ^ b
        self.state = [a ^ d, b ^ c, c ^ (b << 17 & MASK), rotate(d, 45)]
        return rotate(b * 5 & MASK, 7) * 9 & MASK

    def below(self, bound, bits):
        """Lemire's method on 32 bits."""
        while True:
            product = bits * bound
            if product % 2**32 >= 2**32 % bound:
                return product // 2**32
            bits = self.word() >> 32

    def shuffle(self, items):
        """Fisher-Yates from the end, two draws a word while a block of 32 is left."""
        end = len(items)
        while end > 1:
            block, draws = (16, 2) if end > 32 else (1, 1)
            for _ in range(block):
                word = self.word()
                for bits in (word >> 32, word % 2**32)[:draws]:
                    place = self.below(end, bits)
                    items[end - 1], items[place] = items[place], items[end - 1]
                    end -= 1


def draw_lengths(rows, seed=0):
    drawn = np.random.default_rng(seed).lognormal(5.0, 0.6, rows)
    return np.minimum(drawn.astype(np.int64), 512)


def round_up(length, multiple):
    return -(-max(length, 1) // multiple) * multiple


def plan(
    lengths,
    *,
    batch_size=None,
    max_tokens=None,
    max_length=None,
    shuffle=True,
    shuffle_window=None,
    seed=0,
    epoch=0,
    drop_last=False,
    pad_to_multiple_of=None,
):
    """All batches of an epoch, as lists of indices."""
    clipped = [min(length, max_length or NO_CAP) for length in lengths]
    rows = list(range(len(lengths)))
    random = Random(seed, epoch)
    window = shuffle_window or len(rows)
    if shuffle:
        random.shuffle(rows)
        if drop_last and max_tokens is None:
            del rows[len(rows) - len(rows) % batch_size :]
    else:
        window = len(rows)

    def room(row):
        width = round_up(clipped[row], pad_to_multiple_of or 1)
        return min(batch_size or NO_CAP, (max_tokens or NO_CAP) // width)

    full, pool = [], []
    while rows:
        taken = max(window, len(pool))
        pool, rows = pool + rows[:taken], rows[taken:]
        pool.sort(key=lambda row: -clipped[row])
        while pool and len(pool) >= room(pool[0]):
            count = room(pool[0])
            full.append(pool[:count])
            pool = pool[count:]
    if shuffle:
        random.shuffle(full)
    return full + ([pool] if pool and not drop_last else [])


def plan_of(sampler, lengths, epoch=0):
    """The plan that a LengthBatchSampler of these lengths should have."""
    return plan(
        lengths,
        batch_size=sampler._max_rows,
        max_tokens=sampler.max_tokens,
        max_length=sampler.max_length,
        shuffle=sampler.shuffle,
        shuffle_window=sampler.shuffle_window,
        seed=sampler.seed,
        epoch=epoch,
        drop_last=sampler.drop_last,
        pad_to_multiple_of=sampler.pad_to_multiple_of,
    )
