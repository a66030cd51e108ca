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


def find_cost(length, multiple=1, quadratic=None, padding_free=False, boundaries=None):
    """What a row costs alone, or each row of a batch whose longest has this length."""
    if boundaries is not None:
        length = next((width for width in boundaries if width >= length), NO_CAP)
    width = -(-length // multiple) * multiple if padding_free else round_up(length, multiple)
    return width + (width * width // quadratic if quadratic else 0)


def plan_settings(**changed):
    """What the planner is told, each setting by its name."""
    settings = {
        "batch_size": None,
        "max_tokens": None,
        "max_length": None,
        "pad_to_multiple_of": None,
        "quadratic_length": None,
        "batch_size_multiple": None,
        "shuffle_window": None,
        "pool_size": None,
        "balance": None,
        "ranks": 1,
        "padding_free": False,
        "shuffle": True,
        "longest_first": False,
        "drop_last": False,
        "overlong": "error",
        "seed": 0,
    }
    assert changed.keys() <= settings.keys() | {"boundaries"}
    return settings | changed


def best_fit(sizes, capacity, max_segments=None):
    """Packs of places in `sizes`, which go from the largest to the smallest."""
    packs, open_packs = [], []  # open: room, when it came to have it, pack
    for clock, size in enumerate(sizes):
        fitting = [held for held in open_packs if held[0] >= size]
        if fitting:
            best = min(fitting, key=lambda held: held[:2])
            open_packs.remove(best)
            room, since, pack = best
        else:
            room, since, pack = capacity, clock, []
            packs.append(pack)
        pack.append(clock)
        if max_segments is None or len(pack) < max_segments:
            open_packs.append((room - size, clock if size else since, pack))
    return packs


class Pool:
    """Packs of rows that come one by one; `size` of them are held, in order of arrival."""

    def __init__(self, capacity, max_rows, size):
        self.capacity, self.max_rows, self.size = capacity, max_rows or NO_CAP, size
        self.shift = max(capacity.bit_length() + size.bit_length() - 63, 0)
        self.held, self.pack, self.packs = [], [], []  # pairs of row and cost

    def room(self):
        return self.capacity - sum(cost for _, cost in self.pack)

    def has_room(self, cost):
        """Room for the row, and as much again as held rows need on average."""
        left = self.room() - cost
        total = sum(held >> self.shift for _, held in self.held)
        return (
            len(self.pack) < self.max_rows
            and not self.is_chosen
            and left >= 0
            and (left >> self.shift) * len(self.held) >= total
        )

    def largest(self, room, but=None):
        fitting = [held for held in self.held if held[1] <= room and held is not but]
        return max(fitting, key=lambda held: held[1], default=None)

    def move(self, held):
        self.held.remove(held)
        self.pack.append(held)

    def start(self):
        """The oldest row; whether packs hold less than three rows decides how they are filled."""
        total = sum(held >> self.shift for _, held in self.held)
        self.is_chosen = total > (self.capacity // 3 >> self.shift) * len(self.held)
        self.move(self.held[0])

    def end(self):
        """Rows of the pool end the pack: the best, or the first of the best pair."""
        while len(self.pack) < self.max_rows and (best := self.largest(self.room())):
            least, spare = self.room() - best[1], self.capacity // (256 if self.is_chosen else 2048)
            if len(self.pack) < self.max_rows - 1:
                for held in self.held[:8]:
                    other = self.largest(self.room() - held[1], but=held)
                    if least > spare and other and self.room() - held[1] - other[1] < least:
                        best, least = held, self.room() - held[1] - other[1]
            self.move(best)
        self.packs.append([row for row, _ in self.pack])
        self.is_full = self.room() == 0 or len(self.pack) == self.max_rows
        self.pack = []

    def add(self, row, cost):
        if not self.pack and len(self.held) < self.size:
            self.held.append((row, cost))
            return
        if not self.pack:
            self.start()
        if self.has_room(cost):
            self.pack.append((row, cost))
            if len(self.pack) < self.max_rows:
                return
        else:
            self.held.append((row, cost))
        self.end()

    def drain(self):
        while self.held or self.pack:
            if not self.pack:
                self.start()
            while self.held and self.has_room(self.held[0][1]):
                self.move(self.held[0])
            self.end()


def draw_from_pool(rows, cost, capacity, max_rows, size):
    """Full packs, and the rows of the last one if that is not full."""
    pool = Pool(capacity, max_rows, min(size, len(rows)))
    for row in rows:
        pool.add(row, cost(row))
    pool.drain()
    if not pool.packs or pool.is_full:
        return pool.packs, []
    return pool.packs[:-1], pool.packs[-1]


def shuffle_runs(words, size, random):
    """Runs of neighbours in a new order; the short one, drawn as well, last."""
    count = -(-len(words) // size)
    lacking = count * size - len(words)
    runs, at, short = [], 0, None
    if lacking:
        bits = random.word()
        assert bits * count % 2**64 >= 2**64 % count  # else it would be drawn again
        short = bits * count >> 64
    for number in range(count):
        taken = size - lacking if number == short else size
        runs.append(words[at : at + taken])
        at += taken
    last = [runs.pop(short)] if lacking else []
    random.shuffle(runs)
    return [word for run in runs + last for word in run]


def order_by_runs(full, find_cost_of, balance, random):
    """Batches of like cost lie together, in runs."""
    if balance == 1 or not full:
        random.shuffle(full)
        return full
    size = min(balance, len(full))
    order = sorted(full, key=lambda batch: -find_cost_of(batch))
    order = shuffle_runs(order, size, random)
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    for part in parts:
        random.shuffle(part)
    return [batch for part in parts for batch in part]


def plan(
    lengths,
    *,
    batch_size=None,
    max_tokens=None,
    padding_free=False,
    quadratic_length=None,
    max_length=None,
    overlong="error",
    shuffle=True,
    shuffle_window=None,
    pool_size=None,
    balance=None,
    longest_first=False,
    seed=0,
    epoch=0,
    drop_last=False,
    pad_to_multiple_of=None,
    boundaries=None,
    ranks=1,
):
    """All batches of an epoch, as lists of indices."""
    clipped = [min(length, max_length or NO_CAP) for length in lengths]

    def cost(row):
        of_setting = (pad_to_multiple_of or 1, quadratic_length, padding_free, boundaries)
        return find_cost(clipped[row], *of_setting)

    rows = list(range(len(lengths)))
    if overlong == "drop" and (max_tokens or boundaries):
        rows = [row for row in rows if cost(row) <= (max_tokens or NO_CAP - 1)]
    random = Random(seed, epoch)
    window = shuffle_window or len(rows)
    if shuffle:
        random.shuffle(rows)
        if drop_last and max_tokens is None:
            del rows[len(rows) - len(rows) % batch_size :]
    else:
        window = max(len(rows), 1)
    is_sorted = not (padding_free and shuffle and max_tokens is None)

    def room(row):
        most = batch_size or NO_CAP
        return min(most, (max_tokens or NO_CAP) // cost(row)) if cost(row) else most

    full, pool = [], []
    if padding_free and max_tokens is not None and pool_size is not None:
        full, pool = draw_from_pool(rows, cost, max_tokens, batch_size, pool_size)
        rows = []
    while rows:
        taken = max(window, len(pool))
        pool, rows = pool + rows[:taken], rows[taken:]
        if is_sorted:
            pool.sort(key=lambda row: -clipped[row])
        if padding_free and max_tokens is not None:
            packs = best_fit([cost(row) for row in pool], max_tokens, batch_size)
            packs = [[pool[place] for place in pack] for pack in packs]
            rooms = [max_tokens - sum(map(cost, pack)) for pack in packs]
            emptiest = max(range(len(packs)), key=lambda k: (rooms[k], k))
            pool = packs.pop(emptiest)
            full += packs
            if rooms[emptiest] == 0:
                full.append(pool)
                pool = []
            continue
        while pool and len(pool) >= room(pool[0]):
            count = room(pool[0])
            full.append(pool[:count])
            pool = pool[count:]
    tail = [pool] if pool and not drop_last else []

    def find_cost_of(batch):
        return sum(map(cost, batch)) if padding_free else len(batch) * cost(batch[0])

    first = []
    if longest_first:
        first = sorted(full + tail, key=lambda batch: -find_cost_of(batch))[:ranks]
        full, tail = ([batch for batch in part if batch not in first] for part in (full, tail))
    if shuffle:
        full = order_by_runs(full, find_cost_of, balance or ranks, random)
    return first + full + tail


def plan_of(sampler, lengths, epoch=0):
    """The plan that a LengthBatchSampler of these lengths should have."""
    names = "max_tokens padding_free quadratic_length max_length overlong shuffle shuffle_window"
    names += " pool_size balance longest_first seed drop_last pad_to_multiple_of boundaries"
    settings = {name: getattr(sampler, name) for name in names.split()}
    batch_size, ranks = sampler._planner.settings["batch_size"], sampler.num_replicas
    return plan(lengths, batch_size=batch_size, epoch=epoch, ranks=ranks, **settings)
